//! The k-means pass: every row's nearest centroid and, with it, the sums that make the next centroids.
//!
//! Rows run along the SIMD lanes: sixteen rows are transposed into a small scratch, then every centroid is scored against
//! them with `|c|² − 2x·c` in f32, keeping the best score, its index and the second best. That is only a *filter*: where the
//! two best are closer than the rounding error could be (or nearly tie), the row is decided by distances in f64. So the
//! label of a row is a function of the row and the f64 centroids alone: it is the same on every processor, for every number
//! of threads, and when the row is scored again later.
//!
//! A category is never written out as one-hot: its part of the score is looked up by code.
//!
//! All sums are taken over chunks of rows whose size depends on the shape alone, and the chunks are added in order.

pub mod cuda;
mod lloyd;
#[cfg(test)]
mod tests_card;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod twin;

use rayon::ThreadPool;
use rayon::prelude::*;

pub use self::lloyd::{Lloyd, Pass, State, Stop};
use crate::block::Block;

/// The label of a row that has none yet.
pub const UNASSIGNED: u32 = u32::MAX;

/// Rows that are scored together.
const LANES: usize = 16;

/// Centroids that are scored together.
const CENTROIDS: usize = 4;

/// A centroid is nearer only if it is so by more than this share of the row's length and distance: a little above what narrowing
/// to f32 does to rows that lie exactly between two centroids. Less than that is a tie, which goes to the lower index.
const TIE: f64 = 2e-7;

/// Squared chords below this are rounding: two rows of one direction.
const SAME_DIRECTION: f32 = 1e-11;

/// How far a row is from a centroid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The root of the sum of squared differences.
    Euclidean,
    /// √(1 − cos), with cos = 0 for a row without a direction.
    Cosine,
}

/// Centroids, ready to be compared with rows.
#[derive(Debug, Clone)]
pub struct Centroids {
    metric: Metric,
    count: usize,
    number_count: usize,
    levels: Vec<u32>,
    offsets: Vec<usize>,
    width: usize,
    /// `count × width`.
    values: Vec<f64>,
    /// `code columns × count`: the sum of squares over one code column's categories.
    code_squares: Vec<f64>,
    /// Cosine: whether the centroid has no direction.
    zero: Vec<bool>,
    /// −2c by blocks of [`CENTROIDS`]: `blocks × number_count × CENTROIDS`.
    packed: Vec<f32>,
    /// What every score begins with, +∞ for the padding.
    bias: Vec<f32>,
    /// For each code column, `(levels + 1) × padded count`: what a code adds to the scores.
    tables: Vec<Vec<f32>>,
    bound: Bound,
}

/// How far apart the two best scores must be for the best to be the nearest for certain.
///
/// A score of `n` fused steps is off by at most `γ·(|c|² + 2|x||c|)`, `γ = n·2⁻²⁴`. Where `|c| ≤ 3|x|` that is at most
/// `15γ|x|²`; where `|c| > 3|x|` the score is at least `|c|²/3`, so that the error is at most five γ of the score itself. Both
/// together bound the error of every centroid, however far one of them may be. A tie, `d² − (d − t(|x| + d))²` with `t` =
/// [`TIE`], is at most `t(3d² + |x|²)`, and under the cosine distance, where a score is `2|x|` times `−cos`, at most `14t|x|`.
#[derive(Debug, Clone, Copy)]
struct Bound {
    gamma: f32,
    far: f32,
    base: f32,
    slope: f32,
    tie_square: f32,
    tie_norm: f32,
    code_count: f32,
}

/// What is known of [`LANES`] rows after all centroids were scored.
struct Scan {
    best: [f32; LANES],
    second: [f32; LANES],
    index: [u32; LANES],
    square: [f32; LANES],
}

impl Bound {
    /// Whether the best of lane `lane` is the nearest for certain.
    #[allow(
        clippy::needless_range_loop,
        reason = "lanes of several arrays side by side, so that they become vectors"
    )]
    #[inline(always)]
    fn certain(&self, scan: &Scan) -> [bool; LANES] {
        let mut certain = [false; LANES];
        for lane in 0..LANES {
            let (best, second) = (scan.best[lane], scan.second[lane]);
            let square = scan.square[lane] + self.code_count;
            let norm = square.sqrt();
            let near = (self.far * square).min(self.base + self.slope * norm);
            let error = self.gamma * (2.0 * near + 5.0 * (best.abs() + second.abs()));
            let tie = self.tie_square * (second.abs() + square) + self.tie_norm * norm;
            // Without a second centroid the gap is +∞, and so is the bound.
            certain[lane] = second == f32::INFINITY && best.is_finite() || second - best > error + tie;
        }
        certain
    }
}

impl Centroids {
    /// `count` centroids of `number_count` numbers and one-hot columns of `levels`, row-major in `values`
    /// (`count × (number_count + Σ levels)`). Cosine centroids have length 1, or 0 where they have no direction.
    pub fn new(metric: Metric, count: usize, number_count: usize, levels: &[u32], values: Vec<f64>) -> Self {
        let shape = Block::<f32> {
            number_count,
            levels: levels.to_vec(),
            ..Block::default()
        };
        let (width, offsets) = (shape.width(), shape.code_offsets());
        debug_assert_eq!(values.len(), count * width);
        let padded = count.next_multiple_of(CENTROIDS).max(CENTROIDS);
        let row = |j: usize| &values[j * width..(j + 1) * width];
        let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();

        let mut code_squares = Vec::with_capacity(levels.len() * count);
        for (offset, level) in offsets.iter().zip(levels) {
            code_squares.extend((0..count).map(|j| square(&row(j)[*offset..offset + *level as usize])));
        }
        let mut packed = vec![0f32; padded * number_count];
        let mut bias = vec![f32::INFINITY; padded];
        for j in 0..count {
            bias[j] = match metric {
                Metric::Euclidean => square(&row(j)[..number_count]) as f32,
                Metric::Cosine => 0.0,
            };
            let block = &mut packed[j / CENTROIDS * number_count * CENTROIDS..][..number_count * CENTROIDS];
            for (i, c) in row(j)[..number_count].iter().enumerate() {
                block[i * CENTROIDS + j % CENTROIDS] = (-2.0 * c) as f32;
            }
        }
        let mut tables = Vec::with_capacity(levels.len());
        for (column, (offset, level)) in offsets.iter().zip(levels).enumerate() {
            let level = *level as usize;
            let mut table = vec![0f32; (level + 1) * padded];
            for j in 0..count {
                let base = match metric {
                    Metric::Euclidean => code_squares[column * count + j],
                    Metric::Cosine => 0.0,
                };
                for code in 0..level {
                    table[code * padded + j] = (base - 2.0 * row(j)[offset + code]) as f32;
                }
                table[level * padded + j] = base as f32;
            }
            tables.push(table);
        }

        let largest = (0..count).map(|j| square(row(j))).fold(0.0, f64::max);
        let steps = (number_count + levels.len() + 8) as f64;
        let unit = f64::from(f32::EPSILON) / 2.0;
        let bound = Bound {
            gamma: (steps * unit * 1.01) as f32,
            far: if metric == Metric::Euclidean { 15.0 } else { f32::MAX },
            base: if metric == Metric::Euclidean {
                largest as f32
            } else {
                0.0
            },
            slope: (2.0 * largest.sqrt() * 1.001) as f32,
            tie_square: if metric == Metric::Euclidean {
                (4.4 * TIE) as f32
            } else {
                0.0
            },
            tie_norm: if metric == Metric::Euclidean {
                0.0
            } else {
                (15.0 * TIE) as f32
            },
            code_count: levels.len() as f32,
        };
        let zero = (0..count).map(|j| square(row(j)) == 0.0).collect();
        Self {
            metric,
            count,
            number_count,
            levels: levels.to_vec(),
            offsets,
            width,
            values,
            code_squares,
            zero,
            packed,
            bias,
            tables,
            bound,
        }
    }

