//! Reads the records of a file one by one, each with its line. A bad record is an error that names
//! file and line. A part of a file has the records whose lines begin in it.

use std::io::Read;
use std::ops::Range;

use zephyr_crds::pipeline::FileFormat;
use zephyr_engine::pipeline::Format;
use zephyr_engine::record::{
    LINE_LIMIT_FIELD, Limits, NoRoom, Record, RecordError, RecordParser, RecordProblem, is_blank,
};

use crate::formats::compression::Decompressor;
use crate::formats::error::storage_error;
use crate::formats::lines::{LineError, Lines, start_of_part};
use crate::formats::magic::{self, MAGIC_BYTES};
use crate::formats::part_end::PartEnd;
use crate::formats::zstandard::{MAX_WINDOW_LOG, WindowLimits};
use crate::formats::{Compression, LinePlace, ReadError};

/// Reads the records of one file.
///
/// In `jsonl`, lines that contain only white space are skipped. In `text`, such lines are records
/// like any others. A byte order mark at the beginning is removed, `\r\n` ends a line like `\n`,
/// and the last line does not need a line end.
pub struct FileReader {
    file: String,
    format: Format,
    lines: Lines<Decompressor>,
    limits: Limits,
    parser: RecordParser,
    was_looked_at: bool,
    /// Whether the file is read from its beginning, so that the numbers of lines are known.
    counts_lines: bool,
}

/// Limits for a file and its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// The longest line, the greatest nesting, and the memory for reading a record. Decompression
    /// takes a part of this memory.
    pub record: Limits,
    /// The largest window of zstd in bytes.
    pub zstd_window_bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            record: Limits::default(),
            zstd_window_bytes: 1 << MAX_WINDOW_LOG,
        }
    }
}

impl WindowLimits {
    fn of(limits: &ReadLimits) -> Self {
        Self {
            window_bytes: limits.zstd_window_bytes,
            memory_bytes: limits.record.memory_bytes as u64,
        }
    }
}

