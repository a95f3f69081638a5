//! The operators of a stage, which make records from records. A stage is compiled once. Its
//! compiled form has three parts: the fused record steps, the buffer before a shuffle, and the
//! merge after a shuffle. Reads and writes nothing: the caller moves records and entries between
//! files and these parts.
//!
//! Records have the order in which they are pushed, and runs have the order in which they are
//! passed to a merge. Together this is the order of (shard, position), which decides which record
//! of a key is the first.

use crate::expr::Variables;
use crate::pipeline::Origin;
use crate::plan::{Merge, RecordOperation, RecordStep, Stage, StageOutput};
use crate::record::{Limits, Record, Row};

use expression::Scope;

pub use error::{OperatorError, Rejected, shown, shown_text};
pub use group_by::KEY_FIELD;
pub use keyed::Entry;
pub use steps::{Flow, Receiver, StepRun};

use buffer::Buffer;
use count::Count;
use deduplicate::Deduplicate;
use group_by::GroupBy;
use steps::CompiledStep;

mod aggregate;
mod buffer;
mod count;
mod deduplicate;
mod drop;
mod error;
mod expression;
mod filter;
mod flat_map;
mod group_by;
mod keyed;
mod map;
mod merge;
mod payload;
pub(crate) mod rename;
mod runs;
mod sample;
pub(crate) mod select;
mod steps;
mod stored_key;
mod take_per_shard;
#[cfg(test)]
mod tests;
mod window;

/// The compiled steps of a stage, shared by all of its tasks in this process.
pub struct StageProgram {
    merger: Option<Merger>,
    /// The steps before the first command, between two commands, and after the last one.
    segments: Vec<Vec<CompiledStep>>,
    combiner: Option<CombinerProgram>,
}

/// The map side of a shuffle, compiled.
struct CombinerProgram {
    partitions: u32,
    merger: Merger,
    on_error: Option<Origin>,
}

/// The merge side of a shuffle.
pub struct Merger(Operation);

/// The operators that shuffle.
enum Operation {
    GroupBy(GroupBy),
    Deduplicate(Deduplicate),
    Count(Count),
}

/// The map side of a shuffle, for one attempt of one task. Combines records with equal keys in
/// memory.
pub struct Combiner<'p> {
    merger: &'p Merger,
    buffer: OperationBuffer<'p>,
    on_error: Option<Origin>,
}

enum OperationBuffer<'p> {
    GroupBy(Buffer<'p, GroupBy>),
    Deduplicate(Buffer<'p, Deduplicate>),
    Count(Buffer<'p, Count>),
}

impl StageProgram {
    /// Compiles every expression of a stage. The expressions may use `variables`, and their results
    /// stay within `limits`. The error names the first expression that does not compile;
    /// [`check_expressions`](crate::plan::check_expressions) finds all of them.
    pub fn compile(
        stage: &Stage,
        variables: &Variables,
        limits: &Limits,
    ) -> Result<Self, OperatorError> {
        let scope = &Scope {
            limits: *limits,
            variables,
        };
        let merger = match stage.merge() {
            Some((path, merge)) => Some(Merger::compile(path, merge, scope)?),
            None => None,
        };
        let between = |step: &RecordStep| matches!(step.operation, RecordOperation::Exec(_));
        let segments = stage
            .steps
            .split(between)
            .map(|steps| {
                let compiled = steps.iter().map(|step| CompiledStep::compile(step, scope));
                compiled.collect()
            })
            .collect::<Result<_, _>>()?;
        let combiner = match &stage.output {
            StageOutput::Shuffle {
                partitions,
                path,
                merge,
                on_error,
            } => Some(CombinerProgram {
                partitions: *partitions,
                merger: Merger::compile(path, merge, scope)?,
                on_error: *on_error,
            }),
            StageOutput::Sink { .. } => None,
        };
        Ok(Self {
            merger,
            segments,
            combiner,
        })
    }

    /// The fused record steps before the first command, or all of them if there is no command, for
    /// one attempt of the task of this shard.
    pub fn steps(&self, shard: u32) -> StepRun<'_> {
        StepRun::new(self.segments.first().map_or(&[], Vec::as_slice), shard)
    }

    /// The fused record steps after each command, in the order of the commands, for one attempt of
    /// the task of this shard.
    pub fn steps_after_commands(&self, shard: u32) -> impl Iterator<Item = StepRun<'_>> {
        let after = self.segments.iter().skip(1);
        after.map(move |steps| StepRun::new(steps, shard))
    }

    /// The merge that makes records from the shuffles that the stage reads. `None` if it reads a
    /// source.
    pub fn merger(&self) -> Option<&Merger> {
        self.merger.as_ref()
    }

    /// The buffer before the shuffle that the stage writes, for one attempt of one task; `None` if
    /// it writes final files.
    pub fn combiner(&self) -> Option<Combiner<'_>> {
        self.combiner.as_ref().map(Combiner::new)
    }
}

impl Merger {
    fn compile(path: &str, merge: &Merge, scope: &Scope<'_>) -> Result<Self, OperatorError> {
        Ok(Self(match merge {
            Merge::GroupBy(step) => Operation::GroupBy(GroupBy::compile(path, step, scope)?),
            Merge::Aggregate(aggregates) => {
                Operation::GroupBy(GroupBy::compile_whole(path, aggregates, scope)?)
            }
            Merge::Deduplicate(key) => {
                Operation::Deduplicate(Deduplicate::compile(path, key, scope)?)
            }
            Merge::Count => Operation::Count(Count::new(path)),
        }))
    }

