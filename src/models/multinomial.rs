//! Multinomial logistic regression: the probability of each of many classes by the softmax of their linear predictors.
//!
//! The fit minimises the summed log loss plus ½ · l2 · ‖β‖² + l1 · ‖β‖₁ over the coefficients of all classes (standardised numbers and
//! one-hot categories, the intercepts free), which is symmetric in the classes, as scikit-learn's `multinomial` with `C` = 1 / l2. What
//! neither loss nor penalty decides is decided so: the classes' intercepts add up to 0, and without any penalty the classes' coefficients of
//! each column do, and so do the coefficients of each feature's categories.
//!
//! Newton's method, in one of two ways. Where the second derivative of all coefficients is small enough it is built from weighted Gram
//! matrices ([`crate::kernels::gram`]), one for each pair of classes, and solved exactly; with l1, by coordinate descent. Where it is not,
//! its products with vectors, a pass over the rows each ([`crate::kernels::softmax`]), serve conjugate gradients, preconditioned by the
//! classes' own blocks; with l1, accelerated steps (Beck & Teboulle's FISTA, 2009) minimise Böhning's quadratic upper bound of the loss ("Multinomial
//! logistic regression algorithm", 1992) exactly.

mod bound;
mod conjugate;
mod full;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use crate::error::Result;
use crate::features::Encoder;
use crate::kernels::block::Block;
use crate::kernels::gram::{self, Gram, design_width};
use crate::kernels::softmax::{self, Classes, SoftmaxPass, curvature_f64, softmax_pass_f64};
use crate::models::attribution::Attributions;
use crate::models::design::Design;
use crate::models::labels::Labels;
use crate::models::logistic::{EXPECTED_PASSES, MAX_CHECKED_WIDTH, SEPARATION_L2, Separation, Settings, not_converged};
use crate::models::multiclass::MulticlassModel;
use crate::models::normal_equations::{Penalty, SumToZero, encoder_names, redundancy};
use crate::models::predictor::LinearPredictor;
use crate::models::{FitContext, Fitted, Pass, TrainingInfo};

/// The second derivative of all coefficients is built up to this width.
const MAX_FULL_WIDTH: usize = 1_200;
/// And where its sums take no more products than this.
const MAX_FULL_PRODUCTS: f64 = 2e10;

/// What is learned from.
pub(super) struct Data<'a> {
    pub(super) block: &'a Block<f64>,
    /// The class of each row; those beyond the number of classes are left out.
    pub(super) classes: &'a [u8],
    /// How much each class counts.
    pub(super) class_weights: &'a [f64],
}

/// Fits a model of as many classes as there are labels. `notices` are those of the encoder.
///
/// # Errors
/// Too little memory, or cancellation.
pub(super) fn fit(
    data: &Data<'_>,
    encoder: Encoder,
    labels: Labels,
    settings: &Settings,
    mut notices: Vec<String>,
    context: &FitContext<'_>,
) -> Result<Fitted> {
    let mut solver = Solver::new(data, settings, Method::of(data, settings), context)?;
    let mut solution = solver.solve(settings)?;
    if solution.separation != Separation::None && settings.l1 == 0.0 && settings.l2 < SEPARATION_L2 {
        let raised = Settings {
            l2: SEPARATION_L2,
            ..*settings
        };
        let separation = solution.separation;
        solution = solver.solve(&raised)?;
        solution.separation = separation;
    }
    notices.extend(redundancy(
        &solver.redundant,
        &encoder_names(&encoder),
        (settings.l1, settings.l2),
    ));
    notices.extend(solution.separation.notice(settings, solution.l2));
    if !solution.converged {
        notices.push(not_converged(settings));
    }
    notices.iter().for_each(|notice| context.observer.notice(notice));
    let encoder = Arc::new(encoder);
    // Explanations must not depend on which of the equal models the fit came to.
    let mut centred = solution.coefficients.clone();
    solver.center(&mut centred);
    let learned_from = |row: usize| usize::from(data.classes[row]) < labels.count();
    let mut predictors = vec![];
    for class in 0..labels.count() {
        context.check_cancelled()?;
        let of_class = solver.of_class(&centred, class);
        let attributions = Attributions::of((&encoder, None), data.block, &of_class, &learned_from, context);
        let coefficients = solver.of_class(&solution.coefficients, class);
        predictors.push(LinearPredictor::new(Arc::clone(&encoder), coefficients, None).explained(Some(attributions)));
    }
    let row_count = data
        .classes
        .iter()
        .filter(|c| usize::from(**c) < labels.count())
        .count();
    Ok(Fitted {
        model: Arc::new(MulticlassModel::new(predictors, labels, (settings.l1, solution.l2))),
        info: TrainingInfo {
            passes: solver.passes,
            notices,
            row_count: row_count as u64,
            ..TrainingInfo::default()
        },
        row_scores: None,
    })
}

