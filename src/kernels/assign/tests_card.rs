//! The loop on cards for tests against the loop on threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::tests::{block, centroids, pool};
use super::{Lloyd, Metric, Pass, State, Stop};
use crate::block::Block;
use crate::compute::Compute;
use crate::device::Preference;
use crate::device::testing::{HostDriver, cards, offer_of, twin};

const MEMORY: usize = 1 << 30;

/// What a whole fit came to.
struct Outcome {
    state: State,
    stop: Stop,
    passes: Vec<Pass>,
    inertia: Vec<f64>,
}

fn fit(block: &Block<f32>, metric: Metric, start: &[f64], limit: usize, compute: &Compute<'_>) -> Outcome {
    let count = start.len() / block.width().max(1);
    let mut lloyd = Lloyd::new(block, metric, count, 20, compute);
    let mut state = lloyd.start(start.to_vec());
    let mut passes = vec![];
    let stop = lloyd
        .run(&mut state, limit, 1e-9, &mut |pass| passes.push(pass))
        .unwrap();
    lloyd.settle(&mut state).unwrap();
    let inertia = lloyd.inertia(&state);
    Outcome {
        state,
        stop,
        passes,
        inertia,
    }
}

fn on_card(
    driver: &Arc<HostDriver>,
    limit_bytes: usize,
    block: &Block<f32>,
    metric: Metric,
    start: &[f64],
) -> (Outcome, Vec<String>, bool) {
    let (pool, cancel, offer) = (pool(2), AtomicBool::new(false), offer_of(driver));
    let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, limit_bytes);
    let outcome = fit(block, metric, start, 40, &compute);
    (outcome, compute.notices(), compute.was_served())
}

fn near(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    let scale = a.iter().chain(b).fold(1e-300f64, |m, v| m.max(v.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * scale)
}

fn assert_same(card: &Outcome, host: &Outcome, what: &str) {
    assert_eq!(card.stop, host.stop, "{what}");
    assert_eq!(card.state.labels, host.state.labels, "{what}");
    assert_eq!(card.state.sums.rows, host.state.sums.rows, "{what}");
    assert!(
        near(card.state.centroids.values(), host.state.centroids.values(), 1e-8),
        "{what}"
    );
    assert!(near(&card.state.sums.values, &host.state.sums.values, 1e-8), "{what}");
    assert!(near(&card.inertia, &host.inertia, 1e-8), "{what}");
    let changes = |o: &Outcome| o.passes.iter().map(|p| p.changed).collect::<Vec<_>>();
    assert_eq!(changes(card), changes(host), "{what}");
    for (a, b) in card.passes.iter().zip(&host.passes) {
        assert!(
            (a.loss - b.loss).abs() <= 1e-8 * b.loss.max(1e-3),
            "{what}: {a:?} {b:?}"
        );
        assert!(
            (a.shift - b.shift).abs() <= 1e-6 * b.shift.max(1e-6),
            "{what}: {a:?} {b:?}"
        );
    }
}

/// (rows, numbers, levels, clusters): one for each kernel, odd sizes, categories, more clusters than fit shared memory at once.
fn shapes() -> Vec<(usize, usize, Vec<u32>, usize)> {
    vec![
        (1, 1, vec![], 1),
        (1000, 3, vec![], 2),
        (3001, 8, vec![], 8),
        (2050, 5, vec![3, 17], 7),
        (1500, 0, vec![2, 2, 40], 9),
        (777, 13, vec![], 40),
        (1300, 20, vec![4], 5),
        (700, 32, vec![], 260),
        (600, 41, vec![], 6),
        (513, 64, vec![], 150),
        (400, 70, vec![5], 11),
    ]
}

#[test]
fn a_card_finds_what_the_threads_find() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        for (rows, numbers, levels, count) in shapes() {
            let block = block(rows, numbers, &levels, 61);
            let start = centroids(&block, metric, count, 62).values().to_vec();
            let (pool, cancel) = (pool(2), AtomicBool::new(false));
            let host = fit(&block, metric, &start, 40, &Compute::cpu(&pool, &cancel));
            let mut first: Option<Outcome> = None;
            for (name, driver) in cards(MEMORY) {
                let what = format!("{name}: {metric:?} {rows} × {numbers}+{levels:?}, {count} clusters");
                let (outcome, notices, served) = on_card(&driver, MEMORY, &block, metric, &start);
                assert!(served && notices.is_empty(), "{what}: {notices:?}");
                assert!(driver.launch_count() > 0);
                assert_same(&outcome, &host, &what);
                // All cards agree to the bit: the source, in any order of its threads, and its twin.
                if let Some(first) = &first {
                    assert_eq!(
                        outcome.state.centroids.values(),
                        first.state.centroids.values(),
                        "{what}"
                    );
                    assert_eq!(outcome.state.sums, first.state.sums, "{what}");
                    assert_eq!(outcome.inertia, first.inertia, "{what}");
                    let numbers = |o: &Outcome| o.passes.iter().map(|p| (p.shift, p.loss)).collect::<Vec<_>>();
                    assert_eq!(numbers(&outcome), numbers(first), "{what}");
                }
                first.get_or_insert(outcome);
            }
        }
    }
}

#[test]
fn rows_that_do_not_fit_travel_in_pieces() {
    let block = block(40_000, 6, &[3], 71);
    let start = centroids(&block, Metric::Euclidean, 5, 72).values().to_vec();
    let (whole, _, _) = on_card(&twin(MEMORY), MEMORY, &block, Metric::Euclidean, &start);
    for (name, driver) in cards(MEMORY) {
        // 40,000 rows are 1.1 MB, twice because they are packed from other buffers.
        let (pieces, notices, served) = on_card(&driver, 1_200_000, &block, Metric::Euclidean, &start);
        assert!(served && notices.is_empty(), "{name}: {notices:?}");
        assert_eq!(pieces.state.labels, whole.state.labels, "{name}");
        assert_eq!(pieces.state.sums, whole.state.sums, "{name}");
        assert_eq!(pieces.inertia, whole.inertia, "{name}");
    }
}

