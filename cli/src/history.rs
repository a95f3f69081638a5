//! `kubectl zephyr history NAME`: the generations of a job and the changes of its phase, from its
//! status. With `--ledger` also the attempts of its tasks, from the ledger in the object store.
//! Changes nothing in the cluster or the store.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use zephyr_crds::ZephyrJobStatus;
use zephyr_crds::status::{GenerationRecord, TransitionRecord};
use zephyr_engine::coordinator::record::{FailureClass, LogRecord};
use zephyr_engine::id::{JobUid, TaskAttempt};
use zephyr_store::ledger::inspect;
use zephyr_store::storage::JobStorage;

use crate::cluster::{Found, Target};
use crate::input;
use crate::output::Data;
use crate::table::{length, table};
use crate::terminal::{bytes, print};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also show the attempts of tasks that the ledger has: those that were committed, and those
    /// that counted as failures. Reads spec.storage.uri with your own credentials.
    #[arg(long)]
    ledger: bool,
    /// The format of the result; default: tables.
    #[arg(short, long)]
    output: Option<Data>,
}

/// Prints the history.
pub(crate) async fn history(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    let attempts = if options.ledger {
        Some(attempts_of(&found).await?)
    } else {
        None
    };
    let status = found.job.status.clone().unwrap_or_default();
    match options.output {
        Some(format) => print(&format.text(&data(&found, &status, attempts.as_deref())))?,
        None => print(&page(&status, attempts.as_deref()))?,
    }
    Ok(())
}

/// An attempt of a task, as its ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tried {
    task: TaskAttempt,
    outcome: &'static str,
    records: Option<u64>,
    bytes_read: Option<u64>,
    bytes_written: Option<u64>,
    error: String,
}

async fn attempts_of(found: &Found) -> Result<Vec<Tried>> {
    let uri = &found.job.spec.storage.uri;
    let storage = JobStorage::new(input::stores(), uri, JobUid::parse(found.folder())?)
        .with_context(|| format!("spec.storage.uri: {uri} cannot be used"))?;
    let read = inspect(&storage).await;
    let (_, records) = read.with_context(|| {
        format!("read the ledger in {uri} with your own credentials (environment variables, as for `run`)")
    })?;
    Ok(tried(records))
}

/// The attempts in a ledger. Pure.
fn tried(records: Vec<LogRecord>) -> Vec<Tried> {
    let mut tried: Vec<Tried> = Vec::new();
    for record in records {
        // The other records are about stages and the job.
        if let LogRecord::Done { task, output } = record {
            tried.push(Tried {
                task,
                outcome: "Committed",
                records: Some(output.records_in),
                bytes_read: Some(output.bytes_in),
                bytes_written: Some(output.file.bytes),
                error: String::new(),
            });
        } else if let LogRecord::Failed { task, class, error } = record {
            tried.push(Tried {
                task,
                outcome: match class {
                    FailureClass::Deterministic => "FailedByData",
                    FailureClass::Application => "FailedByProcess",
                    FailureClass::TimedOut => "TimedOut",
                    FailureClass::Disruption => "Disrupted",
                },
                records: None,
                bytes_read: None,
                bytes_written: None,
                error,
            });
        } else if let LogRecord::Revoked { task } = record {
            let lost = tried.iter_mut().filter(|one| one.task == task);
            lost.for_each(|one| one.outcome = "OutputLost");
        }
    }
    tried
}

/// The history as `-o json` shows it. The names of the fields are part of the program's interface.
fn data(found: &Found, status: &ZephyrJobStatus, attempts: Option<&[Tried]>) -> Value {
    let attempts = attempts.map(|attempts| attempts.iter().map(attempt_data).collect::<Vec<_>>());
    let mut data = json!({
        "namespace": found.namespace,
        "name": found.real_name(),
        "uid": found.job.metadata.uid,
        "generations": status.generations,
        "transitions": status.history,
    });
    if let Some(attempts) = attempts {
        data["attempts"] = attempts.into();
    }
    data
}

fn attempt_data(tried: &Tried) -> Value {
    json!({
        "stage": u64::from(tried.task.task.stage.0) + 1,
        "shard": tried.task.task.shard.0,
        "epoch": tried.task.attempt.epoch.0,
        "attempt": tried.task.attempt.number,
        "outcome": tried.outcome,
        "recordsRead": tried.records,
        "bytesRead": tried.bytes_read,
        "bytesWritten": tried.bytes_written,
        "error": tried.error,
    })
}

