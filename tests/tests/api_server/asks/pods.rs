//! Requests about pods and their grace periods. No kubelet manages these pods, so they end only
//! when a request ends them.

use serde_json::{Value, json};

use super::NOBODY;
use crate::both::Ask;

const PODS: &str = "/api/v1/namespaces/NS/pods";

fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "labels": {"app": "pods"}},
        "spec": {
            // No scheduler has this name, so neither a scheduler nor a kubelet handles the pod.
            "schedulerName": "nobody", "terminationGracePeriodSeconds": 20,
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "none.invalid/none"}],
        },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

/// Returns a list, the watch after it, and the last object that the requests here create.
pub(crate) fn watch() -> (Ask, Ask, &'static str) {
    let watch = format!("{PODS}?watch=1&timeoutSeconds=600&resourceVersion=<version list>");
    (Ask::get(PODS), Ask::get(watch).of_metadata(), "last")
}

pub(crate) fn all() -> Vec<Ask> {
    let one = |name: &str| format!("{PODS}/{name}");
    let grace = |seconds: u32| json!({"gracePeriodSeconds": seconds});
    vec![
        Ask::post(PODS, pod("waits", None)),
        Ask::delete(one("waits"), Value::Null),
        Ask::get(one("waits")),
        Ask::post(PODS, pod("runs", Some("api-server-no-node"))),
        Ask::get(one("runs")).of_metadata(),
        Ask::get(format!("{PODS}?labelSelector=app%3Dpods")).of_metadata_list(),
        Ask::get(format!(
            "{PODS}?fieldSelector=spec.nodeName%3Dapi-server-no-node"
        )),
        Ask::delete(one("runs"), json!({"preconditions": {"uid": NOBODY}})),
        Ask::delete(one("runs"), Value::Null),
        // A second deletion changes nothing, unless its grace period is shorter.
        Ask::delete(one("runs"), Value::Null),
        Ask::delete(one("runs"), grace(30)),
        Ask::delete(one("runs"), grace(5)),
        Ask::get(one("runs")),
        Ask::post(PODS, pod("runs", None)),
        Ask::delete(
            one("runs"),
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": NOBODY}}),
        ),
        Ask::delete(
            one("runs"),
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "<uid runs>"}}),
        ),
        Ask::get(one("runs")),
        Ask::delete(one("runs"), grace(0)),
        Ask::post(PODS, pod("over", Some("api-server-no-node"))),
        Ask::patch(
            one("over/status"),
            json!({"status": {"phase": "Failed", "reason": "Evicted"}}),
        ),
        Ask::delete(one("over"), Value::Null),
        Ask::get(one("over")),
        Ask::post(PODS, pod("held", Some("api-server-no-node"))),
        Ask::patch(
            one("held"),
            json!({"metadata": {"finalizers": ["zephyr.dev/test"]}}),
        ),
        Ask::delete(one("held"), grace(0)),
        Ask::delete(one("held"), grace(0)),
        Ask::get(one("held")),
        Ask::patch(one("held"), json!({"metadata": {"finalizers": null}})),
        Ask::get(one("held")),
        Ask::post(PODS, pod("last", None)),
        Ask::delete(one("last"), Value::Null),
    ]
}
