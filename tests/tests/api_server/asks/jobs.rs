//! Requests about custom resources with a separate status. On the real server they have an API
//! group that no operator watches.

use serde_json::{Value, json};

use super::NOBODY;
use crate::both::Ask;

const JOBS: &str = "/apis/GROUP/v1alpha1/namespaces/NS/zephyrjobs";

fn one(sub: &str) -> String {
    format!("{JOBS}/count{sub}")
}

fn job() -> Value {
    json!({
        "apiVersion": "GROUP/v1alpha1", "kind": "ZephyrJob",
        "metadata": {"name": "count"},
        "spec": {
            "pipeline": {
                "source": {"files": {"paths": ["s3://in/*.jsonl"]}}, "steps": [],
                "sink": {"files": {"path": "s3://out/part-{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch/zephyr"},
            "workers": {"replicas": 1},
        },
    })
}

fn with(mut job: Value, changes: &[(&str, Value)]) -> Value {
    for (path, value) in changes {
        let (parent, field) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(parent) = job.pointer_mut(parent) {
            parent[field] = value.clone();
        }
    }
    job
}

pub(crate) fn all() -> Vec<Ask> {
    let last = Ask::post(JOBS, with(job(), &[("/metadata/name", json!("last"))]));
    [writes(), statuses(), endings(), vec![last]].concat()
}

/// Returns a list, the watch after it, and the last object that the requests here create.
pub(crate) fn watch() -> (Ask, Ask, &'static str) {
    let watch = format!("{JOBS}?watch=1&timeoutSeconds=600&resourceVersion=<version list>");
    (Ask::get(JOBS), Ask::get(watch), "last")
}

/// Returns the watch of a version that the server has forgotten.
pub(crate) fn old_watch() -> Ask {
    Ask::get(format!(
        "{JOBS}?watch=1&timeoutSeconds=60&resourceVersion=1"
    ))
}

fn writes() -> Vec<Ask> {
    let replicas = |number: u32| json!({"spec": {"workers": {"replicas": number}}});
    vec![
        Ask::get(one("")),
        Ask::delete(one(""), Value::Null),
        Ask::put(one(""), job()),
        Ask::put(one("/status"), job()),
        Ask::post(format!("{JOBS}?dryRun=All"), job()),
        Ask::post(
            JOBS,
            with(
                job(),
                &[
                    ("/status", json!({"phase": "Succeeded"})),
                    ("/metadata/generation", json!(7)),
                ],
            ),
        ),
        Ask::get(one("")).of_metadata(),
        Ask::post(JOBS, with(job(), &[("/metadata/name", json!("other"))])),
        Ask::post(JOBS, with(job(), &[("/metadata/name", json!("more"))])),
        Ask::get(format!("{JOBS}?limit=500")),
        Ask::get(format!("{JOBS}?limit=1")),
        Ask::get(format!("{JOBS}?limit=1&continue=<continue>")),
        Ask::get(format!("{JOBS}?limit=1&continue=<continue>")).of_metadata_list(),
        Ask::delete(format!("{JOBS}/more"), Value::Null),
        Ask::delete(format!("{JOBS}/other"), Value::Null),
        Ask::patch(one(""), replicas(2)),
        Ask::patch(one(""), replicas(2)),
        Ask::patch(one(""), json!({"metadata": {"labels": {"a": "b"}}})),
        Ask::patch(one(""), json!({"spec": {"image": "registry.example/a:1"}})),
        Ask::patch(one(""), json!({"spec": {"image": null}})),
        Ask::patch(one(""), json!({"spec": {"image": null}})),
        // A null is kept in a nullable field if it is written, and a patch removes it.
        Ask::put(
            one(""),
            with(
                job(),
                &[
                    ("/metadata/resourceVersion", json!("<version count>")),
                    ("/spec/ttlSecondsAfterFinished", Value::Null),
                ],
            ),
        ),
        Ask::patch(
            one(""),
            json!({"spec": {"ttlSecondsAfterFinished": null, "workers": {"replicas": 2}}}),
        ),
        Ask::patch(one(""), json!({"status": {"phase": "Failed"}})),
        Ask::patch(
            one(""),
            json!({"metadata": {"uid": NOBODY}, "spec": {"workers": {"replicas": 3}}}),
        ),
        Ask::patch(
            one(""),
            json!({"metadata": {"resourceVersion": "1"}, "spec": {"workers": {"replicas": 3}}}),
        ),
        Ask::patch(one(""), replicas(3)).in_type("application/strategic-merge-patch+json"),
        Ask::put(one(""), job()),
        Ask::put(
            one(""),
            with(job(), &[("/metadata/resourceVersion", json!("1"))]),
        ),
        Ask::put(
            one(""),
            with(
                job(),
                &[
                    ("/metadata/resourceVersion", json!("<version count>")),
                    ("/metadata/uid", json!(NOBODY)),
                ],
            ),
        ),
        Ask::put(
            one(""),
            with(
                job(),
                &[
                    ("/metadata/resourceVersion", json!("<version count>")),
                    ("/status", json!({"phase": "Failed"})),
                ],
            ),
        ),
    ]
}

fn statuses() -> Vec<Ask> {
    let status = |version: &str, status: Value| {
        let changes = [
            ("/metadata/resourceVersion", json!(version)),
            ("/metadata/labels", json!({"ignored": "yes"})),
            ("/spec/workers/replicas", json!(9)),
            ("/status", status),
        ];
        Ask::put(one("/status"), with(job(), &changes))
    };
    let running = || json!({"phase": "Running", "progress": "1/2", "generation": 1});
    vec![
        Ask::put(one("/status"), job()),
        status("1", running()),
        status("<version count>", running()),
        status("<version count>", running()),
        Ask::put(
            one("/status"),
            with(
                job(),
                &[
                    ("/metadata/resourceVersion", json!("<version count>")),
                    ("/metadata/uid", json!(NOBODY)),
                    ("/status", running()),
                ],
            ),
        ),
        Ask::get(one("")),
        Ask::get(one("/status")),
        Ask::patch(
            one("/status"),
            json!({"metadata": {"labels": {"ignored": "yes"}}, "status": {"progress": null, "observedGeneration": 3}}),
        ),
        Ask::patch(
            one("/status"),
            json!({"metadata": {"resourceVersion": "1"}, "status": {"observedGeneration": 4}}),
        ),
        // A write to the object does not change its status.
        Ask::patch(
            one(""),
            json!({"spec": {"workers": {"replicas": 4}}, "status": null}),
        ),
        status("<version count>", Value::Null),
        Ask::get(format!("{JOBS}?labelSelector=a%3Db")).of_metadata_list(),
    ]
}

fn endings() -> Vec<Ask> {
    vec![
        Ask::patch(
            one(""),
            json!({"metadata": {"finalizers": ["zephyr.dev/test"]}}),
        ),
        Ask::delete(
            one(""),
            json!({"preconditions": {"uid": "<uid count>", "resourceVersion": "1"}, "propagationPolicy": "Background"}),
        ),
        // The request to delete the object increments its generation.
        Ask::delete(
            one(""),
            json!({"preconditions": {"uid": "<uid count>", "resourceVersion": "<version count>"}, "propagationPolicy": "Background"}),
        ),
        Ask::post(JOBS, job()),
        Ask::put(
            one("/status"),
            with(
                job(),
                &[
                    ("/metadata/resourceVersion", json!("<version count>")),
                    ("/status", json!({"phase": "Failed"})),
                ],
            ),
        ),
        Ask::patch(one(""), json!({"metadata": {"finalizers": null}})),
        Ask::get(one("")),
        Ask::post(JOBS, job()),
        Ask::delete(one(""), json!({"propagationPolicy": "Background"})),
        Ask::put(
            one("/status"),
            with(
                job(),
                &[
                    ("/metadata/resourceVersion", json!("<version count>")),
                    ("/metadata/uid", json!("<uid count>")),
                ],
            ),
        ),
    ]
}
