//! Preemptible ("spot") nodes of the cloud providers: the labels and taints that identify them.
//! Builds no pod.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod_template::Toleration;
use crate::{rules, schema};

/// On which preemptible nodes the workers run.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::custom_provider())]
pub struct PreemptibleSpec {
    /// gke, eks, aks or karpenter = the spot nodes of that provider; custom = the nodes that
    /// nodeSelector and tolerations select; none = any node. Not set = none.
    #[serde(default)]
    pub provider: SpotProvider,
    /// Labels of the preemptible nodes. Required for provider custom; not allowed for the others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of the preemptible nodes, which the workers tolerate. Allowed for provider custom
    /// only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub tolerations: Vec<Toleration>,
}

/// The provider whose spot nodes are used.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SpotProvider {
    /// Google Kubernetes Engine.
    Gke,
    /// Amazon Elastic Kubernetes Service with managed node groups.
    Eks,
    /// Azure Kubernetes Service.
    Aks,
    /// Any cluster whose nodes Karpenter creates.
    Karpenter,
    /// Nodes with the labels and taints that the job names.
    Custom,
    /// Workers run on any node.
    #[default]
    None,
}

/// A label that marks preemptible nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpotLabel {
    /// The label's key.
    pub key: &'static str,
    /// The label's value on a preemptible node.
    pub value: &'static str,
}

impl SpotProvider {
    /// Every provider.
    pub const ALL: [Self; 6] = [
        Self::Gke,
        Self::Eks,
        Self::Aks,
        Self::Karpenter,
        Self::Custom,
        Self::None,
    ];

    /// The label by which the provider marks its preemptible nodes.
    pub fn label(self) -> Option<SpotLabel> {
        let (key, value) = match self {
            Self::Gke => ("cloud.google.com/gke-spot", "true"),
            Self::Eks => ("eks.amazonaws.com/capacityType", "SPOT"),
            Self::Aks => ("kubernetes.azure.com/scalesetpriority", "spot"),
            Self::Karpenter => ("karpenter.sh/capacity-type", "spot"),
            Self::Custom | Self::None => return None,
        };
        Some(SpotLabel { key, value })
    }
}

/// Every label by which a known provider marks preemptible nodes: no coordinator may select any of
/// them.
pub const SPOT_LABELS: [SpotLabel; 6] = [
    SpotLabel {
        key: "cloud.google.com/gke-spot",
        value: "true",
    },
    SpotLabel {
        key: "cloud.google.com/gke-preemptible",
        value: "true",
    },
    SpotLabel {
        key: "eks.amazonaws.com/capacityType",
        value: "SPOT",
    },
    SpotLabel {
        key: "kubernetes.azure.com/scalesetpriority",
        value: "spot",
    },
    SpotLabel {
        key: "karpenter.sh/capacity-type",
        value: "spot",
    },
    SpotLabel {
        key: "node.kubernetes.io/lifecycle",
        value: "spot",
    },
];
