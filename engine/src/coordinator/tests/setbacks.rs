//! Tests of setbacks. They are free for a while and are reported during that time. If they
//! continue, they are charged. Setbacks that affect every worker are always free.

use super::cluster::TestCluster;
use crate::coordinator::config::{
    FEW_WORKERS_FREE_TRIES, LOST_INPUTS_FREE_TRIES, SAME_CAUSE_FREE_TRIES,
};
use crate::coordinator::record::{FailureClass, LogRecord};
use crate::coordinator::{Config, Event, FailureReason, Setback};
use crate::id::TaskAttempt;

const FULL: &str = "writing file:///scratch: no space on /scratch (64.0 KiB in all, 0 bytes free); the task had at least 1.2 MiB to write";

/// The worker that holds the first shard, once one does; `None` if the job has ended.
pub(super) fn holder(
    cluster: &mut TestCluster,
    names: &[&'static str],
) -> Option<(&'static str, TaskAttempt)> {
    for _ in 0..400 {
        cluster.settle();
        let held = names.iter().find_map(|name| {
            let held = cluster.held(name).into_iter();
            let mut first = held.filter(|task| task.task.shard.0 == 0);
            first.next().map(|task| (*name, task))
        });
        if held.is_some() || cluster.state.result().is_some() {
            return held;
        }
        cluster.passes(500, names);
    }
    panic!("no worker gets the first shard");
}

pub(super) fn charged(cluster: &TestCluster) -> usize {
    let is_charge = |record: &&LogRecord| matches!(record, LogRecord::Failed { .. });
    cluster.ledger.iter().filter(is_charge).count()
}

#[test]
fn a_task_that_finds_every_disk_full_ends_the_job_with_the_disk_named() {
    for setback in Setback::ALL {
        let Some(free) = setback.free_tries() else {
            continue;
        };
        if matches!(setback, Setback::InputLost | Setback::InputReplaced) {
            continue;
        }
        let mut cluster = TestCluster::with(Config::new(3, 0), &[1]);
        cluster.hello("a", 1);
        cluster.hello("b", 1);
        let (mut tries, began) = (0, cluster.now);
        while let Some((name, task)) = holder(&mut cluster, &["a", "b"]) {
            tries += 1;
            cluster.is_held_up(name, task, setback, FULL);
        }
        assert_eq!(tries, free + 3);
        let (reason, message) = cluster.failure();
        assert_eq!(reason, FailureReason::TaskFailed);
        let wanted = format!(
            "stage 1/1 map, shard 0: failed 3 times, and spec.retries.taskFailures allows 3; last error: {FULL}; given back 8 times in a row without progress because of {}, so it counts as a failure",
            setback.words()
        );
        assert_eq!(message, wanted);
        assert!(cluster.now - began < 150_000, "{} ms", cluster.now - began);
    }
}

#[test]
fn a_disk_that_is_free_again_in_time_costs_nothing() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    cluster.hello("a", 1);
    for time in 1..=SAME_CAUSE_FREE_TRIES {
        let (name, task) = holder(&mut cluster, &["a"]).unwrap();
        cluster.is_held_up(name, task, Setback::DiskFull, FULL);
        let message = cluster.report().message;
        let times = match time {
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            more => format!("{more} times"),
        };
        let wanted = format!(
            "stage 1/1 map, shard 0: given back {times} for a cause outside the task, will be tried again, and after 5 times in a row at the cost of spec.retries.taskFailures; last cause: {FULL}"
        );
        assert_eq!(message, wanted);
    }
    holder(&mut cluster, &["a"]).unwrap();
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(charged(&cluster), 0);
}

#[test]
fn each_cause_is_counted_separately_and_a_completed_task_resets_the_count() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1, 1]);
    cluster.hello("a", 1);
    for _ in 0..SAME_CAUSE_FREE_TRIES {
        for setback in [Setback::DiskFull, Setback::WorkerUnhealthy] {
            let (name, task) = holder(&mut cluster, &["a"]).unwrap();
            cluster.is_held_up(name, task, setback, FULL);
        }
    }
    let (name, task) = holder(&mut cluster, &["a"]).unwrap();
    cluster.done(name, task);
    let (reader_at, reader) = holder(&mut cluster, &["a"]).unwrap();
    assert_eq!(reader.task.stage.0, 1);
    cluster.finds_input_lost(reader_at, reader, task);
    for _ in 0..SAME_CAUSE_FREE_TRIES {
        let (name, task) = holder(&mut cluster, &["a"]).unwrap();
        assert_eq!(task.task.stage.0, 0);
        cluster.is_held_up(name, task, Setback::DiskFull, FULL);
    }
    holder(&mut cluster, &["a"]).unwrap();
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(charged(&cluster), 0);
}

