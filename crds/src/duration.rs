//! Durations as the spec writes them: `90s`, `5m`, `1h30m`. Reads no clock.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest text of a duration: `24h59m59s999ms` with a margin.
pub const MAX_DURATION_TEXT: usize = 16;
/// The largest number of digits of one number in a duration; more could overflow the API server's
/// arithmetic.
const MAX_DIGITS: usize = 6;

/// A duration as it is written in the spec. [`parse`](Self::parse) returns its length; admission
/// has checked that parsing succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DurationText(#[schemars(length(max = 16))] String);

/// The least and the greatest duration that a field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationBounds {
    /// The shortest duration, as text.
    pub least: &'static str,
    /// The longest duration, as text.
    pub greatest: &'static str,
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("a duration needs a number and a unit, such as 5m")]
    Empty,
    /// A number has no unit.
    #[error("a duration needs a unit after {number}, such as {number}m")]
    UnitMissing {
        /// The digits without a unit.
        number: String,
    },
    /// A unit is not one of h, m, s and ms.
    #[error("{unit} is not a unit of time; units are h, m, s, ms")]
    UnitUnknown {
        /// The letters after the number.
        unit: String,
    },
    /// A sign, a point, a space or another character is in the text where a digit or a unit is
    /// needed.
    #[error("a duration is written in whole numbers of h, m, s, ms, such as 1h30m")]
    NumberMissing,
    /// The text or one of its numbers is longer than allowed.
    #[error(
        "a duration has at most {MAX_DURATION_TEXT} characters, and each number in it at most {MAX_DIGITS} digits"
    )]
    TooLong,
}

impl DurationText {
    /// Takes the text as it is; [`parse`](Self::parse) says whether it is a duration.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The length of time that the text denotes.
    pub fn parse(&self) -> Result<Duration, DurationError> {
        parse(&self.0)
    }
}

fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.len() > MAX_DURATION_TEXT {
        return Err(DurationError::TooLong);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if number.len() > MAX_DIGITS {
            return Err(DurationError::TooLong);
        }
        let Ok(count) = number.parse::<u64>() else {
            return Err(DurationError::NumberMissing);
        };
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at(letters);
        let length = match unit {
            "h" => Duration::from_secs(count * 3600),
            "m" => Duration::from_secs(count * 60),
            "s" => Duration::from_secs(count),
            "ms" => Duration::from_millis(count),
            "" if next.is_empty() => {
                return Err(DurationError::UnitMissing {
                    number: number.to_owned(),
                });
            }
            "" => return Err(DurationError::NumberMissing),
            other => {
                return Err(DurationError::UnitUnknown {
                    unit: other.to_owned(),
                });
            }
        };
        total += length;
        rest = next;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_whole_numbers_with_a_unit() {
        for (text, millis) in [
            ("5s", 5_000),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("24h", 86_400_000),
            ("1m1s1ms", 61_001),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_duration_is_refused_with_the_reason() {
        for (text, message) in [
            ("", "a duration needs a number and a unit, such as 5m"),
            ("5", "a duration needs a unit after 5, such as 5m"),
            ("1h5", "a duration needs a unit after 5, such as 5m"),
            ("5d", "d is not a unit of time; units are h, m, s, ms"),
            ("5M", "M is not a unit of time; units are h, m, s, ms"),
            (
                "-5m",
                "a duration is written in whole numbers of h, m, s, ms, such as 1h30m",
            ),
            (
                "1.5h",
                "a duration is written in whole numbers of h, m, s, ms, such as 1h30m",
            ),
            (
                "m",
                "a duration is written in whole numbers of h, m, s, ms, such as 1h30m",
            ),
            (
                "5 m",
                "a duration is written in whole numbers of h, m, s, ms, such as 1h30m",
            ),
            (
                "5m ",
                "a duration is written in whole numbers of h, m, s, ms, such as 1h30m",
            ),
            (
                "5µs",
                "a duration is written in whole numbers of h, m, s, ms, such as 1h30m",
            ),
            (
                "9999999h",
                "a duration has at most 16 characters, and each number in it at most 6 digits",
            ),
            (
                "1h1h1h1h1h1h1h1h1h",
                "a duration has at most 16 characters, and each number in it at most 6 digits",
            ),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), message, "{text}");
        }
    }
}
