//! The rows of a block, summed again and again, on the threads or on a card.

use std::sync::{Mutex, PoisonError};

use super::cuda::CardRows;
use super::{Gram, Job, Logistic, LogisticPass, design_width, run};
use crate::Cancelled;
use crate::block::Block;
use crate::compute::{Compute, Estimate};

/// What notices call the kernel.
const NAME: &str = "regression";

/// The rows of a block, summed again and again wherever that is served.
#[derive(Debug)]
pub struct Rows<'a> {
    block: &'a Block<f64>,
    labels: &'a [u8],
    folds: Option<&'a [u8]>,
    compute: &'a Compute<'a>,
    card: Mutex<Option<CardRows>>,
}

impl<'a> Rows<'a> {
    /// `labels` are the classes of the rows (as in [`Logistic`]; empty where no logistic pass is asked for). About `expected_passes` will
    /// be asked for, which decides whether a card is worth it.
    pub fn new(block: &'a Block<f64>, labels: &'a [u8], expected_passes: usize, compute: &'a Compute<'a>) -> Self {
        let estimate = estimate(block, expected_passes);
        let card = compute.serve(NAME, estimate, |queue| CardRows::new(block, labels, queue));
        Self {
            block,
            labels,
            folds: None,
            compute,
            card: Mutex::new(card),
        }
    }

    /// Gives each row its fold, for passes that leave one out.
    pub fn set_folds(&mut self, folds: &'a [u8]) {
        self.folds = Some(folds);
        let card = self.card.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = card
            && let Err(declined) = rows.set_folds(folds)
        {
            self.compute.declined(NAME, &declined);
            *card = None;
        }
    }

    /// The folds of the rows, if they have some.
    pub fn folds(&self) -> Option<&'a [u8]> {
        self.folds
    }

    /// The rows.
    pub fn block(&self) -> &'a Block<f64> {
        self.block
    }

    /// The classes of the rows.
    pub fn labels(&self) -> &'a [u8] {
        self.labels
    }

    /// As [`super::gram_f64`].
    ///
    /// # Errors
    /// The query was cancelled.
    pub fn weighted(&self, weights: Option<&[f64]>, targets: Option<&[f64]>) -> Result<Gram, Cancelled> {
        Ok(self.pass(&Job::Weighted { weights, targets })?.gram)
    }

    /// As [`super::logistic_pass_f64`], leaving out the rows of one fold if one is named.
    ///
    /// # Errors
    /// The query was cancelled.
    pub fn logistic(
        &self,
        coefficients: &[f64],
        class_weights: [f64; 2],
        left_out: Option<u8>,
    ) -> Result<LogisticPass, Cancelled> {
        self.pass(&Job::Logistic(Logistic {
            coefficients,
            labels: self.labels,
            class_weights,
            left_out: self.folds.zip(left_out),
        }))
    }

    fn pass(&self, job: &Job<'_>) -> Result<LogisticPass, Cancelled> {
        if self.compute.is_cancelled() {
            return Err(Cancelled);
        }
        let mut card = self.card.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rows) = card.as_mut() {
            match rows.pass(self.block, job) {
                Ok(pass) => return Ok(pass),
                Err(declined) => {
                    self.compute.declined(NAME, &declined);
                    *card = None;
                }
            }
        }
        drop(card);
        run(self.block, job, self.compute.pool, self.compute.cancel)
    }
}

/// What so many passes cost on a thread and on a card.
fn estimate(block: &Block<f64>, passes: usize) -> Estimate {
    let (rows, passes) = (block.row_count as f64, passes as f64);
    // On threads a category costs a line of the matrix, on a card a column like any other.
    let dense = (block.number_count + 1) as f64;
    let on_threads = rows * (dense * dense / 2.0 + block.code_count as f64 * (dense + block.code_count as f64));
    let width = design_width(block) as f64;
    let row_bytes = (8 * block.number_count + 4 * block.code_count) as f64;
    Estimate {
        // 20 ns a row, 0.25 ns a product.
        thread_ms: passes * (rows * 20e-6 + on_threads * 2.5e-7),
        // Memory at 1.5 TB/s or 3 T products a second.
        card_ms: passes * ((rows * row_bytes / 1.5e9).max(rows * width * width / 2.0 / 3e9) + 0.03),
        moved_bytes: rows * (row_bytes + 2.0),
    }
}
