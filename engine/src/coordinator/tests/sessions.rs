//! Tests of sessions: `Hello`, adopted attempts, superseded sessions, late and repeated reports,
//! and workers that terminate.

use super::cluster::{TestCluster, acked, attempt, cancelled, output, task};
use crate::coordinator::config::MAX_SLOTS;
use crate::coordinator::record::{FailureClass, FilePlace};
use crate::coordinator::{Effect, Event, FailureReason, PodEndCause, ToWorker};
use crate::id::{SessionId, TaskAttempt, WorkerId};

#[test]
fn a_worker_is_welcomed_and_given_a_task_for_each_slot() {
    let mut cluster = TestCluster::new(&[5]);
    cluster.hello("a", 2);
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 0, 1, 1), attempt(0, 1, 1, 1)]
    );
    let received = cluster.received("a");
    assert_eq!(
        received[0],
        ToWorker::Welcome {
            heartbeat_interval_ms: 5_000
        }
    );
    assert!(
        matches!(&received[1], ToWorker::Run(tasks) if tasks.len() == 2),
        "one batch: {received:?}"
    );
    assert_eq!(received.len(), 2);
}

#[test]
fn a_slot_is_filled_as_soon_as_its_task_is_reported_before_the_commit_is_durable() {
    let mut cluster = TestCluster::new(&[3]);
    cluster.hello("a", 1);
    cluster.now += 60_000;
    let effects = cluster.done("a", attempt(0, 0, 1, 1));
    assert_eq!(cluster.held("a"), [attempt(0, 1, 1, 1)]);
    assert!(
        matches!(&effects[0], Effect::Append { first_index: 0, records } if records.len() == 1)
    );
}

#[test]
fn the_least_busy_worker_gets_the_next_task() {
    let mut cluster = TestCluster::new(&[0, 0]);
    cluster.settle();
    let mut cluster = TestCluster::new(&[6]);
    cluster.hello("a", 1);
    cluster.hello("b", 4);
    cluster.hello("c", 2);
    assert_eq!(
        (
            cluster.held("a").len(),
            cluster.held("b").len(),
            cluster.held("c").len()
        ),
        (1, 4, 1)
    );
}

#[test]
fn tiny_tasks_are_given_in_advance_but_long_tasks_are_not() {
    let mut cluster = TestCluster::new(&[100]);
    cluster.hello("a", 1);
    cluster.done("a", attempt(0, 0, 1, 1));
    assert_eq!(
        cluster.held("a").len(),
        17,
        "tasks that take no time: 16 in advance"
    );
    let mut cluster = TestCluster::new(&[100]);
    cluster.hello("a", 1);
    cluster.passes(5_000, &["a"]);
    cluster.done("a", attempt(0, 0, 1, 1));
    assert_eq!(cluster.held("a").len(), 1, "tasks of 5 s: none in advance");
}

#[test]
fn a_worker_that_claims_too_many_slots_gets_at_most_the_limit() {
    let mut cluster = TestCluster::new(&[3_000]);
    cluster.hello("a", u32::MAX);
    assert_eq!(cluster.held("a").len(), MAX_SLOTS as usize);
    cluster.hello("b", 0);
    assert_eq!(cluster.held("b").len(), 1);
}

#[test]
fn a_new_session_of_the_same_worker_closes_the_old_one_and_keeps_its_tasks() {
    let mut cluster = TestCluster::new(&[4]);
    let old = cluster.hello("a", 2);
    let held = cluster.held("a");
    cluster.hello("a", 2);
    assert_eq!(cluster.closed, [old]);
    assert_eq!(cluster.held("a"), held);
    assert_eq!(
        cluster.received("a"),
        [ToWorker::Welcome {
            heartbeat_interval_ms: 5_000
        }]
    );
    assert_eq!(cluster.report().workers.busy, 1);
    // The old session's end and its late messages have no effect any more.
    cluster.event(Event::SessionClosed { session: old });
    cluster.event(Event::Done {
        session: old,
        tasks: vec![(held[0], output(held[0], true))],
    });
    assert_eq!(cluster.report().workers.busy, 1);
    assert!(cluster.unwritten.is_empty());
}

