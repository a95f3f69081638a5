//! What the coordinator tells about each attempt that ended. `invariants::check_ends` checks after
//! every step of every test that each end is told once.

use super::cluster::{TestCluster, attempt};
use crate::coordinator::attempts::MAX_ENDED_ERROR_BYTES;
use crate::coordinator::record::FailureClass;
use crate::coordinator::{Config, EndedAttempt, Ending, PodEndCause, Setback};
use crate::id::{TaskAttempt, Timestamp};

/// The ends that were told since this was last called.
fn told(cluster: &mut TestCluster) -> Vec<(TaskAttempt, Ending, String)> {
    let ended = std::mem::take(&mut cluster.ended).into_iter();
    ended.map(|one| (one.task, one.ending, one.error)).collect()
}

#[test]
fn a_winner_has_its_worker_and_times_and_is_told_only_when_its_record_is_durable() {
    let mut cluster = TestCluster::new(&[1, 1]);
    let began = cluster.now;
    cluster.hello("w3", 1);
    let task = cluster.only("w3");
    cluster.passes(1_500, &["w3"]);
    cluster.done("w3", task);
    assert_eq!(cluster.ended, []);
    let reported = cluster.now;
    cluster.passes(1_000, &["w3"]);
    cluster.durable();
    let expected = EndedAttempt {
        task,
        pod_uid: "pod-w3".to_owned(),
        ordinal: Some(3),
        started: Some(Timestamp(began)),
        ended: Timestamp(reported),
        ending: Ending::Committed,
        records: 20,
        bytes: Some((200, 100)),
        error: String::new(),
    };
    assert_eq!(cluster.ended, [expected]);
}

#[test]
fn failures_have_their_class_and_the_beginning_of_their_error() {
    let long = "é".repeat(MAX_ENDED_ERROR_BYTES);
    for (class, ending) in [
        (FailureClass::Deterministic, Ending::FailedByData),
        (FailureClass::Application, Ending::FailedByProcess),
        (FailureClass::TimedOut, Ending::TimedOut),
        (FailureClass::Disruption, Ending::Disrupted),
    ] {
        let mut cluster = TestCluster::new(&[1]);
        cluster.hello("a", 1);
        let task = cluster.only("a");
        cluster.fails("a", task, class, &long);
        let kept = long[..MAX_ENDED_ERROR_BYTES].to_owned();
        assert_eq!(told(&mut cluster), [(task, ending, kept)]);
    }
}

#[test]
fn a_setback_that_is_not_free_any_more_ends_its_attempt_as_a_failure() {
    let mut cluster = TestCluster::with(Config::new(1_000, 0), &[1]);
    cluster.hello("a", 1);
    let mut endings = Vec::new();
    while endings.last() != Some(&Ending::FailedByProcess) {
        if cluster.held("a").is_empty() {
            cluster.passes(1_000, &["a"]);
            continue;
        }
        let task = cluster.only("a");
        cluster.is_held_up("a", task, Setback::DiskFull, "no room");
        let [(ended, ending, error)] = &told(&mut cluster)[..] else {
            panic!("one attempt ends");
        };
        assert!(*ended == task && error.contains("no room"), "{error}");
        endings.push(*ending);
        assert!(endings.len() < 1_000);
    }
    let free = endings.len() - 1;
    assert!(free > 1 && endings[..free].iter().all(|one| *one == Ending::Disrupted));
}

#[test]
fn attempts_of_workers_that_leave_say_how_these_left() {
    let silent = "the worker was silent for too long".to_owned();
    let mut cluster = TestCluster::new(&[4]);
    cluster.hello("a", 1);
    let first = cluster.only("a");
    cluster.drains("a", vec![first]);
    assert_eq!(
        told(&mut cluster),
        [(first, Ending::HandedBack, String::new())]
    );
    cluster.dies("a");
    assert_eq!(told(&mut cluster), []);
    cluster.hello("b", 1);
    let second = cluster.only("b");
    cluster.passes(60_000, &[]);
    assert_eq!(told(&mut cluster), [(second, Ending::WorkerLost, silent)]);
    cluster.hello("c", 1);
    let third = cluster.only("c");
    cluster.dies("c");
    cluster.pod_ended("c", PodEndCause::OutOfMemory, "OOMKilled");
    let reason = "OOMKilled".to_owned();
    assert_eq!(
        told(&mut cluster),
        [(third, Ending::FailedByProcess, reason)]
    );
}

#[test]
fn an_attempt_that_comes_back_with_its_worker_ends_a_second_time_without_a_start() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    cluster.passes(60_000, &[]);
    assert_eq!(told(&mut cluster)[0].1, Ending::WorkerLost);
    cluster.hello_naming("a", 1, 1, vec![task]);
    cluster.done("a", task);
    cluster.durable();
    let [back] = &cluster.ended[..] else {
        panic!("{:?}", cluster.ended);
    };
    assert_eq!((back.started, back.ending), (None, Ending::Committed));
}

#[test]
fn attempts_that_a_successor_adopts_have_no_start() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    let task = cluster.only("a");
    cluster.restart();
    assert_eq!(cluster.ended, []);
    cluster.hello("a", 1);
    cluster.done("a", task);
    cluster.durable();
    let [adopted] = &cluster.ended[..] else {
        panic!("{:?}", cluster.ended);
    };
    assert_eq!((adopted.task, adopted.started), (task, None));
}

#[test]
fn attempts_end_when_their_worker_does_not_know_them_and_when_the_job_ends() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
    cluster.hello("a", 2);
    let held = cluster.held("a");
    cluster.hello_naming("a", 1, 2, vec![held[0]]);
    assert_eq!(told(&mut cluster)[0].1, Ending::NotReceived);
    cluster.fails("a", held[0], FailureClass::Application, "it crashed");
    let endings: Vec<Ending> = told(&mut cluster).iter().map(|one| one.1).collect();
    assert_eq!(endings, [Ending::FailedByProcess, Ending::Cancelled]);
}

#[test]
fn a_reader_of_a_lost_output_says_so() {
    let mut cluster = TestCluster::new(&[1, 1]);
    cluster.hello("a", 1);
    let mapper = cluster.only("a");
    cluster.done("a", mapper);
    cluster.settle();
    cluster.ended.clear();
    let reader = cluster.only("a");
    assert_eq!(reader.task, attempt(1, 0, 1, 1).task);
    cluster.finds_input_lost("a", reader, mapper);
    let error = "checksum differs".to_owned();
    assert_eq!(told(&mut cluster), [(reader, Ending::InputLost, error)]);
}
