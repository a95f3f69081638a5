//! Tests of tasks whose commands take several slots of a worker.

use std::collections::BTreeMap;

use super::cluster::{TestCluster, attempt, plan};
use crate::coordinator::Config;
use crate::pipeline::Exec;
use crate::plan::{RecordOperation, RecordStep};

fn of_slots(slots: &[u32], shards: &[u32]) -> TestCluster {
    let mut plan = plan(shards);
    for (stage, slots) in plan.stages.iter_mut().zip(slots) {
        stage.steps.push(RecordStep {
            path: "spec.pipeline.steps[0].exec".to_owned(),
            operation: RecordOperation::Exec(Exec {
                command: vec!["cat".to_owned()],
                env: BTreeMap::new(),
                slots: *slots,
                may_ignore_input: false,
                reuse: false,
            }),
            on_error: None,
        });
    }
    TestCluster::of_plan(Config::new(3, 0), plan, 1, Vec::new())
}

#[test]
fn a_worker_gets_only_as_many_tasks_as_their_slots_fit_into_its_own() {
    let mut cluster = of_slots(&[2], &[9]);
    cluster.hello("four", 4);
    assert_eq!(cluster.held("four").len(), 2);
    cluster.hello("five", 5);
    assert_eq!(
        cluster.held("five").len(),
        2,
        "a task of two slots does not fit into the fifth slot"
    );
    cluster.done("four", attempt(0, 0, 1, 1));
    let held = cluster.held("four");
    assert!(
        held.contains(&attempt(0, 4, 1, 1)),
        "the next task took the place of the complete one: {held:?}"
    );
}

#[test]
fn a_worker_with_fewer_slots_than_a_command_asks_for_runs_one_at_a_time() {
    let mut cluster = of_slots(&[8], &[3]);
    cluster.hello("a", 2);
    assert_eq!(cluster.held("a"), [attempt(0, 0, 1, 1)]);
    cluster.done("a", attempt(0, 0, 1, 1));
    let held = cluster.held("a");
    assert_eq!(held.first(), Some(&attempt(0, 1, 1, 1)));
}
