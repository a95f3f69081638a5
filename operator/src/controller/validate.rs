//! Converts what the user wrote into values that the plan can rely on. Every mistake in a job's
//! spec is found by admission or by this module.
//!
//! Pure: no client, no clock.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use zephyr_crds::conditions::{ConditionStatus, ConditionType};
use zephyr_crds::duration::DurationText;
use zephyr_crds::field_error::FieldError;
use zephyr_crds::job::{Retain, RetriesSpec, ZephyrJob, ZephyrJobSpec};
use zephyr_crds::pod_template::{NodeOperator, NodeSelectorRequirement, NodeSelectorTerm};
use zephyr_crds::preemptible::SpotProvider;
use zephyr_crds::status::{Phase, ZephyrJobStatus};
use zephyr_crds::validate::{
    LAST_APPLIED, Place, dropped_by_apply, names_dropped_null, validate as validate_spec,
};

use super::observed::Observed;
use crate::identity::JobIdentity;

/// The finalizer with which the API server marks a deleted object whose children must not be
/// deleted.
const FINALIZER_ORPHAN: &str = "orphan";
/// The finalizer with which the API server marks a deleted object whose children are deleted first.
const FINALIZER_FOREGROUND: &str = "foregroundDeletion";

/// A job whose settings can be used without further checks.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedJob {
    /// The job's name, namespace and uid.
    pub identity: JobIdentity,
    /// The job's version. Each write of status, and the deletion of the job, requires that it is
    /// unchanged.
    pub resource_version: String,
    /// `metadata.generation`: the version of the spec.
    pub spec_version: Option<i64>,
    /// The spec as written, with the schema's defaults.
    pub spec: ZephyrJobSpec,
    /// The durations of the spec, parsed.
    pub timing: Timing,
    /// The status that was written last; the default if there is none.
    pub status: ZephyrJobStatus,
    /// Whether deletion was requested.
    pub deleted: bool,
    /// Whether the job's objects must not be deleted with it (`--cascade=orphan`).
    pub orphans: bool,
    /// The finalizers that somebody else set, in order. Each of them keeps a deleted job in the
    /// cluster.
    pub finalizers: Vec<String>,
    /// Whether the job was refused because `kubectl apply` had dropped a null, and the manifest
    /// that was applied since contains no null.
    pub is_applied_again: bool,
}

/// Whether a generation may begin with this spec.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A generation may begin, because the spec has no errors.
    Accepted,
    /// A generation may begin although newer rules refuse the spec, because the job has already
    /// begun with exactly this spec.
    BegunBefore(Vec<FieldError>),
    /// No generation may begin. A running generation continues, because its settings are frozen.
    Refused(Vec<FieldError>),
}

/// The durations of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a generation may have no worker that is alive.
    pub no_workers_timeout: Timeout,
    /// How long a generation may be without its coordinator.
    pub coordinator_timeout: Timeout,
    /// The wait before the second generation.
    pub backoff_initial: Duration,
    /// The factor by which the wait grows with each generation; at least 1.
    pub backoff_factor: u32,
    /// The longest wait before a generation.
    pub backoff_max: Duration,
}

/// A duration that messages show as the spec writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeout {
    /// The duration as text.
    pub text: DurationText,
    /// The length of time.
    pub length: Duration,
}

/// An object that the API server should never return.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the metadata is missing.
    #[error("read ZephyrJob {name}: metadata.{field} is missing")]
    Metadata {
        /// Name of the job.
        name: String,
        /// Name of the field.
        field: &'static str,
    },
}

/// The parts of a job that determine its errors. If the parts are equal, the errors are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecVersion {
    uid: String,
    generation: i64,
    /// A hash of the annotation that `kubectl apply` wrote.
    applied: Option<u64>,
}

impl SpecVersion {
    /// Returns these parts of `job`, or `None` if its metadata has no `generation`.
    pub fn of(job: &ZephyrJob) -> Option<Self> {
        let applied = job.annotations().get(LAST_APPLIED).map(|written| {
            let mut hasher = DefaultHasher::new();
            written.hash(&mut hasher);
            hasher.finish()
        });
        Some(Self {
            uid: job.uid()?,
            generation: job.metadata.generation?,
            applied,
        })
    }
}

/// Extracts the parts of `job`, and lists the errors in its spec. [`Verdict::of`] decides what
/// follows from the errors.
pub fn validate(job: &ZephyrJob) -> Result<(ValidatedJob, Vec<FieldError>), Error> {
    Ok((extract(job)?, errors(job)))
}

