//! How many workers a generation lost to disruptions, each counted once over restarts of the operator and the coordinator.
//!
//! Pure. Two that look from two sides are reconciled: the coordinator counts sessions that it lost, and knows nothing of what
//! went while it was away; the operator counts pods that were taken, and sees none that came and went while it was away.
//! Each misses some, neither counts one twice, and most are the same: the larger number is told.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::pods::{PodEndCause, PodFacts};

/// What status says of the generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Workers lost, as people read it.
    pub workers: i64,
    /// Of these, pods that the operator saw taken.
    pub pods: i64,
    /// The latest moment, by the API server's clock, at which one of those pods was taken.
    pub pods_until: Option<Timestamp>,
}

/// The count of one generation.
#[derive(Debug, Default)]
pub(super) struct Disruptions {
    /// Absent until the first look takes it over from status.
    lost: Option<Lost>,
    /// Sessions lost, over all epochs that this operator heard.
    sessions: i64,
    /// Epoch and count of the last report.
    last_heard: Option<(u64, u64)>,
    /// Pods seen at the last look, by uid.
    known: BTreeMap<String, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    ordinal: Option<u32>,
    /// Counted, or ended in a way that is no disruption.
    settled: bool,
}

impl Disruptions {
    /// The count now: `before` is what status says, `heard` what the coordinator reports, `pods` are all worker pods that
    /// exist, and `replicas` is how many are asked for. A pod with a higher number was released.
    pub(super) fn look<'a>(
        &mut self,
        before: Lost,
        heard: Option<(u64, u64)>,
        pods: impl Iterator<Item = &'a PodFacts>,
        replicas: u32,
    ) -> Lost {
        let is_first = self.lost.is_none();
        let mut lost = self.lost.unwrap_or(before);
        if is_first {
            self.sessions = before.workers;
        }
        self.hear(heard);
        let mut current = BTreeMap::new();
        for pod in pods {
            let ordinal = pod.ordinal();
            let was_settled = self.known.get(&pod.uid).is_some_and(|known| known.settled);
            let end = pod.is_taken().then(|| pod.end()).flatten();
            let is_new = end
                .as_ref()
                .is_some_and(|end| end.cause == PodEndCause::Disruption)
                && !was_settled
                && is_wanted(ordinal, replicas);
            // The operator before this one counted what it saw: all that was taken before the last that it counted.
            let is_counted = is_first && pod.taken_at <= before.pods_until;
            if is_new && !is_counted {
                lost.pods += 1;
                lost.pods_until = lost.pods_until.max(pod.taken_at);
            }
            let settled = was_settled || end.is_some();
            current.insert(pod.uid.clone(), Known { ordinal, settled });
        }
        for (uid, known) in std::mem::replace(&mut self.known, current) {
            let is_gone = !self.known.contains_key(&uid);
            if is_gone && !known.settled && is_wanted(known.ordinal, replicas) {
                lost.pods += 1;
            }
        }
        lost.workers = lost.workers.max(self.sessions).max(lost.pods);
        self.lost = Some(lost);
        lost
    }

    /// A coordinator counts from 0 in each epoch.
    fn hear(&mut self, heard: Option<(u64, u64)>) {
        let Some((epoch, count)) = heard else { return };
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        match self.last_heard {
            Some((last, before)) if last == epoch => {
                let more = count.saturating_sub(before);
                self.sessions = self.sessions.saturating_add(number(more));
            }
            Some(_) => self.sessions = self.sessions.saturating_add(number(count)),
            // What it counted before this operator came is in status, as far as it was told.
            None => self.sessions = self.sessions.max(number(count)),
        }
        self.last_heard = Some((epoch, count));
    }
}

/// Whether somebody missed the pod with this number.
fn is_wanted(ordinal: Option<u32>, replicas: u32) -> bool {
    ordinal.is_none_or(|ordinal| ordinal < replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, told, worker};

    fn taken(name: &str, second: i64) -> PodFacts {
        PodFacts {
            deletion: Some(at(second + 15)),
            taken_at: Some(at(second)),
            disruption: Some(told("DeletionByTaintManager", "")),
            ..worker(name)
        }
    }

    fn look(
        count: &mut Disruptions,
        before: Lost,
        heard: Option<(u64, u64)>,
        pods: &[PodFacts],
    ) -> i64 {
        count.look(before, heard, pods.iter(), 4).workers
    }

    #[test]
    fn a_worker_lost_while_the_coordinator_is_away_counts_once() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let alive = [worker("w-0"), worker("w-1")];
        assert_eq!(look(&mut count, none, Some((1, 0)), &alive), 0);
        // Node and coordinator go together; the next coordinator has never heard of the worker.
        let pods = [taken("w-0", 100), worker("w-1")];
        assert_eq!(look(&mut count, none, None, &pods), 1);
        assert_eq!(look(&mut count, none, Some((2, 0)), &pods), 1);
        assert_eq!(look(&mut count, none, Some((2, 0)), &pods[1..]), 1);
        // The next loss is seen from both sides.
        let pods = [worker("w-0b"), taken("w-1", 200)];
        let lost = count.look(none, Some((2, 1)), pods.iter(), 4);
        assert_eq!(
            (lost.workers, lost.pods, lost.pods_until),
            (2, 2, Some(at(200)))
        );
    }

    #[test]
    fn a_new_operator_counts_on_from_status_and_nothing_twice() {
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
    fn what_happened_while_the_operator_was_away_is_counted_by_either_side() {
        let before = Lost {
            workers: 1,
            pods: 1,
            pods_until: Some(at(100)),
        };
        let heard =
            |pods: &[PodFacts], heard| look(&mut Disruptions::default(), before, heard, pods);
        assert_eq!(heard(&[worker("w-0")], Some((1, 3))), 3);
        assert_eq!(heard(&[taken("w-0", 300)], None), 2);
    }

    #[test]
    fn each_epoch_counts_from_zero_and_the_sum_is_told() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let told: Vec<_> = [(1, 2), (2, 0), (2, 1), (3, 4)]
            .map(|heard| look(&mut count, none, Some(heard), &[]))
            .into();
        assert_eq!(told, [2, 2, 3, 7]);
    }

    #[test]
    fn a_pod_that_vanishes_counts_and_one_that_was_released_or_failed_by_itself_does_not() {
        let mut count = Disruptions::default();
        let none = Lost::default();
        let mut failed = worker("w-1");
        failed.verdict = Some(told(
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
