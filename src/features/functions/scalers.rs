//! Scalers: numbers brought to a common range by what the training rows had.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, new_null_array};
use datafusion::arrow::compute::unary;
use datafusion::arrow::datatypes::{DataType, Float64Type};

use super::arguments::Arguments;
use super::learned::Learned;
use super::learners::{Learner, Values, learner, quantile};
use super::moments::Moments;
use super::{FeatureFunction, Planned};
use crate::error::{Error, Result};
use crate::features::columns::numbers;

/// The error of a function that was given nothing, or what another function learned.
pub(crate) fn not_learned(name: &str) -> Error {
    Error::model(format!(
        "ML.{name} was given nothing that it learned from training rows; train the model again"
    ))
}

pub(crate) static STANDARD_SCALER: FeatureFunction = FeatureFunction {
    name: "STANDARD_SCALER",
    summary: "The number of standard deviations above the mean of the training rows. NULL stays NULL.",
    syntax: "ML.STANDARD_SCALER(x) OVER ()",
    example: "SELECT f, ML.STANDARD_SCALER(f) OVER () AS scaled FROM (VALUES (1), (2), (3), (4), (5)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 0,
    plan: |arguments| plan(arguments, Scaling::Standard),
};

pub(crate) static MIN_MAX_SCALER: FeatureFunction = FeatureFunction {
    name: "MIN_MAX_SCALER",
    summary: "0 at the least value of the training rows, 1 at the greatest; what lies outside is capped to 0 or 1. NULL stays NULL.",
    syntax: "ML.MIN_MAX_SCALER(x) OVER ()",
    example: "SELECT f, ML.MIN_MAX_SCALER(f) OVER () AS scaled FROM (VALUES (1), (2), (3), (4), (5)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 0,
    plan: |arguments| plan(arguments, Scaling::MinMax),
};

pub(crate) static MAX_ABS_SCALER: FeatureFunction = FeatureFunction {
    name: "MAX_ABS_SCALER",
    summary: "Divides by the greatest absolute value of the training rows; 0 stays 0 and NULL stays NULL.",
    syntax: "ML.MAX_ABS_SCALER(x) OVER ()",
    example: "SELECT f, ML.MAX_ABS_SCALER(f) OVER () AS scaled FROM (VALUES (-3), (1), (2), (5)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 0,
    plan: |arguments| plan(arguments, Scaling::MaxAbs),
};

pub(crate) static ROBUST_SCALER: FeatureFunction = FeatureFunction {
    name: "ROBUST_SCALER",
    summary: "Takes away the median of the training rows and divides by the distance of two quantiles, by default the quartiles: outliers \
              have no say in the scale. NULL stays NULL.",
    syntax: "ML.ROBUST_SCALER(x [, quantile_range = [25, 75] [, with_median = TRUE [, with_quantile_range = TRUE]]]) OVER ()",
    example: "SELECT f, ML.ROBUST_SCALER(f) OVER () AS scaled FROM (VALUES (-3), (1), (2), (3), (4), (5)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 0,
    parameters: 3,
    plan: plan_robust,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    Standard,
    MinMax,
    MaxAbs,
    Robust {
        /// Percent.
        range: (u64, u64),
        with_median: bool,
        with_range: bool,
    },
}

#[derive(Debug)]
struct Scaler {
    name: &'static str,
    scaling: Scaling,
}

fn plan(arguments: &Arguments<'_>, scaling: Scaling) -> Result<Box<dyn Planned>> {
    arguments.number_column(0)?;
    Ok(Box::new(Scaler {
        name: arguments.name(),
        scaling,
    }))
}

fn plan_robust(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    let name = "quantile_range";
    let given = arguments.numbers(0, name)?.unwrap_or_else(|| vec![25.0, 75.0]);
    let whole = |v: f64| v.fract() == 0.0;
    let range = match given[..] {
        [low, high] if whole(low) && whole(high) && 0.0 < low && low < high && high < 100.0 => {
            (low as u64, high as u64)
        }
        _ => {
            return Err(arguments.error(format!(
                "{name} must be an array of two whole numbers, 0 < lower < upper < 100, not {given:?}"
            )));
        }
    };
    plan(
        arguments,
        Scaling::Robust {
            range,
            with_median: arguments.boolean(1, "with_median", true)?,
            with_range: arguments.boolean(2, "with_quantile_range", true)?,
        },
    )
}

