//! Scripted coordinators, in place of processes behind gRPC. Each job has one run, whose ledger
//! survives its coordinators. A newer epoch fences the older one. The coordinators report the state
//! of the run that a scenario sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::api::metadata::text;
use super::marks::generation_of;
use crate::clock::Clock;
use crate::progress::StreamTarget;
use crate::progress::dial::{Dial, Error, Message, Reports};
use crate::run_report::{Planned, RunPhase, RunReport, RunResult, StageReport};

/// Duration of a successful connection attempt.
const DIAL_TIME: Duration = Duration::from_millis(5);
/// Duration of a failed connection attempt.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// All coordinators.
#[derive(Clone)]
pub(crate) struct Coordinators {
    runs: Arc<Mutex<BTreeMap<String, Run>>>,
    changed: watch::Sender<u64>,
    clock: Clock,
    openings: Arc<Mutex<Vec<(String, u32, Timestamp)>>>,
}

/// One job's run: its ledger, and the coordinators that are or were in charge of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) shards: u32,
    pub(crate) tasks_total: u64,
    pub(crate) tasks_done: u64,
    pub(crate) disruptions: u64,
    pub(crate) useful_workers: Option<u32>,
    /// How many tasks run.
    pub(crate) running: u32,
    /// Whether no further task starts.
    pub(crate) drains: bool,
    pub(crate) is_storage_away: bool,
    pub(crate) result: Option<RunResult>,
    /// The latest restart in the ledger, by the first generation since.
    restarted: Option<u32>,
    newest_epoch: u64,
    /// The coordinators' processes, by the uids of their pods.
    incarnations: BTreeMap<String, Incarnation>,
}

/// One coordinator process.
#[derive(Clone, Copy, Debug)]
struct Incarnation {
    generation: u32,
    epoch: u64,
    gone: Option<Instant>,
}

impl Run {
    /// Runs the failed job again, unless the ledger has this restart or a later one.
    fn begin(&mut self, restart: Option<u32>) {
        let has_succeeded = self.result.as_ref().is_some_and(|result| result.succeeded);
        if restart > self.restarted && !has_succeeded {
            self.restarted = restart;
            self.result = None;
            self.drains = false;
        }
    }
}

impl Coordinators {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            runs: Arc::default(),
            changed: watch::Sender::new(0),
            clock,
            openings: Arc::default(),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes all tasks that wait for a change.
    pub(crate) fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Changes a job's run, and reports it.
    pub(crate) fn set<T>(&self, job_uid: &str, change: impl FnOnce(&mut Run) -> T) -> T {
        let result = change(self.lock().entry(job_uid.to_owned()).or_default());
        self.touch();
        result
    }

    /// Records that a coordinator's pod is ready: its process has opened the next epoch. If its
    /// frozen job names a restart that the ledger does not have, the failed job runs again.
    pub(crate) fn pod_ready(&self, pod: &Value, restart: Option<u32>) {
        let Some((job_uid, generation)) = generation_of(pod) else {
            return;
        };
        let uid = text(&pod["metadata"]["uid"]).to_owned();
        let is_new = {
            let mut runs = self.lock();
            let run = runs.entry(job_uid.clone()).or_default();
            let is_new = !run.incarnations.contains_key(&uid);
            if is_new {
                run.begin(restart);
                run.newest_epoch += 1;
                let epoch = run.newest_epoch;
                run.incarnations.insert(
                    uid,
                    Incarnation {
                        generation,
                        epoch,
                        gone: None,
                    },
                );
            }
            is_new
        };
        if is_new {
            let mut openings = self.openings.lock().unwrap_or_else(PoisonError::into_inner);
            openings.push((job_uid, generation, self.clock.now()));
            drop(openings);
            self.touch();
        }
    }

