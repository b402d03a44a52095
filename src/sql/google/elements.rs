//! What a subquery over the elements of an array becomes: `x IN UNNEST(array)`, `ARRAY(SELECT …)`, ORDER BY and aggregates
//! over elements.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StructArray, UInt32Array, make_comparator,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use super::function::{BASE, Call, Kind, Spec, list_of, returns_bool, returns_first};
use super::maths::value_and_list;
use crate::error::Error;

/// What stands before the name of an aggregate, in the name of the function that has it over the elements of an array.
const PREFIX: &str = "google_elements_";

/// The aggregates that are there over the elements of an array, by their names in DataFusion.
const AGGREGATES: &[&str] = &[
    "sum",
    "avg",
    "count",
    "min",
    "max",
    "string_agg",
    "array_agg",
    "bool_and",
    "bool_or",
    "stddev",
    "stddev_pop",
    "var_samp",
    "var_pop",
    "any_value",
];

/// The function that has an aggregate over the elements of an array.
pub(in crate::sql) fn over_elements(aggregate: &str) -> Option<String> {
    let aggregate = aggregate.to_lowercase();
    let known = match aggregate.as_str() {
        "stddev_samp" => "stddev",
        "variance" => "var_samp",
        other => AGGREGATES.iter().find(|a| **a == other)?,
    };
    Some(format!("{PREFIX}{known}"))
}

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "IN UNNEST",
        name: "google_in_unnest",
        syntax: "value IN UNNEST(array)",
        summary: "Whether a value is among the elements of an array; NULL where only a NULL could decide.",
        example: "SELECT 2 IN UNNEST([1, 2, 3])",
        takes: &[Kind::Any, Kind::Any],
        least: 2,
        unify: Some(value_or_null_and_list),
        returns: returns_bool,
        eval: in_unnest,
        ..BASE
    },
    Spec {
        title: "ARRAY",
        name: "google_array",
        syntax: "ARRAY(SELECT …)",
        summary: "What a query gives in its only column, as an array: an empty one if it gives nothing.",
        example: "SELECT ARRAY(SELECT x * 2 FROM UNNEST([1, 2]) AS x)",
        takes: &[Kind::Any],
        returns: returns_first,
        eval: no_null,
        ..BASE
    },
    Spec {
        title: "ARRAY … ORDER BY",
        name: "google_array_sorted",
        syntax: "ARRAY(SELECT … FROM UNNEST(array) AS x ORDER BY x [DESC])",
        summary: "The elements of an array in the order of keys of theirs.",
        example: "SELECT ARRAY(SELECT x FROM UNNEST([3, 1, 2]) AS x ORDER BY x DESC)",
        takes: &[Kind::Any],
        least: 3,
        repeats: true,
        returns: returns_first,
        eval: sorted,
        ..BASE
    },
    Spec {
        title: "UNNEST … WITH OFFSET",
        name: "google_with_offset",
        syntax: "UNNEST(array) AS x WITH OFFSET AS place",
        summary: "The elements of an array with their places, counted from 0.",
        example: "SELECT ARRAY(SELECT x FROM UNNEST(['a', 'b', 'c']) AS x WITH OFFSET AS place WHERE place > 0)",
        takes: &[Kind::Any],
        returns: |given| Ok(list_of(with_place(given.first()))),
        eval: with_offset,
        ..BASE
    },
];

