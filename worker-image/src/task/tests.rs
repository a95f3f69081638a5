//! Runs whole stages directly, without a coordinator: the contents of a job's files, and how
//! failures are reported.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::{ObjectStoreExt, PutPayload};
use tokio::runtime::Runtime;
use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::record::{FailureClass, FilePlace, OutputFile, TaskOutput};
use zephyr_engine::id::{Epoch, JobUid, StageId, TaskAttempt};
use zephyr_engine::pipeline::{
    Aggregate, Format, GroupBy, OnError, Origin, Pipeline, Sink, Source, Step,
};
use zephyr_engine::plan::{Plan, Stage, StageOutput, plan};
use zephyr_store::finalize::{Finalized, finalize};
use zephyr_store::formats::ReadLimits;
use zephyr_store::ledger::TableFiles;
use zephyr_store::shuffle::{IndexShape, publish_index, publish_stage};
use zephyr_store::storage::{InputFile, JobStorage, Location, Stores, fetch, list_inputs};

use super::*;
use crate::fixtures::attempts::first_attempt;
use crate::fixtures::tricky::{Trick, Tricks, tricky};

mod exec;
mod graph;
mod parts;
mod tables;

struct Job {
    runtime: Runtime,
    folder: tempfile::TempDir,
    pipeline: Pipeline,
    sink_path: String,
    storage: JobStorage,
    inputs: Vec<InputFile>,
    /// The parts of each source shard; empty if each is a whole file.
    parts: Vec<Vec<InputPart>>,
    tables: TableFiles,
    limits: ReadLimits,
    memory_bytes: u64,
    stall_timeout: Duration,
    /// The plan, if it is not the one that is made from the pipeline.
    other_plan: Option<Plan>,
}

impl Job {
    fn new(steps: Vec<Step>, files: &[(&str, &[u8])], sink_path: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let stores = Stores::in_memory();
        for (key, content) in files {
            let location = Location::parse(&format!("s3://in/{key}")).unwrap();
            let store = stores.open(&location).unwrap().objects;
            runtime
                .block_on(store.put(location.path(), PutPayload::from(content.to_vec())))
                .unwrap();
        }
        let inputs = runtime
            .block_on(list_inputs(&stores, &["s3://in/**".to_owned()], true))
            .unwrap();
        let pipeline = Pipeline {
            source: Source::Files { empty_ok: true },
            steps,
            sink: Sink {
                format: Format::Jsonl,
            },
            values: zephyr_engine::pipeline::Values::new(),
            tables: zephyr_engine::pipeline::Tables::new(),
            on_errors: zephyr_engine::pipeline::OnErrors::new(),
        };
        let storage =
            JobStorage::new(stores, "s3://work/jobs", JobUid::parse("uid").unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            runtime,
            folder,
            pipeline,
            sink_path: sink_path.to_owned(),
            storage,
            inputs,
            parts: Vec::new(),
            tables: TableFiles::new(),
            limits: ReadLimits::default(),
            memory_bytes: 0,
            stall_timeout: Duration::from_mins(1),
            other_plan: None,
        }
    }

    fn with_items(mut self, values: &[&str]) -> Self {
        self.pipeline.source = Source::Items {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            shards: Some(1),
        };
        self
    }

    fn plan(&self) -> Plan {
        let shards = match &self.pipeline.source {
            Source::Files { .. } if self.parts.is_empty() => self.inputs.len(),
            Source::Files { .. } => self.parts.len(),
            Source::Items { .. } => 1,
        };
        let other = self.other_plan.clone();
        other.unwrap_or_else(|| plan(&self.pipeline, u32::try_from(shards).unwrap()))
    }

    fn context(&self) -> TaskContext {
        self.context_in(self.folder.path()).unwrap()
    }

    fn context_in(&self, spill_folder: &Path) -> Result<TaskContext, TaskContextError> {
        TaskContext::new(TaskSetup {
            tables: self.tables.clone(),
            table_formats: BTreeMap::new(),
            pipeline: self.pipeline.clone(),
            plan: self.plan(),
            sink_path: self.sink_path.clone(),
            sink_compression: None,
            source_format: None,
            storage: self.storage.clone(),
            limits: self.limits,
            memory_bytes: self.memory_bytes,
            spill_folder: spill_folder.to_owned(),
            commands: CommandSettings {
                job: "name".to_owned(),
                stall_timeout: self.stall_timeout,
            },
            runtime: self.runtime.handle().clone(),
        })
    }

