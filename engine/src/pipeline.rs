//! Defines the pipeline as types of the engine: source, steps and sink.
//!
//! The worker's crate makes these types from a validated manifest. Expressions are still texts
//! here; `plan::check_expressions` compiles them. This module reads no file, and uses no type of
//! Kubernetes.

use std::collections::BTreeMap;

/// Named values: JSON texts that expressions see as `$name`, whatever the record.
pub type Values = BTreeMap<String, String>;

/// Tables by name, each with the jq expression of its key. The expression gives a string for each
/// record, and no two records of a table have the same string. Expressions see a table as `$name`:
/// an object with each record under its key. The files of a table are not part of the pipeline.
pub type Tables = BTreeMap<String, String>;

/// A pipeline: read, transform, write.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// The source of records.
    pub source: Source,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The destination of records.
    pub sink: Sink,
    /// What its expressions may use besides the record.
    pub values: Values,
    /// Like `values`, but read from files.
    pub tables: Tables,
    /// What happens to bad records, at each place that does not fail on them.
    pub on_errors: OnErrors,
}

/// The places that skip bad records, each with its settings.
pub type OnErrors = BTreeMap<Origin, OnError>;

/// A place at which a record can be bad. It is displayed as its path in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The files of the source.
    Source,
    /// The step at this position, from 0.
    Step(u32),
}

impl Origin {
    /// The number of this place in messages and in the ledger: 0 is the source, 1 is the first
    /// step.
    pub fn number(self) -> u32 {
        match self {
            Self::Source => 0,
            Self::Step(index) => index.saturating_add(1),
        }
    }

    /// The place with this number.
    pub fn of_number(number: u32) -> Self {
        match number.checked_sub(1) {
            None => Self::Source,
            Some(index) => Self::Step(index),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source => f.write_str("spec.pipeline.source.files"),
            Self::Step(index) => write!(f, "spec.pipeline.steps[{index}]"),
        }
    }
}

/// What happens to the bad records of one place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OnError {
    /// The template for the names of the files into which bad records are written. `None` if bad
    /// records are only counted.
    pub dead_letter: Option<String>,
    /// How many records may be skipped in the whole job; `None` = any number.
    pub max_skipped: Option<u64>,
    /// How many of a million records that arrive at the place may be skipped; `None` = all.
    pub max_skipped_per_million: Option<u32>,
    /// Whether messages about bad records are reported. Such a message can show a part of a record.
    pub shows_messages: bool,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Values written in the manifest.
    Items {
        /// JSON texts.
        values: Vec<String>,
        /// Number of shards; default: the number of values.
        shards: Option<u32>,
    },
    /// Files. Their list is not part of the pipeline.
    Files {
        /// Whether a job without any file is an empty job, and not an error.
        empty_ok: bool,
    },
}

/// One step. The variants are in the order of `pipeline.md`.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Exactly one output per input.
    Map(String),
    /// Any number of outputs per input.
    FlatMap(String),
    /// Keeps the records for which the expression is neither false nor null.
    Filter(String),
    /// Keeps these paths, in this order: each a list of keys from the outside in.
    Select(Vec<Vec<String>>),
    /// Removes these paths.
    Drop(Vec<Vec<String>>),
    /// Gives each first path the name of the second. Both differ only in their last key.
    Rename(Vec<(Vec<String>, Vec<String>)>),
    /// Keeps a share of the records, chosen by a hash of the seed, the shard and the position.
    Sample {
        /// The share, from 0 to 1.
        fraction: f64,
        /// Another seed gives another sample.
        seed: u64,
    },
    /// Keeps the first records of each shard, up to this number.
    TakePerShard(u64),
    /// Makes an array of this many neighbouring records of a shard.
    Window(u64),
    /// Makes arrays of neighbouring records of a shard, each as long as a condition holds.
    WindowBy(WindowBy),
    /// Passes the records of each shard through a process.
    Exec(Exec),
    /// Groups records of equal key.
    GroupBy(GroupBy),
    /// Keeps the first record of each key.
    Deduplicate {
        /// The key, a jq expression.
        key: String,
        /// Number of shards of the result; default: the planner's.
        shards: Option<u32>,
    },
    /// One record: the number of records.
    Count,
    /// One record with these aggregates over all records, in the order of its fields.
    Aggregate(Vec<(String, Aggregate)>),
}

/// The field with the first state of a window or of a fold.
pub(crate) const INIT: &str = "init";
/// The field with the next state.
pub(crate) const UPDATE: &str = "update";
/// The field with the condition of a window.
pub(crate) const WHILE: &str = "while";

/// A window that grows while a condition holds. All texts are jq expressions with exactly one
/// value. The input of the last two is `{state, record}`, with the state before this record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowBy {
    /// The state before the first record; its input is null.
    pub init: String,
    /// The state after a record.
    pub update: String,
    /// Whether a record belongs to the window, `while`.
    pub holds: String,
}

