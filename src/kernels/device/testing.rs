//! Cards for tests: kernels that run on the CPU, and faults on demand.
//!
//! [`Twin`] runs each kernel's twin in Rust. [`Emulated`] runs the CUDA sources themselves, compiled by the machine's C++ compiler
//! against `emulator.h`: threads are fibers, so barriers, shuffles and shared memory behave as on a card, and the order in which threads
//! run can be changed to find what depends on it.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::driver::{Arg, Card, Driver, DriverError, EventId, Fault, Launch, StreamId};
use super::sources::{COMMON, SOURCES, Source, fingerprint};

/// Bytes around each allocation that nobody may write.
const MARGIN: usize = 256;
/// What they hold.
const CANARY: u8 = 0xA5;

/// What runs the kernels of a [`HostDriver`].
pub trait Executor: fmt::Debug + Send + Sync {
    /// Runs a kernel to its end. All addresses are the process's own.
    ///
    /// # Safety
    /// As [`Driver::launch`].
    ///
    /// # Errors
    /// No such kernel, or its threads wait for each other.
    unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), String>;
}

/// Which call fails: the calls of a kind until then, counted down.
#[derive(Debug, Default)]
pub struct Faults {
    /// The allocation from which on all fail, from 1; 0 for none.
    pub allocation: AtomicUsize,
    /// The launch that fails.
    pub launch: AtomicUsize,
    /// The loading of a source that fails.
    pub load: AtomicUsize,
}

impl Faults {
    fn memory_is_out(&self) -> bool {
        let left = |n: usize| (n > 1).then(|| n - 1);
        self.allocation
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_err_and(|n| n == 1)
    }

    fn strikes(counter: &AtomicUsize) -> bool {
        counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok_and(|before| before == 1)
    }
}

/// A card whose memory is the process's and whose kernels run at once.
#[derive(Debug)]
pub struct HostDriver {
    card: Card,
    executor: Box<dyn Executor>,
    /// What fails next.
    pub faults: Arc<Faults>,
    allocations: Mutex<HashMap<u64, Box<[u8]>>>,
    pinned: Mutex<HashMap<usize, Box<[u8]>>>,
    last_id: AtomicU64,
    launch_count: AtomicU64,
}

impl HostDriver {
    /// A card of so much memory.
    pub fn new(executor: Box<dyn Executor>, memory_bytes: usize) -> Self {
        Self {
            card: Card {
                ordinal: 0,
                name: "a card for tests".into(),
                architecture: 90,
                memory_bytes,
                // Few, so that tests of small data have more work than blocks.
                multiprocessor_count: 3,
                shared_bytes: 227 << 10,
                memory_bytes_per_second: 1e12,
            },
            executor,
            faults: Arc::default(),
            allocations: Mutex::default(),
            pinned: Mutex::default(),
            last_id: AtomicU64::new(0),
            launch_count: AtomicU64::new(0),
        }
    }

    /// How many kernels were launched.
    pub fn launch_count(&self) -> u64 {
        self.launch_count.load(Ordering::Relaxed)
    }

    /// An error if anything was written beside an allocation.
    fn check(&self) -> Result<(), DriverError> {
        let allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        for block in allocations.values() {
            let end = block.len() - MARGIN;
            if block[..MARGIN].iter().chain(&block[end..]).any(|b| *b != CANARY) {
                return Err(DriverError::new(Fault::Launch, "a kernel wrote beside an allocation"));
            }
        }
        Ok(())
    }
}

impl Driver for HostDriver {
    fn card(&self) -> &Card {
        &self.card
    }

