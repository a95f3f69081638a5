//! Decides what follows from a failure: to which of a task's two budgets it is charged, how long
//! the next try waits, and whether the job ends. The worker decides the class of a failure; this
//! module only counts.
//!
//! A deterministic failure is retried once, because a bit may have flipped, and ends the job if the
//! next try fails with the same message. An application failure (such as a crash, a hang, or a lack
//! of memory) and an attempt that ran for longer than `taskTimeout` are retried until
//! `taskFailures` is used up. A disruption is free, except in two cases: `taskDisruptions` limits
//! disruptions, or the same setback occurs more often than `setback` allows.

use crate::coordinator::attempts::Ending;
use crate::coordinator::config::{MAX_ERROR_CHARACTERS, MAX_LOST_OUTPUTS};
use crate::coordinator::defect::{self, Defect};
use crate::coordinator::outbox::Outbox;
use crate::coordinator::reason::FailureReason;
use crate::coordinator::record::{FailureClass, JobResult, LogRecord};
use crate::coordinator::report::times;
use crate::coordinator::session::Claim;
use crate::coordinator::setback::Setback;
use crate::coordinator::state::{
    Failure, JobState, Recorded, StageProgress, State, TaskState, WorkerNumber,
};
use crate::id::{SessionId, StageId, TaskAttempt, TaskId, Timestamp};

/// The result of a report that an input is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LostInput {
    /// It is the committed output of its task, which has to run again.
    Committed,
    /// It was already replaced, or its task is already running again.
    Replaced,
    /// The failed task does not read it.
    Foreign,
}

/// A failed attempt, as it was reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedAttempt<'a> {
    pub(crate) task: TaskAttempt,
    pub(crate) class: FailureClass,
    /// For a disruption: the cause, if the worker reported it.
    pub(crate) setback: Option<Setback>,
    pub(crate) error: &'a str,
    /// The end of what the attempt logged; may be empty.
    pub(crate) log: &'a str,
}

impl FailedAttempt<'_> {
    /// The setback, if the attempt failed through no fault of the task.
    fn held_up_by(&self) -> Option<Setback> {
        let is_disruption = self.class == FailureClass::Disruption;
        is_disruption.then(|| self.setback.unwrap_or(Setback::WorkerUnhealthy))
    }
}

impl State {
    pub(crate) fn on_failed(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        session: SessionId,
        mut failed: FailedAttempt<'_>,
        lost_input: Option<TaskAttempt>,
    ) {
        let task = failed.task;
        let Some(number) = self.touch_session(now, session) else {
            return;
        };
        match self.claim(now, number, task) {
            Claim::Running => {}
            Claim::RunningElsewhere => {
                out.cancel(session, task);
                return;
            }
            Claim::DealtWith => {
                self.ack_when_recorded(out, session, number, task);
                return;
            }
            // There is no output to lose or to clean up, so no message is needed.
            Claim::Winner { .. } | Claim::Superseded | Claim::Adoptable | Claim::Unknown => {
                out.ack(session, task);
                return;
            }
        }
        if failed.class == FailureClass::Disruption && lost_input.is_none() {
            self.rest(number, now);
        }
        match lost_input.map(|lost| (lost, self.look_for_input(task.task, lost))) {
            Some((lost, LostInput::Committed)) => {
                let read = self.records_read(task);
                let found = self.hold_up(number, task.task, Setback::InputLost, read, failed.error);
                if let Some(sentence) = found {
                    self.fail_held_up(out, now, number, task, &sentence);
                    return;
                }
                self.revoke(out, lost);
                self.detach(out, number, task, Ending::InputLost, failed.error);
                out.ack(session, task);
                self.judge(out, [lost.task]);
                return;
            }
            Some((_, LostInput::Replaced)) => {
                failed.class = FailureClass::Disruption;
                failed.setback = Some(Setback::InputReplaced);
            }
            Some((_, LostInput::Foreign)) | None => {}
        }
        self.fail(out, now, number, failed);
    }

    /// Ends a running attempt of a worker as failed.
    pub(crate) fn fail(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        number: WorkerNumber,
        failed: FailedAttempt<'_>,
    ) {
        let read = self.records_read(failed.task);
        let is_too_often = failed.held_up_by().and_then(|setback| {
            self.hold_up(number, failed.task.task, setback, read, failed.error)
        });
        if let Some(sentence) = is_too_often {
            self.fail_held_up(out, now, number, failed.task, &sentence);
            return;
        }
        let ending = Ending::of_report(failed.class, failed.setback);
        self.note_end(out, number, failed.task, ending, failed.error);
        self.end_attempt(now, number, failed.task);
        let (task, class) = (failed.task, failed.class);
        if class != FailureClass::Disruption {
            let worker = self.workers.get(&number);
            let ordinal = worker.and_then(|worker| worker.ordinal);
            self.note_failed(task, ordinal, failed.log);
        }
        self.charge(out, task, class, failed.error, Some(number));
        self.judge(out, [task.task]);
    }

