//! Buckets: numbers to the name of the interval that they are in, by given bounds or by quantiles of the training rows.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, StringBuilder, new_null_array};
use datafusion::arrow::datatypes::DataType;

use super::arguments::Arguments;
use super::learned::Learned;
use super::learners::{Learner, Values, learner, quantile};
use super::scalers::not_learned;
use super::{FeatureFunction, Planned};
use crate::error::Result;
use crate::features::columns::{first, numbers};

pub(crate) static BUCKETIZE: FeatureFunction = FeatureFunction {
    name: "BUCKETIZE",
    summary: "The bucket of a number, 'bin_1' below the first split point; a bucket holds its lower bound. NULL and NaN give NULL.",
    syntax: "ML.BUCKETIZE(x, array_split_points [, exclude_boundaries = FALSE [, output_format = \
             'bucket_names' | 'bucket_ranges' | 'bucket_ranges_json']])",
    example: "SELECT f, ML.BUCKETIZE(f, [1, 2, 3]) AS bucket FROM (VALUES (0.5), (2.5), (7.0)) AS t(f)",
    is_learned: false,
    column_count: 1,
    required_parameters: 1,
    parameters: 3,
    plan: plan_bucketize,
};

pub(crate) static QUANTILE_BUCKETIZE: FeatureFunction = FeatureFunction {
    name: "QUANTILE_BUCKETIZE",
    summary: "The bucket of a number, of so many that hold about equally many of the training rows. NULL and NaN give NULL.",
    syntax: "ML.QUANTILE_BUCKETIZE(x, num_buckets [, output_format = \
             'bucket_names' | 'bucket_ranges' | 'bucket_ranges_json']) OVER ()",
    example: "SELECT f, ML.QUANTILE_BUCKETIZE(f, 3) OVER () AS bucket FROM (VALUES (1), (2), (3), (4), (5)) AS t(f)",
    is_learned: true,
    column_count: 1,
    required_parameters: 1,
    parameters: 2,
    plan: plan_quantile_bucketize,
};

/// How a bucket is told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Names,
    Ranges,
    RangesJson,
}

const FORMATS: &[(&str, Format)] = &[
    ("bucket_names", Format::Names),
    ("bucket_ranges", Format::Ranges),
    ("bucket_ranges_json", Format::RangesJson),
];

fn format(arguments: &Arguments<'_>, index: usize) -> Result<Format> {
    arguments.choice(index, "output_format", FORMATS, Format::Names)
}

/// A bound as BigQuery prints it: `2`, `2.5`, `1e+20`.
fn bound(v: f64) -> String {
    if v != 0.0 && !(1e-4..1e15).contains(&v.abs()) {
        let text = format!("{v:e}");
        if let Some((digits, exponent)) = text.split_once('e') {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            return format!("{digits}e{sign}{exponent:0>2}");
        }
    }
    format!("{}", v + 0.0)
}

