//! Passes over encoded blocks for logistic regression of many classes, in f64.
//!
//! The design of a block is that of [`crate::gram`]: `[numbers…, 1, categories…]`. Coefficients, and all that is shaped like them, are
//! `width × classes` and row-major: what a column adds to all classes lies together, so that the innermost loops run over the
//! classes. Rows are cut into chunks by their count alone, and the chunks' sums are added in order: the result does not depend on the
//! number of threads.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::Cancelled;
use crate::block::Block;
use crate::gram::{design_width, exp};

/// No more chunks than this: each has sums of its own.
const MAX_CHUNKS: usize = 64;
/// No fewer rows in a chunk than this, where there are as many.
const MIN_CHUNK_ROWS: usize = 4_096;
/// After how many rows a thread asks whether it is to stop.
const CHECK_ROWS: usize = 1_024;

fn chunk_rows(row_count: usize) -> usize {
    let chunks = row_count.div_ceil(MIN_CHUNK_ROWS).clamp(1, MAX_CHUNKS);
    row_count.div_ceil(chunks).max(1)
}

/// How many bytes the sums of a pass take besides the block and the probabilities.
pub fn pass_bytes(row_count: usize, width: usize, classes: usize) -> usize {
    row_count.div_ceil(chunk_rows(row_count)).max(1) * width * classes * size_of::<f64>()
}

/// Rows with their classes, and how much each class counts.
#[derive(Debug, Clone, Copy)]
pub struct Classes<'a> {
    /// The encoded rows.
    pub block: &'a Block<f64>,
    /// The class of each row, from 0; rows with anything beyond the classes are left out.
    pub labels: &'a [u8],
    /// The weight of each class; as many as there are classes.
    pub weights: &'a [f64],
}

/// The sums of [`softmax_pass_f64`].
#[derive(Debug, Clone)]
pub struct SoftmaxPass {
    /// The weighted log loss, summed.
    pub loss: f64,
    /// The weights, summed.
    pub weight: f64,
    /// The gradient of the loss, `width × classes`.
    pub gradient: Vec<f64>,
    /// The smallest difference between a row's linear predictor of its own class and the largest of the others: positive where every
    /// row is predicted right; ∞ without rows.
    pub smallest_margin: f64,
}

/// The loss and its gradient at `coefficients` (`width × classes`), and each row's probability of each class (`rows × classes`, 0 for
/// rows that are left out).
///
/// # Errors
/// The query was cancelled.
pub fn softmax_pass_f64(
    rows: &Classes<'_>,
    coefficients: &[f64],
    probabilities: &mut [f64],
    pool: &rayon::ThreadPool,
    cancel: &AtomicBool,
) -> Result<SoftmaxPass, Cancelled> {
    let step = chunk_rows(rows.block.row_count);
    let of_chunk = |(chunk, probabilities): (usize, &mut [f64])| {
        pass_rows(rows, coefficients, chunk * step, probabilities, cancel)
    };
    let parts: Vec<SoftmaxPass> = pool.install(|| {
        let chunks = probabilities.par_chunks_mut(step * rows.weights.len()).enumerate();
        chunks.map(of_chunk).collect()
    });
    if cancel.load(Ordering::Relaxed) {
        return Err(Cancelled);
    }
    let mut total = SoftmaxPass {
        loss: 0.0,
        weight: 0.0,
        gradient: vec![0.0; design_width(rows.block) * rows.weights.len()],
        smallest_margin: f64::INFINITY,
    };
    for part in parts {
        total.loss += part.loss;
        total.weight += part.weight;
        total.smallest_margin = total.smallest_margin.min(part.smallest_margin);
        add(&mut total.gradient, &part.gradient);
    }
    Ok(total)
}

/// The loss's second derivative times `vector` (`width × classes`), at the coefficients whose `probabilities` [`softmax_pass_f64`]
/// gave.
///
/// # Errors
/// The query was cancelled.
pub fn softmax_product_f64(
    rows: &Classes<'_>,
    probabilities: &[f64],
    vector: &[f64],
    pool: &rayon::ThreadPool,
    cancel: &AtomicBool,
) -> Result<Vec<f64>, Cancelled> {
    let step = chunk_rows(rows.block.row_count);
    let of_chunk =
        |(chunk, probabilities): (usize, &[f64])| product_rows(rows, probabilities, vector, chunk * step, cancel);
    let parts: Vec<Vec<f64>> = pool.install(|| {
        let chunks = probabilities.par_chunks(step * rows.weights.len()).enumerate();
        chunks.map(of_chunk).collect()
    });
    if cancel.load(Ordering::Relaxed) {
        return Err(Cancelled);
    }
    let mut total = vec![0.0; vector.len()];
    for part in parts {
        add(&mut total, &part);
    }
    Ok(total)
}

