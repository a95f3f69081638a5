//! Makes the result of a task final. The first valid report of a task wins, and its record is
//! written into the ledger. The worker gets its acknowledgement, the stage counts the task, and
//! later stages may read the output, but only after the record is durable.

use crate::coordinator::defect::{self, Defect};
use crate::coordinator::effect::Effect;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::record::{FilePlace, LogRecord, OutputFile, TaskOutput};
use crate::coordinator::session::Claim;
use crate::coordinator::state::{
    FinalFile, JobState, Recorded, RunningAttempt, StageProgress, State, TaskState, WorkerNumber,
};
use crate::id::{SessionId, ShardId, StageId, TaskAttempt, TaskId, Timestamp};

/// In the moving mean of a stage's latency, all earlier tasks together weigh this many times as
/// much as the newest task.
const LATENCY_MEMORY: u64 = 7;

/// All files of an attempt.
fn files_of(output: &TaskOutput) -> Vec<OutputFile> {
    output.files().cloned().collect()
}

impl State {
    pub(crate) fn on_done(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        session: SessionId,
        tasks: Vec<(TaskAttempt, TaskOutput)>,
    ) {
        let Some(number) = self.touch_session(now, session) else {
            return;
        };
        for (task, output) in tasks {
            let mut claim = self.claim(now, number, task);
            if defect::takes(claim, task.attempt.epoch < self.epoch) {
                claim = Claim::Running;
            }
            match claim {
                Claim::Running => {
                    self.recover(number);
                    self.commit(out, now, number, task, output);
                }
                Claim::Winner { durable: true } => out.ack(session, task),
                Claim::DealtWith => {
                    // A revoked output is kept, because readers of an older listing may still read
                    // it.
                    if !self.is_revoked(task) {
                        self.discard(out, task, files_of(&output));
                    }
                    self.ack_when_recorded(out, session, number, task);
                }
                Claim::Winner { durable: false } => self.set_reporter(task, number),
                Claim::Superseded => self.dismiss(out, session, task, files_of(&output)),
                Claim::RunningElsewhere => out.cancel(session, task),
                Claim::Adoptable | Claim::Unknown => {
                    if self.can_have_been_dispatched(task) {
                        self.dismiss(out, session, task, files_of(&output));
                    } else {
                        self.discard(out, task, files_of(&output));
                    }
                    out.cancel(session, task);
                }
            }
        }
    }

    /// Deletes the files of a superseded attempt and lets its worker forget the attempt. This must
    /// wait until the task's winner or the job's end is durable. Before that, these files may be
    /// the only output of the task that the next coordinator finds.
    fn dismiss(
        &mut self,
        out: &mut Outbox,
        session: SessionId,
        task: TaskAttempt,
        files: Vec<OutputFile>,
    ) {
        let winner_is_durable = self
            .task(task.task)
            .is_some_and(|known| known.state.committed().is_some());
        if winner_is_durable || matches!(self.job, JobState::Ended { .. }) {
            self.discard(out, task, files);
            if self.sessions.contains_key(&session) {
                out.ack(session, task);
            }
            return;
        }
        if defect::is(Defect::SupersededDiscardedTooEarly) {
            self.discard(out, task, files.clone());
        }
        let dismissed = self.dismissed.entry(task.task).or_default();
        dismissed.insert(task.attempt, (session, files));
    }

    /// Dismisses the superseded attempts that waited until this task's winner, or the job's end,
    /// was durable.
    pub(crate) fn dismiss_what_waited(&mut self, out: &mut Outbox, task: TaskId) {
        for (attempt, (session, files)) in self.dismissed.remove(&task).unwrap_or_default() {
            self.dismiss(out, session, TaskAttempt { task, attempt }, files);
        }
    }

    /// Deletes the files of a superseded attempt. A file that is also a file of the winner is kept.
    fn discard(&self, out: &mut Outbox, task: TaskAttempt, files: Vec<OutputFile>) {
        let winner = self.task(task.task).and_then(|known| known.state.winner());
        for file in files {
            let has_won = winner.is_some_and(|(winner, output)| match &file.place {
                FilePlace::Shuffle => winner == task.attempt,
                FilePlace::Final(_) => output.files().any(|won| won.place == file.place),
            });
            if !has_won {
                out.other(Effect::Discard { task, file });
            }
        }
    }

