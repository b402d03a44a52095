//! Factor solve: one half-sweep of alternating least squares, implicit or explicit.
//!
//! With one side's factors `Y` held fixed, each row `u` of the other side has its own least-squares problem over *all*
//! columns (Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008):
//!
//! ```text
//! minimise  Σ_i c_ui (p_ui − x·y_i)² + ridge_u ‖x‖²      c_ui = α₀ + w_ui, p_ui = 1 where observed; α₀ and 0 elsewhere
//! A x = b,  A = α₀·YᵀY + Σ_observed w_ui·y_i y_iᵀ + ridge_u·I,   b = Σ_observed c_ui·y_i
//! ```
//!
//! With targets `t_ui` of its own for each observed pair and `α₀ = 0` it is explicit least squares, `b = Σ_observed w_ui·t_ui·y_i`.
//!
//! `YᵀY` is computed once, so that a row costs its own entries alone: the rows of `Y` are gathered into a small panel,
//! `A`'s upper triangle is updated tile by tile in registers, and a blocked Cholesky reuses the same tile for its trailing
//! updates. Rows are independent and each adds its entries in their order, so the threads don't change a bit.

mod alternation;
pub(crate) mod cuda;
#[cfg(test)]
mod tests_card;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod twin;

pub use self::alternation::{Alternation, Iteration, Side};

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::cpu::has_avx2_fma;

/// Numbers in a register.
const LANES: usize = 8;
/// Columns of a tile, and what a row of `A` is padded to.
const TILE_COLUMNS: usize = 16;
/// Rows of a tile, most of the time: 6 × 16 sums are 12 of AVX2's 16 registers, which hides the latency of a multiply-add.
const TALL: usize = 6;
/// Rows of the tiles that make up the rest: every multiple of 16 is a number of sixes and at most two fours.
const SHORT: usize = 4;
/// Entries gathered at a time: at 64 factors the panel is 8 KiB and stays in the first-level cache beside the tiles.
const PANEL_ENTRIES: usize = 32;
/// Rows with more entries than this are split into chunks that several threads add up.
const HEAVY_ENTRIES: usize = 32_768;
/// A pivot that lost more than this share of its diagonal to cancellation is not trusted in f32.
const PIVOT_TOLERANCE: f32 = 1e-4;

/// Fused multiply-add is part of the target, so that `mul_add` is one instruction without asking at run time.
const BASE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// One side of the factorization, to be solved while the other is held fixed.
#[derive(Debug, Clone, Copy)]
pub struct HalfSweep<'a> {
    /// Row `r` has entries `offsets[r]..offsets[r + 1]`: rows + 1 numbers.
    pub offsets: &'a [usize],
    /// The column (row of [`HalfSweep::factors`]) of each entry.
    pub columns: &'a [u32],
    /// The weight `w ≥ 0` of each entry, on top of the unobserved weight.
    pub weights: &'a [f32],
    /// The fixed side: columns × [`HalfSweep::factor_count`], row-major.
    pub factors: &'a [f32],
    /// How many factors.
    pub factor_count: usize,
    /// The weight `α₀ ≥ 0` of every pair, observed or not.
    pub unobserved_weight: f32,
    /// What is added to the diagonal for each row.
    pub ridges: &'a [f32],
    /// What each entry's product is to be near; 1, and 0 for pairs that were not observed, without. With targets the unobserved weight
    /// is to be 0.
    pub targets: Option<&'a [f32]>,
}

impl HalfSweep<'_> {
    /// How much of the factors of an entry's column goes into the right side.
    #[inline(always)]
    fn pull(&self, entry: usize) -> f32 {
        match self.targets {
            Some(targets) => self.weights[entry] * targets[entry],
            None => self.weights[entry] + self.unobserved_weight,
        }
    }
}

/// Solves every row of a half-sweep exactly: `solution` is rows × factors, row-major, and is overwritten. Returns `Σ b·x`
/// over all rows, from which the loss follows: at the solution, a row's `Σ c (p − x·y)² + ridge ‖x‖²` is `Σ_observed c − b·x`, or
/// `Σ_observed w t² − b·x` with targets.
///
/// A row that f32 cannot solve reliably is solved in f64; directions without any weight come out as 0. Once `cancel` is
/// set, the remaining rows are left as they were.
pub fn factor_f32(sweep: &HalfSweep<'_>, solution: &mut [f32], pool: &rayon::ThreadPool, cancel: &AtomicBool) -> f64 {
    let n = sweep.factor_count;
    let rows = sweep.offsets.len().saturating_sub(1);
    if rows == 0 || n == 0 {
        return 0.0;
    }
    let fma = has_avx2_fma();
    pool.install(|| {
        let base = weighted_gram(sweep, fma);
        let mut gains = vec![0f64; rows];
        let heavy = solve_light_rows(sweep, &base, solution, &mut gains, fma, cancel);
        for row in heavy {
            if cancel.load(Ordering::Relaxed) {
                break;
            }
            gains[row] = solve_heavy_row(sweep, row, &base, &mut solution[row * n..(row + 1) * n], fma);
        }
        gains.iter().sum()
    })
}

