//! The heavy work: a handful of kernels, each with one signature whatever the device.

pub mod assign;
pub mod factor;
pub mod gram;
pub mod topk;
