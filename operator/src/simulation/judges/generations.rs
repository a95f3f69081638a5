//! Judges the generations of a job: there is only one at a time, its number is in status before its
//! objects exist, and names are unique.

use std::collections::{BTreeMap, BTreeSet};

use crate::simulation::api::kinds::{CONFIG_MAPS, EVENTS, JOBS, Kind, PODS, STATEFUL_SETS};
use crate::simulation::api::metadata::text;
use crate::simulation::api::store::{Actor, Change, What};
use crate::simulation::marks::{Generation, generation_of};
use crate::simulation::world::Record;

/// Returns the objects of a job whose name another generation of the job used before.
pub(super) fn names_used_twice(record: &Record) -> Vec<String> {
    let mut used: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut all = Vec::new();
    for change in created_by_the_operator(record) {
        let Some((uid, generation)) = generation_of(&change.object) else {
            continue;
        };
        let name = format!("{} {}", change.key.kind.facts().plural, change.key.name);
        let before = *used.entry((uid, name.clone())).or_insert(generation);
        if before != generation {
            all.push(format!(
                "{name} is of generation {generation} and was of generation {before}"
            ));
        }
    }
    all
}

/// Returns the generations that could start tasks at the same time as another generation, and those
/// whose number was not in status when their objects were created.
pub(super) fn wrong_generations(record: &Record) -> Vec<String> {
    let mut all = Vec::new();
    let mut in_status: BTreeMap<String, u32> = BTreeMap::new();
    let mut roots: BTreeSet<Generation> = BTreeSet::new();
    let mut scaled: BTreeSet<Generation> = BTreeSet::new();
    let mut known: BTreeMap<(Kind, String), Generation> = BTreeMap::new();
    for change in &record.changes {
        if change.key.kind == JOBS {
            follow_job(change, &mut in_status, &mut all);
            continue;
        }
        let name = (change.key.kind, change.key.name.clone());
        // An object belongs to the generation of its first label, even if the label is removed.
        let labelled = generation_of(&change.object);
        let Some((uid, number)) = labelled.or_else(|| known.get(&name).cloned()) else {
            continue;
        };
        let generation = (uid.clone(), number);
        known.insert(name, generation.clone());
        let is_there = change.what != What::Deleted
            && change.object["metadata"]["deletionTimestamp"].is_null();
        let is_made = change.what == What::Added && matches!(change.by, Actor::Operator(_));
        if is_made && in_status.get(&uid).is_some_and(|status| *status != number) {
            all.push(format!(
                "{} of generation {number} was created while status named generation {}",
                change.key.name, in_status[&uid]
            ));
        }
        let set = if change.key.kind == CONFIG_MAPS {
            &mut roots
        } else if change.key.kind == STATEFUL_SETS {
            &mut scaled
        } else {
            continue;
        };
        let holds = is_there
            && (change.key.kind == CONFIG_MAPS
                || change.object["spec"]["replicas"].as_u64().unwrap_or(0) > 0);
        if holds {
            set.insert(generation);
        } else {
            set.remove(&generation);
        }
        let dispatching: Vec<&Generation> = roots
            .intersection(&scaled)
            .filter(|one| one.0 == uid && !is_fenced(record, one, change))
            .collect();
        if dispatching.len() > 1 {
            all.push(format!(
                "{dispatching:?} can dispatch at the same time, at {}",
                change.at
            ));
        }
    }
    all.dedup();
    all
}

/// Records the generation in a job's status. It must never decrease.
fn follow_job(change: &Change, in_status: &mut BTreeMap<String, u32>, all: &mut Vec<String>) {
    let uid = text(&change.object["metadata"]["uid"]).to_owned();
    let Some(number) = change.object["status"]["generation"].as_u64() else {
        return;
    };
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    if change.what == What::Deleted {
        in_status.remove(&uid);
        return;
    }
    if let Some(before) = in_status.insert(uid, number)
        && number < before
    {
        all.push(format!(
            "status went from generation {before} back to {number}"
        ));
    }
}

/// Returns whether a coordinator of a later generation had taken over the ledger before `change`.
fn is_fenced(record: &Record, generation: &Generation, change: &Change) -> bool {
    record
        .openings
        .iter()
        .any(|(uid, number, at)| *uid == generation.0 && *number > generation.1 && *at <= change.at)
}

fn created_by_the_operator(record: &Record) -> impl Iterator<Item = &Change> {
    record.changes.iter().filter(|change| {
        change.what == What::Added
            && matches!(change.by, Actor::Operator(_))
            && change.key.kind != EVENTS
            && change.key.kind != PODS
    })
}
