//! Decides whether a task is the cause when workers that run it are lost. Kubernetes also takes
//! workers away for its own reasons, so a loss that Kubernetes explains is never evidence against a
//! task. Removes no worker and queues no task; `liveness` does.

use std::collections::BTreeMap;

use crate::coordinator::config::{
    LOST_OFTENER, LOST_WITHIN_MS, LOST_WORKERS_FREE, LOST_WORKERS_REPORTED, MAX_LOST_PODS,
    MAX_WORKERS_AVOIDED, MIN_LOST_AT_PODS,
};
use crate::coordinator::state::{State, TaskState, Worker};
use crate::id::{TaskAttempt, Timestamp};

/// The identity by which a worker's pod is recognized when it comes back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PodIdentity {
    /// Its ordinal. A pod that replaces it has the same ordinal.
    Number(u32),
    /// Its uid, if it has no number.
    Uid(String),
}

impl PodIdentity {
    /// The identity of a worker's pod.
    pub(crate) fn of(worker: &Worker) -> Self {
        worker
            .ordinal
            .map_or_else(|| Self::Uid(worker.id.pod_uid().to_owned()), Self::Number)
    }

    /// Whether it is the identity of this worker.
    pub(crate) fn is_of(&self, worker: &Worker) -> bool {
        match self {
            Self::Number(number) => worker.ordinal == Some(*number),
            Self::Uid(uid) => worker.ordinal.is_none() && worker.id.pod_uid() == uid,
        }
    }
}

/// How long workers have lived in total, and how many of them were lost. These two numbers give the
/// normal rate of losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Exposure {
    /// The lifetime of all workers together, in milliseconds.
    worker_ms: u64,
    /// Workers that were lost without having announced their end.
    losses: u64,
}

/// The losses of workers in this epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FleetLosses {
    all: Exposure,
    /// Workers that were lost for causes other than a task, by pod.
    at: BTreeMap<PodIdentity, u64>,
}

impl FleetLosses {
    /// Adds the time that has passed for this number of workers.
    pub(crate) fn expose(&mut self, passed_ms: u64, workers: usize) {
        let worker_ms = passed_ms.saturating_mul(workers as u64);
        self.all.worker_ms = self.all.worker_ms.saturating_add(worker_ms);
    }

    /// Counts a lost worker.
    pub(crate) fn note(&mut self, pod: &PodIdentity, is_sudden: bool) {
        self.all.losses += u64::from(is_sudden);
        if let Some(times) = self.at.get_mut(pod) {
            *times += 1;
        } else if self.at.len() < MAX_LOST_PODS {
            self.at.insert(pod.clone(), 1);
        }
    }
}

/// A worker that was lost while it ran tasks.
#[derive(Clone, Debug)]
pub(crate) struct LostWorker {
    /// Its pod.
    pub(crate) pod: PodIdentity,
    /// When the coordinator received its first `Hello`.
    pub(crate) known_since: Timestamp,
    /// Whether Kubernetes reports that it ended the pod, or that the pod's node is lost.
    pub(crate) is_explained: bool,
}

/// The workers that were lost while they ran a task. If the task was done and runs again, counting
/// begins again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LostWorkers {
    /// All of them.
    all: u32,
    /// The lifetime and losses of all workers at the time when the first worker was lost without an
    /// explanation. Later losses are compared with the losses of other workers since that time.
    since: Option<Exposure>,
    /// Losses without an explanation after that first one.
    times: u32,
    /// How long the task ran at the workers of these later losses, in total. Milliseconds.
    ran_ms: u64,
    /// How long these workers had lived before they got the task, in total. Milliseconds.
    lived_ms: u64,
    /// The pods of all lost workers, up to a limit.
    pods: BTreeMap<PodIdentity, LossesAtPod>,
}

/// The workers of one pod that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct LossesAtPod {
    /// Workers of the pod that were lost, with any task, before the pod first got this task.
    before: u64,
    /// Workers of the pod that were lost while running the task, without an explanation.
    unexplained: u64,
}

impl LostWorkers {
    /// The number of lost workers.
    pub(crate) fn count(&self) -> u32 {
        self.all
    }

