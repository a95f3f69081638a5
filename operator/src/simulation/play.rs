//! Executes one step of a scenario.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use zephyr_crds::names::{COMPONENT_COORDINATOR, COMPONENT_WORKER};
use zephyr_proto::reason::EndReason;

use super::api::kinds::{CONFIG_MAPS, JOBS, Kind, STATEFUL_SETS};
use super::api::request::{ApiRequest, Query, Verb};
use super::api::store::{Actor, Key};
use super::marks::{component_of, is_of_job, number_of};
use super::scenario::{Condition, Pod, Step};
use super::world::{JOB, NAMESPACE, OTHER_JOB, World};
use crate::run_report::RunResult;

/// How long a step may wait. If it waits longer, it counts as stuck. The longest regular wait, for
/// the loss of all workers during an outage of the API server, is shorter.
const WITHIN: Duration = Duration::from_mins(40);

impl World {
    /// Executes `step` for the scenario's job. The error says what did not happen.
    pub(super) async fn play(&self, step: &Step) -> Result<(), String> {
        if let Step::Other(step) = step {
            self.play_for(OTHER_JOB, step).await
        } else {
            self.play_for(JOB, step).await
        }
    }

    async fn play_for(&self, job: &str, step: &Step) -> Result<(), String> {
        match step {
            Step::Other(_) => Err("there are two jobs at most".to_owned()),
            Step::Apply(changes) => {
                let mut object = usual_job(job);
                super::api::merge(&mut object, changes);
                self.ask(Verb::Create, JOBS, job, None, object)
            }
            Step::Edit(changes) => self.ask(Verb::Patch, JOBS, job, None, changes.clone()),
            Step::DeleteJob => self.ask(
                Verb::Delete,
                JOBS,
                job,
                None,
                json!({"propagationPolicy": "Background"}),
            ),
            Step::DeleteRoot => {
                let name = self
                    .newest(job, CONFIG_MAPS)
                    .ok_or("no root is there")?
                    .name;
                self.ask(
                    Verb::Delete,
                    CONFIG_MAPS,
                    &name,
                    None,
                    json!({"propagationPolicy": "Background"}),
                )
            }
            Step::UnlabelRoot => {
                let name = self
                    .newest(job, CONFIG_MAPS)
                    .ok_or("no root is there")?
                    .name;
                let bare = json!({"metadata": {"labels": null}});
                self.ask(Verb::Patch, CONFIG_MAPS, &name, None, bare)
            }
            Step::Plan { shards, tasks } => self.of_run(job, |run| {
                run.shards = *shards;
                run.tasks_total = *tasks;
            }),
            Step::Done(tasks) => self.of_run(job, |run| run.tasks_done = *tasks),
            Step::Running(tasks) => self.of_run(job, |run| run.running = *tasks),
            Step::Useful(workers) => self.of_run(job, |run| run.useful_workers = Some(*workers)),
            Step::Succeed => self.of_run(job, |run| {
                run.result = Some(RunResult {
                    succeeded: true,
                    reason: EndReason::Succeeded,
                    files: 1,
                    rows: 7,
                    manifest: "s3://out/_SUCCESS.json".to_owned(),
                    ..RunResult::default()
                });
            }),
            Step::Fail(reason) => self.of_run(job, |run| {
                run.result = Some(RunResult {
                    reason: reason.clone().into(),
                    message: "task 1 failed three times".to_owned(),
                    ..RunResult::default()
                });
            }),
            Step::StorageAway(is_away) => self.of_run(job, |run| run.is_storage_away = *is_away),
            Step::Kill(pod) => self.take_away(job, *pod, true),
            Step::LoseNode(pod) => self.take_away(job, *pod, false),
            Step::Full(is_full) => {
                self.cluster.set(|state| state.is_full = *is_full);
                Ok(())
            }
            Step::NoWorkerFits(is_full) => {
                self.cluster.set(|state| state.no_worker_fits = *is_full);
                Ok(())
            }
            Step::NodesSlow(are_slow) => {
                self.cluster.set(|state| state.nodes_are_slow = *are_slow);
                Ok(())
            }
            Step::WorkersFail(fail) => {
                self.cluster.set(|state| state.workers_fail = *fail);
                Ok(())
            }
            Step::Wait(time) => {
                sleep(*time).await;
                Ok(())
            }
            Step::Until(condition) => self.until(job, condition).await,
        }
    }

    /// Removes a pod at once, or makes its node stop answering. In both cases the pod's process
    /// cannot be reached.
    fn take_away(&self, job: &str, pod: Pod, is_gone: bool) -> Result<(), String> {
        let (key, pod) = self.find(job, pod)?;
        let uid = pod["metadata"]["uid"].as_str().unwrap_or("");
        self.coordinators.pod_gone(uid);
        if is_gone {
            self.server
                .change(|store, now| store.remove(&key, Actor::Cluster, now));
        } else {
            self.cluster.lose_node_of(uid);
        }
        if component_of(&pod) == COMPONENT_WORKER {
            return self.of_run(job, |run| run.disruptions += 1);
        }
        Ok(())
    }

