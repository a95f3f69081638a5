//! Provides the cluster under test, and a namespace for each test. This module creates and deletes
//! only its own namespaces.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};

/// How long a test waits for something that takes seconds. This is enough on a fully loaded
/// machine.
pub const TEST_TIMEOUT: Duration = Duration::from_mins(4);

/// The interval at which conditions that cannot be watched are polled.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The environment of the cluster; `make -s cluster-env` prints it.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The address of the S3 server for pods.
    pub s3_endpoint: String,
    /// The address of the S3 server for this process.
    pub s3_host_endpoint: String,
    /// The region of the S3 server.
    pub region: String,
    /// The access key of the S3 server.
    pub access_key: String,
    /// The secret key of the S3 server.
    pub secret_key: String,
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not set: run the tests by `make test`, or after `eval \"$(make -s cluster-env)\"`")
    })
}

impl Environment {
    /// Reads the variables of `make -s cluster-env`.
    pub fn from_variables() -> Result<Self> {
        Ok(Self {
            s3_endpoint: variable("ZEPHYR_S3_ENDPOINT")?,
            s3_host_endpoint: variable("ZEPHYR_S3_HOST_ENDPOINT")?,
            region: variable("AWS_REGION")?,
            access_key: variable("AWS_ACCESS_KEY_ID")?,
            secret_key: variable("AWS_SECRET_ACCESS_KEY")?,
        })
    }
}

/// Returns the context of the cluster under test, if it is not the current one.
fn context() -> Option<String> {
    let context = std::env::var("ZEPHYR_TEST_KUBECONTEXT").ok();
    context.filter(|name| !name.is_empty())
}

/// Returns a client of the cluster under test. This is the cluster of the context in
/// `ZEPHYR_TEST_KUBECONTEXT`, or of the current context of the kubeconfig.
pub async fn client() -> Result<Client> {
    client_of(context()).await
}

async fn client_of(context: Option<String>) -> Result<Client> {
    // An error means that another test of this process has already installed the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read().context(
        "no cluster to test on: `make cluster` makes one, ZEPHYR_TEST_KUBECONTEXT names one",
    )?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .context("read the kubeconfig")?;
    Client::try_from(config).context("make a client of the kubeconfig")
}

