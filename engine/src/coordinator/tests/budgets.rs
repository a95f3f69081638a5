//! Tests how failures are charged to the two budgets of a task, how long the next try waits, and
//! when a job ends because of failures.

use super::cluster::{TestCluster, attempt};
use crate::coordinator::failed_task::{FailedTask, MAX_LOG_BYTES};
use crate::coordinator::record::{FailureClass, LogRecord};
use crate::coordinator::{Config, Effect, Event, FailureReason, PodEndCause, ToWorker};
use crate::id::TaskAttempt;

/// Lets time pass until a worker has the first shard again, or the job has ended.
fn next_try(cluster: &mut TestCluster) -> Option<TaskAttempt> {
    for _ in 0..200 {
        cluster.settle();
        if let Some(task) = cluster
            .held("a")
            .into_iter()
            .find(|task| task.task.shard.0 == 0)
        {
            return Some(task);
        }
        cluster.passes(500, &["a"]);
    }
    None
}

#[test]
fn fault_4575_promise_e8_a_poison_shard_fails_the_job_and_is_named_and_other_work_is_kept() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.done("a", attempt(0, 1, 1, 1));
    let began = cluster.now;
    let mut tries = 0;
    while let Some(task) = next_try(&mut cluster) {
        tries += 1;
        cluster.fails(
            "a",
            task,
            FailureClass::Application,
            &format!("killed, try {tries}"),
        );
    }
    cluster.settle();
    assert_eq!(tries, 3);
    let (reason, message) = cluster.failure();
    assert_eq!(reason, FailureReason::TaskFailed);
    let wanted = "stage 1/1 map, shard 0: failed 3 times, and spec.retries.taskFailures allows 3; last error: killed, try 3";
    assert_eq!(message, wanted);
    assert!(cluster.now - began < 120_000, "{} ms", cluster.now - began);
    assert_eq!(
        cluster.commits().len(),
        1,
        "the other shard's commit stands"
    );
    assert_eq!(cluster.received("a").last(), Some(&ToWorker::Shutdown));
}

/// Fails an attempt of worker `name`, which logged this.
fn fails_with_log(cluster: &mut TestCluster, name: &'static str, task: TaskAttempt, log: &str) {
    cluster.forgets(name, task);
    let session = cluster.session(name);
    cluster.event(Event::Failed {
        session,
        task,
        class: FailureClass::Application,
        setback: None,
        error: "exit code 1".to_owned(),
        lost_input: None,
        log: log.to_owned(),
    });
}

#[test]
fn the_last_lines_of_the_attempt_that_ended_the_job_are_in_the_report() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
    cluster.hello("w7", 1);
    let task = cluster.only("w7");
    fails_with_log(&mut cluster, "w7", task, &"a line\n".repeat(1_000));
    assert_eq!(cluster.report().failed_task, None, "it is not durable");
    cluster.settle();
    let found = cluster.report().failed_task.unwrap();
    assert_eq!((found.stage, found.stage_name.as_str()), (1, "map"));
    let FailedTask {
        task: failed,
        worker,
        log,
    } = found.failed;
    assert_eq!((failed, worker), (task, Some(7)));
    assert!(log.len() <= MAX_LOG_BYTES && log.ends_with("line\na line"));
    // A job that ends for another reason has none, although an attempt has failed.
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("w7", 1);
    let task = cluster.only("w7");
    fails_with_log(&mut cluster, "w7", task, "a line");
    cluster.event(Event::EndedByOperator {
        reason: FailureReason::Cancelled,
        message: "no longer wanted".to_owned(),
    });
    cluster.settle();
    assert_eq!(cluster.failure().0, FailureReason::Cancelled);
    assert_eq!(cluster.report().failed_task, None);
}

#[test]
fn a_shard_that_takes_too_long_is_tried_as_often_as_any_other_failure_and_named() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let error = "s3://in/a.jsonl: not done after 1m";
    for class in [
        FailureClass::TimedOut,
        FailureClass::Application,
        FailureClass::TimedOut,
    ] {
        let task = next_try(&mut cluster).expect("a further try");
        cluster.fails("a", task, class, error);
    }
    cluster.settle();
    let (reason, message) = cluster.failure();
    assert_eq!(reason, FailureReason::TaskTimedOut);
    let wanted = "stage 1/1 map, shard 0: failed 3 times, and spec.retries.taskFailures allows 3; last error: ";
    assert_eq!(message, format!("{wanted}{error}"));
}

