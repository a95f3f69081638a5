//! Finds out whether the folder of the ledger belongs to this job. A job that continues an exported
//! job becomes the owner of its folder here, by one conditional write: of several jobs that name
//! the same archive only one gets the folder, and the exported job cannot run any more. This module
//! opens no epoch.

use std::sync::Arc;

use zephyr_crds::life::RestoreFrom;
use zephyr_engine::id::Epoch;
use zephyr_store::export::{Head, archive_object, digest, fetch_archive, read};
use zephyr_store::ledger::{
    LedgerError, Move, Owner, PlanFile, inspect, load_plan, newest_epoch, put_move, read_moves,
};

use super::{NoPlan, ledger_error, loaded};
use crate::coordinator::retry::Judge;
use crate::job::RunJob;

const DIGEST: &str = "spec.restoreFrom.digest";

/// What the moves of the folder say about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// The folder belongs to the job, after owners that used this many generation numbers.
    Own(u32),
    /// The folder belongs to this other job now.
    MovedTo(Owner),
    /// The folder belongs to the job of the archive, or to another job that took it over.
    Import,
}

/// Makes sure that the folder belongs to this job. Returns how many generation numbers earlier
/// owners have used.
///
/// # Errors
/// The folder belongs to another job, or this job cannot continue the exported one.
pub(super) async fn own(job: &RunJob) -> Result<u32, NoPlan> {
    let moves = read_moves(&job.storage).await.map_err(|e| failed(job, e))?;
    let restore = job.frozen.spec.restore_from.as_ref();
    let claim = claim(
        job.storage.job().as_str(),
        job.identity.job.as_str(),
        &moves,
    );
    match (claim, restore) {
        (Claim::Own(generations), _) => Ok(generations),
        (Claim::Import, Some(from)) => import(job, from, &moves).await,
        (Claim::MovedTo(owner), _) => refused(job, moved_away(&owner)).await,
        (Claim::Import, None) => {
            let message = "spec.storage.uri: the folder of this job belongs to another job";
            refused(job, message.to_owned()).await
        }
    }
}

/// Decides whether a job owns a folder. Pure.
fn claim(folder: &str, job: &str, moves: &[Move]) -> Claim {
    let last = moves.last();
    let owner = last.map_or(folder, |last| last.to.uid.as_str());
    if owner == job {
        return Claim::Own(last.map_or(0, |last| last.generations));
    }
    let was_here = folder == job || moves.iter().any(|one| one.to.uid == job);
    match last {
        Some(last) if was_here => Claim::MovedTo(last.to.clone()),
        Some(_) | None => Claim::Import,
    }
}

/// Becomes the owner of the folder of an exported job.
async fn import(job: &RunJob, from: &RestoreFrom, moves: &[Move]) -> Result<u32, NoPlan> {
    let head = match archive(job, from).await? {
        Ok(head) => head,
        Err(problem) => return refused(job, problem).await,
    };
    let (epoch, records) = inspect(&job.storage).await.map_err(|e| failed(job, e))?;
    let plan = load_plan(&job.storage, true).await;
    let plan = plan.map_err(|error| failed(job, error))?;
    if let Err(problem) = check(&head, moves, (epoch, records.len()), plan.as_ref()) {
        return refused(job, problem).await;
    }
    if let Some(Err(NoPlan::Failed(problem))) = plan.map(|plan| loaded(job, plan)) {
        return refused(job, problem).await;
    }
    let to = Owner {
        uid: job.identity.job.to_string(),
        namespace: job.frozen.namespace.clone(),
        name: job.frozen.name.clone(),
    };
    let wanted = Move::new(&job.storage, to, from.digest.clone(), head.generations);
    let stored = put_move(&job.storage, head.moves, wanted.clone()).await;
    let stored = stored.map_err(|error| failed(job, error))?;
    if stored != wanted {
        return refused(job, taken_before(&stored.to)).await;
    }
    tracing::info!(
        archive = from.digest,
        from = head.owner.uid,
        "the exported job is continued"
    );
    Ok(stored.generations)
}

