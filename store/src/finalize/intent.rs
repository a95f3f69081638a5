//! `_STARTED.json`: the word of a job that it writes to a folder, for as long as its output is not
//! finished. Knows how it is written, read and replaced; who may do so is decided in `claim`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zephyr_crds::pipeline::SinkMode;

use super::output::Output;
use super::owner::shown;
use super::{OutputError, STARTED_NAME};
use crate::storage::{Cause, Location, StorageError, Stores, Versioned, read_versioned};

/// The version this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// The most that is read of an intent. It lists what a job replaces under names that its own
/// template does not make: for a hundred thousand files some twenty megabytes.
pub(super) const MAX_INTENT_BYTES: u64 = 128 << 20;

/// How far the job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum IntentState {
    /// It writes, or nobody could say that it does not any more.
    Running,
    /// It has ended without output.
    Failed,
}

/// A file that an older manifest lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct OldFile {
    /// Its name, from the sink's folder on.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// Its CRC-32C as eight hexadecimal digits, if the manifest has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    /// What the store said of this version of it when the job took the folder; some stores say
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

/// What a job has taken it upon itself to replace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replaces {
    /// Uids of the jobs whose manifest it removes.
    #[serde(default)]
    pub(super) manifests_of: Vec<String>,
    /// What these manifests list under other names than this job's template makes. The others are
    /// found by their names.
    #[serde(default)]
    pub(super) files: Vec<OldFile>,
}

/// The content.
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
    /// An earlier run of the job of this name began here and did not end: what it left may be
    /// removed.
    pub(super) continues: bool,
    /// Uids of jobs that began here before this one and did not finish.
    #[serde(default)]
    pub(super) earlier_uids: Vec<String>,
    /// Paths that earlier runs wrote to in this folder, besides `path`.
    #[serde(default)]
    pub(super) earlier_paths: Vec<String>,
    pub(super) replaces: Replaces,
    /// `spec.storage.uri`, in which the job's coordinators show that they are alive. Earlier
    /// releases did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) storage: Option<String>,
    /// The job that held the folder and had shown no sign of life, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) took_over_from: Option<String>,
}

/// An intent that stands, with what it takes to replace it.
#[derive(Clone, Debug)]
pub(super) struct StandingIntent {
    pub(super) intent: Intent,
    pub(super) found: Versioned,
}

impl Intent {
    /// Whose it is, for people.
    pub(super) fn owner(&self) -> String {
        shown(&format!(
            "job {}/{}, uid {}",
            self.namespace, self.name, self.job_uid
        ))
    }

    /// Whether the job has the namespace and the name of this one.
    pub(super) fn is_called_as(&self, output: &Output) -> bool {
        self.namespace == output.namespace && self.name == output.name
    }

    /// The current version of this document, as written by this job.
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

    /// As it is stored.
    pub(super) fn print(&self, location: &Location) -> Result<Bytes, OutputError> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| {
            let cause = Cause::Other(error.to_string());
            OutputError::Store(StorageError::new("writing", location, cause))
        })?;
        text.push(b'\n');
        Ok(text.into())
    }

    /// As it was stored; otherwise what is wrong with it.
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

/// Where the intent of all who write to this folder stands.
pub(super) fn intent_location(manifest: &Location) -> Location {
    let folder = manifest.parent();
    let path = folder.path().clone().join(STARTED_NAME);
    folder.with_path(path)
}

/// The intent that stands there. What cannot be read is nobody's, and nobody's to remove.
pub(super) async fn read_intent(
    stores: &Stores,
    location: &Location,
) -> Result<Option<StandingIntent>, OutputError> {
    let found = read_versioned(stores, location, MAX_INTENT_BYTES).await;
    let Some(found) = found.map_err(OutputError::Store)? else {
        return Ok(None);
    };
    match Intent::parse(&found.bytes) {
        Ok(intent) => Ok(Some(StandingIntent { intent, found })),
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
    fn an_intent_is_read_as_it_was_written_and_another_version_is_not_guessed_at() {
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
