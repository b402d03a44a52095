//! The k-means pass on a card: the host's side of `assign.cu`.
//!
//! Rows go there once, packed into tiles, and stay; rows that do not fit travel in pieces through two buffers in every pass, one piece
//! being copied while the last one is worked on. Sums are integers, so pieces change nothing in the result.

use std::time::Instant;

use super::{Centroids, Metric, Pass, State, Stop, Sums, UNASSIGNED};
use crate::block::Block;
use crate::compute::{Compute, Declined};
use crate::device::driver::{Arg, DriverError, Launch};
use crate::device::memory::{Buffer, Plain, Point, Queue};
use crate::device::sources::Source;

/// The label of a row without one, on the card.
const NO_LABEL: u16 = u16::MAX;
const PASS_THREADS: u32 = 128;
const UPDATE_THREADS: u32 = 512;
const INERTIA_THREADS: u32 = 256;
const TIE_NANO: u32 = 200;
/// Places in `control`.
const DONE: usize = 0;
const CHANGED: usize = 1;
const PASS: usize = 2;
/// What `control[DONE]` says.
const DONE_UNCHANGED: u32 = 1;
const DONE_CONVERGED: u32 = 2;
const DONE_EMPTY: u32 = 3;
/// Numbers of a pass in the records.
const RECORD: usize = 3;
/// Numbers in `bound`.
const BOUND: usize = 7;

/// Passes that are launched before the host looks how far they came: a look costs as much as a pass.
const PASSES_AT_ONCE: usize = 8;
/// Bytes of shared memory for centroids, and for a block's own sums: small enough that several blocks share a multiprocessor.
const CENTROID_BYTES: usize = 32 << 10;
const SUM_BYTES: usize = 48 << 10;
/// Rows of a block that sums distances.
const INERTIA_ROWS: usize = 4096;
/// Rows that travel at a time where they do not all fit: about so many bytes.
const PIECE_BYTES: usize = 64 << 20;

/// `assign.cu`.
pub static SOURCE: Source = Source {
    name: "assign",
    text: include_str!("../assign.cu"),
    kernels: &[
        "assign_pack",
        "assign_pass_4",
        "assign_pass_8",
        "assign_pass_16",
        "assign_pass_24",
        "assign_pass_32",
        "assign_pass_48",
        "assign_pass_64",
        "assign_pass_wide",
        "assign_sums",
        "assign_update",
        "assign_inertia",
    ],
    ptx: include_str!("../assign.ptx"),
    constants: &[
        ("UNASSIGNED", NO_LABEL as f64),
        ("PASS_THREADS", PASS_THREADS as f64),
        ("UPDATE_THREADS", UPDATE_THREADS as f64),
        ("INERTIA_THREADS", INERTIA_THREADS as f64),
        ("TIE_NANO", TIE_NANO as f64),
        ("DONE", DONE as f64),
        ("CHANGED", CHANGED as f64),
        ("PASS", PASS as f64),
        ("GOING_ON", 0.0),
        ("DONE_UNCHANGED", DONE_UNCHANGED as f64),
        ("DONE_CONVERGED", DONE_CONVERGED as f64),
        ("DONE_EMPTY", DONE_EMPTY as f64),
        ("RECORD", RECORD as f64),
        ("BOUND_GAMMA", 0.0),
        ("BOUND_FAR", 1.0),
        ("BOUND_BASE", 2.0),
        ("BOUND_SLOPE", 3.0),
        ("BOUND_TIE_SQUARE", 4.0),
        ("BOUND_TIE_NORM", 5.0),
        ("BOUND_CODES", (BOUND - 1) as f64),
    ],
};

/// One code column, as the kernels know it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Column {
    /// How many categories.
    pub(crate) levels: u32,
    /// Where they begin among the columns.
    pub(crate) offset: u32,
    /// Where the column's table begins.
    pub(crate) table: u64,
}

impl Plain for Column {}

/// How the kernel for some number of columns works.
#[derive(Debug, Clone, Copy)]
struct Body {
    kernel: &'static str,
    /// Rows a lane.
    lane_rows: usize,
    /// Numbers of a packed centroid.
    stride: usize,
}

