//! The coordinator as a state machine: `step(&mut State, Event, now) -> Vec<Effect>`.
//!
//! Everything it decides follows from its arguments: no clock, no randomness, no I/O. The shell around it lives in the
//! worker's crate.

pub mod effect;
pub mod event;
pub mod record;
