//! What the operator reports about a job. The size is bounded: no list here grows with workers or
//! shards.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::conditions::{Condition, ConditionStatus, ConditionType};

/// The largest number of generations that status keeps.
pub const MAX_GENERATIONS_SHOWN: usize = 10;
/// The largest number of transitions that status keeps.
pub const MAX_HISTORY_SHOWN: usize = 20;
/// The largest number of characters of a message in `generations` and `history`, so that the whole
/// status stays below 8 KiB.
pub const MAX_HISTORY_MESSAGE: usize = 160;

/// The observed state of a job. Written by the operator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ZephyrJobStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// A summary of the conditions, for people. Programs should read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Number of the generation that runs the job, from 1. A generation is one set of Kubernetes
    /// objects. The number is written before any of these objects exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9999))]
    pub generation: Option<u32>,
    /// The current conditions, each with its reason.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "known"
    )]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// When the first generation was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The time since which the job waits for its turn to start. Absent once its turn has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_since: Option<Time>,
    /// When the running generation began to drain: the job is to be suspended, and its running
    /// tasks may end first. spec.suspendPolicy.drainTimeout counts from this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining_since: Option<Time>,
    /// Since this time the job runs no generation, because it is suspended. The generation that the
    /// field `generation` names begins when the job is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_since: Option<Time>,
    /// The time since which the job starts: one of its generations has begun, and no coordinator
    /// was ever ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_since: Option<Time>,
    /// Seconds that the job took to start before `startingSince`. spec.startDeadlineSeconds limits
    /// the sum of both.
    #[serde(default, skip_serializing_if = "is_no_time")]
    #[schemars(range(min = 0))]
    pub starting_seconds: i64,
    /// The time since which the job is active: its coordinator was ready, and the job was neither
    /// suspended nor waiting for its turn since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since: Option<Time>,
    /// Seconds that the job was active before `activeSince`. spec.activeDeadlineSeconds limits the
    /// sum of both.
    #[serde(default, skip_serializing_if = "is_no_time")]
    #[schemars(range(min = 0))]
    pub active_seconds: i64,
    /// The latest value of spec.restart, and the generation that began because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartStatus>,
    /// How often the job was suspended while a generation ran, since its latest restart. These
    /// generations do not count towards maxGenerations.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 9999))]
    pub suspensions: u32,
    /// How often the job gave its place among the starting jobs back since its latest restart,
    /// because no node had room for its pods. The generations that ended in this way do not count
    /// towards maxGenerations.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 9999))]
    pub places_given_back: u32,
    /// How many generation numbers the job left out since its latest restart, because objects of
    /// others have the names that these generations need. These numbers do not count towards
    /// maxGenerations.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 9999))]
    pub skipped_numbers: u32,
    /// When the job began to work: a worker was alive, or the plan needed none. From then on the
    /// job does not give its place back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_since: Option<Time>,
    /// When the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The running stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageStatus>,
    /// The stages in the order of the plan. If there are more than 10, complete stages are left out
    /// first, and then the last ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stages: Vec<StageStatus>,
    /// Share of all tasks that are complete, such as 63%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub progress: Option<String>,
    /// Number of records and bytes so far, of complete tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordCounts>,
    /// The counters that the commands of complete tasks wrote into their files `ZEPHYR_COUNTERS`:
    /// the total of each, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub counters: Vec<Counter>,
    /// Number of workers in each state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkerCounts>,
    /// The label selector of the workers' pods. The scale subresource shows it to autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub selector: Option<String>,
    /// Since this time no worker is alive. noWorkersTimeout counts from it. A restart of the
    /// operator does not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_workers_dead_since: Option<Time>,
    /// The coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<CoordinatorStatus>,
    /// The time until which the operator waits before it starts the next generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_until: Option<Time>,
    /// Number of consecutive generations in which no task was completed. The job fails with reason
    /// `NoProgress` after three that end in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9999))]
    pub generations_without_progress: Option<u32>,
    /// The last 10 generations, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["generation"]))]
    pub generations: Vec<GenerationRecord>,
    /// The last 20 transitions, the oldest first.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "known"
    )]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<TransitionRecord>,
    /// Until this time the coordinator's pod of the failed job stays, so that its log can be read;
    /// see spec.failedPodsTTL. Absent if no pod stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_kept_until: Option<Time>,
    /// What the job wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<OutputsStatus>,
    /// If the job failed because of a task: the attempt that failed last, and what it logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureStatus>,
}

