//! The plan of a pipeline: its stages, each with one task for each shard. Pure: the same pipeline
//! and the same planned source give the same plan and the same digest. Lists no files and reads no
//! data.

use xxhash_rust::xxh3::xxh3_128;

use crate::id::{SourceId, StageId};
use crate::pipeline::{
    Aggregate, Exec, Format, GroupBy, OnErrors, Origin, Tables, Values, WindowBy,
};

pub(crate) mod display;
mod edit;
mod expressions;
mod graph;
pub(crate) mod path;
mod planner;
mod source;

pub use display::counted;
pub use edit::{EditError, check_edit};
pub use expressions::{ExpressionError, check_expressions};
pub use graph::GraphError;
pub use planner::{MAX_DEFAULT_SHARDS, plan};
pub use source::{
    Cuts, DEFAULT_SPLIT_BYTES, FilePart, ListedFile, MAX_FILES_OF_A_SHARD, MAX_SOURCE_SHARDS,
    PlannedSource, Sharding, ShardingError, check_parts, files_to_look_into, plan_source,
};

/// A graph of stages. A stage runs as soon as all stages that it reads are complete, so several may
/// run at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The stages, at least one. A stage's position is its id. A stage reads only stages before it.
    /// The last stage writes the sink's files, and each other stage is read by at least one stage.
    pub stages: Vec<Stage>,
    /// The named values of the pipeline.
    pub values: Values,
    /// The tables of the pipeline.
    pub tables: Tables,
    /// The digest of the parts of files that source shards read; `None` if each shard is a whole
    /// file.
    pub source_parts: Option<String>,
    /// The places that skip bad records, each with its settings.
    pub on_errors: OnErrors,
}

impl Plan {
    /// 32 hexadecimal digits that identify this plan: the hash of its text, which contains every
    /// number, path and expression that determines what a task does.
    pub fn digest(&self) -> String {
        format!(
            "{:032x}",
            xxh3_128(display::Hashed(self).to_string().as_bytes())
        )
    }

    /// The number of output files: one for each shard of the last stage.
    pub fn output_shards(&self) -> u32 {
        self.stages.last().map_or(0, |stage| stage.shards)
    }

    /// The places of a stage that skip bad records.
    pub fn origins(&self, stage: &Stage) -> Vec<Origin> {
        let reads_main = stage.source() == Some(SourceId::MAIN);
        let source = reads_main.then_some(Origin::Source);
        let steps = stage.steps.iter().filter_map(|step| step.on_error);
        let output = match &stage.output {
            StageOutput::Shuffle { on_error, .. } => *on_error,
            StageOutput::Sink { .. } => None,
        };
        let all = source.into_iter().chain(steps).chain(output);
        all.filter(|origin| self.on_errors.contains_key(origin))
            .collect()
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
    /// For people: `map`, `gather`, `reduce`, `deduplicate`, `count`, `aggregate`.
    pub name: String,
    /// Number of tasks. 0 only if the job has no input at all.
    pub shards: u32,
    /// The inputs of the stage, at least one: either one source, or any number of shuffles, which
    /// are merged together in this order.
    pub inputs: Vec<StageInput>,
    /// The steps for each record, in order, in one pass.
    pub steps: Vec<RecordStep>,
    /// The destination of its records.
    pub output: StageOutput,
}

impl Stage {
    /// The stages whose shuffled output it reads, in the order in which they are merged.
    pub fn reads(&self) -> impl Iterator<Item = StageId> {
        self.inputs.iter().filter_map(|input| match input {
            StageInput::Source(_) => None,
            StageInput::Shuffle { from, .. } | StageInput::Gather { from, .. } => Some(*from),
        })
    }

    /// The source that it reads, if it reads one.
    pub fn source(&self) -> Option<SourceId> {
        self.inputs.iter().find_map(|input| match input {
            StageInput::Source(source) => Some(*source),
            StageInput::Shuffle { .. } | StageInput::Gather { .. } => None,
        })
    }

    /// The shuffling step that makes its records, with the step's path in the manifest; `None` if
    /// it reads a source.
    pub fn merge(&self) -> Option<(&str, &Merge)> {
        self.inputs.iter().find_map(|input| match input {
            StageInput::Source(_) => None,
            StageInput::Shuffle { path, merge, .. } | StageInput::Gather { path, merge, .. } => {
                Some((path.as_str(), merge))
            }
        })
    }

    /// How many files each of its tasks gathers. `None` if it is not a gathering stage.
    pub fn gathers(&self) -> Option<u32> {
        self.inputs.iter().find_map(|input| match input {
            StageInput::Gather { files, .. } => Some(*files),
            StageInput::Source(_) | StageInput::Shuffle { .. } => None,
        })
    }

