//! A buffered reader for the bytes of a file. It can look ahead, and knows exactly how many bytes
//! were consumed. It knows nothing about compression.

use std::io::{self, BufRead, Read};

/// How many bytes are read from storage at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// A buffered reader that knows its position, and can return the next bytes without consuming them.
pub(crate) struct Input {
    source: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
}

impl Input {
    pub(crate) fn new(source: impl Read + 'static) -> Self {
        Self {
            source: Box::new(source),
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            position: 0,
        }
    }

    /// Returns how many bytes were consumed so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next `count` bytes, or fewer at the end of the file, without consuming them.
    /// `count` must be at most the size of the buffer.
    pub(crate) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count && self.fill()? > 0 {}
        let end = self.end.min(self.start + count);
        Ok(&self.buffer[self.start..end])
    }

    fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
            }
        }
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.fill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        self.position += count as u64;
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // If the caller reads large pieces, the bytes are read directly into its buffer.
        if self.start == self.end && buffer.len() >= self.buffer.len() {
            let count = self.source.read(buffer)?;
            self.position += count as u64;
            return Ok(count);
        }
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}
