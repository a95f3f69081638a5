//! `kubectl zephyr status NAME`: shows the status of one job of the cluster. Reads one object;
//! changes nothing.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};
use zephyr_crds::ZephyrJobStatus;
use zephyr_crds::conditions::{Condition, ConditionStatus, ConditionType};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::status::{Counter, FailureStatus, WorkerCounts};
use zephyr_engine::plan::counted;

use crate::cluster::Target;
use crate::output::Format;
use crate::terminal::{bytes, counters_text, print, printable, skipped_text};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The format of the result; default: lines for people.
    #[arg(short, long)]
    output: Option<Format>,
}

/// Prints the job's status.
pub(crate) async fn status(options: Options) -> Result<()> {
    let found = options.target.find().await?;
    if let Some(format) = options.output {
        print(&format.text(&summary(&found.job), [found.real_name()]))?;
        return Ok(());
    }
    let status = found.job.status.unwrap_or_default();
    print(&describe(&found.name, &found.namespace, &status))?;
    Ok(())
}

/// A job as `-o json` shows it. The names of its fields are part of the program's interface.
pub(crate) fn summary(job: &ZephyrJob) -> Value {
    let status = job.status.clone().unwrap_or_default();
    let why = reason(&status);
    json!({
        "namespace": job.metadata.namespace,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "createdAt": job.metadata.creation_timestamp,
        "phase": status.phase,
        "reason": why.map(|why| why.reason),
        "message": why.map(|why| &why.message),
        "status": job.status,
    })
}

pub(crate) fn condition(
    status: &ZephyrJobStatus,
    condition_type: ConditionType,
) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.r#type == condition_type)
}

/// The condition that best explains the job's state.
pub(crate) fn reason(status: &ZephyrJobStatus) -> Option<&Condition> {
    let holds = |condition_type| {
        condition(status, condition_type).filter(|c| c.status == ConditionStatus::True)
    };
    let lacks = |condition_type| {
        condition(status, condition_type).filter(|c| c.status == ConditionStatus::False)
    };
    holds(ConditionType::Failed)
        .or_else(|| holds(ConditionType::Complete))
        .or_else(|| lacks(ConditionType::Accepted))
        .or_else(|| condition(status, ConditionType::Progressing))
}

/// One line about which workers are alive and what they do.
pub(crate) fn describe_workers(workers: &WorkerCounts) -> String {
    let counts = [
        ("ready", workers.ready),
        ("busy", workers.busy),
        ("starting", workers.init),
        ("reconnecting", workers.reconnecting),
        ("failed", workers.failed),
        ("dead", workers.dead),
    ];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(_, n)| *n > 0)
        .map(|(word, n)| format!("{n} {word}"))
        .collect();
    let (summary, counts, disruptions) = (&workers.summary, counts.join(", "), workers.disruptions);
    let counts = if counts.is_empty() {
        counts
    } else {
        format!(" ({counts})")
    };
    format!("{summary} alive{counts}, {disruptions} disruptions so far")
}

/// A page for people, line by line.
struct Page(String);

impl Page {
    /// Adds a line, unless there is nothing to say.
    fn line(&mut self, label: &str, text: &str) {
        if !text.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.0, "{label:<13}{}", printable(text));
        }
    }
}

/// The status as a page for people. Pure.
fn describe(name: &str, namespace: &str, status: &ZephyrJobStatus) -> String {
    let mut page = Page(String::new());
    let mut line = |label: &str, text: String| page.line(label, &text);
    line("Job", format!("{namespace}/{name}"));
    line(
        "Phase",
        status
            .phase
            .map_or("not seen by the operator yet", |phase| phase.as_str())
            .to_owned(),
    );
    line(
        "Why",
        reason(status)
            .map(|c| format!("{}: {}", c.reason.as_str(), c.message))
            .unwrap_or_default(),
    );
    if let Some(stage) = &status.stage {
        line(
            "Stage",
            format!(
                "{}, {} done, {} running",
                stage.name, stage.summary, stage.running
            ),
        );
    }
    line("Progress", status.progress.clone().unwrap_or_default());
    line(
        "Workers",
        status
            .workers
            .as_ref()
            .map(describe_workers)
            .unwrap_or_default(),
    );
    if let Some(coordinator) = &status.coordinator {
        let epoch = coordinator
            .epoch
            .map(|epoch| format!(", epoch {epoch}"))
            .unwrap_or_default();
        let pod = coordinator.pod.as_deref().unwrap_or("no pod yet");
        line(
            "Coordinator",
            format!("{pod}{epoch}, {} restarts", coordinator.restarts),
        );
    }
    line(
        "Generation",
        status.generation.map(|n| n.to_string()).unwrap_or_default(),
    );
    if let Some(failure) = &status.failure {
        line("Failed task", failed_task(failure));
        for logged in failure.log.lines() {
            line("", format!("| {logged}"));
        }
    }
    if let Some(until) = &status.pods_kept_until {
        let text = "the coordinator's pod stays until";
        line("Log", format!("{text} {}", until.0));
    }
    describe_records(&mut line, status);
    page.0
}

/// The attempt that ended the job, in words.
pub(crate) fn failed_task(failure: &FailureStatus) -> String {
    let pod = failure
        .pod
        .as_ref()
        .map_or(String::new(), |pod| format!(", of pod {pod}"));
    format!(
        "stage {}, shard {}, attempt {}{pod}",
        failure.stage, failure.shard, failure.attempt
    )
}

