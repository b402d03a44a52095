//! A card in use: its memory within a limit, streams of work, and buffers that know their length.
//!
//! Freed memory stays in a pool, for `cuMemAlloc` waits for everything that runs. What a queue frees goes back to the pool once its
//! work is done, so that no other queue gets memory that a kernel still uses.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::driver::{Arg, Card, Driver, DriverError, EventId, Fault, Launch, StreamId};
use super::sources::Source;

/// Bytes of a pinned buffer. Two of them keep a copy engine busy while the host fills the other.
const PINNED_BYTES: usize = 16 << 20;

/// Numbers that a card and the host see alike.
pub trait Plain: Copy + Send + Sync + 'static {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i64 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// What was moved and done, for EXPLAIN ANALYZE.
#[derive(Debug, Default)]
pub struct Usage {
    /// Bytes to the card.
    pub uploaded_bytes: AtomicU64,
    /// Bytes from the card.
    pub downloaded_bytes: AtomicU64,
    /// Nanoseconds between the first and the last kernel of each measured stretch of work.
    pub kernel_ns: AtomicU64,
}

/// A card with a pool of its memory. One for the process.
#[derive(Debug)]
pub struct Gpu {
    driver: Arc<dyn Driver>,
    pool: Mutex<Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// Freed addresses by size.
    free: HashMap<usize, Vec<u64>>,
    /// Freed pinned buffers of [`PINNED_BYTES`].
    pinned: Vec<Pinned>,
    /// Bytes that buffers hold.
    used: usize,
    /// Bytes that are in `free`.
    pooled: usize,
}

/// The address of page-locked memory. It belongs to whoever took it from the pool.
#[derive(Debug)]
struct Pinned(*mut u8);

// SAFETY: plain memory of the process, used by one owner at a time.
unsafe impl Send for Pinned {}
// SAFETY: as above; nothing can be done with a shared reference.
unsafe impl Sync for Pinned {}

impl Gpu {
    /// A card that is driven so.
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        Self {
            driver,
            pool: Mutex::default(),
        }
    }

    /// What the card is.
    pub fn card(&self) -> &Card {
        self.driver.card()
    }

    /// Bytes that buffers hold now, those in the pool not counted.
    pub fn used_bytes(&self) -> usize {
        self.lock().used
    }

    /// A stream of work whose buffers keep the card's use within `limit` bytes.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn queue(self: &Arc<Self>, limit: usize, usage: Arc<Usage>) -> Result<Queue, DriverError> {
        Ok(Queue {
            stream: self.driver.open_stream()?,
            shared: Arc::new(Retired {
                gpu: Arc::clone(self),
                freed: Mutex::default(),
            }),
            limit,
            usage,
            began: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // The pool's numbers change together, without anything in between that could panic.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: usize, limit: usize) -> Result<u64, DriverError> {
        let mut pool = self.lock();
        if pool.used.saturating_add(bytes) > limit {
            return Err(DriverError::new(
                Fault::Memory,
                format!(
                    "{} more of the card's memory would pass ml.gpu_memory_limit ({}, of which {} are in use)",
                    megabytes(bytes),
                    megabytes(limit),
                    megabytes(pool.used)
                ),
            ));
        }
        if let Some(address) = pool.free.get_mut(&bytes).and_then(Vec::pop) {
            pool.pooled -= bytes;
            pool.used += bytes;
            return Ok(address);
        }
        if pool.used + pool.pooled + bytes > limit {
            self.trim(&mut pool);
        }
        let address = match self.driver.allocate(bytes) {
            Err(e) if e.kind == Fault::Memory && pool.pooled > 0 => {
                // What lies in the pool has the wrong sizes.
                self.trim(&mut pool);
                self.driver.allocate(bytes)?
            }
            other => other?,
        };
        pool.used += bytes;
        Ok(address)
    }

    fn trim(&self, pool: &mut Pool) {
        for address in pool.free.drain().flat_map(|(_, addresses)| addresses) {
            self.driver.free(address);
        }
        pool.pooled = 0;
    }

    fn give_back(&self, address: u64, bytes: usize) {
        let mut pool = self.lock();
        pool.used -= bytes;
        pool.pooled += bytes;
        pool.free.entry(bytes).or_default().push(address);
    }

    fn take_pinned(&self) -> Result<Pinned, DriverError> {
        let pooled = self.lock().pinned.pop();
        match pooled {
            Some(pinned) => Ok(pinned),
            None => self.driver.allocate_pinned(PINNED_BYTES).map(Pinned),
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let mut pool = std::mem::take(&mut *self.lock());
        self.trim(&mut pool);
        for pinned in pool.pinned {
            self.driver.free_pinned(pinned.0);
        }
    }
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Rounded up, so that sizes repeat and the pool can serve them again: to 1/8 of the next lower power of two.
fn bucket(bytes: usize) -> usize {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 16).max(256);
    bytes.next_multiple_of(step)
}

/// Buffers that a queue no longer needs but whose last kernels may still run.
struct Retired {
    gpu: Arc<Gpu>,
    freed: Mutex<Vec<(u64, usize)>>,
}

impl fmt::Debug for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retired").finish_non_exhaustive()
    }
}