impl Body {
    fn of(number_count: usize) -> Self {
        const BODIES: &[(usize, &str, usize)] = &[
            (4, "assign_pass_4", 4),
            (8, "assign_pass_8", 4),
            (16, "assign_pass_16", 4),
            (24, "assign_pass_24", 2),
            (32, "assign_pass_32", 2),
            (48, "assign_pass_48", 2),
            (64, "assign_pass_64", 2),
        ];
        match BODIES.iter().find(|(most, _, _)| number_count <= *most) {
            Some((stride, kernel, lane_rows)) => Self {
                kernel,
                lane_rows: *lane_rows,
                stride: *stride,
            },
            None => Self {
                kernel: "assign_pass_wide",
                lane_rows: 1,
                stride: number_count.next_multiple_of(4),
            },
        }
    }

    fn tile_rows(&self) -> usize {
        32 * self.lane_rows
    }
}

/// Some rows on the card, in tiles.
#[derive(Debug)]
struct Tiles {
    numbers: Buffer<f32>,
    codes: Buffer<u32>,
}

/// Two places for pieces of the rows, and a stream that fills them.
#[derive(Debug)]
struct Pieces {
    copies: Queue,
    row_count: usize,
    places: [Piece; 2],
}

#[derive(Debug)]
struct Piece {
    raw_numbers: Buffer<f32>,
    raw_codes: Buffer<u32>,
    tiles: Tiles,
    /// When the last piece here was done with.
    done: Option<Point>,
}

#[derive(Debug)]
enum Place {
    Resident(Tiles),
    Streamed(Box<Pieces>),
}

/// What is done on some rows: with their tiles, the first row and how many there are.
type Work<'a, 'w> = dyn FnMut(&CardRows<'a>, &Tiles, usize, usize) -> Result<(), DriverError> + 'w;

/// A block's rows on a card, with labels, sums and centroids.
#[derive(Debug)]
pub struct CardRows<'a> {
    block: &'a Block<f32>,
    metric: Metric,
    count: usize,
    total_square: f64,
    body: Body,
    place: Option<Place>,
    columns: Buffer<Column>,
    scales: Buffer<f64>,
    host_scales: Vec<f64>,
    labels: Buffer<u16>,
    /// Sums, and behind them the rows of each cluster.
    sums: Buffer<i64>,
    centroids: Buffer<f64>,
    code_squares: Buffer<f64>,
    zero: Buffer<u32>,
    packed: Buffer<f32>,
    bias: Buffer<f32>,
    tables: Buffer<f32>,
    bound: Buffer<f32>,
    control: Buffer<u32>,
    records: Buffer<f64>,
    /// Whether the labels there are those of the host.
    labels_are_known: bool,
    /// Dropped last: it waits for the work.
    queue: Queue,
}

fn blocks(queue: &Queue, a_multiprocessor: u32, needed: u64) -> u32 {
    let most = u64::from(queue.card().multiprocessor_count.max(1) * a_multiprocessor);
    needed.clamp(1, most) as u32
}

impl<'a> CardRows<'a> {
    /// Uploads the rows, for `count` clusters.
    ///
    /// # Errors
    /// The card declines.
    pub(crate) fn new(
        block: &'a Block<f32>,
        metric: Metric,
        count: usize,
        total_square: f64,
        queue: Queue,
    ) -> Result<Self, Declined> {
        let width = block.width();
        if count >= usize::from(NO_LABEL) || width > 1 << 20 || count * width > 1 << 26 || block.row_count == 0 {
            return Err(Declined::Unsupported(format!(
                "{count} clusters of {width} columns are more than a card holds"
            )));
        }
        queue.load(&SOURCE)?;
        let body = Body::of(block.number_count);
        let mut columns = vec![];
        let mut table = 0u64;
        for (levels, offset) in block.levels.iter().zip(block.code_offsets()) {
            columns.push(Column {
                levels: *levels,
                offset: offset as u32,
                table,
            });
            table += (u64::from(*levels) + 1) * count as u64;
        }
        let mut rows = Self {
            block,
            metric,
            count,
            total_square,
            body,
            place: None,
            columns: queue.uploaded(&columns)?,
            scales: queue.buffer(block.number_count + 1)?,
            host_scales: vec![],
            labels: queue.buffer(block.row_count)?,
            sums: queue.buffer(count * (width + 1))?,
            centroids: queue.buffer(count * width)?,
            code_squares: queue.buffer(block.code_count * count)?,
            zero: queue.buffer(count)?,
            packed: queue.buffer(count * body.stride)?,
            bias: queue.buffer(count)?,
            tables: queue.buffer(table as usize)?,
            bound: queue.buffer(BOUND)?,
            control: queue.buffer(PASS + 1)?,
            records: queue.buffer(PASSES_AT_ONCE * RECORD)?,
            labels_are_known: false,
            queue,
        };
        rows.place()?;
        Ok(rows)
    }

