//! The pipeline as written in the manifest: source, steps and sink. Plans nothing and compiles no
//! expression.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exec::ExecSpec;
use crate::fraction::Fraction;
use crate::on_error::OnErrorSpec;
use crate::quantity::{QuantityError, QuantityText};
use crate::{rules, schema};

/// The largest number of steps of a pipeline.
pub const MAX_STEPS: usize = 100;
/// The longest expression, in characters.
pub const MAX_EXPRESSION: usize = 8192;
/// The largest number of inline items.
pub const MAX_ITEMS: usize = 1000;
/// The largest number of input paths; one glob matches any number of files.
pub const MAX_PATHS: usize = 100;
/// The longest path or uri, in characters.
pub const MAX_PATH: usize = 1024;
/// The largest number of shards of a shuffle.
pub const MAX_SHARDS: u32 = 100_000;
/// The largest number of aggregates of a step.
pub const MAX_AGGREGATES: usize = 32;
/// The largest number of records of a topK.
pub const MAX_TOP: u32 = 10_000;
/// The largest number of records that takePerShard can keep.
pub const MAX_TAKE: i64 = 1_000_000_000_000;
/// The greatest seed of a sample: every program that reads JSON reads such a number exactly.
pub const MAX_SEED: i64 = 9_007_199_254_740_991;
/// The largest number of records of a window.
pub const MAX_WINDOW: i64 = 1_000_000_000;
/// The largest number of named values.
pub const MAX_VALUES: usize = 100;
/// The largest number of tables.
pub const MAX_TABLES: usize = 8;
/// The largest number of paths of a table. The API server bounds the work of its rules for all
/// tables together.
pub const MAX_TABLE_PATHS: usize = 20;
/// The largest number of places that write dead letters: each adds a listing to the beginning and
/// the end of a job.
pub const MAX_DEAD_LETTERS: usize = 8;
/// The largest number of columns of a select or drop, and of fields of a rename.
pub const MAX_COLUMNS: usize = 256;

/// What the job reads, computes and writes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::shard_in_path(), validation = rules::split_files_have_names())]
pub struct PipelineSpec {
    /// Where records come from: exactly one of items and files.
    pub source: SourceSpec,
    /// The steps that process the records, in this order. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub steps: Vec<StepSpec>,
    /// Where records go.
    pub sink: SinkSpec,
    /// Maximum sizes of lines and records, and of the window of zstd files. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// JSON values with names, at most 100. An expression uses one as `$name`. A path of the source
    /// or the sink uses one as `{value:name}` if it is a string or an integer. Immutable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::named_values")]
    pub values: BTreeMap<String, Value>,
    /// Small files by name, at most 8 tables: `$name` in expressions is an object that holds each
    /// record of the files under its key. Each worker's process holds all tables in memory: 256Mi
    /// together. Immutable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::tables")]
    pub tables: BTreeMap<String, TableSpec>,
}

/// A table: the records of small files, found by their keys.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSpec {
    /// The files of the table; at most 20 paths. Immutable.
    pub files: FilesSource,
    /// A jq expression that gives the key of a record: a string, different for each record.
    /// Immutable.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub key: String,
}

/// Maximum sizes of lines, records and windows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Maximum length of a line that is read, and of a record as JSON text, in bytes: 1Ki to 1Gi,
    /// such as 128Mi; not set = 64Mi. The memory of a worker limits it too. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::quantity(), validation = rules::amount("spec.pipeline.limits.lineBytes", LINE_BYTES))]
    pub line_bytes: Option<QuantityText>,
    /// Maximum depth to which arrays and objects are nested in a record that is read or written, 1
    /// to 2000; not set = 256. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2000))]
    #[x_kube(validation = rules::range("spec.pipeline.limits.nesting", 1, MAX_NESTING.into()))]
    pub nesting: Option<u32>,
    /// Maximum window of a zstd file in bytes, 1Ki to 2Gi, such as 128Mi; not set = 2Gi, the window
    /// of `zstd --long=31`. The memory of a worker limits it too. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::quantity(), validation = rules::amount("spec.pipeline.limits.zstdWindow", ZSTD_WINDOW))]
    pub zstd_window: Option<QuantityText>,
}

/// Two bounds, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountBounds {
    /// The least.
    pub least: &'static str,
    /// The greatest.
    pub greatest: &'static str,
}

