//! Turns a pipeline into its plan. A stage contains every record step up to the next shuffle; the
//! stage after a shuffle begins with a merge. The plan depends only on the pipeline and the planned
//! source.

use super::source::{PlannedSource, implied_shuffle_shards};
use super::{Merge, Plan, RecordOperation, RecordStep, Stage, StageInput, StageOutput, path};
use crate::id::{SourceId, StageId};
use crate::pipeline::{OnErrors, Origin, Pipeline, Step};

/// The most shards of a shuffle if the manifest sets no number. Each reducer reads one range from
/// the file of each mapper, so 256 mappers and 256 reducers read 65,536 ranges.
pub const MAX_DEFAULT_SHARDS: u32 = 256;

/// Returns the plan of a validated pipeline over this source. A plain number as `source` is the
/// number of its shards.
///
/// This cannot fail, because validation finds mistakes in numbers, and
/// [`check_expressions`](super::check_expressions) finds mistakes in expressions. A job without
/// input shards gets stages with 0 tasks up to its first shuffle, and at least one task after it.
pub fn plan(pipeline: &Pipeline, source: impl Into<PlannedSource>) -> Plan {
    let source = source.into();
    let mut planner = Planner {
        on_errors: &pipeline.on_errors,
        finished: Vec::new(),
        first_shuffle: source.shuffle_shards,
        gather: source.gather,
        open: OpenStage {
            name: "map",
            shards: source.shards,
            input: StageInput::Source(SourceId::MAIN),
            steps: Vec::new(),
        },
    };
    for (index, step) in pipeline.steps.iter().enumerate() {
        planner.add(index, step);
    }
    Plan {
        stages: planner.finish(StageOutput::Sink {
            format: pipeline.sink.format,
        }),
        values: pipeline.values.clone(),
        tables: pipeline.tables.clone(),
        source_parts: source.parts,
        on_errors: pipeline.on_errors.clone(),
    }
}

struct Planner<'p> {
    on_errors: &'p OnErrors,
    finished: Vec<Stage>,
    /// The shards of the first shuffle if its step sets none.
    first_shuffle: Option<u32>,
    /// How many files of the first shuffle one task gathers, if a stage does that.
    gather: Option<u32>,
    open: OpenStage,
}

/// The stage into which record steps are fused.
struct OpenStage {
    name: &'static str,
    shards: u32,
    input: StageInput,
    steps: Vec<RecordStep>,
}

impl Planner<'_> {
    fn add(&mut self, index: usize, step: &Step) {
        let path = path::step(index, step);
        // A manifest has far fewer steps than 32 bits can count, because validation bounds them.
        let origin = Origin::Step(u32::try_from(index).unwrap_or(u32::MAX));
        let on_error = self.on_errors.contains_key(&origin).then_some(origin);
        let operation = match step {
            Step::Map(expression) => RecordOperation::Map(expression.clone()),
            Step::FlatMap(expression) => RecordOperation::FlatMap(expression.clone()),
            Step::Filter(expression) => RecordOperation::Filter(expression.clone()),
            Step::Select(paths) => RecordOperation::Select(paths.clone()),
            Step::Drop(paths) => RecordOperation::Drop(paths.clone()),
            Step::Rename(pairs) => RecordOperation::Rename(pairs.clone()),
            Step::Sample { fraction, seed } => RecordOperation::Sample {
                fraction: *fraction,
                seed: *seed,
            },
            Step::TakePerShard(records) => RecordOperation::TakePerShard(*records),
            Step::Window(records) => RecordOperation::Window(*records),
            Step::WindowBy(window) => RecordOperation::WindowBy(window.clone()),
            Step::Exec(exec) => RecordOperation::Exec(exec.clone()),
            Step::GroupBy(group_by) => {
                return self.shuffle(
                    "reduce",
                    group_by.shards,
                    &path,
                    &Merge::GroupBy(group_by.clone()),
                    on_error,
                );
            }
            Step::Deduplicate { key, shards } => {
                return self.shuffle(
                    "deduplicate",
                    *shards,
                    &path,
                    &Merge::Deduplicate(key.clone()),
                    on_error,
                );
            }
            Step::Count => return self.shuffle("count", Some(1), &path, &Merge::Count, None),
            Step::Aggregate(aggregates) => {
                let merge = Merge::Aggregate(aggregates.clone());
                return self.shuffle("aggregate", Some(1), &path, &merge, on_error);
            }
        };
        self.open.steps.push(RecordStep {
            path,
            operation,
            on_error,
        });
    }

    fn shuffle(
        &mut self,
        name: &'static str,
        shards: Option<u32>,
        path: &str,
        merge: &Merge,
        on_error: Option<Origin>,
    ) {
        let implied = implied_shuffle_shards(self.open.shards);
        let default = self.first_shuffle.take().unwrap_or(implied);
        let shards = shards.unwrap_or(default).max(1);
        let output = |on_error| StageOutput::Shuffle {
            partitions: shards,
            path: path.to_owned(),
            merge: merge.clone(),
            on_error,
        };
        if let Some(files) = self.gather.take() {
            let gather = OpenStage {
                name: "gather",
                shards: self.open.shards.div_ceil(files.max(1)),
                input: StageInput::Gather {
                    from: self.next_id(),
                    files: files.max(1),
                    path: path.to_owned(),
                    merge: merge.clone(),
                },
                steps: Vec::new(),
            };
            self.close(output(on_error), gather);
        }
        // The stage before a gathering stage has already counted these bad records.
        let on_error = on_error.filter(|_| !self.open.is_gather());
        let next = OpenStage {
            name,
            shards,
            input: StageInput::Shuffle {
                from: self.next_id(),
                path: path.to_owned(),
                merge: merge.clone(),
            },
            steps: Vec::new(),
        };
        self.close(output(on_error), next);
    }

    fn close(&mut self, output: StageOutput, next: OpenStage) {
        let id = self.next_id();
        let stage = std::mem::replace(&mut self.open, next);
        self.finished.push(stage.with_output(id, output));
    }

    fn finish(mut self, output: StageOutput) -> Vec<Stage> {
        let id = self.next_id();
        self.finished.push(self.open.with_output(id, output));
        self.finished
    }

    fn next_id(&self) -> StageId {
        // A manifest has far fewer steps than 32 bits can count, because validation bounds them.
        StageId(u32::try_from(self.finished.len()).unwrap_or(u32::MAX))
    }
}

