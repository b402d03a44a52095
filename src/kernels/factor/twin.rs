//! What the kernels of `factor.cu` compute, in plain Rust: the same numbers added in the same order. A thread's tile is no more than a
//! part of the triangle here, for each number of it is a sum of its own.

use super::PIVOT_TOLERANCE;
use super::cuda::{EDGE, FEW_SLOTS, GRAM_ROWS, SUM_COUNT, TILE, WANTED_GAIN, WIDE_SLOTS, tiled};
use crate::device::driver::Launch;
use crate::device::testing::{Reader, warp_sum};

/// Runs one kernel.
///
/// # Safety
/// As [`crate::device::driver::Driver::launch`], the addresses being the process's own.
///
/// # Errors
/// No such kernel, or other parameters than it has.
pub(crate) unsafe fn run(launch: &Launch<'_>) -> Result<(), String> {
    let mut args = Reader::new(launch.args);
    // SAFETY: the caller's promise, for all of them.
    unsafe {
        match launch.kernel {
            "factor_gram" => gram(launch, &mut args, FEW_SLOTS),
            "factor_gram_wide" => gram(launch, &mut args, WIDE_SLOTS),
            "factor_part" => part(launch, &mut args, FEW_SLOTS),
            "factor_part_wide" => part(launch, &mut args, WIDE_SLOTS),
            "factor_row" => rows(launch, &mut args, FEW_SLOTS),
            "factor_row_wide" => rows(launch, &mut args, WIDE_SLOTS),
            "factor_base" => base(&mut args),
            "factor_sum" => sum(launch, &mut args),
            other => return Err(format!("the twin of factor.cu has no kernel {other}")),
        }
    }
    args.finish()
}

/// The next parameter, an address of numbers.
fn pointer<T>(args: &mut Reader<'_>) -> *mut T {
    args.pointer() as *mut T
}

/// The next parameter, `unsigned int`.
fn whole(args: &mut Reader<'_>) -> usize {
    args.u32() as usize
}

/// How a block shares its work.
#[derive(Clone, Copy)]
struct Place {
    width: usize,
    groups: usize,
    parts: usize,
    /// Entries of a panel.
    entries: usize,
}

impl Place {
    fn new(args: &mut Reader<'_>, slots: usize) -> Self {
        let (width, groups, parts) = (whole(args), whole(args), whole(args));
        Self {
            width,
            groups,
            parts,
            entries: parts * slots,
        }
    }

    fn edges(&self) -> usize {
        self.width / EDGE
    }

    /// Numbers of the triangle by tiles.
    fn size(&self) -> usize {
        self.edges() * (self.edges() + 1) / 2 * TILE
    }

    /// Every number of every tile: its row, its column, its place. Tiles on the diagonal are whole.
    fn numbers(self) -> impl Iterator<Item = (usize, usize, usize)> {
        let edges = self.edges();
        (0..self.width).flat_map(move |row| {
            (0..(row / EDGE + 1) * EDGE).map(move |column| (row, column, tiled(row, column, edges)))
        })
    }
}

/// One entry: its row of the fixed side, and by what that is multiplied for A and for b.
struct Entry {
    row: usize,
    root: f32,
    confidence: f32,
}

/// A, `width × width` of which the lower triangle counts, and b of some entries: each group's and each part's entries in their order,
/// then the groups and parts in theirs.
///
/// # Safety
/// `factors` has the entries' rows.
unsafe fn accumulate(place: Place, factors: *const f32, entries: impl Iterator<Item = Entry>) -> (Vec<f32>, Vec<f32>) {
    let width = place.width;
    let mut groups = vec![vec![0f32; width * width]; place.groups];
    let mut parts = vec![vec![0f32; width]; place.parts];
    for (e, entry) in entries.enumerate() {
        let in_panel = e % place.entries;
        // SAFETY: the caller's promise.
        let y = unsafe { std::slice::from_raw_parts(factors.add(entry.row * width), width) };
        for (b, y) in parts[in_panel % place.parts].iter_mut().zip(y) {
            *b = entry.confidence.mul_add(*y, *b);
        }
        let y: Vec<f32> = y.iter().map(|y| entry.root * y).collect();
        let a = &mut groups[in_panel % place.groups];
        for (i, row) in a.chunks_exact_mut(width).enumerate() {
            for (a, yj) in row[..=i].iter_mut().zip(&y) {
                *a = y[i].mul_add(*yj, *a);
            }
        }
    }
    (in_order(groups), in_order(parts))
}

