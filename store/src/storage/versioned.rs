//! Reads, replaces and removes small objects that several processes read, and that only one process
//! at a time may change. An object is read with its version, and is replaced only if it is
//! unchanged since then. This module does not decide which process may change an object.

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::storage::read::ended_early;
use crate::storage::{Cause, Location, Scheme, StorageError, Stores, persist};

/// An object and the version that identifies it.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// The whole content of the object.
    pub bytes: Bytes,
    version: UpdateVersion,
}

/// The result of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The new bytes are stored.
    Done,
    /// The object is missing or differs from the one that was read. Nothing was written.
    Changed,
}

/// Reads a whole object. `None` if there is no object. Fails with `Cause::Other` if it has more
/// than `bytes_max` bytes.
pub async fn read_versioned(
    stores: &Stores,
    location: &Location,
    bytes_max: u64,
) -> Result<Option<Versioned>, StorageError> {
    let store = stores.open(location)?.objects;
    let read = persist(stores, "reading", location, || async {
        let answer = store.get(location.path()).await?;
        let size = answer.meta.size;
        if size > bytes_max {
            return Ok(Err(size));
        }
        let version = UpdateVersion {
            e_tag: answer.meta.e_tag.clone(),
            version: answer.meta.version.clone(),
        };
        let bytes = answer.bytes().await?;
        if bytes.len() as u64 == size {
            Ok(Ok(Versioned { bytes, version }))
        } else {
            Err(ended_early())
        }
    });
    match read.await {
        Ok(Ok(found)) => Ok(Some(found)),
        Ok(Err(size)) => {
            let cause = Cause::Other(format!(
                "it has {size} bytes, and at most {bytes_max} are read of such an object"
            ));
            Err(StorageError::new("reading", location, cause))
        }
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts `bytes` in place of `found`, but only if `found` is unchanged. A local disk has no such
/// write. There the object is read once more directly before it is overwritten. If another process
/// writes between these two steps, its change is lost.
pub async fn replace(
    stores: &Stores,
    location: &Location,
    found: &Versioned,
    bytes: Bytes,
) -> Result<Replaced, StorageError> {
    let store = stores.open(location)?.durable;
    if has_conditional_writes(location, found) {
        let put = persist(stores, "writing", location, || {
            let options = PutOptions {
                mode: PutMode::Update(found.version.clone()),
                ..PutOptions::default()
            };
            store.put_opts(location.path(), PutPayload::from(bytes.clone()), options)
        });
        return match put.await {
            Ok(_) => Ok(Replaced::Done),
            Err(StorageError {
                cause: Cause::Changed | Cause::NotFound | Cause::AlreadyExists,
                ..
            }) => {
                // The first try may have succeeded although its answer was lost.
                let now = read_versioned(stores, location, bytes.len() as u64).await;
                let is_mine = matches!(now, Ok(Some(now)) if now.bytes == bytes);
                Ok(if is_mine {
                    Replaced::Done
                } else {
                    Replaced::Changed
                })
            }
            Err(error) => Err(error),
        };
    }
    match read_versioned(stores, location, found.bytes.len() as u64).await {
        Ok(Some(now)) if now.bytes == found.bytes => {}
        Err(error) if error.is_transient() => return Err(error),
        Ok(_) | Err(_) => return Ok(Replaced::Changed),
    }
    persist(stores, "writing", location, || {
        store.put(location.path(), PutPayload::from(bytes.clone()))
    })
    .await
    .map(|_| Replaced::Done)
}

fn has_conditional_writes(location: &Location, found: &Versioned) -> bool {
    match location.scheme() {
        Scheme::S3 | Scheme::Az => found.version.e_tag.is_some(),
        Scheme::Gs => found.version.version.is_some(),
        Scheme::File => false,
    }
}

/// Removes an object. A missing object counts as removed.
pub async fn remove_object(stores: &Stores, location: &Location) -> Result<(), StorageError> {
    let store = stores.open(location)?.objects;
    let removed = persist(stores, "removing", location, || {
        store.delete(location.path())
    });
    match removed.await {
        Err(error) if error.cause != Cause::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(stores: &Stores, location: &Location, text: &'static str) {
        let store = stores.open(location).unwrap().objects;
        let payload = PutPayload::from_static(text.as_bytes());
        store.put(location.path(), payload).await.unwrap();
    }

    #[tokio::test]
    async fn an_object_is_replaced_only_if_it_is_unchanged_since_it_was_read() {
        let local = tempfile::tempdir().unwrap();
        for uri in [
            "s3://b/x".to_owned(),
            format!("file://{}/x", local.path().display()),
        ] {
            let stores = Stores::in_memory();
            let at = Location::parse(&uri).unwrap();
            let read = async || read_versioned(&stores, &at, 100).await.unwrap();
            let text = async || read().await.map(|found| found.bytes);
            assert_eq!(text().await, None);
            remove_object(&stores, &at).await.unwrap();

            put(&stores, &at, "first").await;
            let first = read().await.unwrap();
            let next = |text: &'static str| Bytes::from_static(text.as_bytes());
            let done = replace(&stores, &at, &first, next("second")).await.unwrap();
            assert_eq!(done, Replaced::Done);
            assert_eq!(text().await.unwrap(), "second");
            // The same call is repeated, as after a lost answer.
            let again = replace(&stores, &at, &first, next("second")).await.unwrap();
            assert!(again == Replaced::Done || uri.starts_with("file"));
            let late = replace(&stores, &at, &first, next("third")).await.unwrap();
            assert_eq!(late, Replaced::Changed);
            assert_eq!(text().await.unwrap(), "second");

            remove_object(&stores, &at).await.unwrap();
            let gone = replace(&stores, &at, &first, next("third")).await.unwrap();
            assert_eq!(gone, Replaced::Changed);
            assert_eq!(text().await, None);
        }
    }

    #[tokio::test]
    async fn an_object_that_is_too_large_to_be_read_is_reported_with_its_size() {
        let stores = Stores::in_memory();
        let at = Location::parse("s3://b/x").unwrap();
        put(&stores, &at, "12345").await;
        let error = read_versioned(&stores, &at, 4).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "reading s3://b/x: it has 5 bytes, and at most 4 are read of such an object"
        );
    }
}
