//! Tests of plans whose stages form a graph: there are several sources, a stage reads several
//! others, and a stage is read by several others.

use super::cluster::{TestCluster, attempt, task};
use crate::coordinator::record::{FailureClass, LogRecord};
use crate::coordinator::{Config, ReplayProblem, State, ToWorker};
use crate::id::{Epoch, StageId, TaskId};

/// Starts a coordinator of a plan with five stages. Stages 1 and 2 read sources. Stage 3 reads both
/// of them, stage 4 reads only stage 1, and stage 5 reads stages 3 and 4.
fn diamond() -> TestCluster {
    TestCluster::graph(&SHARDS, &reads())
}

const SHARDS: [u32; 5] = [2, 1, 1, 1, 1];

fn reads() -> Vec<Vec<u32>> {
    vec![vec![], vec![], vec![1, 0], vec![0], vec![2, 3]]
}

/// The worker completes all tasks of this stage that it holds, and the records become durable.
fn complete(cluster: &mut TestCluster, name: &'static str, stage: u32) {
    for held in cluster.held(name) {
        if held.task.stage == StageId(stage) {
            cluster.done(name, held);
        }
    }
    cluster.settle();
}

fn tasks(cluster: &TestCluster, name: &'static str) -> Vec<TaskId> {
    cluster.held(name).iter().map(|held| held.task).collect()
}

/// Returns the inputs of each task that the worker was given since the last call.
fn inputs(cluster: &mut TestCluster, name: &'static str) -> Vec<(TaskId, Vec<String>)> {
    let received = cluster.received(name).into_iter();
    let runs = received.filter_map(|message| match message {
        ToWorker::Run(tasks) => Some(tasks),
        ToWorker::Welcome { .. } | ToWorker::Cancel(_) | ToWorker::Ack(_) | ToWorker::Shutdown => {
            None
        }
    });
    runs.flatten()
        .map(|run| (run.task.task, run.input_outputs))
        .collect()
}

#[test]
fn stages_without_a_common_input_run_at_the_same_time_and_status_says_so() {
    let mut cluster = diamond();
    assert_eq!(cluster.report().planned.max_shards, 4);
    cluster.hello("a", 4);
    assert_eq!(tasks(&cluster, "a"), [task(0, 0), task(0, 1), task(1, 0)]);
    assert_eq!(
        cluster.report().message,
        "2 stages run at the same time: stage 1/5 map: 0 of 2 tasks are done; \
         stage 2/5 reduce: 0 of 1 tasks are done"
    );
    complete(&mut cluster, "a", 0);
    assert_eq!(
        tasks(&cluster, "a"),
        [task(1, 0), task(3, 0)],
        "stage 4 reads only stage 1"
    );
    assert_eq!(cluster.report().stage.index, 2);
    cluster.work();
    cluster.assert_succeeded();
    assert_eq!(
        cluster.report().records.records_in,
        3 * 20,
        "of both sources"
    );
}

#[test]
fn a_stage_starts_when_all_that_it_reads_is_complete_and_is_given_each_list_in_order() {
    for first in [0, 1] {
        let mut cluster = diamond();
        cluster.hello("a", 4);
        complete(&mut cluster, "a", first);
        let held = tasks(&cluster, "a");
        assert!(!held.contains(&task(2, 0)), "{held:?}");
        cluster.received("a");
        complete(&mut cluster, "a", 1 - first);
        let given = inputs(&mut cluster, "a");
        let lists = ["outputs/2/0", "outputs/1/0"].map(str::to_owned).to_vec();
        assert!(given.contains(&(task(2, 0), lists)), "{given:?}");
        cluster.work();
        cluster.assert_succeeded();
    }
}

