//! Tests of shuffle files. A file must return what was written, however it was buffered, spilled
//! and merged, and any damage must be found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use proptest::prelude::*;
use tokio::runtime::{Handle, Runtime};
use zephyr_engine::coordinator::record::OutputFile;
use zephyr_engine::expr::Variables;
use zephyr_engine::id::{Epoch, JobUid, StageId, TaskAttempt};
use zephyr_engine::ops::StageProgram;
use zephyr_engine::pipeline::{
    Aggregate, Format, GroupBy, Pipeline, Sink, Source as PipelineSource, Step,
};
use zephyr_engine::plan::plan;
use zephyr_engine::record::{Limits, Record};

use super::*;
use crate::fixtures::attempts::first_attempt;
use crate::fixtures::tricky::{Trick, Tricks, tricky};
use crate::storage::{JobStorage, Stores, fetch};

const PARTITIONS: u32 = 3;

/// The stage before and the stage after a groupBy.
struct Programs {
    map: StageProgram,
    reduce: StageProgram,
}

fn programs() -> Programs {
    let group = GroupBy {
        key: ".k".to_owned(),
        aggregates: vec![
            ("n".to_owned(), Aggregate::Count),
            ("all".to_owned(), Aggregate::Collect(".v".to_owned())),
        ],
        shards: Some(PARTITIONS),
    };
    let pipeline = Pipeline {
        source: PipelineSource::Files { empty_ok: false },
        steps: vec![Step::GroupBy(group)],
        sink: Sink {
            format: Format::Jsonl,
        },
        values: zephyr_engine::pipeline::Values::new(),
        tables: zephyr_engine::pipeline::Tables::new(),
        on_errors: zephyr_engine::pipeline::OnErrors::new(),
    };
    let plan = plan(&pipeline, 1);
    Programs {
        map: StageProgram::compile(
            &plan.stages[0],
            &Variables::of(&plan.values).unwrap(),
            &Limits::default(),
        )
        .unwrap(),
        reduce: StageProgram::compile(
            &plan.stages[1],
            &Variables::of(&plan.values).unwrap(),
            &Limits::default(),
        )
        .unwrap(),
    }
}

fn job(stores: Stores) -> JobStorage {
    JobStorage::new(stores, "s3://b/jobs", JobUid::parse("uid").unwrap()).unwrap()
}

/// The environment of a test. It has a runtime for calls and a folder for runs. Like tasks, the
/// tests themselves run outside of the runtime.
struct Bench {
    runtime: Runtime,
    folder: tempfile::TempDir,
    programs: Programs,
}

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            folder: tempfile::tempdir().unwrap(),
            programs: programs(),
        }
    }

    fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    fn spill(&self) -> SpillFolder {
        SpillFolder::new(self.folder.path())
    }

    fn write(
        &self,
        storage: &JobStorage,
        shard: u32,
        records: &[(u32, u32)],
        memory_bytes: usize,
    ) -> OutputFile {
        let mut writer = ShuffleWriter::new(
            self.programs.map.combiner().unwrap(),
            self.spill(),
            memory_bytes,
        );
        for (key, value) in records {
            writer
                .push(Record::parse(format!("{{\"k\":{key},\"v\":{value}}}").as_bytes()).unwrap())
                .unwrap();
        }
        writer
            .finish(self.handle(), storage, first_attempt(0, shard), PARTITIONS)
            .unwrap()
    }

    fn source(&self, storage: &JobStorage, partition: u32, memory_bytes: usize) -> Source {
        Source {
            runtime: self.handle().clone(),
            storage: storage.clone(),
            partitions: PARTITIONS,
            partition,
            memory_bytes,
            streams: 4,
            counted: Arc::new(|_| ()),
        }
    }

    /// Reads the records of one partition, as text.
    fn read(
        &self,
        storage: &JobStorage,
        outputs: &[(TaskAttempt, OutputFile)],
        partition: u32,
        memory_bytes: usize,
    ) -> Result<Vec<String>, ShuffleError> {
        let merger = self.programs.reduce.merger().unwrap();
        let mut merge = PartitionMerge::new(merger, self.spill());
        for (producer, file) in outputs {
            let stream = self.runtime.block_on(PartitionStream::open(
                self.source(storage, partition, memory_bytes),
                *producer,
                file,
            ))?;
            if !stream.is_empty() {
                merge.push(Box::new(stream))?;
            }
        }
        merger
            .records(merge.streams()?)
            .map(|record| record.map(|record: Record| record.as_json_str().to_owned()))
            .collect()
    }

    fn read_all(
        &self,
        storage: &JobStorage,
        outputs: &[(TaskAttempt, OutputFile)],
        memory_bytes: usize,
    ) -> Result<Vec<String>, ShuffleError> {
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            all.extend(self.read(storage, outputs, partition, memory_bytes)?);
        }
        all.sort();
        Ok(all)
    }
}

