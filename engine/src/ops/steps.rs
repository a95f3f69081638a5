//! Runs the fused record steps of a stage. A record passes through all of these steps before the
//! next record is read. One run belongs to one attempt of one task. The caller provides records and
//! receives the results.

use std::ops::ControlFlow;

use crate::expr::Expression;
use crate::ops::error::{OperatorError, Rejected};
use crate::ops::expression::Scope;
use crate::ops::sample::Sample;
use crate::ops::take_per_shard::Taken;
use crate::ops::window::{Open, Window};
use crate::ops::{drop, expression, filter, flat_map, map, rename, select, take_per_shard};
use crate::pipeline::Origin;
use crate::plan::{RecordOperation, RecordStep};
use crate::record::{LINE_LIMIT_FIELD, Limits, NoRoom, Record, Renaming, Row, Selection};

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

impl Flow {
    /// `Stop` if at least one of the two is `Stop`.
    fn or(self, other: Self) -> Self {
        if self == Self::Stop { self } else { other }
    }
}

/// A record step, compiled.
pub(crate) struct CompiledStep {
    path: String,
    operation: Operation,
    on_error: Option<Origin>,
    limits: Limits,
}

enum Operation {
    Map(Expression),
    FlatMap(Expression),
    Filter(Expression),
    Select(Selection),
    Drop(Selection),
    Rename(Renaming),
    Sample(Sample),
    TakePerShard(u64),
    Window(Window),
}

/// Receives the results of the steps.
pub trait Receiver<E> {
    /// A record that has passed all steps.
    fn pass(&mut self, row: Row<'_>) -> Result<(), E>;

    /// A bad record at a step that skips bad records.
    fn reject(&mut self, rejected: Rejected) -> Result<(), E>;
}

/// What a step makes of one record.
enum Next {
    /// The record as it is.
    Same,
    /// The record as it is, and no later record passes the step.
    Last,
    /// Another record.
    Other(Record),
    /// Nothing. Later records may pass.
    Nothing,
    /// Nothing, and no later record passes the step.
    Enough,
}

/// The result of a step that skips bad records, for one record.
enum Whole {
    /// The record as it is.
    Same,
    /// Another record.
    Other(Record),
    /// Any number of records.
    Many(Vec<Record>),
    /// No record.
    Nothing,
}

/// A receiver for steps that skip no bad records.
#[cfg(test)]
pub(crate) struct Passing<F>(pub(crate) F);

#[cfg(test)]
impl<E: From<OperatorError>, F: FnMut(Record) -> Result<(), E>> Receiver<E> for Passing<F> {
    fn pass(&mut self, row: Row<'_>) -> Result<(), E> {
        (self.0)(row.into_record())
    }

    fn reject(&mut self, rejected: Rejected) -> Result<(), E> {
        Err(rejected.error.into())
    }
}

/// The memory of a held record besides its text, rounded up: the record and its allocation.
const HELD_RECORD_BYTES: usize = 64;

/// One pass of a shard's records through a stage's steps.
pub struct StepRun<'p> {
    steps: &'p [CompiledStep],
    shard: u32,
    states: Vec<State>,
    finished: bool,
}

/// What a step remembers of earlier records of the shard.
#[derive(Default)]
struct State {
    /// For `takePerShard`, the number of records that were passed on. For `sample` and for a step
    /// that skips bad records, the number of records that arrived. For any other step, 0.
    count: u64,
    /// For `window` and `windowBy`: the records that are not passed on yet.
    window: Open,
}

/// The steps that a record still has to pass.
struct Rest<'r> {
    steps: &'r [CompiledStep],
    states: &'r mut [State],
    shard: u32,
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
            RecordOperation::Drop(fields) => Operation::Drop(select::compile(&path, fields)?),
            RecordOperation::Rename(pairs) => Operation::Rename(rename::compile(&path, pairs)?),
            RecordOperation::Sample { fraction, seed } => {
                Operation::Sample(Sample::new(*fraction, *seed))
            }
            RecordOperation::TakePerShard(limit) => Operation::TakePerShard(*limit),
            RecordOperation::Window(records) => {
                Operation::Window(Window::of_count(&path, *records, scope))
            }
            RecordOperation::WindowBy(window) => {
                Operation::Window(Window::compile(&path, window, scope)?)
            }
            RecordOperation::Exec(_) => {
                let message = "a command has no expression to compile";
                return Err(OperatorError::of_data(&path, message));
            }
        };
        Ok(Self {
            path,
            operation,
            on_error: step.on_error,
            limits: scope.limits,
        })
    }
}

