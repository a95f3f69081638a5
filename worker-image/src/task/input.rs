//! Reads the input of an attempt: parts of source files, inline items, or one partition of each
//! stage that its stage reads. Passes on each record with its position, for messages. Applies no
//! step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use zephyr_engine::id::{StageId, TaskAttempt};
use zephyr_engine::ops::Merger;
use zephyr_engine::pipeline::{Format, Source};
use zephyr_engine::plan::Stage;
use zephyr_engine::record::{Record, RecordParser};
use zephyr_store::formats::{FileReader, LinePlace, ReadError, ReadLimits, source_format};
use zephyr_store::shuffle::{IndexShape, ShuffleError, ShuffleReader, Slice, load_slices};
use zephyr_store::storage::{InputFile, Location, ObjectReader, ReadCounter};

use crate::task::context::TaskContext;
use crate::task::dead_letter::LetterPlace;
use crate::task::error::TaskError;
use crate::task::run::{InputPart, ProgressCounters};

/// How many files of a shard are opened before their turn, so that the task does not wait for the
/// store's first answer about each file.
const FILES_AHEAD: usize = 8;

/// How many bytes the files that are opened before their turn have together at most: the size of
/// one range of a large file.
const BYTES_AHEAD: u64 = 8 << 20;

/// Where a record was read, for messages and for the trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The name of the file, or the name of another source.
    pub(super) input: &'a str,
    /// The place of the record: the number of its line, its own number (both from 1), or the
    /// position of its line in bytes.
    pub(super) number: u64,
    kind: PlaceKind,
}

#[derive(Clone, Copy, Debug)]
enum PlaceKind {
    Line,
    /// The number is the position of the line's first byte, because the file was not read from its
    /// beginning.
    Byte,
    /// The number is the position of the line's first byte in the plain bytes of a compressed file,
    /// counted from the block or frame that begins at this byte of the compressed file.
    Behind(u64),
    Item,
    Group,
    /// A line of a command's output.
    Output,
}

/// A place that outlives the record.
#[derive(Default)]
pub(super) struct KeptPlace(Option<(String, u64, PlaceKind)>);

impl KeptPlace {
    /// Keeps a later place.
    pub(super) fn set(&mut self, place: &Place<'_>) {
        match &mut self.0 {
            Some((input, number, kind)) if input == place.input => {
                (*number, *kind) = (place.number, place.kind);
            }
            kept => *kept = Some((place.input.to_owned(), place.number, place.kind)),
        }
    }

    /// The last place that was kept; `None` if there was none.
    pub(super) fn get(&self) -> Option<Place<'_>> {
        self.0.as_ref().map(|(input, number, kind)| Place {
            input,
            number: *number,
            kind: *kind,
        })
    }
}

impl<'a> Place<'a> {
    /// A line of the output of the command with this name.
    pub(super) fn of_output(input: &'a str, number: u64) -> Self {
        Self {
            input,
            number,
            kind: PlaceKind::Output,
        }
    }

    /// Returns this place as a dead letter names it.
    pub(super) fn in_letter(&self) -> LetterPlace {
        match self.kind {
            PlaceKind::Byte => LetterPlace::Byte(self.number),
            PlaceKind::Behind(block) => LetterPlace::Behind {
                block,
                byte: self.number,
            },
            PlaceKind::Line | PlaceKind::Item | PlaceKind::Group | PlaceKind::Output => {
                LetterPlace::Line(self.number)
            }
        }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            input,
            number,
            kind,
        } = self;
        match kind {
            PlaceKind::Line => write!(f, "{input}: {}", LinePlace::Number(*number)),
            PlaceKind::Byte => write!(f, "{input}: {}", LinePlace::Byte(*number)),
            PlaceKind::Behind(block) => {
                let (block, byte) = (*block, *number);
                write!(f, "{input}: {}", LinePlace::Behind { block, byte })
            }
            PlaceKind::Item => write!(f, "{input}[{}]", number - 1),
            PlaceKind::Group => write!(f, "{input}: record {number}"),
            PlaceKind::Output => write!(f, "{input}: line {number} of the output"),
        }
    }
}