/// `YᵀY` times the unobserved weight, padded: the upper triangle by tiles.
struct Base {
    exact: Vec<f64>,
    narrow: Vec<f32>,
}

fn padded(n: usize) -> usize {
    n.next_multiple_of(TILE_COLUMNS)
}

fn weighted_gram(sweep: &HalfSweep<'_>, fma: bool) -> Base {
    let (n, stride) = (sweep.factor_count, padded(sweep.factor_count));
    let row_count = sweep.factors.len() / n;
    // Few, large parts for many factors: each holds a matrix in f64.
    let most_parts = if n <= 256 { 64 } else { 16 };
    let part_rows = row_count.div_ceil(most_parts).max(1024);
    let parts: Vec<Vec<f64>> = if sweep.unobserved_weight > 0.0 {
        sweep
            .factors
            .par_chunks(part_rows * n)
            .map(|part| gram_part(part, n, stride, fma))
            .collect()
    } else {
        vec![]
    };
    let mut exact = vec![0f64; stride * stride];
    for part in parts {
        for (total, value) in exact.iter_mut().zip(&part) {
            *total += *value;
        }
    }
    let weight = f64::from(sweep.unobserved_weight);
    exact.iter_mut().for_each(|v| *v *= weight);
    let narrow = exact.iter().map(|v| *v as f32).collect();
    Base { exact, narrow }
}

/// The Gram matrix of some rows: sums of 1,024 rows in f32, those in f64.
fn gram_part(rows: &[f32], n: usize, stride: usize, fma: bool) -> Vec<f64> {
    let mut total = vec![0f64; stride * stride];
    let mut scratch = Scratch::new(n);
    for block in rows.chunks(1024 * n) {
        scratch.a.fill(0.0);
        for entries in block.chunks(PANEL_ENTRIES * n) {
            for (slot, row) in scratch.panel.chunks_exact_mut(stride).zip(entries.chunks_exact(n)) {
                slot[..n].copy_from_slice(row);
            }
            scratch.update(entries.len() / n, fma);
        }
        for (t, v) in total.iter_mut().zip(&scratch.a) {
            *t += f64::from(*v);
        }
    }
    total
}

/// Solves the rows that one thread can take whole; returns the others.
fn solve_light_rows(
    sweep: &HalfSweep<'_>,
    base: &Base,
    solution: &mut [f32],
    gains: &mut [f64],
    fma: bool,
    cancel: &AtomicBool,
) -> Vec<usize> {
    let n = sweep.factor_count;
    let rows = sweep.offsets.len() - 1;
    let entries = |row: usize| sweep.offsets[row + 1] - sweep.offsets[row];
    // A row costs n² per entry and n³/3 to factorise: in units of n², its entries and n/3.
    let cost = |row: usize| {
        if entries(row) > HEAVY_ENTRIES {
            1
        } else {
            entries(row) + n / 3 + 1
        }
    };
    let total: usize = (0..rows).map(cost).sum();
    let target = total.div_ceil(rayon::current_num_threads() * 16).max(1);
    let mut tasks = vec![];
    let (mut solution, mut gains) = (solution, gains);
    let (mut begin, mut sum) = (0, 0);
    for row in 0..rows {
        sum += cost(row);
        if sum >= target || row + 1 == rows {
            let (out, rest) = std::mem::take(&mut solution).split_at_mut((row + 1 - begin) * n);
            let (gain, gain_rest) = std::mem::take(&mut gains).split_at_mut(row + 1 - begin);
            (solution, gains) = (rest, gain_rest);
            tasks.push((begin, out, gain));
            (begin, sum) = (row + 1, 0);
        }
    }
    tasks.into_par_iter().for_each_init(
        || Scratch::new(n),
        |scratch, (begin, out, gain)| {
            for (i, (x, gain)) in out.chunks_exact_mut(n).zip(gain).enumerate() {
                let row = begin + i;
                if entries(row) > HEAVY_ENTRIES || cancel.load(Ordering::Relaxed) {
                    continue;
                }
                *gain = scratch.solve_row(sweep, row, base, x, fma);
            }
        },
    );
    (0..rows).filter(|row| entries(*row) > HEAVY_ENTRIES).collect()
}

/// A row of very many entries: chunks in parallel, their sums added in order, solved in f64.
fn solve_heavy_row(sweep: &HalfSweep<'_>, row: usize, base: &Base, x: &mut [f32], fma: bool) -> f64 {
    let (n, stride) = (sweep.factor_count, padded(sweep.factor_count));
    let (begin, end) = (sweep.offsets[row], sweep.offsets[row + 1]);
    // The chunks depend on the row alone, never on the threads.
    let chunk = (end - begin).div_ceil(if n <= 256 { 64 } else { 16 }).max(8192);
    let starts: Vec<usize> = (begin..end).step_by(chunk).collect();
    let parts: Vec<(Vec<f32>, Vec<f32>)> = starts
        .par_iter()
        .map(|start| {
            let mut scratch = Scratch::new(n);
            scratch.add_entries(sweep, *start, (start + chunk).min(end), fma);
            (scratch.a, scratch.b)
        })
        .collect();
    let mut a = base.exact.clone();
    let mut b = vec![0f64; stride];
    for (part_a, part_b) in parts {
        a.iter_mut().zip(&part_a).for_each(|(t, v)| *t += f64::from(*v));
        b.iter_mut().zip(&part_b).for_each(|(t, v)| *t += f64::from(*v));
    }
    for i in 0..n {
        a[i * stride + i] += f64::from(sweep.ridges[row]);
    }
    solve_f64(&mut a, &mut b, n, stride, x)
}

