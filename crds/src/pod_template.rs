//! The pod fields that a user may set, with the same structure as in Kubernetes. This is a list of
//! what is allowed and not a whole pod template: no field here can reach the host, use another
//! service account's rights by accident, or change the security settings of our own containers.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// The largest number of environment variables of a template.
pub const MAX_ENV: usize = 100;
/// The longest value of an environment variable.
pub const MAX_ENV_VALUE: usize = 4096;
/// The largest number of entries in envFrom.
pub const MAX_ENV_FROM: usize = 20;
/// The largest number of tolerations of a template.
pub const MAX_TOLERATIONS: usize = 20;
/// The largest number of secrets to pull an image with.
pub const MAX_PULL_SECRETS: usize = 10;
/// The largest number of labels, annotations or node labels of a template.
pub const MAX_LABELS: usize = 32;
/// The longest value of an annotation. All allowed annotations together stay far below the size
/// that Kubernetes allows for a pod.
pub const MAX_ANNOTATION_VALUE: usize = 1024;
/// The largest number of terms of an affinity.
pub const MAX_TERMS: usize = 10;
/// Prefixes of environment variables that users cannot set: our own, and those that change how a
/// program is loaded.
pub const RESERVED_ENV_PREFIXES: [&str; 2] = ["ZEPHYR_", "LD_"];
/// Environment variables that the operator sets itself.
pub const RESERVED_ENV_NAMES: [&str; 4] = ["POD_NAME", "POD_UID", "RUST_LOG", "TMPDIR"];
/// The taints of the control plane: workers that run there could take the cluster down.
pub const CONTROL_PLANE_TAINTS: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Pod settings of one role.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(validation = rules::reserved_keys("label"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(validation = rules::reserved_keys("annotation"))]
    pub annotations: BTreeMap<String, String>,
    /// Environment variables of the pods' container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// Secrets and `ConfigMaps` in the job's namespace whose keys become environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub env_from: Vec<EnvFromSource>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Rules by node label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub tolerations: Vec<Toleration>,
    /// Secrets in the job's namespace with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub image_pull_secrets: Vec<LocalReference>,
    /// Service account of the pods; not set = the namespace's default. Its token is never mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub service_account_name: Option<String>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub priority_class_name: Option<String>,
    /// Scheduler of the pods; not set = the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub scheduler_name: Option<String>,
}

/// An environment variable: a value, or a key of a Secret or `ConfigMap`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::environment_source())]
pub struct EnvVar {
    /// The variable's name: letters, digits and underscores. `ZEPHYR_*`, `LD_*`, `POD_NAME`,
    /// `POD_UID`, `RUST_LOG` and `TMPDIR` are reserved.
    #[schemars(length(max = 128))]
    #[x_kube(validation = rules::environment_name())]
    pub name: String,
    /// The variable's value; not set = an empty text, unless valueFrom is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// The object from which the value is taken, instead of value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where a variable's value is taken from: exactly one is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::exactly_one(&["secretKeyRef", "configMapKeyRef"]))]
pub struct EnvVarSource {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// A key of a `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyReference>,
}

/// A key of an object in the job's namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// Name of the object, in the job's namespace.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Whether the pod may start without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// An object whose keys become environment variables: exactly one is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::exactly_one(&["secretRef", "configMapRef"]))]
pub struct EnvFromSource {
    /// A Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<OptionalReference>,
    /// A `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<OptionalReference>,
}

/// An object of the job's namespace that may be optional.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptionalReference {
    /// Name of the object, in the job's namespace.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
    /// Whether the pod may start without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// An object of the job's namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object, in the job's namespace.
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
}

/// Rules by node label.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Rules by node label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
}

/// Rules by node label.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    /// A node must satisfy one of these terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    /// Nodes that satisfy these terms are preferred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredNodeTerm>,
}

/// A node must satisfy one of these terms.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// The terms, of which one must hold.
    #[schemars(length(min = 1, max = 10))]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

/// A term and its weight.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNodeTerm {
    /// How strongly these nodes are preferred to others, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// The term.
    pub preference: NodeSelectorTerm,
}

/// All expressions of a term must hold.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelectorTerm {
    /// The conditions on the node's labels, all of which must hold.
    #[schemars(length(min = 1, max = 20))]
    pub match_expressions: Vec<NodeSelectorRequirement>,
}

/// A condition on one label of a node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelectorRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label's value is compared with values.
    pub operator: NodeOperator,
    /// The values to compare with: none for Exists and `DoesNotExist`, one integer for Gt and Lt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a node label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    /// The label's value is one of the values.
    In,
    /// The label's value is none of the values, or the node lacks the label.
    NotIn,
    /// The node has the label.
    Exists,
    /// The node lacks the label.
    DoesNotExist,
    /// The label's value is an integer greater than the one value.
    Gt,
    /// The label's value is an integer less than the one value.
    Lt,
}

/// A taint that the pods tolerate.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::toleration())]
pub struct Toleration {
    /// The taint's key. The taints of the control plane are not allowed, and neither is an empty
    /// key, which would tolerate every taint.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// Exists or Equal; not set = Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value, for Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// The effect that is tolerated; not set = all effects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For `NoExecute`: how many seconds a pod stays on a node that gets the taint; not set =
    /// forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86_400))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration is compared with a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum TolerationOperator {
    // Any value of the taint is tolerated.
    Exists,
    // Only the given value of the taint is tolerated.
    Equal,
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum TaintEffect {
    // New pods stay off the node.
    NoSchedule,
    // New pods stay off the node if others have room.
    PreferNoSchedule,
    // New pods stay off the node, and those that run there are evicted.
    NoExecute,
}
