//! Lists the files that a job reads: expands patterns to a sorted list with sizes and etags. Reads
//! no file.

use std::ops::ControlFlow;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use zephyr_crds::pipeline::SOURCE_FILES;

use crate::storage::local_files::NOT_A_FILE;
use crate::storage::pages::{Entry, list_prefix, on_one_line};
use crate::storage::pattern::Pattern;
use crate::storage::read::is_weak;
use crate::storage::{
    Cause, Location, LocationError, Scheme, StorageError, Stores, local, persist,
};

/// How many files a job reads at most. Each file may be a shard, and the plan is stored in one
/// object.
pub const MAX_INPUT_FILES: usize = 100_000;

/// A file to be read, as it was when the job was planned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputFile {
    /// Its address.
    pub uri: String,
    /// Its size.
    pub size: u64,
    /// A value that changes when the file changes; some stores have none.
    pub etag: Option<String>,
}

impl InputFile {
    /// Whether every read can be bound to the version that was listed. If not, two readers of the
    /// file may read two versions, but each of them reads one whole version.
    pub fn is_pinned(&self) -> bool {
        let is_strong = |tag: &String| !tag.is_empty() && !is_weak(tag);
        self.etag.as_ref().is_some_and(is_strong)
    }
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A pattern is not an address.
    #[error("{field}: {source}")]
    ParseAddress {
        /// The pattern's field.
        field: String,
        /// What is wrong.
        source: LocationError,
    },
    /// A pattern is an address but not a glob.
    #[error(
        "{field}: not a pattern: {problem} (got {pattern:?}); allowed are * ** ? [..] and {{a,b}}"
    )]
    ParsePattern {
        /// The pattern's field.
        field: String,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A pattern matches nothing.
    #[error(
        "{field}: no file matches (got {pattern:?}); set emptyOk: true if that is not a mistake"
    )]
    MatchNothing {
        /// The pattern's field.
        field: String,
        /// The pattern.
        pattern: String,
    },
    /// A path without any pattern names a folder.
    #[error(
        "{field}: is a folder and not a file (got {path:?}); add /* for the files in it, or /** for all files below it"
    )]
    Folder {
        /// The path's field.
        field: String,
        /// The path.
        path: String,
    },
    /// Something that matches cannot be read as a file.
    #[error(
        "{field}: a file that matches {pattern:?} cannot be read: {problem} (got {name}); rename it, or give a pattern that does not match it"
    )]
    Unreadable {
        /// The pattern's field.
        field: String,
        /// The pattern.
        pattern: String,
        /// The file, with unprintable bytes escaped.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There are more files than a job can read.
    #[error(
        "{field}: more than {MAX_INPUT_FILES} files match (got them at {pattern:?}); allowed are {MAX_INPUT_FILES}"
    )]
    MatchTooMany {
        /// The field of all patterns.
        field: String,
        /// The pattern that exceeded the limit.
        pattern: String,
    },
    /// The format of some files is not known.
    #[error("{0}")]
    UnknownFormats(String),
    /// The store did not answer.
    #[error("{field}: {source}")]
    Store {
        /// The pattern's field.
        field: String,
        /// What happened.
        source: StorageError,
    },
}

impl ListError {
    /// Whether the same call may succeed later without any action by a person.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { source, .. } => source.is_transient(),
            Self::ParseAddress { .. }
            | Self::ParsePattern { .. }
            | Self::MatchNothing { .. }
            | Self::Folder { .. }
            | Self::Unreadable { .. }
            | Self::MatchTooMany { .. }
            | Self::UnknownFormats(_) => false,
        }
    }
}

/// Lists the files of the job's source; see [`list_files`].
pub async fn list_inputs(
    stores: &Stores,
    patterns: &[String],
    empty_ok: bool,
) -> Result<Vec<InputFile>, ListError> {
    list_files(stores, SOURCE_FILES, patterns, empty_ok).await
}

