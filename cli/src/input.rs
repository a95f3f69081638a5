//! The files that a job reads. Lists them, and reads none.

use anyhow::{Context as _, Result, bail};
use zephyr_crds::pipeline::FilesSource;
use zephyr_store::formats::unknown_formats;
use zephyr_store::storage::{InputFile, Stores, list_files};

/// The clients of the stores that the environment describes.
pub(crate) fn stores() -> Stores {
    Stores::new(zephyr_worker::local::storage_options_from_environment())
}

/// A set of files, in the order in which the job reads them; `field` is its path in the manifest.
///
/// # Errors
/// They cannot be listed, of which `context` speaks, or one has a format that nothing says.
pub(crate) async fn list(
    stores: &Stores,
    field: &str,
    files: &FilesSource,
    context: &'static str,
) -> Result<Vec<InputFile>> {
    let listed = list_files(stores, field, &files.paths, files.empty_ok)
        .await
        .context(context)?;
    if files.format.is_none()
        && let Some(sentence) =
            unknown_formats(field, listed.iter().map(|input| input.uri.as_str()))
    {
        bail!(sentence);
    }
    Ok(listed)
}
