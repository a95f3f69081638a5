//! Tests of how every documented answer of a store is classified. They use the real client and a
//! real socket.

use std::sync::{Arc, Mutex};

use object_store::multipart::PartId;
use object_store::{ObjectStoreExt, PutPayload};

use super::{Cause, StorageError};
use crate::storage::error_codes::{Class, codes};
use crate::storage::fake_http::{FakeHttp, Reply, Request};
use crate::storage::{Location, Scheme, Stores, persist, size_of};

/// Starts a server. The test sets its next answer.
async fn answering() -> (FakeHttp, Arc<Mutex<Reply>>) {
    let next = Arc::new(Mutex::new(Reply::new(500, "")));
    let answer = Arc::clone(&next);
    let server = FakeHttp::start(move |_| answer.lock().unwrap().clone()).await;
    (server, next)
}

async fn read(stores: &Stores, location: &Location) -> Result<(), StorageError> {
    let store = stores.open(location)?.objects;
    persist(stores, "reading", location, || async {
        store.get(location.path()).await?.bytes().await
    })
    .await
    .map(drop)
}

fn fits(class: Class, cause: &Cause) -> bool {
    match class {
        Class::Busy => matches!(cause, Cause::Busy(_)),
        Class::Denied => matches!(cause, Cause::Denied(_)),
        Class::NotFound => *cause == Cause::NotFound,
        Class::NoSuchBucket => matches!(cause, Cause::NoSuchBucket(_)),
        Class::NoSuchUpload => *cause == Cause::NoSuchUpload,
        Class::Changed => *cause == Cause::Changed,
        Class::AlreadyExists => *cause == Cause::AlreadyExists,
        Class::ByCall => matches!(cause, Cause::Changed | Cause::AlreadyExists),
        Class::Configuration => matches!(cause, Cause::Configuration(_)),
        Class::Permanent => matches!(cause, Cause::Other(_)),
    }
}

fn location(scheme: Scheme, key: &str) -> Location {
    let scheme = match scheme {
        Scheme::S3 | Scheme::File => "s3",
        Scheme::Gs => "gs",
        Scheme::Az => "az",
    };
    Location::parse(&format!("{scheme}://bucket/{key}")).unwrap()
}

#[tokio::test]
async fn every_documented_error_has_its_class_whatever_the_name_of_the_object() {
    // These keys contain words of error answers.
    const KEYS: [&str; 5] = [
        "k",
        "SlowDown/InternalError.jsonl",
        "416 range/AccessDenied",
        "status code: 503 Service/169.254.169.254",
        "NoSuchBucket/NoSuchUpload MultipartUpload not found",
    ];
    let (server, next) = answering().await;
    let stores = server.stores();
    let mut count = 0;
    for scheme in [Scheme::S3, Scheme::Gs, Scheme::Az] {
        for (row, key) in codes(scheme).iter().zip(KEYS.iter().cycle()) {
            let is_json = row.code.starts_with(|c: char| c.is_ascii_lowercase());
            let reply = if is_json {
                let body = serde_json::json!({"error": {"code": row.status, "message": key, "errors": [{"reason": row.code, "message": key}]}});
                Reply::new(row.status, body.to_string())
            } else {
                let (code, status) = (row.code, row.status);
                Reply::new(
                    status,
                    format!(
                        "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{key}</Message><Key>{key}</Key><Resource>/bucket/{key}</Resource></Error>"
                    ),
                )
            };
            *next.lock().unwrap() = reply;
            let error = read(&stores, &location(scheme, key)).await.unwrap_err();
            // An answer with status 304 must not have a body.
            let expected = if row.status == 304 {
                Class::Changed
            } else {
                row.class
            };
            assert!(
                fits(expected, &error.cause),
                "{scheme:?} {row:?}: {:?}",
                error.cause
            );
            assert_eq!(error.is_transient(), row.class == Class::Busy, "{row:?}");
            if matches!(
                error.cause,
                Cause::Busy(_) | Cause::Denied(_) | Cause::Other(_)
            ) {
                assert!(error.to_string().contains(row.code), "{error}");
            }
            count += 1;
        }
    }
    assert!(count > 400, "{count} rows");
}

