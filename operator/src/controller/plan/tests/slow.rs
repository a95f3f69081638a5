//! Tests that pods that have a node and are slow to start are not lost, and use up no generation.

use super::*;

fn creating(pod: &mut PodFacts) {
    pod.node = Some("node-1".to_owned());
    pod.scheduled_since = Some(at(1_000));
    pod.container.state = ContainerRun::Waiting(explanation("ContainerCreating", ""));
}

fn event(kind: StartEventKind, message: &str) -> StartEvent {
    StartEvent {
        at: at(1_030),
        kind,
        message: message.to_owned(),
    }
}

#[test]
fn a_coordinator_that_is_slow_to_start_uses_up_no_generation() {
    let pulling = event(StartEventKind::Pulling, "Pulling: Pulling image \"w:1\"");
    let mounting = event(StartEventKind::Failing, "FailedMount: timed out");
    let no_token = event(
        StartEventKind::ReferenceNotFound,
        "FailedMount: secret \"count-token-d-g1\" not found",
    );
    // Each case has the events, how long ago the pod was created, and the generation after that.
    let cases = [
        (None, 1_700, 1),
        (None, 2_000, 2),
        (Some(None), 1_700, 1),
        (Some(Some(pulling)), 1_700, 1),
        (Some(Some(mounting.clone())), 400, 1),
        (Some(Some(mounting)), 430, 2),
        (Some(Some(no_token)), 130, 2),
    ];
    for (said, seconds, expected) in cases {
        let mut world = World::new(json!({}));
        world.settle();
        world.coordinator_pod(creating);
        if let Some(event) = said.clone() {
            world.start_events.insert("uid-c".to_owned(), event);
        }
        world.settle();
        world.pass(seconds);
        world.settle();
        assert_eq!(world.generation(), expected, "{said:?} for {seconds} s");
    }
}

#[test]
fn a_container_that_started_late_still_has_its_whole_time() {
    let mut world = World::new(json!({}));
    world.settle();
    world.coordinator_pod(creating);
    world.pass(1_000);
    world.settle();
    let started = world.now;
    world.coordinator_pod(|pod| {
        creating(pod);
        pod.container.state = ContainerRun::Running {
            since: Some(started),
        };
    });
    world.pass(119);
    world.settle();
    assert_eq!(world.generation(), 1);
    world.pass(1);
    world.settle();
    assert_eq!(world.generation(), 2);
}

#[test]
fn workers_that_are_slow_to_start_are_not_failing() {
    let mut world = World::running(json!({"retries": {"noWorkersTimeout": "1m"}}));
    world.worker_pod("w-0", creating);
    world.settle();
    world.pass(1_700);
    world.settle();
    assert_eq!(world.generation(), 1);
    world.pass(200);
    world.settle();
    assert_eq!(world.generation(), 2);
}
