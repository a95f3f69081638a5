//! Finds files with an unknown format in a listing, before a task opens the first file.

use zephyr_crds::pipeline::FilesSource;

use crate::formats::source_format;
use crate::storage::{InputFile, ListError, Stores, list_files};

/// How many files an error names at most.
const MAX_NAMED: usize = 10;

/// Lists a set of files, and checks that the format of each is known. `field` is the path of the
/// set in the manifest: `spec.pipeline.source.files`.
///
/// # Errors
/// The errors of [`list_files`], and an error if the format of some files is unknown.
pub async fn list_readable(
    stores: &Stores,
    field: &str,
    files: &FilesSource,
) -> Result<Vec<InputFile>, ListError> {
    let listed = list_files(stores, field, &files.paths, files.empty_ok).await?;
    let unknown = unknown_formats(field, listed.iter().map(|file| file.uri.as_str()));
    match unknown.filter(|_| files.format.is_none()) {
        Some(sentence) => Err(ListError::UnknownFormats(sentence)),
        None => Ok(listed),
    }
}

/// Returns a sentence that names the files without a known extension. `None` if all files have one.
/// This is only for sources that do not set `format`. `field` is the path of the set in the
/// manifest, such as `spec.pipeline.source.files`.
fn unknown_formats<'a>(field: &str, uris: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut files = 0_usize;
    let unknown: Vec<&str> = uris
        .inspect(|_| files += 1)
        .filter(|uri| source_format(uri).is_err())
        .collect();
    if unknown.is_empty() {
        return None;
    }
    let named: Vec<String> = unknown
        .iter()
        .take(MAX_NAMED)
        .map(|uri| zephyr_crds::field_error::shown(uri))
        .collect();
    let more = unknown.len().saturating_sub(MAX_NAMED);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    Some(format!(
        "{field}.paths: the extension of {} of {files} files does not imply a format (got {}{more}); .jsonl, .ndjson, .txt or .text, before .gz or .zst if compressed, or set {field}.format",
        unknown.len(),
        named.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(uris: &[&str]) -> Option<String> {
        unknown_formats("spec.pipeline.source.files", uris.iter().copied())
    }

    #[test]
    fn every_file_without_a_known_extension_is_named() {
        assert_eq!(
            sentence(&["s3://b/a.jsonl", "s3://b/a.TXT.gz", "s3://b/c.ndjson.zst"]),
            None
        );
        let sentence = sentence(&["s3://b/a.jsonl", "s3://b/x.csv", "s3://b/y"]);
        assert_eq!(
            sentence.as_deref(),
            Some(
                "spec.pipeline.source.files.paths: the extension of 2 of 3 files does not imply a format (got s3://b/x.csv, s3://b/y); .jsonl, .ndjson, .txt or .text, before .gz or .zst if compressed, or set spec.pipeline.source.files.format"
            )
        );
    }

    #[test]
    fn a_sentence_names_ten_files_and_counts_the_others() {
        let sentence = sentence(&["s3://b/x"; 12]).expect("they are unknown");
        assert_eq!(sentence.matches("s3://b/x").count(), 10);
        assert!(sentence.contains(" and 2 more);"), "{sentence}");
    }
}
