//! The state that all attempts in a process share: the plan, compiled stages, storage. Runs
//! nothing.

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
use zephyr_store::shuffle::SpillFolder;
use zephyr_store::storage::JobStorage;

use crate::convert::pipeline as convert;
use crate::job::RunJob;
use crate::task::error::TaskError;
use crate::task::run::ProgressCounters;
use crate::task::tables::{self, MAX_TABLES_BYTES};

/// Memory for one attempt if no limit is known.
const MEMORY_BYTES_UNKNOWN: u64 = 512 << 20;

/// Least size of a buffer, however little memory there is.
const MIN_BUFFER_BYTES: u64 = 4 << 20;

/// The reserve of memory: this part of it (a tenth), and at least `MIN_RESERVE_BYTES`. A worker
/// ends its largest process when less is free; see `worker::memory_watch`.
const RESERVE_SHARE: u64 = 10;
const MIN_RESERVE_BYTES: u64 = 32 << 20;

/// Memory of a task's process and its share of the supervisor's memory, without records. It is for
/// programs, ranges that are read ahead (3 of 8 MiB), parts that are being sent, and the
/// compressor.
const PROCESS_BYTES: u64 = 96 << 20;

/// A record may always take this much memory, even in a small worker: records of a few hundred KiB
/// never fill a worker.
const MIN_ROOM_BYTES: u64 = 16 << 20;

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
    /// How they are read, by the table's name; default: by their extension.
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
            loaded: Arc::default(),
        })
    }

    /// Whether some stage has commands.
    pub fn has_commands(&self) -> bool {
        let mut stages = self.setup.plan.stages.iter();
        stages.any(|stage| stage.commands().next().is_some())
    }

    /// The stage's steps, compiled once; reads the tables first, once.
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
        let room = room_for_tables(self.setup.memory_bytes);
        let loaded = tables::read(self, room, counters)?;
        Ok(self.loaded.get_or_init(|| loaded))
    }

    /// The memory of an attempt without the tables.
    fn memory_bytes(&self) -> u64 {
        let tables = self.loaded.get().map_or(0, |loaded| loaded.bytes);
        match self.setup.memory_bytes {
            0 => 0,
            limited => limited.saturating_sub(tables).max(1),
        }
    }

    /// The limits for a record of the stage, and the memory that it may take besides the stage's
    /// buffers.
    pub(super) fn record_limits(&self, stage: &Stage) -> Limits {
        let reads_shuffle = stage.source().is_none();
        let writes_shuffle = matches!(stage.output, StageOutput::Shuffle { .. });
        let buffers = usize::from(reads_shuffle) + usize::from(writes_shuffle);
        Limits {
            memory_bytes: room_for_a_record(
                self.memory_bytes(),
                buffers as u64 * self.buffer_bytes() as u64,
            ),
            ..self.setup.limits.record
        }
    }

    /// How many bytes a buffer of records may hold, and the same for the streams of a merge.
    pub(super) fn buffer_bytes(&self) -> usize {
        buffer_bytes(self.memory_bytes())
    }
}

/// An attempt's memory minus the reserve at which its worker ends processes, and minus the constant
/// memory of a process.
fn free_bytes(memory_bytes: u64) -> u64 {
    let reserve = (memory_bytes / RESERVE_SHARE).max(MIN_RESERVE_BYTES);
    memory_bytes.saturating_sub(reserve + PROCESS_BYTES)
}

/// The memory that tables may take: half of what is free, so that records and buffers have the
/// rest.
fn room_for_tables(memory_bytes: u64) -> u64 {
    if memory_bytes == 0 {
        return MAX_TABLES_BYTES;
    }
    free_bytes(memory_bytes) / 2
}

/// A quarter of the memory, because the allocator and the records need the rest. A stage has at
/// most two buffers, so each takes at most half of the free memory. So a task in a small container
/// spills earlier, and its worker does not end it.
fn buffer_bytes(memory_bytes: u64) -> usize {
    let buffer = if memory_bytes == 0 {
        MEMORY_BYTES_UNKNOWN / 4
    } else {
        (memory_bytes / 4).min(free_bytes(memory_bytes) / 2)
    };
    usize::try_from(buffer.max(MIN_BUFFER_BYTES)).unwrap_or(usize::MAX)
}

/// The memory that one record may take: the free memory without the stage's buffers. No limit if no
/// memory limit is known.
fn room_for_a_record(memory_bytes: u64, buffers_bytes: u64) -> usize {
    if memory_bytes == 0 {
        return usize::MAX;
    }
    let room = free_bytes(memory_bytes)
        .saturating_sub(buffers_bytes)
        .max(MIN_ROOM_BYTES);
    usize::try_from(room).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_record_may_take_what_the_reserve_the_process_and_the_buffers_leave() {
        for (memory, buffers, room) in [
            (1024 * MIB, 0, 825),
            (1024 * MIB, 256 * MIB, 569),
            (512 * MIB, 128 * MIB, 236),
            (256 * MIB, 64 * MIB, 64),
            (128 * MIB, 4 * MIB, 16),
        ] {
            let found = room_for_a_record(memory, buffers) as u64 / MIB;
            assert_eq!(found, room, "{memory} {buffers}");
        }
        assert_eq!(room_for_a_record(0, MIB), usize::MAX);
    }

    #[test]
    fn two_buffers_and_a_process_stay_below_the_reserve_from_136_mib_on() {
        for (memory, buffer) in [
            (0, 128 * MIB),
            (64 * MIB, 4 * MIB),
            (128 * MIB, 4 * MIB),
            (136 * MIB, 4 * MIB),
            (192 * MIB, 32 * MIB),
            (256 * MIB, 64 * MIB),
            (1024 * MIB, 256 * MIB),
        ] {
            let found = buffer_bytes(memory) as u64;
            assert_eq!(found, buffer, "{memory}");
            let reserve = (memory / RESERVE_SHARE).max(MIN_RESERVE_BYTES);
            let all = reserve + PROCESS_BYTES + 2 * found;
            assert!(all <= memory || memory < 136 * MIB, "{memory}: {all}");
        }
    }
}
