//! Tests of shuffle files. A file must return what was written, however it was buffered, spilled
//! and merged, and any damage must be found.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
        order: None,
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
                .push(
                    Record::parse(format!("{{\"k\":{key},\"v\":{value}}}").as_bytes())
                        .unwrap()
                        .into(),
                )
                .unwrap();
        }
        writer
            .finish(self.handle(), storage, first_attempt(0, shard), PARTITIONS)
            .unwrap()
    }

    fn reader(&self, storage: &JobStorage, memory_bytes: usize) -> ShuffleReader {
        ShuffleReader {
            runtime: self.handle().clone(),
            storage: storage.clone(),
            partitions: PARTITIONS,
            memory_bytes,
            folder: self.spill(),
            counted: Arc::new(|_| ()),
        }
    }

    /// Publishes the merged index of these outputs.
    fn publish(&self, storage: &JobStorage, outputs: &[(TaskAttempt, OutputFile)]) -> String {
        let publish = publish_index(storage, Epoch(1), 0, shape(outputs), outputs);
        self.runtime.block_on(publish).unwrap()
    }

    /// Reads the records of one partition, as text.
    fn read(
        &self,
        storage: &JobStorage,
        outputs: &[(TaskAttempt, OutputFile)],
        partition: u32,
        memory_bytes: usize,
    ) -> Result<Vec<String>, ShuffleError> {
        let index = self.publish(storage, outputs);
        self.read_published(storage, &index, shape(outputs), partition, memory_bytes)
    }

    fn read_published(
        &self,
        storage: &JobStorage,
        index: &str,
        shape: IndexShape,
        partition: u32,
        memory_bytes: usize,
    ) -> Result<Vec<String>, ShuffleError> {
        let slices = load_slices(storage, index, shape, partition);
        let slices = self.runtime.block_on(slices).map_err(ShuffleError::Store)?;
        let merger = self.programs.reduce.merger().unwrap();
        let reader = self.reader(storage, memory_bytes);
        merger
            .records(reader.partition(merger, partition, slices)?)
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

fn shape(outputs: &[(TaskAttempt, OutputFile)]) -> IndexShape {
    IndexShape {
        stage: outputs[0].0.task.stage,
        tasks: u32::try_from(outputs.len()).unwrap(),
        partitions: PARTITIONS,
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
    const MAPPERS: u32 = 135;
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let mappers: Vec<Vec<(u32, u32)>> = (0..MAPPERS)
        .map(|shard| {
            (0..20)
                .map(|n| ((shard + n) % 37, shard * 100 + n))
                .collect()
        })
        .collect();
    let outputs = outputs(&bench, &storage, &mappers, usize::MAX);
    for memory_bytes in [0, 100_000, usize::MAX] {
        let read = bench.read_all(&storage, &outputs, memory_bytes);
        assert_eq!(read.unwrap(), expected(&mappers), "{memory_bytes}");
    }
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
        writer.push(record.unwrap().into()).unwrap();
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
    // There are four calls for each partition. They read the file's index, write the merged index,
    // read it, and read the data.
    for call in 0..4 * PARTITIONS as usize {
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

/// Counts the reads of each kind of object: merged indexes, lists of outputs, and shuffle files.
fn counting() -> (Tricks, Arc<[AtomicUsize; 3]>) {
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    let counted = Arc::clone(&counts);
    let tricks: Tricks = Arc::new(move |call, path| {
        let name = path.filename().unwrap_or_default();
        let kind = [
            name.starts_with("index-"),
            name.starts_with("outputs-"),
            name == "shuffle",
        ];
        if let Some(kind) = kind.iter().position(|is_it| *is_it)
            && call == "get"
        {
            counted[kind].fetch_add(1, Ordering::SeqCst);
        }
        Box::pin(std::future::ready(Trick::Pass))
    });
    (tricks, counts)
}

/// Gathers the files in groups of this size.
fn gather(
    bench: &Bench,
    storage: &JobStorage,
    outputs: &[(TaskAttempt, OutputFile)],
    size: usize,
    memory_bytes: usize,
) -> Result<Vec<(TaskAttempt, OutputFile)>, ShuffleError> {
    let merger = bench.programs.map.combiner().unwrap().merger();
    let gather = |(shard, group)| {
        let task = first_attempt(1, shard);
        let reader = bench.reader(storage, memory_bytes);
        let entries = merger.merge_runs(reader.files(merger, group)?);
        let folder = bench.spill();
        let file = write_entries(bench.handle(), storage, task, PARTITIONS, &folder, entries)?;
        Ok((task, file))
    };
    (0..).zip(outputs.chunks(size)).map(gather).collect()
}

#[test]
fn a_reducer_asks_for_one_slice_and_its_ranges_and_each_index_is_read_once() {
    const MAPPERS: u32 = 50;
    let bench = Bench::new();
    let (tricks, counts) = counting();
    let storage = job(tricky(&Arc::new(InMemory::new()), tricks));
    // The even mappers have no record of the partition of key 1, and one mapper has no record at
    // all.
    let mappers: Vec<Vec<(u32, u32)>> = (0..MAPPERS)
        .map(|shard| match shard {
            0 => vec![],
            _ if shard % 2 == 0 => vec![(1, shard)],
            _ => (0..9).map(|key| (key, shard)).collect(),
        })
        .collect();
    let outputs = outputs(&bench, &storage, &mappers, usize::MAX);
    let index = bench.publish(&storage, &outputs);
    let count = |kind: usize| counts[kind].swap(0, Ordering::SeqCst);
    assert_eq!(count(2), 49, "one read of each file's index");
    let mut read = Vec::new();
    for partition in 0..PARTITIONS {
        read.extend(
            bench
                .read_published(&storage, &index, shape(&outputs), partition, 1 << 20)
                .unwrap(),
        );
    }
    read.sort();
    assert_eq!(read, expected(&mappers));
    assert_eq!((count(0), count(1)), (PARTITIONS as usize, 0));
    assert_eq!(count(2), 25 * 3 + 24, "only ranges with entries are read");
}

/// Returns tricks by which each read of an object whose name contains this text ends in this way.
fn reads_of(text: &'static str, fate: fn() -> Trick) -> Tricks {
    Arc::new(move |call, path| {
        let is_meant = call == "get" && path.as_ref().contains(text);
        let trick = if is_meant { fate() } else { Trick::Pass };
        Box::pin(std::future::ready(trick))
    })
}

#[test]
fn one_unreadable_file_stays_open_in_a_merged_index_and_a_store_that_answers_nothing_is_an_error() {
    let bench = Bench::new();
    let inner = Arc::new(InMemory::new());
    let mappers = [vec![(1, 1)], vec![], vec![(1, 2)], vec![(2, 3)]];
    let good = job(tricky(&inner, damaging(None)));
    let outputs = outputs(&bench, &good, &mappers, usize::MAX);
    let publish = |tricks: Tricks| {
        let storage = job(tricky(&inner, tricks).with_retry_time(Duration::ZERO));
        let publish = publish_index(&storage, Epoch(1), 0, shape(&outputs), &outputs);
        bench.runtime.block_on(publish)
    };
    let fates: [fn() -> Trick; 2] = [|| Trick::Deny, || Trick::Fail];
    for fate in fates {
        let list = publish(reads_of("data/0/2/e1a1/shuffle", fate)).unwrap();
        for partition in 0..PARTITIONS {
            let load = load_slice(&good, "data/0/index-e1-0", shape(&outputs), partition);
            let slices = bench.runtime.block_on(load).unwrap();
            let open = slices.iter().filter(|slice| slice.entry.is_none());
            let open: Vec<u32> = open.map(|slice| slice.producer.task.shard.0).collect();
            assert_eq!(open, [2], "every partition has to ask the file itself");
        }
        let read = (0..PARTITIONS).flat_map(|partition| {
            let read = bench.read_published(&good, &list, shape(&outputs), partition, 0);
            read.unwrap()
        });
        let mut read: Vec<String> = read.collect();
        read.sort();
        assert_eq!(read, expected(&mappers));
    }
    let error = publish(reads_of("data/0/", || Trick::Fail)).unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[test]
fn a_reducer_without_a_merged_index_asks_the_files_as_in_release_0_1_0() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let mappers = [vec![(1, 1), (2, 5)], vec![], vec![(1, 2)]];
    let outputs = outputs(&bench, &storage, &mappers, usize::MAX);
    let listed = publish_stage(&storage, Epoch(1), StageId(0), 0, &outputs);
    let list = bench.runtime.block_on(listed).unwrap();
    let read = (0..PARTITIONS).flat_map(|partition| {
        let read = bench.read_published(&storage, &list, shape(&outputs), partition, 0);
        read.unwrap()
    });
    let mut read: Vec<String> = read.collect();
    read.sort();
    assert_eq!(read, expected(&mappers));
    // A program of that release can also read what is published now.
    let list = bench.publish(&storage, &outputs);
    let loaded = bench.runtime.block_on(load_stage(&storage, &list));
    assert_eq!(loaded.unwrap(), outputs);
}

#[test]
fn gathered_files_have_the_same_groups_whatever_is_gathered_together() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let mappers: Vec<Vec<(u32, u32)>> = (0..23)
        .map(|shard| (0..shard % 5 * 10).map(|n| ((shard + n) % 17, n)).collect())
        .collect();
    let outputs = outputs(&bench, &storage, &mappers, usize::MAX);
    for (size, memory_bytes) in [(1, 0), (2, usize::MAX), (20, 0), (23, usize::MAX), (100, 0)] {
        let gathered = gather(&bench, &storage, &outputs, size, memory_bytes).unwrap();
        assert_eq!(gathered.len(), outputs.len().div_ceil(size));
        let read = bench.read_all(&storage, &gathered, 0);
        assert_eq!(read.unwrap(), expected(&mappers), "{size}");
    }
    let nothing = gather(&bench, &storage, &outputs[..1], 1, 0).unwrap();
    assert_eq!(
        nothing[0].1.rows, 0,
        "a task without records writes no file"
    );
}

#[test]
fn a_flipped_byte_in_a_gathered_file_is_detected_and_read_once_more() {
    let bench = Bench::new();
    let inner = Arc::new(InMemory::new());
    let storage = job(tricky(&inner, damaging(None)));
    let records = [(1, 1), (2, 2), (5, 3)];
    let task = first_attempt(0, 0);
    let outputs = [(task, bench.write(&storage, 0, &records, usize::MAX))];
    for call in 0..2 {
        let once = job(tricky(&inner, damaging(Some(call))));
        let gathered = gather(&bench, &once, &outputs, 1, 0).unwrap();
        let read = bench.read_all(&storage, &gathered, 0);
        assert_eq!(read.unwrap(), expected(&[records.to_vec()]), "call {call}");
    }
    let path = shuffle_path(task);
    let good = content(&bench, &storage, &path);
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1 << (at % 8);
        replace(&bench, &storage, &path, bad);
        let error = gather(&bench, &storage, &outputs, 1, 0).unwrap_err();
        assert!(
            matches!(error, ShuffleError::LoseInput { producer, .. } if producer == task),
            "byte {at}: {error}"
        );
    }
}

#[test]
fn any_damage_to_a_merged_index_is_named_and_never_gives_fewer_records() {
    let bench = Bench::new();
    let storage = job(Stores::in_memory());
    let outputs = outputs(&bench, &storage, &[vec![(1, 1)], vec![(2, 2)]], usize::MAX);
    let list = bench.publish(&storage, &outputs);
    assert_eq!(list, "data/0/outputs-e1-0");
    let index = "data/0/index-e1-0";
    let object = format!("{index}-0");
    let good = content(&bench, &storage, &object);
    let slice = good.len() / PARTITIONS as usize;
    let load = |partition| load_slice(&storage, index, shape(&outputs), partition);
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        replace(&bench, &storage, &object, bad);
        let partition = u32::try_from(at / slice).unwrap();
        let error = bench.runtime.block_on(load(partition)).unwrap_err();
        let expected =
            "reading s3://b/jobs/uid/data/0/index-e1-0-0: damaged: a slice's checksum is wrong";
        assert_eq!(error.to_string(), expected, "byte {at}");
    }
    // The slices of two partitions change places.
    let mut swapped = good[slice..2 * slice].to_vec();
    swapped.extend_from_slice(&good[..slice]);
    swapped.extend_from_slice(&good[2 * slice..]);
    replace(&bench, &storage, &object, swapped);
    assert!(bench.runtime.block_on(load(0)).is_err());
    replace(&bench, &storage, &object, good[..good.len() - 1].to_vec());
    assert!(bench.runtime.block_on(load(0)).is_err(), "it is too short");
    // The files can be read without it.
    let read = bench.read_published(&storage, &list, shape(&outputs), 0, 0);
    let rest = (1..PARTITIONS).flat_map(|partition| {
        let read = bench.read_published(&storage, &list, shape(&outputs), partition, 0);
        read.unwrap()
    });
    let mut read: Vec<String> = read.unwrap().into_iter().chain(rest).collect();
    read.sort();
    assert_eq!(read, expected(&[vec![(1, 1)], vec![(2, 2)]]));
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
