//! `zephyr-worker worker`: a supervisor that owns the session, and one child process for each slot
//! that runs tasks.
//!
//! A task can only affect its own child. The supervisor uses no storage.

mod child;
mod child_main;
mod death;
mod disk;
mod frames;
mod hidden;
mod memory;
mod memory_watch;
mod options;
mod session;
mod slot;
mod supervisor;

use std::io;
use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use child_main::{CHILD_ARGUMENT, child_main_if_requested};
#[cfg(test)]
pub(crate) use disk::Leave;
pub use options::{Readiness, WorkerOptions, task_slots};
pub use session::StartSessionError;
#[cfg(test)]
pub(crate) use session::{Line, Session};
pub(crate) use slot::{SlotCommand, SlotEvent};
pub(crate) use supervisor::Supervisor;
pub use supervisor::SupervisorError;
use zephyr_engine::pipeline::Step;
use zephyr_proto::task::Setup;
use zephyr_proto::worker::Hello;

use self::child::own_executable;
use self::disk::DiskLimit;
use self::hidden::hide_from_commands;
use self::memory::OomCounter;
use self::memory_watch::{MemoryWatch, WatchedCommands};
use self::session::SessionOptions;
use self::slot::{Slot, SlotOptions};
use crate::job::RunJob;

/// How many events wait for the supervisor's loop at most.
const EVENTS_QUEUED: usize = 256;
/// How many commands have room in the queue of a slot. At most one `Run` and one `Stop` wait there.
const COMMANDS_QUEUED: usize = 4;

/// Why a worker did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The path of its own executable is not known.
    #[error("find this program's executable: {source}")]
    Executable {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The folder for spilled data cannot be made.
    #[error("make spill directory {path}: {source}")]
    Spill {
        /// The folder.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The frozen job cannot be given to a child.
    #[error("write the job for the task's processes: {source}")]
    Job {
        /// The cause.
        #[source]
        source: zephyr_crds::frozen::FrozenJobError,
    },
    /// The session's thread could not be started.
    #[error(transparent)]
    Session(StartSessionError),
    /// A part of the worker died.
    #[error(transparent)]
    Supervisor(SupervisorError),
}

/// Runs a worker until `terminate` is sent. Dropping the future kills its children.
pub async fn run(
    options: WorkerOptions,
    readiness: watch::Sender<Readiness>,
    terminate: oneshot::Receiver<()>,
) -> Result<(), WorkerError> {
    let executable = match options.executable {
        Some(path) => path,
        None => own_executable().map_err(|source| WorkerError::Executable { source })?,
    };
    if commands_of(&options.job) != WatchedCommands::None && !options.job.is_local {
        hide_from_commands();
    }
    let incarnation = rand::rng().random_range(1..=u64::MAX);
    let spill_name = format!("zephyr-{}-", options.pod_uid);
    remove_leftovers(&options.spill_directory, &spill_name);
    let spill_name = format!("{spill_name}{incarnation:016x}");
    let spill_directory = options.spill_directory.join(spill_name);
    make_directory(&spill_directory)?;
    let slots = options.slots.max(1);
    let job = options
        .job
        .frozen
        .to_json()
        .map_err(|source| WorkerError::Job { source })?;
    let setup = Setup {
        job,
        source_shards: 0,
        shuffle_shards: 0,
        source_parts: String::new(),
        gather: 0,
        tables: Vec::new(),
        memory_bytes: options.memory_bytes / u64::from(slots),
        spill_directory: spill_directory.display().to_string(),
    };
    let memory_limit_bytes = if options.memory_is_limited {
        options.memory_bytes
    } else {
        0
    };
    let slot_options = Arc::new(SlotOptions {
        executable,
        stall_timeout: options.job.task_stall_timeout,
        task_timeout: options.job.task_timeout,
        memory_limit_bytes,
        memory: MemoryWatch::new(memory_limit_bytes, slots, commands_of(&options.job)),
        oom: OomCounter::find(),
    });
    let (events, slot_events) = mpsc::channel(EVENTS_QUEUED);
    let (mut drivers, commands) = start_slots(slots, &slot_options, &events);
    let (session_events, session) = mpsc::channel(EVENTS_QUEUED);
    let identity = options.job.identity.clone();
    session::start(
        SessionOptions {
            identity,
            address: options.address,
            token: options.token,
        },
        session_events,
    )
    .map_err(WorkerError::Session)?;
    let hello = Hello {
        pod_uid: options.pod_uid,
        pod_name: options.pod_name,
        incarnation,
        slots,
        memory_bytes: options.memory_bytes,
        running: Vec::new(),
    };
    let job = options.job;
    let metrics = options.metrics;
    let supervisor = Supervisor {
        job,
        hello,
        setup,
        session,
        slots: commands,
        slot_events,
        readiness,
        metrics,
    };
    let disk = DiskLimit {
        directory: options.spill_directory,
        limit_bytes: options.disk_limit_bytes,
    };
    let (leave, how) = oneshot::channel();
    let mut asked = JoinSet::new();
    asked.spawn(disk.report_cause(terminate, leave));
    let ended = tokio::select! {
        ended = supervisor.run(how) => ended,
        () = any_dies(&mut drivers) => Err(SupervisorError::PartDied { part: "task slots" }),
    };
    drivers.shutdown().await;
    if let Err(error) = std::fs::remove_dir_all(&spill_directory) {
        tracing::debug!(%error, "the spill directory stays");
    }
    ended.map_err(WorkerError::Supervisor)
}

/// Whether own code runs in the job, and whether it stays between tasks.
fn commands_of(job: &RunJob) -> WatchedCommands {
    let commands = job.pipeline.steps.iter().filter_map(|step| {
        let Step::Exec(exec) = step else {
            return None;
        };
        Some(exec.reuse)
    });
    match commands.max() {
        None => WatchedCommands::None,
        Some(false) => WatchedCommands::OfTasks,
        Some(true) => WatchedCommands::Kept,
    }
}

/// Starts one asynchronous task for each slot. Returns these tasks and the channels to the slots.
fn start_slots(
    slots: u32,
    options: &Arc<SlotOptions>,
    events: &mpsc::Sender<(u32, SlotEvent)>,
) -> (JoinSet<()>, Vec<mpsc::Sender<SlotCommand>>) {
    let mut drivers = JoinSet::new();
    let mut commands = Vec::new();
    for number in 0..slots {
        let (sender, receiver) = mpsc::channel(COMMANDS_QUEUED);
        let slot = Slot {
            number,
            options: Arc::clone(options),
            oom_kills_before: 0,
            next_look: Instant::now(),
            keep_until: None,
            commands: receiver,
            events: events.clone(),
        };
        drivers.spawn(slot.drive());
        commands.push(sender);
    }
    (drivers, commands)
}

/// Waits until a slot ends. A slot that ends before the supervisor has panicked.
async fn any_dies(drivers: &mut JoinSet<()>) {
    let ended = drivers.join_next().await;
    tracing::error!(?ended, "a task slot ended");
}

/// Removes files that killed processes of this pod left behind.
fn remove_leftovers(folder: &Path, name: &str) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::debug!(%error, "the spill folder cannot be read");
            return;
        }
    };
    for entry in entries.flatten() {
        let is_ours = entry
            .file_name()
            .to_str()
            .is_some_and(|text| text.starts_with(name));
        if is_ours && let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, folder = %entry.path().display(), "an old spill directory cannot be removed");
        }
    }
}

fn make_directory(path: &Path) -> Result<(), WorkerError> {
    std::fs::create_dir_all(path).map_err(|source| WorkerError::Spill {
        path: path.display().to_string(),
        source,
    })
}
