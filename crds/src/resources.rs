//! CPU, memory and scratch space of one pod, with the defaults. Builds no pod.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::QuantityText;
use crate::rules;

/// What a pod gets. A request that is not set equals the limit; a limit that is not set equals the
/// request; if neither is set, the role's default applies.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::request_within_limit("cpu"),
    validation = rules::request_within_limit("memory"),
    validation = rules::request_within_limit("ephemeral-storage")
)]
pub struct ResourcesSpec {
    /// What the scheduler reserves for the pod; not set = the same as limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceAmounts>,
    /// The most that the pod may use; not set = the same as requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceAmounts>,
}

/// Amounts by resource.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ResourceAmounts {
    /// Number of CPUs, such as 2, or 500m for half of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::quantity())]
    pub cpu: Option<QuantityText>,
    /// Bytes of memory, at least 128Mi, such as 512Mi or 2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::quantity(), validation = rules::memory())]
    pub memory: Option<QuantityText>,
    /// Bytes of the node's disk, such as 10Gi. Data is sorted there if it does not fit into memory.
    /// Not set in requests and limits = no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::quantity())]
    pub ephemeral_storage: Option<QuantityText>,
}

/// The role of a pod. The roles have different defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one coordinator of a generation.
    Coordinator,
    /// A worker of the set.
    Worker,
}

/// The least memory of a pod in mebibytes: with less memory the process does not start.
pub const MINIMUM_MEMORY_MEBIBYTES: i64 = 128;

/// Requests and limits with all defaults filled in; only `ephemeral_storage` may be absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveResources {
    /// What the scheduler reserves.
    pub requests: ResourceAmounts,
    /// What the container may use at most.
    pub limits: ResourceAmounts,
}

impl ResourcesSpec {
    /// The resources of a pod of `role`.
    pub fn effective(&self, role: Role) -> EffectiveResources {
        let default_memory = match role {
            Role::Coordinator => "512Mi",
            Role::Worker => "1Gi",
        };
        let requests = self.requests.clone().unwrap_or_default();
        let limits = self.limits.clone().unwrap_or_default();
        let fill = |mine: &Option<QuantityText>, other: &Option<QuantityText>, default: &str| {
            mine.clone()
                .or_else(|| other.clone())
                .or_else(|| Some(QuantityText::new(default)))
        };
        let either = |mine: &Option<QuantityText>, other: &Option<QuantityText>| {
            mine.clone().or_else(|| other.clone())
        };
        EffectiveResources {
            requests: ResourceAmounts {
                cpu: fill(&requests.cpu, &limits.cpu, "1"),
                memory: fill(&requests.memory, &limits.memory, default_memory),
                ephemeral_storage: either(&requests.ephemeral_storage, &limits.ephemeral_storage),
            },
            limits: ResourceAmounts {
                cpu: fill(&limits.cpu, &requests.cpu, "1"),
                memory: fill(&limits.memory, &requests.memory, default_memory),
                ephemeral_storage: either(&limits.ephemeral_storage, &requests.ephemeral_storage),
            },
        }
    }
}

impl ResourceAmounts {
    /// The amounts that are set, by their Kubernetes names.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &QuantityText)> {
        [
            ("cpu", &self.cpu),
            ("memory", &self.memory),
            ("ephemeral-storage", &self.ephemeral_storage),
        ]
        .into_iter()
        .filter_map(|(name, amount)| amount.as_ref().map(|amount| (name, amount)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(cpu: Option<&str>, memory: Option<&str>) -> ResourceAmounts {
        ResourceAmounts {
            cpu: cpu.map(QuantityText::new),
            memory: memory.map(QuantityText::new),
            ephemeral_storage: None,
        }
    }

    #[test]
    fn a_missing_request_or_limit_is_taken_from_the_other_or_from_the_default() {
        let nothing = ResourcesSpec::default().effective(Role::Coordinator);
        assert_eq!(nothing.requests, amounts(Some("1"), Some("512Mi")));
        assert_eq!(nothing.limits, nothing.requests);

        let spec = ResourcesSpec {
            requests: Some(amounts(Some("250m"), None)),
            limits: Some(amounts(None, Some("2Gi"))),
        };
        let filled = spec.effective(Role::Worker);
        assert_eq!(filled.requests, amounts(Some("250m"), Some("2Gi")));
        assert_eq!(filled.limits, amounts(Some("250m"), Some("2Gi")));
    }
}
