use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::driver::{Card, Driver, DriverError, Fault};
use super::memory::{Gpu, Usage};
use super::sources::{COMMON, SOURCES, Source, fingerprint};
use super::testing::{HostDriver, twin};
use super::{Offer, Preference, System};

const GIGABYTE: usize = 1 << 30;

/// A machine as tests describe it.
struct Described {
    version: Result<i32, String>,
    compiler: Option<(i32, i32)>,
    cards: Result<Vec<Card>, DriverError>,
    opens: bool,
}

impl System for Described {
    fn driver_version(&self) -> Result<i32, String> {
        self.version.clone()
    }
    fn compiler(&self) -> Option<(i32, i32)> {
        self.compiler
    }
    fn cards(&self) -> Result<Vec<Card>, DriverError> {
        self.cards.clone()
    }
    fn open(&self, _card: &Card) -> Result<Arc<dyn Driver>, DriverError> {
        if self.opens {
            Ok(twin(GIGABYTE) as Arc<dyn Driver>)
        } else {
            Err(DriverError::new(Fault::Driver, "all its contexts are taken"))
        }
    }
}

fn card(ordinal: usize, architecture: u32) -> Card {
    Card {
        ordinal,
        architecture,
        name: "Card".into(),
        ..twin(GIGABYTE).card().clone()
    }
}

fn machine() -> Described {
    Described {
        version: Ok(12_040),
        compiler: Some((12, 4)),
        cards: Ok(vec![card(0, 90)]),
        opens: true,
    }
}

/// The reason that a machine's only or first card is not used, and that its list of devices says the same.
fn reason(system: Described) -> String {
    let offer = Offer::new(Box::new(system));
    let opened = offer.gpu().map(|_| ()).unwrap_err();
    assert_eq!(offer.reason(), Some(opened.clone()));
    let devices = offer.devices();
    assert!(devices[0].used && devices[0].name == "cpu");
    assert!(devices[1..].iter().all(|d| !d.used && !d.reason.is_empty()));
    assert_eq!(devices[1].reason, opened);
    opened
}

#[test]
fn each_reason_is_said_in_plain_words() {
    let no_library = Err("no NVIDIA driver was found".to_string());
    let cases = [
        (
            Described {
                version: no_library,
                ..machine()
            },
            "no NVIDIA driver was found",
        ),
        (
            Described {
                version: Ok(10_020),
                ..machine()
            },
            "the NVIDIA driver is too old: it knows CUDA 10.2, and 11.4 is needed; update the driver",
        ),
        (
            Described {
                cards: Ok(vec![]),
                ..machine()
            },
            "the NVIDIA driver is there, but no card",
        ),
        (
            Described {
                cards: Err(DriverError::new(Fault::Driver, "system not yet initialized")),
                ..machine()
            },
            "the NVIDIA driver fails: system not yet initialized",
        ),
        (
            Described {
                cards: Ok(vec![card(0, 75)]),
                ..machine()
            },
            "its architecture, 7.5, is older than 8.0, which the kernels are for",
        ),
        (
            Described {
                compiler: None,
                version: Ok(11_080),
                ..machine()
            },
            "there is no NVRTC library to compile kernels, and the driver, of CUDA 11.8, is too old for those in this library, \
             which need 12.1; install NVRTC (it comes with the CUDA toolkit) or update the driver",
        ),
        (
            Described {
                opens: false,
                ..machine()
            },
            "Card cannot be used: all its contexts are taken",
        ),
    ];
    for (system, expected) in cases {
        assert_eq!(reason(system), expected);
    }
}

