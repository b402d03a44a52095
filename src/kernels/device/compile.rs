//! Kernels made ready for a card: compiled by NVRTC for its very architecture and kept on disk, or the PTX of this library where
//! there is no NVRTC.
//!
//! NVRTC comes with the CUDA toolkit, not with the driver. It is looked for by the names that its releases have, in the places where
//! toolkits and Python packages put it, and in the folder or file that `ML_NVRTC` names.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;
use sha2::{Digest, Sha256};

use super::driver::{DriverError, Fault};
use super::sources::{COMPILER_OPTIONS, PTX_ARCHITECTURE, SOURCES, Source};

/// Where NVRTC is, if not where it is usually found: a file or a folder.
pub const NVRTC_VARIABLE: &str = "ML_NVRTC";

/// Where compiled kernels are kept, if not in the user's cache folder.
pub const CACHE_VARIABLE: &str = "ML_KERNEL_CACHE";

type Program = *mut c_void;

/// NVRTC, loaded.
#[derive(Debug)]
pub struct Compiler {
    library: Library,
    version: (i32, i32),
}

/// What is to come out of a compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Machine code for one architecture.
    Machine(u32),
    /// PTX for an architecture and all later ones.
    Ptx(u32),
}

/// Calls a function of the library by name; its result is NVRTC's status.
macro_rules! call {
    ($compiler:expr, $name:literal, ($($kind:ty),*), $($arg:expr),*) => {{
        // SAFETY: the functions of NVRTC have had these signatures since its release 7.0 (those for machine code since 11.1).
        unsafe {
            match $compiler.library.get::<unsafe extern "C" fn($($kind),*) -> c_int>(concat!($name, "\0").as_bytes()) {
                Ok(function) => function($($arg),*),
                Err(e) => return Err(DriverError::new(Fault::Kernel, format!("NVRTC lacks {}: {e}", $name))),
            }
        }
    }};
}

