//! Computes the status of a job that waits for its turn to start, and decides when a job counts as
//! working.
//!
//! Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::status::{GenerationEnd, Phase};

use super::{Projection, Start, Verdict, Waiting};
use crate::controller::turns::places_given_back;

impl Projection {
    /// Sets the status of a job while other jobs start before it.
    pub(super) fn wait(&mut self, waiting: &Waiting, verdict: &Verdict) {
        self.set_accepted(verdict, None);
        let given_back = places_given_back(&self.status);
        let why = self.why_given_back();
        let message = waiting.sentence(given_back, &why);
        self.set_queued(&message);
        if given_back == 0 {
            self.set(ConditionType::Degraded, false, Reason::AsExpected, "");
        }
        self.status.queued_since.get_or_insert(Time(self.now));
        self.end_suspension();
        self.enter(Phase::Pending, Reason::Queued, &message);
    }

    /// Sets the status of a generation that already has a number and now begins.
    pub(super) fn take_turn(&mut self, verdict: &Verdict) {
        self.status.queued_since = None;
        self.end_suspension();
        self.count_start();
        if let Some(record) = self.status.generations.last_mut() {
            record.start_time = Time(self.now);
        }
        self.set_accepted(verdict, None);
        let number = self.status.generation.unwrap_or(0);
        let message = format!("generation {number} starts");
        self.set(ConditionType::Progressing, true, Reason::Starting, &message);
        self.set_no_pods_yet();
        self.set(ConditionType::Degraded, false, Reason::AsExpected, "");
        self.set_unfinished();
        self.enter(Phase::Pending, Reason::Starting, &message);
    }

    /// Sets the status of a job that gave its place back, and whose next generation waits for its
    /// turn.
    pub(super) fn give_way(&mut self, start: &Start) {
        self.stop_counting();
        self.status.queued_since = Some(Time(self.now));
        self.status.places_given_back = self.status.places_given_back.saturating_add(1);
        let why = start.ended.as_ref().map_or("", |ended| &ended.message);
        let message = format!("gave its place back, because {why}");
        self.set_queued(&message);
        self.set(
            ConditionType::Degraded,
            true,
            Reason::WaitingForCapacity,
            &message,
        );
        self.enter(Phase::Pending, Reason::Queued, &message);
    }

    /// Records that the job works, if it does. From then on it keeps its place.
    pub(super) fn note_work(&mut self, phase: Phase) {
        if matches!(phase, Phase::Running | Phase::Succeeding) {
            self.status.working_since.get_or_insert(Time(self.now));
        }
    }

    pub(super) fn set_queued(&mut self, message: &str) {
        self.set(ConditionType::Progressing, false, Reason::Queued, message);
        for kind in [ConditionType::CoordinatorReady, ConditionType::WorkersReady] {
            self.set(
                kind,
                false,
                Reason::Queued,
                "pods are made when the job's turn to start has come",
            );
        }
        self.set_unfinished();
    }

    /// Returns why the last generation gave its place back, in the words of its record in status.
    fn why_given_back(&self) -> String {
        let records = self.status.generations.iter().rev();
        let mut gave_way = records.filter(|record| record.cause == Some(GenerationEnd::GaveWay));
        gave_way
            .next()
            .map(|record| record.message.clone())
            .unwrap_or_default()
    }
}
