//! Put-if-absent with a clear outcome, on stores whose own answer is not clear.
//!
//! A store may answer "already exists" to one's own retried write, and to a conflict in which
//! nothing was written. So that answer is followed by a read: equal bytes are mine (they carry the
//! writer's token), others are another's, none at all means to try again.

use bytes::Bytes;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use crate::storage::read::whole;
use crate::storage::retry::Pauses;
use crate::storage::{Cause, Location, StorageError, Stores};

/// Whose object stands under the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// What was to be put.
    Mine,
    /// Something else, which was there before.
    Theirs(Bytes),
}

/// Puts an object where there is none. `bytes` must not be what anybody else could put there: they
/// carry the writer's token. An error leaves open whether the object was put; the same call again
/// finds out.
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
                // Neither there nor put: a conflict in which both lost.
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
