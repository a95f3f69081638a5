//! Carries out the restart of a failed job: the ledger says that the job runs again, before
//! anything else is done. Decides nothing about tasks; the ledger is replayed with this record.

use tokio::sync::watch;
use zephyr_crds::frozen::FrozenRestart;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{JobResult, LogRecord, Restart, restart_of, result_of};
use zephyr_engine::id::Epoch;
use zephyr_store::ledger::TakeOver;
use zephyr_store::reclaim::unmark;

use super::{PlanningError, append};
use crate::coordinator::retry::Backoff;
use crate::coordinator::status::{Status, show};
use crate::job::RunJob;

/// Records the restart for which this generation or an earlier one began, unless an earlier
/// coordinator has recorded it.
pub(super) async fn record(
    job: &RunJob,
    taken: &mut TakeOver,
    status: &watch::Sender<Status>,
) -> Result<(), PlanningError> {
    let spec = &job.frozen.spec;
    let wanted = job.frozen.restart.as_ref();
    let Some(restart) = due(wanted, spec.storage.retain, &taken.records) else {
        return Ok(());
    };
    tracing::info!(restart.token, "the job is restarted");
    let record = LogRecord::Restarted(restart);
    append(job, &mut taken.ledger, record.clone(), taken.epoch, status).await?;
    taken.records.push(record);
    Ok(())
}

/// Returns the restart that has to be recorded. A job that has succeeded is not run again. Neither
/// is one whose intermediate data was removed. Pure.
fn due(wanted: Option<&FrozenRestart>, retain: Retain, records: &[LogRecord]) -> Option<Restart> {
    let wanted = wanted?;
    let is_recorded = restart_of(records).is_some_and(|last| last.generation >= wanted.generation);
    let has_succeeded = matches!(result_of(records), Some(JobResult::Succeeded { .. }));
    let has_data = retain != Retain::Never;
    (!is_recorded && !has_succeeded && has_data).then(|| Restart {
        token: wanted.token.clone(),
        generation: wanted.generation,
    })
}

/// Whether the job was restarted, and has not ended since.
pub(super) fn is_latest(records: &[LogRecord]) -> bool {
    result_of(records).is_none() && restart_of(records).is_some()
}

/// Removes the marker of the job's end. Otherwise another job could remove the folder while this
/// job runs. While this waits for storage, status says so.
pub(super) async fn unmark_ended(job: &RunJob, status: &watch::Sender<Status>, epoch: Epoch) {
    let mut backoff = Backoff::new(job.stores.chance());
    while let Err(error) = unmark(&job.storage).await {
        let sentence = format!("spec.storage.uri: {error}");
        let waiting = Status {
            epoch,
            ..Status::storage_unavailable(&sentence)
        };
        show(status, waiting);
        backoff.wait().await;
    }
}
