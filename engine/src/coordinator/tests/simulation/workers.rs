//! Simulates pods and their worker processes. A process connects, runs the attempts that it is
//! given, and keeps each report until it is acknowledged. If the process ends, its attempts and
//! reports are lost.

use std::collections::BTreeMap;

use super::settings::Trouble;
use super::streams::Stream;
use super::truth::Fate;
use super::world::{Happening, World};
use crate::coordinator::counters::CounterName;
use crate::coordinator::record::{
    BadRecords, FailureClass, FinalPlace, MoreOutput, OutputFile, TaskOutput,
};
use crate::coordinator::tests::cluster::SKIPPING;
use crate::coordinator::{Event, Setback, ToWorker};
use crate::id::{SessionId, TaskAttempt, TaskId, WorkerId};

/// A pod and the process in it.
pub(super) struct Pod {
    pub(super) incarnation: u64,
    pub(super) session: Option<SessionId>,
    pub(super) is_draining: bool,
    /// It does nothing before this time.
    pub(super) stalled_until: u64,
    /// No other fault affects it before this time, so that the cause of its end is clear.
    pub(super) spared_until: u64,
    /// The running attempts, each with the listings of its inputs.
    pub(super) running: BTreeMap<TaskAttempt, Vec<String>>,
    pub(super) unacknowledged: BTreeMap<TaskAttempt, Fate>,
}

/// The heartbeat interval of a small fleet, which is the shortest.
const HEARTBEAT_MS: u64 = 5_000;

/// How often a task of a run with `Trouble::Twice` fails.
fn failures_of(task: TaskAttempt) -> u32 {
    [0, 1, 2, 2][((task.task.stage.0 + task.task.shard.0) % 4) as usize]
}

impl World {
    pub(super) fn pod_starts(&mut self) {
        let number = self.next_pod;
        self.next_pod += 1;
        let pod = Pod {
            incarnation: 1,
            session: None,
            is_draining: false,
            stalled_until: 0,
            spared_until: 0,
            running: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
        };
        self.pods.insert(number, pod);
        let (pod, incarnation) = (number, 1);
        self.after(0, Happening::Connects { pod, incarnation });
    }

    /// The pod if it still has this process, and how long its stall still lasts.
    fn process(&mut self, number: u64, incarnation: u64) -> Option<(&mut Pod, u64)> {
        let now = self.now;
        let pod = self.pods.get_mut(&number)?;
        let stall = pod.stalled_until.saturating_sub(now);
        (pod.incarnation == incarnation).then_some((pod, stall))
    }

    /// The process at the other end of an open stream.
    fn listener(&mut self, session: SessionId) -> Option<(u64, &mut Pod, u64)> {
        let stream = self.streams.get(&session)?;
        let (number, incarnation) = (stream.pod, stream.incarnation);
        let (pod, stall) = self.process(number, incarnation)?;
        (pod.session == Some(session)).then_some((number, pod, stall))
    }

    pub(super) fn connects(&mut self, number: u64, incarnation: u64) {
        let epoch = self.ledger.newest_epoch;
        let is_up = self.coordinators.contains_key(&epoch);
        let Some((pod, stall)) = self.process(number, incarnation) else {
            return;
        };
        if pod.session.is_some() {
            return;
        }
        if !is_up || stall > 0 {
            let delay = stall + self.rng.between(100, 5_000);
            let pod = number;
            self.after(delay, Happening::Connects { pod, incarnation });
            return;
        }
        let running = pod.running.keys().chain(pod.unacknowledged.keys());
        let running = running.copied().collect();
        let is_draining = pod.is_draining;
        let session = SessionId(self.streams.len() as u64 + 1);
        let stream = Stream::new(epoch, number, incarnation);
        self.streams.insert(session, stream);
        if let Some(pod) = self.pods.get_mut(&number) {
            pod.session = Some(session);
        }
        let worker = WorkerId::parse(&format!("pod-{number}"), incarnation).unwrap();
        let slots = self.settings.slots;
        let hello = Event::Hello {
            session,
            worker,
            ordinal: u32::try_from(number).ok(),
            slots,
            running,
        };
        self.say(session, hello);
        if is_draining {
            let handed_back = Vec::new();
            self.say(
                session,
                Event::Draining {
                    session,
                    handed_back,
                },
            );
        }
        self.after(HEARTBEAT_MS, Happening::Heartbeat { session });
    }

