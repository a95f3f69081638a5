//! Divides the files of a source into shards: splits large files and combines small ones. Also
//! computes the default number of shards of a shuffle. Pure: decides from listed sizes, and from
//! what the caller has found in compressed files; opens no file.

use xxhash_rust::xxh3::xxh3_128;

use super::MAX_DEFAULT_SHARDS;
use crate::pipeline::{Format, Origin, Pipeline, Step};

/// The most shards of a source. The plan is stored in one object, and the coordinator holds all
/// tasks of a stage.
pub const MAX_SOURCE_SHARDS: usize = 100_000;

/// The most files that one shard reads, so that a task does not spend most of its time on opening
/// files.
pub const MAX_FILES_OF_A_SHARD: usize = 1000;

/// The most bytes of the names of one shard's files. They are sent to the worker in one message of
/// at most 4 MiB.
const MAX_NAME_BYTES: usize = 1 << 20;

/// The size from which a file is split if the manifest sets none.
pub const DEFAULT_SPLIT_BYTES: u64 = 256 << 20;

/// The input bytes for each shard of a shuffle, if the manifest sets no number of shards. The
/// groups of this input fit into the buffers of a task.
const BYTES_OF_A_SHUFFLE_SHARD: u64 = 128 << 20;

/// The contents of a compressed file are assumed to be this many times as large as the file.
const COMPRESSION_RATIO: u64 = 4;

/// The most ranges that the reducers of a shuffle read from the files of the mappers themselves. A
/// store answers some 5,000 reads a second below one prefix, so it needs some 13 s for this number.
const MAX_UNGATHERED_RANGES: u64 = 65_536;

/// The size of a range from which gathering is of no use: a read of this size costs a store and a
/// reducer much more than the request for it.
const GATHERED_RANGE_BYTES: u64 = 1 << 20;

/// The most files that one task gathers. Even a small worker can merge this number of files at a
/// time.
const MAX_GATHERED_FILES: u64 = 64;

/// Where a file may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// Nowhere: it can be read only from its beginning.
    Nowhere,
    /// At any byte.
    Anywhere,
    /// At these bytes, in order, between the first and the last byte of the file.
    At(Vec<u64>),
}

/// A file of the source, as it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// Its size.
    pub bytes: u64,
    /// The length of its address and version, which are sent to the worker.
    pub name_bytes: usize,
    /// The format in which it is read.
    pub format: Format,
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// Where it may be cut. A compressed file is cut nowhere until somebody has looked into it.
    pub cuts: Cuts,
    /// Whether every read can be bound to the listed version. Without this, two tasks could read
    /// two versions of the file.
    pub is_pinned: bool,
}

/// The settings of the manifest for splitting and combining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharding {
    /// A file larger than this is split. 0: no file is split. Not set: the default.
    pub split_bytes: Option<u64>,
    /// Neighbouring files are combined up to this size. 0: no files are combined.
    pub combine_bytes: u64,
    /// Whether the output has one name, so that only one shard may be written.
    pub has_single_output: bool,
}

/// A part of a file: the lines that begin at `from` or later, and before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// The file's position in the listing.
    pub file: u32,
    /// The first byte.
    pub from: u64,
    /// The byte after the last one.
    pub to: u64,
}

/// Why there are no shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardingError {
    /// Splitting makes too many shards.
    #[error(
        "spec.pipeline.source.files.splitBytes: makes too many shards of the input (got {shards} shards with {split_bytes} bytes); at most {MAX_SOURCE_SHARDS} are allowed, set a larger number of bytes, or 0 to split no file"
    )]
    TooMany {
        /// Number of shards.
        shards: u64,
        /// The size that was set.
        split_bytes: u64,
    },
}

/// The properties of the source on which a plan depends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedSource {
    /// Number of shards.
    pub shards: u32,
    /// Shards of the first shuffle if its step sets none. Not set: as many as the source has, but
    /// at most 256. Release 0.1.0 always planned this number.
    pub shuffle_shards: Option<u32>,
    /// The digest of the parts of files that the shards read; `None` if each shard is a whole file,
    /// or if the source has no files.
    pub parts: Option<String>,
    /// How many files of the first shuffle one task of a gathering stage reads. Not set: there is
    /// no such stage.
    pub gather: Option<u32>,
}

