//! Reads and writes the objects of a bucket from the process of a test. This module uses the plain
//! S3 client and not our storage layer.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::cluster::Environment;

/// The bucket for inputs and outputs, which `make cluster` creates.
pub const DATA: &str = "zephyr-data";
/// The bucket for intermediate data and ledgers, which `make cluster` creates.
pub const SCRATCH: &str = "zephyr-scratch";

/// A bucket.
pub struct Bucket {
    store: AmazonS3,
}

impl Bucket {
    /// Opens a bucket of the test cluster's S3 server.
    pub fn open(environment: &Environment, name: &str) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_bucket_name(name)
            .with_endpoint(&environment.s3_host_endpoint)
            .with_region(&environment.region)
            .with_access_key_id(&environment.access_key)
            .with_secret_access_key(&environment.secret_key)
            .with_allow_http(true)
            .build()
            .with_context(|| format!("open bucket {name}"))?;
        Ok(Self { store })
    }

    /// Writes an object.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        self.store
            .put(&Path::parse(key)?, bytes.into().into())
            .await
            .with_context(|| format!("put {key}"))?;
        Ok(())
    }

    /// Reads an object.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        let read = self
            .store
            .get(&Path::parse(key)?)
            .await
            .with_context(|| format!("get {key}"))?;
        Ok(read.bytes().await?)
    }

    /// Returns all keys below a prefix, in order.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let found: Vec<_> = self
            .store
            .list(Some(&Path::parse(prefix)?))
            .try_collect()
            .await?;
        let mut keys: Vec<_> = found
            .into_iter()
            .map(|object| object.location.to_string())
            .collect();
        keys.sort();
        Ok(keys)
    }

    /// Reads all objects below a prefix and returns their bytes, by key.
    pub async fn read_all(&self, prefix: &str) -> Result<BTreeMap<String, Bytes>> {
        let mut all = BTreeMap::new();
        for key in self.keys(prefix).await? {
            let bytes = self.get(&key).await?;
            all.insert(key, bytes);
        }
        Ok(all)
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.store
            .delete(&Path::parse(key)?)
            .await
            .with_context(|| format!("delete {key}"))?;
        Ok(())
    }
}
