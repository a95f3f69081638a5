//! What can go wrong with an expression, in words for the person who wrote it.

use jaq_core::load;
use jaq_core::{Exn, compile};
use jaq_json::Val;

use super::interpolation::Rewritten;
use super::{MAX_EXPRESSION_BYTES, MAX_OUTPUTS, fence};
use crate::number::NumberError;
use crate::record::{LINE_LIMIT_FIELD, NESTING_FIELD, NoRoom, RecordError};

/// Characters of a value or token that an error shows.
const SHOWN_CHARACTERS: usize = 200;

/// Why a text is not an expression that may be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct CompileError {
    /// Line of the expression, from 1.
    pub line: usize,
    /// Character in that line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Why an expression has no result for a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// jq's own error, as jaq words it, shortened.
    #[error("{message}")]
    Failed { message: String },
    #[error("the expression has more than {MAX_OUTPUTS} results for one record")]
    TooManyOutputs,
    #[error("the expression must have exactly one result for each record (got {outputs})")]
    NotOneOutput { outputs: u64 },
    /// The task has too little memory to evaluate it on so large a record.
    #[error("{0}")]
    NoRoom(NoRoom),
}

/// Why a result cannot be written as a record or used as a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    #[error(
        "the result nests too deep; at most {limit} levels of arrays and objects are allowed ({NESTING_FIELD})"
    )]
    TooDeep { limit: usize },
    #[error("the result is too long; at most {limit} bytes are allowed ({LINE_LIMIT_FIELD})")]
    TooLong { limit: usize },
    #[error(
        "the result holds raw bytes, which JSON cannot write; tostring or @base64 make a string of them"
    )]
    Bytes,
    #[error("the result has the key {key}, which is not a string; tostring makes one of it")]
    KeyNotAString { key: String },
    #[error(transparent)]
    Number(NumberError),
}

impl CompileError {
    pub(super) fn too_long(source: &str) -> Self {
        let message = format!(
            "the expression has {} bytes; at most {MAX_EXPRESSION_BYTES} are allowed",
            source.len()
        );
        Self {
            line: 1,
            column: 1,
            message,
        }
    }

    pub(super) fn of_value(error: &RecordError) -> Self {
        Self {
            line: 1,
            column: 1,
            message: format!("a named value is not JSON: {error}"),
        }
    }

    pub(super) fn no_thread() -> Self {
        Self {
            line: 1,
            column: 1,
            message: "no thread could be started to compile the expression on".to_owned(),
        }
    }

    pub(super) fn panicked() -> Self {
        Self {
            line: 1,
            column: 1,
            message: "the jq compiler failed on the expression; write it another way".to_owned(),
        }
    }

    fn at(source: &Rewritten, part: &str, message: String) -> Self {
        let original = source.original();
        let offset = source.original_offset(part).unwrap_or(original.len());
        let before = original.get(..offset).unwrap_or(original);
        let line = before.matches('\n').count() + 1;
        let column = before
            .chars()
            .rev()
            .take_while(|&character| character != '\n')
            .count()
            + 1;
        Self {
            line,
            column,
            message,
        }
    }
}

impl EvaluationError {
    pub(super) fn from_exception(exception: Exn<'_, Val>) -> Self {
        let message = match exception.get_err() {
            // A message is a string value: shown without the quotes of JSON.
            Ok(error) => match error.into_val() {
                Val::TStr(message) => excerpt(&String::from_utf8_lossy(&message)),
                other @ (Val::Null
                | Val::Bool(_)
                | Val::Num(_)
                | Val::BStr(_)
                | Val::Arr(_)
                | Val::Obj(_)) => excerpt(&other.to_string()),
            },
            // The fence leaves no filter that halts, and the compiler refuses a break without its label.
            Err(_) => "the expression broke off without a result".to_owned(),
        };
        Self::Failed { message }
    }
}

/// The first of the errors of lexing and parsing.
pub(super) fn loading(source: &Rewritten, errors: load::Errors<&str, ()>) -> CompileError {
    let first = errors.into_iter().next().map(|(_, error)| error);
    let end = &source.text()[source.text().len()..];
    let (part, message) = match first {
        Some(load::Error::Io(errors)) => {
            let part = errors.first().map_or(end, |(path, _)| *path);
            (
                part,
                forbidden("import", fence::reason("import").unwrap_or_default()),
            )
        }
        Some(load::Error::Lex(errors)) => match errors.first() {
            Some((expected, found)) => (
                *found,
                format!("{} is expected (got {})", expected.as_str(), token(found)),
            ),
            None => (end, "the expression is not jq".to_owned()),
        },
        Some(load::Error::Parse(errors)) => match errors.first() {
            Some((expected, found)) => (
                *found,
                format!("{} is expected (got {})", expected.as_str(), token(found)),
            ),
            None => (end, "the expression is not jq".to_owned()),
        },
        None => (end, "the expression is not jq".to_owned()),
    };
    CompileError::at(source, part, message)
}

/// The first of the errors of resolving names.
pub(super) fn compiling(source: &Rewritten, errors: compile::Errors<&str, ()>) -> CompileError {
    let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
    let Some((name, undefined)) = first else {
        return CompileError::at(source, "", "the expression does not compile".to_owned());
    };
    let message = match (fence::reason(name), &undefined) {
        (Some(reason), _) => forbidden(name, reason),
        (None, compile::Undefined::Filter(arity)) => {
            format!("the filter {name}/{arity} is not defined")
        }
        (None, other) => format!("the {} {name} is not defined", other.as_str()),
    };
    CompileError::at(source, name, message)
}

fn forbidden(name: &str, reason: &str) -> String {
    format!("{name} is not allowed here: {reason}")
}

fn token(found: &str) -> String {
    let first = found.lines().next().unwrap_or("");
    if first.is_empty() {
        "the end of the expression".to_owned()
    } else {
        format!("`{}`", excerpt(first))
    }
}

/// A text cut to what fits an error message.
pub(super) fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(SHOWN_CHARACTERS).collect();
    if excerpt.len() < text.len() {
        excerpt.push('…');
    }
    excerpt
}
