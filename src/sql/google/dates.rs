//! Functions of dates and timestamps: differences, sums, truncation and parts.

use std::sync::Arc;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Date32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::Result as DataFusionResult;

use super::function::{Call, Kind, MOMENT, Spec, returns_date, returns_first, returns_int, returns_moment};
pub(super) use super::parts::civil;
use super::parts::{DAY, Part, extract};
use crate::error::Error;

/// Most functions here give a whole number.
const BASE: Spec = Spec {
    returns: returns_int,
    ..super::function::BASE
};

pub(super) const ALL: &[Spec] = &[
    Spec {
        title: "DATE_DIFF",
        name: "date_diff",
        syntax: "DATE_DIFF(end, start, part)",
        summary: "How many boundaries of a part (DAY, WEEK, WEEK(MONDAY), ISOWEEK, MONTH, QUARTER, YEAR, ISOYEAR) lie from start to end.",
        example: "SELECT DATE_DIFF(DATE '2017-10-15', DATE '2017-10-14', WEEK)",
        takes: &[Kind::DateOr, Kind::DateOr, Kind::Text],
        least: 3,
        eval: boundaries,
        ..BASE
    },
    Spec {
        title: "DATETIME_DIFF",
        name: "datetime_diff",
        syntax: "DATETIME_DIFF(end, start, part)",
        summary: "How many boundaries of a part lie from start to end; parts below the day too.",
        example: "SELECT DATETIME_DIFF(DATETIME '2010-07-07 10:20:00', DATETIME '2008-12-25 15:30:00', DAY)",
        takes: &[Kind::Moment, Kind::Moment, Kind::Text],
        least: 3,
        eval: boundaries,
        ..BASE
    },
    Spec {
        title: "TIMESTAMP_DIFF",
        name: "timestamp_diff",
        syntax: "TIMESTAMP_DIFF(end, start, part)",
        summary: "How many whole parts (MICROSECOND to DAY) fit between start and end, towards zero.",
        example: "SELECT TIMESTAMP_DIFF(TIMESTAMP '2010-07-07 10:20:00+00', TIMESTAMP '2008-12-25 15:30:00+00', HOUR)",
        takes: &[Kind::Moment, Kind::Moment, Kind::Text],
        least: 3,
        eval: whole_parts,
        ..BASE
    },
    add(
        "DATE_ADD",
        "date_add",
        "DATE_ADD(date, INTERVAL n part)",
        "SELECT DATE_ADD(DATE '2008-12-25', INTERVAL 5 DAY)",
    ),
    subtract(
        "DATE_SUB",
        "date_sub",
        "DATE_SUB(date, INTERVAL n part)",
        "SELECT DATE_SUB(DATE '2008-12-25', INTERVAL 5 DAY)",
    ),
    Spec {
        takes: &[Kind::Zoned, Kind::Int, Kind::Text],
        ..add(
            "DATETIME_ADD",
            "datetime_add",
            "DATETIME_ADD(datetime, INTERVAL n part)",
            "SELECT DATETIME_ADD(DATETIME '2008-12-25 15:30:00', INTERVAL 10 MINUTE)",
        )
    },
    Spec {
        takes: &[Kind::Zoned, Kind::Int, Kind::Text],
        ..subtract(
            "DATETIME_SUB",
            "datetime_sub",
            "DATETIME_SUB(datetime, INTERVAL n part)",
            "SELECT DATETIME_SUB(DATETIME '2008-12-25 15:30:00', INTERVAL 1 MONTH)",
        )
    },
    Spec {
        takes: &[Kind::Zoned, Kind::Int, Kind::Text],
        ..add(
            "TIMESTAMP_ADD",
            "timestamp_add",
            "TIMESTAMP_ADD(timestamp, INTERVAL n part)",
            "SELECT TIMESTAMP_ADD(TIMESTAMP '2008-12-25 15:30:00+00', INTERVAL 10 MINUTE)",
        )
    },
    Spec {
        takes: &[Kind::Zoned, Kind::Int, Kind::Text],
        ..subtract(
            "TIMESTAMP_SUB",
            "timestamp_sub",
            "TIMESTAMP_SUB(timestamp, INTERVAL n part)",
            "SELECT TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)",
        )
    },
    truncate(
        "DATE_TRUNC",
        "google_date_trunc",
        "DATE_TRUNC(date, part)",
        "SELECT DATE_TRUNC(DATE '2008-12-25', WEEK(MONDAY))",
    ),
    Spec {
        takes: &[Kind::Zoned, Kind::Text, Kind::Text],
        ..truncate(
            "DATETIME_TRUNC",
            "datetime_trunc",
            "DATETIME_TRUNC(datetime, part)",
            "SELECT DATETIME_TRUNC(DATETIME '2008-12-25 15:30:00', HOUR)",
        )
    },
    Spec {
        takes: &[Kind::Zoned, Kind::Text, Kind::Text],
        ..truncate(
            "TIMESTAMP_TRUNC",
            "timestamp_trunc",
            "TIMESTAMP_TRUNC(timestamp, part [, zone])",
            "SELECT TIMESTAMP_TRUNC(TIMESTAMP '2008-12-25 15:30:00+00', DAY, 'America/Los_Angeles')",
        )
    },
    Spec {
        title: "LAST_DAY",
        name: "last_day",
        syntax: "LAST_DAY(date [, part])",
        summary: "The last day of the part that a date is in; without a part, of its month.",
        example: "SELECT LAST_DAY(DATE '2008-11-25', QUARTER)",
        takes: &[Kind::Date, Kind::Text],
        returns: returns_date,
        eval: last_day,
        ..BASE
    },
    Spec {
        title: "EXTRACT",
        name: "google_extract",
        syntax: "EXTRACT(part FROM value [AT TIME ZONE zone])",
        summary: "A part of a date or timestamp as a number: all that BigQuery has, DAYOFWEEK from 1 for Sunday.",
        example: "SELECT EXTRACT(WEEK(MONDAY) FROM DATE '2017-11-05')",
        takes: &[Kind::Zoned, Kind::Text, Kind::Text],
        least: 2,
        eval: extracted,
        ..BASE
    },
    Spec {
        title: "DATE",
        name: "google_date",
        syntax: "DATE(year, month, day), DATE(timestamp [, zone])",
        summary: "A date of three numbers, or the one that a timestamp or a text has, in UTC or in a zone.",
        example: "SELECT DATE(2016, 12, 25)",
        takes: &[Kind::Any, Kind::Any, Kind::Int],
        returns: returns_date,
        eval: date,
        ..BASE
    },
    Spec {
        title: "DATETIME",
        name: "google_datetime",
        syntax: "DATETIME(year, month, day, hour, minute, second), DATETIME(date, time), DATETIME(timestamp [, zone])",
        summary: "A date and time of six numbers, of a date and a time, or as a timestamp has it in a zone.",
        example: "SELECT DATETIME(2008, 12, 25, 5, 30, 0)",
        takes: &[Kind::Any, Kind::Any, Kind::Int, Kind::Int, Kind::Int, Kind::Int],
        returns: returns_moment,
        eval: datetime,
        ..BASE
    },
    Spec {
        title: "TIMESTAMP",
        name: "google_timestamp",
        syntax: "TIMESTAMP(value [, zone])",
        summary: "The timestamp of a text, a date or a datetime, which is taken in UTC or in a zone.",
        example: "SELECT TIMESTAMP('2008-12-25 15:30:00', 'America/Los_Angeles')",
        takes: &[Kind::Moment, Kind::Text],
        returns: returns_moment,
        eval: timestamp,
        ..BASE
    },
];

