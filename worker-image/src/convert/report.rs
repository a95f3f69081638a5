//! Converts the engine's report about a run to the messages of the operator's stream. Decides
//! nothing.

use zephyr_engine::coordinator::FailureReason;
use zephyr_engine::coordinator::failed_task::FailedTask;
use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::coordinator::report::{FailedTaskReport, Phase, Report, StageReport};

use zephyr_proto::reason::EndReason;
use zephyr_proto::run as wire;

fn stage_to_wire(stage: StageReport) -> wire::Stage {
    wire::Stage {
        index: stage.index,
        name: stage.name,
        done: stage.done,
        total: stage.total,
        running: stage.running,
        failed: stage.failed,
    }
}

/// Makes the message that tells the operator about the run. `plan_digest` is the digest of the
/// plan.
pub fn snapshot(report: Report, plan_digest: &str) -> wire::Snapshot {
    let phase = match report.phase {
        Phase::Running => wire::Phase::Running,
        Phase::Finishing => wire::Phase::Finishing,
        Phase::Ended => wire::Phase::Ended,
    };
    let skipped = report.skipped.into_iter().map(|skipped| wire::Skipped {
        place: skipped.origin.to_string(),
        records: skipped.records,
        first: skipped.first,
    });
    let counters = report.counters.into_iter();
    let counters = counters.map(|(name, count)| wire::Counter {
        name: name.to_string(),
        count,
    });
    wire::Snapshot {
        skipped: skipped.collect(),
        counters: counters.collect(),
        phase: phase.into(),
        message: report.message,
        planned: Some(wire::Planned {
            stages: report.planned.stages,
            max_shards: report.planned.max_shards,
            digest: plan_digest.to_owned(),
        }),
        stage: Some(stage_to_wire(report.stage)),
        stages: report.stages.into_iter().map(stage_to_wire).collect(),
        records: Some(wire::Records {
            records_in: report.records.records_in,
            records_out: report.records.records_out,
            bytes_in: report.records.bytes_in,
            bytes_out: report.records.bytes_out,
        }),
        workers: Some(wire::WorkerCounts {
            idle: report.workers.idle,
            busy: report.workers.busy,
            reconnecting: report.workers.reconnecting,
            disruptions: report.workers.disruptions,
            busy_pod_uids: report.workers.busy_pod_uids,
            connected_pod_uids: report.workers.connected_pod_uids,
            reconnecting_pod_uids: report.workers.reconnecting_pod_uids,
        }),
        result: report.result.as_ref().map(|ended| wire::Result {
            failed_task: report.failed_task.map(failed_task),
            ..result(ended)
        }),
        tasks_done: report.tasks_done,
        tasks_total: report.tasks_total,
        useful_workers: report.useful_workers,
        tasks_to_drain: report.tasks_to_drain,
    }
}

fn failed_task(report: FailedTaskReport) -> wire::FailedTask {
    let FailedTask { task, worker, log } = report.failed;
    wire::FailedTask {
        stage: report.stage,
        stage_name: report.stage_name,
        shard: task.task.shard.0,
        attempt: task.attempt.to_string(),
        worker,
        log,
    }
}

/// How the job ended.
pub fn result(result: &JobResult) -> wire::Result {
    let reason = end_reason(result).to_string();
    match result {
        JobResult::Succeeded {
            files,
            rows,
            bytes,
            manifest,
        } => wire::Result {
            succeeded: true,
            reason,
            message: format!("{files} files with {rows} records"),
            files: *files,
            bytes: *bytes,
            rows: *rows,
            manifest: manifest.clone(),
            failed_task: None,
            removed_output: false,
        },
        JobResult::Failed { message, .. } => wire::Result {
            succeeded: false,
            reason,
            message: message.clone(),
            ..wire::Result::default()
        },
    }
}

/// How the job ended, as one word.
pub fn end_reason(result: &JobResult) -> EndReason {
    match result {
        JobResult::Succeeded { .. } => EndReason::Succeeded,
        JobResult::Failed { reason, .. } => match reason {
            FailureReason::PlanFailed => EndReason::PlanFailed,
            FailureReason::TaskFailed => EndReason::TaskFailed,
            FailureReason::TaskTimedOut => EndReason::TaskTimedOut,
            FailureReason::TaskDisrupted => EndReason::TaskDisrupted,
            FailureReason::OutputLost => EndReason::OutputLost,
            FailureReason::LedgerDamaged => EndReason::LedgerDamaged,
            FailureReason::TooManySkipped => EndReason::TooManySkipped,
            FailureReason::GenerationsExhausted => EndReason::GenerationsExhausted,
            FailureReason::NoProgress => EndReason::NoProgress,
            FailureReason::Cancelled => EndReason::Cancelled,
            FailureReason::DeadlineExceeded => EndReason::DeadlineExceeded,
            FailureReason::Other(word) => EndReason::Other(word.clone()),
        },
    }
}

#[cfg(test)]
mod tests {
    use zephyr_crds::conditions::Reason;

    use super::*;

    #[test]
    fn a_reason_is_the_same_word_in_the_engine_on_the_wire_and_in_status() {
        let failed = |reason| JobResult::Failed {
            reason,
            message: "m".to_owned(),
        };
        for reason in FailureReason::KNOWN {
            let word = reason.as_str().to_owned();
            let sent = result(&failed(reason));
            assert_eq!((sent.succeeded, &sent.reason), (false, &word));
            assert!(EndReason::KNOWN.contains(&EndReason::from(sent.reason)));
            let in_status: Reason = serde_json::from_value(word.clone().into()).unwrap();
            assert_eq!(in_status.as_str(), word);
        }
        // Only reasons of the engine are sent, apart from success.
        for reason in EndReason::KNOWN {
            let known = FailureReason::from(reason.to_string());
            assert_eq!(
                matches!(known, FailureReason::Other(_)),
                reason == EndReason::Succeeded
            );
        }
        let other = FailureReason::Other("QuotaSpent".to_owned());
        assert_eq!(result(&failed(other)).reason, "QuotaSpent");
    }
}