/// The history as tables. Pure.
fn page(status: &ZephyrJobStatus, attempts: Option<&[Tried]>) -> String {
    let mut page = String::new();
    if status.generations.is_empty() {
        page.push_str("no generation was started\n");
    } else {
        let head = [
            "GENERATION",
            "STARTED",
            "LASTED",
            "ENDED BY",
            "DISRUPTIONS",
            "WHY",
        ];
        page.push_str(&table(&head, status.generations.iter().map(generation_row)));
    }
    if !status.history.is_empty() {
        let head = ["TIME", "GENERATION", "FROM", "TO", "REASON", "WHY"];
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "\n{}",
            table(&head, status.history.iter().map(transition_row))
        );
    }
    if let Some(attempts) = attempts {
        let head = ["TASK", "OUTCOME", "RECORDS", "READ", "WRITTEN", "ERROR"];
        let _ = write!(page, "\n{}", table(&head, attempts.iter().map(attempt_row)));
    }
    page
}

fn generation_row(record: &GenerationRecord) -> Vec<String> {
    let start = record.start_time.0;
    let lasted = record.end_time.as_ref();
    let lasted = lasted.map(|end| length(end.0.as_second() - start.as_second()));
    vec![
        record.generation.to_string(),
        start.to_string(),
        lasted.unwrap_or_default(),
        record.cause.map_or("", |cause| cause.as_str()).to_owned(),
        record.disruptions.to_string(),
        record.message.clone(),
    ]
}

fn transition_row(record: &TransitionRecord) -> Vec<String> {
    vec![
        record.time.0.to_string(),
        record
            .generation
            .map(|number| number.to_string())
            .unwrap_or_default(),
        record.from.map_or("", |phase| phase.as_str()).to_owned(),
        record.to.as_str().to_owned(),
        record.reason.clone(),
        record.message.clone(),
    ]
}

fn attempt_row(tried: &Tried) -> Vec<String> {
    vec![
        tried.task.to_string(),
        tried.outcome.to_owned(),
        tried
            .records
            .map(|count| count.to_string())
            .unwrap_or_default(),
        tried.bytes_read.map(bytes).unwrap_or_default(),
        tried.bytes_written.map(bytes).unwrap_or_default(),
        tried.error.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskId};

    use super::*;

    fn task(shard: u32, number: u32) -> TaskAttempt {
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

    #[test]
    fn failures_are_shown_with_their_class_and_their_sentence() {
        let failed = |class| LogRecord::Failed {
            task: task(3, 1),
            class,
            error: "a.jsonl: line 2: no JSON".to_owned(),
        };
        let tried = tried(vec![
            failed(FailureClass::Deterministic),
            failed(FailureClass::Disruption),
            LogRecord::Result(zephyr_engine::coordinator::record::JobResult::Succeeded {
                files: 0,
                rows: 0,
                bytes: 0,
                manifest: String::new(),
            }),
        ]);
        let text = page(&ZephyrJobStatus::default(), Some(&tried));
        let expected = "no generation was started\n\
                        \n\
                        TASK                           OUTCOME        RECORDS   READ   WRITTEN   ERROR\n\
                        stage 1 shard 3 attempt e1a1   FailedByData   -         -      -         a.jsonl: line 2: no JSON\n\
                        stage 1 shard 3 attempt e1a1   Disrupted      -         -      -         a.jsonl: line 2: no JSON\n";
        assert_eq!(text, expected);
        assert_eq!(attempt_data(&tried[0])["shard"], 3);
    }

    #[test]
    fn generations_have_their_cause_and_their_length() {
        let status: ZephyrJobStatus = serde_json::from_value(json!({
            "generations": [
                {"generation": 1, "startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-01T00:03:00Z",
                    "cause": "CoordinatorLost", "message": "its node is gone", "disruptions": 2},
                {"generation": 2, "startTime": "2026-01-01T00:04:00Z", "disruptions": 0},
            ],
            "history": [{"time": "2026-01-01T00:04:00Z", "generation": 2, "to": "Running", "reason": "Running"}],
        }))
        .expect("a status");
        let expected = "GENERATION   STARTED                LASTED   ENDED BY          DISRUPTIONS   WHY\n\
                        1            2026-01-01T00:00:00Z   3m       CoordinatorLost   2             its node is gone\n\
                        2            2026-01-01T00:04:00Z   -        -                 0             -\n\
                        \n\
                        TIME                   GENERATION   FROM   TO        REASON    WHY\n\
                        2026-01-01T00:04:00Z   2            -      Running   Running   -\n";
        assert_eq!(page(&status, None), expected);
    }
}
