//! Converts session messages between wire and core types. If a part is missing, this is an error
//! that names the part. There are no defaults. This module does not use streams.

use std::collections::BTreeMap;

use zephyr_crds::pipeline::MAX_STEPS;
use zephyr_engine::coordinator::Setback;
use zephyr_engine::coordinator::config::MAX_SLOTS;
use zephyr_engine::coordinator::counters::{
    CounterName, MAX_COUNT, MAX_COUNTER_NAME, MAX_COUNTERS,
};
use zephyr_engine::coordinator::event::Event;
use zephyr_engine::coordinator::failed_task::last_lines;
use zephyr_engine::coordinator::record::{
    BadRecords, FailureClass, FilePlace, FinalPlace, MoreOutput, OutputFile, TaskOutput,
};
use zephyr_engine::id::{SessionId, TaskAttempt, WorkerId};
use zephyr_engine::pipeline::Origin;
use zephyr_engine::plan::PlannedSource;
use zephyr_proto::worker as wire;
use zephyr_store::ledger::TableFiles;
use zephyr_store::ownership::shuffle_place;
use zephyr_store::shuffle::shuffle_path;
use zephyr_store::storage::InputFile;

use super::identity::{WireError, task_attempt, task_attempts, to_wire};
use crate::task::{Assignment, InputPart, TaskFailure, TaskInput, cut_message};

// The API's types and the engine do not use each other, so each has this bound. They must be equal.
const _: () = assert!(MAX_SLOTS == zephyr_crds::job::MAX_SLOTS);
const _: () = assert!(MAX_COUNTERS == zephyr_crds::status::MAX_COUNTERS);
const _: () = assert!(MAX_COUNTER_NAME == zephyr_crds::status::MAX_COUNTER_NAME);

/// How many characters of a pod's name are kept: the most that Kubernetes allows.
const MAX_POD_NAME_CHARS: usize = 253;

/// What a worker reports about itself when it opens a session.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedIdentity {
    /// Its identity.
    pub worker: WorkerId,
    /// Its pod's name, for people.
    pub pod_name: String,
    /// The ordinal at the end of that name.
    pub ordinal: Option<u32>,
    /// Number of tasks that it runs at the same time.
    pub slots: u32,
    /// Attempts that it runs, or has finished without an `Ack`.
    pub running: Vec<TaskAttempt>,
}

/// Reads a `Hello`.
pub fn claimed(hello: &wire::Hello) -> Result<ClaimedIdentity, WireError> {
    let message = "Hello";
    if hello.pod_uid.is_empty() {
        return Err(WireError::Missing {
            message,
            part: "pod uid",
        });
    }
    if hello.incarnation == 0 {
        return Err(WireError::Missing {
            message,
            part: "incarnation",
        });
    }
    if hello.slots == 0 || hello.slots > MAX_SLOTS {
        let got = u64::from(hello.slots);
        return Err(WireError::OutOfRange {
            message,
            part: "slots",
            got,
            allowed: "allowed are 1 to 256",
        });
    }
    let worker = WorkerId::parse(&hello.pod_uid, hello.incarnation)
        .map_err(|source| WireError::Identity { message, source })?;
    let running = task_attempts(message, &hello.running)?;
    Ok(ClaimedIdentity {
        worker,
        pod_name: hello.pod_name.chars().take(MAX_POD_NAME_CHARS).collect(),
        ordinal: ordinal(&hello.pod_name),
        slots: hello.slots,
        running,
    })
}

