//! Tests of the status in each situation, and of when it is written.

use serde_json::json;
use zephyr_crds::field_error::FieldError;
use zephyr_crds::status::{
    Counter, MAX_COUNTER_NAME, MAX_COUNTERS, MAX_STAGE_NAME, MAX_STAGES, WorkerCounts,
};

use super::announce::announcements;
use super::due::{Due, due};
use super::*;
use crate::controller::diagnose::{CoordinatorHealth, Trouble, TroubleKind, WorkersHealth};
use crate::controller::plan::EndedGeneration;
use crate::controller::validate::validate;
use crate::run_report::{Planned, RunPhase, StageReport};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Returns a job with the status of a first generation that was just started.
fn started() -> ValidatedJob {
    let start = Start {
        generation: 1,
        ended: None,
        not_before: None,
        without_progress: 0,
        tasks_before: Some(0),
    };
    after_step(&new_job(), Lifecycle::Start(start), 100)
}

fn new_job() -> ValidatedJob {
    let job = serde_json::from_value(json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {"name": "count", "namespace": "team", "uid": "uid", "resourceVersion": "1", "generation": 3},
        "spec": crate::children::tests::frozen(json!({})).spec,
    }))
    .unwrap();
    validate(&job).unwrap().0
}

fn after_step(job: &ValidatedJob, lifecycle: Lifecycle, second: i64) -> ValidatedJob {
    let plan = Plan {
        lifecycle,
        ..Plan::default()
    };
    let status = project(
        job,
        &Verdict::Accepted,
        &Observed::default(),
        &plan,
        None,
        at(second),
    );
    ValidatedJob {
        status,
        ..job.clone()
    }
}

fn follow(
    job: &ValidatedJob,
    report: Option<RunReport>,
    diagnosis: Diagnosis,
    problem: Option<&WriteProblem>,
) -> ZephyrJobStatus {
    let observed = Observed {
        report,
        ..Observed::default()
    };
    project(
        job,
        &Verdict::Accepted,
        &observed,
        &Plan {
            diagnosis,
            ..Plan::default()
        },
        problem,
        at(200),
    )
}

/// A report of a job whose tasks are all done.
fn finishing() -> RunReport {
    RunReport {
        tasks_done: 12,
        ..report(RunPhase::Finishing)
    }
}

fn report(phase: RunPhase) -> RunReport {
    let running = StageReport {
        index: 1,
        name: "map".to_owned(),
        done: 3,
        total: 8,
        running: 2,
        failed: 1,
    };
    let next = StageReport {
        index: 2,
        name: "reduce".to_owned(),
        total: 4,
        ..StageReport::default()
    };
    RunReport {
        generation: 1,
        epoch: Some(4),
        connected: true,
        phase,
        planned: Some(Planned {
            stages: 2,
            max_shards: 8,
        }),
        stage: Some(running.clone()),
        stages: vec![running, next],
        counters: vec![("pages".to_owned(), 7)],
        tasks_done: 3,
        tasks_total: 12,
        ..RunReport::default()
    }
}

fn healthy(alive: i32) -> Diagnosis {
    Diagnosis {
        coordinator: CoordinatorHealth {
            ready: true,
            was_ready: true,
            pod: Some("c".to_owned()),
            ..CoordinatorHealth::default()
        },
        workers: WorkersHealth {
            counts: WorkerCounts {
                desired: 4,
                ready: alive,
                init: 4 - alive,
                ..WorkerCounts::default()
            }
            .with_summary(),
            replicas: 4,
            ..WorkersHealth::default()
        },
    }
}

/// Returns the status and the reason of a condition.
fn condition(status: &ZephyrJobStatus, kind: ConditionType) -> (bool, Reason) {
    let condition = find(status, kind).expect("the condition is there");
    (condition.status == ConditionStatus::True, condition.reason)
}

#[test]
fn a_started_job_has_every_field_that_determines_its_objects() {
    let status = started().status;
    assert_eq!(status.generation, Some(1));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(status.start_time, Some(Time(at(100))));
    assert_eq!(status.generations.len(), 1);
    // A job that was never suspended does not have the condition that says so.
    assert_eq!(status.conditions.len(), ConditionType::ALL.len() - 1);
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(3))
    );
    assert_eq!(
        condition(&status, ConditionType::Accepted),
        (true, Reason::SpecValid)
    );
    assert_eq!(
        condition(&status, ConditionType::Progressing),
        (true, Reason::Starting)
    );
    assert!(condition(&status, ConditionType::Reconciling).0);
    assert!(!condition(&status, ConditionType::Stalled).0);
    assert_eq!(
        condition(&status, ConditionType::Finished),
        (false, Reason::NotFinished)
    );
}

