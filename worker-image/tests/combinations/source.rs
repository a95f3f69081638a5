//! Sources: inline items, and folders with one file, several or none, which also contain marker
//! files and unusual names, read by globs and by literal paths.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::{Value, json};

use super::steps::{Flow, Shape, Shards};
use super::{Dice, INPUT, ROOT, has_extension};

/// Names that a wildcard matches and that some store or library interprets differently.
const ODD_NAMES: [&str; 9] = [
    "a b", "é", "x#1", "x%41", "x%20y", "q?1", "br[1]", "c{d}", "s*r",
];

/// Other contents of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    Nothing,
    /// Files that other systems and this one leave beside data.
    Markers,
    /// Unusual names that match.
    Odd,
    /// An unusual name that does not match, if the pattern has an extension.
    Unmatched,
    /// A folder with a file in it.
    Deeper,
}

/// How the manifest names the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// `*.jsonl`
    Extension,
    /// `**/*.jsonl`
    DeepExtension,
    /// `*`
    Everything,
    /// `**`
    DeepEverything,
    /// `0*`
    Prefix,
    /// Each by its path.
    Literal,
    /// A glob, and one of its files again by its path.
    Twice,
}

/// A random source.
pub(super) enum Source {
    Items {
        values: Vec<Value>,
        shards: Option<usize>,
        shape: Shape,
    },
    Files(Files),
}

/// Files, and how the manifest names them.
pub(super) struct Files {
    shape: Shape,
    extension: &'static str,
    /// Records by name below the input folder.
    data: BTreeMap<String, Vec<Value>>,
    /// Other names, with their contents.
    others: BTreeMap<String, Vec<u8>>,
    naming: Naming,
    sets_format: bool,
    empty_ok: bool,
    /// The size from which files are split; 0 or nothing splits none, because all are small.
    split_bytes: Option<usize>,
    /// The size up to which neighbours are combined.
    combine_bytes: Option<usize>,
    content: Content,
}

/// What is in the files besides records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Records,
    /// Between the records are lines that are not records. They are skipped.
    BadLines,
    /// Compressed files consist of parts that can be read alone, one for each line: blocks of
    /// bgzip, or frames of a zstd file with a seek table.
    Blocks,
}

/// Lines that are no JSON.
const BAD_LINES: [&str; 6] = ["{", "nul", "[1,2", "1 2", "\u{feff}1", "{\"k\":1,}"];

pub(super) fn draw(dice: &mut Dice) -> Source {
    let shape = dice.pick(&[Shape::Row, Shape::Row, Shape::Text]);
    if dice.percent(20) {
        let values = records(dice, shape);
        let shards = dice.pick(&[None, None, Some(1), Some(3)]);
        return Source::Items {
            values,
            shards,
            shape,
        };
    }
    let extension = if shape == Shape::Text {
        dice.pick(&[".txt", ".txt", ".text.gz", ".txt.zst"])
    } else {
        dice.pick(&[".jsonl", ".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst"])
    };
    let mut files = Files {
        shape,
        extension,
        data: BTreeMap::new(),
        others: BTreeMap::new(),
        naming: dice.pick(&[
            Naming::Extension,
            Naming::DeepExtension,
            Naming::Everything,
            Naming::DeepEverything,
            Naming::Prefix,
            Naming::Literal,
            Naming::Literal,
            Naming::Twice,
        ]),
        sets_format: dice.percent(30),
        empty_ok: dice.percent(40),
        split_bytes: dice.pick(&[None, None, None, Some(0), Some(7), Some(20), Some(64)]),
        combine_bytes: dice.pick(&[None, None, None, Some(0), Some(1), Some(60), Some(1000)]),
        content: Content::Records,
    };
    // Files that are split have no bad lines, because the part of each record is computed here from
    // the lines of records alone.
    let is_split = files.split_bytes.is_some_and(|bytes| bytes > 0);
    if shape != Shape::Text && !is_split && dice.percent(40) {
        files.content = Content::BadLines;
    } else if dice.percent(60) {
        files.content = Content::Blocks;
    }
    for number in 0..dice.pick(&[0, 1, 1, 3, 3, 4]) {
        let name = format!("{number:03}{extension}");
        let records = records(dice, shape);
        files.data.insert(name, records);
    }
    let others = dice.pick(&[
        Others::Nothing,
        Others::Nothing,
        Others::Markers,
        Others::Odd,
        Others::Unmatched,
        Others::Deeper,
    ]);
    files.add(dice, others);
    Source::Files(files)
}