const fn add(title: &'static str, name: &'static str, syntax: &'static str, example: &'static str) -> Spec {
    Spec {
        title,
        name,
        syntax,
        summary: "A number of parts added; a day that the month lacks becomes its last. Elsewhere than in BigQuery's dialect the interval is written as two arguments: n, 'part'.",
        example,
        takes: &[Kind::DateOr, Kind::Int, Kind::Text],
        least: 3,
        returns: returns_first,
        eval: |call| shift(call, 1),
        ..BASE
    }
}

const fn subtract(title: &'static str, name: &'static str, syntax: &'static str, example: &'static str) -> Spec {
    Spec {
        summary: "A number of parts subtracted; a day that the month lacks becomes its last. Elsewhere than in BigQuery's dialect the interval is written as two arguments: n, 'part'.",
        eval: |call| shift(call, -1),
        ..add(title, name, syntax, example)
    }
}

const fn truncate(title: &'static str, name: &'static str, syntax: &'static str, example: &'static str) -> Spec {
    Spec {
        title,
        name,
        syntax,
        summary: "Where the part begins that a value is in; the type is the value's.",
        example,
        takes: &[Kind::DateOr, Kind::Text, Kind::Text],
        least: 2,
        returns: returns_first,
        eval: floor,
        ..BASE
    }
}

