//! Runs one attempt of a gathering stage: merges shuffle files of neighbouring tasks into one with
//! the same partitions, so that each reducer reads fewer and larger ranges. Records are not
//! changed.

use std::sync::Arc;

use zephyr_engine::coordinator::record::TaskOutput;
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::StageProgram;
use zephyr_engine::plan::{Stage, StageOutput};
use zephyr_store::shuffle::{ShuffleError, StageOutputs, load_stage, write_entries};

use crate::task::context::TaskContext;
use crate::task::error::TaskError;
use crate::task::input::shuffle_reader;
use crate::task::run::{ProgressCounters, TaskInput};

/// Merges the shuffle files of `files` neighbouring tasks into one.
pub(super) fn gather(
    context: &TaskContext,
    stage: &Stage,
    program: &StageProgram,
    task: TaskAttempt,
    input: &TaskInput,
    files: u32,
    counters: &Arc<ProgressCounters>,
) -> Result<TaskOutput, TaskError> {
    let (TaskInput::Shuffle { outputs }, StageOutput::Shuffle { partitions, .. }, Some(merger)) =
        (input, &stage.output, program.merger())
    else {
        return Err(TaskError::FollowAssignment(format!(
            "stage {} gathers shuffle files and reads something else",
            stage.id
        )));
    };
    let own = own_files(context, stage, task, outputs, files)?;
    let reader = shuffle_reader(context, stage, *partitions, counters);
    let entries = merger.merge_runs::<_, ShuffleError>(reader.files(merger, &own)?);
    let setup = &context.setup;
    let file = write_entries(
        &setup.runtime,
        &setup.storage,
        task,
        *partitions,
        &reader.folder,
        entries,
    )?;
    Ok(TaskOutput {
        file,
        records_in: own.iter().map(|(_, file)| file.rows).sum(),
        bytes_in: own.iter().map(|(_, file)| file.bytes).sum(),
        more: None,
    })
}

/// Selects the files that this task reads from all files that the stage before it wrote.
fn own_files(
    context: &TaskContext,
    stage: &Stage,
    task: TaskAttempt,
    outputs: &[String],
    files: u32,
) -> Result<StageOutputs, TaskError> {
    let setup = &context.setup;
    let (Some(from), [path]) = (stage.reads().next(), outputs) else {
        return Err(TaskError::FollowAssignment(format!(
            "{} shuffles are assigned, and stage {} reads 1",
            outputs.len(),
            stage.id
        )));
    };
    let listed = setup.runtime.block_on(load_stage(&setup.storage, path));
    let listed = listed.map_err(TaskError::Store)?;
    if let Some((foreign, _)) = listed.iter().find(|(task, _)| task.task.stage != from) {
        return Err(TaskError::FollowAssignment(format!(
            "{path} lists {foreign} as an output of stage {from}"
        )));
    }
    let first = task.task.shard.0 as usize * files as usize;
    Ok(listed
        .into_iter()
        .skip(first)
        .take(files as usize)
        .collect())
}
