//! Reads and changes one job of a cluster, with a time limit for each call. Has the arguments that
//! name the job and the cluster. Decides nothing about the job.

mod missing;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, Patch, PatchParams, ValidationDirective};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names::LABEL_JOB_UID;

use crate::terminal::printable;

/// How long the API server may take to answer; a person is waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest number of names that are compared with a name that was not found.
const MAX_NAMES: u32 = 500;

/// Objects in one page of a listing.
const PAGE_OBJECTS: u32 = 500;

/// The largest number of pods of a job that are read.
const MAX_PODS: usize = 20_000;

/// Names a cluster and a namespace. These arguments may stand before or after the verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Connection {
    /// Namespace of the job; default: that of the context.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig; default: the current one.
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Path of the kubeconfig; default: KUBECONFIG, or ~/.kube/config.
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Names a job.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Name of the job.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// A client of a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    server: String,
    /// The namespace in which objects are looked for.
    pub(crate) namespace: String,
}

/// A job, and the cluster that has it.
pub(crate) struct Found {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// Its name, fit for a terminal.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// The object.
    pub(crate) job: ZephyrJob,
}

impl Connection {
    /// Takes each value that is missing here from the arguments before the verb.
    pub(crate) fn inherit(&mut self, before: Self) {
        self.namespace = self.namespace.take().or(before.namespace);
        self.context = self.context.take().or(before.context);
        self.kubeconfig = self.kubeconfig.take().or(before.kubeconfig);
    }

    fn kubeconfig(&self) -> Result<Kubeconfig> {
        match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig {}: cannot be read", path.display())),
            None => Kubeconfig::read()
                .context("read the kubeconfig (--kubeconfig, KUBECONFIG, or ~/.kube/config)"),
        }
    }

    /// The names of the contexts.
    pub(crate) fn contexts(&self) -> Result<Vec<String>> {
        let contexts = self.kubeconfig()?.contexts.into_iter();
        Ok(contexts.map(|context| context.name).collect())
    }

    /// The names of at most `most` jobs of the namespace.
    pub(crate) async fn job_names(&self, most: u32) -> Result<Vec<String>> {
        let cluster = self.open().await?;
        cluster.names(&cluster.api::<ZephyrJob>(), most).await
    }

    /// The names of at most `most` namespaces.
    pub(crate) async fn namespaces(&self, most: u32) -> Result<Vec<String>> {
        let cluster = self.open().await?;
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        cluster.names(&api, most).await
    }

    /// The configuration of the client.
    pub(crate) async fn config(&self) -> Result<Config> {
        let kubeconfig = self.kubeconfig()?;
        if let Some(context) = &self.context {
            let names = kubeconfig.contexts.iter().map(|one| one.name.as_str());
            let names: Vec<_> = names.collect();
            if !names.contains(&context.as_str()) {
                bail!(missing::no_context(context, &names));
            }
        }
        let choice = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        Config::from_custom_kubeconfig(kubeconfig, &choice)
            .await
            .context("read the kubeconfig")
    }

    /// Why the API server would refuse a job; `None` if it would store it. Stores nothing.
    pub(crate) async fn refusal_of(&self, job: &ZephyrJob) -> Result<Option<String>> {
        let mut connection = self.clone();
        connection.namespace = connection.namespace.or(job.metadata.namespace.clone());
        let cluster = connection.open().await?;
        let parameters = PatchParams::apply("kubectl-zephyr").force().dry_run();
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let api = cluster.api::<ZephyrJob>();
        let apply = Patch::Apply(job);
        let checked = async {
            match api.patch(name, &parameters, &apply).await {
                Ok(_) => Ok(None),
                // 401, 403 and 404 say that the server did not look at the job.
                Err(kube::Error::Api(answer)) if matches!(answer.code, 400 | 409 | 422) => {
                    Ok(Some(answer.message))
                }
                Err(error) => Err(error),
            }
        };
        let what = format!("check the job in namespace {}", cluster.namespace);
        cluster.ask(&what, checked).await
    }

    /// Makes a client. Sends nothing.
    pub(crate) async fn open(&self) -> Result<Cluster> {
        let config = self.config().await?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster {
            server: config.cluster_url.to_string(),
            client: Client::try_from(config).context("make a client")?,
            namespace,
        })
    }
}

