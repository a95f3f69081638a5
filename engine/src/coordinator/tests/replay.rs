//! Tests of the take-over: records in the ledger are kept, everything else is done again, and
//! foreign records are refused.

use super::cluster::{TestCluster, attempt, done_record, plan, task};
use crate::coordinator::record::{FailureClass, JobResult, LogRecord, Restart};
use crate::coordinator::report::Phase;
use crate::coordinator::{Config, Effect, FailureReason, ReplayProblem, State};
use crate::id::{Epoch, StageId, Timestamp};

fn finished(stage: u32) -> LogRecord {
    LogRecord::StageFinished {
        stage: StageId(stage),
        outputs: format!("outputs/{stage}"),
    }
}

fn failed(error: &str) -> LogRecord {
    LogRecord::Failed {
        task: attempt(0, 0, 1, 1),
        class: FailureClass::Application,
        error: error.to_owned(),
    }
}

fn resume(records: &[LogRecord], shards: &[u32]) -> TestCluster {
    TestCluster::resuming(Config::new(3, 0), shards, 9, records.to_vec())
}

#[test]
fn fault_2927_2960_promise_e6_a_coordinator_killed_at_every_durable_record_reruns_only_what_has_no_commit()
 {
    // A whole run shows how many log objects there are. After that, one run for each log object
    // ends at that object.
    let mut cluster = TestCluster::new(&[3, 2]);
    cluster.hello("a", 1);
    cluster.work();
    let whole = cluster.ledger.clone();
    cluster.assert_succeeded();
    for cut in 0..=whole.len() {
        let mut cluster = resume(&whole[..cut], &[3, 2]);
        let before = cluster.commits();
        cluster.hello("a", 1);
        cluster.passes(1_000, &["a"]);
        cluster.work();
        cluster.assert_succeeded();
        let after = cluster.commits();
        assert_eq!(after.len(), 5, "cut at {cut}");
        for (task, attempts) in after {
            assert_eq!(attempts.len(), 1, "cut at {cut}: {task}");
            let kept = before.get(&task).is_none_or(|before| *before == attempts);
            assert!(kept, "cut at {cut}: {task}");
        }
    }
}

#[test]
fn commits_that_were_not_durable_are_lost_and_made_again() {
    let mut cluster = TestCluster::new(&[1, 1]);
    cluster.hello("a", 1);
    let first = cluster.only("a");
    cluster.done("a", first);
    cluster.restart();
    assert_eq!(cluster.report().tasks_done, 0);
    // The worker never got an acknowledgement, so it reports the result again.
    cluster.hello_naming("a", 1, 1, vec![first]);
    cluster.done("a", first);
    cluster.settle();
    assert_eq!(cluster.commits()[&first.task], [first.attempt]);
}

#[test]
fn fault_4853_a_take_over_publishes_a_stage_that_was_committed_and_not_recorded() {
    let mut cluster = resume(&[done_record(attempt(0, 0, 1, 1), false)], &[1, 1]);
    assert!(
        matches!(&cluster.asked[..], [Effect::PublishStage { version: 0, outputs, .. }] if outputs.len() == 1)
    );
    cluster.settle();
    cluster.hello("a", 1);
    cluster.passes(1_000, &["a"]);
    assert_eq!(cluster.held("a"), [attempt(1, 0, 9, 1)]);
}

#[test]
fn a_take_over_completes_final_files_again_that_are_not_known_to_be_complete() {
    let records = [
        done_record(attempt(0, 0, 1, 1), true),
        done_record(attempt(0, 1, 2, 1), true),
        LogRecord::Finalized { task: task(0, 1) },
    ];
    let cluster = resume(&records, &[3]);
    assert!(
        matches!(cluster.asked[..], [Effect::Finalize { task, .. }] if task == attempt(0, 0, 1, 1))
    );
}

#[test]
fn a_take_over_after_the_last_final_file_writes_the_manifest() {
    let records = [
        done_record(attempt(0, 0, 1, 1), true),
        finished(0),
        LogRecord::Finalized { task: task(0, 0) },
    ];
    let mut cluster = resume(&records, &[1]);
    assert!(
        matches!(&cluster.asked[..], [Effect::WriteManifest { files, .. }] if files.len() == 1)
    );
    cluster.settle();
    cluster.assert_succeeded();
}

