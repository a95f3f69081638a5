//! Numbers as Go and the API server store them: 64-bit integers, and doubles for everything else.
//! Finds numbers whose stored value differs from the written one. Reads no YAML and no JSON.

use serde_json::Number;

/// Two to the power 63: the API server stores numbers from here on only as doubles.
const INTEGER_END: f64 = 9_223_372_036_854_775_808.0;
/// If a key is a number of this power of ten or more, Go writes it with an exponent.
const KEY_DIGITS: i32 = 6;

/// A double as the API server stores it: as an integer if it is a whole number that fits 64 bits.
/// `None` for NaN and infinities, which JSON does not have. Before a whole number is stored, it is
/// written with as few digits as identify the double, and zeros after them. So
/// `92233720368775808.0` becomes the integer 92233720368775800.
pub(super) fn stored(value: f64) -> Option<Number> {
    if value.fract() == 0.0 && value.abs() < INTEGER_END {
        // Rust writes doubles as Go does, except for the sign of zero.
        let digits = value.to_string();
        return Some(Number::from(digits.parse::<i64>().unwrap_or(0)));
    }
    Number::from_f64(value)
}

/// Whether a decimal number keeps its value as `stored`. Three kinds of numbers do not keep their
/// value: those with more digits than a double, `-0`, and integers of 2^63 or more. Such an integer
/// becomes a double, and then it is not known whether it is exact.
pub(super) fn is_kept(text: &str, stored: &Number) -> bool {
    let Some(written) = Decimal::parse(text) else {
        return false;
    };
    if written.is_negative_zero() {
        return false;
    }
    if let Some(double) = stored.as_f64().filter(|_| !stored.is_i64())
        && double.abs() >= INTEGER_END
    {
        return false;
    }
    Decimal::parse(&stored.to_string()).as_ref() == Some(&written)
}

/// Whether the text is a decimal number: `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`.
pub(super) fn is_decimal(text: &str) -> bool {
    Decimal::parse(text).is_some()
}

/// Whether two texts are the same decimal number.
pub(super) fn same_decimal(one: &str, other: &str) -> bool {
    Decimal::parse(one).is_some_and(|one| Some(one) == Decimal::parse(other))
}

/// A number in one normal form: `0.digits` times ten to the power `exponent`, without zeros at
/// either end.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (rest.get(..at)?, parse_exponent(rest.get(at + 1..)?)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let leading = i64::try_from(all.len() - digits.len()).ok()?;
        let point = i64::try_from(whole.len()).ok()?;
        let digits = digits.trim_end_matches('0');
        Some(if digits.is_empty() {
            Self {
                is_negative,
                digits: String::new(),
                exponent: 0,
            }
        } else {
            Self {
                is_negative,
                digits: digits.to_owned(),
                exponent: exponent.saturating_add(point).saturating_sub(leading),
            }
        })
    }

    fn is_negative_zero(&self) -> bool {
        self.is_negative && self.digits.is_empty()
    }
}

/// The exponent, or the nearest one that can be stored. A number with such a large exponent is not
/// near any double.
fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX / 2);
    Some(if text.starts_with('-') { -size } else { size })
}

/// The text that Go's YAML library writes for a double that is a key: the shortest digits of the
/// nearest 32-bit float.
pub(super) fn key_text(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the library of kubectl does the same"
    )]
    let value = value as f32;
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..KEY_DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    format!("{value}")
}
