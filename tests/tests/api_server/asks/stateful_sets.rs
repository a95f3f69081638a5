//! Requests about objects with a spec, and about the scale of one of them. No pod is ever created.

use serde_json::{Value, json};

use super::NOBODY;
use crate::both::Ask;

pub(crate) fn all() -> Vec<Ask> {
    let sets = "/apis/apps/v1/namespaces/NS/statefulsets";
    let one = &format!("{sets}/workers");
    let labels = json!({"app": "workers"});
    let set = json!({
        "metadata": {"name": "workers"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": labels}, "serviceName": "",
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "none.invalid/none"}]}},
        },
    });
    let replicas = |uid: &str| json!({"metadata": {"uid": uid}, "spec": {"replicas": 0}});
    let asks = vec![
        Ask::post(sets, set.clone()),
        Ask::patch(one, replicas("<uid workers>")),
        Ask::patch(one, replicas(NOBODY)),
        Ask::patch(
            one,
            json!({"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}),
        ),
        // The status is written by a separate request.
        Ask::patch(one, json!({"status": {"replicas": 7}})),
        Ask::get(one),
        Ask::get(format!("{one}/scale")),
        Ask::delete(one, json!({"preconditions": {"uid": NOBODY}})),
        Ask::delete(one, json!({"propagationPolicy": "Background"})),
        Ask::get(one),
        Ask::patch(one, replicas(NOBODY)),
        // After a deletion and a new creation, `metadata.generation` starts at 1 again.
        Ask::post(sets, set),
        Ask::delete(one, Value::Null),
    ];
    asks.into_iter().map(Ask::beside_controllers).collect()
}
