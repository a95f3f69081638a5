//! Tests that skipped records are counted once for each committed task, and that the job ends if
//! there are too many.

use super::cluster::{SKIPPING, TestCluster, attempt, output, plan, skipping as skip, task};
use crate::coordinator::record::{
    BadRecords, FinalPlace, JobResult, LogRecord, MoreOutput, OutputFile, TaskOutput,
};
use crate::coordinator::{Config, Effect, Event, FailureReason};
use crate::id::TaskAttempt;
use crate::pipeline::OnError;

fn cluster(shards: &[u32], most: Option<u64>, per_million: Option<u32>) -> TestCluster {
    let allowed = OnError {
        dead_letter: None,
        max_skipped: most,
        max_skipped_per_million: per_million,
        shows_messages: true,
    };
    let plan = skip(plan(shards), allowed);
    let mut cluster = TestCluster::of_plan(Config::new(3, 0), plan, 1, Vec::new());
    cluster.hello("a", 8);
    cluster
}

/// Returns the output of a task that read 100 records and skipped this number of them.
fn skipping(task: TaskAttempt, skipped: u64) -> TaskOutput {
    let bad = BadRecords {
        origin: SKIPPING,
        arrived: 100,
        skipped,
        first: (skipped > 0).then(|| format!("file {}: line 3: no", task.task.shard)),
    };
    TaskOutput {
        more: MoreOutput {
            bad: vec![bad],
            files: Vec::new(),
            counters: Vec::new(),
        }
        .boxed(),
        ..output(task, false)
    }
}

/// Records skipped so far, and the first of them.
fn skipped(cluster: &TestCluster) -> Option<(u64, String)> {
    let report = cluster.report();
    assert!(report.skipped.len() <= 1);
    let found = report.skipped.into_iter().next()?;
    assert_eq!(found.origin, SKIPPING);
    Some((found.records, found.first))
}

fn failure(cluster: &TestCluster) -> String {
    match cluster.result() {
        JobResult::Failed { reason, message } => {
            assert_eq!(reason, FailureReason::TooManySkipped);
            message
        }
        result @ JobResult::Succeeded { .. } => panic!("{result:?}"),
    }
}

#[test]
fn skipped_records_count_with_the_commit_and_the_first_shard_has_the_first_message() {
    let mut cluster = cluster(&[3, 1], None, None);
    for (shard, count) in [(2, 4), (0, 0), (1, 2)] {
        let task = attempt(0, shard, 1, 1);
        cluster.done_with("a", task, skipping(task, count));
    }
    assert_eq!(skipped(&cluster), None, "nothing is durable");
    cluster.durable();
    let all = Some((6, "file 1: line 3: no".to_owned()));
    assert_eq!(skipped(&cluster), all);
    // A repeated report of the same attempt, and a take-over, count nothing again.
    let again = attempt(0, 1, 1, 1);
    cluster.done_with("a", again, skipping(again, 2));
    cluster.settle();
    assert_eq!(skipped(&cluster), all);
    cluster.restart();
    assert_eq!(skipped(&cluster), all);
    cluster.hello("a", 8);
    cluster.passes(1_000, &["a"]);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(skipped(&cluster), all);
}

#[test]
fn a_lost_output_takes_its_skipped_records_along_until_the_task_is_done_again() {
    let mut cluster = cluster(&[1, 1], Some(4), None);
    let first = attempt(0, 0, 1, 1);
    cluster.done_with("a", first, skipping(first, 4));
    cluster.settle();
    let reader = cluster.only("a");
    cluster.finds_input_lost("a", reader, first);
    cluster.settle();
    assert_eq!(skipped(&cluster), None);
    let second = attempt(0, 0, 1, 2);
    assert_eq!(cluster.held("a"), [second]);
    cluster.done_with("a", second, skipping(second, 4));
    cluster.work();
    assert_eq!(
        skipped(&cluster).unwrap().0,
        4,
        "the records of the repeated attempt are counted once"
    );
    cluster.assert_succeeded();
}

#[test]
fn more_skipped_records_than_allowed_end_the_job_with_the_commit_that_exceeds_it() {
    let mut cluster = cluster(&[4, 1], Some(5), None);
    let (first, second) = (attempt(0, 3, 1, 1), attempt(0, 1, 1, 1));
    cluster.done_with("a", first, skipping(first, 5));
    cluster.settle();
    assert_eq!(skipped(&cluster).unwrap().0, 5);
    cluster.done_with("a", second, skipping(second, 1));
    cluster.settle();
    assert_eq!(
        failure(&cluster),
        "spec.pipeline.steps[1].onError.maxSkipped: 6 of 200 records were skipped; at most 5 may be; the first of them: file 1: line 3: no"
    );
}

#[test]
fn the_dead_letters_of_the_task_that_exceeds_the_limit_are_complete_before_the_job_ends() {
    let mut cluster = cluster(&[2, 1], Some(0), None);
    let task = attempt(0, 0, 1, 1);
    cluster.done_with("a", task, with_dead_letter(task));
    cluster.durable();
    assert_eq!(cluster.state.result(), None);
    cluster.settle();
    assert!(failure(&cluster).contains("1 of 100 records"));
    assert_eq!(cluster.state.uncompleted_files(), []);
    let stands = |record: &LogRecord| matches!(record, LogRecord::Finalized { task: of } if *of == task.task);
    assert!(cluster.ledger.iter().any(stands));
}

