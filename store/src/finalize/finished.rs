//! Reads the result of a job from its own `_SUCCESS.json`. A coordinator does this if its ledger
//! was removed. This module writes nothing.

use serde::Deserialize;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::id::JobUid;

use super::manifest_location;
use crate::storage::{Cause, StorageError, Stores, fetch};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    job_uid: String,
    totals: Totals,
}

#[derive(Deserialize)]
struct Totals {
    files: u64,
    rows: u64,
    bytes: u64,
}

/// Returns the result of a job that has finished its output. It is read from the manifest, which
/// the job wrote last. `None` if there is no manifest of this job.
pub async fn finished(
    stores: &Stores,
    sink_path: &str,
    job: &JobUid,
) -> Result<Option<JobResult>, StorageError> {
    let location = manifest_location(sink_path)?;
    let bytes = match fetch(stores, &location).await {
        Ok(bytes) => bytes,
        Err(error) if error.cause == Cause::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(Manifest { job_uid, totals }) = serde_json::from_slice(&bytes) else {
        return Ok(None);
    };
    Ok((job_uid == job.as_str()).then(|| JobResult::Succeeded {
        files: totals.files,
        rows: totals.rows,
        bytes: totals.bytes,
        manifest: location.to_string(),
    }))
}
