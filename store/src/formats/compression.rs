//! Compresses and decompresses files with gzip or zstd, as their extension says. All members and
//! frames of a file are read. Any other bytes after them are an error. The error says in one
//! sentence what is wrong with the compressed bytes.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::blocks::Blocks;
use super::gzip::Gzip;
use super::input::Input;
use super::magic;
use super::part_end::PartEnd;
use super::zstandard::{WindowLimits, Zstandard};
use crate::storage::StorageError;

/// How a file's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gz,
    /// Zstandard.
    Zst,
    /// Not compressed.
    None,
}

impl Compression {
    /// Returns the compression that a file's extension means: `.gz` or `.zst`.
    pub fn of_path(path: &str) -> Self {
        match zephyr_crds::pipeline::Compression::of_path(path) {
            zephyr_crds::pipeline::Compression::Gz => Self::Gz,
            zephyr_crds::pipeline::Compression::Zst => Self::Zst,
            zephyr_crds::pipeline::Compression::None => Self::None,
        }
    }
}

/// The compression level of gzip. It is the usual one.
const GZIP_LEVEL: u32 = 6;

/// The compression level of zstd. It is the usual one.
const ZSTD_LEVEL: i32 = 3;

/// An error in compressed bytes that the store delivered correctly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompressedError {
    /// The file does not begin like a file of this compression.
    #[error("{}", not_of_the_format_that_its_name_says(named, *kind))]
    Other {
        named: &'static str,
        kind: Option<&'static str>,
    },
    /// Other bytes follow the last member or frame.
    #[error("{}", bytes_behind(named, *bytes))]
    Behind { named: &'static str, bytes: u64 },
    /// The file ends inside a member or frame.
    #[error("the file ends in the middle of its {named} data: it is truncated")]
    Truncated { named: &'static str },
    /// The last block of a bgzip file is not its end mark.
    #[error(
        "the file ends without the end mark of bgzip: it is truncated between two blocks; copy it again, or write it again with bgzip"
    )]
    NoEndMark,
    /// A checksum, a length or a code is wrong.
    #[error("the {named} data is damaged ({problem})")]
    Damaged {
        named: &'static str,
        problem: String,
    },
    /// The window of a frame is larger than the job allows.
    #[error(
        "a zstd window of {window} bytes is needed; at most {limit} are allowed (spec.pipeline.limits.zstdWindow, at most 2Gi): raise it, or compress the file again with zstd --long={}{}",
        long_of(*limit),
        or_less(*limit)
    )]
    Window { window: u64, limit: u64 },
    /// The window of a frame is larger than the task's memory.
    #[error(
        "a zstd window of {} MiB is needed, and a task of this worker has {} MiB for it; raise spec.workers.resources.limits.memory, set fewer spec.workers.slots, or compress the file again with zstd --long={}{}",
        window.div_ceil(1 << 20),
        room >> 20,
        long_of(*room),
        or_less(*room)
    )]
    WindowRoom { window: u64, room: u64 },
    /// A file is read in parts, and no block of bgzip begins where one has to.
    #[error(
        "the file is read in parts, and no block of bgzip begins here or soon after; set spec.pipeline.source.files.splitBytes to 0, or write the file again with bgzip"
    )]
    NoBlock,
    /// A file is read in parts, and the first block of a part is not where the part before it ends.
    #[error(
        "the file is read in parts, and bytes in the middle of it look like a block of bgzip but are not one; set spec.pipeline.source.files.splitBytes to 0"
    )]
    OtherBlock,
    /// A block of bgzip is longer or shorter than its header says.
    #[error("the gzip data is damaged (a block of bgzip has another length than its header says)")]
    BlockLength,
    /// A file is read in parts, and a frame does not end where the seek table says.
    #[error(
        "a zstd frame does not end where the seek table of the file says (at byte {border}), and the file is read in parts; set spec.pipeline.source.files.splitBytes to 0, or compress the file again"
    )]
    OtherFrame { border: u64 },
    /// A frame needs a dictionary.
    #[error(
        "the zstd data was compressed with a dictionary (its number is {id}), and a job has no dictionaries; compress the file again without one"
    )]
    Dictionary { id: u32 },
    /// Reading continued after an error.
    #[error("reading continued after an error")]
    Failed,
}

impl CompressedError {
    /// Converts the error of a decoder. An error of the store is returned unchanged.
    pub(crate) fn of(named: &'static str, error: io::Error) -> io::Error {
        let is_of_the_store = error
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<StorageError>);
        if is_of_the_store {
            return error;
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Truncated { named }.into();
        }
        let problem = error.to_string();
        Self::Damaged { named, problem }.into()
    }
}

