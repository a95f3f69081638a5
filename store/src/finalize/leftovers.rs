//! Removes what killed attempts left under the names of the output: uploads that no process will
//! complete, and staged files on a local disk. No ledger lists them. This happens after the job's
//! end is recorded, and removes only what no job can need.
//!
//! S3 does not say which job began an upload. The owner of the folder determines it. A job begins
//! uploads only after it has written `_STARTED.json` there and has removed an older
//! `_SUCCESS.json`, and no other job begins an upload while that claim exists. The uploads are
//! listed first, and the owner of the folder is checked afterwards. If it is still this job, every
//! listed upload was begun before any later job could begin one. So each listed upload belongs to
//! an attempt of this job, which has ended, or to a job that lost the folder earlier and may not
//! complete anything there. Listed uploads are aborted by id, so a later job's upload of the same
//! name is never touched.
//!
//! Only S3 lists uploads in a way that allows aborting them here. Azure has no uploads: its blocks
//! without a file disappear when a file of that name is completed, or after a week. For Google
//! Cloud Storage the client signs such a call only with a service account's private key, which a
//! workload identity does not have. On Google Cloud Storage, a lifecycle rule of the bucket must
//! remove the uploads.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use zephyr_engine::id::JobUid;

use super::claim::{CALLS_AT_ONCE, refuse_nested_outputs};
use super::intent::{intent_location, read_intent};
use super::output::Output;
use super::owner::read_owner;
use super::{OutputError, manifest_location, output_path};
use crate::storage::{
    Location, NamePattern, StorageError, UnfinishedUpload, UploadLister, abort_upload,
};

/// The uploads of at most this many names are requested one by one. `MinIO` needs this, because it
/// lists the uploads of one key but not of a prefix. This number of calls takes a few seconds at
/// the end of a job, and costs about a tenth of a cent at Amazon's list prices.
const MAX_NAMES_ASKED: u32 = 256;

/// Removes what attempts of this job left under the output's names, if the job still holds the
/// folder. Returns the number of removed uploads. The job must have ended. `shards` is the number
/// of shards of its last stage. If it is 0, the number is not known, and uploads are only listed
/// and not requested by name.
///
/// # Errors
/// A store failed, or another job has its output in a folder whose name a placeholder of the path
/// can produce. Nothing depends on the result.
pub async fn throw_away_leftovers(output: &Output, shards: u32) -> Result<usize, OutputError> {
    let paths = [&output.path].into_iter().chain(&output.more_paths);
    let mut aborted = 0;
    for (pattern, path) in output.patterns()?.into_iter().zip(paths) {
        aborted += throw_away(output, pattern, path, shards).await?;
    }
    Ok(aborted)
}

/// Does this for the names of one path.
async fn throw_away(
    output: &Output,
    pattern: NamePattern,
    path: &str,
    shards: u32,
) -> Result<usize, OutputError> {
    if pattern.template().local_path().is_some() {
        if is_still_own(output).await? {
            remove_staged(&[output.job.to_string()], folders_of(path, shards)).await;
        }
        return Ok(0);
    }
    let uploads = listed(output, &pattern, path, shards).await;
    let uploads = uploads.map_err(OutputError::Store)?;
    if uploads.is_empty() {
        return Ok(0);
    }
    if pattern.has_numbered_folders() {
        refuse_nested_outputs(output, &pattern).await?;
    }
    // This check must be after the listing. The comment at the top of this file says why.
    if !is_still_own(output).await? {
        return Ok(0);
    }
    let aborts = uploads
        .iter()
        .map(|upload| abort_upload(&output.stores, pattern.template(), upload));
    let aborts: Vec<_> = aborts.collect();
    let aborted = futures::stream::iter(aborts).buffered(CALLS_AT_ONCE);
    let aborted: Vec<()> = aborted.try_collect().await.map_err(OutputError::Store)?;
    Ok(aborted.len())
}

/// Lists the uploads under names that the sink's path can produce.
async fn listed(
    output: &Output,
    pattern: &NamePattern,
    path: &str,
    shards: u32,
) -> Result<Vec<UnfinishedUpload>, StorageError> {
    let place = pattern.template();
    let Some(lister) = UploadLister::of(&output.stores, place)? else {
        return Ok(Vec::new());
    };
    let mut uploads = lister.list(&pattern.prefix()).await?;
    uploads.retain(|upload| pattern.matches(&upload.key));
    if !uploads.is_empty() || shards > MAX_NAMES_ASKED {
        return Ok(uploads);
    }
    let lister = &lister;
    let asked = keys_of(path, shards).into_iter().map(|key| async move {
        let mut uploads = lister.list(&key).await?;
        uploads.retain(|upload| upload.key == key);
        Ok::<_, StorageError>(uploads)
    });
    let asked: Vec<_> = asked.collect();
    let asked = futures::stream::iter(asked).buffered(CALLS_AT_ONCE);
    let uploads: Vec<Vec<UnfinishedUpload>> = asked.try_collect().await?;
    Ok(uploads.into_iter().flatten().collect())
}

