//! Executes one run: a scenario, the real operator, an API server, a cluster and scripted
//! coordinators on a simulated clock. Returns what happened, and judges nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tower::Layer;

use super::api::ApiServer;
use super::api::kinds::{Kind, NAMESPACES, PODS};
use super::api::store::{Actor, Change, Key};
use super::cluster::Cluster;
use super::coordinator::Coordinators;
use super::faults::{Exchange, Faults, Rule};
use super::marks::{component_of, is_of_job, number_of};
use super::scenario::Scenario;
use super::wire::Wire;
use crate::calls::retry_after::KeepRetryAfter;
use crate::clock::Clock;
use crate::controller::plan::Installation;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::progress::token::SigningKey;
use crate::startup::{Setup, serve};

/// The namespace of the jobs.
pub(super) const NAMESPACE: &str = "team";
pub(super) const JOB: &str = "count";
/// The second job, in scenarios in which jobs wait for each other.
pub(super) const OTHER_JOB: &str = "other";
/// The time at which every run begins: 2027-01-01, later than any real time in the tests.
const BEGIN: i64 = 1_798_761_600;
/// How long after the death of a process the next one starts.
const RESTART: Duration = Duration::from_secs(1);
/// How long after a process ended by itself the next one starts. The kubelet also waits then.
const CRASH_LOOP: Duration = Duration::from_secs(10);
/// After how long without a write the operator counts as idle.
pub(super) const QUIET: SignedDuration = SignedDuration::from_secs(60);
/// The longest time for which the operator may wait after a fault before it is idle.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(75 + 60);
/// After how long a client gives up a silent watch or a request without an answer.
const SILENCE: SignedDuration = SignedDuration::from_secs(330);
/// How long after the last step and the last fault the operator must be idle.
const QUIET_WITHIN: Duration = Duration::from_mins(40);

/// The events of a run.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) changes: Vec<Change>,
    /// All objects at the end.
    pub(super) end: Vec<(Key, Arc<Value>)>,
    /// Which generation's coordinator opened an epoch, and when.
    pub(super) openings: Vec<(String, u32, Timestamp)>,
    /// The step that did not complete, or a sentence that the operator did not become idle.
    pub(super) stuck: Option<String>,
    /// How operator processes ended, if they ended by themselves.
    pub(super) ends: Vec<String>,
    pub(super) took: Duration,
}

/// The state of one run.
pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) cluster: Cluster,
    pub(super) coordinators: Coordinators,
    faults: Faults,
    pub(super) clock: Clock,
}

/// Runs `scenario` under `rules`.
pub(super) async fn run(scenario: &Scenario, rules: Vec<Rule>) -> Record {
    let began = Instant::now();
    let world = World::new(rules);
    let cluster = AbortOnDropHandle::new(tokio::spawn(world.cluster.clone().work()));
    let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let operator = AbortOnDropHandle::new(tokio::spawn(operate(
        world.server.clone(),
        world.faults.clone(),
        world.clock,
        world.coordinators.clone(),
        scenario.max_starting_jobs,
        told,
    )));
    let mut stuck = None;
    for (line, step) in &scenario.steps {
        if let Err(why) = world.play(step).await {
            stuck = Some(format!("{line}: {why}"));
            break;
        }
    }
    if stuck.is_none() && timeout(QUIET_WITHIN, world.rest()).await.is_err() {
        stuck = Some(format!(
            "no rest within {} s of the last step",
            QUIET_WITHIN.as_secs()
        ));
    }
    drop(operator);
    drop(cluster);
    let mut process_ends = Vec::new();
    while let Ok(end) = ends.try_recv() {
        process_ends.push(end);
    }
    let store = world.server.lock();
    Record {
        exchanges: world.faults.journal(),
        changes: store.changes().to_vec(),
        end: store
            .everything()
            .map(|(key, object)| (key.clone(), Arc::clone(object)))
            .collect(),
        openings: world.coordinators.openings(),
        stuck,
        ends: process_ends,
        took: began.elapsed(),
    }
}

