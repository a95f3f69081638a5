//! The connection of one operator process to the API server: a tower service with delays and
//! faults.

use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::time::sleep;
use tower::{BoxError, Service};

use super::api::answer::Answer;
use super::api::kinds::{CONFIG_MAPS, DEPLOYMENTS, STATEFUL_SETS};
use super::api::request::{ApiRequest, Verb};
use super::api::store::Actor;
use super::api::{ApiServer, respond, watch};
use super::faults::{Fault, Faults};
use crate::clock::Clock;
use crate::defect::{self, Defect};
use crate::startup::fake;

/// The schema of our group, as the API server publishes it.
static PUBLISHED: LazyLock<String> = LazyLock::new(|| fake::published().to_string());

/// The delay from the client to the server, and also back.
const TRAVEL: Duration = Duration::from_millis(1);
/// How long a client waits for bytes that do not arrive: the default of `kube::Config`.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

/// How long a silent watch stays silent.
const DEAF: Duration = Duration::from_mins(2);

/// The connection of one process. It ends with the process.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) server: ApiServer,
    pub(super) faults: Faults,
    pub(super) clock: Clock,
    pub(super) process: u32,
}

impl Service<Request<kube::client::Body>> for Wire {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        self.clone().carry(request).boxed()
    }
}

impl Wire {
    async fn carry(self, request: Request<kube::client::Body>) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        sleep(TRAVEL).await;
        // The request for the CRD. It always gets the CRD of this release, and no fault.
        if parts.uri.path() == fake::PUBLISHED_AT {
            return Ok(Response::new(Body::from(PUBLISHED.as_str())));
        }
        let request = match ApiRequest::read(&parts, &body) {
            Ok(request) => with_its_mistake(request),
            Err(why) => return Ok(respond(&Answer::fail(404, "NotFound", &why))),
        };
        let (number, fault) = self.faults.meet(self.process, self.clock.now(), &request);
        match fault {
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::Reset) => Err(broken("connection reset before the request")),
            Some(Fault::Hang) => {
                sleep(READ_TIMEOUT).await;
                Err(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)))
            }
            Some(Fault::Status(code)) => Ok(respond(&refusal(code, &request, None))),
            Some(Fault::TooMany(seconds)) => Ok(respond(&refusal(429, &request, Some(seconds)))),
            // All other faults happen after the request has arrived.
            fault => self.arrive(number, &request, fault).await,
        }
    }

    /// Executes the request, and applies its fault to the answer. Faults of watches do not affect
    /// other requests.
    async fn arrive(
        &self,
        number: usize,
        request: &ApiRequest,
        fault: Option<Fault>,
    ) -> Result<Response<Body>, BoxError> {
        let answer = match fault {
            // A watch changes nothing, so it is opened when its first line is read.
            _ if request.verb == Verb::Watch => None,
            Some(Fault::Stale(versions)) if request.verb == Verb::List => {
                Some(self.server.old_list(request, versions))
            }
            _ => Some(self.server.answer(request, Actor::Operator(self.process))),
        };
        if let Some(answer) = &answer {
            self.faults.answered(number, answer.code);
            sleep(TRAVEL).await;
        }
        match (fault, answer) {
            (Some(Fault::CrashAfter), _) => self.die().await,
            (Some(Fault::ReplyLost), _) => Err(broken("connection reset before the answer")),
            (_, Some(answer)) => Ok(respond(&answer)),
            (fault, None) => {
                self.faults.answered(number, 200);
                Ok(self.watch(request, fault))
            }
        }
    }

    /// Opens a watch, and applies its fault.
    fn watch(&self, request: &ApiRequest, fault: Option<Fault>) -> Response<Body> {
        let lines = match watch::open(&self.server, request) {
            Ok(lines) => lines.map(Ok).boxed(),
            Err(answer) => return respond(&answer),
        };
        let lines = match fault {
            Some(Fault::Drop(after)) => lines
                .take(usize::try_from(after).unwrap_or(usize::MAX))
                .boxed(),
            Some(Fault::Cut) => {
                let cut = |line: Result<Bytes, std::io::Error>| {
                    line.map(|line| line.slice(..line.len() / 2))
                };
                lines
                    .take(1)
                    .map(cut)
                    .chain(stream::iter([Err(std::io::Error::from(
                        std::io::ErrorKind::UnexpectedEof,
                    ))]))
                    .boxed()
            }
            Some(Fault::Hold(seconds)) => {
                let wait = sleep(Duration::from_secs(seconds.into())).into_stream();
                wait.filter_map(|()| async { None }).chain(lines).boxed()
            }
            Some(Fault::Deaf(after)) => {
                let mut passed = 0;
                let pass = move |line| {
                    passed += 1;
                    let wait = if passed == after + 1 {
                        DEAF
                    } else {
                        Duration::ZERO
                    };
                    async move {
                        sleep(wait).await;
                        line
                    }
                };
                lines.then(pass).boxed()
            }
            Some(Fault::Expire) => {
                let (version, oldest) = {
                    let mut store = self.server.lock();
                    store.compact();
                    (store.version(), store.oldest())
                };
                let line = Bytes::from(watch::expired_line(version.saturating_sub(1), oldest));
                stream::iter([Ok(line)]).boxed()
            }
            _ => lines,
        };
        let mut response = Response::new(watch::body(lines));
        let json = axum::http::HeaderValue::from_static("application/json");
        response
            .headers_mut()
            .insert(axum::http::header::CONTENT_TYPE, json);
        response
    }

    /// Ends the process.
    async fn die(&self) -> Result<Response<Body>, BoxError> {
        self.faults.crash(self.process);
        std::future::pending().await
    }
}

