//! Runs one attempt of one task, from its input to its output, inside the child process that runs
//! tasks.
//!
//! This module uses no session and no coordinator: it gets an assignment, and returns the output or
//! the error. Prints nothing, because the process's standard output belongs to its supervisor.

mod bad;
mod bad_files;
mod context;
mod dead_letter;
mod error;
pub(crate) mod exec;
mod gather;
mod input;
mod memory;
mod output;
mod run;
mod tables;
#[cfg(test)]
mod tests;

pub(crate) use bad::cut_message;
pub use context::{CommandSettings, TaskContext, TaskContextError, TaskSetup};
pub use error::TaskFailure;
pub use run::{Assignment, InputPart, ProgressCounters, TaskInput, Trace, run};
pub use tables::{MAX_TABLE_FILES, MAX_TABLES_BYTES, TableError, check_sizes, check_tables};
