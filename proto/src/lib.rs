//! What processes of a job and the operator send to each other: the messages and services that are
//! generated from the `.proto` files, their codec, and the words of the reasons for which a run
//! ends.
//!
//! Depends on no other crate of this repository. Conversions to types of the engine or of the API
//! belong to the crates that know both.

pub mod codec;
mod generated;
pub mod reason;

pub use generated::{run, task, worker};
