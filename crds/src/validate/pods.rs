//! Validates the pod settings of both roles, and the nodes on which they run.

use std::collections::{BTreeMap, BTreeSet};

use super::{numbers, text};
use crate::field_error::FieldError;
use crate::job::ZephyrJobSpec;
use crate::pod_template::{
    CONTROL_PLANE_TAINTS, EnvFromSource, EnvVar, MAX_ANNOTATION_VALUE, MAX_ENV, MAX_ENV_FROM,
    MAX_ENV_VALUE, MAX_LABELS, MAX_PULL_SECRETS, MAX_TERMS, MAX_TOLERATIONS, NodeOperator,
    NodeSelectorRequirement, NodeSelectorTerm, PodTemplate, TaintEffect, Toleration,
    TolerationOperator,
};
use crate::preemptible::{PreemptibleSpec, SPOT_LABELS, SpotProvider};

pub(super) fn template(path: &str, template: &PodTemplate) -> Vec<FieldError> {
    let mut errors = counts(path, template);
    let labels = format!("{path}.labels");
    errors.extend(node_labels(&labels, &template.labels));
    errors.extend(
        template
            .labels
            .keys()
            .filter_map(|key| text::reserved_key(&labels, "label", key)),
    );
    let annotations = format!("{path}.annotations");
    for (key, value) in &template.annotations {
        errors.extend(
            text::qualified_key(&annotations, key)
                .or_else(|| text::reserved_key(&annotations, "annotation", key)),
        );
        let length = value.chars().count();
        errors.extend(numbers::at_most(
            &format!("{annotations}[{key}]"),
            "characters",
            length,
            MAX_ANNOTATION_VALUE,
        ));
    }
    errors.extend(environment(&format!("{path}.env"), &template.env));
    for (index, source) in template.env_from.iter().enumerate() {
        errors.extend(environment_from(
            &format!("{path}.envFrom[{index}]"),
            source,
        ));
    }
    errors.extend(node_labels(
        &format!("{path}.nodeSelector"),
        &template.node_selector,
    ));
    errors.extend(affinity(path, template));
    for (index, each) in template.tolerations.iter().enumerate() {
        errors.extend(toleration(&format!("{path}.tolerations[{index}]"), each));
    }
    for (index, secret) in template.image_pull_secrets.iter().enumerate() {
        errors.extend(text::object_name(
            &format!("{path}.imagePullSecrets[{index}].name"),
            &secret.name,
        ));
    }
    for (name, value) in [
        ("serviceAccountName", &template.service_account_name),
        ("priorityClassName", &template.priority_class_name),
        ("schedulerName", &template.scheduler_name),
    ] {
        errors.extend(
            value
                .as_ref()
                .and_then(|value| text::object_name(&format!("{path}.{name}"), value)),
        );
    }
    errors
}

fn counts(path: &str, template: &PodTemplate) -> Vec<FieldError> {
    let node_affinity = template
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = node_affinity.map_or(0, |affinity| {
        affinity
            .preferred_during_scheduling_ignored_during_execution
            .len()
    });
    [
        ("labels", "labels", template.labels.len(), MAX_LABELS),
        (
            "annotations",
            "annotations",
            template.annotations.len(),
            MAX_LABELS,
        ),
        ("env", "variables", template.env.len(), MAX_ENV),
        ("envFrom", "objects", template.env_from.len(), MAX_ENV_FROM),
        (
            "nodeSelector",
            "labels",
            template.node_selector.len(),
            MAX_LABELS,
        ),
        (
            "tolerations",
            "tolerations",
            template.tolerations.len(),
            MAX_TOLERATIONS,
        ),
        (
            "imagePullSecrets",
            "secrets",
            template.image_pull_secrets.len(),
            MAX_PULL_SECRETS,
        ),
        (
            "affinity.nodeAffinity",
            "required terms",
            required_terms(template).len(),
            MAX_TERMS,
        ),
        (
            "affinity.nodeAffinity",
            "preferred terms",
            preferred,
            MAX_TERMS,
        ),
    ]
    .into_iter()
    .filter_map(|(field, what, count, greatest)| {
        numbers::at_most(&format!("{path}.{field}"), what, count, greatest)
    })
    .collect()
}

