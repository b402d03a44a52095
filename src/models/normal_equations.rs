//! Penalised normal equations over the design `[numbers…, 1, categories…]` of [`crate::kernels::gram`]: what least squares solves once and
//! a Newton step each time.
//!
//! One-hot columns of all categories add up to the intercept. Where no penalty decides between equal solutions, the coefficients of a
//! feature's categories are held to a sum of 0, which changes no prediction.

use std::ops::Range;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::{MatMut, Par};

use crate::error::list;
use crate::features::{Encoder, NumberColumn};
use crate::kernels::gram::Gram;
use crate::models::elastic_net::{self, ElasticNet};

/// What is left of a column once the columns before it are taken out, as a share, below which it says nothing new.
const COLLINEAR: f64 = 1e-10;

/// A sum of coefficients that is held at 0, where nothing else determines it: one feature's categories.
pub(super) struct SumToZero {
    pub(super) columns: Vec<usize>,
    pub(super) strength: f64,
}

/// For each of these groups of columns, that its coefficients add up to 0. Columns without a row take no part.
pub(super) fn sum_to_zero(groups: impl Iterator<Item = Range<usize>>, intercept: usize, gram: &Gram) -> Vec<SumToZero> {
    let total = gram.matrix[intercept * gram.width + intercept];
    let weight = |i: usize| gram.matrix[i * gram.width + i];
    let of_group = |group: Range<usize>| {
        let columns: Vec<usize> = group.filter(|i| weight(*i) > 0.0).collect();
        // Any strength gives the same solution; one between the weight of a row and of a category keeps the matrix well
        // conditioned.
        let strength = (total / (columns.len().max(1) as f64).powi(2) * 1e-3).max(1.0);
        SumToZero { columns, strength }
    };
    groups.map(of_group).filter(|c| !c.columns.is_empty()).collect()
}

/// What people call the columns of an encoder's design.
pub(super) fn encoder_names(encoder: &Encoder) -> Vec<String> {
    design_names(encoder.numbers().iter().map(NumberColumn::full_name), encoder)
}

/// What people call the columns of a design that has these numbers and an encoder's categories.
pub(super) fn design_names(numbers: impl Iterator<Item = String>, encoder: &Encoder) -> Vec<String> {
    let categories = encoder.codes().iter().flat_map(|c| {
        (0..c.level_count()).map(move |code| format!("{} = {}", c.name, c.category(code).unwrap_or_default()))
    });
    numbers.chain([String::from("intercept")]).chain(categories).collect()
}

/// What the user should know of redundant columns of a design; none if there are none. `penalties` are l1 and l2.
pub(super) fn redundancy(redundant: &[usize], names: &[String], penalties: (f64, f64)) -> Option<String> {
    if redundant.is_empty() {
        return None;
    }
    let what = match penalties {
        (0.0, 0.0) => "their coefficients are 0".to_string(),
        (l1, 0.0) => format!("the penalty l1 = {l1} leaves open how they share the effect"),
        (_, l2) => format!("the penalty l2 = {l2} shares the effect among them"),
    };
    Some(format!(
        "constant or a linear combination of other columns: {}; {what}",
        list(redundant.iter().filter_map(|i| names.get(*i)), 5)
    ))
}

/// What is added to the loss.
#[derive(Clone)]
pub(super) struct Penalty<'a> {
    pub(super) l1: f64,
    pub(super) l2: f64,
    pub(super) intercept: usize,
    pub(super) constraints: &'a [SumToZero],
    /// The columns whose coefficients may move, in the order of elimination.
    pub(super) active: Vec<usize>,
}

