//! Tests of failed jobs that are restarted, and of restarts in every other state.

use zephyr_crds::duration::DurationText;
use zephyr_crds::life::CancelSpec;

use super::*;

fn restart(world: &mut World, token: &str) {
    world.job.spec.restart = Some(token.to_owned());
    world.settle();
}

/// Ends the running generation as its coordinator reports it.
fn end(world: &mut World, succeeded: bool) {
    let report = world.report.as_mut().unwrap();
    report.result = Some(RunResult {
        succeeded,
        reason: if succeeded {
            EndReason::Succeeded
        } else {
            EndReason::TaskFailed
        },
        message: "stage 1/1 map, shard 0: failed".to_owned(),
        ..RunResult::default()
    });
    world.settle();
}

fn running() -> World {
    let mut world = World::running(json!({}));
    world.worker_pod("w-0", |pod| pod.ready = true);
    world.settle();
    world
}

fn failed() -> World {
    let mut world = running();
    end(&mut world, false);
    assert_eq!(world.phase(), Phase::Failed);
    world
}

/// Returns the restart in the frozen job of the running generation.
fn frozen_restart(world: &mut World) -> Option<(String, u32)> {
    let root = world.current().root.as_ref().unwrap();
    let restart = root.frozen.job().unwrap().restart.clone();
    restart.map(|restart| (restart.token, restart.generation))
}

#[test]
fn a_failed_job_runs_again_in_the_next_generation_when_restart_changes() {
    let mut world = failed();
    world.job.status.suspensions = 3;
    world.job.status.active_seconds = 50;
    world.pods.clear();
    restart(&mut world, "a");
    assert_eq!(world.generation(), 2);
    assert!(!world.phase().is_final());
    assert_eq!(frozen_restart(&mut world), Some(("a".to_owned(), 2)));
    let status = &world.job.status;
    assert_eq!((status.suspensions, status.active_seconds), (0, 0));
    assert_eq!(status.completion_time, None);
    let kept = status
        .history
        .iter()
        .any(|record| record.to == Phase::Failed && record.message.contains("shard 0: failed"));
    assert!(kept, "{:?}", status.history);
    let failed = world.condition(ConditionType::Failed);
    assert_eq!(failed.status, ConditionStatus::False);
    // The same text again changes nothing, before and after the next end.
    world.settle();
    assert_eq!(world.generation(), 2);
    world.says(RunPhase::Running, 8);
    end(&mut world, false);
    assert_eq!(world.phase(), Phase::Failed);
    let made = world.log.len();
    restart(&mut world, "a");
    assert_eq!((world.phase(), world.log.len()), (Phase::Failed, made));
    world.job.spec.restart = None;
    world.settle();
    assert_eq!(world.phase(), Phase::Failed);
    restart(&mut world, "b");
    assert_eq!(world.generation(), 3);
    assert_eq!(frozen_restart(&mut world), Some(("b".to_owned(), 3)));
}

#[test]
fn the_text_with_which_a_job_ends_does_not_restart_it() {
    let mut world = running();
    // The API server refuses this; an old definition may not.
    restart(&mut world, "early");
    assert_eq!(world.generation(), 1);
    end(&mut world, false);
    world.settle();
    assert_eq!((world.phase(), world.generation()), (Phase::Failed, 1));
    assert_eq!(world.job.status.restart.as_ref().unwrap().token, "early");
    world.pods.clear();
    restart(&mut world, "late");
    assert_eq!(world.generation(), 2);
}

#[test]
fn a_job_in_any_other_state_is_not_restarted() {
    type Reach = fn() -> World;
    let states: [(&str, Reach); 5] = [
        ("New", || {
            let mut world = World::new(json!({}));
            world.turn = Turn::Wait(Waiting::default());
            world.settle();
            world
        }),
        ("Active", running),
        ("Suspended", || {
            let mut world = running();
            world.job.spec.suspend = true;
            world.settle();
            world.pods.clear();
            world.settle();
            world
        }),
        ("Succeeded", || {
            let mut world = running();
            end(&mut world, true);
            world
        }),
        ("without data", || {
            let mut world = failed();
            world.job.spec.storage.retain = Retain::Never;
            world
        }),
    ];
    for (state, reach) in states {
        let mut world = reach();
        let before = (world.phase(), world.job.status.generation);
        restart(&mut world, "a");
        assert_eq!(
            (world.phase(), world.job.status.generation),
            before,
            "{state}"
        );
    }
}