/// A scale that can be divided by: values that are all the same become 0, not NaN.
fn scale(center: f64, scale: f64) -> Learned {
    Learned::Scale {
        center,
        scale: if scale == 0.0 { 1.0 } else { scale.min(f64::MAX) },
    }
}

/// By the sample's deviation (over n − 1), as in the example of the function's page in BigQuery's reference.
fn standard(m: &Moments) -> Learned {
    match m.count {
        0 => Learned::Nothing,
        _ => scale(m.mean(), m.deviation(true)),
    }
}

fn robust(values: &Values, range: (u64, u64), with_median: bool, with_range: bool) -> Learned {
    let sorted = values.sorted();
    let percentile = |percent| quantile(&sorted, percent, 100);
    let (Some(median), Some(low), Some(high)) = (percentile(50), percentile(range.0), percentile(range.1)) else {
        return Learned::Nothing;
    };
    scale(
        if with_median { median } else { 0.0 },
        if with_range { high - low } else { 1.0 },
    )
}

impl Planned for Scaler {
    fn data_type(&self) -> DataType {
        DataType::Float64
    }

    fn learner(&self) -> Option<Box<dyn Learner>> {
        Some(match self.scaling {
            Scaling::Standard => learner(|m: &Moments| standard(m)),
            Scaling::MinMax => learner(|m: &Moments| match m.count {
                0 => Learned::Nothing,
                _ => scale(m.low, m.high - m.low),
            }),
            Scaling::MaxAbs => learner(|m: &Moments| match m.count {
                0 => Learned::Nothing,
                _ => scale(0.0, m.high.max(-m.low)),
            }),
            Scaling::Robust {
                range,
                with_median,
                with_range,
            } => learner(move |values: &Values| robust(values, range, with_median, with_range)),
        })
    }

