//! Records which ends of worker pods were reported to the coordinator, and which pods disappeared
//! before their end could be seen.
//!
//! Pure. The record contains only existing pods, and disappeared pods that were not reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::pods::{PodEnd, PodEndCause, PodFacts};

/// How many disappeared pods are kept at most while there is no stream. The coordinator notices
/// further pods because their workers are silent.
const MAX_VANISHED: usize = 20_000;

/// The record for one generation's worker pods.
#[derive(Debug, Default)]
pub(super) struct PodEnds {
    /// Pods that existed at the last call: uid → name.
    known: BTreeMap<String, String>,
    /// The ends of pods that existed and disappeared, by the pod's uid.
    vanished: BTreeMap<String, PodEnd>,
    reported: BTreeSet<PodEnd>,
}

impl PodEnds {
    /// Returns the ends that were not yet reported. `pods` are all worker pods that exist now.
    /// `left_alone` contains the uids of pods that still exist although their owner was deleted.
    pub(super) fn unreported<'a>(
        &mut self,
        pods: impl Iterator<Item = &'a PodFacts>,
        left_alone: &BTreeSet<String>,
    ) -> Vec<PodEnd> {
        let mut current = BTreeMap::new();
        let mut ends = Vec::new();
        for pod in pods {
            current.insert(pod.uid.clone(), pod.name.clone());
            ends.extend(pod.end());
        }
        for (uid, name) in std::mem::take(&mut self.known) {
            let is_gone = !current.contains_key(&uid) && !left_alone.contains(&uid);
            if is_gone && self.vanished.len() < MAX_VANISHED {
                self.vanished.insert(uid.clone(), vanished(uid, name));
            }
        }
        self.known = current;
        self.reported
            .retain(|end| self.known.contains_key(&end.pod_uid));
        ends.retain(|end| !self.reported.contains(end));
        ends.extend(self.vanished.values().cloned());
        ends
    }

    /// Records that `end` was sent.
    pub(super) fn set_reported(&mut self, end: &PodEnd) {
        if self.vanished.get(&end.pod_uid) == Some(end) {
            self.vanished.remove(&end.pod_uid);
        } else {
            self.reported.insert(end.clone());
        }
    }

    /// Records that there is a new stream, whose receiver knows no ends yet.
    pub(super) fn forget_reported(&mut self) {
        self.reported.clear();
    }
}

/// Returns the end of a pod that disappeared. It counts as a disruption, because nobody saw the
/// container exit by itself.
fn vanished(pod_uid: String, pod_name: String) -> PodEnd {
    PodEnd {
        pod_uid,
        pod_name,
        cause: PodEndCause::Disruption,
        reason: "pod gone".to_owned(),
        exit_code: 0,
        memory_limit_bytes: 0,
        container_restarts: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::worker;

    #[test]
    fn each_end_is_reported_once_on_a_stream_and_again_on_the_next() {
        let mut pod = worker("w-0");
        pod.deletion = Some(jiff::Timestamp::UNIX_EPOCH);
        let mut ends = PodEnds::default();
        let first = ends.unreported([&pod].into_iter(), &BTreeSet::new());
        assert_eq!(first.len(), 1);
        ends.set_reported(&first[0]);
        assert_eq!(ends.unreported([&pod].into_iter(), &BTreeSet::new()), []);
        ends.forget_reported();
        assert_eq!(ends.unreported([&pod].into_iter(), &BTreeSet::new()), first);
    }

    #[test]
    fn fault_7652_a_pod_that_vanishes_is_a_disruption_and_stays_unreported_until_it_is_sent() {
        let mut ends = PodEnds::default();
        assert_eq!(
            ends.unreported(
                [&worker("w-0"), &worker("w-1")].into_iter(),
                &BTreeSet::new()
            ),
            []
        );
        for _ in 0..2 {
            let unreported = ends.unreported([&worker("w-1")].into_iter(), &BTreeSet::new());
            assert_eq!(
                unreported
                    .iter()
                    .map(|end| (end.pod_name.as_str(), end.cause))
                    .collect::<Vec<_>>(),
                [("w-0", PodEndCause::Disruption)]
            );
        }
        let unreported = ends.unreported([&worker("w-1")].into_iter(), &BTreeSet::new());
        ends.set_reported(&unreported[0]);
        assert_eq!(
            ends.unreported([&worker("w-1")].into_iter(), &BTreeSet::new()),
            []
        );
        assert!(ends.vanished.is_empty() && ends.reported.is_empty());
    }

    #[test]
    fn a_pod_that_lost_only_its_owner_has_not_ended() {
        let mut ends = PodEnds::default();
        let pod = worker("w-0");
        ends.unreported([&pod].into_iter(), &BTreeSet::new());
        let left_alone = BTreeSet::from([pod.uid.clone()]);
        assert_eq!(ends.unreported([].into_iter(), &left_alone), []);
        assert_eq!(ends.unreported([&pod].into_iter(), &BTreeSet::new()), []);
    }
}