#[test]
fn a_card_is_listed_with_what_compiles_for_it() {
    let offer = Offer::new(Box::new(Described {
        cards: Ok(vec![card(0, 75), card(1, 90), card(2, 90)]),
        ..machine()
    }));
    assert_eq!(offer.reason(), None);
    assert!(!offer.is_open());
    let devices = offer.devices();
    assert!(!offer.is_open(), "a list opens nothing");
    let names: Vec<&str> = devices.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["cpu", "cuda:0", "cuda:1", "cuda:2"]);
    let used: Vec<bool> = devices.iter().map(|d| d.used).collect();
    assert_eq!(used, [true, false, true, false]);
    assert_eq!(devices[3].reason, "one card is used, the first");
    assert_eq!(devices[2].memory_bytes, Some(GIGABYTE as u64));
    assert_eq!(
        devices[2].description,
        "Card, 3 multiprocessors of architecture 9.0, kernels compiled by NVRTC 12.4"
    );
    offer.gpu().unwrap();
    assert!(offer.is_open());
    let without = Offer::new(Box::new(Described {
        compiler: None,
        ..machine()
    }));
    assert!(without.devices()[1].used);
    assert!(without.devices()[1].description.ends_with("as there is no NVRTC"));
}

#[test]
fn this_machine_can_be_asked() {
    let offer = Offer::of_this_machine();
    let devices = offer.devices();
    assert_eq!(devices[0].name, "cpu");
    assert!(devices.len() > 1);
    assert!(devices.iter().all(|d| d.used == d.reason.is_empty()));
    assert_eq!(offer.gpu().is_ok(), offer.reason().is_none());
    let _ = Preference::default();
}

fn card_in_use(memory_bytes: usize) -> (Arc<Gpu>, Arc<HostDriver>) {
    let driver = twin(memory_bytes);
    (Arc::new(Gpu::new(Arc::clone(&driver) as Arc<dyn Driver>)), driver)
}

#[test]
fn buffers_come_back_through_a_pool_within_a_limit() {
    let (gpu, _) = card_in_use(GIGABYTE);
    let usage = Arc::new(Usage::default());
    let queue = gpu.queue(1 << 20, Arc::clone(&usage)).unwrap();
    let values: Vec<u32> = (0..100_000).collect();
    let buffer = queue.uploaded(&values).unwrap();
    assert!(gpu.used_bytes() >= 400_000 && gpu.used_bytes() < 460_000);
    let mut back = vec![0u32; 50_000];
    queue.download(&buffer, 25_000, &mut back).unwrap();
    assert_eq!(back, values[25_000..75_000]);
    let error = queue.buffer::<f64>(100_000).unwrap_err();
    assert_eq!(error.kind, Fault::Memory);
    assert!(
        error.message.contains("ml.gpu_memory_limit (1.0 MB, of which 0."),
        "{error}"
    );
    drop(buffer);
    // What was dropped is free once the queue's work is done, which asking for memory waits for.
    let wide = queue.buffer::<f64>(100_000).unwrap();
    assert_eq!(wide.len(), 100_000);
    assert_eq!(usage.uploaded_bytes.load(Ordering::Relaxed), 400_000);
    assert_eq!(usage.downloaded_bytes.load(Ordering::Relaxed), 200_000);
    drop(queue);
    drop(wide);
    assert_eq!(gpu.used_bytes(), 0);
}

#[test]
fn a_pool_of_the_wrong_sizes_is_given_up_for_a_request() {
    let (gpu, _) = card_in_use(1 << 20);
    let queue = gpu.queue(GIGABYTE, Arc::default()).unwrap();
    for _ in 0..3 {
        drop(queue.zeros::<u8>(700_000).unwrap());
        queue.synchronize().unwrap();
        drop(queue.zeros::<u8>(400_000).unwrap());
        queue.synchronize().unwrap();
    }
    let error = queue.buffer::<u8>(2 << 20).unwrap_err();
    assert_eq!(error.kind, Fault::Memory);
}

#[test]
fn large_uploads_go_in_pieces() {
    let (gpu, _) = card_in_use(GIGABYTE);
    let queue = gpu.queue(GIGABYTE, Arc::default()).unwrap();
    let values: Vec<u64> = (0..6_000_000).collect();
    let buffer = queue.uploaded(&values).unwrap();
    let mut back = vec![0u64; values.len()];
    queue.download(&buffer, 0, &mut back).unwrap();
    assert!(back == values);
}

