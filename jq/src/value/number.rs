//! Numbers. Sums, differences and products of integers are exact, up to a limit of length. Every
//! other computed number is a 64-bit floating point number. A number that is not used in a
//! computation keeps its text.

use std::cmp::Ordering;
use std::rc::Rc;

use num_bigint::BigInt;
use num_bigint::Sign;

use super::{Big, Chars, Value};

/// How many digits an integer may have to be computed exactly. This is far more than any identifier
/// has, and a computation with such an integer takes microseconds.
pub(crate) const MAX_DIGITS: usize = 10_000;

/// An integer with at most this number of bits has at most [`MAX_DIGITS`] digits.
const SURELY_SHORT_BITS: u64 = 33_216;

/// An integer with at most this number of digits fits 64 bits.
const SMALL_DIGITS: usize = 18;

/// An integer has more than [`MAX_DIGITS`] digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyDigits;

/// A number to calculate with.
pub(crate) enum Operand<'v> {
    Small(i64),
    Big(std::borrow::Cow<'v, BigInt>),
    Float(f64),
}

/// The operations that are exact on integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exact {
    Add,
    Subtract,
    Multiply,
}

/// Computes with two numbers.
pub(crate) fn calculate<'a>(
    left: &Value<'a>,
    operation: Exact,
    right: &Value<'a>,
) -> Result<Value<'a>, TooManyDigits> {
    // The usual case.
    if let (Value::Integer(left), Value::Integer(right)) = (left, right)
        && let Some(result) = small(*left, operation, *right)
    {
        return Ok(Value::Integer(result));
    }
    match (operand(left)?, operand(right)?) {
        (Operand::Small(left), Operand::Small(right)) => match small(left, operation, right) {
            Some(result) => Ok(Value::Integer(result)),
            None => big(&left.into(), operation, &right.into()),
        },
        (Operand::Float(left), right) => Ok(float(left, operation, right.to_float())),
        (left, Operand::Float(right)) => Ok(float(left.to_float(), operation, right)),
        (left, right) => big(&left.into_big(), operation, &right.into_big()),
    }
}

fn small(left: i64, operation: Exact, right: i64) -> Option<i64> {
    match operation {
        Exact::Add => left.checked_add(right),
        Exact::Subtract => left.checked_sub(right),
        Exact::Multiply => left.checked_mul(right),
    }
}

fn float<'a>(left: f64, operation: Exact, right: f64) -> Value<'a> {
    Value::Float(match operation {
        Exact::Add => left + right,
        Exact::Subtract => left - right,
        Exact::Multiply => left * right,
    })
}

fn big<'a>(left: &BigInt, operation: Exact, right: &BigInt) -> Result<Value<'a>, TooManyDigits> {
    let result = match operation {
        Exact::Add => left + right,
        Exact::Subtract => left - right,
        Exact::Multiply => left * right,
    };
    if let Ok(small) = i64::try_from(&result) {
        return Ok(Value::Integer(small));
    }
    if result.bits() > SURELY_SHORT_BITS && result.magnitude().to_string().len() > MAX_DIGITS {
        return Err(TooManyDigits);
    }
    Ok(Value::big(result))
}

/// Returns a value as a number for a calculation. Returns 0 if the value is not a number.
fn operand<'v>(value: &'v Value<'_>) -> Result<Operand<'v>, TooManyDigits> {
    match value {
        Value::Integer(integer) => Ok(Operand::Small(*integer)),
        Value::BigInteger(integer) => Ok(Operand::Big(std::borrow::Cow::Borrowed(integer))),
        Value::Float(float) => Ok(Operand::Float(*float)),
        Value::Decimal(text) => of_text(text),
        Value::OwnedDecimal(text) => of_text(text),
        Value::Null
        | Value::Boolean(_)
        | Value::String(_)
        | Value::Lazy(_)
        | Value::Array(_)
        | Value::Object(_) => Ok(Operand::Small(0)),
    }
}

