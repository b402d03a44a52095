//! Weighted Gram matrices over encoded blocks, in f64: the one aggregate behind linear and logistic models.
//!
//! The design of a block has the columns `[numbers…, 1, categories…]`: the intercept is a number that is always 1, and a
//! category adds at its code, so one-hot columns are never written out. Rows are cut into chunks whose number depends on the
//! counts alone; each chunk sums into a matrix of its own and the sums are added in order, so that the result does not depend
//! on the number of threads. Within a chunk, panels of [`PANEL_ROWS`] rows are multiplied in tiles of 4 × 8 that stay in
//! registers.

pub mod cuda;
mod rows;
#[cfg(test)]
mod tests_card;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod twin;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

pub use self::rows::Rows;
use crate::Cancelled;
use crate::block::Block;

/// How many rows are taken at a time.
const PANEL_ROWS: usize = 128;
/// About how many bytes the sums of the chunks may take together.
const SUM_BYTES: usize = 256 << 20;
/// No more chunks than this: each costs a matrix to add.
const MAX_CHUNKS: usize = 64;
/// No fewer rows in a chunk than this, where there are as many.
const MIN_CHUNK_ROWS: usize = 8_192;

/// How many columns the design of `block` has: numbers, the intercept, categories.
pub fn design_width<T>(block: &Block<T>) -> usize {
    block.width() + 1
}

fn chunk_count(row_count: usize, width: usize) -> usize {
    let in_memory = SUM_BYTES / (width * width * size_of::<f64>()).max(1);
    row_count.div_ceil(MIN_CHUNK_ROWS).min(in_memory).clamp(1, MAX_CHUNKS)
}

/// At most how many bytes a pass over so many rows of so wide a design takes besides the block.
pub fn pass_bytes(row_count: usize, width: usize) -> usize {
    chunk_count(row_count, width) * width * width * size_of::<f64>()
}

/// Sums over rows.
#[derive(Debug, Clone, Default)]
pub struct Gram {
    /// How many columns the design has.
    pub width: usize,
    /// XᵀWX, `width × width`, symmetric.
    pub matrix: Vec<f64>,
    /// XᵀWz, `width` numbers.
    pub vector: Vec<f64>,
}

/// What [`logistic_pass_f64`] sums.
#[derive(Debug, Clone, Copy)]
pub struct Logistic<'a> {
    /// The coefficients at which everything is evaluated, one for each column of the design.
    pub coefficients: &'a [f64],
    /// The class of each row, 0 or 1; rows with anything else are left out.
    pub labels: &'a [u8],
    /// The weights of the classes 0 and 1.
    pub class_weights: [f64; 2],
    /// The fold of each row and the fold that is left out, if one is.
    pub left_out: Option<(&'a [u8], u8)>,
}

/// The sums of [`logistic_pass_f64`].
#[derive(Debug, Clone, Default)]
pub struct LogisticPass {
    /// XᵀWX with W = weight · p · (1 − p), and the gradient of the loss, Xᵀ(weight · (p − y)).
    pub gram: Gram,
    /// The weighted log loss, summed.
    pub loss: f64,
    /// The weights, summed.
    pub weight: f64,
    /// The largest linear predictor of a row of class 0; −∞ without such rows.
    pub highest_zero: f64,
    /// The smallest linear predictor of a row of class 1; ∞ without such rows.
    pub lowest_one: f64,
}

/// XᵀWX and XᵀWz over all rows of a block. Without `weights` each row weighs 1; without `targets` the vector is 0.
///
/// # Errors
/// The query was cancelled.
pub fn gram_f64(
    block: &Block<f64>,
    weights: Option<&[f64]>,
    targets: Option<&[f64]>,
    pool: &rayon::ThreadPool,
    cancel: &AtomicBool,
) -> Result<Gram, Cancelled> {
    Ok(run(block, &Job::Weighted { weights, targets }, pool, cancel)?.gram)
}

