//! Holds the state that all attempts in a process share: the plan, compiled stages and storage.
//! Runs nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use zephyr_crds::pipeline::TableSpec;
use zephyr_engine::expr::Variables;
use zephyr_engine::id::StageId;
use zephyr_engine::ops::StageProgram;
use zephyr_engine::pipeline::{Format, Pipeline};
use zephyr_engine::plan::{Plan, PlannedSource, Stage, StageOutput, plan};
use zephyr_engine::record::Limits;
use zephyr_store::finalize::{TemplateError, output_path};
use zephyr_store::formats::{Compression, ReadLimits};
use zephyr_store::ledger::TableFiles;
use zephyr_store::ownership::dead_letter_paths;
use zephyr_store::shuffle::SpillFolder;
use zephyr_store::storage::JobStorage;

use crate::convert::pipeline as convert;
use crate::job::RunJob;
use crate::task::error::TaskError;
use crate::task::exec::KeptCommands;
use crate::task::memory::Budget;
use crate::task::run::ProgressCounters;
use crate::task::tables::{self, MAX_TABLES_BYTES};

/// The settings of a process that runs tasks.
pub struct TaskSetup {
    /// The job's pipeline.
    pub pipeline: Pipeline,
    /// Its plan.
    pub plan: Plan,
    /// `spec.pipeline.sink.files.path`.
    pub sink_path: String,
    /// How final files are compressed; default: by their extension.
    pub sink_compression: Option<Compression>,
    /// How source files are read; default: by their extension.
    pub source_format: Option<Format>,
    /// The files of the tables.
    pub tables: TableFiles,
    /// The format of each table's files, by the table's name. If a table is not in this map, the
    /// extension of its files determines the format.
    pub table_formats: BTreeMap<String, Format>,
    /// The job's folder.
    pub storage: JobStorage,
    /// The limits for files and records; the memory that a record may take follows from
    /// `memory_bytes`.
    pub limits: ReadLimits,
    /// The memory that one attempt may use: the container's limit divided by its slots. 0 if there
    /// is no limit.
    pub memory_bytes: u64,
    /// A local folder for data that does not fit into memory.
    pub spill_folder: PathBuf,
    /// The settings of commands.
    pub commands: CommandSettings,
    /// The runtime for calls to the store.
    pub runtime: Handle,
}

/// What the commands of own code need besides their step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandSettings {
    /// The name of the job.
    pub job: String,
    /// How long a command may run without moving a byte.
    pub stall_timeout: Duration,
}

impl TaskSetup {
    /// The setup for a job with this source.
    pub fn of(
        job: RunJob,
        source: impl Into<PlannedSource>,
        tables: TableFiles,
        memory_bytes: u64,
        spill_folder: PathBuf,
        runtime: Handle,
    ) -> Self {
        let spec = &job.frozen.spec.pipeline;
        let files = spec.source.files.as_ref();
        Self {
            plan: plan(&job.pipeline, source),
            sink_path: spec.sink.files.path.clone(),
            sink_compression: spec.sink.files.compression.map(convert::compression),
            source_format: files.and_then(|files| files.format).map(convert::format),
            table_formats: formats(&spec.tables),
            tables,
            storage: job.storage,
            limits: job.limits,
            memory_bytes,
            spill_folder,
            commands: CommandSettings {
                job: job.frozen.name.clone(),
                stall_timeout: job.task_stall_timeout,
            },
            pipeline: job.pipeline,
            runtime,
        }
    }
}

/// The formats of the tables that set one.
fn formats(tables: &BTreeMap<String, TableSpec>) -> BTreeMap<String, Format> {
    let format = |(name, table): (&String, &TableSpec)| {
        let format = table.files.format?;
        Some((name.clone(), convert::format(format)))
    };
    tables.iter().filter_map(format).collect()
}

/// Why no task can run in this process.
#[derive(Debug, thiserror::Error)]
pub enum TaskContextError {
    /// The sink's path is not a valid template.
    #[error("{0}")]
    ParseSinkPath(#[source] TemplateError),
    /// The folder for spilling is missing.
    #[error("spilling: {folder} is not a folder")]
    FindSpillFolder {
        /// The folder.
        folder: String,
    },
}

/// The state that all attempts in a process share. Cheap to clone.
#[derive(Clone)]
pub struct TaskContext {
    pub(super) setup: Arc<TaskSetup>,
    pub(super) spill: SpillFolder,
    /// The processes of commands that wait for their next shard. Attempts that run at the same time
    /// take different processes.
    pub(super) kept: Arc<KeptCommands>,
    programs: Arc<Mutex<BTreeMap<StageId, Arc<StageProgram>>>>,
    /// The named values and the tables. The first attempt that can read them sets this.
    loaded: Arc<OnceLock<LoadedVariables>>,
}

/// The data that expressions use besides the record.
pub(super) struct LoadedVariables {
    pub(super) variables: Variables,
    /// Bytes of the tables in memory.
    pub(super) bytes: u64,
}

impl TaskContext {
    /// Makes the context. Fails if the sink's path or the spill folder cannot be used.
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
            kept: Arc::default(),
            programs: Arc::default(),
            loaded: Arc::default(),
        })
    }

    /// Whether some stage has commands.
    pub fn has_commands(&self) -> bool {
        let mut stages = self.setup.plan.stages.iter();
        stages.any(|stage| stage.commands().next().is_some())
    }

    /// Returns the compiled steps of the stage. The first call for a stage compiles them. The first
    /// call for any stage also reads the tables.
    pub(super) fn program(
        &self,
        stage: &Stage,
        counters: &Arc<ProgressCounters>,
    ) -> Result<Arc<StageProgram>, TaskError> {
        let loaded = self.loaded(counters)?;
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = programs.get(&stage.id) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(StageProgram::compile(
            stage,
            &loaded.variables,
            &self.record_limits(stage),
        )?);
        programs.insert(stage.id, Arc::clone(&program));
        Ok(program)
    }

    fn loaded(&self, counters: &Arc<ProgressCounters>) -> Result<&LoadedVariables, TaskError> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let room = Budget::room_for_tables(self.setup.memory_bytes, MAX_TABLES_BYTES);
        let loaded = tables::read(self, room, counters)?;
        Ok(self.loaded.get_or_init(|| loaded))
    }

    /// How the memory of an attempt of this stage is divided.
    fn budget(&self, stage: &Stage) -> Budget {
        let reads_shuffle = stage.source().is_none();
        let writes_shuffle = matches!(stage.output, StageOutput::Shuffle { .. });
        let letters = dead_letter_paths(&self.setup.plan, stage).count();
        Budget {
            memory_bytes: self.setup.memory_bytes,
            tables_bytes: self.loaded.get().map_or(0, |loaded| loaded.bytes),
            shuffles: u32::from(reads_shuffle) + u32::from(writes_shuffle),
            dead_letters: u32::try_from(letters).unwrap_or(u32::MAX),
            windows: u32::try_from(stage.windows()).unwrap_or(u32::MAX),
        }
    }

    /// The limits for a record of the stage, and the memory that it may take besides everything
    /// else that the stage needs.
    pub(super) fn record_limits(&self, stage: &Stage) -> Limits {
        Limits {
            memory_bytes: self.budget(stage).record_bytes(),
            ..self.setup.limits.record
        }
    }

    /// How many bytes a buffer of records may hold. All streams of a merge together may hold the
    /// same number.
    pub(super) fn buffer_bytes(&self, stage: &Stage) -> usize {
        self.budget(stage).buffer_bytes()
    }
}
