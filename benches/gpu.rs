//! The kernels on a real card: `gpu parity [small]` compares them with the CPU's on random data, `gpu speed` times them. Both print
//! Markdown; `benches/gpu.sh` runs both and keeps the result.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datafusion_ml_kernels::assign::{Lloyd, Metric, Pass, State, Stop};
use datafusion_ml_kernels::block::Block;
use datafusion_ml_kernels::compute::Compute;
use datafusion_ml_kernels::device::{Offer, Preference};
use datafusion_ml_kernels::factor::{Alternation, Side};
use datafusion_ml_kernels::gram::{LogisticPass, Rows};
use datafusion_ml_kernels::topk::{Catalogue, PackedItems, Ranker, Ranking};
use rayon::ThreadPool;
use rayon::prelude::*;

static NEVER: AtomicBool = AtomicBool::new(false);

/// A stream of numbers in [0, 1) that a seed determines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.next() * n as f64) as usize).min(n.saturating_sub(1))
    }
}

/// Rows around `clusters` centres, never zeros, made by all threads.
fn block(rows: usize, numbers: usize, levels: &[u32], clusters: usize) -> Block<f32> {
    let mut random = Random(7);
    let centres: Vec<f64> = (0..clusters * numbers).map(|_| random.next() * 6.0 - 3.0).collect();
    let mut block = Block {
        row_count: rows,
        number_count: numbers,
        numbers: vec![0f32; rows * numbers],
        code_count: levels.len(),
        codes: (0..rows * levels.len())
            .map(|i| random.below(levels[i % levels.len()] as usize + 1) as u32)
            .collect(),
        levels: levels.to_vec(),
    };
    if numbers > 0 {
        block
            .numbers
            .par_chunks_mut(numbers)
            .enumerate()
            .for_each(|(row, out)| {
                let mut random = Random(row as u64 * 31 + 1);
                let centre = random.below(clusters) * numbers;
                for (i, v) in out.iter_mut().enumerate() {
                    *v = (centres[centre + i] + random.next() * 2.0 - 1.0) as f32;
                }
            });
    }
    block
}

fn seeds(block: &Block<f32>, count: usize) -> Vec<f64> {
    let width = block.width();
    let mut values = vec![0.0; count * width];
    for (j, value) in values.chunks_exact_mut(width).enumerate() {
        let row = block.row_numbers(j * (block.row_count / count));
        value.iter_mut().zip(row).for_each(|(v, x)| *v = f64::from(*x));
    }
    values
}

fn wide(block: &Block<f32>) -> Block<f64> {
    Block {
        row_count: block.row_count,
        number_count: block.number_count,
        numbers: block.numbers.par_iter().map(|v| f64::from(*v)).collect(),
        code_count: block.code_count,
        codes: block.codes.clone(),
        levels: block.levels.clone(),
    }
}

/// Users × items with about so many pairs; few items have most of them.
struct Ratings {
    users: (Vec<usize>, Vec<u32>),
    items: (Vec<usize>, Vec<u32>),
}

fn ratings(user_count: usize, item_count: usize, pairs: usize) -> Ratings {
    let rows: Vec<Vec<u32>> = (0..user_count)
        .into_par_iter()
        .map(|user| {
            let mut random = Random(user as u64 * 17 + 3);
            let mean = pairs as f64 / user_count as f64;
            let count = (mean * 0.2 + mean * 1.6 * random.next()) as usize + 1;
            let mut row: Vec<u32> = (0..count)
                .map(|_| ((random.next() * random.next() * random.next()) * item_count as f64) as u32)
                .collect();
            row.sort_unstable();
            row.dedup();
            row
        })
        .collect();
    let mut by_item = vec![vec![]; item_count];
    let (mut offsets, mut columns) = (vec![0], vec![]);
    for (user, row) in rows.iter().enumerate() {
        row.iter().for_each(|item| by_item[*item as usize].push(user as u32));
        columns.extend_from_slice(row);
        offsets.push(columns.len());
    }
    let (mut item_offsets, mut item_columns) = (vec![0], vec![]);
    for row in by_item {
        item_columns.extend(row);
        item_offsets.push(item_columns.len());
    }
    Ratings {
        users: (offsets, columns),
        items: (item_offsets, item_columns),
    }
}

