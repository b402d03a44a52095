//! Functions that make arrays, and of arrays.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Builder, Float64Builder, Int64Array, Int64Builder, ListArray, ListBuilder,
    MutableArrayData, StringBuilder, TimestampMicrosecondBuilder, make_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;

use super::dates::{ONE_DAY, date_of, days_of, micros_of, moment_of};
use super::function::{Call, Kind, MOMENT, Spec, list_of, returns_int, returns_texts, same_number};
use super::parts::Part;
use crate::error::Error;

/// So many elements may an array have that is made of numbers.
const MOST: usize = 1 << 20;

const BASE: Spec = Spec {
    title: "GENERATE_ARRAY",
    name: "generate_array",
    syntax: "GENERATE_ARRAY(start, end [, step])",
    summary: "The numbers from start to end, both included, in steps of 1 or of the step.",
    example: "SELECT GENERATE_ARRAY(0, 1, 0.25)",
    takes: &[Kind::Any, Kind::Any, Kind::Any],
    least: 2,
    unify: Some(same_number),
    returns: |given| Ok(list_of(given.first().cloned().unwrap_or(DataType::Int64))),
    eval: generate,
    ..super::function::BASE
};

pub(super) const ALL: &[Spec] = &[
    BASE,
    Spec {
        title: "GENERATE_DATE_ARRAY",
        name: "generate_date_array",
        syntax: "GENERATE_DATE_ARRAY(start, end [, INTERVAL n part])",
        summary: "The dates from start to end, both included, in steps of a day or of the interval.",
        example: "SELECT GENERATE_DATE_ARRAY('2016-10-05', '2016-10-08')",
        takes: &[Kind::Date, Kind::Date, Kind::Int, Kind::Text],
        unify: None,
        returns: |_| Ok(list_of(DataType::Date32)),
        eval: generate_dates,
        ..BASE
    },
    Spec {
        title: "GENERATE_TIMESTAMP_ARRAY",
        name: "generate_timestamp_array",
        syntax: "GENERATE_TIMESTAMP_ARRAY(start, end, INTERVAL n part)",
        summary: "The timestamps from start to end, both included, in steps of the interval.",
        example: "SELECT GENERATE_TIMESTAMP_ARRAY(TIMESTAMP '2016-10-05', TIMESTAMP '2016-10-07', INTERVAL 1 DAY)",
        takes: &[Kind::Moment, Kind::Moment, Kind::Int, Kind::Text],
        least: 4,
        unify: None,
        returns: |_| Ok(list_of(MOMENT)),
        eval: generate_timestamps,
        ..BASE
    },
    Spec {
        title: "SPLIT",
        name: "split",
        syntax: "SPLIT(text [, separator])",
        summary: "The pieces of a text between its separators, which are commas if not said; with an empty separator, its characters.",
        example: "SELECT SPLIT('a b c', ' ')",
        takes: &[Kind::Text, Kind::Text],
        least: 1,
        unify: None,
        returns: returns_texts,
        eval: split,
        ..BASE
    },
    Spec {
        title: "ARRAY_CONCAT",
        name: "google_array_concat",
        syntax: "ARRAY_CONCAT(array, …)",
        summary: "Arrays one after another; NULL if one of them is.",
        example: "SELECT ARRAY_CONCAT([1, 2], [3, 4])",
        takes: &[Kind::Any],
        least: 1,
        repeats: true,
        unify: Some(same_list),
        returns: super::function::returns_first,
        eval: concatenated,
        ..BASE
    },
    Spec {
        title: "ARRAY_LENGTH",
        name: "google_array_length",
        syntax: "ARRAY_LENGTH(array)",
        summary: "How many elements an array has.",
        example: "SELECT ARRAY_LENGTH(['coffee', NULL, 'milk'])",
        takes: &[Kind::Any],
        least: 1,
        unify: Some(same_list),
        returns: returns_int,
        eval: |call| {
            call.map::<_, Int64Array>(|row| Ok(i64::try_from(call.arrays[0].as_list::<i32>().value(row).len()).ok()))
        },
        ..BASE
    },
];

/// All arguments as lists of one type.
fn same_list(title: &'static str, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
    let item = |given: &DataType| match given {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Ok(item.data_type().clone())
        }
        DataType::Null => Ok(DataType::Null),
        other => Err(Error::request(format!(
            "{title} takes arrays, but was given {other}; write [value, …]"
        ))),
    };
    let items: Vec<DataType> = given.iter().map(item).collect::<Result<_, _>>()?;
    let common = type_union_resolution(&items)
        .ok_or_else(|| Error::request(format!("{title} takes arrays of one type; cast their elements to it")))?;
    Ok(vec![list_of(common); given.len()])
}

fn too_many(call: &Call<'_>) -> datafusion::common::DataFusionError {
    call.wrong(format!(
        "the array would have more than {MOST} elements; use a larger step"
    ))
}

fn no_step(call: &Call<'_>) -> datafusion::common::DataFusionError {
    call.wrong("a step of 0 leads nowhere; write another number")
}

