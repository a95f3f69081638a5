//! An API server for tests. It lists prepared objects, page by page, and never answers a watch. It
//! has no other logic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use kube::Client;
use serde_json::{Value, json};

/// The collections that the operator lists.
pub(crate) const PLURALS: [&str; 7] = [
    "zephyrjobs",
    "configmaps",
    "services",
    "deployments",
    "statefulsets",
    "pods",
    "events",
];

/// The path of our group's schema.
pub(crate) const PUBLISHED_AT: &str = "/openapi/v3/apis/zephyr.dev/v1alpha1";

/// How many levels of nesting a deeply nested field has. The JSON parser stops at 128, and an
/// answer has some levels around the fields of its metadata.
const DEEP: usize = 125;

/// Returns the schema that an API server with the CRD of this release publishes.
pub(crate) fn published() -> Value {
    let definition = json!(zephyr_crds::crd::definition());
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    schema["x-kubernetes-group-version-kind"] =
        json!([{"group": "zephyr.dev", "version": "v1alpha1", "kind": "ZephyrJob"}]);
    let jobs = "/apis/zephyr.dev/v1alpha1/namespaces/{namespace}/zephyrjobs";
    json!({
        "paths": {format!("{jobs}/{{name}}"): {}, format!("{jobs}/{{name}}/status"): {}},
        "components": {"schemas": {"dev.zephyr.v1alpha1.ZephyrJob": schema}},
    })
}

/// The server, with its objects and the received requests.
#[derive(Default)]
pub(crate) struct Fake {
    /// Objects as JSON text, by the plural of their kind.
    pub(crate) objects: BTreeMap<&'static str, Vec<String>>,
    /// The kind whose lists are never answered.
    pub(crate) hangs: Option<&'static str>,
    /// The kind whose lists are refused.
    pub(crate) refuses: Option<&'static str>,
    /// How many lists of jobs are first answered with an error of the server.
    pub(crate) overloaded: std::sync::atomic::AtomicUsize,
    /// What is published as the schema, instead of this release's.
    pub(crate) published: Option<Value>,
    /// Requests to paths that end with this text make the caller panic.
    pub(crate) panics: Option<&'static str>,
    /// Whether the metadata in answers to writes is nested more deeply than the JSON parser
    /// supports.
    pub(crate) nests: bool,
    /// The paths of the reads of single objects.
    pub(crate) reads: Mutex<Vec<String>>,
    /// The writes: method, path and body.
    pub(crate) writes: Mutex<Vec<(Method, String, Value)>>,
}

impl Fake {
    /// Returns a client of this server.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = Arc::clone(&server);
            async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Returns the bodies of the writes to paths that end with `end`.
    pub(crate) fn written(&self, end: &str) -> Vec<Value> {
        let writes = self.writes.lock().unwrap();
        writes
            .iter()
            .filter(|(_, path, _)| path.ends_with(end))
            .map(|(_, _, body)| body.clone())
            .collect()
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if parts.method != Method::GET {
            let bytes = to_bytes(Body::new(body), usize::MAX).await.unwrap();
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            let mut written = value.clone();
            written["metadata"]["resourceVersion"] = json!("8");
            if written["metadata"]["uid"].is_null() {
                written["metadata"]["uid"] = json!("uid-of-a-new-object");
            }
            let mut writes = self.writes.lock().unwrap();
            writes.push((parts.method, path, value));
            let mut text = written.to_string();
            if self.nests {
                let nested = format!("{}1{}", r#"{"f:a":"#.repeat(DEEP), "}".repeat(DEEP));
                let fields = format!(r#""metadata":{{"managedFields":[{{"fieldsV1":{nested}}}],"#);
                text = text.replacen(r#""metadata":{"#, &fields, 1);
            }
            return Response::new(Body::from(text));
        }
        let query = parts.uri.query().unwrap_or_default();
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        if path == PUBLISHED_AT {
            let published = self.published.clone().unwrap_or_else(published);
            return Response::new(Body::from(published.to_string()));
        }
        let last = path.rsplit('/').next().unwrap_or_default();
        let Some(plural) = PLURALS.into_iter().find(|plural| *plural == last) else {
            return self.object(&path, last);
        };
        if parameter("watch").is_some() {
            return Response::new(Body::from_stream(futures::stream::pending::<
                Result<Vec<u8>, std::io::Error>,
            >()));
        }
        let is_overloaded = || {
            let fewer = |left: usize| left.checked_sub(1);
            let order = std::sync::atomic::Ordering::Relaxed;
            self.overloaded.fetch_update(order, order, fewer).is_ok()
        };
        if plural == "zephyrjobs" && is_overloaded() {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        if self.hangs == Some(plural) {
            std::future::pending::<()>().await;
        }
        if self.refuses == Some(plural) {
            return failure(StatusCode::FORBIDDEN, "Forbidden");
        }
        let limit = parameter("limit").and_then(|limit| limit.parse().ok());
        let from = parameter("continue").and_then(|token| token.parse().ok());
        self.page(plural, from.unwrap_or(0), limit.unwrap_or(usize::MAX))
    }

    /// Returns the object at a path.
    fn object(&self, path: &str, name: &str) -> Response<Body> {
        self.reads.lock().unwrap().push(path.to_owned());
        let panics_here = self.panics.is_some_and(|end| path.ends_with(end));
        assert!(!panics_here, "no arithmetic for {path}");
        let plural = path.rsplit('/').nth(1).unwrap_or_default();
        let is_it = |text: &&String| {
            serde_json::from_str::<Value>(text)
                .is_ok_and(|object| object["metadata"]["name"] == name)
        };
        match self
            .objects
            .get(plural)
            .and_then(|all| all.iter().find(is_it))
        {
            Some(object) => Response::new(Body::from(object.clone())),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn page(&self, plural: &str, from: usize, limit: usize) -> Response<Body> {
        let all = self.objects.get(plural).map_or(&[][..], Vec::as_slice);
        let end = from.saturating_add(limit).min(all.len());
        let token = if end < all.len() {
            end.to_string()
        } else {
            String::new()
        };
        let items = all[from..end].join(",");
        Response::new(Body::from(format!(
            r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"9","continue":"{token}"}},"items":[{items}]}}"#
        )))
    }
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason,
        "message": format!("{reason}, by rote"),
    });
    Response::builder()
        .status(code)
        .body(Body::from(status.to_string()))
        .unwrap()
}
