//! Sums on cards for tests against sums on threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Gram, Logistic, LogisticPass, Rows, gram_f64, logistic_pass_f64};
use crate::block::Block;
use crate::compute::Compute;
use crate::device::Preference;
use crate::device::testing::{HostDriver, cards, offer_of, twin};

const MEMORY: usize = 1 << 30;

struct Data {
    block: Block<f64>,
    labels: Vec<u8>,
    folds: Vec<u8>,
    weights: Vec<f64>,
    coefficients: Vec<f64>,
}

fn data(rows: usize, numbers: usize, levels: &[u32]) -> Data {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let block = Block {
        row_count: rows,
        number_count: numbers,
        numbers: (0..rows * numbers).map(|_| next() * 4.0 - 2.0).collect(),
        code_count: levels.len(),
        codes: (0..rows)
            .flat_map(|_| {
                levels
                    .iter()
                    .map(|l| (next() * f64::from(l + 1)) as u32)
                    .collect::<Vec<_>>()
            })
            .collect(),
        levels: levels.to_vec(),
    };
    let width = block.width() + 1;
    Data {
        labels: (0..rows).map(|_| (next() * 2.2) as u8).collect(),
        folds: (0..rows).map(|_| (next() * 5.0) as u8).collect(),
        weights: (0..rows).map(|_| next()).collect(),
        coefficients: (0..width).map(|_| next() * 2.0 - 1.0).collect(),
        block,
    }
}

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()
}

/// All kinds of passes.
fn passes(data: &Data, rows: &Rows<'_>) -> (Vec<Gram>, Vec<LogisticPass>) {
    let (w, t) = (Some(&data.weights[..]), Some(&data.weights[..]));
    let grams = [(None, None), (w, None), (w, t)].map(|(w, t)| rows.weighted(w, t).unwrap());
    let logistic = [None, Some(3)].map(|fold| rows.logistic(&data.coefficients, [1.0, 2.5], fold).unwrap());
    (grams.into(), logistic.into())
}

fn on_card(data: &Data, driver: &Arc<HostDriver>, limit: usize) -> ((Vec<Gram>, Vec<LogisticPass>), Vec<String>, bool) {
    let (pool, cancel, offer) = (pool(), AtomicBool::new(false), offer_of(driver));
    let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, limit);
    let mut rows = Rows::new(&data.block, &data.labels, 10, &compute);
    rows.set_folds(&data.folds);
    let found = passes(data, &rows);
    drop(rows);
    (found, compute.notices(), compute.was_served())
}

fn assert_near(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
    let scale = b.iter().fold(1e-300f64, |m, v| m.max(v.abs()));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * scale, "{what}: {a} {b}");
    }
}

fn assert_same(card: &(Vec<Gram>, Vec<LogisticPass>), host: &(Vec<Gram>, Vec<LogisticPass>), what: &str) {
    for (a, b) in card.0.iter().zip(&host.0) {
        assert_near(&a.matrix, &b.matrix, 1e-12, what);
        assert_near(&a.vector, &b.vector, 1e-12, what);
    }
    for (a, b) in card.1.iter().zip(&host.1) {
        assert_near(&a.gram.matrix, &b.gram.matrix, 1e-10, what);
        assert_near(&a.gram.vector, &b.gram.vector, 1e-10, what);
        assert_near(&[a.loss, a.weight], &[b.loss, b.weight], 1e-10, what);
        for (a, b) in [(a.highest_zero, b.highest_zero), (a.lowest_one, b.lowest_one)] {
            assert!(a == b || (a - b).abs() <= 1e-12 * b.abs().max(1.0), "{what}: {a} {b}");
        }
    }
}

fn host(data: &Data) -> (Vec<Gram>, Vec<LogisticPass>) {
    let (pool, cancel) = (pool(), AtomicBool::new(false));
    let (w, t) = (Some(&data.weights[..]), Some(&data.weights[..]));
    let grams = [(None, None), (w, None), (w, t)].map(|(w, t)| gram_f64(&data.block, w, t, &pool, &cancel).unwrap());
    let logistic = [None, Some((&data.folds[..], 3u8))].map(|left_out| {
        let job = Logistic {
            coefficients: &data.coefficients,
            labels: &data.labels,
            class_weights: [1.0, 2.5],
            left_out,
        };
        logistic_pass_f64(&data.block, &job, &pool, &cancel).unwrap()
    });
    (grams.into(), logistic.into())
}

