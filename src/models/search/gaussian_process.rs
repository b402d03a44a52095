//! A Gaussian process over a few dozen points: what a score is likely to be where none is known.
//!
//! Matérn's kernel of smoothness 5/2 with one length per hyperparameter (Rasmussen & Williams, 2006, chapters 4 and 5). The lengths and the
//! noise are the likeliest under a prior; the scale of the scores is integrated out.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Middle and spread of the prior of a length's logarithm; the middle grows with the square root of how many hyperparameters there are, as
/// distances do.
const LENGTH: (f64, f64) = (-1.0, 0.8);
/// Middle and spread of the prior of the noise's logarithm, the noise being a share of the scores' variance.
const NOISE: (f64, f64) = (-9.2, 2.0);
/// The least noise's logarithm: below it a Cholesky factor of near points fails.
const LEAST_NOISE: f64 = -16.0;
/// Shape and rate of the inverse gamma prior of the scores' variance, which is 1 on what was scored.
const VARIANCE: (f64, f64) = (2.0, 2.0);
/// Settings drawn from the prior of which the likeliest starts the search for a likelier one.
const STARTS: usize = 12;

/// How alike two points are, by their places.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// 1 / length², per axis.
    inverse_squares: Vec<f64>,
    noise: f64,
}

impl Kernel {
    fn new(logarithms: &[f64]) -> Self {
        let (lengths, noise) = logarithms.split_at(logarithms.len().saturating_sub(1));
        Kernel {
            inverse_squares: lengths.iter().map(|length| (-2.0 * length).exp()).collect(),
            noise: noise.iter().map(|noise| noise.max(LEAST_NOISE).exp()).sum(),
        }
    }

    /// From 0 to 1. Axes without an order count as wholly different or the same.
    fn likeness(&self, a: &[f64], b: &[f64], unordered: &[bool]) -> f64 {
        let mut square = 0.0;
        for (((a, b), unordered), scale) in a.iter().zip(b).zip(unordered).zip(&self.inverse_squares) {
            let distance = if *unordered { f64::from(u8::from(a != b)) } else { a - b };
            square += distance * distance * scale;
        }
        let r = (5.0 * square).sqrt();
        (1.0 + r + r * r / 3.0) * (-r).exp()
    }
}

/// Scores at points, and the kernel that suits them best.
#[derive(Debug)]
pub(super) struct Process<'a> {
    unordered: &'a [bool],
    kernel: Kernel,
    places: Vec<Vec<f64>>,
    factor: Factor,
    /// `K⁻¹ y`.
    weights: Vec<f64>,
    /// The scores' variance.
    variance: f64,
}

impl<'a> Process<'a> {
    /// Of scores with a mean of about 0 and a variance of about 1. None if no kernel fits numerically.
    pub(super) fn fit(places: &[Vec<f64>], scores: &[f64], unordered: &'a [bool], seed: u64) -> Option<Self> {
        let width = unordered.len();
        let middle = LENGTH.0 + 0.5 * (width.max(1) as f64).ln();
        let priors: Vec<(f64, f64)> = vec![(middle, LENGTH.1); width].into_iter().chain([NOISE]).collect();
        let judge = |at: &[f64]| {
            let likelihood = log_likelihood(&Kernel::new(at), places, scores, unordered)?;
            let prior: f64 = at
                .iter()
                .zip(&priors)
                .map(|(x, (middle, spread))| ((x - middle) / spread).powi(2))
                .sum();
            Some(likelihood - 0.5 * prior)
        };
        let mut best: Vec<f64> = priors.iter().map(|prior| prior.0).collect();
        let mut height = judge(&best).unwrap_or(f64::NEG_INFINITY);
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        for _ in 0..STARTS {
            let at: Vec<f64> = priors
                .iter()
                // Uniform within two spreads: the prior's own tail is judged, not drawn.
                .map(|(middle, spread)| middle + spread * (4.0 * rng.random::<f64>() - 2.0))
                .collect();
            keep_higher(&judge, at, &mut best, &mut height);
        }
        climb(&judge, &mut best, &mut height);
        if height == f64::NEG_INFINITY {
            return None;
        }
        Self::with_kernel(Kernel::new(&best), places.to_vec(), scores, unordered)
    }