/// What one thread needs to solve rows.
struct Scratch {
    n: usize,
    stride: usize,
    /// `stride × stride`, the upper triangle by tiles; what lies below the diagonal is never read as such.
    a: Vec<f32>,
    /// Gathered rows, each padded with zeros to `stride`.
    panel: Vec<f32>,
    b: Vec<f32>,
    /// `b` as it was before the solve.
    right: Vec<f32>,
    /// The diagonal before the factorization; then the inverse roots of the pivots.
    diagonal: Vec<f32>,
}

impl Scratch {
    fn new(n: usize) -> Self {
        let stride = padded(n);
        Self {
            n,
            stride,
            a: vec![0.0; stride * stride],
            panel: vec![0.0; PANEL_ENTRIES * stride],
            b: vec![0.0; stride],
            right: vec![0.0; stride],
            diagonal: vec![0.0; stride],
        }
    }

    /// Adds `Σ panel panelᵀ` of the first `entries` panel rows to the upper triangle.
    fn update(&mut self, entries: usize, fma: bool) {
        #[cfg(target_arch = "x86_64")]
        if fma {
            // SAFETY: `fma` is true only where AVX2 and FMA were found.
            return unsafe { avx2::update(&mut self.a, &self.panel, entries, self.stride) };
        }
        let _ = fma;
        // SAFETY: `Portable` uses nothing special.
        unsafe { update_with::<Portable>(&mut self.a, &self.panel, entries, self.stride) };
    }

    /// Adds entries `begin..end` to `a` and `b`.
    fn add_entries(&mut self, sweep: &HalfSweep<'_>, begin: usize, end: usize, fma: bool) {
        #[cfg(target_arch = "x86_64")]
        if fma {
            // SAFETY: as in `update`.
            return unsafe { avx2::add_entries(self, sweep, begin, end) };
        }
        let _ = fma;
        // SAFETY: as in `update`.
        unsafe { add_entries_with::<Portable>(self, sweep, begin, end) };
    }

    /// Solves `a x = b` in place of `b`; false if f32 is not enough.
    fn solve(&mut self, fma: bool) -> bool {
        #[cfg(target_arch = "x86_64")]
        if fma {
            // SAFETY: as in `update`.
            return unsafe { avx2::solve(&mut self.a, &mut self.b, &mut self.diagonal, self.stride) };
        }
        let _ = fma;
        // SAFETY: as in `update`.
        unsafe { solve_with::<Portable>(&mut self.a, &mut self.b, &mut self.diagonal, self.stride) }
    }

    fn solve_row(&mut self, sweep: &HalfSweep<'_>, row: usize, base: &Base, x: &mut [f32], fma: bool) -> f64 {
        let (begin, end) = (sweep.offsets[row], sweep.offsets[row + 1]);
        if begin == end {
            // Nothing observed: b is 0, so x is.
            x.fill(0.0);
            return 0.0;
        }
        self.a.copy_from_slice(&base.narrow);
        self.b.fill(0.0);
        self.add_entries(sweep, begin, end, fma);
        for i in 0..self.stride {
            let d = &mut self.a[i * self.stride + i];
            *d = if i < self.n { *d + sweep.ridges[row] } else { 1.0 };
            self.diagonal[i] = *d;
        }
        self.right.copy_from_slice(&self.b);
        if self.solve(fma) && self.b.iter().all(|v| v.is_finite()) {
            x.copy_from_slice(&self.b[..self.n]);
            return x
                .iter()
                .zip(&self.right)
                .map(|(x, b)| f64::from(*x) * f64::from(*b))
                .sum();
        }
        solve_row_f64(sweep, row, base, x)
    }
}

/// The whole row in f64, for the few that need it.
fn solve_row_f64(sweep: &HalfSweep<'_>, row: usize, base: &Base, x: &mut [f32]) -> f64 {
    let (n, stride) = (sweep.factor_count, padded(sweep.factor_count));
    let mut a = base.exact.clone();
    let mut b = vec![0f64; stride];
    for e in sweep.offsets[row]..sweep.offsets[row + 1] {
        let y = &sweep.factors[sweep.columns[e] as usize * n..][..n];
        let weight = f64::from(sweep.weights[e]);
        let pull = match sweep.targets {
            Some(targets) => weight * f64::from(targets[e]),
            None => weight + f64::from(sweep.unobserved_weight),
        };
        for i in 0..n {
            let yi = f64::from(y[i]);
            b[i] += pull * yi;
            let scaled = weight * yi;
            for (t, v) in a[i * stride + i..i * stride + n].iter_mut().zip(&y[i..]) {
                *t += scaled * f64::from(*v);
            }
        }
    }
    for i in 0..n {
        a[i * stride + i] += f64::from(sweep.ridges[row]);
    }
    solve_f64(&mut a, &mut b, n, stride, x)
}

