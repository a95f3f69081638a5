//! The take-over of a ledger. A starting coordinator opens an epoch, reads the records, seals every
//! older log, and writes a snapshot of what it read. Then no older coordinator can commit anything.
//!
//! A commit of an older coordinator is either read here, or it is never acknowledged because its
//! log is sealed. Reading begins at the newest older epoch that has a snapshot. If a coordinator
//! died before it wrote its snapshot, an older snapshot is used.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ListResult, ObjectStore};
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::append::{MergePolicy, log_object, refused, snapshot_object};
use crate::ledger::encoding::{
    Header, Kind, LedgerObject, Lines, Part, WriterToken, decode, decode_snapshot, encode,
};
use crate::ledger::{Ledger, LedgerError};
use crate::storage::{Cause, JobStorage, Location, Placed, fetch, persist, put_if_absent};

/// How many log objects are fetched ahead of the one that is replayed.
const LOG_OBJECTS_AHEAD: usize = 16;

/// How many merged objects are fetched and decoded at the same time. Each has about 8 MB.
const PARTS_AHEAD: usize = 4;

/// A merged object with fewer bytes than this is decoded in much less than a millisecond, so no
/// separate thread decodes it.
const DECODED_AT_ONCE_BYTES: usize = 64 << 10;

/// How many records of older logs one merged object has at most. They have about 8 MB.
const RECORDS_PER_PART: usize = 25_000;

/// Before records are read, memory is reserved for at most this many of them. This is two records
/// for each of a million tasks.
const MAX_RECORDS_RESERVED: usize = 2_000_000;

/// How many epochs a job can have. A coordinator that restarts once a minute reaches this number
/// after two years.
const MAX_EPOCHS: u64 = 1_000_000;

/// The state with which a coordinator begins.
#[derive(Debug)]
pub struct TakeOver {
    /// The log of this coordinator, which is empty.
    pub ledger: Ledger,
    /// The epoch of this coordinator. It is greater than all earlier epochs.
    pub epoch: Epoch,
    /// All records that were committed before, in order.
    pub records: Vec<LogRecord>,
}

/// An epoch that this process has opened, before it has read the older epochs.
#[derive(Debug)]
pub struct OpenedEpoch {
    storage: JobStorage,
    writer: WriterToken,
    epoch: Epoch,
}

/// The position where replay begins, and the records before it.
pub(crate) struct Base {
    pub(crate) epoch: u64,
    /// The first log object of that epoch that the snapshot does not cover.
    pub(crate) seq: u64,
    pub(crate) parts: Vec<Part>,
}

impl Ledger {
    /// Opens the next epoch. From then on, this process competes only with later ones. After
    /// `Unavailable`, this function can be called again. It then opens another epoch.
    pub async fn open(
        storage: &JobStorage,
        writer: WriterToken,
    ) -> Result<OpenedEpoch, LedgerError> {
        let epoch = open_epoch(storage, &writer).await?;
        Ok(OpenedEpoch {
            storage: storage.clone(),
            writer,
            epoch,
        })
    }

    /// Opens the next epoch and takes over from all older ones.
    pub async fn take_over(
        storage: &JobStorage,
        writer: WriterToken,
    ) -> Result<TakeOver, LedgerError> {
        let opened = Self::open(storage, writer).await?;
        opened.take_over(MergePolicy::default()).await
    }
}

