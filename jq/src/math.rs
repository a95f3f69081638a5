//! The mathematical functions of jq, by name. This module sees only numbers, not JSON values.
//!
//! Rust's standard library passes many functions on to the C library, so their values equal jq's to
//! the last digit. Some other functions are computed here from the functions of the standard
//! library. The error function, gamma and Bessel functions are computed by the crate `libm`, so
//! their last digit may differ.

use std::f64::consts::LN_2;

/// A function, by the number of its arguments. A function of one argument gets the input of the jq
/// filter. A function of two or three gets the arguments of the filter.
#[derive(Clone, Copy)]
pub(crate) enum Function {
    /// A function from one number to one number.
    One(fn(f64) -> f64),
    /// A function from one number to an array of two numbers.
    Pair(fn(f64) -> (f64, f64)),
    /// A function from two numbers to one number.
    Two(fn(f64, f64) -> f64),
    /// A function from three numbers to one number.
    Three(fn(f64, f64, f64) -> f64),
}

/// Returns the function `name` that has `arity` arguments in jq. The input is not counted.
pub(crate) fn find(name: &str, arity: usize) -> Option<Function> {
    match arity {
        0 => one(name)
            .map(Function::One)
            .or_else(|| pair(name).map(Function::Pair)),
        2 => two(name).map(Function::Two),
        3 if name == "fma" => Some(Function::Three(f64::mul_add)),
        _ => None,
    }
}

/// All names with their arity, in alphabetical order.
pub(crate) const NAMES: [(&str, usize); 66] = [
    ("acos", 0),
    ("acosh", 0),
    ("asin", 0),
    ("asinh", 0),
    ("atan", 0),
    ("atan2", 2),
    ("atanh", 0),
    ("cbrt", 0),
    ("ceil", 0),
    ("copysign", 2),
    ("cos", 0),
    ("cosh", 0),
    ("drem", 2),
    ("erf", 0),
    ("erfc", 0),
    ("exp", 0),
    ("exp10", 0),
    ("exp2", 0),
    ("expm1", 0),
    ("fabs", 0),
    ("fdim", 2),
    ("floor", 0),
    ("fma", 3),
    ("fmax", 2),
    ("fmin", 2),
    ("fmod", 2),
    ("frexp", 0),
    ("gamma", 0),
    ("hypot", 2),
    ("j0", 0),
    ("j1", 0),
    ("jn", 2),
    ("ldexp", 2),
    ("lgamma", 0),
    ("lgamma_r", 0),
    ("log", 0),
    ("log10", 0),
    ("log1p", 0),
    ("log2", 0),
    ("logb", 0),
    ("modf", 0),
    ("nearbyint", 0),
    ("nextafter", 2),
    ("nexttoward", 2),
    ("pow", 2),
    ("remainder", 2),
    ("rint", 0),
    ("round", 0),
    ("scalb", 2),
    ("scalbln", 2),
    ("significand", 0),
    ("sin", 0),
    ("sinh", 0),
    ("sqrt", 0),
    ("tan", 0),
    ("tanh", 0),
    ("tgamma", 0),
    ("trunc", 0),
    ("y0", 0),
    ("y1", 0),
    ("yn", 2),
    ("", 0),
    ("fma", 2),
    ("sin", 1),
    ("pow", 0),
    ("pow10", 0),
];

fn one(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "acos" => f64::acos,
        "acosh" => acosh,
        "asin" => f64::asin,
        "asinh" => asinh,
        "atan" => f64::atan,
        "atanh" => atanh,
        "cbrt" => f64::cbrt,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "erf" => libm::erf,
        "erfc" => libm::erfc,
        "exp" => f64::exp,
        "exp10" => exp10,
        "exp2" => f64::exp2,
        "expm1" => f64::exp_m1,
        "fabs" => f64::abs,
        "floor" => f64::floor,
        "gamma" | "lgamma" => |x| lgamma(x).0,
        "j0" => libm::j0,
        "j1" => libm::j1,
        "log" => f64::ln,
        "log10" => f64::log10,
        "log1p" => f64::ln_1p,
        "log2" => f64::log2,
        "logb" => logb,
        "nearbyint" | "rint" => f64::round_ties_even,
        "round" => f64::round,
        "significand" => significand,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        "tgamma" => tgamma,
        "trunc" => f64::trunc,
        "y0" => libm::y0,
        "y1" => libm::y1,
        _ => return None,
    })
}

