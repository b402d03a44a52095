//! Cards through NVIDIA's driver, by cudarc. One primary context a card for the process.
//!
//! cudarc panics where the driver's library is missing, so nothing here is called before [`Machine::driver_version`] found it.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{result, sys};

use super::System;
use super::compile::{Compiler, all_kept, image};
use super::driver::{Arg, Card, Driver, DriverError, EventId, Fault, Launch, StreamId};
use super::sources::Source;

/// Dynamic shared memory beyond this must be asked for, kernel by kernel.
const PLAIN_SHARED_BYTES: u32 = 48 << 10;

/// The largest source, by NVRTC or, from PTX, by the driver.
const COMPILE_MS: f64 = 4000.0;

/// This machine.
pub(super) struct Machine;

impl System for Machine {
    fn driver_version(&self) -> Result<i32, String> {
        // SAFETY: loads and unloads a library, as any program that uses CUDA does.
        if !unsafe { sys::is_culib_present() } {
            return Err("no NVIDIA driver was found (the library libcuda, or nvcuda on Windows)".into());
        }
        let mut version = 0;
        // SAFETY: the library is there, and has had this function since its first release.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(|e| format!("the NVIDIA driver does not tell its version: {}", text(e)))?;
        Ok(version)
    }

    fn compiler(&self) -> Option<(i32, i32)> {
        Compiler::of_this_machine().map(Compiler::version)
    }

    fn cards(&self) -> Result<Vec<Card>, DriverError> {
        match result::init() {
            Err(result::DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => return Ok(vec![]),
            other => other.map_err(failed)?,
        }
        let count = result::device::get_count().map_err(failed)?;
        (0..count).map(describe).collect()
    }

    fn compile_ms(&self, card: &Card) -> f64 {
        match Compiler::of_this_machine() {
            Some(compiler) if all_kept(card.architecture, compiler) => 0.0,
            _ => COMPILE_MS,
        }
    }

    fn open(&self, card: &Card) -> Result<Arc<dyn Driver>, DriverError> {
        let device = result::device::get(card.ordinal as i32).map_err(failed)?;
        // SAFETY: a device of this machine.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        Ok(Arc::new(CudaDriver {
            card: card.clone(),
            context: Handle(context.cast()),
            functions: Mutex::default(),
        }))
    }
}

