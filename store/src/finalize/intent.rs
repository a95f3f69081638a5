//! `_STARTED.json`, the claim with which a job holds a folder until its output is finished. This
//! module encodes, reads and replaces the claim. `claim` decides which job may do so.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zephyr_crds::pipeline::SinkMode;

use super::output::Output;
use super::owner::shown;
use super::{OutputError, STARTED_NAME};
use crate::storage::{Cause, Location, StorageError, Stores, Versioned, read_versioned};

/// The version that this program writes. It reads no other version.
const VERSION: u32 = 1;

/// How many bytes a claim that is read may have. A claim lists the replaced files whose names the
/// job's own path does not produce. For a hundred thousand files, this list has about twenty
/// megabytes.
pub(super) const MAX_INTENT_BYTES: u64 = 128 << 20;

/// The state of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum IntentState {
    /// The job is writing, or it is not known whether it has stopped.
    Running,
    /// The job has ended without output.
    Failed,
}

/// A file that an older manifest lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct OldFile {
    /// The file's name, relative to the sink's folder.
    pub(super) name: String,
    /// The file's size in bytes.
    pub(super) bytes: u64,
    /// The file's CRC-32C as eight hexadecimal digits, if the manifest has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    /// The store's version of the file at the time when the job claimed the folder. Some stores
    /// have no versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

/// What a job has claimed to replace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replaces {
    /// The uids of the jobs whose manifests this job removes.
    #[serde(default)]
    pub(super) manifests_of: Vec<String>,
    /// The files that these manifests list under names that this job's path does not produce. The
    /// other files are found by their names.
    #[serde(default)]
    pub(super) files: Vec<OldFile>,
}

/// The content of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Intent {
    pub(super) version: u32,
    pub(super) job_uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) state: IntentState,
    /// `spec.pipeline.sink.files.mode`.
    pub(super) mode: SinkMode,
    /// `spec.pipeline.sink.files.path`.
    pub(super) path: String,
    /// Whether an earlier run of the job with this name began here and did not end. If so, its
    /// files may be removed.
    pub(super) continues: bool,
    /// The uids of the jobs that began in this folder before this job and did not finish.
    #[serde(default)]
    pub(super) earlier_uids: Vec<String>,
    /// The paths other than `path` to which earlier runs wrote in this folder.
    #[serde(default)]
    pub(super) earlier_paths: Vec<String>,
    pub(super) replaces: Replaces,
    /// `spec.storage.uri`, where the job's coordinators show that they are alive. Earlier releases
    /// did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) storage: Option<String>,
    /// The job that held the folder and no longer ran, for users who read the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) took_over_from: Option<String>,
}

/// A claim that exists, with the version that is needed to replace it.
#[derive(Clone, Debug)]
pub(super) struct StoredIntent {
    pub(super) intent: Intent,
    pub(super) found: Versioned,
}

impl Intent {
    /// Returns the name and the uid of the job that wrote the claim, for messages.
    pub(super) fn owner(&self) -> String {
        shown(&format!(
            "job {}/{}, uid {}",
            self.namespace, self.name, self.job_uid
        ))
    }

    /// Whether the claim's job has the same namespace and name as the job of `output`.
    pub(super) fn is_called_as(&self, output: &Output) -> bool {
        self.namespace == output.namespace && self.name == output.name
    }

    /// Makes a claim in the current version for this job.
    pub(super) fn new(uid: &str, namespace: &str, name: &str, mode: SinkMode, path: &str) -> Self {
        Self {
            version: VERSION,
            job_uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            state: IntentState::Running,
            mode,
            path: path.to_owned(),
            continues: false,
            earlier_uids: Vec::new(),
            earlier_paths: Vec::new(),
            replaces: Replaces::default(),
            storage: None,
            took_over_from: None,
        }
    }

    /// Returns the bytes that are stored.
    pub(super) fn print(&self, location: &Location) -> Result<Bytes, OutputError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| {
            let cause = Cause::Other(error.to_string());
            OutputError::Store(StorageError::new("writing", location, cause))
        })?;
        text.push(b'\n');
        Ok(text.into())
    }

    /// Reads the stored form. The error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let unreadable = |error: serde_json::Error| format!("the text cannot be read: {error}");
        let header: Header = serde_json::from_slice(bytes).map_err(unreadable)?;
        if header.version != VERSION {
            return Err(format!(
                "the version is {} and not {VERSION}",
                header.version
            ));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }
}

/// Returns the location of the claim. It is the same for all jobs that write to this folder.
pub(super) fn intent_location(manifest: &Location) -> Location {
    let folder = manifest.parent();
    let path = folder.path().clone().join(STARTED_NAME);
    folder.with_path(path)
}

/// Reads the existing claim. If a claim cannot be parsed, it belongs to no job, and no job may
/// remove it.
pub(super) async fn read_intent(
    stores: &Stores,
    location: &Location,
) -> Result<Option<StoredIntent>, OutputError> {
    let found = read_versioned(stores, location, MAX_INTENT_BYTES).await;
    let Some(found) = found.map_err(OutputError::Store)? else {
        return Ok(None);
    };
    match Intent::parse(&found.bytes) {
        Ok(intent) => Ok(Some(StoredIntent { intent, found })),
        Err(problem) => Err(OutputError::Unknown {
            folder: location.parent().to_string(),
            object: location.to_string(),
            problem: shown(&problem),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_read_as_it_was_written_and_another_version_is_refused() {
        let mut intent = Intent::new("uid", "ns", "name", SinkMode::Overwrite, "s3://o/{shard}");
        intent.replaces.files.push(OldFile {
            name: "a b/é".to_owned(),
            bytes: 7,
            crc32c: None,
            etag: Some("\"e\"".to_owned()),
        });
        let location = Location::parse("s3://o/_STARTED.json").unwrap();
        let text = intent.print(&location).unwrap();
        assert_eq!(Intent::parse(&text), Ok(intent));
        let text = String::from_utf8(text.to_vec()).unwrap();
        for (text, expected) in [
            (
                text.replace("\"version\": 1", "\"version\": 2"),
                "the version is 2 and not 1",
            ),
            (
                text.replace("Overwrite", "Append"),
                "the text cannot be read: unknown variant",
            ),
            (
                text[..text.len() / 2].to_owned(),
                "the text cannot be read: ",
            ),
            (String::new(), "the text cannot be read: "),
        ] {
            let problem = Intent::parse(text.as_bytes()).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