fn factors(rows: usize, n: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    (0..rows * n).map(|_| ((random.next() - 0.5) * 0.2) as f32).collect()
}

fn pool() -> ThreadPool {
    rayon::ThreadPoolBuilder::new().build().unwrap()
}

/// Runs `work` on the card; panics if the card does not serve it.
fn on_card<T>(pool: &ThreadPool, work: impl FnOnce(&Compute<'_>) -> T) -> (T, f64) {
    let compute = Compute::with_card(pool, &NEVER, Preference::Cuda, Offer::of_this_machine(), 0);
    let result = work(&compute);
    assert!(compute.notices().is_empty(), "{:?}", compute.notices());
    assert!(compute.was_served(), "the card did not serve");
    let kernel_ms = compute.usage().kernel_ns.load(Ordering::Relaxed) as f64 / 1e6;
    (result, kernel_ms)
}

fn on_threads<T>(pool: &ThreadPool, work: impl FnOnce(&Compute<'_>) -> T) -> T {
    work(&Compute::cpu(pool, &NEVER))
}

struct Clustered {
    state: State,
    stop: Stop,
    passes: Vec<Pass>,
    inertia: Vec<f64>,
}

fn cluster(
    block: &Block<f32>,
    metric: Metric,
    start: &[f64],
    limit: usize,
    tolerance: f64,
    compute: &Compute<'_>,
) -> Clustered {
    let count = start.len() / block.width();
    let mut lloyd = Lloyd::new(block, metric, count, limit, compute);
    let mut state = lloyd.start(start.to_vec());
    let mut passes = vec![];
    let stop = lloyd
        .run(&mut state, limit, tolerance, &mut |p| passes.push(p))
        .unwrap();
    lloyd.settle(&mut state).unwrap();
    let inertia = lloyd.inertia(&state);
    Clustered {
        state,
        stop,
        passes,
        inertia,
    }
}

fn alternate(ratings: &Ratings, n: usize, iterations: usize, compute: &Compute<'_>) -> (Vec<f32>, Vec<f32>, Vec<f64>) {
    let (users, items) = (ratings.users.0.len() - 1, ratings.items.0.len() - 1);
    let weights = vec![1f32; ratings.users.1.len()];
    let ridges = vec![2f32; users.max(items)];
    let a = Side {
        offsets: &ratings.users.0,
        columns: &ratings.users.1,
        weights: &weights,
        ridges: &ridges[..users],
    };
    let b = Side {
        offsets: &ratings.items.0,
        columns: &ratings.items.1,
        weights: &weights,
        ridges: &ridges[..items],
    };
    let mut alternation = Alternation::new(a, b, n, 0.05, factors(items, n, 5), iterations, compute);
    let mut times = vec![];
    for _ in 0..iterations {
        let begun = Instant::now();
        alternation.iterate().unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let (users, items) = alternation.finish().unwrap();
    (users, items, times)
}

fn rank(
    users: &[f32],
    items: &PackedItems,
    seen: &(Vec<usize>, Vec<u32>),
    n: usize,
    compute: &Compute<'_>,
) -> (Vec<Ranking>, f64) {
    let catalogue = Catalogue {
        users,
        items,
        masked: Some((&seen.0, &seen.1)),
    };
    let user_count = seen.0.len() - 1;
    let mut ranker = Ranker::new(catalogue, n, user_count, compute);
    let rows: Vec<u32> = (0..user_count as u32).collect();
    let mut all = vec![];
    let begun = Instant::now();
    for rows in rows.chunks(ranker.batch_len()) {
        all.push(ranker.rank(rows));
    }
    (all, begun.elapsed().as_secs_f64() * 1e3)
}

/// The largest difference, relative to the largest number.
fn difference<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1e-300, |m, v| f64::max(m, (*v).into().abs()));
    a.iter()
        .zip(b)
        .fold(0.0, |m, (a, b)| f64::max(m, ((*a).into() - (*b).into()).abs() / scale))
}

fn parity(small: bool) -> bool {
    let pool = pool();
    let factor = if small { 1 } else { 20 };
    let mut all_good = true;
    println!("| kernel | shape | difference from the CPU | allowed | |\n|---|---|---|---|---|");
    let mut row = |kernel: &str, shape: String, found: f64, allowed: f64| {
        let good = found <= allowed;
        all_good &= good;
        let word = if good { "ok" } else { "**WRONG**" };
        println!("| {kernel} | {shape} | {found:.1e} | {allowed:.0e} | {word} |");
    };
    let shapes: [(usize, usize, &[u32], usize); 9] = [
        (1, 1, &[], 1),
        (5_003, 3, &[], 4),
        (20_000, 8, &[], 8),
        (15_001, 5, &[3, 17], 7),
        (9_999, 0, &[2, 2, 40], 9),
        (12_345, 16, &[], 100),
        (7_001, 24, &[4], 5),
        (6_000, 64, &[], 300),
        (3_000, 100, &[6], 20),
    ];
    for metric in [Metric::Euclidean, Metric::Cosine] {
        for (rows, numbers, levels, count) in shapes {
            let block = block(rows * factor, numbers, levels, count);
            let start = if numbers > 0 {
                seeds(&block, count)
            } else {
                (0..count * block.width()).map(|i| (i * 7 % 11) as f64 / 11.0).collect()
            };
            let cpu = on_threads(&pool, |c| cluster(&block, metric, &start, 12, 0.0, c));
            let (card, _) = on_card(&pool, |c| cluster(&block, metric, &start, 12, 0.0, c));
            let shape = format!(
                "{} × {numbers} + {levels:?}, {count} clusters, {metric:?}",
                rows * factor
            );
            let labels = card
                .state
                .labels
                .iter()
                .zip(&cpu.state.labels)
                .filter(|(a, b)| a != b)
                .count();
            row(
                "assign: labels",
                shape.clone(),
                labels as f64 / block.row_count as f64,
                1e-6,
            );
            row(
                "assign: centroids",
                shape.clone(),
                difference(card.state.centroids.values(), cpu.state.centroids.values()),
                1e-5,
            );
            row("assign: inertia", shape, difference(&card.inertia, &cpu.inertia), 1e-6);
            assert_eq!(card.stop, cpu.stop);
            let again = on_card(&pool, |c| cluster(&block, metric, &start, 12, 0.0, c)).0;
            assert!(
                again.state.centroids.values() == card.state.centroids.values(),
                "a second run gave other bits"
            );
        }
    }
    let shapes: [(usize, usize, &[u32]); 6] = [
        (1, 1, &[]),
        (5_001, 0, &[7]),
        (20_003, 8, &[3, 4]),
        (10_000, 33, &[]),
        (4_000, 80, &[]),
        (3_000, 40, &[60, 200]),
    ];
    for (rows, numbers, levels) in shapes {
        let block = wide(&block(rows * factor, numbers, levels, 3));
        let mut random = Random(3);
        let labels: Vec<u8> = (0..block.row_count).map(|_| (random.next() * 2.1) as u8).collect();
        let folds: Vec<u8> = (0..block.row_count).map(|_| random.below(5) as u8).collect();
        let weights: Vec<f64> = (0..block.row_count).map(|_| random.next()).collect();
        let beta: Vec<f64> = (0..block.width() + 1).map(|_| random.next() - 0.5).collect();
        let sums = |compute: &Compute<'_>| -> (Vec<f64>, LogisticPass) {
            let mut rows = Rows::new(&block, &labels, 8, compute);
            rows.set_folds(&folds);
            let gram = rows.weighted(Some(&weights), Some(&weights)).unwrap();
            let pass = rows.logistic(&beta, [1.0, 2.0], Some(2)).unwrap();
            (gram.matrix.into_iter().chain(gram.vector).collect(), pass)
        };
        let cpu = on_threads(&pool, sums);
        let (card, _) = on_card(&pool, sums);
        let shape = format!("{} × {numbers} + {levels:?}", rows * factor);
        row("gram: weighted", shape.clone(), difference(&card.0, &cpu.0), 1e-12);
        row(
            "gram: logistic",
            shape.clone(),
            difference(&card.1.gram.matrix, &cpu.1.gram.matrix),
            1e-10,
        );
        row("gram: loss", shape, difference(&[card.1.loss], &[cpu.1.loss]), 1e-10);
    }
    for (n, users, items, pairs) in [
        (3, 200, 50, 2_000),
        (16, 1_000, 300, 20_000),
        (64, 3_000, 800, 90_000),
        (100, 1_500, 600, 60_000),
        (128, 1_500, 600, 60_000),
        (200, 800, 400, 40_000),
    ] {
        let ratings = ratings(users, items, pairs);
        let cpu = on_threads(&pool, |c| alternate(&ratings, n, 2, c));
        let (card, _) = on_card(&pool, |c| alternate(&ratings, n, 2, c));
        let shape = format!("{users} × {items}, {pairs} pairs, {n} factors, 2 iterations");
        row("factor: users", shape.clone(), difference(&card.0, &cpu.0), 1e-4);
        row("factor: items", shape, difference(&card.1, &cpu.1), 1e-4);
        for k in [1, 20, 128] {
            let packed = PackedItems::new(&cpu.1, n);
            let host = on_threads(&pool, |c| rank(&cpu.0, &packed, &ratings.users, k, c)).0;
            let card = on_card(&pool, |c| rank(&cpu.0, &packed, &ratings.users, k, c)).0.0;
            let host = Ranking::concat(host.iter().flat_map(lists));
            let card = Ranking::concat(card.iter().flat_map(lists));
            let others = host.items.iter().zip(&card.items).filter(|(a, b)| a != b).count();
            assert_eq!(host.offsets, card.offsets);
            row(
                "top-k: items",
                format!("{users} × {items}, {n} factors, best {k}"),
                others as f64 / host.items.len().max(1) as f64,
                0.0,
            );
        }
    }
    all_good
}

