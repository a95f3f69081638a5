//! Judges the end of a run: it must be the same as without faults, and status must describe it
//! correctly.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::simulation::api::kinds::{
    CONFIG_MAPS, DEFINITIONS, DEPLOYMENTS, EVENTS, JOBS, NAMESPACES, NODES, PODS, SECRETS,
};
use crate::simulation::cluster::sets::REPLICA_SET_HASH;
use crate::simulation::marks::component_of;
use crate::simulation::world::Record;
use zephyr_crds::names;

/// How many differences are shown at most.
const SHOWN: usize = 6;

/// Returns all objects at the end, without the parts that may differ between runs: uids, versions,
/// times, and how the end was reached.
pub(in crate::simulation) fn normal(
    record: &Record,
    has_any_number: bool,
) -> BTreeMap<String, Value> {
    let mut uids = BTreeSet::new();
    for (_, object) in &record.end {
        uids.insert(object["metadata"]["uid"].as_str().unwrap_or("").to_owned());
        for owner in object["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
        {
            uids.insert(owner["uid"].as_str().unwrap_or("").to_owned());
        }
    }
    record
        .end
        .iter()
        .filter(|(key, _)| ![EVENTS, NAMESPACES, DEFINITIONS, NODES].contains(&key.kind))
        .map(|(key, object)| {
            let mut object = Value::clone(object);
            for field in [
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "generation",
                "managedFields",
            ] {
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove(field);
                }
            }
            if key.kind == JOBS {
                forget_the_way(&mut object["status"]);
            }
            if key.kind == SECRETS {
                // A token depends on the job's uid.
                object["data"] = json!(null);
            }
            if key.kind != JOBS {
                object["status"]["observedGeneration"] = json!(null);
            }
            mask(&mut object, &uids);
            if has_any_number {
                object = without_number(&object, record);
            }
            let mut name = masked(&key.name, &uids);
            if has_any_number {
                name = plain_number(&name, record);
            }
            let kind = key.kind.facts().plural;
            (format!("{kind} {}/{name}", key.namespace), object)
        })
        .collect()
}

/// Returns an object in which the number of the generation is replaced with N.
fn without_number(object: &Value, record: &Record) -> Value {
    let mut object = object.clone();
    for field in ["generation", "generations"] {
        if !object["status"][field].is_null() {
            object["status"][field] = json!("N");
        }
    }
    let text = plain_number(&object.to_string(), record);
    serde_json::from_str(&text).unwrap_or(object)
}

/// How many pods one coordinator's `ReplicaSet` makes in a scenario at most.
const MAX_PODS: u32 = 9;

/// Replaces the number of the job's generation in a text by N. The number of the coordinator's pod
/// is also replaced, because after a fault there may have been one more pod.
pub(super) fn plain_number(text: &str, record: &Record) -> String {
    let job = record.end.iter().find(|(key, _)| key.kind == JOBS);
    let Some(number) = job.and_then(|(_, job)| job["status"]["generation"].as_u64()) else {
        return text.to_owned();
    };
    let text = text.replace(&format!("-g{number}"), "-gN");
    let of_set = format!("-gN-{REPLICA_SET_HASH}-");
    let without_pod =
        |text: String, pod: u32| text.replace(&format!("{of_set}{pod}"), &format!("{of_set}N"));
    (1..=MAX_PODS)
        .fold(text, without_pod)
        .replace(&format!("generation {number} "), "generation N ")
        .replace(
            &format!("\"{}\":\"{number}\"", names::LABEL_GENERATION),
            "\"generation\":\"N\"",
        )
        .replace(
            &format!("\\\"generation\\\":{number}"),
            "\\\"generation\\\":N",
        )
}

/// Removes the history from a status: how often, and in which steps, the job changed its state.
fn forget_the_way(status: &mut Value) {
    // A fault may delay the start and the end, and so lengthen the times in which the job starts
    // and is active.
    if let Some(fields) = status.as_object_mut() {
        fields.remove("startingSeconds");
        fields.remove("activeSeconds");
    }
    let last = status["history"]
        .as_array()
        .and_then(|all| all.last())
        .cloned();
    if !status.is_null() {
        if let Some(conditions) = status["conditions"].as_array_mut() {
            conditions.sort_by_key(|one| one["type"].to_string());
            for condition in conditions {
                condition["observedGeneration"] = json!(null);
            }
        }
        // The value depends on what the current process of the operator has observed.
        status["generationsWithoutProgress"] = json!(null);
        for generation in status["generations"].as_array_mut().into_iter().flatten() {
            for field in ["lostPods", "lastLostPod", "message", "tasksBefore"] {
                generation[field] = json!(null);
            }
        }
        status["history"] = last.map_or(json!([]), |last| json!([{"to": last["to"]}]));
    }
}

