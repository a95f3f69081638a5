//! Removes all that lies in a folder. Whose folder it is, and when it may go, is the caller's business.

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;

use crate::storage::{Location, StorageError, Stores};

/// Removes every object in a folder, and gives how many there were. What somebody puts there meanwhile may stay.
pub async fn remove_folder(stores: &Stores, folder: &Location) -> Result<u64, StorageError> {
    let store = stores.open(folder)?.objects;
    let listed = store.list(Some(folder.path()));
    let paths = listed.map_ok(|object| object.location).boxed();
    let mut removals = store.delete_stream(paths);
    let mut removed = 0;
    while let Some(removal) = removals.next().await {
        match removal {
            Ok(_) => removed += 1,
            // A local folder that was not made, or an object that somebody else removed.
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(StorageError::from_store("removing", folder, &error)),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;

    #[tokio::test]
    async fn all_in_the_folder_goes_and_nothing_beside_it() {
        let local = tempfile::tempdir().unwrap();
        for root in [
            "s3://b/jobs".to_owned(),
            format!("file://{}", local.path().display()),
        ] {
            let stores = Stores::in_memory();
            let at = |name: &str| Location::parse_local(&format!("{root}/{name}")).unwrap();
            let store = stores.open(&at("x")).unwrap().objects;
            assert_eq!(remove_folder(&stores, &at("uid/data")).await.unwrap(), 0);
            for name in [
                "uid/data/0/1/e1a1/shuffle",
                "uid/data/x",
                "uid/data2/x",
                "uid/epochs/1/open",
            ] {
                let payload = PutPayload::from_static(b"x");
                store.put(at(name).path(), payload).await.unwrap();
            }
            assert_eq!(remove_folder(&stores, &at("uid/data")).await.unwrap(), 2);
            assert!(store.head(at("uid/data2/x").path()).await.is_ok());
            assert!(store.head(at("uid/epochs/1/open").path()).await.is_ok());
            assert!(store.head(at("uid/data/x").path()).await.is_err());
        }
    }
}
