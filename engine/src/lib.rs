//! The engine: turns pipelines into plans, applies operators to records, and contains the
//! coordinator's state machine.
//!
//! Pure: uses no async runtime, no Kubernetes, no network, no clock, no randomness and no I/O. The
//! time, ids and bytes are arguments.

pub mod coordinator;
pub mod expr;
pub mod id;
pub mod invariants;
pub mod key;
pub mod number;
pub mod ops;
pub mod pipeline;
pub mod plan;
pub mod record;
pub mod sum;
