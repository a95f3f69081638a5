//! Builds the assignment for a worker: the engine's dispatch, completed with the source's files or
//! items from the plan file. Pure.

use zephyr_engine::coordinator::effect::Dispatch;
use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_engine::pipeline::Source;
use zephyr_engine::plan::{Plan, StageInput};
use zephyr_proto::worker::run_task::Input;
use zephyr_proto::worker::{ItemsInput, RunTask, ShuffleInput};
use zephyr_store::storage::InputFile;

use crate::convert::identity::to_wire;
use crate::convert::wire::file_to_wire;

/// The source's shards.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceShards {
    /// One file each.
    Files(Vec<InputFile>),
    /// Inline items, distributed over shards in order and as evenly as possible.
    Items {
        /// Number of items.
        items: u32,
        /// Number of shards.
        shards: u32,
    },
}

/// Why a dispatch cannot be sent to a worker. Each is a contradiction between the plan and the plan
/// file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The plan has no such stage.
    #[error("dispatch {task}: the plan has no such stage")]
    UnknownStage {
        /// The attempt.
        task: TaskAttempt,
    },
    /// The source has no such shard.
    #[error("dispatch {task}: the plan file has no such source shard")]
    UnknownShard {
        /// The attempt.
        task: TaskAttempt,
    },
    /// The stage reads a shuffle, and its location is missing.
    #[error("dispatch {task}: the outputs of the stage before are missing")]
    MissingOutputs {
        /// The attempt.
        task: TaskAttempt,
    },
}

impl SourceShards {
    /// Number of shards of the source.
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Files(files) => u32::try_from(files.len()).unwrap_or(u32::MAX),
            Self::Items { shards, .. } => *shards,
        }
    }

    /// The shards of inline items; `None` if the source is files.
    pub(super) fn of_items(source: &Source) -> Option<Self> {
        match source {
            Source::Items { values, shards } => {
                let items = u32::try_from(values.len()).unwrap_or(u32::MAX);
                Some(Self::Items {
                    items,
                    shards: shards.unwrap_or(items),
                })
            }
            Source::Files { .. } => None,
        }
    }

    fn input(&self, shard: u32) -> Option<Input> {
        match self {
            Self::Files(files) => {
                let file = files.get(shard as usize)?;
                Some(Input::File(file_to_wire(file)))
            }
            Self::Items { items, shards } => {
                let (items, shards) = (u64::from(*items), u64::from(*shards));
                let bound =
                    |shard: u64| u32::try_from(shard * items / shards.max(1)).unwrap_or(u32::MAX);
                let first = bound(u64::from(shard));
                let end = bound(u64::from(shard) + 1);
                (u64::from(shard) < shards).then(|| {
                    Input::Items(ItemsInput {
                        first,
                        count: end - first,
                    })
                })
            }
        }
    }
}

/// The assignment for the worker.
pub(super) fn run_task(
    dispatch: Dispatch,
    plan: &Plan,
    source: &SourceShards,
) -> Result<RunTask, DispatchError> {
    let Dispatch {
        task,
        input_outputs,
        trace_records,
    } = dispatch;
    let StageId(stage) = task.task.stage;
    let stage = plan
        .stages
        .get(stage as usize)
        .ok_or(DispatchError::UnknownStage { task })?;
    let input = match (&stage.input, input_outputs) {
        (StageInput::Source, _) => source
            .input(task.task.shard.0)
            .ok_or(DispatchError::UnknownShard { task })?,
        (StageInput::Shuffle { .. }, Some(outputs)) => Input::Shuffle(ShuffleInput { outputs }),
        (StageInput::Shuffle { .. }, None) => return Err(DispatchError::MissingOutputs { task }),
    };
    Ok(RunTask {
        task: Some(to_wire(task)),
        input: Some(input),
        trace_records,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(items: u32, shards: u32) -> Vec<(u32, u32)> {
        let source = SourceShards::Items { items, shards };
        (0..shards)
            .map(|shard| match source.input(shard) {
                Some(Input::Items(ItemsInput { first, count })) => (first, count),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn every_item_is_in_exactly_one_shard_and_in_order() {
        assert_eq!(ranges(3, 3), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(ranges(5, 2), [(0, 2), (2, 3)]);
        assert_eq!(ranges(1, 3), [(0, 0), (0, 0), (0, 1)]);
        for (items, shards) in [(0, 4), (7, 3), (1000, 7), (10, 11)] {
            let mut next = 0;
            for (first, count) in ranges(items, shards) {
                assert_eq!(first, next);
                next += count;
            }
            assert_eq!(next, items);
        }
    }

    #[test]
    fn a_shard_that_does_not_exist_has_no_input() {
        assert_eq!(
            SourceShards::Items {
                items: 3,
                shards: 2
            }
            .input(2),
            None
        );
        assert_eq!(SourceShards::Files(vec![]).input(0), None);
    }
}
