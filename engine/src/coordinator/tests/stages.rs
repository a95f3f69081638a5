//! Tests of stages: when a stage starts, lost outputs, final files, and the end of the job.

use super::cluster::{TestCluster, attempt, cancelled, output, task};
use crate::coordinator::config::MAX_FAILING_MS;
use crate::coordinator::record::{FailureClass, JobResult, LogRecord};
use crate::coordinator::report::Phase;
use crate::coordinator::{Config, Effect, Event, FailureReason};
use crate::id::{StageId, TaskAttempt, TaskId};

fn published(effects: &[Effect]) -> Vec<(u32, u32, usize)> {
    let publications = effects.iter().filter_map(|effect| match effect {
        Effect::PublishStage {
            stage,
            version,
            outputs,
        } => Some((stage.0, *version, outputs.len())),
        Effect::Send { .. }
        | Effect::Close { .. }
        | Effect::Append { .. }
        | Effect::Finalize { .. }
        | Effect::Discard { .. }
        | Effect::WriteManifest { .. }
        | Effect::AttemptsEnded(_) => None,
    });
    publications.collect()
}

#[test]
fn fault_5890_a_stage_begins_only_when_the_one_before_is_committed_published_and_recorded() {
    let mut cluster = TestCluster::new(&[2, 1]);
    cluster.hello("a", 4);
    cluster.done("a", attempt(0, 0, 1, 1));
    assert_eq!(published(&cluster.durable()), []);
    cluster.done("a", attempt(0, 1, 1, 1));
    assert_eq!(cluster.held("a"), [], "not durable yet");
    assert_eq!(published(&cluster.durable()), [(0, 0, 2)]);
    assert_eq!(cluster.held("a"), [], "not published yet");
    cluster.storage_answers();
    assert_eq!(cluster.held("a"), [], "not recorded yet");
    cluster.durable();
    assert_eq!(cluster.held("a"), [attempt(1, 0, 1, 1)]);
}

#[test]
fn promise_e10_a_job_without_any_shard_succeeds_with_no_output() {
    for shards in [&[0_u32][..], &[0, 0], &[0, 0, 0]] {
        let mut cluster = TestCluster::new(shards);
        assert_ne!(
            cluster.report().phase,
            Phase::Ended,
            "nothing is finished that is not recorded"
        );
        cluster.settle();
        let manifest = "_SUCCESS.json".to_owned();
        assert_eq!(
            cluster.result(),
            JobResult::Succeeded {
                files: 0,
                rows: 0,
                bytes: 0,
                manifest
            }
        );
        let finished = cluster
            .ledger
            .iter()
            .filter(|record| matches!(record, LogRecord::StageFinished { .. }));
        assert_eq!(
            finished.count(),
            shards.len(),
            "each stage was started and finished by itself"
        );
    }
}

#[test]
fn an_empty_first_stage_lets_the_next_one_run() {
    let mut cluster = TestCluster::new(&[0, 2]);
    cluster.hello("a", 1);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn fault_seed_the_end_comes_in_order_final_files_then_manifest_then_result() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.done("a", attempt(0, 0, 1, 1));
    assert!(
        cluster.asked.is_empty(),
        "no final file before its commit is durable"
    );
    cluster.durable();
    assert!(
        matches!(cluster.asked[..], [Effect::Finalize { task, .. }] if task == attempt(0, 0, 1, 1))
    );
    assert_eq!(cluster.report().phase, Phase::Running);
    cluster.storage_answers();
    cluster.done("a", attempt(0, 1, 1, 1));
    cluster.durable();
    assert_eq!(cluster.report().phase, Phase::Finishing);
    cluster.durable();
    assert!(
        matches!(cluster.asked[..], [Effect::Finalize { .. }]),
        "no manifest yet: {:?}",
        cluster.asked
    );
    cluster.storage_answers();
    cluster.durable();
    assert!(
        matches!(&cluster.asked[..], [Effect::WriteManifest { files, .. }] if files.len() == 2)
    );
    cluster.storage_answers();
    assert_eq!(
        cluster.state.result(),
        None,
        "no result before it is durable"
    );
    assert_eq!(cluster.report().phase, Phase::Finishing);
    cluster.durable();
    assert_eq!(cluster.report().phase, Phase::Ended);
    cluster.assert_succeeded();
}

