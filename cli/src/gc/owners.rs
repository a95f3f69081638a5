//! Reads the uids of all jobs of one or more clusters. They show which job folders belong to
//! existing jobs. Changes nothing in the clusters.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use kube::{Api, Client};
use zephyr_crds::job::ZephyrJob;

use crate::cluster::Connection;

/// How long the API server may take for one page; a person is waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Jobs in one page.
const PAGE_JOBS: u32 = 500;

/// What to do if the jobs of a cluster cannot be listed.
const ADVICE: &str = "without the list of all jobs it is not known which folders are needed; allowed are --context for another cluster, or --without-cluster together with --older-than to decide by age alone";

/// Uids of jobs that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owners(pub(super) BTreeSet<String>);

impl Owners {
    pub(super) fn owns(&self, uid: &str) -> bool {
        self.0.contains(uid)
    }
}

/// Uids of all jobs in all namespaces of these contexts; of the current one if none is given.
pub(super) async fn of_clusters(contexts: &[String], kubeconfig: Option<&Path>) -> Result<Owners> {
    let mut contexts: Vec<Option<String>> = contexts.iter().cloned().map(Some).collect();
    if contexts.is_empty() {
        contexts.push(None);
    }
    let mut owners = Owners::default();
    for context in contexts {
        let connection = Connection {
            context,
            kubeconfig: kubeconfig.map(Path::to_owned),
            namespace: None,
        };
        of_cluster(&connection, &mut owners).await.context(ADVICE)?;
    }
    Ok(owners)
}

async fn of_cluster(connection: &Connection, owners: &mut Owners) -> Result<()> {
    let config = connection.config().await?;
    let server = config.cluster_url.to_string();
    let api: Api<ZephyrJob> = Api::all(Client::try_from(config).context("make a client")?);
    let mut page = ListParams::default().limit(PAGE_JOBS);
    loop {
        let listed = tokio::time::timeout(ANSWER_TIMEOUT, api.list_metadata(&page))
            .await
            .with_context(|| format!("list jobs of all namespaces: {server} does not answer"))?
            .with_context(|| format!("list jobs of all namespaces from {server}"))?;
        owners
            .0
            .extend(listed.items.into_iter().filter_map(|job| job.metadata.uid));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}
