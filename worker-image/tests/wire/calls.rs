//! Calls: which are accepted, and what is served.

use prost::Message as _;
use tonic::Code;
use zephyr_engine::id::{Generation, JobUid};
use zephyr_worker::transport::token::Token;

use crate::peer::{OPERATE, SESSION, authorization, body, call, honest};
use crate::{UID, assert_refused, counted, hello, says_hello, serving, still_serves};

#[tokio::test(flavor = "multi_thread")]
async fn rows_81_83_87_calls_without_the_token_are_refused_and_counted_on_every_path() {
    const REFUSAL: &str = "authorization: not the bearer token of this job's generation";
    let coordinator = serving().await;
    let link = coordinator.link();
    let right = authorization(&link);
    let of = |uid: &str, generation| {
        let uid = JobUid::parse(uid).unwrap();
        let token = Token::derive(b"the signing key", &uid, Generation(generation));
        token.to_metadata().to_str().unwrap().to_owned()
    };
    let (other_jobs, old) = (of("another-job", 1), of(UID, 7));
    let (twice, long) = (
        format!("{right}, {right}"),
        format!("Bearer {}", "a".repeat(4_000)),
    );
    let cases: [(&str, &[&str]); 11] = [
        ("no token", &[]),
        ("an empty one", &[""]),
        ("only the scheme", &["Bearer "]),
        ("another scheme", &["Basic YTph"]),
        ("a wrong one", &["Bearer bbbb"]),
        ("another job's", &[&other_jobs]),
        ("another generation's", &[&old]),
        ("all but the last digit", &[&right[..right.len() - 1]]),
        ("two in one", &[&twice]),
        ("the right one and another", &[&right, "Bearer bbbb"]),
        ("a long one", &[&long]),
    ];
    let paths = [
        SESSION,
        OPERATE,
        "/zephyr.run.v1.Run/Other",
        "/zephyr.worker.v2.Worker/Session",
        "/",
        "/metrics",
    ];
    for (case, presented) in cases {
        for path in paths {
            let case = format!("{case} to {path}");
            let first = says_hello(hello("w")).encode_to_vec();
            let outcome = call(&link, path, presented, body(vec![honest(&first)], false)).await;
            assert_refused(outcome, Code::Unauthenticated, REFUSAL, &case);
        }
        still_serves(&link, case).await;
    }
    let refused = counted(&coordinator, "zephyr_coordinator_calls_refused").await;
    assert_eq!(refused, (cases.len() * paths.len()) as u64);

    // With the token, a caller of another release gets the list of services.
    for (path, part) in [
        (
            "/zephyr.worker.v2.Worker/Session",
            "this coordinator serves zephyr.worker.v1.Worker and zephyr.run.v1.Run",
        ),
        (
            "/zephyr.worker.v0.Worker/Session",
            "this coordinator serves zephyr.worker.v1.Worker and zephyr.run.v1.Run",
        ),
        ("/healthz", "no such call"),
        ("/", "no such call"),
        ("/zephyr.worker.v1.Worker/Other", ""),
    ] {
        let outcome = call(&link, path, &[&right], body(Vec::new(), true)).await;
        assert_refused(outcome, Code::Unimplemented, part, path);
    }
    still_serves(&link, "unknown calls").await;
}
