//! Aggregates: APPROX_QUANTILES and APPROX_TOP_COUNT, which are exact here.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StructArray, UInt32Array, new_empty_array};
use datafusion::arrow::compute::{SortOptions, cast, concat, filter, is_not_null, sort_to_indices, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::function::list_of;
use crate::error::Error;

/// So many quantiles, or values, may be asked for.
const MOST: i64 = 1 << 20;

/// An aggregate of GoogleSQL: its help, and what it makes of all values.
pub(super) struct Spec {
    /// The name in GoogleSQL.
    pub title: &'static str,
    /// The name that it is registered as.
    pub name: &'static str,
    /// How it is written.
    pub syntax: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// A statement in BigQuery's dialect that works as it stands.
    pub example: &'static str,
    /// The type of the result's elements.
    item: fn(&DataType) -> DataType,
    /// The result's elements, of the values in ascending order.
    finish: fn(&ArrayRef, usize) -> DataFusionResult<ArrayRef>,
}

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "APPROX_QUANTILES",
        name: "approx_quantiles",
        syntax: "APPROX_QUANTILES([DISTINCT] value, n)",
        summary: "The boundaries of n parts of equal size: an array of n + 1 values, from the least to the greatest; exact here.",
        example: "SELECT APPROX_QUANTILES(x, 2) FROM UNNEST([1, 1, 1, 4, 5, 6, 7, 8, 9, 10]) AS x",
        item: Clone::clone,
        finish: quantiles,
    },
    Spec {
        title: "APPROX_TOP_COUNT",
        name: "approx_top_count",
        syntax: "APPROX_TOP_COUNT(value, n)",
        summary: "The n most frequent values, NULL among them, as an array of structs of value and count; exact here.",
        example: "SELECT APPROX_TOP_COUNT(x, 2) FROM UNNEST(['apple', 'apple', 'pear', 'pear', 'pear', 'banana']) AS x",
        item: |value| DataType::Struct(counted(value)),
        finish: top_count,
    },
];

impl Spec {
    /// The function as DataFusion takes it.
    pub(super) fn udaf(&'static self) -> AggregateUDF {
        AggregateUDF::from(Function {
            spec: self,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }
}

struct Function {
    spec: &'static Spec,
    signature: Signature,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.spec.name == other.spec.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
    }
}

impl AggregateUDFImpl for Function {
    fn name(&self) -> &str {
        self.spec.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let Spec { title, syntax, .. } = self.spec;
        match given {
            [value, number] if number.is_integer() => Ok(vec![value.clone(), DataType::Int64]),
            [_, number] => {
                Err(Error::request(format!("{title} takes a whole number, not {number}; write {syntax}")).into())
            }
            _ => Err(Error::request(format!(
                "{title} takes two arguments, not {}; write {syntax}",
                given.len()
            ))
            .into()),
        }
    }

    fn return_type(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        Ok(list_of((self.spec.item)(given.first().unwrap_or(&DataType::Null))))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DataFusionResult<Vec<FieldRef>> {
        let value = args
            .input_fields
            .first()
            .map_or(DataType::Null, |f| f.data_type().clone());
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "values"), list_of(value), true)),
            Arc::new(Field::new(
                format_state_name(args.name, "number"),
                DataType::Int64,
                true,
            )),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DataFusionResult<Box<dyn Accumulator>> {
        Ok(Box::new(Values {
            spec: self.spec,
            value: args
                .expr_fields
                .first()
                .map_or(DataType::Null, |f| f.data_type().clone()),
            distinct: args.is_distinct,
            chunks: vec![],
            number: None,
        }))
    }
}

/// Keeps all values.
struct Values {
    spec: &'static Spec,
    value: DataType,
    distinct: bool,
    chunks: Vec<ArrayRef>,
    number: Option<i64>,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.spec.name)
    }
}

