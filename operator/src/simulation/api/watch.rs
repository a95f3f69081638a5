//! Implements watches: answers whose bodies stay open until their time is over. This module changes
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ApiServer;
use super::answer::{Answer, event_line, view};
use super::read::{is_meant, meant};
use super::request::ApiRequest;
use super::store::{Change, Store, What};

/// The duration of a watch if its request sets none.
const USUAL_TIMEOUT: u64 = 1800;
/// How much time passes between two bookmarks of a watch.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);
/// How long before its end a watch sends its last bookmark.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How long after a change a watch gets its event.
const DELAY: Duration = Duration::from_millis(2);

/// An open watch.
struct Watching {
    server: ApiServer,
    request: ApiRequest,
    /// The index of the next change to look at.
    next: usize,
    ends: Instant,
    bookmark: Instant,
}

/// Opens the watch of `request`, or returns the error.
pub(crate) fn open(
    server: &ApiServer,
    request: &ApiRequest,
) -> Result<impl Stream<Item = Bytes> + use<>, Answer> {
    let (first, next) = {
        let store = server.lock();
        let from = request.query.resource_version.as_deref().unwrap_or("");
        let wants_all = request.query.sends_initial_events || from.is_empty() || from == "0";
        if wants_all {
            (initial_events(&store, request), store.changes().len())
        } else {
            let version: u64 = from.parse().map_err(|_| {
                let message = format!(
                    "resourceVersion: Invalid value: \"{from}\": strconv.ParseUint: parsing \"{from}\": invalid syntax"
                );
                Answer::fail(500, "", &message)
            })?;
            if version < store.oldest() {
                return Ok(
                    stream::iter([Bytes::from(expired_line(version, store.oldest()))])
                        .left_stream(),
                );
            }
            let next = store
                .changes()
                .partition_point(|change| change.version <= version);
            (Vec::new(), next)
        }
    };
    let seconds = request.query.timeout_seconds.unwrap_or(USUAL_TIMEOUT);
    let now = Instant::now();
    let watching = Watching {
        server: server.clone(),
        request: request.clone(),
        next,
        ends: now + Duration::from_secs(seconds),
        bookmark: next_bookmark(now, now + Duration::from_secs(seconds)),
    };
    let first = stream::iter(first.into_iter().map(Bytes::from));
    Ok(first
        .chain(stream::unfold(watching, Watching::advance))
        .right_stream())
}

/// Returns when a watch sends its next bookmark. It sends bookmarks at a fixed interval, and one
/// more before it ends.
fn next_bookmark(now: Instant, ends: Instant) -> Instant {
    let last = ends.checked_sub(BOOKMARK_BEFORE_END);
    let usual = now + BOOKMARK_INTERVAL;
    last.filter(|last| *last > now)
        .map_or(usual, |last| last.min(usual))
}

/// Returns a body that consists of lines.
pub(crate) fn body(
    lines: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
) -> Body {
    Body::from_stream(lines)
}

impl Watching {
    /// Waits for the next lines. Returns them, and the watch as it is after them.
    async fn advance(mut self) -> Option<(Bytes, Self)> {
        let mut changed = self.server.subscribe();
        loop {
            // The writer of a change gets its answer before watches get the event.
            let lines = self.take_lines();
            if !lines.is_empty() {
                sleep_until(Instant::now() + DELAY).await;
                return Some((Bytes::from(lines), self));
            }
            let now = Instant::now();
            if now >= self.ends {
                return None;
            }
            if now >= self.bookmark {
                self.bookmark = next_bookmark(now, self.ends);
                if self.request.query.wants_bookmarks {
                    return Some((Bytes::from(self.bookmark_line()), self));
                }
            }
            // It does not matter whether something has changed or a time has come: the loop checks
            // both.
            drop(timeout_at(self.ends.min(self.bookmark), changed.changed()).await);
        }
    }

    fn take_lines(&mut self) -> Vec<u8> {
        let store = self.server.lock();
        let mut lines = Vec::new();
        for change in &store.changes()[self.next..] {
            lines.extend(line_of(&self.request, change).unwrap_or_default());
        }
        self.next = store.changes().len();
        lines
    }

    fn bookmark_line(&self) -> Vec<u8> {
        let version = self.server.lock().version();
        event_line("BOOKMARK", &bookmark(&self.request, version, false))
    }
}

/// Returns the event of a change for this watch. If an object no longer matches, the event is a
/// deletion. If it begins to match, the event is an addition.
fn line_of(request: &ApiRequest, change: &Change) -> Option<Vec<u8>> {
    let is_meant = |object: &Value| is_meant(request, &change.key, object);
    if change.key.kind != request.kind {
        return None;
    }
    let is_now = change.what != What::Deleted && is_meant(&change.object);
    let was = change
        .before
        .as_ref()
        .is_some_and(|before| is_meant(before));
    let what = match (was, is_now) {
        (false, true) => "ADDED",
        (true, true) => "MODIFIED",
        (true, false) => "DELETED",
        (false, false) => return None,
    };
    let object = match &change.before {
        // If the object no longer matches, the watch gets its last matching state.
        Some(before) if !is_now => {
            let mut last = Value::clone(before);
            last["metadata"]["resourceVersion"] =
                change.object["metadata"]["resourceVersion"].clone();
            Arc::new(last)
        }
        Some(_) | None => Arc::clone(&change.object),
    };
    Some(event_line(what, &view(request, &object)))
}

/// Returns events for all existing objects, and the bookmark after them.
fn initial_events(store: &Store, request: &ApiRequest) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = meant(store, request)
        .iter()
        .map(|(_, object)| event_line("ADDED", &view(request, object)))
        .collect();
    if request.query.sends_initial_events {
        lines.push(event_line(
            "BOOKMARK",
            &bookmark(request, store.version(), true),
        ));
    }
    lines
}

fn bookmark(request: &ApiRequest, version: u64, ends_initial: bool) -> Value {
    let facts = request.kind.facts();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ends_initial {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    if request.is_partial {
        return json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
    }
    json!({"kind": facts.kind, "apiVersion": facts.api_version(), "metadata": metadata})
}

/// Returns the event that ends a watch whose version is too old.
pub(crate) fn expired_line(version: u64, oldest: u64) -> Vec<u8> {
    let answer = Answer::gone(&format!("too old resource version: {version} ({oldest})"));
    event_line("ERROR", &answer.body)
}