    /// Commits an attempt. The first report of a task wins. The shell has already checked that the
    /// file is at the path of the attempt.
    fn commit(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        number: WorkerNumber,
        task: TaskAttempt,
        output: TaskOutput,
    ) {
        self.gets_on(task.task);
        self.with_worker(number, |worker| worker.running.remove(&task));
        let mut winner = None;
        if let TaskState::Running { attempts } = self.take(task.task) {
            for other in attempts {
                if other.attempt == task.attempt {
                    self.note_latency(now, task.task.stage, &other);
                    winner = Some(other);
                } else {
                    self.relieve(out, task.task, &other);
                }
            }
        }
        let record = LogRecord::Done {
            task,
            output: output.clone(),
        };
        let index = self.append(out, record, Recorded::Done(task.task));
        self.note_win(now, number, task, winner.as_ref(), &output, index);
        if defect::is(Defect::AckBeforeDurable)
            && let Some(session) = self.session_of(number)
        {
            out.ack(session, task);
        }
        if defect::is(Defect::FinalizeBeforeDurable) && self.is_last_stage(task.task.stage) {
            out.other(Effect::Finalize {
                task,
                files: files_of(&output),
            });
        }
        self.put(
            task.task,
            TaskState::Committing {
                attempt: task.attempt,
                output,
                index,
                reporter: number,
            },
        );
    }

    fn note_latency(&mut self, now: Timestamp, stage: StageId, attempt: &RunningAttempt) {
        // The start time of an adopted attempt is not known.
        if attempt.attempt.epoch == self.epoch {
            let latest = now.since_ms(attempt.since);
            let stage = self.stage_mut(stage);
            let mean = |mean: u64| {
                mean.saturating_mul(LATENCY_MEMORY).saturating_add(latest) / (LATENCY_MEMORY + 1)
            };
            stage.latency_ms = Some(stage.latency_ms.map_or(latest, mean));
            stage.durations.add(latest);
        }
    }

    pub(crate) fn on_durable(&mut self, out: &mut Outbox, through: u64) {
        self.note_durable_wins(out, through);
        while let Some((index, _)) = self.recording.front()
            && *index <= through
        {
            let Some((index, recorded)) = self.recording.pop_front() else {
                break;
            };
            match recorded {
                Recorded::Done(task) => self.on_commit_durable(out, task),
                Recorded::Failed { task, reporter } => {
                    if let Some(session) = reporter.and_then(|number| self.session_of(number)) {
                        out.ack(session, task);
                    }
                }
                Recorded::Revoked => {}
                Recorded::StageFinished(stage) => self.on_stage_finish_durable(stage, index),
                Recorded::Finalized(task) => self.on_final_file_durable(task),
                Recorded::Result => self.on_result_durable(out),
            }
        }
        self.advance(out);
    }

    fn on_commit_durable(&mut self, out: &mut Outbox, task: TaskId) {
        match self.take(task) {
            TaskState::Committing {
                attempt,
                output,
                index: _,
                reporter,
            } => {
                if let Some(session) = self.session_of(reporter) {
                    out.ack(session, TaskAttempt { task, attempt });
                }
                let file = FinalFile::NotBegun;
                let done = TaskState::Done {
                    attempt,
                    output,
                    file,
                };
                self.put(task, done);
                self.dismiss_what_waited(out, task);
                self.judge_skipped(out);
                self.judge_counters(out, Some(task));
                self.finalize(out, task);
            }
            other @ (TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Running { .. }
            | TaskState::Done { .. }) => self.put(task, other),
        }
    }

    /// Finishes each stage whose tasks are all committed. After the last stage, continues with the
    /// end of the job.
    pub(crate) fn advance(&mut self, out: &mut Outbox) {
        self.conclude_failure(out, self.last_tick);
        if self.job != JobState::Running {
            return;
        }
        for position in 0..self.stages.len() {
            let Ok(position) = u32::try_from(position) else {
                break;
            };
            let stage = StageId(position);
            let known = self.stage(stage);
            let has_started = known.progress == StageProgress::Running
                || defect::is(Defect::TotalZeroIsDone)
                    && known.progress == StageProgress::NotStarted;
            if has_started && known.committed == known.total() {
                if self.judge_share(out, stage) {
                    return;
                }
                self.finish_stage(out, stage);
            }
        }
        self.write_manifest_if_complete(out);
    }

