//! The spec of a `ZephyrJob`: what a user asks for. Types, defaults and bounds; [`crate::validate`]
//! says what is wrong with a value.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{DurationBounds, DurationText};
use crate::exec::MountSpec;
use crate::life::{CancelSpec, RestoreFrom, SuspendPolicy};
use crate::names;
use crate::pipeline::PipelineSpec;
use crate::pod_template::PodTemplate;
use crate::preemptible::PreemptibleSpec;
use crate::resources::ResourcesSpec;
use crate::rules;
use crate::status::ZephyrJobStatus;

/// The largest number of workers of a job: the number that one coordinator is designed for.
pub const MAX_WORKERS: u32 = 10_000;
/// The largest number of task slots of a worker.
pub const MAX_SLOTS: u32 = 256;
/// The largest number of generations of a job: the generation's number appears in the names of
/// children with at most four digits.
pub const MAX_GENERATIONS: u32 = 100;

/// The greatest allowed value of the budget for application errors of one shard: a larger budget
/// would only hide a record that always fails.
pub const MAX_TASK_FAILURES: u32 = 20;
/// The greatest allowed value of the budget for losses of a worker while one shard is in flight; 0
/// = no limit.
pub const MAX_TASK_DISRUPTIONS: u32 = 10_000;
/// The greatest factor by which the wait before the next generation grows.
pub const MAX_BACKOFF_FACTOR: u32 = 10;
/// Bounds of noWorkersTimeout. A timeout shorter than the time that pods need to start would never
/// let a job run.
pub const NO_WORKERS_TIMEOUT: DurationBounds = DurationBounds {
    least: "30s",
    greatest: "24h",
};
/// Bounds of coordinatorTimeout. A timeout shorter than a container's restart would end generations
/// without need.
pub const COORDINATOR_TIMEOUT: DurationBounds = DurationBounds {
    least: "10s",
    greatest: "24h",
};
/// Bounds of taskStallTimeout.
pub const TASK_STALL_TIMEOUT: DurationBounds = DurationBounds {
    least: "1s",
    greatest: "24h",
};
/// Bounds of taskTimeout. A week is longer than any task should run.
pub const TASK_TIMEOUT: DurationBounds = DurationBounds {
    least: "1s",
    greatest: "168h",
};
/// Bounds of backoff.initial.
pub const BACKOFF_INITIAL: DurationBounds = DurationBounds {
    least: "100ms",
    greatest: "1h",
};
/// Bounds of backoff.max.
pub const MAX_BACKOFF: DurationBounds = DurationBounds {
    least: "100ms",
    greatest: "24h",
};

/// Bounds of storage.ledgerTTL. Least: a coordinator marks its folder as in use every two minutes.
/// In an hour it would have to miss thirty marks before another job could remove the ledger of a
/// coordinator that still serves its result. Greatest: a year; to keep a ledger longer, set no
/// limit.
pub const LEDGER_TTL: DurationBounds = DurationBounds {
    least: "1h",
    greatest: "8760h",
};

/// Bounds of failedPodsTTL. Greatest: the coordinator of a failed job holds its CPU and memory, so
/// it should not stay for longer than a day.
pub const FAILED_PODS_TTL: DurationBounds = DurationBounds {
    least: "0s",
    greatest: "24h",
};

