//! Converts between the wire's messages (`run.proto`) and the operator's own types. Nothing else
//! uses the generated types.

use std::collections::{BTreeMap, BTreeSet};

use zephyr_crds::job::MAX_WORKERS;
use zephyr_crds::status::{
    MAX_COUNTER_NAME, MAX_COUNTERS, MAX_FAILURE_ATTEMPT, MAX_FAILURE_LOG, MAX_SKIPPED_ENTRIES,
    MAX_SKIPPED_STEP, MAX_STAGES,
};
use zephyr_proto::run as proto;
use zephyr_proto::run::operator_message::Message;

use crate::pods::{PodEnd, PodEndCause};
use crate::run_report::{
    FailedTask, Planned, PodUids, RecordsReport, RunPhase, RunReport, RunResult, SkippedReport,
    StageReport,
};

use super::dial;

/// How many characters of a sentence are kept at most.
pub(super) const MAX_SENTENCE: usize = 1024;
/// How many characters of a name or an id are kept at most. A uid has 36, and a stage has the name
/// of an operator.
const MAX_NAME: usize = 64;
/// How many characters the manifest's address has at most: 1,024 for the path, and the name of the
/// file. Status allows no more.
const MAX_MANIFEST: usize = 1100;
/// How many pods of one list are kept at most: as many as a job can have.
const MAX_PODS: usize = MAX_WORKERS as usize;

/// Why a report is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field}: is too long (got {found} characters); at most {limit} are allowed")]
    TooLong {
        field: &'static str,
        found: usize,
        limit: usize,
    },
    #[error("it belongs to job {found}, and this stream to another job")]
    OtherJob { found: String },
    #[error("it belongs to generation {found}, and this stream to generation {expected}")]
    OtherGeneration { found: u32, expected: u32 },
}

pub(super) fn hello(job_uid: &str, generation: u32) -> proto::OperatorMessage {
    message(Message::Hello(proto::OperatorHello {
        job_uid: job_uid.to_owned(),
        generation,
    }))
}

/// Converts a message of the operator into wire format.
pub(super) fn message_of(said: &dial::Message) -> proto::OperatorMessage {
    match said {
        dial::Message::PodEnded(end) => pod_ended(end),
        dial::Message::ResultStored { epoch } => result_stored(*epoch),
        dial::Message::WorkersKept { workers } => {
            let workers = *workers;
            message(Message::WorkersKept(proto::WorkersKept { workers }))
        }
        dial::Message::Drain { drains } => {
            message(Message::Drain(proto::Drain { drains: *drains }))
        }
        dial::Message::EndRun {
            reason,
            message: why,
            removes_output,
        } => message(Message::EndRun(proto::EndRun {
            reason: reason.clone(),
            message: why.clone(),
            remove_output: *removes_output,
        })),
    }
}

fn pod_ended(end: &PodEnd) -> proto::OperatorMessage {
    let cause = match end.cause {
        PodEndCause::Disruption => proto::PodEndCause::Disruption,
        PodEndCause::OutOfMemory => proto::PodEndCause::OutOfMemory,
        PodEndCause::Exit => proto::PodEndCause::Exit,
    };
    message(Message::PodEnded(proto::PodEnded {
        pod_uid: end.pod_uid.clone(),
        pod_name: end.pod_name.clone(),
        cause: cause.into(),
        reason: end.reason.clone(),
        exit_code: end.exit_code,
        memory_limit_bytes: end.memory_limit_bytes,
        container_restarts: end.container_restarts,
    }))
}

fn result_stored(epoch: u64) -> proto::OperatorMessage {
    message(Message::ResultStored(proto::ResultStored { epoch }))
}

