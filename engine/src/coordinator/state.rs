//! Defines the state of a coordinator. Only this file changes the state of a task, together with
//! the counts and queues that depend on it. Other modules decide when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use crate::coordinator::attempts::EndedAttempt;
use crate::coordinator::bad_records::BadTotals;
use crate::coordinator::config::Config;
use crate::coordinator::counters::{CounterName, CounterTotal};
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::durations::Durations;
use crate::coordinator::failed_task::FailedTask;
use crate::coordinator::losses::{FleetLosses, LostWorkers};
use crate::coordinator::outbox::Outbox;
use crate::coordinator::record::{FailureClass, JobResult, LogRecord, OutputFile, TaskOutput};
use crate::coordinator::setback::HeldUp;
use crate::id::{
    Attempt, Epoch, SessionId, ShardId, StageId, TaskAttempt, TaskId, Timestamp, WorkerId,
};
use crate::pipeline::Origin;

/// The state of a coordinator.
#[derive(Clone, Debug, Hash)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) epoch: Epoch,
    pub(crate) job: JobState,
    pub(crate) stages: Vec<StageState>,
    /// The most tasks that can run at the same time.
    pub(crate) width: u32,
    /// How many slots a task of each stage takes; empty if all take one.
    pub(crate) slots_of_stages: Arc<[u32]>,
    /// What committed tasks skipped, for each place that skips bad records.
    pub(crate) bad: BTreeMap<Origin, BadTotals>,
    /// What commands of committed tasks counted.
    pub(crate) counters: BTreeMap<CounterName, CounterTotal>,
    /// Only tasks with problems have an entry.
    pub(crate) histories: BTreeMap<TaskId, History>,
    /// The attempt that failed last, of those that this coordinator saw.
    pub(crate) last_failed: Option<FailedTask>,
    /// The attempt whose failure ended the job.
    pub(crate) ended_by: Option<FailedTask>,
    pub(crate) workers: BTreeMap<WorkerNumber, Worker>,
    pub(crate) sessions: BTreeMap<SessionId, WorkerNumber>,
    pub(crate) pods: BTreeMap<String, WorkerNumber>,
    /// Workers that may be given tasks, least busy first.
    pub(crate) by_load: BTreeSet<(Place, WorkerNumber)>,
    /// For each pod whose process has ended, the time of that end, and the attempts that the
    /// process was running or handed back. The cause of the end may be reported later.
    pub(crate) unexplained: BTreeMap<String, (Timestamp, Vec<TaskAttempt>)>,
    /// Queued tasks that wait until a certain time.
    pub(crate) delayed: BTreeSet<(Timestamp, TaskId)>,
    pub(crate) next_worker: WorkerNumber,
    /// The next log record's index.
    pub(crate) next_index: u64,
    /// Appended records that are not durable yet, in order.
    pub(crate) recording: VecDeque<(u64, Recorded)>,
    /// Attempts that won, with the indexes of their records, which are not durable yet.
    pub(crate) won: VecDeque<(u64, EndedAttempt)>,
    /// Superseded attempts with their files, and the sessions that reported them. They wait here
    /// until the winner of their task is durable.
    pub(crate) dismissed: BTreeMap<TaskId, BTreeMap<Attempt, (SessionId, Vec<OutputFile>)>>,
    /// Attempts whose final files are being completed. Files of another attempt of the same task
    /// are completed only after that.
    pub(crate) completing: BTreeMap<TaskId, Attempt>,
    /// Whether tasks of other stages than the last one can have final files.
    pub(crate) has_dead_letters: bool,
    /// How many workers were lost while they were needed. Workers that a task ended do not count.
    pub(crate) disruptions: u64,
    /// The number of workers that the operator keeps, counted by ordinal from 0. `None` until the
    /// operator has sent it.
    pub(crate) workers_kept: Option<u32>,
    /// Whether no further task starts, because the operator suspends the job.
    pub(crate) drains: bool,
    /// Number of second attempts given to idle slots.
    pub(crate) speculations: u64,
    /// The lifetime of workers, and their losses.
    pub(crate) fleet_losses: FleetLosses,
    pub(crate) last_tick: Timestamp,
    /// The time since which this process runs without a stall.
    pub(crate) observing_since: Timestamp,
    /// Nothing is dispatched before this time.
    pub(crate) dispatch_from: Timestamp,
    /// The time since which no worker is known.
    pub(crate) no_worker_since: Option<Timestamp>,
}

