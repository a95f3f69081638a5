//! The world around a coordinator, as an event queue over virtual time: pods, streams, the ledger and the storage, and
//! the nemesis that breaks them. All that it does follows from the seed.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::{Rng, Trace};
use crate::coordinator::record::{FailureClass, LogRecord, OutputFile, TaskOutput};
use crate::coordinator::tests::cluster::{output, plan};
use crate::coordinator::{Config, Effect, Event, PodEndCause, Report, State, ToWorker, step};
use crate::id::{Attempt, Epoch, SessionId, TaskAttempt, TaskId, Timestamp, WorkerId};
use crate::invariants;

/// What a seed decides before the run begins.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) shards: Vec<u32>,
    pods: u64,
    slots: u32,
    task_ms_max: u64,
    /// Chances in percent.
    failures: u64,
    repeats: u64,
    unnoticed: u64,
    /// Mean time between two faults.
    fault_every_ms: u64,
    /// From here on nothing breaks any more.
    heals_at_ms: u64,
    /// By then the job must have ended.
    ends_by_ms: u64,
    task_disruptions: u32,
}

impl Settings {
    pub(super) fn draw(rng: &mut Rng, scale: u32) -> Self {
        let stages = rng.between(1, 4);
        let shards: Vec<u32> = (0..stages)
            .map(|_| u32::try_from(rng.between(0, 12)).unwrap() * scale)
            .collect();
        let heals_at_ms = rng.between(10_000, 400_000);
        Self {
            pods: rng.between(1, 6) * u64::from(scale),
            slots: u32::try_from(rng.between(1, 4)).unwrap(),
            task_ms_max: rng.pick(&[5, 500, 20_000]).unwrap(),
            failures: rng.pick(&[0, 5, 30]).unwrap(),
            repeats: rng.pick(&[0, 5, 30]).unwrap(),
            unnoticed: rng.pick(&[0, 50, 100]).unwrap(),
            fault_every_ms: rng.pick(&[300, 3_000, 20_000]).unwrap(),
            heals_at_ms,
            // A silence, a backoff, a storage answer and a task may each stand between a task and its end, a few times;
            // and all tasks may have to run one after another.
            ends_by_ms: heals_at_ms + 300_000 + 25_000 * u64::from(shards.iter().sum::<u32>()),
            task_disruptions: rng.pick(&[0, 100_000]).unwrap(),
            shards,
        }
    }
}

/// Something that is going to happen.
#[derive(Clone, Debug)]
enum Happening {
    /// The coordinator of this incarnation learns something.
    Learns {
        era: u64,
        event: Event,
    },
    /// A message reaches a pod.
    Hears {
        pod: u64,
        session: SessionId,
        message: ToWorker,
    },
    TaskEnds {
        pod: u64,
        incarnation: u64,
        task: TaskAttempt,
    },
    Heartbeat {
        pod: u64,
        session: SessionId,
    },
    Connects {
        pod: u64,
        incarnation: u64,
    },
    PodStarts,
    PodDies {
        pod: u64,
        incarnation: u64,
    },
    LedgerAnswers {
        era: u64,
    },
    Tick {
        era: u64,
    },
    CoordinatorStarts,
    Fault,
}

struct Pod {
    incarnation: u64,
    session: Option<SessionId>,
    is_draining: bool,
    /// It does nothing before.
    stalled_until: u64,
    /// With the listing of its input.
    running: BTreeMap<TaskAttempt, Option<String>>,
    unacknowledged: BTreeMap<TaskAttempt, Outcome>,
}

#[derive(Clone, Debug)]
enum Outcome {
    Done(TaskOutput),
    Failed {
        class: FailureClass,
        error: String,
        lost_input: Option<TaskAttempt>,
    },
}

