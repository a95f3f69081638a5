//! The fused record steps of a stage: a record passes through all of them before the next one is
//! read. One run belongs to one attempt of one task. The caller provides records and receives the
//! results.

use std::ops::ControlFlow;

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::expression::Scope;
use crate::ops::take_per_shard::Taken;
use crate::ops::{expression, filter, flat_map, map, select, take_per_shard};
use crate::plan::{RecordOperation, RecordStep};
use crate::record::{Record, Selection};

/// Whether more input can matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Continue reading.
    Continue,
    /// No later record of this shard can reach the output: stop reading and finish as at the end of
    /// the input.
    Stop,
}

/// A record step, compiled.
pub(crate) struct CompiledStep {
    path: String,
    operation: Operation,
}

enum Operation {
    Map(Expression),
    FlatMap(Expression),
    Filter(Expression),
    Select(Selection),
    TakePerShard(u64),
}

/// One pass of a shard's records through a stage's steps.
pub struct StepRun<'p> {
    steps: &'p [CompiledStep],
    /// For each step the number of records that it passed on; only `takePerShard` counts.
    taken: Vec<u64>,
    finished: bool,
}

impl CompiledStep {
    pub(crate) fn compile(step: &RecordStep, scope: &Scope<'_>) -> Result<Self, OperatorError> {
        let path = step.path.clone();
        let operation = match &step.operation {
            RecordOperation::Map(source) => {
                Operation::Map(expression::compile(&path, source, scope)?)
            }
            RecordOperation::FlatMap(source) => {
                Operation::FlatMap(expression::compile(&path, source, scope)?)
            }
            RecordOperation::Filter(source) => {
                Operation::Filter(expression::compile(&path, source, scope)?)
            }
            RecordOperation::Select(fields) => Operation::Select(select::compile(&path, fields)?),
            RecordOperation::TakePerShard(limit) => Operation::TakePerShard(*limit),
            RecordOperation::Exec(_) => {
                let message = "a command has no expression to compile";
                return Err(OperatorError::of_data(&path, message));
            }
        };
        Ok(Self { path, operation })
    }
}

impl<'p> StepRun<'p> {
    pub(crate) fn new(steps: &'p [CompiledStep]) -> Self {
        let finished = steps
            .iter()
            .any(|step| matches!(step.operation, Operation::TakePerShard(0)));
        Self {
            steps,
            taken: vec![0; steps.len()],
            finished,
        }
    }

    /// Whether the output is complete, whatever else the input contains; this can be true before
    /// the first record.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Sends one record through the steps; the results go to `sink`, one by one and in order.
    /// Records pushed after a [`Flow::Stop`] are ignored.
    pub fn push<E>(
        &mut self,
        record: Record,
        sink: &mut dyn FnMut(Record) -> Result<(), E>,
    ) -> Result<Flow, E>
    where
        E: From<OperatorError>,
    {
        if self.finished {
            return Ok(Flow::Stop);
        }
        let flow = through(self.steps, &mut self.taken, record, sink)?;
        self.finished = flow == Flow::Stop;
        Ok(flow)
    }
}

