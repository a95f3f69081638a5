//! Simulates coordinators, which die, stall, and are replaced while alive. Checks each of their
//! effects against the log and against the true events.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::settings::Nemesis;
use super::streams::session_of;
use super::workers::{counters, dead_letter, has_dead_letter, skipped_by};
use super::world::{Happening, World};
use crate::coordinator::record::{LogRecord, OutputFile};
use crate::coordinator::report::Report;
use crate::coordinator::state::JobState;
use crate::coordinator::tests::cluster::{plan_of, skipping};
use crate::coordinator::{Effect, Event, PodEndCause, State, ToWorker, step};
use crate::id::{Epoch, SessionId, ShardId, StageId, TaskAttempt, TaskId, Timestamp};
use crate::invariants;
use crate::pipeline::OnError;

/// One coordinator process, and what it writes into the ledger.
pub(super) struct Coordinator {
    state: State,
    /// It does nothing before this time.
    pub(super) stalled_until: u64,
    buffer: Vec<LogRecord>,
    in_flight: Vec<LogRecord>,
    has_landed: bool,
    appended: u64,
    durable: u64,
    /// The book of the log, including everything that this coordinator has appended.
    soon: Book,
    /// When a message last arrived through a session, whether or not the coordinator noticed it.
    arrived: BTreeMap<SessionId, u64>,
    /// When it last noticed any worker.
    noticed_at: u64,
    last_tick: u64,
    /// The time since which it has received its ticks without a gap.
    watching_since: u64,
    /// The attempts that it asked workers to stop, with their sessions.
    refused: BTreeSet<(SessionId, TaskAttempt)>,
    draining: BTreeSet<SessionId>,
}

impl Coordinator {
    pub(super) fn report(&self) -> Report {
        self.state.report()
    }

    pub(super) fn uncompleted_files(&self) -> Vec<OutputFile> {
        self.state.uncompleted_files()
    }

    /// The book of everything that it has written, durable or in flight.
    pub(super) fn account(&self) -> &Book {
        &self.soon
    }
}

const TICK_MS: u64 = 500;

/// The limits of the engine, as documented. If a gap between ticks is longer, it is a stall. If a
/// silence is longer, the worker is lost.
const STALL_MS: u64 = 5_000;
const SILENCE_MS: u64 = 30_000;

/// The invariants check every task. So in a large run they are checked only once in this many
/// steps.
const LARGE_CHECK_EVERY: u64 = 499;

impl World {
    pub(super) fn newest(&self) -> Option<&Coordinator> {
        self.coordinators.get(&self.ledger.newest_epoch)
    }

    fn is_newest(&self, epoch: u64) -> bool {
        epoch == self.ledger.newest_epoch
    }

    // How coordinators start, stall, are replaced and die.

    pub(super) fn coordinator_starts(&mut self) {
        self.successor_is_due = false;
        self.ledger.newest_epoch += 1;
        let epoch = self.ledger.newest_epoch;
        self.note(&format!("coordinator {epoch} starts"));
        let any_number = OnError {
            dead_letter: Some("dead/{shard}".to_owned()),
            max_skipped: None,
            max_skipped_per_million: Some(1_000_000),
            shows_messages: true,
        };
        let plan = plan_of(&self.settings.shards, &self.settings.reads);
        let plan = skipping(plan, any_number);
        let replay = self.ledger.records.clone();
        let state = State::new(self.settings.config(), &plan, Epoch(epoch), replay);
        let mut state = state.unwrap_or_else(|error| panic!("{error}: {:#?}", self.ledger.records));
        let effects = state.start(Timestamp(self.now));
        let coordinator = Coordinator {
            state,
            stalled_until: 0,
            buffer: Vec::new(),
            in_flight: Vec::new(),
            has_landed: false,
            appended: 0,
            durable: 0,
            soon: self.ledger.book.clone(),
            arrived: BTreeMap::new(),
            noticed_at: self.now,
            last_tick: self.now,
            watching_since: self.now,
            refused: BTreeSet::new(),
            draining: BTreeSet::new(),
        };
        self.coordinators.insert(epoch, coordinator);
        self.carry_out(epoch, None, effects);
        self.after(TICK_MS, Happening::Tick { epoch });
    }

