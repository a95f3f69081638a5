//! Runs one attempt, on a thread with a stack that a deep expression does not exhaust.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::record::{MoreOutput, TaskOutput};
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::{Flow, Rejected, StageProgram};
use zephyr_engine::pipeline::Origin;
use zephyr_engine::plan::{Stage, StageOutput};
use zephyr_engine::record::{Record, Row};
use zephyr_store::storage::{CallKind, InputFile, Location, StorageError, is_object_alone};

use crate::task::bad::BadBook;
use crate::task::bad_files::BadFiles;
use crate::task::context::TaskContext;
use crate::task::dead_letter::{BadRecord, DeadLetters, LetterPlace, Reason};
use crate::task::error::{TaskError, TaskFailure};
use crate::task::exec::{Chain, Counts, Sink};
use crate::task::gather::gather;
use crate::task::input::{BadLine, KeptPlace, Place, read_files, read_items, read_shuffle};
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
    /// One or more parts of source files, which are read in this order. If there are several parts,
    /// each is a whole file.
    Files(Vec<InputPart>),
    /// Inline items [first, first + count).
    Items {
        /// The position of the first one.
        first: u32,
        /// Their number.
        count: u32,
    },
    /// The task's partition in the output of each stage that its stage reads. They are merged in
    /// this order. In a gathering stage, these are files of the stage before it.
    Shuffle {
        /// For each of these stages, the path of the object that lists its outputs, relative to the
        /// job's storage prefix. The merged index is beside that object.
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

/// The progress of an attempt. Other threads read it while the attempt runs. Any change of a number
/// counts as progress.
#[derive(Debug, Default)]
pub struct ProgressCounters {
    /// Records read from the input.
    pub records: AtomicU64,
    /// Bytes read from storage.
    pub bytes: AtomicU64,
    /// Entries written to sorted runs and shuffle files. This number is needed because a merge of
    /// runs may read nothing from storage for a long time.
    pub written: Arc<AtomicU64>,
}

/// Receives each record's position before the record is processed, so that a process that dies can
/// name it.
pub trait Trace: Send + Sync {
    /// `place` is its input, and its place there.
    fn note(&self, place: &dyn std::fmt::Display);

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
    // A panic leaves only data of this attempt unfinished, and the output of this attempt is never
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

/// If the error may disappear, returns the kind of the failed call and the object that it could not
/// reach.
fn unreached(error: &StorageError) -> Option<(CallKind, Location)> {
    let may_pass = error.is_transient() && !error.is_full_disk();
    let object = may_pass.then(|| Location::parse_local(&error.object).ok())?;
    Some((error.kind(), object?))
}

/// Makes calls to the store like the one that failed, for other objects. If the store answers them,
/// only this one object is unavailable, and waiting for the store does not help.
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
    context.kept.keep_only(stage.id);
    let program = context.program(stage, counters)?;
    if let Some(files) = stage.gathers() {
        return gather(
            context,
            stage,
            &program,
            task,
            &assignment.input,
            files,
            counters,
        );
    }
    let spill = context.spill.counting(&counters.written);
    let mut bad_files = BadFiles::default();
    loop {
        let bytes_before = counters.bytes.load(Ordering::Relaxed);
        let mut sink = RecordSink {
            context,
            stage,
            task,
            output: Output::begin(context, stage, &program, task, spill.clone())?,
            bad: BadBook::new(&context.setup.plan, stage),
            positions: bad_files.positions(assignment),
            counts: Counts::new(),
            dead_letters: DeadLetters::new(context, stage),
            on_error: match &stage.output {
                StageOutput::Shuffle { on_error, .. } => *on_error,
                StageOutput::Sink { .. } => None,
            },
        };
        let good = bad_files.without(assignment);
        let passed = sink.reject_files(&bad_files).and_then(|()| {
            pass_records(context, &good, stage, &program, &mut sink, counters, trace)
        });
        match passed {
            Ok(records_in) => {
                let bytes_in = counters.bytes.load(Ordering::Relaxed) - bytes_before;
                return sink.finish(records_in, bytes_in);
            }
            Err(error) => {
                let has_dead_letters = sink.dead_letters.has(Origin::Source);
                sink.abandon();
                // No record of a bad file may be passed on. So the attempt begins again without
                // that file and without later bad files.
                let found = has_dead_letters.then(|| bad_files.add(assignment, &error));
                let Some(position) = found.flatten() else {
                    return Err(error);
                };
                bad_files.add_later(context, stage, assignment, position, counters);
            }
        }
    }
}

/// Receives the records of an attempt that have passed all steps, and its bad records.
struct RecordSink<'c, 'p> {
    context: &'c TaskContext,
    stage: &'c Stage,
    task: TaskAttempt,
    output: Output<'p>,
    bad: BadBook,
    /// The positions of the input's files, if one of them is bad as a whole.
    positions: BTreeMap<String, usize>,
    /// What the commands have counted.
    counts: Counts,
    dead_letters: DeadLetters,
    /// The place of the shuffling step, if that step skips bad records.
    on_error: Option<Origin>,
}

impl RecordSink<'_, '_> {
    /// Counts a bad record, and writes it if its place writes dead letters.
    fn write_off(
        &mut self,
        origin: Origin,
        place: Place<'_>,
        step: &str,
        error: &str,
        record: &BadRecord<'_>,
    ) -> Result<(), TaskError> {
        let said = if step.is_empty() {
            error.to_owned()
        } else {
            format!("{step}: {error}")
        };
        let position = self.positions.get(place.input).copied().unwrap_or(0);
        self.bad.skip(origin, position, place, said);
        let source = origin.to_string();
        let reason = Reason {
            input: place.input,
            place: place.in_letter(),
            step: if step.is_empty() { &source } else { step },
            error,
        };
        let (context, stage, task) = (self.context, self.stage, self.task);
        self.dead_letters
            .write(context, stage, task, origin, &reason, record)
    }

    /// Writes each of these files, as a whole, as one dead letter with its error.
    fn reject_files(&mut self, files: &BadFiles) -> Result<(), TaskError> {
        let origin = Origin::Source;
        let source = origin.to_string();
        for (position, file, error) in files.iter() {
            self.bad.arrived(origin, 1);
            self.bad.skip_file(origin, position, error);
            let reason = Reason {
                input: file,
                place: LetterPlace::File,
                step: &source,
                error,
            };
            let (context, stage, task) = (self.context, self.stage, self.task);
            self.dead_letters
                .write(context, stage, task, origin, &reason, &BadRecord::File)?;
        }
        Ok(())
    }

    fn finish(self, records_in: u64, bytes_in: u64) -> Result<TaskOutput, TaskError> {
        let file = match self.output.finish(self.context, self.task) {
            Ok(file) => file,
            Err(error) => {
                self.dead_letters.abandon(self.context);
                return Err(error);
            }
        };
        let more = MoreOutput {
            bad: self.bad.finish(),
            files: self.dead_letters.finish(self.context)?,
            counters: self.counts.into_iter().collect(),
        };
        Ok(TaskOutput {
            file,
            records_in,
            bytes_in,
            more: more.boxed(),
        })
    }

    fn abandon(self) {
        self.output.abandon(self.context);
        self.dead_letters.abandon(self.context);
    }
}

impl Sink for RecordSink<'_, '_> {
    fn pass(&mut self, row: Row<'_>, place: Place<'_>) -> Result<(), TaskError> {
        if let Some(origin) = self.on_error {
            self.bad.arrived(origin, 1);
        }
        match self.output.push(row)? {
            None => Ok(()),
            Some(rejected) => Sink::reject(self, rejected, place),
        }
    }

    fn reject(&mut self, rejected: Rejected, place: Place<'_>) -> Result<(), TaskError> {
        let Rejected {
            origin,
            error,
            record,
        } = rejected;
        let record = BadRecord::Json(record.as_json_str());
        self.write_off(origin, place, &error.path, &error.message, &record)
    }
}

/// Passes every record of the input through the stage's steps to the output; returns the number of
/// records read.
fn pass_records(
    context: &TaskContext,
    assignment: &Assignment,
    stage: &Stage,
    program: &StageProgram,
    sink: &mut RecordSink<'_, '_>,
    counters: &Arc<ProgressCounters>,
    trace: Option<&dyn Trace>,
) -> Result<u64, TaskError> {
    let mut steps = program.steps(assignment.task.task.shard.0);
    let has_windows = stage.windows() > 0;
    let mut last_place = KeptPlace::default();
    let mut records_in = 0;
    if steps.is_finished() {
        return Ok(records_in);
    }
    let mut chain = Chain::start(context, stage, program, assignment.task, counters)?;
    let mut take = |read: Result<Record, BadLine<'_>>, place: Place<'_>| {
        let record = match read {
            Ok(record) => record,
            Err(bad) if sink.bad.has(Origin::Source) => {
                sink.bad.arrived(Origin::Source, 1);
                let line = BadRecord::Line(bad.bytes, bad.is_whole);
                let problem = bad.error.problem();
                sink.write_off(Origin::Source, place, "", &problem, &line)?;
                return Ok(true);
            }
            Err(bad) => return Err(TaskError::ReadInput(bad.error)),
        };
        if let Some(trace) = trace {
            trace.note(&place);
        }
        if has_windows {
            last_place.set(&place);
        }
        records_in += 1;
        counters.records.fetch_add(1, Ordering::Relaxed);
        let flow = chain
            .push(&mut steps, record, sink, place)
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
    if let Some(place) = last_place.get() {
        chain
            .finish_steps(&mut steps, sink, place)
            .map_err(|error| placed(error, &place))?;
    }
    chain.finish(sink)?;
    sink.bad.arrived(Origin::Source, records_in);
    for (origin, records) in steps.arrived().chain(chain.arrived()) {
        sink.bad.arrived(origin, records);
    }
    sink.counts = chain.end(context);
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
