//! Lists the files that a job reads. Reads none of them.

use anyhow::{Context as _, Result, bail};
use zephyr_crds::pipeline::FilesSource;
use zephyr_store::formats::list_readable;
use zephyr_store::storage::{InputFile, ListError, Stores};

/// The clients of the stores that the environment describes.
pub(crate) fn stores() -> Stores {
    Stores::new(zephyr_worker::local::storage_options_from_environment())
}

/// A set of files, in the order in which the job reads them; `field` is its path in the manifest.
///
/// # Errors
/// The files cannot be listed, or the format of one of them is not known. `context` is put before
/// the error of a listing.
pub(crate) async fn list(
    stores: &Stores,
    field: &str,
    files: &FilesSource,
    context: &'static str,
) -> Result<Vec<InputFile>> {
    match list_readable(stores, field, files).await {
        Err(ListError::UnknownFormats(sentence)) => bail!(sentence),
        listed => listed.context(context),
    }
}