    async fn until(&self, job: &str, condition: &Condition) -> Result<(), String> {
        let holds = async {
            let mut changed = self.server.subscribe();
            while !self.holds(job, condition) {
                // The result is ignored, because the server exists as long as the world.
                drop(changed.changed().await);
            }
        };
        timeout(WITHIN, holds).await.map_err(|_| {
            let status = self.job(job).map(|job| job["status"].to_string());
            format!(
                "not within {} s; status: {}",
                WITHIN.as_secs(),
                status.unwrap_or_default()
            )
        })
    }

    fn holds(&self, name: &str, condition: &Condition) -> bool {
        match condition {
            Condition::Job { path, value } => self.job(name).is_some_and(|job| {
                job.pointer(path).is_some_and(|found| match found.as_str() {
                    Some(text) => text == value,
                    None => found.is_u64() && found.as_u64() == value.parse().ok(),
                })
            }),
            Condition::Reason(reason) => self.job(name).is_some_and(|job| {
                let conditions = job["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|condition| {
                    condition["type"] == "Progressing" && condition["reason"] == reason.as_str()
                })
            }),
            Condition::Replicas(number) => self.newest(name, STATEFUL_SETS).is_some_and(|key| {
                let store = self.server.lock();
                store
                    .get(&key)
                    .is_some_and(|set| set["spec"]["replicas"] == json!(number))
            }),
            Condition::Gone => self.job(name).is_none(),
            // A root counts even without its labels.
            Condition::NoChildren => self.server.lock().everything().all(|(key, object)| {
                key.kind != CONFIG_MAPS
                    && object["metadata"]["labels"][zephyr_crds::names::LABEL_JOB].is_null()
            }),
        }
    }

    fn job(&self, name: &str) -> Option<std::sync::Arc<Value>> {
        let store = self.server.lock();
        store.get(&Key::new(JOBS, NAMESPACE, name)).cloned()
    }

    fn of_run(
        &self,
        name: &str,
        change: impl FnOnce(&mut super::coordinator::Run),
    ) -> Result<(), String> {
        let job = self.job(name).ok_or("the job is not there")?;
        self.coordinators
            .set(job["metadata"]["uid"].as_str().unwrap_or(""), change);
        Ok(())
    }

    /// Returns the object of this job and kind that has the highest generation in its label.
    fn newest(&self, job: &str, kind: Kind) -> Option<Key> {
        let store = self.server.lock();
        store
            .all(kind)
            .filter(|(_, object)| is_of_job(object, job))
            .filter_map(|(key, object)| Some((number_of(object)?, key.clone())))
            .max()
            .map(|(_, key)| key)
    }

    fn find(&self, job: &str, pod: Pod) -> Result<(Key, std::sync::Arc<Value>), String> {
        match pod {
            Pod::Coordinator => self.pod(job, COMPONENT_COORDINATOR, ""),
            Pod::Worker(ordinal) => self.pod(job, COMPONENT_WORKER, &format!("-{ordinal}")),
        }
        .ok_or_else(|| format!("{pod:?} has no pod"))
    }

    /// Sends a request as the user. The request must succeed.
    fn ask(
        &self,
        verb: Verb,
        kind: Kind,
        name: &str,
        subresource: Option<&str>,
        body: Value,
    ) -> Result<(), String> {
        let request = ApiRequest {
            verb,
            kind,
            namespace: Some(NAMESPACE.to_owned()),
            name: (verb != Verb::Create).then(|| name.to_owned()),
            subresource: subresource.map(str::to_owned),
            query: Query::default(),
            is_core_event: false,
            is_partial: false,
            content_type: "application/merge-patch+json".to_owned(),
            body,
        };
        let answer = self.server.answer(&request, Actor::User);
        if answer.code < 300 {
            Ok(())
        } else {
            Err(answer.body["message"].to_string())
        }
    }
}

/// Returns a small job of at most four tasks, with short waits.
fn usual_job(name: &str) -> Value {
    json!({
        "apiVersion": "zephyr.dev/v1alpha1", "kind": "ZephyrJob",
        "metadata": {"name": name},
        "spec": {
            "pipeline": {
                "source": {"files": {"paths": ["s3://in/*.jsonl"]}},
                "steps": [],
                "sink": {"files": {"path": "s3://out/part-{shard}.jsonl"}},
            },
            "storage": {"uri": "s3://scratch/zephyr"},
            "workers": {"replicas": 2},
            "retries": {"coordinatorTimeout": "30s", "noWorkersTimeout": "60s"},
        },
    })
}
