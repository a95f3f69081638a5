//! Converts the manifest's pipeline to the engine's pipeline. Plans nothing, reads no file and
//! compiles no expression.

use std::collections::BTreeMap;

use serde_json::Value;
use zephyr_crds::exec::ExecSpec;
use zephyr_crds::on_error::{OnErrorAction, OnErrorMessages, OnErrorSpec};
use zephyr_crds::pipeline::{
    AggregateSpec, Compression, DeduplicateSpec, FileFormat, GroupBySpec, PercentileSpec,
    PipelineSpec, ReduceSpec, SampleSpec, SourceSpec, StepSpec, TableSpec, TopKSpec, WindowBySpec,
};
use zephyr_engine::pipeline::{
    Aggregate, Exec, Fold, Format, GroupBy, OnError, OnErrors, Order, Origin, Pipeline, Sink,
    Source, Step, Tables, Values, WindowBy,
};
use zephyr_engine::record::{Limits, MAX_NESTING, MAX_RECORD_BYTES};

use zephyr_store::formats::{self, ReadLimits};

/// Why a manifest's pipeline is invalid. Admission refuses all of these errors; a frozen job that
/// contains one was changed by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    /// Exactly one of several fields must be set, and none or more than one is.
    #[error(
        "{path}: {count} of its fields are set (got {got:?}); exactly one of {allowed} must be set"
    )]
    NotOne {
        /// The path in the manifest.
        path: String,
        /// How many fields are set.
        count: usize,
        /// Their names.
        got: Vec<&'static str>,
        /// The names to choose from.
        allowed: &'static str,
    },
    /// The sink's format is not set, and its extension does not imply one.
    #[error(
        "spec.pipeline.sink.files.format: not set, and the extension does not determine it (got {path:?}); jsonl or text, or a path ending with .jsonl or .txt before .gz or .zst"
    )]
    SinkFormat {
        /// The sink's path.
        path: String,
    },
    /// A limit is not an amount of bytes.
    #[error("spec.pipeline.limits: {source}")]
    Limits {
        /// The cause.
        #[source]
        source: zephyr_crds::quantity::QuantityError,
    },
    /// A share of bad records is not a percentage.
    #[error("{path}: is not a percentage; a number from 0 to 100 with at most four decimal places")]
    Percent {
        /// The path in the manifest.
        path: String,
    },
    /// A number is not a fraction.
    #[error("{path}: is not a fraction; a number from 0 to 1")]
    Fraction {
        /// The path in the manifest.
        path: String,
    },
    /// An inline item cannot be written as JSON.
    #[error("spec.pipeline.source.items.values[{index}]: cannot be written as JSON")]
    Item {
        /// Its position.
        index: usize,
        /// The cause.
        #[source]
        source: std::sync::Arc<ItemError>,
    },
    /// A named value cannot be written as JSON.
    #[error("spec.pipeline.values.{name}: cannot be written as JSON")]
    Value {
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: std::sync::Arc<ItemError>,
    },
}

/// Why a JSON value cannot be written as text.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ItemError(serde_json::Error);

