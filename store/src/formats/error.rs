//! Defines the errors in a file. Each error has the name of the file, and the line or the byte.

use std::fmt;
use std::io;

use crate::storage::StorageError;

/// Where a line is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinePlace {
    /// The number of the line, from 1.
    Number(u64),
    /// The position of its first byte, from 0. The number of the line is not known, because the
    /// file was not read from its beginning.
    Byte(u64),
    /// The position of its first byte in the plain bytes of a compressed file. These bytes are
    /// counted from the beginning of a block or frame, whose position in the compressed file is
    /// `block`.
    Behind {
        /// The position of the block or frame.
        block: u64,
        /// The position of the line's first byte, counted from the beginning of the block or frame.
        byte: u64,
    },
}

impl fmt::Display for LinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "line {number}"),
            Self::Byte(byte) => write!(f, "the line that begins at byte {byte}"),
            Self::Behind { block, byte } => write!(
                f,
                "the line that begins at byte {byte} of what is compressed from byte {block} on"
            ),
        }
    }
}

/// Why a file could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed.
    #[error("{0}")]
    Store(#[source] StorageError),
    /// The compressed bytes do not match the extension, end too early, or are followed by other
    /// bytes.
    #[error("{file}: byte {byte} of the compressed file: {problem}")]
    Decompress {
        /// The file.
        file: String,
        /// How many compressed bytes had been read.
        byte: u64,
        /// What is wrong.
        problem: String,
    },
    /// The file is not text, as its first bytes show.
    #[error("{file}: {problem}")]
    NotText {
        /// The file.
        file: String,
        /// What it is, and what to do.
        problem: String,
    },
    /// A line is not a record.
    #[error("{file}: {place}: {problem}")]
    ParseRecord {
        /// The file.
        file: String,
        /// The line.
        place: LinePlace,
        /// What is wrong.
        problem: String,
    },
    /// Neither the manifest nor the extension determines the format of the file.
    #[error(
        "{file}: its extension does not imply a format; name it .jsonl or .txt (before .gz or .zst), or set spec.pipeline.source.files.format"
    )]
    UnknownFormat {
        /// The file.
        file: String,
    },
}

impl ReadError {
    /// The number of the line, or its position in the file, if the error concerns one line only.
    /// The lines after it can still be read.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::ParseRecord { place, .. } => Some(match place {
                LinePlace::Number(number) => *number,
                LinePlace::Byte(position) => *position,
                LinePlace::Behind { byte, .. } => *byte,
            }),
            Self::Store(_)
            | Self::Decompress { .. }
            | Self::NotText { .. }
            | Self::UnknownFormat { .. } => None,
        }
    }

    /// The file, if it is bad as a whole, because it is not text or the rest of it cannot be read.
    pub fn bad_file(&self) -> Option<&str> {
        match self {
            Self::Decompress { file, .. } | Self::NotText { file, .. } => Some(file),
            Self::Store(_) | Self::ParseRecord { .. } | Self::UnknownFormat { .. } => None,
        }
    }

    /// What is wrong. If the error concerns [one line](Self::line) only, file and line are left
    /// out.
    pub fn problem(&self) -> String {
        match self {
            Self::ParseRecord { problem, .. } => problem.clone(),
            Self::Store(_)
            | Self::Decompress { .. }
            | Self::NotText { .. }
            | Self::UnknownFormat { .. } => self.to_string(),
        }
    }
}

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store failed.
    #[error("{0}")]
    Store(#[source] StorageError),
    /// A string with a line break would be read back as two records.
    #[error(
        "{file}: record {record} is a string with a line break (got {shown:?}); a text file has one record a line: remove the break, or write jsonl"
    )]
    LineBreak {
        /// The file.
        file: String,
        /// The record's position in the file, from 1.
        record: u64,
        /// Its first 64 characters.
        shown: String,
    },
    /// The first record of a text file begins with a character that every reader would treat as a
    /// byte order mark.
    #[error(
        "{file}: record 1 begins with the character U+FEFF, which readers remove from the beginning of a text file; remove it, or write jsonl"
    )]
    ByteOrderMark {
        /// The file.
        file: String,
    },
    /// The compressor failed.
    #[error("{file}: cannot be compressed: {source}")]
    Compress {
        /// The file.
        file: String,
        /// The cause.
        source: io::Error,
    },
}

impl WriteError {
    pub(crate) fn from_io(file: &str, error: io::Error) -> Self {
        match storage_error(error) {
            Ok(error) => Self::Store(error),
            Err(source) => Self::Compress {
                file: file.to_owned(),
                source,
            },
        }
    }
}

/// The store's error inside an I/O error, if there is one.
pub(crate) fn storage_error(error: io::Error) -> Result<StorageError, io::Error> {
    if !error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<StorageError>)
    {
        return Err(error);
    }
    let (kind, text) = (error.kind(), error.to_string());
    let inner = error
        .into_inner()
        .and_then(|inner| inner.downcast::<StorageError>().ok());
    inner
        .map(|inner| *inner)
        .ok_or_else(|| io::Error::new(kind, text))
}
