//! Tests an upgrade in which only the operator was replaced, and the `CustomResourceDefinition` is
//! still that of release 0.1.0: the operator is not ready and says what to do, and it begins to
//! work as soon as the definition is replaced.
//!
//! The test replaces the definition of the whole cluster, and puts it back. No other test may run
//! at the same time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api, ResourceExt};
use zephyr_crds::conditions::ConditionType;
use zephyr_crds::names;
use zephyr_tests::cluster::{TEST_TIMEOUT, TestNamespace, eventually};
use zephyr_tests::job::{apply, is_true};
use zephyr_tests::sum_job::SumJob;

/// The definition of release 0.1.0.
const OLD: &str = include_str!("../releases/0.1.0/definition.json");
/// The namespace into which `make install` installs the operator.
const OPERATOR_NAMESPACE: &str = "zephyr-system";
/// The operator waits 30 s for another definition before it ends. Then Kubernetes starts it again.
const FIRST_END: Duration = Duration::from_mins(2);

/// The operator's pods that are not being deleted.
async fn operators(namespace: &TestNamespace) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), OPERATOR_NAMESPACE);
    let selected = ListParams::default().labels("app.kubernetes.io/name=zephyr-operator");
    let found = pods.list(&selected).await?.items.into_iter();
    let lives = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    Ok(found.filter(lives).collect())
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.is_some_and(|all| all.iter().all(|one| one.ready))
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.map_or(0, |all| all.iter().map(|one| one.restart_count).sum())
}

/// Replaces the definition's content by this one. Returns the content that it had.
async fn define(
    namespace: &TestNamespace,
    content: &CustomResourceDefinition,
) -> Result<CustomResourceDefinition> {
    let definitions: Api<CustomResourceDefinition> = Api::all(namespace.client.clone());
    let name = format!("zephyrjobs.{}", names::GROUP);
    let before = definitions.get(&name).await?;
    let mut after = before.clone();
    after.spec = content.spec.clone();
    definitions
        .replace(&name, &PostParams::default(), &after)
        .await?;
    Ok(before)
}

/// Restarts the operator, and waits until it has ended because of the definition.
async fn refuses_to_start(namespace: &TestNamespace) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(namespace.client.clone(), OPERATOR_NAMESPACE);
    for pod in operators(namespace).await? {
        pods.delete(&pod.name_any(), &DeleteParams::default())
            .await?;
    }
    let ended = eventually("the operator has ended", FIRST_END, || async {
        let found = operators(namespace).await?;
        ensure!(!found.iter().any(is_ready), "an operator is ready");
        Ok(found.into_iter().find(|pod| restarts(pod) > 0))
    })
    .await?;
    let before = LogParams {
        previous: true,
        ..LogParams::default()
    };
    let log = pods.logs(&ended.name_any(), &before).await?;
    let mut lines = log.lines().rev();
    let line = lines.find(|line| line.contains("it lacks"));
    let line = line.context("the log says what is missing")?;
    ensure!(
        line.contains("spec.suspend") || line.contains(" more)"),
        "it names fields: {line}"
    );
    ensure!(
        line.contains("apply the CRD of that release: helm upgrade with installCRDs=true"),
        "it says what to do: {line}"
    );
    Ok(())
}

#[tokio::test]
async fn an_operator_with_the_definition_of_0_1_0_says_so_and_works_as_soon_as_it_is_replaced()
-> Result<()> {
    let namespace = TestNamespace::create("definition").await?;
    let old: CustomResourceDefinition = serde_json::from_str(OLD)?;
    let current = define(&namespace, &old).await?;
    let refused = refuses_to_start(&namespace).await;
    // A job that was created with the old definition, while no operator worked.
    let sum = SumJob::new("sum");
    let job = apply(&namespace, &sum.manifest(&namespace)).await;
    define(&namespace, &current).await?;
    refused?;
    eventually("the operator is ready", TEST_TIMEOUT, || async {
        let found = operators(&namespace).await?;
        Ok(found.iter().any(is_ready).then_some(()))
    })
    .await?;
    let done = job?.succeeded(TEST_TIMEOUT).await?;
    ensure!(is_true(&done, ConditionType::Finished), "it has ended");
    sum.check_output(&namespace).await?;
    namespace.finish().await
}
