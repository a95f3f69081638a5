//! Sinks: names with and without `{shard}`, output that exists already, output in the folder of the
//! input or of the storage, and storage below the input.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use serde_json::{Value, json};

use super::source::Source;
use super::steps::{Flow, Shape};
use super::{Dice, Expected, INPUT, MANIFEST, OUTPUT, ROOT, STORAGE, has_extension};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folder {
    Own,
    /// The folder of the input.
    Input,
    /// Below the storage prefix.
    Storage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Nothing,
    /// A file with a name that the template can produce.
    Stale,
    /// Another job's finished output.
    Finished,
    /// A file of no job.
    Foreign,
}

/// A random sink.
pub(super) struct Sink {
    folder: Folder,
    template: String,
    extension: &'static str,
    mode: Option<&'static str>,
    existing: Existing,
    storage_below_input: bool,
    sets_format: bool,
}

pub(super) fn draw(dice: &mut Dice, source: &Source, flow: &Flow) -> Sink {
    let folder = dice.pick(&[
        Folder::Own,
        Folder::Own,
        Folder::Own,
        Folder::Own,
        Folder::Own,
        Folder::Input,
        Folder::Storage,
    ]);
    let extension = if flow.shape == Shape::Text {
        dice.pick(&[".txt", ".txt.gz", ".jsonl"])
    } else {
        dice.pick(&[".jsonl", ".jsonl.gz", ".jsonl.zst"])
    };
    let extension = match (folder, source.extension()) {
        // With these templates the names can equal those of the input.
        (Folder::Input, Some(extension)) if extension.contains("jsonl") => extension,
        _ => extension,
    };
    let name = match folder {
        Folder::Input => dice.pick(&["{shard:03}", "{shard:03}", "o-{shard}"]),
        Folder::Own | Folder::Storage => dice.pick(&[
            "p-{shard}",
            "p-{shard}",
            "{shard:05}-of-{total:05}",
            "all",
            "p-{total}",
            "x{shard}y{shard:02}",
            "é %41 {shard}",
        ]),
    };
    let existing = if folder == Folder::Own {
        dice.pick(&[
            Existing::Nothing,
            Existing::Nothing,
            Existing::Nothing,
            Existing::Stale,
            Existing::Finished,
            Existing::Foreign,
        ])
    } else {
        Existing::Nothing
    };
    Sink {
        folder,
        template: format!("{name}{extension}"),
        extension,
        mode: dice.pick(&[None, Some("Refuse"), Some("Overwrite"), Some("Overwrite")]),
        existing,
        storage_below_input: dice.percent(8),
        sets_format: dice.percent(20),
    }
}

impl Sink {
    pub(super) fn manifest(&self) -> Value {
        let mut files = json!({"path": format!("{ROOT}/{}/{}", self.folder(), self.template)});
        if let Some(mode) = self.mode {
            files["mode"] = json!(mode);
        }
        if self.sets_format {
            let format = if self.extension.starts_with(".txt") {
                "text"
            } else {
                "jsonl"
            };
            files["format"] = json!(format);
        }
        files
    }

    /// Whether the output has a folder in which the job neither reads nor stores anything else.
    pub(super) fn is_in_its_own_folder(&self) -> bool {
        self.folder == Folder::Own
    }

    fn folder(&self) -> String {
        match self.folder {
            Folder::Own => OUTPUT.to_owned(),
            Folder::Input => INPUT.to_owned(),
            Folder::Storage => format!("{}/out", self.storage()),
        }
    }

    /// The place of the ledger, below the root.
    pub(super) fn storage(&self) -> String {
        if self.storage_below_input {
            format!("{INPUT}/{STORAGE}")
        } else {
            STORAGE.to_owned()
        }
    }

    fn name(&self, shard: usize, total: usize) -> String {
        let name = self.template.clone();
        let name = name.replace("{shard}", &shard.to_string());
        let name = name.replace("{shard:02}", &format!("{shard:02}"));
        let name = name.replace("{shard:03}", &format!("{shard:03}"));
        let name = name.replace("{shard:05}", &format!("{shard:05}"));
        let name = name.replace("{total}", &total.to_string());
        let name = name.replace("{total:05}", &format!("{total:05}"));
        format!("{}/{name}", self.folder())
    }