/// Returns the errors in a job's spec. For a large spec, this takes longer than everything else in
/// a reconcile.
pub fn errors(job: &ZephyrJob) -> Vec<FieldError> {
    let mut errors = validate_spec(&job.spec, &job.name_any(), Place::Cluster);
    if let Some(written) = job.annotations().get(LAST_APPLIED) {
        errors.extend(dropped_by_apply(&job.spec, written));
    }
    errors
}

/// Extracts the parts of `job`, even if its spec has errors.
pub fn extract(job: &ZephyrJob) -> Result<ValidatedJob, Error> {
    let name = job.name_any();
    let missing = |field| Error::Metadata {
        name: name.clone(),
        field,
    };
    let namespace = job.namespace().ok_or_else(|| missing("namespace"))?;
    let uid = job.uid().ok_or_else(|| missing("uid"))?;
    let resource_version = job
        .resource_version()
        .ok_or_else(|| missing("resourceVersion"))?;
    Ok(ValidatedJob {
        spec_version: job.metadata.generation,
        timing: Timing::of(&job.spec.retries),
        status: job.status.clone().unwrap_or_default(),
        deleted: job.metadata.deletion_timestamp.is_some(),
        finalizers: foreign_finalizers(job),
        orphans: job.finalizers().iter().any(|one| one == FINALIZER_ORPHAN),
        is_applied_again: is_applied_again(job),
        spec: job.spec.clone(),
        identity: JobIdentity {
            namespace,
            name,
            uid,
        },
        resource_version,
    })
}

fn foreign_finalizers(job: &ZephyrJob) -> Vec<String> {
    let of_the_server = [FINALIZER_ORPHAN, FINALIZER_FOREGROUND];
    let all = job.finalizers().iter();
    let foreign = all.filter(|one| !of_the_server.contains(&one.as_str()));
    let mut foreign: Vec<_> = foreign.cloned().collect();
    foreign.sort();
    foreign
}

/// Returns whether the job was refused and has been changed since. Then it begins as a new job. A
/// refused job that was not changed stays ended, even if this release would accept it.
pub fn begins_anew(job: &ZephyrJob) -> bool {
    job.status.as_ref().is_some_and(|status| {
        let is_changed = job.metadata.generation != status.observed_generation;
        status.refusal().is_some() && (is_changed || is_applied_again(job))
    })
}

/// Returns whether the job was refused because `kubectl apply` had dropped a null, and the manifest
/// that was applied since contains no null.
fn is_applied_again(job: &ZephyrJob) -> bool {
    let refusal = job.status.as_ref().and_then(ZephyrJobStatus::refusal);
    refusal.is_some_and(|refusal| names_dropped_null(&refusal.message))
        && job
            .annotations()
            .get(LAST_APPLIED)
            .is_none_or(|written| dropped_by_apply(&job.spec, written).is_empty())
}

impl Verdict {
    /// Decides whether a generation of `job` may begin. A job that has begun with exactly this spec
    /// continues in spite of errors, because newer rules apply only to new jobs. A spec that was
    /// changed since must satisfy all rules.
    pub fn of(job: &ValidatedJob, errors: Vec<FieldError>, observed: &Observed) -> Self {
        if errors.is_empty() {
            Self::Accepted
        } else if job.has_begun_as_it_is(observed) {
            Self::BegunBefore(errors)
        } else {
            Self::Refused(errors)
        }
    }

    /// Returns whether no generation may begin.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Returns the errors in the spec, on one line; empty if there are none.
    pub fn in_words(&self) -> String {
        let errors = match self {
            Self::Accepted => return String::new(),
            Self::BegunBefore(errors) | Self::Refused(errors) => errors,
        };
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        errors.join(" | ")
    }
}

impl ValidatedJob {
    /// Returns whether somebody's finalizer keeps the deleted job while nothing of it runs. Without
    /// a finalizer nobody would read its status, and with `--cascade=orphan` its generation
    /// continues.
    pub fn is_kept(&self) -> bool {
        self.deleted && !self.orphans && !self.finalizers.is_empty()
    }

    /// Returns whether status says that the job is suspended and none of its pods exists.
    pub fn is_suspended(&self) -> bool {
        self.status.suspended_since.is_some()
            && self.status.conditions.iter().any(|condition| {
                condition.r#type == ConditionType::Suspended
                    && condition.status == ConditionStatus::True
            })
    }

