//! How records lie in files: lines of JSON or of text, plain or compressed. Works on `Read` and `Write`, opens nothing.

mod compression;
mod error;
mod lines;
mod reader;
mod writer;

pub use compression::{Compression, DECOMPRESSION_RATIO_MAX};
pub use error::{ReadError, WriteError};
pub use lines::LINE_BYTES_MAX;
pub use reader::{FileReader, source_format};
pub use writer::FileWriter;
