//! Filters of values of any type: their type, their size and their contents.

#![expect(
    clippy::unnecessary_wraps,
    reason = "all filters have one type, and most can fail"
)]

use std::rc::Rc;

use crate::eval::flow::{Output, Stop};
use crate::eval::operate::{SHOWN_BYTES, mismatch, unfit};
use crate::eval::{access, flow, one, paths};
use crate::value::object::Object;
use crate::value::{Text, Type, Value};

pub(super) fn not<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Ok(Value::Boolean(!input.is_truthy()))
}

pub(super) fn length<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    match input.kind() {
        Type::Null => Ok(Value::Integer(0)),
        Type::False | Type::True => Err(unfit(&input, "has no length")),
        Type::Number => Ok(magnitude(input)),
        Type::String => Ok(Value::count(
            input.as_str().map_or(0, |string| string.chars().count()),
        )),
        Type::Array | Type::Object => Ok(Value::count(input.child_count())),
    }
}

fn magnitude(number: Value<'_>) -> Value<'_> {
    let is_negative = match &number {
        Value::Float(float) => float.is_sign_negative(),
        Value::Decimal(text) => text.starts_with('-'),
        Value::OwnedDecimal(text) => text.starts_with('-'),
        other => other.to_float().is_some_and(|float| float < 0.0),
    };
    if is_negative {
        number.negated().unwrap_or(number)
    } else if let Value::Decimal(text) = number {
        // In jq the result is a new number with the same text, so it is not the input itself.
        Value::decimal(text.to_owned())
    } else {
        number
    }
}

/// `abs`. Only a value less than 0 changes. `-0` is not less than 0, and a string is greater than
/// 0.
pub(super) fn abs<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if input.compare(&Value::Integer(0))?.is_lt() {
        return one::negate(&input);
    }
    Ok(input)
}

pub(super) fn keys<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    if input.kind() != Type::Object {
        return keys_unsorted(input, arguments);
    }
    let mut keys: Vec<Text<'v>> = input.members().into_iter().map(|(key, _)| key).collect();
    keys.sort_by(|left, right| left.cmp(right));
    Ok(Value::collect(keys.into_iter().map(Value::String))?)
}

pub(super) fn keys_unsorted<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    match input.kind() {
        Type::Array => Ok(Value::collect((0..input.child_count()).map(Value::count))?),
        Type::Object => {
            let members = input.members().into_iter();
            Ok(Value::collect(members.map(|(key, _)| Value::String(key)))?)
        }
        Type::Null | Type::False | Type::True | Type::Number | Type::String => {
            Err(unfit(&input, "has no keys"))
        }
    }
}

pub(super) fn has<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    access::has(&input, &arguments[0])
}

pub(super) fn contains<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let part = &arguments[0];
    // `kind` gives false and true different types. So two booleans are compared only if they are
    // equal, and `true | contains(false)` fails, as in jq.
    if input.kind() == part.kind() {
        return Ok(Value::Boolean(input.contains(part)?));
    }
    Err(mismatch(
        &input,
        part,
        "cannot have their containment checked",
    ))
}

pub(super) fn type_of<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Ok(Value::from(input.type_name()))
}

pub(super) fn is_infinite<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Ok(Value::Boolean(
        input.to_float().is_some_and(f64::is_infinite),
    ))
}

pub(super) fn is_finite<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Ok(Value::Boolean(
        input.to_float().is_some_and(|float| !float.is_infinite()),
    ))
}

pub(super) fn is_nan<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Ok(Value::Boolean(input.is_nan()))
}

pub(super) fn is_normal<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Ok(Value::Boolean(input.to_float().is_some_and(f64::is_normal)))
}

pub(super) fn error<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    Err(Box::new(Stop::Error(input)))
}

pub(super) fn set_path<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let path = &arguments[0];
    if path.kind() != Type::Array {
        return Err(flow::error("Path must be specified as an array"));
    }
    let keys: Vec<Value<'v>> = path.children().collect();
    paths::set_path(input, &keys, arguments[1].clone())
}

pub(super) fn delete_paths<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    paths::delete_paths(input, arguments[0].clone())
}

pub(super) fn to_entries<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    let entry = |key: Value<'v>, value: Value<'v>| {
        Value::Object(Rc::new(Object::from_unique(vec![
            (Text::Borrowed("key"), key),
            (Text::Borrowed("value"), value),
        ])))
    };
    let entries = match input.kind() {
        Type::Object => {
            let members = input.members().into_iter();
            Value::collect(members.map(|(key, value)| entry(Value::String(key), value)))
        }
        Type::Array => {
            let elements = input.children().enumerate();
            Value::collect(elements.map(|(at, value)| entry(Value::count(at), value)))
        }
        Type::Null | Type::False | Type::True | Type::Number | Type::String => {
            return Err(unfit(&input, "has no keys"));
        }
    };
    Ok(entries?)
}

/// The names that the key of an entry may have. The first one that is present and not null or false
/// counts.
const KEY_NAMES: [&str; 4] = ["key", "Key", "name", "Name"];

pub(super) fn from_entries<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if !matches!(input.kind(), Type::Array | Type::Object) {
        return Err(flow::error(format!(
            "Cannot iterate over {}",
            input.shown(SHOWN_BYTES)
        )));
    }
    let mut object = Object::with_capacity(input.child_count());
    for entry in input.children() {
        let mut key = Value::Null;
        for name in KEY_NAMES {
            key = access::field(&entry, name)?;
            if key.is_truthy() {
                break;
            }
        }
        let has_value = access::has(&entry, &Value::from("value"))?.is_truthy();
        let value = access::field(&entry, if has_value { "value" } else { "Value" })?;
        match key {
            Value::String(key) => object.insert(key, value),
            other => {
                return Err(flow::error(format!(
                    "Cannot use {} as object key",
                    other.shown(SHOWN_BYTES)
                )));
            }
        }
    }
    Ok(Value::Object(Rc::new(object)))
}