/// Lists the files that the patterns match, sorted by address, each once. `field` is that of the
/// files, for errors: `spec.pipeline.source.files`.
pub async fn list_files(
    stores: &Stores,
    field: &str,
    patterns: &[String],
    empty_ok: bool,
) -> Result<Vec<InputFile>, ListError> {
    let paths = format!("{field}.paths");
    let mut files = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let field = format!("{paths}[{index}]");
        let found = files_of(stores, &field, pattern).await?;
        if found.is_empty() && !empty_ok {
            return Err(ListError::MatchNothing {
                field,
                pattern: pattern.clone(),
            });
        }
        files.extend(found);
        if files.len() > MAX_INPUT_FILES {
            return Err(ListError::MatchTooMany {
                field: paths,
                pattern: pattern.clone(),
            });
        }
    }
    files.sort_unstable();
    files.dedup_by(|a, b| a.uri == b.uri);
    Ok(files)
}

/// Returns the files of one path of the job. A path without wildcards names one file; any other
/// path is a pattern.
async fn files_of(stores: &Stores, field: &str, path: &str) -> Result<Vec<InputFile>, ListError> {
    let location = Location::parse_local(path).map_err(|source| ListError::ParseAddress {
        field: field.to_owned(),
        source,
    })?;
    let pattern = Pattern::parse(location.path().as_ref());
    let pattern = pattern.map_err(|problem| ListError::ParsePattern {
        field: field.to_owned(),
        pattern: path.to_owned(),
        problem,
    })?;
    let Some(literal) = pattern.literal() else {
        return match_pattern(stores, &location, &pattern, field, path).await;
    };
    // Without its backslashes the path may be an invalid address, or a different one.
    let key = Path::parse(literal).ok();
    let key = key.filter(|key| key.as_ref() == literal);
    let key = key.ok_or_else(|| ListError::ParsePattern {
        field: field.to_owned(),
        pattern: path.to_owned(),
        problem: "it is not the address of a file".to_owned(),
    })?;
    let location = location.with_path(key);
    let failed = |source| ListError::Store {
        field: field.to_owned(),
        source,
    };
    if let Some(file) = head(stores, &location).await.map_err(failed)? {
        return Ok(vec![file]);
    }
    // This is an error even with emptyOk, because the files in the folder would be left out
    // silently.
    if is_folder(stores, &location).await.map_err(failed)? {
        return Err(ListError::Folder {
            field: field.to_owned(),
            path: path.to_owned(),
        });
    }
    Ok(Vec::new())
}

/// Whether files are below this address.
async fn is_folder(stores: &Stores, location: &Location) -> Result<bool, StorageError> {
    if let Some(path) = location.local_path() {
        return Ok(path.is_dir());
    }
    let mut is_folder = false;
    let below = format!("{}/", location.path());
    list_prefix(stores, location, &below, |_| {
        is_folder = true;
        ControlFlow::Break(())
    })
    .await?;
    Ok(is_folder)
}

async fn head(stores: &Stores, location: &Location) -> Result<Option<InputFile>, StorageError> {
    let store = stores.open(location)?.objects;
    let disk = location.local_path().and_then(|path| path.metadata().ok());
    if disk.is_some_and(|there| !there.is_file() && !there.is_dir()) {
        let cause = Cause::Other(NOT_A_FILE.to_owned());
        return Err(StorageError::new("looking for", location, cause));
    }
    let looked = persist(stores, "looking for", location, || {
        store.head(location.path())
    });
    match looked.await {
        Ok(meta) if location.scheme() == Scheme::Az && meta.size == 0 => {
            let listed = listed_at(stores, location).await?;
            let is_folder = listed.is_some_and(|entry| entry.is_folder);
            Ok((!is_folder).then(|| input_file(location, meta.size, meta.e_tag.as_deref())))
        }
        Ok(meta) => Ok(Some(input_file(location, meta.size, meta.e_tag.as_deref()))),
        Err(error) if error.cause != Cause::NotFound => Err(error),
        Err(_) if location.scheme() == Scheme::File => Ok(None),
        // The answer has no body, so it is the same for a missing bucket.
        Err(error) => match listed_at(stores, location).await {
            Ok(_) => Ok(None),
            Err(StorageError {
                cause: Cause::Denied(detail),
                ..
            }) => {
                let bucket = location.store_key();
                let problem = format!(
                    "there is no such object (404), and whether {bucket} exists is not known, because listing it is denied: {detail}"
                );
                Err(StorageError {
                    cause: Cause::Denied(problem),
                    ..error
                })
            }
            Err(error) => Err(error),
        },
    }
}