/// How steps are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Newton's, by the second derivative of all coefficients.
    Full,
    /// Newton's, by conjugate gradients.
    Conjugate,
    /// Accelerated steps on a quadratic upper bound.
    Bound,
}

impl Method {
    fn of(data: &Data<'_>, settings: &Settings) -> Self {
        let classes = data.class_weights.len();
        let pairs = (classes * (classes + 1) / 2) as f64;
        let columns = (data.block.number_count + 1 + data.block.code_count) as f64;
        // A row costs a Gram matrix as much as some hundred products, however narrow it is.
        let products = data.block.row_count as f64 * pairs * (100.0 + columns * columns / 2.0);
        if classes * design_width(data.block) <= MAX_FULL_WIDTH && products <= MAX_FULL_PRODUCTS {
            Method::Full
        } else if settings.l1 == 0.0 {
            Method::Conjugate
        } else {
            Method::Bound
        }
    }
}

/// What a fit came to.
struct Solution {
    /// `width × classes`.
    coefficients: Vec<f64>,
    /// The penalty that was used.
    l2: f64,
    converged: bool,
    separation: Separation,
}

/// A fit: the rows, what is known of them whatever the penalty, and the passes so far. All that is shaped like coefficients is
/// `width × classes`.
struct Solver<'a> {
    rows: Classes<'a>,
    grams: gram::Rows<'a>,
    context: &'a FitContext<'a>,
    method: Method,
    width: usize,
    /// XᵀWX, W being the weights of the rows' classes.
    plain: Gram,
    design: Design,
    constraints: Vec<SumToZero>,
    /// Columns that say nothing that columns before them do not.
    redundant: Vec<usize>,
    /// `rows × classes`, of the latest pass.
    probabilities: Vec<f64>,
    /// A number for each row, to build Gram matrices with.
    row_weights: Vec<f64>,
    passes: Vec<Pass>,
    clock: Instant,
}

/// What is minimised besides the loss.
struct Objective<'a> {
    /// For each class.
    penalty: Penalty<'a>,
    /// For each column, how strongly the sum of the classes' coefficients is held at 0, where nothing else determines it.
    ties: Vec<f64>,
}

impl<'a> Solver<'a> {
    fn new(data: &Data<'a>, settings: &Settings, method: Method, context: &'a FitContext<'a>) -> Result<Self> {
        let (block, classes) = (data.block, data.class_weights.len());
        let width = design_width(block);
        let row_bytes = (classes + 1) * block.row_count * size_of::<f64>();
        context.memory.take(row_bytes, "the probabilities of the classes")?;
        let wide = match method {
            Method::Full => 3 * (width * classes).pow(2),
            Method::Conjugate => 2 * width * width * classes,
            Method::Bound => width * width,
        };
        let matrix_bytes = (wide + 4 * width * width) * size_of::<f64>()
            + gram::pass_bytes(block.row_count, width)
            + softmax::pass_bytes(block.row_count, width, classes);
        context
            .memory
            .take(matrix_bytes, "the second derivatives of the classes")?;
        let per_step = match method {
            Method::Full => classes * (classes + 1) / 2,
            Method::Conjugate => classes,
            Method::Bound => 0,
        };
        let grams = gram::Rows::new(block, &[], 1 + EXPECTED_PASSES * per_step, context.compute);
        let weight = |class: &u8| data.class_weights.get(usize::from(*class)).copied().unwrap_or(0.0);
        let row_weights: Vec<f64> = data.classes.iter().map(weight).collect();
        let plain = grams.weighted(Some(&row_weights), None)?;
        let learned_from = |row: usize| usize::from(data.classes[row]) < classes;
        let design = Design::new(settings.coding, block, &learned_from);
        let constraints = design.constraints(&plain);
        let free = settings.l1 == 0.0 && settings.l2 == 0.0;
        let redundant = if free || width <= MAX_CHECKED_WIDTH {
            design.redundant(&plain, &constraints)
        } else {
            vec![]
        };
        Ok(Self {
            rows: Classes {
                block,
                labels: data.classes,
                weights: data.class_weights,
            },
            grams,
            context,
            method,
            width,
            plain,
            design,
            constraints,
            redundant,
            probabilities: vec![0.0; block.row_count * classes],
            row_weights,
            passes: vec![],
            clock: Instant::now(),
        })
    }

