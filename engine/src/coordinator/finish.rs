//! How a job ends: final files are completed one by one, then the manifest, then the result.
//! Nothing is reported before it is in the ledger, and nothing is appended after the result.

use std::mem;

use crate::coordinator::defect::{self, Defect};
use crate::coordinator::effect::Effect;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{JobResult, LogRecord, OutputFile};
use crate::coordinator::state::{
    FinalFile, JobState, Recorded, StageProgress, State, Task, TaskState,
};
use crate::id::{ShardId, StageId, TaskAttempt, TaskId};

impl State {
    fn last_stage(&self) -> Option<StageId> {
        u32::try_from(self.stages.len())
            .ok()?
            .checked_sub(1)
            .map(StageId)
    }

    /// Requests completion of the final file of a committed sink task.
    pub(crate) fn finalize_if_last(&mut self, out: &mut Outbox, task: TaskId) {
        if !self.is_last_stage(task.stage) || self.job != JobState::Running {
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
        out.other(Effect::Finalize {
            task: TaskAttempt {
                task,
                attempt: *attempt,
            },
            file: output.file.clone(),
        });
        self.set_final_file(task, FinalFile::Completing);
    }

    pub(crate) fn on_file_finalized(&mut self, out: &mut Outbox, task: TaskId) {
        if self.final_file(task) != Some(FinalFile::Completing) || self.job != JobState::Running {
            return;
        }
        let record = LogRecord::Finalized { task };
        let index = self.append(out, record, Recorded::Finalized(task));
        self.set_final_file(task, FinalFile::Recording { index });
    }

    pub(crate) fn on_file_lost(&mut self, out: &mut Outbox, lost: TaskAttempt) {
        let is_being_completed = self
            .task(lost.task)
            .is_some_and(|task| matches!(&task.state, TaskState::Done { attempt, file: FinalFile::Completing, .. } if *attempt == lost.attempt));
        if is_being_completed && self.job == JobState::Running {
            self.revoke(out, lost);
            self.judge(out, [lost.task]);
        }
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
        if is_finished && stage.finalized == stage.total() && self.job == JobState::Running {
            self.stop_all(out);
            self.job = JobState::WritingManifest;
            out.other(Effect::WriteManifest {
                files: self.committed_files(last),
            });
        }
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

    /// Ends the job, because its folder belongs to another job. Files of the same names may have
    /// been mixed by now, so nothing is known about them.
    pub(crate) fn on_output_taken(&mut self, out: &mut Outbox, message: String) {
        let is_asked_for = match self.job {
            JobState::WritingManifest => true,
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
        if self.job == JobState::Running {
            self.conclude(out, JobResult::Failed { reason, message });
        }
    }

    fn is_completing_a_file(&self) -> bool {
        let mut tasks = self
            .stages
            .last()
            .into_iter()
            .flat_map(|stage| &stage.tasks);
        tasks.any(|task| task.state.final_file() == Some(FinalFile::Completing))
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

    /// Cancels everything that is still running. After success of the last stage this can only be
    /// the repetition of a lost output of an earlier stage that was not needed after all.
    fn stop_all(&mut self, out: &mut Outbox) {
        let numbers: Vec<_> = self.workers.keys().copied().collect();
        for number in numbers {
            let Some(tasks) = self.with_worker(number, |worker| mem::take(&mut worker.running))
            else {
                continue;
            };
            for task in tasks {
                self.requeue(task, None);
                if let Some(session) = self.session_of(number) {
                    out.cancel(session, task);
                }
            }
        }
    }

    /// Final files of committed attempts whose uploads were not completed when the job ended, in
    /// shard order: they will never be completed. Empty while the job runs.
    pub fn uncompleted_files(&self) -> Vec<OutputFile> {
        let (JobState::Ended { .. }, Some(last)) = (&self.job, self.last_stage()) else {
            return Vec::new();
        };
        let uncompleted = |task: &Task| match &task.state {
            TaskState::Committing { output, .. }
            | TaskState::Done {
                output,
                file: FinalFile::NotBegun | FinalFile::Completing,
                ..
            } => Some(output.file.clone()),
            TaskState::Waiting
            | TaskState::Queued { .. }
            | TaskState::Running { .. }
            | TaskState::Done { .. } => None,
        };
        self.stage(last)
            .tasks
            .iter()
            .filter_map(uncompleted)
            .collect()
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
            other @ (JobState::Running | JobState::WritingManifest | JobState::Ended { .. }) => {
                other
            }
        };
        let waiting: Vec<TaskId> = self.dismissed.keys().copied().collect();
        for task in waiting {
            self.dismiss_what_waited(out, task);
        }
    }

    /// Continues after a take-over: unfinished work is repeated, and a budget that was used up ends
    /// the job now.
    pub(crate) fn resume(&mut self, out: &mut Outbox) {
        if self.job != JobState::Running {
            return;
        }
        if let Some(last) = self.last_stage() {
            for shard in 0..self.stage(last).total() {
                self.finalize_if_last(
                    out,
                    TaskId {
                        stage: last,
                        shard: ShardId(shard),
                    },
                );
            }
        }
        self.advance(out);
        let troubled: Vec<TaskId> = self.histories.keys().copied().collect();
        self.judge(out, troubled);
    }
}
