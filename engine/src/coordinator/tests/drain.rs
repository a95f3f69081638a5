//! Tests a coordinator whose job is to be suspended: running tasks end, and no other task starts.

use super::cluster::{TestCluster, attempt};
use crate::coordinator::Event;

#[test]
fn a_draining_coordinator_lets_running_tasks_end_and_starts_no_other() {
    let mut cluster = TestCluster::new(&[4, 1]);
    cluster.hello("a", 2);
    assert_eq!(cluster.report().tasks_to_drain, None);
    let held = cluster.held("a");
    assert!(held.len() < 4, "{held:?}");
    cluster.event(Event::Drain { drains: true });
    let running = u32::try_from(held.len()).unwrap();
    assert_eq!(cluster.report().tasks_to_drain, Some(running));
    for task in &held {
        cluster.done("a", *task);
    }
    assert_eq!(cluster.held("a"), []);
    assert_eq!(
        cluster.report().tasks_to_drain,
        Some(running),
        "no result is durable"
    );
    cluster.settle();
    assert_eq!(cluster.report().tasks_to_drain, Some(0));
    let message = cluster.report().message;
    assert_eq!(
        message,
        "no further task starts, because the job is to be suspended; 0 running tasks to finish"
    );
    // Another worker, a failed try and time change nothing.
    cluster.hello("b", 2);
    cluster.passes(60_000, &["a", "b"]);
    assert_eq!((cluster.held("a"), cluster.held("b")), (vec![], vec![]));
    cluster.event(Event::Drain { drains: false });
    assert_eq!(cluster.report().tasks_to_drain, None);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn what_a_draining_coordinator_committed_is_not_run_again_by_the_next() {
    let mut cluster = TestCluster::new(&[3, 1]);
    cluster.hello("a", 1);
    let held = cluster.held("a");
    cluster.event(Event::Drain { drains: true });
    for task in held {
        cluster.done("a", task);
    }
    cluster.settle();
    let committed = cluster.commits();
    // The next generation does not know that the generation before it drained.
    cluster.restart();
    cluster.hello("b", 1);
    cluster.passes(1_000, &["b"]);
    cluster.work();
    cluster.assert_succeeded();
    for (task, attempts) in committed {
        assert_eq!(cluster.commits()[&task], attempts, "{task}");
    }
}

#[test]
fn a_drained_job_whose_last_task_ended_still_succeeds_or_fails() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.event(Event::Drain { drains: true });
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.settle();
    cluster.assert_succeeded();
    assert_eq!(cluster.report().tasks_to_drain, None);
}

#[test]
fn a_coordinator_that_took_over_waits_for_the_tasks_of_the_one_before_it() {
    let mut cluster = TestCluster::new(&[3, 1]);
    cluster.hello("a", 1);
    cluster.restart();
    cluster.event(Event::Drain { drains: true });
    assert_eq!(cluster.report().tasks_to_drain, Some(1));
    cluster.passes(60_000, &[]);
    assert_eq!(cluster.report().tasks_to_drain, Some(0));
}
