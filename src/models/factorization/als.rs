//! Alternating least squares over confidences.

use std::time::Instant;

use rand::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::interactions::{Interactions, Learned};
use super::model;
use super::options::Factors;
use crate::error::Result;
use crate::kernels::factor::{Alternation, Side};
use crate::models::{FitContext, Pass};

/// The checked options of the method; `None` is a default that looks at the data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Als {
    pub(super) factors: Factors,
    pub(super) iterations: usize,
    /// Weight of an observed pair per unit of rating; by default such that the mean is 1.
    pub(super) alpha: Option<f64>,
    pub(super) l2: f64,
    pub(super) frequency_exponent: f64,
    /// Weight of every pair, observed or not; by default [`UNOBSERVED_SHARE`] times the share of pairs that are observed.
    pub(super) unobserved_weight: Option<f64>,
    pub(super) seed: u64,
}

/// All pairs together weigh at most 20 times what the observed ones weigh. The weights that Rendle et al. (2021) found by
/// search and published are 0.1 for ML-20M, 0.02 for MSD, 0.3 for ML-1M and 0.007 for Pinterest: 28, 14, 7 and 3 times the
/// share of pairs that those data observe. (Their λ for ML-1M, 0.007, is the default of `l2`.)
const UNOBSERVED_SHARE: f64 = 20.0;

/// User and item factors, and the passes that led there.
///
/// # Errors
/// Too little memory, or cancellation.
pub(super) fn fit(options: &Als, learned: &Learned, context: &FitContext<'_>) -> Result<(model::Factors, Vec<Pass>)> {
    let (users, ratings) = (&learned.interactions, &learned.ratings);
    let n = options.factors.count(learned.row_count);
    let (items, from) = users.transposed();
    let (user_count, item_count) = (users.user_count(), items.user_count());
    context.memory.take(
        (user_count + item_count).saturating_mul(4 * n),
        "the factors of users and items",
    )?;
    let pairs = ratings.len() as f64;
    let alpha = options.alpha.unwrap_or_else(|| {
        let total: f64 = ratings.iter().map(|r| f64::from(*r)).sum();
        pairs / total
    });
    let unobserved = options.unobserved_weight.unwrap_or_else(|| {
        let observed = pairs / (user_count as f64 * item_count as f64);
        (UNOBSERVED_SHARE * observed).min(1.0)
    });
    let weights: Vec<f32> = ratings
        .iter()
        .map(|r| (alpha * f64::from(*r)).min(1e12) as f32)
        .collect();
    let item_weights: Vec<f32> = from.iter().map(|e| weights[*e]).collect();
    let unobserved_weight = unobserved as f32;
    let ridges = |side: &Interactions, others: usize| -> Vec<f32> {
        side.offsets
            .windows(2)
            .map(|o| {
                let frequency = (o[1] - o[0]) as f64 + unobserved * others as f64;
                (options.l2 * frequency.powf(options.frequency_exponent)).min(1e30) as f32
            })
            .collect()
    };
    let (user_ridges, item_ridges) = (ridges(users, item_count), ridges(&items, user_count));
    let confidence: f64 = weights.iter().map(|w| f64::from(*w) + unobserved).sum();

    let item_factors = initial(item_count, n, options.seed);
    let users = Side {
        offsets: &users.offsets,
        columns: &users.items,
        weights: &weights,
        ridges: &user_ridges,
    };
    let items = Side {
        offsets: &items.offsets,
        columns: &items.items,
        weights: &item_weights,
        ridges: &item_ridges,
    };
    let mut alternation = Alternation::new(
        users,
        items,
        n,
        unobserved_weight,
        item_factors,
        options.iterations,
        context.compute,
    );
    let mut passes = vec![];
    for iteration in 0..options.iterations {
        let started = Instant::now();
        let done = alternation.iterate()?;
        // The items were solved last, so their part of the objective is what the kernel says; the users' ridge is left.
        let pass = Pass {
            iteration: iteration as i64,
            loss: Some((confidence - done.gain + done.penalty) / pairs),
            duration_ms: started.elapsed().as_secs_f64() * 1e3,
            ..Pass::default()
        };
        context.observer.pass(&pass);
        passes.push(pass);
    }
    context.check_cancelled()?;
    let (user_factors, item_factors) = alternation.finish()?;
    Ok((model::Factors::new(n, user_factors, item_factors, None), passes))
}

/// Small random factors whose products have a deviation of about 0.01, whatever their number. A row's depend on the seed and
/// its place among the sorted items alone.
pub(super) fn initial(rows: usize, n: usize, seed: u64) -> Vec<f32> {
    let scale = 0.1 * (3.0 / n as f64).sqrt();
    let mut factors = Vec::with_capacity(rows * n);
    for row in 0..rows as u64 {
        // The golden ratio's bits spread neighbouring rows over the seeds.
        let mut random = Pcg64Mcg::seed_from_u64(seed ^ (row + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for _ in 0..n {
            let unit = f64::from(random.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
            factors.push((unit * scale) as f32);
        }
    }
    factors
}
