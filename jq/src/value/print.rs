//! Values as JSON text: compact, strings with the fewest escapes, numbers as they were written or
//! as jq prints them.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "everything else is written in one way"
)]

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Value;
use crate::json::source::View;
use crate::json::string::push_quoted;
use crate::json::tape::Kind;
use crate::meter::{self, MAX_JSON_BYTES};
use crate::{Exhausted, double, stack};

/// The text of a number; nothing for any other value.
pub(crate) fn number_text<'v>(value: &'v Value<'_>) -> Cow<'v, str> {
    match value {
        Value::Decimal(text) => Cow::Borrowed(text),
        Value::OwnedDecimal(text) => Cow::Borrowed(text),
        other => {
            let mut text = String::new();
            push_number(&mut text, other);
            Cow::Owned(text)
        }
    }
}

/// Appends the text of a number; nothing for any other value.
pub(crate) fn push_number(text: &mut String, value: &Value<'_>) {
    match value {
        Value::Integer(integer) => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{integer}");
        }
        Value::BigInteger(integer) => {
            let _ = write!(text, "{integer}");
        }
        Value::Float(float) => double::write_double(*float, text),
        Value::Decimal(decimal) => text.push_str(decimal),
        Value::OwnedDecimal(decimal) => text.push_str(decimal),
        Value::Null
        | Value::Boolean(_)
        | Value::String(_)
        | Value::Lazy(_)
        | Value::Array(_)
        | Value::Object(_) => {}
    }
}

impl Value<'_> {
    /// Appends the value as JSON.
    pub(crate) fn push_json(&self, text: &mut String) -> Result<(), Exhausted> {
        match self {
            Self::Null => text.push_str("null"),
            Self::Boolean(false) => text.push_str("false"),
            Self::Boolean(true) => text.push_str("true"),
            Self::Integer(_)
            | Self::BigInteger(_)
            | Self::Float(_)
            | Self::Decimal(_)
            | Self::OwnedDecimal(_) => push_number(text, self),
            Self::String(string) => {
                room(text, string.len())?;
                push_quoted(text, string);
            }
            Self::Lazy(view) => {
                room(text, view.text().len())?;
                return push_view(text, *view);
            }
            Self::Array(elements) => {
                stack::check()?;
                room(text, 0)?;
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    element.push_json(text)?;
                }
                text.push(']');
            }
            Self::Object(object) => {
                stack::check()?;
                room(text, 0)?;
                text.push('{');
                for (index, (key, value)) in object.entries().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    push_quoted(text, key);
                    text.push(':');
                    value.push_json(text)?;
                }
                text.push('}');
            }
        }
        Ok(())
    }

    /// The value as JSON.
    pub fn to_json(&self) -> Result<String, Exhausted> {
        let mut text = String::new();
        self.push_json(&mut text)?;
        Ok(text)
    }

    /// The value as an error shows it: its type, and JSON cut to fewer than `room` bytes.
    pub(crate) fn shown(&self, room: usize) -> String {
        let json = self.excerpt(room);
        format!("{} ({json})", self.type_name())
    }

    /// JSON cut to fewer than `room` bytes, as jq cuts it.
    pub(crate) fn excerpt(&self, room: usize) -> String {
        let mut json = String::new();
        if self.push_json(&mut json).is_err() {
            "...".clone_into(&mut json);
        }
        if json.len() >= room {
            let mut end = room - 4;
            while !json.is_char_boundary(end) {
                end -= 1;
            }
            json.truncate(end);
            json.push_str("...");
        }
        json
    }
}

/// Fails if JSON gets too long.
fn room(json: &str, more: usize) -> Result<(), Exhausted> {
    if json.len() + more > MAX_JSON_BYTES {
        return Err(Exhausted::Json(MAX_JSON_BYTES >> 20));
    }
    meter::room(json.len() + more)
}

/// Appends a value of a record in canonical form: each key once, at its first place and with its
/// last value.
fn push_view(text: &mut String, view: View<'_>) -> Result<(), Exhausted> {
    match view.kind() {
        Kind::Null | Kind::False | Kind::True | Kind::Number | Kind::PlainString => {
            text.push_str(view.text());
        }
        Kind::EscapedString => push_quoted(text, &view.string()),
        Kind::Array => {
            stack::check()?;
            text.push('[');
            for (index, element) in view.elements().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_view(text, element)?;
            }
            text.push(']');
        }
        Kind::Object => {
            stack::check()?;
            text.push('{');
            if view.repeats_a_key() {
                for (index, (key, value)) in view.unique_members().into_iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    push_quoted(text, &key);
                    text.push(':');
                    push_view(text, value)?;
                }
            } else {
                for (index, (key, value)) in view.members().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    push_view(text, key)?;
                    text.push(':');
                    push_view(text, value)?;
                }
            }
            text.push('}');
        }
    }
    Ok(())
}