#[test]
fn fault_2960_a_coordinator_restarted_after_the_end_serves_the_result_and_does_nothing() {
    let result = JobResult::Failed {
        reason: FailureReason::TaskFailed,
        message: "why".to_owned(),
    };
    let mut cluster = resume(&[LogRecord::Result(result.clone())], &[3]);
    assert!(cluster.asked.is_empty() && cluster.unwritten.is_empty());
    assert_eq!(cluster.report().phase, Phase::Ended);
    assert_eq!(cluster.report().result, Some(result));
    cluster.hello("a", 1);
    cluster.passes(5_000, &["a"]);
    assert_eq!(cluster.held("a"), []);
}

#[test]
fn failure_counts_survive_and_a_budget_that_is_used_up_ends_the_job_at_once() {
    let mut cluster = resume(&[failed("one"), failed("two")], &[1]);
    assert_eq!(cluster.report().stage.failed, 1);
    cluster.hello("a", 1);
    cluster.passes(1_000, &["a"]);
    let last = cluster.only("a");
    cluster.fails("a", last, FailureClass::Application, "three");
    cluster.settle();
    assert!(cluster.failure().1.contains("failed 3 times"));

    let mut cluster = resume(&[failed("one"), failed("two"), failed("three")], &[1]);
    cluster.settle();
    assert!(cluster.failure().1.contains("failed 3 times"));
}

fn failure() -> LogRecord {
    LogRecord::Result(JobResult::Failed {
        reason: FailureReason::TaskFailed,
        message: "why".to_owned(),
    })
}

fn restarted(generation: u32) -> LogRecord {
    LogRecord::Restarted(Restart {
        token: format!("token {generation}"),
        generation,
    })
}

#[test]
fn a_restarted_job_goes_on_from_its_committed_tasks_with_new_budgets() {
    let before = [
        done_record(attempt(0, 1, 1, 1), true),
        failed("one"),
        failed("two"),
        failed("three"),
    ];
    // A job that was ended without its coordinator has no result in its ledger.
    for end in [vec![failure()], Vec::new()] {
        let records = [&before[..], &end, &[restarted(2)]].concat();
        let mut cluster = resume(&records, &[2]);
        assert_eq!(cluster.report().result, None);
        assert_eq!(cluster.report().stage.failed, 0, "{records:?}");
        cluster.hello("a", 2);
        cluster.passes(1_000, &["a"]);
        assert_eq!(cluster.held("a"), [attempt(0, 0, 9, 1)], "only the other");
        let task = cluster.only("a");
        cluster.fails("a", task, FailureClass::Application, "four");
        cluster.passes(60_000, &["a"]);
        cluster.work();
        cluster.assert_succeeded();
    }
}

#[test]
fn a_restarted_job_that_fails_again_has_the_new_result_and_can_be_restarted_again() {
    let mut records = vec![failure(), restarted(2), failure()];
    assert_eq!(resume(&records, &[1]).report().phase, Phase::Ended);
    records.push(restarted(3));
    let mut cluster = resume(&records, &[1]);
    cluster.hello("a", 1);
    cluster.passes(1_000, &["a"]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn outputs_that_were_lost_before_a_restart_count_no_more_and_their_attempts_stay_over() {
    let lost = |epoch| {
        let task = attempt(0, 0, epoch, 1);
        [done_record(task, false), LogRecord::Revoked { task }]
    };
    let mut records: Vec<LogRecord> = (1..=4).flat_map(lost).collect();
    records.push(failure());
    records.push(restarted(2));
    records.extend(lost(5));
    let mut cluster = resume(&records, &[1, 1]);
    assert_eq!(cluster.report().result, None);
    cluster.hello("a", 1);
    cluster.passes(1_000, &["a"]);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 9, 1)]);
}