    pub(super) fn heartbeat(&mut self, session: SessionId) {
        let now = self.now;
        let Some((_, pod, stall)) = self.listener(session) else {
            return;
        };
        if stall == 0 {
            let tasks: Vec<_> = pod.running.keys().map(|task| (*task, now)).collect();
            self.say(session, Event::Heartbeat { session });
            if !tasks.is_empty() {
                self.say(session, Event::Progress { session, tasks });
            }
        }
        self.after(HEARTBEAT_MS + stall, Happening::Heartbeat { session });
    }

    pub(super) fn receives(&mut self, session: SessionId, message: ToWorker) {
        let Some((number, pod, stall)) = self.listener(session) else {
            return;
        };
        if stall > 0 {
            self.again_after(stall, Happening::Receives { session, message });
            return;
        }
        let incarnation = pod.incarnation;
        match message {
            ToWorker::Welcome { .. } => {
                for (task, fate) in pod.unacknowledged.clone() {
                    self.reports(session, task, fate);
                }
            }
            ToWorker::Run(tasks) => {
                let started: Vec<TaskAttempt> = tasks.iter().map(|run| run.task).collect();
                let runs = tasks.into_iter();
                pod.running
                    .extend(runs.map(|run| (run.task, run.input_outputs)));
                self.start(number, incarnation, &started);
            }
            ToWorker::Cancel(tasks) => {
                pod.running.retain(|task, _| !tasks.contains(task));
                pod.unacknowledged.retain(|task, _| !tasks.contains(task));
            }
            ToWorker::Ack(tasks) => {
                pod.unacknowledged.retain(|task, _| !tasks.contains(task));
            }
            ToWorker::Shutdown => {}
        }
    }

    fn start(&mut self, pod: u64, incarnation: u64, tasks: &[TaskAttempt]) {
        for task in tasks {
            let task = *task;
            let delay = self.rng.between(1, self.settings.task_ms_max);
            self.after(
                delay,
                Happening::TaskEnds {
                    pod,
                    incarnation,
                    task,
                },
            );
        }
    }

    fn reports(&mut self, session: SessionId, task: TaskAttempt, fate: Fate) {
        self.truth.reported.insert(task);
        let event = match fate {
            Fate::Done => {
                let file = self.storage.file(task);
                let output = TaskOutput {
                    records_in: file.rows,
                    bytes_in: file.bytes,
                    more: more(task),
                    file,
                };
                let tasks = vec![(task, output)];
                Event::Done { session, tasks }
            }
            Fate::Failed {
                class,
                setback,
                error,
                lost_input,
            } => Event::Failed {
                session,
                task,
                class,
                setback,
                error,
                lost_input,
                log: String::new(),
            },
        };
        self.say(session, event);
    }

    pub(super) fn task_ends(&mut self, number: u64, incarnation: u64, task: TaskAttempt) {
        let Some((pod, stall)) = self.process(number, incarnation) else {
            return;
        };
        if stall > 0 {
            let pod = number;
            self.after(
                stall,
                Happening::TaskEnds {
                    pod,
                    incarnation,
                    task,
                },
            );
            return;
        }
        let Some(inputs) = pod.running.remove(&task) else {
            return;
        };
        let session = pod.session;
        let fate = self.fate(task, &inputs);
        self.truth.ended(task, fate.clone());
        if let Some(pod) = self.pods.get_mut(&number) {
            pod.unacknowledged.insert(task, fate.clone());
        }
        if let Some(session) = session {
            self.reports(session, task, fate);
        }
    }

