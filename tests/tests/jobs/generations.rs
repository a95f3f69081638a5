//! Tests a job whose coordinator cannot start again. The next generation must resume from the
//! ledger, the names of its objects contain its number, and the old objects are deleted through
//! their owner references.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace};
use zephyr_tests::job::apply;
use zephyr_tests::ledger::LedgerView;
use zephyr_tests::sum_job::SumJob;

/// Puts a label on a node, or removes it.
async fn label(client: &kube::Client, node: &str, key: &str, value: Option<&str>) -> Result<()> {
    let patch = serde_json::json!({ "metadata": { "labels": { key: value } } });
    Api::<Node>::all(client.clone())
        .patch(node, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(())
}

/// Returns the names of all objects that generation `n` owns, directly or not.
async fn objects_of(namespace: &TestNamespace, n: u32) -> Result<Vec<String>> {
    let children = namespace
        .children(&format!("zephyr.dev/generation={n}"))
        .await?;
    Ok(children.into_keys().collect())
}

#[tokio::test]
async fn a_root_whose_labels_somebody_removes_gets_them_back_and_no_other_generation_begins()
-> Result<()> {
    let namespace = TestNamespace::create("unlabelled").await?;
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, 4, TEST_TIMEOUT).await?;
    let before = objects_of(&namespace, 1).await?;
    let roots = namespace.api::<ConfigMap>();
    let bare = serde_json::json!({"metadata": {"labels": null}});
    roots
        .patch("sum-g1", &PatchParams::default(), &Patch::Merge(bare))
        .await?;
    namespace
        .eventually("the root has its labels again", TEST_TIMEOUT, || async {
            let labels = roots.get("sum-g1").await?.labels().clone();
            Ok(labels.contains_key("zephyr.dev/job").then_some(()))
        })
        .await?;
    anyhow::ensure!(
        objects_of(&namespace, 1).await? == before,
        "nothing was made again"
    );
    let done = job.succeeded(TEST_TIMEOUT).await?;
    let generations = done
        .status
        .map(|status| status.generations)
        .unwrap_or_default();
    anyhow::ensure!(generations.len() == 1, "one generation: {generations:?}");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}

#[tokio::test]
async fn fault_3705_8080_a_coordinator_that_cannot_be_placed_again_is_followed_by_generation_2()
-> Result<()> {
    let namespace = TestNamespace::create("generation").await?;
    let client = namespace.client.clone();
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let free = |node: &Node| {
        node.spec
            .as_ref()
            .is_some_and(|spec| spec.taints.iter().flatten().count() == 0)
    };
    let node = nodes
        .iter()
        .find(|node| free(node))
        .context("a node without taints")?
        .name_any();
    // Only this test uses this label, so pods of other tests are not affected.
    let key = format!("zephyr-test/{}", namespace.name);
    label(&client, &node, &key, Some("here")).await?;

    let mut sum = SumJob::new("sum");
    // Generation 2 has enough work to be seen before it ends.
    sum.numbers = 100;
    sum.more = "  retries: { coordinatorTimeout: 10s, backoff: { initial: 1s } }\n".to_owned();
    let manifest = sum.manifest(&namespace).replace(
        "  coordinator:\n",
        &format!("  coordinator:\n    template: {{ nodeSelector: {{ \"{key}\": here }} }}\n"),
    );
    let job = apply(&namespace, &manifest).await?;
    let ledger = LedgerView::open(
        &namespace.environment,
        &SumJob::storage_uri(&namespace),
        &job.uid,
    )?;
    job.committed(&ledger, 8, TEST_TIMEOUT).await?;
    let first = objects_of(&namespace, 1).await?;
    for wanted in [
        "ConfigMap/sum-g1",
        "Deployment/sum-coordinator-g1",
        "Service/sum-coordinator-g1",
        "StatefulSet/sum-workers-g1",
    ] {
        anyhow::ensure!(
            first.iter().any(|name| name == wanted),
            "{wanted} is not among {first:?}"
        );
    }

    label(&client, &node, &key, None).await?;
    let before = ledger.read().await?;
    for pod in namespace.pods("sum", "coordinator").await? {
        namespace
            .api::<Pod>()
            .delete(&pod.name_any(), &DeleteParams::default().grace_period(0))
            .await?;
    }
    job.wait_until("generation 2", TEST_TIMEOUT, |job| {
        job.status.as_ref().and_then(|s| s.generation) >= Some(2)
    })
    .await?;
    label(&client, &node, &key, Some("here")).await?;

    let second = namespace
        .eventually("objects of generation 2 alone", TEST_TIMEOUT, || async {
            let now = job
                .get()
                .await?
                .status
                .and_then(|s| s.generation)
                .context("a generation")?;
            let (old, new) = (
                objects_of(&namespace, 1).await?,
                objects_of(&namespace, now).await?,
            );
            Ok(
                (old.is_empty() && new.iter().any(|name| name.starts_with("Pod/")))
                    .then_some((now, new)),
            )
        })
        .await?;
    // Kubernetes adds a suffix to the names of objects that it creates: ReplicaSets and pods.
    let suffix = format!("-g{}", second.0);
    let named = |name: &String| name.ends_with(&suffix) || name.contains(&format!("{suffix}-"));
    anyhow::ensure!(second.1.iter().all(named), "{:?}", second.1);

    let done = job.succeeded(TEST_TIMEOUT).await?;
    ledger.read().await?.repeats_nothing_of(&before)?;
    sum.check_output(&namespace).await?;
    let generations = done.status.map(|s| s.generations).unwrap_or_default();
    anyhow::ensure!(
        generations.len() >= 2,
        "status lists each generation: {generations:?}"
    );
    label(&client, &node, &key, None).await?;
    namespace.finish().await
}
