//! Writes objects as a stream of parts, from a thread that may block.
//!
//! On stores with multipart uploads, the parts are uploaded and another process completes them. On
//! local disks the bytes go to a staged file beside the final one, and another process renames it.
//! This module never creates the file under its final name.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use object_store::PutPayload;
use object_store::multipart::MultipartStore;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::storage::{Cause, Location, StorageError, Stores, empty_file, persist};

/// How many bytes every part except the last one has. Stores require at least 5 MiB, and some
/// stores require equal parts.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// How many parts stores accept in one upload. So a file has at most 78 GiB.
const MAX_PARTS: usize = 10_000;

/// How many parts of one file are sent at the same time.
const PARTS_IN_FLIGHT: usize = 2;

/// An upload that has begun.
pub struct PartUpload {
    location: Location,
    target: Target,
    buffer: Vec<u8>,
    bytes: u64,
    crc32c: u32,
}

enum Target {
    Parts {
        runtime: Handle,
        stores: Stores,
        upload: String,
        sender: Option<mpsc::Sender<Bytes>>,
        task: tokio::task::JoinHandle<Result<Vec<String>, StorageError>>,
        sent: usize,
    },
    Staged {
        file: StagedFile,
        staged: Location,
    },
}

/// A local file that an attempt writes. It is removed unless the attempt succeeds, so that it does
/// not keep a disk full. If the process is killed, the file stays until the job's end.
struct StagedFile {
    file: File,
    path: PathBuf,
    is_whole: bool,
}

impl StagedFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::create(&path)?;
        let is_whole = false;
        Ok(Self {
            file,
            path,
            is_whole,
        })
    }

    /// Ends the file and keeps it.
    fn keep(mut self, last: &[u8]) -> io::Result<()> {
        self.file.write_all(last)?;
        self.file.sync_all()?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.is_whole
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::info!(path = %self.path.display(), %error, "an unfinished file stays until the job's end");
        }
    }
}

/// The description of what was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The size of all parts together.
    pub bytes: u64,
    /// The CRC-32C of all bytes.
    pub crc32c: u32,
    /// Where the uploaded bytes are.
    pub place: UploadPlace,
}

/// Where uploaded bytes are before they become a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadPlace {
    /// An uncompleted multipart upload.
    Multipart {
        /// The store's id of the upload. For an empty file without parts, it is the tag of the
        /// object under the file's name.
        upload: String,
        /// The store's names of the parts, in order. Empty if the file is empty and the store
        /// accepts no empty part.
        parts: Vec<String>,
    },
    /// A complete local file under another name.
    Staged(Location),
}

impl PartUpload {
    /// Begins to write `location`. `writer` distinguishes this attempt's staged file from others on
    /// a local disk.
    pub fn begin(
        runtime: &Handle,
        stores: &Stores,
        location: &Location,
        writer: &str,
    ) -> Result<Self, StorageError> {
        let target = match stores.open(location)?.multipart {
            Some(store) => Self::begin_parts(runtime, stores, location, store)?,
            None => Self::begin_staged(location, writer)?,
        };
        Ok(Self {
            location: location.clone(),
            target,
            buffer: Vec::new(),
            bytes: 0,
            crc32c: 0,
        })
    }

    fn begin_parts(
        runtime: &Handle,
        stores: &Stores,
        location: &Location,
        store: Arc<dyn MultipartStore>,
    ) -> Result<Target, StorageError> {
        let upload = runtime.block_on(persist(stores, "writing", location, || {
            store.create_multipart(location.path())
        }))?;
        let (sender, receiver) = mpsc::channel(1);
        let task = runtime.spawn(upload_parts(
            stores.clone(),
            location.clone(),
            store,
            upload.clone(),
            receiver,
        ));
        Ok(Target::Parts {
            runtime: runtime.clone(),
            stores: stores.clone(),
            upload,
            sender: Some(sender),
            task,
            sent: 0,
        })
    }

