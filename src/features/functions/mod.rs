//! The feature functions of BigQuery ML, `ML.STANDARD_SCALER(x) OVER ()` and its kin.
//!
//! A function is *planned* once, from the types of its arguments and the constants among them; what comes out knows its type and
//! turns batches into values. Learned functions look at all training rows first ([`Learner`]); what they learned is stored with
//! the model as JSON and applied again at prediction ([`Learned`]).

mod arguments;
mod bucketize;
mod distance;
mod encoders;
mod imputer;
mod learned;
mod learners;
mod moments;
mod scalers;
mod state;
mod structs;
#[cfg(test)]
mod testing;
mod texts;
mod vectors;

use std::fmt::Debug;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;

pub use self::arguments::Constant;
pub use self::learned::{Learned, Vocabulary};
pub use self::learners::Learner;

use self::arguments::Arguments;
use crate::error::Result;

/// One feature function: what help says of it, and how it is planned.
#[derive(Debug)]
pub struct FeatureFunction {
    /// The name without `ML.`, in capitals.
    pub name: &'static str,
    /// What it does, in one or two sentences.
    pub summary: &'static str,
    /// How it is written, with its optional arguments.
    pub syntax: &'static str,
    /// A query that works as it stands.
    pub example: &'static str,
    /// Whether it looks at all training rows before it gives the first value, and is written with `OVER ()`.
    pub is_learned: bool,
    /// How many arguments, from the first, are columns; those after them are parameters, which must be constants.
    pub column_count: usize,
    /// How many parameters must be given.
    required_parameters: usize,
    /// How many parameters may be given.
    parameters: usize,
    plan: fn(&Arguments<'_>) -> Result<Box<dyn Planned>>,
}

impl FeatureFunction {
    /// Checks a call and makes it ready to run. `types` holds the type of each argument, columns and parameters alike, and
    /// `constants` has the value of each that is a literal.
    ///
    /// # Errors
    /// Too few or too many arguments, one of a type that the function cannot take, a parameter that is no constant or out of range.
    pub fn plan(&'static self, types: &[DataType], constants: &[Option<Constant>]) -> Result<Box<dyn Planned>> {
        let arguments = Arguments::new(self, types, constants)?;
        (self.plan)(&arguments)
    }
}

/// A feature function with its parameters, ready for columns of known types.
pub trait Planned: Debug + Send + Sync {
    /// The type of the values.
    fn data_type(&self) -> DataType;

    /// Learns what [`Planned::apply`] needs from the first column of the training rows; `None` where there is nothing to learn.
    fn learner(&self) -> Option<Box<dyn Learner>> {
        None
    }

    /// One value a row. `columns` are the function's first `column_count` arguments, all of the same length and of the types
    /// that were planned; `learned` is what the learner gave.
    ///
    /// # Errors
    /// `learned` is missing or of another function; or a row cannot be computed (two vectors of different lengths).
    fn apply(&self, columns: &[ArrayRef], learned: Option<&Learned>) -> Result<ArrayRef>;
}

/// Every feature function, in the order of the help.
pub static FEATURE_FUNCTIONS: &[&FeatureFunction] = &[
    &scalers::STANDARD_SCALER,
    &scalers::MIN_MAX_SCALER,
    &scalers::MAX_ABS_SCALER,
    &scalers::ROBUST_SCALER,
    &vectors::NORMALIZER,
    &imputer::IMPUTER,
    &bucketize::BUCKETIZE,
    &bucketize::QUANTILE_BUCKETIZE,
    &texts::HASH_BUCKETIZE,
    &encoders::LABEL_ENCODER,
    &encoders::ONE_HOT_ENCODER,
    &encoders::MULTI_HOT_ENCODER,
    &structs::POLYNOMIAL_EXPAND,
    &structs::FEATURE_CROSS,
    &texts::NGRAMS,
    &distance::DISTANCE,
    &vectors::LP_NORM,
];

/// The function of this name, in any case, without `ML.`.
pub fn feature_function(name: &str) -> Option<&'static FeatureFunction> {
    FEATURE_FUNCTIONS
        .iter()
        .copied()
        .find(|f| f.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        for f in FEATURE_FUNCTIONS {
            assert_eq!(feature_function(&f.name.to_lowercase()).unwrap().name, f.name);
            assert!(f.syntax.starts_with(&format!("ML.{}(", f.name)), "{}", f.syntax);
            assert!(f.example.contains(&format!("ML.{}(", f.name)), "{}", f.example);
            assert_eq!(f.syntax.contains("OVER ()"), f.is_learned, "{}", f.name);
            assert_eq!(f.example.contains("OVER ()"), f.is_learned, "{}", f.name);
            assert!(f.summary.ends_with('.') && f.required_parameters <= f.parameters);
        }
        assert!(feature_function("NO_SUCH").is_none());
    }
}