/// See the file's head.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) now: u64,
    pub(super) ledger: Vec<LogRecord>,
    /// Final files that stand, by the attempt that made them.
    pub(super) final_files: BTreeMap<TaskId, Attempt>,
    pub(super) trace: Trace,
    pub(super) is_printing: bool,
    rng: Rng,
    queue: BTreeMap<(u64, u64), Happening>,
    next_happening: u64,
    coordinator: Option<State>,
    /// Which incarnation of the coordinator; streams and answers of earlier ones are void.
    era: u64,
    stalled_until: u64,
    buffer: Vec<LogRecord>,
    in_flight: Vec<LogRecord>,
    appended: u64,
    durable: u64,
    pods: BTreeMap<u64, Pod>,
    next_pod: u64,
    next_session: u64,
    /// When the last message of a session arrives, each way: streams keep order.
    arrivals: BTreeMap<(SessionId, bool), u64>,
    broken: BTreeSet<SessionId>,
    listings: BTreeMap<String, Vec<TaskAttempt>>,
    lost_outputs: BTreeSet<TaskAttempt>,
    /// How often a task's output was lost: the store is bad, not hopeless.
    losses: BTreeMap<TaskId, u32>,
}

const TICK_MS: u64 = 500;

impl World {
    pub(super) fn new(seed: u64, settings: Settings) -> Self {
        let mut world = Self {
            now: 1_000,
            ledger: Vec::new(),
            final_files: BTreeMap::new(),
            trace: Trace::new(),
            is_printing: false,
            rng: Rng::new(seed ^ 0x5eed),
            queue: BTreeMap::new(),
            next_happening: 0,
            coordinator: None,
            era: 0,
            stalled_until: 0,
            buffer: Vec::new(),
            in_flight: Vec::new(),
            appended: 0,
            durable: 0,
            pods: BTreeMap::new(),
            next_pod: 0,
            next_session: 0,
            arrivals: BTreeMap::new(),
            broken: BTreeSet::new(),
            listings: BTreeMap::new(),
            lost_outputs: BTreeSet::new(),
            losses: BTreeMap::new(),
            settings,
        };
        world.after(0, Happening::CoordinatorStarts);
        for _ in 0..world.settings.pods {
            let delay = world.rng.between(0, 20_000);
            world.after(delay, Happening::PodStarts);
        }
        world.after(1, Happening::Fault);
        world
    }

    pub(super) fn report(&self) -> Option<Report> {
        self.coordinator.as_ref().map(State::report)
    }

    fn after(&mut self, delay: u64, happening: Happening) {
        self.queue
            .insert((self.now + delay, self.next_happening), happening);
        self.next_happening += 1;
    }

    /// Until the result is in the ledger, or the time is over.
    pub(super) fn run(&mut self) {
        while let Some(((time, _), happening)) = self.queue.pop_first() {
            self.now = time;
            let ended = matches!(self.ledger.last(), Some(LogRecord::Result(_)));
            if ended || self.now > self.settings.ends_by_ms {
                return;
            }
            self.happens(happening);
        }
    }

    fn has_healed(&self) -> bool {
        self.now >= self.settings.heals_at_ms
    }

    fn note(&mut self, line: &str) {
        self.trace.line(line);
        if self.is_printing {
            println!("{:>8} {line}", self.now);
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Learns { era, event } => self.learns(era, event),
            Happening::Hears {
                pod,
                session,
                message,
            } => self.hears(pod, session, message),
            Happening::TaskEnds {
                pod,
                incarnation,
                task,
            } => self.task_ends(pod, incarnation, task),
            Happening::Heartbeat { pod, session } => self.heartbeat(pod, session),
            Happening::Connects { pod, incarnation } => self.connects(pod, incarnation),
            Happening::PodStarts => self.pod_starts(),
            Happening::PodDies { pod, incarnation } => {
                if self
                    .pods
                    .get(&pod)
                    .is_some_and(|known| known.incarnation == incarnation)
                {
                    self.pod_dies(pod, PodEndCause::Disruption);
                }
            }
            Happening::LedgerAnswers { era } => self.ledger_answers(era),
            Happening::Tick { era } => {
                if era == self.era && self.coordinator.is_some() {
                    self.learns(era, Event::Tick);
                    let stall = self.stalled_until.saturating_sub(self.now);
                    self.after(TICK_MS + stall, Happening::Tick { era });
                }
            }
            Happening::CoordinatorStarts => self.coordinator_starts(),
            Happening::Fault => self.fault(),
        }
    }

    // The coordinator and what it asks for.

