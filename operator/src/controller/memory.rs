//! Keeps what the operator remembers about a job between two reconciles. Correctness does not
//! depend on this memory, which is empty after a restart.

mod events;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use zephyr_crds::field_error::FieldError;
use zephyr_crds::job::ZephyrJob;

use self::events::EventMemory;
use super::diagnose::Diagnosis;
use super::forced::ForcedDeletes;
use super::observe::made::Made;
use super::observe::unmarked::RootsByName;
use super::observed::{Frozen, LastWell};
use super::validate::{SpecVersion, after, errors};
use crate::pods::PodFacts;

/// How much time passes at least between two events with the same reason for one job. So a state
/// that changes quickly causes only one event; `status` always shows the current state.
pub const EVENT_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// What is remembered about each job, by the job's uid.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<String, JobMemory>>);

#[derive(Debug, Default)]
struct JobMemory {
    /// The job as the API server returned it for our last write, until the watch delivers it.
    written: Option<ZephyrJob>,
    written_at: Option<Timestamp>,
    failures: u32,
    /// Whether the last write found a version that the watch had not delivered.
    is_behind: bool,
    /// The frozen job of the running generation, with the uid of the root from which it was read.
    frozen: Option<(String, Frozen)>,
    /// The errors in the job's spec, with the version of the spec that was checked.
    errors: Option<(SpecVersion, Vec<FieldError>)>,
    /// The version of an unreadable job for which an event was published.
    unreadable_version: Option<String>,
    events: EventMemory,
    last_well: LastWell,
    roots_by_name: RootsByName,
    made: Made,
    forced: ForcedDeletes,
    scaled_at: Option<Timestamp>,
    mended_at: Option<Timestamp>,
    /// The uid of the `StatefulSet` whose replicas were changed last, and the new number.
    scaled_to: Option<(String, u32)>,
    /// How many deletions of earlier generations' roots failed in a row, and when the next one is
    /// tried.
    old_roots_held: Option<(u32, Timestamp)>,
    /// When an event of each reason was last published. The reasons are a closed list.
    announced: BTreeMap<String, Timestamp>,
}

impl Memory {
    /// Returns the newer of two versions of a job: the one from the watch, or the one from our last
    /// write. A plan that is based on a status from before our last write would repeat that write.
    pub fn newest(&self, cached: ZephyrJob) -> ZephyrJob {
        let mut jobs = self.lock();
        let Some(memory) = cached.uid().and_then(|uid| jobs.get_mut(&uid)) else {
            return cached;
        };
        match &memory.written {
            Some(written) if is_newer(written, &cached) => written.clone(),
            Some(_) => {
                memory.written = None;
                cached
            }
            None => cached,
        }
    }

    /// Keeps the API server's answer to one of our writes, if it can be read.
    pub fn remember(&self, uid: &str, written: Option<ZephyrJob>, now: Timestamp) {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        memory.written = written;
        memory.written_at = Some(now);
    }

    /// Returns the errors in a job's spec. Each version of the spec is checked once.
    pub fn errors(&self, job: &ZephyrJob) -> Vec<FieldError> {
        let Some(version) = SpecVersion::of(job) else {
            return errors(job);
        };
        let uid = job.uid().unwrap_or_default();
        let known = self
            .lock()
            .get(&uid)
            .and_then(|memory| memory.errors.clone());
        if let Some((_, known)) = known.filter(|(of, _)| *of == version) {
            return known;
        }
        let found = errors(job);
        self.lock().entry(uid).or_default().errors = Some((version, found.clone()));
        found
    }

    /// Returns the frozen job that was read from the root with this uid.
    pub fn frozen(&self, uid: &str, root_uid: &str) -> Option<Frozen> {
        let jobs = self.lock();
        let (read_from, frozen) = jobs.get(uid)?.frozen.as_ref()?;
        (read_from == root_uid).then(|| frozen.clone())
    }

    /// Keeps a frozen job for as long as its generation runs. This is safe because roots are
    /// immutable.
    pub fn keep_frozen(&self, uid: &str, root_uid: &str, frozen: Frozen) {
        let mut jobs = self.lock();
        jobs.entry(uid.to_owned()).or_default().frozen = Some((root_uid.to_owned(), frozen));
    }

    /// Records that no generation of this job still runs.
    pub fn drop_frozen(&self, uid: &str) {
        if let Some(memory) = self.lock().get_mut(uid) {
            memory.frozen = None;
        }
    }

