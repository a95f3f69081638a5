//! What the engine reports of a run, as the operator's stream words it. Decides nothing.

use zephyr_engine::coordinator::record::JobResult;
use zephyr_engine::coordinator::report::{Phase, Report};

use zephyr_proto::run as wire;

/// The snapshot of a run whose plan has this digest.
pub fn snapshot(report: Report, plan_digest: &str) -> wire::Snapshot {
    let phase = match report.phase {
        Phase::Running => wire::Phase::Running,
        Phase::Finishing => wire::Phase::Finishing,
        Phase::Ended => wire::Phase::Ended,
    };
    wire::Snapshot {
        phase: phase.into(),
        message: report.message,
        planned: Some(wire::Planned {
            stages: report.planned.stages,
            max_shards: report.planned.max_shards,
            digest: plan_digest.to_owned(),
        }),
        stage: Some(wire::Stage {
            index: report.stage.index,
            name: report.stage.name,
            done: report.stage.done,
            total: report.stage.total,
            running: report.stage.running,
            failed: report.stage.failed,
        }),
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
        result: report.result.as_ref().map(result),
        tasks_done: report.tasks_done,
        tasks_total: report.tasks_total,
        useful_workers: report.useful_workers,
    }
}

/// How the job ended.
pub fn result(result: &JobResult) -> wire::Result {
    match result {
        JobResult::Succeeded {
            files,
            rows,
            bytes,
            manifest,
        } => wire::Result {
            succeeded: true,
            reason: "Succeeded".to_owned(),
            message: format!("{files} files with {rows} records"),
            files: *files,
            bytes: *bytes,
            rows: *rows,
            manifest: manifest.clone(),
        },
        JobResult::Failed { reason, message } => wire::Result {
            succeeded: false,
            reason: reason.clone(),
            message: message.clone(),
            ..wire::Result::default()
        },
    }
}
