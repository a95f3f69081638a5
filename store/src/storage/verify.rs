//! Checks whether a file that was just completed is what was written. This module writes nothing,
//! and does not decide what happens if the file differs.

use object_store::GetOptions;

use crate::storage::checksums::{ReportedSums, etag_of_parts, is_of_parts};
use crate::storage::{Cause, Location, StorageError, Stores, UploadPlace, persist};

/// The result of checking a finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The file has the size of what was written, and also the checksum if the store reports one.
    Same,
    /// The file differs. This is the difference.
    Other(String),
    /// The store's checksum may be of an unknown kind, so the file must be read to decide.
    Unclear,
}

/// Compares a finished file with what was written. This takes one request, for the size and the
/// checksum of the file.
pub async fn verify(
    stores: &Stores,
    location: &Location,
    place: &UploadPlace,
    bytes: u64,
    crc32c: u32,
) -> Result<Verified, StorageError> {
    let store = stores.open(location)?.objects;
    let looked = persist(stores, "looking for", location, || {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        store.get_opts(location.path(), options)
    })
    .await;
    let found = match looked {
        Ok(found) => found,
        Err(error) if error.cause == Cause::NotFound => {
            return Ok(Verified::Other("it does not exist".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let reported = found
        .extensions
        .get::<ReportedSums>()
        .copied()
        .unwrap_or_default();
    let parts = match place {
        UploadPlace::Multipart { parts, .. } => parts.as_slice(),
        UploadPlace::Staged(_) => &[],
    };
    let etag = found.meta.e_tag.as_deref();
    Ok(compare(
        found.meta.size,
        etag,
        reported,
        parts,
        bytes,
        crc32c,
    ))
}

fn compare(
    size: u64,
    etag: Option<&str>,
    reported: ReportedSums,
    parts: &[String],
    bytes: u64,
    crc32c: u32,
) -> Verified {
    if size != bytes {
        return Verified::Other(format!("it has {size} bytes, and {bytes} were written"));
    }
    if let Some(found) = reported.crc32c {
        return if found == crc32c {
            Verified::Same
        } else {
            Verified::Other(format!(
                "its CRC-32C is {found:08x}, and that of what was written is {crc32c:08x}"
            ))
        };
    }
    match (etag, etag_of_parts(parts)) {
        (Some(found), Some(expected)) if !reported.etag_is_opaque => {
            if found
                .trim_matches('"')
                .eq_ignore_ascii_case(expected.trim_matches('"'))
            {
                Verified::Same
            } else if is_of_parts(found, parts.len()) {
                Verified::Unclear
            } else {
                Verified::Same
            }
        }
        _ => Verified::Same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_compared_by_the_best_checksum_that_the_store_reports() {
        let none = ReportedSums::default();
        let crc = |crc32c| ReportedSums {
            crc32c: Some(crc32c),
            etag_is_opaque: false,
        };
        let opaque = ReportedSums {
            crc32c: None,
            etag_is_opaque: true,
        };
        let part = "\"25f9e794323b453885f5181f1b624d0b\"".to_owned();
        let right = etag_of_parts(std::slice::from_ref(&part)).unwrap();
        let wrong = "\"25f9e794323b453885f5181f1b624d0b-1\"";
        let parts = [part];
        let other = |verified: &Verified| matches!(verified, Verified::Other(_));
        assert_eq!(compare(5, Some(&right), none, &parts, 5, 7), Verified::Same);
        assert!(other(&compare(6, Some(&right), none, &parts, 5, 7)));
        assert_eq!(
            compare(5, Some(wrong), none, &parts, 5, 7),
            Verified::Unclear
        );
        assert_eq!(
            compare(5, Some(wrong), opaque, &parts, 5, 7),
            Verified::Same
        );
        assert_eq!(
            compare(5, Some("\"0x8D\""), none, &parts, 5, 7),
            Verified::Same
        );
        assert_eq!(
            compare(5, Some(wrong), crc(7), &parts, 5, 7),
            Verified::Same
        );
        assert!(other(&compare(5, Some(&right), crc(8), &parts, 5, 7)));
        assert_eq!(compare(5, None, none, &[], 5, 7), Verified::Same);
    }
}
