//! Dates and timestamps as numbers from 1970 on, and back.

use datafusion::arrow::array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::common::Result as DataFusionResult;

use super::dates::{date_of, days_of, micros_of, moment_of};
use super::function::{Call, Kind, Spec, returns_date, returns_int, returns_moment};

const BASE: Spec = Spec {
    returns: returns_int,
    ..super::function::BASE
};

pub(super) const ALL: &[Spec] = &[
    to_number(
        "UNIX_SECONDS",
        "unix_seconds",
        "UNIX_SECONDS(timestamp)",
        "seconds",
        "SELECT UNIX_SECONDS(TIMESTAMP '2008-12-25 15:30:00+00')",
        |call| since(call, 1_000_000),
    ),
    to_number(
        "UNIX_MILLIS",
        "unix_millis",
        "UNIX_MILLIS(timestamp)",
        "milliseconds",
        "SELECT UNIX_MILLIS(TIMESTAMP '2008-12-25 15:30:00+00')",
        |call| since(call, 1000),
    ),
    to_number(
        "UNIX_MICROS",
        "unix_micros",
        "UNIX_MICROS(timestamp)",
        "microseconds",
        "SELECT UNIX_MICROS(TIMESTAMP '2008-12-25 15:30:00+00')",
        |call| since(call, 1),
    ),
    Spec {
        title: "UNIX_DATE",
        name: "unix_date",
        syntax: "UNIX_DATE(date)",
        summary: "The days from 1970-01-01 to a date.",
        example: "SELECT UNIX_DATE(DATE '2008-12-25')",
        takes: &[Kind::Date],
        eval: |call| call.map::<_, Int64Array>(|row| Ok(Some(call.date(0).value(row).into()))),
        ..BASE
    },
    of_number(
        "TIMESTAMP_SECONDS",
        "timestamp_seconds",
        "TIMESTAMP_SECONDS(n)",
        "seconds",
        "SELECT TIMESTAMP_SECONDS(1230219000)",
        |call| after(call, 1_000_000),
    ),
    of_number(
        "TIMESTAMP_MILLIS",
        "timestamp_millis",
        "TIMESTAMP_MILLIS(n)",
        "milliseconds",
        "SELECT TIMESTAMP_MILLIS(1230219000000)",
        |call| after(call, 1000),
    ),
    of_number(
        "TIMESTAMP_MICROS",
        "timestamp_micros",
        "TIMESTAMP_MICROS(n)",
        "microseconds",
        "SELECT TIMESTAMP_MICROS(1230219000000000)",
        |call| after(call, 1),
    ),
    Spec {
        title: "DATE_FROM_UNIX_DATE",
        name: "date_from_unix_date",
        syntax: "DATE_FROM_UNIX_DATE(n)",
        summary: "The date so many days after 1970-01-01.",
        example: "SELECT DATE_FROM_UNIX_DATE(14238)",
        takes: &[Kind::Int],
        returns: returns_date,
        eval: |call| {
            call.map::<_, Date32Array>(|row| {
                let days = i32::try_from(call.int(0).value(row)).unwrap_or(i32::MAX);
                date_of(days).map(|date| Some(days_of(date)))
            })
        },
        ..BASE
    },
];

type Eval = fn(&Call<'_>) -> DataFusionResult<ArrayRef>;

const fn to_number(
    title: &'static str,
    name: &'static str,
    syntax: &'static str,
    unit: &'static str,
    example: &'static str,
    eval: Eval,
) -> Spec {
    Spec {
        title,
        name,
        syntax,
        summary: match unit.as_bytes() {
            b"seconds" => "The seconds from 1970-01-01 to a timestamp, rounded down.",
            b"milliseconds" => "The milliseconds from 1970-01-01 to a timestamp, rounded down.",
            _ => "The microseconds from 1970-01-01 to a timestamp.",
        },
        example,
        takes: &[Kind::Moment],
        eval,
        ..BASE
    }
}

const fn of_number(
    title: &'static str,
    name: &'static str,
    syntax: &'static str,
    unit: &'static str,
    example: &'static str,
    eval: Eval,
) -> Spec {
    Spec {
        title,
        name,
        syntax,
        summary: match unit.as_bytes() {
            b"seconds" => "The timestamp so many seconds after 1970-01-01.",
            b"milliseconds" => "The timestamp so many milliseconds after 1970-01-01.",
            _ => "The timestamp so many microseconds after 1970-01-01.",
        },
        example,
        takes: &[Kind::Int],
        returns: returns_moment,
        eval,
        ..BASE
    }
}

fn since(call: &Call<'_>, unit: i64) -> DataFusionResult<ArrayRef> {
    call.map::<_, Int64Array>(|row| Ok(Some(call.moment(0).value(row).div_euclid(unit))))
}

fn after(call: &Call<'_>, unit: i64) -> DataFusionResult<ArrayRef> {
    call.map::<_, TimestampMicrosecondArray>(|row| {
        let micros = call.int(0).value(row).checked_mul(unit);
        let micros =
            micros.ok_or_else(|| call.wrong("the number is too large for a timestamp; use years from 1 to 9999"))?;
        moment_of(micros).map(|at| Some(micros_of(at)))
    })
}