    /// How far is measured how.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// How many centroids.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Coordinates of each: the numbers, then each code column's categories.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The coordinates, `count × width`.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The coordinates of centroid `index`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The squared distance of row `row` of `block` to centroid `index`, summed up in f64 from the differences.
    pub fn distance_squared(&self, block: &Block<f32>, row: usize, index: usize) -> f64 {
        let (numbers, codes) = (block.row_numbers(row), block.row_codes(row));
        self.measure(numbers, codes, self.scale(numbers, codes), index)
    }

    /// The squared distances of row `row` of `block` to every centroid.
    pub fn distances_squared(&self, block: &Block<f32>, row: usize, out: &mut Vec<f64>) {
        let (numbers, codes) = (block.row_numbers(row), block.row_codes(row));
        let scale = self.scale(numbers, codes);
        out.clear();
        out.extend((0..self.count).map(|j| self.measure(numbers, codes, scale, j)));
    }

    #[inline(always)]
    fn scale(&self, numbers: &[f32], codes: &[u32]) -> f64 {
        match self.metric {
            Metric::Euclidean => 1.0,
            Metric::Cosine => inverse_norm(numbers, codes, &self.levels),
        }
    }

    #[inline(always)]
    fn measure(&self, numbers: &[f32], codes: &[u32], scale: f64, index: usize) -> f64 {
        let c = self.row(index);
        if self.metric == Metric::Cosine && (scale == 0.0 || self.zero[index]) {
            return 1.0;
        }
        let mut sum = square_of_differences(numbers, &c[..self.number_count], scale);
        for (column, code) in codes.iter().enumerate() {
            sum += self.code_squares[column * self.count + index];
            if *code < self.levels[column] {
                sum += scale * (scale - 2.0 * c[self.offsets[column] + *code as usize]);
            }
        }
        match self.metric {
            Metric::Euclidean => sum.max(0.0),
            Metric::Cosine => (0.5 * sum).max(0.0),
        }
    }

    /// The rule that the labels obey: the lowest index that no later one undercuts by more than a tie.
    #[inline(never)]
    fn nearest_in_f64(&self, numbers: &[f32], codes: &[u32]) -> u32 {
        let scale = self.scale(numbers, codes);
        let length = match self.metric {
            Metric::Euclidean => square_of_row(numbers, codes, &self.levels).sqrt(),
            Metric::Cosine => 1.0,
        };
        let (mut limit, mut index) = (f64::INFINITY, 0);
        for j in 0..self.count {
            let square = self.measure(numbers, codes, scale, j);
            if square < limit {
                let distance = square.sqrt();
                let nearer = (distance - TIE * (length + distance)).max(0.0);
                (limit, index) = (nearer * nearer, j);
            }
        }
        index as u32
    }

    /// The code columns' part of [`LANES`] rows' scores, and the bias: `padded × LANES`.
    #[inline(always)]
    fn code_scores(&self, block: &Block<f32>, first: usize, rows: usize, line: &mut [f32], out: &mut [f32]) {
        let padded = self.bias.len();
        for lane in 0..rows {
            line.copy_from_slice(&self.bias);
            for (table, code) in self.tables.iter().zip(block.row_codes(first + lane)) {
                let begin = *code as usize * padded;
                for (s, t) in line.iter_mut().zip(&table[begin..begin + padded]) {
                    *s += t;
                }
            }
            for (s, row) in line.iter().zip(out.chunks_exact_mut(LANES)) {
                row[lane] = *s;
            }
        }
    }
}

