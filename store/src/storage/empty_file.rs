//! Files without bytes, for stores that accept no empty part. Only Azure is such a store. Nothing
//! is uploaded for such a file. The file is put when it is completed. As with an upload, only the
//! first completion has an effect.
//!
//! Instead of the id of an upload, the attempt stores the tag of the object that existed under the
//! file's name when the attempt ended. The file is put only while that object is unchanged. So an
//! empty file of a losing attempt never replaces the winner's file.

use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::storage::{Cause, Location, Scheme, StorageError, Stores, persist};

/// Whether the store of this location accepts a part without bytes.
pub(super) fn can_be_a_part(location: &Location) -> bool {
    match location.scheme() {
        Scheme::S3 | Scheme::Gs | Scheme::File => true,
        Scheme::Az => false,
    }
}

/// Returns the tag of the object under a name. Empty if there is no object.
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

/// Puts the file in place of the object whose tag [`replaceable`] returned. If another object is
/// under the name now, the result is that there is no such upload.
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
    // There is no file under the name, but there are parts that somebody uploaded and never
    // completed. Putting a file without parts deletes them.
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
