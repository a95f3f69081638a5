//! Keeps the events of a job's pods, and decides when to read them: rarely, and only while pods are
//! missing or do not start.
//!
//! Pure. Correctness does not depend on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::controller::observe::refusal::{MAX_REFUSAL_AGE, PodRefusal};
use crate::controller::observe::starting::StartEvent;
use crate::pods::{PodFacts, Role};

/// How long pods may be missing before their events are read. A `StatefulSet` needs some time to
/// create many pods.
const SHORT_BEFORE_ASKING: SignedDuration = SignedDuration::from_secs(5);
/// How long a node may take to start a pod before its events are read.
const STARTING_BEFORE_ASKING: SignedDuration = SignedDuration::from_secs(30);
/// How long one answer is valid.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// The record for the events of one job.
#[derive(Debug, Default)]
pub struct EventMemory {
    /// Whether all worker pods existed when this operator last checked.
    was_whole: bool,
    /// The time since which this operator sees worker pods missing.
    short_since: Option<Timestamp>,
    refusal_asked_at: Option<Timestamp>,
    refusal: Option<PodRefusal>,
    /// Pods that do not start, by uid: when the events of each were read, and the result.
    starting: BTreeMap<String, (Timestamp, Option<StartEvent>)>,
    /// When events of a pod of each role were last read.
    starting_asked_at: BTreeMap<Role, Timestamp>,
}

impl EventMemory {
    /// Returns whether it is time to read why worker pods are missing.
    pub fn must_ask_for_refusal(&mut self, is_short: bool, now: Timestamp) -> bool {
        if !is_short {
            self.was_whole = true;
            self.short_since = None;
            self.refusal_asked_at = None;
            self.refusal = None;
            return false;
        }
        let since = *self.short_since.get_or_insert(now);
        let must_ask =
            is_due(self.refusal_asked_at, now) && now.duration_since(since) >= SHORT_BEFORE_ASKING;
        if must_ask {
            self.refusal_asked_at = Some(now);
        }
        must_ask
    }

    /// Keeps the newest refusal that was found.
    pub fn set_refusal(&mut self, refusal: Option<PodRefusal>) {
        self.refusal = refusal;
    }

    /// Returns why worker pods are missing, in the API server's words.
    pub fn refusal(&self, now: Timestamp) -> Option<String> {
        let refusal = self.refusal.as_ref()?;
        refusal
            .explains(self.missing_since()?, now)
            .then(|| refusal.message.clone())
    }

    /// Returns the time since which worker pods are missing, as far as this operator knows. If this
    /// operator never saw all pods, the pods may have been missing before it started. Then any
    /// refusal that is still valid may be the reason.
    fn missing_since(&self) -> Option<Timestamp> {
        let since = self.short_since?;
        if self.was_whole {
            return Some(since);
        }
        Some(since.checked_sub(MAX_REFUSAL_AGE).unwrap_or(since))
    }

    /// Returns the pods whose events are to be listed now, at most one for each role. A pod whose
    /// events were never read comes first, and then the pod whose events were read the longest time
    /// ago. From now on the events of the returned pods count as read.
    pub fn pods_to_ask(
        &mut self,
        pods: &[Arc<PodFacts>],
        generation: u32,
        now: Timestamp,
    ) -> Vec<Arc<PodFacts>> {
        let starts = |pod: &&Arc<PodFacts>| {
            pod.generation == generation
                && pod
                    .starting_since()
                    .is_some_and(|since| now.duration_since(since) >= STARTING_BEFORE_ASKING)
        };
        let waiting: Vec<_> = pods.iter().filter(starts).collect();
        self.starting
            .retain(|uid, _| waiting.iter().any(|pod| pod.uid == *uid));
        let mut chosen = Vec::new();
        for role in [Role::Coordinator, Role::Worker] {
            if !is_due(self.starting_asked_at.get(&role).copied(), now) {
                continue;
            }
            let of_role = waiting.iter().filter(|pod| pod.role == role);
            let next = of_role.min_by_key(|pod| {
                let asked_at = self.starting.get(&pod.uid).map(|(asked_at, _)| *asked_at);
                (asked_at, pod.starting_since(), &pod.name)
            });
            let Some(pod) = next else { continue };
            self.starting_asked_at.insert(role, now);
            let known = self.starting.remove(&pod.uid).and_then(|(_, found)| found);
            self.starting.insert(pod.uid.clone(), (now, known));
            chosen.push(Arc::clone(pod));
        }
        chosen
    }