impl From<u32> for PlannedSource {
    /// Shards without parts of files, as release 0.1.0 planned them.
    fn from(shards: u32) -> Self {
        Self {
            shards,
            ..Self::default()
        }
    }
}

impl PlannedSource {
    /// A source of files whose shards are these parts; without parts, each shard is one whole file.
    pub fn of_parts(files: usize, parts: &[Vec<FilePart>], shuffle_shards: Option<u32>) -> Self {
        let shards = if parts.is_empty() { files } else { parts.len() };
        Self {
            shards: u32::try_from(shards).unwrap_or(u32::MAX),
            shuffle_shards,
            parts: (!parts.is_empty()).then(|| parts_digest(parts)),
            gather: None,
        }
    }
}

/// Plans the source of a new job. Returns it with the parts that each of its shards reads. There
/// are no parts if each shard is one whole file.
///
/// # Errors The size that the manifest sets makes more shards than are allowed. The default never
/// does.
pub fn plan_source(
    pipeline: &Pipeline,
    files: &[ListedFile],
    sharding: Sharding,
) -> Result<(PlannedSource, Vec<Vec<FilePart>>), ShardingError> {
    let mut parts = shards(pipeline, files, sharding)?;
    if are_whole_files(&parts, files) {
        parts.clear();
    }
    let mut source = PlannedSource::of_parts(files.len(), &parts, None);
    let shuffle_shards = default_shuffle_shards(pipeline, files, sharding);
    // The number is stored only if it differs from the one that is implied. Otherwise a release
    // that does not know the field can read the plan too.
    let is_implied = shuffle_shards == implied_shuffle_shards(source.shards);
    if needs_shuffle_shards(pipeline) && !is_implied {
        source.shuffle_shards = Some(shuffle_shards);
    }
    source.gather = gather(pipeline, source.shards, shuffle_shards, read_bytes(files));
    Ok((source, parts))
}

/// The number of shards of a shuffle whose step sets none. `upstream` is the number of shards
/// before the shuffle.
pub(super) fn implied_shuffle_shards(upstream: u32) -> u32 {
    upstream.clamp(1, MAX_DEFAULT_SHARDS)
}

/// The parts that each shard reads, in the order of the listing. Every byte of every file is in
/// exactly one part.
fn shards(
    pipeline: &Pipeline,
    files: &[ListedFile],
    sharding: Sharding,
) -> Result<Vec<Vec<FilePart>>, ShardingError> {
    let split_bytes = split_bytes(pipeline, files, sharding);
    let check = |shards| match split_bytes {
        Some(split_bytes) if shards > MAX_SOURCE_SHARDS as u64 => Err(ShardingError::TooMany {
            shards,
            split_bytes,
        }),
        Some(_) | None => Ok(()),
    };
    // Whole files may be combined, so the number of their shards is known only at the end.
    let pieces_of_split_files = files.iter().map(|file| pieces(file, split_bytes));
    let of_split_files = pieces_of_split_files.filter(|pieces| *pieces > 1);
    check(of_split_files.fold(0, u64::saturating_add))?;
    let mut shards: Vec<Vec<FilePart>> = Vec::with_capacity(files.len());
    let mut open = OpenShard::default();
    for (number, file) in (0..).zip(files) {
        let pieces = pieces(file, split_bytes);
        let part = |from, to| FilePart {
            file: number,
            from,
            to,
        };
        if pieces > 1 {
            open = OpenShard::default();
            let mut from = 0;
            for to in ends(file, pieces, split_bytes) {
                shards.push(vec![part(from, to)]);
                from = to;
            }
            continue;
        }
        let whole = part(0, file.bytes);
        match shards.last_mut() {
            Some(shard) if open.takes(file, sharding.combine_bytes) => shard.push(whole),
            _ => {
                open = OpenShard::default();
                shards.push(vec![whole]);
            }
        }
        open.add(file);
    }
    check(shards.len() as u64)?;
    Ok(shards)
}

