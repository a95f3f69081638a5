//! Tests with ledgers that release 0.1.0 wrote. The plan must be readable, the records must be
//! taken over, and the files that they name must be complete. These ledgers must never be generated
//! again.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zephyr_engine::coordinator::record::{FilePlace, LogRecord};
use zephyr_engine::id::JobUid;

use super::{Ledger, WriterToken, load_plan};
use crate::reclaim::{is_job_uid, part_of};
use crate::shuffle::{check_file, shuffle_path};
use crate::storage::{JobStorage, Stores, fetch};

/// A stored ledger, and its expected contents.
struct Stored {
    /// The name of the ledger's folder.
    name: &'static str,
    /// The epoch that takes over the ledger.
    epoch: u64,
    /// How many records all earlier epochs have.
    records: usize,
    /// How many input files the plan lists.
    inputs: usize,
    /// How many shards the source has.
    shards: u32,
    /// How many shuffle files the records name, and how many partitions each file has.
    shuffled: (usize, u32),
}

const LEDGERS: [Stored; 6] = [
    Stored {
        name: "sales",
        epoch: 2,
        records: 14,
        inputs: 3,
        shards: 3,
        shuffled: (3, 4),
    },
    Stored {
        name: "returns",
        epoch: 3,
        records: 14,
        inputs: 3,
        shards: 3,
        shuffled: (3, 4),
    },
    Stored {
        name: "items",
        epoch: 2,
        records: 9,
        inputs: 0,
        shards: 2,
        shuffled: (2, 2),
    },
    Stored {
        name: "broken",
        epoch: 2,
        records: 5,
        inputs: 3,
        shards: 3,
        shuffled: (0, 0),
    },
    Stored {
        name: "local-interrupted",
        epoch: 2,
        records: 2,
        inputs: 3,
        shards: 3,
        shuffled: (2, 3),
    },
    Stored {
        name: "local-resumed",
        epoch: 3,
        records: 14,
        inputs: 3,
        shards: 3,
        shuffled: (3, 3),
    },
];

fn folder(name: &str) -> PathBuf {
    let ledgers = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/releases/0.1.0/ledgers"
    );
    Path::new(ledgers).join(name)
}

/// Copies the ledger to a temporary folder. Returns the folder and the job's storage in it.
fn copied(name: &str) -> (TempDir, JobStorage) {
    let uid = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| is_job_uid(name))
        .unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&folder(name).join(&uid), &copy.path().join(&uid));
    let uri = format!("file://{}", copy.path().display());
    let storage = JobStorage::new(
        Stores::new(std::collections::BTreeMap::new()),
        &uri,
        JobUid::parse(&uid).unwrap(),
    );
    (copy, storage.unwrap())
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_ledger_of_release_0_1_0_is_taken_over_with_all_its_records() {
    for stored in LEDGERS {
        let Stored { name, .. } = stored;
        let (_copy, storage) = copied(name);
        let plan = load_plan(&storage, true).await.unwrap().unwrap();
        let read = (plan.inputs.len(), plan.source_shards);
        assert_eq!(read, (stored.inputs, stored.shards), "{name}");
        let taken = Ledger::take_over(&storage, WriterToken::from_random(1))
            .await
            .unwrap();
        let read = (taken.epoch.0, taken.records.len());
        assert_eq!(read, (stored.epoch, stored.records), "{name}");
        // Records that this release writes are taken over in the same way.
        let again = Ledger::take_over(&storage, WriterToken::from_random(2))
            .await
            .unwrap();
        assert_eq!(again.records, taken.records, "{name}");
    }
}

#[tokio::test]
async fn the_shuffle_files_that_a_ledger_of_release_0_1_0_names_are_whole() {
    for stored in LEDGERS {
        let Stored { name, .. } = stored;
        let (_copy, storage) = copied(name);
        let taken = Ledger::take_over(&storage, WriterToken::from_random(1))
            .await
            .unwrap();
        let mut found = 0;
        for record in taken.records {
            let LogRecord::Done { task, output } = record else {
                continue;
            };
            if task.task.stage.0 > 0 || output.file.place != FilePlace::Shuffle {
                continue;
            }
            let location = storage.at(&shuffle_path(task)).unwrap();
            let bytes = fetch(storage.stores(), &location).await.unwrap();
            assert_eq!(bytes.len() as u64, output.file.bytes, "{name}: {task}");
            check_file(task, stored.shuffled.1, &bytes).unwrap();
            found += 1;
        }
        assert_eq!(found, stored.shuffled.0, "{name}");
    }
}

#[test]
fn every_object_in_a_folder_of_release_0_1_0_is_known_by_its_name() {
    for Stored { name, .. } in LEDGERS {
        let (copy, storage) = copied(name);
        let root = copy.path().join(storage.job().as_str());
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let relative = path.strip_prefix(&root).unwrap().to_str().unwrap();
                assert!(part_of(relative).is_some(), "{name}: {relative}");
            }
        }
    }
}