fn in_order(vectors: Vec<Vec<f32>>) -> Vec<f32> {
    let sum = |mut sum: Vec<f32>, next: Vec<f32>| {
        sum.iter_mut().zip(&next).for_each(|(s, v)| *s += *v);
        sum
    };
    vectors.into_iter().reduce(sum).unwrap_or_default()
}

/// # Safety
/// The entries `begin..end` are there.
unsafe fn listed(
    columns: *const u32,
    weights: *const f32,
    unobserved: f32,
    (begin, end): (usize, usize),
) -> impl Iterator<Item = Entry> {
    (begin..end).map(move |e| {
        // SAFETY: the caller's promise.
        let (column, weight) = unsafe { (columns.add(e).read(), weights.add(e).read()) };
        Entry {
            row: column as usize,
            root: weight.sqrt(),
            confidence: weight + unobserved,
        }
    })
}

/// # Safety
/// See [`run`].
unsafe fn gram(launch: &Launch<'_>, args: &mut Reader<'_>, slots: usize) {
    let factors = pointer::<f32>(args);
    let (rows, part_rows) = (args.u64() as usize, args.u64() as usize);
    let place = Place::new(args, slots);
    let partial = pointer::<f64>(args);
    for block in 0..launch.grid.0 as usize {
        let mut total = vec![0f64; place.width * place.width];
        let end = ((block + 1) * part_rows).min(rows);
        for at in (block * part_rows..end).step_by(GRAM_ROWS) {
            let entries = (at..(at + GRAM_ROWS).min(end)).map(|row| Entry {
                row,
                root: 1.0,
                confidence: 0.0,
            });
            // SAFETY: the rows are there.
            let (a, _) = unsafe { accumulate(place, factors, entries) };
            total.iter_mut().zip(&a).for_each(|(t, v)| *t += f64::from(*v));
        }
        for (row, column, at) in place.numbers() {
            let value = total[row.max(column) * place.width + row.min(column)];
            // SAFETY: a triangle a block.
            unsafe { partial.add(block * place.size() + at).write(value) };
        }
    }
}

/// # Safety
/// See [`run`].
unsafe fn base(args: &mut Reader<'_>) {
    let partial = pointer::<f64>(args);
    let (parts, count, weight) = (whole(args), whole(args), args.f64());
    let (exact, narrow) = (pointer::<f64>(args), pointer::<f32>(args));
    for at in 0..count {
        // SAFETY: each part and both results have `count` numbers.
        unsafe {
            let sum = (0..parts).fold(0.0, |sum, p| sum + partial.add(p * count + at).read()) * weight;
            exact.add(at).write(sum);
            narrow.add(at).write(sum as f32);
        }
    }
}

/// # Safety
/// See [`run`].
unsafe fn part(launch: &Launch<'_>, args: &mut Reader<'_>, slots: usize) {
    let ranges = pointer::<u64>(args);
    let (columns, weights) = (pointer::<u32>(args), pointer::<f32>(args));
    let (factors, unobserved) = (pointer::<f32>(args), args.f32());
    let place = Place::new(args, slots);
    let partial = pointer::<f32>(args);
    for block in 0..launch.grid.0 as usize {
        // SAFETY: a range, a triangle and a right side for each block.
        unsafe {
            let range = (
                ranges.add(2 * block).read() as usize,
                ranges.add(2 * block + 1).read() as usize,
            );
            let (a, b) = accumulate(place, factors, listed(columns, weights, unobserved, range));
            let to = partial.add(block * (place.size() + place.width));
            for (row, column, at) in place.numbers() {
                to.add(at).write(a[row.max(column) * place.width + row.min(column)]);
            }
            for (i, b) in b.iter().enumerate() {
                to.add(place.size() + i).write(*b);
            }
        }
    }
}

