//! Reads the files of the pipeline's tables into the objects that expressions see as `$name`: each
//! record under its key. Applies no step and keeps nothing.

use std::sync::Arc;

use zephyr_engine::expr::{CompileError, Expression, Variables};
use zephyr_engine::ops::{shown, shown_text};
use zephyr_engine::record::Record;
use zephyr_store::ledger::TableFiles;
use zephyr_store::storage::InputFile;

use crate::task::context::{LoadedVariables, TaskContext};
use crate::task::error::{TaskError, TaskFailure};
use crate::task::input::open_file;
use crate::task::run::ProgressCounters;

/// How many bytes all tables together have at most. This limits the sizes of their files, and the
/// memory that their records take. Each process that runs tasks holds all tables in memory.
pub const MAX_TABLES_BYTES: u64 = 256 << 20;
/// How many files all tables together have at most. Each worker receives their names when it opens
/// a session.
pub const MAX_TABLE_FILES: usize = 1000;

/// Why tables cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// They are too large.
    #[error(
        "spec.pipeline.tables: together too large (got {} MiB {of}); at most {} MiB, because every process of a worker holds all tables in memory",
        mebibytes(*.bytes), mebibytes(MAX_TABLES_BYTES)
    )]
    TooLarge {
        /// Bytes.
        bytes: u64,
        /// What has this size: `of files`, for example.
        of: &'static str,
    },
    /// They have too many files.
    #[error("spec.pipeline.tables: too many files (got {files}); at most {MAX_TABLE_FILES}")]
    TooManyFiles {
        /// Number of files.
        files: usize,
    },
    /// They leave too little memory for records.
    #[error(
        "spec.pipeline.tables: the tables take {} MiB of memory, and a slot of this worker has {} MiB for tables; give the workers more memory, or fewer slots",
        mebibytes(*.bytes), mebibytes(*.room)
    )]
    NoRoom {
        /// Bytes of the tables.
        bytes: u64,
        /// Bytes that they may take.
        room: u64,
    },
    /// A record's key is unusable.
    #[error("spec.pipeline.tables.{table}.key: {place}: {problem}")]
    Key {
        /// The table.
        table: String,
        /// The record: its file and line.
        place: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// Its records cannot become the members of one object.
    #[error(
        "spec.pipeline.tables.{table}: its records become the members of one object, one level below it: {problem}"
    )]
    Unusable {
        /// The table.
        table: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The key does not compile.
    #[error("spec.pipeline.tables.{table}.key: {problem}")]
    Compile {
        /// The table.
        table: String,
        /// What is wrong.
        problem: String,
    },
}

/// The number of MiB, rounded up.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Fails if the files are certainly too large or too many to be tables. Compressed ones may still
/// turn out to be too large.
///
/// # Errors
/// What is exceeded.
pub fn check_sizes(tables: &TableFiles) -> Result<(), TableError> {
    let files = tables.values().map(Vec::len).sum();
    if files > MAX_TABLE_FILES {
        return Err(TableError::TooManyFiles { files });
    }
    let bytes = tables.values().flatten().map(|file| file.size).sum();
    if bytes > MAX_TABLES_BYTES {
        let of = "of files";
        return Err(TableError::TooLarge { bytes, of });
    }
    Ok(())
}

/// Reads all tables as a task would, and keeps nothing. Must be called on a thread like that of
/// [`run`](super::run()).
///
/// # Errors
/// The first file that cannot be read, or the first record that cannot be in a table.
pub fn check_tables(context: &TaskContext) -> Result<(), TaskFailure> {
    let read = read(context, MAX_TABLES_BYTES, &Arc::default());
    read.map(drop).map_err(TaskFailure::from)
}

/// Reads the named values and all tables. The tables may take `room` bytes of memory. This must run
/// on a thread with the stack of a task.
pub(super) fn read(
    context: &TaskContext,
    room: u64,
    counters: &Arc<ProgressCounters>,
) -> Result<LoadedVariables, TaskError> {
    let unreadable = |error: CompileError| TaskError::FollowAssignment(error.to_string());
    let values = Variables::of(&context.setup.plan.values).map_err(unreadable)?;
    let mut variables = values.clone();
    let mut bytes = 0;
    for (name, key) in &context.setup.plan.tables {
        let key = Expression::compile_with(key, &values).map_err(|error| TableError::Compile {
            table: name.clone(),
            problem: error.to_string(),
        })?;
        let mut table = Table {
            name,
            key: key.within(context.setup.limits.record),
            text: "{".to_owned(),
            rows: Vec::new(),
            used_before: bytes,
            room,
        };
        let files = context.setup.tables.get(name);
        let files = files.map(Vec::as_slice).unwrap_or_default();
        for (number, file) in (0..).zip(files) {
            table.add(context, number, file, counters)?;
        }
        let text = table.finish(files)?;
        let inserted = variables
            .insert(name, text)
            .map_err(|error| TableError::Unusable {
                table: name.clone(),
                problem: error.to_string(),
            })?;
        bytes += inserted as u64;
        check_memory(bytes, room)?;
    }
    Ok(LoadedVariables { variables, bytes })
}

