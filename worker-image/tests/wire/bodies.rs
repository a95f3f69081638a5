//! Bodies of calls: wrong sizes and meaningless bytes.

use prost::Message as _;
use tonic::Code;

use crate::peer::{SESSION, authorization, body, call, honest, message};
use crate::{assert_refused, hello, says_hello, serving, still_serves};

#[expect(clippy::too_many_lines, reason = "it is one long table")]
#[tokio::test(flavor = "multi_thread")]
async fn rows_84_86_a_body_of_a_wrong_length_or_without_meaning_is_refused() {
    const LARGEST: usize = 4 * 1024 * 1024;
    let coordinator = serving().await;
    let link = coordinator.link();
    let right = authorization(&link);
    let good = says_hello(hello("w")).encode_to_vec();
    // This field has the unknown number 100, and contains groups within groups.
    let nested = |depth| [0xA3, 0x06].repeat(depth);
    let unreadable = "failed to decode Protobuf message";
    let cut = "Unexpected EOF";
    let cases: Vec<(&str, Vec<Vec<u8>>, Code, &str)> = vec![
        (
            "nothing",
            vec![],
            Code::InvalidArgument,
            "Hello: the stream ended before it",
        ),
        ("half a length", vec![vec![0, 0, 0]], Code::Internal, cut),
        (
            "a length without a message",
            vec![message(0, 100, b"")],
            Code::InvalidArgument,
            "Hello: the stream ended before it",
        ),
        (
            "a longer length than there is",
            vec![message(0, good.len() + 1, &good)],
            Code::Internal,
            cut,
        ),
        (
            "a shorter length than there is",
            vec![message(0, good.len() - 1, &good)],
            Code::Internal,
            unreadable,
        ),
        (
            "the longest length",
            vec![message(0, 0xFFFF_FFFF, &good)],
            Code::OutOfRange,
            "message length too large",
        ),
        (
            "a message beyond the limit",
            vec![honest(&vec![0; LARGEST + 1])],
            Code::OutOfRange,
            "message length too large",
        ),
        (
            "the largest message, of zeros",
            vec![honest(&vec![0; LARGEST])],
            Code::Internal,
            unreadable,
        ),
        (
            "a message of no bytes",
            vec![honest(b"")],
            Code::InvalidArgument,
            "Hello: job uid is missing",
        ),
        (
            "a compressed one",
            vec![message(1, good.len(), &good)],
            Code::Internal,
            "compressed",
        ),
        (
            "an unknown flag",
            vec![message(7, good.len(), &good)],
            Code::Internal,
            "invalid compression flag",
        ),
        (
            "garbage",
            vec![honest(&[0xFF; 64])],
            Code::Internal,
            unreadable,
        ),
        (
            "JSON",
            vec![honest(b"{\"jobUid\":\"x\"}")],
            Code::Internal,
            unreadable,
        ),
        (
            "text that is no UTF-8",
            vec![honest(&[0x0A, 2, 0xC3, 0x28])],
            Code::Internal,
            unreadable,
        ),
        (
            "nested 10,000 deep",
            vec![honest(&nested(10_000))],
            Code::Internal,
            unreadable,
        ),
        (
            "nested a million deep",
            vec![honest(&nested(1_000_000))],
            Code::Internal,
            unreadable,
        ),
        (
            "a message of a kind to come",
            vec![honest(&[0xFA, 0x06, 1, 7])],
            Code::InvalidArgument,
            "Hello: job uid is missing",
        ),
    ];
    for (case, pieces, code, part) in cases {
        let outcome = call(&link, SESSION, &[&right], body(pieces, true)).await;
        assert_refused(outcome, code, part, case);
        still_serves(&link, case).await;
    }
    // A later release may send more: unknown fields are ignored.
    let more = [&good[..], &[0xFA, 0x06, 1, 7]].concat();
    let bytes = honest(&more);
    let pieces = bytes.chunks(1).map(<[u8]>::to_vec).collect();
    call(&link, SESSION, &[&right], body(pieces, false))
        .await
        .unwrap();
    // Meaningless bytes after a valid beginning end the session and nothing else.
    let pieces = vec![honest(&good), honest(&[0xFF; 64])];
    call(&link, SESSION, &[&right], body(pieces, false))
        .await
        .unwrap();
    still_serves(&link, "garbage after Hello").await;
}