/// The ordinal that a `StatefulSet` puts after the last dash of a pod's name.
fn ordinal(pod_name: &str) -> Option<u32> {
    let (_, digits) = pod_name.rsplit_once('-')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Converts any message of an open session to its event.
pub fn event(
    session: SessionId,
    message: wire::worker_message::Message,
) -> Result<Event, WireError> {
    use wire::worker_message::Message;
    Ok(match message {
        Message::Hello(hello) => {
            let ClaimedIdentity {
                worker,
                ordinal,
                slots,
                running,
                pod_name: _,
            } = claimed(&hello)?;
            Event::Hello {
                session,
                worker,
                ordinal,
                slots,
                running,
            }
        }
        Message::Heartbeat(wire::Heartbeat { sequence: _ }) => Event::Heartbeat { session },
        Message::Progress(progress) => {
            let one = |task: &wire::TaskProgress| {
                Ok((task_attempt("Progress", task.task.as_ref())?, task.records))
            };
            Event::Progress {
                session,
                tasks: progress.tasks.iter().map(one).collect::<Result<_, _>>()?,
            }
        }
        Message::Done(done) => Event::Done {
            session,
            tasks: done
                .tasks
                .into_iter()
                .map(task_done)
                .collect::<Result<_, _>>()?,
        },
        Message::Failed(failed) => {
            let (
                task,
                TaskFailure {
                    class,
                    setback,
                    error,
                    lost_input,
                    log,
                },
            ) = failure(failed)?;
            Event::Failed {
                session,
                task,
                class,
                setback,
                error,
                lost_input,
                log,
            }
        }
        Message::Draining(draining) => Event::Draining {
            session,
            handed_back: task_attempts("Draining", &draining.handed_back)?,
        },
        Message::Bye(wire::Bye {}) => Event::SessionClosed { session },
    })
}

/// Reads a completed task.
pub fn task_done(done: wire::TaskDone) -> Result<(TaskAttempt, TaskOutput), WireError> {
    let message = "Done";
    let task = task_attempt(message, done.task.as_ref())?;
    let file = done.file.ok_or(WireError::Missing {
        message,
        part: "file",
    })?;
    let output = output_file(task, file)?;
    Ok((
        task,
        TaskOutput {
            file: output,
            records_in: done.records_in,
            bytes_in: done.bytes_in,
            more: more(task, done.bad, done.more_files, done.counters)?,
        },
    ))
}

/// Reads what a task produced besides the file of its records. A report about bad records has at
/// most as many entries as a pipeline has places. Further entries are dropped.
fn more(
    task: TaskAttempt,
    bad: Vec<wire::BadRecords>,
    files: Vec<wire::OutputFile>,
    counters: Vec<wire::Counter>,
) -> Result<Option<Box<MoreOutput>>, WireError> {
    let read = |bad: wire::BadRecords| BadRecords {
        origin: Origin::of_number(bad.place),
        arrived: bad.arrived,
        skipped: bad.skipped,
        first: Some(bad.first)
            .filter(|first| !first.is_empty())
            .map(|first| cut_message(&first)),
    };
    let bad = bad.into_iter().take(MAX_STEPS + 1).map(read).collect();
    let files = files.into_iter().map(|file| output_file(task, file));
    let files = files.collect::<Result<_, _>>()?;
    let counters = read_counters(counters)?;
    let more = MoreOutput {
        bad,
        files,
        counters,
    };
    Ok(more.boxed())
}

/// Reads what the commands of a task counted, within the limits that the task has to keep.
fn read_counters(counters: Vec<wire::Counter>) -> Result<Vec<(CounterName, u64)>, WireError> {
    let message = "Done";
    if counters.len() > MAX_COUNTERS {
        return Err(WireError::OutOfRange {
            message,
            part: "number of counters",
            got: counters.len() as u64,
            allowed: "allowed are 0 to 20",
        });
    }
    let mut read = BTreeMap::new();
    for wire::Counter { name, count } in counters {
        let name =
            CounterName::parse(&name).map_err(|source| WireError::Counter { message, source })?;
        if count > MAX_COUNT {
            return Err(WireError::OutOfRange {
                message,
                part: "counter",
                got: count,
                allowed: "allowed are 0 to 9007199254740991",
            });
        }
        // If a name occurs twice, its last count is used. Our own workers send each name once.
        read.insert(name, count);
    }
    Ok(read.into_iter().collect())
}

fn bad_to_wire(bad: &BadRecords) -> wire::BadRecords {
    wire::BadRecords {
        place: bad.origin.number(),
        arrived: bad.arrived,
        skipped: bad.skipped,
        first: bad.first.clone().unwrap_or_default(),
    }
}

fn output_file(task: TaskAttempt, file: wire::OutputFile) -> Result<OutputFile, WireError> {
    let place = file.place.ok_or(WireError::Missing {
        message: "Done",
        part: "place of the file",
    })?;
    Ok(OutputFile {
        rows: file.rows,
        bytes: file.bytes,
        crc32c: file.crc32c,
        place: file_place(task, place)?,
    })
}

fn file_place(task: TaskAttempt, place: wire::output_file::Place) -> Result<FilePlace, WireError> {
    use wire::output_file::Place;
    let message = "Done";
    let there = |part: &'static str, text: String| {
        if text.is_empty() {
            Err(WireError::Missing { message, part })
        } else {
            Ok(text)
        }
    };
    Ok(match place {
        Place::Shuffle(wire::ShufflePlace { path }) => {
            let path = there("path of the shuffle file", path)?;
            shuffle_place(task, &path).map_err(|source| WireError::NotOwn { message, source })?
        }
        Place::Multipart(wire::MultipartPlace { uri, upload, parts }) => {
            FilePlace::from(FinalPlace::Multipart {
                uri: there("uri of the upload", uri)?,
                // The name of the upload may be empty, because uploads on Azure have no names.
                upload,
                parts,
            })
        }
        Place::Staged(wire::StagedPlace { uri, staged }) => FilePlace::from(FinalPlace::Staged {
            uri: there("uri of the staged file", uri)?,
            staged: there("name of the staged file", staged)?,
        }),
    })
}

