//! Builds a state from the ledger's records. Refuses a record that no coordinator of this plan can
//! have written. Reads nothing itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::coordinator::bad_records;
use crate::coordinator::config::Config;
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::durations::Durations;
use crate::coordinator::losses::FleetLosses;
use crate::coordinator::record::{JobResult, LogRecord};
use crate::coordinator::state::{
    Failure, FinalFile, History, JobState, StageProgress, StageState, State, Task, TaskState,
    Totals, WorkerNumber,
};
use crate::id::{Epoch, StageId, TaskAttempt, TaskId, Timestamp};
use crate::plan::{Plan, Stage};

/// Why the ledger's records are not those of this job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ledger record {position}: {problem}")]
pub struct ReplayError {
    /// Which of the replayed records, from 0.
    pub position: u64,
    /// What is wrong with it.
    pub problem: ReplayProblem,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayProblem {
    /// It names a task that does not exist.
    #[error("the plan has no {0}")]
    NoSuchTask(TaskId),
    /// It names a stage that does not exist.
    #[error("the plan has no stage {0}")]
    NoSuchStage(StageId),
    /// Its attempt has the epoch of the coordinator that replays the records, or a later one.
    #[error("{task} is of epoch {own} or later, and epoch {own} has no attempts yet")]
    NotOfThePast {
        /// The attempt.
        task: TaskAttempt,
        /// The epoch that replays the records.
        own: Epoch,
    },
    /// Two attempts of one task won.
    #[error("{0} is done, but another attempt of it was done before and never revoked")]
    TwoWinners(TaskAttempt),
    /// It is about a task of a stage that cannot have started yet.
    #[error("{0} is done, but a stage that it reads never finished")]
    TooEarly(TaskAttempt),
    /// It revokes an attempt that never won.
    #[error("{0} is revoked, but it was not done")]
    RevokedNotDone(TaskAttempt),
    /// A stage is finished although some of its tasks are not done.
    #[error("stage {stage} is finished with {committed} of {total} tasks done")]
    StageIncomplete {
        /// The stage.
        stage: StageId,
        /// Number of its tasks that are done.
        committed: u32,
        /// Number of its tasks.
        total: u32,
    },
    /// A final file is recorded as complete, and its task is not done, or has no final file.
    #[error("a final file is recorded for {0}, which is not done or is not of the last stage")]
    FinalizedNotDone(TaskId),
    /// The job succeeded, and not all final files are complete.
    #[error("the job succeeded, but not all of its final files are complete")]
    SucceededIncomplete,
    /// A record that is not a restart follows the result.
    #[error("it follows the job's result, and only the restart of a failed job can do that")]
    AfterResult,
}

impl State {
    /// Returns the state with which a coordinator of `epoch` begins. `records` are those of all
    /// earlier epochs, in order. The caller must call `start` next.
    pub fn new(
        config: Config,
        plan: &Plan,
        epoch: Epoch,
        replay: impl IntoIterator<Item = LogRecord>,
    ) -> Result<Self, ReplayError> {
        let mut state = Self::empty(config, plan, epoch);
        for (position, record) in (0..).zip(replay) {
            state
                .replay(record)
                .map_err(|problem| ReplayError { position, problem })?;
        }
        Ok(state)
    }

    fn empty(config: Config, plan: &Plan, epoch: Epoch) -> Self {
        let mut state = Self {
            config,
            epoch,
            job: JobState::Running,
            stages: empty_stages(plan),
            width: plan.width(),
            slots_of_stages: slots_of_stages(plan),
            bad: bad_records::of_plan(plan),
            counters: BTreeMap::new(),
            histories: BTreeMap::new(),
            last_failed: None,
            ended_by: None,
            workers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            pods: BTreeMap::new(),
            by_load: BTreeSet::new(),
            unexplained: BTreeMap::new(),
            delayed: BTreeSet::new(),
            next_worker: WorkerNumber(0),
            next_index: 0,
            recording: VecDeque::new(),
            won: VecDeque::new(),
            dismissed: BTreeMap::new(),
            completing: BTreeMap::new(),
            has_dead_letters: plan
                .on_errors
                .values()
                .any(|on_error| on_error.dead_letter.is_some()),
            disruptions: 0,
            workers_kept: None,
            drains: false,
            speculations: 0,
            fleet_losses: FleetLosses::default(),
            last_tick: Timestamp(0),
            observing_since: Timestamp(0),
            dispatch_from: Timestamp(0),
            no_worker_since: None,
        };
        for stage in &plan.stages {
            if state.has_input(stage.id) {
                state.start_stage(stage.id);
            }
        }
        state
    }

