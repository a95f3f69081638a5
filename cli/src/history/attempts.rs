//! The attempts of a job's tasks: what the ledger says about them, and what coordinators wrote down
//! when they ended. The ledger decides how an attempt ended; the other objects know its worker, its
//! times, and the attempts that were neither committed nor charged. Writes nothing.

use std::collections::HashMap;
use std::str::FromStr;

use serde_json::{Value, json};
use zephyr_engine::coordinator::Ending;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_store::attempts::{AttemptLine, ReadAttempts};

use crate::terminal::bytes;

/// How an attempt ended whose output was lost after it had been committed.
const OUTPUT_LOST: &str = "OutputLost";

/// The columns of the table of attempts.
pub(super) const HEAD: [&str; 9] = [
    "TASK", "OUTCOME", "WORKER", "STARTED", "ENDED", "RECORDS", "READ", "WRITTEN", "ERROR",
];

/// Which attempts are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Those of this task; all if it is absent.
    pub(super) task: Option<WantedTask>,
    /// Those that failed or were lost.
    pub(super) failed: bool,
}

/// A task as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WantedTask(TaskId);

impl FromStr for WantedTask {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(stage, shard)| {
            let stage: u32 = stage.parse().ok()?;
            let shard = ShardId(shard.parse().ok()?);
            let stage = StageId(stage.checked_sub(1)?);
            Some(Self(TaskId { stage, shard }))
        });
        parsed.ok_or("not a task; STAGE/SHARD is allowed, such as 1/0: stages are numbered from 1, shards from 0")
    }
}

impl Wanted {
    fn has(self, task: TaskId) -> bool {
        self.task.is_none_or(|wanted| wanted.0 == task)
    }

    fn shows(self, tried: &Tried) -> bool {
        let good = [
            Ending::Committed,
            Ending::Superseded,
            Ending::Cancelled,
            Ending::HandedBack,
        ];
        let is_good = good.iter().any(|ending| ending.as_str() == tried.outcome);
        !self.failed || tried.is_charged || !is_good
    }
}

/// An attempt of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    task: TaskAttempt,
    outcome: String,
    /// Whether it counts against a limit of the job, according to the ledger.
    is_charged: bool,
    /// Whether the ledger has it.
    is_in_ledger: bool,
    worker: String,
    pod_uid: String,
    started: Option<String>,
    /// When it ended. `None` if only the ledger has it.
    ended: Option<String>,
    records: Option<u64>,
    bytes_read: Option<u64>,
    bytes_written: Option<u64>,
    error: String,
}

/// The attempts of a job, in the order of their ends, the newest last. Attempts that only the
/// ledger has come first.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    wanted: Wanted,
    /// Each attempt with its position in that order.
    tried: Vec<(usize, Tried)>,
    places: HashMap<TaskAttempt, usize>,
    positions: usize,
    read: ReadAttempts,
}

impl Attempts {
    /// The attempts in a ledger. Pure.
    pub(super) fn of_ledger(wanted: Wanted, records: Vec<LogRecord>) -> Self {
        let mut attempts = Self {
            wanted,
            ..Self::default()
        };
        for record in records {
            // The other records are about stages and the job.
            if let LogRecord::Done { task, output } = record {
                if let Some(tried) = attempts.entry(task) {
                    tried.of_ledger(Ending::Committed.as_str());
                    tried.records = Some(output.records_in);
                    tried.bytes_read = Some(output.bytes_in);
                    tried.bytes_written = Some(output.file.bytes);
                }
            } else if let LogRecord::Failed { task, class, error } = record {
                if let Some(tried) = attempts.entry(task) {
                    tried.of_ledger(Ending::of_failure(class).as_str());
                    tried.is_charged = true;
                    tried.error = error;
                }
            } else if let LogRecord::Revoked { task } = record
                && let Some(tried) = attempts.entry(task)
            {
                tried.of_ledger(OUTPUT_LOST);
            }
        }
        attempts
    }

    /// Adds what a coordinator wrote down about the end of an attempt. If an attempt ended twice,
    /// because its worker came back, the second end counts.
    pub(super) fn add(&mut self, line: AttemptLine) {
        let task = TaskAttempt {
            task: TaskId {
                stage: StageId(line.stage.saturating_sub(1)),
                shard: ShardId(line.shard),
            },
            attempt: Attempt {
                epoch: Epoch(line.epoch),
                number: line.attempt,
            },
        };
        let Some(tried) = self.entry(task) else {
            return;
        };
        if !tried.is_in_ledger {
            tried.outcome = line.outcome;
            tried.error = line.error;
        }
        tried.worker = line.worker;
        tried.pod_uid = line.pod_uid;
        tried.started = tried.started.take().or(line.started);
        tried.ended = Some(line.ended);
        tried.records = tried.records.or(Some(line.records_read));
        tried.bytes_read = tried.bytes_read.or(line.bytes_read);
        tried.bytes_written = tried.bytes_written.or(line.bytes_written);
    }