/// Changes the request into the one that an operator with a seeded mistake would send. With this
/// mistake, objects of all generations have the same names. The mistake cannot be seeded in the
/// code that makes the names, because that code is in another crate.
fn with_its_mistake(mut request: ApiRequest) -> ApiRequest {
    let is_child = [CONFIG_MAPS, DEPLOYMENTS, STATEFUL_SETS].contains(&request.kind);
    if defect::is(Defect::NameWithoutGeneration) && is_child {
        let plain = |name: &str| {
            name.rsplit_once("-g")
                .map_or(name, |(plain, _)| plain)
                .to_owned()
        };
        request.name = request.name.as_deref().map(plain);
        if let Some(name) = request.body["metadata"]["name"].as_str().map(plain) {
            request.body["metadata"]["name"] = serde_json::json!(name);
        }
    }
    request
}

fn broken(what: &'static str) -> BoxError {
    Box::new(std::io::Error::new(
        std::io::ErrorKind::ConnectionReset,
        what,
    ))
}

/// Returns an error in the words of the API server, or of a proxy in front of it.
fn refusal(code: u16, request: &ApiRequest, retry_after: Option<u32>) -> Answer {
    let name = request
        .name
        .as_deref()
        .or_else(|| request.body["metadata"]["name"].as_str())
        .unwrap_or("");
    let mut answer = match code {
        // A real API server updates the object that counts the quota. Two creations at the same
        // time can conflict there.
        409 if request.verb == Verb::Create => Answer::fail(
            409,
            "Conflict",
            "Operation cannot be fulfilled on resourcequotas \"quota\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        409 => Answer::conflict(
            request.kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        422 => Answer::invalid(
            request.kind,
            name,
            "spec",
            "FieldValueInvalid",
            "Invalid value: refused by a webhook",
        ),
        410 => Answer::gone("too old resource version"),
        429 => Answer::fail(
            429,
            "TooManyRequests",
            "too many requests, please try again later",
        ),
        500 => Answer::fail(
            500,
            "InternalError",
            "Internal error occurred: etcdserver: leader changed",
        ),
        503 => Answer::fail(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => Answer::fail(
            504,
            "Timeout",
            "Timeout: request did not complete within the allotted timeout",
        ),
        other => Answer::fail(other, "Unknown", "unknown"),
    };
    answer.retry_after = retry_after;
    answer
}