/// The texts of all buckets.
fn labels(points: &[f64], format: Format) -> Vec<String> {
    (0..=points.len())
        .map(|bucket| {
            let low = bucket.checked_sub(1).and_then(|i| points.get(i)).map(|v| bound(*v));
            let high = points.get(bucket).map(|v| bound(*v));
            let mut label = String::new();
            // Writing to a string cannot fail.
            let _ = match (format, &low, &high) {
                (Format::Names, ..) => write!(label, "bin_{}", bucket + 1),
                (Format::Ranges, Some(low), Some(high)) => write!(label, "[{low}, {high})"),
                (Format::Ranges, Some(low), None) => write!(label, "[{low}, +inf)"),
                (Format::Ranges, None, Some(high)) => write!(label, "(-inf, {high})"),
                (Format::Ranges, None, None) => write!(label, "(-inf, +inf)"),
                (Format::RangesJson, low, high) => {
                    let low = low.as_deref().unwrap_or("-Infinity");
                    let high = high.as_deref().unwrap_or("Infinity");
                    write!(label, r#"{{"start": "{low}", "end": "{high}"}}"#)
                }
            };
            label
        })
        .collect()
}

fn bucketize(values: &Float64Array, points: &[f64], labels: &[String]) -> ArrayRef {
    let mut out = StringBuilder::with_capacity(values.len(), values.len() * 6);
    for v in values {
        let bucket = v.filter(|v| !v.is_nan()).map(|v| points.partition_point(|p| *p <= v));
        out.append_option(bucket.and_then(|b| labels.get(b)));
    }
    Arc::new(out.finish())
}

#[derive(Debug)]
struct Bucketize {
    points: Vec<f64>,
    labels: Vec<String>,
}

fn plan_bucketize(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    let name = "array_split_points";
    arguments.number_column(0)?;
    let given = arguments.required(0, name)?;
    let mut points = arguments.numbers(0, name)?.unwrap_or_default();
    if points.is_empty() || points.iter().any(|v| !v.is_finite()) {
        return Err(arguments.wrong(name, given, "an array of one or more finite numbers"));
    }
    if !points.is_sorted_by(|a, b| a < b) {
        return Err(arguments.wrong(name, given, "in ascending order, each number once"));
    }
    if arguments.boolean(1, "exclude_boundaries", false)? {
        // The first and the last only mark where the range begins and ends.
        points.pop();
        points.drain(..1.min(points.len()));
    }
    let labels = labels(&points, format(arguments, 2)?);
    Ok(Box::new(Bucketize { points, labels }))
}

impl Planned for Bucketize {
    fn data_type(&self) -> DataType {
        DataType::Utf8
    }

    fn apply(&self, columns: &[ArrayRef], _: Option<&Learned>) -> Result<ArrayRef> {
        let column = first(BUCKETIZE.name, columns)?;
        Ok(bucketize(&numbers(column)?, &self.points, &self.labels))
    }
}

#[derive(Debug)]
struct QuantileBucketize {
    buckets: u64,
    format: Format,
}

fn plan_quantile_bucketize(arguments: &Arguments<'_>) -> Result<Box<dyn Planned>> {
    arguments.number_column(0)?;
    Ok(Box::new(QuantileBucketize {
        buckets: arguments.integer(0, "num_buckets", 1, 1, 1_000_000)?.unsigned_abs(),
        format: format(arguments, 1)?,
    }))
}

/// The quantiles that part the values into buckets; where many values are equal, fewer than asked for.
fn splits(values: &Values, buckets: u64) -> Learned {
    let sorted = values.sorted();
    let mut points: Vec<f64> = (1..buckets).filter_map(|i| quantile(&sorted, i, buckets)).collect();
    points.dedup();
    match sorted.is_empty() {
        true => Learned::Nothing,
        false => Learned::Splits { points },
    }
}

impl Planned for QuantileBucketize {
    fn data_type(&self) -> DataType {
        DataType::Utf8
    }

    fn learner(&self) -> Option<Box<dyn Learner>> {
        let buckets = self.buckets;
        Some(learner(move |values: &Values| splits(values, buckets)))
    }

    fn apply(&self, columns: &[ArrayRef], learned: Option<&Learned>) -> Result<ArrayRef> {
        match (columns.first(), learned) {
            (Some(column), Some(Learned::Nothing)) => Ok(new_null_array(&DataType::Utf8, column.len())),
            (Some(column), Some(Learned::Splits { points })) => {
                Ok(bucketize(&numbers(column)?, points, &labels(points, self.format)))
            }
            _ => Err(not_learned(QUANTILE_BUCKETIZE.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::Constant;
    use super::super::testing::*;
    use super::*;

    fn bucket(v: impl Into<Option<f64>>, parameters: &[Constant]) -> Option<String> {
        let values = run(&BUCKETIZE, &[doubles([v])], parameters).unwrap();
        as_words(&values)[0].map(String::from)
    }

    #[test]
    fn published_examples() {
        let points = || ints([1, 2, 3]);
        let of = |rest: &[Constant]| {
            let mut parameters = vec![points()];
            parameters.extend_from_slice(rest);
            bucket(2.5, &parameters).unwrap()
        };
        assert_eq!(of(&[]), "bin_3");
        assert_eq!(of(&[Constant::Bool(true)]), "bin_2");
        assert_eq!(of(&[Constant::Bool(false), text("bucket_ranges")]), "[2, 3)");
        assert_eq!(
            of(&[Constant::Bool(false), text("BUCKET_RANGES_JSON")]),
            r#"{"start": "2", "end": "3"}"#
        );

        let five = || [doubles([1.0, 2.0, 3.0, 4.0, 5.0])];
        let three = Constant::Int(3);
        let values = run(&QUANTILE_BUCKETIZE, &five(), from_ref(&three)).unwrap();
        let names = ["bin_1", "bin_2", "bin_2", "bin_3", "bin_3"].map(Some);
        assert_eq!(as_words(&values), names);
        let values = run(&QUANTILE_BUCKETIZE, &five(), &[three.clone(), text("bucket_ranges")]).unwrap();
        let ranges = ["(-inf, 2)", "[2, 4)", "[2, 4)", "[4, +inf)", "[4, +inf)"].map(Some);
        assert_eq!(as_words(&values), ranges);
        let values = run(&QUANTILE_BUCKETIZE, &five(), &[three, text("bucket_ranges_json")]).unwrap();
        let json = as_words(&values);
        assert_eq!(json[0], Some(r#"{"start": "-Infinity", "end": "2"}"#));
        assert_eq!(json[2], Some(r#"{"start": "2", "end": "4"}"#));
        assert_eq!(json[4], Some(r#"{"start": "4", "end": "Infinity"}"#));
    }

    #[test]
    fn the_lower_bound_belongs_to_the_bucket() {
        let points = [list([2.5, 4.6])];
        let of = |v: f64| bucket(v, &points).unwrap();
        assert_eq!(
            [of(2.49), of(2.5), of(4.6), of(f64::NEG_INFINITY), of(f64::INFINITY)],
            ["bin_1", "bin_2", "bin_3", "bin_1", "bin_3"]
        );
        assert_eq!((bucket(f64::NAN, &points), bucket(None, &points)), (None, None));
        // One or two points without their boundaries leave one bucket.
        let whole = [list([2.5, 4.6]), Constant::Bool(true), text("bucket_ranges")];
        assert_eq!(bucket(3.0, &whole).unwrap(), "(-inf, +inf)");
        assert_eq!(bucket(3.0, &[list([2.5]), Constant::Bool(true)]).unwrap(), "bin_1");
    }

    #[test]
    fn quantiles_of_new_rows_and_of_odd_columns() {
        let training = doubles([0.0, 0.0, 0.0, 1.0, -0.0, f64::NAN]);
        let new = doubles([Some(-1.0), Some(0.0), Some(9.0), None, Some(f64::NAN)]);
        // All three quartiles are 0: two buckets, without a gap in their numbers.
        let values = predict(&QUANTILE_BUCKETIZE, &training, &[new], &[Constant::Int(4)]).unwrap();
        assert_eq!(
            as_words(&values),
            [Some("bin_1"), Some("bin_2"), Some("bin_2"), None, None]
        );
        let nothing = run(&QUANTILE_BUCKETIZE, &[doubles([None, None])], &[Constant::Int(4)]).unwrap();
        assert_eq!(as_words(&nothing), [None, None]);
        let one = run(&QUANTILE_BUCKETIZE, &[doubles([5.0, 6.0])], &[Constant::Int(1)]).unwrap();
        assert_eq!(as_words(&one), [Some("bin_1"), Some("bin_1")]);
    }

    #[test]
    fn bounds_are_printed_short() {
        let bounds = [2.0, -0.0, 2.5, 1e20, -1.5e-7, 123456.789].map(bound);
        assert_eq!(bounds, ["2", "0", "2.5", "1e+20", "-1.5e-07", "123456.789"]);
    }

    #[test]
    fn bad_arguments() {
        let number = [DataType::Float64];
        for (parameters, said) in [
            (
                vec![ints([3, 1])],
                "array_split_points must be in ascending order, each number once, not [3, 1]",
            ),
            (vec![ints([1, 1])], "each number once"),
            (vec![ints([])], "one or more finite numbers, not []"),
            (vec![list([f64::NAN])], "finite"),
            (vec![Constant::Int(3)], "must be an array of numbers, not 3"),
            (
                vec![Constant::List(vec![text("a")])],
                "must be an array of numbers, not ['a']",
            ),
            (
                vec![ints([1]), Constant::Null],
                "exclude_boundaries must be TRUE or FALSE, not NULL",
            ),
            (
                vec![ints([1]), Constant::Bool(true), text("names")],
                "output_format must be one of 'bucket_names', 'bucket_ranges' and 'bucket_ranges_json', not 'names'",
            ),
            (vec![], "takes 2 to 4 arguments, not 1"),
        ] {
            let error = refusal(&BUCKETIZE, &number, &parameters);
            assert!(error.contains(said), "{error}");
        }
        let error = refusal(&QUANTILE_BUCKETIZE, &number, &[Constant::Int(0)]);
        assert!(
            error.contains("num_buckets must be a whole number from 1 to 1000000, not 0"),
            "{error}"
        );
        let error = refusal(&QUANTILE_BUCKETIZE, &[DataType::Boolean], &[Constant::Int(2)]);
        assert!(error.contains("argument 1 is Boolean"), "{error}");
    }
}