/// A line that is not a record.
pub(super) struct BadLine<'a> {
    /// What is wrong.
    pub(super) error: ReadError,
    /// The line, as far as it is in memory.
    pub(super) bytes: &'a [u8],
    /// Whether that is the whole line.
    pub(super) is_whole: bool,
}

/// Receives a record, or a line that is not a record. Returns whether to continue.
pub(super) type Taker<'a> =
    dyn FnMut(Result<Record, BadLine<'_>>, Place<'_>) -> Result<bool, TaskError> + 'a;

/// Reads parts of files, one after the other. Small files are opened before their turn.
pub(super) fn read_files(
    context: &TaskContext,
    stage: &Stage,
    parts: &[InputPart],
    counters: &Arc<ProgressCounters>,
    take: &mut Taker<'_>,
) -> Result<(), TaskError> {
    let limits = ReadLimits {
        record: context.record_limits(stage),
        ..context.setup.limits
    };
    let format = context.setup.source_format;
    let mut waiting = parts.iter();
    let mut opened = VecDeque::new();
    let mut bytes_ahead = 0;
    loop {
        while opened.is_empty()
            || (opened.len() < FILES_AHEAD
                && waiting
                    .as_slice()
                    .first()
                    .is_some_and(|next| bytes_ahead + next.file.size <= BYTES_AHEAD))
        {
            let Some(part) = waiting.next() else { break };
            bytes_ahead += part.file.size;
            // If this file cannot be opened, the error is reported only after all records of
            // earlier files.
            opened.push_back((part, open_part(context, part, format, &limits, counters)));
        }
        let Some((part, reader)) = opened.pop_front() else {
            return Ok(());
        };
        bytes_ahead -= part.file.size;
        if !read_part(&part.file.uri, reader?, take)? {
            return Ok(());
        }
    }
}

/// Reads a file or a part of it; returns whether to continue.
fn read_part(uri: &str, mut reader: FileReader, take: &mut Taker<'_>) -> Result<bool, TaskError> {
    loop {
        let (record, number) = match reader.next_record() {
            Ok(None) => return Ok(true),
            Ok(Some((record, number))) => (Ok(record), number),
            Err(error) => match error.line() {
                Some(line) => {
                    let (bytes, is_whole) = reader.bad_line();
                    let bad = BadLine {
                        error,
                        bytes,
                        is_whole,
                    };
                    (Err(bad), line)
                }
                None => return Err(TaskError::ReadInput(error)),
            },
        };
        // Where the first block of a part begins is known only after something was read.
        let kind = match reader.first_block() {
            _ if reader.counts_lines() => PlaceKind::Line,
            Some(block) => PlaceKind::Behind(block),
            None => PlaceKind::Byte,
        };
        let place = Place {
            input: uri,
            number,
            kind,
        };
        if !take(record, place)? {
            return Ok(false);
        }
    }
}

/// Opens a file; without a `format`, its extension implies one.
pub(super) fn open_file(
    context: &TaskContext,
    file: &InputFile,
    format: Option<Format>,
    limits: &ReadLimits,
    counters: &Arc<ProgressCounters>,
) -> Result<FileReader, TaskError> {
    let whole = InputPart::whole(file.clone());
    open_part(context, &whole, format, limits, counters)
}

/// Opens a part of a file as [`open_file`] opens a whole file.
fn open_part(
    context: &TaskContext,
    part: &InputPart,
    format: Option<Format>,
    limits: &ReadLimits,
    counters: &Arc<ProgressCounters>,
) -> Result<FileReader, TaskError> {
    let setup = &context.setup;
    let file = &part.file;
    let location = Location::parse_local(&file.uri)
        .map_err(|error| TaskError::FollowAssignment(error.to_string()))?;
    let format = match format {
        Some(format) => format,
        None => source_format(&file.uri).map_err(TaskError::ReadInput)?,
    };
    let lines = part.from..part.to;
    let input = ObjectReader::open_part(
        &setup.runtime,
        setup.storage.stores(),
        file,
        &location,
        FileReader::start_of(&file.uri, &lines)..part.to,
        counting(counters),
    );
    FileReader::of_part(&file.uri, file.size, lines, format, limits, input)
        .map_err(TaskError::ReadInput)
}

