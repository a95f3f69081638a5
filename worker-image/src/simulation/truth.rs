//! Records the facts of a run, as observed in the store and in messages, and reports every message
//! or action that contradicts them. It asks neither coordinators nor workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zephyr_engine::coordinator::record::{
    self, FilePlace, FinalPlace, JobResult, LogRecord, TaskOutput,
};
use zephyr_engine::id::{TaskAttempt, TaskId};
use zephyr_proto::worker::{
    CoordinatorMessage, FailureClass, WorkerMessage, coordinator_message, worker_message,
};
use zephyr_store::attempts::{AttemptLine, decode};
use zephyr_store::finalize::{MANIFEST_NAME, STARTED_NAME};
use zephyr_store::shuffle::shuffle_path;

use super::job::OUTPUT;
use super::journal::Journal;
use super::ledger_book::LedgerBook;
use super::store::Applied;
use crate::convert::identity::{task_attempt, task_attempts};
use crate::convert::wire::task_done;

/// How an attempt ended, according to its worker.
#[derive(Clone, Debug)]
enum Report {
    Done(Box<TaskOutput>),
    Failed {
        class: i32,
        lost_input: Option<TaskAttempt>,
    },
}

/// The facts.
pub(super) struct Truth {
    journal: Journal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    book: LedgerBook,
    reports: BTreeMap<TaskAttempt, Report>,
    /// The attempts whose results have reached the coordinator of each epoch.
    received: BTreeMap<u64, BTreeSet<TaskAttempt>>,
    /// Attempts whose output was found to be lost.
    lost: BTreeSet<TaskAttempt>,
    /// The last dispatched attempt of each task. `revoked` contains the attempts that were revoked.
    newest: BTreeMap<TaskId, TaskAttempt>,
    cancelled: BTreeSet<TaskAttempt>,
}

