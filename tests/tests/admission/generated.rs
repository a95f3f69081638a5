//! Sends hundreds of manifests to the API server, and checks them with the CLI's own rules. Each is
//! a valid manifest with one random change. Both must refuse the same manifests, and read the
//! accepted ones as the same spec.

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use zephyr_crds::job::{ZephyrJob, ZephyrJobSpec};
use zephyr_crds::structural;
use zephyr_crds::validate::{Place, validate};
use zephyr_tests::cluster::client;

use super::{create, definition_is_installed};

/// How many manifests are sent.
const MANIFESTS: usize = 600;
/// How many requests run at the same time.
const AT_A_TIME: usize = 8;
const SEED: u64 = 17;

/// Returns a job that sets every kind of field.
fn good() -> Value {
    let template = json!({
        "labels": {"team": "a"},
        "annotations": {"a": "b"},
        "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "nodeSelector": {"a": "b"},
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
        "imagePullSecrets": [{"name": "p"}],
        "serviceAccountName": "sa",
        "priorityClassName": "pc",
        "schedulerName": "s",
    });
    let resources =
        json!({"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}});
    json!({
        "apiVersion": "zephyr.dev/v1alpha1",
        "kind": "ZephyrJob",
        "metadata": {"name": "generated", "labels": {"a": "b"}, "annotations": {"a": "b"}},
        "spec": {
            "pipeline": {
                "source": {"items": {"values": [1, "a", null, {"b": [true, 1.5]}], "shards": 2}},
                "steps": [
                    {"map": "."},
                    {"filter": ".a"},
                    {"flatMap": ".[]"},
                    {"select": ["a", "b.c"]},
                    {"drop": ["a", "b.c"]},
                    {"rename": {"a": "b", "c.d": "c.e"}},
                    {"sample": {"fraction": 0.5, "seed": 7}},
                    {"takePerShard": 5},
                    {"window": 3},
                    {"windowBy": {"init": "0", "update": ".state", "while": ".record"}},
                    {"groupBy": {"key": ".", "aggregate": {"n": {"count": {}}, "s": {"sum": "."}}, "shards": 4}},
                    {"deduplicate": {"key": ".", "shards": 4}},
                    {"count": {}},
                    {"groupBy": {"key": ".", "sortBy": ".a", "descending": true, "aggregate": {
                        "a": {"first": "."}, "b": {"countDistinct": "."}, "c": {"topK": {"by": ".", "k": 3}},
                        "d": {"percentile": {"of": ".", "p": 0.5}}, "e": {"reduce": {"init": "0", "update": ".state"}},
                    }}},
                    {"aggregate": {"n": {"any": "."}}},
                ],
                "sink": {"files": {"path": "s3://out/{shard}.jsonl", "format": "jsonl", "compression": "none"}},
            },
            "storage": {"uri": "s3://scratch/zephyr", "credentialsSecret": "s3", "retain": "Never"},
            "image": "registry.example.com/a:1",
            "coordinator": {"resources": resources, "template": {"labels": {"a": "b"}}},
            "workers": {
                "replicas": 4, "slots": 2, "resources": resources, "template": template,
                "preemptible": {"provider": "custom", "nodeSelector": {"spot": "true"}, "tolerations": [{"key": "spot", "operator": "Exists"}]},
            },
            "retries": {
                "maxGenerations": 3, "taskFailures": 3, "taskDisruptions": 0, "speculation": "Never",
                "backoff": {"initial": "1s", "factor": 2, "max": "1m"},
                "noWorkersTimeout": "30m", "coordinatorTimeout": "2m", "taskStallTimeout": "10m",
                "taskTimeout": "1h",
            },
            "failedPodsTTL": "1h",
            "ttlSecondsAfterFinished": 60,
        },
    })
}

/// Collects the pointer of every value, except the root and the values that the address of the
/// request determines.
fn pointers(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let mut visit = |name: &str, child: &Value| {
        let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        if !["/apiVersion", "/kind"].contains(&&*pointer) {
            found.push(pointer.clone());
            pointers(child, &pointer, found);
        }
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, child)| visit(name, child)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, child)| visit(&index.to_string(), child)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the values with which a value is replaced.
fn replacements(old: &Value) -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1_i64 << 40),
        json!(u64::MAX),
        json!("1"),
        json!(""),
        json!("a b"),
        json!("x".repeat(9000)),
        json!([]),
        json!({}),
        json!([null]),
        json!({"a": null}),
        json!({"unknownField": 1}),
    ];
    match old {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert("unknownField".to_owned(), json!(1));
            all.push(Value::Object(more));
            let mut more = fields.clone();
            more.insert("unknownField".to_owned(), Value::Null);
            all.push(Value::Object(more));
        }
        Value::Array(items) => {
            all.push(Value::Array(vec![
                items.first().cloned().unwrap_or_default();
                1001
            ]));
            all.push(Value::Array(
                items.iter().cloned().chain([Value::Null]).collect(),
            ));
        }
        Value::Number(_) => all.push(json!(i64::from(i32::MAX) + 1)),
        Value::String(text) => {
            all.push(json!([text]));
            all.push(json!(format!("{text}\u{0}")));
        }
        Value::Null | Value::Bool(_) => {}
    }
    all
}

