//! Checks whether the stages of a plan form a graph that can run. The check finds mistakes of the
//! planner, and mistakes in plans that tests make. Changes nothing.

use super::{Plan, Stage, StageInput, StageOutput};
use crate::id::{SourceId, StageId};

/// Why the stages of a plan cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stage {stage}: {problem}")]
pub struct GraphError {
    /// The stage with the mistake.
    pub stage: StageId,
    /// The mistake.
    pub problem: String,
}

impl Plan {
    /// For each stage, the stages that it reads, in the order of its inputs. Empty if the plan is a
    /// chain: the first stage reads the only source, and each other stage reads the stage before
    /// it.
    pub fn graph(&self) -> Vec<Vec<StageId>> {
        let before = |stage: &Stage| stage.id.0.checked_sub(1).map(StageId);
        let is_link = |stage: &Stage| match stage.source() {
            Some(source) => source == SourceId::MAIN && before(stage).is_none(),
            None => stage.reads().eq(before(stage)),
        };
        if self.stages.iter().all(is_link) {
            return Vec::new();
        }
        self.stages
            .iter()
            .map(|stage| stage.reads().collect())
            .collect()
    }

    /// An upper bound of the number of tasks that run at the same time. For each stage, its tasks
    /// are added to those of all stages that neither depend on it nor are needed for it. The
    /// largest of these sums is returned. For a chain it is the number of tasks of the largest
    /// stage.
    pub fn width(&self) -> u32 {
        let count = self.stages.len();
        let mut needs = vec![vec![false; count]; count];
        for stage in &self.stages {
            for read in stage.reads() {
                let (earlier, own) = needs.split_at_mut(stage.id.0 as usize);
                let read = read.0 as usize;
                own[0][read] = true;
                for (own, indirect) in own[0].iter_mut().zip(&earlier[read]) {
                    *own |= indirect;
                }
            }
        }
        let beside = |one: usize| {
            let others = self.stages.iter().enumerate();
            let others = others.filter(|(other, _)| !needs[one][*other] && !needs[*other][one]);
            others.fold(0_u32, |sum, (_, stage)| sum.saturating_add(stage.shards))
        };
        (0..count).map(beside).max().unwrap_or(0)
    }

    /// Checks that every stage can run, and that its output is used. The fields of [`Plan`] and
    /// [`Stage`] say what is required.
    pub fn check(&self) -> Result<(), GraphError> {
        for (position, stage) in (0..).zip(&self.stages) {
            let problem = self.problem(StageId(position), stage);
            if let Some(problem) = problem {
                return Err(GraphError {
                    stage: StageId(position),
                    problem,
                });
            }
        }
        Ok(())
    }

    fn problem(&self, id: StageId, stage: &Stage) -> Option<String> {
        if stage.id != id {
            return Some(format!("its id is {}", stage.id));
        }
        let is_last = id.0 as usize + 1 == self.stages.len();
        let is_sink = matches!(stage.output, StageOutput::Sink { .. });
        if is_last != is_sink {
            return Some("only the last stage writes the sink's files".to_owned());
        }
        let is_read = self
            .stages
            .iter()
            .any(|other| other.reads().any(|from| from == id));
        if !is_last && !is_read {
            return Some("no stage reads it".to_owned());
        }
        match stage.inputs.as_slice() {
            [] => Some("it reads nothing".to_owned()),
            [StageInput::Source(_)] => None,
            [StageInput::Gather { from, files, .. }] => self.gather_problem(stage, *from, *files),
            inputs => inputs
                .iter()
                .find_map(|input| self.input_problem(stage, input)),
        }
    }

