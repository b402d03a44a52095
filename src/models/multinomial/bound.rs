//! Accelerated steps on a quadratic upper bound of the loss, for l1 where the second derivative is too large to be written out.

use rayon::prelude::*;

use super::{Objective, Solution, Solver};
use crate::error::Result;
use crate::kernels::gram::Gram;
use crate::kernels::softmax::SoftmaxPass;
use crate::models::logistic::{Separation, Settings};
use crate::models::normal_equations::Penalty;

/// So many accelerated steps count as a Newton step.
const STEPS_FOR_NEWTON: usize = 100;

impl Solver<'_> {
    /// Accelerated steps, each to the least value of the quadratic upper bound with its penalties: ½ ‖·‖² in the plain Gram matrix, halved, for
    /// each class.
    pub(super) fn accelerate(&mut self, objective: &Objective<'_>, settings: &Settings) -> Result<Solution> {
        let mut bound = self.plain.clone();
        bound.matrix.iter_mut().for_each(|m| *m *= 0.5);
        let first_pass = self.passes.len();
        let mut coefficients = self.start();
        let mut ahead = coefficients.clone();
        let (mut speed, mut value, mut converged) = (1.0f64, f64::INFINITY, false);
        let mut pass = self.pass(&coefficients)?;
        for _ in 0..settings.max_iterations.saturating_mul(STEPS_FOR_NEWTON) {
            let next = self.bounded_step(&objective.penalty, &bound, &ahead, &pass)?;
            let moved = next.iter().zip(&ahead).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
            let next_pass = self.pass(&next)?;
            let next_value = next_pass.loss + self.penalty_value(objective, &next);
            if speed > 1.0 && next_value > value {
                // It overshot: from here again, without a run-up.
                speed = 1.0;
                ahead.clone_from(&coefficients);
                pass = self.pass(&coefficients)?;
                continue;
            }
            let faster = (1.0 + (1.0 + 4.0 * speed * speed).sqrt()) / 2.0;
            let run_up = (speed - 1.0) / faster;
            ahead = next
                .iter()
                .zip(&coefficients)
                .map(|(n, c)| n + run_up * (n - c))
                .collect();
            (coefficients, speed, value) = (next, faster, next_value);
            self.tell(&next_pass);
            if moved <= settings.tolerance {
                converged = true;
                break;
            }
            pass = self.pass(&ahead)?;
        }
        if self.passes.len() == first_pass {
            self.tell(&pass);
        }
        let intercepts = self.intercept() * self.classes();
        self.center(&mut coefficients[intercepts..intercepts + self.rows.weights.len()]);
        let last = self.pass(&coefficients)?;
        Ok(Solution {
            coefficients,
            l2: settings.l2,
            converged,
            separation: if last.smallest_margin > 0.0 {
                Separation::Perfect
            } else {
                Separation::None
            },
        })
    }

    fn bounded_step(&self, penalty: &Penalty<'_>, bound: &Gram, at: &[f64], pass: &SoftmaxPass) -> Result<Vec<f64>> {
        let compute = self.context.compute;
        let of_class = |k: usize| {
            let curvature = Gram {
                vector: self.of_class(&pass.gradient, k),
                matrix: bound.matrix.clone(),
                width: bound.width,
            };
            penalty.minimum(&curvature, &self.of_class(at, k), &|| compute.is_cancelled())
        };
        let solved: Vec<Vec<f64>> = compute
            .pool
            .install(|| (0..self.classes()).into_par_iter().map(of_class).collect());
        self.context.check_cancelled()?;
        let mut next = vec![0.0; at.len()];
        for (k, solved) in solved.iter().enumerate() {
            self.put_class(&mut next, k, solved);
        }
        Ok(next)
    }
}
