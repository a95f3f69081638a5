//! What the operator knows about a run, in its own words: the latest report of a generation's coordinator.
//!
//! Plain values. How they come over the wire is the business of `progress.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use zephyr_proto::reason::EndReason;

/// Uids of pods, up to 10,000 of them: each plan looks at them, and none copies them.
pub type PodUids = Arc<BTreeSet<String>>;

/// The latest report of a generation's coordinator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    /// The generation that it is about.
    pub generation: u32,
    /// Which incarnation of the coordinator speaks; absent until it has taken the ledger over.
    pub epoch: Option<u64>,
    /// Whether the stream is up: otherwise this is what was last heard.
    pub connected: bool,
    /// What the coordinator is doing.
    pub phase: RunPhase,
    /// What it does or waits for, for people; may be empty.
    pub message: String,
    /// Known as soon as the plan is.
    pub planned: Option<Planned>,
    /// The stage that runs, if one does.
    pub stage: Option<StageReport>,
    /// Records and bytes so far, if the coordinator counts them.
    pub records: Option<RecordsReport>,
    /// Workers lost by no fault of a task, in this generation.
    pub disruptions: u64,
    /// Pods with at least one task running.
    pub busy_pods: PodUids,
    /// Pods whose workers have a session; absent where they are not told.
    pub connected_pods: Option<PodUids>,
    /// Pods whose workers had one a moment ago.
    pub reconnecting_pods: PodUids,
    /// Since when this operator has heard this epoch.
    pub epoch_since: Option<Timestamp>,
    /// Tasks of all stages that are done.
    pub tasks_done: u64,
    /// Tasks of all stages.
    pub tasks_total: u64,
    /// How many workers can still be of use, by ordinal from 0; all where it is absent.
    pub useful_workers: Option<u32>,
    /// Whether tasks were committed since the first report of this generation.
    pub progressed: bool,
    /// Present once the run has ended; durable in the ledger before it was sent.
    pub result: Option<RunResult>,
}

/// A coordinator that the operator does not hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unheard {
    /// Since when this operator has tried.
    pub since: Timestamp,
    /// What came of the last try.
    pub why: String,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunPhase {
    /// Inputs are listed and the plan is made.
    #[default]
    Planning,
    /// Tasks run.
    Running,
    /// The object store does not answer, or refuses.
    StorageUnavailable,
    /// All tasks are done; final files are completed and data are removed.
    Finishing,
    /// The job has a result.
    Ended,
}

/// What follows from the plan for the number of workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Number of stages.
    pub stages: u32,
    /// Shards of the stage that has most: no more workers are useful.
    pub max_shards: u32,
}

/// The stage that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageReport {
    /// From 1.
    pub index: u32,
    /// Name of the stage.
    pub name: String,
    /// Its tasks that are done.
    pub done: u32,
    /// All its tasks.
    pub total: u32,
    /// Its tasks that run.
    pub running: u32,
    /// Its tasks that failed and are not done.
    pub failed: u32,
}

/// Records and bytes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordsReport {
    /// Records read.
    pub records_in: u64,
    /// Records written.
    pub records_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunResult {
    /// Whether the output is complete.
    pub succeeded: bool,
    /// As one word, for conditions.
    pub reason: EndReason,
    /// Why the job failed; empty if it succeeded.
    pub message: String,
    /// Files of the output.
    pub files: u64,
    /// Bytes of the output.
    pub bytes: u64,
    /// Records of the output.
    pub rows: u64,
    /// URI of the output's `_SUCCESS.json`.
    pub manifest: String,
}
