//! Requests about objects without a spec: creations, patches, nulls in patches, preconditions,
//! pages, finalizers.

use anyhow::Result;
use serde_json::{Value, json};

use super::NOBODY;
use crate::both::{Ask, Both};
use crate::simulation::api::read::write_token;
use crate::watches::Until;

const MAPS: &str = "/api/v1/namespaces/NS/configmaps";

fn one(name: &str) -> String {
    format!("{MAPS}/{name}")
}

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"job": label}}, "data": {"key": "value"}})
}

pub(crate) fn creations() -> Vec<Ask> {
    vec![
        Ask::get(one("one")),
        Ask::delete(one("one"), Value::Null),
        Ask::patch(one("one"), json!({"data": {"key": "value"}})),
        Ask::put(one("one"), map("one", "a")),
        Ask::post(MAPS, map("one", "a")),
        Ask::post(MAPS, map("one", "a")),
        Ask::post(
            MAPS,
            json!({"metadata": {"name": "other", "namespace": "elsewhere"}}),
        ),
        Ask::post(MAPS, json!({"metadata": {}, "data": {}})),
        Ask::post(
            MAPS,
            json!({"metadata": {"name": "other", "resourceVersion": "1"}}),
        ),
        Ask::post(
            MAPS,
            json!({
                "metadata": {
                    "name": "empty", "uid": NOBODY, "labels": {}, "annotations": null, "finalizers": [],
                    "generation": 7, "deletionTimestamp": "2026-01-01T00:00:00Z",
                },
            }),
        ),
        Ask::get(one("one")),
        Ask::get(one("one")).of_metadata(),
        Ask::post(format!("{MAPS}?dryRun=All"), map("dry", "a")),
        Ask::get(one("dry")),
    ]
}

/// Returns watches of the existing objects, or of later objects only. Each is compared up to the
/// last object that the requests here create.
pub(crate) async fn watches(both: &mut Both) -> Result<Vec<(Ask, Until)>> {
    both.ask_all([Ask::get(format!("{MAPS}?labelSelector=job"))])
        .await?;
    let watch = |query: &str| Ask::get(format!("{MAPS}?watch=1&timeoutSeconds=600&{query}"));
    let since = "resourceVersion=<version list>";
    let all = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let marked = "allowWatchBookmarks=true";
    let short = format!("{MAPS}?watch=1&timeoutSeconds=5&{since}&{marked}&labelSelector=nobody");
    let last = Until::Object("last");
    Ok(vec![
        (
            watch(&format!("{since}&{marked}&labelSelector=job%3Da")),
            last,
        ),
        (watch(&format!("{since}&labelSelector=job%3Db")), last),
        (
            watch(&format!("{since}&labelSelector=job")).of_metadata(),
            last,
        ),
        (watch("labelSelector=job"), last),
        (
            watch(&format!("{all}&{marked}&labelSelector=job")),
            Until::AllIsKnown,
        ),
        (Ask::get(short), Until::End),
    ])
}

/// Returns the request for the page after `one` of a list that the server has forgotten.
pub(crate) fn old_page() -> Ask {
    Ask::get(format!("{MAPS}?limit=1&continue=<continue>"))
}

/// Returns the token of that page in the in-memory server.
pub(crate) fn our_old_token(both: &Both) -> String {
    write_token(1, &both.ours.filled("NS/one"))
}

pub(crate) fn patches() -> Vec<Ask> {
    vec![
        Ask::patch(one("one"), json!({"data": {"key": null, "more": "1"}})),
        // This write changes nothing, so it creates no new version.
        Ask::patch(one("one"), json!({"data": {"key": null, "more": "1"}})),
        Ask::patch(
            one("one"),
            json!({"metadata": {"annotations": {"a": null, "b": "1"}}}),
        ),
        Ask::patch(
            one("one"),
            json!({"metadata": {"annotations": {"b": null}}}),
        ),
        Ask::patch(one("one"), json!({"metadata": {"labels": null}})),
        Ask::patch(one("one"), json!({"data": null})),
        Ask::patch(
            one("one"),
            json!({"metadata": {"labels": {"job": "a"}}, "data": {"key": "value"}}),
        ),
        Ask::patch(
            one("one"),
            json!({"metadata": {"generation": 5, "creationTimestamp": "2020-01-01T00:00:00Z", "deletionTimestamp": "2020-01-01T00:00:00Z"}}),
        ),
        Ask::patch(
            one("one"),
            json!({"metadata": {"uid": NOBODY}, "data": {"a": "b"}}),
        ),
        Ask::patch(
            one("one"),
            json!({"metadata": {"uid": "<uid one>"}, "data": {"a": "b"}}),
        ),
        Ask::patch(
            one("one"),
            json!({"metadata": {"resourceVersion": "1"}, "data": {"a": "c"}}),
        ),
        Ask::patch(
            one("one"),
            json!({"metadata": {"resourceVersion": "<version one>"}, "data": {"a": "c"}}),
        ),
        Ask::patch(one("one"), json!({"metadata": {"name": "two"}})),
        Ask::patch(
            format!("{}?dryRun=All", one("one")),
            json!({"data": {"a": "dry"}}),
        ),
        Ask::get(one("one")),
    ]
}

