//! Validates the source, the steps and the sink of a pipeline.

use serde_json::Value;

use super::{
    Place, aggregates, columns, exec, extension, items, numbers, on_error, shards, text, uri,
};
use crate::field_error::FieldError;
use crate::pipeline::{
    Compression, FILE_BYTES, FilesSink, FilesSource, ItemsSource, LINE_BYTES, LimitsSpec,
    MAX_ITEMS, MAX_NESTING, MAX_PATHS, MAX_SHARDS, MAX_STEPS, PipelineSpec, SOURCE_FILES,
    SourceSpec, StepSpec, ZSTD_WINDOW,
};
use crate::places::{HIDDEN_NAMES_ALLOWED, MARKER_NAMES};

/// The largest number of shards of a shuffle if the manifest sets no number.
const MAX_DEFAULT_SHARDS: usize = 256;
/// The greatest nesting of arrays and objects in an item of the manifest. The plugin reads at most
/// 120 levels of the whole document, and other programs that read manifests stop at 128.
const MAX_ITEM_NESTING: usize = 100;
/// The longest key in bytes, for output and for the markers beside it: the limit of S3 and of
/// Google Cloud Storage.
const MAX_KEY_BYTES: usize = 1024;
/// The longest name of a local folder in bytes: `NAME_MAX` of Linux.
const MAX_LOCAL_FOLDER_BYTES: usize = 255;
/// The longest name of a local output file in bytes: an attempt stages the file under its name with
/// two dots, the job's uid and the attempt's name, which take up to 64 bytes.
const MAX_LOCAL_NAME_BYTES: usize = MAX_LOCAL_FOLDER_BYTES - 64;
/// The field of inline items.
pub(super) const ITEMS: &str = "spec.pipeline.source.items.values";
/// Names that are certainly a mistake.
pub(super) const YAML_BOOLEANS: [&str; 2] = ["true", "false"];
/// The advice for such a name.
pub(super) const YAML_BOOLEANS_ALLOWED: &str =
    "YAML reads y, n, yes, no, on and off as these, so put such a name in quotes";

pub(super) fn validate(pipeline: &PipelineSpec, place: Place) -> Vec<FieldError> {
    let mut errors = source(&pipeline.source, place);
    if pipeline.steps.len() > MAX_STEPS {
        errors.push(
            FieldError::new(
                "spec.pipeline.steps",
                "has too many steps",
                format!("at most {MAX_STEPS}"),
            )
            .got(pipeline.steps.len()),
        );
    }
    for (index, each) in pipeline.steps.iter().enumerate() {
        errors.extend(step(&format!("spec.pipeline.steps[{index}]"), each));
    }
    errors.extend(columns::rename_after_drop(&pipeline.steps));
    if let Some(given) = &pipeline.limits {
        errors.extend(limits(given));
    }
    let sink_errors = sink(&pipeline.sink.files, place);
    if sink_errors.is_empty() && known_shards(pipeline) > 1 && !pipeline.sink.files.has_shard() {
        errors.push(
            FieldError::new(
                "spec.pipeline.sink.files.path",
                "has no {shard}, but more than one shard is written",
                "put {shard} or {shard:05} into the name of the file",
            )
            .got(&pipeline.sink.files.path),
        );
    }
    if sink_errors.is_empty() {
        errors.extend(split_without_shards(pipeline));
    }
    errors.extend(sink_errors);
    errors.extend(on_error::dead_letters(pipeline, place));
    errors
}

fn limits(limits: &LimitsSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount, bounds) in [
        ("lineBytes", &limits.line_bytes, LINE_BYTES),
        ("zstdWindow", &limits.zstd_window, ZSTD_WINDOW),
    ] {
        let path = format!("spec.pipeline.limits.{name}");
        errors.extend(
            amount
                .as_ref()
                .and_then(|amount| numbers::amount(&path, amount, bounds)),
        );
    }
    errors.extend(limits.nesting.and_then(|nesting| {
        let path = "spec.pipeline.limits.nesting";
        numbers::range(path, nesting.into(), 1, MAX_NESTING.into())
    }));
    errors
}

