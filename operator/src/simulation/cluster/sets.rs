//! Simulates the controllers of Deployments (with a minimal `ReplicaSet`) and of `StatefulSets`.
//! They create and delete pods, and count them.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Cluster;
use crate::simulation::api::kinds::{DEPLOYMENTS, PODS, REPLICA_SETS, STATEFUL_SETS};
use crate::simulation::api::metadata::text;
use crate::simulation::api::store::{Actor, Key, Store};
use crate::simulation::marks::is_owned_by;

/// The suffix that makes the name of a `ReplicaSet` from the name of its Deployment.
pub(in crate::simulation) const REPLICA_SET_HASH: &str = "5c6f7";

impl Cluster {
    /// Adjusts the number of pods of every Deployment and `StatefulSet`, and updates its status.
    pub(super) fn step_sets(&self, _now: Instant) -> Option<Instant> {
        let sets: Vec<(Key, Arc<Value>)> = {
            let store = self.server.lock();
            [DEPLOYMENTS, STATEFUL_SETS]
                .into_iter()
                .flat_map(|kind| store.all(kind))
                .map(|(key, object)| (key.clone(), Arc::clone(object)))
                .collect()
        };
        for (key, set) in sets {
            let pods = pods_of(&self.server.lock(), &set);
            if set["metadata"]["deletionTimestamp"].is_null() {
                if key.kind == DEPLOYMENTS {
                    self.step_deployment(&key, &set, &pods);
                } else {
                    self.step_stateful_set(&key, &set, &pods);
                }
            }
            let pods = pods_of(&self.server.lock(), &set);
            self.report_status(&key, &set, &pods);
        }
        None
    }

    /// Adjusts the number of pods of a Deployment. A pod that is being deleted, or has ended, does
    /// not count.
    fn step_deployment(&self, key: &Key, deployment: &Value, pods: &[Arc<Value>]) {
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        let Some(replica_set) = self.replica_set(key, deployment) else {
            return;
        };
        let active = pods.iter().filter(|pod| is_active(pod)).count() as u64;
        for _ in active..wanted {
            let replica_set_name = text(&replica_set["metadata"]["name"]);
            let number = {
                let mut state = self.lock();
                let made = state.pods_made.entry(replica_set_name.to_owned());
                let made = made.or_default();
                *made += 1;
                *made
            };
            let name = format!("{replica_set_name}-{number}");
            self.make_pod(&replica_set, "ReplicaSet", &name);
        }
    }