/// Replaces uids and times by fixed texts.
fn mask(value: &mut Value, uids: &BTreeSet<String>) {
    match value {
        Value::String(text) => {
            if text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok() {
                "TIME".clone_into(text);
            } else {
                *text = masked(text, uids);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| mask(one, uids)),
        Value::Object(all) => all.values_mut().for_each(|one| mask(one, uids)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns a text without uids. If only the beginning of a uid is in the text, that is removed too.
fn masked(text: &str, uids: &BTreeSet<String>) -> String {
    let mut text = text.to_owned();
    if !has_digits_of_a_uid(&text) {
        return text;
    }
    for uid in uids.iter().filter(|uid| uid.len() > 8) {
        if text.contains(&uid[..8]) {
            text = text.replace(uid.as_str(), "UID").replace(&uid[..8], "UID");
        }
    }
    text
}

/// Returns whether a text contains eight consecutive hexadecimal digits.
fn has_digits_of_a_uid(text: &str) -> bool {
    let mut row = 0;
    text.bytes().any(|byte| {
        row = if byte.is_ascii_hexdigit() { row + 1 } else { 0 };
        row >= 8
    })
}

/// Returns the differences between two ends, by path.
pub(super) fn differences(
    expected: &BTreeMap<String, Value>,
    found: &BTreeMap<String, Value>,
) -> Vec<String> {
    let mut all = Vec::new();
    for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        match (expected.get(name), found.get(name)) {
            (Some(expected), Some(found)) => differ(name, expected, found, &mut all),
            (Some(_), None) => all.push(format!("{name} is missing")),
            (None, _) => all.push(format!("{name} is there")),
        }
    }
    all.truncate(SHOWN);
    all
}

fn differ(path: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                differ(&format!("{path}.{key}"), &expected[key], &found[key], all);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differ(&format!("{path}[{index}]"), one, other, all);
            }
        }
        _ if expected != found => all.push(format!("{path} is {found} and should be {expected}")),
        _ => {}
    }
}

/// Returns the differences between a job's status and the actual state at the end.
pub(super) fn untrue_status(record: &Record) -> Vec<String> {
    let mut all = Vec::new();
    for (key, job) in record.end.iter().filter(|(key, _)| key.kind == JOBS) {
        let status = &job["status"];
        let uid = &job["metadata"]["uid"];
        let mut check = |what: &str, told: Value, is: Value| {
            if told != is {
                all.push(format!(
                    "{}: {what} is reported as {told} and is {is}",
                    key.name
                ));
            }
        };
        let of_job = |kind| {
            let mine =
                move |object: &Value| object["metadata"]["labels"][names::LABEL_JOB_UID] == *uid;
            record
                .end
                .iter()
                .filter(move |(key, object)| key.kind == kind && mine(object))
        };
        let generation = status["generation"]
            .as_u64()
            .map(|number| number.to_string());
        let is_current = |object: &Value| {
            object["metadata"]["labels"][names::LABEL_GENERATION].as_str() == generation.as_deref()
        };
        let is_final = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        let is_suspended = status["phase"] == "Suspended";
        let pods = of_job(PODS).count();
        if is_suspended {
            check("the number of pods", json!(0), json!(pods));
        }
        let roots = of_job(CONFIG_MAPS).count();
        if generation.is_some() {
            check(
                "the number of generations",
                json!(u32::from(!is_final && !is_suspended)),
                json!(roots),
            );
        }
        if !is_final && !status["workers"].is_null() {
            let ready = of_job(PODS)
                .filter(|(_, pod)| is_current(pod) && is_ready_worker(pod))
                .count();
            let workers = &status["workers"];
            let told =
                workers["ready"].as_u64().unwrap_or(0) + workers["busy"].as_u64().unwrap_or(0);
            check("the number of ready workers", json!(told), json!(ready));
        }
        let has_coordinator = of_job(DEPLOYMENTS).any(|(_, deployment)| {
            is_current(deployment) && deployment["status"]["readyReplicas"] == json!(1)
        });
        let told = condition(status, "CoordinatorReady");
        if !status["conditions"].is_null() && !told.is_null() {
            let is_up = if has_coordinator && !is_final {
                "True"
            } else {
                "False"
            };
            check("CoordinatorReady", told, json!(is_up));
        }
        let seen = &status["observedGeneration"];
        if !is_final {
            check(
                "observedGeneration",
                seen.clone(),
                job["metadata"]["generation"].clone(),
            );
        }
    }
    all
}

fn condition(status: &Value, name: &str) -> Value {
    status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == name)
        .map_or(Value::Null, |condition| condition["status"].clone())
}

fn is_ready_worker(pod: &Value) -> bool {
    component_of(pod) == names::COMPONENT_WORKER
        && pod["metadata"]["deletionTimestamp"].is_null()
        && crate::simulation::cluster::is_ready(pod)
}
