//! The local disk as a store. Files are read by exactly their names. `object_store` does writes and
//! removals.
//!
//! `object_store` is not used for reading here. It converts names to urls, and uses some names,
//! such as `x#1`, for its own unfinished writes.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Extensions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

/// The whole local disk, from its root.
#[derive(Debug)]
pub(super) struct LocalFiles(pub(super) LocalFileSystem);

impl fmt::Display for LocalFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local files")
    }
}

/// Returns a value that changes when a file changes. It is made from the file's identity,
/// modification time and length.
pub(super) fn etag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let modified = modified.unwrap_or_default().as_micros();
    format!("\"{:x}-{modified:x}-{:x}\"", metadata.ino(), metadata.len())
}

fn failed(path: &Path, error: io::Error) -> object_store::Error {
    let (missing, no_folder) = (io::ErrorKind::NotFound, io::ErrorKind::NotADirectory);
    if error.kind() == missing || error.kind() == no_folder {
        return object_store::Error::NotFound {
            path: path.to_string(),
            source: error.into(),
        };
    }
    object_store::Error::Generic {
        store: "local files",
        source: error.into(),
    }
}

/// Opens a regular file. Anything else, such as a pipe, is not opened, because opening a pipe can
/// block forever.
fn open(path: &Path, options: &GetOptions) -> Result<GetResult> {
    let place = PathBuf::from("/").join(path.as_ref());
    let metadata = std::fs::metadata(&place).map_err(|e| failed(path, e))?;
    if metadata.is_dir() {
        let error = io::Error::new(io::ErrorKind::NotFound, "it is a folder");
        return Err(failed(path, error));
    }
    if !metadata.is_file() {
        return Err(failed(path, io::Error::other(NOT_A_FILE)));
    }
    let file = std::fs::File::open(&place).map_err(|e| failed(path, e))?;
    let metadata = file.metadata().map_err(|e| failed(path, e))?;
    let modified = metadata.modified().map_err(|e| failed(path, e))?;
    let meta = ObjectMeta {
        location: path.clone(),
        last_modified: modified.into(),
        size: metadata.len(),
        e_tag: Some(etag(&metadata)),
        version: None,
    };
    options.check_preconditions(&meta)?;
    // The file may be shorter now, so that the requested range is beyond its end.
    let range = options.range.as_ref();
    let range = range.map_or(Ok(0..meta.size), |range| range.as_range(meta.size));
    let range = range.map_err(|error| object_store::Error::Precondition {
        path: path.to_string(),
        source: error.into(),
    })?;
    Ok(GetResult {
        payload: GetResultPayload::File(file, place),
        meta,
        range,
        attributes: Attributes::default(),
        extensions: Extensions::default(),
    })
}

/// The message for pipes, sockets and devices. They are refused because their size is not known and
/// they can be read only once.
pub(super) const NOT_A_FILE: &str = "it is a pipe, a socket or a device, not a file";

#[async_trait::async_trait]
impl ObjectStore for LocalFiles {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.clone();
        let opened = tokio::task::spawn_blocking(move || open(&path, &options)).await;
        opened.map_err(|error| failed(location, io::Error::other(error)))?
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
