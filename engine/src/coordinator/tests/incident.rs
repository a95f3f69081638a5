//! The incident of 1,024 workers, replayed: 1,024 register, 638 die, 55 come back, the rest die 145 s later, none
//! returns; and what else befell whole fleets.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{output, plan};
use crate::coordinator::record::LogRecord;
use crate::coordinator::{Config, Effect, Event, PodEndCause, State, ToWorker, step};
use crate::id::{Epoch, SessionId, TaskAttempt, TaskId, Timestamp, WorkerId};
use crate::invariants;

/// A fleet of one-slot workers by number, with a ledger that is always fast.
struct Fleet {
    state: State,
    now: u64,
    shards: u32,
    held: BTreeMap<SessionId, BTreeMap<TaskAttempt, u64>>,
    done: BTreeSet<TaskId>,
    runs: u64,
    appended: u64,
    ledger: Vec<LogRecord>,
}

const TASK_MS: u64 = 30_000;

impl Fleet {
    fn new(shards: u32) -> Self {
        let state = State::new(Config::new(3, 0), &plan(&[shards]), Epoch(1), Vec::new()).unwrap();
        let mut fleet = Self {
            state,
            now: 0,
            shards,
            held: BTreeMap::new(),
            done: BTreeSet::new(),
            runs: 0,
            appended: 0,
            ledger: Vec::new(),
        };
        fleet.state.start(Timestamp(0));
        fleet
    }

    fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in step(&mut self.state, event, Timestamp(self.now)) {
                match effect {
                    Effect::Send {
                        session,
                        message: ToWorker::Run(tasks),
                    } => {
                        for dispatch in tasks {
                            assert!(
                                !self.done.contains(&dispatch.task.task),
                                "a completed task runs again"
                            );
                            self.runs += 1;
                            self.held
                                .entry(session)
                                .or_default()
                                .insert(dispatch.task, self.now + TASK_MS);
                        }
                    }
                    Effect::Append { records, .. } => {
                        self.appended += records.len() as u64;
                        self.ledger.extend(records);
                        events.push(Event::Durable {
                            through: self.appended - 1,
                        });
                    }
                    Effect::Finalize { task, .. } => {
                        events.push(Event::FileFinalized { task: task.task });
                    }
                    Effect::WriteManifest { .. } => {
                        events.push(Event::ManifestWritten {
                            manifest: String::new(),
                        });
                    }
                    Effect::Send { .. }
                    | Effect::Close { .. }
                    | Effect::PublishStage { .. }
                    | Effect::Discard { .. } => {}
                }
            }
        }
    }

    fn check(&self) {
        if let Err(violation) = invariants::check(&self.state) {
            panic!("{violation}");
        }
    }

    fn register(&mut self, number: u64) {
        let worker = WorkerId::parse(&format!("pod-{number}"), 1).unwrap();
        self.held.insert(SessionId(number), BTreeMap::new());
        self.event(Event::Hello {
            session: SessionId(number),
            worker,
            slots: 1,
            running: Vec::new(),
        });
    }

    /// The node is gone: the stream breaks, or nobody notices.
    fn dies(&mut self, number: u64, noticed: bool) {
        self.held.remove(&SessionId(number));
        if noticed {
            self.event(Event::SessionClosed {
                session: SessionId(number),
            });
        }
    }

    fn passes(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds / 500 {
            self.now += 500;
            let sessions: Vec<SessionId> = self.held.keys().copied().collect();
            for session in sessions {
                if self.now.is_multiple_of(5_000) {
                    self.event(Event::Heartbeat { session });
                }
                let Some(held) = self.held.get_mut(&session) else {
                    continue;
                };
                let ready: Vec<TaskAttempt> = held
                    .iter()
                    .filter(|(_, end)| **end <= self.now)
                    .map(|(task, _)| *task)
                    .collect();
                held.retain(|task, _| !ready.contains(task));
                if !ready.is_empty() {
                    self.done.extend(ready.iter().map(|task| task.task));
                    let tasks = ready
                        .iter()
                        .map(|task| (*task, output(*task, true)))
                        .collect();
                    self.event(Event::Done { session, tasks });
                }
            }
            self.event(Event::Tick);
        }
        self.check();
    }

    fn alive(&self) -> u32 {
        let workers = self.state.report().workers;
        workers.idle + workers.busy + workers.reconnecting
    }
}

