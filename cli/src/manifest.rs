//! A `ZephyrJob` manifest from a file or from standard input. Every mistake that can be seen without data is told here,
//! in the words of the field; nothing is sent anywhere.

use std::io::Read as _;

use kube::CustomResourceExt as _;
use serde_json::Value;
use zephyr_crds::job::ZephyrJob;
use zephyr_crds::validate::{FieldError, Place, validate};

/// The most bytes a manifest may have: what etcd takes of one object, and more than the API accepts (64 KiB).
const MANIFEST_MAX_BYTES: u64 = 1 << 20;

/// Words this unlike (edit distance) are not suggested for each other.
const SUGGESTION_MAX_DISTANCE: usize = 3;

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("read {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "{path}: too large (more than {MANIFEST_MAX_BYTES} bytes); a job's manifest has at most 64 KiB"
    )]
    TooLarge { path: String },
    #[error("{path}: not UTF-8 (byte {offset}); save the file as UTF-8")]
    NotUtf8 { path: String, offset: usize },
    #[error("{path}: empty; a manifest with one ZephyrJob is expected")]
    Empty { path: String },
    #[error("{path}: {message}")]
    Yaml { path: String, message: String },
    #[error(
        "{path}: {found} is not supported; supported is apiVersion zephyr.dev/v1alpha1, kind ZephyrJob"
    )]
    Kind { path: String, found: String },
    #[error("{path}: the job is refused\n{}", lines(.errors))]
    Refused { path: String, errors: Vec<String> },
}

fn lines(errors: &[String]) -> String {
    errors
        .iter()
        .map(|error| format!("  {error}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Reads, parses and validates the manifest at `path`; `-` is standard input.
pub(crate) fn read(path: &str, place: Place) -> Result<ZephyrJob, ManifestError> {
    let bytes = read_bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| ManifestError::NotUtf8 {
        path: path.to_owned(),
        offset: error.valid_up_to(),
    })?;
    parse(path, text, place)
}

fn read_bytes(path: &str) -> Result<Vec<u8>, ManifestError> {
    let failed = |source| ManifestError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    if path == "-" {
        std::io::stdin()
            .take(MANIFEST_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MANIFEST_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
    }
    if bytes.len() as u64 > MANIFEST_MAX_BYTES {
        return Err(ManifestError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

fn parse(path: &str, text: &str, place: Place) -> Result<ZephyrJob, ManifestError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(ManifestError::Empty {
            path: path.to_owned(),
        });
    }
    let yaml_error = |error: serde_saphyr::Error| ManifestError::Yaml {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let value: Value = serde_saphyr::from_str(text).map_err(yaml_error)?;
    let word = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("(missing)")
            .to_owned()
    };
    let (api_version, kind) = (word("apiVersion"), word("kind"));
    if (api_version.as_str(), kind.as_str()) != ("zephyr.dev/v1alpha1", "ZephyrJob") {
        return Err(ManifestError::Kind {
            path: path.to_owned(),
            found: format!("apiVersion {api_version}, kind {kind}"),
        });
    }
    let mut errors = unknown_fields(&value);
    let job: ZephyrJob = match serde_saphyr::from_str(text) {
        Ok(job) => job,
        Err(error) if errors.is_empty() => return Err(yaml_error(error)),
        // The misspelt field is the likelier cause of the missing one.
        Err(_) => {
            return Err(ManifestError::Refused {
                path: path.to_owned(),
                errors,
            });
        }
    };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    errors.extend(
        validate(&job.spec, name, place)
            .iter()
            .map(FieldError::to_string),
    );
    if errors.is_empty() {
        Ok(job)
    } else {
        Err(ManifestError::Refused {
            path: path.to_owned(),
            errors,
        })
    }
}

/// Fields that the CRD's schema does not have, each with the most alike one that it has.
fn unknown_fields(manifest: &Value) -> Vec<String> {
    let crd = ZephyrJob::crd();
    let schema = crd
        .spec
        .versions
        .first()
        .and_then(|version| version.schema.as_ref());
    let Some(schema) =
        schema.and_then(|schema| serde_json::to_value(&schema.open_api_v3_schema).ok())
    else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if let (Some(spec), Some(schema)) = (manifest.get("spec"), schema.pointer("/properties/spec")) {
        collect_unknown(spec, schema, "spec", &mut errors);
    }
    errors
}

fn collect_unknown(value: &Value, schema: &Value, path: &str, errors: &mut Vec<String>) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    match value {
        Value::Object(fields) => {
            let known = schema.get("properties").and_then(Value::as_object);
            let others = schema.get("additionalProperties");
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                match (known.and_then(|known| known.get(name)), others, known) {
                    (Some(schema), _, _) | (None, Some(schema), _) => {
                        collect_unknown(field, schema, &path, errors);
                    }
                    (None, None, Some(known)) => {
                        errors.push(unknown_field(&path, name, known.keys()));
                    }
                    (None, None, None) => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    collect_unknown(item, schema, &format!("{path}[{index}]"), errors);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unknown_field<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<_> = known.collect();
    let nearest = known
        .iter()
        .min_by_key(|word| strsim::damerau_levenshtein(word, name));
    match nearest {
        Some(word) if strsim::damerau_levenshtein(word, name) <= SUGGESTION_MAX_DISTANCE => {
            format!("{path}: unknown field; did you mean \"{word}\"?")
        }
        _ => {
            let known: Vec<_> = known.iter().map(|word| word.as_str()).collect();
            format!("{path}: unknown field; allowed are {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: { name: count }
spec:
  pipeline:
    source: { files: { paths: ["s3://in/*.jsonl"] } }
    steps: [ { count: {} } ]
    sink: { files: { path: "s3://out/count.jsonl" } }
  storage: { uri: "s3://scratch/zephyr" }
  workers: { replicas: 2 }
"#;

    fn message(text: &str) -> String {
        parse("job.yaml", text, Place::Cluster)
            .expect_err("it is refused")
            .to_string()
    }

    #[test]
    fn a_good_manifest_is_taken_with_carriage_returns_and_a_byte_order_mark_too() {
        parse("job.yaml", GOOD, Place::Cluster).expect("it is good");
        parse(
            "job.yaml",
            &format!("\u{feff}{}", GOOD.replace('\n', "\r\n")),
            Place::Cluster,
        )
        .expect("it is good");
    }

    #[test]
    fn each_mistake_is_told_in_one_line_that_names_it() {
        let table = [
            ("", "job.yaml: empty"),
            ("a: [", "job.yaml: "),
            (
                "kind: Job\napiVersion: batch/v1",
                "apiVersion batch/v1, kind Job is not supported",
            ),
            (
                &GOOD.replace("workers:", "worker:"),
                "spec.worker: unknown field; did you mean \"workers\"?",
            ),
            (
                &GOOD.replace("replicas: 2", "replicas: 2, replicas: 3"),
                "replicas",
            ),
            (
                &GOOD.replace("count: {} }", "cuont: {} }"),
                "spec.pipeline.steps[0].cuont: unknown field; did you mean \"count\"?",
            ),
            (&GOOD.replace("replicas: 2", "replicas: many"), "job.yaml: "),
            (
                &GOOD.replace("s3://scratch/zephyr", "ftp://scratch"),
                "spec.storage.uri: ",
            ),
        ];
        for (text, expected) in table {
            let message = message(text);
            assert!(
                message.contains(expected),
                "{expected:?} is not in {message:?}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read("/no/such/file.yaml", Place::Cluster).expect_err("it is not there");
        assert!(
            error.to_string().starts_with("read /no/such/file.yaml: "),
            "{error}"
        );
    }
}
