//! The operator runs `ZephyrJob`s on a cluster. It uses the Kubernetes API, and learns about a run
//! only from the coordinator's stream and from pods. This crate must not depend on the engine or
//! the worker.

pub mod admin;
pub mod calls;
pub mod children;
pub mod clock;
pub mod config;
pub mod controller;
mod defect;
pub mod driver;
pub mod health;
pub mod identity;
pub mod metrics;
pub mod open_files;
pub mod pods;
pub mod progress;
pub mod queue;
pub mod run_report;
#[cfg(test)]
mod simulation;
pub mod startup;
pub mod telemetry;
pub mod turns;
pub mod watches;
