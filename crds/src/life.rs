//! The fields of the spec that pause a job, end it early and continue a job of another cluster.
//! What follows from them is decided by the operator.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{DurationBounds, DurationText};
use crate::rules;

/// Bounds of suspendPolicy.drainTimeout. A day is longer than any task should run.
pub const DRAIN_TIMEOUT: DurationBounds = DurationBounds {
    least: "1s",
    greatest: "24h",
};

/// The largest number of characters of `spec.cancel.reason`, so that it fits into a condition with
/// the rest of its sentence.
pub const MAX_CANCEL_REASON: usize = 256;

/// The largest number of characters of `spec.restart`, so that messages can show it.
pub const MAX_RESTART: usize = 128;

/// What happens to running tasks when the job is suspended.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspendPolicy {
    /// `Drain`: running tasks may end, and no other task starts. `Immediate`: running tasks are
    /// stopped, and run again after the job is resumed. Not set = `Drain`. A change applies at
    /// once.
    #[serde(default)]
    pub mode: SuspendMode,
    /// With `Drain`: how long running tasks may take, 1s to 24h, such as 10m; not set = 2m. Tasks
    /// that still run after that are stopped, and run again after the job is resumed. A change
    /// applies at once.
    #[serde(default = "drain_timeout")]
    #[x_kube(validation = rules::duration("spec.suspendPolicy.drainTimeout", DRAIN_TIMEOUT))]
    pub drain_timeout: DurationText,
}

impl Default for SuspendPolicy {
    fn default() -> Self {
        Self {
            mode: SuspendMode::default(),
            drain_timeout: drain_timeout(),
        }
    }
}

impl SuspendPolicy {
    /// Whether nothing differs from the default.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

fn drain_timeout() -> DurationText {
    DurationText::new("2m")
}

/// Whether running tasks of a suspended job may end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum SuspendMode {
    // Running tasks may end.
    #[default]
    Drain,
    // Running tasks are stopped.
    Immediate,
}

/// Ends the job early. It can be removed only in the update that restarts the job.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::removal_is_graceful(), validation = rules::removal_is_final())]
pub struct CancelSpec {
    /// `Graceful`: the coordinator ends the job, which releases the folder of the output and
    /// removes intermediate data as spec.storage.retain says; after 4 minutes the job ends without
    /// it. `Immediate`: the job ends at once. Not set = `Graceful`. A change applies at once.
    #[serde(default)]
    pub mode: CancelMode,
    /// Why the job is cancelled, for people, at most 256 characters. The job's conditions show it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub reason: String,
    /// Whether the complete files of the output stay: `true` or not set = they stay, without
    /// `_SUCCESS.json`; `false` = the coordinator removes those that the job has written, and its
    /// dead letters. `false` needs `mode: Graceful`, and such a job cannot be restarted. Immutable.
    #[serde(default = "keep_output")]
    pub keep_output: bool,
}

impl Default for CancelSpec {
    fn default() -> Self {
        Self {
            mode: CancelMode::default(),
            reason: String::new(),
            keep_output: keep_output(),
        }
    }
}

fn keep_output() -> bool {
    true
}

/// Who ends a cancelled job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum CancelMode {
    // The coordinator ends the job.
    #[default]
    Graceful,
    // The operator ends the job without the coordinator.
    Immediate,
}

/// Names a suspended job of this or another cluster, which this job continues.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFrom {
    /// The uid of the job whose folder under spec.storage.uri is continued, as
    /// `kubectl zephyr export` prints it: groups of 8, 4, 4, 4 and 12 lowercase hexadecimal digits.
    #[schemars(length(max = 36))]
    #[x_kube(validation = rules::restore_job())]
    pub job: String,
    /// The digest of the exported archive in that folder: 32 lowercase hexadecimal digits.
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::restore_digest())]
    pub digest: String,
}
