//! Writes dead letters, which are files with the bad records of an attempt. Each place that writes
//! them has one file. A file is begun when its first record is written, so a task without bad
//! records writes none. Dead letters are final files: they are not visible before the coordinator
//! has committed the attempt.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zephyr_engine::coordinator::record::OutputFile;
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::pipeline::{Format, Origin};
use zephyr_engine::plan::Stage;
use zephyr_store::formats::{Compression, FileWriter};
use zephyr_store::ownership::dead_letter_paths;
use zephyr_store::storage::PartUpload;

use crate::task::context::TaskContext;
use crate::task::error::TaskError;
use crate::task::output::{begin_final, finish_final, give_up_final};

/// The most bytes that a dead letter contains of a line that is not JSON. Escaped, the line may
/// take six times as much memory.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// The longest sentence in a dead letter, in characters.
const MAX_ERROR_CHARS: usize = 1_000;

/// What is bad.
pub(super) enum BadRecord<'a> {
    /// A record on which a step failed, as JSON.
    Json(&'a str),
    /// A line that is not a record, and whether these bytes are the whole line.
    Line(&'a [u8], bool),
    /// A whole file.
    File,
}

/// Where in its input a record was bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetterPlace {
    /// The line, or the number of the record, from 1.
    Line(u64),
    /// The position of the line, if only a part of the file is read.
    Byte(u64),
    /// The position of the line in a part of a compressed file. It is counted in plain bytes, from
    /// the beginning of the block or frame whose position in the file is `block`.
    Behind { block: u64, byte: u64 },
    /// The whole file.
    File,
}

/// Where and why a record was bad.
pub(super) struct Reason<'a> {
    /// The file, or the name of another input.
    pub(super) input: &'a str,
    /// The place in the input.
    pub(super) place: LetterPlace,
    /// The path of the step.
    pub(super) step: &'a str,
    /// The sentence.
    pub(super) error: &'a str,
}

/// The dead letters of an attempt.
pub(super) struct DeadLetters {
    paths: BTreeMap<Origin, String>,
    files: BTreeMap<Origin, (String, Box<FileWriter<PartUpload>>)>,
}

impl DeadLetters {
    /// Returns the dead letters of an attempt that runs a task of this stage. No file is begun yet.
    pub(super) fn new(context: &TaskContext, stage: &Stage) -> Self {
        let paths = dead_letter_paths(&context.setup.plan, stage);
        Self {
            paths: paths
                .map(|(origin, path)| (origin, path.to_owned()))
                .collect(),
            files: BTreeMap::new(),
        }
    }

    /// Whether this place writes dead letters.
    pub(super) fn has(&self, origin: Origin) -> bool {
        self.paths.contains_key(&origin)
    }

    /// Writes a bad record, if its place writes dead letters.
    pub(super) fn write(
        &mut self,
        context: &TaskContext,
        stage: &Stage,
        task: TaskAttempt,
        origin: Origin,
        reason: &Reason<'_>,
        record: &BadRecord<'_>,
    ) -> Result<(), TaskError> {
        let Some(path) = self.paths.get(&origin) else {
            return Ok(());
        };
        let (_, writer) = match self.files.entry(origin) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let compression = Compression::of_path(path);
                let (uri, writer) =
                    begin_final(context, stage, path, Format::Jsonl, compression, task)?;
                place.insert((uri, Box::new(writer)))
            }
        };
        let head = head(reason);
        let written = match record {
            BadRecord::Json(text) => {
                writer.write_line(&[head.as_bytes(), b",\"record\":", text.as_bytes(), b"}"])
            }
            BadRecord::Line(bytes, is_whole) => {
                let text = line_text(bytes, *is_whole);
                writer.write_line(&[head.as_bytes(), text.as_bytes(), b"}"])
            }
            BadRecord::File => writer.write_line(&[head.as_bytes(), b"}"]),
        };
        written.map_err(TaskError::WriteOutput)
    }

    /// Ends all files after the last record.
    pub(super) fn finish(self, context: &TaskContext) -> Result<Vec<OutputFile>, TaskError> {
        let mut finished = Vec::new();
        for (uri, writer) in self.files.into_values() {
            finished.push(finish_final(context, uri, *writer)?);
        }
        Ok(finished)
    }

    /// Deletes all files after a failure.
    pub(super) fn abandon(self, context: &TaskContext) {
        for (uri, writer) in self.files.into_values() {
            give_up_final(context, &uri, *writer);
        }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The beginning of the JSON object, up to the record.
fn head(reason: &Reason<'_>) -> String {
    let error: String = reason.error.chars().take(MAX_ERROR_CHARS).collect();
    let place = match reason.place {
        LetterPlace::Line(number) => format!("\"line\":{number}"),
        LetterPlace::Behind { block, byte } => {
            format!("\"line\":null,\"block\":{block},\"byte\":{byte}")
        }
        LetterPlace::Byte(position) => format!("\"line\":null,\"byte\":{position}"),
        LetterPlace::File => "\"line\":null".to_owned(),
    };
    format!(
        "{{\"file\":{},{place},\"step\":{},\"error\":{}",
        quoted(reason.input),
        quoted(reason.step),
        quoted(&error)
    )
}

/// Returns the members of the JSON object for a line. The member `record` has the text of the line,
/// or the member `base64` has its bytes if the line is not UTF-8. If this is not the whole line,
/// there is also the member `cut`.
fn line_text(bytes: &[u8], is_whole: bool) -> String {
    let shown = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
    let is_cut = !is_whole || shown.len() < bytes.len();
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // The text is valid except for its last character, which is incomplete because the line was
        // cut.
        Err(error) if is_cut && error.error_len().is_none() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let member = match text {
        Some(text) => format!(",\"record\":{}", quoted(text)),
        None => format!(",\"base64\":\"{}\"", STANDARD.encode(shown)),
    };
    if is_cut {
        format!("{member},\"cut\":true")
    } else {
        member
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_text_or_base64_and_says_if_it_is_cut() {
        for (bytes, is_whole, expected) in [
            (&b"{\"a\":"[..], true, r#","record":"{\"a\":""#),
            (b"\xff\x00", true, r#","base64":"/wA=""#),
            ("é".as_bytes(), false, r#","record":"é","cut":true"#),
            (&"é".as_bytes()[..1], false, r#","record":"","cut":true"#),
            (&"é".as_bytes()[..1], true, r#","base64":"ww==""#),
        ] {
            assert_eq!(line_text(bytes, is_whole), expected);
        }
        let long = vec![b'x'; MAX_TEXT_BYTES + 1];
        assert!(line_text(&long, true).ends_with(",\"cut\":true"));
    }
}