#[test]
fn a_raised_budget_counts_from_the_next_take_over() {
    let records = vec![failed("one"), failed("two"), failed("three")];
    let mut cluster = TestCluster::resuming(Config::new(5, 0), &[1], 2, records);
    cluster.hello("a", 1);
    cluster.passes(1_000, &["a"]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn a_revoked_output_makes_its_stage_unfinished_until_it_is_finished_again() {
    let records = [
        done_record(attempt(0, 0, 1, 1), false),
        done_record(attempt(0, 1, 1, 1), false),
        finished(0),
        done_record(attempt(1, 0, 1, 1), true),
        LogRecord::Revoked {
            task: attempt(0, 1, 1, 1),
        },
    ];
    let mut cluster = resume(&records, &[2, 2]);
    cluster.hello("a", 4);
    cluster.passes(1_000, &["a"]);
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 1, 9, 1)],
        "only the lost output is made, and no reader of it runs yet"
    );
    let again = [
        &records[..],
        &[done_record(attempt(0, 1, 2, 1), false), finished(0)],
    ]
    .concat();
    let mut cluster = resume(&again, &[2, 2]);
    cluster.hello("a", 4);
    cluster.passes(1_000, &["a"]);
    assert_eq!(
        cluster.held("a"),
        [attempt(1, 1, 9, 1)],
        "only the reader that is not done runs"
    );
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn records_that_cannot_be_this_jobs_are_refused_by_position_and_reason() {
    let one = done_record(attempt(0, 0, 1, 1), false);
    let result = LogRecord::Result(JobResult::Failed {
        reason: FailureReason::Other("x".to_owned()),
        message: String::new(),
    });
    let success = JobResult::Succeeded {
        files: 0,
        rows: 0,
        bytes: 0,
        manifest: String::new(),
    };
    let table = [
        (
            vec![done_record(attempt(0, 9, 1, 1), false)],
            ReplayProblem::NoSuchTask(task(0, 9)),
        ),
        (
            vec![done_record(attempt(5, 0, 1, 1), false)],
            ReplayProblem::NoSuchTask(task(5, 0)),
        ),
        (
            vec![LogRecord::Finalized { task: task(5, 0) }],
            ReplayProblem::NoSuchTask(task(5, 0)),
        ),
        (vec![finished(4)], ReplayProblem::NoSuchStage(StageId(4))),
        (
            vec![done_record(attempt(0, 0, 9, 1), false)],
            ReplayProblem::NotOfThePast {
                task: attempt(0, 0, 9, 1),
                own: Epoch(9),
            },
        ),
        (
            vec![one.clone(), done_record(attempt(0, 0, 2, 1), false)],
            ReplayProblem::TwoWinners(attempt(0, 0, 2, 1)),
        ),
        (
            vec![one.clone(), one.clone()],
            ReplayProblem::TwoWinners(attempt(0, 0, 1, 1)),
        ),
        (
            vec![done_record(attempt(1, 0, 1, 1), true)],
            ReplayProblem::TooEarly(attempt(1, 0, 1, 1)),
        ),
        (
            vec![
                one.clone(),
                LogRecord::Revoked {
                    task: attempt(0, 0, 2, 1),
                },
            ],
            ReplayProblem::RevokedNotDone(attempt(0, 0, 2, 1)),
        ),
        (
            vec![one.clone(), finished(0)],
            ReplayProblem::StageIncomplete {
                stage: StageId(0),
                committed: 1,
                total: 2,
            },
        ),
        (
            vec![finished(1)],
            ReplayProblem::StageIncomplete {
                stage: StageId(1),
                committed: 0,
                total: 1,
            },
        ),
        (
            vec![one.clone(), LogRecord::Finalized { task: task(0, 0) }],
            ReplayProblem::FinalizedNotDone(task(0, 0)),
        ),
        (
            vec![LogRecord::Result(success)],
            ReplayProblem::SucceededIncomplete,
        ),
        (vec![result, one.clone()], ReplayProblem::AfterResult),
        (
            vec![failure(), restarted(2), failure(), one],
            ReplayProblem::AfterResult,
        ),
    ];
    for (records, problem) in table {
        let position = records.len() as u64 - 1;
        let error = State::new(Config::new(3, 0), &plan(&[2, 1]), Epoch(9), records)
            .err()
            .map(|error| {
                assert!(
                    error
                        .to_string()
                        .starts_with(&format!("ledger record {position}: ")),
                    "{error}"
                );
                error.problem
            });
        assert_eq!(error, Some(problem));
    }
}

#[test]
fn a_large_ledger_is_replayed_in_linear_time() {
    let shards = 200_000;
    let records = (0..shards).map(|shard| done_record(attempt(0, shard, 1, 1), false));
    let mut state = State::new(Config::new(3, 0), &plan(&[shards, 1]), Epoch(2), records).unwrap();
    let effects = state.start(Timestamp(0));
    assert!(
        matches!(&effects[..], [Effect::PublishStage { outputs, .. }] if outputs.len() == shards as usize)
    );
}
