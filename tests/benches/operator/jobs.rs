//! Measures running jobs: many at the same time, and one job whose worker's pod cannot be deleted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use zephyr_crds::conditions::ConditionType;
use zephyr_crds::job::ZephyrJob;
use zephyr_tests::cluster::{TestNamespace, eventually};
use zephyr_tests::job::{apply, is_true};
use zephyr_tests::midway::job_midway_in;
use zephyr_tests::node;
use zephyr_tests::sum_job::SumJob;

use crate::installed::{LONGEST, Operator, mebibytes, sum};

/// How many calls run at the same time. More calls do not make a small API server faster.
pub(crate) const CALLS: usize = 16;
/// How often metrics are read while jobs run.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// For how long deletions of the stuck pod are counted.
const COUNTED: Duration = Duration::from_mins(4);
const FORCE_DELETES: &str = "zephyr_operator_actions_total{action=\"force_delete_pod\"";

/// Returns a job with one worker. The job ends as soon as the worker runs.
pub(crate) fn small(name: &str) -> SumJob {
    let mut job = SumJob::new(name);
    (job.numbers, job.rounds, job.workers) = (4, 10, 1);
    job
}

/// Runs `count` jobs at the same time, until all have ended.
pub(crate) async fn many(count: usize) -> Result<()> {
    let operator = Operator::find().await?;
    operator.stop().await?;
    operator.start().await?;
    let before = operator.memory().await?;
    let namespace = TestNamespace::create("many").await?;
    let began = Instant::now();
    let applied = stream::iter(0..count).map(|number| {
        let manifest = small(&format!("small-{number}")).manifest(&namespace);
        let namespace = namespace.clone();
        async move { apply(&namespace, &manifest).await.map(drop) }
    });
    applied
        .buffer_unordered(CALLS)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    let accepted = began.elapsed();
    let api = namespace.api::<ZephyrJob>();
    let mut most = 0;
    loop {
        let jobs = api.list(&ListParams::default()).await?.items;
        most = most.max(operator.memory().await?);
        if jobs.iter().all(|job| is_true(job, ConditionType::Finished)) {
            let complete = jobs
                .iter()
                .filter(|job| is_true(job, ConditionType::Complete));
            println!(
                "{count} small jobs: accepted in {:.1} s, {} of them complete after {:.0} s; operator at most {:.1} MiB ({:.1} before)",
                accepted.as_secs_f64(),
                complete.count(),
                began.elapsed().as_secs_f64(),
                mebibytes(most),
                mebibytes(before),
            );
            break;
        }
        anyhow::ensure!(began.elapsed() < LONGEST, "jobs that do not end");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let figures = operator.metrics().await?;
    for (name, value) in &figures {
        if name.starts_with("zephyr_operator_reconcile") {
            println!("  {name} {value}");
        }
    }
    println!(
        "  writes of status: {}",
        sum(&figures, "zephyr_operator_status_writes_total")
    );
    namespace.finish().await
}

/// Measures a worker's pod with a finalizer on a node that is killed: how often the operator
/// deletes the pod, and whether the job continues.
pub(crate) async fn stuck() -> Result<()> {
    let operator = Operator::find().await?;
    let nodes = node::for_jobs().await?;
    let node = nodes.into_iter().next().context("a node that takes pods")?;
    let namespace = TestNamespace::create("stuck").await?;
    let mut sum_job = SumJob::new("sum");
    (sum_job.numbers, sum_job.preferred_node) = (900, Some(node.clone()));
    let midway = job_midway_in(namespace, sum_job).await?;
    let workers = midway.all_running("worker").await?;
    let (pod, _) = workers
        .into_iter()
        .find(|(_, at)| *at == node)
        .context("a worker on the node")?;
    let pods = midway.namespace.api::<Pod>();
    finalizers(&pods, &pod, &["example.com/keeps"]).await?;
    let counted = |figures| sum(&figures, FORCE_DELETES);
    let before = counted(operator.metrics().await?);
    node::kill(&node).await?;
    let measured = async {
        eventually("a first delete of the pod", LONGEST, || async {
            Ok((counted(operator.metrics().await?) > before).then_some(()))
        })
        .await?;
        let first = counted(operator.metrics().await?);
        let done = midway.ledger.read().await?.done.len();
        tokio::time::sleep(COUNTED).await;
        let deletes = counted(operator.metrics().await?) - first;
        let more = midway.ledger.read().await?.done.len() - done;
        anyhow::Ok((deletes, more))
    };
    let outcome = measured.await;
    node::start(&node).await?;
    finalizers(&pods, &pod, &[]).await?;
    let (deletes, more) = outcome?;
    println!(
        "a pod with a finalizer on a dead node: {deletes} deletes in {} s, and {more} tasks committed meanwhile",
        COUNTED.as_secs()
    );
    let namespace = midway.namespace.clone();
    midway.job.delete().await?;
    namespace.finish().await
}

async fn finalizers(pods: &Api<Pod>, pod: &Pod, names: &[&str]) -> Result<()> {
    let patch = serde_json::json!({"metadata": {"finalizers": names}});
    match pods
        .patch(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
