//! Implements deletions: at once, or after finalizers and the grace period. This module does not
//! handle HTTP.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::answer::{Answer, view};
use super::kinds::PODS;
use super::metadata::{remove, text};
use super::request::ApiRequest;
use super::store::{Actor, Store, whole_seconds};
use super::write::target;

/// The grace period, in seconds, of a pod that sets none.
const USUAL_GRACE: i64 = 30;
/// The finalizer of an object that is deleted after its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are orphaned.
pub(crate) const ORPHAN: &str = "orphan";

/// Deletes the object of `request`: at once, or after its finalizers and its grace period.
pub(crate) fn delete(store: &mut Store, request: &ApiRequest, by: Actor, now: Timestamp) -> Answer {
    let (key, name) = target(request);
    let Some(object) = store.get(&key).cloned() else {
        return Answer::not_found(request.kind, &name);
    };
    let options = &request.body;
    let metadata = &object["metadata"];
    for (field, shown) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = &options["preconditions"][field];
        if !wanted.is_null() && *wanted != metadata[field] {
            let why = format!(
                "the {shown} in the precondition ({}) does not match the {shown} in record ({}). The object might have been {}",
                text(wanted),
                text(&metadata[field]),
                if field == "uid" {
                    "deleted and then recreated"
                } else {
                    "modified"
                }
            );
            return Answer::precondition(request.kind, &name, &why);
        }
    }
    // The parameters of the address are used only if there is no body.
    let is_dry_run = if options.is_null() {
        request.query.is_dry_run
    } else {
        options["dryRun"] == json!(["All"])
    };
    let mut ending = Value::clone(&object);
    let finalizers = ending_finalizers(&mut ending, options);
    let grace = if key.kind == PODS {
        pod_grace(&object, options)
    } else {
        0
    };
    if finalizers == 0 && key.kind != PODS {
        let uid = metadata["uid"].clone();
        if !is_dry_run {
            store.remove(&key, by, now);
        }
        return Answer::deleted(request.kind, &name, &uid);
    }
    mark(&mut ending["metadata"], grace, now);
    if is_dry_run {
        return Answer::ok(view(request, &Arc::new(ending)));
    }
    let stored = store.replace(&key, ending, by, now);
    let is_over = finalizers == 0 && grace == 0;
    // A pod is written once more before it is removed.
    let removed = is_over.then(|| store.take(&key, by, now)).flatten();
    Answer::ok(view(request, &removed.unwrap_or(stored)))
}

/// Marks an object's metadata as being deleted. If the metadata is already marked, it changes only
/// if the grace period becomes shorter.
fn mark(metadata: &mut Value, grace: i64, now: Timestamp) {
    let asked_before = text(&metadata["deletionTimestamp"]).parse().ok();
    let grace_before = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let (since, is_new) = match asked_before {
        Some(ends) => (plus(ends, -grace_before), grace < grace_before),
        None => (now, true),
    };
    if is_new {
        metadata["deletionTimestamp"] = json!(whole_seconds(plus(since, grace)));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
    }
}

fn plus(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(time)
}

/// Adds the finalizers of the requested propagation. Returns how many finalizers the object has.
fn ending_finalizers(ending: &mut Value, options: &Value) -> usize {
    let wanted = match options["propagationPolicy"].as_str() {
        Some("Foreground") => Some(FOREGROUND),
        Some("Orphan") => Some(ORPHAN),
        _ => None,
    };
    let mut all = ending["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if options["propagationPolicy"].is_string() {
        all.retain(|one| one != FOREGROUND && one != ORPHAN);
    }
    all.extend(wanted.map(|name| json!(name)));
    let count = all.len();
    if count > 0 {
        ending["metadata"]["finalizers"] = json!(all);
    } else {
        remove(&mut ending["metadata"], "finalizers");
    }
    count
}

/// Returns the grace period of a pod in seconds. It is 0 if no kubelet knows the pod, or if the pod
/// has ended.
fn pod_grace(pod: &Value, options: &Value) -> i64 {
    let is_over = matches!(
        pod["status"]["phase"].as_str(),
        Some("Failed" | "Succeeded")
    );
    if pod["spec"]["nodeName"].is_null() || is_over {
        return 0;
    }
    options["gracePeriodSeconds"]
        .as_i64()
        .or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(USUAL_GRACE)
        .max(0)
}
