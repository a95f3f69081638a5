//! Knows the contents of the ledger at any moment, and checks the conditions that must hold. It
//! reads each object when the object is put. This module puts nothing, and does not ask
//! coordinators.

use std::collections::{BTreeMap, BTreeSet};

use zephyr_engine::coordinator::record::LogRecord;

use zephyr_store::ledger::{Kind, decode, decode_snapshot};

/// One epoch as stored.
#[derive(Default)]
struct EpochBook {
    writer: String,
    log: Vec<Vec<LogRecord>>,
    /// The epoch of the coordinator that wrote the seal. `None` if there is no seal.
    sealed: Option<u64>,
}

/// The whole ledger.
#[derive(Default)]
pub(super) struct LedgerBook {
    epochs: BTreeMap<u64, EpochBook>,
    /// How many records each merged object contains.
    merged: BTreeMap<String, usize>,
    /// The epochs that have a snapshot, which says where all earlier records are.
    based: BTreeSet<u64>,
    /// The epoch of the last take-over, and the records that it replayed. The records of every
    /// later take-over must begin with them.
    replayed: (u64, Vec<LogRecord>),
}

impl LedgerBook {
    /// Checks and stores an object of the ledger, and ignores other objects. Returns the error in
    /// the object, if there is one.
    pub(super) fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let Some((_, path)) = path.split_once("/epochs/") else {
            return Ok(());
        };
        let parts: Vec<&str> = path.split('/').collect();
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("{path}: no number"))
        };
        match parts[..] {
            [epoch, "open"] => {
                let open = decode(bytes)?;
                let book = EpochBook {
                    writer: open.header.writer,
                    ..EpochBook::default()
                };
                match self.epochs.insert(number(epoch)?, book) {
                    None => Ok(()),
                    Some(_) => Err(format!("epoch {epoch} is opened twice")),
                }
            }
            [epoch, "log", seq] => self.put_log(number(epoch)?, number(seq)?, bytes),
            [_, "merged", _] => {
                let object = decode(bytes)?;
                self.merged
                    .insert(format!("epochs/{path}"), object.records.len());
                Ok(())
            }
            [epoch, "snapshots", seq] => self.put_snapshot(number(epoch)?, number(seq)?, bytes),
            _ => Err(format!("{path} is no object of a ledger")),
        }
    }

    fn put_log(&mut self, epoch: u64, seq: u64, bytes: &[u8]) -> Result<(), String> {
        let object = decode(bytes)?;
        let book = self.epochs.get_mut(&epoch);
        let book = book.ok_or_else(|| format!("epoch {epoch} has a log and is not open"))?;
        if let Some(by) = book.sealed {
            return Err(format!(
                "epoch {epoch} was sealed by {by}, and {seq} is put into its log"
            ));
        }
        if seq != book.log.len() as u64 {
            return Err(format!("log object {seq} of epoch {epoch} leaves a gap"));
        }
        match object.header.kind {
            Kind::Seal => book.sealed = Some(object.header.by),
            Kind::Log if object.header.writer == book.writer => book.log.push(object.records),
            Kind::Log | Kind::Open | Kind::Merged | Kind::Snapshot => {
                return Err(format!(
                    "epoch {epoch} has a second writer, or {seq} is no log"
                ));
            }
        }
        Ok(())
    }

    /// Checks that a snapshot is complete when it becomes visible: its merged objects exist, and
    /// contain all earlier records.
    fn put_snapshot(&mut self, epoch: u64, seq: u64, bytes: &[u8]) -> Result<(), String> {
        let mut named = 0;
        for part in decode_snapshot(bytes)?.records {
            match self.merged.get(&part.object) {
                Some(records) if *records == part.records => named += part.records,
                Some(_) | None => {
                    return Err(format!(
                        "snapshot {seq} of epoch {epoch} names {}, which is not there",
                        part.object
                    ));
                }
            }
        }
        let own = self.epochs.get(&epoch).map_or(0, |book| {
            let before = usize::try_from(seq).unwrap_or(usize::MAX);
            book.log.iter().take(before).map(Vec::len).sum()
        });
        let wanted = self.before(epoch).count() + own;
        if named == wanted {
            self.based.insert(epoch);
            Ok(())
        } else {
            Err(format!(
                "snapshot {seq} of epoch {epoch} holds {named} records of {wanted}"
            ))
        }
    }

    /// Returns all records of epochs before this one.
    pub(super) fn before(&self, epoch: u64) -> impl Iterator<Item = &LogRecord> {
        let older = self.epochs.range(..epoch);
        older.flat_map(|(_, book)| book.log.iter().flatten())
    }

    /// Returns all records of epochs up to this one.
    pub(super) fn known_to(&self, epoch: u64) -> impl Iterator<Item = &LogRecord> {
        self.before(epoch + 1)
    }

    /// Returns all records.
    pub(super) fn all(&self) -> impl Iterator<Item = &LogRecord> {
        self.before(u64::MAX)
    }

    /// Returns an error if this epoch may not dispatch yet: all earlier epochs must be sealed, and
    /// its snapshot must exist.
    pub(super) fn expect_taken_over(&self, epoch: u64) -> Result<(), String> {
        if !self.based.contains(&epoch) {
            return Err(format!("epoch {epoch} acts and has no snapshot"));
        }
        match self
            .epochs
            .range(..epoch)
            .find(|(_, book)| book.sealed.is_none())
        {
            Some((older, _)) => Err(format!(
                "epoch {epoch} has taken over, and epoch {older} is not sealed"
            )),
            None => Ok(()),
        }
    }

    /// Checks the records with which a coordinator's epoch begins.
    pub(super) fn took_over(&mut self, epoch: u64, records: &[LogRecord]) -> Result<(), String> {
        self.expect_taken_over(epoch)?;
        let expected: Vec<&LogRecord> = self.before(epoch).collect();
        if expected != records.iter().collect::<Vec<_>>() {
            return Err(format!(
                "epoch {epoch} replays {} records, and {} stand in the logs before it",
                records.len(),
                expected.len()
            ));
        }
        let (last, replayed) = &self.replayed;
        let (longer, shorter) = if *last < epoch {
            (records, &replayed[..])
        } else {
            (&replayed[..], records)
        };
        if !longer.starts_with(shorter) {
            return Err(format!(
                "the replays of epochs {last} and {epoch} contradict each other"
            ));
        }
        if *last < epoch {
            self.replayed = (epoch, records.to_vec());
        }
        Ok(())
    }

    /// Checks records that a coordinator reports as durable: they must be in the log of its own
    /// epoch.
    pub(super) fn acknowledged(&self, epoch: u64, records: &[LogRecord]) -> Result<(), String> {
        let book = self.epochs.get(&epoch);
        let log = book.map(|book| &book.log[..]).unwrap_or_default();
        if log.iter().any(|object| object == records) {
            Ok(())
        } else {
            Err(format!(
                "epoch {epoch} acknowledges {} records that are not in its log",
                records.len()
            ))
        }
    }

    pub(super) fn epochs(&self) -> usize {
        self.epochs.len()
    }
}