    fn load(&self, _source: &'static Source) -> Result<(), DriverError> {
        if Faults::strikes(&self.faults.load) {
            return Err(DriverError::new(
                Fault::Kernel,
                "the kernel cannot be loaded (a test's fault)",
            ));
        }
        Ok(())
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DriverError> {
        let mut allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        let used: usize = allocations.values().map(|b| b.len()).sum();
        if self.faults.memory_is_out() || used + bytes > self.card.memory_bytes {
            return Err(DriverError::new(
                Fault::Memory,
                format!("the card has no memory left for {bytes} bytes"),
            ));
        }
        // NaNs: what is read before it was written shows.
        let mut block = vec![0xFF; bytes + 2 * MARGIN].into_boxed_slice();
        block[..MARGIN].fill(CANARY);
        block[MARGIN + bytes..].fill(CANARY);
        let address = block.as_mut_ptr() as u64 + MARGIN as u64;
        allocations.insert(address, block);
        Ok(address)
    }

    fn free(&self, address: u64) {
        let mut allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        allocations.remove(&address);
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError> {
        let mut block = vec![0u8; bytes].into_boxed_slice();
        let address = block.as_mut_ptr();
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.insert(address as usize, block);
        Ok(address)
    }

    fn free_pinned(&self, address: *mut u8) {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.remove(&(address as usize));
    }

    fn open_stream(&self) -> Result<StreamId, DriverError> {
        Ok(StreamId(self.last_id.fetch_add(1, Ordering::Relaxed)))
    }

    fn close_stream(&self, _stream: StreamId) {}

    unsafe fn upload(&self, _stream: StreamId, to: u64, from: *const u8, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, to as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn download(&self, _stream: StreamId, to: *mut u8, from: u64, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to, bytes) };
        Ok(())
    }

    unsafe fn copy(&self, _stream: StreamId, to: u64, from: u64, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn fill(&self, _stream: StreamId, to: u64, byte: u8, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::write_bytes(to as *mut u8, byte, bytes) };
        Ok(())
    }

    unsafe fn launch(&self, _stream: StreamId, launch: &Launch<'_>) -> Result<(), DriverError> {
        self.launch_count.fetch_add(1, Ordering::Relaxed);
        if Faults::strikes(&self.faults.launch) {
            return Err(DriverError::new(Fault::Launch, "the launch failed (a test's fault)"));
        }
        let fail = |message: String| DriverError::new(Fault::Launch, format!("{}: {message}", launch.kernel));
        if launch.shared_bytes > self.card.shared_bytes
            || launch.threads > 1024
            || launch.grid.0 == 0
            || launch.grid.1 == 0
        {
            return Err(fail(
                "more threads or shared memory than a card has, or no block".into(),
            ));
        }
        // SAFETY: the caller's promise; host memory is as good as a card's here.
        unsafe { self.executor.run(launch) }.map_err(fail)?;
        self.check()
    }

    fn record(&self, _stream: StreamId) -> Result<EventId, DriverError> {
        Ok(EventId(self.last_id.fetch_add(1, Ordering::Relaxed)))
    }

    fn wait(&self, _stream: StreamId, _event: EventId) -> Result<(), DriverError> {
        Ok(())
    }

    fn wait_on_host(&self, _event: EventId) -> Result<(), DriverError> {
        Ok(())
    }

    fn elapsed_ms(&self, _from: EventId, _to: EventId) -> Result<f64, DriverError> {
        Ok(1.0)
    }

    fn forget(&self, _event: EventId) {}

    fn synchronize(&self, _stream: StreamId) -> Result<(), DriverError> {
        Ok(())
    }
}

/// The parameters of a launch, read in order by a twin.
#[derive(Debug)]
pub struct Reader<'a> {
    args: std::slice::Iter<'a, Arg>,
    /// What did not fit the parameters that the twin asked for.
    wrong: Option<String>,
}

impl<'a> Reader<'a> {
    /// Reads these.
    pub fn new(args: &'a [Arg]) -> Self {
        Self {
            args: args.iter(),
            wrong: None,
        }
    }

    fn refuse(&mut self, wanted: &str, found: Option<&Arg>) {
        self.wrong
            .get_or_insert_with(|| format!("a parameter is {found:?} where the kernel has {wanted}"));
    }

    /// The next parameter, `unsigned int`.
    pub fn u32(&mut self) -> u32 {
        match self.args.next() {
            Some(Arg::U32(v)) => *v,
            other => {
                self.refuse("unsigned int", other);
                0
            }
        }
    }

    /// The next parameter, `uint64_t`.
    pub fn u64(&mut self) -> u64 {
        match self.args.next() {
            Some(Arg::U64(v)) => *v,
            other => {
                self.refuse("uint64_t", other);
                0
            }
        }
    }

    /// The next parameter, `float`.
    pub fn f32(&mut self) -> f32 {
        match self.args.next() {
            Some(Arg::F32(v)) => *v,
            other => {
                self.refuse("float", other);
                0.0
            }
        }
    }

    /// The next parameter, `double`.
    pub fn f64(&mut self) -> f64 {
        match self.args.next() {
            Some(Arg::F64(v)) => *v,
            other => {
                self.refuse("double", other);
                0.0
            }
        }
    }

    /// The next parameter, an address.
    pub fn pointer(&mut self) -> u64 {
        match self.args.next() {
            Some(Arg::Pointer(v)) => *v,
            other => {
                self.refuse("a pointer", other);
                0
            }
        }
    }

