//! Chooses the events of a job, and combines events that say the same into one. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names::parse_generation;

/// Events that say the same about objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folded {
    /// When the first of them was first seen.
    pub(crate) first: Option<Timestamp>,
    /// When the last of them was last seen.
    pub(crate) last: Option<Timestamp>,
    /// How often they were seen.
    pub(crate) count: i64,
    /// `Normal` or `Warning`.
    pub(crate) kind: String,
    /// The reason as one word.
    pub(crate) reason: String,
    /// The object of the last one.
    pub(crate) object: String,
    /// How many objects have such an event.
    pub(crate) objects: usize,
    /// The message of the last one.
    pub(crate) message: String,
}

impl Folded {
    /// The events as `-o json` shows them. The names of the fields are part of the program's
    /// interface.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "firstSeen": self.first.map(|time| time.to_string()),
            "lastSeen": self.last.map(|time| time.to_string()),
            "count": self.count,
            "type": self.kind,
            "reason": self.reason,
            "object": self.object,
            "objects": self.objects,
            "message": self.message,
        })
    }
}

/// When an event was last seen.
pub(crate) fn seen_at(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let times = [
        series
            .and_then(|series| series.last_observed_time.as_ref())
            .map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
    ];
    let created = event.metadata.creation_timestamp.as_ref();
    times
        .into_iter()
        .flatten()
        .max()
        .or(created.map(|time| time.0))
}