/// The bounds of `limits.lineBytes`.
pub const LINE_BYTES: AmountBounds = AmountBounds {
    least: "1Ki",
    greatest: "1Gi",
};
/// The bounds of `limits.zstdWindow`: from the smallest window of zstd to that of `zstd --long=31`.
pub const ZSTD_WINDOW: AmountBounds = AmountBounds {
    least: "1Ki",
    greatest: "2Gi",
};
/// The bounds of `splitBytes` and `combineBytes`. The least is 0, which turns them off. The number
/// of shards is bounded when the files are listed, so no greater least is needed. No store has a
/// file as large as the greatest.
pub const FILE_BYTES: AmountBounds = AmountBounds {
    least: "0",
    greatest: "1Pi",
};
/// The greatest `limits.nesting`: the depth up to which recursion over a record is safe.
pub const MAX_NESTING: u32 = 2000;

/// Bytes of `limits.lineBytes` if it is not set.
const DEFAULT_LINE_BYTES: u64 = 64 << 20;
/// `limits.nesting` if it is not set.
const DEFAULT_NESTING: u32 = 256;
/// Bytes of `limits.zstdWindow` if it is not set.
const DEFAULT_ZSTD_WINDOW: u64 = 2 << 30;

/// The limits with all defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveLimits {
    /// Bytes of a line and of a record.
    pub line_bytes: u64,
    /// The greatest nesting of arrays and objects.
    pub nesting: u32,
    /// Bytes of a window.
    pub zstd_window: u64,
}

/// The field of the source's files.
pub const SOURCE_FILES: &str = "spec.pipeline.source.files";

/// The field of a table's files.
pub fn table_files(name: &str) -> String {
    format!("spec.pipeline.tables.{name}.files")
}

impl PipelineSpec {
    /// All files that the job reads, each set with its field: those of the source, then those of
    /// the tables in the order of their names.
    pub fn files_read(&self) -> impl Iterator<Item = (String, &FilesSource)> {
        let source = self.source.files.iter();
        let tables = self.tables.iter();
        source
            .map(|files| (SOURCE_FILES.to_owned(), files))
            .chain(tables.map(|(name, table)| (table_files(name), &table.files)))
    }

    /// The paths of all dead letters, each with its field: those of the source, then those of the
    /// steps.
    pub fn dead_letters(&self) -> impl Iterator<Item = (String, &String)> {
        let source = self.source.files.iter();
        let source = source.map(|files| (SOURCE_FILES.to_owned(), &files.on_error));
        let steps = self.steps.iter().enumerate();
        let steps =
            steps.map(|(index, step)| (format!("spec.pipeline.steps[{index}]"), &step.on_error));
        let all = source.chain(steps);
        all.filter_map(|(field, on_error)| {
            let path = on_error.as_ref()?.path.as_ref()?;
            Some((format!("{field}.onError.path"), path))
        })
    }

    /// The limits that apply: those of the manifest, or the defaults. Fails for a value that is not
    /// an amount, which validation refuses.
    pub fn effective_limits(&self) -> Result<EffectiveLimits, QuantityError> {
        let given = self.limits.clone().unwrap_or_default();
        let bytes = |amount: Option<QuantityText>, default: u64| match amount {
            None => Ok(default),
            Some(amount) => bytes(&amount),
        };
        Ok(EffectiveLimits {
            line_bytes: bytes(given.line_bytes, DEFAULT_LINE_BYTES)?,
            nesting: given.nesting.unwrap_or(DEFAULT_NESTING),
            zstd_window: bytes(given.zstd_window, DEFAULT_ZSTD_WINDOW)?,
        })
    }
}

/// Where records come from: exactly one is set. Immutable.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::exactly_one(&["items", "files"]))]
pub struct SourceSpec {
    /// Records written in the manifest. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<ItemsSource>,
    /// Records read from files. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesSource>,
}

/// Records written in the manifest.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemsSource {
    /// The records: any JSON values, at most 1000. Immutable.
    #[schemars(schema_with = "schema::json_values")]
    pub values: Vec<Value>,
    /// Number of shards to which the records are distributed in their order, 1 to 100000; not set =
    /// one shard for each record. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[x_kube(validation = rules::range("spec.pipeline.source.items.shards", 1, MAX_SHARDS.into()))]
    pub shards: Option<u32>,
}

