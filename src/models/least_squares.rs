//! Least squares over encoded rows: the normal equations of all rows, summed in one pass ([`crate::kernels::gram`]) and solved by Cholesky's
//! method with one step of refinement, or with an l1 penalty by coordinate descent. Standard errors are those of ordinary least squares,
//! `σ²(XᵀX)⁻¹` with σ² over the degrees of freedom.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::block::Block;
use crate::kernels::gram::{self, Gram, design_width, linear_predictor_f64, pass_bytes};
use crate::models::FitContext;
use crate::models::design::{Coding, Design};
use crate::models::normal_equations::Penalty;
use crate::models::regression::Targets;

/// Rows that a thread scores at a time.
const CHUNK: usize = 4096;

/// What a fit came to.
pub(super) struct LeastSquares {
    /// One for each column of the design.
    pub(super) coefficients: Vec<f64>,
    /// Of a fit without a penalty; none for a column that took no part.
    pub(super) standard_errors: Option<Vec<Option<f64>>>,
    /// The weighted sum of them.
    pub(super) squared_errors: f64,
    /// Rows less parameters.
    pub(super) freedom: f64,
    /// Columns that say nothing that columns before them do not.
    pub(super) redundant: Vec<usize>,
}

/// Fits the design of a block. `penalties` are l1 and l2; `verb` begins messages.
///
/// # Errors
/// Too little memory, equations that cannot be solved, or cancellation.
pub(super) fn fit(
    verb: &str,
    block: &Block<f64>,
    targets: &Targets,
    coding: Coding,
    (l1, l2): (f64, f64),
    context: &FitContext<'_>,
) -> Result<LeastSquares> {
    let width = design_width(block);
    let bytes = pass_bytes(block.row_count, width) + 3 * width * width * size_of::<f64>();
    context.memory.take(bytes, "the Gram matrix of the features")?;
    // Around their mean: sums of large numbers that differ little would keep few of the digits that matter.
    let mean = if coding.intercept() { targets.mean() } else { 0.0 };
    let values: Vec<f64> = targets.values.iter().map(|t| t - mean).collect();
    let weights = &targets.weights;

    let sums = gram::Rows::new(block, &[], 1, context.compute).weighted(Some(weights), Some(&values))?;
    // Whether anything else than the penalties decides between equal solutions.
    let free = l1 == 0.0 && l2 == 0.0;
    let design = Design::new(coding, block, &|row| weights[row] > 0.0);
    let held = design.constraints(&sums);
    let redundant = design.redundant(&sums, &held);
    let dropped: &[usize] = if free { &redundant } else { &[] };
    let penalty = Penalty {
        l1,
        l2,
        intercept: block.number_count,
        constraints: if free { &held } else { &[] },
        active: design.active(dropped),
    };
    let solution = solve(&penalty, &sums, &|| context.compute.is_cancelled());
    context.check_cancelled()?;
    let Some(mut coefficients) = solution else {
        return Err(Error::data(format!(
            "{verb}: the normal equations cannot be solved; give it a penalty, l2 => 1"
        )));
    };
    // Summed from the errors themselves: from the sums alone, little would be left of a good fit's.
    let of_chunk = |chunk: usize| -> f64 {
        (chunk * CHUNK..((chunk + 1) * CHUNK).min(block.row_count))
            .map(|row| weights[row] * (values[row] - linear_predictor_f64(block, &coefficients, row)).powi(2))
            .sum()
    };
    let chunks = block.row_count.div_ceil(CHUNK);
    let parts: Vec<f64> = context
        .compute
        .pool
        .install(|| (0..chunks).into_par_iter().map(of_chunk).collect());
    let squared_errors: f64 = parts.iter().sum();
    // The categories' sums to 0 take a degree of freedom back that one-hot columns seem to have.
    let parameters = penalty.active.len().saturating_sub(held.len());
    let freedom = targets.count() - parameters as f64;
    let standard_errors = (free && freedom > 0.0)
        .then(|| penalty.standard_errors(&sums))
        .flatten()
        .map(|errors| {
            let deviation = (squared_errors / freedom).sqrt();
            errors.into_iter().map(|e| Some(e? * deviation)).collect()
        });
    coefficients[block.number_count] += mean;
    Ok(LeastSquares {
        coefficients,
        standard_errors,
        squared_errors,
        freedom,
        redundant,
    })
}

/// The coefficients at which the penalised sum of squares is least.
fn solve(penalty: &Penalty<'_>, sums: &Gram, stop: &dyn Fn() -> bool) -> Option<Vec<f64>> {
    let width = sums.width;
    let mut coefficients = vec![0.0; width];
    // The second round takes out what rounding left in the first.
    for _ in 0..2 {
        let gradient = (0..width).map(|i| {
            let row = &sums.matrix[i * width..(i + 1) * width];
            row.iter().zip(&coefficients).map(|(g, c)| g * c).sum::<f64>() - sums.vector[i]
        });
        let at = Gram {
            vector: gradient.collect(),
            matrix: sums.matrix.clone(),
            width,
        };
        let step = penalty.step(&at, &coefficients, stop)?;
        coefficients.iter_mut().zip(&step).for_each(|(c, s)| *c -= s);
    }
    Some(coefficients)
}
