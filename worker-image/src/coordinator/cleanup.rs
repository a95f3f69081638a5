//! Cleans up after a job's end. Aborts uploads that were not completed, and releases the output
//! folder of a failed job. Removes intermediate data that is not needed, and marks the job as
//! ended. Then removes expired folders of other jobs. This job's own ledger is kept, because a
//! coordinator that is started again must find the result. This module decides nothing about the
//! job; failures of the clean-up are only logged.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{FilePlace, JobResult, OutputFile};
use zephyr_store::finalize::{self, give_up, throw_away_leftovers};
use zephyr_store::reclaim::{Marker, mark, sweep};
use zephyr_store::storage::{Location, StorageError, remove_folder, remove_object};

use crate::convert;
use crate::job::RunJob;

/// How long the removal of intermediate data may delay the result. For 100,000 objects it needs a
/// hundred requests.
const REMOVAL_TIMEOUT: Duration = Duration::from_mins(1);

/// How long aborting uploads may delay the result. Each upload needs one request, and these run in
/// parallel.
const UPLOADS_TIMEOUT: Duration = Duration::from_secs(20);

/// How many uploads are aborted at the same time. It is the same number as that of the
/// coordinator's other storage calls.
const UPLOADS_AT_ONCE: usize = 16;

/// How long the marker may delay the result. It is one small write.
const MARKER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the removal of other jobs' folders may delay the result. It is short, because this job
/// does not need that removal.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the removal of a cancelled job's files may delay the result. It is short, because the
/// operator waits for 4 minutes in all.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(20);

/// The message in status while the clean-up runs.
pub(super) const MESSAGE: &str = "cleaning up after the end";

/// Releases the output's folder if the job has failed, and removes intermediate data that
/// `spec.storage.retain` does not keep. Data that cannot be removed in time is kept, and this is
/// logged.
///
/// `unwanted` are the files of a cancelled job that does not keep them. `shards` is the number of
/// output files, 0 if that is not known.
pub(super) async fn clean_up(
    job: &RunJob,
    result: &JobResult,
    uploads: &[OutputFile],
    unwanted: Option<Unwanted>,
    shards: u32,
) -> Option<Removed> {
    // This must happen while the job still holds the folder: after that, a later job may upload to
    // the folder.
    throw_away(job, shards).await;
    abort(job, uploads).await;
    let removed = match unwanted {
        Some(unwanted) => Some(remove_output(job, unwanted).await),
        None => None,
    };
    if let JobResult::Failed { .. } = result {
        let_go(job).await;
    }
    if is_due(job.frozen.spec.storage.retain, result) {
        remove_data(job).await;
    }
    if mark_as_ended(job, result).await {
        sweep_others(job).await;
    }
    removed
}

/// The files of a cancelled job that does not keep its output.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unwanted {
    /// The complete files, according to the ledger or the store.
    pub(super) files: Vec<OutputFile>,
    /// Files that may have been completed while the job ended.
    pub(super) late: Vec<OutputFile>,
}

/// How many files of a cancelled job's output were removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Removed {
    files: usize,
    of: usize,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} complete files of the output were removed",
            self.files, self.of
        )
    }
}

/// Removes the complete files of the job, if its folder still belongs to it. The ledger names them.
async fn remove_output(job: &RunJob, unwanted: Unwanted) -> Removed {
    let (removed, of) = (AtomicUsize::new(0), AtomicUsize::new(unwanted.files.len()));
    let all = async {
        if let Err(error) = finalize::hold_output(&job.output()).await {
            tracing::warn!(%error, "the files of the output stay");
            return;
        }
        let complete = unwanted.files.iter().map(|file| (file, true));
        let late = unwanted.late.iter().map(|file| (file, false));
        let one = |(file, is_complete)| {
            let (removed, of) = (&removed, &of);
            async move {
                match remove_file(job, file, is_complete, of).await {
                    Ok(is_removed) => {
                        removed.fetch_add(usize::from(is_removed), Ordering::Relaxed);
                    }
                    Err(error) => tracing::warn!(%error, "a file of the output stays"),
                }
            }
        };
        let files = futures::stream::iter(complete.chain(late));
        files.for_each_concurrent(UPLOADS_AT_ONCE, one).await;
    };
    if timeout(OUTPUT_TIMEOUT, all).await.is_err() {
        tracing::warn!(?OUTPUT_TIMEOUT, "some files of the output stay");
    }
    let removed = Removed {
        files: removed.into_inner(),
        of: of.into_inner(),
    };
    tracing::info!(%removed, "the job was cancelled and does not keep its output");
    removed
}

