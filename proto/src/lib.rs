//! Defines the messages between the processes of a job and the operator: the messages and services
//! that are generated from the `.proto` files, their codec, and the reasons for which a run ends.
//!
//! This crate depends on no other crate of this repository. Conversions to types of the engine or
//! of the API are in the crates that use both.

pub mod codec;
mod generated;
pub mod reason;

pub use generated::{run, task, worker};
