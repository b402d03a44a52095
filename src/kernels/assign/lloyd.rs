//! Lloyd's loop over the passes of one block, on the threads or on a card.
//!
//! The block is given once; the loop runs from any centroids, as often as there are starts. Where a card serves, rows, labels and
//! sums stay there, several passes run before the host looks, and what ends the loop is found out on the card.

use std::time::Instant;

use super::cuda::CardRows;
use super::{Centroids, Metric, Sums, UNASSIGNED, assign_f32, inertia_f32, sums_f32, total_square_f32};
use crate::Cancelled;
use crate::block::Block;
use crate::compute::{Compute, Declined, Estimate};

/// What notices call the kernel.
const NAME: &str = "k-means";

/// Where a run is: centroids, each row's label, and the sums by label.
#[derive(Debug, Clone)]
pub struct State {
    /// The centroids.
    pub centroids: Centroids,
    /// Each row's nearest centroid when it was last asked, [`UNASSIGNED`] before that.
    pub labels: Vec<u32>,
    /// The sums of the rows by their labels.
    pub sums: Sums,
    /// How many rows changed their label, if the labels are newer than the centroids.
    pub changed: Option<usize>,
}

/// One pass: what it came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// How many rows changed their label.
    pub changed: usize,
    /// The sum of the squared moves of the centroids.
    pub shift: f64,
    /// The mean squared distance of the rows to the means of their clusters.
    pub loss: f64,
    /// How long it took, in milliseconds; passes that ran together on a card share their time evenly.
    pub duration_ms: f64,
}

/// Why [`Lloyd::run`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No row changed its label.
    Unchanged,
    /// The centroids moved less than the tolerance.
    Converged,
    /// A cluster is without rows. Labels and sums are newer than the centroids, for the caller to give it some.
    Empty,
    /// There were as many passes as were allowed.
    Limit,
}

/// The rows of a block and what runs passes over them.
#[derive(Debug)]
pub struct Lloyd<'a> {
    block: &'a Block<f32>,
    metric: Metric,
    compute: &'a Compute<'a>,
    total_square: f64,
    card: Option<CardRows<'a>>,
}

impl<'a> Lloyd<'a> {
    /// Passes over `block` for `count` clusters, about `expected_passes` of them (which decides whether a card is worth it).
    pub fn new(
        block: &'a Block<f32>,
        metric: Metric,
        count: usize,
        expected_passes: usize,
        compute: &'a Compute<'a>,
    ) -> Self {
        let total_square = total_square_f32(block, metric, compute.pool);
        let card = compute.serve(NAME, estimate(block, count, expected_passes), |queue| {
            CardRows::new(block, metric, count, total_square, queue)
        });
        Self {
            block,
            metric,
            compute,
            total_square,
            card,
        }
    }

    /// [`total_square_f32`] of the rows.
    pub fn total_square(&self) -> f64 {
        self.total_square
    }

    /// Where a run from these centroids (`count × width`) begins.
    pub fn start(&self, values: Vec<f64>) -> State {
        let count = values.len() / self.block.width().max(1);
        State {
            centroids: self.centroids(values),
            labels: vec![UNASSIGNED; self.block.row_count],
            sums: Sums::new(self.metric, count, self.block.width()),
            changed: None,
        }
    }

    fn centroids(&self, values: Vec<f64>) -> Centroids {
        let count = values.len() / self.block.width().max(1);
        Centroids::new(self.metric, count, self.block.number_count, &self.block.levels, values)
    }

    /// At most `limit` passes: each gives every row the label of its nearest centroid and then moves the centroids to the means.
    /// `tell` hears of each.
    ///
    /// # Errors
    /// The query was cancelled.
    pub fn run(
        &mut self,
        state: &mut State,
        limit: usize,
        tolerance: f64,
        tell: &mut dyn FnMut(Pass),
    ) -> Result<Stop, Cancelled> {
        let mut left = limit;
        if let Some(card) = &mut self.card {
            let mut count = |pass: Pass| {
                left -= 1;
                tell(pass);
            };
            match card.run(state, limit, tolerance, self.compute, &mut count) {
                Ok(stop) => return stop.ok_or(Cancelled),
                Err(declined) => self.leave_card(state, &declined),
            }
        }
        self.run_on_threads(state, left, tolerance, tell)
    }