#[test]
fn a_job_fails_if_another_job_has_finished_in_its_folder_and_names_that_job() {
    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.done("a", attempt(0, 0, 1, 1));
    while !matches!(cluster.asked[..], [Effect::WriteManifest { .. }]) {
        cluster.storage_answers();
        cluster.durable();
    }
    let message = "it is of job ns/other".to_owned();
    cluster.event(Event::OutputTaken {
        message: message.clone(),
    });
    cluster.asked.clear();
    cluster.settle();
    assert_eq!(cluster.failure(), (FailureReason::OutputLost, message));
}

#[test]
fn a_job_that_loses_its_folder_completes_no_further_file_and_names_the_new_owner() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.done("a", attempt(0, 0, 1, 1));
    while !matches!(cluster.asked[..], [Effect::Finalize { .. }]) {
        cluster.durable();
    }
    let message = "it is of job ns/other".to_owned();
    cluster.event(Event::OutputTaken {
        message: message.clone(),
    });
    cluster.asked.clear();
    cluster.settle();
    assert_eq!(cluster.failure(), (FailureReason::OutputLost, message));
}

#[test]
fn fault_f31_a_job_that_the_operator_ends_fails_unless_its_files_are_complete() {
    let ended = || Event::EndedByOperator {
        reason: FailureReason::NoProgress,
        message: "no worker was alive".to_owned(),
    };
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.event(ended());
    cluster.event(ended());
    cluster.settle();
    let expected = (FailureReason::NoProgress, "no worker was alive".to_owned());
    assert_eq!(cluster.failure(), expected);

    let mut cluster = TestCluster::new(&[1]);
    cluster.hello("a", 1);
    cluster.done("a", attempt(0, 0, 1, 1));
    while !matches!(cluster.asked[..], [Effect::WriteManifest { .. }]) {
        cluster.storage_answers();
        cluster.durable();
    }
    cluster.event(ended());
    cluster.settle();
    cluster.assert_succeeded();
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let mut cluster = TestCluster::new(&[1, 1]);
    let outputs = String::new;
    let events = [
        Event::StagePublished {
            stage: StageId(0),
            version: 0,
            outputs: outputs(),
        },
        Event::StagePublished {
            stage: StageId(9),
            version: 0,
            outputs: outputs(),
        },
        Event::FileFinalized { task: task(1, 0) },
        Event::FileFinalized { task: task(9, 0) },
        Event::FileLost {
            task: attempt(1, 0, 1, 1),
        },
        Event::FileLost {
            task: attempt(9, 0, 1, 1),
        },
        Event::ManifestWritten {
            manifest: String::new(),
        },
        Event::OutputTaken {
            message: String::new(),
        },
        Event::Durable { through: u64::MAX },
        Event::Tick,
    ];
    for event in events {
        assert_eq!(cluster.event(event.clone()), [], "{event}");
    }
}

/// Returns a cluster in which two mappers are done and published, and the reducers run at `a`.
fn reducing() -> TestCluster {
    let mut cluster = TestCluster::new(&[2, 2]);
    cluster.hello("a", 2);
    for shard in 0..2 {
        cluster.done("a", attempt(0, shard, 1, 1));
    }
    cluster.settle();
    assert_eq!(
        cluster.held("a"),
        [attempt(1, 0, 1, 1), attempt(1, 1, 1, 1)]
    );
    cluster
}

