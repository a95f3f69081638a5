//! Makes the run of a job from the frozen job: parses the identities, converts the pipeline, and
//! makes the clients of the stores. Reads no storage.

use std::path::Path;
use std::time::Duration;

use zephyr_crds::duration::{DurationError, DurationText};
use zephyr_crds::frozen::{FrozenJob, FrozenJobError};
use zephyr_engine::id::{Generation, IdentityError, JobUid};
use zephyr_engine::pipeline::Pipeline;
use zephyr_store::finalize::Output;
use zephyr_store::formats::ReadLimits;
use zephyr_store::storage::{JobStorage, LocationError, Stores};

use crate::convert::identity::RunIdentity;
use crate::convert::pipeline::{PipelineError, limits, pipeline};

/// One generation's run of a job.
#[derive(Clone)]
pub struct RunJob {
    /// The frozen job.
    pub frozen: FrozenJob,
    /// The run's identity.
    pub identity: RunIdentity,
    /// Its pipeline.
    pub pipeline: Pipeline,
    /// The limits for its files and records.
    pub limits: ReadLimits,
    /// Clients of the stores.
    pub stores: Stores,
    /// Where the ledger and the shuffle data are stored. The folder has the uid of the first job
    /// whose ledger this is, which is another job if this one continues it.
    pub storage: JobStorage,
    /// How long a task may run without progress.
    pub task_stall_timeout: Duration,
    /// How long a task may run in all, if there is a limit.
    pub task_timeout: Option<Duration>,
    /// Whether it runs on one machine, outside of a cluster. Then the person who started it waits
    /// for it, and permanent errors end it after some tries.
    pub is_local: bool,
}

/// Why a frozen job cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunJobError {
    /// The file cannot be read.
    #[error("read job file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// It is not a valid frozen job.
    #[error("job file: {source}")]
    Parse {
        /// The cause.
        #[source]
        source: FrozenJobError,
    },
    /// Its uid is invalid.
    #[error("job file: uid: {source}")]
    Uid {
        /// The cause.
        #[source]
        source: IdentityError,
    },
    /// The uid of the job that it continues is invalid.
    #[error("job file: spec.restoreFrom.job: {source}")]
    Folder {
        /// The cause.
        #[source]
        source: IdentityError,
    },
    /// Its pipeline is invalid.
    #[error("job file: {source}")]
    Pipeline {
        /// The cause.
        #[source]
        source: PipelineError,
    },
    /// Its storage is invalid.
    #[error("spec.storage.uri: {source}")]
    Storage {
        /// The cause.
        #[source]
        source: LocationError,
    },
    /// A duration is invalid.
    #[error("spec.retries.{field}: {source}")]
    Duration {
        /// The field.
        field: &'static str,
        /// The cause.
        #[source]
        source: DurationError,
    },
}

impl RunJob {
    /// Reads the mounted file.
    pub fn read(path: &Path) -> Result<Self, RunJobError> {
        let text = std::fs::read_to_string(path).map_err(|source| RunJobError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_json(&text)
    }

    /// Reads the document.
    pub fn from_json(text: &str) -> Result<Self, RunJobError> {
        Self::new(FrozenJob::from_json(text).map_err(|source| RunJobError::Parse { source })?)
    }

    /// Returns the same job with another retry time, which is how long a storage call is retried
    /// before it fails.
    pub fn with_retry_time(self, retry_time: Duration) -> Result<Self, RunJobError> {
        let stores = self.stores.with_retry_time(retry_time);
        let storage = JobStorage::new(
            stores.clone(),
            &self.frozen.spec.storage.uri,
            self.storage.job().clone(),
        )
        .map_err(|source| RunJobError::Storage { source })?;
        Ok(Self {
            stores,
            storage,
            ..self
        })
    }

    /// Parses the parts of a frozen job.
    pub fn new(frozen: FrozenJob) -> Result<Self, RunJobError> {
        let job = JobUid::parse(&frozen.uid).map_err(|source| RunJobError::Uid { source })?;
        let folder = match &frozen.spec.restore_from {
            Some(from) => {
                JobUid::parse(&from.job).map_err(|source| RunJobError::Folder { source })?
            }
            None => job.clone(),
        };
        let pipeline =
            pipeline(&frozen.spec.pipeline).map_err(|source| RunJobError::Pipeline { source })?;
        let limits =
            limits(&frozen.spec.pipeline).map_err(|source| RunJobError::Pipeline { source })?;
        let stores = Stores::new(frozen.storage_options.clone());
        let storage = JobStorage::new(stores.clone(), &frozen.spec.storage.uri, folder)
            .map_err(|source| RunJobError::Storage { source })?;
        let retries = &frozen.spec.retries;
        let duration = |field, text: &DurationText| {
            let parsed = text.parse();
            parsed.map_err(|source| RunJobError::Duration { field, source })
        };
        let task_stall_timeout = duration("taskStallTimeout", &retries.task_stall_timeout)?;
        let task_timeout = retries.task_timeout.as_ref();
        let task_timeout = task_timeout.map(|text| duration("taskTimeout", text));
        let task_timeout = task_timeout.transpose()?;
        let identity = RunIdentity {
            job,
            generation: Generation(frozen.generation),
        };
        Ok(Self {
            frozen,
            identity,
            pipeline,
            limits,
            stores,
            storage,
            task_stall_timeout,
            task_timeout,
            is_local: false,
        })
    }

    /// The job's output, before its folder is examined.
    pub fn output(&self) -> Output {
        let sink = &self.frozen.spec.pipeline.sink.files;
        Output {
            stores: self.stores.clone(),
            storage: self.storage.clone(),
            job: self.storage.job().clone(),
            namespace: self.frozen.namespace.clone(),
            name: self.frozen.name.clone(),
            path: sink.path.clone(),
            more_paths: self
                .frozen
                .spec
                .pipeline
                .dead_letters()
                .map(|(_, path)| path.clone())
                .collect(),
            mode: sink.mode,
            has_begun: false,
        }
    }
}
