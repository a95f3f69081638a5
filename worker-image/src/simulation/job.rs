//! Defines the jobs of the simulation, and computes their expected output without the engine. The
//! jobs are small, and their output changes if any record is lost, doubled or damaged. This module
//! runs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use zephyr_crds::frozen::{FrozenJob, FrozenRestart};
use zephyr_engine::id::{Generation, JobUid};
use zephyr_engine::plan::PlannedSource;
use zephyr_store::chance::Chance;
use zephyr_store::finalize::MANIFEST_NAME;
use zephyr_store::ledger::TableFiles;
use zephyr_store::storage::{JobStorage, Stores};

use super::client::stores;
use super::process::Process;
use super::rng::Rng;
use super::store::Server;
use crate::job::RunJob;

/// How many different jobs there are. Several seeds run each of them.
pub(super) const SHAPES: u64 = 12;
/// The folder of the final files in the store.
pub(super) const OUTPUT: &str = "out";

const UID: &str = "5d1a7c00-0000-4000-8000-000000000001";
const BUCKETS: [&str; 3] = ["s3://b", "s3://in", "s3://out"];

/// The place of the dead letters in the store.
pub(super) const DEAD_LETTERS: &str = "out/bad/";

/// A file in the output's folder that no job wrote.
pub(super) const FOREIGN: &str = "out/notes.txt";

/// A job with its input.
pub(super) struct SimulatedJob {
    frozen: FrozenJob,
    /// The content of each object that exists before the run, by name.
    files: BTreeMap<String, Vec<u8>>,
    /// The source of the plan. Empty if the job is not planned yet.
    pub(super) source: PlannedSource,
    pub(super) tables: TableFiles,
    /// How many files of the first shuffle one task gathers, if a stage does that. No plan of so
    /// little data would have such a stage by itself.
    pub(super) gather: Option<u32>,
    /// The lines of all final files together.
    pub(super) lines: Vec<String>,
    /// How many records each place skips. The source is place 0, the first step is place 1.
    pub(super) skipped: BTreeMap<u32, u64>,
    /// Whether the skipped records are written to files below [`DEAD_LETTERS`].
    pub(super) has_dead_letters: bool,
}

/// Bad lines, each with the number of the place that skips it. The first line is not JSON. In the
/// second, the first step cannot add to the value. In the third, the sum of the second step fails
/// after another aggregate has accepted the record.
const BAD_LINES: [(&str, u32); 3] = [
    ("{\"k\":", 0),
    ("{\"k\":1,\"v\":[]}", 1),
    ("{\"k\":2,\"v\":\"x\"}", 2),
];

/// Returns one random record. Some keys are frequent, and some records are equal.
fn draw_record(rng: &mut Rng) -> (u64, u64) {
    let key = rng.between(0, rng.clone().between(1, 12));
    (key, rng.between(0, 30))
}

/// Adds bad lines at both ends of a file, and counts them.
fn with_bad_lines(mut text: String, rng: &mut Rng, skipped: &mut BTreeMap<u32, u64>) -> String {
    for _ in 0..rng.between(0, 4) {
        let (line, place) = rng.pick(&BAD_LINES).unwrap_or(BAD_LINES[0]);
        *skipped.entry(place).or_default() += 1;
        text = if rng.between(0, 1) == 0 {
            format!("{line}\n{text}")
        } else {
            format!("{text}{line}\n")
        };
    }
    text
}

/// Makes the source and all steps skip bad records.
fn pass_over_bad_records(source: &mut Value, steps: &mut [Value], has_dead_letters: bool) {
    let on_error = |place: usize| {
        if has_dead_letters {
            let path = format!("s3://out/{DEAD_LETTERS}{place}-{{shard}}.jsonl");
            json!({"action": "DeadLetter", "path": path, "maxSkipped": 100})
        } else {
            json!({"action": "Skip", "maxSkipped": 100})
        }
    };
    source["files"]["onError"] = on_error(0);
    // A text stays a text, so that the sum refuses it.
    let map = "{k: .k, v: (.v + if .v | type == \"string\" then \"\" else 1 end)}";
    steps[0]["map"] = json!(map);
    for (place, step) in (1..).zip(steps) {
        step["onError"] = on_error(place);
    }
}