/// A zone by its name or offset.
pub(super) fn zone(name: &str) -> DataFusionResult<Tz> {
    // `+1` and `-8` too, as GoogleSQL takes them.
    let padded = match name.as_bytes() {
        [sign @ (b'+' | b'-'), hour] if hour.is_ascii_digit() => {
            Some(format!("{}0{}:00", char::from(*sign), char::from(*hour)))
        }
        [b'+' | b'-', h1, h2] if h1.is_ascii_digit() && h2.is_ascii_digit() => Some(format!("{name}:00")),
        _ => None,
    };
    padded.as_deref().unwrap_or(name).parse().map_err(|_| {
        let message =
            format!("there is no time zone '{name}'; write one such as 'UTC', 'America/New_York' or '+02:00'");
        Error::data(message).into()
    })
}

/// The date so many days after 1970-01-01.
pub(super) fn date_of(days: i32) -> DataFusionResult<NaiveDate> {
    NaiveDate::from_epoch_days(days)
        .filter(|d| (1..=9999).contains(&d.year()))
        .ok_or_else(|| {
            Error::data(format!(
                "the date {days} days after 1970-01-01 is out of range; use years from 1 to 9999"
            ))
            .into()
        })
}

/// The days from 1970-01-01 to a date.
pub(super) fn days_of(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

/// The date and time so many microseconds after 1970-01-01.
pub(super) fn moment_of(micros: i64) -> DataFusionResult<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros)
        .map(|at| at.naive_utc())
        .ok_or_else(|| {
            Error::data(format!(
                "the timestamp of {micros} microseconds is out of range; use years from 1 to 9999"
            ))
            .into()
        })
}

/// The microseconds from 1970-01-01 to a date and time.
pub(super) fn micros_of(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp_micros()
}

/// A time in UTC, as the clocks of a zone show it.
pub(super) fn to_local(at: NaiveDateTime, zone: &Tz) -> NaiveDateTime {
    zone.from_utc_datetime(&at).naive_local()
}

/// A time that the clocks of a zone show, in UTC: the earlier one of two, and the first after a gap.
pub(super) fn to_utc(local: NaiveDateTime, zone: &Tz) -> DataFusionResult<NaiveDateTime> {
    if let Some(at) = zone.from_local_datetime(&local).earliest() {
        return Ok(at.naive_utc());
    }
    let before = Part::Micros(3_600_000_000).add(local, -3)?;
    let offset = before
        - zone
            .from_local_datetime(&before)
            .earliest()
            .map_or(before, |at| at.naive_utc());
    local
        .checked_sub_signed(offset)
        .ok_or_else(|| Error::data("the timestamp is out of range; use years from 1 to 9999").into())
}

/// A value of argument `i` that is a date or a timestamp.
fn value(call: &Call<'_>, i: usize, row: usize) -> DataFusionResult<NaiveDateTime> {
    if call.is_date(i) {
        return date_of(call.date(i).value(row)).map(Into::into);
    }
    moment_of(call.moment(i).value(row))
}

