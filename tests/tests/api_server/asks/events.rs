//! Requests about events, which are written in one format and read in the other.

use serde_json::json;

use crate::both::Ask;

pub(crate) fn all() -> Vec<Ask> {
    let events = "/apis/events.k8s.io/v1/namespaces/NS/events";
    let core = "/api/v1/namespaces/NS/events";
    let event = json!({
        "metadata": {"name": "note.1"},
        "regarding": {"kind": "ConfigMap", "apiVersion": "v1", "namespace": "NS", "name": "one", "uid": "<uid one>"},
        "reason": "FailedCreate", "action": "Reconcile", "type": "Warning", "note": "exceeded quota",
        "reportingController": "zephyr-operator", "reportingInstance": "operator",
        "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    let select = |selector: &str| Ask::get(format!("{core}?limit=50&fieldSelector={selector}"));
    vec![
        Ask::post(events, event.clone()),
        Ask::post(events, event),
        Ask::get(format!("{core}/note.1")),
        select("involvedObject.uid%3D<uid one>,reason%3DFailedCreate"),
        select("involvedObject.uid%3D<uid one>,reason%3DOther"),
        select("involvedObject.uid%3D00000000-0000-0000-0000-000000000000"),
        select("note%3Dx"),
        Ask::patch(
            format!("{events}/note.1"),
            json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}}),
        ),
        select("involvedObject.uid%3D<uid one>,reason%3DFailedCreate"),
    ]
}
