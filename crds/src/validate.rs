//! Checks of a spec that need neither data nor compiled expressions. In a cluster the API server
//! has already reported most of these errors; the CLI has no API server, and CEL cannot see or
//! express some of the checks. Pure.

mod aggregates;
mod columns;
mod exec;
mod extension;
mod items;
mod numbers;
mod on_error;
mod pipeline;
mod pods;
mod resources;
mod shards;
mod tables;
pub(crate) mod text;
pub(crate) mod uri;
mod values;

use serde_json::Value;

use crate::duration::DurationText;
pub use crate::field_error::FieldError;
use crate::job::{
    IMAGE_OF_JOB, MAX_SLOTS, MAX_WORKERS, OWN_RELEASE, RetriesSpec, StorageSpec, WorkersSpec,
    ZephyrJobSpec,
};
use crate::life::{CancelMode, DRAIN_TIMEOUT, MAX_CANCEL_REASON, MAX_RESTART};
use crate::names::MAX_JOB_NAME;
use crate::places;
use crate::resources::Role;

/// The largest number of bytes of a spec as JSON: it is copied into a `ConfigMap` for each
/// generation, which is not a place for data.
pub const MAX_SPEC_BYTES: usize = 64 * 1024;

/// Where the job is to run: a cluster reads and writes object stores only; the CLI's local run also
/// uses `file://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a cluster, by the operator.
    Cluster,
    /// On this machine, by `kubectl zephyr run`.
    Local,
}

/// The annotation in which client-side `kubectl apply` stores the manifest as it was written.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Reports what `kubectl apply` dropped from inline items and named values before the API server
/// stored them. `last_applied` is the value of [`LAST_APPLIED`]; if it is not JSON, nothing is
/// reported.
pub fn dropped_by_apply(spec: &ZephyrJobSpec, last_applied: &str) -> Vec<FieldError> {
    let items = spec.pipeline.source.items.as_ref();
    let stored = items.map(|items| items.values.as_slice());
    let mut errors =
        items::dropped_nulls(pipeline::ITEMS, last_applied, stored.unwrap_or_default());
    let stored = spec.pipeline.values.clone().into_iter().collect();
    errors.extend(items::dropped_values(values::VALUES, last_applied, &stored));
    errors
}

/// Whether one of the errors in `message` is about a null that `kubectl apply` dropped. A user who
/// corrects such an error changes the applied manifest, and perhaps not the spec.
pub fn names_dropped_null(message: &str) -> bool {
    message.contains(items::WAS_DROPPED)
}

/// Every error in the spec, in the order of the fields.
pub fn validate(spec: &ZephyrJobSpec, name: &str, place: Place) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(job_name(name));
    errors.extend(size(spec));
    errors.extend(values::validate(&spec.pipeline.values));
    let mut resolved = spec.clone();
    errors.extend(resolved.pipeline.put_values_in_paths());
    errors.extend(pipeline::validate(&resolved.pipeline, place));
    errors.extend(tables::validate(
        &resolved.pipeline.tables,
        &resolved.pipeline.values,
        place,
    ));
    errors.extend(storage(&spec.storage, place));
    errors.extend(places::overlaps(&places::areas(&resolved)));
    errors.extend(text::image("spec.image", &spec.image, OWN_RELEASE));
    errors.extend(resources::validate(
        "spec.coordinator.resources",
        &spec.coordinator.resources,
        Role::Coordinator,
    ));
    errors.extend(pods::template(
        "spec.coordinator.template",
        &spec.coordinator.template,
    ));
    errors.extend(pods::coordinator_is_not_preemptible(spec));
    errors.extend(workers(&spec.workers));
    errors.extend(exec::slots(spec));
    errors.extend(retries(&spec.retries));
    errors.extend(life(spec));
    if let Some(seconds) = spec.ttl_seconds_after_finished {
        errors.extend(numbers::range(
            "spec.ttlSecondsAfterFinished",
            i64::from(seconds),
            0,
            i64::from(i32::MAX),
        ));
    }
    errors
}

