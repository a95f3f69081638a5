//! What is no task's own fault and holds one task up: free for a while, told meanwhile, charged when it goes on. What keeps
//! everybody from work is free for ever.

use super::cluster::TestCluster;
use crate::coordinator::config::{
    FEW_WORKERS_FREE_TRIES, LOST_INPUTS_FREE_TRIES, LOST_WORKERS_FREE, SAME_CAUSE_FREE_TRIES,
};
use crate::coordinator::record::{FailureClass, LogRecord};
use crate::coordinator::{Config, Event, PodEndCause, Setback};
use crate::id::TaskAttempt;

const FULL: &str = "writing file:///scratch: no space on /scratch (64.0 KiB in all, 0 bytes free) while the task wrote 1.2 MiB";

/// The worker that holds the first shard, once one does; `None` when the job has ended.
fn holder(
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
    panic!("nobody gets the first shard");
}

fn charged(cluster: &TestCluster) -> usize {
    let is_charge = |record: &&LogRecord| matches!(record, LogRecord::Failed { .. });
    cluster.ledger.iter().filter(is_charge).count()
}

#[test]
fn a_task_that_finds_the_disk_full_wherever_it_runs_ends_the_job_with_the_disk_named() {
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
        assert_eq!(reason, "TaskFailed");
        let wanted = format!(
            "stage 1/1 map, shard 0: failed 3 times, and retries.taskFailures allows 3; last error: {FULL}; given back 8 times in a row without getting on, held up by {}, so that it counts as a failure",
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
        let told = cluster.report().message;
        let times = match time {
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            more => format!("{more} times"),
        };
        let wanted = format!(
            "stage 1/1 map, shard 0: given back {times} for a cause that is not its own, will be tried again, and after 5 times in a row at the cost of retries.taskFailures; last cause: {FULL}"
        );
        assert_eq!(told, wanted);
    }
    holder(&mut cluster, &["a"]).unwrap();
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(charged(&cluster), 0);
}

#[test]
fn causes_are_counted_each_for_itself_and_a_task_that_is_done_begins_anew() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1, 1]);
    cluster.hello("a", 1);
    for _ in 0..SAME_CAUSE_FREE_TRIES {
        for setback in [Setback::DiskFull, Setback::WorkerUnwell] {
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
fn a_store_that_is_away_for_an_hour_ends_nothing_and_is_told() {
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
        let told = cluster.report().message;
        assert!(told.ends_with("last cause: no answer in time"), "{told}");
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
fn one_sick_worker_that_is_idle_ends_no_job_while_the_others_are_busy() {
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
    assert_eq!(name, "y", "and it is tried where there is room");
    cluster.done(name, task);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(charged(&cluster), 0);
}

#[test]
fn one_sick_worker_that_nobody_relieves_is_charged_within_a_bound() {
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
    assert!(cluster.failure().1.contains("held up by a full disk"));
}

#[test]
fn a_task_that_was_held_up_is_tried_at_another_worker_next() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    let names = ["w0", "w1", "w2"];
    for name in names {
        cluster.hello(name, 1);
    }
    for expected in names {
        let (name, task) = holder(&mut cluster, &names).unwrap();
        assert_eq!(name, expected);
        cluster.is_held_up(name, task, Setback::WorkerUnwell, "no process");
        // Long enough for all rests.
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
fn a_machine_that_finds_every_input_lost_is_not_believed_for_ever() {
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
        // A different one each time, so that none of them is lost too often.
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
        message.contains("held up by inputs that were found lost"),
        "{message}"
    );
}

/// A fleet in which whoever runs the first shard is gone five seconds later without a word. Gives the number of lost workers.
fn a_task_that_ends_its_workers(told: Option<PodEndCause>) -> (u32, String) {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let mut cluster = TestCluster::with(Config::new(1, 0), &[40]);
    for name in NAMES {
        cluster.hello(name, 1);
    }
    let mut lost = 0;
    while let Some((name, _)) = holder(&mut cluster, &NAMES) {
        let others: Vec<&'static str> = NAMES.into_iter().filter(|other| *other != name).collect();
        cluster.passes(5_000, &NAMES);
        lost += 1;
        if let Some(cause) = told {
            cluster.pod_ended(name, cause, "NodeLost");
            cluster.dies_after_close(name);
        } else {
            cluster.dies(name);
            cluster.passes(31_000, &others);
        }
        // Meanwhile the others get on with theirs.
        for other in others {
            for task in cluster.held(other) {
                if task.task.shard.0 != 0 {
                    cluster.done(other, task);
                }
            }
        }
        cluster.hello(name, 1);
    }
    (lost, cluster.failure().1)
}

#[test]
fn a_task_that_ends_every_worker_it_comes_to_is_taken_for_the_cause() {
    for told in [None, Some(PodEndCause::Disruption)] {
        let (lost, message) = a_task_that_ends_its_workers(told);
        assert!(
            (LOST_WORKERS_FREE + 1..=2 * LOST_WORKERS_FREE).contains(&lost),
            "{told:?}: {lost}"
        );
        assert!(
            message.starts_with("stage 1/1 map, shard 0: failed 1 times")
                && message.contains("its worker was lost "),
            "{message}"
        );
    }
}

#[test]
fn preemption_that_meets_everybody_convicts_no_task_however_long_it_runs() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    // One after the other, so that the task meets each of them, or whichever, as chance has it.
    for is_in_turn in [true, false] {
        let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
        for name in NAMES {
            cluster.hello(name, 1);
        }
        let mut chance = 1_u64;
        for round in 0..200 {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let drawn = usize::try_from(chance >> 33).unwrap();
            let name = NAMES[if is_in_turn { round } else { drawn } % NAMES.len()];
            cluster.passes(if is_in_turn { 610_000 } else { 60_000 }, &NAMES);
            cluster.pod_ended(name, PodEndCause::Disruption, "preempted");
            cluster.dies_after_close(name);
            cluster.hello(name, 1);
        }
        cluster.work();
        cluster.assert_succeeded();
        assert_eq!(charged(&cluster), 0);
    }
}

#[test]
fn the_workers_that_were_lost_under_a_task_are_told_until_it_is_done() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    for _ in 0..3 {
        cluster.hello("a", 1);
        cluster.pod_ended("a", PodEndCause::Disruption, "preempted");
        cluster.dies_after_close("a");
    }
    cluster.hello("a", 1);
    let wanted =
        "stage 1/1 map, shard 0: its worker was lost 3 times in a row, will be tried again";
    assert_eq!(cluster.report().message, wanted);
    cluster.work();
    assert_eq!(cluster.report().message, "");
}

#[test]
fn a_worker_that_names_no_cause_of_a_disruption_counts_as_unwell() {
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
        });
    }
    assert_eq!(tries, SAME_CAUSE_FREE_TRIES + 1);
}