    fn begin_staged(location: &Location, writer: &str) -> Result<Target, StorageError> {
        let failed = |error: io::Error| StorageError::from_io("writing", location, &error);
        // This does not use `Path::join`, because it percent-encodes names. The name must be the
        // one that the coordinator expects.
        let staged = location
            .parent()
            .join(&format!(".{}.{writer}", location.file_name()))
            .map_err(|error| {
                let cause = Cause::Configuration(error.to_string());
                StorageError::new("writing", location, cause)
            })?;
        let path = staged.local_path().ok_or_else(|| {
            StorageError::new(
                "writing",
                location,
                Cause::Configuration("this store has no multipart uploads".to_owned()),
            )
        })?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = StagedFile::create(path).map_err(failed)?;
        Ok(Target::Staged { file, staged })
    }

    /// Ends the stream, and waits until all bytes are stored.
    pub fn finish(mut self) -> Result<Uploaded, StorageError> {
        let last = Bytes::from(std::mem::take(&mut self.buffer));
        let (bytes, crc32c) = (self.bytes, self.crc32c);
        let place = match self.target {
            Target::Parts {
                runtime,
                stores,
                upload,
                sender,
                task,
                sent,
            } => {
                // An upload without parts cannot be completed. So an empty file has one empty part,
                // if the store accepts that.
                let is_empty = last.is_empty() && sent == 0;
                let has_no_part = is_empty && !empty_file::can_be_a_part(&self.location);
                if let Some(sender) = sender
                    && (!last.is_empty() || is_empty && !has_no_part)
                {
                    // If the receiver no longer exists, the error of its task says why.
                    let _ = sender.blocking_send(last);
                }
                let parts = join(&runtime, task, &self.location)?;
                let upload = if has_no_part {
                    runtime.block_on(empty_file::replaceable(&stores, &self.location))?
                } else {
                    upload
                };
                UploadPlace::Multipart { upload, parts }
            }
            Target::Staged { file, staged } => {
                let failed = |error: io::Error| {
                    StorageError::from_io("writing", &self.location, &error).after_writing(bytes)
                };
                file.keep(&last).map_err(failed)?;
                UploadPlace::Staged(staged)
            }
        };
        Ok(Uploaded {
            bytes,
            crc32c,
            place,
        })
    }

    /// Ends the stream and deletes the stored parts, if the store allows that. Parts that stay are
    /// never completed.
    pub fn discard(self, stores: &Stores) -> Result<(), StorageError> {
        match self.target {
            Target::Parts {
                runtime,
                upload,
                sender,
                task,
                ..
            } => {
                drop(sender);
                task.abort();
                let Some(store) = stores.open(&self.location)?.multipart else {
                    return Ok(());
                };
                runtime.block_on(persist(
                    stores,
                    "aborting the upload of",
                    &self.location,
                    || store.abort_multipart(self.location.path(), &upload),
                ))
            }
            Target::Staged { file, .. } => {
                drop(file);
                Ok(())
            }
        }
    }

    fn flush_part(&mut self) -> Result<(), StorageError> {
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES));
        match &mut self.target {
            Target::Parts {
                runtime,
                sender,
                task,
                sent,
                ..
            } => {
                *sent += 1;
                if *sent >= MAX_PARTS {
                    let limit = Cause::Other(format!(
                        "the file is larger than {MAX_PARTS} parts of 8 MiB; use more shards"
                    ));
                    return Err(StorageError::new("writing", &self.location, limit));
                }
                if let Some(open) = sender
                    && open.blocking_send(Bytes::from(part)).is_err()
                {
                    *sender = None;
                    let error = runtime.block_on(&mut *task);
                    return Err(match error {
                        Ok(Err(error)) => error,
                        Ok(Ok(_)) | Err(_) => StorageError::new(
                            "writing",
                            &self.location,
                            Cause::Other("the upload ended early".to_owned()),
                        ),
                    });
                }
                Ok(())
            }
            Target::Staged { file, .. } => file.file.write_all(&part).map_err(|error| {
                StorageError::from_io("writing", &self.location, &error).after_writing(self.bytes)
            }),
        }
    }
}

