//! Object storage and what a job keeps in it: clients of the stores, file formats, shuffle files,
//! the ledger, final files and the folders of ended jobs.
//!
//! Knows no sessions, no tasks and no Kubernetes. What a run does next is the engine's decision;
//! the worker's crate calls what is here.

pub mod chance;
pub mod finalize;
pub mod formats;
pub mod ledger;
pub mod reclaim;
pub mod shuffle;
pub mod storage;

/// The fixtures are also used by the tests of the worker's crate, so they name this crate from
/// outside.
#[cfg(test)]
extern crate self as zephyr_store;
#[cfg(test)]
#[path = "../tests/fixtures/mod.rs"]
#[expect(dead_code, reason = "the worker's tests use more of it")]
mod fixtures;

/// Makes ring the process's provider of cryptography, once; every client and server of TLS needs
/// it.
pub fn install_crypto_provider() {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a provider of cryptography was installed before");
    }
}
