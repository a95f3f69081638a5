//! Decides which pods may be deleted by force, and when: it keeps the earlier tries, limits their
//! rate, and uses what is known about the nodes.
//!
//! Pure: no client, no clock. No decision about a job depends on this: if a pod stays, the job only
//! has one worker less.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::conditions::Reason;

use super::status::WriteProblem;
use crate::pods::PodFacts;

/// How many tries to delete one job's pods are allowed within [`WINDOW`]. Only tries for pods that
/// still exist count, so all pods of a lost node are deleted within seconds. Pods that a finalizer
/// keeps do not need more tries.
pub const MAX_TRIES_IN_WINDOW: usize = 4;
/// The time in which tries are counted for [`MAX_TRIES_IN_WINDOW`].
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// The wait between the first two tries at one pod. Each further try doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(15);
/// The longest wait between two tries at one pod.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);
/// How many times the wait is doubled at most. After that it would be longer than `LONGEST_WAIT`.
const MAX_DOUBLINGS: u32 = 8;
/// After how many tries a pod that still exists is reported. One try is not enough, because it may
/// not have taken effect yet.
const TRIES_BEFORE_REPORT: u32 = 2;
/// How long an observation of a node is valid.
pub const NODE_VIEW_AGE: SignedDuration = SignedDuration::from_secs(30);
/// How many nodes one reconcile reads at most, each with one call. The next reconcile reads the
/// others.
pub const MAX_NODES_ASKED: usize = 5;

/// What is known about a pod's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeView {
    /// It does not exist, or its condition `Ready` is not `True`.
    Lost,
    /// It is ready: its kubelet ends the pod by itself, however long that takes.
    Ready,
    /// It could not be read. The pod's own conditions decide.
    Unknown,
}

/// The tries for one job's pods, and the nodes of these pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForcedDeletes {
    /// The tries for each pod, by its uid.
    tries: BTreeMap<String, Tries>,
    /// The tries of the last minute, each with the uid of the pod and the time.
    recent: Vec<(String, Timestamp)>,
    nodes: BTreeMap<String, (NodeView, Timestamp)>,
}

/// The tries for one pod.
#[derive(Clone, Debug, PartialEq)]
struct Tries {
    name: String,
    times: u32,
    last: Timestamp,
    /// The API server's message if it refused the last try.
    refused: Option<WriteProblem>,
}

impl ForcedDeletes {
    /// Records a try for a pod.
    pub fn note_try(
        &mut self,
        name: &str,
        uid: &str,
        refused: Option<WriteProblem>,
        now: Timestamp,
    ) {
        let times = self.tries.get(uid).map_or(0, |tries| tries.times);
        let tries = Tries {
            name: name.to_owned(),
            times: times.saturating_add(1),
            last: now,
            refused,
        };
        self.tries.insert(uid.to_owned(), tries);
        self.recent.push((uid.to_owned(), now));
    }

    /// Records an observation of a node.
    pub fn note_node(&mut self, name: &str, view: NodeView, now: Timestamp) {
        self.nodes.insert(name.to_owned(), (view, now));
    }

    /// Forgets pods that no longer exist, and nodes whose observations have expired.
    pub fn retain(&mut self, pods: &[Arc<PodFacts>], now: Timestamp) {
        if self.tries.is_empty() && self.nodes.is_empty() {
            return;
        }
        let uids: std::collections::BTreeSet<_> = pods.iter().map(|pod| &pod.uid).collect();
        self.tries.retain(|uid, _| uids.contains(uid));
        self.recent
            .retain(|(uid, tried)| uids.contains(uid) && now.duration_since(*tried) < WINDOW);
        self.nodes
            .retain(|_, (_, seen)| now.duration_since(*seen) < NODE_VIEW_AGE);
    }

    /// Returns the nodes to read: the nodes of pods that are stuck and may be tried again now.
    pub fn nodes_to_ask(&self, pods: &[Arc<PodFacts>], now: Timestamp) -> Vec<String> {
        let mut nodes: Vec<_> = pods
            .iter()
            .filter(|pod| pod.is_stuck(now) && self.rested(pod) <= now)
            .filter_map(|pod| pod.node.clone())
            .filter(|node| !self.nodes.contains_key(node))
            .collect();
        nodes.sort();
        nodes.dedup();
        nodes.truncate(MAX_NODES_ASKED);
        nodes
    }

