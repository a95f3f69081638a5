//! jq 1.8 as a library: parse, compile, run. Pure: no input or output, no clock, no environment, no threads. It knows
//! nothing of jobs.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[allow(
    dead_code,
    unused_imports,
    reason = "the evaluator that uses it is not there yet"
)]
mod dates;
#[allow(dead_code, reason = "the evaluator that uses it is not there yet")]
mod double;
#[allow(dead_code, reason = "the evaluator that uses it is not there yet")]
mod format;
#[allow(dead_code, reason = "the evaluator that uses it is not there yet")]
mod math;
#[allow(dead_code, reason = "the evaluator that uses it is not there yet")]
mod regex;