#[test]
fn fault_2977_incident_of_1024_workers_is_seen_and_no_completed_work_is_lost() {
    let mut fleet = Fleet::new(5_000);
    (0..1_024).for_each(|number| fleet.register(number));
    fleet.passes(60_000);
    assert_eq!(fleet.state.report().workers.busy, 1_024);
    let at_wave = fleet.state.report().tasks_done;
    // 638 of them die; half of the streams break, half just fall silent.
    (0..638).for_each(|number| fleet.dies(number, number % 2 == 0));
    fleet.passes(31_000);
    assert_eq!(fleet.alive(), 386);
    assert_eq!(fleet.state.report().workers.disruptions, 638);
    assert_eq!(fleet.state.report().stage.running, 386);
    (2_000..2_055).for_each(|number| fleet.register(number));
    assert_eq!(fleet.state.report().workers.busy, 441);
    fleet.passes(114_000);
    let before_the_end = fleet.state.report();
    assert!(
        before_the_end.tasks_done > at_wave + 1_500,
        "{} tasks",
        before_the_end.tasks_done
    );
    // 145 s after the first wave the rest dies.
    (638..1_024)
        .chain(2_000..2_055)
        .for_each(|number| fleet.dies(number, false));
    fleet.passes(31_000);
    let report = fleet.state.report();
    assert_eq!((fleet.alive(), report.stage.running), (0, 0));
    assert!(
        report.message.contains("waiting for workers"),
        "{}",
        report.message
    );
    let since = report.no_worker_since.expect("nobody is alive").0;
    assert!(fleet.now - since <= 2_000, "seen within the timeout");
    // None returns: it stays a visible wait, and nothing changes.
    fleet.passes(600_000);
    assert_eq!(fleet.state.report(), report);
    assert_eq!(report.workers.disruptions, 1_024 + 55);
    // A new pool finishes the job; what was done is not done again.
    (5_000..5_100).for_each(|number| fleet.register(number));
    fleet.passes(1_800_000);
    assert!(fleet.state.result().is_some());
    assert_eq!(fleet.done.len(), 5_000);
    let commits = fleet
        .ledger
        .iter()
        .filter(|record| matches!(record, LogRecord::Done { .. }))
        .count();
    assert_eq!(commits, 5_000, "each committed exactly once");
    assert!(
        !fleet
            .ledger
            .iter()
            .any(|record| matches!(record, LogRecord::Failed { .. })),
        "and nobody is to blame"
    );
    assert!(
        fleet.runs <= u64::from(fleet.shards) + 638 + 441,
        "{} runs",
        fleet.runs
    );
}

#[test]
fn all_dead_and_then_all_back_goes_on_at_once() {
    let mut fleet = Fleet::new(2_000);
    (0..500).for_each(|number| fleet.register(number));
    fleet.passes(45_000);
    (0..500).for_each(|number| fleet.dies(number, true));
    fleet.passes(60_000);
    assert_eq!(fleet.alive(), 0);
    (1_000..1_500).for_each(|number| fleet.register(number));
    assert_eq!(fleet.state.report().workers.busy, 500);
    fleet.passes(150_000);
    assert!(fleet.state.result().is_some());
}

#[test]
fn a_preemption_wave_told_by_the_operator_requeues_within_the_same_step() {
    let mut fleet = Fleet::new(1_000);
    (0..100).for_each(|number| fleet.register(number));
    for number in 0..100 {
        let reason = "TerminationByKubelet".to_owned();
        let cause = PodEndCause::Disruption;
        fleet.event(Event::PodEnded {
            pod_uid: format!("pod-{number}"),
            cause,
            reason,
        });
        fleet.held.remove(&SessionId(number));
        assert_eq!(
            fleet.state.report().stage.running,
            u32::try_from(99 - number).unwrap()
        );
        fleet.check();
    }
}

#[test]
fn ten_thousand_workers_register_and_none_is_given_up_in_ten_minutes() {
    let mut fleet = Fleet::new(30_000);
    (0..10_000).for_each(|number| fleet.register(number));
    fleet.passes(600_000);
    assert_eq!(fleet.state.report().workers.disruptions, 0);
    assert!(fleet.state.result().is_some());
    assert_eq!(fleet.runs, 30_000);
}
