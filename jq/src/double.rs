//! Writes a 64-bit floating point number as jq does. This module does not use
//! [`Value`](crate::Value).

use std::fmt::Write as _;

/// How many zeros may be added at the end of a number to write it without exponent.
const MOST_ZEROS_BEHIND: i32 = 15;

/// How many zeros a number that is written without exponent may have directly after the point.
const MOST_ZEROS_BEFORE: i32 = 3;

/// Writes `number` as jq does: the shortest text that gives the number again, `null` if it is not a
/// number, and the largest numbers for the infinities.
pub fn write_double(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("null");
        return;
    }
    // Writing to a string cannot fail.
    if let Some(integer) = small_integer(number) {
        let _ = write!(out, "{integer}");
        return;
    }
    let number = number.clamp(f64::MIN, f64::MAX);
    // The shortest digits with an exponent: `d.ddde±x`.
    let mut shortest = String::new();
    let _ = write!(shortest, "{number:e}");
    let (sign, shortest) = shortest
        .strip_prefix('-')
        .map_or(("", shortest.as_str()), |rest| ("-", rest));
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let digits = mantissa.replace('.', "");
    let exponent = exponent.parse::<i32>().unwrap_or_default();
    out.push_str(sign);
    write_digits(&digits, exponent, out);
}

/// Returns the integer that equals the number, if it has few enough digits to be written as an
/// integer. Most numbers in programs are such integers.
fn small_integer(number: f64) -> Option<i64> {
    const LIMIT: f64 = 1e15;
    let is_small = number.abs() < LIMIT
        && number.fract() == 0.0
        && !(number == 0.0 && number.is_sign_negative());
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole and below the limit"
    )]
    is_small.then_some(number as i64)
}

/// Writes the number `d.ddd` times ten to the power of `exponent`, with or without an exponent as
/// jq does. `digits` has the digits of `d.ddd` without the point.
fn write_digits(digits: &str, exponent: i32, out: &mut String) {
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // How many digits are before the point if no exponent is written.
    let before = exponent + 1;
    if before < -MOST_ZEROS_BEFORE || before > count + MOST_ZEROS_BEHIND {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
    } else if before <= 0 {
        out.push_str("0.");
        (before..0).for_each(|_| out.push('0'));
        out.push_str(digits);
    } else if before < count {
        let (whole, fraction) = digits.split_at(usize::try_from(before).unwrap_or_default());
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    } else {
        out.push_str(digits);
        (count..before).for_each(|_| out.push('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_jq_writes_them() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000"),
            (1e16, "1e+16"),
            (1.5e16, "15000000000000000"),
            (1.5e17, "1.5e+17"),
            (123_456_789_012_345_678.0, "123456789012345680"),
            (12_345_678_901_234_567_890.0, "12345678901234567000"),
            (1e22, "1e+22"),
            (1.2e21, "1.2e+21"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (0.000_123, "0.000123"),
            (1.234e-5, "1.234e-05"),
            (5e-324, "5e-324"),
            (1e-300, "1e-300"),
            (2.225_073_858_507_201_4e-308, "2.2250738585072014e-308"),
            (f64::INFINITY, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-1.7976931348623157e+308"),
            (f64::NAN, "null"),
            (123.456, "123.456"),
            (100.0, "100"),
        ] {
            let mut out = String::new();
            write_double(number, &mut out);
            assert_eq!(out, expected);
        }
    }
}
