//! `gram.cu` in Rust: the same products in the same order.

use crate::device::driver::Launch;
use crate::device::testing::{Reader, warp_sum};

const PANEL_ROWS: usize = 32;
const THREADS: usize = 256;
const TILE: usize = 4;

/// Runs the twin of a kernel.
///
/// # Safety
/// The arguments are those of the kernel, their addresses those of whole buffers in the process's memory.
pub(crate) unsafe fn run(launch: &Launch<'_>) -> Result<(), String> {
    let mut args = Reader::new(launch.args);
    // SAFETY: the caller's promise.
    unsafe {
        match launch.kernel {
            "gram_sums" => sums(&mut args, launch.grid.0 as usize),
            "gram_reduce" => reduce(&mut args),
            other => return Err(format!("no twin of {other}")),
        }
    }
    args.finish()
}

unsafe fn sums(args: &mut Reader<'_>, block_count: usize) {
    let row_count = args.u64() as usize;
    let number_count = args.u32() as usize;
    let code_count = args.u32() as usize;
    let width = args.u32() as usize;
    let tile_count = args.u32() as usize;
    let slices = args.u32() as usize;
    let block_rows = args.u64() as usize;
    let first_block = args.u32() as usize;
    let logistic = args.u32() == 1;
    let stride = width.next_multiple_of(TILE);
    let partial = tile_count * TILE * TILE + width + 4;
    // SAFETY: the caller's promise.
    unsafe {
        let numbers: &[f64] = args.slice(row_count * number_count);
        let codes: &[u32] = args.slice(row_count * code_count);
        let levels: &[u32] = args.slice(code_count);
        let offsets: &[u32] = args.slice(code_count);
        let weights: &[f64] = args.slice(row_count);
        let targets: &[f64] = args.slice(row_count);
        let labels: &[u8] = args.slice(row_count);
        let folds: &[u8] = args.slice(row_count);
        let left_out = args.u32();
        let coefficients: &[f64] = args.slice(width);
        let class_weights = [args.f64(), args.f64()];
        let partials: &mut [f64] = args.slice_mut((first_block + block_count) * partial);

        // (weight, residual, loss, total, high, low) of a row, with its design.
        let weigh = |row: usize, x: &[f64]| {
            let none = (0.0, 0.0, 0.0, 0.0, f64::NEG_INFINITY, f64::INFINITY);
            if !logistic {
                let w = weights.get(row).copied().unwrap_or(1.0);
                let r = targets.get(row).map_or(0.0, |t| w * t);
                return (w, r, 0.0, w, none.4, none.5);
            }
            let mut lanes = [0.0; 8];
            for (j, v) in x.iter().enumerate() {
                let beta = coefficients.get(j).copied().unwrap_or(0.0);
                lanes[j % 8] = v.mul_add(beta, lanes[j % 8]);
            }
            for offset in [4, 1, 2] {
                lanes = std::array::from_fn(|lane| lanes[lane] + lanes[lane ^ offset]);
            }
            let eta: f64 = lanes[0];
            if labels[row] > 1 || folds.get(row).is_some_and(|f| u32::from(*f) == left_out) {
                return none;
            }
            let one = labels[row] == 1;
            let e = (-eta.abs()).exp();
            let q = 1.0 / (1.0 + e);
            let other = e * q;
            let t = class_weights[usize::from(one)];
            let below = if one { -eta } else { eta };
            let loss = t * (below.max(0.0) + e.ln_1p());
            if one {
                (
                    t * (other * q),
                    -t * if eta >= 0.0 { other } else { q },
                    loss,
                    t,
                    none.4,
                    eta,
                )
            } else {
                (
                    t * (other * q),
                    t * if eta >= 0.0 { q } else { other },
                    loss,
                    t,
                    eta,
                    none.5,
                )
            }
        };
        for block in 0..block_count {
            let out = &mut partials[(first_block + block) * partial..][..partial];
            let (tiles, rest) = out.split_at_mut(tile_count * TILE * TILE);
            let (vector, scalars) = rest.split_at_mut(width);
            vector.fill(0.0);
            let mut sliced = vec![vec![0.0; tiles.len()]; slices];
            let (mut loss, mut total, mut high, mut low) = (0.0, 0.0, f64::NEG_INFINITY, f64::INFINITY);
            let end = ((block + 1) * block_rows).min(row_count);
            for first in (block * block_rows..end).step_by(PANEL_ROWS) {
                let (mut losses, mut totals) = ([0.0; 32], [0.0; 32]);
                for row in first..(first + PANEL_ROWS).min(end) {
                    let mut x = numbers[row * number_count..(row + 1) * number_count].to_vec();
                    x.push(1.0);
                    x.resize(stride, 0.0);
                    for i in 0..code_count {
                        let code = codes[row * code_count + i];
                        if code < levels[i] {
                            x[(offsets[i] + code) as usize] = 1.0;
                        }
                    }
                    let (w, r, l, t, h, o) = weigh(row, &x);
                    losses[row - first] = l;
                    totals[row - first] = t;
                    high = if h > high { h } else { high };
                    low = if o < low { o } else { low };
                    for (v, x) in vector.iter_mut().zip(&x) {
                        *v = r.mul_add(*x, *v);
                    }
                    let of_slice = &mut sliced[(row - first) % slices];
                    let places = (0..stride / TILE).flat_map(|i| (0..=i).map(move |j| (i, j)));
                    for ((i, j), tile) in places.zip(of_slice.chunks_exact_mut(TILE * TILE)) {
                        for (at, sum) in tile.iter_mut().enumerate() {
                            *sum = (w * x[i * TILE + at / TILE]).mul_add(x[j * TILE + at % TILE], *sum);
                        }
                    }
                }
                loss += warp_sum(losses);
                total += warp_sum(totals);
            }
            debug_assert!(slices == 1 || slices * tile_count <= THREADS);
            for (at, cell) in tiles.iter_mut().enumerate() {
                *cell = sliced[1..].iter().fold(sliced[0][at], |sum, slice| sum + slice[at]);
            }
            scalars.copy_from_slice(&[loss, total, high, low]);
        }
    }
}

unsafe fn reduce(args: &mut Reader<'_>) {
    let block_count = args.u32() as usize;
    let count = args.u64() as usize;
    // SAFETY: the caller's promise.
    unsafe {
        let partials: &[f64] = args.slice(block_count * count);
        let totals: &mut [f64] = args.slice_mut(count);
        for (at, total) in totals.iter_mut().enumerate() {
            let all = partials.iter().skip(at).step_by(count).copied();
            *total = match count - at {
                1 => all.reduce(f64::min),
                2 => all.reduce(f64::max),
                _ => all.reduce(|a, b| a + b),
            }
            .unwrap_or(0.0);
        }
    }
}