    /// Continues with a stage whose tasks are all committed: publishes its outputs for the stages
    /// that read it. If it is the last stage, records that it is finished.
    fn finish_stage(&mut self, out: &mut Outbox, stage: StageId) {
        if self.is_last_stage(stage) {
            self.record_stage_finished(out, stage, String::new());
            return;
        }
        let known = self.stage_mut(stage);
        let version = known.published;
        known.published += 1;
        known.progress = StageProgress::Publishing { version };
        let outputs = self.committed_files(stage);
        out.other(Effect::PublishStage {
            stage,
            version,
            outputs,
        });
    }

    /// The files of a stage's committed tasks in shard order.
    pub(crate) fn committed_files(&self, stage: StageId) -> Vec<(TaskAttempt, OutputFile)> {
        let file = |(shard, task): (u32, &crate::coordinator::state::Task)| {
            let (attempt, output) = task.state.committed()?;
            Some((
                TaskAttempt {
                    task: TaskId {
                        stage,
                        shard: ShardId(shard),
                    },
                    attempt,
                },
                output.file.clone(),
            ))
        };
        let stage = self.stage(stage);
        let mut files = Vec::with_capacity(stage.committed as usize);
        files.extend((0..).zip(&stage.tasks).filter_map(file));
        files
    }

    /// The final files of all committed tasks, in the order of the tasks, without the files that
    /// contain the sink's records. Dead letters are such files.
    pub(crate) fn more_files(&self) -> Vec<(TaskAttempt, OutputFile)> {
        let stages = (0..).map(StageId).zip(&self.stages);
        let tasks = stages.flat_map(|(stage, known)| {
            let shards = (0..).map(ShardId).zip(&known.tasks);
            shards.map(move |(shard, task)| (TaskId { stage, shard }, task))
        });
        let committed = tasks.filter_map(|(task, known)| Some((task, known.state.committed()?)));
        let files = committed.flat_map(|(task, (attempt, output))| {
            let task = TaskAttempt { task, attempt };
            output
                .more_files()
                .iter()
                .map(move |file| (task, file.clone()))
        });
        files.collect()
    }

    pub(crate) fn on_stage_published(
        &mut self,
        out: &mut Outbox,
        stage: StageId,
        version: u32,
        outputs: String,
    ) {
        let waits_for_this = self
            .stages
            .get(stage.0 as usize)
            .is_some_and(|known| known.progress == StageProgress::Publishing { version });
        // If an output was lost in the meantime, the stage runs again, and the published list is
        // out of date.
        if waits_for_this && self.job == JobState::Running {
            self.record_stage_finished(out, stage, outputs);
        }
    }

    fn record_stage_finished(&mut self, out: &mut Outbox, stage: StageId, outputs: String) {
        let record = LogRecord::StageFinished {
            stage,
            outputs: outputs.clone(),
        };
        let index = self.append(out, record, Recorded::StageFinished(stage));
        self.stage_mut(stage).progress = StageProgress::Recording { index, outputs };
        if defect::is(Defect::StageFinishNotAwaited) {
            self.on_stage_finish_durable(stage, index);
        }
    }

    fn on_stage_finish_durable(&mut self, stage: StageId, durable: u64) {
        let progress = &mut self.stage_mut(stage).progress;
        if let StageProgress::Recording { index, outputs } = progress
            && *index == durable
        {
            let outputs = std::mem::take(outputs);
            *progress = StageProgress::Finished { outputs };
            self.start_readers(stage);
        }
    }

    /// Starts each stage that reads this finished stage, unless it also reads a stage that is not
    /// finished.
    pub(crate) fn start_readers(&mut self, stage: StageId) {
        for reader in self.stage(stage).readers.clone() {
            if self.has_input(reader) {
                self.start_stage(reader);
            }
        }
    }
}