    fn input(&self, shard: u32) -> TaskInput {
        match &self.pipeline.source {
            Source::Files { .. } if self.parts.is_empty() => {
                let file = self.inputs[shard as usize].clone();
                TaskInput::Files(vec![InputPart::whole(file)])
            }
            Source::Files { .. } => TaskInput::Files(self.parts[shard as usize].clone()),
            Source::Items { values, .. } => TaskInput::Items {
                first: 0,
                count: u32::try_from(values.len()).unwrap(),
            },
        }
    }

    /// Runs every task of every stage; returns the last stage's outputs.
    fn run(&self) -> Result<Vec<(TaskAttempt, TaskOutput)>, TaskFailure> {
        let (context, plan) = (self.context(), self.plan());
        let mut listed: BTreeMap<StageId, String> = BTreeMap::new();
        let mut next_file = 0;
        let mut last = Vec::new();
        for stage in &plan.stages {
            last.clear();
            for shard in 0..stage.shards {
                let task = first_attempt(stage.id.0, shard);
                let input = if stage.source().is_some() {
                    next_file += 1;
                    self.input(next_file - 1)
                } else {
                    let outputs = stage.reads().map(|from| listed[&from].clone()).collect();
                    TaskInput::Shuffle { outputs }
                };
                let output = run(
                    &context,
                    &Assignment {
                        task,
                        input,
                        trace_records: false,
                    },
                    &Arc::default(),
                    None,
                )?;
                last.push((task, output));
            }
            if let StageOutput::Shuffle { partitions, .. } = stage.output {
                let files: Vec<_> = last
                    .iter()
                    .map(|(task, output)| (*task, output.file.clone()))
                    .collect();
                let is_gathered = |other: &Stage| {
                    other.gathers().is_some() && other.reads().any(|from| from == stage.id)
                };
                let path = if plan.stages.iter().any(is_gathered) {
                    let publish = publish_stage(&self.storage, Epoch(1), stage.id, 0, &files);
                    self.runtime.block_on(publish).unwrap()
                } else {
                    self.publish(stage.id, partitions, &files)
                };
                listed.insert(stage.id, path);
            }
        }
        Ok(last)
    }

    /// Publishes the merged index of a stage.
    fn publish(
        &self,
        stage: StageId,
        partitions: u32,
        files: &[(TaskAttempt, OutputFile)],
    ) -> String {
        let shape = IndexShape {
            stage,
            tasks: u32::try_from(files.len()).unwrap(),
            partitions,
        };
        let publish = publish_index(&self.storage, Epoch(1), 0, shape, files);
        self.runtime.block_on(publish).unwrap()
    }

    /// The final files' names and texts.
    fn files(&self) -> Vec<(String, String)> {
        let finished = |(_, output): (TaskAttempt, TaskOutput)| {
            let stores = self.storage.stores();
            assert_eq!(
                self.runtime
                    .block_on(finalize(stores, &output.file))
                    .unwrap(),
                Finalized::Stands
            );
            let FilePlace::Final(place) = &output.file.place else {
                panic!("{:?}", output.file.place)
            };
            let uri = place.uri().to_owned();
            let bytes = self
                .runtime
                .block_on(fetch(stores, &Location::parse(&uri).unwrap()))
                .unwrap();
            assert_eq!(
                (bytes.len() as u64, crc32c::crc32c(&bytes)),
                (output.file.bytes, output.file.crc32c)
            );
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text.lines().count() as u64, output.file.rows);
            (uri.clone(), text)
        };
        self.run().unwrap().into_iter().map(finished).collect()
    }

    fn fail(&self) -> TaskFailure {
        self.run().unwrap_err()
    }
}

fn word_count() -> Vec<Step> {
    let group = GroupBy {
        key: ".".to_owned(),
        aggregates: vec![("n".to_owned(), Aggregate::Count)],
        shards: Some(2),
        order: None,
    };
    vec![
        Step::FlatMap("split(\" \")[]".to_owned()),
        Step::GroupBy(group),
    ]
}