fn generate(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if *call.arrays[0].data_type() == DataType::Int64 {
        return whole_numbers(call);
    }
    let values: Vec<_> = call.arrays.iter().map(|a| a.as_primitive::<Float64Type>()).collect();
    let mut lists = ListBuilder::new(Float64Builder::new());
    for row in 0..call.rows {
        if call.has_null(row) {
            lists.append_null();
            continue;
        }
        let (start, end) = (values[0].value(row), values[1].value(row));
        let step = values.get(2).map_or(1.0, |s| s.value(row));
        if step == 0.0 {
            return Err(no_step(call));
        }
        if !(start.is_finite() && end.is_finite() && step.is_finite()) {
            return Err(call.wrong("its numbers have to be finite"));
        }
        // Each is start + i·step, so that no error adds up.
        for i in 0..=MOST {
            #[expect(clippy::cast_precision_loss)]
            let value = start + i as f64 * step;
            if (step > 0.0 && value > end) || (step < 0.0 && value < end) {
                break;
            }
            if i == MOST {
                return Err(too_many(call));
            }
            lists.values().append_value(value);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn whole_numbers(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let values: Vec<_> = call.arrays.iter().map(|a| a.as_primitive::<Int64Type>()).collect();
    let mut lists = ListBuilder::new(Int64Builder::new());
    for row in 0..call.rows {
        if call.has_null(row) {
            lists.append_null();
            continue;
        }
        let (start, end) = (i128::from(values[0].value(row)), i128::from(values[1].value(row)));
        let step = values.get(2).map_or(1, |s| i128::from(s.value(row)));
        if step == 0 {
            return Err(no_step(call));
        }
        if (end - start) / step >= 1 << 20 {
            return Err(too_many(call));
        }
        let mut value = start;
        while (step > 0 && value <= end) || (step < 0 && value >= end) {
            lists.values().append_option(i64::try_from(value).ok());
            value += step;
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn generate_dates(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if call.len() == 3 {
        return Err(call.wrong("its step has no part; write INTERVAL n DAY"));
    }
    let mut lists = ListBuilder::new(Date32Builder::new());
    for row in 0..call.rows {
        if call.has_null(row) {
            lists.append_null();
            continue;
        }
        let (start, end) = (date_of(call.date(0).value(row))?, date_of(call.date(1).value(row))?);
        let (step, part) = match call.len() {
            2 => (1, ONE_DAY),
            _ => (call.int(2).value(row), Part::of(call.text(3).value(row))?),
        };
        if step == 0 {
            return Err(no_step(call));
        }
        if part.is_of_time() {
            return Err(call.wrong("dates are at least a day apart; write DAY, WEEK, MONTH, QUARTER or YEAR"));
        }
        // Each is start and i steps, so that the 31st comes back after a shorter month. Beyond the last year there is none.
        let mut i = 0i64;
        while let Some(date) = i.checked_mul(step).and_then(|n| part.add(start.into(), n).ok()) {
            let date = date.date();
            if (step > 0 && date > end) || (step < 0 && date < end) {
                break;
            }
            lists.values().append_value(days_of(date));
            i += 1;
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn generate_timestamps(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let mut lists = ListBuilder::new(TimestampMicrosecondBuilder::new());
    for row in 0..call.rows {
        if call.has_null(row) {
            lists.append_null();
            continue;
        }
        let (start, end) = (
            moment_of(call.moment(0).value(row))?,
            moment_of(call.moment(1).value(row))?,
        );
        let (step, part) = (call.int(2).value(row), Part::of(call.text(3).value(row))?);
        if step == 0 {
            return Err(no_step(call));
        }
        if matches!(part, Part::Months(_) | Part::IsoYear | Part::Week(_)) {
            return Err(call.wrong("its steps are of a DAY or less; write DAY, HOUR, MINUTE or SECOND"));
        }
        let mut count = 0usize;
        let mut next = Some(start);
        while let Some(at) = next.filter(|at| if step > 0 { *at <= end } else { *at >= end }) {
            count += 1;
            if count > MOST {
                return Err(too_many(call));
            }
            lists.values().append_value(micros_of(at));
            next = part.add(at, step).ok();
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

#[expect(clippy::unnecessary_wraps)]
fn split(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        if call.has_null(row) {
            lists.append_null();
            continue;
        }
        let text = call.text(0).value(row);
        match if call.len() > 1 { call.text(1).value(row) } else { "," } {
            "" if text.is_empty() => lists.values().append_value(""),
            "" => text
                .chars()
                .for_each(|c| lists.values().append_value(c.encode_utf8(&mut [0; 4]))),
            separator => text
                .split(separator)
                .for_each(|piece| lists.values().append_value(piece)),
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn concatenated(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let lists: Vec<&ListArray> = call.arrays.iter().map(|a| a.as_list::<i32>()).collect();
    let datas: Vec<_> = lists.iter().map(|l| l.values().to_data()).collect();
    let mut values = MutableArrayData::new(datas.iter().collect(), true, 0);
    let (mut lengths, mut valid) = (vec![], vec![]);
    for row in 0..call.rows {
        let is_null = call.has_null(row);
        let mut length = 0;
        for (i, list) in lists.iter().enumerate().filter(|_| !is_null) {
            let place = |row: usize| usize::try_from(list.value_offsets()[row]).unwrap_or(0);
            values.try_extend(i, place(row), place(row + 1))?;
            length += place(row + 1) - place(row);
        }
        lengths.push(length);
        valid.push(!is_null);
    }
    let values = make_array(values.freeze());
    let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(
        item,
        offsets,
        values,
        Some(NullBuffer::from(valid)),
    )?))
}