impl WindowBy {
    /// The expressions with the names of their fields.
    pub(crate) fn expressions(&self) -> [(&'static str, &str); 3] {
        [
            (INIT, &self.init),
            (UPDATE, &self.update),
            (WHILE, &self.holds),
        ]
    }
}

/// A program that gets the records of a shard on its standard input, as JSON lines, and returns
/// records on its standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program, by its name or its absolute path, and its arguments. Never empty.
    pub command: Vec<String>,
    /// Environment variables besides those that every command has.
    pub env: BTreeMap<String, String>,
    /// How many task slots of a worker it takes; at least 1.
    pub slots: u32,
    /// Whether it may end successfully before it has read all of its input.
    pub may_ignore_input: bool,
    /// Whether one process serves the shards of a task slot one after the other.
    pub reuse: bool,
}

/// Groups records of equal key and aggregates each group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupBy {
    /// The key, a jq expression that gives exactly one value.
    pub key: String,
    /// Names of the output's fields with what they hold, in the order of the output.
    pub aggregates: Vec<(String, Aggregate)>,
    /// Number of shards of the result; default: the planner's.
    pub shards: Option<u32>,
    /// The order of a group's records for first, last, collect and reduce; default: (shard,
    /// position).
    pub order: Option<Order>,
}

/// An order of records. Records with equal values are in (shard, position) order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// A jq expression whose values are compared in jq's order.
    pub by: String,
    /// Whether greater values come first.
    pub descending: bool,
}

/// A fold over records. Both texts are jq expressions with exactly one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The state before the first record; its input is null.
    pub init: String,
    /// The state after a record; its input is `{state, record}`.
    pub update: String,
}

/// A function over a group. The text is a jq expression that is evaluated for each record and must
/// return exactly one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Aggregate {
    /// The number of records.
    Count,
    /// The exact sum of numbers, rounded once.
    Sum(String),
    /// The least value in jq's order. Of equal values, the first by (shard, position).
    Min(String),
    /// The greatest value in jq's order. Of equal values, the first by (shard, position).
    Max(String),
    /// The exact mean of numbers, rounded once.
    Avg(String),
    /// All values in the order of the group.
    Collect(String),
    /// The first value in the order of the group, which may be null.
    First(String),
    /// The last value in the order of the group, which may be null.
    Last(String),
    /// The number of different values.
    CountDistinct(String),
    /// Whether at least one value is neither false nor null.
    Any(String),
    /// Whether no value is false or null.
    All(String),
    /// The standard deviation of a sample of numbers.
    Stddev(String),
    /// The records with the greatest values, the greatest first. Records with equal values are in
    /// (shard, position) order.
    TopK {
        /// The values.
        by: String,
        /// How many records.
        k: u32,
    },
    /// The value at the nearest rank in jq's order.
    Percentile {
        /// The values.
        of: String,
        /// The rank in millionths of the number of values.
        per_million: u32,
    },
    /// The last state of a fold over the records in the order of the group.
    Reduce(Fold),
}

impl Aggregate {
    /// Its expressions, each with its path below the aggregate's name. None for a count.
    pub(crate) fn expressions(&self) -> Vec<(String, &str)> {
        let source = match self {
            Self::Count => return Vec::new(),
            Self::Sum(source)
            | Self::Min(source)
            | Self::Max(source)
            | Self::Avg(source)
            | Self::Collect(source)
            | Self::First(source)
            | Self::Last(source)
            | Self::CountDistinct(source)
            | Self::Any(source)
            | Self::All(source)
            | Self::Stddev(source) => source,
            Self::TopK { by, .. } => return vec![("topK.by".to_owned(), by)],
            Self::Percentile { of, .. } => return vec![("percentile.of".to_owned(), of)],
            Self::Reduce(Fold { init, update }) => {
                return vec![
                    (format!("reduce.{INIT}"), init),
                    (format!("reduce.{UPDATE}"), update),
                ];
            }
        };
        vec![(self.word().to_owned(), source)]
    }

    /// Its name in the manifest.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum(_) => "sum",
            Self::Min(_) => "min",
            Self::Max(_) => "max",
            Self::Avg(_) => "avg",
            Self::Collect(_) => "collect",
            Self::First(_) => "first",
            Self::Last(_) => "last",
            Self::CountDistinct(_) => "countDistinct",
            Self::Any(_) => "any",
            Self::All(_) => "all",
            Self::Stddev(_) => "stddev",
            Self::TopK { .. } => "topK",
            Self::Percentile { .. } => "percentile",
            Self::Reduce(_) => "reduce",
        }
    }
}

/// Where records go.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// The format in which a record is written.
    pub format: Format,
}

/// The format of records in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON text per line.
    Jsonl,
    /// One line, one record: a JSON string of the line.
    Text,
}
