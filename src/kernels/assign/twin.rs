//! `assign.cu` in Rust, thread for thread where the order matters: its specification, and what runs where there is no C++ compiler to
//! run the source itself.

use super::cuda::Column;
use crate::device::driver::Launch;
use crate::device::testing::{Reader, warp_sum};

const UNASSIGNED: u32 = 65_535;
const TIE: f64 = 200.0 * 1e-9;

/// What every kernel knows of rows.
struct Shape {
    row_count: usize,
    number_count: usize,
    code_count: usize,
    k: usize,
    width: usize,
    lane_rows: usize,
    cosine: bool,
}

impl Shape {
    fn read(args: &mut Reader<'_>) -> Self {
        Self {
            row_count: args.u64() as usize,
            number_count: args.u32() as usize,
            code_count: args.u32() as usize,
            k: args.u32() as usize,
            width: args.u32() as usize,
            lane_rows: args.u32() as usize,
            cosine: args.u32() != 0,
        }
    }

    fn tile_rows(&self) -> usize {
        32 * self.lane_rows
    }

    fn padded(&self) -> usize {
        self.row_count.next_multiple_of(self.tile_rows())
    }
}

/// The rows, in tiles.
struct Tiles<'a> {
    shape: &'a Shape,
    numbers: &'a [f32],
    codes: &'a [u32],
    columns: &'a [Column],
}

/// Centroids for exact distances.
struct Exact<'a> {
    centroids: &'a [f64],
    code_squares: &'a [f64],
    zero: &'a [u32],
}

impl<'a> Tiles<'a> {
    unsafe fn read(shape: &'a Shape, args: &mut Reader<'_>) -> Self {
        // SAFETY: the caller's promise: the addresses of tiles of that shape and of its code columns.
        unsafe {
            Self {
                shape,
                numbers: args.slice(shape.padded() * shape.number_count),
                codes: args.slice(shape.padded() * shape.code_count),
                columns: args.slice(shape.code_count),
            }
        }
    }

    fn number(&self, row: usize, column: usize) -> f32 {
        let step = self.shape.tile_rows();
        self.numbers[row / step * step * self.shape.number_count + column * step + row % step]
    }

    fn code(&self, row: usize, column: usize) -> usize {
        let step = self.shape.tile_rows();
        self.codes[row / step * step * self.shape.code_count + column * step + row % step] as usize
    }

