//! How good predictions are.

pub mod classification;
pub mod multiclass;
pub mod ranking;
pub mod regression;
pub mod spread;
