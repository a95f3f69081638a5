//! Reading objects: by ranges, with the etag they were listed with, a little ahead of whoever reads.
//!
//! Each range is a call of its own with finite timeouts; after a failure reading goes on at the same offset. Knows no
//! format.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::defect::{self, Defect};
use crate::storage::{Cause, InputFile, Location, StorageError, Stores, persist};

/// One range request: large enough that its latency does not show, small enough that a failure costs little.
const RANGE_BYTES: u64 = 8 << 20;

/// Ranges in flight or waiting to be read, for each open object.
const RANGES_AHEAD: usize = 2;

/// Counts bytes that came from storage.
pub type ReadCounter = Arc<dyn Fn(u64) + Send + Sync>;

/// Reads an object from beginning to end on a thread that may block. Errors are `StorageError`s inside `io::Error`.
pub struct ObjectReader {
    ranges: mpsc::Receiver<Result<Bytes, StorageError>>,
    current: Bytes,
    /// What is still to come: the end of the ranges is the end of the object only when nothing is.
    remaining: u64,
    location: Location,
    counted: ReadCounter,
    task: tokio::task::JoinHandle<()>,
}

impl ObjectReader {
    /// Starts to read a file on `runtime`. It must be the file that was listed: same size, same etag.
    pub fn open(
        runtime: &Handle,
        stores: &Stores,
        file: &InputFile,
        location: &Location,
        counted: ReadCounter,
    ) -> Self {
        let known = Known {
            size: file.size,
            etag: file.etag.clone(),
        };
        let (sender, ranges) = mpsc::channel(1);
        let (stores, place) = (stores.clone(), location.clone());
        let task = runtime.spawn(async move {
            let (stores, location, known) = (&stores, &place, &known);
            let mut parts = futures::stream::iter(split(known.size))
                .map(|part| get(stores, location, known, part))
                .buffered(RANGES_AHEAD);
            while let Some(part) = parts.next().await {
                let failed = part.is_err();
                if sender.send(part).await.is_err() || failed {
                    break;
                }
            }
        });
        Self {
            ranges,
            current: Bytes::new(),
            remaining: file.size,
            location: location.clone(),
            counted,
            task,
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.ranges.blocking_recv() {
                Some(Ok(bytes)) => {
                    (self.counted)(bytes.len() as u64);
                    self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
                    self.current = bytes;
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None if self.remaining == 0 => return Ok(0),
                None => {
                    let cause = Cause::Unreachable("reading was ended early".to_owned());
                    let error = StorageError::new("reading", &self.location, cause);
                    return Err(io::Error::other(error));
                }
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current[..count]);
        self.current.advance(count);
        Ok(count)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of an object before it is read.
#[derive(Clone, Debug)]
struct Known {
    size: u64,
    etag: Option<String>,
}

fn split(size: u64) -> impl Iterator<Item = Range<u64>> {
    // An empty file is read too: it may have vanished or grown since it was listed.
    let count = size.div_ceil(RANGE_BYTES).max(1);
    (0..count).map(move |n| n * RANGE_BYTES..((n + 1) * RANGE_BYTES).min(size))
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
        let same = meta.size == known.size && (known.etag.is_none() || meta.e_tag == known.etag);
        return if same {
            Ok(Bytes::new())
        } else {
            Err(StorageError::new("reading", location, Cause::Changed))
        };
    }
    let wanted = range.end - range.start;
    let bytes = persist(stores, "reading", location, || async {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: known.etag.clone(),
            ..GetOptions::default()
        };
        let answer = store.get_opts(location.path(), options).await?;
        if answer.meta.size != known.size {
            return Ok(None);
        }
        let bytes = answer.bytes().await?;
        let is_whole = bytes.len() as u64 == wanted || defect::is(Defect::ShortReadNotRepeated);
        if is_whole {
            Ok(Some(bytes))
        } else {
            Err(ended_early())
        }
    });
    match bytes.await {
        Ok(Some(bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
        Ok(_) => Err(StorageError::new("reading", location, Cause::Changed)),
        // The range begins beyond the end of what stands there now.
        Err(StorageError {
            cause: Cause::Other(detail),
            ..
        }) if detail.contains("416") || detail.contains("range") => {
            Err(StorageError::new("reading", location, Cause::Changed))
        }
        // Azure's emulator says of what is gone, too, that it does not match.
        Err(error) if error.cause == Cause::Changed => match size_of(stores, location).await? {
            Some(_) => Err(error),
            None => Err(StorageError::new("reading", location, Cause::NotFound)),
        },
        Err(error) => Err(error),
    }
}

/// The object is as large as it should be, and not all of what was asked for came.
fn ended_early() -> object_store::Error {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ended too early");
    object_store::Error::Generic {
        store: "reading",
        source: Box::new(HttpError::new(HttpErrorKind::Interrupted, source)),
    }
}

/// Reads all of an object, once.
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

/// Reads one range of an object of which the size is known.
pub async fn fetch_range(
    stores: &Stores,
    location: &Location,
    size: u64,
    range: Range<u64>,
) -> Result<Bytes, StorageError> {
    get(stores, location, &Known { size, etag: None }, range).await
}

/// The size of an object; nothing where there is none.
pub async fn size_of(stores: &Stores, location: &Location) -> Result<Option<u64>, StorageError> {
    let store = stores.open(location)?.objects;
    match persist(stores, "looking for", location, || {
        store.head(location.path())
    })
    .await
    {
        Ok(meta) => Ok(Some(meta.size)),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    use object_store::PutPayload;

    async fn put(stores: &Stores, location: &Location, bytes: Vec<u8>) -> InputFile {
        let store = stores.open(location).unwrap().objects;
        store
            .put(location.path(), PutPayload::from(bytes))
            .await
            .unwrap();
        let meta = store.head(location.path()).await.unwrap();
        InputFile {
            uri: location.to_string(),
            size: meta.size,
            etag: meta.e_tag,
        }
    }

    fn read(stores: &Stores, file: &InputFile, location: &Location) -> io::Result<(Vec<u8>, u64)> {
        let (runtime, stores, file, location) = (
            Handle::current(),
            stores.clone(),
            file.clone(),
            location.clone(),
        );
        let thread = std::thread::spawn(move || {
            let total = Arc::new(AtomicU64::new(0));
            let sum = Arc::clone(&total);
            let counted: ReadCounter = Arc::new(move |n| {
                sum.fetch_add(n, Ordering::Relaxed);
            });
            let mut bytes = Vec::new();
            ObjectReader::open(&runtime, &stores, &file, &location, counted)
                .read_to_end(&mut bytes)?;
            Ok((bytes, total.load(Ordering::Relaxed)))
        });
        thread.join().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_object_of_several_ranges_is_read_in_order_and_counted() {
        let stores = Stores::in_memory();
        let location = Location::parse("s3://b/k").unwrap();
        let content: Vec<u8> = (0..20_000_001_u32).map(|n| (n % 251) as u8).collect();
        let file = put(&stores, &location, content.clone()).await;
        let (bytes, counted) = read(&stores, &file, &location).unwrap();
        assert!(bytes == content);
        assert_eq!(counted, content.len() as u64);
        let empty = put(&stores, &location, Vec::new()).await;
        assert_eq!(read(&stores, &empty, &location).unwrap().0, b"");
    }

    #[test]
    fn a_runtime_that_ends_is_not_taken_for_the_end_of_the_file() {
        let stores = Stores::in_memory();
        let location = Location::parse("s3://b/k").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let file = runtime.block_on(put(&stores, &location, vec![1; 30 << 20]));
        let counted: ReadCounter = Arc::new(|_| ());
        let mut reader = ObjectReader::open(runtime.handle(), &stores, &file, &location, counted);
        reader.read_exact(&mut [0; 10]).unwrap();
        runtime.shutdown_background();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(
            error.to_string().contains("reading was ended early"),
            "{error}"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_is_not_the_listed_one_is_refused() {
        let stores = Stores::in_memory();
        let location = Location::parse("s3://b/k").unwrap();
        let listed = put(&stores, &location, b"old".to_vec()).await;
        for replacement in [&b"new"[..], b"longer than before", b""] {
            put(&stores, &location, replacement.to_vec()).await;
            let error = read(&stores, &listed, &location).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("reading s3://b/k: changed while reading"),
                "{error}"
            );
        }
        let unknown = InputFile {
            etag: None,
            size: 30,
            ..listed.clone()
        };
        assert!(
            read(&stores, &unknown, &location)
                .unwrap_err()
                .to_string()
                .contains("changed while reading")
        );
        stores
            .open(&location)
            .unwrap()
            .objects
            .delete(location.path())
            .await
            .unwrap();
        assert!(
            read(&stores, &listed, &location)
                .unwrap_err()
                .to_string()
                .contains("there is no such object (404)")
        );
    }
}
