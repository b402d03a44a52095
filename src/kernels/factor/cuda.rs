//! The card's body of the factor solve: both sides' entries and factors stay on the card from the first iteration to the last.

use std::cmp::Reverse;
use std::ops::Range;

use rayon::prelude::*;

use super::alternation::{Iteration, Problem, Side, penalty};
use super::{Base, PIVOT_TOLERANCE, padded, solve_row_f64};
use crate::compute::{Compute, Declined};
use crate::device::driver::{Arg, DriverError, Launch};
use crate::device::memory::{Buffer, Plain, Queue};
use crate::device::sources::Source;

/// Rows and columns of a tile.
pub(super) const EDGE: usize = 8;
/// Numbers of a tile.
pub(super) const TILE: usize = EDGE * EDGE;
/// Entries of a panel that a thread gathers, by kind of block.
pub(super) const FEW_SLOTS: usize = 4;
pub(super) const WIDE_SLOTS: usize = 2;
/// The most entries of a panel.
const PANEL_ENTRIES: usize = 32;
/// The most threads of a block, by kind.
const MOST_THREADS: usize = 544;
const FEW_THREADS: usize = 256;
/// Rows whose products are added in f32.
pub(super) const GRAM_ROWS: usize = 1024;
/// Threads of a block that works on single numbers, and how many such a block adds.
const PLAIN_THREADS: usize = 256;
pub(super) const SUM_COUNT: usize = 4096;
/// What a row gives besides its solution.
pub(super) const WANTED_GAIN: u32 = 0;
const WANTED_PENALTY: u32 = 1;

/// The most factors that are served.
const MOST_FACTORS: usize = 256;
/// Rows with more entries than this are added up by several blocks, each of about as many.
const HEAVY_ENTRIES: usize = 4096;
/// The most blocks for one row.
const MOST_PARTS: usize = 1024;
/// Bytes of such parts at a time, unless one row needs more.
const PARTIAL_BYTES: usize = 256 << 20;
/// Parts of YᵀY, and the fewest rows of one.
const GRAM_PARTS: usize = 256;
const GRAM_PART_ROWS: usize = 256;
/// Up to so many rows that the CPU solved are sent to the card one by one.
const FEW_REPAIRS: usize = 64;

/// The source of all kernels.
pub(crate) static SOURCE: Source = Source {
    name: "factor",
    text: include_str!("../factor.cu"),
    kernels: &[
        "factor_gram",
        "factor_gram_wide",
        "factor_part",
        "factor_part_wide",
        "factor_row",
        "factor_row_wide",
        "factor_base",
        "factor_sum",
    ],
    ptx: include_str!("../factor.ptx"),
    constants: &[
        ("EDGE", EDGE as f64),
        ("QUARTERS", (TILE / 4) as f64),
        ("FEW_SLOTS", FEW_SLOTS as f64),
        ("WIDE_SLOTS", WIDE_SLOTS as f64),
        ("PANEL_ENTRIES", PANEL_ENTRIES as f64),
        ("MOST_THREADS", MOST_THREADS as f64),
        ("FEW_THREADS", FEW_THREADS as f64),
        ("GRAM_ROWS", GRAM_ROWS as f64),
        ("PLAIN_THREADS", PLAIN_THREADS as f64),
        ("SUM_COUNT", SUM_COUNT as f64),
        ("WANTED_GAIN", WANTED_GAIN as f64),
        ("WANTED_PENALTY", WANTED_PENALTY as f64),
        // The text says it as a double.
        ("PIVOT_TOLERANCE", 1e-4),
    ],
};
const _: () = assert!(PIVOT_TOLERANCE == 1e-4);

/// Why the card stopped.
#[derive(Debug)]
pub(super) enum Stopped {
    Cancelled,
    Declined(Declined),
}

impl From<DriverError> for Stopped {
    fn from(e: DriverError) -> Self {
        Stopped::Declined(e.into())
    }
}

/// How a row's triangle is shared among the threads of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    /// Factors, padded to whole tiles: numbers of a row on the card.
    width: usize,
    tiles: usize,
    /// Groups of threads that share a panel's entries.
    groups: usize,
    /// Threads that gather the same columns.
    parts: usize,
    threads: usize,
    is_wide: bool,
}