impl Write for PartUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART_BYTES - self.buffer.len());
        let taken = &bytes[..count];
        self.buffer.extend_from_slice(taken);
        self.crc32c = crc32c::crc32c_append(self.crc32c, taken);
        self.bytes += count as u64;
        if self.buffer.len() == PART_BYTES {
            self.flush_part().map_err(io::Error::other)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // All parts have equal sizes, so nothing is sent before a part is full.
        Ok(())
    }
}

async fn upload_parts(
    stores: Stores,
    location: Location,
    store: Arc<dyn MultipartStore>,
    upload: String,
    receiver: mpsc::Receiver<Bytes>,
) -> Result<Vec<String>, StorageError> {
    let parts = tokio_stream::wrappers::ReceiverStream::new(receiver).enumerate();
    let (stores, location, store, upload) = (&stores, &location, &store, &upload);
    let uploads = parts.map(|(index, part)| async move {
        let put = || {
            store.put_part(
                location.path(),
                upload,
                index,
                PutPayload::from(part.clone()),
            )
        };
        persist(stores, "writing", location, put)
            .await
            .map(|part| part.content_id)
    });
    uploads.buffered(PARTS_IN_FLIGHT).try_collect().await
}

fn join(
    runtime: &Handle,
    task: tokio::task::JoinHandle<Result<Vec<String>, StorageError>>,
    location: &Location,
) -> Result<Vec<String>, StorageError> {
    runtime.block_on(task).map_err(|error| {
        StorageError::new(
            "writing",
            location,
            Cause::Other(format!("the upload ended early: {error}")),
        )
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Store;
    use object_store::memory::InMemory;
    use object_store::multipart::PartId;
    use object_store::path::Path;
    use object_store::{MultipartId, PutResult, Result};
    use std::pin::Pin;
    use std::time::Duration;

    type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

    /// A store that gives this answer for each part.
    struct PartStore(fn(usize) -> Answer<'static, PartId>);

    impl MultipartStore for PartStore {
        fn create_multipart<'a, 'b, 'c>(&'a self, _: &'b Path) -> Answer<'c, MultipartId>
        where
            'a: 'c,
            'b: 'c,
        {
            Box::pin(std::future::ready(Ok("upload".to_owned())))
        }

        fn put_part<'a, 'b, 'c, 'd>(
            &'a self,
            _: &'b Path,
            _: &'c MultipartId,
            index: usize,
            _: PutPayload,
        ) -> Answer<'d, PartId>
        where
            'a: 'd,
            'b: 'd,
            'c: 'd,
        {
            (self.0)(index)
        }

        fn complete_multipart<'a, 'b, 'c, 'd>(
            &'a self,
            _: &'b Path,
            _: &'c MultipartId,
            _: Vec<PartId>,
        ) -> Answer<'d, PutResult>
        where
            'a: 'd,
            'b: 'd,
            'c: 'd,
        {
            Box::pin(std::future::ready(Err(
                object_store::Error::NotImplemented {
                    operation: "complete".to_owned(),
                    implementer: "PartStore".to_owned(),
                },
            )))
        }

        fn abort_multipart<'a, 'b, 'c, 'd>(
            &'a self,
            _: &'b Path,
            _: &'c MultipartId,
        ) -> Answer<'d, ()>
        where
            'a: 'd,
            'b: 'd,
            'c: 'd,
        {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    fn named(index: usize) -> PartId {
        let content_id = index.to_string();
        PartId { content_id }
    }

    /// Accepts the first part and refuses all others.
    fn only_the_first(index: usize) -> Answer<'static, PartId> {
        let denied = object_store::Error::PermissionDenied {
            path: "k".to_owned(),
            source: "no".into(),
        };
        let answer = if index == 0 {
            Ok(named(0))
        } else {
            Err(denied)
        };
        Box::pin(std::future::ready(answer))
    }

    /// Makes a request that behaves like those of real clients. It has a minute in total, and must
    /// be polled from time to time.
    fn with_a_timer(index: usize) -> Answer<'static, PartId> {
        Box::pin(async move {
            let late = tokio::time::Instant::now() + Duration::from_mins(1);
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if tokio::time::Instant::now() >= late {
                    return Err(object_store::Error::NotImplemented {
                        operation: "a late part".to_owned(),
                        implementer: "PartStore".to_owned(),
                    });
                }
            }
            Ok(named(index))
        })
    }

    fn parts_go_to(put_part: fn(usize) -> Answer<'static, PartId>) -> Stores {
        let objects = Arc::new(InMemory::new());
        let multipart: Arc<dyn MultipartStore> = Arc::new(PartStore(put_part));
        let store = Store::new(Arc::clone(&objects) as _, objects, Some(multipart));
        Stores::in_memory().with_store("s3://b", store)
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_takes_ten_minutes_for_each_part_loses_none() {
        let stores = parts_go_to(with_a_timer);
        let location = Location::parse("s3://b/k").unwrap();
        let runtime = Handle::current();
        let (sender, written) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut upload = PartUpload::begin(&runtime, &stores, &location, "w").unwrap();
            for _ in 0..4 {
                upload.write_all(&vec![7; PART_BYTES]).unwrap();
                runtime.block_on(async { tokio::time::sleep(Duration::from_mins(10)).await });
            }
            sender.send(upload.finish()).unwrap();
        });
        let UploadPlace::Multipart { parts, .. } = written.await.unwrap().unwrap().place else {
            panic!("parts were written");
        };
        assert_eq!(parts, ["0", "1", "2", "3"]);
    }

    #[test]
    fn fault_8665_a_part_that_is_refused_ends_the_upload_with_its_reason() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stores = parts_go_to(only_the_first);
        let location = Location::parse("s3://b/k").unwrap();
        for bytes in [PART_BYTES + 1, PART_BYTES * 8] {
            let mut upload = PartUpload::begin(runtime.handle(), &stores, &location, "w").unwrap();
            let error = match upload.write_all(&vec![7; bytes]) {
                Ok(()) => upload.finish().unwrap_err().to_string(),
                Err(error) => {
                    upload.discard(&stores).unwrap();
                    error.to_string()
                }
            };
            assert!(
                error.starts_with("writing s3://b/k: access denied"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_local_file_of_an_attempt_that_fails_is_removed_however_it_fails() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let location = Location::parse_local(folder.path().join("out").to_str().unwrap()).unwrap();
        let stores = Stores::in_memory();
        let begin = || {
            let begun = PartUpload::begin(runtime.handle(), &stores, &location, "w");
            let mut upload = begun.unwrap();
            upload.write_all(&vec![7; PART_BYTES + 1]).unwrap();
            assert!(folder.path().join(".out.w").exists());
            upload
        };
        let count = || std::fs::read_dir(folder.path()).unwrap().count();
        drop(begin());
        assert_eq!(count(), 0);
        begin().discard(&stores).unwrap();
        assert_eq!(count(), 0);
        begin().finish().unwrap();
        assert_eq!(count(), 1);
    }

    #[test]
    fn a_full_disk_is_named_and_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        // Every write to this device fails for lack of space.
        std::os::unix::fs::symlink("/dev/full", folder.path().join(".out.w")).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let location = Location::parse_local(folder.path().join("out").to_str().unwrap()).unwrap();
        let stores = Stores::in_memory();
        let mut upload = PartUpload::begin(runtime.handle(), &stores, &location, "w").unwrap();
        upload.write_all(b"some").unwrap();
        let error = upload.finish().unwrap_err();
        assert!(error.is_transient());
        let text = error.to_string();
        let expected = format!("writing {location}: no space on ");
        let disk = text.strip_prefix(&expected).unwrap();
        let (mount, room) = disk.split_once(" (").unwrap();
        assert!(folder.path().starts_with(mount), "{text}");
        assert!(
            room.contains(" in all, ") && room.contains(" free)"),
            "{text}"
        );
        // The link to the device is in place of the attempt's file. It must be removed, so that it
        // does not keep the disk full.
        assert!(!folder.path().join(".out.w").is_symlink());
        assert!(
            room.ends_with("; the task had at least 4 bytes to write"),
            "{text}"
        );
    }
}
