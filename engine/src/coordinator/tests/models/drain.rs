//! Model of the hand-back by a worker that is asked to terminate. Its tasks may be in transit,
//! running, finished, or reported and not acknowledged. Streams break, the coordinator dies at the
//! same time, and the worker's process is killed before it can send its messages.

use stateright::Property;

use super::commit::has_ended_well;
use super::coordinator::Coordinator;
use super::holds;
use super::setting::{Faults, Setting, is_found_out};
use super::worker::Worker;
use super::world::{Up, World};

use crate::coordinator::ToWorker;
use crate::coordinator::defect::Defect;

const RULES: [&str; 2] = [
    "no forbidden event has happened",
    "if no further event is possible, every task is committed and the job has succeeded",
];

fn properties() -> Vec<Property<Setting>> {
    let [broken, end] = RULES;
    vec![
        // Forbidden events include a charge, a task that runs twice, and a task that is given to a
        // terminating worker.
        Property::always(broken, |_, world: &World| world.broken.is_none()),
        Property::always(end, has_ended_well),
        Property::sometimes(
            "what was handed back runs at another worker",
            |_, world: &World| {
                let is_second =
                    |worker: &Worker| worker.running.iter().any(|task| task.attempt.number > 1);
                world.workers.iter().any(is_second)
            },
        ),
        Property::sometimes(
            "a task is sent to a worker that has reported that it drains",
            |_, world: &World| {
                world.links.iter().any(|link| {
                    let is_run = |message: &ToWorker| matches!(message, ToWorker::Run(_));
                    link.up.contains(&Up::Bye) && link.down.iter().any(is_run)
                })
            },
        ),
        Property::sometimes(
            "a result and the farewell are on their way together",
            |_, world: &World| {
                world.links.iter().any(|link| {
                    link.up.contains(&Up::Bye)
                        && link.up.iter().any(|sent| matches!(sent, Up::Done(_)))
                })
            },
        ),
        Property::sometimes(
            "the farewell is lost with its stream",
            |_, world: &World| {
                let went = world.left.drains == 0 && world.workers[0].has_ended;
                let is_believed_to_run = |newest: &Coordinator| {
                    let mut known = newest.state.workers.values();
                    known.any(|known| {
                        !known.draining && known.session().is_none() && !known.running.is_empty()
                    })
                };
                went && world.newest().is_some_and(is_believed_to_run)
            },
        ),
    ]
}

fn setting(tasks: u32, faults: Faults) -> Setting {
    Setting {
        tasks,
        workers: 2,
        faults,
        has_strays: false,
        defect: None,
        mistake: None,
        properties,
    }
}

/// There are two tasks and two workers, and one of the workers is asked to terminate.
fn two_tasks() -> Setting {
    setting(
        2,
        Faults {
            drains: 1,
            ..Faults::default()
        },
    )
}

/// Like [`two_tasks`], and a stream breaks before or after the hand-back.
fn broken_stream() -> Setting {
    setting(
        1,
        Faults {
            drains: 1,
            breaks: 1,
            ..Faults::default()
        },
    )
}

/// Like [`two_tasks`], and the coordinator dies before or after the hand-back.
fn restart() -> Setting {
    setting(
        1,
        Faults {
            drains: 1,
            crashes: 1,
            ..Faults::default()
        },
    )
}

/// Like [`two_tasks`], and a worker counts as lost before or after the hand-back.
fn silence() -> Setting {
    setting(
        1,
        Faults {
            drains: 1,
            silences: 1,
            ..Faults::default()
        },
    )
}

#[test]
fn a_terminating_worker_hands_back_its_tasks_once_and_nothing_is_lost_or_charged() {
    holds("drain, two tasks", &two_tasks());
}

#[test]
fn a_worker_that_terminates_while_streams_break_loses_nothing() {
    holds("drain, broken stream", &broken_stream());
}

#[test]
fn a_worker_that_terminates_while_the_coordinator_restarts_loses_nothing() {
    holds("drain, restart", &restart());
}

#[test]
fn a_draining_worker_that_counted_as_lost_loses_nothing() {
    holds("drain, silence", &silence());
}

#[test]
fn a_wrong_implementation_of_the_hand_back_is_found() {
    let [broken, end] = RULES;
    for (defect, property) in [
        (Defect::DrainingTakesTasks, broken),
        (Defect::PreemptionChargedAsFailure, broken),
        (Defect::NoRequeueOnReregister, end),
        (Defect::NoRequeueOfDrained, broken),
    ] {
        let wrong = Setting {
            defect: Some(defect),
            ..broken_stream()
        };
        is_found_out(&format!("{defect:?}"), wrong, &[property]);
    }
}
