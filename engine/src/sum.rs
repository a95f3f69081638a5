//! Exact sums, in decimal arithmetic. Only the final result is rounded, so it does not depend on
//! the order in which numbers are added or sums are combined. Uses the texts of numbers, and
//! neither groups nor records.

use std::fmt::Write as _;

use num_bigint::{BigInt, Sign};
use zephyr_jq::write_double;

use crate::number::{Decimal, NumberError, shown};
use crate::record::Record;

/// Numbers that are added may have exponents from minus to plus this number. This range covers
/// 64-bit and 128-bit floating point, and any sum stays below 20 kB.
pub const MAX_SUM_EXPONENT: i32 = 10_000;

/// How many significant digits a number that is added may have, for the same reason.
pub const MAX_SUM_DIGITS: usize = 10_000;

/// How many significant digits of a quotient are computed before it is rounded to 64-bit floating
/// point. A number halfway between two 64-bit numbers has fewer than 770 digits, so this many
/// digits, and one more for the remainder, decide every case.
const QUOTIENT_DIGITS: u32 = 800;

/// An integer below this is exact as 64-bit floating point.
const EXACT_FLOAT: i128 = 1 << 53;

/// The exact sum of numbers, and how many numbers there were. The order of adding and merging does
/// not matter, and equal sums are encoded as equal bytes.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    count: u64,
    /// Whether at least one number was written with a point or an exponent. Results are floating
    /// point then.
    fractional: bool,
    /// The sum of integers that is not yet in `mantissa`.
    small: i128,
    /// The sum of short numbers with digits after the point that is not yet in `mantissa`, in units
    /// of 10^-[`SCALE`].
    short: i128,
    /// The rest of the sum: mantissa × 10^exponent.
    mantissa: BigInt,
    exponent: i32,
}

/// Compares the sums, however they are represented.
impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
            && self.fractional == other.fractional
            && self.value() == other.value()
    }
}

impl Eq for ExactSum {}

