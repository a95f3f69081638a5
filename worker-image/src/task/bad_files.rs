//! Finds the files of a shard that are bad as a whole, so that they become dead letters and none of
//! their records is passed on. Writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use zephyr_engine::plan::{RecordOperation, Stage};

use crate::task::context::TaskContext;
use crate::task::error::TaskError;
use crate::task::input::read_files;
use crate::task::run::{Assignment, InputPart, ProgressCounters, TaskInput};

/// The files of a shard that are bad as a whole.
#[derive(Debug, Default)]
pub(super) struct BadFiles {
    /// The name and the error of each, by its position in the assignment.
    found: BTreeMap<usize, (String, String)>,
}

impl BadFiles {
    /// Adds the file that caused `error`, if the attempt reads all of it. If other tasks read parts
    /// of the file, they may have passed on its records. Returns the position of the file.
    pub(super) fn add(&mut self, assignment: &Assignment, error: &TaskError) -> Option<usize> {
        let (TaskError::ReadInput(problem), TaskInput::Files(parts)) = (error, &assignment.input)
        else {
            return None;
        };
        let file = problem.bad_file()?;
        let is_whole =
            |part: &InputPart| part.file.uri == file && part.from == 0 && part.to >= part.file.size;
        let position = parts.iter().position(is_whole)?;
        let entry = (file.to_owned(), error.to_string());
        // A file that was left out cannot be bad again.
        let is_new = self.found.insert(position, entry).is_none();
        is_new.then_some(position)
    }

    /// Reads the files after `position` without passing their records on, and adds those that are
    /// bad. Otherwise the attempt would begin again for each of them. If a step may end the reading
    /// early, nothing is read, because the attempt may never reach these files.
    pub(super) fn add_later(
        &mut self,
        context: &TaskContext,
        stage: &Stage,
        assignment: &Assignment,
        position: usize,
        counters: &Arc<ProgressCounters>,
    ) {
        let TaskInput::Files(parts) = &assignment.input else {
            return;
        };
        let mut steps = stage.steps.iter().map(|step| &step.operation);
        if steps.any(|operation| matches!(operation, RecordOperation::TakePerShard(_))) {
            return;
        }
        let mut from = position + 1;
        while let Some(rest) = parts.get(from..).filter(|rest| !rest.is_empty()) {
            let read = read_files(context, stage, rest, counters, &mut |_, _| Ok(true));
            // Any other error is found again when the records are passed on.
            let Some(bad) = read.err().and_then(|error| self.add(assignment, &error)) else {
                return;
            };
            from = bad + 1;
        }
    }

    /// The assignment without these files.
    pub(super) fn without(&self, assignment: &Assignment) -> Assignment {
        let mut rest = assignment.clone();
        if let TaskInput::Files(parts) = &mut rest.input {
            let mut position = 0;
            parts.retain(|_| {
                position += 1;
                !self.found.contains_key(&(position - 1))
            });
        }
        rest
    }

    /// Each of these files with its position and its error, in the order of the assignment.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let all = self.found.iter();
        all.map(|(position, (file, error))| (*position, file.as_str(), error.as_str()))
    }

    /// The positions of the assignment's files, by name. Empty if no file is bad, because then
    /// records arrive in the order of the files, and no position is needed.
    pub(super) fn positions(&self, assignment: &Assignment) -> BTreeMap<String, usize> {
        match &assignment.input {
            TaskInput::Files(parts) if !self.found.is_empty() => {
                let names = parts.iter().map(|part| part.file.uri.clone());
                names.zip(0..).collect()
            }
            TaskInput::Files(_) | TaskInput::Items { .. } | TaskInput::Shuffle { .. } => {
                BTreeMap::new()
            }
        }
    }
}
