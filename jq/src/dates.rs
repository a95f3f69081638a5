//! The dates of jq: broken-down times in UTC, `strptime` and `strftime`. They behave as in the C
//! library, which jq uses. This module does not use [`Value`](crate::Value), reads no clock, and
//! has no time zone except UTC.

mod strftime;
mod strptime;
#[cfg(test)]
mod tests;

pub(crate) use strftime::strftime;
pub(crate) use strptime::strptime;

const SECONDS_A_DAY: i64 = 86_400;
const DAYS_A_WEEK: i64 = 7;
const MONTHS_A_YEAR: i64 = 12;

/// How many days of the year are before each month; the last number is the length of the year. The
/// second row is for leap years.
const DAYS_BEFORE: [[i64; 13]; 2] = [
    [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365],
    [0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335, 366],
];

/// A broken-down time. The fields count as in C: months, days of the week and days of the year
/// begin at 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct BrokenDown {
    /// The year itself, not the years since 1900.
    pub year: i64,
    /// Counted from 0.
    pub month: i64,
    /// Counted from 1.
    pub day: i64,
    /// Counted from 0.
    pub hour: i64,
    /// Counted from 0.
    pub minute: i64,
    /// Counted from 0.
    pub second: i64,
    /// Counted from 0, which is Sunday.
    pub weekday: i64,
    /// Counted from 0.
    pub yearday: i64,
}

impl BrokenDown {
    /// Converts the numbers of jq's array. Only the first eight numbers are used, and any of them
    /// may be missing. Numbers out of their ranges are normalised, such as minute 60 to the next
    /// hour, unless the resulting year is out of range.
    pub(crate) fn from_numbers(numbers: &[f64]) -> Self {
        let field = |index: usize| numbers.get(index).map_or(0, |&number| to_c_int(number));
        let raw = Self {
            year: numbers
                .first()
                .map_or(1900, |&year| to_c_int(year - 1900.0) + 1900),
            month: field(1),
            day: field(2),
            hour: field(3),
            minute: field(4),
            second: field(5),
            weekday: field(6),
            yearday: field(7),
        };
        // If C's function fails, it does not change the fields. It returns -1, which is also its
        // result for the last second before 1970.
        raw.timestamp()
            .filter(|&timestamp| timestamp != -1)
            .and_then(Self::from_timestamp)
            .unwrap_or(raw)
    }

    /// Returns the fields in jq's order.
    pub(crate) fn to_numbers(self) -> [i64; 8] {
        [
            self.c_year(),
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.weekday,
            self.yearday,
        ]
    }

    /// Returns the year as C computes it: C adds 1900 to a field of 32 bits, so a year beyond
    /// 2,147,483,647 becomes negative.
    fn c_year(&self) -> i64 {
        const RANGE: i64 = 1 << 32;
        (self.year + RANGE / 2).rem_euclid(RANGE) - RANGE / 2
    }

    /// Converts seconds since 1970. `None` if the year does not fit into C's fields.
    fn from_timestamp(timestamp: i64) -> Option<Self> {
        let days = timestamp.div_euclid(SECONDS_A_DAY);
        let seconds = timestamp.rem_euclid(SECONDS_A_DAY);
        let year = year_of(days);
        if !is_c_int(year - 1900) {
            return None;
        }
        let yearday = days - days_before_year(year);
        let starts = DAYS_BEFORE[usize::from(is_leap(year))];
        let month = starts.iter().rposition(|&start| start <= yearday)?;
        Some(Self {
            year,
            month: i64::try_from(month).ok()?,
            day: yearday - starts[month] + 1,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            // 1970 began on a Thursday.
            weekday: (days + 4).rem_euclid(DAYS_A_WEEK),
            yearday,
        })
    }

    /// Returns the seconds since 1970. The fields may be out of their ranges. `None` if the
    /// resulting year does not fit into C's fields.
    fn timestamp(&self) -> Option<i64> {
        let year = self.year + self.month.div_euclid(MONTHS_A_YEAR);
        let month = usize::try_from(self.month.rem_euclid(MONTHS_A_YEAR)).ok()?;
        let days =
            days_before_year(year) + DAYS_BEFORE[usize::from(is_leap(year))][month] + self.day - 1;
        let timestamp = days * SECONDS_A_DAY + self.hour * 3600 + self.minute * 60 + self.second;
        Self::from_timestamp(timestamp).map(|_| timestamp)
    }
}

/// Returns the broken-down time of `seconds` since 1970, and its second with the fraction.
///
/// # Errors
/// jq's sentence if the year is out of range.
pub(crate) fn gmtime(seconds: f64) -> Result<(BrokenDown, f64), String> {
    const FAILED: &str = "error converting number of seconds since epoch to datetime";
    let whole = to_c_long(seconds).ok_or(FAILED)?;
    let broken_down = BrokenDown::from_timestamp(whole).ok_or(FAILED)?;
    #[expect(clippy::cast_precision_loss, reason = "at most 59")]
    let second = broken_down.second as f64;
    // jq rounds the seconds towards zero, but computes the fraction from the next lower whole
    // number. For example, -1.5 becomes -1 with the fraction 0.5.
    Ok((broken_down, second + (seconds - seconds.floor())))
}

/// Converts the numbers of a broken-down time to seconds since 1970.
///
/// # Errors
/// jq's sentence if the year is out of range, and also for the last two seconds before 1970, which
/// jq mistakes for errors.
pub(crate) fn mktime(numbers: &[f64]) -> Result<i64, String> {
    match BrokenDown::from_numbers(numbers).timestamp() {
        None | Some(-1) => Err("invalid gmtime representation".to_owned()),
        Some(-2) => Err("mktime not supported on this platform".to_owned()),
        Some(timestamp) => Ok(timestamp),
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Returns how many days are between the first day of 1970 and the first day of `year`.
fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    // The leap days of the years 1 to 1969.
    before * 365 + leap_days - (1969 * 365 + 477)
}

/// Returns the year of the day that is `days` after the first day of 1970.
fn year_of(days: i64) -> i64 {
    // 146,097 days are 400 years. The estimate is at most one year off, and no day of 64-bit
    // seconds overflows it.
    let mut year = 1970 + (days * 400).div_euclid(146_097);
    while days < days_before_year(year) {
        year -= 1;
    }
    while days >= days_before_year(year + 1) {
        year += 1;
    }
    year
}

fn is_c_int(number: i64) -> bool {
    i32::try_from(number).is_ok()
}

/// Converts a number as jq does when it stores it in a field of C's structure.
fn to_c_int(number: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "numbers outside of the range become its ends, as in jq"
    )]
    let int = number as i32;
    i64::from(int)
}

/// Converts a number to a 64-bit integer, as C does. `None` if the number is out of range.
fn to_c_long(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked, and the fraction is cut on purpose"
    )]
    (-LIMIT..LIMIT).contains(&number).then_some(number as i64)
}

const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// How many letters an abbreviated name has.
const SHORT: usize = 3;

// The formats of the C locale.
const DATE_AND_TIME: &str = "%a %b %e %H:%M:%S %Y";
const DATE: &str = "%m/%d/%y";
const TIME: &str = "%H:%M:%S";
const TIME_OF_12_HOURS: &str = "%I:%M:%S %p";
const ISO_DATE: &str = "%Y-%m-%d";
const HOUR_AND_MINUTE: &str = "%H:%M";

/// Returns a text up to its first NUL, because C ends a text there.
fn c_text(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}