/// Reads a list and leaves out each entry that this release does not understand, so that the rest
/// of status can be read. Such an entry has a value of another release, such as a new reason.
/// Conditions that are left out are no loss, because the operator computes all conditions again.
fn known<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let entries = Vec::<Value>::deserialize(deserializer)?;
    let understood = entries.into_iter().map(serde_json::from_value);
    Ok(understood.filter_map(Result::ok).collect())
}

/// The value, if this release understands it.
fn if_known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

impl ZephyrJobStatus {
    /// Whether the job has reached its final state.
    pub fn is_final(&self) -> bool {
        self.phase.is_some_and(Phase::is_final)
    }

    /// Whether status has all three parts that say that the job has ended: the phase, the condition
    /// and the time. Somebody may have removed one of them.
    pub fn is_whole_end(&self) -> bool {
        let is_said = self.conditions.iter().any(|condition| {
            condition.r#type == ConditionType::Finished && condition.status == ConditionStatus::True
        });
        self.is_final() && is_said && self.completion_time.is_some()
    }

    /// Whether a coordinator of the job was ever ready, as far as status says.
    pub fn has_been_active(&self) -> bool {
        self.active_since.is_some() || self.active_seconds > 0
    }

    /// Whether a generation was ever started. Until then each field of the spec may be changed.
    pub fn has_begun(&self) -> bool {
        let of_history = self
            .history
            .iter()
            .any(|record| record.generation.is_some());
        self.generation.is_some()
            || self.start_time.is_some()
            || !self.generations.is_empty()
            || of_history
    }

    /// The condition that says why the spec was refused, if the job failed before a generation was
    /// started. `None` for every other job.
    pub fn refusal(&self) -> Option<&Condition> {
        let has_not_begun = self.phase == Some(Phase::Failed) && !self.has_begun();
        let mut conditions = self.conditions.iter().filter(|_| has_not_begun);
        conditions.find(|condition| {
            condition.r#type == ConditionType::Accepted
                && condition.status == ConditionStatus::False
        })
    }
}

/// The latest value of spec.restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestartStatus {
    /// The value.
    #[schemars(length(max = 128))]
    pub token: String,
    /// The first generation that ran because of a restart. Absent if the job was not restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9999))]
    pub generation: Option<u32>,
}

/// The phase of the job as one word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum Phase {
    // No generation runs.
    Pending,
    // The coordinator runs, and no worker is connected.
    WaitingForWorkers,
    // Tasks run.
    Running,
    // A generation was lost, and the next one starts.
    Restarting,
    // All tasks are done; final files are completed and data are removed.
    Succeeding,
    // The job is to be suspended; running tasks end, or pods still exist.
    Suspending,
    // No pod of the job exists, because it is suspended.
    Suspended,
    // The output is complete.
    Succeeded,
    // The job has ended without its output.
    Failed,
}

impl Phase {
    /// The phase as it is written in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::WaitingForWorkers => "WaitingForWorkers",
            Self::Running => "Running",
            Self::Restarting => "Restarting",
            Self::Succeeding => "Succeeding",
            Self::Suspending => "Suspending",
            Self::Suspended => "Suspended",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Whether this phase is final.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// Tasks of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Position, number of stages and kind of the stage, such as 2/4 reduce.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Number of complete tasks.
    #[schemars(range(min = 0))]
    pub done: i64,
    /// Number of tasks of the stage.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Number of tasks that run now.
    #[schemars(range(min = 0))]
    pub running: i64,
    /// Number of tasks that have failed at least once and are not complete.
    #[schemars(range(min = 0))]
    pub failed: i64,
    /// done/total, such as 12/40, as printed by kubectl get.
    #[schemars(length(max = 32))]
    pub summary: String,
}

impl StageStatus {
    /// The stage with its printed summary.
    pub fn new(name: &str, done: i64, total: i64, running: i64, failed: i64) -> Self {
        let name = name.chars().take(MAX_STAGE_NAME).collect();
        Self {
            name,
            done,
            total,
            running,
            failed,
            summary: format!("{done}/{total}"),
        }
    }
}

/// Records and bytes of committed tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordCounts {
    /// Records read from the source.
    #[schemars(range(min = 0))]
    pub r#in: i64,
    /// Records written by the sink.
    #[schemars(range(min = 0))]
    pub out: i64,
    /// Bytes read from the source.
    #[schemars(range(min = 0))]
    pub bytes_in: i64,
    /// Bytes written by the sink.
    #[schemars(range(min = 0))]
    pub bytes_out: i64,
    /// Bad records that were skipped, by step. Only the ten steps with most of them are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub skipped: Vec<SkippedRecords>,
}