    fn coordinator_starts(&mut self) {
        self.era += 1;
        self.stalled_until = 0;
        (self.appended, self.durable) = (0, 0);
        let config = Config::new(100_000, self.settings.task_disruptions);
        let plan = plan(&self.settings.shards);
        let state = State::new(config, &plan, Epoch(self.era), self.ledger.clone());
        let mut state = state.unwrap_or_else(|error| panic!("{error}: {:#?}", self.ledger));
        let effects = state.start(Timestamp(self.now));
        self.coordinator = Some(state);
        self.note(&format!("coordinator {} starts", self.era));
        self.carry_out(effects);
        self.after(TICK_MS, Happening::Tick { era: self.era });
    }

    fn coordinator_crashes(&mut self) {
        if self.coordinator.take().is_none() {
            return;
        }
        self.note("coordinator crashes");
        // The put that was in flight may have arrived without its answer; what was behind it is gone.
        let in_flight = std::mem::take(&mut self.in_flight);
        if self.rng.percent(50) {
            self.ledger.extend(in_flight);
        }
        self.buffer.clear();
        let pods: Vec<u64> = self.pods.keys().copied().collect();
        for pod in pods {
            self.loses_session(pod, false);
        }
        let delay = self.rng.between(500, 15_000);
        self.after(delay, Happening::CoordinatorStarts);
    }