/// What the job has read, skipped, counted and written, and what happened to it.
fn describe_records(line: &mut dyn FnMut(&str, String), status: &ZephyrJobStatus) {
    if let Some(records) = &status.records {
        let read = bytes(records.bytes_in.unsigned_abs());
        let written = bytes(records.bytes_out.unsigned_abs());
        line(
            "Records",
            format!(
                "{} read ({read}), {} written ({written})",
                records.r#in, records.out
            ),
        );
        for skipped in &records.skipped {
            let first = skipped.first.as_deref().unwrap_or_default();
            line(
                "Skipped",
                skipped_text(&skipped.step, skipped.records.unsigned_abs(), first),
            );
        }
    }
    if !status.counters.is_empty() {
        let counter = |counter: &Counter| (counter.name.clone(), counter.count.unsigned_abs());
        let counters: Vec<_> = status.counters.iter().map(counter).collect();
        line("Counters", counters_text(&counters));
    }
    if let Some(outputs) = &status.outputs {
        let size = bytes(outputs.bytes.unsigned_abs());
        line(
            "Output",
            format!(
                "{}, {}, {size}: {}",
                counted(outputs.files.unsigned_abs(), "file"),
                counted(outputs.rows.unsigned_abs(), "record"),
                outputs.manifest
            ),
        );
    }
    for entry in &status.history {
        let from = entry
            .from
            .map(|phase| format!("{} → ", phase.as_str()))
            .unwrap_or_default();
        line(
            "History",
            format!(
                "{} {from}{} {}",
                entry.time.0,
                entry.to.as_str(),
                entry.message
            ),
        );
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use zephyr_crds::status::{Phase, StageStatus};

    /// A job with this status, created at the beginning of 2026.
    pub(crate) fn job_with(name: &str, status: &Value) -> ZephyrJob {
        serde_json::from_value(json!({
            "apiVersion": "zephyr.dev/v1alpha1",
            "kind": "ZephyrJob",
            "metadata": {
                "name": name, "namespace": "team", "uid": "u-1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "pipeline": {
                    "source": {"items": {"values": [1], "shards": 1}},
                    "sink": {"files": {"path": "s3://out/{shard}.jsonl"}},
                },
                "storage": {"uri": "s3://scratch"},
                "workers": {"replicas": 1},
            },
            "status": status,
        }))
        .expect("a job")
    }

    #[test]
    fn the_summary_has_the_reason_and_the_whole_status() {
        let job = job_with(
            "count",
            &json!({"phase": "Failed", "conditions": [{
                "type": "Failed", "status": "True", "reason": "TaskFailed", "message": "stage 1: no JSON",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]}),
        );
        let shown = summary(&job);
        for (field, expected) in [
            ("/name", "count"),
            ("/namespace", "team"),
            ("/uid", "u-1"),
            ("/createdAt", "2026-01-01T00:00:00Z"),
            ("/phase", "Failed"),
            ("/reason", "TaskFailed"),
            ("/message", "stage 1: no JSON"),
            ("/status/conditions/0/type", "Failed"),
        ] {
            let found = shown.pointer(field).and_then(Value::as_str);
            assert_eq!(found, Some(expected), "{field}");
        }
    }

    #[test]
    fn a_running_job_is_shown_in_a_few_lines() {
        let workers = WorkerCounts {
            desired: 3,
            busy: 2,
            init: 1,
            disruptions: 4,
            ..WorkerCounts::default()
        };
        let status = ZephyrJobStatus {
            phase: Some(Phase::Running),
            generation: Some(2),
            stage: Some(StageStatus::new("1/2 map", 5, 9, 2, 0)),
            progress: Some("40%".to_owned()),
            workers: Some(workers.with_summary()),
            ..ZephyrJobStatus::default()
        };
        let expected = "Job          team/count\n\
                        Phase        Running\n\
                        Stage        1/2 map, 5/9 done, 2 running\n\
                        Progress     40%\n\
                        Workers      2/3 alive (2 busy, 1 starting), 4 disruptions so far\n\
                        Generation   2\n";
        assert_eq!(describe("count", "team", &status), expected);
    }

    #[test]
    fn a_failed_job_shows_the_last_lines_of_its_failed_task() {
        let status = ZephyrJobStatus {
            phase: Some(Phase::Failed),
            failure: Some(FailureStatus {
                stage: "1/2 map".to_owned(),
                shard: 3,
                attempt: "e1a4".to_owned(),
                pod: Some("count-workers-g1-0".to_owned()),
                log: "Traceback:\nValueError: \u{1b}[31mx".to_owned(),
            }),
            ..ZephyrJobStatus::default()
        };
        let expected = "Job          team/count\n\
                        Phase        Failed\n\
                        Failed task  stage 1/2 map, shard 3, attempt e1a4, of pod count-workers-g1-0\n\
                        \x20            | Traceback:\n\
                        \x20            | ValueError: \\u{1b}[31mx\n";
        assert_eq!(describe("count", "team", &status), expected);
    }

    #[test]
    fn a_job_without_workers_has_no_empty_brackets() {
        let workers = WorkerCounts::default().with_summary();
        assert_eq!(
            describe_workers(&workers),
            "0/0 alive, 0 disruptions so far"
        );
    }

    #[test]
    fn a_job_that_the_operator_has_not_seen_says_so() {
        let page = describe("count", "team", &ZephyrJobStatus::default());
        assert!(page.contains("not seen by the operator yet"), "{page}");
    }
}
