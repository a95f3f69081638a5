//! Tests that the checks of whole runs can fail: each forbidden event is made to happen here once.

use std::sync::Arc;

use object_store::path::Path;
use object_store::{PutOptions, PutPayload};
use zephyr_engine::coordinator::record::{FinalPlace, LogRecord, OutputFile, TaskOutput};
use zephyr_engine::id::{Attempt, Epoch, JobUid, ShardId, StageId, TaskAttempt, TaskId};
use zephyr_proto::worker::{
    Ack, CoordinatorMessage, Failed, Run, RunTask, Shutdown, WorkerMessage, coordinator_message,
    worker_message,
};
use zephyr_store::attempts::{AttemptLine, Batch, put_attempts};
use zephyr_store::chance::Chance;
use zephyr_store::ledger::{Ledger, WriterToken};
use zephyr_store::storage::JobStorage;

use super::client::stores;
use super::faults::Faults;
use super::journal::Journal;
use super::store::{Applied, Server};
use super::truth::Truth;
use crate::convert::identity::to_wire;

fn attempt(shard: u32, number: u32) -> TaskAttempt {
    TaskAttempt {
        task: TaskId {
            stage: StageId(0),
            shard: ShardId(shard),
        },
        attempt: Attempt {
            epoch: Epoch(1),
            number,
        },
    }
}

fn done(task: TaskAttempt, upload: &str) -> LogRecord {
    LogRecord::Done {
        task,
        output: TaskOutput {
            file: OutputFile {
                rows: 1,
                bytes: 1,
                crc32c: 1,
                place: FinalPlace::Multipart {
                    uri: "s3://out/out/part".to_owned(),
                    upload: upload.to_owned(),
                    parts: vec![String::new()],
                }
                .into(),
            },
            records_in: 1,
            bytes_in: 1,
            more: None,
        },
    }
}

/// Returns a ledger in which attempt 1 of shard 0 is committed, with the expected facts.
async fn committed() -> (Journal, Arc<Truth>, Arc<Server>) {
    let journal = Journal::new(false);
    let truth = Arc::new(Truth::new(journal.clone()));
    let observer = {
        let truth = Arc::clone(&truth);
        Box::new(move |applied: &Applied<'_>| truth.applied(applied))
    };
    let server = Server::new(0, Faults::default(), journal.clone(), observer);
    let server = Arc::new(server);
    let stores = stores(&server, None, Chance::from_seed(0), &["s3://b"]);
    let storage = JobStorage::new(stores, "s3://b/jobs", JobUid::parse("uid").unwrap()).unwrap();
    let taken = Ledger::take_over(&storage, WriterToken::from_random(1)).await;
    let mut ledger = taken.unwrap().ledger;
    ledger.append(&[done(attempt(0, 1), "kept")]).await.unwrap();
    assert_eq!(journal.violations(), Vec::<String>::new());
    (journal, truth, server)
}

fn sent(message: coordinator_message::Message) -> CoordinatorMessage {
    CoordinatorMessage {
        job_uid: "uid".to_owned(),
        generation: 1,
        epoch: 1,
        message: Some(message),
    }
}

fn run(task: TaskAttempt) -> CoordinatorMessage {
    let task = RunTask {
        task: Some(to_wire(task)),
        ..RunTask::default()
    };
    sent(coordinator_message::Message::Run(Run { tasks: vec![task] }))
}

fn acknowledge(task: TaskAttempt) -> CoordinatorMessage {
    let tasks = vec![to_wire(task)];
    sent(coordinator_message::Message::Ack(Ack { tasks }))
}

#[tokio::test]
async fn a_completed_task_that_runs_again_is_reported_unless_its_output_was_lost() {
    let (journal, truth, _) = committed().await;
    truth.sent(&run(attempt(1, 1)));
    assert_eq!(journal.violations().len(), 0);
    truth.sent(&run(attempt(0, 2)));
    assert_eq!(journal.violations().len(), 1);
    let failed = Failed {
        task: Some(to_wire(attempt(1, 1))),
        lost_input: Some(to_wire(attempt(0, 1))),
        ..Failed::default()
    };
    let message = WorkerMessage {
        message: Some(worker_message::Message::Failed(failed)),
        ..WorkerMessage::default()
    };
    truth.received(Some(1), &message);
    truth.sent(&run(attempt(0, 3)));
    assert_eq!(journal.violations().len(), 1);
}

#[tokio::test]
async fn an_acknowledgement_without_a_durable_record_is_reported() {
    let (journal, truth, _) = committed().await;
    truth.sent(&acknowledge(attempt(0, 1)));
    assert_eq!(journal.violations().len(), 0);
    truth.sent(&acknowledge(attempt(1, 1)));
    assert_eq!(journal.violations().len(), 1);
}

#[tokio::test]
async fn a_final_file_without_a_durable_commit_is_reported() {
    let (journal, truth, server) = committed().await;
    let completed = |upload| Applied::Completed {
        path: "out/part-0",
        upload,
    };
    truth.applied(&completed("kept"));
    assert_eq!(journal.violations().len(), 0);
    truth.applied(&completed("another"));
    assert_eq!(journal.violations().len(), 1);
    let put = server.put(
        &Path::from("out/part-1"),
        PutPayload::from_static(b"x"),
        PutOptions::default(),
    );
    put.unwrap();
    assert_eq!(journal.violations().len(), 2);
}

#[tokio::test]
async fn a_worker_that_is_dismissed_before_the_result_is_reported() {
    let (journal, truth, _) = committed().await;
    truth.sent(&sent(coordinator_message::Message::Shutdown(Shutdown {})));
    assert_eq!(journal.violations().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_names_a_commit_without_a_durable_record_is_reported() {
    let (journal, _, server) = committed().await;
    let stores = stores(&server, None, Chance::from_seed(0), &["s3://b"]);
    let storage = JobStorage::new(stores, "s3://b/jobs", JobUid::parse("uid").unwrap()).unwrap();
    for (shard, violations) in [(0, 0), (1, 1)] {
        let line = AttemptLine {
            stage: 1,
            shard,
            epoch: 1,
            attempt: 1,
            outcome: "Committed".to_owned(),
            ..AttemptLine::default()
        };
        let batch = Batch {
            epoch: 1,
            number: u64::from(shard),
            dropped: 0,
            lines: vec![line],
        };
        put_attempts(&storage, &batch).await.unwrap();
        assert_eq!(journal.violations().len(), violations, "shard {shard}");
    }
}
