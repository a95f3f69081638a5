//! gzip and zstd, chosen by extension. All members and frames of a file are read; anything else behind them is an error.

use std::cell::Cell;
use std::io::{self, BufReader, Read, Write};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

/// How a file's bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gz,
    /// Zstandard.
    Zst,
    /// Not at all.
    None,
}

impl Compression {
    /// By a file's extension: `.gz`, `.zst`.
    pub fn of_path(path: &str) -> Self {
        match zephyr_crds::pipeline::Compression::of_path(path) {
            zephyr_crds::pipeline::Compression::Gz => Self::Gz,
            zephyr_crds::pipeline::Compression::Zst => Self::Zst,
            zephyr_crds::pipeline::Compression::None => Self::None,
        }
    }
}

/// What is read from storage at a time before it is decompressed.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// A file may not become more than this many times larger. The best that gzip can do is about 1,030; real logs stay
/// below 100.
pub const DECOMPRESSION_RATIO_MAX: u64 = 500;

/// Below this size no ratio is too large: a small file of equal lines is no bomb.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// gzip's level: the usual one.
const GZIP_LEVEL: u32 = 6;

/// zstd's level: the usual one.
const ZSTD_LEVEL: i32 = 3;

/// The plain bytes of a file.
pub(crate) struct Decompressor {
    plain: Box<dyn Read>,
    compressed: Rc<Cell<u64>>,
    decompressed: u64,
    guarded: bool,
}

impl Decompressor {
    /// `size` is the file's own: an empty file has no records, whatever its extension says.
    pub(crate) fn new(
        compression: Compression,
        size: u64,
        input: impl Read + 'static,
    ) -> io::Result<Self> {
        let compressed = Rc::new(Cell::new(0));
        let counting = BufReader::with_capacity(
            READ_BUFFER_BYTES,
            Counting {
                inner: input,
                count: Rc::clone(&compressed),
            },
        );
        let plain: Box<dyn Read> = match compression {
            Compression::Gz if size > 0 => Box::new(MultiGzDecoder::new(counting)),
            Compression::Zst if size > 0 => {
                Box::new(zstd::stream::read::Decoder::with_buffer(counting)?)
            }
            Compression::Gz | Compression::Zst | Compression::None => Box::new(counting),
        };
        Ok(Self {
            plain,
            compressed,
            decompressed: 0,
            guarded: compression != Compression::None,
        })
    }

    /// Compressed bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.compressed.get()
    }
}

impl Read for Decompressor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.plain.read(buffer)?;
        self.decompressed += count as u64;
        let allowed = RATIO_FREE_BYTES.max(
            self.compressed
                .get()
                .saturating_mul(DECOMPRESSION_RATIO_MAX),
        );
        if self.guarded && self.decompressed > allowed {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "decompression ratio limit exceeded: more than {DECOMPRESSION_RATIO_MAX} times the compressed size"
                ),
            ));
        }
        Ok(count)
    }
}

struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Compresses what is written, always to the same bytes: no time, no name, no host in them.
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

    /// The output, with whatever the compressor still holds given up.
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