/// Polls until `look` returns a value, for at most `limit`.
pub async fn eventually<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let last = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::new(),
            Err(error) => format!(" (last error: {error:#})"),
        };
        if tokio::time::Instant::now() >= deadline {
            bail!("not seen within {limit:?}: {what}{last}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A namespace for one test, with the Secret `s3-credentials`. `finish` deletes it with everything
/// in it. If the test fails, the namespace is kept for inspection.
#[derive(Clone)]
pub struct TestNamespace {
    /// Client of the cluster.
    pub client: Client,
    /// Its name, which is new in each run.
    pub name: String,
    /// The context of its cluster, if it is not the current one.
    pub context: Option<String>,
    /// The environment of the cluster.
    pub environment: Environment,
}

impl TestNamespace {
    /// Creates a namespace whose name begins with `zephyr-test-` and the test's name.
    pub async fn create(test: &str) -> Result<Self> {
        Self::create_in(context(), test).await
    }

    /// Creates a namespace in the cluster of the context in `ZEPHYR_SECOND_KUBECONTEXT`, or in the
    /// cluster under test if it is not set. `make test-move` sets it.
    pub async fn create_elsewhere(test: &str) -> Result<Self> {
        let second = std::env::var("ZEPHYR_SECOND_KUBECONTEXT").ok();
        Self::create_in(second.or_else(context), test).await
    }

    async fn create_in(context: Option<String>, test: &str) -> Result<Self> {
        let environment = Environment::from_variables()?;
        let client = client_of(context.clone()).await?;
        let metadata = ObjectMeta {
            generate_name: Some(format!("zephyr-test-{test}-")),
            labels: Some(
                [(
                    "pod-security.kubernetes.io/enforce".to_owned(),
                    "restricted".to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let namespace = Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let this = Self {
            client,
            name: namespace.name_any(),
            context,
            environment,
        };
        this.create_credentials("s3-credentials").await?;
        Ok(this)
    }

    async fn create_credentials(&self, name: &str) -> Result<()> {
        let data = [
            (
                "AWS_ACCESS_KEY_ID".to_owned(),
                self.environment.access_key.clone(),
            ),
            (
                "AWS_SECRET_ACCESS_KEY".to_owned(),
                self.environment.secret_key.clone(),
            ),
        ];
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            string_data: Some(data.into()),
            ..Secret::default()
        };
        Api::<Secret>::namespaced(self.client.clone(), &self.name)
            .create(&PostParams::default(), &secret)
            .await?;
        Ok(())
    }

    /// Makes jobs that are applied after this call reach the object store through an HTTP proxy at
    /// the address `proxy`. A proxy is needed, because the installation sets the store's address,
    /// and no job can change it.
    pub async fn reach_store_through(&self, proxy: &str) -> Result<()> {
        let patch = serde_json::json!({"stringData": {"AWS_PROXY_URL": proxy}});
        self.api::<Secret>()
            .patch(
                "s3-credentials",
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await?;
        Ok(())
    }

    /// Returns the API of one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Returns the pods of a job with this component (`coordinator` or `worker`), ordered by name.
    pub async fn pods(&self, job: &str, component: &str) -> Result<Vec<Pod>> {
        let selector = format!("zephyr.dev/job={job},app.kubernetes.io/component={component}");
        let mut pods = self
            .api::<Pod>()
            .list(&ListParams::default().labels(&selector))
            .await?
            .items;
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }

    /// Returns the uids of the objects that the operator and Kubernetes created for jobs, by
    /// `Kind/name`. These are the objects that have the label of a job and match `selector`.
    pub async fn children(&self, selector: &str) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        self.add_children::<ConfigMap>(selector, &mut all).await?;
        self.add_children::<Secret>(selector, &mut all).await?;
        self.add_children::<Service>(selector, &mut all).await?;
        self.add_children::<Deployment>(selector, &mut all).await?;
        self.add_children::<ReplicaSet>(selector, &mut all).await?;
        self.add_children::<StatefulSet>(selector, &mut all).await?;
        self.add_children::<Pod>(selector, &mut all).await?;
        Ok(all)
    }

    async fn add_children<K>(
        &self,
        selector: &str,
        all: &mut BTreeMap<String, String>,
    ) -> Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        for object in self
            .api::<K>()
            .list(&ListParams::default().labels(selector))
            .await?
        {
            let name = format!("{}/{}", K::kind(&()), object.name_any());
            all.insert(name, object.uid().unwrap_or_default());
        }
        Ok(())
    }

    /// Polls until `look` returns a value. The error describes what is in the namespace.
    pub async fn eventually<T, F>(
        &self,
        what: &str,
        limit: Duration,
        look: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        match eventually(what, limit, look).await {
            Ok(found) => Ok(found),
            Err(error) => bail!("{error:#}\n{}", self.describe().await),
        }
    }

    /// Describes everything in this namespace that may explain a failure: jobs, pods and events.
    pub async fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("namespace {}:\n", self.name);
        if let Ok(jobs) = self
            .api::<zephyr_crds::job::ZephyrJob>()
            .list(&ListParams::default())
            .await
        {
            for job in jobs {
                let status = serde_json::to_string(&job.status).unwrap_or_default();
                let _ = writeln!(text, "  job {}: {status}", job.name_any());
            }
        }
        if let Ok(pods) = self.api::<Pod>().list(&ListParams::default()).await {
            for pod in pods {
                let node = pod
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.node_name.clone())
                    .unwrap_or_default();
                let status = pod.status.clone().unwrap_or_default();
                let containers: Vec<_> = status
                    .container_statuses
                    .iter()
                    .flatten()
                    .map(|c| (&c.state, &c.last_state))
                    .collect();
                let containers = serde_json::to_string(&containers).unwrap_or_default();
                let phase = status.phase.clone().unwrap_or_default();
                let deleted = pod.metadata.deletion_timestamp.is_some();
                let _ = writeln!(
                    text,
                    "  pod {} on {node}: {phase}, being deleted: {deleted}, {containers}",
                    pod.name_any()
                );
            }
        }
        if let Ok(events) = self.api::<Event>().list(&ListParams::default()).await {
            for event in events {
                let about = event.involved_object.name.unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  event {about}: {:?} {:?}",
                    event.reason.unwrap_or_default(),
                    event.message.unwrap_or_default()
                );
            }
        }
        text
    }

    /// Requests the deletion of the namespace, and does not wait for its end.
    pub async fn finish(self) -> Result<()> {
        Api::<Namespace>::all(self.client)
            .delete(&self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }
}