/// The functions that have aggregates over the elements of an array.
pub(super) fn aggregates() -> impl Iterator<Item = ScalarUDF> {
    let known = all_default_aggregate_functions();
    AGGREGATES.iter().filter_map(move |name| {
        let is_it = |f: &&Arc<AggregateUDF>| f.name() == *name || f.aliases().iter().any(|a| a == name);
        let aggregate = known.iter().find(is_it)?;
        Some(ScalarUDF::from(OfElements {
            name: format!("{PREFIX}{name}"),
            aggregate: Arc::clone(aggregate),
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    })
}

/// A value and a list of its type; a NULL in the place of the list is an empty one.
fn value_or_null_and_list(title: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    match given {
        [value, DataType::Null] => value_and_list(title, &[value.clone(), list_of(value.clone())]),
        _ => value_and_list(title, given),
    }
}

fn place(offsets: &[i32], row: usize) -> usize {
    offsets.get(row).and_then(|o| usize::try_from(*o).ok()).unwrap_or(0)
}

fn in_unnest(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let (values, lists) = (&call.arrays[0], call.arrays[1].as_list::<i32>());
    let items = lists.values();
    let compare = make_comparator(values.as_ref(), items.as_ref(), SortOptions::default())?;
    let offsets = lists.value_offsets();
    let found: BooleanArray = (0..call.rows)
        .map(|row| {
            let places = place(offsets, row)..place(offsets, row + 1);
            if lists.is_null(row) || places.is_empty() {
                return Some(false);
            }
            if values.is_null(row) {
                return None;
            }
            let mut has_null = false;
            for item in places {
                if items.is_null(item) {
                    has_null = true;
                } else if compare(row, item) == Ordering::Equal {
                    return Some(true);
                }
            }
            (!has_null).then_some(false)
        })
        .collect();
    Ok(Arc::new(found))
}

/// The lists of an argument.
fn lists<'a>(call: &'a Call<'_>, i: usize) -> DataFusionResult<&'a ListArray> {
    let array = &call.arrays[i];
    array.as_list_opt::<i32>().ok_or_else(|| {
        let given = array.data_type();
        call.wrong(format!("it takes an array, not {given}; write [value, …]"))
    })
}

/// An empty list in the place of each NULL.
fn no_null(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    // The type of a mere NULL is not one of lists.
    let Some(lists) = call.arrays[0].as_list_opt::<i32>().filter(|l| l.null_count() > 0) else {
        return Ok(Arc::clone(&call.arrays[0]));
    };
    let rows: Vec<Option<ArrayRef>> = lists.iter().collect();
    let present: Vec<&dyn Array> = rows.iter().flatten().map(AsRef::as_ref).collect();
    let values = match present.is_empty() {
        true => lists.values().slice(0, 0),
        false => datafusion::arrow::compute::concat(&present)?,
    };
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, |r| r.len()));
    Ok(Arc::new(ListArray::try_new(
        Arc::new(Field::new_list_field(values.data_type().clone(), true)),
        OffsetBuffer::from_lengths(lengths),
        values,
        None,
    )?))
}

/// The elements of the first list, in the order of those of the others, each of which has its direction after it.
fn sorted(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let items = lists(call, 0)?;
    let mut keys = vec![];
    for i in (1..call.len()).step_by(2) {
        let direction = call.arrays.get(i + 1).and_then(|d| d.as_string_opt::<i32>());
        let descending = direction.is_some_and(|d| d.iter().flatten().next() == Some("DESC"));
        let options = SortOptions {
            descending,
            nulls_first: !descending,
        };
        keys.push((lists(call, i)?, options));
    }
    let offsets = items.value_offsets();
    let mut order: Vec<u32> = Vec::with_capacity(items.values().len());
    for row in 0..items.len() {
        let (start, end) = (place(offsets, row), place(offsets, row + 1));
        if items.is_null(row) || start == end {
            // Its elements, if a NULL has some, stay where they are.
            order.extend((start..end).filter_map(|at| u32::try_from(at).ok()));
            continue;
        }
        let columns: Vec<SortColumn> = keys
            .iter()
            .map(|(list, options)| SortColumn {
                values: list.value(row),
                options: Some(*options),
            })
            .collect();
        if columns.iter().any(|c| c.values.len() != end - start) {
            return Err(call.wrong("the keys are not as many as the elements"));
        }
        let places = lexsort_to_indices(&columns, None)?;
        order.extend(
            places
                .values()
                .iter()
                .filter_map(|p| Some(u32::try_from(start).ok()? + p)),
        );
    }
    let first = place(offsets, 0);
    let shifted: Vec<i32> = offsets.iter().map(|o| o - i32::try_from(first).unwrap_or(0)).collect();
    let values = take(items.values(), &UInt32Array::from(order), None)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::new(Field::new_list_field(values.data_type().clone(), true)),
        OffsetBuffer::new(shifted.into()),
        values,
        items.nulls().cloned(),
    )?))
}

/// An element and its place.
fn with_place(list: Option<&DataType>) -> DataType {
    let item = match list {
        Some(DataType::List(item)) => item.data_type().clone(),
        _ => DataType::Null,
    };
    DataType::Struct(Fields::from(vec![
        Field::new("value", item, true),
        Field::new("offset", DataType::Int64, true),
    ]))
}

