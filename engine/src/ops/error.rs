//! Defines why an operator failed. The same record or the same bytes would fail again. A retry
//! helps only if shuffle data is damaged, because this data can be written again.

use crate::pipeline::Origin;
use crate::record::Record;

/// The most characters of a value that a message shows.
const SHOWN_CHARACTERS: usize = 64;

/// One sentence about one step. Callers that know the file and the record's number put them in
/// front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct OperatorError {
    /// The step's path in the manifest: `spec.pipeline.steps[2].groupBy.key`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// Whether bytes of a shuffle are at fault, and not the user's data. Writing these bytes again
    /// may help.
    pub damaged: bool,
}

impl OperatorError {
    /// A mistake of the expression or of the record.
    pub(crate) fn of_data(path: &str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            message: message.into(),
            damaged: false,
        }
    }

    /// An error of bytes in a shuffle that no task of this program can have written.
    pub(crate) fn of_damage(path: &str, problem: &str) -> Self {
        let message = format!("the shuffle data is damaged: {problem}");
        Self {
            path: path.to_owned(),
            message,
            damaged: true,
        }
    }
}

/// A bad record at a place that skips bad records. Nothing of it was passed on.
#[derive(Debug)]
pub struct Rejected {
    /// The place.
    pub origin: Origin,
    /// Why.
    pub error: OperatorError,
    /// The record as it arrived there.
    pub record: Record,
}

/// A record's text as an error shows it, cut to 64 characters.
pub fn shown(record: &Record) -> String {
    shown_text(record.as_json_str())
}

/// A JSON text as an error shows it, cut to 64 characters.
pub fn shown_text(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
