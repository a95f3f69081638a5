//! Runs each shuffling step on skewed data that is many times larger than the memory of the worker:
//! half of the records have one key. So the steps need the local disk. The output must be right,
//! and no task may be ended because of its memory. By default the data is small, and the worker
//! too. `make test-large` and `make soak` set `ZEPHYR_LARGE_MB` and use a worker of 1 GiB.

#![expect(clippy::unwrap_used, reason = "only tests are in here")]

#[expect(dead_code, reason = "what only other runs need")]
mod processes;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use processes::{Processes, children_of};
use serde_json::{Value, json};
use zephyr_engine::coordinator::record::LogRecord;

/// The size of the data if nothing else is set.
const MEGABYTES: u64 = 48;
/// The memory of the worker for data of that size. With this memory, a buffer has 16 MiB.
const SMALL_WORKER_BYTES: u64 = 160 << 20;
/// The memory of the worker for more data.
const WORKER_BYTES: u64 = 1 << 30;
/// How many files there are: each is one task.
const FILES: u64 = 8;
/// The length of a record's text.
const TEXT_BYTES: usize = 140;

fn megabytes() -> u64 {
    let set = std::env::var("ZEPHYR_LARGE_MB").ok();
    set.map_or(MEGABYTES, |text| text.parse().unwrap())
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

struct Row {
    /// 0 is the frequent key.
    key: u64,
    number: u64,
    text: String,
}

impl Row {
    fn line(&self) -> String {
        let Self { key, number, text } = self;
        format!("{{\"k\":\"user {key}\",\"n\":{number},\"text\":\"{text}\"}}")
    }
}

/// The rows of the data in order. Every tenth one repeats the text of an earlier one.
fn rows(count: u64) -> impl Iterator<Item = Row> {
    let mut numbers = Numbers(20_261_128);
    let mut texts: Vec<String> = Vec::new();
    (0..count).map(move |position| {
        let is_frequent = numbers.next().is_multiple_of(2);
        let key = if is_frequent {
            0
        } else {
            1 + numbers.next() % (count / 4 + 1)
        };
        let repeated = (position % 10 == 9)
            .then(|| texts[usize::try_from(numbers.next()).unwrap() % texts.len()].clone());
        let text = repeated.unwrap_or_else(|| text_of(&mut numbers));
        if texts.len() < 1000 {
            texts.push(text.clone());
        }
        Row {
            key,
            number: numbers.next() % 1000,
            text,
        }
    })
}

/// Begins with a number, so that hardly two texts are equal. The rest is words, which compress
/// well:
/// 20 GB of such data fit on a small disk.
fn text_of(numbers: &mut Numbers) -> String {
    const WORDS: [&str; 8] = [
        "workers", "may", "vanish", "while", "records", "travel", "between", "stages",
    ];
    let mut text = format!("{:08x}{:08x}", numbers.next(), numbers.next());
    let mut choice = numbers.next();
    while text.len() < TEXT_BYTES {
        text.push(' ');
        text.push_str(WORDS[usize::try_from(choice % 8).unwrap()]);
        // The words repeat after the bits of the number: 31 bits are the choice of ten words.
        choice = choice.rotate_right(3);
    }
    text
}

/// The same hash as that of the parts of the text, written one after the other.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The number of lines, and the sum of their hashes: the same for the same lines in any order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    count: u64,
    hashes: u64,
}

impl Lines {
    fn add(&mut self, line: &str) {
        self.add_hash(hash(line));
    }

    fn add_hash(&mut self, hash: u64) {
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(hash);
    }

    fn of(lines: impl Iterator<Item = String>) -> Self {
        let mut all = Self::default();
        lines.for_each(|line| all.add(&line));
        all
    }

    fn of_output(processes: &Processes) -> Self {
        let mut all = Self::default();
        for entry in fs::read_dir(processes.path("out")).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_str().unwrap().starts_with('_') {
                let file = zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap();
                BufReader::new(file)
                    .lines()
                    .for_each(|line| all.add(&line.unwrap()));
            }
        }
        all
    }
}

fn row_count() -> u64 {
    megabytes() * 1_000_000 / (TEXT_BYTES as u64 + 48)
}