    /// Keeps the reason why a pod does not start.
    pub fn set_start_event(&mut self, pod_uid: &str, event: Option<StartEvent>) {
        if let Some((_, found)) = self.starting.get_mut(pod_uid) {
            *found = event;
        }
    }

    /// Returns the results for the pods whose events were read, by uid.
    pub fn start_events(&self) -> BTreeMap<String, Option<StartEvent>> {
        let known = |(uid, (_, found)): (&String, &(Timestamp, Option<StartEvent>))| {
            (uid.clone(), found.clone())
        };
        self.starting.iter().map(known).collect()
    }
}

/// Returns whether the answer from `asked_at` is too old, or there is none.
fn is_due(asked_at: Option<Timestamp>, now: Timestamp) -> bool {
    asked_at.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, worker};

    #[test]
    fn the_reason_for_missing_pods_is_read_only_now_and_then() {
        let mut memory = EventMemory::default();
        let asked: Vec<_> = [0, 4, 5, 6, 19, 20]
            .map(|s| memory.must_ask_for_refusal(true, at(s)))
            .into();
        assert_eq!(asked, [false, false, true, false, false, true]);
        assert!(!memory.must_ask_for_refusal(false, at(40)));
        assert!(!memory.must_ask_for_refusal(true, at(41)));
    }

    #[test]
    fn fault_f12_last_hours_refusal_is_not_reported_as_todays() {
        let refusal = |second| {
            Some(PodRefusal {
                at: at(second),
                message: "exceeded quota".to_owned(),
            })
        };
        let mut memory = EventMemory::default();
        memory.must_ask_for_refusal(false, at(10_000));
        memory.must_ask_for_refusal(true, at(13_600));
        memory.set_refusal(refusal(13_000));
        assert_eq!(memory.refusal(at(13_610)), None);
        memory.set_refusal(refusal(13_605));
        assert!(memory.refusal(at(13_610)).is_some());
        assert_eq!(memory.refusal(at(20_000)), None, "it has no end");

        let mut restarted = EventMemory::default();
        restarted.must_ask_for_refusal(true, at(13_600));
        restarted.set_refusal(refusal(13_000));
        assert!(restarted.refusal(at(13_610)).is_some());
    }

    /// Returns a pod that got its node at `second` and has not started.
    fn starting(name: &str, role: Role, second: i64) -> Arc<PodFacts> {
        Arc::new(PodFacts {
            role,
            scheduled_since: Some(at(second)),
            node: Some("node".to_owned()),
            ..worker(name)
        })
    }

    #[test]
    fn events_of_pods_that_do_not_start_are_read_for_one_pod_of_each_role_every_15_s() {
        let mut pods = vec![
            starting("w-0", Role::Worker, 0),
            starting("w-1", Role::Worker, 1),
            starting("c", Role::Coordinator, 20),
        ];
        let mut memory = EventMemory::default();
        let mut asked = Vec::new();
        for second in 0..76 {
            let found = memory.pods_to_ask(&pods, 1, at(second));
            asked.extend(found.into_iter().map(|pod| (second, pod.name.clone())));
        }
        let expected = [
            (30, "w-0"),
            (45, "w-1"),
            (50, "c"),
            (60, "w-0"),
            (65, "c"),
            (75, "w-1"),
        ];
        assert_eq!(
            asked,
            expected.map(|(second, name)| (second, name.to_owned()))
        );
        assert_eq!(memory.start_events().len(), 3);
        pods.remove(0);
        memory.pods_to_ask(&pods, 1, at(76));
        assert_eq!(
            memory.start_events().len(),
            2,
            "a pod that is gone is forgotten"
        );
        assert!(
            memory.pods_to_ask(&pods, 2, at(100)).is_empty(),
            "of another generation"
        );
    }
}
