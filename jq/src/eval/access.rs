//! Access to a value by key, position and slice. The messages of errors are those of jq.

use super::flow::{Output, error};
use crate::meter;
use crate::value::object::Object;
use crate::value::{Text, Type, Value};

/// An error shows a key if it has fewer bytes than this, as in jq.
const SHOWN_KEY_BYTES: usize = 30;

/// `value[key]`
pub(crate) fn index<'v>(value: &Value<'v>, key: &Value<'v>) -> Output<'v> {
    match (value.kind(), key.kind()) {
        (Type::Object, Type::String) => Ok(value
            .member(key.as_str().unwrap_or_default())
            .unwrap_or(Value::Null)),
        (Type::Array, Type::Number) => Ok(position(value, key)
            .and_then(|at| value.element(at))
            .unwrap_or(Value::Null)),
        (Type::Array | Type::String, Type::Object) => {
            slice(value, &slice_bound(key, "start"), &slice_bound(key, "end"))
        }
        (Type::Array, Type::Array) => positions(value, key),
        (Type::Null, Type::String | Type::Number | Type::Object) => Ok(Value::Null),
        _ => Err(cannot_index(value, key)),
    }
}

/// `value.name`
pub(crate) fn field<'v>(value: &Value<'v>, name: &'v str) -> Output<'v> {
    match value {
        Value::Object(object) => Ok(object.get(name).cloned().unwrap_or(Value::Null)),
        Value::Lazy(view) if value.kind() == Type::Object => {
            Ok(view.member(name).map_or(Value::Null, Value::of))
        }
        Value::Null => Ok(Value::Null),
        _ => Err(cannot_index(value, &Value::from(name))),
    }
}

fn cannot_index<'v>(value: &Value<'v>, key: &Value<'v>) -> super::flow::Failure<'v> {
    error(match key.as_str() {
        Some(name) if name.len() < SHOWN_KEY_BYTES => {
            format!("Cannot index {} with string \"{name}\"", value.type_name())
        }
        _ => format!(
            "Cannot index {} with {}",
            value.type_name(),
            key.type_name()
        ),
    })
}

/// Converts a number to a position in an array. A negative number counts from the end. `None` for
/// NaN, and for a number that is certainly outside of the array.
pub(crate) fn position(array: &Value<'_>, key: &Value<'_>) -> Option<usize> {
    let wanted = whole(key)?;
    if wanted >= 0 {
        return usize::try_from(wanted).ok();
    }
    usize::try_from(wanted + i64::try_from(array.child_count()).ok()?).ok()
}

/// Converts a number to a whole number of 32 bits, and rounds and limits it as jq does. `None` for
/// NaN.
pub(crate) fn whole(key: &Value<'_>) -> Option<i64> {
    if let Value::Integer(integer) = key {
        return Some((*integer).clamp(i32::MIN.into(), i32::MAX.into()));
    }
    let float = key.to_float()?;
    #[expect(clippy::cast_possible_truncation, reason = "it was cut before")]
    (!float.is_nan()).then(|| float.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i64)
}

/// `value[from:to]` of an array, a string or null. If `from` is null, the slice begins at the
/// start; if `to` is null, it ends at the end.
pub(crate) fn slice<'v>(value: &Value<'v>, from: &Value<'v>, to: &Value<'v>) -> Output<'v> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::String(string) => {
            if string.is_ascii() {
                let (start, end) = bounds(string.len(), from, to)?;
                return Ok(Value::String(string.part(start..end)));
            }
            let (start, end) = bounds(string.chars().count(), from, to)?;
            Ok(Value::String(characters(string, start, end)))
        }
        _ if value.kind() == Type::Array => {
            let count = value.child_count();
            let (start, end) = bounds(count, from, to)?;
            if start == 0 && end == count && count > 0 {
                return Ok(value.clone());
            }
            let elements = value.children().skip(start).take(end - start);
            Ok(Value::array(elements.collect()))
        }
        _ => Err(cannot_index(value, &Value::Object(std::rc::Rc::default()))),
    }
}