/// The phase of the job.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum JobState {
    /// Tasks run, or final files are being completed.
    Running,
    /// The job fails. Nothing runs any more, but the final files of committed tasks are still being
    /// completed, until [`MAX_FAILING_MS`] after `since`.
    ///
    /// [`MAX_FAILING_MS`]: crate::coordinator::config::MAX_FAILING_MS
    Failing { result: JobResult, since: Timestamp },
    /// All files are complete.
    WritingManifest,
    /// The record of the result is being written; nothing is appended after it.
    Concluding { result: JobResult, index: u64 },
    /// The result is durable.
    Ended { result: JobResult },
}

/// A stage and its tasks.
#[derive(Clone, Debug, Hash)]
pub(crate) struct StageState {
    pub(crate) name: String,
    /// The stages that it reads, in the order of its inputs; none if it reads a source.
    pub(crate) reads: Vec<StageId>,
    /// The stages that read it; none if it is the last.
    pub(crate) readers: Vec<StageId>,
    pub(crate) progress: StageProgress,
    pub(crate) tasks: Vec<Task>,
    /// Queued tasks that wait only for a worker and for the stages that they read.
    pub(crate) ready: BTreeSet<ShardId>,
    /// Tasks with an attempt at a worker.
    pub(crate) running: u32,
    /// Tasks whose commit is durable.
    pub(crate) committed: u32,
    /// Tasks whose final files are complete according to a durable record.
    pub(crate) finalized: u32,
    /// Tasks that are done and have final files without such a record.
    pub(crate) unfinished_files: u32,
    /// Sums of what the committed tasks read and wrote.
    pub(crate) totals: Totals,
    /// How often its outputs were published in this epoch.
    pub(crate) published: u32,
    /// Moving mean of the time from dispatch to report.
    pub(crate) latency_ms: Option<u64>,
    /// The times from dispatch to report.
    pub(crate) durations: Durations,
}

/// The phase of a stage. A stage that has not started is not finished, even if it has no tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StageProgress {
    NotStarted,
    Running,
    /// All tasks are committed; the object that lists their outputs is being written.
    Publishing {
        version: u32,
    },
    /// The record that it is finished is being written.
    Recording {
        index: u64,
        outputs: String,
    },
    Finished {
        outputs: String,
    },
}

/// Sums over committed tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Totals {
    pub(crate) records_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) rows_out: u64,
    pub(crate) bytes_out: u64,
}

/// A task.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Task {
    pub(crate) state: TaskState,
    /// Number of its next attempt in this epoch.
    pub(crate) next_number: u32,
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) enum TaskState {
    /// Its stage has not started.
    Waiting,
    /// It is queued. It must not run before `not_before`, if that is given.
    Queued { not_before: Option<Timestamp> },
    /// At least one attempt is at a worker.
    Running { attempts: Vec<RunningAttempt> },
    /// An attempt won; its record is being written. `reporter` must be informed.
    Committing {
        attempt: Attempt,
        output: TaskOutput,
        index: u64,
        reporter: WorkerNumber,
    },
    /// Its output is durably recorded.
    Done {
        attempt: Attempt,
        output: TaskOutput,
        file: FinalFile,
    },
}

/// The progress of the final files of a task that is done. A task without final files stays at
/// `NotBegun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FinalFile {
    /// No call completes them.
    NotBegun,
    /// They are being completed.
    Completing,
    /// They are complete; the record of that is not durable yet.
    Recording { index: u64 },
    /// They are complete; the record of that is durable.
    Finalized,
}

