//! The Gram matrix on a card: the host's side of `gram.cu`.
//!
//! Rows go there once and stay; rows that do not fit travel in pieces of whole blocks through two buffers in every pass. What a block
//! sums depends on the shape alone, so pieces change nothing in the result.

use super::{Gram, Job, LogisticPass, design_width};
use crate::block::Block;
use crate::compute::Declined;
use crate::device::driver::{Arg, DriverError, Launch};
use crate::device::memory::{Buffer, Point, Queue};
use crate::device::sources::Source;

const PANEL_ROWS: usize = 32;
const GRAM_THREADS: usize = 256;
const REDUCE_THREADS: usize = 256;
const TILE: usize = 4;
const SCALARS: usize = 4;
const JOB_WEIGHTED: u32 = 0;
const JOB_LOGISTIC: u32 = 1;

/// Columns of the widest design that is served: beyond it the card's arithmetic in f64 gains little.
const MAX_WIDTH: usize = 512;
/// Bytes of all blocks' partial results.
const PARTIAL_BYTES: usize = 64 << 20;
/// Blocks that share the rows, where there are enough.
const MAX_BLOCKS: usize = 1024;
/// Bytes of rows that travel at a time where they do not all fit.
const PIECE_BYTES: usize = 64 << 20;

/// `gram.cu`.
pub static SOURCE: Source = Source {
    name: "gram",
    text: include_str!("../gram.cu"),
    kernels: &["gram_sums", "gram_reduce"],
    ptx: include_str!("../gram.ptx"),
    constants: &[
        ("PANEL_ROWS", PANEL_ROWS as f64),
        ("GRAM_THREADS", GRAM_THREADS as f64),
        ("REDUCE_THREADS", REDUCE_THREADS as f64),
        ("TILE", TILE as f64),
        ("SCALARS", SCALARS as f64),
        ("JOB_WEIGHTED", JOB_WEIGHTED as f64),
        ("JOB_LOGISTIC", JOB_LOGISTIC as f64),
    ],
};

/// Some rows on the card, row-major as on the host.
#[derive(Debug)]
struct Piece {
    numbers: Buffer<f64>,
    codes: Buffer<u32>,
    /// When the last rows here were done with.
    done: Option<Point>,
}

#[derive(Debug)]
enum Place {
    Resident(Piece),
    Streamed { copies: Queue, pieces: Box<[Piece; 2]> },
}

/// A block's rows on a card.
#[derive(Debug)]
pub(super) struct CardRows {
    shape: Shape,
    place: Option<Place>,
    levels: Buffer<u32>,
    offsets: Buffer<u32>,
    labels: Buffer<u8>,
    folds: Option<Buffer<u8>>,
    coefficients: Buffer<f64>,
    partials: Buffer<f64>,
    totals: Buffer<f64>,
    /// Dropped last: it waits for the work.
    queue: Queue,
}

/// How the work is cut: by the shape of the rows alone.
#[derive(Debug, Clone, Copy)]
struct Shape {
    row_count: usize,
    number_count: usize,
    code_count: usize,
    width: usize,
    tile_count: usize,
    /// Threads that share a tile.
    slices: usize,
    /// Rows of a block.
    block_rows: usize,
    block_count: usize,
    /// Rows of a piece: whole blocks.
    piece_rows: usize,
}

impl Shape {
    fn of(block: &Block<f64>) -> Self {
        let width = design_width(block);
        let tiles = width.div_ceil(TILE);
        let tile_count = tiles * (tiles + 1) / 2;
        let partial = tile_count * TILE * TILE + width + SCALARS;
        let most = (PARTIAL_BYTES / 8 / partial).clamp(1, MAX_BLOCKS);
        let block_rows = block
            .row_count
            .div_ceil(most)
            .max(8 * PANEL_ROWS)
            .next_multiple_of(PANEL_ROWS);
        Self {
            row_count: block.row_count,
            number_count: block.number_count,
            code_count: block.code_count,
            width,
            tile_count,
            slices: (GRAM_THREADS / tile_count).clamp(1, 8),
            block_rows,
            block_count: block.row_count.div_ceil(block_rows).max(1),
            piece_rows: 0,
        }
    }

    fn partial(&self) -> usize {
        self.tile_count * TILE * TILE + self.width + SCALARS
    }

    fn row_bytes(&self) -> usize {
        8 * self.number_count + 4 * self.code_count
    }

    fn shared_bytes(&self) -> usize {
        let stride = self.width.next_multiple_of(TILE);
        let panel = (PANEL_ROWS * stride + 6 * PANEL_ROWS + stride) * 8;
        let tiles = if self.slices > 1 {
            self.tile_count * TILE * TILE * 8
        } else {
            0
        };
        panel.max(tiles)
    }
}

