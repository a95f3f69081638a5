//! Final files: their names, the owner of their folder, and the coordinator's work on them. The
//! coordinator completes the upload of the committed attempt, discards the uploads of other
//! attempts, and cleans up at the end of the job.
//!
//! Only the coordinator calls these functions. It calls them only for attempts that its ledger has
//! committed. This module does not decide which attempt is committed.

mod claim;
mod close;
mod error;
mod finished;
mod inputs;
mod intent;
mod leftovers;
mod links;
mod output;
mod owner;
mod preview;
mod replaced;
mod silence;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use zephyr_engine::coordinator::record::{FilePlace, FinalPlace, OutputFile};
use zephyr_engine::id::{JobUid, TaskAttempt};

use crate::storage::{
    Cause, Completed, Location, StorageError, Stores, UploadPlace, Verified, abandon, complete,
    fetch_range, size_of, verify,
};

pub use claim::{claim, has_claimed};
pub use close::{close, complete_output, give_up, hold_output};
pub use error::OutputError;
pub use finished::finished;
pub use leftovers::throw_away_leftovers;
pub use output::Output;
pub use preview::preview;
pub use silence::OwnerWatch;

/// How many bytes of a file are held in memory while it is compared.
const COMPARE_BYTES: u64 = 8 << 20;

/// The name of the manifest beside the files.
pub const MANIFEST_NAME: &str = "_SUCCESS.json";

/// The name of the marker beside the files. A job claims the folder with this marker until the
/// manifest exists.
pub const STARTED_NAME: &str = "_STARTED.json";

/// The widest number in a name: `{shard:20}`.
const MAX_WIDTH: usize = 20;

/// Why a sink's path gives no file name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "spec.pipeline.sink.files.path: {problem} (got {path:?}); allowed are {{shard}} and {{total}}, or with a width: {{shard:05}}"
)]
pub struct TemplateError {
    /// The sink's path.
    pub path: String,
    /// What is wrong with the path.
    pub problem: String,
}

/// The state of a final file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalized {
    /// It exists under its final name and is complete.
    Stands,
    /// Neither the upload nor the complete file exists: the task has to run again.
    Lost,
}

/// Returns the path of a shard's file. `path` is the sink's path, and `total` is the number of
/// shards.
pub fn output_path(path: &str, shard: u32, total: u32) -> Result<String, TemplateError> {
    let refuse = |problem: &str| TemplateError {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    let mut name = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (placeholder, after) = after
            .split_once('}')
            .ok_or_else(|| refuse("a '{' is not closed"))?;
        let (word, width) = placeholder.split_once(':').unwrap_or((placeholder, "1"));
        let number = match word {
            "shard" => shard,
            "total" => total,
            _ => return Err(refuse(&format!("{{{placeholder}}} is not a placeholder"))),
        };
        let width: usize = width
            .parse()
            .ok()
            .filter(|width| (1..=MAX_WIDTH).contains(width))
            .ok_or_else(|| refuse("a width is not a number from 1 to 20"))?;
        name.push_str(before);
        let _ = write!(name, "{number:0width$}");
        rest = after;
    }
    name.push_str(rest);
    Ok(name)
}

/// How a completion ended, and what is now stored under the final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stands,
    /// This call created a file that differs from what the attempt wrote, because the store damaged
    /// it.
    Damaged,
    Lost,
}

/// Completes the upload of a committed attempt, and checks that the file is what the attempt wrote.
/// If there is no such upload, the existing file is compared with the ledger, because the upload
/// may have been completed before a crash.
pub async fn finalize(stores: &Stores, file: &OutputFile) -> Result<Finalized, StorageError> {
    Ok(match complete_and_compare(stores, file).await? {
        Outcome::Stands => Finalized::Stands,
        Outcome::Damaged | Outcome::Lost => Finalized::Lost,
    })
}

async fn complete_and_compare(stores: &Stores, file: &OutputFile) -> Result<Outcome, StorageError> {
    let (location, place) = upload(file)?;
    match complete(stores, &location, &place).await? {
        Completed::Stands => compare(stores, &location, &place, file).await,
        Completed::Gone if stands(stores, &location, file).await? => Ok(Outcome::Stands),
        Completed::Gone => Ok(Outcome::Lost),
    }
}

