//! Tests of jobs that wait for their turn to start, and of jobs that give their places back.

use super::*;

fn waiting(before: usize) -> Waiting {
    Waiting {
        before,
        starting: 32,
        limit: 32,
        not_before: None,
    }
}

/// Returns the reason and the sentence of condition `Progressing`.
fn progressing(world: &World) -> (&'static str, String) {
    let condition = world.condition(ConditionType::Progressing);
    (condition.reason.as_str(), condition.message.clone())
}

fn without_room(pod: &mut PodFacts) {
    pod.created = Some(at(1_000));
    pod.unschedulable = Some("0/3 nodes are available".to_owned());
}

/// Returns a job whose coordinator runs, and whose worker has found no room for `seconds` seconds.
fn without_room_for(seconds: i64) -> World {
    let mut world = World::running(json!({}));
    world.worker_pod("w-0", without_room);
    world.settle();
    world.pass(seconds);
    world
}

#[test]
fn a_job_waits_for_its_turn_and_says_how_many_are_before_it() {
    let mut world = World::new(json!({}));
    world.turn = Turn::Wait(waiting(7));
    world.settle();
    assert_eq!(world.log, Vec::<String>::new(), "nothing is made");
    assert_eq!(world.job.status.generation, None);
    assert_eq!(world.phase(), Phase::Pending);
    let sentence = "waits for 7 jobs before it; 32 jobs start now, at most 32 at once";
    assert_eq!(progressing(&world), ("Queued", sentence.to_owned()));
    assert_eq!(world.plan().requeue_after, Some(Duration::from_secs(15)));
    assert_eq!(world.job.status.queued_since, Some(Time(at(1_000))));
    world.turn = Turn::Free;
    world.settle();
    assert_eq!((world.generation(), progressing(&world).0), (1, "Starting"));
    assert_eq!(world.job.status.queued_since, None);
}

#[test]
fn a_refused_job_is_reported_and_does_not_wait_for_its_turn() {
    let mut world = World::new(json!({}));
    world.errors = newer_rule();
    world.turn = Turn::Wait(waiting(7));
    world.settle();
    assert_eq!(progressing(&world).0, "SpecInvalid");
}

#[test]
fn a_job_that_gives_its_place_back_uses_up_no_generation_and_starts_again() {
    let mut world = without_room_for(300);
    world.turn = Turn::GiveWay;
    world.reconcile();
    let status = world.job.status.clone();
    assert_eq!(status.generation, Some(2));
    assert_eq!(status.places_given_back, 1);
    assert_eq!(status.queued_since, Some(Time(world.now)));
    assert_eq!(world.phase(), Phase::Pending);
    let (reason, sentence) = progressing(&world);
    assert_eq!(reason, "Queued");
    assert_eq!(
        sentence,
        "gave its place back, because its pods found no room beside those of other jobs that start: worker pod w-0 has \
         no node: 0/3 nodes are available"
    );
    world.turn = Turn::Wait(waiting(3));
    world.settle();
    assert!(world.generations.is_empty(), "its objects are gone");
    assert_eq!(world.pods, Vec::new());
    let (reason, sentence) = progressing(&world);
    assert_eq!(reason, "Queued");
    assert!(
        sentence.contains("waits for 3 jobs before it"),
        "{sentence}"
    );
    assert!(sentence.contains("w-0 has no node"), "{sentence}");
    world.turn = Turn::Free;
    world.pass(600);
    world.settle();
    assert!(world.generations.contains_key(&2));
    let record = world.job.status.generations.last().unwrap();
    assert_eq!(record.start_time, Time(world.now), "its time begins now");
    assert_eq!(world.job.status.queued_since, None);
}

#[test]
fn a_job_that_is_resumed_after_it_gave_its_place_back_waits_like_a_new_job() {
    let mut world = without_room_for(300);
    world.turn = Turn::GiveWay;
    world.reconcile();
    world.job.spec.suspend = true;
    world.settle();
    assert_eq!(world.phase(), Phase::Suspended);
    world.job.spec.suspend = false;
    world.turn = Turn::Wait(waiting(3));
    world.pass(30);
    world.settle();
    let sentence = "waits for 3 jobs before it; 32 jobs start now, at most 32 at once";
    assert_eq!(progressing(&world), ("Queued", sentence.to_owned()));
    let degraded = world.condition(ConditionType::Degraded);
    assert_eq!(degraded.status, ConditionStatus::False);
    assert_eq!(world.job.status.places_given_back, 1, "it is counted");
}

#[test]
fn generations_that_gave_their_place_back_do_not_count_for_max_generations() {
    let mut world = without_room_for(300);
    world.job.spec.retries.max_generations = 2;
    for generation in [2, 3] {
        world.turn = Turn::GiveWay;
        world.reconcile();
        assert_eq!(world.generation(), generation);
        world.turn = Turn::Free;
        world.settle();
        world.coordinator_is(true);
        world.says(RunPhase::Running, 8);
        world.settle();
        world.worker_pod("w-0", without_room);
        world.pass(300);
    }
    lose_coordinator(&mut world);
    assert_eq!((world.generation(), world.phase()), (4, Phase::Restarting));
    world.pass(120);
    world.settle();
    assert_eq!(world.phase(), Phase::Failed);
    assert!(
        world.message().contains("2 of 2 generations"),
        "{}",
        world.message()
    );
}

#[test]
fn a_job_does_not_give_back_a_place_that_it_needs() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 5] = [
        ("its worker has a node", |world| {
            world.worker_pod("w-0", |pod| pod.node = Some("node-1".to_owned()));
        }),
        ("it works", |world| {
            world.job.status.working_since = Some(Time(at(900)));
        }),
        ("its workers were asked for a moment ago", |world| {
            world.scaled_at = Some(at(1_290));
        }),
        ("it makes its plan", |world| world.workers().replicas = 0),
        ("it waits for its next generation", |world| {
            world.job.status.backoff_until = Some(Time(at(1_310)));
        }),
    ];
    for (name, change) in cases {
        let mut world = without_room_for(300);
        world.turn = Turn::GiveWay;
        change(&mut world);
        world.reconcile();
        assert_eq!(world.generation(), 1, "{name}");
    }
}

#[test]
fn a_job_that_once_worked_keeps_its_place() {
    let mut world = World::running(json!({}));
    assert_eq!(world.job.status.working_since, None);
    world.worker_pod("w-0", |pod| {
        pod.ready = true;
        pod.container.state = ContainerRun::Running {
            since: Some(at(900)),
        };
    });
    world.settle();
    assert_eq!(world.job.status.working_since, Some(Time(at(1_000))));
    lose_coordinator(&mut world);
    assert_eq!(world.generation(), 2);
    assert_eq!(world.job.status.working_since, Some(Time(at(1_000))));
}