/// Removes a file of the output. If it is not known to be complete, looks whether exactly this file
/// is there, and counts it in `of`: another file under its name is not this job's. Returns whether
/// it was removed.
async fn remove_file(
    job: &RunJob,
    file: &OutputFile,
    is_complete: bool,
    of: &AtomicUsize,
) -> Result<bool, StorageError> {
    let FilePlace::Final(place) = &file.place else {
        return Ok(false);
    };
    let location = match Location::parse(place.uri()) {
        Ok(location) => location,
        Err(error) => {
            tracing::warn!(uri = place.uri(), %error, "a file of the output stays");
            return Ok(false);
        }
    };
    if !is_complete {
        if !finalize::stands(&job.stores, &location, file).await? {
            return Ok(false);
        }
        of.fetch_add(1, Ordering::Relaxed);
    }
    remove_object(&job.stores, &location).await?;
    Ok(true)
}

/// Returns the number of output files. The result of a failed job does not contain this number, so
/// it is 0 then.
pub(super) fn files_of(result: &JobResult) -> u32 {
    match result {
        JobResult::Succeeded { files, .. } => u32::try_from(*files).unwrap_or(u32::MAX),
        JobResult::Failed { .. } => 0,
    }
}

/// Releases the output's folder, so that a later job may claim it.
async fn let_go(job: &RunJob) {
    match timeout(REMOVAL_TIMEOUT, give_up(&job.output())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the output's folder is still marked as in use");
        }
        Err(_) => {
            tracing::warn!(
                ?REMOVAL_TIMEOUT,
                "the output's folder is still marked as in use: the store took too long"
            );
        }
    }
}

/// Aborts the uploads of committed attempts that were not completed. A successful job has none.
async fn abort(job: &RunJob, uploads: &[OutputFile]) {
    let one = |file| async move {
        if let Err(error) = finalize::discard(&job.stores, file).await {
            tracing::warn!(%error, "an uncompleted upload stays");
        }
    };
    let all = futures::stream::iter(uploads).for_each_concurrent(UPLOADS_AT_ONCE, one);
    if timeout(UPLOADS_TIMEOUT, all).await.is_err() {
        tracing::warn!(?UPLOADS_TIMEOUT, "some uncompleted uploads stay");
    }
}

/// Removes uploads that killed attempts left under the output's names. No ledger lists these
/// uploads.
async fn throw_away(job: &RunJob, shards: u32) {
    let output = job.output();
    match timeout(UPLOADS_TIMEOUT, throw_away_leftovers(&output, shards)).await {
        Ok(Ok(0)) => {}
        Ok(Ok(uploads)) => tracing::info!(uploads, "uploads of killed attempts are aborted"),
        Ok(Err(error)) => tracing::warn!(%error, "uploads of killed attempts may stay"),
        Err(_) => tracing::warn!(?UPLOADS_TIMEOUT, "uploads of killed attempts may stay"),
    }
}

async fn remove_data(job: &RunJob) {
    let folder = match job.storage.at("data") {
        Ok(folder) => folder,
        Err(error) => {
            tracing::warn!(%error, "the intermediate data has no address and stays");
            return;
        }
    };
    match timeout(
        REMOVAL_TIMEOUT,
        remove_folder(job.storage.stores(), &folder),
    )
    .await
    {
        Ok(Ok(removed)) => {
            tracing::info!(%folder, removed, "the intermediate data is removed");
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "some of the intermediate data stays");
        }
        Err(_) => {
            tracing::warn!(%folder, ?REMOVAL_TIMEOUT, "some of the intermediate data stays: its removal took too long");
        }
    }
}

/// Writes the marker that the job has ended. The job's `ledgerTTL` counts from it. Returns whether
/// the marker was written.
async fn mark_as_ended(job: &RunJob, result: &JobResult) -> bool {
    let frozen = &job.frozen;
    let outcome = convert::report::end_reason(result).to_string();
    let ttl = frozen.spec.storage.ledger_ttl.as_ref();
    // Admission has checked that this is a duration. If it is not valid, the ledger is kept.
    let ttl = ttl.and_then(|ttl| ttl.parse().ok());
    let name = format!("{}/{}", frozen.namespace, frozen.name);
    let marker = Marker::new(&job.storage, name, outcome, ttl);
    match timeout(MARKER_TIMEOUT, mark(&job.storage, &marker)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the ledger is not marked as that of an ended job, and stays");
            false
        }
        Err(_) => {
            tracing::warn!(
                ?MARKER_TIMEOUT,
                "the ledger is not marked as that of an ended job, and stays"
            );
            false
        }
    }
}

