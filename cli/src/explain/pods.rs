//! Why pods are not created, placed or started: from the pods and their events. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::Cause;
use crate::events::fold::{Folded, fold, seen_at};

/// Reasons of events that say why a pod does not start, and what to do.
const REASONS: [(&str, &str); 6] = [
    (
        "FailedScheduling",
        "give the cluster more room, or lower spec.workers.resources, spec.workers.replicas or maxReplicas",
    ),
    (
        "FailedCreate",
        "ask the administrator of the namespace for a larger quota or for the right, or lower spec.workers.replicas (or maxReplicas) and spec.workers.resources",
    ),
    (
        "FailedMount",
        "create the Secret or ConfigMap that the message names, or correct its name in the spec",
    ),
    (
        "FailedCreatePodSandBox",
        "nothing at first: the node tries again; if it lasts, the network of the node has to be repaired",
    ),
    (
        "Preempting",
        "nothing: the pod is replaced; pods of a higher priority took its place",
    ),
    (
        "Evicted",
        "nothing: the pod is replaced; raise spec.workers.resources if it used more than it asked for",
    ),
];

/// What to do about the reason for which a container waits.
fn waiting(reason: &str) -> Option<&'static str> {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some("correct the name of the image, or give the nodes the right to pull it")
        }
        "CreateContainerConfigError" => {
            Some("create the Secret or ConfigMap that the message names")
        }
        "CrashLoopBackOff" | "RunContainerError" | "CreateContainerError" => {
            Some("look at the lines of this pod with `kubectl zephyr logs`")
        }
        _ => None,
    }
}

/// The causes that pods and events show.
pub(super) fn causes(pods: &[Pod], events: &[Event]) -> Vec<Cause> {
    let mut causes: Vec<_> = pods.iter().filter_map(of_pod).collect();
    causes.sort_by(|a, b| a.message.cmp(&b.message));
    // One pod is enough for each reason, because workers have the same template.
    causes.dedup_by(|a, b| a.reason == b.reason);
    let current = events
        .iter()
        .filter(|event| is_current(event, pods, events));
    for (reason, action) in REASONS {
        let of_reason = current.clone();
        let of_reason = of_reason.filter(|event| event.reason.as_deref() == Some(reason));
        // Of each reason, only the newest sentence is shown.
        causes.extend(
            fold(of_reason.cloned().collect())
                .last()
                .map(|one| of_event(one, action)),
        );
    }
    causes
}

/// Whether an event still holds: its pod exists and has no node yet or has not started. An event of
/// another object holds while no later event of the object says that something was created.
fn is_current(event: &Event, pods: &[Pod], events: &[Event]) -> bool {
    let object = &event.involved_object;
    if object.kind.as_deref() == Some("Pod") {
        let pod = pods.iter().find(|pod| pod.metadata.name == object.name);
        return match pod {
            Some(pod) => pod.metadata.uid == object.uid && !has_started(pod),
            None => false,
        };
    }
    !events.iter().any(|other| {
        other.involved_object.uid == object.uid
            && other.reason.as_deref() == Some("SuccessfulCreate")
            && seen_at(other) > seen_at(event)
    })
}

fn has_started(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|status| status.phase.as_deref() != Some("Pending"))
}

fn of_pod(pod: &Pod) -> Option<Cause> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    let waits = |container: &ContainerStatus| container.state.as_ref()?.waiting.clone();
    for waits in containers.filter_map(waits) {
        let reason = waits.reason.unwrap_or_default();
        let Some(action) = waiting(&reason) else {
            continue;
        };
        let message = waits.message.unwrap_or_default();
        return Some(Cause {
            message: format!("pod {name} waits ({message})"),
            words: message,
            action: action.to_owned(),
            reason,
        });
    }
    None
}

fn of_event(one: &Folded, action: &str) -> Cause {
    let more = match one.objects {
        1 => String::new(),
        objects => format!(" and {} more", objects - 1),
    };
    Cause {
        reason: one.reason.clone(),
        message: format!("{}{more}: {}", one.object, one.message),
        words: one.message.clone(),
        action: action.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::events::fold::tests::event;

    fn pod(name: &str, status: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "uid": "u-1"}, "status": status}))
            .expect("a pod")
    }

    #[test]
    fn a_pod_without_a_node_is_explained_by_the_scheduler_until_it_has_started() {
        let events = [event(
            "Pod/a-workers-g1-0",
            "FailedScheduling",
            "no room",
            3,
        )];
        let waits = pod("a-workers-g1-0", &json!({"phase": "Pending"}));
        let found = causes(&[waits], &events);
        assert_eq!(found[0].message, "Pod/a-workers-g1-0: no room");
        let runs = pod("a-workers-g1-0", &json!({"phase": "Running"}));
        assert_eq!(causes(&[runs], &events), []);
        assert_eq!(causes(&[], &events), []);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_named_once() {
        let waits = json!({"phase": "Pending", "containerStatuses": [{
            "name": "zephyr", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x\""}},
        }]});
        let pods = [pod("a-workers-g1-0", &waits), pod("a-workers-g1-1", &waits)];
        let found = causes(&pods, &[]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .message
                .contains("a-workers-g1-0 waits (Back-off pulling image")
        );
    }

    #[test]
    fn a_refused_pod_is_forgotten_when_a_later_one_was_created() {
        let refused = event(
            "StatefulSet/a-workers-g1",
            "FailedCreate",
            "exceeded quota",
            3,
        );
        let created = |minute| event("StatefulSet/a-workers-g1", "SuccessfulCreate", "", minute);
        assert_eq!(causes(&[], &[refused.clone(), created(2)]).len(), 1);
        assert_eq!(causes(&[], &[refused, created(4)]), []);
    }
}