fn of_text(text: &str) -> Result<Operand<'_>, TooManyDigits> {
    let digits = digits_of(text);
    if digits.len() <= SMALL_DIGITS && is_digits(digits) {
        return Ok(Operand::Small(small_integer(text)));
    }
    if !is_digits(digits) {
        return Ok(Operand::Float(to_float(text)));
    }
    if digits.len() > MAX_DIGITS {
        return Err(TooManyDigits);
    }
    let big = BigInt::parse_bytes(text.as_bytes(), 10).unwrap_or_default();
    Ok(match i64::try_from(&big) {
        Ok(small) => Operand::Small(small),
        Err(_) => Operand::Big(std::borrow::Cow::Owned(big)),
    })
}

fn digits_of(text: &str) -> &str {
    text.strip_prefix('-').unwrap_or(text)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses an integer with an optional sign and at most [`SMALL_DIGITS`] digits.
fn small_integer(text: &str) -> i64 {
    let magnitude = digits_of(text)
        .bytes()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    }
}

/// Returns the nearest floating point number, or infinity if the number is too large.
fn to_float(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// Converts a whole number that is not negative to an integer.
pub(crate) fn whole_steps(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and no program makes so many outputs"
    )]
    let steps = number as u64;
    steps
}

impl Operand<'_> {
    fn to_float(&self) -> f64 {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the nearest number is meant")]
            Self::Small(integer) => *integer as f64,
            Self::Big(integer) => big_to_float(integer),
            Self::Float(float) => *float,
        }
    }

    fn into_big(self) -> BigInt {
        match self {
            Self::Small(integer) => integer.into(),
            Self::Big(integer) => integer.into_owned(),
            Self::Float(_) => BigInt::default(),
        }
    }
}

fn big_to_float(integer: &BigInt) -> f64 {
    to_float(&integer.to_string())
}

impl Value<'_> {
    fn big(integer: BigInt) -> Self {
        Self::BigInteger(Rc::new(Big::from(integer)))
    }

    /// Makes a number that keeps this text.
    pub(crate) fn decimal(text: String) -> Self {
        Self::OwnedDecimal(Rc::new(Chars::from(text)))
    }

    /// Returns the floating point number nearest to a number. `None` for any other value.
    pub(crate) fn to_float(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the nearest number is meant")]
            Self::Integer(integer) => Some(*integer as f64),
            Self::BigInteger(integer) => Some(big_to_float(integer)),
            Self::Float(float) => Some(*float),
            Self::Decimal(text) => Some(to_float(text)),
            Self::OwnedDecimal(text) => Some(to_float(text)),
            Self::Null
            | Self::Boolean(_)
            | Self::String(_)
            | Self::Lazy(_)
            | Self::Array(_)
            | Self::Object(_) => None,
        }
    }

    /// Returns the integer that the value is, if it is far from the bounds of 64 bits.
    pub(crate) fn as_small_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(*integer).filter(|integer| *integer < i64::MAX / 2),
            Self::Decimal(text) => match of_text(text) {
                Ok(Operand::Small(integer)) => Some(integer).filter(|_| text.len() <= SMALL_DIGITS),
                Ok(Operand::Big(_) | Operand::Float(_)) | Err(TooManyDigits) => None,
            },
            Self::Null
            | Self::Boolean(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::OwnedDecimal(_)
            | Self::String(_)
            | Self::Lazy(_)
            | Self::Array(_)
            | Self::Object(_) => None,
        }
    }

    /// Whether this is the number NaN.
    pub(crate) fn is_nan(&self) -> bool {
        matches!(self, Self::Float(float) if float.is_nan())
    }

    /// Returns the number with the opposite sign. A zero that was not computed loses its sign, as
    /// in jq.
    pub(crate) fn negated(&self) -> Option<Self> {
        Some(match self {
            Self::Integer(integer) => match integer.checked_neg() {
                Some(negated) => Self::Integer(negated),
                None => Self::big(-BigInt::from(*integer)),
            },
            Self::BigInteger(integer) => {
                let negated = -&***integer;
                match i64::try_from(&negated) {
                    Ok(small) => Self::Integer(small),
                    Err(_) => Self::big(negated),
                }
            }
            Self::Float(float) => Self::Float(-float),
            Self::Decimal(text) => match text.strip_prefix('-') {
                Some(positive) => Self::Decimal(positive),
                None => negated_text(text),
            },
            Self::OwnedDecimal(text) => match text.strip_prefix('-') {
                Some(positive) => Self::decimal(positive.to_owned()),
                None => negated_text(text),
            },
            Self::Null
            | Self::Boolean(_)
            | Self::String(_)
            | Self::Lazy(_)
            | Self::Array(_)
            | Self::Object(_) => return None,
        })
    }
}