    /// Returns which generation of which job opened an epoch, and when.
    pub(crate) fn openings(&self) -> Vec<(String, u32, Timestamp)> {
        self.openings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Records that a pod has disappeared, or can no longer be reached.
    pub(crate) fn pod_gone(&self, uid: &str) {
        let mut is_new = false;
        for run in self.lock().values_mut() {
            if let Some(incarnation) = run
                .incarnations
                .get_mut(uid)
                .filter(|one| one.gone.is_none())
            {
                incarnation.gone = Some(Instant::now());
                is_new = true;
            }
        }
        if is_new {
            self.touch();
        }
    }

    /// Returns whether a worker's coordinator works, and if not, the time since which it does not.
    pub(crate) fn serves_workers_of(&self, pod: &Value) -> (bool, Option<Instant>) {
        let Some((job_uid, generation)) = generation_of(pod) else {
            return (false, None);
        };
        let runs = self.lock();
        let mut last = None;
        for incarnation in runs
            .get(&job_uid)
            .into_iter()
            .flat_map(|run| run.incarnations.values())
        {
            if incarnation.generation == generation {
                match incarnation.gone {
                    None => return (true, None),
                    Some(gone) => last = last.max(Some(gone)),
                }
            }
        }
        (false, last)
    }

    /// Returns the epoch of the generation's reachable coordinator, if it is the newest.
    fn reachable(&self, job_uid: &str, generation: u32) -> Option<u64> {
        let runs = self.lock();
        let run = runs.get(job_uid)?;
        run.incarnations
            .values()
            .find(|one| {
                one.generation == generation && one.gone.is_none() && one.epoch == run.newest_epoch
            })
            .map(|one| one.epoch)
    }

    fn report(&self, target: &StreamTarget, epoch: u64) -> RunReport {
        let runs = self.lock();
        let usual = Run::default();
        let run = runs.get(&target.job.uid).unwrap_or(&usual);
        let phase = if run.result.is_some() {
            RunPhase::Ended
        } else if run.is_storage_away {
            RunPhase::StorageUnavailable
        } else if run.shards == 0 {
            RunPhase::Planning
        } else {
            RunPhase::Running
        };
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let is_planned = run.shards > 0;
        RunReport {
            generation: target.generation,
            epoch: Some(epoch),
            connected: true,
            phase,
            message: if run.is_storage_away {
                "the store does not answer".to_owned()
            } else {
                String::new()
            },
            planned: is_planned.then_some(Planned {
                stages: 1,
                max_shards: run.shards,
            }),
            stage: is_planned.then(|| StageReport {
                index: 1,
                name: "map".to_owned(),
                done: count(run.tasks_done),
                total: count(run.tasks_total),
                ..StageReport::default()
            }),
            disruptions: run.disruptions,
            tasks_done: run.tasks_done,
            tasks_total: run.tasks_total,
            useful_workers: run.useful_workers,
            tasks_to_drain: run.drains.then_some(run.running),
            result: run.result.clone(),
            ..RunReport::default()
        }
    }

    /// Does what a message of the operator asks for. The other messages have no effect in the
    /// simulation.
    fn hear(&self, job_uid: &str, message: Message) {
        let mut runs = self.lock();
        let run = runs.entry(job_uid.to_owned()).or_default();
        match message {
            Message::EndRun {
                reason, message, ..
            } => {
                run.result.get_or_insert_with(|| RunResult {
                    reason: reason.into(),
                    message,
                    ..RunResult::default()
                });
            }
            Message::Drain { drains } => run.drains = drains,
            Message::PodEnded(_) | Message::ResultStored { .. } | Message::WorkersKept { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open stream.
struct Stream {
    coordinators: Coordinators,
    target: StreamTarget,
    epoch: u64,
    messages: mpsc::Receiver<Message>,
    changed: watch::Receiver<u64>,
    said: Option<RunReport>,
}

impl Dial for Coordinators {
    fn dial(
        &self,
        target: StreamTarget,
        messages: mpsc::Receiver<Message>,
    ) -> BoxFuture<'static, Result<Reports, Error>> {
        let coordinators = self.clone();
        async move {
            sleep(DIAL_TIME).await;
            let Some(epoch) = coordinators.reachable(&target.job.uid, target.generation) else {
                sleep(DIAL_TIMEOUT).await;
                return Err(Error::OpenTimeout);
            };
            let stream = Stream {
                changed: coordinators.subscribe(),
                coordinators,
                target,
                epoch,
                messages,
                said: None,
            };
            Ok(stream::unfold(stream, Stream::advance).boxed())
        }
        .boxed()
    }
}

impl Stream {
    /// Returns the next report as soon as something changes. Returns `None` if the coordinator has
    /// ended or is fenced.
    async fn advance(mut self) -> Option<(Result<RunReport, Error>, Self)> {
        loop {
            let uid = &self.target.job.uid;
            if self.coordinators.reachable(uid, self.target.generation) != Some(self.epoch) {
                return None;
            }
            let report = self.coordinators.report(&self.target, self.epoch);
            if self.said.as_ref() != Some(&report) {
                self.said = Some(report.clone());
                return Some((Ok(report), self));
            }
            tokio::select! {
                biased;
                message = self.messages.recv() => self.coordinators.hear(uid, message?),
                changed = self.changed.changed() => changed.ok()?,
            }
        }
    }
}