impl Shape {
    /// The fewest threads that hold the triangle and are well used; groups make use of those that are left over.
    fn new(n: usize) -> Self {
        let edges = n.div_ceil(EDGE);
        let (width, tiles) = (edges * EDGE, edges * (edges + 1) / 2);
        let is_wide = tiles > FEW_THREADS;
        let parts = if is_wide || edges <= 8 { 8 } else { 4 };
        let fewest = tiles.max(width / 4 * parts).next_multiple_of(32);
        let groups = |threads: usize| (threads / tiles).min(8);
        let used = |threads: usize| (groups(threads) * tiles) as f64 / threads as f64;
        let mut threads = fewest;
        if !is_wide {
            for more in (fewest..=FEW_THREADS.min(fewest + 128)).step_by(32) {
                // Smaller blocks overlap better, so that a larger one must be much better used.
                if used(more) > used(threads) + 0.15 {
                    threads = more;
                }
            }
        }
        Self {
            width,
            tiles,
            groups: groups(threads),
            parts,
            threads,
            is_wide,
        }
    }

    /// Numbers of a triangle.
    fn size(&self) -> usize {
        self.tiles * TILE
    }

    /// As `carve` in the source.
    fn shared_bytes(&self) -> usize {
        let slots = if self.is_wide { WIDE_SLOTS } else { FEW_SLOTS };
        let panels = 2 * self.parts * slots * self.width;
        let joined = (self.groups - 1) * self.size();
        (panels.max(joined) + (self.parts + 3) * self.width + TILE + 6 * PANEL_ENTRIES + 4) * size_of::<f32>()
    }
}

/// In which order rows are solved: the longest first, those that are added up in parts before all others; rows without entries are left
/// out.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    order: Vec<u32>,
    /// Begin and end of each part.
    ranges: Vec<u64>,
    /// For each batch, where the parts of its heavy rows begin, and where the last ones end; counted from the batch's first.
    begins: Vec<u32>,
    batches: Vec<Batch>,
    most_parts: usize,
}

/// Rows that are solved by one launch.
#[derive(Debug, Clone, PartialEq)]
struct Batch {
    rows: Range<usize>,
    /// How many of them are heavy.
    heavy: usize,
    parts: Range<usize>,
    begins: usize,
}

impl Plan {
    /// Heavy rows go together as long as they have no more than `batch_parts` parts.
    fn new(offsets: &[usize], heavy_entries: usize, batch_parts: usize) -> Self {
        let length = |row: u32| offsets[row as usize + 1] - offsets[row as usize];
        let mut plan = Self {
            order: (0..offsets.len() as u32 - 1).filter(|row| length(*row) > 0).collect(),
            ..Self::default()
        };
        plan.order.sort_unstable_by_key(|row| (Reverse(length(*row)), *row));
        let mut batch = Batch {
            rows: 0..0,
            heavy: 0,
            parts: 0..0,
            begins: 0,
        };
        plan.begins.push(0);
        for row in plan
            .order
            .iter()
            .copied()
            .take_while(|row| length(*row) > heavy_entries)
        {
            let parts = length(row).div_ceil(heavy_entries).min(MOST_PARTS);
            if batch.heavy > 0 && batch.parts.len() + parts > batch_parts {
                let next = Batch {
                    rows: batch.rows.end..batch.rows.end,
                    heavy: 0,
                    parts: batch.parts.end..batch.parts.end,
                    begins: plan.begins.len(),
                };
                plan.batches.push(std::mem::replace(&mut batch, next));
                plan.begins.push(0);
            }
            let size = length(row).div_ceil(parts);
            let (begin, end) = (offsets[row as usize], offsets[row as usize + 1]);
            for at in (begin..end).step_by(size) {
                plan.ranges.extend([at as u64, (at + size).min(end) as u64]);
            }
            batch.parts.end = plan.ranges.len() / 2;
            batch.rows.end += 1;
            batch.heavy += 1;
            plan.most_parts = plan.most_parts.max(batch.parts.len());
            plan.begins.push(batch.parts.len() as u32);
        }
        batch.rows.end = plan.order.len();
        if !batch.rows.is_empty() {
            plan.batches.push(batch);
        }
        plan
    }
}

/// One side on the card.
#[derive(Debug)]
struct CardSide {
    rows: usize,
    batches: Vec<Batch>,
    order: Buffer<u32>,
    ranges: Buffer<u64>,
    begins: Buffer<u32>,
    offsets: Buffer<u64>,
    columns: Buffer<u32>,
    weights: Buffer<f32>,
    ridges: Buffer<f32>,
    /// Rows × width.
    factors: Buffer<f32>,
    /// What each row gives besides its solution; 0 for rows without entries, which are never solved.
    values: Buffer<f64>,
    /// Rows without entries have factors from the start, until this side is solved first.
    was_solved: bool,
}

