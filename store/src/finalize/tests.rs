//! Tests the whole life of an output folder: with existing output, with a coordinator that ends
//! after each of its writes, and with other jobs that want the same folder. Files are written
//! directly here. Other tests show how uploads become files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde_json::json;
use zephyr_crds::pipeline::SinkMode::{self, Overwrite, Refuse};
use zephyr_engine::coordinator::record::{FilePlace, FinalPlace, OutputFile};
use zephyr_engine::id::{JobUid, TaskAttempt};

use super::*;
use crate::fixtures::attempts::first_attempt;
use crate::fixtures::tricky::{Trick, Tricks, tricky};
use crate::reclaim::{Marker, mark};
use crate::storage::{JobStorage, Sign, fetch, touch};

const PATH: &str = "s3://b/out/p-{shard}.jsonl";

/// A bucket.
#[derive(Default)]
struct World(Arc<InMemory>);

impl World {
    async fn put(&self, key: &str, text: impl Into<String>) {
        let payload = PutPayload::from(text.into().into_bytes());
        let path = object_store::path::Path::parse(key).unwrap();
        self.0.put(&path, payload).await.unwrap();
    }

    /// All keys except those in the jobs' own folders.
    async fn files(&self) -> BTreeMap<String, String> {
        let listed: Vec<_> = self.0.list(None).try_collect().await.unwrap();
        let mut files = BTreeMap::new();
        for meta in listed {
            let key = meta.location.to_string();
            if !key.starts_with("jobs/") {
                let bytes = self.0.get(&meta.location).await.unwrap();
                let bytes = bytes.bytes().await.unwrap();
                files.insert(key, String::from_utf8(bytes.to_vec()).unwrap());
            }
        }
        files
    }

    async fn names(&self) -> Vec<String> {
        self.files().await.into_keys().collect()
    }

    /// Puts the finished output of a job: its files and the manifest that lists them.
    async fn old_output(&self, uid: &str, keys: &[&str]) {
        let mut files = Vec::new();
        for key in keys {
            self.put(key, "old").await;
            files.push(json!({"uri": format!("s3://b/{key}"), "bytes": 3}));
        }
        let text = json!({"version": 1, "jobUid": uid, "job": "ns/old", "files": files});
        self.put("out/_SUCCESS.json", text.to_string()).await;
    }

    /// Returns the clients of a process that ends after this number of writes.
    fn until(&self, writes: usize) -> Stores {
        let done = AtomicUsize::new(0);
        let tricks: Tricks = Arc::new(move |call, _| {
            let is_write = call == "put" || call == "delete";
            let before = done.fetch_add(usize::from(is_write), Ordering::SeqCst);
            let trick = if before < writes {
                Trick::Pass
            } else {
                Trick::Deny
            };
            Box::pin(std::future::ready(trick))
        });
        tricky(&self.0, tricks)
    }

    fn output(&self, uid: &str, mode: SinkMode, path: &str, writes: usize) -> Output {
        let stores = self.until(writes);
        let job = JobUid::parse(uid).unwrap();
        Output {
            storage: JobStorage::new(stores.clone(), "s3://b/jobs", job.clone()).unwrap(),
            stores,
            job,
            namespace: "ns".to_owned(),
            name: "name".to_owned(),
            path: path.to_owned(),
            more_paths: Vec::new(),
            mode,
            has_begun: false,
        }
    }
}

/// The files that a job with this number of shards writes.
fn own_files(path: &str, shards: u32) -> Vec<(TaskAttempt, OutputFile)> {
    let file = |shard| {
        let place = FilePlace::from(FinalPlace::Multipart {
            uri: output_path(path, shard, shards).unwrap(),
            upload: "u".to_owned(),
            parts: vec![],
        });
        let file = OutputFile {
            rows: 1,
            bytes: 5,
            crc32c: crc32c::crc32c(b"fresh"),
            place,
        };
        (first_attempt(0, shard), file)
    };
    (0..shards).map(file).collect()
}

/// Claims the folder as a coordinator that has not observed any other job yet. If the job has no
/// claim so far, the answer must equal that of the preview.
async fn claim(output: &Output) -> Result<(), OutputError> {
    let foretold = foretold(output).await;
    let claimed = super::claim(output, &mut OwnerWatch::default()).await;
    let sentence =
        |result: &Result<(), OutputError>| result.as_ref().err().map(ToString::to_string);
    // A process of these tests may end at a write, which a preview does not make.
    let is_cut = matches!(&claimed, Err(error) if error.store_error().is_some());
    if let Some(foretold) = foretold.filter(|_| !is_cut) {
        assert_eq!(sentence(&foretold), sentence(&claimed));
    }
    claimed
}

/// Returns the answer of the preview, if the job has written nothing yet.
async fn foretold(output: &Output) -> Option<Result<(), OutputError>> {
    let manifest = manifest_location(&output.path).ok()?;
    let record = super::claim::read_record(output).await.ok()?;
    let location = super::intent::intent_location(&manifest);
    let intent = super::intent::read_intent(&output.stores, &location).await;
    let intent = intent.unwrap_or_default();
    let owner = super::owner::read_owner(&output.stores, &manifest).await;
    let owner = owner.unwrap_or_default();
    let is_own = record.is_some()
        || intent.is_some_and(|stored| stored.intent.job_uid == output.job.as_str())
        || owner.is_some_and(|owner| owner.is(&output.job));
    if is_own {
        return None;
    }
    let plan = crate::ledger::load_plan(&output.storage, false)
        .await
        .ok()?;
    let inputs = plan.into_iter().flat_map(|plan| plan.inputs);
    let inputs: Vec<String> = inputs.map(|input| input.uri).collect();
    Some(preview(output, &inputs, SystemTime::now()).await)
}

/// Runs a whole coordinator: it claims the folder, completes the files, and closes the output.
async fn run(output: &Output, shards: u32) -> Result<(), OutputError> {
    claim(output).await?;
    let files = own_files(&output.path, shards);
    // Only the first shard has dead letters.
    let more = output.more_paths.iter().flat_map(|path| own_files(path, 1));
    let more: Vec<(TaskAttempt, OutputFile)> = more.collect();
    for (_, file) in files.iter().chain(&more) {
        hold_output(output).await?;
        let location = Location::parse(final_uri(file)).unwrap();
        let store = output.stores.open(&location).unwrap().objects;
        let put = store.put(location.path(), PutPayload::from_static(b"fresh"));
        put.await.map_err(|error| {
            OutputError::Store(StorageError::from_store("writing", &location, &error))
        })?;
    }
    close(output, "digest", &files, &more).await.map(drop)
}

