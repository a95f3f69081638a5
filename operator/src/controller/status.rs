//! Computes the job's status from the plan and the results of its writes.
//!
//! Pure: `apply.rs` writes it, last.

pub mod announce;
mod delete;
pub mod due;
mod end;
pub mod left_alone;
mod life;
mod progress;
pub mod set_aside;
mod turn;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zephyr_crds::conditions::{Condition, ConditionStatus, ConditionType, Reason};
use zephyr_crds::names;
use zephyr_crds::status::{
    CoordinatorStatus, Counter, FailureStatus, GenerationEnd, GenerationRecord,
    MAX_GENERATIONS_SHOWN, MAX_HISTORY_MESSAGE, MAX_HISTORY_SHOWN, MAX_SKIPPED_MESSAGE,
    MAX_STAGE_NAME, Phase, RecordCounts, SkippedRecords, StageStatus, TransitionRecord,
    WorkerCounts, ZephyrJobStatus,
};

use self::progress::{coordinator_reason, degradation, follow_phase, progress};
use super::diagnose::Diagnosis;
use super::observed::Observed;
use super::plan::{Finish, Lifecycle, Plan, Restart, Start};
use super::turns::Waiting;
use super::validate::{ValidatedJob, Verdict};
use crate::progress::Lost;
use crate::progress::last_bytes;
use crate::run_report::{FailedTask, RunReport, SkippedReport, StageReport};

/// How many bytes a status has at most. Objects in etcd should be small, and the output of
/// `kubectl get -o yaml` should be short.
pub const MAX_STATUS_BYTES: usize = 8 * 1024;

/// How many characters a condition's message has at most. The longest sentences, which end with a
/// command for the user, have about 500. Five conditions may carry the same message.
const MAX_MESSAGE: usize = 560;

/// How far the clocks of two operators may differ before it matters.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(1);

/// A failed write that the user should know about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteProblem {
    /// The reason of the condition `Degraded`.
    pub reason: Reason,
    /// The message of the condition.
    pub message: String,
}

/// Returns the status that follows from `plan`.
pub fn project(
    job: &ValidatedJob,
    verdict: &Verdict,
    observed: &Observed,
    plan: &Plan,
    problem: Option<&WriteProblem>,
    now: Timestamp,
) -> ZephyrJobStatus {
    if plan.lifecycle == Lifecycle::Delete && !job.is_kept() {
        return job.status.clone();
    }
    let mut next = Projection {
        status: job.status.clone(),
        spec_version: job.spec_version,
        now,
    };
    next.status.observed_generation = job.spec_version;
    match &plan.lifecycle {
        Lifecycle::Ended => {
            next.end_set_aside();
            next.restore_end();
            next.end_now_at_the_latest();
            next.keep_pods(job);
        }
        Lifecycle::Delete => next.delete(job),
        Lifecycle::Reject => next.reject(verdict),
        Lifecycle::Block(message) => next.block(verdict, message),
        Lifecycle::Wait(waiting) => next.wait(waiting, verdict),
        Lifecycle::TakeTurn => next.take_turn(verdict),
        Lifecycle::Start(start) => {
            // Tasks may have ended since the last change of status.
            next.take_report(next.own_report(observed));
            next.start(start, verdict);
        }
        Lifecycle::Finish(finish) => {
            next.finish(job, finish, observed, &plan.diagnosis);
            next.note_restart(job.spec.restart.as_deref());
            next.keep_pods(job);
        }
        Lifecycle::Restart(restart) => next.restart(restart, verdict),
        Lifecycle::AwaitPods(message) => next.await_pods(message, verdict),
        Lifecycle::Hold { remains } => next.hold(remains.as_deref(), verdict),
        Lifecycle::Stay | Lifecycle::Drain | Lifecycle::EndByCoordinator { .. } => {
            next.follow(job, verdict, observed, plan, problem);
        }
    }
    if plan.lifecycle != Lifecycle::Ended {
        next.status.selector = Some(names::worker_selector(&job.identity.uid));
        next.set_for_tools();
    }
    // An unchanged status is already small enough.
    if next.status != job.status {
        bound(&mut next.status);
    }
    next.status
}

