//! `kubectl zephyr history NAME`: the generations of a job and the changes of its phase, from its
//! status. With `--ledger` also the attempts of its tasks, from the object store. Changes nothing
//! in the cluster or the store.

mod attempts;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use zephyr_crds::ZephyrJobStatus;
use zephyr_crds::status::{GenerationRecord, TransitionRecord};
use zephyr_engine::id::JobUid;
use zephyr_store::attempts::read_attempts;
use zephyr_store::ledger::inspect;
use zephyr_store::storage::JobStorage;

use self::attempts::{Attempts, HEAD, Wanted, WantedTask};
use crate::cluster::{Found, Target};
use crate::input;
use crate::output::Data;
use crate::table::{length, table};
use crate::terminal::{print, printable};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Also show each attempt of a task that has ended, the newest last. Reads spec.storage.uri
    /// with your own credentials.
    #[arg(long)]
    ledger: bool,
    /// With --ledger: only the attempts of this task. Stages are numbered from 1, shards from 0.
    #[arg(long, value_name = "STAGE/SHARD", requires = "ledger")]
    task: Option<WantedTask>,
    /// With --ledger: only the attempts that failed or were lost.
    #[arg(long, requires = "ledger")]
    failed: bool,
    /// The format of the result; default: tables.
    #[arg(short, long)]
    output: Option<Data>,
}

/// Prints the history.
pub(crate) async fn history(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    let attempts = if options.ledger {
        let (task, failed) = (options.task, options.failed);
        Some(attempts_of(&found, Wanted { task, failed }).await?)
    } else {
        None
    };
    let status = found.job.status.clone().unwrap_or_default();
    match options.output {
        Some(format) => print(&format.text(&data(&found, &status, attempts.as_ref())))?,
        None => print(&page(&status, attempts.as_ref()))?,
    }
    Ok(())
}

async fn attempts_of(found: &Found, wanted: Wanted) -> Result<Attempts> {
    let uri = &found.job.spec.storage.uri;
    let storage = JobStorage::new(input::stores(), uri, JobUid::parse(found.folder())?)
        .with_context(|| format!("spec.storage.uri: {uri} cannot be used"))?;
    let place = || format!("{uri} with your own credentials (environment variables, as for `run`)");
    let read = inspect(&storage).await;
    let (_, records) = read.with_context(|| format!("read the ledger in {}", place()))?;
    let mut attempts = Attempts::of_ledger(wanted, records);
    let read = read_attempts(&storage, |line| attempts.add(line)).await;
    let read = read.with_context(|| format!("read the attempts in {}", place()))?;
    Ok(attempts.finish(read))
}

/// The history as `-o json` shows it. The names of the fields are part of the program's interface.
fn data(found: &Found, status: &ZephyrJobStatus, attempts: Option<&Attempts>) -> Value {
    let mut data = json!({
        "namespace": found.namespace,
        "name": found.real_name(),
        "uid": found.job.metadata.uid,
        "generations": status.generations,
        "transitions": status.history,
    });
    if let Some(attempts) = attempts {
        attempts.add_to(&mut data);
    }
    data
}

/// The history as tables. Pure.
fn page(status: &ZephyrJobStatus, attempts: Option<&Attempts>) -> String {
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
        let _ = write!(page, "\n{}", table(&HEAD, attempts.rows()));
        for note in attempts.notes() {
            let _ = write!(page, "\n{}", printable(&note));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