/// A data pipeline that runs on nodes that may vanish, and writes exactly the right output.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "zephyr.dev",
    version = "v1alpha1",
    kind = "ZephyrJob",
    plural = "zephyrjobs",
    shortname = "zj",
    category = "all",
    category = "zephyr",
    namespaced,
    status = "ZephyrJobStatus",
    derive = "PartialEq",
    doc = "A data pipeline that runs on nodes that may vanish, and writes exactly the right output.",
    validation = rules::job_name(),
    validation = rules::pipeline_stays_once_begun(),
    validation = rules::immutable_once_begun("storage"),
    validation = rules::managed_by_is_final(),
    validation = rules::restore_from_is_final(),
    validation = rules::cancel_is_final(),
    validation = rules::cancel_stays_after_the_end(),
    validation = rules::restart_follows_a_failure(),
    scale(
        spec_replicas_path = ".spec.workers.replicas",
        status_replicas_path = ".status.workers.desired",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Phase of the job"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Progressing')].reason", description = "What the job is doing or waiting for, or how it ended, in one word"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage.name", description = "The running stage"),
    printcolumn(name = "Done", type_ = "string", json_path = ".status.stage.summary", description = "Committed tasks of that stage"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers.summary", description = "Live workers, of those requested"),
    printcolumn(name = "Gen", type_ = "integer", json_path = ".status.generation", description = "Generation that runs the job"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "Share of all tasks that are committed"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Progressing')].message", description = "What the job is doing or waiting for, or how it ended", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the job was created")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::output_is_not_input(), validation = rules::output_is_not_storage(), validation = rules::input_is_not_storage())]
pub struct ZephyrJobSpec {
    /// What the job reads, does and writes. Immutable once the first generation has begun. Only the
    /// update that changes `restart` after a failure may change it, and only in parts on which no
    /// complete task depends.
    pub pipeline: PipelineSpec,
    /// Where intermediate data and the ledger are stored. Immutable once the first generation has
    /// begun, because the job resumes from the ledger.
    pub storage: StorageSpec,
    /// Image of the coordinator and the workers, such as registry.example.com/zephyr-worker:0.1.0;
    /// empty = the worker image of the operator's own release. A change applies to the next
    /// generation.
    #[serde(default)]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::image("spec.image", OWN_RELEASE))]
    pub image: String,
    /// The coordinator: one pod, never on preemptible nodes.
    #[serde(default)]
    pub coordinator: CoordinatorSpec,
    /// The workers: pods that may vanish at any time.
    #[x_kube(validation = rules::number_of_workers())]
    pub workers: WorkersSpec,
    /// How often and for how long the job retries.
    #[serde(default)]
    pub retries: RetriesSpec,
    /// Whether the job is paused: `true` = no pod of the job runs, and everything that is complete
    /// is kept; `false` or not set = the job runs, and continues where it was. A change applies at
    /// once. It has no effect on a job that has ended.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,
    /// What happens to running tasks when the job is suspended.
    #[serde(default, skip_serializing_if = "SuspendPolicy::is_usual")]
    pub suspend_policy: SuspendPolicy,
    /// Ends the job early, with reason `Cancelled`; not set = the job runs to its end. A change
    /// applies at once. It can be removed only in the update that changes `restart`. Complete files
    /// of the output stay, without `_SUCCESS.json`, unless `keepOutput` is `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelSpec>,
    /// Who runs the job, at most 63 characters; `zephyr.dev/operator` or not set = this operator.
    /// Another name with a domain, such as `kueue.x-k8s.io/multikueue` = this operator does nothing
    /// for the job. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::manager())]
    pub managed_by: Option<String>,
    /// A job that was suspended and exported, in this or another cluster, and that this job
    /// continues: complete tasks do not run again, and the exported job cannot run any more. Not
    /// set = the job begins anew. Written by `kubectl zephyr import`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,
    /// Seconds until a coordinator of the job must be ready for the first time, 1 to 2147483647; not
    /// set = no limit. If none is ready by then, the job fails with reason `StartDeadlineExceeded`.
    /// The time does not count while the job is suspended or waits for its turn. A change applies
    /// at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub start_deadline_seconds: Option<i32>,
    /// Any text, at most 128 characters. Another text runs a job that has failed again: complete
    /// tasks do not run again, and all limits of failures and of time begin anew. A change applies
    /// at once. It is refused if the job has not failed, or if `storage.retain` is `Never`.
    /// Removing it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub restart: Option<String>,
    /// Seconds that the job may be active, 1 to 2147483647; not set = no limit. After that it fails
    /// with reason `DeadlineExceeded`. The time counts from the first ready coordinator, and not while
    /// the job is suspended or waits for its turn. A change applies at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub active_deadline_seconds: Option<i32>,
    /// How long the coordinator's pod of a job that failed while it ran stays after the job's end,
    /// 0s to 24h, such as 1h; not set = 15m. In this time `kubectl logs` shows its lines. The
    /// workers' pods are deleted at once. A change applies at once.
    #[serde(
        default,
        rename = "failedPodsTTL",
        skip_serializing_if = "Option::is_none"
    )]
    #[x_kube(validation = rules::duration("spec.failedPodsTTL", FAILED_PODS_TTL))]
    pub failed_pods_ttl: Option<DurationText>,
    /// Seconds after the job's end until the job is deleted with all its objects; not set = never.
    /// Output files stay. A change applies at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl_seconds_after_finished: Option<i32>,
}

impl ZephyrJobSpec {
    /// The controller that runs the job instead of this operator, if there is one.
    pub fn other_manager(&self) -> Option<&str> {
        let manager = self.managed_by.as_deref();
        manager.filter(|manager| *manager != names::OPERATOR)
    }

    /// The spec without the fields that only the operator acts on at once: whether the job is
    /// suspended, cancelled or restarted, for how long it may start and be active, and for how long
    /// its coordinator stays after a failure. No generation depends on them.
    #[must_use]
    pub fn without_wishes(mut self) -> Self {
        self.suspend = false;
        self.suspend_policy = SuspendPolicy::default();
        self.cancel = None;
        self.managed_by = None;
        self.start_deadline_seconds = None;
        self.restart = None;
        self.active_deadline_seconds = None;
        self.failed_pods_ttl = None;
        self
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

/// Where intermediate data and the ledger are stored.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Prefix of the job's own data, such as `s3://bucket/zephyr`; also under `gs://` or `az://`.
    /// The job writes into a folder below it that has the job's uid as its name. Endpoint and
    /// region come from `credentialsSecret` or from the operator's installation. Immutable.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::storage_uri())]
    pub uri: String,
    /// Name of a Secret in the job's namespace, whose keys become environment variables of the
    /// coordinator and the workers (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` …). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub credentials_secret: Option<String>,
    /// Whether the intermediate data under `uri` is kept after the job's end: `Never`, `OnFailure`
    /// or `Always`; not set = `OnFailure`. The ledger, which is small, is kept for `ledgerTTL`.
    /// Immutable.
    #[serde(default)]
    pub retain: Retain,
    /// How long the job's folder under `uri` is kept after the job's end, 1h to 8760h, such as
    /// 168h. The folder has the ledger, and the intermediate data that `retain` kept. Not set =
    /// until `kubectl zephyr gc` or a lifecycle rule deletes it. A later job with the same `uri`
    /// deletes the folder when it ends. Output files stay. Immutable.
    #[serde(default, rename = "ledgerTTL", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::duration("spec.storage.ledgerTTL", LEDGER_TTL))]
    pub ledger_ttl: Option<DurationText>,
}

/// Whether intermediate data is kept after the job's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retain {
    /// Removed when the job ends.
    Never,
    /// Kept if the job fails, removed if it succeeds.
    #[default]
    OnFailure,
    /// Kept.
    Always,
}

/// The coordinator: one pod, never on preemptible nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorSpec {
    /// CPU and memory of the coordinator; not set = 1 CPU and 512Mi. A change applies to the next
    /// generation.
    #[serde(default)]
    pub resources: ResourcesSpec,
    /// Pod settings of the coordinator. A change applies to the next generation.
    #[serde(default)]
    #[x_kube(validation = rules::coordinator_is_not_preemptible())]
    pub template: PodTemplate,
}