/// The largest number of entries of `status.stages`.
pub const MAX_STAGES: usize = 10;
/// The largest number of characters of the name of a stage.
pub const MAX_STAGE_NAME: usize = 64;
/// The largest number of entries of `status.records.skipped`, so that the whole status stays small.
pub const MAX_SKIPPED_ENTRIES: usize = 10;
/// The largest number of characters of `step` in such an entry.
pub const MAX_SKIPPED_STEP: usize = 64;
/// The largest number of characters of `first` in such an entry.
pub const MAX_SKIPPED_MESSAGE: usize = 200;

/// Bad records that were skipped at one step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedRecords {
    /// The path of the step in the spec, or of the source.
    #[schemars(length(max = 64))]
    pub step: String,
    /// Number of the records.
    #[schemars(range(min = 0))]
    pub records: i64,
    /// The first of these records: its file and its line. If onError.messages is not Hide, also
    /// what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub first: Option<String>,
}

/// The largest number of counters of own code that a job can have.
pub const MAX_COUNTERS: usize = 20;
/// The largest number of characters of the name of a counter.
pub const MAX_COUNTER_NAME: usize = 40;

/// A counter of own code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counter {
    /// Its name.
    #[schemars(length(max = 40))]
    pub name: String,
    /// The total of all complete tasks. A total that does not fit a signed 64-bit number is shown
    /// as the greatest one.
    #[schemars(range(min = 0))]
    pub count: i64,
}

/// Number of workers in each state. Workers that are ready, busy or reconnecting are alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerCounts {
    /// Number of workers that the operator requests: the smaller of replicas and shards. Near the
    /// end of the job it requests fewer. With maxReplicas, `why` says how the number is chosen.
    #[schemars(range(min = 0, max = 10000))]
    pub desired: i32,
    /// With maxReplicas: how the operator chooses the number of workers now, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub why: Option<String>,
    /// Workers without a pod, pending, or not yet ready for the first time.
    #[schemars(range(min = 0, max = 20000))]
    pub init: i32,
    /// Workers that are connected and have no task.
    #[schemars(range(min = 0, max = 20000))]
    pub ready: i32,
    /// Workers that are connected and have at least one task.
    #[schemars(range(min = 0, max = 20000))]
    pub busy: i32,
    /// Workers that were connected a moment ago: the session broke, or the coordinator restarts.
    #[schemars(range(min = 0, max = 20000))]
    pub reconnecting: i32,
    /// Workers that exited with an error, ran out of memory, or cannot start.
    #[schemars(range(min = 0, max = 20000))]
    pub failed: i32,
    /// Workers whose pod is disrupted or being deleted, or whose node is lost.
    #[schemars(range(min = 0, max = 20000))]
    pub dead: i32,
    /// Number of workers lost to disruptions since the job began.
    #[schemars(range(min = 0))]
    pub disruptions: i64,
    /// Number of container restarts of the existing workers.
    #[schemars(range(min = 0))]
    pub restarts: i64,
    /// alive/desired, such as 3/4, as printed by kubectl get. ready, busy and reconnecting are
    /// alive.
    #[schemars(length(max = 32))]
    pub summary: String,
}

impl WorkerCounts {
    /// The number of alive workers. The time of `noWorkersTimeout` runs only while it is 0.
    pub fn alive(&self) -> i32 {
        self.ready + self.busy + self.reconnecting
    }

    /// The same counts with `summary` filled in.
    #[must_use]
    pub fn with_summary(mut self) -> Self {
        self.summary = format!("{}/{}", self.alive(), self.desired);
        self
    }
}

/// The coordinator of the running generation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorStatus {
    /// Name of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// Number of container restarts of that pod.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub restarts: i32,
    /// The epoch. Each coordinator process of the job begins a new one; they are numbered from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub epoch: Option<i64>,
    /// Since this time the coordinator is not ready. coordinatorTimeout counts from it. A restart
    /// of the operator does not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable_since: Option<Time>,
}