#[test]
fn words_are_counted_over_files_and_shards_with_little_and_with_much_memory() {
    let lines: Vec<String> = (0..20_000)
        .map(|n| format!("w{} common", n * 31 % 5000))
        .collect();
    let text = lines.join("\n");
    let mut results = Vec::new();
    for memory_bytes in [1, 1 << 30] {
        let files: [(&str, &[u8]); 2] = [("a.txt", text.as_bytes()), ("b.txt", b"common end")];
        let mut job = Job::new(
            word_count(),
            &files,
            "s3://out/part-{shard:02}-of-{total}.jsonl",
        );
        job.memory_bytes = memory_bytes;
        let files = job.files();
        assert_eq!(
            files
                .iter()
                .map(|(uri, _)| uri.as_str())
                .collect::<Vec<_>>(),
            ["s3://out/part-00-of-2.jsonl", "s3://out/part-01-of-2.jsonl"]
        );
        let mut lines: Vec<String> = files
            .iter()
            .flat_map(|(_, text)| text.lines().map(str::to_owned))
            .collect();
        lines.sort();
        assert_eq!(lines.len(), 5002);
        assert!(lines.contains(&"{\"key\":\"common\",\"n\":20001}".to_owned()));
        assert!(lines.contains(&"{\"key\":\"w7\",\"n\":4}".to_owned()));
        results.push(files);
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn fault_2725_final_files_on_a_local_disk_appear_under_their_names_only_when_finalized() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}/o/{{shard}}.jsonl", folder.path().display());
    let job =
        Job::new(vec![Step::Filter(". > 1".to_owned())], &[], &path).with_items(&["1", "2", "3"]);
    job.run().unwrap();
    assert!(!folder.path().join("o/0.jsonl").exists());
    assert_eq!(job.files()[0].1, "2\n3\n");
    assert!(folder.path().join("o/0.jsonl").exists());
}

#[test]
fn a_shard_without_records_and_a_count_of_nothing_are_files_too() {
    let job = Job::new(
        vec![Step::Filter("false".to_owned())],
        &[("a.jsonl", b"1\n")],
        "s3://out/{shard}.jsonl",
    );
    assert_eq!(
        job.files(),
        [("s3://out/0.jsonl".to_owned(), String::new())]
    );
    let job = Job::new(
        vec![Step::Count],
        &[("a.jsonl", b"")],
        "s3://out/{shard}.jsonl",
    );
    assert_eq!(job.files()[0].1, "0\n");
    let job = Job::new(
        vec![Step::TakePerShard(2)],
        &[("a.jsonl", b"1\n2\nnot read as a record\n")],
        "s3://out/{shard}.jsonl",
    );
    assert_eq!(job.files()[0].1, "1\n2\n");
}

#[test]
fn fault_6265_a_record_that_breaks_an_expression_is_named_with_file_line_and_step() {
    let job = Job::new(
        vec![Step::Map(".a + 1".to_owned())],
        &[("a.jsonl", b"{\"a\":1}\n\n{\"a\":\"x\"}\n")],
        "s3://out/{shard}.jsonl",
    );
    let failure = job.fail();
    assert_eq!(failure.class, FailureClass::Deterministic);
    assert!(
        failure
            .error
            .starts_with("s3://in/a.jsonl: line 3: spec.pipeline.steps[0].map: "),
        "{}",
        failure.error
    );
    let failure = Job::new(
        vec![Step::Map(".a + 1".to_owned())],
        &[],
        "s3://out/{shard}.jsonl",
    )
    .with_items(&["{}", "[]"])
    .fail();
    assert!(
        failure
            .error
            .starts_with("spec.pipeline.source.items.values[1]: spec.pipeline.steps[0].map: "),
        "{}",
        failure.error
    );
}

