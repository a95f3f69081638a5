//! Simulated workers: they speak the workers' protocol over real connections with the real client,
//! and run nothing. Thousands of them fit on one machine together with one real coordinator
//! process, which cannot distinguish them from others. Judges nothing.
//!
//! The job has two stages. The first has the requested number of tasks; their outputs are shuffle
//! files that no task reads. The second has one task, which no simulated worker ever finishes, so
//! the job does not end while it is observed.

#![expect(
    clippy::unwrap_used,
    reason = "it is compiled into tests and measurements only"
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

/// Nothing takes this long; a longer wait means that something hangs.
const TEST_TIMEOUT: Duration = Duration::from_mins(3);
/// The polling interval.
const GLANCE: Duration = Duration::from_millis(20);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < TEST_TIMEOUT, "waited in vain for {what}");
        tokio::time::sleep(GLANCE).await;
    }
}