/// Both sides on the card.
#[derive(Debug)]
pub(super) struct OnCard {
    queue: Queue,
    n: usize,
    unobserved: f32,
    shape: Shape,
    users: CardSide,
    items: CardSide,
    /// Parts of YᵀY.
    gram: Buffer<f64>,
    /// YᵀY times the unobserved weight, by tiles.
    exact: Buffer<f64>,
    narrow: Buffer<f32>,
    /// Parts of heavy rows: a triangle and a right side each.
    partial: Buffer<f32>,
    /// How many rows are left to the CPU, and which.
    marked: Buffer<u32>,
    sums: Buffer<f64>,
}

impl OnCard {
    /// Uploads a problem.
    pub(super) fn new(queue: Queue, problem: &Problem<'_>, item_factors: &[f32]) -> Result<Self, Declined> {
        Self::with_limits(queue, problem, item_factors, HEAVY_ENTRIES, PARTIAL_BYTES)
    }

    fn with_limits(
        queue: Queue,
        problem: &Problem<'_>,
        item_factors: &[f32],
        heavy_entries: usize,
        partial_bytes: usize,
    ) -> Result<Self, Declined> {
        let n = problem.factor_count;
        if n > MOST_FACTORS {
            return Err(Declined::Unsupported(format!(
                "the card solves up to {MOST_FACTORS} factors, as a row's matrix must fit its registers, and {n} are wanted"
            )));
        }
        let (user_count, item_count) = (problem.users.row_count(), problem.items.row_count());
        if user_count.max(item_count) >= i32::MAX as usize {
            return Err(Declined::Unsupported(
                "the card counts users and items in 31 bits, and there are more".into(),
            ));
        }
        let shape = Shape::new(n);
        let shared = queue.card().shared_bytes as usize;
        if shape.shared_bytes() > shared {
            return Err(Declined::Unsupported(format!(
                "{n} factors need {} bytes of shared memory a block, and the card has {shared}",
                shape.shared_bytes()
            )));
        }
        if !is_sound(&problem.users, item_count)
            || !is_sound(&problem.items, user_count)
            || item_factors.len() != item_count * n
        {
            return Err(Declined::Unsupported(
                "entries, rows and factors do not fit together, and the card does not check them".into(),
            ));
        }
        let part_bytes = (shape.size() + shape.width) * size_of::<f32>();
        let batch_parts = (partial_bytes / part_bytes).max(1);
        let plans = [&problem.users, &problem.items].map(|side| Plan::new(side.offsets, heavy_entries, batch_parts));
        let most_rows = user_count.max(item_count);
        let most_parts = plans[0].most_parts.max(plans[1].most_parts);
        let gram_parts = if problem.unobserved_weight > 0.0 {
            gram_parts(user_count).1.max(gram_parts(item_count).1)
        } else {
            0
        };
        let common = gram_parts * shape.size() * 8
            + shape.size() * 12
            + most_parts * part_bytes
            + (most_rows + 1) * 4
            + most_rows.div_ceil(SUM_COUNT) * 8;
        let needed = side_bytes(&problem.users, &plans[0], &shape)
            .saturating_add(side_bytes(&problem.items, &plans[1], &shape))
            .saturating_add(common);
        if needed > queue.bytes_left() {
            return Err(Declined::Unsupported(format!(
                "entries and factors of both sides need {:.1} MB of the card's memory, and {:.1} MB are left of it within \
                 ml.gpu_memory_limit",
                needed as f64 / 1e6,
                queue.bytes_left() as f64 / 1e6
            )));
        }
        queue.load(&SOURCE)?;
        let [user_plan, item_plan] = plans;
        let users = CardSide::new(
            &queue,
            &problem.users,
            user_plan,
            queue.zeros(user_count * shape.width)?,
        )?;
        let factors = if shape.width == n {
            queue.uploaded(item_factors)?
        } else {
            queue.uploaded(&widened(item_factors, n, shape.width))?
        };
        let items = CardSide::new(&queue, &problem.items, item_plan, factors)?;
        Ok(Self {
            n,
            unobserved: problem.unobserved_weight,
            users,
            items,
            gram: queue.buffer(gram_parts * shape.size())?,
            // They stay 0 where nothing unobserved has a weight.
            exact: queue.zeros(shape.size())?,
            narrow: queue.zeros(shape.size())?,
            partial: queue.buffer(most_parts * part_bytes / size_of::<f32>())?,
            marked: queue.buffer(most_rows + 1)?,
            sums: queue.buffer(most_rows.div_ceil(SUM_COUNT))?,
            shape,
            queue,
        })
    }

