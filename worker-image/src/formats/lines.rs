//! A stream of bytes as lines, without a copy where a line lies whole in the buffer. Knows no format.

use std::io::{self, Read};

/// The longest line: the design's limit for a record.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// What is read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Cuts a stream into lines.
pub(crate) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// What of the buffer was read and not given out.
    start: usize,
    end: usize,
    /// Where to go on looking for the line's end.
    searched: usize,
    at_end: bool,
    begun: bool,
    line: u64,
}

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum LineError {
    Read(io::Error),
    TooLong,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            searched: 0,
            at_end: false,
            begun: false,
            line: 0,
        }
    }

    /// The number of the line given last, or of the one that could not be given; from 1.
    pub(crate) fn number(&self) -> u64 {
        self.line
    }

    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    /// The next line without its end, `\n` or `\r\n`. A byte order mark before the first line is left out. The last
    /// line need not have an end; an end at the end of the file begins no further line.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, LineError> {
        self.line += 1;
        loop {
            let unread = &self.buffer[self.searched..self.end];
            if let Some(found) = memchr::memchr(b'\n', unread) {
                let line = self.start..self.searched + found;
                if line.len() > LINE_BYTES_MAX {
                    return Err(LineError::TooLong);
                }
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Some(self.finished(line.start, line.end, true)));
            }
            self.searched = self.end;
            if self.end - self.start > LINE_BYTES_MAX {
                return Err(LineError::TooLong);
            }
            if self.at_end {
                if self.start == self.end {
                    return Ok(None);
                }
                let (start, end) = (self.start, self.end);
                self.start = end;
                let line = self.finished(start, end, false);
                // A file that is nothing but a byte order mark has no line.
                return Ok((!line.is_empty()).then_some(line));
            }
            self.fill().map_err(LineError::Read)?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let count = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += count;
        self.at_end = count == 0;
        Ok(())
    }

    fn finished(&mut self, start: usize, end: usize, has_end: bool) -> &[u8] {
        let mut line = &self.buffer[start..end];
        if !self.begun {
            self.begun = true;
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        match line {
            [rest @ .., b'\r'] if has_end => rest,
            line => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lines(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(Trickle(bytes, step));
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(line.to_vec());
            assert_eq!(lines.number(), found.len() as u64);
        }
        found
    }

    #[test]
    fn a_line_ends_with_either_break_and_the_last_one_with_none() {
        let cases: [(&[u8], &[&str]); 9] = [
            (b"", &[]),
            (b"\n", &[""]),
            (b"a", &["a"]),
            (b"a\n", &["a"]),
            (b"a\r\nb\r\n", &["a", "b"]),
            (b"a\n\nb", &["a", "", "b"]),
            (b"a\rb\n", &["a\rb"]),
            (b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb\n", &["a", "\u{FEFF}b"]),
            (b"\xEF\xBB\xBF", &[]),
        ];
        for (bytes, expected) in cases {
            for step in [1, 2, 1000] {
                let found: Vec<String> = lines(bytes, step)
                    .into_iter()
                    .map(|line| String::from_utf8(line).unwrap())
                    .collect();
                assert_eq!(found, expected, "{bytes:?}");
            }
        }
    }

    #[test]
    fn fault_7499_a_line_beyond_the_limit_is_refused_and_one_at_it_is_not() {
        let mut long = vec![b'x'; LINE_BYTES_MAX];
        long.push(b'\n');
        assert_eq!(lines(&long, usize::MAX)[0].len(), LINE_BYTES_MAX);
        long.insert(0, b'x');
        long.insert(0, b'\n');
        let mut over = Lines::new(&long[..]);
        assert!(over.next().unwrap().is_some());
        assert!(matches!(over.next(), Err(LineError::TooLong)));
        assert_eq!(over.number(), 2);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_standard_library(text in "[ab\n\r]{0,300}", step in 1_usize..50) {
            let expected: Vec<Vec<u8>> = text.split_inclusive('\n').map(|line| match line.strip_suffix('\n') {
                Some(line) => line.strip_suffix('\r').unwrap_or(line).as_bytes().to_vec(),
                None => line.as_bytes().to_vec(),
            }).collect();
            prop_assert_eq!(lines(text.as_bytes(), step), expected);
        }
    }
}