#[test]
fn the_last_error_decides_whether_a_shard_took_too_long() {
    let mut cluster = TestCluster::with(Config::new(2, 0), &[1]);
    cluster.hello("a", 1);
    for class in [FailureClass::TimedOut, FailureClass::Application] {
        let task = next_try(&mut cluster).expect("a further try");
        cluster.fails("a", task, class, "no");
    }
    cluster.settle();
    assert_eq!(cluster.failure().0, FailureReason::TaskFailed);
}

#[test]
fn a_shard_that_fails_on_two_of_three_tries_completes() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    for error in ["one", "two"] {
        let task = next_try(&mut cluster).unwrap();
        cluster.fails("a", task, FailureClass::Application, error);
    }
    next_try(&mut cluster).unwrap();
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn a_deterministic_error_is_confirmed_by_one_more_try_and_no_more() {
    let mut cluster = TestCluster::with(Config::new(100, 0), &[1]);
    cluster.hello("a", 1);
    let error = "s3://in/a.jsonl record 7: null cannot be added to 1";
    let first = next_try(&mut cluster).unwrap();
    cluster.fails("a", first, FailureClass::Deterministic, error);
    let second = next_try(&mut cluster).unwrap();
    cluster.fails("a", second, FailureClass::Deterministic, error);
    cluster.settle();
    let (reason, message) = cluster.failure();
    assert_eq!(reason, FailureReason::TaskFailed);
    assert!(
        message.contains("twice with the same error") && message.contains(error),
        "{message}"
    );
}

#[test]
fn deterministic_errors_that_differ_are_tried_until_the_budget_is_used_up() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    for (class, error) in [
        (FailureClass::Deterministic, "x"),
        (FailureClass::Application, "x"),
        (FailureClass::Deterministic, "x"),
    ] {
        let task = next_try(&mut cluster).expect(error);
        cluster.fails("a", task, class, error);
    }
    cluster.settle();
    assert!(
        cluster.failure().1.contains("failed 3 times"),
        "{:?}",
        cluster.failure()
    );
}

#[test]
fn a_budget_of_0_counts_as_1() {
    let mut cluster = TestCluster::with(Config::new(0, 0), &[1]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    cluster.fails("a", task, FailureClass::Application, "boom");
    cluster.settle();
    assert!(
        cluster
            .failure()
            .1
            .contains("failed once, and spec.retries.taskFailures allows 1")
    );
}

#[test]
fn the_wait_before_each_next_try_doubles() {
    let mut cluster = TestCluster::with(Config::new(100, 0), &[1]);
    cluster.hello("a", 1);
    for wait in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
        let task = cluster.only("a");
        cluster.fails("a", task, FailureClass::Application, "boom");
        cluster.passes(wait - 500, &["a"]);
        assert_eq!(cluster.held("a"), [], "{wait}");
        cluster.passes(500, &["a"]);
        assert_eq!(cluster.held("a").len(), 1, "{wait}");
    }
}

#[test]
fn other_tasks_run_while_one_waits_for_its_next_try() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    cluster.fails("a", task, FailureClass::Application, "boom");
    assert_eq!(cluster.held("a"), [attempt(0, 1, 1, 1)]);
}

#[test]
fn a_failure_is_acknowledged_when_its_record_is_durable() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    cluster.received("a");
    cluster.fails("a", task, FailureClass::Application, "boom");
    assert_eq!(cluster.received("a"), []);
    cluster.durable();
    assert_eq!(cluster.received("a"), [ToWorker::Ack(vec![task])]);
}

#[test]
fn a_repeated_failure_report_is_charged_once() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    for _ in 0..5 {
        cluster.fails("a", task, FailureClass::Application, "boom");
    }
    cluster.settle();
    assert_eq!(cluster.ledger.len(), 1);
    // The failure is reported once more after a reconnect in which the acknowledgement was lost.
    cluster.disconnects("a");
    cluster.hello_naming("a", 1, 1, vec![task]);
    cluster.fails("a", task, FailureClass::Application, "boom");
    cluster.settle();
    assert_eq!(cluster.ledger.len(), 1);
    assert_ne!(next_try(&mut cluster), Some(task));
}

