//! The kernels alone, on all cores: `cargo bench --bench kernels`, or with a part of a name, such as `assign`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datafusion_ml::features::Block;
use datafusion_ml::kernels::assign::{Centroids, Metric, Sums, UNASSIGNED, assign_f32};
use datafusion_ml::kernels::factor::{HalfSweep, factor_f32};
use datafusion_ml::kernels::gram::{Logistic, gram_f64, logistic_pass_f64};
use datafusion_ml::kernels::topk::{PackedItems, Query, topk_f32};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::ThreadPool;

static NEVER: AtomicBool = AtomicBool::new(false);

fn pool() -> ThreadPool {
    rayon::ThreadPoolBuilder::new().build().unwrap()
}

/// Rows around `clusters` centres, with as many code columns of 20 categories as asked for.
fn block<T>(rows: usize, numbers: usize, codes: usize, clusters: usize, narrow: impl Fn(f64) -> T) -> Block<T> {
    let mut rng = StdRng::seed_from_u64(7);
    let centres: Vec<f64> = (0..clusters * numbers).map(|_| rng.random_range(-3.0..3.0)).collect();
    let mut block = Block {
        row_count: rows,
        number_count: numbers,
        numbers: Vec::with_capacity(rows * numbers),
        code_count: codes,
        codes: (0..rows * codes).map(|_| rng.random_range(0..20)).collect(),
        levels: vec![20; codes],
    };
    for _ in 0..rows {
        let centre = rng.random_range(0..clusters) * numbers;
        for i in 0..numbers {
            block.numbers.push(narrow(
                centres[centre + i] + rng.random_range(-1.0..1.0) + rng.random_range(-1.0..1.0),
            ));
        }
    }
    block
}

/// A pass of k-means: the first, which gives every row a label, and one in which few change theirs.
fn assign(c: &mut Criterion) {
    let pool = pool();
    let mut group = c.benchmark_group("assign_f32");
    group.sample_size(20);
    for (rows, numbers, codes, k) in [
        (1_000_000, 4, 0, 4),
        (1_000_000, 8, 0, 8),
        (1_000_000, 16, 0, 16),
        (1_000_000, 32, 0, 32),
        (1_000_000, 64, 0, 100),
        (1_000_000, 8, 4, 8),
    ] {
        let block = block(rows, numbers, codes, k, |x| x as f32);
        let width = block.width();
        let mut values = vec![0.0; k * width];
        for j in 0..k {
            let row = block.row_numbers(j * (rows / k));
            for (value, x) in values[j * width..].iter_mut().zip(row) {
                *value = f64::from(*x);
            }
        }
        let centroids = Centroids::new(Metric::Euclidean, k, numbers, &block.levels, values);
        let shape = format!("{rows}x{numbers}+{codes},k={k}");
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("first", &shape), |b| {
            b.iter_batched_ref(
                || (vec![UNASSIGNED; rows], Sums::new(Metric::Euclidean, k, width)),
                |(labels, sums)| assign_f32(&block, &centroids, labels, sums, &pool),
                BatchSize::LargeInput,
            );
        });
        let mut labels = vec![UNASSIGNED; rows];
        let mut sums = Sums::new(Metric::Euclidean, k, width);
        assign_f32(&block, &centroids, &mut labels, &mut sums, &pool);
        group.bench_function(BenchmarkId::new("settled", &shape), |b| {
            b.iter(|| assign_f32(&block, &centroids, &mut labels, &mut sums, &pool));
        });
    }
    group.finish();
}