#[test]
fn the_phase_follows_the_run_and_the_workers() {
    let job = started();
    let planning = RunReport {
        planned: None,
        ..report(RunPhase::Planning)
    };
    let empty = RunReport {
        planned: Some(Planned {
            stages: 1,
            max_shards: 0,
        }),
        ..report(RunPhase::Running)
    };
    let cases = [
        (None, 0, Phase::Pending, Reason::Starting),
        (Some(planning.clone()), 0, Phase::Pending, Reason::Planning),
        (
            Some(report(RunPhase::Running)),
            0,
            Phase::WaitingForWorkers,
            Reason::WaitingForWorkers,
        ),
        (
            Some(report(RunPhase::Running)),
            1,
            Phase::Running,
            Reason::Running,
        ),
        (Some(empty), 0, Phase::Running, Reason::Running),
        (Some(finishing()), 0, Phase::Succeeding, Reason::Running),
        // The job fails, and its last calls end.
        (
            Some(report(RunPhase::Finishing)),
            1,
            Phase::Running,
            Reason::Running,
        ),
        (
            Some(report(RunPhase::StorageUnavailable)),
            1,
            Phase::Running,
            Reason::StorageUnavailable,
        ),
    ];
    for (report, alive, phase, reason) in cases {
        let status = follow(&job, report.clone(), healthy(alive), None);
        assert_eq!(
            (
                status.phase,
                condition(&status, ConditionType::Progressing).1
            ),
            (Some(phase), reason),
            "{report:?}"
        );
    }
    let running = ValidatedJob {
        status: follow(&job, Some(report(RunPhase::Running)), healthy(1), None),
        ..job
    };
    assert_eq!(
        follow(&running, Some(planning), healthy(1), None).phase,
        Some(Phase::Restarting)
    );
    assert_eq!(
        follow(&running, None, healthy(1), None).phase,
        Some(Phase::Running),
        "an operator that just started"
    );
}

#[test]
fn counters_come_from_the_report_and_the_pods() {
    let status = follow(
        &started(),
        Some(report(RunPhase::Running)),
        healthy(2),
        None,
    );
    assert_eq!(
        status
            .stage
            .as_ref()
            .map(|stage| (stage.name.as_str(), stage.summary.as_str())),
        Some(("1/2 map", "3/8"))
    );
    assert_eq!(
        status.stages,
        [
            StageStatus::new("1/2 map", 3, 8, 2, 1),
            StageStatus::new("2/2 reduce", 0, 4, 0, 0),
        ]
    );
    assert_eq!(status.progress.as_deref(), Some("25%"));
    assert_eq!(
        status.counters,
        [Counter {
            name: "pages".to_owned(),
            count: 7
        }]
    );
    assert_eq!(
        status
            .workers
            .as_ref()
            .map(|workers| workers.summary.as_str()),
        Some("2/4")
    );
    assert_eq!(
        status
            .coordinator
            .as_ref()
            .and_then(|coordinator| coordinator.epoch),
        Some(4)
    );
}

#[test]
fn a_problem_is_reported_in_the_affected_conditions_with_its_sentence() {
    let trouble = Trouble {
        kind: TroubleKind::Image,
        message: "coordinator pod c cannot start image x".to_owned(),
    };
    let coordinator = CoordinatorHealth {
        trouble: Some(trouble),
        unavailable_since: Some(at(150)),
        ..CoordinatorHealth::default()
    };
    let status = follow(
        &started(),
        None,
        Diagnosis {
            coordinator,
            ..Diagnosis::default()
        },
        None,
    );
    for kind in [ConditionType::Progressing, ConditionType::CoordinatorReady] {
        assert_eq!(
            condition(&status, kind),
            (false, Reason::ImageError),
            "{kind:?}"
        );
    }
    assert_eq!(
        condition(&status, ConditionType::Degraded),
        (true, Reason::ImageError)
    );
    let message = |kind| find(&status, kind).unwrap().message.as_str();
    let sentence = "coordinator pod c cannot start image x";
    assert_eq!(message(ConditionType::Degraded), sentence);
    assert_eq!(message(ConditionType::CoordinatorReady), sentence);
    let progressing = message(ConditionType::Progressing);
    let advice = progressing.strip_prefix(sentence).unwrap();
    assert!(advice.starts_with("; the next generation uses a corrected image"));
    let unavailable = status
        .coordinator
        .and_then(|coordinator| coordinator.unavailable_since);
    assert_eq!(unavailable, Some(Time(at(150))));
}