#[test]
fn fault_4990_fault_8419_preemptions_do_not_touch_the_failure_budget() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    for _ in 0..463 {
        cluster.hello("a", 1);
        assert_eq!(cluster.held("a").len(), 1);
        cluster.pod_ended("a", PodEndCause::Disruption, "preempted");
        cluster.dies_after_close("a");
    }
    assert_eq!(cluster.report().workers.disruptions, 463);
    assert!(cluster.unwritten.is_empty() && cluster.ledger.is_empty());
    cluster.hello("a", 1);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn disruptions_end_the_job_only_if_they_are_limited() {
    let mut cluster = TestCluster::with(Config::new(1, 3), &[1]);
    for round in 0..3 {
        assert_eq!(cluster.state.result(), None, "{round}");
        cluster.hello("a", 1);
        cluster.pod_ended("a", PodEndCause::Disruption, "preempted");
        cluster.dies_after_close("a");
        cluster.settle();
    }
    let (reason, message) = cluster.failure();
    assert_eq!(reason, FailureReason::TaskDisrupted);
    assert!(
        message.starts_with(
            "stage 1/1 map, shard 0: was disrupted 3 times, and spec.retries.taskDisruptions allows 3"
        ),
        "{message}"
    );
}

#[test]
fn a_task_whose_worker_reports_a_disruption_is_retried_after_a_wait_and_not_charged() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    cluster.hello("a", 1);
    for _ in 0..50 {
        let task = next_try(&mut cluster).unwrap();
        let effects = cluster.fails("a", task, FailureClass::Disruption, "storage answered 503");
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Append { .. }))
        );
        assert_eq!(
            cluster.held("a"),
            [],
            "not at once: the storage is given time"
        );
    }
    next_try(&mut cluster).unwrap();
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn fault_4339_fault_3009_a_container_killed_for_memory_is_charged_to_its_tasks_with_the_reason() {
    let mut cluster = TestCluster::new(&[1]);
    for round in 1..=3 {
        cluster.hello_naming("a", round, 1, Vec::new());
        next_try(&mut cluster).unwrap();
        cluster.dies("a");
        cluster.pod_ended(
            "a",
            PodEndCause::OutOfMemory,
            "OOMKilled (memory limit 512Mi)",
        );
    }
    cluster.settle();
    let (_, message) = cluster.failure();
    assert!(
        message.contains("OOMKilled (memory limit 512Mi)"),
        "{message}"
    );
    assert_eq!(cluster.report().workers.disruptions, 0);
}

#[test]
fn fault_4093_a_report_of_a_containers_end_is_charged_correctly_in_every_order() {
    // The report arrives at one of four times: before the stream breaks; after the stream broke;
    // after the `Hello` of the pod's restarted process; or before that `Hello`, if the coordinator
    // has not noticed that the stream broke.
    for order in 0..4 {
        let mut cluster = TestCluster::new(&[1]);
        cluster.hello("a", 1);
        let died = cluster.only("a");
        let report_ends = |cluster: &mut TestCluster| {
            cluster.pod_ended("a", PodEndCause::Exit, "Error (exit code 134)");
        };
        match order {
            0 => {
                report_ends(&mut cluster);
                cluster.dies("a");
            }
            1 => {
                cluster.dies("a");
                report_ends(&mut cluster);
            }
            2 => {
                cluster.dies("a");
                cluster.hello_naming("a", 2, 1, Vec::new());
                report_ends(&mut cluster);
                assert_eq!(
                    cluster.held("a").len(),
                    1,
                    "the new process keeps what it runs"
                );
                assert_eq!(cluster.received("a").len(), 2);
            }
            _ => {
                report_ends(&mut cluster);
                cluster.hello_naming("a", 2, 1, Vec::new());
            }
        }
        cluster.settle();
        let charged: Vec<_> = cluster
            .ledger
            .iter()
            .map(|record| {
                let LogRecord::Failed { task, class, error } = record else {
                    panic!("{record:?}");
                };
                assert_eq!(*class, FailureClass::Application);
                assert!(error.contains("exit code 134"), "{error}");
                *task
            })
            .collect();
        assert_eq!(charged, [died], "order {order}");
        // The operator repeats its report after a reconnect: no task is charged for it.
        cluster.pod_ended("a", PodEndCause::Exit, "Error (exit code 134)");
        cluster.passes(60_000, &["a"]);
        assert!(cluster.unwritten.is_empty(), "order {order}");
    }
}

