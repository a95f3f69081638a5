//! The bytes of a ledger object: one line with version and checksum, one line with a header, one
//! line per record.
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

/// Distinguishes the writes of one coordinator process from those of others: a random number drawn
/// at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterToken(String);

impl WriterToken {
    /// Takes a random number that was drawn for this process and is used for no other.
    pub fn from_random(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The epoch is in use.
    Open,
    /// A group commit.
    Log,
    /// The end of an epoch's log, written by a later epoch.
    Seal,
    /// Records of many log objects, in order.
    Merged,
    /// The merged objects that hold all records before a position of this epoch's log.
    Snapshot,
}

/// The second line: the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Header {
    /// What the object is.
    pub kind: Kind,
    /// Uid of the job.
    pub job: String,
    /// The epoch whose folder contains it.
    pub epoch: u64,
    /// A number that depends on the kind of object. Log object: its position. Snapshot: the
    /// position of the first log object that it does not cover. Merged object: its number.
    /// Otherwise 0.
    pub seq: u64,
    /// Token of the process that wrote it.
    pub writer: String,
    /// The epoch that wrote it. It differs from `epoch` only for a seal.
    pub by: u64,
    /// Number of lines that follow.
    pub records: usize,
}

/// A merged object, as a snapshot names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// Its path under the job's folder.
    pub object: String,
    /// How many records it holds.
    pub records: usize,
    /// CRC-32C of all its bytes.
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

/// An object, read.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerObject<T = LogRecord> {
    /// What the object says of itself.
    pub header: Header,
    /// What it holds, in order.
    pub records: Vec<T>,
}

/// Records as lines. The lines of several objects can be joined into one object.
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

/// Reads an object of records; the error says what is wrong with it.
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
    // The number comes from the object itself and may be wrong.
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