/// Returns the event that a process of the same pod opens a session.
fn hello(session: u64, incarnation: u64) -> Event {
    Event::Hello {
        session: SessionId(session),
        worker: WorkerId::parse("pod-a", incarnation).unwrap(),
        ordinal: None,
        slots: 1,
        running: Vec::new(),
    }
}

#[test]
fn hellos_that_arrive_in_the_wrong_order_leave_the_newest_session() {
    for incarnation in [1, 2] {
        let mut cluster = TestCluster::new(&[1]);
        cluster.event(hello(7, incarnation));
        cluster.event(hello(3, 1));
        assert_eq!(cluster.closed, [SessionId(3)]);
        assert_eq!(cluster.report().workers.busy, 1);
    }
}

#[test]
fn of_two_processes_of_one_pod_the_newer_stays_and_the_older_is_refused() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.event(hello(101, 7));
    cluster.event(hello(102, 3));
    assert_eq!(cluster.closed, [SessionId(101)]);
    for session in [103, 104] {
        cluster.event(hello(session, 7));
        assert_eq!(cluster.closed.last(), Some(&SessionId(session)));
    }
    assert!(!cluster.closed.contains(&SessionId(102)));
    assert_eq!(cluster.report().workers.busy, 1);
    cluster.event(hello(105, 9));
    cluster.event(hello(106, 3));
    cluster.event(hello(107, 7));
    let closed = [101, 103, 104, 102, 106, 107].map(SessionId);
    assert_eq!(cluster.closed, closed);
}

#[test]
fn a_second_hello_in_one_session_closes_it() {
    let mut cluster = TestCluster::new(&[1]);
    let session = cluster.hello("a", 1);
    let worker = WorkerId::parse("pod-x", 9).unwrap();
    cluster.event(Event::Hello {
        session,
        worker,
        ordinal: None,
        slots: 1,
        running: Vec::new(),
    });
    assert_eq!(cluster.closed, [session]);
}

#[test]
fn fault_2961_the_task_of_a_worker_that_returns_without_it_is_queued_again_once() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.disconnects("a");
    cluster.hello_naming("a", 1, 2, vec![attempt(0, 1, 1, 1)]);
    // The attempt that it named continues; the one that it did not name is dispatched again, as
    // another attempt.
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 0, 1, 2), attempt(0, 1, 1, 1)]
    );
    cluster.work();
    cluster.assert_succeeded();
    assert!(
        cluster
            .commits()
            .values()
            .all(|attempts| attempts.len() == 1)
    );
}

#[test]
fn fault_2961_a_restarted_process_of_the_same_pod_between_two_heartbeats_loses_no_shard() {
    let mut cluster = TestCluster::new(&[2]);
    let old = cluster.hello("a", 2);
    cluster.hello_naming("a", 2, 2, Vec::new());
    assert_eq!(cluster.closed, [old]);
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 0, 1, 2), attempt(0, 1, 1, 2)]
    );
    assert_eq!(
        cluster.report().workers.disruptions,
        0,
        "a restart does not count as a preemption (3367)"
    );
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn fault_4093_promise_e5_a_restart_at_any_moment_requeues_once_and_clears_no_failure_count() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.fails(
        "a",
        attempt(0, 0, 1, 1),
        FailureClass::Application,
        "boom 1",
    );
    cluster.passes(1_500, &["a"]);
    cluster.hello_naming("a", 2, 1, Vec::new());
    cluster.fails(
        "a",
        attempt(0, 0, 1, 3),
        FailureClass::Application,
        "boom 2",
    );
    cluster.passes(5_000, &["a"]);
    cluster.hello_naming("a", 3, 1, Vec::new());
    let last = cluster.only("a");
    cluster.fails("a", last, FailureClass::Application, "boom 3");
    cluster.settle();
    let (reason, message) = cluster.failure();
    assert_eq!(reason, FailureReason::TaskFailed);
    assert!(message.contains("failed 3 times"), "{message}");
}

