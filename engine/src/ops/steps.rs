//! The fused record steps of a stage: a record goes through all of them before the next is looked at. One run belongs to
//! one attempt of one task. Where records come from and go to is the caller's business.

use std::ops::ControlFlow;

use crate::expr::Expression;
use crate::ops::error::OperatorError;
use crate::ops::take_per_shard::Taken;
use crate::ops::{expression, filter, flat_map, map, select, take_per_shard};
use crate::plan::{RecordOperation, RecordStep};
use crate::record::{Record, Selection};

/// Whether more input can matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// Go on reading.
    Continue,
    /// No later record of this shard can reach the output: stop reading and finish as at the end of the input.
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
    /// For each step the records it let pass; only `takePerShard` counts.
    taken: Vec<u64>,
    finished: bool,
}

impl CompiledStep {
    pub(crate) fn compile(step: &RecordStep) -> Result<Self, OperatorError> {
        let path = step.path.clone();
        let operation = match &step.operation {
            RecordOperation::Map(source) => Operation::Map(expression::compile(&path, source)?),
            RecordOperation::FlatMap(source) => Operation::FlatMap(expression::compile(&path, source)?),
            RecordOperation::Filter(source) => Operation::Filter(expression::compile(&path, source)?),
            RecordOperation::Select(fields) => Operation::Select(select::compile(&path, fields)?),
            RecordOperation::TakePerShard(limit) => Operation::TakePerShard(*limit),
        };
        Ok(Self { path, operation })
    }
}

impl<'p> StepRun<'p> {
    pub(crate) fn new(steps: &'p [CompiledStep]) -> Self {
        let finished = steps.iter().any(|step| matches!(step.operation, Operation::TakePerShard(0)));
        Self { steps, taken: vec![0; steps.len()], finished }
    }

    /// Whether the output is complete whatever else the input holds; can be so before the first record.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Sends one record through the steps; what comes out goes to `sink`, one by one and in order. Records pushed
    /// after a [`Flow::Stop`] are ignored.
    pub fn push<E>(&mut self, record: Record, sink: &mut dyn FnMut(Record) -> Result<(), E>) -> Result<Flow, E>
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
            Operation::TakePerShard(limit) => match take_per_shard::take(*limit, &mut taken[index]) {
                Taken::Pass => {}
                Taken::Last => flow = Flow::Stop,
                Taken::Nothing => return Ok(Flow::Stop),
            },
            Operation::FlatMap(expression) => {
                let (rest, rest_taken) = (&steps[index + 1..], &mut taken[index + 1..]);
                let mut outcome = Ok(Flow::Continue);
                flat_map::each(path, expression, &record, &mut |output| {
                    outcome = through(rest, rest_taken, output, sink);
                    if matches!(outcome, Ok(Flow::Continue)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })?;
                return Ok(if outcome? == Flow::Stop { Flow::Stop } else { flow });
            }
        }
    }
    sink(record)?;
    Ok(flow)
}