#[test]
fn a_take_over_between_the_commit_and_the_end_ends_the_job_too() {
    let mut cluster = cluster(&[2, 1], Some(5), None);
    let first = attempt(0, 0, 1, 1);
    cluster.done_with("a", first, skipping(first, 6));
    cluster.durable();
    // The record of the job's end was not durable, so it is lost.
    cluster.restart();
    cluster.settle();
    assert!(failure(&cluster).contains("6 of 100 records"));
}

#[test]
fn a_share_is_judged_when_all_tasks_of_the_stage_are_committed() {
    for (counts, succeeds) in [
        ([30, 0, 0], true),
        ([0, 0, 30], true),
        ([10, 11, 10], false),
    ] {
        // 10 %
        let mut cluster = cluster(&[3, 1], None, Some(100_000));
        for (shard, count) in (0..).zip(counts) {
            let task = attempt(0, shard, 1, 1);
            cluster.done_with("a", task, skipping(task, count));
            cluster.durable();
        }
        cluster.settle();
        if succeeds {
            assert_eq!(cluster.only("a").task, task(1, 0), "{counts:?}");
        } else {
            let message = failure(&cluster);
            let begins = "spec.pipeline.steps[1].onError.maxSkippedPercent: 31 of 300 records were skipped; at most 10 % may be";
            assert!(message.starts_with(begins), "{message}");
        }
    }
}

/// The same output with a dead letter.
fn with_dead_letter(task: TaskAttempt) -> TaskOutput {
    let mut output = skipping(task, 1);
    let place = FinalPlace::Staged {
        uri: format!("dead/{}", task.task),
        staged: format!("dead/{task}"),
    };
    let file = OutputFile {
        rows: 1,
        bytes: 1,
        crc32c: 1,
        place: place.into(),
    };
    if let Some(more) = &mut output.more {
        more.files.push(file);
    }
    output
}

fn with_dead_letters(shards: &[u32]) -> TestCluster {
    let allowed = OnError {
        dead_letter: Some("dead/{shard}".to_owned()),
        max_skipped: None,
        max_skipped_per_million: None,
        shows_messages: true,
    };
    let plan = skip(plan(shards), allowed);
    let mut cluster = TestCluster::of_plan(Config::new(3, 0), plan, 1, Vec::new());
    cluster.hello("a", 8);
    cluster
}

/// The attempts whose final files are being completed, with the number of files.
fn completions(cluster: &TestCluster) -> Vec<(TaskAttempt, usize)> {
    let asked = cluster.asked.iter().filter_map(|effect| match effect {
        Effect::Finalize { task, files } => Some((*task, files.len())),
        Effect::Send { .. }
        | Effect::Close { .. }
        | Effect::Append { .. }
        | Effect::PublishStage { .. }
        | Effect::Discard { .. }
        | Effect::WriteManifest { .. }
        | Effect::AttemptsEnded(_) => None,
    });
    asked.collect()
}

#[test]
fn a_dead_letter_is_completed_after_its_commit_is_durable_and_before_the_manifest() {
    let mut cluster = with_dead_letters(&[2, 1]);
    let (first, second) = (attempt(0, 0, 1, 1), attempt(0, 1, 1, 1));
    cluster.done_with("a", first, with_dead_letter(first));
    assert_eq!(completions(&cluster), []);
    cluster.durable();
    assert_eq!(completions(&cluster), [(first, 1)]);
    cluster.done_with("a", second, skipping(second, 0));
    cluster.durable();
    assert_eq!(
        completions(&cluster),
        [(first, 1)],
        "the other task has no dead letter"
    );
    let files = cluster.state.more_files();
    assert_eq!(files.len(), 1);
    cluster.settle();
    // After a take-over, completion is requested only for files without a record that they are
    // complete.
    cluster.restart();
    assert_eq!(completions(&cluster), []);
    cluster.hello("a", 8);
    cluster.passes(1_000, &["a"]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn dead_letters_of_a_task_that_runs_again_wait_for_those_of_its_first_attempt() {
    let mut cluster = with_dead_letters(&[1, 1]);
    let first = attempt(0, 0, 1, 1);
    cluster.done_with("a", first, with_dead_letter(first));
    cluster.durable();
    let asked = std::mem::take(&mut cluster.asked);
    let (finalize, publish): (Vec<Effect>, Vec<Effect>) = asked
        .into_iter()
        .partition(|effect| matches!(effect, Effect::Finalize { .. }));
    assert_eq!(finalize.len(), 1);
    cluster.asked = publish;
    cluster.settle();
    let reader = cluster.only("a");
    cluster.finds_input_lost("a", reader, first);
    cluster.settle();
    let second = attempt(0, 0, 1, 2);
    cluster.done_with("a", second, with_dead_letter(second));
    cluster.durable();
    assert_eq!(completions(&cluster), [], "the first one may still arrive");
    cluster.event(Event::FileFinalized { task: first.task });
    assert_eq!(completions(&cluster), [(second, 1)]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn a_dead_letter_that_is_lost_is_made_again() {
    let mut cluster = with_dead_letters(&[1, 1]);
    let first = attempt(0, 0, 1, 1);
    cluster.done_with("a", first, with_dead_letter(first));
    cluster.durable();
    cluster
        .asked
        .retain(|effect| !matches!(effect, Effect::Finalize { .. }));
    cluster.event(Event::FileLost { task: first });
    cluster.durable();
    let second = attempt(0, 0, 1, 2);
    assert!(
        cluster.held("a").contains(&second),
        "{:?}",
        cluster.held("a")
    );
    cluster.done_with("a", second, with_dead_letter(second));
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(skipped(&cluster).unwrap().0, 1);
}
