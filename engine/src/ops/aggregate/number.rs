//! Finds the numbers for sum, avg and stddev. Null is ignored. Any other value that is not a number
//! is an error that shows the value.

use std::borrow::Cow;

use crate::expr::Value;
use crate::ops::error::shown;
use crate::ops::payload::StateError;
use crate::sum::ExactSum;

/// Adds a value to a sum.
pub(super) fn add(sum: &mut ExactSum, value: &Value<'_>) -> Result<(), StateError> {
    match text(value)? {
        Some(number) => sum
            .add(&number)
            .map_err(|error| StateError::Refused(error.to_string())),
        None => Ok(()),
    }
}

/// The text of a number; `None` for null.
pub(super) fn text<'v>(value: &'v Value<'_>) -> Result<Option<Cow<'v, str>>, StateError> {
    let Some(number) = value.number_text() else {
        if value.type_name() == "null" {
            return Ok(None);
        }
        let got = value
            .to_record()
            .map_or_else(|error| error.to_string(), |record| shown(&record));
        return Err(StateError::Refused(format!(
            "not a number (got {got}); numbers and null are allowed"
        )));
    };
    Ok(Some(number))
}