/// The last shard, while files may still be added to it.
#[derive(Default)]
struct OpenShard {
    bytes: u64,
    files: usize,
    name_bytes: usize,
    last: Option<(Format, bool)>,
}

impl OpenShard {
    fn takes(&self, file: &ListedFile, combine_bytes: u64) -> bool {
        let is_alike = self.last == Some((file.format, file.is_compressed));
        combine_bytes > 0
            && is_alike
            && self.files < MAX_FILES_OF_A_SHARD
            && self.name_bytes.saturating_add(file.name_bytes) <= MAX_NAME_BYTES
            && self.bytes.saturating_add(file.bytes) <= combine_bytes
    }

    fn add(&mut self, file: &ListedFile) {
        self.bytes = self.bytes.saturating_add(file.bytes);
        self.files += 1;
        self.name_bytes = self.name_bytes.saturating_add(file.name_bytes);
        self.last = Some((file.format, file.is_compressed));
    }
}

/// The size from which files are split; `None` if no file is split. A default must not change a
/// result or refuse a job. So without a size in the manifest no file is split if the result of a
/// step depends on its shard, or if only one shard may be written. The default size grows until the
/// shards are few enough.
fn split_bytes(pipeline: &Pipeline, files: &[ListedFile], sharding: Sharding) -> Option<u64> {
    if let Some(set) = sharding.split_bytes {
        return (set > 0).then_some(set);
    }
    let first_stage = pipeline.steps.iter().take_while(|step| !shuffles(step));
    if first_stage.clone().any(sees_its_shard) {
        return None;
    }
    if sharding.has_single_output && first_stage.count() == pipeline.steps.len() {
        return None;
    }
    let mut bytes = DEFAULT_SPLIT_BYTES;
    while count(files, bytes) > MAX_SOURCE_SHARDS as u64 && bytes < u64::MAX {
        bytes = bytes.saturating_mul(2);
    }
    Some(bytes)
}

/// The number of shards without combining.
fn count(files: &[ListedFile], split_bytes: u64) -> u64 {
    let pieces = files.iter().map(|file| pieces(file, Some(split_bytes)));
    pieces.fold(0, u64::saturating_add)
}

fn pieces(file: &ListedFile, split_bytes: Option<u64>) -> u64 {
    let Some(bytes) = split_bytes.filter(|_| file.is_pinned) else {
        return 1;
    };
    match &file.cuts {
        Cuts::Nowhere => 1,
        Cuts::Anywhere => file.bytes.div_ceil(bytes).max(1),
        Cuts::At(allowed) => chosen_cuts(file.bytes, allowed, bytes).len() as u64 + 1,
    }
}

/// The byte after each of the pieces.
fn ends(file: &ListedFile, pieces: u64, split_bytes: Option<u64>) -> Vec<u64> {
    let mut ends = match (&file.cuts, split_bytes) {
        (Cuts::At(allowed), Some(bytes)) => chosen_cuts(file.bytes, allowed, bytes),
        (Cuts::At(_) | Cuts::Anywhere | Cuts::Nowhere, _) => {
            let cuts = 1..pieces;
            cuts.map(|piece| nth_cut(file.bytes, piece, pieces))
                .collect()
        }
    };
    ends.push(file.bytes);
    ends
}

/// The allowed cuts that make pieces of about this size. For each byte at which a file that may be
/// cut anywhere would be cut, this is the first allowed cut at or after that byte.
fn chosen_cuts(file_bytes: u64, allowed: &[u64], split_bytes: u64) -> Vec<u64> {
    let pieces = file_bytes.div_ceil(split_bytes).max(1);
    if pieces > allowed.len() as u64 {
        return allowed.to_vec();
    }
    let wanted = (1..pieces).map(|piece| nth_cut(file_bytes, piece, pieces));
    let at_or_after = |cut| allowed.get(allowed.partition_point(|border| *border < cut));
    let mut chosen: Vec<u64> = wanted.filter_map(at_or_after).copied().collect();
    chosen.dedup();
    chosen
}

