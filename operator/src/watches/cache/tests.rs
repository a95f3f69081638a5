//! Tests of the contents of a cache after lists, changes and deletions in any order.

use serde_json::{Value, json};

use super::*;

fn pod(name: &str, job_uid: &str) -> Seen<SeenPod> {
    serde_json::from_value(pod_json(name, job_uid)).unwrap()
}

pub(crate) fn pod_json(name: &str, job_uid: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("{name}-uid"), "resourceVersion": "1",
            "labels": {
                "zephyr.dev/job": "count", "zephyr.dev/job-uid": job_uid, "zephyr.dev/generation": "1",
                "app.kubernetes.io/component": "worker",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "count-workers-g1", "uid": "set",
                "controller": true,
            }],
        },
    })
}

fn names(cache: &Cache<SeenPod>, job_uid: &str) -> Vec<String> {
    let pods = cache.of_job("team", job_uid);
    pods.iter().map(|pod| pod.facts.name.clone()).collect()
}

fn uids(touched: impl IntoIterator<Item = Touched>) -> Vec<String> {
    touched.into_iter().map(|one| one.uid).collect()
}

#[test]
fn an_object_is_found_by_its_job_and_a_change_of_its_job_affects_both_jobs() {
    let cache = Cache::default();
    assert_eq!(uids(cache.put(pod("b", "one"))), ["one"]);
    assert_eq!(uids(cache.put(pod("a", "one"))), ["one"]);
    assert_eq!(names(&cache, "one"), ["a", "b"]);
    assert_eq!(uids(cache.put(pod("a", "two"))), ["one", "two"]);
    assert_eq!(names(&cache, "one"), ["b"]);
    assert_eq!(names(&cache, "two"), ["a"]);
    assert_eq!(uids(cache.remove(&pod("a", "whatever"))), ["two"]);
    assert!(names(&cache, "two").is_empty());
    assert_eq!(cache.of_job("another-namespace", "one").len(), 0);
}

#[test]
fn an_object_that_a_new_list_lacks_is_removed_only_at_the_end_of_the_list() {
    let cache = Cache::default();
    cache.begin_list();
    for name in ["a", "b", "c"] {
        cache.put(pod(name, "one"));
    }
    assert_eq!(uids(cache.end_list()), Vec::<String>::new());
    cache.begin_list();
    cache.put(pod("b", "one"));
    assert_eq!(names(&cache, "one"), ["a", "b", "c"]);
    // The list is interrupted and starts again.
    cache.begin_list();
    cache.put(pod("c", "one"));
    assert_eq!(uids(cache.end_list()), ["one", "one"]);
    assert_eq!(names(&cache, "one"), ["c"]);
}

#[test]
fn an_object_that_is_no_longer_ours_is_forgotten() {
    let cache = Cache::default();
    cache.put(pod("a", "one"));
    let mut disowned = pod_json("a", "one");
    disowned["metadata"]["ownerReferences"] = json!([]);
    let touched = cache.put(serde_json::from_value(disowned).unwrap());
    assert_eq!(uids(touched), ["one"]);
    assert!(cache.is_empty() && cache.lock().of_job.is_empty());
}

#[test]
fn an_object_without_its_owner_is_known_until_it_is_gone_or_owned_again() {
    let mut disowned = pod_json("a", "one");
    disowned["metadata"]["ownerReferences"] = json!([]);
    let disowned = || serde_json::from_value::<Seen<SeenPod>>(disowned.clone()).unwrap();
    let cache = Cache::default();
    cache.put(disowned());
    assert_eq!(
        cache.disowned("one"),
        BTreeSet::new(),
        "it never had an owner"
    );
    let known = || BTreeSet::from(["a-uid".to_owned()]);
    cache.put(pod("a", "one"));
    cache.put(disowned());
    assert_eq!(cache.disowned("one"), known());
    assert_eq!(cache.disowned("two"), BTreeSet::new());
    cache.begin_list();
    cache.put(disowned());
    cache.end_list();
    assert_eq!(cache.disowned("one"), known());
    cache.put(pod("a", "one"));
    assert_eq!(cache.disowned("one"), BTreeSet::new());
    cache.put(disowned());
    cache.remove(&disowned());
    assert_eq!(cache.disowned("one"), BTreeSet::new());
    cache.put(pod("a", "one"));
    cache.put(disowned());
    cache.begin_list();
    cache.end_list();
    assert!(cache.lock().disowned.is_empty());
}