#[test]
fn bad_data_is_deterministic_and_a_vanished_or_changed_file_is_not() {
    let bad = Job::new(vec![], &[("a.jsonl", b"1\n{\n")], "s3://out/{shard}.jsonl").fail();
    assert_eq!(bad.class, FailureClass::Deterministic);
    assert!(
        bad.error.starts_with("s3://in/a.jsonl: line 2: "),
        "{}",
        bad.error
    );
    let unknown = Job::new(vec![], &[("a.csv", b"1\n")], "s3://out/{shard}.jsonl").fail();
    assert_eq!(unknown.class, FailureClass::Deterministic);
    assert!(
        unknown
            .error
            .starts_with("s3://in/a.csv: its extension does not imply a format"),
        "{}",
        unknown.error
    );

    let job = Job::new(vec![], &[("a.jsonl", b"1\n")], "s3://out/{shard}.jsonl");
    let location = Location::parse("s3://in/a.jsonl").unwrap();
    let store = job.storage.stores().open(&location).unwrap().objects;
    job.runtime
        .block_on(store.put(location.path(), PutPayload::from_static(b"2\n")))
        .unwrap();
    let changed = job.fail();
    assert_eq!(changed.class, FailureClass::Application);
    assert!(
        changed.error.contains("changed while reading"),
        "{}",
        changed.error
    );
    job.runtime.block_on(store.delete(location.path())).unwrap();
    assert!(
        job.fail()
            .error
            .contains("reading s3://in/a.jsonl: there is no such object (404)")
    );
}

#[test]
fn a_lost_output_of_the_stage_before_is_reported_as_such() {
    let job = Job::new(word_count(), &[("a.txt", b"a b")], "s3://out/{shard}.jsonl");
    let context = job.context();
    let first = first_attempt(0, 0);
    let output = run(
        &context,
        &Assignment {
            task: first,
            input: job.input(0),
            trace_records: false,
        },
        &Arc::default(),
        None,
    )
    .unwrap();
    let outputs = job.publish(StageId(0), 2, &[(first, output.file.clone())]);
    let location = job.storage.at("data/0/0/e1a1/shuffle").unwrap();
    let store = job.storage.stores().open(&location).unwrap().objects;
    job.runtime.block_on(store.delete(location.path())).unwrap();
    let second = Assignment {
        task: first_attempt(1, 0),
        input: TaskInput::Shuffle {
            outputs: vec![outputs],
        },
        trace_records: false,
    };
    let failure = run(&context, &second, &Arc::default(), None).unwrap_err();
    assert_eq!(
        (failure.class, failure.lost_input),
        (FailureClass::Disruption, Some(first))
    );
}

#[test]
fn a_disk_that_cannot_be_spilled_to_is_the_infrastructures_fault() {
    let lines: Vec<String> = (0..200_000).map(|n| format!("word{n}")).collect();
    let text = lines.join("\n");
    let mut job = Job::new(
        word_count(),
        &[("a.txt", text.as_bytes())],
        "s3://out/{shard}.jsonl",
    );
    job.memory_bytes = 1;
    assert!(job.context_in(Path::new("/nowhere")).is_err());
    let gone = tempfile::tempdir().unwrap();
    let context = job.context_in(gone.path()).unwrap();
    std::fs::remove_dir_all(gone.path()).unwrap();
    let failure = run(
        &context,
        &Assignment {
            task: first_attempt(0, 0),
            input: job.input(0),
            trace_records: false,
        },
        &Arc::default(),
        None,
    )
    .unwrap_err();
    assert_eq!(
        (failure.class, failure.setback),
        (FailureClass::Disruption, Some(Setback::WorkerUnhealthy))
    );
    assert!(
        failure.error.starts_with("spilling to local disk: "),
        "{}",
        failure.error
    );
}

#[test]
fn a_single_unreachable_object_is_distinguished_from_an_outage() {
    for (is_away, expected) in [
        (false, Setback::ObjectUnavailable),
        (true, Setback::StoreAway),
    ] {
        let tricks: Tricks = Arc::new(move |_, path| {
            let fails = is_away || path.as_ref() == "a.txt";
            let trick = if fails { Trick::Fail } else { Trick::Pass };
            Box::pin(std::future::ready(trick))
        });
        let object = Location::parse("s3://b/a.txt").unwrap();
        let store = tricky(&Arc::default(), tricks).open(&object).unwrap();
        let stores = Stores::in_memory()
            .with_store("s3://in", store)
            .with_retry_time(Duration::ZERO);
        let mut job = Job::new(Vec::new(), &[("a.txt", b"x\n")], "s3://out/{shard}.jsonl");
        let uid = JobUid::parse("uid").unwrap();
        job.storage = JobStorage::new(stores, "s3://work/jobs", uid).unwrap();
        let assignment = Assignment {
            task: first_attempt(0, 0),
            input: job.input(0),
            trace_records: false,
        };
        let failure = run(&job.context(), &assignment, &Arc::default(), None).unwrap_err();
        assert_eq!(
            (failure.class, failure.setback),
            (FailureClass::Disruption, Some(expected)),
            "{}",
            failure.error
        );
    }
}