fn lists(ranking: &Ranking) -> Vec<Vec<(f32, u32)>> {
    ranking
        .offsets
        .windows(2)
        .map(|o| (o[0]..o[1]).map(|i| (ranking.scores[i], ranking.items[i])).collect())
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn speed() {
    let pool = pool();
    let gpu = Offer::of_this_machine().gpu().unwrap();
    let bandwidth = {
        let usage = Arc::default();
        let queue = gpu.queue(usize::MAX, Arc::clone(&usage)).unwrap();
        let bytes = 2usize << 30;
        let from = queue.zeros::<u8>(bytes).unwrap();
        let mut to = queue.buffer::<u8>(bytes).unwrap();
        queue.copy(&from, &mut to).unwrap();
        queue.synchronize().unwrap();
        let times = (0..10).map(|_| {
            let before = usage.kernel_ns.load(Ordering::Relaxed);
            queue.copy(&from, &mut to).unwrap();
            queue.synchronize().unwrap();
            (usage.kernel_ns.load(Ordering::Relaxed) - before) as f64 / 1e9
        });
        2.0 * bytes as f64 / median(times.collect())
    };
    println!("Copies within the card: {:.0} GB/s.\n", bandwidth / 1e9);
    println!("| kernel | shape | median, ms | GB/s | TFLOP/s | share of the copies |\n|---|---|---|---|---|---|");
    let row = |kernel: &str, shape: String, ms: f64, bytes: f64, flops: f64| {
        println!(
            "| {kernel} | {shape} | {ms:.3} | {:.0} | {:.2} | {:.0} % |",
            bytes / ms / 1e6,
            flops / ms / 1e9,
            bytes / ms * 1e3 / bandwidth * 100.0
        );
    };
    for (rows, numbers, count) in [
        (1_000_000, 16, 16),
        (10_000_000, 16, 16),
        (10_000_000, 32, 64),
        (10_000_000, 64, 100),
        (100_000_000, 16, 16),
        (10_000_000, 64, 1000),
        (1_000_000, 8, 8),
        (1_000_000, 32, 32),
    ] {
        let block = block(rows, numbers, &[], count);
        let start = seeds(&block, count);
        let (run, _) = on_card(&pool, |c| cluster(&block, Metric::Euclidean, &start, 40, 0.0, c));
        // The first passes move most rows; the rest is what a fit is made of.
        let times: Vec<f64> = run.passes.iter().skip(8).map(|p| p.duration_ms).collect();
        let first: f64 = run.passes.iter().take(8).map(|p| p.duration_ms).sum::<f64>() / 8.0;
        let (bytes, flops) = ((rows * (4 * numbers + 2)) as f64, 2.0 * (rows * numbers * count) as f64);
        let shape = format!("({rows}, {numbers}, {count})");
        row("assign, a pass of the first eight", shape.clone(), first, bytes, flops);
        if !times.is_empty() {
            row("assign, a later pass", shape, median(times), bytes, flops);
        }
    }
    for (rows, numbers) in [(1_000_000, 8), (10_000_000, 32), (1_000_000, 128)] {
        let block = wide(&block(rows, numbers, &[], 3));
        let labels: Vec<u8> = (0..rows).map(|i| (i % 3 == 0) as u8).collect();
        let beta = vec![0.01; numbers + 1];
        let weights = vec![0.5; rows];
        for logistic in [false, true] {
            let (times, _) = on_card(&pool, |compute| {
                let sums = Rows::new(&block, &labels, 50, compute);
                let mut times = vec![];
                for _ in 0..12 {
                    let before = compute.usage().kernel_ns.load(Ordering::Relaxed);
                    if logistic {
                        sums.logistic(&beta, [1.0; 2], None).unwrap();
                    } else {
                        sums.weighted(Some(&weights), None).unwrap();
                    }
                    times.push((compute.usage().kernel_ns.load(Ordering::Relaxed) - before) as f64 / 1e6);
                }
                times
            });
            let width = (numbers + 1) as f64;
            row(
                if logistic {
                    "gram, logistic pass"
                } else {
                    "gram, weighted"
                },
                format!("({rows}, {numbers})"),
                median(times),
                (rows * 8 * numbers) as f64,
                rows as f64 * width * width,
            );
        }
    }
    let ratings = ratings(138_000, 27_000, 10_000_000);
    let pairs = ratings.users.1.len() as f64;
    for n in [64, 128, 256] {
        let ((users, items, times), _) = on_card(&pool, |c| alternate(&ratings, n, 6, c));
        let flops = 2.0 * pairs * (n * n) as f64 + 165_000.0 * (n * n * n) as f64 / 3.0;
        row(
            "factor, an iteration",
            format!("138,000 × 27,000, {:.1} M pairs, {n} factors", pairs / 1e6),
            median(times[1..].to_vec()),
            2.0 * pairs * 4.0 * n as f64,
            flops,
        );
        if n == 128 {
            let packed = PackedItems::new(&items, n);
            let mut times = vec![];
            for _ in 0..5 {
                let (_, kernel_ms) = on_card(&pool, |c| rank(&users, &packed, &ratings.users, 20, c));
                times.push(kernel_ms);
            }
            row(
                "top-k, best 20",
                "138,000 users, 27,000 items, 128 factors".into(),
                median(times),
                (165_000 * 4 * n) as f64,
                2.0 * 138_000.0 * 27_000.0 * n as f64,
            );
        }
    }
}

fn main() -> ExitCode {
    // `cargo bench` and `cargo test` add words of their own.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with("--")).collect();
    if let Some(reason) = Offer::of_this_machine().reason() {
        eprintln!("no card: {reason}");
        return ExitCode::from(2);
    }
    match words.first().map(String::as_str) {
        Some("speed") => speed(),
        Some("parity") => {
            if !parity(words.get(1).is_some_and(|w| w == "small")) {
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("say what to do: parity, parity small, or speed");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