/// Cholesky of the upper triangle in f64; a direction whose pivot vanishes gets 0. Returns `b·x`.
fn solve_f64(a: &mut [f64], b: &mut [f64], n: usize, stride: usize, x: &mut [f32]) -> f64 {
    let right = b.to_vec();
    let original: Vec<f64> = (0..n).map(|i| a[i * stride + i]).collect();
    for k in 0..n {
        let pivot = a[k * stride + k];
        let (head, tail) = a.split_at_mut((k + 1) * stride);
        let row = &mut head[k * stride..];
        if !(pivot > original[k] * 1e-13 && pivot.is_finite()) {
            row[k..n].fill(0.0);
            b[k] = 0.0;
            continue;
        }
        let inverse = 1.0 / pivot.sqrt();
        row[k..n].iter_mut().for_each(|v| *v *= inverse);
        b[k] *= inverse;
        let bk = b[k];
        for (i, target) in (k + 1..n).zip(tail.chunks_exact_mut(stride)) {
            let f = row[i];
            b[i] -= f * bk;
            for (t, v) in target[i..n].iter_mut().zip(&row[i..n]) {
                *t -= f * *v;
            }
        }
    }
    for k in (0..n).rev() {
        let row = &a[k * stride..k * stride + n];
        let rest: f64 = row[k + 1..].iter().zip(&b[k + 1..n]).map(|(u, x)| u * x).sum();
        b[k] = if row[k] > 0.0 { (b[k] - rest) / row[k] } else { 0.0 };
    }
    for (x, v) in x.iter_mut().zip(b.iter()) {
        *x = if v.is_finite() { *v as f32 } else { 0.0 };
    }
    x.iter().zip(&right).map(|(x, b)| f64::from(*x) * b).sum()
}

/// Eight numbers in a register, or what a machine has instead. Everything below is written once over them.
///
/// All methods are unsafe: the machine must have what the implementation uses, and pointers must lead to eight numbers.
trait Lanes: Copy {
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn times(self, other: Self) -> Self;
    /// `self·other + sum`.
    unsafe fn times_plus(self, other: Self, sum: Self) -> Self;
    /// `sum − self·other`.
    unsafe fn times_from(self, other: Self, sum: Self) -> Self;
    unsafe fn sum(self) -> f32;
    /// Asks for the cache line at `from`, which will be read soon.
    unsafe fn prefetch(_from: *const f32) {}
}

/// A fixed array, which a compiler turns into whatever vectors the target has.
#[derive(Clone, Copy)]
struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, sum: Self, f: impl Fn(f32, f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|l| f(self.0[l], other.0[l], sum.0[l])))
    }
}

