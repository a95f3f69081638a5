//! Cleans up after a job's end. Aborts uploads that were not completed, and releases the output
//! folder of a failed job. Removes intermediate data that is not needed, and marks the job as
//! ended. Then removes expired folders of other jobs. This job's own ledger is kept, because a
//! coordinator that is started again must find the result. This module decides nothing about the
//! job; failures of the clean-up are only logged.

use std::time::Duration;

use futures::StreamExt;
use tokio::time::timeout;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::{JobResult, OutputFile};
use zephyr_store::finalize::{self, give_up, throw_away_leftovers};
use zephyr_store::reclaim::{Marker, mark, sweep};
use zephyr_store::storage::remove_folder;

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

/// The message in status while the clean-up runs.
pub(super) const MESSAGE: &str = "removing intermediate data";

/// Releases the output's folder if the job has failed, and removes intermediate data that
/// `spec.storage.retain` does not keep. Data that cannot be removed in time is kept, and this is
/// logged.
///
/// `shards` is the number of output files, 0 if that is not known.
pub(super) async fn clean_up(
    job: &RunJob,
    result: &JobResult,
    uploads: &[OutputFile],
    shards: u32,
) {
    // This must happen while the job still holds the folder: after that, a later job may upload to
    // the folder.
    throw_away(job, shards).await;
    if let JobResult::Failed { .. } = result {
        let_go(job).await;
    }
    abort(job, uploads).await;
    if is_due(job.frozen.spec.storage.retain, result) {
        remove_data(job).await;
    }
    if mark_as_ended(job, result).await {
        sweep_others(job).await;
    }
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
    use object_store::PutPayload;
    use serde_json::json;
    use zephyr_crds::frozen::FrozenJob;
    use zephyr_engine::coordinator::FailureReason;
    use zephyr_engine::coordinator::record::FinalPlace;
    use zephyr_store::finalize::Finalized;
    use zephyr_store::reclaim::{Ended, read_marker};
    use zephyr_store::storage::{JobStorage, Location, Stores};

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
        clean_up(&job, &result, &[stands.clone(), left.clone()], 2).await;
        assert_eq!(finalize(&left).await, Finalized::Lost);
        assert_eq!(finalize(&stands).await, Finalized::Stands);
        let Ended { marker, .. } = read_marker(&job.storage).await.unwrap().unwrap();
        assert_eq!(
            (marker.job.as_str(), marker.outcome.as_str()),
            ("ns/name", "TaskFailed")
        );
        assert_eq!(marker.ledger_ttl(), Some(Duration::from_hours(168)));
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
        clean_up(&job, &result, &[], 1).await;
        let Ended { marker, .. } = read_marker(&job.storage).await.unwrap().unwrap();
        assert_eq!(
            (marker.outcome.as_str(), marker.ledger_ttl()),
            ("Succeeded", None)
        );
    }
}