impl PartialEq for ItemError {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl Eq for ItemError {}

/// Converts a manifest's pipeline.
pub fn pipeline(spec: &PipelineSpec) -> Result<Pipeline, PipelineError> {
    let steps = spec
        .steps
        .iter()
        .enumerate()
        .map(|(index, each)| step(index, each))
        .collect::<Result<_, _>>()?;
    Ok(Pipeline {
        source: source(&spec.source)?,
        steps,
        sink: sink(spec)?,
        values: values(&spec.values)?,
        tables: tables(&spec.tables),
        on_errors: on_errors(spec)?,
    })
}

/// The limits for files and records. Memory is not part of a manifest's limits.
pub fn limits(spec: &PipelineSpec) -> Result<ReadLimits, PipelineError> {
    let given = spec
        .effective_limits()
        .map_err(|source| PipelineError::Limits { source })?;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(ReadLimits {
        record: Limits {
            bytes: size(given.line_bytes).min(MAX_RECORD_BYTES),
            nesting: size(given.nesting.into()).min(MAX_NESTING),
            memory_bytes: usize::MAX,
        },
        zstd_window_bytes: given.zstd_window,
    })
}

/// The writers' type for a compression.
pub fn compression(compression: Compression) -> formats::Compression {
    match compression {
        Compression::Gz => formats::Compression::Gz,
        Compression::Zst => formats::Compression::Zst,
        Compression::None => formats::Compression::None,
    }
}

/// The engine's type for a file format.
pub fn format(format: FileFormat) -> Format {
    match format {
        FileFormat::Jsonl => Format::Jsonl,
        FileFormat::Text => Format::Text,
    }
}

fn sink(spec: &PipelineSpec) -> Result<Sink, PipelineError> {
    let files = &spec.sink.files;
    let found = files
        .effective_format()
        .ok_or_else(|| PipelineError::SinkFormat {
            path: files.path.clone(),
        })?;
    Ok(Sink {
        format: format(found),
    })
}

/// Returns the places that skip bad records.
fn on_errors(spec: &PipelineSpec) -> Result<OnErrors, PipelineError> {
    let source = spec.source.files.iter();
    let source = source.map(|files| (Origin::Source, &files.on_error));
    let steps = (0..).map(Origin::Step).zip(&spec.steps);
    let all = source.chain(steps.map(|(origin, step)| (origin, &step.on_error)));
    let used = all.filter_map(|(origin, on_error)| Some((origin, on_error.as_ref()?)));
    used.filter(|(_, on_error)| on_error.action != OnErrorAction::Fail)
        .map(|(origin, spec)| Ok((origin, on_error(origin, spec)?)))
        .collect()
}

fn on_error(origin: Origin, spec: &OnErrorSpec) -> Result<OnError, PipelineError> {
    let percent = spec.max_skipped_percent.map(|percent| {
        percent.per_million().ok_or(PipelineError::Percent {
            path: format!("{origin}.onError.maxSkippedPercent"),
        })
    });
    Ok(OnError {
        dead_letter: spec.path.clone(),
        max_skipped: spec.max_skipped,
        max_skipped_per_million: percent.transpose()?,
        shows_messages: spec.messages == OnErrorMessages::Show,
    })
}

/// The keys of the tables.
fn tables(spec: &BTreeMap<String, TableSpec>) -> Tables {
    let key = |(name, table): (&String, &TableSpec)| (name.clone(), table.key.clone());
    spec.iter().map(key).collect()
}

/// Named values as JSON texts.
fn values(spec: &BTreeMap<String, Value>) -> Result<Values, PipelineError> {
    let text = |(name, value): (&String, &Value)| match serde_json::to_string(value) {
        Ok(text) => Ok((name.clone(), text)),
        Err(error) => Err(PipelineError::Value {
            name: name.clone(),
            source: std::sync::Arc::new(ItemError(error)),
        }),
    };
    spec.iter().map(text).collect()
}

fn source(spec: &SourceSpec) -> Result<Source, PipelineError> {
    match (&spec.items, &spec.files) {
        (Some(items), None) => {
            let text = |(index, value)| {
                serde_json::to_string(value).map_err(|error| PipelineError::Item {
                    index,
                    source: std::sync::Arc::new(ItemError(error)),
                })
            };
            let values = items
                .values
                .iter()
                .enumerate()
                .map(text)
                .collect::<Result<_, _>>()?;
            Ok(Source::Items {
                values,
                shards: items.shards,
            })
        }
        (None, Some(files)) => Ok(Source::Files {
            empty_ok: files.empty_ok,
        }),
        (items, files) => Err(not_one(
            "spec.pipeline.source".to_owned(),
            &[("items", items.is_some()), ("files", files.is_some())],
            "items, files",
        )),
    }
}

fn step(index: usize, spec: &StepSpec) -> Result<Step, PipelineError> {
    let path = format!("spec.pipeline.steps[{index}]");
    let StepSpec {
        map,
        filter,
        flat_map,
        select,
        drop,
        rename,
        sample,
        take_per_shard,
        window,
        window_by,
        exec,
        group_by,
        deduplicate,
        count,
        aggregate,
        on_error: _,
    } = spec;
    let found = [
        ("map", map.clone().map(|text| Ok(Step::Map(text)))),
        ("filter", filter.clone().map(|text| Ok(Step::Filter(text)))),
        (
            "flatMap",
            flat_map.clone().map(|text| Ok(Step::FlatMap(text))),
        ),
        (
            "select",
            select
                .as_deref()
                .map(|columns| Ok(Step::Select(paths(columns)))),
        ),
        (
            "drop",
            drop.as_deref()
                .map(|columns| Ok(Step::Drop(paths(columns)))),
        ),
        (
            "rename",
            rename.as_ref().map(|names| Ok(Step::Rename(pairs(names)))),
        ),
        ("sample", sample.as_ref().map(|spec| sampling(&path, spec))),
        (
            "takePerShard",
            take_per_shard.map(|records| Ok(Step::TakePerShard(records))),
        ),
        ("window", window.map(|records| Ok(Step::Window(records)))),
        (
            "windowBy",
            window_by
                .as_ref()
                .map(|spec| Ok(Step::WindowBy(growing(spec)))),
        ),
        (
            "exec",
            exec.as_ref().map(|exec| Ok(Step::Exec(command(exec)))),
        ),
        (
            "groupBy",
            group_by
                .as_ref()
                .map(|spec| grouping(&path, spec).map(Step::GroupBy)),
        ),
        (
            "deduplicate",
            deduplicate
                .clone()
                .map(|DeduplicateSpec { key, shards }| Ok(Step::Deduplicate { key, shards })),
        ),
        ("count", count.map(|_| Ok(Step::Count))),
        (
            "aggregate",
            aggregate.as_ref().map(|all| {
                let all = aggregates(&format!("{path}.aggregate"), all)?;
                Ok(Step::Aggregate(all))
            }),
        ),
    ];
    let allowed = "map, filter, flatMap, select, drop, rename, sample, takePerShard, window, windowBy, exec, groupBy, deduplicate, count, aggregate";
    only(path, found, allowed)?
}

fn command(spec: &ExecSpec) -> Exec {
    Exec {
        command: spec.command.clone(),
        env: spec.env.clone(),
        slots: spec.effective_slots().max(1),
        may_ignore_input: spec.may_ignore_input.unwrap_or_default(),
        reuse: spec.reuse.unwrap_or_default(),
    }
}

/// Splits the names of columns at dots: `a.b` is the key `b` in the value of the key `a`.
fn paths(columns: &[String]) -> Vec<Vec<String>> {
    columns
        .iter()
        .map(|column| column.split('.').map(str::to_owned).collect())
        .collect()
}

/// The old and the new path of each column.
fn pairs(names: &BTreeMap<String, String>) -> Vec<(Vec<String>, Vec<String>)> {
    let split = |column: &String| column.split('.').map(str::to_owned).collect();
    let pair = |(old, new): (&String, &String)| (split(old), split(new));
    names.iter().map(pair).collect()
}

fn sampling(path: &str, spec: &SampleSpec) -> Result<Step, PipelineError> {
    let fraction = spec.fraction.checked();
    Ok(Step::Sample {
        fraction: fraction.ok_or(PipelineError::Fraction {
            path: format!("{path}.sample.fraction"),
        })?,
        seed: spec.seed.unwrap_or_default(),
    })
}

fn growing(spec: &WindowBySpec) -> WindowBy {
    let WindowBySpec {
        init,
        update,
        r#while,
    } = spec.clone();
    WindowBy {
        init,
        update,
        holds: r#while,
    }
}

fn grouping(path: &str, spec: &GroupBySpec) -> Result<GroupBy, PipelineError> {
    let order = spec.sort_by.clone().map(|by| Order {
        by,
        descending: spec.descending.unwrap_or_default(),
    });
    Ok(GroupBy {
        key: spec.key.clone(),
        aggregates: aggregates(&format!("{path}.groupBy.aggregate"), &spec.aggregate)?,
        shards: spec.shards,
        order,
    })
}

fn aggregates(
    path: &str,
    specs: &BTreeMap<String, AggregateSpec>,
) -> Result<Vec<(String, Aggregate)>, PipelineError> {
    let one = |(name, spec): (&String, &AggregateSpec)| {
        aggregate(&format!("{path}.{name}"), spec).map(|aggregate| (name.clone(), aggregate))
    };
    specs.iter().map(one).collect()
}

fn aggregate(path: &str, spec: &AggregateSpec) -> Result<Aggregate, PipelineError> {
    let AggregateSpec {
        count,
        sum,
        min,
        max,
        avg,
        collect,
        first,
        last,
        count_distinct,
        any,
        all,
        stddev,
        top_k,
        percentile,
        reduce,
    } = spec.clone();
    let top = |TopKSpec { by, k }| Aggregate::TopK { by, k };
    let fold = |ReduceSpec { init, update }| Aggregate::Reduce(Fold { init, update });
    let rank = |PercentileSpec { of, p }| {
        let per_million = p.per_million().ok_or_else(|| PipelineError::Fraction {
            path: format!("{path}.percentile.p"),
        })?;
        Ok(Aggregate::Percentile { of, per_million })
    };
    let found = [
        ("count", count.map(|_| Ok(Aggregate::Count))),
        ("sum", sum.map(Aggregate::Sum).map(Ok)),
        ("min", min.map(Aggregate::Min).map(Ok)),
        ("max", max.map(Aggregate::Max).map(Ok)),
        ("avg", avg.map(Aggregate::Avg).map(Ok)),
        ("collect", collect.map(Aggregate::Collect).map(Ok)),
        ("first", first.map(Aggregate::First).map(Ok)),
        ("last", last.map(Aggregate::Last).map(Ok)),
        (
            "countDistinct",
            count_distinct.map(Aggregate::CountDistinct).map(Ok),
        ),
        ("any", any.map(Aggregate::Any).map(Ok)),
        ("all", all.map(Aggregate::All).map(Ok)),
        ("stddev", stddev.map(Aggregate::Stddev).map(Ok)),
        ("topK", top_k.map(top).map(Ok)),
        ("percentile", percentile.map(rank)),
        ("reduce", reduce.map(fold).map(Ok)),
    ];
    let allowed = "count, sum, min, max, avg, collect, first, last, countDistinct, any, all, stddev, topK, percentile, reduce";
    only(path.to_owned(), found, allowed)?
}

/// Returns the only field that is set. It is an error if none or several are set.
fn only<T, const N: usize>(
    path: String,
    fields: [(&'static str, Option<T>); N],
    allowed: &'static str,
) -> Result<T, PipelineError> {
    let set = fields
        .iter()
        .map(|(name, value)| (*name, value.is_some()))
        .collect::<Vec<_>>();
    let mut values = fields.into_iter().filter_map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (Some(_), Some(_)) | (None, _) => Err(not_one(path, &set, allowed)),
    }
}

fn not_one(path: String, fields: &[(&'static str, bool)], allowed: &'static str) -> PipelineError {
    let got = fields
        .iter()
        .filter(|(_, set)| *set)
        .map(|(name, _)| *name)
        .collect::<Vec<_>>();
    PipelineError::NotOne {
        path,
        count: got.len(),
        got,
        allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PipelineSpec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_step_and_aggregate_finds_its_counterpart() {
        let converted = pipeline(&spec(
            r#"{"source": {"items": {"values": [1, {"a": "b"}], "shards": 2}},
                "steps": [{"map": "."}, {"filter": "true"}, {"flatMap": ".[]"}, {"select": ["a", "b.c"]}, {"takePerShard": 3}, {"drop": ["a.b"]}, {"rename": {"a.b": "a.c"}},
                          {"sample": {"fraction": 0.5}}, {"sample": {"fraction": 1, "seed": 7}}, {"window": 4}, {"windowBy": {"init": "0", "update": "1", "while": "2"}},
                          {"groupBy": {"key": ".k", "shards": 4, "aggregate": {"n": {"count": {}}, "s": {"sum": ".x"}, "i": {"min": ".x"},
                           "m": {"max": ".x"}, "a": {"avg": ".x"}, "c": {"collect": ".x"}}}},
                          {"aggregate": {"a": {"sum": ".x"}}},
                          {"deduplicate": {"key": ".k"}}, {"count": {}}],
                "sink": {"files": {"path": "s3://b/o-{shard}.jsonl.gz"}}}"#,
        ))
        .unwrap();
        assert_eq!(
            converted.source,
            Source::Items {
                values: vec!["1".into(), r#"{"a":"b"}"#.into()],
                shards: Some(2)
            }
        );
        let x = || ".x".to_owned();
        let aggregates = vec![
            ("a".to_owned(), Aggregate::Avg(x())),
            ("c".to_owned(), Aggregate::Collect(x())),
            ("i".to_owned(), Aggregate::Min(x())),
            ("m".to_owned(), Aggregate::Max(x())),
            ("n".to_owned(), Aggregate::Count),
            ("s".to_owned(), Aggregate::Sum(x())),
        ];
        assert_eq!(
            converted.steps,
            vec![
                Step::Map(".".into()),
                Step::Filter("true".into()),
                Step::FlatMap(".[]".into()),
                Step::Select(vec![vec!["a".into()], vec!["b".into(), "c".into()]]),
                Step::TakePerShard(3),
                Step::Drop(vec![vec!["a".into(), "b".into()]]),
                Step::Rename(vec![(
                    vec!["a".into(), "b".into()],
                    vec!["a".into(), "c".into()]
                )]),
                Step::Sample {
                    fraction: 0.5,
                    seed: 0,
                },
                Step::Sample {
                    fraction: 1.0,
                    seed: 7,
                },
                Step::Window(4),
                Step::WindowBy(WindowBy {
                    init: "0".into(),
                    update: "1".into(),
                    holds: "2".into(),
                }),
                Step::GroupBy(GroupBy {
                    key: ".k".into(),
                    aggregates,
                    shards: Some(4),
                    order: None
                }),
                Step::Aggregate(vec![("a".into(), Aggregate::Sum(x()))]),
                Step::Deduplicate {
                    key: ".k".into(),
                    shards: None
                },
                Step::Count,
            ]
        );
        assert_eq!(converted.sink.format, Format::Jsonl);
    }

    #[test]
    fn the_aggregates_of_an_ordered_group_find_their_counterparts() {
        let converted = pipeline(&spec(
            r#"{"source": {"items": {"values": []}}, "sink": {"files": {"path": "s3://b/o-{shard}.jsonl"}}, "steps": [
                {"groupBy": {"key": ".k", "sortBy": ".y", "descending": true, "aggregate": {"a": {"first": ".x"}, "b": {"last": ".x"},
                           "c": {"countDistinct": ".x"}, "d": {"any": ".x"}, "e": {"all": ".x"}, "f": {"stddev": ".x"}, "g": {"topK": {"by": ".x", "k": 3}},
                           "h": {"percentile": {"of": ".x", "p": 0.95}}, "i": {"reduce": {"init": "0", "update": ".x"}}}}}]}"#,
        ))
        .unwrap();
        let x = || ".x".to_owned();
        let later = [
            ("a", Aggregate::First(x())),
            ("b", Aggregate::Last(x())),
            ("c", Aggregate::CountDistinct(x())),
            ("d", Aggregate::Any(x())),
            ("e", Aggregate::All(x())),
            ("f", Aggregate::Stddev(x())),
            ("g", Aggregate::TopK { by: x(), k: 3 }),
            (
                "h",
                Aggregate::Percentile {
                    of: x(),
                    per_million: 950_000,
                },
            ),
            (
                "i",
                Aggregate::Reduce(Fold {
                    init: "0".into(),
                    update: x(),
                }),
            ),
        ];
        let later = later.map(|(name, aggregate)| (name.to_owned(), aggregate));
        let later = later.into();
        let group = GroupBy {
            key: ".k".into(),
            aggregates: later,
            shards: None,
            order: Some(Order {
                by: ".y".into(),
                descending: true,
            }),
        };
        assert_eq!(converted.steps, [Step::GroupBy(group)]);
    }

    #[test]
    fn an_invalid_choice_is_named_with_its_path() {
        let table = [
            (
                r#"{"source": {}, "sink": {"files": {"path": "a.txt"}}}"#,
                "spec.pipeline.source: 0 of its fields are set",
            ),
            (
                r#"{"source": {"files": {"paths": []}}, "steps": [{"map": ".", "filter": "."}], "sink": {"files": {"path": "a.txt"}}}"#,
                "spec.pipeline.steps[0]: 2 of its fields are set (got [\"map\", \"filter\"])",
            ),
            (
                r#"{"source": {"files": {"paths": []}}, "steps": [{"groupBy": {"key": ".", "aggregate": {"n": {}}}}], "sink": {"files": {"path": "a.txt"}}}"#,
                "spec.pipeline.steps[0].groupBy.aggregate.n: 0 of its fields",
            ),
            (
                r#"{"source": {"files": {"paths": []}}, "sink": {"files": {"path": "a.bin"}}}"#,
                "spec.pipeline.sink.files.format: not set",
            ),
        ];
        for (text, message) in table {
            let error = pipeline(&spec(text)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
