//! Checks whether the API server serves `ZephyrJob` as this release needs it: compares the
//! published schema with the schema of this release. This module changes nothing, and reads no job.
//!
//! With an older definition, the API server silently drops fields of status, so that every
//! reconcile would write them again, and also drops fields of a spec. A newer definition does no
//! harm: this release does not handle jobs that use the new fields, because it cannot read them.

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

/// How long the start waits for another definition, if the published one is too old. During an
/// upgrade the definition is applied at the same time as the operator, and API servers publish it
/// within seconds.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);
/// For how long the first list of jobs is tried again. An API server that restarts answers within
/// minutes. If the process ended instead, Kubernetes would restart it with increasing waits of up
/// to 5 min.
const LISTED_WITHIN: Duration = Duration::from_mins(5);
/// The wait between two tries of the list, and between two reads of the published schema.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The reason for waiting while the schema is not published.
const NOT_PUBLISHED: &str = "the schema of ZephyrJob is not published";
/// How many differences a sentence names at most.
const MAX_NAMED: usize = 3;

/// The result of the comparison.
#[derive(Debug, PartialEq, Eq)]
enum Served {
    /// The schema is not published yet.
    Nothing,
    /// The schema has everything that this release reads and writes. `newer` lists what the schema
    /// has and this release does not know.
    Enough { newer: Vec<String> },
    /// The schema lacks something; the sentence says what.
    TooLittle(String),
}

/// Returns a sentence if the API server does not serve what this release needs.
pub(super) async fn check(
    client: &Client,
    namespace: Option<&str>,
    health: &Health,
) -> Result<(), Error> {
    require(client, namespace, health).await?;
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
            // The schemas could not be compared, so the operator starts: there may be no
            // difference.
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

/// Returns an error if the cluster has no CRD: otherwise every watch would fail forever, without
/// any message to people. If the API server does not answer, waits for it, and reports this in
/// `health`.
async fn require(client: &Client, namespace: Option<&str>, health: &Health) -> Result<(), Error> {
    let jobs = watches::scoped::<Seen<Anybody<ZephyrJob>>>(client, namespace);
    let until = Instant::now() + LISTED_WITHIN;
    loop {
        match bounded(jobs.list(&ListParams::default().limit(1))).await {
            Ok(_) => return Ok(()),
            Err(error) if error.refusal() == Refusal::NotFound => {
                return Err(not_served(client).await);
            }
            Err(error) if error.refusal() == Refusal::Transient && Instant::now() < until => {
                warn!(%error, "ZephyrJobs cannot be listed; trying again");
                health.set_missing(format!("ZephyrJobs cannot be listed yet ({error})"));
            }
            Err(error) => return Err(Error::ListJobs(error)),
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Returns the error of an API server that does not serve jobs.
async fn not_served(client: &Client) -> Error {
    let group = get(client, &format!("/apis/{}", names::GROUP)).await;
    match group.ok().map(|group| versions(&group)) {
        Some(versions) if !versions.is_empty() => Error::OtherVersion {
            served: versions.join(", "),
            needed: ZephyrJob::version(&()).into_owned(),
        },
        Some(_) | None => Error::NoCrd,
    }
}

/// Returns the served versions of our API group.
fn versions(group: &Value) -> Vec<String> {
    let version = |version: &Value| Some(version.get("version")?.as_str()?.to_owned());
    let versions = group.get("versions").and_then(Value::as_array);
    versions.into_iter().flatten().filter_map(version).collect()
}

/// Reads the published schema of our API group, which every account may read.
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

/// Compares the published schema with the schema of this release.
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

/// Returns the first differences as text, and the number of the others.
fn named(differences: &[String]) -> String {
    let shown = differences.len().min(MAX_NAMED);
    let list = differences[..shown].join(", ");
    match differences.len() - shown {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}