    fn fate(&mut self, task: TaskAttempt, inputs: &[String]) -> Fate {
        let failures = self.truth.own_failures.get(&task.task).copied();
        let failures = failures.unwrap_or(0);
        let fails = |class, error: &str| Fate::Failed {
            class,
            setback: (class == FailureClass::Disruption).then_some(Setback::StoreAway),
            error: format!("{error} {task}"),
            lost_input: None,
        };
        match self.settings.trouble {
            Trouble::Twice if failures < failures_of(task) => {
                return fails(FailureClass::Application, "killed:");
            }
            Trouble::Poison(poison) if poison == task.task => {
                let class = if failures == 1 {
                    FailureClass::Deterministic
                } else {
                    FailureClass::Application
                };
                return fails(class, "poison:");
            }
            Trouble::HeldUp(held_up) if held_up == task.task => {
                return Fate::Failed {
                    class: FailureClass::Disruption,
                    setback: Some(Setback::DiskFull),
                    error: format!("no space: {task}"),
                    lost_input: None,
                };
            }
            Trouble::Often(chance) | Trouble::Scarce(chance)
                if !self.has_healed() && self.rng.percent(chance) =>
            {
                return match self.rng.between(0, 3) {
                    0 => fails(FailureClass::Application, "killed:"),
                    1 => fails(FailureClass::TimedOut, "ran for too long:"),
                    // The job ends if a task fails twice with the same message, even with a large
                    // budget.
                    2 if matches!(self.settings.trouble, Trouble::Scarce(_)) => Fate::Failed {
                        class: FailureClass::Deterministic,
                        setback: None,
                        error: format!("null cannot be added: {}", task.task),
                        lost_input: None,
                    },
                    2 => fails(FailureClass::Deterministic, "null cannot be added:"),
                    _ => fails(FailureClass::Disruption, "storage answered 503:"),
                };
            }
            Trouble::Never
            | Trouble::Often(_)
            | Trouble::Twice
            | Trouble::Poison(_)
            | Trouble::HeldUp(_)
            | Trouble::Scarce(_) => {}
        }
        match self.storage.write(task, inputs) {
            Ok(()) => Fate::Done,
            Err(lost) => Fate::Failed {
                class: FailureClass::Disruption,
                setback: None,
                error: "not found".to_owned(),
                lost_input: Some(lost),
            },
        }
    }
}

/// How many records the task of a shard of the first stage skips. The number is the same for each
/// attempt.
pub(super) fn skipped_by(shard: u32) -> u64 {
    u64::from(shard % 3)
}

/// Whether the task writes its skipped records into a file.
pub(super) fn has_dead_letter(task: TaskAttempt) -> bool {
    task.task.stage.0 == 0 && skipped_by(task.task.shard.0) > 0
}

/// The file with the records that an attempt skips.
pub(super) fn dead_letter(task: TaskAttempt) -> OutputFile {
    let place = FinalPlace::Staged {
        uri: format!("dead/{}", task.task),
        staged: format!("dead/{task}"),
    };
    OutputFile {
        rows: skipped_by(task.task.shard.0),
        bytes: 1,
        crc32c: 0,
        place: place.into(),
    }
}

/// The counters of a task. One has a name that all tasks use, and one has a name that only its
/// stage uses.
pub(super) fn counters(task: TaskId) -> Vec<(CounterName, u64)> {
    let count = |name: &str, count| (CounterName::parse(name).unwrap(), count);
    let stage = format!("of-stage-{}", task.stage.0);
    vec![count("of-all", 1), count(&stage, u64::from(task.shard.0))]
}

fn more(task: TaskAttempt) -> Option<Box<MoreOutput>> {
    let TaskId { stage, shard } = task.task;
    let skipped = skipped_by(shard.0);
    let bad = (stage.0 == 0).then(|| BadRecords {
        origin: SKIPPING,
        arrived: 10,
        skipped,
        first: (skipped > 0).then(|| shard.to_string()),
    });
    let files = has_dead_letter(task).then(|| dead_letter(task));
    let more = MoreOutput {
        bad: bad.into_iter().collect(),
        files: files.into_iter().collect(),
        counters: counters(task.task),
    };
    more.boxed()
}