    fn apply(&self, columns: &[ArrayRef], learned: Option<&Learned>) -> Result<ArrayRef> {
        let (Some(column), Some(learned)) = (columns.first(), learned) else {
            return Err(not_learned(self.name));
        };
        let (center, scale) = match learned {
            Learned::Nothing => return Ok(new_null_array(&DataType::Float64, column.len())),
            Learned::Scale { center, scale } => (*center, *scale),
            _ => return Err(not_learned(self.name)),
        };
        let values = numbers(column)?;
        let scaled: Float64Array = match self.scaling {
            Scaling::MinMax => unary::<_, _, Float64Type>(&values, |v| ((v - center) / scale).clamp(0.0, 1.0)),
            _ => unary::<_, _, Float64Type>(&values, |v| (v - center) / scale),
        };
        Ok(Arc::new(scaled))
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::Constant;
    use super::super::testing::*;
    use super::*;

    const NULL: Option<f64> = None;

    fn seven() -> ArrayRef {
        doubles([NULL, Some(-3.0), Some(1.0), Some(2.0), Some(3.0), Some(4.0), Some(5.0)])
    }

    #[test]
    fn standard_scaler_divides_by_the_sample_deviation() {
        let column = doubles([1.0, 2.0, 3.0, 4.0, 5.0]);
        let (far, near) = (1.2649110640673518, 0.6324555320336759);
        let wanted = [-far, -near, 0.0, near, far].map(Some);
        assert_close(&run(&STANDARD_SCALER, from_ref(&column), &[]).unwrap(), &wanted);
    }

    #[test]
    fn published_examples() {
        let five = doubles([1.0, 2.0, 3.0, 4.0, 5.0]);
        let wanted = [0.0, 0.25, 0.5, 0.75, 1.0].map(Some);
        assert_eq!(as_doubles(&run(&MIN_MAX_SCALER, &[five], &[]).unwrap()), wanted);
        let wanted = [NULL, Some(-0.6), Some(0.2), Some(0.4), Some(0.6), Some(0.8), Some(1.0)];
        assert_eq!(as_doubles(&run(&MAX_ABS_SCALER, &[seven()], &[]).unwrap()), wanted);
        let wanted = [
            NULL,
            Some(-1.6666666666666667),
            Some(-0.3333333333333333),
            Some(0.0),
            Some(0.3333333333333333),
            Some(0.6666666666666666),
            Some(1.0),
        ];
        assert_eq!(as_doubles(&run(&ROBUST_SCALER, &[seven()], &[]).unwrap()), wanted);
    }

    #[test]
    fn robust_scaler_takes_its_parameters() {
        let learned = |parameters: &[Constant]| learn(&ROBUST_SCALER, &seven(), parameters).unwrap();
        let scale = |center, scale| Learned::Scale { center, scale };
        assert_eq!(learned(&[ints([10, 90])]), scale(2.0, 8.0));
        assert_eq!(learned(&[ints([25, 75]), Constant::Bool(false)]), scale(0.0, 3.0));
        let both = [ints([25, 75]), Constant::Bool(true), Constant::Bool(false)];
        assert_eq!(learned(&both), scale(2.0, 1.0));
        for wrong in [
            ints([75, 25]),
            ints([0, 50]),
            ints([5, 100]),
            ints([5]),
            list([1.5, 50.0]),
        ] {
            let error = refusal(&ROBUST_SCALER, &[DataType::Int64], &[wrong]);
            assert!(
                error.contains("0 < lower < upper < 100") && error.contains("write ML.ROBUST_SCALER("),
                "{error}"
            );
        }
        let error = refusal(&ROBUST_SCALER, &[DataType::Int64], &[ints([25, 75]), Constant::Int(1)]);
        assert!(error.contains("with_median must be TRUE or FALSE, not 1"), "{error}");
    }

    #[test]
    fn prediction_uses_what_was_learned_and_caps_the_range() {
        let training = doubles([10.0, 20.0]);
        let new = doubles([Some(5.0), Some(30.0), Some(f64::INFINITY), NULL, Some(15.0)]);
        let values = predict(&MIN_MAX_SCALER, &training, from_ref(&new), &[]).unwrap();
        assert_eq!(as_doubles(&values), [Some(0.0), Some(1.0), Some(1.0), NULL, Some(0.5)]);
        let values = predict(&MAX_ABS_SCALER, &training, &[new], &[]).unwrap();
        assert_eq!(
            as_doubles(&values),
            [Some(0.25), Some(1.5), Some(f64::INFINITY), NULL, Some(0.75)]
        );
    }

    #[test]
    fn all_null_empty_constant_and_odd_columns() {
        for f in [&STANDARD_SCALER, &MIN_MAX_SCALER, &MAX_ABS_SCALER, &ROBUST_SCALER] {
            assert_eq!(
                as_doubles(&run(f, &[doubles([NULL, NULL])], &[]).unwrap()),
                [NULL, NULL],
                "{}",
                f.name
            );
            assert_eq!(
                as_doubles(&run(f, &[doubles([0f64; 0])], &[]).unwrap()),
                [] as [Option<f64>; 0]
            );
            let zeros = run(f, &[doubles([0.0, 0.0])], &[]).unwrap();
            assert_eq!(as_doubles(&zeros), [Some(0.0), Some(0.0)], "{}", f.name);
            // NaN and infinities teach nothing.
            let column = doubles([1.0, 2.0, 4.0]);
            let odd = doubles([1.0, f64::NAN, 2.0, f64::NEG_INFINITY, 4.0]);
            assert_eq!(learn(f, &odd, &[]).unwrap(), learn(f, &column, &[]).unwrap());
        }
    }

    #[test]
    fn bad_arguments() {
        let error = refusal(&STANDARD_SCALER, &[DataType::Utf8], &[]);
        assert_eq!(
            error,
            "ML.STANDARD_SCALER: argument 1 is Utf8, and must be a number (CAST(… AS FLOAT64) makes one); \
             write ML.STANDARD_SCALER(x) OVER ()"
        );
        let error = refusal(&MIN_MAX_SCALER, &[DataType::Int64], &[Constant::Int(1)]);
        assert!(error.contains("takes 1 argument, not 2"), "{error}");
        let planned = ROBUST_SCALER.plan(&[DataType::Int64], &[None]).unwrap();
        for learned in [None, Some(&Learned::Number { value: 1.0 })] {
            let error = planned.apply(&[seven()], learned).unwrap_err().to_string();
            assert!(
                error.contains("ML.ROBUST_SCALER") && error.contains("train the model again"),
                "{error}"
            );
        }
        let error = ROBUST_SCALER
            .plan(&[DataType::Int64, DataType::Int64], &[None, None])
            .unwrap_err()
            .to_string();
        assert!(error.contains("argument 2 must be a constant"), "{error}");
    }
}