struct Scenario {
    mode: SinkMode,
    path: &'static str,
    /// Keys of an output that has finished.
    old: &'static [&'static str],
    /// Keys of files without a manifest.
    stray: &'static [&'static str],
    /// The keys that must exist at the end, besides the manifest and the files that belong to no
    /// job.
    left: &'static [&'static str],
    /// The uid of the job whose coordinator takes over. If it differs from that of the first job,
    /// the job was deleted and created again under the same name.
    successor: &'static str,
}

const FOREIGN: [&str; 4] = [
    "notes.md",
    "out/notes.md",
    "out/p-x.jsonl",
    "out/sub/p-0.jsonl",
];

/// Checks what must hold at whatever point a process ended: no foreign file is lost, and no
/// manifest is beside files of two jobs.
fn check(scenario: &Scenario, files: &BTreeMap<String, String>) {
    for key in FOREIGN {
        assert_eq!(files.get(key).map(String::as_str), Some("foreign"), "{key}");
    }
    let Some(manifest) = files.get("out/_SUCCESS.json") else {
        return;
    };
    let is_old = manifest.contains("\"jobUid\":\"old\"");
    let (keys, text) = if is_old {
        (scenario.old, "old")
    } else {
        (scenario.left, "fresh")
    };
    for key in keys {
        assert_eq!(files.get(*key).map(String::as_str), Some(text), "{key}");
    }
    if !is_old {
        let marks = ["out/_SUCCESS.json", "out/_STARTED.json"];
        let is_known = |key: &&String| {
            let known = [&FOREIGN[..], scenario.left, &marks].concat();
            known.contains(&key.as_str())
        };
        let unknown: Vec<_> = files.keys().filter(|key| !is_known(key)).collect();
        assert_eq!(unknown, [""; 0], "beside the new manifest");
    }
}

/// The number of shards of the new job equals that of the leftover files.
async fn begin(scenario: &Scenario) -> World {
    let world = World::default();
    for key in FOREIGN {
        world.put(key, "foreign").await;
    }
    for key in scenario.stray {
        world.put(key, "stray").await;
    }
    if !scenario.old.is_empty() {
        world.old_output("old", scenario.old).await;
    }
    world
}

async fn ends_right(world: &World, scenario: &Scenario, uid: &str) {
    let shards = u32::try_from(scenario.left.len()).unwrap();
    let output = world.output(uid, scenario.mode, scenario.path, usize::MAX);
    run(&output, shards).await.unwrap();
    let files = world.files().await;
    check(scenario, &files);
    let mut expected = [&FOREIGN[..], scenario.left, &["out/_SUCCESS.json"]].concat();
    expected.sort_unstable();
    assert_eq!(world.names().await, expected);
    // A coordinator may repeat all of this, before or after the job's result is recorded.
    run(&output, shards).await.unwrap();
    assert_eq!(world.files().await, files);
}

fn scenarios() -> Vec<Scenario> {
    const NUMBERED: &[&str] = &["out/p-0.jsonl", "out/p-1.jsonl"];
    vec![
        Scenario {
            mode: Refuse,
            path: PATH,
            old: &[],
            stray: &[],
            left: NUMBERED,
            successor: "new",
        },
        Scenario {
            mode: Refuse,
            path: PATH,
            old: &[],
            stray: &[],
            left: NUMBERED,
            successor: "newer",
        },
        Scenario {
            mode: Overwrite,
            path: PATH,
            old: &[
                "out/p-0.jsonl",
                "out/p-1.jsonl",
                "out/p-007.jsonl",
                "out/q-0.txt",
                "out/7/x",
            ],
            stray: &["out/p-9.jsonl"],
            left: NUMBERED,
            successor: "new",
        },
        Scenario {
            mode: Overwrite,
            path: PATH,
            old: &["out/p-0.jsonl", "out/q-0.txt"],
            stray: &[],
            left: NUMBERED,
            successor: "newer",
        },
        Scenario {
            mode: Overwrite,
            path: "s3://b/out/{shard}/x-{total:03}.jsonl",
            old: &["out/0/x-004.jsonl", "out/3/x-004.jsonl"],
            stray: &["out/12/x-7.jsonl"],
            left: &["out/0/x-002.jsonl", "out/1/x-002.jsonl"],
            successor: "new",
        },
        Scenario {
            mode: Overwrite,
            path: "s3://b/out/one.jsonl",
            old: &[],
            stray: &["out/one.jsonl"],
            left: &["out/one.jsonl"],
            successor: "newer",
        },
    ]
}

#[tokio::test]
async fn after_any_write_a_coordinator_may_end_and_its_successor_makes_the_same_output() {
    let mut ends = 0;
    for scenario in &scenarios() {
        let shards = u32::try_from(scenario.left.len()).unwrap();
        for first in 0.. {
            let mut has_ended = true;
            for second in 0.. {
                let world = begin(scenario).await;
                let output = world.output("new", scenario.mode, scenario.path, first);
                has_ended = run(&output, shards).await.is_err();
                check(scenario, &world.files().await);
                let uid = scenario.successor;
                let output = world.output(uid, scenario.mode, scenario.path, second);
                let is_finished_by_the_first = !has_ended && uid != "new";
                if is_finished_by_the_first && scenario.mode == Refuse {
                    break;
                }
                let is_last = run(&output, shards).await.is_ok();
                check(scenario, &world.files().await);
                ends += 1;
                let is_taken = matches!(scenario.mode, Refuse)
                    && world
                        .files()
                        .await
                        .get("out/_SUCCESS.json")
                        .is_some_and(|text| !text.contains(uid));
                if is_taken {
                    break;
                }
                ends_right(&world, scenario, uid).await;
                if is_last {
                    break;
                }
            }
            if !has_ended {
                break;
            }
        }
    }
    assert!(ends > 250, "{ends} pairs of ends");
}

#[tokio::test]
async fn existing_files_are_named_and_stay() {
    let world = World::default();
    for shard in 0..5 {
        world.put(&format!("out/p-{shard:04}.jsonl"), "old").await;
    }
    let before = world.files().await;
    let refused = world.output("new", Refuse, PATH, usize::MAX);
    let error = run(&refused, 1).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        "spec.pipeline.sink.files.path: files with names of output files exist already (got s3://b/out/p-0000.jsonl, s3://b/out/p-0001.jsonl, s3://b/out/p-0002.jsonl and 2 more); write to another folder, or set spec.pipeline.sink.files.mode: Overwrite to replace all files with such names"
    );
    assert_eq!(world.files().await, before);
}

#[tokio::test]
async fn a_preview_without_a_namespace_treats_a_job_of_this_name_as_an_earlier_run() {
    let world = World::default();
    claim(&world.output("old", Refuse, PATH, usize::MAX))
        .await
        .unwrap();
    let before = world.files().await;
    let mut output = world.output("new", Refuse, PATH, usize::MAX);
    for (namespace, is_free) in [("", true), ("ns", true), ("other", false)] {
        namespace.clone_into(&mut output.namespace);
        let previewed = preview(&output, &[], SystemTime::now()).await;
        assert_eq!(previewed.is_ok(), is_free, "{namespace}: {previewed:?}");
    }
    assert_eq!(world.files().await, before);
}