/// Everything that a Newton step of logistic regression needs, in one read of the rows: at the given coefficients, the loss,
/// its gradient and its second derivative.
///
/// # Errors
/// The query was cancelled.
pub fn logistic_pass_f64(
    block: &Block<f64>,
    job: &Logistic<'_>,
    pool: &rayon::ThreadPool,
    cancel: &AtomicBool,
) -> Result<LogisticPass, Cancelled> {
    run(block, &Job::Logistic(*job), pool, cancel)
}

/// The linear predictor of one row: its design times the coefficients.
pub fn linear_predictor_f64(block: &Block<f64>, coefficients: &[f64], row: usize) -> f64 {
    let mut sum = coefficients[block.number_count];
    for (x, c) in block.row_numbers(row).iter().zip(coefficients) {
        sum += x * c;
    }
    let mut offset = block.number_count + 1;
    for (code, levels) in block.row_codes(row).iter().zip(&block.levels) {
        if code < levels {
            sum += coefficients[offset + *code as usize];
        }
        offset += *levels as usize;
    }
    sum
}

/// 1 / (1 + e^−x) of every number, in place. The same to the bit on every processor.
pub fn sigmoid_f64(values: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn sigmoid_avx2(values: &mut [f64]) {
            sigmoid_body(values);
        }
        // SAFETY: the processor has AVX2.
        return unsafe { sigmoid_avx2(values) };
    }
    sigmoid_body(values);
}

#[inline(always)]
fn sigmoid_body(values: &mut [f64]) {
    for v in values {
        *v = 1.0 / (1.0 + exp(-*v));
    }
}

/// e^x to an error of about one unit in the last place, for |x| ≤ 708 and the bounds beyond; without a branch or a call, so that
/// loops over it become vector code.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    // 1.5 · 2⁵²: adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let x = x.clamp(-708.0, 708.0);
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // Taylor's series to r¹³/13!: |r| ≤ ln 2 / 2, so the next term is below 2⁻⁵⁷.
    let mut p = 1.0 / 6_227_020_800.0;
    p = p * r + 1.0 / 479_001_600.0;
    p = p * r + 1.0 / 39_916_800.0;
    p = p * r + 1.0 / 3_628_800.0;
    p = p * r + 1.0 / 362_880.0;
    p = p * r + 1.0 / 40_320.0;
    p = p * r + 1.0 / 5_040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    p * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52))
}

/// How rows get their weights.
enum Job<'a> {
    Weighted {
        weights: Option<&'a [f64]>,
        targets: Option<&'a [f64]>,
    },
    Logistic(Logistic<'a>),
}

impl LogisticPass {
    /// Adds the sums of rows that come after.
    fn add(&mut self, part: &Self) {
        for (a, b) in self.gram.matrix.iter_mut().zip(&part.gram.matrix) {
            *a += b;
        }
        for (a, b) in self.gram.vector.iter_mut().zip(&part.gram.vector) {
            *a += b;
        }
        self.loss += part.loss;
        self.weight += part.weight;
        self.highest_zero = self.highest_zero.max(part.highest_zero);
        self.lowest_one = self.lowest_one.min(part.lowest_one);
    }
}

fn run(
    block: &Block<f64>,
    job: &Job<'_>,
    pool: &rayon::ThreadPool,
    cancel: &AtomicBool,
) -> Result<LogisticPass, Cancelled> {
    let width = design_width(block);
    let chunks = chunk_count(block.row_count, width);
    let of_chunk = |chunk: usize| {
        let rows = chunk * block.row_count / chunks..(chunk + 1) * block.row_count / chunks;
        sum_rows(block, job, rows, cancel)
    };
    // A few at a time, so that few matrices are held; they are added up in the order of the rows, whatever that number.
    let at_once = 2 * pool.current_num_threads().max(1);
    let mut total: Option<LogisticPass> = None;
    for begin in (0..chunks).step_by(at_once) {
        let some = begin..(begin + at_once).min(chunks);
        let parts: Vec<LogisticPass> = pool.install(|| some.into_par_iter().map(of_chunk).collect());
        if cancel.load(Ordering::Relaxed) {
            return Err(Cancelled);
        }
        for part in parts {
            match &mut total {
                Some(total) => total.add(&part),
                None => total = Some(part),
            }
        }
    }
    let mut total = total.unwrap_or_default();
    let intercept = block.number_count;
    let matrix = &mut total.gram.matrix;
    for i in intercept + 1..width {
        // A one-hot column times itself is the column.
        matrix[i * width + i] = matrix[i * width + intercept];
    }
    for i in 0..width {
        for j in 0..i {
            matrix[j * width + i] = matrix[i * width + j];
        }
    }
    Ok(total)
}