/// The weights of the rows with which the Gram matrix is the block of the second derivative of classes `one` and `other`, with its sign
/// turned where they differ: weight · p · (1 − p), or weight · p · q. Fills `out`, a number for each row.
pub fn curvature_f64(
    rows: &Classes<'_>,
    probabilities: &[f64],
    (one, other): (usize, usize),
    out: &mut [f64],
    pool: &rayon::ThreadPool,
) {
    let classes = rows.weights.len();
    pool.install(|| {
        let chunks = out.par_chunks_mut(MIN_CHUNK_ROWS);
        let inputs = probabilities.par_chunks(MIN_CHUNK_ROWS * classes);
        let labels = rows.labels.par_chunks(MIN_CHUNK_ROWS);
        chunks
            .zip(inputs)
            .zip(labels)
            .for_each(|((out, probabilities), labels)| {
                for ((out, p), label) in out.iter_mut().zip(probabilities.chunks_exact(classes)).zip(labels) {
                    let weight = rows.weights.get(usize::from(*label)).copied().unwrap_or(0.0);
                    let second = if one == other { 1.0 - p[one] } else { p[other] };
                    *out = weight * p[one] * second;
                }
            });
    });
}

/// A row's linear predictor of each class.
#[inline(always)]
fn predict(block: &Block<f64>, coefficients: &[f64], row: usize, out: &mut [f64]) {
    let classes = out.len();
    let at = block.number_count * classes;
    out.copy_from_slice(&coefficients[at..at + classes]);
    for (x, c) in block.row_numbers(row).iter().zip(coefficients.chunks_exact(classes)) {
        for (out, c) in out.iter_mut().zip(c) {
            *out += x * c;
        }
    }
    let mut offset = block.number_count + 1;
    for (code, levels) in block.row_codes(row).iter().zip(&block.levels) {
        if code < levels {
            let at = (offset + *code as usize) * classes;
            add(out, &coefficients[at..at + classes]);
        }
        offset += *levels as usize;
    }
}

/// Adds a row's design times `residuals`, one for each class, to sums shaped like coefficients.
#[inline(always)]
fn scatter(block: &Block<f64>, residuals: &[f64], row: usize, sums: &mut [f64]) {
    let classes = residuals.len();
    let at = block.number_count * classes;
    add(&mut sums[at..at + classes], residuals);
    for (x, sums) in block.row_numbers(row).iter().zip(sums.chunks_exact_mut(classes)) {
        for (sum, r) in sums.iter_mut().zip(residuals) {
            *sum += x * r;
        }
    }
    let mut offset = block.number_count + 1;
    for (code, levels) in block.row_codes(row).iter().zip(&block.levels) {
        if code < levels {
            let at = (offset + *code as usize) * classes;
            add(&mut sums[at..at + classes], residuals);
        }
        offset += *levels as usize;
    }
}

#[inline(always)]
fn add(sums: &mut [f64], values: &[f64]) {
    for (sum, v) in sums.iter_mut().zip(values) {
        *sum += v;
    }
}

/// Runs a body with wider vectors where the processor has them; no other arithmetic, so the results are the same.
macro_rules! widest {
    ($name:ident, $body:ident, ($($arg:ident: $type:ty),*) -> $out:ty) => {
        fn $name($($arg: $type),*) -> $out {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                #[target_feature(enable = "avx2")]
                fn wide($($arg: $type),*) -> $out {
                    $body($($arg),*)
                }
                // SAFETY: the processor has AVX2.
                return unsafe { wide($($arg),*) };
            }
            $body($($arg),*)
        }
    };
}

