//! Tests of which objects belong to a job, according to watches and lists.

use kube::core::WatchEvent;
use kube::core::object::ObjectList;
use serde_json::{Value, json};

use super::*;
use crate::watches::decode::Seen;

fn labels(component: &str) -> Value {
    json!({
        "zephyr.dev/job": "count", "zephyr.dev/job-uid": "job-uid", "zephyr.dev/generation": "3",
        "app.kubernetes.io/component": component,
    })
}

fn object(name: &str, component: &str, owner: &Value) -> Value {
    json!({"metadata": {
        "name": name, "namespace": "team", "uid": "uid", "resourceVersion": "1",
        "labels": labels(component), "ownerReferences": [owner],
    }})
}

fn owner(api_version: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true})
}

fn read<F: Facts>(object: &Value) -> Option<F> {
    serde_json::from_str::<Seen<F>>(&object.to_string())
        .unwrap()
        .facts
}

#[test]
fn a_root_belongs_to_its_job_by_uid_and_by_name() {
    let ours = owner("zephyr.dev/v1alpha1", "ZephyrJob", "count", "job-uid");
    let root = read::<SeenRoot>(&object("count-g3", "generation", &ours)).unwrap();
    assert_eq!((root.mark.generation, root.object.uid.as_str()), (3, "uid"));
    let other_job = owner("zephyr.dev/v1alpha1", "ZephyrJob", "count", "another-uid");
    let other_kind = owner("v1", "ConfigMap", "count", "job-uid");
    let mut no_controller = ours.clone();
    no_controller["controller"] = json!(false);
    for (name, owner) in [
        ("count-g3", &other_job),
        ("count-g3", &other_kind),
        ("count-g3", &no_controller),
        ("count-g4", &ours),
        ("anything", &ours),
    ] {
        let read = read::<SeenRoot>(&object(name, "generation", owner));
        assert!(read.is_none(), "{name} {owner}");
    }
}

#[test]
fn a_number_that_no_generation_can_have_is_ignored() {
    let number = |label: &str| {
        let mut bare = object("count-workers-g3", "worker", &json!({}));
        bare["metadata"]["labels"]["zephyr.dev/generation"] = json!(label);
        serde_json::from_str::<Seen<SeenWorkers>>(&bare.to_string())
            .unwrap()
            .number
    };
    assert_eq!(number("3"), Some(3));
    assert_eq!(number("9999"), Some(9999));
    for label in ["0", "10000", "4294967295", "4294967296", "-1", "x"] {
        assert_eq!(number(label), None, "{label}");
    }
}

#[test]
fn labels_alone_do_not_make_an_object_ours_but_use_up_a_number() {
    let mut bare = object("count-workers-g3", "worker", &json!({}));
    bare["metadata"]["ownerReferences"] = json!([]);
    assert!(read::<SeenService>(&bare).is_none());
    assert!(read::<SeenCoordinator>(&bare).is_none());
    assert!(read::<SeenWorkers>(&bare).is_none());
    assert!(read::<SeenPod>(&bare).is_none());
    let seen: Seen<Anybody<Pod>> = serde_json::from_value(bare).unwrap();
    assert_eq!(seen.number, Some(3));
}

#[test]
fn children_belong_to_the_root_of_their_generation() {
    let root = owner("v1", "ConfigMap", "count-g3", "root-uid");
    let service = read::<SeenService>(&object("count-coordinator-g3", "coordinator", &root));
    assert_eq!(service.unwrap().mark.owner_uid, "root-uid");
    let mut set = object("count-workers-g3", "worker", &root);
    set["spec"] = json!({"replicas": 4, "selector": {}, "serviceName": "", "template": {}});
    set["status"] = json!({"replicas": 2});
    let workers = read::<SeenWorkers>(&set).unwrap().facts;
    assert_eq!((workers.replicas, workers.pods), (4, 2));
    let other = owner("v1", "ConfigMap", "count-g2", "root-uid");
    set["metadata"]["ownerReferences"] = json!([other]);
    assert!(read::<SeenWorkers>(&set).is_none());
}

#[test]
fn pods_belong_to_the_objects_that_the_operator_created_for_their_role() {
    let workers = owner("apps/v1", "StatefulSet", "count-workers-g3", "set");
    let coordinator = owner("apps/v1", "ReplicaSet", "count-coordinator-g3-5d9c", "rs");
    let is_ours =
        |component: &str, owner: &Value| read::<SeenPod>(&object("p", component, owner)).is_some();
    assert!(is_ours("worker", &workers));
    assert!(is_ours("coordinator", &coordinator));
    assert!(!is_ours("coordinator", &workers));
    assert!(!is_ours("worker", &coordinator));
    let other = owner("apps/v1", "ReplicaSet", "count-coordinator-g30-5d9c", "rs");
    assert!(!is_ours("coordinator", &other));
}