/// Reads a report. It must be complete, and belong to this job and generation.
pub(super) fn read_report(
    report: proto::CoordinatorReport,
    job_uid: &str,
    generation: u32,
) -> Result<RunReport, Error> {
    if report.job_uid != job_uid {
        return Err(Error::OtherJob {
            found: cut(report.job_uid, MAX_NAME),
        });
    }
    if report.generation != generation {
        return Err(Error::OtherGeneration {
            found: report.generation,
            expected: generation,
        });
    }
    let epoch = (report.epoch > 0).then_some(report.epoch);
    let snapshot = report
        .snapshot
        .ok_or(Error::Missing { field: "snapshot" })?;
    let phase = match snapshot.phase() {
        proto::Phase::Unspecified => return Err(Error::Missing { field: "phase" }),
        proto::Phase::Planning => RunPhase::Planning,
        proto::Phase::Running => RunPhase::Running,
        proto::Phase::StorageUnavailable => RunPhase::StorageUnavailable,
        proto::Phase::Finishing => RunPhase::Finishing,
        proto::Phase::Ended => RunPhase::Ended,
    };
    // Before a coordinator has taken over the ledger, it may report what it waits for, but nothing
    // about the run.
    if epoch.is_none() && (snapshot.planned.is_some() || snapshot.result.is_some()) {
        return Err(Error::Missing { field: "epoch" });
    }
    let result = snapshot.result.map(read_result).transpose()?;
    let workers = snapshot.workers.unwrap_or_default();
    Ok(RunReport {
        generation,
        epoch,
        connected: true,
        phase,
        message: cut(snapshot.message, MAX_SENTENCE),
        planned: snapshot.planned.map(|planned| Planned {
            stages: planned.stages,
            max_shards: planned.max_shards,
        }),
        stage: snapshot.stage.map(stage_report),
        stages: stages(snapshot.stages),
        records: snapshot.records.map(|records| RecordsReport {
            skipped: skipped(snapshot.skipped),
            records_in: countable(records.records_in),
            records_out: countable(records.records_out),
            bytes_in: countable(records.bytes_in),
            bytes_out: countable(records.bytes_out),
        }),
        counters: counters(snapshot.counters),
        disruptions: countable(workers.disruptions),
        busy_pods: pods(workers.busy_pod_uids),
        connected_pods: Some(pods(workers.connected_pod_uids)),
        reconnecting_pods: pods(workers.reconnecting_pod_uids),
        epoch_since: None,
        tasks_done: countable(snapshot.tasks_done),
        tasks_total: countable(snapshot.tasks_total),
        useful_workers: snapshot.useful_workers,
        tasks_to_drain: snapshot.tasks_to_drain,
        progressed: false,
        result,
    })
}

/// Returns the first stages. Their numbers must rise, because status may not have a name twice.
fn stages(sent: Vec<proto::Stage>) -> Vec<StageReport> {
    let mut last = 0;
    let rises = |stage: &proto::Stage| stage.index > std::mem::replace(&mut last, stage.index);
    let listed = sent.into_iter().take_while(rises).take(MAX_STAGES);
    listed.map(stage_report).collect()
}

fn stage_report(stage: proto::Stage) -> StageReport {
    StageReport {
        index: stage.index,
        name: cut(stage.name, MAX_NAME),
        done: stage.done,
        total: stage.total,
        running: stage.running,
        failed: stage.failed,
    }
}

fn read_result(result: proto::Result) -> Result<RunResult, Error> {
    // A shortened address would name another file, and a longer address would make every write of
    // status fail.
    let found = result.manifest.chars().count();
    if found > MAX_MANIFEST {
        return Err(Error::TooLong {
            field: "result.manifest",
            found,
            limit: MAX_MANIFEST,
        });
    }
    Ok(RunResult {
        succeeded: result.succeeded,
        reason: cut(result.reason, MAX_NAME).into(),
        message: cut(result.message, MAX_SENTENCE),
        files: countable(result.files),
        bytes: countable(result.bytes),
        rows: countable(result.rows),
        manifest: result.manifest,
        failed_task: result.failed_task.map(failed_task),
        removed_output: result.removed_output,
    })
}

fn failed_task(failed: proto::FailedTask) -> FailedTask {
    FailedTask {
        stage: failed.stage,
        stage_name: cut(failed.stage_name, MAX_NAME),
        shard: failed.shard,
        attempt: cut(failed.attempt, MAX_FAILURE_ATTEMPT),
        worker: failed.worker.filter(|worker| *worker < MAX_WORKERS),
        log: last_bytes(&failed.log, MAX_FAILURE_LOG).to_owned(),
    }
}