    /// Returns whether an event must be published for this version of an unreadable job. If so, the
    /// event counts as published from now on.
    pub fn must_report_unreadable(&self, uid: &str, version: &str) -> bool {
        let mut jobs = self.lock();
        let last = &mut jobs.entry(uid.to_owned()).or_default().unreadable_version;
        let is_new = last.as_deref() != Some(version);
        *last = Some(version.to_owned());
        is_new
    }

    /// Returns when status was last written.
    pub fn written_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid).and_then(|memory| memory.written_at)
    }

    /// Calls `look` with the results of requests for the job's roots by name.
    pub fn with_roots<T>(&self, uid: &str, look: impl FnOnce(&mut RootsByName) -> T) -> T {
        look(&mut self.lock().entry(uid.to_owned()).or_default().roots_by_name)
    }

    /// Calls `look` with the record of what this operator made for the job.
    pub fn with_made<T>(&self, uid: &str, look: impl FnOnce(&mut Made) -> T) -> T {
        look(&mut self.lock().entry(uid.to_owned()).or_default().made)
    }

    /// Returns when the job's generation was last seen in a good state.
    pub fn last_well(&self, uid: &str) -> LastWell {
        let jobs = self.lock();
        jobs.get(uid)
            .map_or_else(LastWell::default, |memory| memory.last_well)
    }

    /// Records the facts of `diagnosis`.
    pub fn note_health(&self, uid: &str, diagnosis: &Diagnosis, now: Timestamp) {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        memory.last_well.note(diagnosis, now);
    }

    /// Returns when the job's Service was last mended.
    pub fn mended_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid).and_then(|memory| memory.mended_at)
    }

    /// Records that the job's Service was mended, or that the API server refused this.
    pub fn note_mend(&self, uid: &str, now: Timestamp) {
        self.lock().entry(uid.to_owned()).or_default().mended_at = Some(now);
    }

    /// Returns when the number of the job's workers was last changed.
    pub fn scaled_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid).and_then(|memory| memory.scaled_at)
    }

    /// Returns the number of workers that this operator last requested from this `StatefulSet`. The
    /// watch may report this number later than it reports that pods were deleted.
    pub fn scaled_to(&self, uid: &str, workers_uid: &str) -> Option<u32> {
        let jobs = self.lock();
        let (last, to) = jobs.get(uid)?.scaled_to.as_ref()?;
        (last == workers_uid).then_some(*to)
    }

    /// Records that the number of the job's workers was changed, in the `StatefulSet` with this
    /// uid.
    pub fn note_scale(&self, uid: &str, workers_uid: &str, to: u32, now: Timestamp) {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        memory.scaled_at = Some(now);
        memory.scaled_to = Some((workers_uid.to_owned(), to));
    }

    /// Returns until when deletions of earlier generations' roots pause.
    pub fn old_roots_held(&self, uid: &str) -> Option<Timestamp> {
        let jobs = self.lock();
        let held = jobs.get(uid)?.old_roots_held;
        held.map(|(_, until)| until)
    }

    /// Records that a root of an earlier generation could not be deleted: `wait` receives the
    /// number of consecutive failures, and returns how long to pause.
    pub fn hold_old_roots(&self, uid: &str, wait: impl FnOnce(u32) -> Duration, now: Timestamp) {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        let failures = memory.old_roots_held.map_or(0, |(failures, _)| failures);
        let failures = failures.saturating_add(1);
        memory.old_roots_held = Some((failures, after(now, wait(failures))));
    }

    /// Records that a root of an earlier generation was deleted.
    pub fn release_old_roots(&self, uid: &str) {
        if let Some(memory) = self.lock().get_mut(uid) {
            memory.old_roots_held = None;
        }
    }

    /// Returns the tries for the job's stuck pods, without the tries for pods that no longer exist.
    pub fn forced(&self, uid: &str, pods: &[Arc<PodFacts>], now: Timestamp) -> ForcedDeletes {
        let mut jobs = self.lock();
        let Some(memory) = jobs.get_mut(uid) else {
            return ForcedDeletes::default();
        };
        memory.forced.retain(pods, now);
        memory.forced.clone()
    }

    /// Changes the record of the job's stuck pods.
    pub fn change_forced(&self, uid: &str, change: impl FnOnce(&mut ForcedDeletes)) {
        change(&mut self.lock().entry(uid.to_owned()).or_default().forced);
    }

    /// Returns whether an event with `reason` may be published for the job. If so, it counts as
    /// published.
    pub fn may_announce(&self, uid: &str, reason: &str, now: Timestamp) -> bool {
        let mut jobs = self.lock();
        let announced = &mut jobs.entry(uid.to_owned()).or_default().announced;
        let is_recent = announced
            .get(reason)
            .is_some_and(|last| now.duration_since(*last) < EVENT_INTERVAL);
        if !is_recent {
            announced.insert(reason.to_owned(), now);
        }
        !is_recent
    }

    /// Counts one more failure, and returns the number of consecutive failures.
    pub fn blame(&self, uid: &str) -> u32 {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    }

    /// Returns whether the job must be read again, because somebody changes it faster than the
    /// watch delivers it.
    pub fn is_behind(&self, uid: &str) -> bool {
        self.lock().get(uid).is_some_and(|memory| memory.is_behind)
    }

    /// Records whether the last write found a version that the watch had not delivered.
    pub fn set_behind(&self, uid: &str, is_behind: bool) {
        self.lock().entry(uid.to_owned()).or_default().is_behind = is_behind;
    }

    /// Resets the number of consecutive failures.
    pub fn clear_failures(&self, uid: &str) {
        if let Some(memory) = self.lock().get_mut(uid) {
            memory.failures = 0;
            memory.is_behind = false;
        }
    }

    /// Calls `look` with the record of the events of the job's pods.
    pub fn with_events<T>(&self, uid: &str, look: impl FnOnce(&mut EventMemory) -> T) -> T {
        look(&mut self.lock().entry(uid.to_owned()).or_default().events)
    }

    /// Forgets the jobs for which `is_alive` returns false.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| is_alive(uid));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, JobMemory>> {
        // The value is consistent after every statement, so it is usable even if a thread panicked
        // while it held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether `one` is a later version than `other` of the same object. The API promises that