#[test]
fn fault_3908_a_refused_write_is_reported_before_anything_else() {
    let problem = WriteProblem {
        reason: Reason::Forbidden,
        message: "create Service: forbidden".to_owned(),
    };
    let status = follow(
        &started(),
        Some(report(RunPhase::Running)),
        healthy(1),
        Some(&problem),
    );
    assert_eq!(
        condition(&status, ConditionType::Progressing),
        (false, Reason::Forbidden)
    );
    assert_eq!(
        condition(&status, ConditionType::Degraded),
        (true, Reason::Forbidden)
    );
}

#[test]
fn a_write_that_fails_is_shown_until_it_succeeds() {
    let job = started();
    let problem = WriteProblem {
        reason: Reason::Blocked,
        message: "create Service team/c: failed calling webhook".to_owned(),
    };
    let failing = follow(&job, None, Diagnosis::default(), Some(&problem));
    for (kind, holds) in [
        (ConditionType::Progressing, false),
        (ConditionType::Degraded, true),
    ] {
        assert_eq!(condition(&failing, kind), (holds, Reason::Blocked));
        assert_eq!(find(&failing, kind).unwrap().message, problem.message);
    }
    let job = ValidatedJob {
        status: failing,
        ..job
    };
    let mended = follow(&job, None, Diagnosis::default(), None);
    assert_eq!(
        condition(&mended, ConditionType::Progressing),
        (true, Reason::Starting)
    );
    assert_eq!(
        condition(&mended, ConditionType::Degraded),
        (false, Reason::AsExpected)
    );
}

#[test]
fn a_next_generation_closes_the_record_of_the_one_before_and_forgets_its_timers() {
    let mut job = started();
    job.status.all_workers_dead_since = Some(Time(at(150)));
    job.status.coordinator = Some(CoordinatorStatus {
        epoch: Some(4),
        ..CoordinatorStatus::default()
    });
    let ended = EndedGeneration {
        cause: GenerationEnd::CoordinatorLost,
        message: "the node is gone".to_owned(),
    };
    let start = Start {
        generation: 2,
        ended: Some(ended),
        not_before: Some(at(305)),
        without_progress: 1,
        tasks_before: Some(3),
    };
    let status = after_step(&job, Lifecycle::Start(start), 300).status;
    assert_eq!(
        (status.generation, status.phase),
        (Some(2), Some(Phase::Restarting))
    );
    assert_eq!(status.backoff_until, Some(Time(at(305))));
    assert_eq!(
        status.start_time,
        Some(Time(at(100))),
        "of the job, not of the generation"
    );
    assert_eq!(
        (&status.all_workers_dead_since, &status.coordinator),
        (&None, &None)
    );
    assert_eq!(status.generations_without_progress, Some(1));
    let records: Vec<_> = status
        .generations
        .iter()
        .map(|record| (record.generation, record.cause))
        .collect();
    assert_eq!(
        records,
        [(1, Some(GenerationEnd::CoordinatorLost)), (2, None)]
    );
    assert_eq!(
        condition(&status, ConditionType::Progressing),
        (false, Reason::Backoff)
    );
    let transition = status.history.last().unwrap();
    assert_eq!(
        (transition.from, transition.to, transition.generation),
        (Some(Phase::Pending), Phase::Restarting, Some(2))
    );
}

