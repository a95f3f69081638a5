//! Pods, processes and nodes vanish in the middle of a job, on the real cluster: the output is the same each time,
//! nothing that was committed is run again, and the application budget is untouched.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, EvictParams};
use kube::{Api, ResourceExt};
use zephyr_tests::cluster::{self, PATIENCE, TestNamespace};
use zephyr_tests::job::{AppliedJob, apply};
use zephyr_tests::ledger::{LedgerState, LedgerView};
use zephyr_tests::node;
use zephyr_tests::sum_job::SumJob;

/// Committed tasks after which a test strikes: the job is then in the middle of its first stage.
const MIDDLE: usize = 8;

/// A word of the coordinator's command line.
const COORDINATOR: &str = "zephyr-worker coordinator";

/// How long a coordinator is made to stand still.
const STANDSTILL: Duration = Duration::from_secs(40);

/// A job in the middle of its work.
struct Struck {
    namespace: TestNamespace,
    sum: SumJob,
    job: AppliedJob,
    ledger: LedgerView,
    before: LedgerState,
}

/// Applies a job and waits until it is in the middle.
async fn strike(test: &str) -> Result<Struck> {
    let namespace = TestNamespace::create(test).await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, MIDDLE, PATIENCE).await?;
    let before = ledger.read().await?;
    Ok(Struck {
        namespace,
        sum,
        job,
        ledger,
        before,
    })
}

impl Struck {
    /// A worker's pod that runs, with its node.
    async fn worker(&self) -> Result<(Pod, String)> {
        self.running("worker").await
    }

    async fn running(&self, component: &str) -> Result<(Pod, String)> {
        let pods = self.namespace.pods("sum", component).await?;
        let runs = |pod: &Pod| {
            pod.status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
                == Some("Running")
        };
        let pod = pods
            .into_iter()
            .rev()
            .find(runs)
            .with_context(|| format!("a {component} runs"))?;
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .context("a running pod has a node")?;
        Ok((pod, node))
    }

    async fn delete_at_once(&self, pod: &Pod) -> Result<()> {
        self.namespace
            .api::<Pod>()
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
        Ok(())
    }

    /// The output is right, nothing was run twice, no budget was used, and it is still generation 1.
    async fn ends_well(self) -> Result<()> {
        let done = self.job.succeeded(PATIENCE).await?;
        let after = self.ledger.read().await?;
        after.repeats_nothing_of(&self.before)?;
        anyhow::ensure!(
            after.application_failures.is_empty(),
            "charged: {:?}",
            after.application_failures
        );
        let generation = done.status.as_ref().and_then(|status| status.generation);
        anyhow::ensure!(generation == Some(1), "it is generation {generation:?}");
        self.sum.check_output(&self.namespace).await?;
        self.namespace.finish().await
    }
}

#[tokio::test]
async fn a_worker_pod_deleted_without_grace_costs_only_its_running_task() -> Result<()> {
    let struck = strike("worker-pod").await?;
    let (pod, _) = struck.worker().await?;
    struck.delete_at_once(&pod).await?;
    struck.ends_well().await
}

#[tokio::test]
async fn a_worker_pod_deleted_with_grace_hands_its_task_back() -> Result<()> {
    let struck = strike("worker-term").await?;
    let (pod, _) = struck.worker().await?;
    struck
        .namespace
        .api::<Pod>()
        .delete(&pod.name_any(), &DeleteParams::default())
        .await?;
    struck.ends_well().await
}

#[tokio::test]
async fn fault_8615_a_coordinator_pod_deleted_is_replaced_within_the_generation() -> Result<()> {
    let struck = strike("coordinator-pod").await?;
    let (pod, _) = struck.running("coordinator").await?;
    struck.delete_at_once(&pod).await?;
    struck.ends_well().await
}

#[tokio::test]
async fn a_coordinator_process_killed_resumes_in_the_next_epoch() -> Result<()> {
    let struck = strike("coordinator-process").await?;
    let (pod, node) = struck.running("coordinator").await?;
    let uid = pod.uid().context("a uid")?;
    node::signal_process(&node, &uid, COORDINATOR, "KILL").await?;
    let (ledger, before) = (&struck.ledger, struck.before.epoch);
    struck
        .namespace
        .eventually("a later epoch", PATIENCE, || async {
            Ok((ledger.read().await?.epoch > before).then_some(()))
        })
        .await?;
    struck.ends_well().await
}

#[tokio::test]
async fn promise_e15_a_coordinator_that_stands_still_gives_nobody_up_and_goes_on() -> Result<()> {
    let struck = strike("coordinator-stop").await?;
    let (pod, node) = struck.running("coordinator").await?;
    let uid = pod.uid().context("a uid")?;
    node::signal_process(&node, &uid, COORDINATOR, "STOP").await?;
    // Longer than any worker may be silent (30 s), shorter than the liveness probe's patience (60 s).
    tokio::time::sleep(STANDSTILL).await;
    node::signal_process(&node, &uid, COORDINATOR, "CONT").await?;
    let done = struck.job.succeeded(PATIENCE).await?;
    let disruptions = done
        .status
        .and_then(|status| status.workers)
        .map(|workers| workers.disruptions);
    anyhow::ensure!(disruptions == Some(0), "{disruptions:?} disruptions");
    let epoch = struck.ledger.read().await?.epoch;
    anyhow::ensure!(epoch == struck.before.epoch, "it is epoch {epoch}");
    struck.ends_well().await
}

#[tokio::test]
async fn evicted_pods_of_both_roles_cost_nothing() -> Result<()> {
    let struck = strike("evicted").await?;
    for component in ["worker", "coordinator"] {
        let (pod, _) = struck.running(component).await?;
        struck
            .namespace
            .api::<Pod>()
            .evict(&pod.name_any(), &EvictParams::default())
            .await?;
    }
    struck.ends_well().await
}

/// Nodes are few and shared: one test after the other, in this order.
#[tokio::test]
async fn a_node_that_vanishes_takes_nothing_with_it_whether_its_object_stays_or_goes() -> Result<()>
{
    let struck = strike("node-stays").await?;
    let (_, node) = struck.worker().await?;
    node::kill(&node).await?;
    let outcome = struck.ends_well().await;
    node::start(&node).await?;
    outcome?;
    wait_until_ready(&node).await?;

    let struck = strike("node-goes").await?;
    let (_, node) = struck.worker().await?;
    node::kill(&node).await?;
    let nodes: Api<Node> = Api::all(struck.namespace.client.clone());
    nodes.delete(&node, &DeleteParams::default()).await?;
    let outcome = struck.ends_well().await;
    node::start(&node).await?;
    outcome?;
    wait_until_ready(&node).await
}

async fn wait_until_ready(node: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(cluster::client().await?);
    let nodes = &nodes;
    cluster::eventually(&format!("node {node} ready"), PATIENCE, || async move {
        let status = nodes.get_opt(node).await?.and_then(|node| node.status);
        let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
        Ok(conditions
            .any(|c| c.type_ == "Ready" && c.status == "True")
            .then_some(()))
    })
    .await
}
