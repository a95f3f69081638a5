//! A sorted run of entries in a local temporary file. The file disappears when its process ends. It
//! is read back once.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use zephyr_engine::ops::Entry;

use crate::shuffle::chunk::{ChunkEntries, ChunkHead, ChunkWriter, HEAD_BYTES};

/// How many bytes of a run are read at a time. A merge holds one buffer of this size for each run.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// A run that was written and not read back yet.
#[derive(Debug)]
pub(crate) struct Run {
    file: File,
    /// How many bytes its largest chunk has after decompression.
    largest_chunk: usize,
}

impl Run {
    /// Writes all entries to a file without a name in `folder`. `bytes` counts the written bytes.
    pub(crate) fn write<E: From<io::Error>>(
        folder: &Path,
        bytes: &AtomicU64,
        entries: impl Iterator<Item = Result<Entry, E>>,
    ) -> Result<Self, E> {
        let mut output = BufWriter::new(tempfile::tempfile_in(folder)?);
        let mut chunks = ChunkWriter::new()?;
        let mut largest_chunk = 0;
        let mut put = |chunk: &[u8]| {
            bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            output.write_all(chunk)
        };
        for entry in entries {
            if chunks.push(&entry?) {
                largest_chunk = largest_chunk.max(chunks.plain_bytes());
                put(chunks.take()?.0)?;
            }
        }
        if !chunks.is_empty() {
            largest_chunk = largest_chunk.max(chunks.plain_bytes());
            put(chunks.take()?.0)?;
        }
        let file = output
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(Self {
            file,
            largest_chunk,
        })
    }

    /// How many bytes of memory the run takes at most while it is merged: a read buffer, a chunk
    /// before and after decompression, and a copy of an entry. The copy may be as long as the
    /// chunk.
    pub(crate) fn merged_bytes(&self) -> usize {
        READ_BUFFER_BYTES + 3 * self.largest_chunk
    }

    /// Reads the entries back.
    pub(crate) fn read(mut self) -> io::Result<RunReader> {
        self.file.rewind()?;
        Ok(RunReader {
            input: BufReader::with_capacity(READ_BUFFER_BYTES, self.file),
            chunk: ChunkEntries::default(),
        })
    }
}

/// Reads a run.
pub(crate) struct RunReader {
    input: BufReader<File>,
    chunk: ChunkEntries,
}

impl RunReader {
    fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let damaged = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
        loop {
            if let Some(entry) = self.chunk.next().map_err(damaged)? {
                return Ok(Some(entry));
            }
            let mut head = [0; HEAD_BYTES];
            if self.input.read(&mut head[..1])? == 0 {
                return Ok(None);
            }
            self.input.read_exact(&mut head[1..])?;
            let chunk = ChunkHead::parse(&head).map_err(damaged)?;
            let mut bytes = vec![0; chunk.compressed];
            self.input.read_exact(&mut bytes)?;
            self.chunk = chunk.open(&head, &bytes).map_err(damaged)?;
        }
    }
}

impl Iterator for RunReader {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