#[tokio::test]
async fn nothing_is_deleted_because_of_what_somebody_wrote_into_a_manifest() {
    let world = World::default();
    world.put("precious", "old").await;
    world.put("outer/p-0.jsonl", "old").await;
    world.put("out/_secret/x", "old").await;
    world.put("out/p-0.jsonl", "old").await;
    let listed = [
        "precious",
        "outer/p-0.jsonl",
        "out/_secret/x",
        "out/../precious",
    ];
    let files: Vec<_> = listed
        .map(|key| json!({"uri": format!("s3://b/{key}"), "bytes": 3}))
        .into();
    let text = json!({"jobUid": "old", "job": "ns/old", "files": files}).to_string();
    world.put("out/_SUCCESS.json", text).await;
    let output = world.output("new", Overwrite, PATH, usize::MAX);
    run(&output, 1).await.unwrap();
    let left = [
        "out/_SUCCESS.json",
        "out/_secret/x",
        "out/p-0.jsonl",
        "outer/p-0.jsonl",
        "precious",
    ];
    assert_eq!(world.names().await, left);

    // A file that is no longer the listed one must not be removed.
    let world = World::default();
    world.old_output("old", &["out/q.jsonl"]).await;
    world.put("out/q.jsonl", "another").await;
    let before = world.files().await;
    let output = world.output("new", Overwrite, PATH, usize::MAX);
    let error = run(&output, 1).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "spec.pipeline.sink.files.path: a file is not the one that the manifest of the replaced output lists (got s3://b/out/q.jsonl of 7 bytes; _SUCCESS.json says 3); move it away, or write to another folder"
    );
    assert_eq!(world.files().await, before);
}

#[tokio::test]
async fn a_manifest_or_a_claim_that_no_job_wrote_is_refused_in_both_modes() {
    for name in [MANIFEST_NAME, STARTED_NAME] {
        for mode in [Refuse, Overwrite] {
            let world = World::default();
            world.put(&format!("out/{name}"), "SUCCESS").await;
            let before = world.files().await;
            let output = world.output("new", mode, PATH, usize::MAX);
            let error = run(&output, 1).await.unwrap_err().to_string();
            let expected = format!(
                "it is not known whose output s3://b/out holds (got s3://b/out/{name}, of which"
            );
            assert!(error.contains(&expected), "{error}");
            assert_eq!(world.files().await, before);
        }
    }
}

#[tokio::test]
async fn output_in_a_folder_named_by_a_placeholder_is_refused_in_both_modes() {
    for name in [MANIFEST_NAME, STARTED_NAME] {
        for mode in [Refuse, Overwrite] {
            let world = World::default();
            world.put(&format!("out/7/{name}"), "{}").await;
            let output = world.output("new", mode, "s3://b/out/{shard}/x", usize::MAX);
            let error = run(&output, 1).await.unwrap_err().to_string();
            assert!(error.contains(&format!("s3://b/out/7/{name}")), "{error}");
        }
    }
}

#[tokio::test]
async fn files_that_appear_while_the_job_runs_are_named_and_no_manifest_is_written() {
    let world = World::default();
    let output = world.output("new", Refuse, PATH, usize::MAX);
    claim(&output).await.unwrap();
    let files = own_files(PATH, 1);
    world.put("out/p-0.jsonl", "fresh").await;
    world.put("out/p-1.jsonl", "stray").await;
    let error = close(&output, "digest", &files, &[]).await.unwrap_err();
    assert!(
        error.to_string().contains("s3://b/out/p-1.jsonl"),
        "{error}"
    );
    // Somebody overwrote a finished file.
    let world = World::default();
    let output = world.output("new", Refuse, PATH, usize::MAX);
    claim(&output).await.unwrap();
    world.put("out/p-0.jsonl", "of another").await;
    let error = close(&output, "digest", &files, &[]).await.unwrap_err();
    let expected = "(got s3://b/out/p-0.jsonl of 10 bytes; 5 were written)";
    assert!(error.to_string().contains(expected), "{error}");
    assert!(
        !world
            .names()
            .await
            .contains(&"out/_SUCCESS.json".to_owned())
    );
}

#[tokio::test]
async fn a_failed_job_that_claims_its_folder_again_keeps_other_jobs_out() {
    let world = World::default();
    let first = world.output("a", Refuse, PATH, usize::MAX);
    claim(&first).await.unwrap();
    world.put("out/p-0.jsonl", "fresh").await;
    give_up(&first).await.unwrap();
    assert!(world.files().await["out/_STARTED.json"].contains("\"failed\""));
    claim(&first).await.unwrap();
    assert!(world.files().await["out/_STARTED.json"].contains("\"running\""));
    let other = Output {
        name: "other".to_owned(),
        ..world.output("b", Overwrite, PATH, usize::MAX)
    };
    let taken = super::claim(&other, &mut OwnerWatch::default()).await;
    assert!(taken.is_err(), "it is held by a job that runs");
    run(&first, 1).await.unwrap();
    assert_eq!(world.names().await, ["out/_SUCCESS.json", "out/p-0.jsonl"]);
}

#[tokio::test]
async fn of_two_runs_of_one_name_the_later_gets_the_folder_and_the_earlier_stops_writing() {
    let world = World::default();
    let earlier = world.output("a", Refuse, PATH, usize::MAX);
    claim(&earlier).await.unwrap();
    world.put("out/p-5.jsonl", "stale").await;
    let later = world.output("b", Refuse, PATH, usize::MAX);
    claim(&later).await.unwrap();
    let superseded = "spec.pipeline.sink.files.path: a newer run of the job with this name owns s3://b/out (got s3://b/out/_STARTED.json of job ns/name, uid b); only the newer run writes the output, and this run writes no further file: delete this job, or give it another name and folder";
    for error in [
        claim(&earlier).await.unwrap_err(),
        hold_output(&earlier).await.unwrap_err(),
        run(&earlier, 1).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains(superseded), "{error}");
    }
    let error = close(&earlier, "digest", &[], &[]).await.unwrap_err();
    assert!(error.to_string().contains(superseded), "{error}");
    give_up(&earlier).await.unwrap();
    run(&later, 1).await.unwrap();
    assert_eq!(world.names().await, ["out/_SUCCESS.json", "out/p-0.jsonl"]);
    // The error is the same after the newer run has finished, in either mode and for every call.
    let finished = superseded.replace("_STARTED", "_SUCCESS");
    let overwriting = Output {
        mode: Overwrite,
        ..earlier.clone()
    };
    for earlier in [earlier, overwriting] {
        for error in [
            claim(&earlier).await.unwrap_err(),
            hold_output(&earlier).await.unwrap_err(),
            close(&earlier, "digest", &[], &[]).await.unwrap_err(),
        ] {
            assert_eq!(error.to_string(), finished);
        }
    }
}

