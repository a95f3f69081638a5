//! Tests of jobs that are suspended, resumed or cancelled, in each state.

use zephyr_crds::duration::DurationText;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::life::{CancelMode, CancelSpec, SuspendMode, SuspendPolicy};

use super::*;
use crate::controller::turns::StartProgress;

/// Returns the reason of condition `Progressing`.
fn reason(world: &World) -> &'static str {
    world.condition(ConditionType::Progressing).reason.as_str()
}

fn suspend(world: &mut World, mode: SuspendMode) {
    world.job.spec.suspend = true;
    world.job.spec.suspend_policy = SuspendPolicy {
        mode,
        drain_timeout: DurationText::new("1m"),
    };
    world.settle();
    // The coordinator has written that the job is suspended.
    let report = world
        .report
        .as_mut()
        .filter(|report| report.planned.is_some());
    if let Some(report) = report.filter(|_| mode == SuspendMode::Immediate) {
        report.tasks_to_drain = Some(2);
        world.settle();
    }
}

fn resume(world: &mut World) {
    world.job.spec.suspend = false;
    world.settle();
}

fn cancel(world: &mut World, mode: CancelMode) {
    world.job.spec.cancel = Some(CancelSpec {
        mode,
        reason: "wrong input".to_owned(),
        ..CancelSpec::default()
    });
    world.settle();
}

fn drains(world: &mut World, tasks: u32) {
    let report = world.report.as_mut().unwrap();
    report.tasks_to_drain = Some(tasks);
    world.settle();
}

#[test]
fn tasks_that_ended_while_the_job_drained_are_in_the_status_of_the_suspended_job() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Drain);
    let report = world.report.as_mut().unwrap();
    report.stage = Some(StageReport {
        index: 1,
        name: "map".to_owned(),
        done: 6,
        total: 10,
        running: 0,
        failed: 0,
    });
    drains(&mut world, 0);
    assert_ne!(world.job.status.suspended_since, None);
    let stage = world.job.status.stage.as_ref().unwrap();
    assert_eq!((stage.done, stage.total), (6, 10));
}

fn is_suspended(world: &World) -> bool {
    let condition = world.condition(ConditionType::Suspended);
    assert_eq!(
        world.phase() == Phase::Suspended,
        condition.status == ConditionStatus::True
    );
    world.phase() == Phase::Suspended
}

fn working() -> World {
    let mut world = World::running(json!({}));
    world.worker_pod("w-0", |pod| pod.ready = true);
    world.settle();
    world
}

#[test]
fn a_job_that_drains_is_suspended_when_its_last_task_has_ended_and_its_last_pod_is_gone() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Drain);
    assert_eq!(
        (world.phase(), reason(&world)),
        (Phase::Suspending, "Suspending")
    );
    assert_eq!(world.generation(), 1);
    assert!(
        world.message().contains("running tasks may end"),
        "{}",
        world.message()
    );
    drains(&mut world, 2);
    assert_eq!(world.generation(), 1);
    drains(&mut world, 0);
    assert_eq!(world.generation(), 2, "the number is written first");
    let record = &world.job.status.generations[0];
    assert_eq!(record.cause, Some(GenerationEnd::Suspended));
    assert_eq!(
        record.message,
        "the job was suspended; all running tasks had ended"
    );
    assert!(
        world.log.contains(&"delete root count-g1".to_owned()),
        "{:?}",
        world.log
    );
    if !world.pods.is_empty() {
        assert!(!is_suspended(&world));
        assert!(
            world.message().contains("still exist"),
            "{}",
            world.message()
        );
    }
    world.pods.clear();
    world.settle();
    assert!(is_suspended(&world));
    assert_eq!(world.job.status.suspensions, 1);
    let stage = world.job.status.stage.as_ref();
    assert!(stage.is_none_or(|stage| stage.running == 0), "{stage:?}");
    let made = world.log.len();
    world.pass(100_000);
    world.settle();
    assert_eq!(world.log.len(), made, "nothing more happens");
    assert_eq!(world.plan().requeue_after, None);
}

