//! Tests what happens if workers are lost again and again while they run one task. The task is
//! never charged if Kubernetes explains the losses, or if workers without the task are lost too. If
//! the task is the cause, it is charged in the end.

use super::cluster::TestCluster;
use super::setbacks::{charged, holder};
use crate::coordinator::config::LOST_WORKERS_FREE;
use crate::coordinator::{Config, FailureReason, PodEndCause};

/// How a worker is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// Kubernetes reports it at once.
    Explained,
    /// There is no report.
    Silently,
    /// First the worker is silent without a report, and then Kubernetes finds that its node is
    /// lost.
    WithItsNode,
}

const WAYS: [Goes; 3] = [Goes::Explained, Goes::Silently, Goes::WithItsNode];
const STABLE: [&str; 4] = ["a", "b", "c", "d"];

/// Loses these workers at once, while the others stay.
fn lose(cluster: &mut TestCluster, names: &[&'static str], goes: Goes, others: &[&'static str]) {
    for name in names {
        if goes == Goes::Explained {
            cluster.pod_ended(name, PodEndCause::Disruption, "preempted");
            cluster.dies_after_close(name);
        } else {
            cluster.dies(name);
        }
    }
    if goes != Goes::Explained {
        cluster.passes(31_000, others);
    }
    if goes == Goes::WithItsNode {
        for name in names {
            cluster.pod_ended(name, PodEndCause::Disruption, "NodeLost");
        }
    }
}

/// Starts four workers that are busy for hours, with `more` tasks than they can run at once.
fn busy(more: u32) -> TestCluster {
    let mut cluster = TestCluster::with(Config::new(3, 0), &[4 + more]);
    for name in STABLE {
        cluster.hello(name, 1);
    }
    cluster.settle();
    cluster
}

