//! Finds existing files whose names a template can produce. Such a name is the template's text with
//! any numbers in place of its placeholders. This module removes nothing, and does not judge what
//! it finds.
//!
//! Other files in the folder cost time but no memory. The listing does not fail because of a
//! foreign name, even if that name cannot be represented as an address.

use std::ops::{ControlFlow, Range};
use std::path::{Path as DiskPath, PathBuf};
use std::sync::Arc;

use object_store::path::Path;

use crate::storage::{Cause, Entry, Location, StorageError, Stores, list_prefix};

/// A piece of a segment of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// One or more decimal digits.
    Number,
}

/// A pattern of names that contain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    /// The template as an address.
    template: Location,
    segments: Vec<Vec<Piece>>,
}

impl NamePattern {
    /// Makes a pattern from a template. Each pair of braces in the template's path means a number.
    pub fn new(template: Location) -> Self {
        let segments = template.path().as_ref().split('/').map(pieces).collect();
        Self { template, segments }
    }

    /// Returns the template as an address.
    pub fn template(&self) -> &Location {
        &self.template
    }

    /// Whether a path in the same store matches the pattern.
    pub fn matches(&self, path: &str) -> bool {
        let mut names = path.split('/');
        self.segments
            .iter()
            .all(|segment| names.next().is_some_and(|name| matches(segment, name)))
            && names.next().is_none()
    }

    /// Whether the name of a folder contains a number.
    pub fn has_numbered_folders(&self) -> bool {
        let folders = self.segments.len().saturating_sub(1);
        self.segments
            .iter()
            .take(folders)
            .flatten()
            .any(|piece| *piece == Piece::Number)
    }

    /// Returns the pattern of files with this name in the same folders.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        let mut segments = self.segments.clone();
        if let Some(last) = segments.last_mut() {
            *last = vec![Piece::Text(name.to_owned())];
        }
        Self {
            template: self.template.clone(),
            segments,
        }
    }

    /// Returns how many segments at the beginning contain no number.
    fn literal_segments(&self) -> usize {
        let folders = self.segments.len().saturating_sub(1);
        let is_literal = |segment: &&Vec<Piece>| !segment.contains(&Piece::Number);
        self.segments
            .iter()
            .take(folders)
            .take_while(is_literal)
            .count()
    }

    /// Returns the common beginning of all matching names, which is the text before the first
    /// number. If there is no number, it is the whole name.
    pub fn prefix(&self) -> String {
        let mut prefix = String::new();
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                prefix.push('/');
            }
            for piece in segment {
                match piece {
                    Piece::Text(text) => prefix.push_str(text),
                    Piece::Number => return prefix,
                }
            }
        }
        prefix
    }

    /// Returns the match of a listed entry, if its name matches. A name that is not text, or that
    /// cannot be represented as an address, never matches.
    fn matched(&self, entry: &Entry) -> Option<Match> {
        let key = std::str::from_utf8(&entry.key).ok()?;
        if !self.matches(key) {
            return None;
        }
        let path = Path::parse(key).ok().filter(|path| path.as_ref() == key)?;
        Some(Match {
            location: self.template.with_path(path),
            size: entry.size,
            kind: if entry.is_folder {
                MatchKind::Folder
            } else {
                MatchKind::File
            },
        })
    }

    fn literal_folder(&self) -> String {
        let names = self.template.path().as_ref().split('/');
        let names: Vec<&str> = names.take(self.literal_segments()).collect();
        names.join("/")
    }
}

fn pieces(segment: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, after)) = after.split_once('}') else {
            break;
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Number);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    pieces
}