    fn classes(&self) -> usize {
        self.rows.weights.len()
    }

    fn intercept(&self) -> usize {
        self.rows.block.number_count
    }

    /// The numbers of one class.
    fn of_class(&self, all: &[f64], class: usize) -> Vec<f64> {
        all.iter().skip(class).step_by(self.classes()).copied().collect()
    }

    /// Puts the numbers of one class back.
    fn put_class(&self, all: &mut [f64], class: usize, numbers: &[f64]) {
        for (slot, number) in all.iter_mut().skip(class).step_by(self.classes()).zip(numbers) {
            *slot = *number;
        }
    }

    fn pass(&mut self, coefficients: &[f64]) -> Result<SoftmaxPass> {
        self.context.check_cancelled()?;
        let compute = self.context.compute;
        Ok(softmax_pass_f64(
            &self.rows,
            coefficients,
            &mut self.probabilities,
            compute.pool,
            compute.cancel,
        )?)
    }

    fn tell(&mut self, pass: &SoftmaxPass) {
        let told = Pass {
            training_run: 0,
            iteration: self.passes.len() as i64,
            loss: Some(pass.loss / pass.weight.max(f64::MIN_POSITIVE)),
            duration_ms: self.clock.elapsed().as_secs_f64() * 1e3,
            clusters: vec![],
        };
        self.context.observer.pass(&told);
        self.passes.push(told);
        self.clock = Instant::now();
    }

    /// Coefficients of a model without features: the logarithms of the classes' weights, about their mean.
    fn start(&self) -> Vec<f64> {
        let mut totals = vec![0.0; self.classes()];
        for class in self.rows.labels {
            if let Some(total) = totals.get_mut(usize::from(*class)) {
                *total += self.rows.weights[usize::from(*class)];
            }
        }
        let logarithms: Vec<f64> = totals.iter().map(|t| t.max(f64::MIN_POSITIVE).ln()).collect();
        let mean = logarithms.iter().sum::<f64>() / self.classes() as f64;
        let mut coefficients = vec![0.0; self.width * self.classes()];
        if !self.design.has_intercept() {
            return coefficients;
        }
        let at = self.intercept() * self.classes();
        for (c, l) in coefficients[at..].iter_mut().zip(&logarithms) {
            *c = l - mean;
        }
        coefficients
    }

    fn solve(&mut self, settings: &Settings) -> Result<Solution> {
        let redundant = self.redundant.clone();
        let held = std::mem::take(&mut self.constraints);
        let free = settings.l1 == 0.0 && settings.l2 == 0.0;
        let weight = |i: usize| self.plain.matrix[i * self.width + i] / (self.classes() * self.classes()) as f64;
        // Steps on the bound do not know them; there the intercepts are moved when all is done.
        let tied = |i: usize| self.method != Method::Bound && (free || i == self.intercept());
        let tie = |i: usize| if tied(i) { weight(i) } else { 0.0 };
        let objective = Objective {
            penalty: Penalty {
                l1: settings.l1,
                l2: settings.l2,
                intercept: self.intercept(),
                constraints: if free { &held } else { &[] },
                active: self.design.active(if free { &redundant } else { &[] }),
            },
            ties: (0..self.width).map(tie).collect(),
        };
        let solution = if self.method == Method::Bound {
            self.accelerate(&objective, settings)
        } else {
            self.newton(&objective, settings)
        };
        self.constraints = held;
        solution
    }

