//! The messages between the processes of a job and the operator: messages and services generated
//! from the `.proto` files, their codec, and the reasons for which a run ends.
//!
//! Depends on no other crate of this repository. Conversions to types of the engine or of the API
//! belong to the crates that know both.

pub mod codec;
mod generated;
pub mod reason;

pub use generated::{run, task, worker};
