//! Reads the `_SUCCESS.json` of another job: the owner of a folder's finished output, and the list
//! of its files. This module writes nothing.

use std::collections::BTreeSet;

use serde::Deserialize;
use zephyr_engine::id::JobUid;

use super::OutputError;
use super::intent::OldFile;
use crate::storage::{
    Cause, Location, NamePattern, StorageError, Stores, fetch_range, read_versioned, size_of,
};

/// How many bytes of a manifest are read to find its owner. The owner comes before the list of
/// files, which may be of any length.
const HEAD_BYTES: u64 = 64 << 10;

/// How many bytes of a manifest are read at most to find the files to replace. This is enough for a
/// hundred thousand files with long names.
const MAX_MANIFEST_BYTES: u64 = 128 << 20;

/// How many characters of a foreign text are shown in a message.
const MAX_SHOWN_CHARS: usize = 200;

/// How many characters of a list of names are shown in a message. This is enough for three of the
/// longest keys.
const MAX_NAMES_CHARS: usize = 3_200;

/// The job that wrote a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) job_uid: String,
    #[serde(default)]
    job: String,
}

impl Owner {
    /// Returns the owner's name and uid, for messages.
    pub(super) fn shown(&self) -> String {
        shown(&format!("job {}, uid {}", self.job, self.job_uid))
    }

    /// Whether the job has this namespace and name.
    pub(super) fn is_called(&self, full_name: &str) -> bool {
        self.job == full_name
    }

    /// Returns the namespace of the job, if the job has this name.
    pub(super) fn namespace_of(&self, name: &str) -> Option<String> {
        let (namespace, own) = self.job.split_once('/')?;
        (own == name).then(|| namespace.to_owned())
    }

    pub(super) fn is(&self, job: &JobUid) -> bool {
        self.job_uid == job.as_str()
    }
}

/// Shortens a foreign text, and removes characters that could harm a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_SHOWN_CHARS)
        .collect()
}

/// Like [`shown`], but long enough for a few file names.
pub(super) fn shown_long(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_NAMES_CHARS)
        .collect()
}

/// Reads the owner of the finished output. `None` if there is no finished output. Reads only the
/// beginning of the manifest if that contains the owner.
pub(super) async fn read_owner(
    stores: &Stores,
    manifest: &Location,
) -> Result<Option<Owner>, OutputError> {
    let bytes = read_head(stores, manifest)
        .await
        .map_err(OutputError::Store)?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let problem = match head(&bytes) {
        Ok(owner) => return Ok(Some(owner)),
        Err(problem) => problem,
    };
    match whole(stores, manifest).await.map_err(OutputError::Store)? {
        Some(owner) => Ok(Some(owner)),
        None => Err(unknown(manifest, &problem)),
    }
}

/// Reads the owner from the whole manifest, because somebody may have rewritten the manifest in
/// another order.
async fn whole(stores: &Stores, manifest: &Location) -> Result<Option<Owner>, StorageError> {
    #[derive(Deserialize)]
    struct Whole {
        #[serde(flatten)]
        owner: Owner,
        #[serde(rename = "files")]
        _files: Vec<serde::de::IgnoredAny>,
    }
    let found = match read_versioned(stores, manifest, MAX_MANIFEST_BYTES).await {
        Ok(found) => found,
        Err(error) if error.is_transient() => return Err(error),
        Err(_) => None,
    };
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).ok();
    let whole: Option<Whole> = found.and_then(|found| read(&found.bytes));
    Ok(whole.map(|whole| whole.owner))
}

pub(super) fn unknown(object: &Location, problem: &str) -> OutputError {
    OutputError::Unknown {
        folder: object.parent().to_string(),
        object: object.to_string(),
        problem: shown(problem),
    }
}

async fn read_head(
    stores: &Stores,
    manifest: &Location,
) -> Result<Option<bytes::Bytes>, StorageError> {
    let Some(size) = size_of(stores, manifest).await? else {
        return Ok(None);
    };
    match fetch_range(stores, manifest, size, 0..size.min(HEAD_BYTES)).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the owner from the part before the list of files.
fn head(bytes: &[u8]) -> Result<Owner, String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, _) = text
        .split_once("\"files\"")
        .ok_or("the beginning lists no files")?;
    let head = format!("{}}}", head.trim_end().trim_end_matches(','));
    serde_json::from_str(&head).map_err(|error| format!("the beginning cannot be read: {error}"))
}

/// Reads the files that a manifest lists below its own folder and whose names no pattern matches.
/// Files outside of that folder are not part of this output, so they are ignored and stay.
pub(super) async fn read_old_files(
    stores: &Stores,
    manifest: &Location,
    patterns: &[NamePattern],
) -> Result<BTreeSet<OldFile>, OutputError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Listing {
        files: Vec<Listed>,
        #[serde(default)]
        dead_letters: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        uri: String,
        bytes: u64,
        #[serde(default)]
        crc32c: Option<String>,
    }
    let found = read_versioned(stores, manifest, MAX_MANIFEST_BYTES).await;
    let Some(found) = found.map_err(OutputError::Store)? else {
        return Ok(BTreeSet::new());
    };
    let listing: Listing = serde_json::from_slice(&found.bytes)
        .map_err(|error| unknown(manifest, &format!("the list cannot be read: {error}")))?;
    let folder = manifest.parent();
    let listed = listing.files.into_iter().chain(listing.dead_letters);
    let below = listed.filter_map(|listed| {
        let location = Location::parse(&listed.uri).ok()?;
        let name = name_below(&folder, &location)?;
        let path = location.path();
        let is_found_by_name = patterns
            .iter()
            .any(|pattern| pattern.matches(path.as_ref()));
        (!is_found_by_name).then_some(OldFile {
            name,
            bytes: listed.bytes,
            crc32c: listed.crc32c,
            etag: None,
        })
    });
    Ok(below.collect())
}

