//! Keeps a book of the ledger's log, independently of the engine. Each record is entered once, in
//! order. A record that no correct coordinator can have written is refused. The book knows nothing
//! about workers.

use std::collections::{BTreeMap, BTreeSet};

use super::settings::Settings;
use super::storage::Content;
use crate::coordinator::Config;
use crate::coordinator::config::MAX_LOST_OUTPUTS;
use crate::coordinator::record::{FailureClass, JobResult, LogRecord};
use crate::id::{Attempt, ShardId, StageId, TaskAttempt, TaskId};

/// The book of a log.
#[derive(Clone)]
pub(super) struct Book {
    shards: Vec<u32>,
    reads: Vec<Vec<u32>>,
    config: Config,
    /// Valid commits.
    winners: BTreeMap<TaskId, Attempt>,
    committed: Vec<u32>,
    /// Stages that are finished, with the listing of their outputs.
    finished: BTreeMap<StageId, String>,
    /// Stages that could start, because all stages that they read were finished at the same time at
    /// least once.
    started: BTreeSet<StageId>,
    finalized: BTreeSet<TaskId>,
    failures: BTreeMap<TaskId, Vec<(Attempt, FailureClass, String)>>,
    revoked: BTreeMap<TaskId, Vec<Attempt>>,
    /// Tasks that have used up a budget.
    exhausted: BTreeSet<TaskId>,
    /// How many failures and lost outputs of each task do not count, because the job was restarted
    /// after them.
    forgiven: BTreeMap<TaskId, (usize, usize)>,
    result: Option<JobResult>,
}

