//! Joins the pieces of a command's standard output to lines. If a line ends in a later piece, its
//! beginning is kept until then. Parses nothing.

/// Joins pieces to lines.
pub(super) struct OutputLines {
    /// The beginning of a line whose end has not arrived.
    begun: Vec<u8>,
    /// The longest line.
    limit: usize,
    /// Complete lines so far.
    lines: u64,
}

/// A line is longer than allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    /// Its beginning.
    pub(super) begins: Vec<u8>,
}

/// How many bytes of a line that is too long are kept for the message.
const SHOWN_BYTES: usize = 256;

impl OutputLines {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            begun: Vec::new(),
            limit,
            lines: 0,
        }
    }

    /// The number of the line that was passed on last; from 1.
    pub(super) fn number(&self) -> u64 {
        self.lines
    }

    /// The beginning of the last line, if its end has not arrived.
    pub(super) fn rest(&self) -> &[u8] {
        &self.begun
    }

    /// Passes on each line that ends in `piece`, without its line end; stops at the first error.
    pub(super) fn push<E: From<TooLong>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            let line = &piece[start..end];
            start = end + 1;
            self.lines += 1;
            if self.begun.is_empty() {
                self.check(line)?;
                each(self.lines, line)?;
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(line);
                self.check(&whole)?;
                each(self.lines, &whole)?;
            }
        }
        self.begun.extend_from_slice(&piece[start..]);
        self.lines += u64::from(self.begun.len() > self.limit);
        Ok(self.check(&self.begun)?)
    }

    fn check(&self, line: &[u8]) -> Result<(), TooLong> {
        if line.len() <= self.limit {
            return Ok(());
        }
        let begins = line[..line.len().min(SHOWN_BYTES)].to_vec();
        Err(TooLong { begins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]], limit: usize) -> (Vec<String>, String, bool) {
        let mut cut = OutputLines::new(limit);
        let mut found = Vec::new();
        let mut failed = false;
        for piece in pieces {
            let pushed = cut.push::<TooLong>(piece, |number, line| {
                found.push(format!("{number}:{}", String::from_utf8_lossy(line)));
                Ok(())
            });
            failed |= pushed.is_err();
        }
        let rest = String::from_utf8_lossy(cut.rest()).into_owned();
        (found, rest, failed)
    }

    #[test]
    fn any_cut_of_the_output_gives_the_same_lines() {
        let whole = b"a\n\nlong line\r\nx";
        let expected = lines(&[whole], 100);
        assert_eq!(expected.0, ["1:a", "2:", "3:long line\r"]);
        assert_eq!((expected.1.as_str(), expected.2), ("x", false));
        for cut in 0..=whole.len() {
            for second in cut..=whole.len() {
                let pieces = [&whole[..cut], &whole[cut..second], &whole[second..]];
                assert_eq!(lines(&pieces, 100), expected, "{cut} {second}");
            }
        }
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_its_end_comes() {
        assert!(!lines(&[b"1234\n"], 4).2);
        assert!(lines(&[b"12345\n"], 4).2);
        assert!(lines(&[b"12", b"345"], 4).2);
        assert!(lines(&[b"12", b"345\n"], 4).2);
    }
}
