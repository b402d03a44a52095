//! Functions of times of day.

use chrono::NaiveTime;
use datafusion::arrow::array::{ArrayRef, Int64Array, Time64MicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::common::Result as DataFusionResult;

use super::dates::{clock_of, local, numbers};
use super::function::{Call, Kind, Spec, returns_int, returns_time};
use super::parts::Part;

/// The microseconds of a day.
const A_DAY: i64 = 86_400_000_000;

const BASE: Spec = Spec {
    returns: returns_time,
    ..super::function::BASE
};

const ADD: Spec = Spec {
    title: "TIME_ADD",
    name: "time_add",
    syntax: "TIME_ADD(time, INTERVAL n part)",
    summary: "A number of parts (MICROSECOND to HOUR) added to a time of day, which begins anew after midnight. Elsewhere than in BigQuery's dialect the interval is written as two arguments: n, 'part'.",
    example: "SELECT TIME_ADD(TIME '15:30:00', INTERVAL 10 MINUTE)",
    takes: &[Kind::Time, Kind::Int, Kind::Text],
    least: 3,
    eval: |call| shift(call, 1),
    ..BASE
};

pub(super) const ALL: &[Spec] = &[
    ADD,
    Spec {
        title: "TIME_SUB",
        name: "time_sub",
        syntax: "TIME_SUB(time, INTERVAL n part)",
        summary: "A number of parts (MICROSECOND to HOUR) subtracted from a time of day, which goes on before midnight. Elsewhere than in BigQuery's dialect the interval is written as two arguments: n, 'part'.",
        example: "SELECT TIME_SUB(TIME '15:30:00', INTERVAL 10 MINUTE)",
        eval: |call| shift(call, -1),
        ..ADD
    },
    Spec {
        title: "TIME_TRUNC",
        name: "time_trunc",
        syntax: "TIME_TRUNC(time, part)",
        summary: "Where the part (MICROSECOND to HOUR) begins that a time of day is in.",
        example: "SELECT TIME_TRUNC(TIME '15:30:00', HOUR)",
        takes: &[Kind::Time, Kind::Text],
        least: 2,
        eval: |call| {
            call.map::<_, Time64MicrosecondArray>(|row| {
                let time = call.time(0).value(row);
                Ok(Some(time - time % unit(call, call.text(1).value(row))?))
            })
        },
        ..BASE
    },
    Spec {
        title: "TIME_DIFF",
        name: "time_diff",
        syntax: "TIME_DIFF(end, start, part)",
        summary: "How many boundaries of a part (MICROSECOND to HOUR) lie from start to end.",
        example: "SELECT TIME_DIFF(TIME '15:30:00', TIME '14:35:00', MINUTE)",
        takes: &[Kind::Time, Kind::Time, Kind::Text],
        least: 3,
        eval: time_diff,
        returns: returns_int,
        ..BASE
    },
    Spec {
        title: "TIME",
        name: "google_time",
        syntax: "TIME(hour, minute, second), TIME(timestamp [, zone])",
        summary: "A time of day of three numbers, or the one that a timestamp has, in UTC or in a zone.",
        example: "SELECT TIME(15, 30, 0)",
        takes: &[Kind::Any, Kind::Any, Kind::Int],
        eval: time,
        ..BASE
    },
];

/// The microseconds of a part of a day.
fn unit(call: &Call<'_>, name: &str) -> DataFusionResult<i64> {
    match Part::of(name)? {
        Part::Micros(unit) if unit < A_DAY => Ok(unit),
        _ => Err(call.wrong(format!(
            "a time has no part {name}; write HOUR, MINUTE, SECOND, MILLISECOND or MICROSECOND"
        ))),
    }
}

fn shift(call: &Call<'_>, sign: i64) -> DataFusionResult<ArrayRef> {
    call.map::<_, Time64MicrosecondArray>(|row| {
        let unit = unit(call, call.text(2).value(row))?;
        // Whole days change nothing, so that no number is too large.
        let by = (call.int(1).value(row) % (A_DAY / unit)) * sign * unit;
        Ok(Some((call.time(0).value(row) + by).rem_euclid(A_DAY)))
    })
}

fn time_diff(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Int64Array>(|row| {
        let unit = unit(call, call.text(2).value(row))?;
        Ok(Some(call.time(0).value(row) / unit - call.time(1).value(row) / unit))
    })
}

fn time(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if call.len() == 3 {
        let parts = numbers(call, 0)?;
        return call.map::<_, Time64MicrosecondArray>(|row| {
            let since_midnight = clock_of(call, &parts, row)?.signed_duration_since(NaiveTime::MIN);
            Ok(since_midnight.num_microseconds())
        });
    }
    Ok(cast(&local(call)?, call.returns)?)
}
