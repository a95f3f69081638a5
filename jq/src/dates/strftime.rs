//! `strftime`: writes a broken-down time by a format, as the C library does in the C locale and in
//! UTC.

use super::{
    BrokenDown, DATE, DATE_AND_TIME, HOUR_AND_MINUTE, ISO_DATE, MONTHS, SHORT, TIME,
    TIME_OF_12_HOURS, WEEKDAYS, c_text, is_leap,
};

/// How many bytes jq's buffer has in addition to the length of the format.
const ROOM_BEYOND_FORMAT: usize = 100;

/// The name of the only time zone.
const ZONE: &str = "GMT";

/// Writes `time` by `format`.
///
/// # Errors
/// jq's sentence if the text is longer than jq's buffer, or if it is empty although the format is
/// not.
pub(crate) fn strftime(time: &BrokenDown, format: &str) -> Result<String, String> {
    let format = c_text(format);
    let mut writer = Writer {
        time,
        room: format.len() + ROOM_BEYOND_FORMAT,
        out: Vec::new(),
    };
    let is_written = writer.write(format.as_bytes()).is_some();
    if !is_written || writer.out.is_empty() && !format.is_empty() {
        return Err("strftime/1: unknown system failure".to_owned());
    }
    Ok(String::from_utf8(writer.out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The flags, width and modifier of one directive.
#[derive(Default)]
struct Directive {
    /// `_`, `-` or `0`.
    pad: Option<u8>,
    width: usize,
    is_upper: bool,
    is_lower: bool,
    changes_case: bool,
    /// `E` or `O`.
    modifier: Option<u8>,
}

impl Directive {
    fn is_plain(&self) -> bool {
        self.modifier.is_none()
    }

    fn is_not(&self, modifier: u8) -> bool {
        self.modifier != Some(modifier)
    }
}

/// Writes the text. Its functions return `None` if the text becomes longer than `room`.
struct Writer<'t> {
    time: &'t BrokenDown,
    room: usize,
    out: Vec<u8>,
}

impl Writer<'_> {
    fn write(&mut self, format: &[u8]) -> Option<()> {
        let mut at = 0;
        while let Some(&byte) = format.get(at) {
            if byte == b'%' {
                at = self.directive_at(format, at)?;
            } else {
                self.put(&Directive::default(), &[byte])?;
                at += 1;
            }
        }
        Some(())
    }

    /// Writes the directive that begins at `start`, and returns the position after it.
    fn directive_at(&mut self, format: &[u8], start: usize) -> Option<usize> {
        let mut directive = Directive::default();
        let mut at = start + 1;
        while let Some(&flag) = format.get(at) {
            match flag {
                b'_' | b'-' | b'0' => directive.pad = Some(flag),
                b'^' => directive.is_upper = true,
                b'#' => directive.changes_case = true,
                _ => break,
            }
            at += 1;
        }
        while let Some(digit) = format.get(at).filter(|byte| byte.is_ascii_digit()) {
            directive.width = directive
                .width
                .saturating_mul(10)
                .saturating_add(usize::from(digit - b'0'));
            at += 1;
        }
        directive.modifier = format
            .get(at)
            .copied()
            .filter(|byte| matches!(byte, b'E' | b'O'));
        at += usize::from(directive.modifier.is_some());
        let is_known = if let Some(&letter) = format.get(at) {
            self.put_directive(&mut directive, letter)?
        } else {
            at -= 1;
            false
        };
        if !is_known {
            // An unknown directive is written unchanged, from its last `%` on.
            let from = format.get(..=at)?.iter().rposition(|&byte| byte == b'%')?;
            self.put(&directive, format.get(from..=at)?)?;
        }
        Some(at + 1)
    }

    /// Writes a directive. Returns `Some(false)` if the directive is unknown, and `None` if there
    /// is no room.
    fn put_directive(&mut self, directive: &mut Directive, letter: u8) -> Option<bool> {
        match letter {
            b'%' if directive.is_plain() => self.put(directive, b"%")?,
            b'n' => self.put(directive, b"\n")?,
            b't' => self.put(directive, b"\t")?,
            b'a' | b'A' if directive.is_plain() => self.put_name(directive, letter)?,
            b'b' | b'h' | b'B' if directive.is_not(b'E') => self.put_name(directive, letter)?,
            b'p' | b'P' | b'Z' => self.put_name(directive, letter)?,
            b'c' | b'x' | b'X' if directive.is_not(b'O') => {
                self.put_composite(directive, letter)?;
            }
            b'D' | b'F' if directive.is_plain() => self.put_composite(directive, letter)?,
            b'R' | b'r' | b'T' => self.put_composite(directive, letter)?,
            b's' => {
                let timestamp = self.time.timestamp().unwrap_or(-1);
                self.put_digits(directive, 1, timestamp)?;
            }
            b'z' => {
                self.put(directive, b"+")?;
                self.put_number(directive, 4, 0)?;
            }
            b'C' | b'y' | b'u' => return self.put_numeric(directive, letter),
            b'Y' if directive.is_not(b'O') => return self.put_numeric(directive, letter),
            b'Y' => return Some(false),
            _ if directive.is_not(b'E') => return self.put_numeric(directive, letter),
            _ => return Some(false),
        }
        Some(true)
    }

    fn put_name(&mut self, directive: &mut Directive, letter: u8) -> Option<()> {
        let find = |names: &[&'static str], index: i64| {
            usize::try_from(index)
                .ok()
                .and_then(|index| names.get(index).copied())
        };
        let short = |name: &'static str| name.get(..SHORT).unwrap_or(name);
        let name = match letter {
            b'A' => find(&WEEKDAYS, self.time.weekday).unwrap_or("?"),
            b'a' => find(&WEEKDAYS, self.time.weekday).map_or("?", short),
            b'B' => find(&MONTHS, self.time.month).unwrap_or("?"),
            b'p' | b'P' => {
                if self.time.hour > 11 {
                    "PM"
                } else {
                    "AM"
                }
            }
            b'Z' => ZONE,
            _ => find(&MONTHS, self.time.month).map_or("?", short),
        };
        directive.is_lower |= letter == b'P';
        if directive.changes_case {
            let makes_lower = matches!(letter, b'p' | b'P' | b'Z');
            directive.is_lower = makes_lower;
            directive.is_upper = !makes_lower;
        }
        self.put(directive, name.as_bytes())
    }

    fn put_composite(&mut self, directive: &Directive, letter: u8) -> Option<()> {
        let format = match letter {
            b'c' => DATE_AND_TIME,
            b'x' | b'D' => DATE,
            b'F' => ISO_DATE,
            b'R' => HOUR_AND_MINUTE,
            b'r' => TIME_OF_12_HOURS,
            _ => TIME,
        };
        let mut inner = Writer {
            time: self.time,
            room: usize::MAX,
            out: Vec::new(),
        };
        inner.write(format.as_bytes())?;
        let text = Directive {
            is_upper: directive.is_upper,
            width: directive.width,
            pad: directive.pad,
            ..Directive::default()
        };
        self.put(&text, &inner.out)
    }

    fn put_numeric(&mut self, directive: &mut Directive, letter: u8) -> Option<bool> {
        let time = self.time;
        let hour_of_12 = match time.hour {
            hour if hour > 12 => hour - 12,
            0 => 12,
            hour => hour,
        };
        let (digits, number) = match letter {
            b'C' => (1, time.c_year().div_euclid(100)),
            b'd' | b'e' => (2, time.day),
            b'H' | b'k' => (2, time.hour),
            b'I' | b'l' => (2, hour_of_12),
            b'j' => (3, 1 + time.yearday),
            b'M' => (2, time.minute),
            b'm' => (2, time.month + 1),
            b'S' => (2, time.second),
            b'u' => (1, (time.weekday - 1 + 7) % 7 + 1),
            b'U' => (2, (time.yearday - time.weekday + 7) / 7),
            b'W' => (2, (time.yearday - (time.weekday - 1 + 7) % 7 + 7) / 7),
            b'w' => (1, time.weekday),
            b'Y' => (1, time.c_year()),
            b'y' => (2, time.year.rem_euclid(100)),
            b'G' => (1, iso_week(time).0),
            b'g' => (2, iso_week(time).0.rem_euclid(100)),
            b'V' => (2, iso_week(time).1),
            _ => return Some(false),
        };
        if matches!(letter, b'e' | b'k' | b'l') && !matches!(directive.pad, Some(b'0' | b'-')) {
            directive.pad = Some(b'_');
        }
        self.put_number(directive, digits, number)?;
        Some(true)
    }

    /// Writes a number with at least `digits` digits, or with at least the width of the directive.
    fn put_number(&mut self, directive: &mut Directive, digits: usize, number: i64) -> Option<()> {
        let digits = digits.max(directive.width);
        self.put_digits(directive, digits, number)
    }

    fn put_digits(&mut self, directive: &mut Directive, digits: usize, number: i64) -> Option<()> {
        let mut text = number.unsigned_abs().to_string();
        let sign = if number < 0 { "-" } else { "" };
        let padding = digits.saturating_sub(text.len() + sign.len());
        if directive.pad == Some(b'-') || padding == 0 {
            text.insert_str(0, sign);
        } else if directive.pad == Some(b'_') {
            self.put(&Directive::default(), &self.filling(padding, b' ')?)?;
            directive.width = directive.width.saturating_sub(padding);
            text.insert_str(0, sign);
        } else {
            self.put(&Directive::default(), sign.as_bytes())?;
            self.put(&Directive::default(), &self.filling(padding, b'0')?)?;
            directive.width = 0;
        }
        self.put(directive, text.as_bytes())
    }

    /// Writes a text, padded to the width and in the upper or lower case that the directive
    /// requires.
    fn put(&mut self, directive: &Directive, text: &[u8]) -> Option<()> {
        let filling = self.filling(
            directive.width.saturating_sub(text.len()),
            if directive.pad == Some(b'0') {
                b'0'
            } else {
                b' '
            },
        )?;
        if filling.len() + text.len() >= self.room - self.out.len() {
            return None;
        }
        self.out.extend_from_slice(&filling);
        let from = self.out.len();
        self.out.extend_from_slice(text);
        if let Some(written) = self.out.get_mut(from..) {
            if directive.is_lower {
                written.make_ascii_lowercase();
            } else if directive.is_upper {
                written.make_ascii_uppercase();
            }
        }
        Some(())
    }

    fn filling(&self, length: usize, with: u8) -> Option<Vec<u8>> {
        // A width may be any number, so the room is checked before memory is allocated.
        (length < self.room - self.out.len()).then(|| vec![with; length])
    }
}

/// Returns the year and the week of ISO 8601. A week begins on Monday, and the first week is the
/// one with the year's first Thursday.
fn iso_week(time: &BrokenDown) -> (i64, i64) {
    let length = |year| 365 + i64::from(is_leap(year));
    let mut year = time.c_year();
    let mut days = days_of_iso_year(time.yearday, time.weekday);
    if days < 0 {
        year -= 1;
        days = days_of_iso_year(time.yearday + length(year), time.weekday);
    } else {
        let of_next = days_of_iso_year(time.yearday - length(year), time.weekday);
        if of_next >= 0 {
            year += 1;
            days = of_next;
        }
    }
    (year, days / 7 + 1)
}

/// Returns how many days have passed since the Monday of the year's first week. Negative before
/// that Monday.
fn days_of_iso_year(yearday: i64, weekday: i64) -> i64 {
    let monday_of_first_week = (yearday - weekday + 4).rem_euclid(7);
    yearday - monday_of_first_week + 4 - 1
}
