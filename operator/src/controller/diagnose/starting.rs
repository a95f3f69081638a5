//! Explains in one sentence why a pod that has a node does not start.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};

use super::{Trouble, TroubleKind};
use crate::controller::observe::starting::{StartEvent, StartEventKind};
use crate::pods::PodFacts;

/// How long a node may take to start a pod. After this time, the slow start counts as a problem.
/// This is enough time to pull an image that is not on the node yet, and to create a sandbox.
const START_TIMEOUT: SignedDuration = SignedDuration::from_mins(1);
/// How long the pull of an image may take. After this time, the pull counts as a problem. Our
/// images are smaller than 100 MB.
const PULL_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

/// How long a node may take to start a pod if no event reports a failure. After this time, the
/// pod's generation may end because of it. A node that creates a hundred pods at once needs minutes
/// for each. A large image over a slow network also needs minutes.
const SLOW_START: SignedDuration = SignedDuration::from_mins(30);
/// Like [`SLOW_START`], but if an event reports a failure. Under load a mount or a sandbox
/// sometimes fails, and the kubelet tries again after at most two minutes.
const FAILING_START: SignedDuration = SignedDuration::from_mins(5);

/// Returns the time until which a pod that its node is starting counts only as slow. Returns `None`
/// for any other pod. `found` is the result of its events, if they were listed.
pub(super) fn slow_until(
    pod: &PodFacts,
    found: Option<&StartEvent>,
    own_secret: &str,
) -> Option<Timestamp> {
    let since = pod
        .starting_since()
        .filter(|_| pod.init_trouble.is_none())?;
    let timeout = match found.map(|event| (event.kind, &event.message)) {
        None | Some((StartEventKind::Pulling, _)) => SLOW_START,
        // Nothing creates the missing object again.
        Some((StartEventKind::ReferenceNotFound, words)) if words.contains(own_secret) => {
            return None;
        }
        Some((StartEventKind::ReferenceNotFound | StartEventKind::Failing, _)) => FAILING_START,
    };
    since.checked_add(timeout).ok()
}

/// Returns the problem of a pod whose events were listed; `found` is the result. `own_secret` is
/// the name of the token's Secret of its generation.
pub(super) fn trouble(
    pod: &PodFacts,
    found: Option<&StartEvent>,
    own_secret: &str,
    role: &str,
    now: Timestamp,
) -> Option<Trouble> {
    let waits = now.duration_since(pod.starting_since()?);
    let name = &pod.name;
    let node = pod.node.as_deref().unwrap_or("of no name");
    let failing = |message: String| Trouble {
        kind: TroubleKind::Starting,
        message,
    };
    let Some(event) = found else {
        return (waits >= START_TIMEOUT).then(|| {
            failing(format!(
                "{role} pod {name} has node {node} but does not start, and no event says why; see kubectl describe pod {name}"
            ))
        });
    };
    let words = &event.message;
    match event.kind {
        StartEventKind::Pulling => (waits >= PULL_TIMEOUT).then(|| {
            failing(format!(
                "{role} pod {name} is still waiting for its image on node {node}: {words}"
            ))
        }),
        StartEventKind::ReferenceNotFound if words.contains(own_secret) => Some(failing(format!(
            "{role} pod {name} does not start: {words}; the operator created this Secret for the generation, and the next generation gets a new one"
        ))),
        StartEventKind::ReferenceNotFound => Some(Trouble {
            kind: TroubleKind::ReferenceNotFound,
            message: format!(
                "{role} pod {name} does not start: {words}; create it in the job's namespace"
            ),
        }),
        StartEventKind::Failing => Some(failing(format!(
            "{role} pod {name} does not start on node {node}: {words}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::{at, worker};

    fn said(kind: Option<StartEventKind>, message: &str, waits: i64) -> Option<Trouble> {
        let pod = PodFacts {
            node: Some("node-1".to_owned()),
            scheduled_since: Some(at(100)),
            ..worker("w-0")
        };
        let event = kind.map(|kind| StartEvent {
            at: at(110),
            kind,
            message: message.to_owned(),
        });
        let now = at(100 + waits);
        trouble(
            &pod,
            event.as_ref(),
            "count-token-0a1b2c3d-g1",
            "worker",
            now,
        )
    }

    #[test]
    fn fault_f21_a_pod_that_does_not_start_is_explained_in_one_sentence() {
        use StartEventKind::{Failing, Pulling, ReferenceNotFound};
        let cases = [
            (
                (
                    Some(Failing),
                    "FailedCreatePodSandBox: no address is left",
                    30,
                ),
                TroubleKind::Starting,
                "worker pod w-0 does not start on node node-1: FailedCreatePodSandBox: no address is left",
            ),
            (
                (
                    Some(ReferenceNotFound),
                    "FailedMount: configmap \"ca\" not found",
                    30,
                ),
                TroubleKind::ReferenceNotFound,
                "worker pod w-0 does not start: FailedMount: configmap \"ca\" not found; create it in the job's namespace",
            ),
            (
                (
                    Some(ReferenceNotFound),
                    "FailedMount: secret \"count-token-0a1b2c3d-g1\" not found",
                    30,
                ),
                TroubleKind::Starting,
                "worker pod w-0 does not start: FailedMount: secret \"count-token-0a1b2c3d-g1\" not found; the operator created this \
                 Secret for the generation, and the next generation gets a new one",
            ),
            (
                (Some(Pulling), "Pulling: Pulling image \"w:1\"", 120),
                TroubleKind::Starting,
                "worker pod w-0 is still waiting for its image on node node-1: Pulling: Pulling image \"w:1\"",
            ),
            (
                (None, "", 60),
                TroubleKind::Starting,
                "worker pod w-0 has node node-1 but does not start, and no event says why; see kubectl describe pod w-0",
            ),
        ];
        for ((event, message, waits), kind, sentence) in cases {
            let expected = Trouble {
                kind,
                message: sentence.to_owned(),
            };
            assert_eq!(said(event, message, waits), Some(expected));
        }
        assert_eq!(said(Some(Pulling), "Pulling image", 119), None);
        assert_eq!(said(None, "", 59), None);
    }
}
