//! Random jobs from a seed: a source, steps, a sink and existing files in the folders, each with
//! the expected result. The expected result is computed here by other means than the engine's. Runs
//! nothing, and calls nothing of the engine. Two drivers use it, one in process and one through the
//! program.

mod drive;
mod sink;
mod source;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

pub(crate) use self::drive::run_all;

/// The reason with which a job ends if it cannot be planned.
pub(crate) const REFUSED: &str = "PlanFailed";

/// The folders of the input, of the output and of the storage, below the root of each.
pub(crate) const INPUT: &str = "in";
pub(crate) const OUTPUT: &str = "out";
pub(crate) const STORAGE: &str = "scratch";
/// The folder of the table.
pub(crate) const LOOKUP: &str = "lookup";
/// The folder of the dead letters.
pub(crate) const DEAD_LETTERS: &str = "out/bad";
/// The manifest that a job writes last.
pub(crate) const MANIFEST: &str = "_SUCCESS.json";
/// A placeholder in a random manifest for the address of the folder that contains all of the above.
pub(crate) const ROOT: &str = "$ROOT";

/// Random numbers from a seed.
pub(crate) struct Dice(StdRng);

impl Dice {
    fn of(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: usize, high: usize) -> usize {
        self.0.random_range(low..=high)
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.between(0, 99) < chance
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.between(0, from.len() - 1)]
    }
}

/// The expected result of a job.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// It is refused before any task runs.
    Refused(&'static str),
    /// It succeeds.
    Output {
        /// The records of all files together, in any order.
        records: Vec<Value>,
        /// The names of the files below the root.
        names: BTreeSet<String>,
        /// Files that existed before and must stay.
        kept: BTreeMap<String, Vec<u8>>,
        /// Whether the job may also be refused by a rule that sees only the manifest, although the
        /// real names do not clash.
        may_be_refused: bool,
    },
}

/// A random job.
pub(crate) struct Case {
    pub(crate) seed: u64,
    /// `spec`, with [`ROOT`] in its addresses.
    pub(crate) spec: Value,
    /// All files and keys that exist before the job, by their path below the root.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) expected: Expected,
    /// The number of lines of each dead letter, if bad lines are written to some.
    dead_letters: Option<BTreeMap<String, usize>>,
}

/// The result of a job.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Refused by validation, or at planning.
    Refused(String),
    /// Failed after tasks had begun.
    Failed(String),
    Succeeded,
}

impl Case {
    /// The job of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        let source = source::draw(&mut dice);
        let has_table = dice.percent(30);
        let (steps, flow) = steps::draw(&mut dice, source.flow(), has_table);
        let sink = sink::draw(&mut dice, &source, &flow);
        let mut spec = json!({
            "pipeline": {"source": source.manifest(), "sink": {"files": sink.manifest()}},
            "storage": {"uri": format!("{ROOT}/{}", sink.storage())},
            "workers": {"replicas": 1},
        });
        if !steps.is_empty() {
            spec["pipeline"]["steps"] = Value::Array(steps);
        }
        if has_table {
            spec["pipeline"]["values"] = json!({steps::VALUE: steps::DEFAULT});
            spec["pipeline"]["tables"] = json!({steps::TABLE: {
                "files": {"paths": [format!("{ROOT}/{LOOKUP}/*.jsonl.gz"), format!("{ROOT}/{LOOKUP}/b.jsonl")]},
                "key": ".k",
            }});
        }
        let mut dead_letters = None;
        if let Some(bad_lines) = source.bad_lines()
            && sink.is_in_its_own_folder()
            && dice.percent(50)
        {
            let path = format!("{ROOT}/{DEAD_LETTERS}/{{shard}}.jsonl");
            spec["pipeline"]["source"]["files"]["onError"] =
                json!({"action": "DeadLetter", "path": path});
            let named = (0..).zip(bad_lines);
            let named =
                named.map(|(shard, lines)| (format!("{DEAD_LETTERS}/{shard}.jsonl"), lines));
            dead_letters = Some(named.collect());
        }
        let mut files = source.files();
        files.extend(sink.existing());
        let mut expected = sink.expected(&source, &flow);
        if has_table {
            let tables = steps::table_files();
            files.extend(tables.clone());
            if let Expected::Output { kept, .. } = &mut expected {
                kept.extend(tables);
            }
        }
        Self {
            seed,
            spec,
            files,
            expected,
            dead_letters,
        }
    }

    /// The spec with the folder's address in it.
    pub(crate) fn spec_at(&self, root: &str) -> Value {
        let text = self.spec.to_string().replace(ROOT, root);
        serde_json::from_str(&text).unwrap()
    }

    /// The files that exist before, with the folder's address in those that contain other names.
    pub(crate) fn files_at(&self, root: &str) -> BTreeMap<String, Vec<u8>> {
        let is_manifest = |name: &str| name == format!("{OUTPUT}/{MANIFEST}");
        let files = self.files.iter().map(|(name, bytes)| {
            let bytes = match std::str::from_utf8(bytes) {
                Ok(text) if is_manifest(name) => text.replace(ROOT, root).into_bytes(),
                Ok(_) | Err(_) => bytes.clone(),
            };
            (name.clone(), bytes)
        });
        files.collect()
    }

    /// Returns the errors in how the job ended and in `after`: all files below the root except
    /// those of the storage, by their path.
    pub(crate) fn check(
        &self,
        root: &str,
        ended: &Ended,
        after: &BTreeMap<String, Vec<u8>>,
    ) -> Result<(), String> {
        let wrong = self.violation(root, ended, after);
        wrong.map_or(Ok(()), |wrong| {
            Err(format!(
                "seed {}: {wrong}\n  spec: {}\n  files before: {:?}",
                self.seed,
                self.spec,
                self.files.keys().collect::<Vec<_>>(),
            ))
        })
    }

    fn violation(
        &self,
        root: &str,
        ended: &Ended,
        after: &BTreeMap<String, Vec<u8>>,
    ) -> Option<String> {
        match (&self.expected, ended) {
            (_, Ended::Failed(message)) => Some(format!("it failed after it began: {message}")),
            (
                Expected::Refused(_)
                | Expected::Output {
                    may_be_refused: true,
                    ..
                },
                Ended::Refused(message),
            ) => {
                if *after != self.files_at(root) {
                    let after: Vec<_> = after.keys().collect();
                    return Some(format!("it was refused and changed files: {after:?}"));
                }
                is_sentence(message)
            }
            (Expected::Output { .. }, Ended::Refused(message)) => {
                Some(format!("it was refused: {message}"))
            }
            (Expected::Refused(why), Ended::Succeeded) => {
                Some(format!("it succeeded and should be refused: {why}"))
            }
            (
                Expected::Output {
                    records,
                    names,
                    kept,
                    ..
                },
                Ended::Succeeded,
            ) => {
                let is_dead_letter = |name: &String| name.starts_with(DEAD_LETTERS);
                let (letters, rest): (BTreeMap<_, _>, BTreeMap<_, _>) = (after.clone())
                    .into_iter()
                    .partition(|(name, _)| is_dead_letter(name));
                let wrong = compare(&rest, records, names, kept);
                wrong.or_else(|| self.wrong_dead_letters(&letters))
            }
        }
    }
}

