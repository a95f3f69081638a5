//! Filters that convert values to texts and texts to values.

use crate::eval::flow::{Failure, Output, error};
use crate::eval::operate::unfit;
use crate::json::parse;
use crate::value::Value;

/// Returns the JSON of a value as jq writes it into strings, with `DEL` escaped.
pub(super) fn json_text<'v>(value: &Value<'v>) -> Result<String, Failure<'v>> {
    let json = value.to_json()?;
    if json.contains('\u{7f}') {
        return Ok(json.replace('\u{7f}', "\\u007f"));
    }
    Ok(json)
}

pub(super) fn to_json<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    json_text(&input).map(Value::from)
}

pub(super) fn to_string<'v>(input: Value<'v>, arguments: &[Value<'v>]) -> Output<'v> {
    match input {
        string @ Value::String(_) => Ok(string),
        other => to_json(other, arguments),
    }
}

pub(super) fn from_json<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    let Some(text) = input.as_str() else {
        return Err(unfit(&input, "only strings can be parsed"));
    };
    parse::value(text).map_err(|message| {
        // jq shows the text up to its first NUL.
        let shown = text.split('\0').next().unwrap_or_default();
        error(format!("{message} (while parsing '{shown}')"))
    })
}

pub(super) fn to_number<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    if input.to_float().is_some() {
        return Ok(input);
    }
    let number = input.as_str().and_then(parse::number);
    number.ok_or_else(|| unfit(&input, "cannot be parsed as a number"))
}

pub(super) fn to_boolean<'v>(input: Value<'v>, _: &[Value<'v>]) -> Output<'v> {
    match &input {
        Value::Boolean(_) => Ok(input),
        Value::String(string) if **string == *"true" => Ok(Value::Boolean(true)),
        Value::String(string) if **string == *"false" => Ok(Value::Boolean(false)),
        _ => Err(unfit(&input, "cannot be parsed as a boolean")),
    }
}
