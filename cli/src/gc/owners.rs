//! Reads the uids of all jobs of one or more clusters, and of the jobs that they continue. They
//! show which job folders belong to existing jobs. Changes nothing in the clusters.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use zephyr_crds::job::ZephyrJob;

use crate::cluster::Connection;

/// How long the API server may take for one page; a person is waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Jobs in one page.
const PAGE_JOBS: u32 = 500;

/// What to do if the jobs of a cluster cannot be listed.
const ADVICE: &str = "without the list of all jobs it is not known which folders are needed; allowed are --context for another cluster, or --without-cluster together with --older-than to decide by age alone";

/// Uids of jobs that exist, and of the jobs that they continue.
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
    let kind = ApiResource::erase::<ZephyrJob>(&());
    let api: Api<DynamicObject> =
        Api::all_with(Client::try_from(config).context("make a client")?, &kind);
    let mut page = ListParams::default().limit(PAGE_JOBS);
    loop {
        let listed = tokio::time::timeout(ANSWER_TIMEOUT, api.list(&page))
            .await
            .with_context(|| format!("list jobs of all namespaces: {server} does not answer"))?
            .with_context(|| format!("list jobs of all namespaces from {server}"))?;
        owners.0.extend(listed.items.into_iter().flat_map(folders));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// The names of the folders that a job may need: its own, and that of the job which it continues.
/// The spec is not read as a whole, because another release may have written it.
fn folders(job: DynamicObject) -> impl Iterator<Item = String> {
    let continued = job.data["spec"]["restoreFrom"]["job"].as_str();
    let continued = continued.map(str::to_owned);
    job.metadata.uid.into_iter().chain(continued)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_owns_the_folder_of_the_job_that_it_continues() {
        for (spec, expected) in [
            (serde_json::json!({}), vec!["new"]),
            (
                serde_json::json!({"restoreFrom": {"job": "old", "digest": "d"}}),
                vec!["new", "old"],
            ),
        ] {
            let job = serde_json::json!({"metadata": {"name": "a", "uid": "new"}, "spec": spec});
            let job: DynamicObject = serde_json::from_value(job).unwrap();
            assert_eq!(folders(job).collect::<Vec<_>>(), expected);
        }
    }
}
