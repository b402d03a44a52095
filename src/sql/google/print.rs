//! How GoogleSQL prints values: `CAST(x AS STRING)`, `STRING(…)` and `TO_JSON_STRING(…)`.

use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, Offset, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result as DataFusionResult;

use super::dates::{date_of, zone};
use super::function::{BASE, Call, Kind, MOMENT, Spec, returns_text};
use crate::error::Error;

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "STRING",
        name: "google_string",
        syntax: "STRING(value [, zone])",
        summary: "A value as BigQuery prints it; CAST(value AS STRING) is this function. A timestamp is printed in UTC, or in the zone.",
        example: "SELECT CAST(TIMESTAMP '2015-01-01' AS STRING)",
        takes: &[Kind::Any, Kind::Text],
        plain: Some(|given| {
            (given.is_string() || given.is_integer() || *given == DataType::Boolean).then_some(DataType::Utf8)
        }),
        returns: returns_text,
        eval: string,
        ..BASE
    },
    Spec {
        title: "TO_JSON_STRING",
        name: "to_json_string",
        syntax: "TO_JSON_STRING(value)",
        summary: "A value as JSON, printed as BigQuery prints it: structs with their fields in order, and no spaces.",
        example: "SELECT TO_JSON_STRING(STRUCT(1 AS id, ['a', 'b'] AS names))",
        takes: &[Kind::Any],
        returns: returns_text,
        eval: json,
        ..BASE
    },
];

/// `%.{digits}g` of C.
pub(super) fn general(value: f64, digits: usize) -> String {
    let digits = digits.max(1);
    if value.is_nan() {
        return "nan".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    let places = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= places {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(places - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

/// A FLOAT64 as GoogleSQL prints it: 15 digits where they give the number back, else 17.
pub(super) fn float(value: f64) -> String {
    let short = general(value, 15);
    if !value.is_finite() || short.parse::<f64>() == Ok(value) {
        return short;
    }
    general(value, 17)
}

/// The fraction of a second: nothing, 3 digits or 6.
pub(super) fn fraction(micros: u32) -> String {
    match micros {
        0 => String::new(),
        m if m % 1000 == 0 => format!(".{:03}", m / 1000),
        m => format!(".{m:06}"),
    }
}

/// A timestamp as it is in a zone: `2015-01-01 00:00:00+00`.
pub(super) fn timestamp(micros: i64, zone: &Tz, separator: char) -> DataFusionResult<String> {
    let utc = DateTime::from_timestamp_micros(micros).ok_or_else(|| {
        Error::data(format!(
            "the timestamp of {micros} microseconds is out of range; use years to 9999"
        ))
    })?;
    let local = zone.from_utc_datetime(&utc.naive_utc());
    let mut out = local.format(&format!("%Y-%m-%d{separator}%H:%M:%S")).to_string();
    out += &fraction(local.timestamp_subsec_micros());
    out += &offset(&local, false);
    Ok(out)
}

/// A zone's distance from UTC: `+05:30`, and `+05` for whole hours unless `minutes` are wanted in any case.
pub(super) fn offset(local: &DateTime<Tz>, minutes: bool) -> String {
    let seconds = local.offset().fix().local_minus_utc();
    let (sign, total) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
    if total % 60 == 0 && !minutes {
        return format!("{sign}{:02}", total / 60);
    }
    format!("{sign}{:02}:{:02}", total / 60, total % 60)
}

fn time(micros: i64) -> String {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}{}",
        fraction(u32::try_from(rest).unwrap_or(0))
    )
}

pub(super) fn string(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let values = &call.arrays[0];
    if call.len() == 2 && !matches!(values.data_type(), DataType::Timestamp(..)) {
        return Err(call.wrong(format!(
            "only a timestamp has a zone, and this is {}",
            values.data_type()
        )));
    }
    let texts: StringArray = match values.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let is_double = *values.data_type() == DataType::Float64;
            let numbers = cast(values, &DataType::Float64)?;
            let print = |v: f64| if is_double { float(v) } else { float(single(v)) };
            numbers
                .as_primitive::<Float64Type>()
                .iter()
                .map(|v| v.map(print))
                .collect()
        }
        DataType::Timestamp(..) => {
            let moments = cast(values, &MOMENT)?;
            let moments = moments.as_primitive::<TimestampMicrosecondType>();
            return call.map::<_, StringArray>(|row| {
                let zone = if call.len() == 2 {
                    zone(call.text(1).value(row))?
                } else {
                    zone("UTC")?
                };
                Ok(Some(timestamp(moments.value(row), &zone, ' ')?))
            });
        }
        DataType::Date32 | DataType::Date64 => {
            let days = cast(values, &DataType::Date32)?;
            let days = days.as_primitive::<Date32Type>();
            return call
                .map::<_, StringArray>(|row| Ok(Some(date_of(days.value(row))?.format("%Y-%m-%d").to_string())));
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let times = cast(values, &DataType::Time64(TimeUnit::Microsecond))?;
            let times = times.as_primitive::<Time64MicrosecondType>();
            times.iter().map(|v| v.map(time)).collect()
        }
        DataType::Decimal128(_, scale) if *scale > 0 => {
            let plain = ArrayFormatter::try_new(values, &FormatOptions::default())?;
            let trimmed = |row: usize| {
                plain
                    .value(row)
                    .to_string()
                    .trim_end_matches('0')
                    .trim_end_matches('.')
                    .to_string()
            };
            (0..values.len())
                .map(|row| values.is_valid(row).then(|| trimmed(row)))
                .collect()
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = cast(values, &DataType::Binary)?;
            let bytes = bytes.as_binary::<i32>();
            return call.map::<_, StringArray>(|row| match std::str::from_utf8(bytes.value(row)) {
                Ok(text) => Ok(Some(text.to_string())),
                Err(_) => Err(call.wrong("the bytes are no UTF-8; write TO_HEX(bytes)")),
            });
        }
        DataType::Struct(_) if super::geography::is_point(values.data_type()) => {
            return super::geography::text_of_points(call);
        }
        DataType::Struct(_) | DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) => {
            let what = values.data_type();
            return Err(call.wrong(format!("{what} cannot be cast to a string; write TO_JSON_STRING(…)")));
        }
        _ => return Ok(cast(values, &DataType::Utf8)?),
    };
    Ok(Arc::new(texts))
}

