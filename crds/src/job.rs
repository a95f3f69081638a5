//! The spec of a `ZephyrJob`: what a user asks for. Types, defaults and bounds; what is wrong in a value says [`crate::validate`].

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{DurationBounds, DurationText};
use crate::pipeline::PipelineSpec;
use crate::pod_template::PodTemplate;
use crate::preemptible::PreemptibleSpec;
use crate::resources::ResourcesSpec;
use crate::rules;
use crate::status::ZephyrJobStatus;

/// Most workers of a job: what one coordinator is designed to serve.
pub const MAX_WORKERS: u32 = 10_000;
/// Most task slots of a worker.
pub const MAX_SLOTS: u32 = 256;
/// Most generations of a job: the generation's number is in the children's names with at most four digits.
pub const MAX_GENERATIONS: u32 = 100;

/// Most application errors of one shard that can be allowed: more would only hide a poison record.
pub const MAX_TASK_FAILURES: u32 = 20;
/// Most losses of a worker with one shard in flight that can be allowed; 0 = no limit.
pub const MAX_TASK_DISRUPTIONS: u32 = 10_000;
/// Greatest factor of the wait before the next generation.
pub const MAX_BACKOFF_FACTOR: u32 = 10;
/// Bounds of noWorkersTimeout: shorter than pods need to start would never let a job run.
pub const NO_WORKERS_TIMEOUT: DurationBounds = DurationBounds {
    least: "30s",
    greatest: "24h",
};
/// Bounds of coordinatorTimeout: shorter than a container's restart would end generations for nothing.
pub const COORDINATOR_TIMEOUT: DurationBounds = DurationBounds {
    least: "10s",
    greatest: "24h",
};
/// Bounds of taskStallTimeout.
pub const TASK_STALL_TIMEOUT: DurationBounds = DurationBounds {
    least: "1s",
    greatest: "24h",
};
/// Bounds of backoff.initial.
pub const BACKOFF_INITIAL: DurationBounds = DurationBounds {
    least: "100ms",
    greatest: "1h",
};
/// Bounds of backoff.max.
pub const BACKOFF_MAX: DurationBounds = DurationBounds {
    least: "100ms",
    greatest: "24h",
};

/// Bounds of storage.ledgerTTL. Least: a coordinator marks its folder as in use every two minutes, so in an hour it would have
/// to miss thirty marks before another job could remove the ledger of a coordinator that still serves its result. Greatest: a
/// year; a ledger that is kept longer needs no limit.
pub const LEDGER_TTL: DurationBounds = DurationBounds {
    least: "1h",
    greatest: "8760h",
};

/// A data pipeline that runs on nodes which may vanish, and writes exactly the right output.
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
    doc = "A data pipeline that runs on nodes which may vanish, and writes exactly the right output.",
    validation = rules::job_name(),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the job is"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage.name", description = "The stage that runs"),
    printcolumn(name = "Done", type_ = "string", json_path = ".status.stage.summary", description = "Committed tasks of that stage"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers.summary", description = "Workers alive, of those asked for"),
    printcolumn(name = "Gen", type_ = "integer", json_path = ".status.generation", description = "Generation that runs the job"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "Share of all tasks that are committed"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Progressing')].message", description = "What the job does, waits for or ended with", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the job was created")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::output_is_not_input(), validation = rules::output_is_not_storage(), validation = rules::input_is_not_storage())]
pub struct ZephyrJobSpec {
    /// What the job reads, does and writes. Immutable: create a new job to run another pipeline.
    #[x_kube(validation = rules::immutable("spec.pipeline"))]
    pub pipeline: PipelineSpec,
    /// Where intermediate data and the ledger lie. Immutable: the ledger is what the job resumes from.
    #[x_kube(validation = rules::immutable("spec.storage"))]
    pub storage: StorageSpec,
    /// Image of both roles' pods; empty = the operator's own release of the worker image. A change applies to the next generation.
    #[serde(default)]
    #[schemars(length(max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: String,
    /// The coordinator: one pod, never on preemptible nodes.
    #[serde(default)]
    pub coordinator: CoordinatorSpec,
    /// The workers: pods that may vanish at any time.
    pub workers: WorkersSpec,
    /// How often, and how long, the job tries again.
    #[serde(default)]
    pub retries: RetriesSpec,
    /// Seconds after its end at which the job is deleted with all its objects; not set = never. Output files stay. Changed in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl_seconds_after_finished: Option<i32>,
}

/// Where intermediate data and the ledger lie.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// Prefix under which the job writes, in a folder named by its uid: `s3://`, `gs://` or `az://`, bucket and path. Endpoint and region come from
    /// `credentialsSecret` or from the operator's installation. Immutable.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::storage_uri())]
    pub uri: String,
    /// Secret in the job's namespace whose keys both roles' pods get as environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` …). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub credentials_secret: Option<String>,
    /// When the intermediate data under `uri` is kept after the job: `Never`, `OnFailure` or `Always`; not set = `OnFailure`. The ledger, which is small, is
    /// kept for `ledgerTTL`. Immutable.
    #[serde(default)]
    pub retain: Retain,
    /// How long the job's folder under `uri` stays after the job's end: the ledger, and whatever intermediate data `retain` kept. 1h to 8760h; not set = until
    /// `kubectl zephyr gc` or a lifecycle rule deletes it. The folder is removed at the end of a later job with the same `uri`. Output files stay. Immutable.
    #[serde(default, rename = "ledgerTTL", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::duration("spec.storage.ledgerTTL", LEDGER_TTL))]
    pub ledger_ttl: Option<DurationText>,
}

/// When intermediate data is kept after the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retain {
    Never,
    #[default]
    OnFailure,
    Always,
}