/// The stage writes a shuffle file. The store answers every read.
#[test]
fn an_outage_of_writes_is_not_the_fault_of_the_file_that_could_not_be_written() {
    for (is_outage, expected) in [
        (false, Setback::ObjectUnavailable),
        (true, Setback::StoreAway),
    ] {
        let tricks: Tricks = Arc::new(move |call, path| {
            let is_it = is_outage || path.as_ref().ends_with("/shuffle");
            let fails = call == "put" && is_it;
            let trick = if fails { Trick::Fail } else { Trick::Pass };
            Box::pin(std::future::ready(trick))
        });
        let mut job = Job::new(word_count(), &[("a.txt", b"x\n")], "s3://out/{shard}.jsonl");
        let stores = job.storage.stores().clone();
        let folder = Location::parse("s3://b/jobs").unwrap();
        let store = tricky(&Arc::default(), tricks).open(&folder).unwrap();
        let stores = stores
            .with_store("s3://b", store)
            .with_retry_time(Duration::ZERO);
        let uid = JobUid::parse("uid").unwrap();
        job.storage = JobStorage::new(stores, "s3://b/jobs", uid).unwrap();
        let assignment = Assignment {
            task: first_attempt(0, 0),
            input: job.input(0),
            trace_records: false,
        };
        let failure = run(&job.context(), &assignment, &Arc::default(), None).unwrap_err();
        assert_eq!(failure.setback, Some(expected), "{}", failure.error);
        let told = "; a write beside it or in the job's own folder was not answered either";
        assert_eq!(
            failure.error.ends_with(told),
            is_outage,
            "{}",
            failure.error
        );
    }
}

#[test]
fn a_trace_gets_every_record_before_it_is_processed_and_progress_is_counted() {
    struct Notes(Mutex<Vec<String>>);
    impl Trace for Notes {
        fn note(&self, place: &dyn std::fmt::Display) {
            self.0.lock().unwrap().push(place.to_string());
        }
    }
    let job = Job::new(
        vec![Step::Map("error(\"no\")".to_owned())],
        &[("a.jsonl", b"\n7\n8\n")],
        "s3://out/{shard}.jsonl",
    );
    let notes = Notes(Mutex::default());
    let counters = Arc::new(ProgressCounters::default());
    let assignment = Assignment {
        task: first_attempt(0, 0),
        input: job.input(0),
        trace_records: true,
    };
    run(&job.context(), &assignment, &counters, Some(&notes)).unwrap_err();
    assert_eq!(*notes.0.lock().unwrap(), ["s3://in/a.jsonl: line 2"]);
    assert_eq!(
        (
            counters.records.load(Ordering::Relaxed),
            counters.bytes.load(Ordering::Relaxed)
        ),
        (1, 5)
    );
    let silent = Notes(Mutex::default());
    run(
        &job.context(),
        &Assignment {
            trace_records: false,
            ..assignment
        },
        &counters,
        Some(&silent),
    )
    .unwrap_err();
    assert!(silent.0.lock().unwrap().is_empty());
}

#[test]
fn an_assignment_that_does_not_fit_the_plan_is_refused() {
    let job = Job::new(vec![], &[("a.jsonl", b"1\n")], "s3://out/{shard}.jsonl");
    let refused = |task, input| {
        let failure = run(
            &job.context(),
            &Assignment {
                task,
                input,
                trace_records: false,
            },
            &Arc::default(),
            None,
        )
        .unwrap_err();
        assert!(
            failure
                .error
                .starts_with("the assignment does not fit the plan"),
            "{}",
            failure.error
        );
    };
    refused(first_attempt(9, 0), job.input(0));
    refused(first_attempt(0, 9), job.input(0));
    refused(
        first_attempt(0, 0),
        TaskInput::Shuffle {
            outputs: vec!["data/0/outputs-e1-0".to_owned()],
        },
    );
    refused(first_attempt(0, 0), TaskInput::Items { first: 0, count: 1 });
}

