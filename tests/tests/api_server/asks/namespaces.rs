//! Requests about namespaces that do not exist, or are being deleted.

use serde_json::{Value, json};

use crate::both::Ask;

/// Returns the request for an object that keeps a namespace that is being deleted.
pub(crate) fn held(namespace: &str) -> Ask {
    let map = json!({"metadata": {"name": "held", "finalizers": ["zephyr.dev/test"]}});
    Ask::post(format!("/api/v1/namespaces/{namespace}/configmaps"), map)
}

/// Returns the request that releases the namespace.
pub(crate) fn released(namespace: &str) -> Ask {
    let held = format!("/api/v1/namespaces/{namespace}/configmaps/held");
    Ask::patch(held, json!({"metadata": {"finalizers": null}})).beside_controllers()
}

/// Returns requests for `namespace`, which is being deleted, and for a missing one.
pub(crate) fn all(namespace: &str) -> Vec<Ask> {
    let maps = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let map = || json!({"metadata": {"name": "new"}});
    vec![
        Ask::post(maps(namespace), map()),
        Ask::get(format!("{}/new", maps(namespace))),
        Ask::post(maps("api-server-no-namespace"), map()),
        Ask::get(format!("{}/new", maps("api-server-no-namespace"))),
        Ask::get(maps("api-server-no-namespace")),
        Ask::delete(
            format!("{}/new", maps("api-server-no-namespace")),
            Value::Null,
        ),
    ]
}
