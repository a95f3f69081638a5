//! Simulates object storage with the ledger. It knows which objects were written, which of them are
//! gone, and which puts arrive too late. The content of a file is a number of rows and a hash of
//! all its inputs. So the content shows if any input was lost, doubled or replaced by another.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::settings::Settings;
use crate::coordinator::record::{LogRecord, OutputFile};
use crate::coordinator::tests::cluster::output;
use crate::id::{Attempt, TaskAttempt, TaskId};

/// The content of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) rows: u64,
    hash: u64,
}

/// The files in a stage's listing.
struct Listing {
    tasks: Vec<TaskAttempt>,
    all: Content,
}

/// The log of all epochs. A new epoch seals the older ones.
pub(super) struct Ledger {
    pub(super) records: Vec<LogRecord>,
    pub(super) book: Book,
    pub(super) newest_epoch: u64,
}

impl Ledger {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            records: Vec::new(),
            book: Book::new(settings),
            newest_epoch: 0,
        }
    }

    pub(super) fn is_sealed(&self, epoch: u64) -> bool {
        epoch < self.newest_epoch
    }

    /// A put of an epoch that is not sealed.
    pub(super) fn put(&mut self, records: &[LogRecord]) {
        for record in records {
            self.book.enter(record);
        }
        self.records.extend_from_slice(records);
    }
}

/// The simulated storage and its ledger.
pub(super) struct Storage {
    shards: Vec<u32>,
    reads: Vec<Vec<u32>>,
    written: BTreeMap<TaskAttempt, Content>,
    /// Files that were written and are gone now.
    gone: BTreeSet<TaskAttempt>,
    listings: BTreeMap<String, Listing>,
    /// Existing final files, by the attempt that made them.
    pub(super) final_files: BTreeMap<TaskId, (Attempt, Content)>,
    /// Existing dead letters, by the attempt that made them.
    pub(super) dead_letters: BTreeMap<TaskId, Attempt>,
    /// Attempts whose uncompleted dead letters are gone.
    dead_letters_gone: BTreeSet<TaskAttempt>,
}

impl Storage {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            shards: settings.shards.clone(),
            reads: settings.reads.clone(),
            written: BTreeMap::new(),
            gone: BTreeSet::new(),
            listings: BTreeMap::new(),
            final_files: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            dead_letters_gone: BTreeSet::new(),
        }
    }

    /// Returns the output that each task of each stage has in a run without faults.
    pub(super) fn reference(&self) -> Vec<Vec<Content>> {
        let mut stages: Vec<Vec<Content>> = Vec::new();
        for (stage, (shards, reads)) in (0..).zip(self.shards.iter().zip(&self.reads)) {
            let outputs = |read: &u32| sum(stages[*read as usize].iter().copied());
            let all = (!reads.is_empty()).then(|| sum(reads.iter().map(outputs)));
            let make = |shard| {
                made(
                    crate::coordinator::tests::cluster::task(stage, shard),
                    *shards,
                    all,
                )
            };
            stages.push((0..*shards).map(make).collect());
        }
        stages
    }

    /// An attempt reads the inputs of its stage and writes its file. If an input is missing,
    /// returns that input as the error.
    pub(super) fn write(
        &mut self,
        task: TaskAttempt,
        inputs: &[String],
    ) -> Result<(), TaskAttempt> {
        let mut read = Vec::new();
        for path in inputs {
            let listing = self.listings.get(path);
            let listing = listing.unwrap_or_else(|| panic!("{path} was never published"));
            let is_listed =
                |gone: &&TaskAttempt| listing.tasks.get(gone.task.shard.0 as usize) == Some(*gone);
            if let Some(gone) = self.gone.iter().find(is_listed) {
                return Err(*gone);
            }
            read.push(listing.all);
        }
        let all = (!read.is_empty()).then(|| sum(read.into_iter()));
        let shards = self.shards[task.task.stage.0 as usize];
        self.written.insert(task, made(task.task, shards, all));
        Ok(())
    }

    /// The file of an attempt, as its worker reports it.
    pub(super) fn file(&self, task: TaskAttempt) -> OutputFile {
        let is_last = task.task.stage.0 as usize + 1 == self.shards.len();
        let content = self.written[&task];
        OutputFile {
            rows: content.rows,
            bytes: content.rows * 10,
            crc32c: crc(content),
            ..output(task, is_last).file
        }
    }

    /// Writes a listing of these files.
    pub(super) fn publish(&mut self, path: &str, outputs: &[(TaskAttempt, OutputFile)]) {
        let tasks: Vec<TaskAttempt> = outputs.iter().map(|(task, _)| *task).collect();
        let all = sum(tasks.iter().map(|task| self.written[task]));
        let before = self
            .listings
            .insert(path.to_owned(), Listing { tasks, all });
        assert!(before.is_none(), "{path} is written twice");
    }

    /// Completes a final file. Returns `false` if that is no longer possible.
    pub(super) fn complete(&mut self, task: TaskAttempt) -> bool {
        let completed = self
            .final_files
            .get(&task.task)
            .map(|(attempt, _)| *attempt);
        if completed == Some(task.attempt) {
            return true;
        }
        if self.gone.contains(&task) {
            return false;
        }
        assert_eq!(
            completed, None,
            "another file stands where {task} is completed"
        );
        let content = self.written[&task];
        self.final_files.insert(task.task, (task.attempt, content));
        true
    }

    /// Completes a dead letter. Returns `false` if that is no longer possible. If an earlier
    /// attempt lost its shuffle file, its dead letter is replaced.
    pub(super) fn complete_dead_letter(&mut self, task: TaskAttempt) -> bool {
        if self.dead_letters.get(&task.task) == Some(&task.attempt) {
            return true;
        }
        if self.dead_letters_gone.contains(&task) {
            return false;
        }
        self.dead_letters.insert(task.task, task.attempt);
        true
    }

    /// A dead letter is deleted or lost before it is complete.
    pub(super) fn remove_dead_letter(&mut self, task: TaskAttempt) {
        self.dead_letters_gone.insert(task);
    }

    /// A file is deleted or lost. An existing final file is not affected.
    pub(super) fn remove(&mut self, task: TaskAttempt) {
        if self.written.contains_key(&task) {
            self.gone.insert(task);
        }
    }

    pub(super) fn gone(&self) -> &BTreeSet<TaskAttempt> {
        &self.gone
    }
}

fn crc(content: Content) -> u32 {
    u32::try_from(content.hash & 0xffff_ffff).unwrap_or_default()
}

fn mix(one: u64, other: u64) -> u64 {
    let mixed = (one ^ other.rotate_left(31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn sum(contents: impl Iterator<Item = Content>) -> Content {
    let nothing = Content { rows: 0, hash: 1 };
    contents.fold(nothing, |all, content| Content {
        rows: all.rows + content.rows,
        hash: mix(all.hash, content.hash),
    })
}

/// Computes a task's output from all outputs of the stages that its stage reads. The rows are
/// distributed over the shards. Some shards have none.
fn made(task: TaskId, shards: u32, all: Option<Content>) -> Content {
    let shard = u64::from(task.shard.0);
    let (rows, from) = match all {
        None => ((shard * 7) % 11, 0),
        Some(all) => {
            let shards = u64::from(shards);
            (
                all.rows / shards + u64::from(shard < all.rows % shards),
                all.hash,
            )
        }
    };
    Content {
        rows,
        hash: mix(mix(from, u64::from(task.stage.0)), shard + 1),
    }
}