impl Values {
    fn all(&self) -> DataFusionResult<ArrayRef> {
        let chunks: Vec<&dyn Array> = self.chunks.iter().map(AsRef::as_ref).collect();
        if chunks.is_empty() {
            return Ok(new_empty_array(&self.value));
        }
        Ok(concat(&chunks)?)
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DataFusionResult<()> {
        let title = self.spec.title;
        let [chunk, numbers] = values else {
            return Ok(());
        };
        for number in cast(numbers, &DataType::Int64)?.as_primitive::<datafusion::arrow::datatypes::Int64Type>() {
            let number = number.filter(|n| (1..=MOST).contains(n));
            let number = number.ok_or_else(|| {
                Error::data(format!(
                    "the number of {title} has to be from 1 to {MOST}; write another"
                ))
            })?;
            if self.number.is_some_and(|known| known != number) {
                return Err(Error::data(format!(
                    "the number of {title} has to be the same in all rows; write a constant"
                ))
                .into());
            }
            self.number = Some(number);
        }
        self.chunks.push(Arc::clone(chunk));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DataFusionResult<()> {
        let [lists, numbers] = states else {
            return Ok(());
        };
        for list in lists.as_list::<i32>().iter().flatten() {
            self.chunks.push(list);
        }
        for number in numbers
            .as_primitive::<datafusion::arrow::datatypes::Int64Type>()
            .iter()
            .flatten()
        {
            self.number = Some(number);
        }
        Ok(())
    }

    fn state(&mut self) -> DataFusionResult<Vec<ScalarValue>> {
        let list = SingleRowListArrayBuilder::new(self.all()?)
            .with_nullable(true)
            .build_list_scalar();
        Ok(vec![list, ScalarValue::Int64(self.number)])
    }

    fn evaluate(&mut self) -> DataFusionResult<ScalarValue> {
        let all = self.all()?;
        let order = SortOptions::default().asc().nulls_first();
        let mut sorted = take(&all, &sort_to_indices(&all, Some(order), None)?, None)?;
        if self.distinct {
            let starts = runs(&sorted)?;
            sorted = take(&sorted, &UInt32Array::from(starts), None)?;
        }
        let wanted = usize::try_from(self.number.unwrap_or(0)).unwrap_or(0);
        let result = (self.spec.finish)(&sorted, wanted)?;
        if result.is_empty() {
            return ScalarValue::try_from(&list_of((self.spec.item)(&self.value)));
        }
        Ok(SingleRowListArrayBuilder::new(result)
            .with_nullable(true)
            .build_list_scalar())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.chunks.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}

/// Where the runs of equal values begin.
fn runs(sorted: &ArrayRef) -> DataFusionResult<Vec<u32>> {
    let ranges = datafusion::arrow::compute::partition(std::slice::from_ref(sorted))?.ranges();
    Ok(ranges.iter().filter_map(|r| u32::try_from(r.start).ok()).collect())
}

/// The values of the nearest ranks.
fn quantiles(sorted: &ArrayRef, parts: usize) -> DataFusionResult<ArrayRef> {
    let present = filter(sorted, &is_not_null(sorted)?)?;
    if present.is_empty() || parts == 0 {
        return Ok(new_empty_array(sorted.data_type()));
    }
    let rank = |i: usize| (i as u128 * present.len() as u128).div_ceil(parts as u128).max(1) - 1;
    let places: Vec<u32> = (0..=parts).filter_map(|i| u32::try_from(rank(i)).ok()).collect();
    Ok(take(&present, &UInt32Array::from(places), None)?)
}

fn counted(value: &DataType) -> Fields {
    Fields::from(vec![
        Field::new("value", value.clone(), true),
        Field::new("count", DataType::Int64, true),
    ])
}

/// The most frequent values; of equally frequent ones the lesser.
fn top_count(sorted: &ArrayRef, wanted: usize) -> DataFusionResult<ArrayRef> {
    let starts = runs(sorted)?;
    let ends = starts.iter().skip(1).copied().chain(u32::try_from(sorted.len()));
    let mut counts: Vec<(i64, u32)> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| (i64::from(end - start), *start))
        .collect();
    counts.sort_by_key(|(count, start)| (std::cmp::Reverse(*count), *start));
    counts.truncate(wanted);
    let places = UInt32Array::from_iter_values(counts.iter().map(|(_, start)| *start));
    let columns: Vec<ArrayRef> = vec![
        take(sorted, &places, None)?,
        Arc::new(Int64Array::from_iter_values(counts.iter().map(|(count, _)| *count))),
    ];
    Ok(Arc::new(StructArray::try_new(
        counted(sorted.data_type()),
        columns,
        None,
    )?))
}
