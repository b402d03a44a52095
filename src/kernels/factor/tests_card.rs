//! The card's body against the CPU's, on cards that are none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::alternation::{Alternation, Iteration, Side};
use super::{Base, HalfSweep, padded, solve_row_f64};
use crate::compute::Compute;
use crate::device::Preference;
use crate::device::testing::{HostDriver, cards, offer_of, twin};

const MEMORY: usize = 1 << 28;

/// Interactions of both sides, each row's in any order and some twice.
#[derive(Clone)]
pub(super) struct Data {
    pub(super) n: usize,
    offsets: [Vec<usize>; 2],
    columns: [Vec<u32>; 2],
    weights: [Vec<f32>; 2],
    ridges: [Vec<f32>; 2],
    pub(super) unobserved: f32,
    pub(super) item_factors: Vec<f32>,
}

impl Data {
    /// Users with so many entries each, spread over the items but the last, which has none.
    pub(super) fn new(n: usize, lengths: &[usize], items: usize, unobserved: f32) -> Self {
        let mut state = (n * 31 + items) as u64 | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        };
        let item_factors: Vec<f32> = (0..items * n).map(|_| next()).collect();
        let mut by_item = vec![vec![]; items];
        let (mut offsets, mut columns, mut weights) = (vec![0], vec![], vec![]);
        for (user, length) in lengths.iter().enumerate() {
            for _ in 0..*length {
                let item = ((next().abs() * (items - 1) as f32) as usize).min(items - 2);
                let weight = if columns.len() % 50 == 7 {
                    0.0
                } else {
                    0.5 + next().abs()
                };
                columns.push(item as u32);
                weights.push(weight);
                by_item[item].push((user as u32, weight));
            }
            offsets.push(columns.len());
        }
        let item_offsets = std::iter::once(0).chain(by_item.iter().scan(0, |at, entries| {
            *at += entries.len();
            Some(*at)
        }));
        let item_offsets: Vec<usize> = item_offsets.collect();
        let entries: Vec<(u32, f32)> = by_item.into_iter().flatten().collect();
        // Well conditioned, as far as a row with fewer entries than factors can be.
        let ridges = |offsets: &[usize]| {
            let rows = offsets.windows(2).map(|o| (o[1] - o[0]) as f32);
            rows.map(|entries| 2.0 + 0.1 * entries + n as f32 / 16.0).collect()
        };
        Self {
            n,
            ridges: [ridges(&offsets), ridges(&item_offsets)],
            offsets: [offsets, item_offsets],
            columns: [columns, entries.iter().map(|e| e.0).collect()],
            weights: [weights, entries.iter().map(|e| e.1).collect()],
            unobserved,
            item_factors,
        }
    }

    pub(super) fn side(&self, side: usize) -> Side<'_> {
        Side {
            offsets: &self.offsets[side],
            columns: &self.columns[side],
            weights: &self.weights[side],
            ridges: &self.ridges[side],
        }
    }

    /// So many iterations.
    fn run(&self, iterations: usize, compute: &Compute<'_>) -> Outcome {
        let mut alternation = Alternation::new(
            self.side(0),
            self.side(1),
            self.n,
            self.unobserved,
            self.item_factors.clone(),
            iterations,
            compute,
        );
        let passes = (0..iterations).map(|_| alternation.iterate().unwrap()).collect();
        let (users, items) = alternation.finish().unwrap();
        Outcome { users, items, passes }
    }

    /// The users of the first iteration, all in f64.
    fn exact_users(&self) -> Vec<f32> {
        let stride = padded(self.n);
        let mut exact = vec![0f64; stride * stride];
        for y in self.item_factors.chunks_exact(self.n) {
            for i in 0..self.n {
                for j in i..self.n {
                    exact[i * stride + j] += f64::from(self.unobserved) * f64::from(y[i]) * f64::from(y[j]);
                }
            }
        }
        let base = Base { exact, narrow: vec![] };
        let users = self.side(0);
        let sweep = HalfSweep {
            offsets: users.offsets,
            columns: users.columns,
            weights: users.weights,
            factors: &self.item_factors,
            factor_count: self.n,
            unobserved_weight: self.unobserved,
            ridges: users.ridges,
            targets: None,
        };
        let mut x = vec![0f32; users.row_count() * self.n];
        for (row, x) in x.chunks_exact_mut(self.n).enumerate() {
            solve_row_f64(&sweep, row, &base, x);
        }
        x
    }

    fn on_cpu(&self, iterations: usize) -> Outcome {
        let (pool, cancel) = (pool(), AtomicBool::new(false));
        self.run(iterations, &Compute::cpu(&pool, &cancel))
    }

    /// With the notices.
    fn on_card(&self, iterations: usize, driver: &Arc<HostDriver>, limit: usize) -> (Outcome, Vec<String>) {
        let (pool, cancel, offer) = (pool(), AtomicBool::new(false), offer_of(driver));
        let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, limit);
        (self.run(iterations, &compute), compute.notices())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    users: Vec<f32>,
    items: Vec<f32>,
    passes: Vec<Iteration>,
}