#[test]
fn a_restarted_job_waits_for_its_turn_the_last_coordinator_and_a_valid_spec() {
    let mut world = running();
    world.job.spec.failed_pods_ttl = Some(DurationText::new("0s"));
    end(&mut world, false);
    world.coordinator_pod(|pod| pod.name = "last-coordinator".to_owned());
    world.turn = Turn::Wait(Waiting::default());
    restart(&mut world, "a");
    assert_eq!((world.generation(), world.phase()), (2, Phase::Pending));
    assert!(!world.generations.contains_key(&2));
    world.turn = Turn::Free;
    world.settle();
    assert!(!world.generations.contains_key(&2));
    assert!(
        world
            .message()
            .contains("pod last-coordinator of generation 1"),
        "{}",
        world.message()
    );
    world.pods.clear();
    world.errors = vec![FieldError::new("spec.image", "is wrong", "another one")];
    world.job.spec_version = Some(2);
    world.settle();
    assert!(
        world.message().contains("spec.image: is wrong"),
        "{}",
        world.message()
    );
    assert!(!world.generations.contains_key(&2));
    world.errors.clear();
    world.settle();
    assert!(world.generations.contains_key(&2));
}

#[test]
fn a_restarted_job_can_be_suspended_and_cancelled_before_it_begins() {
    for cancels in [false, true] {
        let mut world = failed();
        world.turn = Turn::Wait(Waiting::default());
        restart(&mut world, "a");
        if cancels {
            world.job.spec.cancel = Some(CancelSpec::default());
        } else {
            world.job.spec.suspend = true;
        }
        world.pods.clear();
        world.settle();
        let expected = if cancels {
            Phase::Failed
        } else {
            Phase::Suspended
        };
        assert_eq!(world.phase(), expected);
        assert!(!world.generations.contains_key(&2));
        world.job.spec.cancel = None;
        world.job.spec.suspend = false;
        world.turn = Turn::Free;
        restart(&mut world, "b");
        let expected = if cancels { 3 } else { 2 };
        assert_eq!(world.generation(), expected);
        assert!(world.generations.contains_key(&expected));
    }
}

#[test]
fn generations_before_a_restart_do_not_count() {
    let mut world = failed();
    world.job.spec.retries.max_generations = 2;
    world.pods.clear();
    restart(&mut world, "a");
    assert_eq!(world.generation(), 2);
    for generation in [3, 4] {
        world.coordinator_is(true);
        world.says(RunPhase::Running, 8);
        world.settle();
        world.generations.clear();
        world.report = None;
        world.pods.clear();
        world.settle();
        world.pass(10_000);
        world.settle();
        if generation == 3 {
            assert_eq!(world.generation(), 3, "the second since the restart");
        }
    }
    assert_eq!(world.finished_reason(), "GenerationsExhausted");
    assert_eq!(world.generation(), 3);
}

#[test]
fn an_operator_that_is_killed_after_any_write_of_a_restart_makes_one_generation_of_it() {
    for fuse in 1..12 {
        let mut world = failed();
        world.pods.clear();
        world.job.spec.restart = Some("a".to_owned());
        world.fuse = Some(fuse);
        world.written = None;
        while world.reconcile() && world.fuse != Some(0) && !world.generations.contains_key(&2) {
            world.written = None;
        }
        world.fuse = None;
        world.settle();
        assert_eq!(world.generation(), 2, "{fuse}");
        let minted = world.log.iter().filter(|line| line.starts_with("mint 2"));
        assert_eq!(minted.count(), 1, "{fuse}: {:?}", world.log);
        assert_eq!(frozen_restart(&mut world), Some(("a".to_owned(), 2)));
    }
}