#[tokio::test]
async fn a_file_that_an_earlier_run_completed_too_late_is_found_by_its_contents() {
    let world = World::default();
    claim(&world.output("a", Refuse, PATH, usize::MAX))
        .await
        .unwrap();
    let later = world.output("b", Refuse, PATH, usize::MAX);
    claim(&later).await.unwrap();
    world.put("out/p-0.jsonl", "other").await;
    let error = close(&later, "digest", &own_files(PATH, 1), &[]).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("(got s3://b/out/p-0.jsonl)"), "{error}");
    assert!(
        !world
            .names()
            .await
            .contains(&"out/_SUCCESS.json".to_owned())
    );
}

#[tokio::test]
async fn a_file_that_appears_while_the_job_runs_is_replaced_only_in_mode_overwrite() {
    for (mode, may_replace) in [(Refuse, false), (Overwrite, true)] {
        let world = World::default();
        let output = world.output("a", mode, PATH, usize::MAX);
        claim(&output).await.unwrap();
        assert_eq!(hold_output(&output).await.unwrap(), may_replace);
    }
    let world = World::default();
    let output = world.output("a", Refuse, PATH, usize::MAX);
    claim(&output).await.unwrap();
    world.put("out/p-0.jsonl", "precious").await;
    let (_, file) = &own_files(PATH, 1)[0];
    let error = complete_output(&output, file)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("(got s3://b/out/p-0.jsonl)"), "{error}");
    // What this job wrote belongs to it.
    world.put("out/p-0.jsonl", "fresh").await;
    let completed = complete_output(&output, file).await.unwrap();
    assert_eq!(completed, Finalized::Stands);
}

#[tokio::test]
async fn a_job_whose_ledger_has_begun_finds_its_own_files_and_continues() {
    let world = World::default();
    world.put("out/p-0.jsonl", "fresh").await;
    let fresh = world.output("a", Refuse, PATH, usize::MAX);
    let error = claim(&fresh).await.unwrap_err().to_string();
    assert!(error.contains("exist already"), "{error}");
    let begun = Output {
        has_begun: true,
        ..fresh
    };
    run(&begun, 2).await.unwrap();
    let expected = ["out/_SUCCESS.json", "out/p-0.jsonl", "out/p-1.jsonl"];
    assert_eq!(world.names().await, expected);
}

#[tokio::test]
async fn a_job_of_another_path_clears_away_what_an_earlier_run_of_its_name_left() {
    let world = World::default();
    let earlier = world.output("a", Refuse, "s3://b/out/q-{shard}.jsonl", usize::MAX);
    claim(&earlier).await.unwrap();
    world.put("out/q-5.jsonl", "half").await;
    world.put("out/p-3.jsonl", "foreign").await;
    // The error names a file that the earlier run cannot have left.
    let later = world.output("b", Refuse, PATH, usize::MAX);
    let error = claim(&later).await.unwrap_err().to_string();
    assert!(error.contains("(got s3://b/out/p-3.jsonl)"), "{error}");
    let later = world.output("c", Overwrite, PATH, usize::MAX);
    run(&later, 1).await.unwrap();
    assert_eq!(world.names().await, ["out/_SUCCESS.json", "out/p-0.jsonl"]);
}

#[tokio::test]
async fn a_failed_job_that_begins_anew_without_its_ledger_replaces_what_it_left() {
    let world = World::default();
    let output = world.output("a", Refuse, PATH, usize::MAX);
    claim(&output).await.unwrap();
    for key in ["out/p-0.jsonl", "out/p-7.jsonl"] {
        world.put(key, "earlier").await;
    }
    give_up(&output).await.unwrap();
    for meta in world.0.list(None).try_collect::<Vec<_>>().await.unwrap() {
        if meta.location.as_ref().starts_with("jobs/") {
            world.0.delete(&meta.location).await.unwrap();
        }
    }
    run(&output, 2).await.unwrap();
    let files = world.files().await;
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = ["out/_SUCCESS.json", "out/p-0.jsonl", "out/p-1.jsonl"];
    assert_eq!(names, expected);
    assert_eq!(files["out/p-0.jsonl"], "fresh");
}

#[tokio::test]
async fn a_claim_that_was_removed_while_its_job_runs_is_written_again() {
    let world = World::default();
    let output = world.output("new", Refuse, PATH, usize::MAX);
    claim(&output).await.unwrap();
    let started = Location::parse("s3://b/out/_STARTED.json").unwrap();
    let said = fetch(&output.stores, &started).await.unwrap();
    world.0.delete(started.path()).await.unwrap();
    hold_output(&output).await.unwrap();
    assert_eq!(fetch(&output.stores, &started).await.unwrap(), said);
    world.0.delete(started.path()).await.unwrap();
    claim(&output).await.unwrap();
    assert_eq!(fetch(&output.stores, &started).await.unwrap(), said);
}

/// A put may arrive after its process has ended, and after its job has ended.
#[tokio::test]
async fn the_claim_of_a_finished_job_excludes_no_other_job() {
    let world = World::default();
    let first = world.output("a", Refuse, PATH, usize::MAX);
    claim(&first).await.unwrap();
    let started = Location::parse("s3://b/out/_STARTED.json").unwrap();
    let said = fetch(&first.stores, &started).await.unwrap();
    run(&first, 2).await.unwrap();
    world
        .put(
            "out/_STARTED.json",
            String::from_utf8(said.to_vec()).unwrap(),
        )
        .await;
    let mut next = world.output("b", Refuse, PATH, usize::MAX);
    "other".clone_into(&mut next.name);
    let error = claim(&next).await.unwrap_err().to_string();
    assert!(
        error.contains("holds the finished output of another job"),
        "{error}"
    );
    next.mode = Overwrite;
    run(&next, 1).await.unwrap();
    assert_eq!(world.names().await, ["out/_SUCCESS.json", "out/p-0.jsonl"]);
    let mut again = world.output("c", Refuse, PATH, usize::MAX);
    "other".clone_into(&mut again.name);
    let error = claim(&again).await.unwrap_err().to_string();
    assert!(
        error.contains("holds the finished output of an earlier run of the job of this name"),
        "{error}"
    );
}