impl<'p> StepRun<'p> {
    pub(crate) fn new(steps: &'p [CompiledStep], shard: u32) -> Self {
        let finished = steps
            .iter()
            .any(|step| matches!(step.operation, Operation::TakePerShard(0)));
        Self {
            steps,
            shard,
            states: steps.iter().map(|_| State::default()).collect(),
            finished,
        }
    }

    /// Whether no further record of the input can change the output. This can be true before the
    /// first record.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// How many records arrived at each step that skips bad records.
    pub fn arrived(&self) -> impl Iterator<Item = (Origin, u64)> {
        let steps = self.steps.iter().zip(&self.states);
        steps.filter_map(|(step, state)| Some((step.on_error?, state.count)))
    }

    /// Sends one record through the steps. `receiver` gets the results one by one and in order.
    /// Records pushed after a [`Flow::Stop`] are ignored.
    pub fn push<E>(&mut self, record: Record, receiver: &mut dyn Receiver<E>) -> Result<Flow, E>
    where
        E: From<OperatorError>,
    {
        if self.finished {
            return Ok(Flow::Stop);
        }
        let rest = Rest {
            steps: self.steps,
            states: &mut self.states,
            shard: self.shard,
        };
        let flow = rest.pass(record.into(), receiver)?;
        self.finished = flow == Flow::Stop;
        Ok(flow)
    }

    /// Ends the input of the shard, also after a [`Flow::Stop`]: windows that are still open are
    /// passed on, those of earlier steps first. A window before a `takePerShard` that needs no more
    /// records is not: the rest of the input was not read, so it may have fewer records than in the
    /// data. Must be called once.
    pub fn finish<E>(&mut self, receiver: &mut dyn Receiver<E>) -> Result<(), E>
    where
        E: From<OperatorError>,
    {
        for index in 0..self.steps.len() {
            if self.has_enough_after(index) {
                continue;
            }
            let mut rest = Rest {
                steps: self.steps,
                states: &mut self.states,
                shard: self.shard,
            };
            if let Some(last) = rest.states[index].window.close() {
                let _flow = rest.after(index).pass(last.into(), receiver)?;
            }
        }
        Ok(())
    }
}

impl StepRun<'_> {
    /// Whether a later step takes no more records.
    fn has_enough_after(&self, index: usize) -> bool {
        let mut later = self.steps.iter().zip(&self.states).skip(index + 1);
        later.any(|(step, state)| {
            matches!(step.operation, Operation::TakePerShard(limit) if state.count >= limit)
        })
    }
}

