//! Reads objects by ranges, with the etag from the listing, a little ahead of the consumer.
//!
//! Each range is a separate call with finite timeouts. After a failure, reading continues at the
//! same offset. This module uses no file format.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::{Buf, Bytes};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::storage::ranges::WrongRange;
use crate::storage::{Cause, InputFile, Location, StorageError, Stores, persist};

/// The size of one range. It is large enough that the latency of the request matters little, and
/// small enough that a failure costs little.
const RANGE_BYTES: u64 = 8 << 20;

/// How many ranges of each open object are in flight or wait for the consumer, in addition to the
/// range that is being consumed.
const RANGES_AHEAD: usize = 2;

/// How many bytes after a part are requested together with it. The line that crosses the end of the
/// part usually ends in them. If it does not, as many bytes are requested again, then twice as many
/// each time, up to [`RANGE_BYTES`].
const BYTES_BEHIND: u64 = 64 << 10;

/// Counts bytes that came from storage.
pub type ReadCounter = Arc<dyn Fn(u64) + Send + Sync>;

/// Reads an object from beginning to end on a thread that may block. Errors are `StorageError`s
/// inside `io::Error`.
pub struct ObjectReader {
    runtime: Handle,
    stores: Stores,
    location: Location,
    known: Arc<Known>,
    /// The bytes that will be read ahead of the consumer, and were not requested yet. Bytes after
    /// the part are requested only when the consumer needs them.
    to_ask: Range<u64>,
    /// The position after the last byte that was requested.
    asked_to: u64,
    /// The size of the next request for bytes after the part.
    bytes_behind: u64,
    asked: VecDeque<AskedRange>,
    current: Bytes,
    /// How many bytes were not received yet. The end of the ranges is the end of the object only if
    /// this is 0.
    remaining: u64,
    /// Nothing is requested after an error.
    has_failed: bool,
    counted: ReadCounter,
}

/// A range that a separate task reads. So the read finishes and its timeouts apply, even if the
/// consumer asks for the range late.
struct AskedRange {
    answer: oneshot::Receiver<Result<Bytes, StorageError>>,
    task: AbortOnDropHandle<()>,
}

impl ObjectReader {
    /// Starts to read a file on `runtime`. It must be the file that was listed: same size, same
    /// etag.
    pub fn open(
        runtime: &Handle,
        stores: &Stores,
        file: &InputFile,
        location: &Location,
        counted: ReadCounter,
    ) -> Self {
        Self::open_part(runtime, stores, file, location, 0..file.size, counted)
    }

    /// Like [`ObjectReader::open`], but begins at the beginning of `part`. The reader can return
    /// all bytes up to the end of the file. But it reads ahead only within the part, and requests
    /// little more than the part unless the consumer continues to read.
    pub fn open_part(
        runtime: &Handle,
        stores: &Stores,
        file: &InputFile,
        location: &Location,
        part: Range<u64>,
        counted: ReadCounter,
    ) -> Self {
        let end = part.end.min(file.size);
        let start = part.start.min(end);
        let mut reader = Self {
            runtime: runtime.clone(),
            stores: stores.clone(),
            location: location.clone(),
            to_ask: start..end,
            asked_to: start,
            bytes_behind: BYTES_BEHIND,
            known: Arc::new(Known::new(file.size, file.etag.clone())),
            asked: VecDeque::with_capacity(RANGES_AHEAD),
            current: Bytes::new(),
            remaining: file.size - start,
            has_failed: false,
            counted,
        };
        if file.size == 0 {
            // An empty file is read too, because it may have vanished or grown since it was listed.
            reader.request(0..0);
        }
        reader.ask();
        reader
    }

    /// Requests ranges of the part until enough are ahead. The last one contains some bytes after
    /// the part.
    fn ask(&mut self) {
        while self.asked.len() < RANGES_AHEAD && !self.to_ask.is_empty() {
            let start = self.to_ask.start;
            let mut end = start.saturating_add(RANGE_BYTES);
            // A part is often read from one byte before it. This one byte is not worth a request.
            if end.saturating_add(1) >= self.to_ask.end {
                end = self.to_ask.end.saturating_add(BYTES_BEHIND);
            }
            let end = end.min(self.known.size);
            self.to_ask.start = end.min(self.to_ask.end);
            self.request(start..end);
        }
    }

