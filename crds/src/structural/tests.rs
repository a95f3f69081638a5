//! Tests of the checks against the schema. They ask no API server; `tests/tests/admission.rs`
//! compares the checks with the answers of a real one.

use serde_json::{Value, json};

use super::admit;

fn good() -> Value {
    json!({
        "apiVersion": "zephyr.dev/v1alpha1",
        "kind": "ZephyrJob",
        "metadata": {"name": "count", "labels": {"a": "b"}, "annotations": {"Example.com/x": "1"}},
        "spec": {
            "pipeline": {
                "source": {"items": {"values": [1, null, {"a": null}], "shards": 1}},
                "steps": [{"map": "."}],
                "sink": {"files": {"path": "s3://out/{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch/zephyr"},
            "workers": {"replicas": 1},
        },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut object = good();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let place = object.pointer_mut(parent).expect("the parent is there");
    match name.parse::<usize>() {
        Ok(index) => place[index] = value,
        Err(_) => place[name] = value,
    }
    object
}

#[test]
fn a_good_object_is_accepted_unchanged() {
    let admitted = admit(&good());
    assert_eq!(admitted.errors, []);
    assert_eq!(admitted.object, good());
}

#[test]
fn a_value_of_another_type_is_refused_with_field_value_and_what_is_allowed() {
    let text = "must be text, in quotes if YAML would read it as another type";
    let number = "must be a whole number without quotes";
    let table = [
        ("/spec/pipeline/steps/0/map", json!(1), format!("spec.pipeline.steps[0].map: is a number (got 1); {text}")),
        ("/spec/pipeline/steps/0", json!({"filter": true}), format!("spec.pipeline.steps[0].filter: is a boolean (got true); {text}")),
        ("/spec/pipeline/steps/0", json!({"select": [1]}), format!("spec.pipeline.steps[0].select[0]: is a number (got 1); {text}")),
        ("/spec/pipeline/steps/0", json!({"map": {"a": null}}), format!("spec.pipeline.steps[0].map: is a map (got {{\"a\":null}}); {text}")),
        ("/spec/workers/replicas", json!("1"), format!("spec.workers.replicas: is text (got \"1\"); {number}")),
        ("/spec/workers/replicas", json!(1.5), format!("spec.workers.replicas: is not a whole number of 64 bits (got 1.5); {number}")),
        ("/spec/ttlSecondsAfterFinished", json!("1h"), format!("spec.ttlSecondsAfterFinished: is text (got \"1h\"); {number}")),
        ("/spec/ttlSecondsAfterFinished", json!(1_u64 << 40), "spec.ttlSecondsAfterFinished: is out of range (got 1099511627776); must be 0..2147483647".to_owned()),
        ("/spec/pipeline/source/items/values", json!(null), "spec.pipeline.source.items.values: is missing; required: a list".to_owned()),
        ("/spec/pipeline/steps/0", json!(null), "spec.pipeline.steps[0]: is null (got null); must be a map".to_owned()),
        ("/metadata/labels", json!({"a": 1}), "metadata.labels[a]: is a number (got 1); must be text, so put the value in quotes".to_owned()),
        ("/metadata/annotations", json!({"a": false}), "metadata.annotations[a]: is a boolean (got false); must be text, so put the value in quotes".to_owned()),
        ("/metadata/labels", json!({"a": "b c"}), "metadata.labels[a]: is not a valid label value (got b c)".to_owned()),
        ("/metadata/nmae", json!("x"), "metadata.nmae: unknown field; did you mean \"name\"?".to_owned()),
        ("/spec/pipeline/steps/0", json!({"count": {"x": 1}}), "spec.pipeline.steps[0].count.x: unknown field".to_owned()),
        ("/spec/storage/retain", json!("Sometimes"), "spec.storage.retain: is not a known value (got Sometimes); one of Never, OnFailure, Always".to_owned()),
        ("/spec/pipeline/sink/files/format", json!(null), "spec.pipeline.sink.files.format: is not a known value (got null); one of jsonl, text".to_owned()),
        ("/spec/image", json!("x".repeat(513)), "spec.image: is too long (got 513 characters); at most 512 characters".to_owned()),
        ("/spec", json!([]), "spec: is a list (got []); must be a map".to_owned()),
    ];
    for (pointer, value, words) in table {
        let errors = admit(&with(pointer, value)).errors;
        let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(
            said.len() == 1 && said[0].starts_with(&words),
            "{pointer}: must say {words:?}, says {said:?}"
        );
    }
}

#[test]
fn a_null_counts_as_a_field_that_is_not_there() {
    let optional = admit(&with("/spec/image", json!(null)));
    assert_eq!(optional.errors, []);
    assert_eq!(optional.object, good());
    let required = admit(&with("/spec/pipeline/sink/files/path", json!(null)));
    assert_eq!(
        required
            .errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        [
            "spec.pipeline.sink.files.path: is missing; required: text, in quotes if YAML would read it as another type"
        ]
    );
}

#[test]
fn only_the_names_of_the_fields_of_a_status_are_checked() {
    for (status, words) in [
        (json!({"phase": 1}), None),
        (json!(1), None),
        (
            json!({"phsae": "x"}),
            Some("status.phsae: unknown field; did you mean \"phase\"?"),
        ),
    ] {
        let mut object = good();
        object["status"] = status;
        let admitted = admit(&object);
        assert_eq!(
            admitted.errors.first().map(ToString::to_string).as_deref(),
            words
        );
        assert_eq!(admitted.object, good());
    }
}

#[test]
fn nulls_of_metadata_are_empty_or_absent() {
    let admitted = admit(&with("/metadata/labels", json!({"a": null})));
    assert_eq!(admitted.errors, []);
    assert_eq!(admitted.object["metadata"]["labels"], json!({"a": ""}));
    let admitted = admit(&with("/metadata/creationTimestamp", json!(null)));
    assert_eq!(admitted.object, good());
}

#[test]
fn owners_and_finalizers_have_names() {
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"});
    assert_eq!(
        admit(&with("/metadata/ownerReferences", json!([owner]))).errors,
        []
    );
    assert_eq!(
        admit(&with("/metadata/finalizers", json!(["a/x"]))).errors,
        []
    );
    for (pointer, value, words) in [
        (
            "/metadata/ownerReferences",
            json!([{}]),
            "metadata.ownerReferences[0].apiVersion: is missing; required: text",
        ),
        (
            "/metadata/ownerReferences",
            json!([1]),
            "metadata.ownerReferences[0]: is a number (got 1); must be a map",
        ),
        (
            "/metadata/finalizers",
            json!([1]),
            "metadata.finalizers[0]: is a number (got 1); must be text",
        ),
        (
            "/metadata/finalizers",
            json!(["a b"]),
            "metadata.finalizers[0]: has a key that is not valid (got a b)",
        ),
    ] {
        let errors = admit(&with(pointer, value)).errors;
        let first = errors.first().expect("it is refused").to_string();
        assert!(first.starts_with(words), "{first}");
    }
}

#[test]
fn a_whole_number_with_a_point_is_an_integer() {
    let admitted = admit(&with("/spec/workers/replicas", json!(4.0)));
    assert_eq!(admitted.errors, []);
    assert_eq!(admitted.object["spec"]["workers"]["replicas"], json!(4));
}