#[test]
fn a_running_attempt_of_an_older_epoch_is_adopted_and_its_result_taken() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    cluster.restart();
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    cluster.work();
    cluster.assert_succeeded();
    let commits: Vec<_> = cluster.commits().into_values().flatten().collect();
    assert_eq!(
        commits,
        [attempt(0, 0, 1, 1).attempt, attempt(0, 1, 1, 1).attempt]
    );
}

#[test]
fn after_a_take_over_nothing_is_dispatched_until_workers_could_report_their_tasks() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 1);
    cluster.restart();
    cluster.hello("b", 2);
    assert_eq!(cluster.held("b"), []);
    cluster.hello("a", 1);
    cluster.passes(1_000, &["a", "b"]);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    assert_eq!(cluster.held("b"), [attempt(0, 1, 2, 1)]);
}

#[test]
fn an_attempt_that_comes_back_a_little_late_is_preferred_to_one_just_dispatched() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.restart();
    cluster.hello("b", 1);
    cluster.passes(2_000, &["b"]);
    assert_eq!(cluster.held("b"), [attempt(0, 0, 2, 1)]);
    cluster.hello("a", 1);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    assert_eq!(cancelled(&cluster.received("b")), [attempt(0, 0, 2, 1)]);
}

#[test]
fn an_attempt_that_comes_back_when_another_has_got_far_is_cancelled() {
    for read in [true, false] {
        let mut cluster = TestCluster::new(&[1]);
        cluster.hello("a", 1);
        cluster.restart();
        cluster.hello("b", 1);
        cluster.passes(2_000, &["b"]);
        if read {
            let session = cluster.session("b");
            cluster.event(Event::Progress {
                session,
                tasks: vec![(attempt(0, 0, 2, 1), 5)],
            });
        } else {
            cluster.passes(10_000, &["b"]);
        }
        cluster.hello("a", 1);
        assert_eq!(cancelled(&cluster.received("a")), [attempt(0, 0, 1, 1)]);
        assert_eq!(cluster.held("b"), [attempt(0, 0, 2, 1)]);
    }
}

#[test]
fn attempts_that_cannot_have_been_dispatched_are_cancelled_and_never_adopted() {
    let strange = [
        attempt(7, 0, 1, 1),
        attempt(0, 99, 1, 1),
        attempt(0, 0, 2, 1),
        attempt(0, 0, 3, 1),
        attempt(0, 0, 1, 0),
        attempt(1, 0, 1, 1),
    ];
    for named in strange {
        let mut cluster = TestCluster::resuming(
            crate::coordinator::Config::new(3, 0),
            &[1, 1],
            2,
            Vec::new(),
        );
        cluster.hello_naming("a", 1, 1, vec![named]);
        assert_eq!(cancelled(&cluster.received("a")), [named], "{named}");
        cluster.passes(1_000, &["a"]);
        assert_eq!(cluster.held("a"), [attempt(0, 0, 2, 1)]);
    }
}

#[test]
fn an_attempt_that_runs_elsewhere_is_cancelled_at_the_worker_that_claims_it() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.hello_naming("b", 1, 1, vec![attempt(0, 0, 1, 1)]);
    assert_eq!(cancelled(&cluster.received("b")), [attempt(0, 0, 1, 1)]);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    // Its report changes nothing. The file is kept, because it may belong to the other worker.
    let effects = cluster.done("b", attempt(0, 0, 1, 1));
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Discard { .. } | Effect::Append { .. }))
    );
}

#[test]
fn a_result_is_acknowledged_when_it_is_durable_and_not_before() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let only = cluster.only("a");
    cluster.received("a");
    cluster.done("a", only);
    assert_eq!(cluster.received("a"), []);
    cluster.durable();
    assert_eq!(cluster.received("a"), [ToWorker::Ack(vec![only])]);
}

