//! Defines the kinds of objects that the server knows. This module contains no objects.

/// One kind, as the API server serves it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent properties of a kind"
)]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KindFacts {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    /// Whether it has a status subresource. Then a write to the object does not change the status.
    pub(crate) has_status: bool,
    /// Whether the server increments `metadata.generation` with each change of the spec.
    pub(crate) counts_generation: bool,
    pub(crate) is_namespaced: bool,
    /// Whether the items of a list have no `kind` and `apiVersion`, as for all kinds except custom
    /// resources.
    pub(crate) is_built_in: bool,
}

/// An index into [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(usize);

/// All kinds that the operator, the controllers and the tests use.
static KINDS: [KindFacts; 14] = [
    built_in("", "namespaces", "Namespace"),
    built_in("", "configmaps", "ConfigMap"),
    built_in("", "secrets", "Secret"),
    built_in("", "services", "Service"),
    built_in("", "pods", "Pod"),
    built_in("", "nodes", "Node"),
    built_in("", "events", "Event"),
    built_in("events.k8s.io", "events", "Event"),
    built_in("apps", "deployments", "Deployment"),
    built_in("apps", "statefulsets", "StatefulSet"),
    built_in("coordination.k8s.io", "leases", "Lease"),
    built_in(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    ),
    KindFacts {
        group: "zephyr.dev",
        version: "v1alpha1",
        plural: "zephyrjobs",
        kind: "ZephyrJob",
        has_status: true,
        counts_generation: true,
        is_namespaced: true,
        is_built_in: false,
    },
    built_in("apps", "replicasets", "ReplicaSet"),
];

pub(crate) const NAMESPACES: Kind = Kind(0);
pub(crate) const CONFIG_MAPS: Kind = Kind(1);
pub(crate) const SECRETS: Kind = Kind(2);
pub(crate) const PODS: Kind = Kind(4);
pub(crate) const NODES: Kind = Kind(5);
pub(crate) const EVENTS: Kind = Kind(7);
pub(crate) const DEPLOYMENTS: Kind = Kind(8);
pub(crate) const STATEFUL_SETS: Kind = Kind(9);
pub(crate) const DEFINITIONS: Kind = Kind(11);
pub(crate) const JOBS: Kind = Kind(12);
pub(crate) const REPLICA_SETS: Kind = Kind(13);

const fn built_in(group: &'static str, plural: &'static str, kind: &'static str) -> KindFacts {
    // Deployments, StatefulSets, Pods, Nodes, Services, Namespaces and definitions have a status
    // subresource.
    let has_status = matches!(
        plural.as_bytes(),
        b"deployments"
            | b"statefulsets"
            | b"pods"
            | b"nodes"
            | b"services"
            | b"namespaces"
            | b"customresourcedefinitions"
    );
    KindFacts {
        group,
        version: "v1",
        plural,
        kind,
        has_status,
        counts_generation: matches!(
            plural.as_bytes(),
            b"deployments"
                | b"statefulsets"
                | b"replicasets"
                | b"pods"
                | b"customresourcedefinitions"
        ),
        is_namespaced: !matches!(
            plural.as_bytes(),
            b"namespaces" | b"nodes" | b"customresourcedefinitions"
        ),
        is_built_in: true,
    }
}

impl Kind {
    /// Returns the kind with this group, version and plural.
    pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<Self> {
        let index = KINDS
            .iter()
            .position(|one| one.group == group && one.version == version && one.plural == plural)?;
        // The two APIs of events show the same objects.
        Some(if Self(index).facts().plural == "events" {
            EVENTS
        } else {
            Self(index)
        })
    }

    /// Returns the kind in an owner reference.
    pub(crate) fn of_owner(api_version: &str, kind: &str) -> Option<Self> {
        KINDS
            .iter()
            .position(|one| one.kind == kind && one.api_version() == api_version)
            .map(Self)
    }

    pub(crate) fn facts(self) -> &'static KindFacts {
        &KINDS[self.0]
    }
}

impl KindFacts {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns its name in messages, such as `statefulsets.apps`.
    pub(crate) fn qualified(&self) -> String {
        self.in_group(self.plural)
    }

    /// Returns its name in messages about one field, such as `StatefulSet.apps`.
    pub(crate) fn qualified_kind(&self) -> String {
        self.in_group(self.kind)
    }

    fn in_group(&self, word: &str) -> String {
        if self.group.is_empty() {
            word.to_owned()
        } else {
            format!("{word}.{}", self.group)
        }
    }
}
