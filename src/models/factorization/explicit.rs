//! Explicit feedback: ratings as a mean, biases and a product of factors, by alternating least squares.
//!
//! ```text
//! r̂_ui = μ + b_u + b_i + x_u·y_i
//! Σ_observed (r_ui − r̂_ui)² + λ Σ_u n_u^ν (‖x_u‖² + b_u²) + λ Σ_i n_i^ν (‖y_i‖² + b_i²)
//! ```
//!
//! with `μ` the mean rating and `n` the number of ratings of a user or item. A bias is solved together with its row's factors, as the
//! weight of one more factor that is 1 on the other side. `ν = 0` is BigQuery ML's plain penalty, and what a given `l2` means; where
//! none is given, `λ = 1` and `ν = ½`. On generated ratings (200 users × 120 items, rank 4, a fifth held out) the plain penalty of 1
//! has errors of 0.78, 1.19 and 0.86 with the automatic number of factors and noise of 0.5, 0.8 and, with fewer ratings, 0.5; `ν = ½` has
//! 0.68, 0.95 and 0.81, and the best of a search over `λ` with `ν = 0`, `½` and `1` has 0.69, 0.96, 0.82; 0.67, 0.95, 0.81; and 0.67,
//! 0.95, 0.81.

use std::time::Instant;

use super::als::initial;
use super::interactions::{Interactions, Learned};
use super::options::Factors;
use crate::error::Result;
use crate::kernels::compute::{Declined, Estimate};
use crate::kernels::factor::{HalfSweep, factor_f32};
use crate::models::{FitContext, Pass};

/// The checked options of the method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Explicit {
    pub(super) factors: Factors,
    pub(super) iterations: usize,
    pub(super) l2: f64,
    pub(super) frequency_exponent: f64,
    pub(super) seed: u64,
}

/// What was learned. Rows of factors are `width` long: the factors of a user and then 1, those of an item and then its bias, so that their
/// product is the rating but for the mean and the user's bias.
pub(super) struct Solution {
    pub(super) width: usize,
    pub(super) mean: f64,
    pub(super) users: Vec<f32>,
    pub(super) user_biases: Vec<f32>,
    pub(super) items: Vec<f32>,
    pub(super) passes: Vec<Pass>,
}

/// One side's problems and what is known of it.
struct Half<'a> {
    rows: &'a Interactions,
    /// The ratings, less the mean.
    ratings: Vec<f64>,
    ridges: Vec<f32>,
    /// Rows × width, the last number of each 1.
    factors: Vec<f32>,
    biases: Vec<f32>,
}

impl<'a> Half<'a> {
    fn new(rows: &'a Interactions, ratings: Vec<f64>, options: &Explicit, width: usize) -> Self {
        let ridge = |o: &[usize]| {
            let frequency = (o[1] - o[0]) as f64;
            (options.l2 * frequency.powf(options.frequency_exponent)).min(1e30) as f32
        };
        Self {
            ridges: rows.offsets.windows(2).map(ridge).collect(),
            factors: vec![1.0; rows.user_count() * width],
            biases: vec![0.0; rows.user_count()],
            rows,
            ratings,
        }
    }

    /// Solves this side's factors and biases. `targets` is scratch, `weights` ones. Gives what is left of the squares of this side's
    /// ratings, and its penalty within.
    fn solve(
        &mut self,
        other: &Half<'_>,
        targets: &mut [f32],
        weights: &[f32],
        context: &FitContext<'_>,
    ) -> Result<f64> {
        let width = self.factors.len() / self.biases.len().max(1);
        let entries = targets.iter_mut().zip(&self.ratings).zip(&self.rows.items);
        let mut squares = 0.0;
        for ((target, rating), column) in entries {
            *target = (rating - f64::from(other.biases[*column as usize])) as f32;
            squares += f64::from(*target).powi(2);
        }
        let sweep = HalfSweep {
            offsets: &self.rows.offsets,
            columns: &self.rows.items,
            weights,
            factors: &other.factors,
            factor_count: width,
            unobserved_weight: 0.0,
            ridges: &self.ridges,
            targets: Some(targets),
        };
        let gain = factor_f32(&sweep, &mut self.factors, context.compute.pool, context.compute.cancel);
        context.check_cancelled()?;
        for (row, bias) in self.factors.chunks_exact_mut(width).zip(&mut self.biases) {
            if let Some(last) = row.last_mut() {
                *bias = std::mem::replace(last, 1.0);
            }
        }
        Ok(squares - gain)
    }

    /// `Σ ridge (‖x‖² + b²)`.
    fn penalty(&self) -> f64 {
        let width = self.factors.len() / self.biases.len().max(1);
        let rows = self
            .factors
            .chunks_exact(width.max(1))
            .zip(&self.biases)
            .zip(&self.ridges);
        rows.map(|((row, bias), ridge)| {
            let squares = |v: &f32| f64::from(*v).powi(2);
            let factors = row.iter().take(width - 1).map(squares).sum::<f64>();
            f64::from(*ridge) * (factors + squares(bias))
        })
        .sum()
    }
}

/// Learns from averaged ratings.
///
/// # Errors
/// Too little memory, or cancellation.
pub(super) fn fit(options: &Explicit, learned: &Learned, context: &FitContext<'_>) -> Result<Solution> {
    let (users, ratings) = (&learned.interactions, &learned.ratings);
    let factors = options.factors.count(learned.row_count);
    let width = factors + 1;
    let (items, from) = users.transposed();
    let row_count = users.user_count() + items.user_count();
    context.memory.take(
        row_count.saturating_mul(4 * width + 8),
        "the factors of users and items",
    )?;
    context
        .memory
        .take(ratings.len().saturating_mul(24), "the targets of the ratings")?;
    let count = ratings.len() as f64;
    let mean = ratings.iter().map(|r| f64::from(*r)).sum::<f64>() / count;
    let centred: Vec<f64> = ratings.iter().map(|r| f64::from(*r) - mean).collect();
    let by_item: Vec<f64> = from.iter().map(|e| centred[*e]).collect();
    let mut users = Half::new(users, centred, options, width);
    let mut items = Half::new(&items, by_item, options, width);
    let start = initial(items.biases.len(), factors, options.seed);
    for (row, values) in items.factors.chunks_exact_mut(width).zip(start.chunks_exact(factors)) {
        row[..factors].copy_from_slice(values);
    }
    // Told where a card is asked for: 'auto' never finds work of no cost worth it.
    let nothing = Estimate {
        thread_ms: 0.0,
        card_ms: 0.0,
        moved_bytes: 0.0,
    };
    let _: Option<()> = context.compute.serve("factor", nothing, |_| {
        Err(Declined::Unsupported("explicit feedback has no CUDA body".into()))
    });
    let (mut targets, weights) = (vec![0f32; ratings.len()], vec![1f32; ratings.len()]);
    let mut passes = vec![];
    for iteration in 0..options.iterations {
        let started = Instant::now();
        users.solve(&items, &mut targets, &weights, context)?;
        let left = items.solve(&users, &mut targets, &weights, context)?;
        let pass = Pass {
            iteration: iteration as i64,
            loss: Some((left + users.penalty()) / count),
            duration_ms: started.elapsed().as_secs_f64() * 1e3,
            ..Pass::default()
        };
        context.observer.pass(&pass);
        passes.push(pass);
    }
    for (row, bias) in items.factors.chunks_exact_mut(width).zip(&items.biases) {
        if let Some(last) = row.last_mut() {
            *last = *bias;
        }
    }
    Ok(Solution {
        width,
        mean,
        users: users.factors,
        user_biases: users.biases,
        items: items.factors,
        passes,
    })
}