/// Returns the finished output of an older job. It contains a file that is not in its manifest and
/// has a name that this job also uses.
fn old_output() -> BTreeMap<String, Vec<u8>> {
    let listed = ["out/part-000.jsonl", "out/part-900.jsonl", "out/legacy.txt"];
    let uris = listed.map(|key| json!({"uri": format!("s3://out/{key}"), "bytes": 4}));
    let manifest = json!({"version": 1, "jobUid": "old", "job": "ns/old", "files": uris});
    let mut files = BTreeMap::from(listed.map(|key| (key.to_owned(), b"old\n".to_vec())));
    files.insert("out/part-77.jsonl".to_owned(), b"stray\n".to_vec());
    let manifest_name = format!("{OUTPUT}/{MANIFEST_NAME}");
    files.insert(manifest_name, manifest.to_string().into_bytes());
    files
}

fn frozen(spec: &Value) -> FrozenJob {
    let document = json!({
        "version": 1, "namespace": "simulation", "name": "job", "uid": UID, "generation": 1,
        "coordinatorAddress": "http://coordinator:7070",
        "spec": spec,
    });
    FrozenJob::from_json(&document.to_string()).unwrap()
}

/// Returns the run of a later generation, which began because the job was restarted.
pub(super) fn in_generation(mut job: RunJob, generation: u32) -> RunJob {
    if generation > 1 {
        job.frozen.generation = generation;
        job.frozen.restart = Some(FrozenRestart {
            token: format!("restart before generation {generation}"),
            generation,
        });
        job.identity.generation = Generation(generation);
    }
    job
}

/// Returns for each key the number of its values and their sum.
fn sums_by_key(pairs: impl Iterator<Item = (u64, u64)>) -> BTreeMap<u64, (u64, u64)> {
    let mut sums = BTreeMap::<u64, (u64, u64)>::new();
    for (key, value) in pairs {
        let sum = sums.entry(key).or_default();
        sum.0 += 1;
        sum.1 += value;
    }
    sums
}

