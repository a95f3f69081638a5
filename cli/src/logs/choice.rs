//! Chooses the pods whose lines are printed, and says why there are none. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names::{
    COMPONENT_COORDINATOR, COMPONENT_WORKER, LABEL_COMPONENT, LABEL_GENERATION,
};
use zephyr_crds::status::Phase;

use super::CONTAINER;
use crate::status::reason;
use crate::terminal::printable;

/// Which pods are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    Coordinator,
    Workers,
    Worker(u32),
}

/// A pod whose lines are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The name of the pod.
    pub(super) pod: String,
    /// The uid of the pod.
    pub(super) uid: String,
    /// What is printed before each of its lines.
    pub(super) prefix: String,
    /// How often its container has restarted.
    pub(super) restarts: i32,
    /// Whether its container runs now.
    pub(super) runs: bool,
    /// Why its container has not started yet.
    pub(super) waits: Option<String>,
}

/// The pods that are asked for: coordinators first, then workers by number.
pub(super) fn choose(pods: &[Pod], choice: Choice) -> Vec<Source> {
    let mut sources: Vec<_> = pods
        .iter()
        .filter_map(|pod| {
            let worker = worker_number(pod);
            let is_coordinator = label(pod, LABEL_COMPONENT) == COMPONENT_COORDINATOR;
            let is_chosen = match choice {
                Choice::All => is_coordinator || worker.is_some(),
                Choice::Coordinator => is_coordinator,
                Choice::Workers => worker.is_some(),
                Choice::Worker(number) => worker == Some(number),
            };
            is_chosen.then(|| (worker, source(pod, worker)))
        })
        .collect();
    sources.sort_by(|a, b| (a.0, &a.1.prefix, &a.1.pod).cmp(&(b.0, &b.1.prefix, &b.1.pod)));
    sources.into_iter().map(|(_, source)| source).collect()
}

fn label<'a>(pod: &'a Pod, name: &str) -> &'a str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(name))
        .map_or("", String::as_str)
}

fn worker_number(pod: &Pod) -> Option<u32> {
    let name = pod.metadata.name.as_deref()?;
    let is_worker = label(pod, LABEL_COMPONENT) == COMPONENT_WORKER;
    name.rsplit('-').next()?.parse().ok().filter(|_| is_worker)
}

fn source(pod: &Pod, worker: Option<u32>) -> Source {
    let role = worker.map_or_else(
        || "coordinator".to_owned(),
        |number| format!("worker {number}"),
    );
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    let container = containers
        .into_iter()
        .flatten()
        .find(|container| container.name == CONTAINER);
    let state = container.and_then(|container| container.state.as_ref());
    Source {
        pod: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        prefix: format!("[{role} g{}] ", label(pod, LABEL_GENERATION)),
        restarts: container.map_or(0, |container| container.restart_count),
        runs: state.is_some_and(|state| state.running.is_some()),
        waits: waits(container),
    }
}

/// Why a container has printed nothing yet.
fn waits(container: Option<&ContainerStatus>) -> Option<String> {
    let Some(container) = container else {
        return Some("the pod has no node yet, or its node has not started it".to_owned());
    };
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    // A container that waits to be restarted has the lines of its last run.
    let has_run = container.restart_count > 0
        || container
            .last_state
            .as_ref()
            .is_some_and(|last| last.terminated.is_some());
    if has_run {
        return None;
    }
    let words = [waiting.reason.as_deref(), waiting.message.as_deref()];
    let words: Vec<_> = words.into_iter().flatten().collect();
    Some(words.join(": "))
}