/// # Safety
/// See [`run`].
unsafe fn rows(launch: &Launch<'_>, args: &mut Reader<'_>, slots: usize) {
    let (order, heavy) = (pointer::<u32>(args), whole(args));
    let (part_begins, partial) = (pointer::<u32>(args), pointer::<f32>(args));
    let offsets = pointer::<u64>(args);
    let (columns, weights) = (pointer::<u32>(args), pointer::<f32>(args));
    let (ridges, factors, base) = (pointer::<f32>(args), pointer::<f32>(args), pointer::<f32>(args));
    let n = whole(args);
    let place = Place::new(args, slots);
    let (unobserved, wanted) = (args.f32(), whole(args));
    let (solution, values, marked) = (pointer::<f32>(args), pointer::<f64>(args), pointer::<u32>(args));
    let width = place.width;
    for block in 0..launch.grid.0 as usize {
        // SAFETY: the caller's promise, for all that the row has.
        unsafe {
            let row = order.add(block).read() as usize;
            let (mut a, b) = if block < heavy {
                let (begin, end) = (part_begins.add(block).read(), part_begins.add(block + 1).read());
                let sum = |at: usize| {
                    let part = |p: u32| f64::from(partial.add(p as usize * (place.size() + width) + at).read());
                    (begin..end).map(part).fold(0.0, |sum, v| sum + v) as f32
                };
                let mut a = vec![0f32; width * width];
                for (row, column, at) in place.numbers() {
                    a[row * width + column] = sum(at);
                }
                (a, (0..width).map(|i| sum(place.size() + i)).collect())
            } else {
                let range = (offsets.add(row).read() as usize, offsets.add(row + 1).read() as usize);
                accumulate(place, factors, listed(columns, weights, unobserved, range))
            };
            for (row, column, at) in place.numbers() {
                a[row * width + column] += base.add(at).read();
            }
            let ridge = ridges.add(row).read();
            for i in 0..width {
                let diagonal = &mut a[i * width + i];
                *diagonal = if i < n { *diagonal + ridge } else { 1.0 };
            }
            let Some(x) = solve(&mut a, b.clone()) else {
                let count = marked.read();
                marked.add(1 + count as usize).write(row as u32);
                marked.write(count + 1);
                values.add(row).write(0.0);
                continue;
            };
            let mut lanes = [0f64; 32];
            for (i, (x, b)) in x.iter().zip(&b).enumerate() {
                solution.add(row * width + i).write(*x);
                let other = if wanted == WANTED_GAIN as usize { b } else { x };
                lanes[i % 32] += f64::from(*x) * f64::from(*other);
            }
            let sum = warp_sum(lanes);
            let value = if wanted == WANTED_GAIN as usize {
                sum
            } else {
                f64::from(ridge) * sum
            };
            values.add(row).write(value);
        }
    }
}

/// Cholesky of the lower triangle, forward and backward substitution; none if f32 is not enough. Every number is changed once for each
/// column before its own, in their order, however the blocks of the source lie.
fn solve(a: &mut [f32], mut x: Vec<f32>) -> Option<Vec<f32>> {
    let width = x.len();
    for i in 0..width {
        let diagonal = a[i * width + i];
        for j in 0..=i {
            let mut v = a[i * width + j];
            for q in 0..j {
                v = (-a[i * width + q]).mul_add(a[j * width + q], v);
            }
            if j < i {
                a[i * width + j] = v * a[j * width + j];
                continue;
            }
            if !(v > PIVOT_TOLERANCE * diagonal && v <= f32::MAX) {
                return None;
            }
            a[i * width + i] = (1.0 / f64::from(v).sqrt()) as f32;
        }
        for q in 0..i {
            x[i] = (-a[i * width + q]).mul_add(x[q], x[i]);
        }
        x[i] *= a[i * width + i];
    }
    for i in (0..width).rev() {
        for q in (i + 1..width).rev() {
            x[i] = (-a[q * width + i]).mul_add(x[q], x[i]);
        }
        x[i] *= a[i * width + i];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// # Safety
/// See [`run`].
unsafe fn sum(launch: &Launch<'_>, args: &mut Reader<'_>) {
    let (values, count, sums) = (pointer::<f64>(args), args.u64() as usize, pointer::<f64>(args));
    let threads = launch.threads as usize;
    for block in 0..launch.grid.0 as usize {
        let mut lanes = vec![[0f64; 32]; threads / 32];
        for at in block * SUM_COUNT..((block + 1) * SUM_COUNT).min(count) {
            let thread = at % threads;
            // SAFETY: below `count`.
            lanes[thread / 32][thread % 32] += unsafe { values.add(at).read() };
        }
        let total = lanes.into_iter().map(warp_sum).reduce(|sum, warp| sum + warp);
        // SAFETY: a sum a block.
        unsafe { sums.add(block).write(total.unwrap_or(0.0)) };
    }
}
