//! Ends a job: first all final files are completed, then the manifest is written, then the result.
//! Nothing is reported before it is in the ledger, and nothing is appended to the ledger after the
//! result.

use std::mem;

use crate::coordinator::attempts::Ending;
use crate::coordinator::config::MAX_FAILING_MS;
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::effect::Effect;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{JobResult, LogRecord, OutputFile};
use crate::coordinator::state::{
    FinalFile, JobState, Recorded, StageProgress, State, Task, TaskState,
};
use crate::id::{ShardId, StageId, TaskAttempt, TaskId, Timestamp};

impl State {
    fn last_stage(&self) -> Option<StageId> {
        u32::try_from(self.stages.len())
            .ok()?
            .checked_sub(1)
            .map(StageId)
    }

    /// Requests completion of the final files of a committed task, if it has some.
    pub(crate) fn finalize(&mut self, out: &mut Outbox, task: TaskId) {
        if self.completing.contains_key(&task) || !self.completes_files() {
            return;
        }
        let Some(TaskState::Done {
            attempt,
            output,
            file: FinalFile::NotBegun,
        }) = self.task(task).map(|known| &known.state)
        else {
            return;
        };
        let attempt = *attempt;
        let files: Vec<OutputFile> = output.final_files().cloned().collect();
        if files.is_empty() {
            return;
        }
        out.other(Effect::Finalize {
            task: TaskAttempt { task, attempt },
            files,
        });
        self.completing.insert(task, attempt);
        self.set_final_file(task, FinalFile::Completing);
    }

    pub(crate) fn on_file_finalized(&mut self, out: &mut Outbox, task: TaskId) {
        let Some(attempt) = self.completing.remove(&task) else {
            return;
        };
        let is_expected = self.is_completing(TaskAttempt { task, attempt });
        if !self.completes_files() {
            // The result is being recorded. Nothing is recorded after it, but the file is there.
            if is_expected {
                self.set_final_file(task, FinalFile::Finalized);
            }
            return;
        }
        if !is_expected {
            self.finalize(out, task);
            return;
        }
        let record = LogRecord::Finalized { task };
        let index = self.append(out, record, Recorded::Finalized(task));
        self.set_final_file(task, FinalFile::Recording { index });
    }

    pub(crate) fn on_file_lost(&mut self, out: &mut Outbox, lost: TaskAttempt) {
        if self.completing.get(&lost.task) != Some(&lost.attempt) {
            return;
        }
        self.completing.remove(&lost.task);
        if !self.completes_files() {
            return;
        }
        if self.is_completing(lost) {
            self.revoke(out, lost);
            self.judge(out, [lost.task]);
        } else {
            self.finalize(out, lost.task);
        }
        self.conclude_failure(out, self.last_tick);
    }

    /// Whether this attempt won and its final files are being completed. An attempt may have been
    /// revoked in the meantime, because its shuffle file was lost.
    fn is_completing(&self, task: TaskAttempt) -> bool {
        let known = self.task(task.task);
        known.is_some_and(|known| matches!(&known.state, TaskState::Done { attempt, file: FinalFile::Completing, .. } if *attempt == task.attempt))
    }

    pub(crate) fn on_final_file_durable(&mut self, task: TaskId) {
        if let Some(FinalFile::Recording { .. }) = self.final_file(task) {
            self.set_final_file(task, FinalFile::Finalized);
        }
    }

    pub(crate) fn write_manifest_if_complete(&mut self, out: &mut Outbox) {
        let Some(last) = self.last_stage() else {
            return;
        };
        let stage = self.stage(last);
        let is_finished = matches!(stage.progress, StageProgress::Finished { .. });
        let all_stand = stage.finalized == stage.total() && self.dead_letters_stand();
        if is_finished && all_stand && self.job == JobState::Running {
            self.stop_all(out);
            self.job = JobState::WritingManifest;
            out.other(Effect::WriteManifest {
                files: self.committed_files(last),
                more: self.more_files(),
            });
        }
    }

