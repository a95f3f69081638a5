//! The archive of a suspended job: what another cluster needs to continue it. It is a tar archive,
//! compressed with zstd, with `export.json`, `job.json`, `plan.json`, `ledger.jsonl` and
//! `history.json`. The job continues from the ledger in the store, not from the copy in the
//! archive. The archive says in which state the ledger was, so that nobody continues a job that has
//! run since. This module changes no ledger.

mod tar;

use std::io::{self, Write as _};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;
use zephyr_engine::coordinator::record::{LogRecord, has_tasks, result_of};

use crate::ledger::{LedgerError, Owner, inspect, load_plan, read_moves};
use crate::storage::{JobStorage, Location, Placed, StorageError, fetch, put_if_absent, size_of};

/// The version that this program writes. It reads no other version.
const VERSION: u32 = 1;

/// How many bytes an archive may have. The records of ten million tasks have about this many.
pub const MAX_ARCHIVE_BYTES: u64 = 256 << 20;

/// How many bytes `export.json` may have. It has no lists.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// How many bytes `job.json` may have. The API server stores no larger object.
const MAX_JOB_BYTES: usize = 2 << 20;

/// The compression level of an archive. It is the default of zstd.
const LEVEL: i32 = 3;

/// What an archive says about its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The version of the archive.
    pub version: u32,
    /// The uid in the name of the job's folder.
    pub job: String,
    /// The job that was exported.
    pub owner: Owner,
    /// `spec.storage.uri`.
    pub storage: String,
    /// How often the folder was moved before.
    pub moves: u32,
    /// How many generation numbers were used in the folder.
    pub generations: u32,
    /// The newest epoch of the ledger.
    pub epoch: u64,
    /// The number of records in the ledger.
    pub records: u64,
    /// The digest of the plan.
    pub plan_digest: String,
    /// How many records say that a task is complete.
    pub committed: u64,
}

/// The parts of an archive that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What it says about its job.
    pub head: Head,
    /// The manifest of the job.
    pub job: Vec<u8>,
}

/// An archive that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// What it says about its job.
    pub head: Head,
    /// The digest of the bytes.
    pub digest: String,
    /// The archive.
    pub bytes: Bytes,
}

/// What only the job's object knows.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The job.
    pub owner: Owner,
    /// The generation that ran last.
    pub generation: u32,
    /// Its manifest, as JSON.
    pub manifest: Vec<u8>,
    /// Its history, as JSON.
    pub history: Vec<u8>,
}

/// Why no archive was made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger cannot be read.
    #[error("read the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The plan cannot be read, or the archive cannot be written.
    #[error("{0}")]
    Store(#[from] StorageError),
    /// The archive cannot be compressed.
    #[error("write the archive: {0}")]
    Write(#[from] io::Error),
    /// Another job continues this one.
    #[error("the job was moved to {0}; export that job")]
    Moved(Owner),
    /// There is no plan yet.
    #[error(
        "the job has no plan yet, so there is nothing to continue; create a new job from its manifest"
    )]
    NotBegun,
    /// The ledger ends with the failure of the job, which was restarted and has not run since.
    #[error(
        "the job has failed and was restarted, but has not run since; resume it, and suspend it again when it runs"
    )]
    NotRestarted,
    /// A damaged object has the name of this archive.
    #[error("{0} is damaged; remove it, and export the job again")]
    Damaged(Location),
    /// The archive would be too large.
    #[error("the archive has {0} bytes; at most {MAX_ARCHIVE_BYTES}")]
    TooLarge(usize),
}

