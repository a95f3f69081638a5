//! Carries out the restart of a failed job: the ledger says that the job runs again, before
//! anything else is done. Checks that the data of complete tasks is still there. Decides nothing
//! about tasks; the ledger is replayed with this record.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use zephyr_crds::frozen::FrozenRestart;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{JobResult, LogRecord, Restart, restart_of, result_of};
use zephyr_engine::id::{Epoch, StageId};
use zephyr_engine::plan::{Plan, Stage};
use zephyr_store::ledger::TakeOver;
use zephyr_store::reclaim::unmark;
use zephyr_store::storage::size_of;

use super::{NoPlan, PlanningError, append};
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

/// Checks that the lists of the finished stages exist that other stages still read. Between the end
/// of a job and its restart, a rule of the bucket or an interrupted removal can take data away and
/// leave the ledger.
pub(super) async fn check_data(
    job: &RunJob,
    plan: &Plan,
    records: &[LogRecord],
) -> Result<(), NoPlan> {
    for path in lists_in_use(plan, records) {
        let unusable = |problem: String| NoPlan::Failed(format!("spec.storage.uri: {problem}"));
        let location = job.storage.at(path);
        let location = location.map_err(|error| unusable(error.to_string()))?;
        let size = size_of(&job.stores, &location).await;
        if size
            .map_err(|error| NoPlan::Wait(format!("spec.storage.uri: {error}")))?
            .is_none()
        {
            let folder = job.storage.root();
            return Err(NoPlan::Lost(format!(
                "spec.storage.uri: data of complete tasks was removed after the job had ended (there is no {location}); create a new job, or remove {folder} and restart the job: then all its tasks run again"
            )));
        }
    }
    Ok(())
}

/// The lists of finished stages that a stage without its own list reads. Pure.
fn lists_in_use<'a>(plan: &Plan, records: &'a [LogRecord]) -> BTreeSet<&'a str> {
    let list = |record: &'a LogRecord| match record {
        LogRecord::StageFinished { stage, outputs } => Some((*stage, outputs.as_str())),
        LogRecord::Done { .. }
        | LogRecord::Failed { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::Finalized { .. }
        | LogRecord::Result(_)
        | LogRecord::Restarted(_) => None,
    };
    let lists: BTreeMap<StageId, &str> = records.iter().filter_map(list).collect();
    let open = plan
        .stages
        .iter()
        .filter(|stage| !lists.contains_key(&stage.id));
    let read = open.flat_map(Stage::reads);
    read.filter_map(|stage| lists.get(&stage).copied())
        .collect()
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
