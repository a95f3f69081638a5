//! Puts an object only if there is none, with a reliable result. The answers of stores alone are
//! not reliable.
//!
//! A store may answer "already exists" to the retry of a write that succeeded, and after a conflict
//! in which nothing was written. Therefore the object is read after this answer. If its bytes are
//! equal, this writer wrote them, because they contain its token. If they differ, another writer
//! wrote them. If there is no object, the put is tried again.

use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use crate::storage::read::whole;
use crate::storage::retry::Pauses;
use crate::storage::{Cause, Location, StorageError, Stores};

/// Which writer wrote the object under the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// This writer.
    Mine,
    /// Another writer was earlier. These are its bytes.
    Theirs(Bytes),
}

/// Puts an object only if there is none. `bytes` must contain the writer's token, so that no other
/// writer can put the same bytes. After an error, it is not known whether the object was put.
/// Repeating the same call determines it.
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
                // The object neither exists nor was put, because of a conflict in which both
                // writers failed.
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