fn sum_rows(block: &Block<f64>, job: &Job<'_>, rows: Range<usize>, cancel: &AtomicBool) -> LogisticPass {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx2_fma() {
        #[target_feature(enable = "avx2,fma")]
        fn sum_rows_fma(block: &Block<f64>, job: &Job<'_>, rows: Range<usize>, cancel: &AtomicBool) -> LogisticPass {
            sum_rows_body::<true>(block, job, rows, cancel)
        }
        // SAFETY: the processor has AVX2 and FMA.
        return unsafe { sum_rows_fma(block, job, rows, cancel) };
    }
    sum_rows_body::<false>(block, job, rows, cancel)
}

#[inline(always)]
fn madd<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Some rows, ready to be multiplied.
struct Panel {
    /// Which rows; the first `len` are valid.
    rows: [usize; PANEL_ROWS],
    len: usize,
    /// How far rows lie apart: numbers and intercept, rounded up to a multiple of 8.
    stride: usize,
    /// Numbers, the intercept's 1, zeros.
    x: Vec<f64>,
    /// The same times the row's weight.
    wx: Vec<f64>,
    weights: [f64; PANEL_ROWS],
    /// What is multiplied with x for the vector: weight · z, or weight · (p − y).
    residuals: [f64; PANEL_ROWS],
}

/// Sums the lower triangle over some rows; of the categories' diagonal, only the intercept's column.
#[inline(always)]
fn sum_rows_body<const FMA: bool>(
    block: &Block<f64>,
    job: &Job<'_>,
    rows: Range<usize>,
    cancel: &AtomicBool,
) -> LogisticPass {
    let width = design_width(block);
    let dense = block.number_count + 1;
    let stride = dense.next_multiple_of(8);
    let mut out = LogisticPass {
        gram: Gram {
            width,
            matrix: vec![0.0; width * width],
            vector: vec![0.0; width],
        },
        highest_zero: f64::NEG_INFINITY,
        lowest_one: f64::INFINITY,
        ..LogisticPass::default()
    };
    let mut panel = Panel {
        rows: [0; PANEL_ROWS],
        len: 0,
        stride,
        x: vec![0.0; PANEL_ROWS * stride],
        wx: vec![0.0; PANEL_ROWS * stride],
        weights: [0.0; PANEL_ROWS],
        residuals: [0.0; PANEL_ROWS],
    };
    let mut dense_matrix = vec![0.0; stride * stride];
    let mut dense_vector = vec![0.0; stride];
    let mut dense_coefficients = vec![0.0; stride];
    if let Job::Logistic(logistic) = job {
        dense_coefficients[..dense].copy_from_slice(&logistic.coefficients[..dense]);
    }
    let offsets: Vec<usize> = block.code_offsets().iter().map(|o| o + 1).collect();
    let mut columns: Vec<usize> = Vec::with_capacity(block.code_count);

    let mut next = rows.start;
    while next < rows.end {
        if cancel.load(Ordering::Relaxed) {
            break;
        }
        next = gather(block, job, next..rows.end, &mut panel);
        match job {
            Job::Weighted { weights, targets } => {
                for (i, row) in panel.rows[..panel.len].iter().enumerate() {
                    panel.weights[i] = weights.map_or(1.0, |w| w[*row]);
                    panel.residuals[i] = targets.map_or(0.0, |z| panel.weights[i] * z[*row]);
                    out.weight += panel.weights[i];
                }
            }
            Job::Logistic(logistic) => {
                weigh_logistic::<FMA>(block, logistic, &dense_coefficients, &offsets, &mut panel, &mut out);
            }
        }
        for i in 0..panel.len {
            let (w, r) = (panel.weights[i], panel.residuals[i]);
            let x = &panel.x[i * stride..(i + 1) * stride];
            let wx = &mut panel.wx[i * stride..(i + 1) * stride];
            for j in 0..stride {
                wx[j] = w * x[j];
                dense_vector[j] = madd::<FMA>(r, x[j], dense_vector[j]);
            }
        }
        for i in (0..dense).step_by(4) {
            for j in (0..i + 4).step_by(8) {
                tile::<FMA>(&panel, i, j, &mut dense_matrix);
            }
        }
        for i in 0..panel.len {
            let (w, r) = (panel.weights[i], panel.residuals[i]);
            let wx = &panel.wx[i * stride..i * stride + dense];
            columns.clear();
            for ((code, levels), offset) in block.row_codes(panel.rows[i]).iter().zip(&block.levels).zip(&offsets) {
                if code >= levels {
                    continue;
                }
                let column = offset + *code as usize;
                out.gram.vector[column] += r;
                let sums = &mut out.gram.matrix[column * width..(column + 1) * width];
                for (sum, v) in sums.iter_mut().zip(wx) {
                    *sum += v;
                }
                for other in &columns {
                    sums[*other] += w;
                }
                columns.push(column);
            }
        }
    }
    for i in 0..dense {
        out.gram.matrix[i * width..i * width + i + 1].copy_from_slice(&dense_matrix[i * stride..i * stride + i + 1]);
    }
    out.gram.vector[..dense].copy_from_slice(&dense_vector[..dense]);
    out
}