    /// Solves the users, then the items.
    pub(super) fn iterate(&mut self, problem: &Problem<'_>, compute: &Compute<'_>) -> Result<Iteration, Stopped> {
        let penalty = self.half(true, problem, compute)?;
        let gain = self.half(false, problem, compute)?;
        Ok(Iteration { gain, penalty })
    }

    /// User and item factors, without padding.
    pub(super) fn factors(&self) -> Result<(Vec<f32>, Vec<f32>), DriverError> {
        Ok((self.factors_of(&self.users)?, self.factors_of(&self.items)?))
    }

    fn factors_of(&self, side: &CardSide) -> Result<Vec<f32>, DriverError> {
        let wide = self.downloaded(&side.factors)?;
        if self.shape.width == self.n {
            return Ok(wide);
        }
        Ok(wide
            .chunks_exact(self.shape.width)
            .flat_map(|row| &row[..self.n])
            .copied()
            .collect())
    }

    fn downloaded<T: Plain + Default>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, DriverError> {
        let mut values = vec![T::default(); buffer.len()];
        self.queue.download(buffer, 0, &mut values)?;
        Ok(values)
    }

    /// Solves one side; the users' penalty or the items' gain.
    fn half(&mut self, users: bool, problem: &Problem<'_>, compute: &Compute<'_>) -> Result<f64, Stopped> {
        let cancelled = || {
            if compute.is_cancelled() {
                Err(Stopped::Cancelled)
            } else {
                Ok(())
            }
        };
        cancelled()?;
        if self.unobserved > 0.0 {
            self.weighted_gram(if users { &self.items } else { &self.users })?;
        }
        self.queue.fill(&mut self.marked, 0)?;
        let side = if users { &mut self.users } else { &mut self.items };
        if !std::mem::replace(&mut side.was_solved, true) {
            // Rows without entries are 0 from now on.
            self.queue.fill(&mut side.factors, 0)?;
        }
        let (side, fixed) = if users {
            (&self.users, &self.items)
        } else {
            (&self.items, &self.users)
        };
        for batch in &side.batches {
            cancelled()?;
            self.solve(batch, side, fixed, if users { WANTED_PENALTY } else { WANTED_GAIN })?;
        }
        let sum_count = side.rows.div_ceil(SUM_COUNT);
        let launch = Launch {
            source: &SOURCE,
            kernel: "factor_sum",
            grid: (sum_count as u32, 1),
            threads: PLAIN_THREADS as u32,
            shared_bytes: (PLAIN_THREADS / 32 * size_of::<f64>()) as u32,
            args: &[side.values.arg(), Arg::U64(side.rows as u64), self.sums.arg()],
        };
        // SAFETY: `values` has `rows` numbers, and `sums` one for each 4,096 of them.
        unsafe { self.queue.launch(&launch)? };
        let mut sums = vec![0f64; sum_count];
        self.queue.download(&self.sums, 0, &mut sums)?;
        let mut marked = [0u32];
        self.queue.download(&self.marked, 0, &mut marked)?;
        let sum: f64 = sums.iter().sum();
        if marked[0] == 0 {
            return Ok(sum);
        }
        cancelled()?;
        Ok(sum + self.repair(users, marked[0] as usize, problem, compute)?)
    }

    /// `YᵀY` of one side, times the unobserved weight.
    fn weighted_gram(&self, fixed: &CardSide) -> Result<(), DriverError> {
        let (part_rows, parts) = gram_parts(fixed.rows);
        let shape = &self.shape;
        let args = [
            fixed.factors.arg(),
            Arg::U64(fixed.rows as u64),
            Arg::U64(part_rows as u64),
            Arg::U32(shape.width as u32),
            Arg::U32(shape.groups as u32),
            Arg::U32(shape.parts as u32),
            self.gram.arg(),
        ];
        // SAFETY: as many parameters as the kernel has; `gram` has room for the parts of either side.
        unsafe { self.launch(["factor_gram", "factor_gram_wide"], parts, &args)? };
        let launch = Launch {
            source: &SOURCE,
            kernel: "factor_base",
            grid: (shape.size().div_ceil(PLAIN_THREADS) as u32, 1),
            threads: PLAIN_THREADS as u32,
            shared_bytes: 0,
            args: &[
                self.gram.arg(),
                Arg::U32(parts as u32),
                Arg::U32(shape.size() as u32),
                Arg::F64(f64::from(self.unobserved)),
                self.exact.arg(),
                self.narrow.arg(),
            ],
        };
        // SAFETY: each part, `exact` and `narrow` have as many numbers as the triangle.
        unsafe { self.queue.launch(&launch) }
    }

