//! `strptime`: reads a broken-down time by a format, as the C library does in the C locale.

use super::{
    BrokenDown, DATE, DATE_AND_TIME, DAYS_A_WEEK, DAYS_BEFORE, HOUR_AND_MINUTE, ISO_DATE, MONTHS,
    SHORT, TIME, TIME_OF_12_HOURS, WEEKDAYS, c_text, is_leap,
};

/// The values that jq writes into two fields before it calls the C library, which sets these fields
/// only for some formats.
const UNKNOWN_WEEKDAY: i64 = 8;
const UNKNOWN_YEARDAY: i64 = 367;

/// A year of two digits below this number is in the century from 2000. Other years of two digits
/// are in the century from 1900.
const FIRST_YEAR_OF_1900: i64 = 69;

/// Reads `text` by `format`. Returns the rest of the text, which is empty or begins with white
/// space.
///
/// # Errors
/// jq's sentence if `text` does not match `format`.
pub(crate) fn strptime<'t>(text: &'t str, format: &str) -> Result<(BrokenDown, &'t str), String> {
    let (text, format) = (c_text(text), c_text(format));
    let mut parser = Parser::new(text.as_bytes());
    let is_read = parser.read(format.as_bytes()).is_some();
    let rest = text
        .get(parser.at..)
        .filter(|rest| rest.bytes().next().is_none_or(is_space));
    match rest.filter(|_| is_read) {
        Some(rest) => Ok((parser.finish(), rest)),
        None => Err(format!(
            "date \"{text}\" does not match format \"{format}\""
        )),
    }
}

/// Whether a byte is white space for C's `isspace`.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Which names and digits the C library has decided to read: those of the locale or its own. In the
/// C locale they are the same, but the decision makes some later directives fail.
#[derive(Clone, Copy, PartialEq)]
enum Decided {
    Not,
    Locale,
    Raw,
}

