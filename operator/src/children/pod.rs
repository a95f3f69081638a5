//! Builds the pod template that both roles share. Each pod field that a user may set is copied
//! explicitly.
//!
//! A field of the user's template that is not copied here cannot reach a pod. Security settings and
//! mounts cannot be set by users.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapEnvSource, ConfigMapKeySelector, ConfigMapVolumeSource,
    Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar, EnvVarSource,
    HTTPGetAction, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec,
    PreferredSchedulingTerm, Probe, ResourceFieldSelector, ResourceRequirements, SeccompProfile,
    SecretEnvSource, SecretKeySelector, SecretVolumeSource, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use zephyr_crds::exec::MountSpec;
use zephyr_crds::frozen::FrozenJob;
use zephyr_crds::names;
use zephyr_crds::pod_template::{
    self as user, NodeOperator, PodTemplate, TaintEffect, TolerationOperator,
};
use zephyr_crds::preemptible::{PreemptibleSpec, SpotProvider};
use zephyr_crds::resources::{EffectiveResources, ResourceAmounts};

use super::{CONTAINER_NAME, token_secret};

/// The id of the user that runs the containers of both roles.
const USER_ID: i64 = 65532;
/// Where the frozen job is mounted.
const JOB_DIRECTORY: &str = "/etc/zephyr";
/// Where the token is mounted.
const TOKEN_DIRECTORY: &str = "/var/run/zephyr/token";
/// The only writable folder, for spill files.
const SCRATCH_DIRECTORY: &str = "/tmp";
/// Where our program, and the certificate authorities that it trusts, are mounted in a container of
/// another image.
const PROGRAM_DIRECTORY: &str = "/zephyr";
const PROGRAM: &str = "/zephyr/zephyr-worker";
const CERTIFICATES: &str = "/zephyr/ca-certificates.crt";
const CERTIFICATES_VARIABLE: &str = "SSL_CERT_FILE";
/// The file mode of the token. Owner and group may read it; the group is the pod's `fsGroup`.
const TOKEN_MODE: i32 = 0o440;
/// After how many seconds a pod is evicted from a node that is not ready or unreachable. The
/// default of Kubernetes, 300, is long for a worker.
const NODE_LOST_SECONDS: i64 = 30;
/// The taints of a node that is not ready or unreachable.
const NODE_LOST_TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
/// How many seconds pass between two readiness probes. The time is short, because status counts
/// ready pods, and the Service routes only to ready pods.
const READINESS_PERIOD_SECONDS: i32 = 3;
/// How many seconds pass between two liveness probes. The time is long, because a restart is the
/// last resort.
const LIVENESS_PERIOD_SECONDS: i32 = 20;
/// How many seconds a probe waits for its answer. This is long enough even if the CPU is
/// overloaded.
const PROBE_TIMEOUT_SECONDS: i32 = 5;
/// How many consecutive probes must fail before the probe counts as failed. One is not enough,
/// because a busy machine may give a single slow answer.
const READINESS_FAILURES: i32 = 2;
const LIVENESS_FAILURES: i32 = 3;

/// The values in which the templates of the two roles differ.
pub(super) struct PodInput<'a> {
    pub(super) frozen: &'a FrozenJob,
    pub(super) component: &'a str,
    /// The role, which is the only argument of the program.
    pub(super) argument: &'a str,
    /// The image of the container; empty = that of our program.
    pub(super) image: &'a str,
    pub(super) mounts: &'a [MountSpec],
    pub(super) resources: EffectiveResources,
    pub(super) template: &'a PodTemplate,
    pub(super) annotations: &'a [(&'a str, &'a str)],
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) affinity: Option<Affinity>,
    pub(super) tolerations: Vec<Toleration>,
    pub(super) grace_seconds: i64,
    pub(super) serves_grpc: bool,
}

/// Builds the pod template of one role. Our labels, annotations and environment variables override
/// the user's with the same name.
pub(super) fn template(input: PodInput<'_>) -> PodTemplateSpec {
    let mut labels = input.template.labels.clone();
    labels.extend(super::labels(input.frozen, input.component));
    let mut annotations = input.template.annotations.clone();
    annotations.extend(
        input
            .annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    let mut tolerations = input.tolerations.clone();
    tolerations.extend(NODE_LOST_TAINTS.iter().map(|key| Toleration {
        key: Some((*key).to_owned()),
        operator: Some("Exists".to_owned()),
        value: None,
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(NODE_LOST_SECONDS),
    }));
    let pull_secrets: Vec<_> = input
        .template
        .image_pull_secrets
        .iter()
        .map(|s| LocalObjectReference {
            name: s.name.clone(),
        })
        .collect();
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            init_containers: install(&input).map(|container| vec![container]),
            containers: vec![container(&input)],
            volumes: Some(volumes(&input)),
            restart_policy: Some("Always".to_owned()),
            termination_grace_period_seconds: Some(input.grace_seconds),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            service_account_name: input.template.service_account_name.clone(),
            priority_class_name: input.template.priority_class_name.clone(),
            scheduler_name: input.template.scheduler_name.clone(),
            image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
            node_selector: (!input.node_selector.is_empty()).then_some(input.node_selector),
            affinity: input.affinity,
            tolerations: Some(tolerations),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER_ID),
                run_as_group: Some(USER_ID),
                fs_group: Some(USER_ID),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
    }
}