/// Records read from files, in shards of one file each unless large files are split or small ones
/// are combined.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesSource {
    /// Files, or patterns with `*`, `**`, `?`, `[..]` and `{a,b}`, under `s3://`, `gs://` or
    /// `az://`, such as `s3://bucket/logs/2026-*/*.jsonl.gz`. Each file is one shard, unless
    /// splitBytes or combineBytes changes that. Files with .gz and .zst are decompressed.
    /// Immutable.
    #[schemars(schema_with = "schema::source_paths")]
    pub paths: Vec<String>,
    /// jsonl: one JSON value per line; text: one string per line. Not set = by each file's
    /// extension (.jsonl, .ndjson; .txt, .text). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// If true, a path that matches no file is not an error; not set = false. Immutable.
    #[serde(default)]
    pub empty_ok: bool,
    /// Size in bytes, such as 64Mi. A larger file is split at line ends into shards of about equal
    /// size, if it is not compressed, has blocks of bgzip, or has a seek table of zstd. 0 = no file
    /// is split. Not set = 256Mi, but no file is split in two cases: a takePerShard, window,
    /// windowBy or exec is before the first groupBy, deduplicate, count or aggregate; or the
    /// pipeline has none of these four, and the output has a single name. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::amount_or_zero("spec.pipeline.source.files.splitBytes", FILE_BYTES))]
    pub split_bytes: Option<QuantityText>,
    /// Size in bytes, such as 64Mi. Neighbouring files of the same format and compression are read
    /// as one shard, up to this total size and up to 1000 files. 0 or not set = each file is a
    /// shard. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::amount_or_zero("spec.pipeline.source.files.combineBytes", FILE_BYTES))]
    pub combine_bytes: Option<QuantityText>,
    /// What happens to lines that are no records: not JSON, not UTF-8, or over the limits. Not set
    /// = the job fails. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnErrorSpec>,
}

impl FilesSource {
    /// First, the size in bytes above which a file is split, if `splitBytes` is set. Second, the
    /// size in bytes up to which files are combined.
    ///
    /// # Errors A value is not an amount, which validation refuses.
    pub fn effective_sizes(&self) -> Result<(Option<u64>, u64), QuantityError> {
        let split = self.split_bytes.as_ref().map(bytes).transpose()?;
        let combine = self.combine_bytes.as_ref().map(bytes).transpose()?;
        Ok((split, combine.unwrap_or_default()))
    }
}

/// An amount of bytes.
fn bytes(amount: &QuantityText) -> Result<u64, QuantityError> {
    let units = amount.parse()?.units();
    u64::try_from(units).map_err(|_| QuantityError::TooLarge)
}

/// One step: exactly one field is set. Immutable.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::exactly_one(&["map", "filter", "flatMap", "select", "drop", "rename", "sample", "takePerShard", "window", "windowBy", "exec", "groupBy", "deduplicate", "count", "aggregate"]), validation = rules::on_error_of_step())]
pub struct StepSpec {
    /// A jq expression that gives exactly one value for each record, such as `{id, total: (.price *
    /// .count)}`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub map: Option<String>,
    /// A jq expression, such as `.status >= 500`. A record is kept if the result is neither false
    /// nor null. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub filter: Option<String>,
    /// A jq expression that gives any number of values for each record, such as `.items[]`.
    /// Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub flat_map: Option<String>,
    /// The columns that are kept, in this order, such as `id` or `user.name`. A column that a
    /// record does not have is left out. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::columns")]
    pub select: Option<Vec<String>>,
    /// The columns that are removed, such as `id` or `user.name`. A column that a record does not
    /// have is no error. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::columns")]
    pub drop: Option<Vec<String>>,
    /// Other names for columns, each at its place, such as `{id: number, user.name:
    /// user.fullName}`. A column that a record does not have is no error, but a record that already
    /// has the new name is one. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::renamed")]
    pub rename: Option<BTreeMap<String, String>>,
    /// Keeps a share of the records, chosen by their positions in the shards: the same shards give
    /// the same sample. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleSpec>,
    /// Keeps the first records of each shard: at most this number. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    #[x_kube(validation = rules::range("takePerShard", 1, MAX_TAKE))]
    pub take_per_shard: Option<u64>,
    /// Makes an array of each run of this many neighbouring records of a shard; the last array may
    /// be shorter. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_i64))]
    #[x_kube(validation = rules::range("window", 1, MAX_WINDOW))]
    pub window: Option<u64>,
    /// Makes arrays of neighbouring records of a shard. An array ends before a record for which
    /// `while` does not hold, and that record begins the next one. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_by: Option<WindowBySpec>,
    /// Own code: a process for each shard gets the records on its standard input, one JSON value
    /// per line, and returns records on its standard output. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecSpec>,
    /// Groups the records by key and aggregates each group. The result has one record for each key,
    /// `{"key": …, "<name>": …}`, in order of the key. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<GroupBySpec>,
    /// Keeps the first record of each key. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplicate: Option<DeduplicateSpec>,
    /// Replaces all records by one, which is their number: `{}` turns it on. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Unit>,
    /// Replaces all records by one with these aggregates, each under its name, such as `{total:
    /// {sum: '.price'}}`; also if there are no records. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::aggregates")]
    #[x_kube(validation = rules::aggregate_names_are_words())]
    pub aggregate: Option<BTreeMap<String, AggregateSpec>>,
    /// What happens to records on which the step fails. Only allowed beside map, filter, flatMap,
    /// select, drop, rename, groupBy, deduplicate or aggregate. Not set = the job fails. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnErrorSpec>,
}