#[test]
fn a_task_that_panics_has_failed_with_the_message_of_the_panic() {
    struct Panics;
    impl Trace for Panics {
        fn note(&self, place: &dyn std::fmt::Display) {
            panic!("no place for {place}");
        }
    }
    let job = Job::new(vec![], &[("a.jsonl", b"7\n")], "s3://out/{shard}.jsonl");
    let assignment = Assignment {
        task: first_attempt(0, 0),
        input: job.input(0),
        trace_records: true,
    };
    let failure = run(&job.context(), &assignment, &Arc::default(), Some(&Panics)).unwrap_err();
    assert_eq!(failure.class, FailureClass::Application);
    assert_eq!(
        failure.error,
        "the task panicked: no place for s3://in/a.jsonl: line 1"
    );
}

/// Bad records of this place are written to dead letters.
fn with_dead_letters(mut job: Job, origins: &[Origin]) -> Job {
    for origin in origins {
        let on_error = OnError {
            dead_letter: Some(format!("s3://out/bad/{}-{{shard}}.jsonl", origin.number())),
            max_skipped: None,
            max_skipped_per_million: None,
            shows_messages: true,
        };
        job.pipeline.on_errors.insert(*origin, on_error);
    }
    job
}

impl Job {
    /// The texts of the dead letters of all tasks, and the rows of the last stage.
    fn dead_letters(&self) -> (Vec<(String, String)>, u64) {
        let outputs = self.run().unwrap();
        let stores = self.storage.stores();
        let mut found = Vec::new();
        for file in outputs.iter().flat_map(|(_, output)| output.more_files()) {
            let completed = self.runtime.block_on(finalize(stores, file)).unwrap();
            assert_eq!(completed, Finalized::Stands);
            let FilePlace::Final(place) = &file.place else {
                panic!("{:?}", file.place)
            };
            let location = Location::parse(place.uri()).unwrap();
            let bytes = self.runtime.block_on(fetch(stores, &location)).unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text.lines().count() as u64, file.rows);
            found.push((place.uri().to_owned(), text));
        }
        let rows = outputs.iter().map(|(_, output)| output.file.rows).sum();
        (found, rows)
    }
}

