//! Calls the store from time to time, so that an outage is reported even while only workers use the
//! store. Changes nothing and stops nothing.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::sleep;
use zephyr_engine::id::Epoch;
use zephyr_store::storage::{SIGN_OF_LIFE_INTERVAL, fetch, touch};

use super::retry::Retries;
use crate::job::RunJob;

/// Time between two calls: one small read, which costs little even with thousands of jobs.
const INTERVAL: Duration = Duration::from_secs(10);

/// Repeatedly rewrites an object in the job's folder, so that the object's time shows that this
/// coordinator is alive. A failed write is only logged, because all calls that the job needs are
/// retried elsewhere.
pub(super) async fn show_signs_of_life(job: &RunJob) -> Infallible {
    loop {
        sleep(SIGN_OF_LIFE_INTERVAL).await;
        if let Err(error) = touch(&job.storage).await {
            tracing::info!(%error, "no sign of life this time");
        }
    }
}

/// Repeatedly reads this epoch's first object; a failure is shown until a read succeeds.
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