#[test]
fn a_card_sums_what_the_threads_sum() {
    // Tiles shared by several threads, one thread a tile, several blocks of tiles; odd sizes; categories alone.
    let shapes: [(usize, usize, &[u32]); 8] = [
        (1, 1, &[]),
        (31, 0, &[]),
        (1000, 3, &[]),
        (700, 8, &[3, 4]),
        (333, 0, &[2, 17]),
        (555, 33, &[]),
        (300, 66, &[9]),
        (260, 40, &[60, 3]),
    ];
    for (rows, numbers, levels) in shapes {
        let data = data(rows, numbers, levels);
        let host = host(&data);
        let mut first = None;
        for (name, driver) in cards(MEMORY) {
            let what = format!("{name}: {rows} × {numbers}+{levels:?}");
            let (found, notices, served) = on_card(&data, &driver, MEMORY);
            assert!(served && notices.is_empty(), "{what}: {notices:?}");
            assert_same(&found, &host, &what);
            let first = first.get_or_insert_with(|| found.clone());
            // Products and sums agree to the bit; exp and log1p come from other libraries.
            for (a, b) in found.0.iter().zip(&first.0) {
                assert_eq!((&a.matrix, &a.vector), (&b.matrix, &b.vector), "{what}");
            }
            for (a, b) in found.1.iter().zip(&first.1) {
                assert_near(&a.gram.matrix, &b.gram.matrix, 1e-14, &what);
                assert_near(&[a.loss, a.weight], &[b.loss, b.weight], 1e-14, &what);
            }
        }
    }
}

#[test]
fn rows_that_do_not_fit_travel_in_pieces() {
    let data = data(30_000, 9, &[4]);
    let bits = |found: &(Vec<Gram>, Vec<LogisticPass>)| {
        let logistic = found.1.iter().map(|p| (p.gram.matrix.clone(), p.loss.to_bits()));
        (
            found.0.iter().map(|g| g.matrix.clone()).collect::<Vec<_>>(),
            logistic.collect::<Vec<_>>(),
        )
    };
    let (whole, _, _) = on_card(&data, &twin(MEMORY), MEMORY);
    // 30,000 rows are 2.3 MB; weights and targets 0.5; the partial results 0.5.
    let (pieces, notices, served) = on_card(&data, &twin(MEMORY), 2_500_000);
    assert!(served && notices.is_empty(), "{notices:?}");
    assert_eq!(bits(&pieces), bits(&whole));
}

#[test]
fn whatever_fails_the_threads_go_on() {
    let data = data(900, 5, &[4]);
    let host = host(&data);
    let check = |arm: &dyn Fn(&HostDriver), limit: usize, expected: &str| {
        let driver = twin(MEMORY);
        arm(&driver);
        let (found, notices, _) = on_card(&data, &driver, limit);
        assert!(notices.len() == 1 && notices[0].contains(expected), "{notices:?}");
        assert!(notices[0].starts_with("regression runs on the CPU: "));
        assert_same(&found, &host, expected);
    };
    check(
        &|d| d.faults.load.store(1, Ordering::Relaxed),
        MEMORY,
        "cannot be loaded",
    );
    for n in 1..=9 {
        check(
            &|d| d.faults.allocation.store(n, Ordering::Relaxed),
            MEMORY,
            "no memory left",
        );
    }
    for n in 1..=10 {
        check(
            &|d| d.faults.launch.store(n, Ordering::Relaxed),
            MEMORY,
            "the launch failed",
        );
    }
    check(&|_| (), 10_000, "ml.gpu_memory_limit");
}

#[test]
fn a_design_that_is_too_wide_is_declined() {
    let data = data(40, 3, &[600]);
    let (found, notices, served) = on_card(&data, &twin(MEMORY), MEMORY);
    assert!(!served && notices[0].contains("a design of 604 columns"), "{notices:?}");
    assert_same(&found, &host(&data), "wide");
}