impl Book {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut book = Self {
            shards: settings.shards.clone(),
            reads: settings.reads.clone(),
            config: settings.config(),
            winners: BTreeMap::new(),
            committed: vec![0; settings.shards.len()],
            finished: BTreeMap::new(),
            started: BTreeSet::new(),
            finalized: BTreeSet::new(),
            failures: BTreeMap::new(),
            revoked: BTreeMap::new(),
            exhausted: BTreeSet::new(),
            forgiven: BTreeMap::new(),
            result: None,
        };
        book.start_stages();
        book
    }

    fn start_stages(&mut self) {
        let stages = (0..).map(StageId).zip(&self.reads);
        let complete = stages.filter(|(stage, _)| self.inputs(*stage).is_some());
        let complete: Vec<StageId> = complete.map(|(stage, _)| stage).collect();
        self.started.extend(complete);
    }

    pub(super) fn result(&self) -> Option<&JobResult> {
        self.result.as_ref()
    }

    pub(super) fn winner(&self, task: TaskId) -> Option<Attempt> {
        self.winners.get(&task).copied()
    }

    pub(super) fn winners(&self) -> &BTreeMap<TaskId, Attempt> {
        &self.winners
    }

    pub(super) fn is_winner(&self, task: TaskAttempt) -> bool {
        self.winner(task.task) == Some(task.attempt)
    }

    pub(super) fn is_charged(&self, task: TaskAttempt) -> bool {
        let failures = self.failures.get(&task.task);
        failures.is_some_and(|failures| {
            failures
                .iter()
                .any(|(attempt, ..)| *attempt == task.attempt)
        })
    }

    pub(super) fn is_revoked(&self, task: TaskAttempt) -> bool {
        let revoked = self.revoked.get(&task.task);
        revoked.is_some_and(|revoked| revoked.contains(&task.attempt))
    }

    /// The listings that the tasks of a stage may read, if all are complete.
    pub(super) fn inputs(&self, stage: StageId) -> Option<Vec<String>> {
        let listing = |read: &u32| self.finished.get(&StageId(*read)).cloned();
        self.reads[stage.0 as usize].iter().map(listing).collect()
    }

    pub(super) fn enter(&mut self, record: &LogRecord) {
        let is_restart = matches!(record, LogRecord::Restarted(_));
        assert!(
            self.result.is_none() || is_restart,
            "{record:?} follows the result"
        );
        match record {
            LogRecord::Done { task, .. } => self.done(*task),
            LogRecord::Failed { task, class, error } => self.failed(*task, *class, error),
            LogRecord::Revoked { task } => self.is_lost(*task),
            LogRecord::StageFinished { stage, outputs } => self.stage_finished(*stage, outputs),
            LogRecord::Finalized { task } => {
                assert!(
                    self.winners.contains_key(task),
                    "{task} stands and did not win"
                );
                assert!(self.finalized.insert(*task), "{task} stands twice");
            }
            LogRecord::Result(result) => self.ended(result),
            LogRecord::Restarted(_) => self.restarted(),
        }
    }

    fn restarted(&mut self) {
        assert!(
            !matches!(self.result, Some(JobResult::Succeeded { .. })),
            "a job that has succeeded is restarted"
        );
        self.result = None;
        self.exhausted.clear();
        for (task, failures) in &self.failures {
            self.forgiven.entry(*task).or_default().0 = failures.len();
        }
        for (task, revoked) in &self.revoked {
            self.forgiven.entry(*task).or_default().1 = revoked.len();
        }
    }

    fn is_last(&self, stage: StageId) -> bool {
        stage.0 as usize + 1 == self.shards.len()
    }

    fn done(&mut self, task: TaskAttempt) {
        assert!(
            self.started.contains(&task.task.stage),
            "{task} is done, and its stage has not started"
        );
        assert!(
            !self.is_charged(task) && !self.is_revoked(task),
            "{task} is done, and it failed or was revoked before"
        );
        let winner = self.winners.insert(task.task, task.attempt);
        assert_eq!(winner, None, "{task} is done, and another had won");
        self.committed[task.task.stage.0 as usize] += 1;
        self.exhausted.remove(&task.task);
    }

    fn failed(&mut self, task: TaskAttempt, class: FailureClass, error: &str) {
        assert!(!self.is_charged(task), "{task} is charged twice");
        assert_eq!(
            self.winner(task.task),
            None,
            "{task} is charged after a success"
        );
        let failures = self.failures.entry(task.task).or_default();
        failures.push((task.attempt, class, error.to_owned()));
        self.judge(task.task);
    }

    fn is_lost(&mut self, task: TaskAttempt) {
        let winner = self.winners.remove(&task.task);
        assert_eq!(
            winner,
            Some(task.attempt),
            "{task} is revoked and had not won"
        );
        let stands = self.finalized.remove(&task.task);
        assert!(
            !stands || !self.is_last(task.task.stage),
            "{task} is revoked and stands"
        );
        self.committed[task.task.stage.0 as usize] -= 1;
        self.finished.remove(&task.task.stage);
        let revoked = self.revoked.entry(task.task).or_default();
        revoked.push(task.attempt);
        self.judge(task.task);
    }

    fn stage_finished(&mut self, stage: StageId, outputs: &str) {
        assert!(
            self.started.contains(&stage),
            "stage {stage} is finished before it can have started"
        );
        let (committed, total) = (
            self.committed[stage.0 as usize],
            self.shards[stage.0 as usize],
        );
        assert_eq!(
            committed, total,
            "tasks of stage {stage}, which is finished"
        );
        let listed = self.finished.insert(stage, outputs.to_owned());
        assert_eq!(listed, None, "stage {stage} is finished twice");
        self.start_stages();
    }

    fn ended(&mut self, result: &JobResult) {
        match result {
            JobResult::Succeeded { files, .. } => {
                let last = StageId(u32::try_from(self.shards.len()).unwrap() - 1);
                assert!(
                    self.finished.contains_key(&last),
                    "success of an unfinished stage"
                );
                let of_last = self.finalized.iter().filter(|task| task.stage == last);
                let stand = of_last.count();
                assert_eq!(stand as u64, *files);
                assert_eq!(stand, self.shards[last.0 as usize] as usize);
            }
            JobResult::Failed { message, .. } => {
                let named = |task: &&TaskId| message.starts_with(&self.describe(**task));
                assert!(
                    self.exhausted.iter().any(|task| named(&task)),
                    "the job failed for no reason that the log holds: {message}; {:?}",
                    self.exhausted
                );
            }
        }
        self.result = Some(result.clone());
    }

    /// The name of a task in messages.
    pub(super) fn describe(&self, task: TaskId) -> String {
        let name = if task.stage.0 == 0 { "map" } else { "reduce" };
        let stage = format!("stage {}/{} {name}", task.stage.0 + 1, self.shards.len());
        format!("{stage}, shard {}:", task.shard)
    }

    /// Whether a task has used up a budget, by the documented rules.
    fn judge(&mut self, task: TaskId) {
        let (forgiven, forgiven_losses) = self.forgiven.get(&task).copied().unwrap_or_default();
        let failures = self.failures.get(&task).map_or(&[][..], Vec::as_slice);
        let failures = &failures[forgiven..];
        let own: Vec<_> = failures
            .iter()
            .filter(|(_, class, _)| *class != FailureClass::Disruption)
            .collect();
        let is_the_same = |pair: &[_]| match pair {
            [
                (_, FailureClass::Deterministic, one),
                (_, FailureClass::Deterministic, other),
            ] => one == other,
            _ => false,
        };
        let last_two: Vec<(Attempt, FailureClass, String)> = own
            .iter()
            .rev()
            .take(2)
            .map(|failure| (*failure).clone())
            .collect();
        let losses = failures.len() - own.len();
        let limit = self.config.task_disruptions as usize;
        let lost_outputs = self.revoked.get(&task).map_or(0, Vec::len) - forgiven_losses;
        let is_exhausted = own.len() >= self.config.task_failures as usize
            || is_the_same(last_two.as_slice())
            || limit > 0 && losses >= limit
            || lost_outputs >= MAX_LOST_OUTPUTS;
        if is_exhausted {
            self.exhausted.insert(task);
        }
    }

    /// A job stops its tasks in the same step in which a budget is used up.
    pub(super) fn expect_verdict(&self, goes_on: bool) {
        assert!(
            self.exhausted.is_empty() || !goes_on,
            "a budget is used up and the job goes on: {:?}",
            self.exhausted
        );
    }

    /// Checks the job's result and files, to the last row.
    pub(super) fn expect_answer(
        &self,
        wanted: &[Vec<Content>],
        files: &BTreeMap<TaskId, (Attempt, Content)>,
    ) {
        let Some(JobResult::Succeeded { rows, bytes, .. }) = &self.result else {
            panic!("no success, but {:?}", self.result);
        };
        let last = wanted.last().map_or(&[][..], Vec::as_slice);
        let all: u64 = last.iter().map(|content| content.rows).sum();
        assert_eq!(
            (*rows, *bytes),
            (all, all * 10),
            "rows and bytes of the result"
        );
        let stage = StageId(u32::try_from(wanted.len()).unwrap() - 1);
        let wanted: BTreeMap<TaskId, Content> = (0..)
            .zip(last)
            .map(|(shard, content)| {
                let shard = ShardId(shard);
                (TaskId { stage, shard }, *content)
            })
            .collect();
        let got: BTreeMap<TaskId, Content> = files
            .iter()
            .map(|(task, (_, content))| (*task, *content))
            .collect();
        assert_eq!(got, wanted, "the content of the final files");
        for (task, (attempt, _)) in files {
            assert_eq!(
                self.winner(*task),
                Some(*attempt),
                "the final file of {task}"
            );
        }
    }
}