fn pair(name: &str) -> Option<fn(f64) -> (f64, f64)> {
    Some(match name {
        "frexp" => |x| {
            let (fraction, exponent) = frexp(x);
            (fraction, f64::from(exponent))
        },
        "lgamma_r" => |x| {
            let (value, sign) = lgamma(x);
            (value, f64::from(sign))
        },
        "modf" => modf,
        _ => return None,
    })
}

fn two(name: &str) -> Option<fn(f64, f64) -> f64> {
    Some(match name {
        "atan2" => f64::atan2,
        "copysign" => f64::copysign,
        "drem" | "remainder" => libm::remainder,
        "fdim" => libm::fdim,
        "fmax" => fmax,
        "fmin" => fmin,
        "fmod" => |x, y| x % y,
        "hypot" => f64::hypot,
        "jn" => |order, x| libm::jn(to_int(order), x),
        "ldexp" => |x, exponent| libm::ldexp(x, to_int(exponent)),
        "nextafter" | "nexttoward" => libm::nextafter,
        "pow" => f64::powf,
        "scalb" => scalb,
        "scalbln" => scalbln,
        "yn" => |order, x| libm::yn(to_int(order), x),
        _ => return None,
    })
}

/// Converts a number to an `int` as C does. A number out of range becomes the least `int`.
fn to_int(number: f64) -> i32 {
    let range = f64::from(i32::MIN)..=f64::from(i32::MAX);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked, and the fraction is cut on purpose"
    )]
    if range.contains(&number.trunc()) {
        number as i32
    } else {
        i32::MIN
    }
}

fn asinh(x: f64) -> f64 {
    // For a larger number, adding 1 to its square changes nothing. For a number below the inverse
    // of this, the cubic term is smaller than the precision.
    const LARGE: f64 = (1 << 28) as f64;
    let size = x.abs();
    if !x.is_finite() || size < 1.0 / LARGE {
        return x;
    }
    let value = if size > LARGE {
        size.ln() + LN_2
    } else if size > 2.0 {
        (2.0 * size + 1.0 / ((x * x + 1.0).sqrt() + size)).ln()
    } else {
        let square = x * x;
        (size + square / (1.0 + (1.0 + square).sqrt())).ln_1p()
    };
    value.copysign(x)
}

fn acosh(x: f64) -> f64 {
    const LARGE: f64 = (1 << 28) as f64;
    if x > LARGE {
        x.ln() + LN_2
    } else if x > 2.0 {
        (2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt())).ln()
    } else {
        let beyond = x - 1.0;
        (beyond + (2.0 * beyond + beyond * beyond).sqrt()).ln_1p()
    }
}

fn atanh(x: f64) -> f64 {
    let size = x.abs();
    let value = if size < 0.5 {
        let double = size + size;
        0.5 * (double + double * size / (1.0 - size)).ln_1p()
    } else {
        0.5 * ((size + size) / (1.0 - size)).ln_1p()
    };
    value.copysign(x)
}

/// Returns ten to the power of `x`. It is computed with two powers of `e`, so that its rounding
/// error is that of jq.
fn exp10(x: f64) -> f64 {
    // The logarithm of ten in two parts. The first one has so few bits that its products with the
    // first half of `x` are exact.
    const LN_10_HIGH: f64 = 2.302_585_065_364_837_6;
    const LN_10_LOW: f64 = 2.762_920_803_753_361_7e-8;
    const LOW_BITS: u64 = 0x07FF_FFFF;
    if !x.is_finite() {
        return f64::exp(x);
    }
    if x < -324.0 {
        return 0.0;
    }
    if x > 308.3 {
        return f64::INFINITY;
    }
    if x.abs() < f64::EPSILON / 8.0 {
        return 1.0;
    }
    let high = f64::from_bits(x.to_bits() & !LOW_BITS);
    let low = x - high;
    f64::exp(high * LN_10_HIGH) * f64::exp(high * LN_10_LOW + low * std::f64::consts::LN_10)
}

/// Returns the logarithm of the absolute value of the gamma function, and the sign of the function.
fn lgamma(x: f64) -> (f64, i32) {
    if x == 0.0 {
        return (f64::INFINITY, if x.is_sign_negative() { -1 } else { 1 });
    }
    // `libm` gives poles and infinities no sign; C gives them a positive one.
    match libm::lgamma_r(x) {
        (value, 0) => (value, 1),
        other => other,
    }
}

