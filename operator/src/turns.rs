//! Computes which jobs may start now, from the caches and at most once a second.
//! `controller/turns.rs` makes the decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::controller::turns::{Candidate, Placing, Stage, StartProgress, Turn, Waiting, turns};
use crate::driver::Jobs;
use crate::queue::JobKey;
use crate::watches::cache::Caches;

/// How old a computed turn may be, and how often turns are computed again while a job waits.
const INTERVAL: Duration = Duration::from_secs(1);
const MAX_AGE: SignedDuration = SignedDuration::from_secs(1);

/// The turns of all jobs.
#[derive(Debug)]
pub struct Turns {
    /// How many jobs may start at the same time.
    limit: usize,
    known: Mutex<Known>,
    somebody_waits: Notify,
}

#[derive(Debug, Default)]
struct Known {
    computed_at: Option<Timestamp>,
    turns: BTreeMap<String, Turn>,
    keys: BTreeMap<String, JobKey>,
    /// For each job, by uid: whether it was waiting to start, or starting, when its turn was
    /// computed.
    waiting: BTreeMap<String, bool>,
    /// The jobs, by uid, whose turn has come, and that the caches do not show as started yet. The
    /// value is the time at which the turn came. After a restart of the operator the map may be
    /// empty, because the caches then show every job that started.
    admitted: BTreeMap<String, Timestamp>,
    /// Jobs by uid that were reconciled after their turn changed.
    touched: BTreeSet<String>,
    /// Whether a turn may change only because time passes.
    is_pending: bool,
}

impl Turns {
    /// Returns a record without jobs. `limit` jobs may start at the same time.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            known: Mutex::default(),
            somebody_waits: Notify::new(),
        }
    }

    /// Returns what the job with this uid may do. `start_progress` comes from its newest status,
    /// which the caches may not show yet.
    pub fn of(
        &self,
        caches: &Caches,
        uid: &str,
        start_progress: StartProgress,
        now: Timestamp,
    ) -> Turn {
        let waits = match start_progress {
            StartProgress::Aside => return Turn::Free,
            StartProgress::Waits { .. } => true,
            StartProgress::Starts { .. } => false,
        };
        let mut known = self.lock();
        let is_old = known
            .computed_at
            .is_none_or(|at| now.duration_since(at) >= MAX_AGE);
        if is_old || known.waiting.get(uid) != Some(&waits) {
            known.compute(caches, self.limit, now);
        }
        if known.is_pending {
            self.somebody_waits.notify_one();
        }
        if known.waiting.get(uid) == Some(&waits) {
            return known.turns.get(uid).copied().unwrap_or_default();
        }
        // The caches do not show the job's last step yet. Until they do, the job keeps its place if
        // it has one, and gets no new place.
        if waits {
            self.somebody_waits.notify_one();
            known.is_pending = true;
            Turn::Wait(Waiting {
                before: 0,
                starting: 0,
                limit: self.limit,
                not_before: None,
            })
        } else {
            Turn::Free
        }
    }

    /// Puts jobs whose turn has come into the queue, forever.
    pub async fn follow(
        self: Arc<Self>,
        caches: Arc<Caches>,
        jobs: Arc<Jobs>,
        clock: Clock,
    ) -> &'static str {
        loop {
            while !self.lock().is_pending {
                self.somebody_waits.notified().await;
            }
            sleep(INTERVAL).await;
            for key in self.due(&caches, clock.now()) {
                jobs.touch(&key);
            }
        }
    }

    /// Returns the jobs to reconcile again, because their turn has changed since their last
    /// reconcile.
    fn due(&self, caches: &Caches, now: Timestamp) -> Vec<JobKey> {
        let mut known = self.lock();
        known.compute(caches, self.limit, now);
        let Known {
            turns,
            keys,
            admitted,
            touched,
            ..
        } = &mut *known;
        let changed = turns.iter().filter(|(uid, turn)| {
            let has_changed = match turn {
                Turn::Free => admitted.contains_key(*uid),
                Turn::GiveWay => true,
                Turn::Wait(_) => false,
            };
            has_changed && touched.insert((*uid).clone())
        });
        changed
            .filter_map(|(uid, _)| keys.get(uid).cloned())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn compute(&mut self, caches: &Caches, limit: usize, now: Timestamp) {
        // The caches are locked one after the other, so the pods may be newer than the jobs.
        let standings = caches.jobs.pick(|job| {
            let start_progress = job.start_progress();
            (start_progress != StartProgress::Aside).then(|| (job.identity(), start_progress))
        });
        let candidates: Vec<_> = standings
            .into_iter()
            .filter_map(|(job, start_progress)| {
                let stage = match start_progress {
                    StartProgress::Starts { generation, begun } => Stage::Starts {
                        begun,
                        placing: placing(caches, &job.namespace, &job.uid, generation, begun),
                    },
                    StartProgress::Waits { since, given_back } => Stage::Waits {
                        since: since.unwrap_or(now),
                        given_back,
                        admitted: self.admitted.get(&job.uid).copied(),
                    },
                    StartProgress::Aside => return None,
                };
                Some(Candidate {
                    key: job.key(),
                    uid: job.uid,
                    stage,
                })
            })
            .collect();
        self.turns = turns(&candidates, limit, now);
        let waits = |candidate: &Candidate| matches!(candidate.stage, Stage::Waits { .. });
        let is_admitted = |candidate: &&Candidate| {
            waits(candidate) && self.turns.get(&candidate.uid) == Some(&Turn::Free)
        };
        self.admitted = candidates
            .iter()
            .filter(is_admitted)
            .map(|candidate| {
                let since = self.admitted.get(&candidate.uid).copied();
                (candidate.uid.clone(), since.unwrap_or(now))
            })
            .collect();
        let starting = candidates.iter().filter(|one| !waits(one)).count();
        self.waiting = candidates
            .iter()
            .map(|candidate| (candidate.uid.clone(), waits(candidate)))
            .collect();
        let is_anybody_waiting = self
            .turns
            .values()
            .any(|turn| matches!(turn, Turn::Wait(_)));
        self.is_pending = is_anybody_waiting || starting > 1;
        self.touched.retain(|uid| match self.turns.get(uid) {
            Some(Turn::Free) => self.admitted.contains_key(uid),
            Some(Turn::GiveWay) => true,
            Some(Turn::Wait(_)) | None => false,
        });
        self.keys = candidates
            .into_iter()
            .map(|candidate| (candidate.uid, candidate.key))
            .collect();
        self.computed_at = Some(now);
    }
}

/// Returns whether the pods of a job's generation have room, according to the caches.
fn placing(
    caches: &Caches,
    namespace: &str,
    uid: &str,
    generation: u32,
    begun: Timestamp,
) -> Placing {
    let coordinators = caches.coordinators.of_job(namespace, uid);
    let workers = caches.workers.of_job(namespace, uid);
    let pods = caches.pods.of_job(namespace, uid);
    let pods: Vec<_> = pods
        .iter()
        .map(|pod| pod.facts.as_ref())
        .filter(|pod| pod.generation == generation)
        .collect();
    Placing::of(
        coordinators
            .iter()
            .find(|one| one.mark.generation == generation)
            .map(|one| &one.facts),
        workers
            .iter()
            .find(|one| one.mark.generation == generation)
            .map(|one| &one.facts),
        &pods,
        begun,
    )
}