    /// The next parameter, the address of `len` values.
    ///
    /// # Safety
    /// It is, and nobody writes them meanwhile.
    pub unsafe fn slice<'s, T>(&mut self, len: usize) -> &'s [T] {
        let address = self.pointer();
        // SAFETY: the caller's promise.
        unsafe { Self::slice_at(address, len) }
    }

    /// `len` values at an address.
    ///
    /// # Safety
    /// They are there, and nobody writes them meanwhile.
    pub unsafe fn slice_at<'s, T>(address: u64, len: usize) -> &'s [T] {
        if len == 0 || address == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(address as *const T, len) }
    }

    /// The next parameter, the address of `len` values to write.
    ///
    /// # Safety
    /// It is, and nobody else reads or writes them meanwhile.
    pub unsafe fn slice_mut<'s, T>(&mut self, len: usize) -> &'s mut [T] {
        let address = self.pointer();
        if len == 0 || address == 0 {
            return &mut [];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(address as *mut T, len) }
    }

    /// As [`Reader::slice_mut`]; none where the address is 0.
    ///
    /// # Safety
    /// As [`Reader::slice_mut`].
    pub unsafe fn optional_slice_mut<'s, T>(&mut self, len: usize) -> Option<&'s mut [T]> {
        let address = self.pointer();
        if address == 0 {
            return None;
        }
        // SAFETY: the caller's promise.
        Some(unsafe { std::slice::from_raw_parts_mut(address as *mut T, len) })
    }

    /// An error if the parameters were not those that were asked for.
    ///
    /// # Errors
    /// Another type, too few or too many.
    pub fn finish(mut self) -> Result<(), String> {
        if self.args.len() > 0 {
            self.refuse("nothing more", self.args.clone().next());
        }
        self.wrong.map_or(Ok(()), Err)
    }
}

/// A sum over a warp's lanes as `warp_sum` of `common.cuh` adds it.
pub fn warp_sum(mut lanes: [f64; 32]) -> f64 {
    for offset in [16, 8, 4, 2, 1] {
        lanes = std::array::from_fn(|lane| lanes[lane] + lanes[lane ^ offset]);
    }
    lanes[0]
}

/// A machine with one card, for tests.
#[derive(Debug)]
pub struct OneCard(pub Arc<HostDriver>);

impl super::System for OneCard {
    fn driver_version(&self) -> Result<i32, String> {
        Ok(12_040)
    }
    fn compiler(&self) -> Option<(i32, i32)> {
        Some((12, 4))
    }
    fn cards(&self) -> Result<Vec<Card>, DriverError> {
        Ok(vec![self.0.card().clone()])
    }
    fn open(&self, _card: &Card) -> Result<Arc<dyn Driver>, DriverError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Driver>)
    }
}

/// What a machine offers whose only card is this one.
pub fn offer_of(driver: &Arc<HostDriver>) -> super::Offer {
    super::Offer::new(Box::new(OneCard(Arc::clone(driver))))
}

/// The kernels' twins in Rust.
#[derive(Debug, Clone, Copy)]
pub struct Twin;

impl Executor for Twin {
    unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), String> {
        // SAFETY: the caller's promise.
        unsafe {
            match launch.source.name {
                "assign" => crate::assign::twin::run(launch),
                "factor" => crate::factor::twin::run(launch),
                "gram" => crate::gram::twin::run(launch),
                "topk" => crate::topk::twin::run(launch),
                name => Err(format!("the source {name} has no twin")),
            }
        }
    }
}

/// The CUDA sources, compiled for the CPU.
pub struct Emulated {
    libraries: HashMap<&'static str, libloading::Library>,
    /// In which order blocks and threads run: 0 ascending, 1 descending, others shuffled.
    order: u32,
}

impl fmt::Debug for Emulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulated")
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

type EmulatorLaunch =
    unsafe extern "C" fn(*const c_char, u32, u32, u32, u32, *mut *mut c_void, u32, *mut c_char, u32) -> c_int;

