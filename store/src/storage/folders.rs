//! Lists the folders below an address, and everything in one folder, with sizes and with times of
//! the store's own clock. This module never follows a symbolic link, because its target may belong
//! to another program. It removes nothing, and does not judge what it finds.
//!
//! If a key cannot be represented as an address, the listing does not fail. Objects that only mark
//! a folder are not shown.

use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::Path as DiskPath;
use std::time::SystemTime;

use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::mpsc;

use crate::storage::pages::{Ask, Listing, on_one_line};
use crate::storage::{Cause, Location, Scheme, StorageError, Stores, persist};

/// How many entries of a local folder are buffered for the reader.
const ENTRIES_AHEAD: usize = 1024;

/// How many pages are read at most to find enough names. A page has 1000 keys or folders.
const MAX_PAGES: usize = 10_000;

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderEntry {
    /// The entry's path below the folder. If the key cannot be represented as an address,
    /// unprintable bytes are escaped.
    pub path: String,
    /// The entry's size in bytes.
    pub bytes: u64,
    /// When the entry was written, by the clock of the store or of the disk.
    pub modified: SystemTime,
    /// Whether the entry is an object that has an address, or a regular file. It is false for a
    /// symbolic link or a device.
    pub is_file: bool,
}

/// Returns the names of the folders directly below `parent` that `keep` accepts and that come after
/// `after`, in order, at most `most`. An address that does not exist has no folders.
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
    let all = Ask::below(parent);
    let prefix = all.prefix.clone();
    // '0' is the character after '/', so all keys in that folder come before this position. Azure
    // has no such start position.
    let offset = format!("{prefix}{after}0");
    let ask = Ask {
        one_folder: true,
        after: (!after.is_empty() && parent.scheme() != Scheme::Az).then_some(offset),
        ..all
    };
    let mut listing = Listing::begin(stores, parent, ask)?;
    let mut names = Vec::new();
    for _ in 0..MAX_PAGES {
        let Some(page) = listing.next().await? else {
            break;
        };
        let found = page.folders.iter().filter_map(|folder| {
            let name = folder.strip_prefix(prefix.as_bytes())?.strip_suffix(b"/")?;
            std::str::from_utf8(name).ok()
        });
        names.extend(
            found
                .filter(|name| is_address(parent, name) && wanted(name))
                .map(str::to_owned),
        );
        if names.len() >= most {
            break;
        }
    }
    Ok(names)
}

/// Whether a folder with this name can have an address. An empty name and `..` cannot.
fn is_address(parent: &Location, name: &str) -> bool {
    !name.is_empty()
        && parent
            .join(name)
            .is_ok_and(|folder| folder.parent() == *parent && folder.file_name() == name)
}

