//! Quadratics with an l1 penalty, by coordinate descent: the lasso and the elastic net over a Gram matrix, and the inner problem of
//! Newton's method with that penalty.
//!
//! Minimises ½ xᵀAx − bᵀx + ½·l2·‖x‖² + l1·‖x‖₁, both penalties but for some coordinates. Sweeps over the coordinates find out which of
//! them are 0 (Friedman, Hastie & Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent", 2010); once
//! the signs of the others stand, those solve a linear system, which is exact where sweeps would only come nearer.

use crate::models::normal_equations::{cholesky, cholesky_solve};

/// The optimality conditions hold to this share of the problem's own numbers.
const TOLERANCE: f64 = 1e-11;
/// No more rounds than this.
const MAX_ROUNDS: usize = 2_000;
/// Sweeps over the coordinates that are not 0, between two over all.
const INNER_SWEEPS: usize = 10;

/// A problem; see the [module](self).
pub(super) struct ElasticNet<'a> {
    /// A: symmetric, positive semidefinite, of as many columns as `linear` has numbers.
    pub(super) matrix: &'a [f64],
    /// b.
    pub(super) linear: &'a [f64],
    pub(super) l1: f64,
    pub(super) l2: f64,
    /// Which coordinates have no penalty.
    pub(super) unpenalised: &'a dyn Fn(usize) -> bool,
}