/// Compares a file that was just completed with what its attempt wrote.
async fn compare(
    stores: &Stores,
    location: &Location,
    place: &UploadPlace,
    file: &OutputFile,
) -> Result<Outcome, StorageError> {
    let problem = match verify(stores, location, place, file.bytes, file.crc32c).await? {
        Verified::Same => return Ok(Outcome::Stands),
        Verified::Unclear if stands(stores, location, file).await? => {
            return Ok(Outcome::Stands);
        }
        Verified::Unclear => {
            "its CRC-32C differs from that of the data that was written".to_owned()
        }
        Verified::Other(problem) => problem,
    };
    tracing::warn!(file = %location, %problem, "a finished file differs from what was written; its task runs again");
    Ok(Outcome::Damaged)
}

/// Deletes the upload of an attempt that was not committed.
pub async fn discard(stores: &Stores, file: &OutputFile) -> Result<(), StorageError> {
    if let FilePlace::Shuffle = file.place {
        // Each attempt's shuffle file has a different name, so it does no harm. It is deleted with
        // the job's folder.
        return Ok(());
    }
    let (location, place) = upload(file)?;
    abandon(stores, &location, &place).await
}

/// Returns the folders of the local disk in which these files were staged.
fn staging_folders(files: &[(TaskAttempt, OutputFile)]) -> BTreeSet<PathBuf> {
    let staged = files.iter().filter_map(|(_, file)| {
        let FilePlace::Final(place) = &file.place else {
            return None;
        };
        match &**place {
            FinalPlace::Staged { uri, .. } => Location::parse(uri).ok()?.local_path(),
            FinalPlace::Multipart { .. } => None,
        }
    });
    staged
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect()
}

/// Returns the folder of the local disk that a path leads to. `None` if the name of the folder
/// contains a placeholder.
fn local_folder(path: &str) -> Option<PathBuf> {
    let (folder, _) = path.rsplit_once('/')?;
    if folder.contains('{') {
        return None;
    }
    let inside = Location::parse_local(&format!("{folder}/{MANIFEST_NAME}")).ok()?;
    inside.local_path()?.parent().map(Path::to_owned)
}

fn manifest_location(sink_path: &str) -> Result<Location, StorageError> {
    let folder = sink_path
        .split('{')
        .next()
        .unwrap_or_default()
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let wrong = |error: &dyn std::fmt::Display| StorageError {
        call: "writing",
        object: sink_path.to_owned(),
        cause: Cause::Configuration(error.to_string()),
    };
    // `s3://bucket/part-{shard}` is in the bucket itself, and `/part-{shard}` is at the root of the
    // disk.
    let location = Location::parse_local(&format!("{folder}/{MANIFEST_NAME}"))
        .map_err(|error| wrong(&error))?;
    Ok(location)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    version: u32,
    job_uid: &'a str,
    /// The namespace and the name of the job, for users who read the manifest.
    job: &'a str,
    plan_digest: &'a str,
    files: Vec<ManifestFile>,
    totals: Totals,
    /// Files with bad records, which are not part of the output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dead_letters: Vec<ManifestFile>,
}

#[derive(Serialize)]
struct ManifestFile {
    uri: String,
    rows: u64,
    bytes: u64,
    crc32c: String,
}

#[derive(Serialize)]
struct Totals {
    files: usize,
    rows: u64,
    bytes: u64,
}