/// Returns the coordinator's affinity. The coordinator may run only on nodes that the user's own
/// terms allow, and not on preemptible nodes of the job's provider or of the installation's
/// provider. Labels of other providers are not used, because some clusters refuse keys that they do
/// not know.
pub(super) fn coordinator_affinity(
    wanted: Option<&user::Affinity>,
    preemptible: &PreemptibleSpec,
    of_installation: SpotProvider,
) -> Option<Affinity> {
    let of_installation = Some(of_installation).filter(|one| *one != preemptible.provider);
    let known: Vec<_> = of_installation
        .into_iter()
        .chain([preemptible.provider])
        .filter_map(SpotProvider::label)
        .map(|label| is_not(label.key, label.value))
        .collect();
    // A custom pool consists of the nodes that have *all* of its labels. A node outside the pool
    // lacks at least one of them. So the affinity needs one term for each label.
    let outside: Vec<Vec<NodeSelectorRequirement>> = match preemptible.provider {
        SpotProvider::Custom if !preemptible.node_selector.is_empty() => preemptible
            .node_selector
            .iter()
            .map(|(key, value)| vec![is_not(key, value)])
            .collect(),
        SpotProvider::Gke
        | SpotProvider::Eks
        | SpotProvider::Aks
        | SpotProvider::Karpenter
        | SpotProvider::Custom
        | SpotProvider::None => vec![Vec::new()],
    };
    let node = wanted.and_then(|affinity| affinity.node_affinity.as_ref());
    let wanted_terms: Vec<Vec<NodeSelectorRequirement>> = match node.and_then(|node| {
        node.required_during_scheduling_ignored_during_execution
            .as_ref()
    }) {
        Some(required) => required
            .node_selector_terms
            .iter()
            .map(requirements)
            .collect(),
        None => vec![Vec::new()],
    };
    let terms: Vec<_> = wanted_terms
        .iter()
        .flat_map(|wanted| {
            outside
                .iter()
                .map(|outside| [wanted.as_slice(), known.as_slice(), outside.as_slice()].concat())
        })
        // A term without expressions matches no node at all.
        .filter(|expressions| !expressions.is_empty())
        .map(|expressions| NodeSelectorTerm {
            match_expressions: Some(expressions),
            match_fields: None,
        })
        .collect();
    let required = (!terms.is_empty()).then_some(NodeSelector {
        node_selector_terms: terms,
    });
    let preferred = node.and_then(preferred);
    if required.is_none() && preferred.is_none() {
        return None;
    }
    Some(Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: required,
            preferred_during_scheduling_ignored_during_execution: preferred,
        }),
        ..Affinity::default()
    })
}

/// Converts the user's affinity, without changes.
pub(super) fn affinity(wanted: &user::Affinity) -> Affinity {
    Affinity {
        node_affinity: wanted.node_affinity.as_ref().map(|node| NodeAffinity {
            required_during_scheduling_ignored_during_execution: node
                .required_during_scheduling_ignored_during_execution
                .as_ref()
                .map(|required| NodeSelector {
                    node_selector_terms: required.node_selector_terms.iter().map(term).collect(),
                }),
            preferred_during_scheduling_ignored_during_execution: preferred(node),
        }),
        ..Affinity::default()
    }
}

/// Converts the user's toleration, without changes.
pub(super) fn toleration(wanted: &user::Toleration) -> Toleration {
    Toleration {
        key: Some(wanted.key.clone()),
        operator: wanted.operator.map(|operator| {
            match operator {
                TolerationOperator::Exists => "Exists",
                TolerationOperator::Equal => "Equal",
            }
            .to_owned()
        }),
        value: wanted.value.clone(),
        effect: wanted.effect.map(|effect| {
            match effect {
                TaintEffect::NoSchedule => "NoSchedule",
                TaintEffect::PreferNoSchedule => "PreferNoSchedule",
                TaintEffect::NoExecute => "NoExecute",
            }
            .to_owned()
        }),
        toleration_seconds: wanted.toleration_seconds,
    }
}