pub(super) fn preemptible(path: &str, preemptible: &PreemptibleSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let has_settings = !preemptible.node_selector.is_empty() || !preemptible.tolerations.is_empty();
    if preemptible.provider == SpotProvider::Custom && preemptible.node_selector.is_empty() {
        errors.push(FieldError::new(
            format!("{path}.nodeSelector"),
            "is missing",
            "provider custom needs the labels of its nodes",
        ));
    }
    if preemptible.provider != SpotProvider::Custom && has_settings {
        let allowed = "remove them or set provider: custom";
        errors.push(FieldError::new(
            path,
            "has nodeSelector or tolerations although provider is not custom",
            allowed,
        ));
    }
    let count = preemptible.tolerations.len();
    errors.extend(numbers::at_most(
        &format!("{path}.tolerations"),
        "tolerations",
        count,
        MAX_TOLERATIONS,
    ));
    errors.extend(node_labels(
        &format!("{path}.nodeSelector"),
        &preemptible.node_selector,
    ));
    for (index, each) in preemptible.tolerations.iter().enumerate() {
        errors.extend(toleration(&format!("{path}.tolerations[{index}]"), each));
    }
    errors
}

/// The coordinator's own selector may select neither known spot nodes nor the workers' own
/// preemptible pool.
pub(super) fn coordinator_is_not_preemptible(spec: &ZephyrJobSpec) -> Option<FieldError> {
    let template = &spec.coordinator.template;
    let selector = &template.node_selector;
    let pool = &spec.workers.preemptible.node_selector;
    let selects_spot = SPOT_LABELS.iter().any(|label| {
        selector
            .get(label.key)
            .is_some_and(|value| value == label.value)
    });
    let selects_pool = !pool.is_empty()
        && pool
            .iter()
            .all(|(key, value)| selector.get(key) == Some(value));
    let allowed = "the coordinator must not be preemptible, select other nodes or none";
    if selects_spot || selects_pool {
        return Some(FieldError::new(
            "spec.coordinator.template.nodeSelector",
            "selects preemptible nodes",
            allowed,
        ));
    }
    let terms = required_terms(template);
    let only_spot = !terms.is_empty()
        && terms
            .iter()
            .all(|term| term.match_expressions.iter().any(requires_spot));
    only_spot.then(|| {
        FieldError::new(
            "spec.coordinator.template.affinity.nodeAffinity",
            "allows preemptible nodes only",
            allowed,
        )
    })
}

fn requires_spot(requirement: &NodeSelectorRequirement) -> bool {
    let is_spot = |value: &String| {
        SPOT_LABELS
            .iter()
            .any(|label| label.key == requirement.key && label.value == value)
    };
    requirement.operator == NodeOperator::In
        && !requirement.values.is_empty()
        && requirement.values.iter().all(is_spot)
}

fn required_terms(template: &PodTemplate) -> &[NodeSelectorTerm] {
    template
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        })
        .map(|selector| selector.node_selector_terms.as_slice())
        .unwrap_or_default()
}

fn node_labels(path: &str, labels: &BTreeMap<String, String>) -> Vec<FieldError> {
    labels
        .iter()
        .filter_map(|(key, value)| {
            text::qualified_key(path, key)
                .or_else(|| text::label_value(&format!("{path}[{key}]"), value))
        })
        .collect()
}

fn environment(path: &str, variables: &[EnvVar]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let path = format!("{path}[{index}]");
        errors.extend(text::environment_name(
            &format!("{path}.name"),
            &variable.name,
        ));
        if !seen.insert(&variable.name) {
            errors.push(
                FieldError::new(format!("{path}.name"), "is set twice", "each variable once")
                    .got(&variable.name),
            );
        }
        let length = variable
            .value
            .as_ref()
            .map_or(0, |value| value.chars().count());
        errors.extend(numbers::at_most(
            &format!("{path}.value"),
            "characters",
            length,
            MAX_ENV_VALUE,
        ));
        if variable
            .value
            .as_ref()
            .is_some_and(|value| value.contains('\0'))
        {
            errors.push(FieldError::new(
                format!("{path}.value"),
                "has a NUL character",
                "any text without NUL",
            ));
        }
        let Some(source) = &variable.value_from else {
            continue;
        };
        if variable.value.is_some() {
            errors.push(FieldError::new(
                &path,
                "has both value and valueFrom",
                "only one of them",
            ));
        }
        let references = [
            ("secretKeyRef", &source.secret_key_ref),
            ("configMapKeyRef", &source.config_map_key_ref),
        ];
        let set = references
            .iter()
            .filter(|(_, reference)| reference.is_some())
            .count();
        errors.extend(one_reference(
            &format!("{path}.valueFrom"),
            set,
            "secretKeyRef, configMapKeyRef",
        ));
        for (name, reference) in references {
            let name = format!("{path}.valueFrom.{name}.name");
            errors.extend(
                reference
                    .as_ref()
                    .and_then(|reference| text::object_name(&name, &reference.name)),
            );
        }
    }
    errors
}

