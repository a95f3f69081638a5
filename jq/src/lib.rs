//! jq 1.8 as a library: parse, compile, run. Pure: no input or output, no clock, no environment, no threads. It knows
//! nothing of jobs.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod dates;
mod double;
mod format;
mod math;
mod regex;
