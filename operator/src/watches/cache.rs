//! The caches. Each contains the facts of all objects of one kind, and finds them by name and by
//! job. This module does not read the cluster, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::decode::{Facts, Seen};
use super::facts::{SeenCoordinator, SeenJob, SeenPod, SeenRoot, SeenService, SeenWorkers};
use crate::queue::JobKey;

/// All caches.
#[derive(Debug, Default)]
pub struct Caches {
    /// All jobs.
    pub jobs: Cache<SeenJob>,
    /// All roots of generations.
    pub roots: Cache<SeenRoot>,
    /// The Services in front of coordinators.
    pub services: Cache<SeenService>,
    /// The coordinators' Deployments.
    pub coordinators: Cache<SeenCoordinator>,
    /// The `StatefulSet`s of workers.
    pub workers: Cache<SeenWorkers>,
    /// The pods of coordinators and workers.
    pub pods: Cache<SeenPod>,
}

/// The facts of one kind.
#[derive(Debug)]
pub struct Cache<F>(Mutex<Inner<F>>);

#[derive(Debug)]
struct Inner<F> {
    /// All objects, by namespace and name as one text.
    objects: BTreeMap<Arc<str>, Held<F>>,
    /// The objects of a job, by the job's namespace and uid, as one text.
    of_job: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// Objects that belonged to a job and still exist without their owner, with the same keys as
    /// `objects`.
    disowned: BTreeMap<Arc<str>, Disowned>,
    /// How many lists of the API server have begun. Each object keeps the number of the last list
    /// that contained it.
    listing: u64,
    /// When the watch last showed anything.
    heard: Option<Instant>,
}

#[derive(Debug)]
struct Held<F> {
    facts: Arc<F>,
    /// The number of the last list that contained the object.
    listing: u64,
}

#[derive(Debug)]
struct Disowned {
    job_uid: String,
    uid: String,
    /// The number of the last list that contained the object.
    listing: u64,
}

/// A job that a change affects, with the uid in the object's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The job that the object belongs to.
    pub key: JobKey,
    /// Uid of that job.
    pub uid: String,
}

impl<F> Default for Cache<F> {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            objects: BTreeMap::new(),
            of_job: BTreeMap::new(),
            disowned: BTreeMap::new(),
            listing: 0,
            heard: None,
        }))
    }
}

impl<F: Facts> Cache<F> {
    /// Begins a list. Objects that are not in the list are removed when it ends.
    pub fn begin_list(&self) {
        self.lock().listing += 1;
    }

    /// Stores the facts of an object that exists. Returns the affected jobs.
    pub fn put(&self, seen: Seen<F>) -> Vec<Touched> {
        let mut inner = self.lock();
        inner.heard = Some(Instant::now());
        let (Some(namespace), Some(name)) = (&seen.meta().namespace, &seen.meta().name) else {
            return Vec::new();
        };
        let key = object_key(namespace, name);
        let before = inner.objects.get(&key).map(|held| Arc::clone(&held.facts));
        let mut touched: Vec<_> = inner.take(&key).into_iter().collect();
        let listing = inner.listing;
        let Some(mut facts) = seen.facts else {
            let uid = seen.meta().uid.as_deref().unwrap_or_default();
            inner.disown(&key, touched.first(), uid);
            return touched;
        };
        inner.disowned.remove(&key);
        if let Some(before) = before {
            facts.follow(&before);
        }
        let now = touched_by(&key, &facts);
        inner
            .of_job
            .entry(of_job_key(&now.key.namespace, &now.uid))
            .or_default()
            .insert(Arc::clone(&key));
        let held = Held {
            facts: Arc::new(facts),
            listing,
        };
        inner.objects.insert(key, held);
        touched.retain(|before| *before != now);
        touched.push(now);
        touched
    }

    /// Removes an object that no longer exists. Returns the affected job.
    pub fn remove(&self, seen: &Seen<F>) -> Option<Touched> {
        let key = object_key(&seen.namespace()?, &seen.name_any());
        let mut inner = self.lock();
        inner.heard = Some(Instant::now());
        inner.disowned.remove(&key);
        inner.take(&key)
    }