/// Writes a completed task.
pub fn to_task_done(task: TaskAttempt, output: TaskOutput) -> wire::TaskDone {
    let bad = output.bad_records().iter().map(bad_to_wire).collect();
    let counters = output.counters().iter();
    let counters = counters.map(|(name, count)| wire::Counter {
        name: name.to_string(),
        count: *count,
    });
    let counters = counters.collect();
    let more_files = output.more_files().to_vec();
    let more_files = more_files
        .into_iter()
        .map(|file| file_to_output(task, file));
    let more_files = more_files.collect();
    let file = file_to_output(task, output.file);
    wire::TaskDone {
        task: Some(to_wire(task)),
        records_in: output.records_in,
        bytes_in: output.bytes_in,
        bad,
        more_files,
        counters,
        file: Some(file),
    }
}

/// Writes one file of an attempt.
fn file_to_output(task: TaskAttempt, file: OutputFile) -> wire::OutputFile {
    use wire::output_file::Place;
    let OutputFile {
        rows,
        bytes,
        crc32c,
        place,
    } = file;
    let place = match place {
        FilePlace::Shuffle => Place::Shuffle(wire::ShufflePlace {
            path: shuffle_path(task),
        }),
        FilePlace::Final(place) => match *place {
            FinalPlace::Multipart { uri, upload, parts } => {
                Place::Multipart(wire::MultipartPlace { uri, upload, parts })
            }
            FinalPlace::Staged { uri, staged } => Place::Staged(wire::StagedPlace { uri, staged }),
        },
    };
    wire::OutputFile {
        rows,
        bytes,
        crc32c,
        place: Some(place),
    }
}

/// Reads a failed task.
pub fn failure(failed: wire::Failed) -> Result<(TaskAttempt, TaskFailure), WireError> {
    let message = "Failed";
    let task = task_attempt(message, failed.task.as_ref())?;
    let class = match wire::FailureClass::try_from(failed.class) {
        Ok(wire::FailureClass::Deterministic) => FailureClass::Deterministic,
        Ok(wire::FailureClass::Application) => FailureClass::Application,
        Ok(wire::FailureClass::TimedOut) => FailureClass::TimedOut,
        Ok(wire::FailureClass::Disruption) => FailureClass::Disruption,
        Ok(wire::FailureClass::Unspecified) | Err(_) => {
            return Err(WireError::Missing {
                message,
                part: "class",
            });
        }
    };
    let lost_input = failed
        .lost_input
        .as_ref()
        .map(|lost| task_attempt(message, Some(lost)))
        .transpose()?;
    Ok((
        task,
        TaskFailure {
            class,
            setback: setback(failed.setback),
            error: failed.error,
            lost_input,
            log: last_lines(&failed.log),
        },
    ))
}

