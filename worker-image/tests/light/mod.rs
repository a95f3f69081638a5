//! Light workers: they speak the workers' protocol over real connections with the real client, and
//! run nothing. With one real coordinator process, which cannot tell them from others, thousands of
//! them fit on one machine. Judges nothing.
//!
//! The job they work on has one stage of as many tasks as wanted, whose outputs are shuffle files
//! that nobody reads, and a second stage of one task, which no light worker ever finishes: the job
//! does not end under those who look at it.

#![expect(
    clippy::unwrap_used,
    reason = "only tests and measurements are made of it"
)]

pub(crate) mod bucket;
mod coordinator;
mod dialogue;
mod fleet;
pub(crate) mod slope;
mod worker;

use std::time::{Duration, Instant};

pub(crate) use coordinator::Coordinator;
pub(crate) use dialogue::{Dialogue, Link, task_attempt_of};
pub(crate) use fleet::Fleet;
pub(crate) use worker::Work;

/// Nothing that is waited for takes this long; who waits longer has found a hang.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often is looked.
const GLANCE: Duration = Duration::from_millis(20);

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(GLANCE).await;
    }
}