/// Four partial sums in a fixed order: fast, and the same to the bit on every processor.
#[inline(always)]
fn square_of_differences(numbers: &[f32], c: &[f64], scale: f64) -> f64 {
    let mut sums = [0f64; 4];
    let (x4, c4) = (numbers.chunks_exact(4), c.chunks_exact(4));
    let mut rest = 0.0;
    for (x, c) in x4.remainder().iter().zip(c4.remainder()) {
        let t = f64::from(*x) * scale - c;
        rest += t * t;
    }
    for (x, c) in x4.zip(c4) {
        for lane in 0..4 {
            let t = f64::from(x[lane]) * scale - c[lane];
            sums[lane] += t * t;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// Σx² and the codes seen.
#[inline(always)]
fn square_of_row(numbers: &[f32], codes: &[u32], levels: &[u32]) -> f64 {
    let mut sums = [0f64; 4];
    let x4 = numbers.chunks_exact(4);
    let mut rest = 0.0;
    for x in x4.remainder() {
        rest += f64::from(*x) * f64::from(*x);
    }
    for x in x4 {
        for lane in 0..4 {
            sums[lane] += f64::from(x[lane]) * f64::from(x[lane]);
        }
    }
    let seen = codes.iter().zip(levels).filter(|(c, l)| c < l).count();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest + seen as f64
}

/// One over the row's length, 0 where it has none.
#[inline(always)]
fn inverse_norm(numbers: &[f32], codes: &[u32], levels: &[u32]) -> f64 {
    let square = square_of_row(numbers, codes, levels);
    if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 }
}

/// The squared length of row `row`: its numbers' squares and 1 for each category that was seen.
pub fn squared_norm(block: &Block<f32>, row: usize) -> f64 {
    square_of_row(block.row_numbers(row), block.row_codes(row), &block.levels)
}

/// For each cluster: how many rows, and their sum. Under [`Metric::Cosine`] each row counts with length 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    metric: Metric,
    width: usize,
    /// Rows of each cluster.
    pub rows: Vec<i64>,
    /// Sum of each cluster's rows, `clusters × width`.
    pub values: Vec<f64>,
}

impl Sums {
    /// No rows yet, for `count` clusters of rows of `width` columns (one-hot ones included).
    pub fn new(metric: Metric, count: usize, width: usize) -> Self {
        Self {
            metric,
            width,
            rows: vec![0; count],
            values: vec![0.0; count * width],
        }
    }

    /// The sum of cluster `index`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// Adds (`sign` 1) row `row` of `block` to cluster `index`, or takes it away (−1).
    #[inline(always)]
    fn add(&mut self, block: &Block<f32>, offsets: &[usize], row: usize, index: usize, sign: f64) {
        let (numbers, codes) = (block.row_numbers(row), block.row_codes(row));
        let into = &mut self.values[index * self.width..(index + 1) * self.width];
        let scale = match self.metric {
            Metric::Euclidean => sign,
            Metric::Cosine => sign * inverse_norm(numbers, codes, &block.levels),
        };
        for (s, x) in into.iter_mut().zip(numbers) {
            *s += scale * f64::from(*x);
        }
        for ((code, level), offset) in codes.iter().zip(&block.levels).zip(offsets) {
            if code < level {
                into[offset + *code as usize] += scale;
            }
        }
        self.rows[index] += if sign > 0.0 { 1 } else { -1 };
    }

    /// Moves row `row` of `block` from cluster `from` to cluster `to`.
    pub fn move_row(&mut self, block: &Block<f32>, row: usize, from: usize, to: usize) {
        let offsets = block.code_offsets();
        self.add(block, &offsets, row, from, -1.0);
        self.add(block, &offsets, row, to, 1.0);
    }

    /// The means of the clusters, `clusters × width`; a cluster without rows, or without a direction, keeps its centroid of
    /// `previous`.
    pub fn means(&self, previous: &[f64]) -> Vec<f64> {
        let mut values = previous.to_vec();
        for (j, value) in values.chunks_exact_mut(self.width.max(1)).enumerate() {
            let rows = self.rows[j] as f64;
            match self.metric {
                Metric::Euclidean if self.rows[j] > 0 => {
                    value.iter_mut().zip(self.row(j)).for_each(|(v, s)| *v = s / rows);
                }
                Metric::Cosine => {
                    let length = self.row(j).iter().map(|s| s * s).sum::<f64>().sqrt();
                    // Rows that cancel out leave nothing but rounding.
                    if length > 1e-9 * rows {
                        value.iter_mut().zip(self.row(j)).for_each(|(v, s)| *v = s / length);
                    }
                }
                Metric::Euclidean => {}
            }
        }
        values
    }

    /// The mean squared distance of the rows (under [`Metric::Cosine`], of 1 − cos) to the `means` of their clusters, from the
    /// sums and the rows' [`total_square_f32`] alone.
    pub fn loss(&self, means: &[f64], total_square: f64) -> f64 {
        let of_cluster = |(j, mean): (usize, &[f64])| match self.metric {
            Metric::Euclidean => self.rows[j] as f64 * mean.iter().map(|c| c * c).sum::<f64>(),
            Metric::Cosine => mean.iter().zip(self.row(j)).map(|(c, s)| c * s).sum::<f64>(),
        };
        let row_count = self.rows.iter().sum::<i64>().max(1) as f64;
        let explained: f64 = means.chunks_exact(self.width.max(1)).enumerate().map(of_cluster).sum();
        ((total_square - explained) / row_count).max(0.0)
    }

    fn merge(&mut self, other: &Sums) {
        for (a, b) in self.rows.iter_mut().zip(&other.rows) {
            *a += b;
        }
        for (a, b) in self.values.iter_mut().zip(&other.values) {
            *a += b;
        }
    }
}

/// Rows a chunk, for partial results of `state_count` numbers: a function of the shape alone, so that sums do not depend on
/// the threads, and few enough chunks that their partial results stay small.
fn chunk_rows(row_count: usize, state_count: usize) -> usize {
    let chunks = ((1 << 22) / state_count.max(1)).clamp(16, 256);
    row_count.div_ceil(chunks).max(4096).next_multiple_of(LANES)
}

/// How many numbers [`assign_f32`] and [`sums_f32`] hold at most in partial results, for the memory budget.
pub fn partial_count(row_count: usize, count: usize, width: usize) -> usize {
    let state = count * (width + 2);
    row_count.div_ceil(chunk_rows(row_count, state).max(1)) * state
}

/// One pass: each row's nearest centroid goes to `labels`, and rows whose label changes are moved in `sums` (a row that was
/// [`UNASSIGNED`] is added). Gives the number of rows that changed. The work is shared by the threads of `pool`; the result
/// does not depend on how many there are.
///
/// Rows that lie between two centroids as exactly as f32 can tell go to the lower index.
pub fn assign_f32(
    block: &Block<f32>,
    centroids: &Centroids,
    labels: &mut [u32],
    sums: &mut Sums,
    pool: &ThreadPool,
) -> usize {
    let rows = chunk_rows(block.row_count, centroids.count * (centroids.width + 2));
    let one = |(chunk, labels): (usize, &mut [u32])| {
        let mut delta = Sums::new(centroids.metric, centroids.count, centroids.width);
        let changed = assign_chunk(block, centroids, chunk * rows, labels, Some(&mut delta));
        (changed, delta)
    };
    if block.row_count <= rows {
        return assign_chunk(block, centroids, 0, labels, Some(sums));
    }
    let partials: Vec<(usize, Sums)> = pool.install(|| labels.par_chunks_mut(rows).enumerate().map(one).collect());
    let mut changed = 0;
    for (moved, delta) in &partials {
        if *moved > 0 {
            sums.merge(delta);
            changed += moved;
        }
    }
    changed
}

/// Each row's nearest centroid by the rule of [`assign_f32`], on the caller's thread.
pub fn nearest_f32(block: &Block<f32>, centroids: &Centroids) -> Vec<u32> {
    let mut labels = vec![UNASSIGNED; block.row_count];
    assign_chunk(block, centroids, 0, &mut labels, None);
    labels
}

/// The sums of all rows by `labels` (none: all in one cluster), in the fixed order of chunks.
pub fn sums_f32(block: &Block<f32>, metric: Metric, count: usize, labels: Option<&[u32]>, pool: &ThreadPool) -> Sums {
    let (width, offsets) = (block.width(), block.code_offsets());
    let rows = chunk_rows(block.row_count, count * (width + 2));
    let one = |chunk: usize| {
        let mut sums = Sums::new(metric, count, width);
        for row in chunk * rows..((chunk + 1) * rows).min(block.row_count) {
            sums.add(block, &offsets, row, labels.map_or(0, |l| l[row] as usize), 1.0);
        }
        sums
    };
    let partials: Vec<Sums> = pool.install(|| (0..block.row_count.div_ceil(rows)).into_par_iter().map(one).collect());
    let mut sums = Sums::new(metric, count, width);
    for partial in &partials {
        sums.merge(partial);
    }
    sums
}

/// What [`Sums::loss`] starts from: Σ|x|² over all rows; under [`Metric::Cosine`] how many rows there are, for a row without a
/// direction is as far from every centroid as an orthogonal one.
pub fn total_square_f32(block: &Block<f32>, metric: Metric, pool: &ThreadPool) -> f64 {
    if metric == Metric::Cosine {
        return block.row_count as f64;
    }
    let rows = chunk_rows(block.row_count, 1);
    let one = |chunk: usize| {
        (chunk * rows..((chunk + 1) * rows).min(block.row_count))
            .map(|row| squared_norm(block, row))
            .sum::<f64>()
    };
    let partials: Vec<f64> = pool.install(|| (0..block.row_count.div_ceil(rows)).into_par_iter().map(one).collect());
    partials.iter().sum()
}

/// The squared distance of each row to the centroid of its label, in f64 from the differences.
pub fn own_distances_f32(block: &Block<f32>, centroids: &Centroids, labels: &[u32], pool: &ThreadPool) -> Vec<f64> {
    let mut out = vec![0.0; block.row_count];
    pool.install(|| {
        out.par_chunks_mut(4096).enumerate().for_each(|(chunk, out)| {
            for (i, d) in out.iter_mut().enumerate() {
                let row = chunk * 4096 + i;
                *d = centroids.distance_squared(block, row, labels[row] as usize);
            }
        });
    });
    out
}

/// For each cluster, the sum of the squared distances of its rows to its centroid: together the inertia.
pub fn inertia_f32(block: &Block<f32>, centroids: &Centroids, labels: &[u32], pool: &ThreadPool) -> Vec<f64> {
    let rows = chunk_rows(block.row_count, centroids.count);
    let one = |chunk: usize| {
        let mut sums = vec![0.0; centroids.count];
        for row in chunk * rows..((chunk + 1) * rows).min(block.row_count) {
            sums[labels[row] as usize] += centroids.distance_squared(block, row, labels[row] as usize);
        }
        sums
    };
    let partials: Vec<Vec<f64>> =
        pool.install(|| (0..block.row_count.div_ceil(rows)).into_par_iter().map(one).collect());
    let mut sums = vec![0.0; centroids.count];
    for partial in &partials {
        sums.iter_mut().zip(partial).for_each(|(a, b)| *a += b);
    }
    sums
}

/// Labels the rows of one chunk, which begins at row `first`; moves them in `sums` where it is given.
fn assign_chunk(
    block: &Block<f32>,
    centroids: &Centroids,
    first: usize,
    labels: &mut [u32],
    sums: Option<&mut Sums>,
) -> usize {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx2_fma() {
        // SAFETY: both features are there.
        return unsafe { assign_chunk_avx2(block, centroids, first, labels, sums) };
    }
    assign_chunk_body::<Portable>(block, centroids, first, labels, sums)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn assign_chunk_avx2(
    block: &Block<f32>,
    centroids: &Centroids,
    first: usize,
    labels: &mut [u32],
    sums: Option<&mut Sums>,
) -> usize {
    assign_chunk_body::<Avx2>(block, centroids, first, labels, sums)
}

#[inline(always)]
fn assign_chunk_body<I: Isa>(
    block: &Block<f32>,
    centroids: &Centroids,
    first: usize,
    labels: &mut [u32],
    mut sums: Option<&mut Sums>,
) -> usize {
    let mut lanes = vec![0f32; block.number_count * LANES];
    let padded = centroids.bias.len();
    let coded = block.code_count > 0;
    let (mut line, mut start) = if coded {
        (vec![0f32; padded], vec![0f32; padded * LANES])
    } else {
        (vec![], vec![])
    };
    let mut changed = 0;
    for (group, labels) in labels.chunks_mut(LANES).enumerate() {
        let row = first + group * LANES;
        I::transpose(
            &block.numbers[row * block.number_count..(row + labels.len()) * block.number_count],
            labels.len(),
            &mut lanes,
        );
        if coded {
            centroids.code_scores(block, row, labels.len(), &mut line, &mut start);
        }
        let scan = I::scan(&lanes, centroids, &start);
        let certain = centroids.bound.certain(&scan);
        for (lane, label) in labels.iter_mut().enumerate() {
            let row = row + lane;
            let new = if certain[lane] {
                scan.index[lane]
            } else {
                centroids.nearest_in_f64(block.row_numbers(row), block.row_codes(row))
            };
            if new != *label {
                changed += 1;
                if let Some(sums) = sums.as_deref_mut() {
                    if *label != UNASSIGNED {
                        sums.add(block, &centroids.offsets, row, *label as usize, -1.0);
                    }
                    sums.add(block, &centroids.offsets, row, new as usize, 1.0);
                }
                *label = new;
            }
        }
    }
    changed
}

/// What a processor does with [`LANES`] rows at once.
trait Isa {
    /// `rows` rows, row-major in `from`, to columns of [`LANES`] numbers in `to`. Lanes beyond the rows hold anything finite.
    fn transpose(from: &[f32], rows: usize, to: &mut [f32]);

    /// Scores every centroid. `start` has what the scores begin with, `padded × LANES`; where it is empty, the bias.
    fn scan(lanes: &[f32], centroids: &Centroids, start: &[f32]) -> Scan;
}

/// Any processor. Products and sums are rounded apart: a fused step may be a slow library call here.
struct Portable;

impl Isa for Portable {
    #[inline(always)]
    fn transpose(from: &[f32], rows: usize, to: &mut [f32]) {
        let width = to.len() / LANES;
        for row in 0..rows {
            for (x, lanes) in from[row * width..(row + 1) * width]
                .iter()
                .zip(to.chunks_exact_mut(LANES))
            {
                lanes[row] = *x;
            }
        }
    }

    #[allow(
        clippy::needless_range_loop,
        reason = "lanes of several arrays side by side, so that they become vectors"
    )]
    #[inline(always)]
    fn scan(lanes: &[f32], centroids: &Centroids, start: &[f32]) -> Scan {
        let mut scan = Scan {
            best: [f32::INFINITY; LANES],
            second: [f32::INFINITY; LANES],
            index: [0; LANES],
            square: [0.0; LANES],
        };
        for x in lanes.chunks_exact(LANES) {
            for lane in 0..LANES {
                scan.square[lane] += x[lane] * x[lane];
            }
        }
        let width = lanes.len() / LANES;
        for j in 0..centroids.count {
            let mut score = [centroids.bias[j]; LANES];
            if !start.is_empty() {
                score.copy_from_slice(&start[j * LANES..(j + 1) * LANES]);
            }
            let block = &centroids.packed[j / CENTROIDS * width * CENTROIDS..][..width * CENTROIDS];
            for (x, c) in lanes.chunks_exact(LANES).zip(block.chunks_exact(CENTROIDS)) {
                let c = c[j % CENTROIDS];
                for lane in 0..LANES {
                    score[lane] += x[lane] * c;
                }
            }
            for lane in 0..LANES {
                let (s, best) = (score[lane], scan.best[lane]);
                let larger = if s < best { best } else { s };
                scan.second[lane] = if larger < scan.second[lane] {
                    larger
                } else {
                    scan.second[lane]
                };
                scan.index[lane] = if s < best { j as u32 } else { scan.index[lane] };
                scan.best[lane] = if s < best { s } else { best };
            }
        }
        scan
    }
}