impl Case {
    /// Returns the errors in the dead letters. If only the first records of a shard are taken, the
    /// shard is not read to its end, so it may have fewer bad lines.
    fn wrong_dead_letters(&self, found: &BTreeMap<String, Vec<u8>>) -> Option<String> {
        let expected = self.dead_letters.clone().unwrap_or_default();
        let is_read_to_the_end = !self.spec.to_string().contains("takePerShard");
        let lines: BTreeMap<String, usize> = found
            .iter()
            .map(|(name, bytes)| {
                let text = String::from_utf8_lossy(bytes);
                let letters = text
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok());
                let own = letters.filter(|letter: &Value| {
                    letter["record"].is_string() && letter["line"].is_u64()
                });
                (name.clone(), own.count())
            })
            .collect();
        let is_right = if is_read_to_the_end {
            lines == expected
        } else {
            let mut all = lines.iter();
            all.all(|(name, lines)| expected.get(name).is_some_and(|most| lines <= most))
        };
        (!is_right).then(|| format!("the dead letters are {lines:?} and should be {expected:?}"))
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found == extension)
}

fn is_sentence(message: &str) -> Option<String> {
    let names_a_field = message.contains("spec.");
    (!names_a_field || message.contains('\n'))
        .then(|| format!("the refusal is not one sentence that names a field: {message}"))
}

fn compare(
    after: &BTreeMap<String, Vec<u8>>,
    records: &[Value],
    names: &BTreeSet<String>,
    kept: &BTreeMap<String, Vec<u8>>,
) -> Option<String> {
    for (name, bytes) in kept {
        if after.get(name) != Some(bytes) {
            return Some(format!("{name} was to stay as it was"));
        }
    }
    let manifest = format!("{OUTPUT}/{MANIFEST}");
    let found: BTreeSet<String> = after
        .keys()
        .filter(|name| !kept.contains_key(*name) && !name.ends_with(MANIFEST))
        .cloned()
        .collect();
    if found != *names {
        return Some(format!("the files are {found:?} and should be {names:?}"));
    }
    let has_manifest = after
        .keys()
        .any(|name| name.ends_with(MANIFEST) && !kept.contains_key(name));
    if !has_manifest {
        return Some(format!("{manifest} is missing"));
    }
    let mut got: Vec<String> = found
        .iter()
        .flat_map(|name| sink::read(name, &after[name]))
        .map(|value| canonical(&value))
        .collect();
    let mut wanted: Vec<String> = records.iter().map(canonical).collect();
    got.sort();
    wanted.sort();
    (got != wanted).then(|| format!("the records are {got:?} and should be {wanted:?}"))
}

/// The text of a value with the keys of objects in order, because `serde_json` may keep their
/// original order.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, String> = fields
                .iter()
                .map(|(key, value)| (key, canonical(value)))
                .collect();
            format!("{sorted:?}")
        }
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(canonical).collect();
            format!("{elements:?}")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}
