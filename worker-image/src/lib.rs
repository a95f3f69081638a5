//! The I/O shell around the engine: coordinator and workers of a job, and how they reach storage and each other.
//!
//! All decisions about a run are the engine's; here facts are fed in and effects carried out. No Kubernetes client.

pub mod admin;
mod chance;
pub mod convert;
pub mod coordinator;
mod defect;
pub mod finalize;
pub mod formats;
pub mod job;
pub mod ledger;
pub mod local;
pub mod metrics;
pub mod open_files;
pub mod reclaim;
pub mod shuffle;
#[cfg(test)]
mod simulation;
pub mod storage;
pub mod task;
pub mod telemetry;
pub mod transport;
pub mod worker;

pub use worker::child_main_if_requested;

/// Makes ring the process's provider of cryptography, once; every client and server of TLS needs it.
pub fn install_crypto_provider() {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a provider of cryptography was installed before");
    }
}
