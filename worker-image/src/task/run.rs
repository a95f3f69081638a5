//! Runs one attempt, on a thread with a stack that a deep expression does not exhaust.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::record::TaskOutput;
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::{Flow, StageProgram};
use zephyr_engine::plan::Stage;
use zephyr_store::storage::{CallKind, InputFile, Location, StorageError, is_object_alone};

use crate::task::context::TaskContext;
use crate::task::error::{TaskError, TaskFailure};
use crate::task::exec::Chain;
use crate::task::input::{Place, read_files, read_items, read_shuffle};
use crate::task::output::Output;

/// The assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The task and the attempt.
    pub task: TaskAttempt,
    /// The source of its records.
    pub input: TaskInput,
    /// Whether to report each record before it is processed.
    pub trace_records: bool,
}

/// The source of a task's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskInput {
    /// Parts of files of the source, at least one, in this order. Several parts are whole files.
    Files(Vec<InputPart>),
    /// Inline items [first, first + count).
    Items {
        /// The position of the first one.
        first: u32,
        /// Their number.
        count: u32,
    },
    /// Its partition of each stage that its stage reads, merged together in this order.
    Shuffle {
        /// For each of these stages: path, under the job's storage prefix, of the object that lists
        /// its outputs.
        outputs: Vec<String>,
    },
}

/// The lines of a file that begin at byte `from` or after it, and before byte `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPart {
    /// The file.
    pub file: InputFile,
    /// The first byte.
    pub from: u64,
    /// The byte after the last one.
    pub to: u64,
}

impl InputPart {
    /// All lines of a file.
    pub fn whole(file: InputFile) -> Self {
        Self {
            from: 0,
            to: file.size,
            file,
        }
    }
}

/// The progress of an attempt, which other threads read while it runs. Any change is progress.
#[derive(Debug, Default)]
pub struct ProgressCounters {
    /// Records read from the input.
    pub records: AtomicU64,
    /// Bytes read from storage.
    pub bytes: AtomicU64,
    /// Entries written to sorted runs and shuffle files, because a merge of runs may read nothing
    /// from storage for a long time.
    pub written: Arc<AtomicU64>,
}

/// Receives each record's position before the record is processed, so that a process that dies can
/// name it.
pub trait Trace: Send + Sync {
    /// `record` is its line or its number, from 1.
    fn note(&self, input: &str, record: u64);

    /// The task starts the commands of these steps.
    fn commands(&self, _steps: &str) {}
}

/// Runs an attempt to its end, on this thread, which should be one of
/// [`on_full_stack`](zephyr_engine::expr::on_full_stack). Blocks; must not be called inside a
/// runtime.
pub fn run(
    context: &TaskContext,
    assignment: &Assignment,
    counters: &Arc<ProgressCounters>,
    trace: Option<&dyn Trace>,
) -> Result<TaskOutput, TaskFailure> {
    if let (Some(trace), Some(steps)) = (trace, commands(context, assignment)) {
        trace.commands(&steps);
    }
    let trace = trace.filter(|_| assignment.trace_records);
    // Everything that a panic leaves unfinished belongs to this attempt, and its output is never
    // read.
    let work = AssertUnwindSafe(|| execute(context, assignment, counters, trace));
    let outcome = std::panic::catch_unwind(work).unwrap_or_else(|panic| {
        Err(TaskError::Bug(format!(
            "the task panicked: {}",
            panic_text(&*panic)
        )))
    });
    outcome.map_err(|error| {
        let unreached = error.of_storage().and_then(unreached);
        let mut failure = TaskFailure::from(error);
        if failure.setback == Some(Setback::StoreAway)
            && let Some((kind, object)) = unreached
        {
            attribute_failure(context, &mut failure, kind, &object);
        }
        failure
    })
}

/// The steps of the commands that a task starts, for people, if there are any.
fn commands(context: &TaskContext, assignment: &Assignment) -> Option<String> {
    let stages = &context.setup.plan.stages;
    let stage = stages.get(assignment.task.task.stage.0 as usize)?;
    let steps: Vec<&str> = stage.commands().map(|(step, _)| step).collect();
    (!steps.is_empty()).then(|| steps.join(" and "))
}

