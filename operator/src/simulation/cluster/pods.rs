//! Simulates the scheduler, the kubelets and the node controller, which determine the life of a
//! pod.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names::COMPONENT_COORDINATOR;

use super::sets::is_ready;
use super::{Cluster, Life};
use crate::simulation::api::kinds::{CONFIG_MAPS, NODES, PODS};
use crate::simulation::api::store::{Actor, Key, whole_seconds};
use crate::simulation::marks::{component_of, generation_of};

/// How long after the creation of a pod its containers start.
const STARTS_AFTER: Duration = Duration::from_millis(700);
/// How long after its creation a pod is ready. This must be more than a second after the start of
/// the container, because times have whole seconds.
const READY_AFTER: Duration = Duration::from_millis(2500);
/// How long a container takes to end after a request.
const ENDS_AFTER: Duration = Duration::from_millis(1200);
/// After how long without an answer from its node a pod counts as not ready.
const NODE_SILENT_AFTER: Duration = Duration::from_secs(40);
/// After how much more time the pod is deleted, according to the toleration of our pods.
const NODE_LOST_AFTER: Duration = Duration::from_secs(70);
/// How long a worker without its coordinator stays ready.
const SESSION_LOST_AFTER: Duration = Duration::from_secs(3);

/// The next change of a pod, or the time of the next change.
enum Due {
    Change(Value),
    Remove,
    Evict,
    At(Instant),
    Nothing,
}

impl Cluster {
    pub(super) fn step_pods(&self, now: Instant) -> Option<Instant> {
        let pods: Vec<(Key, Arc<Value>)> = {
            let store = self.server.lock();
            store
                .all(PODS)
                .map(|(key, pod)| (key.clone(), Arc::clone(pod)))
                .collect()
        };
        self.forget_gone(&pods);
        let mut next = None::<Instant>;
        for (key, pod) in &pods {
            match self.due(pod, now) {
                Due::Change(changed) => {
                    self.inform_node(&changed);
                    self.write_status(key, changed);
                }
                Due::Remove => self
                    .server
                    .change(|store, now| store.remove(key, Actor::Cluster, now)),
                Due::Evict => {
                    self.mark_disrupted(key);
                    self.delete(key, &json!({}));
                }
                Due::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Due::Nothing => {}
            }
        }
        next
    }

    fn forget_gone(&self, pods: &[(Key, Arc<Value>)]) {
        let exists = |uid: &String| {
            pods.iter()
                .any(|(_, pod)| pod["metadata"]["uid"] == uid.as_str())
        };
        let gone: Vec<String> = {
            let mut state = self.lock();
            let gone = state
                .lives
                .keys()
                .filter(|uid| !exists(uid))
                .cloned()
                .collect();
            state.lives.retain(|uid, _| exists(uid));
            state.lost.retain(|uid, _| exists(uid));
            gone
        };
        for uid in gone {
            self.coordinators.pod_gone(&uid);
        }
    }

    /// Advances one pod.
    fn due(&self, pod: &Value, now: Instant) -> Due {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or("");
        let is_deleted = !pod["metadata"]["deletionTimestamp"].is_null();
        let is_coordinator = component_of(pod) == COMPONENT_COORDINATOR;
        let (life, lost, has_no_room, are_slow, workers_fail) = {
            let mut state = self.lock();
            let life = state.lives.entry(uid.to_owned()).or_insert(Life {
                born: now,
                dying: None,
            });
            if is_deleted && life.dying.is_none() {
                life.dying = Some(now);
            }
            (
                *life,
                state.lost.get(uid).copied(),
                if is_coordinator {
                    state.is_full
                } else {
                    state.no_worker_fits
                },
                state.nodes_are_slow,
                state.workers_fail,
            )
        };
        if let Some(lost) = lost {
            return due_on_lost_node(pod, lost, is_deleted, now, self.server.now());
        }
        if let Some(dying) = life.dying {
            let ends = dying + ENDS_AFTER;
            if now < ends {
                return Due::At(ends);
            }
            self.coordinators.pod_gone(uid);
            let has_finalizers = pod["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            return if has_finalizers {
                Due::Nothing
            } else {
                Due::Remove
            };
        }
        let is_running = !pod["status"]["containerStatuses"].is_null();
        if pod["spec"]["nodeName"].is_null() && has_no_room {
            return unschedulable(pod);
        }
        if !is_running {
            return at_or(now, life.born + STARTS_AFTER, || {
                if are_slow {
                    creating(pod, self.server.now())
                } else {
                    started(pod, self.server.now())
                }
            });
        }
        let ready_at = life.born + READY_AFTER;
        if now < ready_at {
            return Due::At(ready_at);
        }
        if is_coordinator {
            self.coordinators.pod_ready(pod, self.restart_of(pod));
            return ready(pod, true, self.server.now());
        }
        let (is_connected, since) = self.coordinators.serves_workers_of(pod);
        let should_be_ready = is_connected && !workers_fail;
        if is_ready(pod) && !should_be_ready {
            let at = since.unwrap_or(now) + SESSION_LOST_AFTER;
            return at_or(now, at, || ready(pod, false, self.server.now()));
        }
        ready(pod, should_be_ready, self.server.now())
    }

    /// Returns the restart in the frozen job that a coordinator's pod has mounted.
    fn restart_of(&self, pod: &Value) -> Option<u32> {
        let (job_uid, generation) = generation_of(pod)?;
        let store = self.server.lock();
        let mut roots = store.all(CONFIG_MAPS);
        let (_, root) =
            roots.find(|(_, root)| generation_of(root) == Some((job_uid.clone(), generation)))?;
        let frozen = FrozenJob::from_json(root["data"]["job.json"].as_str()?).ok()?;
        frozen.restart.map(|restart| restart.generation)
    }

