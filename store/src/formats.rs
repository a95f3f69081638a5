//! Reads and writes files of records: lines of JSON or of text, plain or compressed. Uses `Read`
//! and `Write`, and opens no file.

mod blocks;
mod compression;
mod error;
mod gzip;
mod input;
mod lines;
mod look;
mod magic;
mod part_end;
#[cfg(test)]
mod part_tests;
mod reader;
#[cfg(test)]
mod tests;
mod unknown;
mod writer;
mod zstandard;

pub use compression::Compression;
pub use error::{LinePlace, ReadError, WriteError};
pub use look::look_into;
pub use reader::{FileReader, ReadLimits, source_format};
pub use unknown::list_readable;
pub use writer::FileWriter;
