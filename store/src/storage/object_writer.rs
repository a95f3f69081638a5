//! Writes one whole object from a thread that may block. A small object is written with one call, a
//! large one in parts. Only this writer uses the name, so no other object is replaced.

use std::io::{self, Write};

use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use crate::storage::upload::PART_BYTES;
use crate::storage::{
    Cause, Completed, Location, PartUpload, StorageError, Stores, complete, persist,
};

/// An object that is being written. Nothing appears under its name before [`ObjectWriter::finish`].
pub struct ObjectWriter {
    runtime: Handle,
    stores: Stores,
    location: Location,
    small: Vec<u8>,
    large: Option<PartUpload>,
}

impl ObjectWriter {
    /// Begins an object. No other writer may use its name.
    pub fn new(runtime: &Handle, stores: &Stores, location: &Location) -> Self {
        Self {
            runtime: runtime.clone(),
            stores: stores.clone(),
            location: location.clone(),
            small: Vec::new(),
            large: None,
        }
    }

    /// Ends the object. Returns its size and CRC-32C after it is stored.
    pub fn finish(self) -> Result<(u64, u32), StorageError> {
        let Some(upload) = self.large else {
            let (bytes, crc32c) = (self.small.len() as u64, crc32c::crc32c(&self.small));
            let payload = PutPayload::from(self.small);
            let store = self.stores.open(&self.location)?.objects;
            let put = persist(&self.stores, "writing", &self.location, || {
                store.put(self.location.path(), payload.clone())
            });
            self.runtime
                .block_on(put)
                .map_err(|error| error.after_writing(bytes))?;
            return Ok((bytes, crc32c));
        };
        let uploaded = upload.finish()?;
        let completed =
            self.runtime
                .block_on(complete(&self.stores, &self.location, &uploaded.place))?;
        if completed == Completed::Gone {
            // Either a call whose answer was lost completed the upload, or a clean-up aborted it.
            let size = self
                .runtime
                .block_on(crate::storage::size_of(&self.stores, &self.location))?;
            if size != Some(uploaded.bytes) {
                return Err(StorageError::new(
                    "writing",
                    &self.location,
                    Cause::NoSuchUpload,
                ));
            }
        }
        Ok((uploaded.bytes, uploaded.crc32c))
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(upload) = &mut self.large {
            return upload.write(bytes);
        }
        self.small.extend_from_slice(bytes);
        if self.small.len() >= PART_BYTES {
            let mut upload = PartUpload::begin(&self.runtime, &self.stores, &self.location, "part")
                .map_err(io::Error::other)?;
            upload.write_all(&std::mem::take(&mut self.small))?;
            self.large = Some(upload);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