impl Retired {
    fn release(&self) {
        let freed = std::mem::take(&mut *self.freed.lock().unwrap_or_else(PoisonError::into_inner));
        for (address, bytes) in freed {
            self.gpu.give_back(address, bytes);
        }
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // The queue is closed and its last buffer gone.
        self.release();
    }
}

/// A stream of work on a card: launches and copies, in order.
#[derive(Debug)]
pub struct Queue {
    stream: StreamId,
    shared: Arc<Retired>,
    limit: usize,
    usage: Arc<Usage>,
    /// Where the stretch of work that is being measured began.
    began: Mutex<Option<EventId>>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(event) = self.begun().take() {
            self.driver().forget(event);
        }
        // Waits for the work; what was freed may then be used by others.
        self.driver().close_stream(self.stream);
        self.shared.release();
    }
}

/// A point in a queue's work.
#[derive(Debug)]
pub struct Point {
    event: EventId,
    owner: Arc<Retired>,
}

impl Drop for Point {
    fn drop(&mut self) {
        self.owner.gpu.driver.forget(self.event);
    }
}

/// `len` numbers on the card.
pub struct Buffer<T: Plain> {
    address: u64,
    len: usize,
    bytes: usize,
    owner: Arc<Retired>,
    of: PhantomData<T>,
}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        let mut freed = self.owner.freed.lock().unwrap_or_else(PoisonError::into_inner);
        freed.push((self.address, self.bytes));
    }
}

impl<T: Plain> Buffer<T> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// As a kernel's parameter.
    pub fn arg(&self) -> Arg {
        Arg::Pointer(self.address)
    }

    /// As a kernel's parameter, from number `begin` on.
    ///
    /// # Panics
    /// `begin` is beyond the end.
    pub fn arg_from(&self, begin: usize) -> Arg {
        assert!(begin <= self.len, "an offset within the buffer");
        Arg::Pointer(self.address + (begin * size_of::<T>()) as u64)
    }
}

impl Queue {
    fn driver(&self) -> &dyn Driver {
        self.shared.gpu.driver.as_ref()
    }

    fn begun(&self) -> MutexGuard<'_, Option<EventId>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the card is.
    pub fn card(&self) -> &Card {
        self.driver().card()
    }

    /// Bytes that this queue may still take, as the limit says.
    pub fn bytes_left(&self) -> usize {
        self.limit.saturating_sub(self.shared.gpu.used_bytes())
    }

    /// Compiles and loads a source, unless it was.
    ///
    /// # Errors
    /// [`Fault::Kernel`].
    pub fn load(&self, source: &'static Source) -> Result<(), DriverError> {
        self.driver().load(source)
    }

