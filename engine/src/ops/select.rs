//! `select`: keeps some fields of a record, in the order of the list, nested as before. Values keep
//! their text. Fields that a record does not have are left out.

use crate::ops::error::OperatorError;
use crate::record::{FieldPath, Record, Selection};

/// The compiled list of paths.
pub(crate) fn compile(path: &str, fields: &[Vec<String>]) -> Result<Selection, OperatorError> {
    let fields = field_paths(path, fields)?;
    Selection::new(&fields).map_err(|error| OperatorError::of_data(path, error.to_string()))
}

/// The paths of a list, each given as its names.
pub(crate) fn field_paths(
    path: &str,
    fields: &[Vec<String>],
) -> Result<Vec<FieldPath>, OperatorError> {
    let refused = |message: String| OperatorError::of_data(path, message);
    // Dots separate the names of a path, also in the printed plan. So a name must not contain a
    // dot.
    if let Some(name) = fields.iter().flatten().find(|name| name.contains('.')) {
        let message = format!(
            "the field {name:?} has a dot in its name and cannot be named here; a map can use it"
        );
        return Err(refused(message));
    }
    fields
        .iter()
        .map(|names| names.join(".").parse::<FieldPath>())
        .collect::<Result<_, _>>()
        .map_err(|error| refused(error.to_string()))
}

/// The projection of one record.
pub(crate) fn apply(
    path: &str,
    selection: &Selection,
    record: &Record,
) -> Result<Record, OperatorError> {
    record
        .select(selection)
        .map_err(|error| OperatorError::of_data(path, error.to_string()))
}