#[tokio::test]
async fn an_unknown_code_or_none_has_the_class_of_its_status() {
    let (server, next) = answering().await;
    let stores = server.stores();
    for (status, class) in [
        (400, Class::Permanent),
        (401, Class::Denied),
        (403, Class::Denied),
        (404, Class::NotFound),
        (408, Class::Busy),
        (409, Class::ByCall),
        (412, Class::ByCall),
        (416, Class::Changed),
        (418, Class::Permanent),
        (429, Class::Busy),
        (499, Class::Busy),
        (500, Class::Busy),
        (501, Class::Configuration),
        (502, Class::Busy),
        (503, Class::Busy),
        (504, Class::Busy),
        (507, Class::Busy),
    ] {
        for body in [
            "",
            "<html>SlowDown NoSuchBucket AccessDenied</html>",
            "<Error><Code>Unheard</Code><Message>NoSuchBucket</Message></Error>",
        ] {
            *next.lock().unwrap() = Reply::new(status, body);
            for scheme in [Scheme::S3, Scheme::Gs, Scheme::Az] {
                let error = read(&stores, &location(scheme, "k")).await.unwrap_err();
                assert!(
                    fits(class, &error.cause),
                    "{status} {body}: {:?}",
                    error.cause
                );
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_anywhere_may_be_tried_again() {
    let (server, next) = answering().await;
    let stores = server.stores();
    let whole = |length: &str| {
        Reply::new(200, vec![7; 1000])
            .with("content-length", length)
            .with("etag", "\"x\"")
            .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    };
    for scheme in [Scheme::S3, Scheme::Gs, Scheme::Az] {
        let location = location(scheme, "k");
        *next.lock().unwrap() = whole("1000");
        read(&stores, &location).await.unwrap();
        for broken in [
            Reply {
                cut_after: Some(500),
                ..whole("1000")
            },
            Reply {
                cut_after: Some(0),
                ..whole("1000")
            },
            Reply {
                reset: true,
                ..Reply::default()
            },
            Reply {
                cut_after: Some(3),
                ..Reply::error(403, "AccessDenied")
            },
        ] {
            *next.lock().unwrap() = broken;
            let error = read(&stores, &location).await.unwrap_err();
            assert!(error.is_transient(), "{scheme:?}: {error}");
            assert!(matches!(error.cause, Cause::Unreachable(_)), "{error}");
        }
    }
}

#[tokio::test]
async fn an_error_in_the_body_of_a_200_is_an_error_but_a_key_like_an_error_is_not() {
    let (server, next) = answering().await;
    let stores = server.stores();
    for scheme in [Scheme::S3, Scheme::Gs] {
        let location = location(scheme, "InternalError/SlowDown.jsonl");
        let complete = async || {
            let store = stores.open(&location).unwrap().multipart.unwrap();
            let upload = "u".to_owned();
            let parts = || {
                vec![PartId {
                    content_id: "\"e\"".to_owned(),
                }]
            };
            persist(&stores, "completing", &location, || {
                store.complete_multipart(location.path(), &upload, parts())
            })
            .await
        };
        for (code, class) in [
            ("InternalError", Class::Busy),
            ("SlowDown", Class::Busy),
            ("RequestTimeout", Class::Busy),
            ("ServiceUnavailable", Class::Busy),
            ("NobodyKnows", Class::Busy),
            ("NoSuchUpload", Class::NoSuchUpload),
            ("InvalidPart", Class::NoSuchUpload),
            ("EntityTooSmall", Class::Permanent),
            ("AccessDenied", Class::Denied),
        ] {
            // S3 sends spaces to keep the connection alive until it knows the result.
            let body = format!(
                "\n  \n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>M.</Message></Error>"
            );
            *next.lock().unwrap() = Reply::new(200, body);
            let error = complete().await.map(drop).unwrap_err();
            assert!(fits(class, &error.cause), "{code}: {:?}", error.cause);
        }
        let good = "<CompleteMultipartUploadResult><Location>http://x/InternalError/SlowDown.jsonl</Location><Bucket>b</Bucket><Key>InternalError/SlowDown.jsonl</Key><ETag>&quot;e-1&quot;</ETag></CompleteMultipartUploadResult>";
        *next.lock().unwrap() = Reply::new(200, good);
        assert_eq!(complete().await.unwrap().e_tag.unwrap(), "\"e-1\"");
    }
}

#[tokio::test]
async fn a_part_that_the_store_calls_damaged_or_incomplete_is_sent_again() {
    let refused = Arc::new(Mutex::new(vec![
        "BadDigest",
        "IncompleteBody",
        "RequestTimeout",
    ]));
    let answers = Arc::clone(&refused);
    let server = FakeHttp::start(move |request: &Request| {
        assert_eq!(request.body, "part");
        match answers.lock().unwrap().pop() {
            Some(code) => Reply::error(400, code),
            None => Reply::new(200, "").with("etag", "\"5e1ba8b1bd1ec1e4bbd0df2d8b5b1f1b-x\""),
        }
    })
    .await;
    let stores = server
        .stores()
        .with_retry_time(super::Duration::from_mins(1));
    let location = location(Scheme::S3, "k");
    let store = stores.open(&location).unwrap().multipart.unwrap();
    let upload = "u".to_owned();
    persist(&stores, "writing", &location, || {
        store.put_part(
            location.path(),
            &upload,
            0,
            PutPayload::from_static(b"part"),
        )
    })
    .await
    .unwrap();
    assert!(refused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn azures_code_is_read_from_the_header_if_there_is_no_body() {
    let (server, next) = answering().await;
    let stores = server.stores();
    let location = location(Scheme::Az, "k");
    for (status, code, class) in [
        (404, "ContainerNotFound", Class::NoSuchBucket),
        (409, "AccountBeingCreated", Class::Busy),
        (403, "KeyVaultVaultNotFound", Class::Configuration),
    ] {
        *next.lock().unwrap() = Reply::new(status, "").with("x-ms-error-code", code);
        let error = size_of(&stores, &location).await.unwrap_err();
        assert!(fits(class, &error.cause), "{code}: {:?}", error.cause);
    }
    *next.lock().unwrap() = Reply::new(404, "").with("x-ms-error-code", "BlobNotFound");
    assert_eq!(size_of(&stores, &location).await.unwrap(), None);
}
