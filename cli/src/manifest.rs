//! A `ZephyrJob` manifest from a file or from standard input, read as `kubectl apply` and the API
//! server read it. Every error that can be found without data is reported here, with the field and
//! its position in the file. Sends nothing.

mod dialect;
mod documents;
mod json;
mod number;
mod scalar;
mod source;
mod tree;
mod yaml;

use zephyr_crds::job::ZephyrJob;
use zephyr_crds::pipeline::PipelineSpec;
use zephyr_crds::structural;
use zephyr_crds::validate::{FieldError, Place, validate};

use source::MAX_MANIFEST_BYTES;
use tree::{Change, Node, Position};

/// Part of the path of every value that may be any JSON: an inline item, or a named value.
const ANY_JSON: [&str; 2] = [".items.values[", ".pipeline.values."];

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("read {path}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error(
        "{path}: too large (more than {MAX_MANIFEST_BYTES} bytes); a job's manifest has at most 64 KiB"
    )]
    TooLarge { path: String },
    #[error("{path}: not UTF-8 (byte {offset}); save the file as UTF-8")]
    NotUtf8 { path: String, offset: usize },
    #[error("{path}: not UTF-16, although its byte order mark says so; save the file as UTF-8")]
    NotUtf16 { path: String },
    #[error("{path}: empty; a manifest with one ZephyrJob is expected")]
    Empty { path: String },
    #[error("{path}: {position}: {message}")]
    Syntax {
        path: String,
        position: Position,
        message: String,
    },
    #[error(
        "{path}: {found} is not supported; supported is apiVersion zephyr.dev/v1alpha1, kind ZephyrJob"
    )]
    Kind { path: String, found: String },
    #[error("{path}: has {count} ZephyrJobs ({names}); choose one with --name")]
    Several {
        path: String,
        count: usize,
        names: String,
    },
    #[error("{path}: has no ZephyrJob of this name (got --name {name}); it has {names}")]
    NoSuchName {
        path: String,
        name: String,
        names: String,
    },
    #[error(
        "{path}: has {count} ZephyrJobs of the same name (got --name {name}); put each into its own file"
    )]
    SeveralOfName {
        path: String,
        count: usize,
        name: String,
    },
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

/// Reads, parses and validates the manifest at `path`; `-` is standard input. `name` chooses one of
/// several jobs.
pub(crate) fn read(
    path: &str,
    name: Option<&str>,
    place: Place,
) -> Result<ZephyrJob, ManifestError> {
    parse(path, &source::read(path)?, name, place)
}

/// A job's manifest with all its errors.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The job, if all values have types that can be read.
    pub(crate) job: Option<ZephyrJob>,
    /// Its pipeline, if all values of the pipeline have types that can be read.
    pub(crate) pipeline: Option<PipelineSpec>,
    /// Every error, with the position of its field in the file.
    pub(crate) errors: Vec<String>,
}

/// Reads the manifest as `read` does, and returns the job although it has errors.
pub(crate) fn examine(
    path: &str,
    name: Option<&str>,
    place: Place,
) -> Result<Examined, ManifestError> {
    let node = documents::job(path, &source::read(path)?, name)?;
    let (job, errors) = check(&node, place);
    let errors = errors.iter().map(|error| placed(&node, error)).collect();
    let pipeline = if let Some(job) = &job {
        Some(job.spec.pipeline.clone())
    } else {
        let mut object = structural::admit(&node.to_json()).object;
        serde_json::from_value(object["spec"]["pipeline"].take()).ok()
    };
    Ok(Examined {
        job,
        pipeline,
        errors,
    })
}

fn parse(
    path: &str,
    text: &str,
    name: Option<&str>,
    place: Place,
) -> Result<ZephyrJob, ManifestError> {
    let node = documents::job(path, text, name)?;
    let (job, errors) = check(&node, place);
    match job {
        Some(mut job) if errors.is_empty() => {
            // There are no such errors here, because the check above would have found them.
            let _none = job.spec.pipeline.put_values_in_paths();
            Ok(job)
        }
        _ => Err(ManifestError::Refused {
            path: path.to_owned(),
            errors: errors.iter().map(|error| placed(&node, error)).collect(),
        }),
    }
}

/// The job, if all values have types that can be read, and every error in the manifest.
fn check(node: &Node, place: Place) -> (Option<ZephyrJob>, Vec<FieldError>) {
    let admitted = structural::admit(&node.to_json());
    let mut errors = admitted.errors;
    errors.extend(
        node.changes("")
            .iter()
            .filter(|change| ANY_JSON.iter().any(|part| change.path.contains(part)))
            .map(changed_item),
    );
    let job = match serde_json::from_value::<ZephyrJob>(admitted.object) {
        Ok(job) => job,
        Err(error) if errors.is_empty() => {
            let allowed = "what the fields of the ZephyrJob allow";
            errors.push(FieldError::new("ZephyrJob", error.to_string(), allowed));
            return (None, errors);
        }
        Err(_) => return (None, errors),
    };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    for error in validate(&job.spec, name, place) {
        let is_reported = errors.iter().any(|other| follows(&error, other));
        if !is_reported {
            errors.push(error);
        }
    }
    (Some(job), errors)
}

/// Whether `error` is only a consequence of `other`. Either both are in one field, or `error` says
/// that a map has none of its fields and `other` reports a misspelt field of this map.
fn follows(error: &FieldError, other: &FieldError) -> bool {
    let is_below = || {
        let rest = other.path.strip_prefix(&error.path);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let lacks_a_field =
        error.wrong == "must have exactly one field" && error.got.as_deref() == Some("0");
    other.path == error.path || lacks_a_field && other.wrong == "unknown field" && is_below()
}

fn changed_item(change: &Change) -> FieldError {
    let problem = if number::same_decimal(&change.written, &change.arrives) {
        // The operator sees only the stored value. It cannot tell whether that number lost digits.
        format!(
            "is an integer of 2^63 or more, which the API server stores as a double ({}), perhaps without its last digits",
            change.arrives
        )
    } else {
        format!(
            "is a number that the API server stores as {}",
            change.arrives
        )
    };
    FieldError::new(
        change.path.trim_start_matches('.'),
        problem,
        "integers between -2^63 and 2^63, and decimals with the digits that a double holds; put others into quotes or into a file",
    )
    .got(&change.written)
}

/// An error with the position of its field in the file.
fn placed(node: &Node, error: &FieldError) -> String {
    match node.locate(&error.path) {
        Some(position) => format!("{error} ({position})"),
        None => error.to_string(),
    }
}

/// The text of a valid manifest for tests, with this pattern of input files, these steps in YAML,
/// and this sink.
#[cfg(test)]
pub(crate) fn text_of(input: &str, steps: &str, sink: &str) -> String {
    format!(
        r#"
apiVersion: zephyr.dev/v1alpha1
kind: ZephyrJob
metadata: {{ name: count }}
spec:
  pipeline:
    source: {{ files: {{ paths: ["{input}"] }} }}
    steps: {steps}
    sink: {{ files: {{ path: "{sink}" }} }}
  storage: {{ uri: "s3://scratch/zephyr" }}
  workers: {{ replicas: 1 }}
"#
    )
}

#[cfg(test)]
mod tests;