impl Emulated {
    /// Compiles the sources; none, with a word on standard error, where there is no C++ compiler.
    ///
    /// # Panics
    /// A source does not compile, or the environment says `ML_REQUIRE_EMULATOR` and there is no compiler.
    pub fn new(order: u32) -> Option<Self> {
        static PATHS: OnceLock<Option<HashMap<&'static str, PathBuf>>> = OnceLock::new();
        let paths = PATHS.get_or_init(|| {
            if Command::new("c++").arg("--version").output().is_err() {
                assert!(
                    std::env::var_os("ML_REQUIRE_EMULATOR").is_none(),
                    "there is no C++ compiler, and ML_REQUIRE_EMULATOR is set"
                );
                eprintln!("skipped: no C++ compiler (c++) to emulate CUDA with");
                return None;
            }
            let folder = std::env::temp_dir().join("datafusion-ml-emulated");
            std::fs::create_dir_all(&folder).expect("a folder for emulated kernels");
            Some(SOURCES.iter().map(|s| (s.name, compile(s, &folder))).collect())
        });
        let libraries = paths.as_ref()?.iter().map(|(name, path)| {
            // SAFETY: the library was compiled from this crate's sources and has no initialisers of its own.
            let library = unsafe { libloading::Library::new(path) };
            (*name, library.expect("an emulated source can be loaded"))
        });
        Some(Self {
            libraries: libraries.collect(),
            order,
        })
    }
}

fn compile(source: &Source, folder: &Path) -> PathBuf {
    let mut program = format!(
        "#include \"emulator.h\"\n{COMMON}\n#line 1 \"{}.cu\"\n{}\nEMULATOR_BEGIN\n",
        source.name, source.text
    );
    for kernel in source.kernels {
        program.push_str(&format!("EMULATOR_KERNEL({kernel})\n"));
    }
    program.push_str("EMULATOR_END\n");
    let emulator = include_str!("emulator.h");
    let name = format!("{}-{:016x}", source.name, fingerprint(&[emulator, &program]));
    let library = folder.join(format!("{name}.so"));
    if library.exists() {
        return library;
    }
    // Under a name of its own until it is whole: other tests compile the same.
    let work = folder.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&work).expect("a folder to compile in");
    std::fs::write(work.join("emulator.h"), emulator).expect("the emulator is written");
    std::fs::write(work.join("program.cpp"), program).expect("the program is written");
    let made = work.join("program.so");
    let output = Command::new("c++")
        .args([
            "-std=c++17",
            "-O2",
            "-fPIC",
            "-shared",
            "-ffp-contract=off",
            "-Wno-unknown-pragmas",
        ])
        .args(crate::cpu::has_avx2_fma().then_some("-mfma"))
        .arg("-o")
        .arg(&made)
        .arg(work.join("program.cpp"))
        .output()
        .expect("the C++ compiler runs");
    assert!(
        output.status.success(),
        "{}.cu does not compile for the emulator:\n{}",
        source.name,
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::rename(&made, &library).expect("the library takes its place");
    let _ = std::fs::remove_dir_all(&work);
    library
}

impl Executor for Emulated {
    unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), String> {
        let library = self.libraries.get(launch.source.name).ok_or("an unknown source")?;
        let name = CString::new(launch.kernel).map_err(|e| e.to_string())?;
        let mut args: Vec<*mut c_void> = launch.args.iter().map(Arg::address).collect();
        let mut error = [0u8; 512];
        // SAFETY: the signature is that of `emulator_launch`; the rest is the caller's promise.
        let failed = unsafe {
            let run: libloading::Symbol<'_, EmulatorLaunch> =
                library.get(b"emulator_launch\0").map_err(|e| e.to_string())?;
            run(
                name.as_ptr(),
                launch.grid.0,
                launch.grid.1,
                launch.threads,
                launch.shared_bytes,
                args.as_mut_ptr(),
                self.order,
                error.as_mut_ptr().cast(),
                error.len() as u32,
            )
        };
        if failed == 0 {
            return Ok(());
        }
        let end = error.iter().position(|b| *b == 0).unwrap_or(error.len());
        Err(String::from_utf8_lossy(&error[..end]).into_owned())
    }
}

/// A card that runs the twins.
pub fn twin(memory_bytes: usize) -> Arc<HostDriver> {
    Arc::new(HostDriver::new(Box::new(Twin), memory_bytes))
}

/// A card that runs the CUDA sources; none where they cannot be compiled.
pub fn emulated(order: u32, memory_bytes: usize) -> Option<Arc<HostDriver>> {
    Some(Arc::new(HostDriver::new(Box::new(Emulated::new(order)?), memory_bytes)))
}

/// The cards that a test of a kernel runs on: the twin, and the sources in two orders.
pub fn cards(memory_bytes: usize) -> Vec<(&'static str, Arc<HostDriver>)> {
    let mut cards = vec![("the twin", twin(memory_bytes))];
    for (name, order) in [("the source, ascending", 0), ("the source, shuffled", 7)] {
        cards.extend(emulated(order, memory_bytes).map(|driver| (name, driver)));
    }
    cards
}
