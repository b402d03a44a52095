//! Dates and times as texts by a pattern of `%` elements: FORMAT_… and PARSE_….

use chrono::format::{Item, Parsed, StrftimeItems, parse};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{ArrayRef, Date32Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray};
use datafusion::common::Result as DataFusionResult;

use super::dates::{date_of, days_of, micros_of, moment_of, to_utc, zone};
use super::function::{Call, Kind, Spec, returns_date, returns_moment, returns_text, returns_time};
use super::print::offset;

const FORMAT: Spec = Spec {
    title: "FORMAT_DATE",
    name: "format_date",
    syntax: "FORMAT_DATE(format, date)",
    summary: "A date as a text by a pattern of % elements, such as '%Y-%m-%d' or '%A'.",
    example: "SELECT FORMAT_DATE('%b-%d-%Y', DATE '2008-12-25')",
    takes: &[Kind::Text, Kind::Date],
    least: 2,
    returns: returns_text,
    eval: format_date,
    ..super::function::BASE
};

const PARSE: Spec = Spec {
    title: "PARSE_DATE",
    name: "parse_date",
    syntax: "PARSE_DATE(format, text)",
    summary: "The date in a text that is written by a pattern of % elements; a part that the pattern lacks is that of 1970-01-01.",
    example: "SELECT PARSE_DATE('%Y%m%d', '20081225')",
    takes: &[Kind::Text, Kind::Text],
    returns: returns_date,
    eval: parse_date,
    ..FORMAT
};

pub(super) const ALL: &[Spec] = &[
    FORMAT,
    Spec {
        title: "FORMAT_DATETIME",
        name: "format_datetime",
        syntax: "FORMAT_DATETIME(format, datetime)",
        summary: "A date and time as a text by a pattern of % elements.",
        example: "SELECT FORMAT_DATETIME('%c', DATETIME '2008-12-25 15:30:00')",
        takes: &[Kind::Text, Kind::Moment],
        eval: format_timestamp,
        ..FORMAT
    },
    Spec {
        title: "FORMAT_TIMESTAMP",
        name: "format_timestamp",
        syntax: "FORMAT_TIMESTAMP(format, timestamp [, zone])",
        summary: "A timestamp as a text by a pattern of % elements, in UTC or in a zone.",
        example: "SELECT FORMAT_TIMESTAMP('%b %Y %Ez', TIMESTAMP '2008-12-25 15:30:00+00')",
        takes: &[Kind::Text, Kind::Moment, Kind::Text],
        eval: format_timestamp,
        ..FORMAT
    },
    Spec {
        title: "FORMAT_TIME",
        name: "format_time",
        syntax: "FORMAT_TIME(format, time)",
        summary: "A time of day as a text by a pattern of % elements.",
        example: "SELECT FORMAT_TIME('%R', TIME '15:30:00')",
        takes: &[Kind::Text, Kind::Time],
        eval: format_time,
        ..FORMAT
    },
    PARSE,
    Spec {
        title: "PARSE_DATETIME",
        name: "parse_datetime",
        syntax: "PARSE_DATETIME(format, text)",
        summary: "The date and time in a text that is written by a pattern of % elements.",
        example: "SELECT PARSE_DATETIME('%Y-%m-%d %H:%M:%S', '1998-10-18 13:45:55')",
        returns: returns_moment,
        eval: parse_timestamp,
        ..PARSE
    },
    Spec {
        title: "PARSE_TIMESTAMP",
        name: "parse_timestamp",
        syntax: "PARSE_TIMESTAMP(format, text [, zone])",
        summary: "The timestamp in a text that is written by a pattern of % elements; without %z or %s in it, in UTC or in the zone.",
        example: "SELECT PARSE_TIMESTAMP('%a %b %e %I:%M:%S %Y', 'Thu Dec 25 07:30:00 2008')",
        takes: &[Kind::Text, Kind::Text, Kind::Text],
        returns: returns_moment,
        eval: parse_timestamp,
        ..PARSE
    },
    Spec {
        title: "PARSE_TIME",
        name: "parse_time",
        syntax: "PARSE_TIME(format, text)",
        summary: "The time of day in a text that is written by a pattern of % elements.",
        example: "SELECT PARSE_TIME('%I:%M:%S %p', '2:23:38 pm')",
        returns: returns_time,
        eval: parse_time,
        ..PARSE
    },
];