/// Writes a failed task.
pub fn to_failed(task: TaskAttempt, failure: TaskFailure) -> wire::Failed {
    let class = match failure.class {
        FailureClass::Deterministic => wire::FailureClass::Deterministic,
        FailureClass::Application => wire::FailureClass::Application,
        FailureClass::TimedOut => wire::FailureClass::TimedOut,
        FailureClass::Disruption => wire::FailureClass::Disruption,
    };
    wire::Failed {
        task: Some(to_wire(task)),
        class: class.into(),
        error: failure.error,
        lost_input: failure.lost_input.map(to_wire),
        setback: to_setback(failure.setback).into(),
        log: failure.log,
    }
}

/// Reads the cause of a disruption. A value that this release does not know is treated as absent.
fn setback(number: i32) -> Option<Setback> {
    match wire::Setback::try_from(number) {
        Ok(wire::Setback::DiskFull) => Some(Setback::DiskFull),
        Ok(wire::Setback::ObjectUnavailable) => Some(Setback::ObjectUnavailable),
        Ok(wire::Setback::StoreAway) => Some(Setback::StoreAway),
        Ok(wire::Setback::WorkerUnhealthy) => Some(Setback::WorkerUnhealthy),
        Ok(wire::Setback::Unspecified) | Err(_) => None,
    }
}

fn to_setback(setback: Option<Setback>) -> wire::Setback {
    match setback {
        Some(Setback::DiskFull) => wire::Setback::DiskFull,
        Some(Setback::ObjectUnavailable) => wire::Setback::ObjectUnavailable,
        Some(Setback::StoreAway) => wire::Setback::StoreAway,
        Some(Setback::WorkerUnhealthy) => wire::Setback::WorkerUnhealthy,
        // A worker never reports these causes, because only the coordinator finds them.
        Some(Setback::InputLost | Setback::InputReplaced) | None => wire::Setback::Unspecified,
    }
}

/// A file to be read.
pub fn file_to_wire(file: &InputFile) -> wire::FileInput {
    let InputFile { uri, size, etag } = file.clone();
    wire::FileInput {
        uri,
        size,
        etag: etag.unwrap_or_default(),
    }
}

/// A part of a file to be read.
pub fn part_to_wire(file: &InputFile, from: u64, to: u64) -> wire::FilePart {
    wire::FilePart {
        file: Some(file_to_wire(file)),
        from,
        to,
    }
}

/// Reads the parts of a shard. If there are several parts, each must be a whole file.
fn input_parts(parts: Vec<wire::FilePart>) -> Result<Vec<InputPart>, WireError> {
    let message = "Run";
    let missing = |part| WireError::Missing { message, part };
    let is_alone = parts.len() == 1;
    if parts.is_empty() {
        return Err(missing("file"));
    }
    let read = |wire::FilePart { file, from, to }| {
        let file = input_file(file.ok_or(missing("file"))?);
        let is_inside = from <= to && to <= file.size;
        if !is_inside || !(is_alone || to - from == file.size) {
            return Err(WireError::OutOfRange {
                message,
                part: "part of a file",
                got: to,
                allowed: "allowed are parts inside the file, and only whole files if there are several",
            });
        }
        Ok(InputPart { file, from, to })
    };
    parts.into_iter().map(read).collect()
}

/// Reads the properties of the source on which the plan depends.
pub fn planned_source(
    shards: u32,
    shuffle_shards: u32,
    source_parts: &str,
    gather: u32,
) -> PlannedSource {
    PlannedSource {
        shards,
        shuffle_shards: Some(shuffle_shards).filter(|shards| *shards > 0),
        parts: Some(source_parts.to_owned()).filter(|parts| !parts.is_empty()),
        gather: Some(gather).filter(|files| *files > 0),
    }
}

fn input_file(file: wire::FileInput) -> InputFile {
    let wire::FileInput { uri, size, etag } = file;
    InputFile {
        uri,
        size,
        etag: Some(etag).filter(|etag| !etag.is_empty()),
    }
}

