//! The devices that kernels can run on, and why one is not used.
//!
//! This version has CPU kernels alone. Kernels are asked through [`devices`], so that a CUDA device, once its kernels
//! exist, is one more entry here.

/// A device: what it is and whether kernels run on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name in `SET ml.device`.
    pub name: &'static str,
    /// What it is, such as the vector instructions that are used.
    pub description: String,
    /// Whether kernels run on it.
    pub used: bool,
    /// Why it is not used, in a sentence; empty where it is.
    pub reason: &'static str,
}

/// Why CUDA is not used.
pub const NO_CUDA: &str = "this version has no CUDA kernels; use 'auto' or 'cpu'";

/// Every device that is known of, the one that is used first.
pub fn devices() -> Vec<Device> {
    vec![
        Device {
            name: "cpu",
            description: format!(
                "{} threads, {}",
                std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                vector_instructions()
            ),
            used: true,
            reason: "",
        },
        Device {
            name: "cuda",
            description: "NVIDIA GPU".into(),
            used: false,
            reason: NO_CUDA,
        },
    ]
}

fn vector_instructions() -> &'static str {
    if crate::kernels::cpu::has_avx2_fma() {
        "AVX2 and FMA"
    } else if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "baseline instructions"
    }
}