/// An attempt at a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunningAttempt {
    pub(crate) attempt: Attempt,
    pub(crate) worker: WorkerNumber,
    /// When it was dispatched or adopted.
    pub(crate) since: Timestamp,
    /// Whether it was adopted. Then it is not known when it began.
    pub(crate) is_adopted: bool,
    /// Records it has read, as last reported.
    pub(crate) records: u64,
}

/// The problems of a task so far, over all epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// Failures that are charged to a budget, oldest first.
    pub(crate) failures: Vec<Failure>,
    /// Attempts that had won and whose output was lost.
    pub(crate) revoked: Vec<Attempt>,
    /// Attempts that failed before the job was restarted. They count against no budget.
    pub(crate) forgiven: Vec<Attempt>,
    /// How many of the lost outputs do not count, because the job was restarted after them.
    pub(crate) losses_forgiven: usize,
    /// Failed attempts of this epoch, charged or not, which determine the next wait.
    pub(crate) setbacks: u32,
    /// Setbacks in this epoch, charged or not. They are forgotten when the task is done.
    pub(crate) held_up: HeldUp,
    /// Workers that were lost in this epoch while they ran the task. They are forgotten when the
    /// task is done.
    pub(crate) lost_workers: LostWorkers,
}

/// One charged failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    pub(crate) attempt: Attempt,
    pub(crate) class: FailureClass,
    pub(crate) error: String,
    /// Whether it was a setback that occurred too often to be free.
    pub(crate) is_setback: bool,
}

impl History {
    /// Whether it is recorded that the attempt failed, or that its output was lost.
    pub(crate) fn has_dealt_with(&self, attempt: Attempt) -> bool {
        self.revoked.contains(&attempt)
            || self.forgiven.contains(&attempt)
            || self
                .failures
                .iter()
                .any(|failure| failure.attempt == attempt)
    }

    /// Whether no attempt is recorded as failed or as lost.
    pub(crate) fn is_empty(&self) -> bool {
        self.failures.is_empty() && self.revoked.is_empty() && self.forgiven.is_empty()
    }

    /// Begins all budgets anew, because the job was restarted.
    pub(crate) fn forgive(&mut self) {
        let failed = mem::take(&mut self.failures);
        let failed = failed.into_iter().map(|failure| failure.attempt);
        self.forgiven.extend(failed);
        self.losses_forgiven = self.revoked.len();
    }

    /// Failures that are charged to `taskFailures`.
    pub(crate) fn own_failures(&self) -> impl DoubleEndedIterator<Item = &Failure> {
        self.failures
            .iter()
            .filter(|failure| failure.class != FailureClass::Disruption)
    }
}

/// A worker's short internal id, never reused in the process's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerNumber(pub(crate) u64);

/// A worker that is not lost.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    /// The ordinal of its pod, if it has one.
    pub(crate) ordinal: Option<u32>,
    pub(crate) link: Link,
    /// Its newest session. A `Hello` of an older session has arrived late.
    pub(crate) newest_session: SessionId,
    pub(crate) slots: u32,
    /// The same list as in [`State`].
    pub(crate) slots_of_stages: Arc<[u32]>,
    /// Whether it terminates and takes no more tasks.
    pub(crate) draining: bool,
    /// Whether the operator releases its pod, so that its end is not a disruption.
    pub(crate) is_let_go: bool,
    /// When its first `Hello` arrived.
    pub(crate) known_since: Timestamp,
    /// When it last sent something.
    pub(crate) last_seen: Timestamp,
    /// How long it may be silent.
    pub(crate) silence_ms: u64,
    /// Attempts that it was given, or had when it opened its session, and that it has not reported
    /// yet.
    pub(crate) running: BTreeSet<TaskAttempt>,
    /// How many consecutive tasks failed at this worker through no fault of their own.
    pub(crate) unhealthy: u32,
    /// It is given no task before this time, because of these failures.
    pub(crate) rests_until: Option<Timestamp>,
    /// A report that its container ended, while its session is still open.
    pub(crate) early_end: Option<(Timestamp, String)>,
    /// Earlier processes of the same pod, the latest last. They were replaced and are not accepted
    /// again.
    pub(crate) predecessors: VecDeque<u64>,
}

