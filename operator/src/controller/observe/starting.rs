//! Finds out why a pod that has a node does not start. This is read from the pod's events, because
//! its status does not say why.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::Client;

use super::events::{CLOCK_SLACK, seen_at, visit};
use crate::calls::CallError;

/// How long an event explains a pod that does not start. The kubelet retries after at most 2 min,
/// and its events are published at least every 5 min.
const MAX_AGE: SignedDuration = SignedDuration::from_mins(15);
/// Reason of events by the scheduler. They are from before the pod had a node, so they do not
/// explain why it does not start.
const OF_THE_SCHEDULER: &str = "FailedScheduling";
/// Reason of events about a failed probe. Only a running container is probed, so the pod has
/// started. A busy node causes many of these events.
const OF_A_PROBE: &str = "Unhealthy";
/// Reason of the event that an image is being pulled, which is not a problem.
const PULLING: &str = "Pulling";
/// How the kubelet's message about a late volume begins. Another event explains the cause.
const LATE_VOLUMES: &str = "Unable to attach or mount volumes";

/// The reason why a pod does not start, from the newest event that gives a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartEvent {
    /// When it was last seen.
    pub at: Timestamp,
    /// What it says about the start.
    pub kind: StartEventKind,
    /// Reason and message, as Kubernetes wrote them.
    pub message: String,
}

/// The kinds of reasons why a pod does not start. Each kind needs a different action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartEventKind {
    /// The image is being pulled.
    Pulling,
    /// A Secret or `ConfigMap`, or a key in one, is missing.
    ReferenceNotFound,
    /// The network, a volume or the container runtime of the node fails.
    Failing,
}

impl StartEvent {
    /// Returns whether the event explains why a pod has not started, although its node has been
    /// starting it since `since`.
    fn explains(&self, since: Timestamp, now: Timestamp) -> bool {
        let before = since.duration_since(self.at);
        now.duration_since(self.at) <= MAX_AGE && before <= CLOCK_SLACK
    }
}

/// Reads why the pod with this uid does not start. Its node has been starting it since `since`.
pub async fn newest(
    client: &Client,
    namespace: &str,
    uid: &str,
    since: Timestamp,
    now: Timestamp,
) -> Result<Option<StartEvent>, CallError> {
    let selector = format!("involvedObject.uid={uid}");
    let mut found = Found::default();
    visit(client, namespace, &selector, |event| found.note(&event)).await?;
    Ok(found.best(since, now))
}

/// The newest event of each kind of message.
#[derive(Debug, Default)]
struct Found(BTreeMap<bool, StartEvent>);

impl Found {
    fn note(&mut self, event: &Event) {
        let Some(read) = StartEvent::read(event) else {
            return;
        };
        let is_vague = read.message.contains(LATE_VOLUMES);
        let newest = self.0.entry(is_vague).or_insert_with(|| read.clone());
        if newest.at < read.at {
            *newest = read;
        }
    }

    /// Returns the event that explains the pod best: an event with a cause is preferred to an event
    /// that only reports a delay.
    fn best(self, since: Timestamp, now: Timestamp) -> Option<StartEvent> {
        let mut all = self.0.into_values();
        all.find(|event| event.explains(since, now))
    }
}

impl StartEvent {
    /// Returns the reason in an event, or `None` if the event does not explain why a pod does not
    /// start.
    fn read(event: &Event) -> Option<Self> {
        let reason = event.reason.as_deref()?;
        let message = event.message.as_deref()?;
        let is_warning = event.type_.as_deref() == Some("Warning");
        let kind = match reason {
            PULLING => StartEventKind::Pulling,
            OF_THE_SCHEDULER | OF_A_PROBE => return None,
            _ if !is_warning => return None,
            _ if is_missing_reference(message) => StartEventKind::ReferenceNotFound,
            _ => StartEventKind::Failing,
        };
        Some(Self {
            at: seen_at(event)?,
            kind,
            message: format!("{reason}: {}", without_ids(message)),
        })
    }
}

/// Returns the message without the ids of sandboxes and containers, which differ at each try.
fn without_ids(message: &str) -> String {
    /// How many digits such an id has at least.
    const ID_DIGITS: usize = 32;
    let is_digit = |character: char| character.is_ascii_hexdigit();
    let mut text = String::new();
    let mut rest = message;
    while let Some(begin) = rest.find(is_digit) {
        let (before, from) = rest.split_at(begin);
        let length = from
            .find(|character| !is_digit(character))
            .unwrap_or(from.len());
        let (digits, after) = from.split_at(length);
        text.push_str(before);
        text.push_str(if length < ID_DIGITS { digits } else { "…" });
        rest = after;
    }
    text + rest
}

