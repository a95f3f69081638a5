//! Tests that a frozen job is read from its text exactly as it was written, and that an error names
//! what makes a text unusable: a missing part, an unknown field, or another version.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use zephyr_crds::frozen::{FROZEN_JOB_VERSION, FrozenJob};

fn frozen() -> Result<FrozenJob, serde_json::Error> {
    let spec = json!({
        "pipeline": {
            "source": {"items": {"values": [1, 1.5, "a", null, {"b": [true]}]}},
            "steps": [{"select": ["a", "b.c"]}, {"groupBy": {"key": ".", "aggregate": {"n": {"sum": ".n"}}}}],
            "sink": {"files": {"path": "s3://out/{shard}.jsonl", "compression": "zst"}},
        },
        "storage": {"uri": "s3://scratch/zephyr"},
        "workers": {"replicas": 2, "resources": {"limits": {"cpu": 2}}},
    });
    Ok(FrozenJob {
        version: FROZEN_JOB_VERSION,
        namespace: "team".to_owned(),
        name: "count".to_owned(),
        uid: "0f45bab7".to_owned(),
        generation: 3,
        spec: serde_json::from_value(spec)?,
        storage_options: BTreeMap::from([(
            "aws_endpoint".to_owned(),
            "http://minio:9000".to_owned(),
        )]),
        coordinator_address: "http://count-coordinator-g3.team.svc:7070".to_owned(),
        restart: None,
    })
}

/// The error for the document with one change in it; empty if the document is accepted.
fn changed(change: impl FnOnce(&mut Value)) -> Result<String, serde_json::Error> {
    let mut document = json!(frozen()?);
    change(&mut document);
    Ok(FrozenJob::from_json(&document.to_string())
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default())
}

#[test]
fn a_frozen_job_is_read_as_it_was_written() {
    let job = frozen().expect("a frozen job");
    let text = job.to_json().expect("text");
    assert_eq!(FrozenJob::from_json(&text).expect("read"), job);
}

#[test]
fn another_version_is_reported_before_anything_else() {
    let document = json!({"version": 2, "something": "new", "spec": "not a spec"});
    let error = FrozenJob::from_json(&document.to_string()).expect_err("must be refused");
    assert_eq!(
        error.to_string(),
        "job.json: version 2 is not supported; this release reads version 1"
    );
}

#[test]
fn missing_and_unknown_parts_are_named() {
    for (field, nothing) in [
        ("namespace", json!("")),
        ("name", json!("")),
        ("uid", json!("")),
        ("coordinatorAddress", json!("")),
        ("generation", json!(0)),
    ] {
        let said = changed(|document| document[field] = nothing).expect("a document");
        assert_eq!(
            said,
            format!("job.json: {field} is missing; every generation carries it")
        );
    }
    let without_uid =
        changed(|document| drop(document.as_object_mut().expect("object").remove("uid")))
            .expect("a document");
    assert!(without_uid.contains("missing field `uid`"), "{without_uid}");
}

#[test]
fn a_field_of_another_release_is_refused_in_what_is_read_and_written_only() {
    let outside = changed(|document| {
        document["epoch"] = json!(1);
        document["spec"]["retries"]["taskTimeout"] = json!("5m");
    });
    assert_eq!(outside.expect("a document"), "");
    for (pointer, field) in [
        ("/spec/pipeline", "spec.pipeline.sorted"),
        (
            "/spec/pipeline/sink/files",
            "spec.pipeline.sink.files.sorted",
        ),
        ("/spec/storage", "spec.storage.sorted"),
    ] {
        let said = changed(|document| {
            document.pointer_mut(pointer).expect("it is there")["sorted"] = json!(true);
        })
        .expect("a document");
        assert_eq!(
            said,
            format!(
                "job.json: {field}: this release does not know the field; run the job with the \
                 image of the release that wrote job.json"
            )
        );
    }
}
