//! Runs a coordinator with the simplest possible workers, ledger and storage, on simulated time. A
//! test calls it to say what happens, and checks the messages of the coordinator.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::record::{
    FailureClass, FilePlace, FinalPlace, JobResult, LogRecord, OutputFile, TaskOutput,
};
use crate::coordinator::{
    Config, Effect, EndedAttempt, Event, FailureReason, PodEndCause, Report, Setback, State,
    ToWorker, step,
};
use crate::id::{
    Attempt, Epoch, SessionId, ShardId, SourceId, StageId, TaskAttempt, TaskId, Timestamp, WorkerId,
};
use crate::invariants;
use crate::pipeline::{Format, OnError, Origin};
use crate::plan::{Merge, Plan, RecordOperation, RecordStep, Stage, StageInput, StageOutput};

/// Returns a plan whose stages have these numbers of shards. Each stage reads the one before it.
/// The steps of the stages do not matter to the coordinator.
pub(super) fn plan(shards: &[u32]) -> Plan {
    let reads: Vec<Vec<u32>> = (0..shards.len())
        .map(|position| u32::try_from(position).unwrap().checked_sub(1))
        .map(|before| before.into_iter().collect())
        .collect();
    plan_of(shards, &reads)
}

/// Returns a plan whose stages have these numbers of shards. `reads` contains, for each stage, the
/// stages that it reads. A stage that reads none has its own source.
pub(super) fn plan_of(shards: &[u32], reads: &[Vec<u32>]) -> Plan {
    let shuffle = |from: &u32| StageInput::Shuffle {
        from: StageId(*from),
        path: "spec.pipeline.steps[0].count".to_owned(),
        merge: Merge::Count,
    };
    let stage = |(position, (shards, reads)): (u32, (&u32, &Vec<u32>))| Stage {
        id: StageId(position),
        name: if position == 0 { "map" } else { "reduce" }.to_owned(),
        shards: *shards,
        inputs: if reads.is_empty() {
            vec![StageInput::Source(SourceId(position))]
        } else {
            reads.iter().map(shuffle).collect()
        },
        steps: Vec::new(),
        output: StageOutput::Sink {
            format: Format::Jsonl,
        },
    };
    Plan {
        stages: (0..).zip(shards.iter().zip(reads)).map(stage).collect(),
        values: BTreeMap::new(),
        tables: BTreeMap::new(),
        source_parts: None,
        on_errors: BTreeMap::new(),
    }
}

/// The place that skips in a plan of [`skipping`].
pub(super) const SKIPPING: Origin = Origin::Step(1);

/// Returns the same plan with one difference: the first stage skips bad records at its only step.
pub(super) fn skipping(mut plan: Plan, allowed: OnError) -> Plan {
    plan.stages[0].steps.push(RecordStep {
        path: "spec.pipeline.steps[1].map".to_owned(),
        operation: RecordOperation::Map(".a".to_owned()),
        on_error: Some(SKIPPING),
    });
    plan.on_errors.insert(SKIPPING, allowed);
    plan
}

pub(super) fn task(stage: u32, shard: u32) -> TaskId {
    TaskId {
        stage: StageId(stage),
        shard: ShardId(shard),
    }
}

pub(super) fn attempt(stage: u32, shard: u32, epoch: u64, number: u32) -> TaskAttempt {
    TaskAttempt {
        task: task(stage, shard),
        attempt: Attempt {
            epoch: Epoch(epoch),
            number,
        },
    }
}

/// The output of an attempt: ten rows, at a separate place.
pub(super) fn output(task: TaskAttempt, is_last_stage: bool) -> TaskOutput {
    let place = if is_last_stage {
        FilePlace::from(FinalPlace::Staged {
            uri: format!("final/{}", task.task),
            staged: format!("staged/{task}"),
        })
    } else {
        FilePlace::Shuffle
    };
    let file = OutputFile {
        rows: 10,
        bytes: 100,
        crc32c: task.task.shard.0,
        place,
    };
    TaskOutput {
        file,
        records_in: 20,
        bytes_in: 200,
        more: None,
    }
}

