//! Compares the in-memory garbage collector with the real one: the same objects must exist at the
//! end.

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::both::{Ask, Both};
use super::simulation::collect::Collector;

const MAPS: &str = "/api/v1/namespaces/NS/configmaps";

/// Deletes owners in every way, and compares what happens to the objects that they own.
pub(crate) async fn compare(both: &mut Both) -> Result<()> {
    let mut collector = Collector::default();
    both.ask_all(creations()).await?;
    both.ask_all(deletions()).await?;
    settle(both, &mut collector).await?;
    // This patch releases objects that were kept so far.
    let free = || json!({"metadata": {"finalizers": null}});
    let held = [one("held-child"), one("fg-grand")];
    both.ask_all(held.map(|path| Ask::patch(path, free()).beside_controllers()))
        .await?;
    settle(both, &mut collector).await?;
    // When this late child is gone, the collector has run once more. So the objects that still
    // exist are the ones that it keeps.
    both.ask_all([
        Ask::post(MAPS, owner("late")),
        Ask::post(MAPS, child("late-child", &[reference("late", true)])),
        Ask::delete(one("late"), json!({"propagationPolicy": "Background"})),
    ])
    .await?;
    settle(both, &mut collector).await
}

fn one(name: &str) -> String {
    format!("{MAPS}/{name}")
}

fn owner(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"owners": "yes"}}})
}

fn child(name: &str, owners: &[Value]) -> Value {
    let mut child = owner(name);
    child["metadata"]["ownerReferences"] = json!(owners);
    child
}

fn held(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["zephyr.dev/test"]);
    object
}

fn reference(name: &str, blocks: bool) -> Value {
    let mut reference = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": format!("<uid {name}>"),
    });
    if blocks {
        reference["blockOwnerDeletion"] = json!(true);
    }
    reference
}

fn creations() -> Vec<Ask> {
    let post = |object| Ask::post(MAPS, object);
    let mut asks: Vec<Ask> = ["bg", "fg", "or", "keeper", "replaced"]
        .map(owner)
        .map(post)
        .into();
    let mut namespace = reference("NS", false);
    namespace["kind"] = json!("Namespace");
    let mut unknown = reference("keeper", false);
    unknown["apiVersion"] = json!("nobody.dev/v1");
    unknown["kind"] = json!("Thing");
    asks.extend([
        post(child("bg-child", &[reference("bg", true)])),
        post(child("bg-grand", &[reference("bg-child", false)])),
        post(child(
            "two-owners",
            &[reference("bg", false), reference("keeper", true)],
        )),
        post(held(child("held-child", &[reference("bg", true)]))),
        post(child("fg-child", &[reference("fg", true)])),
        post(child("fg-free", &[reference("fg", false)])),
        post(held(child("fg-grand", &[reference("fg-child", true)]))),
        post(child(
            "fg-kept",
            &[reference("fg", false), reference("keeper", false)],
        )),
        post(child("or-child", &[reference("or", true)])),
        post(child(
            "or-two",
            &[reference("or", true), reference("keeper", true)],
        )),
        post(child("kept", &[reference("keeper", true)])),
        post(child("in-namespace", &[namespace])),
        post(child("unknown-owner", &[unknown])),
        post(child("replaced-child", &[reference("replaced", true)])),
    ]);
    asks
}

fn deletions() -> Vec<Ask> {
    let with = |policy: &str| json!({"propagationPolicy": policy});
    let asks = vec![
        Ask::delete(one("bg"), with("Background")),
        Ask::delete(one("fg"), with("Foreground")),
        Ask::delete(one("or"), with("Orphan")),
        Ask::delete(one("replaced"), Value::Null),
        Ask::post(MAPS, owner("replaced")),
        // These objects have an owner that never existed, and an owner whose name another object
        // has.
        Ask::post(
            MAPS,
            child(
                "no-owner",
                &[json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "name": "keeper", "uid": "11111111-1111-4111-8111-111111111111",
                })],
            ),
        ),
    ];
    asks.into_iter().map(Ask::beside_controllers).collect()
}

/// Waits until both collectors have nothing to do. Ours works at once; the real one needs some
/// time, which the time limit of the test bounds.
async fn settle(both: &mut Both, collector: &mut Collector) -> Result<()> {
    let mut now = Instant::now();
    loop {
        let before = both.server.lock().version();
        let next = collector.step(&both.server, now);
        if next.is_none() && both.server.lock().version() == before {
            break;
        }
        now = next.unwrap_or(now);
    }
    let list = Ask::get(format!("{MAPS}?labelSelector=owners")).beside_controllers();
    both.agree_in_time(&list).await
}