fn manifest(
    job: &JobUid,
    job_name: &str,
    plan_digest: &str,
    files: &[(TaskAttempt, OutputFile)],
    dead_letters: &[(TaskAttempt, OutputFile)],
) -> serde_json::Result<Vec<u8>> {
    let listed = |(_, file): &(TaskAttempt, OutputFile)| ManifestFile {
        uri: final_uri(file).to_owned(),
        rows: file.rows,
        bytes: file.bytes,
        crc32c: format!("{:08x}", file.crc32c),
    };
    // Workers reported these numbers, so the sum must not overflow.
    let sum = |of: fn(&OutputFile) -> u64| {
        files
            .iter()
            .fold(0_u64, |sum, (_, file)| sum.saturating_add(of(file)))
    };
    let totals = Totals {
        files: files.len(),
        rows: sum(|file| file.rows),
        bytes: sum(|file| file.bytes),
    };
    let mut bytes = serde_json::to_vec_pretty(&Manifest {
        version: 1,
        job_uid: job.as_str(),
        job: job_name,
        plan_digest,
        files: files.iter().map(listed).collect(),
        totals,
        dead_letters: dead_letters.iter().map(listed).collect(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn final_uri(file: &OutputFile) -> &str {
    match &file.place {
        FilePlace::Shuffle => "a shuffle file",
        FilePlace::Final(place) => place.uri(),
    }
}

fn upload(file: &OutputFile) -> Result<(Location, UploadPlace), StorageError> {
    let uri = final_uri(file);
    let parse = |text: &str| {
        Location::parse(text).map_err(|error| StorageError {
            call: "completing",
            object: uri.to_owned(),
            cause: Cause::Configuration(error.to_string()),
        })
    };
    let FilePlace::Final(place) = &file.place else {
        return Err(StorageError {
            call: "completing",
            object: uri.to_owned(),
            cause: Cause::Other("a shuffle file is not a final file".to_owned()),
        });
    };
    let upload = match &**place {
        FinalPlace::Multipart { upload, parts, .. } => UploadPlace::Multipart {
            upload: upload.clone(),
            parts: parts.clone(),
        },
        FinalPlace::Staged { staged, .. } => UploadPlace::Staged(parse(staged)?),
    };
    Ok((parse(uri)?, upload))
}

/// Whether exactly this file exists under its final name. If its size is right, reads the whole
/// file.
///
/// # Errors
/// The store failed.
pub async fn stands(
    stores: &Stores,
    location: &Location,
    file: &OutputFile,
) -> Result<bool, StorageError> {
    has_contents(stores, location, file.bytes, file.crc32c).await
}

/// Whether a file has this size and this CRC-32C. Reads the whole file.
async fn has_contents(
    stores: &Stores,
    location: &Location,
    bytes: u64,
    crc32c: u32,
) -> Result<bool, StorageError> {
    if size_of(stores, location).await? != Some(bytes) {
        return Ok(false);
    }
    let mut checksum = 0;
    for start in (0..bytes).step_by(usize::try_from(COMPARE_BYTES).unwrap_or(usize::MAX)) {
        let range: Range<u64> = start..(start + COMPARE_BYTES).min(bytes);
        match fetch_range(stores, location, bytes, range).await {
            Ok(bytes) => checksum = crc32c::crc32c_append(checksum, &bytes),
            Err(StorageError {
                cause: Cause::NotFound | Cause::Changed,
                ..
            }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(checksum == crc32c)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod file_tests {
    use super::*;
    use crate::fixtures::attempts::first_attempt;
    use crate::storage::{JobStorage, PartUpload, Uploaded, fetch};
    use std::io::Write;
    use tokio::runtime::Handle;
    use zephyr_crds::pipeline::SinkMode;

    #[test]
    fn a_path_gives_a_name_for_each_shard() {
        for (path, expected) in [
            ("s3://o/part-{shard}.jsonl", "s3://o/part-7.jsonl"),
            (
                "s3://o/{total:3}/p-{shard:05}-of-{total}.gz",
                "s3://o/012/p-00007-of-12.gz",
            ),
            ("s3://o/x", "s3://o/x"),
        ] {
            assert_eq!(output_path(path, 7, 12).unwrap(), expected);
        }
        for path in [
            "x{shard",
            "x{shrad}",
            "x{shard:0}",
            "x{shard:x}",
            "x{shard:99}",
            "x{}",
        ] {
            assert!(
                output_path(path, 0, 1)
                    .unwrap_err()
                    .to_string()
                    .contains(path)
            );
        }
    }

    #[test]
    fn the_manifest_is_in_the_folder_that_contains_all_files() {
        for (path, expected) in [
            ("s3://o/a/part-{shard}.jsonl", "s3://o/a/_SUCCESS.json"),
            ("s3://o/a/{shard}/x.jsonl", "s3://o/a/_SUCCESS.json"),
            ("s3://o/part-{shard}", "s3://o/_SUCCESS.json"),
            ("s3://o/one.jsonl", "s3://o/_SUCCESS.json"),
            ("file:///one.jsonl", "file:///_SUCCESS.json"),
        ] {
            assert_eq!(manifest_location(path).unwrap().to_string(), expected);
        }
    }

    fn output(stores: &Stores, path: &str) -> Output {
        let job = JobUid::parse("uid").unwrap();
        Output {
            stores: stores.clone(),
            storage: JobStorage::new(stores.clone(), "s3://jobs/x", job.clone()).unwrap(),
            job,
            namespace: "ns".to_owned(),
            name: "name".to_owned(),
            path: path.to_owned(),
            more_paths: Vec::new(),
            mode: SinkMode::Refuse,
            has_begun: false,
        }
    }

    fn write(
        runtime: &Handle,
        stores: &Stores,
        uri: &str,
        writer: &str,
        content: &[u8],
    ) -> OutputFile {
        let (runtime, stores, location) = (
            runtime.clone(),
            stores.clone(),
            Location::parse(uri).unwrap(),
        );
        let (writer, content) = (writer.to_owned(), content.to_vec());
        let thread = std::thread::spawn(move || {
            let mut upload = PartUpload::begin(&runtime, &stores, &location, &writer).unwrap();
            upload.write_all(&content).unwrap();
            let Uploaded {
                bytes,
                crc32c,
                place,
            } = upload.finish().unwrap();
            let uri = location.to_string();
            let place = match place {
                UploadPlace::Multipart { upload, parts } => {
                    FinalPlace::Multipart { uri, upload, parts }
                }
                UploadPlace::Staged(staged) => FinalPlace::Staged {
                    uri,
                    staged: staged.to_string(),
                },
            };
            let place = place.into();
            OutputFile {
                rows: 3,
                bytes,
                crc32c,
                place,
            }
        });
        thread.join().unwrap()
    }

    async fn check(uri: &str) {
        let stores = Stores::in_memory();
        let location = Location::parse(uri).unwrap();
        let runtime = Handle::current();
        let big: Vec<u8> = (0..17_000_000_u32).map(|n| (n % 253) as u8).collect();
        for content in [&b""[..], b"some", &big] {
            let winner = write(&runtime, &stores, uri, "w1", content);
            let loser = write(&runtime, &stores, uri, "w2", b"of another attempt");
            discard(&stores, &loser).await.unwrap();
            discard(&stores, &loser).await.unwrap();
            assert_eq!(finalize(&stores, &winner).await.unwrap(), Finalized::Stands);
            assert!(fetch(&stores, &location).await.unwrap() == content);
            // The answer of the first call was lost in a crash.
            assert_eq!(finalize(&stores, &winner).await.unwrap(), Finalized::Stands);
            // The loser's upload no longer exists, and the file under the final name is not the
            // loser's.
            assert_eq!(finalize(&stores, &loser).await.unwrap(), Finalized::Lost);
            assert!(fetch(&stores, &location).await.unwrap() == content);
        }
        let unseen = write(&runtime, &stores, uri, "w3", b"uncompleted");
        assert!(
            fetch(&stores, &location).await.unwrap() == big,
            "an uncompleted upload is not seen"
        );
        discard(&stores, &unseen).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn fault_2725_only_a_committed_upload_becomes_a_file_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        check("s3://o/part-0").await;
        check("az://o/part-0").await;
        check(&format!("file://{}/deep/part-0", folder.path().display())).await;
        let left: Vec<_> = std::fs::read_dir(folder.path().join("deep"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["part-0"], "no staged file is left");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_empty_file_without_parts_replaces_an_old_file_but_not_a_newer_one() {
        let stores = Stores::in_memory();
        let runtime = Handle::current();
        let uri = "az://o/0";
        let location = Location::parse(uri).unwrap();
        let beaten_at_nothing = write(&runtime, &stores, uri, "w1", b"");
        let left = write(
            &runtime,
            &stores,
            uri,
            "w2",
            b"of a job that did not finish",
        );
        finalize(&stores, &left).await.unwrap();
        let beaten = write(&runtime, &stores, uri, "w3", b"");
        let winner = write(&runtime, &stores, uri, "w4", b"");
        assert_eq!(finalize(&stores, &winner).await.unwrap(), Finalized::Stands);
        assert_eq!(fetch(&stores, &location).await.unwrap(), "");
        let next = write(&runtime, &stores, uri, "w5", b"some");
        assert_eq!(finalize(&stores, &next).await.unwrap(), Finalized::Stands);
        for file in [beaten_at_nothing, beaten, winner] {
            let place = upload(&file).unwrap().1;
            assert!(matches!(place, UploadPlace::Multipart { parts, .. } if parts.is_empty()));
            assert_eq!(finalize(&stores, &file).await.unwrap(), Finalized::Lost);
            discard(&stores, &file).await.unwrap();
            assert_eq!(fetch(&stores, &location).await.unwrap(), "some");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn staged_files_of_killed_attempts_are_removed_when_the_manifest_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("file://{}/{name}", folder.path().display());
        let stores = Stores::in_memory();
        let runtime = Handle::current();
        let output = output(&stores, &path("{shard}"));
        claim(&output, &mut OwnerWatch::default()).await.unwrap();
        let winner = write(&runtime, &stores, &path("0"), "uid.e1a2", b"x");
        for writer in ["uid.e1a1", "uid.e2a1", "other.e1a1"] {
            write(&runtime, &stores, &path("0"), writer, b"never completed");
        }
        finalize(&stores, &winner).await.unwrap();
        let files = [(first_attempt(0, 0), winner)];
        close(&output, "digest", &files, &[]).await.unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap();
        let names: BTreeSet<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = [".0.other.e1a1", "0", "_SUCCESS.json"].map(str::to_owned);
        assert_eq!(names, BTreeSet::from(expected));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_the_store_damaged_is_deleted_before_the_next_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let local = format!("file://{}/{{shard}}", folder.path().display());
        for path in ["s3://o/{shard}", &local] {
            for mode in [SinkMode::Refuse, SinkMode::Overwrite] {
                let stores = Stores::in_memory();
                let output = Output {
                    mode,
                    ..output(&stores, path)
                };
                claim(&output, &mut OwnerWatch::default()).await.unwrap();
                let uri = output_path(path, 0, 1).unwrap();
                let location = Location::parse(&uri).unwrap();
                let first = write(&Handle::current(), &stores, &uri, "w1", b"written");
                // The store has other bytes than the attempt wrote.
                let first = OutputFile { bytes: 9, ..first };
                let second = write(&Handle::current(), &stores, &uri, "w2", b"written");
                let completed = complete_output(&output, &first).await.unwrap();
                assert_eq!(completed, Finalized::Lost, "{path} {mode:?}");
                assert_eq!(size_of(&stores, &location).await.unwrap(), None);
                let completed = complete_output(&output, &second).await.unwrap();
                assert_eq!(completed, Finalized::Stands, "{path} {mode:?}");
                let files = [(first_attempt(0, 0), second)];
                close(&output, "digest", &files, &[]).await.unwrap();
                for name in ["0", "_SUCCESS.json"] {
                    let gone = std::fs::remove_file(folder.path().join(name));
                    assert!(gone.is_ok() || path.starts_with("s3"), "{name}");
                }
            }
        }
    }

    #[test]
    fn absurd_numbers_of_workers_still_make_a_manifest() {
        let place = FilePlace::from(FinalPlace::Multipart {
            uri: "s3://o/0".to_owned(),
            upload: "u".to_owned(),
            parts: vec![],
        });
        let file = OutputFile {
            rows: u64::MAX,
            bytes: u64::MAX,
            crc32c: 0,
            place,
        };
        let files = [
            (first_attempt(0, 0), file.clone()),
            (first_attempt(0, 1), file),
        ];
        let job = JobUid::parse("uid").unwrap();
        let text = manifest(&job, "ns/name", "digest", &files, &[]).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read["totals"]["rows"], u64::MAX);
        assert_eq!(read["totals"]["bytes"], u64::MAX);
    }

    #[test]
    fn the_manifest_lists_every_file_with_rows_bytes_and_checksum() {
        let file = |uri: &str| OutputFile {
            rows: 2,
            bytes: 5,
            crc32c: 0xAB,
            place: FilePlace::from(FinalPlace::Multipart {
                uri: uri.to_owned(),
                upload: "u".to_owned(),
                parts: vec![],
            }),
        };
        let files = [
            (first_attempt(0, 0), file("s3://o/0")),
            (first_attempt(0, 1), file("s3://o/1")),
        ];
        let job = JobUid::parse("uid").unwrap();
        let text = manifest(&job, "ns/name", "digest", &files, &[]).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let listed = |uri: &str| serde_json::json!({"uri": uri, "rows": 2, "bytes": 5, "crc32c": "000000ab"});
        let expected = serde_json::json!({
            "version": 1, "jobUid": "uid", "job": "ns/name", "planDigest": "digest", "files": [listed("s3://o/0"), listed("s3://o/1")],
            "totals": {"files": 2, "rows": 4, "bytes": 10},
        });
        assert_eq!(read, expected);
    }
}