    /// A sum of `term` over the number columns, in four partial sums.
    fn sum_of(&self, term: impl Fn(usize) -> f64) -> f64 {
        let whole = self.shape.number_count / 4 * 4;
        let rest = (whole..self.shape.number_count).fold(0.0, |sum, i| sum + term(i));
        let mut sums = [0.0; 4];
        for i in 0..whole {
            sums[i % 4] += term(i);
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
    }

    fn square(&self, row: usize) -> f64 {
        let seen = (0..self.shape.code_count).filter(|c| self.code(row, *c) < self.columns[*c].levels as usize);
        self.sum_of(|i| f64::from(self.number(row, i)) * f64::from(self.number(row, i))) + seen.count() as f64
    }

    fn scale(&self, row: usize) -> f64 {
        if !self.shape.cosine {
            return 1.0;
        }
        let square = self.square(row);
        if square > 0.0 { 1.0 / square.sqrt() } else { 0.0 }
    }

    fn measure(&self, exact: &Exact<'_>, row: usize, scale: f64, j: usize) -> f64 {
        if self.shape.cosine && (scale == 0.0 || exact.zero[j] != 0) {
            return 1.0;
        }
        let c = &exact.centroids[j * self.shape.width..(j + 1) * self.shape.width];
        let mut sum = self.sum_of(|i| {
            let t = f64::from(self.number(row, i)) * scale - c[i];
            t * t
        });
        for (i, column) in self.columns.iter().enumerate() {
            sum += exact.code_squares[i * self.shape.k + j];
            let code = self.code(row, i);
            if code < column.levels as usize {
                sum += scale * (scale - 2.0 * c[column.offset as usize + code]);
            }
        }
        if self.shape.cosine {
            sum *= 0.5;
        }
        if sum > 0.0 { sum } else { 0.0 }
    }

    fn nearest_in_f64(&self, exact: &Exact<'_>, row: usize) -> u32 {
        let scale = self.scale(row);
        let length = if self.shape.cosine {
            1.0
        } else {
            self.square(row).sqrt()
        };
        let (mut limit, mut index) = (f64::INFINITY, 0);
        for j in 0..self.shape.k {
            let square = self.measure(exact, row, scale, j);
            if square < limit {
                let distance = square.sqrt();
                let less = distance - TIE * (length + distance);
                let less = if less > 0.0 { less } else { 0.0 };
                (limit, index) = (less * less, j as u32);
            }
        }
        index
    }

    fn move_row(&self, row: usize, scales: &[f64], sums: &mut [i64], from: u32, to: u32) {
        let scale = self.scale(row);
        let (shape, counts) = (self.shape, self.shape.k * self.shape.width);
        let mut add = |column: usize, value: i64| {
            sums[to as usize * shape.width + column] += value;
            if from != UNASSIGNED {
                sums[from as usize * shape.width + column] -= value;
            }
        };
        for (i, by) in scales[..shape.number_count].iter().enumerate() {
            add(i, fixed(f64::from(self.number(row, i)) * scale * by));
        }
        let one = fixed(scale * scales[shape.number_count]);
        for (i, column) in self.columns.iter().enumerate() {
            let code = self.code(row, i);
            if code < column.levels as usize {
                add(column.offset as usize + code, one);
            }
        }
        sums[counts + to as usize] += 1;
        if from != UNASSIGNED {
            sums[counts + from as usize] -= 1;
        }
    }
}

fn fixed(value: f64) -> i64 {
    value.round_ties_even() as i64
}

/// A sum over columns that a warp shares: each lane every 32nd of them.
fn shared_by_lanes(count: usize, mut term: impl FnMut(usize) -> f64) -> [f64; 32] {
    let mut lanes = [0.0; 32];
    for i in 0..count {
        lanes[i % 32] += term(i);
    }
    lanes
}

fn is_certain(bound: &[f32], best: f32, second: f32, square: f32) -> bool {
    let [gamma, far, base, slope, tie_square, tie_norm, codes] = bound else {
        return false;
    };
    let square = square + codes;
    let norm = square.sqrt();
    let (near_base, near_far) = (base + slope * norm, far * square);
    let near = if near_far < near_base { near_far } else { near_base };
    let error = gamma * (2.0 * near + 5.0 * (best.abs() + second.abs()));
    let tie = tie_square * (second.abs() + square) + tie_norm * norm;
    if second == f32::INFINITY {
        return best.abs() < f32::INFINITY;
    }
    second - best > error + tie
}

/// Runs the twin of a kernel.
///
/// # Safety
/// The arguments are those of the kernel, their addresses those of whole buffers in the process's memory.
pub(crate) unsafe fn run(launch: &Launch<'_>) -> Result<(), String> {
    let mut args = Reader::new(launch.args);
    // SAFETY: the caller's promise.
    unsafe {
        match launch.kernel {
            "assign_pack" => pack(&mut args),
            "assign_sums" => sums(&mut args),
            "assign_update" => update(&mut args),
            "assign_inertia" => inertia(&mut args, launch.grid.0 as usize),
            name if name.starts_with("assign_pass_") => pass(&mut args, name),
            other => return Err(format!("no twin of {other}")),
        }
    }
    args.finish()
}

unsafe fn pack(args: &mut Reader<'_>) {
    let from = args.pointer();
    let row_count = args.u64() as usize;
    let column_count = args.u32() as usize;
    let step = 32 * args.u32() as usize;
    // SAFETY: the caller's promise.
    let (numbers, tiles, extremes) = unsafe {
        (
            Reader::slice_at::<u32>(from, row_count * column_count),
            args.slice_mut::<u32>(row_count.next_multiple_of(step) * column_count),
            args.optional_slice_mut::<u32>(column_count),
        )
    };
    let mut largest = vec![0u32; column_count];
    for (line, out) in tiles.chunks_exact_mut(step).enumerate() {
        let (first, column) = (line / column_count * step, line % column_count);
        for (i, out) in out.iter_mut().enumerate() {
            let row = first + i;
            *out = if row < row_count {
                numbers[row * column_count + column]
            } else {
                0
            };
            largest[column] = largest[column].max(*out & 0x7FFF_FFFF);
        }
    }
    if let Some(extremes) = extremes {
        extremes.iter_mut().zip(largest).for_each(|(e, l)| *e = (*e).max(l));
    }
}

unsafe fn pass(args: &mut Reader<'_>, name: &str) {
    let shape = Shape::read(args);
    let stride = match name.trim_start_matches("assign_pass_").parse() {
        Ok(stride) => stride,
        Err(_) => shape.number_count.next_multiple_of(4),
    };
    let (k, width) = (shape.k, shape.width);
    // SAFETY: the caller's promise; each buffer is as long as the kernel expects.
    unsafe {
        let tiles = Tiles::read(&shape, args);
        let exact = Exact {
            centroids: args.slice(k * width),
            code_squares: args.slice(shape.code_count * k),
            zero: args.slice(k),
        };
        let packed: &[f32] = args.slice(k * stride);
        let bias: &[f32] = args.slice(k);
        let table_len = tiles.columns.iter().map(|c| (c.levels as usize + 1) * k).sum();
        let tables: &[f32] = args.slice(table_len);
        let bound: &[f32] = args.slice(7);
        let scales: &[f64] = args.slice(shape.number_count + 1);
        let labels: &mut [u16] = args.slice_mut(shape.row_count);
        let sums: &mut [i64] = args.slice_mut(k * (width + 1));
        let control: &mut [u32] = args.slice_mut(3);
        let _chunk_and_place = (args.u32(), args.u32());
        if control[0] != 0 {
            return;
        }
        for (row, label) in labels.iter_mut().enumerate() {
            let square =
                (0..shape.number_count).fold(0f32, |sum, i| tiles.number(row, i).mul_add(tiles.number(row, i), sum));
            let (mut best, mut second, mut index) = (f32::INFINITY, f32::INFINITY, 0);
            for j in 0..k {
                let mut score = bias[j];
                if shape.code_count > 0 {
                    let of_codes = tiles.columns.iter().enumerate().fold(0f32, |sum, (i, column)| {
                        sum + tables[column.table as usize + tiles.code(row, i) * k + j]
                    });
                    score += of_codes;
                }
                for i in 0..shape.number_count {
                    score = packed[j * stride + i].mul_add(tiles.number(row, i), score);
                }
                let larger = if score < best { best } else { score };
                second = if larger < second { larger } else { second };
                if score < best {
                    (best, index) = (score, j as u32);
                }
            }
            if !is_certain(bound, best, second, square) {
                index = tiles.nearest_in_f64(&exact, row);
            }
            if index != u32::from(*label) {
                control[1] += 1;
                tiles.move_row(row, scales, sums, u32::from(*label), index);
                *label = index as u16;
            }
        }
    }
}

unsafe fn sums(args: &mut Reader<'_>) {
    let shape = Shape::read(args);
    // SAFETY: the caller's promise.
    unsafe {
        let tiles = Tiles::read(&shape, args);
        let scales: &[f64] = args.slice(shape.number_count + 1);
        let labels: &[u16] = args.slice(shape.row_count);
        let sums: &mut [i64] = args.slice_mut(shape.k * (shape.width + 1));
        for (row, label) in labels.iter().enumerate() {
            tiles.move_row(row, scales, sums, UNASSIGNED, u32::from(*label));
        }
    }
}

unsafe fn update(args: &mut Reader<'_>) {
    const WARPS: usize = 16;
    let row_count = args.u64() as f64;
    let number_count = args.u32() as usize;
    let code_count = args.u32() as usize;
    let k = args.u32() as usize;
    let width = args.u32() as usize;
    let stride = args.u32() as usize;
    let cosine = args.u32() != 0;
    let prepare_only = args.u32() != 0;
    let keep_empty = args.u32() != 0;
    let total_square = args.f64();
    let tolerance = args.f64();
    // SAFETY: the caller's promise.
    unsafe {
        let columns: &[Column] = args.slice(code_count);
        let scales: &[f64] = args.slice(number_count + 1);
        let (sums, counts) = args.slice::<i64>(k * (width + 1)).split_at(k * width);
        let centroids: &mut [f64] = args.slice_mut(k * width);
        let code_squares: &mut [f64] = args.slice_mut(code_count * k);
        let zero: &mut [u32] = args.slice_mut(k);
        let packed: &mut [f32] = args.slice_mut(k * stride);
        let bias: &mut [f32] = args.slice_mut(k);
        let tables: &mut [f32] = args.slice_mut(columns.iter().map(|c| (c.levels as usize + 1) * k).sum());
        let bound: &mut [f32] = args.slice_mut(7);
        let control: &mut [u32] = args.slice_mut(3);
        let records: &mut [f64] = args.slice_mut((control[2] as usize + 1) * 3);
        if control[0] != 0 {
            return;
        }
        if !prepare_only {
            if counts.contains(&0) && !keep_empty {
                control[0] = 3;
                return;
            }
            let (mut shift, mut explained) = ([[0.0; 32]; WARPS], [[0.0; 32]; WARPS]);
            for j in 0..k {
                let rows = counts[j] as f64;
                let sum = |i: usize| sums[j * width + i] as f64 / scales[i.min(number_count)];
                let length = if cosine {
                    warp_sum(shared_by_lanes(width, |i| sum(i) * sum(i))).sqrt()
                } else {
                    0.0
                };
                let moves = if cosine { length > 1e-9 * rows } else { rows > 0.0 };
                let dot = shared_by_lanes(width, |i| {
                    let old = centroids[j * width + i];
                    let by = if cosine { length } else { rows };
                    let mean = if moves { sum(i) / by } else { old };
                    shift[j % WARPS][i % 32] += (mean - old) * (mean - old);
                    if control[1] != 0 {
                        centroids[j * width + i] = mean;
                    }
                    if cosine { mean * sum(i) } else { rows * (mean * mean) }
                });
                explained[j % WARPS].iter_mut().zip(dot).for_each(|(e, d)| *e += d);
            }
            let shift = shift.into_iter().fold(0.0, |sum, lanes| sum + warp_sum(lanes));
            let explained = explained.into_iter().fold(0.0, |sum, lanes| sum + warp_sum(lanes));
            let loss = (total_square - explained) / row_count;
            let pass = control[2] as usize * 3;
            records[pass..pass + 3].copy_from_slice(&[f64::from(control[1]), shift, loss.max(0.0)]);
            control[2] += 1;
            control[0] = match control[1] {
                0 => 1,
                _ if shift <= tolerance => 2,
                _ => 0,
            };
            control[1] = 0;
        }

        let mut largest = 0f64;
        for j in 0..k {
            let c = &centroids[j * width..(j + 1) * width];
            let mut square = warp_sum(shared_by_lanes(stride, |i| {
                let v = if i < number_count { c[i] } else { 0.0 };
                packed[j * stride + i] = (-2.0 * v) as f32;
                v * v
            }));
            bias[j] = if cosine { 0.0 } else { square as f32 };
            for (i, column) in columns.iter().enumerate() {
                let of_column = &c[column.offset as usize..][..column.levels as usize];
                let squares = of_column.iter().fold(0.0, |sum, v| sum + v * v);
                let base = if cosine { 0.0 } else { squares };
                for code in 0..=of_column.len() {
                    let v = of_column.get(code).copied().unwrap_or(0.0);
                    tables[column.table as usize + code * k + j] = (base - 2.0 * v) as f32;
                }
                code_squares[i * k + j] = squares;
                square += squares;
            }
            zero[j] = u32::from(square == 0.0);
            largest = largest.max(square);
        }
        let steps = (number_count + code_count + 8) as f64;
        let euclidean = |v: f64| if cosine { 0.0 } else { v as f32 };
        bound.copy_from_slice(&[
            (steps * 5.960_464_477_539_063e-8 * 1.01) as f32,
            if cosine { f32::MAX } else { 15.0 },
            euclidean(largest),
            (2.0 * largest.sqrt() * 1.001) as f32,
            euclidean(4.4 * TIE),
            if cosine { (15.0 * TIE) as f32 } else { 0.0 },
            code_count as f32,
        ]);
    }
}

unsafe fn inertia(args: &mut Reader<'_>, block_count: usize) {
    let shape = Shape::read(args);
    let block_rows = args.u64() as usize;
    // SAFETY: the caller's promise.
    unsafe {
        let tiles = Tiles::read(&shape, args);
        let exact = Exact {
            centroids: args.slice(shape.k * shape.width),
            code_squares: args.slice(shape.code_count * shape.k),
            zero: args.slice(shape.k),
        };
        let labels: &[u16] = args.slice(shape.row_count);
        let partials: &mut [f64] = args.slice_mut(block_count * shape.k);
        for (block, partial) in partials.chunks_exact_mut(shape.k).enumerate() {
            partial.fill(0.0);
            let rows = block * block_rows..((block + 1) * block_rows).min(shape.row_count);
            for row in rows {
                let label = labels[row] as usize;
                partial[label] += tiles.measure(&exact, row, tiles.scale(row), label);
            }
        }
    }
}
