//! Knows the address of a job's own objects: the folder `{storage.uri}/{job uid}/`. This module
//! reads and writes nothing.

use zephyr_engine::id::JobUid;

use crate::storage::{Location, LocationError, Stores};

/// A job's folder in storage, with the clients to reach it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobStorage {
    stores: Stores,
    root: Location,
    job: JobUid,
}

impl JobStorage {
    /// Returns the folder of a job under `spec.storage.uri`.
    pub fn new(stores: Stores, storage_uri: &str, job: JobUid) -> Result<Self, LocationError> {
        let root = Location::parse_local(storage_uri)?.join(job.as_str())?;
        Ok(Self { stores, root, job })
    }

    /// Returns the clients.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Returns the address of the folder.
    pub fn root(&self) -> &Location {
        &self.root
    }

    /// Returns the uid of the job.
    pub fn job(&self) -> &JobUid {
        &self.job
    }

    /// Returns the address of an object in the folder.
    pub fn at(&self, relative: &str) -> Result<Location, LocationError> {
        self.root.join(relative)
    }
}
