//! Put-if-absent with a clear outcome, on stores whose own answer is not clear.
//!
//! A store may answer "already exists" to the retry of a write that succeeded, and after a conflict
//! in which nothing was written. So that answer is followed by a read. Equal bytes were written by
//! this writer, because they carry its token. Other bytes belong to another writer. If there is no
//! object, the put is tried again.

use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use crate::storage::read::whole;
use crate::storage::retry::Pauses;
use crate::storage::{Cause, Location, StorageError, Stores};

/// The writer of the object under the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// This writer.
    Mine,
    /// Another writer, earlier.
    Theirs(Bytes),
}

/// Puts an object only if there is none. `bytes` must carry the writer's token, so that no other
/// writer can put the same bytes. After an error it is not known whether the object was put;
/// repeating the same call determines it.
pub async fn put_if_absent(
    stores: &Stores,
    location: &Location,
    bytes: Bytes,
) -> Result<Placed, StorageError> {
    let store = stores.open(location)?.durable;
    let mut pauses = Pauses::new(stores);
    loop {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let error = match store
            .put_opts(location.path(), PutPayload::from(bytes.clone()), options)
            .await
        {
            Ok(_) => return Ok(Placed::Mine),
            Err(error) => StorageError::from_store("writing", location, &error),
        };
        let error = if error.cause == Cause::AlreadyExists {
            match whole(&*store, location.path()).await {
                Ok(found) if found == bytes => return Ok(Placed::Mine),
                Ok(found) => return Ok(Placed::Theirs(found)),
                // The object neither exists nor was put: a conflict in which both writers lost.
                Err(object_store::Error::NotFound { .. }) => StorageError::new(
                    "writing",
                    location,
                    Cause::Busy("conflicting writes".to_owned()),
                ),
                Err(error) => StorageError::from_store("reading", location, &error),
            }
        } else {
            error
        };
        let Some(pause) = pauses.next(&error) else {
            return Err(pauses.give_up(error));
        };
        tokio::time::sleep(pause).await;
    }
}