fn environment_from(path: &str, source: &EnvFromSource) -> Vec<FieldError> {
    let references = [
        ("secretRef", &source.secret_ref),
        ("configMapRef", &source.config_map_ref),
    ];
    let set = references
        .iter()
        .filter(|(_, reference)| reference.is_some())
        .count();
    let mut errors: Vec<FieldError> = one_reference(path, set, "secretRef, configMapRef")
        .into_iter()
        .collect();
    for (name, reference) in references {
        let name = format!("{path}.{name}.name");
        errors.extend(
            reference
                .as_ref()
                .and_then(|reference| text::object_name(&name, &reference.name)),
        );
    }
    errors
}

fn one_reference(path: &str, set: usize, names: &str) -> Option<FieldError> {
    (set != 1).then(|| {
        FieldError::new(
            path,
            "must have exactly one field",
            format!("exactly one of {names}"),
        )
        .got(set)
    })
}

fn affinity(path: &str, template: &PodTemplate) -> Vec<FieldError> {
    let path = format!("{path}.affinity.nodeAffinity");
    let mut errors = Vec::new();
    for (index, term) in required_terms(template).iter().enumerate() {
        let path = format!(
            "{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]"
        );
        errors.extend(node_term(&path, term));
    }
    let node_affinity = template
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    for (index, preferred) in node_affinity
        .iter()
        .flat_map(|affinity| &affinity.preferred_during_scheduling_ignored_during_execution)
        .enumerate()
    {
        let path = format!("{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]");
        errors.extend(numbers::range(
            &format!("{path}.weight"),
            preferred.weight.into(),
            1,
            100,
        ));
        errors.extend(node_term(
            &format!("{path}.preference"),
            &preferred.preference,
        ));
    }
    errors
}

fn node_term(path: &str, term: &NodeSelectorTerm) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, requirement) in term.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        errors.extend(text::qualified_key(
            &format!("{path}.key"),
            &requirement.key,
        ));
        let count = requirement.values.len();
        let is_number = || {
            requirement
                .values
                .iter()
                .all(|value| value.parse::<i64>().is_ok())
        };
        let (fits, allowed) = match requirement.operator {
            NodeOperator::In | NodeOperator::NotIn => {
                (count > 0, "at least one value with In and NotIn")
            }
            NodeOperator::Exists | NodeOperator::DoesNotExist => {
                (count == 0, "no values with Exists and DoesNotExist")
            }
            NodeOperator::Gt | NodeOperator::Lt => {
                (count == 1 && is_number(), "one whole number with Gt and Lt")
            }
        };
        if !fits {
            errors.push(
                FieldError::new(
                    format!("{path}.values"),
                    "does not fit the operator",
                    allowed,
                )
                .got(requirement.values.join(", ")),
            );
        }
        errors.extend(
            requirement
                .values
                .iter()
                .filter_map(|value| text::label_value(&format!("{path}.values"), value)),
        );
    }
    errors
}

fn toleration(path: &str, toleration: &Toleration) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if CONTROL_PLANE_TAINTS.contains(&toleration.key.as_str()) {
        let allowed = "any taint except those of the control plane";
        errors.push(
            FieldError::new(path, "tolerates a taint that is not allowed", allowed)
                .got(&toleration.key),
        );
    }
    errors.extend(text::qualified_key(&format!("{path}.key"), &toleration.key));
    if let Some(value) = &toleration.value {
        errors.extend(text::label_value(&format!("{path}.value"), value));
        if toleration.operator == Some(TolerationOperator::Exists) && !value.is_empty() {
            errors.push(
                FieldError::new(
                    path,
                    "has a value although operator is Exists",
                    "no value, or operator Equal",
                )
                .got(value),
            );
        }
    }
    if let Some(seconds) = toleration.toleration_seconds
        && toleration.effect != Some(TaintEffect::NoExecute)
    {
        let path = format!("{path}.tolerationSeconds");
        errors.push(
            FieldError::new(
                path,
                "is set without effect NoExecute",
                "set effect: NoExecute or leave it out",
            )
            .got(seconds),
        );
    }
    errors
}
