//! Model of a coordinator's process. It uses the real `State` and the real `step`, and models the
//! ledger's put that is in flight and the calls to the object store. Its inputs are in `sessions`.
//!
//! It models files of `worker-image/src/coordinator`. Like `event_loop.rs`, it handles one event
//! after the other and executes effects in their order. Like `effects.rs`, it makes one commit at a
//! time, puts records that arrive in between into the next commit, and makes storage calls in
//! parallel and in any order. Like `finalize.rs` and `storage/complete.rs`, it completes an upload,
//! and compares the existing file if there is no such upload.

use std::collections::BTreeSet;

use super::Shared;
use super::setting::{Mistake, Rule, Setting, written_by};
use super::world::World;
use crate::coordinator::record::LogRecord;
use crate::coordinator::state::TaskState;
use crate::coordinator::{Config, Effect, Event, State, ToWorker, step};
use crate::id::{Epoch, SessionId, TaskAttempt, Timestamp};
use crate::invariants;

/// A time that is longer than a worker may be silent.
pub(super) const SILENCE_MS: u64 = 2;

/// A coordinator.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Coordinator {
    pub(super) epoch: u64,
    pub(super) state: Shared<State>,
    /// Records that are collected while a put is in flight.
    gathered: Vec<LogRecord>,
    first_gathered: u64,
    pub(super) put: Option<Put>,
    /// Running calls to the object store.
    pub(super) calls: BTreeSet<Call>,
    pub(super) next_session: u64,
}

/// The put that is in flight.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(super) struct Put {
    pub(super) records: Vec<LogRecord>,
    through: u64,
    /// Whether it reached the store before a successor sealed the log. Its answer has not arrived
    /// yet.
    pub(super) is_applied: bool,
}

/// A call to the object store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Call {
    /// Complete the upload of this attempt.
    Complete(TaskAttempt),
    /// There was no such upload, so the store is asked whose file exists.
    Look(TaskAttempt),
    /// Abort the upload of this attempt.
    Abort(TaskAttempt),
    WriteManifest,
}

/// The coordinator's settings. The model's time advances only by `SILENCE_MS`, so no other setting
/// may depend on time.
fn config(setting: &Setting) -> Config {
    let mut config = Config::new(1, 0);
    config.adoption_grace_ms = 0;
    config.advance.per_slot_max = 0;
    config.heartbeat.interval_min_ms = SILENCE_MS;
    config.heartbeat.interval_max_ms = SILENCE_MS;
    config.heartbeat.silence_min_ms = SILENCE_MS;
    config.heartbeat.silent_intervals = 0;
    config.speculation = config
        .speculation
        .filter(|_| setting.faults.speculations > 0);
    if let Some(policy) = &mut config.speculation {
        policy.committed_percent = 0;
        policy.elapsed_min_ms = 0;
    }
    config
}

impl World {
    /// A coordinator opens the next epoch, seals the older logs and replays them. In this model
    /// that is one step; `take_over` models it call by call.
    pub(super) fn starts(&mut self, setting: &Setting) {
        self.newest_epoch += 1;
        let epoch = self.newest_epoch;
        let records = self.ledger.iter().cloned();
        let Ok(mut state) =
            setting.wrongly(|| State::new(config(setting), &setting.plan(), Epoch(epoch), records))
        else {
            self.broken = Some(Rule::ReplayIsRefused);
            return;
        };
        if setting.faults.speculations > 0 {
            // The other tasks of the stage count as having taken no time, so that a straggler is
            // recognized.
            state.stages[0].durations.add(0);
        }
        let effects = setting.wrongly(|| state.start(Timestamp(self.now)));
        self.coordinators.push(Coordinator {
            epoch,
            state: Shared::new(state),
            gathered: Vec::new(),
            first_gathered: 0,
            put: None,
            calls: BTreeSet::new(),
            next_session: 1,
        });
        self.carries_out(setting, epoch, effects);
    }

    pub(super) fn coordinator(&self, epoch: u64) -> Option<&Coordinator> {
        self.coordinators.iter().find(|known| known.epoch == epoch)
    }

    pub(super) fn coordinator_mut(&mut self, epoch: u64) -> Option<&mut Coordinator> {
        self.coordinators
            .iter_mut()
            .find(|known| known.epoch == epoch)
    }