impl Compiler {
    /// The first NVRTC that is found on this machine.
    pub fn of_this_machine() -> Option<&'static Compiler> {
        static COMPILER: OnceLock<Option<Compiler>> = OnceLock::new();
        COMPILER
            .get_or_init(|| candidates().iter().find_map(|path| Compiler::open(path).ok()))
            .as_ref()
    }

    /// The NVRTC in this file.
    ///
    /// # Errors
    /// It cannot be loaded, or is something else.
    pub fn open(path: &Path) -> Result<Self, DriverError> {
        // SAFETY: NVRTC's initialisers do nothing but initialise it.
        let library = unsafe { Library::new(path) }
            .map_err(|e| DriverError::new(Fault::Kernel, format!("{} cannot be loaded: {e}", path.display())))?;
        let mut compiler = Self {
            library,
            version: (0, 0),
        };
        let (mut major, mut minor) = (0, 0);
        let status = call!(
            compiler,
            "nvrtcVersion",
            (*mut c_int, *mut c_int),
            &mut major,
            &mut minor
        );
        compiler.check(status, "nvrtcVersion")?;
        compiler.version = (major, minor);
        Ok(compiler)
    }

    /// Its release.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    fn check(&self, status: c_int, what: &str) -> Result<(), DriverError> {
        if status == 0 {
            return Ok(());
        }
        let (major, minor) = self.version;
        Err(DriverError::new(
            Fault::Kernel,
            format!("NVRTC {major}.{minor} fails in {what} with status {status}"),
        ))
    }

    /// Compiles a source; PTX ends with a zero byte.
    ///
    /// # Errors
    /// The source has errors (the compiler's own words follow), or NVRTC does not know the target.
    pub fn compile(&self, source: &Source, target: Target) -> Result<Vec<u8>, DriverError> {
        let text = |s: String| CString::new(s).map_err(|e| DriverError::new(Fault::Kernel, e.to_string()));
        let (program_text, name) = (text(source.program())?, text(format!("{}.cu", source.name))?);
        let architecture = match target {
            Target::Machine(n) => format!("--gpu-architecture=sm_{n}"),
            Target::Ptx(n) => format!("--gpu-architecture=compute_{n}"),
        };
        let options = std::iter::once(architecture)
            .chain(COMPILER_OPTIONS.iter().map(ToString::to_string))
            .map(text)
            .collect::<Result<Vec<_>, _>>()?;
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program: Program = std::ptr::null_mut();
        let status = call!(
            self,
            "nvrtcCreateProgram",
            (
                *mut Program,
                *const c_char,
                *const c_char,
                c_int,
                *const *const c_char,
                *const *const c_char
            ),
            &mut program,
            program_text.as_ptr(),
            name.as_ptr(),
            0,
            std::ptr::null(),
            std::ptr::null()
        );
        self.check(status, "nvrtcCreateProgram")?;
        let made = self.compile_program(program, &pointers, source, target);
        let _ = call!(self, "nvrtcDestroyProgram", (*mut Program), &mut program);
        made
    }

    fn compile_program(
        &self,
        program: Program,
        options: &[*const c_char],
        source: &Source,
        target: Target,
    ) -> Result<Vec<u8>, DriverError> {
        let status = call!(
            self,
            "nvrtcCompileProgram",
            (Program, c_int, *const *const c_char),
            program,
            options.len() as c_int,
            options.as_ptr()
        );
        if status != 0 {
            let log = self.log(program).unwrap_or_default();
            let (major, minor) = self.version;
            return Err(DriverError::new(
                Fault::Kernel,
                format!(
                    "NVRTC {major}.{minor} does not compile {}.cu for {target:?}: {}",
                    source.name,
                    log.trim()
                ),
            ));
        }
        let mut size = 0usize;
        let mut out;
        match target {
            Target::Machine(_) => {
                let status = call!(self, "nvrtcGetCUBINSize", (Program, *mut usize), program, &mut size);
                self.check(status, "nvrtcGetCUBINSize")?;
                out = vec![0u8; size];
                let to: *mut c_char = out.as_mut_ptr().cast();
                let status = call!(self, "nvrtcGetCUBIN", (Program, *mut c_char), program, to);
                self.check(status, "nvrtcGetCUBIN")?;
            }
            Target::Ptx(_) => {
                let status = call!(self, "nvrtcGetPTXSize", (Program, *mut usize), program, &mut size);
                self.check(status, "nvrtcGetPTXSize")?;
                out = vec![0u8; size];
                let to: *mut c_char = out.as_mut_ptr().cast();
                let status = call!(self, "nvrtcGetPTX", (Program, *mut c_char), program, to);
                self.check(status, "nvrtcGetPTX")?;
            }
        }
        Ok(out)
    }

    fn log(&self, program: Program) -> Result<String, DriverError> {
        let mut size = 0usize;
        let status = call!(
            self,
            "nvrtcGetProgramLogSize",
            (Program, *mut usize),
            program,
            &mut size
        );
        self.check(status, "nvrtcGetProgramLogSize")?;
        let mut log = vec![0u8; size];
        let to: *mut c_char = log.as_mut_ptr().cast();
        let status = call!(self, "nvrtcGetProgramLog", (Program, *mut c_char), program, to);
        self.check(status, "nvrtcGetProgramLog")?;
        Ok(String::from_utf8_lossy(&log).trim_end_matches('\0').to_string())
    }
}

/// Files that may be NVRTC, the likeliest first.
fn candidates() -> Vec<PathBuf> {
    const NAMES: &[&str] = &[
        "libnvrtc.so",
        "libnvrtc.so.13",
        "libnvrtc.so.12",
        "libnvrtc.so.11.2",
        "nvrtc64_130_0.dll",
        "nvrtc64_120_0.dll",
        "nvrtc64_112_0.dll",
    ];
    let mut folders: Vec<PathBuf> = vec![];
    let mut files = vec![];
    if let Some(place) = std::env::var_os(NVRTC_VARIABLE).map(PathBuf::from) {
        if place.is_file() {
            files.push(place);
        } else {
            folders.push(place);
        }
    }
    // The loader's own search path.
    folders.push(PathBuf::new());
    for variable in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"] {
        if let Some(root) = std::env::var_os(variable).map(PathBuf::from) {
            folders.extend(["lib64", "lib", "bin"].map(|f| root.join(f)));
        }
    }
    folders.push("/usr/local/cuda/lib64".into());
    if let Some(root) = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from) {
        folders.extend(of_python(&root.join("lib")));
    }
    for root in ["/usr/lib", "/usr/local/lib"] {
        folders.extend(of_python(Path::new(root)));
    }
    files.extend(
        folders
            .iter()
            .flat_map(|folder| NAMES.iter().map(|name| folder.join(name))),
    );
    files
}

