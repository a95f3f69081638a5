//! Reads zstd: all frames of a file. Other bytes are an error. If the file ends inside a frame,
//! this is an error too. A file that was cut exactly between two frames cannot be distinguished
//! from a complete one. Only the filled part of a window counts as memory.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::compression::CompressedError;
use super::input::Input;
use super::magic::{self, MAGIC_BYTES, ZSTD};
use super::part_end::PartEnd;

/// The largest window that zstd can read. It has 2 GiB, as with `zstd --long=31`.
pub(crate) const MAX_WINDOW_LOG: u32 = 31;

/// How many bytes the longest frame header has: magic, descriptor, window, dictionary and length of
/// the content.
const MAX_HEAD_BYTES: usize = 18;

/// How many bytes the header of a skippable frame has: its magic and its length.
const SKIPPABLE_HEAD_BYTES: usize = 8;

/// Limits for the windows of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowLimits {
    /// How many bytes a window may have in this job.
    pub(crate) window_bytes: u64,
    /// How many bytes of memory windows may fill.
    pub(crate) memory_bytes: u64,
}

/// The plain bytes of a zstd file.
pub(crate) struct Zstandard {
    input: Input,
    size: u64,
    decoder: Decoder<'static>,
    limits: WindowLimits,
    state: State,
    /// How many bytes of a window were filled at most. The decoder keeps this memory.
    charged: u64,
    /// The part of the file that is read; `None` for the whole file.
    part: Option<Part>,
}

/// A part of a file with a seek table: the frames that begin in it.
struct Part {
    range: Range<u64>,
    /// How many plain bytes were given.
    produced: u64,
    end: PartEnd,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the first frame, or before a further frame.
    Between {
        is_first: bool,
    },
    /// Inside a frame. It has this window, and this number of plain bytes has been decompressed.
    Inside {
        window: u64,
        plain: u64,
    },
    /// Inside a skippable frame, of which this number of bytes is left.
    Skipping(u64),
    Ended,
}

impl Zstandard {
    /// Makes a reader. `size` is the size of the compressed file.
    pub(crate) fn new(input: Input, size: u64, limits: WindowLimits) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(Self {
            input,
            size,
            decoder,
            limits,
            state: State::Between { is_first: true },
            charged: 0,
            part: None,
        })
    }

    /// Reads a part of the file. According to the seek table, a frame begins at its first byte, and
    /// a frame ends at its last byte. The input begins at the beginning of the part. After the
    /// part, reading continues, because the last line of the part may end later.
    pub(crate) fn in_part(self, range: Range<u64>, end: PartEnd) -> Self {
        let part = Some(Part {
            range,
            produced: 0,
            end,
        });
        Self { part, ..self }
    }

    /// Where the part begins, in the file.
    pub(crate) fn part_start(&self) -> Option<u64> {
        self.part.as_ref().map(|part| part.range.start)
    }

    /// If the next frame does not begin in the part, records that the part ends here. A frame must
    /// have ended exactly at the border of the part, because the task of the next part begins
    /// there.
    fn check_the_end(&self) -> io::Result<()> {
        let Some(part) = &self.part else {
            return Ok(());
        };
        let border = part.range.end;
        if part.end.is_known() || self.position() < border {
            return Ok(());
        }
        if self.position() > border {
            return Err(CompressedError::OtherFrame { border }.into());
        }
        part.end.set(part.produced);
        Ok(())
    }

    /// Returns how many compressed bytes were consumed so far.
    pub(crate) fn position(&self) -> u64 {
        self.part_start().unwrap_or(0) + self.input.position()
    }

    /// Returns how many bytes of memory the window holds.
    pub(crate) fn charged_bytes(&self) -> u64 {
        self.charged
    }

    fn begin(&mut self, is_first: bool) -> io::Result<State> {
        self.check_the_end()?;
        let head = self.input.peek(MAX_HEAD_BYTES.max(MAGIC_BYTES))?;
        if head.is_empty() {
            return Ok(State::Ended);
        }
        if magic::is_skippable(head) {
            let length = head
                .get(4..SKIPPABLE_HEAD_BYTES)
                .and_then(|length| length.try_into().ok())
                .map(u32::from_le_bytes);
            let length = length.ok_or(CompressedError::Truncated { named: "zstd" })?;
            self.input.consume(SKIPPABLE_HEAD_BYTES);
            return Ok(State::Skipping(length.into()));
        }
        let border = self.part.as_ref().map_or(0, |part| part.range.start);
        if is_first && border > 0 && !head.starts_with(&ZSTD) {
            return Err(CompressedError::OtherFrame { border }.into());
        }
        let begins = head.starts_with(&ZSTD) || (is_first && ZSTD.starts_with(head));
        if !begins && is_first {
            let kind = magic::kind(head);
            return Err(CompressedError::Other {
                named: "zstd",
                kind,
            }
            .into());
        }
        if !begins {
            let bytes = self.size.saturating_sub(self.position());
            return Err(CompressedError::Behind {
                named: "zstd",
                bytes,
            }
            .into());
        }
        let head = FrameHead::parse(head).ok_or(CompressedError::Truncated { named: "zstd" })?;
        if head.dictionary > 0 {
            let id = head.dictionary;
            return Err(CompressedError::Dictionary { id }.into());
        }
        let window = head.window;
        if window > self.limits.window_bytes {
            let limit = self.limits.window_bytes;
            return Err(CompressedError::Window { window, limit }.into());
        }
        self.charge(window, head.content.unwrap_or(0))?;
        Ok(State::Inside { window, plain: 0 })
    }

    fn charge(&mut self, window: u64, plain: u64) -> io::Result<()> {
        self.charged = self.charged.max(window.min(plain));
        let room = self.limits.memory_bytes;
        if self.charged > room {
            return Err(CompressedError::WindowRoom { window, room }.into());
        }
        Ok(())
    }

    /// Skips the available bytes of a skippable frame.
    fn skip(&mut self, left: u64) -> io::Result<State> {
        if left == 0 {
            return Ok(State::Between { is_first: false });
        }
        let ready = self.input.fill_buf()?.len();
        if ready == 0 {
            return Err(CompressedError::Truncated { named: "zstd" }.into());
        }
        let count = ready.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.input.consume(count);
        Ok(State::Skipping(left - count as u64))
    }
}