impl SimulatedJob {
    pub(super) fn of_shape(shape: u64) -> Self {
        let mut rng = Rng::of(shape, "job");
        let shards = rng.between(1, 7);
        let has_files = shape.is_multiple_of(2);
        let has_second_stage = shape.is_multiple_of(3);
        let skips = has_files && shape % 4 == 2;
        let has_dead_letters = skips && shape % 8 == 2;
        let mut skipped = BTreeMap::new();
        let mut files = BTreeMap::new();
        let mut records = Vec::new();
        for shard in 0..shards {
            let count = rng.pick(&[0, 1, 20, 60]).unwrap_or(1);
            let own: Vec<(u64, u64)> = (0..count).map(|_| draw_record(&mut rng)).collect();
            let lines = own
                .iter()
                .map(|(key, value)| format!("{{\"k\":{key},\"v\":{value}}}\n"));
            let text: String = lines.collect();
            let text = if skips {
                with_bad_lines(text, &mut rng, &mut skipped)
            } else {
                text
            };
            files.insert(format!("in/{shard:03}.jsonl"), text.into_bytes());
            records.extend(own);
        }
        let values: Vec<Value> = records
            .iter()
            .map(|(key, value)| json!({"k": key, "v": value}))
            .collect();
        let mut source = if has_files {
            let mut files = json!({"paths": ["s3://in/in/*.jsonl"]});
            let mut sizes = Rng::of(shape, "sizes");
            if matches!(shape % SHAPES, 0 | 4 | 6) {
                files["splitBytes"] = json!(sizes.between(20, 300));
            }
            if matches!(shape % SHAPES, 2 | 4 | 8) {
                files["combineBytes"] = json!(sizes.between(200, 2000));
            }
            json!({"files": files})
        } else {
            files.clear();
            json!({"items": {"values": values, "shards": shards}})
        };
        let mut steps = vec![
            json!({"map": "{k: .k, v: (.v + 1)}"}),
            json!({"groupBy": {
                "key": ".k",
                "aggregate": {"n": {"count": {}}, "s": {"sum": ".v"}},
                "shards": rng.between(1, 5),
            }}),
        ];
        if skips {
            pass_over_bad_records(&mut source, &mut steps, has_dead_letters);
        }
        let sums = sums_by_key(records.iter().map(|(key, value)| (*key, value + 1)));
        let mut lines: Vec<String> = sums
            .iter()
            .map(|(key, (count, sum))| format!("{{\"key\":{key},\"n\":{count},\"s\":{sum}}}"))
            .collect();
        if has_second_stage {
            steps.push(json!({"groupBy": {
                "key": ".n % 4",
                "aggregate": {"m": {"count": {}}, "t": {"sum": ".s"}},
                "shards": rng.between(1, 3),
            }}));
            let second = sums_by_key(sums.values().map(|(count, sum)| (count % 4, *sum)));
            lines = second
                .iter()
                .map(|(key, (count, sum))| format!("{{\"key\":{key},\"m\":{count},\"t\":{sum}}}"))
                .collect();
        }
        lines.sort();
        let replaces = shape % 4 == 1;
        let mode = if replaces { "Overwrite" } else { "Refuse" };
        files.insert(FOREIGN.to_owned(), b"foreign\n".to_vec());
        if replaces {
            files.extend(old_output());
        }
        let spec = json!({
            "pipeline": {
                "source": source,
                "steps": steps,
                "sink": {"files": {"path": "s3://out/out/part-{shard:03}.jsonl", "mode": mode}},
            },
            "storage": {"uri": "s3://b/jobs"},
            "workers": {"replicas": 1},
            "retries": {"taskFailures": 1_000, "taskDisruptions": 0},
        });
        Self {
            frozen: frozen(&spec),
            files,
            source: PlannedSource::default(),
            tables: TableFiles::new(),
            gather: matches!(shape % SHAPES, 1 | 3 | 8 | 10)
                .then(|| u32::try_from(1 + shape % 3).unwrap_or(1)),
            lines,
            skipped,
            has_dead_letters,
        }
    }

    /// Returns a job with this `spec`, whose bucket contains these objects. Its expected lines and
    /// its shards are not known.
    pub(super) fn of_spec(spec: &Value, files: BTreeMap<String, Vec<u8>>) -> Self {
        Self {
            frozen: frozen(spec),
            files,
            source: PlannedSource::default(),
            tables: TableFiles::new(),
            gather: None,
            lines: Vec::new(),
            skipped: BTreeMap::new(),
            has_dead_letters: false,
        }
    }

    /// Returns the store's name of an object in the job's folder.
    pub(super) fn object(path: &str) -> String {
        format!("jobs/{UID}/{path}")
    }

    /// Puts the input into the store, where the job reads it.
    pub(super) fn put_input(&self, server: &Server) {
        for (path, content) in &self.files {
            server.place(path, Bytes::from(content.clone()));
        }
    }

    /// Returns the job with the store clients of one process. `None` stands for a task's thread,
    /// for which no simulated time passes.
    pub(super) fn on(
        &self,
        server: &Arc<Server>,
        process: Option<&Process>,
        chance: Chance,
        retry_time: std::time::Duration,
    ) -> RunJob {
        let stores = stores(server, process, chance, &BUCKETS).with_retry_time(retry_time);
        self.with(stores)
    }

    fn with(&self, stores: Stores) -> RunJob {
        let uid = JobUid::parse(UID).unwrap();
        let uri = &self.frozen.spec.storage.uri;
        RunJob {
            storage: JobStorage::new(stores.clone(), uri, uid).unwrap(),
            stores,
            ..RunJob::new(self.frozen.clone()).unwrap()
        }
    }
}