impl Outcome {
    fn bits(&self) -> (Vec<u32>, Vec<u64>) {
        (
            self.users.iter().chain(&self.items).map(|v| v.to_bits()).collect(),
            self.passes
                .iter()
                .flat_map(|p| [p.gain.to_bits(), p.penalty.to_bits()])
                .collect(),
        )
    }

    fn agrees(&self, other: &Self, n: usize, tolerance: f32, what: &str) {
        for (side, own, others) in [("user", &self.users, &other.users), ("item", &self.items, &other.items)] {
            assert_eq!(own.len(), others.len());
            let apart = distance(own, others, n);
            assert!(apart <= tolerance, "{what}, {side}s: {apart}");
        }
        for (own, other) in self.passes.iter().zip(&other.passes) {
            for (own, other) in [(own.gain, other.gain), (own.penalty, other.penalty)] {
                let tolerance = f64::from(tolerance) / 10.0;
                assert!((own - other).abs() <= tolerance * other.abs(), "{what}: {own} {other}");
            }
        }
    }
}

/// The largest difference of two rows over the largest number in them, or a hundredth of the largest of all, as a row may be next to 0 by
/// cancellation.
fn distance(own: &[f32], others: &[f32], n: usize) -> f32 {
    let top = |row: &[f32]| row.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    let least = top(others) / 100.0;
    let rows = own.chunks_exact(n).zip(others.chunks_exact(n));
    rows.map(|(a, b)| a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top(b).max(least))
        .fold(0.0, f32::max)
}

fn pool() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()
}

/// Every card agrees with the CPU after one iteration, with the twin to the bit after two, and with itself.
fn check(data: &Data, tolerance: f32) {
    let (cpu, exact) = (data.on_cpu(1), data.exact_users());
    let mut twins: Option<Outcome> = None;
    for (name, driver) in cards(MEMORY) {
        let what = format!("{name}, {} factors", data.n);
        let (one, notices) = data.on_card(1, &driver, 0);
        assert_eq!(notices, Vec::<String>::new(), "{what}");
        assert!(driver.launch_count() > 0, "{what} did nothing");
        one.agrees(&cpu, data.n, tolerance, &what);
        // Both round; the card no worse than the CPU.
        let (error, cpu_error) = (
            distance(&one.users, &exact, data.n),
            distance(&cpu.users, &exact, data.n),
        );
        assert!(
            error <= 2.0 * cpu_error + 1e-6,
            "{what}: {error}, and the CPU {cpu_error}"
        );
        let (two, _) = data.on_card(2, &driver, 0);
        match &twins {
            None => {
                let (again, _) = data.on_card(2, &driver, 0);
                assert_eq!(two.bits(), again.bits(), "{what}, twice");
                twins = Some(two);
            }
            Some(twins) => assert_eq!(two.bits(), twins.bits(), "{what} and the twin"),
        }
    }
}

#[test]
fn few_factors_agree() {
    let lengths: Vec<usize> = (0..40)
        .map(|u| u * 7 % 70)
        .chain([1, 2, 31, 32, 33, 64, 65, 0])
        .collect();
    for n in [1, 3, 16, 20] {
        check(&Data::new(n, &lengths, 30, 0.25), 1e-5);
    }
    check(&Data::new(8, &[5], 3, 0.1), 1e-5);
}

#[test]
fn more_factors_agree() {
    let lengths: Vec<usize> = (0..12).map(|u| u * 13 % 90).collect();
    for n in [64, 80] {
        check(&Data::new(n, &lengths, 12, 0.25), 1e-5);
    }
}

#[test]
fn many_factors_agree() {
    for n in [130, 250] {
        check(&Data::new(n, &[40, 0, 17], 5, 0.25), 1e-5);
    }
}

#[test]
fn nothing_unobserved_has_a_weight() {
    check(&Data::new(5, &[40, 3, 0, 90, 33, 12, 50, 21], 9, 0.0), 1e-5);
}

#[test]
fn long_rows_are_added_up_in_parts() {
    check(&Data::new(6, &[20, 9000, 4097, 4096, 3], 40, 0.3), 2e-5);
}

#[test]
fn many_rows_make_many_parts_of_the_gram_matrix() {
    let lengths: Vec<usize> = (0..2600).map(|u| u % 3).collect();
    check(&Data::new(4, &lengths, 700, 0.2), 1e-5);
}