/// A single-precision number as the double of the same digits, so that 0.1 is printed as 0.1.
fn single(value: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation)]
    let narrow = value as f32;
    narrow.to_string().parse().unwrap_or(value)
}

fn json(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let writer = Json::of(&call.arrays[0])?;
    let texts: StringArray = (0..call.rows)
        .map(|row| {
            let mut out = String::new();
            writer.write(row, &mut out)?;
            Ok(Some(out))
        })
        .collect::<DataFusionResult<_>>()?;
    Ok(Arc::new(texts))
}

/// Prints the values of an array as JSON.
enum Json {
    /// Texts that need quotes, and those that need none.
    Quoted(StringArray),
    Plain(StringArray),
    List(ArrayRef, Box<Json>),
    Struct(ArrayRef, Vec<(String, Json)>),
}

impl Json {
    fn of(values: &ArrayRef) -> DataFusionResult<Self> {
        let print = |eval: fn(&Call<'_>) -> DataFusionResult<ArrayRef>| {
            let call = Call {
                title: "TO_JSON_STRING",
                rows: values.len(),
                arrays: std::slice::from_ref(values),
                returns: &DataType::Utf8,
            };
            eval(&call).map(|texts| texts.as_string::<i32>().clone())
        };
        Ok(match values.data_type() {
            DataType::Struct(_) => {
                let fields = values.as_struct();
                let printed = fields.column_names().into_iter().zip(fields.columns());
                let printed: DataFusionResult<Vec<_>> = printed
                    .map(|(name, column)| Ok((name.to_string(), Json::of(column)?)))
                    .collect();
                Json::Struct(Arc::clone(values), printed?)
            }
            DataType::List(item) => Json::List(
                Arc::clone(values),
                Box::new(Json::of(&cast(values.as_list::<i32>().values(), item.data_type())?)?),
            ),
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                return Json::of(&cast(values, &DataType::List(Arc::clone(item)))?);
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                let named = |text: Option<&str>| {
                    text.map(|t| match t {
                        "nan" => "\"NaN\"".to_string(),
                        "inf" => "\"Infinity\"".to_string(),
                        "-inf" => "\"-Infinity\"".to_string(),
                        other => other.to_string(),
                    })
                };
                Json::Plain(print(string)?.iter().map(named).collect())
            }
            // Beyond 53 bits JavaScript would round, so that BigQuery writes a string.
            t if t.is_integer() => {
                let whole = cast(values, &DataType::Int64)?;
                let number = |v: i64| {
                    if v.unsigned_abs() <= 1 << 53 {
                        v.to_string()
                    } else {
                        format!("\"{v}\"")
                    }
                };
                Json::Plain(
                    whole
                        .as_primitive::<Int64Type>()
                        .iter()
                        .map(|v| v.map(number))
                        .collect(),
                )
            }
            DataType::Boolean | DataType::Decimal128(..) | DataType::Decimal256(..) => Json::Plain(print(string)?),
            DataType::Timestamp(..) => {
                let moments = cast(values, &MOMENT)?;
                let utc = zone("UTC")?;
                let text = |v: Option<i64>| {
                    v.map(|v| timestamp(v, &utc, 'T').map(|t| t.replace("+00", "Z")))
                        .transpose()
                };
                let moments = moments.as_primitive::<TimestampMicrosecondType>();
                Json::Quoted(moments.iter().map(text).collect::<DataFusionResult<_>>()?)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                let message = "TO_JSON_STRING takes no bytes; write TO_HEX(bytes) in their place";
                return Err(Error::request(message).into());
            }
            _ => Json::Quoted(print(string)?),
        })
    }

    fn write(&self, row: usize, out: &mut String) -> DataFusionResult<()> {
        match self {
            Json::Plain(texts) | Json::Quoted(texts) if texts.is_null(row) => out.push_str("null"),
            Json::Plain(texts) => out.push_str(texts.value(row)),
            Json::Quoted(texts) => escape(texts.value(row), out),
            Json::List(lists, _) if lists.is_null(row) => out.push_str("null"),
            Json::List(lists, items) => {
                let offsets = lists.as_list::<i32>().value_offsets();
                let place = |i: usize| usize::try_from(offsets[i]).unwrap_or(0);
                let first = place(row);
                out.push('[');
                for item in first..place(row + 1) {
                    if item > first {
                        out.push(',');
                    }
                    items.write(item, out)?;
                }
                out.push(']');
            }
            Json::Struct(structs, _) if structs.is_null(row) => out.push_str("null"),
            Json::Struct(_, fields) => {
                out.push('{');
                for (at, (name, values)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    escape(name, out);
                    out.push(':');
                    values.write(row, out)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// A JSON string, with the escapes that BigQuery writes.
fn escape(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' || matches!(c, '\u{2028}' | '\u{2029}' | '<') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::dates::civil;
    use super::*;

    #[test]
    fn floats() {
        for (value, text) in [
            (1.0, "1"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1e+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e-5, "1e-05"),
            (-2.5e-4, "-0.00025"),
            (1.0 / 3.0, "0.33333333333333331"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn timestamps() {
        let moment = civil(2015, 1, 1)
            .unwrap()
            .and_hms_micro_opt(1, 2, 3, 450_000)
            .unwrap()
            .and_utc();
        let print = |zone_name: &str| timestamp(moment.timestamp_micros(), &zone(zone_name).unwrap(), ' ').unwrap();
        assert_eq!(print("UTC"), "2015-01-01 01:02:03.450+00");
        assert_eq!(print("America/Los_Angeles"), "2014-12-31 17:02:03.450-08");
        assert_eq!(print("Asia/Kolkata"), "2015-01-01 06:32:03.450+05:30");
        assert_eq!(fraction(0), "");
        assert_eq!(fraction(123_456), ".123456");
    }
}