    /// Ends the list, with what was read besides the attempts.
    pub(super) fn finish(mut self, read: ReadAttempts) -> Self {
        let wanted = self.wanted;
        self.tried.retain(|(_, tried)| wanted.shows(tried));
        self.tried.sort_unstable_by_key(|(position, _)| *position);
        self.places.clear();
        self.read = read;
        self
    }

    /// The attempt, which becomes the newest. `None` if it is not wanted.
    fn entry(&mut self, task: TaskAttempt) -> Option<&mut Tried> {
        if !self.wanted.has(task.task) {
            return None;
        }
        let place = *self.places.entry(task).or_insert_with(|| {
            self.tried.push((0, Tried::new(task)));
            self.tried.len() - 1
        });
        self.positions += 1;
        let (position, tried) = self.tried.get_mut(place)?;
        *position = self.positions;
        Some(tried)
    }

    /// The rows of the table with the columns [`HEAD`].
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.tried.iter().map(|(_, tried)| tried.row())
    }

    /// What is not in the table, in sentences.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let only = self.only_in_ledger();
        if only > 0 {
            // Otherwise the notes below have another reason.
            let is_complete = self.read.dropped == 0 && self.read.problems.is_empty();
            let reason = if is_complete {
                "; release 0.1.0 ran them, or their coordinator ended before it had written them down"
            } else {
                ""
            };
            notes.push(format!(
                "attempts that only the ledger has, without worker and times: {only}{reason}"
            ));
        }
        if self.read.dropped > 0 {
            let dropped = self.read.dropped;
            notes.push(format!(
                "attempts that no coordinator wrote down, because too many waited for a write: {dropped}; those that were committed or charged are in the ledger"
            ));
        }
        let problems = self.read.problems.iter();
        notes.extend(problems.map(|problem| format!("not read: {problem}")));
        notes
    }

    fn only_in_ledger(&self) -> usize {
        let is_only = |(_, tried): &&(usize, Tried)| tried.ended.is_none();
        self.tried.iter().filter(is_only).count()
    }

    /// Adds the attempts to the history as `-o json` shows it.
    pub(super) fn add_to(&self, data: &mut Value) {
        let attempts = self.tried.iter().map(|(_, tried)| tried.data());
        data["attempts"] = attempts.collect::<Vec<_>>().into();
        data["attemptsOnlyInLedger"] = self.only_in_ledger().into();
        data["attemptsDropped"] = self.read.dropped.into();
        data["problems"] = self.read.problems.clone().into();
    }
}

impl Tried {
    fn new(task: TaskAttempt) -> Self {
        Self {
            task,
            outcome: String::new(),
            is_charged: false,
            is_in_ledger: false,
            worker: String::new(),
            pod_uid: String::new(),
            started: None,
            ended: None,
            records: None,
            bytes_read: None,
            bytes_written: None,
            error: String::new(),
        }
    }

    fn of_ledger(&mut self, outcome: &str) {
        self.is_in_ledger = true;
        outcome.clone_into(&mut self.outcome);
    }

    fn data(&self) -> Value {
        json!({
            "stage": u64::from(self.task.task.stage.0) + 1,
            "shard": self.task.task.shard.0,
            "epoch": self.task.attempt.epoch.0,
            "attempt": self.task.attempt.number,
            "outcome": self.outcome,
            "charged": self.is_charged,
            "worker": self.worker,
            "podUid": self.pod_uid,
            "startTime": self.started,
            "endTime": self.ended,
            "recordsRead": self.records,
            "bytesRead": self.bytes_read,
            "bytesWritten": self.bytes_written,
            "error": self.error,
        })
    }