    /// Puts the rows on the card, all or the first piece, and finds the scale of each column's fixed-point sums.
    fn place(&mut self) -> Result<(), DriverError> {
        let block = self.block;
        let row_numbers = block.number_count + block.code_count;
        let row_bytes = 4 * row_numbers.max(1);
        let tile_rows = self.body.tile_rows();
        let padded = block.row_count.next_multiple_of(tile_rows);
        // Rows of a piece: whole tiles, and whole blocks of those that sum distances.
        let unit = tile_rows.max(INERTIA_ROWS);
        let piece_rows = (PIECE_BYTES / row_bytes)
            .max(1)
            .next_multiple_of(unit)
            .min(padded.next_multiple_of(unit));
        let staging = 2 * piece_rows * row_bytes;
        let left = self.queue.bytes_left();
        let mut extremes = self.queue.zeros(block.number_count.max(1))?;
        if padded * row_bytes + staging + staging / 4 < left {
            let mut tiles = self.tiles(padded)?;
            let (mut raw_numbers, mut raw_codes) = self.raw(piece_rows)?;
            for begin in (0..block.row_count).step_by(piece_rows) {
                let count = piece_rows.min(block.row_count - begin);
                upload_rows(&self.queue, block, begin, count, &mut raw_numbers, &mut raw_codes)?;
                self.pack(&raw_numbers, &raw_codes, count, &mut tiles, begin, Some(&mut extremes))?;
            }
            self.place = Some(Place::Resident(tiles));
        } else {
            let piece_rows = (left / 5 / row_bytes / unit * unit).clamp(unit, piece_rows);
            let new_piece = || -> Result<Piece, DriverError> {
                let (raw_numbers, raw_codes) = self.raw(piece_rows)?;
                Ok(Piece {
                    raw_numbers,
                    raw_codes,
                    tiles: self.tiles(piece_rows)?,
                    done: None,
                })
            };
            let places = [new_piece()?, new_piece()?];
            let mut pieces = Pieces {
                copies: self.queue.beside()?,
                row_count: piece_rows,
                places,
            };
            self.each_piece(&mut pieces, Some(&mut extremes), &mut |_, _, _, _| Ok(()))?;
            self.place = Some(Place::Streamed(Box::new(pieces)));
        }
        let mut largest = vec![0u32; block.number_count];
        self.queue.download(&extremes, 0, &mut largest)?;
        self.host_scales = largest
            .iter()
            .map(|bits| fixed_scale(block.row_count, f64::from(f32::from_bits(*bits)), self.metric))
            .chain([fixed_scale(block.row_count, 1.0, self.metric)])
            .collect();
        self.queue.upload(&self.host_scales, &mut self.scales, 0)
    }

    fn tiles(&self, rows: usize) -> Result<Tiles, DriverError> {
        Ok(Tiles {
            numbers: self.queue.buffer(rows * self.block.number_count)?,
            codes: self.queue.buffer(rows * self.block.code_count)?,
        })
    }

    fn raw(&self, rows: usize) -> Result<(Buffer<f32>, Buffer<u32>), DriverError> {
        Ok((
            self.queue.buffer(rows * self.block.number_count)?,
            self.queue.buffer(rows * self.block.code_count)?,
        ))
    }

