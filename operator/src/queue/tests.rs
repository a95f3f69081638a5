//! Tests of the queue: no change is lost, a job is never reconciled twice at the same time, and
//! back-off and turns are respected.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn key(namespace: u8, job: u8) -> JobKey {
    JobKey {
        namespace: format!("team-{namespace}"),
        name: format!("job-{job}"),
    }
}

/// Takes all jobs that may run now.
fn take_all(queue: &mut Queue, now: Instant) -> Vec<JobKey> {
    std::iter::from_fn(|| queue.take(now)).collect()
}

#[test]
fn a_thousand_changes_cause_one_reconcile_and_a_change_during_it_causes_another() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for _ in 0..1000 {
        queue.touch(&key(0, 0), now);
    }
    assert_eq!(take_all(&mut queue, now), [key(0, 0)]);
    queue.touch(&key(0, 0), now);
    assert_eq!(
        take_all(&mut queue, now),
        [],
        "two reconciles of one job never run at the same time"
    );
    queue.finish(&key(0, 0), Outcome::Settled, now);
    assert_eq!(
        take_all(&mut queue, now),
        [],
        "the next reconcile waits for the spacing"
    );
    assert_eq!(queue.next_due(), Some(now + SPACING));
    assert_eq!(take_all(&mut queue, now + SPACING), [key(0, 0)]);
    queue.finish(&key(0, 0), Outcome::Settled, now + SPACING);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn nothing_shortens_a_back_off_and_changes_during_it_cause_one_reconcile() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.touch(&key(0, 0), now);
    take_all(&mut queue, now);
    queue.touch(&key(0, 0), now);
    let wait = Duration::from_secs(30);
    queue.finish(&key(0, 0), Outcome::BackOff(wait), now);
    for second in 0..30 {
        let then = now + Duration::from_secs(second);
        queue.touch(&key(0, 0), then);
        assert_eq!(take_all(&mut queue, then), [], "second {second}");
    }
    assert_eq!(take_all(&mut queue, now + wait), [key(0, 0)]);
    queue.finish(&key(0, 0), Outcome::Settled, now + wait);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn a_change_comes_before_a_timer_and_replaces_it() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.touch(&key(0, 0), now);
    take_all(&mut queue, now);
    queue.finish(&key(0, 0), Outcome::LookAgain(Duration::from_mins(5)), now);
    let then = now + Duration::from_secs(1);
    queue.touch(&key(0, 0), then);
    assert_eq!(take_all(&mut queue, then), [key(0, 0)]);
    queue.finish(&key(0, 0), Outcome::Settled, then);
    assert_eq!(queue.next_due(), None);
}

#[test]
fn a_namespace_of_many_jobs_leaves_slots_for_one_that_comes_late() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for job in 0..250 {
        queue.touch(&key(0, job), now);
    }
    assert_eq!(take_all(&mut queue, now).len(), SLOTS_PER_NAMESPACE);
    queue.touch(&key(1, 0), now);
    assert_eq!(take_all(&mut queue, now), [key(1, 0)]);
}

#[test]
fn twelve_namespaces_whose_calls_hang_do_not_take_the_last_slot() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for namespace in 0..12 {
        for job in 0..100 {
            queue.touch(&key(namespace, job), now);
        }
        take_all(&mut queue, now);
    }
    queue.touch(&key(99, 0), now);
    assert_eq!(take_all(&mut queue, now), [key(99, 0)]);
}

#[test]
fn a_job_that_is_deleted_and_created_again_is_reconciled_again() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.touch(&key(0, 0), now);
    take_all(&mut queue, now);
    queue.forget(&key(0, 0));
    queue.touch(&key(0, 0), now);
    queue.finish(&key(0, 0), Outcome::Gone, now);
    assert_eq!(take_all(&mut queue, now + SPACING), [key(0, 0)]);
    queue.forget(&key(0, 0));
    queue.finish(&key(0, 0), Outcome::LookAgain(SPACING), now + SPACING);
    assert_eq!(queue.next_due(), None);
    assert!(queue.jobs.is_empty() && queue.lanes.is_empty() && queue.turns.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Touch(u8, u8),
    Forget(u8, u8),
    Take,
    /// The reconcile of the n-th running job ends.
    Finish(usize, Outcome),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Settled),
        Just(Outcome::Gone),
        (0_u64..5_000).prop_map(|ms| Outcome::LookAgain(Duration::from_millis(ms))),
        (0_u64..5_000).prop_map(|ms| Outcome::BackOff(Duration::from_millis(ms))),
    ];
    prop_oneof![
        6 => (0_u8..4, 0_u8..30).prop_map(|(namespace, job)| Step::Touch(namespace, job)),
        1 => (0_u8..4, 0_u8..30).prop_map(|(namespace, job)| Step::Forget(namespace, job)),
        6 => Just(Step::Take),
        4 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Finish(which, outcome)),
        2 => (0_u64..2_000).prop_map(Step::Wait),
    ]
}

