//! Workers that send absurd, foreign, duplicate or too many messages.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::task::JoinSet;
use tonic::Code;
use zephyr_proto::worker::{
    self as wire, Done, Draining, Failed, Heartbeat, Hello, Progress, TaskProgress, WorkerMessage,
    coordinator_message, worker_message,
};
use zephyr_worker::convert::identity::to_wire;

use crate::light::task_attempt_of;
use crate::peer::Session;
use crate::{
    assert_refused, at, committed, counted, done, hello, receive_ack, receive_run_of, says,
    says_hello, serving, still_serves,
};

#[tokio::test(flavor = "multi_thread")]
async fn rows_88_91_absurd_numbers_and_claims_of_others_tasks_are_ignored() {
    let coordinator = serving().await;
    let link = coordinator.link();
    let mut correct = Session::open(&link, says_hello(hello("honest")))
        .await
        .unwrap();
    let held = receive_run_of(&mut correct).await;
    let mut faulty = Session::open(&link, says_hello(hello("liar")))
        .await
        .unwrap();
    let own = receive_run_of(&mut faulty).await;
    let progress = |records| {
        let task = Some(to_wire(own));
        let bytes = records;
        worker_message::Message::Progress(Progress {
            tasks: vec![TaskProgress {
                task,
                records,
                bytes,
                written: records,
            }],
        })
    };
    let theirs = TaskProgress {
        task: Some(to_wire(held)),
        records: 7,
        bytes: 7,
        written: u64::MAX,
    };
    let failed = Failed {
        task: Some(to_wire(held)),
        class: wire::FailureClass::Deterministic.into(),
        error: "e".repeat(1 << 20),
        lost_input: None,
        setback: 0,
        log: "l".repeat(1 << 20),
    };
    for message in [
        progress(u64::MAX),
        progress(0),
        worker_message::Message::Progress(Progress {
            tasks: vec![theirs; 10_000],
        }),
        worker_message::Message::Heartbeat(Heartbeat { sequence: u64::MAX }),
        worker_message::Message::Heartbeat(Heartbeat { sequence: 0 }),
        worker_message::Message::Failed(failed),
        worker_message::Message::Done(Done { tasks: Vec::new() }),
        done(own, |done| {
            done.records_in = u64::MAX;
            done.bytes_in = u64::MAX;
            if let Some(file) = &mut done.file {
                file.rows = u64::MAX;
                file.bytes = u64::MAX;
            }
        }),
        worker_message::Message::Draining(Draining {
            deadline_ms: u64::MAX,
            handed_back: vec![to_wire(held)],
        }),
    ] {
        let message = WorkerMessage {
            epoch: 1,
            ..says(message)
        };
        faulty.outbound.send(message).await.unwrap();
    }
    while !receive_ack(&mut faulty).await.contains(&to_wire(own)) {}
    // The task's own worker has kept it, and nothing was charged for it.
    let report = WorkerMessage {
        epoch: 1,
        ..says(done(held, |_| ()))
    };
    correct.outbound.send(report).await.unwrap();
    assert_eq!(receive_ack(&mut correct).await, [to_wire(held)]);
    let (_, records) = coordinator.ledger().await;
    assert_eq!((records.len(), committed(&records)), (2, 2), "{records:?}");
    still_serves(&link, "absurd numbers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_89_a_worker_that_names_a_file_of_others_three_times_is_refused_from_then_on() {
    let coordinator = serving().await;
    let link = coordinator.link();
    let mut task = None;
    for _ in 0..3 {
        let hello = Hello {
            running: task.iter().copied().map(to_wire).collect(),
            ..hello("w")
        };
        let mut session = Session::open(&link, says_hello(hello)).await.unwrap();
        if task.is_none() {
            task = Some(receive_run_of(&mut session).await);
        }
        let report = done(task.unwrap(), at("data/0/1/e1a1/shuffle"));
        let report = WorkerMessage {
            epoch: 1,
            ..says(report)
        };
        session.outbound.send(report).await.unwrap();
        let status = session.end().await;
        assert_refused(
            Err(status),
            Code::Aborted,
            "a file that is not its own",
            "a report",
        );
        still_serves(&link, "a foreign file").await;
    }
    for _ in 0..2 {
        let outcome = Session::open(&link, says_hello(hello("w"))).await.map(drop);
        let part = "Hello: worker w/0000000000000001 reported 3 times a file that is not its own";
        assert_refused(outcome, Code::PermissionDenied, part, "the fourth time");
    }
    let other = Hello {
        incarnation: 2,
        ..hello("w")
    };
    let mut next = Session::open(&link, says_hello(other)).await.unwrap();
    receive_run_of(&mut next).await;
    assert_eq!(
        counted(&coordinator, "zephyr_coordinator_reports_refused").await,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_90_of_two_processes_in_one_pod_the_newer_one_stays() {
    let coordinator = serving().await;
    let link = coordinator.link();
    let process = |incarnation| {
        says_hello(Hello {
            incarnation,
            ..hello("pod")
        })
    };
    let mut old = Session::open(&link, process(9)).await.unwrap();
    receive_run_of(&mut old).await;
    let mut new = Session::open(&link, process(4)).await.unwrap();
    let task = receive_run_of(&mut new).await;
    assert_eq!(old.end().await.code(), Code::Aborted);
    for _ in 0..3 {
        let mut again = Session::open(&link, process(9)).await.unwrap();
        let status = again.end().await;
        assert_refused(
            Err(status),
            Code::Aborted,
            "a newer process of the same pod",
            "the older",
        );
    }
    let report = WorkerMessage {
        epoch: 1,
        ..says(done(task, |_| ()))
    };
    new.outbound.send(report).await.unwrap();
    assert_eq!(receive_ack(&mut new).await, [to_wire(task)]);
}

/// Sessions that a pod may open in ten seconds.
const MAX_SESSIONS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn row_93_ten_thousand_registrations_of_one_worker_delay_no_other() {
    const CONNECTIONS: usize = 8;
    const REGISTRATIONS: usize = 1_250;
    let coordinator = serving().await;
    let link = coordinator.link();
    let mut other = Session::open(&link, says_hello(hello("other")))
        .await
        .unwrap();
    let mut held = VecDeque::from([receive_run_of(&mut other).await]);
    let mut storm = JoinSet::new();
    let began = Instant::now();
    for connection in 0..CONNECTIONS {
        let link = link.clone();
        storm.spawn(async move {
            let mut let_in = 0;
            for number in 0..REGISTRATIONS {
                // One process that reconnects again and again, and processes that are new each
                // time.
                let incarnation = if connection % 2 == 0 {
                    1
                } else {
                    2 + (number * CONNECTIONS + connection) as u64
                };
                let hello = says_hello(Hello {
                    incarnation,
                    ..hello("storm")
                });
                match Session::open(&link, hello).await {
                    Ok(_) => let_in += 1,
                    Err(status) => {
                        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                        assert!(status.message().contains("pod storm opened 20"), "{status}");
                        let wait = status.metadata().get("grpc-retry-pushback-ms").unwrap();
                        let wait: u64 = wait.to_str().unwrap().parse().unwrap();
                        assert!(wait <= 10_000, "{wait}");
                    }
                }
            }
            let_in
        });
    }
    let mut let_in = 0;
    let (mut reports, mut reported) = (0, None);
    while !storm.is_empty() {
        if reported.is_none()
            && let Some(task) = held.pop_front()
        {
            let report = WorkerMessage {
                epoch: 1,
                ..says(done(task, |_| ()))
            };
            other.outbound.send(report).await.unwrap();
            reported = Some(to_wire(task));
        }
        match other.receive().await.unwrap().message.unwrap() {
            coordinator_message::Message::Run(run) => {
                let given = run.tasks.iter();
                held.extend(given.map(|run| task_attempt_of(run.task.as_ref())));
            }
            coordinator_message::Message::Ack(ack) => {
                assert_eq!(ack.tasks.last(), reported.as_ref());
                reports += 1;
                reported = None;
            }
            message @ (coordinator_message::Message::Welcome(_)
            | coordinator_message::Message::Cancel(_)
            | coordinator_message::Message::Shutdown(_)) => panic!("{message:?}"),
        }
        while let Some(ended) = storm.try_join_next() {
            let_in += ended.unwrap();
        }
    }
    assert!(reports > 0);
    let windows = began.elapsed().as_secs() / 10 + 1;
    let most = MAX_SESSIONS * usize::try_from(windows).unwrap();
    assert!((1..=most).contains(&let_in), "{let_in} of at most {most}");
    let counts = coordinator.snapshot().await.unwrap().workers.unwrap();
    let known = counts.idle + counts.busy + counts.reconnecting;
    assert_eq!(
        known, 2,
        "only the other worker and the last session of the storm are known: {counts:?}"
    );
    still_serves(&link, "the storm").await;
}
