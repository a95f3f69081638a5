//! Sends invalid inputs to the real API server, each in an otherwise valid job. The server must
//! refuse each with a sentence, and the validation of operator and CLI must refuse it too. Nothing
//! is stored, except one job that the operator does not start.

#[path = "../../crds/tests/positions/mod.rs"]
mod positions;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use zephyr_crds::job::{ZephyrJob, ZephyrJobSpec};
use zephyr_crds::structural::served::{Differences, compare};
use zephyr_crds::validate::{Place, validate};
use zephyr_tests::cluster::{LOOK_EVERY, TEST_TIMEOUT, client};

#[path = "admission/generated.rs"]
mod generated;

/// One invalid input: its row in the list of invalid inputs, the change to a valid job, and the
/// expected text of the answer.
type Row = (&'static str, &'static str, Value, &'static str);

const SCHEMES: &str = "a uri begins with s3://, gs:// or az:// and a bucket";

fn good() -> Value {
    json!({
        "apiVersion": "zephyr.dev/v1alpha1",
        "kind": "ZephyrJob",
        "metadata": {"name": "wordcount"},
        "spec": {
            "pipeline": {
                "source": {"files": {"paths": ["s3://corpus/en/**/*.jsonl.zst"]}},
                "steps": [
                    {"filter": ".score > 0.5"},
                    {"flatMap": ".text | ascii_downcase | split(\" \")[]"},
                    {"groupBy": {"key": ".", "aggregate": {"count": {"count": {}}}, "shards": 16}},
                ],
                "sink": {"files": {"path": "s3://out/wordcount/part-{shard:05}-of-{total:05}.jsonl.gz"}},
            },
            "storage": {"uri": "s3://scratch/zephyr", "credentialsSecret": "s3-credentials"},
            "workers": {"replicas": 64, "preemptible": {"provider": "gke"}},
        },
    })
}

/// Returns the object with `value` at `path`. Missing objects on the path are created; `null`
/// removes the value.
fn with(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, last) = path.rsplit_once('/').unwrap_or(("", path));
    let mut place = &mut object;
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    match (last.parse::<usize>(), place) {
        (Ok(index), place) => place[index] = value,
        (Err(_), place) if value.is_null() => {
            place.as_object_mut().and_then(|fields| fields.remove(last));
        }
        (Err(_), place) => place[last] = value,
    }
    object
}

/// Installs the definition of this source tree in the cluster if it is missing or different. It
/// gets the labels of the chart's release, so that the chart can still be installed.
async fn definition_is_installed(client: &Client) -> Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED
        .get_or_try_init(|| install_definition(client))
        .await
        .map(drop)
}

