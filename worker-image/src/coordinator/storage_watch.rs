//! Calls the store from time to time, so that an outage is reported even while only workers use the
//! store. This module also writes the object that shows that the coordinator is alive.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use zephyr_engine::id::Epoch;
use zephyr_store::storage::{SIGN_OF_LIFE_INTERVAL, fetch, touch};

use super::retry::Retries;
use crate::job::RunJob;

/// How much time passes between two calls. Each call is one small read, so this costs little even
/// with thousands of jobs.
const INTERVAL: Duration = Duration::from_secs(10);

/// Repeatedly rewrites an object in the job's folder, so that the object's time shows that this
/// coordinator is alive. A failed write is only logged, because the job does not depend on it.
pub(super) async fn show_signs_of_life(job: &RunJob) -> Infallible {
    loop {
        sleep(SIGN_OF_LIFE_INTERVAL).await;
        if let Err(error) = touch(&job.storage).await {
            tracing::info!(%error, "no sign of life this time");
        }
    }
}

/// Repeatedly reads this epoch's first object. A failure is shown in status until a read succeeds.
pub(super) async fn watch_storage(job: &RunJob, epoch: Epoch, retries: &Retries) {
    let opened = match job.storage.at(&format!("epochs/{epoch}/open")) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(%error, "the ledger has no address; an outage is reported only by other calls to the store");
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