/// A date and time as the clocks of a zone show it, by a pattern.
fn format(call: &Call<'_>, pattern: &str, local: &DateTime<Tz>) -> DataFusionResult<String> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut element = String::from("%");
        if chars.peek() == Some(&'E') {
            element.extend(chars.next());
            while let Some(digits) = chars.next_if(|c| c.is_ascii_digit() || *c == '*') {
                element.push(digits);
            }
        }
        element.extend(chars.next());
        out += &one(&element, local).ok_or_else(|| {
            call.wrong(format!(
                "the pattern '{pattern}' has an element '{element}' that is not known; write %% for a percent sign"
            ))
        })?;
    }
    Ok(out)
}

/// One element of a pattern.
fn one(element: &str, local: &DateTime<Tz>) -> Option<String> {
    let micros = local.nanosecond() % 1_000_000_000 / 1000;
    Some(match element {
        "%Q" => (local.month0() / 3 + 1).to_string(),
        "%J" => {
            let days = local.date_naive().signed_duration_since(NaiveDate::from_isoywd_opt(
                local.iso_week().year(),
                1,
                chrono::Weekday::Mon,
            )?);
            format!("{:03}", days.num_days() + 1)
        }
        "%P" => local.format("%P").to_string(),
        "%Ez" => offset(local, true),
        "%z" => offset(local, true).replace(':', ""),
        "%Z" if offset(local, true) == "+00:00" => "UTC".into(),
        "%Z" => format!(
            "UTC{}",
            offset(local, true)
                .trim_end_matches(":00")
                .replacen("+0", "+", 1)
                .replacen("-0", "-", 1)
        ),
        "%E4Y" => format!("{:04}", local.year()),
        "%EY" => local.year().to_string(),
        "%Ec" => return one("%c", local),
        "%Ex" => return one("%x", local),
        "%EX" => return one("%X", local),
        "%EC" => return one("%C", local),
        "%Ey" => return one("%y", local),
        "%E*S" => {
            let digits = format!("{micros:06}");
            let digits = digits.trim_end_matches('0');
            let dot = if digits.is_empty() { "" } else { "." };
            format!("{:02}{dot}{digits}", local.second())
        }
        "%%" => "%".into(),
        "%n" => "\n".into(),
        "%t" => "\t".into(),
        _ if element.starts_with("%E") && element.ends_with('S') => {
            let places: usize = element.get(2..element.len() - 1)?.parse().ok()?;
            if places == 0 {
                return one("%S", local);
            }
            let digits = format!("{micros:06}");
            format!(
                "{:02}.{:0<places$}",
                local.second(),
                digits.get(..places.min(6))?,
                places = places.min(12)
            )
        }
        _ => {
            let letter = element.chars().nth(1).filter(|_| element.len() == 2)?;
            if !"AaBbCcDdeFGgHhIjklMmpRSsTUuVWwXxYy".contains(letter) {
                return None;
            }
            local.format(element).to_string()
        }
    })
}

fn utc() -> DataFusionResult<Tz> {
    zone("UTC")
}

fn format_date(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let utc = utc()?;
    call.map::<_, StringArray>(|row| {
        let at = utc.from_utc_datetime(&date_of(call.date(1).value(row))?.into());
        format(call, call.text(0).value(row), &at).map(Some)
    })
}

fn format_timestamp(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let utc = utc()?;
    call.map::<_, StringArray>(|row| {
        let at = moment_of(call.moment(1).value(row))?;
        let zone = if call.len() > 2 {
            zone(call.text(2).value(row))?
        } else {
            utc
        };
        format(call, call.text(0).value(row), &zone.from_utc_datetime(&at)).map(Some)
    })
}

fn format_time(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    let utc = utc()?;
    call.map::<_, StringArray>(|row| {
        let at = utc.from_utc_datetime(&moment_of(call.time(1).value(row))?);
        format(call, call.text(0).value(row), &at).map(Some)
    })
}

/// What a pattern finds in a text.
struct Found {
    local: NaiveDateTime,
    /// The seconds of the zone that the text names.
    offset: Option<i32>,
}

