//! Checks one value against one schema: type, bounds, known fields. Follows the API server's order:
//! unknown fields are reported, nulls that a field does not allow are dropped, then the rest is
//! validated.

use serde_json::{Map, Number, Value};

use super::expected::{instead_of_field, instead_of_word};
use crate::field_error::FieldError;

/// The greatest edit distance at which a known word is suggested for an unknown one.
const MAX_SUGGESTION_DISTANCE: usize = 3;
/// Letters that an unknown word must have for each allowed edit. In a short word, even few edits
/// lead to an unrelated word.
const LETTERS_PER_EDIT: usize = 3;
/// The largest number of fields that a sentence about a map names.
const MAX_NAMED_FIELDS: usize = 24;
/// What is wrong with a field that the schema does not have.
pub(super) const UNKNOWN_FIELD: &str = "unknown field";
/// Fields of every object, which the definition's schema does not repeat.
pub(super) const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// The greatest number for which the server accepts a notation such as `4.0` as a whole number.
const WHOLE_NUMBER_END: f64 = 9_007_199_254_740_991.0;

/// The value as the server stores it; everything that the server refuses is added to `errors`.
pub(super) fn stored(
    value: &Value,
    schema: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) -> Value {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
        && schema.get("type").is_none()
    {
        return value.clone();
    }
    if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
        // The server never finds null in a list of allowed values, even if the list contains null.
        errors.extend(enum_fault("null", schema, path));
        return Value::Null;
    }
    let value = whole_as_integer(value);
    if let Some(error) = type_fault(&value, schema, path) {
        errors.push(error);
        return value;
    }
    errors.extend(bound_fault(&value, schema, path));
    match value {
        Value::Object(fields) => object(fields, schema, path, errors),
        Value::Array(items) => {
            let of = schema.get("items").unwrap_or(&Value::Null);
            items
                .iter()
                .enumerate()
                .map(|(index, item)| stored(item, of, &format!("{path}[{index}]"), errors))
                .collect()
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
    }
}

fn object(
    fields: Map<String, Value>,
    schema: &Value,
    path: &str,
    errors: &mut Vec<FieldError>,
) -> Value {
    let known = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    // If the schema of a map names no field, the map has none, such as `count: {}`.
    let is_open = known.is_none() && others.is_none() && schema.get("type").is_none();
    let is_kept = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let mut kept = Map::new();
    for (name, field) in fields {
        if path.is_empty() && OF_EVERY_OBJECT.contains(&&*name) {
            kept.insert(name, field);
            continue;
        }
        if path.is_empty() && name == "status" {
            errors.extend(status_faults(&field, schema));
            continue;
        }
        let path = join(path, &name, others.is_some());
        match known.and_then(|known| known.get(&name)).or(others) {
            Some(schema) if is_dropped(&field, schema) => {}
            Some(schema) => {
                let field = stored(&field, schema, &path, errors);
                kept.insert(name, field);
            }
            None if is_kept || is_open => {
                kept.insert(name, field);
            }
            None => errors.push(unknown_field(
                &path,
                &name,
                known.into_iter().flat_map(Map::keys),
            )),
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !kept.contains_key(name) {
            let wanted = known
                .and_then(|known| known.get(name))
                .map_or_else(|| "a value".to_owned(), wanted);
            errors.push(FieldError::new(
                join(path, name, false),
                "is missing",
                format!("required: {wanted}"),
            ));
        }
    }
    Value::Object(kept)
}

/// The server drops the status of a new object, and checks only the names of its fields.
fn status_faults(status: &Value, schema: &Value) -> Vec<FieldError> {
    let schema = schema.pointer("/properties/status").unwrap_or(&Value::Null);
    let mut errors = Vec::new();
    if status.is_object() {
        stored(status, schema, "status", &mut errors);
    }
    errors.retain(|error| error.wrong == UNKNOWN_FIELD);
    errors
}

fn join(path: &str, name: &str, is_key: bool) -> String {
    if path.is_empty() {
        name.to_owned()
    } else if is_key && name.contains(['.', '/', '[', ']']) {
        format!("{path}[{name}]")
    } else {
        format!("{path}.{name}")
    }
}

/// A null in a field that does not allow null counts as a missing field.
fn is_dropped(value: &Value, schema: &Value) -> bool {
    value.is_null()
        && schema.get("nullable") != Some(&Value::Bool(true))
        && !(schema.get("type").is_none() && schema.get("x-kubernetes-int-or-string").is_none())
}

/// A number as the store returns it: `4.0` becomes 4.
fn whole_as_integer(value: &Value) -> Value {
    let Value::Number(number) = value else {
        return value.clone();
    };
    match number.as_f64() {
        Some(double)
            if number.is_f64() && double.fract() == 0.0 && double.abs() <= WHOLE_NUMBER_END =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
            let whole = double as i64;
            Value::Number(Number::from(whole))
        }
        _ => value.clone(),
    }
}

fn type_fault(value: &Value, schema: &Value, path: &str) -> Option<FieldError> {
    let is_int_or_text = schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    let type_ = schema.get("type").and_then(Value::as_str);
    // The server stores numbers from 2^63 on as doubles.
    let is_integer = value.is_i64();
    let fits = match type_ {
        _ if is_int_or_text => is_integer || value.is_string(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => is_integer,
        Some("number") => value.is_number(),
        _ => true,
    };
    (!fits).then(|| {
        let percent = value.as_str().is_some_and(is_percent) && type_ == Some("number");
        let without = if percent { " and without %" } else { "" };
        let allowed = format!("must be {}{without}", wanted(schema));
        FieldError::new(path, found(value), allowed).got(value.to_string())
    })
}

/// Whether a text is a number of percent, such as `5%`.
fn is_percent(text: &str) -> bool {
    let number = text.strip_suffix('%').map(str::trim_end);
    number.is_some_and(|number| number.parse::<f64>().is_ok())
}

pub(super) fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "is null",
        Value::Bool(_) => "is a boolean",
        Value::Number(number) if !number.is_i64() => "is not a whole number of 64 bits",
        Value::Number(_) => "is a number",
        Value::String(_) => "is text",
        Value::Array(_) => "is a list",
        Value::Object(_) => "is a map",
    }
}