#[test]
fn an_end_sets_finished_and_says_how_the_job_ended() {
    let finish = |cause, reason| Finish {
        cause,
        reason,
        message: "because".to_owned(),
        outputs: None,
        failed_task: None,
    };
    for (cause, reason, phase) in [
        (
            GenerationEnd::Succeeded,
            Reason::OutputComplete,
            Phase::Succeeded,
        ),
        (GenerationEnd::Failed, Reason::PlanFailed, Phase::Failed),
    ] {
        let status = after_step(&started(), Lifecycle::Finish(finish(cause, reason)), 400).status;
        let succeeded = phase == Phase::Succeeded;
        assert_eq!(status.phase, Some(phase));
        assert_eq!(condition(&status, ConditionType::Finished), (true, reason));
        assert_eq!(
            condition(&status, ConditionType::Complete),
            (succeeded, reason)
        );
        assert_eq!(
            condition(&status, ConditionType::Failed),
            (!succeeded, reason)
        );
        assert!(!condition(&status, ConditionType::Reconciling).0);
        assert_eq!(
            condition(&status, ConditionType::Stalled),
            (!succeeded, reason)
        );
        assert_eq!(status.completion_time, Some(Time(at(400))));
        assert_eq!(
            status.generations.last().and_then(|record| record.cause),
            Some(cause)
        );
        assert_eq!(
            find(&status, ConditionType::Finished).unwrap().message,
            "because"
        );
    }
}

#[test]
fn a_job_that_has_ended_has_no_workers_and_remembers_how_many_were_lost() {
    let mut running = started();
    let mut diagnosis = healthy(3);
    diagnosis.workers.counts.disruptions = 2;
    diagnosis.workers.counts.restarts = 5;
    running.status = follow(
        &running,
        Some(report(RunPhase::Running)),
        diagnosis.clone(),
        None,
    );
    let finish = Finish {
        cause: GenerationEnd::Succeeded,
        reason: Reason::OutputComplete,
        message: String::new(),
        outputs: None,
        failed_task: None,
    };
    let plan = Plan {
        lifecycle: Lifecycle::Finish(finish),
        diagnosis,
        ..Plan::default()
    };
    let status = project(
        &running,
        &Verdict::Accepted,
        &Observed::default(),
        &plan,
        None,
        at(400),
    );
    let expected = WorkerCounts {
        disruptions: 2,
        summary: "0/0".to_owned(),
        ..WorkerCounts::default()
    };
    assert_eq!(status.workers, Some(expected));
}