impl Cluster {
    /// The API of one kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The API of one kind in all namespaces.
    pub(crate) fn api_of_all<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// Waits for an answer of the server, at most `ANSWER_TIMEOUT`. `what` is what was asked for.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, call).await;
        let seconds = ANSWER_TIMEOUT.as_secs();
        let server = &self.server;
        answer
            .with_context(|| format!("{what}: {server} does not answer within {seconds} s"))?
            .map_err(in_words)
            .with_context(|| format!("{what} from {server}"))
    }

    /// All objects that match, page by page. At most `most` are returned.
    pub(crate) async fn list<K>(
        &self,
        what: &str,
        api: &Api<K>,
        parameters: ListParams,
        most: usize,
    ) -> Result<Vec<K>>
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let mut page = parameters.limit(PAGE_OBJECTS);
        let mut found = Vec::new();
        loop {
            let listed = self.ask(what, api.list(&page)).await?;
            found.extend(listed.items);
            let next = listed.metadata.continue_.filter(|token| !token.is_empty());
            match next {
                Some(token) if found.len() < most => page = page.continue_token(&token),
                Some(_) | None => break,
            }
        }
        found.truncate(most);
        Ok(found)
    }

    /// Creates a job. A field that the cluster's definition of a `ZephyrJob` does not have is an
    /// error.
    pub(crate) async fn create(&self, job: &ZephyrJob) -> Result<ZephyrJob> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let shown = printable(name);
        let what = format!("create job {shown} in namespace {}", self.namespace);
        let api = self.api::<ZephyrJob>();
        if self.ask(&what, api.get_opt(name)).await?.is_some() {
            bail!("{what}: there is a job of this name; choose another one with --name");
        }
        // Only an apply can ask for strict checks. If somebody creates a job of this name now, the
        // apply is a conflict, because another manager owns the fields.
        let parameters = PatchParams {
            field_manager: Some("kubectl-zephyr".to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let apply = Patch::Apply(job);
        let created = api.patch(name, &parameters, &apply);
        self.ask(&what, created).await
    }

    /// The names of at most `most` objects.
    async fn names<K>(&self, api: &Api<K>, most: u32) -> Result<Vec<String>>
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let page = ListParams::default().limit(most);
        let listed = self.ask("list names", api.list_metadata(&page)).await?;
        let names = listed.items.into_iter().filter_map(|one| one.metadata.name);
        Ok(names.collect())
    }

    /// The message that there is no job of this name. It names jobs that the user may have meant.
    async fn no_job(&self, name: &str) -> String {
        // If the names cannot be listed, the sentence has no advice.
        let here = self.names(&self.api::<ZephyrJob>(), MAX_NAMES).await;
        let here = here.unwrap_or_default();
        let same_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let everywhere = self.api_of_all::<ZephyrJob>();
        let elsewhere = self
            .ask("list jobs", everywhere.list_metadata(&same_name))
            .await;
        let elsewhere = elsewhere.map_or_else(|_| Vec::new(), |listed| listed.items);
        let elsewhere: Vec<_> = elsewhere
            .into_iter()
            .filter_map(|job| job.metadata.namespace)
            .collect();
        missing::no_job(name, &self.namespace, &here, &elsewhere)
    }
}

impl Target {
    /// Reads the job.
    pub(crate) async fn find(self) -> Result<Found> {
        let cluster = self.connection.open().await?;
        let (name, namespace) = (printable(&self.name), cluster.namespace.clone());
        let what = format!("get job {name} in namespace {namespace}");
        let api = cluster.api::<ZephyrJob>();
        let Some(job) = cluster.ask(&what, api.get_opt(&self.name)).await? else {
            bail!(cluster.no_job(&self.name).await);
        };
        Ok(Found {
            cluster,
            name,
            namespace,
            job,
        })
    }
}

impl Found {
    /// The name of the object.
    pub(crate) fn real_name(&self) -> &str {
        self.job.metadata.name.as_deref().unwrap_or(&self.name)
    }

    /// The name of the job's folder under `spec.storage.uri`: the uid of the job, or of the job
    /// that it continues.
    pub(crate) fn folder(&self) -> &str {
        let continued = self.job.spec.restore_from.as_ref();
        let own = self.job.metadata.uid.as_deref().unwrap_or_default();
        continued.map_or(own, |from| &from.job)
    }

    /// The pods of all generations of the job.
    pub(crate) async fn pods(&self) -> Result<Vec<Pod>> {
        let uid = self.job.metadata.uid.as_deref().unwrap_or_default();
        let labels = ListParams::default().labels(&format!("{LABEL_JOB_UID}={uid}"));
        let what = format!("list the pods of job {}", self.name);
        let api = self.cluster.api::<Pod>();
        self.cluster.list(&what, &api, labels, MAX_PODS).await
    }

    /// The job as it is now; `None` if it was deleted, even if there is a new one of its name.
    pub(crate) async fn again(&self) -> Result<Option<ZephyrJob>> {
        let (name, namespace) = (&self.name, &self.namespace);
        let what = format!("get job {name} in namespace {namespace}");
        let api = self.cluster.api::<ZephyrJob>();
        let job = self
            .cluster
            .ask(&what, api.get_opt(self.real_name()))
            .await?;
        Ok(job.filter(|job| job.metadata.uid == self.job.metadata.uid))
    }

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
        let api = self.cluster.api::<ZephyrJob>();
        let what = format!("change job {} in namespace {}", self.name, self.namespace);
        let changed = api.patch(self.real_name(), &parameters, &patch);
        self.cluster.ask(&what, changed).await
    }
}

/// An error without the answer's fields, which repeat its sentence.
fn in_words(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(answer) = &error {
        return anyhow!("{}", printable(&answer.message));
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_after_the_verb_wins_over_one_before_it() {
        let mut after = Connection {
            namespace: Some("team".to_owned()),
            ..Connection::default()
        };
        after.inherit(Connection {
            namespace: Some("other".to_owned()),
            context: Some("test".to_owned()),
            kubeconfig: None,
        });
        assert_eq!(after.namespace.as_deref(), Some("team"));
        assert_eq!(after.context.as_deref(), Some("test"));
    }
}
