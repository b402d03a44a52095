//! Newton's steps by conjugate gradients: the second derivative is never written out, only multiplied with.

use rayon::prelude::*;

use super::{Objective, Solver};
use crate::error::Result;
use crate::kernels::softmax::softmax_product_f64;
use crate::models::normal_equations::Penalty;

/// What the classes' own blocks may take as preconditioners.
const MAX_BLOCK_BYTES: usize = 1 << 30;
/// A step by conjugate gradients is this near to Newton's.
const CONJUGATE_TOLERANCE: f64 = 1e-4;
/// No more products than this for a step.
const MAX_CONJUGATE: usize = 500;

impl Solver<'_> {
    /// Factors of the classes' own blocks with their penalties; of one for all classes where those would take too much memory.
    fn preconditioners(&mut self, penalty: &Penalty<'_>) -> Result<Option<Vec<Vec<f64>>>> {
        if self.classes() * self.width * self.width * size_of::<f64>() > MAX_BLOCK_BYTES {
            let mut bound = self.plain.clone();
            bound.matrix.iter_mut().for_each(|m| *m *= 0.5);
            return Ok(penalty.factor(&bound).map(|f| vec![f]));
        }
        let mut factors = vec![];
        for k in 0..self.classes() {
            let block = self.block_of(k, k)?;
            match penalty.factor(&block) {
                Some(factor) => factors.push(factor),
                None => return Ok(None),
            }
        }
        Ok(Some(factors))
    }

    /// Newton's step by conjugate gradients, among steps whose classes add up to 0: the gradient is one of them, and so is the solution.
    pub(super) fn conjugate_step(&mut self, objective: &Objective<'_>, gradient: &[f64]) -> Result<Option<Vec<f64>>> {
        let penalty = &objective.penalty;
        let Some(factors) = self.preconditioners(penalty)? else {
            return Ok(None);
        };
        let pool = self.context.compute.pool;
        let mut inactive = vec![true; self.width];
        penalty.active.iter().for_each(|i| inactive[*i] = false);
        let classes = self.classes();
        let clear = |vector: &mut [f64]| {
            for (of_column, inactive) in vector.chunks_exact_mut(classes).zip(&inactive) {
                if *inactive {
                    of_column.fill(0.0);
                }
            }
        };
        let precondition = |this: &Self, residual: &[f64]| -> Vec<f64> {
            let of_class = |k: usize| {
                let factor = factors.get(k).or(factors.first());
                factor.map(|factor| penalty.solve(factor, &this.of_class(residual, k)))
            };
            let solved: Vec<Option<Vec<f64>>> = pool.install(|| (0..classes).into_par_iter().map(of_class).collect());
            let mut out = vec![0.0; residual.len()];
            for (k, solved) in solved.iter().enumerate() {
                if let Some(solved) = solved {
                    this.put_class(&mut out, k, solved);
                }
            }
            this.center(&mut out);
            out
        };
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };

        let mut residual = gradient.to_vec();
        clear(&mut residual);
        self.center(&mut residual);
        let mut step = vec![0.0; residual.len()];
        let mut preconditioned = precondition(self, &residual);
        let mut direction = preconditioned.clone();
        let mut norm = dot(&residual, &preconditioned);
        let enough = norm * CONJUGATE_TOLERANCE * CONJUGATE_TOLERANCE;
        for _ in 0..MAX_CONJUGATE {
            if norm <= enough {
                break;
            }
            self.context.check_cancelled()?;
            let mut product = softmax_product_f64(
                &self.rows,
                &self.probabilities,
                &direction,
                pool,
                self.context.compute.cancel,
            )?;
            self.add_penalty_gradient(objective, &direction, &mut product);
            clear(&mut product);
            self.center(&mut product);
            let curvature = dot(&direction, &product);
            if curvature <= 0.0 {
                break;
            }
            let length = norm / curvature;
            step.iter_mut().zip(&direction).for_each(|(s, d)| *s += length * d);
            residual.iter_mut().zip(&product).for_each(|(r, p)| *r -= length * p);
            preconditioned = precondition(self, &residual);
            let next = dot(&residual, &preconditioned);
            let turn = next / norm;
            norm = next;
            direction
                .iter_mut()
                .zip(&preconditioned)
                .for_each(|(d, p)| *d = p + turn * *d);
        }
        Ok(step.iter().all(|s| s.is_finite()).then_some(step))
    }
}