/// The positions in the listing of the compressed files that are large enough to be split. Before
/// [`plan_source`], the caller must find out where these files may be cut. The caller opens no
/// other file.
pub fn files_to_look_into(
    pipeline: &Pipeline,
    files: &[ListedFile],
    sharding: Sharding,
) -> Vec<usize> {
    // A damaged compressed file can become a dead letter as a whole. A file in parts cannot, so by
    // default no file is split if there are dead letters.
    let has_dead_letters = pipeline
        .on_errors
        .get(&Origin::Source)
        .is_some_and(|on_error| on_error.dead_letter.is_some());
    if has_dead_letters && sharding.split_bytes.is_none() {
        return Vec::new();
    }
    let Some(split_bytes) = split_bytes(pipeline, files, sharding) else {
        return Vec::new();
    };
    let is_candidate =
        |file: &ListedFile| file.is_compressed && file.is_pinned && file.bytes > split_bytes;
    let candidates = files.iter().enumerate();
    let candidates = candidates.filter(|(_, file)| is_candidate(file));
    candidates.map(|(position, _)| position).collect()
}

/// The beginning of a piece. The sizes of all pieces differ by at most one byte.
fn nth_cut(bytes: u64, piece: u64, pieces: u64) -> u64 {
    let cut = u128::from(bytes) * u128::from(piece) / u128::from(pieces);
    u64::try_from(cut).unwrap_or(bytes)
}

/// Whether a step redistributes its records.
fn shuffles(step: &Step) -> bool {
    match step {
        Step::GroupBy(_) | Step::Deduplicate { .. } | Step::Count | Step::Aggregate(_) => true,
        Step::Map(_)
        | Step::FlatMap(_)
        | Step::Filter(_)
        | Step::Select(_)
        | Step::Drop(_)
        | Step::Rename(_)
        | Step::Sample { .. }
        | Step::TakePerShard(_)
        | Step::Window(_)
        | Step::WindowBy(_)
        | Step::Exec(_) => false,
    }
}

/// Whether the result of a step depends on which records share a shard. A sample does too, but
/// another sample of the same size is as good, so it does not keep large files in one piece.
fn sees_its_shard(step: &Step) -> bool {
    match step {
        Step::TakePerShard(_) | Step::Window(_) | Step::WindowBy(_) | Step::Exec(_) => true,
        Step::Map(_)
        | Step::FlatMap(_)
        | Step::Filter(_)
        | Step::Select(_)
        | Step::Drop(_)
        | Step::Rename(_)
        | Step::Sample { .. }
        | Step::GroupBy(_)
        | Step::Deduplicate { .. }
        | Step::Count
        | Step::Aggregate(_) => false,
    }
}

/// The number of shards of the first shuffle if its step sets none: one for each 128 MiB of input,
/// from 1 to 256. Compressed bytes count four times. It is 1 if the output has one name and the
/// last shuffle sets no number, because then the last shuffle has as many shards as the first.
fn default_shuffle_shards(pipeline: &Pipeline, files: &[ListedFile], sharding: Sharding) -> u32 {
    let last = pipeline.steps.iter().rev().find(|step| shuffles(step));
    if sharding.has_single_output && last.is_some_and(sets_no_shards) {
        return 1;
    }
    let shards = read_bytes(files).div_ceil(BYTES_OF_A_SHUFFLE_SHARD);
    u32::try_from(shards)
        .unwrap_or(u32::MAX)
        .clamp(1, MAX_DEFAULT_SHARDS)
}

/// The bytes that are read from these files, after decompression: an estimate.
fn read_bytes(files: &[ListedFile]) -> u64 {
    let bytes = |file: &ListedFile| {
        let ratio = if file.is_compressed {
            COMPRESSION_RATIO
        } else {
            1
        };
        file.bytes.saturating_mul(ratio)
    };
    files.iter().map(bytes).fold(0, u64::saturating_add)
}