/// Processors with AVX2 and fused multiply-add. Its methods must be called from code that was compiled for both.
#[cfg(target_arch = "x86_64")]
struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    #[inline(always)]
    fn transpose(from: &[f32], rows: usize, to: &mut [f32]) {
        let width = to.len() / LANES;
        if rows < LANES {
            return Portable::transpose(from, rows, to);
        }
        assert!(from.len() >= LANES * width);
        for half in [0, 8] {
            let mut column = 0;
            while column < width {
                let columns = (width - column).min(8);
                // SAFETY: `from` has 16 rows of `width` numbers and `to` has `width` columns of 16 numbers; the mask keeps
                // reads and writes within `columns` of them.
                unsafe {
                    transpose_8x8(
                        from.as_ptr().add(half * width + column),
                        width,
                        columns,
                        to.as_mut_ptr().add(column * LANES + half),
                    )
                };
                column += 8;
            }
        }
    }

    #[inline(always)]
    fn scan(lanes: &[f32], centroids: &Centroids, start: &[f32]) -> Scan {
        // SAFETY: called from code compiled for AVX2 and FMA, as this type demands.
        unsafe { scan_avx2(lanes, centroids, start) }
    }
}

/// Eight rows, `stride` numbers apart, of which `columns` ≤ 8 columns become runs of eight numbers, [`LANES`] apart.
///
/// # Safety
/// AVX2; the rows must be readable and the runs writable.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn transpose_8x8(from: *const f32, stride: usize, columns: usize, to: *mut f32) {
    use std::arch::x86_64::*;
    let mut r = [_mm256_setzero_ps(); 8];
    if columns == 8 {
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: row `i` has eight readable numbers here.
            *r = unsafe { _mm256_loadu_ps(from.add(i * stride)) };
        }
    } else {
        let mask = _mm256_cmpgt_epi32(
            _mm256_set1_epi32(columns as i32),
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        );
        for (i, r) in r.iter_mut().enumerate() {
            // SAFETY: the mask leaves out what lies beyond the row.
            *r = unsafe { _mm256_maskload_ps(from.add(i * stride), mask) };
        }
    }
    let t = [
        _mm256_unpacklo_ps(r[0], r[1]),
        _mm256_unpackhi_ps(r[0], r[1]),
        _mm256_unpacklo_ps(r[2], r[3]),
        _mm256_unpackhi_ps(r[2], r[3]),
        _mm256_unpacklo_ps(r[4], r[5]),
        _mm256_unpackhi_ps(r[4], r[5]),
        _mm256_unpacklo_ps(r[6], r[7]),
        _mm256_unpackhi_ps(r[6], r[7]),
    ];
    let s = [
        _mm256_shuffle_ps::<0x44>(t[0], t[2]),
        _mm256_shuffle_ps::<0xEE>(t[0], t[2]),
        _mm256_shuffle_ps::<0x44>(t[1], t[3]),
        _mm256_shuffle_ps::<0xEE>(t[1], t[3]),
        _mm256_shuffle_ps::<0x44>(t[4], t[6]),
        _mm256_shuffle_ps::<0xEE>(t[4], t[6]),
        _mm256_shuffle_ps::<0x44>(t[5], t[7]),
        _mm256_shuffle_ps::<0xEE>(t[5], t[7]),
    ];
    let c = [
        _mm256_permute2f128_ps::<0x20>(s[0], s[4]),
        _mm256_permute2f128_ps::<0x20>(s[1], s[5]),
        _mm256_permute2f128_ps::<0x20>(s[2], s[6]),
        _mm256_permute2f128_ps::<0x20>(s[3], s[7]),
        _mm256_permute2f128_ps::<0x31>(s[0], s[4]),
        _mm256_permute2f128_ps::<0x31>(s[1], s[5]),
        _mm256_permute2f128_ps::<0x31>(s[2], s[6]),
        _mm256_permute2f128_ps::<0x31>(s[3], s[7]),
    ];
    for (i, c) in c.iter().enumerate().take(columns) {
        // SAFETY: column `i` has eight writable numbers.
        unsafe { _mm256_storeu_ps(to.add(i * LANES), *c) };
    }
}