impl Truth {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, is_right: Result<(), String>) {
        if let Err(wrong) = is_right {
            self.journal.violated(&wrong);
        }
    }

    /// Records a change in the store.
    pub(super) fn applied(&self, applied: &Applied<'_>) {
        let mut state = self.state();
        let is_right = match applied {
            Applied::Put { path, .. } if is_final(path) && !is_mark(path) => Err(format!(
                "{path} is put, and only its upload may be completed"
            )),
            Applied::Put { path, bytes } if path.contains("/attempts/") => {
                are_durable(&state.book, path, bytes)
            }
            Applied::Put { path, bytes } => state.book.put(path, bytes),
            Applied::Completed { path, upload } if is_final(path) => {
                let is_committed = state.book.all().any(|record| has_upload(record, upload));
                let wrong = || format!("{path} is completed, and its commit is not durable");
                is_committed.then_some(()).ok_or_else(wrong)
            }
            Applied::Completed { .. } => Ok(()),
            Applied::Aborted { upload } => {
                let aborted = state.reports.iter().find(|(_, report)| {
                    matches!(report, Report::Done(output)
                        if uploads_of(output).any(|own| own == *upload))
                });
                let aborted = aborted.map(|(task, _)| *task);
                state.lost.extend(aborted);
                Ok(())
            }
        };
        drop(state);
        self.expect(is_right);
    }

    /// Records a worker's message when it reaches the coordinator of this epoch.
    pub(super) fn received(&self, epoch: Option<u64>, message: &WorkerMessage) {
        let mut state = self.state();
        let epoch = epoch.unwrap_or_default();
        match &message.message {
            Some(worker_message::Message::Done(done)) => {
                for task in &done.tasks {
                    let Ok((task, output)) = task_done(task.clone()) else {
                        continue;
                    };
                    self.journal
                        .note(&format!("epoch {epoch} hears: {task} is done"));
                    state.received.entry(epoch).or_default().insert(task);
                    state.reports.insert(task, Report::Done(Box::new(output)));
                }
            }
            Some(worker_message::Message::Failed(failed)) => {
                let Ok(task) = task_attempt("Failed", failed.task.as_ref()) else {
                    return;
                };
                let lost_input = task_attempt("Failed", failed.lost_input.as_ref()).ok();
                self.journal.note(&format!(
                    "epoch {epoch} hears: {task} failed: {}",
                    failed.error
                ));
                state.lost.extend(lost_input);
                let class = failed.class;
                state
                    .reports
                    .insert(task, Report::Failed { class, lost_input });
            }
            Some(worker_message::Message::Hello(hello)) => {
                let running = hello.running.len();
                self.journal.note(&format!(
                    "epoch {epoch} hears: {} is there with {running} tasks",
                    hello.pod_uid
                ));
            }
            Some(worker_message::Message::Draining(_)) => {
                self.journal
                    .note(&format!("epoch {epoch} hears: a worker drains"));
            }
            Some(
                worker_message::Message::Heartbeat(_)
                | worker_message::Message::Progress(_)
                | worker_message::Message::Bye(_),
            )
            | None => {}
        }
    }

    /// Records a message when a coordinator sends it.
    pub(super) fn sent(&self, message: &CoordinatorMessage) {
        let mut state = self.state();
        let epoch = message.epoch;
        let mut wrong = Vec::new();
        match &message.message {
            Some(coordinator_message::Message::Run(run)) => {
                for run in &run.tasks {
                    let Ok(task) = task_attempt("Run", run.task.as_ref()) else {
                        continue;
                    };
                    self.journal
                        .note(&format!("epoch {epoch} says: run {task}"));
                    wrong.extend(state.expect_run(epoch, task).err());
                    state.newest.insert(task.task, task);
                }
            }
            Some(coordinator_message::Message::Ack(ack)) => {
                for task in &ack.tasks {
                    let Ok(task) = task_attempt("Ack", Some(task)) else {
                        continue;
                    };
                    self.journal
                        .note(&format!("epoch {epoch} says: {task} is acknowledged"));
                    wrong.extend(state.expect_acknowledgement(epoch, task).err());
                }
            }
            Some(coordinator_message::Message::Shutdown(_)) => {
                if result_of(state.book.known_to(epoch)).is_none() {
                    wrong.push(format!(
                        "epoch {epoch} dismisses a worker, and the result is not durable"
                    ));
                }
            }
            Some(coordinator_message::Message::Cancel(cancel)) => {
                let tasks = task_attempts("Cancel", &cancel.tasks).unwrap_or_default();
                state.cancelled.extend(tasks);
            }
            Some(coordinator_message::Message::Welcome(_)) | None => {}
        }
        drop(state);
        for line in wrong {
            self.journal.violated(&line);
        }
    }

    /// Returns the attempts whose shuffle files are valid, with their paths.
    pub(super) fn committed_shuffles(&self) -> Vec<(TaskAttempt, String)> {
        let state = self.state();
        let winners = state.winners(u64::MAX - 1);
        let shuffled = winners.into_values().filter_map(|(task, output)| {
            let is_shuffle = matches!(output.file.place, FilePlace::Shuffle);
            is_shuffle.then(|| (task, shuffle_path(task)))
        });
        shuffled.collect()
    }

    /// Returns how many records the committed tasks skipped, by the number of the place that
    /// skipped them.
    pub(super) fn skipped(&self) -> BTreeMap<u32, u64> {
        let winners = self.state().winners(u64::MAX - 1);
        let mut skipped = BTreeMap::new();
        let outputs = winners.values().map(|(_, output)| output);
        for bad in outputs.flat_map(TaskOutput::bad_records) {
            *skipped.entry(bad.origin.number()).or_default() += bad.skipped;
        }
        skipped
    }

    /// Returns how the job ended, if the result is durable and the job was not restarted since.
    pub(super) fn result(&self) -> Option<JobResult> {
        result_of(self.state().book.all()).cloned()
    }

    /// Returns whether the ledger has a complete task, or had one.
    pub(super) fn has_commits(&self) -> bool {
        let state = self.state();
        let is_commit = |record: &LogRecord| matches!(record, LogRecord::Done { .. });
        state.book.all().any(is_commit)
    }

    /// Returns how often the job was restarted.
    pub(super) fn restarts(&self) -> usize {
        let state = self.state();
        let is_restart = |record: &&LogRecord| matches!(record, LogRecord::Restarted(_));
        state.book.all().filter(is_restart).count()
    }

    /// Returns how many failures are charged to a task.
    pub(super) fn charged(&self) -> usize {
        let state = self.state();
        let charged = state.book.all().filter(|record| {
            matches!(record, LogRecord::Failed { class, .. }
                if *class != record::FailureClass::Disruption)
        });
        charged.count()
    }

    /// Returns how many failures were reported.
    pub(super) fn failures(&self) -> usize {
        let state = self.state();
        let failed = |report: &&Report| matches!(report, Report::Failed { .. });
        state.reports.values().filter(failed).count()
    }

    pub(super) fn epochs(&self) -> usize {
        self.state().book.epochs()
    }
}

impl State {
    /// Returns the tasks that the coordinator of this epoch knows to be committed.
    fn winners(&self, epoch: u64) -> BTreeMap<TaskId, (TaskAttempt, TaskOutput)> {
        let mut winners = BTreeMap::new();
        for record in self.book.known_to(epoch) {
            match record {
                LogRecord::Done { task, output } => {
                    winners.insert(task.task, (*task, output.clone()));
                }
                LogRecord::Revoked { task } => {
                    winners.remove(&task.task);
                }
                LogRecord::Failed { .. }
                | LogRecord::StageFinished { .. }
                | LogRecord::Finalized { .. }
                | LogRecord::Result(_)
                | LogRecord::Restarted(_) => {}
            }
        }
        winners
    }