#[test]
fn an_end_that_somebody_partly_removed_is_written_again_once() {
    let finish = Finish {
        cause: GenerationEnd::Failed,
        reason: Reason::PlanFailed,
        message: "no file matches".to_owned(),
        outputs: None,
        failed_task: None,
    };
    let failed = after_step(&started(), Lifecycle::Finish(finish), 300);
    let refused = ValidatedJob {
        status: refused(&new_job(), "spec.image", 300),
        ..new_job()
    };
    let changes: [fn(&mut ZephyrJobStatus); 3] = [
        |status| status.conditions.clear(),
        |status| status.completion_time = None,
        |status| {
            let conditions = &mut status.conditions;
            conditions.retain(|one| one.r#type != ConditionType::Finished);
        },
    ];
    for job in [failed, refused] {
        for change in changes {
            let mut emptied = job.clone();
            change(&mut emptied.status);
            let again = after_step(&emptied, Lifecycle::Ended, 900).status;
            assert_eq!(again.completion_time, job.status.completion_time);
            assert_eq!(again.refusal().is_some(), job.status.refusal().is_some());
            let always = |kind: &ConditionType| *kind != ConditionType::Suspended;
            for kind in ConditionType::ALL.into_iter().filter(always) {
                let (Some(before), Some(after)) = (find(&job.status, kind), find(&again, kind))
                else {
                    panic!("{} is missing", kind.as_str());
                };
                assert_eq!(before.status, after.status, "{}", kind.as_str());
                assert_eq!(before.reason, after.reason, "{}", kind.as_str());
            }
            let job = ValidatedJob {
                status: again.clone(),
                ..job.clone()
            };
            assert_eq!(after_step(&job, Lifecycle::Ended, 950).status, again);
        }
    }
}

#[test]
fn an_end_that_is_found_in_the_ledger_removes_the_earlier_counters() {
    for succeeded in [true, false] {
        let job = started();
        let before = follow(&job, Some(report(RunPhase::Running)), healthy(1), None);
        assert!(before.stage.is_some() && before.progress.is_some());
        let job = ValidatedJob {
            status: before,
            ..job
        };
        let found = RunReport {
            planned: None,
            stage: None,
            tasks_done: 0,
            tasks_total: 0,
            counters: Vec::new(),
            ..report(RunPhase::Ended)
        };
        let finish = Finish {
            cause: GenerationEnd::Succeeded,
            reason: Reason::OutputComplete,
            message: String::new(),
            outputs: None,
            failed_task: None,
        };
        let finish = if succeeded {
            finish
        } else {
            Finish {
                cause: GenerationEnd::Failed,
                reason: Reason::TaskFailed,
                ..finish
            }
        };
        let plan = Plan {
            lifecycle: Lifecycle::Finish(finish),
            ..Plan::default()
        };
        let observed = Observed {
            report: Some(found),
            ..Observed::default()
        };
        let status = project(&job, &Verdict::Accepted, &observed, &plan, None, at(300));
        assert_eq!((&status.stage, &status.records), (&None, &None));
        assert_eq!(status.counters, []);
        let share = succeeded.then(|| "100%".to_owned());
        assert_eq!(status.progress, share);
    }
}

#[test]
fn a_refused_job_has_failed_and_each_condition_names_the_field() {
    let status = refused(&new_job(), "spec.image", 100);
    assert_eq!(
        (status.generation, status.phase),
        (None, Some(Phase::Failed))
    );
    assert_eq!(status.completion_time, Some(Time(at(100))));
    assert_eq!(status.observed_generation, Some(3));
    for (kind, holds) in [
        (ConditionType::Accepted, false),
        (ConditionType::Progressing, false),
        (ConditionType::Degraded, true),
        (ConditionType::Failed, true),
        (ConditionType::Finished, true),
    ] {
        assert_eq!(condition(&status, kind), (holds, Reason::SpecInvalid));
        let message = &find(&status, kind).unwrap().message;
        assert!(
            message.ends_with("spec.image: is wrong; name:tag"),
            "{message}"
        );
    }
    let complete = condition(&status, ConditionType::Complete);
    assert_eq!(complete, (false, Reason::SpecInvalid));
    let stalled = condition(&status, ConditionType::Stalled);
    assert_eq!(stalled, (true, Reason::SpecInvalid));
    let events = announcements(&ZephyrJobStatus::default(), &status);
    let notes: Vec<_> = events.iter().map(|event| event.note.as_str()).collect();
    assert_eq!(notes, ["spec.image: is wrong; name:tag"]);
}

/// Returns the status of `job` after its spec was refused for `field`.
fn refused(job: &ValidatedJob, field: &str, second: i64) -> ZephyrJobStatus {
    let error = FieldError::new(field, "is wrong", "name:tag");
    let plan = Plan {
        lifecycle: Lifecycle::Reject,
        ..Plan::default()
    };
    let verdict = Verdict::Refused(vec![error]);
    project(job, &verdict, &Observed::default(), &plan, None, at(second))
}

#[test]
fn a_second_refusal_for_another_reason_causes_an_event() {
    let job = new_job();
    let first = refused(&job, "spec.image", 100);
    let job = ValidatedJob {
        status: first.clone(),
        spec_version: Some(4),
        ..job
    };
    assert!(!job.has_ended(), "it was changed");
    let again = refused(&job, "spec.workers", 200);
    assert_eq!(announcements(&first, &again).len(), 1);
    assert_eq!(again.completion_time, Some(Time(at(200))));
    assert_eq!(announcements(&again, &again), []);
    let begun = after_step(
        &ValidatedJob {
            status: again,
            ..job
        },
        Lifecycle::Wait(Waiting::default()),
        300,
    );
    assert_eq!(begun.status.completion_time, None);
    let finished = condition(&begun.status, ConditionType::Finished);
    assert_eq!(finished, (false, Reason::NotFinished));
    assert_eq!(begun.status.phase, Some(Phase::Pending));
}

#[test]
fn a_condition_keeps_the_time_of_its_transition_while_only_its_wording_changes() {
    let job = started();
    let first = follow(&job, Some(report(RunPhase::Running)), healthy(1), None);
    let job = ValidatedJob {
        status: first,
        ..job
    };
    let other = RunReport {
        message: "something else".to_owned(),
        ..report(RunPhase::Running)
    };
    let status = project(
        &job,
        &Verdict::Accepted,
        &Observed {
            report: Some(other),
            ..Observed::default()
        },
        &Plan {
            diagnosis: healthy(1),
            ..Plan::default()
        },
        None,
        at(900),
    );
    let progressing = find(&status, ConditionType::Progressing).unwrap();
    assert_eq!(
        (
            progressing.message.as_str(),
            &progressing.last_transition_time
        ),
        ("something else", &Time(at(100)))
    );
}

#[test]
fn an_unchanged_status_is_not_written_and_counters_wait_longer_than_a_phase() {
    let job = started();
    let running = follow(&job, Some(report(RunPhase::Running)), healthy(1), None);
    let job = ValidatedJob {
        status: running.clone(),
        ..job
    };
    assert_eq!(
        follow(&job, Some(report(RunPhase::Running)), healthy(1), None),
        running,
        "the same facts, the same status"
    );
    assert_eq!(due(&running, &running, Some(at(0)), at(200)), Due::Never);

    let more = follow(
        &job,
        Some(RunReport {
            tasks_done: 5,
            ..report(RunPhase::Running)
        }),
        healthy(2),
        None,
    );
    assert_eq!(
        due(&running, &more, Some(at(195)), at(200)),
        Due::At(at(205))
    );
    assert_eq!(due(&running, &more, Some(at(190)), at(200)), Due::Now);
    assert_eq!(
        due(&running, &more, None, at(200)),
        Due::Now,
        "an operator that just started"
    );

    let finishing = follow(&job, Some(finishing()), healthy(1), None);
    assert_eq!(
        due(&running, &finishing, Some(at(199)), at(200)),
        Due::At(at(201))
    );
    assert_eq!(due(&running, &finishing, Some(at(198)), at(200)), Due::Now);
}

#[test]
fn the_begin_of_a_generation_that_waited_for_its_turn_causes_an_event() {
    let waits = after_step(&new_job(), Lifecycle::Wait(Waiting::default()), 90);
    let start = Start {
        generation: 1,
        ended: None,
        not_before: None,
        without_progress: 0,
        tasks_before: Some(0),
    };
    let first = after_step(&waits, Lifecycle::Start(start), 100);
    let remains = None;
    let held = after_step(&first, Lifecycle::Hold { remains }, 110);
    let resumed = after_step(&held, Lifecycle::Wait(Waiting::default()), 120);
    let again = after_step(&resumed, Lifecycle::TakeTurn, 130);
    for (before, next) in [(&waits, &first), (&resumed, &again)] {
        let events = announcements(&before.status, &next.status);
        let all: Vec<_> = events
            .iter()
            .map(|one| (one.is_warning, one.reason.as_str(), one.note.as_str()))
            .collect();
        assert_eq!(all, [(false, "Starting", "generation 1 starts")]);
        assert_eq!(announcements(&next.status, &next.status), []);
    }
}

#[test]
fn the_sentence_of_a_suspension_says_once_that_the_job_is_suspended() {
    let ended = EndedGeneration {
        cause: GenerationEnd::Suspended,
        message: "the job was suspended; all running tasks had ended".to_owned(),
    };
    let start = Start {
        generation: 2,
        ended: Some(ended),
        not_before: None,
        without_progress: 0,
        tasks_before: Some(0),
    };
    let status = after_step(&started(), Lifecycle::Start(start), 110).status;
    assert_eq!(
        find(&status, ConditionType::Progressing).unwrap().message,
        "the job is suspended by spec.suspend; all running tasks had ended; pods of the last generation end"
    );
    assert_eq!(
        status.generations[0].message,
        "the job was suspended; all running tasks had ended"
    );
}

#[test]
fn each_phase_and_each_new_problem_causes_one_event() {
    let job = started();
    let announced = |before: &ZephyrJobStatus, next: &ZephyrJobStatus| {
        announcements(before, next)
            .into_iter()
            .map(|one| (one.is_warning, one.reason))
            .collect::<Vec<_>>()
    };
    let running = follow(&job, Some(report(RunPhase::Running)), healthy(1), None);
    assert_eq!(
        announced(&job.status, &running),
        [(false, "Running".to_owned())]
    );
    assert_eq!(announced(&running, &running), []);
    let job = ValidatedJob {
        status: running.clone(),
        ..job
    };
    let blocked = follow(
        &job,
        Some(report(RunPhase::StorageUnavailable)),
        healthy(1),
        None,
    );
    assert_eq!(
        announced(&running, &blocked),
        [(true, "StorageUnavailable".to_owned())]
    );
    assert_eq!(announced(&blocked, &blocked), []);
}

/// Returns the job in this generation, after the previous one was lost with this message.
fn followed_by(job: &ValidatedJob, generation: u32, message: &str) -> ValidatedJob {
    let ended = EndedGeneration {
        cause: GenerationEnd::CoordinatorLost,
        message: message.to_owned(),
    };
    let start = Start {
        generation,
        ended: Some(ended),
        not_before: None,
        without_progress: generation,
        tasks_before: None,
    };
    after_step(job, Lifecycle::Start(start), i64::from(generation) * 1000)
}

#[test]
fn a_status_stays_below_eight_kibibytes_whatever_happened() {
    let long = "a message that goes on and on, ".repeat(100);
    let mut job = started();
    for generation in 2..=40 {
        job = followed_by(&job, generation, &long);
        let trouble = Some(Trouble {
            kind: TroubleKind::Crashing,
            message: long.clone(),
        });
        let mut diagnosis = healthy(0);
        diagnosis.workers.trouble = trouble;
        let spoken = RunReport {
            generation,
            message: long.clone(),
            epoch: Some(u64::MAX),
            tasks_done: u64::MAX,
            tasks_total: u64::MAX,
            ..report(RunPhase::Running)
        };
        for diagnosis in [diagnosis, healthy(1)] {
            job.status = follow(&job, Some(spoken.clone()), diagnosis, None);
            let bytes = serde_json::to_vec(&job.status).unwrap().len();
            assert!(
                bytes <= MAX_STATUS_BYTES,
                "{bytes} bytes in generation {generation}"
            );
        }
    }
    assert_eq!(job.status.generations.len(), MAX_GENERATIONS_SHOWN);
    assert_eq!(
        job.status.generations[0].generation, 1,
        "the number of generations used is counted from the first"
    );
    assert!(
        job.status.history.len() >= 5,
        "{} entries of history are left",
        job.status.history.len()
    );
}

#[test]
fn every_status_names_the_pods_of_the_workers_for_autoscalers() {
    let selector = Some("zephyr.dev/job-uid=uid,app.kubernetes.io/component=worker".to_owned());
    assert_eq!(started().status.selector, selector);
    let before = ValidatedJob {
        status: ZephyrJobStatus {
            selector: None,
            ..started().status
        },
        ..started()
    };
    assert_eq!(follow(&before, None, healthy(1), None).selector, selector);
}

#[test]
fn an_operator_that_just_started_writes_nothing_before_the_first_report() {
    let job = started();
    let running = follow(&job, Some(report(RunPhase::Running)), healthy(1), None);
    let job = ValidatedJob {
        status: running.clone(),
        ..job
    };
    let project_at = |warming_up| {
        let observed = Observed {
            warming_up,
            ..Observed::default()
        };
        project(
            &job,
            &Verdict::Accepted,
            &observed,
            &Plan {
                diagnosis: healthy(1),
                ..Plan::default()
            },
            None,
            at(900),
        )
    };
    assert_eq!(project_at(true), running);
    assert_ne!(project_at(false), running);
}

/// F27: one pod has no node, or a quota refuses one pod, and the operator is replaced.
#[test]
fn an_operator_that_just_started_repeats_what_status_says_of_waiting_pods() {
    let job = started();
    let waits = |kind, is_short| {
        let mut diagnosis = healthy(3);
        diagnosis.workers.is_short = is_short;
        diagnosis.workers.trouble = Some(Trouble {
            kind,
            message: "one pod waits".to_owned(),
        });
        diagnosis
    };
    let unscheduled = waits(TroubleKind::Capacity, false);
    let refused = waits(TroubleKind::Blocked, true);
    let mut not_asked_yet = refused.clone();
    not_asked_yet.workers.trouble = None;
    let cases = [
        ("no node", &unscheduled, None, &unscheduled),
        ("refused, not heard yet", &refused, None, &not_asked_yet),
        (
            "refused, heard, not asked yet",
            &refused,
            Some(report(RunPhase::Running)),
            &not_asked_yet,
        ),
    ];
    for (name, before, reported, after) in cases {
        let running = follow(&job, Some(report(RunPhase::Running)), before.clone(), None);
        let restarted = ValidatedJob {
            status: running.clone(),
            ..job.clone()
        };
        let observed = Observed {
            warming_up: true,
            report: reported,
            ..Observed::default()
        };
        let plan = Plan {
            diagnosis: after.clone(),
            ..Plan::default()
        };
        let next = project(
            &restarted,
            &Verdict::Accepted,
            &observed,
            &plan,
            None,
            at(900),
        );
        assert_eq!(next, running, "{name}");
    }
}

#[test]
fn a_status_stays_below_eight_kibibytes_in_any_alphabet() {
    let long = "\u{1F300}\"".repeat(600);
    let mut job = started();
    for generation in 2..=12 {
        job = followed_by(&job, generation, &long);
    }
    let stage = |index| StageReport {
        index,
        name: "\"".repeat(MAX_STAGE_NAME),
        done: u32::MAX,
        total: u32::MAX,
        running: u32::MAX,
        failed: u32::MAX,
    };
    let spoken = RunReport {
        generation: 12,
        stages: (1..).map(stage).take(MAX_STAGES).collect(),
        counters: (0..MAX_COUNTERS)
            .map(|number| (format!("{number:n>MAX_COUNTER_NAME$}"), u64::MAX))
            .collect(),
        ..report(RunPhase::Running)
    };
    job.status = follow(&job, Some(spoken), healthy(1), None);
    assert_eq!(job.status.counters.len(), MAX_COUNTERS);
    assert_eq!(job.status.stages.len(), MAX_STAGES);
    let finish = Finish {
        cause: GenerationEnd::Failed,
        reason: Reason::TaskFailed,
        message: long,
        outputs: None,
        failed_task: None,
    };
    let job = after_step(&job, Lifecycle::Finish(finish), 50_000);
    let bytes = serde_json::to_vec(&job.status).unwrap().len();
    assert!(bytes <= MAX_STATUS_BYTES, "{bytes} bytes");
}

#[test]
fn the_attempt_that_ended_the_job_is_in_status_with_its_last_lines_and_status_stays_small() {
    let failed = FailedTask {
        stage: 1,
        stage_name: "map".to_owned(),
        shard: 5,
        attempt: "e4a3".to_owned(),
        worker: Some(2),
        log: "Traceback:\n\u{1b}[31mValueError\ttwo".to_owned(),
    };
    let end = |failed_task| {
        Lifecycle::Finish(Finish {
            cause: GenerationEnd::Failed,
            reason: Reason::TaskFailed,
            message: "stage 1/2 map, shard 5: failed".to_owned(),
            outputs: None,
            failed_task,
        })
    };
    let ended = |job: &ValidatedJob, failed_task| {
        let observed = Observed {
            report: Some(report(RunPhase::Ended)),
            ..Observed::default()
        };
        let plan = Plan {
            lifecycle: end(failed_task),
            ..Plan::default()
        };
        project(job, &Verdict::Accepted, &observed, &plan, None, at(200))
    };
    let status = ended(&started(), Some(failed.clone()));
    let expected = FailureStatus {
        stage: "1/2 map".to_owned(),
        shard: 5,
        attempt: "e4a3".to_owned(),
        pod: Some("count-workers-g1-2".to_owned()),
        log: "Traceback:\n[31mValueError\ttwo".to_owned(),
    };
    assert_eq!(status.failure, Some(expected));
    assert_eq!(ended(&started(), None).failure, None);
    let mut job = started();
    for second in 0..20 {
        job.status.history.push(TransitionRecord {
            time: Time(at(second)),
            generation: Some(1),
            epoch: None,
            from: None,
            to: Phase::Running,
            reason: "R".repeat(64),
            message: "m".repeat(160),
        });
    }
    let long = FailedTask {
        log: "\"\n".repeat(1024),
        ..failed
    };
    let status = ended(&job, Some(long));
    assert!(serde_json::to_vec(&status).unwrap().len() <= MAX_STATUS_BYTES);
    assert!(
        status
            .failure
            .is_some_and(|failure| failure.log.len() > 1000)
    );
}

#[test]
fn a_message_that_is_too_long_loses_its_middle_and_keeps_what_to_do() {
    assert_eq!(cut("a\nb", 3), "a b");
    assert_eq!(cut("äbcdefghi", 9), "äbcdefghi");
    assert_eq!(cut("äbcdefghij", 9), "äbcde…hij");
}