    fn replay(&mut self, record: LogRecord) -> Result<(), ReplayProblem> {
        if let LogRecord::Restarted(_) = &record {
            return self.replay_restarted();
        }
        if self.job != JobState::Running {
            return Err(ReplayProblem::AfterResult);
        }
        match record {
            LogRecord::Restarted(_) => Ok(()),
            LogRecord::Done { task, output } => {
                self.expect_past(task)?;
                let state = &self
                    .task(task.task)
                    .ok_or(ReplayProblem::NoSuchTask(task.task))?
                    .state;
                match state {
                    TaskState::Queued { .. } => {
                        self.take(task.task);
                        let done = TaskState::Done {
                            attempt: task.attempt,
                            output,
                            file: FinalFile::NotBegun,
                        };
                        self.put(task.task, done);
                        Ok(())
                    }
                    TaskState::Waiting => Err(ReplayProblem::TooEarly(task)),
                    TaskState::Running { .. }
                    | TaskState::Committing { .. }
                    | TaskState::Done { .. } => Err(ReplayProblem::TwoWinners(task)),
                }
            }
            LogRecord::Failed { task, class, error } => {
                self.expect_past(task)?;
                self.task(task.task)
                    .ok_or(ReplayProblem::NoSuchTask(task.task))?;
                if defect::is(Defect::TakeOverClearsFailures) {
                    return Ok(());
                }
                self.history_mut(task.task).failures.push(Failure {
                    attempt: task.attempt,
                    class,
                    error,
                    is_setback: false,
                });
                Ok(())
            }
            LogRecord::Revoked { task } => {
                let known = self
                    .task(task.task)
                    .ok_or(ReplayProblem::NoSuchTask(task.task))?;
                if known
                    .state
                    .committed()
                    .is_none_or(|(winner, _)| winner != task.attempt)
                {
                    return Err(ReplayProblem::RevokedNotDone(task));
                }
                self.forget_commit(task);
                Ok(())
            }
            LogRecord::StageFinished { stage, outputs } => {
                self.replay_stage_finished(stage, outputs)
            }
            LogRecord::Finalized { task } => self.replay_finalized(task),
            LogRecord::Result(result) => self.replay_result(result),
        }
    }

    fn expect_past(&self, task: TaskAttempt) -> Result<(), ReplayProblem> {
        if task.attempt.epoch < self.epoch {
            Ok(())
        } else {
            Err(ReplayProblem::NotOfThePast {
                task,
                own: self.epoch,
            })
        }
    }

    fn replay_stage_finished(
        &mut self,
        stage: StageId,
        outputs: String,
    ) -> Result<(), ReplayProblem> {
        let known = self
            .stages
            .get_mut(stage.0 as usize)
            .ok_or(ReplayProblem::NoSuchStage(stage))?;
        let (committed, total) = (known.committed, known.total());
        if known.progress == StageProgress::NotStarted || committed != total {
            return Err(ReplayProblem::StageIncomplete {
                stage,
                committed,
                total,
            });
        }
        known.progress = StageProgress::Finished { outputs };
        self.start_readers(stage);
        Ok(())
    }

    fn replay_finalized(&mut self, task: TaskId) -> Result<(), ReplayProblem> {
        let known = self.task(task).ok_or(ReplayProblem::NoSuchTask(task))?;
        let winner = known.state.committed();
        let has_files = winner.is_some_and(|(_, output)| output.has_final_files());
        if !has_files || known.state.final_file() != Some(FinalFile::NotBegun) {
            return Err(ReplayProblem::FinalizedNotDone(task));
        }
        self.set_final_file(task, FinalFile::Finalized);
        Ok(())
    }

    /// The job goes on from what is committed. A job that was ended without its coordinator has no
    /// result.
    fn replay_restarted(&mut self) -> Result<(), ReplayProblem> {
        match &self.job {
            JobState::Running
            | JobState::Ended {
                result: JobResult::Failed { .. },
            } => {}
            JobState::Failing { .. }
            | JobState::WritingManifest
            | JobState::Concluding { .. }
            | JobState::Ended {
                result: JobResult::Succeeded { .. },
            } => return Err(ReplayProblem::AfterResult),
        }
        self.job = JobState::Running;
        if !defect::is(Defect::RestartKeepsFailures) {
            self.histories.values_mut().for_each(History::forgive);
        }
        Ok(())
    }

    fn replay_result(&mut self, result: JobResult) -> Result<(), ReplayProblem> {
        let all_stand = self.stages.last().is_some_and(|last| {
            matches!(last.progress, StageProgress::Finished { .. })
                && last.finalized == last.total()
        }) && self.stages.iter().all(|stage| stage.unfinished_files == 0);
        if matches!(result, JobResult::Succeeded { .. }) && !all_stand {
            return Err(ReplayProblem::SucceededIncomplete);
        }
        self.job = JobState::Ended { result };
        Ok(())
    }
}

fn empty_stages(plan: &Plan) -> Vec<StageState> {
    let mut stages: Vec<StageState> = plan.stages.iter().map(empty_stage).collect();
    for stage in &plan.stages {
        for read in stage.reads() {
            stages[read.0 as usize].readers.push(stage.id);
        }
    }
    stages
}

/// Returns the number of slots that a task of each stage takes. Empty if no command takes more than
/// one slot, as in most plans.
fn slots_of_stages(plan: &Plan) -> Arc<[u32]> {
    let slots: Vec<u32> = plan.stages.iter().map(Stage::slots).collect();
    if slots.iter().all(|slots| *slots == 1) {
        return Arc::default();
    }
    slots.into()
}

fn empty_stage(stage: &Stage) -> StageState {
    let task = Task {
        state: TaskState::Waiting,
        next_number: 1,
    };
    StageState {
        name: stage.name.clone(),
        reads: stage.reads().collect(),
        readers: Vec::new(),
        progress: StageProgress::NotStarted,
        tasks: vec![task; stage.shards as usize],
        ready: BTreeSet::new(),
        running: 0,
        committed: 0,
        finalized: 0,
        unfinished_files: 0,
        totals: Totals::default(),
        published: 0,
        latency_ms: None,
        durations: Durations::default(),
    }
}
