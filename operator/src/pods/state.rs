//! Determines the state of a worker's pod, as the table of worker states defines it.
//!
//! Pure.

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::job::MAX_WORKERS;
use zephyr_crds::status::WorkerCounts;

use super::end::EXIT_CODE_SIGTERM;
use super::trouble::is_failure_to_start;
use super::{ContainerRun, PodFacts};
use crate::run_report::PodUids;

/// How long a worker that was ready may be without a session before it counts as dead. The
/// coordinator's own limit is three heartbeat intervals of at most 20 s, and never less than 30 s.
pub const RECONNECT_SILENCE: SignedDuration = SignedDuration::from_secs(60);

/// How long a worker that is ready according to the kubelet may be unknown to the coordinator
/// before it counts as dead. The coordinator reports a session within a second of its start, and
/// workers reconnect within seconds after a restart of the coordinator.
const UNKNOWN_TIMEOUT: SignedDuration = SignedDuration::from_secs(20);

/// The state of a worker in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    /// Its container has not started yet.
    Init,
    /// It is connected and has no task.
    Ready,
    /// It is connected and runs tasks.
    Busy,
    /// Its container runs without a session.
    Reconnecting,
    /// Its container ended, or cannot start.
    Failed,
    /// The pod has disappeared or is being deleted, or the worker is silent.
    Dead,
}

/// What the operator knows about the coordinator when it judges a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionView {
    /// The uids of pods with at least one running task, as the coordinator reports them.
    pub busy: PodUids,
    /// The time since which the coordinator can be reached; absent while it cannot.
    pub coordinator_since: Option<Timestamp>,
    /// The sessions that the coordinator reports; absent while it sends no reports.
    pub reported: Option<Sessions>,
}

/// The coordinator's sessions, as the uids of the workers' pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    /// The uids of pods whose workers have a session that is not silent.
    pub connected: PodUids,
    /// The uids of pods whose workers lost their session a moment ago, and may reconnect.
    pub reconnecting: PodUids,
    /// The time since which the operator has received reports of this coordinator process.
    pub since: Timestamp,
}

impl PodFacts {
    /// Returns its ordinal: the number after the last dash of its name, which its `StatefulSet`
    /// assigned.
    pub fn ordinal(&self) -> Option<u32> {
        self.name.rsplit_once('-')?.1.parse().ok()
    }

    /// Returns the state of its worker.
    pub fn worker_state(&self, sessions: &SessionView, now: Timestamp) -> WorkerState {
        if self.deletion.is_some() || self.disruption.is_some() || self.verdict_is_disruption() {
            return WorkerState::Dead;
        }
        if self.over || self.verdict.is_some() {
            return WorkerState::Failed;
        }
        match &self.container.state {
            ContainerRun::Ended(end)
                if end.exit_code == 0 || end.exit_code == EXIT_CODE_SIGTERM =>
            {
                WorkerState::Dead
            }
            ContainerRun::Ended(_) => WorkerState::Failed,
            ContainerRun::Waiting(explanation) if is_failure_to_start(&explanation.reason) => {
                WorkerState::Failed
            }
            ContainerRun::Waiting(_) | ContainerRun::Unknown => WorkerState::Init,
            ContainerRun::Running { since } => self.running_state(*since, sessions, now),
        }
    }

    /// Returns the state of a worker whose container runs. The coordinator's sessions decide,
    /// because readiness according to the kubelet changes later, and never changes on a lost node.
    fn running_state(
        &self,
        since: Option<Timestamp>,
        sessions: &SessionView,
        now: Timestamp,
    ) -> WorkerState {
        let alive = if sessions.busy.contains(&self.uid) {
            WorkerState::Busy
        } else {
            WorkerState::Ready
        };
        if let Some(reported) = &sessions.reported {
            if reported.connected.contains(&self.uid) {
                return alive;
            }
            if reported.reconnecting.contains(&self.uid) {
                return WorkerState::Reconnecting;
            }
            // From this time on, the coordinator has had enough time to see all workers.
            let known_from = sessions
                .coordinator_since
                .map_or(reported.since, |since| since.max(reported.since));
            let has_had_time = now.duration_since(known_from) > UNKNOWN_TIMEOUT;
            let is_given_up = if self.ready {
                self.ready_changed
                    .is_none_or(|changed| now.duration_since(changed) > UNKNOWN_TIMEOUT)
            } else {
                self.was_ready(since)
            };
            if has_had_time && is_given_up {
                return WorkerState::Dead;
            }
        }
        if self.ready {
            return alive;
        }
        self.not_ready_state(since, sessions, now)
    }

    /// Returns whether a container that is not ready was ready before. This is the case if `Ready`
    /// changed after the container started.
    fn was_ready(&self, started: Option<Timestamp>) -> bool {
        started
            .zip(self.ready_changed)
            .is_some_and(|(started, changed)| changed > started)
    }

    /// Returns the state of a worker whose container runs but is not ready, and about which no
    /// coordinator reports anything.
    fn not_ready_state(
        &self,
        since: Option<Timestamp>,
        sessions: &SessionView,
        now: Timestamp,
    ) -> WorkerState {
        let Some(changed) = self.ready_changed.filter(|_| self.was_ready(since)) else {
            return WorkerState::Init;
        };
        // While there is no coordinator, no worker counts as silent.
        let Some(coordinator_since) = sessions.coordinator_since else {
            return WorkerState::Reconnecting;
        };
        if now.duration_since(changed.max(coordinator_since)) > RECONNECT_SILENCE {
            WorkerState::Dead
        } else {
            WorkerState::Reconnecting
        }
    }
}

/// Counts workers by state. A worker without a pod counts as INIT. A released worker is not
/// counted: its pod ends and is not replaced.
pub fn count_workers<'a>(
    workers: impl IntoIterator<Item = &'a PodFacts>,
    desired: u32,
    sessions: &SessionView,
    now: Timestamp,
) -> WorkerCounts {
    let mut counts = WorkerCounts {
        // The number is larger than `MAX_WORKERS` only if somebody scaled the set by hand. Status
        // does not allow such a number.
        desired: i32::try_from(desired.min(MAX_WORKERS)).unwrap_or(i32::MAX),
        ..WorkerCounts::default()
    };
    let mut pods = 0;
    let is_released = |pod: &&PodFacts| {
        pod.deletion.is_some() && pod.ordinal().is_some_and(|ordinal| ordinal >= desired)
    };
    for pod in workers.into_iter().filter(|pod| !is_released(pod)) {
        pods += 1;
        counts.restarts += i64::from(pod.container.restarts);
        match pod.worker_state(sessions, now) {
            WorkerState::Init => counts.init += 1,
            WorkerState::Ready => counts.ready += 1,
            WorkerState::Busy => counts.busy += 1,
            WorkerState::Reconnecting => counts.reconnecting += 1,
            WorkerState::Failed => counts.failed += 1,
            WorkerState::Dead => counts.dead += 1,
        }
    }
    counts.init += (counts.desired - pods).max(0);
    counts.with_summary()
}
