//! What a pipeline says, in the engine's own words: source, steps, sink.
//!
//! Made from a manifest by one conversion in the worker's crate, after the manifest was validated.
//! Expressions are still text here: `plan::check_expressions` compiles them. Nothing here reads a
//! file or knows Kubernetes.

/// A pipeline: read, transform, write.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// Where records come from.
    pub source: Source,
    /// What happens to them, in order.
    pub steps: Vec<Step>,
    /// Where they go.
    pub sink: Sink,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Values written in the manifest.
    Items {
        /// JSON texts.
        values: Vec<String>,
        /// How many shards; as many as values where not given.
        shards: Option<u32>,
    },
    /// Files, one shard each. The listing is not part of the pipeline.
    Files {
        /// Whether no file at all is an empty job rather than an error.
        empty_ok: bool,
    },
}

/// One step. The order of variants is that of `pipeline.md`.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Exactly one output per input.
    Map(String),
    /// Any number of outputs per input.
    FlatMap(String),
    /// Keeps records whose value is neither false nor null.
    Filter(String),
    /// Keeps these paths, in this order: each a list of keys from the outside in.
    Select(Vec<Vec<String>>),
    /// Keeps the first so many records of each shard.
    TakePerShard(u64),
    /// Groups records of equal key.
    GroupBy(GroupBy),
    /// Keeps the first record of each key.
    Deduplicate {
        /// The key, a jq expression.
        key: String,
        /// Shards of the result; the planner's default where not given.
        shards: Option<u32>,
    },
    /// One record: the number of records.
    Count,
}

/// Groups records of equal key and aggregates each group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupBy {
    /// The key, a jq expression that gives exactly one value.
    pub key: String,
    /// Names of the output's fields with what they hold, in the order of the output.
    pub aggregates: Vec<(String, Aggregate)>,
    /// Shards of the result; the planner's default where not given.
    pub shards: Option<u32>,
}

/// What is computed over a group. The text is a jq expression evaluated for each record; it gives
/// exactly one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// The number of records.
    Count,
    /// The exact sum of numbers, rounded once.
    Sum(String),
    /// The least value in jq's order; the first of equals by (shard, position).
    Min(String),
    /// The greatest value in jq's order; the first of equals by (shard, position).
    Max(String),
    /// The exact mean of numbers, rounded once.
    Avg(String),
    /// All values in (shard, position) order.
    Collect(String),
}

/// Where records go.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// How a record is written.
    pub format: Format,
}

/// How records lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON text a line.
    Jsonl,
    /// One line, one record: a JSON string of the line.
    Text,
}
