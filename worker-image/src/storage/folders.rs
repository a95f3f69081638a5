//! Shows the folders below a place, and everything in one folder, with sizes and times of the store's own clock. Removes objects
//! by name. Never follows a symbolic link: what a link leads to belongs to somebody else. Decides nothing about what is found.

use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::{Path as DiskPath, PathBuf};
use std::time::SystemTime;

use futures::{StreamExt, TryStreamExt};
use object_store::list::PaginatedListOptions;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::mpsc;

use crate::storage::{Cause, Location, Scheme, StorageError, Stores, persist};

/// Entries of a local folder that wait for their reader.
const ENTRIES_AHEAD: usize = 1024;

/// Pages that are read while enough names are looked for. A page has 1000 keys or folders.
const PAGES_MAX: usize = 10_000;

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// Its path below the folder.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, by the clock of the store or of the disk.
    pub modified: SystemTime,
    /// Whether it is an object or a regular file. A symbolic link or a device is not.
    pub is_file: bool,
}

/// Gives the names of the folders directly below `parent` that `keep` wants and that come after `after`, in order, at most `most`.
/// A place that does not exist has no folders.
pub async fn subfolders<K>(
    stores: &Stores,
    parent: &Location,
    after: &str,
    most: usize,
    keep: K,
) -> Result<Vec<String>, StorageError>
where
    K: Fn(&str) -> bool + Send + 'static,
{
    let wanted = {
        let after = after.to_owned();
        move |name: &str| name > after.as_str() && keep(name)
    };
    let mut names = if parent.scheme() == Scheme::File {
        on_disk(parent, move |path| local_subfolders(path, wanted)).await?
    } else {
        remote_subfolders(stores, parent, after, most, wanted).await?
    };
    names.sort_unstable();
    names.dedup();
    names.truncate(most);
    Ok(names)
}

async fn remote_subfolders(
    stores: &Stores,
    parent: &Location,
    after: &str,
    most: usize,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<String>, StorageError> {
    let store = stores.open(parent)?;
    let name = |path: &object_store::path::Path| path.filename().map(str::to_owned);
    let Some(pages) = store.folders else {
        let listed = persist(stores, "listing", parent, || {
            store.objects.list_with_delimiter(Some(parent.path()))
        })
        .await?;
        let names = listed.common_prefixes.iter().filter_map(name);
        return Ok(names.filter(|name| wanted(name)).collect());
    };
    let folder = parent.path().as_ref();
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    // '0' follows '/': all keys in that folder come before.
    let offset =
        (!after.is_empty() && parent.scheme() != Scheme::Az).then(|| format!("{prefix}{after}0"));
    let mut names = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = persist(stores, "listing", parent, || {
            let options = PaginatedListOptions {
                offset: offset.clone().filter(|_| token.is_none()),
                delimiter: Some("/".into()),
                page_token: token.clone(),
                ..PaginatedListOptions::default()
            };
            let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
            pages.list_paginated(prefix, options)
        })
        .await?;
        let found = page.result.common_prefixes.iter().filter_map(name);
        names.extend(found.filter(|name| wanted(name)));
        token = page.page_token;
        if token.is_none() || names.len() >= most {
            break;
        }
    }
    Ok(names)
}