    /// Packs `count` rows into tiles from row `begin` on, which begins a tile.
    fn pack(
        &self,
        raw_numbers: &Buffer<f32>,
        raw_codes: &Buffer<u32>,
        count: usize,
        tiles: &mut Tiles,
        begin: usize,
        extremes: Option<&mut Buffer<u32>>,
    ) -> Result<(), DriverError> {
        let block = self.block;
        let extremes = extremes.map_or(Arg::Pointer(0), |e| e.arg());
        let columns = [
            (
                block.number_count,
                raw_numbers.arg(),
                tiles.numbers.arg_from(begin * block.number_count),
                extremes,
            ),
            (
                block.code_count,
                raw_codes.arg(),
                tiles.codes.arg_from(begin * block.code_count),
                Arg::Pointer(0),
            ),
        ];
        for (column_count, from, to, extremes) in columns {
            if column_count == 0 {
                continue;
            }
            let lines = (count.div_ceil(self.body.tile_rows()) * column_count) as u64;
            // SAFETY: the parameters are those of assign_pack; both buffers hold the rows, `to` in whole tiles.
            unsafe {
                self.queue.launch(&Launch {
                    source: &SOURCE,
                    kernel: "assign_pack",
                    grid: (blocks(&self.queue, 16, lines.div_ceil(8)), 1),
                    threads: 256,
                    shared_bytes: 0,
                    args: &[
                        from,
                        Arg::U64(count as u64),
                        Arg::U32(column_count as u32),
                        Arg::U32(self.body.lane_rows as u32),
                        to,
                        extremes,
                    ],
                })?;
            }
        }
        Ok(())
    }

    /// Brings the rows to the card piece by piece and has `work` done on each: with its tiles, its first row and how many.
    fn each_piece(
        &self,
        pieces: &mut Pieces,
        mut extremes: Option<&mut Buffer<u32>>,
        work: &mut Work<'a, '_>,
    ) -> Result<(), DriverError> {
        let block = self.block;
        for (i, begin) in (0..block.row_count).step_by(pieces.row_count).enumerate() {
            let count = pieces.row_count.min(block.row_count - begin);
            let Pieces { copies, places, .. } = pieces;
            let piece = &mut places[i % 2];
            if let Some(done) = piece.done.take() {
                copies.wait_until(&done)?;
            }
            upload_rows(
                copies,
                block,
                begin,
                count,
                &mut piece.raw_numbers,
                &mut piece.raw_codes,
            )?;
            self.queue.wait_until(&copies.point()?)?;
            let Piece {
                raw_numbers,
                raw_codes,
                tiles,
                ..
            } = piece;
            self.pack(raw_numbers, raw_codes, count, tiles, 0, extremes.as_deref_mut())?;
            work(self, &piece.tiles, begin, count)?;
            piece.done = Some(self.queue.point()?);
        }
        Ok(())
    }

    /// Has `work` done on all rows, wherever they are.
    fn each_tiles(&mut self, work: &mut Work<'a, '_>) -> Result<(), DriverError> {
        let Some(mut place) = self.place.take() else {
            return Ok(());
        };
        let done = match &mut place {
            Place::Resident(tiles) => work(self, tiles, 0, self.block.row_count),
            Place::Streamed(pieces) => self.each_piece(pieces, None, work),
        };
        self.place = Some(place);
        done
    }

    /// The parameters that every kernel over rows begins with.
    fn shape(&self, row_count: usize) -> Vec<Arg> {
        vec![
            Arg::U64(row_count as u64),
            Arg::U32(self.block.number_count as u32),
            Arg::U32(self.block.code_count as u32),
            Arg::U32(self.count as u32),
            Arg::U32(self.block.width() as u32),
            Arg::U32(self.body.lane_rows as u32),
            Arg::U32(u32::from(self.metric == Metric::Cosine)),
        ]
    }

    fn launch_pass(&mut self) -> Result<(), DriverError> {
        let centroid_bytes = (self.body.stride + 1) * 4;
        let cells = self.count * (self.block.width() + 1);
        let wide = self.body.kernel == "assign_pass_wide";
        let chunk = (CENTROID_BYTES / centroid_bytes).clamp(1, self.count);
        let shared_sums = !wide && cells * 8 <= SUM_BYTES;
        let sum_bytes = if shared_sums {
            (cells * 8).next_multiple_of(16)
        } else {
            0
        };
        let shared_bytes = if wide { 0 } else { sum_bytes + chunk * centroid_bytes };
        self.each_tiles(&mut |rows, tiles, begin, count| {
            let mut args = rows.shape(count);
            args.extend([
                tiles.numbers.arg(),
                tiles.codes.arg(),
                rows.columns.arg(),
                rows.centroids.arg(),
                rows.code_squares.arg(),
                rows.zero.arg(),
                rows.packed.arg(),
                rows.bias.arg(),
                rows.tables.arg(),
                rows.bound.arg(),
                rows.scales.arg(),
                rows.labels.arg_from(begin),
                rows.sums.arg(),
                rows.control.arg(),
                Arg::U32(chunk as u32),
                Arg::U32(u32::from(shared_sums)),
            ]);
            let tile_count = count.div_ceil(rows.body.tile_rows()) as u64;
            // SAFETY: the parameters of PASS_PARAMETERS; the tiles hold `count` rows from `begin` on, labels and sums all.
            unsafe {
                rows.queue.launch(&Launch {
                    source: &SOURCE,
                    kernel: rows.body.kernel,
                    grid: (
                        blocks(&rows.queue, 8, tile_count.div_ceil(u64::from(PASS_THREADS / 32))),
                        1,
                    ),
                    threads: PASS_THREADS,
                    shared_bytes: shared_bytes as u32,
                    args: &args,
                })
            }
        })
    }

