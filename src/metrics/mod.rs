//! How good predictions are.

pub mod classification;
pub mod ranking;
pub mod regression;
