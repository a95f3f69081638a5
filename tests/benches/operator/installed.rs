//! Stops and starts the installed operator, and reads its metrics and resource usage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, GetParams, ListParams, Patch, PatchParams, Request};
use kube::{Client, ResourceExt};
use zephyr_tests::cluster::{self, eventually};

/// The namespace into which `make install` installs the operator.
const NAMESPACE: &str = "zephyr-system";
const NAME: &str = "zephyr-operator";
/// The longest wait for one step of a measurement. It is many times the expected duration.
pub(crate) const LONGEST: Duration = Duration::from_mins(30);

/// The operator as `make install` installed it.
pub(crate) struct Operator {
    pub(crate) client: Client,
}

impl Operator {
    pub(crate) async fn find() -> Result<Self> {
        let client = cluster::client().await?;
        let this = Self { client };
        this.deployments()
            .get(NAME)
            .await
            .context("find the operator; `make install` installs it")?;
        Ok(this)
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let ours = ListParams::default().labels("app.kubernetes.io/name=zephyr-operator");
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        Ok(pods.list(&ours).await?.items)
    }

    async fn scale(&self, replicas: u32) -> Result<()> {
        let patch = serde_json::json!({"spec": {"replicas": replicas}});
        self.deployments()
            .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Stops the operator, and waits until its pod no longer exists.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.scale(0).await?;
        eventually("the operator's pod is gone", LONGEST, || async {
            Ok(self.pods().await?.is_empty().then_some(()))
        })
        .await
    }

    /// Starts the operator. Returns the time until its pod is ready.
    pub(crate) async fn start(&self) -> Result<Duration> {
        let began = Instant::now();
        self.scale(1).await?;
        eventually("the operator is ready", LONGEST, || async {
            Ok(self.pods().await?.iter().any(is_ready).then_some(()))
        })
        .await?;
        Ok(began.elapsed())
    }

    async fn pod(&self) -> Result<Pod> {
        let pods = self.pods().await?;
        pods.into_iter()
            .find(is_ready)
            .context("an operator that is ready")
    }

    /// Returns its metrics, by name and labels.
    pub(crate) async fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        let pod = self.pod().await?.name_any();
        let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy");
        let request = Request::new(pod).get("metrics", &GetParams::default())?;
        let text = self.client.request_text(request).await?;
        let figures = text.lines().filter(|line| !line.starts_with('#'));
        let figures = figures.filter_map(|line| line.rsplit_once(' '));
        Ok(figures
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// Returns how much memory of its container is not backed by files, in bytes, as the kubelet
    /// reports it.
    pub(crate) async fn memory(&self) -> Result<u64> {
        let pod = self.pod().await?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let node = node.context("the operator's pod has a node")?;
        let name = pod.name_any();
        let node = Request::new(format!("/api/v1/nodes/{node}/proxy/stats"));
        let began = jiff::Timestamp::now();
        // The kubelet measures every few seconds, so an older value may be from before the start.
        eventually("a figure of the kubelet", LONGEST, || async {
            let request = node.get("summary", &GetParams::default())?;
            let summary: serde_json::Value = self.client.request(request).await?;
            let pods = summary["pods"].as_array().context("pods")?;
            let stats = pods.iter().find(|pod| pod["podRef"]["name"] == *name);
            let memory = stats.map(|stats| &stats["containers"][0]["memory"]);
            let Some(memory) = memory else {
                return Ok(None);
            };
            let time: jiff::Timestamp = memory["time"].as_str().context("time")?.parse()?;
            Ok(memory["rssBytes"].as_u64().filter(|_| time > began))
        })
        .await
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Returns the sum of all metrics whose names begin with `name`.
pub(crate) fn sum(figures: &BTreeMap<String, f64>, name: &str) -> f64 {
    figures
        .iter()
        .filter(|(key, _)| key.starts_with(name))
        .map(|(_, value)| value)
        .sum()
}

/// Converts bytes to MiB, for people.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
