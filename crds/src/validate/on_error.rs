//! Validates `onError` of the source and of steps. Counts nothing.

use super::{Place, numbers, pipeline};
use crate::field_error::FieldError;
use crate::on_error::{MAX_SKIPPED, OnErrorAction, OnErrorMessages, OnErrorSpec};
use crate::pipeline::{FileFormat, MAX_DEAD_LETTERS, PipelineSpec, StepSpec, has_shard};

/// Every error in the `onError` at this path.
pub(super) fn validate(path: &str, on_error: &OnErrorSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let has_more = on_error.max_skipped.is_some()
        || on_error.max_skipped_percent.is_some()
        || on_error.messages != OnErrorMessages::default();
    if on_error.action == OnErrorAction::Fail && has_more {
        let problem = "has fields that have no effect with action Fail";
        errors.push(FieldError::new(path, problem, "Skip, or no other field").got("Fail"));
    }
    match (on_error.action, &on_error.path) {
        (OnErrorAction::DeadLetter, None) => errors.push(FieldError::new(
            format!("{path}.path"),
            "is missing",
            "a path in the folder of the output or below it, such as s3://bucket/out/bad/part-{shard}.jsonl",
        )),
        (OnErrorAction::Fail | OnErrorAction::Skip, Some(given)) => errors.push(
            FieldError::new(
                format!("{path}.path"),
                "has no effect without action DeadLetter",
                "action: DeadLetter, or no path",
            )
            .got(given),
        ),
        (OnErrorAction::DeadLetter, Some(_)) | (_, None) => {}
    }
    errors.extend(on_error.max_skipped.and_then(|most| {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        numbers::range(&format!("{path}.maxSkipped"), most, 0, MAX_SKIPPED)
    }));
    errors.extend(on_error.max_skipped_percent.and_then(|most| {
        most.per_million().is_none().then(|| {
            FieldError::new(
                format!("{path}.maxSkippedPercent"),
                "is not a percentage",
                "a number from 0 to 100 with at most four decimal places, such as 0.1",
            )
            .got(most.value())
        })
    }));
    errors
}

/// Every error in the `onError` of the step at this path.
pub(super) fn of_step(path: &str, step: &StepSpec) -> Vec<FieldError> {
    let Some(on_error) = &step.on_error else {
        return Vec::new();
    };
    let path = format!("{path}.onError");
    let is_strict = [
        step.sample.is_some(),
        step.take_per_shard.is_some(),
        step.window.is_some(),
        step.window_by.is_some(),
        step.exec.is_some(),
        step.count.is_some(),
    ];
    if is_strict.contains(&true) {
        let problem = "is beside a step that does not fail on a single record";
        let allowed = "onError beside map, filter, flatMap, select, drop, rename, groupBy, deduplicate or aggregate";
        return vec![FieldError::new(path, problem, allowed)];
    }
    validate(&path, on_error)
}

/// Every error in the paths of dead letters.
pub(super) fn dead_letters(pipeline: &PipelineSpec, place: Place) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let count = pipeline.dead_letters().count();
    if count > MAX_DEAD_LETTERS {
        let problem = "has too many places with dead letters";
        let allowed = format!("at most {MAX_DEAD_LETTERS}; Skip counts bad records without a file");
        errors.push(FieldError::new("spec.pipeline", problem, allowed).got(count));
    }
    let output = &pipeline.sink.files.path;
    for (field, path) in pipeline.dead_letters() {
        let shown =
            |wrong: &str, allowed: String| FieldError::new(&field, wrong, allowed).got(path);
        let fault = pipeline::template(&field, path, place);
        errors.extend(fault.or_else(|| {
            if !has_shard(path) {
                let allowed = "put {shard} or {shard:05} into the name of the file";
                Some(shown("has no {shard}", allowed.to_owned()))
            } else if FileFormat::of_path(path) != Some(FileFormat::Jsonl) {
                let allowed = ".jsonl or .ndjson, before .gz or .zst if compressed";
                Some(shown(
                    "has an extension that is not allowed",
                    allowed.to_owned(),
                ))
            } else if !path.starts_with(folder(output)) {
                let problem =
                    "is not in the folder of the output, which is the only one that the job claims";
                let allowed = format!("a path that begins with {}", folder(output));
                Some(shown(problem, allowed))
            } else if has_hidden_folder(path, folder(output)) {
                let problem = "has a folder whose name begins with _ or .";
                let allowed = "a folder such as bad/; a later run that replaces the output finds no files in folders with _ or . first";
                Some(shown(problem, allowed.to_owned()))
            } else {
                None
            }
        }));
    }
    errors
}

/// Whether a folder below that of the output has a name that is passed over in listings.
fn has_hidden_folder(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder).unwrap_or(path);
    let (folders, _) = rest.rsplit_once('/').unwrap_or_default();
    folders.split('/').any(|name| name.starts_with(['_', '.']))
}

/// The folder of an output, with a trailing slash: the part before the first placeholder.
fn folder(path: &str) -> &str {
    let known = path.split('{').next().unwrap_or_default();
    &known[..known.rfind('/').map_or(0, |slash| slash + 1)]
}