/// A status that is being computed.
struct Projection {
    status: ZephyrJobStatus,
    spec_version: Option<i64>,
    now: Timestamp,
}

impl Projection {
    /// Ends a job before it has begun, because its spec is refused. If the spec is changed, the job
    /// begins as a new job.
    fn reject(&mut self, verdict: &Verdict) {
        let message = verdict.in_words();
        self.status.completion_time = Some(Time(self.now));
        self.status.queued_since = None;
        self.status.suspended_since = None;
        self.set_not_suspended();
        self.set(
            ConditionType::Accepted,
            false,
            Reason::SpecInvalid,
            &message,
        );
        self.set(
            ConditionType::Progressing,
            false,
            Reason::SpecInvalid,
            &format!("nothing runs: {message}"),
        );
        self.set_ended(false, Reason::SpecInvalid, &message);
        self.enter(Phase::Failed, Reason::SpecInvalid, &message);
    }

    fn block(&mut self, verdict: &Verdict, message: &str) {
        self.set_accepted(verdict, None);
        self.set(ConditionType::Progressing, false, Reason::Blocked, message);
        self.set_no_pods_yet();
        self.set(ConditionType::Degraded, true, Reason::Blocked, message);
        self.set_not_suspended();
        self.set_unfinished();
        self.enter(Phase::Pending, Reason::Blocked, message);
    }

    fn start(&mut self, start: &Start, verdict: &Verdict) {
        let now = Time(self.now);
        let status = &mut self.status;
        if let (Some(record), Some(ended)) = (status.generations.last_mut(), &start.ended) {
            record.end_time = Some(now.clone());
            record.cause = Some(ended.cause);
            record.message = cut(&ended.message, MAX_HISTORY_MESSAGE);
        }
        if let Some(before) = status.generation {
            let skipped = start.generation.saturating_sub(before).saturating_sub(1);
            status.skipped_numbers = status.skipped_numbers.saturating_add(skipped);
        }
        status.start_time.get_or_insert(now);
        self.number_generation(start.generation, start.tasks_before);
        let status = &mut self.status;
        status.coordinator = None;
        status.all_workers_dead_since = None;
        status.backoff_until = start.not_before.map(Time);
        status.generations_without_progress =
            (start.without_progress > 0).then_some(start.without_progress);
        self.forget_workers();
        self.set_accepted(verdict, None);
        if start.gives_way() {
            return self.give_way(start);
        }
        if start.is_held() {
            return self.hold_next(start, verdict);
        }
        self.status.queued_since = None;
        self.end_suspension();
        self.count_start();
        let (phase, reason, message) = match &start.ended {
            None => (
                Phase::Pending,
                Reason::Starting,
                format!("generation {} starts", start.generation),
            ),
            Some(ended) => (
                Phase::Restarting,
                Reason::Backoff,
                format!(
                    "generation {} follows, because {}",
                    start.generation, ended.message
                ),
            ),
        };
        self.set(
            ConditionType::Progressing,
            start.ended.is_none(),
            reason,
            &message,
        );
        self.set_no_pods_yet();
        match &start.ended {
            None => self.set(ConditionType::Degraded, false, Reason::AsExpected, ""),
            Some(_) => self.set(ConditionType::Degraded, true, reason, &message),
        }
        self.set_unfinished();
        self.enter(phase, reason, &message);
    }

    /// Records the number of a new generation.
    fn number_generation(&mut self, generation: u32, tasks_before: Option<u64>) {
        let status = &mut self.status;
        status.generations.push(GenerationRecord {
            generation,
            start_time: Time(self.now),
            end_time: None,
            cause: None,
            message: String::new(),
            disruptions: 0,
            lost_pods: 0,
            last_lost_pod: None,
            tasks_before: tasks_before.map(number),
        });
        if status.generations.len() > MAX_GENERATIONS_SHOWN {
            // The first entry is kept, because the number of used generations is computed from it.
            status.generations.remove(1);
        }
        status.generation = Some(generation);
    }

