//! Finds out why pods of a `StatefulSet` are refused. This is read from the set's events, because
//! the set has no condition for it. No decision depends on it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Client;

use super::events::{CLOCK_SLACK, seen_at, visit};
use crate::calls::CallError;

/// How long a refusal is valid. The controller of `StatefulSet`s retries after at most 1,000 s, and
/// its events are published at least every 300 s. So a refusal that still applies is never older
/// than this.
pub const MAX_REFUSAL_AGE: SignedDuration = SignedDuration::from_mins(25);
/// The newest event that says that a pod could not be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRefusal {
    /// When the controller last reported it.
    pub at: Timestamp,
    /// The API server's message.
    pub message: String,
}

impl PodRefusal {
    /// Returns whether the event explains why pods that have been missing since `missing_since` are
    /// still missing at `now`. An event from another time does not explain that.
    pub fn explains(&self, missing_since: Timestamp, now: Timestamp) -> bool {
        let age = now.duration_since(self.at);
        let before = missing_since.duration_since(self.at);
        age <= MAX_REFUSAL_AGE && before <= CLOCK_SLACK
    }
}

/// Returns the newest refusal of a pod of the `StatefulSet` with this uid.
pub async fn newest_refusal(
    client: &Client,
    namespace: &str,
    uid: &str,
) -> Result<Option<PodRefusal>, CallError> {
    let selector = format!("involvedObject.uid={uid},reason=FailedCreate");
    let mut newest: Option<PodRefusal> = None;
    visit(client, namespace, &selector, |event| {
        let found = newest.take().into_iter().chain(refusal(event));
        newest = found.max_by_key(|one| one.at);
    })
    .await?;
    Ok(newest)
}

/// Returns the message of an event, and when it was last seen. Returns `None` if it has no time or
/// no message.
fn refusal(event: Event) -> Option<PodRefusal> {
    let at = seen_at(&event)?;
    let message = event.message?;
    Some(PodRefusal { at, message })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::Router;
    use axum::extract::Query;
    use axum::http::StatusCode;
    use axum::routing::get;
    use serde_json::{Value, json};

    use super::*;
    use crate::calls::Refusal;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Returns a client of an API server that only lists events, in pages of two, or refuses the
    /// list.
    async fn server(events: Vec<Value>, denied: bool) -> Client {
        let list = move |Query(query): Query<BTreeMap<String, String>>| async move {
            if denied {
                let status = json!({
                    "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                    "message": "events is forbidden",
                });
                return (StatusCode::FORBIDDEN, axum::Json(status));
            }
            assert_eq!(
                query["fieldSelector"],
                "involvedObject.uid=set-uid,reason=FailedCreate"
            );
            let from = query
                .get("continue")
                .map_or(0, |token| token.parse::<usize>().unwrap());
            let until = (from + 2).min(events.len());
            let token = (until < events.len()).then(|| until.to_string());
            let page = json!({
                "apiVersion": "v1", "kind": "EventList",
                "metadata": {"resourceVersion": "1", "continue": token},
                "items": events[from..until],
            });
            (StatusCode::OK, axum::Json(page))
        };
        let routes = Router::new().route("/api/v1/namespaces/team/events", get(list));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = format!("http://{address}").parse().unwrap();
        Client::try_from(kube::Config::new(url)).unwrap()
    }

    fn event(name: &str, last: &str, message: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "team"},
            "involvedObject": {"uid": "set-uid"}, "reason": "FailedCreate",
            "message": message, "lastTimestamp": last,
        })
    }

    #[tokio::test]
    async fn the_newest_refusal_is_found_on_whichever_page_it_is() {
        let mut events: Vec<Value> = (0..5)
            .map(|n| {
                event(
                    &format!("a{n}"),
                    "2026-01-01T10:00:00Z",
                    "yesterday's quota",
                )
            })
            .collect();
        events.push(event("z", "2026-01-01T11:00:00Z", "today's quota"));
        events.push(event("zz", "2026-01-01T10:30:00Z", "between"));
        let client = server(events, false).await;
        let newest = newest_refusal(&client, "team", "set-uid").await.unwrap();
        let newest = newest.map(|refusal| refusal.message);
        assert_eq!(newest.as_deref(), Some("today's quota"));
    }

    #[tokio::test]
    async fn a_list_that_is_denied_is_an_answer_and_not_a_failure_of_the_job() {
        let client = server(Vec::new(), true).await;
        let error = newest_refusal(&client, "team", "set-uid")
            .await
            .unwrap_err();
        assert_eq!(error.refusal(), Refusal::Forbidden);
    }

    #[test]
    fn a_refusal_explains_only_pods_that_are_missing_since_then() {
        let refusal = PodRefusal {
            at: at(10_000),
            message: "exceeded quota".to_owned(),
        };
        for (missing_since, now, explains) in [
            (9_990, 10_010, true),
            // Clocks differ slightly.
            (10_020, 10_030, true),
            // A refusal from an hour ago does not explain why pods went missing a moment ago.
            (13_600, 13_610, false),
            (10_100, 10_110, false),
            // The pods were missing all the time, but there was no refusal for half an hour.
            (9_990, 10_000 + 25 * 60, true),
            (9_990, 10_000 + 30 * 60, false),
        ] {
            let found = refusal.explains(at(missing_since), at(now));
            assert_eq!(found, explains, "{missing_since} {now}");
        }
    }
}