    /// Ends a running attempt as failed, because its setback is no longer free.
    fn fail_held_up(
        &mut self,
        out: &mut Outbox,
        now: Timestamp,
        number: WorkerNumber,
        task: TaskAttempt,
        sentence: &str,
    ) {
        self.note_end(out, number, task, Ending::FailedByProcess, sentence);
        self.end_attempt(now, number, task);
        self.charge_setback(out, task, sentence, Some(number));
        self.judge(out, [task.task]);
    }

    fn end_attempt(&mut self, now: Timestamp, number: WorkerNumber, task: TaskAttempt) {
        self.with_worker(number, |worker| worker.running.remove(&task));
        let not_before = self.next_try(task.task, now);
        self.requeue(task, Some(not_before));
    }

    /// Records that a running attempt has read, as last reported.
    fn records_read(&self, task: TaskAttempt) -> u64 {
        let running = self.running_attempt(task);
        running.map_or(0, |running| running.records)
    }

    /// Charges a setback to `taskFailures`, because it occurred too often.
    pub(crate) fn charge_setback(
        &mut self,
        out: &mut Outbox,
        task: TaskAttempt,
        error: &str,
        reporter: Option<WorkerNumber>,
    ) {
        self.charge(out, task, FailureClass::Application, error, reporter);
        let failures = &mut self.history_mut(task.task).failures;
        for failure in failures.iter_mut().filter(|f| f.attempt == task.attempt) {
            failure.is_setback = true;
        }
    }

    /// Counts a failed try, and returns when the next one may begin.
    pub(crate) fn next_try(&mut self, task: TaskId, now: Timestamp) -> Timestamp {
        let backoff = self.config.backoff;
        let history = self.history_mut(task);
        history.setbacks = history.setbacks.saturating_add(1);
        now.after_ms(backoff.delay_ms(history.setbacks))
    }

    /// Charges a failure to its budget, and records this. `reporter` is informed when the record is
    /// durable, or at once if there is nothing to record.
    pub(crate) fn charge(
        &mut self,
        out: &mut Outbox,
        task: TaskAttempt,
        class: FailureClass,
        error: &str,
        reporter: Option<WorkerNumber>,
    ) {
        let counts = match class {
            FailureClass::Disruption => self.config.task_disruptions > 0,
            FailureClass::Deterministic | FailureClass::Application | FailureClass::TimedOut => {
                true
            }
        };
        let open = self
            .task(task.task)
            .is_some_and(|known| known.state.winner().is_none());
        let charged_before = self
            .histories
            .get(&task.task)
            .is_some_and(|history| history.has_dealt_with(task.attempt));
        if !counts || !open || charged_before || self.job != JobState::Running {
            if let Some(session) = reporter.and_then(|number| self.session_of(number)) {
                out.ack(session, task);
            }
            return;
        }
        let error: String = error.chars().take(MAX_ERROR_CHARACTERS).collect();
        self.history_mut(task.task).failures.push(Failure {
            attempt: task.attempt,
            class,
            error: error.clone(),
            is_setback: false,
        });
        self.append(
            out,
            LogRecord::Failed { task, class, error },
            Recorded::Failed { task, reporter },
        );
    }

    /// Acknowledges a repeated report of a failure. This happens when the record of the failure is
    /// durable, or at once if it already is.
    pub(crate) fn ack_when_recorded(
        &mut self,
        out: &mut Outbox,
        session: SessionId,
        number: WorkerNumber,
        repeated: TaskAttempt,
    ) {
        let on_its_way = self
            .recording
            .iter_mut()
            .find_map(|(_, recorded)| match recorded {
                Recorded::Failed { task, reporter } if *task == repeated => Some(reporter),
                Recorded::Failed { .. }
                | Recorded::Done(_)
                | Recorded::Revoked
                | Recorded::StageFinished(_)
                | Recorded::Finalized(_)
                | Recorded::Result => None,
            });
        match on_its_way {
            Some(reporter) => *reporter = Some(number),
            None => out.ack(session, repeated),
        }
    }

    pub(crate) fn is_revoked(&self, task: TaskAttempt) -> bool {
        let history = self.histories.get(&task.task);
        history.is_some_and(|history| history.revoked.contains(&task.attempt))
    }

