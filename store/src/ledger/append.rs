//! Writes the log of one coordinator. Each group commit is one object, and these objects are
//! written one after the other. The log is merged from time to time, so that the next coordinator
//! reads few objects.

use bytes::Bytes;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::LedgerError;
use crate::ledger::encoding::{Header, Kind, Lines, Part, WriterToken, decode, encode};
use crate::storage::{JobStorage, Location, Placed, put_if_absent};

/// When the log is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergePolicy {
    /// The log is merged after this many log objects. The next coordinator reads at most this
    /// number of objects one by one.
    pub objects: u64,
    /// The log is merged after this many bytes of records. These records are kept in memory until
    /// then.
    pub bytes: usize,
}

impl Default for MergePolicy {
    /// A thousand objects are fetched within two seconds, because sixteen are fetched at a time and
    /// each takes about 20 ms. Eight megabytes hold about 25,000 commits of tasks, so a million
    /// tasks need 40 merged objects.
    fn default() -> Self {
        Self {
            objects: 1_000,
            bytes: 8 << 20,
        }
    }
}

/// The log of the epoch that this process opened. [`Ledger::take_over`] makes it.
#[derive(Debug)]
pub struct Ledger {
    storage: JobStorage,
    epoch: Epoch,
    writer: WriterToken,
    policy: MergePolicy,
    next: u64,
    /// The object of an append whose result is not known.
    in_doubt: Option<Bytes>,
    /// All merged objects, from the beginning of the job.
    parts: Vec<Part>,
    /// How many names were used for merged objects of this epoch.
    merges: u64,
    unmerged: Lines,
    unmerged_objects: u64,
}

impl Ledger {
    /// Makes an empty log that follows `parts`.
    pub(crate) fn opened(
        storage: JobStorage,
        epoch: Epoch,
        writer: WriterToken,
        policy: MergePolicy,
        parts: Vec<Part>,
    ) -> Self {
        Self {
            storage,
            epoch,
            writer,
            policy,
            next: 0,
            in_doubt: None,
            parts,
            merges: 0,
            unmerged: Lines::default(),
            unmerged_objects: 0,
        }
    }

    /// Returns the epoch that this process opened.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Puts records into the log as one object. `Ok` means that every later coordinator will see
    /// them. After `Unavailable`, the same records must be appended again. This determines the
    /// result of the first call.
    pub async fn append(&mut self, records: &[LogRecord]) -> Result<(), LedgerError> {
        if records.is_empty() {
            return Ok(());
        }
        let location = log_object(&self.storage, self.epoch, self.next)?;
        let lines = Lines::of(records).map_err(|problem| refused(&location, problem))?;
        let header = self.header(Kind::Log, self.next);
        let bytes =
            Bytes::from(encode(header, &lines).map_err(|problem| refused(&location, problem))?);
        if self
            .in_doubt
            .as_ref()
            .is_some_and(|earlier| *earlier != bytes)
        {
            return Err(LedgerError::InDoubt);
        }
        self.in_doubt = Some(bytes.clone());
        match put_if_absent(self.storage.stores(), &location, bytes)
            .await
            .map_err(LedgerError::from_storage)?
        {
            Placed::Mine => {
                self.in_doubt = None;
                self.next += 1;
                self.unmerged.extend(&lines);
                self.unmerged_objects += 1;
                self.merge_if_due().await;
                Ok(())
            }
            Placed::Theirs(found) => {
                let found = decode(&found).map_err(|problem| refused(&location, problem))?;
                match found.header.kind {
                    Kind::Seal => Err(LedgerError::Fenced {
                        by: Epoch(found.header.by),
                    }),
                    Kind::Open | Kind::Log | Kind::Merged | Kind::Snapshot => Err(refused(
                        &location,
                        "another process wrote into this epoch's log".to_owned(),
                    )),
                }
            }
        }
    }

    fn header(&self, kind: Kind, seq: u64) -> Header {
        let job = self.storage.job().as_str();
        Header::new(kind, job, self.epoch, seq, &self.writer, self.epoch)
    }

    /// Merges the log if it is due. A failure is only logged. The next coordinator then reads more
    /// objects, unless a later merge succeeds.
    async fn merge_if_due(&mut self) {
        let is_due = self.unmerged_objects >= self.policy.objects
            || self.unmerged.text.len() >= self.policy.bytes;
        if !is_due {
            return;
        }
        if let Err(error) = self.merge().await {
            tracing::warn!(%error, "cannot merge the log; a successor will have more to read");
        }
    }

    async fn merge(&mut self) -> Result<(), LedgerError> {
        let lines = self.unmerged.clone();
        self.put_part(&lines).await?;
        self.unmerged = Lines::default();
        self.unmerged_objects = 0;
        self.put_snapshot().await
    }

    /// Puts the records that follow those of all parts into a new object.
    pub(crate) async fn put_part(&mut self, lines: &Lines) -> Result<(), LedgerError> {
        let name = format!("epochs/{}/merged/{}", self.epoch, self.merges);
        let location = self.storage.at(&name).map_err(LedgerError::Address)?;
        let header = self.header(Kind::Merged, self.merges);
        // A put that failed may have been carried out, so its name is not used again.
        self.merges += 1;
        let bytes =
            Bytes::from(encode(header, lines).map_err(|problem| refused(&location, problem))?);
        let part = Part {
            object: name,
            records: lines.count,
            crc32c: crc32c::crc32c(&bytes),
        };
        self.put_own(&location, bytes).await?;
        self.parts.push(part);
        Ok(())
    }

    /// Writes a snapshot, which says where the next coordinator finds all records up to this point.
    pub(crate) async fn put_snapshot(&self) -> Result<(), LedgerError> {
        let location = snapshot_object(&self.storage, self.epoch, self.next)?;
        let lines = Lines::of_parts(&self.parts).map_err(|problem| refused(&location, problem))?;
        let header = self.header(Kind::Snapshot, self.next);
        let bytes =
            Bytes::from(encode(header, &lines).map_err(|problem| refused(&location, problem))?);
        self.put_own(&location, bytes).await
    }

    async fn put_own(&self, location: &Location, bytes: Bytes) -> Result<(), LedgerError> {
        match put_if_absent(self.storage.stores(), location, bytes)
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
}

pub(crate) fn log_object(
    storage: &JobStorage,
    epoch: Epoch,
    seq: u64,
) -> Result<Location, LedgerError> {
    storage
        .at(&format!("epochs/{epoch}/log/{seq}"))
        .map_err(LedgerError::Address)
}

/// Returns the bytes of a snapshot that covers everything before log object `seq` of `epoch`.
pub(crate) fn snapshot_object(
    storage: &JobStorage,
    epoch: Epoch,
    seq: u64,
) -> Result<Location, LedgerError> {
    storage
        .at(&format!("epochs/{epoch}/snapshots/{seq}"))
        .map_err(LedgerError::Address)
}

pub(crate) fn refused(location: &Location, problem: String) -> LedgerError {
    LedgerError::Refused {
        object: location.to_string(),
        problem,
    }
}