    /// Sets the conditions of the pods of a generation that begins.
    fn set_no_pods_yet(&mut self) {
        self.set(
            ConditionType::CoordinatorReady,
            false,
            Reason::Starting,
            "the coordinator's pod does not exist yet",
        );
        self.set(
            ConditionType::WorkersReady,
            false,
            Reason::Starting,
            "workers start when the plan is known",
        );
    }

    fn finish(
        &mut self,
        job: &ValidatedJob,
        finish: &Finish,
        observed: &Observed,
        diagnosis: &Diagnosis,
    ) {
        let succeeded = finish.cause == GenerationEnd::Succeeded;
        let phase = if succeeded {
            Phase::Succeeded
        } else {
            Phase::Failed
        };
        let report = observed.report.as_ref();
        if report.is_some_and(|report| report.planned.is_none()) {
            self.forget_counters();
        }
        self.take_report(report);
        self.take_workers(observed.lost, diagnosis);
        self.forget_workers();
        self.stop_counting();
        self.stop_tasks();
        let now = Time(self.now);
        let status = &mut self.status;
        if let Some(record) = status.generations.last_mut() {
            record.end_time = Some(now.clone());
            record.cause = Some(finish.cause);
            record.message = cut(&finish.message, MAX_HISTORY_MESSAGE);
        }
        status.completion_time = Some(now);
        status.outputs.clone_from(&finish.outputs);
        let name = &job.identity.name;
        status.failure = finish
            .failed_task
            .as_ref()
            .map(|failed| failure(failed, report, name));
        status.backoff_until = None;
        status.queued_since = None;
        status.draining_since = None;
        status.suspended_since = None;
        status.all_workers_dead_since = None;
        if succeeded {
            status.progress = Some("100%".to_owned());
        }
        let message = if finish.message.is_empty() {
            "the job has ended"
        } else {
            &finish.message
        };
        // `kubectl get zj -o wide` shows this one.
        self.set(ConditionType::Progressing, false, finish.reason, message);
        self.set_ended(succeeded, finish.reason, message);
        self.set_not_suspended();
        self.enter(phase, finish.reason, message);
    }

    /// Sets the conditions that say how the job ended.
    fn set_ended(&mut self, succeeded: bool, reason: Reason, message: &str) {
        for kind in [ConditionType::CoordinatorReady, ConditionType::WorkersReady] {
            self.set(kind, false, reason, "the job has ended");
        }
        let (degraded, calm) = if succeeded {
            (Reason::AsExpected, "")
        } else {
            (reason, message)
        };
        self.set(ConditionType::Degraded, !succeeded, degraded, calm);
        let (complete, failed) = if succeeded {
            (message, "the job succeeded")
        } else {
            ("the job failed", message)
        };
        self.set(ConditionType::Complete, succeeded, reason, complete);
        self.set(ConditionType::Failed, !succeeded, reason, failed);
        self.set(ConditionType::Finished, true, reason, message);
    }

    /// Corrects an end that is in the future, because it was written with a wrong clock. Otherwise
    /// the job would be kept for too long.
    fn end_now_at_the_latest(&mut self) {
        let latest = self.now.saturating_add(CLOCKS_APART).unwrap_or(self.now);
        let ended = self.status.completion_time.as_mut();
        if let Some(ended) = ended.filter(|ended| ended.0 > latest) {
            ended.0 = self.now;
        }
    }

