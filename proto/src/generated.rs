//! Includes the messages and services that `build.rs` generates. This file contains no other code.

#![expect(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "generated code; the proto files carry the documentation"
)]

/// The messages between operator and coordinator, from `run.proto`.
pub mod run {
    tonic::include_proto!("zephyr.run.v1");
}

/// The messages between supervisor and child process, from `task.proto`.
pub mod task {
    tonic::include_proto!("zephyr.task.v1");
}

/// The messages between worker and coordinator, from `worker.proto`.
pub mod worker {
    tonic::include_proto!("zephyr.worker.v1");
}
