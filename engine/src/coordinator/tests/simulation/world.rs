//! Simulates everything outside of the coordinators, with a queue of events in simulated time. The
//! seed determines all events. The files beside this one define what the events do.

use std::collections::BTreeMap;

use super::coordinators::Coordinator;
use super::rng::{Rng, Trace};
use super::settings::{Mode, Settings, Trouble};
use super::storage::{Ledger, Storage};
use super::streams::Stream;
use super::truth::Truth;
use super::workers::Pod;
use crate::coordinator::record::{JobResult, LogRecord, Restart};
use crate::coordinator::{Effect, Event, FailureReason, ToWorker};
use crate::id::{SessionId, TaskAttempt};

/// A future event.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// The coordinator of this epoch receives an event.
    Learns {
        epoch: u64,
        event: Event,
    },
    /// The coordinator of this epoch handles an event that it received while it was stalled.
    TakesIn {
        epoch: u64,
        event: Event,
    },
    /// A message reaches a pod.
    Receives {
        session: SessionId,
        message: ToWorker,
    },
    TaskEnds {
        pod: u64,
        incarnation: u64,
        task: TaskAttempt,
    },
    Heartbeat {
        session: SessionId,
    },
    Connects {
        pod: u64,
        incarnation: u64,
    },
    StreamBreaks {
        session: SessionId,
    },
    PodStarts,
    PodIsDeleted {
        pod: u64,
        incarnation: u64,
    },
    /// A put of this epoch reaches the ledger.
    PutLands {
        epoch: u64,
    },
    PutIsAnswered {
        epoch: u64,
    },
    /// Storage executes a request of this epoch.
    Performs {
        epoch: u64,
        effect: Effect,
    },
    Tick {
        epoch: u64,
    },
    CoordinatorStarts,
    /// The user restarts the failed job.
    JobRestarts,
    Fault,
    Heals,
}

/// The whole simulated world.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) now: u64,
    pub(super) trace: Trace,
    pub(super) is_printing: bool,
    pub(super) rng: Rng,
    queue: BTreeMap<(u64, u64), Happening>,
    next_happening: u64,
    happening_now: u64,
    pub(super) ledger: Ledger,
    pub(super) storage: Storage,
    pub(super) storage_is_slow_until: u64,
    pub(super) truth: Truth,
    /// The coordinators by epoch. There are several if an old one was replaced while alive.
    pub(super) coordinators: BTreeMap<u64, Coordinator>,
    pub(super) successor_is_due: bool,
    pub(super) pods: BTreeMap<u64, Pod>,
    pub(super) streams: BTreeMap<SessionId, Stream>,
    pub(super) next_pod: u64,
    pub(super) steps: u64,
    /// The time by which the job must end. It is known only after the last fault.
    ends_by_ms: Option<u64>,
    /// When the result was durable.
    pub(super) ended_at: Option<u64>,
    /// How often the output of each task was lost. The number is limited, because otherwise the job
    /// would have to fail.
    pub(super) losses: BTreeMap<crate::id::TaskId, u32>,
    /// How often the job was restarted.
    pub(super) restarts: u32,
}

/// How long the simulation continues after the job's end. Nothing may change in this time.
const AFTER_END_MS: u64 = 40_000;

impl World {
    pub(super) fn new(seed: u64, settings: Settings) -> Self {
        let mut world = Self {
            now: 1_000,
            trace: Trace::new(),
            is_printing: false,
            rng: Rng::new(seed ^ 0x5eed),
            queue: BTreeMap::new(),
            next_happening: 0,
            happening_now: 0,
            ledger: Ledger::new(&settings),
            storage: Storage::new(&settings),
            storage_is_slow_until: 0,
            truth: Truth::default(),
            coordinators: BTreeMap::new(),
            successor_is_due: true,
            pods: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_pod: 0,
            steps: 0,
            ends_by_ms: None,
            ended_at: None,
            losses: BTreeMap::new(),
            restarts: 0,
            settings,
        };
        world.after(0, Happening::CoordinatorStarts);
        for _ in 0..world.settings.pods {
            let delay = world.rng.between(0, 10_000);
            world.after(delay, Happening::PodStarts);
        }
        world.after(1, Happening::Fault);
        if let Mode::Liveness { heals_at_ms } = world.settings.mode {
            world.after(heals_at_ms - world.now, Happening::Heals);
        }
        world
    }