/// What a schema allows, in words.
fn wanted(schema: &Value) -> String {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return "a whole number, or text in quotes".to_owned();
    }
    let words = match schema.get("type").and_then(Value::as_str) {
        Some("object") => return wanted_map(schema),
        Some("array") => "a list",
        Some("string") => "text, in quotes if YAML would read it as another type",
        Some("boolean") => "true or false, without quotes",
        Some("integer") => "a whole number without quotes",
        Some("number") => "a number without quotes",
        _ => "a value",
    };
    words.to_owned()
}

/// A map in words, with the fields that it may have.
fn wanted_map(schema: &Value) -> String {
    let known = schema.get("properties").and_then(Value::as_object);
    let known: Vec<&str> = known
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    match known.as_slice() {
        [] => "a map".to_owned(),
        [field] => format!("a map with the field {field}"),
        fields => {
            let more = fields.len().saturating_sub(MAX_NAMED_FIELDS);
            let named = &fields[..fields.len() - more];
            let rest = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            format!("a map; its fields are {}{rest}", named.join(", "))
        }
    }
}

fn bound_fault(value: &Value, schema: &Value, path: &str) -> Option<FieldError> {
    match value {
        Value::Number(number) => range_fault(number, schema, path),
        Value::String(text) => enum_fault(text, schema, path).or_else(|| {
            let size = text.chars().count();
            size_fault(size, schema, ["minLength", "maxLength"], "characters", path)
        }),
        Value::Array(items) => size_fault(
            items.len(),
            schema,
            ["minItems", "maxItems"],
            "entries",
            path,
        ),
        Value::Object(fields) => size_fault(
            fields.len(),
            schema,
            ["minProperties", "maxProperties"],
            "fields",
            path,
        ),
        Value::Null | Value::Bool(_) => None,
    }
}

fn range_fault(number: &Number, schema: &Value, path: &str) -> Option<FieldError> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let of_format = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        _ => (None, None),
    };
    let least = bound("minimum").or(of_format.0);
    let greatest = bound("maximum").or(of_format.1);
    let double = number.as_f64()?;
    let is_out =
        least.is_some_and(|least| double < least) || greatest.is_some_and(|most| double > most);
    is_out.then(|| {
        let allowed = match (least, greatest) {
            (Some(least), Some(greatest)) => format!("must be {least}..{greatest}"),
            (Some(least), None) => format!("at least {least}"),
            (None, greatest) => format!("at most {}", greatest.unwrap_or(f64::MAX)),
        };
        FieldError::new(path, "is out of range", allowed).got(number)
    })
}

fn enum_fault(text: &str, schema: &Value, path: &str) -> Option<FieldError> {
    let allowed: Vec<_> = schema
        .get("enum")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    (!allowed.contains(&text)).then(|| {
        let all = format!("one of {}", allowed.join(", "));
        let hint = match instead_of_word(path, text) {
            Some(instead) => format!("; {instead}"),
            None => nearest(text, allowed.iter().copied())
                .map_or_else(String::new, |word| format!("; did you mean \"{word}\"?")),
        };
        FieldError::new(path, "is not a known value", all + &hint).got(text)
    })
}

fn size_fault(
    size: usize,
    schema: &Value,
    [least, most]: [&str; 2],
    of: &str,
    path: &str,
) -> Option<FieldError> {
    let bound = |name: &str| {
        schema
            .get(name)
            .and_then(Value::as_u64)
            .map(|bound| usize::try_from(bound).unwrap_or(usize::MAX))
    };
    let got = |wrong: &str, allowed: String| {
        Some(FieldError::new(path, wrong, allowed).got(format!("{size} {of}")))
    };
    match (bound(least), bound(most)) {
        (_, Some(most)) if size > most => got("is too long", format!("at most {most} {of}")),
        (Some(least), _) if size < least => got("is too short", format!("at least {least} {of}")),
        _ => None,
    }
}

/// An error for a field that the schema does not have, with the most similar field that it has.
pub(super) fn unknown_field<'a>(
    path: &str,
    name: &str,
    known: impl Iterator<Item = &'a String>,
) -> FieldError {
    let known: Vec<_> = known.map(String::as_str).collect();
    let allowed = match (
        instead_of_field(path, name),
        nearest(name, known.iter().copied()),
    ) {
        (Some(instead), _) => instead.to_owned(),
        (None, Some(word)) => format!("did you mean \"{word}\"?"),
        (None, None) => format!("allowed are {}", known.join(", ")),
    };
    FieldError::new(path, UNKNOWN_FIELD, allowed)
}

/// The known word that was probably meant; upper and lower case count as the same.
fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let most = (written.chars().count() / LETTERS_PER_EDIT).clamp(1, MAX_SUGGESTION_DISTANCE);
    let nearest = known
        .map(|word| {
            let distance = strsim::damerau_levenshtein(&word.to_lowercase(), &written);
            (distance, word)
        })
        .min();
    nearest
        .filter(|(distance, _)| *distance <= most)
        .map(|(_, word)| word)
}