    /// The process ends, and all its streams break. Only its calls that are in flight may still
    /// arrive.
    pub(super) fn coordinator_dies(&mut self, epoch: u64) {
        let Some(dead) = self.coordinators.remove(&epoch) else {
            return;
        };
        self.note(&format!("coordinator {epoch} dies"));
        let was_under_way = !dead.in_flight.is_empty() && !dead.has_landed;
        if was_under_way && !self.ledger.is_sealed(epoch) && self.rng.percent(50) {
            self.lands(&dead.in_flight);
        }
        let streams = self.streams.iter();
        let sessions: Vec<SessionId> = streams
            .filter(|(_, stream)| stream.epoch == epoch && stream.is_open)
            .map(|(session, _)| *session)
            .collect();
        for session in sessions {
            self.stream_breaks(session, None);
        }
        if self.is_newest(epoch) {
            self.successor_comes();
        }
    }

    fn successor_comes(&mut self) {
        if !self.successor_is_due {
            self.successor_is_due = true;
            let delay = self.rng.between(500, 15_000);
            self.after(delay, Happening::CoordinatorStarts);
        }
    }

    pub(super) fn coordinator_stalls(&mut self, milliseconds: u64) {
        let epoch = self.ledger.newest_epoch;
        let end = (self.now + milliseconds).min(self.settings.faults_end_ms());
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        coordinator.stalled_until = end.max(coordinator.stalled_until);
        self.note(&format!("coordinator {epoch} stalls until {end}"));
    }

    /// The coordinator stalls, and Kubernetes starts another one. When the first one resumes, it
    /// has not noticed this.
    pub(super) fn coordinator_is_replaced_alive(&mut self) {
        let stall = self.rng.between(10_000, 200_000);
        self.coordinator_stalls(stall);
        let epoch = self.ledger.newest_epoch;
        self.successor_comes();
        let streams = self.streams.iter();
        let sessions: Vec<SessionId> = streams
            .filter(|(_, stream)| stream.epoch == epoch && stream.is_open)
            .map(|(session, _)| *session)
            .collect();
        for session in sessions {
            if self.rng.percent(70) {
                let delay = self.rng.between(0, 20_000);
                self.after(delay, Happening::StreamBreaks { session });
            }
        }
    }

    /// All coordinators are deleted, and a new one starts.
    pub(super) fn all_coordinators_end(&mut self) {
        let all: Vec<u64> = self.coordinators.keys().copied().collect();
        for epoch in all {
            self.coordinator_dies(epoch);
        }
        self.successor_comes();
    }

    /// A coordinator that was replaced while alive is finally deleted.
    pub(super) fn old_coordinators_die(&mut self) {
        let newest = self.ledger.newest_epoch;
        let old: Vec<u64> = self
            .coordinators
            .range(..newest)
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in old {
            self.coordinator_dies(epoch);
        }
    }

    pub(super) fn tick(&mut self, epoch: u64) {
        let now = self.now;
        let Some(coordinator) = self.coordinators.get(&epoch) else {
            return;
        };
        let stall = coordinator.stalled_until.saturating_sub(now);
        self.learns(epoch, Event::Tick);
        self.after(TICK_MS + stall, Happening::Tick { epoch });
    }

    // The events that coordinators receive.

    pub(super) fn learns(&mut self, epoch: u64, event: Event) {
        if self.is_held_up(epoch, &event) {
            return;
        }
        if let Some(session) = session_of(&event)
            && let Some(coordinator) = self.coordinators.get_mut(&epoch)
        {
            coordinator.arrived.insert(session, self.now);
        }
        self.takes_in(epoch, event);
    }

