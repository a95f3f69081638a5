//! Checks that a reported file is at the location to which its attempt has to write. So no report
//! can make the coordinator complete, rename or read another object. Only this module decides this.
//! It is called when messages are read, when the ledger is read, and by the coordinator. Pure.

use zephyr_engine::coordinator::record::{FilePlace, FinalPlace, OutputFile, TaskOutput};
use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_engine::pipeline::Origin;
use zephyr_engine::plan::{Plan, Stage, StageOutput};

use crate::finalize::output_path;
use crate::shuffle::shuffle_path;
use crate::storage::Location;

/// The words for the location of a shuffle file in messages. Its path is not shown, because it
/// follows from the attempt.
const SHUFFLE_FILE: &str = "its attempt's shuffle file";

/// How many characters of a foreign path an error shows at most.
const MAX_SHOWN_PATH: usize = 256;

/// Why a reported file is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnershipError {
    /// The plan has no such task.
    #[error("the plan has no {task}")]
    NoSuchTask {
        /// The attempt.
        task: TaskAttempt,
    },
    /// The file is at another location.
    #[error("{task} reports a file at {got}; its own is {own}")]
    NotOwn {
        /// The attempt.
        task: TaskAttempt,
        /// The reported location.
        got: String,
        /// Where the file has to be.
        own: String,
    },
}

/// The place of an attempt's shuffle file, if `path` is the path of that file under the job's
/// folder.
pub fn shuffle_place(task: TaskAttempt, path: &str) -> Result<FilePlace, OwnershipError> {
    let own = shuffle_path(task);
    if path == own {
        return Ok(FilePlace::Shuffle);
    }
    let got = cut(path);
    Err(OwnershipError::NotOwn { task, got, own })
}

/// Checks all reported files of an attempt against the plan. A task of the last stage writes its
/// final file, and every other task writes its shuffle file. In addition, a task may write one dead
/// letter for each place of its stage that has dead letters.
pub fn check(
    plan: &Plan,
    sink_path: &str,
    task: TaskAttempt,
    output: &TaskOutput,
) -> Result<(), OwnershipError> {
    check_file(plan, sink_path, task, &output.file)?;
    let StageId(stage) = task.task.stage;
    let stage = plan.stages.get(stage as usize);
    let stage = stage.ok_or(OwnershipError::NoSuchTask { task })?;
    let mut own: Vec<String> = dead_letter_paths(plan, stage)
        .map(|(_, path)| final_uri(path, task, stage.shards))
        .collect();
    for file in output.more_files() {
        let uri = match &file.place {
            FilePlace::Shuffle => SHUFFLE_FILE,
            FilePlace::Final(place) => place.uri(),
        };
        let position = own.iter().position(|own| is_at(own, &file.place));
        let Some(position) = position else {
            return Err(OwnershipError::NotOwn {
                task,
                got: cut(uri),
                own: own.join(", "),
            });
        };
        own.swap_remove(position);
    }
    Ok(())
}

/// The templates of the dead letters that tasks of a stage write, with their places.
pub fn dead_letter_paths<'p>(
    plan: &'p Plan,
    stage: &Stage,
) -> impl Iterator<Item = (Origin, &'p str)> {
    let origins = plan.origins(stage).into_iter();
    origins.filter_map(|origin| {
        let on_error = plan.on_errors.get(&origin)?;
        Some((origin, on_error.dead_letter.as_deref()?))
    })
}

/// Whether a final file is under this name.
fn is_at(own: &str, place: &FilePlace) -> bool {
    let FilePlace::Final(place) = place else {
        return false;
    };
    match &**place {
        FinalPlace::Staged { uri, staged } => uri == own && is_beside(own, staged),
        FinalPlace::Multipart { uri, .. } => uri == own,
    }
}

fn check_file(
    plan: &Plan,
    sink_path: &str,
    task: TaskAttempt,
    file: &OutputFile,
) -> Result<(), OwnershipError> {
    let StageId(stage) = task.task.stage;
    let stage = plan
        .stages
        .get(stage as usize)
        .filter(|stage| task.task.shard.0 < stage.shards);
    let stage = stage.ok_or(OwnershipError::NoSuchTask { task })?;
    let own = match &stage.output {
        StageOutput::Shuffle { .. } => SHUFFLE_FILE.to_owned(),
        StageOutput::Sink { .. } => final_uri(sink_path, task, stage.shards),
    };
    let (got, is_own) = match (&stage.output, &file.place) {
        (StageOutput::Shuffle { .. }, FilePlace::Shuffle) => (SHUFFLE_FILE, true),
        (StageOutput::Sink { .. }, FilePlace::Shuffle) => (SHUFFLE_FILE, false),
        (StageOutput::Shuffle { .. }, FilePlace::Final(place)) => (place.uri(), false),
        (StageOutput::Sink { .. }, FilePlace::Final(place)) => match &**place {
            FinalPlace::Staged { uri, staged } if *uri == own => {
                (staged.as_str(), is_beside(&own, staged))
            }
            FinalPlace::Multipart { uri, .. } | FinalPlace::Staged { uri, .. } => {
                let is_multipart = matches!(**place, FinalPlace::Multipart { .. });
                (uri.as_str(), is_multipart && *uri == own)
            }
        },
    };
    if is_own {
        Ok(())
    } else {
        Err(OwnershipError::NotOwn {
            task,
            got: cut(got),
            own,
        })
    }
}

