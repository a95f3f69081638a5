//! Determines the state of the coordinator and the workers, and the problems that keep them from
//! working. Each problem is one sentence.
//!
//! Pure. This module only describes the state; `plan.rs` decides what to do about it.

mod starting;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use zephyr_crds::conditions::Reason;
use zephyr_crds::preemptible::SpotLabel;
use zephyr_crds::status::WorkerCounts;

use super::elastic::Needs;
use super::observed::{Observed, WorkersFacts};
use super::validate::ValidatedJob;
use crate::children::token_secret;
use crate::pods::{PodFacts, PodTrouble, Role, SessionView, Sessions, WorkerState, count_workers};
use crate::run_report::RunReport;

/// How long a coordinator with a ready pod may send no report. After this time, the silence counts
/// as a problem. Connection attempts are up to 11 s apart, and the address of a new pod takes a
/// moment to be known everywhere.
const NO_STREAM_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

/// The words in the scheduler's message if nodes lack the labels that the pod requires.
const OTHER_LABELS: &str = "node affinity/selector";

/// The state of the running generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagnosis {
    /// The coordinator's state.
    pub coordinator: CoordinatorHealth,
    /// The workers' state.
    pub workers: WorkersHealth,
}

/// The state of the coordinator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoordinatorHealth {
    /// Whether its pod is ready.
    pub ready: bool,
    /// Name of its newest pod, if there is one.
    pub pod: Option<String>,
    /// How often its container has restarted.
    pub restarts: i32,
    /// Whether it was ready at any time in this generation.
    pub was_ready: bool,
    /// The time since which it is not ready; absent while it is ready or does not exist yet.
    pub unavailable_since: Option<Timestamp>,
    /// While the coordinator is not ready: the time since which only the coordinator itself can be
    /// the cause, because its pod exists, has a node, and its container runs. A slow node first
    /// gets time to start the container, so this time may be in the future. While the coordinator
    /// is ready: the time since which the operator receives no report from it.
    pub silent_since: Option<Timestamp>,
    /// What keeps it from being ready.
    pub trouble: Option<Trouble>,
}

/// The state of the workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkersHealth {
    /// The numbers of workers in each state, as status shows them.
    pub counts: WorkerCounts,
    /// The number of replicas in the `StatefulSet`.
    pub replicas: u32,
    /// Whether fewer pods exist than replicas are requested.
    pub is_short: bool,
    /// The time since which no worker is alive. Absent while a worker is alive, or while no worker
    /// is requested.
    pub dead_since: Option<Timestamp>,
    /// When the first of the pods that are still not alive was assigned to its node. Pods without a
    /// node and pods that are being disrupted do not count. A slow node first gets time to start a
    /// pod, so this may be in the future.
    pub failing_since: Option<Timestamp>,
    /// What keeps workers from being ready.
    pub trouble: Option<Trouble>,
}

/// A problem that keeps pods from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Who can end it.
    pub kind: TroubleKind,
    /// One sentence that names the pod, and the image or object.
    pub message: String,
}

/// Kinds of problems, by the action that helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TroubleKind {
    /// The pod is refused because of quota, limits, pod security or a missing service account.
    /// Somebody has to change the cluster.
    Blocked,
    /// A Secret or `ConfigMap` is missing. The kubelet continues by itself as soon as the object
    /// exists.
    ReferenceNotFound,
    /// There is no node for the pod. The cluster may or may not provide one.
    Capacity,
    /// The image cannot be pulled or started.
    Image,
    /// The container exits by itself.
    Crashing,
    /// The node cannot start the pod, because of the network, volumes or an init container.
    Starting,
    /// The pod was deleted, but something prevents its removal.
    Held,
    /// The pod works, but the operator cannot reach it.
    Unreachable,
}

impl TroubleKind {
    /// Returns the reason in conditions.
    pub fn reason(self) -> Reason {
        match self {
            Self::Blocked => Reason::Blocked,
            Self::ReferenceNotFound => Reason::ReferenceNotFound,
            Self::Capacity => Reason::WaitingForCapacity,
            Self::Image => Reason::ImageError,
            Self::Crashing | Self::Starting | Self::Held => Reason::WorkersFailing,
            Self::Unreachable => Reason::CoordinatorUnavailable,
        }
    }