widest!(pass_rows, pass_rows_body, (rows: &Classes<'_>, coefficients: &[f64], first: usize, probabilities: &mut [f64], cancel: &AtomicBool) -> SoftmaxPass);
widest!(product_rows, product_rows_body, (rows: &Classes<'_>, probabilities: &[f64], vector: &[f64], first: usize, cancel: &AtomicBool) -> Vec<f64>);

#[inline(always)]
fn pass_rows_body(
    rows: &Classes<'_>,
    coefficients: &[f64],
    first: usize,
    probabilities: &mut [f64],
    cancel: &AtomicBool,
) -> SoftmaxPass {
    let classes = rows.weights.len();
    let mut out = SoftmaxPass {
        loss: 0.0,
        weight: 0.0,
        gradient: vec![0.0; coefficients.len()],
        smallest_margin: f64::INFINITY,
    };
    let mut residuals = vec![0.0; classes];
    for (i, p) in probabilities.chunks_exact_mut(classes).enumerate() {
        if i % CHECK_ROWS == 0 && cancel.load(Ordering::Relaxed) {
            break;
        }
        let row = first + i;
        let class = usize::from(rows.labels[row]);
        let Some(weight) = rows.weights.get(class) else {
            p.fill(0.0);
            continue;
        };
        predict(rows.block, coefficients, row, p);
        let own = p[class];
        let (mut highest, mut rival) = (own, f64::NEG_INFINITY);
        for (k, eta) in p.iter().enumerate() {
            if k != class {
                rival = rival.max(*eta);
            }
        }
        highest = highest.max(rival);
        out.smallest_margin = out.smallest_margin.min(own - rival);
        let mut sum = 0.0;
        for eta in p.iter_mut() {
            *eta = exp(*eta - highest);
            sum += *eta;
        }
        out.loss += weight * ((highest - own) + sum.ln());
        out.weight += weight;
        let share = 1.0 / sum;
        let mut others = 0.0;
        for (k, (p, r)) in p.iter_mut().zip(&mut residuals).enumerate() {
            *p *= share;
            *r = weight * *p;
            if k != class {
                others += *r;
            }
        }
        // Not weight · (p − 1), which keeps few digits where p is near 1.
        residuals[class] = -others;
        scatter(rows.block, &residuals, row, &mut out.gradient);
    }
    out
}

#[inline(always)]
fn product_rows_body(
    rows: &Classes<'_>,
    probabilities: &[f64],
    vector: &[f64],
    first: usize,
    cancel: &AtomicBool,
) -> Vec<f64> {
    let classes = rows.weights.len();
    let mut out = vec![0.0; vector.len()];
    let mut moved = vec![0.0; classes];
    for (i, p) in probabilities.chunks_exact(classes).enumerate() {
        if i % CHECK_ROWS == 0 && cancel.load(Ordering::Relaxed) {
            break;
        }
        let row = first + i;
        let Some(weight) = rows.weights.get(usize::from(rows.labels[row])) else {
            continue;
        };
        predict(rows.block, vector, row, &mut moved);
        let mut mean = 0.0;
        for (m, p) in moved.iter().zip(p) {
            mean += m * p;
        }
        for (m, p) in moved.iter_mut().zip(p) {
            *m = weight * p * (*m - mean);
        }
        scatter(rows.block, &moved, row, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Arbitrary rows: two numbers, a code of three categories with unseen ones, labels of four classes and none.
    fn rows(row_count: usize) -> (Block<f64>, Vec<u8>) {
        let number = |i: usize| ((i * 7_919 + 13) % 1_009) as f64 / 500.0 - 1.0;
        let block = Block {
            row_count,
            number_count: 2,
            numbers: (0..2 * row_count).map(number).collect(),
            code_count: 1,
            codes: (0..row_count).map(|i| (i * 31 % 4) as u32).collect(),
            levels: vec![3],
        };
        let labels = (0..row_count).map(|i| [0, 1, 2, 3, 255][i * 17 % 23 % 5]).collect();
        (block, labels)
    }

    const WEIGHTS: [f64; 4] = [0.5, 1.0, 2.0, 1.5];

    fn coefficients() -> Vec<f64> {
        (0..6 * 4).map(|i| (f64::from(i) * 1.3).sin()).collect()
    }

    #[test]
    fn the_pass_is_what_it_says() {
        let (block, labels) = rows(9_001);
        let classes = Classes {
            block: &block,
            labels: &labels,
            weights: &WEIGHTS,
        };
        let beta = coefficients();
        let cancel = AtomicBool::new(false);
        let mut p = vec![0.0; 4 * block.row_count];
        let pass = softmax_pass_f64(&classes, &beta, &mut p, &pool(2), &cancel).unwrap();
        let (mut loss, mut gradient, mut margin) = (0.0, vec![0.0; 24], f64::INFINITY);
        for row in 0..block.row_count {
            let Some(weight) = WEIGHTS.get(usize::from(labels[row])) else {
                assert!(p[4 * row..4 * row + 4].iter().all(|p| *p == 0.0));
                continue;
            };
            let class = usize::from(labels[row]);
            let mut x = vec![block.numbers[2 * row], block.numbers[2 * row + 1], 1.0];
            x.extend((0..3).map(|l| f64::from(u8::from(l == block.codes[row]))));
            let eta: Vec<f64> = (0..4).map(|k| (0..6).map(|j| x[j] * beta[4 * j + k]).sum()).collect();
            let total: f64 = eta.iter().map(|e| e.exp()).sum();
            loss -= weight * (eta[class].exp() / total).ln();
            for k in 0..4 {
                let probability = eta[k].exp() / total;
                assert!((p[4 * row + k] - probability).abs() < 1e-14);
                if k != class {
                    margin = margin.min(eta[class] - eta[k]);
                }
                for j in 0..6 {
                    gradient[4 * j + k] += weight * x[j] * (probability - f64::from(u8::from(k == class)));
                }
            }
        }
        assert!((pass.loss - loss).abs() < 1e-9 * loss && (pass.smallest_margin - margin).abs() < 1e-12);
        assert!(gradient.iter().zip(&pass.gradient).all(|(a, b)| (a - b).abs() < 1e-9));
        let weight: f64 = labels.iter().filter_map(|l| WEIGHTS.get(usize::from(*l))).sum();
        assert!((pass.weight - weight).abs() < 1e-9);
    }

    #[test]
    fn products_are_differences_of_gradients_and_grams() {
        let (block, labels) = rows(5_003);
        let classes = Classes {
            block: &block,
            labels: &labels,
            weights: &WEIGHTS,
        };
        let (pool, cancel) = (pool(2), AtomicBool::new(false));
        let beta = coefficients();
        let vector: Vec<f64> = (0..24).map(|i| (f64::from(i) * 0.7).cos()).collect();
        let mut p = vec![0.0; 4 * block.row_count];
        let gradient = |share: f64, p: &mut [f64]| {
            let at: Vec<f64> = beta.iter().zip(&vector).map(|(b, v)| b + share * v).collect();
            softmax_pass_f64(&classes, &at, p, &pool, &cancel).unwrap().gradient
        };
        let (above, below) = (gradient(1e-5, &mut p), gradient(-1e-5, &mut p));
        gradient(0.0, &mut p);
        let product = softmax_product_f64(&classes, &p, &vector, &pool, &cancel).unwrap();
        for i in 0..24 {
            let wanted = (above[i] - below[i]) / 2e-5;
            assert!(
                (product[i] - wanted).abs() < 1e-5 * (1.0 + wanted.abs()),
                "{i}: {} {wanted}",
                product[i]
            );
        }
        let mut sums = [0.0; 24];
        let mut weights = vec![0.0; block.row_count];
        for k in 0..4 {
            for l in 0..4 {
                curvature_f64(&classes, &p, (k, l), &mut weights, &pool);
                let gram = crate::gram::gram_f64(&block, Some(&weights), None, &pool, &cancel).unwrap();
                for i in 0..6 {
                    for j in 0..6 {
                        let entry = if k == l {
                            gram.matrix[6 * i + j]
                        } else {
                            -gram.matrix[6 * i + j]
                        };
                        sums[4 * i + k] += entry * vector[4 * j + l];
                    }
                }
            }
        }
        assert!(sums.iter().zip(&product).all(|(a, b)| (a - b).abs() < 1e-9));
    }

    #[test]
    fn threads_do_not_show() {
        let (block, labels) = rows(100_003);
        let classes = Classes {
            block: &block,
            labels: &labels,
            weights: &WEIGHTS,
        };
        let cancel = AtomicBool::new(false);
        let of = |threads: usize| {
            let mut p = vec![0.0; 4 * block.row_count];
            let pass = softmax_pass_f64(&classes, &coefficients(), &mut p, &pool(threads), &cancel).unwrap();
            let product = softmax_product_f64(&classes, &p, &coefficients(), &pool(threads), &cancel).unwrap();
            (pass.loss, pass.gradient, product)
        };
        assert!(of(1) == of(7));
        cancel.store(true, Ordering::Relaxed);
        let mut p = vec![0.0; 4 * block.row_count];
        assert!(softmax_pass_f64(&classes, &coefficients(), &mut p, &pool(1), &cancel).is_err());
    }
}
