//! Whether the API server serves `ZephyrJob` as this release knows it: what it publishes, compared with what this release was
//! built for. Changes nothing, and looks at no job.
//!
//! An older definition drops fields of status, so that every look at a job would write them again, and drops fields of a spec
//! without a word to its user. A newer one is fine: jobs that use what is new in it cannot be read, and are left alone.

use std::time::Duration;

use axum::http;
use kube::api::ListParams;
use kube::{Client, Resource};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::warn;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::names;
use zephyr_crds::structural::served::{Differences, compare};

use super::Error;
use crate::calls::{CallError, Refusal, bounded};
use crate::health::Health;
use crate::watches;
use crate::watches::decode::Seen;
use crate::watches::facts::Anybody;

/// How long the start waits for another definition to be published: whoever upgrades applies it at the same time as the
/// operator, and API servers publish it within seconds.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);
/// The wait between two looks at what is published.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// What the start waits for, if there is nothing to compare.
const NOT_PUBLISHED: &str = "the schema of ZephyrJob is not published";
/// Differences that a sentence names.
const MAX_NAMED: usize = 3;

/// What the API server serves, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    /// The schema is not published yet.
    Nothing,
    /// Everything that this release reads and writes.
    Enough { newer: Vec<String> },
    /// Less than that: the sentence.
    TooLittle(String),
}

/// Ends with a sentence if the API server does not serve what this release needs.
pub(super) async fn check(
    client: &Client,
    namespace: Option<&str>,
    health: &Health,
) -> Result<(), Error> {
    require(client, namespace).await?;
    let until = Instant::now() + PUBLISHED_WITHIN;
    loop {
        let is_last = Instant::now() >= until;
        match published(client).await {
            Ok(document) => match judge(&document) {
                Served::Nothing if is_last => {
                    warn!("the CRD is not compared with this release: its schema is not published");
                    return Ok(());
                }
                Served::Nothing => health.set_missing(NOT_PUBLISHED.to_owned()),
                Served::Enough { newer } => {
                    if !newer.is_empty() {
                        warn!(
                            "the CRD is newer than this operator: it also has {}, and jobs that use any of that are left alone",
                            named(&newer)
                        );
                    }
                    return Ok(());
                }
                Served::TooLittle(sentence) if is_last => return Err(Error::OldCrd { sentence }),
                Served::TooLittle(sentence) => health.set_missing(sentence),
            },
            // Nothing was compared, and nothing is known to be wrong.
            Err(error) if is_last || error.refusal() == Refusal::Forbidden => {
                warn!(%error, "the CRD is not compared with this release: its schema cannot be read");
                return Ok(());
            }
            Err(error) => {
                health.set_missing(format!("{NOT_PUBLISHED} ({error})"));
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Without the CRD every watch would fail forever, and nobody would know.
async fn require(client: &Client, namespace: Option<&str>) -> Result<(), Error> {
    let jobs = watches::scoped::<Seen<Anybody<ZephyrJob>>>(client, namespace);
    match bounded(jobs.list(&ListParams::default().limit(1))).await {
        Ok(_) => Ok(()),
        Err(error) if error.refusal() == Refusal::NotFound => {
            let group = get(client, &format!("/apis/{}", names::GROUP)).await;
            Err(match group.ok().map(|group| versions(&group)) {
                Some(versions) if !versions.is_empty() => Error::OtherVersion {
                    served: versions.join(", "),
                    needed: ZephyrJob::version(&()).into_owned(),
                },
                Some(_) | None => Error::NoCrd,
            })
        }
        Err(error) => Err(Error::ListJobs(error)),
    }
}

/// The versions of our group that are served.
fn versions(group: &Value) -> Vec<String> {
    let version = |version: &Value| Some(version.get("version")?.as_str()?.to_owned());
    let versions = group.get("versions").and_then(Value::as_array);
    versions.into_iter().flatten().filter_map(version).collect()
}

/// What the API server publishes of our group: every account may read it.
async fn published(client: &Client) -> Result<Value, CallError> {
    let version = ZephyrJob::version(&());
    get(
        client,
        &format!("/openapi/v3/apis/{}/{version}", names::GROUP),
    )
    .await
}

async fn get(client: &Client, path: &str) -> Result<Value, CallError> {
    let request = http::Request::get(path).body(Vec::new());
    let request =
        request.map_err(|error| CallError::Answer(Box::new(kube::Error::HttpError(error))))?;
    bounded(client.request(request)).await
}

/// Compares what is published with this release.
fn judge(document: &Value) -> Served {
    let kind = ZephyrJob::kind(&());
    let schemas = document
        .pointer("/components/schemas")
        .and_then(Value::as_object);
    let is_ours = |schema: &&Value| {
        let kinds = schema
            .get("x-kubernetes-group-version-kind")
            .and_then(Value::as_array);
        kinds.into_iter().flatten().any(|one| one["kind"] == *kind)
    };
    let Some(schema) = schemas.and_then(|schemas| schemas.values().find(is_ours)) else {
        return Served::Nothing;
    };
    let Differences { mut lacks, adds } = compare(schema);
    let status = format!(
        "/apis/{}/{}/namespaces/{{namespace}}/{}/{{name}}/status",
        names::GROUP,
        ZephyrJob::version(&()),
        ZephyrJob::plural(&())
    );
    let paths = document.get("paths").and_then(Value::as_object);
    if paths.is_some_and(|paths| !paths.contains_key(&status)) {
        lacks.push("the subresource status".to_owned());
    }
    if lacks.is_empty() {
        return Served::Enough { newer: adds };
    }
    let age = if adds.is_empty() {
        "is older than"
    } else {
        "is not that of"
    };
    Served::TooLittle(format!(
        "CRD {}.{}: {age} this operator, release {} (it lacks {}); apply the CRD of that release: helm upgrade with \
         installCRDs=true, or kubectl apply -f crds/zephyrjobs.yaml",
        ZephyrJob::plural(&()),
        names::GROUP,
        env!("CARGO_PKG_VERSION"),
        named(&lacks)
    ))
}

/// The first of them, and how many more there are.
fn named(differences: &[String]) -> String {
    let shown = differences.len().min(MAX_NAMED);
    let list = differences[..shown].join(", ");
    match differences.len() - shown {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}