/// A pattern as chrono writes it.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out += &rest[..at];
        rest = &rest[at..];
        let digits = rest
            .strip_prefix("%E")
            .map(|r| r.trim_start_matches(|c: char| c.is_ascii_digit() || c == '*'));
        let (element, length) = match digits {
            Some(after) if after.starts_with('S') => ("%S%.f".to_string(), rest.len() - after.len() + 1),
            Some(after) if after.starts_with('z') => ("%:z".into(), rest.len() - after.len() + 1),
            Some(after) => {
                let letter: String = after.chars().take(1).collect();
                (format!("%{letter}"), rest.len() - after.len() + letter.len())
            }
            None => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                let element = match &rest[..length] {
                    "%n" | "%t" => " ".to_string(),
                    // Chrono has "%e" and its like for days of one digit, and takes them with "%d" too.
                    "%k" => "%H".into(),
                    "%l" => "%I".into(),
                    "%e" => "%d".into(),
                    "%h" => "%b".into(),
                    "%P" => "%p".into(),
                    "%z" => "%#z".into(),
                    other => other.into(),
                };
                (element, length)
            }
        };
        out += &element;
        rest = &rest[length..];
    }
    out + rest
}

fn read(call: &Call<'_>, pattern: &str, text: &str) -> DataFusionResult<Found> {
    let translated = translated(pattern);
    let items: Vec<Item<'_>> = StrftimeItems::new(&translated).collect();
    if items.contains(&Item::Error) {
        return Err(call.wrong(format!(
            "the pattern '{pattern}' has an element that is not known; write %% for a percent sign"
        )));
    }
    let mismatch = || {
        call.wrong(format!(
            "'{text}' is not written as the pattern '{pattern}' says; write SAFE.{}(…) for NULL",
            call.title
        ))
    };
    let mut parsed = Parsed::new();
    parse(&mut parsed, text.trim(), items.iter()).map_err(|_| mismatch())?;
    if let Some(seconds) = parsed.timestamp() {
        let at = DateTime::from_timestamp(seconds, 0).ok_or_else(mismatch)?;
        return Ok(Found {
            local: at.naive_utc(),
            offset: Some(0),
        });
    }
    // What is not said is as in 1970-01-01 00:00:00; a part that was said refuses another value.
    let by_week = parsed.isoweek().is_some() || parsed.week_from_sun().is_some() || parsed.week_from_mon().is_some();
    if parsed.year().is_none()
        && parsed.year_div_100().is_none()
        && parsed.year_mod_100().is_none()
        && parsed.isoyear().is_none()
    {
        let _ = parsed.set_year(1970);
    }
    if parsed.ordinal().is_none() && !by_week {
        if parsed.month().is_none() {
            let _ = parsed.set_month(1);
        }
        if parsed.day().is_none() {
            let _ = parsed.set_day(1);
        }
    } else if by_week && parsed.weekday().is_none() {
        let first = if parsed.week_from_sun().is_some() {
            chrono::Weekday::Sun
        } else {
            chrono::Weekday::Mon
        };
        let _ = parsed.set_weekday(first);
    }
    match (parsed.hour_div_12(), parsed.hour_mod_12()) {
        (None, None) => {
            let _ = parsed.set_hour(0);
        }
        (None, Some(_)) => {
            let _ = parsed.set_ampm(false);
        }
        _ => {}
    }
    if parsed.minute().is_none() {
        let _ = parsed.set_minute(0);
    }
    let date = parsed.to_naive_date().map_err(|_| mismatch())?;
    let date = super::parts::civil(date.year(), date.month(), date.day())?;
    let time = parsed.to_naive_time().map_err(|_| mismatch())?;
    Ok(Found {
        local: date.and_time(time),
        offset: parsed.offset(),
    })
}

fn parse_date(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Date32Array>(|row| {
        Ok(Some(days_of(
            read(call, call.text(0).value(row), call.text(1).value(row))?
                .local
                .date(),
        )))
    })
}

fn parse_timestamp(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, TimestampMicrosecondArray>(|row| {
        let found = read(call, call.text(0).value(row), call.text(1).value(row))?;
        Ok(Some(match found.offset {
            Some(seconds) => micros_of(found.local) - i64::from(seconds) * 1_000_000,
            None if call.len() > 2 => micros_of(to_utc(found.local, &zone(call.text(2).value(row))?)?),
            None => micros_of(found.local),
        }))
    })
}