/// [`Isa::scan`] with four centroids × sixteen rows in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
fn scan_avx2(lanes: &[f32], centroids: &Centroids, start: &[f32]) -> Scan {
    use std::arch::x86_64::*;
    let width = lanes.len() / LANES;
    let padded = centroids.bias.len();
    assert!(padded.is_multiple_of(CENTROIDS) && centroids.packed.len() == padded * width);
    assert!(start.is_empty() || start.len() == padded * LANES);
    let (x, packed) = (lanes.as_ptr(), centroids.packed.as_ptr());
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let (mut best, mut second) = ([infinity; 2], [infinity; 2]);
    let mut index = [_mm256_setzero_ps(); 2];
    let mut square = [_mm256_setzero_ps(); 2];
    // SAFETY: `lanes` has `width × 16` numbers, `packed` `padded × width`, `start` none or `padded × 16`, as asserted above.
    unsafe {
        for i in 0..width {
            let (x0, x1) = (_mm256_loadu_ps(x.add(i * LANES)), _mm256_loadu_ps(x.add(i * LANES + 8)));
            square = [_mm256_fmadd_ps(x0, x0, square[0]), _mm256_fmadd_ps(x1, x1, square[1])];
        }
        for (block, bias) in centroids.bias.chunks_exact(CENTROIDS).enumerate() {
            let mut acc = [[infinity; 2]; CENTROIDS];
            if start.is_empty() {
                for (a, b) in acc.iter_mut().zip(bias) {
                    *a = [_mm256_set1_ps(*b); 2];
                }
            } else {
                for (c, a) in acc.iter_mut().enumerate() {
                    let from = start.as_ptr().add((block * CENTROIDS + c) * LANES);
                    *a = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
                }
            }
            let c = packed.add(block * width * CENTROIDS);
            for i in 0..width {
                let (x0, x1) = (_mm256_loadu_ps(x.add(i * LANES)), _mm256_loadu_ps(x.add(i * LANES + 8)));
                for (j, a) in acc.iter_mut().enumerate() {
                    let c = _mm256_broadcast_ss(&*c.add(i * CENTROIDS + j));
                    *a = [_mm256_fmadd_ps(c, x0, a[0]), _mm256_fmadd_ps(c, x1, a[1])];
                }
            }
            for (j, a) in acc.iter().enumerate() {
                let number = _mm256_castsi256_ps(_mm256_set1_epi32((block * CENTROIDS + j) as i32));
                for half in 0..2 {
                    let closer = _mm256_cmp_ps::<_CMP_LT_OQ>(a[half], best[half]);
                    second[half] = _mm256_min_ps(second[half], _mm256_max_ps(a[half], best[half]));
                    index[half] = _mm256_blendv_ps(index[half], number, closer);
                    best[half] = _mm256_min_ps(a[half], best[half]);
                }
            }
        }
    }
    let mut scan = Scan {
        best: [0.0; LANES],
        second: [0.0; LANES],
        index: [0; LANES],
        square: [0.0; LANES],
    };
    for half in 0..2 {
        // SAFETY: each array has sixteen numbers.
        unsafe {
            _mm256_storeu_ps(scan.best.as_mut_ptr().add(half * 8), best[half]);
            _mm256_storeu_ps(scan.second.as_mut_ptr().add(half * 8), second[half]);
            _mm256_storeu_ps(scan.square.as_mut_ptr().add(half * 8), square[half]);
            _mm256_storeu_si256(
                scan.index.as_mut_ptr().add(half * 8).cast(),
                _mm256_castps_si256(index[half]),
            );
        }
    }
    scan
}

/// Sums of a seeding pass by chunk, for drawing a row in proportion to its squared distance.
#[derive(Debug, Clone)]
pub struct Potential {
    /// Rows a chunk.
    pub chunk_rows: usize,
    /// The sum of each chunk.
    pub chunks: Vec<f64>,
}

