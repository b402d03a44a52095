//! The devices that kernels can run on, and why one is not used.
//!
//! The CPU is always there. An NVIDIA card is used through its driver alone, which is looked for when it is first needed: nothing of
//! CUDA is needed to build or to start. Kernels see a card through [`driver::Driver`]; machines are seen through [`System`], so
//! that what is missing or old can be tested anywhere.

#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
mod cuda;
pub mod driver;
pub mod memory;
pub mod sources;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use self::driver::{Card, Driver, DriverError};
use self::memory::Gpu;
use self::sources::PTX_COMPILER;

/// Which device is wanted: `SET ml.device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// A card where it is there and worth it.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A card whatever the size of the work.
    Cuda,
}

/// A device: what it is and whether kernels run on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// `cpu`, `cuda:0`, …; `cuda` where no card was found.
    pub name: String,
    /// What it is, such as the vector instructions that are used.
    pub description: String,
    /// Bytes of a card's memory.
    pub memory_bytes: Option<u64>,
    /// Whether kernels run on it.
    pub used: bool,
    /// Why it is not used, in a sentence; empty where it is.
    pub reason: String,
}

/// The oldest driver that is used, as CUDA's release × 1000: 11.4.
const OLDEST_DRIVER: i32 = 11_040;

/// The oldest architecture that the kernels are for: Ampere.
const OLDEST_ARCHITECTURE: u32 = 80;

/// A card's context, and loading kernels that were compiled before.
const CONTEXT_MS: f64 = 400.0;

/// What a machine has, as far as cards go. The seam for tests of machines that are not at hand.
pub trait System: Send + Sync {
    /// The newest CUDA release that the installed driver knows, × 1000 (12040 for 12.4).
    ///
    /// # Errors
    /// There is no driver; a sentence says what was looked for.
    fn driver_version(&self) -> Result<i32, String>;

    /// The release of the NVRTC library, if there is one.
    fn compiler(&self) -> Option<(i32, i32)>;

    /// Every card, whether it can be used or not.
    ///
    /// # Errors
    /// The driver fails.
    fn cards(&self) -> Result<Vec<Card>, DriverError>;

    /// Milliseconds to compile for a card what was not compiled before.
    fn compile_ms(&self, _card: &Card) -> f64 {
        0.0
    }

    /// Makes a card ready.
    ///
    /// # Errors
    /// The driver refuses.
    fn open(&self, card: &Card) -> Result<Arc<dyn Driver>, DriverError>;
}

static THIS_MACHINE: OnceLock<Offer> = OnceLock::new();

/// What was found on a machine: its cards, and the one that is used once somebody asks for it.
pub struct Offer {
    system: Box<dyn System>,
    found: OnceLock<Found>,
    gpu: OnceLock<Result<Arc<Gpu>, String>>,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

struct Found {
    /// Each card, and why it cannot be used.
    cards: Vec<(Card, Option<String>)>,
    /// Why there is none.
    reason: Option<String>,
    compiler: Option<(i32, i32)>,
}

impl Offer {
    /// What this machine has.
    pub fn of_this_machine() -> &'static Offer {
        #[cfg(feature = "cuda")]
        return THIS_MACHINE.get_or_init(|| Offer::new(Box::new(cuda::Machine)));
        #[cfg(not(feature = "cuda"))]
        return THIS_MACHINE.get_or_init(|| Offer::new(Box::new(WithoutCuda)));
    }