    /// The coordinator receives an event. If the process is stalled, the event waits, even if its
    /// stream breaks.
    pub(super) fn takes_in(&mut self, epoch: u64, event: Event) {
        let now = self.now;
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        let speaker = session_of(&event);
        if now < coordinator.stalled_until {
            let delay = coordinator.stalled_until - now;
            self.again_after(delay, Happening::TakesIn { epoch, event });
            return;
        }
        match &event {
            Event::Tick => {
                if now - coordinator.last_tick > STALL_MS {
                    coordinator.watching_since = now;
                }
                coordinator.last_tick = now;
            }
            Event::Draining { session, .. } => {
                coordinator.draining.insert(*session);
            }
            Event::PodEnded { pod_uid, cause, .. } if *cause != PodEndCause::Disruption => {
                let number = pod_uid
                    .strip_prefix("pod-")
                    .and_then(|pod| pod.parse().ok());
                self.truth.pod_end_reported(number.unwrap_or(u64::MAX), now);
            }
            Event::Hello { .. }
            | Event::Heartbeat { .. }
            | Event::Progress { .. }
            | Event::Done { .. }
            | Event::Failed { .. }
            | Event::SessionClosed { .. }
            | Event::PodEnded { .. }
            | Event::Durable { .. }
            | Event::StagePublished { .. }
            | Event::FileFinalized { .. }
            | Event::FileLost { .. }
            | Event::ManifestWritten { .. }
            | Event::OutputTaken { .. }
            | Event::EndedByOperator { .. }
            | Event::WorkersKept { .. }
            | Event::Drain { .. } => {}
        }
        if speaker.is_some() {
            coordinator.noticed_at = now;
        }
        let is_tick = event == Event::Tick;
        let line = event.to_string();
        let is_checked = !self.settings.is_large || self.steps.is_multiple_of(LARGE_CHECK_EVERY);
        let open = is_checked.then(|| invariants::open_attempts(&coordinator.state));
        let effects = step(&mut coordinator.state, event, Timestamp(now));
        self.steps += 1;
        if let Some(open) = open
            && let Err(violation) = invariants::check(&coordinator.state)
                .and_then(|()| invariants::check_ends(&open, &effects, &coordinator.state))
        {
            panic!("after {line}: {violation}");
        }
        if is_tick {
            coordinator.expect_to_see_that_all_are_gone(now);
        }
        self.note(&line);
        self.carry_out(epoch, speaker, effects);
    }

    fn carry_out(&mut self, epoch: u64, speaker: Option<SessionId>, effects: Vec<Effect>) {
        for effect in effects {
            self.note(&format!("    {effect}"));
            match effect {
                Effect::Send { session, message } => {
                    self.expect_message(epoch, session, &message);
                    self.send_to_worker(session, message);
                }
                Effect::Close { session, reason } => {
                    self.expect_close(epoch, session, reason);
                    self.stream_breaks(session, Some(0));
                }
                Effect::Append {
                    first_index,
                    records,
                } => self.append(epoch, speaker, first_index, records),
                Effect::PublishStage { .. }
                | Effect::Finalize { .. }
                | Effect::Discard { .. }
                | Effect::WriteManifest { .. } => {
                    self.expect_request(epoch, &effect);
                    let delay = self.storage_delay();
                    self.after(delay, Happening::Performs { epoch, effect });
                }
                Effect::AttemptsEnded(_) => {}
            }
        }
        if let Some(coordinator) = self.coordinators.get(&epoch) {
            let goes_on = coordinator.state.job == JobState::Running;
            coordinator.soon.expect_verdict(goes_on);
        }
    }

    // The ledger.

    fn append(
        &mut self,
        epoch: u64,
        speaker: Option<SessionId>,
        first_index: u64,
        records: Vec<LogRecord>,
    ) {
        let now = self.now;
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        assert_eq!(first_index, coordinator.appended, "indexes are contiguous");
        coordinator.appended += records.len() as u64;
        for record in &records {
            if let LogRecord::Done { task, .. } = record {
                let session = speaker.expect("nobody reported what is done");
                let is_refused = coordinator.refused.contains(&(session, *task));
                assert!(
                    !is_refused,
                    "{task} is done, and session {session} was to stop it"
                );
            }
            self.truth.expect(record, now);
            coordinator.soon.enter(record);
        }
        coordinator.buffer.extend(records);
        self.put(epoch);
    }

