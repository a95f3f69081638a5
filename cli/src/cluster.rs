//! Reads and changes one job of a cluster, with a time limit for each call. Has the arguments that
//! name the job. Decides nothing about it.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use zephyr_crds::job::ZephyrJob;

use crate::terminal::printable;

/// How long the API server may take to answer; a person is waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Names a job.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Name of the job.
    name: String,
    /// Namespace of the job; default: that of the context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Context of the kubeconfig; default: the current one.
    #[arg(long)]
    context: Option<String>,
}

/// A job, and the server that has it.
pub(crate) struct Found {
    api: Api<ZephyrJob>,
    server: String,
    /// Its name, fit for a terminal.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The object.
    pub(crate) job: ZephyrJob,
}

impl Target {
    /// Reads the job.
    pub(crate) async fn find(self) -> Result<Found> {
        let kubeconfig =
            Kubeconfig::read().context("read the kubeconfig (KUBECONFIG, or ~/.kube/config)")?;
        let choice = KubeConfigOptions {
            context: self.context,
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &choice)
            .await
            .context("read the kubeconfig")?;
        let server = config.cluster_url.to_string();
        let namespace = self
            .namespace
            .unwrap_or_else(|| config.default_namespace.clone());
        let api: Api<ZephyrJob> = Api::namespaced(
            Client::try_from(config).context("make a client")?,
            &namespace,
        );
        let name = printable(&self.name);
        let answer = within(&server, api.get_opt(&self.name)).await?;
        let job = answer
            .map_err(in_words)
            .with_context(|| format!("get job {name} in namespace {namespace} from {server}"))?;
        let Some(job) = job else {
            bail!("job {name} not found in namespace {namespace}");
        };
        Ok(Found {
            api,
            server,
            name,
            namespace,
            job,
        })
    }
}

impl Found {
    /// Changes fields of the job's spec. A field that the cluster's definition of a `ZephyrJob`
    /// does not have is an error.
    pub(crate) async fn change(&self, spec: &Value) -> Result<ZephyrJob> {
        let parameters = PatchParams {
            field_manager: Some("kubectl-zephyr".to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let uid = &self.job.metadata.uid;
        // With the uid in the patch, the server does not change another job of the same name.
        let patch = Patch::Merge(serde_json::json!({"metadata": {"uid": uid}, "spec": spec}));
        let real_name = self.job.metadata.name.as_deref().unwrap_or(&self.name);
        let changed = self.api.patch(real_name, &parameters, &patch);
        let changed = within(&self.server, changed).await?;
        changed
            .map_err(in_words)
            .with_context(|| format!("change job {} in namespace {}", self.name, self.namespace))
    }
}

/// Converts an error for people. The API server's answer is reduced to its sentence, because the
/// other fields of the answer repeat the sentence.
fn in_words(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(answer) = &error {
        return anyhow!("{}", printable(&answer.message));
    }
    error.into()
}

/// Waits for an answer of the server, at most `ANSWER_TIMEOUT`.
async fn within<T>(server: &str, call: impl Future<Output = T>) -> Result<T> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, call).await;
    let seconds = ANSWER_TIMEOUT.as_secs();
    answer.with_context(|| format!("{server} does not answer within {seconds} s"))
}
