//! JSON text as trees, with the details that JSON readers lose: duplicate fields and the digits of
//! numbers.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::number;
use super::tree::{Entry, Fields, Kind, Node, Position};
use super::yaml::{MAX_NESTING, YamlError, place};

/// Why JSON text cannot be used.
pub(super) type JsonError = YamlError;

/// Every value of the text, in order; `None` if the text is not JSON.
pub(super) fn read(text: &str) -> Option<Result<Vec<Node>, JsonError>> {
    let raw: Vec<&RawValue> = serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .ok()?;
    Some(raw.into_iter().map(|raw| node(text, raw, 0)).collect())
}

/// The position of the first part of the text that is not JSON.
pub(super) fn syntax(text: &str) -> Option<JsonError> {
    let fault = serde_json::Deserializer::from_str(text)
        .into_iter::<&RawValue>()
        .find_map(Result::err)?;
    let words = fault.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    Some(JsonError {
        position: Position {
            line: fault.line(),
            column: fault.column(),
        },
        message: format!("is not valid JSON here: {words}"),
    })
}

fn node(text: &str, raw: &RawValue, depth: usize) -> Result<Node, JsonError> {
    let position = position(text, raw.get());
    let failed = |message: String| JsonError { position, message };
    if depth > MAX_NESTING {
        return Err(failed(format!(
            "is nested too deeply; at most {MAX_NESTING} levels"
        )));
    }
    let unreadable = |error: serde_json::Error| failed(format!("is not valid JSON here: {error}"));
    let kind = match raw.get().as_bytes().first() {
        Some(b'{') => {
            let pairs = serde_json::Deserializer::from_str(raw.get())
                .deserialize_map(Pairs)
                .map_err(unreadable)?;
            Kind::Map(fields(text, pairs, depth)?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(unreadable)?;
            Kind::List(
                items
                    .into_iter()
                    .map(|item| node(text, item, depth + 1))
                    .collect::<Result<_, _>>()?,
            )
        }
        Some(b'-' | b'0'..=b'9') => return number_node(position, raw.get()),
        _ => Kind::Scalar {
            value: serde_json::from_str(raw.get()).map_err(unreadable)?,
            changed_from: None,
        },
    };
    Ok(Node { position, kind })
}

fn fields(
    text: &str,
    pairs: Vec<(String, &RawValue)>,
    depth: usize,
) -> Result<Vec<Entry>, JsonError> {
    let mut fields = Fields::default();
    for (key, raw) in pairs {
        let value = node(text, raw, depth + 1)?;
        let position = value.position;
        let shown = zephyr_crds::field_error::shown(&key);
        let entry = Entry {
            key,
            position,
            changed_from: None,
            value,
        };
        fields.add(entry).map_err(|first| JsonError {
            position,
            message: format!("has the field {shown} twice, first at {first}; each field once"),
        })?;
    }
    Ok(fields.into_entries())
}

fn number_node(position: Position, text: &str) -> Result<Node, JsonError> {
    let stored = text
        .parse::<i64>()
        .ok()
        .map(serde_json::Number::from)
        .or_else(|| text.parse().ok().and_then(number::stored));
    let Some(stored) = stored else {
        return Err(JsonError {
            position,
            message: format!("has the number {text}, which is beyond what a double holds"),
        });
    };
    let is_kept = number::is_kept(text, &stored);
    Ok(Node {
        position,
        kind: Kind::Scalar {
            value: Value::Number(stored),
            changed_from: (!is_kept).then(|| text.to_owned()),
        },
    })
}

/// The position of a part of the text.
fn position(text: &str, part: &str) -> Position {
    place(
        text,
        part.as_ptr().addr().saturating_sub(text.as_ptr().addr()),
    )
}

/// The fields of an object in their order, including duplicates.
struct Pairs;

impl<'text> Visitor<'text> for Pairs {
    type Value = Vec<(String, &'text RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'text>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}
