//! Adds values for sum and avg. Null is ignored. Any other value that is not a number is an error
//! that shows the value.

use crate::expr::Value;
use crate::ops::error::shown;
use crate::ops::payload::StateError;
use crate::sum::ExactSum;

/// Adds a value to a sum.
pub(super) fn add(sum: &mut ExactSum, value: &Value<'_>) -> Result<(), StateError> {
    let Some(number) = value.number_text() else {
        if value.type_name() == "null" {
            return Ok(());
        }
        let got = value
            .to_record()
            .map_or_else(|error| error.to_string(), |record| shown(&record));
        return Err(StateError::Refused(format!(
            "not a number (got {got}); numbers and null are allowed"
        )));
    };
    sum.add(&number)
        .map_err(|error| StateError::Refused(error.to_string()))
}