    fn launch_update(&mut self, prepare_only: bool, keep_empty: bool, tolerance: f64) -> Result<(), DriverError> {
        let block = self.block;
        let args = [
            Arg::U64(block.row_count as u64),
            Arg::U32(block.number_count as u32),
            Arg::U32(block.code_count as u32),
            Arg::U32(self.count as u32),
            Arg::U32(block.width() as u32),
            Arg::U32(self.body.stride as u32),
            Arg::U32(u32::from(self.metric == Metric::Cosine)),
            Arg::U32(u32::from(prepare_only)),
            Arg::U32(u32::from(keep_empty)),
            Arg::F64(self.total_square),
            Arg::F64(tolerance),
            self.columns.arg(),
            self.scales.arg(),
            self.sums.arg(),
            self.centroids.arg(),
            self.code_squares.arg(),
            self.zero.arg(),
            self.packed.arg(),
            self.bias.arg(),
            self.tables.arg(),
            self.bound.arg(),
            self.control.arg(),
            self.records.arg(),
        ];
        // SAFETY: the parameters of assign_update; two numbers of shared memory a warp.
        unsafe {
            self.queue.launch(&Launch {
                source: &SOURCE,
                kernel: "assign_update",
                grid: (1, 1),
                threads: UPDATE_THREADS,
                shared_bytes: UPDATE_THREADS / 32 * 16,
                args: &args,
            })
        }
    }

    /// Begins a stretch of passes: nothing is done yet, and so many rows changed before.
    fn reset_control(&mut self, changed: usize) -> Result<(), DriverError> {
        self.queue.upload(&[0, changed as u32, 0], &mut self.control, 0)
    }

    /// All labels and sums as if no row had been seen.
    fn clear_labels(&mut self) -> Result<(), DriverError> {
        self.queue.fill(&mut self.labels, 0xFF)?;
        self.queue.fill(&mut self.sums, 0)
    }

    /// The host's labels, and their sums.
    fn send_labels(&mut self, labels: &[u32]) -> Result<(), DriverError> {
        let narrow: Vec<u16> = labels.iter().map(|l| *l as u16).collect();
        self.queue.upload(&narrow, &mut self.labels, 0)?;
        self.queue.fill(&mut self.sums, 0)?;
        self.each_tiles(&mut |rows, tiles, begin, count| {
            let mut args = rows.shape(count);
            args.extend([
                tiles.numbers.arg(),
                tiles.codes.arg(),
                rows.columns.arg(),
                rows.scales.arg(),
                rows.labels.arg_from(begin),
                rows.sums.arg(),
            ]);
            // SAFETY: the parameters of assign_sums; the tiles hold `count` rows from `begin` on, labels and sums all.
            unsafe {
                rows.queue.launch(&Launch {
                    source: &SOURCE,
                    kernel: "assign_sums",
                    grid: (blocks(&rows.queue, 8, (count as u64).div_ceil(256)), 1),
                    threads: 256,
                    shared_bytes: 0,
                    args: &args,
                })
            }
        })?;
        self.labels_are_known = true;
        Ok(())
    }

    fn send_centroids(&mut self, centroids: &Centroids) -> Result<(), DriverError> {
        self.queue.upload(centroids.values(), &mut self.centroids, 0)?;
        self.launch_update(true, false, 0.0)
    }

