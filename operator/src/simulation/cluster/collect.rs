//! The garbage collector: what no owner holds any more is deleted.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Cluster;
use crate::simulation::api::kinds::Kind;
use crate::simulation::api::request::{ApiRequest, Verb};
use crate::simulation::api::store::{Actor, Key, Store};

/// How long the collector takes to find an orphan.
const DELAY: Duration = Duration::from_millis(300);
/// The finalizers that the collector takes off.
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

impl Cluster {
    pub(super) fn step_collector(&self, now: Instant) -> Option<Instant> {
        let orphans: Vec<(Key, String)> = {
            let store = self.server.lock();
            store
                .everything()
                .filter(|(_, object)| {
                    object["metadata"]["deletionTimestamp"].is_null() && is_orphan(&store, object)
                })
                .filter_map(|(key, object)| {
                    Some((key.clone(), object["metadata"]["uid"].as_str()?.to_owned()))
                })
                .collect()
        };
        let mut due = Vec::new();
        let mut next = None::<Instant>;
        {
            let mut state = self.lock();
            state
                .orphans
                .retain(|uid, _| orphans.iter().any(|(_, one)| one == uid));
            for (key, uid) in orphans {
                let at = *state.orphans.entry(uid.clone()).or_insert(now + DELAY);
                if at <= now {
                    due.push((key, uid));
                } else {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
        }
        for (key, uid) in due {
            self.delete(
                &key,
                &json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"}),
            );
        }
        self.finish_foreground();
        next
    }

    /// Deletes an object as a controller does.
    pub(super) fn delete(&self, key: &Key, options: &Value) {
        let request = ApiRequest {
            verb: Verb::Delete,
            kind: key.kind,
            namespace: (!key.namespace.is_empty()).then(|| key.namespace.clone()),
            name: Some(key.name.clone()),
            subresource: None,
            query: crate::simulation::api::request::Query::default(),
            is_core_event: false,
            is_partial: false,
            content_type: String::new(),
            body: options.clone(),
        };
        // Gone already is as good.
        drop(self.server.answer(&request, Actor::Cluster));
    }

    /// An owner that waits for what it owns: that is deleted first, and then the owner is let go.
    fn finish_foreground(&self) {
        let waiting: Vec<(Key, Arc<Value>, Vec<Key>)> = {
            let store = self.server.lock();
            store
                .everything()
                .filter(|(_, object)| {
                    has_finalizer(object, FOREGROUND) || has_finalizer(object, ORPHAN)
                })
                .map(|(key, object)| (key.clone(), Arc::clone(object), owned_by(&store, object)))
                .collect()
        };
        for (key, object, owned) in waiting {
            let is_foreground = has_finalizer(&object, FOREGROUND);
            if is_foreground && !owned.is_empty() {
                for key in owned {
                    self.delete(&key, &json!({"propagationPolicy": "Foreground"}));
                }
                continue;
            }
            for key in owned {
                self.let_go(&key, &object["metadata"]["uid"]);
            }
            let mut object = Value::clone(&object);
            if let Some(all) = object["metadata"]["finalizers"].as_array_mut() {
                all.retain(|one| one != FOREGROUND && one != ORPHAN);
            }
            self.server
                .change(|store, now| store.replace(&key, object, Actor::Cluster, now));
        }
    }

    /// Takes an owner out of an object.
    fn let_go(&self, key: &Key, owner_uid: &Value) {
        self.server.change(|store, now| {
            let Some(mut object) = store.get(key).map(|object| Value::clone(object)) else {
                return;
            };
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != *owner_uid);
            }
            store.replace(key, object, Actor::Cluster, now);
        });
    }
}

/// Whether an object has owners, and none of them exists.
fn is_orphan(store: &Store, object: &Value) -> bool {
    let Some(owners) = object["metadata"]["ownerReferences"].as_array() else {
        return false;
    };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
    !owners.is_empty()
        && owners.iter().all(|owner| {
            let text = |field: &str| owner[field].as_str().unwrap_or("");
            let Some(kind) = Kind::of_owner(text("apiVersion"), text("kind")) else {
                return false;
            };
            store
                .get(&Key::new(kind, namespace, text("name")))
                .is_none_or(|found| found["metadata"]["uid"] != owner["uid"])
        })
}

fn owned_by(store: &Store, owner: &Value) -> Vec<Key> {
    store
        .everything()
        .filter(|(_, object)| {
            object["metadata"]["ownerReferences"]
                .as_array()
                .is_some_and(|owners| {
                    owners
                        .iter()
                        .any(|one| one["uid"] == owner["metadata"]["uid"])
                })
        })
        .map(|(key, _)| key.clone())
        .collect()
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
        && object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == name))
}
