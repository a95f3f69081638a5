//! Defines mistakes of a ledger. The store client makes them in place of the ledger: it answers
//! that an object was put although it was not, or not yet. It makes a mistake only if a test seeds
//! the mistake.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, PutOptions, PutPayload, PutResult};
use tokio::time::sleep;
use zephyr_store::ledger::{Kind, decode};

use super::client::Client;
use crate::defect::{self, Defect};

/// How often a put that was already answered is tried.
const TRIES: u32 = 20;
/// The pause between two of these tries.
const PAUSE: Duration = Duration::from_millis(100);

/// A put that was not executed yet.
#[derive(Clone)]
pub(super) struct DeferredPut {
    path: Path,
    payload: PutPayload,
    options: PutOptions,
}

/// The puts of one process that were answered but not executed.
#[derive(Clone, Default)]
pub(super) struct DeferredPuts(Arc<Mutex<Vec<DeferredPut>>>);

/// How a client handles a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conduct {
    /// It is executed, then answered.
    Honest,
    /// It is answered and never executed.
    OnlyAnswered,
    /// It is answered, then executed.
    AnsweredFirst,
    /// It is answered, and executed after the next snapshot.
    Held,
    /// It is executed, and after it the delayed puts are executed.
    Releasing,
}

impl Conduct {
    /// Returns the effect that the seeded mistake, if any, has on this put.
    pub(super) fn of(path: &Path, payload: &PutPayload) -> Self {
        let folder = path.as_ref().split_once("/epochs/");
        let folder = folder.and_then(|(_, object)| object.split('/').nth(1));
        let is_log = folder == Some("log");
        let kind = || decode(&Bytes::from(payload.clone())).map(|object| object.header.kind);
        if is_log && defect::is(Defect::NoSeal) && kind() == Ok(Kind::Seal) {
            return Self::OnlyAnswered;
        }
        if is_log && defect::is(Defect::AckBeforeThePut) && kind() == Ok(Kind::Log) {
            return Self::AnsweredFirst;
        }
        if !defect::is(Defect::SnapshotHalfWritten) {
            return Self::Honest;
        }
        match folder {
            Some("merged") => Self::Held,
            Some("snapshots") => Self::Releasing,
            Some(_) | None => Self::Honest,
        }
    }
}

impl DeferredPut {
    pub(super) fn new(path: &Path, payload: PutPayload, options: PutOptions) -> Self {
        Self {
            path: path.clone(),
            payload,
            options,
        }
    }

    /// Executes the put with as many retries as the ledger would use.
    pub(super) async fn make(self, client: Client) {
        for _ in 0..TRIES {
            let (payload, options) = (self.payload.clone(), self.options.clone());
            match client.put_honestly(&self.path, payload, options).await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => return,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

impl DeferredPuts {
    pub(super) fn hold(&self, deferred: DeferredPut) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(deferred);
    }

    pub(super) fn take(&self) -> Vec<DeferredPut> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Returns the answer to a put that was not executed.
pub(super) fn as_if_put() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
        extensions: object_store::Extensions::default(),
    }
}
