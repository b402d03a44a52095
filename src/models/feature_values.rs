//! A table of points or directions over encoded columns as people read them: a row for each feature, a number's value beside a list
//! of a column's categories. `ML.CENTROIDS` and `ML.PRINCIPAL_COMPONENTS` give it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Fields};

use crate::error::Result;
use crate::features::{Encoder, NumberColumn};
use crate::models::field;

/// One point or direction: the values of the numbers and of the columns' categories, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FeatureValues {
    pub(super) id: i64,
    pub(super) numbers: Vec<(String, f64)>,
    pub(super) categories: Vec<(String, Vec<(String, f64)>)>,
}

impl FeatureValues {
    /// The values of `row`, one for each column of encoded rows; numbers as `of_number` shows them.
    pub(super) fn of(id: i64, encoder: &Encoder, row: &[f64], of_number: impl Fn(&NumberColumn, f64) -> f64) -> Self {
        let mut numbers = vec![];
        let mut left = row.get(encoder.numbers().len()..).unwrap_or_default();
        let mut categories: Vec<(String, Vec<(String, f64)>)> = vec![];
        for (number, value) in encoder.numbers().iter().zip(row) {
            let value = of_number(number, *value);
            match &number.element {
                None => numbers.push((number.name.clone(), value)),
                Some(element) => match categories.last_mut() {
                    Some((name, elements)) if *name == number.name => elements.push((element.clone(), value)),
                    _ => categories.push((number.name.clone(), vec![(element.clone(), value)])),
                },
            }
        }
        for column in encoder.codes() {
            let (own, rest) = left.split_at((column.level_count() as usize).min(left.len()));
            let values = (0u32..)
                .zip(own)
                .map(|(code, value)| (column.category(code).unwrap_or("").to_string(), *value));
            categories.push((column.name.clone(), values.collect()));
            left = rest;
        }
        Self {
            id,
            numbers,
            categories,
        }
    }
}

/// BigQuery ML's table: `id_name`, feature, numerical_value, categorical_value, which is empty beside a number.
pub(super) fn feature_value_table(id_name: &str, points: Vec<FeatureValues>) -> Result<RecordBatch> {
    let (mut ids, mut features, mut numbers) = (vec![], vec![], vec![]);
    let (mut lengths, mut categories, mut values) = (vec![], vec![], vec![]);
    for point in points {
        for (name, value) in point.numbers {
            ids.push(point.id);
            features.push(name);
            numbers.push(Some(value));
            lengths.push(0);
        }
        for (name, of_categories) in point.categories {
            ids.push(point.id);
            features.push(name);
            numbers.push(None);
            lengths.push(of_categories.len());
            for (category, value) in of_categories {
                categories.push(category);
                values.push(value);
            }
        }
    }
    let fields = Fields::from(vec![
        field("category", DataType::Utf8),
        field("value", DataType::Float64),
    ]);
    let values: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(categories)),
        Arc::new(Float64Array::from(values)),
    ];
    let lists = ListArray::try_new(
        field("item", DataType::Struct(fields.clone())),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(StructArray::try_new(fields, values, None)?),
        None,
    )?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        (id_name, Arc::new(Int64Array::from(ids))),
        ("feature", Arc::new(StringArray::from(features))),
        ("numerical_value", Arc::new(Float64Array::from(numbers))),
        ("categorical_value", Arc::new(lists)),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )?)
}
