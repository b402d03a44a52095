//! Hyperparameter search: which values to try next, given how those tried so far scored.
//!
//! [`Search`] proposes points and trains nothing itself: the caller trains a model at each point and hands its score back. Several points
//! may be out at a time. What it proposes depends on the domains, the algorithm, the budget, the seed and the outcomes, and on nothing else:
//! not on the order in which trials that ran side by side came back.

mod gaussian_process;
mod grid;
mod model;
mod space;

use std::collections::{BTreeMap, HashSet};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

pub use space::Domain;
use space::Space;

/// The most trials of one search.
pub const MOST_TRIALS: usize = 100;
/// How often a point is drawn before a free one is looked for in counting order.
const DRAWS: usize = 200;

/// How points are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Combinations of all candidates and of evenly spaced levels of the ranges: two levels or more, as many as make at most as many
    /// combinations as trials. A grid that is larger even with two levels is tried in part, each level as often as any other. Takes no
    /// notice of scores and of the seed.
    Grid,
    /// By chance, evenly over each range (or its logarithm). Takes no notice of scores.
    Random,
    /// After a few well-spread points, where a Gaussian process of the scores expects the most improvement.
    Model,
}

/// How one trial went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The values that were tried, one for each domain.
    pub point: Vec<f64>,
    /// How good they were; higher is better. None, or a number that is not finite: the trial failed.
    pub score: Option<f64>,
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    space: Space,
    algorithm: Algorithm,
    trials: usize,
    seed: u64,
    /// The grid's points, for [`Algorithm::Grid`].
    grid: Vec<Vec<f64>>,
    /// The points that were handed out.
    made: Vec<Vec<f64>>,
}

/// What tells points apart.
type Key = Vec<u64>;

fn key(point: &[f64]) -> Key {
    // `+ 0.0` makes −0.0 the same as 0.
    point.iter().map(|value| (value + 0.0).to_bits()).collect()
}

impl Search {
    /// A search of at most `trials` points, which is taken as 1 to [`MOST_TRIALS`].
    pub fn new(domains: Vec<Domain>, algorithm: Algorithm, trials: usize, seed: u64) -> Self {
        let space = Space::new(&domains);
        let trials = trials.clamp(1, MOST_TRIALS);
        let grid = if algorithm == Algorithm::Grid {
            grid::points(&space, trials)
        } else {
            Vec::new()
        };
        Search {
            space,
            algorithm,
            trials,
            seed,
            grid,
            made: Vec::new(),
        }
    }

    /// The next point to try: a value for each domain, for [`Domain::Candidates`] the candidate's index.
    ///
    /// `so_far` are the outcomes known by now. A point of an earlier call that is not among them counts as under way. Outcomes of points
    /// that this search did not hand out, as of one that was cut off, count as trials made; those without a value for each domain are
    /// passed over. No point comes twice. None when the trials, the grid or all points there are have been used up.
    pub fn next(&mut self, so_far: &[Outcome]) -> Option<Vec<f64>> {
        let history = History::new(&self.made, so_far, self.space.width());
        let number = history.seen.len();
        if number >= self.trials || self.space.count().is_some_and(|count| number as u64 >= count) {
            return None;
        }
        // A stream of its own for each trial: a search that is taken up again goes on as it would have.
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let point = match self.algorithm {
            Algorithm::Grid => self.grid.iter().find(|point| history.is_fresh(point)).cloned(),
            Algorithm::Random => self.draw(&history, &mut rng),
            Algorithm::Model => self
                .propose(&history, &mut rng)
                .or_else(|| self.draw(&history, &mut rng)),
        }?;
        self.made.push(point.clone());
        Some(point)
    }

    /// A point by chance that was not tried.
    fn draw(&self, history: &History<'_>, rng: &mut Pcg64Mcg) -> Option<Vec<f64>> {
        for _ in 0..DRAWS {
            let point = self.space.draw(rng);
            if history.is_fresh(&point) {
                return Some(point);
            }
        }
        // Nearly all points are used up. Of as many as are seen and one more, one is free.
        let count = self.space.count()?;
        let start = rng.random_range(0..count.max(1));
        (0..=history.seen.len() as u64)
            .map(|i| {
                self.space
                    .numbered(((u128::from(start) + u128::from(i)) % u128::from(count.max(1))) as u64)
            })
            .find(|point| history.is_fresh(point))
    }

    fn propose(&self, history: &History<'_>, rng: &mut Pcg64Mcg) -> Option<Vec<f64>> {
        let number = history.seen.len();
        if number < self.opening() {
            let point = self.space.point(self.spread_places(number));
            return history.is_fresh(&point).then_some(point);
        }
        let known = model::Known {
            scored: &history.scored,
            pending: &history.pending,
        };
        model::propose(&self.space, &known, |point| history.is_fresh(point), rng.random())
    }

    /// How many points are tried before the scores say where: more of them for more hyperparameters, but at most a third of the trials.
    fn opening(&self) -> usize {
        (self.space.varying() + 2).min(self.trials / 3).max(3)
    }

    /// The places of an opening point: Kronecker's sequence by powers of the generalised golden ratio (Roberts, 2018), which leaves no large
    /// gap however many points are taken, from a start that the seed gives.
    fn spread_places(&self, number: usize) -> Vec<f64> {
        let width = self.space.width();
        let mut ratio = 1.5f64;
        for _ in 0..60 {
            ratio = (1.0 + ratio).powf(1.0 / (width as f64 + 1.0));
        }
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed);
        (1..=width)
            .map(|axis| (rng.random::<f64>() + number as f64 / ratio.powi(axis as i32)).fract())
            .collect()
    }
}

/// What was tried, in an order that does not depend on when points were handed out and outcomes came in: sums of the same numbers in another
/// order differ in their last digits.
struct History<'a> {
    /// Points with an outcome.
    scored: Vec<(&'a [f64], Option<f64>)>,
    /// Points without one.
    pending: Vec<&'a [f64]>,
    seen: HashSet<Key>,
}

impl<'a> History<'a> {
    fn new(made: &'a [Vec<f64>], so_far: &'a [Outcome], width: usize) -> Self {
        // Of several outcomes of a point the last one counts.
        let mut points: BTreeMap<Key, (&[f64], Option<&Outcome>)> = made
            .iter()
            .map(|point| (key(point), (point.as_slice(), None)))
            .collect();
        for outcome in so_far.iter().filter(|outcome| outcome.point.len() == width) {
            points.insert(key(&outcome.point), (&outcome.point, Some(outcome)));
        }
        let (mut scored, mut pending) = (Vec::new(), Vec::new());
        for (point, outcome) in points.values() {
            match outcome {
                Some(outcome) => scored.push((*point, outcome.score.filter(|score| score.is_finite()))),
                None => pending.push(*point),
            }
        }
        History {
            scored,
            pending,
            seen: points.into_keys().collect(),
        }
    }

    fn is_fresh(&self, point: &[f64]) -> bool {
        !self.seen.contains(&key(point))
    }
}

#[cfg(test)]
mod tests;
