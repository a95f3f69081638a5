//! What all attempts in a process share: the plan, compiled stages, storage. Runs nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use zephyr_engine::id::StageId;
use zephyr_engine::ops::{OperatorError, StageProgram};
use zephyr_engine::pipeline::{Format, Pipeline};
use zephyr_engine::plan::{Plan, Stage};

use crate::finalize::{TemplateError, output_path};
use crate::formats::Compression;
use crate::shuffle::SpillFolder;
use crate::storage::JobStorage;

/// Memory for one attempt where no limit is known.
const MEMORY_BYTES_UNKNOWN: u64 = 512 << 20;

/// Below this a buffer is not worth having, however little memory there is.
const BUFFER_BYTES_MIN: u64 = 4 << 20;

/// What a process that runs tasks has to know.
pub struct TaskSetup {
    /// The job's pipeline.
    pub pipeline: Pipeline,
    /// Its plan.
    pub plan: Plan,
    /// `spec.pipeline.sink.files.path`.
    pub sink_path: String,
    /// How final files are compressed; by their extension where not given.
    pub sink_compression: Option<Compression>,
    /// How source files are read; by their extension where not given.
    pub source_format: Option<Format>,
    /// The job's folder.
    pub storage: JobStorage,
    /// What one attempt may use: the container's limit divided by its slots. 0 where there is no limit.
    pub memory_bytes: u64,
    /// A local folder for what does not fit into memory.
    pub spill_folder: PathBuf,
    /// Where calls to the store run.
    pub runtime: Handle,
}

/// Why no task can run in this process.
#[derive(Debug, thiserror::Error)]
pub enum TaskContextError {
    /// The sink's path is no template.
    #[error("{0}")]
    ParseSinkPath(#[source] TemplateError),
    /// The folder for spilling is not there.
    #[error("spilling: {folder} is not a folder")]
    FindSpillFolder {
        /// The folder.
        folder: String,
    },
}

/// What all attempts in a process share. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext {
    pub(super) setup: Arc<TaskSetup>,
    pub(super) spill: SpillFolder,
    programs: Arc<Mutex<BTreeMap<StageId, Arc<StageProgram>>>>,
}

impl TaskContext {
    /// Checks what can be checked before any task runs.
    pub fn new(setup: TaskSetup) -> Result<Self, TaskContextError> {
        output_path(&setup.sink_path, 0, 1).map_err(TaskContextError::ParseSinkPath)?;
        if !setup.spill_folder.is_dir() {
            return Err(TaskContextError::FindSpillFolder {
                folder: setup.spill_folder.display().to_string(),
            });
        }
        let spill = SpillFolder::new(&setup.spill_folder);
        Ok(Self {
            setup: Arc::new(setup),
            spill,
            programs: Arc::default(),
        })
    }

    /// The stage's work, compiled once.
    pub(super) fn program(&self, stage: &Stage) -> Result<Arc<StageProgram>, OperatorError> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&stage.id) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(StageProgram::compile(stage)?);
        programs.insert(stage.id, Arc::clone(&program));
        Ok(program)
    }

    /// What a buffer of records may hold, and what the streams of a merge may: a quarter of the memory each, because
    /// the allocator, the compressor and the parts under way need the rest.
    pub(super) fn buffer_bytes(&self) -> usize {
        let memory = if self.setup.memory_bytes == 0 {
            MEMORY_BYTES_UNKNOWN
        } else {
            self.setup.memory_bytes
        };
        usize::try_from((memory / 4).max(BUFFER_BYTES_MIN)).unwrap_or(usize::MAX)
    }
}