    /// Its commands, in order, each with its path in the manifest.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &Exec)> {
        self.steps.iter().filter_map(|step| match &step.operation {
            RecordOperation::Exec(exec) => Some((step.path.as_str(), exec)),
            RecordOperation::Map(_)
            | RecordOperation::FlatMap(_)
            | RecordOperation::Filter(_)
            | RecordOperation::Select(_)
            | RecordOperation::Drop(_)
            | RecordOperation::Rename(_)
            | RecordOperation::Sample { .. }
            | RecordOperation::TakePerShard(_)
            | RecordOperation::Window(_)
            | RecordOperation::WindowBy(_) => None,
        })
    }

    /// How many of its steps hold a window of records.
    pub fn windows(&self) -> usize {
        let holds = |step: &&RecordStep| {
            matches!(
                step.operation,
                RecordOperation::Window(_) | RecordOperation::WindowBy(_)
            )
        };
        self.steps.iter().filter(holds).count()
    }

    /// How many task slots of a worker one of its tasks takes: as many as the command that takes
    /// most of them.
    pub fn slots(&self) -> u32 {
        let all = self.commands().map(|(_, exec)| exec.slots);
        all.max().unwrap_or(1)
    }
}

/// Where a stage's records come from.
#[derive(Clone, Debug, PartialEq)]
pub enum StageInput {
    /// A source: task `n` reads its shard `n`.
    Source(SourceId),
    /// The shuffled output of an earlier stage: task `n` reads partition `n` of each task of that
    /// stage.
    Shuffle {
        /// The stage that wrote it.
        from: StageId,
        /// The path of the shuffling step in the manifest, for errors:
        /// `spec.pipeline.steps[2].groupBy`.
        path: String,
        /// How entries with equal keys become records.
        merge: Merge,
    },
    /// Whole shuffle files of an earlier stage. Task `n` reads the files of `files` neighbouring
    /// tasks, beginning with task `n * files`, and merges them into one file with the same
    /// partitions. So there are fewer and larger files, and the next stage makes fewer and larger
    /// reads.
    Gather {
        /// The stage that wrote them.
        from: StageId,
        /// How many tasks' files one task reads, at least 1.
        files: u32,
        /// The path of the shuffling step in the manifest, for errors.
        path: String,
        /// How entries with equal keys are combined.
        merge: Merge,
    },
}

/// Where a stage's records go.
#[derive(Clone, Debug, PartialEq)]
pub enum StageOutput {
    /// A shuffle file with one partition for each task of the stages that read it.
    Shuffle {
        /// Number of partitions: the number of shards of each stage that reads it.
        partitions: u32,
        /// The path of the shuffling step in the manifest, for errors:
        /// `spec.pipeline.steps[2].groupBy`.
        path: String,
        /// How records are combined on this side.
        merge: Merge,
        /// The place that skips a record on which the key or an aggregate fails. `None` if such a
        /// record fails the task.
        on_error: Option<Origin>,
    },
    /// A final file.
    Sink {
        /// How a record is written.
        format: Format,
    },
}

/// How the two sides of a shuffle combine records with equal keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Merge {
    /// Groups and aggregates.
    GroupBy(GroupBy),
    /// Keeps the first record of each key by (shard, position). The text is the key's expression.
    Deduplicate(String),
    /// Counts all records; there is one partition and no key.
    Count,
    /// Aggregates all records; there is one partition and no key.
    Aggregate(Vec<(String, Aggregate)>),
}

/// A step that handles one record at a time. `path` is its path in the manifest, for errors:
/// `spec.pipeline.steps[2].map`.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordStep {
    /// The step's path in the manifest.
    pub path: String,
    /// Its kind.
    pub operation: RecordOperation,
    /// The place that skips a record on which the step fails. `None` if such a record fails the
    /// task.
    pub on_error: Option<Origin>,
}

/// The kinds of record steps.
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
    /// See `pipeline::Step::Drop`.
    Drop(Vec<Vec<String>>),
    /// See `pipeline::Step::Rename`.
    Rename(Vec<(Vec<String>, Vec<String>)>),
    /// See `pipeline::Step::Sample`.
    Sample {
        /// The share, from 0 to 1.
        fraction: f64,
        /// The seed.
        seed: u64,
    },
    /// See `pipeline::Step::TakePerShard`.
    TakePerShard(u64),
    /// See `pipeline::Step::Window`.
    Window(u64),
    /// See `pipeline::Step::WindowBy`.
    WindowBy(WindowBy),
    /// See `pipeline::Step::Exec`. The command gets all records of a shard. The steps before it and
    /// the steps after it are compiled and run separately.
    Exec(Exec),
}