    /// Memory for `len` numbers, with anything in it.
    ///
    /// # Errors
    /// [`Fault::Memory`].
    pub fn buffer<T: Plain>(&self, len: usize) -> Result<Buffer<T>, DriverError> {
        let bytes = bucket(len.saturating_mul(size_of::<T>()));
        let address = match self.shared.gpu.take(bytes, self.limit) {
            Err(e) if e.kind == Fault::Memory => {
                // What this queue freed may be enough, once its work is done.
                self.synchronize()?;
                self.shared.gpu.take(bytes, self.limit)?
            }
            other => other?,
        };
        Ok(Buffer {
            address,
            len,
            bytes,
            owner: Arc::clone(&self.shared),
            of: PhantomData,
        })
    }

    /// Memory for `len` numbers, all bytes 0.
    ///
    /// # Errors
    /// [`Fault::Memory`].
    pub fn zeros<T: Plain>(&self, len: usize) -> Result<Buffer<T>, DriverError> {
        let mut buffer = self.buffer(len)?;
        self.fill(&mut buffer, 0)?;
        Ok(buffer)
    }

    /// These numbers, on the card.
    ///
    /// # Errors
    /// [`Fault::Memory`].
    pub fn uploaded<T: Plain>(&self, values: &[T]) -> Result<Buffer<T>, DriverError> {
        let mut buffer = self.buffer(values.len())?;
        self.upload(values, &mut buffer, 0)?;
        Ok(buffer)
    }

    /// Sets every byte.
    ///
    /// # Errors
    /// The driver's.
    pub fn fill<T: Plain>(&self, buffer: &mut Buffer<T>, byte: u8) -> Result<(), DriverError> {
        if buffer.len == 0 {
            return Ok(());
        }
        // SAFETY: the buffer has as many bytes, and is retired, not freed, when it is dropped.
        unsafe {
            self.driver()
                .fill(self.stream, buffer.address, byte, buffer.len * size_of::<T>())
        }
    }

    /// Copies numbers to `to[begin..]`. Returns when `values` is no longer needed; what is large goes through pinned memory, the
    /// next piece being copied there while the last one travels.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// `to` is too short.
    pub fn upload<T: Plain>(&self, values: &[T], to: &mut Buffer<T>, begin: usize) -> Result<(), DriverError> {
        assert!(begin + values.len() <= to.len, "an upload that fits its buffer");
        let bytes = size_of_val(values);
        if bytes == 0 {
            return Ok(());
        }
        let address = to.address + (begin * size_of::<T>()) as u64;
        self.usage.uploaded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let from: *const u8 = values.as_ptr().cast();
        let mut stages = Stages::new(self);
        for at in (0..bytes).step_by(PINNED_BYTES) {
            let count = PINNED_BYTES.min(bytes - at);
            let stage = stages.next()?;
            // SAFETY: `values` has `bytes` bytes and the stage PINNED_BYTES; the stage is not used again before its copy is done,
            // and `to` is retired, not freed, when it is dropped.
            unsafe {
                std::ptr::copy_nonoverlapping(from.add(at), stage, count);
                self.driver().upload(self.stream, address + at as u64, stage, count)?;
            }
            stages.sent()?;
        }
        Ok(())
    }

    /// Copies `from[begin..]` to `values`, and waits for it and all work before it.
    ///
    /// # Errors
    /// The driver's, and those of earlier kernels.
    ///
    /// # Panics
    /// `from` is too short.
    pub fn download<T: Plain>(&self, from: &Buffer<T>, begin: usize, values: &mut [T]) -> Result<(), DriverError> {
        assert!(begin + values.len() <= from.len, "a download from within its buffer");
        let bytes = size_of_val(values);
        self.usage.downloaded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if bytes > 0 {
            let address = from.address + (begin * size_of::<T>()) as u64;
            // SAFETY: both have as many bytes, and the stream is waited for while `values` is borrowed.
            unsafe {
                self.driver()
                    .download(self.stream, values.as_mut_ptr().cast(), address, bytes)?;
            }
        }
        self.synchronize()
    }

