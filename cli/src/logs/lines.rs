//! Reads the lines of a stream of the API server. A line that is too long is cut, so that the
//! memory does not depend on what a pod prints.

use std::io;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use jiff::Timestamp;

use crate::terminal::printable;

/// The longest line that is printed whole.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A line of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// When it was printed, if the server said it.
    pub(super) time: Option<Timestamp>,
    text: String,
}

impl Line {
    /// The line as the server sends it: its time, a space, its text.
    fn parse(bytes: &[u8]) -> Self {
        let line = String::from_utf8_lossy(bytes);
        let parts = line.split_once(' ').unwrap_or((&line, ""));
        match parts.0.parse() {
            Ok(time) => Self {
                time: Some(time),
                text: parts.1.to_owned(),
            },
            Err(_) => Self {
                time: None,
                text: line.into_owned(),
            },
        }
    }

    /// The line for a terminal.
    pub(super) fn shown(&self, has_time: bool) -> String {
        // Tabs are kept, because a tab cannot overwrite text on a terminal.
        let parts = self.text.split('\t').map(printable);
        let text = parts.collect::<Vec<_>>().join("\t");
        match self.time.filter(|_| has_time) {
            Some(time) => format!("{time} {text}"),
            None => text,
        }
    }
}

/// The lines of a stream.
pub(super) struct Lines<R> {
    reader: std::pin::Pin<Box<R>>,
    line: Vec<u8>,
}

impl<R: AsyncBufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: Box::pin(reader),
            line: Vec::new(),
        }
    }

    /// The next line; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        self.line.clear();
        let mut is_cut = false;
        loop {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                let is_end = self.line.is_empty();
                return Ok((!is_end).then(|| Line::parse(&self.line)));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = MAX_LINE_BYTES - self.line.len().min(MAX_LINE_BYTES);
            is_cut |= part.len() > room;
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.reader.as_mut().consume(used);
            if end.is_some() {
                let mut line = Line::parse(&self.line);
                if is_cut {
                    line.text.push_str(" … (the rest of the line is left out)");
                }
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8]) -> Vec<Line> {
        let mut lines = Lines::new(futures::io::BufReader::with_capacity(7, text));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.expect("a line") {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn times_are_removed_and_colours_have_no_effect() {
        let found =
            read(b"2026-01-01T00:00:00.5Z a\t\x1b[1mb\nno time\n\n2026-01-01T00:00:01Z end").await;
        let shown: Vec<_> = found.iter().map(|line| line.shown(false)).collect();
        assert_eq!(shown, ["a\t\\u{1b}[1mb", "no time", "", "end"]);
        assert_eq!(found[3].shown(true), "2026-01-01T00:00:01Z end");
    }

    #[tokio::test]
    async fn a_line_without_end_needs_no_more_memory() {
        let mut text = vec![b'x'; 3 * MAX_LINE_BYTES];
        text.extend(b"\nnext\n");
        let found = read(&text).await;
        assert_eq!(found.len(), 2);
        assert!(found[0].text.len() < MAX_LINE_BYTES + 100);
        assert!(found[0].text.ends_with("left out)"));
        assert_eq!(found[1].text, "next");
    }
}