/// Returns the expected result, computed without a shuffle.
fn expected(mappers: &[Vec<(u32, u32)>]) -> Vec<String> {
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (key, value) in mappers.iter().flatten() {
        groups.entry(*key).or_default().push(*value);
    }
    let mut all: Vec<String> = groups
        .iter()
        .map(|(key, values)| {
            format!(
                "{{\"key\":{key},\"n\":{},\"all\":{}}}",
                values.len(),
                format!("{values:?}").replace(' ', "")
            )
        })
        .collect();
    all.sort();
    all
}

fn outputs(
    bench: &Bench,
    storage: &JobStorage,
    mappers: &[Vec<(u32, u32)>],
    memory_bytes: usize,
) -> Vec<(TaskAttempt, OutputFile)> {
    (0..)
        .zip(mappers)
        .map(|(shard, records)| {
            (
                first_attempt(0, shard),
                bench.write(storage, shard, records, memory_bytes),
            )
        })
        .collect()
}

#[test]
fn more_mappers_than_are_merged_at_once_give_the_same_groups() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let mappers: Vec<Vec<(u32, u32)>> = (0..u32::try_from(FAN_IN).unwrap() * 2 + 7)
        .map(|shard| {
            (0..20)
                .map(|n| ((shard + n) % 37, shard * 100 + n))
                .collect()
        })
        .collect();
    let outputs = outputs(&bench, &storage, &mappers, usize::MAX);
    assert_eq!(
        bench.read_all(&storage, &outputs, 1 << 20).unwrap(),
        expected(&mappers)
    );
}

#[test]
fn fault_4782_a_buffer_over_its_budget_is_spilled_and_gives_the_same_file() {
    let bench = Bench::new();
    let (roomy, tight) = (job(Stores::in_memory()), job(Stores::in_memory()));
    let records: Vec<(u32, u32)> = (0..3000).map(|n| (n * 7919 % 101, n)).collect();
    let in_memory = bench.write(&roomy, 0, &records, usize::MAX);
    let spilled = bench.write(&tight, 0, &records, 0);
    assert_eq!(in_memory, spilled);
    assert_eq!(
        bench
            .read_all(&tight, &[(first_attempt(0, 0), spilled)], 0)
            .unwrap(),
        expected(&[records])
    );
}

#[test]
fn each_entry_that_is_spilled_merged_and_written_is_progress() {
    const RECORDS: u32 = 200;
    let bench = Bench::new();
    let written = Arc::default();
    let folder = bench.spill().counting(&written);
    let combiner = bench.programs.map.combiner().unwrap();
    let mut writer = ShuffleWriter::new(combiner, folder, 0);
    for key in 0..RECORDS {
        let record = Record::parse(format!("{{\"k\":{key},\"v\":1}}").as_bytes());
        writer.push(record.unwrap()).unwrap();
    }
    let spilled = written.load(Ordering::Relaxed);
    assert_eq!(spilled, u64::from(RECORDS), "a run for each record");
    writer
        .finish(
            bench.handle(),
            &job(Stores::in_memory()),
            first_attempt(0, 0),
            PARTITIONS,
        )
        .unwrap();
    // There are more runs than are merged at a time. So each entry is written three times: to a
    // run, to a merged run, and to the file.
    assert_eq!(written.load(Ordering::Relaxed), 3 * u64::from(RECORDS));
}