#[test]
fn a_lost_output_makes_only_its_producer_run_again_and_holds_up_only_its_readers() {
    let mut cluster = diamond();
    cluster.hello("a", 4);
    complete(&mut cluster, "a", 0);
    cluster.finds_input_lost("a", attempt(3, 0, 1, 1), attempt(0, 1, 1, 1));
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 1, 1, 2), attempt(1, 0, 1, 1)],
        "the producer runs again, and the stage that does not read it continues"
    );
    complete(&mut cluster, "a", 1);
    assert_eq!(
        cluster.held("a"),
        [attempt(0, 1, 1, 2)],
        "one of the two inputs of stage 3 is incomplete again"
    );
    cluster.received("a");
    complete(&mut cluster, "a", 0);
    cluster.passes(1_000, &["a"]);
    assert_eq!(tasks(&cluster, "a"), [task(2, 0), task(3, 0)]);
    let again = "outputs/1/1".to_owned();
    let given = inputs(&mut cluster, "a");
    assert!(given.contains(&(task(3, 0), vec![again])), "{given:?}");
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn an_output_that_one_reader_has_read_and_another_finds_lost_is_made_again() {
    let mut cluster = diamond();
    cluster.hello("a", 4);
    complete(&mut cluster, "a", 0);
    complete(&mut cluster, "a", 3);
    complete(&mut cluster, "a", 1);
    assert_eq!(cluster.held("a"), [attempt(2, 0, 1, 1)]);
    cluster.finds_input_lost("a", attempt(2, 0, 1, 1), attempt(0, 0, 1, 1));
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 2)]);
    complete(&mut cluster, "a", 0);
    cluster.passes(1_000, &["a"]);
    assert_eq!(
        cluster.held("a"),
        [attempt(2, 0, 1, 2)],
        "stage 4 is complete and does not run again"
    );
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn an_output_of_a_stage_that_the_task_does_not_read_is_not_revoked() {
    let mut cluster = diamond();
    cluster.hello("a", 4);
    complete(&mut cluster, "a", 0);
    complete(&mut cluster, "a", 1);
    // Stage 4 reads stage 1 alone.
    cluster.finds_input_lost("a", attempt(3, 0, 1, 1), attempt(1, 0, 1, 1));
    assert_eq!(cluster.unwritten, []);
    assert_eq!(cluster.held("a"), [attempt(2, 0, 1, 1)]);
}

#[test]
fn a_successor_continues_every_stage_of_the_graph() {
    for completed in [&[0][..], &[1], &[0, 3], &[0, 1], &[0, 1, 3], &[0, 1, 2, 3]] {
        let mut cluster = diamond();
        cluster.hello("a", 4);
        for stage in completed {
            complete(&mut cluster, "a", *stage);
        }
        let held = tasks(&cluster, "a");
        cluster.dies("a");
        cluster.restart();
        cluster.hello("b", 4);
        cluster.passes(1_000, &["b"]);
        assert_eq!(tasks(&cluster, "b"), held, "after {completed:?}");
        cluster.work();
        cluster.assert_succeeded();
    }
}

#[test]
fn a_successor_waits_for_an_input_that_was_lost_while_the_other_was_recorded() {
    let mut cluster = diamond();
    cluster.hello("a", 4);
    complete(&mut cluster, "a", 0);
    // Stage 2 is complete and about to be recorded when an output of stage 1 is found lost.
    cluster.done("a", attempt(1, 0, 1, 1));
    cluster.durable();
    cluster.storage_answers();
    cluster.finds_input_lost("a", attempt(3, 0, 1, 1), attempt(0, 0, 1, 1));
    cluster.durable();
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 2)]);
    cluster.dies("a");
    cluster.restart();
    cluster.hello("b", 4);
    cluster.passes(1_000, &["b"]);
    assert_eq!(cluster.held("b"), [attempt(0, 0, 2, 1)]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn the_worst_trouble_of_all_running_stages_is_shown() {
    let mut cluster = diamond();
    cluster.hello("a", 4);
    let only = attempt(1, 0, 1, 1);
    cluster.fails("a", only, FailureClass::Application, "it was killed");
    let message = cluster.report().message;
    assert!(
        message.starts_with("stage 2/5 reduce, shard 0: failed 1 of 3 times"),
        "{message}"
    );
}

#[test]
fn a_ledger_with_a_task_before_all_its_inputs_is_refused() {
    let plan = super::cluster::plan_of(&SHARDS, &reads());
    let done = |stage, shard| super::cluster::done_record(attempt(stage, shard, 1, 1), false);
    let finished = |stage: u32| LogRecord::StageFinished {
        stage: StageId(stage),
        outputs: format!("outputs/{stage}"),
    };
    let records = vec![done(1, 0), finished(1), done(2, 0)];
    let error = State::new(Config::new(3, 0), &plan, Epoch(2), records).unwrap_err();
    assert_eq!(
        (error.position, error.problem),
        (2, ReplayProblem::TooEarly(attempt(2, 0, 1, 1)))
    );
}
