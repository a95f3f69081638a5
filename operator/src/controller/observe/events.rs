//! Lists the events of one object, page by page. The API server lists events by name, so the newest
//! may be on any page.
//!
//! The results are only for people. If a list fails, only a sentence in status is missing.

use std::sync::Once;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams};
use tracing::{info, warn};

use crate::calls::{CallError, Refusal, bounded};

/// How many events one page contains. A page has about 500 KB.
const PAGE: u32 = 500;
/// How many pages are read at most. Kubernetes keeps about 40 events of one object per hour. The
/// newest event can be missed only if an object has more than 10,000 events.
const MAX_PAGES: usize = 20;
/// How far the clock of an event's writer may be behind ours. This includes the rounding of times
/// in events to whole seconds.
pub const CLOCK_SLACK: SignedDuration = SignedDuration::from_secs(30);

/// Visits all events that `selector` (a field selector) selects, in no particular order.
pub(super) async fn visit(
    client: &Client,
    namespace: &str,
    selector: &str,
    mut visitor: impl FnMut(Event),
) -> Result<(), CallError> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut page = ListParams::default().fields(selector).limit(PAGE);
    for _ in 0..MAX_PAGES {
        let events = bounded(api.list(&page)).await?;
        events.items.into_iter().for_each(&mut visitor);
        match events.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    Ok(())
}

/// Returns when an event was last seen, or `None` if the event has no time.
pub(super) fn seen_at(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref();
    let times = [
        series
            .and_then(|series| series.last_observed_time.as_ref())
            .map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}

/// Logs that events could not be listed. The cluster's administrator may have forbidden it on
/// purpose, so it is logged only once.
pub fn log_failure(job: &str, error: &CallError) {
    static DENIED: Once = Once::new();
    match error.refusal() {
        Refusal::Forbidden => DENIED.call_once(|| {
            info!(
                %error,
                "events cannot be listed, so status does not say why a job's pods are refused or do not start"
            );
        }),
        Refusal::NotFound
        | Refusal::AlreadyExists
        | Refusal::Conflict
        | Refusal::Invalid
        | Refusal::NamespaceEnding
        | Refusal::Transient => warn!(job, %error, "events not listed"),
    }
}