/// Reads the ledger of a suspended job, and makes its archive. Writes nothing.
pub async fn export(storage: &JobStorage, of: Exported) -> Result<Made, ExportError> {
    let moves = read_moves(storage).await?;
    let last = moves.last();
    let owner = last.map_or(storage.job().as_str(), |last| last.to.uid.as_str());
    if owner != of.owner.uid {
        return match last {
            Some(last) => Err(ExportError::Moved(last.to.clone())),
            // The job was to continue another one, and has not begun.
            None => Err(ExportError::NotBegun),
        };
    }
    let (epoch, records) = inspect(storage).await?;
    let Some(plan) = load_plan(storage, has_tasks(&records)).await? else {
        return Err(ExportError::NotBegun);
    };
    if result_of(&records).is_some() {
        return Err(ExportError::NotRestarted);
    }
    let is_done = |record: &&LogRecord| matches!(record, LogRecord::Done { .. });
    let head = Head {
        version: VERSION,
        job: storage.job().to_string(),
        storage: storage_uri(storage),
        moves: count(moves.len()),
        generations: last.map_or(0, |last| last.generations) + of.generation,
        epoch: epoch.0,
        records: records.len() as u64,
        plan_digest: plan.digest,
        committed: records.iter().filter(is_done).count() as u64,
        owner: of.owner,
    };
    let plan = storage.at("plan.json").map_err(LedgerError::Address)?;
    let plan = fetch(storage.stores(), &plan).await?;
    let ledger = crate::ledger::as_lines(&records).map_err(io::Error::other)?;
    let bytes = pack(&[
        (HEAD, &serde_json::to_vec(&head).map_err(io::Error::other)?),
        (JOB, &of.manifest),
        ("plan.json", &plan),
        ("ledger.jsonl", &ledger),
        ("history.json", &of.history),
    ])?;
    if bytes.len() as u64 > MAX_ARCHIVE_BYTES {
        return Err(ExportError::TooLarge(bytes.len()));
    }
    Ok(Made {
        head,
        digest: digest(&bytes),
        bytes: Bytes::from(bytes),
    })
}

const HEAD: &str = "export.json";
const JOB: &str = "job.json";

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `spec.storage.uri` of a folder.
fn storage_uri(storage: &JobStorage) -> String {
    let root = storage.root().to_string();
    let uri = root.strip_suffix(storage.job().as_str()).unwrap_or(&root);
    uri.trim_end_matches('/').to_owned()
}

fn pack(members: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = zstd::Encoder::new(Vec::new(), LEVEL)?;
    for (name, content) in members {
        tar::write_member(&mut archive, name, content)?;
    }
    tar::write_end(&mut archive)?;
    archive.flush()?;
    archive.finish()
}

/// Keeps an archive in the folder of its job. Does nothing if it is there already.
///
/// # Errors
/// The store refuses it, or a damaged object has its name, which is the digest.
pub async fn keep_archive(storage: &JobStorage, made: &Made) -> Result<Location, ExportError> {
    let location = archive_object(storage, &made.digest)?;
    match put_if_absent(storage.stores(), &location, made.bytes.clone()).await? {
        Placed::Theirs(found) if found != made.bytes => Err(ExportError::Damaged(location)),
        Placed::Mine | Placed::Theirs(_) => Ok(location),
    }
}

/// The address of the archive with this digest.
pub fn archive_object(storage: &JobStorage, digest: &str) -> Result<Location, LedgerError> {
    storage
        .at(&format!("exports/{digest}.tar.zst"))
        .map_err(LedgerError::Address)
}

/// Reads an object that may be an archive. `None` if there is none.
pub async fn fetch_archive(
    storage: &JobStorage,
    location: &Location,
) -> Result<Option<Result<Bytes, String>>, StorageError> {
    let stores = storage.stores();
    match size_of(stores, location).await? {
        None => Ok(None),
        Some(size) if size > MAX_ARCHIVE_BYTES => Ok(Some(Err(format!(
            "it has {size} bytes; an archive has at most {MAX_ARCHIVE_BYTES}"
        )))),
        Some(_) => Ok(Some(Ok(fetch(stores, location).await?))),
    }
}

/// The digest of an archive.
pub fn digest(archive: &[u8]) -> String {
    format!("{:032x}", xxh3_128(archive))
}

/// Reads an archive. The error says what is wrong with it.
pub fn read(archive: &[u8]) -> Result<Export, String> {
    let plain = zstd::Decoder::new(archive).map_err(|error| format!("it is not zstd: {error}"))?;
    let mut plain = io::BufReader::new(plain);
    let head = tar::read_member(&mut plain, HEAD, MAX_HEAD_BYTES)?;
    let head = read_head(&head).map_err(|problem| format!("{HEAD}: {problem}"))?;
    let job = tar::read_member(&mut plain, JOB, MAX_JOB_BYTES)?;
    Ok(Export { head, job })
}

fn read_head(bytes: &[u8]) -> Result<Head, String> {
    /// It is read before anything else, because other versions may have other fields.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let found: Version = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if found.version != VERSION {
        return Err(format!(
            "it has version {}; this program reads version {VERSION}",
            found.version
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