fn records(dice: &mut Dice, shape: Shape) -> Vec<Value> {
    let count = dice.pick(&[0, 1, 2, 5, 9]);
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(if shape == Shape::Text {
            let words = ["w1", "w2", "w1 w2", "w3 w3 w1", "ü", "a\u{2028}b"];
            json!(dice.pick(&words))
        } else {
            let keys = [json!(1), json!("a"), json!(1_234_567_890_123_456_789_u64)];
            let key = keys[dice.between(0, keys.len() - 1)].clone();
            json!({"k": key, "v": dice.between(0, 9)})
        });
    }
    records
}

impl Source {
    /// The records that are read, by shard.
    pub(super) fn flow(&self) -> Flow {
        match self {
            Self::Items {
                values,
                shards,
                shape,
            } => {
                let (items, count) = (values.len(), shards.unwrap_or(values.len()));
                let spread = (0..count).map(|shard| {
                    values[shard * items / count..(shard + 1) * items / count].to_vec()
                });
                Flow {
                    shape: *shape,
                    shards: Shards::Known(spread.collect()),
                    is_of_files: false,
                }
            }
            Self::Files(files) => Flow {
                shape: files.shape,
                shards: Shards::Known(files.shards()),
                is_of_files: true,
            },
        }
    }

    /// The number of bad lines in each file that is read, if bad lines are skipped.
    pub(super) fn bad_lines(&self) -> Option<Vec<usize>> {
        match self {
            // Combined files have fewer shards.
            Self::Files(files)
                if files.content == Content::BadLines && files.combine_bytes.is_none() =>
            {
                let matched = files.matched().into_iter();
                // There is one bad line after each record, and one at the end.
                Some(matched.map(|name| files.data[&name].len() + 1).collect())
            }
            Self::Files(_) | Self::Items { .. } => None,
        }
    }

    pub(super) fn manifest(&self) -> Value {
        match self {
            Self::Items { values, shards, .. } => {
                let mut items = json!({"values": values});
                if let Some(shards) = shards {
                    items["shards"] = json!(shards);
                }
                json!({"items": items})
            }
            Self::Files(files) => json!({"files": files.manifest()}),
        }
    }

    /// Everything that exists before the job, by its path below the root.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let Self::Files(files) = self else {
            return BTreeMap::new();
        };
        let data = files
            .data
            .iter()
            .map(|(name, records)| (name.clone(), files.bytes(name, records)));
        let all = data.chain(files.others.clone());
        all.map(|(name, bytes)| (format!("{INPUT}/{name}"), bytes))
            .collect()
    }

    /// Why nothing can be read.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let Self::Files(files) = self else {
            return None;
        };
        if files.matched().is_empty() && !files.empty_ok {
            return Some("no file matches");
        }
        let is_unknown = |name: &String| !name.ends_with(files.extension);
        let matched = files.matched();
        (!files.sets_format && matched.iter().any(is_unknown)).then_some("a format is not known")
    }

    /// The paths that the manifest lists, if the source has some.
    pub(super) fn listed_paths(&self) -> usize {
        match self {
            Self::Items { .. } => 0,
            Self::Files(files) => files.paths().len(),
        }
    }

    /// Whether a path contains an escaped character.
    pub(super) fn has_escapes(&self) -> bool {
        matches!(self, Self::Files(files) if files.paths().iter().any(|path| path.contains('\\')))
    }

    pub(super) fn has_wildcards(&self) -> bool {
        matches!(self, Self::Files(files) if files.naming != Naming::Literal)
    }

    /// Whether a wildcard matches files in folders at any depth.
    pub(super) fn is_deep(&self) -> bool {
        matches!(self, Self::Files(files)
            if matches!(files.naming, Naming::DeepEverything | Naming::DeepExtension))
    }

    /// Whether files are split if they are large enough.
    pub(super) fn splits(&self) -> bool {
        matches!(self, Self::Files(files) if files.split_bytes.is_some_and(|bytes| bytes > 0))
    }

    /// The names of the files that are read, below the root.
    pub(super) fn read(&self) -> Vec<String> {
        match self {
            Self::Items { .. } => Vec::new(),
            Self::Files(files) => {
                let matched = files.matched().into_iter();
                matched.map(|name| format!("{INPUT}/{name}")).collect()
            }
        }
    }

    pub(super) fn extension(&self) -> Option<&'static str> {
        match self {
            Self::Items { .. } => None,
            Self::Files(files) => Some(files.extension),
        }
    }
}

