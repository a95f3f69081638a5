//! The text of a manifest: from a file or from standard input, in UTF-8, or in UTF-16 with a byte
//! order mark. Parses nothing.

use std::io::Read as _;

use super::ManifestError;

/// The most bytes of a manifest with all its documents. This is the limit of etcd for one object,
/// and more than the API accepts for a job.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Reads the text at `path`; `-` is standard input.
pub(super) fn read(path: &str) -> Result<String, ManifestError> {
    let failed = |source| ManifestError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    if path == "-" {
        std::io::stdin()
            .take(MAX_MANIFEST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_MANIFEST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge {
            path: path.to_owned(),
        });
    }
    decode(path, bytes)
}

/// The text of the bytes, without a byte order mark.
pub(super) fn decode(path: &str, bytes: Vec<u8>) -> Result<String, ManifestError> {
    let is_big = bytes.starts_with(&[0xfe, 0xff]);
    if is_big || bytes.starts_with(&[0xff, 0xfe]) {
        return utf16(&bytes, is_big).ok_or_else(|| ManifestError::NotUtf16 {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| ManifestError::NotUtf8 {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

fn utf16(bytes: &[u8], is_big: bool) -> Option<String> {
    let (pairs, rest) = bytes.get(2..)?.as_chunks::<2>();
    let units: Vec<u16> = pairs
        .iter()
        .map(|pair| {
            if is_big {
                u16::from_be_bytes(*pair)
            } else {
                u16::from_le_bytes(*pair)
            }
        })
        .collect();
    rest.is_empty()
        .then(|| String::from_utf16(&units).ok())
        .flatten()
}