    fn learns(&mut self, era: u64, event: Event) {
        if era != self.era {
            return;
        }
        if self.now < self.stalled_until {
            let delay = self.stalled_until - self.now;
            self.after(delay, Happening::Learns { era, event });
            return;
        }
        let Some(state) = &mut self.coordinator else {
            return;
        };
        let line = event.to_string();
        let effects = step(state, event, Timestamp(self.now));
        if let Err(violation) = invariants::check(state) {
            panic!("after {line}: {violation}\n{state:#?}");
        }
        self.note(&line);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.note(&format!("    {effect}"));
            match effect {
                Effect::Send { session, message } => self.send(session, message),
                Effect::Close { session, .. } => {
                    if let Some(pod) = self.pod_of(session) {
                        self.loses_session(pod, true);
                    }
                }
                Effect::Append {
                    first_index,
                    records,
                } => {
                    assert_eq!(first_index, self.appended, "indexes are contiguous");
                    self.appended += records.len() as u64;
                    self.buffer.extend(records);
                    self.put();
                }
                Effect::PublishStage {
                    stage,
                    version,
                    outputs,
                } => {
                    assert_eq!(
                        outputs.len(),
                        self.settings.shards[stage.0 as usize] as usize,
                        "no output is missing"
                    );
                    let path = format!("outputs/{stage}/e{}v{version}", self.era);
                    let tasks: Vec<TaskAttempt> = outputs.iter().map(|(task, _)| *task).collect();
                    for task in &tasks {
                        self.expect_committed(*task);
                    }
                    assert!(
                        self.listings.insert(path.clone(), tasks).is_none(),
                        "{path} is written twice"
                    );
                    self.answer(Event::StagePublished {
                        stage,
                        version,
                        outputs: path,
                    });
                }
                Effect::Finalize { task, file } => self.finalize(task, &file),
                Effect::Discard { task, .. } => {
                    let committed = self.committed().get(&task.task).copied();
                    assert_ne!(
                        committed,
                        Some(task.attempt),
                        "the winner's file is thrown away"
                    );
                }
                Effect::WriteManifest { files } => {
                    let files: BTreeMap<TaskId, Attempt> = files
                        .iter()
                        .map(|(task, _)| (task.task, task.attempt))
                        .collect();
                    assert_eq!(files, self.final_files);
                    self.answer(Event::ManifestWritten {
                        manifest: "_SUCCESS.json".to_owned(),
                    });
                }
            }
        }
    }

    fn answer(&mut self, event: Event) {
        let delay = self.rng.between(1, 2_000);
        self.after(
            delay,
            Happening::Learns {
                era: self.era,
                event,
            },
        );
    }

    fn finalize(&mut self, task: TaskAttempt, file: &OutputFile) {
        self.expect_committed(task);
        assert_eq!(*file, output(task, true).file);
        let is_lost = !self.final_files.contains_key(&task.task) && self.may_lose(task.task, 10);
        if is_lost || self.lost_outputs.contains(&task) {
            self.lost_outputs.insert(task);
            self.answer(Event::FileLost { task });
            return;
        }
        let before = self.final_files.insert(task.task, task.attempt);
        assert!(
            before.is_none_or(|before| before == task.attempt),
            "another attempt's final file stood there"
        );
        self.answer(Event::FileFinalized { task: task.task });
    }

    fn may_lose(&mut self, task: TaskId, chance: u64) -> bool {
        if self.has_healed() || !self.rng.percent(chance) {
            return false;
        }
        let losses = self.losses.entry(task).or_default();
        *losses += 1;
        *losses <= 3
    }

    /// Commits that stand, durably.
    fn committed(&self) -> BTreeMap<TaskId, Attempt> {
        commits(&self.ledger)
    }

    /// Commits that will stand when all that is on its way to the ledger is there.
    fn committed_soon(&self) -> BTreeMap<TaskId, Attempt> {
        commits(
            self.ledger
                .iter()
                .chain(&self.in_flight)
                .chain(&self.buffer),
        )
    }

    fn expect_committed(&self, task: TaskAttempt) {
        assert_eq!(
            self.committed().get(&task.task),
            Some(&task.attempt),
            "{task} is not durably committed"
        );
    }

    fn put(&mut self) {
        if self.in_flight.is_empty() && !self.buffer.is_empty() {
            self.in_flight = std::mem::take(&mut self.buffer);
            let delay = self.rng.between(1, 500);
            self.after(delay, Happening::LedgerAnswers { era: self.era });
        }
    }

    fn ledger_answers(&mut self, era: u64) {
        if era != self.era || self.coordinator.is_none() {
            return;
        }
        self.durable += self.in_flight.len() as u64;
        self.ledger.append(&mut self.in_flight);
        let through = self.durable - 1;
        self.learns(era, Event::Durable { through });
        self.put();
    }

    // Streams.

    fn pod_of(&self, session: SessionId) -> Option<u64> {
        self.pods
            .iter()
            .find(|(_, pod)| pod.session == Some(session))
            .map(|(number, _)| *number)
    }

    /// When a message that leaves now arrives, after all that left before it.
    fn arrival(&mut self, session: SessionId, to_worker: bool) -> u64 {
        let latest = self
            .arrivals
            .get(&(session, to_worker))
            .copied()
            .unwrap_or(0);
        let arrival = (self.now + self.rng.between(1, 100)).max(latest);
        self.arrivals.insert((session, to_worker), arrival);
        arrival - self.now
    }

    fn send(&mut self, session: SessionId, message: ToWorker) {
        if let ToWorker::Run(tasks) = &message {
            let committed = self.committed_soon();
            for dispatch in tasks {
                let task = dispatch.task;
                assert!(
                    !committed.contains_key(&task.task),
                    "{task}: a completed task runs again"
                );
                assert_eq!(dispatch.input_outputs.is_some(), task.task.stage.0 > 0);
            }
        }
        let Some(pod) = self.pod_of(session) else {
            return;
        };
        let delay = self.arrival(session, true);
        self.after(
            delay,
            Happening::Hears {
                pod,
                session,
                message,
            },
        );
    }

    fn say(&mut self, session: SessionId, event: Event) {
        let era = self.era;
        if !self.has_healed() && self.rng.percent(self.settings.repeats) {
            let delay = self.rng.between(1, 60_000);
            self.after(
                delay,
                Happening::Learns {
                    era,
                    event: event.clone(),
                },
            );
        }
        let delay = if self.broken.contains(&session) {
            self.rng.between(1, 5_000)
        } else {
            self.arrival(session, false)
        };
        self.after(delay, Happening::Learns { era, event });
    }

    /// The pod's stream is gone; the coordinator learns of it, if it does, after what was said before.
    fn loses_session(&mut self, pod: u64, is_noticed: bool) {
        let Some(known) = self.pods.get_mut(&pod) else {
            return;
        };
        let (session, incarnation) = (known.session.take(), known.incarnation);
        if let Some(session) = session {
            self.broken.insert(session);
            if is_noticed {
                let delay = self.arrival(session, false);
                self.after(
                    delay,
                    Happening::Learns {
                        era: self.era,
                        event: Event::SessionClosed { session },
                    },
                );
            }
            let delay = self.rng.between(100, 5_000);
            self.after(delay, Happening::Connects { pod, incarnation });
        }
    }

    // Workers.

    fn pod_starts(&mut self) {
        let number = self.next_pod;
        self.next_pod += 1;
        let pod = Pod {
            incarnation: 1,
            session: None,
            is_draining: false,
            stalled_until: 0,
            running: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
        };
        self.pods.insert(number, pod);
        self.after(
            0,
            Happening::Connects {
                pod: number,
                incarnation: 1,
            },
        );
    }

    fn connects(&mut self, number: u64, incarnation: u64) {
        let is_up = self.coordinator.is_some();
        let Some(pod) = self
            .pods
            .get_mut(&number)
            .filter(|pod| pod.incarnation == incarnation && pod.session.is_none())
        else {
            return;
        };
        let stall = pod.stalled_until.saturating_sub(self.now);
        if !is_up || stall > 0 {
            let delay = stall + self.rng.between(100, 5_000);
            self.after(
                delay,
                Happening::Connects {
                    pod: number,
                    incarnation,
                },
            );
            return;
        }
        self.next_session += 1;
        let session = SessionId(self.next_session);
        pod.session = Some(session);
        let worker = WorkerId::parse(&format!("pod-{number}"), incarnation).unwrap();
        let running = pod
            .running
            .keys()
            .chain(pod.unacknowledged.keys())
            .copied()
            .collect();
        let is_draining = pod.is_draining;
        let slots = self.settings.slots;
        self.say(
            session,
            Event::Hello {
                session,
                worker,
                slots,
                running,
            },
        );
        if is_draining {
            self.say(
                session,
                Event::Draining {
                    session,
                    handed_back: Vec::new(),
                },
            );
        }
        self.after(
            5_000,
            Happening::Heartbeat {
                pod: number,
                session,
            },
        );
    }

    fn heartbeat(&mut self, number: u64, session: SessionId) {
        let Some(pod) = self
            .pods
            .get(&number)
            .filter(|pod| pod.session == Some(session))
        else {
            return;
        };
        let stall = pod.stalled_until.saturating_sub(self.now);
        if stall == 0 {
            let tasks = pod.running.keys().map(|task| (*task, self.now)).collect();
            self.say(session, Event::Heartbeat { session });
            self.say(session, Event::Progress { session, tasks });
        }
        self.after(
            5_000 + stall,
            Happening::Heartbeat {
                pod: number,
                session,
            },
        );
    }

    fn hears(&mut self, number: u64, session: SessionId, message: ToWorker) {
        let Some(pod) = self
            .pods
            .get_mut(&number)
            .filter(|pod| pod.session == Some(session))
        else {
            return;
        };
        let incarnation = pod.incarnation;
        match message {
            ToWorker::Welcome { .. } => {
                for (task, outcome) in pod.unacknowledged.clone() {
                    self.tells(session, task, outcome);
                }
            }
            ToWorker::Run(tasks) => {
                let mut started = Vec::new();
                for dispatch in tasks {
                    let known = pod.unacknowledged.contains_key(&dispatch.task);
                    if !known
                        && pod
                            .running
                            .insert(dispatch.task, dispatch.input_outputs)
                            .is_none()
                    {
                        started.push(dispatch.task);
                    }
                }
                for task in started {
                    let delay = self.rng.between(1, self.settings.task_ms_max);
                    self.after(
                        delay,
                        Happening::TaskEnds {
                            pod: number,
                            incarnation,
                            task,
                        },
                    );
                }
            }
            ToWorker::Cancel(tasks) => {
                pod.running.retain(|task, _| !tasks.contains(task));
                pod.unacknowledged.retain(|task, _| !tasks.contains(task));
            }
            ToWorker::Ack(tasks) => {
                let mut done = Vec::new();
                for task in tasks {
                    if let Some(Outcome::Done(_)) = pod.unacknowledged.remove(&task) {
                        done.push(task);
                    }
                }
                for task in done {
                    self.expect_dealt_with(task);
                }
            }
            ToWorker::Shutdown => {}
        }
    }

    /// An acknowledged result is in the ledger, or was beaten or dealt with there.
    fn expect_dealt_with(&self, acknowledged: TaskAttempt) {
        let is_known = self
            .ledger
            .iter()
            .chain(&self.in_flight)
            .chain(&self.buffer)
            .any(|record| match record {
                LogRecord::Failed { task, .. } | LogRecord::Revoked { task } => {
                    *task == acknowledged
                }
                LogRecord::Done { .. }
                | LogRecord::StageFinished { .. }
                | LogRecord::Finalized { .. }
                | LogRecord::Result(_) => false,
            });
        let was_done = self.ledger.iter().chain(&self.in_flight).chain(&self.buffer).any(|record| {
            matches!(record, LogRecord::Done { task, .. } if task.task == acknowledged.task && task.attempt != acknowledged.attempt)
        });
        let is_durable = self
            .ledger
            .iter()
            .any(|record| matches!(record, LogRecord::Done { task, .. } if *task == acknowledged));
        assert!(
            is_known || was_done || is_durable,
            "{acknowledged} was acknowledged and is nowhere"
        );
    }

    fn tells(&mut self, session: SessionId, task: TaskAttempt, outcome: Outcome) {
        let event = match outcome {
            Outcome::Done(output) => Event::Done {
                session,
                tasks: vec![(task, output)],
            },
            Outcome::Failed {
                class,
                error,
                lost_input,
            } => Event::Failed {
                session,
                task,
                class,
                error,
                lost_input,
            },
        };
        self.say(session, event);
    }

    fn task_ends(&mut self, number: u64, incarnation: u64, task: TaskAttempt) {
        let Some(pod) = self
            .pods
            .get_mut(&number)
            .filter(|pod| pod.incarnation == incarnation)
        else {
            return;
        };
        let stall = pod.stalled_until.saturating_sub(self.now);
        if stall > 0 {
            self.after(
                stall,
                Happening::TaskEnds {
                    pod: number,
                    incarnation,
                    task,
                },
            );
            return;
        }
        let Some(input) = pod.running.remove(&task) else {
            return;
        };
        let session = pod.session;
        let outcome = self.outcome(task, input.as_deref());
        if let Some(pod) = self.pods.get_mut(&number) {
            pod.unacknowledged.insert(task, outcome.clone());
        }
        if let Some(session) = session {
            self.tells(session, task, outcome);
        }
    }

    fn outcome(&mut self, task: TaskAttempt, input: Option<&str>) -> Outcome {
        if let Some(path) = input {
            let listed = self
                .listings
                .get(path)
                .unwrap_or_else(|| panic!("{path} was never published"));
            if let Some(lost) = listed
                .iter()
                .find(|output| self.lost_outputs.contains(output))
            {
                let (class, lost_input) = (FailureClass::Disruption, Some(*lost));
                return Outcome::Failed {
                    class,
                    error: "not found".to_owned(),
                    lost_input,
                };
            }
        }
        if !self.has_healed() && self.rng.percent(self.settings.failures) {
            let class = if self.rng.percent(50) {
                FailureClass::Application
            } else {
                FailureClass::Disruption
            };
            return Outcome::Failed {
                class,
                error: format!("failure of {task}"),
                lost_input: None,
            };
        }
        let is_last = task.task.stage.0 as usize + 1 == self.settings.shards.len();
        Outcome::Done(output(task, is_last))
    }

    // The nemesis.

    fn fault(&mut self) {
        if self.has_healed() {
            return;
        }
        let pods: Vec<u64> = self.pods.keys().copied().collect();
        let pod = self.rng.pick(&pods);
        match (self.rng.between(0, 9), pod) {
            (0 | 1, Some(pod)) => self.pod_dies(pod, PodEndCause::Disruption),
            (2, Some(pod)) => self.process_restarts(pod),
            (3, Some(pod)) => {
                self.note(&format!("pod {pod} is cut off"));
                let is_noticed = !self.rng.percent(self.settings.unnoticed);
                self.loses_session(pod, is_noticed);
            }
            (4, Some(pod)) => {
                let stall = self.rng.between(1_000, 60_000);
                self.note(&format!("pod {pod} stalls for {stall} ms"));
                if let Some(known) = self.pods.get_mut(&pod) {
                    known.stalled_until = self.now + stall;
                }
            }
            (5, Some(pod)) => self.drains(pod),
            (6, _) => self.coordinator_crashes(),
            (7, _) => {
                let stall = self.rng.between(1_000, 90_000);
                self.note(&format!("coordinator stalls for {stall} ms"));
                self.stalled_until = self.now + stall;
            }
            (8, _) => self.output_is_lost(),
            (9, _) if self.rng.percent(10) => {
                self.note("wave");
                for pod in pods {
                    if self.rng.percent(62) {
                        self.pod_dies(pod, PodEndCause::Disruption);
                    }
                }
            }
            _ => {}
        }
        let delay = self.rng.between(1, 2 * self.settings.fault_every_ms);
        self.after(delay, Happening::Fault);
    }

    fn pod_dies(&mut self, number: u64, cause: PodEndCause) {
        self.note(&format!("pod {number} dies"));
        let is_noticed = !self.rng.percent(self.settings.unnoticed);
        self.loses_session(number, is_noticed);
        self.pods.remove(&number);
        if self.rng.percent(50) {
            self.operator_tells(number, cause);
        }
        let delay = self.rng.between(1_000, 30_000);
        self.after(delay, Happening::PodStarts);
    }

    fn operator_tells(&mut self, number: u64, cause: PodEndCause) {
        let event = Event::PodEnded {
            pod_uid: format!("pod-{number}"),
            cause,
            reason: "as seen".to_owned(),
        };
        for _ in 0..self.rng.between(1, 2) {
            let delay = self.rng.between(1, 20_000);
            self.after(
                delay,
                Happening::Learns {
                    era: self.era,
                    event: event.clone(),
                },
            );
        }
    }

    fn process_restarts(&mut self, number: u64) {
        self.note(&format!("the process in pod {number} restarts"));
        let is_noticed = !self.rng.percent(self.settings.unnoticed);
        self.loses_session(number, is_noticed);
        let Some(pod) = self.pods.get_mut(&number) else {
            return;
        };
        pod.incarnation += 1;
        pod.is_draining = false;
        pod.running.clear();
        pod.unacknowledged.clear();
        let incarnation = pod.incarnation;
        let delay = self.rng.between(1, 10_000);
        self.after(
            delay,
            Happening::Connects {
                pod: number,
                incarnation,
            },
        );
        if self.rng.percent(50) {
            let cause = self
                .rng
                .pick(&[PodEndCause::Exit, PodEndCause::OutOfMemory])
                .unwrap();
            self.operator_tells(number, cause);
        }
    }

    fn drains(&mut self, number: u64) {
        self.note(&format!("pod {number} drains"));
        let hands_back_all = self.rng.percent(50);
        let Some(pod) = self.pods.get_mut(&number) else {
            return;
        };
        pod.is_draining = true;
        let incarnation = pod.incarnation;
        let handed_back: Vec<TaskAttempt> = if hands_back_all {
            std::mem::take(&mut pod.running).into_keys().collect()
        } else {
            Vec::new()
        };
        if let Some(session) = pod.session {
            self.say(
                session,
                Event::Draining {
                    session,
                    handed_back,
                },
            );
        }
        let delay = self.rng.between(0, 30_000);
        self.after(
            delay,
            Happening::PodDies {
                pod: number,
                incarnation,
            },
        );
    }

    fn output_is_lost(&mut self) {
        let last = self.settings.shards.len() - 1;
        let shuffled: Vec<TaskAttempt> = self
            .committed()
            .into_iter()
            .filter(|(task, _)| (task.stage.0 as usize) < last)
            .map(|(task, attempt)| TaskAttempt { task, attempt })
            .collect();
        if let Some(lost) = self.rng.pick(&shuffled)
            && self.may_lose(lost.task, 100)
        {
            self.note(&format!("the output of {lost} is lost"));
            self.lost_outputs.insert(lost);
        }
    }
}

fn commits<'a>(records: impl IntoIterator<Item = &'a LogRecord>) -> BTreeMap<TaskId, Attempt> {
    let mut committed = BTreeMap::new();
    for record in records {
        match record {
            LogRecord::Done { task, .. } => {
                committed.insert(task.task, task.attempt);
            }
            LogRecord::Revoked { task } => {
                committed.remove(&task.task);
            }
            LogRecord::Failed { .. }
            | LogRecord::StageFinished { .. }
            | LogRecord::Finalized { .. }
            | LogRecord::Result(_) => {}
        }
    }
    committed
}