    /// Whether the dead letters of all tasks are complete. If a task runs again because its shuffle
    /// file was lost, its next attempt may write dead letters. Then the answer is no.
    fn dead_letters_stand(&self) -> bool {
        let mut stages = self.stages.iter();
        !self.has_dead_letters
            || stages.all(|stage| stage.committed == stage.total() && stage.unfinished_files == 0)
    }

    pub(crate) fn on_manifest_written(&mut self, out: &mut Outbox, manifest: String) {
        if self.job != JobState::WritingManifest {
            return;
        }
        let Some(stage) = self.stages.last() else {
            return;
        };
        let (files, totals) = (u64::from(stage.finalized), stage.totals);
        let result = JobResult::Succeeded {
            files,
            rows: totals.rows_out,
            bytes: totals.bytes_out,
            manifest,
        };
        self.conclude(out, result);
    }

    /// Ends the job, because its folder belongs to another job. Files of both jobs may have the
    /// same names, so it is not known whose files are there.
    pub(crate) fn on_output_taken(&mut self, out: &mut Outbox, message: String) {
        let is_asked_for = match &self.job {
            JobState::WritingManifest => true,
            JobState::Failing { result, since: _ } => {
                // Files in this folder may no longer be this job's, so none is completed any more.
                let result = result.clone();
                return self.conclude(out, result);
            }
            JobState::Running => self.is_completing_a_file(),
            JobState::Concluding { .. } | JobState::Ended { .. } => false,
        };
        if is_asked_for {
            let reason = FailureReason::OutputLost;
            self.conclude(out, JobResult::Failed { reason, message });
        }
    }

    /// Ends the job with the operator's reason. A job whose files are all complete still succeeds.
    pub(crate) fn on_ended_by_operator(
        &mut self,
        out: &mut Outbox,
        reason: FailureReason,
        message: String,
    ) {
        match &self.job {
            JobState::Running => self.conclude(out, JobResult::Failed { reason, message }),
            JobState::Failing { result, since: _ } => {
                let result = result.clone();
                self.conclude(out, result);
            }
            JobState::WritingManifest | JobState::Concluding { .. } | JobState::Ended { .. } => {}
        }
    }

    /// Ends the job because of its data. Nothing runs any more, but the final files of tasks that
    /// are committed are completed first: the dead letters of a task that skipped too many records
    /// show which records these are.
    pub(crate) fn fail_job(&mut self, out: &mut Outbox, result: JobResult) {
        self.stop_all(out);
        let since = self.last_tick;
        self.job = JobState::Failing { result, since };
        self.finalize_committed(out);
        self.conclude_failure(out, since);
    }

    /// Concludes a job that fails, when all files of committed tasks are complete, or when
    /// [`MAX_FAILING_MS`] has passed.
    pub(crate) fn conclude_failure(&mut self, out: &mut Outbox, now: Timestamp) {
        let JobState::Failing { result, since } = &self.job else {
            return;
        };
        let is_committing = |recorded: &(u64, Recorded)| matches!(recorded.1, Recorded::Done(_));
        let waits = self.recording.iter().any(is_committing)
            || self.stages.iter().any(|stage| stage.unfinished_files > 0);
        if !waits || now.since_ms(*since) >= MAX_FAILING_MS {
            let result = result.clone();
            self.conclude(out, result);
        }
    }

    /// Whether final files of committed tasks are still to be completed.
    fn completes_files(&self) -> bool {
        matches!(self.job, JobState::Running | JobState::Failing { .. })
    }

    fn finalize_committed(&mut self, out: &mut Outbox) {
        for (stage, known) in (0..).map(StageId).zip(0..self.stages.len()) {
            let known = &self.stages[known];
            let (has_files, total) = (known.unfinished_files > 0, known.total());
            for shard in (0..total).map(ShardId).filter(|_| has_files) {
                self.finalize(out, TaskId { stage, shard });
            }
        }
    }