impl CardRows {
    /// Uploads the rows.
    ///
    /// # Errors
    /// The card declines.
    pub(super) fn new(block: &Block<f64>, labels: &[u8], queue: Queue) -> Result<Self, Declined> {
        let mut shape = Shape::of(block);
        if shape.width > MAX_WIDTH || shape.shared_bytes() > queue.card().shared_bytes as usize {
            return Err(Declined::Unsupported(format!(
                "a design of {} columns, categories written out, is wider than the card serves ({MAX_WIDTH})",
                shape.width
            )));
        }
        queue.load(&SOURCE)?;
        let offsets: Vec<u32> = block.code_offsets().iter().map(|o| *o as u32 + 1).collect();
        let mut rows = Self {
            levels: queue.uploaded(&block.levels)?,
            offsets: queue.uploaded(&offsets)?,
            labels: queue.uploaded(labels)?,
            folds: None,
            coefficients: queue.buffer(shape.width)?,
            partials: queue.buffer(shape.block_count * shape.partial())?,
            totals: queue.buffer(shape.partial())?,
            shape,
            place: None,
            queue,
        };
        // Weights and targets of a pass, if it has some, come on top.
        let left = rows.queue.bytes_left().saturating_sub(2 * 8 * shape.row_count);
        let new_piece = |rows: &Self, count: usize| -> Result<Piece, DriverError> {
            Ok(Piece {
                numbers: rows.queue.buffer(count * shape.number_count)?,
                codes: rows.queue.buffer(count * shape.code_count)?,
                done: None,
            })
        };
        if shape.row_count * shape.row_bytes() / 8 * 9 < left {
            let mut piece = new_piece(&rows, shape.row_count)?;
            rows.queue.upload(&block.numbers, &mut piece.numbers, 0)?;
            rows.queue.upload(&block.codes, &mut piece.codes, 0)?;
            shape.piece_rows = shape.row_count;
            rows.place = Some(Place::Resident(piece));
        } else {
            let bytes = PIECE_BYTES.min(left / 3);
            let blocks = (bytes / shape.row_bytes().max(1) / shape.block_rows).max(1);
            shape.piece_rows = blocks * shape.block_rows;
            let pieces = [new_piece(&rows, shape.piece_rows)?, new_piece(&rows, shape.piece_rows)?];
            rows.place = Some(Place::Streamed {
                copies: rows.queue.beside()?,
                pieces: Box::new(pieces),
            });
        }
        rows.shape = shape;
        Ok(rows)
    }

    /// Uploads the folds of the rows.
    ///
    /// # Errors
    /// The card failed.
    pub(super) fn set_folds(&mut self, folds: &[u8]) -> Result<(), Declined> {
        self.folds = Some(self.queue.uploaded(folds)?);
        Ok(())
    }

    /// The sums over all rows of `block`, which is the one that [`CardRows::new`] was given.
    ///
    /// # Errors
    /// The card failed.
    pub(super) fn pass(&mut self, block: &Block<f64>, job: &Job<'_>) -> Result<LogisticPass, Declined> {
        let upload = |values: Option<&[f64]>| values.map(|v| self.queue.uploaded(v)).transpose();
        let parameters = match job {
            Job::Weighted { weights, targets } => Parameters {
                kind: JOB_WEIGHTED,
                weights: upload(*weights)?,
                targets: upload(*targets)?,
                left_out: None,
                class_weights: [1.0; 2],
            },
            Job::Logistic(logistic) => {
                self.queue.upload(logistic.coefficients, &mut self.coefficients, 0)?;
                Parameters {
                    kind: JOB_LOGISTIC,
                    weights: None,
                    targets: None,
                    left_out: logistic.left_out.map(|(_, fold)| fold),
                    class_weights: logistic.class_weights,
                }
            }
        };
        match self.place.take() {
            None => return Err(Declined::Unsupported("the rows are no longer on the card".into())),
            Some(Place::Resident(piece)) => {
                self.launch_sums(&piece, 0, self.shape.row_count, &parameters)?;
                self.place = Some(Place::Resident(piece));
            }
            Some(Place::Streamed { copies, mut pieces }) => {
                self.stream(block, &copies, &mut pieces, &parameters)?;
                self.place = Some(Place::Streamed { copies, pieces });
            }
        }
        let count = self.shape.partial();
        // SAFETY: the parameters of gram_reduce; as many partial results as blocks.
        unsafe {
            self.queue.launch(&Launch {
                source: &SOURCE,
                kernel: "gram_reduce",
                grid: (count.div_ceil(REDUCE_THREADS) as u32, 1),
                threads: REDUCE_THREADS as u32,
                shared_bytes: 0,
                args: &[
                    Arg::U32(self.shape.block_count as u32),
                    Arg::U64(count as u64),
                    self.partials.arg(),
                    self.totals.arg(),
                ],
            })?;
        }
        let mut totals = vec![0f64; count];
        self.queue.download(&self.totals, 0, &mut totals)?;
        Ok(unpack(&self.shape, &totals))
    }