    fn solve(&self, batch: &Batch, side: &CardSide, fixed: &CardSide, wanted: u32) -> Result<(), DriverError> {
        let shape = &self.shape;
        let sizes = [
            Arg::U32(shape.width as u32),
            Arg::U32(shape.groups as u32),
            Arg::U32(shape.parts as u32),
        ];
        if !batch.parts.is_empty() {
            let args = [
                side.ranges.arg_from(2 * batch.parts.start),
                side.columns.arg(),
                side.weights.arg(),
                fixed.factors.arg(),
                Arg::F32(self.unobserved),
                sizes[0],
                sizes[1],
                sizes[2],
                self.partial.arg(),
            ];
            // SAFETY: the ranges lie within the entries, these within the fixed side (`is_sound`), and `partial` has room for the
            // parts of any batch.
            unsafe { self.launch(["factor_part", "factor_part_wide"], batch.parts.len(), &args)? };
        }
        let args = [
            side.order.arg_from(batch.rows.start),
            Arg::U32(batch.heavy as u32),
            side.begins.arg_from(batch.begins),
            self.partial.arg(),
            side.offsets.arg(),
            side.columns.arg(),
            side.weights.arg(),
            side.ridges.arg(),
            fixed.factors.arg(),
            self.narrow.arg(),
            Arg::U32(self.n as u32),
            sizes[0],
            sizes[1],
            sizes[2],
            Arg::F32(self.unobserved),
            Arg::U32(wanted),
            side.factors.arg(),
            side.values.arg(),
            self.marked.arg(),
        ];
        // SAFETY: as above; `order` holds each row once, so that no two blocks write the same, and `marked` has room for all.
        unsafe { self.launch(["factor_row", "factor_row_wide"], batch.rows.len(), &args) }
    }

    /// Launches the one of two kernels that is for this shape.
    ///
    /// # Safety
    /// As [`Queue::launch`].
    unsafe fn launch(&self, kernels: [&str; 2], grid: usize, args: &[Arg]) -> Result<(), DriverError> {
        let launch = Launch {
            source: &SOURCE,
            kernel: kernels[usize::from(self.shape.is_wide)],
            grid: (grid as u32, 1),
            threads: self.shape.threads as u32,
            shared_bytes: self.shape.shared_bytes() as u32,
            args,
        };
        // SAFETY: the caller's promise.
        unsafe { self.queue.launch(&launch) }
    }

    /// Solves the marked rows on the CPU, in f64; what they add to the side's sum.
    fn repair(
        &mut self,
        users: bool,
        count: usize,
        problem: &Problem<'_>,
        compute: &Compute<'_>,
    ) -> Result<f64, Stopped> {
        let (n, width) = (self.n, self.shape.width);
        let mut rows = vec![0u32; count];
        self.queue.download(&self.marked, 1, &mut rows)?;
        // The blocks marked them in any order.
        rows.sort_unstable();
        let fixed = self.factors_of(if users { &self.items } else { &self.users })?;
        let base = untiled(&self.downloaded(&self.exact)?, n, &self.shape);
        let host = if users { &problem.users } else { &problem.items };
        let sweep = problem.sweep(host, &fixed);
        let solve = |row: &u32| {
            let (row, mut x) = (*row as usize, vec![0f32; width]);
            if compute.is_cancelled() {
                return (x, 0.0);
            }
            let gain = solve_row_f64(&sweep, row, &base, &mut x[..n]);
            let value = if users {
                penalty(&x[..n], sweep.ridges[row])
            } else {
                gain
            };
            (x, value)
        };
        let solved: Vec<(Vec<f32>, f64)> = compute.pool.install(|| rows.par_iter().map(solve).collect());
        if compute.is_cancelled() {
            return Err(Stopped::Cancelled);
        }
        let side = if users { &mut self.users } else { &mut self.items };
        let repaired = rows.iter().map(|row| *row as usize * width).zip(&solved);
        if count <= FEW_REPAIRS {
            for (at, (x, _)) in repaired {
                self.queue.upload(x, &mut side.factors, at)?;
            }
        } else {
            let mut factors = vec![0f32; side.factors.len()];
            self.queue.download(&side.factors, 0, &mut factors)?;
            for (at, (x, _)) in repaired {
                factors[at..at + width].copy_from_slice(x);
            }
            self.queue.upload(&factors, &mut side.factors, 0)?;
        }
        Ok(solved.iter().map(|(_, value)| value).sum())
    }
}