    /// Returns whether the cause is outside the job, so that another generation could not help.
    /// Status shows such a wait, and the wait uses up no generation.
    pub fn is_outside(self) -> bool {
        match self {
            Self::Blocked | Self::ReferenceNotFound | Self::Capacity => true,
            Self::Image | Self::Crashing | Self::Starting | Self::Held | Self::Unreachable => false,
        }
    }
}

/// Returns the state of `generation`. Timers that status already contains continue.
pub fn diagnose(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> Diagnosis {
    let coordinator = coordinator_health(job, observed, generation, now);
    let workers = workers_health(job, observed, generation, now);
    Diagnosis {
        coordinator,
        workers,
    }
}

fn coordinator_health(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> CoordinatorHealth {
    let before = job.status.coordinator.clone().unwrap_or_default();
    let Some(facts) = observed
        .generation(generation)
        .and_then(|objects| objects.coordinator.as_ref())
    else {
        return CoordinatorHealth::default();
    };
    let pod = observed.coordinator_pod(generation);
    let ready = facts.available_since.is_some();
    let wants_workers = observed
        .generation(generation)
        .and_then(|objects| objects.workers.as_ref())
        .is_some_and(|workers| workers.replicas > 0);
    let reported = observed
        .report
        .as_ref()
        .is_some_and(|report| report.generation == generation);
    let unavailable_since = (!ready).then(|| {
        let since = before.unavailable_since.as_ref();
        since_last_well(since, observed.last_well.coordinator_ready, now)
    });
    let no_stream = observed.no_stream.as_ref().zip(facts.available_since);
    let no_stream_since = no_stream.map(|(no_stream, ready)| no_stream.since.max(ready));
    let silent_since = unavailable_since.map(|since| {
        let begun = pod
            .into_iter()
            .flat_map(|pod| {
                let slow_until = slow_until(job, observed, pod);
                [
                    pod.created,
                    pod.scheduled_since,
                    pod.running_since(),
                    slow_until,
                ]
            })
            .flatten()
            .max();
        begun.map_or(since, |begun| begun.max(since))
    });
    let unreachable = no_stream
        .filter(|_| no_stream_since.is_some_and(|since| now.duration_since(since) >= NO_STREAM_TIMEOUT))
        .map(|(no_stream, _)| Trouble {
            kind: TroubleKind::Unreachable,
            message: format!(
                "the coordinator's pod is ready, but the operator cannot reach it ({}); a NetworkPolicy or the \
                 node's network may block the connection",
                no_stream.why
            ),
        });
    let trouble = match (&facts.refused, pod) {
        _ if ready => unreachable,
        (Some(refused), None) => Some(Trouble {
            kind: TroubleKind::Blocked,
            message: format!("the coordinator's pod is refused: {refused}"),
        }),
        (_, Some(pod)) => pod_trouble(job, observed, pod, now),
        (None, None) => None,
    };
    CoordinatorHealth {
        ready,
        pod: pod.map(|pod| pod.name.clone()),
        restarts: pod.map_or(0, |pod| pod.container.restarts),
        // Workers are requested only after the coordinator has planned the job. So requested
        // workers show that the coordinator was ready, even if the operator ended before recording
        // an epoch.
        was_ready: ready || before.epoch.is_some() || reported || wants_workers,
        unavailable_since,
        silent_since: silent_since.or(no_stream_since),
        trouble,
    }
}

fn workers_health(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> WorkersHealth {
    let Some(objects) = observed.generation(generation) else {
        return WorkersHealth::default();
    };
    let replicas = objects
        .workers
        .as_ref()
        .map_or(0, |workers| workers.replicas);
    let report = observed
        .report
        .as_ref()
        .filter(|report| report.generation == generation);
    let sessions = SessionView {
        busy: report
            .map(|report| report.busy_pods.clone())
            .unwrap_or_default(),
        reported: report.and_then(RunReport::sessions),
        coordinator_since: objects
            .coordinator
            .as_ref()
            .and_then(|coordinator| coordinator.available_since),
    };
    let mut counts = count_workers(observed.workers(generation), replicas, &sessions, now);
    counts.disruptions = disruptions(job, observed);
    let needs = report.and_then(|report| Needs::of(&job.spec, observed, report));
    counts.why = needs.map(|needs| needs.in_words(replicas));
    let dead_since = (replicas > 0 && counts.alive() == 0).then(|| {
        let since = job.status.all_workers_dead_since.as_ref();
        since_last_well(since, observed.last_well.worker_alive, now)
    });
    let is_failing = |pod: &&PodFacts| match pod.worker_state(&sessions, now) {
        WorkerState::Init | WorkerState::Failed => true,
        WorkerState::Dead => {
            (pod.deletion.is_none() && pod.disruption.is_none()) || pod.is_held(now)
        }
        WorkerState::Ready | WorkerState::Busy | WorkerState::Reconnecting => false,
    };
    // A pod that waits for a missing Secret or for a node does not count as failing.
    let has_failed = |pod: &&PodFacts| {
        !pod_trouble(job, observed, pod, now).is_some_and(|trouble| trouble.kind.is_outside())
    };
    let failing_since = observed
        .workers(generation)
        .filter(is_failing)
        .filter(has_failed)
        .filter_map(|pod| {
            let started = pod.scheduled_since.max(slow_until(job, observed, pod));
            started.or(pod.stuck_from())
        })
        .min();
    WorkersHealth {
        trouble: workers_trouble(job, observed, generation, now),
        counts,
        replicas,
        is_short: objects.workers.as_ref().is_some_and(WorkersFacts::is_short),
        dead_since,
        failing_since,
    }
}

/// Returns the start of a timer. This is the time in status, unless the state was good after that
/// time and the status write that records it is still pending. The result is never later than now.
/// A later time, written by a fast clock, would stop the timer until that time has come.
fn since_last_well(
    since: Option<&Time>,
    last_well: Option<Timestamp>,
    now: Timestamp,
) -> Timestamp {
    since.map_or(now, |since| {
        last_well.map_or(since.0, |well| well.max(since.0)).min(now)
    })
}

/// Returns the most important problem of several pods. The kinds of problems are ordered: the more
/// a kind needs a person, the earlier it comes. Among problems of the same kind, that of the first
/// pod is returned.
fn workers_trouble(
    job: &ValidatedJob,
    observed: &Observed,
    generation: u32,
    now: Timestamp,
) -> Option<Trouble> {
    let refused = observed.workers_refused.as_ref().map(|refused| Trouble {
        kind: TroubleKind::Blocked,
        message: format!("worker pods are refused: {refused}"),
    });
    let mut all: Vec<_> = observed
        .workers(generation)
        .filter_map(|pod| Some((pod_trouble(job, observed, pod, now)?, &pod.name)))
        .collect();
    all.sort_by_key(|(trouble, name)| (trouble.kind, *name));
    refused.or_else(|| all.into_iter().next().map(|(trouble, _)| trouble))
}

/// Returns the problem of one pod, from its status, or else from its events.
fn pod_trouble(
    job: &ValidatedJob,
    observed: &Observed,
    pod: &PodFacts,
    now: Timestamp,
) -> Option<Trouble> {
    let role = match pod.role {
        Role::Coordinator => "coordinator",
        Role::Worker => "worker",
    };
    if let Some(trouble) = pod.trouble() {
        let nodes = wanted_nodes(observed, pod, &trouble);
        let mut trouble = Trouble::of(trouble, role);
        trouble.message.push_str(&nodes.unwrap_or_default());
        return Some(trouble);
    }
    // If the operator deletes the pod by force, it reports the pod with another message.
    if pod.is_held(now) && observed.forced.problem().is_none() {
        return Some(Trouble {
            kind: TroubleKind::Held,
            message: format!(
                "{role} pod {} was deleted and does not end: a finalizer, a volume or the container runtime of its node keeps it, and no new pod takes its place; kubectl describe pod {}",
                pod.name, pod.name
            ),
        });
    }
    let event = observed.start_events.get(&pod.uid)?;
    starting::trouble(pod, event.as_ref(), &own_secret(job, pod), role, now)
}

/// Returns which nodes the job's provider requires, if no node has the labels that a worker needs.
/// Often the job names a provider that the cluster does not use, and the scheduler's message does
/// not name the field of the job.
fn wanted_nodes(observed: &Observed, pod: &PodFacts, trouble: &PodTrouble) -> Option<String> {
    let PodTrouble::Unschedulable { message, .. } = trouble else {
        return None;
    };
    if pod.role != Role::Worker || !message.contains(OTHER_LABELS) {
        return None;
    }
    let objects = observed.generation(pod.generation)?;
    let frozen = objects.root.as_ref()?.frozen.job()?;
    let label = frozen.spec.workers.preemptible.provider.label()?;
    let SpotLabel { key, value } = label;
    Some(format!(
        "; spec.workers.preemptible.provider lets workers run only on nodes with the label {key}={value}"
    ))
}

/// Returns the time until which a pod that has not started counts as slow and not as lost. If the
/// node of the pod is lost, Kubernetes deletes the pod.
fn slow_until(job: &ValidatedJob, observed: &Observed, pod: &PodFacts) -> Option<Timestamp> {
    let event = observed.start_events.get(&pod.uid).and_then(Option::as_ref);
    starting::slow_until(pod, event, &own_secret(job, pod))
}

/// Returns the name of the token of a pod's generation.
fn own_secret(job: &ValidatedJob, pod: &PodFacts) -> String {
    token_secret::name(&job.identity.name, &job.identity.uid, pod.generation)
}

/// Returns how many workers were lost to disruptions since the job began. Status contains the sum
/// for earlier generations.
fn disruptions(job: &ValidatedJob, observed: &Observed) -> i64 {
    let before: i64 = job
        .status
        .generations
        .iter()
        .filter(|past| past.end_time.is_some())
        .map(|past| past.disruptions)
        .fold(0, i64::saturating_add);
    let shown = job
        .status
        .workers
        .as_ref()
        .map_or(0, |workers| workers.disruptions);
    let now = observed.lost.map_or(0, |lost| lost.workers);
    shown.max(before.saturating_add(now))
}

impl RunReport {
    /// Returns the sessions of the workers, if the coordinator's report is current. A coordinator
    /// that is taking over, or has no stream, has no current report.
    fn sessions(&self) -> Option<Sessions> {
        let since = self
            .epoch_since
            .filter(|_| self.connected && self.planned.is_some())?;
        Some(Sessions {
            connected: self.connected_pods.clone()?,
            reconnecting: self.reconnecting_pods.clone(),
            since,
        })
    }
}

impl PodFacts {
    /// Returns the time since which our container runs; absent while it does not run.
    fn running_since(&self) -> Option<Timestamp> {
        match &self.container.state {
            crate::pods::ContainerRun::Running { since } => *since,
            crate::pods::ContainerRun::Unknown
            | crate::pods::ContainerRun::Waiting(_)
            | crate::pods::ContainerRun::Ended(_) => None,
        }
    }
}

impl Trouble {
    /// Describes a pod's problem for people.
    pub fn of(trouble: PodTrouble, role: &str) -> Self {
        match trouble {
            PodTrouble::Unschedulable { pod, message } => Self {
                kind: TroubleKind::Capacity,
                message: format!("{role} pod {pod} has no node: {message}"),
            },
            PodTrouble::ImageError {
                pod,
                image,
                message,
            } => Self {
                kind: TroubleKind::Image,
                message: format!("{role} pod {pod} cannot start image {image}: {message}"),
            },
            PodTrouble::ReferenceNotFound { pod, message } => Self {
                kind: TroubleKind::ReferenceNotFound,
                message: format!(
                    "{role} pod {pod} cannot start: {message}; create it in the job's namespace"
                ),
            },
            PodTrouble::InitContainer {
                pod,
                container,
                reason,
                message,
            } => Self {
                kind: TroubleKind::Starting,
                message: format!(
                    "{role} pod {pod} does not start: its init container {container} does not succeed ({reason}: {message}); see \
                     kubectl logs {pod} -c {container}"
                ),
            },
            PodTrouble::Crashing {
                pod,
                exit_code,
                reason,
                restarts,
            } => Self {
                kind: TroubleKind::Crashing,
                message: format!(
                    "{role} pod {pod} ends by itself ({reason}, exit code {exit_code}, {restarts} restarts); see its log"
                ),
            },
        }
    }
}
