//! Reads and writes the frames between a supervisor and its child. A frame is a length of four
//! bytes (little endian) and a protobuf message. This module does not use the content of messages,
//! and starts no process.

use std::io::{self, Read, Write};

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How many bytes a frame has at most. The largest message, `Setup`, contains the frozen job, which
/// is smaller than the 1 MiB of a `ConfigMap`.
const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;
/// How many bytes the length takes.
const LENGTH_BYTES: usize = 4;

/// Why frames cannot be exchanged.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The pipe broke.
    #[error("exchange frames with the task's process: {source}")]
    Pipe {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The length is too large, so another writer wrote into the pipe.
    #[error(
        "read a frame of the task's process: its length is {length}; at most {MAX_FRAME_BYTES} bytes are allowed"
    )]
    Length {
        /// The bytes that were read.
        length: usize,
    },
    /// The frame is not a known message.
    #[error("read a frame of the task's process: {source}")]
    Decode {
        /// The cause.
        #[source]
        source: prost::DecodeError,
    },
}

fn encode(message: &impl Message) -> Result<Vec<u8>, FrameError> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_FRAME_BYTES)
        .ok_or(FrameError::Length { length })?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + length);
    frame.extend_from_slice(&prefix.to_le_bytes());
    frame.extend_from_slice(&message.encode_to_vec());
    Ok(frame)
}

fn checked_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length <= MAX_FRAME_BYTES {
        Ok(length)
    } else {
        Err(FrameError::Length { length })
    }
}

fn decode<M: Message + Default>(frame: &[u8]) -> Result<M, FrameError> {
    M::decode(frame).map_err(|source| FrameError::Decode { source })
}

fn pipe(source: io::Error) -> FrameError {
    FrameError::Pipe { source }
}

/// Writes one frame.
pub(super) async fn write(
    pipe_end: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> Result<(), FrameError> {
    pipe_end.write_all(&encode(message)?).await.map_err(pipe)?;
    pipe_end.flush().await.map_err(pipe)
}

/// Reads one frame. Returns `None` at the end. Must not be cancelled, because bytes that were read
/// would be lost.
pub(super) async fn read<M: Message + Default>(
    pipe_end: &mut (impl AsyncRead + Unpin),
) -> Result<Option<M>, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    match pipe_end.read_exact(&mut prefix).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(pipe(error)),
    }
    let mut frame = vec![0; checked_length(prefix)?];
    pipe_end.read_exact(&mut frame).await.map_err(pipe)?;
    decode(&frame).map(Some)
}

/// Writes one frame. This is for the child's threads without a runtime.
pub(super) fn write_blocking(
    pipe_end: &mut impl Write,
    message: &impl Message,
) -> Result<(), FrameError> {
    pipe_end.write_all(&encode(message)?).map_err(pipe)?;
    pipe_end.flush().map_err(pipe)
}

/// Reads one frame. Returns `None` at the end. This is for the child's threads without a runtime.
pub(super) fn read_blocking<M: Message + Default>(
    pipe_end: &mut impl Read,
) -> Result<Option<M>, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    match pipe_end.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(pipe(error)),
    }
    let mut frame = vec![0; checked_length(prefix)?];
    pipe_end.read_exact(&mut frame).map_err(pipe)?;
    decode(&frame).map(Some)
}

#[cfg(test)]
mod tests {
    use zephyr_proto::task::{NextRecord, SetupFailed};

    use super::*;

    #[tokio::test]
    async fn frames_that_one_side_writes_the_other_side_reads_until_the_end() {
        let mut bytes = Vec::new();
        let first = NextRecord {
            place: "a line 1".into(),
        };
        write(&mut bytes, &first).await.unwrap();
        write_blocking(&mut bytes, &NextRecord::default()).unwrap();
        let mut rest = bytes.as_slice();
        assert_eq!(read::<NextRecord>(&mut rest).await.unwrap(), Some(first));
        assert_eq!(
            read_blocking::<NextRecord>(&mut rest).unwrap(),
            Some(NextRecord::default())
        );
        assert_eq!(read::<NextRecord>(&mut rest).await.unwrap(), None);
        assert_eq!(read_blocking::<NextRecord>(&mut rest).unwrap(), None);
    }

    #[test]
    fn text_in_the_pipe_is_an_error_and_allocates_nothing() {
        let error = read_blocking::<SetupFailed>(&mut b"hello world".as_slice()).unwrap_err();
        assert!(matches!(error, FrameError::Length { .. }), "{error}");
    }
}