impl Files {
    fn add(&mut self, dice: &mut Dice, others: Others) {
        let extension = self.extension;
        match others {
            Others::Nothing => {}
            Others::Markers => {
                for name in [
                    format!("_SUCCESS{extension}"),
                    format!(".part-0{extension}.crc"),
                    format!("_temporary/0{extension}"),
                    format!(".hidden{extension}"),
                ] {
                    self.others.insert(name, b"no record".to_vec());
                }
            }
            Others::Odd => {
                for _ in 0..2 {
                    let name = format!("{}{extension}", dice.pick(&ODD_NAMES));
                    let records = records(dice, self.shape);
                    self.data.insert(name, records);
                }
            }
            Others::Unmatched => {
                let records = records(dice, self.shape);
                self.data.insert("notes.bak".to_owned(), records);
            }
            Others::Deeper => {
                let records = records(dice, self.shape);
                self.data.insert(format!("deep/er/7{extension}"), records);
            }
        }
    }

    fn manifest(&self) -> Value {
        let mut files = json!({"paths": self.paths(), "emptyOk": self.empty_ok});
        if self.sets_format {
            let format = if self.shape == Shape::Text {
                "text"
            } else {
                "jsonl"
            };
            files["format"] = json!(format);
        }
        for (name, bytes) in [
            ("splitBytes", self.split_bytes),
            ("combineBytes", self.combine_bytes),
        ] {
            if let Some(bytes) = bytes {
                files[name] = json!(bytes.to_string());
            }
        }
        if self.content == Content::BadLines {
            files["onError"] = json!({"action": "Skip"});
        }
        files
    }

    /// The records of each shard: a large file is cut into equal pieces, a piece has the lines that
    /// begin in it, and small neighbours are one shard.
    fn shards(&self) -> Vec<Vec<Value>> {
        let mut shards: Vec<Vec<Value>> = Vec::new();
        // The bytes of the last shard, and whether it is compressed, if files may be added to it.
        let mut open: Option<(usize, bool)> = None;
        let most = self.combine_bytes.unwrap_or(0);
        for name in self.matched() {
            let records = &self.data[&name];
            let content = self.bytes(&name, records);
            let bytes = content.len();
            let (is_gz, is_zst) = (has_extension(&name, "gz"), has_extension(&name, "zst"));
            let has_blocks = self.content == Content::Blocks;
            let is_compressed = is_gz || is_zst;
            let mut pieces = match self.split_bytes {
                Some(split) if split > 0 && (!is_compressed || has_blocks) => {
                    bytes.div_ceil(split).max(1)
                }
                _ => 1,
            };
            let mut of_frames = Vec::new();
            if is_zst && pieces > 1 {
                of_frames = pieces_of_frames(records, &self.frames(records), bytes, pieces);
                pieces = of_frames.len();
            }
            let together = open.filter(|(_, kind)| *kind == is_compressed);
            let together = together.map(|(before, _)| before + bytes);
            if pieces > 1 {
                open = None;
                shards.extend(if is_zst {
                    of_frames
                } else if is_gz {
                    pieces_of_blocks(records, &content, pieces)
                } else {
                    self.pieces(records, bytes, pieces)
                });
            } else if let Some(together) = together.filter(|bytes| most > 0 && *bytes <= most) {
                open = Some((together, is_compressed));
                let last = shards.last_mut().unwrap();
                last.extend(records.iter().cloned());
            } else {
                open = Some((bytes, is_compressed));
                shards.push(records.clone());
            }
        }
        shards
    }