pub(super) fn done_record(task: TaskAttempt, is_last_stage: bool) -> LogRecord {
    LogRecord::Done {
        task,
        output: output(task, is_last_stage),
    }
}

/// The coordinator with its workers, ledger and storage.
pub(super) struct TestCluster {
    pub(super) state: State,
    pub(super) now: u64,
    /// The durable records of all epochs.
    pub(super) ledger: Vec<LogRecord>,
    /// Appended records that are not durable.
    pub(super) unwritten: Vec<LogRecord>,
    /// Publications, final files and manifests that were requested but not answered.
    pub(super) asked: Vec<Effect>,
    /// Messages to each worker since they were last read.
    received: BTreeMap<SessionId, Vec<ToWorker>>,
    pub(super) closed: Vec<SessionId>,
    /// The attempts that ended, in order.
    pub(super) ended: Vec<EndedAttempt>,
    /// Attempts that each worker holds, in the worker's own view.
    held: BTreeMap<&'static str, BTreeSet<TaskAttempt>>,
    sessions: BTreeMap<&'static str, SessionId>,
    next_session: u64,
    appended: u64,
    config: Config,
    plan: Plan,
    epoch: u64,
}

impl TestCluster {
    pub(super) fn new(shards: &[u32]) -> Self {
        Self::with(Config::new(3, 0), shards)
    }

    pub(super) fn with(config: Config, shards: &[u32]) -> Self {
        Self::resuming(config, shards, 1, Vec::new())
    }

    /// Starts a coordinator of `epoch` that replays these records.
    pub(super) fn resuming(
        config: Config,
        shards: &[u32],
        epoch: u64,
        ledger: Vec<LogRecord>,
    ) -> Self {
        Self::of_plan(config, plan(shards), epoch, ledger)
    }

    /// A coordinator of a plan that is a graph, see [`plan_of`].
    pub(super) fn graph(shards: &[u32], reads: &[Vec<u32>]) -> Self {
        Self::of_plan(Config::new(3, 0), plan_of(shards, reads), 1, Vec::new())
    }

    /// A coordinator of any plan.
    pub(super) fn of_plan(config: Config, plan: Plan, epoch: u64, ledger: Vec<LogRecord>) -> Self {
        let state = State::new(config, &plan, Epoch(epoch), ledger.clone()).unwrap();
        let mut cluster = Self {
            state,
            now: 1_000,
            ledger,
            unwritten: Vec::new(),
            asked: Vec::new(),
            received: BTreeMap::new(),
            closed: Vec::new(),
            ended: Vec::new(),
            held: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            appended: 0,
            config,
            plan,
            epoch,
        };
        let effects = cluster.state.start(Timestamp(cluster.now));
        cluster.take_in(&effects);
        cluster
    }

    /// The coordinator dies and another one takes over. Records that are not durable are lost, and
    /// all sessions are broken.
    pub(super) fn restart(&mut self) {
        self.epoch += 1;
        self.state = State::new(
            self.config,
            &self.plan,
            Epoch(self.epoch),
            self.ledger.clone(),
        )
        .unwrap();
        self.unwritten.clear();
        self.asked.clear();
        self.received.clear();
        self.sessions.clear();
        self.appended = 0;
        let effects = self.state.start(Timestamp(self.now));
        self.take_in(&effects);
    }

    /// Handles one event, and checks what must hold after it.
    pub(super) fn event(&mut self, event: Event) -> Vec<Effect> {
        let line = event.to_string();
        let open = invariants::open_attempts(&self.state);
        let effects = step(&mut self.state, event, Timestamp(self.now));
        let checked = invariants::check(&self.state);
        let checked = checked.and(invariants::check_ends(&open, &effects, &self.state));
        if let Err(violation) = checked {
            panic!("after {line}: {violation}\n{:#?}", self.state);
        }
        self.take_in(&effects);
        effects
    }

