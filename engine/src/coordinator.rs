//! Implements the coordinator as a state machine: `step(&mut State, Event, now) -> Vec<Effect>`.
//!
//! All its decisions follow from its arguments. It uses no clock, no randomness and no I/O. The
//! shell around it is in the worker's crate. The shell makes a `State` from the plan and the
//! ledger's records, and executes the effects of `start`. Then it passes every event to `step` in
//! the order in which it receives them, and executes the effects in the given order.

pub mod attempts;
pub mod config;
pub mod counters;
pub mod effect;
pub mod event;
pub mod failed_task;
pub mod reason;
pub mod record;
pub mod replay;
pub mod report;
pub mod setback;
pub mod state;
pub mod step;
pub mod uncharged;

pub(crate) mod bad_records;

mod commit;
mod defect;
mod durations;
mod finish;
mod liveness;
mod losses;
mod outbox;
mod release;
mod rest;
mod retry;
mod schedule;
mod session;
mod speculate;

pub use attempts::{EndedAttempt, Ending};
pub use config::Config;
pub use effect::{Dispatch, Effect, ToWorker};
pub use event::{Event, PodEndCause};
pub use reason::FailureReason;
pub use replay::{ReplayError, ReplayProblem};
pub use report::Report;
pub use setback::Setback;
pub use state::State;
pub use step::step;

#[cfg(test)]
mod tests;