async fn sweep_others(job: &RunJob) {
    match timeout(SWEEP_TIMEOUT, sweep(&job.storage)).await {
        Ok(Ok(swept)) => tracing::info!(?swept, "folders of other jobs were checked"),
        Ok(Err(error)) => tracing::info!(%error, "folders of other jobs were not checked"),
        Err(_) => tracing::info!(?SWEEP_TIMEOUT, "not all folders of other jobs were checked"),
    }
}

fn is_due(retain: Retain, result: &JobResult) -> bool {
    match (retain, result) {
        (Retain::Never, _) | (Retain::OnFailure, JobResult::Succeeded { .. }) => true,
        (Retain::Always, _) | (Retain::OnFailure, JobResult::Failed { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt as _, PutPayload};
    use serde_json::json;
    use zephyr_crds::frozen::FrozenJob;
    use zephyr_engine::coordinator::FailureReason;
    use zephyr_engine::coordinator::record::FinalPlace;
    use zephyr_engine::id::JobUid;
    use zephyr_store::finalize::Finalized;
    use zephyr_store::reclaim::{Ended, read_marker};
    use zephyr_store::storage::{JobStorage, Stores, size_of};

    use super::*;

    fn job(storage: &serde_json::Value) -> RunJob {
        let frozen = json!({
            "version": 1, "namespace": "ns", "name": "name", "generation": 1,
            "uid": "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7", "coordinatorAddress": "http://127.0.0.1:1",
            "spec": {
                "pipeline": {
                    "source": {"items": {"values": [1]}},
                    "sink": {"files": {"path": "s3://o/part-{shard}.jsonl"}},
                },
                "storage": storage,
                "workers": {"replicas": 1},
            },
        });
        let job = RunJob::new(FrozenJob::from_json(&frozen.to_string()).unwrap()).unwrap();
        let stores = Stores::in_memory();
        let uid = job.identity.job.clone();
        let storage = JobStorage::new(stores.clone(), "s3://b/jobs", uid).unwrap();
        RunJob {
            stores,
            storage,
            ..job
        }
    }

    /// Starts an upload of one byte, and does not complete it.
    async fn upload(job: &RunJob, uri: &str) -> OutputFile {
        let location = Location::parse(uri).unwrap();
        let store = job.stores.open(&location).unwrap().multipart.unwrap();
        let upload = store.create_multipart(location.path()).await.unwrap();
        let byte = PutPayload::from_static(b"x");
        let part = store.put_part(location.path(), &upload, 0, byte).await;
        let place = FinalPlace::Multipart {
            uri: uri.to_owned(),
            upload,
            parts: vec![part.unwrap().content_id],
        };
        OutputFile {
            rows: 1,
            bytes: 1,
            crc32c: crc32c::crc32c(b"x"),
            place: place.into(),
        }
    }

    #[tokio::test]
    async fn a_failed_job_aborts_its_uploads_and_keeps_its_files() {
        let job = job(&json!({"uri": "s3://b/jobs", "ledgerTTL": "168h"}));
        let stands = upload(&job, "s3://o/part-0.jsonl").await;
        let left = upload(&job, "s3://o/part-1.jsonl").await;
        let finalize = async |file| finalize::finalize(&job.stores, file).await.unwrap();
        assert_eq!(finalize(&stands).await, Finalized::Stands);
        let result = JobResult::Failed {
            reason: FailureReason::TaskFailed,
            message: "m".to_owned(),
        };
        let files = [stands.clone(), left.clone()];
        assert_eq!(clean_up(&job, &result, &files, None, 2).await, None);
        assert_eq!(finalize(&left).await, Finalized::Lost);
        assert_eq!(finalize(&stands).await, Finalized::Stands);
        let Ended { marker, .. } = read_marker(&job.storage).await.unwrap().unwrap();
        assert_eq!(
            (marker.job.as_str(), marker.outcome.as_str()),
            ("ns/name", "TaskFailed")
        );
        assert_eq!(marker.ledger_ttl(), Some(Duration::from_hours(168)));
    }

    fn unwanted(complete: &OutputFile) -> Unwanted {
        Unwanted {
            files: vec![complete.clone()],
            late: Vec::new(),
        }
    }

    #[tokio::test]
    async fn files_that_were_completed_at_the_last_moment_are_removed_too_and_counted() {
        let job = job(&json!({"uri": "s3://b/jobs"}));
        let mut watch = finalize::OwnerWatch::default();
        finalize::claim(&job.output(), &mut watch).await.unwrap();
        let late = upload(&job, "s3://o/part-0.jsonl").await;
        finalize::finalize(&job.stores, &late).await.unwrap();
        let not_completed = upload(&job, "s3://o/part-1.jsonl").await;
        let result = JobResult::Failed {
            reason: FailureReason::Cancelled,
            message: "m".to_owned(),
        };
        let uploads = [late.clone(), not_completed.clone()];
        let unwanted = Unwanted {
            files: Vec::new(),
            late: uploads.to_vec(),
        };
        // Another program wrote a file under the name of the second one.
        let other = Location::parse("s3://o/part-1.jsonl").unwrap();
        let store = job.stores.open(&other).unwrap().objects;
        let text = PutPayload::from_static(b"y");
        store.put(other.path(), text).await.unwrap();
        let removed = clean_up(&job, &result, &uploads, Some(unwanted), 2).await;
        assert_eq!(removed, Some(Removed { files: 1, of: 1 }));
        for (uri, size) in [
            ("s3://o/part-0.jsonl", None),
            ("s3://o/part-1.jsonl", Some(1)),
        ] {
            let location = Location::parse(uri).unwrap();
            let found = size_of(&job.stores, &location).await.unwrap();
            assert_eq!(found, size, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_cancelled_job_removes_its_complete_files_and_no_others_while_it_holds_the_folder() {
        let job = job(&json!({"uri": "s3://b/jobs"}));
        let mut watch = finalize::OwnerWatch::default();
        finalize::claim(&job.output(), &mut watch).await.unwrap();
        let complete = upload(&job, "s3://o/part-0.jsonl").await;
        finalize::finalize(&job.stores, &complete).await.unwrap();
        let foreign = Location::parse("s3://o/notes.txt").unwrap();
        let store = job.stores.open(&foreign).unwrap().objects;
        let text = PutPayload::from_static(b"x");
        store.put(foreign.path(), text).await.unwrap();
        let result = JobResult::Failed {
            reason: FailureReason::Cancelled,
            message: "m".to_owned(),
        };
        let removed = clean_up(&job, &result, &[], Some(unwanted(&complete)), 1).await;
        let words = removed.map(|removed| removed.to_string());
        let expected = "1 of 1 complete files of the output were removed";
        assert_eq!(words.as_deref(), Some(expected));
        let here = |uri| {
            let (stores, location) = (&job.stores, Location::parse(uri).unwrap());
            async move { size_of(stores, &location).await.unwrap() }
        };
        assert_eq!(here("s3://o/part-0.jsonl").await, None);
        assert_eq!(here("s3://o/notes.txt").await, Some(1));
        // The folder was released. A file under the same name may be another job's now.
        let other = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d8";
        let mut next = job.clone();
        next.identity.job = JobUid::parse(other).unwrap();
        next.frozen.name = "other".to_owned();
        next.storage =
            JobStorage::new(job.stores.clone(), "s3://b/jobs", next.identity.job.clone()).unwrap();
        remove_object(&job.stores, &foreign).await.unwrap();
        finalize::claim(&next.output(), &mut watch).await.unwrap();
        let theirs = upload(&next, "s3://o/part-0.jsonl").await;
        finalize::finalize(&job.stores, &theirs).await.unwrap();
        let removed = clean_up(&job, &result, &[], Some(unwanted(&complete)), 1).await;
        assert_eq!(removed, Some(Removed { files: 0, of: 1 }));
        assert_eq!(here("s3://o/part-0.jsonl").await, Some(1));
    }

    #[tokio::test]
    async fn a_ledger_without_a_time_to_live_is_also_marked() {
        let job = job(&json!({"uri": "s3://b/jobs"}));
        let result = JobResult::Succeeded {
            files: 1,
            rows: 1,
            bytes: 1,
            manifest: "s3://o/_SUCCESS.json".to_owned(),
        };
        clean_up(&job, &result, &[], None, 1).await;
        let Ended { marker, .. } = read_marker(&job.storage).await.unwrap().unwrap();
        assert_eq!(
            (marker.outcome.as_str(), marker.ledger_ttl()),
            ("Succeeded", None)
        );
    }
}