    fn take_in(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Send { session, message } => {
                    self.received
                        .entry(*session)
                        .or_default()
                        .push(message.clone());
                    self.obey(*session, message);
                }
                Effect::Close { session, .. } => {
                    self.closed.push(*session);
                    self.sessions.retain(|_, open| open != session);
                }
                Effect::Append {
                    first_index,
                    records,
                } => {
                    assert_eq!(*first_index, self.appended, "indexes are contiguous");
                    self.appended += records.len() as u64;
                    self.unwritten.extend(records.iter().cloned());
                }
                Effect::PublishStage { .. }
                | Effect::Finalize { .. }
                | Effect::Discard { .. }
                | Effect::WriteManifest { .. } => self.asked.push(effect.clone()),
                Effect::AttemptsEnded(ended) => self.ended.extend(ended.iter().cloned()),
            }
        }
    }

    fn obey(&mut self, session: SessionId, message: &ToWorker) {
        let Some((name, _)) = self.sessions.iter().find(|(_, open)| **open == session) else {
            return;
        };
        let held = self.held.entry(name).or_default();
        match message {
            ToWorker::Run(tasks) => held.extend(tasks.iter().map(|dispatch| dispatch.task)),
            ToWorker::Cancel(tasks) | ToWorker::Ack(tasks) => {
                held.retain(|task| !tasks.contains(task));
            }
            ToWorker::Welcome { .. } | ToWorker::Shutdown => {}
        }
    }

    /// A worker (one pod, first process) says Hello with the attempts that it is running.
    pub(super) fn hello(&mut self, name: &'static str, slots: u32) -> SessionId {
        let running: Vec<TaskAttempt> = self.held(name);
        self.hello_naming(name, 1, slots, running)
    }

    /// Any process of a pod says Hello and names any attempts.
    pub(super) fn hello_naming(
        &mut self,
        name: &'static str,
        incarnation: u64,
        slots: u32,
        running: Vec<TaskAttempt>,
    ) -> SessionId {
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(name, session);
        self.held.insert(name, running.iter().copied().collect());
        let worker = WorkerId::parse(&format!("pod-{name}"), incarnation).unwrap();
        self.event(Event::Hello {
            session,
            worker,
            // "w7" is the worker with ordinal 7.
            ordinal: name
                .strip_prefix('w')
                .and_then(|digits| digits.parse().ok()),
            slots,
            running,
        });
        session
    }

    /// Attempts that the worker holds, in its own view.
    pub(super) fn held(&self, name: &'static str) -> Vec<TaskAttempt> {
        self.held.get(name).into_iter().flatten().copied().collect()
    }

    /// The one attempt that the worker holds.
    pub(super) fn only(&self, name: &'static str) -> TaskAttempt {
        let held = self.held(name);
        assert_eq!(held.len(), 1, "{name} holds {held:?}");
        held[0]
    }

    /// Whether the worker has a session.
    pub(super) fn is_connected(&self, name: &'static str) -> bool {
        self.sessions.contains_key(name)
    }

    pub(super) fn session(&self, name: &'static str) -> SessionId {
        self.sessions[name]
    }

    /// The messages to the worker since this was last called.
    pub(super) fn received(&mut self, name: &'static str) -> Vec<ToWorker> {
        let session = self.sessions[name];
        self.received.remove(&session).unwrap_or_default()
    }

    pub(super) fn is_last(&self, task: TaskAttempt) -> bool {
        task.task.stage.0 as usize + 1 == self.plan.stages.len()
    }

    pub(super) fn done(&mut self, name: &'static str, task: TaskAttempt) -> Vec<Effect> {
        let output = output(task, self.is_last(task));
        self.done_with(name, task, output)
    }

    /// A worker reports its attempt as done, with this output.
    pub(super) fn done_with(
        &mut self,
        name: &'static str,
        task: TaskAttempt,
        output: TaskOutput,
    ) -> Vec<Effect> {
        self.held.entry(name).or_default().remove(&task);
        let session = self.session(name);
        self.event(Event::Done {
            session,
            tasks: vec![(task, output)],
        })
    }

    /// A worker reports a failure. If it is a disruption, its cause is that a store answers no
    /// call.
    pub(super) fn fails(
        &mut self,
        name: &'static str,
        task: TaskAttempt,
        class: FailureClass,
        error: &str,
    ) -> Vec<Effect> {
        let is_disruption = class == FailureClass::Disruption;
        let setback = is_disruption.then_some(Setback::StoreAway);
        self.fails_by(name, task, class, setback, error)
    }

    /// Makes the worker forget the attempt. What the worker sends about it is up to the test.
    pub(super) fn forgets(&mut self, name: &'static str, task: TaskAttempt) {
        self.held.entry(name).or_default().remove(&task);
    }

    /// A worker gives a task back with a setback.
    pub(super) fn is_held_up(
        &mut self,
        name: &'static str,
        task: TaskAttempt,
        setback: Setback,
        error: &str,
    ) -> Vec<Effect> {
        self.fails_by(name, task, FailureClass::Disruption, Some(setback), error)
    }

    fn fails_by(
        &mut self,
        name: &'static str,
        task: TaskAttempt,
        class: FailureClass,
        setback: Option<Setback>,
        error: &str,
    ) -> Vec<Effect> {
        self.held.entry(name).or_default().remove(&task);
        let session = self.session(name);
        let error = error.to_owned();
        self.event(Event::Failed {
            session,
            task,
            class,
            setback,
            error,
            lost_input: None,
            log: String::new(),
        })
    }

    pub(super) fn finds_input_lost(
        &mut self,
        name: &'static str,
        task: TaskAttempt,
        lost: TaskAttempt,
    ) -> Vec<Effect> {
        self.held.entry(name).or_default().remove(&task);
        let session = self.session(name);
        let error = "checksum differs".to_owned();
        let class = FailureClass::Disruption;
        self.event(Event::Failed {
            session,
            task,
            class,
            setback: None,
            error,
            lost_input: Some(lost),
            log: String::new(),
        })
    }

    pub(super) fn drains(
        &mut self,
        name: &'static str,
        handed_back: Vec<TaskAttempt>,
    ) -> Vec<Effect> {
        self.held
            .entry(name)
            .or_default()
            .retain(|task| !handed_back.contains(task));
        let session = self.session(name);
        self.event(Event::Draining {
            session,
            handed_back,
        })
    }

    /// The worker's stream breaks; the worker keeps running.
    pub(super) fn disconnects(&mut self, name: &'static str) {
        let session = self.sessions.remove(name).unwrap();
        self.event(Event::SessionClosed { session });
    }

    /// The worker's process ends, together with all tasks that it was running.
    pub(super) fn dies(&mut self, name: &'static str) {
        self.held.remove(name);
        self.disconnects(name);
    }

    /// The worker's process ends after the coordinator has given it up. So there is no stream that
    /// could break.
    pub(super) fn dies_after_close(&mut self, name: &'static str) {
        self.held.remove(name);
        self.sessions.remove(name);
    }

    pub(super) fn pod_ended(&mut self, name: &'static str, cause: PodEndCause, reason: &str) {
        let (pod_uid, reason) = (format!("pod-{name}"), reason.to_owned());
        self.event(Event::PodEnded {
            pod_uid,
            cause,
            reason,
        });
    }

    /// All appended records become durable.
    pub(super) fn durable(&mut self) -> Vec<Effect> {
        if self.unwritten.is_empty() {
            return Vec::new();
        }
        self.ledger.append(&mut self.unwritten);
        self.event(Event::Durable {
            through: self.appended - 1,
        })
    }

    /// Answers all requests to the storage with success.
    pub(super) fn storage_answers(&mut self) {
        for effect in std::mem::take(&mut self.asked) {
            match effect {
                Effect::PublishStage { stage, version, .. } => {
                    let outputs = format!("outputs/{stage}/{version}");
                    self.event(Event::StagePublished {
                        stage,
                        version,
                        outputs,
                    });
                }
                Effect::Finalize { task, .. } => {
                    self.event(Event::FileFinalized { task: task.task });
                }
                Effect::WriteManifest { .. } => {
                    self.event(Event::ManifestWritten {
                        manifest: "_SUCCESS.json".to_owned(),
                    });
                }
                Effect::Discard { .. }
                | Effect::Send { .. }
                | Effect::Close { .. }
                | Effect::Append { .. }
                | Effect::AttemptsEnded(_) => {}
            }
        }
    }

    /// Ledger and storage answer until nothing is left to answer.
    pub(super) fn settle(&mut self) {
        while !self.unwritten.is_empty() || !self.asked.is_empty() {
            self.durable();
            self.storage_answers();
        }
    }

    /// All connected workers finish their tasks, and the tasks that they are given after that,
    /// until they have none.
    pub(super) fn work(&mut self) {
        loop {
            self.settle();
            let held: Vec<(&'static str, TaskAttempt)> = self
                .sessions
                .keys()
                .flat_map(|name| self.held(name).into_iter().map(move |task| (*name, task)))
                .collect();
            if held.is_empty() {
                return;
            }
            for (name, task) in held {
                self.done(name, task);
            }
        }
    }

    /// Time passes, with a tick every half second; connected workers of `alive` send their
    /// heartbeats.
    pub(super) fn passes(&mut self, milliseconds: u64, alive: &[&'static str]) {
        for _ in 0..milliseconds / 500 {
            self.now += 500;
            for name in alive {
                if let Some(session) = self.sessions.get(name).copied() {
                    self.event(Event::Heartbeat { session });
                }
            }
            self.event(Event::Tick);
        }
    }

    /// The coordinator is stalled.
    pub(super) fn stalls(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        self.event(Event::Tick);
    }

    pub(super) fn report(&self) -> Report {
        self.state.report()
    }

    /// The job's end, according to the ledger.
    pub(super) fn result(&self) -> JobResult {
        let last = self.ledger.last();
        let Some(LogRecord::Result(result)) = last else {
            panic!("no result, but {last:?}")
        };
        assert_eq!(self.state.result(), Some(result));
        result.clone()
    }

    pub(super) fn assert_succeeded(&self) {
        let result = self.result();
        assert!(matches!(result, JobResult::Succeeded { .. }), "{result:?}");
        let files = self.plan.stages.last().map_or(0, |stage| stage.shards);
        let JobResult::Succeeded {
            files: written,
            rows,
            ..
        } = result
        else {
            return;
        };
        assert_eq!((written, rows), (u64::from(files), u64::from(files) * 10));
    }

    /// `reason` and message of the job's failure.
    pub(super) fn failure(&self) -> (FailureReason, String) {
        match self.result() {
            JobResult::Failed { reason, message } => (reason, message),
            JobResult::Succeeded { .. } => panic!("the job succeeded"),
        }
    }

    /// Done records in the ledger, by task.
    pub(super) fn commits(&self) -> BTreeMap<TaskId, Vec<Attempt>> {
        let mut commits: BTreeMap<TaskId, Vec<Attempt>> = BTreeMap::new();
        for record in &self.ledger {
            if let LogRecord::Done { task, .. } = record {
                commits.entry(task.task).or_default().push(task.attempt);
            }
        }
        commits
    }
}

/// The attempts that these messages cancel.
pub(super) fn cancelled(messages: &[ToWorker]) -> Vec<TaskAttempt> {
    let cancels = messages.iter().filter_map(|message| match message {
        ToWorker::Cancel(tasks) => Some(tasks.clone()),
        ToWorker::Welcome { .. } | ToWorker::Run(_) | ToWorker::Ack(_) | ToWorker::Shutdown => None,
    });
    cancels.flatten().collect()
}

/// The attempts that these messages acknowledge.
pub(super) fn acked(messages: &[ToWorker]) -> Vec<TaskAttempt> {
    let acks = messages.iter().filter_map(|message| match message {
        ToWorker::Ack(tasks) => Some(tasks.clone()),
        ToWorker::Welcome { .. } | ToWorker::Run(_) | ToWorker::Cancel(_) | ToWorker::Shutdown => {
            None
        }
    });
    acks.flatten().collect()
}