impl Lanes for Portable {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; an array of f32 is aligned as f32 is.
        Self(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { *to.cast() = self.0 };
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn times(self, other: Self) -> Self {
        self.zip(other, other, |a, b, _| a * b)
    }
    #[inline(always)]
    unsafe fn times_plus(self, other: Self, sum: Self) -> Self {
        // Without the instruction, `mul_add` is a slow function of the C library.
        self.zip(other, sum, |a, b, c| if BASE_FMA { a.mul_add(b, c) } else { a * b + c })
    }
    #[inline(always)]
    unsafe fn times_from(self, other: Self, sum: Self) -> Self {
        self.zip(
            other,
            sum,
            |a, b, c| if BASE_FMA { (-a).mul_add(b, c) } else { c - a * b },
        )
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let v = self.0;
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
}

/// Adds (or, if `SUBTRACT`, takes away) `Σ_e panel[e][i] · panel[e][j..j + 16]` to the columns from `j` on of each row
/// `i` of `rows` of `a`, tile by tile.
///
/// # Safety
/// `panel` has `entries` rows and `a` at least `rows.end`, each of `stride ≥ rows.end, j + 16` numbers; `rows` are a multiple
/// of 16 and none of the panel's; the machine has what `V` uses.
#[inline(always)]
unsafe fn strip<V: Lanes, const SUBTRACT: bool>(
    panel: *const f32,
    entries: usize,
    (rows, j): (Range<usize>, usize),
    a: *mut f32,
    stride: usize,
) {
    let mut i = rows.start;
    // SAFETY: the caller's promise; no tile begins that does not fit.
    unsafe {
        while (rows.end - i).is_multiple_of(TALL) || rows.end - i > 2 * SHORT {
            if i == rows.end {
                return;
            }
            tile::<V, SUBTRACT, TALL>(panel, entries, (i, j), a, stride);
            i += TALL;
        }
        while i < rows.end {
            tile::<V, SUBTRACT, SHORT>(panel, entries, (i, j), a, stride);
            i += SHORT;
        }
    }
}

/// One tile of [`strip`], of `ROWS` rows from `i` on.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
unsafe fn tile<V: Lanes, const SUBTRACT: bool, const ROWS: usize>(
    panel: *const f32,
    entries: usize,
    (i, j): (usize, usize),
    a: *mut f32,
    stride: usize,
) {
    // SAFETY: all addresses lie in the tile and in the panel's rows, by the caller's promise.
    unsafe {
        let corner = a.add(i * stride + j);
        let mut sums = [[V::splat(0.0); 2]; ROWS];
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = [V::load(corner.add(r * stride)), V::load(corner.add(r * stride + LANES))];
        }
        for e in 0..entries {
            let row = panel.add(e * stride);
            let right = [V::load(row.add(j)), V::load(row.add(j + LANES))];
            for (r, sum) in sums.iter_mut().enumerate() {
                let left = V::splat(*row.add(i + r));
                if SUBTRACT {
                    *sum = [left.times_from(right[0], sum[0]), left.times_from(right[1], sum[1])];
                } else {
                    *sum = [left.times_plus(right[0], sum[0]), left.times_plus(right[1], sum[1])];
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            sum[0].store(corner.add(r * stride));
            sum[1].store(corner.add(r * stride + LANES));
        }
    }
}

/// See [`Scratch::update`].
///
/// # Safety
/// The machine has what `V` uses.
#[inline(always)]
unsafe fn update_with<V: Lanes>(a: &mut [f32], panel: &[f32], entries: usize, stride: usize) {
    assert!(a.len() >= stride * stride && panel.len() >= entries * stride && stride.is_multiple_of(TILE_COLUMNS));
    for j in (0..stride).step_by(TILE_COLUMNS) {
        // SAFETY: the assertion above, and j + 16 ≤ stride.
        unsafe {
            strip::<V, false>(
                panel.as_ptr(),
                entries,
                (0..j + TILE_COLUMNS, j),
                a.as_mut_ptr(),
                stride,
            )
        };
    }
}

/// See [`Scratch::add_entries`].
///
/// # Safety
/// The machine has what `V` uses.
#[inline(always)]
unsafe fn add_entries_with<V: Lanes>(scratch: &mut Scratch, sweep: &HalfSweep<'_>, begin: usize, end: usize) {
    let (n, stride) = (scratch.n, scratch.stride);
    let whole = n / LANES * LANES;
    let mut at = begin;
    while at < end {
        let entries = (end - at).min(PANEL_ENTRIES);
        for (e, slot) in scratch.panel.chunks_exact_mut(stride).take(entries).enumerate() {
            let y = &sweep.factors[sweep.columns[at + e] as usize * n..][..n];
            let weight = sweep.weights[at + e];
            let pull = sweep.pull(at + e);
            // Both factors of y yᵀ come from one panel, so each takes the root of the weight.
            let root = weight.sqrt();
            // SAFETY: `whole ≤ n ≤ stride`, which is the length of all three.
            unsafe {
                let (root, pull) = (V::splat(root), V::splat(pull));
                for c in (0..whole).step_by(LANES) {
                    let y = V::load(y.as_ptr().add(c));
                    root.times(y).store(slot.as_mut_ptr().add(c));
                    let b = scratch.b.as_mut_ptr().add(c);
                    pull.times_plus(y, V::load(b)).store(b);
                }
            }
            for c in whole..n {
                slot[c] = root * y[c];
                scratch.b[c] += pull * y[c];
            }
        }
        at += entries;
        // The next panel's rows are scattered: they travel while this panel is worked on.
        for e in at..end.min(at + PANEL_ENTRIES) {
            let y = &sweep.factors[sweep.columns[e] as usize * n..][..n];
            for line in y.chunks(16) {
                // SAFETY: an address inside a slice.
                unsafe { V::prefetch(line.as_ptr()) };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { update_with::<V>(&mut scratch.a, &scratch.panel, entries, stride) };
    }
}

/// Solves `a x = b` for the upper triangle of `a`, which is overwritten; `b` becomes `x` and `diagonal` the inverse roots
/// of the pivots. False if a pivot is not to be trusted.
///
/// # Safety
/// The machine has what `V` uses.
#[inline(always)]
unsafe fn solve_with<V: Lanes>(a: &mut [f32], b: &mut [f32], diagonal: &mut [f32], stride: usize) -> bool {
    assert!(a.len() >= stride * stride && stride.is_multiple_of(TILE_COLUMNS));
    assert!(b.len() == stride && diagonal.len() == stride);
    for k0 in (0..stride).step_by(TILE_COLUMNS) {
        let next = k0 + TILE_COLUMNS;
        // SAFETY: blocks begin at multiples of 16 below `stride`, so all that follows lies in `a`, `b` and `diagonal`;
        // the trailing tiles lie in rows from `next` on, their panel above.
        unsafe {
            let a = a.as_mut_ptr();
            if !factorise_block::<V>(
                a.add(k0 * stride + k0),
                &mut b[k0..next],
                &mut diagonal[k0..next],
                stride,
            ) {
                return false;
            }
            let mut j = next;
            while j + 4 * LANES <= stride {
                factorise_strip::<V, 4>(a, b, diagonal, (k0, j), stride);
                j += 4 * LANES;
            }
            if j < stride {
                factorise_strip::<V, 2>(a, b, diagonal, (k0, j), stride);
            }
            for j in (next..stride).step_by(TILE_COLUMNS) {
                strip::<V, true>(a.add(k0 * stride), TILE_COLUMNS, (next..j + TILE_COLUMNS, j), a, stride);
            }
        }
    }
    for k0 in (0..stride).step_by(TILE_COLUMNS).rev() {
        let mut rest = [0f32; TILE_COLUMNS];
        for (r, rest) in rest.iter_mut().enumerate() {
            // SAFETY: as above.
            unsafe {
                let row = a.as_ptr().add((k0 + r) * stride);
                let mut sum = V::splat(0.0);
                for j in (k0 + TILE_COLUMNS..stride).step_by(LANES) {
                    sum = V::load(row.add(j)).times_plus(V::load(b.as_ptr().add(j)), sum);
                }
                *rest = b[k0 + r] - sum.sum();
            }
        }
        for r in (0..TILE_COLUMNS).rev() {
            let x = rest[r] * diagonal[k0 + r];
            b[k0 + r] = x;
            for (q, rest) in rest.iter_mut().enumerate().take(r) {
                *rest -= a[(k0 + q) * stride + k0 + r] * x;
            }
        }
    }
    true
}

/// Cholesky of the 16 × 16 block at `block`, and forward substitution of its part of `b`. Rubbish may come to lie left
/// of the diagonal; nothing reads it.
///
/// # Safety
/// `block` leads to 16 rows of 16 numbers, `stride` apart; the machine has what `V` uses.
#[inline(always)]
unsafe fn factorise_block<V: Lanes>(block: *mut f32, b: &mut [f32], diagonal: &mut [f32], stride: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..TILE_COLUMNS {
            let row = block.add(r * stride);
            let pivot = *row.add(r);
            if !(pivot > PIVOT_TOLERANCE * diagonal[r] && pivot.is_finite()) {
                return false;
            }
            // The rows below wait for the division alone; the root is off the critical path.
            let inverse = 1.0 / pivot;
            diagonal[r] = 1.0 / pivot.sqrt();
            let halves = [V::load(row), V::load(row.add(LANES))];
            for q in r + 1..TILE_COLUMNS {
                let share = *row.add(q) * inverse;
                b[q] -= share * b[r];
                let (share, target) = (V::splat(share), block.add(q * stride));
                if q < LANES {
                    share.times_from(halves[0], V::load(target)).store(target);
                }
                let target = target.add(LANES);
                share.times_from(halves[1], V::load(target)).store(target);
            }
        }
        for r in 0..TILE_COLUMNS {
            let (row, scale) = (block.add(r * stride), V::splat(diagonal[r]));
            V::load(row).times(scale).store(row);
            V::load(row.add(LANES)).times(scale).store(row.add(LANES));
            b[r] *= diagonal[r];
        }
    }
    true
}

/// The 16 rows of the factor from `k0` on, in `8·W` columns from `j` on, and what they take away from `b` there.
///
/// # Safety
/// The block at `k0` is factorised; `a` is `stride × stride` with `k0 + 16 ≤ j` and `j + 8·W ≤ stride`; the machine has
/// what `V` uses.
#[inline(always)]
unsafe fn factorise_strip<V: Lanes, const W: usize>(
    a: *mut f32,
    b: &mut [f32],
    diagonal: &[f32],
    (k0, j): (usize, usize),
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (block, strip) = (a.add(k0 * stride + k0), a.add(k0 * stride + j));
        let right = b.as_mut_ptr().add(j);
        let mut rests = [V::splat(0.0); W];
        for (w, rest) in rests.iter_mut().enumerate() {
            *rest = V::load(right.add(w * LANES));
        }
        for r in 0..TILE_COLUMNS {
            let row = strip.add(r * stride);
            let mut sums = [V::splat(0.0); W];
            for (w, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(row.add(w * LANES));
            }
            for q in 0..r {
                let share = V::splat(*block.add(q * stride + r));
                let above = strip.add(q * stride);
                for (w, sum) in sums.iter_mut().enumerate() {
                    *sum = share.times_from(V::load(above.add(w * LANES)), *sum);
                }
            }
            let (scale, solved) = (V::splat(diagonal[k0 + r]), V::splat(b[k0 + r]));
            for (w, (sum, rest)) in sums.iter().zip(rests.iter_mut()).enumerate() {
                let value = sum.times(scale);
                value.store(row.add(w * LANES));
                *rest = solved.times_from(value, *rest);
            }
        }
        for (w, rest) in rests.iter().enumerate() {
            rest.store(right.add(w * LANES));
        }
    }
}

/// The same bodies compiled for AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _MM_HINT_T0, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps, _mm_prefetch,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps,
        _mm256_mul_ps, _mm256_set1_ps, _mm256_storeu_ps,
    };

    use super::{HalfSweep, Lanes, Scratch, add_entries_with, solve_with, update_with};

    #[derive(Clone, Copy)]
    struct Avx2(__m256);

    // SAFETY of all methods: the trait's promise, that the machine has AVX2 and FMA and pointers lead to eight numbers.
    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) };
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn times(self, other: Self) -> Self {
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn times_plus(self, other: Self, sum: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(self.0, other.0, sum.0) })
        }
        #[inline(always)]
        unsafe fn times_from(self, other: Self, sum: Self) -> Self {
            Self(unsafe { _mm256_fnmadd_ps(self.0, other.0, sum.0) })
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn update(a: &mut [f32], panel: &[f32], entries: usize, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { update_with::<Avx2>(a, panel, entries, stride) };
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn add_entries(scratch: &mut Scratch, sweep: &HalfSweep<'_>, begin: usize, end: usize) {
        // SAFETY: the caller's promise.
        unsafe { add_entries_with::<Avx2>(scratch, sweep, begin, end) };
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn solve(a: &mut [f32], b: &mut [f32], diagonal: &mut [f32], stride: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe { solve_with::<Avx2>(a, b, diagonal, stride) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in −1..1 that need no crate.
    fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        }
    }

    struct Case {
        offsets: Vec<usize>,
        columns: Vec<u32>,
        weights: Vec<f32>,
        factors: Vec<f32>,
        ridges: Vec<f32>,
        n: usize,
    }

    impl Case {
        fn new(n: usize, columns: usize, lengths: &[usize]) -> Self {
            let mut next = noise(n as u64 + 7);
            let factors = (0..columns * n).map(|_| next()).collect();
            let mut offsets = vec![0];
            let (mut entries, mut weights) = (vec![], vec![]);
            for length in lengths {
                for e in 0..*length {
                    entries.push((e * 7 % columns) as u32);
                    weights.push(1.0 + next().abs());
                }
                offsets.push(entries.len());
            }
            let ridges = lengths.iter().map(|l| 0.1 + 0.01 * *l as f32).collect();
            Self {
                offsets,
                columns: entries,
                weights,
                factors,
                ridges,
                n,
            }
        }

        fn sweep(&self) -> HalfSweep<'_> {
            HalfSweep {
                offsets: &self.offsets,
                columns: &self.columns,
                weights: &self.weights,
                factors: &self.factors,
                factor_count: self.n,
                unobserved_weight: 0.25,
                ridges: &self.ridges,
                targets: None,
            }
        }

        fn solve(&self, threads: usize) -> (Vec<f32>, f64) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut x = vec![f32::NAN; (self.offsets.len() - 1) * self.n];
            let gain = factor_f32(&self.sweep(), &mut x, &pool, &AtomicBool::new(false));
            (x, gain)
        }

        /// The largest entry of A x − b over the largest of b, all in f64 from the definition.
        fn residual(&self, x: &[f32], row: usize) -> f64 {
            let (n, sweep) = (self.n, self.sweep());
            let x = &x[row * n..(row + 1) * n];
            let dot = |y: &[f32]| -> f64 { y.iter().zip(x).map(|(y, x)| f64::from(*y) * f64::from(*x)).sum() };
            let mut left: Vec<f64> = x.iter().map(|x| f64::from(self.ridges[row]) * f64::from(*x)).collect();
            let mut right = vec![0f64; n];
            for y in self.factors.chunks_exact(n) {
                let d = f64::from(sweep.unobserved_weight) * dot(y);
                left.iter_mut().zip(y).for_each(|(l, y)| *l += d * f64::from(*y));
            }
            for e in self.offsets[row]..self.offsets[row + 1] {
                let y = &self.factors[self.columns[e] as usize * n..][..n];
                let w = f64::from(self.weights[e]);
                let (d, c) = (w * dot(y), w + f64::from(sweep.unobserved_weight));
                left.iter_mut().zip(y).for_each(|(l, y)| *l += d * f64::from(*y));
                right.iter_mut().zip(y).for_each(|(r, y)| *r += c * f64::from(*y));
            }
            let top = right.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
            left.iter().zip(&right).map(|(l, r)| (l - r).abs()).fold(0.0, f64::max) / top
        }
    }

    #[test]
    fn solves_the_normal_equations() {
        for n in [1, 3, 15, 16, 17, 33, 64, 100] {
            let case = Case::new(n, 150, &[0, 1, 2, 31, 32, 33, 64, 140, 500]);
            let (x, _) = case.solve(2);
            for row in 0..case.offsets.len() - 1 {
                let r = case.residual(&x, row);
                assert!(r < 2e-4, "{n} factors, row {row}: {r}");
            }
            assert!(x[..n].iter().all(|v| *v == 0.0), "a row without entries is 0");
        }
    }

    #[test]
    fn targets_are_fitted_by_least_squares() {
        // Light rows, one that f32 cannot solve (no ridge, two entries of nine factors) and a heavy one.
        let mut case = Case::new(9, 60, &[40, 2, HEAVY_ENTRIES + 100, 0]);
        case.ridges[1] = 0.0;
        let targets: Vec<f32> = (0..case.columns.len()).map(|e| (e % 11) as f32 - 4.0).collect();
        let sweep = HalfSweep {
            unobserved_weight: 0.0,
            targets: Some(&targets),
            ..case.sweep()
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let mut x = vec![f32::NAN; 4 * 9];
        let gain = factor_f32(&sweep, &mut x, &pool, &AtomicBool::new(false));
        let (mut loss, mut squares) = (0f64, 0f64);
        for row in 0..4 {
            let x = &x[row * 9..(row + 1) * 9];
            // Half the gradient: Σ w (x·y − t) y + ridge x.
            let mut gradient: Vec<f64> = x.iter().map(|x| f64::from(case.ridges[row] * x)).collect();
            let mut size = 1e-30f64;
            let entries = case.offsets[row]..case.offsets[row + 1];
            for (e, target) in entries.clone().zip(&targets[entries]) {
                let y = &case.factors[case.columns[e] as usize * 9..][..9];
                let (w, t) = (f64::from(case.weights[e]), f64::from(*target));
                let miss = y.iter().zip(x).map(|(y, x)| f64::from(y * x)).sum::<f64>() - t;
                loss += w * miss * miss;
                squares += w * t * t;
                for (g, y) in gradient.iter_mut().zip(y) {
                    *g += w * miss * f64::from(*y);
                    size = size.max((w * t * f64::from(*y)).abs());
                }
            }
            let entries = (case.offsets[row + 1] - case.offsets[row]) as f64;
            let worst = gradient.iter().fold(0f64, |m, g| m.max(g.abs()));
            assert!(worst < 2e-4 * size * entries.sqrt().max(1.0), "row {row}: {worst}");
            loss += x.iter().map(|x| f64::from(case.ridges[row] * x * x)).sum::<f64>();
        }
        assert!(
            (loss - (squares - gain)).abs() < 1e-3 * loss,
            "{loss} {}",
            squares - gain
        );
    }

    #[test]
    fn heavy_rows_are_solved_too() {
        let case = Case::new(5, 90, &[3, HEAVY_ENTRIES + 5000, 4]);
        let (x, _) = case.solve(2);
        for row in 0..3 {
            assert!(case.residual(&x, row) < 2e-4);
        }
    }

    #[test]
    fn threads_change_nothing() {
        let case = Case::new(20, 3000, &[5, HEAVY_ENTRIES + 1, 77, 1, 0, 300, 12, 900, 4]);
        let (one, gain) = case.solve(1);
        for threads in [2, 7] {
            let (x, g) = case.solve(threads);
            assert_eq!(one, x);
            assert_eq!(gain.to_bits(), g.to_bits());
        }
    }

    #[test]
    fn singular_and_huge_weights_stay_finite() {
        let mut case = Case::new(8, 20, &[2, 3]);
        case.ridges = vec![0.0; 2];
        case.weights.iter_mut().for_each(|w| *w *= 1e12);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut x = vec![0f32; 16];
        let sweep = HalfSweep {
            unobserved_weight: 0.0,
            ..case.sweep()
        };
        factor_f32(&sweep, &mut x, &pool, &AtomicBool::new(false));
        assert!(x.iter().all(|v| v.is_finite()));
        // Two entries and eight factors: an exact fit exists.
        for e in 0..2 {
            let y = &case.factors[case.columns[e] as usize * 8..][..8];
            let fit: f32 = y.iter().zip(&x).map(|(y, x)| y * x).sum();
            assert!((fit - 1.0).abs() < 1e-3, "{fit}");
        }
    }

    #[test]
    fn the_gain_is_the_loss() {
        let case = Case::new(6, 40, &[4, 9]);
        let (x, gain) = case.solve(1);
        let sweep = case.sweep();
        let (mut loss, mut confidence) = (0f64, 0f64);
        for row in 0..2 {
            let x = &x[row * 6..(row + 1) * 6];
            loss += x
                .iter()
                .map(|x| f64::from(case.ridges[row]) * f64::from(*x).powi(2))
                .sum::<f64>();
            for column in 0..40 {
                let y = &case.factors[column * 6..(column + 1) * 6];
                let fit: f64 = y.iter().zip(x).map(|(y, x)| f64::from(*y) * f64::from(*x)).sum();
                let entry = (case.offsets[row]..case.offsets[row + 1]).find(|e| case.columns[*e] as usize == column);
                let weight = entry.map_or(0.0, |e| f64::from(case.weights[e]));
                let c = f64::from(sweep.unobserved_weight) + weight;
                confidence += if entry.is_some() { c } else { 0.0 };
                loss += c * (f64::from(u8::from(entry.is_some())) - fit).powi(2);
            }
        }
        assert!(
            (loss - (confidence - gain)).abs() < 1e-4 * loss,
            "{loss} {}",
            confidence - gain
        );
    }
}