    fn on_host(&self, values: Vec<f64>) -> Centroids {
        Centroids::new(
            self.metric,
            self.count,
            self.block.number_count,
            &self.block.levels,
            values,
        )
    }

    fn fetch_labels_and_sums(&mut self, state: &mut State) -> Result<(), DriverError> {
        let mut narrow = vec![0u16; self.block.row_count];
        self.queue.download(&self.labels, 0, &mut narrow)?;
        let wide = |label: u16| {
            if label == NO_LABEL {
                UNASSIGNED
            } else {
                u32::from(label)
            }
        };
        state.labels.clear();
        state.labels.extend(narrow.into_iter().map(wide));
        let mut fixed = vec![0i64; self.sums.len()];
        self.queue.download(&self.sums, 0, &mut fixed)?;
        let width = self.block.width();
        let (sums, rows) = fixed.split_at(self.count * width);
        let number_count = self.block.number_count;
        state.sums = Sums::new(self.metric, self.count, width);
        for (i, (to, from)) in state.sums.values.iter_mut().zip(sums).enumerate() {
            *to = *from as f64 / self.host_scales[(i % width).min(number_count)];
        }
        state.sums.rows.copy_from_slice(rows);
        self.labels_are_known = true;
        Ok(())
    }

    /// The host changed labels.
    pub(crate) fn forget_labels(&mut self) {
        self.labels_are_known = false;
    }

    /// As [`super::Lloyd::run`]; none for a query that was cancelled.
    ///
    /// # Errors
    /// The card failed. `state`'s centroids are then those after the last pass that was told.
    pub(crate) fn run(
        &mut self,
        state: &mut State,
        limit: usize,
        tolerance: f64,
        compute: &Compute<'_>,
        tell: &mut dyn FnMut(Pass),
    ) -> Result<Option<Stop>, Declined> {
        if state.centroids.count() != self.count {
            return Err(Declined::Unsupported(format!(
                "a start has {} clusters, others {}",
                state.centroids.count(),
                self.count
            )));
        }
        if limit == 0 {
            return Ok(Some(Stop::Limit));
        }
        let mut values = vec![];
        let stop = self.passes(state, limit, tolerance, compute, tell, &mut values);
        if !values.is_empty() {
            state.centroids = self.on_host(values);
        }
        stop
    }

    /// The passes of [`CardRows::run`]; `values` are the centroids after the last that was told, empty if there was none.
    fn passes(
        &mut self,
        state: &mut State,
        limit: usize,
        tolerance: f64,
        compute: &Compute<'_>,
        tell: &mut dyn FnMut(Pass),
        values: &mut Vec<f64>,
    ) -> Result<Option<Stop>, Declined> {
        // An update of the centroids may be due first, for labels that the host has changed.
        let mut due = state.changed;
        self.reset_control(0)?;
        self.send_centroids(&state.centroids)?;
        if due.is_some() {
            self.send_labels(&state.labels)?;
        } else if state.labels.first() == Some(&UNASSIGNED) || !self.labels_are_known {
            self.clear_labels()?;
        }
        let mut left = limit;
        loop {
            if compute.is_cancelled() {
                return Ok(None);
            }
            let begun = Instant::now();
            let batch = left.min(PASSES_AT_ONCE);
            self.reset_control(due.unwrap_or(0))?;
            for _ in 0..batch {
                if due.take().is_some() {
                    self.launch_update(false, true, tolerance)?;
                } else {
                    self.launch_pass()?;
                    self.launch_update(false, false, tolerance)?;
                }
            }
            let mut control = [0u32; PASS + 1];
            self.queue.download(&self.control, 0, &mut control)?;
            let pass_count = control[PASS] as usize;
            let mut records = vec![0f64; pass_count.min(batch) * RECORD];
            self.queue.download(&self.records, 0, &mut records)?;
            let mut next = vec![0f64; self.centroids.len()];
            self.queue.download(&self.centroids, 0, &mut next)?;
            *values = next;
            state.changed = None;
            let duration_ms = begun.elapsed().as_secs_f64() * 1e3 / pass_count.max(1) as f64;
            for record in records.chunks_exact(RECORD) {
                left -= 1;
                tell(Pass {
                    changed: record[0] as usize,
                    shift: record[1],
                    loss: record[2],
                    duration_ms,
                });
            }
            let stop = match control[DONE] {
                DONE_UNCHANGED => Stop::Unchanged,
                DONE_CONVERGED => Stop::Converged,
                DONE_EMPTY => Stop::Empty,
                _ if left == 0 => Stop::Limit,
                _ => continue,
            };
            self.fetch_labels_and_sums(state)?;
            if stop == Stop::Empty {
                state.changed = Some(control[CHANGED] as usize);
            }
            return Ok(Some(stop));
        }
    }