pub(crate) fn updates() -> Vec<Ask> {
    let with = |metadata: Value| json!({"metadata": metadata, "data": {"key": "c"}});
    vec![
        Ask::put(
            one("one"),
            with(json!({"name": "one", "resourceVersion": "1"})),
        ),
        Ask::put(one("one"), with(json!({"name": "one", "uid": NOBODY}))),
        Ask::put(one("one"), with(json!({"name": "two"}))),
        Ask::put(
            one("one"),
            with(json!({"name": "one", "resourceVersion": "<version one>", "uid": "<uid one>"})),
        ),
        // An update without a version is accepted, even if it changes nothing.
        Ask::put(one("one"), with(json!({"name": "one"}))),
        Ask::put(
            one("one"),
            with(json!({"name": "one", "labels": {"job": "a"}})),
        ),
    ]
}

pub(crate) fn lists() -> Vec<Ask> {
    let maps = |query: &str| Ask::get(format!("{MAPS}?{query}"));
    vec![
        Ask::delete(one("empty"), Value::Null),
        Ask::post(MAPS, map("two", "b")),
        Ask::post(MAPS, map("three", "a")),
        Ask::post(MAPS, map("four", "a")),
        maps("labelSelector=job%3Da"),
        maps("labelSelector=job%3Da,other!%3Dx"),
        maps("labelSelector=job%20in%20(a,b)"),
        maps("labelSelector=job,!other"),
        maps("labelSelector=job%3Da&fieldSelector=metadata.name%3Dthree"),
        maps("fieldSelector=data.key%3Dvalue"),
        maps("labelSelector=job%3Da").of_metadata_list(),
        maps("labelSelector=job&limit=1"),
        maps("labelSelector=job&limit=500"),
        // All pages of a list show the state of the same moment, even if objects are written while
        // the pages are read. Each page may be read twice.
        maps("labelSelector=job&limit=2"),
        Ask::delete(one("three"), Value::Null),
        Ask::post(MAPS, map("five", "a")),
        Ask::patch(one("two"), json!({"data": {"key": "later"}})),
        maps("labelSelector=job&limit=1&continue=<continue>"),
        maps("labelSelector=job&limit=1&continue=<continue>"),
        maps("labelSelector=job&limit=1"),
        maps("labelSelector=job&limit=2&continue=<continue>").of_metadata_list(),
        maps("labelSelector=job&limit=2").of_metadata_list(),
        maps("labelSelector=job&continue=<continue>").of_metadata_list(),
        maps("continue=e30"),
        Ask::post(MAPS, map("three", "a")),
    ]
}

pub(crate) fn deletions() -> Vec<Ask> {
    let of_uid = |uid: &str| json!({"preconditions": {"uid": uid}});
    vec![
        Ask::get(one("two")),
        Ask::delete(one("two"), of_uid(NOBODY)),
        Ask::delete(
            one("two"),
            json!({"preconditions": {"uid": "<uid two>", "resourceVersion": "1"}}),
        ),
        Ask::delete(
            one("two"),
            json!({"preconditions": {"uid": "<uid two>"}, "dryRun": ["All"]}),
        ),
        Ask::delete(format!("{}?dryRun=All", one("two")), Value::Null),
        Ask::get(one("two")),
        Ask::delete(
            one("two"),
            json!({"preconditions": {"uid": "<uid two>", "resourceVersion": "<version two>"}, "propagationPolicy": "Background"}),
        ),
        Ask::get(one("two")),
        Ask::delete(one("two"), of_uid("<uid two>")),
        // A parameter is ignored if there is a body.
        Ask::post(MAPS, map("two", "b")),
        Ask::delete(format!("{}?dryRun=All", one("two")), of_uid("<uid two>")),
        Ask::get(one("two")),
    ]
}

pub(crate) fn finalizers() -> Vec<Ask> {
    let three = || one("three");
    vec![
        Ask::patch(
            three(),
            json!({"metadata": {"finalizers": ["zephyr.dev/test", "zephyr.dev/other"]}}),
        ),
        Ask::delete(three(), json!({"preconditions": {"uid": NOBODY}})),
        Ask::delete(three(), Value::Null),
        Ask::delete(three(), json!({"propagationPolicy": "Background"})),
        Ask::post(MAPS, map("three", "a")),
        Ask::patch(three(), json!({"data": {"key": "while it ends"}})),
        Ask::patch(
            three(),
            json!({"metadata": {"finalizers": ["zephyr.dev/test", "zephyr.dev/other", "zephyr.dev/late"]}}),
        ),
        Ask::patch(
            three(),
            json!({"metadata": {"finalizers": ["zephyr.dev/other"]}}),
        ),
        Ask::patch(three(), json!({"metadata": {"deletionTimestamp": null}})),
        Ask::get(three()),
        Ask::patch(three(), json!({"metadata": {"finalizers": null}})),
        Ask::get(three()),
        Ask::post(MAPS, map("three", "a")),
        Ask::patch(
            three(),
            json!({"metadata": {"finalizers": ["zephyr.dev/test"]}}),
        ),
        Ask::delete(three(), Value::Null),
        Ask::put(
            three(),
            json!({"metadata": {"name": "three", "finalizers": []}, "data": {}}),
        ),
        Ask::get(three()),
        Ask::post(
            MAPS,
            json!({"metadata": {"name": "last", "labels": {"job": "a"}}}),
        ),
        Ask::patch(one("last"), json!({"metadata": {"labels": {"job": "b"}}})),
        Ask::get(format!("{MAPS}?watch=1&resourceVersion=none")),
    ]
}
