//! Stores the objects, every change to them, and the author of each change. It knows nothing about
//! requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{self, Kind};

/// The key of an object: its kind, its namespace (empty for cluster-wide objects) and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The author of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    /// A process of the operator, by its number.
    Operator(u32),
    /// The user who applies and edits jobs.
    User,
    /// The controllers, the scheduler and the kubelets.
    Cluster,
}

/// The kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Added,
    Modified,
    Deleted,
}

/// One change. All changes are kept, because watches, old lists and the judges read them.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
    pub(crate) by: Actor,
    pub(crate) key: Key,
    pub(crate) what: What,
    /// The object after the change, or its last state before the deletion.
    pub(crate) object: Arc<Value>,
    pub(crate) before: Option<Arc<Value>>,
}

/// The whole contents of the API server.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    changes: Vec<Change>,
    version: u64,
    /// The oldest version for which watches and lists are answered. Older versions are answered
    /// with 410.
    oldest: u64,
    next_uid: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            changes: Vec::new(),
            // The first objects of a real cluster have similar versions.
            version: 100,
            oldest: 0,
            next_uid: 0,
        }
    }
}

impl Key {
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Drops the history for watches, so that their clients have to list again.
    pub(crate) fn compact(&mut self) {
        self.oldest = self.version;
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// Returns all objects of a kind, in the order of their names.
    pub(crate) fn all(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter().filter(move |(key, _)| key.kind == kind)
    }

    pub(crate) fn everything(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Returns the objects of a kind as they were when `version` was the newest.
    pub(crate) fn all_at(&self, kind: Kind, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut found = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.key.kind == kind) {
            if change.version > version {
                break;
            }
            match change.what {
                What::Added | What::Modified => {
                    found.insert(change.key.clone(), Arc::clone(&change.object));
                }
                What::Deleted => {
                    found.remove(&change.key);
                }
            }
        }
        found
    }

    /// Stores a new object with its own uid, time and version.
    pub(crate) fn add(&mut self, key: Key, object: Value, by: Actor, now: Timestamp) -> Arc<Value> {
        let named = self.named(&key, object, now);
        self.note(key, named, What::Added, by, now)
    }

    /// Returns an object as it would be stored, except for its version.
    pub(crate) fn named(&mut self, key: &Key, mut object: Value, now: Timestamp) -> Value {
        self.next_uid += 1;
        let number = self.next_uid;
        // The first characters of uids must differ between objects, because the operator builds
        // names from them.
        let mixed = number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff;
        let facts = key.kind.facts();
        object["kind"] = json!(facts.kind);
        object["apiVersion"] = json!(facts.api_version());
        object["metadata"]["uid"] = json!(format!("{mixed:08x}-0000-4000-8000-{number:012x}"));
        object["metadata"]["creationTimestamp"] = json!(whole_seconds(now));
        if facts.counts_generation {
            object["metadata"]["generation"] = json!(1);
        }
        object
    }

    /// Stores another version of an object. If the object does not differ, no new version is
    /// created, as in etcd.
    pub(crate) fn replace(
        &mut self,
        key: &Key,
        mut object: Value,
        by: Actor,
        now: Timestamp,
    ) -> Arc<Value> {
        let Some(before) = self.objects.get(key).cloned() else {
            return self.add(key.clone(), object, by, now);
        };
        object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        for field in ["kind", "apiVersion"] {
            object[field] = before[field].clone();
        }
        if key.kind.facts().counts_generation && differs_in_spec(&before, &object) {
            let count = before["metadata"]["generation"].as_u64().unwrap_or(0);
            object["metadata"]["generation"] = json!(count + 1);
        }
        if *before == object {
            return before;
        }
        let is_let_go = !object["metadata"]["deletionTimestamp"].is_null()
            && before["metadata"]["finalizers"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
            && object["metadata"]["finalizers"]
                .as_array()
                .is_none_or(Vec::is_empty)
            && (key.kind != kinds::PODS
                || object["metadata"]["deletionGracePeriodSeconds"] == json!(0));
        if is_let_go {
            // The answer to the writer shows the object without finalizers. Watches get the object
            // as it was before.
            self.note(key.clone(), Value::clone(&before), What::Deleted, by, now);
            return Arc::new(object);
        }
        self.note(key.clone(), object, What::Modified, by, now)
    }

    /// Removes an object permanently.
    pub(crate) fn remove(&mut self, key: &Key, by: Actor, now: Timestamp) {
        drop(self.take(key, by, now));
    }

    /// Removes an object permanently, and returns its last state, with the version of its removal.
    pub(crate) fn take(&mut self, key: &Key, by: Actor, now: Timestamp) -> Option<Arc<Value>> {
        let object = Value::clone(self.objects.get(key)?);
        Some(self.note(key.clone(), object, What::Deleted, by, now))
    }

    fn note(
        &mut self,
        key: Key,
        mut object: Value,
        what: What,
        by: Actor,
        now: Timestamp,
    ) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(object);
        let before = match what {
            What::Added | What::Modified => self.objects.insert(key.clone(), Arc::clone(&object)),
            What::Deleted => self.objects.remove(&key),
        };
        self.changes.push(Change {
            version: self.version,
            at: now,
            by,
            key,
            what,
            object: Arc::clone(&object),
            before,
        });
        object
    }
}

/// Returns whether anything except metadata and status differs.
fn differs_in_spec(one: &Value, other: &Value) -> bool {
    let is_ending = |object: &Value| !object["metadata"]["deletionTimestamp"].is_null();
    is_ending(one) != is_ending(other) || !fields(one).eq(fields(other))
}

/// Returns all fields except metadata and status.
fn fields(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let all = object.as_object().into_iter().flatten();
    all.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status"))
}

/// Returns a time as objects show it.
pub(crate) fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .map_or_else(|_| time.to_string(), |time| time.to_string())
}
