//! The eigenvectors of a symmetric matrix, each in one form: which of all that are right does not depend on rounding.
//!
//! An eigenvector's sign is free, and so is the basis of a space whose eigenvalues coincide (or differ by less than [`SAME`] of the
//! largest). The sign is that at which the entry of largest magnitude is positive. The basis takes the coordinate axes in turn: first
//! the projection of the axis that lies nearest to the space, then that of what is left, and so on.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatRef, Par};

/// Eigenvalues that differ by less, as a share of the largest, are one.
const SAME: f64 = 1e-9;

/// What is less, as a share of the largest eigenvalue, is rounding of 0.
const NOISE: f64 = 1e-10;

/// Entries whose magnitudes differ by less, as a share, are as large: the first leads.
const AS_LARGE: f64 = 1e-6;

/// An eigenvalue and its eigenvector, of length 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Eigen {
    pub(super) value: f64,
    pub(super) vector: Vec<f64>,
}

/// About how many bytes [`eigenvectors`] takes for a matrix of `n` rows.
pub(super) fn eigen_bytes(n: usize) -> usize {
    5 * n * n * size_of::<f64>()
}

/// The positive eigenvalues, the largest first, with their eigenvectors, of a symmetric matrix of `n` rows without negative ones; none
/// where they cannot be found. On one thread: the result must not depend on how many there are.
pub(super) fn eigenvectors(matrix: &[f64], n: usize) -> Option<Vec<Eigen>> {
    if matrix.len() != n * n || !matrix.iter().all(|x| x.is_finite()) {
        return None;
    }
    let (mut values, mut vectors) = (Diag::<f64>::zeros(n), Mat::<f64>::zeros(n, n));
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    self_adjoint_evd(
        MatRef::from_column_major_slice(matrix, n, n),
        values.as_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .ok()?;
    let values = values.column_vector();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let largest = order.first().map_or(0.0, |j| values[*j]);
    if !largest.is_finite() {
        return None;
    }
    let mut all: Vec<Eigen> = order
        .into_iter()
        .filter(|j| values[*j] > NOISE * largest && values[*j] > 0.0)
        .map(|j| Eigen {
            value: values[j],
            vector: (0..n).map(|i| vectors[(i, j)]).collect(),
        })
        .collect();
    let tolerance = SAME * largest;
    for group in all.chunk_by_mut(|a, b| a.value - b.value <= tolerance) {
        if group.len() > 1 {
            take_axes_in_turn(group);
        }
    }
    for eigen in &mut all {
        point_up(&mut eigen.vector);
    }
    Some(all)
}

/// The place of the largest of these, the first of those that are as large.
fn largest(values: &[f64]) -> usize {
    let most = values.iter().fold(0.0, |a: f64, b| a.max(*b));
    values.iter().position(|v| *v >= most * (1.0 - AS_LARGE)).unwrap_or(0)
}

/// Turns a vector so that its entry of largest magnitude is positive.
fn point_up(vector: &mut [f64]) {
    let magnitudes: Vec<f64> = vector.iter().map(|x| x.abs()).collect();
    if vector.get(largest(&magnitudes)).is_some_and(|x| *x < 0.0) {
        vector.iter_mut().for_each(|x| *x = -*x);
    }
}

/// Another basis of the space of these vectors: the projections of the axes nearest to it, each made orthogonal to those before.
fn take_axes_in_turn(group: &mut [Eigen]) {
    let width = group.first().map_or(0, |e| e.vector.len());
    let mut left: Vec<Vec<f64>> = group.iter().map(|e| e.vector.clone()).collect();
    for eigen in group.iter_mut() {
        // The squared length of each axis' projection onto what is left of the space.
        let lengths: Vec<f64> = (0..width).map(|i| left.iter().map(|v| v[i] * v[i]).sum()).collect();
        let axis = largest(&lengths);
        let length = lengths.get(axis).copied().unwrap_or(0.0).sqrt();
        if length <= 0.0 {
            return;
        }
        let shares: Vec<f64> = left.iter().map(|v| v[axis] / length).collect();
        let taken: Vec<f64> = (0..width)
            .map(|i| left.iter().zip(&shares).map(|(v, q)| v[i] * q).sum())
            .collect();
        for (v, q) in left.iter_mut().zip(&shares) {
            v.iter_mut().zip(&taken).for_each(|(x, t)| *x -= q * t);
        }
        eigen.vector = taken;
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// XᵀX of random rows, the last columns sums of others if `rank` is less than `n`.
    fn moments(n: usize, rank: usize, seed: u64) -> Vec<f64> {
        let mut random = Pcg64::seed_from_u64(seed);
        let rows: Vec<Vec<f64>> = (0..3 * n)
            .map(|_| {
                let mut row: Vec<f64> = (0..rank).map(|_| random.random::<f64>() - 0.5).collect();
                row.extend((rank..n).map(|i| (i % rank) as f64).collect::<Vec<_>>());
                for i in rank..n {
                    row[i] = row[i % rank] - row[(i + 1) % rank];
                }
                row
            })
            .collect();
        let entry = |i: usize, j: usize| rows.iter().map(|r| r[i] * r[j]).sum::<f64>();
        (0..n * n).map(|at| entry(at / n, at % n)).collect()
    }

    fn assert_eigen(matrix: &[f64], n: usize, all: &[Eigen]) {
        let scale = all[0].value.abs().max(1e-300);
        for (a, e) in all.iter().enumerate() {
            for i in 0..n {
                let product: f64 = (0..n).map(|j| matrix[i * n + j] * e.vector[j]).sum();
                assert!((product - e.value * e.vector[i]).abs() < 2e-9 * scale);
            }
            for (b, other) in all.iter().enumerate() {
                let dot: f64 = e.vector.iter().zip(&other.vector).map(|(x, y)| x * y).sum();
                assert!((dot - f64::from(u8::from(a == b))).abs() < 1e-9, "{a} {b}: {dot}");
            }
            let top = e.vector.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            assert!(e.vector.iter().any(|x| *x >= top * (1.0 - AS_LARGE)));
        }
        assert!(all.windows(2).all(|w| w[0].value >= w[1].value));
    }

    #[test]
    fn the_matrix_stretches_each_vector_by_its_value() {
        for (n, rank) in [(1, 1), (2, 2), (3, 3), (9, 9), (9, 5), (40, 40), (70, 33)] {
            let matrix = moments(n, rank, n as u64);
            let all = eigenvectors(&matrix, n).unwrap();
            assert_eq!(all.len(), rank);
            assert_eigen(&matrix, n, &all);
            let trace: f64 = (0..n).map(|i| matrix[i * n + i]).sum();
            assert!((all.iter().map(|e| e.value).sum::<f64>() - trace).abs() < 1e-10 * trace);
        }
    }

    #[test]
    fn coinciding_values_have_one_basis() {
        // 3 twice and 1: along (1, 1, 1), and anything across.
        let third = 1.0 / 3.0;
        let entry = |i: usize, j: usize| if i == j { 3.0 - 2.0 * third } else { -2.0 * third };
        let matrix: Vec<f64> = (0..9).map(|at| entry(at / 3, at % 3)).collect();
        let all = eigenvectors(&matrix, 3).unwrap();
        assert_eigen(&matrix, 3, &all);
        let first = [(2.0f64 / 3.0).sqrt(), -(1.0f64 / 6.0).sqrt(), -(1.0f64 / 6.0).sqrt()];
        let second = [0.0, 0.5f64.sqrt(), -(0.5f64.sqrt())];
        for (e, expected) in all.iter().zip([first, second]) {
            assert!(
                e.vector.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
                "{e:?}"
            );
        }
        // A little noise does not turn it.
        let noisy: Vec<f64> = matrix
            .iter()
            .enumerate()
            .map(|(i, x)| x + if i == 4 { 1e-13 } else { 0.0 })
            .collect();
        for (a, b) in all.iter().zip(eigenvectors(&noisy, 3).unwrap()) {
            assert!(a.vector.iter().zip(&b.vector).all(|(x, y)| (x - y).abs() < 1e-9));
        }
    }

    #[test]
    fn what_is_no_matrix_has_none() {
        assert_eq!(eigenvectors(&[1.0, f64::NAN, f64::NAN, 1.0], 2), None);
        assert_eq!(eigenvectors(&[1.0], 2), None);
    }
}