#[test]
fn an_outage_of_the_store_for_an_hour_ends_nothing_and_is_reported() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    let began = cluster.now;
    while cluster.now - began < 3_600_000 {
        for name in ["a", "b"] {
            for task in cluster.held(name) {
                cluster.is_held_up(name, task, Setback::StoreAway, "no answer in time");
            }
        }
        let message = cluster.report().message;
        assert!(
            message.ends_with("last cause: no answer in time"),
            "{message}"
        );
        cluster.passes(10_000, &["a", "b"]);
    }
    holder(&mut cluster, &["a", "b"]).unwrap();
    cluster.work();
    cluster.passes(30_000, &["a", "b"]);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(charged(&cluster), 0);
}

#[test]
fn one_unhealthy_idle_worker_does_not_end_the_job_while_the_others_are_busy() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[4]);
    let names = ["sick", "x", "y", "z"];
    for name in names {
        cluster.hello(name, 1);
    }
    assert_eq!(cluster.only("sick").task.shard.0, 0);
    for _ in 0..40 {
        let (name, task) = holder(&mut cluster, &names).unwrap();
        assert_eq!(name, "sick", "the others are busy");
        cluster.is_held_up(name, task, Setback::DiskFull, FULL);
    }
    let other = cluster.only("y");
    cluster.done("y", other);
    let (name, task) = holder(&mut cluster, &names).unwrap();
    assert_eq!(name, "y", "and it is tried at a worker with room");
    cluster.done(name, task);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(charged(&cluster), 0);
}

#[test]
fn an_unhealthy_worker_whose_process_is_always_replaced_is_still_one_worker() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[4]);
    let names = ["sick", "x", "y", "z"];
    for name in names {
        cluster.hello(name, 1);
    }
    for process in 2..40 {
        let (name, task) = holder(&mut cluster, &names).unwrap();
        assert_eq!(name, "sick", "the others are busy");
        cluster.is_held_up(name, task, Setback::WorkerUnhealthy, "no process");
        cluster.dies("sick");
        cluster.hello_naming("sick", process, 1, Vec::new());
        assert_eq!(charged(&cluster), 0, "process {process}");
    }
}

#[test]
fn a_single_unhealthy_worker_is_charged_within_a_bound() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[4]);
    let names = ["sick", "x", "y", "z"];
    for name in names {
        cluster.hello(name, 1);
    }
    let mut tries = 0;
    while let Some((name, task)) = holder(&mut cluster, &names) {
        tries += 1;
        cluster.is_held_up(name, task, Setback::DiskFull, FULL);
    }
    assert_eq!(tries, FEW_WORKERS_FREE_TRIES + 1);
    assert!(cluster.failure().1.contains("because of a full disk"));
}

#[test]
fn a_task_with_a_setback_is_tried_at_another_worker_next() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    let names = ["w0", "w1", "w2"];
    for name in names {
        cluster.hello(name, 1);
    }
    for expected in names {
        let (name, task) = holder(&mut cluster, &names).unwrap();
        assert_eq!(name, expected);
        cluster.is_held_up(name, task, Setback::WorkerUnhealthy, "no process");
        // This is long enough for all pauses.
        cluster.passes(4_000, &names);
    }
}

#[test]
fn a_try_that_gets_twice_as_far_as_any_before_is_progress() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    cluster.hello("a", 1);
    let mut read = 1_000;
    for try_number in 1..=3 * SAME_CAUSE_FREE_TRIES {
        let (name, task) = holder(&mut cluster, &["a"]).unwrap();
        if try_number % SAME_CAUSE_FREE_TRIES == 0 {
            read = read * 2 + 1;
        }
        let session = cluster.session(name);
        let tasks = vec![(task, read)];
        cluster.event(Event::Progress { session, tasks });
        cluster.is_held_up(name, task, Setback::ObjectUnavailable, "a reset");
        assert_eq!(charged(&cluster), 0, "{try_number}");
    }
}

#[test]
fn a_machine_that_finds_every_input_lost_is_charged_in_the_end() {
    let inputs = LOST_INPUTS_FREE_TRIES + 10;
    let mut cluster = TestCluster::with(Config::new(1, 0), &[inputs, 1]);
    cluster.hello("a", 1);
    let mut found = 0;
    while cluster.state.result().is_none() {
        cluster.settle();
        let Some(task) = cluster.held("a").into_iter().next() else {
            cluster.passes(500, &["a"]);
            continue;
        };
        if task.task.stage.0 == 0 {
            cluster.done("a", task);
            continue;
        }
        // A different input is lost each time, so that no input is lost too often.
        let winners = cluster.commits();
        let (lost, attempts) = winners.iter().nth(found).unwrap();
        let lost = TaskAttempt {
            task: *lost,
            attempt: *attempts.last().unwrap(),
        };
        found += 1;
        cluster.finds_input_lost("a", task, lost);
    }
    assert_eq!(found, LOST_INPUTS_FREE_TRIES as usize + 1);
    let (_, message) = cluster.failure();
    assert!(
        message.starts_with("stage 2/2 reduce, shard 0: "),
        "{message}"
    );
    assert!(
        message.contains("because of inputs that were found lost"),
        "{message}"
    );
}

