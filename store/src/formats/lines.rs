//! Splits a stream of bytes into lines. A line that is in the buffer as a whole is not copied. Uses
//! no format of records.

use std::io::{self, Read};
use std::ops::Range;

use zephyr_engine::record::NoRoom;

use super::part_end::PartEnd;

/// How many bytes are read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// If a long line made the buffer larger than this, the memory is released after the line.
const KEPT_BYTES: usize = 4 * BUFFER_BYTES;

/// A line is in memory at least this many times: as it is read, as a record, and as output.
const COPIES: usize = 3;

/// U+FEFF as UTF-8, which some programs write before the first line of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The position from which a part is read. It is one byte before `from`, because that byte decides
/// whether a line begins at `from`.
pub(crate) fn start_of_part(from: u64) -> u64 {
    from.saturating_sub(1)
}

/// Cuts a stream into lines.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four facts about a stream, independent of each other"
)]
pub(crate) struct Lines<R> {
    input: R,
    /// The longest line that is allowed.
    limit: usize,
    buffer: Vec<u8>,
    /// The bytes of the buffer that were read from the input and not yet returned as lines.
    start: usize,
    end: usize,
    /// Where to continue the search for the line's end.
    searched: usize,
    at_end: bool,
    begun: bool,
    line: u64,
    /// The position of the buffer's first byte in the file.
    base: u64,
    /// The position in the file of the line that was returned last, or of the one that failed.
    line_at: u64,
    /// Lines that begin here or later are not returned.
    until: u64,
    /// The same limit for a part of a compressed file. It becomes known only while the part is
    /// read.
    part_end: PartEnd,
    /// Whether everything up to the first line end still has to be skipped.
    skips: bool,
    /// Whether the rest of the line that failed still has to be skipped.
    is_inside_a_failed_line: bool,
    /// The position in the buffer of the line that was returned last.
    returned: Range<usize>,
}

/// Why there is no next line.
#[derive(Debug)]
pub(crate) enum LineError {
    Read(io::Error),
    TooLong,
    /// There is not enough memory for a line of this length.
    NoRoom(NoRoom),
}