/// Where Python's packages of NVIDIA's libraries put NVRTC below a `lib` folder.
fn of_python(lib: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(lib) else {
        return vec![];
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("python3"))
        })
        .flat_map(|python| {
            ["site-packages", "dist-packages"].map(|packages| python.join(packages).join("nvidia/cuda_nvrtc/lib"))
        })
        .filter(|folder| folder.is_dir())
        .collect();
    found.sort();
    found
}

/// The code of a source for a card: from the disk, from NVRTC, or from the PTX of this library.
pub(super) fn image(source: &Source, architecture: u32, compiler: Option<&Compiler>) -> Result<Vec<u8>, DriverError> {
    image_in(cache_folder().as_deref(), source, architecture, compiler)
}

/// As [`image`], with compiled kernels kept in `folder`.
pub(super) fn image_in(
    folder: Option<&Path>,
    source: &Source,
    architecture: u32,
    compiler: Option<&Compiler>,
) -> Result<Vec<u8>, DriverError> {
    let shipped = || {
        let mut ptx = source.ptx.as_bytes().to_vec();
        ptx.push(0);
        ptx
    };
    let Some(compiler) = compiler else {
        return Ok(shipped());
    };
    if let Some(folder) = folder
        && let Some(code) = read(folder, source, architecture, compiler.version)
    {
        return Ok(code);
    }
    match compiler.compile(source, Target::Machine(architecture)) {
        Ok(code) => {
            if let Some(folder) = folder {
                // Without a cache the next process compiles again, that is all.
                let _ = write(folder, source, architecture, compiler.version, &code);
            }
            Ok(code)
        }
        // A card newer than this NVRTC: the driver compiles the PTX.
        Err(_) if architecture > PTX_ARCHITECTURE => compiler
            .compile(source, Target::Ptx(PTX_ARCHITECTURE))
            .or_else(|_| Ok(shipped())),
        Err(e) => Err(e),
    }
}

/// Where compiled kernels are kept; none where the user has no folder for such things.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable(CACHE_VARIABLE).or_else(|| {
        variable("XDG_CACHE_HOME")
            .or_else(|| variable("LOCALAPPDATA"))
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("datafusion-ml").join("kernels"))
    })
}

/// Whether everything was compiled for this architecture before and kept.
pub(super) fn all_kept(architecture: u32, compiler: &Compiler) -> bool {
    cache_folder().is_some_and(|folder| {
        let kept = |source: &&Source| folder.join(file_name(source, architecture, compiler.version)).exists();
        SOURCES.iter().all(kept)
    })
}

/// The name tells everything that the code depends on, so that a file never has to be replaced.
fn file_name(source: &Source, architecture: u32, (major, minor): (i32, i32)) -> String {
    let mut hash = Sha256::new();
    hash.update(source.program());
    hash.update(COMPILER_OPTIONS.join(" "));
    let hash: String = hash.finalize().iter().take(12).map(|b| format!("{b:02x}")).collect();
    format!("{}-sm_{architecture}-nvrtc_{major}.{minor}-{hash}.cubin", source.name)
}

fn read(folder: &Path, source: &Source, architecture: u32, version: (i32, i32)) -> Option<Vec<u8>> {
    let bytes = std::fs::read(folder.join(file_name(source, architecture, version))).ok()?;
    // The checksum, of 32 bytes, then the code: a file that a crash cut short is compiled again.
    let (sum, code) = bytes.split_at_checked(32)?;
    (Sha256::digest(code).as_slice() == sum).then(|| code.to_vec())
}

fn write(folder: &Path, source: &Source, architecture: u32, version: (i32, i32), code: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let name = file_name(source, architecture, version);
    let mut bytes = Sha256::digest(code).to_vec();
    bytes.extend_from_slice(code);
    // Whole or not at all, whoever else writes the same.
    let work = folder.join(format!("{name}.{}", std::process::id()));
    std::fs::write(&work, bytes)?;
    std::fs::rename(&work, folder.join(name))
}
