//! Checks whether the files that an older manifest lists are unchanged. A file that changed since
//! the manifest was written must not be removed. This module removes nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{FutureExt, StreamExt, TryStreamExt};

use super::claim::CALLS_AT_ONCE;
use super::intent::OldFile;
use super::links::refuse_files_behind_links;
use super::output::Output;
use super::owner::place_of;
use super::{MANIFEST_NAME, OutputError, has_contents};
use crate::storage::{Location, StorageError, Stores, meta_of};

/// How many bytes are read at most to compare the checksums of files that will be replaced. Reading
/// this number of bytes takes some minutes. For the remaining files, only the sizes are compared.
/// Files under names that the new output writes are not read.
const MAX_READ_BYTES: u64 = 16 << 30;

/// Returns the existing files with their versions. Fails if a file differs from the listed one.
pub(super) async fn as_listed(
    output: &Output,
    folder: &Location,
    files: BTreeSet<OldFile>,
) -> Result<Vec<OldFile>, OutputError> {
    let read = AtomicU64::new(0);
    let look = |old: OldFile| {
        let read = &read;
        async move {
            let Some(place) = place_of(folder, &old) else {
                return Ok(None);
            };
            let found = look_at(&output.stores, &place, old, read).await?;
            if found.is_some() {
                refuse_files_behind_links(folder, &[place]).await?;
            }
            Ok(found)
        }
        .boxed()
    };
    let looks: Vec<_> = files.into_iter().map(look).collect();
    let looks = futures::stream::iter(looks).buffered(CALLS_AT_ONCE);
    let found: Vec<Option<OldFile>> = looks.try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the files that still have the size that they had when the job checked them, and the same
/// version if the store has versions.
pub(super) async fn unchanged(
    output: &Output,
    files: Vec<(Location, &OldFile)>,
) -> Result<Vec<Location>, OutputError> {
    let look = |(place, old): (Location, &OldFile)| {
        let (stores, old) = (output.stores.clone(), old.clone());
        async move {
            let found = meta_of(&stores, &place).await?;
            let is_same = found.is_some_and(|found| {
                found.size == old.bytes && (old.etag.is_none() || found.e_tag == old.etag)
            });
            Ok::<_, StorageError>(is_same.then_some(place))
        }
        .boxed()
    };
    let looks: Vec<_> = files.into_iter().map(look).collect();
    let looks = futures::stream::iter(looks).buffered(CALLS_AT_ONCE);
    let found: Vec<Option<Location>> = looks.try_collect().await.map_err(OutputError::Store)?;
    Ok(found.into_iter().flatten().collect())
}

/// Checks one file. `None` if it does not exist.
async fn look_at(
    stores: &Stores,
    place: &Location,
    old: OldFile,
    read: &AtomicU64,
) -> Result<Option<OldFile>, OutputError> {
    let Some(found) = (meta_of(stores, place).await).map_err(OutputError::Store)? else {
        return Ok(None);
    };
    if found.size != old.bytes {
        let (bytes, listed) = (found.size, old.bytes);
        return Err(other(format!(
            "{place} of {bytes} bytes; {MANIFEST_NAME} says {listed}"
        )));
    }
    let is_same_version = old.etag.is_some() && old.etag == found.e_tag;
    let listed = old.crc32c.as_deref();
    let listed = listed.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match listed {
        _ if is_same_version => {}
        Some(crc32c) => {
            let before = read.fetch_add(old.bytes, Ordering::Relaxed);
            let is_read = before.saturating_add(old.bytes) <= MAX_READ_BYTES;
            if is_read
                && !(has_contents(stores, place, old.bytes, crc32c).await)
                    .map_err(OutputError::Store)?
            {
                return Err(other(format!(
                    "{place}, whose CRC-32C is not {crc32c:08x} as listed in {MANIFEST_NAME}"
                )));
            }
        }
        None if old.etag.is_some() => {
            return Err(other(format!(
                "{place}, which was changed after an earlier run checked it"
            )));
        }
        None => {}
    }
    Ok(Some(OldFile {
        etag: found.e_tag,
        ..old
    }))
}

fn other(found: String) -> OutputError {
    OutputError::InTheWay {
        found,
        problem: "a file is not the one that the manifest of the replaced output lists",
        allowed: "move it away, or write to another folder",
    }
}
