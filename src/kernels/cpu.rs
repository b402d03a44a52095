//! What the processor can do.

/// Whether there are AVX2 and fused multiply-add, which the fast bodies of the kernels are compiled for.
#[cfg(target_arch = "x86_64")]
pub fn has_avx2_fma() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// Whether there are AVX2 and fused multiply-add: not on this kind of processor.
#[cfg(not(target_arch = "x86_64"))]
pub fn has_avx2_fma() -> bool {
    false
}

/// The vector instructions that the kernels use, in words.
pub fn vector_instructions() -> &'static str {
    if has_avx2_fma() {
        "AVX2 and FMA"
    } else if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "baseline instructions"
    }
}
