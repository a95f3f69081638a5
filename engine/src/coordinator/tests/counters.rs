//! Tests that the counters of own code are added once for each committed task, whatever was
//! repeated or lost.

use super::cluster::{TestCluster, attempt, output, plan};
use crate::coordinator::counters::{CounterName, MAX_COUNT, MAX_COUNTERS};
use crate::coordinator::record::{FailureClass, JobResult, MoreOutput, TaskOutput};
use crate::coordinator::{Config, FailureReason};
use crate::id::TaskAttempt;

fn cluster(shards: &[u32]) -> TestCluster {
    let mut cluster = TestCluster::of_plan(Config::new(3, 0), plan(shards), 1, Vec::new());
    cluster.hello("a", 8);
    cluster
}

/// An output whose commands have counted this.
fn counting(task: TaskAttempt, counts: &[(&str, u64)]) -> TaskOutput {
    let counters = counts
        .iter()
        .map(|(name, count)| (CounterName::parse(name).unwrap(), *count));
    let more = MoreOutput {
        counters: counters.collect(),
        ..MoreOutput::default()
    };
    TaskOutput {
        more: more.boxed(),
        ..output(task, false)
    }
}

fn counted(cluster: &TestCluster) -> Vec<(String, u64)> {
    let counters = cluster.report().counters.into_iter();
    counters
        .map(|(name, count)| (name.to_string(), count))
        .collect()
}

fn expected(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    let counts = counts.iter();
    counts
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[test]
fn counters_are_added_up_with_the_commit_and_once_after_repeats_and_a_take_over() {
    let mut cluster = cluster(&[3, 1]);
    let failed = attempt(0, 0, 1, 1);
    cluster.fails("a", failed, FailureClass::Application, "exit code 1");
    for (shard, count) in [(1, 5), (2, 7)] {
        let task = attempt(0, shard, 1, 1);
        cluster.done_with("a", task, counting(task, &[("b", count), ("zero", 0)]));
    }
    assert_eq!(counted(&cluster), [], "nothing is durable");
    cluster.durable();
    assert_eq!(counted(&cluster), expected(&[("b", 12), ("zero", 0)]));
    let again = attempt(0, 1, 1, 1);
    cluster.done_with("a", again, counting(again, &[("b", 5), ("zero", 0)]));
    cluster.settle();
    assert_eq!(counted(&cluster), expected(&[("b", 12), ("zero", 0)]));
    cluster.restart();
    assert_eq!(counted(&cluster), expected(&[("b", 12), ("zero", 0)]));
    cluster.hello("a", 8);
    cluster.passes(60_000, &["a"]);
    let second = cluster.only("a");
    cluster.done_with("a", second, counting(second, &[("a", MAX_COUNT)]));
    cluster.settle();
    assert_eq!(counted(&cluster)[0], ("a".to_owned(), MAX_COUNT));
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn a_lost_output_takes_its_counters_along_until_the_task_is_done_again() {
    let mut cluster = cluster(&[1, 1]);
    let first = attempt(0, 0, 1, 1);
    cluster.done_with("a", first, counting(first, &[("a", 4)]));
    cluster.settle();
    let reader = cluster.only("a");
    cluster.finds_input_lost("a", reader, first);
    cluster.settle();
    assert_eq!(counted(&cluster), []);
    let second = attempt(0, 0, 1, 2);
    cluster.done_with("a", second, counting(second, &[("a", 4)]));
    cluster.work();
    assert_eq!(counted(&cluster), expected(&[("a", 4)]));
    cluster.assert_succeeded();
}

#[test]
fn more_names_than_allowed_end_the_job_also_after_a_take_over() {
    for is_taken_over in [false, true] {
        let mut cluster = cluster(&[2, 1]);
        let names: Vec<String> = (0..MAX_COUNTERS).map(|n| format!("n{n:02}")).collect();
        let counts: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let (first, second) = (attempt(0, 0, 1, 1), attempt(0, 1, 1, 1));
        cluster.done_with("a", first, counting(first, &counts));
        cluster.settle();
        assert_eq!(counted(&cluster).len(), MAX_COUNTERS);
        cluster.done_with("a", second, counting(second, &[("more", 1)]));
        cluster.durable();
        if is_taken_over {
            // The record of the job's end was not durable, so it is lost.
            cluster.restart();
        }
        cluster.settle();
        let JobResult::Failed { reason, message } = cluster.result() else {
            panic!("the job succeeded");
        };
        assert_eq!(reason, FailureReason::TaskFailed);
        let words = "the commands of the job count under more names than allowed (got 21, such as more, n00, n01); at most 20 different names in all files ZEPHYR_COUNTERS";
        assert!(message.ends_with(words), "{message}");
    }
}