impl Penalty<'_> {
    pub(super) fn value(&self, coefficients: &[f64]) -> f64 {
        let (mut squares, mut sizes) = (0.0, 0.0);
        for (i, c) in coefficients.iter().enumerate() {
            if i != self.intercept {
                squares += c * c;
                sizes += c.abs();
            }
        }
        let sums = self.constraints.iter().map(|c| {
            let sum: f64 = c.columns.iter().map(|i| coefficients[*i]).sum();
            c.strength * sum * sum
        });
        self.l1 * sizes + 0.5 * (self.l2 * squares + sums.sum::<f64>())
    }

    /// Adds the gradient of all that is added to the loss, but for l1.
    pub(super) fn add_gradient(&self, coefficients: &[f64], gradient: &mut [f64]) {
        for (i, g) in gradient.iter_mut().enumerate() {
            if i != self.intercept {
                *g += self.l2 * coefficients[i];
            }
        }
        for constraint in self.constraints {
            let sum: f64 = constraint.columns.iter().map(|i| coefficients[*i]).sum();
            for i in &constraint.columns {
                gradient[*i] += constraint.strength * sum;
            }
        }
    }

    /// The Cholesky factor of the second derivative: column-major, the lower triangle.
    pub(super) fn factor(&self, gram: &Gram) -> Option<Vec<f64>> {
        let n = self.active.len();
        let mut matrix = vec![0.0; n * n];
        let mut place = vec![usize::MAX; gram.width];
        for (b, j) in self.active.iter().enumerate() {
            place[*j] = b;
            for (a, i) in self.active.iter().enumerate().skip(b) {
                matrix[b * n + a] = gram.matrix[i * gram.width + j];
            }
            if *j != self.intercept {
                matrix[b * n + b] += self.l2;
            }
        }
        for constraint in self.constraints {
            let places: Vec<usize> = constraint
                .columns
                .iter()
                .map(|i| place[*i])
                .filter(|p| *p != usize::MAX)
                .collect();
            for b in &places {
                for a in places.iter().filter(|a| *a >= b) {
                    matrix[b * n + a] += constraint.strength;
                }
            }
        }
        cholesky(&mut matrix, n).then_some(matrix)
    }

    /// What is to be subtracted from the coefficients to reach the least value of the quadratic that has this gradient (`gram.vector`) and
    /// second derivative at them, with all that is added. Ends early, anywhere, once `stop` is true.
    pub(super) fn step(&self, gram: &Gram, coefficients: &[f64], stop: &dyn Fn() -> bool) -> Option<Vec<f64>> {
        if self.l1 > 0.0 {
            return self.sparse_step(gram, coefficients, stop);
        }
        let factor = self.factor(gram)?;
        let mut gradient = gram.vector.clone();
        self.add_gradient(coefficients, &mut gradient);
        let step = self.solve(&factor, &gradient);
        step.iter().all(|s| s.is_finite()).then_some(step)
    }

    /// Solves with a factor of [`Penalty::factor`]; columns that are not active have 0.
    pub(super) fn solve(&self, factor: &[f64], vector: &[f64]) -> Vec<f64> {
        let mut solution: Vec<f64> = self.active.iter().map(|i| vector[*i]).collect();
        cholesky_solve(factor, &mut solution);
        let mut out = vec![0.0; vector.len()];
        for (i, s) in self.active.iter().zip(&solution) {
            out[*i] = *s;
        }
        out
    }

    fn sparse_step(&self, gram: &Gram, coefficients: &[f64], stop: &dyn Fn() -> bool) -> Option<Vec<f64>> {
        let best = self.minimum(gram, coefficients, stop);
        let step: Vec<f64> = coefficients.iter().zip(&best).map(|(c, b)| c - b).collect();
        step.iter().all(|s| s.is_finite()).then_some(step)
    }

    /// Where the quadratic that has this gradient (`gram.vector`) and second derivative at `coefficients` is least with both penalties;
    /// columns that are not active keep their 0.
    pub(super) fn minimum(&self, gram: &Gram, coefficients: &[f64], stop: &dyn Fn() -> bool) -> Vec<f64> {
        let (n, width) = (self.active.len(), gram.width);
        let mut matrix = vec![0.0; n * n];
        for (row, i) in matrix.chunks_exact_mut(n.max(1)).zip(&self.active) {
            let from = &gram.matrix[i * width..(i + 1) * width];
            row.iter_mut().zip(&self.active).for_each(|(to, j)| *to = from[*j]);
        }
        let of_active = |all: &[f64]| -> Vec<f64> { self.active.iter().map(|i| all[*i]).collect() };
        let start = of_active(coefficients);
        let problem = ElasticNet {
            matrix: &matrix,
            linear: &elastic_net::linear_term(&matrix, &start, &of_active(&gram.vector)),
            l1: self.l1,
            l2: self.l2,
            unpenalised: &|a| self.active.get(a) == Some(&self.intercept),
        };
        let best = problem.minimise(&start, stop);
        let mut all = vec![0.0; width];
        self.active.iter().zip(&best).for_each(|(i, b)| all[*i] = *b);
        all
    }

    /// Square roots of the diagonal of the second derivative's inverse for the active columns, none for the others. Those are of the fit in
    /// which the constraints hold.
    pub(super) fn standard_errors(&self, gram: &Gram) -> Option<Vec<Option<f64>>> {
        let n = self.active.len();
        let factor = self.factor(gram)?;
        let mut place = vec![None; gram.width];
        self.active.iter().enumerate().for_each(|(a, i)| place[*i] = Some(a));
        // M⁻¹C: M is the second derivative with the constraints' strengths, C has a column for each of them.
        let mut held = vec![];
        let mut normals = vec![];
        for constraint in self.constraints {
            let places: Vec<usize> = constraint.columns.iter().filter_map(|i| place[*i]).collect();
            if places.is_empty() {
                continue;
            }
            let mut column = vec![0.0; n];
            places.iter().for_each(|a| column[*a] = 1.0);
            cholesky_solve(&factor, &mut column);
            held.push(column);
            normals.push(places);
        }
        // CᵀM⁻¹C.
        let k = held.len();
        let mut inner = vec![0.0; k * k];
        for (b, column) in held.iter().enumerate() {
            for (a, places) in normals.iter().enumerate() {
                inner[b * k + a] = places.iter().map(|p| column[*p]).sum();
            }
        }
        if k > 0 && !cholesky(&mut inner, k) {
            return None;
        }
        let mut errors = vec![None; gram.width];
        let mut unit = vec![0.0; n];
        for (a, i) in self.active.iter().enumerate() {
            unit.fill(0.0);
            unit[a] = 1.0;
            cholesky_solve(&factor, &mut unit);
            // What holds has no variance: M⁻¹ − M⁻¹C (CᵀM⁻¹C)⁻¹ CᵀM⁻¹.
            let row: Vec<f64> = held.iter().map(|column| column[a]).collect();
            let mut solved = row.clone();
            cholesky_solve(&inner, &mut solved);
            let taken: f64 = row.iter().zip(&solved).map(|(r, s)| r * s).sum();
            errors[*i] = Some((unit[a] - taken).max(0.0).sqrt());
        }
        Some(errors)
    }
}