#[test]
fn an_old_report_about_a_connected_pod_does_not_count_when_its_stream_breaks_later() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.pod_ended("a", PodEndCause::OutOfMemory, "OOMKilled");
    cluster.passes(20_000, &["a"]);
    cluster.disconnects("a");
    assert_eq!(cluster.report().workers.reconnecting, 1);
    assert!(cluster.unwritten.is_empty());
}

#[test]
fn fault_7121_the_end_of_an_idle_container_charges_no_task() {
    let mut cluster = TestCluster::with(Config::new(1, 1), &[1]);
    cluster.hello("b", 1);
    cluster.hello("a", 1);
    cluster.dies("a");
    cluster.pod_ended("a", PodEndCause::Exit, "Error (exit code 137)");
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn errors_are_shortened_to_fit_into_status() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    cluster.fails("a", task, FailureClass::Application, &"é".repeat(1 << 20));
    cluster.settle();
    assert!(cluster.failure().1.chars().count() < 2_200);
}

#[test]
fn the_report_names_the_problem_that_is_nearest_to_ending_the_job() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.fails("a", attempt(0, 1, 1, 1), FailureClass::Application, "mild");
    cluster.passes(1_000, &["a"]);
    let wanted =
        "stage 1/1 map, shard 1: failed 1 of 3 times, will be tried again; last error: mild";
    assert_eq!(cluster.report().message, wanted);
    assert_eq!(cluster.report().stage.failed, 1);
    cluster.work();
    assert_eq!(cluster.report().stage.failed, 0);
}

#[test]
fn fault_8282_a_disruption_that_delays_a_task_is_reported_until_the_task_is_done() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    let full = "spilling to local disk: writing file:///tmp: no space on /tmp";
    cluster.fails("a", attempt(0, 1, 1, 1), FailureClass::Disruption, full);
    cluster.passes(1_000, &["a"]);
    let wanted = format!(
        "stage 1/1 map, shard 1: given back once for a cause outside the task, will be tried again; last cause: {full}"
    );
    assert_eq!(cluster.report().message, wanted);
    assert_eq!(cluster.report().stage.failed, 0, "and costs nothing");
    // The problem that may end the job is reported first.
    cluster.fails("a", attempt(0, 0, 1, 1), FailureClass::Application, "mild");
    assert!(cluster.report().message.contains("last error: mild"));
    cluster.passes(1_000, &["a"]);
    cluster.done("a", attempt(0, 0, 1, 2));
    assert_eq!(cluster.report().message, wanted);
    cluster.done("a", attempt(0, 1, 1, 2));
    assert!(!cluster.report().message.contains("no space"));
    cluster.settle();
    cluster.assert_succeeded();
}

#[test]
fn attempts_that_run_when_the_job_fails_are_cancelled_and_late_results_discarded() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    let (failing, other) = (cluster.only("a"), cluster.only("b"));
    cluster.fails("a", failing, FailureClass::Application, "boom");
    assert_eq!(super::cluster::cancelled(&cluster.received("b")), [other]);
    let is_discard = |effect: &Effect| matches!(effect, Effect::Discard { .. });
    let effects = cluster.done("b", other);
    assert!(
        !effects.iter().any(is_discard),
        "the end is not durable yet"
    );
    // The record of the failure becomes durable before that of the result.
    let mut effects = cluster.durable();
    effects.extend(cluster.durable());
    assert!(effects.iter().any(is_discard));
    cluster.settle();
    assert_eq!(
        cluster.report().phase,
        crate::coordinator::report::Phase::Ended
    );
    assert!(matches!(cluster.ledger.last(), Some(LogRecord::Result(_))));
}

