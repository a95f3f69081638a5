//! Errors in the text of a record, with their position. The reader of the file adds the name of the
//! file and the line.

use std::fmt;

use zephyr_jq::json::{JsonError, JsonProblem};

use super::limits::NoRoom;

/// The field that allows longer records.
pub const LINE_LIMIT_FIELD: &str = "spec.pipeline.limits.lineBytes";
/// The field that allows deeper nesting.
pub const NESTING_FIELD: &str = "spec.pipeline.limits.nesting";

/// Why bytes are not a record: the first bad byte and the error there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {problem}")]
pub struct RecordError {
    /// Bytes before the bad one, counted from the start of the record.
    pub offset: usize,
    /// The error at that byte.
    pub problem: RecordProblem,
}

/// An error in a record's text. It is displayed as a clause that says what was found and what is
/// allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordProblem {
    /// More bytes than the limit.
    TooLong {
        /// Bytes that are allowed.
        limit: usize,
    },
    /// Arrays and objects nest deeper than the limit.
    TooDeep {
        /// Levels that are allowed.
        limit: usize,
    },
    /// The task has too little memory for it.
    NoRoom(NoRoom),
    /// The text is not JSON.
    Json(JsonProblem),
}

impl From<JsonError> for RecordError {
    fn from(error: JsonError) -> Self {
        Self {
            offset: error.offset,
            problem: error.problem.into(),
        }
    }
}

impl From<JsonProblem> for RecordProblem {
    fn from(problem: JsonProblem) -> Self {
        if let JsonProblem::TooLong { limit } = problem {
            Self::TooLong { limit }
        } else if let JsonProblem::TooDeep { limit } = problem {
            Self::TooDeep { limit }
        } else {
            Self::Json(problem)
        }
    }
}

impl fmt::Display for RecordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(
                f,
                "the record is too long; at most {limit} bytes are allowed ({LINE_LIMIT_FIELD})"
            ),
            Self::TooDeep { limit } => write!(
                f,
                "arrays and objects nest too deep; at most {limit} levels are allowed ({NESTING_FIELD})"
            ),
            Self::NoRoom(no_room) => no_room.fmt(f),
            Self::Json(JsonProblem::Empty) => {
                f.write_str("the record is empty; one JSON value is expected")
            }
            Self::Json(problem) => problem.fmt(f),
        }
    }
}
