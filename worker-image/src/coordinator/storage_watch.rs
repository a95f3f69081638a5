//! Asks the store now and then, so that one that does not answer is told even while nobody but
//! workers calls it. Changes nothing and stops nobody.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use zephyr_engine::id::Epoch;
use zephyr_store::storage::{SIGN_OF_LIFE_INTERVAL, fetch, touch};

use super::retry::Retries;
use crate::job::RunJob;

/// Time between two questions: one small read, which costs little even for thousands of jobs.
const INTERVAL: Duration = Duration::from_secs(10);

/// Shows again and again, by the time of an object in the job's folder, that this coordinator is
/// alive. What cannot be written is only mentioned: whatever the job needs of the store is tried
/// again elsewhere.
pub(super) async fn show_signs_of_life(job: &RunJob) -> Infallible {
    loop {
        sleep(SIGN_OF_LIFE_INTERVAL).await;
        if let Err(error) = touch(&job.storage).await {
            tracing::info!(%error, "no sign of life this time");
        }
    }
}

/// Reads this epoch's first object again and again; a failure is shown until a read succeeds.
pub(super) async fn watch_storage(job: &RunJob, epoch: Epoch, retries: &Retries) {
    let opened = match job.storage.at(&format!("epochs/{epoch}/open")) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(%error, "the ledger has no address; an outage is told only by what calls the store");
            return;
        }
    };
    loop {
        sleep(INTERVAL).await;
        let read = || fetch(job.storage.stores(), &opened);
        retries
            .for_ever("read the ledger under spec.storage.uri", read)
            .await;
    }
}