impl World {
    fn new(rules: Vec<Rule>) -> Self {
        let begin = Timestamp::from_second(BEGIN).unwrap_or(Timestamp::UNIX_EPOCH);
        let clock = Clock::starting_at(begin);
        let server = ApiServer::new(move || clock.now());
        let coordinators = Coordinators::new(clock);
        let world = Self {
            cluster: Cluster::new(server.clone(), coordinators.clone()),
            server,
            coordinators,
            faults: Faults::new(rules),
            clock,
        };
        world.add(
            NAMESPACES,
            "",
            NAMESPACE,
            json!({"status": {"phase": "Active"}}),
        );
        world
    }

    fn add(&self, kind: Kind, namespace: &str, name: &str, mut object: Value) {
        object["metadata"]["name"] = json!(name);
        let key = Key::new(kind, namespace, name);
        self.server
            .change(|store, now| store.add(key, object, Actor::User, now));
    }

    /// Waits until the operator has written nothing for a while, all waits after failures have
    /// ended, and silent watches have been restarted. After that no fault can still have an effect.
    async fn rest(&self) {
        let began = self.clock.now();
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = self.clock.now();
            let is_past = |time: Option<Timestamp>, wait| {
                now.duration_since(time.unwrap_or(began).max(began)) > wait
            };
            let last_fault = self.faults.last_fault();
            let silence = if self.faults.keeps_waiting() {
                SILENCE
            } else {
                QUIET
            };
            if self.faults.is_over()
                && is_past(self.faults.last_write(), QUIET)
                && (last_fault.is_none() || is_past(last_fault, LONGEST_WAIT))
                && is_past(None, silence)
            {
                return;
            }
        }
    }

    /// Returns a pod of the newest generation of a job.
    pub(super) fn pod(
        &self,
        job: &str,
        component: &str,
        suffix: &str,
    ) -> Option<(Key, Arc<Value>)> {
        let store = self.server.lock();
        store
            .all(PODS)
            .filter(|(key, pod)| {
                component_of(pod) == component
                    && is_of_job(pod, job)
                    && pod["metadata"]["deletionTimestamp"].is_null()
                    && key.name.ends_with(suffix)
            })
            .max_by_key(|(_, pod)| number_of(pod))
            .map(|(key, pod)| (key.clone(), Arc::clone(pod)))
    }
}

/// Runs the processes of the operator, one after the other.
async fn operate(
    server: ApiServer,
    faults: Faults,
    clock: Clock,
    coordinators: Coordinators,
    max_starting_jobs: usize,
    ends: tokio::sync::mpsc::UnboundedSender<String>,
) {
    for process in 1.. {
        let wire = Wire {
            server: server.clone(),
            faults: faults.clone(),
            clock,
            process,
        };
        let client = Client::new(KeepRetryAfter.layer(wire), "default");
        let setup = setup(clock, coordinators.clone(), max_starting_jobs);
        tokio::select! {
            biased;
            () = faults.crashed(process) => sleep(RESTART).await,
            ended = Box::pin(serve(client, setup)) => {
                let words = match ended {
                    Ok(()) => "without an error".to_owned(),
                    Err(error) => error.to_string(),
                };
                drop(ends.send(words));
                sleep(CRASH_LOOP).await;
            }
        }
    }
}

fn setup(clock: Clock, coordinators: Coordinators, max_starting_jobs: usize) -> Setup {
    Setup {
        installation: Installation {
            worker_image: "registry.example/zephyr-worker:1".to_owned(),
            force_delete_pods: true,
            ..Installation::default()
        },
        namespace: None,
        signing_key: match SigningKey::new(&[7; 32]) {
            Ok(key) => key,
            Err(error) => panic!("{error}"),
        },
        clock,
        dial: Arc::new(coordinators),
        max_starting_jobs,
        instance: Some("operator".to_owned()),
        metrics: Metrics::default(),
        health: Health::default(),
    }
}
