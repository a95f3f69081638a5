//! Turns uploaded bytes into a file under its final name, or deletes them. This module does not
//! decide to which attempt an upload belongs.

use std::io;
use std::sync::Arc;

use object_store::multipart::{MultipartStore, PartId};

use crate::storage::{Cause, Location, StorageError, Stores, UploadPlace, empty_file, persist};

/// The result of completing an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The file exists under its name.
    Stands,
    /// There is no such upload, because it was completed earlier or aborted.
    Gone,
}

/// Completes an upload to `location`.
pub async fn complete(
    stores: &Stores,
    location: &Location,
    place: &UploadPlace,
) -> Result<Completed, StorageError> {
    let done = match place {
        UploadPlace::Multipart { upload, parts } if parts.is_empty() => {
            let store = multipart(stores, location)?;
            empty_file::put(stores, location, &*store, upload).await
        }
        UploadPlace::Multipart { upload, parts } => {
            let store = multipart(stores, location)?;
            let parts: Vec<PartId> = parts
                .iter()
                .map(|part| PartId {
                    content_id: part.clone(),
                })
                .collect();
            persist(stores, "completing the upload of", location, || {
                store.complete_multipart(location.path(), upload, parts.clone())
            })
            .await
            .map(|_| ())
        }
        UploadPlace::Staged(staged) => {
            on_disk(location, staged, |from, to| {
                std::fs::rename(from, to)?;
                // The rename survives a loss of power only if the folder is synced too.
                to.parent()
                    .map_or(Ok(()), |folder| std::fs::File::open(folder)?.sync_all())
            })
            .await
        }
    };
    outcome(done)
}

/// Aborts an upload to `location`.
pub async fn abandon(
    stores: &Stores,
    location: &Location,
    place: &UploadPlace,
) -> Result<(), StorageError> {
    let done = match place {
        UploadPlace::Multipart { parts, .. } if parts.is_empty() => Ok(()),
        UploadPlace::Multipart { upload, .. } => {
            let store = multipart(stores, location)?;
            persist(stores, "aborting the upload of", location, || {
                store.abort_multipart(location.path(), upload)
            })
            .await
        }
        UploadPlace::Staged(staged) => {
            on_disk(staged, staged, |from, _| std::fs::remove_file(from)).await
        }
    };
    outcome(done).map(|_| ())
}

fn outcome(done: Result<(), StorageError>) -> Result<Completed, StorageError> {
    match done {
        Ok(()) => Ok(Completed::Stands),
        Err(StorageError {
            cause: Cause::NoSuchUpload | Cause::NotFound,
            ..
        }) => Ok(Completed::Gone),
        Err(error) => Err(error),
    }
}

fn multipart(
    stores: &Stores,
    location: &Location,
) -> Result<Arc<dyn MultipartStore>, StorageError> {
    let none = || {
        StorageError::new(
            "completing the upload of",
            location,
            Cause::Configuration("this store has no multipart uploads".to_owned()),
        )
    };
    stores.open(location)?.multipart.ok_or_else(none)
}

async fn on_disk<F>(location: &Location, staged: &Location, act: F) -> Result<(), StorageError>
where
    F: FnOnce(&std::path::Path, &std::path::Path) -> io::Result<()> + Send + 'static,
{
    let (Some(from), Some(to)) = (staged.local_path(), location.local_path()) else {
        return Err(StorageError::new(
            "renaming",
            location,
            Cause::Configuration("a staged file is a local one".to_owned()),
        ));
    };
    let done = tokio::task::spawn_blocking(move || act(&from, &to)).await;
    match done {
        Ok(done) => done.map_err(|error| StorageError::from_io("renaming", location, &error)),
        Err(error) => Err(StorageError::new(
            "renaming",
            location,
            Cause::Other(error.to_string()),
        )),
    }
}