fn tgamma(x: f64) -> f64 {
    libm::tgamma(x)
}

fn logb(x: f64) -> f64 {
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if x.is_finite() {
        f64::from(frexp(x).1 - 1)
    } else {
        x * x
    }
}

fn significand(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        x
    } else {
        2.0 * frexp(x).0
    }
}

/// Splits a number into a fraction and a power of two. Returns the fraction, which is at least a
/// half and below one, and the exponent.
fn frexp(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        (x, 0)
    } else {
        libm::frexp(x)
    }
}

/// Returns the fraction and the whole part. Both have the sign of the number.
fn modf(x: f64) -> (f64, f64) {
    let whole = x.trunc();
    let fraction = if x.is_infinite() { 0.0 } else { x - whole };
    (if x.is_nan() { x } else { fraction.copysign(x) }, whole)
}

/// Returns the smaller number. If both are equal, returns the first one, as jq's C library does.
fn fmin(x: f64, y: f64) -> f64 {
    if x <= y || y.is_nan() { x } else { y }
}

/// Returns the larger number. If both are equal, returns the first one, as jq's C library does.
fn fmax(x: f64, y: f64) -> f64 {
    if x >= y || y.is_nan() { x } else { y }
}

fn scalb(x: f64, exponent: f64) -> f64 {
    if x.is_nan() || exponent.is_nan() {
        return f64::NAN;
    }
    if exponent.is_infinite() {
        return if exponent > 0.0 {
            x * exponent
        } else if x == 0.0 {
            x
        } else {
            x / -exponent
        };
    }
    if exponent.fract() == 0.0 {
        scale(x, exponent)
    } else {
        f64::NAN
    }
}

fn scalbln(x: f64, exponent: f64) -> f64 {
    // If a number is out of range, C's conversion gives the least integer.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    scale(
        x,
        if (-LIMIT..LIMIT).contains(&exponent) {
            exponent.trunc()
        } else {
            -LIMIT
        },
    )
}