    fn follow(
        &mut self,
        job: &ValidatedJob,
        verdict: &Verdict,
        observed: &Observed,
        plan: &Plan,
        problem: Option<&WriteProblem>,
    ) {
        let diagnosis = &plan.diagnosis;
        let report = self.own_report(observed);
        let in_backoff = job.backoff_until(self.now).is_some();
        if observed.warming_up
            && (self.has_no_stream(report, diagnosis, problem) || self.is_unexplained(diagnosis))
        {
            // While this operator warms up, it knows less than the previous operator wrote.
            self.status.all_workers_dead_since = diagnosis.workers.dead_since.map(Time);
            return;
        }
        self.take_report(report);
        self.take_workers(observed.lost, diagnosis);
        let record = self.status.generations.last();
        if report.is_some_and(|report| report.shows_progress(record)) {
            self.status.generations_without_progress = None;
        }
        let later = later_change(job, observed, self.status.generation);
        self.set_accepted(verdict, later.clone());
        let drains = plan.lifecycle == Lifecycle::Drain;
        if !drains {
            self.status.draining_since = None;
        }
        if in_backoff {
            return;
        }
        self.status.backoff_until = None;
        self.take_coordinator(report, diagnosis);
        if diagnosis.coordinator.ready {
            self.count_activity();
        } else {
            self.count_start();
        }

        let mut progress = progress(report, diagnosis, problem);
        let advice = later.or_else(|| progress.advice());
        if let Some(advice) = advice.filter(|_| !progress.goes_on) {
            // A user who corrects the spec of a waiting job must see why the job does not start at
            // once.
            progress.message = format!("{}; {advice}", progress.message);
        }
        if let Lifecycle::EndByCoordinator { reason, message } = &plan.lifecycle {
            self.set_ending(*reason, message);
        } else {
            let (goes_on, reason) = (progress.goes_on, progress.reason);
            self.set(
                ConditionType::Progressing,
                goes_on,
                reason,
                &progress.message,
            );
        }
        self.set_pods(diagnosis);
        let (degraded, reason, message) = {
            let foreign = other_release(observed, self.status.generation);
            let stuck = observed.forced.problem();
            degradation(
                report,
                diagnosis,
                problem.or(foreign.as_ref()),
                stuck.as_ref(),
            )
        };
        self.set(ConditionType::Degraded, degraded, reason, &message);
        self.set_unfinished();

        let phase = follow_phase(self.status.phase, report, diagnosis);
        self.note_work(phase);
        if drains {
            return self.drain();
        }
        self.set_not_suspended();
        self.enter(phase, progress.reason, &progress.message);
    }

    /// Sets the states of the pods of both roles.
    fn set_pods(&mut self, diagnosis: &Diagnosis) {
        let health = &diagnosis.coordinator;
        let (reason, message) = match &health.trouble {
            None if health.ready => (Reason::CoordinatorReady, "the coordinator's pod is ready"),
            Some(trouble) => (coordinator_reason(trouble), trouble.message.as_str()),
            None if health.was_ready => (
                Reason::CoordinatorUnavailable,
                "the coordinator's pod is no longer ready",
            ),
            None => (Reason::Starting, "the coordinator's pod is not ready yet"),
        };
        self.set(
            ConditionType::CoordinatorReady,
            health.ready && health.trouble.is_none(),
            reason,
            message,
        );
        let alive = diagnosis.workers.counts.alive() > 0;
        let (reason, message) = match &diagnosis.workers.trouble {
            _ if alive => (Reason::WorkersAlive, "at least one worker is alive"),
            Some(trouble) => (trouble.kind.reason(), trouble.message.as_str()),
            None if diagnosis.workers.replicas == 0 => {
                (Reason::Starting, "workers start when the plan is known")
            }
            None => (Reason::NoWorkersAlive, "no worker is alive"),
        };
        self.set(ConditionType::WorkersReady, alive, reason, message);
    }

    /// Returns whether the coordinator shows no problem and has reported before, but not yet to
    /// this operator.
    fn has_no_stream(
        &self,
        report: Option<&RunReport>,
        diagnosis: &Diagnosis,
        problem: Option<&WriteProblem>,
    ) -> bool {
        let was_connected = self
            .status
            .coordinator
            .as_ref()
            .is_some_and(|coordinator| coordinator.epoch.is_some());
        was_connected && report.is_none() && problem.is_none() && diagnosis.coordinator.ready
    }

    /// Returns whether the previous operator saw that pods were refused, these pods are still
    /// missing, and this operator has not read the reason yet.
    fn is_unexplained(&self, diagnosis: &Diagnosis) -> bool {
        let was_refused = find(&self.status, ConditionType::Degraded).is_some_and(|condition| {
            condition.status == ConditionStatus::True && condition.reason == Reason::Blocked
        });
        was_refused
            && diagnosis.coordinator.trouble.is_none()
            && diagnosis.workers.trouble.is_none()
            && diagnosis.workers.is_short
    }