impl<R: Read> Lines<R> {
    /// Returns the lines of `input`, which may have at most `limit` bytes each. They are returned
    /// without their ends, and without a byte order mark before the first line.
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self {
            input,
            limit,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            searched: 0,
            at_end: false,
            begun: false,
            line: 0,
            base: 0,
            line_at: 0,
            until: u64::MAX,
            part_end: PartEnd::default(),
            skips: false,
            is_inside_a_failed_line: false,
            returned: 0..0,
        }
    }

    /// Returns the lines of a file that begin at `from` or after it, and before `to`. `input` must
    /// begin at [`start_of_part`]. The last of these lines may end after `to`.
    pub(crate) fn of_part(input: R, limit: usize, from: u64, to: u64) -> Self {
        let skips = from > 0;
        Self {
            begun: skips,
            base: start_of_part(from),
            until: to,
            skips,
            ..Self::new(input, limit)
        }
    }

    /// Returns the lines of a part of a compressed file. `input` yields the decompressed bytes from
    /// the beginning of the part on. All positions are counted from there.
    pub(crate) fn of_compressed_part(input: R, limit: usize, is_first: bool, end: PartEnd) -> Self {
        // Whether a line begins at byte 0 is known only at the beginning of the file.
        let from = u64::from(!is_first);
        Self {
            part_end: end,
            ..Self::of_part(input, limit, from, u64::MAX)
        }
    }

    fn until(&self) -> u64 {
        self.until.min(self.part_end.until())
    }

    /// The number of the line that was returned last, or of the one that failed; from 1.
    pub(crate) fn number(&self) -> u64 {
        self.line
    }

    /// The position in the file of the line that was returned last, or of the one that failed.
    pub(crate) fn position(&self) -> u64 {
        self.line_at
    }

    pub(crate) fn into_input(self) -> R {
        self.input
    }

    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    /// Returns the next line without its end, `\n` or `\r\n`. `room` is the memory that the line
    /// may take while it is processed. A byte order mark before the first line is removed. The last
    /// line does not need a line end, and no line begins after a line end at the end of the file.
    /// After an error about a line that is too long, the next call returns the line after it.
    pub(crate) fn next(&mut self, room: impl Fn(&R) -> usize) -> Result<Option<&[u8]>, LineError> {
        if self.is_inside_a_failed_line {
            self.pass_over().map_err(LineError::Read)?;
        }
        self.line += 1;
        if self.skips {
            self.skip_line().map_err(LineError::Read)?;
        }
        self.line_at = self.base + self.start as u64;
        if self.line_at >= self.until() {
            return Ok(None);
        }
        loop {
            let unread = &self.buffer[self.searched..self.end];
            if let Some(found) = memchr::memchr(b'\n', unread) {
                let line = self.start..self.searched + found;
                let is_ended_by_two = self.buffer[line.clone()].ends_with(b"\r");
                if line.len() > self.allowed() + usize::from(is_ended_by_two) {
                    self.is_inside_a_failed_line = true;
                    return Err(LineError::TooLong);
                }
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Some(self.finished(line.start, line.end, true)));
            }
            self.searched = self.end;
            // The last byte may be the first byte of the line's end.
            let may_end = !self.at_end && self.buffer[self.start..self.end].ends_with(b"\r");
            if self.end - self.start > self.allowed() + usize::from(may_end) {
                self.is_inside_a_failed_line = true;
                return Err(LineError::TooLong);
            }
            if self.at_end {
                if self.start == self.end {
                    return Ok(None);
                }
                let (start, end) = (self.start, self.end);
                self.start = end;
                let line = self.finished(start, end, false);
                // A file that only contains a byte order mark has no line.
                return Ok((!line.is_empty()).then_some(line));
            }
            self.make_room(&room)?;
            self.fill().map_err(LineError::Read)?;
        }
    }

    /// Skips the rest of the line that begins before the part. Reads no further than the end of the
    /// part: if no line ends in the part, no line begins in it.
    fn skip_line(&mut self) -> io::Result<()> {
        self.skips = false;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = memchr::memchr(b'\n', unread) {
                self.start += found + 1;
                self.searched = self.start;
                return Ok(());
            }
            self.base += self.end as u64;
            (self.start, self.end, self.searched) = (0, 0, 0);
            if self.at_end || self.base >= self.until() {
                self.until = 0;
                return Ok(());
            }
            self.fill()?;
        }
    }

    /// Returns the first `count` bytes, or all of a shorter input, without consuming them. May be
    /// called only before the first line is read, and for at most as many bytes as the buffer has.
    pub(crate) fn peek(&mut self, count: usize) -> Result<&[u8], LineError> {
        while self.end < count && !self.at_end {
            self.fill().map_err(LineError::Read)?;
        }
        Ok(&self.buffer[..self.end.min(count)])
    }

    /// Returns the line that was returned last, or the beginning of the line that failed, and
    /// whether that is the whole line. Valid only until the next line is read.
    pub(crate) fn latest(&self) -> (&[u8], bool) {
        if !self.is_inside_a_failed_line {
            return (&self.buffer[self.returned.clone()], true);
        }
        let read = &self.buffer[self.start..self.end];
        let line = read.split(|byte| *byte == b'\n').next().unwrap_or(read);
        let has_mark = !self.begun && line.starts_with(BYTE_ORDER_MARK);
        (
            &line[if has_mark { BYTE_ORDER_MARK.len() } else { 0 }..],
            false,
        )
    }

    /// Skips the rest of the line that failed. Only one buffer of it is in memory at a time.
    fn pass_over(&mut self) -> io::Result<()> {
        self.begun = true;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(found) = memchr::memchr(b'\n', unread) {
                self.start += found + 1;
                break;
            }
            self.base += self.end as u64;
            (self.start, self.end) = (0, 0);
            if self.at_end {
                break;
            }
            self.fill()?;
        }
        self.searched = self.start;
        self.is_inside_a_failed_line = false;
        Ok(())
    }

    /// How many bytes the next line may have without its end. A byte order mark before the first
    /// line is allowed in addition.
    fn allowed(&self) -> usize {
        let has_mark =
            !self.begun && self.buffer[self.start..self.end].starts_with(BYTE_ORDER_MARK);
        let mark = if has_mark { BYTE_ORDER_MARK.len() } else { 0 };
        self.limit.saturating_add(mark)
    }

    fn make_room(&mut self, room: impl Fn(&R) -> usize) -> Result<(), LineError> {
        let kept = self.end - self.start;
        if self.buffer.len() > KEPT_BYTES && kept < BUFFER_BYTES {
            let mut buffer = vec![0; BUFFER_BYTES];
            buffer[..kept].copy_from_slice(&self.buffer[self.start..self.end]);
            self.buffer = buffer;
        } else if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
        }
        self.base += self.start as u64;
        self.end = kept;
        self.searched -= self.start;
        self.start = 0;
        if kept < self.buffer.len() {
            return Ok(());
        }
        let (needed_bytes, room_bytes) = (COPIES * kept, room(&self.input));
        if needed_bytes > room_bytes {
            self.is_inside_a_failed_line = true;
            return Err(LineError::NoRoom(NoRoom {
                needed_bytes,
                room_bytes,
            }));
        }
        // Twice the size, but at most the longest line, its end and one read.
        let longest = self.allowed().saturating_add(BUFFER_BYTES);
        let larger = (self.buffer.len() * 2).min(longest.max(kept + 1));
        self.buffer.reserve_exact(larger - kept);
        self.buffer.resize(larger, 0);
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
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

    fn finished(&mut self, mut start: usize, mut end: usize, has_end: bool) -> &[u8] {
        if !self.begun {
            self.begun = true;
            if self.buffer[start..end].starts_with(BYTE_ORDER_MARK) {
                start += BYTE_ORDER_MARK.len();
            }
        }
        if has_end && self.buffer[start..end].ends_with(b"\r") {
            end -= 1;
        }
        self.returned = start..end;
        &self.buffer[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The limit of a job that sets none.
    const LIMIT: usize = 64 << 20;

    /// Returns a few bytes at a time.
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
        let mut lines = Lines::new(Trickle(bytes, step), LIMIT);
        let mut found = Vec::new();
        while let Some(line) = lines.next(|_| usize::MAX).unwrap() {
            found.push(line.to_vec());
            assert_eq!(lines.number(), found.len() as u64);
        }
        found
    }

    #[test]
    fn a_line_ends_with_lf_or_crlf_and_the_last_line_needs_neither() {
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
    fn fault_7499_a_line_over_the_limit_is_refused_and_a_line_at_the_limit_is_not() {
        let mut long = vec![b'x'; LIMIT];
        long.push(b'\n');
        assert_eq!(lines(&long, usize::MAX)[0].len(), LIMIT);
        long.insert(0, b'x');
        long.insert(0, b'\n');
        let mut over = Lines::new(&long[..], LIMIT);
        assert!(over.next(|_| usize::MAX).unwrap().is_some());
        assert!(matches!(over.next(|_| usize::MAX), Err(LineError::TooLong)));
        assert_eq!(over.number(), 2);
    }

    #[test]
    fn neither_a_lines_end_nor_a_byte_order_mark_counts_for_its_length() {
        let mark = "\u{FEFF}";
        for (text, is_allowed) in [
            ("abcd", true),
            ("abcd\n", true),
            ("abcd\r\n", true),
            ("\u{FEFF}abcd\r\n", true),
            ("x\nabcd\r\nx", true),
            ("abcd\r", false),
            ("abcd\r\r\n", false),
            ("abcde\n", false),
            ("abcde\r\n", false),
            ("\u{FEFF}abcde\n", false),
            ("x\n\u{FEFF}abcd\n", false),
        ] {
            for step in [1, 2, 1000] {
                let mut lines = Lines::new(Trickle(text.as_bytes(), step), 4);
                let found = loop {
                    match lines.next(|_| usize::MAX) {
                        Ok(None) => break true,
                        Ok(Some(line)) => {
                            assert!(line.len() <= 4 && !line.starts_with(mark.as_bytes()));
                        }
                        Err(_) => break false,
                    }
                };
                assert_eq!(found, is_allowed, "{text:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_line_without_room_is_refused_and_the_buffer_of_a_long_line_is_released() {
        let long = [&vec![b'x'; 9 << 20][..], b"\n1\n2\n"].concat();
        let mut lines = Lines::new(&long[..], LIMIT);
        assert_eq!(
            lines.next(|_| 27 << 20).unwrap().map(<[u8]>::len),
            Some(9 << 20)
        );
        assert_eq!(lines.next(|_| 0).unwrap(), Some(&b"1"[..]));
        assert_eq!(lines.next(|_| 0).unwrap(), Some(&b"2"[..]));
        assert_eq!(lines.next(|_| 0).unwrap(), None);
        assert_eq!(lines.buffer.len(), BUFFER_BYTES);

        let mut lines = Lines::new(&long[..], LIMIT);
        let Err(LineError::NoRoom(no_room)) = lines.next(|_| 10 << 20) else {
            panic!("it fits");
        };
        assert_eq!(
            no_room.needed_bytes,
            12 << 20,
            "only the part that was read is counted"
        );
    }

    /// The lines of each part between neighbouring cuts, with the positions at which they begin.
    fn lines_of_parts(bytes: &[u8], cuts: &[usize], step: usize) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        for part in cuts.windows(2) {
            let (from, to) = (part[0] as u64, part[1] as u64);
            let rest = &bytes[usize::try_from(start_of_part(from)).unwrap()..];
            let mut lines = Lines::of_part(Trickle(rest, step), LIMIT, from, to);
            while let Some(line) = lines.next(|_| usize::MAX).unwrap() {
                let line = line.to_vec();
                assert!((from..to).contains(&lines.position()), "{bytes:?} {cuts:?}");
                found.push((lines.position(), line));
            }
            assert_eq!(
                lines.next(|_| usize::MAX).unwrap(),
                None,
                "after its end a part has no further line"
            );
        }
        found
    }

    /// Texts with both kinds of line ends, empty lines, byte order marks inside and at the
    /// beginning, characters of two to four bytes, and a long line. They end in every possible way.
    const CUT_TEXTS: [&str; 12] = [
        "",
        "\n",
        "a",
        "\u{FEFF}",
        "\u{FEFF}\n",
        "\u{FEFF}a\r\nb",
        "\r\n\r\n\n\r\n",
        "a\n\n\nb\n",
        "ab\r\n\r\rcd\r\n\u{FEFF}é\n\u{20AC}\u{1F600}",
        "1\r\n2\n\n3\r",
        "0123456789012345678901234567890123456789\n1\n",
        "1\n0123456789012345678901234567890123456789",
    ];

    #[test]
    fn every_cut_gives_the_same_lines_in_the_same_order() {
        for text in CUT_TEXTS {
            let bytes = text.as_bytes();
            let whole = lines_of_parts(bytes, &[0, bytes.len()], 1000);
            let texts: Vec<Vec<u8>> = whole.iter().map(|(_, line)| line.clone()).collect();
            assert_eq!(texts, lines(bytes, 1000), "{text:?}");
            for step in [1, 3, 1000] {
                for first in 0..=bytes.len() {
                    for second in first..=bytes.len() {
                        let cuts = [0, first, second, bytes.len()];
                        assert_eq!(
                            lines_of_parts(bytes, &cuts, step),
                            whole,
                            "{text:?} {cuts:?}"
                        );
                    }
                }
                let all: Vec<usize> = (0..=bytes.len()).collect();
                assert_eq!(lines_of_parts(bytes, &all, step), whole, "{text:?}");
            }
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_wherever_reads_and_lines_end() {
        for length in [
            5,
            6,
            9,
            BUFFER_BYTES - 1,
            BUFFER_BYTES,
            3 * BUFFER_BYTES + 7,
        ] {
            for end in ["\n", "\r\n", ""] {
                let text = format!("a\n{}{end}", "x".repeat(length));
                let text = if end.is_empty() { text } else { text + "b" };
                for step in [1_000_000, 4_099, 3] {
                    if step == 3 && length > 100 {
                        continue;
                    }
                    let mut lines = Lines::new(Trickle(text.as_bytes(), step), 4);
                    assert_eq!(lines.next(|_| usize::MAX).unwrap(), Some(&b"a"[..]));
                    let failed = lines.next(|_| usize::MAX);
                    assert!(matches!(failed, Err(LineError::TooLong)), "{length} {step}");
                    assert_eq!(lines.number(), 2);
                    let last = (!end.is_empty()).then_some(&b"b"[..]);
                    assert_eq!(
                        lines.next(|_| usize::MAX).unwrap(),
                        last,
                        "{length} {step} {end:?}"
                    );
                    assert!(
                        lines.buffer.len() <= KEPT_BYTES,
                        "a skipped line was held in memory"
                    );
                }
            }
        }
    }

    #[test]
    fn a_part_reads_nothing_behind_the_line_that_crosses_its_end() {
        struct Counted<'a>(Trickle<'a>, &'a std::cell::Cell<usize>);
        impl Read for Counted<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.read(buffer)?;
                self.1.set(self.1.get() + count);
                Ok(count)
            }
        }
        let text = b"aaaa\nbbbb\ncccc\ndddd\n";
        for (from, to, read, expected) in [
            (0, 1, 5, vec!["aaaa"]),
            (0, 5, 5, vec!["aaaa"]),
            (0, 6, 10, vec!["aaaa", "bbbb"]),
            (1, 5, 5, vec![]),
            (2, 4, 3, vec![]),
            (5, 6, 6, vec!["bbbb"]),
            (16, 20, 5, vec![]),
        ] {
            let bytes = std::cell::Cell::new(0);
            let rest = &text[usize::try_from(start_of_part(from)).unwrap()..];
            let input = Counted(Trickle(rest, 1), &bytes);
            let mut lines = Lines::of_part(input, LIMIT, from, to);
            let mut found = Vec::new();
            while let Some(line) = lines.next(|_| usize::MAX).unwrap() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
            assert_eq!(
                (found, bytes.get()),
                (expected.iter().map(ToString::to_string).collect(), read),
                "{from}..{to}"
            );
        }
    }

    #[test]
    fn a_line_longer_than_the_limit_fails_only_where_it_begins() {
        let text = b"a\nbbbbbbbbbb\nc\n";
        for (from, to, expected) in [
            (0, 2, Ok(1)),
            (0, 3, Err(2)),
            (2, 3, Err(2)),
            (3, 12, Ok(0)),
            (3, 14, Ok(1)),
            (8, 13, Ok(0)),
        ] {
            let rest = &text[usize::try_from(start_of_part(from)).unwrap()..];
            let mut lines = Lines::of_part(Trickle(rest, 1), 4, from, to);
            let mut count = 0;
            let found = loop {
                match lines.next(|_| usize::MAX) {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => break Ok(count),
                    Err(_) => break Err(lines.position()),
                }
            };
            assert_eq!(found, expected, "{from}..{to}");
        }
    }

    proptest! {
        #[test]
        fn any_cuts_of_any_bytes_give_the_lines_of_the_whole(
            bytes in proptest::collection::vec(proptest::prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(0xEF), Just(0xBB), Just(0xBF), any::<u8>(),
            ], 0..200),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
            step in 1_usize..50,
        ) {
            let whole = lines_of_parts(&bytes, &[0, bytes.len()], 1000);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            prop_assert_eq!(lines_of_parts(&bytes, &cuts, step), whole);
        }

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
