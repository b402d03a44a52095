//! The CUDA sources: what is compiled for a card, and the PTX that serves where no compiler is.

/// A CUDA source with its kernels.
#[derive(Debug)]
pub struct Source {
    /// Its name, that of the kernel's module.
    pub name: &'static str,
    /// The text beside the Rust file of the same name.
    pub text: &'static str,
    /// Every `extern "C" __global__` function in it.
    pub kernels: &'static [&'static str],
    /// The same as PTX, see [`PTX_ARCHITECTURE`].
    pub ptx: &'static str,
    /// The numbers that the text defines and that Rust counts on: `#define NAME number`.
    pub constants: &'static [(&'static str, f64)],
}

/// What every source begins with.
pub const COMMON: &str = include_str!("common.cuh");

/// The architecture that the shipped PTX is for; the driver compiles it for any later card.
pub const PTX_ARCHITECTURE: u32 = 80;

/// The release of NVRTC that made the shipped PTX. It decides which drivers can read it: those of CUDA 12.1 (530) and later.
pub const PTX_COMPILER: (i32, i32) = (12, 1);

/// What is said to the compiler besides the architecture. Contraction would round otherwise than the CPU does where that matters;
/// kernels ask for fused multiply-adds by name.
pub const COMPILER_OPTIONS: &[&str] = &["--std=c++17", "--fmad=false", "--extra-device-vectorization"];

/// Every source.
pub static SOURCES: &[&Source] = &[
    &crate::assign::cuda::SOURCE,
    &crate::factor::cuda::SOURCE,
    &crate::gram::cuda::SOURCE,
    &crate::topk::cuda::SOURCE,
];

impl Source {
    /// The whole text that is compiled.
    pub fn program(&self) -> String {
        format!("{COMMON}\n#line 1 \"{}.cu\"\n{}", self.name, self.text)
    }

    /// The first line of the shipped PTX: what it was made from. It is as long as needed to notice that a source was changed
    /// without making the PTX anew.
    pub fn ptx_header(&self) -> String {
        format!(
            "// {}.cu {:016x} compute_{PTX_ARCHITECTURE} nvrtc {}.{}",
            self.name,
            fingerprint(&[&self.program(), &COMPILER_OPTIONS.join(" ")]),
            PTX_COMPILER.0,
            PTX_COMPILER.1
        )
    }
}

/// A hash of some texts that is the same on every machine and in every release: FNV-1a.
pub fn fingerprint(texts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for text in texts {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
