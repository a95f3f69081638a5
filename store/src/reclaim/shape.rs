//! The names of objects in a job's folder. If a folder contains another name, that object belongs
//! to another program, and the folder is not removed.

use crate::attempts::position;
use crate::storage::is_write_question;

/// How many digits a number in a name may have. A 64-bit number has at most this many.
const MAX_DIGITS: usize = 20;

/// The part of a job's folder to which an object belongs, in the order of removal. If a coordinator
/// finds the last part without the others, it knows that the ledger was removed. Without this rule
/// it would run the job again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Intermediate data.
    Data,
    /// Logs, snapshots and merged objects of the ledger, and the history of attempts.
    Log,
    /// The first object of each epoch.
    Opened,
    /// The plan, the copy of the claim of the output folder, the probe of the storage, the archives
    /// of the job, and its moves.
    Plan,
    /// The marker of the job's end.
    Marker,
}

/// Whether a name is that of a job's folder. Such a name is a Kubernetes uid, or the 32 hexadecimal
/// digits of a local run.
pub fn is_job_uid(name: &str) -> bool {
    let is_hex = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let groups: Vec<&str> = name.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    (lengths == [32] || lengths == [8, 4, 4, 4, 12]) && groups.iter().all(|group| is_hex(group))
}

/// Returns the part to which an object belongs, by its path below the folder. `None` if no release
/// writes such a name.
pub fn part_of(path: &str) -> Option<Part> {
    let segments: Vec<&str> = path.split('/').collect();
    let (last, folders) = segments.split_last()?;
    match (folders, written_as(last)) {
        ([], super::MARKER_NAME) => Some(Part::Marker),
        ([], "plan.json" | "output.json" | "probe") => Some(Part::Plan),
        (["moves"], name) if is_number(name) => Some(Part::Plan),
        (["exports"], name) if is_archive(name) => Some(Part::Plan),
        (["attempts"], name) if position(name).is_some() => Some(Part::Log),
        (["epochs", epoch], "open") if is_number(epoch) => Some(Part::Opened),
        (["epochs", epoch, "log" | "merged" | "snapshots"], name)
            if is_number(epoch) && is_number(name) =>
        {
            Some(Part::Log)
        }
        (["data", stage], name) if is_number(stage) && is_of_finished_stage(name) => {
            Some(Part::Data)
        }
        (["data", stage, shard, attempt], "shuffle")
            if is_number(stage) && is_number(shard) && is_attempt(attempt) =>
        {
            Some(Part::Data)
        }
        (["data", ..], name) if is_write_question(name) => Some(Part::Data),
        _ => None,
    }
}

/// Returns the final name of a file that a killed process left unfinished on a local disk. It is
/// `shuffle` for `.shuffle.part` and for `shuffle#1`. Any other name is returned unchanged.
fn written_as(name: &str) -> &str {
    if let Some(staged) = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".part"))
    {
        return staged;
    }
    match name.rsplit_once('#') {
        Some((written, number)) if is_number(number) => written,
        Some(_) | None => name,
    }
}

fn is_number(text: &str) -> bool {
    (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is the name of an exported archive, which is a digest.
fn is_archive(text: &str) -> bool {
    let digest = text.strip_suffix(".tar.zst");
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digest.is_some_and(|digest| digest.len() == 32 && digest.bytes().all(is_hex))
}

/// Whether a text is the name of an attempt, such as `e3a1`.
fn is_attempt(text: &str) -> bool {
    let numbers = text.strip_prefix('e').and_then(|rest| rest.split_once('a'));
    numbers.is_some_and(|(epoch, number)| is_number(epoch) && is_number(number))
}

/// Whether a text is the name of a list of outputs, such as `outputs-e4-2`, or of a part of a
/// merged index, such as `index-e4-2-0`.
fn is_of_finished_stage(text: &str) -> bool {
    let numbers = |rest: &str, count| {
        let mut numbers = rest.split('-');
        numbers.clone().count() == count && numbers.all(is_number)
    };
    let list = text.strip_prefix("outputs-e");
    let index = text.strip_prefix("index-e");
    list.is_some_and(|rest| numbers(rest, 2)) || index.is_some_and(|rest| numbers(rest, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::attempts::first_attempt;
    use crate::shuffle::shuffle_path;

    #[test]
    fn only_uids_are_names_of_job_folders() {
        for name in [
            "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d7",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(is_job_uid(name), "{name}");
        }
        for name in [
            "",
            "data",
            "0e5c9d0a-6a0b-4a6e-9a63-5a8f1df2a1d",
            "0E5C9D0A-6A0B-4A6E-9A63-5A8F1DF2A1D7",
            "0e5c9d0a6a0b-4a6e-9a63-5a8f1df2a1d7-",
            "0123456789abcdef0123456789abcdeg",
            "0123456789abcdef0123456789abcdef0",
            "é123456789abcdef0123456789abcdef",
        ] {
            assert!(!is_job_uid(name), "{name}");
        }
    }

    #[test]
    fn every_name_that_a_job_writes_has_a_part_and_no_other_name_has_one() {
        let shuffle = shuffle_path(first_attempt(0, 7));
        for (path, part) in [
            ("ended.json", Part::Marker),
            ("plan.json", Part::Plan),
            ("output.json", Part::Plan),
            ("probe", Part::Plan),
            ("probe#1", Part::Plan),
            ("moves/0", Part::Plan),
            (
                "exports/0123456789abcdef0123456789abcdef.tar.zst",
                Part::Plan,
            ),
            ("epochs/1/open", Part::Opened),
            ("epochs/12/log/0", Part::Log),
            ("attempts/12-0.jsonl.zst", Part::Log),
            ("attempts/.12-0.jsonl.zst.part", Part::Log),
            ("epochs/1/merged/3", Part::Log),
            ("epochs/1/snapshots/1000", Part::Log),
            ("data/0/outputs-e4-2", Part::Data),
            ("data/0/index-e4-2-0", Part::Data),
            (shuffle.as_str(), Part::Data),
            ("data/0/7/e1a1/.shuffle.part", Part::Data),
            (
                "data/_zephyr-write-0123456789abcdef0123456789abcdef",
                Part::Data,
            ),
            (
                "data/0/7/e1a1/_zephyr-write-0123456789abcdef0123456789abcdef",
                Part::Data,
            ),
        ] {
            assert_eq!(part_of(path), Some(part), "{path}");
        }
        for path in [
            "",
            "ended.json/x",
            "x/ended.json",
            "Plan.json",
            "notes.txt",
            "epochs/1",
            "epochs/x/open",
            "moves/x",
            "exports/0.tar.zst",
            "attempts/12.jsonl.zst",
            "attempts/x-0.jsonl.zst",
            "attempts/-0.jsonl.zst",
            "attempts/1-0.jsonl",
            "epochs/1/log/x",
            "epochs/1/log/1/2",
            "epochs/1/other/1",
            "data/part-0.jsonl",
            "data/0/7/e1a1/other",
            "data/0/7/e1/shuffle",
            "data/0/outputs",
            "data/0/outputs-e4-2-0",
            "data/0/index-e4-2",
            "data/_zephyr-write-7",
            "_zephyr-write-0123456789abcdef0123456789abcdef",
            "epochs/111111111111111111111/open",
        ] {
            assert_eq!(part_of(path), None, "{path}");
        }
    }
}
