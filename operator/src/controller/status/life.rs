//! Computes the status of a job that its user suspends, resumes or cancels.
//!
//! Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::status::{Phase, RestartStatus};

use crate::controller::kept::kept_until;
use crate::controller::validate::ValidatedJob;

use super::{Projection, Restart, Start, Verdict};

/// What status says while a job is suspended.
const HELD: &str = "the job is suspended by spec.suspend";

impl Projection {
    /// Sets the status of a generation that starts no further task. Called after `follow`, which
    /// has set what the coordinator and the workers do.
    pub(super) fn drain(&mut self) {
        let since = self.status.draining_since.get_or_insert(Time(self.now));
        let since = since.0;
        let message = format!(
            "the job is to be suspended: running tasks may end since {since:.0}, and no other task starts"
        );
        let reason = Reason::Suspending;
        self.set(ConditionType::Progressing, false, reason, &message);
        self.set(ConditionType::Suspended, false, reason, &message);
        self.enter(Phase::Suspending, reason, &message);
    }

    /// Sets the status of a suspended job. `remains` says what still exists of it.
    pub(super) fn hold(&mut self, remains: Option<&str>, verdict: &Verdict) {
        self.stop_counting();
        let status = &mut self.status;
        status.suspended_since.get_or_insert(Time(self.now));
        status.queued_since = None;
        status.draining_since = None;
        status.working_since = None;
        status.backoff_until = None;
        self.set_accepted(verdict, None);
        self.stop_tasks();
        let (phase, reason, message) = match remains {
            None => (Phase::Suspended, Reason::Suspended, HELD.to_owned()),
            Some(what) => (
                Phase::Suspending,
                Reason::Suspending,
                format!("{HELD}; {what}"),
            ),
        };
        self.set(ConditionType::Progressing, false, reason, &message);
        self.set(
            ConditionType::Suspended,
            remains.is_none(),
            reason,
            &message,
        );
        for kind in [ConditionType::CoordinatorReady, ConditionType::WorkersReady] {
            self.set(kind, false, reason, "pods are made when the job is resumed");
        }
        self.set(ConditionType::Degraded, false, Reason::AsExpected, "");
        self.set_unfinished();
        self.enter(phase, reason, &message);
    }

    /// Sets the status of a generation that begins when the job is resumed.
    pub(super) fn hold_next(&mut self, start: &Start, verdict: &Verdict) {
        self.status.suspensions = self.status.suspensions.saturating_add(1);
        let ended = start.ended.as_ref();
        let why = ended.map_or("", |ended| ended.message.as_str());
        // The record of the generation begins with the cause. Here it is said already.
        let why = why.strip_prefix("the job was suspended; ").unwrap_or(why);
        self.hold(
            Some(&format!("{why}; pods of the last generation end")),
            verdict,
        );
    }

    /// Records that the job is not suspended, or no longer suspended.
    pub(super) fn end_suspension(&mut self) {
        self.status.draining_since = None;
        self.status.suspended_since = None;
        self.set_not_suspended();
    }

    /// Sets the condition of a job that is not suspended, if it was suspended before.
    pub(super) fn set_not_suspended(&mut self) {
        let kind = ConditionType::Suspended;
        if super::find(&self.status, kind).is_some() {
            self.set(kind, false, Reason::NotSuspended, "");
        }
    }

    /// Records that no task runs, because no pod of the generation stays.
    pub(super) fn stop_tasks(&mut self) {
        let stages = self.status.stage.iter_mut().chain(&mut self.status.stages);
        stages.for_each(|stage| stage.running = 0);
    }

    /// Sets the status of a failed job that runs again. The phase `Failed` with its reason stays in
    /// history. All limits of failures and of time begin anew.
    pub(super) fn restart(&mut self, restart: &Restart, verdict: &Verdict) {
        let generation = restart.generation;
        let status = &mut self.status;
        status.restart = Some(RestartStatus {
            token: restart.token.clone(),
            generation: Some(generation),
        });
        status.suspensions = 0;
        status.places_given_back = 0;
        status.skipped_numbers = 0;
        status.generations_without_progress = None;
        status.starting_seconds = 0;
        status.starting_since = None;
        status.active_seconds = 0;
        status.active_since = None;
        status.working_since = None;
        status.draining_since = None;
        status.suspended_since = None;
        status.backoff_until = None;
        status.all_workers_dead_since = None;
        status.outputs = None;
        status.failure = None;
        status.pods_kept_until = None;
        status.coordinator = None;
        status.queued_since = Some(Time(self.now));
        self.number_generation(generation, restart.tasks_before);
        self.forget_counters();
        self.forget_workers();
        let message =
            format!("the job is restarted: generation {generation} begins when its turn has come");
        self.await_pods(&message, verdict);
    }

    /// Sets the status of a restarted job that waits.
    pub(super) fn await_pods(&mut self, message: &str, verdict: &Verdict) {
        self.set_accepted(verdict, None);
        self.set_queued(message);
        self.set(ConditionType::Degraded, false, Reason::AsExpected, "");
        self.set_not_suspended();
        self.enter(Phase::Pending, Reason::Queued, message);
    }

    /// Records the value of `spec.restart` with which the job ended. Only another value restarts
    /// it.
    pub(super) fn note_restart(&mut self, token: Option<&str>) {
        if let Some(token) = token {
            let restart = self.status.restart.get_or_insert_default();
            token.clone_into(&mut restart.token);
        }
    }

    /// Records until when the coordinator's pod of the failed job stays.
    pub(super) fn keep_pods(&mut self, job: &ValidatedJob) {
        let until = kept_until(&job.spec, &self.status, self.now);
        self.status.pods_kept_until = until.map(Time);
    }

    /// Counts the time in which the job starts, unless a coordinator was ever ready.
    pub(super) fn count_start(&mut self) {
        if !self.status.has_been_active() {
            self.status.starting_since.get_or_insert(Time(self.now));
        }
    }

    /// Counts the time in which the job is active, because its coordinator is ready.
    pub(super) fn count_activity(&mut self) {
        self.stop_counting_start();
        self.status.active_since.get_or_insert(Time(self.now));
    }

    /// Ends the period in which the job starts or is active, and adds its length to the earlier
    /// periods.
    pub(super) fn stop_counting(&mut self) {
        self.stop_counting_start();
        if let Some(since) = self.status.active_since.take() {
            // At least one second is counted, because 0 means that the job was never active.
            let seconds = self.seconds_since(&since).max(1);
            self.status.active_seconds = self.status.active_seconds.saturating_add(seconds);
        }
    }

    fn stop_counting_start(&mut self) {
        if let Some(since) = self.status.starting_since.take() {
            let seconds = self.seconds_since(&since);
            self.status.starting_seconds = self.status.starting_seconds.saturating_add(seconds);
        }
    }

    fn seconds_since(&self, since: &Time) -> i64 {
        self.now.duration_since(since.0).as_secs().max(0)
    }
}