/// The workers: pods that may vanish at any time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkersSpec {
    /// Number of worker pods, 1 to 10000. If the job has fewer shards than that, one pod for each
    /// shard. `kubectl scale` and autoscalers set this field. A change applies at once. Either this
    /// field or maxReplicas is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    #[x_kube(validation = rules::range("spec.workers.replicas", 1, MAX_WORKERS.into()))]
    pub replicas: Option<u32>,
    /// With maxReplicas: the least number of worker pods, 1 to maxReplicas; not set = 1. The job may
    /// have fewer if it has fewer shards, or fewer open tasks at its end. A change applies at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    #[x_kube(validation = rules::range("spec.workers.minReplicas", 1, MAX_WORKERS.into()))]
    pub min_replicas: Option<u32>,
    /// Instead of replicas: the greatest number of worker pods, 1 to 10000. The operator chooses a
    /// number up to this one, by the open tasks and the slots of a worker. A change applies at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    #[x_kube(validation = rules::range("spec.workers.maxReplicas", 1, MAX_WORKERS.into()))]
    pub max_replicas: Option<u32>,
    /// Number of tasks that a worker runs at the same time, 1 to 256; 0 or not set = the number of
    /// its CPUs, at least one. A change applies to the next generation.
    #[serde(default)]
    #[schemars(range(min = 0, max = 256))]
    #[x_kube(validation = rules::range("spec.workers.slots", 0, MAX_SLOTS.into()))]
    pub slots: u32,
    /// CPU and memory of one worker; not set = 1 CPU and 1Gi. A change applies to the next
    /// generation.
    #[serde(default)]
    pub resources: ResourcesSpec,
    /// The preemptible nodes on which workers run. A change applies to the next generation.
    #[serde(default)]
    pub preemptible: PreemptibleSpec,
    /// Pod settings of the workers. A change applies to the next generation.
    #[serde(default)]
    pub template: PodTemplate,
    /// Image in which the workers run, such as python:3.12-slim, for the commands of exec steps;
    /// empty = spec.image. An init container copies the worker's program into it. A change applies
    /// to the next generation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::image("spec.workers.image", IMAGE_OF_JOB))]
    pub image: String,
    /// `ConfigMaps` and Secrets whose keys are files of the workers, such as scripts for exec steps.
    /// A change applies to the next generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub mounts: Vec<MountSpec>,
}