impl OpenedEpoch {
    /// Returns the epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Replays and seals all older epochs, and writes the first snapshot of this epoch. No task may
    /// be dispatched before this function has returned.
    pub async fn take_over(self, policy: MergePolicy) -> Result<TakeOver, LedgerError> {
        let Self {
            storage,
            writer,
            epoch,
        } = self;
        let base = find_base(&storage, epoch).await?;
        let mut records = read_parts(&storage, &base.parts).await?;
        let merged = records.len();
        for older in base.epoch..epoch.0 {
            let first = if older == base.epoch { base.seq } else { 0 };
            let older = Epoch(older);
            replay_and_seal(&storage, older, first, epoch, &writer, &mut records).await?;
        }
        let mut ledger = Ledger::opened(storage, epoch, writer, policy, base.parts);
        for chunk in records
            .get(merged..)
            .unwrap_or_default()
            .chunks(RECORDS_PER_PART)
        {
            let lines = Lines::of(chunk).map_err(|problem| LedgerError::Refused {
                object: format!("the log before epoch {epoch}"),
                problem,
            })?;
            ledger.put_part(&lines).await?;
        }
        ledger.put_snapshot().await?;
        Ok(TakeOver {
            ledger,
            epoch,
            records,
        })
    }
}

async fn open_epoch(storage: &JobStorage, writer: &WriterToken) -> Result<Epoch, LedgerError> {
    // The listing is only a starting point. The put of `open` decides which epoch this is.
    for number in newest_listed(storage).await? + 1..=MAX_EPOCHS {
        let epoch = Epoch(number);
        let location = storage
            .at(&format!("epochs/{epoch}/open"))
            .map_err(LedgerError::Address)?;
        let header = Header::new(Kind::Open, storage.job().as_str(), epoch, 0, writer, epoch);
        let bytes = Bytes::from(
            encode(header, &Lines::default()).map_err(|problem| refused(&location, problem))?,
        );
        match put_if_absent(storage.stores(), &location, bytes)
            .await
            .map_err(LedgerError::from_storage)?
        {
            Placed::Mine => return Ok(epoch),
            Placed::Theirs(found) => {
                expect(storage, &location, &found, epoch, 0, &[Kind::Open])?;
            }
        }
    }
    let location = storage.at("epochs").map_err(LedgerError::Address)?;
    Err(refused(
        &location,
        format!("there are more than {MAX_EPOCHS} epochs"),
    ))
}

pub(crate) async fn newest_listed(storage: &JobStorage) -> Result<u64, LedgerError> {
    let folder = storage.at("epochs").map_err(LedgerError::Address)?;
    let listed = list(storage, &folder).await?;
    let folders = listed
        .map(|listed| listed.common_prefixes)
        .unwrap_or_default();
    let newest = folders.iter().filter_map(number).max().unwrap_or(0);
    if newest > MAX_EPOCHS {
        let folder = folder
            .join(&newest.to_string())
            .map_err(LedgerError::Address)?;
        return Err(refused(
            &folder,
            format!("no job has more than {MAX_EPOCHS} epochs"),
        ));
    }
    Ok(newest)
}

/// Lists the contents of a folder. `None` if the folder does not exist, which can happen on a local
/// disk.
async fn list(storage: &JobStorage, folder: &Location) -> Result<Option<ListResult>, LedgerError> {
    let store = storage
        .stores()
        .open(folder)
        .map_err(LedgerError::from_storage)?
        .objects;
    let listed = persist(storage.stores(), "listing", folder, || {
        store.list_with_delimiter(Some(folder.path()))
    })
    .await;
    match listed {
        Ok(listed) => Ok(Some(listed)),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(LedgerError::from_storage(error)),
    }
}

/// Returns the last part of a path, if it is a number.
fn number(path: &Path) -> Option<u64> {
    path.filename()?.parse().ok()
}

/// Finds the newest snapshot of the newest older epoch that has a snapshot. If none has one,
/// returns the beginning of epoch 1.
pub(crate) async fn find_base(storage: &JobStorage, epoch: Epoch) -> Result<Base, LedgerError> {
    for older in (1..epoch.0).rev() {
        // Every snapshot is correct. If a listing omits the newest ones, only more objects have to
        // be read.
        for seq in listed_snapshots(storage, Epoch(older))
            .await?
            .into_iter()
            .rev()
        {
            let location = snapshot_object(storage, Epoch(older), seq)?;
            let Some(bytes) = look(storage, &location).await? else {
                continue;
            };
            let object = decode_snapshot(&bytes).map_err(|problem| refused(&location, problem))?;
            let kinds = &[Kind::Snapshot];
            check_header(storage, &location, &object.header, Epoch(older), seq, kinds)?;
            return Ok(Base {
                epoch: older,
                seq,
                parts: object.records,
            });
        }
    }
    Ok(Base {
        epoch: 1,
        seq: 0,
        parts: Vec::new(),
    })
}