/// How many files of the first shuffle one task gathers: as many as make the mean range that a
/// reducer reads as large as [`GATHERED_RANGE_BYTES`]. `None` if the ranges are few, or large
/// already: gathering reads and writes all data of the shuffle once more. Shuffle files are
/// compressed.
fn gather(pipeline: &Pipeline, mappers: u32, default_shards: u32, read_bytes: u64) -> Option<u32> {
    let first = pipeline.steps.iter().find(|step| shuffles(step))?;
    let reducers = shards_after(first, default_shards)?;
    let ranges = u64::from(mappers) * u64::from(reducers);
    if ranges <= MAX_UNGATHERED_RANGES {
        return None;
    }
    let mean = (read_bytes / COMPRESSION_RATIO / ranges).max(1);
    let files = GATHERED_RANGE_BYTES.div_ceil(mean).min(MAX_GATHERED_FILES);
    u32::try_from(files).ok().filter(|files| *files > 1)
}

/// Whether the plan needs the default number of shards of a shuffle.
fn needs_shuffle_shards(pipeline: &Pipeline) -> bool {
    let first = pipeline.steps.iter().find(|step| shuffles(step));
    first.is_some_and(sets_no_shards)
}

/// Whether a step may set a number of shards, and sets none.
fn sets_no_shards(step: &Step) -> bool {
    shards_after(step, 0) == Some(0)
}

/// The number of shards after a step that may set it; `default` if it sets none.
fn shards_after(step: &Step, default: u32) -> Option<u32> {
    match step {
        Step::GroupBy(group_by) => Some(group_by.shards.unwrap_or(default)),
        Step::Deduplicate { shards, .. } => Some(shards.unwrap_or(default)),
        Step::Map(_)
        | Step::FlatMap(_)
        | Step::Filter(_)
        | Step::Select(_)
        | Step::Drop(_)
        | Step::Rename(_)
        | Step::Sample { .. }
        | Step::TakePerShard(_)
        | Step::Window(_)
        | Step::WindowBy(_)
        | Step::Exec(_)
        | Step::Count
        | Step::Aggregate(_) => None,
    }
}

/// Whether each shard is one whole file, in order.
fn are_whole_files(shards: &[Vec<FilePart>], files: &[ListedFile]) -> bool {
    // Even if there are as many shards as files, a shard may contain a part of a file, or several
    // files.
    let is_whole = |(shard, file): (&Vec<FilePart>, &ListedFile)| match shard[..] {
        [part] => part.from == 0 && part.to == file.bytes,
        _ => false,
    };
    shards.len() == files.len() && shards.iter().zip(files).all(is_whole)
}

/// The digest of these parts: the hash of all their numbers.
fn parts_digest(shards: &[Vec<FilePart>]) -> String {
    let numbers = shards.iter().flat_map(|shard| {
        let length = std::iter::once(shard.len() as u64);
        length.chain(
            shard
                .iter()
                .flat_map(|part| [part.file.into(), part.from, part.to]),
        )
    });
    let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    format!("{:032x}", xxh3_128(&bytes))
}

/// Checks that the parts contain every byte of every file once, in order, and that a shard of
/// several parts has only whole files.
///
/// # Errors A sentence about the first part that does not fit.
pub fn check_parts(shards: &[Vec<FilePart>], sizes: &[u64]) -> Result<(), String> {
    let (mut file, mut next) = (0_usize, 0_u64);
    for (number, shard) in shards.iter().enumerate() {
        let wrong = |why: &str| format!("source shard {number} {why}");
        if shard.is_empty() || shard.len() > MAX_FILES_OF_A_SHARD {
            return Err(wrong("has no file, or too many"));
        }
        for part in shard {
            let Some(size) = sizes.get(part.file as usize) else {
                return Err(wrong("reads a file that is not listed"));
            };
            let fits = part.file as usize == file && part.from == next && part.to <= *size;
            let is_empty = part.from >= part.to && *size > 0;
            if !fits || is_empty || (shard.len() > 1 && part.to - part.from != *size) {
                return Err(wrong("does not continue the one before it"));
            }
            (file, next) = if part.to == *size {
                (file + 1, 0)
            } else {
                (file, part.to)
            };
        }
    }
    if file == sizes.len() && next == 0 {
        Ok(())
    } else {
        Err(format!("no source shard reads the end of file {file}"))
    }
}

#[cfg(test)]
mod tests;