fn write_rows(processes: &Processes) {
    let count = row_count();
    let each = usize::try_from(count.div_ceil(FILES)).unwrap();
    let mut rows = rows(count);
    for number in 0..FILES {
        let name = format!("part-{number:02}.jsonl.zst");
        let file = fs::File::create(processes.path("in").join(name)).unwrap();
        let mut file = zstd::Encoder::new(file, 1).unwrap();
        for row in rows.by_ref().take(each) {
            writeln!(file, "{}", row.line()).unwrap();
        }
        file.finish().unwrap();
    }
}

/// Runs the steps over the data, compares the output, and checks that no attempt failed and that
/// the task's process stayed within the worker's memory.
async fn stays_within_memory(name: &str, steps: &Value, expected: Lines) {
    let pipeline = json!({
        "source": {"files": {"paths": ["$IN/*.jsonl.zst"], "splitBytes": 0}},
        "steps": steps,
        "sink": {"files": {"path": "$OUT/part-{shard}.jsonl.zst"}},
    });
    let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 1}));
    let limit = if megabytes() > MEGABYTES {
        WORKER_BYTES
    } else {
        SMALL_WORKER_BYTES
    };
    processes.memory_limit_bytes = limit;
    // A machine that does nothing else takes a second for some ten megabytes.
    processes.timeout = Duration::from_mins(5) + Duration::from_secs(megabytes());
    write_rows(&processes);
    let began = Instant::now();
    processes.start_coordinator();
    let worker = processes.start_worker(1);
    let peak = std::sync::atomic::AtomicU64::new(0);
    let result = processes
        .wait_for("the result", |snapshot| {
            let peaks = children_of(worker).into_iter().filter_map(peak_bytes);
            for bytes in peaks {
                peak.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
            }
            snapshot.result.is_some()
        })
        .await
        .result
        .unwrap();
    assert!(result.succeeded, "{name}: {result:?}\n{}", processes.logs());
    let peak = peak.into_inner();
    eprintln!(
        "{name}: {} MB in a worker of {} MiB: {:.1} s, {} MiB at most",
        megabytes(),
        limit >> 20,
        began.elapsed().as_secs_f64(),
        peak >> 20
    );
    assert_eq!(Lines::of_output(&processes), expected, "{name}");
    let is_failure = |record: &LogRecord| matches!(record, LogRecord::Failed { .. });
    let failures: Vec<LogRecord> = processes.ledger().await;
    let failures: Vec<&LogRecord> = failures
        .iter()
        .filter(|record| is_failure(record))
        .collect();
    assert!(failures.is_empty(), "{name}: {failures:?}");
    assert!(peak > 0 && peak < limit, "{name}: {peak} of {limit}");
}

/// Returns the largest amount of memory that a process has had so far.
fn peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

#[tokio::test]
async fn group_by_of_skewed_data_stays_within_memory() {
    let mut groups: HashMap<u64, (u64, u64)> = HashMap::new();
    for row in rows(row_count()) {
        let (count, sum) = groups.entry(row.key).or_default();
        (*count, *sum) = (*count + 1, *sum + row.number);
    }
    let line = |(key, (count, sum)): (u64, (u64, u64))| {
        format!("{{\"key\":\"user {key}\",\"count\":{count},\"sum\":{sum}}}")
    };
    let expected = Lines::of(groups.into_iter().map(line));
    let aggregate = json!({"count": {"count": {}}, "sum": {"sum": ".n"}});
    let steps = json!([{"groupBy": {"key": ".k", "aggregate": aggregate, "shards": 1}}]);
    stays_within_memory("groupBy", &steps, expected).await;
}

#[tokio::test]
async fn group_by_that_collects_stays_within_memory() {
    // A line is hashed as it grows, because all lines together would not fit in memory.
    let mut groups: HashMap<u64, DefaultHasher> = HashMap::new();
    for Row { key, text, .. } in rows(row_count()).filter(|row| row.key > 0) {
        match groups.entry(key) {
            Entry::Occupied(mut line) => line.get_mut().write(format!("\",\"{text}").as_bytes()),
            Entry::Vacant(new) => {
                let start = format!("{{\"key\":\"user {key}\",\"texts\":[\"{text}");
                new.insert(DefaultHasher::default()).write(start.as_bytes());
            }
        }
    }
    let mut expected = Lines::default();
    for mut line in groups.into_values() {
        line.write(b"\"]}");
        expected.add_hash(line.finish());
    }
    let aggregate = json!({"texts": {"collect": ".text"}});
    let steps = json!([
        {"filter": ".k != \"user 0\""},
        {"groupBy": {"key": ".k", "aggregate": aggregate, "shards": 1}},
    ]);
    stays_within_memory("groupBy with collect", &steps, expected).await;
}