/// Every `#define NAME number` of a source.
fn defined(text: &str) -> BTreeMap<String, f64> {
    let number = |line: &str| {
        let mut words = line.strip_prefix("#define ")?.split_whitespace();
        let (name, value) = (words.next()?, words.next()?);
        let value: f64 = value.trim_end_matches(['u', 'U', 'f', 'F']).parse().ok()?;
        words.next().is_none().then(|| (name.to_string(), value))
    };
    text.lines().filter_map(number).collect()
}

#[test]
fn constants_are_the_same_in_cuda_and_rust() {
    for source in SOURCES {
        let rust: BTreeMap<String, f64> = source.constants.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        assert_eq!(defined(source.text), rust, "{}.cu", source.name);
        assert!(!rust.is_empty());
    }
}

#[test]
fn every_kernel_is_listed() {
    for source in SOURCES {
        for kernel in source.kernels {
            assert!(source.text.contains(kernel), "{}.cu has no {kernel}", source.name);
        }
        // By a macro or by hand, each kernel's definition begins so.
        let by_hand = source.text.matches("extern \"C\" __global__").count();
        assert!(
            by_hand <= source.kernels.len() + 1,
            "{}.cu has kernels that are not listed",
            source.name
        );
    }
    assert!(COMMON.contains("DYNAMIC_SHARED"));
}

fn ptx_path(source: &Source) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("{}.ptx", source.name))
}

/// The text of the shipped PTX: what it was made from, a fingerprint of what follows, and the compiler's own words.
fn shipped(source: &Source, ptx: &str) -> String {
    format!("{}\n// {:016x}\n{ptx}\n", source.ptx_header(), fingerprint(&[ptx]))
}

/// The shipped PTX says what it was made from, and that is the source beside it; and nobody has changed it since.
#[test]
fn the_shipped_ptx_was_made_from_these_sources() {
    if std::env::var_os("UPDATE_PTX").is_some() {
        return;
    }
    for source in SOURCES {
        let path = ptx_path(source);
        let mut lines = source.ptx.splitn(3, '\n');
        let header = lines.next().unwrap_or_default();
        assert_eq!(
            header,
            source.ptx_header(),
            "{} is out of date; make it with UPDATE_PTX=1",
            path.display()
        );
        let body = lines.nth(1).unwrap_or_default().trim_end();
        assert!(
            source.ptx == shipped(source, body),
            "{} was changed by hand",
            path.display()
        );
    }
}

#[cfg(feature = "cuda")]
mod with_nvrtc {
    use super::super::compile::{Compiler, Target, image_in};
    use super::*;