impl OpenStage {
    fn is_gather(&self) -> bool {
        matches!(self.input, StageInput::Gather { .. })
    }

    fn with_output(self, id: StageId, output: StageOutput) -> Stage {
        let Self {
            name,
            shards,
            input,
            steps,
        } = self;
        Stage {
            id,
            name: name.to_owned(),
            shards,
            inputs: vec![input],
            steps,
            output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Aggregate, Format, GroupBy, Sink, Source};

    fn pipeline(steps: Vec<Step>) -> Pipeline {
        Pipeline {
            source: Source::Files { empty_ok: true },
            steps,
            sink: Sink {
                format: Format::Jsonl,
            },
            values: crate::pipeline::Values::new(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
        }
    }

    fn group_by(shards: Option<u32>) -> Step {
        let aggregates = vec![("n".to_owned(), Aggregate::Count)];
        Step::GroupBy(GroupBy {
            key: ".k".to_owned(),
            aggregates,
            shards,
            order: None,
        })
    }

    fn shape(plan: &Plan) -> Vec<(&str, u32, usize)> {
        plan.stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.shards, stage.steps.len()))
            .collect()
    }

    #[test]
    fn a_task_takes_the_slots_of_the_command_that_takes_most() {
        let exec = |slots| {
            Step::Exec(crate::pipeline::Exec {
                command: vec!["cat".to_owned()],
                env: std::collections::BTreeMap::new(),
                slots,
                may_ignore_input: false,
                reuse: false,
            })
        };
        let steps = vec![
            exec(2),
            Step::Map(".".to_owned()),
            exec(3),
            Step::Count,
            exec(1),
        ];
        let plan = plan(&pipeline(steps), 4);
        let slots: Vec<u32> = plan.stages.iter().map(Stage::slots).collect();
        assert_eq!(slots, [3, 1]);
        let commands = plan.stages[0].commands().map(|(path, _)| path);
        let paths: Vec<&str> = commands.collect();
        assert_eq!(
            paths,
            ["spec.pipeline.steps[0].exec", "spec.pipeline.steps[2].exec"]
        );
    }

    #[test]
    fn record_steps_are_fused_up_to_the_next_shuffle() {
        let steps = vec![
            Step::Filter(".a".to_owned()),
            Step::Map(".b".to_owned()),
            group_by(Some(4)),
            Step::FlatMap(".[]".to_owned()),
            Step::TakePerShard(3),
            Step::Deduplicate {
                key: ".".to_owned(),
                shards: None,
            },
            Step::Count,
            Step::Select(vec![vec!["n".to_owned()]]),
        ];
        let plan = plan(&pipeline(steps), 10);
        assert_eq!(
            shape(&plan),
            [
                ("map", 10, 2),
                ("reduce", 4, 2),
                ("deduplicate", 4, 0),
                ("count", 1, 1)
            ]
        );
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(
            plan.stages[3].steps[0].path,
            "spec.pipeline.steps[7].select"
        );
        let [StageInput::Shuffle { from, path, .. }] = &plan.stages[2].inputs[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(
            (*from, path.as_str()),
            (StageId(1), "spec.pipeline.steps[5].deduplicate")
        );
        let StageOutput::Shuffle { partitions, .. } = plan.stages[0].output else {
            panic!("{plan:?}")
        };
        assert_eq!(partitions, plan.stages[1].shards);
        assert_eq!(
            plan.stages[3].output,
            StageOutput::Sink {
                format: Format::Jsonl
            }
        );
    }

    #[test]
    fn a_pipeline_without_steps_is_one_stage() {
        assert_eq!(shape(&plan(&pipeline(vec![]), 3)), [("map", 3, 0)]);
    }

    #[test]
    fn fault_5162_a_shuffle_has_as_many_shards_as_its_upstream_but_at_most_256_and_at_least_one() {
        for (source_shards, expected) in [
            (0, 1),
            (1, 1),
            (7, 7),
            (256, 256),
            (257, 256),
            (u32::MAX, 256),
        ] {
            assert_eq!(
                plan(&pipeline(vec![group_by(None)]), source_shards).stages[1].shards,
                expected
            );
        }
        assert_eq!(
            plan(&pipeline(vec![group_by(Some(300))]), 2).stages[1].shards,
            300
        );
    }

    #[test]
    fn a_job_without_input_has_empty_stages_only_before_its_first_shuffle() {
        assert_eq!(shape(&plan(&pipeline(vec![]), 0)), [("map", 0, 0)]);
        assert_eq!(
            shape(&plan(&pipeline(vec![Step::Count]), 0)),
            [("map", 0, 0), ("count", 1, 0)]
        );
    }
}
