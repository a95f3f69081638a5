//! Whether evaluation continues, and why it stops. This module contains only data types.

use crate::Exhausted;
use crate::value::Value;
use crate::value::number::{MAX_DIGITS, TooManyDigits};

/// Why evaluation stops.
#[derive(Debug)]
pub(crate) enum Stop<'v> {
    /// An error of the program, which `try` catches.
    Error(Value<'v>),
    /// A `break` to the label with this number. `try` catches it too, as in jq.
    Break(u64),
    /// A part of the evaluator needs no more outputs. In jq this is a `break`, so alternatives of
    /// patterns catch it. It never reaches a `try`.
    Enough(u64),
    /// The caller needs no more outputs.
    Halted,
    /// The program exceeds a limit. The program cannot catch this.
    Exhausted(Exhausted),
}

/// A stop in a box, so that a result without an error stays small.
pub(crate) type Failure<'v> = Box<Stop<'v>>;

/// Whether to continue: `Ok` to continue, or the reason to stop.
pub(crate) type Flow<'v> = Result<(), Failure<'v>>;

/// One value, or the reason why there is none.
pub(crate) type Output<'v> = Result<Value<'v>, Failure<'v>>;

/// Makes an error of the program with this message.
pub(crate) fn error<'v>(message: impl Into<String>) -> Failure<'v> {
    Box::new(Stop::Error(Value::from(message.into())))
}

impl From<Exhausted> for Failure<'_> {
    fn from(exhausted: Exhausted) -> Self {
        Box::new(Stop::Exhausted(exhausted))
    }
}

impl From<TooManyDigits> for Failure<'_> {
    fn from(TooManyDigits: TooManyDigits) -> Self {
        error(format!(
            "an integer has too many digits; at most {MAX_DIGITS} are allowed"
        ))
    }
}