fn source(source: &SourceSpec, place: Place) -> Vec<FieldError> {
    let path = "spec.pipeline.source";
    let mut errors = Vec::new();
    errors.extend(exactly_one(
        path,
        &[
            ("items", source.items.is_some()),
            ("files", source.files.is_some()),
        ],
    ));
    if let Some(items) = &source.items {
        errors.extend(items_source(items));
    }
    if let Some(files) = &source.files {
        errors.extend(files_read(SOURCE_FILES, files, MAX_PATHS, place));
        for (name, amount) in [
            ("splitBytes", &files.split_bytes),
            ("combineBytes", &files.combine_bytes),
        ] {
            let path = format!("{SOURCE_FILES}.{name}");
            let amount = amount.as_ref();
            errors.extend(amount.and_then(|amount| numbers::amount(&path, amount, FILE_BYTES)));
        }
        let field = format!("{SOURCE_FILES}.onError");
        errors.extend(
            files
                .on_error
                .iter()
                .flat_map(|given| on_error::validate(&field, given)),
        );
    }
    errors
}

fn items_source(items: &ItemsSource) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if items.values.len() > MAX_ITEMS {
        let error = FieldError::new(
            ITEMS,
            "has too many items",
            format!("at most {MAX_ITEMS}, put records into a file"),
        );
        errors.push(error.got(items.values.len()));
    }
    for (index, value) in items.values.iter().enumerate() {
        errors.extend(nests_too_deep(&format!("{ITEMS}[{index}]"), value));
    }
    errors.extend(items::numbers(ITEMS, &items.values));
    errors.extend(items::nulls(ITEMS, &items.values));
    errors.extend(
        items
            .shards
            .and_then(|shards| shard_range("spec.pipeline.source.items.shards", shards)),
    );
    errors
}

/// Reports a value with more levels of nesting than readers of manifests accept.
pub(super) fn nests_too_deep(path: &str, value: &Value) -> Option<FieldError> {
    let levels = nesting(value);
    (levels > MAX_ITEM_NESTING).then(|| {
        FieldError::new(
            path,
            "nests too deep",
            format!(
                "at most {MAX_ITEM_NESTING} levels in a manifest, put such records into a file"
            ),
        )
        .got(format!("{levels} levels"))
    })
}

/// The nesting of arrays and objects; 0 for a scalar.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(nesting).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(nesting).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Every error in a set of files with up to `most` paths; `field` is its path in the manifest.
pub(super) fn files_read(
    field: &str,
    files: &FilesSource,
    most: usize,
    place: Place,
) -> Vec<FieldError> {
    let path = &format!("{field}.paths");
    let mut errors = Vec::new();
    if files.paths.is_empty() || files.paths.len() > most {
        errors.push(
            FieldError::new(
                path,
                "has no paths, or too many",
                format!("1..{most} paths or globs"),
            )
            .got(files.paths.len()),
        );
    }
    for (index, each) in files.paths.iter().enumerate() {
        let path = format!("{path}[{index}]");
        errors.extend(
            uri::validate(&path, each, place)
                .or_else(|| uri::glob(&path, each))
                .or_else(|| extension::unknown(field, files, index)),
        );
    }
    errors
}

