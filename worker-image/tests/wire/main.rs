//! Invalid input on the wire, as tables: calls without a valid token, invalid first and later
//! messages, wrong sizes, connections with another protocol. Each of them is refused with a status
//! that names the error. After each of them the same real coordinator still serves a valid worker.
//! docs/bad-inputs.md says which test covers which row.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "only tests are in here"
)]

mod bodies;
mod calls;
mod conduct;
mod connections;
#[path = "../light/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "what only the tests with a fleet of workers need"
)]
mod light;
mod messages;
mod opening;
mod operator;
mod peer;

use std::sync::atomic::{AtomicU32, Ordering};

use light::{Coordinator, Dialogue, Link, task_attempt_of, until};
use peer::Session;
use tonic::{Code, Status};
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::{Epoch, TaskAttempt};
use zephyr_proto::worker::{
    self as wire, Done, Draining, Hello, WorkerMessage, coordinator_message, output_file,
    worker_message,
};
use zephyr_worker::convert::identity::to_wire;

const UID: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";

/// More tasks than all sessions of a test receive.
const TASKS: u32 = 50_000;

async fn serving() -> Coordinator {
    let mut coordinator = Coordinator::of(TASKS);
    coordinator.start();
    until("the plan", async || {
        let snapshot = coordinator.snapshot().await;
        snapshot.is_some_and(|snapshot| snapshot.planned.is_some())
    })
    .await;
    coordinator
}

fn hello(pod_uid: &str) -> Hello {
    Hello {
        pod_uid: pod_uid.to_owned(),
        pod_name: pod_uid.to_owned(),
        incarnation: 1,
        slots: 1,
        memory_bytes: 0,
        running: Vec::new(),
    }
}

fn says(message: worker_message::Message) -> WorkerMessage {
    WorkerMessage {
        job_uid: UID.to_owned(),
        generation: 1,
        epoch: 0,
        message: Some(message),
    }
}

fn says_hello(hello: Hello) -> WorkerMessage {
    says(worker_message::Message::Hello(hello))
}

/// Checks that a valid worker is accepted and gets a task, and that its report is committed.
async fn still_serves(link: &Link, case: &str) {
    // Each call uses a new worker, because the worker of the previous call drains and gets no
    // tasks.
    static GOOD_ONES: AtomicU32 = AtomicU32::new(0);
    let number = GOOD_ONES.fetch_add(1, Ordering::Relaxed);
    let hello = hello(&format!("good-{number}"));
    let mut worker = Dialogue::open(link, Epoch(0), hello).await.expect(case);
    let task = receive_run(&mut worker).await;
    worker.say_done(Epoch(1), &[task]).await;
    loop {
        let (_, message) = worker.receive().await.expect(case);
        if let coordinator_message::Message::Ack(ack) = message {
            assert_eq!(ack.tasks, [to_wire(task)], "{case}");
            break;
        }
    }
    let draining = Draining::default();
    worker
        .say(Epoch(1), worker_message::Message::Draining(draining))
        .await;
}

async fn receive_run(worker: &mut Dialogue) -> TaskAttempt {
    loop {
        let (_, message) = worker.receive().await.unwrap();
        if let coordinator_message::Message::Run(run) = message {
            return task_attempt_of(run.tasks[0].task.as_ref());
        }
    }
}

fn assert_refused(outcome: Result<(), Status>, code: Code, part: &str, case: &str) {
    let status = outcome.expect_err(case);
    assert_eq!(status.code(), code, "{case}: {status:?}");
    let text = status.message();
    assert!(text.contains(part), "{case}: {text:?}");
    assert!(text.len() < 400 && !text.contains('\n'), "{case}: {text:?}");
}

async fn counted(coordinator: &Coordinator, name: &str) -> u64 {
    let metrics = coordinator.metrics().await.unwrap();
    let start = format!("\n{name}_total ");
    let (_, rest) = metrics.split_once(&start).unwrap();
    rest.lines().next().unwrap().parse().unwrap()
}

/// A report of the attempt with this change to its file.
fn done(task: TaskAttempt, change: impl FnOnce(&mut wire::TaskDone)) -> worker_message::Message {
    let place = wire::ShufflePlace {
        path: zephyr_store::shuffle::shuffle_path(task),
    };
    let mut done = wire::TaskDone {
        bad: Vec::new(),
        more_files: Vec::new(),
        counters: Vec::new(),
        task: Some(to_wire(task)),
        records_in: 1,
        bytes_in: 1,
        file: Some(wire::OutputFile {
            rows: 1,
            bytes: 1,
            crc32c: 1,
            place: Some(output_file::Place::Shuffle(place)),
        }),
    };
    change(&mut done);
    worker_message::Message::Done(Done { tasks: vec![done] })
}

fn at(path: &str) -> impl FnOnce(&mut wire::TaskDone) {
    let path = path.to_owned();
    move |done| {
        let place = output_file::Place::Shuffle(wire::ShufflePlace { path });
        if let Some(file) = &mut done.file {
            file.place = Some(place);
        }
    }
}

async fn receive_run_of(session: &mut Session) -> TaskAttempt {
    loop {
        let message = session.receive().await.unwrap().message;
        if let Some(coordinator_message::Message::Run(run)) = message {
            return task_attempt_of(run.tasks[0].task.as_ref());
        }
    }
}

async fn receive_ack(session: &mut Session) -> Vec<wire::TaskAttempt> {
    loop {
        let message = session.receive().await.unwrap().message;
        if let Some(coordinator_message::Message::Ack(ack)) = message {
            return ack.tasks;
        }
    }
}

fn committed(records: &[LogRecord]) -> usize {
    let is_commit = |record: &&LogRecord| matches!(record, LogRecord::Done { .. });
    records.iter().filter(is_commit).count()
}