/// versions can be compared as numbers. If they cannot, the watch's version is used, and a stale
/// write is refused because of its version.
fn is_newer(one: &ZephyrJob, other: &ZephyrJob) -> bool {
    let number = |job: &ZephyrJob| {
        job.resource_version()
            .and_then(|version| version.parse::<u64>().ok())
    };
    matches!((number(one), number(other)), (Some(one), Some(other)) if one > other)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zephyr_crds::validate::LAST_APPLIED;

    use super::*;

    fn job(version: &str) -> ZephyrJob {
        serde_json::from_value(json!({
            "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
            "metadata": {"name": "count", "namespace": "team", "uid": "uid", "resourceVersion": version},
            "spec": crate::children::tests::frozen(json!({})).spec,
        }))
        .unwrap()
    }

    #[test]
    fn our_own_write_is_used_until_the_watch_has_caught_up() {
        let memory = Memory::default();
        memory.remember("uid", Some(job("10")), Timestamp::UNIX_EPOCH);
        let newest = |cached: &str| memory.newest(job(cached)).resource_version().unwrap();
        assert_eq!(newest("9"), "10");
        assert_eq!(newest("10"), "10");
        assert_eq!(
            newest("9"),
            "9",
            "after the watch had version 10 the memory is gone"
        );
    }

    #[test]
    fn the_errors_of_a_spec_are_those_of_its_version_and_of_what_was_applied() {
        let memory = Memory::default();
        let mut job = job("1");
        job.metadata.generation = Some(1);
        assert_eq!(memory.errors(&job), []);
        // A version never changes its spec, so this changed spec is not checked.
        job.spec.workers.replicas = Some(0);
        assert_eq!(memory.errors(&job), []);
        job.metadata.generation = Some(2);
        let found = memory.errors(&job);
        assert_eq!(found, errors(&job));
        assert_eq!(found[0].path, "spec.workers.replicas");
        job.spec.workers.replicas = Some(2);
        job.annotations_mut()
            .insert(LAST_APPLIED.to_owned(), "{}".to_owned());
        assert_eq!(memory.errors(&job), []);
    }

    #[test]
    fn a_flapping_state_causes_one_event_in_five_minutes_for_each_reason() {
        let memory = Memory::default();
        let mut events = Vec::new();
        for second in 0..900 {
            for reason in ["WaitingForWorkers", "Running"] {
                if memory.may_announce("uid", reason, Timestamp::from_second(second).unwrap()) {
                    events.push((second, reason));
                }
            }
        }
        let expected = [0, 300, 600].map(|s| [(s, "WaitingForWorkers"), (s, "Running")]);
        assert_eq!(events, expected.concat());
    }
}
