//! What a kernel may run on: the threads of a pool, and a card that may serve instead.
//!
//! A kernel asks [`Compute::serve`] for a card with an estimate of what either would cost. What the card cannot do, it declines, and
//! the threads do it; a decline for any reason but the estimate is told to the user.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;

use crate::device::driver::{DriverError, Fault};
use crate::device::memory::{Gpu, Queue, Usage};
use crate::device::{Offer, Preference};

/// Why a card does not serve a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Declined {
    /// The kernel has no body for this, such as more columns than fit; said once, not an error.
    Unsupported(String),
    /// The card or its driver failed.
    Failed(DriverError),
}

impl From<DriverError> for Declined {
    fn from(e: DriverError) -> Self {
        Declined::Failed(e)
    }
}

/// What a piece of work would cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Milliseconds on one thread of the host.
    pub thread_ms: f64,
    /// Milliseconds of the card's kernels, their launches included.
    pub card_ms: f64,
    /// Bytes that must travel to the card and back.
    pub moved_bytes: f64,
}

/// Bytes a second from memory that is not pinned to a card: a copy on the host and PCIe's third generation behind it.
const TRANSFER_BYTES_PER_SECOND: f64 = 6e9;
/// A stream, a dozen allocations and as many small transfers.
const FIXED_MS: f64 = 5.0;
/// The card must be this much faster: estimates are off, and being slower than the CPU is worse than missing a small gain.
const MARGIN: f64 = 1.5;

/// What runs kernels for one fit or ranking.
#[derive(Debug)]
pub struct Compute<'a> {
    /// The host's threads.
    pub pool: &'a ThreadPool,
    /// Set when the work is no longer wanted.
    pub cancel: &'a AtomicBool,
    preference: Preference,
    offer: Option<&'a Offer>,
    /// Bytes of the card's memory that may be used.
    limit: usize,
    usage: Arc<Usage>,
    served: AtomicBool,
    /// A card that failed is not asked again for the same fit.
    lost: AtomicBool,
    notices: Mutex<Vec<String>>,
}

impl<'a> Compute<'a> {
    /// The host's threads alone.
    pub fn cpu(pool: &'a ThreadPool, cancel: &'a AtomicBool) -> Self {
        Self {
            pool,
            cancel,
            preference: Preference::Cpu,
            offer: None,
            limit: 0,
            usage: Arc::default(),
            served: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            notices: Mutex::default(),
        }
    }

    /// The host's threads, and a card within `limit` bytes of its memory where that is preferred.
    pub fn with_card(
        pool: &'a ThreadPool,
        cancel: &'a AtomicBool,
        preference: Preference,
        offer: &'a Offer,
        limit: usize,
    ) -> Self {
        Self {
            preference,
            offer: (preference != Preference::Cpu).then_some(offer),
            limit,
            ..Self::cpu(pool, cancel)
        }
    }

    /// Whether the work is no longer wanted.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// What `body` makes of a queue on a card; none where a card is not worth it, is not there or declines.
    pub fn serve<T>(
        &self,
        kernel: &str,
        estimate: Estimate,
        body: impl FnOnce(Queue) -> Result<T, Declined>,
    ) -> Option<T> {
        let offer = self.offer?;
        if self.lost.load(Ordering::Relaxed)
            || self.preference == Preference::Auto && !self.is_worth_it(offer, estimate)
        {
            return None;
        }
        let gpu = match offer.gpu() {
            Ok(gpu) => gpu,
            Err(reason) => {
                // A machine without a card is no news under 'auto'; a card that cannot be used is.
                if self.preference == Preference::Cuda || offer.has_card() {
                    self.notice(format!("{kernel} runs on the CPU: {reason}"));
                }
                self.lost.store(true, Ordering::Relaxed);
                return None;
            }
        };
        match self.queue(&gpu).map_err(Declined::from).and_then(body) {
            Ok(served) => {
                self.served.store(true, Ordering::Relaxed);
                Some(served)
            }
            Err(declined) => {
                self.declined(kernel, &declined);
                None
            }
        }
    }

    fn queue(&self, gpu: &Arc<Gpu>) -> Result<Queue, DriverError> {
        // A limit of 0 stands for what the card has, less what its driver needs.
        let limit = match self.limit {
            0 => gpu.card().memory_bytes / 10 * 9,
            limit => limit,
        };
        gpu.queue(limit, Arc::clone(&self.usage))
    }

    /// Notes that a card declined in the middle of its work.
    pub fn declined(&self, kernel: &str, declined: &Declined) {
        match declined {
            Declined::Unsupported(reason) => self.notice(format!("{kernel} runs on the CPU: {reason}")),
            Declined::Failed(e) => {
                if e.kind != Fault::Memory {
                    self.lost.store(true, Ordering::Relaxed);
                }
                self.notice(format!("{kernel} runs on the CPU: {e}"));
            }
        }
    }

    fn is_worth_it(&self, offer: &Offer, estimate: Estimate) -> bool {
        let threads = self.pool.current_num_threads().max(1) as f64;
        let opening = offer.opening_ms();
        let moving = estimate.moved_bytes / TRANSFER_BYTES_PER_SECOND * 1e3;
        let card = opening + FIXED_MS + estimate.card_ms + moving;
        card * MARGIN < estimate.thread_ms / threads
    }

    fn notice(&self, notice: String) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if !notices.contains(&notice) {
            notices.push(notice);
        }
    }

    /// What the user should know, a sentence each, in the order in which it happened.
    pub fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a card did any of the work.
    pub fn was_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// What was moved and done on the card.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }
}