impl Potential {
    /// The sum of all rows.
    pub fn total(&self) -> f64 {
        self.chunks.iter().sum()
    }

    /// The row at which the running sum of `closest` passes `share` (in `[0, 1)`) of the total: a row of weight 0 never is.
    pub fn row_at(&self, closest: &[f32], share: f64) -> Option<usize> {
        let mut left = share * self.total();
        let mut last = None;
        for (chunk, sum) in self.chunks.iter().enumerate() {
            if *sum <= 0.0 {
                continue;
            }
            if left >= *sum {
                // Rounding may leave a rest behind the last chunk: then its last row of weight is meant.
                left -= sum;
                last = Some(chunk);
                continue;
            }
            return self.row_in(closest, chunk, left);
        }
        last.and_then(|chunk| self.row_in(closest, chunk, f64::INFINITY))
    }

    fn row_in(&self, closest: &[f32], chunk: usize, mut left: f64) -> Option<usize> {
        let begin = chunk * self.chunk_rows;
        let mut last = None;
        for (i, d) in closest[begin..(begin + self.chunk_rows).min(closest.len())]
            .iter()
            .enumerate()
        {
            if *d > 0.0 {
                last = Some(begin + i);
                left -= f64::from(*d);
                if left < 0.0 {
                    break;
                }
            }
        }
        last
    }
}

/// Rows of a block that others are measured against while seeds are chosen.
struct Candidates<'a> {
    block: &'a Block<f32>,
    metric: Metric,
    /// `candidates × number_count`, of length 1 under [`Metric::Cosine`].
    numbers: Vec<f32>,
    rows: &'a [usize],
    /// What a category counts in each candidate.
    weights: Vec<f32>,
}

impl<'a> Candidates<'a> {
    fn new(block: &'a Block<f32>, metric: Metric, rows: &'a [usize]) -> Self {
        let mut numbers = Vec::with_capacity(rows.len() * block.number_count);
        let mut weights = Vec::with_capacity(rows.len());
        for row in rows {
            let weight = match metric {
                Metric::Euclidean => 1.0,
                Metric::Cosine => inverse_norm(block.row_numbers(*row), block.row_codes(*row), &block.levels) as f32,
            };
            numbers.extend(block.row_numbers(*row).iter().map(|x| x * weight));
            weights.push(weight);
        }
        Self {
            block,
            metric,
            numbers,
            rows,
            weights,
        }
    }

    /// Squared distances of rows `first..` in `lanes` to each candidate; `weights` is scratch.
    #[allow(
        clippy::needless_range_loop,
        reason = "lanes of several arrays side by side, so that they become vectors"
    )]
    #[inline(always)]
    fn distances(&self, first: usize, rows: usize, lanes: &mut [f32], out: &mut [[f32; LANES]]) {
        let block = self.block;
        let mut weights = [1f32; LANES];
        if self.metric == Metric::Cosine {
            let mut square = [0f32; LANES];
            for x in lanes.chunks_exact(LANES) {
                for lane in 0..LANES {
                    square[lane] += x[lane] * x[lane];
                }
            }
            for lane in 0..rows {
                let codes = block.row_codes(first + lane);
                square[lane] += codes.iter().zip(&block.levels).filter(|(c, l)| c < l).count() as f32;
            }
            for lane in 0..LANES {
                weights[lane] = if square[lane] > 0.0 {
                    1.0 / square[lane].sqrt()
                } else {
                    0.0
                };
            }
            for x in lanes.chunks_exact_mut(LANES) {
                for lane in 0..LANES {
                    x[lane] *= weights[lane];
                }
            }
        }
        let width = block.number_count;
        for (candidate, out) in out.iter_mut().enumerate() {
            let mut sum = [0f32; LANES];
            let c = &self.numbers[candidate * width..(candidate + 1) * width];
            for (x, c) in lanes.chunks_exact(LANES).zip(c) {
                for lane in 0..LANES {
                    let t = x[lane] - c;
                    sum[lane] += t * t;
                }
            }
            *out = sum;
        }
        if block.code_count > 0 {
            for (candidate, out) in out.iter_mut().enumerate() {
                let (theirs, weight) = (block.row_codes(self.rows[candidate]), self.weights[candidate]);
                for lane in 0..rows {
                    let mut sum = 0f32;
                    for ((a, b), level) in block.row_codes(first + lane).iter().zip(theirs).zip(&block.levels) {
                        let (mine, other) = (
                            if a < level { weights[lane] } else { 0.0 },
                            if b < level { weight } else { 0.0 },
                        );
                        sum += if a == b {
                            (mine - other) * (mine - other)
                        } else {
                            mine * mine + other * other
                        };
                    }
                    out[lane] += sum;
                }
            }
        }
        if self.metric == Metric::Cosine {
            for out in out.iter_mut() {
                for lane in 0..LANES {
                    // A row without a direction is never a seed.
                    if out[lane] < SAME_DIRECTION || weights[lane] == 0.0 {
                        out[lane] = 0.0;
                    }
                }
            }
        }
    }
}

/// Rows a chunk in seeding passes.
fn seeding_rows(row_count: usize) -> usize {
    chunk_rows(row_count, 1)
}

/// What the sum of squared distances to the nearest seed would be if each of `candidates` (rows of `block`) were the next seed:
/// all of them in one pass. `closest` has each row's squared distance to its nearest seed so far. Under [`Metric::Cosine`]
/// distances are between the rows at length 1.
pub fn potentials_f32(
    block: &Block<f32>,
    metric: Metric,
    candidates: &[usize],
    closest: &[f32],
    pool: &ThreadPool,
) -> Vec<f64> {
    let candidates = Candidates::new(block, metric, candidates);
    let rows = seeding_rows(block.row_count);
    let one = |(chunk, closest): (usize, &[f32])| potentials_chunk(&candidates, chunk * rows, closest);
    let partials: Vec<Vec<f64>> = if closest.len() <= rows {
        vec![one((0, closest))]
    } else {
        pool.install(|| closest.par_chunks(rows).enumerate().map(one).collect())
    };
    let mut sums = vec![0.0; candidates.rows.len()];
    for partial in &partials {
        sums.iter_mut().zip(partial).for_each(|(a, b)| *a += b);
    }
    sums
}

/// Makes row `seed` of `block` a seed: lowers `closest` to the squared distance to it where that is less, and gives the sums.
pub fn closest_f32(
    block: &Block<f32>,
    metric: Metric,
    seed: usize,
    closest: &mut [f32],
    pool: &ThreadPool,
) -> Potential {
    let seeds = [seed];
    let candidates = Candidates::new(block, metric, &seeds);
    let rows = seeding_rows(block.row_count);
    let one = |(chunk, closest): (usize, &mut [f32])| closest_chunk(&candidates, chunk * rows, closest);
    let chunks = if closest.len() <= rows {
        vec![one((0, closest))]
    } else {
        pool.install(|| closest.par_chunks_mut(rows).enumerate().map(one).collect())
    };
    Potential {
        chunk_rows: rows,
        chunks,
    }
}