    /// Returns the pods to delete by force now. These pods are stuck on a lost node, and their last
    /// try was long enough ago. Pods without a try come first.
    pub fn due<'a>(&self, pods: &'a [Arc<PodFacts>], now: Timestamp) -> Vec<&'a PodFacts> {
        let mut due: Vec<_> = pods
            .iter()
            .map(Arc::as_ref)
            .filter(|pod| pod.is_stuck(now) && self.is_lost(pod) && self.rested(pod) <= now)
            .collect();
        due.sort_by_key(|pod| (self.tries.get(&pod.uid).map(|tries| tries.last), &pod.name));
        due.truncate(MAX_TRIES_IN_WINDOW.saturating_sub(self.recent(now).count()));
        due
    }

    /// Returns when to check again the pods that are being deleted, or `None` if there are none.
    pub fn next_look(&self, pods: &[Arc<PodFacts>], now: Timestamp) -> Option<Timestamp> {
        // When the oldest try leaves the window, another one is allowed.
        let room = self
            .recent(now)
            .min()
            .filter(|_| self.recent(now).count() >= MAX_TRIES_IN_WINDOW);
        let room = room.map_or(now, |oldest| later(oldest, WINDOW));
        let look = |pod: &PodFacts| {
            let stuck_from = pod.stuck_from()?;
            if now < stuck_from {
                return Some(stuck_from);
            }
            if self.is_lost(pod) {
                return Some(self.rested(pod).max(room));
            }
            let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
            Some(node.map_or(now, |(_, seen)| later(*seen, NODE_VIEW_AGE)))
        };
        pods.iter().map(Arc::as_ref).filter_map(look).min()
    }

    /// Returns a message for people about a refused deletion, or else about a pod that still exists
    /// although it was deleted.
    pub fn problem(&self) -> Option<WriteProblem> {
        let refused = self.tries.values().find_map(|tries| tries.refused.clone());
        let stays = || {
            let tries = self
                .tries
                .values()
                .find(|tries| tries.times >= TRIES_BEFORE_REPORT)?;
            Some(WriteProblem {
                reason: Reason::Blocked,
                message: format!(
                    "pod {} still exists although it was deleted by force; a finalizer may keep it: remove its finalizers, or no new \
                     pod takes its place",
                    tries.name
                ),
            })
        };
        refused.or_else(stays)
    }

    fn is_lost(&self, pod: &PodFacts) -> bool {
        let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        match node.map(|(view, _)| view) {
            Some(NodeView::Lost) => true,
            // None: the node was not read yet, or the pod has no node.
            Some(NodeView::Ready) | None => false,
            Some(NodeView::Unknown) => pod.is_on_lost_node,
        }
    }

    /// Returns the time from which another try for the pod is allowed.
    fn rested(&self, pod: &PodFacts) -> Timestamp {
        let Some(tries) = self.tries.get(&pod.uid) else {
            return Timestamp::MIN;
        };
        let doublings = tries.times.saturating_sub(1).min(MAX_DOUBLINGS);
        later(
            tries.last,
            (FIRST_WAIT * (1_i32 << doublings)).min(LONGEST_WAIT),
        )
    }

    /// Returns the tries that count towards the rate limit.
    fn recent(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        self.recent
            .iter()
            .map(|(_, tried)| *tried)
            .filter(move |tried| now.duration_since(*tried) < WINDOW)
    }
}

