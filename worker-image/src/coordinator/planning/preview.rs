//! Checks the output's folder in the same way as planning, for a user who asks before the job
//! exists. Writes nothing.

use std::time::SystemTime;

use zephyr_store::finalize::{OutputError, preview};

use super::places::{PlacesError, check_replaced};
use crate::job::RunJob;

/// Why the job may not write its output.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// An input would be removed with older output.
    #[error(transparent)]
    Places(PlacesError),
    /// The folder is not free, or cannot be read.
    #[error(transparent)]
    Output(OutputError),
}

/// Fails if a job that begins now could not use the folder of its output. `inputs` are the uris of
/// all files that it reads, `now` is the time of this machine.
///
/// # Errors
/// The first fault.
pub async fn check_output(
    job: &RunJob,
    inputs: &[String],
    now: SystemTime,
) -> Result<(), PreviewError> {
    let output = job.output();
    let replaced = output.replaced().await.map_err(PreviewError::Output)?;
    let spec = &job.frozen.spec;
    check_replaced(spec, inputs, &replaced)
        .await
        .map_err(PreviewError::Places)?;
    preview(&output, inputs, now)
        .await
        .map_err(PreviewError::Output)
}