    /// Copies a buffer within the card.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// The buffers have not the same length.
    pub fn copy<T: Plain>(&self, from: &Buffer<T>, to: &mut Buffer<T>) -> Result<(), DriverError> {
        assert_eq!(from.len, to.len, "a copy between buffers of one length");
        if from.len == 0 {
            return Ok(());
        }
        let mut began = self.begun();
        if began.is_none() {
            *began = Some(self.driver().record(self.stream)?);
        }
        // SAFETY: both buffers have as many bytes, and are two.
        unsafe {
            self.driver()
                .copy(self.stream, to.address, from.address, from.len * size_of::<T>())
        }
    }

    /// Launches a kernel.
    ///
    /// # Safety
    /// `args` are what the kernel expects, and reach no further than their buffers.
    ///
    /// # Errors
    /// [`Fault::Launch`], [`Fault::Kernel`].
    pub unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DriverError> {
        let mut began = self.begun();
        if began.is_none() {
            *began = Some(self.driver().record(self.stream)?);
        }
        // SAFETY: the caller's promise; buffers that are dropped are retired, not freed.
        unsafe { self.driver().launch(self.stream, launch) }
    }

    /// Waits for all work; the time since the first kernel that nobody waited for counts as kernel time.
    ///
    /// # Errors
    /// Those of the work.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        let began = self.begun().take();
        let ended = match began {
            Some(_) => Some(self.driver().record(self.stream)?),
            None => None,
        };
        self.driver().synchronize(self.stream)?;
        if let (Some(began), Some(ended)) = (began, ended) {
            let elapsed = self.driver().elapsed_ms(began, ended)?;
            self.usage
                .kernel_ns
                .fetch_add((elapsed * 1e6).max(0.0) as u64, Ordering::Relaxed);
            self.driver().forget(began);
            self.driver().forget(ended);
        }
        self.shared.release();
        Ok(())
    }

    /// The point that the work has come to.
    ///
    /// # Errors
    /// The driver's.
    pub fn point(&self) -> Result<Point, DriverError> {
        Ok(Point {
            event: self.driver().record(self.stream)?,
            owner: Arc::clone(&self.shared),
        })
    }

    /// Makes the work that comes next wait for a point, in any queue of the same card.
    ///
    /// # Errors
    /// The driver's.
    pub fn wait_until(&self, point: &Point) -> Result<(), DriverError> {
        self.driver().wait(self.stream, point.event)
    }

    /// Another stream of the same card, with the same limit.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn beside(&self) -> Result<Queue, DriverError> {
        self.shared.gpu.queue(self.limit, Arc::clone(&self.usage))
    }
}

/// Two pinned buffers that take turns.
struct Stages<'a> {
    queue: &'a Queue,
    held: Vec<(Pinned, Option<EventId>)>,
    turn: usize,
}

impl<'a> Stages<'a> {
    fn new(queue: &'a Queue) -> Self {
        Self {
            queue,
            held: vec![],
            turn: 0,
        }
    }

    /// The buffer whose turn it is, once its last copy is done.
    fn next(&mut self) -> Result<*mut u8, DriverError> {
        if self.held.len() <= self.turn {
            self.held.push((self.queue.shared.gpu.take_pinned()?, None));
        }
        let (pinned, sent) = &mut self.held[self.turn];
        if let Some(event) = sent.take() {
            let done = self.queue.driver().wait_on_host(event);
            self.queue.driver().forget(event);
            done?;
        }
        Ok(pinned.0)
    }

    fn sent(&mut self) -> Result<(), DriverError> {
        let event = self.queue.driver().record(self.queue.stream)?;
        self.held[self.turn].1 = Some(event);
        self.turn = 1 - self.turn;
        Ok(())
    }
}

impl Drop for Stages<'_> {
    fn drop(&mut self) {
        let driver = self.queue.driver();
        for (pinned, sent) in self.held.drain(..) {
            // Memory goes back to the pool only when the card is done with it; after an error it is given up.
            let done = match sent {
                Some(event) => {
                    let done = driver.wait_on_host(event);
                    driver.forget(event);
                    done
                }
                None => driver.synchronize(self.queue.stream),
            };
            if done.is_ok() {
                self.queue.shared.gpu.lock().pinned.push(pinned);
            }
        }
    }
}