/// The depth of recursion is at most the number of steps, which validation bounds.
fn through<E>(
    steps: &[CompiledStep],
    taken: &mut [u64],
    mut record: Record,
    sink: &mut dyn FnMut(Record) -> Result<(), E>,
) -> Result<Flow, E>
where
    E: From<OperatorError>,
{
    let mut flow = Flow::Continue;
    for (index, step) in steps.iter().enumerate() {
        let path = step.path.as_str();
        match &step.operation {
            Operation::Map(expression) => record = map::apply(path, expression, &record)?,
            Operation::Select(selection) => record = select::apply(path, selection, &record)?,
            Operation::Filter(expression) => {
                if !filter::keeps(path, expression, &record)? {
                    return Ok(flow);
                }
            }
            Operation::TakePerShard(limit) => match take_per_shard::take(*limit, &mut taken[index])
            {
                Taken::Pass => {}
                Taken::Last => flow = Flow::Stop,
                Taken::Nothing => return Ok(Flow::Stop),
            },
            Operation::FlatMap(expression) => {
                let (rest, rest_taken) = (&steps[index + 1..], &mut taken[index + 1..]);
                let mut outcome = Ok(Flow::Continue);
                flat_map::each(path, expression, &record, &mut |output| {
                    outcome = through(rest, rest_taken, output, sink);
                    if matches!(outcome, Ok(Flow::Continue)) {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })?;
                return Ok(if outcome? == Flow::Stop {
                    Flow::Stop
                } else {
                    flow
                });
            }
        }
    }
    sink(record)?;
    Ok(flow)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(text: &str) -> Record {
        Record::parse(text.as_bytes()).unwrap()
    }

    fn compiled(operations: Vec<RecordOperation>) -> Vec<CompiledStep> {
        let step = |(index, operation)| RecordStep {
            path: format!("steps[{index}]"),
            operation,
        };
        operations
            .into_iter()
            .enumerate()
            .map(|indexed| CompiledStep::compile(&step(indexed), &Scope::of_test()).unwrap())
            .collect()
    }

    fn map(source: &str) -> RecordOperation {
        RecordOperation::Map(source.to_owned())
    }

    fn flat_map(source: &str) -> RecordOperation {
        RecordOperation::FlatMap(source.to_owned())
    }

    fn filter(source: &str) -> RecordOperation {
        RecordOperation::Filter(source.to_owned())
    }

    /// The results, and how many records were read until the end.
    fn outputs(
        operations: Vec<RecordOperation>,
        inputs: &[&str],
    ) -> Result<(Vec<String>, usize), OperatorError> {
        let steps = compiled(operations);
        let mut run = StepRun::new(&steps);
        let (mut outputs, mut read) = (Vec::new(), 0);
        for input in inputs {
            if run.is_finished() {
                break;
            }
            read += 1;
            let flow = run.push(record(input), &mut |output| {
                outputs.push(output.as_json_str().to_owned());
                Ok::<_, OperatorError>(())
            })?;
            assert_eq!(flow == Flow::Stop, run.is_finished());
        }
        Ok((outputs, read))
    }

    fn texts(operations: Vec<RecordOperation>, inputs: &[&str]) -> Vec<String> {
        outputs(operations, inputs).unwrap().0
    }

    #[test]
    fn a_map_that_does_not_give_exactly_one_output_says_how_many() {
        assert_eq!(
            texts(vec![map(".a")], &[r#"{"a":0.10}"#, "null"]),
            ["0.10", "null"]
        );
        for (input, got) in [("[]", 0), ("[1,2,3]", 3)] {
            let error = outputs(vec![map(".[]")], &[input]).unwrap_err();
            let message = format!(
                "steps[0]: the expression must have exactly one result for each record (got {got})"
            );
            assert_eq!(error.to_string(), message);
            assert!(!error.damaged);
        }
    }

    #[test]
    fn a_filter_keeps_all_but_false_and_null_and_leaves_the_text_alone() {
        let inputs = [
            "false",
            "null",
            "0",
            "\"\"",
            "[]",
            "{ }",
            "1.50",
            "\"\\u0061\"",
            "true",
        ];
        assert_eq!(
            texts(vec![filter(".")], &inputs),
            ["0", "\"\"", "[]", "{}", "1.50", "\"\\u0061\"", "true"]
        );
        assert!(
            outputs(vec![filter("empty")], &["1"])
                .unwrap_err()
                .message
                .ends_with("(got 0)")
        );
    }

    #[test]
    fn select_keeps_the_order_of_the_list_and_the_nesting() {
        let select = |paths: &[&[&str]]| {
            RecordOperation::Select(
                paths
                    .iter()
                    .map(|path| path.iter().map(|&name| name.to_owned()).collect())
                    .collect(),
            )
        };
        let operation = select(&[&["b", "c"], &["a"], &["x"]]);
        assert_eq!(
            texts(
                vec![operation.clone()],
                &[r#"{"a": 1.0, "b": {"c": [ 1 ], "d": 2}}"#, "{}"]
            ),
            [r#"{"b":{"c":[1]},"a":1.0}"#, "{}"]
        );
        assert_eq!(
            outputs(vec![operation], &["[1]"]).unwrap_err().to_string(),
            "steps[0]: select needs an object (got array)"
        );
        for paths in [&[&["a"][..], &["a"]][..], &[&["a.b"]], &[&[""]]] {
            let refused = RecordStep {
                path: "steps[0]".to_owned(),
                operation: select(paths),
            };
            assert!(
                CompiledStep::compile(&refused, &Scope::of_test()).is_err(),
                "{paths:?}"
            );
        }
    }

    #[test]
    fn a_filter_on_a_missing_field_answers_the_same_behind_a_projection_and_behind_a_map() {
        let inputs = [
            r#"{"a":1,"b":20}"#,
            r#"{"a":2}"#,
            r#"{"a":3,"b":null}"#,
            r#"{"a":4,"b":5}"#,
        ];
        let select = RecordOperation::Select(vec![vec!["a".to_owned()], vec!["b".to_owned()]]);
        let alone = texts(vec![filter(".b > 10")], &inputs);
        assert_eq!(alone, [inputs[0]]);
        assert_eq!(texts(vec![select, filter(".b > 10")], &inputs), alone);
        assert_eq!(texts(vec![map("."), filter(".b > 10")], &inputs), alone);
    }

    #[test]
    fn take_per_shard_stops_the_reading_after_the_last_record_that_it_keeps() {
        let inputs = ["1", "2", "3", "4", "5"];
        let take = RecordOperation::TakePerShard;
        assert_eq!(
            outputs(vec![take(2)], &inputs).unwrap(),
            (vec!["1".to_owned(), "2".to_owned()], 2)
        );
        assert_eq!(outputs(vec![take(0)], &inputs).unwrap(), (vec![], 0));
        assert_eq!(
            outputs(vec![filter(". > 2"), take(1), map(". * 10")], &inputs).unwrap(),
            (vec!["30".to_owned()], 3)
        );
        assert_eq!(
            outputs(vec![take(3), filter(". > 3")], &inputs).unwrap(),
            (vec![], 3)
        );
        assert_eq!(outputs(vec![take(9)], &inputs).unwrap().1, 5);
    }

    #[test]
    fn an_endless_flat_map_is_streamed_and_ends_with_what_is_taken() {
        let endless = flat_map("recurse(. + 1)");
        let (taken, read) = outputs(
            vec![endless.clone(), RecordOperation::TakePerShard(3)],
            &["1", "7"],
        )
        .unwrap();
        assert_eq!(
            (taken, read),
            (vec!["1".to_owned(), "2".to_owned(), "3".to_owned()], 1)
        );
        // The results before an error were already passed on; the caller deletes the attempt's
        // output.
        let (taken, _) = outputs(
            vec![flat_map(".[]"), flat_map(".[]")],
            &["[[1,2],[3]]", "[[]]"],
        )
        .unwrap();
        assert_eq!(taken, ["1", "2", "3"]);
    }

    #[test]
    fn an_error_of_the_sink_is_returned_unchanged() {
        let steps = compiled(vec![flat_map(".[]")]);
        let mut run = StepRun::new(&steps);
        let full = OperatorError::of_data("disk", "full");
        let mut given = 0;
        let result = run.push(record("[1,2,3]"), &mut |_| {
            given += 1;
            if given == 2 {
                Err(full.clone())
            } else {
                Ok(())
            }
        });
        assert_eq!((result, given), (Err(full), 2));
    }

    #[test]
    fn an_error_of_an_expression_names_the_step() {
        let error = outputs(vec![map("."), map(".a.b")], &[r#"{"a":"x"}"#]).unwrap_err();
        assert_eq!(error.path, "steps[1]");
        assert_eq!(
            error.message,
            "Cannot index string with string \"b\" (column 3 of the expression)"
        );
    }

    proptest! {
        #[test]
        fn taking_is_the_beginning_of_what_would_come_out(
            inputs in proptest::collection::vec(proptest::collection::vec(0..9_u8, 0..4), 0..12),
            limit in 0..12_u64,
        ) {
            let inputs: Vec<String> = inputs.iter().map(|numbers| format!("{numbers:?}")).collect();
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let all = texts(vec![flat_map(".[]"), filter(". > 2")], &inputs);
            let taken = texts(vec![flat_map(".[]"), filter(". > 2"), RecordOperation::TakePerShard(limit)], &inputs);
            let limit = usize::try_from(limit).unwrap().min(all.len());
            prop_assert_eq!(&taken, &all[..limit]);
        }
    }
}
