//! One coordinator's log: group commits, one object each, one under way at a time.

use bytes::Bytes;
use zephyr_engine::coordinator::record::LogRecord;
use zephyr_engine::id::Epoch;

use crate::ledger::LedgerError;
use crate::ledger::encoding::{Header, Kind, WriterToken, decode, encode};
use crate::storage::{JobStorage, Location, Placed, put_if_absent};

/// The log of the epoch that this process opened. Made by [`Ledger::take_over`].
#[derive(Debug)]
pub struct Ledger {
    storage: JobStorage,
    epoch: Epoch,
    writer: WriterToken,
    next: u64,
    /// The object of an append whose fate is not known.
    in_doubt: Option<Bytes>,
}

impl Ledger {
    pub(crate) fn opened(storage: JobStorage, epoch: Epoch, writer: WriterToken) -> Self {
        Self {
            storage,
            epoch,
            writer,
            next: 0,
            in_doubt: None,
        }
    }

    /// The epoch this process opened.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Puts records into the log as one object. `Ok` means that every later coordinator will see them. After
    /// `Unavailable` the same records have to be appended again, which finds out what became of them.
    pub async fn append(&mut self, records: &[LogRecord]) -> Result<(), LedgerError> {
        if records.is_empty() {
            return Ok(());
        }
        let location = log_object(&self.storage, self.epoch, self.next)?;
        let header = Header::new(
            Kind::Log,
            self.storage.job().as_str(),
            self.epoch,
            self.next,
            &self.writer,
            self.epoch,
        );
        let bytes =
            Bytes::from(encode(header, records).map_err(|problem| refused(&location, problem))?);
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
                Ok(())
            }
            Placed::Theirs(found) => {
                let found = decode(&found).map_err(|problem| refused(&location, problem))?;
                match found.header.kind {
                    Kind::Seal => Err(LedgerError::Fenced {
                        by: Epoch(found.header.by),
                    }),
                    Kind::Open | Kind::Log | Kind::Snapshot => Err(refused(
                        &location,
                        "another process wrote into this epoch's log".to_owned(),
                    )),
                }
            }
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

pub(crate) fn refused(location: &Location, problem: String) -> LedgerError {
    LedgerError::Refused {
        object: location.to_string(),
        problem,
    }
}