fn step(path: &str, step: &StepSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(exactly_one(
        path,
        &[
            ("map", step.map.is_some()),
            ("filter", step.filter.is_some()),
            ("flatMap", step.flat_map.is_some()),
            ("select", step.select.is_some()),
            ("drop", step.drop.is_some()),
            ("rename", step.rename.is_some()),
            ("sample", step.sample.is_some()),
            ("takePerShard", step.take_per_shard.is_some()),
            ("window", step.window.is_some()),
            ("windowBy", step.window_by.is_some()),
            ("exec", step.exec.is_some()),
            ("groupBy", step.group_by.is_some()),
            ("deduplicate", step.deduplicate.is_some()),
            ("count", step.count.is_some()),
            ("aggregate", step.aggregate.is_some()),
        ],
    ));
    errors.extend(on_error::of_step(path, step));
    for (name, expression) in [
        ("map", &step.map),
        ("filter", &step.filter),
        ("flatMap", &step.flat_map),
    ] {
        errors.extend(
            expression
                .as_ref()
                .and_then(|expression| text::expression(&format!("{path}.{name}"), expression)),
        );
    }
    for (name, columns, done) in [
        ("select", &step.select, "selected"),
        ("drop", &step.drop, "dropped"),
    ] {
        let columns = columns.iter();
        errors.extend(
            columns.flat_map(|columns| columns::list(&format!("{path}.{name}"), columns, done)),
        );
    }
    if let Some(columns) = &step.rename {
        errors.extend(columns::rename(&format!("{path}.rename"), columns));
    }
    if let Some(sample) = &step.sample {
        errors.extend(shards::sample(&format!("{path}.sample"), sample));
    }
    errors.extend(shards::counts(path, step));
    if let Some(window) = &step.window_by {
        errors.extend(shards::window_by(&format!("{path}.windowBy"), window));
    }
    if let Some(command) = &step.exec {
        errors.extend(exec::validate(&format!("{path}.exec"), command));
    }
    if let Some(group) = &step.group_by {
        errors.extend(aggregates::group_by(&format!("{path}.groupBy"), group));
    }
    if let Some(all) = &step.aggregate {
        errors.extend(aggregates::all(&format!("{path}.aggregate"), all));
    }
    if let Some(deduplicate) = &step.deduplicate {
        let path = format!("{path}.deduplicate");
        errors.extend(text::expression(&format!("{path}.key"), &deduplicate.key));
        errors.extend(
            deduplicate
                .shards
                .and_then(|shards| shard_range(&format!("{path}.shards"), shards)),
        );
    }
    errors
}

/// What is wrong with the template of output files in this field.
pub(super) fn template(field: &str, path: &str, place: Place) -> Option<FieldError> {
    let shown = |wrong: &str, allowed: &str| FieldError::new(field, wrong, allowed).got(path);
    let name = path
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or("", |(_, name)| name);
    uri::validate(field, path, place).or_else(|| {
        if without_placeholders(path).contains(['{', '}']) {
            Some(shown(
                "has a placeholder that is not known",
                "{shard} and {total}, or with a width {shard:05}, and {value:name} of spec.pipeline.values",
            ))
        } else if name.is_empty() || name.ends_with('/') {
            Some(shown("names no file", "a bucket and the name of a file"))
        } else if path.contains(['?', '#', '*', '[', ']']) {
            Some(shown(
                "has a character that is not allowed",
                "the name of a file, without ? # * [ ]",
            ))
        } else {
            file_name(field, path, name)
        }
    })
}

fn sink(files: &FilesSink, place: Place) -> Vec<FieldError> {
    let path = "spec.pipeline.sink.files.path";
    let fault = template(path, &files.path, place);
    let mut errors: Vec<FieldError> = fault.into_iter().collect();
    if errors.is_empty() && files.effective_format().is_none() {
        let path = "spec.pipeline.sink.files.format";
        errors.push(
            FieldError::new(
                path,
                "cannot be derived from the extension of path",
                "set jsonl or text",
            )
            .got(&files.path),
        );
    }
    let named = Compression::of_path(&files.path);
    if named != Compression::None && files.compression.is_some_and(|set| set != named) {
        let field = "spec.pipeline.sink.files.compression";
        let allowed = "omit it, or change the extension of path";
        errors.push(
            FieldError::new(field, "does not match the extension of path", allowed)
                .got(&files.path),
        );
    }
    errors
}

/// Reports names that some store or disk cannot represent, that the job itself writes, or that are
/// too long. A number is never longer than its placeholder, so the template's length bounds that of
/// every name.
fn file_name(field: &str, path: &str, name: &str) -> Option<FieldError> {
    let shown = |wrong: &str, allowed: &str| FieldError::new(field, wrong, allowed).got(path);
    if name.starts_with('/') || name.contains("//") {
        return Some(shown(
            "has an empty segment (//)",
            "single slashes between the parts of the path",
        ));
    }
    let last = name.rsplit('/').next().unwrap_or_default();
    if MARKER_NAMES
        .iter()
        .any(|marker| marker.eq_ignore_ascii_case(last))
    {
        let allowed = format!(
            "any name except {}, which the job itself writes",
            MARKER_NAMES.join(" and ")
        );
        return Some(shown("has a reserved name", &allowed));
    }
    let folder = name.split('{').next().unwrap_or_default();
    let folder = folder.rfind('/').map_or(0, |slash| slash + 1);
    let is_hidden = |part: &str| part.starts_with(['_', '.']);
    if name[folder..].split('/').any(is_hidden) {
        return Some(shown(
            "has a name that begins with _ or .",
            HIDDEN_NAMES_ALLOWED,
        ));
    }
    let too_long = |what: &str, most: usize| Some(shown(what, &format!("at most {most} bytes")));
    if path.starts_with("file:") {
        if last.len() > MAX_LOCAL_NAME_BYTES {
            return too_long("has a file name that is too long", MAX_LOCAL_NAME_BYTES);
        }
        let is_too_long = |part: &str| part.len() > MAX_LOCAL_FOLDER_BYTES;
        if name.split('/').any(is_too_long) {
            return too_long("has a folder name that is too long", MAX_LOCAL_FOLDER_BYTES);
        }
        return None;
    }
    let marker = MARKER_NAMES.iter().map(|name| name.len()).max();
    if name.len().max(folder + marker.unwrap_or_default()) > MAX_KEY_BYTES {
        return too_long("is too long for an object store key", MAX_KEY_BYTES);
    }
    None
}

