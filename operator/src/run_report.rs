//! Defines what the operator knows about a run, in its own types: the latest report of a
//! generation's coordinator.
//!
//! The types are plain values. `progress.rs` receives the reports over the network.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use zephyr_crds::status::GenerationRecord;
use zephyr_proto::reason::EndReason;

/// The uids of up to 10,000 pods. The set is shared, so that plans need not copy it.
pub type PodUids = Arc<BTreeSet<String>>;

/// The latest report of a generation's coordinator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    /// The generation that the report is about.
    pub generation: u32,
    /// The epoch of the coordinator that sent it; absent until it has taken over the ledger.
    pub epoch: Option<u64>,
    /// Whether the stream is open; otherwise this is the last report before it closed.
    pub connected: bool,
    /// What the coordinator is doing.
    pub phase: RunPhase,
    /// What the coordinator is doing or waiting for, for people. May be empty.
    pub message: String,
    /// The facts from the plan. Present as soon as there is a plan.
    pub planned: Option<Planned>,
    /// The stage that runs, if one does.
    pub stage: Option<StageReport>,
    /// The stages in the order of the plan, as many as are listed in status at most. Empty if the
    /// coordinator is of a release that does not report them.
    pub stages: Vec<StageReport>,
    /// Records and bytes so far, if the coordinator counts them.
    pub records: Option<RecordsReport>,
    /// What commands of committed tasks counted: names and totals, sorted by name.
    pub counters: Vec<(String, u64)>,
    /// How many workers of this generation were lost to disruptions.
    pub disruptions: u64,
    /// The uids of pods with at least one task running.
    pub busy_pods: PodUids,
    /// The uids of pods whose workers have a session. Absent if the coordinator does not report
    /// them.
    pub connected_pods: Option<PodUids>,
    /// The uids of pods whose workers had a session a moment ago.
    pub reconnecting_pods: PodUids,
    /// The time since which this operator has received reports of this epoch.
    pub epoch_since: Option<Timestamp>,
    /// How many tasks of all stages are done.
    pub tasks_done: u64,
    /// How many tasks all stages have.
    pub tasks_total: u64,
    /// How many workers are still useful: those with the lowest ordinals. If absent, all workers
    /// are useful.
    pub useful_workers: Option<u32>,
    /// While the coordinator starts no further task: how many tasks still run, or have results that
    /// are not durable.
    pub tasks_to_drain: Option<u32>,
    /// Whether tasks were committed since the first report of this generation.
    pub progressed: bool,
    /// How the run ended. Present after the run has ended. The result was durable in the ledger
    /// before it was sent.
    pub result: Option<RunResult>,
}

impl RunReport {
    /// Returns whether tasks were committed in this generation, either since its first report, or
    /// since its start according to `record`. The record also covers times in which no operator
    /// ran.
    pub fn shows_progress(&self, record: Option<&GenerationRecord>) -> bool {
        let before = record.and_then(|record| record.tasks_before);
        let before = before.and_then(|tasks| u64::try_from(tasks).ok());
        let is_more = before.is_some_and(|before| self.tasks_done > before);
        self.progressed || (self.planned.is_some() && is_more)
    }
}

/// A coordinator to which the operator has no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoStream {
    /// The time since which this operator has tried to connect.
    pub since: Timestamp,
    /// The result of the last try.
    pub why: String,
}

/// The phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunPhase {
    /// Inputs are listed and the plan is made.
    #[default]
    Planning,
    /// Tasks run.
    Running,
    /// The object store does not answer, or refuses.
    StorageUnavailable,
    /// All tasks are done. The output files are completed, and intermediate data is removed.
    Finishing,
    /// The job has a result.
    Ended,
}

/// The facts from the plan that determine the number of workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Number of stages.
    pub stages: u32,
    /// How many tasks can run at the same time at most. More workers than this are not useful. This
    /// is the largest number of shards of any stage, unless stages run at the same time.
    pub max_shards: u32,
}

/// A stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageReport {
    /// The number of the stage, from 1.
    pub index: u32,
    /// Name of the stage.
    pub name: String,
    /// How many of its tasks are done.
    pub done: u32,
    /// How many tasks it has.
    pub total: u32,
    /// How many of its tasks run.
    pub running: u32,
    /// How many of its tasks failed and are not done yet.
    pub failed: u32,
}

/// Records and bytes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordsReport {
    /// How many records were read.
    pub records_in: u64,
    /// How many records were written.
    pub records_out: u64,
    /// How many bytes were read.
    pub bytes_in: u64,
    /// How many bytes were written.
    pub bytes_out: u64,
    /// Bad records that were skipped, by step.
    pub skipped: Vec<SkippedReport>,
}

/// Bad records that were skipped at one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedReport {
    /// The step's path in the spec.
    pub step: String,
    /// Number of the records.
    pub records: u64,
    /// The first of them; may be empty.
    pub first: String,
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunResult {
    /// Whether the output is complete.
    pub succeeded: bool,
    /// The reason as one word, for conditions.
    pub reason: EndReason,
    /// Why the job failed; empty if it succeeded.
    pub message: String,
    /// How many files the output has.
    pub files: u64,
    /// How many bytes the output has.
    pub bytes: u64,
    /// How many records the output has.
    pub rows: u64,
    /// URI of the output's `_SUCCESS.json`.
    pub manifest: String,
    /// If a task ended the job, and the coordinator saw it: the attempt that failed last.
    pub failed_task: Option<FailedTask>,
    /// Whether the coordinator removed the files of the output, as the operator had asked it to.
    pub removed_output: bool,
}

/// The attempt whose failure ended a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedTask {
    /// The number of its stage, from 1.
    pub stage: u32,
    /// Name of the stage.
    pub stage_name: String,
    /// Number of the shard, from 0.
    pub shard: u32,
    /// The attempt, for people.
    pub attempt: String,
    /// The ordinal of the worker that ran it, if it is known.
    pub worker: Option<u32>,
    /// The last lines that it logged; may be empty.
    pub log: String,
}
