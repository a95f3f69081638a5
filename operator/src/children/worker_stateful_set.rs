//! Builds the workers' `StatefulSet`. Its pods may run on preemptible nodes. No pod is started
//! until the plan is known; then all are started at once.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;
use zephyr_crds::preemptible::{PreemptibleSpec, SpotLabel, SpotProvider};
use zephyr_crds::resources::Role;

use super::pod::{self, PodInput};

/// How many seconds pass between SIGTERM and SIGKILL. A worker hands its tasks back at once, and
/// some providers give a spot node no more time than this.
pub const GRACE_SECONDS: i64 = 15;

/// Builds the workers of `frozen`'s generation. `replicas` is 0 until the coordinator has reported
/// its plan. If the set was deleted and is created again, `replicas` is the number that the plan
/// requires, so pods that still exist from the deleted set continue.
pub fn build(frozen: &FrozenJob, root_uid: &str, replicas: u32) -> StatefulSet {
    let workers = &frozen.spec.workers;
    let spot = spot_nodes(&workers.preemptible);
    let mut node_selector = spot.node_selector;
    node_selector.extend(workers.template.node_selector.clone());
    let mut tolerations = spot.tolerations;
    tolerations.extend(workers.template.tolerations.iter().map(pod::toleration));
    let pod = pod::template(PodInput {
        frozen,
        component: names::COMPONENT_WORKER,
        argument: "worker",
        image: &workers.image,
        mounts: &workers.mounts,
        resources: workers.resources.effective(Role::Worker),
        template: &workers.template,
        annotations: &[],
        node_selector,
        affinity: workers.template.affinity.as_ref().map(pod::affinity),
        tolerations,
        grace_seconds: GRACE_SECONDS,
        serves_grpc: false,
    });
    StatefulSet {
        metadata: ObjectMeta {
            annotations: Some(scaled_to(replicas)),
            ..super::owned_metadata(
                frozen,
                root_uid,
                names::workers(&frozen.name, frozen.generation),
                names::COMPONENT_WORKER,
            )
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(super::selector(frozen, names::COMPONENT_WORKER)),
                match_expressions: None,
            },
            revision_history_limit: Some(0),
            template: pod,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// Returns the annotation with the number of workers that the operator requested. If the spec of
/// the set has another number, somebody else wrote that number.
pub fn scaled_to(replicas: u32) -> BTreeMap<String, String> {
    [(names::ANNOTATION_SCALED_TO.to_owned(), replicas.to_string())].into()
}

/// The labels of preemptible nodes, and the taints to tolerate on them.
struct SpotNodes {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
}

/// Returns the labels and taints of the job's provider. A provider's taint has the same key as its
/// label; the provider sets the taint itself, or recommends it.
fn spot_nodes(spec: &PreemptibleSpec) -> SpotNodes {
    if let Some(SpotLabel { key, value }) = spec.provider.label() {
        return SpotNodes {
            node_selector: [(key.to_owned(), value.to_owned())].into(),
            tolerations: vec![tolerate(key, value)],
        };
    }
    match spec.provider {
        SpotProvider::Custom => SpotNodes {
            node_selector: spec.node_selector.clone(),
            tolerations: spec.tolerations.iter().map(pod::toleration).collect(),
        },
        SpotProvider::Gke
        | SpotProvider::Eks
        | SpotProvider::Aks
        | SpotProvider::Karpenter
        | SpotProvider::None => SpotNodes {
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        },
    }
}

fn tolerate(key: &str, value: &str) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        operator: Some("Equal".to_owned()),
        value: Some(value.to_owned()),
        effect: Some("NoSchedule".to_owned()),
        toleration_seconds: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::children::tests::{frozen, labels, owned_metadata, selector};

    fn built(spec: Value) -> Value {
        serde_json::to_value(build(&frozen(spec), "root-uid", 0)).unwrap()
    }

    fn pod(spec: Value) -> Value {
        built(spec)["spec"]["template"]["spec"].clone()
    }

    fn node_lost() -> Vec<Value> {
        ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
            .map(|key| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}))
            .into()
    }

    #[test]
    fn the_set_begins_with_no_worker_starts_all_at_once_and_never_rolls() {
        let set = built(json!({}));
        let mut metadata = owned_metadata("count-workers-g2", "worker");
        metadata["annotations"] = json!({"zephyr.dev/scaled-to": "0"});
        assert_eq!(set["metadata"], metadata);
        let mut spec = set["spec"].clone();
        let template = spec.as_object_mut().unwrap().remove("template").unwrap();
        assert_eq!(
            spec,
            json!({
                "replicas": 0,
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "OnDelete"},
                "revisionHistoryLimit": 0,
                "selector": {"matchLabels": selector("worker")},
            })
        );
        assert_eq!(template["metadata"], json!({"labels": labels("worker")}));
        assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 15);
        assert_eq!(template["spec"]["tolerations"], json!(node_lost()));
        assert_eq!(template["spec"].get("nodeSelector"), None);
        assert_eq!(template["spec"].get("affinity"), None);
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["args"], json!(["worker"]));
        assert_eq!(
            container["ports"],
            json!([{"name": "admin", "containerPort": 8081, "protocol": "TCP"}])
        );
        assert_eq!(
            container["resources"]["limits"],
            json!({"cpu": "1", "memory": "1Gi"})
        );
    }

    #[test]
    fn each_provider_has_its_label_and_its_taint() {
        for (provider, key, value) in [
            ("gke", "cloud.google.com/gke-spot", "true"),
            ("eks", "eks.amazonaws.com/capacityType", "SPOT"),
            ("aks", "kubernetes.azure.com/scalesetpriority", "spot"),
            ("karpenter", "karpenter.sh/capacity-type", "spot"),
        ] {
            let pod =
                pod(json!({"workers": {"replicas": 1, "preemptible": {"provider": provider}}}));
            assert_eq!(pod["nodeSelector"], json!({key: value}), "{provider}");
            let mut tolerations = vec![
                json!({"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}),
            ];
            tolerations.extend(node_lost());
            assert_eq!(pod["tolerations"], json!(tolerations), "{provider}");
        }
    }

    #[test]
    fn a_custom_pool_is_used_unchanged_and_the_template_adds_to_it() {
        let pod = pod(json!({"workers": {
            "replicas": 1,
            "preemptible": {
                "provider": "custom",
                "nodeSelector": {"pool": "cheap"},
                "tolerations": [{"key": "cheap", "operator": "Exists", "effect": "NoSchedule"}],
            },
            "template": {
                "nodeSelector": {"zone": "a"},
                "tolerations": [{"key": "mine", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 5}],
            },
        }}));
        assert_eq!(pod["nodeSelector"], json!({"pool": "cheap", "zone": "a"}));
        let mut tolerations = vec![
            json!({"key": "cheap", "operator": "Exists", "effect": "NoSchedule"}),
            json!({"key": "mine", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 5}),
        ];
        tolerations.extend(node_lost());
        assert_eq!(pod["tolerations"], json!(tolerations));
    }

    #[test]
    fn every_field_of_a_users_template_reaches_the_pod_and_our_fields_win() {
        let set = built(json!({"workers": {
            "replicas": 1,
            "resources": {"limits": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi"}, "requests": {"cpu": "500m"}},
            "template": {
                "labels": {"team": "x"},
                "annotations": {"note": "y"},
                "env": [
                    {"name": "PRICE", "value": "$(HOME) costs $5"},
                    {"name": "RUST_LOG", "value": "debug"},
                    {"name": "POD_UID", "value": "forged"},
                    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
                    {"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                ],
                "envFrom": [{"secretRef": {"name": "more"}}, {"configMapRef": {"name": "settings", "optional": true}}],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}},
                ]}},
                "imagePullSecrets": [{"name": "pull"}],
                "serviceAccountName": "plain",
                "priorityClassName": "low",
                "schedulerName": "other",
            },
        }}));
        let template = &set["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["team"], "x");
        assert_eq!(template["metadata"]["labels"]["zephyr.dev/job"], "count");
        assert_eq!(template["metadata"]["annotations"], json!({"note": "y"}));
        let pod = &template["spec"];
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
        assert_eq!(pod["serviceAccountName"], "plain");
        assert_eq!(pod["priorityClassName"], "low");
        assert_eq!(pod["schedulerName"], "other");
        assert_eq!(
            pod["affinity"]["nodeAffinity"],
            json!({"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}},
            ]})
        );
        let container = &pod["containers"][0];
        assert_eq!(
            container["envFrom"],
            json!([
                {"secretRef": {"name": "more"}},
                {"configMapRef": {"name": "settings", "optional": true}},
                {"secretRef": {"name": "s3-credentials"}},
            ])
        );
        assert_eq!(
            container["env"].as_array().unwrap()[..4],
            [
                json!({"name": "PRICE", "value": "$$(HOME) costs $$5"}),
                json!({"name": "RUST_LOG", "value": "debug"}),
                json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}),
                json!({"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}),
            ]
        );
        assert_eq!(
            container["resources"],
            json!({
                "requests": {"cpu": "500m", "memory": "4Gi", "ephemeral-storage": "10Gi"},
                "limits": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi"},
            })
        );
    }

    #[test]
    fn a_workers_own_image_gets_our_program_and_its_files_and_stays_as_restricted() {
        let plain = pod(json!({"workers": {"replicas": 1}}));
        let own = pod(json!({"workers": {
            "replicas": 1,
            "image": "python:3.12",
            "mounts": [{"path": "/scripts", "configMap": "clean"}, {"path": "/model", "secret": "key"}],
        }}));
        let (before, container) = (&plain["containers"][0], &own["containers"][0]);
        assert_eq!(container["image"], "python:3.12");
        assert_eq!(container["command"], json!(["/zephyr/zephyr-worker"]));
        assert_eq!(before.get("command"), None);
        let mounts = container["volumeMounts"].as_array().unwrap();
        let ours = before["volumeMounts"].as_array().unwrap();
        assert!(mounts.starts_with(ours));
        assert_eq!(
            mounts[ours.len()..],
            [
                json!({"name": "mount-0", "mountPath": "/scripts", "readOnly": true}),
                json!({"name": "mount-1", "mountPath": "/model", "readOnly": true}),
                json!({"name": "program", "mountPath": "/zephyr", "readOnly": true}),
            ]
        );
        let certificates = json!({"name": "SSL_CERT_FILE", "value": "/zephyr/ca-certificates.crt"});
        assert!(container["env"].as_array().unwrap().contains(&certificates));
        for field in [
            "args",
            "securityContext",
            "resources",
            "readinessProbe",
            "livenessProbe",
            "envFrom",
            "ports",
        ] {
            assert_eq!(container[field], before[field], "{field}");
        }
        assert_eq!(own["securityContext"], plain["securityContext"]);
        assert_eq!(
            own["initContainers"],
            json!([{
                "name": "install",
                "image": before["image"],
                "imagePullPolicy": "IfNotPresent",
                "args": ["install", "/zephyr"],
                "resources": before["resources"],
                "securityContext": before["securityContext"],
                "volumeMounts": [{"name": "program", "mountPath": "/zephyr"}],
            }])
        );
        assert_eq!(plain.get("initContainers"), None);
        let volumes = own["volumes"].as_array().unwrap();
        assert_eq!(
            volumes[plain["volumes"].as_array().unwrap().len()..],
            [
                json!({"name": "mount-0", "configMap": {"name": "clean"}}),
                json!({"name": "mount-1", "secret": {"secretName": "key"}}),
                json!({"name": "program", "emptyDir": {}}),
            ]
        );
    }

    #[test]
    fn fault_f19_a_worker_receives_the_disk_limit_of_its_namespace() {
        // The kubelet sets this value, after a LimitRange has given the container its limit.
        let set = built(json!({}));
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let disk_limit = json!({
            "name": "ZEPHYR_DISK_LIMIT_BYTES",
            "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "1"}},
        });
        assert!(container["env"].as_array().unwrap().contains(&disk_limit));
    }
}