#[tokio::test]
async fn on_a_local_disk_output_is_replaced_and_what_is_not_a_file_is_refused() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("out").join(name);
    let world = World::default();
    let path = |rest: &str| format!("file://{}/out/{rest}", folder.path().display());
    let numbered = path("p-{shard}.jsonl");
    run(&world.output("a", Refuse, &numbered, usize::MAX), 3)
        .await
        .unwrap();
    std::fs::write(at("notes"), "x").unwrap();
    run(&world.output("b", Overwrite, &numbered, usize::MAX), 1)
        .await
        .unwrap();
    let mut names: Vec<_> = std::fs::read_dir(at("."))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["_SUCCESS.json", "notes", "p-0.jsonl"]);

    // Files that an interrupted run staged are removed with the next run of the same name.
    std::fs::remove_file(at("_SUCCESS.json")).unwrap();
    std::fs::remove_file(at("p-0.jsonl")).unwrap();
    claim(&world.output("dead", Refuse, &numbered, usize::MAX))
        .await
        .unwrap();
    std::fs::write(at(".p-0.jsonl.dead.e1a1"), "x").unwrap();
    let successor = world.output("heir", Refuse, &numbered, usize::MAX);
    claim(&successor).await.unwrap();
    std::fs::write(at("p-0.jsonl"), "fresh").unwrap();
    let mut files = own_files(&numbered, 1);
    files[0].1.place = FilePlace::from(FinalPlace::Staged {
        uri: path("p-0.jsonl"),
        staged: path(".p-0.jsonl.heir.e1a1"),
    });
    close(&successor, "digest", &files, &[]).await.unwrap();
    assert!(!at(".p-0.jsonl.dead.e1a1").exists());

    std::fs::remove_file(at("_SUCCESS.json")).unwrap();
    std::fs::create_dir_all(at("elsewhere")).unwrap();
    std::fs::write(at("elsewhere/x"), "x").unwrap();
    symlink(at("elsewhere"), at("7")).unwrap();
    std::fs::create_dir(at("p-9.jsonl")).unwrap();
    for (rest, expected) in [
        ("{shard}/x", "is behind a symbolic link to a folder"),
        ("p-{shard}.jsonl", "a folder has the name of an output file"),
    ] {
        let output = world.output("c", Overwrite, &path(rest), usize::MAX);
        let error = claim(&output).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(at("elsewhere/x").exists() && at("p-0.jsonl").exists());
}

/// A folder `out` of a local disk with the output `0/p` of a job of one shard. The folder `0` was
/// moved to `arch`, and a link to `arch` is in its place.
fn archived(disk: &std::path::Path) {
    let at = |name: &str| disk.join(name);
    std::fs::create_dir_all(at("out")).unwrap();
    std::fs::create_dir_all(at("arch")).unwrap();
    std::fs::write(at("arch/p"), "old").unwrap();
    std::os::unix::fs::symlink(at("arch"), at("out/0")).unwrap();
    let uri = format!("file://{}/out/0/p", disk.display());
    let text = json!({"version": 1, "jobUid": "old", "job": "ns/old", "files": [{"uri": uri, "bytes": 3}]});
    std::fs::write(at("out/_SUCCESS.json"), text.to_string()).unwrap();
}

#[tokio::test]
async fn older_output_behind_a_link_to_a_folder_is_named_and_never_removed() {
    let disk = tempfile::tempdir().unwrap();
    let real = disk.path().canonicalize().unwrap();
    archived(&real);
    let world = World::default();
    let path = format!("file://{}/out/q-{{shard}}", real.display());
    let output = world.output("new", Overwrite, &path, usize::MAX);
    let error = run(&output, 1).await.unwrap_err().to_string();
    let disk_name = real.display();
    assert_eq!(
        error,
        format!(
            "spec.pipeline.sink.files.path: a file that Overwrite would remove is behind a symbolic link to a folder (got file://{disk_name}/out/0/p, through {disk_name}/out/0); files behind such links are never removed: move the link away, or write to another folder"
        )
    );
    assert!(real.join("arch/p").exists() && real.join("out/_SUCCESS.json").exists());
    assert!(!real.join("out/q-0").exists());

    // A link above the sink's folder is the user's own choice.
    std::os::unix::fs::symlink(real.join("out"), real.join("way")).unwrap();
    std::fs::remove_file(real.join("out/0")).unwrap();
    std::fs::rename(real.join("arch"), real.join("out/0")).unwrap();
    let text = std::fs::read_to_string(real.join("out/_SUCCESS.json")).unwrap();
    let text = text.replace("/out/0/p", "/way/0/p");
    std::fs::write(real.join("out/_SUCCESS.json"), text).unwrap();
    let path = format!("file://{}/way/q-{{shard}}", real.display());
    let output = world.output("newer", Overwrite, &path, usize::MAX);
    run(&output, 1).await.unwrap();
    assert!(!real.join("out/0/p").exists());
}

#[tokio::test]
async fn a_link_that_appears_while_the_job_runs_is_not_followed_to_remove_older_output() {
    let disk = tempfile::tempdir().unwrap();
    let real = disk.path().canonicalize().unwrap();
    archived(&real);
    std::fs::remove_file(real.join("out/0")).unwrap();
    std::fs::rename(real.join("arch"), real.join("out/0")).unwrap();
    let world = World::default();
    let path = format!("file://{}/out/q-{{shard}}", real.display());
    let output = world.output("new", Overwrite, &path, usize::MAX);
    claim(&output).await.unwrap();
    std::fs::rename(real.join("out/0"), real.join("arch")).unwrap();
    std::os::unix::fs::symlink(real.join("arch"), real.join("out/0")).unwrap();
    std::fs::write(real.join("out/q-0"), "fresh").unwrap();
    let closed = close(&output, "digest", &own_files(&path, 1), &[]).await;
    let error = closed.unwrap_err().to_string();
    assert!(error.contains("is behind a symbolic link"), "{error}");
    assert!(real.join("arch/p").exists());
}

#[tokio::test]
async fn an_input_that_would_be_removed_with_older_output_is_named_before_the_start() {
    let disk = tempfile::tempdir().unwrap();
    let real = disk.path().canonicalize().unwrap();
    let at = |name: &str| real.join(name);
    for folder in ["out", "in"] {
        std::fs::create_dir(at(folder)).unwrap();
    }
    std::fs::write(at("out/p-7"), "1\n").unwrap();
    std::fs::write(at("out/old-7"), "1\n").unwrap();
    let world = World::default();
    let path = |name: &str| format!("file://{}/out/{name}-{{shard}}", real.display());
    claim(&world.output("dead", Overwrite, &path("old"), usize::MAX))
        .await
        .unwrap();
    for (uid, target) in [("x", "p-7"), ("y", "old-7")] {
        let link = at("in").join(target);
        std::os::unix::fs::symlink(at("out").join(target), &link).unwrap();
        let output = world.output(uid, Overwrite, &path("p"), usize::MAX);
        let plan = crate::ledger::PlanFile {
            digest: "d".to_owned(),
            pipeline: json!({}),
            inputs: vec![crate::storage::InputFile {
                uri: format!("file://{}", link.display()),
                size: 2,
                etag: None,
            }],
            source_shards: 1,
            ..crate::ledger::PlanFile::default()
        };
        crate::ledger::keep_plan(&output.storage, plan)
            .await
            .unwrap();
        let error = claim(&output).await.unwrap_err().to_string();
        let found = format!("(got file://{}/out/{target})", real.display());
        assert!(
            error.contains("an input of this job would be removed"),
            "{error}"
        );
        assert!(error.contains(&found), "{error}");
    }
}

