//! Counts the workers that a generation lost to disruptions. Each loss is counted once, even if the
//! operator or the coordinator restarts.
//!
//! Pure. Two counts are combined. The coordinator counts lost sessions, but misses workers that
//! were lost while it was absent. The operator counts pods that ended because of a disruption, but
//! misses pods that were created and ended while it was absent. Each count misses some losses, no
//! count contains a loss twice, and most losses are in both counts. The larger count is reported.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::pods::{PodEndCause, PodFacts};

/// The counts in status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many workers were lost, as shown to people.
    pub workers: i64,
    /// How many of the lost workers had pods that the operator itself saw end because of a
    /// disruption.
    pub pods: i64,
    /// The latest `PodFacts::taken_at` of those pods.
    pub pods_until: Option<Timestamp>,
}

/// The count of one generation.
#[derive(Debug, Default)]
pub(super) struct Disruptions {
    /// Absent until the first call copies it from status.
    lost: Option<Lost>,
    /// How many sessions were lost in all epochs from which this operator received reports.
    sessions: i64,
    /// The epoch and the count of lost sessions in the last report.
    last_heard: Option<(u64, u64)>,
    /// The pods that existed at the last call, by uid.
    known: BTreeMap<String, Known>,
    /// The uid of the `StatefulSet` that the known pods belong to.
    owner: String,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    ordinal: Option<u32>,
    /// Whether the pod was already counted, or ended in a way that is not a disruption.
    settled: bool,
    /// Whether the requested number of workers was once too small for this pod's ordinal. If such a
    /// pod disappears and its end was not seen, it counts as released, even if the number is large
    /// enough again.
    let_go: bool,
}

impl Disruptions {
    /// Forgets the known pods if they belong to another `StatefulSet` than the one with this uid.
    /// No watch shows whether the pods of an earlier set were deleted, or still exist and have
    /// another owner.
    pub(super) fn set_owner(&mut self, uid: &str) {
        if self.owner != uid {
            uid.clone_into(&mut self.owner);
            self.known.clear();
        }
    }

    /// Forgets the pods with these uids. They still exist, but no longer have an owner, because
    /// their `StatefulSet` was deleted without deleting them.
    pub(super) fn leave_alone(&mut self, uids: &BTreeSet<String>) {
        self.known.retain(|uid, _| !uids.contains(uid));
    }

    /// Returns the current count. `before` is the count in status, `reported` is the epoch and the
    /// count of the coordinator's report, `pods` are all existing worker pods, and `replicas` is
    /// the requested number of workers. A pod whose ordinal is not below `replicas` was released.
    pub(super) fn look<'a>(
        &mut self,
        before: Lost,
        reported: Option<(u64, u64)>,
        pods: impl Iterator<Item = &'a PodFacts>,
        replicas: u32,
    ) -> Lost {
        let is_first = self.lost.is_none();
        let mut lost = self.lost.unwrap_or(before);
        if is_first {
            self.sessions = before.workers;
        }
        self.count_reported(reported);
        let mut current = BTreeMap::new();
        for pod in pods {
            let ordinal = pod.ordinal();
            let known = self.known.get(&pod.uid);
            let was_settled = known.is_some_and(|known| known.settled);
            let was_let_go = known.is_some_and(|known| known.let_go);
            let end = pod.is_taken().then(|| pod.end()).flatten();
            let is_new = end
                .as_ref()
                .is_some_and(|end| end.cause == PodEndCause::Disruption)
                && !was_settled
                && is_wanted(ordinal, replicas);
            // The previous operator counted all pods that were lost before the last loss that it
            // counted.
            let is_counted = is_first && pod.taken_at <= before.pods_until;
            if is_new && !is_counted {
                lost.pods += 1;
                lost.pods_until = lost.pods_until.max(pod.taken_at);
            }
            let settled = was_settled || end.is_some();
            let known = Known {
                ordinal,
                settled,
                let_go: was_let_go || !is_wanted(ordinal, replicas),
            };
            current.insert(pod.uid.clone(), known);
        }
        for (uid, known) in std::mem::replace(&mut self.known, current) {
            let is_gone = !self.known.contains_key(&uid);
            let is_wanted = !known.let_go && is_wanted(known.ordinal, replicas);
            if is_gone && !known.settled && is_wanted {
                lost.pods += 1;
            }
        }
        lost.workers = lost.workers.max(self.sessions).max(lost.pods);
        self.lost = Some(lost);
        lost
    }

    /// Adds the losses that the coordinator reports. A coordinator counts from 0 in each epoch.
    fn count_reported(&mut self, reported: Option<(u64, u64)>) {
        let Some((epoch, count)) = reported else {
            return;
        };
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        match self.last_heard {
            Some((last, before)) if last == epoch => {
                let more = count.saturating_sub(before);
                self.sessions = self.sessions.saturating_add(number(more));
            }
            Some(_) => self.sessions = self.sessions.saturating_add(number(count)),
            // Status already contains the losses that the coordinator reported before this operator
            // started.
            None => self.sessions = self.sessions.max(number(count)),
        }
        self.last_heard = Some((epoch, count));
    }
}