impl Rest<'_> {
    /// The steps after this one.
    fn after(&mut self, index: usize) -> Rest<'_> {
        Rest {
            steps: &self.steps[index + 1..],
            states: &mut self.states[index + 1..],
            shard: self.shard,
        }
    }

    /// Sends one record through these steps. Recurses at most once for each step, and validation
    /// limits the number of steps.
    fn pass<E>(mut self, mut row: Row<'_>, receiver: &mut dyn Receiver<E>) -> Result<Flow, E>
    where
        E: From<OperatorError>,
    {
        let mut flow = Flow::Continue;
        let steps = self.steps;
        for (index, step) in steps.iter().enumerate() {
            let path = step.path.as_str();
            if let Some(origin) = step.on_error {
                self.states[index].count += 1;
                match step.whole(&row) {
                    Ok(Whole::Same) => {}
                    Ok(Whole::Other(next)) => row = next.into(),
                    Ok(Whole::Many(outputs)) => {
                        for output in outputs {
                            if self.after(index).pass(output.into(), receiver)? == Flow::Stop {
                                return Ok(Flow::Stop);
                            }
                        }
                        return Ok(flow);
                    }
                    Ok(Whole::Nothing) => return Ok(flow),
                    Err(error) => {
                        receiver.reject(Rejected {
                            origin,
                            error,
                            record: row.into_record(),
                        })?;
                        return Ok(flow);
                    }
                }
                continue;
            }
            match &step.operation {
                Operation::Map(expression) if expression.is_single() => {
                    let rest = self.after(index);
                    let pass = |output: Row<'_>| rest.pass(output, receiver);
                    let onward = map::then(path, expression, &row, pass)??;
                    return Ok(onward.or(flow));
                }
                Operation::FlatMap(expression) => {
                    let mut outcome = Ok(Flow::Continue);
                    flat_map::each(path, expression, &row, &mut |output| {
                        outcome = self.after(index).pass(output, receiver);
                        if matches!(outcome, Ok(Flow::Continue)) {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        }
                    })?;
                    return Ok(outcome?.or(flow));
                }
                Operation::Map(_)
                | Operation::Filter(_)
                | Operation::Select(_)
                | Operation::Drop(_)
                | Operation::Rename(_)
                | Operation::Sample(_)
                | Operation::TakePerShard(_)
                | Operation::Window(_) => {
                    match step.next(&mut self.states[index], self.shard, &row)? {
                        Next::Same => {}
                        Next::Last => flow = Flow::Stop,
                        Next::Other(next) => row = next.into(),
                        Next::Nothing => return Ok(flow),
                        Next::Enough => return Ok(Flow::Stop),
                    }
                }
            }
        }
        receiver.pass(row)?;
        Ok(flow)
    }
}

impl CompiledStep {
    /// What a step with at most one result for each record makes of this one.
    #[inline]
    fn next(&self, state: &mut State, shard: u32, row: &Row<'_>) -> Result<Next, OperatorError> {
        let path = self.path.as_str();
        let if_kept = |is_kept| if is_kept { Next::Same } else { Next::Nothing };
        Ok(match &self.operation {
            Operation::Filter(expression) => if_kept(filter::keeps(path, expression, row)?),
            Operation::Sample(sample) => if_kept(sample.keeps(shard, &mut state.count)),
            Operation::TakePerShard(limit) => {
                match take_per_shard::take(*limit, &mut state.count) {
                    Taken::Pass => Next::Same,
                    Taken::Last => Next::Last,
                    Taken::Nothing => Next::Enough,
                }
            }
            Operation::Window(window) => match window.push(&mut state.window, row)? {
                Some(ended) => Next::Other(ended),
                None => Next::Nothing,
            },
            Operation::Map(_)
            | Operation::FlatMap(_)
            | Operation::Select(_)
            | Operation::Drop(_)
            | Operation::Rename(_) => match self.whole(row)? {
                Whole::Other(next) => Next::Other(next),
                Whole::Same | Whole::Many(_) => Next::Same,
                Whole::Nothing => Next::Nothing,
            },
        })
    }

    /// Applies the step to a record as a whole: if there is an error, no result of this record was
    /// passed on.
    fn whole(&self, row: &Row<'_>) -> Result<Whole, OperatorError> {
        let path = self.path.as_str();
        Ok(match &self.operation {
            Operation::Map(expression) => Whole::Other(map::apply(path, expression, row)?),
            Operation::Select(selection) => {
                Whole::Other(select::apply(path, selection, &row.to_record())?)
            }
            Operation::Drop(dropped) => Whole::Other(drop::apply(path, dropped, &row.to_record())?),
            Operation::Rename(renaming) => {
                let record = row.to_record();
                Whole::Other(rename::apply(path, renaming, &record, &self.limits)?)
            }
            Operation::Filter(expression) => {
                if filter::keeps(path, expression, row)? {
                    Whole::Same
                } else {
                    Whole::Nothing
                }
            }
            Operation::FlatMap(expression) => Whole::Many(self.hold_outputs(expression, row)?),
            // A bad record of these steps would depend on records before it, so validation refuses
            // `onError` for them.
            Operation::TakePerShard(_) | Operation::Sample(_) | Operation::Window(_) => Whole::Same,
        })
    }

