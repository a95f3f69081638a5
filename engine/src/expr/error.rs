//! Defines the errors of expressions, in words for the person who wrote the expression.

use zephyr_jq::json::JsonError;

use super::{MAX_EXPRESSION_BYTES, MAX_OUTPUTS};
use crate::number::NumberError;
use crate::record::{LINE_LIMIT_FIELD, NESTING_FIELD, NoRoom};

/// The largest number of characters of a message that an error shows.
const MAX_SHOWN_CHARACTERS: usize = 200;

/// Why a text is not an expression that may be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct CompileError {
    /// Line of the expression, from 1.
    pub line: usize,
    /// Character in that line, from 1.
    pub column: usize,
    /// The error at that place.
    pub message: String,
}

/// Why an expression has no result for a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// An error of the expression, in jq's words.
    #[error("{message}")]
    Failed {
        /// The message, shortened; JSON if the expression raised something other than a string. If
        /// a part of the expression raised the error, the place of that part follows.
        message: String,
    },
    /// The expression probably has no end.
    #[error("the expression has more than {MAX_OUTPUTS} results for one record")]
    TooManyOutputs,
    /// A step needs exactly one result.
    #[error("the expression must have exactly one result for each record (got {outputs})")]
    NotOneOutput {
        /// How many results there were.
        outputs: u64,
    },
    /// The task has too little memory to evaluate the expression on such a large record.
    #[error("{0}")]
    NoRoom(NoRoom),
}

/// Why a result cannot be written as a record or used as a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Arrays and objects nest deeper than is allowed for a record.
    #[error(
        "the result nests too deep; at most {limit} levels of arrays and objects are allowed ({NESTING_FIELD})"
    )]
    TooDeep {
        /// Levels that are allowed.
        limit: usize,
    },
    /// More bytes than a record may have.
    #[error("the result is too long; at most {limit} bytes are allowed ({LINE_LIMIT_FIELD})")]
    TooLong {
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A number in the result cannot be compared.
    #[error(transparent)]
    Number(NumberError),
}

impl CompileError {
    pub(super) fn too_long(source: &str) -> Self {
        Self::of_whole(format!(
            "the expression has {} bytes; at most {MAX_EXPRESSION_BYTES} are allowed",
            source.len()
        ))
    }

    pub(super) fn empty() -> Self {
        Self::of_whole(
            "the expression is empty; a jq expression is expected, such as . for the record itself"
                .to_owned(),
        )
    }

    pub(super) fn of_value(name: &str, error: &JsonError) -> Self {
        Self::of_whole(format!("the named value {name} is not JSON: {error}"))
    }

    pub(super) fn no_thread() -> Self {
        Self::of_whole("no thread could be started to compile the expression".to_owned())
    }

    pub(super) fn panicked() -> Self {
        Self::of_whole("the jq compiler failed on the expression; write it another way".to_owned())
    }

    fn of_whole(message: String) -> Self {
        Self {
            line: 1,
            column: 1,
            message,
        }
    }
}

impl From<zephyr_jq::CompileError> for CompileError {
    fn from(error: zephyr_jq::CompileError) -> Self {
        Self {
            line: error.line,
            column: error.column,
            message: error.message,
        }
    }
}

/// A text cut to the length that fits an error message.
pub(super) fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(MAX_SHOWN_CHARACTERS).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}