#[test]
fn tasks_that_run_for_longer_than_the_drain_timeout_are_stopped() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Drain);
    drains(&mut world, 1);
    world.pass(58);
    world.settle();
    assert_eq!(world.generation(), 1);
    assert!(world.plan().requeue_after.unwrap() <= Duration::from_secs(2));
    // The operator is killed meanwhile; the time is in status.
    world.warming_up = true;
    world.pass(3);
    world.settle();
    assert_eq!(world.generation(), 2);
    let why = &world.job.status.generations[0].message;
    assert!(
        why.contains("after spec.suspendPolicy.drainTimeout"),
        "{why}"
    );
}

#[test]
fn a_generation_without_tasks_is_stopped_at_once() {
    for mode in [SuspendMode::Drain, SuspendMode::Immediate] {
        let mut world = World::new(json!({}));
        world.settle();
        suspend(&mut world, mode);
        assert_eq!(world.generation(), 2, "{mode:?}");
        assert!(is_suspended(&world));
    }
    let mut world = working();
    suspend(&mut world, SuspendMode::Immediate);
    assert_eq!(world.generation(), 2);
}

#[test]
fn a_job_that_is_resumed_while_it_drains_goes_on_in_its_generation() {
    let mut world = working();
    let before = world.phase();
    suspend(&mut world, SuspendMode::Drain);
    assert_eq!(world.plan().lifecycle.drains(), Some(true));
    resume(&mut world);
    assert_eq!(world.plan().lifecycle.drains(), Some(false));
    assert_eq!((world.phase(), world.generation()), (before, 1));
    assert_eq!(world.job.status.draining_since, None);
    assert_eq!(
        world.condition(ConditionType::Suspended).reason,
        Reason::NotSuspended
    );
}

#[test]
fn a_resumed_job_continues_in_the_next_generation_and_has_as_many_left_as_before() {
    let mut world = World::running(json!({"retries": {"maxGenerations": 2}}));
    for round in 1..=5 {
        suspend(&mut world, SuspendMode::Immediate);
        world.pods.clear();
        world.settle();
        assert!(is_suspended(&world));
        resume(&mut world);
        assert_eq!(world.generation(), 1 + round);
        assert_eq!(world.job.status.suspended_since, None);
        world.coordinator_is(true);
        world.says(RunPhase::Running, 8);
        world.settle();
    }
    // The first loss: a second generation is allowed.
    world.generations.clear();
    world.settle();
    assert_eq!((world.phase(), world.generation()), (Phase::Restarting, 7));
}

#[test]
fn a_suspended_job_that_is_resumed_waits_for_its_turn() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.settle();
    world.turn = Turn::Wait(Waiting::default());
    let made = world.log.len();
    resume(&mut world);
    assert_eq!((world.phase(), reason(&world)), (Phase::Pending, "Queued"));
    assert_eq!(world.log.len(), made);
    // It is suspended again while it waits.
    suspend(&mut world, SuspendMode::Drain);
    assert!(is_suspended(&world));
    assert_eq!(world.job.status.queued_since, None);
    world.turn = Turn::Free;
    resume(&mut world);
    assert_eq!((world.phase(), world.generation()), (Phase::Pending, 2));
}

#[test]
fn a_job_that_is_created_suspended_makes_nothing_until_it_is_resumed() {
    let mut world = World::new(json!({"suspend": true}));
    world.settle();
    assert!(is_suspended(&world));
    assert_eq!(world.log, Vec::<String>::new());
    assert_eq!(world.job.status.generation, None);
    resume(&mut world);
    assert_eq!(world.generation(), 1);
    assert_eq!(world.job.status.suspensions, 0);
}