/// The files of the tables.
pub fn tables_to_wire(tables: &TableFiles) -> Vec<wire::Table> {
    let table = |(name, files): (&String, &Vec<InputFile>)| wire::Table {
        name: name.clone(),
        files: files.iter().map(file_to_wire).collect(),
    };
    tables.iter().map(table).collect()
}

/// Reads the files of the tables.
pub fn table_files(tables: Vec<wire::Table>) -> TableFiles {
    let read = |wire::Table { name, files }| (name, files.into_iter().map(input_file).collect());
    tables.into_iter().map(read).collect()
}

/// Reads the task that a child has to run.
pub fn assignment(run: wire::RunTask) -> Result<Assignment, WireError> {
    use wire::run_task::Input;
    let message = "Run";
    let task = task_attempt(message, run.task.as_ref())?;
    let input = match run.input.ok_or(WireError::Missing {
        message,
        part: "input",
    })? {
        Input::File(file) => TaskInput::Files(vec![InputPart::whole(input_file(file))]),
        Input::Files(wire::FilesInput { parts }) => TaskInput::Files(input_parts(parts)?),
        Input::Items(wire::ItemsInput { first, count }) => TaskInput::Items { first, count },
        Input::Shuffle(only) => shuffles(vec![only])?,
        Input::Shuffles(wire::ShufflesInput { inputs }) => shuffles(inputs)?,
    };
    Ok(Assignment {
        task,
        input,
        trace_records: run.trace_records,
    })
}

fn shuffles(inputs: Vec<wire::ShuffleInput>) -> Result<TaskInput, WireError> {
    let outputs: Vec<String> = inputs.into_iter().map(|input| input.outputs).collect();
    if outputs.is_empty() || outputs.iter().any(String::is_empty) {
        return Err(WireError::Missing {
            message: "Run",
            part: "outputs of a stage that it reads",
        });
    }
    Ok(TaskInput::Shuffle { outputs })
}

/// The input of a task, for people.
pub fn input_name(run: &wire::RunTask) -> String {
    use wire::run_task::Input;
    let shard = run.task.as_ref().map_or(0, |task| task.shard);
    match &run.input {
        Some(Input::File(file)) => file.uri.clone(),
        Some(Input::Files(wire::FilesInput { parts })) => parts_name(parts),
        Some(Input::Items(items)) => format!(
            "spec.pipeline.source.items.values[{}..{}]",
            items.first,
            u64::from(items.first) + u64::from(items.count)
        ),
        Some(Input::Shuffle(_) | Input::Shuffles(_)) => format!("shuffled partition {shard}"),
        None => "no input".to_owned(),
    }
}

/// Parts of files, for people.
fn parts_name(parts: &[wire::FilePart]) -> String {
    let uri = |part: &wire::FilePart| {
        let file = part.file.as_ref();
        file.map_or_else(String::new, |file| file.uri.clone())
    };
    match parts {
        [] => "no file".to_owned(),
        [part] => format!("{}: bytes {} to {}", uri(part), part.from, part.to),
        [first, .., last] => format!("{} files, {} to {}", parts.len(), uri(first), uri(last)),
    }
}

#[cfg(test)]
mod tests {
    use zephyr_engine::id::{Attempt, Epoch, ShardId, StageId, TaskId};

    use super::*;

    fn attempt() -> TaskAttempt {
        let task = TaskId {
            stage: StageId(1),
            shard: ShardId(2),
        };
        TaskAttempt {
            task,
            attempt: Attempt {
                epoch: Epoch(3),
                number: 4,
            },
        }
    }

    fn places() -> [FilePlace; 4] {
        [
            FilePlace::Shuffle,
            FilePlace::from(FinalPlace::Multipart {
                uri: "s3://b/o".into(),
                upload: "u".into(),
                parts: vec!["p".into()],
            }),
            FilePlace::from(FinalPlace::Multipart {
                uri: "az://c/o".into(),
                upload: String::new(),
                parts: vec![],
            }),
            FilePlace::from(FinalPlace::Staged {
                uri: "file:///o".into(),
                staged: "file:///o.part".into(),
            }),
        ]
    }