    /// Merges sorted runs into one sorted run that replaces them. The runs must be neighbours in
    /// the order of (mapper's shard, run). The final result does not depend on which runs are
    /// merged together.
    ///
    /// Ends with the first error. If only one entry has a key, it is passed on without a check, and
    /// [`Merger::records`] finds its damage.
    pub fn merge_runs<'a, S, E>(
        &'a self,
        runs: Vec<S>,
    ) -> Box<dyn Iterator<Item = Result<Entry, E>> + 'a>
    where
        S: Iterator<Item = Result<Entry, E>> + 'a,
        E: From<OperatorError> + 'a,
    {
        match &self.0 {
            Operation::GroupBy(step) => Box::new(merge::entries(step, runs)),
            Operation::Deduplicate(step) => Box::new(merge::entries(step, runs)),
            Operation::Count(step) => Box::new(merge::entries(step, runs)),
        }
    }

    /// Returns the records of one partition, in the order of their keys, which is jq's order of
    /// values. `runs` are all runs of the partition in the order of (input, mapper's shard, run).
    /// Ends with the first error.
    pub fn records<'a, S, E>(
        &'a self,
        runs: Vec<S>,
    ) -> Box<dyn Iterator<Item = Result<Record, E>> + 'a>
    where
        S: Iterator<Item = Result<Entry, E>> + 'a,
        E: From<OperatorError> + 'a,
    {
        match &self.0 {
            Operation::GroupBy(step) => Box::new(merge::records(step, runs)),
            Operation::Deduplicate(step) => Box::new(merge::records(step, runs)),
            Operation::Count(step) => Box::new(merge::records(step, runs)),
        }
    }
}

impl<'p> Combiner<'p> {
    fn new(program: &'p CombinerProgram) -> Self {
        let CombinerProgram {
            partitions,
            merger,
            on_error,
        } = program;
        let partitions = *partitions;
        let buffer = match &merger.0 {
            Operation::GroupBy(step) => OperationBuffer::GroupBy(Buffer::new(step, partitions)),
            Operation::Deduplicate(step) => {
                OperationBuffer::Deduplicate(Buffer::new(step, partitions))
            }
            Operation::Count(step) => OperationBuffer::Count(Buffer::new(step, partitions)),
        };
        Self {
            merger,
            buffer,
            on_error: *on_error,
        }
    }

    /// The place that skips the records that [`push`](Self::push) returns. `None` if this step
    /// skips no records.
    pub fn on_error(&self) -> Option<Origin> {
        self.on_error
    }

    /// Adds one more record of the task, after all others. If the step skips bad records and the
    /// key or an aggregate fails on this record, nothing of it is added, and it is returned.
    pub fn push(&mut self, row: Row<'_>) -> Result<Option<Rejected>, OperatorError> {
        let Some(origin) = self.on_error else {
            match &mut self.buffer {
                OperationBuffer::GroupBy(buffer) => buffer.push(&row)?,
                OperationBuffer::Deduplicate(buffer) => buffer.push(&row)?,
                OperationBuffer::Count(buffer) => buffer.push(&row)?,
            }
            return Ok(None);
        };
        let added = match &mut self.buffer {
            OperationBuffer::GroupBy(buffer) => buffer.push_whole(&row)?,
            OperationBuffer::Deduplicate(buffer) => buffer.push_whole(&row)?,
            OperationBuffer::Count(buffer) => buffer.push_whole(&row)?,
        };
        Ok(added.err().map(|error| Rejected {
            origin,
            error,
            record: row.into_record(),
        }))
    }

    /// Approximately how many bytes of memory are in use, with the allocator's overhead. If this
    /// exceeds the budget, the caller drains the buffer. It is cheap enough to be called after
    /// every record.
    pub fn memory_bytes(&self) -> usize {
        match &self.buffer {
            OperationBuffer::GroupBy(buffer) => buffer.memory_bytes(),
            OperationBuffer::Deduplicate(buffer) => buffer.memory_bytes(),
            OperationBuffer::Count(buffer) => buffer.memory_bytes(),
        }
    }

    /// Whether no record was pushed since the beginning or the last drain.
    pub fn is_empty(&self) -> bool {
        match &self.buffer {
            OperationBuffer::GroupBy(buffer) => buffer.is_empty(),
            OperationBuffer::Deduplicate(buffer) => buffer.is_empty(),
            OperationBuffer::Count(buffer) => buffer.is_empty(),
        }
    }

    /// Everything that was pushed since the last drain, as one sorted run. The buffer is empty at
    /// once; its memory is released while the run is consumed.
    pub fn drain_sorted(&mut self) -> Box<dyn Iterator<Item = Entry> + 'p> {
        match &mut self.buffer {
            OperationBuffer::GroupBy(buffer) => Box::new(buffer.drain_sorted()),
            OperationBuffer::Deduplicate(buffer) => Box::new(buffer.drain_sorted()),
            OperationBuffer::Count(buffer) => Box::new(buffer.drain_sorted()),
        }
    }

    /// Merges this task's own runs, see [`Merger::merge_runs`].
    pub fn merger(&self) -> &'p Merger {
        self.merger
    }
}
