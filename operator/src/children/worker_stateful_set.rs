//! The workers' `StatefulSet`: pods that may vanish, all started at once, at 0 until the plan is known.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::Toleration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;
use zephyr_crds::preemptible::{PreemptibleSpec, SpotProvider};
use zephyr_crds::resources::Role;

use super::pod::{self, PodInput};

/// Seconds between SIGTERM and SIGKILL: tasks are handed back at once, and providers give spot nodes no more than this.
pub const GRACE_SECONDS: i64 = 15;

/// The workers of `frozen`'s generation. They start at 0 and are scaled when the coordinator reports its plan.
pub fn build(frozen: &FrozenJob, root_uid: &str) -> StatefulSet {
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
        metadata: super::owned_metadata(
            frozen,
            root_uid,
            names::workers(&frozen.name, frozen.generation),
            names::COMPONENT_WORKER,
        ),
        spec: Some(StatefulSetSpec {
            replicas: Some(0),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy { type_: Some("OnDelete".to_owned()), rolling_update: None }),
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

/// Which nodes are preemptible, and what has to be tolerated on them.
struct SpotNodes {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
}

/// The presets of the providers. A taint is tolerated wherever the provider sets it by itself, or commonly advises it.
fn spot_nodes(spec: &PreemptibleSpec) -> SpotNodes {
    let preset = |key: &str, value: &str, taints: &[(&str, &str)]| SpotNodes {
        node_selector: [(key.to_owned(), value.to_owned())].into(),
        tolerations: taints.iter().map(|(key, value)| tolerate(key, value)).collect(),
    };
    match spec.provider {
        SpotProvider::Gke => preset("cloud.google.com/gke-spot", "true", &[("cloud.google.com/gke-spot", "true")]),
        SpotProvider::Eks => {
            preset("eks.amazonaws.com/capacityType", "SPOT", &[("eks.amazonaws.com/capacityType", "SPOT")])
        }
        SpotProvider::Aks => {
            preset("kubernetes.azure.com/scalesetpriority", "spot", &[("kubernetes.azure.com/scalesetpriority", "spot")])
        }
        SpotProvider::Karpenter => {
            preset("karpenter.sh/capacity-type", "spot", &[("karpenter.sh/capacity-type", "spot")])
        }
        SpotProvider::Custom => SpotNodes {
            node_selector: spec.node_selector.clone(),
            tolerations: spec.tolerations.iter().map(pod::toleration).collect(),
        },
        SpotProvider::None => SpotNodes { node_selector: BTreeMap::new(), tolerations: Vec::new() },
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