    fn row(&self) -> Vec<String> {
        let worker = if self.worker.is_empty() {
            &self.pod_uid
        } else {
            &self.worker
        };
        let records = self.records.map(|count| count.to_string());
        vec![
            self.task.to_string(),
            self.outcome.clone(),
            worker.clone(),
            self.started.clone().unwrap_or_default(),
            self.ended.clone().unwrap_or_default(),
            records.unwrap_or_default(),
            self.bytes_read.map(bytes).unwrap_or_default(),
            self.bytes_written.map(bytes).unwrap_or_default(),
            self.error.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use zephyr_engine::coordinator::record::{FailureClass, JobResult};

    use super::*;

    fn line(shard: u32, attempt: u32, outcome: &str) -> AttemptLine {
        AttemptLine {
            stage: 1,
            shard,
            epoch: 1,
            attempt,
            worker: "count-workers-g1-0".to_owned(),
            pod_uid: "pod".to_owned(),
            started: Some("2026-01-01T00:00:00.000Z".to_owned()),
            ended: "2026-01-01T00:00:01.500Z".to_owned(),
            outcome: outcome.to_owned(),
            records_read: 7,
            error: "as written down".to_owned(),
            ..AttemptLine::default()
        }
    }

    fn attempt(shard: u32, number: u32) -> TaskAttempt {
        TaskAttempt {
            task: TaskId {
                stage: StageId(0),
                shard: ShardId(shard),
            },
            attempt: Attempt {
                epoch: Epoch(1),
                number,
            },
        }
    }

    fn failed(shard: u32, number: u32, class: FailureClass) -> LogRecord {
        LogRecord::Failed {
            task: attempt(shard, number),
            class,
            error: "a.jsonl: line 2: no JSON".to_owned(),
        }
    }

    fn outcomes(attempts: &Attempts) -> Vec<(u32, u32, &str)> {
        let tried = attempts.tried.iter().map(|(_, tried)| tried);
        tried
            .map(|tried| {
                let number = tried.task.attempt.number;
                (tried.task.task.shard.0, number, tried.outcome.as_str())
            })
            .collect()
    }

    #[test]
    fn failures_in_the_ledger_have_their_class_and_their_sentence() {
        let records = vec![
            failed(3, 1, FailureClass::Deterministic),
            failed(3, 2, FailureClass::Disruption),
            LogRecord::Result(JobResult::Succeeded {
                files: 0,
                rows: 0,
                bytes: 0,
                manifest: String::new(),
            }),
        ];
        let attempts = Attempts::of_ledger(Wanted::default(), records);
        let attempts = attempts.finish(ReadAttempts::default());
        let expected = [(3, 1, "FailedByData"), (3, 2, "Disrupted")];
        assert_eq!(outcomes(&attempts), expected);
        let note = "attempts that only the ledger has, without worker and times: 2; release 0.1.0 ran them, or their coordinator ended before it had written them down";
        assert_eq!(attempts.notes(), [note]);
        let mut data = json!({});
        attempts.add_to(&mut data);
        assert_eq!(data["attempts"][0]["charged"], true);
        assert_eq!(data["attemptsOnlyInLedger"], 2);
    }

    #[test]
    fn the_ledger_decides_and_the_newest_end_is_last() {
        let records = vec![
            failed(0, 1, FailureClass::Application),
            failed(9, 1, FailureClass::TimedOut),
        ];
        let mut attempts = Attempts::of_ledger(Wanted::default(), records);
        attempts.add(line(1, 1, "WorkerLost"));
        attempts.add(line(0, 1, "HandedBack"));
        attempts.add(line(2, 1, "Paused"));
        attempts.add(AttemptLine {
            started: None,
            ..line(1, 1, "Committed")
        });
        let attempts = attempts.finish(ReadAttempts {
            dropped: 4,
            problems: vec!["attempts/1-0.jsonl.zst: it is not zstd".to_owned()],
        });
        let expected = [
            (9, 1, "TimedOut"),
            (0, 1, "FailedByProcess"),
            (2, 1, "Paused"),
            (1, 1, "Committed"),
        ];
        assert_eq!(outcomes(&attempts), expected);
        let rows: Vec<_> = attempts.rows().collect();
        assert_eq!(rows[1][2], "count-workers-g1-0");
        assert_eq!(rows[1][8], "a.jsonl: line 2: no JSON");
        assert_eq!(rows[3][3], "2026-01-01T00:00:00.000Z");
        assert_eq!(rows[2][5..], ["7", "", "", "as written down"]);
        let notes = attempts.notes();
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert_eq!(notes[2], "not read: attempts/1-0.jsonl.zst: it is not zstd");
    }

    #[test]
    fn only_the_wanted_attempts_are_kept() {
        let wanted = Wanted {
            task: Some("1/1".parse().unwrap()),
            failed: true,
        };
        let records = vec![failed(0, 1, FailureClass::TimedOut)];
        let mut attempts = Attempts::of_ledger(wanted, records);
        for (shard, number, outcome) in [
            (0, 2, "WorkerLost"),
            (1, 1, "WorkerLost"),
            (1, 2, "Superseded"),
            (1, 3, "FailedByData"),
            (1, 4, "HandedBack"),
            (1, 5, "Cancelled"),
            (1, 6, "Committed"),
            (1, 7, "Paused"),
        ] {
            attempts.add(line(shard, number, outcome));
        }
        let attempts = attempts.finish(ReadAttempts::default());
        let expected = [
            (1, 1, "WorkerLost"),
            (1, 3, "FailedByData"),
            (1, 7, "Paused"),
        ];
        assert_eq!(outcomes(&attempts), expected);
    }

    #[test]
    fn the_documentation_has_each_outcome() {
        let page = include_str!("../../../docs/plugin.md");
        let (_, table) = page.split_once("| outcome | what happened").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let outcomes = Ending::ALL.iter().map(|ending| ending.as_str());
        for outcome in outcomes.chain([OUTPUT_LOST]) {
            assert!(table.contains(&format!("`{outcome}`")), "{outcome}");
        }
    }

    #[test]
    fn a_task_is_a_stage_from_1_and_a_shard_from_0() {
        let parsed: WantedTask = "2/7".parse().unwrap();
        assert_eq!(parsed.0.stage, StageId(1));
        for text in ["", "2", "0/1", "1/-1", "a/b", "1/2/3", "1/"] {
            assert!(text.parse::<WantedTask>().is_err(), "{text:?}");
        }
    }
}
