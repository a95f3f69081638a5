//! Tests which workers count as lost: after silence, after stalls of the coordinator itself, and
//! when workers reconnect. Also tests how many disruptions are counted.

use super::cluster::{TestCluster, attempt};
use crate::coordinator::{PodEndCause, ToWorker};

#[test]
fn a_silent_worker_is_lost_after_the_timeout_and_not_before() {
    let mut cluster = TestCluster::new(&[1]);
    let session = cluster.hello("a", 1);
    cluster.hello("b", 1);
    cluster.passes(29_500, &["b"]);
    assert_eq!(cluster.held("b"), []);
    cluster.passes(500, &["b"]);
    assert_eq!(
        cluster.held("b"),
        [attempt(0, 0, 1, 2)],
        "the task was queued again and runs on b"
    );
    assert_eq!(
        cluster.closed,
        [session],
        "the session is closed, so a worker that is alive sends Hello again"
    );
    assert_eq!(cluster.report().workers.disruptions, 1);
}

#[test]
fn any_message_is_a_sign_of_life() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.passes(29_500, &[]);
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.passes(29_500, &[]);
    assert_eq!(cluster.report().workers.busy, 1);
    cluster.passes(500, &[]);
    assert_eq!(cluster.report().workers.busy, 0);
}

#[test]
fn fault_3367_a_broken_stream_leaves_a_worker_its_tasks_until_the_silence_timeout() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    cluster.disconnects("a");
    cluster.passes(29_500, &["b"]);
    let workers = cluster.report().workers;
    assert_eq!(
        (
            workers.idle,
            workers.busy,
            workers.reconnecting,
            workers.disruptions
        ),
        (1, 0, 1, 0)
    );
    cluster.hello("a", 1);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    cluster.disconnects("a");
    cluster.passes(30_000, &["b"]);
    assert_eq!(cluster.held("b"), [attempt(0, 0, 1, 2)]);
}

#[test]
fn a_worker_lost_for_silence_returns_with_its_attempt_if_nobody_else_runs_it() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.passes(30_000, &[]);
    assert_eq!(cluster.report().workers.busy, 0);
    cluster.hello_naming("a", 1, 1, vec![attempt(0, 0, 1, 1)]);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn promise_e15_a_paused_coordinator_expires_no_worker_until_it_has_watched_a_period() {
    for stall in [30_000, 90_000, 300_000] {
        let mut cluster = TestCluster::new(&[2]);
        cluster.hello("a", 1);
        cluster.hello("b", 1);
        cluster.passes(10_000, &["a", "b"]);
        cluster.stalls(stall);
        assert_eq!(cluster.report().workers.disruptions, 0);
        cluster.passes(29_500, &["a"]);
        assert_eq!(cluster.report().workers.disruptions, 0);
        cluster.passes(500, &["a"]);
        assert_eq!(
            cluster.report().workers.disruptions,
            1,
            "b is silent for longer than the coordinator was paused"
        );
        assert_eq!(cluster.report().workers.busy, 1);
    }
}

#[test]
fn a_timer_begins_at_the_workers_own_registration() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.passes(300_000, &[]);
    cluster.hello("a", 1);
    cluster.passes(29_500, &[]);
    assert_eq!(cluster.report().workers.busy, 1);
}

#[test]
fn fault_5050_with_many_workers_the_interval_and_the_silence_grow() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.state.config.heartbeat.workers_per_second = 1;
    let names = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
    ];
    for name in names {
        cluster.hello(name, 1);
    }
    assert_eq!(
        cluster.received("p")[0],
        ToWorker::Welcome {
            heartbeat_interval_ms: 16_000
        }
    );
    cluster.passes(47_500, &[]);
    assert_eq!(
        cluster.report().workers.disruptions,
        15,
        "the workers with an interval of 15 s or less are lost"
    );
    cluster.passes(500, &[]);
    assert_eq!(cluster.report().workers.disruptions, 16);
}

#[test]
fn fault_3367_a_disrupted_pod_is_lost_at_once_and_its_tasks_run_elsewhere() {
    let mut cluster = TestCluster::new(&[1]);
    let session = cluster.hello("a", 1);
    cluster.hello("b", 1);
    cluster.pod_ended("a", PodEndCause::Disruption, "node gone");
    assert_eq!(cluster.closed, [session]);
    assert_eq!(cluster.held("b"), [attempt(0, 0, 1, 2)]);
    cluster.pod_ended("a", PodEndCause::Disruption, "node gone");
    assert_eq!(
        cluster.report().workers.disruptions,
        1,
        "reported twice, counted once"
    );
}

#[test]
fn fault_2977_promise_e4_workers_that_once_registered_do_not_count_as_alive() {
    let mut cluster = TestCluster::new(&[2]);
    assert_eq!(
        cluster.report().no_worker_since.map(|since| since.0),
        Some(1_000)
    );
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    assert_eq!(cluster.report().no_worker_since, None);
    cluster.passes(30_000, &[]);
    let report = cluster.report();
    assert_eq!(
        (
            report.workers.idle,
            report.workers.busy,
            report.workers.reconnecting
        ),
        (0, 0, 0)
    );
    assert_eq!(report.no_worker_since.map(|since| since.0), Some(31_000));
    let wanted =
        "stage 1/1 map: waiting for workers, none is connected; 2 of 2 tasks are to be done";
    assert_eq!(report.message, wanted);
}

#[test]
fn promise_e7_the_last_tasks_only_worker_may_die_at_any_of_the_last_three() {
    for survived in 0..3 {
        let mut cluster = TestCluster::new(&[3]);
        cluster.hello("a", 1);
        cluster.passes(1_000, &["a"]);
        for _ in 0..survived {
            let task = cluster.only("a");
            cluster.done("a", task);
            cluster.durable();
            cluster.passes(1_000, &["a"]);
        }
        cluster.dies("a");
        cluster.hello("b", 1);
        cluster.passes(30_000, &["b"]);
        cluster.work();
        cluster.assert_succeeded();
    }
}

#[test]
fn connected_and_busy_pods_are_reported_by_uid() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    cluster.hello("c", 1);
    cluster.disconnects("c");
    let workers = cluster.report().workers;
    assert_eq!(workers.busy_pod_uids, ["pod-a"]);
    assert_eq!(workers.connected_pod_uids, ["pod-a", "pod-b"]);
    assert_eq!(workers.reconnecting_pod_uids, ["pod-c"]);
}