    fn put(&mut self, epoch: u64) {
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        if coordinator.in_flight.is_empty() && !coordinator.buffer.is_empty() {
            coordinator.in_flight = std::mem::take(&mut coordinator.buffer);
            coordinator.has_landed = false;
            let delay = self.storage_delay();
            self.after(delay, Happening::PutLands { epoch });
        }
    }

    pub(super) fn put_lands(&mut self, epoch: u64) {
        let now = self.now;
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        if self.ledger.is_sealed(epoch) {
            // The put comes after the seal. A stalled process cannot know this yet.
            if now < coordinator.stalled_until {
                let delay = coordinator.stalled_until - now;
                self.after(delay, Happening::PutLands { epoch });
                return;
            }
            self.note(&format!("coordinator {epoch} finds its log sealed"));
            self.coordinator_dies(epoch);
            return;
        }
        let deaths = self.settings.deaths_at_put;
        if !self.settings.is_healed(now) && self.rng.percent(deaths) {
            // The process dies before the put arrives, or between the put and its answer; see
            // `coordinator_dies`.
            self.coordinator_dies(epoch);
            return;
        }
        coordinator.has_landed = true;
        let records = coordinator.in_flight.clone();
        self.lands(&records);
        let delay = self.storage_delay();
        self.after(delay, Happening::PutIsAnswered { epoch });
    }

    fn lands(&mut self, records: &[LogRecord]) {
        self.ledger.put(records);
        if self.ledger.book.result().is_some() && self.ended_at.is_none() {
            self.ended_at = Some(self.now);
            self.may_restart();
        }
    }

    pub(super) fn put_is_answered(&mut self, epoch: u64) {
        let now = self.now;
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        if now < coordinator.stalled_until {
            let delay = coordinator.stalled_until - now;
            self.after(delay, Happening::PutIsAnswered { epoch });
            return;
        }
        coordinator.durable += coordinator.in_flight.len() as u64;
        coordinator.in_flight.clear();
        let through = coordinator.durable - 1;
        self.learns(epoch, Event::Durable { through });
        self.put(epoch);
    }

    // Storage.

    fn storage_delay(&mut self) -> u64 {
        if self.now < self.storage_is_slow_until {
            return self.rng.between(1_000, 20_000);
        }
        let max = if self.has_healed() {
            self.settings.storage_ms_max.min(500)
        } else {
            self.settings.storage_ms_max
        };
        self.rng.between(1, max)
    }

    pub(super) fn performs(&mut self, epoch: u64, effect: Effect) {
        // Calls of a dead process may still be in flight.
        let is_alive = self.coordinators.contains_key(&epoch);
        if !is_alive && self.rng.percent(50) {
            return;
        }
        let answer = match effect {
            Effect::PublishStage {
                stage,
                version,
                outputs,
            } => {
                let path = format!("outputs/{stage}/e{epoch}v{version}");
                self.storage.publish(&path, &outputs);
                Event::StagePublished {
                    stage,
                    version,
                    outputs: path,
                }
            }
            Effect::Finalize { task, .. } => {
                if self.settings.nemeses.contains(&Nemesis::OutputIsLost) && self.may_lose(task, 10)
                {
                    self.storage.remove(task);
                }
                if self.completes(task) {
                    Event::FileFinalized { task: task.task }
                } else {
                    Event::FileLost { task }
                }
            }
            Effect::Discard { task, file } => {
                if file == dead_letter(task) {
                    self.storage.remove_dead_letter(task);
                } else {
                    self.storage.remove(task);
                }
                return;
            }
            Effect::WriteManifest { .. } => Event::ManifestWritten {
                manifest: "_SUCCESS.json".to_owned(),
            },
            Effect::Send { .. }
            | Effect::Close { .. }
            | Effect::Append { .. }
            | Effect::AttemptsEnded(_) => return,
        };
        let delay = self.storage_delay();
        let event = answer;
        self.after(delay, Happening::Learns { epoch, event });
    }