/// Returns `x` times two to the power of a whole `exponent`.
fn scale(x: f64, exponent: f64) -> f64 {
    // With a larger exponent, every number becomes zero or infinite.
    const FAR: f64 = 65_000.0;
    libm::scalbn(x, to_int(exponent.clamp(-FAR, FAR)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, arguments: &[f64], expected: f64) {
        let given = match (
            find(
                name,
                if arguments.len() == 1 {
                    0
                } else {
                    arguments.len()
                },
            ),
            arguments,
        ) {
            (Some(Function::One(function)), &[x]) => function(x),
            (Some(Function::Two(function)), &[x, y]) => function(x, y),
            (Some(Function::Three(function)), &[x, y, z]) => function(x, y, z),
            _ => panic!("{name} does not take {arguments:?}"),
        };
        let are_same = given.to_bits() == expected.to_bits() || given.is_nan() && expected.is_nan();
        assert!(
            are_same,
            "{name} of {arguments:?} is {given:?}, expected {expected:?}"
        );
    }

    /// Compares two results of a function whose last digit may differ.
    #[track_caller]
    fn near(name: &str, x: f64, expected: f64) {
        let Some(Function::One(function)) = find(name, 0) else {
            panic!("{name}")
        };
        let given = function(x);
        assert!(
            (given / expected - 1.0).abs() < 1e-14,
            "{name} of {x} is {given:?}, expected {expected:?}"
        );
    }

    #[test]
    fn every_function_of_jq_is_known_by_name_and_arity() {
        let unknown = NAMES
            .iter()
            .filter(|(name, arity)| find(name, *arity).is_none())
            .collect::<Vec<_>>();
        assert_eq!(
            unknown,
            [
                &("", 0),
                &("fma", 2),
                &("sin", 1),
                &("pow", 0),
                &("pow10", 0)
            ]
        );
    }

    #[test]
    fn values_are_those_of_jq() {
        check("exp10", &[3.0], 1_000.000_000_000_000_1);
        check("exp10", &[-1.0], 0.099_999_999_999_999_99);
        check("exp10", &[0.7], 5.011_872_336_272_723);
        check("exp10", &[10.0], 1e10);
        check("exp10", &[-18.0], 9.999_999_999_999_999e-19);
        check("exp10", &[1e9], f64::INFINITY);
        check("exp10", &[f64::NEG_INFINITY], 0.0);
        check("asinh", &[-0.6], -0.568_824_898_732_247_5);
        check("asinh", &[3.0], 1.818_446_459_232_066_8);
        check("asinh", &[1e9], 21.416_413_017_506_354);
        check("asinh", &[-0.0], -0.0);
        check("acosh", &[3.0], 1.762_747_174_039_086);
        check("acosh", &[0.5], f64::NAN);
        check("acosh", &[8.0 / 7.0], 0.528_355_362_966_481_8);
        check("atanh", &[0.7], 0.867_300_527_694_053_1);
        check("atanh", &[0.2], 0.202_732_554_054_082_2);
        check("atanh", &[-1.0], f64::NEG_INFINITY);
        check("atanh", &[2.0], f64::NAN);
        check("logb", &[5e-324], -1074.0);
        check("logb", &[-0.0], f64::NEG_INFINITY);
        check("significand", &[1e-310], 1.150_523_606_311_878_7);
        check("significand", &[-2.5], -1.25);
        check("rint", &[2.5], 2.0);
        check("round", &[2.5], 3.0);
        check("gamma", &[0.0], f64::INFINITY);
        check("tgamma", &[-1.0], f64::NAN);
        check("tgamma", &[-0.0], f64::NEG_INFINITY);
    }

    #[test]
    fn functions_of_two_arguments_are_those_of_c() {
        check("ldexp", &[1.0, 1e10], 0.0);
        check("ldexp", &[1.0, 2.9], 4.0);
        check("ldexp", &[1.0, -2.9], 0.25);
        check("ldexp", &[1.0, f64::NAN], 0.0);
        check("scalb", &[1.0, 2.5], f64::NAN);
        check("scalb", &[1.0, 3.0], 8.0);
        check("scalb", &[0.0, f64::INFINITY], f64::NAN);
        check("scalb", &[f64::INFINITY, f64::NEG_INFINITY], f64::NAN);
        check("scalb", &[1.0, 1e10], f64::INFINITY);
        check("scalbln", &[1.0, 1e19], 0.0);
        check("scalbln", &[1.0, 2.7], 4.0);
        check("fmin", &[f64::NAN, 1.0], 1.0);
        check("fdim", &[f64::INFINITY, f64::INFINITY], 0.0);
        check("fmod", &[-5.5, 2.0], -1.5);
        check("drem", &[5.0, 2.0], 1.0);
        check("nextafter", &[0.0, 1.0], 5e-324);
        check("fma", &[2.0, 3.0, 4.0], 10.0);
        check("jn", &[2.9, 1.5], libm::jn(2, 1.5));
    }

    #[test]
    fn values_of_the_crate_libm_differ_at_most_in_the_last_digit() {
        near("erf", 1.0, 0.842_700_792_949_714_9);
        near("erfc", 1.0, 0.157_299_207_050_285_13);
        near("j0", 1.0, 0.765_197_686_557_966_6);
        near("y1", 1.0, -0.781_212_821_300_288_7);
        near("lgamma", 170.0, 701.437_263_808_737);
        near("tgamma", 170.0, 4.269_068_009_004_705_6e304);
    }

    #[test]
    fn pairs_have_the_signs_of_c() {
        let pair = |name, x| match find(name, 0) {
            Some(Function::Pair(function)) => function(x),
            _ => panic!("{name}"),
        };
        assert_eq!(format!("{:?}", pair("modf", -0.0)), "(-0.0, -0.0)");
        assert_eq!(
            format!("{:?}", pair("modf", f64::NEG_INFINITY)),
            "(-0.0, -inf)"
        );
        assert_eq!(pair("modf", -1.5), (-0.5, -1.0));
        assert_eq!(pair("frexp", 1e308), (0.556_268_464_626_800_4, 1024.0));
        assert_eq!(pair("frexp", f64::INFINITY), (f64::INFINITY, 0.0));
        assert_eq!(pair("lgamma_r", -0.0), (f64::INFINITY, -1.0));
        assert_eq!(pair("lgamma_r", -1.0), (f64::INFINITY, 1.0));
        assert_eq!(format!("{:?}", pair("lgamma_r", -0.5).1), "-1.0");
    }
}
