//! Runs the real task, with its own threads, while the simulation waits and its clock is paused. So
//! the result does not depend on other events. Its calls to the store fail according to the seed,
//! and take no time.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Runtime;
use zephyr_engine::coordinator::record::FailureClass;
use zephyr_proto::worker::RunTask;
use zephyr_store::chance::Chance;

use super::job::SimulatedJob;
use super::store::Server;
use crate::convert::wire;
use crate::defect;
use crate::task::{ProgressCounters, TaskContext, TaskFailure, TaskSetup, run};
use crate::worker::SlotEvent;

/// The runtime for the store calls of all tasks of all runs. The calls take no time, but the pauses
/// between tries need a runtime.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap()
});

/// Runs tasks of one job.
pub(super) struct Tasks {
    context: TaskContext,
    /// The context during an outage of the store. Tasks do not retry then, because no simulated
    /// time passes while they run.
    without_retries: TaskContext,
    server: Arc<Server>,
    /// The folder for data that does not fit into memory. The jobs here have no such data.
    _spill: tempfile::TempDir,
}

impl Tasks {
    pub(super) fn new(job: &SimulatedJob, server: &Arc<Server>, retry_time: Duration) -> Self {
        let spill = tempfile::tempdir().unwrap();
        let context = |retry_time| {
            let run_job = job.on(server, None, Chance::from_seed(0), retry_time);
            let (spill, runtime) = (spill.path().to_owned(), RUNTIME.handle().clone());
            let setup = TaskSetup::of(
                run_job,
                job.source.clone(),
                job.tables.clone(),
                0,
                spill,
                runtime,
            );
            TaskContext::new(setup).unwrap()
        };
        Self {
            context: context(retry_time),
            without_retries: context(Duration::ZERO),
            server: Arc::clone(server),
            _spill: spill,
        }
    }

    /// Runs an attempt to its end.
    pub(super) fn run(&self, task: RunTask) -> SlotEvent {
        let assignment = wire::assignment(task).unwrap();
        let attempt = assignment.task;
        let context = if self.server.is_out() {
            &self.without_retries
        } else {
            &self.context
        };
        let counters = Arc::new(ProgressCounters::default());
        // The task runs on another thread, because this thread belongs to the simulation's runtime,
        // and tasks block.
        let work = defect::inherited(|| run(context, &assignment, &counters, None));
        let outcome = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
        match outcome {
            Ok(output) => SlotEvent::Done(wire::to_task_done(attempt, output)),
            Err(failure) => SlotEvent::Failed(wire::to_failed(attempt, failure)),
        }
    }
}

/// Returns a failure that the task itself causes.
pub(super) fn own_failure() -> TaskFailure {
    TaskFailure {
        class: FailureClass::Application,
        setback: None,
        error: "it failed by itself".to_owned(),
        lost_input: None,
        log: String::new(),
    }
}
