//! After the end: removes the intermediate data that nobody needs any more. The ledger stays, because a coordinator that is
//! started once more must find the result. Decides nothing about the job.

use std::time::Duration;

use tokio::time::timeout;
use zephyr_crds::job::Retain;
use zephyr_engine::coordinator::record::JobResult;

use crate::job::RunJob;
use crate::storage::remove_folder;

/// How long the result may wait for the removal: 100,000 objects go in a hundred requests.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is said while it is under way.
pub(super) const MESSAGE: &str = "removing intermediate data";

/// Removes what `spec.storage.retain` does not keep. What cannot be removed in time stays, and the log says so.
pub(super) async fn clean_up(job: &RunJob, result: &JobResult) {
    if !is_due(job.frozen.spec.storage.retain, result) {
        return;
    }
    let folder = match job.storage.at("data") {
        Ok(folder) => folder,
        Err(error) => {
            tracing::warn!(%error, "the intermediate data has no address and stays");
            return;
        }
    };
    match timeout(PATIENCE, remove_folder(job.storage.stores(), &folder)).await {
        Ok(Ok(removed)) => {
            tracing::info!(%folder, removed, "the intermediate data is removed");
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "some of the intermediate data stays");
        }
        Err(_) => {
            tracing::warn!(%folder, ?PATIENCE, "some of the intermediate data stays: its removal took too long");
        }
    }
}

fn is_due(retain: Retain, result: &JobResult) -> bool {
    match (retain, result) {
        (Retain::Never, _) | (Retain::OnFailure, JobResult::Succeeded { .. }) => true,
        (Retain::Always, _) | (Retain::OnFailure, JobResult::Failed { .. }) => false,
    }
}
