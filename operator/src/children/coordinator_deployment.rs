//! The coordinator's Deployment: one pod, never on a preemptible node, in nobody's way when it has to move.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;
use zephyr_crds::resources::Role;

use super::pod::{self, PodInput};

/// Seconds between SIGTERM and SIGKILL: enough to put one more log object.
const GRACE_SECONDS: i64 = 30;

/// Annotations by which autoscalers leave the coordinator's node alone.
const STAY_ANNOTATIONS: [(&str, &str); 2] =
    [("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true")];

/// The coordinator of `frozen`'s generation.
pub fn build(frozen: &FrozenJob, root_uid: &str) -> Deployment {
    let template = &frozen.spec.coordinator.template;
    let pod = pod::template(PodInput {
        frozen,
        component: names::COMPONENT_COORDINATOR,
        argument: "coordinator",
        resources: frozen.spec.coordinator.resources.effective(Role::Coordinator),
        template,
        annotations: &STAY_ANNOTATIONS,
        node_selector: template.node_selector.clone(),
        affinity: pod::coordinator_affinity(template.affinity.as_ref(), &frozen.spec.workers.preemptible),
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
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }),
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
