//! Finds input paths whose files certainly have an extension that determines no format. Reads no
//! file.

use crate::field_error::FieldError;
use crate::pipeline::{FileFormat, FilesSource};

/// Extensions of compressed files, which do not determine the format.
const COMPRESSED: [&str; 2] = [".gz", ".zst"];

/// Extensions of formats that people expect, with what to do instead.
const NOT_AVAILABLE: [(&str, &str); 6] = [
    (".csv", LINES),
    (".tsv", LINES),
    (".parquet", NOT_YET),
    (".avro", NOT_YET),
    (".orc", NOT_YET),
    (".xlsx", NOT_YET),
];
const LINES: &str = " to text, and take the lines apart in a map step";
const NOT_YET: &str = "; files of this format cannot be read yet, convert them to JSON lines";

const FOLDER: &str = "; if this is a folder, add /* for the files in it";

/// The error for a path whose files cannot be read without `format`; `field` is that of the files.
pub(super) fn unknown(field: &str, source: &FilesSource, index: usize) -> Option<FieldError> {
    let uri = source.paths.get(index)?;
    if source.format.is_some() || !is_surely_unknown(uri) {
        return None;
    }
    let name = uri.rsplit('/').next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let hint = NOT_AVAILABLE
        .iter()
        .find(|(extension, _)| name.contains(extension))
        .map(|(_, hint)| *hint);
    let may_be_folder = !name.contains('.') && !is_wild(&name);
    let hint = hint.unwrap_or(if may_be_folder { FOLDER } else { "" });
    Some(
        FieldError::new(
            format!("{field}.paths[{index}]"),
            "has an extension that does not imply a format",
            format!(
                ".jsonl, .ndjson, .txt or .text, before .gz or .zst if compressed; or set {field}.format{hint}"
            ),
        )
        .got(uri),
    )
}

/// A pattern may still match files with a known extension: only the text after its last dot is
/// certain, and only if that has no wildcard.
fn is_surely_unknown(uri: &str) -> bool {
    let lower = uri.to_ascii_lowercase();
    let stem = COMPRESSED
        .iter()
        .find_map(|extension| lower.strip_suffix(extension))
        .unwrap_or(&lower);
    let name = stem.rsplit('/').next().unwrap_or_default();
    if name.is_empty() || uri.ends_with('/') {
        return false;
    }
    if !is_wild(uri) {
        return FileFormat::of_path(uri).is_none();
    }
    name.rsplit_once('.').is_some_and(|(_, extension)| {
        !is_wild(extension) && FileFormat::of_path(&format!("x.{extension}")).is_none()
    })
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '[', ']', '{', '}', ','])
}