async fn install_definition(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = zephyr_crds::crd::definition();
    let name = ours.name_any();
    let found = api.get_opt(&name).await.context(
        "no cluster answers; `make cluster` makes one, ZEPHYR_TEST_KUBECONTEXT names one",
    )?;
    let schemas = |definition: &CustomResourceDefinition| -> Vec<_> {
        definition
            .spec
            .versions
            .iter()
            .map(|version| version.schema.clone())
            .collect()
    };
    if found.as_ref().map(schemas) != Some(schemas(&ours)) {
        let mut ours = ours.clone();
        ours.metadata.labels =
            Some([("app.kubernetes.io/managed-by".to_owned(), "Helm".to_owned())].into());
        ours.metadata.annotations = Some(
            [
                (
                    "meta.helm.sh/release-name".to_owned(),
                    "zephyr-operator".to_owned(),
                ),
                (
                    "meta.helm.sh/release-namespace".to_owned(),
                    "zephyr-system".to_owned(),
                ),
                ("helm.sh/resource-policy".to_owned(), "keep".to_owned()),
            ]
            .into(),
        );
        api.patch(
            &name,
            &PatchParams::apply("helm").force(),
            &Patch::Apply(&ours),
        )
        .await
        .context("apply the definition")?;
    }
    let deadline = tokio::time::Instant::now() + TEST_TIMEOUT;
    while tokio::time::Instant::now() < deadline {
        let conditions = api
            .get(&name)
            .await?
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True")
        {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("the definition of ZephyrJob was not established within {TEST_TIMEOUT:?}")
}

/// Creates an object as a dry run with strict field validation. Returns the server's message if it
/// refuses.
async fn create(client: &Client, object: &Value) -> Result<Result<Value, String>> {
    let url = format!(
        "{}?dryRun=All&fieldValidation=Strict&fieldManager=zephyr-tests",
        ZephyrJob::url_path(&(), Some("default"))
    );
    let mut request =
        Request::new("/").create(&PostParams::default(), serde_json::to_vec(object)?)?;
    *request.uri_mut() = url.parse().context("a url")?;
    answer(client.request::<Value>(request).await)
}

/// Changes an object as a dry run with strict field validation.
async fn change(
    client: &Client,
    namespace: &str,
    name: &str,
    patch: &Value,
) -> Result<Result<Value, String>> {
    let url = format!(
        "{}/{name}?dryRun=All&fieldValidation=Strict",
        ZephyrJob::url_path(&(), Some(namespace))
    );
    let mut request =
        Request::new("/").patch(name, &PatchParams::default(), &Patch::Merge(patch))?;
    *request.uri_mut() = url.parse().context("a url")?;
    answer(client.request::<Value>(request).await)
}

/// Writes into the status that the first generation has begun.
async fn begin(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api: Api<ZephyrJob> = Api::namespaced(client.clone(), namespace);
    let status = json!({"status": {"generation": 1}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .context("write the status")?;
    Ok(())
}

/// A refused pipeline can be corrected until the generation of a restart begins.
async fn correct_while_a_restart_waits(client: &Client, namespace: &str) -> Result<()> {
    let jobs = Api::<ZephyrJob>::namespaced(client.clone(), namespace);
    let edit = json!({"spec": {"pipeline": {"steps": []}}});
    for (since, is_accepted) in [(json!(null), false), (json!("2026-01-01T00:00:00Z"), true)] {
        let restart = json!({"token": "again", "generation": 1});
        let status = json!({"status": {"restart": restart, "queuedSince": since}});
        jobs.patch_status("wordcount", &PatchParams::default(), &Patch::Merge(&status))
            .await?;
        let answer = change(client, namespace, "wordcount", &edit).await?;
        ensure!(
            answer.is_ok() == is_accepted,
            "a restarted job that waits since {since}: {answer:?}"
        );
    }
    Ok(())
}

fn answer(answer: Result<Value, kube::Error>) -> Result<Result<Value, String>> {
    match answer {
        Ok(object) => Ok(Ok(object)),
        Err(kube::Error::Api(status)) => Ok(Err(status.message.clone())),
        Err(error) => Err(error).context("ask the API server"),
    }
}

/// Returns the errors that operator and CLI report for an object, if it can be parsed.
fn sentences(object: &Value, place: Place) -> Result<Vec<String>, serde_json::Error> {
    let spec: ZephyrJobSpec = serde_json::from_value(object["spec"].clone())?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Ok(validate(&spec, name, place)
        .iter()
        .map(ToString::to_string)
        .collect())
}

/// Checks that the server refuses every row with the expected text, and that our own validation
/// also refuses it if the object can be parsed.
async fn check(rows: Vec<Row>) -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let mut wrong = Vec::new();
    for (row, path, value, words) in rows {
        let object = with(good(), path, value.clone());
        let label = format!(
            "row {row}: {path} = {}",
            value.to_string().chars().take(80).collect::<String>()
        );
        match create(&client, &object).await? {
            Ok(_) => wrong.push(format!(
                "{label}: was accepted, must be refused with {words:?}"
            )),
            Err(message) if !message.contains(words) => {
                wrong.push(format!("{label}: must say {words:?}, says {message:?}"));
            }
            Err(message) if !message.starts_with("ZephyrJob") => {
                wrong.push(format!("{label}: names no kind: {message:?}"));
            }
            Err(message) => {
                let is_unknown_field = message.contains("unknown field");
                if !is_unknown_field
                    && sentences(&object, Place::Cluster)
                        .is_ok_and(|sentences| sentences.is_empty())
                {
                    wrong.push(format!(
                        "{label}: the server refuses it, operator and CLI do not"
                    ));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn workers_have_a_fixed_number_or_two_bounds() -> Result<()> {
    check(vec![
        (
            "7",
            "spec/workers/replicas",
            json!(null),
            "spec.workers: has neither replicas nor maxReplicas; either replicas, a fixed number, or maxReplicas with or without \
             minReplicas",
        ),
        (
            "7",
            "spec/workers/maxReplicas",
            json!(3),
            "spec.workers: has replicas beside minReplicas or maxReplicas; either replicas, a fixed number, or maxReplicas with or \
             without minReplicas",
        ),
        (
            "7",
            "spec/workers/minReplicas",
            json!(3),
            "spec.workers: has replicas beside minReplicas or maxReplicas; either replicas, a fixed number, or maxReplicas with or \
             without minReplicas",
        ),
    ])
    .await?;
    let elastic = json!({"minReplicas": 4, "maxReplicas": 3});
    let words = "spec.workers: has a minReplicas above maxReplicas (got 4); at most maxReplicas";
    check(vec![("7", "spec/workers", elastic, words)]).await?;
    let client = client().await?;
    for bounds in [
        json!({"maxReplicas": 3}),
        json!({"minReplicas": 3, "maxReplicas": 3}),
    ] {
        let accepted = create(&client, &with(good(), "spec/workers", bounds)).await?;
        accepted.map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

#[tokio::test]
async fn numbers_of_workers_and_retries_are_whole_and_bounded() -> Result<()> {
    check(vec![
        (
            "1",
            "spec/workers/replicas",
            json!(0),
            "spec.workers.replicas: is out of range (got 0); must be 1..10000",
        ),
        (
            "2",
            "spec/workers/replicas",
            json!(-1),
            "spec.workers.replicas: is out of range (got -1); must be 1..10000",
        ),
        (
            "3",
            "spec/workers/replicas",
            json!(10_001),
            "spec.workers.replicas: is out of range (got 10001); must be 1..10000",
        ),
        (
            "4",
            "spec/workers/replicas",
            json!("10"),
            "spec.workers.replicas in body must be of type integer: \"string\"",
        ),
        (
            "5",
            "spec/workers/replicas",
            json!(1.5),
            "spec.workers.replicas in body must be of type integer: \"number\"",
        ),
        (
            "6",
            "spec/workers/replicas",
            json!(9_223_372_036_854_775_808_u64),
            "spec.workers.replicas in body should be less than or equal to 10000",
        ),
        (
            "7",
            "spec/workers",
            json!(null),
            "spec.workers: Required value",
        ),
        ("9", "spec", json!(null), "spec: Required value"),
        (
            "32",
            "spec/retries/maxGenerations",
            json!(0),
            "spec.retries.maxGenerations: is out of range (got 0); must be 1..100",
        ),
        (
            "32",
            "spec/retries/maxGenerations",
            json!(-1),
            "spec.retries.maxGenerations: is out of range (got -1); must be 1..100",
        ),
        (
            "32",
            "spec/retries/maxGenerations",
            json!(1_000_000),
            "spec.retries.maxGenerations: is out of range (got 1000000); must be 1..100",
        ),
        (
            "33",
            "spec/retries/taskFailures",
            json!(0),
            "spec.retries.taskFailures: is out of range (got 0); must be 1..20",
        ),
        (
            "33",
            "spec/retries/taskDisruptions",
            json!(10_001),
            "spec.retries.taskDisruptions: is out of range (got 10001); must be 0..10000",
        ),
        (
            "37",
            "spec/ttlSecondsAfterFinished",
            json!(-1),
            "spec.ttlSecondsAfterFinished in body should be greater than or equal to 0",
        ),
        (
            "-",
            "spec/workers/slots",
            json!(257),
            "spec.workers.slots: is out of range (got 257); must be 0..256",
        ),
        (
            "-",
            "spec/retries/backoff",
            json!({"factor": 11}),
            "spec.retries.backoff.factor: is out of range (got 11); must be 1..10",
        ),
    ])
    .await
}

#[tokio::test]
async fn durations_have_a_unit_and_bounds() -> Result<()> {
    let form =
        "a duration needs whole numbers and a unit of h, m, s, ms, such as 5m, from 30s to 24h";
    let field = "spec.retries.noWorkersTimeout";
    let path = "spec/retries/noWorkersTimeout";
    let rows: Vec<(&str, &str, String)> = vec![
        (
            "34",
            "5",
            format!("{field}: is not a duration (got 5); {form}"),
        ),
        (
            "34",
            "five minutes",
            format!("{field}: is not a duration (got five minutes); {form}"),
        ),
        (
            "35",
            "-5m",
            format!("{field}: is not a duration (got -5m); {form}"),
        ),
        (
            "35",
            "",
            format!("{field}: is not a duration (got ); {form}"),
        ),
        (
            "35",
            "0s",
            format!("{field}: is out of range (got 0s); must be 30s..24h"),
        ),
        (
            "35",
            "1s",
            format!("{field}: is out of range (got 1s); must be 30s..24h"),
        ),
        (
            "35",
            "999999h",
            format!("{field}: is out of range (got 999999h); must be 30s..24h"),
        ),
        ("35", "99999999999999999h", format!("{field}: Too long")),
    ];
    let rows = rows
        .into_iter()
        .map(|(row, value, words)| (row, path, json!(value), &*words.leak()))
        .collect();
    check(rows).await?;
    check(vec![
        ("35", "spec/retries/coordinatorTimeout", json!("9s"), "spec.retries.coordinatorTimeout: is out of range (got 9s); must be 10s..24h"),
        ("35", "spec/retries/taskStallTimeout", json!("25h"), "spec.retries.taskStallTimeout: is out of range (got 25h); must be 1s..24h"),
        ("35", "spec/retries/taskTimeout", json!("169h"), "spec.retries.taskTimeout: is out of range (got 169h); must be 1s..168h"),
        ("35", "spec/retries/backoff", json!({"initial": "10m"}), "spec.retries.backoff.initial: is longer than max (got 10m); at most spec.retries.backoff.max"),
    ])
    .await
}

#[tokio::test]
async fn unknown_fields_are_refused() -> Result<()> {
    check(vec![
        (
            "8",
            "spec/worker",
            json!({"replicas": 1}),
            "unknown field \"spec.worker\"",
        ),
        (
            "27",
            "spec/storage/endpoint",
            json!("http://minio:9000"),
            "unknown field \"spec.storage.endpoint\"",
        ),
        (
            "41",
            "spec/coordinator/preemptible",
            json!({"provider": "gke"}),
            "unknown field \"spec.coordinator.preemptible\"",
        ),
        (
            "43",
            "spec/workers/template/volumes",
            json!([{"name": "host", "hostPath": {"path": "/"}}]),
            "unknown field \"spec.workers.template.volumes\"",
        ),
        (
            "43",
            "spec/workers/template/hostNetwork",
            json!(true),
            "unknown field \"spec.workers.template.hostNetwork\"",
        ),
        (
            "43",
            "spec/workers/template/hostPID",
            json!(true),
            "unknown field \"spec.workers.template.hostPID\"",
        ),
        (
            "43",
            "spec/workers/template/containers",
            json!([{"name": "x"}]),
            "unknown field \"spec.workers.template.containers\"",
        ),
        (
            "43",
            "spec/workers/template/securityContext",
            json!({"privileged": true}),
            "unknown field \"spec.workers.template.securityContext\"",
        ),
        (
            "43",
            "spec/coordinator/template/securityContext",
            json!({"runAsUser": 0, "sysctls": []}),
            "unknown field \"spec.coordinator.template.securityContext\"",
        ),
        (
            "51",
            "spec/generation",
            json!(7),
            "unknown field \"spec.generation\"",
        ),
        (
            "-",
            "spec/pipeline/source/files/path",
            json!("s3://a/b"),
            "unknown field \"spec.pipeline.source.files.path\"",
        ),
        (
            "-",
            "spec/pipeline/steps/0",
            json!({"fliter": "."}),
            "unknown field \"spec.pipeline.steps[0].fliter\"",
        ),
    ])
    .await
}

#[tokio::test]
async fn names_leave_room_for_those_of_the_children() -> Result<()> {
    check(vec![
        ("13", "metadata/name", json!("x".repeat(53)), "at most 38 characters, because the names of its pods add to it"),
        ("13", "metadata/name", json!("x".repeat(39)), "metadata.name: is too long"),
        ("14", "metadata/name", json!("a.b"), "metadata.name: has a dot (got a.b); no dots, because the name becomes a host name"),
        ("14", "metadata/name", json!("1a"), "metadata.name: is not a valid host name (got 1a); lower case letters, digits and dashes, a letter first and no dash last"),
    ])
    .await?;
    let client = client().await?;
    let generated = with(
        good(),
        "metadata",
        json!({"generateName": format!("{}-", "x".repeat(40))}),
    );
    let refusal = create(&client, &generated)
        .await?
        .err()
        .context("row 15: an over-long generated name was accepted")?;
    ensure!(
        refusal.contains("metadata.name: is too long"),
        "row 15: {refusal}"
    );
    Ok(())
}

#[tokio::test]
async fn images_are_references() -> Result<()> {
    let words = "spec.image: is not a valid image reference";
    check(vec![
        ("12", "spec/image", json!("a b"), "spec.image: is not a valid image reference (got a b); registry/repository:tag or registry/repository@sha256:digest"),
        ("12", "spec/image", json!("a\nb"), "spec.image: is not a valid image reference; printable characters only"),
        ("12", "spec/image", json!("Repo/x"), words),
        ("12", "spec/image", json!("ghcr.io/Repo/x:1"), words),
        ("12", "spec/image", json!("x".repeat(513)), "spec.image: Too long"),
    ])
    .await
}

#[tokio::test]
async fn uris_name_a_bucket_of_an_object_store_and_hold_no_secret() -> Result<()> {
    let faults: Vec<(&str, String, String)> = vec![
        ("16", String::new(), format!("is empty; required: {SCHEMES}")),
        ("17", "/local/path".to_owned(), format!("has no scheme (got /local/path); {SCHEMES}")),
        ("18", "s3://".to_owned(), "has no valid bucket (got s3://); a bucket follows the scheme".to_owned()),
        ("18", "s3:///x.jsonl".to_owned(), "has no valid bucket (got s3:///x.jsonl)".to_owned()),
        ("19", "s3://bb/../other".to_owned(), "has . or .. in its path, plain or percent-encoded (got s3://bb/../other); .. is not allowed".to_owned()),
        ("-", "s3://bb/a//b".to_owned(), "has an empty segment (//) (got s3://bb/a//b); single slashes between the parts of the path".to_owned()),
        ("20", "s3://bb/%2e%2E/x".to_owned(), "has . or .. in its path, plain or percent-encoded (got s3://bb/%2e%2E/x); .. is not allowed".to_owned()),
        ("21", "file:///etc".to_owned(), format!("has a scheme that is not allowed (got file:///etc); {SCHEMES}")),
        ("22", "http://169.254.169.254/".to_owned(), format!("has a scheme that is not allowed (got http://169.254.169.254/); {SCHEMES}")),
        ("23", "s3://user:hunter2@bb/x".to_owned(), "contains credentials; credentials in a uri are not allowed".to_owned()),
        ("26", format!("s3://bb/{}", "x".repeat(4096)), "Too long".to_owned()),
        ("26", "s3://bb/\0".to_owned(), "has a control character; control characters are not allowed".to_owned()),
        ("26", "s3://bb/\u{1b}[31m".to_owned(), "has a control character; control characters are not allowed".to_owned()),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for path in [
        "spec/storage/uri",
        "spec/pipeline/sink/files/path",
        "spec/pipeline/source/files/paths/0",
    ] {
        rows.extend(
            faults
                .iter()
                .map(|(row, uri, words)| -> Row { (row, path, json!(uri), words.clone().leak()) }),
        );
    }
    for (uri, words) in [
        (
            "s3://bb",
            "names no file (got s3://bb); a bucket and the name of a file, or a pattern such as folder/*",
        ),
        (
            "s3://bb/in/",
            "names a folder (got s3://bb/in/); add * for the files in it, or ** for all files below it",
        ),
    ] {
        rows.push(("-", "spec/pipeline/source/files/paths/0", json!(uri), words));
    }
    check(rows).await?;

    let client = client().await?;
    let secret = with(good(), "spec/storage/uri", json!("s3://user:hunter2@bb/x"));
    let refusal = create(&client, &secret)
        .await?
        .err()
        .context("row 23: credentials were accepted")?;
    ensure!(
        !refusal.contains("hunter2"),
        "row 23: the answer shows the secret: {refusal}"
    );
    Ok(())
}

#[tokio::test]
async fn input_output_and_storage_are_apart_from_each_other() -> Result<()> {
    let path = "spec/pipeline/sink/files/path";
    let storage = "spec/storage/uri";
    check(vec![
        ("24", path, json!("s3://corpus/en/{shard}.jsonl"), "spec.pipeline.sink.files.path: overlaps spec.pipeline.source.files.paths, s3://corpus/en/**/*.jsonl.zst (got s3://corpus/en/{shard}.jsonl); output must not overlap input, write to another folder"),
        ("24", path, json!("s3://corpus/en/out/{shard}.jsonl"), "output must not overlap input"),
        ("24", path, json!("s3://scratch/zephyr/{shard}.jsonl"), "spec.pipeline.sink.files.path: overlaps spec.storage.uri, s3://scratch/zephyr (got s3://scratch/zephyr/{shard}.jsonl); output must not overlap the storage prefix, write to another folder"),
        ("24", "spec/pipeline/source/files/paths", json!(["s3://scratch/zephyr/*.jsonl"]), "spec.pipeline.source.files.paths: overlaps spec.storage.uri, s3://scratch/zephyr (got s3://scratch/zephyr/*.jsonl); input must not overlap the storage prefix, read from another folder"),
        ("24", storage, json!("s3://corpus/en/scratch"), "spec.storage.uri: overlaps spec.pipeline.source.files.paths, s3://corpus/en/**/*.jsonl.zst (got s3://corpus/en/scratch); the storage prefix must not overlap input, use a folder that no input path reaches"),
        ("24", storage, json!("s3://corpus"), "spec.pipeline.source.files.paths: overlaps spec.storage.uri, s3://corpus (got s3://corpus/en/**/*.jsonl.zst)"),
        ("-", path, json!("s3://out/{shard}/_Success.json"), "spec.pipeline.sink.files.path: has a reserved name (got s3://out/{shard}/_Success.json); any name except _SUCCESS.json and _STARTED.json, which the job itself writes"),
    ])
    .await
}

#[tokio::test]
async fn names_of_one_character_are_names() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    for (path, uri) in [
        ("spec/pipeline/source/files/paths/0", "s3://corpus/en/*"),
        ("spec/pipeline/source/files/paths/0", "s3://corpus/x"),
        ("spec/pipeline/sink/files/path", "s3://out/{shard}/x"),
    ] {
        let job = with(good(), path, json!(uri));
        let job = with(job, "spec/pipeline/source/files/format", json!("text"));
        let job = with(job, "spec/pipeline/sink/files/format", json!("text"));
        ensure!(sentences(&job, Place::Cluster)?.is_empty(), "{uri}");
        let answer = create(&client, &job).await?;
        ensure!(answer.is_ok(), "{uri}: {answer:?}");
    }
    Ok(())
}

/// How many places are compared. For each of them, the server's rules must give the same result as
/// our function.
const PLACES_COMPARED: usize = 1_500;

#[tokio::test]
async fn the_server_and_our_validation_refuse_the_same_places() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let mut jobs = Vec::new();
    for input in positions::INPUTS {
        for sink in positions::SINKS {
            for storage in positions::STORAGES {
                let mut job = good();
                let spec = &mut job["spec"];
                spec["pipeline"]["source"]["files"] =
                    json!({"paths": [format!("s3://bk/{input}")], "format": "text"});
                spec["pipeline"]["steps"] = json!([{"count": {}}]);
                spec["pipeline"]["sink"]["files"] = json!({"path": format!("s3://bk/{sink}")});
                spec["storage"]["uri"] = json!(format!("s3://bk/{storage}"));
                jobs.push((format!("{input}, {sink}, {storage:?}"), job));
            }
        }
    }
    let every = jobs.len().div_ceil(PLACES_COMPARED);
    let (mut refused, mut accepted) = (0, 0);
    let mut wrong = Vec::new();
    for (label, job) in jobs.into_iter().step_by(every) {
        let ours = sentences(&job, Place::Cluster)?;
        match create(&client, &job).await? {
            Ok(_) if ours.is_empty() => accepted += 1,
            Err(_) if !ours.is_empty() => refused += 1,
            answer => wrong.push(format!("{label}: the server: {answer:?}; ours: {ours:?}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(
        refused > 100 && accepted > 100,
        "{refused} are refused, {accepted} are accepted"
    );
    Ok(())
}

#[tokio::test]
async fn file_names_differ_by_shard() -> Result<()> {
    let path = "spec/pipeline/sink/files/path";
    check(vec![
        ("-", path, json!("s3://out/x.jsonl"), "spec.pipeline.sink.files.path: has no {shard}, but more than one shard is written (got s3://out/x.jsonl); put {shard} or {shard:05} into the name of the file"),
        ("-", path, json!("s3://out/{shrad}.jsonl"), "has a placeholder that is not known (got s3://out/{shrad}.jsonl); {shard} and {total}, or with a width {shard:05}"),
        ("-", path, json!("s3://out/{shard}/"), "names no file (got s3://out/{shard}/); a bucket and the name of a file"),
        ("-", path, json!("s3://out/{shard}"), "spec.pipeline.sink.files.format: cannot be derived from the extension of path (got s3://out/{shard}); set jsonl or text"),
        ("-", "spec/pipeline/sink/files", json!({"path": "s3://out/{shard}.jsonl.gz", "compression": "zst"}), "spec.pipeline.sink.files.compression: does not match the extension of path (got s3://out/{shard}.jsonl.gz); omit it, or change the extension of path"),
        ("-", "spec/pipeline/sink/files/format", json!("parquet"), "spec.pipeline.sink.files.format: Unsupported value: \"parquet\": supported values: \"jsonl\", \"text\""),
        ("-", "spec/pipeline/sink/files/compression", json!("lz4"), "supported values: \"gz\", \"zst\", \"none\""),
        ("-", "spec/pipeline", json!({"source": {"files": {"paths": ["s3://aa/*.jsonl"], "splitBytes": "1Mi"}}, "sink": {"files": {"path": "s3://out/x.jsonl"}}}), "spec.pipeline.source.files.splitBytes: makes several shards of a file, but the output has one name (got s3://out/x.jsonl); put {shard} into spec.pipeline.sink.files.path, or omit splitBytes"),
    ])
    .await
}

#[tokio::test]
async fn parts_of_pipelines_have_exactly_one_kind_and_values_within_bounds() -> Result<()> {
    let step = "spec/pipeline/steps/0";
    let shards = |shards: i64| json!({"groupBy": {"key": ".", "aggregate": {"n": {"count": {}}}, "shards": shards}});
    let group = |aggregate: Value| json!({"groupBy": {"key": ".", "aggregate": aggregate}});
    check(vec![
        ("28", step, shards(0), "groupBy.shards: is out of range (got 0); must be 1..100000"),
        ("29", step, shards(100_001), "groupBy.shards: is out of range (got 100001); must be 1..100000"),
        ("28", "spec/pipeline/source", json!({"items": {"values": [1], "shards": 0}}), "spec.pipeline.source.items.shards: is out of range (got 0); must be 1..100000"),
        ("30", "spec/pipeline/source", json!({"items": {"values": vec![0; 20_000]}}), "spec.pipeline.source.items.values: Too many: 20000: must have at most 1000 items"),
        ("-", "spec/pipeline/source", json!({}), "must have exactly one field (got 0); exactly one of items, files"),
        ("-", "spec/pipeline/source/files/paths", json!([]), "spec.pipeline.source.files.paths in body should have at least 1 items"),
        ("-", "spec/pipeline/source/files/paths", json!(vec!["s3://aa/b"; 101]), "Too many: 101: must have at most 100 items"),
        ("-", step, json!({}), "spec.pipeline.steps[0]: Invalid value: \"object\": must have exactly one field (got 0); exactly one of map, filter, flatMap, select, drop, rename, sample, takePerShard, window, windowBy, exec, groupBy, deduplicate, count, aggregate"),
        ("-", step, json!({"map": ".", "filter": "."}), "must have exactly one field (got 2); exactly one of map, filter"),
        ("-", step, json!({"map": ""}), "spec.pipeline.steps[0].map: Invalid value: \"string\": is empty; a jq expression, . for the record itself"),
        ("-", step, json!({"map": "x".repeat(8193)}), "spec.pipeline.steps[0].map: Too long"),
        ("-", step, json!({"takePerShard": 0}), "takePerShard: is out of range (got 0); must be 1..1000000000000"),
        ("-", "spec/pipeline/limits", json!({"lineBytes": "1023"}), "spec.pipeline.limits.lineBytes: is out of range (got 1023); must be 1Ki..1Gi"),
        ("-", "spec/pipeline/limits", json!({"lineBytes": "64MB"}), "is not a quantity (got 64MB)"),
        ("-", "spec/pipeline/limits", json!({"zstdWindow": "3Gi"}), "spec.pipeline.limits.zstdWindow: is out of range (got 3Gi); must be 1Ki..2Gi"),
        ("-", "spec/pipeline/source/files/splitBytes", json!("2Pi"), "spec.pipeline.source.files.splitBytes: is out of range (got 2Pi); must be 0..1Pi"),
        ("-", "spec/pipeline/source/files/combineBytes", json!(-1), "spec.pipeline.source.files.combineBytes: is out of range (got -1); must be 0..1Pi"),
        ("-", "spec/pipeline/source/files/combineBytes", json!("64MB"), "spec.pipeline.source.files.combineBytes: is not a quantity (got 64MB)"),
        ("-", "spec/pipeline/limits", json!({"nesting": 2001}), "nesting: is out of range (got 2001); must be 1..2000"),
        ("-", step, json!({"select": ["a..b"]}), "spec.pipeline.steps[0].select[0]: Invalid value: \"string\": is not a valid column name; names joined by dots, such as a or b.c"),
        ("-", step, json!({"rename": {"a": "b."}}), "spec.pipeline.steps[0].rename[a]: Invalid value: \"string\": is not a valid column name; names joined by dots, such as a or b.c"),
        ("-", step, json!({"rename": {}}), "spec.pipeline.steps[0].rename in body should have at least 1 properties"),
        ("-", step, json!({"drop": [""]}), "spec.pipeline.steps[0].drop[0]: Invalid value: \"string\": is not a valid column name"),
        ("-", step, json!({"sample": {"fraction": 1.5}}), "spec.pipeline.steps[0].sample.fraction in body should be less than or equal to 1"),
        ("-", step, json!({"sample": {"fraction": 0.5, "seed": -1}}), "sample.seed: is out of range (got -1); must be 0..9007199254740991"),
        ("-", step, json!({"sample": {}}), "spec.pipeline.steps[0].sample.fraction: Required value"),
        ("-", step, json!({"window": 0}), "window: is out of range (got 0); must be 1..1000000000"),
        ("-", step, json!({"windowBy": {"init": "0", "update": "", "while": "."}}), "spec.pipeline.steps[0].windowBy.update: Invalid value: \"string\": is empty; a jq expression, . for the record itself"),
        ("-", step, json!({"window": 5, "onError": {"action": "Skip"}}), "has onError beside a step that does not fail on a single record"),
        ("-", step, json!({"select": []}), "spec.pipeline.steps[0].select in body should have at least 1 items"),
        ("-", step, json!({"count": {}, "onError": {"action": "Skip"}}), "spec.pipeline.steps[0]: Invalid value: \"object\": has onError beside a step that does not fail on a single record; onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate"),
        ("-", step, json!({"takePerShard": 1, "onError": {"action": "Skip"}}), "has onError beside a step that does not fail on a single record"),
        ("-", step, json!({"map": ".", "onError": {"action": "Fail", "maxSkipped": 1}}), "spec.pipeline.steps[0].onError: Invalid value: \"object\": has fields that have no effect with action Fail (got Fail); Skip, or no other field"),
        ("-", step, json!({"map": ".", "onError": {"action": "Skip", "maxSkipped": -1}}), "onError.maxSkipped: is out of range (got -1); must be 0..1000000000000"),
        ("-", step, json!({"map": ".", "onError": {"action": "Skip", "maxSkippedPercent": 101}}), "maxSkippedPercent in body should be less than or equal to 100"),
        ("-", step, json!({"map": ".", "onError": {"action": "Ignore"}}), "spec.pipeline.steps[0].onError.action: Unsupported value: \"Ignore\""),
        ("-", step, json!({"map": ".", "onError": {"action": "DeadLetter"}}), "has a path without action DeadLetter, or DeadLetter without a path; both or none of them"),
        ("-", step, json!({"map": ".", "onError": {"action": "Skip", "path": "s3://out/wordcount/bad-{shard}.jsonl"}}), "has a path without action DeadLetter"),
        ("-", step, json!({"map": ".", "onError": {"action": "DeadLetter", "path": "s3://out/wordcount/bad.jsonl"}}), "has no {shard} (got s3://out/wordcount/bad.jsonl)"),
        ("-", "spec/pipeline/source/files/onError", json!({"action": "Fail", "messages": "Hide"}), "has fields that have no effect with action Fail"),
        ("-", step, group(json!({})), "aggregate in body should have at least 1 properties"),
        ("-", step, group(json!({"key": {"count": {}}})), "must not have an aggregate named key (got key); key is reserved for the key of the group"),
        ("-", step, group(json!({"false": {"count": {}}})), "must not have an aggregate named true or false; YAML reads y, n, yes, no, on and off as these, so put such a name in quotes"),
        ("-", step, group(json!({"n": {"count": {}, "sum": "."}})), "must have exactly one field (got 2); exactly one of count, sum, min, max, avg, collect, first, last, countDistinct, any, all, stddev, topK, percentile, reduce"),
        ("-", step, group(json!({"n": {"topK": {"by": ".", "k": 0}}})), "topK.k: is out of range (got 0); must be 1..10000"),
        ("-", step, group(json!({"n": {"percentile": {"of": ".", "p": 95}}})), "percentile.p in body should be less than or equal to 1"),
        ("-", step, group(json!({"n": {"reduce": {"init": "", "update": "."}}})), "aggregate[n].reduce.init: Invalid value: \"string\": is empty; a jq expression, . for the record itself"),
        ("-", step, json!({"groupBy": {"key": ".", "aggregate": {"n": {"first": "."}}, "descending": true}}), "groupBy.descending: has no effect without sortBy; sortBy beside it, or no descending"),
        ("-", step, json!({"aggregate": {"false": {"count": {}}}}), "must not have an aggregate named true or false"),
        ("-", step, json!({"aggregate": {}}), "spec.pipeline.steps[0].aggregate in body should have at least 1 properties"),
        ("-", "spec/pipeline/steps", json!(vec![json!({"map": "."}); 101]), "spec.pipeline.steps: Too many: 101: must have at most 100 items"),
    ])
    .await
}

#[tokio::test]
async fn resources_are_quantities_within_each_other() -> Result<()> {
    let path = "spec/workers/resources";
    check(vec![
        ("38", path, json!({"limits": {"cpu": "lots"}}), "spec.workers.resources.limits.cpu: Invalid value: \"\": is not a quantity (got lots); a number with a suffix such as m, k, M, G, Ki, Mi, Gi"),
        ("38", path, json!({"limits": {"memory": "1GB"}}), "is not a quantity (got 1GB)"),
        ("38", path, json!({"limits": {"memory": "-1Gi"}}), "is not positive (got -1Gi); must be > 0"),
        ("38", path, json!({"limits": {"cpu": "0"}}), "is not positive (got 0); must be > 0"),
        ("38", path, json!({"limits": {"cpu": 0}}), "is not positive (got 0); must be > 0"),
        ("39", path, json!({"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}), "requests.cpu: is greater than the limit (got 2); requests must be <= limits"),
        ("39", path, json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}), "requests.memory: is greater than the limit (got 2Gi); requests must be <= limits"),
        ("40", path, json!({"limits": {"memory": "16Mi"}}), "is too little memory (got 16Mi); minimum 128Mi"),
        ("40", "spec/coordinator/resources", json!({"limits": {"memory": "16Mi"}}), "is too little memory (got 16Mi); minimum 128Mi"),
    ])
    .await
}

#[tokio::test]
async fn settings_of_pods_are_within_what_is_allowed() -> Result<()> {
    let tolerations: Vec<Value> = (0..1000)
        .map(|index| json!({"key": format!("key-{index}")}))
        .collect();
    let variables: Vec<Value> = (0..1000)
        .map(|index| json!({"name": format!("A{index}"), "value": ""}))
        .collect();
    let template = "spec/workers/template";
    let at = |field: &str| -> &'static str { format!("{template}/{field}").leak() };
    check(vec![
        ("41", "spec/coordinator/template/nodeSelector", json!({"cloud.google.com/gke-spot": "true"}), "spec.coordinator.template.nodeSelector: selects preemptible nodes; the coordinator must not be preemptible, select other nodes or none"),
        ("42", at("tolerations"), json!(tolerations), "Too many: 1000: must have at most 20 items"),
        ("42", at("tolerations"), json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]), "tolerates a taint that is not allowed (got node-role.kubernetes.io/control-plane); any taint except those of the control plane"),
        ("42", at("tolerations"), json!([{"operator": "Exists"}]), "spec.workers.template.tolerations[0].key: Required value"),
        ("45", at("env"), json!([{"name": "1X", "value": ""}]), "is not a valid environment variable name (got 1X); letters, digits and underscores, no digit first"),
        ("45", at("env"), json!([{"name": "", "value": ""}]), "is not a valid environment variable name"),
        ("45", at("env"), json!([{"name": "ZEPHYR_TOKEN", "value": ""}]), "is a reserved name (got ZEPHYR_TOKEN)"),
        ("45", at("env"), json!([{"name": "LD_PRELOAD", "value": ""}]), "is a reserved name (got LD_PRELOAD)"),
        ("46", at("env"), json!([{"name": "A", "value": "x".repeat(1 << 20)}]), "spec.workers.template.env[0].value: Too long: may not be more than 4096 bytes"),
        ("46", at("env"), json!(variables), "spec.workers.template.env: Too many: 1000: must have at most 100 items"),
        ("31", at("env"), json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "spec.workers.template.env[1]: Duplicate value"),
        ("47", at("envFrom"), json!([{"secretRef": {"name": "other/x"}}]), "is not a valid object name (got other/x); a name in the same namespace"),
        ("47", "spec/storage/credentialsSecret", json!("other/x"), "is not a valid object name (got other/x); a name in the same namespace"),
        ("49", at("labels"), json!({"zephyr.dev/job": "x"}), "has a key with a reserved prefix; any label but zephyr.dev/* and app.kubernetes.io/*"),
        ("49", at("annotations"), json!({"zephyr.dev/x": "x"}), "has a key with a reserved prefix"),
        ("49", at("annotations"), json!({"a": "x".repeat(256 << 10)}), "Too long"),
        ("-", "spec/workers/preemptible", json!({"provider": "custom"}), "spec.workers.preemptible.nodeSelector: is missing; provider custom needs the labels of its nodes"),
        ("-", "spec/workers/preemptible", json!({"provider": "gke", "nodeSelector": {"a": "b"}}), "has nodeSelector or tolerations although provider is not custom (got gke); remove them or set provider: custom"),
        ("-", "spec/storage/ledgerTTL", json!("59m"), "spec.storage.ledgerTTL: is out of range (got 59m); must be 1h..8760h"),
        ("-", "spec/storage/ledgerTTL", json!("7d"), "spec.storage.ledgerTTL: is not a duration (got 7d); a duration needs whole numbers and a unit of h, m, s, ms, such as 5m, from 1h to 8760h"),
        ("-", "spec/storage/retain", json!("Sometimes"), "supported values: \"Never\", \"OnFailure\", \"Always\""),
        ("-", "spec/retries/speculation", json!("Maybe"), "supported values: \"Auto\", \"Never\""),
        ("-", "spec/workers/preemptible", json!({"provider": "azure"}), "supported values: \"gke\", \"eks\", \"aks\", \"karpenter\", \"custom\", \"none\""),
    ])
    .await
}

/// The server's rules cannot detect or express some errors, so the server accepts them. Operator
/// and CLI must refuse them with a sentence.
#[tokio::test]
async fn errors_that_the_server_cannot_express_are_refused_by_operator_and_cli() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let rows: Vec<Row> = vec![
        (
            "52",
            "spec/pipeline/source",
            json!({"items": {"values": ["x".repeat(70 << 10)]}}),
            "at most 65536 bytes as JSON, put records into a file",
        ),
        (
            "49",
            "spec/workers/template/labels",
            json!({"a": "b c"}),
            "spec.workers.template.labels[a]: is not a valid label value (got b c)",
        ),
        (
            "49",
            "spec/workers/template/nodeSelector",
            json!({"a b": "c"}),
            "spec.workers.template.nodeSelector: has a key that is not valid (got a b)",
        ),
        (
            "41",
            "spec/coordinator/template/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "cloud.google.com/gke-spot", "operator": "In", "values": ["true"]}]}]}}}),
            "allows preemptible nodes only; the coordinator must not be preemptible",
        ),
        (
            "-",
            "spec/pipeline/steps/0",
            json!({"groupBy": {"key": ".", "aggregate": {"a b": {"count": {}}}}}),
            "has a name that is not valid (got a b)",
        ),
        (
            "-",
            "spec/pipeline/steps/0",
            json!({"select": ["a", "a"]}),
            "spec.pipeline.steps[0].select[1]: names a column twice (got a); each column once",
        ),
        (
            "-",
            "spec/pipeline/steps/0",
            json!({"map": "  "}),
            "spec.pipeline.steps[0].map: is empty; a jq expression, . for the record itself",
        ),
        (
            "-",
            "spec/pipeline/source/files/paths/0",
            json!("s3://corpus/[a.txt"),
            "has brackets or braces that do not match (got s3://corpus/[a.txt)",
        ),
    ];
    for (row, path, value, words) in rows {
        let object = with(good(), path, value);
        create(&client, &object)
            .await?
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("row {row}: {path}"))?;
        let sentences = sentences(&object, Place::Cluster)?;
        ensure!(
            sentences.iter().any(|sentence| sentence.contains(words)),
            "row {row}: {path}: {sentences:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn good_jobs_are_accepted_and_get_their_defaults() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let mut jobs = vec![("the one that all rows change".to_owned(), good())];
    let mut with_null = good();
    with_null["spec"]["ttlSecondsAfterFinished"] = Value::Null;
    jobs.push(("null for an optional number".to_owned(), with_null));
    for (name, path, value) in [
        ("an empty image (row 10)", "spec/image", json!("")),
        (
            "a name of 38 characters",
            "metadata/name",
            json!("x".repeat(38)),
        ),
        (
            "quantities as numbers",
            "spec/workers/resources",
            json!({"requests": {"cpu": 1}, "limits": {"cpu": 2, "memory": "2Gi"}}),
        ),
        (
            "inline items of every kind",
            "spec/pipeline/source",
            json!({"items": {"values": [1, "a", null, {"b": [true]}, [1.5]], "shards": 2}}),
        ),
        ("no steps", "spec/pipeline/steps", json!([])),
    ] {
        jobs.push((name.to_owned(), with(good(), path, value)));
    }
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for entry in std::fs::read_dir(examples).context("list examples")? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path)?;
            let manifest: Value = serde_saphyr::from_str(&text)
                .with_context(|| format!("parse {}", path.display()))?;
            jobs.push((path.display().to_string(), manifest));
        }
    }
    for (name, job) in jobs {
        let stored = create(&client, &job)
            .await?
            .map_err(anyhow::Error::msg)
            .with_context(|| name.clone())?;
        let sentences = sentences(&job, Place::Cluster)?;
        ensure!(sentences.is_empty(), "{name}: {sentences:?}");
        ensure!(
            stored["spec"]["retries"]["backoff"]["max"] == "5m",
            "{name}: defaults are filled in"
        );
        let by_server: ZephyrJobSpec = serde_json::from_value(stored["spec"].clone())?;
        let by_types: ZephyrJobSpec = serde_json::from_value(job["spec"].clone())?;
        ensure!(
            by_server == by_types,
            "{name}: server and types fill in the same defaults"
        );
    }
    let with_status = with(good(), "status", json!({"phase": "Succeeded"}));
    let stored = create(&client, &with_status)
        .await?
        .map_err(anyhow::Error::msg)?;
    ensure!(
        stored["status"].is_null(),
        "row 51: status on create is ignored"
    );
    Ok(())
}

/// The stored job has a label that no pod can have. So the operator refuses the job, and starts
/// nothing for it.
#[tokio::test]
async fn pipeline_and_storage_are_immutable_once_the_job_has_begun() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = ObjectMeta {
        generate_name: Some("zephyr-test-admission-".to_owned()),
        ..ObjectMeta::default()
    };
    let namespace = namespaces
        .create(
            &PostParams::default(),
            &Namespace {
                metadata,
                ..Namespace::default()
            },
        )
        .await?
        .name_any();
    let source = json!({"items": {"values": [1, null, {"a": [2, null]}], "shards": 1}});
    let job = with(
        with(good(), "spec/workers/template/labels", json!({"a": "b c"})),
        "spec/pipeline/source",
        source,
    );
    let job: ZephyrJob = serde_json::from_value(job)?;
    Api::<ZephyrJob>::namespaced(client.clone(), &namespace)
        .create(&PostParams::default(), &job)
        .await?;

    let pipeline = "spec.pipeline: cannot be changed after the job has begun, except in the update that changes spec.restart after a failure; create a new job";
    let storage = "spec.storage: cannot be changed after the job has begun; create a new job";
    let changes = [
        (json!({"pipeline": {"steps": []}}), pipeline),
        (
            json!({"pipeline": {"sink": {"files": {"path": "s3://out/other-{shard}.jsonl"}}}}),
            pipeline,
        ),
        (
            json!({"pipeline": {"sink": {"files": {"compression": "gz"}}}}),
            pipeline,
        ),
        (
            json!({"pipeline": {"source": {"items": {"values": [1, null, {"a": [3, null]}]}}}}),
            pipeline,
        ),
        (json!({"storage": {"uri": "s3://scratch/other"}}), storage),
        (json!({"storage": {"credentialsSecret": null}}), storage),
    ];
    for (patch, _) in &changes {
        // The server ignores a status that the user writes.
        let patch = json!({"spec": patch, "status": {"generation": 1}});
        let answer = change(&client, &namespace, "wordcount", &patch).await?;
        answer
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("no generation has begun: {patch}"))?;
    }
    begin(&client, &namespace, "wordcount").await?;
    for (patch, words) in changes {
        let answer = change(&client, &namespace, "wordcount", &json!({"spec": patch})).await?;
        let refusal = answer
            .err()
            .with_context(|| format!("row 50: accepted: {patch}"))?;
        ensure!(refusal.contains(words), "row 50: {patch}: {refusal}");
    }
    for patch in [
        json!({"workers": {"replicas": 2}}),
        json!({"retries": {"maxGenerations": 3, "noWorkersTimeout": "1m"}}),
        json!({"ttlSecondsAfterFinished": 60}),
        json!({"image": "zephyr-worker:2"}),
        json!({"workers": {"resources": {"limits": {"memory": "2Gi"}}, "template": {"env": [{"name": "A", "value": "b"}]}}}),
        json!({"coordinator": {"template": {"nodeSelector": {"pool": "steady"}}}}),
    ] {
        let answer = change(&client, &namespace, "wordcount", &json!({"spec": patch})).await?;
        answer
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("must be changeable: {patch}"))?;
    }
    correct_while_a_restart_waits(&client, &namespace).await?;
    let status = change(
        &client,
        &namespace,
        "wordcount",
        &json!({"status": {"phase": "Succeeded"}}),
    )
    .await?;
    ensure!(
        status.is_ok_and(|stored| stored["status"]["phase"] != "Succeeded"),
        "row 51: status is not the user's to write"
    );
    namespaces
        .delete(&namespace, &DeleteParams::default())
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_objects_of_the_page_on_nightly_jobs_are_accepted_by_the_api_server() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let page = include_str!("../../docs/nightly.md");
    let (_, fence) = page.split_once("```yaml\n").context("a fence")?;
    let (fence, _) = fence.split_once("\n```").context("the fence's end")?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(fence)?;
    ensure!(objects.len() == 5, "{} objects", objects.len());
    for object in objects {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let api = if version.contains('/') { "apis" } else { "api" };
        let url = format!(
            "/{api}/{version}/namespaces/default/{}s?dryRun=All&fieldValidation=Strict",
            kind.to_lowercase()
        );
        let mut request =
            Request::new("/").create(&PostParams::default(), serde_json::to_vec(&object)?)?;
        *request.uri_mut() = url.parse().context("a url")?;
        let answer = answer(client.request::<Value>(request).await)?;
        answer.map_err(anyhow::Error::msg).context(kind)?;
        if let Some(job) = object.pointer("/data/job.yaml").and_then(Value::as_str) {
            let job = serde_saphyr::from_str(&job.replace("DAY", "2026-11-26"))?;
            let answer = create(&client, &job).await?;
            answer.map_err(anyhow::Error::msg).context("the job")?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn fault_f17_the_schema_that_the_api_server_publishes_equals_this_releases() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let deadline = tokio::time::Instant::now() + TEST_TIMEOUT;
    loop {
        let mut request = Request::new("/").list(&kube::api::ListParams::default())?;
        *request.uri_mut() = "/openapi/v3/apis/zephyr.dev/v1alpha1".parse()?;
        let published: Value = client.request(request).await?;
        let schema = &published["components"]["schemas"]["dev.zephyr.v1alpha1.ZephyrJob"];
        let differences = compare(schema);
        if differences == Differences::default() {
            let status =
                "/apis/zephyr.dev/v1alpha1/namespaces/{namespace}/zephyrjobs/{name}/status";
            ensure!(
                published["paths"][status].is_object(),
                "{status} is not published"
            );
            ensure!(
                schema["x-kubernetes-group-version-kind"][0]["kind"] == "ZephyrJob",
                "the schema does not name its kind"
            );
            return Ok(());
        }
        // The API server publishes a changed definition with a short delay.
        ensure!(tokio::time::Instant::now() < deadline, "{differences:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