#[test]
fn a_refused_spec_ends_a_new_job_and_keeps_a_suspended_one_suspended() {
    let mut world = World::new(json!({"suspend": true}));
    world.errors = newer_rule();
    world.settle();
    assert_eq!(
        (world.phase(), reason(&world)),
        (Phase::Failed, "SpecInvalid")
    );

    let mut world = working();
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.settle();
    world.errors = newer_rule();
    world.job.spec_version = Some(99);
    resume(&mut world);
    assert_eq!(reason(&world), "Blocked");
    assert!(
        world
            .message()
            .contains("resumes when the spec is corrected"),
        "{}",
        world.message()
    );
    let said = world.condition(ConditionType::Suspended);
    assert_eq!(said.status, ConditionStatus::False, "{}", said.message);
    suspend(&mut world, SuspendMode::Drain);
    assert!(is_suspended(&world));
    resume(&mut world);
    world.errors.clear();
    world.settle();
    assert_eq!((world.phase(), world.generation()), (Phase::Pending, 2));
}

#[test]
fn a_job_whose_spec_is_refused_while_it_waits_for_its_turn_takes_no_turn() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.turn = Turn::Wait(Waiting::default());
    resume(&mut world);
    assert_eq!(reason(&world), "Queued");
    let queued = world.job.status.queued_since.clone();
    world.errors = newer_rule();
    world.job.spec_version = Some(99);
    world.turn = Turn::Free;
    world.pass(1_000);
    world.settle();
    assert_eq!(reason(&world), "Blocked");
    let said = world.message();
    assert!(
        said.contains("which comes when the spec is corrected: spec.pipeline.sink"),
        "{said}"
    );
    assert_eq!(world.job.status.queued_since, queued, "its place stays");
    assert!(world.generations.is_empty());
    world.errors.clear();
    world.settle();
    assert_eq!((world.generation(), reason(&world)), (2, "Starting"));
    assert_eq!(world.job.status.queued_since, None);
}

#[test]
fn a_change_of_replicas_applies_when_the_job_no_longer_drains() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Drain);
    drains(&mut world, 2);
    world.job.spec.workers.replicas = Some(2);
    world.settle();
    assert_eq!(world.workers().replicas, 4, "running tasks may end");
    resume(&mut world);
    assert_eq!((world.generation(), world.workers().replicas), (1, 2));
}

#[test]
fn a_deleted_job_that_a_finalizer_keeps_is_not_suspended() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Drain);
    world.job.deleted = true;
    world.job.finalizers = vec!["example.com/backup".to_owned()];
    world.settle();
    let said = world.condition(ConditionType::Suspended);
    assert_eq!(said.reason, Reason::NotSuspended, "{}", said.message);
}

#[test]
fn a_resumed_job_whose_image_cannot_be_pulled_says_what_its_user_can_do() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    resume(&mut world);
    world.coordinator_pod(|pod| {
        pod.container.state = ContainerRun::Waiting(explanation("ImagePullBackOff", "not found"));
    });
    world.settle();
    let said = world.message();
    let advice = "; the next generation uses a corrected image; if that takes longer, suspend the job, \
                  because it fails after at most 3 generations that cannot start";
    assert!(said.ends_with(advice), "{said}");
    // Once the image is corrected, the sentence says when the change applies.
    world.job.spec.image = "corrected:2".to_owned();
    world.job.spec_version = Some(2);
    world.settle();
    let said = world.message();
    assert!(said.contains("the change of spec.image applies"), "{said}");
    assert!(!said.contains(advice), "{said}");
}

#[test]
fn an_end_that_is_already_reported_counts_more_than_a_wish() {
    type Wish = fn(&mut World);
    let wishes: [Wish; 3] = [
        |world| suspend(world, SuspendMode::Immediate),
        |world| cancel(world, CancelMode::Graceful),
        |world| cancel(world, CancelMode::Immediate),
    ];
    for wish in wishes {
        let mut world = working();
        world.ends(true, "Succeeded");
        wish(&mut world);
        assert_eq!(world.phase(), Phase::Succeeded);
        // Now the end is in status, and the wish changes nothing either.
        wish(&mut world);
        assert_eq!(world.phase(), Phase::Succeeded);
    }
}

