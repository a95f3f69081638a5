//! The attempts of a job that have ended, as objects `attempts/{epoch}-{number}.jsonl.zst` in its
//! folder. They are for people: no coordinator reads them, and nothing depends on them. The ledger
//! stays the truth about what is complete. This module decides nothing about a job.
//!
//! An object is compressed with zstd. Its first line says what it is, and each other line is an
//! attempt:
//!
//! ```text
//! {"version":1,"job":"…","epoch":3,"number":0,"dropped":0}
//! {"stage":1,"shard":7,"epoch":3,"attempt":1,"worker":"…","outcome":"Committed",…}
//! ```
//! A reader ignores fields that it does not know, and shows outcomes that it does not know. The
//! version changes only if a reader of this version would misunderstand the lines.

use std::io::Read as _;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde::{Deserialize, Serialize};

use crate::storage::{Cause, JobStorage, Location, StorageError, fetch, persist, walk};

/// The version that this program writes. It reads no later one.
const VERSION: u32 = 1;

/// How many attempts one object has at most, so that it is made and read in one piece.
pub const MAX_ATTEMPTS_PER_OBJECT: usize = 5_000;

/// How many bytes the lines of an object may have when it is read. What this program writes has
/// less than half of this, even if each line has the longest error.
const MAX_OBJECT_BYTES: u64 = 64 << 20;

/// How well zstd compresses; its own default.
const LEVEL: i32 = 3;

/// How many objects are read at the same time, and so are in memory.
const READ_AT_ONCE: usize = 32;

/// An attempt that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptLine {
    /// The position of its stage, 1 being the first.
    pub stage: u32,
    /// Its shard, 0 being the first.
    pub shard: u32,
    /// The epoch of the coordinator that dispatched it.
    pub epoch: u64,
    /// Its number among the attempts of its task in that epoch.
    pub attempt: u32,
    /// The name of its worker's pod.
    #[serde(default)]
    pub worker: String,
    /// The uid of that pod.
    #[serde(default)]
    pub pod_uid: String,
    /// When it was dispatched, see [`time_text`]. Absent if the coordinator that saw its end does
    /// not know that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its coordinator learned of its end, see [`time_text`].
    #[serde(default)]
    pub ended: String,
    /// How it ended, in a word.
    #[serde(default)]
    pub outcome: String,
    /// How many records it has read, as far as its worker reported that.
    #[serde(default)]
    pub records_read: u64,
    /// How many bytes it has read; only if it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<u64>,
    /// How many bytes it has written; only if it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_written: Option<u64>,
    /// Why it was not committed, cut to 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Some attempts that one object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The epoch of the coordinator that writes them.
    pub epoch: u64,
    /// The number of the object among those of this coordinator, 0 being the first.
    pub number: u64,
    /// How many attempts this coordinator did not write before this object, because the store
    /// accepted no object for too long.
    pub dropped: u64,
    /// The attempts in the order of their ends, at most [`MAX_ATTEMPTS_PER_OBJECT`].
    pub lines: Vec<AttemptLine>,
}

/// The first line of an object.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
    job: String,
    epoch: u64,
    number: u64,
    #[serde(default)]
    dropped: u64,
}

/// What was read besides the attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAttempts {
    /// How many attempts coordinators did not write.
    pub dropped: u64,
    /// For each object that cannot be used: its path and what is wrong with it, in a sentence.
    pub problems: Vec<String>,
}

/// A time as text: RFC 3339 in UTC, with milliseconds. A time that has no such text is empty.
pub fn time_text(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or(String::new(), |time| format!("{time:.3}"))
}

/// Writes an object with these attempts. Replaces an object with the same epoch and number, which
/// the same coordinator may have written before without getting an answer.
pub async fn put_attempts(storage: &JobStorage, batch: &Batch) -> Result<(), StorageError> {
    let path = format!("attempts/{}-{}.jsonl.zst", batch.epoch, batch.number);
    let location = place(storage, &path)?;
    let bytes = encode(storage.job().as_str(), batch);
    let bytes = bytes.map_err(|error| {
        StorageError::new("writing", &location, Cause::Other(error.to_string()))
    })?;
    let payload = PutPayload::from(bytes);
    let stores = storage.stores();
    let store = stores.open(&location)?.durable;
    let put = || store.put(location.path(), payload.clone());
    persist(stores, "writing", &location, put).await.map(drop)
}

