//! The operator's stream.

use prost::Message as _;
use tonic::Code;
use zephyr_proto::run::{OperatorHello, OperatorMessage, PodEnded, operator_message};

use crate::peer::{OPERATE, authorization, body, call, honest};
use crate::{UID, assert_refused, serving, still_serves};

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_messages_of_the_operator_are_refused_or_ignored() {
    let coordinator = serving().await;
    let link = coordinator.link();
    let right = authorization(&link);
    let wrap = |message| {
        OperatorMessage {
            message: Some(message),
        }
        .encode_to_vec()
    };
    let hello = |job_uid: &str, generation| {
        let job_uid = job_uid.to_owned();
        wrap(operator_message::Message::Hello(OperatorHello {
            job_uid,
            generation,
        }))
    };
    let ended = wrap(operator_message::Message::PodEnded(PodEnded::default()));
    let cases: [(&str, Vec<u8>, Code, &str); 6] = [
        (
            "another job",
            hello("other", 1),
            Code::PermissionDenied,
            "OperatorHello: job uid is \"other\"",
        ),
        (
            "another generation",
            hello(UID, 2),
            Code::PermissionDenied,
            "OperatorHello: generation is 2; this is generation 1",
        ),
        (
            "no job",
            hello("", 1),
            Code::InvalidArgument,
            "OperatorHello: job uid is missing",
        ),
        (
            "news first",
            ended.clone(),
            Code::InvalidArgument,
            "OperatorHello: another message came first",
        ),
        (
            "nothing",
            Vec::new(),
            Code::InvalidArgument,
            "OperatorHello: another message came first",
        ),
        (
            "garbage",
            vec![0xFF; 64],
            Code::Internal,
            "failed to decode Protobuf message",
        ),
    ];
    for (case, first, code, part) in cases {
        let outcome = call(&link, OPERATE, &[&right], body(vec![honest(&first)], true)).await;
        assert_refused(outcome, code, part, case);
        still_serves(&link, case).await;
    }
    // Reports without an end of a pod, a second Hello, an empty message: the stream continues.
    let pieces = vec![
        honest(&hello(UID, 1)),
        honest(&ended),
        honest(&hello(UID, 1)),
        honest(b""),
    ];
    call(&link, OPERATE, &[&right], body(pieces, false))
        .await
        .unwrap();
    let operator = coordinator.operator().await.unwrap();
    operator.pod_was_preempted("a pod that nobody knows").await;
    still_serves(&link, "news of nobody").await;
    assert!(coordinator.snapshot().await.is_some());
}