    fn expect_run(&self, epoch: u64, task: TaskAttempt) -> Result<(), String> {
        self.book.expect_taken_over(epoch)?;
        match self.winners(epoch).get(&task.task) {
            Some((winner, _)) if !self.lost.contains(winner) => Err(format!(
                "epoch {epoch} runs {task}, and {winner} is committed and not lost"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks an acknowledgement. The worker forgets the result afterwards, so a result that counts
    /// must be in the ledger.
    fn expect_acknowledgement(&self, epoch: u64, task: TaskAttempt) -> Result<(), String> {
        let is_dealt_with = self.book.known_to(epoch).any(|record| match record {
            // If another attempt has won, this attempt is superseded.
            LogRecord::Done { task: durable, .. } => durable.task == task.task,
            LogRecord::Failed { task: durable, .. } | LogRecord::Revoked { task: durable } => {
                *durable == task
            }
            LogRecord::Result(_) => true,
            LogRecord::StageFinished { .. }
            | LogRecord::Finalized { .. }
            | LogRecord::Restarted(_) => false,
        });
        // The first of two results may not be durable yet. The worker that reported it keeps it
        // until it is durable.
        let is_superseded = self.received.get(&epoch).is_some_and(|received| {
            let mut results = received.iter().filter(|other| other.task == task.task);
            results.any(|other| *other != task)
        });
        let needs_no_record = match self.reports.get(&task) {
            Some(Report::Done(_)) | None => false,
            Some(Report::Failed { class, lost_input }) => {
                lost_input.is_some() || *class == DISRUPTION || self.is_given_up(task)
            }
        };
        if is_dealt_with || is_superseded || needs_no_record {
            Ok(())
        } else {
            Err(format!(
                "epoch {epoch} acknowledges {task}, which is not in the ledger: {:?}",
                self.reports.get(&task)
            ))
        }
    }

    /// Returns whether the attempt is superseded, so that its failure counts for no task.
    fn is_given_up(&self, task: TaskAttempt) -> bool {
        let newest = self.newest.get(&task.task);
        self.cancelled.contains(&task) || newest.is_some_and(|newest| *newest != task)
    }
}

/// The number of the class "disruption" in messages.
const DISRUPTION: i32 = FailureClass::Disruption as i32;

/// Whether all attempts that an object of the history calls committed are in the ledger.
fn are_durable(book: &LedgerBook, path: &str, bytes: &[u8]) -> Result<(), String> {
    let job = path.split('/').rev().nth(2).unwrap_or_default();
    let batch = decode(job, bytes).map_err(|error| format!("{path}: {error}"))?;
    for line in batch
        .lines
        .iter()
        .filter(|line| line.outcome == "Committed")
    {
        let is_it = |record: &LogRecord| matches!(record, LogRecord::Done { task, .. } if names(line, *task));
        if !book.all().any(is_it) {
            return Err(format!("{path}: no commit is durable of {line:?}"));
        }
    }
    Ok(())
}

fn names(line: &AttemptLine, task: TaskAttempt) -> bool {
    let (id, attempt) = (task.task, task.attempt);
    (line.stage, line.shard) == (id.stage.0 + 1, id.shard.0)
        && (line.epoch, line.attempt) == (attempt.epoch.0, attempt.number)
}

fn is_final(path: &str) -> bool {
    path.split('/').next() == Some(OUTPUT)
}

/// Returns whether this is a file by which a job claims or completes the output folder.
fn is_mark(path: &str) -> bool {
    path.ends_with(MANIFEST_NAME) || path.ends_with(STARTED_NAME)
}

/// Returns the result that is valid after these records.
fn result_of<'r>(records: impl Iterator<Item = &'r LogRecord>) -> Option<&'r JobResult> {
    records.fold(None, |result, record| match record {
        LogRecord::Result(result) => Some(result),
        LogRecord::Restarted(_) => None,
        LogRecord::Done { .. }
        | LogRecord::Failed { .. }
        | LogRecord::Revoked { .. }
        | LogRecord::StageFinished { .. }
        | LogRecord::Finalized { .. } => result,
    })
}

fn uploads_of(output: &TaskOutput) -> impl Iterator<Item = &str> {
    output.files().filter_map(|file| match &file.place {
        FilePlace::Shuffle => None,
        FilePlace::Final(place) => match &**place {
            FinalPlace::Multipart { upload, .. } => Some(upload.as_str()),
            FinalPlace::Staged { .. } => None,
        },
    })
}

fn has_upload(record: &LogRecord, upload: &str) -> bool {
    matches!(record, LogRecord::Done { output, .. } if uploads_of(output).any(|own| own == upload))
}
