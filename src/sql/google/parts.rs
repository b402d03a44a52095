//! Parts of dates, and the arithmetic of the calendar by them.

use chrono::{DateTime, Datelike, Duration, Months, NaiveDate, NaiveDateTime, Timelike, Weekday};
use datafusion::common::Result as DataFusionResult;

use crate::error::{Error, list};

/// A part of a date or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A fixed number of microseconds, up to a day.
    Micros(i64),
    /// A week that begins on a day.
    Week(Weekday),
    /// A number of months: 1, 3 or 12.
    Months(i32),
    /// A year of ISO weeks.
    IsoYear,
}

/// The part of one day.
pub(super) const DAY: Part = Part::Micros(86_400_000_000);

const NAMES: &[(&str, Part)] = &[
    ("MICROSECOND", Part::Micros(1)),
    ("MILLISECOND", Part::Micros(1000)),
    ("SECOND", Part::Micros(1_000_000)),
    ("MINUTE", Part::Micros(60_000_000)),
    ("HOUR", Part::Micros(3_600_000_000)),
    ("DAY", DAY),
    ("WEEK", Part::Week(Weekday::Sun)),
    ("ISOWEEK", Part::Week(Weekday::Mon)),
    ("WEEK(SUNDAY)", Part::Week(Weekday::Sun)),
    ("WEEK(MONDAY)", Part::Week(Weekday::Mon)),
    ("WEEK(TUESDAY)", Part::Week(Weekday::Tue)),
    ("WEEK(WEDNESDAY)", Part::Week(Weekday::Wed)),
    ("WEEK(THURSDAY)", Part::Week(Weekday::Thu)),
    ("WEEK(FRIDAY)", Part::Week(Weekday::Fri)),
    ("WEEK(SATURDAY)", Part::Week(Weekday::Sat)),
    ("MONTH", Part::Months(1)),
    ("QUARTER", Part::Months(3)),
    ("YEAR", Part::Months(12)),
    ("ISOYEAR", Part::IsoYear),
];

fn out_of_range() -> Error {
    Error::data("the date is out of range; use years from 1 to 9999")
}

/// A date, or the error that there is none such.
pub(super) fn civil(year: i32, month: u32, day: u32) -> DataFusionResult<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, day)
        .filter(|d| (1..=9999).contains(&d.year()))
        .ok_or_else(|| {
            Error::data(format!(
                "there is no date {year:04}-{month:02}-{day:02}; use one from 0001-01-01 to 9999-12-31"
            ))
            .into()
        })
}

impl Part {
    /// The part of a name, in any case.
    pub(super) fn of(name: &str) -> DataFusionResult<Self> {
        let wanted = name.trim().to_uppercase();
        NAMES
            .iter()
            .find(|(n, _)| *n == wanted)
            .map(|(_, part)| *part)
            .ok_or_else(|| {
                let known = list(NAMES.iter().map(|(n, _)| n), 20);
                Error::request(format!("there is no part of a date '{name}'; write one of {known}")).into()
            })
    }

    /// Whether it is less than a day.
    pub(super) fn is_of_time(self) -> bool {
        matches!(self, Part::Micros(n) if n < 86_400_000_000)
    }

    /// Where the part that a date and time is in begins.
    pub(super) fn floor(self, at: NaiveDateTime) -> DataFusionResult<NaiveDateTime> {
        let date = at.date();
        Ok(match self {
            Part::Micros(n) => {
                let micros = at.and_utc().timestamp_micros();
                let floored = micros - micros.rem_euclid(n);
                DateTime::from_timestamp_micros(floored)
                    .ok_or_else(out_of_range)?
                    .naive_utc()
            }
            Part::Week(start) => back(date, date.weekday().days_since(start))?.into(),
            Part::Months(n) => {
                let month = date.month0() - date.month0() % u32::try_from(n).unwrap_or(1);
                civil(date.year(), month + 1, 1)?.into()
            }
            Part::IsoYear => first_of_iso_year(date.iso_week().year())?.into(),
        })
    }

    /// A date and time with a number of these parts added; a day that its month lacks becomes the month's last.
    pub(super) fn add(self, at: NaiveDateTime, count: i64) -> DataFusionResult<NaiveDateTime> {
        let after = match self {
            Part::Micros(n) => count
                .checked_mul(n)
                .and_then(|micros| at.checked_add_signed(Duration::microseconds(micros))),
            Part::Week(_) => {
                let days = count.checked_mul(7).and_then(Duration::try_days);
                days.and_then(|days| at.checked_add_signed(days))
            }
            Part::Months(n) => {
                let months = count.checked_mul(i64::from(n));
                let size = months
                    .and_then(|m| u32::try_from(m.unsigned_abs()).ok())
                    .map(Months::new);
                match (size, count < 0) {
                    (Some(size), false) => at.checked_add_months(size),
                    (Some(size), true) => at.checked_sub_months(size),
                    (None, _) => None,
                }
            }
            Part::IsoYear => {
                let message = "ISOYEAR cannot be added; write YEAR, or INTERVAL 52 WEEK";
                return Err(Error::request(message).into());
            }
        };
        let in_range = after.filter(|d| (1..=9999).contains(&d.year()));
        Ok(in_range.ok_or_else(out_of_range)?)
    }