/// Returns the positions of an epoch's snapshots from a listing, in order. The first snapshot is
/// always included.
async fn listed_snapshots(storage: &JobStorage, epoch: Epoch) -> Result<Vec<u64>, LedgerError> {
    let folder = storage
        .at(&format!("epochs/{epoch}/snapshots"))
        .map_err(LedgerError::Address)?;
    let listed = list(storage, &folder).await?;
    let objects = listed.map(|listed| listed.objects).unwrap_or_default();
    let mut positions: Vec<u64> = objects
        .iter()
        .filter_map(|object| number(&object.location))
        .collect();
    positions.push(0);
    positions.sort_unstable();
    positions.dedup();
    Ok(positions)
}

/// Reads all records of merged objects, in order.
pub(crate) async fn read_parts(
    storage: &JobStorage,
    parts: &[Part],
) -> Result<Vec<LogRecord>, LedgerError> {
    let mut records = Vec::new();
    // The numbers in a snapshot may be wrong, so they reserve only a limited amount of memory.
    let said = parts
        .iter()
        .fold(0_usize, |sum, part| sum.saturating_add(part.records));
    records.reserve_exact(said.min(MAX_RECORDS_RESERVED));
    let reads = futures::stream::iter(parts.to_vec())
        .map(|part| async move { read_part(storage, &part).await });
    let mut reads = std::pin::pin!(reads.buffered(PARTS_AHEAD));
    while let Some(part) = reads.try_next().await? {
        records.extend(part);
    }
    Ok(records)
}

/// Reads a merged object. If it is refused, reads it once more, because one of hundreds of objects
/// may be damaged in transit.
async fn read_part(storage: &JobStorage, part: &Part) -> Result<Vec<LogRecord>, LedgerError> {
    match read_part_once(storage, part).await {
        Err(LedgerError::Refused { .. }) => read_part_once(storage, part).await,
        read_or_away => read_or_away,
    }
}

async fn read_part_once(storage: &JobStorage, part: &Part) -> Result<Vec<LogRecord>, LedgerError> {
    let location = storage
        .at(&part.object)
        .map_err(|error| LedgerError::Refused {
            object: storage.root().to_string(),
            problem: format!("a snapshot names a merged object that cannot be one: {error}"),
        })?;
    let refuse = |problem: &str| refused(&location, problem.to_owned());
    let Some(bytes) = look(storage, &location).await? else {
        return Err(refuse("it is missing, and a snapshot names it"));
    };
    if crc32c::crc32c(&bytes) != part.crc32c {
        return Err(refuse(
            "it is not the object that the snapshot names: its checksum differs",
        ));
    }
    let decoded = if bytes.len() < DECODED_AT_ONCE_BYTES {
        decode(&bytes)
    } else {
        // Decoding takes about 50 ms. It runs on a separate thread, so that several objects are
        // decoded at the same time.
        tokio::task::spawn_blocking(move || decode(&bytes))
            .await
            .map_err(|died| refuse(&died.to_string()))?
    };
    let object = decoded.map_err(|problem| refuse(&problem))?;
    let is_ours = object.header.kind == Kind::Merged
        && object.header.job == storage.job().as_str()
        && object.records.len() == part.records;
    if is_ours {
        Ok(object.records)
    } else {
        Err(refuse(&described(&object.header)))
    }
}