/// Returns the entry for exactly this key in a listing. A missing bucket is an error.
async fn listed_at(stores: &Stores, location: &Location) -> Result<Option<Entry>, StorageError> {
    let key = location.path().as_ref();
    let mut found = None;
    list_prefix(stores, location, key, |entry| {
        if entry.key == key.as_bytes() {
            found = Some(entry);
        }
        // In a listing, the key itself comes before all longer keys that begin with it.
        ControlFlow::Break(())
    })
    .await?;
    Ok(found)
}

async fn match_pattern(
    stores: &Stores,
    location: &Location,
    pattern: &Pattern,
    field: &str,
    path: &str,
) -> Result<Vec<InputFile>, ListError> {
    // One file more than allowed shows that there are too many, so no further files are kept.
    let most = MAX_INPUT_FILES + 1;
    let mut files = Vec::new();
    let mut refusal = None;
    let mut take = |entry: &Entry, problem: Option<&str>| {
        match judge(location, pattern, entry, problem) {
            Judgement::PassOver => {}
            Judgement::Read(file) => files.push(file),
            Judgement::Refuse(problem) => {
                refusal = Some(ListError::Unreadable {
                    field: field.to_owned(),
                    pattern: path.to_owned(),
                    name: shown(location, &entry.key),
                    problem,
                });
            }
        }
        if refusal.is_some() || files.len() >= most {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let listed = if location.scheme() == Scheme::File {
        let found = local::find(location, pattern, most).await;
        found.map(|found| {
            let _all = found
                .iter()
                .try_for_each(|file| take(&file.entry, file.problem));
        })
    } else {
        list_prefix(stores, location, pattern.prefix(), |entry| {
            take(&entry, None)
        })
        .await
    };
    listed.map_err(|source| ListError::Store {
        field: field.to_owned(),
        source,
    })?;
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(files),
    }
}

/// What happens to a listed entry.
enum Judgement {
    PassOver,
    Read(InputFile),
    Refuse(String),
}

/// Judges a listed entry. No match is skipped silently: a match that cannot be read is refused.
fn judge(
    location: &Location,
    pattern: &Pattern,
    entry: &Entry,
    problem: Option<&str>,
) -> Judgement {
    if entry.is_marker() {
        return Judgement::PassOver;
    }
    let name = entry.name();
    // A key that ends with a slash and has bytes is a file for a reader of this key, but a folder
    // for most programs.
    let trimmed = name.strip_suffix('/').unwrap_or(&name);
    if !pattern.matches(&name) && !pattern.matches(trimmed) {
        return Judgement::PassOver;
    }
    match (entry.location(location), problem) {
        (Ok(place), None) => Judgement::Read(input_file(&place, entry.size, entry.etag.as_deref())),
        (_, Some(problem)) | (Err(problem), None) => Judgement::Refuse(problem.to_owned()),
    }
}

/// A key in an error message: complete, on one line.
fn shown(location: &Location, key: &[u8]) -> String {
    format!("{}/{}", location.store_key(), on_one_line(key))
}

fn input_file(location: &Location, size: u64, etag: Option<&str>) -> InputFile {
    InputFile {
        uri: location.to_string(),
        size,
        etag: etag.map(|tag| quoted(location.scheme(), tag)),
    }
}

/// Azure lists tags without the quotes that they have everywhere else and that comparisons need.
fn quoted(scheme: Scheme, tag: &str) -> String {
    if scheme == Scheme::Az && !tag.starts_with('"') {
        format!("\"{tag}\"")
    } else {
        tag.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fake_pages::{entry, folder, listing, page};
    use object_store::PutPayload;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    async fn with_files(keys: &[&str]) -> Stores {
        let stores = Stores::in_memory();
        for key in keys {
            let location = Location::parse(&format!("s3://b/{key}")).unwrap();
            stores
                .open(&location)
                .unwrap()
                .objects
                .put(location.path(), PutPayload::from(key.as_bytes().to_vec()))
                .await
                .unwrap();
        }
        stores
    }

    async fn check(patterns: &[&str], expected: &[&str]) {
        let stores = with_files(&[
            "in/a.jsonl",
            "in/b.jsonl.gz",
            "in/c.txt",
            "in/deep/d.jsonl",
            "in/deep/er/e.jsonl",
            "other/a.jsonl",
            "in/é?😀.jsonl",
        ])
        .await;
        let patterns: Vec<String> = patterns.iter().map(|p| format!("s3://b/{p}")).collect();
        let found = list_inputs(&stores, &patterns, false).await.unwrap();
        let found: Vec<&str> = found
            .iter()
            .map(|file| file.uri.strip_prefix("s3://b/").unwrap())
            .collect();
        assert_eq!(found, expected, "{patterns:?}");
    }

    #[tokio::test]
    async fn matches_of_globs_are_as_documented_and_are_listed_sorted_and_once() {
        check(&["in/*.jsonl"], &["in/a.jsonl", "in/é?😀.jsonl"]).await;
        check(
            &["in/**/*.jsonl"],
            &[
                "in/a.jsonl",
                "in/deep/d.jsonl",
                "in/deep/er/e.jsonl",
                "in/é?😀.jsonl",
            ],
        )
        .await;
        check(&["in/{a,c}.{jsonl,txt}"], &["in/a.jsonl", "in/c.txt"]).await;
        check(
            &["in/[a-b].jsonl*", "in/a.jsonl", "*/a.jsonl"],
            &["in/a.jsonl", "in/b.jsonl.gz", "other/a.jsonl"],
        )
        .await;
        check(&["in/?.txt"], &["in/c.txt"]).await;
        check(
            &["**"],
            &[
                "in/a.jsonl",
                "in/b.jsonl.gz",
                "in/c.txt",
                "in/deep/d.jsonl",
                "in/deep/er/e.jsonl",
                "in/é?😀.jsonl",
                "other/a.jsonl",
            ],
        )
        .await;
    }

    #[tokio::test]
    async fn a_file_is_listed_with_its_size_and_etag() {
        let stores = with_files(&["in/a"]).await;
        let found = list_inputs(&stores, &["s3://b/in/a".to_owned()], false)
            .await
            .unwrap();
        assert_eq!(found[0].size, 4);
        assert!(found[0].etag.is_some());
    }

    #[test]
    fn a_listed_tag_is_the_one_that_the_file_itself_has() {
        for (scheme, listed, expected) in [
            (Scheme::Az, "0x8DC1F6", "\"0x8DC1F6\""),
            (Scheme::Az, "\"0x8DC1F6\"", "\"0x8DC1F6\""),
            (Scheme::S3, "\"d41d8c\"", "\"d41d8c\""),
            (Scheme::File, "1a-2b-3c", "1a-2b-3c"),
        ] {
            assert_eq!(quoted(scheme, listed), expected);
        }
    }

    #[tokio::test]
    async fn a_folder_in_place_of_a_file_is_named_with_the_pattern_to_write() {
        let stores = with_files(&["logs/day/a.jsonl", "log"]).await;
        let disk = tempfile::tempdir().unwrap();
        let local = format!("file://{}", disk.path().display());
        for path in ["s3://b/logs/day", "s3://b/logs", &local] {
            for empty_ok in [false, true] {
                let error = list_inputs(&stores, &[path.to_owned()], empty_ok).await;
                assert_eq!(
                    error.unwrap_err().to_string(),
                    format!(
                        "spec.pipeline.source.files.paths[0]: is a folder and not a file (got {path:?}); add /* for the files in it, or /** for all files below it"
                    )
                );
            }
        }
        let missing = list_inputs(&stores, &["s3://b/lo".to_owned()], true).await;
        assert_eq!(missing.unwrap(), []);
    }

    #[tokio::test]
    async fn a_pattern_that_matches_nothing_is_named_unless_that_is_allowed() {
        let stores = with_files(&["in/a"]).await;
        for pattern in ["s3://b/in/*.gz", "s3://b/none", "s3://b/i"] {
            let patterns = vec!["s3://b/in/a".to_owned(), pattern.to_owned()];
            let error = list_inputs(&stores, &patterns, false).await.unwrap_err();
            assert!(
                error.to_string().starts_with(&format!(
                    "spec.pipeline.source.files.paths[1]: no file matches (got {pattern:?})"
                )),
                "{error}"
            );
            assert_eq!(
                list_inputs(&stores, &patterns, true).await.unwrap().len(),
                1
            );
        }
    }

    #[tokio::test]
    async fn a_broken_pattern_is_named() {
        let error = list_inputs(&Stores::in_memory(), &["s3://b/a[".to_owned()], true)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("paths[0]: not a pattern"),
            "{error}"
        );
    }

    /// Returns the result of listing `s3://b`, if its only page has these keys, each with this
    /// number of bytes.
    async fn of_keys(pattern: &str, keys: &[(&[u8], u64)]) -> Result<Vec<String>, String> {
        let entries: Vec<_> = keys.iter().map(|(key, size)| entry(key, *size)).collect();
        let (stores, _) = listing(vec![page(&entries, None)]);
        let found = list_inputs(&stores, &[format!("s3://b/{pattern}")], true).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|file| file.uri).collect())
    }

    #[tokio::test]
    async fn keys_that_cannot_match_are_skipped_even_if_they_are_invalid() {
        let odd: [(&[u8], u64); 9] = [
            (b"m/", 0),
            (b"m/sub/", 0),
            (b"m/f.jsonl/", 0),
            (b"m//x.jsonl", 5),
            (b"m/./x.jsonl", 5),
            (b"m/a\t\n.bak", 5),
            (b"m/\xff\xfe", 5),
            (b"m/_SUCCESS.jsonl", 5),
            (b"m/x.jsonl", 5),
        ];
        for pattern in ["m/*.jsonl", "m/[x-z].jsonl", "{m,n}/x.*"] {
            let found = of_keys(pattern, &odd).await;
            assert_eq!(found, Ok(vec!["s3://b/m/x.jsonl".to_owned()]), "{pattern}");
        }
        let markers = of_keys("m/**", &[(b"m/", 0), (b"m/sub/", 0), (b"m/x", 1)]).await;
        assert_eq!(markers, Ok(vec!["s3://b/m/x".to_owned()]));
    }

    #[tokio::test]
    async fn a_key_that_matches_and_cannot_be_read_is_named() {
        for (pattern, key, name, problem) in [
            (
                "m/**",
                b"m//x.jsonl".as_slice(),
                "s3://b/m//x.jsonl",
                "its name has an empty segment",
            ),
            (
                "m/*/x.jsonl",
                b"m//x.jsonl",
                "s3://b/m//x.jsonl",
                "its name has an empty segment",
            ),
            (
                "m/*",
                b"m/a\tb",
                "s3://b/m/a\\tb",
                "its name has a control character",
            ),
            (
                "m/*",
                b"m/\xffb",
                "s3://b/m/\\xffb",
                "its name is not UTF-8",
            ),
            (
                "m/*.jsonl",
                b"m/f.jsonl/",
                "s3://b/m/f.jsonl/",
                "its name ends with a slash",
            ),
            (
                "m/**",
                b"m/sub/",
                "s3://b/m/sub/",
                "its name ends with a slash",
            ),
        ] {
            let said = of_keys(pattern, &[(b"m/a", 1), (key, 1)])
                .await
                .unwrap_err();
            let expected = format!(
                "spec.pipeline.source.files.paths[0]: a file that matches \"s3://b/{pattern}\" cannot be read: {problem} (got {name}); rename it, or give a pattern that does not match it"
            );
            assert_eq!(said, expected);
        }
    }

    #[tokio::test]
    async fn marker_files_are_read_only_by_their_names() {
        let keys: [(&[u8], u64); 3] = [(b"o/_SUCCESS.json", 1), (b"o/.x.crc", 1), (b"o/p", 1)];
        assert_eq!(
            of_keys("o/*", &keys).await,
            Ok(vec!["s3://b/o/p".to_owned()])
        );
        let named = of_keys("o/_*.json", &keys).await;
        assert_eq!(named, Ok(vec!["s3://b/o/_SUCCESS.json".to_owned()]));
        check_literal("o/_SUCCESS.json").await;
    }

    /// A path without a wildcard names exactly this key.
    async fn check_literal(key: &str) {
        let stores = with_files(&[key]).await;
        let path = key.replace('[', "\\[").replace('*', "\\*");
        let found = list_inputs(&stores, &[format!("s3://b/{path}")], false)
            .await
            .unwrap();
        assert_eq!(found[0].uri, format!("s3://b/{key}"));
    }

    #[tokio::test]
    async fn a_literal_path_names_one_key_whatever_its_characters() {
        for key in ["a b", "x#1", "x%20y", "x]y", "a[1]*", "é"] {
            check_literal(key).await;
        }
        for path in [
            "s3://b/a//x.jsonl",
            "s3://b/a/../x",
            "s3://b/\\.\\./x",
            "s3://b/\\/x",
        ] {
            let error = list_inputs(&Stores::in_memory(), &[path.to_owned()], true).await;
            assert!(!error.unwrap_err().is_transient(), "{path}");
        }
    }

    #[tokio::test]
    async fn at_most_one_file_above_the_limit_is_held_in_memory() {
        let entries: Vec<_> = (0..1_000)
            .map(|n| entry(format!("{n}").as_bytes(), 1))
            .collect();
        let pages = (0..200)
            .map(|n| page(&entries, Some(&n.to_string())))
            .collect();
        let (stores, asked) = listing(pages);
        let error = list_inputs(&stores, &["s3://b/*".to_owned()], false)
            .await
            .unwrap_err();
        assert!(matches!(error, ListError::MatchTooMany { .. }), "{error}");
        assert_eq!(asked.lock().unwrap().len(), MAX_INPUT_FILES / 1_000 + 1);
    }

    #[tokio::test]
    async fn a_literal_path_in_a_missing_bucket_is_an_error_even_if_empty_is_ok() {
        let path = ["s3://b/none".to_owned()];
        let (stores, asked) = listing(vec![Err(
            "Server returned non-2xx status code: 404 Not Found: <Error><Code>NoSuchBucket</Code></Error>",
        )]);
        let error = list_inputs(&stores, &path, true).await.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("bucket \"b\" does not exist (NoSuchBucket)"),
            "{error}"
        );
        let ask = asked.lock().unwrap()[0].clone();
        assert_eq!((ask.prefix.as_str(), ask.token), ("none", None));
        let (stores, _) = listing(vec![page(&[], None)]);
        assert_eq!(list_inputs(&stores, &path, true).await.unwrap(), []);
        let (stores, _) = listing(vec![Err(
            "Server returned non-2xx status code: 403 Forbidden: <Code>AccessDenied</Code>",
        )]);
        let error = list_inputs(&stores, &path, true).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("whether s3://b exists is not known, because listing it is denied"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_folder_of_azure_is_not_a_file() {
        let pages = vec![page(&[folder(b"in"), entry(b"in/x", 3)], None)];
        let objects = Arc::new(InMemory::new());
        objects
            .put(&Path::from("in"), PutPayload::new())
            .await
            .unwrap();
        let (fake, _) = listing(pages);
        let pages = fake
            .open(&Location::parse("s3://b").unwrap())
            .unwrap()
            .pages;
        let store = crate::storage::Store::remote(objects).with_pages(pages);
        let stores = Stores::in_memory().with_store("az://c", store);
        let by_name = list_inputs(&stores, &["az://c/in".to_owned()], true).await;
        let error = by_name.unwrap_err();
        assert!(matches!(error, ListError::Folder { .. }), "{error}");
        let found = list_inputs(&stores, &["az://c/**".to_owned()], true)
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
    }

    #[tokio::test]
    async fn local_files_are_listed_and_folders_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x 1.txt"), "x").unwrap();
        std::fs::create_dir(folder.path().join("y.txt")).unwrap();
        let root = folder.path().to_str().unwrap();
        for pattern in [format!("{root}/*.txt"), format!("file://{root}/x 1.txt")] {
            let found = list_inputs(
                &Stores::new(std::collections::BTreeMap::new()),
                &[pattern],
                false,
            )
            .await
            .unwrap();
            assert_eq!(
                found.iter().map(|f| f.uri.clone()).collect::<Vec<_>>(),
                [format!("file://{root}/x 1.txt")]
            );
        }
        let error = list_inputs(
            &Stores::new(std::collections::BTreeMap::new()),
            &[format!("{root}/y.txt")],
            false,
        )
        .await
        .unwrap_err();
        assert!(matches!(error, ListError::Folder { .. }), "{error}");
    }
}