/// Reads inline items.
pub(super) fn read_items(
    context: &TaskContext,
    stage: &Stage,
    first: u32,
    count: u32,
    take: &mut Taker<'_>,
) -> Result<(), TaskError> {
    const ITEMS: &str = "spec.pipeline.source.items.values";
    let Source::Items { values, .. } = &context.setup.pipeline.source else {
        return Err(TaskError::FollowAssignment(
            "items are assigned, and the source has none".to_owned(),
        ));
    };
    let range = first as usize..first as usize + count as usize;
    let items = values.get(range).ok_or_else(|| {
        TaskError::FollowAssignment(format!(
            "items from {first} on, {count} of {}",
            values.len()
        ))
    })?;
    let mut parser = RecordParser::within(context.record_limits(stage));
    for (number, text) in (u64::from(first) + 1..).zip(items) {
        let parsed = parser.parse(text.as_bytes());
        let record = parsed.map_err(|error| {
            TaskError::ReadInput(ReadError::ParseRecord {
                file: ITEMS.to_owned(),
                place: LinePlace::Number(number),
                problem: error.to_string(),
            })
        })?;
        if !take(
            Ok(record),
            Place {
                input: ITEMS,
                number,
                kind: PlaceKind::Item,
            },
        )? {
            break;
        }
    }
    Ok(())
}

/// Reads one partition of each of these stages' outputs, merged together in this order.
pub(super) fn read_shuffle(
    context: &TaskContext,
    stage: &Stage,
    task: TaskAttempt,
    outputs: &[String],
    merger: &Merger,
    counters: &Arc<ProgressCounters>,
    take: &mut Taker<'_>,
) -> Result<(), TaskError> {
    let partition = task.task.shard.0;
    let slices = slices_of_stages(context, stage, partition, outputs)?;
    let reader = shuffle_reader(context, stage, stage.shards, counters);
    let streams = reader.partition(merger, partition, slices)?;
    let input = task.task.to_string();
    for (number, record) in (1..).zip(merger.records(streams)) {
        let record = record.map_err(|error: ShuffleError| TaskError::Shuffle(error))?;
        if !take(
            Ok(record),
            Place {
                input: &input,
                number,
                kind: PlaceKind::Group,
            },
        )? {
            break;
        }
    }
    Ok(())
}

/// How the files of a shuffle with this number of partitions are read.
pub(super) fn shuffle_reader(
    context: &TaskContext,
    stage: &Stage,
    partitions: u32,
    counters: &Arc<ProgressCounters>,
) -> ShuffleReader {
    let setup = &context.setup;
    ShuffleReader {
        runtime: setup.runtime.clone(),
        storage: setup.storage.clone(),
        partitions,
        memory_bytes: context.buffer_bytes(stage),
        folder: context.spill.counting(&counters.written),
        counted: counting(counters),
    }
}

/// Returns where a partition is in the files of all stages that this stage reads, in their order.
/// Each of these stages writes as many partitions as this stage has shards.
fn slices_of_stages(
    context: &TaskContext,
    stage: &Stage,
    partition: u32,
    outputs: &[String],
) -> Result<Vec<Slice>, TaskError> {
    let setup = &context.setup;
    let stages: Vec<StageId> = stage.reads().collect();
    if stages.len() != outputs.len() {
        return Err(TaskError::FollowAssignment(format!(
            "{} shuffles are assigned, and stage {} reads {}",
            outputs.len(),
            stage.id,
            stages.len()
        )));
    }
    let mut slices = Vec::new();
    for (from, path) in stages.into_iter().zip(outputs) {
        let written = setup.plan.stages.get(from.0 as usize);
        let shape = IndexShape {
            stage: from,
            tasks: written.map_or(0, |stage| stage.shards),
            partitions: stage.shards,
        };
        if !path.starts_with(&format!("data/{}/", from.0)) {
            return Err(TaskError::FollowAssignment(format!(
                "{path} is no list of outputs of stage {from}"
            )));
        }
        let loaded = load_slices(&setup.storage, path, shape, partition);
        slices.extend(setup.runtime.block_on(loaded).map_err(TaskError::Store)?);
    }
    Ok(slices)
}

fn counting(counters: &Arc<ProgressCounters>) -> ReadCounter {
    let counters = Arc::clone(counters);
    Arc::new(move |bytes| {
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    })
}
