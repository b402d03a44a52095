//! The seam to a card: the few things that kernels ask of one. CUDA answers through [`super::cuda`]; tests answer with
//! kernels that run on the CPU, or with errors.

use std::ffi::c_void;
use std::fmt;

use super::sources::Source;

/// What went wrong on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverError {
    /// The kind, for whoever has to decide what comes next.
    pub kind: Fault,
    /// A sentence without a full stop, such as "the card has no memory left for 12.0 MB".
    pub message: String,
}

/// Kinds of [`DriverError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Memory, of the card or within the limit that was set.
    Memory,
    /// A kernel could not be compiled or loaded.
    Kernel,
    /// A kernel could not be launched, or failed while it ran; the card's context may be lost.
    Launch,
    /// Anything else that the driver reports.
    Driver,
}

impl DriverError {
    /// An error of this kind.
    pub fn new(kind: Fault, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DriverError {}

/// A card: what the driver says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Its place among the machine's cards, from 0.
    pub ordinal: usize,
    /// Its name, such as "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// Its architecture: 90 stands for compute capability 9.0.
    pub architecture: u32,
    /// How many bytes of memory it has.
    pub memory_bytes: usize,
    /// How many multiprocessors.
    pub multiprocessor_count: u32,
    /// How many bytes of shared memory a block may ask for.
    pub shared_bytes: u32,
    /// Copies within its memory, in bytes a second, as its clock and bus width say; 0 where the driver doesn't tell.
    pub memory_bytes_per_second: f64,
}

/// The value of a kernel's parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// An address on the card, 0 for none.
    Pointer(u64),
    /// `unsigned int`.
    U32(u32),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
    /// `double`.
    F64(f64),
}

impl Arg {
    /// Where the value lies, as `cuLaunchKernel` wants it.
    pub fn address(&self) -> *mut c_void {
        match self {
            Arg::Pointer(v) | Arg::U64(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::U32(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::F32(v) => std::ptr::from_ref(v).cast_mut().cast(),
            Arg::F64(v) => std::ptr::from_ref(v).cast_mut().cast(),
        }
    }
}

/// One launch of one kernel.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// The source that the kernel is in.
    pub source: &'static Source,
    /// The kernel's name.
    pub kernel: &'a str,
    /// Blocks along x and y.
    pub grid: (u32, u32),
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The parameters, in order.
    pub args: &'a [Arg],
}

/// A stream of work on the card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(pub u64);

/// A point in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(pub u64);

/// What kernels ask of a card. Work in one stream runs in order and, but for [`Driver::synchronize`] and transfers from memory
/// that is not pinned, after the call has returned.
///
/// Addresses are plain numbers here; [`super::memory`] owns them, knows their lengths and checks them.
pub trait Driver: fmt::Debug + Send + Sync {
    /// What the card is.
    fn card(&self) -> &Card;

    /// Compiles and loads a source, unless it was.
    ///
    /// # Errors
    /// [`Fault::Kernel`], with what the compiler or the driver said.
    fn load(&self, source: &'static Source) -> Result<(), DriverError>;

    /// Memory on the card.
    ///
    /// # Errors
    /// [`Fault::Memory`].
    fn allocate(&self, bytes: usize) -> Result<u64, DriverError>;

    /// Gives back what [`Driver::allocate`] gave.
    fn free(&self, address: u64);

    /// Page-locked memory of the host, which the card can reach by itself.
    ///
    /// # Errors
    /// [`Fault::Memory`].
    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError>;

    /// Gives back what [`Driver::allocate_pinned`] gave.
    fn free_pinned(&self, address: *mut u8);

    /// A new stream.
    ///
    /// # Errors
    /// The driver refuses.
    fn open_stream(&self) -> Result<StreamId, DriverError>;

    /// Waits for a stream's work and closes it.
    fn close_stream(&self, stream: StreamId);

    /// Copies to the card. Host memory must stay as it is until the copy is done.
    ///
    /// # Safety
    /// Both ranges are valid until the stream has passed this point.
    ///
    /// # Errors
    /// The driver refuses, or earlier work failed.
    unsafe fn upload(&self, stream: StreamId, to: u64, from: *const u8, bytes: usize) -> Result<(), DriverError>;

    /// Copies from the card.
    ///
    /// # Safety
    /// As [`Driver::upload`]; nobody reads `to` before the stream was waited for.
    ///
    /// # Errors
    /// The driver refuses, or earlier work failed.
    unsafe fn download(&self, stream: StreamId, to: *mut u8, from: u64, bytes: usize) -> Result<(), DriverError>;

    /// Copies within the card.
    ///
    /// # Safety
    /// Both ranges are valid until the stream has passed this point, and apart.
    ///
    /// # Errors
    /// The driver refuses, or earlier work failed.
    unsafe fn copy(&self, stream: StreamId, to: u64, from: u64, bytes: usize) -> Result<(), DriverError>;

    /// Sets bytes on the card.
    ///
    /// # Safety
    /// The range is valid until the stream has passed this point.
    ///
    /// # Errors
    /// The driver refuses, or earlier work failed.
    unsafe fn fill(&self, stream: StreamId, to: u64, byte: u8, bytes: usize) -> Result<(), DriverError>;

    /// Launches a kernel.
    ///
    /// # Safety
    /// The parameters are what the kernel expects, and what they point to is valid until the stream has passed this point.
    ///
    /// # Errors
    /// [`Fault::Launch`], [`Fault::Kernel`].
    unsafe fn launch(&self, stream: StreamId, launch: &Launch<'_>) -> Result<(), DriverError>;

    /// Marks the point that a stream has come to.
    ///
    /// # Errors
    /// The driver refuses.
    fn record(&self, stream: StreamId) -> Result<EventId, DriverError>;

    /// Makes a stream wait for a point in another.
    ///
    /// # Errors
    /// The driver refuses.
    fn wait(&self, stream: StreamId, event: EventId) -> Result<(), DriverError>;

    /// Waits, on the caller's thread, until a point is passed.
    ///
    /// # Errors
    /// Work before it failed.
    fn wait_on_host(&self, event: EventId) -> Result<(), DriverError>;

    /// Milliseconds between two points, both of which were passed.
    ///
    /// # Errors
    /// The driver refuses.
    fn elapsed_ms(&self, from: EventId, to: EventId) -> Result<f64, DriverError>;

    /// Forgets a point.
    fn forget(&self, event: EventId);

    /// Waits, on the caller's thread, for all of a stream's work.
    ///
    /// # Errors
    /// The work failed: a kernel's fault shows here at the latest.
    fn synchronize(&self, stream: StreamId) -> Result<(), DriverError>;
}
