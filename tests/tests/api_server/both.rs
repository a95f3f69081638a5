//! Sends the same request to both servers, and collects the differences between their answers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use zephyr_tests::cluster::eventually;

use super::memory::{GROUP, Memory, Pairs, Strictness};
use super::simulation::api::ApiServer;
use super::simulation::api::request::{ApiRequest, Verb};
use super::simulation::api::store::Actor;
use super::simulation::api::watch;

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// One request. Its path and body contain the placeholders of [`Memory::filled`].
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    content_type: &'static str,
    accept: &'static str,
    body: Value,
    counts_versions: bool,
}

/// Both servers, and the differences so far.
pub(crate) struct Both {
    pub(crate) client: Client,
    pub(crate) server: ApiServer,
    pub(crate) real: Memory,
    pub(crate) ours: Memory,
    pub(crate) pairs: Pairs,
    pub(crate) asked: usize,
    wrong: Vec<String>,
}

impl Ask {
    fn new(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self {
            method,
            path: path.into(),
            content_type: if method == "PATCH" { MERGE } else { JSON },
            accept: JSON,
            body,
            counts_versions: true,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path, Value::Null)
    }

    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new("POST", path, body)
    }

    pub(crate) fn put(path: impl Into<String>, body: Value) -> Self {
        Self::new("PUT", path, body)
    }

    pub(crate) fn patch(path: impl Into<String>, body: Value) -> Self {
        Self::new("PATCH", path, body)
    }

    pub(crate) fn delete(path: impl Into<String>, options: Value) -> Self {
        Self::new("DELETE", path, options)
    }

    /// Makes this a request for only the metadata of one object.
    pub(crate) fn of_metadata(mut self) -> Self {
        self.accept = PARTIAL;
        self
    }

    /// Makes this a request for only the metadata of a list of objects.
    pub(crate) fn of_metadata_list(mut self) -> Self {
        self.accept = PARTIAL_LIST;
        self
    }

    pub(crate) fn in_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    /// Marks that controllers of the real cluster may write to this object at any time.
    pub(crate) fn beside_controllers(mut self) -> Self {
        self.counts_versions = false;
        self
    }

    /// Returns the request as it is sent to the server that `memory` belongs to.
    pub(crate) fn request(&self, memory: &Memory) -> Result<Request<Vec<u8>>> {
        let body = if self.body.is_null() {
            String::new()
        } else {
            memory.filled(&self.body.to_string())
        };
        Request::builder()
            .method(self.method)
            .uri(memory.filled(&self.path))
            .header("content-type", self.content_type)
            .header("accept", self.accept)
            .body(body.into_bytes())
            .with_context(|| format!("build {} {}", self.method, self.path))
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)?;
        if !self.body.is_null() {
            write!(formatter, " {}", self.body)?;
        }
        Ok(())
    }
}

impl Both {
    /// Returns both servers. On the real one the jobs are in the API group `group`.
    pub(crate) fn new(client: Client, group: &str, namespace: &str) -> Self {
        Self {
            client,
            server: ApiServer::new(jiff::Timestamp::now),
            real: Memory::new(group, namespace),
            ours: Memory::new(GROUP, namespace),
            pairs: Pairs::new(group),
            asked: 0,
            wrong: Vec::new(),
        }
    }

    /// Records the uid of the namespace, so that requests can use it. It is not compared.
    pub(crate) fn learn_both(&mut self, real: &Value, ours: &Value) {
        self.real.learn(real);
        self.ours.learn(ours);
    }

    /// Sends all of `asks` to both servers, one after the other.
    pub(crate) async fn ask_all(&mut self, asks: impl IntoIterator<Item = Ask>) -> Result<()> {
        for ask in asks {
            self.ask(&ask).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, ask: &Ask) -> Result<()> {
        let (code, body) = send(&self.client, ask.request(&self.real)?).await?;
        let (our_code, our_body) = answer(&self.server, ask.request(&self.ours)?)?;
        self.asked += 1;
        self.real.learn(&body);
        self.ours.learn(&our_body);
        let how = Strictness::new(ask.counts_versions);
        let mut different = self.pairs.differences(&body, &our_body, how);
        if code != our_code {
            different.insert(0, format!("code: real {code}, ours {our_code}"));
        }
        self.note(&ask.to_string(), &different);
        Ok(())
    }

    /// Sends `ask` until both servers give equal answers, because controllers of the real cluster
    /// need some time.
    pub(crate) async fn agree_in_time(&mut self, ask: &Ask) -> Result<()> {
        let (our_code, our_body) = answer(&self.server, ask.request(&self.ours)?)?;
        let (client, memory, pairs) = (&self.client, &self.real, &self.pairs);
        let what = ask.to_string();
        let agreed = eventually(&what, Duration::from_secs(20), || async {
            let (code, body) = send(client, ask.request(memory)?).await?;
            // If two objects still differ, they must not be recorded as a pair.
            let mut pairs = pairs.clone();
            let how = Strictness::new(ask.counts_versions);
            let different = pairs.differences(&body, &our_body, how);
            ensure!(code == our_code && different.is_empty(), "{different:?}");
            Ok(Some(pairs))
        });
        self.pairs = agreed.await?;
        self.asked += 1;
        Ok(())
    }

    /// Records the differences between the answers to `what`.
    pub(crate) fn note(&mut self, what: &str, different: &[String]) {
        if !different.is_empty() {
            self.wrong
                .push(format!("{what}\n    {}", different.join("\n    ")));
        }
    }

    /// Returns an error with all differences, if there are any.
    pub(crate) fn agree(&self) -> Result<()> {
        ensure!(
            self.wrong.is_empty(),
            "{} of {} answers differ:\n{}",
            self.wrong.len(),
            self.asked,
            self.wrong.join("\n")
        );
        Ok(())
    }
}

async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<(u16, Value)> {
    let what = format!("{} {}", request.method(), request.uri());
    let response = client.send(request.map(Body::from)).await?;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await?;
    let body = serde_json::from_slice(&bytes).with_context(|| what)?;
    Ok((code, body))
}

fn answer(server: &ApiServer, request: Request<Vec<u8>>) -> Result<(u16, Value)> {
    let request = read(request)?;
    let answer = match request.verb {
        Verb::Watch => match watch::open(server, &request) {
            Ok(_) => bail!("the watch is opened: {request:?}"),
            Err(answer) => answer,
        },
        Verb::Get | Verb::List | Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => {
            server.answer(&request, Actor::User)
        }
    };
    Ok((answer.code, Value::clone(&answer.body)))
}

/// Converts a request into the form that the in-memory server reads.
pub(crate) fn read(request: Request<Vec<u8>>) -> Result<ApiRequest> {
    let (parts, body) = request.into_parts();
    ApiRequest::read(&parts, &body).map_err(anyhow::Error::msg)
}
