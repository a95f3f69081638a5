//! Whose finished output lies where a job is to write: what the `_SUCCESS.json` there says. Writes nothing.
//!
//! Files without that manifest belong to nobody: a job that did not finish left them, and they are written over.

use serde::Deserialize;
use zephyr_engine::id::JobUid;

use super::manifest_location;
use crate::storage::{Cause, Location, StorageError, Stores, fetch_range, size_of};

/// What is read of a manifest: whose it is stands before the list of files, which may be of any length.
const HEAD_BYTES: u64 = 64 << 10;

/// The longest name of an owner that is shown.
const OWNER_CHARS_MAX: usize = 200;

/// Why a job may not write where it is to write.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Another job has finished there.
    #[error(
        "spec.pipeline.sink.files.path: {folder} holds the finished output of another job (got {manifest} of {owner}); write to another folder, or remove that file to have the output replaced"
    )]
    Taken {
        /// Where the files go.
        folder: String,
        /// The other job's manifest.
        manifest: String,
        /// The other job's name and uid.
        owner: String,
    },
    /// There is something of the manifest's name that says of no job that it is its output.
    #[error(
        "spec.pipeline.sink.files.path: nobody can tell whose output {folder} holds (got a {manifest} of which {problem}); write to another folder, or remove that file to have the output replaced"
    )]
    Unknown {
        /// Where the files go.
        folder: String,
        /// What is there.
        manifest: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store failed.
    #[error("spec.pipeline.sink.files.path: {0}")]
    Store(#[source] StorageError),
}

impl OutputError {
    /// Whether the same call may succeed later with nobody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient() || error.cause == Cause::Changed,
            Self::Taken { .. } | Self::Unknown { .. } => false,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    job_uid: String,
    #[serde(default)]
    job: String,
}

/// Fails where another job than this one has finished its output in the sink's folder.
pub async fn check_output(
    stores: &Stores,
    sink_path: &str,
    job: &JobUid,
) -> Result<(), OutputError> {
    let manifest = manifest_location(sink_path).map_err(OutputError::Store)?;
    let Some(bytes) = read_head(stores, &manifest)
        .await
        .map_err(OutputError::Store)?
    else {
        return Ok(());
    };
    let folder = manifest.parent().to_string();
    let manifest = manifest.to_string();
    match head(&bytes) {
        Ok(head) if head.job_uid == job.as_str() => Ok(()),
        Ok(Head { job_uid, job }) => Err(OutputError::Taken {
            folder,
            manifest,
            owner: format!("job {job}, uid {job_uid}")
                .chars()
                .filter(|character| !character.is_control())
                .take(OWNER_CHARS_MAX)
                .collect(),
        }),
        Err(problem) => Err(OutputError::Unknown {
            folder,
            manifest,
            problem,
        }),
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

/// What stands before the list of files.
fn head(bytes: &[u8]) -> Result<Head, String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, _) = text
        .split_once("\"files\"")
        .ok_or("the beginning lists no files")?;
    let head = format!("{}}}", head.trim_end().trim_end_matches(','));
    serde_json::from_str(&head).map_err(|error| format!("the beginning cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finalize::write_manifest;
    use object_store::{ObjectStoreExt, PutPayload};

    fn uid(text: &str) -> JobUid {
        JobUid::parse(text).unwrap()
    }

    async fn put(stores: &Stores, uri: &str, bytes: &[u8]) {
        let location = Location::parse(uri).unwrap();
        let store = stores.open(&location).unwrap().objects;
        store
            .put(location.path(), PutPayload::from(bytes.to_vec()))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn finished_output_is_its_jobs_and_nobody_elses() {
        let local = tempfile::tempdir().unwrap();
        for folder in [
            "s3://o/a".to_owned(),
            format!("file://{}/a", local.path().display()),
        ] {
            let stores = Stores::in_memory();
            let path = format!("{folder}/part-{{shard}}.jsonl");
            check_output(&stores, &path, &uid("new")).await.unwrap();
            // What a job left that never finished.
            if folder.starts_with("s3") {
                put(&stores, &format!("{folder}/part-0.jsonl"), b"1\n").await;
                check_output(&stores, &path, &uid("new")).await.unwrap();
            }
            write_manifest(&stores, &path, &uid("old"), "ns/nightly", "digest", &[])
                .await
                .unwrap();
            check_output(&stores, &path, &uid("old")).await.unwrap();
            let error = check_output(&stores, &path, &uid("new")).await.unwrap_err();
            assert!(!error.is_transient());
            assert_eq!(
                error.to_string(),
                format!(
                    "spec.pipeline.sink.files.path: {folder} holds the finished output of another job (got {folder}/_SUCCESS.json of job ns/nightly, uid old); write to another folder, or remove that file to have the output replaced"
                )
            );
        }
    }

    #[tokio::test]
    async fn what_only_has_the_manifests_name_is_nobodys_and_is_not_written_over() {
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
            put(&stores, "s3://o/_SUCCESS.json", bytes).await;
            let error = check_output(&stores, "s3://o/x-{shard}", &uid("new"))
                .await
                .unwrap_err();
            assert!(
                error.to_string().starts_with("spec.pipeline.sink.files.path: nobody can tell whose output s3://o/ holds (got a s3://o/_SUCCESS.json of which the beginning "),
                "{error}"
            );
        }
        // Version 1 without a name, compact, and longer than what is read of it.
        let stores = Stores::in_memory();
        let long = format!(
            "{{\"version\":1,\"jobUid\":\"old\",\"files\":[{}]}}",
            "\"x\",".repeat(100_000)
        );
        put(&stores, "s3://o/_SUCCESS.json", long.as_bytes()).await;
        check_output(&stores, "s3://o/x", &uid("old"))
            .await
            .unwrap();
        let error = check_output(&stores, "s3://o/x", &uid("new")).await;
        assert!(matches!(error, Err(OutputError::Taken { .. })), "{error:?}");
    }
}
