//! Decomposes the texts of numbers into their exact decimal values. Does not round, and uses no
//! records.

/// Numbers that are compared, grouped or sorted by value may have exponents from minus to plus this
/// number. The range is far larger than any measurement needs, and the arithmetic of exponents
/// stays within 32 bits.
pub const MAX_KEY_EXPONENT: i32 = 1_000_000_000;

/// How many characters of a number an error shows at most.
const SHOWN_CHARACTERS: usize = 64;

/// Why a number's text cannot be used as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// The number is too large or too small to be compared by its value.
    #[error("the exponent of the number {number} is too large; at most ±{limit} is allowed")]
    Exponent {
        /// The number as written, cut.
        number: String,
        /// The largest exponent of ten.
        limit: i32,
    },
    /// The number has more digits than are added up exactly.
    #[error("the number {number} has too many digits; at most {limit} are allowed")]
    TooManyDigits {
        /// The number as written, cut.
        number: String,
        /// The most digits.
        limit: usize,
    },
    /// NaN or an infinity, which JSON does not have.
    #[error("{number} is not a finite number")]
    NotFinite {
        /// The value as it is shown.
        number: String,
    },
    /// The text is not a number.
    #[error("{number} is not a JSON number")]
    NotANumber {
        /// The text, cut.
        number: String,
    },
    /// The exact result is outside of the range of 64-bit floating point.
    #[error("the result is outside the range of 64-bit floating point numbers (about ±1.8e308)")]
    OutOfRange,
    /// The bytes of a partial sum are not what [`ExactSum::encode`](crate::sum::ExactSum::encode)
    /// writes.
    #[error("the encoded sum is damaged")]
    Damaged,
}

/// A decomposed number: ± 0.DIGITS × 10^exponent. The digits neither begin nor end with zeros. The
/// number 0 has no digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) negative: bool,
    /// ASCII digits.
    pub(crate) digits: Vec<u8>,
    pub(crate) exponent: i32,
}

impl Decimal {
    /// Decomposes a number's text. The text may be any JSON number whose exponent is within
    /// ±`limit`.
    pub(crate) fn parse(number: &str, limit: i32) -> Result<Self, NumberError> {
        let not_a_number = || NumberError::NotANumber {
            number: shown(number),
        };
        let (negative, rest) = number
            .strip_prefix('-')
            .map_or((false, number), |rest| (true, rest));
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = Vec::with_capacity(whole.len() + fraction.len());
        digits.extend(whole.bytes().chain(fraction.bytes()));
        if whole.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            let word = whole.trim_start_matches(['+', '-']);
            return Err(match word {
                "NaN" | "nan" | "Infinity" => NumberError::NotFinite {
                    number: shown(number),
                },
                _ => not_a_number(),
            });
        }
        let leading = digits.iter().take_while(|&&digit| digit == b'0').count();
        if leading == digits.len() {
            return Ok(Self {
                negative: false,
                digits: Vec::new(),
                exponent: 0,
            });
        }
        let whole_digits = i64::try_from(whole.len()).map_err(|_| not_a_number())?;
        let leading_zeros = i64::try_from(leading).map_err(|_| not_a_number())?;
        let too_large = || NumberError::Exponent {
            number: shown(number),
            limit,
        };
        let written =
            exponent.map_or(Ok(0), |text| exponent_value(text).ok_or_else(not_a_number))?;
        let exponent = written
            .checked_add(whole_digits - leading_zeros)
            .filter(|exponent| exponent.unsigned_abs() <= u64::from(limit.unsigned_abs()))
            .and_then(|exponent| i32::try_from(exponent).ok())
            .ok_or_else(too_large)?;
        digits.drain(..leading);
        let significant = digits
            .iter()
            .rposition(|&digit| digit != b'0')
            .map_or(0, |last| last + 1);
        digits.truncate(significant);
        Ok(Self {
            negative,
            digits,
            exponent,
        })
    }
}

/// The text of a number as an error shows it.
pub(crate) fn shown(number: &str) -> String {
    let mut shown: String = number.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < number.len() {
        shown.push('…');
    }
    shown
}

/// The value of a written exponent. If it does not fit in 64 bits, the result is so large that
/// every limit refuses it.
fn exponent_value(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let magnitude = digits.parse::<i64>().unwrap_or(i64::MAX / 2);
    let magnitude = magnitude.min(i64::MAX / 2);
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;
    use crate::key::KeyWriter;

    /// How the keys of two numbers compare.
    fn compare(left: &str, right: &str) -> Result<Ordering, NumberError> {
        let key = |text| {
            let mut key = KeyWriter::default();
            key.number(text).map(|()| key.finish())
        };
        Ok(key(left)?.cmp(&key(right)?))
    }

    #[test]
    fn numbers_compare_by_exact_value() {
        use Ordering::{Equal, Greater, Less};
        for (left, right, expected) in [
            ("1", "1.0", Equal),
            ("1", "10e-1", Equal),
            ("100", "1E+2", Equal),
            ("0", "-0.0e5", Equal),
            ("9007199254740992", "9007199254740993", Less),
            ("0.1", "0.10000000000000000001", Less),
            ("-1", "-2", Greater),
            ("-1", "0", Less),
            ("-1", "1", Less),
            ("2", "10", Less),
            ("0.02", "0.1", Less),
            ("1e400", "1e401", Less),
            ("12", "123", Less),
        ] {
            assert_eq!(compare(left, right), Ok(expected), "{left} {right}");
            assert_eq!(
                compare(right, left),
                Ok(expected.reverse()),
                "{right} {left}"
            );
        }
    }

    #[test]
    fn a_number_with_a_monstrous_exponent_is_named_in_the_error() {
        for number in [
            "1e1000000001",
            "1e-99999999999999999999999",
            "-3E+9223372036854775807",
        ] {
            let error = compare(number, "1").unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "the exponent of the number {number} is too large; at most ±1000000000 is allowed"
                )
            );
        }
        assert_eq!(compare("0e99999999999", "0"), Ok(Ordering::Equal));
    }

    proptest::proptest! {
        #[test]
        fn comparing_integers_by_text_is_comparing_them(left: i128, right: i128) {
            proptest::prop_assert_eq!(compare(&left.to_string(), &right.to_string()), Ok(left.cmp(&right)));
        }
    }
}