    fn newton(&mut self, objective: &Objective<'_>, settings: &Settings) -> Result<Solution> {
        let Settings { l1, l2, .. } = *settings;
        let first_pass = self.passes.len();
        let mut coefficients = self.start();
        let mut pass = self.pass(&coefficients)?;
        let mut value = pass.loss + self.penalty_value(objective, &coefficients);
        let (mut converged, mut separation) = (false, Separation::None);
        for iteration in 0..settings.max_iterations {
            let Some(step) = self.step(objective, &coefficients, &pass)? else {
                separation = Separation::Partial;
                break;
            };
            self.context.check_cancelled()?;
            let size = step.iter().fold(0.0f64, |m, s| m.max(s.abs()));
            if size <= settings.tolerance {
                coefficients.iter_mut().zip(&step).for_each(|(c, s)| *c -= s);
                converged = true;
                break;
            }
            // The whole step, or a half, a quarter … of it if the loss would rise.
            let mut share = 1.0;
            let better = loop {
                let next: Vec<f64> = coefficients.iter().zip(&step).map(|(c, s)| c - share * s).collect();
                let next_pass = self.pass(&next)?;
                let next_value = next_pass.loss + self.penalty_value(objective, &next);
                // So near the end, rounding decides which of the two is smaller, and the whole step is right.
                if size < 1e-5 || next_value <= value + 1e-13 * (1.0 + value.abs()) {
                    break Some((next, next_pass, next_value));
                }
                share /= 2.0;
                if share < 1e-4 {
                    break None;
                }
            };
            let Some((next, next_pass, next_value)) = better else {
                // No step in this direction lowers the loss any more: this is as near as rounding lets it come.
                converged = size < 1e-4;
                break;
            };
            let fall = value - next_value;
            (coefficients, pass, value) = (next, next_pass, next_value);
            self.tell(&pass);
            if l1 == 0.0 && l2 == 0.0 && pass.smallest_margin > 0.0 {
                separation = Separation::Perfect;
                break;
            }
            if l1 == 0.0 && l2 < SEPARATION_L2 && iteration >= 19 && share * size > 0.3 && fall < 1e-3 * value.abs() {
                separation = Separation::Partial;
                break;
            }
        }
        if self.passes.len() == first_pass {
            self.tell(&pass);
        }
        if separation == Separation::None && pass.smallest_margin > 0.0 {
            separation = Separation::Perfect;
        }
        Ok(Solution {
            coefficients,
            l2,
            converged,
            separation,
        })
    }

    /// What is added to the loss.
    fn penalty_value(&self, objective: &Objective<'_>, coefficients: &[f64]) -> f64 {
        let of_classes = (0..self.classes()).map(|k| objective.penalty.value(&self.of_class(coefficients, k)));
        let sums = coefficients.chunks_exact(self.classes()).zip(&objective.ties);
        let of_ties = sums.map(|(c, tie)| 0.5 * tie * c.iter().sum::<f64>().powi(2));
        of_classes.sum::<f64>() + of_ties.sum::<f64>()
    }

    /// Adds the gradient of what is added to the loss (but l1). It is linear in the coefficients: of a vector in their place, it is the second
    /// derivative times that vector.
    fn add_penalty_gradient(&self, objective: &Objective<'_>, coefficients: &[f64], gradient: &mut [f64]) {
        for k in 0..self.classes() {
            let mut of_class = self.of_class(gradient, k);
            objective
                .penalty
                .add_gradient(&self.of_class(coefficients, k), &mut of_class);
            self.put_class(gradient, k, &of_class);
        }
        let rows = gradient
            .chunks_exact_mut(self.classes())
            .zip(coefficients.chunks_exact(self.classes()));
        for ((g, c), tie) in rows.zip(&objective.ties) {
            let pull = tie * c.iter().sum::<f64>();
            g.iter_mut().for_each(|g| *g += pull);
        }
    }

    /// What is to be subtracted from the coefficients; none where the second derivative is singular. `pass` is the latest one.
    fn step(
        &mut self,
        objective: &Objective<'_>,
        coefficients: &[f64],
        pass: &SoftmaxPass,
    ) -> Result<Option<Vec<f64>>> {
        let mut gradient = pass.gradient.clone();
        self.add_penalty_gradient(objective, coefficients, &mut gradient);
        match self.method {
            Method::Full => self.full_step(objective, coefficients, &gradient),
            _ => self.conjugate_step(objective, &gradient),
        }
    }

    /// The block of the loss's second derivative of two classes, but for its sign where they differ.
    fn block_of(&mut self, one: usize, other: usize) -> Result<Gram> {
        let pool = self.context.compute.pool;
        curvature_f64(
            &self.rows,
            &self.probabilities,
            (one, other),
            &mut self.row_weights,
            pool,
        );
        Ok(self.grams.weighted(Some(&self.row_weights), None)?)
    }

    /// Takes out of each column's numbers what the classes have in common.
    fn center(&self, vector: &mut [f64]) {
        for of_column in vector.chunks_exact_mut(self.classes()) {
            let mean = of_column.iter().sum::<f64>() / of_column.len() as f64;
            of_column.iter_mut().for_each(|v| *v -= mean);
        }
    }
}