/// What an empty `spec.image` means.
pub(crate) const OWN_RELEASE: &str = "the release that the operator belongs to";
/// What an empty `spec.workers.image` means.
pub(crate) const IMAGE_OF_JOB: &str = "spec.image";

/// How often and for how long the job retries. Each field says when a change applies.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetriesSpec {
    /// The job fails after this number of generations, 1 to 100; not set = 10. A change applies at
    /// once.
    #[serde(default = "defaults::max_generations")]
    #[schemars(range(min = 1, max = 100))]
    #[x_kube(validation = rules::range("spec.retries.maxGenerations", 1, MAX_GENERATIONS.into()))]
    pub max_generations: u32,
    /// How long the operator waits before it starts the next generation. A change applies at once.
    #[serde(default)]
    pub backoff: BackoffSpec,
    /// The job fails after this number of application errors of one shard, 1 to 20; not set = 3. It
    /// fails at once if an error occurs a second time with the same message. A change applies to
    /// the next generation.
    #[serde(default = "defaults::task_failures")]
    #[schemars(range(min = 1, max = 20))]
    #[x_kube(validation = rules::range("spec.retries.taskFailures", 1, MAX_TASK_FAILURES.into()))]
    pub task_failures: u32,
    /// The job fails after this number of workers were lost while they ran the same shard, 1 to
    /// 10000; 0 or not set = no limit. A change applies to the next generation.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    #[x_kube(validation = rules::range("spec.retries.taskDisruptions", 0, MAX_TASK_DISRUPTIONS.into()))]
    pub task_disruptions: u32,
    /// How long the job may have no live worker before the next generation starts, 30s to 24h, such
    /// as 1h30m; not set = 30m. A change applies at once.
    #[serde(default = "defaults::no_workers_timeout")]
    #[x_kube(validation = rules::duration("spec.retries.noWorkersTimeout", NO_WORKERS_TIMEOUT))]
    pub no_workers_timeout: DurationText,
    /// How long the coordinator may be absent before the next generation starts, 10s to 24h, such
    /// as 90s; not set = 2m. A change applies at once.
    #[serde(default = "defaults::coordinator_timeout")]
    #[x_kube(validation = rules::duration("spec.retries.coordinatorTimeout", COORDINATOR_TIMEOUT))]
    pub coordinator_timeout: DurationText,
    /// How long a task may run without reading or writing a record, 1s to 24h; not set = 10m. After
    /// that it is stopped, which counts as an application error. A change applies to the next
    /// generation.
    #[serde(default = "defaults::task_stall_timeout")]
    #[x_kube(validation = rules::duration("spec.retries.taskStallTimeout", TASK_STALL_TIMEOUT))]
    pub task_stall_timeout: DurationText,
    /// How long one attempt of a task may run in all, 1s to 168h, such as 30m; not set = no limit.
    /// After that it is stopped, which counts as an application error. If this was the last error of
    /// the shard, the job fails with reason `TaskTimedOut`. A change applies to the next generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::duration("spec.retries.taskTimeout", TASK_TIMEOUT))]
    pub task_timeout: Option<DurationText>,
    /// Whether an idle slot may run a second attempt of a task that takes much longer than the
    /// other tasks of its stage. The result of the attempt that finishes first is used. Not set =
    /// `Auto`. A change applies to the next generation.
    #[serde(default)]
    pub speculation: Speculation,
}