fn job_name(name: &str) -> Option<FieldError> {
    let error = |wrong: &str, allowed: &str| {
        Some(FieldError::new("metadata.name", wrong, allowed).got(name))
    };
    if name.is_empty() {
        return Some(FieldError::new(
            "metadata.name",
            "is missing",
            "a name of lower case letters, digits and dashes",
        ));
    }
    if name.len() > MAX_JOB_NAME {
        let allowed =
            format!("at most {MAX_JOB_NAME} characters, because the names of its pods add to it");
        return error("is too long", &allowed);
    }
    if name.contains('.') {
        return error("has a dot", "no dots, because the name becomes a host name");
    }
    let inner = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
    };
    let is_host = name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(inner);
    if is_host {
        None
    } else {
        error(
            "is not a valid host name",
            "lower case letters, digits and dashes, a letter first and no dash last",
        )
    }
}

fn size(spec: &ZephyrJobSpec) -> Option<FieldError> {
    let bytes = serde_json::to_value(spec).map_or(0, |value: Value| value.to_string().len());
    (bytes > MAX_SPEC_BYTES).then(|| {
        FieldError::new(
            "spec",
            "is too large",
            format!("at most {MAX_SPEC_BYTES} bytes as JSON, put records into a file"),
        )
        .got(format!("{bytes} bytes"))
    })
}

fn storage(storage: &StorageSpec, place: Place) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = "spec.storage.uri";
    match uri::validate(path, &storage.uri, place) {
        Some(error) => errors.push(error),
        None if storage.uri.contains(['?', '#', '*', '[', ']', '{', '}']) => errors.push(
            FieldError::new(
                path,
                "has a character that is not allowed",
                "a plain prefix, without ? # * [ ] { }",
            )
            .got(&storage.uri),
        ),
        None => {}
    }
    if let Some(name) = &storage.credentials_secret {
        errors.extend(text::object_name("spec.storage.credentialsSecret", name));
    }
    if let Some(ttl) = &storage.ledger_ttl {
        let bounds = crate::job::LEDGER_TTL;
        errors.extend(numbers::duration("spec.storage.ledgerTTL", ttl, bounds));
    }
    errors
}

fn workers(workers: &WorkersSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (path, number) in [
        ("spec.workers.replicas", workers.replicas),
        ("spec.workers.minReplicas", workers.min_replicas),
        ("spec.workers.maxReplicas", workers.max_replicas),
    ] {
        let number = number.map(i64::from);
        errors
            .extend(number.and_then(|number| numbers::range(path, number, 1, MAX_WORKERS.into())));
    }
    errors.extend(crate::workers::numbers(workers));
    errors.extend(numbers::range(
        "spec.workers.slots",
        workers.slots.into(),
        0,
        MAX_SLOTS.into(),
    ));
    errors.extend(resources::validate(
        "spec.workers.resources",
        &workers.resources,
        Role::Worker,
    ));
    errors.extend(pods::preemptible(
        "spec.workers.preemptible",
        &workers.preemptible,
    ));
    errors.extend(pods::template("spec.workers.template", &workers.template));
    let image = text::image("spec.workers.image", &workers.image, IMAGE_OF_JOB);
    errors.extend(image);
    errors.extend(exec::mounts(&workers.mounts));
    errors
}

/// Returns what is wrong with a drain timeout. `path` is its name in the message.
pub fn drain_timeout(path: &str, text: &DurationText) -> Option<FieldError> {
    numbers::duration(path, text, DRAIN_TIMEOUT)
}

