//! A pipeline as stages of shard tasks. Pure: the same pipeline and the same number of source
//! shards give the same plan and the same digest. Lists no files and reads no data.

use xxhash_rust::xxh3::xxh3_128;

use crate::id::StageId;
use crate::pipeline::{Format, GroupBy};

mod display;
mod expressions;
pub(crate) mod path;
mod planner;

pub use expressions::{ExpressionError, check_expressions};
pub use planner::{MAX_DEFAULT_SHARDS, plan};

/// Stages in the order in which they run; each is a barrier for the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// At least one stage; a stage's position is its id.
    pub stages: Vec<Stage>,
}

impl Plan {
    /// 32 hexadecimal digits that stand for this plan: the hash of the plan as printed, which holds
    /// every number, path and expression that decides what a task does.
    pub fn digest(&self) -> String {
        format!("{:032x}", xxh3_128(self.to_string().as_bytes()))
    }

    /// The number of output files: one for each shard of the last stage.
    pub fn output_shards(&self) -> u32 {
        self.stages.last().map_or(0, |stage| stage.shards)
    }

    /// The number of tasks of all stages.
    pub fn tasks(&self) -> u64 {
        self.stages
            .iter()
            .map(|stage| u64::from(stage.shards))
            .sum()
    }
}

/// One stage: the same work on each of its shards.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its position in the plan.
    pub id: StageId,
    /// For people: `map`, `reduce`, `deduplicate`, `count`.
    pub name: String,
    /// How many tasks it has. 0 only where the job has no input at all.
    pub shards: u32,
    /// Where its records come from.
    pub input: StageInput,
    /// What happens to each record, in order, in one pass.
    pub steps: Vec<RecordStep>,
    /// Where its records go.
    pub output: StageOutput,
}

/// Where a stage's records come from.
#[derive(Clone, Debug, PartialEq)]
pub enum StageInput {
    /// The job's source: task `n` reads source shard `n`.
    Source,
    /// The shuffled output of the stage before: task `n` reads partition `n` of each of its tasks.
    Shuffle {
        /// The stage that wrote it.
        from: StageId,
        /// Where the manifest has the step that shuffles, for errors:
        /// `spec.pipeline.steps[2].groupBy`.
        path: String,
        /// How entries of equal key become records.
        merge: Merge,
    },
}

/// Where a stage's records go.
#[derive(Clone, Debug, PartialEq)]
pub enum StageOutput {
    /// A shuffle file with one partition for each task of the next stage.
    Shuffle {
        /// How many partitions: the next stage's number of shards.
        partitions: u32,
        /// Where the manifest has the step that shuffles, for errors:
        /// `spec.pipeline.steps[2].groupBy`.
        path: String,
        /// What is combined on this side.
        merge: Merge,
    },
    /// A final file.
    Sink {
        /// How a record is written.
        format: Format,
    },
}

/// What the two sides of a shuffle do with records of equal key.
#[derive(Clone, Debug, PartialEq)]
pub enum Merge {
    /// Groups and aggregates.
    GroupBy(GroupBy),
    /// Keeps the first by (shard, position); the text is the key's expression.
    Deduplicate(String),
    /// Counts all records; there is one partition and no key.
    Count,
}

/// A step that looks at one record at a time. `path` is where the manifest has it, for errors:
/// `spec.pipeline.steps[2].map`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordStep {
    /// The step's place in the manifest.
    pub path: String,
    /// What it does.
    pub operation: RecordOperation,
}

/// What a record step does.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordOperation {
    /// See `pipeline::Step::Map`.
    Map(String),
    /// See `pipeline::Step::FlatMap`.
    FlatMap(String),
    /// See `pipeline::Step::Filter`.
    Filter(String),
    /// See `pipeline::Step::Select`.
    Select(Vec<Vec<String>>),
    /// See `pipeline::Step::TakePerShard`.
    TakePerShard(u64),
}
