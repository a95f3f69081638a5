//! `rename`: gives fields of a record other names, each at its place. Fields that a record does not
//! have are no error. A record that already has a field of the new name is one.

use crate::ops::error::OperatorError;
use crate::ops::select;
use crate::record::{Limits, Record, Renaming};

/// The compiled list of pairs: the old path and the new one.
pub(crate) fn compile(
    path: &str,
    pairs: &[(Vec<String>, Vec<String>)],
) -> Result<Renaming, OperatorError> {
    let (from, to): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
    let from = select::field_paths(path, &from)?;
    let to = select::field_paths(path, &to)?;
    let pairs: Vec<_> = from.into_iter().zip(to).collect();
    Renaming::new(&pairs).map_err(|error| OperatorError::of_data(path, error.to_string()))
}

/// The record with the new names.
pub(crate) fn apply(
    path: &str,
    renaming: &Renaming,
    record: &Record,
    limits: &Limits,
) -> Result<Record, OperatorError> {
    record
        .renamed(renaming, limits)
        .map_err(|error| OperatorError::of_data(path, error.to_string()))
}
