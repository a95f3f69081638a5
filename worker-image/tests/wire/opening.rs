//! A session's first message.

use tonic::Code;
use zephyr_proto::worker::{
    self as wire, CoordinatorMessage, Heartbeat, Hello, WorkerMessage, coordinator_message,
    worker_message,
};

use crate::peer::Session;
use crate::{assert_refused, hello, says, says_hello, serving, still_serves};

#[expect(clippy::too_many_lines, reason = "it is one long table")]
#[tokio::test(flavor = "multi_thread")]
async fn rows_82_90_91_a_hello_that_cannot_be_taken_is_refused_and_names_the_part() {
    let coordinator = serving().await;
    let link = coordinator.link();
    let good = || says_hello(hello("w"));
    let with = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello("w");
        change(&mut hello);
        says_hello(hello)
    };
    let not_an_identity = "Hello: worker's pod uid: not an identity";
    let no_pod = |uid: &str| with(&|hello| uid.clone_into(&mut hello.pod_uid));
    let absurd = wire::TaskAttempt {
        stage: u32::MAX,
        shard: u32::MAX,
        epoch: u64::MAX,
        number: u32::MAX,
    };
    let running = |task: wire::TaskAttempt| with(&|hello| hello.running = vec![task]);
    let heartbeat = worker_message::Message::Heartbeat(Heartbeat { sequence: 1 });
    let cases: Vec<(&str, WorkerMessage, Code, &str)> = vec![
        (
            "another job",
            WorkerMessage {
                job_uid: "other".into(),
                ..good()
            },
            Code::PermissionDenied,
            "Hello: job uid is \"other\"; this is job 0e5c9d0a",
        ),
        (
            "no job",
            WorkerMessage {
                job_uid: String::new(),
                ..good()
            },
            Code::InvalidArgument,
            "Hello: job uid is missing",
        ),
        (
            "a long job",
            WorkerMessage {
                job_uid: "x".repeat(1 << 20),
                ..good()
            },
            Code::PermissionDenied,
            "Hello: job uid is \"xxx",
        ),
        (
            "another generation",
            WorkerMessage {
                generation: 2,
                ..good()
            },
            Code::PermissionDenied,
            "Hello: generation is 2; this is generation 1",
        ),
        (
            "no generation",
            WorkerMessage {
                generation: 0,
                ..good()
            },
            Code::InvalidArgument,
            "Hello: generation is missing",
        ),
        (
            "an epoch to come",
            WorkerMessage { epoch: 2, ..good() },
            Code::FailedPrecondition,
            "epoch 2 was seen by this worker",
        ),
        (
            "the last epoch",
            WorkerMessage {
                epoch: u64::MAX,
                ..good()
            },
            Code::FailedPrecondition,
            "is out of date",
        ),
        (
            "something else first",
            says(heartbeat),
            Code::InvalidArgument,
            "Hello: another message came first",
        ),
        (
            "nothing at all",
            WorkerMessage::default(),
            Code::InvalidArgument,
            "Hello: job uid is missing",
        ),
        (
            "no message",
            WorkerMessage {
                message: None,
                ..good()
            },
            Code::InvalidArgument,
            "Hello: another message came first",
        ),
        (
            "no worker",
            no_pod(""),
            Code::InvalidArgument,
            "Hello: pod uid is missing",
        ),
        (
            "a worker of 1 KB",
            no_pod(&"w".repeat(1024)),
            Code::InvalidArgument,
            not_an_identity,
        ),
        (
            "a worker that is not ASCII",
            no_pod("wörker"),
            Code::InvalidArgument,
            not_an_identity,
        ),
        (
            "a worker that leaves its folder",
            no_pod("../w"),
            Code::InvalidArgument,
            not_an_identity,
        ),
        (
            "a worker of two lines",
            no_pod("w\nx"),
            Code::InvalidArgument,
            not_an_identity,
        ),
        (
            "no incarnation",
            with(&|hello| hello.incarnation = 0),
            Code::InvalidArgument,
            "Hello: incarnation is missing",
        ),
        (
            "no slots",
            with(&|hello| hello.slots = 0),
            Code::InvalidArgument,
            "Hello: slots is out of range (got 0); allowed are 1 to 256",
        ),
        (
            "absurd slots",
            with(&|hello| hello.slots = u32::MAX),
            Code::InvalidArgument,
            "Hello: slots is out of range (got 4294967295)",
        ),
        (
            "an attempt without a number",
            running(wire::TaskAttempt {
                number: 0,
                ..absurd
            }),
            Code::InvalidArgument,
            "Hello: attempt number is missing",
        ),
        (
            "an attempt without an epoch",
            running(wire::TaskAttempt { epoch: 0, ..absurd }),
            Code::InvalidArgument,
            "Hello: epoch is missing",
        ),
    ];
    for (case, first, code, part) in cases {
        let outcome = Session::open(&link, first).await.map(drop);
        assert_refused(outcome, code, part, case);
        still_serves(&link, case).await;
    }
    // A valid but unusual message is accepted, and changes nothing for others.
    let strange: [(&str, WorkerMessage); 4] = [
        (
            "memory without end",
            with(&|hello| hello.memory_bytes = u64::MAX),
        ),
        (
            "a pod name of 1 MB",
            with(&|hello| hello.pod_name = "n".repeat(1 << 20)),
        ),
        ("tasks that nobody knows", running(absurd)),
        (
            "100,000 of them",
            with(&|hello| hello.running = vec![absurd; 100_000]),
        ),
    ];
    for (case, first) in strange {
        let mut session = Session::open(&link, first).await.unwrap();
        let CoordinatorMessage { message, .. } = session.receive().await.unwrap();
        assert!(
            matches!(message, Some(coordinator_message::Message::Welcome(_))),
            "{case}: {message:?}"
        );
        still_serves(&link, case).await;
    }
}