/// Values of the type of the first argument, of each row.
fn like_first(
    call: &Call<'_>,
    mut value: impl FnMut(usize) -> DataFusionResult<NaiveDateTime>,
) -> DataFusionResult<ArrayRef> {
    if call.is_date(0) {
        return call.map::<_, Date32Array>(|row| Ok(Some(days_of(value(row)?.date()))));
    }
    let moments = call.map::<_, TimestampMicrosecondArray>(|row| Ok(Some(micros_of(value(row)?))))?;
    match call.arrays[0].data_type() {
        DataType::Timestamp(_, zone) => {
            let moments = moments.as_primitive::<TimestampMicrosecondType>().clone();
            Ok(Arc::new(moments.with_timezone_opt(zone.clone())))
        }
        _ => Ok(moments),
    }
}

fn boundaries(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Int64Array>(|row| {
        let part = Part::of(call.text(2).value(row))?;
        Ok(Some(part.boundaries(value(call, 0, row)?, value(call, 1, row)?)))
    })
}

fn whole_parts(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Int64Array>(|row| {
        let name = call.text(2).value(row);
        let Part::Micros(unit) = Part::of(name)? else {
            return Err(call.wrong(format!(
                "it takes no part {name}, which is no fixed time; write DAY, or DATE_DIFF(DATE(…), DATE(…), {name})"
            )));
        };
        let apart = call.moment(0).value(row).checked_sub(call.moment(1).value(row));
        Ok(Some(
            apart.ok_or_else(|| call.wrong("the timestamps are too far apart"))? / unit,
        ))
    })
}

fn shift(call: &Call<'_>, sign: i64) -> DataFusionResult<ArrayRef> {
    like_first(call, |row| {
        let name = call.text(2).value(row);
        let part = Part::of(name)?;
        if call.is_date(0) && part.is_of_time() {
            return Err(call.wrong(format!(
                "a date has no part {name}; write DATETIME_ADD(DATETIME(date), INTERVAL … {name})"
            )));
        }
        let count = call.int(1).value(row).checked_mul(sign);
        part.add(
            value(call, 0, row)?,
            count.ok_or_else(|| call.wrong("the interval is too long"))?,
        )
    })
}

fn floor(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    like_first(call, |row| {
        let name = call.text(1).value(row);
        let part = Part::of(name)?;
        if call.is_date(0) && part.is_of_time() {
            return Err(call.wrong(format!(
                "a date has no part {name}; write DAY, WEEK, MONTH, QUARTER or YEAR"
            )));
        }
        let at = value(call, 0, row)?;
        if call.len() < 3 || call.is_date(0) {
            return part.floor(at);
        }
        let zone = zone(call.text(2).value(row))?;
        to_utc(part.floor(to_local(at, &zone))?, &zone)
    })
}

fn last_day(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Date32Array>(|row| {
        let part = if call.len() > 1 {
            Part::of(call.text(1).value(row))?
        } else {
            Part::Months(1)
        };
        Ok(Some(days_of(part.last_day(date_of(call.date(0).value(row))?)?)))
    })
}

fn extracted(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Int64Array>(|row| {
        let at = value(call, 0, row)?;
        let at = if call.len() > 2 {
            to_local(at, &zone(call.text(2).value(row))?)
        } else {
            at
        };
        extract(call.text(1).value(row), at).map(Some)
    })
}

