//! The main function of a child process. It runs one task after the other, as its supervisor
//! requests, and exits as soon as the supervisor has ended. It has no connection to a coordinator.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use zephyr_engine::expr::on_full_stack;
use zephyr_engine::id::TaskAttempt;
use zephyr_proto::task::{
    Commands, FromChild, NextRecord, Ready, Setup, SetupFailed, ToChild, from_child, to_child,
};
use zephyr_proto::worker::{RunTask, TaskProgress};
use zephyr_store::install_crypto_provider;
use zephyr_store::storage::{Cause, Location, StorageError};

use super::frames::{FrameError, read_blocking, write_blocking};
use super::hidden::hide_from_commands;
use crate::convert::identity::to_wire;
use crate::convert::wire;
use crate::convert::wire::{planned_source, table_files};
use crate::job::{RunJob, RunJobError};
use crate::task::exec::guardian::{GUARDIAN_ARGUMENT, guardian_main};
use crate::task::{self, ProgressCounters, TaskContext, TaskContextError, TaskSetup, Trace};
use crate::telemetry;

/// The first argument of a child process. No subcommand or option of our programs begins with this
/// text.
pub const CHILD_ARGUMENT: &str = "__task-child";

/// How many threads make calls to the store. One is enough, because the calls mostly wait.
const STORAGE_THREADS: usize = 1;
/// How often running tasks report their progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a task may take so that another task may follow on the same thread. In this time a task
/// cannot use more than some tens of MiB of the stack.
const SHORT_TASK: Duration = Duration::from_millis(5);
/// How many tasks one thread runs at most.
const TASKS_OF_A_THREAD: u32 = 256;
/// The largest OOM score of the kernel. If memory runs out, the kernel kills the child and not the
/// supervisor.
const OOM_SCORE: &str = "1000";

/// If this process was started as a child or as the guardian of a command, runs that and returns
/// its exit code. Otherwise returns `None` at once. Must be called first in `main` of every program
/// that runs workers.
pub fn child_main_if_requested() -> Option<ExitCode> {
    let argument = std::env::args_os().nth(1);
    if argument
        .as_ref()
        .is_some_and(|argument| argument == GUARDIAN_ARGUMENT)
    {
        return Some(guardian_main());
    }
    let requested = argument.is_some_and(|argument| argument == CHILD_ARGUMENT);
    requested.then(|| match child_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the task's process ends");
            ExitCode::FAILURE
        }
    })
}

/// Why a child cannot continue.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error(transparent)]
    Frame(FrameError),
    #[error("duplicate stdout: {source}")]
    Stdout {
        #[source]
        source: io::Error,
    },
    #[error("start the runtime: {source}")]
    Runtime {
        #[source]
        source: io::Error,
    },
    #[error("start thread {name}: {source}")]
    Thread {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the supervisor's first message is not Setup")]
    NoSetup,
    #[error("read what to run: {0}")]
    Run(crate::convert::identity::WireError),
}

/// Why a child cannot start. This is reported to the supervisor.
#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error(transparent)]
    Spill(StorageError),
    #[error(transparent)]
    Job(RunJobError),
    #[error(transparent)]
    Context(TaskContextError),
}

impl SetupError {
    /// Returns whether the child might work on another machine, or later on this machine.
    fn is_disruption(&self) -> bool {
        match self {
            Self::Spill(_) | Self::Context(TaskContextError::FindSpillFolder { .. }) => true,
            Self::Job(_) | Self::Context(TaskContextError::ParseSinkPath(_)) => false,
        }
    }
}

/// Writes frames to the supervisor. Each frame is written as a whole.
#[derive(Clone)]
struct Reports(Arc<Mutex<File>>);

impl Reports {
    fn open() -> Result<Self, ChildError> {
        let copy = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| ChildError::Stdout { source })?;
        Ok(Self(Arc::new(Mutex::new(File::from(copy)))))
    }

    fn send(&self, message: from_child::Message) -> Result<(), ChildError> {
        let mut pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_blocking(
            &mut *pipe,
            &FromChild {
                message: Some(message),
            },
        )
        .map_err(ChildError::Frame)
    }
}

/// The running task and its counters, for the thread that reports progress.
type Running = Arc<Mutex<Option<(TaskAttempt, Arc<ProgressCounters>)>>>;

fn child_main() -> Result<(), ChildError> {
    telemetry::start_plain("warn");
    install_crypto_provider();
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::debug!(%error, "cannot make this process the first to be ended when memory is short");
    }
    let reports = Reports::open()?;
    let mut commands = io::stdin().lock();
    let first = read_blocking::<ToChild>(&mut commands).map_err(ChildError::Frame)?;
    drop(commands);
    let Some(ToChild {
        message: Some(to_child::Message::Setup(setup)),
    }) = first
    else {
        return Err(ChildError::NoSetup);
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(STORAGE_THREADS)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| ChildError::Runtime { source })?;
    let context = match context(setup, runtime.handle().clone()) {
        Ok(context) => context,
        Err(error) => {
            return reports.send(from_child::Message::SetupFailed(SetupFailed {
                error: error.to_string(),
                is_disruption: error.is_disruption(),
            }));
        }
    };
    if context.has_commands() {
        hide_from_commands();
    }
    let tasks = listen()?;
    let running = report_progress(reports.clone())?;
    reports.send(from_child::Message::Ready(Ready {}))?;
    let mut runner = TaskRunner {
        context,
        tasks,
        reports,
        running,
    };
    while runner.run_some()? {}
    Ok(())
}