/// Two jobs of different names with the same storage on a local disk. The times of files on that
/// disk can be set back.
struct Rivals {
    world: World,
    folder: tempfile::TempDir,
}

impl Rivals {
    fn new() -> Self {
        let (world, folder) = (World::default(), tempfile::tempdir().unwrap());
        Self { world, folder }
    }

    fn storage(&self) -> String {
        format!("file://{}", self.folder.path().display())
    }

    fn output(&self, name: &str, mode: SinkMode) -> Output {
        let output = self.world.output(name, mode, PATH, usize::MAX);
        let storage = JobStorage::new(output.stores.clone(), &self.storage(), output.job.clone());
        Output {
            storage: storage.unwrap(),
            name: name.to_owned(),
            ..output
        }
    }

    /// Makes a job that was deleted this long after its last sign of life.
    async fn deleted(&self, mode: SinkMode, silence: Duration) -> Output {
        let output = self.output("old", mode);
        touch(&output.storage, Sign::Alive).await.unwrap();
        claim(&output).await.unwrap();
        self.age(silence);
        output
    }

    /// Makes the sign of life this old, and one second more, because the clock of a disk is coarser
    /// than that of the machine.
    fn age(&self, silence: Duration) {
        let silence = silence + Duration::from_secs(1);
        let probe = self.folder.path().join("old/probe");
        let probe = std::fs::File::options().append(true).open(probe).unwrap();
        probe.set_modified(SystemTime::now() - silence).unwrap();
    }
}

const HOURS: Duration = Duration::from_hours(3);
const MINUTES: Duration = Duration::from_mins(10);

#[tokio::test(start_paused = true)]
async fn the_folder_of_a_deleted_job_is_taken_over_by_a_job_that_watched_its_silence() {
    let rivals = Rivals::new();
    let old = rivals.deleted(Refuse, HOURS).await;
    let (new, mut watch) = (rivals.output("new", Refuse), OwnerWatch::default());
    let error = super::claim(&new, &mut watch).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(
        error.to_string(),
        "spec.pipeline.sink.files.path: s3://b/out is held by job ns/old, uid old, whose last sign of life is 180 min old (got s3://b/out/_STARTED.json); this job takes the folder over if there is no new sign of life within 6 min"
    );
    tokio::time::sleep(MINUTES).await;
    super::claim(&new, &mut watch).await.unwrap();
    let started = Location::parse("s3://b/out/_STARTED.json").unwrap();
    let said = fetch(&new.stores, &started).await.unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(
        (said["jobUid"].as_str(), said["tookOverFrom"].as_str()),
        (
            Some("new"),
            Some("job ns/old, uid old, whose last sign of life is 180 min old")
        )
    );
    // If the old job's coordinator starts again, it writes no further file.
    let expected = "another job has taken s3://b/out since this one claimed it (got s3://b/out/_STARTED.json of job ns/new, uid new)";
    for error in [
        claim(&old).await.unwrap_err(),
        hold_output(&old).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    // A file that the old job completed too late is found by its contents.
    rivals.world.put("out/p-0.jsonl", "stale").await;
    let error = close(&new, "digest", &own_files(PATH, 1), &[]).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("(got s3://b/out/p-0.jsonl)"), "{error}");
    rivals.world.put("out/p-0.jsonl", "fresh").await;
    close(&new, "digest", &own_files(PATH, 1), &[])
        .await
        .unwrap();
    let names = rivals.world.names().await;
    assert_eq!(names, ["out/_SUCCESS.json", "out/p-0.jsonl"]);
}

#[tokio::test(start_paused = true)]
async fn a_folder_of_a_job_that_may_be_alive_is_never_taken_over() {
    let refused = |error: OutputError, reason: &str| {
        assert!(!error.is_transient());
        let expected = format!(
            "spec.pipeline.sink.files.path: another job has begun to write to s3://b/out and has not ended (got s3://b/out/_STARTED.json of job ns/old, uid old), and its folder is not taken over because {reason}; wait for its end, write to another folder or, only if nothing of that job runs any more, remove that file: `aws s3 rm 's3://b/out/_STARTED.json'`"
        );
        assert_eq!(error.to_string(), expected);
    };
    // The old job wrote a sign some minutes ago.
    let rivals = Rivals::new();
    rivals.deleted(Refuse, MINUTES).await;
    let new = rivals.output("new", Overwrite);
    let error = claim(&new).await.unwrap_err();
    refused(
        error,
        "its last sign of life is 10 min old, and 60 min of silence are needed",
    );
    // The old job writes a sign while it is watched, as after an outage of the store.
    rivals.age(HOURS);
    let mut watch = OwnerWatch::default();
    let error = super::claim(&new, &mut watch).await.unwrap_err();
    assert!(error.is_transient());
    touch(&rivals.output("old", Refuse).storage, Sign::Alive)
        .await
        .unwrap();
    tokio::time::sleep(MINUTES).await;
    let error = super::claim(&new, &mut watch).await.unwrap_err();
    refused(
        error,
        "its last sign of life is 0 min old, and 60 min of silence are needed",
    );
    // A sign with an earlier time than the sign that was seen before is a different sign.
    rivals.age(HOURS);
    let error = super::claim(&new, &mut watch).await.unwrap_err();
    assert!(error.is_transient());
    rivals.age(HOURS * 2);
    tokio::time::sleep(MINUTES).await;
    let error = super::claim(&new, &mut watch).await.unwrap_err();
    assert!(error.is_transient());
    // A suspended job gives no sign for as long as it is suspended.
    let old = rivals.output("old", Refuse).storage;
    touch(&old, Sign::Suspended).await.unwrap();
    rivals.age(HOURS * 100);
    for _ in 0..2 {
        let error = super::claim(&new, &mut watch).await.unwrap_err();
        refused(
            error,
            "it is suspended, and keeps the folder until it is resumed and ends; a job that was cancelled or deleted while it was suspended keeps it too",
        );
        tokio::time::sleep(MINUTES).await;
    }
    touch(&old, Sign::Alive).await.unwrap();
    rivals.age(HOURS);
    let error = super::claim(&new, &mut watch).await.unwrap_err();
    assert!(error.is_transient(), "it was resumed, and is gone now");
    // The ledger of the old job is on another machine's disk.
    std::fs::remove_file(rivals.folder.path().join("old/probe")).unwrap();
    let error = claim(&new).await.unwrap_err();
    refused(error, "its ledger is not on this machine");
    // The ledger of the old job has another `storage.uri`.
    let elsewhere = Rivals::new();
    let new = Output {
        storage: elsewhere.output("new", Refuse).storage,
        ..new
    };
    let error = claim(&new).await.unwrap_err();
    let storage = rivals.storage();
    refused(
        error,
        &format!("its ledger is under another spec.storage.uri, {storage}"),
    );
    // An earlier release did not record where the ledger is.
    let said = rivals.world.files().await["out/_STARTED.json"].clone();
    let mut said: serde_json::Value = serde_json::from_str(&said).unwrap();
    said.as_object_mut().unwrap().remove("storage").unwrap();
    let world = &rivals.world;
    world.put("out/_STARTED.json", said.to_string()).await;
    let error = claim(&rivals.output("new", Refuse)).await.unwrap_err();
    refused(error, "it does not say where its ledger is");
}