fn local_subfolders(folder: &DiskPath, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // This is the type of the entry itself, so a link to a folder counts as a link.
        if entry.file_type()?.is_dir()
            && let Some(name) = entry.file_name().to_str().filter(|name| wanted(name))
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Lists everything in a folder, at any depth. A folder that does not exist is empty.
pub async fn walk<V>(stores: &Stores, folder: &Location, mut visit: V) -> Result<(), StorageError>
where
    V: FnMut(FolderEntry) + Send,
{
    if folder.scheme() == Scheme::File {
        let (sender, mut receiver) = mpsc::channel(ENTRIES_AHEAD);
        let walk = on_disk(folder, move |path| {
            local_walk(path, &mut |relative, _, metadata| {
                // The receiver is dropped only if nobody needs the remaining entries.
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
    let ask = Ask::below(folder);
    let start = ask.prefix.len();
    let mut listing = Listing::begin(stores, folder, ask)?;
    while let Some(page) = listing.next().await? {
        for entry in page.entries {
            if entry.is_marker() {
                continue;
            }
            let has_address = entry.location(folder).is_ok();
            let below = entry.key.get(start..).unwrap_or_default();
            visit(FolderEntry {
                path: if has_address {
                    String::from_utf8_lossy(below).into_owned()
                } else {
                    on_one_line(below)
                },
                bytes: entry.size,
                // An entry without a time counts as new, so that it is never considered old.
                modified: entry.modified.unwrap_or_else(SystemTime::now),
                is_file: has_address,
            });
        }
    }
    Ok(())
}

/// Returns the current time by the store's clock. For this, an object is written into the folder,
/// its time is read, and it is removed.
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

fn local_entry(relative: &str, metadata: &Metadata) -> FolderEntry {
    FolderEntry {
        path: relative.to_owned(),
        bytes: metadata.len(),
        modified: metadata.modified().unwrap_or_else(|_| SystemTime::now()),
        is_file: metadata.is_file(),
    }
}

pub(super) type Visit<'a> = dyn FnMut(&str, &DiskPath, &Metadata) -> io::Result<()> + 'a;

/// Lists everything below a folder except the folders themselves. A link is shown as a link.
pub(super) fn local_walk(folder: &DiskPath, visit: &mut Visit<'_>) -> io::Result<()> {
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((path, prefix)) = folders.pop() {
        let Some(entries) = not_found_is_none(std::fs::read_dir(&path))? else {
            continue;
        };
        for entry in entries {
            let entry: DirEntry = entry?;
            // The entry may have been removed in the meantime. This does not follow a link.
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

pub(super) fn not_found_is_none<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn on_disk<T: Default + Send + 'static>(
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
    use crate::storage::fake_pages::{entry, folder, listing, page};
    use crate::storage::{Page, remove_chosen};

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

    #[tokio::test]
    async fn keys_that_cannot_be_addresses_do_not_break_the_listing_and_are_shown() {
        let keys = [
            entry(b"jobs/a/", 0),
            entry(b"jobs/a/data//x", 1),
            entry(b"jobs/a/data/\xff", 1),
            entry(b"jobs/a/data/line\n", 1),
            entry(b"jobs/a/plan.json", 1),
            folder(b"jobs/a/epochs"),
        ];
        let (stores, asked) = listing(vec![page(&keys, None)]);
        let at = |path: &str| Location::parse(&format!("s3://b/{path}")).unwrap();
        let shown = paths(&stores, &at("jobs/a")).await;
        let shown: Vec<_> = shown
            .iter()
            .map(|(path, _, is_file)| (path.as_str(), *is_file))
            .collect();
        let expected = [
            ("data//x", false),
            ("data/\\xff", false),
            ("data/line\\n", false),
            ("plan.json", true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(asked.lock().unwrap()[0].prefix, "jobs/a/");
        let store = stores.open(&at("jobs")).unwrap().objects;
        let plan = at("jobs/a/plan.json");
        store
            .put(plan.path(), PutPayload::from_static(b"x"))
            .await
            .unwrap();
        let removed = remove_chosen(&stores, &at("jobs/a"), |_| true).await;
        assert_eq!(removed.unwrap(), 1);
        assert!(store.head(plan.path()).await.is_err());
    }

    #[tokio::test]
    async fn folders_of_any_name_do_not_break_the_list_of_folders() {
        let names = [
            "jobs/a/",
            "jobs//",
            "jobs/../",
            "jobs/./",
            "jobs/x\n/",
            "jobs/b c/",
        ];
        let mut folders: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        folders.push(b"jobs/\xff/".to_vec());
        let listed = Page {
            folders,
            next: Some("next".to_owned()),
            ..Page::default()
        };
        let (stores, asked) = listing(vec![Ok(listed), page(&[entry(b"jobs//x", 1)], None)]);
        let jobs = Location::parse("s3://b/jobs").unwrap();
        let names = subfolders(&stores, &jobs, "A", 9, |_| true).await;
        assert_eq!(names.unwrap(), ["a", "b c"]);
        let asked: Vec<_> = asked.lock().unwrap().drain(..).collect();
        let first = Ask {
            prefix: "jobs/".to_owned(),
            one_folder: true,
            after: Some("jobs/A0".to_owned()),
            token: None,
        };
        let second = Ask {
            token: Some("next".to_owned()),
            ..first.clone()
        };
        assert_eq!(asked, [first, second]);
    }
}
