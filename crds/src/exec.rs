//! The step `exec`, which sends the records of a shard through a command of the user. Starts no
//! command.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::{MAX_SLOTS, WorkersSpec};
use crate::pipeline::{PipelineSpec, StepSpec};
use crate::resources::Role;
use crate::{rules, schema};

/// The largest number of words of a command: the program and its arguments.
pub const MAX_WORDS: usize = 64;
/// The longest word of a command, in characters.
pub const MAX_WORD: usize = 4096;
/// The largest number of environment variables of a command.
pub const MAX_VARIABLES: usize = 64;
/// The longest value of an environment variable, in characters.
pub const MAX_VARIABLE: usize = 4096;
/// The beginning of the names of variables that every command has.
pub const RESERVED_VARIABLES: &str = "ZEPHYR_";

/// A command through which the records of each shard pass.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::kept_command())]
pub struct ExecSpec {
    /// The program and its arguments, such as `[python3, /scripts/clean.py]`; no shell reads them.
    /// The program is a name that is found in `PATH`, or an absolute path. Immutable.
    #[schemars(schema_with = "schema::command")]
    #[x_kube(validation = rules::program())]
    pub command: Vec<String>,
    /// Environment variables of the command, by name. The command also has `PATH`, `ZEPHYR_JOB` and
    /// `ZEPHYR_TOTAL`, and without `reuse` also `ZEPHYR_SHARD`, `ZEPHYR_ATTEMPT` and
    /// `ZEPHYR_COUNTERS`. Immutable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::command_environment")]
    #[x_kube(validation = rules::command_environment())]
    pub env: BTreeMap<String, String>,
    /// How records are written to the command and read from it. jsonl: one JSON value per line; not
    /// set = jsonl. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ExecFormat>,
    /// How many task slots of a worker the command takes, 1 to 256; not set = 1. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    #[x_kube(validation = rules::range("exec.slots", 1, MAX_SLOTS.into()))]
    pub slots: Option<u32>,
    /// If true, the command may end with exit code 0 before it has read all of its input; not set =
    /// false: that is an error. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_ignore_input: Option<bool>,
    /// If true, a task slot keeps one process for many shards: an empty line on its standard input
    /// ends a shard, and the command answers with an empty line; not set = false: each shard starts
    /// a process. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<bool>,
}

/// The largest number of mounts of the workers.
pub const MAX_MOUNTS: usize = 10;
/// Folders of a worker's container in which nothing can be mounted: those of the system and ours.
pub const RESERVED_FOLDERS: [&str; 7] = [
    "/etc", "/proc", "/sys", "/dev", "/tmp", "/zephyr", "/var/run",
];

/// What the path of a mount may be.
pub(crate) fn mount_paths_allowed() -> String {
    format!(
        "an absolute path outside of {}, such as /scripts: only letters, digits, dots, dashes and underscores, and no part begins with a dot",
        RESERVED_FOLDERS.join(", ")
    )
}

/// A read-only folder in the workers' pods, with the files of a `ConfigMap` or a Secret.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::mount())]
pub struct MountSpec {
    /// The folder of the files, such as /scripts.
    #[schemars(length(max = 256))]
    pub path: String,
    /// Name of a `ConfigMap`; each of its keys is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub config_map: Option<String>,
    /// Name of a Secret; each of its keys is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub secret: Option<String>,
}

impl MountSpec {
    /// Whether its path is allowed.
    pub(crate) fn has_allowed_path(&self) -> bool {
        let is_plain = |part: &str| {
            let is_allowed =
                |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed)
        };
        let Some(parts) = self.path.strip_prefix('/') else {
            return false;
        };
        let folder = format!("{}/", self.path);
        let is_reserved = |reserved: &str| folder.starts_with(&format!("{reserved}/"));
        parts.split('/').all(is_plain) && !RESERVED_FOLDERS.iter().any(|one| is_reserved(one))
    }
}

/// How records pass to a command and back.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum ExecFormat {
    // One JSON value a line.
    Jsonl,
}

impl ExecSpec {
    /// The task slots that it takes.
    pub fn effective_slots(&self) -> u32 {
        self.slots.unwrap_or(1)
    }
}

impl StepSpec {
    /// Whether the step begins a new stage.
    pub(crate) fn shuffles(&self) -> bool {
        self.group_by.is_some()
            || self.deduplicate.is_some()
            || self.count.is_some()
            || self.aggregate.is_some()
    }
}

impl PipelineSpec {
    /// The greatest number of task slots that a command takes, and the path of the field that sets
    /// it. `None` if there is no command.
    pub fn slots_of_commands(&self) -> Option<(u32, String)> {
        let mut greatest: Option<(u32, String)> = None;
        for (index, step) in self.steps.iter().enumerate() {
            let Some(exec) = &step.exec else {
                continue;
            };
            let slots = exec.effective_slots();
            if greatest.as_ref().is_none_or(|(most, _)| slots > *most) {
                greatest = Some((slots, format!("spec.pipeline.steps[{index}].exec.slots")));
            }
        }
        greatest
    }
}

impl WorkersSpec {
    /// The task slots of a worker in a cluster, if the manifest determines them.
    pub fn effective_slots(&self) -> Option<u32> {
        if self.slots > 0 {
            return Some(self.slots);
        }
        let resources = self.resources.effective(Role::Worker);
        let cpus = resources.limits.cpu?.parse().ok()?.units();
        let cpus = u32::try_from(cpus).unwrap_or(MAX_SLOTS);
        Some(cpus.clamp(1, MAX_SLOTS))
    }
}