/// The b of the quadratic with second derivative `matrix` that has the gradient `gradient` at `x`.
pub(super) fn linear_term(matrix: &[f64], x: &[f64], gradient: &[f64]) -> Vec<f64> {
    matrix
        .chunks_exact(x.len().max(1))
        .zip(gradient)
        .map(|(row, g)| dot(row, x) - g)
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The coordinates and the gradient of the quadratic, Ax − b, at them.
struct State {
    x: Vec<f64>,
    gradient: Vec<f64>,
}

impl ElasticNet<'_> {
    /// The x at which the value is least, sought from `start`. Ends early, with whatever it has, once `stop` is true.
    pub(super) fn minimise(&self, start: &[f64], stop: &dyn Fn() -> bool) -> Vec<f64> {
        let all: Vec<usize> = (0..start.len()).collect();
        let mut state = self.at(start.to_vec());
        let mut signs: Vec<f64> = vec![];
        for _ in 0..MAX_ROUNDS {
            self.sweep(&all, &mut state);
            if stop() {
                break;
            }
            // Afresh: what sweeps add up drifts by rounding.
            state = self.at(state.x);
            if self.violation(&state) <= self.tolerance(&state) {
                break;
            }
            let now: Vec<f64> = all.iter().map(|j| self.sign(*j, state.x[*j])).collect();
            let active: Vec<usize> = all.iter().copied().filter(|j| now[*j] != 0.0).collect();
            if now == signs
                && let Some(solved) = self.solve(&active, &now)
            {
                let solved = self.at(solved);
                if self.violation(&solved) <= self.tolerance(&solved) {
                    return solved.x;
                }
            }
            signs = now;
            for _ in 0..INNER_SWEEPS {
                if self.sweep(&active, &mut state) == 0.0 {
                    break;
                }
            }
        }
        state.x
    }

    /// The value that is minimised.
    #[cfg(test)]
    fn value(&self, x: &[f64]) -> f64 {
        let n = x.len();
        let quadratic: f64 = (0..n).map(|i| x[i] * dot(&self.matrix[i * n..(i + 1) * n], x)).sum();
        let penalties = (0..n)
            .filter(|i| !(self.unpenalised)(*i))
            .map(|i| self.l1 * x[i].abs() + 0.5 * self.l2 * x[i] * x[i]);
        0.5 * quadratic - dot(self.linear, x) + penalties.sum::<f64>()
    }

    fn at(&self, x: Vec<f64>) -> State {
        let rows = self.matrix.chunks_exact(x.len().max(1));
        let gradient = rows.zip(self.linear).map(|(row, b)| dot(row, &x) - b).collect();
        State { x, gradient }
    }

    fn penalties(&self, j: usize) -> (f64, f64) {
        if (self.unpenalised)(j) {
            (0.0, 0.0)
        } else {
            (self.l1, self.l2)
        }
    }

    /// Takes the best value of one of `coordinates` after the other; gives the largest change.
    fn sweep(&self, coordinates: &[usize], state: &mut State) -> f64 {
        let n = state.x.len();
        let mut largest = 0.0f64;
        for j in coordinates.iter().copied() {
            let row = &self.matrix[j * n..(j + 1) * n];
            let (l1, l2) = self.penalties(j);
            let (old, curvature) = (state.x[j], row[j] + l2);
            let new = if curvature > 0.0 {
                let pull = row[j] * old - state.gradient[j];
                (pull.abs() - l1).max(0.0).copysign(pull) / curvature + 0.0
            } else if l1 > 0.0 {
                0.0
            } else {
                old
            };
            if new != old {
                let change = new - old;
                state.x[j] = new;
                for (g, a) in state.gradient.iter_mut().zip(row) {
                    *g += change * a;
                }
                largest = largest.max(change.abs());
            }
        }
        largest
    }

    /// The sign of a coordinate: 0 where it is held at 0; those without a penalty always count.
    fn sign(&self, j: usize, x: f64) -> f64 {
        if x != 0.0 {
            x.signum()
        } else if self.penalties(j).0 == 0.0 {
            1.0
        } else {
            0.0
        }
    }

    /// How far the optimality conditions are missed.
    fn violation(&self, state: &State) -> f64 {
        let of = |(j, (x, g)): (usize, (&f64, &f64))| {
            let (l1, l2) = self.penalties(j);
            if *x == 0.0 {
                (g.abs() - l1).max(0.0)
            } else {
                (g + l2 * x + l1 * x.signum()).abs()
            }
        };
        let pairs = state.x.iter().zip(&state.gradient).enumerate();
        pairs.map(of).fold(0.0, f64::max)
    }

    fn tolerance(&self, state: &State) -> f64 {
        let n = state.x.len();
        let parts = (0..n).map(|j| self.linear[j].abs().max((self.matrix[j * n + j] * state.x[j]).abs()));
        TOLERANCE * parts.fold(self.l1, f64::max)
    }

    /// The least value among points whose `active` coordinates have these signs and whose others are 0; none where it is not determined or
    /// has other signs.
    fn solve(&self, active: &[usize], signs: &[f64]) -> Option<Vec<f64>> {
        let (n, size) = (signs.len(), active.len());
        let mut matrix = vec![0.0; size * size];
        let mut solution = vec![0.0; size];
        for (b, j) in active.iter().enumerate() {
            let (l1, l2) = self.penalties(*j);
            for (a, i) in active.iter().enumerate().skip(b) {
                matrix[b * size + a] = self.matrix[i * n + j];
            }
            matrix[b * size + b] += l2;
            solution[b] = self.linear[*j] - l1 * signs[*j];
        }
        if !cholesky(&mut matrix, size) {
            return None;
        }
        cholesky_solve(&matrix, &mut solution);
        let mut x = vec![0.0; n];
        for (j, v) in active.iter().zip(&solution) {
            if self.penalties(*j).0 > 0.0 && v.signum() != signs[*j] {
                return None;
            }
            x[*j] = *v;
        }
        Some(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Gram matrix and a vector of arbitrary rows of `width` columns.
    fn problem(width: usize, rows: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
        };
        let (mut matrix, mut vector) = (vec![0.0; width * width], vec![0.0; width]);
        for _ in 0..rows {
            let shared = next();
            let mut x: Vec<f64> = (0..width).map(|_| next() + 2.0 * shared).collect();
            x[0] = 1.0;
            let y = 3.0 * x[width - 1] - x[1] + next();
            for i in 0..width {
                vector[i] += x[i] * y;
                for j in 0..width {
                    matrix[i * width + j] += x[i] * x[j];
                }
            }
        }
        (matrix, vector)
    }

    fn never() -> bool {
        false
    }

    #[test]
    fn the_optimality_conditions_hold() {
        let intercept = |i: usize| i == 0;
        for (width, rows, l1, l2) in [
            (5, 40, 1.0, 0.0),
            (30, 200, 10.0, 0.0),
            (30, 200, 5.0, 3.0),
            (60, 40, 2.0, 0.0),
            (8, 100, 0.0, 1.0),
        ] {
            let (matrix, vector) = problem(width, rows, 7);
            let net = ElasticNet {
                matrix: &matrix,
                linear: &vector,
                l1,
                l2,
                unpenalised: &intercept,
            };
            let x = net.minimise(&vec![0.0; width], &never);
            let scale = vector.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for j in 0..width {
                let g = dot(&matrix[j * width..(j + 1) * width], &x) - vector[j];
                let missed = match (j, x[j]) {
                    (0, _) => g.abs(),
                    (_, 0.0) => g.abs() - l1,
                    (_, x) => (g + l2 * x + l1 * x.signum()).abs(),
                };
                assert!(missed <= 1e-10 * scale, "{width} {l1} {l2}: {j} misses by {missed}");
            }
            assert!(
                l1 == 0.0 || width < 30 || x.iter().filter(|x| **x == 0.0).count() > width / 4,
                "{x:?}"
            );
            // Any start leads there, as far as it is the only one.
            if rows > width {
                let other = net.minimise(&vec![1.0; width], &never);
                assert!(x.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-8));
            }
        }
    }

    #[test]
    fn nothing_near_is_lower() {
        let (matrix, vector) = problem(3, 30, 11);
        let net = ElasticNet {
            matrix: &matrix,
            linear: &vector,
            l1: 8.0,
            l2: 0.5,
            unpenalised: &|i| i == 0,
        };
        let x = net.minimise(&[0.0; 3], &never);
        let least = net.value(&x);
        // Every point of a grid about it, and of one about 0.
        for step in [1e-3, 0.05, 0.5] {
            for about in [x.clone(), vec![0.0; 3]] {
                for i in 0..9i32.pow(3) {
                    let at = |j: u32| about[j as usize] + f64::from(i / 9i32.pow(j) % 9 - 4) * step;
                    assert!(net.value(&[at(0), at(1), at(2)]) >= least - 1e-12 * least.abs());
                }
            }
        }
    }

    #[test]
    fn twins_and_empty_columns_are_no_trouble() {
        // The same column twice, and one that is always 0.
        let matrix = [4.0, 4.0, 0.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0];
        let net = ElasticNet {
            matrix: &matrix,
            linear: &[6.0, 6.0, 0.0],
            l1: 1.0,
            l2: 0.0,
            unpenalised: &|_| false,
        };
        let x = net.minimise(&[0.0, 0.0, 3.0], &never);
        assert!((x[0] + x[1] - 1.25).abs() < 1e-12 && x[2] == 0.0, "{x:?}");
        // Enough of a penalty leaves nothing.
        let net = ElasticNet { l1: 6.5, ..net };
        assert_eq!(net.minimise(&[1.0, -1.0, 0.0], &never), [0.0; 3]);
        // Told to stop, it does.
        assert!(net.minimise(&[1.0, -1.0, 0.0], &|| true).iter().all(|x| x.is_finite()));
    }
}
