//! Judges the requests of a run: how many there are, how often they are made, and with which
//! preconditions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::simulation::api::kinds::{CONFIG_MAPS, EVENTS, JOBS};
use crate::simulation::api::request::Verb;
use crate::simulation::api::store::{Actor, Change, What};
use crate::simulation::faults::{Exchange, Fault};
use crate::simulation::world::Record;
use zephyr_crds::names;

/// How many requests for one job are allowed within a minute after a failed request, while that
/// request keeps failing.
const BUDGET: usize = 10;
const MINUTE: SignedDuration = SignedDuration::from_secs(60);
/// How much time must pass at least between two writes of status: two seconds, minus the duration
/// of the requests.
const FLOOR: SignedDuration = SignedDuration::from_millis(1900);

/// Counts how often the operator created and deleted each object.
pub(super) fn counts(record: &Record, has_any_number: bool) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    // If generation numbers do not matter, a job that no longer exists at the end is not counted.
    let last_job = record
        .end
        .iter()
        .find(|(key, _)| key.kind == JOBS)
        .map(|(_, job)| &job["metadata"]["uid"]);
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
        let label = &change.object["metadata"]["labels"][names::LABEL_JOB_UID];
        if has_any_number && last_job != Some(label) {
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
        if has_any_number {
            name = super::end::plain_number(&name, record);
        }
        *counts
            .entry(format!("{verb} {} {name}", change.key.kind.facts().plural))
            .or_insert(0) += 1;
    }
    counts
}

/// Returns the objects that were created or deleted more or less often than without faults.
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

/// Returns the deletions without a uid.
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

/// Finds minutes with more than the allowed number of requests after a failed request and before a
/// similar request succeeded. Failed requests, reads and status writes count; requests that create,
/// scale or delete are normal work and do not count.
pub(super) fn over_budget(record: &Record) -> Vec<String> {
    let counted: Vec<&Exchange> = record
        .exchanges
        .iter()
        .filter(|one| is_counted(one) && (is_failure(one) || !is_work(one)))
        .collect();
    for (number, failed) in counted.iter().enumerate() {
        // The operator does not retry to publish an event, so such a failure has no back-off.
        if !is_failure(failed) || failed.signature.kind == EVENTS.facts().plural {
            continue;
        }
        let is_granted = |one: &Exchange| one.signature == failed.signature && !is_failure(one);
        // The job continues while an earlier root cannot be deleted: only the tries to delete it
        // are counted.
        let is_beside = failed.signature.verb == Verb::Delete
            && failed.signature.kind == CONFIG_MAPS.facts().plural;
        let minute: Vec<_> = counted[number + 1..]
            .iter()
            .take_while(|one| one.process == failed.process)
            .take_while(|one| one.at < after(failed.at, MINUTE) && !is_granted(one))
            .filter(|one| !is_beside || one.signature == failed.signature)
            .filter(|one| [job_of(failed), ""].contains(&job_of(one)))
            .collect();
        // After the last failure of the request, there is no back-off.
        let again = |one: &&&Exchange| is_failure(one) && one.signature == failed.signature;
        let count = minute.iter().rposition(again).map_or(0, |last| last + 1);
        if count > BUDGET {
            return vec![format!(
                "{count} requests within a minute after {} failed at {}",
                failed.signature, failed.at
            )];
        }
    }
    Vec::new()
}

/// Returns the job of a request, which is the beginning of the object's name. Returns an empty text
/// for lists.
fn job_of(exchange: &Exchange) -> &str {
    exchange.signature.name.split('-').next().unwrap_or("")
}

/// Returns the writes of status that follow each other too quickly. A write that begins a
/// generation, also after it waited for its turn, or that ends the job may follow at once.
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
    let is_held = |change: &Change| !change.object["status"]["suspendedSince"].is_null();
    let is_queued = |change: &Change| !change.object["status"]["queuedSince"].is_null();
    let is_told = |change: &Change| {
        record.exchanges.iter().all(|one| {
            let is_lost =
                one.fault == Some(Fault::ReplyLost) && one.signature.subresource == "status";
            !is_lost || change.at.duration_since(one.at).abs() > FLOOR
        })
    };
    writes
        .windows(2)
        // It is not known whether a write whose answer was lost took effect.
        .filter(|pair| is_told(pair[0]))
        .filter(|pair| {
            pair[0].by == pair[1].by
                && pair[0].object["metadata"]["uid"] == pair[1].object["metadata"]["uid"]
        })
        .filter(|pair| {
            pair[0].object["status"]["generation"] == pair[1].object["status"]["generation"]
        })
        .filter(|pair| is_final(pair[0]) == is_final(pair[1]))
        .filter(|pair| is_held(pair[0]) == is_held(pair[1]))
        .filter(|pair| is_queued(pair[1]) || !is_queued(pair[0]))
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

/// Returns whether a request counts for a job. Watches and the first lists of a process belong to
/// no job.
fn is_counted(exchange: &Exchange) -> bool {
    exchange.signature.verb != Verb::Watch && exchange.is_for_job
}

fn is_work(exchange: &Exchange) -> bool {
    exchange.signature.verb.is_write() && exchange.signature.subresource != "status"
}

/// Returns whether a request failed. "Already exists" is the answer to a repeated creation, and is
/// not a failure.
fn is_failure(exchange: &Exchange) -> bool {
    exchange.fault.is_some() && exchange.code.is_none_or(|code| code >= 400)
        || matches!(exchange.fault, Some(Fault::ReplyLost))
}

fn after(time: Timestamp, length: SignedDuration) -> Timestamp {
    time.saturating_add(length).unwrap_or(time)
}
