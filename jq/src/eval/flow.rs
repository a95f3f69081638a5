//! How evaluation goes on or stops. Only data.

use crate::value::Value;
use crate::value::number::{MAX_DIGITS, TooManyDigits};
use crate::value::order::TooDeep;

/// Why evaluation stops.
#[derive(Debug)]
pub(crate) enum Stop<'v> {
    /// An error of the program, which `try` catches.
    Error(Value<'v>),
    /// `break` to the label of this number. `try` catches it too, as in jq.
    Break(u64),
    /// A part of the evaluator has what it wants; nothing of the program catches it.
    Enough(u64),
    /// Whoever receives the outputs wants no more.
    Halted,
    /// The program asks for more than there is; nothing catches it.
    Exhausted(&'static str),
}

/// Boxed, so that what nearly never happens costs nothing where it does not.
pub(crate) type Failure<'v> = Box<Stop<'v>>;

/// Whether to go on.
pub(crate) type Flow<'v> = Result<(), Failure<'v>>;

/// One value or why there is none.
pub(crate) type Output<'v> = Result<Value<'v>, Failure<'v>>;

/// An error with a message.
pub(crate) fn error<'v>(message: impl Into<String>) -> Failure<'v> {
    Box::new(Stop::Error(Value::from(message.into())))
}

/// Said when the stack is used up.
pub(crate) const ENDLESS_RECURSION: &str =
    "the recursion has no end, or goes deeper than the stack of 256 MiB allows";

impl From<TooDeep> for Failure<'_> {
    fn from(TooDeep: TooDeep) -> Self {
        Box::new(Stop::Exhausted(
            "a value nests deeper than the stack of 256 MiB allows",
        ))
    }
}

impl From<TooManyDigits> for Failure<'_> {
    fn from(TooManyDigits: TooManyDigits) -> Self {
        error(format!(
            "an integer has too many digits; at most {MAX_DIGITS} are allowed"
        ))
    }
}
