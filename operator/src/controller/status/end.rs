//! Restores the end of a job if somebody removed its conditions or its time from status. The end is
//! restored from the rest of the status.
//!
//! Pure. If the operator itself saw the end, `controller.rs` has already restored it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use zephyr_crds::conditions::{ConditionType, Reason};
use zephyr_crds::status::{GenerationEnd, GenerationRecord, Phase, TransitionRecord};

use super::{Projection, find};

impl Projection {
    /// Restores the missing parts of the end.
    pub(super) fn restore_end(&mut self) {
        if self.status.is_whole_end() {
            return;
        }
        let ended_at = self.ended_at();
        self.status.completion_time.get_or_insert(ended_at);
        if self.status.is_whole_end() {
            return;
        }
        let succeeded = self.status.phase == Some(Phase::Succeeded);
        let (reason, message) = self.why_ended();
        self.set(ConditionType::Progressing, false, reason, &message);
        self.set_ended(succeeded, reason, &message);
        if find(&self.status, ConditionType::Accepted).is_none() {
            let is_accepted = self.status.has_begun();
            let (reason, message) = if is_accepted {
                (Reason::SpecValid, "the spec is accepted")
            } else {
                (Reason::SpecInvalid, message.as_str())
            };
            self.set(ConditionType::Accepted, is_accepted, reason, message);
        }
        self.set_for_tools();
    }

    /// Returns when the job ended, if status still contains the time.
    fn ended_at(&self) -> Time {
        let record = self.status.generations.last();
        let of_generation = record.and_then(|record| record.end_time.clone());
        let of_history = self.last_step().map(|step| step.time.clone());
        of_generation.or(of_history).unwrap_or(Time(self.now))
    }

    /// Returns the step into the phase in which the job ended.
    fn last_step(&self) -> Option<&TransitionRecord> {
        let last = self.status.history.last();
        last.filter(|last| Some(last.to) == self.status.phase)
    }

    /// Returns why the job ended, if status still contains the reason.
    fn why_ended(&self) -> (Reason, String) {
        let step = self.last_step();
        let record = self.status.generations.last();
        let known = step.and_then(|step| {
            let reason = serde_json::from_value(Value::String(step.reason.clone())).ok()?;
            Some((reason, step.message.clone()))
        });
        if let Some((reason, message)) = known {
            return (reason, message);
        }
        let message = record.map_or_else(String::new, |record| record.message.clone());
        (self.likely_reason(record), message)
    }

    fn likely_reason(&self, record: Option<&GenerationRecord>) -> Reason {
        if self.status.phase == Some(Phase::Succeeded) {
            return Reason::OutputComplete;
        }
        match record.and_then(|record| record.cause) {
            Some(
                GenerationEnd::CoordinatorLost
                | GenerationEnd::NoWorkers
                | GenerationEnd::GaveWay
                | GenerationEnd::Suspended,
            ) => Reason::GenerationsExhausted,
            Some(GenerationEnd::Succeeded | GenerationEnd::Failed) => Reason::TaskFailed,
            None if self.status.has_begun() => Reason::TaskFailed,
            None => Reason::SpecInvalid,
        }
    }
}