/// The state of one `strptime`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each tells whether one field was read"
)]
struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    time: BrokenDown,
    decided: Decided,
    is_hour_of_12: bool,
    is_pm: bool,
    has_weekday: bool,
    has_yearday: bool,
    has_month: bool,
    has_day: bool,
    wants_century: bool,
    wants_days: bool,
    century: Option<i64>,
    /// The number of the week, and the weekday on which weeks begin.
    week: Option<(i64, i64)>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self {
            text,
            at: 0,
            time: BrokenDown {
                year: 1900,
                weekday: UNKNOWN_WEEKDAY,
                yearday: UNKNOWN_YEARDAY,
                ..BrokenDown::default()
            },
            decided: Decided::Not,
            is_hour_of_12: false,
            is_pm: false,
            has_weekday: false,
            has_yearday: false,
            has_month: false,
            has_day: false,
            wants_century: false,
            wants_days: false,
            century: None,
            week: None,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    fn byte(&mut self, expected: u8) -> Option<()> {
        (self.peek() == Some(expected)).then(|| self.at += 1)
    }

    fn read(&mut self, format: &[u8]) -> Option<()> {
        let mut format = format.iter().copied().peekable();
        while let Some(byte) = format.next() {
            if is_space(byte) {
                self.skip_space();
            } else if byte != b'%' {
                self.byte(byte)?;
            } else {
                while format.next_if(|byte| b"-_0^#".contains(byte)).is_some() {}
                while format.next_if(u8::is_ascii_digit).is_some() {}
                match format.next()? {
                    b'E' => self.era(format.next()?)?,
                    b'O' => self.alternative(format.next()?)?,
                    directive => self.directive(directive)?,
                }
            }
        }
        Some(())
    }

    fn directive(&mut self, directive: u8) -> Option<()> {
        match directive {
            b'%' => self.byte(b'%'),
            b'n' | b't' => {
                self.skip_space();
                Some(())
            }
            b'a' | b'A' | b'b' | b'B' | b'h' | b'p' => self.name(directive),
            b'c' | b'F' | b'x' | b'D' | b'r' | b'R' | b'X' | b'T' => self.composite(directive),
            b'Z' => {
                self.skip_space();
                while self.peek().is_some_and(|byte| !is_space(byte)) {
                    self.at += 1;
                }
                Some(())
            }
            b'z' => self.zone(),
            b's' => self.timestamp(),
            b'G' => {
                self.peek().filter(u8::is_ascii_digit)?;
                while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                    self.at += 1;
                }
                Some(())
            }
            _ => self.numeric(directive),
        }
    }

    fn composite(&mut self, directive: u8) -> Option<()> {
        let format = match directive {
            b'c' => DATE_AND_TIME,
            b'F' => ISO_DATE,
            b'x' | b'D' => DATE,
            b'r' => TIME_OF_12_HOURS,
            b'R' => HOUR_AND_MINUTE,
            _ => TIME,
        };
        self.read(format.as_bytes())
    }

    fn name(&mut self, directive: u8) -> Option<()> {
        match directive {
            b'p' => {
                self.is_pm = self.longest_name(&["AM", "PM"])? == 1;
            }
            b'a' | b'A' => {
                self.time.weekday = self.longest_name(&WEEKDAYS)?;
                self.has_weekday = true;
            }
            _ => {
                self.time.month = self.longest_name(&MONTHS)?;
                self.has_month = true;
                self.wants_days = true;
            }
        }
        Some(())
    }

    /// Reads one of `names`, in full or abbreviated, from the beginning of the rest. Returns its
    /// index.
    fn longest_name(&mut self, names: &[&str]) -> Option<i64> {
        let rest = self.text.get(self.at..)?;
        let begins_with = |name: &&str| {
            rest.get(..name.len())
                .is_some_and(|text| text.eq_ignore_ascii_case(name.as_bytes()))
        };
        let short = |name: &&str| name.get(..SHORT).is_some_and(|name| begins_with(&name));
        let full = names.iter().position(begins_with);
        let (number, length) = match full {
            Some(number) => (number, names.get(number)?.len()),
            None => (names.iter().position(short)?, SHORT),
        };
        self.at += length;
        i64::try_from(number).ok()
    }

    /// Reads a number of at most `digits` digits, and the white space before it.
    fn number(&mut self, least: i64, most: i64, digits: usize) -> Option<i64> {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
        let mut value = 0;
        for read in 0..digits {
            match self.peek() {
                Some(digit) if digit.is_ascii_digit() && (read == 0 || value * 10 <= most) => {
                    value = value * 10 + i64::from(digit - b'0');
                    self.at += 1;
                }
                _ if read == 0 => return None,
                _ => break,
            }
        }
        (least..=most).contains(&value).then_some(value)
    }

    fn numeric(&mut self, directive: u8) -> Option<()> {
        match directive {
            b'C' => self.century(),
            b'd' | b'e' => {
                self.time.day = self.number(1, 31, 2)?;
                self.has_day = true;
                self.wants_days = true;
                Some(())
            }
            b'H' | b'k' => {
                self.time.hour = self.number(0, 23, 2)?;
                self.is_hour_of_12 = false;
                Some(())
            }
            b'I' | b'l' => {
                self.time.hour = self.number(1, 12, 2)? % 12;
                self.is_hour_of_12 = true;
                Some(())
            }
            b'j' => {
                self.time.yearday = self.number(1, 366, 3)? - 1;
                self.has_yearday = true;
                Some(())
            }
            b'm' => {
                self.time.month = self.number(1, 12, 2)? - 1;
                self.has_month = true;
                self.wants_days = true;
                Some(())
            }
            b'M' => {
                self.time.minute = self.number(0, 59, 2)?;
                Some(())
            }
            b'S' => {
                self.time.second = self.number(0, 61, 2)?;
                Some(())
            }
            b'u' | b'w' | b'U' | b'W' | b'V' | b'g' => self.week_or_weekday(directive),
            b'y' => self.year_of_century(),
            b'Y' => self.year(),
            _ => None,
        }
    }

    fn week_or_weekday(&mut self, directive: u8) -> Option<()> {
        match directive {
            b'u' | b'w' => {
                let (least, most) = if directive == b'u' { (1, 7) } else { (0, 6) };
                self.time.weekday = self.number(least, most, 1)? % DAYS_A_WEEK;
                self.has_weekday = true;
            }
            b'U' | b'W' => {
                let number = self.number(0, 53, 2)?;
                // If both kinds of weeks were read, the week that begins on Sunday is used.
                let begins_with =
                    i64::from(directive == b'W' && !matches!(self.week, Some((_, 0))));
                self.week = Some((number, begins_with));
            }
            // The C library reads the numbers of these two directives and ignores them.
            b'g' => drop(self.number(0, 99, 2)?),
            _ => drop(self.number(0, 53, 2)?),
        }
        Some(())
    }

    fn century(&mut self) -> Option<()> {
        self.century = Some(self.number(0, 99, 2)?);
        self.wants_days = true;
        Some(())
    }

    fn year(&mut self) -> Option<()> {
        self.time.year = self.number(0, 9999, 4)?;
        self.wants_century = false;
        self.wants_days = true;
        Some(())
    }

    fn year_of_century(&mut self) -> Option<()> {
        let year = self.number(0, 99, 2)?;
        self.time.year = if year >= FIRST_YEAR_OF_1900 {
            1900 + year
        } else {
            2000 + year
        };
        self.wants_century = true;
        self.wants_days = true;
        Some(())
    }

    /// Reads a directive with `%E`. The C locale has no eras, but the C library searches for them.
    fn era(&mut self, directive: u8) -> Option<()> {
        let was_decided = self.decided;
        match directive {
            b'c' | b'x' | b'X' => return self.composite(directive),
            b'C' | b'y' | b'Y' if was_decided == Decided::Locale && directive != b'y' => {
                return None;
            }
            b'C' => {
                self.decided = Decided::Raw;
                return self.century();
            }
            b'Y' => {
                self.decided = Decided::Raw;
                return self.year();
            }
            b'y' => {}
            _ => return None,
        }
        if was_decided != Decided::Raw {
            self.number(0, 9999, 4)?;
            if was_decided == Decided::Locale {
                return None;
            }
            self.decided = Decided::Raw;
        }
        self.year_of_century()
    }

    /// Reads a directive with `%O`. The C locale has no alternative digits. When the C library has
    /// found none, it does not accept them in later directives either.
    fn alternative(&mut self, directive: u8) -> Option<()> {
        match directive {
            b'b' | b'B' | b'h' => self.name(directive),
            b'd' | b'e' | b'H' | b'I' | b'm' | b'M' | b'S' | b'U' | b'W' | b'V' | b'w' | b'y' => {
                match self.decided {
                    Decided::Locale => return None,
                    Decided::Not => self.decided = Decided::Locale,
                    Decided::Raw => {}
                }
                let wants_century = self.wants_century;
                self.numeric(directive)?;
                if directive == b'y' {
                    self.wants_century = wants_century;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Reads and checks the offset of a time zone. The offset is not stored, because jq has no
    /// field for it.
    fn zone(&mut self) -> Option<()> {
        self.skip_space();
        if self.byte(b'Z').is_some() {
            return Some(());
        }
        self.peek().filter(|sign| matches!(sign, b'+' | b'-'))?;
        self.at += 1;
        let (mut value, mut digits) = (0_u32, 0);
        while let Some(digit) = self
            .peek()
            .filter(u8::is_ascii_digit)
            .filter(|_| digits < 4)
        {
            value = value * 10 + u32::from(digit - b'0');
            self.at += 1;
            digits += 1;
            let next = self.text.get(self.at + 1);
            if digits == 2 && self.peek() == Some(b':') && next.is_some_and(u8::is_ascii_digit) {
                self.at += 1;
            }
        }
        (digits == 2 || digits == 4 && value % 100 < 60).then_some(())
    }

    fn timestamp(&mut self) -> Option<()> {
        self.peek().filter(u8::is_ascii_digit)?;
        let mut timestamp = 0_i64;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            timestamp = timestamp
                .wrapping_mul(10)
                .wrapping_add(i64::from(digit - b'0'));
            self.at += 1;
        }
        self.time = BrokenDown::from_timestamp(timestamp)?;
        Some(())
    }

    /// Computes the fields that were not read from those that were.
    fn finish(mut self) -> BrokenDown {
        if self.is_hour_of_12 && self.is_pm {
            self.time.hour += 12;
        }
        if let Some(century) = self.century {
            let year = if self.wants_century {
                (self.time.year - 1900) % 100
            } else {
                0
            };
            self.time.year = century * 100 + year;
        }
        if self.wants_days && !self.has_weekday {
            if self.has_yearday && !(self.has_month && self.has_day) {
                self.month_and_day_of_yearday();
                self.has_month = true;
                self.has_day = true;
            }
            self.time.weekday = weekday_of(&self.time);
        }
        if self.wants_days && !self.has_yearday {
            self.time.yearday = days_before_month(&self.time) + self.time.day - 1;
        }
        if let Some((number, begins_with)) = self.week.filter(|_| self.has_weekday) {
            let first = BrokenDown {
                day: 1,
                month: 0,
                ..self.time
            };
            if !self.has_yearday {
                self.time.yearday = (DAYS_A_WEEK - (weekday_of(&first) - begins_with))
                    % DAYS_A_WEEK
                    + (number - 1) * DAYS_A_WEEK
                    + (self.time.weekday - begins_with + DAYS_A_WEEK) % DAYS_A_WEEK;
            }
            self.month_and_day_of_yearday();
        }
        self.time
    }

    /// Computes month and day of month if they were not read. If the year does not have that day,
    /// the search continues in the next row of the table, as in the C library.
    fn month_and_day_of_yearday(&mut self) {
        let table = DAYS_BEFORE.as_flattened();
        let year = if is_leap(self.time.year) {
            DAYS_BEFORE[0].len()
        } else {
            0
        };
        let starts = table.get(year..).unwrap_or_default();
        let months = starts
            .iter()
            .take_while(|&&start| start <= self.time.yearday)
            .count();
        if !self.has_month {
            self.time.month = i64::try_from(months).unwrap_or_default() - 1;
        }
        if !self.has_day {
            let start = (year + months)
                .checked_sub(1)
                .and_then(|at| table.get(at))
                .copied()
                .unwrap_or_default();
            self.time.day = self.time.yearday - start + 1;
        }
    }
}

fn days_before_month(time: &BrokenDown) -> i64 {
    let month = usize::try_from(time.month).unwrap_or_default();
    DAYS_BEFORE[usize::from(is_leap(time.year))]
        .get(month)
        .copied()
        .unwrap_or_default()
}

/// Computes the weekday with the C library's formula. The formula rounds quotients towards zero, so
/// the result is wrong before year 1.
fn weekday_of(time: &BrokenDown) -> i64 {
    let year = time.year - i64::from(time.month < 2);
    let (fourths, centuries) = (year / 4, year / 4 / 25);
    let leap_days = fourths - centuries + i64::from(fourths % 25 < 0) + centuries / 4;
    let month = usize::try_from(time.month).unwrap_or_default();
    let before = DAYS_BEFORE[0].get(month).copied().unwrap_or_default();
    // The constant includes the leap days of the years 1 to 1969, and that 1970 began on a
    // Thursday.
    let days = (time.year - 1970) * 365 + leap_days + before + time.day - 1 - 473;
    days.rem_euclid(DAYS_A_WEEK)
}
