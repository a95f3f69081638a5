//! The requests of a run: how many, how often, and with which preconditions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::simulation::api::kinds::{EVENTS, JOBS};
use crate::simulation::api::request::Verb;
use crate::simulation::api::store::{Actor, Change, What};
use crate::simulation::faults::{Exchange, Fault};
use crate::simulation::world::Record;

/// Requests for one job that may be made in a minute while one of them fails (C6).
const BUDGET: usize = 10;
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// Two writes of status that follow each other in less are one too many: two seconds, less the way of the requests.
const FLOOR: SignedDuration = SignedDuration::from_millis(1900);

/// How often the operator created and deleted each object.
pub(super) fn counts(record: &Record) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let uids: BTreeSet<&str> = record
        .changes
        .iter()
        .filter_map(|change| change.object["metadata"]["uid"].as_str())
        .collect();
    for change in record
        .changes
        .iter()
        .filter(|change| change.key.kind != EVENTS)
    {
        if !matches!(change.by, Actor::Operator(_)) {
            continue;
        }
        let was_ending = change
            .before
            .as_ref()
            .is_some_and(|before| !before["metadata"]["deletionTimestamp"].is_null());
        let is_ending = !change.object["metadata"]["deletionTimestamp"].is_null();
        let verb = match change.what {
            What::Added => "create",
            What::Deleted => "delete",
            What::Modified if is_ending && !was_ending => "delete",
            What::Modified => continue,
        };
        let mut name = change.key.name.clone();
        for uid in &uids {
            name = name.replace(&uid[..8.min(uid.len())], "UID");
        }
        *counts
            .entry(format!("{verb} {} {name}", change.key.kind.facts().plural))
            .or_insert(0) += 1;
    }
    counts
}

/// Objects that were created or deleted more or less often than without faults.
pub(super) fn other_counts(
    expected: &BTreeMap<String, u32>,
    found: &BTreeMap<String, u32>,
) -> Vec<String> {
    expected
        .keys()
        .chain(found.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter_map(|what| {
            let (expected, found) = (
                expected.get(what).unwrap_or(&0),
                found.get(what).unwrap_or(&0),
            );
            (expected != found)
                .then(|| format!("{what}: {found} times, and {expected} times without faults"))
        })
        .collect()
}

/// Deletions that name no uid.
pub(super) fn deletions_without_uid(record: &Record) -> Vec<String> {
    record
        .exchanges
        .iter()
        .filter(|one| {
            one.signature.verb == Verb::Delete && !one.options["preconditions"]["uid"].is_string()
        })
        .map(|one| one.signature.to_string())
        .collect()
}

/// Minutes of one process with more requests than allowed, while requests fail.
pub(super) fn over_budget(record: &Record) -> Vec<String> {
    let mut all = Vec::new();
    let counted: Vec<&Exchange> = record
        .exchanges
        .iter()
        .filter(|one| is_counted(one))
        .collect();
    for (first, exchange) in counted.iter().enumerate() {
        let ends = after(exchange.at, MINUTE);
        let minute: Vec<_> = counted[first..]
            .iter()
            .take_while(|one| one.at < ends && one.process == exchange.process)
            .collect();
        let failed = minute.iter().filter(|one| is_failure(one)).count();
        // While as many fail as are allowed, the operator is in back-off all the time.
        if minute.len() > BUDGET && failed >= BUDGET / 2 && is_failure(exchange) {
            all.push(format!(
                "{} requests within a minute from {} on, {failed} of them in vain",
                minute.len(),
                exchange.at
            ));
            break;
        }
    }
    all
}

/// Writes of status that follow each other too fast. Those that begin a generation or end the job may.
pub(super) fn status_too_often(record: &Record) -> Vec<String> {
    let writes: Vec<&Change> = record
        .changes
        .iter()
        .filter(|change| change.key.kind == JOBS && change.what == What::Modified)
        .filter(|change| matches!(change.by, Actor::Operator(_)))
        .collect();
    let is_final = |change: &Change| {
        matches!(
            change.object["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        )
    };
    writes
        .windows(2)
        .filter(|pair| {
            pair[0].by == pair[1].by
                && pair[0].object["metadata"]["uid"] == pair[1].object["metadata"]["uid"]
        })
        .filter(|pair| {
            pair[0].object["status"]["generation"] == pair[1].object["status"]["generation"]
        })
        .filter(|pair| is_final(pair[0]) == is_final(pair[1]))
        .filter(|pair| pair[1].at.duration_since(pair[0].at) < FLOOR)
        .map(|pair| {
            let apart = pair[1].at.duration_since(pair[0].at);
            format!(
                "status was written twice within {} ms at {}",
                apart.as_millis(),
                pair[1].at
            )
        })
        .take(1)
        .collect()
}

/// Watches and the first lists of a process belong to no job.
fn is_counted(exchange: &Exchange) -> bool {
    exchange.signature.verb != Verb::Watch && exchange.is_for_job
}

fn is_failure(exchange: &Exchange) -> bool {
    exchange.code.is_none_or(|code| code >= 400) || matches!(exchange.fault, Some(Fault::ReplyLost))
}

fn after(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.saturating_add(length).unwrap_or(time)
}
