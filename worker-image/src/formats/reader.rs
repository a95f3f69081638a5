//! A file's records, one by one, each with its line. A bad record is an error that names file and line.

use std::io::Read;

use zephyr_crds::pipeline::FileFormat;
use zephyr_engine::pipeline::Format;
use zephyr_engine::record::{Record, RecordParser};

use crate::formats::compression::Decompressor;
use crate::formats::error::storage_error;
use crate::formats::lines::{LineError, Lines};
use crate::formats::{Compression, LINE_BYTES_MAX, ReadError};

/// Reads the records of one file.
///
/// In `jsonl`, lines of nothing but white space are passed over; in `text`, they are records like any other. A byte
/// order mark at the beginning is left out, `\r\n` ends a line like `\n`, and the last line need not be ended.
pub struct FileReader {
    file: String,
    format: Format,
    lines: Lines<Decompressor>,
    parser: RecordParser,
}

/// How records lie in a source file, by its extension before `.gz` or `.zst`: `.jsonl`, `.ndjson`, `.txt`, `.text`.
pub fn source_format(file: &str) -> Result<Format, ReadError> {
    match FileFormat::of_path(file) {
        Some(FileFormat::Jsonl) => Ok(Format::Jsonl),
        Some(FileFormat::Text) => Ok(Format::Text),
        None => Err(ReadError::UnknownFormat {
            file: file.to_owned(),
        }),
    }
}

impl FileReader {
    /// Reads from `input`, which gives the file's `size` bytes. The compression is that of its extension.
    pub fn new(
        file: &str,
        size: u64,
        format: Format,
        input: impl Read + 'static,
    ) -> Result<Self, ReadError> {
        let plain = Decompressor::new(Compression::of_path(file), size, input);
        let plain = plain.map_err(|error| ReadError::Decompress {
            file: file.to_owned(),
            byte: 0,
            problem: error.to_string(),
        })?;
        Ok(Self {
            file: file.to_owned(),
            format,
            lines: Lines::new(plain),
            parser: RecordParser::new(),
        })
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The next record with its line, from 1.
    pub fn next_record(&mut self) -> Result<Option<(Record, u64)>, ReadError> {
        loop {
            let line = match self.lines.next() {
                Ok(None) => return Ok(None),
                Ok(Some(line)) => line,
                Err(error) => return Err(failed(&self.file, &self.lines, error)),
            };
            let parsed = match self.format {
                Format::Jsonl if line.iter().all(u8::is_ascii_whitespace) => continue,
                Format::Jsonl => self.parser.parse(line).map_err(|error| error.to_string()),
                Format::Text => match std::str::from_utf8(line) {
                    Ok(text) => Ok(Record::from_text_line(text)),
                    Err(error) => Err(format!("byte {}: not UTF-8", error.valid_up_to())),
                },
            };
            let line = self.lines.number();
            return match parsed {
                Ok(record) => Ok(Some((record, line))),
                Err(problem) => Err(ReadError::ParseRecord {
                    file: self.file.clone(),
                    line,
                    problem,
                }),
            };
        }
    }
}

fn failed(file: &str, lines: &Lines<Decompressor>, error: LineError) -> ReadError {
    let file = file.to_owned();
    match error {
        LineError::TooLong => ReadError::ParseRecord {
            file,
            line: lines.number(),
            problem: format!("the line is longer than {LINE_BYTES_MAX} bytes"),
        },
        LineError::Read(error) => match storage_error(error) {
            Ok(error) => ReadError::Store(error),
            Err(error) => {
                let is_truncated = error.kind() == std::io::ErrorKind::UnexpectedEof;
                let problem = if is_truncated {
                    "it ends in the middle: truncated".to_owned()
                } else {
                    error.to_string()
                };
                ReadError::Decompress {
                    file,
                    byte: lines.input().position(),
                    problem,
                }
            }
        },
    }
}
