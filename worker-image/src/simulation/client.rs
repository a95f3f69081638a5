//! The store client of a simulated process. Its calls take time, pause together with the process,
//! and end in the way that the seed chooses. Calls that are in progress when the process dies may
//! still be executed. This module decides nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;
use tokio::time::sleep;
use zephyr_store::chance::Chance;
use zephyr_store::storage::{Store, Stores};

use super::faults::{Fate, Kind, Outcome, REQUEST_TIMEOUT};
use super::ledger_defects::{Conduct, DeferredPut, DeferredPuts, as_if_put};
use super::process::Process;
use super::store::{Server, answered, flipped, unavailable, with_bytes};
use crate::defect::{self, Defect};

/// The store client of one process.
#[derive(Clone)]
pub(super) struct Client {
    server: Arc<Server>,
    /// The process. `None` for the thread of a task, on which no simulated time passes.
    process: Option<Process>,
    /// Puts that were answered but not executed. This happens only if a mistake is seeded.
    deferred_puts: DeferredPuts,
    /// Whether a read that ends too early is reported as a changed object, which is a mistake that
    /// tests seed. This is set when the client is made, because some reads run on threads on which
    /// nothing is seeded.
    mistakes_short_for_changed: bool,
}

impl Client {
    /// Executes the put, and then answers.
    pub(super) async fn put_honestly(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let kind = if options.mode == PutMode::Create {
            Kind::WriteIfAbsent
        } else {
            Kind::Write
        };
        let place = path.clone();
        self.call(kind, "put", path.as_ref(), move |server, _| {
            server.put(&place, payload, options)
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        kind: Kind,
        call: &'static str,
        path: &str,
        apply: impl FnOnce(&Server, Outcome) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(process) = &self.process else {
            let Fate { outcome, .. } = self.server.fate(kind, call, path, false);
            return answered(outcome, path, || apply(&self.server, outcome));
        };
        process.awake().await;
        let fate = self.server.fate(kind, call, path, true);
        let (answer, answers) = oneshot::channel();
        let (server, path) = (Arc::clone(&self.server), path.to_owned());
        let line = format!("{} {call} {path}: {:?}", process.name(), fate.outcome);
        let hangs = matches!(fate.outcome, Outcome::Hung { .. });
        tokio::spawn(async move {
            sleep(fate.there + lateness(fate.outcome)).await;
            let result = answered(fate.outcome, &path, || {
                let result = apply(&server, fate.outcome);
                let is_done = result.is_ok();
                server.journal().note(&format!("{line}, done: {is_done}"));
                result
            });
            sleep(fate.back).await;
            // The process may have died.
            let _dead = answer.send(result);
        });
        let result = if hangs {
            sleep(REQUEST_TIMEOUT).await;
            Err(unavailable("504 Gateway Timeout"))
        } else {
            let answer = answers.await;
            answer.unwrap_or_else(|_| Err(unavailable("500 the store is gone")))
        };
        process.awake().await;
        result
    }
}

fn lateness(outcome: Outcome) -> Duration {
    match outcome {
        Outcome::Hung { lands_after } => lands_after.unwrap_or_default(),
        Outcome::Answered
        | Outcome::Refused
        | Outcome::ReplyLost
        | Outcome::FalselyThere { .. }
        | Outcome::Stale(_)
        | Outcome::Short
        | Outcome::Damaged(_) => Duration::ZERO,
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl ObjectStore for Client {
    fn put_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Answer<'c, PutResult>
    where
        'a: 'c,
        'b: 'c,
    {
        let conduct = Conduct::of(location, &payload);
        Box::pin(async move {
            let deferred = || DeferredPut::new(location, payload.clone(), opts.clone());
            match conduct {
                Conduct::Honest => self.put_honestly(location, payload, opts).await,
                Conduct::OnlyAnswered => Ok(as_if_put()),
                Conduct::AnsweredFirst => {
                    tokio::spawn(deferred().make(self.clone()));
                    Ok(as_if_put())
                }
                Conduct::Held => {
                    self.deferred_puts.hold(deferred());
                    Ok(as_if_put())
                }
                Conduct::Releasing => {
                    let answer = self.put_honestly(location, payload, opts).await;
                    if matches!(
                        answer,
                        Ok(_) | Err(object_store::Error::AlreadyExists { .. })
                    ) {
                        for deferred in self.deferred_puts.take() {
                            deferred.make(self.clone()).await;
                        }
                    }
                    answer
                }
            }
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        _: &'b Path,
        _: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(std::future::ready(Err(unavailable("501 not simulated"))))
    }

    fn get_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        options: GetOptions,
    ) -> Answer<'c, GetResult>
    where
        'a: 'c,
        'b: 'c,
    {
        let path = location.clone();
        let mistakes_short_for_changed = options.range.is_some() && self.mistakes_short_for_changed;
        Box::pin(self.call(
            Kind::Read,
            "get",
            location.as_ref(),
            move |server, outcome| {
                let is_head = options.head;
                let found = server.get(&path, options)?;
                if is_head {
                    return Ok(found);
                }
                if let Outcome::Damaged(which) = outcome {
                    return with_bytes(found, |bytes| flipped(bytes, which));
                }
                if outcome == Outcome::Short && mistakes_short_for_changed {
                    return Err(object_store::Error::Precondition {
                        path: path.to_string(),
                        source: "412".into(),
                    });
                }
                if outcome == Outcome::Short {
                    return with_bytes(found, |bytes| bytes.slice(..bytes.len() / 2));
                }
                Ok(found)
            },
        ))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let client = self.clone();
        locations
            .then(move |path| {
                let client = client.clone();
                async move {
                    let path = path?;
                    let place = path.clone();
                    let delete = move |server: &Server, _| {
                        server.delete(&place);
                        Ok(())
                    };
                    client
                        .call(Kind::Write, "delete", path.as_ref(), delete)
                        .await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let all = self.server.all(prefix.unwrap_or(&Path::default()));
        futures::stream::iter(all.into_iter().map(Ok)).boxed()
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
    {
        let prefix = prefix.cloned();
        Box::pin(async move {
            let path = prefix.clone().unwrap_or_default();
            let list = move |server: &Server, outcome| {
                let hidden = if let Outcome::Stale(hidden) = outcome {
                    hidden
                } else {
                    0
                };
                Ok(server.list(prefix.as_ref(), hidden))
            };
            self.call(Kind::List, "list", path.as_ref(), list).await
        })
    }

    fn copy_opts<'a, 'b, 'c, 'd>(
        &'a self,
        _: &'b Path,
        _: &'c Path,
        _: CopyOptions,
    ) -> Answer<'d, ()>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
    {
        Box::pin(std::future::ready(Err(unavailable("501 not simulated"))))
    }
}

#[tonic::async_trait]
impl MultipartStore for Client {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let place = path.clone();
        self.call(Kind::Write, "create", path.as_ref(), move |server, _| {
            server.create_upload(&place)
        })
        .await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let (place, upload) = (path.clone(), id.clone());
        self.call(Kind::Write, "part", path.as_ref(), move |server, _| {
            server.put_part(&place, &upload, index, data)
        })
        .await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let (place, upload) = (path.clone(), id.clone());
        self.call(Kind::Write, "complete", path.as_ref(), move |server, _| {
            server.complete(&place, &upload, parts)
        })
        .await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let (place, upload) = (path.clone(), id.clone());
        self.call(Kind::Write, "abort", path.as_ref(), move |server, _| {
            server.abort(&place, &upload)
        })
        .await
    }
}

/// Returns the clients of one process. All `buckets` are served by this server.
pub(super) fn stores(
    server: &Arc<Server>,
    process: Option<&Process>,
    chance: Chance,
    buckets: &[&str],
) -> Stores {
    let stores = match process {
        Some(_) => Stores::new(BTreeMap::new()),
        // For the thread of a task, the pauses between tries use real time.
        None => Stores::in_memory(),
    };
    let stores = stores.with_chance(chance);
    buckets.iter().fold(stores, |stores, bucket| {
        let client = Client {
            server: Arc::clone(server),
            process: process.cloned(),
            deferred_puts: DeferredPuts::default(),
            mistakes_short_for_changed: defect::is(Defect::ShortReadNotRepeated),
        };
        stores.with_store(bucket, Store::remote(Arc::new(client)))
    })
}