    /// Requests the next bytes after the part, because the consumer needs them.
    fn ask_behind(&mut self) {
        let end = self.asked_to.saturating_add(self.bytes_behind);
        self.bytes_behind = (self.bytes_behind * 2).min(RANGE_BYTES);
        self.request(self.asked_to..end.min(self.known.size));
    }

    fn request(&mut self, range: Range<u64>) {
        self.asked_to = range.end;
        let (sender, answer) = oneshot::channel();
        let (stores, location) = (self.stores.clone(), self.location.clone());
        let known = Arc::clone(&self.known);
        let task = self.runtime.spawn(async move {
            // If the receiver is dropped, nobody needs the range any more.
            let _ = sender.send(get(&stores, &location, &known, range).await);
        });
        let task = AbortOnDropHandle::new(task);
        self.asked.push_back(AskedRange { answer, task });
    }

    /// Returns the next range. `None` after the last one.
    fn next_range(&mut self) -> Result<Option<Bytes>, StorageError> {
        if self.asked.is_empty() && !self.has_failed && self.asked_to < self.known.size {
            self.ask_behind();
        }
        let Some(AskedRange { answer, task }) = self.asked.pop_front() else {
            return if self.remaining == 0 {
                Ok(None)
            } else {
                Err(self.ended_early())
            };
        };
        self.ask();
        let bytes = answer
            .blocking_recv()
            .unwrap_or_else(|_| Err(self.ended_early()));
        drop(task);
        if bytes.is_err() {
            self.to_ask = 0..0;
            self.has_failed = true;
            self.asked.clear();
        }
        bytes.map(Some)
    }

    fn ended_early(&self) -> StorageError {
        let cause = Cause::Unreachable("reading was ended early".to_owned());
        StorageError::new("reading", &self.location, cause)
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let Some(bytes) = self.next_range().map_err(io::Error::other)? else {
                return Ok(0);
            };
            (self.counted)(bytes.len() as u64);
            self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
            self.current = bytes;
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current[..count]);
        self.current.advance(count);
        Ok(count)
    }
}

/// What is known of an object before it is read, and from its first answer.
#[derive(Debug)]
struct Known {
    size: u64,
    etag: Option<String>,
    first: OnceLock<Version>,
}

/// What an answer reports about the version of its object, besides the size.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    etag: Option<String>,
    modified_ms: i64,
}

impl Known {
    fn new(size: u64, etag: Option<String>) -> Self {
        Self {
            size,
            etag,
            first: OnceLock::new(),
        }
    }

    /// Whether an answer belongs to the listed object. The condition of the request is not enough,
    /// because some stores and proxies ignore it.
    ///
    /// The size is always compared. If both tags are strong, they decide, because strong tags are
    /// equal exactly if the bytes are equal. Equal weak tags do not show this, and some stores have
    /// no tags. In these cases, the tags must not differ, and all answers to one reader must have
    /// the same tag and the same time of last modification. So all answers belong at least to one
    /// version.
    fn is_in(&self, meta: &ObjectMeta) -> bool {
        if meta.size != self.size {
            return false;
        }
        if let (Some(listed), Some(answered)) = (&self.etag, &meta.e_tag) {
            if opaque(listed) != opaque(answered) {
                return false;
            }
            if !is_weak(listed) && !is_weak(answered) {
                return true;
            }
        }
        let version = Version {
            etag: meta.e_tag.as_deref().map(|tag| opaque(tag).to_owned()),
            modified_ms: meta.last_modified.timestamp_millis(),
        };
        *self.first.get_or_init(|| version.clone()) == version
    }

    /// The tag that the request requires. A weak tag is not sent, because it never satisfies a
    /// condition (RFC 9110, 13.1.1).
    fn condition(&self) -> Option<String> {
        self.etag.clone().filter(|tag| !is_weak(tag))
    }
}

/// Whether a tag is weak. Equal weak tags do not show that the bytes are equal.
pub(super) fn is_weak(tag: &str) -> bool {
    tag.starts_with("W/")
}

