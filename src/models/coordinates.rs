//! Coordinates of encoded points in a table: a list of numbers each.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Float64Array, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Float64Type};

use crate::error::Result;
use crate::models::{Artefact, field};

/// The type of [`coordinate_lists`].
pub(super) fn coordinate_type() -> DataType {
    DataType::List(field("item", DataType::Float64))
}

/// Points of `width` numbers, row-major, as lists. Together they are fewer than 2³¹ numbers.
///
/// # Errors
/// Arrow refuses.
pub(super) fn coordinate_lists(values: Vec<f64>, width: usize) -> Result<ListArray> {
    let lengths = std::iter::repeat_n(width, values.len() / width.max(1));
    Ok(ListArray::try_new(
        field("item", DataType::Float64),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(Float64Array::from(values)),
        None,
    )?)
}

/// The numbers of list `row`, after `into`. `what` names the point in messages.
///
/// # Errors
/// They are not `width` finite numbers.
pub(super) fn read_coordinates(
    artefact: &Artefact,
    lists: &ListArray,
    row: usize,
    width: usize,
    what: &str,
    into: &mut Vec<f64>,
) -> Result<()> {
    let list = lists.value(row);
    let list = list.as_primitive::<Float64Type>();
    if list.len() != width || list.null_count() > 0 || list.values().iter().any(|v| !v.is_finite()) {
        return Err(artefact.corrupt(format!("{what} does not have {width} coordinates")));
    }
    into.extend_from_slice(list.values());
    Ok(())
}