/// A sample of the records.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleSpec {
    /// The share of the records: a number from 0 to 1, such as 0.01. Immutable.
    pub fraction: Fraction,
    /// Another seed gives another sample: 0 to 9007199254740991; not set = 0. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    #[x_kube(validation = rules::range("sample.seed", 0, MAX_SEED))]
    pub seed: Option<u64>,
}

/// Windows of which each grows while a condition holds. The input of `update` and `while` is
/// `{state, record}`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowBySpec {
    /// A jq expression that gives the state before the first record of a window, such as `0`; its
    /// input is null. Immutable.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub init: String,
    /// A jq expression that gives the state after a record, such as `.state + .record.bytes`.
    /// Immutable.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub update: String,
    /// A jq expression, such as `.state + .record.bytes <= 1000`: if the result is false or null,
    /// the record begins the next window. It sees the state before the record, and is not asked for
    /// the first record of a window. Immutable.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub r#while: String,
}

/// A setting without fields: `{}` turns it on.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[schemars(inline)]
pub struct Unit {}

/// Groups records by key and aggregates each group.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::descending_needs_an_order())]
pub struct GroupBySpec {
    /// A jq expression that gives the key, such as `.user.id`. Immutable.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub key: String,
    /// The aggregates, each under its name in the resulting record, such as `{total: {sum:
    /// '.price'}}`; the name `key` is reserved. Immutable.
    #[schemars(schema_with = "schema::aggregates")]
    #[x_kube(validation = rules::aggregate_names(), validation = rules::aggregate_names_are_words())]
    pub aggregate: BTreeMap<String, AggregateSpec>,
    /// Number of shards of the result, 1 to 100000. Not set = the number of shards before this
    /// step, but at most 256. For the first groupBy or deduplicate after files, it is one shard for
    /// each 128Mi of input, where a compressed byte counts as 4 bytes; also at most 256. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[x_kube(validation = rules::range("groupBy.shards", 1, MAX_SHARDS.into()))]
    pub shards: Option<u32>,
    /// A jq expression by whose values the records of a group are ordered for first, last, collect
    /// and reduce. Records with equal values, and all records if it is not set, have the order of
    /// the shards and of the records in them. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub sort_by: Option<String>,
    /// Whether greater values of sortBy come first; not set = false. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descending: Option<bool>,
}

/// One aggregate: exactly one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::exactly_one(AGGREGATES))]
pub struct AggregateSpec {
    /// The number of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<Unit>,
    /// The exact sum of the values of this jq expression, rounded once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub sum: Option<String>,
    /// The least of the values of this jq expression, in jq's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub min: Option<String>,
    /// The greatest of the values of this jq expression, in jq's order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub max: Option<String>,
    /// The mean of the values of this jq expression, rounded once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub avg: Option<String>,
    /// The list of the values of this jq expression, in the order of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub collect: Option<String>,
    /// The value of this jq expression for the first record of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub first: Option<String>,
    /// The value of this jq expression for the last record of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub last: Option<String>,
    /// The number of different values of this jq expression; null is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub count_distinct: Option<String>,
    /// Whether this jq expression is neither false nor null for at least one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub any: Option<String>,
    /// Whether this jq expression is neither false nor null for all records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub all: Option<String>,
    /// The standard deviation of the values of this jq expression, as those of a sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub stddev: Option<String>,
    /// The records with the greatest values, the greatest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<TopKSpec>,
    /// The value at a rank, such as the median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<PercentileSpec>,
    /// The last state of a computation that goes through the records of the group in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<ReduceSpec>,
}

/// The names of all aggregates.
pub(crate) const AGGREGATES: &[&str] = &[
    "count",
    "sum",
    "min",
    "max",
    "avg",
    "collect",
    "first",
    "last",
    "countDistinct",
    "any",
    "all",
    "stddev",
    "topK",
    "percentile",
    "reduce",
];