/// Fills the panel with the next rows that take part; returns where to go on.
#[inline(always)]
fn gather(block: &Block<f64>, job: &Job<'_>, rows: Range<usize>, panel: &mut Panel) -> usize {
    let (mut row, mut len) = (rows.start, 0);
    while row < rows.end && len < PANEL_ROWS {
        let takes_part = match job {
            Job::Weighted { .. } => true,
            Job::Logistic(l) => l.labels[row] <= 1 && l.left_out.is_none_or(|(folds, out)| folds[row] != out),
        };
        if takes_part {
            let numbers = block.row_numbers(row);
            let x = &mut panel.x[len * panel.stride..(len + 1) * panel.stride];
            x[..numbers.len()].copy_from_slice(numbers);
            x[numbers.len()] = 1.0;
            panel.rows[len] = row;
            len += 1;
        }
        row += 1;
    }
    panel.len = len;
    row
}

/// Weights and residuals of the panel's rows at the given coefficients; adds up the loss.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "rows index several arrays at once")]
fn weigh_logistic<const FMA: bool>(
    block: &Block<f64>,
    logistic: &Logistic<'_>,
    dense_coefficients: &[f64],
    offsets: &[usize],
    panel: &mut Panel,
    out: &mut LogisticPass,
) {
    let mut predictors = [0.0; PANEL_ROWS];
    let mut powers = [0.0; PANEL_ROWS];
    for i in 0..panel.len {
        let x = &panel.x[i * panel.stride..(i + 1) * panel.stride];
        let mut lanes = [0.0; 8];
        for (x, c) in x.chunks_exact(8).zip(dense_coefficients.chunks_exact(8)) {
            for l in 0..8 {
                lanes[l] = madd::<FMA>(x[l], c[l], lanes[l]);
            }
        }
        let mut sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
        for ((code, levels), offset) in block.row_codes(panel.rows[i]).iter().zip(&block.levels).zip(offsets) {
            if code < levels {
                sum += logistic.coefficients[offset + *code as usize];
            }
        }
        predictors[i] = sum;
    }
    for (power, predictor) in powers.iter_mut().zip(&predictors) {
        *power = exp(-predictor.abs());
    }
    // ln(1 + e) of all rows of a class at once: the product of 128 numbers from 1 to 2 is far from overflowing.
    let (mut products, mut linear, mut counts) = ([1.0f64; 2], [0.0f64; 2], [0u32; 2]);
    for i in 0..panel.len {
        let class = usize::from(logistic.labels[panel.rows[i]]);
        let (eta, e) = (predictors[i], powers[i]);
        let q = 1.0 / (1.0 + e);
        let (p, not_p) = if eta >= 0.0 { (q, e * q) } else { (e * q, q) };
        let weight = logistic.class_weights[class];
        panel.weights[i] = weight * (e * q * q);
        if class == 1 {
            panel.residuals[i] = -weight * not_p;
            linear[1] += (-eta).max(0.0);
            out.lowest_one = out.lowest_one.min(eta);
        } else {
            panel.residuals[i] = weight * p;
            linear[0] += eta.max(0.0);
            out.highest_zero = out.highest_zero.max(eta);
        }
        products[class] *= 1.0 + e;
        counts[class] += 1;
    }
    for class in 0..2 {
        out.loss += logistic.class_weights[class] * (linear[class] + products[class].ln());
        out.weight += logistic.class_weights[class] * f64::from(counts[class]);
    }
}

