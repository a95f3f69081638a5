//! Reads gzip: all members of a file. Only zero bytes may be between and after members. If the file
//! ends inside a member, this is an error. A file that was cut exactly between two members cannot
//! be distinguished from a complete one, except by the end mark that bgzip writes.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::compression::CompressedError;
use super::input::Input;
use super::magic::{self, GZIP, MAGIC_BYTES};

/// The name of the field in a member's header with which bgzip marks its blocks.
pub(super) const BLOCK_FIELD: &[u8; 2] = b"BC";

/// The plain bytes of a gzip file.
pub(crate) struct Gzip {
    /// The state. It is `None` only while it is replaced.
    state: Option<State>,
    size: u64,
    plain_in_member: u64,
    last: Last,
}

enum State {
    Between(Input),
    Inside(Box<GzDecoder<Input>>),
    Ended(Input),
}

/// The kind of the member that ended last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    None,
    Plain,
    /// A block of bgzip with data.
    Block,
    /// A block of bgzip without data, which marks the end of the file.
    EndMark,
}

impl Gzip {
    /// Makes a reader. `size` is the size of the compressed file.
    pub(crate) fn new(input: Input, size: u64) -> Self {
        Self {
            state: Some(State::Between(input)),
            size,
            plain_in_member: 0,
            last: Last::None,
        }
    }

    /// Returns how many compressed bytes were consumed so far.
    pub(crate) fn position(&self) -> u64 {
        match &self.state {
            Some(State::Between(input) | State::Ended(input)) => input.position(),
            Some(State::Inside(decoder)) => decoder.get_ref().position(),
            None => 0,
        }
    }

    /// Returns whether another member begins. Other bytes are an error.
    fn goes_on(&self, input: &mut Input) -> io::Result<bool> {
        let is_first = self.last == Last::None;
        if !is_first {
            skip_zeros(input)?;
        }
        let head = input.peek(MAGIC_BYTES)?;
        if head.is_empty() {
            return if self.last == Last::Block {
                Err(CompressedError::NoEndMark.into())
            } else {
                Ok(false)
            };
        }
        // A file of one byte may be a truncated member. A single byte after a member does not count
        // as the beginning of another member.
        if head.starts_with(&GZIP) || (is_first && GZIP.starts_with(head)) {
            return Ok(true);
        }
        if is_first {
            let kind = magic::kind(head);
            return Err(CompressedError::Other {
                named: "gzip",
                kind,
            }
            .into());
        }
        let bytes = self.size.saturating_sub(input.position());
        Err(CompressedError::Behind {
            named: "gzip",
            bytes,
        }
        .into())
    }

    fn end_of(&self, decoder: &GzDecoder<Input>) -> Last {
        let extra = decoder.header().and_then(|header| header.extra());
        if !extra.is_some_and(is_block) {
            Last::Plain
        } else if self.plain_in_member == 0 {
            Last::EndMark
        } else {
            Last::Block
        }
    }
}

impl Read for Gzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state.take() {
                None => return Err(CompressedError::Failed.into()),
                Some(State::Ended(input)) => {
                    self.state = Some(State::Ended(input));
                    return Ok(0);
                }
                Some(State::Between(mut input)) => match self.goes_on(&mut input) {
                    Ok(true) => {
                        self.plain_in_member = 0;
                        self.state = Some(State::Inside(Box::new(GzDecoder::new(input))));
                    }
                    Ok(false) => self.state = Some(State::Ended(input)),
                    Err(error) => {
                        self.state = Some(State::Between(input));
                        return Err(error);
                    }
                },
                Some(State::Inside(mut decoder)) => {
                    let read = decoder.read(buffer);
                    if matches!(read, Ok(0)) {
                        self.last = self.end_of(&decoder);
                        self.state = Some(State::Between(decoder.into_inner()));
                        continue;
                    }
                    self.state = Some(State::Inside(decoder));
                    let count = read.map_err(|error| CompressedError::of("gzip", error))?;
                    self.plain_in_member += count as u64;
                    return Ok(count);
                }
            }
        }
    }
}

/// Skips zero bytes. Tapes and block devices fill the last block with zeros, also between archives.
fn skip_zeros(input: &mut Input) -> io::Result<()> {
    loop {
        let ready = input.fill_buf()?;
        let zeros = ready.iter().take_while(|&&byte| byte == 0).count();
        let is_over = zeros < ready.len() || ready.is_empty();
        input.consume(zeros);
        if is_over {
            return Ok(());
        }
    }
}

/// Whether the extra fields of a member's header contain the one that bgzip writes.
fn is_block(mut extra: &[u8]) -> bool {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        if head.starts_with(BLOCK_FIELD) {
            return true;
        }
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        extra = rest.get(length..).unwrap_or_default();
    }
    false
}