/// Why there is no pod to read, and what to do.
pub(super) fn nothing_chosen(job: &ZephyrJob, pods: &[Pod], choice: Choice) -> String {
    let metadata = &job.metadata;
    let name = printable(metadata.name.as_deref().unwrap_or_default());
    let namespace = printable(metadata.namespace.as_deref().unwrap_or_default());
    let (has_workers, has_coordinator) = (
        !choose(pods, Choice::Workers).is_empty(),
        !choose(pods, Choice::Coordinator).is_empty(),
    );
    if let Choice::Worker(number) = choice
        && has_workers
    {
        let mut numbers: Vec<_> = pods.iter().filter_map(worker_number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let last = numbers.last().copied().unwrap_or_default();
        return format!(
            "--worker: job {namespace}/{name} has no pod of this worker (got {number}); it has {} workers with pods, the last is {last}",
            numbers.len()
        );
    }
    let status = job.status.clone().unwrap_or_default();
    let why = reason(&status).map_or(String::new(), |why| {
        format!(": {}", printable(&why.message))
    });
    match status.phase {
        Some(Phase::Succeeded) => format!(
            "job {namespace}/{name} has succeeded, and its pods are gone with their lines; `kubectl zephyr result {name} -n {namespace}` shows what it wrote"
        ),
        Some(Phase::Failed) if has_coordinator => format!(
            "job {namespace}/{name} has failed{why}; its workers' pods are gone with their lines; --coordinator shows the coordinator, and --task failed the last lines of a failed attempt"
        ),
        Some(Phase::Failed) => format!(
            "job {namespace}/{name} has failed{why}; its pods are gone with their lines; --task failed shows the last lines of a failed attempt, and `kubectl zephyr history {name} -n {namespace} --ledger` each failed attempt; to keep the lines of the next run, start `kubectl zephyr logs -f` while it runs"
        ),
        _ if has_coordinator => format!(
            "job {namespace}/{name} has no worker pods now{why}; --coordinator shows the coordinator"
        ),
        _ => format!(
            "job {namespace}/{name} has no such pods now{why}; `kubectl zephyr explain {name} -n {namespace}` says why, and -f waits for them"
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::status::tests::job_with;

    fn pod(component: &str, name: &str, state: &Value, restarts: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "labels": {
                "app.kubernetes.io/component": component, "zephyr.dev/generation": "2",
            }},
            "status": {"containerStatuses": [{
                "name": "zephyr", "image": "", "imageID": "", "ready": true, "restartCount": restarts, "state": state,
            }]},
        }))
        .expect("a pod")
    }

    fn pods() -> Vec<Pod> {
        let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        vec![
            pod("worker", "a-workers-g2-10", &runs, 0),
            pod("worker", "a-workers-g2-2", &runs, 1),
            pod("coordinator", "a-coordinator-g2-5d9f-x2x", &runs, 0),
        ]
    }

    #[test]
    fn the_coordinator_comes_first_and_workers_by_number() {
        let prefixes = |choice| -> Vec<String> {
            let sources = choose(&pods(), choice);
            sources.into_iter().map(|source| source.prefix).collect()
        };
        assert_eq!(
            prefixes(Choice::All),
            ["[coordinator g2] ", "[worker 2 g2] ", "[worker 10 g2] "]
        );
        assert_eq!(prefixes(Choice::Worker(10)), ["[worker 10 g2] "]);
        assert_eq!(prefixes(Choice::Coordinator), ["[coordinator g2] "]);
        assert_eq!(prefixes(Choice::Workers).len(), 2);
    }

    #[test]
    fn a_container_that_never_ran_waits_and_one_that_crashed_has_lines() {
        let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let found = choose(&[pod("worker", "w-0", &state, 0)], Choice::All);
        assert_eq!(
            found[0].waits.as_deref(),
            Some("ImagePullBackOff: no such image")
        );
        let state = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        let found = choose(&[pod("worker", "w-0", &state, 3)], Choice::All);
        assert_eq!((found[0].waits.as_deref(), found[0].runs), (None, false));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let job = |phase: &str| job_with("a", &json!({"phase": phase}));
        let text = nothing_chosen(&job("Running"), &pods(), Choice::Worker(3));
        assert!(
            text.contains("(got 3); it has 2 workers with pods, the last is 10"),
            "{text}"
        );
        let text = nothing_chosen(&job("Failed"), &[], Choice::All);
        assert!(
            text.contains("its pods are gone") && text.contains("--ledger"),
            "{text}"
        );
        let text = nothing_chosen(&job("Succeeded"), &[], Choice::All);
        assert!(text.contains("kubectl zephyr result a -n team"), "{text}");
        let text = nothing_chosen(&job("Pending"), &[], Choice::Workers);
        assert!(text.contains("kubectl zephyr explain a -n team"), "{text}");
        let text = nothing_chosen(&job("Running"), &pods()[2..], Choice::Workers);
        assert!(text.contains("--coordinator shows"), "{text}");
    }
}
