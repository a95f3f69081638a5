//! Whether every expression of a pipeline compiles. Says all mistakes at once, each with its place in the manifest, so
//! that a person mends them in one go. Evaluates nothing.

use super::path;
use crate::expr::Expression;
use crate::pipeline::{Aggregate, GroupBy, Pipeline, Step};

/// An expression that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ExpressionError {
    /// Where the manifest has it: `spec.pipeline.steps[2].groupBy.key`.
    pub path: String,
    /// Line, column and what is wrong there.
    pub message: String,
}

/// Compiles each expression and returns the mistakes in the order of the manifest.
pub fn check_expressions(pipeline: &Pipeline) -> Vec<ExpressionError> {
    let mut errors = Vec::new();
    let mut check = |path: String, source: &str| {
        if let Err(error) = Expression::compile(source) {
            errors.push(ExpressionError {
                path,
                message: error.to_string(),
            });
        }
    };
    for (index, step) in pipeline.steps.iter().enumerate() {
        let path = path::step(index, step);
        match step {
            Step::Map(source) | Step::FlatMap(source) | Step::Filter(source) => check(path, source),
            Step::Deduplicate { key, .. } => check(path::key(&path), key),
            Step::GroupBy(GroupBy {
                key, aggregates, ..
            }) => {
                check(path::key(&path), key);
                for (name, aggregate) in aggregates {
                    let (function, source) = match aggregate {
                        Aggregate::Count => continue,
                        Aggregate::Sum(source) => ("sum", source),
                        Aggregate::Min(source) => ("min", source),
                        Aggregate::Max(source) => ("max", source),
                        Aggregate::Avg(source) => ("avg", source),
                        Aggregate::Collect(source) => ("collect", source),
                    };
                    check(path::aggregate(&path, name, function), source);
                }
            }
            Step::Select(_) | Step::TakePerShard(_) | Step::Count => {}
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Format, Sink, Source};

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let aggregates = [
            ("n", Aggregate::Count),
            ("total", Aggregate::Sum(".price *".to_owned())),
            ("good", Aggregate::Max(".price".to_owned())),
            ("a b", Aggregate::Collect("nowhere".to_owned())),
        ];
        let aggregates = aggregates
            .map(|(name, aggregate)| (name.to_owned(), aggregate))
            .into();
        let pipeline = Pipeline {
            source: Source::Files { empty_ok: false },
            steps: vec![
                Step::Map(".a".to_owned()),
                Step::Filter(".a ==".to_owned()),
                Step::GroupBy(GroupBy {
                    key: ".k\n| upcase".to_owned(),
                    aggregates,
                    shards: None,
                }),
                Step::Deduplicate {
                    key: "]".to_owned(),
                    shards: None,
                },
                Step::FlatMap("input".to_owned()),
                Step::Select(vec![vec!["a".to_owned()]]),
            ],
            sink: Sink {
                format: Format::Jsonl,
            },
        };
        let errors = check_expressions(&pipeline);
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.pipeline.steps[1].filter",
                "spec.pipeline.steps[2].groupBy.key",
                "spec.pipeline.steps[2].groupBy.aggregate.total.sum",
                "spec.pipeline.steps[2].groupBy.aggregate[\"a b\"].collect",
                "spec.pipeline.steps[3].deduplicate.key",
                "spec.pipeline.steps[4].flatMap",
            ]
        );
        assert_eq!(
            errors[1].to_string(),
            "spec.pipeline.steps[2].groupBy.key: line 2, column 3: the filter upcase/0 is not defined"
        );
    }
}