    /// Returns whether the job has ended for good. A job that was refused begins again once it is
    /// changed.
    pub fn has_ended(&self) -> bool {
        let is_changed = self.spec_version != self.status.observed_generation;
        let begins_anew = self.status.refusal().is_some() && (is_changed || self.is_applied_again);
        self.status.is_final() && !begins_anew
    }

    /// Returns whether the job has failed, and `spec.restart` was changed since. If the retention
    /// leaves no intermediate data after a failure, the API server refuses the change.
    pub fn is_to_restart(&self) -> bool {
        let known = self.status.restart.as_ref();
        let asked = self.spec.restart.as_ref();
        let is_new = asked.is_some_and(|token| known.is_none_or(|known| known.token != *token));
        let has_failed = self.has_ended() && self.status.phase == Some(Phase::Failed);
        let has_data = self.spec.storage.retain != Retain::Never;
        is_new && has_failed && has_data && self.status.generation.is_some()
    }

    /// Returns whether the job was restarted, and `generation` is the first one since.
    pub fn is_first_again(&self, generation: u32) -> bool {
        let restart = self.status.restart.as_ref();
        restart.is_some_and(|restart| restart.generation == Some(generation))
    }

    /// Returns the time until which the generation waits before its objects are created, or `None`
    /// if it does not wait. A time that is further away than the longest back-off is ignored: it
    /// was written with a wrong clock, or under a longer `backoff.max`.
    pub fn backoff_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.status.backoff_until.as_ref()?.0;
        (now < until && until <= after(now, self.timing.backoff_max)).then_some(until)
    }

    /// Returns the paths of the fields in which the spec differs from the frozen job of
    /// `generation`. Changes of these fields apply to the next generation.
    pub fn changed_since(&self, observed: &Observed, generation: u32) -> Vec<String> {
        let root = observed
            .generation(generation)
            .and_then(|objects| objects.root.as_ref());
        let Some(frozen) = root.and_then(|root| root.frozen.job()) else {
            return Vec::new();
        };
        changed_fields(&frozen.spec, &self.spec)
    }

    /// Returns whether status says that the generation had a coordinator. Then its root existed,
    /// and is not created a second time.
    pub fn had_coordinator(&self) -> bool {
        let coordinator = self.status.coordinator.as_ref();
        coordinator
            .is_some_and(|coordinator| coordinator.pod.is_some() || coordinator.epoch.is_some())
    }

    /// Returns whether a generation with exactly this spec has begun: status says that this version
    /// was accepted, or the frozen job of a generation contains it.
    fn has_begun_as_it_is(&self, observed: &Observed) -> bool {
        let Some(generation) = self.status.generation else {
            return false;
        };
        let was_accepted = self.status.conditions.iter().any(|condition| {
            condition.r#type == ConditionType::Accepted
                && condition.status == ConditionStatus::True
                && self.spec_version.is_some()
                && condition.observed_generation == self.spec_version
        });
        let root = observed
            .generation(generation)
            .and_then(|objects| objects.root.as_ref());
        let frozen = root.and_then(|root| root.frozen.job());
        was_accepted || frozen.is_some_and(|frozen| is_frozen_from(&frozen.spec, &self.spec))
    }
}

/// Returns the paths of the fields in which `spec` differs from `frozen`, without the fields whose
/// changes apply to the running generation.
fn changed_fields(frozen: &ZephyrJobSpec, spec: &ZephyrJobSpec) -> Vec<String> {
    let mut filled = spec.clone();
    if filled.image.is_empty() {
        filled.image.clone_from(&frozen.image);
    }
    if is_frozen_from(frozen, &filled) {
        return Vec::new();
    }
    let of_retries = |spec: &ZephyrJobSpec| {
        let retries = &spec.retries;
        (
            retries.task_failures,
            retries.task_disruptions,
            retries.task_stall_timeout.clone(),
            retries.task_timeout.clone(),
            retries.speculation,
        )
    };
    let (mut before, mut now) = (frozen.workers.clone(), filled.workers.clone());
    for workers in [&mut before, &mut now] {
        workers.replicas = None;
        workers.min_replicas = None;
        workers.max_replicas = None;
    }
    let fields = [
        ("spec.image", frozen.image != filled.image),
        (
            "spec.coordinator.resources",
            frozen.coordinator.resources != filled.coordinator.resources,
        ),
        (
            "spec.coordinator.template",
            frozen.coordinator.template != filled.coordinator.template,
        ),
        ("spec.workers", before != now),
        ("spec.retries", of_retries(frozen) != of_retries(&filled)),
    ];
    let changed = fields.into_iter().filter(|(_, is_changed)| *is_changed);
    changed.map(|(field, _)| field.to_owned()).collect()
}