#[test]
fn promise_e11_after_a_lost_output_its_task_and_then_its_readers_run_again() {
    let mut cluster = reducing();
    cluster.finds_input_lost("a", attempt(1, 0, 1, 1), attempt(0, 1, 1, 1));
    assert_eq!(
        cluster.unwritten,
        [LogRecord::Revoked {
            task: attempt(0, 1, 1, 1)
        }]
    );
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 1, 1, 2), attempt(1, 1, 1, 1)],
        "the producer runs again, and no other reader is started"
    );
    assert_eq!(cluster.report().stage.done, 1);
    // The other reader reports that the same output is lost. The mapper is not run a third time.
    cluster.finds_input_lost("a", attempt(1, 1, 1, 1), attempt(0, 1, 1, 1));
    assert_eq!(cluster.held("a"), [attempt(0, 1, 1, 2)]);
    cluster.done("a", attempt(0, 1, 1, 2));
    assert_eq!(
        published(&cluster.durable()),
        [(0, 1, 2)],
        "another version"
    );
    cluster.settle();
    cluster.passes(1_000, &["a"]);
    assert_eq!(
        cluster.held("a"),
        [attempt(1, 0, 1, 2), attempt(1, 1, 1, 2)]
    );
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(cluster.report().stage.failed, 0);
}

#[test]
fn an_output_that_is_lost_while_its_stage_is_published_again_is_made_again() {
    for recording in [false, true] {
        let mut cluster = reducing();
        cluster.finds_input_lost("a", attempt(1, 0, 1, 1), attempt(0, 0, 1, 1));
        cluster.done("a", attempt(0, 0, 1, 2));
        cluster.durable();
        if recording {
            cluster.storage_answers();
        }
        // A reader of the older listing reports that another output is lost.
        cluster.finds_input_lost("a", attempt(1, 1, 1, 1), attempt(0, 1, 1, 1));
        cluster.storage_answers();
        cluster.durable();
        assert_eq!(
            cluster.held("a"),
            [attempt(0, 1, 1, 2)],
            "recording: {recording}"
        );
        let before = cluster.ledger.clone();
        cluster.restart();
        assert_eq!(cluster.report().stage.done, 1, "{before:?}");
        cluster.hello("a", 2);
        cluster.passes(1_000, &["a"]);
        cluster.work();
        cluster.assert_succeeded();
    }
}

#[test]
fn a_report_that_a_foreign_output_is_lost_revokes_nothing() {
    let mut cluster = reducing();
    for foreign in [
        attempt(1, 0, 1, 1),
        attempt(0, 7, 1, 1),
        attempt(8, 0, 1, 1),
        attempt(0, 0, 1, 9),
    ] {
        let Some(mine) = cluster
            .held("a")
            .into_iter()
            .find(|task| task.task == task_of_reader())
        else {
            panic!()
        };
        cluster.finds_input_lost("a", mine, foreign);
        assert!(cluster.unwritten.is_empty(), "{foreign}");
        cluster.passes(60_000, &["a"]);
    }
}

fn task_of_reader() -> crate::id::TaskId {
    task(1, 0)
}

#[test]
fn an_output_that_is_lost_again_and_again_ends_the_job_but_uses_no_budget() {
    let mut cluster = TestCluster::new(&[1, 1]);
    cluster.hello("a", 1);
    for _ in 0..50 {
        cluster.settle();
        if cluster.state.result().is_some() {
            break;
        }
        cluster.passes(1_000, &["a"]);
        let held = cluster.only("a");
        if held.task.stage.0 == 0 {
            cluster.done("a", held);
        } else {
            let commits = cluster.commits()[&task(0, 0)].clone();
            let producer = TaskAttempt {
                task: task(0, 0),
                attempt: *commits.last().unwrap(),
            };
            cluster.finds_input_lost("a", held, producer);
        }
    }
    let (reason, message) = cluster.failure();
    assert_eq!(reason, FailureReason::OutputLost);
    assert!(
        message.contains("stage 1/2 map, shard 0") && message.contains("5 times"),
        "{message}"
    );
}

#[test]
fn a_final_file_that_is_lost_before_it_is_complete_is_made_again() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    for shard in 0..2 {
        cluster.done("a", attempt(0, shard, 1, 1));
    }
    cluster.durable();
    cluster.asked.remove(0);
    cluster.event(Event::FileLost {
        task: attempt(0, 0, 1, 1),
    });
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 2)]);
    // A repeated report is not another loss.
    cluster.event(Event::FileLost {
        task: attempt(0, 0, 1, 1),
    });
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 2)]);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(cluster.commits()[&task(0, 0)].len(), 2);
}