#[test]
fn fault_internal_a_repeated_result_is_acknowledged_again_and_counted_once() {
    let mut cluster = TestCluster::new(&[1, 1]);
    cluster.hello("a", 1);
    let only = cluster.only("a");
    cluster.done("a", only);
    cluster.received("a");
    cluster.done("a", only);
    assert_eq!(cluster.received("a"), [], "not durable yet");
    cluster.durable();
    assert_eq!(acked(&cluster.received("a")), [only]);
    let effects = cluster.done("a", only);
    assert_eq!(acked(&cluster.received("a")), [only]);
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Append { .. } | Effect::Discard { .. }))
    );
    assert_eq!(cluster.report().tasks_done, 1);
}

#[test]
fn a_worker_that_missed_an_acknowledgement_gets_it_again_after_hello() {
    let mut cluster = TestCluster::new(&[1, 1]);
    cluster.hello("a", 1);
    let only = cluster.only("a");
    cluster.done("a", only);
    cluster.disconnects("a");
    cluster.hello_naming("a", 1, 1, vec![only]);
    assert_eq!(acked(&cluster.received("a")), [], "not durable yet");
    cluster.durable();
    assert_eq!(acked(&cluster.received("a")), [only]);
    cluster.restart();
    cluster.hello_naming("a", 1, 1, vec![only]);
    assert_eq!(
        acked(&cluster.received("a")),
        [only],
        "the next coordinator acknowledges what is in the ledger"
    );
}

#[test]
fn fault_found_here_promise_e12_of_two_attempts_the_first_wins_and_the_loser_cannot_touch_its_file()
{
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let first = cluster.only("a");
    cluster.passes(31_000, &[]);
    cluster.hello_naming("b", 1, 1, Vec::new());
    let second = cluster.only("b");
    assert_ne!(first, second);
    cluster.done("b", second);
    cluster.durable();
    // The silent worker is back with a finished attempt.
    cluster.hello_naming("a", 1, 1, vec![first]);
    assert_eq!(cancelled(&cluster.received("a")), [first]);
    let effects = cluster.done("a", first);
    assert_eq!(acked(&cluster.received("a")), [first]);
    let file = output(first, true).file;
    assert!(effects.contains(&Effect::Discard { task: first, file }));
    // If a false report names the file of the winner, this file is not deleted.
    let session = cluster.session("a");
    let effects = cluster.event(Event::Done {
        session,
        tasks: vec![(first, output(second, true))],
    });
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Discard { .. }))
    );
}

#[test]
fn promise_e3_a_report_of_an_attempt_that_nobody_dispatched_here_is_never_trusted() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 1);
    for stranger in [
        attempt(0, 1, 1, 1),
        attempt(0, 1, 0, 1),
        attempt(9, 9, 1, 1),
    ] {
        let effects = cluster.done("a", stranger);
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Append { .. })),
            "{stranger}"
        );
        let received = cluster.received("a");
        assert_eq!(
            (acked(&received), cancelled(&received)),
            (vec![], vec![stranger])
        );
    }
    assert_eq!(cluster.report().tasks_done, 0);
}

#[test]
fn messages_through_a_session_that_never_said_hello_mean_nothing() {
    let mut cluster = TestCluster::new(&[1]);
    let session = SessionId(99);
    let task = attempt(0, 0, 1, 1);
    let events = [
        Event::Heartbeat { session },
        Event::Progress {
            session,
            tasks: vec![(task, 1)],
        },
        Event::Done {
            session,
            tasks: vec![(task, output(task, true))],
        },
        Event::Failed {
            session,
            task,
            class: FailureClass::Application,
            setback: None,
            error: String::new(),
            lost_input: None,
            log: String::new(),
        },
        Event::Draining {
            session,
            handed_back: vec![task],
        },
        Event::SessionClosed { session },
    ];
    for event in events {
        assert_eq!(cluster.event(event.clone()), [], "{event}");
    }
}

/// The shell refuses such reports. If it accepted one, tests and simulation would notice at once.
#[test]
#[should_panic(expected = "tasks of the last stage have final files")]
fn a_result_at_the_wrong_kind_of_place_breaks_an_invariant() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let only = cluster.only("a");
    let session = cluster.session("a");
    let mut strange = output(only, true);
    strange.file.place = FilePlace::Shuffle;
    cluster.event(Event::Done {
        session,
        tasks: vec![(only, strange)],
    });
}

