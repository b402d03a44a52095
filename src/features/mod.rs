//! Arrow columns to encoded blocks: impute, scale, keep categories as codes.

pub(crate) mod columns;
mod counts;
pub mod encode;
pub mod functions;
pub(crate) mod lists;
pub mod statistics;
pub mod time_parts;
pub(crate) mod values;

pub use crate::kernels::block::Block;
pub use encode::{CodeColumn, Encoder, EncoderOptions, NumberColumn, Real, Scaling};
pub use statistics::FeatureStatistics;
pub use time_parts::TimePart;
