//! Which state a worker's pod is in, by the table of worker states.
//!
//! Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use zephyr_crds::status::WorkerCounts;

use super::end::EXIT_CODE_SIGTERM;
use super::trouble::is_failure_to_start;
use super::{ContainerRun, PodFacts};

/// How long a worker that was ready may be without a session before it counts as dead: the coordinator's own limit is
/// three heartbeat intervals of at most 20 s, and never less than 30 s.
pub const RECONNECT_SILENCE: SignedDuration = SignedDuration::from_secs(60);

/// What a worker counts as in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    Init,
    Ready,
    Busy,
    Reconnecting,
    Failed,
    Dead,
}

/// What the operator knows about the coordinator when it judges a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionView {
    /// Pods with at least one running task, as the coordinator reports them.
    pub busy: BTreeSet<String>,
    /// Since when the coordinator can be reached; absent while it cannot.
    pub coordinator_since: Option<Timestamp>,
}

impl PodFacts {
    /// Its number in the set of workers: what its `StatefulSet` put behind the last dash of its name.
    pub fn ordinal(&self) -> Option<u32> {
        self.name.rsplit_once('-')?.1.parse().ok()
    }

    /// What its worker counts as.
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
            ContainerRun::Waiting(told) if is_failure_to_start(&told.reason) => WorkerState::Failed,
            ContainerRun::Waiting(_) | ContainerRun::Unknown => WorkerState::Init,
            ContainerRun::Running { .. } if self.ready && sessions.busy.contains(&self.uid) => {
                WorkerState::Busy
            }
            ContainerRun::Running { .. } if self.ready => WorkerState::Ready,
            ContainerRun::Running { since } => self.not_ready_state(*since, sessions, now),
        }
    }

    /// A running container that is not ready: it was ready before exactly when `Ready` changed after the container started.
    fn not_ready_state(
        &self,
        since: Option<Timestamp>,
        sessions: &SessionView,
        now: Timestamp,
    ) -> WorkerState {
        let (Some(started), Some(changed)) = (since, self.ready_changed) else {
            return WorkerState::Init;
        };
        if changed <= started {
            return WorkerState::Init;
        }
        // Nobody is silent towards a coordinator that is not there.
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

/// Counts workers by state. A worker that has no pod yet is INIT; one that was released, so that its pod goes and none takes
/// its place, is not counted.
pub fn count_workers<'a>(
    workers: impl IntoIterator<Item = &'a PodFacts>,
    desired: u32,
    sessions: &SessionView,
    now: Timestamp,
) -> WorkerCounts {
    let mut counts = WorkerCounts {
        desired: i32::try_from(desired).unwrap_or(i32::MAX),
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
