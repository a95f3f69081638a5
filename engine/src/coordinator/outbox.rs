//! Collects the effects of one step. So in each step a worker gets at most one message of each
//! kind, and the ledger gets one batch of records. Decides nothing.

use std::collections::BTreeMap;

use crate::coordinator::attempts::EndedAttempt;
use crate::coordinator::effect::{Dispatch, Effect, ToWorker};
use crate::coordinator::record::LogRecord;
use crate::id::{SessionId, TaskAttempt, Timestamp};

/// The effects of one step while they are collected.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// The time of the step.
    now: Timestamp,
    closes: Vec<Effect>,
    first_index: u64,
    records: Vec<LogRecord>,
    messages: BTreeMap<SessionId, SessionMessages>,
    others: Vec<Effect>,
    ended: Vec<EndedAttempt>,
}

/// The messages for one session.
#[derive(Debug, Default)]
struct SessionMessages {
    welcome: Option<u64>,
    acks: Vec<TaskAttempt>,
    cancels: Vec<TaskAttempt>,
    runs: Vec<Dispatch>,
    shutdown: bool,
}

impl Outbox {
    /// An empty outbox of a step at this time.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self {
            now,
            closes: Vec::new(),
            first_index: 0,
            records: Vec::new(),
            messages: BTreeMap::new(),
            others: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// The time of the step.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn ended(&mut self, attempt: EndedAttempt) {
        self.ended.push(attempt);
    }

    /// Adds a record for the ledger. `index` is the index of the record. The records of one step
    /// have consecutive indexes.
    pub(crate) fn append(&mut self, index: u64, record: LogRecord) {
        if self.records.is_empty() {
            self.first_index = index;
        }
        self.records.push(record);
    }

    /// Ends the session. The messages that were collected for it so far are dropped.
    pub(crate) fn close(&mut self, session: SessionId, reason: &'static str) {
        self.messages.remove(&session);
        self.closes.push(Effect::Close { session, reason });
    }

    pub(crate) fn welcome(&mut self, session: SessionId, heartbeat_interval_ms: u64) {
        self.messages.entry(session).or_default().welcome = Some(heartbeat_interval_ms);
    }

    pub(crate) fn ack(&mut self, session: SessionId, task: TaskAttempt) {
        self.messages.entry(session).or_default().acks.push(task);
    }

    pub(crate) fn cancel(&mut self, session: SessionId, task: TaskAttempt) {
        self.messages.entry(session).or_default().cancels.push(task);
    }

    pub(crate) fn run(&mut self, session: SessionId, dispatch: Dispatch) {
        self.messages
            .entry(session)
            .or_default()
            .runs
            .push(dispatch);
    }

    pub(crate) fn shutdown(&mut self, session: SessionId) {
        self.messages.entry(session).or_default().shutdown = true;
    }

    pub(crate) fn other(&mut self, effect: Effect) {
        self.others.push(effect);
    }

    /// The effects in the order of execution. A worker gets `Welcome` first, then the cancellations
    /// of old attempts, and then new attempts.
    pub(crate) fn into_effects(self) -> Vec<Effect> {
        let mut effects = self.closes;
        if !self.records.is_empty() {
            effects.push(Effect::Append {
                first_index: self.first_index,
                records: self.records,
            });
        }
        for (session, collected) in self.messages {
            let SessionMessages {
                welcome,
                acks,
                cancels,
                runs,
                shutdown,
            } = collected;
            let mut send = |message| effects.push(Effect::Send { session, message });
            if let Some(heartbeat_interval_ms) = welcome {
                send(ToWorker::Welcome {
                    heartbeat_interval_ms,
                });
            }
            if !acks.is_empty() {
                send(ToWorker::Ack(acks));
            }
            if !cancels.is_empty() {
                send(ToWorker::Cancel(cancels));
            }
            if !runs.is_empty() {
                send(ToWorker::Run(runs));
            }
            if shutdown {
                send(ToWorker::Shutdown);
            }
        }
        effects.extend(self.others);
        if !self.ended.is_empty() {
            effects.push(Effect::AttemptsEnded(self.ended));
        }
        effects
    }
}