/// Passes all attempts to `take`, in the order in which each coordinator wrote them, earlier
/// coordinators first. An object that cannot be understood is left out, and told.
///
/// # Errors
/// The store cannot be read.
pub async fn read_attempts(
    storage: &JobStorage,
    mut take: impl FnMut(AttemptLine),
) -> Result<ReadAttempts, StorageError> {
    let objects = list(storage).await?;
    let reads = objects.into_iter().map(|path| async move {
        let location = place(storage, &path)?;
        let bytes = fetch(storage.stores(), &location).await?;
        Ok::<_, StorageError>((path, bytes))
    });
    let mut reads = std::pin::pin!(futures::stream::iter(reads).buffered(READ_AT_ONCE));
    let mut read = ReadAttempts::default();
    let mut last: Option<(u64, u64)> = None;
    while let Some(object) = reads.next().await {
        let (path, bytes) = object?;
        match decode(storage.job().as_str(), &bytes) {
            Ok(batch) => {
                // The number counts from the beginning of the epoch.
                let before = last.filter(|(epoch, _)| *epoch == batch.epoch);
                let before = before.map_or(0, |(_, dropped)| dropped);
                read.dropped += batch.dropped.saturating_sub(before);
                last = Some((batch.epoch, batch.dropped.max(before)));
                batch.lines.into_iter().for_each(&mut take);
            }
            Err(problem) => read.problems.push(format!("{path}: {problem}")),
        }
    }
    Ok(read)
}

/// The paths of all objects with attempts, in the order of their writing.
async fn list(storage: &JobStorage) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    let folder = place(storage, "attempts")?;
    walk(storage.stores(), &folder, |entry| {
        if let Some(position) = position(&entry.path).filter(|_| entry.is_file) {
            found.push((position, format!("attempts/{}", entry.path)));
        }
    })
    .await?;
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The epoch and the number in the name of an object. `None` for any other name.
pub(crate) fn position(name: &str) -> Option<(u64, u64)> {
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (epoch, number) = name.strip_suffix(".jsonl.zst")?.split_once('-')?;
    let parse = |text| Some(text).filter(is_number)?.parse().ok();
    Some((parse(epoch)?, parse(number)?))
}

fn place(storage: &JobStorage, path: &str) -> Result<Location, StorageError> {
    let problem = |error: crate::storage::LocationError| {
        StorageError::new("reading", storage.root(), Cause::Other(error.to_string()))
    };
    storage.at(path).map_err(problem)
}

fn encode(job: &str, batch: &Batch) -> std::io::Result<Bytes> {
    let head = Head {
        version: VERSION,
        job: job.to_owned(),
        epoch: batch.epoch,
        number: batch.number,
        dropped: batch.dropped,
    };
    let mut text = serde_json::to_vec(&head)?;
    for line in &batch.lines {
        text.push(b'\n');
        serde_json::to_writer(&mut text, line)?;
    }
    text.push(b'\n');
    zstd::encode_all(text.as_slice(), LEVEL).map(Bytes::from)
}

/// Reads an object of the job with this uid. The error says what is wrong with it.
pub fn decode(job: &str, bytes: &[u8]) -> Result<Batch, String> {
    let mut text = String::new();
    let plain = zstd::Decoder::new(bytes).map_err(|error| format!("it is not zstd: {error}"))?;
    let read = plain.take(MAX_OBJECT_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| format!("it cannot be decompressed: {error}"))?;
    if text.len() as u64 > MAX_OBJECT_BYTES {
        return Err(format!("it has more than {MAX_OBJECT_BYTES} bytes"));
    }
    let mut lines = text.lines();
    let head = read_head(lines.next().unwrap_or_default())?;
    if head.job != job {
        return Err("it names another job".to_owned());
    }
    let read = |(position, line): (usize, &str)| {
        let read = serde_json::from_str(line);
        read.map_err(|error| format!("line {}: {error}", position + 2))
    };
    let lines: Result<Vec<AttemptLine>, String> = lines.enumerate().map(read).collect();
    Ok(Batch {
        epoch: head.epoch,
        number: head.number,
        dropped: head.dropped,
        lines: lines?,
    })
}

