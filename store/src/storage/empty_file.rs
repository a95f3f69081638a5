//! Files of no bytes in stores that take no part of no bytes: Azure. Nothing is uploaded for them;
//! completing puts the file, once, as an upload is completed once. Where the store takes such parts
//! nobody comes here.
//!
//! Instead of an upload the file has the tag of what stood under its name when its attempt ended,
//! and is put only while that still stands there. So an empty file of a beaten attempt replaces no
//! winner's.

use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::storage::{Cause, Location, Scheme, StorageError, Stores, persist};

/// Whether the store takes a part of no bytes.
pub(super) fn can_be_a_part(location: &Location) -> bool {
    match location.scheme() {
        Scheme::S3 | Scheme::Gs | Scheme::File => true,
        Scheme::Az => false,
    }
}

/// The tag of what stands under a name; empty where nothing does.
pub(super) async fn standing(stores: &Stores, location: &Location) -> Result<String, StorageError> {
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

/// Puts the file in the place of what [`standing`] gave. Where something else stands there by now,
/// there is no such upload.
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
    if standing(stores, location).await? != replaced {
        return Err(StorageError::new(CALL, location, Cause::NoSuchUpload));
    }
    // What is in the way is no file but parts that somebody uploaded and never completed. A file of
    // no parts throws them away.
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
