//! Which files a job reads: globs to a sorted list with sizes and etags. Reads no file.

use futures::TryStreamExt;
use globset::GlobBuilder;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::storage::{Cause, Location, LocationError, Scheme, StorageError, Stores, persist};

/// The most files a job reads: each is a shard, and the plan is held in one object.
pub const INPUT_FILES_MAX: usize = 100_000;

/// A file to be read, as it was when the job was planned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputFile {
    /// Its address.
    pub uri: String,
    /// Its size.
    pub size: u64,
    /// What changes when the file changes; some stores have none.
    pub etag: Option<String>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// A pattern is not an address.
    #[error("spec.pipeline.source.files.paths[{index}]: {source}")]
    ParseAddress {
        /// The pattern's position.
        index: usize,
        /// What is wrong.
        source: LocationError,
    },
    /// A pattern is an address but not a glob.
    #[error(
        "spec.pipeline.source.files.paths[{index}]: not a pattern: {problem} (got {pattern:?}); allowed are * ** ? [..] and {{a,b}}"
    )]
    ParsePattern {
        /// The pattern's position.
        index: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// A pattern matches nothing.
    #[error(
        "spec.pipeline.source.files.paths[{index}]: no file matches (got {pattern:?}); set emptyOk: true where that is no mistake"
    )]
    MatchNothing {
        /// The pattern's position.
        index: usize,
        /// The pattern.
        pattern: String,
    },
    /// More files than a job can read.
    #[error(
        "spec.pipeline.source.files.paths: more than {INPUT_FILES_MAX} files match (got them at {pattern:?}); allowed are {INPUT_FILES_MAX}"
    )]
    MatchTooMany {
        /// The pattern that passed the limit.
        pattern: String,
    },
    /// The store did not answer.
    #[error("spec.pipeline.source.files.paths[{index}]: {source}")]
    Store {
        /// The pattern's position.
        index: usize,
        /// What happened.
        source: StorageError,
    },
}

impl ListError {
    /// Whether the same call may succeed later with nobody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { source, .. } => source.is_transient(),
            Self::ParseAddress { .. }
            | Self::ParsePattern { .. }
            | Self::MatchNothing { .. }
            | Self::MatchTooMany { .. } => false,
        }
    }
}

/// Lists the files that the patterns match, sorted by address, each once.
pub async fn list_inputs(
    stores: &Stores,
    patterns: &[String],
    empty_ok: bool,
) -> Result<Vec<InputFile>, ListError> {
    let mut files = Vec::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let location = Location::parse_local(pattern)
            .map_err(|source| ListError::ParseAddress { index, source })?;
        let found = if is_pattern(location.path().as_ref()) {
            match_pattern(stores, &location, index, pattern).await?
        } else {
            head(stores, &location)
                .await
                .map_err(|source| ListError::Store { index, source })?
                .into_iter()
                .collect()
        };
        if found.is_empty() && !empty_ok {
            return Err(ListError::MatchNothing {
                index,
                pattern: pattern.clone(),
            });
        }
        files.extend(found);
        if files.len() > INPUT_FILES_MAX {
            return Err(ListError::MatchTooMany {
                pattern: pattern.clone(),
            });
        }
    }
    files.sort_unstable();
    files.dedup_by(|a, b| a.uri == b.uri);
    Ok(files)
}

async fn head(stores: &Stores, location: &Location) -> Result<Option<InputFile>, StorageError> {
    let store = stores.open(location)?.objects;
    match persist(stores, "looking for", location, || {
        store.head(location.path())
    })
    .await
    {
        // A local folder has a size too, but no records.
        Ok(_) if location.local_path().is_some_and(|path| path.is_dir()) => Ok(None),
        Ok(meta) => Ok(Some(input_file(location, &meta))),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn match_pattern(
    stores: &Stores,
    location: &Location,
    index: usize,
    pattern: &str,
) -> Result<Vec<InputFile>, ListError> {
    let glob = GlobBuilder::new(location.path().as_ref())
        .literal_separator(true)
        .build();
    let glob = glob.map_err(|error| ListError::ParsePattern {
        index,
        pattern: pattern.to_owned(),
        problem: error.kind().to_string(),
    })?;
    let glob = glob.compile_matcher();
    let folder = location.with_path(literal_folder(location.path()));
    let in_store = |source| ListError::Store { index, source };
    let store = stores.open(location).map_err(in_store)?.objects;
    let found = persist(stores, "listing", &folder, || async {
        let listed = store
            .list(Some(folder.path()))
            .try_filter(|meta| std::future::ready(glob.is_match(meta.location.as_ref())));
        // One more than allowed tells that there are too many, and no more are held.
        let mut listed = std::pin::pin!(listed);
        let mut found = Vec::new();
        while let Some(meta) = listed.try_next().await? {
            found.push(input_file(location, &meta));
            if found.len() > INPUT_FILES_MAX {
                break;
            }
        }
        Ok(found)
    });
    found.await.map_err(in_store)
}

fn input_file(location: &Location, meta: &ObjectMeta) -> InputFile {
    InputFile {
        uri: location.with_path(meta.location.clone()).to_string(),
        size: meta.size,
        etag: meta
            .e_tag
            .as_deref()
            .map(|tag| quoted(location.scheme(), tag)),
    }
}

/// Azure lists tags without the quotes that they have everywhere else, and by which they are compared.
fn quoted(scheme: Scheme, tag: &str) -> String {
    if scheme == Scheme::Az && !tag.starts_with('"') {
        format!("\"{tag}\"")
    } else {
        tag.to_owned()
    }
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '[', '{', '\\'])
}

/// The folder that all matches lie in: the segments before the first that has a glob in it.
fn literal_folder(path: &Path) -> Path {
    let literal: Vec<&str> = path
        .as_ref()
        .split('/')
        .take_while(|segment| !is_pattern(segment))
        .collect();
    Path::parse(literal.join("/")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::PutPayload;

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
    async fn globs_match_as_documented_and_come_sorted_and_once() {
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
        check(&["in//{a,c}.{jsonl,txt}"], &["in/a.jsonl", "in/c.txt"]).await;
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
    async fn a_file_comes_with_its_size_and_etag() {
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
    async fn a_pattern_that_matches_nothing_is_named_unless_that_is_allowed() {
        let stores = with_files(&["in/a"]).await;
        for pattern in ["s3://b/in/*.gz", "s3://b/none", "s3://b/in"] {
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
        assert!(matches!(error, ListError::MatchNothing { .. }), "{error}");
    }
}
