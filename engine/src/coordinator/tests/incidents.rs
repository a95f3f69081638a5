//! Tests the incidents of `docs/faults.md` that one coordinator and a few workers can reproduce.
//! The name of each test contains the number of the incident.

use super::cluster::{TestCluster, attempt};
use crate::coordinator::config::MAX_SLOTS;
use crate::coordinator::record::{FailureClass, LogRecord};
use crate::coordinator::{Config, Effect, Event, PodEndCause, ToWorker};
use crate::id::StageId;

#[test]
fn fault_3583_what_is_kept_of_a_mapper_does_not_grow_with_the_reducers() {
    let run = |reducers| {
        let mut cluster = TestCluster::new(&[50, reducers]);
        cluster.hello("a", 50);
        for shard in 0..50 {
            cluster.done("a", attempt(0, shard, 1, 1));
        }
        cluster.durable();
        (cluster.ledger.clone(), cluster.asked.clone())
    };
    let (records, asked) = run(10_000);
    assert_eq!((records.len(), asked.len()), (50, 1));
    assert!(matches!(&asked[0], Effect::PublishStage { outputs, .. } if outputs.len() == 50));
    assert_eq!(run(1), (records, asked));
}

#[test]
fn fault_8186_four_thousand_files_are_completed_one_by_one_and_none_is_read() {
    let shards = 4_575;
    let mut cluster = TestCluster::new(&[shards]);
    cluster.hello("a", MAX_SLOTS);
    let mut asked = Vec::new();
    loop {
        let held = cluster.held("a");
        if held.is_empty() {
            break;
        }
        for task in held {
            cluster.done("a", task);
        }
        cluster.durable();
        asked.append(&mut cluster.asked.clone());
        cluster.settle();
    }
    cluster.settle();
    cluster.assert_succeeded();
    let finalized = asked
        .iter()
        .filter(|effect| matches!(effect, Effect::Finalize { .. }));
    assert_eq!(finalized.count(), shards as usize);
    assert_eq!(
        asked.len(),
        shards as usize,
        "the storage gets no other request"
    );
}

#[test]
fn fault_6673_failures_of_different_tasks_do_not_add_up() {
    let mut cluster = TestCluster::new(&[20]);
    cluster.hello("a", 20);
    for words in ["one", "two"] {
        for task in cluster.held("a") {
            cluster.fails("a", task, FailureClass::Application, words);
        }
        cluster.settle();
        cluster.passes(60_000, &["a"]);
        assert_eq!(cluster.held("a").len(), 20);
    }
    cluster.work();
    cluster.assert_succeeded();
    let failed = cluster
        .ledger
        .iter()
        .filter(|record| matches!(record, LogRecord::Failed { .. }));
    assert_eq!(failed.count(), 40);
}

#[test]
fn fault_3034_a_hundred_restarts_of_the_coordinator_cost_nothing() {
    let mut cluster = TestCluster::new(&[100, 4]);
    cluster.hello("a", 1);
    for _ in 0..100 {
        cluster.restart();
        cluster.hello("a", 1);
        cluster.passes(1_000, &["a"]);
        let task = cluster.only("a");
        cluster.done("a", task);
        cluster.settle();
    }
    cluster.work();
    cluster.assert_succeeded();
    assert!(
        cluster
            .commits()
            .values()
            .all(|attempts| attempts.len() == 1)
    );
    let charged = cluster
        .ledger
        .iter()
        .filter(|record| matches!(record, LogRecord::Failed { .. } | LogRecord::Revoked { .. }));
    assert_eq!(charged.count(), 0);
}

#[test]
fn fault_7948_a_reducer_that_fails_runs_again_alone() {
    let mut cluster = TestCluster::new(&[20, 3]);
    cluster.hello("a", 20);
    for shard in 0..20 {
        cluster.done("a", attempt(0, shard, 1, 1));
    }
    cluster.settle();
    cluster.received("a");
    for number in 1..=2 {
        let task = attempt(1, 0, 1, number);
        cluster.fails(
            "a",
            task,
            FailureClass::Application,
            &format!("try {number}"),
        );
        cluster.settle();
        cluster.passes(60_000, &["a"]);
    }
    let runs: Vec<_> = cluster
        .received("a")
        .into_iter()
        .filter_map(|message| match message {
            ToWorker::Run(tasks) => Some(tasks),
            ToWorker::Welcome { .. }
            | ToWorker::Cancel(_)
            | ToWorker::Ack(_)
            | ToWorker::Shutdown => None,
        })
        .flatten()
        .map(|dispatch| dispatch.task)
        .collect();
    assert_eq!(runs, [attempt(1, 0, 1, 2), attempt(1, 0, 1, 3)]);
    cluster.work();
    cluster.assert_succeeded();
}