    /// Whether another worker is a better choice than this one for the next try.
    pub(crate) fn avoids(&self, worker: &Worker) -> bool {
        self.all >= LOST_WORKERS_REPORTED && self.pods.keys().any(|pod| pod.is_of(worker))
    }

    /// Counts the loss of a worker that ran the task for `ran_ms`. `fleet` has counted this loss
    /// already.
    fn note(&mut self, fleet: &FleetLosses, worker: &LostWorker, lived_ms: u64, ran_ms: u64) {
        self.all = self.all.saturating_add(1);
        let known = fleet.at.get(&worker.pod).copied();
        let is_kept = self.pods.len() < MAX_WORKERS_AVOIDED || self.pods.contains_key(&worker.pod);
        if let Some(times) = known.filter(|_| is_kept) {
            let before = times.saturating_sub(1);
            let first = LossesAtPod {
                before,
                unexplained: 0,
            };
            let at = self.pods.entry(worker.pod.clone()).or_insert(first);
            at.unexplained += u64::from(!worker.is_explained);
        }
        if worker.is_explained {
            return;
        }
        if self.since.is_none() {
            self.since = Some(fleet.all);
            return;
        }
        self.times = self.times.saturating_add(1);
        self.ran_ms = self.ran_ms.saturating_add(ran_ms);
        self.lived_ms = self.lived_ms.saturating_add(lived_ms);
    }

    /// Whether the workers that run the task are lost so much more often than other workers that
    /// the task itself must be the cause.
    fn must_be_the_cause(&self, fleet: &FleetLosses) -> bool {
        let Some(since) = self.since else {
            return false;
        };
        let others_ms = fleet.all.worker_ms.saturating_sub(since.worker_ms);
        let others_ms = others_ms.saturating_sub(self.ran_ms);
        let others_lost = fleet.all.losses.saturating_sub(since.losses);
        let others_lost = others_lost.saturating_sub(u64::from(self.times));
        let blamed = self.pods.iter().filter(|(_, at)| at.unexplained > 0);
        let lost_without = blamed.clone().map(|(pod, at)| {
            let all = fleet.at.get(pod).copied().unwrap_or_default();
            all.saturating_sub(at.before + at.unexplained)
        });
        self.times >= LOST_WORKERS_FREE
            && blamed.count() >= MIN_LOST_AT_PODS
            && self.ran_ms < u64::from(self.times) * LOST_WITHIN_MS
            && self.is_oftener_than(others_ms, others_lost)
            // Some workers may be on bad nodes. If a task loses its worker there, it may get the
            // same worker again, because that worker is free first. So the task counts as the cause
            // only if the same workers survive without it.
            && self.is_oftener_than(self.lived_ms, lost_without.sum())
    }

    /// Compares the losses per running time of this task with the losses per lifetime of the
    /// others. The number of losses of the others is increased by one.
    fn is_oftener_than(&self, others_ms: u64, others_lost: u64) -> bool {
        let of_task = u128::from(self.times) * u128::from(others_ms);
        let of_others = (u128::from(others_lost) + 1) * u128::from(self.ran_ms);
        of_task > u128::from(LOST_OFTENER) * of_others
    }
}

impl State {
    /// Counts that a worker was lost while it ran this attempt. If the task is the cause, returns
    /// the sentence with which it is charged.
    pub(crate) fn lose_under(
        &mut self,
        now: Timestamp,
        worker: &LostWorker,
        task: TaskAttempt,
    ) -> Option<String> {
        let Some(TaskState::Running { attempts }) = self.task(task.task).map(|known| &known.state)
        else {
            return None;
        };
        let mut attempts = attempts.iter();
        let began = attempts
            .find(|running| running.attempt == task.attempt)?
            .since;
        let lost = &mut self.histories.entry(task.task).or_default().lost_workers;
        let lived_ms = began.since_ms(worker.known_since);
        lost.note(&self.fleet_losses, worker, lived_ms, now.since_ms(began));
        let is_the_cause = !worker.is_explained && lost.must_be_the_cause(&self.fleet_losses);
        is_the_cause.then(|| {
            format!(
                "its worker was lost {} times in a row, within {} s of work; Kubernetes gives no reason, and workers without this task are lost far less often, so this task, or one beside it, counts as the cause",
                lost.times + 1,
                lost.ran_ms / 1_000
            )
        })
    }
}