/// The expected state of the queue, which the test computes in its own way.
#[derive(Default)]
struct Model {
    running: BTreeSet<JobKey>,
    /// The jobs that changed since their last reconcile started.
    changed: BTreeSet<JobKey>,
    not_before: BTreeMap<JobKey, Instant>,
}

impl Model {
    fn take(&mut self, key: &JobKey, now: Instant) {
        assert!(self.running.insert(key.clone()), "{key} runs twice");
        assert!(self.running.len() <= SLOTS);
        let of_namespace = |one: &&JobKey| one.namespace == key.namespace;
        assert!(self.running.iter().filter(of_namespace).count() <= SLOTS_PER_NAMESPACE);
        let not_before = self.not_before.get(key);
        assert!(
            not_before.is_none_or(|at| *at <= now),
            "{key} is taken in its back-off"
        );
        self.changed.remove(key);
    }
}

proptest! {
    #[test]
    fn no_change_is_lost_no_job_runs_twice_and_no_back_off_is_bypassed(
        steps in prop::collection::vec(step(), 1..400)
    ) {
        let mut queue = Queue::default();
        let mut model = Model::default();
        let mut now = Instant::now();
        for step in steps {
            match step {
                Step::Touch(namespace, job) => {
                    let key = key(namespace, job);
                    queue.touch(&key, now);
                    model.changed.insert(key);
                }
                Step::Forget(namespace, job) => {
                    let key = key(namespace, job);
                    queue.forget(&key);
                    model.changed.remove(&key);
                    if !model.running.contains(&key) {
                        model.not_before.remove(&key);
                    }
                }
                Step::Take => {
                    if let Some(key) = queue.take(now) {
                        model.take(&key, now);
                    }
                }
                Step::Finish(which, outcome) => {
                    let nth = which.checked_rem(model.running.len());
                    if let Some(key) = nth.and_then(|nth| model.running.iter().nth(nth)).cloned() {
                        model.running.remove(&key);
                        queue.finish(&key, outcome, now);
                        model.not_before.remove(&key);
                        if let (Outcome::BackOff(wait), true) = (outcome, queue.jobs.contains_key(&key)) {
                            model.not_before.insert(key, now + wait);
                        }
                    }
                }
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
        }
        // From now on all reconciles end without errors, so every changed job is reconciled, and
        // none is left.
        for _ in 0..2_000 {
            while let Some(key) = queue.take(now) {
                model.take(&key, now);
            }
            for key in std::mem::take(&mut model.running) {
                queue.finish(&key, Outcome::Settled, now);
                model.not_before.remove(&key);
            }
            match queue.next_due() {
                Some(at) => now = now.max(at),
                None if queue.depth() == (0, 0) => break,
                // More jobs of one namespace are ready than may run at the same time, so a running
                // one must end first.
                None => {}
            }
        }
        prop_assert!(model.changed.is_empty(), "lost: {:?}", model.changed);
        prop_assert!(queue.lanes.is_empty() && queue.turns.is_empty() && queue.running == 0);
    }

    #[test]
    fn a_namespace_waits_for_one_turn_of_each_other_namespace_at_most(
        jobs in prop::collection::vec(1_u8..40, 2..6),
        late in 0_usize..20,
    ) {
        let mut queue = Queue::default();
        let now = Instant::now();
        for (namespace, count) in (0_u8..).zip(&jobs) {
            for job in 0..*count {
                queue.touch(&key(namespace, job), now);
            }
        }
        for _ in 0..late {
            if let Some(key) = queue.take(now) {
                queue.finish(&key, Outcome::Settled, now);
            }
        }
        queue.touch(&key(200, 0), now);
        let mut before = BTreeMap::<String, usize>::new();
        while let Some(taken) = queue.take(now) {
            queue.finish(&taken, Outcome::Settled, now);
            if taken.namespace == "team-200" {
                break;
            }
            *before.entry(taken.namespace).or_default() += 1;
        }
        prop_assert!(before.values().all(|count| *count == 1), "{:?}", before);
    }
}
