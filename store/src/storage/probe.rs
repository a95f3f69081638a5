//! Tests the storage of a job before the job begins. The storage must be able to refuse to
//! overwrite an object.
//!
//! Epochs, the log and the plan rely on put-if-absent. If two writers can put the same object
//! successfully, the store is refused.

use std::time::{Duration, SystemTime};

use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::storage::{Cause, JobStorage, LocationError, StorageError, fetch, meta_of, persist};

/// The time between two signs of life of a coordinator. Each sign is one small write. A clean-up
/// does not remove a folder if the last sign is at most a quarter of an hour old, whatever the job
/// waits for.
pub const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_mins(2);

/// The content of the probe object.
const PROBE: &[u8] = b"zephyr probe\n";

/// The content of the probe object of a job that is suspended.
const SUSPENDED: &[u8] = b"zephyr probe: suspended\n";

/// What a coordinator says about its job when it writes the probe object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The coordinator is alive. It writes this sign again after [`SIGN_OF_LIFE_INTERVAL`].
    Alive,
    /// The job is suspended or will be in a moment. Nobody writes a sign before it is resumed.
    Suspended,
}

/// Why the storage cannot be used, or cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The probe's address is too long.
    #[error("spec.storage.uri: {0}")]
    Address(#[source] LocationError),
    /// A call to the store failed.
    #[error("spec.storage.uri: {0}")]
    Store(#[source] StorageError),
    /// The store overwrote an object that it should have kept.
    #[error(
        "spec.storage.uri: {store} lacks conditional writes (If-None-Match): an object was overwritten that was to be written only if absent; allowed are stores that have them"
    )]
    LacksConditionalWrites {
        /// The store, such as `s3://bucket`.
        store: String,
    },
}

impl ProbeError {
    /// Whether the same call may succeed later without any action by a person.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Address(_) | Self::LacksConditionalWrites { .. } => false,
        }
    }
}

/// Rewrites the probe object, so that its time shows that a coordinator is alive, and its content
/// whether the job is suspended.
pub async fn touch(storage: &JobStorage, sign: Sign) -> Result<(), ProbeError> {
    let content = match sign {
        Sign::Alive => PROBE,
        Sign::Suspended => SUSPENDED,
    };
    let location = storage.at("probe").map_err(ProbeError::Address)?;
    let stores = storage.stores();
    let store = stores.open(&location).map_err(ProbeError::Store)?.durable;
    let put = || store.put(location.path(), PutPayload::from_static(content));
    persist(stores, "writing", &location, put)
        .await
        .map(drop)
        .map_err(ProbeError::Store)
}

/// Returns when a coordinator of the job last wrote a sign of life, by the store's clock. `None` if
/// no coordinator ever wrote one.
pub async fn last_touched(storage: &JobStorage) -> Result<Option<SystemTime>, ProbeError> {
    let location = storage.at("probe").map_err(ProbeError::Address)?;
    let meta = meta_of(storage.stores(), &location).await;
    Ok(meta
        .map_err(ProbeError::Store)?
        .map(|meta| meta.last_modified.into()))
}

/// Returns whether the last sign of life says that the job is suspended.
pub async fn is_suspended(storage: &JobStorage) -> Result<bool, ProbeError> {
    let location = storage.at("probe").map_err(ProbeError::Address)?;
    let content = fetch(storage.stores(), &location).await;
    Ok(content.map_err(ProbeError::Store)? == SUSPENDED)
}

/// Writes a probe object into the job's folder twice. The second write must be refused, because it
/// is a put-if-absent. The object stays, and the next probe writes it again.
pub async fn probe(storage: &JobStorage) -> Result<(), ProbeError> {
    let location = storage.at("probe").map_err(ProbeError::Address)?;
    let stores = storage.stores();
    let store = stores.open(&location).map_err(ProbeError::Store)?.durable;
    touch(storage, Sign::Alive).await?;
    let second = || async {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        store
            .put_opts(
                location.path(),
                PutPayload::from_static(b"a second writer won\n"),
                options,
            )
            .await
    };
    match persist(stores, "writing", &location, second).await {
        Err(error) if error.cause == Cause::AlreadyExists => Ok(()),
        Ok(_)
        | Err(StorageError {
            cause: Cause::Configuration(_),
            ..
        }) => Err(ProbeError::LacksConditionalWrites {
            store: location.store_key(),
        }),
        Err(error) => Err(ProbeError::Store(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Stores;
    use zephyr_engine::id::JobUid;

    #[tokio::test]
    async fn a_store_with_conditional_writes_passes_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        for uri in [
            "s3://b/jobs".to_owned(),
            format!("file://{}", folder.path().display()),
        ] {
            let storage =
                JobStorage::new(Stores::in_memory(), &uri, JobUid::parse("u").unwrap()).unwrap();
            probe(&storage).await.unwrap();
            probe(&storage).await.unwrap();
        }
    }
}
