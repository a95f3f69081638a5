//! Arithmetic and comparison of two values. The messages of errors are those of jq.

use std::cmp::Ordering;
use std::rc::Rc;

use super::flow::{Failure, Flow, Output, error};
use crate::ast::Operator;
use crate::value::elements::Elements;
use crate::value::number::{Exact, calculate};
use crate::value::{Text, Type, Value};
use crate::{meter, stack};

/// A string that repetition makes must have fewer bytes than this, as in jq.
const MAX_REPEATED_BYTES: usize = i32::MAX as usize;

/// An integer below this is exact as a floating point number.
const EXACT_FLOAT: u64 = 1 << f64::MANTISSA_DIGITS;

/// Returns the result of an operator for two values.
pub(crate) fn operate<'v>(operator: Operator, left: Value<'v>, right: Value<'v>) -> Output<'v> {
    let ordered =
        |is_wanted: fn(Ordering) -> bool| Ok(Value::Boolean(is_wanted(left.compare(&right)?)));
    match operator {
        Operator::Equal => Ok(Value::Boolean(left.equals(&right)?)),
        Operator::Unequal => Ok(Value::Boolean(!left.equals(&right)?)),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessOrEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge),
        Operator::Add => add(left, right),
        Operator::Subtract => subtract(left, right),
        Operator::Multiply => multiply(left, right),
        Operator::Divide => divide(left, right),
        Operator::Remainder => remainder(left, right),
    }
}

/// Returns an error that names two values.
pub(crate) fn mismatch<'v>(left: &Value<'v>, right: &Value<'v>, message: &str) -> Failure<'v> {
    error(format!(
        "{} and {} {message}",
        left.shown(SHOWN_BYTES),
        right.shown(SHOWN_BYTES)
    ))
}

/// Returns an error that names a value.
pub(crate) fn unfit<'v>(value: &Value<'v>, message: &str) -> Failure<'v> {
    error(format!("{} {message}", value.shown(SHOWN_BYTES)))
}

/// Values in errors are cut to fewer bytes than this, as in jq.
pub(crate) const SHOWN_BYTES: usize = 15;

pub(crate) fn add<'v>(mut left: Value<'v>, mut right: Value<'v>) -> Output<'v> {
    match (left.kind(), right.kind()) {
        (Type::Null, _) => Ok(right),
        (_, Type::Null) => Ok(left),
        (Type::Number, Type::Number) => Ok(calculate(&left, Exact::Add, &right)?),
        (Type::String, Type::String) => {
            if let (Value::String(left), Value::String(right)) = (&mut left, &right) {
                left.append(right)?;
            }
            Ok(left)
        }
        (Type::Array, Type::Array) => {
            if right.child_count() > 0
                && let Some(elements) = left.elements_mut()
            {
                elements.extend(right.children())?;
            }
            Ok(left)
        }
        (Type::Object, Type::Object) => {
            if right.child_count() == 0 {
                return Ok(left);
            }
            if left.child_count() == 0 && right.object_mut().is_some() {
                return Ok(right);
            }
            if let Some(object) = left.object_mut() {
                for (key, value) in right.members() {
                    object.insert(key, value);
                }
            }
            Ok(left)
        }
        _ => Err(mismatch(&left, &right, "cannot be added")),
    }
}

fn subtract<'v>(mut left: Value<'v>, right: Value<'v>) -> Output<'v> {
    match (left.kind(), right.kind()) {
        (Type::Number, Type::Number) => Ok(calculate(&left, Exact::Subtract, &right)?),
        (Type::Array, Type::Array) => {
            let removed = Removed::new(right.children())?;
            let mut kept = Vec::new();
            for element in left.elements_mut().map(Elements::take).unwrap_or_default() {
                if !removed.holds(&element)? {
                    kept.push(element);
                }
            }
            Ok(Value::array(kept))
        }
        _ => Err(mismatch(&left, &right, "cannot be subtracted")),
    }
}

/// The elements that a subtraction of arrays removes.
struct Removed<'v> {
    /// Elements of types for which the order shows whether two elements are equal. They are sorted.
    plain: Vec<Value<'v>>,
    /// All other elements: arrays and objects, and NaN, which equals nothing.
    others: Vec<Value<'v>>,
}