    fn pieces(&self, records: &[Value], bytes: usize, pieces: usize) -> Vec<Vec<Value>> {
        let mut cut = vec![Vec::new(); pieces];
        let (mut at, mut piece) = (0, 0);
        for record in records {
            while at >= bytes * (piece + 1) / pieces {
                piece += 1;
            }
            cut[piece].push(record.clone());
            at += self.line(record).len();
        }
        cut
    }

    fn paths(&self) -> Vec<String> {
        let extension = self.extension;
        let literal = |name: &String| {
            let escaped: String = name
                .chars()
                .flat_map(|c| {
                    let special = matches!(c, '*' | '?' | '[' | ']' | '{' | '}');
                    special.then_some('\\').into_iter().chain([c])
                })
                .collect();
            format!("{ROOT}/{INPUT}/{escaped}")
        };
        let glob = |pattern: &str| format!("{ROOT}/{INPUT}/{pattern}");
        match self.naming {
            Naming::Extension => vec![glob(&format!("*{extension}"))],
            Naming::DeepExtension => vec![glob(&format!("**/*{extension}"))],
            Naming::Everything => vec![glob("*")],
            Naming::DeepEverything => vec![glob("**")],
            Naming::Prefix => vec![glob("0*")],
            Naming::Literal if self.data.is_empty() => vec![literal(&format!("absent{extension}"))],
            Naming::Literal => self.data.keys().map(literal).collect(),
            Naming::Twice => {
                let first = self.data.keys().find(|name| self.is_matched(name));
                let again = first.map(literal).into_iter();
                again.chain([glob(&format!("*{extension}"))]).collect()
            }
        }
    }

    /// Names of the files that are read, in the order of their addresses.
    fn matched(&self) -> Vec<String> {
        let names = self.data.keys().filter(|name| self.is_matched(name));
        names.cloned().collect()
    }

    fn is_matched(&self, name: &str) -> bool {
        let is_deep = name.contains('/');
        match self.naming {
            Naming::Extension | Naming::Twice => !is_deep && name.ends_with(self.extension),
            Naming::DeepExtension => name.ends_with(self.extension),
            Naming::Everything => !is_deep,
            Naming::DeepEverything | Naming::Literal => true,
            Naming::Prefix => !is_deep && name.starts_with('0'),
        }
    }

    fn bytes(&self, name: &str, records: &[Value]) -> Vec<u8> {
        let lines = records.iter().map(|record| self.line(record));
        if self.content == Content::Blocks && has_extension(name, "gz") {
            let blocks = lines.chain([String::new()]);
            return blocks.flat_map(|line| block(&line)).collect();
        }
        if self.content == Content::Blocks && has_extension(name, "zst") {
            return with_seek_table(records.len(), &self.frames(records));
        }
        if self.content != Content::BadLines {
            return compressed(name, lines.collect());
        }
        let bad = BAD_LINES.iter().cycle().skip(records.len());
        let mixed = lines.zip(bad).map(|(line, bad)| format!("{line}{bad}\n"));
        // The last bad line has no line end.
        compressed(name, mixed.chain(["[".to_owned()]).collect())
    }

    /// A frame of zstd for each record.
    fn frames(&self, records: &[Value]) -> Vec<Vec<u8>> {
        let lines = records.iter().map(|record| self.line(record));
        let frames = lines.map(|line| zstd::encode_all(line.as_bytes(), 3).unwrap());
        frames.collect()
    }

    fn line(&self, record: &Value) -> String {
        match record.as_str() {
            Some(text) if self.shape == Shape::Text => format!("{text}\n"),
            Some(_) | None => format!("{record}\n"),
        }
    }
}