    /// Ends the job if one of these tasks has used up a budget.
    pub(crate) fn judge(&mut self, out: &mut Outbox, tasks: impl IntoIterator<Item = TaskId>) {
        if self.job != JobState::Running {
            return;
        }
        let verdict = tasks
            .into_iter()
            .find_map(|task| Some((task, self.verdict(task)?)));
        if let Some((task, result)) = verdict {
            self.ended_by = self.failed_task(task);
            self.fail_job(out, result);
        }
    }

    /// Returns how the job ends because of this task, or `None` if it does not end.
    pub(crate) fn verdict(&self, task: TaskId) -> Option<JobResult> {
        let history = self.histories.get(&task)?;
        if self.task(task)?.state.winner().is_some() {
            return None;
        }
        let place = self.describe(task);
        let failed = |reason, message| Some(JobResult::Failed { reason, message });

        let tries = history.own_failures().count();
        let allowed = self.config.task_failures.max(1);
        if let Some(last) = history.own_failures().next_back() {
            let error = &last.error;
            if tries >= allowed as usize {
                let message = format!(
                    "{place}: failed {}, and spec.retries.taskFailures allows {allowed}; last error: {error}",
                    times(u32::try_from(tries).unwrap_or(u32::MAX))
                );
                let reason = match last.class {
                    FailureClass::TimedOut => FailureReason::TaskTimedOut,
                    FailureClass::Deterministic
                    | FailureClass::Application
                    | FailureClass::Disruption => FailureReason::TaskFailed,
                };
                return failed(reason, message);
            }
            let repeats = |failure: &Failure| {
                failure.class == FailureClass::Deterministic && failure.error == *error
            };
            if tries >= 2 && history.own_failures().rev().take(2).all(repeats) {
                let often = if tries == 2 {
                    "twice".to_owned()
                } else {
                    format!("{tries} times, the last two times")
                };
                let message = format!(
                    "{place}: failed {often} with the same error, so a further try cannot help: {error}"
                );
                return failed(FailureReason::TaskFailed, message);
            }
        }

        let losses = history.failures.len() - tries;
        let limit = self.config.task_disruptions;
        if limit > 0 && losses >= limit as usize {
            let error = history
                .failures
                .iter()
                .rfind(|failure| failure.class == FailureClass::Disruption)
                .map_or("", |failure| &failure.error);
            let message = format!(
                "{place}: was disrupted {losses} times, and spec.retries.taskDisruptions allows {limit}; last cause: {error}"
            );
            return failed(FailureReason::TaskDisrupted, message);
        }

        let lost = history.revoked.len() - history.losses_forgiven;
        if lost >= MAX_LOST_OUTPUTS {
            let message = format!(
                "{place}: its output was written {lost} times and each time found lost or damaged; storage does not keep what is written to it"
            );
            return failed(FailureReason::OutputLost, message);
        }
        None
    }

    /// Checks the report that an attempt's output, which `reader` had to read, is lost or damaged.
    fn look_for_input(&self, reader: TaskId, lost: TaskAttempt) -> LostInput {
        let reads = self.stages.get(reader.stage.0 as usize);
        let is_its_input = reads.is_some_and(|stage| stage.reads.contains(&lost.task.stage));
        match self
            .task(lost.task)
            .filter(|_| is_its_input)
            .map(|task| &task.state)
        {
            // The dead letters of the lost attempt may be complete already. The next attempt has
            // the same dead letters.
            Some(TaskState::Done { attempt, .. }) if *attempt == lost.attempt => {
                LostInput::Committed
            }
            Some(_) => LostInput::Replaced,
            None => LostInput::Foreign,
        }
    }

    /// Revokes a commit because its output is lost: the task runs again, and its stage is no longer
    /// finished.
    pub(crate) fn revoke(&mut self, out: &mut Outbox, lost: TaskAttempt) {
        self.append(out, LogRecord::Revoked { task: lost }, Recorded::Revoked);
        self.forget_commit(lost);
    }

    /// The part of `revoke` that is shared with replay.
    pub(crate) fn forget_commit(&mut self, lost: TaskAttempt) {
        self.history_mut(lost.task).revoked.push(lost.attempt);
        self.take(lost.task);
        self.put(lost.task, TaskState::Queued { not_before: None });
        if !defect::is(Defect::LostOutputKeepsStage) {
            self.reopen_stage(lost.task.stage);
        }
    }

    fn reopen_stage(&mut self, stage: StageId) {
        let stage = self.stage_mut(stage);
        match stage.progress {
            StageProgress::NotStarted | StageProgress::Running => {}
            StageProgress::Publishing { .. }
            | StageProgress::Recording { .. }
            | StageProgress::Finished { .. } => {
                stage.progress = StageProgress::Running;
            }
        }
    }
}
