//! Runs one task slot. Its child process is reused, killed if a task hangs, and replaced if it
//! died. The slot reports to the supervisor, and has no connection to the coordinator.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::failed_task::last_lines;
use zephyr_engine::coordinator::record::FailureClass;
use zephyr_engine::id::TaskAttempt;
use zephyr_proto::task::{Setup, from_child, to_child};
use zephyr_proto::worker::{Failed, RunTask, TaskDone, TaskProgress};

use super::child::{ChildError, ChildProcess};
use super::death::{Cause, Death, Place};
use super::memory::OomCounter;
use super::memory_watch::{Finding, MemoryWatch};
use crate::convert::wire;
use crate::task::TaskFailure;

/// How long to wait before a failed start of a process is reported. So a worker that cannot start
/// processes does not quickly fail all tasks of a stage.
const START_FAILED_WAIT: Duration = Duration::from_secs(2);

/// How long a process may run without a measurement of its memory. If a task took longer than this,
/// the memory is measured directly after the task. In a series of shorter tasks, it is measured
/// this long after the first of them. In this time a process cannot allocate more than some tens of
/// MiB.
const MAX_UNSEEN: Duration = Duration::from_millis(20);

/// A command for a slot.
pub(crate) enum SlotCommand {
    /// Run this task. Only sent while the slot is idle.
    Run {
        /// The attempt.
        task: TaskAttempt,
        /// The assignment as it came from the coordinator.
        run: RunTask,
        /// The setup for a new child.
        setup: Arc<Setup>,
    },
    /// Stop the running task, and send no report about it. The slot answers with `Stopped`.
    Stop,
}

/// A report of a slot.
pub(crate) enum SlotEvent {
    /// The progress of the task.
    Progress(TaskProgress),
    /// The task is done; the slot is idle.
    Done(TaskDone),
    /// The task failed; the slot is idle.
    Failed(Failed),
    /// Answers `Stop`; the slot is idle.
    Stopped,
}

/// The settings and the state that the slots of one worker share.
pub(super) struct SlotOptions {
    /// The executable of child processes.
    pub executable: PathBuf,
    /// How long a task may run without progress.
    pub stall_timeout: Duration,
    /// How long a task may run in all, if there is a limit.
    pub task_timeout: Option<Duration>,
    /// The worker's memory limit; 0 if there is none.
    pub memory_limit_bytes: u64,
    /// The memory of all task processes of this worker.
    pub(super) memory: MemoryWatch,
    /// The file that counts this process's OOM kills.
    pub oom: OomCounter,
}

/// One slot.
pub(super) struct Slot {
    /// Its number.
    pub number: u32,
    /// The shared state.
    pub options: Arc<SlotOptions>,
    /// How many OOM kills there were in this worker before its child process started. If a child is
    /// killed between two tasks, its death may be noticed only during the second task.
    pub oom_kills_before: u64,
    /// When the memory of its process is measured next while a task runs.
    pub next_look: Instant,
    /// When to decide whether the process can be kept, given the memory that it uses. `None` if
    /// this was already decided after its last task.
    pub keep_until: Option<Instant>,
    /// Its commands.
    pub commands: mpsc::Receiver<SlotCommand>,
    /// The channel for its reports, with its number.
    pub events: mpsc::Sender<(u32, SlotEvent)>,
}

/// How the run of a task ended, with the child if it can be used again.
enum Outcome {
    Finished(Box<SlotEvent>, Option<Box<ChildProcess>>),
    /// The supervisor has ended.
    Abandoned,
}

impl Slot {
    /// Executes commands until the supervisor drops its end of the channel.
    pub(super) async fn drive(mut self) {
        let mut child: Option<Box<ChildProcess>> = None;
        loop {
            let command = tokio::select! {
                biased;
                command = self.commands.recv() => command,
                () = at(self.keep_until) => {
                    child = self.kept(child.take()).await;
                    continue;
                }
                () = sleep_until(self.next_look), if child.is_some() && self.options.memory.watches_idle_slots() => {
                    child = self.look_while_idle(child.take()).await;
                    continue;
                }
            };
            let event = match command {
                None => break,
                Some(SlotCommand::Stop) => SlotEvent::Stopped,
                Some(SlotCommand::Run { task, run, setup }) => {
                    let began = Instant::now();
                    match self.run(child.take(), task, run, &setup).await {
                        Outcome::Finished(event, reusable) => {
                            child = self.kept_after(reusable, began).await;
                            *event
                        }
                        Outcome::Abandoned => break,
                    }
                }
            };
            if self.events.send((self.number, event)).await.is_err() {
                break;
            }
        }
        if let Some(child) = child {
            child.kill().await;
        }
    }