    /// Goes on without the card, from the centroids as they are. What the card knew of the labels is lost; labels and sums that the
    /// host has newer than the centroids are not.
    fn leave_card(&mut self, state: &mut State, declined: &Declined) {
        self.compute.declined(NAME, declined);
        self.card = None;
        if state.changed.is_none() {
            state.labels.fill(UNASSIGNED);
            state.sums = Sums::new(self.metric, state.centroids.count(), self.block.width());
        }
    }

    fn run_on_threads(
        &self,
        state: &mut State,
        limit: usize,
        tolerance: f64,
        tell: &mut dyn FnMut(Pass),
    ) -> Result<Stop, Cancelled> {
        for _ in 0..limit {
            if self.compute.is_cancelled() {
                return Err(Cancelled);
            }
            let begun = Instant::now();
            let changed = match state.changed.take() {
                Some(changed) => changed,
                None => {
                    let changed = assign_f32(
                        self.block,
                        &state.centroids,
                        &mut state.labels,
                        &mut state.sums,
                        self.compute.pool,
                    );
                    if state.sums.rows.contains(&0) {
                        state.changed = Some(changed);
                        return Ok(Stop::Empty);
                    }
                    changed
                }
            };
            let next = state.sums.means(state.centroids.values());
            let moves = next
                .iter()
                .zip(state.centroids.values())
                .map(|(a, b)| (a - b) * (a - b));
            let pass = Pass {
                changed,
                shift: moves.sum(),
                loss: state.sums.loss(&next, self.total_square),
                duration_ms: begun.elapsed().as_secs_f64() * 1e3,
            };
            tell(pass);
            if changed == 0 {
                return Ok(Stop::Unchanged);
            }
            state.centroids = self.centroids(next);
            if pass.shift <= tolerance {
                return Ok(Stop::Converged);
            }
        }
        Ok(Stop::Limit)
    }

    /// Moves the centroids to the means of the labels as they are, summed up afresh, and labels the rows by them, so that scoring the
    /// same rows again gives the same labels.
    ///
    /// # Errors
    /// The query was cancelled.
    pub fn settle(&mut self, state: &mut State) -> Result<(), Cancelled> {
        if self.compute.is_cancelled() {
            return Err(Cancelled);
        }
        if let Some(card) = &mut self.card {
            match card.settle(state) {
                Ok(()) => return Ok(()),
                Err(declined) => {
                    self.compute.declined(NAME, &declined);
                    self.card = None;
                }
            }
        }
        let (pool, count) = (self.compute.pool, state.centroids.count());
        state.sums = sums_f32(self.block, self.metric, count, Some(&state.labels), pool);
        state.centroids = self.centroids(state.sums.means(state.centroids.values()));
        assign_f32(self.block, &state.centroids, &mut state.labels, &mut state.sums, pool);
        state.changed = None;
        Ok(())
    }

    /// The caller moved rows to other clusters, in `state`'s labels and sums.
    pub fn moved(&mut self) {
        if let Some(card) = &mut self.card {
            card.forget_labels();
        }
    }

    /// For each cluster, the sum of the squared distances of its rows to its centroid: together the inertia.
    pub fn inertia(&mut self, state: &State) -> Vec<f64> {
        if let Some(card) = &mut self.card {
            match card.inertia(state) {
                Ok(sums) => return sums,
                Err(declined) => {
                    self.compute.declined(NAME, &declined);
                    self.card = None;
                }
            }
        }
        inertia_f32(self.block, &state.centroids, &state.labels, self.compute.pool)
    }
}

/// What so many passes cost on a thread and on a card, in the order of what was measured on the former and computed for the latter.
fn estimate(block: &Block<f32>, count: usize, passes: usize) -> Estimate {
    let (rows, passes) = (block.row_count as f64, passes as f64);
    let columns = (block.number_count + block.code_count) as f64;
    let products = rows * columns * count as f64;
    let row_bytes = 4.0 * columns;
    Estimate {
        // 8 ns a row, 0.1 ns a product.
        thread_ms: passes * (rows * 8e-6 + products * 1e-7),
        // Memory at 1.5 TB/s or arithmetic at 10 T products a second, and two launches.
        card_ms: passes * ((rows * row_bytes / 1.5e9).max(products / 1e10) + 0.02),
        moved_bytes: rows * (row_bytes + 2.0),
    }
}
