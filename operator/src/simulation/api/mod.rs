//! A small API server in memory, as a tower service. It implements the part of the real API server
//! that the operator and its clients use, with the same answers. It knows nothing about jobs.

pub(crate) mod answer;
pub(crate) mod delete;
pub(crate) mod kinds;
pub(crate) mod metadata;
pub(crate) mod read;
pub(crate) mod request;
mod selector;
pub(crate) mod store;
pub(crate) mod watch;
mod write;

pub(crate) use self::write::merge;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;
use tokio::sync::watch as signal;

use self::answer::Answer;
use self::request::{ApiRequest, Verb};
use self::store::{Actor, Store};

/// The server. Clones refer to the same server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    store: Arc<Mutex<Store>>,
    changed: signal::Sender<u64>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl ApiServer {
    /// Returns an empty server. `now` returns the time that it writes into objects.
    pub(crate) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            store: Arc::default(),
            changed: signal::Sender::new(0),
            now: Arc::new(now),
        }
    }

    /// Returns the current time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// Locks the store, for reading.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store and wakes the watches.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Store, Timestamp) -> T) -> T {
        let (result, version) = {
            let mut store = self.lock();
            let result = change(&mut store, (self.now)());
            (result, store.version())
        };
        self.changed.send_if_modified(|known| {
            let is_new = *known != version;
            *known = version;
            is_new
        });
        result
    }

    /// Returns a receiver that is notified of changes.
    pub(crate) fn subscribe(&self) -> signal::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Answers `request`, which must not be a watch.
    pub(crate) fn answer(&self, request: &ApiRequest, by: Actor) -> Answer {
        self.change(|store, now| match request.verb {
            Verb::Get => read::get(store, request),
            Verb::List => read::list(store, request),
            Verb::Create => write::create(store, request, by, now),
            Verb::Update => write::update(store, request, by, now),
            Verb::Patch => write::patch(store, request, by, now),
            Verb::Delete => delete::delete(store, request, by, now),
            Verb::Watch => Answer::fail(500, "InternalError", "a watch has no single answer"),
        })
    }

    /// Returns the list of `request` as it was `versions_ago` versions ago.
    pub(crate) fn old_list(&self, request: &ApiRequest, versions_ago: u64) -> Answer {
        self.change(|store, _| {
            let version = store.version().saturating_sub(versions_ago);
            read::list_at(store, request, version)
        })
    }
}

/// Converts an answer into an HTTP response.
pub(crate) fn respond(answer: &Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