impl<'v> Removed<'v> {
    fn new(elements: impl Iterator<Item = Value<'v>>) -> Result<Self, Failure<'v>> {
        let (mut plain, others): (Vec<_>, Vec<_>) = elements.partition(is_plain);
        Value::sort(&mut plain, &|element| element)?;
        Ok(Self { plain, others })
    }

    fn holds(&self, element: &Value<'v>) -> Result<bool, Failure<'v>> {
        if is_plain(element) {
            meter::step(searches(self.plain.len()))?;
            let at = self.plain.binary_search_by(|other| {
                // Comparing plain values is not counted, so it cannot fail.
                other.compare(element).unwrap_or(Ordering::Less)
            });
            return Ok(at.is_ok());
        }
        for other in &self.others {
            meter::step(1)?;
            if element.equals(other)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_plain(value: &Value<'_>) -> bool {
    !matches!(value.kind(), Type::Array | Type::Object) && !value.is_nan()
}

/// Returns how many comparisons a search in `count` sorted values takes.
fn searches(count: usize) -> usize {
    count.checked_ilog2().map_or(1, |log| log as usize + 1)
}

fn multiply<'v>(left: Value<'v>, right: Value<'v>) -> Output<'v> {
    match (left.kind(), right.kind()) {
        (Type::Number, Type::Number) => Ok(calculate(&left, Exact::Multiply, &right)?),
        (Type::String, Type::Number) => repeat(&left, &right),
        (Type::Number, Type::String) => repeat(&right, &left),
        (Type::Object, Type::Object) => merge(left, &right),
        _ => Err(mismatch(&left, &right, "cannot be multiplied")),
    }
}

fn repeat<'v>(string: &Value<'v>, times: &Value<'v>) -> Output<'v> {
    let times = times.to_float().unwrap_or(f64::NAN);
    let string = string.as_str().unwrap_or_default();
    if times.is_nan() || times < 0.0 {
        return Ok(Value::Null);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut to whole times, as in jq; it is not negative"
    )]
    let times = times.min(f64::from(i32::MAX)) as usize;
    if string.len().saturating_mul(times) >= MAX_REPEATED_BYTES {
        return Err(error("Repeat string result too long"));
    }
    meter::room(string.len() * times)?;
    Ok(Value::from(string.repeat(times)))
}

/// Returns an object with the members of both objects. If both have an object under the same key,
/// these two objects are merged too.
fn merge<'v>(mut left: Value<'v>, right: &Value<'v>) -> Output<'v> {
    stack::check()?;
    if right.child_count() == 0 {
        return Ok(left);
    }
    if let Some(object) = left.object_mut() {
        for (key, value) in right.members() {
            let merged = match object.get_mut(&key) {
                Some(own) if own.kind() == Type::Object && value.kind() == Type::Object => {
                    merge(std::mem::replace(own, Value::Null), &value)?
                }
                _ => value,
            };
            object.insert(key, merged);
        }
    }
    Ok(left)
}

fn divide<'v>(left: Value<'v>, right: Value<'v>) -> Output<'v> {
    match (left.to_float(), right.to_float()) {
        (Some(_), Some(0.0)) => Err(mismatch(
            &left,
            &right,
            "cannot be divided because the divisor is zero",
        )),
        (Some(dividend), Some(divisor)) => Ok(Value::Float(dividend / divisor)),
        _ => match (&left, &right) {
            (Value::String(string), Value::String(separator)) => split(string, separator),
            _ => Err(mismatch(&left, &right, "cannot be divided")),
        },
    }
}

/// Returns the parts of a string between separators, or its characters if the separator is empty.
pub(crate) fn split<'v>(string: &Text<'v>, separator: &str) -> Output<'v> {
    let mut parts = Elements::default();
    split_each(string, separator, &mut |part| Ok(parts.push(part)?))?;
    Ok(Value::Array(Rc::new(parts)))
}

/// Passes the elements of [`split`] to `take`, one by one, without the array.
pub(crate) fn split_each<'v>(
    string: &Text<'v>,
    separator: &str,
    take: &mut dyn FnMut(Value<'v>) -> Flow<'v>,
) -> Flow<'v> {
    if separator.is_empty() {
        for (at, character) in string.char_indices() {
            take(Value::String(string.part(at..at + character.len_utf8())))?;
        }
        return Ok(());
    }
    if string.is_empty() {
        return Ok(());
    }
    let mut from = 0;
    let mut take_to = |to: usize, next: usize| {
        let part = Value::String(string.part(from..to));
        from = next;
        take(part)
    };
    if let [separator] = separator.as_bytes() {
        for at in memchr::memchr_iter(*separator, string.as_bytes()) {
            take_to(at, at + 1)?;
        }
    } else {
        for at in memchr::memmem::find_iter(string.as_bytes(), separator.as_bytes()) {
            take_to(at, at + separator.len())?;
        }
    }
    take_to(string.len(), string.len())
}

fn remainder<'v>(left: Value<'v>, right: Value<'v>) -> Output<'v> {
    let (Some(dividend), Some(divisor)) = (left.to_float(), right.to_float()) else {
        return Err(mismatch(&left, &right, "cannot be divided (remainder)"));
    };
    if dividend.is_nan() || divisor.is_nan() {
        return Ok(Value::Float(f64::NAN));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "cut to 64 bits and to whole numbers, as in jq"
    )]
    let (dividend, divisor) = (dividend as i64, divisor as i64);
    match divisor {
        0 => Err(mismatch(
            &left,
            &right,
            "cannot be divided (remainder) because the divisor is zero",
        )),
        -1 => Ok(Value::Integer(0)),
        divisor => {
            let remainder = dividend % divisor;
            if remainder.unsigned_abs() < EXACT_FLOAT {
                return Ok(Value::Integer(remainder));
            }
            #[expect(clippy::cast_precision_loss, reason = "rounded, as in jq")]
            Ok(Value::Float(remainder as f64))
        }
    }
}
