//! The heavy work of `datafusion-ml`: a handful of kernels over encoded blocks, each with one signature whatever the device.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod assign;
pub mod block;
pub mod compute;
pub mod cpu;
pub mod device;
pub mod factor;
pub mod gram;
pub mod inverse;
pub mod linkage;
pub mod softmax;
pub mod topk;

/// A kernel was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

impl std::fmt::Display for Cancelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the kernel was told to stop")
    }
}

impl std::error::Error for Cancelled {}