#[test]
fn fault_5890_5050_an_idle_worker_gets_no_message_until_the_next_stage_begins() {
    let mut cluster = TestCluster::new(&[1, 2]);
    cluster.hello("a", 1);
    cluster.hello("b", 1);
    cluster.received("b");
    cluster.passes(60_000, &["a", "b"]);
    assert_eq!(cluster.received("b"), []);
    cluster.done("a", attempt(0, 0, 1, 1));
    cluster.durable();
    cluster.storage_answers();
    let effects = cluster.durable();
    let session = cluster.session("b");
    let is_run = |effect: &&Effect| {
        matches!(effect, Effect::Send { session: to, message: ToWorker::Run(tasks) }
            if *to == session && tasks.iter().all(|dispatch| dispatch.task.task.stage == StageId(1)))
    };
    assert_eq!(effects.iter().filter(is_run).count(), 1, "{effects:?}");
}

#[test]
fn fault_4117_5484_nothing_that_ends_after_the_result_changes_it() {
    let mut cluster = TestCluster::new(&[2]);
    for name in ["a", "b", "c"] {
        cluster.hello(name, 1);
    }
    cluster.work();
    cluster.assert_succeeded();
    let (ledger, session) = (cluster.ledger.len(), cluster.session("c"));
    let appended = |effects: &[Effect]| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Append { .. }))
    };
    for (name, cause) in [
        ("a", PodEndCause::Exit),
        ("b", PodEndCause::OutOfMemory),
        ("c", PodEndCause::Disruption),
    ] {
        cluster.dies(name);
        cluster.pod_ended(name, cause, "exit code 137");
    }
    let late = Event::Failed {
        session,
        task: attempt(0, 0, 1, 1),
        class: FailureClass::Application,
        setback: None,
        error: "late".to_owned(),
        lost_input: None,
        log: String::new(),
    };
    assert!(!appended(&cluster.event(late)));
    cluster.passes(120_000, &[]);
    assert!(cluster.unwritten.is_empty());
    assert_eq!(cluster.ledger.len(), ledger);
    cluster.assert_succeeded();
}

#[test]
fn fault_4190_progress_that_comes_after_its_result_is_not_added() {
    let mut cluster = TestCluster::new(&[2]);
    cluster.hello("a", 2);
    let (session, task) = (cluster.session("a"), attempt(0, 0, 1, 1));
    let progress = |records| Event::Progress {
        session,
        tasks: vec![(task, records)],
    };
    cluster.event(progress(7));
    assert_eq!(cluster.report().records.records_in, 7);
    cluster.done("a", task);
    cluster.event(progress(500));
    cluster.done("a", task);
    cluster.durable();
    assert_eq!(cluster.report().records.records_in, 20);
    cluster.event(progress(501));
    cluster.restart();
    assert_eq!(cluster.report().records.records_in, 20);
}

#[test]
fn fault_2943_containers_that_restart_in_the_same_pods_get_tasks_at_once() {
    let mut config = Config::new(3, 0);
    config.speculation = None;
    let mut cluster = TestCluster::with(config, &[6]);
    for name in ["a", "b", "c"] {
        cluster.hello(name, 1);
    }
    let before: Vec<_> = ["a", "b", "c"].map(|name| cluster.only(name)).into();
    for name in ["a", "b", "c"] {
        cluster.dies(name);
    }
    for name in ["a", "b", "c"] {
        cluster.hello_naming(name, 2, 1, Vec::new());
        assert_eq!(cluster.held(name).len(), 1, "{name} has a task at once");
    }
    let mut after: Vec<_> = ["a", "b", "c"].map(|name| cluster.only(name).task).into();
    after.sort();
    assert_eq!(
        after,
        before.iter().map(|task| task.task).collect::<Vec<_>>()
    );
    cluster.work();
    cluster.assert_succeeded();
}