/// The format of a source file, by its extension before `.gz` or `.zst`: `.jsonl`, `.ndjson`,
/// `.txt`, `.text`.
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
    /// Reads from `input`, which yields the file's `size` bytes. The compression is determined by
    /// the extension.
    pub fn new(
        file: &str,
        size: u64,
        format: Format,
        limits: &ReadLimits,
        input: impl Read + 'static,
    ) -> Result<Self, ReadError> {
        let windows = WindowLimits::of(limits);
        let plain = Decompressor::new(Compression::of_path(file), size, windows, input);
        let plain = plain.map_err(|error| ReadError::Decompress {
            file: file.to_owned(),
            byte: 0,
            problem: error.to_string(),
        })?;
        Ok(Self {
            file: file.to_owned(),
            format,
            lines: Lines::new(plain, limits.record.bytes),
            limits: limits.record,
            parser: RecordParser::within(limits.record),
            was_looked_at: false,
            counts_lines: true,
        })
    }

    /// Reads the records whose lines begin in `part`. The file has this `size`. `input` yields the
    /// file's bytes from [`FileReader::start_of`] on. A byte order mark and the kind of the file
    /// are recognized only in a part that begins at 0.
    ///
    /// A compressed file has blocks of bgzip or frames with a seek table. The part has the blocks
    /// or frames that begin in it. A line that begins exactly where they begin belongs to the part
    /// before, because only that part knows the byte before it.
    ///
    /// # Errors
    /// The decompressor cannot be made.
    pub fn of_part(
        file: &str,
        size: u64,
        part: Range<u64>,
        format: Format,
        limits: &ReadLimits,
        input: impl Read + 'static,
    ) -> Result<Self, ReadError> {
        if part == (0..size) {
            return Self::new(file, size, format, limits, input);
        }
        let is_first = part.start == 0;
        let compression = Compression::of_path(file);
        if compression != Compression::None {
            let windows = WindowLimits::of(limits);
            let end = PartEnd::default();
            let plain =
                Decompressor::of_part(compression, size, part.clone(), windows, input, end.clone());
            let plain = plain.map_err(|error| ReadError::Decompress {
                file: file.to_owned(),
                byte: part.start,
                problem: error.to_string(),
            })?;
            return Ok(Self {
                file: file.to_owned(),
                format,
                lines: Lines::of_compressed_part(plain, limits.record.bytes, is_first, end),
                limits: limits.record,
                parser: RecordParser::within(limits.record),
                was_looked_at: !is_first,
                counts_lines: is_first,
            });
        }
        let whole = Self::new(file, size, format, limits, input)?;
        let plain = whole.lines.into_input();
        Ok(Self {
            lines: Lines::of_part(plain, limits.record.bytes, part.start, part.end),
            was_looked_at: !is_first,
            counts_lines: is_first,
            ..whole
        })
    }

    /// The position in the file at which reading this part begins.
    pub fn start_of(file: &str, part: &Range<u64>) -> u64 {
        match Compression::of_path(file) {
            Compression::None => start_of_part(part.start),
            Compression::Gz | Compression::Zst => part.start,
        }
    }

    /// The position in the file at which the first block or frame of the part begins, and from
    /// which the positions of lines are counted. `None` if the file is not compressed, or if this
    /// is its first part.
    pub fn first_block(&self) -> Option<u64> {
        let block = self.lines.input().first_block();
        block.filter(|_| !self.counts_lines)
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Whether the numbers of lines are known.
    pub fn counts_lines(&self) -> bool {
        self.counts_lines
    }

    /// Returns the next record with the number of its line, from 1. In a part that does not begin
    /// at 0, the position of the line in the file is returned instead of its number, or its
    /// position after [`FileReader::first_block`]. After an error about one line
    /// ([`ReadError::line`]), the next call returns the record after it.
    pub fn next_record(&mut self) -> Result<Option<(Record, u64)>, ReadError> {
        if !self.was_looked_at {
            self.was_looked_at = true;
            self.look_at_the_beginning()?;
        }
        let whole_room = self.limits.memory_bytes;
        let room = |input: &Decompressor| {
            whole_room.saturating_sub(usize::try_from(input.charged_bytes()).unwrap_or(usize::MAX))
        };
        let mut limits = self.limits;
        loop {
            limits.memory_bytes = room(self.lines.input());
            self.parser.set_memory(limits.memory_bytes);
            let line = match self.lines.next(room) {
                Ok(None) => return Ok(None),
                Ok(Some(line)) => line,
                Err(error) => return Err(self.failed(error)),
            };
            let parsed = match self.format {
                Format::Jsonl if is_blank(line) => continue,
                Format::Jsonl => self.parser.parse(line).map_err(|error| said(&error)),
                Format::Text => match std::str::from_utf8(line) {
                    Ok(text) => Record::from_text_line(text, &limits).map_err(|error| said(&error)),
                    Err(error) => Err(format!("byte {}: not UTF-8", error.valid_up_to())),
                },
            };
            return match parsed {
                Ok(record) => Ok(Some((record, self.number()))),
                Err(problem) => Err(self.refused(problem)),
            };
        }
    }

    /// Returns the bytes of the line of the last error ([`ReadError::line`]) that are in memory,
    /// and whether these are the whole line. Valid only until the next record is read.
    pub fn bad_line(&self) -> (&[u8], bool) {
        self.lines.latest()
    }

    /// If the file is not text, reports what kind of file it is, instead of its first bad byte.
    fn look_at_the_beginning(&mut self) -> Result<(), ReadError> {
        let head = match self.lines.peek(MAGIC_BYTES) {
            Ok(head) => head,
            Err(error) => return Err(self.failed(error)),
        };
        let Some(kind) = magic::kind(head) else {
            return Ok(());
        };
        let problem = match self.lines.input().compression() {
            Compression::None => format!(
                "the file is {kind}, not lines of text; {}",
                magic::advice(kind)
            ),
            Compression::Gz | Compression::Zst => format!(
                "what is compressed in the file is {kind}, not lines of text; it has to be lines of text that were compressed once"
            ),
        };
        let file = self.file.clone();
        Err(ReadError::NotText { file, problem })
    }

    /// The number of the line, or its position.
    fn number(&self) -> u64 {
        if self.counts_lines {
            self.lines.number()
        } else {
            self.lines.position()
        }
    }

    fn refused(&self, problem: String) -> ReadError {
        let position = self.lines.position();
        let place = match self.first_block() {
            _ if self.counts_lines => LinePlace::Number(self.lines.number()),
            Some(block) => LinePlace::Behind {
                block,
                byte: position,
            },
            None => LinePlace::Byte(position),
        };
        ReadError::ParseRecord {
            file: self.file.clone(),
            place,
            problem,
        }
    }

    fn failed(&self, error: LineError) -> ReadError {
        match error {
            LineError::TooLong => {
                let limit = self.limits.bytes;
                self.refused(format!(
                    "the line is too long; at most {limit} bytes are allowed ({LINE_LIMIT_FIELD})"
                ))
            }
            LineError::NoRoom(NoRoom {
                needed_bytes,
                room_bytes,
            }) => self.refused(format!(
                "the line is too long for this worker: it needs more than {} MiB of memory, and a task has {} MiB for a record; raise spec.workers.resources.limits.memory or set fewer spec.workers.slots",
                needed_bytes >> 20,
                room_bytes >> 20
            )),
            LineError::Read(error) => match storage_error(error) {
                Ok(error) => ReadError::Store(error),
                Err(error) => ReadError::Decompress {
                    file: self.file.clone(),
                    byte: self.lines.input().position(),
                    problem: error.to_string(),
                },
            },
        }
    }
}

/// The error's message. It contains the position in the line only if the text at that position is
/// wrong.
fn said(error: &RecordError) -> String {
    let is_of_the_whole = matches!(
        error.problem,
        RecordProblem::NoRoom(_) | RecordProblem::TooLong { .. }
    );
    if is_of_the_whole {
        error.problem.to_string()
    } else {
        error.to_string()
    }
}