/// Reads the archive that the job names. The inner error says why it cannot be used.
async fn archive(job: &RunJob, from: &RestoreFrom) -> Result<Result<Head, String>, NoPlan> {
    let location =
        archive_object(&job.storage, &from.digest).map_err(|error| failed(job, error))?;
    let found = fetch_archive(&job.storage, &location).await;
    let found = found.map_err(|error| failed(job, LedgerError::from_storage(error)))?;
    let Some(found) = found else {
        return Ok(Err(format!(
            "{DIGEST}: there is no archive of this digest (got {}); {location} must exist, which `kubectl zephyr export` writes",
            from.digest
        )));
    };
    let damaged = |problem: &str| {
        format!("{DIGEST}: {location} cannot be used: {problem}; export the job again")
    };
    let bytes = match found {
        Ok(bytes) => bytes,
        Err(problem) => return Ok(Err(damaged(&problem))),
    };
    let own = digest(&bytes);
    if own != from.digest {
        return Ok(Err(damaged(&format!("its digest is {own}: it is damaged"))));
    }
    let read = read(&bytes).map_err(|problem| damaged(&problem));
    Ok(read.and_then(|export| {
        let is_own = export.head.job == job.storage.job().as_str();
        is_own
            .then_some(export.head)
            .ok_or_else(|| damaged("it belongs to another folder"))
    }))
}

/// Checks that the exported job is as it was when it was exported. Pure.
fn check(
    head: &Head,
    moves: &[Move],
    (epoch, records): (Epoch, usize),
    plan: Option<&PlanFile>,
) -> Result<(), String> {
    if let Some(last) = moves.get(head.moves as usize..).and_then(<[Move]>::last) {
        return Err(taken_before(&last.to));
    }
    let Owner {
        namespace, name, ..
    } = &head.owner;
    if (epoch.0, records as u64) != (head.epoch, head.records)
        || moves.len() as u64 != u64::from(head.moves)
    {
        return Err(format!(
            "{DIGEST}: job {namespace}/{name} has run since it was exported (got epoch {epoch} with {records} records); the archive has epoch {} with {} records: suspend the job and export it again",
            head.epoch, head.records
        ));
    }
    if plan.is_some_and(|plan| plan.digest != head.plan_digest) {
        return Err(format!(
            "{DIGEST}: job {namespace}/{name} has got another plan since it was exported; export it again"
        ));
    }
    Ok(())
}

fn taken_before(owner: &Owner) -> String {
    format!(
        "spec.restoreFrom: the exported job was taken over before (got {owner}); an archive is imported once"
    )
}

fn moved_away(owner: &Owner) -> String {
    format!(
        "spec.storage.uri: another job has taken over the work of this job (got {owner}, which names it in spec.restoreFrom); continue that job, or create a new one"
    )
}

/// The error of a job that may not use the folder.
async fn refused<T>(job: &RunJob, message: String) -> Result<T, NoPlan> {
    let newest = newest_epoch(&job.storage).await;
    let newest = newest.map_err(|error| failed(job, error))?;
    // The operator accepts a result only with an epoch. This one is not less than any that the job
    // has reported.
    let epoch = newest.max(Epoch(1));
    Err(NoPlan::Refused { epoch, message })
}

fn failed(job: &RunJob, error: LedgerError) -> NoPlan {
    let field = |error: &dyn std::fmt::Display| format!("spec.storage.uri: {error}");
    ledger_error(Judge::of(job), error, None, field)
}

/// The job with the generations of earlier owners counted: the ledger counts the restarts of a job
/// by its generations, and a job that continues another one begins with generation 1.
pub(super) fn counted_on(job: &Arc<RunJob>, generations: u32) -> Arc<RunJob> {
    if generations == 0 {
        return Arc::clone(job);
    }
    let mut counted = RunJob::clone(job);
    let frozen = &mut counted.frozen;
    frozen.generation = frozen.generation.saturating_add(generations);
    if let Some(restart) = &mut frozen.restart {
        restart.generation = restart.generation.saturating_add(generations);
    }
    Arc::new(counted)
}
