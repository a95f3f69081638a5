//! The files that a job reads. Lists them, and reads none.

use anyhow::{Context as _, Result, bail};
use zephyr_crds::pipeline::FilesSource;
use zephyr_store::formats::unknown_formats;
use zephyr_store::storage::{InputFile, Stores, list_inputs};

/// The clients of the stores that the environment describes.
pub(crate) fn stores() -> Stores {
    Stores::new(zephyr_worker::local::storage_options_from_environment())
}

/// The files of a source, in the order in which the job reads them.
///
/// # Errors
/// They cannot be listed, of which `context` speaks, or one has a format that nothing says.
pub(crate) async fn list(
    stores: &Stores,
    files: &FilesSource,
    context: &'static str,
) -> Result<Vec<InputFile>> {
    let listed = list_inputs(stores, &files.paths, files.empty_ok)
        .await
        .context(context)?;
    if files.format.is_none()
        && let Some(sentence) = unknown_formats(listed.iter().map(|input| input.uri.as_str()))
    {
        bail!(sentence);
    }
    Ok(listed)
}