/// Factors a symmetric matrix (column-major, lower triangle) in place; false where it is not positive definite. On one thread:
/// the result must not depend on how many there are.
pub(super) fn cholesky(matrix: &mut [f64], n: usize) -> bool {
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    let view = MatMut::from_column_major_slice_mut(matrix, n, n);
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(view, Default::default(), Par::Seq, stack, Default::default()).is_ok()
        && (0..n).all(|i| matrix[i * n + i].is_finite() && matrix[i * n + i] > 0.0)
}

/// Solves with a factor of [`cholesky`], in place.
pub(super) fn cholesky_solve(factor: &[f64], x: &mut [f64]) {
    let n = x.len();
    for j in 0..n {
        let column = &factor[j * n..(j + 1) * n];
        x[j] /= column[j];
        let v = x[j];
        for (x, l) in x[j + 1..].iter_mut().zip(&column[j + 1..]) {
            *x -= v * l;
        }
    }
    for j in (0..n).rev() {
        let column = &factor[j * n..(j + 1) * n];
        let dot: f64 = x[j + 1..].iter().zip(&column[j + 1..]).map(|(x, l)| x * l).sum();
        x[j] = (x[j] - dot) / column[j];
    }
}

/// The columns of which, once the columns before them in `order` are taken out, nothing is left: tiny pivots of the Gram matrix scaled to
/// a diagonal of 1, with the constraints as further rows of the design.
pub(super) fn redundant_columns(gram: &Gram, order: &[usize], constraints: &[SumToZero]) -> Vec<usize> {
    let n = order.len();
    let mut place = vec![0; gram.width];
    order.iter().enumerate().for_each(|(a, i)| place[*i] = a);
    // Row-major, lower triangle.
    let mut matrix = vec![0.0; n * n];
    for (a, i) in order.iter().enumerate() {
        for (b, j) in order[..=a].iter().enumerate() {
            matrix[a * n + b] = gram.matrix[i * gram.width + j];
        }
    }
    for constraint in constraints {
        for i in &constraint.columns {
            for j in constraint.columns.iter().filter(|j| place[**j] <= place[*i]) {
                matrix[place[*i] * n + place[*j]] += constraint.strength;
            }
        }
    }
    let scales: Vec<f64> = (0..n)
        .map(|a| matrix[a * n + a])
        .map(|d| if d > 0.0 { 1.0 / d.sqrt() } else { 0.0 })
        .collect();
    let mut redundant = vec![];
    for a in 0..n {
        let (above, row) = matrix.split_at_mut(a * n);
        let row = &mut row[..n];
        let mut pivot = if scales[a] > 0.0 { 1.0 } else { 0.0 };
        for b in 0..a {
            let other = &above[b * n..b * n + n];
            let dot: f64 = row[..b].iter().zip(&other[..b]).map(|(x, y)| x * y).sum();
            let value = row[b] * scales[a] * scales[b] - dot;
            row[b] = if other[b] > 0.0 { value / other[b] } else { 0.0 };
            pivot -= row[b] * row[b];
        }
        if pivot > COLLINEAR {
            row[a] = pivot.sqrt();
        } else {
            row[..=a].fill(0.0);
            redundant.push(order[a]);
        }
    }
    redundant
}
