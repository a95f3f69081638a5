//! Calls the store from time to time, so that an outage is reported even while only workers use the
//! store. This module also writes the object that shows that the coordinator is alive.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use zephyr_engine::coordinator::Event;
use zephyr_engine::id::Epoch;
use zephyr_store::storage::{SIGN_OF_LIFE_INTERVAL, Sign, fetch, touch};

use super::retry::Retries;
use super::sessions::Input;
use crate::job::RunJob;

/// How much time passes between two calls. Each call is one small read, so this costs little even
/// with thousands of jobs.
const INTERVAL: Duration = Duration::from_secs(10);

/// Repeatedly rewrites an object in the job's folder, so that the object's time shows that this
/// coordinator is alive. A failed write is only logged, because the job does not depend on it.
pub(super) async fn show_signs_of_life(job: &RunJob) -> Infallible {
    loop {
        sleep(SIGN_OF_LIFE_INTERVAL).await;
        if let Err(error) = touch(&job.storage, Sign::Alive).await {
            tracing::info!(%error, "no sign of life this time");
        }
    }
}

/// Like [`show_signs_of_life`], for a job that runs. The operator may say that the job is to be
/// suspended, or that it is no longer to be suspended. This function first writes that into the
/// sign of life, and then sends the event to `inputs`. So the pods of a suspended job are not
/// deleted before its storage shows that the job keeps its folder. The operator limits how long
/// this may take.
pub(super) async fn show_signs_and_drain(
    job: &RunJob,
    mut drains: watch::Receiver<bool>,
    inputs: mpsc::WeakSender<Input>,
) {
    let mut said = false;
    loop {
        tokio::select! {
            () = sleep(SIGN_OF_LIFE_INTERVAL) => {}
            changed = drains.changed() => if changed.is_err() {
                return;
            },
        }
        let is_now = say_whether_suspended(job, &mut drains).await;
        let event = Event::Drain { drains: is_now };
        if said != is_now
            && let Some(inputs) = inputs.upgrade()
            && inputs.send(Input::Happened(event)).await.is_err()
        {
            return;
        }
        said = is_now;
    }
}

/// Writes a sign of life until the store accepts it. Returns what it says.
async fn say_whether_suspended(job: &RunJob, drains: &mut watch::Receiver<bool>) -> bool {
    loop {
        let is_now = *drains.borrow_and_update();
        let sign = if is_now { Sign::Suspended } else { Sign::Alive };
        match touch(&job.storage, sign).await {
            Ok(()) => return is_now,
            Err(error) => tracing::info!(%error, "no sign of life this time"),
        }
        tokio::select! {
            () = sleep(INTERVAL) => {}
            changed = drains.changed() => if changed.is_err() {
                return is_now;
            },
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