/// A pass of least squares and one of logistic regression.
fn gram(c: &mut Criterion) {
    let pool = pool();
    let mut group = c.benchmark_group("gram_f64");
    group.sample_size(20);
    for (rows, numbers, codes) in [
        (1_000_000, 8, 0),
        (1_000_000, 32, 0),
        (200_000, 128, 0),
        (1_000_000, 8, 8),
    ] {
        let block = block(rows, numbers, codes, 4, |x| x);
        let mut rng = StdRng::seed_from_u64(8);
        let labels: Vec<u8> = (0..rows).map(|_| u8::from(rng.random_bool(0.3))).collect();
        let weights = vec![0.5; rows];
        let coefficients = vec![0.01; block.width() + 1];
        let shape = format!("{rows}x{numbers}+{codes}");
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new("weighted", &shape), |b| {
            b.iter(|| gram_f64(&block, Some(&weights), Some(&weights), &pool, &NEVER).unwrap());
        });
        let job = Logistic {
            coefficients: &coefficients,
            labels: &labels,
            class_weights: [1.0, 1.0],
            left_out: None,
        };
        group.bench_function(BenchmarkId::new("logistic", &shape), |b| {
            b.iter(|| logistic_pass_f64(&block, &job, &pool, &NEVER).unwrap());
        });
    }
    group.finish();
}

/// Users and their items, some far more popular than others: (offsets, items, weights).
fn ratings(users: usize, items: usize, mean: usize) -> (Vec<usize>, Vec<u32>, Vec<f32>) {
    let mut rng = StdRng::seed_from_u64(9);
    let (mut offsets, mut columns) = (vec![0], vec![]);
    for _ in 0..users {
        let count = (mean as f64 * -rng.random_range(1e-6..1f64).ln()) as usize + 1;
        let mut row: Vec<u32> = (0..count.min(items / 4))
            .map(|_| (items as f64 * rng.random::<f64>().powi(3)) as u32)
            .collect();
        row.sort_unstable();
        row.dedup();
        columns.extend(row);
        offsets.push(columns.len());
    }
    let weights = vec![1.0; columns.len()];
    (offsets, columns, weights)
}

fn factors(rows: usize, factor_count: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(10);
    (0..rows * factor_count)
        .map(|_| rng.random_range(-0.1f32..0.1))
        .collect()
}

/// Half a sweep of alternating least squares, at the shape of MovieLens 1M.
fn factor(c: &mut Criterion) {
    let pool = pool();
    let (users, items) = (6_040, 3_706);
    let (offsets, columns, weights) = ratings(users, items, 165);
    let ridges = vec![0.1; users];
    let mut group = c.benchmark_group("factor_f32");
    group.sample_size(10);
    group.throughput(Throughput::Elements(columns.len() as u64));
    for factor_count in [16, 32, 64, 128, 256] {
        let fixed = factors(items, factor_count);
        let sweep = HalfSweep {
            offsets: &offsets,
            columns: &columns,
            weights: &weights,
            factors: &fixed,
            factor_count,
            unobserved_weight: 0.1,
            ridges: &ridges,
            targets: None,
        };
        let mut solution = vec![0f32; users * factor_count];
        group.bench_function(BenchmarkId::from_parameter(factor_count), |b| {
            b.iter(|| black_box(factor_f32(&sweep, &mut solution, &pool, &NEVER)));
        });
    }
    group.finish();
}

/// The 20 best items of every user, what they have left out.
fn topk(c: &mut Criterion) {
    let pool = pool();
    let mut group = c.benchmark_group("topk_f32");
    group.sample_size(10);
    for (users, items, factor_count) in [(6_040, 3_706, 64), (6_040, 27_000, 128)] {
        let (offsets, columns, _) = ratings(users, items, 100);
        let (user_factors, packed) = (
            factors(users, factor_count),
            PackedItems::new(&factors(items, factor_count), factor_count),
        );
        let rows: Vec<u32> = (0..users as u32).collect();
        let query = Query {
            users: &user_factors,
            rows: &rows,
            items: &packed,
            masked: Some((&offsets, &columns)),
            n: 20,
        };
        group.throughput(Throughput::Elements((users * items) as u64));
        group.bench_function(format!("{users}x{items}x{factor_count}"), |b| {
            b.iter(|| topk_f32(&query, Some(&pool), &NEVER));
        });
    }
    group.finish();
}

criterion_group!(benches, assign, gram, factor, topk);
criterion_main!(benches);