    #[test]
    fn the_ordinal_is_the_number_after_the_last_dash() {
        for (name, number) in [
            ("count-workers-g1-0", Some(0)),
            ("count-workers-g1-1023", Some(1023)),
            ("count-workers-g1", None),
            ("5", None),
            ("w-", None),
            ("w-+5", None),
            ("w-4294967296", None),
            ("", None),
        ] {
            assert_eq!(ordinal(name), number, "{name:?}");
        }
    }

    #[test]
    fn fault_found_here_a_report_with_the_shuffle_file_of_another_attempt_is_refused() {
        let file = OutputFile {
            rows: 1,
            bytes: 2,
            crc32c: 3,
            place: FilePlace::Shuffle,
        };
        let output = TaskOutput {
            file,
            records_in: 4,
            bytes_in: 5,
            more: None,
        };
        let mut done = to_task_done(attempt(), output);
        assert_eq!(task_done(done.clone()).map(|(task, _)| task), Ok(attempt()));
        if let Some(task) = &mut done.task {
            task.number = 5;
        }
        let error = task_done(done).unwrap_err().to_string();
        assert!(error.contains("data/1/2/e3a4/shuffle"), "{error}");
        assert!(error.contains("its own is"), "{error}");
    }

    #[test]
    fn done_survives_the_wire_whatever_its_place() {
        for place in places() {
            let output = TaskOutput {
                file: OutputFile {
                    rows: 1,
                    bytes: 2,
                    crc32c: 3,
                    place,
                },
                records_in: 4,
                bytes_in: 5,
                more: None,
            };
            assert_eq!(
                task_done(to_task_done(attempt(), output.clone())).unwrap(),
                (attempt(), output)
            );
        }
    }

    #[test]
    fn counters_survive_the_wire_within_the_limits_of_a_task() {
        let name = |text: &str| CounterName::parse(text).unwrap();
        let more = MoreOutput {
            counters: vec![(name("a"), 0), (name("b"), MAX_COUNT)],
            ..MoreOutput::default()
        };
        let output = TaskOutput {
            file: OutputFile {
                rows: 1,
                bytes: 2,
                crc32c: 3,
                place: FilePlace::Shuffle,
            },
            records_in: 4,
            bytes_in: 5,
            more: more.boxed(),
        };
        let done = to_task_done(attempt(), output.clone());
        assert_eq!(task_done(done.clone()), Ok((attempt(), output)));
        let refused = |counters: Vec<(&str, u64)>| {
            let counter = |(name, count): (&str, u64)| wire::Counter {
                name: name.to_owned(),
                count,
            };
            let counters = counters.into_iter().map(counter).collect();
            let done = wire::TaskDone {
                counters,
                ..done.clone()
            };
            task_done(done).unwrap_err().to_string()
        };
        assert!(refused(vec![("a b", 1)]).contains("is not the name of a counter"));
        assert!(refused(vec![("a", MAX_COUNT + 1)]).contains("9007199254740991"));
        assert!(refused(vec![("a", 1); MAX_COUNTERS + 1]).contains("allowed are 0 to 20"));
    }

    #[test]
    fn fault_6265_failed_survives_the_wire_whatever_its_class() {
        for class in [
            FailureClass::Deterministic,
            FailureClass::Application,
            FailureClass::TimedOut,
            FailureClass::Disruption,
        ] {
            for lost_input in [None, Some(attempt())] {
                for setback in [
                    None,
                    Some(Setback::DiskFull),
                    Some(Setback::ObjectUnavailable),
                    Some(Setback::StoreAway),
                    Some(Setback::WorkerUnhealthy),
                ] {
                    let failed = TaskFailure {
                        class,
                        setback,
                        error: "e".into(),
                        lost_input,
                        log: "l".into(),
                    };
                    let message = to_failed(attempt(), failed.clone());
                    assert_eq!(failure(message).unwrap(), (attempt(), failed));
                }
            }
        }
    }