    fn with_kernel(kernel: Kernel, places: Vec<Vec<f64>>, scores: &[f64], unordered: &'a [bool]) -> Option<Self> {
        let factor = Factor::of(&kernel, &places, unordered)?;
        let half = factor.forward(scores);
        let variance = (VARIANCE.1 + 0.5 * dot(&half, &half)) / (VARIANCE.0 + 0.5 * scores.len() as f64);
        let weights = factor.backward(half);
        Some(Process {
            unordered,
            kernel,
            places,
            factor,
            weights,
            variance,
        })
    }

    /// The same, as if more points had scored just what is expected of them: that leaves the means and makes it surer around them.
    pub(super) fn expecting(self, more: &[Vec<f64>], scores: &[f64]) -> Option<Self> {
        if more.is_empty() {
            return Some(self);
        }
        let expected = more.iter().map(|places| self.predict(places).0);
        let scores: Vec<f64> = scores.iter().copied().chain(expected).collect();
        let variance = self.variance;
        let places = [self.places, more.to_vec()].concat();
        let extended = Self::with_kernel(self.kernel, places, &scores, self.unordered)?;
        // Made-up scores say nothing of the variance.
        Some(Process { variance, ..extended })
    }

    /// Mean and standard deviation of the score (without the noise) at these places.
    pub(super) fn predict(&self, places: &[f64]) -> (f64, f64) {
        let likeness: Vec<f64> = self
            .places
            .iter()
            .map(|known| self.kernel.likeness(known, places, self.unordered))
            .collect();
        let mean = dot(&likeness, &self.weights);
        let half = self.factor.forward(&likeness);
        let unexplained = (1.0 - dot(&half, &half)).max(1e-12);
        (mean, (self.variance * unexplained).sqrt())
    }
}

/// The logarithm of how likely the scores are, but for a constant: Student's t, which the scale's prior makes of the normal distribution.
fn log_likelihood(kernel: &Kernel, places: &[Vec<f64>], scores: &[f64], unordered: &[bool]) -> Option<f64> {
    let factor = Factor::of(kernel, places, unordered)?;
    let half = factor.forward(scores);
    let scale = VARIANCE.1 + 0.5 * dot(&half, &half);
    let height = -(VARIANCE.0 + 0.5 * scores.len() as f64) * scale.ln() - factor.log_root_determinant();
    height.is_finite().then_some(height)
}

fn keep_higher(judge: &impl Fn(&[f64]) -> Option<f64>, at: Vec<f64>, best: &mut Vec<f64>, height: &mut f64) -> bool {
    match judge(&at) {
        Some(higher) if higher > *height => {
            (*best, *height) = (at, higher);
            true
        }
        _ => false,
    }
}

/// Steps along one axis after the other, shorter ones when none leads up.
fn climb(judge: &impl Fn(&[f64]) -> Option<f64>, best: &mut Vec<f64>, height: &mut f64) {
    for step in [0.8, 0.8, 0.4, 0.2] {
        for axis in 0..best.len() {
            for direction in [step, -step] {
                let mut at = best.clone();
                at[axis] += direction;
                if keep_higher(judge, at, best, height) {
                    break;
                }
            }
        }
    }
}

/// The lower Cholesky factor of a kernel's matrix, rows one after the other, each to its diagonal.
#[derive(Debug)]
struct Factor {
    rows: Vec<Vec<f64>>,
}

