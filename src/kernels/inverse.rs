//! `inverse_f64`: the inverse of a symmetric positive definite matrix, in place.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;

use crate::Cancelled;
use crate::cpu::has_avx2_fma;

/// Rows of a block: the steps of the inverse.
const BLOCK: usize = 128;
/// Columns of a tile: two AVX2 registers.
const PANEL: usize = 8;
/// Rows of a tile: 6 × 8 sums are 12 of AVX2's 16 registers, enough to hide the latency of a multiply-add.
const TILE_ROWS: usize = 6;

/// Bytes that [`inverse_f64`] takes beside its matrix of `m × m`.
pub fn inverse_bytes(m: usize) -> usize {
    m * BLOCK * 3 * size_of::<f64>()
}

/// Inverts a symmetric positive definite matrix in place: `m × m`, row-major, the lower triangle alone read and written.
///
/// The blocked sweep operator (Goodnight, "A Tutorial on the SWEEP Operator", 1979): it needs one matrix where a Cholesky
/// factorization, its inverse and their product need two, at the same number of operations. Every number is one thread's
/// sum in a fixed order, so the result does not depend on how many threads there are.
///
/// False if the matrix is not positive definite; what is left in `a` then means nothing.
///
/// # Errors
/// `cancel` was set.
pub fn inverse_f64(a: &mut [f64], m: usize, pool: &ThreadPool, cancel: &AtomicBool) -> Result<bool, Cancelled> {
    let mut columns = vec![0f64; m * BLOCK];
    let mut scaled = vec![0f64; m * BLOCK];
    let mut panels = vec![0f64; m.next_multiple_of(PANEL) * BLOCK];
    for k0 in (0..m).step_by(BLOCK) {
        if cancel.load(Ordering::Relaxed) {
            return Err(Cancelled);
        }
        let width = BLOCK.min(m - k0);
        // The block's columns, all rows of them, from the lower triangle.
        let (columns, scaled) = (&mut columns[..m * width], &mut scaled[..m * width]);
        for (i, row) in columns.chunks_exact_mut(width).enumerate() {
            for (q, value) in row.iter_mut().enumerate() {
                let k = k0 + q;
                *value = a[i.max(k) * m + i.min(k)];
            }
        }
        let mut pivot = columns[k0 * width..(k0 + width) * width].to_vec();
        if !invert_block(&mut pivot, width) {
            return Ok(false);
        }
        let mut pivot_panels = vec![0f64; width.next_multiple_of(PANEL) * width];
        pack(&pivot, width, &mut pivot_panels);
        let (columns, panels) = (&*columns, &mut panels[..m.next_multiple_of(PANEL) * width]);
        pool.install(|| {
            let rows = BLOCK * width;
            panels
                .par_chunks_mut(rows)
                .zip(columns.par_chunks(rows))
                .for_each(|(panels, columns)| {
                    pack(columns, width, panels);
                });
            scaled
                .par_chunks_mut(rows)
                .zip(columns.par_chunks(rows))
                .for_each(|(scaled, columns)| {
                    multiply(columns, width, &pivot_panels, width, |row, column, sums| {
                        scaled[row * width + column..][..sums.len()].copy_from_slice(sums);
                    });
                });
            let (scaled, panels) = (&*scaled, &*panels);
            a.par_chunks_mut(BLOCK * m).enumerate().for_each(|(block, rows)| {
                let i0 = block * BLOCK;
                if i0 == k0 {
                    for (q, row) in rows.chunks_exact_mut(m).enumerate() {
                        for (j, value) in row[..k0].iter_mut().enumerate() {
                            *value = scaled[j * width + q];
                        }
                        for (value, pivot) in row[k0..k0 + width].iter_mut().zip(&pivot[q * width..]) {
                            *value = -*pivot;
                        }
                    }
                    return;
                }
                let end = i0 + rows.len() / m;
                let left = &scaled[i0 * width..end * width];
                multiply(left, width, panels, end, |row, column, sums| {
                    for (value, sum) in rows[row * m + column..].iter_mut().zip(sums) {
                        *value -= *sum;
                    }
                });
                if i0 > k0 {
                    for (row, left) in rows.chunks_exact_mut(m).zip(left.chunks_exact(width)) {
                        row[k0..k0 + width].copy_from_slice(left);
                    }
                }
            });
        });
    }
    // Sweeping every block leaves minus the inverse.
    pool.install(|| a.par_iter_mut().for_each(|v| *v = -*v));
    Ok(true)
}

/// Lays out the transpose of `rows` (each of `depth` numbers) in panels of 8 columns, zeros after the last.
fn pack(rows: &[f64], depth: usize, panels: &mut [f64]) {
    for (panel, rows) in panels.chunks_exact_mut(PANEL * depth).zip(rows.chunks(PANEL * depth)) {
        panel.fill(0.0);
        for (l, row) in rows.chunks_exact(depth).enumerate() {
            for (k, value) in row.iter().enumerate() {
                panel[k * PANEL + l] = *value;
            }
        }
    }
}

