//! Builds the generation's root: an immutable `ConfigMap` with the frozen job. The `ZephyrJob` owns
//! it, and it owns all other objects of the generation.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;

/// Builds the root of `frozen`'s generation. `document` is the frozen job as JSON.
pub fn build(frozen: &FrozenJob, document: String) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::generation_root(&frozen.name, frozen.generation)),
            namespace: Some(frozen.namespace.clone()),
            ..mark(&frozen.name, &frozen.uid, frozen.generation)
        },
        immutable: Some(true),
        data: Some([(names::FROZEN_JOB_KEY.to_owned(), document)].into()),
        binary_data: None,
    }
}

/// Returns metadata with the labels and the owner by which the operator recognizes the root of this
/// job's generation.
pub fn mark(job_name: &str, job_uid: &str, generation: u32) -> ObjectMeta {
    ObjectMeta {
        labels: Some(super::labels_of(
            job_name,
            job_uid,
            generation,
            names::COMPONENT_ROOT,
        )),
        owner_references: Some(vec![OwnerReference {
            api_version: "zephyr.dev/v1alpha1".to_owned(),
            kind: "ZephyrJob".to_owned(),
            name: job_name.to_owned(),
            uid: job_uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::children::tests::{frozen, labels};

    #[test]
    fn the_root_is_immutable_owned_by_the_job_and_holds_the_frozen_job() {
        let built = build(&frozen(json!({})), "{}".to_owned());
        assert_eq!(
            serde_json::to_value(built).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": "count-g2",
                    "namespace": "team",
                    "labels": labels("generation"),
                    "ownerReferences": [{
                        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob", "name": "count",
                        "uid": "0a1b2c3d-0000-4000-8000-000000000001", "controller": true, "blockOwnerDeletion": false,
                    }],
                },
                "immutable": true,
                "data": {"job.json": "{}"},
            })
        );
    }
}
