//! Tests of the coordinator's pod that stays for a while after a failure.

use zephyr_crds::duration::DurationText;

use super::*;

fn ended(spec: serde_json::Value, succeeded: bool, reason: &str) -> World {
    let mut world = World::running(spec);
    world.worker_pod("w-0", |pod| pod.ready = true);
    world.settle();
    world.ends(succeeded, reason);
    world.settle();
    assert!(world.phase().is_final());
    world
}

fn kept_until(world: &World) -> Option<i64> {
    let until = world.job.status.pods_kept_until.as_ref();
    until.map(|until| until.0.as_second() - world.now.as_second())
}

#[test]
fn the_coordinator_of_a_failed_job_stays_without_workers_until_its_time_is_over() {
    let mut world = ended(json!({"failedPodsTTL": "2m"}), false, "TaskFailed");
    assert_eq!(kept_until(&world), Some(120));
    assert_eq!(world.workers().replicas, 0);
    assert!(world.current().coordinator.is_some());
    let next = world.plan().requeue_after.unwrap();
    assert!(next <= Duration::from_mins(2), "{next:?}");
    world.pass(119);
    world.report = None;
    world.settle();
    assert!(world.current().coordinator.is_some());
    world.pass(1);
    world.settle();
    assert!(world.generations.is_empty(), "{:?}", world.log);
    assert_eq!(kept_until(&world), None);
}

#[test]
fn a_pod_stays_for_15_minutes_and_only_if_its_log_may_explain_the_end() {
    for (reason, succeeded, stays) in [
        ("TaskFailed", false, true),
        ("TaskTimedOut", false, true),
        ("TaskDisrupted", false, true),
        ("TooManySkipped", false, true),
        ("OutputLost", false, true),
        ("LedgerDamaged", false, true),
        ("PlanFailed", false, false),
        ("Cancelled", false, false),
        ("DeadlineExceeded", false, false),
        ("Succeeded", true, false),
    ] {
        let world = ended(json!({}), succeeded, reason);
        assert_eq!(kept_until(&world), stays.then_some(900), "{reason}");
        assert_eq!(world.generations.is_empty(), !stays, "{reason}");
    }
    let world = ended(json!({"failedPodsTTL": "0s"}), false, "TaskFailed");
    assert!(world.generations.is_empty());
}

#[test]
fn the_time_can_be_changed_after_the_end_and_a_deletion_does_not_wait_for_it() {
    let mut world = ended(json!({}), false, "TaskFailed");
    world.job.spec.failed_pods_ttl = Some(DurationText::new("1h"));
    world.pass(1_000);
    world.settle();
    assert_eq!(kept_until(&world), Some(2_600));
    world.job.spec.failed_pods_ttl = Some(DurationText::new("0s"));
    world.settle();
    assert!(world.generations.is_empty());
    let mut world = ended(json!({"ttlSecondsAfterFinished": 60}), false, "TaskFailed");
    world.pass(60);
    world.settle();
    assert!(world.deleted);
}

#[test]
fn a_job_that_is_restarted_does_not_wait_for_the_time() {
    let mut world = ended(json!({}), false, "TaskFailed");
    world.pods.clear();
    world.job.spec.restart = Some("again".to_owned());
    world.settle();
    assert_eq!((world.generation(), kept_until(&world)), (2, None));
    let generations: Vec<_> = world.generations.keys().copied().collect();
    assert_eq!(generations, [2]);
}
