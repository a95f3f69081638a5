//! Implements the I/O around the engine: coordinator and workers of a job, and their communication.
//!
//! The engine makes all decisions about a run; this crate collects facts and executes effects.
//! Contains no Kubernetes client.

pub mod admin;
pub mod convert;
pub mod coordinator;
mod defect;
#[cfg(test)]
#[path = "../../store/tests/fixtures/mod.rs"]
#[expect(dead_code, reason = "the tests of zephyr-store use more of it")]
mod fixtures;
pub mod install;
pub mod job;
pub mod local;
pub mod metrics;
pub mod open_files;
#[cfg(test)]
mod simulation;
pub mod task;
pub mod telemetry;
pub mod transport;
pub mod worker;

pub use worker::child_main_if_requested;