#[test]
fn a_worker_that_names_no_cause_of_a_disruption_counts_as_unhealthy() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    cluster.hello("a", 1);
    let mut tries = 0;
    while let Some((name, task)) = holder(&mut cluster, &["a"]) {
        tries += 1;
        let session = cluster.session(name);
        cluster.forgets(name, task);
        cluster.event(Event::Failed {
            session,
            task,
            class: FailureClass::Disruption,
            setback: None,
            error: "who knows".to_owned(),
            lost_input: None,
            log: String::new(),
        });
    }
    assert_eq!(tries, SAME_CAUSE_FREE_TRIES + 1);
}

#[test]
fn a_task_is_not_charged_if_a_task_beside_it_fills_the_disk() {
    const ALL: [&str; 3] = ["a", "b", "c"];
    let mut cluster = TestCluster::with(Config::new(3, 0), &[6]);
    for name in ALL {
        cluster.hello(name, 2);
    }
    cluster.settle();
    let began = cluster.now;
    // At each worker one task fills most of the disk for ten minutes, and a second task finds no
    // room.
    let first = |name: &'static str| cluster.held(name).first().copied();
    let keeps: Vec<TaskAttempt> = ALL.into_iter().filter_map(first).collect();
    while cluster.now - began < 600_000 {
        for name in ALL {
            for task in cluster.held(name) {
                if !keeps.contains(&task) {
                    cluster.is_held_up(name, task, Setback::DiskFull, FULL);
                    let message = cluster.report().message;
                    assert!(message.contains("given back "), "{message}");
                    assert!(!message.contains("given back 0"), "{message}");
                }
            }
        }
        cluster.passes(1_000, &ALL);
        cluster.settle();
        assert_eq!(charged(&cluster), 0);
    }
    cluster.work();
    cluster.passes(31_000, &ALL);
    cluster.work();
    cluster.assert_succeeded();
}

/// Runs a job on one worker with two slots, on which the first shard finds no room on the disk. The
/// other shards run for 9 s each, or find no room either. Returns how often the first shard was
/// tried, and after how many milliseconds the job failed.
fn first_shard_beside(shards: u32, setback: Setback, is_other_well: bool) -> (u32, u64) {
    let mut cluster = TestCluster::with(Config::new(3, 0), &[shards]);
    cluster.hello("a", 2);
    let (mut tries, began) = (0, cluster.now);
    loop {
        cluster.settle();
        if cluster.state.result().is_some() {
            break;
        }
        let held = cluster.held("a");
        for task in held.iter().filter(|task| task.task.shard.0 == 0) {
            tries += 1;
            cluster.is_held_up("a", *task, setback, FULL);
        }
        cluster.settle();
        if cluster.state.result().is_some() {
            break;
        }
        let others = held.iter().filter(|task| task.task.shard.0 != 0);
        for other in others {
            if is_other_well {
                cluster.passes(9_000, &["a"]);
                cluster.done("a", *other);
            } else {
                cluster.is_held_up("a", *other, setback, FULL);
            }
        }
        cluster.passes(500, &["a"]);
    }
    assert!(cluster.failure().1.starts_with("stage 1/1 map, shard "));
    (tries, cluster.now - began)
}

#[test]
fn short_tasks_beside_a_task_do_not_prevent_its_charge_forever() {
    for setback in [Setback::DiskFull, Setback::WorkerUnhealthy] {
        let (tries, took_ms) = first_shard_beside(600, setback, true);
        assert_eq!(tries, FEW_WORKERS_FREE_TRIES + SAME_CAUSE_FREE_TRIES + 3);
        assert!(took_ms < 2 * 3_600_000, "{took_ms}");
    }
}

#[test]
fn two_tasks_that_never_fit_prevent_each_others_charge_at_most_once() {
    let (tries, _) = first_shard_beside(2, Setback::DiskFull, false);
    assert!(
        (SAME_CAUSE_FREE_TRIES..=SAME_CAUSE_FREE_TRIES + 4).contains(&tries),
        "{tries}"
    );
}

#[test]
fn an_object_that_does_not_answer_is_not_the_fault_of_a_task_beside_it() {
    let (tries, _) = first_shard_beside(100, Setback::ObjectUnavailable, true);
    assert_eq!(tries, SAME_CAUSE_FREE_TRIES + 3);
}
