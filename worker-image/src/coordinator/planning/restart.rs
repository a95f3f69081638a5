//! Carries out the restart of a failed job: before anything else is done, it records in the ledger
//! that the job runs again. Checks that the data of complete tasks is still there. Decides nothing
//! about tasks; the ledger is replayed with this record.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use zephyr_crds::frozen::FrozenRestart;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{JobResult, LogRecord, Restart, restart_of, result_of};
use zephyr_engine::id::{Epoch, ShardId, StageId};
use zephyr_engine::plan::{Plan, Stage};
use zephyr_store::ledger::TakeOver;
use zephyr_store::reclaim::unmark;
use zephyr_store::storage::size_of;

use super::{NoPlan, PlanningError, append};
use crate::coordinator::retry::Backoff;
use crate::coordinator::status::{Status, show};
use crate::job::RunJob;

/// Records the restart for which this generation or an earlier one began, unless an earlier
/// coordinator has recorded it. Fails if a later restart is recorded.
pub(super) async fn record(
    job: &RunJob,
    taken: &mut TakeOver,
    status: &watch::Sender<Status>,
) -> Result<(), PlanningError> {
    let recorded = restart_of(&taken.records).map(|restart| restart.generation);
    check_is_latest(job, recorded)?;
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

/// Fails if a later generation has begun because of a restart. The pod of a lost node can come back
/// and run this coordinator again. It must record nothing, because its pipeline may be an older
/// one.
pub(super) fn check_is_latest(job: &RunJob, restarted: Option<u32>) -> Result<(), PlanningError> {
    let own = job.frozen.generation;
    match restarted {
        Some(restarted) if restarted > own => Err(PlanningError::Over { own, restarted }),
        Some(_) | None => Ok(()),
    }
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

/// Checks that the lists of outputs exist that open stages still read. Between the end of a job and
/// its restart, a rule of the bucket or an interrupted removal can take data away and leave the
/// ledger.
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

/// The lists of the outputs of finished stages, as far as stages with open tasks read them. Pure.
fn lists_in_use<'a>(plan: &Plan, records: &'a [LogRecord]) -> BTreeSet<&'a str> {
    let mut lists: BTreeMap<StageId, &str> = BTreeMap::new();
    let mut complete: BTreeMap<StageId, BTreeSet<ShardId>> = BTreeMap::new();
    for record in records {
        match record {
            LogRecord::StageFinished { stage, outputs } => {
                lists.insert(*stage, outputs);
            }
            LogRecord::Done { task, .. } => {
                let stage = complete.entry(task.task.stage).or_default();
                stage.insert(task.task.shard);
            }
            LogRecord::Revoked { task } => {
                let stage = complete.entry(task.task.stage).or_default();
                stage.remove(&task.task.shard);
            }
            LogRecord::Failed { .. }
            | LogRecord::Finalized { .. }
            | LogRecord::Result(_)
            | LogRecord::Restarted(_) => {}
        }
    }
    let done = |stage: &Stage| complete.get(&stage.id).map_or(0, BTreeSet::len);
    let open = plan
        .stages
        .iter()
        .filter(|stage| done(stage) < stage.shards as usize);
    let read = open.flat_map(Stage::reads);
    read.filter_map(|stage| lists.get(&stage).copied())
        .filter(|list| !list.is_empty())
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