    /// Measures the memory of a slot without a task, whose commands may still run. Returns the
    /// child unless it has to end.
    async fn look_while_idle(
        &mut self,
        child: Option<Box<ChildProcess>>,
    ) -> Option<Box<ChildProcess>> {
        let process = child.as_ref().and_then(|child| child.id());
        match self.options.memory.look(self.number, process) {
            Finding::Fine(wait) => {
                self.next_look = Instant::now() + wait;
                child
            }
            Finding::TooMuch => {
                tracing::info!(
                    slot = self.number,
                    "ends an idle command, because memory is short"
                );
                if let Some(child) = child {
                    child.kill().await;
                }
                None
            }
        }
    }

    async fn kept_after(
        &mut self,
        child: Option<Box<ChildProcess>>,
        began: Instant,
    ) -> Option<Box<ChildProcess>> {
        let now = Instant::now();
        let look_at = *self.keep_until.get_or_insert(now + MAX_UNSEEN);
        if now < look_at && now.duration_since(began) < MAX_UNSEEN {
            child
        } else {
            self.kept(child).await
        }
    }

    /// Returns the child if it can be used again. A process that keeps more than its share of the
    /// memory is ended.
    async fn kept(&mut self, child: Option<Box<ChildProcess>>) -> Option<Box<ChildProcess>> {
        self.keep_until = None;
        let process = child.as_ref().and_then(|child| child.id());
        if !self.options.memory.holds_too_much(self.number, process) {
            return child;
        }
        if let Some(child) = child {
            child.kill().await;
        }
        self.options.memory.forget(self.number);
        None
    }

    async fn run(
        &mut self,
        child: Option<Box<ChildProcess>>,
        task: TaskAttempt,
        run: RunTask,
        setup: &Setup,
    ) -> Outcome {
        let mut place = Place {
            input: wire::input_name(&run),
            ..Place::default()
        };
        let mut child = match self.ready_child(child, setup).await {
            Ok(child) => child,
            Err(error) => {
                return Outcome::Finished(Box::new(start_failed(task, &error).await), None);
            }
        };
        tracing::debug!(slot = self.number, %task, process = child.id(), "begins");
        child.forget_log();
        if child.send(to_child::Message::Run(run)).await.is_err() {
            return self.died(child, task, None, place).await;
        }
        let mut deadline = Instant::now().checked_add(self.options.stall_timeout);
        let task_timeout = self.options.task_timeout.unwrap_or(Duration::MAX);
        let end = Instant::now().checked_add(task_timeout);
        loop {
            let frame = tokio::select! {
                command = self.commands.recv() => return stopped(child, command).await,
                () = at(end) => {
                    let cause = Some(Cause::TimedOut(task_timeout));
                    return self.died(child, task, cause, place).await;
                }
                () = at(deadline) => {
                    let cause = Some(Cause::Stalled(self.options.stall_timeout));
                    return self.died(child, task, cause, place).await;
                }
                () = sleep_until(self.next_look) => match self.options.memory.look(self.number, child.id()) {
                    Finding::Fine(wait) => {
                        self.next_look = Instant::now() + wait;
                        continue;
                    }
                    Finding::TooMuch => {
                        let cause = Some(Cause::OutOfMemory);
                        return self.died(child, task, cause, place).await;
                    }
                },
                frame = child.next() => frame,
            };
            match frame {
                Some(Ok(from_child::Message::Progress(progress))) => {
                    place.records = progress.records;
                    deadline = Instant::now().checked_add(self.options.stall_timeout);
                    if self
                        .events
                        .send((self.number, SlotEvent::Progress(progress)))
                        .await
                        .is_err()
                    {
                        child.kill().await;
                        return Outcome::Abandoned;
                    }
                }
                Some(Ok(from_child::Message::NextRecord(next))) => {
                    place.next_record = Some(next.place);
                    deadline = Instant::now().checked_add(self.options.stall_timeout);
                }
                Some(Ok(from_child::Message::Commands(commands))) => {
                    place.commands = commands.steps;
                }
                Some(Ok(from_child::Message::Done(done))) => {
                    return Outcome::Finished(Box::new(SlotEvent::Done(done)), Some(child));
                }
                Some(Ok(from_child::Message::Failed(mut failed))) => {
                    if failed.log.is_empty() {
                        failed.log = child.log();
                    }
                    return Outcome::Finished(Box::new(SlotEvent::Failed(failed)), Some(child));
                }
                Some(
                    Ok(from_child::Message::Ready(_) | from_child::Message::SetupFailed(_))
                    | Err(_),
                ) => {
                    return self.died(child, task, Some(Cause::Protocol), place).await;
                }
                None => return self.died(child, task, None, place).await,
            }
        }
    }