/// The coordinator: one pod, never on preemptible nodes.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorSpec {
    /// CPU and memory of the coordinator; not set = 1 CPU and 512Mi. A change applies to the next generation.
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
    /// Worker pods, 1 to 10000; never more run than there are shards. Changed in place.
    #[schemars(range(min = 1, max = 10_000))]
    #[x_kube(validation = rules::range("spec.workers.replicas", 1, MAX_WORKERS.into()))]
    pub replicas: u32,
    /// Tasks that a worker runs at the same time; 0 = as many as it has CPUs, at least one. A change applies to the next generation.
    #[serde(default)]
    #[schemars(range(min = 0, max = 256))]
    #[x_kube(validation = rules::range("spec.workers.slots", 0, MAX_SLOTS.into()))]
    pub slots: u32,
    /// CPU and memory of one worker; not set = 1 CPU and 1Gi. A change applies to the next generation.
    #[serde(default)]
    pub resources: ResourcesSpec,
    /// On which preemptible nodes workers run. A change applies to the next generation.
    #[serde(default)]
    pub preemptible: PreemptibleSpec,
    /// Pod settings of the workers. A change applies to the next generation.
    #[serde(default)]
    pub template: PodTemplate,
}

/// How often, and how long, the job tries again. Each field says when a change applies.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetriesSpec {
    /// Generations until the job fails, 1 to 100; not set = 10. Changed in place.
    #[serde(default = "defaults::max_generations")]
    #[schemars(range(min = 1, max = 100))]
    #[x_kube(validation = rules::range("spec.retries.maxGenerations", 1, MAX_GENERATIONS.into()))]
    pub max_generations: u32,
    /// The wait before the next generation. Changed in place.
    #[serde(default)]
    pub backoff: BackoffSpec,
    /// Application errors of one shard until the job fails, 1 to 20; not set = 3. An error that comes back with the same words ends the job at once. A change applies to the next generation.
    #[serde(default = "defaults::task_failures")]
    #[schemars(range(min = 1, max = 20))]
    #[x_kube(validation = rules::range("spec.retries.taskFailures", 1, MAX_TASK_FAILURES.into()))]
    pub task_failures: u32,
    /// Losses of a worker with one shard in flight until the job fails; 0 or not set = no limit. A change applies to the next generation.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    #[x_kube(validation = rules::range("spec.retries.taskDisruptions", 0, MAX_TASK_DISRUPTIONS.into()))]
    pub task_disruptions: u32,
    /// How long the job waits without any worker alive until the next generation, 30s to 24h; not set = 30m. Changed in place.
    #[serde(default = "defaults::no_workers_timeout")]
    #[x_kube(validation = rules::duration("spec.retries.noWorkersTimeout", NO_WORKERS_TIMEOUT))]
    pub no_workers_timeout: DurationText,
    /// How long the coordinator may be away until the next generation, 10s to 24h; not set = 2m. Changed in place.
    #[serde(default = "defaults::coordinator_timeout")]
    #[x_kube(validation = rules::duration("spec.retries.coordinatorTimeout", COORDINATOR_TIMEOUT))]
    pub coordinator_timeout: DurationText,
    /// How long a task may go on without reading or writing a record until it is ended as an application error, 1s to 24h; not set = 10m. A change applies to the next generation.
    #[serde(default = "defaults::task_stall_timeout")]
    #[x_kube(validation = rules::duration("spec.retries.taskStallTimeout", TASK_STALL_TIMEOUT))]
    pub task_stall_timeout: DurationText,
    /// Whether an idle slot may run a second attempt of a task that takes much longer than the others of its stage did; the first
    /// that is done counts; not set = `Auto`. A change applies to the next generation.
    #[serde(default)]
    pub speculation: Speculation,
}

/// When a straggler gets a second attempt. `Auto`: when three quarters of its stage's tasks are done and it has run three times
/// as long as the middle one of them took, and at least five seconds. `Never` is not
/// called `Off`, because YAML takes that word for `false` where it is not quoted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Speculation {
    #[default]
    Auto,
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
            speculation: Speculation::default(),
        }
    }
}

/// The wait before generation n + 1 is `initial` times `factor` to the power n - 1, at most `max`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::backoff_order())]
pub struct BackoffSpec {
    /// The first wait, 100ms to 1h; not set = 5s. Changed in place.
    #[serde(default = "defaults::backoff_initial")]
    #[x_kube(validation = rules::duration("spec.retries.backoff.initial", BACKOFF_INITIAL))]
    pub initial: DurationText,
    /// By what each further wait is longer, 1 to 10; not set = 2. Changed in place.
    #[serde(default = "defaults::backoff_factor")]
    #[schemars(range(min = 1, max = 10))]
    #[x_kube(validation = rules::range("spec.retries.backoff.factor", 1, MAX_BACKOFF_FACTOR.into()))]
    pub factor: u32,
    /// The longest wait, 100ms to 24h; not set = 5m. Changed in place.
    #[serde(default = "defaults::backoff_max")]
    #[x_kube(validation = rules::duration("spec.retries.backoff.max", BACKOFF_MAX))]
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

/// What holds where the manifest says nothing.
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