    #[test]
    fn a_missing_part_of_a_message_is_named() {
        use wire::worker_message::Message;
        let hello = wire::Hello {
            pod_uid: "p".into(),
            incarnation: 1,
            slots: 1,
            ..wire::Hello::default()
        };
        let done = |file| {
            Message::Done(wire::Done {
                tasks: vec![wire::TaskDone {
                    task: Some(to_wire(attempt())),
                    file,
                    ..wire::TaskDone::default()
                }],
            })
        };
        let staged = wire::StagedPlace {
            uri: "file:///o".into(),
            staged: String::new(),
        };
        let table = [
            (
                Message::Hello(wire::Hello {
                    pod_uid: String::new(),
                    ..hello.clone()
                }),
                "Hello: pod uid is missing",
            ),
            (
                Message::Hello(wire::Hello {
                    incarnation: 0,
                    ..hello.clone()
                }),
                "Hello: incarnation is missing",
            ),
            (
                Message::Hello(wire::Hello {
                    slots: 0,
                    ..hello.clone()
                }),
                "Hello: slots is out of range",
            ),
            (
                Message::Hello(wire::Hello {
                    slots: 257,
                    ..hello.clone()
                }),
                "Hello: slots is out of range",
            ),
            (
                Message::Hello(wire::Hello {
                    pod_uid: "../x".into(),
                    ..hello
                }),
                "Hello: worker's pod uid: not an identity",
            ),
            (
                Message::Progress(wire::Progress {
                    tasks: vec![wire::TaskProgress::default()],
                }),
                "Progress: task is missing",
            ),
            (done(None), "Done: file is missing"),
            (
                done(Some(wire::OutputFile::default())),
                "Done: place of the file is missing",
            ),
            (
                done(Some(wire::OutputFile {
                    place: Some(wire::output_file::Place::Staged(staged)),
                    ..wire::OutputFile::default()
                })),
                "Done: name of the staged file is missing",
            ),
            (
                Message::Failed(wire::Failed::default()),
                "Failed: task is missing",
            ),
            (
                Message::Failed(wire::Failed {
                    task: Some(to_wire(attempt())),
                    ..wire::Failed::default()
                }),
                "Failed: class is missing",
            ),
        ];
        for (message, expected) in table {
            let error = event(SessionId(1), message).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_a_message_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
            use prost::Message as _;
            if let Ok(wire::WorkerMessage { message: Some(message), .. }) = wire::WorkerMessage::decode(bytes.as_slice()) {
                let _refused = event(SessionId(1), message);
            }
            if let Ok(run) = wire::RunTask::decode(bytes.as_slice()) {
                let _refused = assignment(run);
            }
        }
    }

    #[test]
    fn parts_that_no_plan_has_are_not_an_assignment() {
        use wire::run_task::Input;
        let file = |size| wire::FileInput {
            uri: "s3://b/k".into(),
            size,
            etag: String::new(),
        };
        let part = |size, from, to| wire::FilePart {
            file: Some(file(size)),
            from,
            to,
        };
        let read = |parts: Vec<wire::FilePart>| {
            assignment(wire::RunTask {
                task: Some(to_wire(attempt())),
                input: Some(Input::Files(wire::FilesInput { parts })),
                trace_records: false,
            })
        };
        for good in [
            vec![part(9, 0, 9)],
            vec![part(9, 3, 7)],
            vec![part(9, 0, 9), part(0, 0, 0)],
        ] {
            let count = good.len();
            let Ok(Assignment {
                input: TaskInput::Files(parts),
                ..
            }) = read(good)
            else {
                panic!("it is refused")
            };
            assert_eq!(parts.len(), count);
        }
        for bad in [
            vec![],
            vec![wire::FilePart::default()],
            vec![part(9, 0, 10)],
            vec![part(9, 5, 4)],
            vec![part(9, 0, 5), part(9, 0, 9)],
        ] {
            assert!(read(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_task_without_input_is_not_an_assignment() {
        let run = wire::RunTask {
            task: Some(to_wire(attempt())),
            input: None,
            trace_records: false,
        };
        let Err(error) = assignment(run) else {
            panic!("a task without input was taken")
        };
        assert!(
            error.to_string().starts_with("Run: input is missing"),
            "{error}"
        );
    }
}