fn local_subfolders(folder: &DiskPath, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // The type is the entry's own: a link to a folder is a link.
        if entry.file_type()?.is_dir()
            && let Some(name) = entry.file_name().to_str().filter(|name| wanted(name))
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Shows everything in a folder, however deep. A folder that does not exist is empty.
pub async fn walk<V>(stores: &Stores, folder: &Location, mut visit: V) -> Result<(), StorageError>
where
    V: FnMut(FolderEntry) + Send,
{
    if folder.scheme() == Scheme::File {
        let (sender, mut receiver) = mpsc::channel(ENTRIES_AHEAD);
        let walk = on_disk(folder, move |path| {
            local_walk(path, &mut |relative, _, metadata| {
                // The reader is gone only if nobody wants the rest.
                let _gone = sender.blocking_send(local_entry(relative, metadata));
                Ok(())
            })
        });
        let read = async {
            while let Some(entry) = receiver.recv().await {
                visit(entry);
            }
        };
        return tokio::join!(walk, read).0;
    }
    let store = stores.open(folder)?.objects;
    let mut listed = store.list(Some(folder.path()));
    while let Some(object) = listed.next().await {
        let object = object.map_err(|error| StorageError::from_store("listing", folder, &error))?;
        if let Some(path) = below(folder, &object.location) {
            visit(FolderEntry {
                path,
                bytes: object.size,
                modified: object.last_modified.into(),
                is_file: true,
            });
        }
    }
    Ok(())
}

/// Removes the objects of a folder of which `is_chosen` takes the path below it, and on a local disk the folders that are empty
/// then. Gives how many objects there were. Holds one page of names at a time.
pub async fn remove_chosen(
    stores: &Stores,
    folder: &Location,
    is_chosen: fn(&str) -> bool,
) -> Result<u64, StorageError> {
    if folder.scheme() == Scheme::File {
        return on_disk(folder, move |path| {
            let mut removed = 0;
            local_walk(path, &mut |relative, path, metadata| {
                if !metadata.is_file() || !is_chosen(relative) {
                    return Ok(());
                }
                removed += u64::from(not_found_is_none(std::fs::remove_file(path))?.is_some());
                Ok(())
            })?;
            remove_empty_folders(path);
            Ok(removed)
        })
        .await;
    }
    let store = stores.open(folder)?.objects;
    let place = folder.clone();
    let chosen = store
        .list(Some(folder.path()))
        .try_filter_map(move |object| {
            let is_chosen = below(&place, &object.location).is_some_and(|path| is_chosen(&path));
            std::future::ready(Ok(is_chosen.then_some(object.location)))
        })
        .boxed();
    let mut removals = store.delete_stream(chosen);
    let mut removed = 0;
    while let Some(removal) = removals.next().await {
        match removal {
            Ok(_) => removed += 1,
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(StorageError::from_store("removing", folder, &error)),
        }
    }
    Ok(removed)
}

/// What time it is by the clock of the store: that of an object which is written into the folder for this, and removed again.
pub async fn server_time(stores: &Stores, folder: &Location) -> Result<SystemTime, StorageError> {
    let name = format!(".zephyr-clock-{:032x}", stores.chance().unique());
    let probe = folder.with_path(folder.path().clone().join(name));
    let store = stores.open(&probe)?.objects;
    let payload = PutPayload::from_static(b"What time is it?\n");
    persist(stores, "writing", &probe, || {
        store.put(probe.path(), payload.clone())
    })
    .await?;
    let meta = persist(stores, "looking for", &probe, || store.head(probe.path())).await;
    persist(stores, "removing", &probe, || store.delete(probe.path())).await?;
    Ok(meta?.last_modified.into())
}

/// The path of an object below a folder.
fn below(folder: &Location, object: &object_store::path::Path) -> Option<String> {
    let parts = object.prefix_match(folder.path())?;
    let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn local_entry(relative: &str, metadata: &Metadata) -> FolderEntry {
    FolderEntry {
        path: relative.to_owned(),
        bytes: metadata.len(),
        modified: metadata.modified().unwrap_or_else(|_| SystemTime::now()),
        is_file: metadata.is_file(),
    }
}

type Visit<'a> = dyn FnMut(&str, &DiskPath, &Metadata) -> io::Result<()> + 'a;

/// Shows everything below a folder but the folders themselves. A link is shown as what it is.
fn local_walk(folder: &DiskPath, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        let Some(entries) = not_found_is_none(std::fs::read_dir(&path))? else {
            continue;
        };
        for entry in entries {
            let entry: DirEntry = entry?;
            // What was there a moment ago may be gone; a link is not followed.
            let Some(metadata) = not_found_is_none(entry.metadata())? else {
                continue;
            };
            let relative = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if metadata.is_dir() {
                folders.push((entry.path(), format!("{relative}/")));
            } else {
                visit(&relative, &entry.path(), &metadata)?;
            }
        }
    }
    Ok(())
}

/// Removes a folder and the folders in it, as far as they hold no file.
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

fn not_found_is_none<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn on_disk<T: Default + Send + 'static>(
    folder: &Location,
    act: impl FnOnce(&DiskPath) -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let path = folder.local_path().unwrap_or_default();
    let done = tokio::task::spawn_blocking(move || {
        not_found_is_none(act(&path)).map(Option::unwrap_or_default)
    });
    match done.await {
        Ok(done) => done.map_err(|error| StorageError::from_io("looking into", folder, &error)),
        Err(died) => Err(StorageError::new(
            "looking into",
            folder,
            Cause::Other(died.to_string()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(stores: &Stores, uri: &str) {
        let location = Location::parse(uri).unwrap();
        let store = stores.open(&location).unwrap().objects;
        let payload = PutPayload::from_static(b"12345");
        store.put(location.path(), payload).await.unwrap();
    }

    async fn paths(stores: &Stores, folder: &Location) -> Vec<(String, u64, bool)> {
        let mut found = Vec::new();
        walk(stores, folder, |entry| {
            found.push((entry.path, entry.bytes, entry.is_file));
        })
        .await
        .unwrap();
        found.sort();
        found
    }

    #[tokio::test]
    async fn folders_are_named_and_what_is_in_them_is_shown_and_removed_by_name() {
        let local = tempfile::tempdir().unwrap();
        let disk = format!("file://{}", local.path().display());
        for root in ["s3://b", "s3://b/deep/er", disk.as_str()] {
            let stores = Stores::in_memory();
            let at = |name: &str| Location::parse(root).unwrap().join(name).unwrap();
            for name in ["a/x", "a/y/z", "b/x", "c/x", "file"] {
                put(&stores, &at(name).to_string()).await;
            }
            let root = Location::parse(root).unwrap();
            let names = async |after: &str, most| {
                let keep = |name: &str| name != "deep";
                subfolders(&stores, &root, after, most, keep).await.unwrap()
            };
            assert_eq!(names("", 9).await, ["a", "b", "c"]);
            assert_eq!(names("a", 1).await, ["b"]);
            assert_eq!(names("c", 9).await, [""; 0]);
            let folder = at("a");
            let all = [("x".to_owned(), 5, true), ("y/z".to_owned(), 5, true)];
            assert_eq!(paths(&stores, &folder).await, all);
            let is_deep = |path: &str| path.contains('/');
            assert_eq!(remove_chosen(&stores, &folder, is_deep).await.unwrap(), 1);
            assert_eq!(paths(&stores, &folder).await, all[..1]);
            assert_eq!(remove_chosen(&stores, &folder, |_| true).await.unwrap(), 1);
            assert_eq!(names("", 9).await, ["b", "c"]);
            assert_eq!(paths(&stores, &at("none")).await, []);
        }
        assert!(local.path().join("file").exists());
    }

    #[tokio::test]
    async fn a_symbolic_link_is_shown_and_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("precious"), "x").unwrap();
        let local = tempfile::tempdir().unwrap();
        let link = |name: &str| {
            std::os::unix::fs::symlink(outside.path(), local.path().join(name)).unwrap();
        };
        std::fs::create_dir(local.path().join("a")).unwrap();
        std::fs::write(local.path().join("a/own"), "x").unwrap();
        link("linked");
        link("a/linked");
        let stores = Stores::in_memory();
        let root = Location::parse(&format!("file://{}", local.path().display())).unwrap();
        let names = subfolders(&stores, &root, "", 9, |_| true).await.unwrap();
        assert_eq!(names, ["a"]);
        let folder = root.join("a").unwrap();
        let shown = paths(&stores, &folder).await;
        let shown: Vec<_> = shown
            .iter()
            .map(|(path, _, is)| (path.as_str(), *is))
            .collect();
        assert_eq!(shown, [("linked", false), ("own", true)]);
        assert_eq!(remove_chosen(&stores, &folder, |_| true).await.unwrap(), 1);
        assert!(local.path().join("a/linked").is_symlink());
        assert!(outside.path().join("precious").exists());
    }
}