    /// Checks that a gathering stage writes the partitions that it reads, and that exactly one of
    /// its tasks reads each file.
    fn gather_problem(&self, stage: &Stage, from: StageId, files: u32) -> Option<String> {
        if from >= stage.id {
            return Some(format!("it reads stage {from}, which is not before it"));
        }
        let read = self.stages.get(from.0 as usize)?;
        let tasks = read
            .shards
            .checked_div(files)
            .map(|_| read.shards.div_ceil(files));
        if tasks != Some(stage.shards) {
            return Some(format!(
                "it has {} shards, and gathers {} files of stage {from}, {files} at a time",
                stage.shards, read.shards
            ));
        }
        let is_same = match (&read.output, &stage.output) {
            (
                StageOutput::Shuffle {
                    partitions, merge, ..
                },
                StageOutput::Shuffle {
                    partitions: own,
                    merge: own_merge,
                    on_error: None,
                    ..
                },
            ) => (partitions, merge) == (own, own_merge),
            _ => false,
        };
        let is_plain = is_same && stage.steps.is_empty();
        (!is_plain).then(|| format!("it does more than gather the files of stage {from}"))
    }

    fn input_problem(&self, stage: &Stage, input: &StageInput) -> Option<String> {
        let StageInput::Shuffle { from, path, merge } = input else {
            return Some("it reads shuffles and something else".to_owned());
        };
        if *from >= stage.id {
            return Some(format!("it reads stage {from}, which is not before it"));
        }
        if stage.reads().filter(|other| other == from).count() > 1 {
            return Some(format!("it reads stage {from} twice"));
        }
        if stage.merge() != Some((path, merge)) {
            return Some("the shuffles that it reads are merged in different ways".to_owned());
        }
        match self.stages.get(from.0 as usize).map(|from| &from.output) {
            Some(StageOutput::Shuffle { partitions, .. }) if *partitions == stage.shards => None,
            Some(StageOutput::Shuffle { partitions, .. }) => Some(format!(
                "it has {} shards, and stage {from} writes {partitions} partitions",
                stage.shards
            )),
            Some(StageOutput::Sink { .. }) | None => {
                Some(format!("stage {from} writes no shuffle"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Format;
    use crate::plan::Merge;

    fn shuffle(from: u32, merge: Merge) -> StageInput {
        StageInput::Shuffle {
            from: StageId(from),
            path: "spec.pipeline.steps[0]".to_owned(),
            merge,
        }
    }

    /// A plan with two sources, with a stage that two others read, and with stages that read two
    /// others.
    fn diamond() -> Plan {
        let count = |from| shuffle(from, Merge::Count);
        let inputs = [
            vec![StageInput::Source(SourceId(0))],
            vec![StageInput::Source(SourceId(1))],
            vec![count(0), count(1)],
            vec![count(0)],
            vec![count(2), count(3)],
        ];
        let stage = |(position, inputs)| Stage {
            id: StageId(position),
            name: "stage".to_owned(),
            shards: 2,
            inputs,
            steps: Vec::new(),
            output: StageOutput::Shuffle {
                partitions: 2,
                path: "spec.pipeline.steps[0]".to_owned(),
                merge: Merge::Count,
                on_error: None,
            },
        };
        let mut stages: Vec<Stage> = (0..).zip(inputs).map(stage).collect();
        stages[4].output = StageOutput::Sink {
            format: Format::Jsonl,
        };
        Plan {
            stages,
            values: crate::pipeline::Values::new(),
            tables: crate::pipeline::Tables::new(),
            source_parts: None,
            on_errors: crate::pipeline::OnErrors::new(),
        }
    }

    #[test]
    fn a_diamond_can_run() {
        assert_eq!(diamond().check(), Ok(()));
    }

    #[test]
    fn only_a_plan_that_is_not_a_chain_has_a_graph() {
        let ids = |ids: &[u32]| ids.iter().copied().map(StageId).collect::<Vec<_>>();
        let graph = [&[][..], &[], &[0, 1], &[0], &[2, 3]].map(ids);
        assert_eq!(diamond().graph(), graph);
        let mut chain = diamond();
        chain.stages.truncate(2);
        chain.stages[1].inputs = vec![shuffle(0, Merge::Count)];
        assert_eq!(chain.graph(), [] as [Vec<StageId>; 0]);
        chain.stages[0].inputs = vec![StageInput::Source(SourceId(1))];
        assert_eq!(chain.graph(), [ids(&[]), ids(&[0])], "another source");
    }

    #[test]
    fn a_plan_is_as_wide_as_the_stages_that_can_run_at_the_same_time() {
        let mut plan = diamond();
        let widths = |plan: &mut Plan, shards: [u32; 5]| {
            for (stage, shards) in plan.stages.iter_mut().zip(shards) {
                stage.shards = shards;
            }
            plan.width()
        };
        // The second source runs beside the first source and the stage that reads only the first
        // source.
        assert_eq!(widths(&mut plan, [3, 5, 1, 1, 1]), 9);
        assert_eq!(widths(&mut plan, [1, 1, 7, 4, 2]), 12);
        assert_eq!(widths(&mut plan, [1, 1, 1, 1, 9]), 9);
        assert_eq!(widths(&mut plan, [u32::MAX; 5]), u32::MAX);
        plan.stages.truncate(2);
        plan.stages[1].inputs = vec![shuffle(0, Merge::Count)];
        assert_eq!(plan.width(), u32::MAX);
        plan.stages[0].shards = 4;
        plan.stages[1].shards = 6;
        assert_eq!(
            plan.width(),
            6,
            "the width of a chain is that of its largest stage"
        );
    }

    #[test]
    fn a_gathering_stage_reads_each_file_once_and_does_nothing_else() {
        let gather = |files| StageInput::Gather {
            from: StageId(0),
            files,
            path: "spec.pipeline.steps[0]".to_owned(),
            merge: Merge::Count,
        };
        let mut plan = diamond();
        plan.stages[0].shards = 7;
        plan.stages[3].inputs = vec![gather(4)];
        assert_eq!(plan.check(), Ok(()));
        assert_eq!(plan.stages[3].gathers(), Some(4));
        for files in [0, 3, 7] {
            plan.stages[3].inputs = vec![gather(files)];
            let expected = format!(
                "stage 4: it has 2 shards, and gathers 7 files of stage 1, {files} at a time"
            );
            assert_eq!(plan.check().unwrap_err().to_string(), expected);
        }
        plan.stages[3].inputs = vec![gather(4)];
        plan.stages[3].steps.push(crate::plan::RecordStep {
            path: String::new(),
            operation: crate::plan::RecordOperation::TakePerShard(1),
            on_error: None,
        });
        let error = plan.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "stage 4: it does more than gather the files of stage 1"
        );
    }

    #[test]
    fn every_mistake_in_a_graph_is_named_with_its_stage() {
        type Change = Box<dyn Fn(&mut Plan)>;
        let changes: [(Change, &str); 9] = [
            (
                Box::new(|plan| plan.stages[1].id = StageId(0)),
                "stage 2: its id is 1",
            ),
            (
                Box::new(|plan| plan.stages[1].inputs.clear()),
                "stage 2: it reads nothing",
            ),
            (
                Box::new(|plan| plan.stages[4].inputs.truncate(1)),
                "stage 4: no stage reads it",
            ),
            (
                Box::new(|plan| plan.stages[2].inputs.push(shuffle(2, Merge::Count))),
                "stage 3: it reads stage 3, which is not before it",
            ),
            (
                Box::new(|plan| plan.stages[4].inputs.push(shuffle(2, Merge::Count))),
                "stage 5: it reads stage 3 twice",
            ),
            (
                Box::new(|plan| {
                    plan.stages[4]
                        .inputs
                        .push(StageInput::Source(SourceId::MAIN));
                }),
                "stage 5: it reads shuffles and something else",
            ),
            (
                Box::new(|plan| {
                    plan.stages[4]
                        .inputs
                        .push(shuffle(0, Merge::Deduplicate(".".to_owned())));
                }),
                "stage 5: the shuffles that it reads are merged in different ways",
            ),
            (
                Box::new(|plan| plan.stages[4].shards += 1),
                "stage 5: it has 3 shards, and stage 3 writes 2 partitions",
            ),
            (
                Box::new(|plan| {
                    plan.stages.pop();
                }),
                "stage 3: no stage reads it",
            ),
        ];
        for (change, expected) in changes {
            let mut plan = diamond();
            change(&mut plan);
            let error = plan.check().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