#[test]
fn an_empty_cluster_comes_back_to_the_caller() {
    let block = block(3000, 4, &[], 81);
    let mut start = centroids(&block, Metric::Euclidean, 4, 82).values().to_vec();
    // Nobody is near the last centroid.
    start[12..].fill(1e6);
    let (pool, cancel) = (pool(2), AtomicBool::new(false));
    let run = |compute: &Compute<'_>| {
        let mut lloyd = Lloyd::new(&block, Metric::Euclidean, 4, 20, compute);
        let mut state = lloyd.start(start.clone());
        let mut passes = vec![];
        let stop = lloyd.run(&mut state, 30, 1e-9, &mut |p| passes.push(p)).unwrap();
        assert_eq!((stop, passes.len()), (Stop::Empty, 0));
        assert_eq!(state.sums.rows[3], 0);
        assert_eq!(state.changed, Some(3000));
        // Row 7 becomes the last cluster.
        state.sums.move_row(&block, 7, state.labels[7] as usize, 3);
        state.labels[7] = 3;
        lloyd.moved();
        let stop = lloyd.run(&mut state, 30, 1e-9, &mut |p| passes.push(p)).unwrap();
        lloyd.settle(&mut state).unwrap();
        let inertia = lloyd.inertia(&state);
        Outcome {
            state,
            stop,
            passes,
            inertia,
        }
    };
    let host = run(&Compute::cpu(&pool, &cancel));
    for (name, driver) in cards(MEMORY) {
        let offer = offer_of(&driver);
        let card = run(&Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, MEMORY));
        assert_same(&card, &host, name);
    }
}

#[test]
fn whatever_fails_the_threads_go_on() {
    let block = block(5000, 5, &[4], 91);
    let start = centroids(&block, Metric::Euclidean, 6, 92).values().to_vec();
    let (pool, cancel) = (pool(2), AtomicBool::new(false));
    let host = fit(&block, Metric::Euclidean, &start, 40, &Compute::cpu(&pool, &cancel));
    let check = |arm: &dyn Fn(&HostDriver), limit: usize, expected: &str| {
        let driver = twin(MEMORY);
        arm(&driver);
        let (outcome, notices, _) = on_card(&driver, limit, &block, Metric::Euclidean, &start);
        assert!(
            notices.len() == 1 && notices[0].starts_with("k-means runs on the CPU: ") && notices[0].contains(expected),
            "{notices:?}"
        );
        assert_eq!(outcome.state.labels, host.state.labels, "{expected}");
        assert_eq!(outcome.stop, host.stop);
        assert!(near(
            outcome.state.centroids.values(),
            host.state.centroids.values(),
            1e-8
        ));
        assert!(near(&outcome.inertia, &host.inertia, 1e-8));
    };
    check(
        &|d| d.faults.load.store(1, Ordering::Relaxed),
        MEMORY,
        "cannot be loaded",
    );
    for n in 1..=14 {
        check(
            &|d| d.faults.allocation.store(n, Ordering::Relaxed),
            MEMORY,
            "no memory left",
        );
    }
    // Everything from packing the rows over each pass to the inertia.
    let launches = {
        let driver = twin(MEMORY);
        on_card(&driver, MEMORY, &block, Metric::Euclidean, &start);
        driver.launch_count() as usize
    };
    assert!(launches > 10);
    for n in 1..=launches {
        check(
            &|d| d.faults.launch.store(n, Ordering::Relaxed),
            MEMORY,
            "the launch failed",
        );
    }
    check(&|_| (), 10_000, "ml.gpu_memory_limit");
}

#[test]
fn a_card_is_used_when_it_is_worth_it() {
    let (pool, cancel) = (pool(1), AtomicBool::new(false));
    let small = block(100, 5, &[], 1);
    let start = centroids(&small, Metric::Euclidean, 3, 2).values().to_vec();
    for (preference, expected) in [
        (Preference::Auto, false),
        (Preference::Cpu, false),
        (Preference::Cuda, true),
    ] {
        let driver = twin(MEMORY);
        let offer = offer_of(&driver);
        let compute = Compute::with_card(&pool, &cancel, preference, &offer, MEMORY);
        fit(&small, Metric::Euclidean, &start, 5, &compute);
        assert_eq!((compute.was_served(), driver.launch_count() > 0), (expected, expected));
        assert!(compute.notices().is_empty());
    }
    let driver = twin(MEMORY);
    let offer = offer_of(&driver);
    let compute = Compute::with_card(&pool, &cancel, Preference::Auto, &offer, MEMORY);
    let large = block(60_000, 16, &[], 1);
    let lloyd = Lloyd::new(&large, Metric::Euclidean, 40, 1000, &compute);
    drop(lloyd);
    assert!(compute.was_served());
    assert!(compute.usage().uploaded_bytes.load(Ordering::Relaxed) >= 60_000 * 16 * 4);
}

#[test]
fn a_cancelled_run_stops() {
    let block = block(3000, 4, &[], 5);
    let start = centroids(&block, Metric::Euclidean, 3, 6).values().to_vec();
    let (pool, cancel) = (pool(1), AtomicBool::new(true));
    let driver = twin(MEMORY);
    let offer = offer_of(&driver);
    let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, MEMORY);
    let mut lloyd = Lloyd::new(&block, Metric::Euclidean, 3, 20, &compute);
    let mut state = lloyd.start(start);
    assert!(lloyd.run(&mut state, 10, 0.0, &mut |_| ()).is_err());
}