/// The records with the greatest values.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopKSpec {
    /// A jq expression that gives the value by which a record is chosen, in jq's order. Of equal
    /// values, the first is greater.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub by: String,
    /// The number of records, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    #[x_kube(validation = rules::range("topK.k", 1, MAX_TOP.into()))]
    pub k: u32,
}

/// The value at a rank.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PercentileSpec {
    /// A jq expression that gives the values; null is ignored.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub of: String,
    /// The rank: 0 to 1 with at most six decimal places, such as 0.5 for the median or 0.95.
    pub p: Fraction,
}

/// A computation that goes through records in their order.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReduceSpec {
    /// A jq expression that gives the state before the first record; its input is null.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub init: String,
    /// A jq expression that gives the state after a record; its input is `{state, record}`.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub update: String,
}

/// Keeps the first record of each key.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeduplicateSpec {
    /// A jq expression that gives the key, such as `.user.id`. Immutable.
    #[schemars(length(max = 8192))]
    #[x_kube(validation = rules::jq_expression())]
    pub key: String,
    /// Number of shards of the result, 1 to 100000. Not set = the number of shards before this
    /// step, but at most 256. For the first groupBy or deduplicate after files, it is one shard for
    /// each 128Mi of input, where a compressed byte counts as 4 bytes; also at most 256. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    #[x_kube(validation = rules::range("deduplicate.shards", 1, MAX_SHARDS.into()))]
    pub shards: Option<u32>,
}

/// Where records go. Immutable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkSpec {
    /// Files, one for each shard. Immutable.
    pub files: FilesSink,
}

/// Files, one for each shard.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::sink_format())]
pub struct FilesSink {
    /// Path of the output files under `s3://`, `gs://` or `az://`, such as
    /// `s3://bucket/out/part-{shard:05}-of-{total:05}.jsonl.gz`. `{shard}` is the number of the
    /// shard and `{total}` the number of shards; `:05` pads them to five digits. Immutable.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::sink_path())]
    pub path: String,
    /// jsonl: one JSON value per line; text: one string per line. Not set = by the extension.
    /// Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// gz, zst or none. Not set = by the extension (.gz, .zst; none for others). Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// What the job does if the output exists before it begins. Refuse = it fails before it starts,
    /// and names that output; Overwrite = it replaces the output. Not set = Refuse. Immutable.
    #[serde(default, skip_serializing_if = "SinkMode::is_default")]
    pub mode: SinkMode,
}

/// What happens to output that exists already. The default is not written out, so that an object
/// without the field stays unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SinkMode {
    /// The job fails before it starts if the folder holds files of the output's names.
    #[default]
    Refuse,
    /// Files of the output's names are replaced.
    Overwrite,
}

impl SinkMode {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How records are written in a file.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum FileFormat {
    // One JSON value a line.
    Jsonl,
    // One string a line.
    Text,
}

/// How a file is compressed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(
    missing_docs,
    reason = "in the CRD, the comment of a variant would replace the description of the field"
)]
pub enum Compression {
    // gzip.
    Gz,
    // Zstandard.
    Zst,
    // The files are not compressed.
    None,
}

impl Compression {
    /// The compression by the last extension of a path: .gz, .zst, or none.
    pub fn of_path(path: &str) -> Self {
        match path.to_ascii_lowercase().rsplit('.').next() {
            Some("gz") => Self::Gz,
            Some("zst") => Self::Zst,
            _ => Self::None,
        }
    }
}

impl FileFormat {
    /// The format by the extension of a path, ignoring the extension of its compression; `None` if
    /// it is unknown.
    pub fn of_path(path: &str) -> Option<Self> {
        let path = path.to_ascii_lowercase();
        let stem = path
            .strip_suffix(".gz")
            .or_else(|| path.strip_suffix(".zst"))
            .unwrap_or(&path);
        let name = stem.rsplit('/').next()?;
        let (_, extension) = name.rsplit_once('.')?;
        match extension {
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "txt" | "text" => Some(Self::Text),
            _ => None,
        }
    }
}

/// Whether each shard has a file of its own.
pub(crate) fn has_shard(path: &str) -> bool {
    let is_padded = |width| path.contains(&format!("{{shard:0{width}}}"));
    path.contains("{shard}") || (1..=9).any(is_padded)
}

impl FilesSink {
    /// Whether each shard has a file of its own: the path contains `{shard}`.
    pub fn has_shard(&self) -> bool {
        has_shard(&self.path)
    }

    /// The format that is written: that of the manifest, or that of the extension; `None` if
    /// neither determines it.
    pub fn effective_format(&self) -> Option<FileFormat> {
        self.format.or_else(|| FileFormat::of_path(&self.path))
    }
}