fn container(input: &PodInput<'_>) -> Container {
    let mut ports = vec![port("admin", names::ADMIN_PORT)];
    if input.serves_grpc {
        ports.insert(0, port("grpc", names::COORDINATOR_PORT));
    }
    let is_installed = !input.image.is_empty();
    let image = if is_installed {
        input.image
    } else {
        &input.frozen.spec.image
    };
    Container {
        name: CONTAINER_NAME.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: is_installed.then(|| vec![PROGRAM.to_owned()]),
        args: Some(vec![input.argument.to_owned()]),
        env: Some(environment(input)),
        env_from: environment_sources(input.frozen, input.template),
        ports: Some(ports),
        resources: Some(resources(input)),
        volume_mounts: Some(mounts(input)),
        readiness_probe: Some(probe(
            "/readyz",
            READINESS_PERIOD_SECONDS,
            READINESS_FAILURES,
        )),
        liveness_probe: Some(probe(
            "/healthz",
            LIVENESS_PERIOD_SECONDS,
            LIVENESS_FAILURES,
        )),
        security_context: Some(security()),
        ..Container::default()
    }
}

/// Copies our program into a folder of the pod, from where the container of another image runs it.
fn install(input: &PodInput<'_>) -> Option<Container> {
    (!input.image.is_empty()).then(|| Container {
        name: "install".to_owned(),
        image: Some(input.frozen.spec.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["install".to_owned(), PROGRAM_DIRECTORY.to_owned()]),
        // This container does not increase what the pod requests, because it ends before the worker
        // starts.
        resources: Some(resources(input)),
        volume_mounts: Some(vec![mount("program", PROGRAM_DIRECTORY, false)]),
        security_context: Some(security()),
        ..Container::default()
    })
}

fn resources(input: &PodInput<'_>) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(amounts(&input.resources.requests)),
        limits: Some(amounts(&input.resources.limits)),
        claims: None,
    }
}

fn mounts(input: &PodInput<'_>) -> Vec<VolumeMount> {
    let mut all = vec![
        mount("job", JOB_DIRECTORY, true),
        mount("token", TOKEN_DIRECTORY, true),
        mount("scratch", SCRATCH_DIRECTORY, false),
    ];
    let of_user = input.mounts.iter().enumerate();
    all.extend(of_user.map(|(index, wanted)| mount(&mount_name(index), &wanted.path, true)));
    if !input.image.is_empty() {
        all.push(mount("program", PROGRAM_DIRECTORY, true));
    }
    all
}

fn mount_name(index: usize) -> String {
    format!("mount-{index}")
}

fn security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

/// Returns the container's variables: first the user's, then ours. Of two variables with the same
/// name the later one has effect, and a variable overrides `envFrom`.
fn environment(input: &PodInput<'_>) -> Vec<EnvVar> {
    let (frozen, template) = (input.frozen, input.template);
    let mut ours = vec![
        from_field("POD_NAME", "metadata.name"),
        from_field("POD_UID", "metadata.uid"),
        from_limit("ZEPHYR_CPU_LIMIT", "limits.cpu"),
        from_limit("ZEPHYR_MEMORY_LIMIT_BYTES", "limits.memory"),
        // The variable is set even if the job has no limit, because a LimitRange or the provider
        // may add one. Without any limit its value is the size of the whole node, which no pod can
        // exceed.
        from_limit("ZEPHYR_DISK_LIMIT_BYTES", "limits.ephemeral-storage"),
        plain("TMPDIR", SCRATCH_DIRECTORY),
    ];
    if let Some(secret) = &frozen.spec.storage.credentials_secret {
        ours.push(plain(names::CREDENTIALS_SECRET_VARIABLE, secret));
    }
    let mut all: Vec<_> = template
        .env
        .iter()
        .filter(|wanted| ours.iter().all(|own| own.name != wanted.name))
        .map(variable)
        .collect();
    if all.iter().all(|wanted| wanted.name != "RUST_LOG") {
        all.push(plain("RUST_LOG", "info"));
    }
    let is_set = all
        .iter()
        .any(|wanted| wanted.name == CERTIFICATES_VARIABLE);
    if !input.image.is_empty() && !is_set {
        all.push(plain(CERTIFICATES_VARIABLE, CERTIFICATES));
    }
    all.extend(ours);
    all
}

fn plain(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    }
}