    /// Updates the node of a pod. Each pod has its own node, which is ready as long as it answers.
    fn inform_node(&self, pod: &Value) {
        let Some(name) = pod["spec"]["nodeName"].as_str() else {
            return;
        };
        let uid = pod["metadata"]["uid"].as_str().unwrap_or("");
        let is_lost = self.lock().lost.contains_key(uid);
        let key = Key::new(NODES, "", name);
        let ready = if is_lost { "Unknown" } else { "True" };
        self.server.change(|store, now| {
            let known = store
                .get(&key)
                .map(|node| &node["status"]["conditions"][0]["status"]);
            if known.is_some_and(|known| known == ready) {
                return;
            }
            let node = json!({
                "metadata": {"name": name},
                "status": {"conditions": [{
                    "type": "Ready", "status": ready, "lastTransitionTime": whole_seconds(now),
                }]},
            });
            match store.get(&key).map(|node| Value::clone(node)) {
                Some(mut changed) => {
                    changed["status"] = node["status"].clone();
                    store.replace(&key, changed, Actor::Cluster, now);
                }
                None => drop(store.add(key, node, Actor::Cluster, now)),
            }
        });
    }

    fn write_status(&self, key: &Key, pod: Value) {
        self.server.change(|store, now| {
            if store.get(key).is_some() {
                store.replace(key, pod, Actor::Cluster, now);
            }
        });
    }

    fn mark_disrupted(&self, key: &Key) {
        let Some(mut pod) = self.server.lock().get(key).map(|pod| Value::clone(pod)) else {
            return;
        };
        set_condition(&mut pod, "DisruptionTarget", true, self.server.now());
        if let Some(all) = pod["status"]["conditions"].as_array_mut() {
            for condition in all
                .iter_mut()
                .filter(|one| one["type"] == "DisruptionTarget")
            {
                condition["reason"] = json!("DeletionByTaintManager");
                condition["message"] = json!("Taint manager: deleting due to NoExecute taint");
            }
        }
        self.write_status(key, pod);
    }
}

/// Returns the next change of a pod on a lost node. The node controller writes the time of its
/// check.
fn due_on_lost_node(
    pod: &Value,
    lost: Instant,
    is_deleted: bool,
    now: Instant,
    time: jiff::Timestamp,
) -> Due {
    let silent = lost + NODE_SILENT_AFTER;
    if now < silent {
        return Due::At(silent);
    }
    if is_ready(pod) {
        let mut changed = pod.clone();
        set_condition(&mut changed, "Ready", false, time);
        return Due::Change(changed);
    }
    let evicted = lost + NODE_LOST_AFTER;
    if is_deleted {
        Due::Nothing
    } else if now < evicted {
        Due::At(evicted)
    } else {
        Due::Evict
    }
}

fn at_or(now: Instant, at: Instant, then: impl FnOnce() -> Due) -> Due {
    if now < at { Due::At(at) } else { then() }
}

fn unschedulable(pod: &Value) -> Due {
    let status = json!({
        "phase": "Pending",
        "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
        }],
    });
    if pod["status"] == status {
        return Due::Nothing;
    }
    let mut changed = pod.clone();
    changed["status"] = status;
    Due::Change(changed)
}

/// Returns the change after which the pod has a node that has not started its container.
fn creating(pod: &Value, now: jiff::Timestamp) -> Due {
    if !pod["spec"]["nodeName"].is_null() {
        return Due::Nothing;
    }
    let mut changed = with_node(pod);
    changed["status"] = json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": whole_seconds(now)}],
    });
    Due::Change(changed)
}

/// Returns the pod with its own node.
fn with_node(pod: &Value) -> Value {
    let mut changed = pod.clone();
    let uid = pod["metadata"]["uid"].as_str().unwrap_or("");
    changed["spec"]["nodeName"] = json!(format!("node-{uid}"));
    changed
}

/// Returns the change after which the pod has a node, and its container runs.
fn started(pod: &Value, now: jiff::Timestamp) -> Due {
    let time = whole_seconds(now);
    let mut changed = with_node(pod);
    changed["status"] = json!({
        "phase": "Running", "startTime": time,
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": time},
            {"type": "Ready", "status": "False", "lastTransitionTime": time},
        ],
        "containerStatuses": [{
            "name": crate::children::CONTAINER_NAME, "restartCount": 0, "ready": false, "image": "", "imageID": "",
            "state": {"running": {"startedAt": time}},
        }],
    });
    Due::Change(changed)
}

/// Returns the change that sets whether the pod is ready.
fn ready(pod: &Value, wanted: bool, now: jiff::Timestamp) -> Due {
    if is_ready(pod) == wanted {
        return Due::Nothing;
    }
    let mut changed = pod.clone();
    set_condition(&mut changed, "Ready", wanted, now);
    Due::Change(changed)
}

fn set_condition(pod: &mut Value, name: &str, holds: bool, now: jiff::Timestamp) {
    let condition = json!({
        "type": name, "status": if holds { "True" } else { "False" }, "lastTransitionTime": whole_seconds(now),
    });
    if let Some(all) = pod["status"]["conditions"].as_array_mut() {
        all.retain(|one| one["type"] != name);
        all.push(condition);
    }
}
