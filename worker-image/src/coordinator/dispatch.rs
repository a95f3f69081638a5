//! Builds the assignment for a worker: the engine's dispatch, completed with the source's files or
//! items from the plan file. Pure.

use prost::Message as _;
use zephyr_engine::coordinator::effect::Dispatch;
use zephyr_engine::id::{SourceId, StageId, TaskAttempt};
use zephyr_engine::pipeline::Source;
use zephyr_engine::plan::{FilePart, Plan, PlannedSource};
use zephyr_proto::worker::run_task::Input;
use zephyr_proto::worker::{FilesInput, ItemsInput, RunTask, ShuffleInput, ShufflesInput};
use zephyr_store::storage::InputFile;

use crate::convert::identity::to_wire;
use crate::convert::wire::{file_to_wire, part_to_wire};

/// How many tasks one message contains at most. With their inputs, such a message is much smaller
/// than the largest allowed message.
const TASKS_PER_RUN: usize = 256;
/// How many bytes several tasks in one message take at most. A single task may read many files,
/// whose names take up to 1 MiB.
const BYTES_PER_RUN: usize = 1 << 20;

/// The source's shards.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceShards {
    /// Files.
    Files {
        /// The files, in the order in which they are read.
        files: Vec<InputFile>,
        /// The parts that each shard reads; empty if each reads one whole file.
        parts: Vec<Vec<FilePart>>,
    },
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
    /// The plan file has no such source.
    #[error("dispatch {task}: the plan file has no source {missing}")]
    UnknownSource {
        /// The attempt.
        task: TaskAttempt,
        /// The source.
        missing: SourceId,
    },
    /// The stage reads shuffles, and the location of one of them is missing.
    #[error("dispatch {task}: the outputs of a stage that it reads are missing")]
    MissingOutputs {
        /// The attempt.
        task: TaskAttempt,
    },
}

impl SourceShards {
    /// Number of shards of the source.
    pub(super) fn count(&self) -> u32 {
        match self {
            Self::Files { files, parts } => {
                PlannedSource::of_parts(files.len(), parts, None).shards
            }
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
            Self::Files { files, parts } if parts.is_empty() => {
                let file = files.get(shard as usize)?;
                Some(Input::File(file_to_wire(file)))
            }
            Self::Files { files, parts } => files_input(files, parts.get(shard as usize)?),
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

/// The parts of a shard; nothing if a file is not in the plan file.
fn files_input(files: &[InputFile], parts: &[FilePart]) -> Option<Input> {
    let part = |&FilePart { file, from, to }: &FilePart| {
        let file = files.get(file as usize)?;
        Some(part_to_wire(file, from, to))
    };
    let parts = parts.iter().map(part).collect::<Option<_>>()?;
    Some(Input::Files(FilesInput { parts }))
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
    if stage.reads().count() != input_outputs.len() {
        return Err(DispatchError::MissingOutputs { task });
    }
    let input = match stage.source() {
        Some(SourceId::MAIN) => source
            .input(task.task.shard.0)
            .ok_or(DispatchError::UnknownShard { task })?,
        Some(missing) => return Err(DispatchError::UnknownSource { task, missing }),
        None => shuffles(input_outputs),
    };
    Ok(RunTask {
        task: Some(to_wire(task)),
        input: Some(input),
        trace_records,
    })
}

/// Tasks in groups that fit into one message each.
pub(super) fn in_messages(tasks: Vec<RunTask>) -> Vec<Vec<RunTask>> {
    let mut groups: Vec<Vec<RunTask>> = Vec::new();
    let mut bytes = 0;
    for task in tasks {
        let size = task.encoded_len();
        match groups.last_mut() {
            Some(group) if group.len() < TASKS_PER_RUN && bytes + size <= BYTES_PER_RUN => {
                group.push(task);
                bytes += size;
            }
            _ => {
                groups.push(vec![task]);
                bytes = size;
            }
        }
    }
    groups
}

/// A single shuffle is sent in a field that every worker understands. Several shuffles need a newer
/// field.
fn shuffles(outputs: Vec<String>) -> Input {
    let mut inputs: Vec<ShuffleInput> = outputs
        .into_iter()
        .map(|outputs| ShuffleInput { outputs })
        .collect();
    match (inputs.pop(), inputs.is_empty()) {
        (Some(only), true) => Input::Shuffle(only),
        (last, _) => {
            inputs.extend(last);
            Input::Shuffles(ShufflesInput { inputs })
        }
    }
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
    fn a_shard_of_parts_gets_its_parts_and_others_get_their_file_as_before() {
        let file = |uri: &str, size| InputFile {
            uri: uri.to_owned(),
            size,
            etag: None,
        };
        let files = vec![file("a", 10), file("b", 3), file("c", 4)];
        let part = |file, from, to| FilePart { file, from, to };
        let parts = vec![
            vec![part(0, 0, 5)],
            vec![part(0, 5, 10)],
            vec![part(1, 0, 3), part(2, 0, 4)],
        ];
        let source = SourceShards::Files {
            files: files.clone(),
            parts,
        };
        assert_eq!(source.count(), 3);
        let shown = |shard| match source.input(shard) {
            Some(Input::Files(input)) => {
                let shown = input
                    .parts
                    .into_iter()
                    .map(|part| (part.file.unwrap_or_default().uri, part.from, part.to));
                shown.collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(shown(1), [("a".to_owned(), 5, 10)]);
        assert_eq!(shown(2), [("b".to_owned(), 0, 3), ("c".to_owned(), 0, 4)]);
        assert_eq!(source.input(3), None);
        let whole = SourceShards::Files {
            files,
            parts: vec![],
        };
        assert!(matches!(whole.input(1), Some(Input::File(file)) if file.uri == "b"));
    }

    #[test]
    fn tasks_are_grouped_so_that_each_message_stays_small() {
        let task = |bytes: usize| RunTask {
            task: None,
            input: Some(Input::Shuffle(ShuffleInput {
                outputs: "x".repeat(bytes),
            })),
            trace_records: false,
        };
        let sizes = |tasks: Vec<RunTask>| {
            let groups = in_messages(tasks);
            groups.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(vec![]), Vec::<usize>::new());
        assert_eq!(sizes(vec![task(1); TASKS_PER_RUN + 1]), [TASKS_PER_RUN, 1]);
        let half = BYTES_PER_RUN / 2;
        assert_eq!(sizes(vec![task(half - 100); 5]), [2, 2, 1]);
        let large = task(BYTES_PER_RUN + 100);
        assert_eq!(sizes(vec![task(1), large, task(1)]), [1, 1, 1]);
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
        let (files, parts) = (vec![], vec![]);
        assert_eq!(SourceShards::Files { files, parts }.input(0), None);
    }
}