async fn replay_and_seal(
    storage: &JobStorage,
    older: Epoch,
    first: u64,
    by: Epoch,
    writer: &WriterToken,
    records: &mut Vec<LogRecord>,
) -> Result<(), LedgerError> {
    let mut next = first;
    loop {
        // The objects are fetched ahead. The first one that does not exist ends the log.
        let ahead = futures::stream::iter(next..).map(|seq| async move {
            let location = log_object(storage, older, seq)?;
            look(storage, &location).await
        });
        let mut ahead = std::pin::pin!(ahead.buffered(LOG_OBJECTS_AHEAD));
        while let Some(found) = ahead.next().await {
            let Some(bytes) = found? else { break };
            let location = log_object(storage, older, next)?;
            if is_sealed(storage, &location, &bytes, older, next, records)? {
                return Ok(());
            }
            next += 1;
        }
        if is_missing(storage, older, next).await? {
            let location = log_object(storage, older, next)?;
            let problem = "it is missing, and the one after it exists";
            return Err(refused(&location, problem.to_owned()));
        }
        let location = log_object(storage, older, next)?;
        let header = Header::new(Kind::Seal, storage.job().as_str(), older, next, writer, by);
        let seal = Bytes::from(
            encode(header, &Lines::default()).map_err(|problem| refused(&location, problem))?,
        );
        match put_if_absent(storage.stores(), &location, seal)
            .await
            .map_err(LedgerError::from_storage)?
        {
            Placed::Mine => return Ok(()),
            // The older coordinator still runs and has put this object first, or another
            // coordinator has sealed the log.
            Placed::Theirs(bytes) => {
                if is_sealed(storage, &location, &bytes, older, next, records)? {
                    return Ok(());
                }
                next += 1;
            }
        }
    }
}

/// Whether a log object that was not found must have been lost. An object is put only after the
/// previous one exists. If both exist now, a coordinator that still runs has put them in the
/// meantime.
async fn is_missing(storage: &JobStorage, epoch: Epoch, seq: u64) -> Result<bool, LedgerError> {
    let there = async |seq| -> Result<bool, LedgerError> {
        let location = log_object(storage, epoch, seq)?;
        Ok(look(storage, &location).await?.is_some())
    };
    Ok(there(seq + 1).await? && !there(seq).await?)
}

/// Appends the records of a log object to `records`. Returns whether the object was the seal.
pub(crate) fn is_sealed(
    storage: &JobStorage,
    location: &Location,
    bytes: &[u8],
    epoch: Epoch,
    seq: u64,
    records: &mut Vec<LogRecord>,
) -> Result<bool, LedgerError> {
    let object = expect(
        storage,
        location,
        bytes,
        epoch,
        seq,
        &[Kind::Log, Kind::Seal],
    )?;
    records.extend(object.records);
    Ok(object.header.kind == Kind::Seal)
}

pub(crate) async fn look(
    storage: &JobStorage,
    location: &Location,
) -> Result<Option<Bytes>, LedgerError> {
    match fetch(storage.stores(), location).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.cause == Cause::NotFound => Ok(None),
        Err(error) => Err(LedgerError::from_storage(error)),
    }
}

/// Reads an object. It must be of this job, of this epoch and position, and of one of these kinds.
fn expect(
    storage: &JobStorage,
    location: &Location,
    bytes: &[u8],
    epoch: Epoch,
    seq: u64,
    kinds: &[Kind],
) -> Result<LedgerObject, LedgerError> {
    let object = decode(bytes).map_err(|problem| refused(location, problem))?;
    check_header(storage, location, &object.header, epoch, seq, kinds)?;
    Ok(object)
}

fn check_header(
    storage: &JobStorage,
    location: &Location,
    header: &Header,
    epoch: Epoch,
    seq: u64,
    kinds: &[Kind],
) -> Result<(), LedgerError> {
    let fits = header.job == storage.job().as_str()
        && header.epoch == epoch.0
        && header.seq == seq
        && kinds.contains(&header.kind);
    if fits {
        Ok(())
    } else {
        Err(refused(location, described(header)))
    }
}

fn described(header: &Header) -> String {
    format!(
        "it says that it is {:?} {} of epoch {} of job {}",
        header.kind, header.seq, header.epoch, header.job
    )
}