/// Returns `from` plus `wait`, or the latest possible time if the sum cannot be represented.
fn later(from: Timestamp, wait: SignedDuration) -> Timestamp {
    from.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, worker};

    /// Returns pods that have been stuck since second 0, each on a separate node.
    fn stuck(count: usize) -> Vec<Arc<PodFacts>> {
        (0..count)
            .map(|number| PodFacts {
                deletion: Some(at(-30)),
                node: Some(format!("node-{number:03}")),
                ..worker(&format!("w-{number:03}"))
            })
            .map(Arc::new)
            .collect()
    }

    fn nodes_are(
        forced: &mut ForcedDeletes,
        pods: &[Arc<PodFacts>],
        view: NodeView,
        now: Timestamp,
    ) {
        for node in pods.iter().filter_map(|pod| pod.node.as_ref()) {
            forced.note_node(node, view, now);
        }
    }

    /// Deletes due pods every 100 ms for `seconds` seconds. `goes` decides which pods disappear
    /// when they are deleted. Returns the second of each deletion.
    fn run(
        mut pods: Vec<Arc<PodFacts>>,
        seconds: i64,
        goes: fn(&PodFacts) -> bool,
    ) -> Vec<(i64, String)> {
        let mut forced = ForcedDeletes::default();
        let mut deleted = Vec::new();
        for tick in 0..seconds * 10 {
            let now = Timestamp::from_millisecond(tick * 100).unwrap();
            forced.retain(&pods, now);
            nodes_are(&mut forced, &pods, NodeView::Lost, now);
            let due: Vec<_> = forced.due(&pods, now).into_iter().cloned().collect();
            for pod in due {
                forced.note_try(&pod.name, &pod.uid, None, now);
                deleted.push((tick / 10, pod.name.clone()));
                pods.retain(|other| other.uid != pod.uid || !goes(other));
            }
        }
        deleted
    }

    #[test]
    fn pods_that_stay_are_deleted_at_most_four_times_a_minute_together() {
        for count in [1, 3, 4, 5, 40] {
            let deletes = run(stuck(count), 1_200, |_| false);
            assert!(!deletes.is_empty());
            for from in 0..1_200 {
                let in_minute = deletes
                    .iter()
                    .filter(|(second, _)| (from..from + 60).contains(second));
                assert!(in_minute.count() <= 4, "{count} pods, from second {from}");
            }
        }
    }

    #[test]
    fn one_pod_that_stays_is_tried_less_and_less_often() {
        let deletes: Vec<_> = run(stuck(1), 1_300, |_| false)
            .into_iter()
            .map(|(second, _)| second)
            .collect();
        assert_eq!(deletes, [0, 15, 45, 105, 225, 465, 945]);
    }

    #[test]
    fn pods_that_disappear_are_all_deleted_within_seconds_although_others_stay() {
        let deletes = run(stuck(100), 10, |_| true);
        assert_eq!(deletes.len(), 100);
        let deletes = run(stuck(100), 10, |pod| pod.name != "w-001");
        assert_eq!(
            deletes.len(),
            100,
            "the pod that stays is not deleted again so soon"
        );
    }

    #[test]
    fn a_pod_is_left_to_a_node_that_is_ready() {
        let mut pods = stuck(1);
        Arc::make_mut(&mut pods[0]).is_on_lost_node = true;
        let now = at(1_000);
        let mut forced = ForcedDeletes::default();
        assert_eq!(forced.due(&pods, now), Vec::<&PodFacts>::new());
        assert_eq!(forced.nodes_to_ask(&pods, now), ["node-000"]);
        for (view, is_marked, deleted) in [
            (NodeView::Ready, true, 0),
            (NodeView::Lost, false, 1),
            (NodeView::Unknown, true, 1),
            (NodeView::Unknown, false, 0),
        ] {
            Arc::make_mut(&mut pods[0]).is_on_lost_node = is_marked;
            nodes_are(&mut forced, &pods, view, now);
            assert_eq!(
                forced.due(&pods, now).len(),
                deleted,
                "{view:?} {is_marked}"
            );
            assert_eq!(forced.nodes_to_ask(&pods, now), Vec::<String>::new());
        }
        forced.retain(&pods, at(1_029));
        assert_eq!(forced.nodes_to_ask(&pods, at(1_029)), Vec::<String>::new());
        forced.retain(&pods, at(1_030));
        assert_eq!(forced.nodes_to_ask(&pods, at(1_030)), ["node-000"]);
        Arc::make_mut(&mut pods[0]).node = None;
        assert!(forced.due(&pods, at(1_030)).is_empty(), "it has no node");
    }

    #[test]
    fn one_reconcile_reads_only_a_few_nodes() {
        let asked = ForcedDeletes::default().nodes_to_ask(&stuck(100), at(0));
        assert_eq!(asked.len(), MAX_NODES_ASKED);
    }

    #[test]
    fn a_refusal_is_reported_until_the_pod_is_gone_and_a_pod_that_stays_too() {
        let pods = stuck(1);
        let mut forced = ForcedDeletes::default();
        forced.note_try("w-000", "uid-w-000", None, at(0));
        assert_eq!(forced.problem(), None, "the pod may be about to disappear");
        forced.note_try("w-000", "uid-w-000", None, at(15));
        let message = forced.problem().unwrap().message;
        assert!(message.starts_with("pod w-000 still exists"), "{message}");
        let refused = WriteProblem {
            reason: Reason::Forbidden,
            message: "force-delete Pod team/w-000: denied".to_owned(),
        };
        forced.note_try("w-000", "uid-w-000", Some(refused.clone()), at(45));
        assert_eq!(forced.problem(), Some(refused));
        forced.retain(&pods, at(46));
        assert!(forced.problem().is_some());
        forced.retain(&[], at(46));
        assert_eq!(forced.problem(), None);
    }

    #[test]
    fn the_next_look_is_when_a_try_is_allowed_again() {
        let pods = stuck(5);
        let mut forced = ForcedDeletes::default();
        assert_eq!(forced.next_look(&pods, at(-10)), Some(at(0)));
        assert_eq!(forced.next_look(&[worker("w").into()], at(0)), None);
        nodes_are(&mut forced, &pods, NodeView::Ready, at(0));
        assert_eq!(forced.next_look(&pods, at(0)), Some(at(30)));
        nodes_are(&mut forced, &pods, NodeView::Lost, at(0));
        for pod in &pods[..4] {
            forced.note_try(&pod.name, &pod.uid, None, at(0));
        }
        assert_eq!(forced.next_look(&pods, at(1)), Some(at(60)));
    }
}
