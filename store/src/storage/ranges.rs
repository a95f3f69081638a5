//! Checks the answer to a request for a range of an object. The answer must contain the requested
//! bytes and state the range.
//!
//! A store may ignore the range and send the whole object (RFC 9110, 14.2); then the range is cut
//! out of the answer. This module does not know which object is expected. The reader compares size
//! and version.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse};

use crate::storage::answer::chain;

/// How many bytes of a whole object are skipped at most to reach a range. All bytes before a range
/// are received too, so a larger object would be received many times.
const MAX_PASSED_OVER: u64 = 64 << 20;

/// An answer that does not fit the requested range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WrongRange {
    /// The answer contains another range.
    #[error(
        "the store answered bytes {first} to {last} of {total} instead of bytes {} to {}",
        .asked.first,
        .asked.last
    )]
    Other {
        asked: Asked,
        first: u64,
        last: u64,
        total: u64,
    },
    /// The answer does not state its range.
    #[error(
        "the store answered a part of the object and does not say which (Content-Range {0:?}); it must be like \"bytes 0-7/8\""
    )]
    Unnamed(String),
    /// The answer is the whole object, and too many bytes are before the range.
    #[error(
        "the store sends the whole object instead of bytes {} to {}; of a store that cannot send ranges, only the first {} MiB of an object can be read",
        .0.first, .0.last, MAX_PASSED_OVER >> 20
    )]
    Whole(Asked),
    /// The status of the answer belongs neither to a whole object nor to a part of it.
    #[error("the store answered {0} to a request for a range; it must be 206")]
    Status(u16),
}

impl WrongRange {
    /// Returns the wrong range that caused an error, if there is one.
    pub(super) fn of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        chain(error).find_map(|error| error.downcast_ref())
    }

    /// Returns the size of the object, if the store reported it.
    pub(super) fn total(&self) -> Option<u64> {
        match self {
            Self::Other { total, .. } => Some(*total),
            Self::Unnamed(_) | Self::Whole(_) | Self::Status(_) => None,
        }
    }
}

/// The first and the last requested byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    first: u64,
    last: u64,
}

impl Asked {
    /// Returns the range that a request asks for, if the request gives both ends.
    pub(super) fn of(request: &HttpRequest) -> Option<Self> {
        let range = request.headers().get(RANGE)?.to_str().ok()?;
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (*request.method() == Method::GET && first <= last).then_some(Self { first, last })
    }

    /// Cuts the answer to exactly this range, or to the part of it that is in the object.
    /// `response` must be successful.
    pub(super) async fn cut(self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => match self.check(response.headers()) {
                Ok(()) => Ok(response),
                Err(wrong) => Err(HttpError::new(HttpErrorKind::Unknown, wrong)),
            },
            StatusCode::OK => self.cut_from_whole(response).await,
            status => {
                let wrong = WrongRange::Status(status.as_u16());
                Err(HttpError::new(HttpErrorKind::Unknown, wrong))
            }
        }
    }

    fn check(self, headers: &HeaderMap) -> Result<(), WrongRange> {
        let header = headers.get(CONTENT_RANGE);
        let header = header.map_or("", |header| header.to_str().unwrap_or_default());
        let Some((first, last, total)) = parse(header) else {
            return Err(WrongRange::Unnamed(header.to_owned()));
        };
        if first == self.first && Some(last) == self.last_of(total) {
            return Ok(());
        }
        Err(WrongRange::Other {
            asked: self,
            first,
            last,
            total,
        })
    }

    /// Returns the last byte of the range in an object of this size. `None` if the range begins
    /// after the end of the object.
    fn last_of(self, total: u64) -> Option<u64> {
        let last = total.checked_sub(1)?;
        (self.first <= last).then_some(self.last.min(last))
    }

    async fn cut_from_whole(self, response: HttpResponse) -> Result<HttpResponse, HttpError> {
        if self.first > MAX_PASSED_OVER {
            let wrong = WrongRange::Whole(self);
            return Err(HttpError::new(HttpErrorKind::Unknown, wrong));
        }
        let (mut parts, body) = response.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH);
        let length: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let (mut seen, mut range) = (0_u64, BytesMut::new());
        let mut chunks = body.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            range.extend_from_slice(&self.part_of(seen, &chunk));
            seen += chunk.len() as u64;
            if length.is_some() && seen > self.last {
                break;
            }
            if length.is_none() && seen > MAX_PASSED_OVER {
                let wrong = WrongRange::Whole(self);
                return Err(HttpError::new(HttpErrorKind::Unknown, wrong));
            }
        }
        let total = length.unwrap_or(seen);
        let Some(last) = self.last_of(total) else {
            parts.status = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(HttpResponse::from_parts(parts, Bytes::new().into()));
        };
        parts.status = StatusCode::PARTIAL_CONTENT;
        let header = format!("bytes {}-{last}/{total}", self.first);
        let invalid = |error| HttpError::new(HttpErrorKind::Unknown, error);
        let header = HeaderValue::from_str(&header).map_err(invalid)?;
        parts.headers.insert(CONTENT_RANGE, header);
        let length = HeaderValue::from(range.len());
        parts.headers.insert(CONTENT_LENGTH, length);
        Ok(HttpResponse::from_parts(parts, range.freeze().into()))
    }

    /// Returns the part of `bytes` that is inside the range. `start` is the position of `bytes` in
    /// the object.
    fn part_of(self, start: u64, bytes: &Bytes) -> Bytes {
        let position = |at: u64| {
            let inside = at.saturating_sub(start).min(bytes.len() as u64);
            usize::try_from(inside).unwrap_or(bytes.len())
        };
        bytes.slice(position(self.first)..position(self.last.saturating_add(1)))
    }
}

/// Parses a header such as `bytes 0-7/8`. Returns the first byte, the last byte and the size.
fn parse(header: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_requested_range_up_to_the_end_of_the_object_is_accepted() {
        let asked = Asked { first: 8, last: 15 };
        for (header, is_right) in [
            ("bytes 8-15/100", true),
            ("bytes 8-15/16", true),
            ("bytes 8-11/12", true),
            ("bytes 8-11/100", false),
            ("bytes 8-15/12", false),
            ("bytes 0-15/100", false),
            ("bytes 9-16/100", false),
            ("bytes 8-16/100", false),
            ("bytes 8-15/*", false),
            ("bytes */100", false),
            ("", false),
            ("multipart/byteranges", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, header.parse().unwrap());
            assert_eq!(asked.check(&headers).is_ok(), is_right, "{header:?}");
        }
        let wrong = asked.check(&HeaderMap::new()).unwrap_err();
        assert_eq!(wrong, WrongRange::Unnamed(String::new()));
    }

    #[test]
    fn a_range_is_cut_out_of_chunks_that_begin_anywhere() {
        let content = Bytes::from_static(b"0123456789");
        for first in 0..10 {
            for last in first..12 {
                let asked = Asked { first, last };
                let mut cut = Vec::new();
                for start in (0..10).step_by(3) {
                    let chunk = content.slice(start..(start + 3).min(10));
                    cut.extend_from_slice(&asked.part_of(start as u64, &chunk));
                }
                let end = usize::try_from(last + 1).unwrap().min(10);
                let begin = usize::try_from(first).unwrap();
                assert_eq!(cut, content[begin..end], "{first}-{last}");
            }
        }
    }
}
