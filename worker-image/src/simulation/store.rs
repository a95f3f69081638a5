//! An object store in memory that is slow, fails, gives false answers and damages data. A seed
//! determines all of this. The store reports every executed change in order, so the simulation
//! knows its contents at any moment without reading it. It knows nothing about ledgers and tasks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, ObjectMeta, ObjectStore,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::Instant;

use super::faults::{Fate, Faults, Kind, Outcome};
use super::journal::Journal;
use super::rng::{Hash, Rng};

/// A change that was executed. It is visible to all clients from now on.
pub(super) enum Applied<'a> {
    /// An object exists under its name.
    Put { path: &'a str, bytes: &'a Bytes },
    /// An upload has become an object.
    Completed { path: &'a str, upload: &'a str },
    /// An upload was aborted.
    Aborted { upload: &'a str },
}

type Observer = Box<dyn Fn(&Applied<'_>) + Send + Sync>;

/// The store itself. Each process has clients of it.
pub(super) struct Server {
    seed: u64,
    journal: Journal,
    inner: InMemory,
    observer: Observer,
    state: Mutex<State>,
}

struct State {
    faults: Faults,
    /// The faults of calls during which no simulated time passes.
    task_faults: Faults,
    /// How often each call was made.
    calls: BTreeMap<(&'static str, String), u64>,
    /// When each object was first put.
    order: BTreeMap<String, u64>,
    outage_until: Option<Instant>,
}

pub(super) fn unavailable(status: &str) -> object_store::Error {
    object_store::Error::Generic {
        store: "simulated",
        source: format!("Server returned non-2xx status code: {status}: ").into(),
    }
}

impl Server {
    /// Returns an empty store. `observer` is called for each change when it happens.
    pub(super) fn new(seed: u64, faults: Faults, journal: Journal, observer: Observer) -> Self {
        Self {
            seed,
            journal,
            inner: InMemory::new(),
            observer,
            state: Mutex::new(State {
                faults,
                task_faults: Faults::default(),
                calls: BTreeMap::new(),
                order: BTreeMap::new(),
                outage_until: None,
            }),
        }
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Sets the faults of all later calls.
    pub(super) fn set_faults(&self, faults: Faults, task_faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.task_faults = task_faults;
        state.outage_until = None;
    }

    /// Makes all calls before this time fail.
    pub(super) fn fails_until(&self, until: Instant) {
        self.state().outage_until = Some(until);
    }

    pub(super) fn is_out(&self) -> bool {
        let until = self.state().outage_until;
        until.is_some_and(|until| Instant::now() < until)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Determines the fault of this call.
    pub(super) fn fate(
        &self,
        kind: Kind,
        call: &'static str,
        path: &str,
        takes_time: bool,
    ) -> Fate {
        let is_out = self.is_out();
        let mut state = self.state();
        let faults = if takes_time {
            state.faults
        } else {
            state.task_faults
        };
        let count = state.calls.entry((call, path.to_owned())).or_default();
        *count += 1;
        let mut hash = Hash::new();
        hash.bytes(call.as_bytes());
        hash.bytes(path.as_bytes());
        hash.bytes(&count.to_le_bytes());
        let mut rng = Rng::new(self.seed ^ hash.value());
        let faults = if is_out {
            // During an outage, the caller waits until its timeout, or gets an error at once.
            Faults {
                refused: if takes_time { 700 } else { 1_000 },
                hung: 1_000,
                ..faults
            }
        } else {
            faults
        };
        faults.fate(&mut rng, kind, path)
    }

    // The effect on the store, which is immediate and final.

    pub(super) fn put(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let put = at_once(self.inner.put_opts(path, payload, options))?;
        self.appeared(path);
        (self.observer)(&Applied::Put {
            path: path.as_ref(),
            bytes: &bytes,
        });
        Ok(put)
    }

    pub(super) fn get(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        at_once(self.inner.get_opts(path, options))
    }

    /// Returns a listing that lacks the newest `hidden` objects.
    pub(super) fn list(&self, prefix: Option<&Path>, hidden: usize) -> ListResult {
        let root = Path::default();
        let prefix = prefix.unwrap_or(&root);
        let hidden = self.newest(hidden);
        let mut listed = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: object_store::Extensions::default(),
        };
        for object in self.all(prefix) {
            if hidden.contains(&object.location.to_string()) {
                continue;
            }
            let Some(mut parts) = object.location.prefix_match(prefix) else {
                continue;
            };
            let first = parts.next();
            let is_deeper = parts.next().is_some();
            match first {
                Some(part) if is_deeper => {
                    let folder = prefix.clone().join(part);
                    if listed.common_prefixes.last() != Some(&folder) {
                        listed.common_prefixes.push(folder);
                    }
                }
                Some(_) | None => listed.objects.push(object.clone()),
            }
        }
        listed
    }

    /// Returns all objects in a folder, ordered by name.
    pub(super) fn all(&self, prefix: &Path) -> Vec<ObjectMeta> {
        let listed = self.inner.list(Some(prefix)).collect::<Vec<_>>();
        let listed = listed.now_or_never().unwrap_or_default();
        listed.into_iter().flatten().collect()
    }

    /// Returns the bytes of an object.
    pub(super) fn bytes(&self, path: &Path) -> Option<Bytes> {
        let found = self.get(path, GetOptions::default()).ok()?;
        found.bytes().now_or_never()?.ok()
    }

    pub(super) fn delete(&self, path: &Path) {
        let paths = futures::stream::iter([Ok(path.clone())]).boxed();
        let removed = self.inner.delete_stream(paths).collect::<Vec<_>>();
        let _removed = removed.now_or_never();
        self.state().order.remove(path.as_ref());
    }

    /// Puts an object before the run begins: the observer is not called for it.
    pub(super) fn place(&self, path: &str, bytes: Bytes) {
        let (path, payload) = (Path::parse(path).unwrap(), PutPayload::from(bytes));
        let _put = at_once(self.inner.put_opts(&path, payload, PutOptions::default()));
    }

    /// Flips a bit of a stored object.
    pub(super) fn damage(&self, path: &Path, which: u64) {
        let Some(bytes) = self.bytes(path) else {
            return;
        };
        let payload = PutPayload::from(flipped(&bytes, which));
        let _put = at_once(self.inner.put_opts(path, payload, PutOptions::default()));
    }

    pub(super) fn create_upload(&self, path: &Path) -> Result<MultipartId> {
        at_once(self.inner.create_multipart(path))
    }

    pub(super) fn put_part(
        &self,
        path: &Path,
        upload: &MultipartId,
        index: usize,
        part: PutPayload,
    ) -> Result<PartId> {
        at_once(self.inner.put_part(path, upload, index, part))
    }

    pub(super) fn complete(
        &self,
        path: &Path,
        upload: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let done = at_once(self.inner.complete_multipart(path, upload, parts))?;
        self.appeared(path);
        (self.observer)(&Applied::Completed {
            path: path.as_ref(),
            upload,
        });
        Ok(done)
    }

    pub(super) fn abort(&self, path: &Path, upload: &MultipartId) -> Result<()> {
        at_once(self.inner.abort_multipart(path, upload))?;
        (self.observer)(&Applied::Aborted { upload });
        Ok(())
    }

    fn appeared(&self, path: &Path) {
        let mut state = self.state();
        let next = state.order.len() as u64;
        state.order.entry(path.to_string()).or_insert(next);
    }

    fn newest(&self, count: usize) -> Vec<String> {
        let state = self.state();
        let mut by_age: Vec<(&String, &u64)> = state.order.iter().collect();
        by_age.sort_by_key(|(_, order)| std::cmp::Reverse(**order));
        let newest = by_age.into_iter().take(count);
        newest.map(|(path, _)| path.clone()).collect()
    }
}

/// Returns the result of a call to the store in memory, which never waits.
fn at_once<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    call.now_or_never()
        .unwrap_or_else(|| Err(unavailable("500 the store in memory waits")))
}

/// Returns what the client gets if the call ends with `answer`.
pub(super) fn answered<T>(
    outcome: Outcome,
    path: &str,
    carry_out: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let there = || object_store::Error::AlreadyExists {
        path: path.to_owned(),
        source: "412".into(),
    };
    match outcome {
        Outcome::Answered | Outcome::Stale(_) | Outcome::Damaged(_) | Outcome::Short => carry_out(),
        Outcome::Refused => Err(unavailable("503 Service Unavailable")),
        Outcome::ReplyLost => {
            let _lost = carry_out();
            Err(unavailable("500 Internal Server Error"))
        }
        Outcome::FalselyThere { lands } => {
            if lands {
                let _lost = carry_out();
            }
            Err(there())
        }
        Outcome::Hung { lands_after } => {
            if lands_after.is_some() {
                let _late = carry_out();
            }
            Err(unavailable("504 Gateway Timeout"))
        }
    }
}

/// Returns the answer with other bytes.
pub(super) fn with_bytes(
    answer: GetResult,
    change: impl FnOnce(&Bytes) -> Bytes,
) -> Result<GetResult> {
    let (meta, range) = (answer.meta.clone(), answer.range.clone());
    let (attributes, extensions) = (answer.attributes.clone(), answer.extensions.clone());
    let bytes = change(&at_once(answer.bytes())?);
    let stream = futures::stream::once(std::future::ready(Ok(bytes))).boxed();
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream),
        meta,
        range,
        attributes,
        extensions,
    })
}

/// Returns the bytes with one bit flipped.
pub(super) fn flipped(bytes: &Bytes, which: u64) -> Bytes {
    let mut bytes = bytes.to_vec();
    let position = usize::try_from(which % (bytes.len() as u64).max(1)).unwrap_or(0);
    if let Some(byte) = bytes.get_mut(position) {
        *byte ^= 1 << (which >> 32 & 7);
    }
    Bytes::from(bytes)
}
