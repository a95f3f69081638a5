//! What the operator remembers of a job between two reconciles. Nothing here is needed for correctness: after a restart it
//! begins empty.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use zephyr_crds::job::ZephyrJob;

use super::diagnose::Diagnosis;
use super::forced::ForcedDeletes;
use super::observe::refusal::{MAX_REFUSAL_AGE, PodRefusal};
use super::observed::{Frozen, LastWell};
use crate::pods::PodFacts;

/// How long pods may be missing before the reason is asked for: a `StatefulSet` of many pods takes a moment.
const SHORT_BEFORE_ASKING: SignedDuration = SignedDuration::from_secs(5);
/// How long one answer holds.
const ASK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// Least time between two events of one reason about one job: a state that flaps is one event, and `status` says how it is.
pub const EVENT_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// Jobs by uid.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<String, JobMemory>>);

#[derive(Debug, Default)]
struct JobMemory {
    /// The job as the API server answered to our last write, until the watch brings it.
    written: Option<ZephyrJob>,
    written_at: Option<Timestamp>,
    failures: u32,
    /// The frozen job of the running generation, with the uid of the root that it was read from.
    frozen: Option<(String, Frozen)>,
    /// The version of an unreadable job that people have heard of.
    unreadable_version: Option<String>,
    /// All worker pods were there when this operator looked.
    was_whole: bool,
    short_since: Option<Timestamp>,
    /// Since when worker pods are missing, as far as this operator can know.
    missing_since: Option<Timestamp>,
    asked_at: Option<Timestamp>,
    refusal: Option<PodRefusal>,
    last_well: LastWell,
    forced: ForcedDeletes,
    scaled_at: Option<Timestamp>,
    /// When an event of each reason was last published. The reasons are a closed list.
    announced: BTreeMap<String, Timestamp>,
}

impl Memory {
    /// The newer of what the watch has and what we wrote ourselves: a plan made on a status from before one's own write
    /// would repeat it.
    pub fn newest(&self, cached: &ZephyrJob) -> ZephyrJob {
        let Some(uid) = cached.uid() else {
            return cached.clone();
        };
        let mut jobs = self.lock();
        let Some(memory) = jobs.get_mut(&uid) else {
            return cached.clone();
        };
        match &memory.written {
            Some(written) if is_newer(written, cached) => written.clone(),
            Some(_) => {
                memory.written = None;
                cached.clone()
            }
            None => cached.clone(),
        }
    }

    /// Keeps what the API server answered to a write of ours.
    pub fn remember(&self, written: ZephyrJob, now: Timestamp) {
        let Some(uid) = written.uid() else { return };
        let mut jobs = self.lock();
        let memory = jobs.entry(uid).or_default();
        memory.written = Some(written);
        memory.written_at = Some(now);
    }

    /// The frozen job that was read from the root with this uid.
    pub fn frozen(&self, uid: &str, root_uid: &str) -> Option<Frozen> {
        let jobs = self.lock();
        let (read_from, frozen) = jobs.get(uid)?.frozen.as_ref()?;
        (read_from == root_uid).then(|| frozen.clone())
    }

    /// Keeps a frozen job for as long as its generation runs; roots do not change.
    pub fn keep_frozen(&self, uid: &str, root_uid: &str, frozen: Frozen) {
        let mut jobs = self.lock();
        jobs.entry(uid.to_owned()).or_default().frozen = Some((root_uid.to_owned(), frozen));
    }

    /// No generation of this job runs any more.
    pub fn drop_frozen(&self, uid: &str) {
        if let Some(memory) = self.lock().get_mut(uid) {
            memory.frozen = None;
        }
    }

    /// Whether people have not heard yet that this version of a job cannot be read; they have from now on.
    pub fn must_tell_unreadable(&self, uid: &str, version: &str) -> bool {
        let mut jobs = self.lock();
        let told = &mut jobs.entry(uid.to_owned()).or_default().unreadable_version;
        let is_news = told.as_deref() != Some(version);
        *told = Some(version.to_owned());
        is_news
    }