/// Returns whether the pod with this ordinal is among the requested workers.
fn is_wanted(ordinal: Option<u32>, replicas: u32) -> bool {
    ordinal.is_none_or(|ordinal| ordinal < replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, explanation, worker};

    fn taken(name: &str, second: i64) -> PodFacts {
        PodFacts {
            deletion: Some(at(second + 15)),
            taken_at: Some(at(second)),
            disruption: Some(explanation("DeletionByTaintManager", "")),
            ..worker(name)
        }
    }

    fn look(
        count: &mut Disruptions,
        before: Lost,
        reported: Option<(u64, u64)>,
        pods: &[PodFacts],
    ) -> i64 {
        count.look(before, reported, pods.iter(), 4).workers
    }

    #[test]
    fn a_worker_lost_while_the_coordinator_is_away_counts_once() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let alive = [worker("w-0"), worker("w-1")];
        assert_eq!(look(&mut count, none, Some((1, 0)), &alive), 0);
        // The node and the coordinator are lost together, so the next coordinator never knew the
        // worker.
        let pods = [taken("w-0", 100), worker("w-1")];
        assert_eq!(look(&mut count, none, None, &pods), 1);
        assert_eq!(look(&mut count, none, Some((2, 0)), &pods), 1);
        assert_eq!(look(&mut count, none, Some((2, 0)), &pods[1..]), 1);
        // The next loss is in both counts.
        let pods = [worker("w-0b"), taken("w-1", 200)];
        let lost = count.look(none, Some((2, 1)), pods.iter(), 4);
        assert_eq!(
            (lost.workers, lost.pods, lost.pods_until),
            (2, 2, Some(at(200)))
        );
    }

    #[test]
    fn pods_that_change_their_owner_are_not_a_disruption() {
        let mut count = Disruptions::default();
        count.set_owner("set");
        assert_eq!(look(&mut count, Lost::default(), None, &[worker("w-0")]), 0);
        // The set was deleted with `kubectl delete --cascade=orphan`. No watch shows a pod without
        // an owner, and the next set adopts it.
        count.set_owner("next set");
        assert_eq!(look(&mut count, Lost::default(), None, &[]), 0);
        assert_eq!(look(&mut count, Lost::default(), None, &[worker("w-0")]), 0);
        count.set_owner("next set");
        assert_eq!(look(&mut count, Lost::default(), None, &[]), 1);
    }

    #[test]
    fn pods_without_owner_are_not_a_disruption_even_before_the_owner_is_seen_to_go() {
        let mut count = Disruptions::default();
        count.set_owner("set");
        let pods = [worker("w-0"), worker("w-1")];
        assert_eq!(look(&mut count, Lost::default(), None, &pods), 0);
        // The watch of pods already shows that the pods have no owner, but the watch of sets still
        // shows the set.
        let left_alone = BTreeSet::from([pods[0].uid.clone(), pods[1].uid.clone()]);
        count.leave_alone(&left_alone);
        assert_eq!(look(&mut count, Lost::default(), None, &[]), 0);
        // Their own set owns them again, and one pod is lost.
        assert_eq!(look(&mut count, Lost::default(), None, &pods), 0);
        assert_eq!(look(&mut count, Lost::default(), None, &pods[..1]), 1);
    }

    #[test]
    fn a_new_operator_continues_from_the_count_in_status_and_counts_nothing_twice() {
        let before = Lost {
            workers: 3,
            pods: 2,
            pods_until: Some(at(100)),
        };
        let counted = taken("w-0", 100);
        let new = taken("w-1", 101);
        let mut count = Disruptions::default();
        let pods = [counted.clone(), worker("w-2")];
        let lost = count.look(before, Some((1, 3)), pods.iter(), 4);
        assert_eq!(lost, before, "nothing has changed, so nothing is written");
        let pods = [counted, new, worker("w-2")];
        let lost = count.look(before, Some((1, 3)), pods.iter(), 4);
        assert_eq!((lost.workers, lost.pods), (3, 3));
        assert_eq!(look(&mut count, before, Some((1, 4)), &pods), 4);
    }

    #[test]
    fn losses_while_the_operator_was_absent_are_counted_once() {
        let before = Lost {
            workers: 1,
            pods: 1,
            pods_until: Some(at(100)),
        };
        let reported =
            |pods: &[PodFacts], reported| look(&mut Disruptions::default(), before, reported, pods);
        assert_eq!(reported(&[worker("w-0")], Some((1, 3))), 3);
        assert_eq!(reported(&[taken("w-0", 300)], None), 2);
    }

    #[test]
    fn a_new_operator_does_not_count_workers_that_were_released_before_its_start() {
        let before = Lost::default();
        let pods = [worker("w-0"), taken("w-3", 100)];
        let mut count = Disruptions::default();
        let lost = count.look(before, Some((1, 0)), pods.iter(), 2);
        assert_eq!(lost, before);
        let lost = count.look(before, Some((1, 0)), pods[..1].iter(), 2);
        assert_eq!(lost, before, "it is gone");
    }

    #[test]
    fn a_released_worker_whose_end_is_seen_late_is_not_a_disruption() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let mut look = |pods: &[PodFacts], replicas| {
            let lost = count.look(none, None, pods.iter(), replicas);
            lost.workers
        };
        let pods = [worker("w-0"), worker("w-1")];
        assert_eq!(look(&pods, 2), 0);
        // From here on the watch of pods shows nothing.
        assert_eq!(look(&pods, 1), 0);
        assert_eq!(look(&pods, 3), 0);
        let mut again = worker("w-1");
        again.uid = "another".to_owned();
        assert_eq!(look(&[pods[0].clone(), again], 3), 0);
        assert_eq!(look(&pods[..1], 3), 1, "the new pod of this name is lost");
    }

    #[test]
    fn each_epoch_counts_from_zero_and_the_sum_is_reported() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let explanation: Vec<_> = [(1, 2), (2, 0), (2, 1), (3, 4)]
            .map(|reported| look(&mut count, none, Some(reported), &[]))
            .into();
        assert_eq!(explanation, [2, 2, 3, 7]);
    }

    #[test]
    fn a_pod_that_vanishes_counts_and_one_that_was_released_or_failed_by_itself_does_not() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let mut failed = worker("w-1");
        failed.verdict = Some(explanation(
            "Evicted",
            "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Gi\". ",
        ));
        failed.over = true;
        let pods = [worker("w-0"), failed, worker("w-9")];
        assert_eq!(look(&mut count, none, None, &pods), 0);
        assert_eq!(look(&mut count, none, None, &[taken("w-9", 5)]), 1);
        assert_eq!(look(&mut count, none, None, &[]), 1);
    }
}