    /// Ends the list: removes the objects that were not in it. Returns the affected jobs.
    pub fn end_list(&self) -> Vec<Touched> {
        let mut inner = self.lock();
        inner.heard = Some(Instant::now());
        let listing = inner.listing;
        let vanished: Vec<_> = inner
            .objects
            .iter()
            .filter(|(_, held)| held.listing != listing)
            .map(|(key, _)| Arc::clone(key))
            .collect();
        inner.disowned.retain(|_, held| held.listing == listing);
        vanished.iter().filter_map(|key| inner.take(key)).collect()
    }

    /// Returns the uids of objects that belonged to the job with this uid and still exist without
    /// their owner, because the owner was deleted without deleting them.
    pub fn disowned(&self, job_uid: &str) -> BTreeSet<String> {
        let inner = self.lock();
        let all = inner.disowned.values();
        all.filter(|one| one.job_uid == job_uid)
            .map(|one| one.uid.clone())
            .collect()
    }

    /// Returns when the watch last showed any object of this kind, of any job.
    pub fn heard(&self) -> Option<Instant> {
        self.lock().heard
    }

    /// Returns the object of this name, if the cache has it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<F>> {
        let key = object_key(namespace, name);
        let inner = self.lock();
        inner.objects.get(&key).map(|held| Arc::clone(&held.facts))
    }

    /// Returns the objects of the job with this uid, in the order of their names.
    pub fn of_job(&self, namespace: &str, uid: &str) -> Vec<Arc<F>> {
        let inner = self.lock();
        let keys = inner.of_job.get(&of_job_key(namespace, uid));
        keys.into_iter()
            .flatten()
            .filter_map(|key| inner.objects.get(key))
            .map(|held| Arc::clone(&held.facts))
            .collect()
    }

    /// Calls `pick` for each object, and returns the results that are `Some`.
    pub fn pick<T>(&self, pick: impl Fn(&F) -> Option<T>) -> Vec<T> {
        let inner = self.lock();
        let all = inner.objects.values();
        all.filter_map(|held| pick(&held.facts)).collect()
    }

    /// Returns the uids of all jobs that have an object in this cache.
    pub fn job_uids(&self) -> BTreeSet<String> {
        let inner = self.lock();
        inner
            .objects
            .values()
            .map(|held| held.facts.job_uid().to_owned())
            .collect()
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.lock().objects.len()
    }

    /// Returns whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Facts> Inner<F> {
    /// Records an existing object that no longer belongs to a job. `before` is the job to which it
    /// belonged until now, if any.
    fn disown(&mut self, key: &Arc<str>, before: Option<&Touched>, uid: &str) {
        let listing = self.listing;
        if let Some(before) = before {
            let disowned = Disowned {
                job_uid: before.uid.clone(),
                uid: uid.to_owned(),
                listing,
            };
            self.disowned.insert(Arc::clone(key), disowned);
        } else if let Some(known) = self.disowned.get_mut(key) {
            known.listing = listing;
        }
    }

    /// Removes an object, and returns the job that lost it.
    fn take(&mut self, key: &Arc<str>) -> Option<Touched> {
        let held = self.objects.remove(key)?;
        let touched = touched_by(key, held.facts.as_ref());
        let of_job = of_job_key(&touched.key.namespace, &touched.uid);
        if let Some(keys) = self.of_job.get_mut(&of_job) {
            keys.remove(key);
            if keys.is_empty() {
                self.of_job.remove(&of_job);
            }
        }
        Some(touched)
    }
}

fn touched_by<F: Facts>(key: &str, facts: &F) -> Touched {
    let namespace = key.split('/').next().unwrap_or_default();
    Touched {
        key: JobKey {
            namespace: namespace.to_owned(),
            name: facts.job_name().to_owned(),
        },
        uid: facts.job_uid().to_owned(),
    }
}

fn object_key(namespace: &str, name: &str) -> Arc<str> {
    format!("{namespace}/{name}").into()
}

fn of_job_key(namespace: &str, uid: &str) -> String {
    format!("{namespace}/{uid}")
}

#[cfg(test)]
mod tests;