fn negated_text<'a>(text: &str) -> Value<'a> {
    let digits = text.split(['e', 'E']).next().unwrap_or(text);
    if digits.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        return Value::decimal(text.to_owned());
    }
    Value::decimal(format!("-{text}"))
}

/// Compares two numbers, neither of which is NaN. Two exact numbers are compared exactly, and so is
/// an integer with any number. If one number has a point or an exponent and the other one is a
/// floating point number, both are compared as floating point numbers.
pub(crate) fn compare_numbers(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    if let (Value::Integer(left), Value::Integer(right)) = (left, right) {
        return left.cmp(right);
    }
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => {
            left.partial_cmp(right).unwrap_or(Ordering::Equal)
        }
        (Value::Float(left), _) => compare_float(right, *left).reverse(),
        (_, Value::Float(right)) => compare_float(left, *right),
        _ => compare_exact(left, right),
    }
}

/// Compares an exact number with a floating point number that is not NaN.
fn compare_float(exact: &Value<'_>, float: f64) -> Ordering {
    let by_value = |value: f64| value.partial_cmp(&float).unwrap_or(Ordering::Equal);
    let integer = match operand(exact) {
        Ok(Operand::Float(value)) => return by_value(value),
        Ok(Operand::Small(integer)) if integer.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS => {
            #[expect(
                clippy::cast_precision_loss,
                reason = "an integer this small is exact as a double"
            )]
            return by_value(integer as f64);
        }
        Ok(integer) => integer.into_big(),
        // The integer is longer than any floating point number.
        Err(TooManyDigits) => return by_value(exact.to_float().unwrap_or(f64::NAN)),
    };
    let whole = float.trunc();
    match float_to_big(whole) {
        None if float > 0.0 => Ordering::Less,
        None => Ordering::Greater,
        Some(big) => integer
            .cmp(&big)
            .then_with(|| whole.partial_cmp(&float).unwrap_or(Ordering::Equal)),
    }
}

/// Converts a floating point number without fraction to an integer. `None` for infinities.
fn float_to_big(float: f64) -> Option<BigInt> {
    if !float.is_finite() {
        return None;
    }
    let bits = float.abs().to_bits();
    let exponent = i64::try_from(bits >> (f64::MANTISSA_DIGITS - 1)).unwrap_or(0) - 1075;
    let fraction = bits & ((1 << (f64::MANTISSA_DIGITS - 1)) - 1);
    let mantissa = BigInt::from(fraction | 1 << (f64::MANTISSA_DIGITS - 1));
    let magnitude = if float == 0.0 {
        BigInt::default()
    } else if exponent >= 0 {
        mantissa << exponent.unsigned_abs()
    } else {
        mantissa >> exponent.unsigned_abs()
    };
    Some(if float < 0.0 { -magnitude } else { magnitude })
}