/// If the storage cannot be read, the job is not known to be gone, however long it is watched.
#[tokio::test(start_paused = true)]
async fn a_job_whose_storage_cannot_be_read_keeps_its_folder() {
    let world = World::default();
    let old = world.output("old", Refuse, PATH, usize::MAX);
    touch(&old.storage, Sign::Alive).await.unwrap();
    claim(&old).await.unwrap();
    for object in ["jobs/old/probe", "jobs/old/ended.json"] {
        for is_busy in [true, false] {
            let tricks: Tricks = Arc::new(move |_, path| {
                let trick = match (path.as_ref() == object, is_busy) {
                    (false, _) => Trick::Pass,
                    (true, true) => Trick::Fail,
                    (true, false) => Trick::Deny,
                };
                Box::pin(std::future::ready(trick))
            });
            let stores = tricky(&world.0, tricks);
            let new = world.output("new", Overwrite, PATH, usize::MAX);
            let storage = JobStorage::new(stores.clone(), "s3://b/jobs", new.job.clone());
            let new = Output {
                name: "new".to_owned(),
                storage: storage.unwrap(),
                stores,
                ..new
            };
            let mut watch = OwnerWatch::default();
            for _ in 0..2 {
                let error = super::claim(&new, &mut watch).await.unwrap_err();
                let expected = "is not taken over because its ledger cannot be read: ";
                assert!(error.to_string().contains(expected), "{error}");
                tokio::time::sleep(MINUTES).await;
            }
        }
    }
}

#[tokio::test]
async fn a_job_that_has_ended_keeps_no_folder_whatever_its_claim_says() {
    let rivals = Rivals::new();
    let old = rivals.deleted(Refuse, Duration::ZERO).await;
    let marker = Marker::new(&old.storage, "ns/old".to_owned(), "X".to_owned(), None);
    mark(&old.storage, &marker).await.unwrap();
    rivals.world.put("out/p-3.jsonl", "half").await;
    // The files of the old job are refused or replaced like those of any job that failed.
    let error = claim(&rivals.output("new", Refuse)).await.unwrap_err();
    assert!(
        error.to_string().contains("s3://b/out/p-3.jsonl"),
        "{error}"
    );
    run(&rivals.output("new", Overwrite), 1).await.unwrap();
    let names = rivals.world.names().await;
    assert_eq!(names, ["out/_SUCCESS.json", "out/p-0.jsonl"]);
}

#[tokio::test]
async fn a_listed_file_is_replaced_only_if_it_is_unchanged_since_the_listing() {
    let crc = |text: &str| format!("{:08x}", crc32c::crc32c(text.as_bytes()));
    // What the manifest lists for the file, and whether the job is refused because of it.
    for (listed, is_refused) in [
        (json!({"bytes": 3, "crc32c": crc("old")}), false),
        (json!({"bytes": 3, "crc32c": crc("own")}), true),
        (json!({"bytes": 4, "crc32c": crc("old")}), true),
        (json!({"bytes": 3}), false),
        (json!({"bytes": 3, "crc32c": "not a number"}), false),
    ] {
        let world = World::default();
        let mut file = listed.clone();
        file["uri"] = json!("s3://b/out/q-0.jsonl");
        let text = json!({"version": 1, "jobUid": "a", "job": "ns/old", "files": [file]});
        world.put("out/_SUCCESS.json", text.to_string()).await;
        world.put("out/q-0.jsonl", "old").await;
        let output = world.output("b", Overwrite, PATH, usize::MAX);
        let done = run(&output, 1).await;
        let names = world.names().await;
        let is_there = names.contains(&"out/q-0.jsonl".to_owned());
        assert_eq!(
            (done.is_err(), is_there),
            (is_refused, is_refused),
            "{listed}"
        );
        if let Err(error) = done {
            let said = error.to_string();
            let expected = "a file is not the one that the manifest of the replaced output lists (got s3://b/out/q-0.jsonl";
            assert!(said.contains(expected), "{said}");
        }
    }
}

#[tokio::test]
async fn a_listed_file_that_changes_while_the_job_runs_stays() {
    let world = World::default();
    world
        .old_output("a", &["out/q-0.jsonl", "out/q-1.jsonl"])
        .await;
    let output = world.output("b", Overwrite, PATH, usize::MAX);
    claim(&output).await.unwrap();
    // The new file has the same size.
    world.put("out/q-0.jsonl", "own").await;
    run(&output, 1).await.unwrap();
    let names = world.names().await;
    assert_eq!(
        names,
        ["out/_SUCCESS.json", "out/p-0.jsonl", "out/q-0.jsonl"]
    );
}

#[tokio::test]
async fn staged_files_are_removed_even_if_the_end_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let path = |name: &str| format!("file://{}/{name}", folder.path().display());
    let world = World::default();
    let numbered = path("p-{shard}.jsonl");
    let mut files = own_files(&numbered, 1);
    files[0].1.place = FilePlace::from(FinalPlace::Staged {
        uri: path("p-0.jsonl"),
        staged: path(".p-0.jsonl.heir.e1a1"),
    });
    let staged = [".p-0.jsonl.dead.e1a1", ".p-0.jsonl.heir.e1a2"];
    claim(&world.output("dead", Refuse, &numbered, usize::MAX))
        .await
        .unwrap();
    let successor = world.output("heir", Refuse, &numbered, usize::MAX);
    claim(&successor).await.unwrap();
    std::fs::write(at("p-0.jsonl"), "fresh").unwrap();
    let started = std::fs::read(at("_STARTED.json")).unwrap();
    close(&successor, "digest", &files, &[]).await.unwrap();
    let end_before_removal = || {
        std::fs::write(at("_STARTED.json"), &started).unwrap();
        for name in staged {
            std::fs::write(at(name), "x").unwrap();
        }
    };
    // The next coordinator of the same job.
    end_before_removal();
    close(&successor, "digest", &files, &[]).await.unwrap();
    assert!(staged.iter().all(|name| !at(name).exists()));
    assert!(!at("_STARTED.json").exists());
    // No coordinator of the same job follows, only a job that replaces the output.
    end_before_removal();
    let next = world.output("next", Overwrite, &numbered, usize::MAX);
    claim(&next).await.unwrap();
    std::fs::write(at("p-0.jsonl"), "fresh").unwrap();
    close(&next, "digest", &files, &[]).await.unwrap();
    assert!(staged.iter().all(|name| !at(name).exists()));
}