impl Read for Zstandard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::Ended => return Ok(0),
                State::Between { is_first } => self.state = self.begin(is_first)?,
                State::Skipping(left) => self.state = self.skip(left)?,
                State::Inside { window, plain } => {
                    let ready = self.input.fill_buf()?;
                    let is_at_end = ready.is_empty();
                    let done = self
                        .decoder
                        .run_on_buffers(ready, buffer)
                        .map_err(|error| CompressedError::of("zstd", error))?;
                    self.input.consume(done.bytes_read);
                    let plain = plain + done.bytes_written as u64;
                    self.charge(window, plain)?;
                    self.state = if done.remaining == 0 {
                        State::Between { is_first: false }
                    } else {
                        State::Inside { window, plain }
                    };
                    if done.bytes_written > 0 {
                        if let Some(part) = &mut self.part {
                            part.produced += done.bytes_written as u64;
                        }
                        return Ok(done.bytes_written);
                    }
                    if is_at_end && done.remaining > 0 {
                        return Err(CompressedError::Truncated { named: "zstd" }.into());
                    }
                }
            }
        }
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHead {
    /// The size of the window in bytes: how far back the frame may refer.
    window: u64,
    /// The plain length of the frame, if the header gives it.
    content: Option<u64>,
    /// The number of the dictionary that the frame needs. 0 if it needs none.
    dictionary: u32,
}

impl FrameHead {
    /// Parses a header. `None` if the header is incomplete.
    fn parse(head: &[u8]) -> Option<Self> {
        let descriptor = *head.get(ZSTD.len())?;
        let is_single = descriptor & 0x20 != 0;
        let mut at = ZSTD.len() + 1;
        let mut window = None;
        if !is_single {
            let byte = *head.get(at)?;
            let base = 1_u64 << (10 + u32::from(byte >> 3));
            window = Some(base + base / 8 * u64::from(byte & 7));
            at += 1;
        }
        let dictionary_width = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let mut dictionary = [0; 4];
        dictionary[..dictionary_width].copy_from_slice(head.get(at..at + dictionary_width)?);
        at += dictionary_width;
        let width = match descriptor >> 6 {
            0 => usize::from(is_single),
            1 => 2,
            2 => 4,
            _ => 8,
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(head.get(at..at + width)?);
        let length = u64::from_le_bytes(bytes) + if width == 2 { 256 } else { 0 };
        let content = (width > 0).then_some(length);
        Some(Self {
            window: window.or(content)?,
            content,
            dictionary: u32::from_le_bytes(dictionary),
        })
    }
}