#[test]
fn a_partition_larger_than_one_range_is_read_in_ranges() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let noise = |n: u32| n.wrapping_mul(2_654_435_761) ^ (n << 7);
    let records: Vec<(u32, u32)> = (0..60_000).map(|n| (noise(n), noise(n + 1))).collect();
    let file = bench.write(&storage, 0, &records, usize::MAX);
    assert!(
        file.bytes > 3 * 64 * 1024 * u64::from(PARTITIONS),
        "{} bytes",
        file.bytes
    );
    assert_eq!(
        bench
            .read_all(&storage, &[(first_attempt(0, 0), file)], 0)
            .unwrap(),
        expected(&[records])
    );
}

#[test]
fn an_empty_output_is_not_written_and_has_no_records() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let file = bench.write(&storage, 0, &[], 0);
    assert_eq!((file.rows, file.bytes), (0, 0));
    let location = storage.at(&shuffle_path(first_attempt(0, 0))).unwrap();
    let store = storage.stores().open(&location).unwrap().objects;
    let found = bench.runtime.block_on(store.head(location.path()));
    assert!(
        matches!(found, Err(object_store::Error::NotFound { .. })),
        "{found:?}"
    );
    assert!(
        bench
            .read_all(&storage, &[(first_attempt(0, 0), file)], 0)
            .unwrap()
            .is_empty()
    );
}

fn replace(bench: &Bench, storage: &JobStorage, path: &str, bytes: Vec<u8>) {
    let location = storage.at(path).unwrap();
    let store = storage.stores().open(&location).unwrap().objects;
    bench
        .runtime
        .block_on(store.put(location.path(), PutPayload::from(bytes)))
        .unwrap();
}

fn content(bench: &Bench, storage: &JobStorage, path: &str) -> Bytes {
    bench
        .runtime
        .block_on(fetch(storage.stores(), &storage.at(path).unwrap()))
        .unwrap()
}

#[test]
fn any_flipped_byte_is_detected() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let records: Vec<(u32, u32)> = (0..40).map(|n| (n % 7, n)).collect();
    let file = bench.write(&storage, 0, &records, usize::MAX);
    let path = shuffle_path(first_attempt(0, 0));
    let good = content(&bench, &storage, &path);
    check_file(first_attempt(0, 0), PARTITIONS, &good).unwrap();
    let tail = good.len() - 24;
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1 << (at % 8);
        assert!(
            check_file(first_attempt(0, 0), PARTITIONS, &bad).is_err(),
            "byte {at}"
        );
        if at < tail {
            replace(&bench, &storage, &path, bad);
            let error = bench
                .read_all(&storage, &[(first_attempt(0, 0), file.clone())], 0)
                .unwrap_err();
            assert!(
                matches!(error, ShuffleError::LoseInput { producer, .. } if producer == first_attempt(0, 0)),
                "byte {at}: {error}"
            );
        }
    }
}

#[test]
fn fault_found_here_a_missing_truncated_or_other_attempts_file_is_lost_input() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let file = bench.write(&storage, 0, &[(1, 1), (2, 2)], usize::MAX);
    let other = bench.write(&storage, 1, &[(1, 1), (2, 3)], usize::MAX);
    assert_eq!(file.bytes, other.bytes);
    let path = shuffle_path(first_attempt(0, 0));
    let good = content(&bench, &storage, &path);
    let lost = || {
        let error = bench
            .read_all(&storage, &[(first_attempt(0, 0), file.clone())], 0)
            .unwrap_err();
        assert!(matches!(error, ShuffleError::LoseInput { .. }), "{error}");
        assert!(error.to_string().starts_with("the output of stage 1 shard 0 attempt e1a1 is lost: reading s3://b/jobs/uid/data/0/0/e1a1/shuffle: "), "{error}");
    };
    replace(&bench, &storage, &path, good[..good.len() - 1].to_vec());
    lost();
    replace(
        &bench,
        &storage,
        &path,
        content(&bench, &storage, &shuffle_path(first_attempt(0, 1))).to_vec(),
    );
    lost();
    let location = storage.at(&path).unwrap();
    let store = storage.stores().open(&location).unwrap().objects;
    bench
        .runtime
        .block_on(store.delete(location.path()))
        .unwrap();
    lost();
}