impl From<CompressedError> for io::Error {
    fn from(error: CompressedError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

fn not_of_the_format_that_its_name_says(named: &str, kind: Option<&'static str>) -> String {
    match kind {
        Some(kind) => format!(
            "the file is {kind}, though its name says {named}; {}",
            magic::advice(kind)
        ),
        None => format!(
            "the file is not {named}, though its name says so; compress it, or take the last extension from its name"
        ),
    }
}

/// The largest window that `zstd -d` reads without an option: `--long=27`.
const USUAL_WINDOW_LOG: u32 = 27;

/// The smallest window that zstd writes: `--long=10`.
const MIN_WINDOW_LOG: u32 = 10;

/// Returns the largest number for `zstd --long` whose window has at most this number of bytes. The
/// result is at most 27, so that other programs read such files without an option.
fn long_of(bytes: u64) -> u32 {
    let log = bytes.checked_ilog2().unwrap_or(MIN_WINDOW_LOG);
    log.clamp(MIN_WINDOW_LOG, USUAL_WINDOW_LOG)
}

fn or_less(bytes: u64) -> &'static str {
    if long_of(bytes) > MIN_WINDOW_LOG {
        " or less"
    } else {
        ""
    }
}

fn bytes_behind(named: &str, bytes: u64) -> String {
    let what = match named {
        "gzip" => "only further members and zero bytes are allowed there",
        _ => "only further frames are allowed there",
    };
    let noun = if bytes == 1 { "byte" } else { "bytes" };
    format!("{bytes} {noun} after the end of the {named} data; {what}")
}

/// Reads the plain bytes of a file.
pub(crate) enum Decompressor {
    Gz(Gzip),
    /// A part of a file of bgzip.
    Blocks(Blocks),
    Zst(Box<Zstandard>),
    None(Input),
}

impl Decompressor {
    /// Makes a decompressor. `size` is the size of the file. An empty file has no records, whatever
    /// its extension.
    pub(crate) fn new(
        compression: Compression,
        size: u64,
        windows: WindowLimits,
        input: impl Read + 'static,
    ) -> io::Result<Self> {
        let input = Input::new(input);
        Ok(match compression {
            Compression::Gz if size > 0 => Self::Gz(Gzip::new(input, size)),
            Compression::Zst if size > 0 => {
                Self::Zst(Box::new(Zstandard::new(input, size, windows)?))
            }
            Compression::Gz | Compression::Zst | Compression::None => Self::None(input),
        })
    }

    /// Makes a decompressor of a part of a compressed file of this size. `input` yields the bytes
    /// of the file from the beginning of the part on. `end` is set where the part ends.
    pub(crate) fn of_part(
        compression: Compression,
        size: u64,
        part: Range<u64>,
        windows: WindowLimits,
        input: impl Read + 'static,
        end: PartEnd,
    ) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gz => Self::Blocks(Blocks::new(input, size, part, end)),
            Compression::Zst => {
                let whole = Zstandard::new(Input::new(input), size, windows)?;
                Self::Zst(Box::new(whole.in_part(part, end)))
            }
            Compression::None => Self::None(Input::new(input)),
        })
    }

    /// Where the first block or frame of a part of a compressed file begins in the file.
    pub(crate) fn first_block(&self) -> Option<u64> {
        match self {
            Self::Blocks(blocks) => Some(blocks.first()),
            Self::Zst(zstandard) => zstandard.part_start(),
            Self::Gz(_) | Self::None(_) => None,
        }
    }

    /// Returns how the file is compressed.
    pub(crate) fn compression(&self) -> Compression {
        match self {
            Self::Gz(_) | Self::Blocks(_) => Compression::Gz,
            Self::Zst(_) => Compression::Zst,
            Self::None(_) => Compression::None,
        }
    }

    /// Returns how many bytes of the file were consumed so far.
    pub(crate) fn position(&self) -> u64 {
        match self {
            Self::Gz(gzip) => gzip.position(),
            Self::Blocks(blocks) => blocks.position(),
            Self::Zst(zstandard) => zstandard.position(),
            Self::None(input) => input.position(),
        }
    }

    /// Returns how many bytes of memory the decompression of this file holds, in addition to the
    /// amount that every file needs.
    pub(crate) fn charged_bytes(&self) -> u64 {
        match self {
            Self::Zst(zstandard) => zstandard.charged_bytes(),
            Self::Gz(_) | Self::Blocks(_) | Self::None(_) => 0,
        }
    }
}

impl Read for Decompressor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gz(gzip) => gzip.read(buffer),
            Self::Blocks(blocks) => blocks.read(buffer),
            Self::Zst(zstandard) => zstandard.read(buffer),
            Self::None(input) => input.read(buffer),
        }
    }
}

/// Compresses the bytes that are written to it. The same input always gives the same output,
/// because the output contains no time, name or host.
pub(crate) enum Compressor<W: Write> {
    Gz(flate2::write::GzEncoder<W>),
    Zst(zstd::stream::write::Encoder<'static, W>),
    None(W),
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(compression: Compression, output: W) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gz => Self::Gz(
                flate2::GzBuilder::new()
                    .mtime(0)
                    .operating_system(255)
                    .write(output, flate2::Compression::new(GZIP_LEVEL)),
            ),
            Compression::Zst => {
                let mut encoder = zstd::stream::write::Encoder::new(output, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zst(encoder)
            }
            Compression::None => Self::None(output),
        })
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Gz(encoder) => encoder.finish(),
            Self::Zst(encoder) => encoder.finish(),
            Self::None(output) => Ok(output),
        }
    }

    /// Ends the compression and returns the output.
    pub(crate) fn abandon(self) -> Option<W> {
        match self {
            Self::Gz(encoder) => encoder.finish().ok(),
            Self::Zst(encoder) => encoder.finish().ok(),
            Self::None(output) => Some(output),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Gz(encoder) => encoder.write(bytes),
            Self::Zst(encoder) => encoder.write(bytes),
            Self::None(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gz(encoder) => encoder.flush(),
            Self::Zst(encoder) => encoder.flush(),
            Self::None(output) => output.flush(),
        }
    }
}