    /// When status was last written.
    pub fn written_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid).and_then(|memory| memory.written_at)
    }

    /// When the job's generation was last seen well.
    pub fn last_well(&self, uid: &str) -> LastWell {
        let jobs = self.lock();
        jobs.get(uid)
            .map_or_else(LastWell::default, |memory| memory.last_well)
    }

    /// Notes what `diagnosis` shows.
    pub fn note_health(&self, uid: &str, diagnosis: &Diagnosis, now: Timestamp) {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        memory.last_well.note(diagnosis, now);
    }

    /// When the number of the job's workers was last changed.
    pub fn scaled_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid).and_then(|memory| memory.scaled_at)
    }

    /// The number of the job's workers was changed.
    pub fn note_scale(&self, uid: &str, now: Timestamp) {
        self.lock().entry(uid.to_owned()).or_default().scaled_at = Some(now);
    }

    /// The tries at the job's stuck pods, without those of pods that are gone.
    pub fn forced(&self, uid: &str, pods: &[Arc<PodFacts>], now: Timestamp) -> ForcedDeletes {
        let mut jobs = self.lock();
        let Some(memory) = jobs.get_mut(uid) else {
            return ForcedDeletes::default();
        };
        memory.forced.retain(pods, now);
        memory.forced.clone()
    }

    /// Changes what is kept of the job's stuck pods.
    pub fn change_forced(&self, uid: &str, change: impl FnOnce(&mut ForcedDeletes)) {
        change(&mut self.lock().entry(uid.to_owned()).or_default().forced);
    }

    /// Whether an event of `reason` may be published for the job. It counts as published if so.
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

    /// Counts one more failure, and says how many there were in a row.
    pub fn blame(&self, uid: &str) -> u32 {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    }

    /// Ends a row of failures.
    pub fn forgive(&self, uid: &str) {
        if let Some(memory) = self.lock().get_mut(uid) {
            memory.failures = 0;
        }
    }

    /// Whether it is time to ask why worker pods are missing.
    pub fn must_ask_for_refusal(&self, uid: &str, is_short: bool, now: Timestamp) -> bool {
        let mut jobs = self.lock();
        let memory = jobs.entry(uid.to_owned()).or_default();
        if !is_short {
            memory.was_whole = true;
            memory.short_since = None;
            memory.missing_since = None;
            memory.asked_at = None;
            memory.refusal = None;
            return false;
        }
        if memory.short_since.is_none() {
            // An operator that just started cannot know since when: any refusal that still stands may be the reason.
            let unknown = now.checked_sub(MAX_REFUSAL_AGE).unwrap_or(now);
            memory.missing_since = Some(if memory.was_whole { now } else { unknown });
        }
        let since = *memory.short_since.get_or_insert(now);
        let is_due = memory
            .asked_at
            .is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN);
        let must_ask = is_due && now.duration_since(since) >= SHORT_BEFORE_ASKING;
        if must_ask {
            memory.asked_at = Some(now);
        }
        must_ask
    }

    /// Keeps the newest refusal that was found.
    pub fn set_refusal(&self, uid: &str, refusal: Option<PodRefusal>) {
        self.lock().entry(uid.to_owned()).or_default().refusal = refusal;
    }

    /// Why worker pods are missing, in the API server's words.
    pub fn refusal(&self, uid: &str, now: Timestamp) -> Option<String> {
        let jobs = self.lock();
        let memory = jobs.get(uid)?;
        let since = memory.missing_since?;
        let refusal = memory.refusal.as_ref()?;
        refusal
            .explains(since, now)
            .then(|| refusal.message.clone())
    }

    /// Forgets the jobs for which `is_alive` says no.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| is_alive(uid));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, JobMemory>> {
        // Whole after every statement: what a panic left behind is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `one` is a later version than `other` of the same object. The API promises that versions can be compared as
/// numbers; where they cannot, the watch is believed, and a stale write is refused by its version.
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
    fn our_own_write_is_believed_until_the_watch_has_caught_up() {
        let memory = Memory::default();
        memory.remember(job("10"), Timestamp::UNIX_EPOCH);
        let newest = |cached: &str| memory.newest(&job(cached)).resource_version().unwrap();
        assert_eq!(newest("9"), "10");
        assert_eq!(newest("10"), "10");
        assert_eq!(
            newest("9"),
            "9",
            "after the watch had version 10 the memory is gone"
        );
    }

    #[test]
    fn a_flapping_state_is_one_event_in_five_minutes_for_each_reason() {
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

    #[test]
    fn the_reason_for_missing_pods_is_asked_for_only_now_and_then() {
        let memory = Memory::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let asked: Vec<_> = [0, 4, 5, 6, 19, 20]
            .map(|s| memory.must_ask_for_refusal("uid", true, at(s)))
            .into();
        assert_eq!(asked, [false, false, true, false, false, true]);
        assert!(!memory.must_ask_for_refusal("uid", false, at(40)));
        assert!(!memory.must_ask_for_refusal("uid", true, at(41)));
    }

    #[test]
    fn last_hours_refusal_is_not_reported_as_todays() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let refusal = |second| {
            Some(PodRefusal {
                at: at(second),
                message: "exceeded quota".to_owned(),
            })
        };
        let memory = Memory::default();
        memory.must_ask_for_refusal("uid", false, at(10_000));
        memory.must_ask_for_refusal("uid", true, at(13_600));
        memory.set_refusal("uid", refusal(13_000));
        assert_eq!(memory.refusal("uid", at(13_610)), None);
        memory.set_refusal("uid", refusal(13_605));
        assert!(memory.refusal("uid", at(13_610)).is_some());
        assert_eq!(memory.refusal("uid", at(20_000)), None, "it has no end");

        let restarted = Memory::default();
        restarted.must_ask_for_refusal("uid", true, at(13_600));
        restarted.set_refusal("uid", refusal(13_000));
        assert!(restarted.refusal("uid", at(13_610)).is_some());
    }
}