    /// All outputs of a `flatMap` for a record, within the limits of one record.
    fn hold_outputs(
        &self,
        expression: &Expression,
        row: &Row<'_>,
    ) -> Result<Vec<Record>, OperatorError> {
        let path = self.path.as_str();
        let (mut held, mut held_bytes, mut refused) = (Vec::new(), 0, Ok(()));
        flat_map::each(path, expression, row, &mut |output| {
            let output = output.into_record();
            held_bytes += output.as_json().len() + HELD_RECORD_BYTES;
            refused = self.can_hold(held_bytes);
            if refused.is_err() {
                return ControlFlow::Break(());
            }
            held.push(output);
            ControlFlow::Continue(())
        })?;
        refused.map(|()| held)
    }

    fn can_hold(&self, held_bytes: usize) -> Result<(), OperatorError> {
        let Limits {
            bytes,
            memory_bytes,
            ..
        } = self.limits;
        if held_bytes > bytes {
            let message = format!(
                "the results for one record are too large to hold, as onError needs; together they may have {bytes} bytes, with {HELD_RECORD_BYTES} more for each ({LINE_LIMIT_FIELD})"
            );
            return Err(OperatorError::of_data(&self.path, message));
        }
        if held_bytes > memory_bytes {
            let no_room = NoRoom {
                needed_bytes: held_bytes,
                room_bytes: memory_bytes,
            };
            return Err(OperatorError::of_data(&self.path, no_room.to_string()));
        }
        Ok(())
    }
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
            on_error: None,
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

