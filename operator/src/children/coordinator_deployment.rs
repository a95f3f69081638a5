//! Builds the coordinator's Deployment: one pod that never runs on a preemptible node.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;
use zephyr_crds::preemptible::SpotProvider;
use zephyr_crds::resources::Role;

use super::pod::{self, PodInput};

/// How many seconds pass between SIGTERM and SIGKILL. This is enough to write one more log object
/// to the store.
const GRACE_SECONDS: i64 = 30;

/// Annotations that tell autoscalers not to remove the coordinator's node.
const STAY_ANNOTATIONS: [(&str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
];

/// Builds the coordinator of `frozen`'s generation. The coordinator avoids the preemptible nodes of
/// the job's provider and those of `spot_provider`, which is a setting of the installation.
pub fn build(frozen: &FrozenJob, root_uid: &str, spot_provider: SpotProvider) -> Deployment {
    let template = &frozen.spec.coordinator.template;
    let pod = pod::template(PodInput {
        frozen,
        component: names::COMPONENT_COORDINATOR,
        argument: "coordinator",
        image: "",
        mounts: &[],
        resources: frozen
            .spec
            .coordinator
            .resources
            .effective(Role::Coordinator),
        template,
        annotations: &STAY_ANNOTATIONS,
        node_selector: template.node_selector.clone(),
        affinity: pod::coordinator_affinity(
            template.affinity.as_ref(),
            &frozen.spec.workers.preemptible,
            spot_provider,
        ),
        tolerations: template.tolerations.iter().map(pod::toleration).collect(),
        grace_seconds: GRACE_SECONDS,
        serves_grpc: true,
    });
    Deployment {
        metadata: super::owned_metadata(
            frozen,
            root_uid,
            names::coordinator(&frozen.name, frozen.generation),
            names::COMPONENT_COORDINATOR,
        ),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(super::selector(frozen, names::COMPONENT_COORDINATOR)),
                match_expressions: None,
            },
            revision_history_limit: Some(0),
            template: pod,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::children::tests::{frozen, labels, owned_metadata, selector};

    fn is_not(key: &str, value: &str) -> serde_json::Value {
        json!({"key": key, "operator": "NotIn", "values": [value]})
    }

    fn terms(spec: serde_json::Value) -> serde_json::Value {
        let built =
            serde_json::to_value(build(&frozen(spec), "root-uid", SpotProvider::None)).unwrap();
        built["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            ["nodeSelectorTerms"]
            .clone()
    }

    #[test]
    fn fault_4956_the_coordinator_of_a_job_with_every_default_is_exactly_this() {
        let built = serde_json::to_value(build(&frozen(json!({})), "root-uid", SpotProvider::None))
            .unwrap();
        assert_eq!(
            built,
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": owned_metadata("count-coordinator-g2", "coordinator"),
                "spec": {
                    "replicas": 1,
                    "strategy": {"type": "Recreate"},
                    "revisionHistoryLimit": 0,
                    "selector": {"matchLabels": selector("coordinator")},
                    "template": {
                        "metadata": {
                            "labels": labels("coordinator"),
                            "annotations": {
                                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                                "karpenter.sh/do-not-disrupt": "true",
                            },
                        },
                        "spec": {
                            "containers": [{
                                "name": "zephyr",
                                "image": "registry.example/zephyr-worker:1",
                                "imagePullPolicy": "IfNotPresent",
                                "args": ["coordinator"],
                                "env": [
                                    {"name": "RUST_LOG", "value": "info"},
                                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                                    {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
                                    {"name": "ZEPHYR_CPU_LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}}},
                                    {"name": "ZEPHYR_MEMORY_LIMIT_BYTES", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1"}}},
                                    {"name": "ZEPHYR_DISK_LIMIT_BYTES", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "1"}}},
                                    {"name": "TMPDIR", "value": "/tmp"},
                                    {"name": "ZEPHYR_CREDENTIALS_SECRET", "value": "s3-credentials"},
                                ],
                                "envFrom": [{"secretRef": {"name": "s3-credentials"}}],
                                "ports": [
                                    {"name": "grpc", "containerPort": 7070, "protocol": "TCP"},
                                    {"name": "admin", "containerPort": 8081, "protocol": "TCP"},
                                ],
                                "resources": {
                                    "requests": {"cpu": "1", "memory": "512Mi"},
                                    "limits": {"cpu": "1", "memory": "512Mi"},
                                },
                                "volumeMounts": [
                                    {"name": "job", "mountPath": "/etc/zephyr", "readOnly": true},
                                    {"name": "token", "mountPath": "/var/run/zephyr/token", "readOnly": true},
                                    {"name": "scratch", "mountPath": "/tmp"},
                                ],
                                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 3, "timeoutSeconds": 5, "failureThreshold": 2},
                                "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 20, "timeoutSeconds": 5, "failureThreshold": 3},
                                "securityContext": {
                                    "allowPrivilegeEscalation": false,
                                    "privileged": false,
                                    "readOnlyRootFilesystem": true,
                                    "runAsNonRoot": true,
                                    "capabilities": {"drop": ["ALL"]},
                                    "seccompProfile": {"type": "RuntimeDefault"},
                                },
                            }],
                            "volumes": [
                                {"name": "job", "configMap": {"name": "count-g2"}},
                                {"name": "token", "secret": {"secretName": "count-token-0a1b2c3d-g2", "defaultMode": 0o440}},
                                {"name": "scratch", "emptyDir": {}},
                            ],
                            "restartPolicy": "Always",
                            "terminationGracePeriodSeconds": 30,
                            "automountServiceAccountToken": false,
                            "enableServiceLinks": false,
                            "tolerations": [
                                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
                                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
                            ],
                            "securityContext": {
                                "runAsNonRoot": true,
                                "runAsUser": 65532,
                                "runAsGroup": 65532,
                                "fsGroup": 65532,
                                "seccompProfile": {"type": "RuntimeDefault"},
                            },
                        },
                    },
                },
            })
        );
    }

    #[test]
    fn fault_4956_the_coordinator_avoids_only_the_spot_nodes_of_the_jobs_provider() {
        for (provider, key, value) in [
            ("gke", "cloud.google.com/gke-spot", "true"),
            ("eks", "eks.amazonaws.com/capacityType", "SPOT"),
            ("aks", "kubernetes.azure.com/scalesetpriority", "spot"),
            ("karpenter", "karpenter.sh/capacity-type", "spot"),
        ] {
            assert_eq!(
                terms(json!({"workers": {"replicas": 1, "preemptible": {"provider": provider}}})),
                json!([{"matchExpressions": [is_not(key, value)]}])
            );
        }
        assert_eq!(terms(json!({})), serde_json::Value::Null);
    }

    #[test]
    fn a_node_without_one_of_a_custom_pools_labels_is_outside_the_pool() {
        let custom = json!({"workers": {"replicas": 1, "preemptible": {
            "provider": "custom", "nodeSelector": {"arch": "arm64", "pool": "spot"},
        }}});
        let term = |key: &str, value: &str| json!({"matchExpressions": [is_not(key, value)]});
        assert_eq!(
            terms(custom),
            json!([term("arch", "arm64"), term("pool", "spot")])
        );
    }

    #[test]
    fn a_users_own_terms_hold_beside_ours() {
        let zone = json!({"key": "zone", "operator": "In", "values": ["a"]});
        let disk = json!({"key": "disk", "operator": "Exists"});
        let spec = |provider: &str| {
            json!({
                "workers": {"replicas": 1, "preemptible": {"provider": provider}},
                "coordinator": {"template": {"affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [zone]}, {"matchExpressions": [disk]},
                    ]},
                }}}},
            })
        };
        let spot = is_not("karpenter.sh/capacity-type", "spot");
        assert_eq!(
            terms(spec("karpenter")),
            json!([{"matchExpressions": [zone, spot]}, {"matchExpressions": [disk, spot]}])
        );
        assert_eq!(
            terms(spec("none")),
            json!([{"matchExpressions": [zone]}, {"matchExpressions": [disk]}])
        );
    }
}