/// The bytes of a block's header that hold its length.
const LENGTH_OF_BLOCK: std::ops::Range<usize> = 16..18;

/// A block of bgzip.
fn block(plain: &str) -> Vec<u8> {
    let builder = flate2::GzBuilder::new().extra(*b"BC\x02\x00\x00\x00");
    let mut encoder = builder.write(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain.as_bytes()).unwrap();
    let mut bytes = encoder.finish().unwrap();
    let length = u16::try_from(bytes.len() - 1).unwrap();
    bytes[LENGTH_OF_BLOCK].copy_from_slice(&length.to_le_bytes());
    if plain.is_empty() {
        // The end mark is always the same bytes, whatever compressor wrote it.
        bytes[4..10].copy_from_slice(&[0, 0, 0, 0, 0, 255]);
    }
    bytes
}

/// A file with a block for each record is cut like any other. A line that begins at the first byte
/// of a block belongs to the part that contains the block before it.
fn pieces_of_blocks(records: &[Value], content: &[u8], pieces: usize) -> Vec<Vec<Value>> {
    let mut cut = vec![Vec::new(); pieces];
    let (mut block, mut piece_before) = (0, 0);
    for record in records {
        cut[piece_before].push(record.clone());
        while block >= content.len() * (piece_before + 1) / pieces {
            piece_before += 1;
        }
        let length = &content[block..][LENGTH_OF_BLOCK];
        block += usize::from(u16::from_le_bytes([length[0], length[1]])) + 1;
    }
    cut
}

/// The frames, followed by the table of their sizes in the seekable format of zstd. The
/// decompressed sizes in the table are 0, because they are not read.
fn with_seek_table(count: usize, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut table = Vec::new();
    for frame in frames {
        table.extend(u32::try_from(frame.len()).unwrap().to_le_bytes());
        table.extend([0; 4]);
    }
    table.extend(u32::try_from(count).unwrap().to_le_bytes());
    table.push(0);
    table.extend(0x8f92_eab1_u32.to_le_bytes());
    let mut file = frames.concat();
    file.extend(0x184d_2a5e_u32.to_le_bytes());
    file.extend(u32::try_from(table.len()).unwrap().to_le_bytes());
    file.extend(table);
    file
}

/// A file with a frame for each record is cut where frames begin: at the first one behind each of
/// the places where another file would be cut. A line that begins exactly at a cut belongs to the
/// piece before it.
fn pieces_of_frames(
    records: &[Value],
    frames: &[Vec<u8>],
    bytes: usize,
    pieces: usize,
) -> Vec<Vec<Value>> {
    let begin = |frame: usize| frames[..frame].iter().map(Vec::len).sum::<usize>();
    let borders: Vec<usize> = (1..frames.len()).map(begin).collect();
    let is_cut = |border: usize| {
        let before = borders.iter().rev().find(|other| **other < border);
        let wanted = (1..pieces).map(|piece| bytes * piece / pieces);
        let is_first_behind =
            |place: usize| place <= border && before.is_none_or(|before| place > *before);
        pieces > borders.len() || wanted.into_iter().any(is_first_behind)
    };
    let cuts: Vec<usize> = borders.iter().copied().filter(|at| is_cut(*at)).collect();
    let mut cut = vec![Vec::new(); cuts.len() + 1];
    for (number, record) in records.iter().enumerate() {
        let frame_before = begin(number.saturating_sub(1));
        let piece = cuts.iter().filter(|at| **at <= frame_before).count();
        cut[piece].push(record.clone());
    }
    cut
}

/// The text, compressed as the name says.
pub(super) fn compressed(name: &str, plain: String) -> Vec<u8> {
    if has_extension(name, "gz") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain.as_bytes()).unwrap();
        encoder.finish().unwrap()
    } else if has_extension(name, "zst") {
        zstd::encode_all(plain.as_bytes(), 1).unwrap()
    } else {
        plain.into_bytes()
    }
}