/// Returns whether `frozen` is the result of freezing `spec`.
fn is_frozen_from(frozen: &ZephyrJobSpec, spec: &ZephyrJobSpec) -> bool {
    let mut filled = spec.clone().without_wishes();
    // Errors can be ignored here: a spec with a value that cannot be used was never frozen.
    let _unusable = filled.pipeline.put_values_in_paths();
    if filled.image.is_empty() {
        filled.image.clone_from(&frozen.image);
    }
    *frozen == filled
        || SpotProvider::ALL.into_iter().any(|provider| {
            let mut filled = filled.clone();
            keep_off_spot(&mut filled, provider);
            *frozen == filled
        })
}

/// Adds the terms that an earlier release added to the coordinator's affinity when it froze a job.
/// With these terms the coordinator avoids preemptible nodes of the installation's provider.
fn keep_off_spot(spec: &mut ZephyrJobSpec, provider: SpotProvider) {
    let Some(label) = provider
        .label()
        .filter(|_| provider != spec.workers.preemptible.provider)
    else {
        return;
    };
    let required = spec
        .coordinator
        .template
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default()
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required
            .node_selector_terms
            .push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_expressions.push(NodeSelectorRequirement {
            key: label.key.to_owned(),
            operator: NodeOperator::NotIn,
            values: vec![label.value.to_owned()],
        });
    }
}

impl Timing {
    /// Parses the durations. A duration that cannot be parsed is also an error of the spec; a
    /// running generation continues with the default.
    fn of(retries: &RetriesSpec) -> Self {
        let usual = RetriesSpec::default();
        let readable = |written: &DurationText, usual: &DurationText| {
            let read = |text: &DurationText| {
                let length = text.parse().ok()?;
                let text = text.clone();
                Some(Timeout { text, length })
            };
            read(written).or_else(|| read(usual)).unwrap_or(Timeout {
                text: DurationText::new("1m"),
                length: Duration::from_mins(1),
            })
        };
        let backoff = &retries.backoff;
        Self {
            no_workers_timeout: readable(&retries.no_workers_timeout, &usual.no_workers_timeout),
            coordinator_timeout: readable(&retries.coordinator_timeout, &usual.coordinator_timeout),
            backoff_initial: readable(&backoff.initial, &usual.backoff.initial).length,
            backoff_factor: backoff.factor.max(1),
            backoff_max: readable(&backoff.max, &usual.backoff.max).length,
        }
    }

    /// Returns the wait before the generation that follows the `ended`-th generation of the job
    /// (from 1). If the computation overflows, the result is the longest wait.
    pub fn backoff(&self, ended: u32) -> Duration {
        let factor = self
            .backoff_factor
            .checked_pow(ended.saturating_sub(1))
            .unwrap_or(u32::MAX);
        self.backoff_initial
            .checked_mul(factor)
            .unwrap_or(self.backoff_max)
            .min(self.backoff_max)
    }
}

