//! Makes the paths of steps in the manifest, which errors and the printed plan show. Uses only
//! names.

use crate::pipeline::Step;

/// The path of step number `index`, 0-based: `spec.pipeline.steps[2].groupBy`.
pub(crate) fn step(index: usize, step: &Step) -> String {
    let field = match step {
        Step::Map(_) => "map",
        Step::FlatMap(_) => "flatMap",
        Step::Filter(_) => "filter",
        Step::Select(_) => "select",
        Step::Drop(_) => "drop",
        Step::Rename(_) => "rename",
        Step::Sample { .. } => "sample",
        Step::TakePerShard(_) => "takePerShard",
        Step::Window(_) => "window",
        Step::WindowBy(_) => "windowBy",
        Step::Exec(_) => "exec",
        Step::GroupBy(_) => "groupBy",
        Step::Deduplicate { .. } => "deduplicate",
        Step::Count => "count",
        Step::Aggregate(_) => "aggregate",
    };
    format!("spec.pipeline.steps[{index}].{field}")
}

/// The path of a field of a step: `spec.pipeline.steps[2].windowBy.while`.
pub(crate) fn inside(step: &str, field: &str) -> String {
    format!("{step}.{field}")
}

/// The path of a shuffling step's key.
pub(crate) fn key(step: &str) -> String {
    format!("{step}.key")
}

/// The field of named values.
pub(crate) const VALUES: &str = "spec.pipeline.values";

/// The path of a table's key.
pub(crate) fn table_key(name: &str) -> String {
    format!("spec.pipeline.tables.{name}.key")
}

/// The path of an aggregate's expression: `spec.pipeline.steps[2].groupBy.aggregate.total.sum`.
/// `aggregates` is the path of all aggregates of the step.
pub(crate) fn aggregate(aggregates: &str, name: &str, function: &str) -> String {
    format!("{aggregates}{}.{function}", member(name))
}

/// The path of a groupBy's aggregates.
pub(crate) fn aggregates(step: &str) -> String {
    format!("{step}.aggregate")
}

/// The path of a groupBy's order.
pub(crate) fn order(step: &str) -> String {
    format!("{step}.sortBy")
}

/// Appends a name to a path: after a dot if it is a simple name, otherwise in brackets and quotes.
fn member(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(plain) {
        format!(".{name}")
    } else {
        format!("[{name:?}]")
    }
}
