//! Writes the records of an attempt into the upload of a final file, or into a shuffle file.
//! Nothing that it writes is visible before the coordinator has committed the attempt.

use std::io::Write;

use zephyr_engine::coordinator::record::{FinalPlace, OutputFile};
use zephyr_engine::id::TaskAttempt;
use zephyr_engine::ops::{Rejected, StageProgram};
use zephyr_engine::pipeline::Format;
use zephyr_engine::plan::{Stage, StageOutput};
use zephyr_engine::record::Row;
use zephyr_store::finalize::output_path;
use zephyr_store::formats::{Compression, FileWriter};
use zephyr_store::shuffle::{ShuffleWriter, SpillFolder};
use zephyr_store::storage::{Location, PartUpload, UploadPlace, complete};

use crate::defect::{self, Defect};
use crate::task::context::TaskContext;
use crate::task::error::TaskError;

/// An attempt's output while it is written.
pub(super) enum Output<'p> {
    Final {
        uri: String,
        writer: Box<FileWriter<PartUpload>>,
    },
    Shuffle {
        writer: Box<ShuffleWriter<'p>>,
        partitions: u32,
    },
}

impl<'p> Output<'p> {
    /// Begins the output of an attempt.
    pub(super) fn begin(
        context: &TaskContext,
        stage: &Stage,
        program: &'p StageProgram,
        task: TaskAttempt,
        spill: SpillFolder,
    ) -> Result<Self, TaskError> {
        match (&stage.output, program.combiner()) {
            (StageOutput::Sink { format }, _) => {
                let path = &context.setup.sink_path;
                let compression = context.setup.sink_compression;
                let compression = compression.unwrap_or_else(|| Compression::of_path(path));
                let (uri, writer) = begin_final(context, stage, path, *format, compression, task)?;
                let writer = Box::new(writer);
                Ok(Self::Final { uri, writer })
            }
            (StageOutput::Shuffle { partitions, .. }, Some(combiner)) => {
                let writer = ShuffleWriter::new(combiner, spill, context.buffer_bytes(stage));
                Ok(Self::Shuffle {
                    writer: Box::new(writer),
                    partitions: *partitions,
                })
            }
            (StageOutput::Shuffle { .. }, None) => Err(TaskError::FollowAssignment(format!(
                "stage {} has no combiner",
                stage.id
            ))),
        }
    }

    /// Adds a record. Returns it if the step that shuffles skips it as a bad record.
    pub(super) fn push(&mut self, row: Row<'_>) -> Result<Option<Rejected>, TaskError> {
        match self {
            Self::Final { writer, .. } => {
                writer
                    .write(&row.into_record())
                    .map_err(TaskError::WriteOutput)?;
                Ok(None)
            }
            Self::Shuffle { writer, .. } => writer.push(row).map_err(TaskError::from),
        }
    }

    /// Ends the output after all records were added.
    pub(super) fn finish(
        self,
        context: &TaskContext,
        task: TaskAttempt,
    ) -> Result<OutputFile, TaskError> {
        let setup = &context.setup;
        match self {
            Self::Final { uri, writer } => finish_final(context, uri, *writer),
            Self::Shuffle { writer, partitions } => {
                Ok(writer.finish(&setup.runtime, &setup.storage, task, partitions)?)
            }
        }
    }

    /// Deletes the output after a failure. A part that cannot be deleted does no harm, because its
    /// upload is never completed.
    pub(super) fn abandon(self, context: &TaskContext) {
        if let Self::Final { writer, uri } = self {
            give_up_final(context, &uri, *writer);
        }
    }
}

/// Begins a final file of an attempt; returns it with its name.
pub(super) fn begin_final(
    context: &TaskContext,
    stage: &Stage,
    path: &str,
    format: Format,
    compression: Compression,
    task: TaskAttempt,
) -> Result<(String, FileWriter<PartUpload>), TaskError> {
    let setup = &context.setup;
    let path = output_path(path, task.task.shard.0, stage.shards)
        .map_err(|error| TaskError::FollowAssignment(error.to_string()))?;
    let location = Location::parse_local(&path)
        .map_err(|error| TaskError::FollowAssignment(error.to_string()))?;
    let uri = location.to_string();
    // On a local disk, each attempt of each job writes its file under its own temporary name.
    let writer = format!("{}.{}", setup.storage.job(), task.attempt);
    let upload = PartUpload::begin(&setup.runtime, setup.storage.stores(), &location, &writer)
        .map_err(TaskError::Store)?;
    let writer =
        FileWriter::new(&uri, format, compression, upload).map_err(TaskError::WriteOutput)?;
    Ok((uri, writer))
}

/// Ends a final file after all records were added.
pub(super) fn finish_final(
    context: &TaskContext,
    uri: String,
    writer: FileWriter<PartUpload>,
) -> Result<OutputFile, TaskError> {
    let rows = writer.rows();
    let mut upload = writer.finish().map_err(TaskError::WriteOutput)?;
    upload
        .flush()
        .map_err(|error| TaskError::Bug(error.to_string()))?;
    let uploaded = upload.finish().map_err(TaskError::Store)?;
    if defect::is(Defect::FinalFileCompletedByTheWorker) {
        complete_at_once(context, &uri, &uploaded.place)?;
    }
    let place = match uploaded.place {
        UploadPlace::Multipart { upload, parts } => FinalPlace::Multipart { uri, upload, parts },
        UploadPlace::Staged(staged) => FinalPlace::Staged {
            uri,
            staged: staged.to_string(),
        },
    };
    Ok(OutputFile {
        rows,
        bytes: uploaded.bytes,
        crc32c: uploaded.crc32c,
        place: place.into(),
    })
}

/// Deletes a final file that is not complete.
pub(super) fn give_up_final(context: &TaskContext, uri: &str, writer: FileWriter<PartUpload>) {
    if let Some(upload) = writer.abandon()
        && let Err(error) = upload.discard(context.setup.storage.stores())
    {
        tracing::info!(%uri, %error, "an unfinished upload stays until the bucket's lifecycle rule removes it");
    }
}

/// Completes the upload at once. Only the coordinator may do that: this is a mistake that tests
/// turn on; see `defect`.
fn complete_at_once(
    context: &TaskContext,
    uri: &str,
    place: &UploadPlace,
) -> Result<(), TaskError> {
    let location = Location::parse_local(uri).map_err(|error| TaskError::Bug(error.to_string()))?;
    let setup = &context.setup;
    let completed = complete(setup.storage.stores(), &location, place);
    setup
        .runtime
        .block_on(completed)
        .map_err(TaskError::Store)?;
    Ok(())
}