#[test]
fn a_cancelled_job_is_ended_by_its_coordinator() {
    let mut world = working();
    cancel(&mut world, CancelMode::Graceful);
    assert_eq!(
        (world.phase(), reason(&world)),
        (Phase::Failed, "Cancelled")
    );
    assert_eq!(
        world.message(),
        "the job was cancelled by spec.cancel: wrong input"
    );
    assert!(
        world.log.contains(&"end run of generation 1".to_owned()),
        "{:?}",
        world.log
    );
}

#[test]
fn a_coordinator_that_does_not_end_a_cancelled_job_is_not_waited_for_without_end() {
    let mut world = World::running(json!({}));
    world.job.spec.storage.retain = Retain::Never;
    world.on_end_request = OnEndRequest::GoesOn;
    cancel(&mut world, CancelMode::Graceful);
    assert_eq!(reason(&world), "Cancelling");
    world.pass(230);
    world.settle();
    assert_eq!(reason(&world), "Cancelling");
    world.pass(20);
    world.settle();
    assert_eq!(
        (world.phase(), reason(&world)),
        (Phase::Failed, "Cancelled")
    );
    assert!(
        world.message().contains("kubectl zephyr gc"),
        "{}",
        world.message()
    );
}

#[test]
fn a_job_is_cancelled_in_each_state_in_which_no_coordinator_can_end_it() {
    type Reach = fn() -> World;
    let states: [(&str, Reach); 6] = [
        ("new", || World::new(json!({}))),
        ("waiting for its turn", || {
            let mut world = World::new(json!({}));
            world.turn = Turn::Wait(Waiting::default());
            world.settle();
            world
        }),
        ("starting", || {
            let mut world = World::new(json!({}));
            world.settle();
            world
        }),
        ("backing off", || {
            let mut world = World::running(json!({}));
            world.generations.clear();
            world.settle();
            world
        }),
        ("suspending", || {
            let mut world = working();
            suspend(&mut world, SuspendMode::Immediate);
            world
        }),
        ("suspended at creation", || {
            let mut world = World::new(json!({"suspend": true}));
            world.settle();
            world
        }),
    ];
    for (state, reach) in states {
        for mode in [CancelMode::Graceful, CancelMode::Immediate] {
            let mut world = reach();
            cancel(&mut world, mode);
            assert_eq!(world.phase(), Phase::Failed, "{state}");
            assert_eq!(reason(&world), "Cancelled", "{state}");
            let roots = world.generations.values().filter(|one| one.root.is_some());
            assert_eq!(roots.count(), 0, "{state}");
            // The ended job runs again only if it is restarted.
            world.job.spec.suspend = !world.job.spec.suspend;
            world.settle();
            assert_eq!(world.phase(), Phase::Failed, "{state}");
        }
    }
}

#[test]
fn an_operator_that_started_a_moment_ago_waits_for_the_stream_before_it_ends_a_cancelled_job() {
    let mut world = working();
    world.report = None;
    world.warming_up = true;
    cancel(&mut world, CancelMode::Graceful);
    assert!(!world.phase().is_final(), "{}", world.message());
    world.warming_up = false;
    world.settle();
    assert_eq!(reason(&world), "Cancelled");
}

/// Sets whether all tasks are complete and the coordinator writes the end of the job.
fn finishes(world: &mut World) {
    let report = world.report.as_mut().unwrap();
    report.phase = RunPhase::Finishing;
    report.tasks_to_drain = None;
    world.settle();
}

#[test]
fn a_coordinator_has_ten_seconds_to_write_that_a_job_is_suspended_at_once() {
    let mut world = working();
    world.job.spec.suspend = true;
    world.job.spec.suspend_policy.mode = SuspendMode::Immediate;
    world.settle();
    assert_eq!(world.generation(), 1);
    world.pass(9);
    world.settle();
    assert_eq!(world.generation(), 1);
    assert!(world.plan().requeue_after.unwrap() <= Duration::from_secs(1));
    world.pass(2);
    world.settle();
    assert_eq!(world.generation(), 2);
    let why = &world.job.status.generations[0].message;
    assert!(why.contains("mode is Immediate"), "{why}");
}