impl CardSide {
    fn new(queue: &Queue, side: &Side<'_>, plan: Plan, factors: Buffer<f32>) -> Result<Self, DriverError> {
        let offsets: Vec<u64> = side.offsets.iter().map(|o| *o as u64).collect();
        Ok(Self {
            rows: side.row_count(),
            order: queue.uploaded(&plan.order)?,
            ranges: queue.uploaded(&plan.ranges)?,
            begins: queue.uploaded(&plan.begins)?,
            batches: plan.batches,
            offsets: queue.uploaded(&offsets)?,
            columns: queue.uploaded(side.columns)?,
            weights: queue.uploaded(side.weights)?,
            ridges: queue.uploaded(side.ridges)?,
            values: queue.zeros(side.row_count())?,
            factors,
            was_solved: false,
        })
    }
}

/// Bytes of one side on the card.
fn side_bytes(side: &Side<'_>, plan: &Plan, shape: &Shape) -> usize {
    let rows = side.row_count();
    let per_row = 8 + 4 + 8 + shape.width * size_of::<f32>();
    let lists = (plan.order.len() + 2 * plan.ranges.len() + plan.begins.len()) * 4;
    rows.saturating_mul(per_row)
        .saturating_add(side.columns.len().saturating_mul(8))
        .saturating_add(lists + 8)
}

/// Whether offsets, entries and rows fit together, and every entry's column is one of `columns` rows of the other side.
fn is_sound(side: &Side<'_>, columns: usize) -> bool {
    let entries = side.columns.len();
    side.offsets.is_sorted()
        && side.offsets.last().is_some_and(|last| *last <= entries)
        && side.weights.len() == entries
        && side.ridges.len() == side.row_count()
        && side.columns.iter().max().is_none_or(|most| (*most as usize) < columns)
}

/// Rows of a part of YᵀY, and how many parts.
fn gram_parts(rows: usize) -> (usize, usize) {
    let part_rows = rows.div_ceil(GRAM_PARTS).max(GRAM_PART_ROWS);
    (part_rows, rows.div_ceil(part_rows))
}

/// Rows of `n` numbers, padded with zeros.
fn widened(rows: &[f32], n: usize, width: usize) -> Vec<f32> {
    let mut wide = vec![0f32; rows.len() / n * width];
    for (to, from) in wide.chunks_exact_mut(width).zip(rows.chunks_exact(n)) {
        to[..n].copy_from_slice(from);
    }
    wide
}

/// Where number `(row, column)` of the lower triangle lies among the tiles, see the source.
pub(super) fn tiled(row: usize, column: usize, edges: usize) -> usize {
    let (i, j) = (row / EDGE, column / EDGE);
    let tile = j * edges - j * j.saturating_sub(1) / 2 + i - j;
    let quarter = (row % EDGE) * 2 + column % EDGE / 4;
    4 * (quarter * (edges * (edges + 1) / 2) + tile) + column % 4
}

/// The upper triangle as the CPU keeps it, from the lower one by tiles.
fn untiled(tiles: &[f64], n: usize, shape: &Shape) -> Base {
    let stride = padded(n);
    let mut exact = vec![0f64; stride * stride];
    for row in 0..n {
        for column in 0..=row {
            exact[column * stride + row] = tiles[tiled(row, column, shape.width / EDGE)];
        }
    }
    // Only what is solved in f64 is solved here.
    Base { exact, narrow: vec![] }
}

#[cfg(test)]
mod tests {
    use super::super::tests_card::Data;
    use super::*;
    use crate::device::memory::Gpu;
    use crate::device::testing::{HostDriver, cards, twin};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn queue_of(driver: Arc<HostDriver>) -> Queue {
        Arc::new(Gpu::new(driver)).queue(1 << 28, Arc::default()).unwrap()
    }