/// Whether messages can be sent to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Connected(SessionId),
    Reconnecting,
}

impl Worker {
    /// The session for messages.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.link {
            Link::Connected(session) => Some(session),
            Link::Reconnecting => None,
        }
    }

    /// How many of its slots a task of this stage takes. If the worker has fewer slots than the
    /// stage requests, the task takes all of them.
    pub(crate) fn slots_for(&self, stage: StageId) -> u32 {
        let asked_for = self.slots_of_stages.get(stage.0 as usize).copied();
        asked_for.unwrap_or(1).clamp(1, self.slots.max(1))
    }

    /// How many slots the attempts that it runs or will run take together.
    fn slots_taken(&self) -> u64 {
        if self.slots_of_stages.is_empty() {
            return self.running.len() as u64;
        }
        let each = self
            .running
            .iter()
            .map(|task| self.slots_for(task.task.stage));
        each.map(u64::from).sum()
    }

    /// The worker's position among the workers that may be given tasks. `None` if it may not be
    /// given any.
    pub(crate) fn place(&self) -> Option<Place> {
        let goes = self.draining && !defect::is(Defect::DrainingTakesTasks);
        let takes_tasks = self.session().is_some() && !goes && self.rests_until.is_none();
        takes_tasks.then(|| Place {
            load: self.slots_taken() * FULL_LOAD / u64::from(self.slots.max(1)),
            ordinal: self.ordinal.unwrap_or(u32::MAX),
        })
    }
}

/// The position of a worker among those that may be given tasks. Of equally busy workers, the one
/// with the lowest ordinal is first, so that the workers with the highest ordinals stay idle and
/// can be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Slots that are taken, per thousand of its slots.
    pub(crate) load: u64,
    /// The ordinal of the worker; `u32::MAX` if it has none.
    pub(crate) ordinal: u32,
}

/// The load of a worker whose slots are all taken.
pub(crate) const FULL_LOAD: u64 = 1_000;

/// The consequence of a durable record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Recorded {
    Done(TaskId),
    Failed {
        task: TaskAttempt,
        reporter: Option<WorkerNumber>,
    },
    Revoked,
    StageFinished(StageId),
    Finalized(TaskId),
    Result,
}

/// Whether final files are still to be completed.
pub(crate) fn is_unfinished(output: &TaskOutput, file: FinalFile) -> bool {
    file != FinalFile::Finalized && output.has_final_files()
}

impl TaskState {
    /// The attempt that won, durable or not.
    pub(crate) fn winner(&self) -> Option<(Attempt, &TaskOutput)> {
        match self {
            Self::Waiting | Self::Queued { .. } | Self::Running { .. } => None,
            Self::Committing {
                attempt, output, ..
            }
            | Self::Done {
                attempt, output, ..
            } => Some((*attempt, output)),
        }
    }

    /// The attempt that won, if its record is durable.
    pub(crate) fn committed(&self) -> Option<(Attempt, &TaskOutput)> {
        match self {
            Self::Waiting
            | Self::Queued { .. }
            | Self::Running { .. }
            | Self::Committing { .. } => None,
            Self::Done {
                attempt, output, ..
            } => Some((*attempt, output)),
        }
    }

    /// The progress of the final files, if the record of the attempt that won is durable.
    pub(crate) fn final_file(&self) -> Option<FinalFile> {
        match self {
            Self::Waiting
            | Self::Queued { .. }
            | Self::Running { .. }
            | Self::Committing { .. } => None,
            Self::Done { file, .. } => Some(*file),
        }
    }
}

impl StageState {
    /// Number of its tasks.
    pub(crate) fn total(&self) -> u32 {
        u32::try_from(self.tasks.len()).unwrap_or(u32::MAX)
    }

