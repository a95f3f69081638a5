//! Reads the file in which a command counts, after the command has ended. Each line is a JSON
//! object of names and numbers, and the numbers of equal names are added up. Starts nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use zephyr_engine::coordinator::counters::{CounterName, MAX_COUNT, MAX_COUNTERS};
use zephyr_engine::record::is_blank;

/// How many bytes a file may have. This is enough for one line for each of many records, and is
/// read within a moment.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// How many bytes a line may have. This is more than all names that a job can have.
const MAX_LINE_BYTES: u64 = 4096;

/// What the commands of an attempt counted.
pub(in crate::task) type Counts = BTreeMap<CounterName, u64>;

/// Why a file of counters is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CountersProblem {
    /// It could not be read: the error of the system.
    Read(String),
    /// What is wrong with it as a whole.
    File(String),
    /// What is wrong with a line; lines are counted from 1.
    Line(u64, String),
}

/// The members of one line, in their order. A name that the line has twice is here twice.
struct Members(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of names and numbers, such as {\"rows\": 1}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(OfObject)
    }
}

/// Adds what a command counted; it has counted nothing if it made no file.
pub(super) fn add_file(counts: &mut Counts, path: &Path) -> Result<(), CountersProblem> {
    // A link or a pipe in place of the file is not followed and blocks nobody.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(not_a_file()),
        Err(error) => return Err(CountersProblem::Read(io::Error::from(error).to_string())),
    };
    let metadata = file.metadata().map_err(|error| read_failed(&error))?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(CountersProblem::File(format!(
            "is too long (got {} bytes); at most {MAX_FILE_BYTES} bytes",
            metadata.len()
        )));
    }
    add_lines(counts, BufReader::new(file.take(MAX_FILE_BYTES)))
}

fn not_a_file() -> CountersProblem {
    CountersProblem::File("is a link, a folder or a pipe; a regular file".to_owned())
}

fn read_failed(error: &io::Error) -> CountersProblem {
    CountersProblem::Read(error.to_string())
}

/// Adds the lines of a file. The last one needs no line end, because a JSON object shows where it
/// ends.
fn add_lines(counts: &mut Counts, mut lines: impl BufRead) -> Result<(), CountersProblem> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut limited = (&mut lines).take(MAX_LINE_BYTES + 1);
        let bytes = limited
            .read_until(b'\n', &mut line)
            .map_err(|error| read_failed(&error))?;
        if bytes == 0 {
            break;
        }
        let wrong = |problem: String| CountersProblem::Line(number, problem);
        if bytes as u64 > MAX_LINE_BYTES {
            return Err(wrong(format!(
                "is too long; at most {MAX_LINE_BYTES} bytes"
            )));
        }
        if !is_blank(&line) {
            add_line(counts, &line).map_err(wrong)?;
        }
    }
    Ok(())
}

fn add_line(counts: &mut Counts, line: &[u8]) -> Result<(), String> {
    let Members(members) = serde_json::from_slice(line).map_err(|_| {
        format!(
            "is not a JSON object (got {}); an object of names and numbers, such as {{\"rows\": 1}}",
            super::error::shown(line.trim_ascii())
        )
    })?;
    for (text, value) in members {
        let name = CounterName::parse(&text).map_err(|error| format!("{text:.64?} {error}"))?;
        let wrong = |got: &dyn fmt::Display| {
            format!(
                "{name} is not a count (got {got:.64}); an integer from 0 to {MAX_COUNT}, without point and exponent"
            )
        };
        let number = value.as_u64().filter(|number| *number <= MAX_COUNT);
        let number = number.ok_or_else(|| wrong(&value.to_string()))?;
        let counted = counts.entry(name.clone()).or_default();
        *counted = Some(*counted + number)
            .filter(|sum| *sum <= MAX_COUNT)
            .ok_or_else(|| {
                format!("{name} exceeds what one task can count (got {counted} and {number} more); at most {MAX_COUNT}")
            })?;
        if counts.len() > MAX_COUNTERS {
            return Err(format!(
                "{name} is one name too many; at most {MAX_COUNTERS} different names in a task and in a job"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Result<Vec<(String, u64)>, CountersProblem> {
        let mut counts = Counts::new();
        add_lines(&mut counts, text.as_bytes())?;
        let counts = counts.into_iter();
        Ok(counts
            .map(|(name, count)| (name.to_string(), count))
            .collect())
    }

    fn wrong_line(text: &str) -> (u64, String) {
        match counted(text) {
            Err(CountersProblem::Line(number, problem)) => (number, problem),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn lines_are_added_up_by_name_and_the_last_one_needs_no_line_end() {
        let text = "{\"b\":1}\n\n {} \r\n{\"a\":2,\"b\":0}\n{\"b\":9007199254740990}";
        let expected = [("a".to_owned(), 2), ("b".to_owned(), MAX_COUNT)];
        assert_eq!(counted(text).unwrap(), expected);
        assert_eq!(counted("").unwrap(), []);
        assert_eq!(counted("{\"a\":1,\"a\":2}").unwrap(), [("a".to_owned(), 3)]);
    }

    #[test]
    fn a_line_that_is_wrong_is_named_with_what_is_allowed() {
        for (text, line, words) in [
            ("{\"a\":1}\n[1]\n", 2, "is not a JSON object (got [1])"),
            ("{\"a\":1", 1, "is not a JSON object (got {\"a\":1)"),
            ("{\"a\":1}{\"a\":1}\n", 1, "is not a JSON object"),
            ("{\"a\":-1}", 1, "a is not a count (got -1)"),
            ("{\"a\":1.0}", 1, "an integer from 0 to 9007199254740991"),
            ("{\"a\":1e3}", 1, "without point and exponent"),
            ("{\"a\":null}", 1, "(got null)"),
            ("{\"a\":9007199254740992}", 1, "(got 9007199254740992)"),
            ("{\"a\":99999999999999999999999}", 1, "an integer from 0 to"),
            (
                "\n{\"a b\":1}",
                2,
                "is not the name of a counter (got \"a b\")",
            ),
            (
                "{\"a\":9007199254740991}\n{\"a\":1}",
                2,
                "a exceeds what one task can count (got 9007199254740991 and 1 more)",
            ),
        ] {
            let (number, problem) = wrong_line(text);
            assert_eq!(number, line, "{text}");
            assert!(problem.contains(words), "{text}: {problem}");
        }
        let names: Vec<String> = (0..=MAX_COUNTERS)
            .map(|n| format!("{{\"n{n}\":1}}"))
            .collect();
        let (number, problem) = wrong_line(&names.join("\n"));
        assert_eq!(number, 21);
        assert!(
            problem.starts_with("n20 is one name too many; at most 20 different names"),
            "{problem}"
        );
        let long = format!("{{\"a\":1{}}}", " ".repeat(5000));
        assert_eq!(wrong_line(&long).1, "is too long; at most 4096 bytes");
    }

    #[test]
    fn what_is_not_a_regular_file_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        let mut counts = Counts::new();
        assert_eq!(add_file(&mut counts, &path), Ok(()));
        std::fs::create_dir(&path).unwrap();
        let refused = |counts: &mut Counts| add_file(counts, &path).unwrap_err();
        assert_eq!(refused(&mut counts), not_a_file());
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(refused(&mut counts), not_a_file());
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
        assert_eq!(refused(&mut counts), not_a_file());
        std::fs::remove_file(&path).unwrap();
        let file = File::create(&path).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(matches!(refused(&mut counts), CountersProblem::File(_)));
        assert!(counts.is_empty());
    }
}