#[test]
fn a_job_whose_tasks_are_all_complete_may_end_before_it_is_suspended_or_cancelled() {
    type Stop = fn(&mut World);
    let stops: [Stop; 3] = [
        |world| suspend(world, SuspendMode::Drain),
        |world| suspend(world, SuspendMode::Immediate),
        |world| cancel(world, CancelMode::Immediate),
    ];
    for (position, stop) in stops.into_iter().enumerate() {
        let mut world = working();
        world.on_end_request = OnEndRequest::GoesOn;
        finishes(&mut world);
        world.job.spec.suspend_policy.drain_timeout = DurationText::new("1m");
        stop(&mut world);
        finishes(&mut world);
        assert!(!world.phase().is_final(), "{position}");
        assert_eq!(world.generation(), 1, "{position}");
        world.ends(true, "Succeeded");
        world.settle();
        assert_eq!(world.phase(), Phase::Succeeded, "{position}");
    }
    // The wait has an end.
    let mut world = working();
    finishes(&mut world);
    suspend(&mut world, SuspendMode::Immediate);
    finishes(&mut world);
    world.pass(61);
    world.settle();
    assert_eq!(world.generation(), 2);
}

#[test]
fn a_cancelled_job_waits_for_a_coordinator_that_starts_or_whose_stream_broke() {
    type Reach = fn() -> World;
    let states: [Reach; 2] = [
        || {
            let mut world = World::new(json!({}));
            world.settle();
            world.coordinator_pod(|pod| pod.ready = false);
            world.settle();
            world
        },
        || {
            let mut world = working();
            world.coordinator_pod(|pod| pod.ready = true);
            world.report.as_mut().unwrap().connected = false;
            world.settle();
            world
        },
    ];
    for (position, reach) in states.into_iter().enumerate() {
        let mut world = reach();
        cancel(&mut world, CancelMode::Graceful);
        assert_eq!(reason(&world), "Cancelling", "{position}");
        let message = &world.condition(ConditionType::Progressing).message;
        assert!(
            message.contains("as soon as the operator reaches it"),
            "{message}"
        );
        world.pass(250);
        world.settle();
        assert_eq!(world.phase(), Phase::Failed, "{position}");
        let message = world.message();
        assert!(message.contains("may keep its _STARTED.json"), "{message}");
    }
}

#[test]
fn a_coordinator_that_took_over_while_the_job_drains_may_still_end_its_tasks() {
    let mut world = working();
    suspend(&mut world, SuspendMode::Drain);
    drains(&mut world, 1);
    let report = world.report.as_mut().unwrap();
    (report.planned, report.tasks_to_drain) = (None, None);
    world.settle();
    assert_eq!(world.generation(), 1, "its workers still run tasks");
    world.generations.clear();
    world.settle();
    assert_eq!(world.generation(), 2, "nothing of the generation is left");
    let why = &world.job.status.generations[0].message;
    assert!(why.contains("running tasks were stopped: "), "{why}");
}

#[test]
fn a_generation_that_this_release_cannot_read_is_not_suspended() {
    let mut world = working();
    let root = world.current().root.as_mut().unwrap();
    root.frozen = Frozen::Unreadable(RootFault::OtherRelease {
        reason: "version 9".to_owned(),
        coordinator_address: "http://c".to_owned(),
    });
    suspend(&mut world, SuspendMode::Immediate);
    assert_eq!(world.generation(), 1);
    assert!(
        world
            .condition(ConditionType::Degraded)
            .message
            .contains("another release")
    );
}

/// Returns a job that has been active for `seconds` seconds and may be active for 100.
fn active_for(seconds: i64) -> World {
    let mut world = working();
    world.job.spec.active_deadline_seconds = Some(100);
    world.settle();
    world.pass(seconds);
    world.settle();
    world
}