    /// The contents of the output folder before the job.
    pub(super) fn existing(&self) -> BTreeMap<String, Vec<u8>> {
        let stale = self.name(7, 9);
        let content = b"{\"old\":1}\n".to_vec();
        match self.existing {
            Existing::Nothing => BTreeMap::new(),
            Existing::Stale => BTreeMap::from([(stale, content)]),
            Existing::Foreign => BTreeMap::from([(format!("{OUTPUT}/README"), content)]),
            Existing::Finished => {
                // The fields have the order in which a job writes them: the owner comes before the
                // files.
                let manifest = format!(
                    "{{\"version\":1,\"jobUid\":\"0123\",\"job\":\"ns/old\",\"planDigest\":\"d\",\"files\":[{{\"uri\":\"{ROOT}/{stale}\",\"rows\":1,\"bytes\":10,\"crc32c\":\"00000000\"}}],\"totals\":{{\"files\":1,\"rows\":1,\"bytes\":10}}}}"
                );
                let name = format!("{OUTPUT}/{MANIFEST}");
                BTreeMap::from([(stale, content), (name, manifest.into_bytes())])
            }
        }
    }

    fn refusal(&self, source: &Source, flow: &Flow) -> Option<&'static str> {
        if self.storage_below_input && source.is_deep() {
            return Some("the storage is below an input pattern");
        }
        match self.folder {
            Folder::Storage => return Some("the output is in the storage"),
            Folder::Input if source.has_wildcards() => {
                return Some("the output is in the folder of an input pattern");
            }
            Folder::Input | Folder::Own => {}
        }
        if let Some(why) = source.refusal() {
            return Some(why);
        }
        let total = flow.shards();
        if total > 1 && !self.template.contains("{shard") {
            return Some("several shards have one name");
        }
        if source.splits() && flow.is_of_files && !self.template.contains("{shard") {
            return Some("files are split and the output has one name");
        }
        let read = source.read();
        if (0..total).any(|shard| read.contains(&self.name(shard, total))) {
            return Some("an output is an input");
        }
        let is_taken = matches!(self.existing, Existing::Stale | Existing::Finished);
        (is_taken && self.mode != Some("Overwrite")).then_some("there is output already")
    }

    /// The expected result of the job.
    pub(super) fn expected(&self, source: &Source, flow: &Flow) -> Expected {
        if let Some(why) = self.refusal(source, flow) {
            return Expected::Refused(why);
        }
        let total = flow.shards();
        let names: BTreeSet<String> = (0..total).map(|shard| self.name(shard, total)).collect();
        let mut kept = source.files();
        if self.existing == Existing::Foreign {
            kept.extend(self.existing());
        }
        // A rule that sees only the manifest expects at least one shard for each path.
        let several_paths = source.listed_paths() > 1 && !self.template.contains("{shard");
        let near_storage = self.storage_below_input && source.has_wildcards();
        // An escaped character looks like a wildcard to a rule that sees only the text.
        let escaped = self.folder == Folder::Input && source.has_escapes();
        Expected::Output {
            records: flow.records(),
            names,
            kept,
            may_be_refused: several_paths || near_storage || escaped,
        }
    }
}

/// The records of an output file.
pub(super) fn read(name: &str, bytes: &[u8]) -> Vec<Value> {
    let mut plain = String::new();
    if has_extension(name, "gz") {
        let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
        if !bytes.is_empty() {
            decoder.read_to_string(&mut plain).unwrap();
        }
    } else if has_extension(name, "zst") {
        plain = String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap();
    } else {
        plain = String::from_utf8(bytes.to_vec()).unwrap();
    }
    let is_text = name.contains(".txt") || name.contains(".text");
    plain
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            if is_text {
                json!(line)
            } else {
                serde_json::from_str(line).unwrap()
            }
        })
        .collect()
}