fn variable(wanted: &user::EnvVar) -> EnvVar {
    let secret = |key: &user::KeyReference| SecretKeySelector {
        name: key.name.clone(),
        key: key.key.clone(),
        optional: key.optional,
    };
    let config_map = |key: &user::KeyReference| ConfigMapKeySelector {
        name: key.name.clone(),
        key: key.key.clone(),
        optional: key.optional,
    };
    EnvVar {
        name: wanted.name.clone(),
        // A kubelet expands `$(NAME)` and reads `$$` as `$`. So each `$` is doubled, and the
        // container gets the value exactly as the user wrote it.
        value: wanted.value.as_ref().map(|value| value.replace('$', "$$")),
        value_from: wanted.value_from.as_ref().map(|from| EnvVarSource {
            secret_key_ref: from.secret_key_ref.as_ref().map(secret),
            config_map_key_ref: from.config_map_key_ref.as_ref().map(config_map),
            ..EnvVarSource::default()
        }),
    }
}

fn environment_sources(frozen: &FrozenJob, template: &PodTemplate) -> Option<Vec<EnvFromSource>> {
    let secret = |name: &str, optional: Option<bool>| EnvFromSource {
        secret_ref: Some(SecretEnvSource {
            name: name.to_owned(),
            optional,
        }),
        ..EnvFromSource::default()
    };
    let mut all: Vec<_> = template
        .env_from
        .iter()
        .map(|from| EnvFromSource {
            secret_ref: from.secret_ref.as_ref().map(|s| SecretEnvSource {
                name: s.name.clone(),
                optional: s.optional,
            }),
            config_map_ref: from.config_map_ref.as_ref().map(|c| ConfigMapEnvSource {
                name: c.name.clone(),
                optional: c.optional,
            }),
            prefix: None,
        })
        .collect();
    if let Some(credentials) = &frozen.spec.storage.credentials_secret {
        all.push(secret(credentials, None));
    }
    (!all.is_empty()).then_some(all)
}

fn volumes(input: &PodInput<'_>) -> Vec<Volume> {
    let frozen = input.frozen;
    let mut all = vec![
        Volume {
            name: "job".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::generation_root(&frozen.name, frozen.generation),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "token".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(token_secret::name(
                    &frozen.name,
                    &frozen.uid,
                    frozen.generation,
                )),
                default_mode: Some(TOKEN_MODE),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "scratch".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        },
    ];
    all.extend(input.mounts.iter().enumerate().map(|(index, wanted)| {
        Volume {
            name: mount_name(index),
            config_map: wanted
                .config_map
                .as_ref()
                .map(|name| ConfigMapVolumeSource {
                    name: name.clone(),
                    ..ConfigMapVolumeSource::default()
                }),
            secret: wanted.secret.as_ref().map(|name| SecretVolumeSource {
                secret_name: Some(name.clone()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        }
    }));
    if !input.image.is_empty() {
        all.push(Volume {
            name: "program".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
    }
    all
}

fn amounts(wanted: &ResourceAmounts) -> BTreeMap<String, Quantity> {
    wanted
        .entries()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.as_str().to_owned())))
        .collect()
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(names::ADMIN_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(PROBE_TIMEOUT_SECONDS),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn from_limit(name: &str, resource: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            resource_field_ref: Some(ResourceFieldSelector {
                container_name: None,
                resource: resource.to_owned(),
                divisor: Some(Quantity("1".to_owned())),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn is_not(key: &str, value: &str) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: key.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![value.to_owned()]),
    }
}

fn preferred(node: &user::NodeAffinity) -> Option<Vec<PreferredSchedulingTerm>> {
    let all: Vec<_> = node
        .preferred_during_scheduling_ignored_during_execution
        .iter()
        .map(|wanted| PreferredSchedulingTerm {
            weight: wanted.weight,
            preference: term(&wanted.preference),
        })
        .collect();
    (!all.is_empty()).then_some(all)
}

fn term(wanted: &user::NodeSelectorTerm) -> NodeSelectorTerm {
    NodeSelectorTerm {
        match_expressions: Some(requirements(wanted)),
        match_fields: None,
    }
}

fn requirements(wanted: &user::NodeSelectorTerm) -> Vec<NodeSelectorRequirement> {
    wanted
        .match_expressions
        .iter()
        .map(|expression| NodeSelectorRequirement {
            key: expression.key.clone(),
            operator: match expression.operator {
                NodeOperator::In => "In",
                NodeOperator::NotIn => "NotIn",
                NodeOperator::Exists => "Exists",
                NodeOperator::DoesNotExist => "DoesNotExist",
                NodeOperator::Gt => "Gt",
                NodeOperator::Lt => "Lt",
            }
            .to_owned(),
            values: (!expression.values.is_empty()).then(|| expression.values.clone()),
        })
        .collect()
}