fn first_seen(event: &Event) -> Option<Timestamp> {
    let times = [
        event.first_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().min().or_else(|| seen_at(event))
}

/// Whether an event is about the job or one of its objects. Objects that no longer exist are known
/// by their names. An event that is older than the job is about an earlier job of its name.
pub(super) fn is_of_job(event: &Event, job: &ZephyrJob) -> bool {
    let (object, metadata) = (&event.involved_object, &job.metadata);
    let kind = object.kind.as_deref().unwrap_or_default();
    let name = object.name.as_deref().unwrap_or_default();
    let job_name = metadata.name.as_deref().unwrap_or_default();
    if kind == "ZephyrJob" {
        return name == job_name && object.uid == metadata.uid;
    }
    // The times of events have whole seconds.
    let created = metadata.creation_timestamp.as_ref();
    let is_older = created
        .zip(seen_at(event))
        .is_some_and(|(created, seen)| seen.as_second() < created.0.as_second());
    !is_older && is_child(kind, name, job_name)
}

/// Whether an object of this kind and name is one that the operator or Kubernetes makes for a job.
fn is_child(kind: &str, name: &str, job: &str) -> bool {
    let Some(rest) = name.strip_prefix(job) else {
        return false;
    };
    // The parts after the number of the generation.
    let parts = |prefix: &str| {
        let mut parts = rest.strip_prefix(prefix)?.split('-');
        parse_generation(parts.next()?)?;
        Some(parts.collect::<Vec<_>>())
    };
    let (workers, coordinator) = (parts("-workers-g"), parts("-coordinator-g"));
    match kind {
        "StatefulSet" => workers.is_some_and(|parts| parts.is_empty()),
        "Deployment" | "Service" => coordinator.is_some_and(|parts| parts.is_empty()),
        "ReplicaSet" => coordinator.is_some_and(|parts| parts.len() == 1),
        "Pod" => {
            let is_number = |part: &&str| part.chars().all(|c| c.is_ascii_digit());
            workers.is_some_and(|parts| parts.len() == 1 && parts.iter().all(is_number))
                || coordinator.is_some_and(|parts| parts.len() == 2)
        }
        _ => false,
    }
}

/// Combines events that say the same, and orders the results by the time of the last event in each.
/// Messages that differ only in the name of their object say the same.
pub(crate) fn fold(events: Vec<Event>) -> Vec<Folded> {
    let mut folded: BTreeMap<[String; 4], (Folded, Vec<String>)> = BTreeMap::new();
    for event in events {
        let object = &event.involved_object;
        let kind = object.kind.clone().unwrap_or_default();
        let name = object.name.clone().unwrap_or_default();
        let message = event.message.as_deref().unwrap_or_default().trim_end();
        let general = if name.is_empty() {
            message.to_owned()
        } else {
            message.replace(&name, "")
        };
        let reason = event.reason.clone().unwrap_or_default();
        let event_type = event.type_.clone().unwrap_or_default();
        let key = [event_type.clone(), kind.clone(), reason.clone(), general];
        let (last, first) = (seen_at(&event), first_seen(&event));
        let series = event.series.as_ref().and_then(|series| series.count);
        let count = i64::from(series.or(event.count).unwrap_or(1).max(1));
        let new = || Folded {
            first,
            last,
            count: 0,
            kind: event_type,
            reason,
            object: String::new(),
            objects: 0,
            message: String::new(),
        };
        let (entry, names) = folded.entry(key).or_insert_with(|| (new(), Vec::new()));
        entry.count += count;
        entry.first = entry.first.min(first);
        if last >= entry.last {
            entry.last = last;
            entry.object = format!("{kind}/{name}");
            message.clone_into(&mut entry.message);
        }
        if !names.contains(&name) {
            names.push(name);
            entry.objects += 1;
        }
    }
    let mut folded: Vec<_> = folded.into_values().map(|(folded, _)| folded).collect();
    folded.sort_by_key(|one| one.last);
    folded
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::status::tests::job_with;

    /// An event of a job that was created at the beginning of 2026.
    pub(crate) fn event(object: &str, reason: &str, message: &str, minute: u32) -> Event {
        let (kind, name) = object.split_once('/').expect("kind/name");
        serde_json::from_value(json!({
            "metadata": {"name": "e", "namespace": "team"},
            "involvedObject": {"kind": kind, "name": name, "uid": "u-1"},
            "type": "Warning", "reason": reason, "message": message, "count": 2,
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": format!("2026-01-01T00:{minute:02}:00Z"),
        }))
        .expect("an event")
    }

    #[test]
    fn the_objects_of_a_job_are_known_by_their_names_and_those_of_similar_jobs_are_not() {
        let job = job_with("a", &json!({}));
        for (object, expected) in [
            ("ZephyrJob/a", true),
            ("Pod/a-workers-g1-0", true),
            ("Pod/a-workers-g12-10", true),
            ("Pod/a-coordinator-g1-5d9f-x2x", true),
            ("StatefulSet/a-workers-g1", true),
            ("Deployment/a-coordinator-g3", true),
            ("ReplicaSet/a-coordinator-g3-5d9f", true),
            ("ZephyrJob/b", false),
            ("Pod/b-workers-g1-0", false),
            ("Pod/a-b-workers-g1-0", false),
            ("Pod/a-workers-g1-workers-g1-0", false),
            ("Pod/a-workers-g1-coordinator-g1-5d9f-x2x", false),
            ("Pod/a-coordinator-g1-workers-g1-0", false),
            ("ConfigMap/a-workers-g1", false),
            ("Pod/a", false),
        ] {
            let found = is_of_job(&event(object, "R", "m", 1), &job);
            assert_eq!(found, expected, "{object}");
        }
    }

    #[test]
    fn events_of_an_earlier_job_of_the_same_name_are_left_out() {
        let job = job_with("a", &json!({}));
        let mut old = event("Pod/a-workers-g1-0", "R", "m", 1);
        old.last_timestamp = serde_json::from_value(json!("2025-12-31T23:59:59Z")).expect("a time");
        assert!(!is_of_job(&old, &job));
        let mut other = event("ZephyrJob/a", "R", "m", 1);
        other.involved_object.uid = Some("u-0".to_owned());
        assert!(!is_of_job(&other, &job));
    }

    #[test]
    fn events_that_differ_in_the_name_of_the_pod_are_folded_in_the_order_of_time() {
        let folded = fold(vec![
            event("Pod/a-workers-g1-0", "Failed", "a-workers-g1-0: no room", 3),
            event("Pod/a-workers-g1-1", "Failed", "a-workers-g1-1: no room", 5),
            event("Pod/a-workers-g1-1", "Failed", "a-workers-g1-1: no room", 4),
            event("Pod/a-workers-g1-0", "Failed", "other", 1),
        ]);
        let shown: Vec<_> = folded
            .iter()
            .map(|one| {
                (
                    one.message.as_str(),
                    one.object.as_str(),
                    one.objects,
                    one.count,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("other", "Pod/a-workers-g1-0", 1, 2),
                ("a-workers-g1-1: no room", "Pod/a-workers-g1-1", 2, 6),
            ]
        );
    }
}
