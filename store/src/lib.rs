//! Object storage, and everything that a job stores there. This crate has the clients of the
//! stores, file formats, shuffle files, the ledger, the history of attempts, final files, and the
//! removal of folders of ended jobs.
//!
//! This crate knows nothing about sessions or Kubernetes, and runs no tasks. The engine decides
//! what a run does next. The worker's crate calls the functions of this crate.

pub mod attempts;
pub mod chance;
pub mod export;
pub mod finalize;
pub mod formats;
pub mod ledger;
pub mod ownership;
pub mod reclaim;
pub mod shuffle;
pub mod storage;

/// The fixtures are also used by the tests of the worker's crate, so they refer to this crate by
/// its external name.
#[cfg(test)]
extern crate self as zephyr_store;
#[cfg(test)]
#[path = "../tests/fixtures/mod.rs"]
#[expect(dead_code, reason = "the worker's tests use more of it")]
mod fixtures;

/// Installs `ring` as the cryptography provider of the process, if there is none yet. Every TLS
/// client and server needs a provider.
pub fn install_crypto_provider() {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::debug!("a provider of cryptography was installed before");
    }
}
