//! Newton's steps by the second derivative of all coefficients, written out.

use super::{Objective, Solver};
use crate::error::Result;
use crate::models::elastic_net::{ElasticNet, linear_term};
use crate::models::normal_equations::{cholesky, cholesky_solve};

impl Solver<'_> {
    /// Newton's step by the second derivative of all coefficients; with l1, by coordinate descent.
    pub(super) fn full_step(
        &mut self,
        objective: &Objective<'_>,
        coefficients: &[f64],
        gradient: &[f64],
    ) -> Result<Option<Vec<f64>>> {
        let (classes, width) = (self.classes(), self.width);
        let active = &objective.penalty.active;
        let n = active.len() * classes;
        let mut matrix = vec![0.0; n * n];
        for one in 0..classes {
            for other in 0..=one {
                let block = self.block_of(one, other)?;
                let sign = if one == other { 1.0 } else { -1.0 };
                for (a, i) in active.iter().enumerate() {
                    for (b, j) in active.iter().enumerate() {
                        let entry = sign * block.matrix[i * width + j];
                        matrix[(a * classes + one) * n + b * classes + other] = entry;
                        matrix[(b * classes + other) * n + a * classes + one] = entry;
                    }
                }
            }
        }
        self.add_penalty_curvature(objective, &mut matrix);
        let places: Vec<usize> = active
            .iter()
            .flat_map(|i| (0..classes).map(move |k| i * classes + k))
            .collect();
        let mut solution: Vec<f64> = places.iter().map(|i| gradient[*i]).collect();
        if objective.penalty.l1 > 0.0 {
            let at: Vec<f64> = places.iter().map(|i| coefficients[*i]).collect();
            let linear = linear_term(&matrix, &at, &solution);
            let free = places.iter().position(|i| i / classes == self.intercept()).unwrap_or(n);
            let problem = ElasticNet {
                matrix: &matrix,
                linear: &linear,
                l1: objective.penalty.l1,
                // In the matrix already.
                l2: 0.0,
                unpenalised: &|i| (free..free + classes).contains(&i),
            };
            let best = problem.minimise(&at, &|| self.context.compute.is_cancelled());
            solution = at.iter().zip(&best).map(|(c, b)| c - b).collect();
        } else {
            if !cholesky(&mut matrix, n) {
                return Ok(None);
            }
            cholesky_solve(&matrix, &mut solution);
        }
        let mut step = vec![0.0; coefficients.len()];
        places.iter().zip(&solution).for_each(|(i, s)| step[*i] = *s);
        Ok(step.iter().all(|s| s.is_finite()).then_some(step))
    }

    /// Adds the second derivative of what is added to the loss to that of the loss, over the active columns.
    fn add_penalty_curvature(&self, objective: &Objective<'_>, matrix: &mut [f64]) {
        let (classes, penalty) = (self.classes(), &objective.penalty);
        let n = penalty.active.len() * classes;
        let mut place = vec![None; self.width];
        penalty.active.iter().enumerate().for_each(|(a, i)| place[*i] = Some(a));
        for (a, i) in penalty.active.iter().enumerate() {
            let l2 = if *i == penalty.intercept { 0.0 } else { penalty.l2 };
            for k in 0..classes {
                let row = (a * classes + k) * n + a * classes;
                matrix[row + k] += l2;
                matrix[row..row + classes]
                    .iter_mut()
                    .for_each(|m| *m += objective.ties[*i]);
            }
        }
        for constraint in penalty.constraints {
            let places: Vec<usize> = constraint.columns.iter().filter_map(|i| place[*i]).collect();
            for a in &places {
                for b in &places {
                    for k in 0..classes {
                        matrix[(a * classes + k) * n + b * classes + k] += constraint.strength;
                    }
                }
            }
        }
    }
}
