//! Checks that every expression and every list of columns of a pipeline compiles. Reports all
//! errors at once, each with its path in the manifest, so that a person can correct them together.
//! Evaluates nothing.

use super::path;
use crate::expr::{Expression, Variables};
use crate::ops::{rename, select};
use crate::pipeline::{Aggregate, GroupBy, Pipeline, Step};

/// Characters of an expression that an error shows.
const SHOWN_CHARACTERS: usize = 200;

/// An expression that does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ExpressionError {
    /// Its path in the manifest: `spec.pipeline.steps[2].groupBy.key`.
    pub path: String,
    /// Line, column and the error there.
    pub message: String,
}

/// Compiles each expression and returns the errors in the order of the manifest.
pub fn check_expressions(pipeline: &Pipeline) -> Vec<ExpressionError> {
    let mut errors = Vec::new();
    let of_keys = &match Variables::of(&pipeline.values) {
        Ok(variables) => variables,
        Err(error) => {
            let path = path::VALUES.to_owned();
            let message = error.to_string();
            return vec![ExpressionError { path, message }];
        }
    };
    let values = &with_tables(of_keys, pipeline);
    let mut check = |path: String, compiled: Result<(), String>| {
        if let Err(message) = compiled {
            errors.push(ExpressionError { path, message });
        }
    };
    for (name, key) in &pipeline.tables {
        check(path::table_key(name), compile(key, of_keys));
    }
    for (index, step) in pipeline.steps.iter().enumerate() {
        let path = path::step(index, step);
        match step {
            Step::Map(source) | Step::FlatMap(source) => check(path, compile(source, values)),
            Step::Filter(source) => check(path, filter(source, values)),
            Step::Deduplicate { key, .. } => check(path::key(&path), compile(key, values)),
            Step::GroupBy(GroupBy {
                key,
                aggregates,
                order,
                ..
            }) => {
                check(path::key(&path), compile(key, values));
                if let Some(order) = order {
                    check(path::order(&path), compile(&order.by, values));
                }
                aggregate_errors(&path::aggregates(&path), aggregates, values, &mut check);
            }
            Step::Aggregate(aggregates) => {
                aggregate_errors(&path, aggregates, values, &mut check);
            }
            Step::Select(columns) => {
                let compiled = select::compile(&path, columns);
                check(path, compiled.map(drop).map_err(|error| error.message));
            }
            Step::Drop(columns) => {
                let compiled = select::compile(&path, columns);
                check(path, compiled.map(drop).map_err(|error| error.message));
            }
            Step::Rename(pairs) => {
                let compiled = rename::compile(&path, pairs);
                check(path, compiled.map(drop).map_err(|error| error.message));
            }
            Step::WindowBy(window) => {
                for (field, source) in window.expressions() {
                    check(path::inside(&path, field), compile(source, values));
                }
            }
            Step::Sample { .. }
            | Step::TakePerShard(_)
            | Step::Window(_)
            | Step::Exec(_)
            | Step::Count => {}
        }
    }
    errors
}

/// Checks the expressions of aggregates.
fn aggregate_errors(
    path: &str,
    aggregates: &[(String, Aggregate)],
    values: &Variables,
    check: &mut dyn FnMut(String, Result<(), String>),
) {
    for (name, aggregate) in aggregates {
        for (word, source) in aggregate.expressions() {
            let path = path::aggregate(path, name, &word);
            check(path, compile(source, values));
        }
    }
}

/// The variables of the steps' expressions. A table has no records before a task reads it.
fn with_tables(values: &Variables, pipeline: &Pipeline) -> Variables {
    let mut variables = values.clone();
    for name in pipeline.tables.keys() {
        // An empty object is JSON.
        let _bytes = variables.insert(name, "{}".to_owned());
    }
    variables
}

/// Checks the expression of a filter. If it certainly keeps every record, it is a mistake, such as
/// `.a = 1` instead of `.a == 1`.
fn filter(source: &str, variables: &Variables) -> Result<(), String> {
    let compiled = Expression::compile_with(source, variables);
    let expression = compiled.map_err(|error| error.to_string())?;
    match expression.keeps_everything() {
        Some(problem) => {
            let got: String = source.trim().chars().take(SHOWN_CHARACTERS).collect();
            Err(format!("{problem} (got {got})"))
        }
        None => Ok(()),
    }
}

fn compile(source: &str, values: &Variables) -> Result<(), String> {
    Expression::compile_with(source, values)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Format, Sink, Source};

    #[test]
    fn a_column_inside_another_is_found_without_a_record() {
        let pipeline = Pipeline {
            source: Source::Files { empty_ok: false },
            steps: vec![Step::Select(vec![
                vec!["a".to_owned()],
                vec!["a".to_owned(), "b".to_owned()],
            ])],
            sink: Sink {
                format: Format::Jsonl,
            },
            values: crate::pipeline::Values::new(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
        };
        let errors: Vec<_> = check_expressions(&pipeline)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "spec.pipeline.steps[0].select: a already contains a.b; only one of the two is allowed"
            ]
        );
    }

    #[test]
    fn a_filter_that_certainly_keeps_every_record_is_refused() {
        let refusal = |source: &str| filter(source, &Variables::default()).err();
        for (source, words) in [
            (".line = \"\"", "it changes a value instead of comparing it"),
            (".a as $a | .b |= $a", "== compares"),
            (".a += 1", "it changes a value"),
            ("{a: .b}", "it makes an object"),
            (".tags | [.[] | select(. == \"x\")]", "it makes a list"),
        ] {
            let message = refusal(source).unwrap_or_default();
            assert!(message.contains(words), "{source}: {message}");
            assert!(message.ends_with(&format!("(got {source})")), "{message}");
        }
        for source in [
            ".a == 1",
            "true",
            ".a",
            "[.a] == [1]",
            "(.a = 1).b",
            "[.a] | any",
        ] {
            assert_eq!(refusal(source), None, "{source}");
        }
    }

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
                    order: None,
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
            values: crate::pipeline::Values::new(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
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
            "spec.pipeline.steps[2].groupBy.key: line 2, column 3: the filter upcase/0 is not defined; a field is written .upcase"
        );
    }

    #[test]
    fn a_value_is_a_variable_in_every_expression_and_others_are_not_defined() {
        let expression = || "$limit + .a".to_owned();
        let group = GroupBy {
            key: expression(),
            aggregates: [("n".to_owned(), Aggregate::Max(expression()))].into(),
            shards: None,
            order: None,
        };
        let mut pipeline = Pipeline {
            source: Source::Files { empty_ok: false },
            steps: vec![
                Step::Map(expression()),
                Step::GroupBy(group),
                Step::Deduplicate {
                    key: expression(),
                    shards: None,
                },
            ],
            sink: Sink {
                format: Format::Jsonl,
            },
            values: [("limit".to_owned(), "7".to_owned())].into(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
        };
        assert_eq!(check_expressions(&pipeline), []);
        pipeline.values = [("limits".to_owned(), "7".to_owned())].into();
        let errors = check_expressions(&pipeline);
        assert_eq!(errors.len(), 4);
        assert!(errors[0].message.contains("$limit"), "{}", errors[0]);
    }
}