    #[test]
    fn every_shape_fits_a_card() {
        for n in 1..=MOST_FACTORS {
            let shape = Shape::new(n);
            let slots = if shape.is_wide { WIDE_SLOTS } else { FEW_SLOTS };
            assert!(
                shape.threads <= if shape.is_wide { MOST_THREADS } else { FEW_THREADS },
                "{n}"
            );
            assert!(shape.threads.is_multiple_of(32) && shape.threads >= shape.width, "{n}");
            assert!(shape.groups >= 1 && shape.groups * shape.tiles <= shape.threads, "{n}");
            assert!(shape.parts * shape.width / 4 <= shape.threads, "{n}");
            assert!(shape.parts * slots <= PANEL_ENTRIES, "{n}");
            // Three blocks share a multiprocessor of an A100 up to 128 factors.
            assert!(
                shape.shared_bytes() <= if n <= 128 { 54 << 10 } else { 163 << 10 },
                "{n}"
            );
        }
        let at = |n| (Shape::new(n).threads, Shape::new(n).groups);
        assert_eq!(
            [at(8), at(64), at(128), at(256)],
            [(32, 8), (128, 3), (160, 1), (544, 1)]
        );
    }

    #[test]
    fn tiles_hold_the_triangle() {
        for edges in [1, 2, 5] {
            let mut places: Vec<usize> = (0..edges * EDGE)
                .flat_map(|row| (0..(row / EDGE + 1) * EDGE).map(move |column| tiled(row, column, edges)))
                .collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..edges * (edges + 1) / 2 * TILE));
        }
    }

    #[test]
    fn long_rows_come_first_in_batches() {
        let plan = Plan::new(&[0, 3, 3, 25, 30, 45], 10, 4);
        assert_eq!(plan.order, [2, 4, 3, 0]);
        assert_eq!(plan.ranges, [3, 11, 11, 19, 19, 25, 30, 38, 38, 45]);
        assert_eq!(plan.begins, [0, 3, 0, 2]);
        let batch = |rows, heavy, parts, begins| Batch {
            rows,
            heavy,
            parts,
            begins,
        };
        assert_eq!(plan.batches, [batch(0..1, 1, 0..3, 0), batch(1..4, 1, 3..5, 2)]);
        assert_eq!(plan.most_parts, 3);
        assert!(Plan::new(&[0, 0], 10, 4).batches.is_empty());
    }

    #[test]
    fn batches_change_nothing() {
        let data = Data::new(20, &[130, 5, 77, 260, 0, 41], 9, 0.25);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let cancel = AtomicBool::new(false);
        let compute = Compute::cpu(&pool, &cancel);
        let problem = Problem {
            users: data.side(0),
            items: data.side(1),
            factor_count: data.n,
            unobserved_weight: data.unobserved,
        };
        let mut seen = None;
        for (name, driver) in cards(1 << 28) {
            for bytes in [PARTIAL_BYTES, 5000, 0] {
                let queue = queue_of(Arc::clone(&driver));
                let mut card = OnCard::with_limits(queue, &problem, &data.item_factors, 40, bytes).unwrap();
                assert_eq!(card.users.batches.len() > 1, bytes < PARTIAL_BYTES);
                let iteration = card.iterate(&problem, &compute).unwrap();
                let outcome = (iteration, card.factors().unwrap());
                assert_eq!(&outcome, seen.get_or_insert_with(|| outcome.clone()), "{name}, {bytes}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_together_is_declined() {
        let data = Data::new(4, &[5, 6], 9, 0.25);
        let problem = Problem {
            users: data.side(0),
            items: data.side(1),
            factor_count: data.n,
            unobserved_weight: data.unobserved,
        };
        let queue = || queue_of(twin(1 << 28));
        assert!(OnCard::new(queue(), &problem, &data.item_factors).is_ok());
        let mut columns = data.side(0).columns.to_vec();
        columns[3] = 9;
        let mut broken = problem;
        broken.users.columns = &columns;
        assert!(OnCard::new(queue(), &broken, &data.item_factors).is_err());
        assert!(OnCard::new(queue(), &problem, &data.item_factors[1..]).is_err());
        let mut broken = problem;
        broken.items.ridges = &broken.items.ridges[1..];
        assert!(OnCard::new(queue(), &broken, &data.item_factors).is_err());
    }
}