fn with_stable(more: &[&'static str]) -> Vec<&'static str> {
    STABLE.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn losses_of_one_worker_beside_stable_workers_charge_no_task() {
    for goes in WAYS {
        for every_ms in [10_000, 300_000] {
            let mut cluster = busy(1);
            for round in 0..36 {
                cluster.hello("s", 1);
                cluster.settle();
                cluster.passes(every_ms, &with_stable(&["s"]));
                lose(&mut cluster, &["s"], goes, &STABLE);
                assert_eq!(charged(&cluster), 0, "{goes:?}, round {round}");
                cluster.passes(5_000, &STABLE);
            }
            assert!(cluster.state.result().is_none());
        }
    }
}

#[test]
fn two_workers_that_are_present_alternately_charge_no_task() {
    for goes in WAYS {
        let mut cluster = busy(1);
        for round in 0..36 {
            let name = ["s", "t"][round % 2];
            cluster.hello(name, 1);
            cluster.settle();
            cluster.passes(300_000, &with_stable(&[name]));
            lose(&mut cluster, &[name], goes, &STABLE);
            assert_eq!(charged(&cluster), 0, "{goes:?}, round {round}");
        }
    }
}

#[test]
fn two_workers_that_are_preempted_alternately_charge_no_task() {
    const BOTH: [&str; 2] = ["s", "t"];
    for more in [1, 2] {
        let mut cluster = busy(more);
        for round in 0..36 {
            for name in BOTH {
                if !cluster.is_connected(name) {
                    cluster.hello(name, 1);
                }
            }
            cluster.settle();
            cluster.passes(300_000, &with_stable(&BOTH));
            lose(&mut cluster, &[BOTH[round % 2]], Goes::Explained, &STABLE);
            assert_eq!(charged(&cluster), 0, "{more} tasks, round {round}");
        }
    }
}

#[test]
fn a_few_bad_nodes_among_many_charge_no_task() {
    const BAD: [&str; 3] = ["s", "t", "u"];
    for goes in WAYS {
        let mut cluster = busy(3);
        let mut chance = 1_u64;
        for round in 0..80 {
            for name in BAD {
                if !cluster.is_connected(name) {
                    cluster.hello(name, 1);
                }
            }
            cluster.settle();
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let drawn = usize::try_from(chance >> 33).unwrap();
            cluster.passes(50_000, &with_stable(&BAD));
            let gone = BAD[drawn % 3];
            let others: Vec<&'static str> = with_stable(&BAD)
                .into_iter()
                .filter(|name| *name != gone)
                .collect();
            lose(&mut cluster, &[gone], goes, &others);
            assert_eq!(charged(&cluster), 0, "{goes:?}, round {round}");
        }
    }
}

#[test]
fn a_wave_over_half_of_the_workers_every_few_minutes_charges_no_task() {
    const HALF: [&str; 4] = ["s", "t", "u", "v"];
    for goes in WAYS {
        let mut cluster = busy(4);
        for round in 0..36 {
            for name in HALF {
                cluster.hello(name, 1);
            }
            cluster.settle();
            cluster.passes(180_000, &with_stable(&HALF));
            lose(&mut cluster, &HALF, goes, &STABLE);
            assert_eq!(charged(&cluster), 0, "{goes:?}, round {round}");
            cluster.passes(5_000, &STABLE);
        }
    }
}

#[test]
fn pods_that_come_back_with_other_numbers_charge_no_task() {
    let numbered = |number: u32| -> &'static str { format!("w{number}").leak() };
    for goes in WAYS {
        let mut cluster = busy(1);
        for number in 0..36 {
            let name = numbered(number);
            cluster.hello(name, 1);
            cluster.settle();
            cluster.passes(120_000, &with_stable(&[name]));
            lose(&mut cluster, &[name], goes, &STABLE);
            assert_eq!(charged(&cluster), 0, "{goes:?}, number {number}");
        }
    }
}

#[test]
fn losses_across_a_take_over_charge_no_task() {
    for goes in WAYS {
        let mut cluster = busy(1);
        for round in 0..36 {
            cluster.hello("s", 1);
            cluster.settle();
            cluster.passes(60_000, &with_stable(&["s"]));
            if round % 5 == 4 {
                cluster.restart();
                for name in with_stable(&["s"]) {
                    cluster.hello(name, 1);
                }
                cluster.passes(60_000, &with_stable(&["s"]));
            }
            lose(&mut cluster, &["s"], goes, &STABLE);
            assert_eq!(charged(&cluster), 0, "{goes:?}, round {round}");
        }
        cluster.passes(2_000, &STABLE);
        cluster.hello("s", 1);
        cluster.work();
        cluster.assert_succeeded();
    }
}

/// Runs a fleet in which each worker that runs the first shard is lost five seconds later. This
/// happens at most 120 times. Returns the number of lost workers.
fn a_task_that_ends_its_workers(
    names: &[&'static str],
    config: Config,
    goes: Goes,
) -> (u32, TestCluster) {
    let mut cluster = TestCluster::with(config, &[400]);
    for name in names {
        cluster.hello(name, 1);
    }
    let mut lost = 0;
    while lost < 120
        && let Some((name, _)) = holder(&mut cluster, names)
    {
        let others: Vec<&'static str> = names
            .iter()
            .copied()
            .filter(|other| *other != name)
            .collect();
        cluster.passes(5_000, names);
        lost += 1;
        lose(&mut cluster, &[name], goes, &others);
        // In the meantime the others continue with their tasks.
        for other in others {
            for task in cluster.held(other) {
                if task.task.shard.0 != 0 {
                    cluster.done(other, task);
                }
            }
        }
        cluster.hello(name, 1);
    }
    (lost, cluster)
}

#[test]
fn a_task_that_ends_every_worker_counts_as_the_cause() {
    for goes in [Goes::Silently, Goes::WithItsNode] {
        for names in [&STABLE[..], &STABLE[..2], &["w0", "w1", "w2", "w3", "w4"]] {
            let (lost, cluster) = a_task_that_ends_its_workers(names, Config::new(1, 0), goes);
            let most = if names.len() > 2 { 2 } else { 4 } * LOST_WORKERS_FREE;
            assert!((LOST_WORKERS_FREE + 1..=most).contains(&lost), "{lost}");
            let (_, message) = cluster.failure();
            let wanted = format!(
                "stage 1/1 map, shard 0: failed once, and spec.retries.taskFailures allows 1; last error: its worker was lost {lost} times in a row, within "
            );
            assert!(message.starts_with(&wanted), "{message}");
        }
    }
}

#[test]
fn a_task_that_ends_its_workers_is_found_under_a_high_limit_of_disruptions_too() {
    let config = Config::new(1, 1_000);
    let (lost, cluster) = a_task_that_ends_its_workers(&STABLE, config, Goes::Silently);
    assert!(lost <= 2 * LOST_WORKERS_FREE, "{lost}");
    assert_eq!(cluster.failure().0, FailureReason::TaskFailed);
}

#[test]
fn a_task_whose_workers_kubernetes_ends_is_reported_and_not_charged() {
    let (lost, cluster) = a_task_that_ends_its_workers(&STABLE, Config::new(1, 0), Goes::Explained);
    assert_eq!((lost, charged(&cluster)), (120, 0));
    let wanted =
        "stage 1/1 map, shard 0: its worker was lost 120 times in a row, will be tried again";
    assert_eq!(cluster.report().message, wanted);

    let limited = Config::new(1, 20);
    let (lost, cluster) = a_task_that_ends_its_workers(&STABLE, limited, Goes::Explained);
    let (reason, message) = cluster.failure();
    assert_eq!((lost, reason), (20, FailureReason::TaskDisrupted));
    assert!(message.contains("was disrupted 20 times"), "{message}");
}

#[test]
fn a_worker_that_was_silent_before_kubernetes_found_its_node_lost_is_unexplained() {
    // If a worker counts as lost only after 60 s of silence, as in a large fleet, the report of
    // Kubernetes arrives earlier.
    let mut config = Config::new(1, 0);
    config.heartbeat.workers_per_second = 1;
    config.heartbeat.silent_intervals = 12;
    let mut cluster = TestCluster::with(config, &[400]);
    for name in STABLE {
        cluster.hello(name, 1);
    }
    let mut lost = 0;
    while let Some((name, _)) = holder(&mut cluster, &STABLE) {
        let others: Vec<&'static str> = STABLE.into_iter().filter(|other| *other != name).collect();
        cluster.passes(5_000, &STABLE);
        cluster.dies(name);
        cluster.passes(40_000, &others);
        cluster.pod_ended(name, PodEndCause::Disruption, "NodeLost");
        lost += 1;
        for other in others {
            for task in cluster.held(other) {
                if task.task.shard.0 != 0 {
                    cluster.done(other, task);
                }
            }
        }
        cluster.hello(name, 1);
        assert!(lost < 3 * LOST_WORKERS_FREE);
    }
    assert!(lost > LOST_WORKERS_FREE);
}

#[test]
fn a_task_that_lost_three_workers_is_tried_at_another_one_next() {
    let names = ["w0", "w1", "w2"];
    let mut cluster = TestCluster::with(Config::new(1, 0), &[1]);
    for name in names {
        cluster.hello(name, 1);
    }
    for expected in ["w0", "w1", "w0", "w2"] {
        let (name, _) = holder(&mut cluster, &names).unwrap();
        assert_eq!(name, expected);
        lose(&mut cluster, &[name], Goes::Explained, &[]);
        cluster.hello(name, 1);
    }
}

#[test]
fn preemption_of_all_workers_charges_no_task_however_long_it_runs() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    // Workers are lost one after the other, so that the task meets each loss, or in random order.
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
fn the_workers_lost_while_they_ran_a_task_are_reported_until_it_is_done() {
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