/// When a straggler gets a second attempt. `Auto`: when three quarters of the stage's tasks are
/// done, and the straggler has run for at least five seconds and for three times the median
/// duration of its stage. `Never` is not called `Off`, because YAML reads an unquoted `Off` as
/// `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Speculation {
    /// The coordinator starts a second attempt of a task that is much slower than others.
    #[default]
    Auto,
    /// No task has a second attempt while the first one runs.
    Never,
}

impl Default for RetriesSpec {
    fn default() -> Self {
        Self {
            max_generations: defaults::max_generations(),
            backoff: BackoffSpec::default(),
            task_failures: defaults::task_failures(),
            task_disruptions: 0,
            no_workers_timeout: defaults::no_workers_timeout(),
            coordinator_timeout: defaults::coordinator_timeout(),
            task_stall_timeout: defaults::task_stall_timeout(),
            task_timeout: None,
            speculation: Speculation::default(),
        }
    }
}

/// The wait before generation n + 1 is `initial` times `factor` to the power n - 1, at most `max`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::backoff_order())]
pub struct BackoffSpec {
    /// The wait before the second generation, 100ms to 1h, such as 10s; not set = 5s. A change
    /// applies at once.
    #[serde(default = "defaults::backoff_initial")]
    #[x_kube(validation = rules::duration("spec.retries.backoff.initial", BACKOFF_INITIAL))]
    pub initial: DurationText,
    /// Each further wait is this number of times as long as the one before, 1 to 10; not set = 2. A
    /// change applies at once.
    #[serde(default = "defaults::backoff_factor")]
    #[schemars(range(min = 1, max = 10))]
    #[x_kube(validation = rules::range("spec.retries.backoff.factor", 1, MAX_BACKOFF_FACTOR.into()))]
    pub factor: u32,
    /// The maximum wait, 100ms to 24h, such as 10m; not set = 5m. A change applies at once.
    #[serde(default = "defaults::backoff_max")]
    #[x_kube(validation = rules::duration("spec.retries.backoff.max", MAX_BACKOFF))]
    pub max: DurationText,
}

impl Default for BackoffSpec {
    fn default() -> Self {
        Self {
            initial: defaults::backoff_initial(),
            factor: defaults::backoff_factor(),
            max: defaults::backoff_max(),
        }
    }
}

/// Values that apply if the manifest sets none.
mod defaults {
    use crate::duration::DurationText;

    pub(super) fn max_generations() -> u32 {
        10
    }

    pub(super) fn task_failures() -> u32 {
        3
    }

    pub(super) fn no_workers_timeout() -> DurationText {
        DurationText::new("30m")
    }

    pub(super) fn coordinator_timeout() -> DurationText {
        DurationText::new("2m")
    }

    pub(super) fn task_stall_timeout() -> DurationText {
        DurationText::new("10m")
    }

    pub(super) fn backoff_initial() -> DurationText {
        DurationText::new("5s")
    }

    pub(super) fn backoff_factor() -> u32 {
        2
    }

    pub(super) fn backoff_max() -> DurationText {
        DurationText::new("5m")
    }
}
