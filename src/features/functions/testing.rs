//! What the tests of all functions need: a call as it would be written, run on several splits of its rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, StringArray};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::{Constant, FeatureFunction, Learned, Planned};
use crate::error::Result;

/// Numbers; NULL where `None`.
pub(crate) fn doubles(values: impl IntoIterator<Item = impl Into<Option<f64>>>) -> ArrayRef {
    Arc::new(values.into_iter().map(Into::into).collect::<Float64Array>())
}

/// Texts; NULL where `None`.
pub(crate) fn words<'a>(values: impl IntoIterator<Item = impl Into<Option<&'a str>>>) -> ArrayRef {
    Arc::new(values.into_iter().map(Into::into).collect::<StringArray>())
}

pub(crate) fn text(value: &str) -> Constant {
    Constant::Text(value.into())
}

pub(crate) fn list(values: impl IntoIterator<Item = f64>) -> Constant {
    Constant::List(values.into_iter().map(Constant::Float).collect())
}

pub(crate) fn ints(values: impl IntoIterator<Item = i64>) -> Constant {
    Constant::List(values.into_iter().map(Constant::Int).collect())
}

fn plan(f: &'static FeatureFunction, columns: &[DataType], parameters: &[Constant]) -> Result<Box<dyn Planned>> {
    let mut types = columns.to_vec();
    let mut constants = vec![None; columns.len()];
    for parameter in parameters {
        types.push(DataType::Null);
        constants.push(Some(parameter.clone()));
    }
    f.plan(&types, &constants)
}

/// What the function learns from all rows, and from splits of them merged in another order: the same, or it panics.
pub(crate) fn learn(f: &'static FeatureFunction, column: &ArrayRef, parameters: &[Constant]) -> Result<Learned> {
    let planned = plan(f, &[column.data_type().clone()], parameters)?;
    let learner = || planned.learner().expect("a learned function");
    let mut whole = learner();
    whole.update(column)?;
    let learned = whole.finish();
    for part in 1..=3.min(column.len()) {
        let mut merged = learner();
        for start in (0..column.len()).step_by(part).rev() {
            let mut one = learner();
            one.update(&column.slice(start, part.min(column.len() - start)))?;
            merged.merge(&one.state())?;
        }
        assert_eq!(merged.finish(), learned, "{} in parts of {part}", f.name);
    }
    Learned::from_json(&learned.to_json()?)
}

/// The function applied to columns after it learned from the first of `training`, or from nothing if it is stateless.
pub(crate) fn predict(
    f: &'static FeatureFunction,
    training: &ArrayRef,
    columns: &[ArrayRef],
    parameters: &[Constant],
) -> Result<ArrayRef> {
    let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
    let planned = plan(f, &types, parameters)?;
    let learned = match f.is_learned {
        true => Some(learn(f, training, parameters)?),
        false => None,
    };
    assert_eq!(planned.learner().is_some(), f.is_learned, "{}", f.name);
    let values = planned.apply(columns, learned.as_ref())?;
    assert_eq!(values.data_type(), &planned.data_type(), "{}", f.name);
    assert_eq!(values.len(), columns[0].len(), "{}", f.name);
    // Rows do not know of one another, nor where their batch begins.
    for start in 0..values.len() {
        let slices: Vec<ArrayRef> = columns.iter().map(|c| c.slice(start, values.len() - start)).collect();
        assert_eq!(
            &planned.apply(&slices, learned.as_ref())?,
            &values.slice(start, values.len() - start)
        );
    }
    let none: Vec<ArrayRef> = columns.iter().map(|c| c.slice(0, 0)).collect();
    assert_eq!(planned.apply(&none, learned.as_ref())?.len(), 0);
    assert_eq!(&concat(&[&values])?, &values);
    Ok(values)
}

/// The function over these columns, learned from the first.
pub(crate) fn run(f: &'static FeatureFunction, columns: &[ArrayRef], parameters: &[Constant]) -> Result<ArrayRef> {
    predict(f, &columns[0], columns, parameters)
}

/// The message of a call that must not be planned.
pub(crate) fn refusal(f: &'static FeatureFunction, columns: &[DataType], parameters: &[Constant]) -> String {
    plan(f, columns, parameters).expect_err(f.name).to_string()
}

pub(crate) fn as_doubles(array: &ArrayRef) -> Vec<Option<f64>> {
    array.as_primitive::<Float64Type>().iter().collect()
}

pub(crate) fn as_ints(array: &ArrayRef) -> Vec<Option<i64>> {
    array.as_primitive::<Int64Type>().iter().collect()
}

pub(crate) fn as_words(array: &ArrayRef) -> Vec<Option<&str>> {
    array.as_string::<i32>().iter().collect()
}

/// An encoder's lists as pairs.
pub(crate) fn as_pairs(array: &ArrayRef) -> Vec<Vec<(i64, f64)>> {
    let rows = array.as_list::<i32>();
    (0..rows.len())
        .map(|row| {
            assert!(rows.is_valid(row));
            let elements = rows.value(row);
            let elements = elements.as_struct();
            let indices = elements.column(0).as_primitive::<Int64Type>();
            let values = elements.column(1).as_primitive::<Float64Type>();
            indices
                .values()
                .iter()
                .copied()
                .zip(values.values().iter().copied())
                .collect()
        })
        .collect()
}

/// Asserts that numbers agree to 1e-12.
pub(crate) fn assert_close(found: &ArrayRef, wanted: &[Option<f64>]) {
    let found = as_doubles(found);
    assert_eq!(found.len(), wanted.len());
    for (a, b) in found.iter().zip(wanted) {
        let close = match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * b.abs().max(1.0),
            (a, b) => a.is_none() && b.is_none(),
        };
        assert!(close, "{found:?} is not {wanted:?}");
    }
}