fn with_dead_letters(world: &World, uid: &str, mode: SinkMode, writes: usize) -> Output {
    Output {
        more_paths: vec!["s3://b/out/bad/d-{shard}.jsonl".to_owned()],
        ..world.output(uid, mode, PATH, writes)
    }
}

#[tokio::test]
async fn dead_letters_of_older_runs_are_refused_or_replaced_like_output() {
    let world = World::default();
    world.put("out/bad/d-7.jsonl", "stray").await;
    let output = with_dead_letters(&world, "new", Refuse, usize::MAX);
    let error = run(&output, 2).await.unwrap_err().to_string();
    assert!(error.contains("s3://b/out/bad/d-7.jsonl"), "{error}");
    for writes in 0..40 {
        let world = World::default();
        world
            .old_output("old", &["out/p-0.jsonl", "out/p-9.jsonl"])
            .await;
        world.put("out/bad/d-7.jsonl", "stray").await;
        world.put("out/bad/notes.md", "foreign").await;
        let _ends = run(&with_dead_letters(&world, "new", Overwrite, writes), 2).await;
        let output = with_dead_letters(&world, "new", Overwrite, usize::MAX);
        run(&output, 2).await.unwrap();
        let names = [
            "out/_SUCCESS.json",
            "out/bad/d-0.jsonl",
            "out/bad/notes.md",
            "out/p-0.jsonl",
            "out/p-1.jsonl",
        ];
        assert_eq!(world.names().await, names, "after {writes} writes");
        let manifest = world.files().await.remove("out/_SUCCESS.json").unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        assert_eq!(manifest["files"].as_array().map(Vec::len), Some(2));
        assert_eq!(manifest["totals"]["files"], 2);
        assert_eq!(
            manifest["deadLetters"][0]["uri"],
            "s3://b/out/bad/d-0.jsonl"
        );
        // The next job writes no dead letters, and removes those that the manifest lists.
        run(&world.output("next", Overwrite, PATH, usize::MAX), 1)
            .await
            .unwrap();
        let names = ["out/_SUCCESS.json", "out/bad/notes.md", "out/p-0.jsonl"];
        assert_eq!(world.names().await, names);
    }
}

#[tokio::test]
async fn an_unfinished_run_is_continued_with_its_dead_letters() {
    let world = World::default();
    let first = with_dead_letters(&world, "first", Refuse, usize::MAX);
    claim(&first).await.unwrap();
    world.put("out/bad/d-3.jsonl", "left").await;
    let second = with_dead_letters(&world, "second", Refuse, usize::MAX);
    run(&second, 1).await.unwrap();
    let names = ["out/_SUCCESS.json", "out/bad/d-0.jsonl", "out/p-0.jsonl"];
    assert_eq!(world.names().await, names);
}

#[tokio::test]
async fn dead_letters_that_a_killed_run_had_staged_are_removed_although_the_next_run_writes_none() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("out").join(name);
    let world = World::default();
    let path = |rest: &str| format!("file://{}/out/{rest}", folder.path().display());
    let killed = Output {
        more_paths: vec![path("bad/d-{shard}.jsonl")],
        ..world.output("killed", Refuse, &path("p-{shard}.jsonl"), usize::MAX)
    };
    claim(&killed).await.unwrap();
    std::fs::create_dir_all(at("bad")).unwrap();
    std::fs::write(at("bad/.d-0.jsonl.killed.e1a1"), "x").unwrap();
    std::fs::write(at("bad/.d-0.jsonl.other.e1a1"), "x").unwrap();
    run(
        &world.output("next", Refuse, &path("p-{shard}.jsonl"), usize::MAX),
        1,
    )
    .await
    .unwrap();
    assert!(!at("bad/.d-0.jsonl.killed.e1a1").exists());
    assert!(
        at("bad/.d-0.jsonl.other.e1a1").exists(),
        "the file belongs to a job that never wrote to this folder"
    );
}

#[tokio::test]
async fn what_a_failed_job_of_another_name_left_is_replaced_or_named_at_once() {
    let world = World::default();
    let mut failed = with_dead_letters(&world, "failed", Refuse, usize::MAX);
    failed
        .more_paths
        .push("s3://b/out/bad/lines-{shard}.jsonl".to_owned());
    claim(&failed).await.unwrap();
    for left in ["p-4", "bad/d-0", "bad/d-4", "bad/lines-1", "bad/lines-2"] {
        world.put(&format!("out/{left}.jsonl"), "left").await;
    }
    give_up(&failed).await.unwrap();
    // This job writes no dead letters, and would leave those of both places.
    let mut other = world.output("other", Overwrite, PATH, usize::MAX);
    "other".clone_into(&mut other.name);
    let error = claim(&other).await.unwrap_err().to_string();
    let expected = "(got s3://b/out/bad/d-0.jsonl, s3://b/out/bad/d-4.jsonl, s3://b/out/bad/lines-1.jsonl and 1 more of job ns/name, uid failed)";
    assert!(error.contains(expected), "{error}");
    // This one writes under the same names.
    other.more_paths.clone_from(&failed.more_paths);
    run(&other, 1).await.unwrap();
    let names = [
        "out/_SUCCESS.json",
        "out/bad/d-0.jsonl",
        "out/bad/lines-0.jsonl",
        "out/p-0.jsonl",
    ];
    assert_eq!(world.names().await, names);
}

#[tokio::test]
async fn dead_letters_do_not_go_into_the_folder_of_another_jobs_output() {
    for marker in ["out/bad/_SUCCESS.json", "out/bad/_STARTED.json"] {
        let world = World::default();
        world.put(marker, "{}").await;
        for mode in [Refuse, Overwrite] {
            let output = with_dead_letters(&world, "new", mode, usize::MAX);
            let error = run(&output, 1).await.unwrap_err().to_string();
            assert!(
                error.contains("another job's output is in the folder of the dead letters"),
                "{error}"
            );
        }
    }
}
