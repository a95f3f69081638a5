//! Inline items: numbers that the API server has changed before anybody could see them.

use serde_json::{Number, Value};

use crate::field_error::FieldError;

/// Two to the power 63. The API server stores integers from here on as doubles, so that their last digits may be lost.
const INTEGER_END: f64 = 9_223_372_036_854_775_808.0;
/// Most items that are named; the others have the same fault.
const MAX_NAMED: usize = 5;

/// Every number of the items of which nobody can know any more whether it is the one that was written.
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
