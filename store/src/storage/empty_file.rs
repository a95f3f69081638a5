//! Files without bytes in stores that accept no empty part: Azure. Nothing is uploaded for them.
//! Completing puts the file, and does so only once, as for an upload. Stores that accept empty
//! parts do not need this module.
//!
//! Instead of an upload, the file has the tag of the object that existed under its name when its
//! attempt ended, and is put only while that object is unchanged. So an empty file of a losing
//! attempt never replaces the winner's file.

use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::storage::{Cause, Location, Scheme, StorageError, Stores, persist};

/// Whether the store accepts a part without bytes.
pub(super) fn can_be_a_part(location: &Location) -> bool {
    match location.scheme() {
        Scheme::S3 | Scheme::Gs | Scheme::File => true,
        Scheme::Az => false,
    }
}

/// The tag of the object under a name; empty if there is none.
pub(super) async fn replaceable(
    stores: &Stores,
    location: &Location,
) -> Result<String, StorageError> {
    let store = stores.open(location)?.objects;
    let head = persist(stores, "looking for", location, || {
        store.head(location.path())
    });
    match head.await {
        Ok(meta) => Ok(meta.e_tag.unwrap_or_default()),
        Err(error) if error.cause == Cause::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Puts the file in place of the object that [`replaceable`] returned. If another object is there
/// by now, the result is that there is no such upload.
pub(super) async fn put(
    stores: &Stores,
    location: &Location,
    multipart: &dyn MultipartStore,
    replaced: &str,
) -> Result<(), StorageError> {
    const CALL: &str = "completing the upload of";
    let store = stores.open(location)?.durable;
    let put = persist(stores, CALL, location, || {
        store.put_opts(location.path(), PutPayload::new(), only_over(replaced))
    });
    match put.await {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error.cause, Cause::AlreadyExists | Cause::Changed) => {}
        Err(error) => return Err(error),
    }
    if replaceable(stores, location).await? != replaced {
        return Err(StorageError::new(CALL, location, Cause::NoSuchUpload));
    }
    // The obstacle is not a file but parts that somebody uploaded and never completed. Putting a
    // file without parts deletes them.
    let no_upload = String::new();
    persist(stores, CALL, location, || {
        multipart.complete_multipart(location.path(), &no_upload, Vec::new())
    })
    .await
    .map(|_| ())
}

fn only_over(replaced: &str) -> PutOptions {
    let mode = if replaced.is_empty() {
        PutMode::Create
    } else {
        PutMode::Update(UpdateVersion {
            e_tag: Some(replaced.to_owned()),
            version: None,
        })
    };
    PutOptions {
        mode,
        ..PutOptions::default()
    }
}
