//! A bucket over HTTP with a configurable delay: the part of S3 that a ledger needs. It keeps
//! everything in memory and checks no signature.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// All objects have the same time, in headers and in lists.
const WRITTEN_AT: [&str; 2] = ["Sat, 01 Jan 2000 00:00:00 GMT", "2000-01-01T00:00:00.000Z"];
/// The bucket's name. Every bucket name leads to it.
pub(super) const URI: &str = "s3://light/storage";

/// The server. It stops when this is dropped.
pub(crate) struct Bucket {
    shared: Arc<Shared>,
    port: u16,
    server: JoinHandle<()>,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Bytes>>,
    delay: watch::Sender<Duration>,
    slow_answers: AtomicU64,
}

impl Bucket {
    /// Opens an empty bucket that answers as fast as it can.
    pub(crate) async fn open() -> Self {
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            delay: watch::channel(Duration::ZERO).0,
            slow_answers: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let routes = Router::new()
            .route("/{bucket}", get(list))
            .route("/{bucket}/{*object}", any(serve))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            shared,
            port,
            server,
        }
    }

    /// Delays each answer from now on.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.shared.delay.send_replace(delay);
    }

    /// Number of delayed answers.
    pub(crate) fn slow_answers(&self) -> u64 {
        self.shared.slow_answers.load(Ordering::Relaxed)
    }

    /// The settings with which a job reaches it.
    pub(super) fn options(&self) -> Value {
        json!({
            "aws_endpoint": format!("http://127.0.0.1:{}", self.port),
            "aws_allow_http": "true",
            "aws_region": "us-east-1",
            "aws_access_key_id": "light",
            "aws_secret_access_key": "light",
        })
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    async fn wait(&self) {
        let delay = *self.delay.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
            self.slow_answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Answers with all keys under a prefix at once. A key that contains the delimiter after the prefix
/// is cut there.
async fn list(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> String {
    shared.wait().await;
    let given = |name: &str| asked.get(name).map_or("", String::as_str);
    let (prefix, delimiter) = (given("prefix"), given("delimiter"));
    let (mut objects, mut folders) = (Vec::new(), BTreeSet::new());
    for (name, object) in shared.objects.lock().unwrap().iter() {
        let Some(rest) = name.strip_prefix(prefix) else {
            continue;
        };
        if let Some((folder, _)) = rest.split_once(delimiter)
            && !delimiter.is_empty()
        {
            folders.insert(format!(
                "<CommonPrefixes><Prefix>{prefix}{folder}{delimiter}</Prefix></CommonPrefixes>"
            ));
        } else {
            let (size, moment) = (object.len(), WRITTEN_AT[1]);
            objects.push(format!(
                "<Contents><Key>{name}</Key><Size>{size}</Size><LastModified>{moment}</LastModified></Contents>"
            ));
        }
    }
    let (objects, folders) = (objects.concat(), String::from_iter(folders));
    format!("<ListBucketResult>{objects}{folders}</ListBucketResult>")
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((_, object)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    shared.wait().await;
    let mut objects = shared.objects.lock().unwrap();
    let found = objects.get(&object).cloned();
    match (method, found) {
        (Method::PUT, Some(_)) if headers.contains_key(header::IF_NONE_MATCH) => {
            StatusCode::PRECONDITION_FAILED.into_response()
        }
        (Method::PUT, _) => {
            let etag = etag(&body);
            objects.insert(object, body);
            [(header::ETAG, etag)].into_response()
        }
        (Method::GET | Method::HEAD, Some(object)) => {
            let known = [
                (header::ETAG, etag(&object)),
                (header::LAST_MODIFIED, WRITTEN_AT[0].to_owned()),
            ];
            match range(&headers, object.len()) {
                Some((first, last)) => {
                    let whole = object.len();
                    let range = format!("bytes {first}-{last}/{whole}");
                    let part = object.slice(first..=last);
                    let status = StatusCode::PARTIAL_CONTENT;
                    (status, known, [(header::CONTENT_RANGE, range)], part).into_response()
                }
                None => (known, object).into_response(),
            }
        }
        (Method::GET | Method::HEAD, None) => StatusCode::NOT_FOUND.into_response(),
        _ => StatusCode::NOT_IMPLEMENTED.into_response(),
    }
}

fn etag(object: &Bytes) -> String {
    format!("\"{:08x}\"", crc32c::crc32c(object))
}

/// First and last byte of `Range: bytes=1-2`.
fn range(headers: &HeaderMap, length: usize) -> Option<(usize, usize)> {
    let range = headers.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let last: usize = last.parse().unwrap_or(usize::MAX);
    Some((first.parse().ok()?, last.min(length.checked_sub(1)?)))
}
