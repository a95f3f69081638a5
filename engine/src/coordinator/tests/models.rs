//! Checks three small protocols with stateright, in every order of their steps. These are the
//! take-over of an epoch, the commit of an attempt with its final file, and the hand-back by a
//! worker that is asked to terminate.
//!
//! `commit` and `drain` drive the real `State` through the real `step`. Around it, workers,
//! streams, ledger and object store are small models (`coordinator`, `sessions`, `worker`,
//! `world`), each of which names the code that it models. `take_over` is a pure model, because it
//! is about single calls to a store. `simulation` has random runs of far larger worlds; here the
//! worlds are small, but every possible order is checked.

mod commit;
mod coordinator;
mod drain;
mod sessions;
mod setting;
mod take_over;
mod worker;
mod world;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// The limit for the number of states of a model. A model that exceeds it must be made smaller.
const MAX_STATES: usize = 20_000_000;

/// Models with at most this number of states are checked a second time, to see that none of their
/// runs is a cycle.
const MAX_STATES_OF_CIRCLES: usize = 200_000;

/// Checks all reachable states of a model: invariants hold in each of them, and required states are
/// among them.
fn holds<M>(name: &str, model: &M)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + PartialEq + Hash + Send + Sync,
    M::Action: Clone + PartialEq + Debug,
{
    let checker = model
        .clone()
        .checker()
        .target_state_count(MAX_STATES)
        .spawn_bfs()
        .join();
    let states = checker.unique_state_count();
    println!(
        "{name}: {states} states, {} steps, the farthest {} steps from the beginning",
        checker.state_count(),
        checker.max_depth()
    );
    for property in checker.model().properties() {
        let found = checker.discovery(property.name).map(listed);
        let is_as_it_should = match property.expectation {
            Expectation::Sometimes => found.is_some(),
            Expectation::Always | Expectation::Eventually => found.is_none(),
        };
        assert!(
            is_as_it_should,
            "{name}: not {:?} {:?}: {found:#?}",
            property.expectation, property.name
        );
    }
    assert!(
        checker.state_count() < MAX_STATES,
        "{name}: there are too many states to look at all"
    );
    if states <= MAX_STATES_OF_CIRCLES {
        ends(name, model);
    }
}

/// Searches for a run that returns to an earlier state. If there is none, every run ends, and
/// properties of final states are reached in each run.
fn ends<M: Model>(name: &str, model: &M)
where
    M::State: Hash,
{
    // For each visited state, whether all of its successors were visited. If not, it is on the
    // current path.
    let mut is_left = HashMap::new();
    let mut way = vec![(0, model.init_states())];
    while let Some((here, next)) = way.last_mut() {
        let Some(state) = next.pop() else {
            is_left.insert(*here, true);
            way.pop();
            continue;
        };
        let there = digest(&state);
        match is_left.get(&there) {
            None => {
                is_left.insert(there, false);
                way.push((there, model.next_states(&state)));
            }
            Some(is_left) => assert!(is_left, "{name}: a run can repeat a cycle forever"),
        }
    }
}

/// Returns the property that a deliberately wrong model violates, and the state in which it does
/// so.
fn counterexample<M>(name: &str, model: M) -> (&'static str, M::State)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + PartialEq + Hash + Send + Sync,
    M::Action: Clone + PartialEq + Debug,
{
    let checker = model
        .checker()
        .target_state_count(MAX_STATES)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let mut properties = checker.model().properties().into_iter();
    let found = properties.find_map(|property| {
        let is_failure = !matches!(property.expectation, Expectation::Sometimes);
        let way = checker.discovery(property.name).filter(|_| is_failure)?;
        Some((property.name, way))
    });
    let Some((property, way)) = found else {
        panic!(
            "{name}: nothing is found wrong in {} states",
            checker.unique_state_count()
        );
    };
    let last = way.last_state().clone();
    println!(
        "{name}: not {property:?} after {} steps, found in {} states",
        way.into_actions().len(),
        checker.unique_state_count()
    );
    (property, last)
}

fn listed<State, Action: Debug>(way: stateright::Path<State, Action>) -> Vec<String> {
    let actions = way.into_actions();
    actions.iter().map(|action| format!("{action:?}")).collect()
}

/// A part that many states of a model have in common. It is copied by reference, and its hash is
/// computed once.
#[derive(Clone, Debug)]
struct Shared<T> {
    value: Arc<T>,
    digest: u64,
}

impl<T: Clone + Hash> Shared<T> {
    fn new(value: T) -> Self {
        let digest = digest(&value);
        Self {
            value: Arc::new(value),
            digest,
        }
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(Arc::make_mut(&mut self.value));
        self.digest = digest(&*self.value);
        result
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.digest);
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