/// Returns the locations of the files that this job writes with this path.
fn locations_of(path: &str, shards: u32) -> impl Iterator<Item = Location> {
    (0..shards).filter_map(move |shard| {
        let path = output_path(path, shard, shards).ok()?;
        Location::parse_local(&path).ok()
    })
}

fn keys_of(path: &str, shards: u32) -> BTreeSet<String> {
    locations_of(path, shards)
        .map(|location| location.path().to_string())
        .collect()
}

fn folders_of(path: &str, shards: u32) -> BTreeSet<PathBuf> {
    locations_of(path, shards)
        .filter_map(|location| location.local_path()?.parent().map(Path::to_owned))
        .collect()
}

/// Whether no later job has begun to write to the folder. This is so if the manifest is this job's,
/// or if there is no manifest and the claim is this job's.
async fn is_still_own(output: &Output) -> Result<bool, OutputError> {
    let manifest = manifest_location(&output.path).map_err(OutputError::Store)?;
    if let Some(owner) = read_owner(&output.stores, &manifest).await? {
        return Ok(owner.is(&output.job));
    }
    let stored = read_intent(&output.stores, &intent_location(&manifest)).await?;
    Ok(stored.is_some_and(|stored| stored.intent.job_uid == output.job.as_str()))
}

/// Removes what killed attempts of these jobs have staged beside the final files on a local disk.
/// Such files do no harm, so if one cannot be removed, this is only logged.
pub(super) async fn remove_staged(jobs: &[String], folders: BTreeSet<PathBuf>) {
    if folders.is_empty() {
        return;
    }
    // A text that is not a uid could match anything.
    let jobs = jobs.iter().filter_map(|uid| JobUid::parse(uid).ok());
    let marks: Vec<String> = jobs.map(|job| format!(".{job}.e")).collect();
    let sweep = move || {
        folders
            .iter()
            .try_for_each(|folder| match std::fs::read_dir(folder) {
                Ok(mut entries) => entries.try_for_each(|entry| {
                    let entry = entry?;
                    let name = entry.file_name().into_string().unwrap_or_default();
                    let is_staged = |mark: &String| name.contains(mark);
                    let is_leftover = name.starts_with('.') && marks.iter().any(is_staged);
                    if is_leftover {
                        std::fs::remove_file(entry.path())
                    } else {
                        Ok(())
                    }
                }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            })
    };
    match tokio::task::spawn_blocking(sweep).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "staged files of killed attempts stay"),
        Err(error) => tracing::info!(%error, "staged files of killed attempts stay"),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::multipart::MultipartStore;
    use object_store::{ObjectStoreExt, PutPayload};
    use zephyr_crds::pipeline::SinkMode;

    use super::*;
    use crate::finalize::{OwnerWatch, give_up};
    use crate::storage::fake_http::{FakeHttp, Reply};
    use crate::storage::{JobStorage, Store, Stores};

    /// A bucket in memory, and a server that lists the uploads of this bucket by key.
    struct World {
        objects: Arc<InMemory>,
        uploads: Vec<(String, String)>,
        stores: Stores,
        _server: FakeHttp,
    }

    impl World {
        /// Begins uploads of these keys. The server lists by prefix if `by_prefix`, or else, like
        /// `MinIO`, only by whole keys.
        async fn new(keys: &[&str], by_prefix: bool) -> Self {
            let objects = Arc::new(InMemory::new());
            let mut uploads = Vec::new();
            for key in keys {
                let path = object_store::path::Path::parse(key).unwrap();
                let upload = objects.create_multipart(&path).await.unwrap();
                uploads.push(((*key).to_owned(), upload));
            }
            let listed = uploads.clone();
            let server = FakeHttp::start(move |request| {
                assert_eq!(request.method, "GET");
                let prefix = request.parameter("prefix").unwrap_or_default();
                let prefix = prefix.replace("%2F", "/");
                let mut text = String::new();
                for (key, upload) in &listed {
                    if (by_prefix && key.starts_with(&prefix)) || *key == prefix {
                        let _ = write!(text, "<Upload><Key>{key}</Key><UploadId>{upload}</UploadId><Initiated>1970-01-01T00:00:07Z</Initiated></Upload>");
                    }
                }
                let text = format!("<ListMultipartUploadsResult>{text}</ListMultipartUploadsResult>");
                Reply::new(200, text)
            })
            .await;
            let place = Location::parse("s3://b").unwrap();
            let signer = server.stores().open(&place).unwrap().signer.unwrap();
            let store = Store::remote(Arc::clone(&objects)).with_signer(signer);
            let stores = Stores::in_memory().with_store("s3://b", store);
            Self {
                objects,
                uploads,
                stores,
                _server: server,
            }
        }

        fn output(&self, uid: &str, path: &str) -> Output {
            let job = JobUid::parse(uid).unwrap();
            Output {
                storage: JobStorage::new(self.stores.clone(), "s3://jobs/x", job.clone()).unwrap(),
                stores: self.stores.clone(),
                job,
                namespace: "ns".to_owned(),
                name: uid.to_owned(),
                path: path.to_owned(),
                more_paths: Vec::new(),
                mode: SinkMode::Overwrite,
                has_begun: false,
            }
        }

        /// Returns the keys of the existing uploads. This also completes each of them, so it can be
        /// called only once.
        async fn left(&self) -> Vec<&str> {
            let mut left = Vec::new();
            for (key, upload) in &self.uploads {
                let path = object_store::path::Path::parse(key).unwrap();
                let completed = self.objects.complete_multipart(&path, upload, Vec::new());
                if completed.await.is_ok() {
                    left.push(key.as_str());
                }
            }
            left
        }

        async fn put(&self, key: &str, text: &'static str) {
            let path = object_store::path::Path::parse(key).unwrap();
            let payload = PutPayload::from_static(text.as_bytes());
            self.objects.put(&path, payload).await.unwrap();
        }
    }

    async fn claim(output: &Output) -> Result<(), OutputError> {
        super::super::claim(output, &mut OwnerWatch::default()).await
    }

    const KEYS: [&str; 5] = ["o/p-0", "o/p-1", "o/p-1x", "o/p-7", "o/q-0"];

    #[tokio::test]
    async fn uploads_under_the_outputs_names_are_removed_if_the_job_still_holds_the_folder() {
        for (by_prefix, left) in [
            (true, vec!["o/p-1x", "o/q-0"]),
            // Each of the job's own names was requested.
            (false, vec!["o/p-1x", "o/p-7", "o/q-0"]),
        ] {
            let world = World::new(&KEYS, by_prefix).await;
            let output = world.output("one", "s3://b/o/p-{shard}");
            claim(&output).await.unwrap();
            let aborted = throw_away_leftovers(&output, 3).await.unwrap();
            assert_eq!(aborted, KEYS.len() - left.len());
            assert_eq!(world.left().await, left);
        }
    }

    #[tokio::test]
    async fn uploads_stay_in_a_folder_that_this_job_does_not_hold() {
        for case in ["never", "heir", "finished", "removed"] {
            let world = World::new(&KEYS, true).await;
            let output = world.output("one", "s3://b/o/p-{shard}");
            if case != "never" {
                claim(&output).await.unwrap();
                give_up(&output).await.unwrap();
            }
            let started = object_store::path::Path::from("o/_STARTED.json");
            match case {
                "heir" => claim(&world.output("two", "s3://b/o/p-{shard}"))
                    .await
                    .unwrap(),
                "finished" => {
                    let manifest = r#"{"version":1,"jobUid":"two","job":"ns/two","files":[]}"#;
                    world.put("o/_SUCCESS.json", manifest).await;
                }
                "removed" => world.objects.delete(&started).await.unwrap(),
                _ => {}
            }
            assert_eq!(throw_away_leftovers(&output, 3).await.unwrap(), 0, "{case}");
            assert_eq!(world.left().await, KEYS, "{case}");
        }
    }

    #[tokio::test]
    async fn uploads_of_an_output_in_a_numbered_folder_stay() {
        let keys = ["o/7/x", "o/8/x"];
        let world = World::new(&keys, true).await;
        let output = world.output("one", "s3://b/o/{shard}/x");
        claim(&output).await.unwrap();
        claim(&world.output("two", "s3://b/o/7/x")).await.unwrap();
        let error = throw_away_leftovers(&output, 9).await.unwrap_err();
        assert!(
            error.to_string().contains("another job's output"),
            "{error}"
        );
        assert_eq!(world.left().await, keys);
    }

    #[tokio::test]
    async fn staged_files_of_a_failed_run_on_a_local_disk_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(&[], true).await;
        let path = format!("file://{}/{{shard}}/p-{{total}}", folder.path().display());
        let output = world.output("one", &path);
        claim(&output).await.unwrap();
        std::fs::create_dir(folder.path().join("1")).unwrap();
        let at = |name: &str| folder.path().join("1").join(name);
        for name in [".p-2.one.e1a1", ".p-2.two.e1a1", "p-2"] {
            std::fs::write(at(name), "x").unwrap();
        }
        assert_eq!(throw_away_leftovers(&output, 2).await.unwrap(), 0);
        assert!(!at(".p-2.one.e1a1").exists());
        assert!(at(".p-2.two.e1a1").exists() && at("p-2").exists());
    }
}
