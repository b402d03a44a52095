//! EASE: a linear item-item model in closed form.
//!
//! With `X` users × items of ones and zeros, the weights `B` that minimise `‖X − XB‖² + λ‖B‖²` with a zero diagonal are
//! `B = I − P·diag(1/diag P)` for `P = (XᵀX + λI)⁻¹` (Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", 2019).

use std::time::Instant;

use rayon::prelude::*;

use super::interactions::Interactions;
use crate::error::{Error, Result};
use crate::kernels::inverse::{inverse_bytes, inverse_f64};
use crate::models::{FitContext, Pass};

/// More items than this would need a matrix of over 3 GB.
pub(super) const MOST_ITEMS: usize = 20_000;

/// The weights `B`, items × items, row-major, and the pass that made them.
///
/// # Errors
/// Too little memory, cancellation, or `λ` too small for the inverse.
pub(super) fn fit(l2: f64, users: &Interactions, context: &FitContext<'_>) -> Result<(Vec<f32>, Pass)> {
    let m = users.item_count;
    let started = Instant::now();
    context
        .memory
        .take(m * m * 12 + inverse_bytes(m), "the item-item matrix of method 'ease'")?;
    let (items, _) = users.transposed();
    let (mut matrix, pairs) = (vec![0f64; m * m], users.items.len());
    context.compute.pool.install(|| {
        // The lower triangle of XᵀX + λI: how many users have both items.
        matrix.par_chunks_mut(m).enumerate().for_each(|(item, row)| {
            for user in items.of(item) {
                for other in users.of(*user as usize) {
                    if *other as usize > item {
                        break;
                    }
                    row[*other as usize] += 1.0;
                }
            }
            row[item] += l2;
        });
    });
    context.check_cancelled()?;
    if !inverse_f64(&mut matrix, m, context.compute.pool, context.compute.cancel)? {
        return Err(Error::data(
            "method 'ease': the item-item matrix cannot be inverted with this l2; use a larger one",
        ));
    }
    let inverse_diagonal: Vec<f64> = (0..m).map(|i| 1.0 / matrix[i * m + i]).collect();
    let mut weights = vec![0f32; m * m];
    context.compute.pool.install(|| {
        weights.par_chunks_mut(m).enumerate().for_each(|(i, row)| {
            for (j, weight) in row.iter_mut().enumerate() {
                if i != j {
                    *weight = (-matrix[i.max(j) * m + i.min(j)] * inverse_diagonal[j]) as f32;
                }
            }
        });
    });
    context.check_cancelled()?;
    // At the solution the objective of item j is 1/P_jj − λ.
    let loss = inverse_diagonal.iter().map(|d| d - l2).sum::<f64>() / pairs as f64;
    let pass = Pass {
        loss: Some(loss),
        duration_ms: started.elapsed().as_secs_f64() * 1e3,
        ..Pass::default()
    };
    context.observer.pass(&pass);
    Ok((weights, pass))
}

/// Adds up the weights of the items that a user has: `scores[j] = Σ_i B[i][j]`, in the items' order.
pub(super) fn scores(weights: &[f32], items: &[u32], scores: &mut [f32]) {
    let m = scores.len();
    scores.fill(0.0);
    for item in items {
        let row = &weights[*item as usize * m..(*item as usize + 1) * m];
        for (score, weight) in scores.iter_mut().zip(row) {
            *score += *weight;
        }
    }
}

/// One of [`scores`], to the bit.
pub(super) fn score(weights: &[f32], item_count: usize, items: &[u32], item: u32) -> f32 {
    items
        .iter()
        .fold(0.0, |sum, i| sum + weights[*i as usize * item_count + item as usize])
}