/// The product of `left` (rows of `depth` numbers) and the first `columns` columns of [`pack`]'s panels: `put` is given each
/// row, first column and the sums from there on.
fn multiply(left: &[f64], depth: usize, panels: &[f64], columns: usize, mut put: impl FnMut(usize, usize, &[f64])) {
    let fma = has_avx2_fma();
    for (p, panel) in panels
        .chunks_exact(PANEL * depth)
        .take(columns.div_ceil(PANEL))
        .enumerate()
    {
        let width = PANEL.min(columns - p * PANEL);
        for (t, rows) in left.chunks(TILE_ROWS * depth).enumerate() {
            let count = rows.len() / depth;
            // A short tile repeats its last row.
            let tile: [&[f64]; TILE_ROWS] = std::array::from_fn(|r| &rows[r.min(count - 1) * depth..][..depth]);
            let sums = tile_product(&tile, panel, fma);
            for (r, sums) in sums.iter().take(count).enumerate() {
                put(t * TILE_ROWS + r, p * PANEL, &sums[..width]);
            }
        }
    }
}

/// Six rows times one panel, each sum a single chain.
fn tile_product(rows: &[&[f64]; TILE_ROWS], panel: &[f64], fma: bool) -> [[f64; PANEL]; TILE_ROWS] {
    #[cfg(target_arch = "x86_64")]
    if fma {
        // SAFETY: `fma` is true only where AVX2 and FMA were found.
        return unsafe { avx2::tile_product(rows, panel) };
    }
    let _ = fma;
    let mut sums = [[0f64; PANEL]; TILE_ROWS];
    for (row, sums) in rows.iter().zip(&mut sums) {
        for (x, columns) in row.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, y) in sums.iter_mut().zip(columns) {
                *sum += x * y;
            }
        }
    }
    sums
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_broadcast_sd, _mm256_fmadd_pd, _mm256_loadu_pd, _mm256_setzero_pd, _mm256_storeu_pd,
    };

    use super::{PANEL, TILE_ROWS};

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn tile_product(rows: &[&[f64]; TILE_ROWS], panel: &[f64]) -> [[f64; PANEL]; TILE_ROWS] {
        let depth = panel.len() / PANEL;
        assert!(rows.iter().all(|row| row.len() >= depth));
        let rows: [*const f64; TILE_ROWS] = rows.map(<[f64]>::as_ptr);
        let mut sums = [[_mm256_setzero_pd(); 2]; TILE_ROWS];
        for k in 0..depth {
            // SAFETY: `k < depth`, and the assertion above.
            unsafe {
                let columns = panel.as_ptr().add(k * PANEL);
                let (low, high) = (_mm256_loadu_pd(columns), _mm256_loadu_pd(columns.add(4)));
                for (row, sum) in rows.iter().zip(sums.iter_mut()) {
                    let x = _mm256_broadcast_sd(&*row.add(k));
                    *sum = [_mm256_fmadd_pd(x, low, sum[0]), _mm256_fmadd_pd(x, high, sum[1])];
                }
            }
        }
        let mut out = [[0f64; PANEL]; TILE_ROWS];
        for (out, sum) in out.iter_mut().zip(sums) {
            // SAFETY: a row of `out` is two registers.
            unsafe {
                _mm256_storeu_pd(out.as_mut_ptr(), sum[0]);
                _mm256_storeu_pd(out.as_mut_ptr().add(4), sum[1]);
            }
        }
        out
    }
}

/// Inverts a small symmetric matrix, `n × n`, all of it; false if it is not positive definite.
fn invert_block(a: &mut [f64], n: usize) -> bool {
    let mut pivot_row = vec![0f64; n];
    for k in 0..n {
        pivot_row.copy_from_slice(&a[k * n..(k + 1) * n]);
        let pivot = pivot_row[k];
        if !(pivot > 0.0 && pivot.is_finite()) {
            return false;
        }
        for (i, row) in a.chunks_exact_mut(n).enumerate() {
            if i == k {
                row.iter_mut().for_each(|v| *v /= pivot);
                row[k] = -1.0 / pivot;
            } else {
                let share = row[k] / pivot;
                row.iter_mut().zip(&pivot_row).for_each(|(v, p)| *v -= share * p);
                row[k] = share;
            }
        }
    }
    a.iter_mut().for_each(|v| *v = -*v);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_is_one() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let cancel = AtomicBool::new(false);
        for m in [1usize, 2, 127, 128, 129, 300] {
            let entry = |i: usize, j: usize| {
                let far = (i as f64 - j as f64).abs();
                (-far / 5.0).exp() + if i == j { 0.5 } else { 0.0 }
            };
            let mut a = vec![f64::NAN; m * m];
            for i in 0..m {
                for j in 0..=i {
                    a[i * m + j] = entry(i, j);
                }
            }
            assert!(inverse_f64(&mut a, m, &pool, &cancel).unwrap());
            for i in 0..m {
                for j in 0..m {
                    let product: f64 = (0..m).map(|k| a[i.max(k) * m + i.min(k)] * entry(k, j)).sum();
                    let expected = if i == j { 1.0 } else { 0.0 };
                    assert!((product - expected).abs() < 1e-10, "{m}: {i}, {j}: {product}");
                }
            }
        }
        assert!(!inverse_f64(&mut [0.0], 1, &pool, &cancel).unwrap());
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(inverse_f64(&mut [1.0], 1, &pool, &cancel), Err(Cancelled));
    }
}