#[test]
fn a_list_and_a_watch_with_one_unreadable_object_keep_the_others() {
    let nested = format!("{}1{}", "[".repeat(3_000), "]".repeat(3_000));
    let deep =
        format!(r#"{{"metadata":{{"name":"deep","namespace":"team","uid":"u"}},"spec":{nested}}}"#);
    let odd = r#"{"metadata":{"name":"odd","namespace":"team","uid":"v"},"spec":[]}"#;
    let fine = json!({
        "metadata": {"name": "fine", "namespace": "team", "uid": "w"},
        "spec": crate::children::tests::frozen(json!({})).spec,
    });
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"1"}},"items":[{deep},{odd},{fine}]}}"#
    );
    let list: ObjectList<Seen<SeenJob>> = serde_json::from_str(&text).unwrap();
    let readable: Vec<_> = list
        .items
        .iter()
        .filter_map(|seen| seen.facts.as_ref())
        .map(|job| (job.name.as_str(), job.document().is_ok()))
        .collect();
    assert_eq!(readable, [("deep", false), ("odd", false), ("fine", true)]);
    let event = format!(r#"{{"type":"MODIFIED","object":{deep}}}"#);
    let event: WatchEvent<Seen<SeenJob>> = serde_json::from_str(&event).unwrap();
    assert!(
        matches!(event, WatchEvent::Modified(seen) if seen.facts.as_ref().is_some_and(|job| job.document().is_err()))
    );
}

/// Returns a job of typical size in this phase, as the API server sends it.
fn whole_job(phase: &str) -> String {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "False", "reason": "OutputComplete", "message": "all tasks are committed",
            "lastTransitionTime": "2026-01-01T00:10:00Z", "observedGeneration": 1,
        })
    };
    let kinds = zephyr_crds::conditions::ConditionType::ALL;
    let conditions: Vec<_> = kinds.iter().map(|kind| condition(kind.as_str())).collect();
    let transition = json!({
        "time": "2026-01-01T00:00:00Z", "generation": 1, "from": "Pending", "to": "Running", "reason": "Running",
        "message": "stage 1/2 map",
    });
    let status = json!({
        "phase": phase, "generation": 1, "observedGeneration": 1, "completionTime": "2026-01-01T00:10:00Z",
        "conditions": conditions, "history": vec![transition; 6],
        "generations": [{"generation": 1, "startTime": "2026-01-01T00:00:00Z", "cause": "Succeeded"}],
    });
    json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {
            "name": "count", "namespace": "team", "uid": "uid", "resourceVersion": "7", "generation": 1,
            "labels": {"team": "a"}, "annotations": {LAST_APPLIED: "x".repeat(2_000)},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:pipeline": {}}}}],
        },
        "spec": crate::children::tests::frozen(json!({})).spec,
        "status": status,
    })
    .to_string()
}

#[test]
fn a_job_that_has_ended_is_kept_as_text_and_read_back_unchanged() {
    let read = |phase: &str| {
        let seen: Seen<SeenJob> = serde_json::from_str(&whole_job(phase)).unwrap();
        seen.facts.unwrap()
    };
    let (running, ended) = (read("Running"), read("Succeeded"));
    assert!(matches!(running.kept, KeptJob::Whole(_)));
    let KeptJob::Text(text) = &ended.kept else {
        panic!("{:?}", ended.kept);
    };
    assert!(
        !text.contains("managedFields") && !text.contains("xxx"),
        "{text}"
    );
    let (running, ended) = (running.document().unwrap(), ended.document().unwrap());
    let with_phase = |job: &ZephyrJob| {
        let mut job = json!(job);
        job["status"]["phase"] = json!("Succeeded");
        job
    };
    assert_eq!(with_phase(&running), json!(ended));
}

fn job_with(status: &Value) -> SeenJob {
    let spec = crate::children::tests::frozen(json!({})).spec;
    let job = json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {"name": "count", "namespace": "team", "uid": "job-uid", "resourceVersion": "1", "generation": 1},
        "spec": spec, "status": status,
    });
    read::<SeenJob>(&job).unwrap()
}

#[test]
fn an_end_that_somebody_removes_from_the_status_is_known_until_it_is_restored() {
    let condition = |kind: &str, status: &str| {
        json!({
            "type": kind, "status": status, "reason": "SpecInvalid", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let ended = json!({
        "phase": "Failed", "generation": 1, "completionTime": "2026-01-01T00:00:00Z",
        "conditions": [condition("Finished", "True")],
    });
    let followed = |before: &SeenJob, status: Value| {
        let mut job = job_with(&status);
        job.follow(before);
        job
    };
    let first = job_with(&ended);
    let mut last = first.clone();
    let mut partial = ended.clone();
    partial["conditions"] = json!([]);
    for emptied in [Value::Null, json!({}), json!({"generation": 1}), partial] {
        last = followed(&last, emptied);
        assert_eq!(
            last.lost_end().and_then(|end| end.generation),
            Some(1),
            "also after several changes"
        );
        assert_eq!(last.start_progress(), StartProgress::Aside);
    }
    assert_eq!(followed(&last, ended).lost_end(), None);
    // Another job with the same name.
    let mut other = job_with(&Value::Null);
    other.uid = "other-uid".to_owned();
    other.follow(&first);
    assert_eq!(other.lost_end(), None);
    // A refused job may begin anew.
    let refused = json!({
        "phase": "Failed", "completionTime": "2026-01-01T00:00:00Z",
        "conditions": [condition("Finished", "True"), condition("Accepted", "False")],
    });
    let begun = followed(
        &job_with(&refused),
        json!({"phase": "Pending", "generation": 1}),
    );
    assert_eq!(begun.lost_end(), None);
}
