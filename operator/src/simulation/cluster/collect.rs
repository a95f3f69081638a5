//! Simulates the garbage collector, which deletes objects whose owners no longer exist. It uses
//! only the API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::simulation::api::ApiServer;
use crate::simulation::api::delete::{FOREGROUND, ORPHAN};
use crate::simulation::api::kinds::Kind;
use crate::simulation::api::request::{ApiRequest, Query, Verb};
use crate::simulation::api::store::{Actor, Key, Store};

/// How long it takes until the collector notices that an action is due.
const DELAY: Duration = Duration::from_millis(300);

/// What the collector remembers.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// The objects for which an action is due, by uid, with the time of the action.
    due: BTreeMap<String, Instant>,
}

/// The action that is due for an object.
#[derive(Debug)]
enum Due {
    /// Delete the object with this propagation. It no longer has an owner, or all its owners wait
    /// for its deletion.
    Delete(&'static str),
    /// Remove the references to the owners with these uids. The object keeps another owner.
    LetGo(Vec<Value>),
}

/// The target of an owner reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    There,
    Absent,
    /// The owner is being deleted, and waits for its dependents.
    Waiting,
}

impl Collector {
    /// Executes due actions, and returns when the next is due.
    pub(crate) fn step(&mut self, server: &ApiServer, now: Instant) -> Option<Instant> {
        let found: Vec<(Key, String, Due)> = {
            let store = server.lock();
            let all = store.everything().filter_map(|(key, object)| {
                let uid = object["metadata"]["uid"].as_str()?.to_owned();
                Some((key.clone(), uid, due(&store, object)?))
            });
            all.collect()
        };
        self.due
            .retain(|uid, _| found.iter().any(|(_, one, _)| one == uid));
        let mut next = None::<Instant>;
        for (key, uid, due) in found {
            let at = *self.due.entry(uid.clone()).or_insert(now + DELAY);
            if at > now {
                next = Some(next.map_or(at, |next| next.min(at)));
                continue;
            }
            match due {
                Due::Delete(policy) => {
                    let options =
                        json!({"preconditions": {"uid": uid}, "propagationPolicy": policy});
                    delete(server, &key, &options);
                }
                Due::LetGo(owners) => let_go(server, &key, &owners),
            }
        }
        release_owners(server);
        next
    }
}

/// Deletes an object as a controller does.
pub(crate) fn delete(server: &ApiServer, key: &Key, options: &Value) {
    let request = ApiRequest {
        verb: Verb::Delete,
        kind: key.kind,
        namespace: (!key.namespace.is_empty()).then(|| key.namespace.clone()),
        name: Some(key.name.clone()),
        subresource: None,
        query: Query::default(),
        is_core_event: false,
        is_partial: false,
        content_type: String::new(),
        body: options.clone(),
    };
    // An error means that the object no longer exists, which is fine.
    drop(server.answer(&request, Actor::Cluster));
}

fn due(store: &Store, object: &Value) -> Option<Due> {
    let metadata = &object["metadata"];
    if !metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let namespace = metadata["namespace"].as_str().unwrap_or("");
    let owners: Vec<(&Value, Owner)> = metadata["ownerReferences"]
        .as_array()?
        .iter()
        .map(|reference| (reference, owner(store, namespace, reference)))
        .collect();
    let is_any = |wanted| owners.iter().any(|(_, owner)| *owner == wanted);
    if !is_any(Owner::Absent) && !is_any(Owner::Waiting) {
        return None;
    }
    if is_any(Owner::There) {
        let lost = owners.iter().filter(|(_, owner)| *owner != Owner::There);
        return Some(Due::LetGo(
            lost.map(|(reference, _)| reference["uid"].clone())
                .collect(),
        ));
    }
    let is_owner = || !owned_by(store, object).is_empty();
    Some(Due::Delete(if has_finalizer(object, ORPHAN) {
        "Orphan"
    } else if has_finalizer(object, FOREGROUND) || is_any(Owner::Waiting) && is_owner() {
        "Foreground"
    } else {
        "Background"
    }))
}

fn owner(store: &Store, namespace: &str, reference: &Value) -> Owner {
    let text = |field: &str| reference[field].as_str().unwrap_or("");
    let Some(kind) = Kind::of_owner(text("apiVersion"), text("kind")) else {
        // It is not known whether the owner exists, so nothing is deleted.
        return Owner::There;
    };
    let namespace = if kind.facts().is_namespaced {
        namespace
    } else {
        ""
    };
    match store.get(&Key::new(kind, namespace, text("name"))) {
        Some(found) if found["metadata"]["uid"] != reference["uid"] => Owner::Absent,
        None => Owner::Absent,
        Some(found) if is_waiting(found, FOREGROUND) => Owner::Waiting,
        Some(_) => Owner::There,
    }
}

/// Removes the finalizers of owners that have no dependents left.
fn release_owners(server: &ApiServer) {
    let ending: Vec<(Key, Arc<Value>)> = {
        let store = server.lock();
        let all = store
            .everything()
            .filter(|(_, object)| is_waiting(object, FOREGROUND) || is_waiting(object, ORPHAN));
        all.map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect()
    };
    for (key, object) in ending {
        let owned = owned_by(&server.lock(), &object);
        if is_waiting(&object, ORPHAN) {
            for (key, _) in owned {
                let_go(server, &key, &[object["metadata"]["uid"].clone()]);
            }
        } else if owned.iter().any(|(_, blocks)| *blocks) {
            continue;
        }
        let mut object = Value::clone(&object);
        if let Some(all) = object["metadata"]["finalizers"].as_array_mut() {
            all.retain(|one| one != FOREGROUND && one != ORPHAN);
        }
        server.change(|store, now| store.replace(&key, object, Actor::Cluster, now));
    }
}

/// Removes owner references from an object.
fn let_go(server: &ApiServer, key: &Key, owner_uids: &[Value]) {
    server.change(|store, now| {
        let Some(mut object) = store.get(key).map(|object| Value::clone(object)) else {
            return;
        };
        let Some(metadata) = object["metadata"].as_object_mut() else {
            return;
        };
        let owners = metadata
            .get_mut("ownerReferences")
            .and_then(Value::as_array_mut);
        let is_free = owners.is_none_or(|owners| {
            owners.retain(|owner| !owner_uids.contains(&owner["uid"]));
            owners.is_empty()
        });
        if is_free {
            metadata.remove("ownerReferences");
        }
        store.replace(key, object, Actor::Cluster, now);
    });
}

/// Returns the dependents of an object, and whether the deletion of the object waits for each of
/// them.
fn owned_by(store: &Store, owner: &Value) -> Vec<(Key, bool)> {
    let all = store.everything().filter_map(|(key, object)| {
        let mut owners = object["metadata"]["ownerReferences"].as_array()?.iter();
        let reference = owners.find(|one| one["uid"] == owner["metadata"]["uid"])?;
        Some((key.clone(), reference["blockOwnerDeletion"] == true))
    });
    all.collect()
}

fn is_waiting(object: &Value, finalizer: &str) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null() && has_finalizer(object, finalizer)
}

fn has_finalizer(object: &Value, name: &str) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one == name))
}
