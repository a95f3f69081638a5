//! Reads a ledger without taking it over, for tests and tools. This module opens no epoch, seals
//! nothing and writes nothing. A coordinator may append records at the same time, so the result may
//! be out of date.

use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::LedgerError;
use crate::ledger::append::log_object;
use crate::ledger::encoding::{Kind, Lines, decode};
use crate::ledger::take_over::{find_base, is_sealed, look, newest_listed, read_parts};
use crate::storage::JobStorage;

/// Returns the newest epoch, and the records with which a coordinator that takes over now would
/// begin. The epoch is 0 if none was opened yet.
pub async fn inspect(storage: &JobStorage) -> Result<(Epoch, Vec<LogRecord>), LedgerError> {
    let newest = Epoch(newest_listed(storage).await?);
    if newest.0 == 0 {
        return Ok((newest, Vec::new()));
    }
    let base = find_base(storage, Epoch(newest.0 + 1)).await?;
    let mut records = read_parts(storage, &base.parts).await?;
    for epoch in (base.epoch..=newest.0).map(Epoch) {
        let first = if epoch.0 == base.epoch { base.seq } else { 0 };
        for seq in first.. {
            let location = log_object(storage, epoch, seq)?;
            let Some(bytes) = look(storage, &location).await? else {
                break;
            };
            if is_sealed(storage, &location, &bytes, epoch, seq, &mut records)? {
                break;
            }
        }
    }
    Ok((newest, records))
}

/// The newest epoch in a listing. 0 if none was opened yet.
pub async fn newest_epoch(storage: &JobStorage) -> Result<Epoch, LedgerError> {
    newest_listed(storage).await.map(Epoch)
}

/// Records as lines of JSON, as the ledger has them.
pub fn as_lines(records: &[LogRecord]) -> Result<Vec<u8>, String> {
    Ok(Lines::of(records)?.text)
}

/// Whether an epoch was opened by a coordinator of this job.
pub async fn is_opened(storage: &JobStorage, epoch: Epoch) -> Result<bool, LedgerError> {
    let location = storage
        .at(&format!("epochs/{epoch}/open"))
        .map_err(LedgerError::Address)?;
    let Some(bytes) = look(storage, &location).await? else {
        return Ok(false);
    };
    Ok(decode(&bytes).is_ok_and(|object| {
        object.header.kind == Kind::Open && object.header.job == storage.job().as_str()
    }))
}
