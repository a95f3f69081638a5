//! Removes the contents of a folder. The caller decides whether they may be removed.

use std::path::{Path as DiskPath, PathBuf};

use futures::StreamExt;
use object_store::ObjectStore;

use crate::storage::folders::{local_walk, not_found_is_none, on_disk};
use crate::storage::pages::{Ask, Listing, on_one_line};
use crate::storage::{Location, Scheme, StorageError, Stores};

/// Removes every object in a folder, and returns the number of removed objects. An object that is
/// put there at the same time may stay.
pub async fn remove_folder(stores: &Stores, folder: &Location) -> Result<u64, StorageError> {
    remove_chosen(stores, folder, |_| true).await
}

/// Removes the objects of a folder whose path below the folder `is_chosen` accepts. On a local
/// disk, also removes the folders that are empty afterwards. Returns the number of removed objects.
/// Holds one page of names in memory at a time. A key that cannot be represented as an address
/// stays, because no release writes such a key. The log names it. A symbolic link stays too.
pub async fn remove_chosen(
    stores: &Stores,
    folder: &Location,
    is_chosen: fn(&str) -> bool,
) -> Result<u64, StorageError> {
    if folder.scheme() == Scheme::File {
        return on_disk(folder, move |path| local_removal(path, is_chosen)).await;
    }
    let store = stores.open(folder)?.objects;
    let ask = Ask::below(folder);
    let start = ask.prefix.len();
    let mut listing = Listing::begin(stores, folder, ask)?;
    let mut removed = 0;
    while let Some(page) = listing.next().await? {
        let mut chosen = Vec::new();
        for entry in page.entries.iter().filter(|entry| !entry.is_marker()) {
            match entry.location(folder) {
                Ok(location) => {
                    let is_chosen = (location.path().as_ref().get(start..)).is_some_and(is_chosen);
                    chosen.extend(is_chosen.then(|| Ok(location.path().clone())));
                }
                Err(problem) => {
                    let key = on_one_line(&entry.key);
                    tracing::warn!(%folder, key, problem, "an object stays");
                }
            }
        }
        let mut removals = store.delete_stream(futures::stream::iter(chosen).boxed());
        while let Some(removal) = removals.next().await {
            match removal {
                Ok(_) => removed += 1,
                // Another process removed the object.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(StorageError::from_store("removing", folder, &error)),
            }
        }
    }
    Ok(removed)
}

fn local_removal(folder: &DiskPath, is_chosen: fn(&str) -> bool) -> std::io::Result<u64> {
    let mut removed = 0;
    local_walk(folder, &mut |relative, path, metadata| {
        if !metadata.is_file() || !is_chosen(relative) {
            return Ok(());
        }
        removed += u64::from(not_found_is_none(std::fs::remove_file(path))?.is_some());
        Ok(())
    })?;
    remove_empty_folders(folder);
    Ok(removed)
}

/// Removes a folder and the folders in it. A folder that contains a file stays.
fn remove_empty_folders(folder: &DiskPath) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let inner: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    for folder in inner {
        remove_empty_folders(&folder);
    }
    if let Err(error) = std::fs::remove_dir(folder) {
        tracing::debug!(folder = %folder.display(), %error, "a folder stays");
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;

    #[tokio::test]
    async fn everything_in_the_folder_is_removed_and_nothing_beside_it() {
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