/// The path with every known placeholder removed.
fn without_placeholders(path: &str) -> String {
    let mut rest = path.to_owned();
    for name in ["shard", "total"] {
        rest = rest.replace(&format!("{{{name}}}"), "");
        for width in 1..=9 {
            rest = rest.replace(&format!("{{{name}:0{width}}}"), "");
        }
    }
    rest
}

/// Reports a size for splitting if the shards of a split file cannot be written: the output has one
/// name, and no step joins the shards.
fn split_without_shards(pipeline: &PipelineSpec) -> Option<FieldError> {
    let files = pipeline.source.files.as_ref()?;
    let (split, _) = files.effective_sizes().ok()?;
    let splits = split.is_some_and(|bytes| bytes > 0);
    let shuffles = pipeline.steps.iter().any(StepSpec::shuffles);
    (splits && !shuffles && !pipeline.sink.files.has_shard()).then(|| {
        let field = "spec.pipeline.source.files.splitBytes";
        let wrong = "makes several shards of a file, but the output has one name";
        let allowed = "put {shard} into spec.pipeline.sink.files.path, or omit splitBytes";
        FieldError::new(field, wrong, allowed).got(&pipeline.sink.files.path)
    })
}

/// The least number of shards, as far as the spec alone shows it. A glob counts as one shard,
/// because it may match only one file. Files that may be combined count as one shard too. The
/// default number of shards of the first shuffle counts as one too if the source is files, because
/// it follows from the sizes of the files.
fn known_shards(pipeline: &PipelineSpec) -> usize {
    let as_count = |shards: u32| usize::try_from(shards).unwrap_or(usize::MAX);
    let items = pipeline
        .source
        .items
        .as_ref()
        .map(|items| items.shards.map_or(items.values.len(), as_count));
    let files = pipeline
        .source
        .files
        .as_ref()
        .map(|files| match files.effective_sizes() {
            Ok((_, 0)) => files.paths.len(),
            Ok(_) | Err(_) => 1,
        });
    let is_by_size = files.is_some();
    let first = pipeline.steps.iter().position(StepSpec::shuffles);
    let source = items.or(files).unwrap_or(1);
    let steps = pipeline.steps.iter().enumerate();
    steps.fold(source, |upstream, (index, step)| {
        let default = if is_by_size && first == Some(index) {
            1
        } else {
            upstream.min(MAX_DEFAULT_SHARDS)
        };
        let shuffle = |shards: Option<u32>| shards.map_or(default, as_count);
        if step.count.is_some() || step.aggregate.is_some() {
            1
        } else if let Some(group) = &step.group_by {
            shuffle(group.shards)
        } else if let Some(deduplicate) = &step.deduplicate {
            shuffle(deduplicate.shards)
        } else {
            upstream
        }
    })
}

pub(super) fn shard_range(path: &str, shards: u32) -> Option<FieldError> {
    numbers::range(path, shards.into(), 1, MAX_SHARDS.into())
}

pub(super) fn exactly_one(path: &str, fields: &[(&str, bool)]) -> Option<FieldError> {
    let count = fields.iter().filter(|(_, is_set)| *is_set).count();
    (count != 1).then(|| {
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        FieldError::new(
            path,
            "must have exactly one field",
            format!("exactly one of {}", names.join(", ")),
        )
        .got(count)
    })
}