/// Whether a name matches. It follows all ways to read the name at the same time, because the text
/// after a number may begin with a digit.
fn matches(pieces: &[Piece], name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut reached = vec![false; bytes.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; bytes.len() + 1];
        for (start, _) in reached.iter().enumerate().filter(|(_, is)| **is) {
            match piece {
                Piece::Text(text) => {
                    if bytes[start..].starts_with(text.as_bytes()) {
                        next[start + text.len()] = true;
                    }
                }
                Piece::Number => {
                    let digits = bytes[start..]
                        .iter()
                        .take_while(|byte| byte.is_ascii_digit());
                    let ends: Range<usize> = start + 1..start + 1 + digits.count();
                    next[ends].fill(true);
                }
            }
        }
        reached = next;
    }
    reached[bytes.len()]
}

/// The kind of entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchKind {
    /// A file.
    File,
    /// A folder of a local disk or of Azure.
    Folder,
    /// A file below a symbolic link to a folder. It is stored in another place.
    BeyondLink,
}

/// One match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// The address of the match.
    pub(crate) location: Location,
    /// The size in bytes. 0 for a folder.
    pub(crate) size: u64,
    /// Whether the match is a file or a folder, and whether a link leads to it.
    pub(crate) kind: MatchKind,
}

/// The matches that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// The matches, in no particular order.
    pub(crate) entries: Vec<Match>,
    /// The number of matches, including those that are not in `entries`.
    pub(crate) count: u64,
}

/// A function that says whether the caller wants a match.
pub(crate) type Wanted = dyn Fn(&Match) -> bool + Send + Sync;

/// Lists the wanted matches of a pattern. Keeps at most `kept_max` of them, and counts all.
pub(crate) async fn list_matching(
    stores: &Stores,
    pattern: &NamePattern,
    kept_max: usize,
    wanted: Arc<Wanted>,
) -> Result<Sight, StorageError> {
    if pattern.template.local_path().is_some() {
        return on_disk(pattern, kept_max, wanted).await;
    }
    let folder = Path::parse(pattern.literal_folder()).unwrap_or_default();
    let mut sight = Sight::default();
    // A key that ends in a slash is not a file. It differs from the key without the slash.
    let see = |entry: Entry| {
        if let Some(found) = pattern.matched(&entry) {
            sight.note(found, kept_max, &*wanted);
        }
        ControlFlow::Continue(())
    };
    let listed = list_prefix(stores, &pattern.template, &pattern.prefix(), see).await;
    // The error names the folder that the credentials must allow, and not the beginning of a name.
    listed.map_err(|error| StorageError {
        object: pattern.template.with_path(folder).to_string(),
        ..error
    })?;
    Ok(sight)
}

impl Sight {
    fn note(&mut self, entry: Match, kept_max: usize, wanted: &Wanted) {
        if wanted(&entry) {
            self.count += 1;
            if self.entries.len() < kept_max {
                self.entries.push(entry);
            }
        }
    }
}

async fn on_disk(
    pattern: &NamePattern,
    kept_max: usize,
    wanted: Arc<Wanted>,
) -> Result<Sight, StorageError> {
    let folder = pattern.literal_folder();
    let place = Path::parse(&folder).unwrap_or_default();
    let place = pattern.template.with_path(place);
    let (pattern, walked) = (pattern.clone(), place.clone());
    let walk = move || {
        let mut walk = Walk {
            pattern: &pattern,
            kept_max,
            wanted: &*wanted,
            sight: Sight::default(),
        };
        let root = PathBuf::from("/").join(&folder);
        walk.folder(&root, &folder, pattern.literal_segments(), false)
            .map(|()| walk.sight)
    };
    let failed = |error: std::io::Error| StorageError::from_io("listing", &walked, &error);
    match tokio::task::spawn_blocking(walk).await {
        Ok(found) => found.map_err(failed),
        Err(error) => Err(StorageError::new(
            "listing",
            &place,
            Cause::Other(error.to_string()),
        )),
    }
}

/// A walk over a local disk that enters only folders in which a match is possible. It is never
/// deeper than the pattern, so it does not follow a loop of links without end.
struct Walk<'a> {
    pattern: &'a NamePattern,
    kept_max: usize,
    wanted: &'a Wanted,
    sight: Sight,
}

