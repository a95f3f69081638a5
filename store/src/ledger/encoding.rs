//! Encodes and decodes the objects of a ledger. An object has one line with version and checksum,
//! one line with a header, and one line per record.
//!
//! ```text
//! zephyr-ledger 1 5a0d4e2c
//! {"kind":"log","job":"…","epoch":3,"seq":7,"writer":"…","records":2}
//! {"type":"done",…}
//! {"type":"stageFinished",…}
//! ```
//! The checksum (CRC-32C) covers everything after the first line. This module only converts bytes.
//! It opens no objects.

use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::record::StoredRecord;

/// The version that this program writes. It reads no other version.
const VERSION: u32 = 1;

const MAGIC: &str = "zephyr-ledger";

/// Distinguishes the writes of one coordinator process from those of other processes. It is a
/// random number that the process draws at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterToken(String);

impl WriterToken {
    /// Makes a token from a random number. The number must be used for this process only.
    pub fn from_random(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Says that the epoch is in use.
    Open,
    /// A group commit.
    Log,
    /// The end of an epoch's log. A later epoch writes it.
    Seal,
    /// The records of many log objects, in order.
    Merged,
    /// The merged objects that hold all records before a position of this epoch's log.
    Snapshot,
}

/// The second line: the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// The kind of the object.
    pub kind: Kind,
    /// The uid of the job.
    pub job: String,
    /// The epoch whose folder contains it.
    pub epoch: u64,
    /// A number that depends on the kind of object. Log object: its position. Snapshot: the
    /// position of the first log object that it does not cover. Merged object: its number.
    /// Otherwise 0.
    pub seq: u64,
    /// The token of the process that wrote the object.
    pub writer: String,
    /// The epoch that wrote the object. It differs from `epoch` only for a seal.
    pub by: u64,
    /// How many lines follow.
    pub records: usize,
}

/// The description of a merged object in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// The path of the merged object under the job's folder.
    pub object: String,
    /// How many records it holds.
    pub records: usize,
    /// The CRC-32C of all bytes of the merged object.
    pub crc32c: u32,
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

/// An object that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerObject<T = LogRecord> {
    /// The header of the object.
    pub header: Header,
    /// The records of the object, in order.
    pub records: Vec<T>,
}

/// Encoded records. The lines of several objects can be joined into one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) text: Vec<u8>,
    pub(crate) count: usize,
}

impl Lines {
    pub(crate) fn of(records: &[LogRecord]) -> Result<Self, String> {
        let mut lines = Self::default();
        for record in records {
            lines.push(&StoredRecord::from(record))?;
        }
        Ok(lines)
    }

    pub(crate) fn of_parts(parts: &[Part]) -> Result<Self, String> {
        let mut lines = Self::default();
        for part in parts {
            lines.push(part)?;
        }
        Ok(lines)
    }

    fn push(&mut self, line: &impl Serialize) -> Result<(), String> {
        serde_json::to_writer(&mut self.text, line).map_err(|e| e.to_string())?;
        self.text.push(b'\n');
        self.count += 1;
        Ok(())
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.text.extend_from_slice(&more.text);
        self.count += more.count;
    }
}

pub(crate) fn encode(mut header: Header, lines: &Lines) -> Result<Vec<u8>, String> {
    header.records = lines.count;
    let mut head = serde_json::to_vec(&header).map_err(|e| e.to_string())?;
    head.push(b'\n');
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&head), &lines.text);
    let mut bytes = format!("{MAGIC} {VERSION} {checksum:08x}\n").into_bytes();
    bytes.reserve_exact(head.len() + lines.text.len());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&lines.text);
    Ok(bytes)
}

/// Reads an object of records. The error says what is wrong with the object.
pub fn decode(bytes: &[u8]) -> Result<LedgerObject, String> {
    decode_as(bytes, |stored: StoredRecord| LogRecord::try_from(stored))
}

/// Reads a snapshot.
pub fn decode_snapshot(bytes: &[u8]) -> Result<LedgerObject<Part>, String> {
    decode_as(bytes, |part: Part| Ok(part))
}

fn decode_as<S: for<'a> Deserialize<'a>, T>(
    bytes: &[u8],
    convert: impl Fn(S) -> Result<T, String>,
) -> Result<LedgerObject<T>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let (first, body) = text.split_once('\n').ok_or("it has no first line")?;
    let [magic, version, checksum] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err("its first line is not that of a ledger object".to_owned());
    };
    if magic != MAGIC {
        return Err("its first line is not that of a ledger object".to_owned());
    }
    if version != VERSION.to_string() {
        return Err(format!(
            "it has version {version:?}; this program reads version {VERSION}"
        ));
    }
    if checksum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong: it is damaged".to_owned());
    }
    let (first, body) = body.split_once('\n').ok_or("it has no header")?;
    let header: Header =
        serde_json::from_str(first).map_err(|e| format!("its header cannot be read: {e}"))?;
    // The number of records comes from the object itself and may be wrong.
    let mut records = Vec::with_capacity(header.records.min(body.len()));
    for line in body.lines() {
        let stored: S =
            serde_json::from_str(line).map_err(|e| format!("a record cannot be read: {e}"))?;
        records.push(convert(stored)?);
    }
    if records.len() != header.records {
        return Err(format!(
            "it has {} records, but its header says {}",
            records.len(),
            header.records
        ));
    }
    Ok(LedgerObject { header, records })
}
