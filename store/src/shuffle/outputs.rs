//! The list of a finished stage's outputs. It is an object with one line for each task, from which
//! a reducer learns where its input is. The object is small and is read as a whole.
//!
//! The first line is `zephyr-outputs 1 <crc32c of the rest>`. Each other line is a JSON object.

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload, PutPayloadMut};
use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::record::{FilePlace, OutputFile};
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};

use crate::shuffle::index::shuffle_path;
use crate::storage::{Cause, JobStorage, Location, StorageError, fetch, persist};

const HEAD: &str = "zephyr-outputs 1 ";
/// The size of the pieces in which a list is written.
const BLOCK_BYTES: usize = 256 << 10;

/// The outputs of a stage in shard order.
pub type StageOutputs = Vec<(TaskAttempt, OutputFile)>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOutput {
    stage: u32,
    shard: u32,
    epoch: u64,
    number: u32,
    path: String,
    rows: u64,
    bytes: u64,
    crc32c: u32,
}

/// Writes the list. Returns its path relative to the job's folder. The name is never used for
/// another list, because it contains the epoch and the version.
pub async fn publish_stage(
    storage: &JobStorage,
    epoch: Epoch,
    stage: StageId,
    version: u32,
    outputs: &[(TaskAttempt, OutputFile)],
) -> Result<String, StorageError> {
    let path = list_path(stage, epoch, version);
    let location = locate(storage, "writing", &path)?;
    let payload = encode(outputs)
        .map_err(|problem| StorageError::new("writing", &location, Cause::Other(problem)))?;
    let store = storage.stores().open(&location)?.durable;
    persist(storage.stores(), "writing", &location, || {
        store.put(location.path(), payload.clone())
    })
    .await?;
    Ok(path)
}

/// Reads a list. If it is damaged, reads it once more, because the damage may have happened in
/// transit.
pub async fn load_stage(storage: &JobStorage, path: &str) -> Result<StageOutputs, StorageError> {
    let location = locate(storage, "reading", path)?;
    let read = async || {
        let bytes = fetch(storage.stores(), &location).await?;
        decode(&bytes)
            .map_err(|problem| StorageError::new("reading", &location, Cause::Damaged(problem)))
    };
    match read().await {
        Err(error) if matches!(error.cause, Cause::Damaged(_)) => read().await,
        read => read,
    }
}

/// The path of a list, relative to the job's folder.
pub(crate) fn list_path(stage: StageId, epoch: Epoch, version: u32) -> String {
    format!("data/{}/outputs-e{epoch}-{version}", stage.0)
}

/// The address of an object in the job's folder.
pub(crate) fn locate(
    storage: &JobStorage,
    call: &'static str,
    path: &str,
) -> Result<Location, StorageError> {
    storage.at(path).map_err(|error| StorageError {
        call,
        object: path.to_owned(),
        cause: Cause::Configuration(error.to_string()),
    })
}

/// Encodes the list in blocks. A single buffer with a million lines would have to be copied again
/// and again while it grows.
fn encode(outputs: &[(TaskAttempt, OutputFile)]) -> Result<PutPayload, String> {
    let mut body = PutPayloadMut::new().with_block_size(BLOCK_BYTES);
    let mut line = Vec::new();
    let mut checksum = 0;
    for (task, file) in outputs {
        let FilePlace::Shuffle = file.place else {
            return Err(format!("the output of {task} is not a shuffle file"));
        };
        let stored = StoredOutput {
            stage: task.task.stage.0,
            shard: task.task.shard.0,
            epoch: task.attempt.epoch.0,
            number: task.attempt.number,
            path: shuffle_path(*task),
            rows: file.rows,
            bytes: file.bytes,
            crc32c: file.crc32c,
        };
        line.clear();
        serde_json::to_writer(&mut line, &stored).map_err(|error| error.to_string())?;
        line.push(b'\n');
        checksum = crc32c::crc32c_append(checksum, &line);
        body.extend_from_slice(&line);
    }
    let head = Bytes::from(format!("{HEAD}{checksum:08x}\n"));
    Ok(std::iter::once(head).chain(body.freeze()).collect())
}

fn decode(bytes: &[u8]) -> Result<StageOutputs, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let (head, body) = text.split_once('\n').ok_or("it has no first line")?;
    let checksum = head
        .strip_prefix(HEAD)
        .ok_or("its first line is not that of a list of outputs, or has another version")?;
    if checksum != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its checksum is wrong".to_owned());
    }
    let output = |line| {
        let stored: StoredOutput = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let task = TaskId {
            stage: StageId(stored.stage),
            shard: ShardId(stored.shard),
        };
        let attempt = Attempt {
            epoch: Epoch(stored.epoch),
            number: stored.number,
        };
        let task = TaskAttempt { task, attempt };
        if stored.path != shuffle_path(task) {
            return Err(format!("it has {task} at {:?}", stored.path));
        }
        let file = OutputFile {
            rows: stored.rows,
            bytes: stored.bytes,
            crc32c: stored.crc32c,
            place: FilePlace::Shuffle,
        };
        Ok((task, file))
    };
    body.lines().map(output).collect()
}