impl Walk<'_> {
    fn folder(
        &mut self,
        folder: &DiskPath,
        path: &str,
        depth: usize,
        beyond_link: bool,
    ) -> std::io::Result<()> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            // The folder does not exist yet, or was removed since it was seen.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let Some(segment) = self.pattern.segments.get(depth) else {
            return Ok(());
        };
        let is_last = depth + 1 == self.pattern.segments.len();
        for entry in entries {
            let entry = entry?;
            // A name that is not text matches no template.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !matches(segment, &name) {
                continue;
            }
            let below = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            let is_link = entry.file_type()?.is_symlink();
            // If the entry is a link, this is its target. If the target does not exist, it is the
            // link itself.
            let Ok(metadata) = entry.path().metadata().or_else(|_| entry.metadata()) else {
                continue;
            };
            if !is_last {
                if metadata.is_dir() {
                    self.folder(&entry.path(), &below, depth + 1, beyond_link || is_link)?;
                }
                continue;
            }
            self.found(&below, &metadata, beyond_link);
        }
        Ok(())
    }

    fn found(&mut self, path: &str, metadata: &std::fs::Metadata, beyond_link: bool) {
        // No template produces a name that the store's path type cannot represent.
        let Ok(path) = Path::parse(path) else {
            return;
        };
        let kind = if metadata.is_dir() {
            MatchKind::Folder
        } else if beyond_link {
            MatchKind::BeyondLink
        } else {
            MatchKind::File
        };
        let size = if metadata.is_dir() { 0 } else { metadata.len() };
        let entry = Match {
            location: self.pattern.template.with_path(path),
            size,
            kind,
        };
        self.sight.note(entry, self.kept_max, self.wanted);
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;
    use crate::storage::fake_pages::{entry, folder, listing, page};

    fn pattern(template: &str) -> NamePattern {
        NamePattern::new(Location::parse_local(template).unwrap())
    }

    #[test]
    fn a_name_matches_with_any_numbers_of_any_width_in_it() {
        for (template, path, expected) in [
            ("s3://b/o/p-{shard}.jsonl", "o/p-0.jsonl", true),
            ("s3://b/o/p-{shard:05}.jsonl", "o/p-123456.jsonl", true),
            ("s3://b/o/p-{shard}.jsonl", "o/p-.jsonl", false),
            ("s3://b/o/p-{shard}.jsonl", "o/p-1a.jsonl", false),
            ("s3://b/o/p-{shard}.jsonl", "o/p-1.jsonl.gz", false),
            ("s3://b/o/p-{shard}.jsonl", "o/p-1.jsonl/x", false),
            ("s3://b/o/p-{shard}.jsonl", "o2/p-1.jsonl", false),
            ("s3://b/o/p-{shard}.jsonl", "o/.p-1.jsonl.uid.e1a1", false),
            ("s3://b/o/p-{shard}.jsonl", "o/p-\u{661}.jsonl", false),
            ("s3://b/o/{shard}0{total}", "o/10010", true),
            ("s3://b/o/{shard}{total}", "o/7", false),
            ("s3://b/o/{shard}{total}", "o/77", true),
            ("s3://b/o/{shard}/x", "o/7/x", true),
            ("s3://b/o/{shard}/x", "o/7/8/x", false),
            ("s3://b/{total:3}/p-{shard}", "012/p-3", true),
            ("s3://b/one.jsonl", "one.jsonl", true),
            ("s3://b/one.jsonl", "one.jsonl2", false),
            ("file:///o//{shard}", "o/1", true),
            ("file:///{shard}", "1", true),
        ] {
            assert_eq!(
                pattern(template).matches(path),
                expected,
                "{template} {path}"
            );
        }
    }

    async fn put(stores: &Stores, uri: &str) {
        let location = Location::parse(uri).unwrap();
        let store = stores.open(&location).unwrap().objects;
        let payload = PutPayload::from_static(b"xy");
        store.put(location.path(), payload).await.unwrap();
    }

    async fn names(stores: &Stores, root: &str, template: &str) -> Vec<String> {
        let pattern = pattern(&format!("{root}/{template}"));
        let found = list_matching(stores, &pattern, 100, Arc::new(|_| true));
        let found = found.await.unwrap();
        assert_eq!(found.count, found.entries.len() as u64);
        let mut names: Vec<String> = found
            .entries
            .iter()
            .map(|entry| {
                assert_eq!((entry.size, entry.kind), (2, MatchKind::File));
                let uri = entry.location.to_string();
                uri.strip_prefix(&format!("{root}/")).unwrap().to_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn matches_are_found_wherever_the_numbers_are_and_nothing_else_is_found() {
        let local = tempfile::tempdir().unwrap();
        for root in [
            "s3://b/deep/out".to_owned(),
            "s3://b".to_owned(),
            format!("file://{}/not yet", local.path().display()),
        ] {
            let stores = Stores::in_memory();
            assert_eq!(names(&stores, &root, "p-{shard}.jsonl").await, [""; 0]);
            for name in [
                "p-0.jsonl",
                "p-00017.jsonl",
                "p-x.jsonl",
                "7/x.jsonl",
                "8/y/x.jsonl",
                "012/p-3",
                "_SUCCESS.json",
                "n#1/p-0.jsonl",
            ] {
                put(&stores, &format!("{root}/{name}")).await;
            }
            let found = names(&stores, &root, "p-{shard:02}.jsonl").await;
            assert_eq!(found, ["p-0.jsonl", "p-00017.jsonl"]);
            let found = names(&stores, &root, "{shard}/x.jsonl").await;
            assert_eq!(found, ["7/x.jsonl"]);
            let found = names(&stores, &root, "{total:3}/p-{shard}").await;
            assert_eq!(found, ["012/p-3"]);
            let found = names(&stores, &root, "p-0.jsonl").await;
            assert_eq!(found, ["p-0.jsonl"]);
        }
    }

    #[tokio::test]
    async fn more_matches_than_are_kept_are_counted() {
        let stores = Stores::in_memory();
        for shard in 0..7 {
            put(&stores, &format!("s3://b/{shard}")).await;
        }
        let wanted: Arc<Wanted> = Arc::new(|entry| entry.location.file_name() != "3");
        let pattern = pattern("s3://b/{shard}");
        let found = list_matching(&stores, &pattern, 2, wanted).await.unwrap();
        assert_eq!((found.entries.len(), found.count), (2, 6));
    }

    #[tokio::test]
    async fn on_a_disk_folders_links_and_names_that_are_not_text_are_distinguished() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let local = tempfile::tempdir().unwrap();
        let at = |name: &str| local.path().join("out").join(name);
        for folder in ["1", "3/x.jsonl", "elsewhere", "p-9"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("1/x.jsonl"), "x").unwrap();
        std::fs::write(at("elsewhere/x.jsonl"), "x").unwrap();
        symlink(at("elsewhere"), at("2")).unwrap();
        symlink("..", at("4")).unwrap();
        symlink(at("elsewhere/x.jsonl"), at("p-7")).unwrap();
        symlink("nowhere", at("p-8")).unwrap();
        std::fs::write(at("p-1#2"), "").unwrap();
        let no_text = std::ffi::OsStr::from_bytes(b"p-\xFF");
        std::fs::write(local.path().join("out").join(no_text), "").unwrap();

        let stores = Stores::in_memory();
        let root = format!("file://{}/out", local.path().display());
        let seen = async |template: &str| {
            let pattern = pattern(&format!("{root}/{template}"));
            let found = list_matching(&stores, &pattern, 100, Arc::new(|_| true));
            let mut found = found.await.unwrap().entries;
            found.sort_by_key(|entry| entry.location.clone());
            let expected = |entry: &Match| {
                let uri = entry.location.to_string();
                let name = uri.strip_prefix(&format!("{root}/")).unwrap();
                (name.to_owned(), entry.kind)
            };
            found.iter().map(expected).collect::<Vec<_>>()
        };
        assert_eq!(
            seen("{shard}/x.jsonl").await,
            [
                ("1/x.jsonl".to_owned(), MatchKind::File),
                ("2/x.jsonl".to_owned(), MatchKind::BeyondLink),
                ("3/x.jsonl".to_owned(), MatchKind::Folder),
            ]
        );
        assert_eq!(
            seen("p-{shard}").await,
            [
                ("p-7".to_owned(), MatchKind::File),
                ("p-8".to_owned(), MatchKind::File),
                ("p-9".to_owned(), MatchKind::Folder),
            ]
        );
        std::fs::write(at("file"), "").unwrap();
        let pattern = pattern(&format!("{root}/file/{{shard}}"));
        let error = list_matching(&stores, &pattern, 100, Arc::new(|_| true));
        let error = error.await.unwrap_err().to_string();
        let expected = "/out/file is a file, but a folder is needed";
        assert!(error.contains(expected), "{error}");
    }

    #[tokio::test]
    async fn odd_keys_in_the_folder_do_not_break_the_listing_and_are_not_output() {
        let keys = [
            entry(b"out/p-", 0),
            entry(b"out/p-/", 0),
            entry(b"out/p-//1.jsonl", 5),
            entry(b"out/p-0.jsonl", 0),
            entry(b"out/p-1.jsonl", 5),
            entry(b"out/p-1.jsonl/", 5),
            entry(b"out/p-2.jsonl/", 0),
            entry(b"out/p-3.jsonl\n", 5),
            entry(b"out/p-4\xff.jsonl", 5),
            entry(b"out/p-5.jsonl/../p-6.jsonl", 5),
            entry(b"out//p-7.jsonl", 5),
            folder(b"out/p-8.jsonl"),
            folder(b"out/p-sub"),
        ];
        let (stores, asked) = listing(vec![
            page(&keys[..6], Some("next")),
            Err("Server returned non-2xx status code: 503 Service Unavailable: "),
            page(&keys[6..], None),
        ]);
        let pattern = pattern("s3://b/out/p-{shard}.jsonl");
        let found = list_matching(&stores, &pattern, 100, Arc::new(|_| true));
        let found = found.await.unwrap();
        let seen: Vec<_> = (found.entries.iter())
            .map(|entry| (entry.location.to_string(), entry.size, entry.kind))
            .collect();
        let at = |shard: u32| format!("s3://b/out/p-{shard}.jsonl");
        assert_eq!(
            seen,
            [
                (at(0), 0, MatchKind::File),
                (at(1), 5, MatchKind::File),
                (at(8), 0, MatchKind::Folder)
            ]
        );
        assert_eq!(found.count, 3);
        let asked: Vec<_> = asked.lock().unwrap().drain(..).collect();
        assert!(asked.iter().all(|ask| ask.prefix == "out/p-"), "{asked:?}");
        assert_eq!(asked.len(), 3);
    }

    #[test]
    fn a_listing_begins_with_all_text_before_the_first_number() {
        for (template, prefix) in [
            ("s3://b/o/p-{shard}.jsonl", "o/p-"),
            ("s3://b/o/{shard}/x", "o/"),
            ("s3://b/o/y={total}/p-{shard}", "o/y="),
            ("s3://b/{shard}", ""),
            ("s3://b/o/one.jsonl", "o/one.jsonl"),
        ] {
            assert_eq!(pattern(template).prefix(), prefix);
        }
        let beside = pattern("s3://b/o/y{total}/p-{shard}").beside("_SUCCESS.json");
        assert_eq!(beside.prefix(), "o/y");
    }
}
