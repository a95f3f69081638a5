//! Builds the objects of a generation; each kind of object has one file. A builder cannot fail, and
//! uses only the frozen job.
//!
//! Builders use no client and no clock, and do not read existing objects: the same frozen job
//! always gives the same objects.

pub mod coordinator_deployment;
mod pod;
pub mod root_config_map;
pub mod service;
pub mod token_secret;
pub mod worker_stateful_set;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;

/// The name of our container in the pods of both roles.
pub const CONTAINER_NAME: &str = "zephyr";

/// Returns the labels that every child has.
pub fn labels(frozen: &FrozenJob, component: &str) -> BTreeMap<String, String> {
    labels_of(&frozen.name, &frozen.uid, frozen.generation, component)
}

/// Returns the labels of a child of the job with this name and uid.
fn labels_of(name: &str, uid: &str, generation: u32, component: &str) -> BTreeMap<String, String> {
    let generation = generation.to_string();
    [
        (names::LABEL_NAME, names::APPLICATION),
        (names::LABEL_INSTANCE, name),
        (names::LABEL_COMPONENT, component),
        (names::LABEL_MANAGED_BY, names::MANAGER),
        (names::LABEL_PART_OF, names::APPLICATION),
        (names::LABEL_JOB, name),
        (names::LABEL_JOB_UID, uid),
        (names::LABEL_GENERATION, &generation),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Returns the labels by which a Service, Deployment or `StatefulSet` selects its pods. They
/// contain the uid, so pods of another job are never selected.
fn selector(frozen: &FrozenJob, component: &str) -> BTreeMap<String, String> {
    selector_of(&frozen.uid, frozen.generation, component)
}

/// Returns the labels by which the pods of the job with this uid are found.
fn selector_of(uid: &str, generation: u32, component: &str) -> BTreeMap<String, String> {
    [
        (names::LABEL_JOB_UID, uid),
        (names::LABEL_GENERATION, &generation.to_string()),
        (names::LABEL_COMPONENT, component),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Returns the metadata of an object that the generation's root owns.
fn owned_metadata(frozen: &FrozenJob, root_uid: &str, name: String, component: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(frozen.namespace.clone()),
        labels: Some(labels(frozen, component)),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: names::generation_root(&frozen.name, frozen.generation),
            uid: root_uid.to_owned(),
            controller: Some(true),
            // The deletion of the root does not wait for this object, because roots are deleted in
            // the background.
            block_owner_deletion: Some(false),
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Functions that the tests of all builders use.

    use zephyr_crds::frozen::FrozenJob;

    /// Returns generation 2 of a job with default values. The fields of `spec` (a JSON object)
    /// replace the fields of the same name.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a test's literal is handed over"
    )]
    pub(crate) fn frozen(spec: serde_json::Value) -> FrozenJob {
        let mut whole = serde_json::json!({
            "pipeline": {
                "source": {"files": {"paths": ["s3://in/*.jsonl"]}},
                "steps": [],
                "sink": {"files": {"path": "s3://out/part-{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch/zephyr", "credentialsSecret": "s3-credentials"},
            "image": "registry.example/zephyr-worker:1",
            "workers": {"replicas": 4},
        });
        for (key, value) in spec.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        FrozenJob {
            version: 1,
            namespace: "team".to_owned(),
            name: "count".to_owned(),
            uid: "0a1b2c3d-0000-4000-8000-000000000001".to_owned(),
            generation: 2,
            spec: serde_json::from_value(whole).expect("a spec"),
            storage_options: [("aws_region".to_owned(), "eu-1".to_owned())].into(),
            coordinator_address: "http://count-coordinator-g2.team.svc:7070".to_owned(),
            restart: None,
        }
    }

    /// Returns the labels of a child, as JSON.
    pub(crate) fn labels(component: &str) -> serde_json::Value {
        serde_json::json!({
            "app.kubernetes.io/name": "zephyr",
            "app.kubernetes.io/instance": "count",
            "app.kubernetes.io/component": component,
            "app.kubernetes.io/managed-by": "zephyr-operator",
            "app.kubernetes.io/part-of": "zephyr",
            "zephyr.dev/job": "count",
            "zephyr.dev/job-uid": "0a1b2c3d-0000-4000-8000-000000000001",
            "zephyr.dev/generation": "2",
        })
    }

    /// Returns the labels by which pods are selected, as JSON.
    pub(crate) fn selector(component: &str) -> serde_json::Value {
        serde_json::json!({
            "app.kubernetes.io/component": component,
            "zephyr.dev/job-uid": "0a1b2c3d-0000-4000-8000-000000000001",
            "zephyr.dev/generation": "2",
        })
    }

    /// Returns the metadata of an object that the root with uid `root-uid` owns, as JSON.
    pub(crate) fn owned_metadata(name: &str, component: &str) -> serde_json::Value {
        serde_json::json!({
            "name": name,
            "namespace": "team",
            "labels": labels(component),
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "count-g2", "uid": "root-uid",
                "controller": true, "blockOwnerDeletion": false,
            }],
        })
    }
}
