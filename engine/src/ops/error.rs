//! Why an operator could not go on. The same record or the same bytes fail again: nothing here is
//! worth a retry but damaged shuffle data, which can be made anew.

use crate::record::Record;

/// The most characters of a value that a message shows.
const SHOWN_CHARACTERS: usize = 64;

/// One sentence about one step. Whoever knows the file and the record's number puts them in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct OperatorError {
    /// The step's place in the manifest: `spec.pipeline.steps[2].groupBy.key`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// Not the user's data is at fault but the bytes read from a shuffle: making them again may
    /// help.
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

    /// Bytes of a shuffle that no task of ours wrote like that.
    pub(crate) fn of_damage(path: &str, problem: &str) -> Self {
        let message = format!("the shuffle data is damaged: {problem}");
        Self {
            path: path.to_owned(),
            message,
            damaged: true,
        }
    }
}

/// A record's text as a message shows it, cut to 64 characters.
pub fn shown(record: &Record) -> String {
    let text = record.as_json_str();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
