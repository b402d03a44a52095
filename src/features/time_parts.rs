//! The calendar: the parts of a timestamp that BigQuery ML takes as categories, and ISO dates.

/// A part of a timestamp, in UTC, that is a category of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimePart {
    /// Day of the month, 1 to 31.
    DayOfMonth,
    /// Day of the week, 1 (Sunday) to 7.
    DayOfWeek,
    /// Month of the year, 1 to 12.
    MonthOfYear,
    /// Hour of the day, 0 to 23.
    HourOfDay,
    /// Minute of the hour, 0 to 59.
    MinuteOfHour,
    /// Week of the year, 0 to 53: weeks begin on Sunday, the days before the first Sunday are week 0.
    WeekOfYear,
    /// The year.
    Year,
}

impl TimePart {
    /// Every part, in the order in which [`parts_of`] gives them.
    pub const ALL: [TimePart; 7] = [
        TimePart::DayOfMonth,
        TimePart::DayOfWeek,
        TimePart::MonthOfYear,
        TimePart::HourOfDay,
        TimePart::MinuteOfHour,
        TimePart::WeekOfYear,
        TimePart::Year,
    ];

    /// What BigQuery ML puts before the column's name for this part.
    pub fn prefix(self) -> &'static str {
        match self {
            TimePart::DayOfMonth => "_TS_DOM_",
            TimePart::DayOfWeek => "_TS_DOW_",
            TimePart::MonthOfYear => "_TS_MOY_",
            TimePart::HourOfDay => "_TS_HOD_",
            TimePart::MinuteOfHour => "_TS_MOH_",
            TimePart::WeekOfYear => "_TS_WOY_",
            TimePart::Year => "_TS_YEAR_",
        }
    }

    /// The part with this prefix.
    pub fn of_prefix(prefix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.prefix() == prefix)
    }

    /// The part's place in [`TimePart::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
/// (H. Hinnant, "chrono-compatible low-level date algorithms".)
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date: the inverse of [`civil_from_days`].
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date as text, `2024-02-29`.
pub(crate) fn iso_date(days: i64) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Days since 1970-01-01 of a date as [`iso_date`] writes it; anything else is none.
pub(crate) fn parse_iso_date(text: &str) -> Option<i64> {
    let (rest, day) = text.rsplit_once('-')?;
    let (year, month) = rest.rsplit_once('-')?;
    // A year of this size or more cannot come from any Arrow date; it would overflow the arithmetic.
    let year: i64 = year.parse().ok().filter(|y: &i64| y.abs() < 1_000_000_000_000)?;
    let (month, day) = (month.parse().ok()?, day.parse().ok()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    (iso_date(days) == text).then_some(days)
}

/// The parts of an instant, in the order of [`TimePart::ALL`].
pub(crate) fn parts_of(epoch_seconds: i64) -> [i64; 7] {
    let days = epoch_seconds.div_euclid(86_400);
    let second = epoch_seconds.rem_euclid(86_400);
    let (year, month, day) = civil_from_days(days);
    // 1970-01-01 was a Thursday.
    let weekday = (days + 4).rem_euclid(7);
    let day_of_year = days - days_from_civil(year, 1, 1);
    [
        day,
        weekday + 1,
        month,
        second / 3_600,
        second / 60 % 60,
        (day_of_year + 7 - weekday) / 7,
        year,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_go_there_and_back() {
        for days in (-1_000_000..1_000_000)
            .step_by(997)
            .chain([i64::from(i32::MIN), i64::from(i32::MAX), -1, 0, 1])
        {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert_eq!(parse_iso_date(&iso_date(days)), Some(days));
        }
        assert_eq!(iso_date(0), "1970-01-01");
        assert_eq!(iso_date(19_782), "2024-02-29");
        assert_eq!(parse_iso_date("2023-02-29"), None);
        assert_eq!(parse_iso_date("2023-2-9"), None);
        assert_eq!(parse_iso_date("yesterday"), None);
    }

    #[test]
    fn parts_of_instants() {
        // 2024-02-29 23:59:59 UTC, a Thursday.
        assert_eq!(parts_of(1_709_251_199), [29, 5, 2, 23, 59, 8, 2024]);
        // 2023-01-01 was a Sunday: week 1 begins; the day before is in the last week of 2022.
        assert_eq!(parts_of(1_672_531_200), [1, 1, 1, 0, 0, 1, 2023]);
        assert_eq!(parts_of(1_672_531_199), [31, 7, 12, 23, 59, 52, 2022]);
        // 2022-01-01 was a Saturday: no Sunday yet, week 0.
        assert_eq!(parts_of(1_640_995_200)[5], 0);
        // Before the epoch.
        assert_eq!(parts_of(-1), [31, 4, 12, 23, 59, 52, 1969]);
        for part in TimePart::ALL {
            assert_eq!(TimePart::of_prefix(part.prefix()), Some(part));
            assert_eq!(TimePart::ALL[part.index()], part);
        }
    }
}