    /// The process ends together with its streams. Its calls to the object store may still arrive.
    pub(super) fn coordinator_ends(&mut self, setting: &Setting, epoch: u64) {
        let Some(position) = self
            .coordinators
            .iter()
            .position(|known| known.epoch == epoch)
        else {
            return;
        };
        let ended = self.coordinators.remove(position);
        if setting.has_strays {
            let strays = ended
                .calls
                .into_iter()
                .filter(|call| !matches!(call, Call::Look(_)));
            self.strays.extend(strays);
        }
        let links = self.links.iter().filter(|link| link.epoch == epoch);
        let sessions: Vec<_> = links.map(|link| link.session).collect();
        for session in sessions {
            self.cuts(epoch, session);
        }
    }

    /// Passes one event through the real `step`.
    pub(super) fn takes_in(&mut self, setting: &Setting, epoch: u64, event: Event) {
        let now = Timestamp(self.now);
        let Some(coordinator) = self.coordinator_mut(epoch) else {
            return;
        };
        let (effects, checked) = coordinator.state.change(|state| {
            let effects = setting.wrongly(|| step(state, event, now));
            (effects, setting.wrongly(|| invariants::check(state)))
        });
        if checked.is_err() {
            self.broken = Some(Rule::StateContradictsItself);
        }
        self.carries_out(setting, epoch, effects);
    }

