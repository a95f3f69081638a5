//! `drop`: removes some fields of a record. The rest keeps its text and its order. Fields that a
//! record does not have are no error.

use crate::ops::error::OperatorError;
use crate::record::{Record, Selection};

/// The record without the fields.
pub(crate) fn apply(
    path: &str,
    dropped: &Selection,
    record: &Record,
) -> Result<Record, OperatorError> {
    record
        .without(dropped)
        .map_err(|error| OperatorError::of_data(path, error.to_string()))
}