    /// NVRTC, if there is one; `ML_REQUIRE_NVRTC` says that there must be.
    fn compiler() -> Option<&'static Compiler> {
        let found = Compiler::of_this_machine();
        if found.is_none() {
            assert!(
                std::env::var_os("ML_REQUIRE_NVRTC").is_none(),
                "ML_REQUIRE_NVRTC is set, but no NVRTC was found"
            );
            eprintln!("skipped: no NVRTC; set ML_NVRTC to the folder of libnvrtc to compile the kernels");
        }
        found
    }

    #[test]
    fn every_source_compiles_for_every_target() {
        let Some(compiler) = compiler() else { return };
        for source in SOURCES {
            for target in [Target::Machine(80), Target::Machine(90), Target::Ptx(80)] {
                let code = compiler.compile(source, target).unwrap_or_else(|e| panic!("{e}"));
                assert!(code.len() > 1000, "{} {target:?}", source.name);
            }
        }
    }

    #[test]
    fn a_fault_in_a_source_is_told_with_its_line() {
        let Some(compiler) = compiler() else { return };
        static BROKEN: Source = Source {
            name: "broken",
            text: "\n__global__ void f() { return 1; }",
            kernels: &[],
            ptx: "",
            constants: &[],
        };
        let error = compiler.compile(&BROKEN, Target::Machine(80)).unwrap_err();
        assert_eq!(error.kind, Fault::Kernel);
        assert!(error.message.contains("broken.cu(2)"), "{error}");
    }

    /// What a program must offer to be launched: version, target, and each kernel with its parameters.
    fn interface(ptx: &str) -> Vec<String> {
        let wanted = |line: &&str| {
            [".version", ".target", ".visible .entry", ".param"]
                .iter()
                .any(|word| line.starts_with(word))
        };
        let mut lines: Vec<String> = ptx.lines().map(str::trim).filter(wanted).map(String::from).collect();
        // Functions that are no kernels may come in any order.
        lines.sort();
        lines
    }

    /// What the shipped PTX's compiler makes of the sources can be launched as the shipped PTX is: NVRTC's choice of registers, and a few
    /// instructions with it, differ from run to run, so that the bytes prove nothing. `UPDATE_PTX=1` makes it anew.
    #[test]
    fn the_shipped_ptx_is_what_its_compiler_makes() {
        let Some(compiler) = compiler() else { return };
        if compiler.version() != super::super::sources::PTX_COMPILER {
            eprintln!("skipped: another release of NVRTC than the one that makes the shipped PTX");
            return;
        }
        for source in SOURCES {
            let made = compiler
                .compile(source, Target::Ptx(super::super::sources::PTX_ARCHITECTURE))
                .unwrap();
            let made = String::from_utf8(made).unwrap();
            let made = made.trim_end_matches('\0').trim();
            if std::env::var_os("UPDATE_PTX").is_some() {
                std::fs::write(ptx_path(source), shipped(source, made)).unwrap();
                continue;
            }
            assert_eq!(interface(made), interface(source.ptx), "{}", source.name);
            for kernel in source.kernels {
                assert!(
                    source.ptx.contains(&format!(".entry {kernel}(")),
                    "{kernel} is not in the PTX"
                );
            }
        }
    }

    static TINY: Source = Source {
        name: "tiny",
        text: "extern \"C\" __global__ void tiny(float* x) { x[threadIdx.x] += 1; }",
        kernels: &["tiny"],
        ptx: "// the shipped PTX",
        constants: &[],
    };

    #[test]
    fn machine_code_is_kept_on_disk_and_checked() {
        let Some(compiler) = compiler() else { return };
        let folder = std::env::temp_dir().join(format!("datafusion-ml-cache-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let make = || image_in(Some(&folder), &TINY, 80, Some(compiler)).unwrap();
        let code = make();
        let files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let name = files[0].file_name().unwrap().to_string_lossy().into_owned();
        let (major, minor) = compiler.version();
        assert!(
            name.starts_with(&format!("tiny-sm_80-nvrtc_{major}.{minor}-")),
            "{name}"
        );
        let kept = std::fs::read(&files[0]).unwrap();
        assert_eq!(make(), code);
        // Cut short or changed, it is made anew.
        std::fs::write(&files[0], &kept[..kept.len() / 2]).unwrap();
        assert_eq!(make(), code);
        assert_eq!(std::fs::read(&files[0]).unwrap(), kept);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_compiler_the_shipped_ptx_serves() {
        assert_eq!(image_in(None, &TINY, 90, None).unwrap(), b"// the shipped PTX\0");
    }

    #[test]
    fn a_card_newer_than_the_compiler_gets_ptx() {
        let Some(compiler) = compiler() else { return };
        let code = image_in(None, &TINY, 999, Some(compiler)).unwrap();
        assert!(String::from_utf8_lossy(&code).contains(".entry tiny"));
    }

    #[test]
    fn what_is_no_compiler_is_refused() {
        let error = Compiler::open(&PathBuf::from("/nowhere/libnvrtc.so")).unwrap_err();
        assert!(
            error.message.contains("/nowhere/libnvrtc.so cannot be loaded"),
            "{error}"
        );
    }
}