/// The fields that pause a job or end it early.
fn life(spec: &ZephyrJobSpec) -> Vec<FieldError> {
    let drain_timeout = drain_timeout(
        "spec.suspendPolicy.drainTimeout",
        &spec.suspend_policy.drain_timeout,
    );
    let deadlines = [
        ("spec.startDeadlineSeconds", spec.start_deadline_seconds),
        ("spec.activeDeadlineSeconds", spec.active_deadline_seconds),
    ];
    let deadlines = deadlines.into_iter().filter_map(|(path, seconds)| {
        numbers::range(path, i64::from(seconds?), 1, i64::from(i32::MAX))
    });
    let reason = spec.cancel.as_ref().map(|cancel| &cancel.reason);
    let too_long = reason.filter(|reason| reason.chars().count() > MAX_CANCEL_REASON);
    let too_long = too_long.map(|reason| {
        FieldError::new(
            "spec.cancel.reason",
            "is too long",
            format!("at most {MAX_CANCEL_REASON} characters"),
        )
        .got(reason)
    });
    let cancel = spec.cancel.as_ref();
    let removes = cancel
        .filter(|cancel| !cancel.keep_output && cancel.mode == CancelMode::Immediate)
        .map(|_| {
            FieldError::new(
                "spec.cancel.keepOutput",
                "is false, and mode is Immediate",
                "only the coordinator can remove files, so mode must be Graceful",
            )
        });
    let manager = spec.managed_by.as_deref();
    let manager = manager.and_then(|manager| text::manager("spec.managedBy", manager));
    let restart = spec.restart.as_ref();
    let restart = restart.filter(|token| !(1..=MAX_RESTART).contains(&token.chars().count()));
    let restart = restart.map(|token| {
        let allowed = format!("1 to {MAX_RESTART} characters");
        FieldError::new("spec.restart", "is empty or too long", allowed).got(token)
    });
    let ttl = spec.failed_pods_ttl.as_ref();
    let ttl = ttl
        .and_then(|ttl| numbers::duration("spec.failedPodsTTL", ttl, crate::job::FAILED_PODS_TTL));
    let faults = drain_timeout.into_iter().chain(deadlines).chain(ttl);
    let restore = spec.restore_from.as_ref().map(text::restore_from);
    faults
        .chain(restore.unwrap_or_default())
        .chain(too_long)
        .chain(removes)
        .chain(manager)
        .chain(restart)
        .collect()
}

fn retries(retries: &RetriesSpec) -> Vec<FieldError> {
    use crate::job;
    let mut errors = Vec::new();
    errors.extend(numbers::range(
        "spec.retries.maxGenerations",
        retries.max_generations.into(),
        1,
        job::MAX_GENERATIONS.into(),
    ));
    errors.extend(numbers::range(
        "spec.retries.taskFailures",
        retries.task_failures.into(),
        1,
        job::MAX_TASK_FAILURES.into(),
    ));
    errors.extend(numbers::range(
        "spec.retries.taskDisruptions",
        retries.task_disruptions.into(),
        0,
        job::MAX_TASK_DISRUPTIONS.into(),
    ));
    errors.extend(numbers::range(
        "spec.retries.backoff.factor",
        retries.backoff.factor.into(),
        1,
        job::MAX_BACKOFF_FACTOR.into(),
    ));
    for (path, text, bounds) in [
        (
            "spec.retries.backoff.initial",
            &retries.backoff.initial,
            job::BACKOFF_INITIAL,
        ),
        (
            "spec.retries.backoff.max",
            &retries.backoff.max,
            job::MAX_BACKOFF,
        ),
        (
            "spec.retries.noWorkersTimeout",
            &retries.no_workers_timeout,
            job::NO_WORKERS_TIMEOUT,
        ),
        (
            "spec.retries.coordinatorTimeout",
            &retries.coordinator_timeout,
            job::COORDINATOR_TIMEOUT,
        ),
        (
            "spec.retries.taskStallTimeout",
            &retries.task_stall_timeout,
            job::TASK_STALL_TIMEOUT,
        ),
    ] {
        errors.extend(numbers::duration(path, text, bounds));
    }
    if let Some(text) = &retries.task_timeout {
        let path = "spec.retries.taskTimeout";
        errors.extend(numbers::duration(path, text, job::TASK_TIMEOUT));
    }
    if let (Ok(initial), Ok(max)) = (retries.backoff.initial.parse(), retries.backoff.max.parse())
        && initial > max
    {
        let error = FieldError::new(
            "spec.retries.backoff.initial",
            "is longer than max",
            "at most spec.retries.backoff.max",
        );
        errors.push(error.got(retries.backoff.initial.as_str()));
    }
    errors
}

#[cfg(test)]
mod tests;