#[test]
fn a_repeated_task_that_nobody_needs_does_not_delay_the_end() {
    let mut cluster = reducing();
    cluster.hello("b", 1);
    cluster.hello("c", 1);
    // Reader 0 is now at b; then reader 1 finds a mapper's output lost, which reader 0 had read
    // before.
    cluster.finds_input_lost("a", attempt(1, 1, 1, 1), attempt(0, 0, 1, 1));
    cluster.done("a", attempt(1, 0, 1, 1));
    cluster.settle();
    assert_eq!(cluster.report().stage.index, 1);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn fault_3409_progress_counts_committed_and_running_tasks() {
    let mut cluster = TestCluster::new(&[3, 1]);
    cluster.hello("a", 2);
    let session = cluster.session("a");
    cluster.event(Event::Progress {
        session,
        tasks: vec![(attempt(0, 0, 1, 1), 7), (attempt(0, 2, 1, 1), 1_000)],
    });
    let report = cluster.report();
    assert_eq!((report.stage.index, report.stage.name.as_str()), (1, "map"));
    assert_eq!(
        (report.stage.done, report.stage.running, report.stage.total),
        (0, 2, 3)
    );
    assert_eq!(
        report.records.records_in, 7,
        "only records of attempts that run on that worker are counted"
    );
    assert_eq!((report.planned.stages, report.planned.max_shards), (2, 3));
    assert_eq!((report.tasks_done, report.tasks_total), (0, 4));
    cluster.work();
    let report = cluster.report();
    assert_eq!(
        (report.stage.index, report.stage.name.as_str()),
        (2, "reduce")
    );
    assert_eq!((report.tasks_done, report.tasks_total), (4, 4));
    assert_eq!(
        (report.records.records_in, report.records.bytes_in),
        (60, 600),
        "of the source"
    );
    assert_eq!(
        (report.records.records_out, report.records.bytes_out),
        (10, 100),
        "of the sink"
    );
}

#[test]
fn an_absurd_number_from_a_worker_affects_no_other_worker() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    let session = cluster.session("a");
    let tasks = cluster.held("a");
    let reports = tasks.iter().map(|task| {
        let mut output = super::cluster::output(*task, true);
        output.file.rows = u64::MAX;
        output.records_in = u64::MAX;
        (*task, output)
    });
    cluster.event(Event::Progress {
        session,
        tasks: tasks.iter().map(|task| (*task, u64::MAX)).collect(),
    });
    cluster.event(Event::Done {
        session,
        tasks: reports.collect(),
    });
    cluster.settle();
    cluster.report();
}

#[test]
fn a_failed_job_knows_which_uploads_will_never_be_completed() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[4]);
    cluster.hello("a", 4);
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.settle();
    // The final file of the first task is being completed. The commit of the second task is not
    // durable. The third task is running.
    cluster.done("a", attempt(0, 1, 1, 1));
    cluster.durable();
    cluster.done("a", attempt(0, 2, 1, 1));
    assert_eq!(cluster.state.uncompleted_files(), []);
    let class = FailureClass::Deterministic;
    cluster.fails("a", attempt(0, 3, 1, 1), class, "e");
    cluster.durable();
    assert_eq!(cluster.state.result(), None, "files are being completed");
    let message = cluster.report().message;
    assert!(
        message.starts_with("the job fails after the files of 2 complete tasks are written: "),
        "{message}"
    );
    // The store does not answer.
    cluster.passes(MAX_FAILING_MS - 500, &["a"]);
    assert_eq!(cluster.state.result(), None);
    assert_eq!(cluster.state.uncompleted_files(), []);
    cluster.passes(500, &["a"]);
    assert_eq!(
        cluster.state.uncompleted_files(),
        [],
        "the end is not durable"
    );
    cluster.durable();
    assert_eq!(cluster.failure().0, FailureReason::TaskFailed);
    let left = [1, 2].map(|shard| output(attempt(0, shard, 1, 1), true).file);
    assert_eq!(cluster.state.uncompleted_files(), left);
}

