//! The marker `ended.json` in a job's folder. It records that the job has ended, and how long its
//! folder stays. The time of the job's end is the time that the store gives to this object. This
//! module removes nothing.

use std::time::{Duration, SystemTime};

use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use crate::storage::{
    Cause, JobStorage, Location, LocationError, StorageError, persist, remove_object,
};

/// The name of the marker in the job's folder.
pub const MARKER_NAME: &str = "ended.json";

/// The version that this program writes. It reads no other version.
const VERSION: u32 = 1;

/// How many bytes a marker may have. A marker has a few hundred bytes, so a larger object is not a
/// marker.
const MAX_MARKER_BYTES: u64 = 64 << 10;

/// The content of a marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    version: u32,
    job_uid: String,
    /// The namespace and the name of the job, for users who read the marker. Empty if they are not
    /// known.
    pub job: String,
    /// `Succeeded`, or the reason why the job failed.
    pub outcome: String,
    /// How many seconds the folder stays after the marker was written. If not set, the folder stays
    /// until somebody deletes it.
    pub ledger_ttl_seconds: Option<u64>,
}

/// A marker and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The content of the marker.
    pub marker: Marker,
    /// When the marker was written, by the store's clock.
    pub at: SystemTime,
}

/// Why it is not known whether a job has ended.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The address of the marker is too long.
    #[error("{0}")]
    Address(#[source] LocationError),
    /// A call to the store failed.
    #[error("{0}")]
    Store(#[source] StorageError),
    /// The object is not a marker of this job.
    #[error("{object}: it is not the marker of a job that has ended: {problem}")]
    Unreadable {
        /// The object.
        object: String,
        /// What is wrong with the object.
        problem: String,
    },
}

impl Marker {
    /// Makes a marker for the job of `storage`.
    pub fn new(
        storage: &JobStorage,
        job: String,
        outcome: String,
        ledger_ttl: Option<Duration>,
    ) -> Self {
        Self {
            version: VERSION,
            job_uid: storage.job().to_string(),
            job,
            outcome,
            ledger_ttl_seconds: ledger_ttl.map(|ttl| ttl.as_secs()),
        }
    }

    /// Returns how long the folder stays after its last sign of life. `None` if it stays until
    /// somebody deletes it.
    pub fn ledger_ttl(&self) -> Option<Duration> {
        self.ledger_ttl_seconds.map(Duration::from_secs)
    }
}

fn location(storage: &JobStorage) -> Result<Location, MarkerError> {
    storage.at(MARKER_NAME).map_err(MarkerError::Address)
}

/// Writes the marker. Replaces an existing one.
pub async fn mark(storage: &JobStorage, marker: &Marker) -> Result<(), MarkerError> {
    let location = location(storage)?;
    let bytes = serde_json::to_vec(marker).map_err(|error| {
        MarkerError::Store(StorageError::new(
            "writing",
            &location,
            Cause::Other(error.to_string()),
        ))
    })?;
    let stores = storage.stores();
    let store = stores.open(&location).map_err(MarkerError::Store)?.durable;
    let payload = PutPayload::from(bytes);
    let put = || store.put(location.path(), payload.clone());
    persist(stores, "writing", &location, put)
        .await
        .map(drop)
        .map_err(MarkerError::Store)
}

/// Removes the marker, because the job runs again. There may be none.
pub async fn unmark(storage: &JobStorage) -> Result<(), MarkerError> {
    let location = location(storage)?;
    let removed = remove_object(storage.stores(), &location).await;
    removed.map_err(MarkerError::Store)
}

/// Reads the marker. `None` if there is no marker.
pub async fn read_marker(storage: &JobStorage) -> Result<Option<Ended>, MarkerError> {
    let location = location(storage)?;
    let stores = storage.stores();
    let store = stores.open(&location).map_err(MarkerError::Store)?.objects;
    let unreadable = |problem: String| MarkerError::Unreadable {
        object: location.to_string(),
        problem,
    };
    let read = || async {
        let got = store.get(location.path()).await?;
        let meta = got.meta.clone();
        if meta.size > MAX_MARKER_BYTES {
            return Ok((meta, None));
        }
        Ok((meta, Some(got.bytes().await?)))
    };
    let (meta, bytes) = match persist(stores, "reading", &location, read).await {
        Ok(read) => read,
        Err(error) if error.cause == Cause::NotFound => return Ok(None),
        Err(error) => return Err(MarkerError::Store(error)),
    };
    let Some(bytes) = bytes else {
        return Err(unreadable(format!("it has {} bytes", meta.size)));
    };
    let marker: Marker =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if marker.version != VERSION {
        return Err(unreadable(format!(
            "it has version {}; this program reads version {VERSION}",
            marker.version
        )));
    }
    if marker.job_uid != storage.job().as_str() {
        return Err(unreadable("it names another job".to_owned()));
    }
    Ok(Some(Ended {
        marker,
        at: meta.last_modified.into(),
    }))
}
