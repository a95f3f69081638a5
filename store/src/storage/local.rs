//! Finds the files of a local disk that match a pattern. This module opens no files.
//!
//! Only folders in which something can match are read. Symbolic links are followed. If a link leads
//! back to a folder on the path, the folder is entered again only while that leads to new names.

use std::fs::{FileType, Metadata};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::local_files::{NOT_A_FILE, etag};
use crate::storage::pages::Entry;
use crate::storage::pattern::{Pattern, Places};
use crate::storage::{Cause, Location, StorageError};

/// A name that matches.
pub(super) struct Found {
    /// The file with the name.
    pub(super) entry: Entry,
    /// Why the file cannot be read.
    pub(super) problem: Option<&'static str>,
}

/// How a folder's entries are read: from the disk, or from a test.
type ReadNames = dyn Fn(&Path) -> io::Result<Vec<(PathBuf, Option<FileType>)>>;

/// Finds at most this number of files.
pub(super) async fn find(
    place: &Location,
    pattern: &Pattern,
    most: usize,
) -> Result<Vec<Found>, StorageError> {
    let pattern = pattern.clone();
    let walk = move || {
        let mut found = Vec::new();
        walk(&pattern, &names_in, &mut |file| {
            found.push(file);
            if found.len() < most {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(found)
    };
    let ended = |error: tokio::task::JoinError| {
        StorageError::new("listing", place, Cause::Other(error.to_string()))
    };
    tokio::task::spawn_blocking(walk).await.map_err(ended)?
}

/// Lists every file whose path, without its first slash, begins with `prefix`.
pub(super) async fn list_prefix<V>(
    place: &Location,
    prefix: &str,
    mut visit: V,
) -> Result<(), StorageError>
where
    V: FnMut(Entry) -> ControlFlow<()> + Send,
{
    let pattern = Pattern::beginning_with(prefix)
        .map_err(|problem| StorageError::new("listing", place, Cause::Other(problem)))?;
    for file in find(place, &pattern, usize::MAX).await? {
        if visit(file.entry).is_break() {
            break;
        }
    }
    Ok(())
}

/// A folder to be read.
struct Folder {
    path: PathBuf,
    places: Places,
    way: Option<Arc<Above>>,
}

/// A folder on the current path.
struct Above {
    identity: (u64, u64),
    places: Places,
    next: Option<Arc<Above>>,
}

fn walk(
    pattern: &Pattern,
    read_names: &ReadNames,
    visit: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> Result<(), StorageError> {
    let mut folders = vec![Folder {
        path: PathBuf::from("/"),
        places: pattern.start(),
        way: None,
    }];
    while let Some(folder) = folders.pop() {
        let names = match pattern.only_names(&folder.places) {
            Some(names) => names
                .into_iter()
                .map(|name| (folder.path.join(name), None))
                .collect(),
            None => match read_names(&folder.path) {
                Ok(names) => names,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(unreadable(&folder.path, &error)),
            },
        };
        for (path, kind) in names {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let places = pattern.step(&folder.places, &name);
            let (is_match, goes_on) = (pattern.accepts(&places), pattern.goes_on(&places));
            let is_file = kind.is_some_and(|kind| kind.is_file());
            if !is_match && (!goes_on || is_file) {
                continue;
            }
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) => {
                    if let Some(found) = unseen(&path, is_match, &error)?
                        && visit(found).is_break()
                    {
                        return Ok(());
                    }
                    continue;
                }
            };
            if !metadata.is_dir() {
                if is_match && visit(found(&path, &metadata)).is_break() {
                    return Ok(());
                }
            } else if goes_on {
                folders.extend(enter(path, places, &metadata, folder.way.as_ref()));
            }
        }
    }
    Ok(())
}

fn names_in(folder: &Path) -> io::Result<Vec<(PathBuf, Option<FileType>)>> {
    let entries = std::fs::read_dir(folder)?;
    entries
        .map(|entry| entry.map(|entry| (entry.path(), entry.file_type().ok())))
        .collect()
}

/// Enters a folder. Does not enter it if the same folder is already on the path and the same names
/// could match there, because its files are found there.
fn enter(
    path: PathBuf,
    places: Places,
    metadata: &Metadata,
    above: Option<&Arc<Above>>,
) -> Option<Folder> {
    let identity = (metadata.dev(), metadata.ino());
    let mut each = above;
    while let Some(one) = each {
        if one.identity == identity && places.are_among(&one.places) {
            return None;
        }
        each = one.next.as_ref();
    }
    let above = Above {
        identity,
        places: places.clone(),
        next: above.cloned(),
    };
    Some(Folder {
        path,
        places,
        way: Some(Arc::new(above)),
    })
}

fn found(path: &Path, metadata: &Metadata) -> Found {
    Found {
        entry: Entry {
            key: key_of(path),
            size: metadata.len(),
            etag: Some(etag(metadata)),
            modified: metadata.modified().ok(),
            is_folder: false,
        },
        problem: (!metadata.is_file()).then_some(NOT_A_FILE),
    }
}

/// Decides what happens to an entry that cannot be examined. It is ignored if it no longer exists,
/// or if it could only have been a folder.
fn unseen(path: &Path, is_match: bool, error: &io::Error) -> Result<Option<Found>, StorageError> {
    let is_link = path.symlink_metadata().is_ok_and(|it| it.is_symlink());
    if error.kind() == io::ErrorKind::PermissionDenied || (!is_link && !is_gone(error)) {
        return Err(unreadable(path, error));
    }
    Ok((is_match && is_link).then(|| Found {
        entry: Entry {
            key: key_of(path),
            size: 0,
            etag: None,
            modified: None,
            is_folder: false,
        },
        problem: Some("it is a symbolic link that leads nowhere"),
    }))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn key_of(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
}

fn unreadable(path: &Path, error: &io::Error) -> StorageError {
    let cause = if error.kind() == io::ErrorKind::PermissionDenied {
        Cause::Denied(error.to_string())
    } else {
        Cause::Other(error.to_string())
    };
    StorageError {
        call: "listing",
        object: format!("file://{}", path.display()),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{InputFile, ListError, Stores, fetch, list_inputs};
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    fn write(folder: &Path, name: impl AsRef<OsStr>, content: &str) {
        let path = folder.join(Path::new(name.as_ref()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn list(folder: &Path, pattern: &str) -> Result<Vec<InputFile>, ListError> {
        let pattern = format!("file://{}/{pattern}", folder.display());
        list_inputs(&Stores::in_memory(), &[pattern], true).await
    }

    async fn names(folder: &Path, pattern: &str) -> Vec<String> {
        let root = format!("file://{}/", folder.display());
        let files = list(folder, pattern).await.unwrap();
        let name = |file: &InputFile| file.uri.strip_prefix(&root).unwrap().to_owned();
        files.iter().map(name).collect()
    }

    async fn refusal(folder: &Path, pattern: &str) -> String {
        list(folder, pattern).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_file_of_any_name_is_read_as_exactly_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let odd = [
            "x#1", "x", "x%41", "xA", "x%20y", "x y", "x?y", "a\\b", "é", "~", "[x]", "{y}", "C|",
            "%2e%2e", "a\u{85}b", "'\"", "+",
        ];
        for name in odd {
            write(folder.path(), name, name);
        }
        let files = list(folder.path(), "*").await.unwrap();
        assert_eq!(files.len(), odd.len());
        for file in files {
            let location = Location::parse(&file.uri).unwrap();
            let content = fetch(&Stores::in_memory(), &location).await.unwrap();
            assert_eq!(location.file_name().as_bytes(), content);
            let literal = location.file_name().replace('\\', "\\\\");
            let literal = literal.replace(['*', '?', '[', '{', '}'], "?");
            let by_name = list(folder.path(), &literal).await.unwrap();
            assert!(by_name.contains(&file), "{literal}: {by_name:?}");
        }
        let escaped = names(folder.path(), "x\\?y").await;
        assert_eq!(escaped, ["x?y"]);
    }

    #[tokio::test]
    async fn names_that_cannot_match_are_skipped_and_unreadable_matches_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "a.txt", "x");
        write(root, "notes\n.bak", "x");
        write(root, OsStr::from_bytes(b"\xff\xfe.bin"), "x");
        symlink("nowhere", root.join("gone.log")).unwrap();
        symlink("self.log2", root.join("self.log2")).unwrap();
        assert_eq!(names(root, "*.txt").await, ["a.txt"]);
        for (pattern, name, problem) in [
            ("*.bak", "notes\\n.bak", "its name has a control character"),
            ("*.bin", "\\xff\\xfe.bin", "its name is not UTF-8"),
            (
                "*.log",
                "gone.log",
                "it is a symbolic link that leads nowhere",
            ),
            (
                "*.log2",
                "self.log2",
                "it is a symbolic link that leads nowhere",
            ),
        ] {
            let said = refusal(root, pattern).await;
            let got = format!(
                "cannot be read: {problem} (got file://{}/{name}); ",
                root.display()
            );
            assert!(said.contains(&got), "{said}");
        }
        assert!(names(root, "*/x.txt").await.is_empty());
    }

    #[tokio::test]
    async fn a_pipe_is_refused_by_name_and_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("p.txt");
        let _socket = std::os::unix::net::UnixListener::bind(&pipe).unwrap();
        for pattern in ["*.txt", "p.txt"] {
            let said = refusal(folder.path(), pattern).await;
            assert!(said.contains(NOT_A_FILE), "{said}");
        }
    }

    #[tokio::test]
    async fn marker_files_and_hidden_folders_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "p",
            "_SUCCESS.json",
            ".p.crc",
            ".git/x",
            "_temporary/x",
            "in/p",
        ] {
            write(folder.path(), name, "x");
        }
        assert_eq!(names(folder.path(), "**").await, ["in/p", "p"]);
        assert_eq!(names(folder.path(), "_*/*").await, ["_temporary/x"]);
        assert_eq!(names(folder.path(), ".git/x").await, [".git/x"]);
    }

    #[tokio::test]
    async fn links_are_followed_and_a_folder_that_contains_itself_does_not_loop() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "in/a.txt", "x");
        write(root, "other/b.txt", "x");
        symlink("../in", root.join("in/loop")).unwrap();
        symlink("../other", root.join("in/link")).unwrap();
        symlink("a.txt", root.join("in/c.txt")).unwrap();
        assert_eq!(names(root, "in/*.txt").await, ["in/a.txt", "in/c.txt"]);
        assert_eq!(
            names(root, "in/**/*.txt").await,
            ["in/a.txt", "in/c.txt", "in/link/b.txt"]
        );
        // These names match only through the loop of links.
        assert_eq!(
            names(root, "in/*/*.txt").await,
            ["in/link/b.txt", "in/loop/a.txt", "in/loop/c.txt"]
        );
        assert_eq!(
            names(root, "in/loop/loop/a.*").await,
            ["in/loop/loop/a.txt"]
        );
        assert_eq!(names(root, "*/loop/**/b.txt").await, ["in/loop/link/b.txt"]);
    }

    /// Returns how many files a walk finds if these folders cannot be read.
    fn without(root: &Path, pattern: &str, unreadable: &[&str]) -> Result<usize, StorageError> {
        let key = root.join(pattern);
        let pattern = Pattern::parse(&key.to_str().unwrap()[1..]).unwrap();
        let closed: Vec<PathBuf> = unreadable.iter().map(|name| root.join(name)).collect();
        let read = move |folder: &Path| {
            if closed.iter().any(|closed| closed == folder) {
                Err(io::ErrorKind::PermissionDenied.into())
            } else {
                names_in(folder)
            }
        };
        let mut count = 0;
        walk(&pattern, &read, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    #[test]
    fn an_unreadable_folder_is_named_if_something_in_it_could_match() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "in/a.txt",
            "in/closed/b.txt",
            "in/.closed/c.txt",
            "in/closed.d/x/d.txt",
        ] {
            write(root, name, "x");
        }
        for (pattern, closed) in [
            ("in/*.txt", "in/closed"),
            ("in/**/*.txt", "in/.closed"),
            ("in/?/x.txt", "in/closed"),
            ("in/closed/b.txt", "in/closed"),
            ("in/closed.d/x/*.txt", "in/closed.d"),
        ] {
            assert!(without(root, pattern, &[closed, ""]).is_ok(), "{pattern}");
        }
        for pattern in ["in/**/*.txt", "in/*/*.txt", "in/closed/*.txt", "in/**"] {
            let error = without(root, pattern, &["in/closed"]).unwrap_err();
            let expected = format!(
                "listing file://{}/in/closed: access denied: permission denied",
                root.display()
            );
            assert_eq!(error.to_string(), expected, "{pattern}");
            assert!(!error.is_transient());
        }
    }

    #[tokio::test]
    async fn a_missing_folder_is_not_an_error_and_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "file", "x");
        for pattern in ["none/*", "none/x", "file/*", "file/x", "**/none/**", "*/x"] {
            assert_eq!(list(folder.path(), pattern).await.unwrap(), [], "{pattern}");
        }
    }

    #[tokio::test]
    async fn everything_below_a_prefix_is_shown_with_markers() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "out/part-0",
            "out/part-1/x",
            "out/_SUCCESS.json",
            "out/a\nb",
            "outer",
        ] {
            write(root, name, "x");
        }
        let key = root.to_str().unwrap()[1..].to_owned();
        for (prefix, expected) in [("out/", 4), ("out/part-", 2), ("out/_", 1), ("none/", 0)] {
            let mut shown = Vec::new();
            let place = Location::parse_local(root.to_str().unwrap()).unwrap();
            list_prefix(&place, &format!("{key}/{prefix}"), |entry| {
                shown.push(entry);
                ControlFlow::Continue(())
            })
            .await
            .unwrap();
            assert_eq!(shown.len(), expected, "{prefix}: {shown:?}");
        }
    }
}