    /// Returns the results, and how many records were read.
    fn outputs(
        operations: Vec<RecordOperation>,
        inputs: &[&str],
    ) -> Result<(Vec<String>, usize), OperatorError> {
        let steps = compiled(operations);
        let mut run = StepRun::new(&steps, 0);
        let (mut outputs, mut read) = (Vec::new(), 0);
        for input in inputs {
            if run.is_finished() {
                break;
            }
            read += 1;
            let flow = run.push(
                record(input),
                &mut Passing(|output: Record| {
                    outputs.push(output.as_json_str().to_owned());
                    Ok::<_, OperatorError>(())
                }),
            )?;
            assert_eq!(flow == Flow::Stop, run.is_finished());
        }
        run.finish(&mut Passing(|output: Record| {
            outputs.push(output.as_json_str().to_owned());
            Ok::<_, OperatorError>(())
        }))?;
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

    /// Found by an attack: the record that ended the last wanted window was passed on as a window.
    #[test]
    fn a_window_whose_rest_was_not_read_is_not_passed_on() {
        let inputs = ["1", "1", "2", "2", "3"];
        for taken in 0..=4 {
            let operations = vec![
                RecordOperation::WindowBy(crate::pipeline::WindowBy {
                    init: "null".to_owned(),
                    update: ".record".to_owned(),
                    holds: ".record == .state".to_owned(),
                }),
                map("if length == 1 and .[0] != 3 then error(\"short\") else . end"),
                RecordOperation::TakePerShard(taken),
            ];
            let all = ["[1,1]", "[2,2]", "[3]"];
            let (found, read) = outputs(operations, &inputs).unwrap();
            let wanted = all.len().min(usize::try_from(taken).unwrap());
            assert_eq!(found, all[..wanted], "{taken} are taken, {read} were read");
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
                on_error: None,
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
    fn the_last_window_of_each_step_is_passed_on_at_the_end_and_by_later_steps() {
        let (window, take) = (RecordOperation::Window, RecordOperation::TakePerShard);
        let inputs = ["1", "2", "3", "4", "5"];
        for (operations, expected, read) in [
            (vec![window(2)], &["[1,2]", "[3,4]", "[5]"][..], 5),
            (vec![window(2), map("add")], &["3", "7", "5"], 5),
            (vec![window(2), window(2)], &["[[1,2],[3,4]]", "[[5]]"], 5),
            (
                vec![window(3), flat_map(".[]"), window(2)],
                &["[1,2]", "[3,4]", "[5]"],
                5,
            ),
            // What was taken is passed on, and nothing after it.
            (vec![take(3), window(2)], &["[1,2]", "[3]"], 3),
            (vec![window(2), take(1)], &["[1,2]"], 2),
            (vec![window(2), take(1), window(9)], &["[[1,2]]"], 2),
            (vec![window(2), take(3), map("add")], &["3", "7", "5"], 5),
            (vec![window(2), filter("length == 1")], &["[5]"], 5),
            (vec![take(0), window(2)], &[], 0),
        ] {
            let (found, count) = outputs(operations.clone(), &inputs).unwrap();
            assert_eq!(
                (found, count),
                (expected.iter().map(ToString::to_string).collect(), read),
                "{operations:?}"
            );
        }
        let error = outputs(vec![window(2), map(".[0] / .[1]")], &["4", "2", "1"]).unwrap_err();
        assert_eq!(error.path, "steps[1]");
        assert_eq!(outputs(vec![window(2)], &[]).unwrap(), (vec![], 0));
    }

    #[test]
    fn a_sample_counts_what_arrives_at_it_and_depends_on_the_shard() {
        let sample = |fraction| RecordOperation::Sample { fraction, seed: 5 };
        let inputs: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let kept = texts(vec![sample(0.5)], &inputs);
        assert!((60..140).contains(&kept.len()), "{kept:?}");
        let position = |text: &String| text.parse::<usize>().unwrap();
        let doubled = texts(vec![filter(". % 2 == 0"), sample(0.5)], &inputs);
        let first: Vec<usize> = kept.iter().map(position).filter(|at| *at < 100).collect();
        let second: Vec<usize> = doubled.iter().map(|text| position(text) / 2).collect();
        assert_eq!(
            first, second,
            "a sample depends on positions, and not on records"
        );
        let steps = compiled(vec![sample(0.5)]);
        let mut run = StepRun::new(&steps, 1);
        let mut other = Vec::new();
        for input in &inputs {
            let mut keep = Passing(|output: Record| {
                other.push(output.as_json_str().to_owned());
                Ok::<_, OperatorError>(())
            });
            let _ = run.push(record(input), &mut keep).unwrap();
        }
        assert_ne!(kept, other);
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
        let mut run = StepRun::new(&steps, 0);
        let full = OperatorError::of_data("disk", "full");
        let mut given = 0;
        let result = run.push(
            record("[1,2,3]"),
            &mut Passing(|_| {
                given += 1;
                if given == 2 {
                    Err(full.clone())
                } else {
                    Ok(())
                }
            }),
        );
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

    /// A receiver that keeps the records that pass, and those that are rejected.
    #[derive(Default)]
    struct Kept {
        passed: Vec<String>,
        rejected: Vec<(Origin, String, String)>,
    }

    impl Receiver<OperatorError> for Kept {
        fn pass(&mut self, row: Row<'_>) -> Result<(), OperatorError> {
            let record = row.into_record();
            self.passed.push(record.as_json_str().to_owned());
            Ok(())
        }

        fn reject(&mut self, rejected: Rejected) -> Result<(), OperatorError> {
            let record = rejected.record.as_json_str().to_owned();
            let error = rejected.error.to_string();
            self.rejected.push((rejected.origin, error, record));
            Ok(())
        }
    }

    /// Compiles these operations as steps. The steps at these positions skip bad records.
    fn passing_over(
        operations: Vec<RecordOperation>,
        positions: &[usize],
        limits: Limits,
    ) -> Vec<CompiledStep> {
        let scope = Scope {
            limits,
            ..Scope::of_test()
        };
        let step = |(index, operation)| {
            let origin = Origin::Step(u32::try_from(index).unwrap());
            let step = RecordStep {
                path: format!("steps[{index}]"),
                operation,
                on_error: positions.contains(&index).then_some(origin),
            };
            CompiledStep::compile(&step, &scope).unwrap()
        };
        operations.into_iter().enumerate().map(step).collect()
    }

    #[test]
    fn a_flat_map_that_fails_at_its_third_result_passes_nothing_of_the_record_on() {
        let operations = vec![flat_map(".[] | 10 / .")];
        let steps = passing_over(operations, &[0], Limits::default());
        let (mut run, mut kept) = (StepRun::new(&steps, 0), Kept::default());
        for input in ["[1,2,0,5]", "[5]", "[]", "7"] {
            let flow = run.push(record(input), &mut kept).unwrap();
            assert_eq!(flow, Flow::Continue);
        }
        assert_eq!(kept.passed, ["2"]);
        let inputs: Vec<&str> = kept
            .rejected
            .iter()
            .map(|(_, _, record)| record.as_str())
            .collect();
        assert_eq!(inputs, ["[1,2,0,5]", "7"]);
        assert!(
            kept.rejected[0].1.starts_with("steps[0]: "),
            "{:?}",
            kept.rejected
        );
        assert_eq!(run.arrived().collect::<Vec<_>>(), [(Origin::Step(0), 4)]);
    }

    #[test]
    fn each_step_passes_over_its_own_bad_records_and_shows_the_record_as_it_arrived() {
        let select = RecordOperation::Select(vec![vec!["a".to_owned()]]);
        let operations = vec![flat_map(".[]"), filter(".a > 1"), select, map(".a + 1")];
        let steps = passing_over(operations, &[0, 1, 2, 3], Limits::default());
        let (mut run, mut kept) = (StepRun::new(&steps, 0), Kept::default());
        for input in [r#"[{"a":2,"b":0},{"a":1},3]"#, r#"[{"a":"x"}]"#, "1"] {
            let _ = run.push(record(input), &mut kept).unwrap();
        }
        assert_eq!(kept.passed, ["3"]);
        let rejected: Vec<(Origin, &str)> = kept
            .rejected
            .iter()
            .map(|(origin, _, record)| (*origin, record.as_str()))
            .collect();
        let step = Origin::Step;
        assert_eq!(
            rejected,
            [(step(1), "3"), (step(3), r#"{"a":"x"}"#), (step(0), "1")]
        );
        let arrived: Vec<u64> = run.arrived().map(|(_, count)| count).collect();
        assert_eq!(arrived, [3, 4, 2, 2]);
    }

    #[test]
    fn a_step_without_on_error_still_fails_behind_one_that_passes_over_bad_records() {
        let steps = passing_over(vec![flat_map(".[]"), map(".a")], &[0], Limits::default());
        let mut run = StepRun::new(&steps, 0);
        let error = run.push(record("[[1]]"), &mut Kept::default()).unwrap_err();
        assert_eq!(error.path, "steps[1]");
    }

    #[test]
    fn take_per_shard_counts_what_a_step_before_it_did_not_skip() {
        let take = RecordOperation::TakePerShard(2);
        let steps = passing_over(
            vec![map("10 / ."), take, map("10 / (. - 5)")],
            &[0, 2],
            Limits::default(),
        );
        let (mut run, mut kept) = (StepRun::new(&steps, 0), Kept::default());
        let mut flows = Vec::new();
        for input in ["0", "2", "0", "1", "5"] {
            flows.push(run.push(record(input), &mut kept).unwrap());
        }
        // The last step skips the record that was 2 in the input. `takePerShard` has counted it
        // before.
        assert_eq!(kept.passed, ["2"]);
        assert_eq!(kept.rejected.len(), 3);
        assert_eq!(flows[2..], [Flow::Continue, Flow::Stop, Flow::Stop]);
    }

    #[test]
    fn a_record_whose_results_are_too_large_to_hold_is_skipped() {
        let limits = Limits {
            bytes: 1_000,
            ..Limits::default()
        };
        let steps = passing_over(vec![flat_map("range(.)")], &[0], limits);
        let (mut run, mut kept) = (StepRun::new(&steps, 0), Kept::default());
        for input in ["10", "1e300", "16"] {
            let _ = run.push(record(input), &mut kept).unwrap();
        }
        assert_eq!(kept.passed.len(), 10);
        assert!(
            kept.rejected[0]
                .1
                .contains("together they may have 1000 bytes"),
            "{:?}",
            kept.rejected
        );
        assert_eq!(kept.rejected.len(), 2);
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