    /// Returns the report of the generation in status.
    fn own_report<'a>(&self, observed: &'a Observed) -> Option<&'a RunReport> {
        let report = observed.report.as_ref();
        report.filter(|report| Some(report.generation) == self.status.generation)
    }

    fn take_report(&mut self, report: Option<&RunReport>) {
        let Some(report) = report else { return };
        let count = report.planned.as_ref().map_or(0, |planned| planned.stages);
        let stage_status = |stage: &StageReport| {
            StageStatus::new(
                &format!("{}/{count} {}", stage.index, stage.name),
                stage.done.into(),
                stage.total.into(),
                stage.running.into(),
                stage.failed.into(),
            )
        };
        if let Some(stage) = &report.stage {
            self.status.stage = Some(stage_status(stage));
            self.status.stages = report.stages.iter().map(stage_status).collect();
        }
        if let Some(records) = &report.records {
            self.status.records = Some(RecordCounts {
                r#in: number(records.records_in),
                out: number(records.records_out),
                bytes_in: number(records.bytes_in),
                bytes_out: number(records.bytes_out),
                skipped: records.skipped.iter().map(skipped).collect(),
            });
        }
        if report.planned.is_some() {
            let counter = |(name, count): &(String, u64)| Counter {
                name: name.clone(),
                count: number(*count),
            };
            self.status.counters = report.counters.iter().map(counter).collect();
        }
        if let Some(percent) = report
            .tasks_done
            .saturating_mul(100)
            .checked_div(report.tasks_total)
        {
            self.status.progress = Some(format!("{}%", percent.min(100)));
        }
    }

    /// Removes the counters if the coordinator found the end in the ledger without making a plan.
    /// Such a coordinator has no counters, and the counters in status are from some time before the
    /// end.
    fn forget_counters(&mut self) {
        self.status.stage = None;
        self.status.stages.clear();
        self.status.records = None;
        self.status.counters.clear();
        self.status.progress = None;
    }

    fn take_workers(&mut self, lost: Option<Lost>, diagnosis: &Diagnosis) {
        let workers = &diagnosis.workers;
        if let (Some(record), Some(lost)) = (self.status.generations.last_mut(), lost) {
            record.disruptions = lost.workers.max(record.disruptions);
            record.lost_pods = lost.pods.max(record.lost_pods);
            record.last_lost_pod = lost.pods_until.map(Time).or(record.last_lost_pod.take());
        }
        if self.status.workers.is_some() || workers.replicas > 0 {
            self.status.workers = Some(workers.counts.clone());
        }
        self.status.all_workers_dead_since = workers.dead_since.map(Time);
    }

    /// Removes the numbers of workers, because a generation that has ended has none. The number of
    /// lost workers stays, because it is part of the job's history.
    fn forget_workers(&mut self) {
        self.status.workers = self.status.workers.take().map(|workers| {
            WorkerCounts {
                disruptions: workers.disruptions,
                ..WorkerCounts::default()
            }
            .with_summary()
        });
    }

    fn take_coordinator(&mut self, report: Option<&RunReport>, diagnosis: &Diagnosis) {
        let health = &diagnosis.coordinator;
        let epoch = report
            .and_then(|report| report.epoch)
            .map(|epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
        let before = self.status.coordinator.take().unwrap_or_default();
        self.status.coordinator = Some(CoordinatorStatus {
            pod: health.pod.clone(),
            restarts: health.restarts,
            epoch: epoch.or(before.epoch),
            unavailable_since: health.unavailable_since.map(Time),
        });
    }

    fn set_accepted(&mut self, verdict: &Verdict, later: Option<String>) {
        let is_refused = verdict.is_refusal();
        let (reason, message) = match verdict {
            Verdict::Refused(_) => (Reason::SpecInvalid, verdict.in_words()),
            Verdict::Accepted => {
                let later = later.map_or_else(String::new, |later| format!("; {later}"));
                (Reason::SpecValid, format!("the spec is accepted{later}"))
            }
            Verdict::BegunBefore(_) => {
                let message = format!(
                    "the job began under an earlier release and continues as it began; this release would refuse it as a new job: {}",
                    verdict.in_words()
                );
                (Reason::SpecValid, message)
            }
        };
        self.set(ConditionType::Accepted, !is_refused, reason, &message);
    }

    fn set_unfinished(&mut self) {
        // An earlier version of the spec may have been refused, so the conditions may say that the
        // job has ended.
        self.status.completion_time = None;
        for kind in [
            ConditionType::Complete,
            ConditionType::Failed,
            ConditionType::Finished,
        ] {
            self.set(kind, false, Reason::NotFinished, "the job has not ended");
        }
    }

    /// Sets the two conditions by which generic tools (`helm --wait`, Argo CD) decide whether to
    /// keep waiting, as kstatus defines. They are derived from the other conditions.
    fn set_for_tools(&mut self) {
        let ended = self.status.phase.is_some_and(Phase::is_final);
        // If an edit is refused after the end, or just before it, the result does not change.
        let refused = find(&self.status, ConditionType::Accepted)
            .filter(|condition| condition.status == ConditionStatus::False && !ended);
        let failed = find(&self.status, ConditionType::Failed)
            .filter(|condition| condition.status == ConditionStatus::True);
        let stalled = refused
            .or(failed)
            .map(|condition| (condition.r#type, condition.reason));
        if let Some((kind, reason)) = stalled {
            let message = format!("see condition {}", kind.as_str());
            self.set(ConditionType::Stalled, true, reason, &message);
            self.set(ConditionType::Reconciling, false, reason, &message);
            return;
        }
        let is_suspended = self.status.phase == Some(Phase::Suspended);
        let reason = if ended {
            Reason::OutputComplete
        } else if is_suspended {
            Reason::Suspended
        } else {
            Reason::NotFinished
        };
        self.set(ConditionType::Stalled, false, reason, "");
        // A suspended job is in the state that its spec asks for.
        let reconciles = !ended && !is_suspended;
        self.set(ConditionType::Reconciling, reconciles, reason, "");
    }

    /// Says that the coordinator is to end the job. The time of this transition is that of the
    /// first such request, because it bounds how long the operator waits, even if it starts again.
    fn set_ending(&mut self, reason: Reason, message: &str) {
        let conditions = &mut self.status.conditions;
        conditions.retain(|one| one.r#type != ConditionType::Progressing || one.reason == reason);
        self.set(ConditionType::Progressing, false, reason, message);
    }

    /// Sets one condition. The time of its last transition changes only if its status changes.
    fn set(&mut self, kind: ConditionType, holds: bool, reason: Reason, message: &str) {
        let status = ConditionStatus::from(holds);
        let message = cut(message, MAX_MESSAGE);
        let observed_generation = self.spec_version;
        if let Some(condition) = self
            .status
            .conditions
            .iter_mut()
            .find(|condition| condition.r#type == kind)
        {
            if condition.status != status {
                condition.status = status;
                condition.last_transition_time = Time(self.now);
            }
            condition.reason = reason;
            condition.message = message;
            condition.observed_generation = observed_generation;
        } else {
            let last_transition_time = Time(self.now);
            self.status.conditions.push(Condition {
                r#type: kind,
                status,
                reason,
                message,
                last_transition_time,
                observed_generation,
            });
        }
    }

    /// Changes the phase, and records the change in history.
    fn enter(&mut self, phase: Phase, reason: Reason, message: &str) {
        let status = &mut self.status;
        if status.phase == Some(phase) {
            return;
        }
        status.history.push(TransitionRecord {
            time: Time(self.now),
            generation: status.generation,
            epoch: status
                .coordinator
                .as_ref()
                .and_then(|coordinator| coordinator.epoch),
            from: status.phase,
            to: phase,
            reason: reason.as_str().to_owned(),
            message: cut(message, MAX_HISTORY_MESSAGE),
        });
        if status.history.len() > MAX_HISTORY_SHOWN {
            status.history.remove(0);
        }
        status.phase = Some(phase);
    }
}

/// Returns a sentence for a spec that was changed after `generation` began, in fields that only the
/// next generation reads.
fn later_change(
    job: &ValidatedJob,
    observed: &Observed,
    generation: Option<u32>,
) -> Option<String> {
    let generation = generation?;
    let fields = job.changed_since(observed, generation);
    (!fields.is_empty()).then(|| {
        format!(
            "the change of {} applies to the next generation, which begins when generation {generation} ends; to begin it now: \
             kubectl delete configmap -n {} {}",
            fields.join(", "),
            job.identity.namespace,
            names::generation_root(&job.identity.name, generation)
        )
    })
}

fn find(status: &ZephyrJobStatus, kind: ConditionType) -> Option<&Condition> {
    status
        .conditions
        .iter()
        .find(|condition| condition.r#type == kind)
}

/// Returns the message about a generation that another release created.
fn other_release(observed: &Observed, generation: Option<u32>) -> Option<WriteProblem> {
    let generation = generation?;
    let reason = observed.other_release(generation)?;
    Some(WriteProblem {
        reason: Reason::Blocked,
        message: format!(
            "generation {generation} continues, but another release created it: {reason}. This operator does not change it and starts \
             no further generation; run the operator of the newer release"
        ),
    })
}

/// Makes the status small enough, whatever texts it contains. First the oldest entries of history
/// are removed. Then texts about the past are shortened, and then texts about the present.
fn bound(status: &mut ZephyrJobStatus) {
    let is_large = |status: &ZephyrJobStatus| {
        serde_json::to_vec(status).is_ok_and(|bytes| bytes.len() > MAX_STATUS_BYTES)
    };
    if !is_large(status) {
        return;
    }
    while is_large(status) && status.history.len() > 1 {
        status.history.remove(0);
    }
    for limit in [80, 40, 1] {
        if is_large(status) {
            let records = status.generations.iter_mut();
            records.for_each(|record| record.message = cut(&record.message, limit));
            let history = status.history.iter_mut();
            history.for_each(|record| record.message = cut(&record.message, limit));
        }
    }
    for limit in [1024, 256] {
        if is_large(status)
            && let Some(failure) = &mut status.failure
        {
            failure.log = last_bytes(&failure.log, limit).to_owned();
        }
    }
    for limit in [80, 1] {
        if is_large(status) {
            let records = status.records.iter_mut();
            let firsts = records.flat_map(|records| &mut records.skipped);
            let firsts = firsts.filter_map(|skipped| skipped.first.as_mut());
            firsts.for_each(|first| *first = cut(first, limit));
        }
    }
    for limit in [200, 100, 50, 10] {
        if is_large(status) {
            let conditions = status.conditions.iter_mut();
            conditions.for_each(|condition| condition.message = cut(&condition.message, limit));
        }
    }
}

/// Returns the text on one line. If it has more than `limit` characters, some in the middle are
/// left out: a sentence begins with what is wrong, and it ends with what to do.
fn cut(text: &str, limit: usize) -> String {
    let one_line = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    let length = text.chars().count();
    if length <= limit {
        return text.chars().map(one_line).collect();
    }
    let end = limit / 3;
    let begin = limit - end - 1;
    let last = text.chars().skip(length - end);
    text.chars()
        .take(begin)
        .chain(['…'])
        .chain(last)
        .map(one_line)
        .collect()
}

/// The attempt that ended the job, as status has it.
fn failure(failed: &FailedTask, report: Option<&RunReport>, job: &str) -> FailureStatus {
    let stages = report.and_then(|report| report.planned.as_ref());
    let stages = stages.map_or(failed.stage, |planned| planned.stages);
    let stage = format!("{}/{stages} {}", failed.stage, failed.stage_name);
    let pod = failed.worker.zip(report).map(|(worker, report)| {
        let workers = names::workers(job, report.generation);
        format!("{workers}-{worker}")
    });
    let is_shown = |character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    FailureStatus {
        stage: cut(&stage, MAX_STAGE_NAME),
        shard: failed.shard.into(),
        attempt: failed.attempt.clone(),
        pod,
        log: failed.log.chars().filter(is_shown).collect(),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What was skipped at one step, as status has it.
fn skipped(report: &SkippedReport) -> SkippedRecords {
    SkippedRecords {
        step: report.step.clone(),
        records: number(report.records),
        first: Some(cut(&report.first, MAX_SKIPPED_MESSAGE)).filter(|first| !first.is_empty()),
    }
}

#[cfg(test)]
mod tests;