#[test]
fn promise_e17_tasks_of_a_draining_worker_run_elsewhere_at_once_and_cost_nothing() {
    let mut cluster = TestCluster::with(crate::coordinator::Config::new(1, 1), &[3]);
    cluster.hello("a", 2);
    cluster.hello("b", 2);
    let held = cluster.held("a");
    cluster.drains("a", vec![held[0]]);
    assert_eq!(
        cluster.held("a"),
        [held[1]],
        "it still finishes what it did not hand back"
    );
    assert_eq!(cluster.held("b").len(), 2);
    assert!(
        cluster
            .held("b")
            .iter()
            .any(|task| task.task == held[0].task && *task != held[0])
    );
    let received = cluster.received("a");
    assert_eq!(cancelled(&received), []);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn fault_3014_a_draining_worker_gets_no_new_task_and_is_gone_when_its_stream_ends() {
    let mut cluster = TestCluster::new(&[3]);
    cluster.hello("a", 1);
    let held = cluster.only("a");
    cluster.drains("a", Vec::new());
    cluster.passes(1_000, &["a"]);
    cluster.done("a", held);
    assert_eq!(cluster.held("a"), []);
    cluster.hello("b", 1);
    cluster.disconnects("a");
    let workers = cluster.report().workers;
    assert_eq!((workers.reconnecting, workers.disruptions), (0, 1));
    // If the end of its stream was not noticed, the worker may open another session. It still
    // counts as draining.
    cluster.drains("b", Vec::new());
    let held = cluster.only("b");
    cluster.hello("b", 1);
    cluster.done("b", held);
    assert_eq!(cluster.held("b"), []);
}

#[test]
fn fault_4200_workers_even_late_ones_are_shut_down_only_after_the_end_of_the_job() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    let only = cluster.only("a");
    cluster.done("a", only);
    assert!(!cluster.received("b").contains(&ToWorker::Shutdown));
    cluster.settle();
    assert_eq!(cluster.received("b"), [ToWorker::Shutdown]);
    assert!(cluster.received("a").contains(&ToWorker::Shutdown));
    cluster.hello_naming("c", 1, 1, vec![attempt(0, 0, 1, 7)]);
    let received = cluster.received("c");
    assert_eq!(received.len(), 3, "{received:?}");
    assert!(matches!(received[0], ToWorker::Welcome { .. }));
    assert_eq!(cancelled(&received), [attempt(0, 0, 1, 7)]);
    assert_eq!(received[2], ToWorker::Shutdown);
}

#[test]
fn fault_2982_a_dispatched_task_knows_where_its_input_is_listed() {
    let mut cluster = TestCluster::new(&[1, 1]);
    cluster.hello("a", 1);
    let first = cluster.only("a");
    let received = cluster.received("a");
    assert!(matches!(&received[1], ToWorker::Run(tasks) if tasks[0].input_outputs.is_empty()));
    cluster.done("a", first);
    cluster.settle();
    let received = cluster.received("a");
    let run = received.iter().find_map(|message| {
        if let ToWorker::Run(tasks) = message {
            Some(tasks)
        } else {
            None
        }
    });
    assert_eq!(run.unwrap()[0].input_outputs, ["outputs/1/0"]);
    assert_eq!(run.unwrap()[0].task.task, task(1, 0));
}

#[test]
fn a_task_whose_process_was_killed_is_traced_from_then_on() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let traced = |cluster: &mut TestCluster| {
        cluster
            .received("a")
            .iter()
            .any(|message| matches!(message, ToWorker::Run(tasks) if tasks[0].trace_records))
    };
    assert!(!traced(&mut cluster));
    let only: TaskAttempt = cluster.only("a");
    cluster.fails("a", only, FailureClass::Application, "killed by signal 9");
    cluster.passes(1_000, &["a"]);
    assert!(traced(&mut cluster));
}

#[test]
fn a_report_about_an_unknown_pod_means_nothing() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.pod_ended("z", PodEndCause::OutOfMemory, "OOMKilled");
    assert_eq!(cluster.report().workers.disruptions, 0);
}