/// Makes the call with this number, counted from 0, return damaged bytes.
fn damaging(damaged_call: Option<usize>) -> Tricks {
    let calls = AtomicUsize::new(0);
    Arc::new(move |_, _| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        let trick = if Some(call) == damaged_call {
            Trick::Damage
        } else {
            Trick::Pass
        };
        Box::pin(std::future::ready(trick))
    })
}

#[test]
fn fault_8309_data_damaged_in_transit_is_read_once_more() {
    let bench = Bench::new();
    let inner = Arc::new(InMemory::new());
    let records = [(1, 1), (2, 2), (5, 3)];
    let good = job(tricky(&inner, damaging(None)));
    let file = bench.write(&good, 0, &records, usize::MAX);
    for call in 0..2 * PARTITIONS as usize {
        let once = job(tricky(&inner, damaging(Some(call))));
        let read = bench
            .read_all(&once, &[(first_attempt(0, 0), file.clone())], 0)
            .unwrap();
        assert_eq!(read, expected(&[records.to_vec()]), "call {call}");
    }

    let outputs = [(first_attempt(0, 0), file)];
    let published = publish_stage(&good, Epoch(1), StageId(0), 0, &outputs);
    let path = bench.runtime.block_on(published).unwrap();
    let once = job(tricky(&inner, damaging(Some(0))));
    let read = bench.runtime.block_on(load_stage(&once, &path));
    assert_eq!(read.unwrap(), outputs, "the list of outputs");
}

#[test]
fn the_list_of_outputs_is_read_as_it_was_published_and_damage_is_named() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let outputs = outputs(&bench, &storage, &[vec![(1, 1)], vec![]], usize::MAX);
    let path = bench
        .runtime
        .block_on(publish_stage(&storage, Epoch(4), StageId(0), 2, &outputs))
        .unwrap();
    assert_eq!(path, "data/0/outputs-e4-2");
    assert_eq!(
        bench.runtime.block_on(load_stage(&storage, &path)).unwrap(),
        outputs
    );
    let good = content(&bench, &storage, &path);
    let body = String::from_utf8(good.to_vec()).unwrap();
    let body = body.split_once('\n').unwrap().1.replace("e1a1/", "e1a2/");
    let checksum = crc32c::crc32c(body.as_bytes());
    let foreign = format!("zephyr-outputs 1 {checksum:08x}\n{body}").into_bytes();
    replace(&bench, &storage, &path, foreign);
    let read = bench.runtime.block_on(load_stage(&storage, &path));
    assert!(read.is_err(), "another attempt's file");
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        replace(&bench, &storage, &path, bad);
        let error = bench
            .runtime
            .block_on(load_stage(&storage, &path))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("reading s3://b/jobs/uid/data/0/outputs-e4-2: damaged: "),
            "byte {at}: {error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_written_value_is_read_back(
        mappers in prop::collection::vec(prop::collection::vec((0_u32..50, any::<u32>()), 0..200), 1..6),
        write_memory in prop::sample::select(vec![0_usize, 4096, usize::MAX]),
    ) {
        let bench = Bench::new();
        let storage = job(Stores::in_memory());
        let outputs = outputs(&bench, &storage, &mappers, write_memory);
        prop_assert_eq!(bench.read_all(&storage, &outputs, 0).unwrap(), expected(&mappers));
    }
}