fn read_head(line: &str) -> Result<Head, String> {
    /// It is read before anything else, because other versions may have other fields.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let problem = |error: serde_json::Error| format!("line 1: {error}");
    let found: Version = serde_json::from_str(line).map_err(problem)?;
    if found.version > VERSION {
        return Err(format!(
            "it has version {}, of a later release; this program reads version {VERSION}",
            found.version
        ));
    }
    serde_json::from_str(line).map_err(problem)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures::FutureExt as _;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use zephyr_engine::id::JobUid;

    use super::*;
    use crate::fixtures::tricky::{Trick, Tricks, tricky};
    use crate::storage::Stores;

    const UID: &str = "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7";

    fn storage(uri: &str) -> JobStorage {
        JobStorage::new(Stores::in_memory(), uri, JobUid::parse(UID).unwrap()).unwrap()
    }

    fn line(shard: u32) -> AttemptLine {
        AttemptLine {
            stage: 1,
            shard,
            epoch: 1,
            attempt: 1,
            worker: "count-workers-g1-0".to_owned(),
            started: Some(time_text(SystemTime::UNIX_EPOCH)),
            ended: time_text(SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567)),
            outcome: "Committed".to_owned(),
            records_read: 10,
            bytes_read: Some(100),
            bytes_written: Some(50),
            ..AttemptLine::default()
        }
    }

    fn batch(epoch: u64, number: u64, dropped: u64, lines: Vec<AttemptLine>) -> Batch {
        Batch {
            epoch,
            number,
            dropped,
            lines,
        }
    }

    async fn read(storage: &JobStorage) -> (Vec<AttemptLine>, ReadAttempts) {
        let mut lines = Vec::new();
        let read = read_attempts(storage, |line| lines.push(line)).await;
        (lines, read.unwrap())
    }

    async fn put_text(storage: &JobStorage, path: &str, text: &str) {
        let bytes = zstd::encode_all(text.as_bytes(), LEVEL).unwrap();
        put_bytes(storage, path, bytes).await;
    }

    async fn put_bytes(storage: &JobStorage, path: &str, bytes: Vec<u8>) {
        let location = storage.at(path).unwrap();
        let store = storage.stores().open(&location).unwrap().objects;
        let payload = PutPayload::from(bytes);
        store.put(location.path(), payload).await.unwrap();
    }

    #[test]
    fn a_time_has_milliseconds_and_is_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567);
        assert_eq!(time_text(time), "1970-01-01T00:00:01.234Z");
        assert_eq!(
            time_text(SystemTime::UNIX_EPOCH),
            "1970-01-01T00:00:00.000Z"
        );
    }

    #[tokio::test]
    async fn attempts_are_read_in_the_order_of_epochs_and_of_writing() {
        let local = tempfile::tempdir().unwrap();
        let on_disk = format!("file://{}", local.path().display());
        for uri in ["s3://b/jobs", &on_disk] {
            let storage = storage(uri);
            assert_eq!(read(&storage).await, Default::default(), "{uri}");
            for (epoch, number) in [(2, 0), (10, 0), (1, 0), (1, 10), (1, 2)] {
                let shard = u32::try_from(epoch * 100 + number).unwrap();
                let batch = batch(epoch, number, 0, vec![line(shard)]);
                put_attempts(&storage, &batch).await.unwrap();
            }
            let (lines, told) = read(&storage).await;
            let shards: Vec<u32> = lines.iter().map(|line| line.shard).collect();
            assert_eq!(shards, [100, 102, 110, 200, 1000], "{uri}");
            assert_eq!(lines[0], line(100));
            assert_eq!(told, ReadAttempts::default());
        }
    }

    #[tokio::test]
    async fn dropped_attempts_of_all_coordinators_are_added_up() {
        let storage = storage("s3://b/jobs");
        for (epoch, number, dropped) in [(1, 0, 0), (1, 1, 7), (1, 2, 7), (2, 0, 3), (2, 1, 4)] {
            let batch = batch(epoch, number, dropped, Vec::new());
            put_attempts(&storage, &batch).await.unwrap();
        }
        assert_eq!(read(&storage).await.1.dropped, 7 + 4);
    }

    #[tokio::test]
    async fn fields_and_outcomes_of_later_releases_are_accepted() {
        let storage = storage("s3://b/jobs");
        let head = format!(
            "{{\"version\":1,\"job\":\"{UID}\",\"epoch\":1,\"number\":0,\"dropped\":0,\"new\":[1]}}"
        );
        let known =
            "{\"stage\":1,\"shard\":2,\"epoch\":1,\"attempt\":1,\"outcome\":\"Paused\",\"x\":{}}";
        let text = format!("{head}\n{known}\n");
        put_text(&storage, "attempts/1-0.jsonl.zst", &text).await;
        let (lines, told) = read(&storage).await;
        assert_eq!((lines[0].shard, lines[0].outcome.as_str()), (2, "Paused"));
        assert_eq!(told.problems, [""; 0]);
    }

    #[tokio::test]
    async fn an_object_that_cannot_be_used_is_told_and_all_others_are_read() {
        let storage = storage("s3://b/jobs");
        put_text(&storage, "attempts/1-0.jsonl.zst", "{\"version\":2}\n").await;
        put_text(&storage, "attempts/1-1.jsonl.zst", "").await;
        let head = "{\"version\":1,\"job\":\"x\",\"epoch\":1,\"number\":0}\n";
        put_text(&storage, "attempts/1-2.jsonl.zst", head).await;
        put_bytes(&storage, "attempts/1-3.jsonl.zst", b"plain".to_vec()).await;
        let head = format!("{{\"version\":1,\"job\":\"{UID}\",\"epoch\":1,\"number\":0}}\n");
        put_text(&storage, "attempts/1-4.jsonl.zst", &format!("{head}x\n")).await;
        let half = zstd::encode_all(head.as_bytes(), LEVEL).unwrap();
        put_bytes(&storage, "attempts/1-5.jsonl.zst", half[..9].to_vec()).await;
        put_text(&storage, "attempts/notes.txt", "x").await;
        let good = batch(1, 6, 0, vec![line(6)]);
        put_attempts(&storage, &good).await.unwrap();
        let (lines, told) = read(&storage).await;
        assert_eq!(lines, [line(6)]);
        let told: Vec<&str> = told
            .problems
            .iter()
            .map(|problem| problem.split(": ").take(2).last().unwrap())
            .collect();
        let version =
            "it has version 2, of a later release; this program reads version 1".to_owned();
        let expected = [
            version.as_str(),
            "line 1",
            "it names another job",
            "it cannot be decompressed",
            "line 2",
            "it cannot be decompressed",
        ];
        assert_eq!(told, expected);
    }

    /// A store in which the first call of this kind fails like this.
    fn failing_once(call: &'static str, trick: fn() -> Trick) -> JobStorage {
        let calls = AtomicU32::new(0);
        let tricks: Tricks = Arc::new(move |made: &'static str, _: &Path| {
            let is_first = made == call && calls.fetch_add(1, Ordering::Relaxed) == 0;
            let trick = if is_first { trick() } else { Trick::Pass };
            async move { trick }.boxed()
        });
        let stores = tricky(&Arc::new(InMemory::new()), tricks);
        JobStorage::new(stores, "s3://b/jobs", JobUid::parse(UID).unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_doubles_no_attempt_and_a_refused_write_is_an_error() {
        let written = batch(1, 0, 0, vec![line(0), line(1)]);
        for trick in [|| Trick::LoseReply, || Trick::Fail] {
            let storage = failing_once("put", trick);
            put_attempts(&storage, &written).await.unwrap();
            assert_eq!(read(&storage).await.0, written.lines);
        }
        let storage = failing_once("put", || Trick::Deny);
        put_attempts(&storage, &written).await.unwrap_err();
        put_attempts(&storage, &written).await.unwrap();
        assert_eq!(read(&storage).await.0, written.lines);
        let storage = failing_once("get", || Trick::Deny);
        put_attempts(&storage, &written).await.unwrap();
        read_attempts(&storage, |_| ()).await.unwrap_err();
    }

    #[test]
    fn the_longest_lines_fit_into_an_object_that_is_read() {
        let long = AttemptLine {
            worker: "w".repeat(253),
            pod_uid: "u".repeat(64),
            outcome: "FailedByProcess".to_owned(),
            error: "\u{1}".repeat(512),
            records_read: u64::MAX,
            epoch: u64::MAX,
            ..line(u32::MAX)
        };
        let bytes = serde_json::to_vec(&long).unwrap().len();
        assert!((bytes * MAX_ATTEMPTS_PER_OBJECT) as u64 * 2 < MAX_OBJECT_BYTES);
    }
}