/// Fails if tables of this many bytes are larger than allowed, or larger than `room`.
fn check_memory(bytes: u64, room: u64) -> Result<(), TableError> {
    if bytes > MAX_TABLES_BYTES {
        let of = "in memory";
        return Err(TableError::TooLarge { bytes, of });
    }
    if bytes > room {
        return Err(TableError::NoRoom { bytes, room });
    }
    Ok(())
}

/// Why a record cannot be in a table.
enum Unusable {
    /// The key is wrong, for this reason.
    Key(String),
    /// Another reason.
    Table(TableError),
}

/// A table that is being read.
struct Table<'a> {
    name: &'a str,
    key: Expression,
    /// The JSON text of the rows that were read so far.
    text: String,
    rows: Vec<Row>,
    /// The bytes of all tables that were read before this one.
    used_before: u64,
    room: u64,
}

/// Where a row was read, and where its key begins in the text.
#[derive(Clone, Copy)]
struct Row {
    at: u32,
    key_end: u32,
    file: u32,
    line: u32,
}

impl Table<'_> {
    fn add(
        &mut self,
        context: &TaskContext,
        number: u32,
        file: &InputFile,
        counters: &Arc<ProgressCounters>,
    ) -> Result<(), TaskError> {
        let setup = &context.setup;
        let format = setup.table_formats.get(self.name).copied();
        let mut reader = open_file(context, file, format, &setup.limits, counters)?;
        while let Some((record, line)) = reader.next_record().map_err(TaskError::ReadInput)? {
            let place = (number, u32::try_from(line).unwrap_or(u32::MAX));
            self.push(&record, place).map_err(|error| match error {
                Unusable::Table(error) => TaskError::Table(error),
                Unusable::Key(problem) => TaskError::Table(TableError::Key {
                    table: self.name.to_owned(),
                    place: format!("{}: line {line}", file.uri),
                    problem,
                }),
            })?;
        }
        Ok(())
    }

    fn push(&mut self, record: &Record, (file, line): (u32, u32)) -> Result<(), Unusable> {
        let key = self.key_of(record).map_err(Unusable::Key)?;
        if self.text.len() > 1 {
            self.text.push(',');
        }
        let at = self.text.len();
        self.text.push_str(&key);
        let key_end = self.text.len();
        self.text.push(':');
        self.text.push_str(record.as_json_str());
        check_memory(self.used_before + self.text.len() as u64, self.room)
            .map_err(Unusable::Table)?;
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.rows.push(Row {
            at: offset(at),
            key_end: offset(key_end),
            file,
            line,
        });
        Ok(())
    }

    /// The key of a record as JSON text; equal keys have equal texts.
    fn key_of(&self, record: &Record) -> Result<String, String> {
        let value = self.key.evaluate_one(record, |value| value.to_record());
        let key = value
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let text = key.as_string().ok_or_else(|| {
            format!(
                "is not a string (got {}); a string, because it becomes the key of an object; tostring makes a string of a number",
                shown(&key)
            )
        })?;
        serde_json::to_string(&*text).map_err(|error| error.to_string())
    }

    /// Returns the text of the object. It is an error if a key occurs twice.
    fn finish(mut self, files: &[InputFile]) -> Result<String, TableError> {
        self.text.push('}');
        let key = |row: &Row| &self.text[row.at as usize..row.key_end as usize];
        self.rows.sort_by(|one, other| key(one).cmp(key(other)));
        let twice = self
            .rows
            .windows(2)
            .find(|pair| key(&pair[0]) == key(&pair[1]));
        match twice {
            Some([first, second]) => {
                let place = |row: &Row| {
                    let file = files.get(row.file as usize);
                    let file = file.map_or("", |file| file.uri.as_str());
                    format!("{file}: line {}", row.line)
                };
                Err(TableError::Key {
                    table: self.name.to_owned(),
                    place: place(second),
                    problem: format!(
                        "has the same key as {} (got {}); another key for each record",
                        place(first),
                        shown_text(key(second))
                    ),
                })
            }
            Some(_) | None => Ok(self.text),
        }
    }
}