fn describe(ordinal: i32) -> Result<Card, DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(ordinal).map_err(failed)?;
    // SAFETY: a device of this machine.
    let attribute = |a| unsafe { result::device::get_attribute(device, a) };
    let known = |a| attribute(a).map_err(failed).map(|v| v.max(0) as u32);
    let major = known(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = known(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let clock_khz = known(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).unwrap_or(0);
    let bus_bits = known(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH).unwrap_or(0);
    Ok(Card {
        ordinal: ordinal.max(0) as usize,
        name: result::device::get_name(device).map_err(failed)?,
        architecture: major * 10 + minor,
        // SAFETY: a device of this machine.
        memory_bytes: unsafe { result::device::total_mem(device) }.map_err(failed)?,
        multiprocessor_count: known(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_bytes: known(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        // Two transfers a clock.
        memory_bytes_per_second: f64::from(clock_khz) * 1e3 * 2.0 * f64::from(bus_bits) / 8.0,
    })
}

/// What the driver says of an error, in its own words.
fn text(error: result::DriverError) -> String {
    let name = error.error_name().ok().and_then(|n| n.to_str().ok());
    let words = error.error_string().ok().and_then(|n| n.to_str().ok());
    match (name, words) {
        (Some(name), Some(words)) => format!("{words} ({name})"),
        _ => format!("error {}", error.0 as u32),
    }
}

fn failed(error: result::DriverError) -> DriverError {
    use sys::CUresult as R;
    let kind = match error.0 {
        R::CUDA_ERROR_OUT_OF_MEMORY => Fault::Memory,
        R::CUDA_ERROR_NO_BINARY_FOR_GPU
        | R::CUDA_ERROR_INVALID_PTX
        | R::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | R::CUDA_ERROR_INVALID_IMAGE
        | R::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
        | R::CUDA_ERROR_NOT_FOUND => Fault::Kernel,
        R::CUDA_ERROR_LAUNCH_FAILED
        | R::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
        | R::CUDA_ERROR_LAUNCH_TIMEOUT
        | R::CUDA_ERROR_ILLEGAL_ADDRESS
        | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | R::CUDA_ERROR_MISALIGNED_ADDRESS => Fault::Launch,
        _ => Fault::Driver,
    };
    DriverError::new(kind, text(error))
}

/// A handle of the driver's, which any thread may use.
#[derive(Debug, Clone, Copy)]
struct Handle(*mut c_void);

// SAFETY: the driver's handles may be used from every thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// A kernel, ready to be launched, and the dynamic shared memory that it may have now.
#[derive(Debug, Clone, Copy)]
struct Function {
    handle: Handle,
    shared_bytes: u32,
}

/// A card with its context and the kernels that were loaded there.
#[derive(Debug)]
struct CudaDriver {
    card: Card,
    context: Handle,
    /// The loaded sources' kernels. A source without an entry was not loaded.
    functions: Mutex<HashMap<&'static str, HashMap<&'static str, Function>>>,
}

impl Drop for CudaDriver {
    fn drop(&mut self) {
        if let Ok(device) = result::device::get(self.card.ordinal as i32) {
            // SAFETY: retained once, in `open`; the modules go with the context.
            let _ = unsafe { result::primary_ctx::release(device) };
        }
    }
}

fn stream(id: StreamId) -> sys::CUstream {
    id.0 as usize as sys::CUstream
}

fn event(id: EventId) -> sys::CUevent {
    id.0 as usize as sys::CUevent
}

impl CudaDriver {
    /// Makes the card's context that of this thread, on which everything else rests.
    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained as long as this lives.
        unsafe { result::ctx::set_current(self.context.0.cast()) }.map_err(failed)
    }

    fn function(&self, launch: &Launch<'_>) -> Result<sys::CUfunction, DriverError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = functions
            .get_mut(launch.source.name)
            .and_then(|kernels| kernels.get_mut(launch.kernel))
            .ok_or_else(|| DriverError::new(Fault::Kernel, format!("the kernel {} was not loaded", launch.kernel)))?;
        let handle: sys::CUfunction = function.handle.0.cast();
        if launch.shared_bytes > function.shared_bytes {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a loaded module.
            unsafe { result::function::set_function_attribute(handle, attribute, launch.shared_bytes as i32) }
                .map_err(failed)?;
            function.shared_bytes = launch.shared_bytes;
        }
        Ok(handle)
    }
}

impl Driver for CudaDriver {
    fn card(&self) -> &Card {
        &self.card
    }

    fn load(&self, source: &'static Source) -> Result<(), DriverError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if functions.contains_key(source.name) {
            return Ok(());
        }
        self.enter()?;
        let image = image(source, self.card.architecture, Compiler::of_this_machine())?;
        // SAFETY: a cubin, or PTX that ends with a zero byte.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(|e| {
            let DriverError { message, .. } = failed(e);
            DriverError::new(
                Fault::Kernel,
                format!("the driver does not load the kernels of '{}': {message}", source.name),
            )
        })?;
        let mut kernels = HashMap::new();
        for kernel in source.kernels {
            let name = CString::new(*kernel).map_err(|e| DriverError::new(Fault::Kernel, e.to_string()))?;
            // SAFETY: the module was loaded.
            let function = unsafe { result::module::get_function(module, name) }.map_err(failed)?;
            kernels.insert(
                *kernel,
                Function {
                    handle: Handle(function.cast()),
                    shared_bytes: PLAIN_SHARED_BYTES,
                },
            );
        }
        functions.insert(source.name, kernels);
        Ok(())
    }

    fn allocate(&self, bytes: usize) -> Result<u64, DriverError> {
        self.enter()?;
        // SAFETY: what the memory holds is nobody's promise.
        unsafe { result::malloc_sync(bytes) }.map_err(|e| match failed(e) {
            e if e.kind == Fault::Memory => DriverError::new(
                Fault::Memory,
                format!("the card has no memory left for {:.1} MB", bytes as f64 / 1e6),
            ),
            e => e,
        })
    }

    fn free(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: the address came from `allocate`; after an error of the context nothing can be done about it.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<*mut u8, DriverError> {
        self.enter()?;
        // Not write-combined: reading such memory on the host is very slow.
        // SAFETY: as for `allocate`.
        let address = unsafe { result::malloc_host(bytes, 0) }.map_err(failed)?;
        Ok(address.cast())
    }

    fn free_pinned(&self, address: *mut u8) {
        if self.enter().is_ok() {
            // SAFETY: the address came from `allocate_pinned`.
            let _ = unsafe { result::free_host(address.cast()) };
        }
    }

    fn open_stream(&self) -> Result<StreamId, DriverError> {
        self.enter()?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking).map_err(failed)?;
        Ok(StreamId(stream as usize as u64))
    }

    fn close_stream(&self, id: StreamId) {
        if self.enter().is_ok() {
            // SAFETY: the stream was opened here and is closed once.
            unsafe {
                let _ = result::stream::synchronize(stream(id));
                let _ = result::stream::destroy(stream(id));
            }
        }
    }

    unsafe fn upload(&self, id: StreamId, to: u64, from: *const u8, bytes: usize) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_htod_async(to, std::slice::from_raw_parts(from, bytes), stream(id)) }.map_err(failed)
    }

    unsafe fn download(&self, id: StreamId, to: *mut u8, from: u64, bytes: usize) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtoh_async(std::slice::from_raw_parts_mut(to, bytes), from, stream(id)) }
            .map_err(failed)
    }

    unsafe fn copy(&self, id: StreamId, to: u64, from: u64, bytes: usize) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream(id)) }.map_err(failed)
    }

    unsafe fn fill(&self, id: StreamId, to: u64, byte: u8, bytes: usize) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the caller's promise.
        unsafe { result::memset_d8_async(to, byte, bytes, stream(id)) }.map_err(failed)
    }

    unsafe fn launch(&self, id: StreamId, launch: &Launch<'_>) -> Result<(), DriverError> {
        self.enter()?;
        let function = self.function(launch)?;
        let mut args: Vec<*mut c_void> = launch.args.iter().map(Arg::address).collect();
        // SAFETY: a function of a loaded module; the rest is the caller's promise. The driver copies the arguments.
        unsafe {
            result::launch_kernel(
                function,
                (launch.grid.0, launch.grid.1, 1),
                (launch.threads, 1, 1),
                launch.shared_bytes,
                stream(id),
                &mut args,
            )
        }
        .map_err(|e| {
            let DriverError { kind, message } = failed(e);
            DriverError::new(kind, format!("{}: {message}", launch.kernel))
        })
    }

    fn record(&self, id: StreamId) -> Result<EventId, DriverError> {
        self.enter()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map_err(failed)?;
        // SAFETY: both are alive.
        unsafe { result::event::record(event, stream(id)) }.map_err(failed)?;
        Ok(EventId(event as usize as u64))
    }

    fn wait(&self, id: StreamId, point: EventId) -> Result<(), DriverError> {
        self.enter()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both are alive.
        unsafe { result::stream::wait_event(stream(id), event(point), flags) }.map_err(failed)
    }

    fn wait_on_host(&self, point: EventId) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(event(point)) }.map_err(failed)
    }

    fn elapsed_ms(&self, from: EventId, to: EventId) -> Result<f64, DriverError> {
        self.enter()?;
        // SAFETY: both are alive and were recorded.
        unsafe { result::event::elapsed(event(from), event(to)) }
            .map(f64::from)
            .map_err(failed)
    }

    fn forget(&self, point: EventId) {
        if self.enter().is_ok() {
            // SAFETY: recorded here and forgotten once.
            let _ = unsafe { result::event::destroy(event(point)) };
        }
    }

    fn synchronize(&self, id: StreamId) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the stream is open.
        unsafe { result::stream::synchronize(stream(id)) }.map_err(failed)
    }
}