/// One generation, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerationRecord {
    /// Number of the generation.
    #[schemars(range(min = 1, max = 9999))]
    pub generation: u32,
    /// When it was started.
    pub start_time: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Why it ended.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "if_known"
    )]
    pub cause: Option<GenerationEnd>,
    /// Why it ended, as one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 160))]
    pub message: String,
    /// Number of workers that it lost to disruptions.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub disruptions: i64,
    /// Number of these workers whose pods were evicted or deleted while the operator watched.
    #[serde(default, skip_serializing_if = "is_none_lost")]
    #[schemars(range(min = 0))]
    pub lost_pods: i64,
    /// When the last of these pods was evicted or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_lost_pod: Option<Time>,
    /// Number of tasks that were committed when this generation was started, as far as the operator
    /// knew. The generation makes progress when the number grows, even while no operator runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tasks_before: Option<i64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference over"
)]
fn is_none_lost(pods: &i64) -> bool {
    *pods == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_no_time(seconds: &i64) -> bool {
    *seconds == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference over"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a generation ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum GenerationEnd {
    // Its coordinator reported success.
    Succeeded,
    // Its coordinator reported a failure that a further generation would repeat.
    Failed,
    // Its coordinator or its root was lost.
    CoordinatorLost,
    // None of its workers was alive for `spec.retries.noWorkersTimeout`.
    NoWorkers,
    // The job had not begun to work, and no node had room for the generation's pods beside those of
    // other jobs that start.
    GaveWay,
    // The job was suspended.
    Suspended,
}

impl GenerationEnd {
    /// The cause as it is written in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::CoordinatorLost => "CoordinatorLost",
            Self::NoWorkers => "NoWorkers",
            Self::GaveWay => "GaveWay",
            Self::Suspended => "Suspended",
        }
    }
}

/// One transition of the phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransitionRecord {
    /// When it happened.
    pub time: Time,
    /// The generation in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9999))]
    pub generation: Option<u32>,
    /// The epoch of the coordinator in which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub epoch: Option<i64>,
    /// The phase before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Phase>,
    /// The phase after.
    pub to: Phase,
    /// The reason as one word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The reason as one sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 160))]
    pub message: String,
}

/// The largest number of bytes of `failure.log`.
pub const MAX_FAILURE_LOG: usize = 2048;
/// The largest number of characters of `failure.attempt`.
pub const MAX_FAILURE_ATTEMPT: usize = 32;

/// The attempt of a task whose failure ended the job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// Position, number of stages and kind of the stage, such as 2/4 reduce.
    #[schemars(length(max = 64))]
    pub stage: String,
    /// Number of the shard, from 0.
    #[schemars(range(min = 0))]
    pub shard: i64,
    /// The attempt. e1a3 is the third one since epoch 1 of the coordinator began.
    #[schemars(length(max = 32))]
    pub attempt: String,
    /// Name of the pod of the worker that ran it, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// The last lines that the attempt logged, at most 2 KiB: the standard error of its command, or
    /// that of the worker's process. Empty if it logged nothing, or if the coordinator ended since.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub log: String,
}

/// What the job wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputsStatus {
    /// Number of output files.
    #[schemars(range(min = 0))]
    pub files: i64,
    /// Size of these files in bytes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Number of records in these files.
    #[schemars(range(min = 0))]
    pub rows: i64,
    /// Location of the list of these files, with the rows, bytes and checksum of each:
    /// `_SUCCESS.json` beside them.
    #[schemars(length(max = 1100))]
    pub manifest: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::conditions::ConditionType;

    fn condition(kind: &str, reason: &str) -> serde_json::Value {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    #[test]
    fn a_status_of_another_release_is_read_as_far_as_it_is_understood() {
        let status: ZephyrJobStatus = serde_json::from_value(json!({
            "phase": "Running", "generation": 2, "queue": {"position": 7},
            "conditions": [
                condition("Accepted", "SpecValid"), condition("Moved", "Drained"), condition("Degraded", "TooHot"),
            ],
            "generations": [{
                "generation": 1, "startTime": "2026-01-01T00:00:00Z", "cause": "Evicted", "disruptions": 3, "zone": "a",
            }],
            "history": [
                {"time": "2026-01-01T00:00:00Z", "to": "Moving"}, {"time": "2026-01-01T00:00:00Z", "to": "Running"},
            ],
        }))
        .expect("it is read");
        assert_eq!(status.generation, Some(2));
        let kinds: Vec<_> = status.conditions.iter().map(|one| one.r#type).collect();
        assert_eq!(kinds, [ConditionType::Accepted]);
        let record = status.generations.first().expect("a record");
        assert_eq!((record.cause, record.disruptions), (None, 3));
        assert_eq!(status.history.len(), 1);
    }

    #[test]
    fn a_phase_of_another_release_is_not_read_as_another_phase() {
        let status = serde_json::from_value::<ZephyrJobStatus>(json!({"phase": "Moving"}));
        assert!(
            status
                .expect_err("it is refused")
                .to_string()
                .contains("Moving")
        );
    }
}