fn context(setup: Setup, runtime: Handle) -> Result<TaskContext, SetupError> {
    make_spill_folder(&setup.spill_directory).map_err(SetupError::Spill)?;
    let job = RunJob::from_json(&setup.job).map_err(SetupError::Job)?;
    let setup = TaskSetup::of(
        job,
        planned_source(
            setup.source_shards,
            setup.shuffle_shards,
            &setup.source_parts,
            setup.gather,
        ),
        table_files(setup.tables),
        setup.memory_bytes,
        PathBuf::from(setup.spill_directory),
        runtime,
    );
    TaskContext::new(setup).map_err(SetupError::Context)
}

fn make_spill_folder(folder: &str) -> Result<(), StorageError> {
    const CALL: &str = "making the folder for spilling";
    let location = Location::parse_local(folder).map_err(|error| StorageError {
        call: CALL,
        object: folder.to_owned(),
        cause: Cause::Configuration(error.to_string()),
    })?;
    std::fs::create_dir_all(folder)
        .map_err(|error| StorageError::from_io_in(CALL, &location, &error))
}

/// Reads the supervisor's frames on a separate thread. So this process exits when the supervisor
/// ends, even while a task hangs.
fn listen() -> Result<mpsc::Receiver<RunTask>, ChildError> {
    let (sender, receiver) = mpsc::channel();
    let listen = move || {
        let mut commands = io::stdin().lock();
        while let Ok(Some(ToChild {
            message: Some(to_child::Message::Run(run)),
        })) = read_blocking(&mut commands)
        {
            if sender.send(run).is_err() {
                break;
            }
        }
        std::process::exit(0);
    };
    start_thread("listen", listen)?;
    Ok(receiver)
}

fn report_progress(reports: Reports) -> Result<Running, ChildError> {
    let running = Running::default();
    let shared = Arc::clone(&running);
    let report = move || {
        let mut last = None;
        loop {
            std::thread::sleep(PROGRESS_INTERVAL);
            let current = shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let Some((task, counters)) = current else {
                continue;
            };
            let progress = TaskProgress {
                task: Some(to_wire(task)),
                records: counters.records.load(Ordering::Relaxed),
                bytes: counters.bytes.load(Ordering::Relaxed),
                written: counters.written.load(Ordering::Relaxed),
            };
            if last.as_ref() == Some(&progress) {
                continue;
            }
            last = Some(progress);
            if reports
                .send(from_child::Message::Progress(progress))
                .is_err()
            {
                break;
            }
        }
    };
    start_thread("progress", report)?;
    Ok(running)
}

/// The state of a thread that runs tasks.
struct TaskRunner {
    context: TaskContext,
    tasks: mpsc::Receiver<RunTask>,
    reports: Reports,
    running: Running,
}

impl TaskRunner {
    /// Runs tasks on a new thread. Several short tasks share a thread, because a thread for each
    /// would take too much time. The memory of the stack is released when the thread ends. Returns
    /// `false` if there are no more tasks.
    fn run_some(&mut self) -> Result<bool, ChildError> {
        let ended = on_full_stack("task", || self.run_short_ones());
        let ended = ended.map_err(|source| ChildError::Thread {
            name: "task",
            source,
        })?;
        // A panic outside of any task is a bug of this program, so the process must end, as after a
        // panic on this thread.
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs tasks until one took longer than [`SHORT_TASK`], or until there were
    /// [`TASKS_OF_A_THREAD`]. Returns `false` if there are no more tasks.
    fn run_short_ones(&mut self) -> Result<bool, ChildError> {
        for _ in 0..TASKS_OF_A_THREAD {
            let Ok(run) = self.tasks.recv() else {
                return Ok(false);
            };
            let began = Instant::now();
            let answer = self.run(run)?;
            self.reports.send(answer)?;
            if began.elapsed() > SHORT_TASK {
                break;
            }
        }
        Ok(true)
    }

    fn run(&self, run: RunTask) -> Result<from_child::Message, ChildError> {
        let assignment = wire::assignment(run).map_err(ChildError::Run)?;
        let task = assignment.task;
        let counters = Arc::new(ProgressCounters::default());
        let notes = Notes {
            reports: self.reports.clone(),
        };
        self.report_progress_of(Some((task, Arc::clone(&counters))));
        let outcome = task::run(&self.context, &assignment, &counters, Some(&notes));
        self.report_progress_of(None);
        Ok(match outcome {
            Ok(output) => from_child::Message::Done(wire::to_task_done(task, output)),
            Err(failure) => from_child::Message::Failed(wire::to_failed(task, failure)),
        })
    }

    fn report_progress_of(&self, task: Option<(TaskAttempt, Arc<ProgressCounters>)>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }
}

/// Reports each record to the supervisor before the record is processed. The report stays in the
/// pipe if this process dies.
struct Notes {
    reports: Reports,
}

impl Trace for Notes {
    fn commands(&self, steps: &str) {
        let steps = steps.to_owned();
        let noted = self
            .reports
            .send(from_child::Message::Commands(Commands { steps }));
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot note the commands");
        }
    }

    fn note(&self, place: &dyn std::fmt::Display) {
        let place = place.to_string();
        if let Err(error) = self
            .reports
            .send(from_child::Message::NextRecord(NextRecord { place }))
        {
            tracing::warn!(%error, "cannot note the record");
        }
    }
}

fn start_thread(
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), ChildError> {
    let started = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body);
    started
        .map(drop)
        .map_err(|source| ChildError::Thread { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_8282_a_folder_for_spilling_that_cannot_be_made_is_named_and_is_the_machines_fault() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "in the way").unwrap();
        let wanted = file.join("spill").display().to_string();
        let error = SetupError::Spill(make_spill_folder(&wanted).unwrap_err());
        assert!(error.is_disruption());
        let expected = format!("making the folder for spilling file://{wanted}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        make_spill_folder(&folder.path().join("a/b").display().to_string()).unwrap();
    }
}