#[test]
fn a_job_that_is_active_for_too_long_is_ended_by_its_coordinator() {
    let mut world = active_for(90);
    assert!(!world.phase().is_final());
    let wait = world.plan().requeue_after.unwrap();
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    world.pass(11);
    world.settle();
    assert_eq!(
        (world.phase(), reason(&world)),
        (Phase::Failed, "DeadlineExceeded")
    );
    let sentence = "the job was active for longer than spec.activeDeadlineSeconds allows (100 s)";
    assert_eq!(world.message(), sentence);
    assert!(world.log.contains(&"end run of generation 1".to_owned()));
    assert!(world.job.status.active_seconds >= 100);
    assert_eq!(world.job.status.active_since, None);
}

#[test]
fn time_in_which_a_job_is_suspended_or_waits_for_its_turn_does_not_count() {
    let mut world = active_for(60);
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.settle();
    world.pass(10_000);
    world.turn = Turn::Wait(Waiting::default());
    resume(&mut world);
    world.pass(10_000);
    world.settle();
    world.turn = Turn::Free;
    world.settle();
    // The time until the coordinator is ready does not count either.
    world.pass(20);
    world.coordinator_is(true);
    world.says(RunPhase::Running, 8);
    world.settle();
    let before = world.job.status.active_seconds;
    assert!((60..70).contains(&before), "{before}");
    world.pass(25);
    world.settle();
    assert!(!world.phase().is_final(), "{}", world.message());
    world.pass(20);
    world.settle();
    assert_eq!(reason(&world), "DeadlineExceeded");
}

#[test]
fn a_deadline_can_be_changed_while_the_job_runs() {
    let mut world = active_for(99);
    world.job.spec.active_deadline_seconds = Some(1_000);
    world.pass(500);
    world.settle();
    assert!(!world.phase().is_final());
    world.job.spec.active_deadline_seconds = Some(200);
    world.settle();
    assert_eq!(reason(&world), "DeadlineExceeded");
    // Without `activeDeadlineSeconds` the job never ends because of its age.
    let mut world = working();
    world.pass(100_000_000);
    assert!(world.job.status.active_since.is_some());
    assert_eq!(active_deadline(&world.job), None);
}

/// Returns a job whose coordinator must be ready within 100 seconds.
fn to_start() -> World {
    let mut world = World::new(json!({}));
    world.job.spec.start_deadline_seconds = Some(100);
    world.settle();
    world
}

#[test]
fn a_job_whose_coordinator_is_never_ready_ends_in_time_and_says_why() {
    let mut world = to_start();
    world.coordinator_pod(|pod| {
        pod.node = None;
        pod.unschedulable = Some("0/3 nodes are available: Insufficient cpu".to_owned());
    });
    world.pass(90);
    world.settle();
    assert!(!world.phase().is_final(), "{}", world.message());
    let wait = world.plan().requeue_after.unwrap();
    assert!(wait <= Duration::from_secs(10), "{wait:?}");
    // An operator that has just started does not know whether the coordinator was ready.
    world.pass(11);
    world.warming_up = true;
    world.settle();
    assert!(!world.phase().is_final(), "{}", world.message());
    world.warming_up = false;
    world.settle();
    assert_eq!(
        (world.phase(), reason(&world)),
        (Phase::Failed, "StartDeadlineExceeded")
    );
    let message = world.message();
    let words = "no coordinator was ready within spec.startDeadlineSeconds (100 s): ";
    assert!(message.starts_with(words), "{message}");
    assert!(message.contains("Insufficient cpu"), "{message}");
}

#[test]
fn time_in_which_a_job_is_suspended_does_not_delay_its_start() {
    let mut world = to_start();
    world.pass(60);
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.settle();
    assert_eq!(world.job.status.starting_since, None);
    let before = world.job.status.starting_seconds;
    assert!((60..65).contains(&before), "{before}");
    world.pass(10_000);
    world.turn = Turn::Wait(Waiting::default());
    resume(&mut world);
    world.pass(10_000);
    world.settle();
    world.turn = Turn::Free;
    world.settle();
    world.pass(30);
    world.settle();
    assert!(!world.phase().is_final(), "{}", world.message());
    world.pass(15);
    world.settle();
    assert_eq!(reason(&world), "StartDeadlineExceeded");
}

