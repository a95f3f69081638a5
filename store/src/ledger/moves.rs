//! The moves of a job's folder: which job owns the folder, if it is not the job whose uid is the
//! folder's name. Each move is an object that is written once and never changed, `moves/0` first.
//! This module decides nothing: it reads moves, and puts the next one.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ledger::LedgerError;
use crate::ledger::append::refused;
use crate::storage::{Cause, JobStorage, Location, Placed, fetch, put_if_absent};

/// The version that this program writes. It reads no other version.
const VERSION: u32 = 1;

/// How often one folder can be moved. Each start of a coordinator reads all moves, so there must be
/// few.
pub const MAX_MOVES: u32 = 64;

/// A job that took over the folder of another job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The uid of the `ZephyrJob`.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uid,
            namespace,
            name,
        } = self;
        write!(f, "job {namespace}/{name}, uid {uid}")
    }
}

/// A move of the folder to another job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    version: u32,
    /// The uid in the name of the folder.
    job: String,
    /// The job that owns the folder from now on.
    pub to: Owner,
    /// The digest of the archive that the job named.
    pub archive: String,
    /// How many generation numbers the owners before have used. The new owner counts its
    /// generations from 1, and the ledger continues the count of all owners.
    pub generations: u32,
}

impl Move {
    /// Makes a move of a job's folder.
    pub fn new(storage: &JobStorage, to: Owner, archive: String, generations: u32) -> Self {
        Self {
            version: VERSION,
            job: storage.job().to_string(),
            to,
            archive,
            generations,
        }
    }
}

/// Reads all moves, in order.
pub async fn read_moves(storage: &JobStorage) -> Result<Vec<Move>, LedgerError> {
    let mut moves = Vec::new();
    for number in 0..MAX_MOVES {
        let location = move_object(storage, number)?;
        let bytes = match fetch(storage.stores(), &location).await {
            Ok(bytes) => bytes,
            Err(error) if error.cause == Cause::NotFound => break,
            Err(error) => return Err(LedgerError::from_storage(error)),
        };
        moves.push(parse(storage, &bytes).map_err(|problem| refused(&location, problem))?);
    }
    Ok(moves)
}

/// Puts move `number`, if there is none with this number. Returns the move that is stored. At most
/// one job gets its own move back.
pub async fn put_move(
    storage: &JobStorage,
    number: u32,
    wanted: Move,
) -> Result<Move, LedgerError> {
    let location = move_object(storage, number)?;
    if number >= MAX_MOVES {
        let problem = format!("the job was moved {MAX_MOVES} times; it cannot be moved again");
        return Err(refused(&location, problem));
    }
    let bytes =
        serde_json::to_vec(&wanted).map_err(|error| refused(&location, error.to_string()))?;
    // The bytes contain the uid of the job, which no other job has.
    let placed = put_if_absent(storage.stores(), &location, Bytes::from(bytes)).await;
    match placed.map_err(LedgerError::from_storage)? {
        Placed::Mine => Ok(wanted),
        Placed::Theirs(found) => {
            parse(storage, &found).map_err(|problem| refused(&location, problem))
        }
    }
}

fn move_object(storage: &JobStorage, number: u32) -> Result<Location, LedgerError> {
    storage
        .at(&format!("moves/{number}"))
        .map_err(LedgerError::Address)
}

fn parse(storage: &JobStorage, bytes: &[u8]) -> Result<Move, String> {
    let found: Move =
        serde_json::from_slice(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if found.version != VERSION {
        return Err(format!(
            "it has version {}; this program reads version {VERSION}",
            found.version
        ));
    }
    if found.job != storage.job().as_str() {
        return Err(format!("it belongs to job {}", found.job));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use zephyr_engine::id::JobUid;

    use super::*;
    use crate::storage::Stores;

    fn to(uid: &str) -> Owner {
        Owner {
            uid: uid.to_owned(),
            namespace: "team".to_owned(),
            name: "count".to_owned(),
        }
    }

    fn storage() -> JobStorage {
        let job = JobUid::parse("source").unwrap();
        JobStorage::new(Stores::in_memory(), "s3://b/jobs", job).unwrap()
    }

    #[tokio::test]
    async fn of_two_jobs_one_gets_the_folder_and_the_other_one_its_name() {
        let storage = storage();
        assert_eq!(read_moves(&storage).await.unwrap(), []);
        let of = |uid| Move::new(&storage, to(uid), "digest".to_owned(), 3);
        assert_eq!(put_move(&storage, 0, of("a")).await.unwrap(), of("a"));
        assert_eq!(put_move(&storage, 0, of("b")).await.unwrap(), of("a"));
        assert_eq!(put_move(&storage, 0, of("a")).await.unwrap(), of("a"));
        assert_eq!(put_move(&storage, 1, of("b")).await.unwrap(), of("b"));
        assert_eq!(read_moves(&storage).await.unwrap(), [of("a"), of("b")]);
        let full = put_move(&storage, MAX_MOVES, of("c")).await.unwrap_err();
        assert!(full.to_string().contains("moved 64 times"), "{full}");
    }

    #[tokio::test]
    async fn a_move_of_another_release_or_job_is_refused() {
        let storage = storage();
        let location = move_object(&storage, 0).unwrap();
        let store = storage.stores().open(&location).unwrap().objects;
        let good = Move::new(&storage, to("a"), String::new(), 0);
        for (wrong, words) in [
            (
                Move {
                    version: 2,
                    ..good.clone()
                },
                "it has version 2",
            ),
            (
                Move {
                    job: "x".to_owned(),
                    ..good
                },
                "it belongs to job x",
            ),
        ] {
            let bytes = serde_json::to_vec(&wrong).unwrap();
            store.put(location.path(), bytes.into()).await.unwrap();
            let error = read_moves(&storage).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