impl ExactSum {
    /// The sum of nothing: 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many numbers were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a number by its text. Fails for NaN and for numbers beyond [`MAX_SUM_EXPONENT`] and
    /// [`MAX_SUM_DIGITS`].
    pub fn add(&mut self, number: &str) -> Result<(), NumberError> {
        if let Some(integer) = small_integer(number) {
            self.add_small(integer.into());
        } else if let Some(units) = short_decimal(number) {
            self.fractional = true;
            self.add_short(units);
        } else {
            let decimal = Decimal::parse(number, MAX_SUM_EXPONENT)?;
            if decimal.digits.len() > MAX_SUM_DIGITS {
                return Err(NumberError::TooManyDigits {
                    number: shown(number),
                    limit: MAX_SUM_DIGITS,
                });
            }
            self.fractional |= number.contains(['.', 'e', 'E']);
            self.add_decimal(&decimal);
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Adds all that was added to `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.fractional |= other.fractional;
        self.add_small(other.small);
        self.add_short(other.short);
        self.add_scaled(&other.mantissa, other.exponent);
    }

    /// Returns the sum. If only integers were added, it is the exact integer, of any length.
    /// Otherwise it is the nearest 64-bit floating point number, rounded once. If nothing was
    /// added, it is 0.
    pub fn total(&self) -> Result<Record, NumberError> {
        let (mantissa, exponent) = self.value();
        if !self.fractional {
            return Ok(Record::trusted(plain_integer(&mantissa, exponent)));
        }
        float_record(&format!("{mantissa}e{exponent}"))
    }

    /// Returns the sum divided by the count, rounded once. It is an integer if only integers were
    /// added and the division has no remainder. It is `null` if nothing was added.
    pub fn average(&self) -> Result<Record, NumberError> {
        if self.count == 0 {
            return Ok(Record::null());
        }
        let (mantissa, exponent) = self.value();
        let count = BigInt::from(self.count);
        if !self.fractional {
            let whole = scaled(mantissa.clone(), exponent);
            if (&whole % &count).sign() == Sign::NoSign {
                return Ok(Record::trusted((whole / count).to_string()));
            }
        }
        float_record(&quotient(mantissa, exponent, &count))
    }

    /// Bytes for [`ExactSum::decode`]. Equal sums of equally many numbers give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (mantissa, exponent) = self.value();
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(self.count.to_be_bytes());
        bytes.push(u8::from(self.fractional));
        bytes.extend(exponent.to_be_bytes());
        bytes.extend(mantissa.to_signed_bytes_be());
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, NumberError> {
        let (count, rest) = bytes.split_first_chunk::<8>().ok_or(NumberError::Damaged)?;
        let (&fractional, rest) = rest.split_first().ok_or(NumberError::Damaged)?;
        let (exponent, mantissa) = rest.split_first_chunk::<4>().ok_or(NumberError::Damaged)?;
        let exponent = i32::from_be_bytes(*exponent);
        // Digits after the point make the exponent smaller, and the sum of many large numbers has a
        // larger exponent than each of them. So the range is twice as large here.
        let exponents = -2 * MAX_SUM_EXPONENT..=2 * MAX_SUM_EXPONENT;
        if fractional > 1 || mantissa.is_empty() || !exponents.contains(&exponent) {
            return Err(NumberError::Damaged);
        }
        Ok(Self {
            count: u64::from_be_bytes(*count),
            fractional: fractional == 1,
            small: 0,
            short: 0,
            mantissa: BigInt::from_signed_bytes_be(mantissa),
            exponent,
        })
    }

    /// Approximate number of bytes that this sum holds on the heap.
    pub fn memory_bytes(&self) -> usize {
        usize::try_from(self.mantissa.bits() / 8).unwrap_or(usize::MAX)
    }

    fn add_small(&mut self, integer: i128) {
        if let Some(sum) = self.small.checked_add(integer) {
            self.small = sum;
        } else {
            self.add_scaled(&BigInt::from(integer), 0);
        }
    }

    fn add_short(&mut self, units: i128) {
        if let Some(sum) = self.short.checked_add(units) {
            self.short = sum;
        } else {
            self.add_scaled(&BigInt::from(units), -SCALE);
        }
    }

    fn add_decimal(&mut self, decimal: &Decimal) {
        let (mantissa, exponent) = mantissa(decimal);
        self.add_scaled(&mantissa, exponent);
    }

    fn add_scaled(&mut self, mantissa: &BigInt, exponent: i32) {
        if mantissa.sign() == Sign::NoSign {
            return;
        }
        if self.mantissa.sign() == Sign::NoSign {
            self.exponent = exponent;
        }
        let lower = self.exponent.min(exponent);
        if self.exponent > lower {
            self.mantissa = scaled(std::mem::take(&mut self.mantissa), self.exponent - lower);
            self.exponent = lower;
        }
        if exponent > lower {
            self.mantissa += scaled(mantissa.clone(), exponent - lower);
        } else {
            self.mantissa += mantissa;
        }
    }

    /// The same as [`Self::value`], if all numbers and their sum are short; otherwise `None`.
    fn short_value(&self) -> Option<(i128, i32)> {
        if self.mantissa.sign() != Sign::NoSign {
            return None;
        }
        let (mut mantissa, mut exponent) = if self.short == 0 {
            (self.small, 0)
        } else {
            let small = self.small.checked_mul(10_i128.pow(SCALE.unsigned_abs()))?;
            (small.checked_add(self.short)?, -SCALE)
        };
        if mantissa == 0 {
            return Some((0, 0));
        }
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent += 1;
        }
        Some((mantissa, exponent))
    }

    /// The whole sum as mantissa × 10^exponent in its unique normal form: the mantissa does not end
    /// in a zero, and 0 is 0 × 10^0.
    fn value(&self) -> (BigInt, i32) {
        if let Some((mantissa, exponent)) = self.short_value() {
            return (BigInt::from(mantissa), exponent);
        }
        let mut whole = Self {
            small: 0,
            short: 0,
            ..self.clone()
        };
        whole.add_scaled(&BigInt::from(self.small), 0);
        whole.add_scaled(&BigInt::from(self.short), -SCALE);
        if whole.mantissa.sign() == Sign::NoSign {
            return (BigInt::ZERO, 0);
        }
        let digits = whole.mantissa.magnitude().to_radix_le(10);
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        let zeros = i32::try_from(zeros).unwrap_or(0);
        (whole.mantissa / power_of_ten(zeros), whole.exponent + zeros)
    }
}

/// Numbers of which a standard deviation is computed may have exponents from minus to plus this
/// number. Their squares have twice as large ones, and sums of these can be encoded.
pub const MAX_SPREAD_EXPONENT: i32 = 4_000;

/// How many significant digits such a number may have.
pub const MAX_SPREAD_DIGITS: usize = 2_000;

/// How many significant digits of the square of a standard deviation are computed at least.
const SQUARE_DIGITS: u32 = 120;

/// The exact sums of numbers and of their squares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExactSpread {
    sum: ExactSum,
    squares: ExactSum,
}

impl ExactSpread {
    /// Adds a number by its text. Fails for NaN and for numbers beyond [`MAX_SPREAD_EXPONENT`] and
    /// [`MAX_SPREAD_DIGITS`].
    pub fn add(&mut self, number: &str) -> Result<(), NumberError> {
        let decimal = Decimal::parse(number, MAX_SPREAD_EXPONENT)?;
        if decimal.digits.len() > MAX_SPREAD_DIGITS {
            return Err(NumberError::TooManyDigits {
                number: shown(number),
                limit: MAX_SPREAD_DIGITS,
            });
        }
        self.sum.add(number)?;
        let (mantissa, exponent) = mantissa(&decimal);
        self.squares.add_scaled(&mantissa.pow(2), 2 * exponent);
        Ok(())
    }

    /// Adds all that was added to `other`.
    pub fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// The standard deviation of a sample: the root of the sum of the squared distances from the
    /// mean, divided by one less than the count. `null` if fewer than two numbers were added.
    pub fn deviation(&self) -> Result<Record, NumberError> {
        if self.sum.count < 2 {
            return Ok(Record::null());
        }
        let count = BigInt::from(self.sum.count);
        let (sum, sum_exponent) = self.sum.value();
        let mut distances = ExactSum::new();
        let (squares, exponent) = self.squares.value();
        distances.add_scaled(&(squares * &count), exponent);
        distances.add_scaled(&-sum.pow(2), 2 * sum_exponent);
        let (numerator, exponent) = distances.value();
        // Squares are never less than this, unless the encoded sums were damaged.
        if numerator.sign() == Sign::Minus {
            return Err(NumberError::Damaged);
        }
        let denominator: BigInt = &count * (&count - 1);
        // The exponent of the square must be even.
        let more = SQUARE_DIGITS + u32::try_from(denominator.to_string().len()).unwrap_or(64);
        let more = more.cast_signed();
        let more = if (exponent - more) % 2 == 0 {
            more
        } else {
            more + 1
        };
        let scaled = scaled(numerator, more);
        let square = &scaled / &denominator;
        let root = square.sqrt();
        // A digit for what was cut off, so that a number that lies almost halfway between two
        // floats is rounded to the right one.
        let rest = u8::from(root.pow(2) * denominator != scaled);
        float_record(&format!(
            "{}e{}",
            root * 10 + rest,
            (exponent - more) / 2 - 1
        ))
    }

    /// Bytes for [`ExactSpread::decode`].
    pub fn encode(&self) -> [Vec<u8>; 2] {
        [self.sum.encode(), self.squares.encode()]
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(sum: &[u8], squares: &[u8]) -> Result<Self, NumberError> {
        Ok(Self {
            sum: ExactSum::decode(sum)?,
            squares: ExactSum::decode(squares)?,
        })
    }

    /// Approximate number of bytes that these sums hold on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.sum.memory_bytes() + self.squares.memory_bytes()
    }
}

/// A decimal as mantissa × 10^exponent.
fn mantissa(decimal: &Decimal) -> (BigInt, i32) {
    let sign = if decimal.negative {
        Sign::Minus
    } else {
        Sign::Plus
    };
    let values: Vec<u8> = decimal.digits.iter().map(|digit| digit - b'0').collect();
    // Digits are below ten, so there is always a number.
    let mantissa = BigInt::from_radix_be(sign, &values, 10).unwrap_or_default();
    let digits = i32::try_from(decimal.digits.len()).unwrap_or(i32::MAX);
    (mantissa, decimal.exponent.saturating_sub(digits))
}

/// Short numbers are added in units of 10 to the power of minus this number.
const SCALE: i32 = 18;

/// The value of a number with a point, at most 18 digits and no exponent, in units of
/// 10^-[`SCALE`]. `None` for any other text.
fn short_decimal(number: &str) -> Option<i128> {
    const MAX_DIGITS: usize = 18;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let (whole, fraction) = digits.split_once('.')?;
    if whole.is_empty() || fraction.is_empty() || whole.len() + fraction.len() > MAX_DIGITS {
        return None;
    }
    let mut value = 0_u64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    let zeros = u32::try_from(MAX_DIGITS - fraction.len()).ok()?;
    let units = i128::from(value).checked_mul(10_i128.pow(zeros))?;
    Some(if digits.len() < number.len() {
        -units
    } else {
        units
    })
}

/// An integer of at most 18 digits, as nearly all are.
fn small_integer(number: &str) -> Option<i64> {
    const MAX_LENGTH: usize = 18;
    if number.len() > MAX_LENGTH {
        return None;
    }
    number.parse().ok()
}

fn power_of_ten(exponent: i32) -> BigInt {
    BigInt::from(10).pow(exponent.unsigned_abs())
}

/// `mantissa` × 10^`exponent` for an exponent that is not negative.
fn scaled(mantissa: BigInt, exponent: i32) -> BigInt {
    if exponent > 0 {
        mantissa * power_of_ten(exponent)
    } else {
        mantissa
    }
}

/// The digits of the integer mantissa × 10^exponent. The exponent must not be negative.
fn plain_integer(mantissa: &BigInt, exponent: i32) -> String {
    let mut text = mantissa.to_string();
    text.extend((0..exponent).map(|_| '0'));
    text
}

/// Returns a decimal text that is rounded to the same 64-bit floating point number as mantissa ×
/// 10^exponent / count.
fn quotient(mantissa: BigInt, exponent: i32, count: &BigInt) -> String {
    if let Some(quotient) = exact_operands(&mantissa, exponent, count) {
        return format!("{quotient:e}");
    }
    let bits =
        i64::try_from(count.bits()).unwrap_or(64) - i64::try_from(mantissa.bits()).unwrap_or(0);
    // A digit has more than three bits. So with this many more digits in the dividend, the quotient
    // has at least QUOTIENT_DIGITS digits.
    let more = i32::try_from(bits.max(0) / 3).unwrap_or(0) + QUOTIENT_DIGITS.cast_signed();
    let numerator = scaled(mantissa, more);
    let mut text = (&numerator / count).to_string();
    let rest = (&numerator % count).sign() != Sign::NoSign;
    // If there is a remainder, the quotient is a little larger. One more digit represents that.
    text.push(if rest { '1' } else { '0' });
    // Writing to a string cannot fail.
    let _ = write!(text, "e{}", exponent - more - 1);
    text
}

/// The quotient, if dividend and divisor are integers that are exact as floating point. Then only
/// the division rounds, and only once.
fn exact_operands(mantissa: &BigInt, exponent: i32, count: &BigInt) -> Option<f64> {
    let (mut sum, mut divisor) = (i128::try_from(mantissa).ok()?, i128::try_from(count).ok()?);
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent > 0 {
        sum = sum.checked_mul(power)?;
    } else {
        divisor = divisor.checked_mul(power)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "both are at most 2^53")]
    let quotient = sum as f64 / divisor as f64;
    (sum.abs() <= EXACT_FLOAT && divisor <= EXACT_FLOAT).then_some(quotient)
}

fn float_record(decimal: &str) -> Result<Record, NumberError> {
    // The standard library reads decimals of any length with one correct rounding.
    let float: f64 = decimal.parse().map_err(|_| NumberError::Damaged)?;
    if float.is_infinite() {
        return Err(NumberError::OutOfRange);
    }
    let mut text = String::new();
    // A sum is never negative zero, because that would depend on the numbers that were added.
    write_double(if float == 0.0 { 0.0 } else { float }, &mut text);
    Ok(Record::trusted(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(numbers: &[&str]) -> ExactSum {
        let mut sum = ExactSum::new();
        for number in numbers {
            sum.add(number).unwrap();
        }
        sum
    }

    fn total(numbers: &[&str]) -> String {
        sum_of(numbers).total().unwrap().to_string()
    }

    fn average(numbers: &[&str]) -> String {
        sum_of(numbers).average().unwrap().to_string()
    }

    #[test]
    fn sums_of_integers_are_exact_integers() {
        assert_eq!(total(&[]), "0");
        assert_eq!(total(&["1", "2", "-3"]), "0");
        assert_eq!(total(&["9007199254740993", "1"]), "9007199254740994");
        assert_eq!(total(&["9007199254740993", "2"]), "9007199254740995");
        assert_eq!(
            total(&["170141183460469231731687303715884105727", "1"]),
            "170141183460469231731687303715884105728"
        );
        assert_eq!(
            total(&["100000000000000000000000", "900000000000000000000000"]),
            "1000000000000000000000000"
        );
    }

    #[test]
    fn a_sum_of_short_numbers_goes_on_beyond_128_bits() {
        let mut sum = ExactSum::new();
        for _ in 0..5000 {
            sum.add("-99999999999999999.9").unwrap();
        }
        let expected = (BigInt::from(-4_999_999_999_999_999_995_i64), 2);
        assert_eq!(sum.value(), expected);
        let average = sum.average().unwrap().to_string();
        assert_eq!(average.parse::<f64>(), Ok(-1e17));
    }

    #[test]
    fn sums_with_fractions_are_rounded_once() {
        assert_eq!(total(&["0.1", "0.2"]), "0.3");
        assert_eq!(total(&["1e300", "1", "-1e300"]), "1");
        assert_eq!(total(&["0.5", "0.5"]), "1");
        assert_eq!(total(&["1e20"]), "1e+20");
        assert_eq!(total(&["1e400", "-1e400", "0.25"]), "0.25");
        assert_eq!(total(&["-0.0"]), "0");
    }

    #[test]
    fn a_sum_beyond_floating_point_is_an_error_and_not_infinity() {
        assert_eq!(
            sum_of(&["1e308", "1e308"]).total(),
            Err(NumberError::OutOfRange)
        );
        assert_eq!(sum_of(&["1.5e400"]).average(), Err(NumberError::OutOfRange));
    }

    #[test]
    fn averages_are_exact_until_they_are_written() {
        assert_eq!(average(&[]), "null");
        assert_eq!(average(&["1", "2", "3"]), "2");
        assert_eq!(average(&["1", "2"]), "1.5");
        assert_eq!(average(&["1", "1", "2"]), "1.3333333333333333");
        assert_eq!(
            average(&["9007199254740993", "9007199254740993"]),
            "9007199254740993"
        );
        assert_eq!(
            average(&["9007199254740993", "9007199254740994"]),
            "9007199254740994"
        );
        assert_eq!(average(&["0.1", "0.2", "0.3"]), "0.2");
        assert_eq!(average(&["1e-400", "0"]), "0");
        assert_eq!(
            average(&["100000000000000000000", "100000000000000000003", "0"]),
            "66666666666666660000"
        );
    }

    #[test]
    fn numbers_too_large_for_exact_arithmetic_are_named() {
        for number in ["1e999999999", "1e-999999999", "-1e10001"] {
            let error = ExactSum::new().add(number).unwrap_err().to_string();
            assert!(error.contains(number) && error.contains("10000"), "{error}");
        }
        let long = "1".repeat(MAX_SUM_DIGITS + 1);
        assert!(matches!(
            ExactSum::new().add(&long),
            Err(NumberError::Exponent { .. } | NumberError::TooManyDigits { .. })
        ));
    }

    #[test]
    fn a_text_that_is_not_a_number_is_refused() {
        assert!(matches!(
            ExactSum::new().add("NaN"),
            Err(NumberError::NotFinite { .. })
        ));
        assert!(matches!(
            ExactSum::new().add("\"1\""),
            Err(NumberError::NotANumber { .. })
        ));
    }

    #[test]
    fn sums_at_the_limits_survive_encoding() {
        let digits = format!("1.{}1e-10000", "0".repeat(9_998));
        for number in ["1e9999", "-9e9999", "1e-10000", digits.as_str()] {
            let sum = sum_of(&[number; 100]);
            assert_eq!(
                ExactSum::decode(&sum.encode()),
                Ok(sum),
                "{}",
                shown(number)
            );
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        for bytes in [
            &b""[..],
            &[0; 8],
            &[0; 13],
            &[9; 20],
            &[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(
                ExactSum::decode(bytes),
                Err(NumberError::Damaged),
                "{bytes:?}"
            );
        }
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|integer| integer.to_string()),
            any::<i128>().prop_map(|integer| integer.to_string()),
            (any::<i64>(), -30..30)
                .prop_map(|(mantissa, exponent)| format!("{mantissa}e{exponent}")),
            (-1_000_000..1_000_000, 0..1000)
                .prop_map(|(whole, fraction)| format!("{whole}.{fraction:03}")),
            (any::<i64>(), 1..18_usize).prop_map(|(digits, point)| {
                let digits = format!("{digits:019}");
                let (whole, fraction) = digits.split_at(point + 1);
                format!("{whole}.{fraction}")
            }),
        ]
    }

    proptest! {
        #[test]
        fn the_order_of_adding_and_merging_does_not_change_a_sum(
            numbers in proptest::collection::vec(number(), 0..12),
            cut in 0_usize..12,
            seed in any::<prop::sample::Index>(),
        ) {
            let texts: Vec<&str> = numbers.iter().map(String::as_str).collect();
            let whole = sum_of(&texts);
            let mut rotated = texts.clone();
            if !rotated.is_empty() {
                rotated.rotate_left(seed.index(texts.len()));
            }
            let (left, right) = rotated.split_at(cut.min(rotated.len()));
            let mut merged = ExactSum::decode(&sum_of(right).encode()).unwrap();
            merged.merge(&sum_of(left));
            prop_assert_eq!(merged.encode(), whole.encode());
            prop_assert_eq!(merged.total(), whole.total());
            prop_assert_eq!(merged.average(), whole.average());
        }

        #[test]
        fn short_numbers_are_added_as_long_ones_are(
            numbers in proptest::collection::vec((-1_000_000_000..1_000_000_000_i64, 1..9_u32, 1..4000_u32), 0..12),
        ) {
            let (mut short, mut long) = (ExactSum::new(), ExactSum::new());
            for (value, digits, times) in numbers {
                let unit = 10_i64.pow(digits);
                let sign = if value < 0 { "-" } else { "" };
                let (whole, fraction) = (value.abs() / unit, value.abs() % unit);
                let digits = digits as usize;
                let text = format!("{sign}{whole}.{fraction:0digits$}");
                prop_assert!(short_decimal(&text).is_some());
                for _ in 0..times % 7 {
                    short.add(&text).unwrap();
                    long.add_decimal(&Decimal::parse(&text, MAX_SUM_EXPONENT).unwrap());
                    long.count += 1;
                    long.fractional = true;
                }
            }
            prop_assert_eq!(short.encode(), long.encode());
            prop_assert_eq!(short.total(), long.total());
            prop_assert_eq!(short.average(), long.average());
        }

        #[test]
        fn sums_of_integers_agree_with_integer_arithmetic(numbers in proptest::collection::vec(any::<i64>(), 0..20)) {
            let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let expected: i128 = numbers.iter().copied().map(i128::from).sum();
            prop_assert_eq!(total(&texts), expected.to_string());
        }

        #[test]
        fn averages_of_small_numbers_agree_with_floating_point(numbers in proptest::collection::vec(-1_000_000_i32..1_000_000, 1..20)) {
            // Numbers with a point use the longer computation with the decimal quotient.
            let texts: Vec<String> = numbers.iter().map(|number| format!("{number}.0")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let sum: f64 = numbers.iter().copied().map(f64::from).sum();
            let expected = sum / numbers.iter().map(|_| 1.0).sum::<f64>();
            prop_assert_eq!(average(&texts).parse::<f64>().map(f64::to_bits), Ok(expected.to_bits()));
            let mut shifted = sum_of(&texts);
            (shifted.small, shifted.short) = (0, 0);
            shifted.mantissa = BigInt::from(0);
            for text in &texts {
                shifted.add_decimal(&Decimal::parse(text, MAX_SUM_EXPONENT).unwrap());
            }
            let (mantissa, exponent) = shifted.value();
            let long = quotient(scaled(mantissa, 0) * BigInt::from(1_u128 << 100), exponent, &(BigInt::from(texts.len()) * BigInt::from(1_u128 << 100)));
            prop_assert_eq!(long.parse::<f64>().map(|long| long + 0.0).map(f64::to_bits), Ok((expected + 0.0).to_bits()));
        }
    }

    fn deviation(numbers: &[&str]) -> String {
        let mut spread = ExactSpread::default();
        for number in numbers {
            spread.add(number).unwrap();
        }
        let [sum, squares] = spread.encode();
        assert_eq!(ExactSpread::decode(&sum, &squares).as_ref(), Ok(&spread));
        spread.deviation().unwrap().as_json_str().to_owned()
    }

    /// The expected values are those of Python's `statistics.stdev` over fractions.
    #[test]
    fn a_standard_deviation_is_rounded_once() {
        for (numbers, expected) in [
            (&[][..], "null"),
            (&["5"], "null"),
            (&["5", "5.0", "5e0"], "0"),
            (
                &["2", "4", "4", "4", "5", "5", "7", "9"],
                "2.138089935299395",
            ),
            (&["1e9", "1000000001", "1000000002"], "1"),
            (&["0.1", "0.2", "0.4"], "0.15275252316519466"),
            (&["1e-200", "3e-200"], "1.414213562373095e-200"),
            (&["1e300", "3e300"], "1.4142135623730952e+300"),
            (
                &["9007199254740993", "9007199254740992"],
                "0.7071067811865476",
            ),
            // A little more than half way between two floats.
            (
                &["-9007199254740993", "1e-45", "9007199254740993"],
                "9007199254740994",
            ),
        ] {
            assert_eq!(deviation(numbers), expected, "{numbers:?}");
        }
        let far = ["1e4001", "1e-4002", "NaN"];
        assert!(
            far.iter()
                .all(|number| ExactSpread::default().add(number).is_err())
        );
        assert!(
            ExactSpread::default()
                .add(&"7".repeat(MAX_SPREAD_DIGITS + 1))
                .is_err()
        );
        let mut wide = ExactSpread::default();
        for number in ["9e3999", "-9e3999", "1e-3999"] {
            wide.add(number).unwrap();
        }
        assert_eq!(wide.deviation(), Err(NumberError::OutOfRange));
        let [sum, squares] = wide.encode();
        assert_eq!(ExactSpread::decode(&sum, &squares), Ok(wide));
    }
}