/// Numbers as parts of a date or time, from argument `from` on.
pub(super) fn numbers<'a>(call: &'a Call<'_>, from: usize) -> DataFusionResult<Vec<Int64Array>> {
    let number = |values: &'a ArrayRef| {
        if !values.data_type().is_integer() {
            return Err(call.wrong(format!(
                "its parts are whole numbers, but one is {}; cast it to INT64",
                values.data_type()
            )));
        }
        Ok(cast(values, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    call.arrays[from..].iter().map(number).collect()
}

fn civil_of(parts: &[Int64Array], row: usize) -> DataFusionResult<NaiveDate> {
    let part = |i: usize| parts.get(i).map_or(0, |p| p.value(row));
    civil(
        i32::try_from(part(0)).unwrap_or(i32::MAX),
        u32::try_from(part(1)).unwrap_or(0),
        u32::try_from(part(2)).unwrap_or(0),
    )
}

pub(super) fn clock_of(call: &Call<'_>, parts: &[Int64Array], row: usize) -> DataFusionResult<NaiveTime> {
    let part = |i: usize| parts.get(i).map_or(0, |p| p.value(row));
    let small = |i: usize| u32::try_from(part(i)).unwrap_or(u32::MAX);
    NaiveTime::from_hms_opt(small(0), small(1), small(2)).ok_or_else(|| {
        call.wrong(format!(
            "there is no time {:02}:{:02}:{:02}; use 00:00:00 to 23:59:59",
            part(0),
            part(1),
            part(2)
        ))
    })
}

/// A timestamp, a date or a text of the first argument, in the zone of the second, if there is one.
pub(super) fn local(call: &Call<'_>) -> DataFusionResult<TimestampMicrosecondArray> {
    let given = call.arrays[0].data_type();
    if !(given.is_string() || given.is_temporal() || *given == DataType::Boolean) {
        return Err(call.wrong(format!(
            "it takes no {given} alone; write a timestamp, a date or a text"
        )));
    }
    let moments = match given {
        DataType::Boolean => Arc::new(TimestampMicrosecondArray::new_null(call.rows)) as ArrayRef,
        _ => cast(&call.arrays[0], &MOMENT)?,
    };
    let moments = moments.as_primitive::<TimestampMicrosecondType>();
    if call.len() == 1 {
        return Ok(moments.clone());
    }
    if !call.arrays[1].data_type().is_string() {
        let other = call.arrays[1].data_type();
        return Err(call.wrong(format!(
            "its second argument is a zone, but is {other}; write one such as 'America/New_York'"
        )));
    }
    let zones = cast(&call.arrays[1], &DataType::Utf8)?;
    let zones = zones.as_string::<i32>();
    let values = call.map::<_, TimestampMicrosecondArray>(|row| {
        let at = to_local(moment_of(moments.value(row))?, &zone(zones.value(row))?);
        Ok(Some(micros_of(at)))
    })?;
    Ok(values.as_primitive::<TimestampMicrosecondType>().clone())
}

fn date(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if call.len() == 3 {
        let parts = numbers(call, 0)?;
        return call.map::<_, Date32Array>(|row| Ok(Some(days_of(civil_of(&parts, row)?))));
    }
    Ok(cast(&local(call)?, &DataType::Date32)?)
}

fn datetime(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let is_time = |t: &DataType| matches!(t, DataType::Time32(_) | DataType::Time64(_));
    match call.arrays {
        [_] => return Ok(Arc::new(local(call)?)),
        [dates, times] if is_time(times.data_type()) => {
            let (dates, times) = (
                cast(dates, &DataType::Date32)?,
                cast(
                    times,
                    &DataType::Time64(datafusion::arrow::datatypes::TimeUnit::Microsecond),
                )?,
            );
            let (dates, times) = (
                dates.as_primitive::<Date32Type>(),
                times.as_primitive::<datafusion::arrow::datatypes::Time64MicrosecondType>(),
            );
            return call.map::<_, TimestampMicrosecondArray>(|row| {
                Ok(Some(i64::from(dates.value(row)) * 86_400_000_000 + times.value(row)))
            });
        }
        [_, _] => return Ok(Arc::new(local(call)?)),
        [_, _, _, _, _, _] => {}
        others => return Err(call.wrong(format!("it takes 1, 2 or 6 arguments, not {}", others.len()))),
    }
    let parts = numbers(call, 0)?;
    call.map::<_, TimestampMicrosecondArray>(|row| {
        let time = clock_of(call, &parts[3..], row)?;
        Ok(Some(micros_of(civil_of(&parts, row)?.and_time(time))))
    })
}

fn timestamp(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    if call.len() == 1 {
        return Ok(Arc::clone(&call.arrays[0]));
    }
    call.map::<_, TimestampMicrosecondArray>(|row| {
        let at = to_utc(value(call, 0, row)?, &zone(call.text(1).value(row))?)?;
        Ok(Some(micros_of(at)))
    })
}

/// The part of one day, which GENERATE_DATE_ARRAY steps by if nothing else is said.
pub(super) const ONE_DAY: Part = DAY;