/// Returns the end of the text, with at most `limit` bytes.
pub(crate) fn last_bytes(text: &str, limit: usize) -> &str {
    let excess = text.len().saturating_sub(limit);
    let begin = (excess..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[begin.unwrap_or(excess)..]
}

/// Returns the first `limit` characters. They are copied, so that the memory of the rest is
/// released.
pub(super) fn cut(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

/// Returns the places at which most records were skipped. There are at most as many as status
/// shows.
fn skipped(skipped: Vec<proto::Skipped>) -> Vec<SkippedReport> {
    let read = |skipped: proto::Skipped| SkippedReport {
        step: cut(skipped.place, MAX_SKIPPED_STEP),
        records: countable(skipped.records),
        first: cut(skipped.first, MAX_SENTENCE),
    };
    let mut counts: Vec<u64> = skipped.iter().map(|skipped| skipped.records).collect();
    counts.sort_unstable_by(|left, right| right.cmp(left));
    let least = counts.get(MAX_SKIPPED_ENTRIES - 1).copied().unwrap_or(0);
    let many = skipped
        .into_iter()
        .filter(|skipped| skipped.records >= least);
    many.take(MAX_SKIPPED_ENTRIES).map(read).collect()
}

/// Returns the counters of commands, sorted by name. Each name occurs once, and there are at most
/// as many counters as status shows.
fn counters(counters: Vec<proto::Counter>) -> Vec<(String, u64)> {
    let read = |counter: proto::Counter| {
        let name = cut(counter.name, MAX_COUNTER_NAME);
        (name, countable(counter.count))
    };
    let counters = counters.into_iter().take(MAX_COUNTERS).map(read);
    counters.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// Returns the uids of pods, but not more than a job can have.
fn pods(uids: Vec<String>) -> PodUids {
    let uids: BTreeSet<String> = uids
        .into_iter()
        .take(MAX_PODS)
        .map(|uid| cut(uid, MAX_NAME))
        .collect();
    uids.into()
}

/// Returns the number as status can represent it. Larger numbers are replaced with the largest
/// possible one.
fn countable(number: u64) -> u64 {
    number.min(i64::MAX.unsigned_abs())
}

fn message(message: Message) -> proto::OperatorMessage {
    proto::OperatorMessage {
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> proto::CoordinatorReport {
        let snapshot = proto::Snapshot {
            phase: proto::Phase::Running.into(),
            workers: Some(proto::WorkerCounts {
                busy_pod_uids: vec!["a".to_owned()],
                connected_pod_uids: vec!["a".to_owned(), "b".to_owned()],
                reconnecting_pod_uids: vec!["c".to_owned()],
                disruptions: 3,
                ..Default::default()
            }),
            ..Default::default()
        };
        proto::CoordinatorReport {
            job_uid: "uid".to_owned(),
            generation: 2,
            epoch: 5,
            snapshot: Some(snapshot),
        }
    }

    #[test]
    fn a_complete_report_is_read() {
        let read = read_report(report(), "uid", 2).unwrap();
        assert_eq!(
            (
                read.epoch,
                read.phase,
                read.disruptions,
                read.busy_pods.len()
            ),
            (Some(5), RunPhase::Running, 3, 1)
        );
        assert_eq!(
            (
                read.connected_pods.map(|pods| pods.len()),
                read.reconnecting_pods.len()
            ),
            (Some(2), 1)
        );
    }

    #[test]
    fn texts_lists_and_numbers_of_a_hostile_report_are_bounded() {
        let mut hostile = report();
        let snapshot = hostile.snapshot.as_mut().unwrap();
        let long = "é".repeat(200_000);
        snapshot.message.clone_from(&long);
        snapshot.tasks_done = u64::MAX;
        snapshot.counters = (0..50)
            .map(|number| proto::Counter {
                name: format!("{}{long}", number % 30),
                count: u64::MAX,
            })
            .collect();
        snapshot.tasks_total = u64::MAX;
        snapshot.stage = Some(proto::Stage {
            name: long.clone(),
            ..proto::Stage::default()
        });
        let numbered = |index| proto::Stage {
            index,
            ..proto::Stage::default()
        };
        snapshot.stages = (1..50).map(numbered).collect();
        let workers = snapshot.workers.as_mut().unwrap();
        workers.disruptions = u64::MAX;
        workers.busy_pod_uids = (0..20_000).map(|n| format!("{n:0100}")).collect();
        snapshot.result = Some(proto::Result {
            message: long.clone(),
            reason: long.clone(),
            rows: u64::MAX,
            failed_task: Some(proto::FailedTask {
                stage_name: long.clone(),
                attempt: long.clone(),
                worker: Some(u32::MAX),
                log: format!("{long}x"),
                ..proto::FailedTask::default()
            }),
            ..proto::Result::default()
        });
        let read = read_report(hostile.clone(), "uid", 2).unwrap();
        let result = read.result.unwrap();
        let lengths = [
            read.message.as_str(),
            &read.stage.unwrap().name,
            &result.message,
            result.reason.as_str(),
        ]
        .map(|text| text.chars().count());
        assert_eq!(lengths, [1024, 64, 1024, 64]);
        let failed = result.failed_task.unwrap();
        assert_eq!(failed.worker, None);
        assert_eq!(failed.attempt.chars().count(), 32);
        assert!(failed.log.len() <= 2048 && failed.log.ends_with("éx"));
        assert_eq!(read.stages.len(), MAX_STAGES);
        assert_eq!(stages([1, 2, 2, 3].map(numbered).into()).len(), 2);
        let is_bounded = |(name, count): &(String, u64)| {
            name.chars().count() <= 40 && i64::try_from(*count).is_ok()
        };
        assert!(read.counters.len() == 20 && read.counters.iter().all(is_bounded));
        assert!(read.busy_pods.len() <= 10_000 && read.busy_pods.iter().all(|uid| uid.len() == 64));
        for number in [
            read.disruptions,
            read.tasks_done,
            read.tasks_total,
            result.rows,
        ] {
            assert_eq!(i64::try_from(number), Ok(i64::MAX));
        }
        let result = hostile.snapshot.as_mut().unwrap().result.as_mut().unwrap();
        result.manifest = "m".repeat(1101);
        assert_eq!(
            read_report(hostile, "uid", 2).unwrap_err().to_string(),
            "result.manifest: is too long (got 1101 characters); at most 1100 are allowed"
        );
    }

    #[test]
    fn a_coordinator_without_an_epoch_may_report_what_it_waits_for() {
        let mut report = report();
        report.epoch = 0;
        report
            .snapshot
            .as_mut()
            .unwrap()
            .set_phase(proto::Phase::StorageUnavailable);
        let read = read_report(report, "uid", 2).unwrap();
        assert_eq!(
            (read.epoch, read.phase),
            (None, RunPhase::StorageUnavailable)
        );
    }

    #[test]
    fn a_report_of_another_job_or_generation_or_with_a_part_missing_is_refused() {
        let refused = |change: fn(&mut proto::CoordinatorReport)| {
            let mut changed = report();
            change(&mut changed);
            read_report(changed, "uid", 2).unwrap_err()
        };
        assert_eq!(
            refused(|r| r.job_uid = "other".to_owned()),
            Error::OtherJob {
                found: "other".to_owned()
            }
        );
        assert_eq!(
            refused(|r| r.generation = 1),
            Error::OtherGeneration {
                found: 1,
                expected: 2
            }
        );
        assert_eq!(
            refused(|r| {
                r.epoch = 0;
                r.snapshot.as_mut().unwrap().result = Some(proto::Result::default());
            }),
            Error::Missing { field: "epoch" }
        );
        assert_eq!(
            refused(|r| r.snapshot = None),
            Error::Missing { field: "snapshot" }
        );
        assert_eq!(
            refused(|r| r.snapshot.as_mut().unwrap().phase = 0),
            Error::Missing { field: "phase" }
        );
    }
}