    /// The path of the object that lists the outputs of this stage, if the stage is finished.
    pub(crate) fn outputs(&self) -> Option<&str> {
        match &self.progress {
            StageProgress::Finished { outputs } => Some(outputs),
            StageProgress::NotStarted
            | StageProgress::Running
            | StageProgress::Publishing { .. }
            | StageProgress::Recording { .. } => None,
        }
    }
}

impl State {
    pub(crate) fn stage(&self, stage: StageId) -> &StageState {
        &self.stages[stage.0 as usize]
    }

    pub(crate) fn stage_mut(&mut self, stage: StageId) -> &mut StageState {
        &mut self.stages[stage.0 as usize]
    }

    pub(crate) fn is_last_stage(&self, stage: StageId) -> bool {
        stage.0 as usize + 1 == self.stages.len()
    }

    /// Whether everything that the stage reads is complete.
    pub(crate) fn has_input(&self, stage: StageId) -> bool {
        let is_complete = |read: &StageId| self.stage(*read).outputs().is_some();
        let mut reads = self.stage(stage).reads.iter();
        if defect::is(Defect::OneInputIsEnough) {
            return self.stage(stage).reads.is_empty() || reads.any(is_complete);
        }
        reads.all(is_complete)
    }

    /// The paths of the objects that list the outputs of the stages that this stage reads, in
    /// order. `None` while one of these stages is not finished. Empty if the stage reads a source.
    pub(crate) fn stage_input(&self, stage: StageId) -> Option<Vec<String>> {
        if !self.has_input(stage) {
            return None;
        }
        let outputs = |read: &StageId| self.stage(*read).outputs().map(str::to_owned);
        Some(self.stage(stage).reads.iter().filter_map(outputs).collect())
    }

    /// The task, if it exists in the plan.
    pub(crate) fn task(&self, task: TaskId) -> Option<&Task> {
        self.stages
            .get(task.stage.0 as usize)?
            .tasks
            .get(task.shard.0 as usize)
    }

    /// Removes a task's state from the counts and queues; `put` must follow at once.
    pub(crate) fn take(&mut self, task: TaskId) -> TaskState {
        let stage = &mut self.stages[task.stage.0 as usize];
        let taken = mem::replace(
            &mut stage.tasks[task.shard.0 as usize].state,
            TaskState::Waiting,
        );
        match &taken {
            TaskState::Waiting | TaskState::Committing { .. } => {}
            TaskState::Queued { not_before: None } => {
                stage.ready.remove(&task.shard);
            }
            TaskState::Queued {
                not_before: Some(moment),
            } => {
                self.delayed.remove(&(*moment, task));
            }
            TaskState::Running { .. } => stage.running -= 1,
            TaskState::Done { output, file, .. } => {
                stage.committed -= 1;
                stage.finalized -= u32::from(*file == FinalFile::Finalized);
                stage.unfinished_files -= u32::from(is_unfinished(output, *file));
                stage.totals.subtract(output);
                self.uncount_bad(output);
                self.uncount_counters(output);
            }
        }
        taken
    }

    /// Sets the next state of a task that was taken, and updates the counts and queues.
    pub(crate) fn put(&mut self, task: TaskId, mut next: TaskState) {
        let stage = &mut self.stages[task.stage.0 as usize];
        match &mut next {
            TaskState::Waiting | TaskState::Committing { .. } => {}
            TaskState::Queued { not_before: None } => {
                stage.ready.insert(task.shard);
            }
            TaskState::Queued {
                not_before: Some(moment),
            } => {
                self.delayed.insert((*moment, task));
            }
            TaskState::Running { .. } => stage.running += 1,
            TaskState::Done { output, file, .. } => {
                stage.committed += 1;
                stage.finalized += u32::from(*file == FinalFile::Finalized);
                stage.unfinished_files += u32::from(is_unfinished(output, *file));
                stage.totals.add(output);
                self.count_bad(task, output);
                self.count_counters(output);
            }
        }
        let stage = &mut self.stages[task.stage.0 as usize];
        stage.tasks[task.shard.0 as usize].state = next;
    }