    /// How many of its boundaries lie between two times.
    pub(super) fn boundaries(self, to: NaiveDateTime, from: NaiveDateTime) -> i64 {
        let months = |at: NaiveDateTime| i64::from(at.year()) * 12 + i64::from(at.month0());
        match self {
            Part::Micros(n) => {
                let place = |at: NaiveDateTime| at.and_utc().timestamp_micros().div_euclid(n);
                place(to) - place(from)
            }
            Part::Week(start) => {
                let place = |at: NaiveDateTime| {
                    let days = at.and_utc().timestamp().div_euclid(86_400) - i64::from(at.weekday().days_since(start));
                    days.div_euclid(7)
                };
                place(to) - place(from)
            }
            Part::Months(n) => months(to).div_euclid(n.into()) - months(from).div_euclid(n.into()),
            Part::IsoYear => i64::from(to.iso_week().year()) - i64::from(from.iso_week().year()),
        }
    }

    /// The last day of the part that a date is in.
    pub(super) fn last_day(self, date: NaiveDate) -> DataFusionResult<NaiveDate> {
        if self.is_of_time() || self == DAY {
            let message = "LAST_DAY takes no part of less than a week; write WEEK, MONTH, QUARTER or YEAR";
            return Err(Error::request(message).into());
        }
        let first = self.floor(date.into())?;
        let next = match self {
            Part::IsoYear => first_of_iso_year(date.iso_week().year() + 1)?,
            // The last day of 9999 has no day after it.
            Part::Months(12) => return civil(date.year(), 12, 31),
            Part::Months(n) if date.year() == 9999 && date.month0() >= 12 - u32::try_from(n).unwrap_or(0) => {
                return civil(9999, 12, 31);
            }
            _ => self.add(first, 1)?.date(),
        };
        back(next, 1)
    }
}

fn back(date: NaiveDate, days: u32) -> DataFusionResult<NaiveDate> {
    let before = date.checked_sub_signed(Duration::days(i64::from(days)));
    Ok(before.ok_or_else(out_of_range)?)
}

fn first_of_iso_year(year: i32) -> DataFusionResult<NaiveDate> {
    let monday = NaiveDate::from_isoywd_opt(year, 1, Weekday::Mon);
    Ok(monday.ok_or_else(out_of_range)?)
}

/// A part's number, as EXTRACT gives it.
pub(super) fn extract(name: &str, at: NaiveDateTime) -> DataFusionResult<i64> {
    let weeks = |start: Weekday| {
        // The days before the first of these weekdays are in week 0.
        let into = at.weekday().days_since(start);
        (at.ordinal0() + 7 - into) / 7
    };
    let micros = at.nanosecond() % 1_000_000_000 / 1000;
    let number = match name.trim().to_uppercase().as_str() {
        "MICROSECOND" => micros,
        "MILLISECOND" => micros / 1000,
        "SECOND" => at.second(),
        "MINUTE" => at.minute(),
        "HOUR" => at.hour(),
        "DAYOFWEEK" => at.weekday().number_from_sunday(),
        "DAY" => at.day(),
        "DAYOFYEAR" => at.ordinal(),
        "WEEK" => weeks(Weekday::Sun),
        "ISOWEEK" => at.iso_week().week(),
        "MONTH" => at.month(),
        "QUARTER" => at.month0() / 3 + 1,
        "YEAR" => return Ok(at.year().into()),
        "ISOYEAR" => return Ok(at.iso_week().year().into()),
        other => match Part::of(other)? {
            Part::Week(start) => weeks(start),
            _ => return Err(Error::request(format!("EXTRACT takes no part '{name}'; write a part of a date")).into()),
        },
    };
    Ok(number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDateTime {
        text.parse::<NaiveDate>().unwrap().into()
    }

    #[test]
    fn weeks_of_a_year() {
        for (date, week, from_monday, iso) in [
            ("2017-11-05", 45, 44, 44),
            ("2017-11-06", 45, 45, 45),
            ("2017-01-01", 1, 0, 52),
            ("2016-01-01", 0, 0, 53),
            ("2005-01-03", 1, 1, 1),
        ] {
            assert_eq!(extract("WEEK", day(date)).unwrap(), week, "{date}");
            assert_eq!(extract("week(monday)", day(date)).unwrap(), from_monday, "{date}");
            assert_eq!(extract("ISOWEEK", day(date)).unwrap(), iso, "{date}");
        }
    }

    #[test]
    fn last_days() {
        for (date, part, last) in [
            ("2008-11-25", "MONTH", "2008-11-30"),
            ("2008-11-25", "YEAR", "2008-12-31"),
            ("2008-11-10", "WEEK(SUNDAY)", "2008-11-15"),
            ("2008-11-10", "WEEK(MONDAY)", "2008-11-16"),
            ("2008-02-10", "QUARTER", "2008-03-31"),
            ("2015-12-31", "ISOYEAR", "2016-01-03"),
            ("9999-12-05", "MONTH", "9999-12-31"),
            ("9999-11-05", "QUARTER", "9999-12-31"),
        ] {
            let got = Part::of(part).unwrap().last_day(day(date).date()).unwrap();
            assert_eq!(got.to_string(), last, "{date} {part}");
        }
        assert!(Part::of("DAY").unwrap().last_day(day("2020-01-01").date()).is_err());
    }

    #[test]
    fn what_is_no_part() {
        let error = Part::of("FORTNIGHT").unwrap_err().to_string();
        assert!(
            error.contains("there is no part of a date 'FORTNIGHT'; write one of"),
            "{error}"
        );
        assert!(Part::Months(12).add(day("9999-01-01"), 1).is_err());
        assert!(Part::Micros(1).add(day("2000-01-01"), i64::MAX).is_err());
        assert!(Part::Months(12).add(day("2000-01-01"), i64::MIN).is_err());
    }
}
