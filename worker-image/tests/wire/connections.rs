//! Connections without a valid call.

use tokio::task::JoinSet;
use tonic::Code;

use crate::light::until;
use crate::peer::{RawConnection, SESSION, authorization, body, field, frame, message};
use crate::{assert_refused, serving, still_serves};

#[expect(clippy::too_many_lines, reason = "it is one long table")]
#[tokio::test(flavor = "multi_thread")]
async fn rows_85_94_a_connection_without_a_call_is_closed_and_delays_no_other() {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_HEADERS: u8 = 4;
    let coordinator = serving().await;
    let link = coordinator.link();
    let call = [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", SESSION),
        field(":authority", "x"),
        field("content-type", "application/grpc"),
        field("authorization", &authorization(&link)),
    ]
    .concat();
    let large: Vec<Vec<u8>> = [&call[..], &field("x-large", &"a".repeat(1 << 20))]
        .concat()
        .chunks(16_384)
        .map(<[u8]>::to_vec)
        .collect();
    let many: Vec<u8> = (0..10_000)
        .flat_map(|n| field(&format!("x-{n}"), "a"))
        .collect();
    let many: Vec<Vec<u8>> = [&call[..], &many]
        .concat()
        .chunks(16_384)
        .map(<[u8]>::to_vec)
        .collect();
    let headers = |pieces: &[Vec<u8>]| {
        let last = pieces.len() - 1;
        let framed = pieces.iter().enumerate().map(|(number, piece)| {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let flags = if number == last { END_HEADERS } else { 0 };
            frame(kind, flags, 1, piece)
        });
        framed.collect::<Vec<_>>().concat()
    };
    // This is a TLS handshake. The version outside is TLS 1.0, as in every client, and the version
    // inside is TLS 1.0 or 1.2.
    let client_hello = |version: u8| {
        let random = [7_u8; 32];
        let body = [&[3, version][..], &random, &[0, 0, 2, 0x00, 0x2F, 1, 0]].concat();
        let length = u8::try_from(body.len()).unwrap();
        [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
    };
    let cases: Vec<(&str, bool, Vec<u8>)> = vec![
        ("nothing at all", false, Vec::new()),
        ("half a greeting", false, b"PRI * HTTP/2.0\r\n".to_vec()),
        (
            "HTTP/1.1",
            false,
            b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        ),
        ("HTTP/1.0", false, b"GET /\r\n\r\n".to_vec()),
        ("a TLS 1.0 hello", false, client_hello(1)),
        ("a TLS 1.2 hello", false, client_hello(3)),
        ("zeros", false, vec![0; 100_000]),
        ("only a greeting", true, Vec::new()),
        (
            "a frame longer than allowed",
            true,
            frame(0, 0, 1, &vec![0; 1 << 20]),
        ),
        ("data without headers", true, frame(0, 0, 1, b"x")),
        ("headers that do not end", true, frame(HEADERS, 0, 1, &call)),
        (
            "headers that make no sense",
            true,
            frame(HEADERS, END_HEADERS, 1, &[0xFF; 200]),
        ),
        ("a header of 1 MB", true, headers(&large)),
        ("10,000 headers", true, headers(&many)),
        ("garbage after the greeting", true, vec![0xFF; 10_000]),
    ];
    let mut connections = JoinSet::new();
    for (case, is_http2, bytes) in cases {
        let mut connection = if is_http2 {
            RawConnection::open_http2(&link).await
        } else {
            RawConnection::open(&link).await
        };
        connections.spawn(async move {
            connection.say(&bytes).await;
            (case, connection.until_closed().await)
        });
        still_serves(&link, case).await;
    }
    let idle = RawConnection::open_http2(&link).await;
    connections.spawn(async move {
        assert!(idle.idle_politely().await > 2);
        ("idling politely", Vec::new())
    });
    // The body of this call is announced and never sent. The call has the right token, so the
    // server waits, but not forever.
    let (slow, right) = (link.clone(), authorization(&link));
    connections.spawn(async move {
        let pieces = vec![message(0, 3 << 20, b"some of it")];
        let outcome = crate::peer::call(&slow, SESSION, &[&right], body(pieces, false)).await;
        assert_refused(
            outcome,
            Code::DeadlineExceeded,
            "Hello: not received in time",
            "a body that never comes",
        );
        ("a body that never comes", Vec::new())
    });
    while let Some(ended) = connections.join_next().await {
        let (case, received) = ended.unwrap();
        let text = String::from_utf8_lossy(&received);
        assert!(
            !text.contains("HTTP/1") && !text.contains("zephyr_"),
            "{case}: {text}"
        );
        still_serves(&link, case).await;
    }
    until("the end of all who were served", async || {
        let counts = coordinator.snapshot().await.unwrap().workers.unwrap();
        counts.idle + counts.busy + counts.reconnecting == 0
    })
    .await;
}
