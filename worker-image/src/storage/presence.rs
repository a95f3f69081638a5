//! Whether a store answers at all: asked where one object of it cannot be reached, so that an outage is told from an object that
//! alone does not answer. Asks once and changes nothing.

use std::time::Duration;

use object_store::ObjectStoreExt;
use tokio::time::timeout;

use crate::storage::{Location, StorageError, Stores};

/// How long the answer may take: a store that is slower than this is away for everybody.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for: an object beside the one in question, so that the same part of the store has to answer. That there is no such
/// object is an answer.
const ASKED_FOR: &str = "_zephyr-is-the-store-there";

/// Whether the store of an object answers a call for another one beside it, whatever it answers.
pub async fn store_answers(stores: &Stores, object: &Location) -> bool {
    let beside = object.with_path(object.parent().path().clone().join(ASKED_FOR));
    let Ok(store) = stores.open(&beside) else {
        return false;
    };
    match timeout(PATIENCE, store.objects.head(beside.path())).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => !StorageError::from_store("asking for", &beside, &error).is_transient(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::tricky::{Trick, Tricks, tricky};

    #[tokio::test(start_paused = true)]
    async fn a_store_that_knows_no_such_object_answers_and_one_that_is_busy_or_silent_does_not() {
        let object = Location::parse("s3://b/folder/k").unwrap();
        for is_there in [true, false] {
            let tricks: Tricks = Arc::new(move |_, _| {
                let trick = if is_there { Trick::Pass } else { Trick::Fail };
                Box::pin(std::future::ready(trick))
            });
            let stores = tricky(&Arc::new(InMemory::new()), tricks);
            assert_eq!(store_answers(&stores, &object).await, is_there);
        }
        let silent: Tricks = Arc::new(|_, _| Box::pin(std::future::pending()));
        let stores = tricky(&Arc::new(InMemory::new()), silent);
        assert!(!store_answers(&stores, &object).await);
    }
}