    /// Has this process believe that its machine is another. Does nothing once somebody has asked for the real one.
    #[cfg(any(test, feature = "testing"))]
    pub fn pretend(system: Box<dyn System>) -> &'static Offer {
        THIS_MACHINE.get_or_init(|| Offer::new(system))
    }

    /// What a machine has.
    pub fn new(system: Box<dyn System>) -> Self {
        Self {
            system,
            found: OnceLock::new(),
            gpu: OnceLock::new(),
        }
    }

    fn found(&self) -> &Found {
        self.found.get_or_init(|| look(self.system.as_ref()))
    }

    /// Whether the machine has a card, usable or not.
    pub fn has_card(&self) -> bool {
        !self.found().cards.is_empty()
    }

    /// Whether the card was made ready already.
    pub fn is_open(&self) -> bool {
        self.gpu.get().is_some()
    }

    /// Milliseconds until the card can be asked for anything: its context, and kernels that were never compiled for it.
    pub fn opening_ms(&self) -> f64 {
        if self.is_open() {
            return 0.0;
        }
        let usable = self.found().cards.iter().find(|(_, reason)| reason.is_none());
        usable.map_or(0.0, |(card, _)| CONTEXT_MS + self.system.compile_ms(card))
    }

    /// Why no card can be used; none if one can.
    pub fn reason(&self) -> Option<String> {
        if let Some(Err(reason)) = self.gpu.get() {
            return Some(reason.clone());
        }
        let found = self.found();
        if found.cards.iter().any(|(_, reason)| reason.is_none()) {
            return None;
        }
        let first = found.cards.first().and_then(|(_, reason)| reason.clone());
        first.or_else(|| found.reason.clone())
    }

    /// The card that is used, ready for work.
    ///
    /// # Errors
    /// None can be used; the reason in a sentence.
    pub fn gpu(&self) -> Result<Arc<Gpu>, String> {
        let open = || {
            let found = self.found();
            let usable = found.cards.iter().find(|(_, reason)| reason.is_none());
            let Some((card, _)) = usable else {
                return Err(self.reason().unwrap_or_else(|| "there is no NVIDIA card".into()));
            };
            match self.system.open(card) {
                Ok(driver) => Ok(Arc::new(Gpu::new(driver))),
                Err(e) => Err(format!("{} cannot be used: {e}", card.name)),
            }
        };
        self.gpu.get_or_init(open).clone()
    }

    /// Every device, the CPU first.
    pub fn devices(&self) -> Vec<Device> {
        let found = self.found();
        let mut devices = vec![Device {
            name: "cpu".into(),
            description: format!(
                "{} threads, {}",
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                crate::cpu::vector_instructions()
            ),
            memory_bytes: None,
            used: true,
            reason: String::new(),
        }];
        let first_usable = found.cards.iter().position(|(_, reason)| reason.is_none());
        let failed = self.gpu.get().and_then(|gpu| gpu.as_ref().err());
        for (i, (card, reason)) in found.cards.iter().enumerate() {
            let kernels = match found.compiler {
                Some((major, minor)) => format!("kernels compiled by NVRTC {major}.{minor}"),
                None => "kernels from the PTX in this library, as there is no NVRTC".into(),
            };
            let reason = match reason {
                Some(reason) => reason.clone(),
                None if Some(i) == first_usable => failed.cloned().unwrap_or_default(),
                None => "one card is used, the first".into(),
            };
            devices.push(Device {
                name: format!("cuda:{}", card.ordinal),
                description: format!(
                    "{}, {} multiprocessors of architecture {}.{}, {kernels}",
                    card.name,
                    card.multiprocessor_count,
                    card.architecture / 10,
                    card.architecture % 10
                ),
                memory_bytes: Some(card.memory_bytes as u64),
                used: reason.is_empty(),
                reason,
            });
        }
        if found.cards.is_empty() {
            devices.push(Device {
                name: "cuda".into(),
                description: "NVIDIA GPU".into(),
                memory_bytes: None,
                used: false,
                reason: found.reason.clone().unwrap_or_default(),
            });
        }
        devices
    }
}

/// A library without CUDA.
#[cfg(not(feature = "cuda"))]
struct WithoutCuda;

#[cfg(not(feature = "cuda"))]
impl System for WithoutCuda {
    fn driver_version(&self) -> Result<i32, String> {
        Err("this program was built without the feature 'cuda'".into())
    }
    fn compiler(&self) -> Option<(i32, i32)> {
        None
    }
    fn cards(&self) -> Result<Vec<Card>, DriverError> {
        Ok(vec![])
    }
    fn open(&self, _card: &Card) -> Result<Arc<dyn Driver>, DriverError> {
        Err(DriverError::new(driver::Fault::Driver, "there is no card"))
    }
}

fn release(version: i32) -> (i32, i32) {
    (version / 1000, version % 1000 / 10)
}

fn look(system: &dyn System) -> Found {
    let none = |reason: String| Found {
        cards: vec![],
        reason: Some(reason),
        compiler: None,
    };
    let version = match system.driver_version() {
        Ok(version) => version,
        Err(reason) => return none(reason),
    };
    let (major, minor) = release(version);
    if version < OLDEST_DRIVER {
        let (oldest_major, oldest_minor) = release(OLDEST_DRIVER);
        return none(format!(
            "the NVIDIA driver is too old: it knows CUDA {major}.{minor}, and {oldest_major}.{oldest_minor} is needed; update the driver"
        ));
    }
    let cards = match system.cards() {
        Ok(cards) if cards.is_empty() => return none("the NVIDIA driver is there, but no card".into()),
        Ok(cards) => cards,
        Err(e) => return none(format!("the NVIDIA driver fails: {e}")),
    };
    let compiler = system.compiler();
    let kernels = match compiler {
        Some(_) => None,
        None if release(version) >= PTX_COMPILER => None,
        None => Some(format!(
            "there is no NVRTC library to compile kernels, and the driver, of CUDA {major}.{minor}, is too old for those in this \
             library, which need {}.{}; install NVRTC (it comes with the CUDA toolkit) or update the driver",
            PTX_COMPILER.0, PTX_COMPILER.1
        )),
    };
    let judged = cards.into_iter().map(|card| {
        let reason = if card.architecture < OLDEST_ARCHITECTURE {
            Some(format!(
                "its architecture, {}.{}, is older than {}.{}, which the kernels are for",
                card.architecture / 10,
                card.architecture % 10,
                OLDEST_ARCHITECTURE / 10,
                OLDEST_ARCHITECTURE % 10
            ))
        } else {
            kernels.clone()
        };
        (card, reason)
    });
    Found {
        cards: judged.collect(),
        reason: None,
        compiler,
    }
}