fn compare_exact(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (operand(left), operand(right)) {
        (Ok(Operand::Small(left)), Ok(Operand::Small(right))) => left.cmp(&right),
        (Ok(Operand::Big(left)), Ok(Operand::Big(right))) => left.cmp(&right),
        (Ok(Operand::Small(_)), Ok(Operand::Big(right))) => match right.sign() {
            Sign::Minus => Ordering::Greater,
            Sign::NoSign | Sign::Plus => Ordering::Less,
        },
        (Ok(Operand::Big(left)), Ok(Operand::Small(_))) => match left.sign() {
            Sign::Minus => Ordering::Less,
            Sign::NoSign | Sign::Plus => Ordering::Greater,
        },
        // Rounding keeps the order. So the texts are compared only if the rounded numbers are
        // equal.
        (Ok(one @ Operand::Float(_)), Ok(two @ (Operand::Float(_) | Operand::Small(_))))
        | (Ok(one @ Operand::Small(_)), Ok(two @ Operand::Float(_)))
            if rounded(&one, &two) != Ordering::Equal =>
        {
            rounded(&one, &two)
        }
        _ => compare_texts(
            &super::print::number_text(left),
            &super::print::number_text(right),
        ),
    }
}

/// Compares two numbers as floating point numbers.
fn rounded(left: &Operand<'_>, right: &Operand<'_>) -> Ordering {
    let (left, right) = (left.to_float(), right.to_float());
    left.partial_cmp(&right).unwrap_or(Ordering::Equal)
}

/// Compares two JSON numbers by their exact decimal values, whatever their length and exponent.
fn compare_texts(left: &str, right: &str) -> Ordering {
    let (left, right) = (Decimal::of(left), Decimal::of(right));
    match (left.sign(), right.sign()) {
        (0, 0) => Ordering::Equal,
        (one, two) if one != two => one.cmp(&two),
        (sign, _) => {
            let magnitudes = left
                .exponent
                .cmp(&right.exponent)
                .then_with(|| left.compare_digits(&right));
            if sign < 0 {
                magnitudes.reverse()
            } else {
                magnitudes
            }
        }
    }
}

/// The parts of a number: ± 0.DIGITS × 10^exponent, where the first digit is not 0.
struct Decimal<'t> {
    negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

impl<'t> Decimal<'t> {
    fn of(text: &'t str) -> Self {
        let (negative, rest) = text
            .strip_prefix('-')
            .map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest
            .split_once(['e', 'E'])
            .map_or((rest, 0), |(mantissa, exponent)| {
                (mantissa, saturated(exponent))
            });
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let significant = whole.trim_start_matches('0').as_bytes();
        let (shift, fraction) = if significant.is_empty() {
            let trimmed = fraction.trim_start_matches('0');
            (
                -i64::try_from(fraction.len() - trimmed.len()).unwrap_or(0),
                trimmed,
            )
        } else {
            (i64::try_from(significant.len()).unwrap_or(0), fraction)
        };
        Self {
            negative,
            whole: significant,
            fraction: fraction.trim_end_matches('0').as_bytes(),
            exponent: exponent.saturating_add(shift),
        }
    }

    /// Returns -1, 0 or 1.
    fn sign(&self) -> i8 {
        let is_zero = self.whole.is_empty() && self.fraction.is_empty();
        match (is_zero, self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }

    fn compare_digits(&self, other: &Self) -> Ordering {
        let digits = |number: &Self| number.whole.iter().chain(number.fraction).copied();
        let (mut left, mut right) = (digits(self), digits(other));
        loop {
            return match (left.next(), right.next()) {
                (Some(one), Some(two)) if one == two => continue,
                (Some(one), Some(two)) => one.cmp(&two),
                (Some(one), None) if is_significant(one) || left.any(is_significant) => {
                    Ordering::Greater
                }
                (None, Some(two)) if is_significant(two) || right.any(is_significant) => {
                    Ordering::Less
                }
                _ => Ordering::Equal,
            };
        }
    }
}

fn is_significant(digit: u8) -> bool {
    digit != b'0'
}

fn saturated(exponent: &str) -> i64 {
    let (negative, digits) = exponent.strip_prefix('-').map_or_else(
        || (false, exponent.strip_prefix('+').unwrap_or(exponent)),
        |digits| (true, digits),
    );
    let magnitude = digits
        .parse::<i64>()
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4);
    if negative { -magnitude } else { magnitude }
}