#[test]
fn a_job_that_has_started_has_no_start_deadline_any_more() {
    let mut world = to_start();
    world.coordinator_is(true);
    world.settle();
    assert_eq!(world.job.status.starting_since, None);
    // It is suspended in the same second.
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.settle();
    assert_eq!(world.job.status.active_seconds, 1);
    resume(&mut world);
    world.pass(1_000);
    world.settle();
    assert_eq!(world.job.status.starting_since, None);
    assert!(reason(&world) != "StartDeadlineExceeded");
}

/// Otherwise many resumed jobs could start at once and keep each other out.
#[test]
fn a_resumed_job_that_has_worked_counts_as_starting_until_it_works_again() {
    let mut world = working();
    // A plan without shards needs no worker.
    world.says(RunPhase::Running, 0);
    world.settle();
    let progress = |world: &World| {
        let mut job = ZephyrJob::new("count", world.job.spec.clone());
        job.status = Some(world.job.status.clone());
        StartProgress::of(&job)
    };
    assert!(world.job.status.working_since.is_some());
    assert_eq!(progress(&world), StartProgress::Aside);
    suspend(&mut world, SuspendMode::Immediate);
    world.pods.clear();
    world.settle();
    world.job.status.progress = Some("50%".to_owned());
    resume(&mut world);
    assert!(
        matches!(
            progress(&world),
            StartProgress::Starts { generation: 2, .. }
        ),
        "{:?}",
        progress(&world)
    );
    world.coordinator_is(true);
    world.says(RunPhase::Running, 0);
    world.settle();
    assert_eq!(progress(&world), StartProgress::Aside);
}

#[test]
fn a_graceful_cancel_may_remove_the_output_and_says_so_if_no_coordinator_can() {
    for keep_output in [true, false] {
        let mut world = World::running(json!({}));
        world.worker_pod("w-0", |pod| pod.ready = true);
        world.settle();
        world.job.spec.cancel = Some(CancelSpec {
            keep_output,
            ..CancelSpec::default()
        });
        let plan = world.plan();
        let [Action::EndRun { removes_output, .. }] = plan.actions.as_slice() else {
            panic!("{plan}");
        };
        assert_eq!(*removes_output, !keep_output);
        world.coordinator_is(false);
        world.report = None;
        world.settle();
        world.pass(300);
        world.settle();
        assert_eq!(world.phase(), Phase::Failed);
        let says = world
            .message()
            .contains("it is not known whether its files were removed");
        assert_eq!(says, !keep_output, "{}", world.message());
    }
}

#[test]
fn a_cancelled_job_that_keeps_no_output_says_so_if_it_is_not_known_what_was_removed() {
    for (reason, removed, says) in [
        ("Cancelled", true, ""),
        ("Cancelled", false, "it is not known whether the files"),
        ("TaskFailed", false, "so the files of its output stay"),
    ] {
        let mut world = World::running(json!({}));
        world.job.spec.cancel = Some(CancelSpec {
            keep_output: false,
            ..CancelSpec::default()
        });
        world.ends(false, reason);
        let result = world.report.as_mut().unwrap().result.as_mut();
        result.unwrap().removed_output = removed;
        world.settle();
        assert_eq!(world.phase(), Phase::Failed);
        let message = world.message();
        assert!(message.contains(says), "{message}");
        assert_eq!(message.contains("files of its output"), !says.is_empty());
    }
}

#[test]
fn operators_that_start_again_and_again_wait_for_the_end_for_twice_the_usual_time_in_all() {
    let mut world = World::running(json!({}));
    world.worker_pod("w-0", |pod| pod.ready = true);
    world.settle();
    world.job.spec.cancel = Some(CancelSpec::default());
    world.on_end_request = OnEndRequest::GoesOn;
    let mut minutes = 0;
    while world.phase() != Phase::Failed {
        assert!(minutes <= 9, "{}", world.message());
        world.reconcile();
        world.pass(60);
        // Another operator does not know that the coordinator was asked.
        world.end_requested_at = None;
        minutes += 1;
    }
    assert!(minutes >= 8, "{minutes}");
}