/// Adds columns `i..i + 4` of the weighted panel times columns `j..j + 8` of the panel.
#[inline(always)]
fn tile<const FMA: bool>(panel: &Panel, i: usize, j: usize, matrix: &mut [f64]) {
    let stride = panel.stride;
    let mut sums = [[0.0f64; 8]; 4];
    for (wx, x) in panel
        .wx
        .chunks_exact(stride)
        .zip(panel.x.chunks_exact(stride))
        .take(panel.len)
    {
        if let (Some(a), Some(b)) = (wx[i..].first_chunk::<4>(), x[j..].first_chunk::<8>()) {
            for k in 0..4 {
                for l in 0..8 {
                    sums[k][l] = madd::<FMA>(a[k], b[l], sums[k][l]);
                }
            }
        }
    }
    for (k, sums) in sums.iter().enumerate() {
        for (m, sum) in matrix[(i + k) * stride + j..].iter_mut().zip(sums) {
            *m += sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// A block of arbitrary numbers and codes, some unseen.
    fn block(row_count: usize, number_count: usize, levels: &[u32]) -> Block<f64> {
        let mut state = 7u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let numbers = (0..row_count * number_count)
            .map(|_| next() as f64 / f64::from(1u32 << 30) - 1.0)
            .collect();
        let codes = (0..row_count * levels.len())
            .map(|i| (next() % u64::from(levels[i % levels.len()] + 1)) as u32)
            .collect();
        Block {
            row_count,
            number_count,
            numbers,
            code_count: levels.len(),
            codes,
            levels: levels.to_vec(),
        }
    }

    /// The design written out.
    fn design(block: &Block<f64>) -> Vec<Vec<f64>> {
        (0..block.row_count)
            .map(|row| {
                let mut x = block.row_numbers(row).to_vec();
                x.push(1.0);
                for (code, levels) in block.row_codes(row).iter().zip(&block.levels) {
                    x.extend((0..*levels).map(|l| f64::from(u8::from(l == *code))));
                }
                x
            })
            .collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-10 * (1.0 + a.abs().max(b.abs()))
    }

    #[test]
    fn gram_is_what_it_says() {
        for (numbers, levels) in [
            (0, vec![3, 2]),
            (1, vec![]),
            (7, vec![4]),
            (8, vec![2, 5, 3]),
            (20, vec![1, 2]),
        ] {
            let block = block(20_011, numbers, &levels);
            let weights: Vec<f64> = (0..block.row_count).map(|i| 0.5 + (i % 3) as f64).collect();
            let targets: Vec<f64> = (0..block.row_count).map(|i| (i % 5) as f64 - 2.0).collect();
            let gram = gram_f64(
                &block,
                Some(&weights),
                Some(&targets),
                &pool(2),
                &AtomicBool::new(false),
            )
            .unwrap();
            let x = design(&block);
            for i in 0..gram.width {
                let z: f64 = (0..block.row_count).map(|r| weights[r] * x[r][i] * targets[r]).sum();
                assert!(close(gram.vector[i], z), "vector {i}: {} {z}", gram.vector[i]);
                for j in 0..gram.width {
                    let m: f64 = (0..block.row_count).map(|r| weights[r] * x[r][i] * x[r][j]).sum();
                    assert!(
                        close(gram.matrix[i * gram.width + j], m),
                        "{numbers} {levels:?}: ({i}, {j})"
                    );
                }
            }
        }
    }

    #[test]
    fn logistic_pass_is_what_it_says() {
        let block = block(9_001, 5, &[3, 4]);
        let width = design_width(&block);
        let coefficients: Vec<f64> = (0..width).map(|i| (i as f64 * 1.7).sin()).collect();
        let labels: Vec<u8> = (0..block.row_count).map(|i| [0, 1, 1, 255][i % 4]).collect();
        let folds: Vec<u8> = (0..block.row_count).map(|i| (i % 3) as u8).collect();
        let job = Logistic {
            coefficients: &coefficients,
            labels: &labels,
            class_weights: [0.5, 2.0],
            left_out: Some((&folds, 1)),
        };
        let pass = logistic_pass_f64(&block, &job, &pool(2), &AtomicBool::new(false)).unwrap();
        let x = design(&block);
        let (mut loss, mut weight, mut gradient) = (0.0, 0.0, vec![0.0; width]);
        let mut hessian = vec![0.0; width * width];
        for r in (0..block.row_count).filter(|r| labels[*r] < 2 && folds[*r] != 1) {
            let eta: f64 = x[r].iter().zip(&coefficients).map(|(a, b)| a * b).sum();
            assert!(close(eta, linear_predictor_f64(&block, &coefficients, r)));
            let (y, w) = (f64::from(labels[r]), job.class_weights[labels[r] as usize]);
            let p = 1.0 / (1.0 + (-eta).exp());
            loss -= w * (y * p.ln() + (1.0 - y) * (1.0 - p).ln());
            weight += w;
            for i in 0..width {
                gradient[i] += w * (p - y) * x[r][i];
                for j in 0..width {
                    hessian[i * width + j] += w * p * (1.0 - p) * x[r][i] * x[r][j];
                }
            }
        }
        assert!(close(pass.loss, loss) && close(pass.weight, weight));
        assert!(gradient.iter().zip(&pass.gram.vector).all(|(a, b)| close(*a, *b)));
        assert!(hessian.iter().zip(&pass.gram.matrix).all(|(a, b)| close(*a, *b)));
    }

    #[test]
    fn threads_do_not_show() {
        let block = block(100_003, 6, &[5]);
        let cancel = AtomicBool::new(false);
        let one = gram_f64(&block, None, None, &pool(1), &cancel).unwrap();
        let seven = gram_f64(&block, None, None, &pool(7), &cancel).unwrap();
        assert!(one.matrix == seven.matrix);
        cancel.store(true, Ordering::Relaxed);
        assert!(gram_f64(&block, None, None, &pool(1), &cancel).is_err());
    }

    #[test]
    fn sigmoid_is_exact_to_the_last_bits() {
        let mut x: Vec<f64> = (-7_000..7_000).map(|i| f64::from(i) / 173.0).collect();
        let wanted: Vec<f64> = x.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        sigmoid_f64(&mut x);
        for (a, b) in x.iter().zip(&wanted) {
            assert!((a - b).abs() <= 4.0 * f64::EPSILON * b, "{a} {b}");
        }
        let mut ends = [f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.0];
        sigmoid_f64(&mut ends);
        assert!(ends[0] == 1.0 && ends[1] < 1e-300 && ends[2] == 1.0 && ends[3] < 1e-300 && ends[4] == 0.5);
    }
}
