//! A ledger object's bytes: one line with version and checksum, one line that says what it is, one line a record.
//!
//! ```text
//! zephyr-ledger 1 5a0d4e2c
//! {"kind":"log","job":"…","epoch":3,"seq":7,"writer":"…","records":2}
//! {"type":"done",…}
//! {"type":"stageFinished",…}
//! ```
//! The checksum (CRC-32C) is over everything after the first line. Opens nothing.

use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::record::StoredRecord;

/// The version this program writes, and the only one it reads.
const VERSION: u32 = 1;

const MAGIC: &str = "zephyr-ledger";

/// Tells one coordinator process's writes from another's: a number drawn at random when it started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterToken(String);

impl WriterToken {
    /// Takes a number that was drawn at random for this process and is used for no other.
    pub fn from_random(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// The epoch is taken.
    Open,
    /// A group commit.
    Log,
    /// The end of an epoch's log, written by a later epoch.
    Seal,
    /// All records before this epoch's log.
    Snapshot,
}

/// The second line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) job: String,
    /// The epoch in whose folder it lies.
    pub(crate) epoch: u64,
    /// Its position in the log; 0 where it is not of the log.
    pub(crate) seq: u64,
    pub(crate) writer: String,
    /// The epoch that wrote it: another one than `epoch` only for a seal.
    pub(crate) by: u64,
    pub(crate) records: usize,
}

impl Header {
    pub(crate) fn new(
        kind: Kind,
        job: &str,
        epoch: Epoch,
        seq: u64,
        writer: &WriterToken,
        by: Epoch,
    ) -> Self {
        Self {
            kind,
            job: job.to_owned(),
            epoch: epoch.0,
            seq,
            writer: writer.0.clone(),
            by: by.0,
            records: 0,
        }
    }
}

/// An object, read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LedgerObject {
    pub(crate) header: Header,
    pub(crate) records: Vec<LogRecord>,
}

pub(crate) fn encode(mut header: Header, records: &[LogRecord]) -> Result<Vec<u8>, String> {
    header.records = records.len();
    let mut body = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    body.push(b'\n');
    for record in records {
        serde_json::to_writer(&mut body, &StoredRecord::from(record)).map_err(|e| e.to_string())?;
        body.push(b'\n');
    }
    let mut bytes = format!("{MAGIC} {VERSION} {:08x}\n", crc32c::crc32c(&body)).into_bytes();
    bytes.extend(body);
    Ok(bytes)
}

/// Reads an object; the error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<LedgerObject, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let (first, body) = text.split_once('\n').ok_or("it has no first line")?;
    let [magic, version, checksum] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err("its first line is not one of a ledger".to_owned());
    };
    if magic != MAGIC {
        return Err("its first line is not one of a ledger".to_owned());
    }
    if version != VERSION.to_string() {
        return Err(format!(
            "it has version {version:?}; this program reads version {VERSION}"
        ));
    }
    if checksum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong: it is damaged".to_owned());
    }
    let mut lines = body.lines();
    let header: Header = serde_json::from_str(lines.next().unwrap_or_default())
        .map_err(|e| format!("its header cannot be read: {e}"))?;
    let records = lines.map(|line| {
        let stored: StoredRecord =
            serde_json::from_str(line).map_err(|e| format!("a record cannot be read: {e}"))?;
        Ok(LogRecord::from(stored))
    });
    let records: Vec<LogRecord> = records.collect::<Result<_, String>>()?;
    if records.len() != header.records {
        return Err(format!(
            "it has {} records and says {}",
            records.len(),
            header.records
        ));
    }
    Ok(LedgerObject { header, records })
}