/// The object that a call could not reach, if the error may disappear.
fn unreached(error: &StorageError) -> Option<(CallKind, Location)> {
    let may_pass = error.is_transient() && !error.is_full_disk();
    let object = may_pass.then(|| Location::parse_local(&error.object).ok())?;
    Some((error.kind(), object?))
}

/// Makes calls to the store like the one that failed: if the store answers them, waiting for it is
/// useless.
fn attribute_failure(
    context: &TaskContext,
    failure: &mut TaskFailure,
    failed: CallKind,
    object: &Location,
) {
    let setup = &context.setup;
    let storage = &setup.storage;
    let asked = is_object_alone(storage.stores(), storage.root(), failed, object);
    if setup.runtime.block_on(asked) {
        failure.setback = Some(Setback::ObjectUnavailable);
        return;
    }
    failure.error.push_str(match failed {
        CallKind::Read => "; a read beside it was not answered either",
        CallKind::Write => "; a write beside it or in the job's own folder was not answered either",
    });
}

fn execute(
    context: &TaskContext,
    assignment: &Assignment,
    counters: &Arc<ProgressCounters>,
    trace: Option<&dyn Trace>,
) -> Result<TaskOutput, TaskError> {
    let task = assignment.task;
    let stage = context
        .setup
        .plan
        .stages
        .get(task.task.stage.0 as usize)
        .filter(|stage| task.task.shard.0 < stage.shards);
    let stage =
        stage.ok_or_else(|| TaskError::FollowAssignment(format!("there is no {}", task.task)))?;
    let program = context.program(stage, counters)?;
    let spill = context.spill.counting(&counters.written);
    let mut output = Output::begin(context, stage, &program, task, spill)?;
    match pass_records(
        context,
        assignment,
        stage,
        &program,
        &mut output,
        counters,
        trace,
    ) {
        Ok(records_in) => {
            let file = output.finish(context, task)?;
            Ok(TaskOutput {
                file,
                records_in,
                bytes_in: counters.bytes.load(Ordering::Relaxed),
            })
        }
        Err(error) => {
            output.abandon(context);
            Err(error)
        }
    }
}

/// Passes every record of the input through the stage's steps to the output; returns the number of
/// records read.
fn pass_records(
    context: &TaskContext,
    assignment: &Assignment,
    stage: &Stage,
    program: &StageProgram,
    output: &mut Output<'_>,
    counters: &Arc<ProgressCounters>,
    trace: Option<&dyn Trace>,
) -> Result<u64, TaskError> {
    let mut steps = program.steps();
    let mut records_in = 0;
    if steps.is_finished() {
        return Ok(records_in);
    }
    let mut chain = Chain::start(context, stage, program, assignment.task, counters)?;
    let mut take = |record, place: Place<'_>| {
        if let Some(trace) = trace {
            trace.note(place.input, place.number);
        }
        records_in += 1;
        counters.records.fetch_add(1, Ordering::Relaxed);
        let flow = chain
            .push(&mut steps, record, &mut |record| output.push(record))
            .map_err(|error| placed(error, &place))?;
        Ok(matches!(flow, Flow::Continue))
    };
    match (&assignment.input, program.merger()) {
        (TaskInput::Files(parts), None) => read_files(context, stage, parts, counters, &mut take)?,
        (TaskInput::Items { first, count }, None) => {
            read_items(context, stage, *first, *count, &mut take)?;
        }
        (TaskInput::Shuffle { outputs }, Some(merger)) => read_shuffle(
            context,
            stage,
            assignment.task,
            outputs,
            merger,
            counters,
            &mut take,
        )?,
        (TaskInput::Shuffle { .. }, None)
        | (TaskInput::Files(_) | TaskInput::Items { .. }, Some(_)) => {
            return Err(TaskError::FollowAssignment(format!(
                "stage {} reads something else",
                stage.id
            )));
        }
    }
    chain.finish(&mut |record| output.push(record))?;
    Ok(records_in)
}

/// Puts file and record in front of a step's message.
pub(super) fn placed(error: TaskError, place: &dyn std::fmt::Display) -> TaskError {
    use zephyr_store::shuffle::ShuffleError;
    if let TaskError::Operate(source) | TaskError::Shuffle(ShuffleError::Merge(source)) = error {
        let place = place.to_string();
        return TaskError::ApplyStep { place, source };
    }
    error
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