    async fn ready_child(
        &mut self,
        child: Option<Box<ChildProcess>>,
        setup: &Setup,
    ) -> Result<Box<ChildProcess>, ChildError> {
        if let Some(mut child) = child
            && !child.is_gone()
        {
            return Ok(child);
        }
        self.oom_kills_before = self.options.oom.read();
        let child = ChildProcess::start(&self.options.executable, self.number, setup).await?;
        self.next_look = Instant::now();
        Ok(Box::new(child))
    }

    /// Reports the death of a child. If there is a `cause`, the child is still alive and is killed
    /// here.
    async fn died(
        &self,
        child: Box<ChildProcess>,
        task: TaskAttempt,
        cause: Option<Cause>,
        place: Place,
    ) -> Outcome {
        let (cause, stderr_tail, log) = if let Some(cause) = cause {
            let log = child.log();
            child.kill().await;
            (cause, String::new(), log)
        } else {
            let (cause, tail) = child.end().await;
            let log = last_lines(&tail);
            (cause, tail, log)
        };
        let oom_killed = self.options.oom.read() > self.oom_kills_before;
        let memory_limit_bytes = self.options.memory_limit_bytes;
        let death = Death {
            cause,
            oom_killed,
            memory_limit_bytes,
            is_mostly_commands: self.options.memory.is_mostly_commands(self.number),
            stderr_tail,
            log,
            place,
        };
        let failure = death.failure();
        tracing::warn!(slot = self.number, %task, error = %failure.error, "the task's process died");
        Outcome::Finished(
            Box::new(SlotEvent::Failed(wire::to_failed(task, failure))),
            None,
        )
    }
}

async fn stopped(child: Box<ChildProcess>, command: Option<SlotCommand>) -> Outcome {
    child.kill().await;
    match command {
        Some(SlotCommand::Stop | SlotCommand::Run { .. }) => {
            Outcome::Finished(Box::new(SlotEvent::Stopped), None)
        }
        None => Outcome::Abandoned,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

async fn start_failed(task: TaskAttempt, error: &ChildError) -> SlotEvent {
    let class = class_of(error);
    tracing::warn!(%task, %error, "cannot get a process for the task");
    sleep(START_FAILED_WAIT).await;
    SlotEvent::Failed(wire::to_failed(
        task,
        TaskFailure {
            class,
            setback: (class == FailureClass::Disruption).then_some(Setback::WorkerUnhealthy),
            error: error.to_string(),
            lost_input: None,
            log: String::new(),
        },
    ))
}

/// Returns the class of an error of a child. If a worker cannot start processes, the machine is the
/// cause, and not the task. If a child refuses the job, the job is the cause.
fn class_of(error: &ChildError) -> FailureClass {
    match error {
        ChildError::Start { .. }
        | ChildError::NoPipe { .. }
        | ChildError::Frame(_)
        | ChildError::Setup {
            is_disruption: true,
            ..
        } => FailureClass::Disruption,
        ChildError::Setup {
            is_disruption: false,
            ..
        }
        | ChildError::NotReady { .. } => FailureClass::Application,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_8282_a_machine_that_cannot_run_tasks_charges_no_task() {
        let setup = |is_disruption| ChildError::Setup {
            error: "no space on /tmp".to_owned(),
            is_disruption,
        };
        assert_eq!(class_of(&setup(true)), FailureClass::Disruption);
        assert_eq!(class_of(&setup(false)), FailureClass::Application);
        let pipe = ChildError::NoPipe { pipe: "stdin" };
        assert_eq!(class_of(&pipe), FailureClass::Disruption);
    }
}
