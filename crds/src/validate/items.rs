//! Finds inline items and named values that the API server or `kubectl` changes without notice.
//! The server rounds numbers. `kubectl apply` drops nulls inside objects, at any depth, and keeps
//! those in lists; `kubectl create` and `kubectl apply --server-side` drop none.

use serde_json::{Map, Number, Value};

use crate::field_error::FieldError;

/// Two to the power 63. The API server stores integers from here on as doubles, which can lose the
/// last digits.
const INTEGER_END: f64 = 9_223_372_036_854_775_808.0;
/// The largest number of items that are reported; the others have the same fault.
const MAX_NAMED: usize = 5;

/// What is wrong with a null that no longer exists.
pub(super) const WAS_DROPPED: &str = "`kubectl apply` has dropped it";
/// What a user can do about a null inside an object.
const NULL_ALLOWED: &str = "leave the key out, write the value as JSON text and parse it in an expression (fromjson), or put records into a file";

/// Reports every null inside an object of the items. The job gets such a null only if the manifest
/// is applied by a command that keeps it.
pub(super) fn nulls(path: &str, items: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        collect_nulls(&format!("{path}[{index}]"), item, &mut errors);
    }
    errors
}

/// Reports, in a map of values, every null and every number that the server may have changed.
pub(super) fn changed_values(path: &str, values: &Map<String, Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in values {
        collect(&format!("{path}.{name}"), value, &mut errors);
    }
    collect_nulls_of_map(path, values, &mut errors);
    errors
}

/// Reports every null of a map of values that `kubectl apply` has dropped; see [`dropped_nulls`].
pub(super) fn dropped_values(
    path: &str,
    last_applied: &str,
    values: &Map<String, Value>,
) -> Vec<FieldError> {
    let written: Value = serde_json::from_str(last_applied).unwrap_or_default();
    let mut errors = Vec::new();
    if let Some(Value::Object(written)) = written.pointer("/spec/pipeline/values") {
        collect_dropped_of_map(path, written, values, &mut errors);
    }
    errors
}

fn collect_nulls(path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    if errors.len() >= MAX_NAMED {
        return;
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_nulls(&format!("{path}[{index}]"), item, errors);
            }
        }
        Value::Object(fields) => collect_nulls_of_map(path, fields, errors),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn collect_nulls_of_map(path: &str, fields: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    for (name, field) in fields {
        if errors.len() >= MAX_NAMED {
            return;
        }
        let path = format!("{path}.{name}");
        if field.is_null() {
            let problem = "is null inside an object, which `kubectl apply` drops";
            errors.push(FieldError::new(path, problem, NULL_ALLOWED).got("null"));
        } else {
            collect_nulls(&path, field, errors);
        }
    }
}

/// Reports every null inside an object of the items that `kubectl apply` has dropped.
/// `last_applied` is the copy of the manifest that it keeps in the annotation
/// [`LAST_APPLIED`](super::LAST_APPLIED); `items` is what the server has.
pub(super) fn dropped_nulls(path: &str, last_applied: &str, items: &[Value]) -> Vec<FieldError> {
    let written: Value = serde_json::from_str(last_applied).unwrap_or_default();
    let written = written.pointer("/spec/pipeline/source/items/values");
    let written = written.and_then(Value::as_array).map(Vec::as_slice);
    let mut errors = Vec::new();
    collect_dropped_of_list(path, written.unwrap_or_default(), items, &mut errors);
    errors
}

fn collect_dropped_of_list(
    path: &str,
    written: &[Value],
    stored: &[Value],
    errors: &mut Vec<FieldError>,
) {
    for (index, (written, stored)) in written.iter().zip(stored).enumerate() {
        let path = format!("{path}[{index}]");
        match (written, stored) {
            (Value::Array(written), Value::Array(stored)) => {
                collect_dropped_of_list(&path, written, stored, errors);
            }
            (Value::Object(written), Value::Object(stored)) => {
                collect_dropped_of_map(&path, written, stored, errors);
            }
            _ => {}
        }
    }
}

fn collect_dropped_of_map(
    path: &str,
    written: &Map<String, Value>,
    stored: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) {
    for (name, written) in written {
        if errors.len() >= MAX_NAMED {
            return;
        }
        let path = format!("{path}.{name}");
        match (written, stored.get(name)) {
            (Value::Null, None) => {
                let problem = format!("was null inside an object, and {WAS_DROPPED}");
                errors.push(FieldError::new(path, problem, NULL_ALLOWED).got("null"));
            }
            (Value::Array(written), Some(Value::Array(stored))) => {
                collect_dropped_of_list(&path, written, stored, errors);
            }
            (Value::Object(written), Some(Value::Object(stored))) => {
                collect_dropped_of_map(&path, written, stored, errors);
            }
            _ => {}
        }
    }
}

/// Reports every number of the items that the server may have changed.
pub(super) fn numbers(path: &str, items: &[Value]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        collect(&format!("{path}[{index}]"), item, &mut errors);
    }
    errors
}

fn collect(path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    if errors.len() >= MAX_NAMED {
        return;
    }
    match value {
        Value::Number(number) if is_doubtful(number) => errors.push(
            FieldError::new(
                path,
                "is an integer that the API server does not keep exactly",
                "integers between -2^63 and 2^63; put others into quotes or into a file",
            )
            .got(number),
        ),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(&format!("{path}[{index}]"), item, errors);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                collect(&format!("{path}.{name}"), field, errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_doubtful(number: &Number) -> bool {
    !number.is_i64()
        && number.as_f64().is_none_or(|double| {
            double.abs() >= INTEGER_END || (double == 0.0 && double.is_sign_negative())
        })
}