impl Factor {
    /// None if the matrix is numerically not positive definite.
    fn of(kernel: &Kernel, places: &[Vec<f64>], unordered: &[bool]) -> Option<Self> {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(places.len());
        for (i, a) in places.iter().enumerate() {
            let mut row: Vec<f64> = Vec::with_capacity(i + 1);
            for (b, above) in places.iter().zip(&rows) {
                let rest = kernel.likeness(a, b, unordered) - dot(&row, above);
                row.push(rest / above[row.len()]);
            }
            let pivot = 1.0 + kernel.noise - dot(&row, &row);
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            row.push(pivot.sqrt());
            rows.push(row);
        }
        Some(Factor { rows })
    }

    fn log_root_determinant(&self) -> f64 {
        self.rows
            .iter()
            .filter_map(|row| row.last())
            .map(|pivot| pivot.ln())
            .sum()
    }

    /// `L⁻¹ v`.
    fn forward(&self, values: &[f64]) -> Vec<f64> {
        let mut solved: Vec<f64> = Vec::with_capacity(values.len());
        for (row, value) in self.rows.iter().zip(values) {
            solved.push((value - dot(&solved, row)) / row[solved.len()]);
        }
        solved
    }

    /// `L⁻ᵀ v`.
    fn backward(&self, mut values: Vec<f64>) -> Vec<f64> {
        for (i, row) in self.rows.iter().enumerate().rev() {
            values[i] /= row[i];
            let (before, from) = values.split_at_mut(i);
            before.iter_mut().zip(row).for_each(|(value, l)| *value -= from[0] * l);
        }
        values
    }
}

/// Over the shorter one's length.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave() -> (Vec<Vec<f64>>, Vec<f64>) {
        let places: Vec<Vec<f64>> = (0..9).map(|i| vec![f64::from(i) / 8.0, f64::from(i % 3)]).collect();
        let scores = places
            .iter()
            .map(|p| (6.0 * p[0]).sin() + if p[1] == 1.0 { 0.5 } else { 0.0 })
            .collect();
        (places, scores)
    }

    #[test]
    fn known_scores_are_told_and_unknown_ones_less_sure() {
        let (places, scores) = wave();
        let process = Process::fit(&places, &scores, &[false, true], 1).expect("a fit");
        for (place, score) in places.iter().zip(&scores) {
            let (mean, deviation) = process.predict(place);
            assert!(
                (mean - score).abs() < 0.1 && deviation < 0.1,
                "{mean} ± {deviation} for {score}"
            );
        }
        let (_, far) = process.predict(&[0.06, 2.0]);
        assert!(far > process.predict(&places[2]).1);
    }

    /// Against K⁻¹ y solved the slow way.
    #[test]
    fn factor_solves_the_kernels_equations() {
        let (places, scores) = wave();
        let unordered = [false, true];
        let kernel = Kernel::new(&[-0.5, 0.1, -4.0]);
        let process = Process::with_kernel(kernel.clone(), places.clone(), &scores, &unordered).expect("a fit");
        for (i, score) in scores.iter().enumerate() {
            let row: Vec<f64> = (0..places.len())
                .map(|j| kernel.likeness(&places[i], &places[j], &unordered) + if i == j { kernel.noise } else { 0.0 })
                .collect();
            assert!((dot(&row, &process.weights) - score).abs() < 1e-9);
        }
        assert!((kernel.likeness(&places[0], &places[0], &unordered) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn expected_scores_leave_the_means() {
        let (places, scores) = wave();
        let before = Process::fit(&places, &scores, &[false, true], 1).expect("a fit");
        let after = Process::fit(&places, &scores, &[false, true], 1)
            .and_then(|process| process.expecting(&[vec![0.3, 2.0]], &scores))
            .expect("a fit");
        let near = [0.32, 2.0];
        assert!((before.predict(&near).0 - after.predict(&near).0).abs() < 1e-3);
        assert!(after.predict(&near).1 < 0.9 * before.predict(&near).1);
    }

    #[test]
    fn the_same_place_twice_is_no_trouble() {
        let process = Process::fit(&[vec![0.5], vec![0.5], vec![0.5]], &[1.0, 0.0, -1.0], &[false], 3).expect("a fit");
        assert!(process.predict(&[0.5]).0.abs() < 0.5);
    }
}
