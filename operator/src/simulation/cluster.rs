//! Simulates the other components of the cluster, as far as they affect a job: the controllers of
//! Deployments and `StatefulSets`, the scheduler, the kubelets, the node controller and the garbage
//! collector. They do not know the operator.

mod collect;
mod pods;
pub(in crate::simulation) mod sets;

pub(crate) use self::sets::is_ready;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use self::collect::Collector;
use super::api::ApiServer;
use super::api::store::Key;
use super::coordinator::Coordinators;

/// How much later than all other watchers the controllers see a change.
const REACTION: Duration = Duration::from_millis(20);

/// The cluster around the API server.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) coordinators: Coordinators,
    state: Arc<Mutex<State>>,
}

/// What the controllers remember, and the behaviour that a scenario sets.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is set by a separate step of scenarios"
)]
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The life cycles of the pods, by uid.
    lives: BTreeMap<String, Life>,
    /// How many pods were created for each `ReplicaSet`, by its name. The number is used in the
    /// names of pods.
    pods_made: BTreeMap<String, u32>,
    /// Whether coordinators find no node.
    pub(crate) is_full: bool,
    /// Whether workers find no node.
    pub(crate) no_worker_fits: bool,
    /// Whether pods get a node but their containers are not started.
    pub(crate) nodes_are_slow: bool,
    /// Whether workers start without becoming ready.
    pub(crate) workers_fail: bool,
    /// The pods whose node does not answer, by uid, with the time since which the node is silent.
    lost: BTreeMap<String, Instant>,
    collector: Collector,
}

/// The life cycle of one pod.
#[derive(Clone, Copy, Debug)]
struct Life {
    born: Instant,
    dying: Option<Instant>,
}

impl Cluster {
    pub(crate) fn new(server: ApiServer, coordinators: Coordinators) -> Self {
        Self {
            server,
            coordinators,
            state: Arc::default(),
        }
    }

    /// Changes the behaviour of the cluster.
    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        // The controllers reconcile again.
        self.coordinators.touch();
    }

    /// Makes the node of this pod stop answering.
    pub(crate) fn lose_node_of(&self, pod_uid: &str) {
        let now = Instant::now();
        self.set(|state| {
            state.lost.insert(pod_uid.to_owned(), now);
        });
    }

    /// Works until the future is dropped.
    pub(crate) async fn work(self) {
        let mut changed = self.server.subscribe();
        let mut told = self.coordinators.subscribe();
        loop {
            changed.borrow_and_update();
            told.borrow_and_update();
            let next = self.step();
            let far = Instant::now() + Duration::from_hours(24);
            let woken = timeout_at(next.unwrap_or(far), async {
                tokio::select! {
                    biased;
                    _ = changed.changed() => {}
                    _ = told.changed() => {}
                }
            })
            .await;
            if woken.is_ok() {
                tokio::time::sleep(REACTION).await;
            }
        }
    }

    /// Does everything that is due, and returns the time of the next due action.
    fn step(&self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let before = self.server.lock().version();
            let mut next = None;
            let mut later = |at: Option<Instant>| {
                next = match (next, at) {
                    (Some(one), Some(other)) => Some(Instant::min(one, other)),
                    (one, other) => one.or(other),
                };
            };
            later(self.step_sets(now));
            later(self.step_pods(now));
            later(self.lock().collector.step(&self.server, now));
            if self.server.lock().version() == before {
                return next;
            }
        }
    }

    /// Deletes an object as a controller does.
    fn delete(&self, key: &Key, options: &Value) {
        collect::delete(&self.server, key, options);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
