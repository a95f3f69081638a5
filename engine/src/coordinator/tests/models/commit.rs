//! Model of the commit of an attempt and its final file. One task has several attempts, and each of
//! them has a complete upload under the final name. The attempts are a second attempt of a
//! straggler, an attempt of a worker that seemed lost but was not, and attempts from before a
//! crash.
//!
//! The attempts' bytes differ, like those of a non-deterministic pipeline, so that the file of a
//! wrong attempt can be recognized. Completing a multipart upload and renaming a staged file are
//! the same step in this model: both succeed only once, and the whole file appears at once.

use stateright::Property;

use super::coordinator::Call;
use super::holds;
use super::setting::{Faults, Mistake, Setting, is_found_out};
use super::world::World;
use crate::coordinator::defect::Defect;
use crate::coordinator::record::{JobResult, LogRecord};
use crate::coordinator::state::{FinalFile, TaskState};

const RULES: [&str; 4] = [
    "a final name has the bytes of the attempt that the ledger commits, or none",
    "no committed upload is deleted, and no task runs again because it is missing",
    "no forbidden event has happened",
    "if no further event is possible, the job has succeeded with all its files",
];

fn properties() -> Vec<Property<Setting>> {
    let [bytes, kept, broken, end] = RULES;
    vec![
        Property::always(bytes, |_, world: &World| {
            let mut files = world.store.files.iter();
            files.all(|(task, bytes)| world.winner(*task) == Some(*bytes))
        }),
        Property::always(kept, |_, world: &World| !is_revoked(world)),
        Property::always(broken, |_, world: &World| world.broken.is_none()),
        Property::always(end, has_ended_well),
        Property::sometimes(
            "a task has two attempts whose uploads are whole",
            |_, world: &World| world.store.uploads.len() > 1,
        ),
        Property::sometimes(
            "a superseded upload is deleted while the winner's file stays",
            |_, world: &World| {
                !world.store.files.is_empty() && calls(world, |call| matches!(call, Call::Abort(_)))
            },
        ),
    ]
}

/// Whether an event can still happen, or the job has ended as expected.
pub(super) fn has_ended_well(setting: &Setting, world: &World) -> bool {
    if world.broken.is_some() || !world.progress().is_empty() {
        return true;
    }
    let files_stand = setting.all_tasks().all(|task| {
        let file = world.store.files.get(&task).copied();
        file.is_some() && file == world.winner(task)
    });
    let has_succeeded = matches!(world.result(), Some(JobResult::Succeeded { .. }));
    has_succeeded && files_stand && world.store.has_manifest
}

fn calls(world: &World, is_meant: impl Fn(&Call) -> bool) -> bool {
    let mut calls = world.coordinators.iter().flat_map(|known| &known.calls);
    calls.any(is_meant)
}

/// A committed upload turned out to be gone, and its task runs again.
fn is_revoked(world: &World) -> bool {
    let mut records = world.ledger.iter();
    records.any(|record| matches!(record, LogRecord::Revoked { .. }))
}

fn setting(faults: Faults) -> Setting {
    Setting {
        tasks: 1,
        workers: 2,
        faults,
        has_strays: false,
        defect: None,
        mistake: None,
        properties,
    }
}

/// The report of the first attempt is late, so that a second attempt starts. Answers of the store
/// are lost.
fn stragglers() -> Setting {
    setting(Faults {
        speculations: 1,
        breaks: 1,
        lost_replies: 1,
        ..Faults::default()
    })
}

/// Messages of a live worker do not arrive in time, and the coordinator dies.
fn crash() -> Setting {
    Setting {
        properties: || {
            let mut all = properties();
            all.push(Property::sometimes(
                "an attempt from before a crash wins after the crash",
                |_, world: &World| {
                    world.newest().is_some_and(|newest| {
                        let task = &newest.state.stages[0].tasks[0].state;
                        matches!(task, TaskState::Committing { attempt, .. } if attempt.epoch.0 < newest.epoch)
                    })
                },
            ));
            all.push(Property::sometimes(
                "a file that is complete already is found by a look",
                |_, world: &World| {
                    calls(world, |call| match call {
                        Call::Look(task) => world.store.files.get(&task.task) == Some(task),
                        Call::Complete(_) | Call::Abort(_) | Call::WriteManifest => false,
                    })
                },
            ));
            all
        },
        ..setting(Faults {
            crashes: 1,
            silences: 1,
            lost_replies: 1,
            ..Faults::default()
        })
    }
}

/// A worker is killed, and the coordinator dies.
fn death() -> Setting {
    setting(Faults {
        crashes: 1,
        deaths: 1,
        ..Faults::default()
    })
}

/// A coordinator continues after another one has taken over. Its calls may reach the store after it
/// has ended.
fn rival() -> Setting {
    Setting {
        has_strays: true,
        properties: || {
            let mut all = properties();
            all.push(Property::sometimes(
                "two coordinators commit the same attempt's file",
                |_, world: &World| {
                    let known = world.coordinators.iter().filter(|known| {
                        let task = &known.state.stages[0].tasks[0].state;
                        task.final_file() == Some(FinalFile::Completing)
                    });
                    known.count() == 2
                },
            ));
            all
        },
        ..setting(Faults {
            rivals: 1,
            speculations: 1,
            ..Faults::default()
        })
    }
}

#[test]
fn exactly_one_of_a_straggler_and_its_second_attempt_becomes_the_file() {
    holds("commit, stragglers", &stragglers());
}

#[test]
fn a_crash_at_any_moment_leaves_the_file_of_the_attempt_in_the_ledger() {
    holds("commit, crash", &crash());
}

#[test]
fn after_a_crash_and_a_killed_worker_exactly_one_attempt_becomes_the_file() {
    holds("commit, death", &death());
}

#[test]
fn a_superseded_coordinator_cannot_put_a_losers_bytes_under_the_final_name() {
    holds("commit, rival", &rival());
}

#[test]
fn a_wrong_implementation_of_the_commit_is_found() {
    let [bytes, kept, broken, _] = RULES;
    for (defect, setting, property) in [
        (Defect::FinalizeBeforeDurable, stragglers(), bytes),
        (Defect::AckBeforeDurable, crash(), broken),
        (Defect::SupersededDiscardedTooEarly, rival(), kept),
        (Defect::SecondCommitWins, stragglers(), broken),
        (Defect::ResultWithoutAttemptCheck, stragglers(), broken),
    ] {
        let wrong = Setting {
            defect: Some(defect),
            ..setting
        };
        is_found_out(&format!("{defect:?}"), wrong, &[property]);
    }
    for (mistake, setting, property) in [
        (Mistake::WorkerCompletes, stragglers(), bytes),
        (Mistake::GoneIsLost, crash(), bytes),
        (Mistake::DiscardByName, stragglers(), broken),
    ] {
        let wrong = Setting {
            mistake: Some(mistake),
            ..setting
        };
        is_found_out(&format!("{mistake:?}"), wrong, &[property]);
    }
    // An upload disappears only if there is another mistake.
    let wrong = Setting {
        defect: Some(Defect::SupersededDiscardedTooEarly),
        mistake: Some(Mistake::GoneIsDone),
        ..rival()
    };
    is_found_out("GoneIsDone", wrong, &[broken]);
}