#[test]
fn a_worker_that_fails_through_no_fault_of_its_tasks_pauses_and_they_run_elsewhere() {
    let mut cluster = TestCluster::with(Config::new(3, 0), &[9]);
    cluster.hello("ill", 1);
    cluster.hello("well", 1);
    for rest in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        let task = cluster.only("ill");
        cluster.fails("ill", task, FailureClass::Disruption, "the disk is full");
        cluster.passes(rest - 500, &["ill", "well"]);
        assert!(cluster.held("ill").is_empty(), "it rests for {rest} ms");
        cluster.passes(500, &["ill", "well"]);
    }
    let task = cluster.only("ill");
    // If tasks are short, a worker gets several tasks in advance. This time makes the tasks long.
    cluster.passes(1_000, &["ill", "well"]);
    cluster.done("ill", task);
    let task = cluster.only("ill");
    cluster.fails("ill", task, FailureClass::Disruption, "the disk is full");
    cluster.passes(1_000, &["ill", "well"]);
    cluster.only("ill");
    // Waits of failed tasks are up to 30 s.
    cluster.work();
    cluster.passes(30_000, &["ill", "well"]);
    cluster.work();
    cluster.assert_succeeded();
}

/// How often the attempt was charged.
fn failures_of(cluster: &TestCluster, attempt: TaskAttempt) -> usize {
    let is_it =
        |record: &&LogRecord| matches!(record, LogRecord::Failed { task, .. } if *task == attempt);
    cluster.ledger.iter().filter(is_it).count()
}

#[test]
fn fault_8282_a_task_is_charged_if_its_pod_filled_its_disk_but_not_if_preempted() {
    use PodEndCause::{Disruption, Exit};
    // The report comes before the worker announces that it terminates, while it terminates, or
    // after it is gone. The container may end with 143 before the kubelet reports why, and the pod
    // may be gone before its worker is.
    for (before, while_going, after, charged) in [
        (&[][..], None, Some(Exit), 1),
        (&[Exit], None, Some(Exit), 1),
        (&[Exit, Disruption], None, None, 1),
        (&[Exit, Exit, Disruption], None, Some(Exit), 1),
        (&[], None, Some(Disruption), 0),
        (&[], Some(Exit), Some(Disruption), 1),
        (&[], Some(Disruption), Some(Exit), 1),
        (&[Disruption], None, Some(Exit), 1),
        (&[Disruption], Some(Disruption), Some(Disruption), 0),
    ] {
        let order = format!("{before:?}, {while_going:?}, {after:?}");
        let mut cluster = TestCluster::with(Config::new(3, 0), &[1]);
        let report_ends = |cluster: &mut TestCluster, causes: &[PodEndCause]| {
            for cause in causes {
                cluster.pod_ended("full", *cause, "Evicted: usage exceeds the limit");
            }
        };
        cluster.hello("full", 1);
        let task = cluster.only("full");
        report_ends(&mut cluster, before);
        if cluster.is_connected("full") {
            cluster.drains("full", vec![task]);
        }
        report_ends(&mut cluster, while_going.as_slice());
        if cluster.is_connected("full") {
            cluster.dies("full");
        } else {
            cluster.dies_after_close("full");
        }
        report_ends(&mut cluster, after.as_slice());
        // The end is reported again, as after a new stream of the operator.
        report_ends(&mut cluster, after.as_slice());
        cluster.hello("other", 1);
        cluster.passes(30_000, &["other"]);
        cluster.work();
        cluster.assert_succeeded();
        assert_eq!(failures_of(&cluster, task), charged, "{order}");
    }
}

#[test]
fn fault_8282_a_handed_back_task_is_not_charged_for_the_end_of_the_next_process() {
    let mut cluster = TestCluster::with(Config::new(3, 0), &[2]);
    cluster.hello("a", 1);
    let first = cluster.only("a");
    cluster.drains("a", vec![first]);
    cluster.dies("a");
    cluster.hello_naming("a", 2, 1, vec![]);
    let second = cluster.only("a");
    cluster.dies("a");
    cluster.pod_ended("a", PodEndCause::OutOfMemory, "OOMKilled");
    cluster.settle();
    assert_eq!(failures_of(&cluster, second), 1);
    assert_eq!(failures_of(&cluster, first), 0);
}