    /// All final files of an attempt are completed; `false` if one is lost.
    fn completes(&mut self, task: TaskAttempt) -> bool {
        if !has_dead_letter(task) {
            return self.storage.complete(task);
        }
        let is_lost = self.settings.nemeses.contains(&Nemesis::OutputIsLost);
        if is_lost && self.may_lose(task, 10) {
            self.storage.remove_dead_letter(task);
        }
        let ends_in_the_sink = self.settings.is_last_stage(task.task);
        self.storage.complete_dead_letter(task)
            && (!ends_in_the_sink || self.storage.complete(task))
    }

    // The checks of the effects.

    fn expect_message(&mut self, epoch: u64, session: SessionId, message: &ToWorker) {
        let is_newest = self.is_newest(epoch);
        let durable = &self.ledger.book;
        let Some(coordinator) = self.coordinators.get_mut(&epoch) else {
            return;
        };
        match message {
            ToWorker::Run(tasks) => {
                let is_draining = coordinator.draining.contains(&session);
                assert!(!is_draining, "session {session} drains and is given tasks");
                for run in tasks {
                    let task = run.task;
                    let winner = coordinator.soon.winner(task.task);
                    assert_eq!(winner, None, "{task}: a completed task runs again");
                    let stream = &self.streams[&session];
                    self.truth.sent(task, (stream.pod, stream.incarnation));
                    // A coordinator that was replaced while alive may decide from old facts.
                    // Nothing that it starts can be committed.
                    if is_newest {
                        let outputs = durable.inputs(task.task.stage);
                        assert_eq!(
                            Some(&run.input_outputs),
                            outputs.as_ref(),
                            "the inputs of {task}, of which {outputs:?} are complete"
                        );
                    }
                    let reads = &self.settings.reads[task.task.stage.0 as usize];
                    assert_eq!(run.input_outputs.len(), reads.len(), "the inputs of {task}");
                }
            }
            ToWorker::Cancel(tasks) => {
                for task in tasks {
                    coordinator.refused.insert((session, *task));
                    self.truth.is_cancelled(*task);
                }
            }
            ToWorker::Ack(tasks) => {
                for task in tasks {
                    self.truth
                        .expect_acknowledgement(*task, durable, &coordinator.soon);
                }
            }
            ToWorker::Shutdown => {
                assert!(
                    durable.result().is_some(),
                    "dismissed before the end is durable"
                );
            }
            ToWorker::Welcome { .. } => {}
        }
    }

    /// Checks that a worker that sent messages in time is not given up, if the coordinator itself
    /// was running.
    fn expect_close(&self, epoch: u64, session: SessionId, reason: &str) {
        let Some(coordinator) = self.coordinators.get(&epoch) else {
            return;
        };
        if reason == "the worker was silent for too long" {
            let arrived = coordinator.arrived.get(&session).copied().unwrap_or(0);
            let silence = self.now - arrived.max(coordinator.watching_since);
            assert!(
                silence >= SILENCE_MS,
                "session {session} is given up after {silence} ms"
            );
        }
    }