#[test]
fn a_file_that_is_completed_while_the_result_is_being_recorded_is_complete() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
    cluster.hello("a", 2);
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.durable();
    cluster.event(Event::EndedByOperator {
        reason: FailureReason::Cancelled,
        message: "m".to_owned(),
    });
    assert_eq!(cluster.state.result(), None, "the end is not durable");
    cluster.event(Event::FileFinalized { task: task(0, 0) });
    cluster.durable();
    assert_eq!(cluster.failure().0, FailureReason::Cancelled);
    let complete = output(attempt(0, 0, 1, 1), true).file;
    assert_eq!(cluster.state.completed_files(), [complete]);
    assert_eq!(cluster.state.uncompleted_files(), []);
}

#[test]
fn a_job_that_fails_completes_the_files_of_committed_tasks_first() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[5]);
    cluster.hello("a", 5);
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.durable();
    cluster.done("a", attempt(0, 1, 1, 1));
    let class = FailureClass::Deterministic;
    cluster.fails("a", attempt(0, 3, 1, 1), class, "e");
    let cancelled = cancelled(&cluster.received("a"));
    let still_ran = [2, 4].map(|shard| attempt(0, shard, 1, 1));
    assert_eq!(cancelled, still_ran, "nothing runs any more");
    // A report that was in transit, a failure, and a lost worker change nothing.
    cluster.done("a", attempt(0, 2, 1, 1));
    cluster.dies("a");
    cluster.hello("b", 5);
    cluster.passes(5_000, &["b"]);
    assert_eq!(cluster.held("b"), []);
    cluster.settle();
    assert_eq!(cluster.failure().0, FailureReason::TaskFailed);
    assert_eq!(cluster.state.uncompleted_files(), []);
    let commits: Vec<TaskId> = cluster.commits().into_keys().collect();
    assert_eq!(commits, [task(0, 0), task(0, 1)]);
}

#[test]
fn a_job_that_fails_does_not_wait_for_a_file_that_is_lost_or_that_another_job_may_have_replaced() {
    let failing = || {
        let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
        cluster.hello("a", 2);
        cluster.done("a", attempt(0, 0, 1, 1));
        cluster.durable();
        let class = FailureClass::Deterministic;
        cluster.fails("a", attempt(0, 1, 1, 1), class, "e");
        cluster.durable();
        assert_eq!(cluster.state.result(), None);
        cluster
    };
    let taken = || Event::OutputTaken {
        message: "another job writes there".to_owned(),
    };
    let ended = || Event::EndedByOperator {
        reason: FailureReason::NoProgress,
        message: "no worker".to_owned(),
    };
    let lost = || Event::FileLost {
        task: attempt(0, 0, 1, 1),
    };
    for event in [taken(), ended(), lost()] {
        let mut cluster = failing();
        cluster.event(event);
        cluster.durable();
        assert_eq!(cluster.failure().0, FailureReason::TaskFailed, "the first");
    }
}

#[test]
fn a_take_over_completes_the_files_of_a_job_that_was_about_to_fail() {
    let mut cluster = TestCluster::with(Config::new(1, 0), &[2]);
    cluster.hello("a", 2);
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.durable();
    let class = FailureClass::Deterministic;
    cluster.fails("a", attempt(0, 1, 1, 1), class, "e");
    cluster.durable();
    cluster.restart();
    cluster.settle();
    assert_eq!(cluster.failure().0, FailureReason::TaskFailed);
    assert_eq!(cluster.state.uncompleted_files(), []);
}

#[test]
fn a_job_that_succeeded_leaves_no_upload_behind() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(cluster.state.uncompleted_files(), []);
}

#[test]
fn a_report_lists_at_most_10_stages_and_leaves_complete_ones_out_first() {
    let mut cluster = TestCluster::new(&[1; 30]);
    let listed = |cluster: &TestCluster| {
        let report = cluster.report();
        let stages = report.stages.into_iter();
        stages
            .map(|stage| (stage.index, stage.done))
            .collect::<Vec<_>>()
    };
    let first: Vec<(u32, u32)> = (1..=10).map(|index| (index, 0)).collect();
    assert_eq!(listed(&cluster), first);
    cluster.hello("a", 1);
    cluster.work();
    cluster.assert_succeeded();
    let last: Vec<(u32, u32)> = (21..=30).map(|index| (index, 1)).collect();
    assert_eq!(listed(&cluster), last);
}