    /// The progress of a task's final file; `None` if the plan lacks the task or the task is not
    /// done.
    pub(crate) fn final_file(&self, task: TaskId) -> Option<FinalFile> {
        self.task(task)?.state.final_file()
    }

    /// Sets the progress of the final file of a done task.
    pub(crate) fn set_final_file(&mut self, task: TaskId, next: FinalFile) {
        let mut state = self.take(task);
        if let TaskState::Done { file, .. } = &mut state {
            *file = next;
        }
        self.put(task, state);
    }

    /// Starts a stage: its tasks may run as soon as their input is complete. Does nothing if it has
    /// started already.
    pub(crate) fn start_stage(&mut self, stage: StageId) {
        if self.stage(stage).progress != StageProgress::NotStarted {
            return;
        }
        self.stage_mut(stage).progress = StageProgress::Running;
        for shard in 0..self.stage(stage).total() {
            let task = TaskId {
                stage,
                shard: ShardId(shard),
            };
            self.take(task);
            self.put(task, TaskState::Queued { not_before: None });
        }
    }

    /// Adds a record for the ledger with its consequence; returns its index.
    pub(crate) fn append(
        &mut self,
        out: &mut Outbox,
        record: LogRecord,
        recorded: Recorded,
    ) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        self.recording.push_back((index, recorded));
        out.append(index, record);
        index
    }

    /// Changes a worker and updates its position among the workers that may be given tasks.
    pub(crate) fn with_worker<T>(
        &mut self,
        number: WorkerNumber,
        change: impl FnOnce(&mut Worker) -> T,
    ) -> Option<T> {
        let worker = self.workers.get_mut(&number)?;
        let before = worker.place();
        let result = change(worker);
        let after = worker.place();
        if before != after {
            if let Some(place) = before {
                self.by_load.remove(&(place, number));
            }
            if let Some(place) = after {
                self.by_load.insert((place, number));
            }
        }
        Some(result)
    }

    /// The session for messages to a worker, if there is one.
    pub(crate) fn session_of(&self, number: WorkerNumber) -> Option<SessionId> {
        self.workers.get(&number)?.session()
    }

    /// The history of a task, created if it has none.
    pub(crate) fn history_mut(&mut self, task: TaskId) -> &mut History {
        self.histories.entry(task).or_default()
    }

    /// Stage and shard for people: `stage 2/4 reduce, shard 7`.
    pub(crate) fn describe(&self, task: TaskId) -> String {
        format!("{}, shard {}", self.describe_stage(task.stage), task.shard)
    }

    /// A stage for people: `stage 2/4 reduce`.
    pub(crate) fn describe_stage(&self, stage: StageId) -> String {
        format!(
            "stage {stage}/{} {}",
            self.stages.len(),
            self.stage(stage).name
        )
    }
}

impl Totals {
    fn add(&mut self, output: &TaskOutput) {
        self.records_in = self.records_in.wrapping_add(output.records_in);
        self.bytes_in = self.bytes_in.wrapping_add(output.bytes_in);
        self.rows_out = self.rows_out.wrapping_add(output.file.rows);
        self.bytes_out = self.bytes_out.wrapping_add(output.file.bytes);
    }

    // Addition and subtraction of these sums wrap around. So an absurd number from a worker cannot
    // stop the coordinator, and it disappears from the sums when its output is revoked.
    fn subtract(&mut self, output: &TaskOutput) {
        self.records_in = self.records_in.wrapping_sub(output.records_in);
        self.bytes_in = self.bytes_in.wrapping_sub(output.bytes_in);
        self.rows_out = self.rows_out.wrapping_sub(output.file.rows);
        self.bytes_out = self.bytes_out.wrapping_sub(output.file.bytes);
    }
}