fn with_offset(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let lists = lists(call, 0)?;
    let DataType::Struct(fields) = with_place(Some(lists.data_type())) else {
        return Err(call.wrong("its elements have no places"));
    };
    let mut places = vec![0i64; lists.values().len()];
    for row in 0..lists.len() {
        let range = place(lists.value_offsets(), row)..place(lists.value_offsets(), row + 1);
        for (number, place) in (0i64..).zip(places.get_mut(range).into_iter().flatten()) {
            *place = number;
        }
    }
    let columns: Vec<ArrayRef> = vec![Arc::clone(lists.values()), Arc::new(Int64Array::from(places))];
    let structs = StructArray::try_new(fields, columns, None)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::new(Field::new_list_field(structs.data_type().clone(), true)),
        lists.offsets().clone(),
        Arc::new(structs),
        lists.nulls().cloned(),
    )?))
}

/// An aggregate over the elements of an array.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfElements {
    name: String,
    aggregate: Arc<AggregateUDF>,
    signature: Signature,
}

impl OfElements {
    /// The elements' field and those of the other arguments, as the aggregate takes them.
    fn fields(&self, given: &[DataType]) -> DataFusionResult<Vec<FieldRef>> {
        let plain = |data_type: &DataType| -> FieldRef { Arc::new(Field::new("element", data_type.clone(), true)) };
        let fields: Vec<FieldRef> = given
            .iter()
            .enumerate()
            .map(|(i, data_type)| match data_type {
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) if i == 0 => {
                    Ok(plain(item.data_type()))
                }
                DataType::Null if i == 0 => Ok(plain(data_type)),
                other if i == 0 => Err(Error::request(format!(
                    "{} over elements takes an array, not {other}",
                    self.aggregate.name()
                ))),
                other => Ok(plain(other)),
            })
            .collect::<Result<_, Error>>()?;
        fields_with_udf(&fields, self.aggregate.as_ref())
    }

    fn returns(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        let field = self.aggregate.return_field(&self.fields(given)?)?;
        Ok(field.data_type().clone())
    }
}

impl ScalarUDFImpl for OfElements {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let fields = self.fields(given)?;
        let types = fields.iter().map(|f| f.data_type().clone());
        Ok(types
            .enumerate()
            .map(|(i, data_type)| if i == 0 { list_of(data_type) } else { data_type })
            .collect())
    }

    fn return_type(&self, given: &[DataType]) -> DataFusionResult<DataType> {
        self.returns(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DataFusionResult<FieldRef> {
        let given: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(&self.name, self.returns(&given)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let given: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let fields = self.fields(&given)?;
        let schema = Schema::new(fields.iter().take(1).map(Arc::clone).collect::<Vec<_>>());
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = vec![Arc::new(Column::new("element", 0))];
        for argument in args.args.iter().skip(1) {
            let ColumnarValue::Scalar(value) = argument else {
                let message = format!(
                    "{} over elements takes constants after its first argument; write one",
                    self.aggregate.name()
                );
                return Err(Error::request(message).into());
            };
            exprs.push(Arc::new(Literal::new(value.clone())));
        }
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let [first, others @ ..] = args.args.as_slice() else {
            return Err(Error::request("an aggregate over elements takes an array").into());
        };
        let lists = first.to_array(rows)?;
        let lists = lists.as_list::<i32>();
        let mut results = Vec::with_capacity(rows);
        for row in 0..rows {
            let mut accumulator = self.aggregate.accumulator(AccumulatorArgs {
                return_field: self.aggregate.return_field(&fields)?,
                schema: &schema,
                ignore_nulls: false,
                order_bys: &[],
                is_reversed: false,
                name: self.aggregate.name(),
                is_distinct: false,
                exprs: &exprs,
                expr_fields: &fields,
            })?;
            if lists.is_valid(row) && !lists.value(row).is_empty() {
                let elements = lists.value(row);
                let mut arguments = vec![Arc::clone(&elements)];
                for other in others {
                    arguments.push(other.to_array(elements.len())?);
                }
                accumulator.update_batch(&arguments)?;
            }
            results.push(accumulator.evaluate()?);
        }
        if constant {
            let null = ScalarValue::try_from(args.return_field.data_type());
            return Ok(ColumnarValue::Scalar(results.pop().map_or(null, Ok)?));
        }
        if results.is_empty() {
            return Ok(ColumnarValue::Array(datafusion::arrow::array::new_empty_array(
                args.return_field.data_type(),
            )));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(results)?))
    }
}