    fn carries_out(&mut self, setting: &Setting, epoch: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { session, message } => self.sends(setting, epoch, session, message),
                Effect::Close { session, .. } => self.cuts(epoch, session),
                Effect::Append { records, .. } => {
                    if let Some(coordinator) = self.coordinator_mut(epoch) {
                        coordinator.gathered.extend(records);
                        coordinator.commits_gathered();
                    }
                }
                Effect::Finalize { task, files } => {
                    let is_own = |file| written_by(task.task, file) == task;
                    self.expect(files.iter().all(is_own), Rule::AnothersFile);
                    self.calls(epoch, Call::Complete(task));
                }
                Effect::Discard { task, file } => {
                    self.expect(written_by(task.task, &file) == task, Rule::AnothersFile);
                    self.calls(epoch, Call::Abort(task));
                }
                Effect::WriteManifest { files, more: _ } => {
                    let all_stand = files
                        .iter()
                        .all(|(task, _)| self.store.files.get(&task.task) == Some(task));
                    self.expect(all_stand, Rule::ManifestBeforeFiles);
                    self.calls(epoch, Call::WriteManifest);
                }
                Effect::AttemptsEnded(_) => {}
                Effect::PublishStage { .. } => unreachable!("there is one stage"),
            }
        }
    }

    fn expect(&mut self, holds: bool, rule: Rule) {
        if !holds {
            self.broken = Some(rule);
        }
    }

    fn calls(&mut self, epoch: u64, call: Call) {
        if let Some(coordinator) = self.coordinator_mut(epoch) {
            coordinator.calls.insert(call);
        }
    }

    fn sends(&mut self, setting: &Setting, epoch: u64, session: SessionId, message: ToWorker) {
        match &message {
            ToWorker::Ack(tasks) => {
                let rightly = tasks.iter().all(|task| self.may_forget(epoch, *task));
                self.expect(rightly, Rule::AckedTooEarly);
            }
            ToWorker::Run(tasks) => {
                let state = self.coordinator(epoch).map(|known| &known.state);
                let goes = state.is_some_and(|state| {
                    let worker = state
                        .sessions
                        .get(&session)
                        .and_then(|number| state.workers.get(number));
                    worker.is_some_and(|worker| worker.draining)
                });
                let many = tasks.iter().any(|run| {
                    let task = state.and_then(|state| state.task(run.task.task));
                    task.is_none_or(|task| !runs_once(&task.state))
                });
                self.expect(!goes, Rule::GivenToOneThatGoes);
                self.expect(!many || setting.faults.speculations > 0, Rule::RunsTwice);
            }
            ToWorker::Welcome { .. } | ToWorker::Cancel(_) | ToWorker::Shutdown => {}
        }
        if let Some(link) = self.link_mut(epoch, session)
            && !link.is_broken
        {
            link.down.push_back(message);
        }
    }

    /// Whether a worker may forget its result, because it is in the ledger or another attempt has
    /// won.
    fn may_forget(&self, epoch: u64, task: TaskAttempt) -> bool {
        let is_committed = self
            .ledger
            .iter()
            .any(|record| matches!(record, LogRecord::Done { task: done, .. } if *done == task));
        let known = self
            .coordinator(epoch)
            .and_then(|known| known.state.task(task.task));
        let winner = known.and_then(|known| known.state.winner());
        is_committed || winner.is_some_and(|(winner, _)| winner != task.attempt)
    }

    /// The put succeeds and is answered, or it fails because the log is sealed.
    pub(super) fn put_ends(&mut self, setting: &Setting, epoch: u64) {
        let is_newest = epoch == self.newest_epoch;
        let Some(coordinator) = self.coordinator_mut(epoch) else {
            return;
        };
        let Some(put) = coordinator.put.take() else {
            return;
        };
        if !is_newest && !put.is_applied {
            self.coordinator_ends(setting, epoch);
            return;
        }
        coordinator.commits_gathered();
        if !put.is_applied {
            self.commit(put.records);
        }
        let through = put.through;
        self.takes_in(setting, epoch, Event::Durable { through });
    }

    /// Records become durable in the ledger.
    pub(super) fn commit(&mut self, records: Vec<LogRecord>) {
        let is_charged = records
            .iter()
            .any(|record| matches!(record, LogRecord::Failed { .. }));
        self.expect(!is_charged, Rule::Charged);
        self.ledger.change(|ledger| ledger.extend(records));
    }

    /// A call reaches the store and is answered.
    pub(super) fn call_ends(&mut self, setting: &Setting, epoch: u64, call: Call) {
        if let Some(coordinator) = self.coordinator_mut(epoch) {
            coordinator.calls.remove(&call);
        }
        match call {
            Call::Complete(task) => {
                if self.store.complete(task) || setting.mistake == Some(Mistake::GoneIsDone) {
                    self.takes_in(setting, epoch, Event::FileFinalized { task: task.task });
                } else if setting.mistake == Some(Mistake::GoneIsLost) {
                    self.takes_in(setting, epoch, Event::FileLost { task });
                } else {
                    self.calls(epoch, Call::Look(task));
                }
            }
            Call::Look(task) => {
                let event = if self.store.files.get(&task.task) == Some(&task) {
                    Event::FileFinalized { task: task.task }
                } else {
                    Event::FileLost { task }
                };
                self.takes_in(setting, epoch, event);
            }
            Call::Abort(_) => self.call_arrives(setting, call),
            Call::WriteManifest => {
                self.call_arrives(setting, call);
                let manifest = String::new();
                self.takes_in(setting, epoch, Event::ManifestWritten { manifest });
            }
        }
    }

    /// A call reaches the store, and its answer is lost.
    pub(super) fn call_arrives(&mut self, setting: &Setting, call: Call) {
        match call {
            Call::Complete(task) => {
                self.store.complete(task);
            }
            Call::Abort(task) => {
                self.store.uploads.remove(&task);
                if setting.mistake == Some(Mistake::DiscardByName) {
                    self.store.files.remove(&task.task);
                }
            }
            Call::Look(_) => {}
            Call::WriteManifest => self.store.has_manifest = true,
        }
    }

    /// Whether a straggler would get a second attempt now.
    pub(super) fn would_speculate(&self, setting: &Setting) -> bool {
        let Some(known) = self.coordinator(self.newest_epoch) else {
            return false;
        };
        let mut tasks = known.state.stages[0].tasks.iter();
        let one_runs = tasks.any(|task| runs_once(&task.state));
        if !one_runs || known.state.sessions.len() < 2 {
            return false;
        }
        let mut state = (*known.state).clone();
        let before = state.speculations;
        setting.wrongly(|| step(&mut state, Event::Tick, Timestamp(self.now)));
        state.speculations > before
    }
}

impl Coordinator {
    fn commits_gathered(&mut self) {
        if self.put.is_some() || self.gathered.is_empty() {
            return;
        }
        let records = std::mem::take(&mut self.gathered);
        self.first_gathered += records.len() as u64;
        self.put = Some(Put {
            records,
            through: self.first_gathered - 1,
            is_applied: false,
        });
    }
}

fn runs_once(state: &TaskState) -> bool {
    matches!(state, TaskState::Running { attempts } if attempts.len() == 1)
}
