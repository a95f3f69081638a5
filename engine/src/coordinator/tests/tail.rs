//! Tests the end of a stage: stragglers get a second attempt, idle workers can be released, and no
//! task is left without a worker.

use super::cluster::{TestCluster, acked, attempt};
use crate::coordinator::config::SpeculationPolicy;
use crate::coordinator::record::FailureClass;
use crate::coordinator::{Config, Effect, Event, PodEndCause, ToWorker};

const ALL: [&str; 4] = ["w0", "w1", "w2", "w3"];

/// Runs a stage of eight tasks on four workers. `left` of the tasks have been running on "w0", "w1"
/// … since the beginning. The others took a second each.
fn tail(left: u32) -> TestCluster {
    tail_with(Config::new(3, 0), left)
}

fn tail_with(config: Config, left: u32) -> TestCluster {
    let mut cluster = TestCluster::with(config, &[8]);
    for name in ALL {
        cluster.hello(name, 1);
    }
    let busy = &["w0", "w1", "w2"][..left as usize];
    let mut finished = 0;
    while finished + left < 8 {
        cluster.now += 1_000;
        for name in ALL {
            if !busy.contains(&name)
                && let Some(task) = cluster.held(name).first().copied()
            {
                cluster.done(name, task);
                cluster.settle();
                finished += 1;
            }
        }
    }
    for name in ALL {
        cluster.received(name);
    }
    cluster
}

#[test]
fn a_straggler_gets_one_second_attempt_at_another_worker_and_the_first_commit_wins() {
    for winner in ["w0", "w1"] {
        let mut cluster = tail(1);
        let straggler = cluster.only("w0");
        cluster.passes(10_000, &ALL);
        let second = cluster.only("w1");
        assert_eq!(second, attempt(0, straggler.task.shard.0, 1, 2));
        assert_eq!(
            cluster.report().speculations,
            1,
            "a straggler gets only one second attempt, however long it takes"
        );
        assert!(cluster.held("w2").is_empty() && cluster.held("w3").is_empty());

        let (won, lost, loser) = if winner == "w0" {
            (straggler, second, "w1")
        } else {
            (second, straggler, "w0")
        };
        cluster.done(winner, won);
        cluster.settle();
        assert!(
            cluster
                .received(loser)
                .contains(&ToWorker::Cancel(vec![lost]))
        );
        assert!(cluster.held(loser).is_empty());
        assert!(cluster.report().result.is_some());
    }
}

#[test]
fn a_superseded_result_is_acknowledged_and_deleted_once_the_winner_is_durable() {
    let mut cluster = tail(1);
    let straggler = cluster.only("w0");
    cluster.passes(10_000, &ALL);
    let second = cluster.only("w1");
    let is_discard =
        |effect: &&Effect| matches!(effect, Effect::Discard { task, .. } if *task == straggler);
    cluster.done("w1", second);
    cluster.received("w0");
    // Until then this file may be the only output of the task that the next coordinator finds.
    let effects = cluster.done("w0", straggler);
    assert_eq!(effects.iter().filter(is_discard).count(), 0);
    assert_eq!(acked(&cluster.received("w0")), []);
    let effects = cluster.durable();
    assert_eq!(effects.iter().filter(is_discard).count(), 1);
    assert_eq!(acked(&cluster.received("w0")), [straggler]);
    cluster.settle();
    let committed: Vec<_> = cluster
        .ledger
        .iter()
        .filter(|record| record_is_of(record, straggler))
        .collect();
    assert!(committed.is_empty(), "{committed:?}");
}

fn record_is_of(
    record: &crate::coordinator::record::LogRecord,
    task: crate::id::TaskAttempt,
) -> bool {
    matches!(record, crate::coordinator::record::LogRecord::Done { task: done, .. } if *done == task)
}

#[test]
fn no_task_runs_twice_before_the_usual_time_is_known_and_has_passed() {
    // Two tasks of eight are left, but they have not run for long enough.
    let mut cluster = tail(2);
    cluster.passes(1_000, &ALL);
    assert_eq!(
        cluster.report().speculations,
        0,
        "no second attempt starts within five seconds"
    );
    // Less than three quarters are done.
    let mut cluster = tail(3);
    cluster.passes(60_000, &ALL);
    assert_eq!(cluster.report().speculations, 0, "5 of 8");
    // For long tasks, the limit is three times the median.
    let policy = SpeculationPolicy {
        elapsed_min_ms: 0,
        times_median: 20,
        ..SpeculationPolicy::default()
    };
    let mut config = Config::new(3, 0);
    config.speculation = Some(policy);
    let mut cluster = tail_with(config, 1);
    cluster.passes(10_000, &ALL);
    assert_eq!(cluster.report().speculations, 0);
    cluster.passes(10_000, &ALL);
    assert_eq!(cluster.report().speculations, 1);
}

#[test]
fn speculation_can_be_switched_off_and_leaves_tasks_that_failed_alone() {
    let mut config = Config::new(3, 0);
    config.speculation = None;
    let mut cluster = tail_with(config, 1);
    cluster.passes(60_000, &ALL);
    assert_eq!(cluster.report().speculations, 0);

    let mut cluster = tail(1);
    let task = cluster.only("w0");
    cluster.fails("w0", task, FailureClass::Application, "out of memory");
    cluster.settle();
    cluster.passes(60_000, &ALL);
    assert_eq!(cluster.report().speculations, 0);
}