/// Returns the name of a file relative to a folder. `None` if the file is not below the folder, or
/// if it cannot be an output file because a segment of its name is hidden or a marker.
fn name_below(folder: &Location, file: &Location) -> Option<String> {
    if folder.store_key() != file.store_key() {
        return None;
    }
    let rest = file.path().prefix_match(folder.path())?;
    let segments: Vec<_> = rest.map(|part| part.as_ref().to_owned()).collect();
    let is_output = |name: &String| !name.starts_with(['_', '.']);
    (!segments.is_empty() && segments.iter().all(is_output)).then(|| segments.join("/"))
}

/// Returns the address of an old file. Somebody else may have changed the names in the claim, so
/// the result is `None` for a name that [`read_old_files`] never returns.
pub(super) fn place_of(folder: &Location, old: &OldFile) -> Option<Location> {
    let location = folder.join(&old.name).ok()?;
    (name_below(folder, &location)? == old.name).then_some(location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{ObjectStoreExt, PutPayload};

    async fn put(stores: &Stores, uri: &str, bytes: &[u8]) {
        let location = Location::parse(uri).unwrap();
        let store = stores.open(&location).unwrap().objects;
        store
            .put(location.path(), PutPayload::from(bytes.to_vec()))
            .await
            .unwrap();
    }

    async fn owner(stores: &Stores) -> Result<Option<Owner>, OutputError> {
        let manifest = Location::parse("s3://o/_SUCCESS.json").unwrap();
        read_owner(stores, &manifest).await
    }

    #[tokio::test]
    async fn a_file_with_only_the_name_of_a_manifest_has_no_owner() {
        for bytes in [
            &b""[..],
            b"{}",
            b"SUCCESS",
            b"\xFF\xFE\"files\"",
            b"{\"files\": []}",
            b"{\"jobUid\": 7, \"files\": []}",
            &vec![b' '; 1 << 20],
        ] {
            let stores = Stores::in_memory();
            assert_eq!(owner(&stores).await.unwrap(), None);
            put(&stores, "s3://o/_SUCCESS.json", bytes).await;
            let error = owner(&stores).await.unwrap_err();
            assert!(
                error.to_string().starts_with("spec.pipeline.sink.files.path: it is not known whose output s3://o/ holds (got s3://o/_SUCCESS.json, of which the beginning "),
                "{error}"
            );
        }
        // Version 1 without a name, compact, and longer than the part that is read.
        let stores = Stores::in_memory();
        let long = format!(
            "{{\"version\":1,\"jobUid\":\"old\",\"files\":[{}]}}",
            "\"x\",".repeat(100_000)
        );
        put(&stores, "s3://o/_SUCCESS.json", long.as_bytes()).await;
        assert_eq!(owner(&stores).await.unwrap().unwrap().job_uid, "old");
        // Rewritten by a program that sorts the names.
        let ordered = b"{\"files\": [{\"bytes\": 1, \"uri\": \"x\"}], \"jobUid\": \"other\"}";
        put(&stores, "s3://o/_SUCCESS.json", ordered).await;
        assert_eq!(owner(&stores).await.unwrap().unwrap().job_uid, "other");
    }

    #[tokio::test]
    async fn only_listed_output_below_the_manifests_folder_counts_as_old_files() {
        let stores = Stores::in_memory();
        let uris = [
            "s3://b/out/part-0",
            "s3://b/out/old.jsonl",
            "s3://b/out/7/x#1 é",
            "s3://b/out/../precious",
            "s3://b/out/_other/x",
            "s3://b/out/.hidden",
            "s3://b/out/_STARTED.json",
            "s3://b/out",
            "s3://b/outer/x",
            "s3://b/precious",
            "s3://c/out/x",
            "gs://b/out/x",
            "file:///b/out/x",
            "out/x",
            "",
        ];
        let files: Vec<_> = uris
            .map(|uri| serde_json::json!({"uri": uri, "bytes": 2}))
            .into();
        let text = serde_json::json!({"jobUid": "old", "files": files}).to_string();
        put(&stores, "s3://b/out/_SUCCESS.json", text.as_bytes()).await;
        let manifest = Location::parse("s3://b/out/_SUCCESS.json").unwrap();
        let pattern = NamePattern::new(Location::parse("s3://b/out/part-{shard}").unwrap());
        let old = read_old_files(&stores, &manifest, std::slice::from_ref(&pattern))
            .await
            .unwrap();
        let names: Vec<&str> = old.iter().map(|old| old.name.as_str()).collect();
        assert_eq!(names, ["7/x#1 é", "old.jsonl"]);
        let folder = manifest.parent();
        for old in &old {
            let place = place_of(&folder, old).unwrap().to_string();
            assert_eq!(place, format!("s3://b/out/{}", old.name));
        }
        for name in [
            "",
            "..",
            "../x",
            "a/../../x",
            "_x",
            "a/.b",
            "/x",
            "a//b",
            "x/",
        ] {
            let old = OldFile {
                name: name.to_owned(),
                bytes: 2,
                crc32c: None,
                etag: None,
            };
            assert_eq!(place_of(&folder, &old), None, "{name}");
        }
    }
}