fn parse_time(call: &Call<'_>) -> DataFusionResult<ArrayRef> {
    call.map::<_, Time64MicrosecondArray>(|row| {
        let found = read(call, call.text(0).value(row), call.text(1).value(row))?;
        Ok(found
            .local
            .time()
            .signed_duration_since(NaiveTime::MIN)
            .num_microseconds())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'a>() -> Call<'a> {
        Call {
            title: "PARSE_TIMESTAMP",
            rows: 1,
            arrays: &[],
            returns: &super::super::function::MOMENT,
        }
    }

    #[test]
    fn patterns_are_written() {
        let at: NaiveDateTime = "2008-12-25T15:30:05.123".parse().unwrap();
        for (pattern, zone_name, text) in [
            ("%x", "UTC", "12/25/08"),
            ("%b-%d-%Y", "UTC", "Dec-25-2008"),
            ("%b %Y", "UTC", "Dec 2008"),
            ("%c", "UTC", "Thu Dec 25 15:30:05 2008"),
            ("%Q %J %j %u %w %V %G", "UTC", "4 361 360 4 4 52 2008"),
            ("%E3S|%E*S|%E1S|%S", "UTC", "05.123|05.123|05.1|05"),
            ("%Y-%m-%dT%H:%M:%SZ", "UTC", "2008-12-25T15:30:05Z"),
            ("%Ez %z %Z", "America/Los_Angeles", "-08:00 -0800 UTC-8"),
            ("%I:%M %p%%", "America/Los_Angeles", "07:30 AM%"),
            ("%s %y %C %D %R", "UTC", "1230219005 08 20 12/25/08 15:30"),
        ] {
            let local = zone(zone_name).unwrap().from_utc_datetime(&at);
            assert_eq!(format(&call(), pattern, &local).unwrap(), text, "{pattern}");
        }
        let local = zone("UTC").unwrap().from_utc_datetime(&at);
        let error = format(&call(), "%Y %L", &local).unwrap_err().to_string();
        assert!(error.contains("'%L'"), "{error}");
        assert!(format(&call(), "%", &local).is_err());
    }

    #[test]
    fn patterns_are_read() {
        for (pattern, text, at) in [
            ("%x", "12/25/08", "2008-12-25 00:00:00"),
            ("%Y%m%d", "20081225", "2008-12-25 00:00:00"),
            ("%F", "2000-12-30", "2000-12-30 00:00:00"),
            ("%c", "Thu Dec 25 07:30:00 2008", "2008-12-25 07:30:00"),
            (
                "%a %b %e %I:%M:%S %Y",
                "Thu Dec 25 07:30:00 2008",
                "2008-12-25 07:30:00",
            ),
            ("%m/%d/%Y %I:%M:%S %p", "8/30/2018 2:23:38 pm", "2018-08-30 14:23:38"),
            ("%Y", "2008", "2008-01-01 00:00:00"),
            ("%H", "15", "1970-01-01 15:00:00"),
            ("%A, %B %e, %Y", "Wednesday, December 19, 2018", "2018-12-19 00:00:00"),
            (
                "%Y-%m-%dT%H:%M:%E*S%Ez",
                "2008-12-25T15:30:05.250+02:00",
                "2008-12-25 15:30:05.250",
            ),
            ("%s", "1230219000", "2008-12-25 15:30:00"),
            ("%Y-%j", "2008-360", "2008-12-25 00:00:00"),
        ] {
            let found = read(&call(), pattern, text).unwrap_or_else(|e| panic!("{pattern} {text}: {e}"));
            assert_eq!(found.local.to_string(), at, "{pattern} {text}");
        }
        for (pattern, text) in [
            ("%Y-%m-%d", "2008-13-01"),
            ("%Y-%m-%d", "2008-02-30"),
            ("%Y-%m-%d", "2008"),
            ("%Y", "2008 x"),
            ("%O", "1"),
        ] {
            assert!(read(&call(), pattern, text).is_err(), "{pattern} {text}");
        }
    }
}