/// Returns `from` plus `length`, or the latest possible time if the sum cannot be represented.
pub fn after(from: Timestamp, length: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(length)
        .ok()
        .and_then(|length| from.checked_add(length).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use crate::watches::decode::{Metadata, Seen};
    use crate::watches::facts::SeenJob;

    use super::*;

    fn timing() -> Timing {
        Timing::of(&RetriesSpec::default())
    }

    #[test]
    fn fault_2829_the_wait_grows_by_its_factor_up_to_its_maximum_and_never_overflows() {
        let waits: Vec<_> = [1, 2, 3, 7, 100, u32::MAX]
            .map(|ended| timing().backoff(ended).as_secs())
            .into();
        assert_eq!(waits, [5, 10, 20, 300, 300, 300]);
    }

    #[test]
    fn an_item_from_which_kubectl_apply_dropped_a_null_is_refused() {
        let spec = serde_json::json!({
            "pipeline": {
                "source": {"items": {"values": [{"b": 1}], "shards": 1}},
                "sink": {"files": {"path": "s3://outbucket/p-{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch/zephyr"},
            "workers": {"replicas": 1},
        });
        let errors = |written: serde_json::Value| {
            let applied = serde_json::json!({"spec": {"pipeline": {"source": {"items": {"values": written}}}}});
            let job = serde_json::json!({
                "apiVersion": "zephyr.dev/v1alpha1",
                "kind": "ZephyrJob",
                "metadata": {
                    "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
                    "annotations": {LAST_APPLIED: applied.to_string()},
                },
                "spec": spec,
            });
            // The watch delivers the job with only a part of its metadata.
            let seen = serde_json::from_str::<Seen<SeenJob>>(&job.to_string()).expect("JSON");
            let job = seen.facts.expect("a job").document().expect("its spec");
            let (_, errors) = validate(&job).expect("it has its metadata");
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            errors(serde_json::json!([{"a": null, "b": 1}])),
            [
                "spec.pipeline.source.items.values[0].a: was null inside an object, and `kubectl apply` has dropped it (got null); leave the key out, write the value as JSON text and parse it in an expression (fromjson), or put records into a file"
            ]
        );
        assert_eq!(errors(serde_json::json!([{"b": 1}])), [""; 0]);
    }

    #[test]
    fn an_orphaning_deletion_differs_from_one_that_a_finalizer_delays() {
        for (finalizer, orphans) in [
            ("orphan", true),
            ("foregroundDeletion", false),
            ("example.com/backup", false),
        ] {
            let metadata = serde_json::json!({
                "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
                "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [finalizer],
            });
            // The watch delivers the job with only a part of its metadata.
            let metadata = serde_json::from_value::<Metadata>(metadata).expect("metadata");
            let spec = crate::children::tests::frozen(serde_json::json!({})).spec;
            let mut job = ZephyrJob::new("a", spec);
            job.metadata = metadata.to_object_meta();
            let (valid, _) = validate(&job).expect("it has its metadata");
            assert_eq!(
                (valid.deleted, valid.orphans),
                (true, orphans),
                "{finalizer}"
            );
        }
    }

    #[test]
    fn a_frozen_spec_is_recognized_despite_what_freezing_added() {
        let spec: ZephyrJobSpec = serde_json::from_value(serde_json::json!({
            "pipeline": {
                "source": {"items": {"values": [1], "shards": 1}},
                "sink": {"files": {"path": "s3://outbucket/{value:day}-{shard}.jsonl"}},
                "values": {"day": "2026-11-27"},
            },
            "storage": {"uri": "s3://scratch/zephyr"},
            "workers": {"replicas": 1},
        }))
        .expect("a spec");
        for provider in SpotProvider::ALL {
            let mut frozen = spec.clone();
            assert_eq!(frozen.pipeline.put_values_in_paths(), []);
            frozen.image = "worker:1".to_owned();
            assert!(is_frozen_from(&frozen, &spec));
            keep_off_spot(&mut frozen, provider);
            assert!(is_frozen_from(&frozen, &spec), "{provider:?}");
            frozen.workers.replicas = Some(2);
            assert!(!is_frozen_from(&frozen, &spec), "{provider:?}");
        }
    }

    #[test]
    fn fields_that_need_the_next_generation_are_named_and_others_change_in_place() {
        let frozen = crate::children::tests::frozen(serde_json::json!({})).spec;
        let changed = |change: fn(&mut ZephyrJobSpec)| {
            let mut spec = frozen.clone();
            change(&mut spec);
            changed_fields(&frozen, &spec)
        };
        let in_place: fn(&mut ZephyrJobSpec) = |spec| {
            spec.workers.replicas = None;
            spec.workers.max_replicas = Some(9);
            spec.retries.max_generations += 1;
            spec.retries.coordinator_timeout = DurationText::new("7m");
            spec.ttl_seconds_after_finished = Some(7);
            spec.image = String::new();
        };
        assert_eq!(changed(in_place), [""; 0]);
        let later: fn(&mut ZephyrJobSpec) = |spec| {
            spec.image = "worker:2".to_owned();
            spec.coordinator.template.priority_class_name = Some("high".to_owned());
            spec.workers.slots += 1;
            spec.retries.task_failures += 1;
        };
        assert_eq!(
            changed(later),
            [
                "spec.image",
                "spec.coordinator.template",
                "spec.workers",
                "spec.retries"
            ]
        );
    }

    #[test]
    fn a_time_that_cannot_be_represented_is_the_far_future() {
        assert_eq!(after(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
        assert_eq!(
            after(Timestamp::UNIX_EPOCH, Duration::from_secs(5)).as_second(),
            5
        );
    }
}