#[tokio::test]
async fn deduplicate_of_skewed_keys_stays_within_memory() {
    let mut seen = HashSet::new();
    let first = rows(row_count()).filter(|row| seen.insert(row.key));
    let expected = Lines::of(first.map(|row| row.line()));
    let steps = json!([{"deduplicate": {"key": ".k", "shards": 1}}]);
    stays_within_memory("deduplicate", &steps, expected).await;
}

#[tokio::test]
async fn deduplicate_of_long_keys_stays_within_memory() {
    let mut seen = HashSet::new();
    let is_new = |row: &Row| seen.insert(hash(&row.text));
    let expected = Lines::of(rows(row_count()).filter(is_new).map(|row| row.line()));
    let steps = json!([{"deduplicate": {"key": ".text", "shards": 1}}]);
    stays_within_memory("deduplicate by long keys", &steps, expected).await;
}

#[tokio::test]
async fn count_of_large_data_stays_within_memory() {
    let expected = Lines::of(std::iter::once(row_count().to_string()));
    stays_within_memory("count", &json!([{"count": {}}]), expected).await;
}

/// The final files by name.
fn files(processes: &Processes) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(processes.path("out")).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    files.filter(|(name, _)| !name.starts_with('_')).collect()
}

#[tokio::test]
async fn the_files_have_the_same_bytes_for_1_3_and_8_workers_of_any_memory() {
    const ROWS: u64 = 20_000;
    let aggregate = json!({"texts": {"collect": ".text"}, "sum": {"sum": ".n"}});
    let pipeline = json!({
        "source": {"files": {"paths": ["$IN/*.jsonl"], "splitBytes": 300_000}},
        "steps": [
            {"deduplicate": {"key": ".text", "shards": 5}},
            {"filter": ".k != \"user 0\""},
            {"groupBy": {"key": ".k", "aggregate": aggregate, "shards": 3}},
        ],
        "sink": {"files": {"path": "$OUT/part-{shard}.jsonl"}},
    });
    let mut first: Option<BTreeMap<String, Vec<u8>>> = None;
    for (workers, mib) in [(1, 0), (3, 160), (8, 128)] {
        let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 1}));
        processes.memory_limit_bytes = mib << 20;
        let lines: String = rows(ROWS).map(|row| row.line() + "\n").collect();
        processes.write_input("rows.jsonl", &lines);
        processes.start_coordinator();
        for _ in 0..workers {
            processes.start_worker(1);
        }
        let result = processes.result().await;
        assert!(result.succeeded, "{workers}: {result:?}");
        let files = files(&processes);
        assert_eq!(files.len(), 3);
        match &first {
            None => first = Some(files),
            Some(first) => assert!(*first == files, "{workers} workers of {mib} MiB"),
        }
    }
}

/// A chunk of a shuffle file is never smaller than its entry, so a reducer of many files holds many
/// large entries.
#[tokio::test]
async fn records_of_a_megabyte_from_many_files_stay_within_memory() {
    const FILES: u32 = 80;
    let pipeline = json!({
        "source": {"items": {"values": (0..FILES).collect::<Vec<_>>()}},
        "steps": [
            {"map": "{k: ., text: (\"x\" * 1000000)}"},
            {"deduplicate": {"key": ".k", "shards": 1}},
            {"map": ".k"},
        ],
        "sink": {"files": {"path": "$OUT/part-{shard}.jsonl"}},
    });
    let mut processes = Processes::of(&pipeline, &json!({"taskFailures": 1}));
    processes.memory_limit_bytes = SMALL_WORKER_BYTES;
    processes.start_coordinator();
    processes.start_worker(1);
    let result = processes.result().await;
    assert!(result.succeeded, "{result:?}\n{}", processes.logs());
    assert_eq!(processes.output().len(), FILES as usize);
    let failures = processes.ledger().await;
    let is_failure = |record: &&LogRecord| matches!(record, LogRecord::Failed { .. });
    assert_eq!(failures.iter().filter(is_failure).count(), 0);
}