fn cut(path: &str) -> String {
    path.chars().take(MAX_SHOWN_PATH).collect()
}

/// The uri to which the task writes. An invalid path was refused before any task ran.
fn final_uri(sink_path: &str, task: TaskAttempt, total: u32) -> String {
    let path = output_path(sink_path, task.task.shard.0, total).unwrap_or_default();
    Location::parse_local(&path)
        .map(|location| location.to_string())
        .unwrap_or_default()
}

/// Whether a staged file has a hidden name in the folder of the final file.
fn is_beside(own: &str, staged: &str) -> bool {
    let Some((folder, name)) = own.rsplit_once('/') else {
        return false;
    };
    let Some((staged_folder, staged_name)) = staged.rsplit_once('/') else {
        return false;
    };
    folder == staged_folder && staged_name.starts_with(&format!(".{name}."))
}

#[cfg(test)]
mod tests {
    use zephyr_engine::id::{Attempt, Epoch, ShardId, TaskId};
    use zephyr_engine::pipeline::{Format, GroupBy, Pipeline, Sink, Source, Step};
    use zephyr_engine::plan::plan;

    use super::*;

    const SINK: &str = "s3://out/part-{shard:02}";

    fn task(stage: u32, shard: u32, number: u32) -> TaskAttempt {
        let task = TaskId {
            stage: StageId(stage),
            shard: ShardId(shard),
        };
        TaskAttempt {
            task,
            attempt: Attempt {
                epoch: Epoch(1),
                number,
            },
        }
    }

    fn is_taken(task: TaskAttempt, place: FilePlace) -> bool {
        let group = GroupBy {
            key: ".".into(),
            aggregates: vec![],
            shards: Some(2),
            order: None,
        };
        let source = Source::Files { empty_ok: false };
        let pipeline = Pipeline {
            source,
            steps: vec![Step::GroupBy(group)],
            sink: Sink {
                format: Format::Jsonl,
            },
            values: zephyr_engine::pipeline::Values::new(),
            tables: zephyr_engine::pipeline::Tables::new(),
            on_errors: zephyr_engine::pipeline::OnErrors::new(),
        };
        check_file(
            &plan(&pipeline, 3),
            SINK,
            task,
            &OutputFile {
                rows: 0,
                bytes: 0,
                crc32c: 0,
                place,
            },
        )
        .is_ok()
    }

    #[test]
    fn a_shuffle_file_at_another_path_is_not_the_attempts_own() {
        let own = "data/0/1/e1a2/shuffle";
        assert_eq!(shuffle_place(task(0, 1, 2), own), Ok(FilePlace::Shuffle));
        for path in ["", "data/0/1/e1a1/shuffle", "../data/0/1/e1a2/shuffle"] {
            let error = shuffle_place(task(0, 1, 2), path).unwrap_err().to_string();
            assert!(error.ends_with(&format!("its own is {own}")), "{error}");
        }
        let long = shuffle_place(task(0, 1, 2), &"x".repeat(1 << 20)).unwrap_err();
        assert!(long.to_string().len() < 400);
    }

    #[test]
    fn fault_found_here_only_the_files_of_the_attempt_itself_are_accepted() {
        let multipart = |uri: &str| {
            FilePlace::from(FinalPlace::Multipart {
                uri: uri.to_owned(),
                upload: "u".into(),
                parts: vec![],
            })
        };
        let staged = |uri: &str, staged: &str| {
            FilePlace::from(FinalPlace::Staged {
                uri: uri.to_owned(),
                staged: staged.to_owned(),
            })
        };
        assert!(is_taken(task(0, 1, 2), FilePlace::Shuffle));
        assert!(is_taken(task(1, 1, 1), multipart("s3://out/part-01")));
        assert!(is_taken(
            task(1, 1, 1),
            staged("s3://out/part-01", "s3://out/.part-01.x.e1a1")
        ));
        assert!(
            !is_taken(task(0, 1, 2), multipart("s3://out/part-01")),
            "a final file of a stage that has none"
        );
        assert!(
            !is_taken(task(1, 1, 1), multipart("s3://out/part-00")),
            "another shard's"
        );
        assert!(
            !is_taken(task(1, 1, 1), FilePlace::Shuffle),
            "a shuffle file of the sink"
        );
        assert!(
            !is_taken(
                task(1, 1, 1),
                staged("s3://out/part-01", "s3://in/.part-01.x")
            ),
            "another folder's"
        );
        assert!(
            !is_taken(
                task(1, 1, 1),
                staged("s3://out/part-01", "s3://out/part-00")
            ),
            "another final file"
        );
        assert!(
            !is_taken(task(1, 2, 1), multipart("s3://out/part-02")),
            "a shard that the plan lacks"
        );
        assert!(
            !is_taken(task(7, 0, 1), multipart("s3://out/part-00")),
            "a stage that the plan lacks"
        );
    }
}