#[test]
fn rows_that_f32_cannot_solve_go_to_the_cpu() {
    // Fewer entries than factors and no ridge; few such rows are sent to the card one by one, many together.
    for users in [30, 200] {
        let mut data = Data::new(8, &vec![3; users], 4, 0.0);
        data.ridges[0].fill(0.0);
        check(&data, 1e-4);
        // In f64 indeed: there is nothing to round differently.
        assert_eq!(data.on_card(1, &twin(MEMORY), 0).0.users, data.exact_users());
    }
    // Nor are weights that overflow.
    let mut data = Data::new(4, &[9, 9, 9], 5, 0.1);
    data.weights[0][3] = 3e38;
    data.weights[0][4] = 3e38;
    let cpu = data.on_cpu(1);
    for (name, driver) in cards(MEMORY) {
        let (outcome, notices) = data.on_card(1, &driver, 0);
        assert!(notices.is_empty() && outcome.users.iter().chain(&outcome.items).all(|v| v.is_finite()));
        outcome.agrees(&cpu, 4, 1e-3, name);
    }
}

#[test]
fn faults_end_on_the_cpu() {
    let data = Data::new(5, &[4, 40, 0, 13, 5000], 8, 0.25);
    let cpu = data.on_cpu(3);
    let card = data.on_card(3, &twin(MEMORY), 0).0;
    for kind in 0..3 {
        for at in 1.. {
            let driver = twin(MEMORY);
            let counter = match kind {
                0 => &driver.faults.allocation,
                1 => &driver.faults.launch,
                _ => &driver.faults.load,
            };
            counter.store(at, Ordering::Relaxed);
            let (outcome, notices) = data.on_card(3, &driver, 0);
            if notices.is_empty() {
                assert!(at > 1, "no fault of kind {kind} struck");
                assert_eq!(outcome, card, "fault {kind} at {at}");
                break;
            }
            assert!(notices[0].starts_with("factor runs on the CPU: "), "{notices:?}");
            // What was said before the fault was the card's.
            outcome.agrees(&cpu, data.n, 1e-4, "passes before the fault");
            let factors = |o: &Outcome| (o.users.clone(), o.items.clone());
            assert_eq!(factors(&outcome), factors(&cpu), "fault {kind} at {at}");
            assert_eq!(outcome.passes.last(), cpu.passes.last(), "fault {kind} at {at}");
        }
    }
}

#[test]
fn what_is_too_large_is_declined() {
    let data = Data::new(5, &[4, 40, 0, 13], 8, 0.25);
    let (outcome, notices) = data.on_card(2, &twin(MEMORY), 3000);
    assert_eq!(outcome, data.on_cpu(2));
    assert!(
        notices.len() == 1 && notices[0].contains("ml.gpu_memory_limit"),
        "{notices:?}"
    );
    // A card that has less than it says.
    let (outcome, notices) = data.on_card(2, &twin(6_000), 1 << 20);
    assert_eq!(outcome, data.on_cpu(2));
    assert!(
        notices.len() == 1 && notices[0].contains("no memory left"),
        "{notices:?}"
    );
    let data = Data::new(257, &[4, 3], 3, 0.25);
    let (outcome, notices) = data.on_card(1, &twin(MEMORY), 0);
    assert_eq!(outcome, data.on_cpu(1));
    assert!(notices.len() == 1 && notices[0].contains("256 factors"), "{notices:?}");
}

#[test]
fn empty_sides_and_cancelled_work() {
    let driver = twin(MEMORY);
    let data = Data::new(3, &[], 4, 0.25);
    assert_eq!(data.on_card(1, &driver, 0), (data.on_cpu(1), vec![]));
    let data = Data::new(3, &[0, 0], 4, 0.25);
    assert_eq!(data.on_card(1, &driver, 0).0, data.on_cpu(1));
    // No iteration at all.
    let data = Data::new(3, &[5, 9], 4, 0.25);
    assert_eq!(data.on_card(0, &driver, 0).0, data.on_cpu(0));

    let (pool, cancel, offer) = (pool(), AtomicBool::new(false), offer_of(&driver));
    let compute = Compute::with_card(&pool, &cancel, Preference::Cuda, &offer, 0);
    let mut alternation = Alternation::new(
        data.side(0),
        data.side(1),
        3,
        0.25,
        data.item_factors.clone(),
        2,
        &compute,
    );
    assert!(alternation.iterate().is_ok());
    cancel.store(true, Ordering::Relaxed);
    assert!(alternation.iterate().is_err());
    assert_eq!(compute.notices(), Vec::<String>::new());
}