    /// Brings the rows to the card piece by piece; one is copied while the last is summed.
    fn stream(
        &self,
        block: &Block<f64>,
        copies: &Queue,
        pieces: &mut [Piece; 2],
        parameters: &Parameters,
    ) -> Result<(), DriverError> {
        let shape = self.shape;
        for (i, begin) in (0..shape.row_count).step_by(shape.piece_rows).enumerate() {
            let end = (begin + shape.piece_rows).min(shape.row_count);
            let piece = &mut pieces[i % 2];
            if let Some(done) = piece.done.take() {
                copies.wait_until(&done)?;
            }
            let numbers = &block.numbers[begin * shape.number_count..end * shape.number_count];
            copies.upload(numbers, &mut piece.numbers, 0)?;
            let codes = &block.codes[begin * shape.code_count..end * shape.code_count];
            copies.upload(codes, &mut piece.codes, 0)?;
            self.queue.wait_until(&copies.point()?)?;
            self.launch_sums(piece, begin, end - begin, parameters)?;
            piece.done = Some(self.queue.point()?);
        }
        Ok(())
    }

    /// Sums the rows of a piece, which begins with row `begin` of all, into the partial results of its blocks.
    fn launch_sums(
        &self,
        piece: &Piece,
        begin: usize,
        count: usize,
        parameters: &Parameters,
    ) -> Result<(), DriverError> {
        let shape = self.shape;
        let from = |buffer: &Option<Buffer<f64>>| buffer.as_ref().map_or(Arg::Pointer(0), |b| b.arg_from(begin));
        let labels = if parameters.kind == JOB_LOGISTIC {
            self.labels.arg_from(begin)
        } else {
            Arg::Pointer(0)
        };
        let folds = self.folds.as_ref().filter(|_| parameters.left_out.is_some());
        let args = [
            Arg::U64(count as u64),
            Arg::U32(shape.number_count as u32),
            Arg::U32(shape.code_count as u32),
            Arg::U32(shape.width as u32),
            Arg::U32(shape.tile_count as u32),
            Arg::U32(shape.slices as u32),
            Arg::U64(shape.block_rows as u64),
            Arg::U32((begin / shape.block_rows) as u32),
            Arg::U32(parameters.kind),
            piece.numbers.arg(),
            piece.codes.arg(),
            self.levels.arg(),
            self.offsets.arg(),
            from(&parameters.weights),
            from(&parameters.targets),
            labels,
            folds.map_or(Arg::Pointer(0), |f| f.arg_from(begin)),
            Arg::U32(parameters.left_out.map_or(u32::MAX, u32::from)),
            self.coefficients.arg(),
            Arg::F64(parameters.class_weights[0]),
            Arg::F64(parameters.class_weights[1]),
            self.partials.arg(),
        ];
        let groups = if shape.slices > 1 {
            1
        } else {
            shape.tile_count.div_ceil(GRAM_THREADS)
        };
        // SAFETY: the parameters of gram_sums; the piece holds `count` rows, what else belongs to rows begins with theirs, and there are
        // partial results for all blocks.
        unsafe {
            self.queue.launch(&Launch {
                source: &SOURCE,
                kernel: "gram_sums",
                grid: (count.div_ceil(shape.block_rows).max(1) as u32, groups as u32),
                threads: GRAM_THREADS as u32,
                shared_bytes: shape.shared_bytes() as u32,
                args: &args,
            })
        }
    }
}

/// What a pass sums, on the card.
struct Parameters {
    kind: u32,
    weights: Option<Buffer<f64>>,
    targets: Option<Buffer<f64>>,
    left_out: Option<u8>,
    class_weights: [f64; 2],
}

/// The matrix from its tiles, and the rest.
fn unpack(shape: &Shape, totals: &[f64]) -> LogisticPass {
    let width = shape.width;
    let mut matrix = vec![0f64; width * width];
    let tiles = (0..width.div_ceil(TILE)).flat_map(|i| (0..=i).map(move |j| (i, j)));
    for ((i, j), tile) in tiles.zip(totals.chunks_exact(TILE * TILE)) {
        for (at, v) in tile.iter().enumerate() {
            let (row, column) = (i * TILE + at / TILE, j * TILE + at % TILE);
            if row < width && column <= row {
                matrix[row * width + column] = *v;
                matrix[column * width + row] = *v;
            }
        }
    }
    let rest = &totals[shape.tile_count * TILE * TILE..];
    LogisticPass {
        gram: Gram {
            width,
            matrix,
            vector: rest[..width].to_vec(),
        },
        loss: rest[width],
        weight: rest[width + 1],
        highest_zero: rest[width + 2],
        lowest_one: rest[width + 3],
    }
}