/// Returns whether the message says that the kubelet cannot find a Secret, a `ConfigMap` or a key
/// in one.
fn is_missing_reference(message: &str) -> bool {
    let names_one = message.contains("secret \"") || message.contains("configmap \"");
    (names_one && message.contains("not found"))
        || message.contains("references non-existent secret key")
        || message.contains("references non-existent config key")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, reason: &str, second: u32, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": {"name": reason, "namespace": "team"}, "involvedObject": {"uid": "uid-w-0"},
            "type": kind, "reason": reason, "message": message,
            "lastTimestamp": format!("1970-01-01T01:{:02}:{:02}Z", second / 60, second % 60),
        }))
        .unwrap()
    }

    /// Returns the result for the events of a pod that got its node at 1:00:00. The events are read
    /// ten minutes later.
    fn said(events: &[Event]) -> Option<(StartEventKind, String)> {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut found = Found::default();
        for event in events {
            found.note(event);
        }
        let best = found.best(at(3_600), at(4_200))?;
        Some((best.kind, best.message))
    }

    #[test]
    fn fault_f21_each_cause_of_a_pod_that_does_not_start_is_known_by_its_event() {
        use StartEventKind::{Failing, Pulling, ReferenceNotFound};
        let secret =
            "MountVolume.SetUp failed for volume \"token\" : secret \"count-token\" not found";
        let config_map = "MountVolume.SetUp failed for volume \"ca\" : configmap \"ca\" not found";
        let key = "MountVolume.SetUp failed for volume \"ca\" : references non-existent secret key: ca.crt";
        let sandbox = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox";
        let attach = "AttachVolume.Attach failed for volume \"pvc-1\" : node not found";
        let image = "Pulling image \"registry.example/zephyr-worker:1\"";
        for (kind, reason, message, expected) in [
            ("Warning", "FailedMount", secret, ReferenceNotFound),
            ("Warning", "FailedMount", config_map, ReferenceNotFound),
            ("Warning", "FailedMount", key, ReferenceNotFound),
            ("Warning", "FailedCreatePodSandBox", sandbox, Failing),
            ("Warning", "FailedAttachVolume", attach, Failing),
            (
                "Warning",
                "NetworkNotReady",
                "network is not ready",
                Failing,
            ),
            ("Normal", "Pulling", image, Pulling),
        ] {
            let said = said(&[event(kind, reason, 300, message)]);
            assert_eq!(said, Some((expected, format!("{reason}: {message}"))));
        }
    }

    #[test]
    fn events_that_explain_nothing_are_ignored() {
        let earlier = serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "type": "Warning", "reason": "FailedMount",
            "message": "of an hour ago", "lastTimestamp": "1970-01-01T00:01:00Z",
        }))
        .unwrap();
        let events = [
            event(
                "Warning",
                "FailedScheduling",
                300,
                "0/3 nodes are available",
            ),
            event("Normal", "Scheduled", 300, "Successfully assigned"),
            event("Normal", "Pulled", 300, "already present"),
            event(
                "Warning",
                "Unhealthy",
                300,
                "Readiness probe failed: HTTP probe failed with statuscode: 503",
            ),
            earlier,
        ];
        assert_eq!(said(&events), None);
    }

    #[test]
    fn tries_that_differ_only_by_the_id_of_a_sandbox_have_the_same_message() {
        let message =
            |id: &str| format!("failed for sandbox \"{}\": add fa00 to eth0", id.repeat(32));
        let said = |id| {
            said(&[event(
                "Warning",
                "FailedCreatePodSandBox",
                300,
                &message(id),
            )])
        };
        let (_, one) = said("0a").unwrap();
        assert_eq!(said("f1").unwrap().1, one);
        assert!(
            one.ends_with("failed for sandbox \"…\": add fa00 to eth0"),
            "{one}"
        );
    }

    #[test]
    fn an_event_that_says_why_comes_before_one_that_says_that_volumes_are_late() {
        let late = "Unable to attach or mount volumes: unmounted volumes=[token]: timed out waiting for the condition";
        let why = event("Warning", "FailedMount", 300, "secret \"a\" not found");
        let late = event("Warning", "FailedMount", 500, late);
        let (kind, _) = said(&[late.clone(), why]).unwrap();
        assert_eq!(kind, StartEventKind::ReferenceNotFound);
        let (kind, message) = said(&[late]).unwrap();
        assert_eq!(kind, StartEventKind::Failing);
        assert!(message.contains("unmounted volumes=[token]"), "{message}");
        let newest = [
            event("Warning", "FailedCreatePodSandBox", 200, "before"),
            event("Normal", "Pulling", 400, "Pulling image"),
        ];
        assert_eq!(
            said(&newest).map(|said| said.0),
            Some(StartEventKind::Pulling)
        );
    }
}
