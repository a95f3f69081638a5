//! The messages and services that `build.rs` generates. Contains no handwritten code.

#![expect(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "generated code; the proto files carry the documentation"
)]

/// Operator and coordinator: `run.proto`.
pub mod run {
    tonic::include_proto!("zephyr.run.v1");
}

/// Supervisor and child process: `task.proto`.
pub mod task {
    tonic::include_proto!("zephyr.task.v1");
}

/// Worker and coordinator: `worker.proto`.
pub mod worker {
    tonic::include_proto!("zephyr.worker.v1");
}