    fn is_completing_a_file(&self) -> bool {
        !self.completing.is_empty()
    }

    /// Ends the job: nothing runs any more, and the record of the result is being written.
    pub(crate) fn conclude(&mut self, out: &mut Outbox, result: JobResult) {
        self.stop_all(out);
        if defect::is(Defect::DismissedBeforeTheEnd) {
            self.sessions
                .keys()
                .for_each(|session| out.shutdown(*session));
        }
        let index = self.append(out, LogRecord::Result(result.clone()), Recorded::Result);
        self.job = JobState::Concluding { result, index };
    }

    /// Cancels everything that is still running. If the job has succeeded, this can only be a task
    /// of an earlier stage that runs again because its output was lost, and that no other task
    /// needs any more.
    fn stop_all(&mut self, out: &mut Outbox) {
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            let Some(tasks) = self.with_worker(number, |worker| mem::take(&mut worker.running))
            else {
                continue;
            };
            for task in tasks {
                self.note_end(out, number, task, Ending::Cancelled, "");
                self.requeue(task, None);
                if let Some(session) = self.session_of(number) {
                    out.cancel(session, task);
                }
            }
        }
    }

    /// Final files that are complete under their names, according to the ledger or the store. Empty
    /// while the job runs.
    pub fn completed_files(&self) -> Vec<OutputFile> {
        let JobState::Ended { .. } = &self.job else {
            return Vec::new();
        };
        let tasks = self.stages.iter().flat_map(|stage| &stage.tasks);
        let files = tasks.filter_map(|task| match &task.state {
            TaskState::Done {
                output,
                file: FinalFile::Recording { .. } | FinalFile::Finalized,
                ..
            } => Some(output.final_files().cloned()),
            TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Running { .. }
            | TaskState::Committing { .. }
            | TaskState::Done { .. } => None,
        });
        files.flatten().collect()
    }

    /// Final files of committed attempts whose uploads were not completed when the job ended, in
    /// shard order. These uploads are never completed. Empty while the job runs.
    pub fn uncompleted_files(&self) -> Vec<OutputFile> {
        let JobState::Ended { .. } = &self.job else {
            return Vec::new();
        };
        let uncompleted = |task: &Task| match &task.state {
            TaskState::Committing { output, .. }
            | TaskState::Done {
                output,
                file: FinalFile::NotBegun | FinalFile::Completing,
                ..
            } => output.final_files().cloned().collect(),
            TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Running { .. }
            | TaskState::Done { .. } => Vec::new(),
        };
        let tasks = self.stages.iter().flat_map(|stage| &stage.tasks);
        tasks.flat_map(uncompleted).collect()
    }

    pub(crate) fn on_result_durable(&mut self, out: &mut Outbox) {
        let job = mem::replace(&mut self.job, JobState::Running);
        self.job = match job {
            JobState::Concluding { result, index: _ } => {
                self.sessions
                    .keys()
                    .for_each(|session| out.shutdown(*session));
                JobState::Ended { result }
            }
            other @ (JobState::Running
            | JobState::Failing { .. }
            | JobState::WritingManifest
            | JobState::Ended { .. }) => other,
        };
        let waiting: Vec<TaskId> = self.dismissed.keys().copied().collect();
        for task in waiting {
            self.dismiss_what_waited(out, task);
        }
    }

    /// Continues after a take-over: requests unfinished work again, and ends the job if a budget
    /// was used up.
    pub(crate) fn resume(&mut self, out: &mut Outbox) {
        if self.job != JobState::Running {
            return;
        }
        self.judge_skipped(out);
        self.judge_counters(out, None);
        self.finalize_committed(out);
        self.advance(out);
        let troubled: Vec<TaskId> = self.histories.keys().copied().collect();
        self.judge(out, troubled);
    }
}
