//! The object that lists a finished stage's outputs, one line a task: what a reducer needs to find its input. Small, and
//! read whole.
//!
//! First line: `zephyr-outputs 1 <crc32c of the rest>`; then one JSON object a line.

use object_store::{ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use zephyr_engine::coordinator::record::{FilePlace, OutputFile};
use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskAttempt, TaskId};

use crate::storage::{Cause, JobStorage, Location, StorageError, fetch, persist};

const HEAD: &str = "zephyr-outputs 1 ";

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

/// Writes the list and gives its path under the job's storage prefix. The name is never used for another list: epoch and
/// version are part of it.
pub async fn publish_stage(
    storage: &JobStorage,
    epoch: Epoch,
    stage: StageId,
    version: u32,
    outputs: &[(TaskAttempt, OutputFile)],
) -> Result<String, StorageError> {
    let path = format!("data/{stage}/outputs-e{epoch}-{version}");
    let location = locate(storage, "writing", &path)?;
    let bytes = encode(outputs)
        .map_err(|problem| StorageError::new("writing", &location, Cause::Other(problem)))?;
    let store = storage.stores().open(&location)?.durable;
    let payload = PutPayload::from(bytes);
    persist(storage.stores(), "writing", &location, || {
        store.put(location.path(), payload.clone())
    })
    .await?;
    Ok(path)
}

/// Reads a list.
pub async fn load_stage(storage: &JobStorage, path: &str) -> Result<StageOutputs, StorageError> {
    let location = locate(storage, "reading", path)?;
    let bytes = fetch(storage.stores(), &location).await?;
    decode(&bytes)
        .map_err(|problem| StorageError::new("reading", &location, Cause::Damaged(problem)))
}

fn locate(storage: &JobStorage, call: &'static str, path: &str) -> Result<Location, StorageError> {
    storage.at(path).map_err(|error| StorageError {
        call,
        object: path.to_owned(),
        cause: Cause::Configuration(error.to_string()),
    })
}

fn encode(outputs: &[(TaskAttempt, OutputFile)]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    for (task, file) in outputs {
        let FilePlace::Shuffle { path } = &file.place else {
            return Err(format!("the output of {task} is no shuffle file"));
        };
        let stored = StoredOutput {
            stage: task.task.stage.0,
            shard: task.task.shard.0,
            epoch: task.attempt.epoch.0,
            number: task.attempt.number,
            path: path.clone(),
            rows: file.rows,
            bytes: file.bytes,
            crc32c: file.crc32c,
        };
        serde_json::to_writer(&mut body, &stored).map_err(|error| error.to_string())?;
        body.push(b'\n');
    }
    let mut bytes = format!("{HEAD}{:08x}\n", crc32c::crc32c(&body)).into_bytes();
    bytes.extend(body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<StageOutputs, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let (head, body) = text.split_once('\n').ok_or("it has no first line")?;
    let checksum = head
        .strip_prefix(HEAD)
        .ok_or("its first line is not one of a list of outputs, or of another version")?;
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
        let file = OutputFile {
            rows: stored.rows,
            bytes: stored.bytes,
            crc32c: stored.crc32c,
            place: FilePlace::Shuffle { path: stored.path },
        };
        Ok((TaskAttempt { task, attempt }, file))
    };
    body.lines().map(output).collect()
}