    /// Returns the Deployment's `ReplicaSet`. It is created if it is missing.
    fn replica_set(&self, key: &Key, deployment: &Value) -> Option<Arc<Value>> {
        let key = Key::new(
            REPLICA_SETS,
            &key.namespace,
            &format!("{}-{REPLICA_SET_HASH}", key.name),
        );
        let owner = &deployment["metadata"];
        self.server.change(|store, now| {
            if let Some(found) = store.get(&key).cloned() {
                // This ReplicaSet belongs to an earlier Deployment of the same name that is being
                // collected.
                let is_ours = is_owned_by(&found, &owner["uid"]);
                return is_ours.then_some(found);
            }
            let template = &deployment["spec"]["template"];
            let set = json!({
                "metadata": {
                    "name": key.name, "namespace": key.namespace, "labels": template["metadata"]["labels"],
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "Deployment", "name": owner["name"], "uid": owner["uid"],
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {"replicas": 1, "template": template},
            });
            Some(store.add(key, set, Actor::Cluster, now))
        })
    }

    /// Adjusts the number of pods of a `StatefulSet`. There is one pod for each ordinal, and a name
    /// is used again only after the pod with that name no longer exists.
    fn step_stateful_set(&self, key: &Key, set: &Value, pods: &[Arc<Value>]) {
        let wanted = set["spec"]["replicas"].as_u64().unwrap_or(1);
        for ordinal in 0..wanted {
            let name = format!("{}-{ordinal}", key.name);
            match pods
                .iter()
                .find(|pod| pod["metadata"]["name"] == name.as_str())
            {
                None => self.make_pod(set, "StatefulSet", &name),
                Some(pod) if is_over(pod) && pod["metadata"]["deletionTimestamp"].is_null() => {
                    self.delete(&Key::new(PODS, &key.namespace, &name), &json!({}));
                }
                Some(_) => {}
            }
        }
        for pod in pods
            .iter()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        {
            let name = pod["metadata"]["name"].as_str().unwrap_or("");
            let ordinal = name
                .rsplit_once('-')
                .and_then(|(_, ordinal)| ordinal.parse::<u64>().ok());
            if ordinal.is_some_and(|ordinal| ordinal >= wanted) {
                self.delete(&Key::new(PODS, &key.namespace, name), &json!({}));
            }
        }
    }

    fn make_pod(&self, set: &Value, kind: &str, name: &str) {
        let template = &set["spec"]["template"];
        let mut pod = json!({
            "metadata": template["metadata"],
            "spec": template["spec"],
            "status": {"phase": "Pending"},
        });
        let namespace = set["metadata"]["namespace"].as_str().unwrap_or("");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!(namespace);
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": kind, "name": set["metadata"]["name"], "uid": set["metadata"]["uid"],
            "controller": true, "blockOwnerDeletion": true,
        }]);
        let key = Key::new(PODS, namespace, name);
        self.server.change(|store, now| {
            if store.get(&key).is_none() {
                store.add(key, pod, Actor::Cluster, now);
            }
        });
    }

    fn report_status(&self, key: &Key, set: &Value, pods: &[Arc<Value>]) {
        let ready = pods
            .iter()
            .filter(|pod| is_active(pod) && is_ready(pod))
            .count();
        let generation = &set["metadata"]["generation"];
        self.server.change(|store, now| {
            let Some(object) = store.get(key).cloned() else {
                return;
            };
            let existing = if key.kind == DEPLOYMENTS {
                pods.iter().filter(|pod| is_active(pod)).count()
            } else {
                pods.len()
            };
            let mut status = json!({
                "observedGeneration": generation, "replicas": existing, "readyReplicas": ready,
                "availableReplicas": ready, "updatedReplicas": existing,
            });
            if key.kind == DEPLOYMENTS {
                let before = &object["status"]["conditions"][0];
                let now_true = if ready > 0 { "True" } else { "False" };
                let since = if before["status"] == now_true {
                    before["lastTransitionTime"].clone()
                } else {
                    json!(crate::simulation::api::store::whole_seconds(now))
                };
                status["conditions"] = json!([{
                    "type": "Available", "status": now_true, "lastTransitionTime": since, "lastUpdateTime": since,
                    "reason": "MinimumReplicas", "message": "",
                }]);
            }
            if object["status"] != status {
                let mut object = Value::clone(&object);
                object["status"] = status;
                store.replace(key, object, Actor::Cluster, now);
            }
        });
    }
}

/// Returns the pods that a Deployment or `StatefulSet` owns, directly or through its `ReplicaSet`.
fn pods_of(store: &Store, set: &Value) -> Vec<Arc<Value>> {
    let mut uids = vec![&set["metadata"]["uid"]];
    uids.extend(
        store
            .all(REPLICA_SETS)
            .filter(|(_, one)| is_owned_by(one, &set["metadata"]["uid"]))
            .map(|(_, one)| &one["metadata"]["uid"]),
    );
    store
        .all(PODS)
        .filter(|(_, pod)| uids.iter().any(|uid| is_owned_by(pod, uid)))
        .map(|(_, pod)| Arc::clone(pod))
        .collect()
}

fn is_over(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Failed" | "Succeeded")
    )
}

fn is_active(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && !is_over(pod)
}

/// Returns whether a pod's condition says that it is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|all| {
        all.iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}