    fn expect_request(&self, epoch: u64, effect: &Effect) {
        let durable = &self.ledger.book;
        match effect {
            Effect::PublishStage { stage, outputs, .. } => {
                let wanted = self.settings.shards[stage.0 as usize];
                assert_eq!(
                    outputs.len(),
                    wanted as usize,
                    "the outputs of stage {stage}"
                );
                for (position, (task, file)) in (0..).zip(outputs) {
                    assert_eq!((task.task.stage, task.task.shard.0), (*stage, position));
                    self.expect_winner(epoch, *task, file);
                }
            }
            Effect::Finalize { task, files } => {
                let mut expected = Vec::new();
                if has_dead_letter(*task) {
                    expected.push(dead_letter(*task));
                }
                if self.settings.is_last_stage(task.task) {
                    expected.push(self.storage.file(*task));
                }
                assert!(!expected.is_empty() && *files == expected, "{files:?}");
                self.expect_winner(epoch, *task, &self.storage.file(*task));
            }
            Effect::Discard { task, file } => {
                assert!(*file == self.storage.file(*task) || *file == dead_letter(*task));
                let coordinator = self.coordinators.get(&epoch);
                let is_soon = coordinator.is_some_and(|known| known.soon.is_winner(*task));
                let is_winner = is_soon || durable.is_winner(*task) && self.is_newest(epoch);
                assert!(!is_winner, "{task} won, and its file is deleted");
            }
            Effect::WriteManifest { files, more } => {
                for (task, file) in files {
                    self.expect_winner(epoch, *task, file);
                }
                assert_eq!(files.len(), self.storage.final_files.len());
                self.expect_skipped(epoch);
                self.expect_counted(epoch);
                for (task, file) in more {
                    assert_eq!(*file, dead_letter(*task));
                    let stands = self.storage.dead_letters.get(&task.task);
                    assert_eq!(stands, Some(&task.attempt), "the dead letter of {task}");
                }
                let skipping = (0..self.settings.shards[0]).filter(|shard| skipped_by(*shard) > 0);
                assert_eq!(more.len(), skipping.count(), "dead letters");
            }
            Effect::Send { .. }
            | Effect::Close { .. }
            | Effect::Append { .. }
            | Effect::AttemptsEnded(_) => {}
        }
    }

    /// After every task is done, checks that the skipped records of each task are counted once.
    fn expect_skipped(&self, epoch: u64) {
        let Some(coordinator) = self.coordinators.get(&epoch) else {
            return;
        };
        let shards = 0..self.settings.shards[0];
        let all: u64 = shards.clone().map(skipped_by).sum();
        let report = coordinator.state.report();
        let counted: u64 = report.skipped.iter().map(|skipped| skipped.records).sum();
        assert_eq!(counted, all, "records that were skipped");
        let first = shards.clone().find(|shard| skipped_by(*shard) > 0);
        let first = first.map(|shard| shard.to_string());
        let shown = report.skipped.first().map(|skipped| skipped.first.clone());
        assert_eq!(shown, first, "the first skipped record");
    }

    /// After every task is done, checks that the counters of each task are counted once.
    fn expect_counted(&self, epoch: u64) {
        let Some(coordinator) = self.coordinators.get(&epoch) else {
            return;
        };
        let mut expected = BTreeMap::<String, u64>::new();
        for (stage, count) in (0..).zip(&self.settings.shards) {
            for shard in 0..*count {
                for (name, count) in counters(TaskId {
                    stage: StageId(stage),
                    shard: ShardId(shard),
                }) {
                    *expected.entry(name.to_string()).or_default() += count;
                }
            }
        }
        let counted = coordinator.state.report().counters.into_iter();
        let counted = counted.map(|(name, count)| (name.to_string(), count));
        let counted: BTreeMap<String, u64> = counted.collect();
        assert_eq!(counted, expected, "counters");
    }

    /// Checks that the file belongs to an attempt whose commit is durable. A coordinator of an
    /// older epoch may not know which outputs were lost since.
    fn expect_winner(&self, epoch: u64, task: TaskAttempt, file: &OutputFile) {
        assert_eq!(*file, self.storage.file(task));
        let is_winner = self.ledger.book.is_winner(task);
        assert!(
            is_winner || !self.is_newest(epoch),
            "{task} is not durably committed"
        );
    }
}

impl Coordinator {
    /// Checks that no worker counts as alive after a whole period without any message.
    fn expect_to_see_that_all_are_gone(&self, now: u64) {
        let silence = now - self.noticed_at.max(self.watching_since);
        if silence < SILENCE_MS + 2 * TICK_MS {
            return;
        }
        let report = self.state.report();
        let workers = &report.workers;
        let alive = workers.idle + workers.busy + workers.reconnecting;
        assert_eq!(alive, 0, "workers without a message for {silence} ms");
        assert!(report.no_worker_since.is_some(), "and it is not reported");
    }
}