    pub(super) fn after(&mut self, delay: u64, happening: Happening) {
        self.queue
            .insert((self.now + delay, self.next_happening), happening);
        self.next_happening += 1;
    }

    /// Delays the current event, ahead of events that were sent after it.
    pub(super) fn again_after(&mut self, delay: u64, happening: Happening) {
        let key = (self.now + delay, self.happening_now);
        self.queue.insert(key, happening);
    }

    pub(super) fn note(&mut self, line: &str) {
        self.trace.line(line);
        if self.is_printing {
            println!("{:>8} {line}", self.now);
        }
    }

    pub(super) fn has_healed(&self) -> bool {
        self.settings.is_healed(self.now)
    }

    /// Runs until some time after the result is in the ledger, or until the time is over. Then
    /// checks the result.
    pub(super) fn run(&mut self) {
        while let Some(((time, number), happening)) = self.queue.pop_first() {
            (self.now, self.happening_now) = (time, number);
            let is_over = match (self.settings.mode, self.ended_at) {
                (_, Some(ended)) => self.now > ended + AFTER_END_MS,
                (Mode::Safety { until_ms }, None) => self.now > until_ms,
                (Mode::Liveness { .. }, None) => self.ends_by_ms.is_some_and(|end| self.now > end),
            };
            if is_over {
                break;
            }
            self.happens(happening);
        }
        self.check();
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Learns { epoch, event } => self.learns(epoch, event),
            Happening::TakesIn { epoch, event } => self.takes_in(epoch, event),
            Happening::Receives { session, message } => self.receives(session, message),
            Happening::TaskEnds {
                pod,
                incarnation,
                task,
            } => self.task_ends(pod, incarnation, task),
            Happening::Heartbeat { session } => self.heartbeat(session),
            Happening::Connects { pod, incarnation } => self.connects(pod, incarnation),
            Happening::StreamBreaks { session } => self.stream_breaks(session, Some(0)),
            Happening::PodStarts => self.pod_starts(),
            Happening::PodIsDeleted { pod, incarnation } => self.pod_is_deleted(pod, incarnation),
            Happening::PutLands { epoch } => self.put_lands(epoch),
            Happening::PutIsAnswered { epoch } => self.put_is_answered(epoch),
            Happening::Performs { epoch, effect } => self.performs(epoch, effect),
            Happening::Tick { epoch } => self.tick(epoch),
            Happening::CoordinatorStarts => self.coordinator_starts(),
            Happening::JobRestarts => self.job_restarts(),
            Happening::Fault => self.fault(),
            Happening::Heals => self.heals(),
        }
    }

    /// Schedules the restart of a job that has failed, if it is restarted. This is soon enough that
    /// the run is not over yet.
    pub(super) fn may_restart(&mut self) {
        let has_failed = matches!(self.ledger.book.result(), Some(JobResult::Failed { .. }));
        if has_failed && self.restarts < self.settings.restarts {
            let delay = self.rng.between(0, AFTER_END_MS / 2);
            self.after(delay, Happening::JobRestarts);
        }
    }

    /// Restarts the failed job. If it was certain to fail, the cause is over now. All coordinators
    /// end: also the one that records the restart, before it does anything else.
    fn job_restarts(&mut self) {
        self.restarts += 1;
        self.note("the job is restarted");
        self.ended_at = None;
        match self.settings.trouble {
            Trouble::Poison(_) | Trouble::HeldUp(_) => self.settings.trouble = Trouble::Never,
            Trouble::Never | Trouble::Often(_) | Trouble::Twice | Trouble::Scarce(_) => {}
        }
        self.all_coordinators_end();
        self.ledger.newest_epoch += 1;
        self.ledger.put(&[LogRecord::Restarted(Restart {
            token: String::new(),
            generation: self.restarts + 1,
        })]);
        if self.has_healed() {
            self.heals();
        }
    }

    /// Ends the faults, and sets the time by which the job must end.
    fn heals(&mut self) {
        self.note("all heals");
        self.old_coordinators_die();
        let task_ms = self.settings.task_ms_max + 3_000;
        let slots = self.settings.pods * u64::from(self.settings.slots);
        let rounds: u64 = self
            .settings
            .shards
            .iter()
            .map(|shards| u64::from(*shards).div_ceil(slots) + 3)
            .sum();
        let stages = self.settings.shards.len() as u64;
        // Failing tries have to wait for their backoffs, one after another.
        let waits_ms = match self.settings.trouble {
            Trouble::Never | Trouble::Often(_) => 40_000,
            Trouble::Twice | Trouble::Scarce(_) | Trouble::Poison(_) => 70_000 * stages,
            // The waits of eight tries, and more while tasks on other workers wait for room on the
            // disk.
            Trouble::HeldUp(_) => 70_000 * stages + 12 * (30_000 + task_ms),
        };
        // A coordinator has to start, pods have to come back, and silences have to be noticed, one
        // after another.
        let recovery_ms = 15_000 + 120_000 + 2 * 35_000;
        let lost = self.storage.gone().iter();
        let lost = lost
            .filter(|task| self.ledger.book.is_winner(**task))
            .count() as u64;
        let again_ms = lost * (2 * task_ms + 15_000);
        let bound = recovery_ms + waits_ms + rounds * task_ms + stages * 10_000 + again_ms;
        self.ends_by_ms = Some(self.now + bound);
    }

    fn check(&self) {
        let book = &self.ledger.book;
        let reference = self.storage.reference();
        // All existing files must be right, even if the job has not ended.
        for (task, (attempt, content)) in &self.storage.final_files {
            assert_eq!(
                book.winner(*task),
                Some(*attempt),
                "the final file of {task}"
            );
            let wanted = reference[task.stage.0 as usize][task.shard.0 as usize];
            assert_eq!(*content, wanted, "the final file of {task}");
        }
        match (book.result(), self.settings.mode) {
            (Some(JobResult::Succeeded { .. }), _) => {
                assert!(
                    !matches!(
                        self.settings.trouble,
                        Trouble::Poison(_) | Trouble::HeldUp(_)
                    ),
                    "a task that fails always is done"
                );
                book.expect_answer(&reference, &self.storage.final_files);
            }
            (Some(JobResult::Failed { reason, message }), _) => self.check_failure(reason, message),
            (None, Mode::Safety { .. }) => {}
            (None, Mode::Liveness { .. }) => panic!(
                "healed, and not ended at {} ms: {:?}",
                self.now,
                self.newest().map(Coordinator::report)
            ),
        }
        if self.settings.is_exact
            && let Some(coordinator) = self.newest()
        {
            let ended_at = self.ended_at.unwrap_or(self.now);
            self.truth
                .expect_all_charged(coordinator.account(), ended_at);
        }
    }

    /// The book of the log has accepted the result. This checks whether the job may fail at all.
    fn check_failure(&self, reason: &FailureReason, message: &str) {
        // The storage of the simulation answers in less than the time that a failing job waits.
        if let Some(newest) = self.newest() {
            let left = newest.uncompleted_files();
            assert_eq!(left, [], "files of committed tasks");
        }
        match self.settings.trouble {
            Trouble::Never | Trouble::Often(_) | Trouble::Twice => {
                panic!("the job failed: {reason}: {message}")
            }
            Trouble::Poison(task) => {
                let named = self.ledger.book.describe(task);
                assert!(message.starts_with(&named), "{message} instead of {named}");
                assert!(message.contains("failed 3 times"), "{message}");
            }
            Trouble::HeldUp(task) => {
                let named = self.ledger.book.describe(task);
                assert!(message.starts_with(&named), "{message} instead of {named}");
                assert!(message.contains("because of a full disk"), "{message}");
            }
            Trouble::Scarce(_) => {}
        }
    }
}
