//! How a starting coordinator becomes the only one: open an epoch, read what was, end every older log, say what was read.
//!
//! A commit of an older coordinator is either read here or, its log being sealed, never acknowledged. The base is the
//! newest older epoch with a snapshot; an epoch that died before its snapshot harms nobody.

use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStore;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::append::{log_object, refused};
use crate::ledger::encoding::{Header, Kind, LedgerObject, WriterToken, decode, encode};
use crate::ledger::{Ledger, LedgerError};
use crate::storage::{Cause, JobStorage, Location, Placed, fetch, persist, put_if_absent};

/// Log objects fetched ahead of the one that is replayed: the log of a large job is thousands of objects.
const LOG_OBJECTS_AHEAD: usize = 16;

/// The most epochs a job can have: a coordinator that restarted once a minute for two years.
const EPOCHS_MAX: u64 = 1_000_000;

/// What a coordinator begins with.
#[derive(Debug)]
pub struct TakeOver {
    /// Its own log, empty.
    pub ledger: Ledger,
    /// Its epoch, greater than all before.
    pub epoch: Epoch,
    /// All that was committed before, in order.
    pub records: Vec<LogRecord>,
}

impl Ledger {
    /// Opens the next epoch, replays and seals all older ones, and writes this epoch's snapshot. Only after that may
    /// anything be dispatched. After `Unavailable` it can be called again; that opens a further epoch.
    pub async fn take_over(
        storage: &JobStorage,
        writer: WriterToken,
    ) -> Result<TakeOver, LedgerError> {
        let epoch = open_epoch(storage, &writer).await?;
        let (base, mut records) = find_base(storage, epoch).await?;
        for older in base..epoch.0 {
            replay_and_seal(storage, Epoch(older), epoch, &writer, &mut records).await?;
        }
        let location = snapshot_object(storage, epoch)?;
        put_own(
            storage,
            &location,
            Header::new(
                Kind::Snapshot,
                storage.job().as_str(),
                epoch,
                0,
                &writer,
                epoch,
            ),
            &records,
        )
        .await?;
        Ok(TakeOver {
            ledger: Self::opened(storage.clone(), epoch, writer),
            epoch,
            records,
        })
    }
}

async fn open_epoch(storage: &JobStorage, writer: &WriterToken) -> Result<Epoch, LedgerError> {
    // The listing is only where to begin: what decides is who puts `open` first.
    for number in newest_listed(storage).await? + 1..=EPOCHS_MAX {
        let epoch = Epoch(number);
        let location = storage
            .at(&format!("epochs/{epoch}/open"))
            .map_err(LedgerError::Address)?;
        let header = Header::new(Kind::Open, storage.job().as_str(), epoch, 0, writer, epoch);
        let bytes =
            Bytes::from(encode(header, &[]).map_err(|problem| refused(&location, problem))?);
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
        format!("there are more than {EPOCHS_MAX} epochs"),
    ))
}

pub(crate) async fn newest_listed(storage: &JobStorage) -> Result<u64, LedgerError> {
    let folder = storage.at("epochs").map_err(LedgerError::Address)?;
    let store = storage
        .stores()
        .open(&folder)
        .map_err(LedgerError::from_storage)?
        .objects;
    let listed = persist(storage.stores(), "listing", &folder, || {
        store.list_with_delimiter(Some(folder.path()))
    })
    .await;
    let prefixes = match listed {
        Ok(listed) => listed.common_prefixes,
        // A local folder that was not made yet.
        Err(error) if error.cause == Cause::NotFound => Vec::new(),
        Err(error) => return Err(LedgerError::from_storage(error)),
    };
    let numbers = prefixes
        .iter()
        .filter_map(|prefix| prefix.filename()?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or(0))
}

/// The newest older epoch with a snapshot, with its records; epoch 1 and none where no epoch has one.
pub(crate) async fn find_base(
    storage: &JobStorage,
    epoch: Epoch,
) -> Result<(u64, Vec<LogRecord>), LedgerError> {
    for older in (1..epoch.0).rev() {
        let location = snapshot_object(storage, Epoch(older))?;
        if let Some(bytes) = look(storage, &location).await? {
            let snapshot = expect(
                storage,
                &location,
                &bytes,
                Epoch(older),
                0,
                &[Kind::Snapshot],
            )?;
            return Ok((older, snapshot.records));
        }
    }
    Ok((1, Vec::new()))
}

async fn replay_and_seal(
    storage: &JobStorage,
    older: Epoch,
    by: Epoch,
    writer: &WriterToken,
    records: &mut Vec<LogRecord>,
) -> Result<(), LedgerError> {
    let mut next = 0;
    loop {
        // What was there when it was looked for; the first gap ends it.
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
        let location = log_object(storage, older, next)?;
        let header = Header::new(Kind::Seal, storage.job().as_str(), older, next, writer, by);
        let seal = Bytes::from(encode(header, &[]).map_err(|problem| refused(&location, problem))?);
        match put_if_absent(storage.stores(), &location, seal)
            .await
            .map_err(LedgerError::from_storage)?
        {
            Placed::Mine => return Ok(()),
            // The older coordinator still lives and was faster, or another one has sealed.
            Placed::Theirs(bytes) => {
                if is_sealed(storage, &location, &bytes, older, next, records)? {
                    return Ok(());
                }
                next += 1;
            }
        }
    }
}

/// Takes a log object's records; whether it was the seal.
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

async fn put_own(
    storage: &JobStorage,
    location: &Location,
    header: Header,
    records: &[LogRecord],
) -> Result<(), LedgerError> {
    let bytes = Bytes::from(encode(header, records).map_err(|problem| refused(location, problem))?);
    match put_if_absent(storage.stores(), location, bytes)
        .await
        .map_err(LedgerError::from_storage)?
    {
        Placed::Mine => Ok(()),
        Placed::Theirs(_) => Err(refused(
            location,
            "another process wrote into this epoch".to_owned(),
        )),
    }
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

/// Reads an object that must be this job's, of this epoch and place, and of one of these kinds.
fn expect(
    storage: &JobStorage,
    location: &Location,
    bytes: &[u8],
    epoch: Epoch,
    seq: u64,
    kinds: &[Kind],
) -> Result<LedgerObject, LedgerError> {
    let object = decode(bytes).map_err(|problem| refused(location, problem))?;
    let header = &object.header;
    let fits = header.job == storage.job().as_str()
        && header.epoch == epoch.0
        && header.seq == seq
        && kinds.contains(&header.kind);
    if !fits {
        return Err(refused(
            location,
            format!(
                "it says that it is {:?} {} of epoch {} of job {}",
                header.kind, header.seq, header.epoch, header.job
            ),
        ));
    }
    Ok(object)
}

fn snapshot_object(storage: &JobStorage, epoch: Epoch) -> Result<Location, LedgerError> {
    storage
        .at(&format!("epochs/{epoch}/snapshot-0"))
        .map_err(LedgerError::Address)
}
