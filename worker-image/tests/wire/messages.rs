//! Invalid messages of an open session.

use tonic::Code;
use zephyr_engine::id::TaskAttempt;
use zephyr_proto::worker::{Failed, Hello, WorkerMessage, worker_message};
use zephyr_worker::convert::identity::to_wire;

use crate::peer::Session;
use crate::{
    assert_refused, at, committed, counted, done, hello, receive_ack, receive_run_of, says,
    says_hello, serving, still_serves,
};

#[expect(clippy::too_many_lines, reason = "it is one long table")]
#[tokio::test(flavor = "multi_thread")]
async fn rows_82_87_88_89_a_message_that_cannot_be_taken_ends_its_session_and_commits_nothing() {
    type Say = fn(TaskAttempt) -> WorkerMessage;
    const FOREIGN: &str = "it reported a file that is not its own";
    let in_session = |message| WorkerMessage {
        epoch: 1,
        ..says(message)
    };
    let cases: [(&str, Say, Code, &str); 17] = [
        (
            "another job",
            |task| WorkerMessage {
                epoch: 1,
                job_uid: "other".into(),
                ..says(done(task, |_| ()))
            },
            Code::PermissionDenied,
            "job uid is \"other\"",
        ),
        (
            "another generation",
            |task| WorkerMessage {
                epoch: 1,
                generation: 9,
                ..says(done(task, |_| ()))
            },
            Code::PermissionDenied,
            "generation is 9",
        ),
        (
            "no generation",
            |task| WorkerMessage {
                epoch: 1,
                generation: 0,
                ..says(done(task, |_| ()))
            },
            Code::InvalidArgument,
            "generation is missing",
        ),
        (
            "no epoch",
            |task| says(done(task, |_| ())),
            Code::FailedPrecondition,
            "a message is of epoch 0; this session is of epoch 1",
        ),
        (
            "a later epoch",
            |task| WorkerMessage {
                epoch: 2,
                ..says(done(task, |_| ()))
            },
            Code::FailedPrecondition,
            "a message is of epoch 2",
        ),
        (
            "an empty message",
            |_| WorkerMessage {
                epoch: 1,
                message: None,
                ..says_hello(hello("w"))
            },
            Code::InvalidArgument,
            "a message is empty, or of a kind that this release does not know",
        ),
        (
            "Hello again",
            |_| WorkerMessage {
                epoch: 1,
                ..says_hello(hello("w"))
            },
            Code::InvalidArgument,
            "Hello was sent again",
        ),
        (
            "no file",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, |done| done.file = None))
            },
            Code::InvalidArgument,
            "Done: file is missing",
        ),
        (
            "no task",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, |done| done.task = None))
            },
            Code::InvalidArgument,
            "Done: task is missing",
        ),
        (
            "an empty path",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, at("")))
            },
            Code::InvalidArgument,
            "Done: path of the shuffle file is missing",
        ),
        (
            "an unknown stage",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, |done| done.task.as_mut().unwrap().stage = 99))
            },
            Code::Aborted,
            FOREIGN,
        ),
        (
            "an unknown shard",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, |done| {
                    done.task.as_mut().unwrap().shard = u32::MAX;
                }))
            },
            Code::Aborted,
            FOREIGN,
        ),
        (
            "another attempt's file",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, at("data/0/0/e1a99/shuffle")))
            },
            Code::Aborted,
            FOREIGN,
        ),
        (
            "a file beside the job's folder",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, at("../other/data/0/0/e1a1/shuffle")))
            },
            Code::Aborted,
            FOREIGN,
        ),
        (
            "a path of 1 MB",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, at(&"x".repeat(1 << 20))))
            },
            Code::Aborted,
            FOREIGN,
        ),
        (
            "the ledger itself",
            |task| WorkerMessage {
                epoch: 1,
                ..says(done(task, at("epochs/1/open")))
            },
            Code::Aborted,
            FOREIGN,
        ),
        (
            "a failure of no class",
            |task| WorkerMessage {
                epoch: 1,
                ..says(worker_message::Message::Failed(Failed {
                    task: Some(to_wire(task)),
                    class: 77,
                    ..Failed::default()
                }))
            },
            Code::InvalidArgument,
            "Failed: class is missing",
        ),
    ];
    let coordinator = serving().await;
    let link = coordinator.link();
    let mut good_ones = 0;
    for (number, (case, say, code, part)) in cases.into_iter().enumerate() {
        let pod = format!("bad-{number}");
        let mut session = Session::open(&link, says_hello(hello(&pod))).await.unwrap();
        let task = receive_run_of(&mut session).await;
        session.outbound.send(say(task)).await.unwrap();
        let status = session.end().await;
        assert_refused(Err(status), code, part, case);
        still_serves(&link, case).await;
        good_ones += 1;
        // Its task is not committed, and it may come back to report it correctly.
        let (_, records) = coordinator.ledger().await;
        assert_eq!(committed(&records), good_ones, "{case}");
        let back = Hello {
            running: vec![to_wire(task)],
            ..hello(&pod)
        };
        let mut session = Session::open(&link, says_hello(back)).await.unwrap();
        session
            .outbound
            .send(in_session(done(task, |_| ())))
            .await
            .unwrap();
        assert_eq!(receive_ack(&mut session).await, [to_wire(task)], "{case}");
        good_ones += 1;
    }
    let refused = counted(&coordinator, "zephyr_coordinator_reports_refused").await;
    assert_eq!(refused, 6);
}