/// A tag without the parts that some listings omit: the quotes, and the mark of a weak tag.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"')
}

async fn get(
    stores: &Stores,
    location: &Location,
    known: &Known,
    range: Range<u64>,
) -> Result<Bytes, StorageError> {
    let store = stores.open(location)?.objects;
    if range.is_empty() {
        let meta = persist(stores, "reading", location, || store.head(location.path())).await?;
        return if known.is_in(&meta) {
            Ok(Bytes::new())
        } else {
            Err(StorageError::new("reading", location, Cause::Changed))
        };
    }
    let wanted = range.end - range.start;
    let bytes = persist(stores, "reading", location, || async {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: known.condition(),
            ..GetOptions::default()
        };
        let answer = match store.get_opts(location.path(), options).await {
            Err(error) if is_of_another_size(&error, known.size) => return Ok(None),
            answer => answer?,
        };
        if !known.is_in(&answer.meta) {
            return Ok(None);
        }
        let bytes = answer.bytes().await?;
        if bytes.len() as u64 == wanted {
            Ok(Some(bytes))
        } else {
            Err(ended_early())
        }
    });
    match bytes.await {
        Ok(Some(bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
        Ok(_) => Err(StorageError::new("reading", location, Cause::Changed)),
        // Azure's emulator reports a failed condition for missing objects too.
        Err(error) if error.cause == Cause::Changed => match size_of(stores, location).await? {
            Some(_) => Err(error),
            None => Err(StorageError::new("reading", location, Cause::NotFound)),
        },
        // A disk has no status for "beyond the end", so the size of the file decides.
        Err(error) if matches!(error.cause, Cause::Other(_)) => {
            match size_of(stores, location).await? {
                Some(size) if size != known.size => {
                    Err(StorageError::new("reading", location, Cause::Changed))
                }
                Some(_) | None => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Whether the error shows that the object has another size than `size`, because the store answered
/// with another range than the requested one.
fn is_of_another_size(error: &object_store::Error, size: u64) -> bool {
    let total = WrongRange::of(error).and_then(WrongRange::total);
    total.is_some_and(|total| total != size)
}

/// Returns the error for an object that has the expected size, but of which not all requested bytes
/// arrived.
pub(crate) fn ended_early() -> object_store::Error {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended too early");
    object_store::Error::Generic {
        store: "reading",
        source: Box::new(HttpError::new(HttpErrorKind::Interrupted, source)),
    }
}

/// Reads a whole object, without a retry.
pub(crate) async fn whole(store: &dyn ObjectStore, path: &Path) -> object_store::Result<Bytes> {
    let answer = store.get(path).await?;
    let size = answer.meta.size;
    let bytes = answer.bytes().await?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(ended_early())
    }
}

/// Reads a whole small object.
pub async fn fetch(stores: &Stores, location: &Location) -> Result<Bytes, StorageError> {
    let store = stores.open(location)?.objects;
    persist(stores, "reading", location, || {
        whole(&*store, location.path())
    })
    .await
}

/// Reads one range of an object with a known size.
pub async fn fetch_range(
    stores: &Stores,
    location: &Location,
    size: u64,
    range: Range<u64>,
) -> Result<Bytes, StorageError> {
    get(stores, location, &Known::new(size, None), range).await
}

/// Reads one range of a listed file, which must still be the listed one: same size, same etag.
pub async fn fetch_range_of(
    stores: &Stores,
    location: &Location,
    file: &InputFile,
    range: Range<u64>,
) -> Result<Bytes, StorageError> {
    let known = Known::new(file.size, file.etag.clone());
    get(stores, location, &known, range).await
}

/// Returns the size of an object. `None` if there is no object.
pub async fn size_of(stores: &Stores, location: &Location) -> Result<Option<u64>, StorageError> {
    Ok(meta_of(stores, location).await?.map(|meta| meta.size))
}

/// Returns the metadata of an object. `None` if there is no object.
pub(crate) async fn meta_of(
    stores: &Stores,
    location: &Location,
) -> Result<Option<ObjectMeta>, StorageError> {
    let store = stores.open(location)?.objects;
    match persist(stores, "looking for", location, || {
        store.head(location.path())
    })
    .await
    {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