fn potentials_chunk(candidates: &Candidates<'_>, first: usize, closest: &[f32]) -> Vec<f64> {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx2_fma() {
        // SAFETY: both features are there.
        return unsafe { potentials_chunk_avx2(candidates, first, closest) };
    }
    potentials_chunk_body::<Portable>(candidates, first, closest)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn potentials_chunk_avx2(candidates: &Candidates<'_>, first: usize, closest: &[f32]) -> Vec<f64> {
    potentials_chunk_body::<Avx2>(candidates, first, closest)
}

#[inline(always)]
fn potentials_chunk_body<I: Isa>(candidates: &Candidates<'_>, first: usize, closest: &[f32]) -> Vec<f64> {
    let (block, count) = (candidates.block, candidates.rows.len());
    let mut lanes = vec![0f32; block.number_count * LANES];
    let mut out = vec![[0f32; LANES]; count];
    let mut sums = vec![[0f64; LANES]; count];
    for (group, closest) in closest.chunks(LANES).enumerate() {
        let row = first + group * LANES;
        I::transpose(
            &block.numbers[row * block.number_count..(row + closest.len()) * block.number_count],
            closest.len(),
            &mut lanes,
        );
        candidates.distances(row, closest.len(), &mut lanes, &mut out);
        let mut now = [0f32; LANES];
        now[..closest.len()].copy_from_slice(closest);
        for (sums, out) in sums.iter_mut().zip(&out) {
            for lane in 0..LANES {
                sums[lane] += f64::from(if out[lane] < now[lane] { out[lane] } else { now[lane] });
            }
        }
    }
    sums.iter().map(|lanes| lanes.iter().sum()).collect()
}

fn closest_chunk(candidates: &Candidates<'_>, first: usize, closest: &mut [f32]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx2_fma() {
        // SAFETY: both features are there.
        return unsafe { closest_chunk_avx2(candidates, first, closest) };
    }
    closest_chunk_body::<Portable>(candidates, first, closest)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn closest_chunk_avx2(candidates: &Candidates<'_>, first: usize, closest: &mut [f32]) -> f64 {
    closest_chunk_body::<Avx2>(candidates, first, closest)
}