/// Returns the characters from position `start` up to, and without, position `end`.
pub(crate) fn characters<'v>(string: &Text<'v>, start: usize, end: usize) -> Text<'v> {
    let offset = |text: &str, count: usize| {
        text.char_indices()
            .nth(count)
            .map_or(text.len(), |(at, _)| at)
    };
    let from = offset(string, start);
    let length = offset(&string[from..], end - start);
    string.part(from..from + length)
}

/// Returns a bound from the key of a slice. A missing bound is refused in the same way as a bound
/// that is not a number.
pub(crate) fn slice_bound<'v>(key: &Value<'v>, name: &str) -> Value<'v> {
    key.member(name).unwrap_or(Value::Boolean(false))
}

/// Returns the start and the end of a slice in a list of `length` elements. The start is rounded
/// down, and the end is rounded up.
pub(crate) fn bounds<'v>(
    length: usize,
    from: &Value<'v>,
    to: &Value<'v>,
) -> Result<(usize, usize), super::flow::Failure<'v>> {
    #[expect(clippy::cast_precision_loss, reason = "no array is so long")]
    let count = length as f64;
    let bound = |value: &Value<'v>, missing: f64| match value {
        Value::Null => Ok(missing),
        number => match number.to_float() {
            Some(nan) if nan.is_nan() => Ok(missing),
            Some(negative) if negative < 0.0 => Ok(negative + count),
            Some(bound) => Ok(bound),
            None => Err(error("Array/string slice indices must be integers")),
        },
    };
    let (start, end) = (bound(from, 0.0)?, bound(to, count)?);
    let start = start.clamp(0.0, count).floor();
    let end = if end < 0.0 {
        start
    } else {
        end.min(count).ceil()
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both lie between 0 and the length"
    )]
    Ok((start as usize, end.max(start) as usize))
}

/// Returns the key that represents a slice in a path.
pub(crate) fn slice_key<'v>(from: Value<'v>, to: Value<'v>) -> Value<'v> {
    Value::Object(std::rc::Rc::new(Object::from_unique(vec![
        (Text::Borrowed("start"), from),
        (Text::Borrowed("end"), to),
    ])))
}

/// Returns the positions at which `wanted` occurs in `array`.
fn positions<'v>(array: &Value<'v>, wanted: &Value<'v>) -> Output<'v> {
    let elements: Vec<Value<'v>> = array.children().collect();
    let wanted: Vec<Value<'v>> = wanted.children().collect();
    let mut found = Vec::new();
    if wanted.is_empty() {
        return Ok(Value::array(found));
    }
    for at in 0..elements.len() {
        if begins_with(&elements[at..], &wanted)? {
            found.push(Value::count(at));
        }
    }
    Ok(Value::array(found))
}

fn begins_with<'v>(
    elements: &[Value<'v>],
    wanted: &[Value<'v>],
) -> Result<bool, super::flow::Failure<'v>> {
    if elements.len() < wanted.len() {
        return Ok(false);
    }
    for (element, wanted) in elements.iter().zip(wanted) {
        meter::step(1)?;
        if !element.equals(wanted)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a value has a key.
pub(crate) fn has<'v>(value: &Value<'v>, key: &Value<'v>) -> Output<'v> {
    match (value.kind(), key.kind()) {
        (Type::Null, _) => Ok(Value::Boolean(false)),
        (Type::Object, Type::String) => Ok(Value::Boolean(
            value.member(key.as_str().unwrap_or_default()).is_some(),
        )),
        (Type::Array, Type::Number) => {
            let at = whole(key).and_then(|at| usize::try_from(at).ok());
            Ok(Value::Boolean(
                at.is_some_and(|at| at < value.child_count()),
            ))
        }
        _ => Err(error(format!(
            "Cannot check whether {} has a {} key",
            value.type_name(),
            key.type_name()
        ))),
    }
}