#[test]
fn losing_one_of_two_attempts_leaves_the_other_to_run_and_charges_nothing() {
    for lost in ["w0", "w1"] {
        let mut cluster = tail(1);
        cluster.passes(10_000, &ALL);
        let (kept, left) = if lost == "w0" {
            ("w1", cluster.only("w1"))
        } else {
            ("w0", cluster.only("w0"))
        };
        cluster.pod_ended(lost, PodEndCause::Disruption, "preempted");
        assert_eq!(cluster.only(kept), left);
        cluster.done(kept, left);
        cluster.settle();
        assert!(cluster.report().result.is_some());
    }
}

#[test]
fn fault_4200_two_workers_stay_for_every_open_task_and_no_busy_worker_is_released() {
    let mut cluster = TestCluster::new(&[8]);
    assert_eq!(
        cluster.report().useful_workers,
        Some(16),
        "no worker is connected yet"
    );
    for name in ALL {
        cluster.hello(name, 1);
    }
    assert_eq!(
        cluster.report().useful_workers,
        Some(16),
        "four workers are connected, and twelve more would be useful"
    );
    let cluster = tail(1);
    assert_eq!(cluster.report().useful_workers, Some(2));

    // The last task runs at the highest ordinal, so all workers below it stay.
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("w3", 1);
    for name in ["w0", "w1", "w2"] {
        cluster.hello(name, 1);
    }
    assert_eq!(cluster.report().useful_workers, Some(4));
    // The worker with the highest ordinal is lost. Its task goes to the worker with the lowest
    // ordinal.
    cluster.dies("w3");
    cluster.pod_ended("w3", PodEndCause::Disruption, "preempted");
    assert_eq!(cluster.held("w0").len(), 1);
    assert_eq!(cluster.report().useful_workers, Some(2));
    // The worker w1 is lost too. Now w0 and w2 are the workers with the lowest ordinals, so w2
    // stays.
    cluster.dies("w1");
    cluster.pod_ended("w1", PodEndCause::Disruption, "preempted");
    assert_eq!(
        cluster.report().useful_workers,
        Some(3),
        "w0 and w2 are there"
    );
    cluster.dies("w2");
    cluster.pod_ended("w2", PodEndCause::Disruption, "preempted");
    assert_eq!(cluster.report().useful_workers, Some(2));
}

#[test]
fn workers_without_a_number_are_never_released() {
    let mut cluster = TestCluster::new(&[1]);
    for name in ["a", "b", "w0"] {
        cluster.hello(name, 1);
    }
    assert_eq!(cluster.report().useful_workers, None);
}

#[test]
fn of_two_idle_workers_the_lower_ordinal_is_given_the_task() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("w2", 1);
    let task = cluster.only("w2");
    cluster.hello("w1", 1);
    cluster.hello("w0", 1);
    cluster.drains("w2", vec![task]);
    assert_eq!(cluster.held("w0").len(), 1);
}

#[test]
fn fault_3014_a_released_worker_that_exits_is_not_a_disruption() {
    let mut cluster = tail(1);
    for (name, disruptions) in [("w3", 0), ("w2", 0), ("w1", 1)] {
        cluster.drains(name, Vec::new());
        cluster.dies(name);
        assert_eq!(cluster.report().workers.disruptions, disruptions, "{name}");
    }
}

#[test]
fn fault_3014_workers_that_exit_when_all_tasks_are_done_are_not_disruptions() {
    let mut cluster = tail(1);
    cluster.work();
    cluster.assert_succeeded();
    for name in ["w3", "w0"] {
        cluster.drains(name, Vec::new());
        cluster.dies(name);
    }
    assert_eq!(cluster.report().workers.disruptions, 0);
}

#[test]
fn workers_that_the_operator_releases_are_not_disruptions() {
    let mut cluster = TestCluster::new(&[8]);
    for name in ALL {
        cluster.hello(name, 1);
    }
    cluster.event(Event::WorkersKept { workers: 2 });
    // One worker hands its task back, and another one vanishes without a message.
    let task = cluster.only("w3");
    cluster.drains("w3", vec![task]);
    cluster.dies("w3");
    cluster.pod_ended("w2", PodEndCause::Disruption, "deleted");
    assert_eq!(cluster.report().workers.disruptions, 0);
    cluster.pod_ended("w1", PodEndCause::Disruption, "node gone");
    assert_eq!(
        cluster.report().workers.disruptions,
        1,
        "only w1 was kept, so only its loss is a disruption"
    );
}

#[test]
fn a_worker_that_terminates_while_the_number_rises_again_was_released() {
    let mut cluster = TestCluster::new(&[8]);
    for name in ALL {
        cluster.hello(name, 1);
    }
    cluster.event(Event::WorkersKept { workers: 2 });
    let task = cluster.only("w3");
    cluster.drains("w3", vec![task]);
    cluster.event(Event::WorkersKept { workers: 4 });
    cluster.dies("w3");
    assert_eq!(cluster.report().workers.disruptions, 0);
    cluster.pod_ended("w2", PodEndCause::Disruption, "node gone");
    assert_eq!(cluster.report().workers.disruptions, 1, "it stayed");
    // A worker that connects after the operator has sent the number is released as well, if its
    // ordinal is not kept.
    cluster.event(Event::WorkersKept { workers: 0 });
    cluster.hello("w3", 1);
    cluster.pod_ended("w3", PodEndCause::Disruption, "deleted");
    assert_eq!(cluster.report().workers.disruptions, 1);
}