#[inline(always)]
fn closest_chunk_body<I: Isa>(candidates: &Candidates<'_>, first: usize, closest: &mut [f32]) -> f64 {
    let block = candidates.block;
    let mut lanes = vec![0f32; block.number_count * LANES];
    let mut out = [[0f32; LANES]];
    let mut sums = [0f64; LANES];
    for (group, closest) in closest.chunks_mut(LANES).enumerate() {
        let row = first + group * LANES;
        I::transpose(
            &block.numbers[row * block.number_count..(row + closest.len()) * block.number_count],
            closest.len(),
            &mut lanes,
        );
        candidates.distances(row, closest.len(), &mut lanes, &mut out);
        for (lane, now) in closest.iter_mut().enumerate() {
            if out[0][lane] < *now {
                *now = out[0][lane];
            }
            sums[lane] += f64::from(*now);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    pub(super) fn pool(threads: usize) -> ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Rows with some zeros, some repeated, and with codes that include "unseen".
    pub(super) fn block(rows: usize, numbers: usize, levels: &[u32], seed: u64) -> Block<f32> {
        let mut random = random(seed);
        let mut block = Block {
            row_count: rows,
            number_count: numbers,
            code_count: levels.len(),
            levels: levels.to_vec(),
            ..Block::default()
        };
        for row in 0..rows {
            if row > 0 && random() < 0.1 {
                block.numbers.extend_from_within((row - 1) * numbers..);
                block.codes.extend_from_within((row - 1) * levels.len()..);
                continue;
            }
            let zero = random() < 0.02;
            block
                .numbers
                .extend((0..numbers).map(|_| if zero { 0.0 } else { (random() * 6.0 - 3.0) as f32 }));
            block
                .codes
                .extend(levels.iter().map(|l| ((random() * f64::from(l + 1)) as u32).min(*l)));
        }
        block
    }

    /// A row written out.
    fn dense(block: &Block<f32>, row: usize) -> Vec<f64> {
        let mut out: Vec<f64> = block.row_numbers(row).iter().map(|x| f64::from(*x)).collect();
        out.resize(block.width(), 0.0);
        for ((code, level), offset) in block.row_codes(row).iter().zip(&block.levels).zip(block.code_offsets()) {
            if code < level {
                out[offset + *code as usize] = 1.0;
            }
        }
        out
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn unit(mut v: Vec<f64>) -> Vec<f64> {
        let norm = dot(&v, &v).sqrt();
        v.iter_mut().for_each(|x| *x /= if norm > 0.0 { norm } else { 1.0 });
        v
    }

    pub(super) fn centroids(block: &Block<f32>, metric: Metric, count: usize, seed: u64) -> Centroids {
        let mut random = random(seed);
        let mut values = vec![];
        for _ in 0..count {
            let row = dense(block, (random() * block.row_count as f64) as usize);
            let moved: Vec<f64> = row.iter().map(|x| x * 0.8 + random() * 0.1).collect();
            values.extend(if metric == Metric::Cosine { unit(moved) } else { moved });
        }
        Centroids::new(metric, count, block.number_count, &block.levels, values)
    }

    fn naive(block: &Block<f32>, c: &Centroids, row: usize, j: usize) -> f64 {
        let (x, c) = (dense(block, row), c.row(j));
        x.iter().zip(c).map(|(x, c)| (x - c) * (x - c)).sum()
    }

    fn naive_cosine(block: &Block<f32>, c: &Centroids, row: usize, j: usize) -> f64 {
        1.0 - dot(&unit(dense(block, row)), c.row(j))
    }

    type Shape = (usize, usize, Vec<u32>, usize);

    fn shapes() -> Vec<Shape> {
        vec![
            (1, 1, vec![], 1),
            (15, 3, vec![], 2),
            (1000, 8, vec![], 8),
            (9_999, 5, vec![3, 17], 7),
            (9_001, 0, vec![2, 2, 40], 13),
            (5_000, 37, vec![1], 101),
        ]
    }

    #[test]
    fn labels_are_the_nearest_centroids() {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            for (rows, numbers, levels, count) in shapes() {
                let block = block(rows, numbers, &levels, 11);
                let c = centroids(&block, metric, count, 12);
                let labels = nearest_f32(&block, &c);
                let naive = if metric == Metric::Cosine { naive_cosine } else { naive };
                for (row, label) in labels.iter().enumerate() {
                    let all: Vec<f64> = (0..count).map(|j| naive(&block, &c, row, j)).collect();
                    let least = all.iter().copied().fold(f64::INFINITY, f64::min);
                    let mine = c.distance_squared(&block, row, *label as usize);
                    assert!(
                        (mine - all[*label as usize]).abs() < 1e-12 * (1.0 + mine),
                        "{mine} {}",
                        all[*label as usize]
                    );
                    assert!(
                        mine <= least * (1.0 + 1.01e-6) + 1e-12,
                        "{metric:?} {rows} {row}: {mine} {least}"
                    );
                    assert_eq!(*label, c.nearest_in_f64(block.row_numbers(row), block.row_codes(row)));
                }
            }
        }
    }

    #[test]
    fn every_processor_finds_the_same_labels_and_sums() {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            for (rows, numbers, levels, count) in shapes() {
                let block = block(rows, numbers, &levels, 21);
                let c = centroids(&block, metric, count, 22);
                let (mut labels, mut sums) = (vec![UNASSIGNED; rows], Sums::new(metric, count, block.width()));
                let (mut others, mut other_sums) = (labels.clone(), sums.clone());
                assign_chunk(&block, &c, 0, &mut labels, Some(&mut sums));
                assign_chunk_body::<Portable>(&block, &c, 0, &mut others, Some(&mut other_sums));
                assert_eq!(labels, others);
                assert_eq!(sums, other_sums);
            }
        }
    }

    #[test]
    fn sums_follow_the_rows_for_any_number_of_threads() {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let block = block(20_000, 5, &[3, 17], 31);
            let (first, second) = (centroids(&block, metric, 9, 32), centroids(&block, metric, 9, 33));
            let results: Vec<(Vec<u32>, Sums)> = [1, 2, 7]
                .iter()
                .map(|threads| {
                    let pool = pool(*threads);
                    let (mut labels, mut sums) = (vec![UNASSIGNED; 20_000], Sums::new(metric, 9, block.width()));
                    assert_eq!(assign_f32(&block, &first, &mut labels, &mut sums, &pool), 20_000);
                    let changed = assign_f32(&block, &second, &mut labels, &mut sums, &pool);
                    assert!(changed > 0 && changed < 20_000);
                    assert_eq!(assign_f32(&block, &second, &mut labels, &mut sums, &pool), 0);
                    (labels, sums)
                })
                .collect();
            assert!(results.iter().all(|r| *r == results[0]));
            let (labels, sums) = &results[0];
            let fresh = sums_f32(&block, metric, 9, Some(labels), &pool(2));
            assert_eq!(fresh.rows, sums.rows);
            let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-8);
            assert!(near(&fresh.values, &sums.values));
            let mut naive = vec![0.0; 9 * block.width()];
            for (row, label) in labels.iter().enumerate() {
                let x = if metric == Metric::Cosine {
                    unit(dense(&block, row))
                } else {
                    dense(&block, row)
                };
                naive[*label as usize * block.width()..]
                    .iter_mut()
                    .zip(x)
                    .for_each(|(s, x)| *s += x);
            }
            assert!(near(&naive, &sums.values));

            let own = own_distances_f32(&block, &second, labels, &pool(2));
            let inertia = inertia_f32(&block, &second, labels, &pool(2));
            assert!((own.iter().sum::<f64>() - inertia.iter().sum::<f64>()).abs() < 1e-8);
        }
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        // Halfway between two centroids, up to the rounding of decimal numbers to f32, in whatever lane.
        let numbers: Vec<f32> = (0..64).map(|i| (0.1 * f64::from(i)) as f32).collect();
        let block = Block {
            row_count: 64,
            number_count: 1,
            numbers,
            ..Block::default()
        };
        for row in 0..64 {
            let x = 0.1 * f64::from(row);
            for values in [
                vec![x + 0.3, x - 0.3],
                vec![x - 0.3, x + 0.3],
                vec![x + 9.0, x + 0.3, x - 0.3, x - 0.3],
            ] {
                let first = values.len() as u32 / 4;
                let c = Centroids::new(Metric::Euclidean, values.len(), 1, &[], values);
                assert_eq!(nearest_f32(&block, &c)[row as usize], first, "{row}");
            }
        }
    }

    #[test]
    fn one_far_centroid_does_not_spoil_the_others() {
        let mut block = block(4_000, 4, &[], 41);
        block.numbers[..4].copy_from_slice(&[1e6, -1e6, 1e6, 1e6]);
        let mut c = centroids(&block, Metric::Euclidean, 5, 42).values().to_vec();
        c[12..16].copy_from_slice(&[1e6, -1e6, 1e6, 1e6]);
        let c = Centroids::new(Metric::Euclidean, 5, 4, &[], c);
        let mut lanes = vec![0f32; 4 * LANES];
        let mut unsure = 0;
        for group in 1..4_000 / LANES {
            Portable::transpose(
                &block.numbers[group * LANES * 4..(group + 1) * LANES * 4],
                LANES,
                &mut lanes,
            );
            unsure += c
                .bound
                .certain(&Portable::scan(&lanes, &c, &[]))
                .iter()
                .filter(|c| !**c)
                .count();
        }
        assert!(unsure < 20, "{unsure} of 4,000 rows needed f64");
        let labels = nearest_f32(&block, &c);
        assert_eq!(labels[0], 3);
        assert!((1..4_000).all(|row| labels[row] == c.nearest_in_f64(block.row_numbers(row), &[])));
    }

    #[test]
    fn seeding_knows_distances_and_draws_by_them() {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let block = block(9_000, 5, &[3, 4], 51);
            let distance = |row: usize, seed: usize| {
                let (a, b) = (dense(&block, row), dense(&block, seed));
                let (a, b) = if metric == Metric::Cosine {
                    (unit(a), unit(b))
                } else {
                    (a, b)
                };
                if metric == Metric::Cosine && dot(&a, &a) == 0.0 {
                    return 0.0;
                }
                a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
            };
            let mut closest = vec![f32::MAX; 9_000];
            let sums = closest_f32(&block, metric, 17, &mut closest, &pool(2));
            for (row, d) in closest.iter().enumerate() {
                assert!(
                    (f64::from(*d) - distance(row, 17)).abs() < 1e-4,
                    "{d} {}",
                    distance(row, 17)
                );
            }
            assert_eq!(closest[17], 0.0);
            let total: f64 = closest.iter().map(|d| f64::from(*d)).sum();
            assert!((sums.total() - total).abs() < 1e-6 * total);
            let potentials = potentials_f32(&block, metric, &[17, 3, 8_888], &closest, &pool(3));
            assert!((potentials[0] - total).abs() < 1e-6 * total);
            for (potential, seed) in potentials.iter().zip([17, 3, 8_888]) {
                let expected: f64 = (0..9_000)
                    .map(|row| distance(row, seed).min(f64::from(closest[row])))
                    .sum();
                assert!((potential - expected).abs() < 1e-4 * expected, "{potential} {expected}");
            }
            let mut random = random(7);
            for share in (0..500).map(|_| random()).chain([0.0, 1.0, 1.0 - f64::EPSILON]) {
                let row = sums.row_at(&closest, share).unwrap();
                assert!(closest[row] > 0.0);
                let before: f64 = closest[..row].iter().map(|d| f64::from(*d)).sum();
                assert!((before - share * total).abs() < 1e-6 * total + f64::from(closest[row]));
            }
        }
    }

    #[test]
    fn equal_rows_are_at_distance_nothing() {
        let block = Block {
            row_count: 5,
            number_count: 1,
            numbers: vec![0.1; 5],
            ..Block::default()
        };
        let mut closest = vec![f32::MAX; 5];
        let sums = closest_f32(&block, Metric::Euclidean, 3, &mut closest, &pool(1));
        assert_eq!((sums.total(), sums.row_at(&closest, 0.5)), (0.0, None));
    }
}
