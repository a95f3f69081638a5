//! The job as one generation runs it. The operator (or the CLI) writes it once; coordinator and
//! workers read it. Reads no file: callers pass the text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::job::ZephyrJobSpec;
use crate::structural::unknown_in_spec;

/// The only version that this release writes and reads.
pub const FROZEN_JOB_VERSION: u32 = 1;

/// The content of the key `job.json` in a generation's root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenJob {
    /// Version of this document: [`FROZEN_JOB_VERSION`].
    pub version: u32,
    /// Namespace of the job.
    pub namespace: String,
    /// Name of the job, for people. The job's identity is `uid`.
    pub name: String,
    /// Uid of the `ZephyrJob`.
    pub uid: String,
    /// The generation that these settings belong to, counted from 1.
    pub generation: u32,
    /// The accepted spec, with defaults filled in.
    pub spec: ZephyrJobSpec,
    /// Settings of the object store, by the store's own keys (`aws_endpoint`, `aws_region`,
    /// `aws_allow_http`). Never credentials.
    #[serde(default)]
    pub storage_options: BTreeMap<String, String>,
    /// The address at which workers connect to the coordinator.
    pub coordinator_address: String,
    /// The latest request to run the failed job again. Absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<FrozenRestart>,
}

/// A request to run a failed job again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenRestart {
    /// `spec.restart`.
    pub token: String,
    /// The first generation that ran because of this request. It identifies the request.
    pub generation: u32,
}

/// The fields that the document has in every release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenHeader {
    /// Version of the document.
    pub version: u64,
    /// Uid of the `ZephyrJob`.
    pub uid: String,
    /// The address at which workers connect to the coordinator.
    pub coordinator_address: String,
}

/// The header of a document that any release wrote.
pub fn header(text: &str) -> Result<FrozenHeader, FrozenJobError> {
    serde_json::from_str(text).map_err(FrozenJobError::Parse)
}

/// The fields of the document's spec that this release does not know.
pub fn unknown_fields(text: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    document
        .get("spec")
        .map(unknown_in_spec)
        .unwrap_or_default()
}

/// Why a frozen job could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrozenJobError {
    /// The text is not JSON, or not a frozen job.
    #[error("parse job.json: {0}")]
    Parse(#[source] serde_json::Error),
    /// Another version of the document, which another release wrote.
    #[error(
        "job.json: version {found} is not supported; this release reads version {FROZEN_JOB_VERSION}"
    )]
    Version {
        /// The version that the document names.
        found: u64,
    },
    /// A field of the pipeline or the storage that this release does not know.
    #[error(
        "job.json: {field}: this release does not know the field; run the job with the image of the \
         release that wrote job.json"
    )]
    Unknown {
        /// Its path, from `spec`.
        field: String,
    },
    /// A field that every generation carries is empty.
    #[error("job.json: {field} is missing; every generation carries it")]
    Missing {
        /// Its name in the document.
        field: &'static str,
    },
    /// The job cannot be written as JSON.
    #[error("write job.json: {0}")]
    Write(#[source] serde_json::Error),
}

impl FrozenJob {
    /// Reads the document; checks the version before anything else.
    pub fn from_json(text: &str) -> Result<Self, FrozenJobError> {
        #[derive(Deserialize)]
        struct Header {
            version: u64,
        }
        let header: Header = serde_json::from_str(text).map_err(FrozenJobError::Parse)?;
        if header.version != u64::from(FROZEN_JOB_VERSION) {
            return Err(FrozenJobError::Version {
                found: header.version,
            });
        }
        // An unknown field in the pipeline or the storage is an error. It may be a step of a newer
        // release, and without that step the output would be wrong. Elsewhere an unknown field of
        // another release is ignored.
        let unknown = unknown_fields(text).into_iter().find(|field| {
            ["spec.pipeline", "spec.storage"]
                .iter()
                .any(|part| field.starts_with(part))
        });
        if let Some(field) = unknown {
            return Err(FrozenJobError::Unknown { field });
        }
        let job: Self = serde_json::from_str(text).map_err(FrozenJobError::Parse)?;
        for (field, value) in [
            ("namespace", &job.namespace),
            ("name", &job.name),
            ("uid", &job.uid),
            ("coordinatorAddress", &job.coordinator_address),
        ] {
            if value.is_empty() {
                return Err(FrozenJobError::Missing { field });
            }
        }
        if job.generation == 0 {
            return Err(FrozenJobError::Missing {
                field: "generation",
            });
        }
        Ok(job)
    }

    /// The document as compact JSON.
    pub fn to_json(&self) -> Result<String, FrozenJobError> {
        serde_json::to_string(self).map_err(FrozenJobError::Write)
    }
}
