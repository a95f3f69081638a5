//! A store for tests that loses answers, fails, lies and damages. Never part of a program.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use crate::storage::{Store, Stores};

/// What happens to one call.
pub(crate) enum Trick {
    Pass,
    /// The call does not reach the store.
    Fail,
    /// The call is carried out and its answer lost.
    LoseReply,
    /// The call is carried out, and answered as if the object had been there.
    SayExists,
    /// The call is not carried out, and answered as if the object were there.
    SayConflict,
    /// What is read has its first byte flipped.
    Damage,
    /// A put that was to be only where there is nothing is a put like any other.
    Overwrite,
    /// A conditional put is answered as unknown; all else is carried out.
    SayNotImplemented,
    /// The call is not allowed.
    Deny,
}

pub(crate) type Tricks =
    Arc<dyn Fn(&'static str, &Path) -> BoxFuture<'static, Trick> + Send + Sync>;

/// A store in memory that does not behave.
struct TrickyStore {
    inner: Arc<InMemory>,
    tricks: Tricks,
}

impl fmt::Debug for TrickyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrickyStore")
    }
}

impl fmt::Display for TrickyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrickyStore")
    }
}

fn unavailable() -> object_store::Error {
    object_store::Error::Generic {
        store: "tricky",
        source: "Server returned non-2xx status code: 503 Service Unavailable: ".into(),
    }
}

fn not_implemented() -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: "a conditional put".to_owned(),
        implementer: "TrickyStore".to_owned(),
    }
}

fn exists(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists {
        path: path.to_string(),
        source: "412".into(),
    }
}

impl TrickyStore {
    async fn tricked<T>(
        &self,
        call: &'static str,
        path: &Path,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        play((self.tricks)(call, path).await, path, answer).await
    }
}

async fn play<T>(trick: Trick, path: &Path, answer: impl Future<Output = Result<T>>) -> Result<T> {
    match trick {
        Trick::Pass | Trick::Damage | Trick::Overwrite | Trick::SayNotImplemented => answer.await,
        Trick::Deny => Err(object_store::Error::PermissionDenied {
            path: path.to_string(),
            source: "Server returned non-2xx status code: 403 Forbidden: ".into(),
        }),
        Trick::Fail => Err(unavailable()),
        Trick::LoseReply => {
            let _ = answer.await;
            Err(unavailable())
        }
        Trick::SayExists => {
            let _ = answer.await;
            Err(exists(path))
        }
        Trick::SayConflict => Err(exists(path)),
    }
}

async fn damaged(answer: GetResult) -> Result<GetResult> {
    let GetResult {
        meta,
        range,
        attributes,
        extensions,
        ..
    } = &answer;
    let (meta, range) = (meta.clone(), range.clone());
    let (attributes, extensions) = (attributes.clone(), extensions.clone());
    let mut bytes = answer.bytes().await?.to_vec();
    if let Some(first) = bytes.first_mut() {
        *first ^= 1;
    }
    let stream = futures::stream::once(std::future::ready(Ok(Bytes::from(bytes)))).boxed();
    Ok(GetResult {
        payload: GetResultPayload::Stream(stream),
        meta,
        range,
        attributes,
        extensions,
    })
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl ObjectStore for TrickyStore {
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
        Box::pin(async move {
            let trick = (self.tricks)("put", location).await;
            if matches!(trick, Trick::SayNotImplemented) && opts.mode == PutMode::Create {
                return Err(not_implemented());
            }
            let overwrites = matches!(trick, Trick::Overwrite);
            let opts = if overwrites {
                PutOptions::default()
            } else {
                opts
            };
            play(
                trick,
                location,
                self.inner.put_opts(location, payload, opts),
            )
            .await
        })
    }

    fn put_multipart_opts<'a, 'b, 'c>(
        &'a self,
        location: &'b Path,
        opts: PutMultipartOptions,
    ) -> Answer<'c, Box<dyn MultipartUpload>>
    where
        'a: 'c,
        'b: 'c,
    {
        self.inner.put_multipart_opts(location, opts)
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
        Box::pin(async move {
            let trick = (self.tricks)("get", location).await;
            let damages = matches!(trick, Trick::Damage);
            let answer = play(trick, location, self.inner.get_opts(location, options)).await?;
            if damages {
                damaged(answer).await
            } else {
                Ok(answer)
            }
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (inner, tricks) = (Arc::clone(&self.inner), Arc::clone(&self.tricks));
        locations
            .then(move |path| {
                let (inner, tricks) = (Arc::clone(&inner), Arc::clone(&tricks));
                async move {
                    let path = path?;
                    let trick = tricks("delete", &path).await;
                    play(trick, &path, inner.delete(&path)).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let path = prefix.cloned().unwrap_or_default();
        let trick = (self.tricks)("list", &path);
        let listed = self.inner.list(prefix);
        let listed = async move {
            match play(trick.await, &path, std::future::ready(Ok(()))).await {
                Ok(()) => listed,
                Err(error) => futures::stream::once(std::future::ready(Err(error))).boxed(),
            }
        };
        futures::stream::once(listed).flatten().boxed()
    }

    fn list_with_delimiter<'a, 'b, 'c>(&'a self, prefix: Option<&'b Path>) -> Answer<'c, ListResult>
    where
        'a: 'c,
        'b: 'c,
    {
        Box::pin(async move {
            let path = prefix.cloned().unwrap_or_default();
            self.tricked("list", &path, self.inner.list_with_delimiter(prefix))
                .await
        })
    }

    fn copy_opts<'a, 'b, 'c, 'd>(
        &'a self,
        from: &'b Path,
        to: &'c Path,
        options: CopyOptions,
    ) -> Answer<'d, ()>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
    {
        self.inner.copy_opts(from, to, options)
    }
}

/// Stores of which `s3://b` is `inner`, with these tricks.
pub(crate) fn tricky(inner: &Arc<InMemory>, tricks: Tricks) -> Stores {
    let store: Arc<dyn ObjectStore> = Arc::new(TrickyStore {
        inner: Arc::clone(inner),
        tricks,
    });
    let store = Store::new(Arc::clone(&store), store, None);
    Stores::in_memory()
        .with_store("s3://b", store)
        .with_patience(Duration::from_secs(20))
}