/// Returns the changed manifests. Every pair of pointer and replacement has the same probability.
/// The same seed gives the same list.
fn manifests() -> Vec<(String, Value)> {
    let mut places = Vec::new();
    pointers(&good(), "", &mut places);
    let mut rows: Vec<(String, Value)> = places
        .iter()
        .flat_map(|place| {
            let old = good().pointer(place).cloned().unwrap_or_default();
            replacements(&old)
                .into_iter()
                .map(|new| (place.clone(), new))
        })
        .collect();
    let mut state = SEED;
    let mut chosen = vec![("nothing".to_owned(), good())];
    while chosen.len() < MANIFESTS && !rows.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let index = usize::try_from(state >> 33).unwrap_or(0) % rows.len();
        let (place, new) = rows.swap_remove(index);
        let shown: String = new.to_string().chars().take(60).collect();
        let mut object = good();
        if let Some(value) = object.pointer_mut(&place) {
            *value = new;
        }
        chosen.push((format!("{place} = {shown}"), object));
    }
    chosen
}

/// Returns the spec that operator and CLI read from an object, or the errors that they report.
fn ours(object: &Value) -> Result<ZephyrJobSpec, Vec<String>> {
    let admitted = structural::admit(object);
    let mut errors: Vec<String> = admitted.errors.iter().map(ToString::to_string).collect();
    match serde_json::from_value::<ZephyrJob>(admitted.object) {
        Err(error) => errors.push(format!("types: {error}")),
        Ok(job) => {
            let name = job.metadata.name.unwrap_or_default();
            errors.extend(
                validate(&job.spec, &name, Place::Cluster)
                    .iter()
                    .map(ToString::to_string),
            );
            if errors.is_empty() {
                return Ok(job.spec);
            }
        }
    }
    Err(errors)
}

/// Returns the difference between the two answers to one manifest, if there is one.
fn difference(
    label: &str,
    theirs: Result<Value, String>,
    ours: &Result<ZephyrJobSpec, Vec<String>>,
) -> Option<String> {
    match (theirs, ours) {
        (Err(_), Err(_)) => None,
        (Err(words), Ok(_)) => Some(format!("{label}: only the server refuses it: {words}")),
        (Ok(stored), ours) => {
            // The operator still checks the job that the server stores.
            let spec: ZephyrJobSpec = serde_json::from_value(stored["spec"].clone()).ok()?;
            let name = stored["metadata"]["name"].as_str().unwrap_or_default();
            let is_good = validate(&spec, name, Place::Cluster).is_empty();
            match ours {
                Ok(ours) if *ours == spec => None,
                Ok(ours) => Some(format!(
                    "{label}: the server has {spec:?}, the CLI {ours:?}"
                )),
                Err(words) if is_good => {
                    Some(format!("{label}: only the CLI refuses it: {words:?}"))
                }
                Err(_) => None,
            }
        }
    }
}

#[tokio::test]
async fn server_and_cli_refuse_the_same_generated_manifests() -> Result<()> {
    let client = client().await?;
    definition_is_installed(&client).await?;
    let answers: Vec<(String, Value, Result<Value, String>)> = stream::iter(manifests())
        .map(|(label, object)| {
            let client = client.clone();
            async move {
                let answer = create(&client, &object).await?;
                anyhow::Ok((label, object, answer))
            }
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await?;
    let refused = answers
        .iter()
        .filter(|(.., answer)| answer.is_err())
        .count();
    let wrong: Vec<String> = answers
        .into_iter()
        .filter_map(|(label, object, theirs)| difference(&label, theirs, &ours(&object)))
        .collect();
    ensure!(
        (100..MANIFESTS - 50).contains(&refused),
        "{refused} of {MANIFESTS} were refused: the list shows nothing"
    );
    ensure!(
        wrong.is_empty(),
        "{} of {MANIFESTS} (seed {SEED}):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}