#[test]
fn of_a_damaged_file_nothing_passes_and_the_dead_letter_names_it_as_a_whole() {
    let plain = "1\n2\nx\n".repeat(50_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain.as_bytes()).unwrap();
    let mut damaged = encoder.finish().unwrap();
    damaged.truncate(damaged.len() / 2);
    let files: [(&str, &[u8]); 2] = [("a.jsonl.gz", &damaged), ("b.jsonl", b"4\ny\n5\n")];
    let job = Job::new(Vec::new(), &files, "s3://out/part-{shard}.jsonl");
    let (letters, rows) = with_dead_letters(job, &[Origin::Source]).dead_letters();
    assert_eq!(rows, 2, "nothing of the damaged file");
    let [(first, whole), (second, line)] = &letters[..] else {
        panic!("{letters:?}")
    };
    assert_eq!(first, "s3://out/bad/0-0.jsonl");
    assert!(
        whole.starts_with(r#"{"file":"s3://in/a.jsonl.gz","line":null,"step":"spec.pipeline.source.files","error":"s3://in/a.jsonl.gz: byte "#),
        "{whole}"
    );
    assert!(
        !whole.contains("record") && whole.lines().count() == 1,
        "{whole}"
    );
    assert_eq!(second, "s3://out/bad/0-1.jsonl");
    assert!(
        line.contains(r#""line":2,"#) && line.contains(r#""record":"y"}"#),
        "{line}"
    );
}

#[test]
fn of_many_bad_files_in_one_shard_the_first_is_named_and_the_good_ones_are_read_few_times() {
    let gz = |text: &str, is_damaged: bool| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(text.as_bytes()).unwrap();
        let mut bytes = encoder.finish().unwrap();
        let whole = bytes.len();
        bytes.truncate(if is_damaged { whole - 5 } else { whole });
        bytes
    };
    let texts: Vec<(String, Vec<u8>)> = (0..40)
        .map(|number| {
            (
                format!("{number:02}.jsonl.gz"),
                gz("1\n2\n", number % 2 == 1),
            )
        })
        .collect();
    let with_line = gz("1\nx\n", false);
    for (has_earlier_line, first) in [(false, "01.jsonl.gz: "), (true, "00.jsonl.gz: line 2")] {
        let mut files: Vec<(&str, &[u8])> = texts
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
            .collect();
        if has_earlier_line {
            files[0].1 = &with_line;
        }
        let job = Job::new(Vec::new(), &files, "s3://out/part-{shard}.jsonl");
        let mut job = with_dead_letters(job, &[Origin::Source]);
        let whole = |file: &InputFile| InputPart {
            from: 0,
            to: file.size,
            file: file.clone(),
        };
        job.parts = vec![job.inputs.iter().map(whole).collect()];
        let counters = Arc::<ProgressCounters>::default();
        let assignment = Assignment {
            task: first_attempt(0, 0),
            input: job.input(0),
            trace_records: false,
        };
        let output = run(&job.context(), &assignment, &counters, None).unwrap();
        let bad = &output.bad_records()[0];
        let skipped = 20 + u64::from(has_earlier_line);
        assert_eq!(bad.skipped, skipped);
        let said = bad.first.as_ref().unwrap();
        assert!(said.starts_with(&format!("s3://in/{first}")), "{said}");
        assert_eq!(output.file.rows, 40 - u64::from(has_earlier_line));
        // The good files are read in vain at most twice.
        let read = counters.bytes.load(Ordering::Relaxed);
        assert!(read <= 4 * output.bytes_in, "{read} of {}", output.bytes_in);
    }
}

#[test]
fn records_that_fail_before_and_in_a_shuffle_are_dead_letters_of_their_own_step() {
    let files: [(&str, &[u8]); 1] = [(
        "a.jsonl",
        b"{\"k\":1,\"v\":1}\n{\"k\":1,\"v\":\"x\"}\n7\n{\"k\":1,\"v\":2}\n\xff\n",
    )];
    let group = GroupBy {
        key: ".k".to_owned(),
        aggregates: vec![("s".to_owned(), Aggregate::Sum(".v".to_owned()))],
        shards: Some(1),
        order: None,
    };
    let steps = vec![Step::Map("{k: .k, v: .v}".to_owned()), Step::GroupBy(group)];
    let origins = [Origin::Source, Origin::Step(0), Origin::Step(1)];
    let job = Job::new(steps, &files, "s3://out/part-{shard}.jsonl");
    let job = with_dead_letters(job, &origins);
    let context = job.context();
    let task = first_attempt(0, 0);
    let assignment = Assignment {
        task,
        input: job.input(0),
        trace_records: false,
    };
    let output = run(&context, &assignment, &Arc::default(), None).unwrap();
    let counts: Vec<(Origin, u64)> = output
        .bad_records()
        .iter()
        .map(|bad| (bad.origin, bad.skipped))
        .collect();
    assert_eq!(counts, origins.map(|origin| (origin, 1)));
    let uris: Vec<&str> = output
        .more_files()
        .iter()
        .map(|file| match &file.place {
            FilePlace::Final(place) => place.uri(),
            FilePlace::Shuffle => panic!("a shuffle file"),
        })
        .collect();
    assert_eq!(
        uris,
        [
            "s3://out/bad/0-0.jsonl",
            "s3://out/bad/1-0.jsonl",
            "s3://out/bad/2-0.jsonl"
        ]
    );
    assert_eq!(
        zephyr_store::ownership::check(&job.plan(), &job.sink_path, task, &output),
        Ok(())
    );
    // A file of another task, or the same one twice, is not accepted.
    let mut twice = output.clone();
    let more = twice.more.as_mut().unwrap();
    more.files[1] = more.files[0].clone();
    assert!(zephyr_store::ownership::check(&job.plan(), &job.sink_path, task, &twice).is_err());
}
