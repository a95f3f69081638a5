//! Filters of strings.

use std::rc::Rc;

use crate::eval::flow::{Failure, Flow, Output, error};
use crate::eval::operate::{SHOWN_BYTES, mismatch, unfit};
use crate::eval::{flow, operate};
use crate::meter;
use crate::value::elements::Elements;
use crate::value::{Type, Value};

/// How many bytes of a part are compared in one step, at a position at which the part may occur.
const COMPARED_BYTES: usize = 16;

const NOT_SPLITTABLE: &str = "split input and separator must be strings";

pub(super) fn byte_length<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    match input.as_str() {
        Some(string) => Ok(Value::count(string.len())),
        None => Err(unfit(&input, "only strings have UTF-8 byte length")),
    }
}

pub(super) fn starts_with<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match (input.as_str(), arguments[0].as_str()) {
        (Some(string), Some(part)) => Ok(Value::Boolean(string.starts_with(part))),
        _ => Err(error("startswith() requires string inputs")),
    }
}

pub(super) fn ends_with<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match (input.as_str(), arguments[0].as_str()) {
        (Some(string), Some(part)) => Ok(Value::Boolean(string.ends_with(part))),
        _ => Err(error("endswith() requires string inputs")),
    }
}

pub(super) fn trim_start_string<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match (&input, &arguments[0]) {
        (Value::String(string), Value::String(part)) => Ok(if string.starts_with(&**part) {
            Value::String(string.part(part.len()..string.len()))
        } else {
            input
        }),
        _ => Err(error("startswith() requires string inputs")),
    }
}

/// Removes a part from the end of a string. If the part is empty, the result is empty, as in jq.
pub(super) fn trim_end_string<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match (&input, &arguments[0]) {
        (Value::String(string), Value::String(part)) => Ok(if part.is_empty() {
            Value::from("")
        } else if string.ends_with(&**part) {
            Value::String(string.part(0..string.len() - part.len()))
        } else {
            input
        }),
        _ => Err(error("endswith() requires string inputs")),
    }
}

pub(super) fn trim_string<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    trim_end_string(trim_start_string(input, arguments)?, arguments)
}

pub(super) fn trim<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    trimmed(input, |string| {
        let trimmed = string.trim_start();
        let from = string.len() - trimmed.len();
        from..from + trimmed.trim_end().len()
    })
}

pub(super) fn trim_start<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    trimmed(input, |string| {
        string.len() - string.trim_start().len()..string.len()
    })
}

pub(super) fn trim_end<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    trimmed(input, |string| 0..string.trim_end().len())
}

fn trimmed(input: Value<'_>, kept: impl Fn(&str) -> std::ops::Range<usize>) -> Output<'_> {
    match &input {
        Value::String(string) => Ok(Value::String(string.part(kept(string)))),
        _ => Err(error("trim input must be a string")),
    }
}

pub(super) fn split<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match (&input, &arguments[0]) {
        (Value::String(string), Value::String(separator)) => operate::split(string, separator),
        _ => Err(error(NOT_SPLITTABLE)),
    }
}

/// Passes the elements of [`split`] to `take`, one by one.
pub(super) fn split_each<'v>(
    input: &Value<'v>,
    separator: &Value<'v>,
    take: &mut dyn FnMut(Value<'v>) -> Flow<'v>,
) -> Flow<'v> {
    match (input, separator) {
        (Value::String(string), Value::String(separator)) => {
            operate::split_each(string, separator, take)
        }
        _ => Err(error(NOT_SPLITTABLE)),
    }
}

pub(super) fn join<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    let separator = &arguments[0];
    if !matches!(input.kind(), Type::Array | Type::Object) {
        return Err(error(format!(
            "Cannot iterate over {}",
            input.shown(SHOWN_BYTES)
        )));
    }
    let mut joined = String::new();
    for (at, element) in input.children().enumerate() {
        if at > 0 {
            push_part(&mut joined, separator)?;
        }
        match element.kind() {
            Type::False | Type::True | Type::Number => element.push_json(&mut joined)?,
            Type::Null | Type::String | Type::Array | Type::Object => {
                push_part(&mut joined, &element)?;
            }
        }
    }
    Ok(Value::from(joined))
}

/// Appends a string. For null it appends nothing.
fn push_part<'v>(joined: &mut String, part: &Value<'v>) -> Result<(), Failure<'v>> {
    match part {
        Value::Null => Ok(()),
        Value::String(part) => {
            meter::room(joined.len() + part.len())?;
            joined.push_str(part);
            Ok(())
        }
        other => {
            let before = Value::from(std::mem::take(joined));
            Err(mismatch(&before, other, "cannot be added"))
        }
    }
}

pub(super) fn explode<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    match input.as_str() {
        Some(string) => {
            let codes = string.chars().map(u32::from);
            Ok(Value::collect(
                codes.map(|code| Value::Integer(code.into())),
            )?)
        }
        None => Err(error("explode input must be a string")),
    }
}

pub(super) fn implode<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if input.kind() != Type::Array {
        return Err(error("implode input must be an array"));
    }
    let characters = input.children().map(|code| character(&code));
    characters
        .collect::<Result<String, Failure<'v>>>()
        .map(Value::from)
}

/// Returns the character with this code point, or the replacement character if there is no such
/// character.
fn character<'v>(code: &Value<'v>) -> Result<char, Failure<'v>> {
    match code.to_float() {
        Some(number) if !number.is_nan() => {
            #[expect(clippy::cast_possible_truncation, reason = "cut to 32 bits, as in jq")]
            let number = number as i32;
            let character = u32::try_from(number).ok().and_then(char::from_u32);
            Ok(character.unwrap_or(char::REPLACEMENT_CHARACTER))
        }
        _ => Err(unfit(
            code,
            "can't be imploded, unicode codepoint needs to be numeric",
        )),
    }
}

pub(super) fn downcase<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    change_case(input, u8::is_ascii_uppercase, str::to_ascii_lowercase)
}

pub(super) fn upcase<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    change_case(input, u8::is_ascii_lowercase, str::to_ascii_uppercase)
}

fn change_case(
    input: Value<'_>,
    changes: fn(&u8) -> bool,
    change: fn(&str) -> String,
) -> Output<'_> {
    match input.as_str() {
        Some(string) if string.as_bytes().iter().any(changes) => Ok(Value::from(change(string))),
        Some(_) => Ok(input),
        None => Err(flow::error("explode input must be a string")),
    }
}

/// Returns the positions, in characters, at which `part` occurs in `string`. Occurrences may
/// overlap.
pub(super) fn positions<'v>(string: &str, part: &str) -> Output<'v> {
    let mut found = Elements::default();
    if part.is_empty() {
        return Ok(Value::Array(Rc::new(found)));
    }
    let (mut from, mut counted, mut count) = (0, 0, 0);
    while let Some(at) = memchr::memmem::find(&string.as_bytes()[from..], part.as_bytes()) {
        let at = from + at;
        // Occurrences may overlap, so the whole part is compared again at each of them.
        meter::step(1 + part.len() / COMPARED_BYTES)?;
        count += string[counted..at].chars().count();
        counted = at;
        found.push(Value::count(count))?;
        from = at + string[at..].chars().next().map_or(1, char::len_utf8);
    }
    Ok(Value::Array(Rc::new(found)))
}