    /// As [`super::Lloyd::settle`].
    ///
    /// # Errors
    /// The card failed; `state` is then as it was.
    pub(crate) fn settle(&mut self, state: &mut State) -> Result<(), Declined> {
        self.reset_control(1)?;
        self.send_centroids(&state.centroids)?;
        if !self.labels_are_known {
            self.send_labels(&state.labels)?;
        }
        self.launch_update(false, true, -1.0)?;
        self.launch_pass()?;
        let mut settled = state.clone();
        let mut values = vec![0f64; self.centroids.len()];
        self.queue.download(&self.centroids, 0, &mut values)?;
        settled.centroids = self.on_host(values);
        self.fetch_labels_and_sums(&mut settled)?;
        settled.changed = None;
        *state = settled;
        Ok(())
    }

    /// As [`super::Lloyd::inertia`].
    ///
    /// # Errors
    /// The card failed.
    pub(crate) fn inertia(&mut self, state: &State) -> Result<Vec<f64>, Declined> {
        if !self.labels_are_known {
            self.send_labels(&state.labels)?;
        }
        self.reset_control(0)?;
        self.send_centroids(&state.centroids)?;
        let block_count = self.block.row_count.div_ceil(INERTIA_ROWS);
        let count = self.count;
        let partials: Buffer<f64> = self.queue.buffer(block_count * count)?;
        self.each_tiles(&mut |rows, tiles, begin, row_count| {
            let mut args = rows.shape(row_count);
            args.extend([
                Arg::U64(INERTIA_ROWS as u64),
                tiles.numbers.arg(),
                tiles.codes.arg(),
                rows.columns.arg(),
                rows.centroids.arg(),
                rows.code_squares.arg(),
                rows.zero.arg(),
                rows.labels.arg_from(begin),
                partials.arg_from(begin / INERTIA_ROWS * count),
            ]);
            // SAFETY: the parameters of assign_inertia; pieces begin at whole blocks, and there are partial results for all.
            unsafe {
                rows.queue.launch(&Launch {
                    source: &SOURCE,
                    kernel: "assign_inertia",
                    grid: (row_count.div_ceil(INERTIA_ROWS) as u32, 1),
                    threads: INERTIA_THREADS,
                    shared_bytes: INERTIA_THREADS * 12,
                    args: &args,
                })
            }
        })?;
        let mut parts = vec![0f64; partials.len()];
        self.queue.download(&partials, 0, &mut parts)?;
        let mut sums = vec![0f64; count];
        for part in parts.chunks_exact(count) {
            sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += v);
        }
        Ok(sums)
    }
}

fn upload_rows(
    queue: &Queue,
    block: &Block<f32>,
    begin: usize,
    count: usize,
    numbers: &mut Buffer<f32>,
    codes: &mut Buffer<u32>,
) -> Result<(), DriverError> {
    let end = begin + count;
    queue.upload(
        &block.numbers[begin * block.number_count..end * block.number_count],
        numbers,
        0,
    )?;
    queue.upload(&block.codes[begin * block.code_count..end * block.code_count], codes, 0)
}

/// The power of two by which a column is multiplied before it is rounded to an integer: as large as `row_count` numbers of at most
/// `largest` allow without leaving 62 bits. That leaves more than 30 bits below the largest number for 10⁹ rows.
fn fixed_scale(row_count: usize, largest: f64, metric: Metric) -> f64 {
    // Under the cosine distance every row has length 1.
    let largest = if metric == Metric::Cosine { 1.0 } else { largest };
    if !(largest > 0.0 && largest.is_finite()) {
        return 1.0;
    }
    let bits = (usize::BITS - row_count.leading_zeros()) as i32 + largest.log2().floor() as i32 + 1;
    2f64.powi((61 - bits).clamp(-900, 900))
}
