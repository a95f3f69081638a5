//! Steps in two forms: as in a manifest, and as a simple computation on values. The second knows
//! nothing about jq, stages or shuffles.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::source::compressed;
use super::{Dice, LOOKUP};

/// The largest default number of shards of a shuffle.
const MAX_DEFAULT_SHARDS: usize = 256;

/// The kind of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Strings of words.
    Text,
    /// `{"k": …, "v": number}`.
    Row,
    /// A key: a string or a number.
    Key,
    /// `{"key": …, "n": number, …}`.
    Group,
    /// One number.
    Number,
    /// An array of such records.
    List,
}

/// Records between two steps.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) shape: Shape,
    pub(super) shards: Shards,
    /// Whether these records were read from files and have not passed a shuffle. If so, the default
    /// number of shards of the next shuffle follows from the size of the files, which are small
    /// here.
    pub(super) is_of_files: bool,
}

/// How they are distributed over shards.
#[derive(Clone, Debug)]
pub(super) enum Shards {
    Known(Vec<Vec<Value>>),
    /// A hash distributes them, and nothing here depends on the result.
    Scattered {
        records: Vec<Value>,
        count: usize,
    },
}

impl Flow {
    pub(super) fn shards(&self) -> usize {
        match &self.shards {
            Shards::Known(shards) => shards.len(),
            Shards::Scattered { count, .. } => *count,
        }
    }

    pub(super) fn records(&self) -> Vec<Value> {
        match &self.shards {
            Shards::Known(shards) => shards.concat(),
            Shards::Scattered { records, .. } => records.clone(),
        }
    }

    fn each(self, shape: Shape, change: impl Fn(&Value) -> Vec<Value>) -> Self {
        let all = |records: Vec<Value>| records.iter().flat_map(&change).collect();
        let is_of_files = self.is_of_files;
        let shards = match self.shards {
            Shards::Known(shards) => Shards::Known(shards.into_iter().map(all).collect()),
            Shards::Scattered { records, count } => Shards::Scattered {
                records: all(records),
                count,
            },
        };
        Self {
            shape,
            shards,
            is_of_files,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    KeepAll,
    KeepSome,
    Same,
    Change,
    Double,
    Spread,
    DropAll,
    Select,
    /// Drops columns that a record may have.
    Drop,
    /// Makes rows of groups.
    Rename,
    /// Keeps this share of a hundred.
    Sample(u32),
    Window(usize),
    /// Windows of which the values have at most this sum.
    WindowBy(u64),
    Take(usize),
    Group(Option<usize>),
    /// Groups with every other aggregate; whether the records of a group are in descending order.
    GroupMore(Option<usize>, bool),
    /// One record of all.
    Aggregate,
    Deduplicate(Option<usize>),
    Count,
    /// A command that changes nothing. The value says whether one process serves many shards.
    OwnSame(bool),
    /// A command that repeats each line. The value says whether one process serves many shards.
    OwnDouble(bool),
    /// A command that reads only the first records.
    OwnFirst(usize),
    /// Skips the records on which an expression of this kind of step fails.
    SkipSome(Skipping),
    /// Skips the records on which the key or an aggregate fails.
    GroupSome(Option<usize>),
    DeduplicateSome(Option<usize>),
    /// Adds the table's value for the record's key, or else the named value.
    LookUp,
}

/// How many percent of the steps are commands. There are few, because each shard of such a step
/// starts a process.
const OWN_CODE_PERCENT: usize = 5;

/// The step that skips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipping {
    Map,
    Filter,
    /// Fails after its first result.
    FlatMap,
    /// Fails on all records that are not objects.
    Drop,
    /// Fails on all rows, and on all records that are not objects.
    Rename,
}

/// The name of the value, and the value.
pub(super) const VALUE: &str = "default";
pub(super) const DEFAULT: u64 = 20;
/// The name of the table.
pub(super) const TABLE: &str = "bonus";
/// The keys and values of the table. The source has only the first keys.
const BONUS: [(&str, u64); 4] = [
    ("a", 3),
    ("1", 4),
    ("1234567890123456789", 5),
    ("é \"x\"", 6),
];

/// The files of the table: a compressed one and a plain one.
pub(super) fn table_files() -> Vec<(String, Vec<u8>)> {
    let line = |(key, bonus): &(&str, u64)| format!("{}\n", json!({"k": key, "bonus": bonus}));
    let (first, second) = BONUS.split_at(2);
    let file = |(name, rows): (&str, &[(&str, u64)])| {
        let name = format!("{LOOKUP}/{name}");
        let bytes = compressed(&name, rows.iter().map(line).collect());
        (name, bytes)
    };
    [("a.jsonl.gz", first), ("b.jsonl", second)]
        .map(file)
        .into()
}

/// Draws up to three steps of each scope in any order, with their effect on `flow`. Returns the
/// manifest's form.
pub(super) fn draw(dice: &mut Dice, flow: Flow, has_table: bool) -> (Vec<Value>, Flow) {
    let mut scopes = Vec::new();
    for scope in [0, 1, 2] {
        for _ in 0..dice.between(0, 3) {
            scopes.insert(dice.between(0, scopes.len()), scope);
        }
    }
    let mut flow = flow;
    let mut steps = Vec::new();
    for scope in scopes {
        let step = match scope {
            0 if has_table && dice.percent(40) => Step::LookUp,
            0 if dice.percent(OWN_CODE_PERCENT) => dice.pick(&[
                Step::OwnSame(false),
                Step::OwnSame(true),
                Step::OwnDouble(false),
                Step::OwnDouble(true),
            ]),
            1 if dice.percent(OWN_CODE_PERCENT) => Step::OwnFirst(dice.pick(&[1, 3])),
            0 if dice.percent(25) => Step::SkipSome(dice.pick(&[
                Skipping::Map,
                Skipping::Filter,
                Skipping::FlatMap,
                Skipping::Drop,
                Skipping::Rename,
            ])),
            0 => dice.pick(&[
                Step::KeepAll,
                Step::KeepSome,
                Step::KeepSome,
                Step::Same,
                Step::Change,
                Step::Change,
                Step::Double,
                Step::Spread,
                Step::DropAll,
                Step::Select,
                Step::Drop,
                Step::Rename,
            ]),
            1 => match dice.between(0, 3) {
                0 => Step::Sample(dice.pick(&[0, 20, 50, 100])),
                1 => Step::Window(dice.pick(&[1, 2, 3, 1000])),
                2 => Step::WindowBy(dice.pick(&[0, 5, 20])),
                _ => Step::Take(dice.pick(&[1, 2, 5, 1000])),
            },
            _ => {
                let shards = dice.pick(&[None, None, Some(1), Some(2), Some(5)]);
                dice.pick(&[
                    Step::Group(shards),
                    Step::Group(shards),
                    Step::GroupMore(shards, false),
                    Step::GroupMore(shards, true),
                    Step::Aggregate,
                    Step::GroupSome(shards),
                    Step::Deduplicate(shards),
                    Step::DeduplicateSome(shards),
                    Step::Count,
                ])
            }
        };
        if let Some((manifest, next)) = apply(step, &flow) {
            steps.push(manifest);
            flow = next;
        }
    }
    (steps, flow)
}

/// The step in the manifest's form and its effect on the records; nothing if it is not applicable
/// to them.
fn apply(step: Step, flow: &Flow) -> Option<(Value, Flow)> {
    let (shape, flow) = (flow.shape, flow.clone());
    Some(match step {
        Step::KeepAll => (json!({"filter": "true"}), flow),
        Step::Same => (json!({"map": "."}), flow),
        Step::OwnSame(reuse) => {
            let command = json!({"command": ["cat"], "reuse": reuse});
            (json!({"exec": command}), flow)
        }
        Step::Double | Step::OwnDouble(_) => (
            if let Step::OwnDouble(reuse) = step {
                own_double(reuse)
            } else {
                json!({"flatMap": "., ."})
            },
            flow.each(shape, |value| vec![value.clone(), value.clone()]),
        ),
        Step::DropAll => (json!({"flatMap": "empty"}), flow.each(shape, |_| vec![])),
        Step::KeepSome => keep_some(flow),
        Step::Change => change(flow),
        Step::Spread => return spread(flow),
        Step::Select if shape == Shape::Row => (
            json!({"select": ["v", "k"]}),
            flow.each(shape, |row| vec![json!({"v": row["v"], "k": row["k"]})]),
        ),
        Step::LookUp if shape == Shape::Row => look_up(flow),
        Step::Drop | Step::Rename => return reshape(step, flow),
        Step::Select | Step::LookUp => return None,
        Step::Sample(percent) => sample(flow, percent)?,
        Step::Window(count) => windows(flow, json!({"window": count}), |window, _| {
            window.len() < count
        })?,
        Step::WindowBy(most) => window_by(flow, most)?,
        Step::Take(count) => take(flow, count, json!({"takePerShard": count}))?,
        Step::OwnFirst(count) => {
            let command =
                json!({"command": ["head", "-n", count.to_string()], "mayIgnoreInput": true});
            take(flow, count, json!({"exec": command}))?
        }
        Step::Group(shards) => group(&flow, shards),
        Step::GroupMore(shards, descending) => return group_more(&flow, shards, descending),
        Step::Aggregate => aggregate(&flow),
        Step::Deduplicate(shards) => deduplicate(&flow, shards),
        Step::SkipSome(skipping) => skip_some(flow, skipping),
        Step::GroupSome(shards) => {
            let (mut manifest, next) = group(&skip(flow).1, shards);
            let bad = bad(shape).0;
            if shape == Shape::Row {
                manifest["groupBy"]["aggregate"]["s"]["sum"] =
                    json!(format!("if {bad} then error(\"no\") else .v end"));
            } else {
                fail_key(&mut manifest["groupBy"]["key"], bad);
            }
            (passing_over(manifest), next)
        }
        Step::DeduplicateSome(shards) => {
            let (mut manifest, next) = deduplicate(&skip(flow).1, shards);
            fail_key(&mut manifest["deduplicate"]["key"], bad(shape).0);
            (passing_over(manifest), next)
        }
        Step::Count => {
            let shards = Shards::Known(vec![vec![json!(flow.records().len())]]);
            let shape = Shape::Number;
            let flow = Flow {
                shape,
                shards,
                is_of_files: false,
            };
            (json!({"count": {}}), flow)
        }
    })
}

/// Keeps the first records of each shard.
fn take(flow: Flow, count: usize, manifest: Value) -> Option<(Value, Flow)> {
    // In scattered shards, the hash determines which records come first.
    let Shards::Known(shards) = flow.shards else {
        return None;
    };
    let taken = shards.into_iter().map(|mut shard| {
        shard.truncate(count);
        shard
    });
    let flow = Flow {
        shards: Shards::Known(taken.collect()),
        ..flow
    };
    Some((manifest, flow))
}

/// Drops or renames columns.
fn reshape(step: Step, flow: Flow) -> Option<(Value, Flow)> {
    let shape = flow.shape;
    Some(match (step, shape) {
        (Step::Drop, Shape::Row | Shape::Group) => {
            let without = |value: &Value| {
                let mut value = value.clone();
                value.as_object_mut().unwrap().remove("s");
                vec![value]
            };
            (
                json!({"drop": ["s", "k.x", "y"]}),
                flow.each(shape, without),
            )
        }
        (Step::Rename, Shape::Group) => (
            json!({"rename": {"n": "v", "key": "k", "y.z": "y.k"}}),
            flow.each(Shape::Row, |value| {
                let mut row = value.clone();
                let fields = row.as_object_mut().unwrap();
                for (old, new) in [("key", "k"), ("n", "v")] {
                    let value = fields.remove(old).unwrap();
                    fields.insert(new.to_owned(), value);
                }
                vec![row]
            }),
        ),
        _ => return None,
    })
}

fn length(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

/// Keeps the records whose hash is small enough. The hash is computed as the documents describe it.
fn sample(flow: Flow, percent: u32) -> Option<(Value, Flow)> {
    let Shards::Known(shards) = flow.shards else {
        return None;
    };
    let fraction = f64::from(percent) / 100.0;
    let seed = u64::from(percent / 50);
    let keeps = |shard: u32, position: u64| {
        let place: Vec<u8> = [&shard.to_le_bytes()[..], &position.to_le_bytes()].concat();
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&place, seed);
        u128::from(hash) * 100 < u128::from(percent) << 64
    };
    let shards = (0..).zip(shards).map(|(shard, records)| {
        let kept = (0..).zip(records);
        let kept = kept.filter(|(position, _)| keeps(shard, *position));
        kept.map(|(_, record)| record).collect()
    });
    let flow = Flow {
        shards: Shards::Known(shards.collect()),
        ..flow
    };
    let mut sample = json!({"fraction": fraction});
    if seed > 0 {
        sample["seed"] = json!(seed);
    }
    Some((json!({"sample": sample}), flow))
}

/// Makes windows. A record belongs to the window that is open if `belongs` says so.
fn windows(
    flow: Flow,
    manifest: Value,
    belongs: impl Fn(&[Value], &Value) -> bool,
) -> Option<(Value, Flow)> {
    let Shards::Known(shards) = flow.shards else {
        return None;
    };
    let shards = shards.into_iter().map(|records| {
        let mut windows: Vec<Vec<Value>> = Vec::new();
        for record in records {
            match windows.last_mut() {
                Some(open) if belongs(open, &record) => open.push(record),
                Some(_) | None => windows.push(vec![record]),
            }
        }
        windows.into_iter().map(Value::Array).collect()
    });
    let flow = Flow {
        shape: Shape::List,
        shards: Shards::Known(shards.collect()),
        ..flow
    };
    Some((manifest, flow))
}

/// Makes windows of which the values have at most this sum, unless one value is larger.
fn window_by(flow: Flow, most: u64) -> Option<(Value, Flow)> {
    let (expression, of): (_, fn(&Value) -> u64) = match flow.shape {
        Shape::Row => (".record.v", |record| number(&record["v"])),
        Shape::Group => (".record.n", |record| number(&record["n"])),
        Shape::Number => (".record", number),
        Shape::List => ("(.record | length)", |record| length(record) as u64),
        Shape::Text | Shape::Key => ("1", |_| 1),
    };
    let manifest = json!({"windowBy": {
        "init": "0",
        "update": format!(".state + {expression}"),
        "while": format!(".state + {expression} <= {most}"),
    }});
    windows(flow, manifest, |window, record| {
        window.iter().map(of).sum::<u64>() + of(record) <= most
    })
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// A command that repeats each line. With `reuse`, it writes each line at once, and does not repeat
/// an empty line.
fn own_double(reuse: bool) -> Value {
    if reuse {
        json!({"exec": {"command": ["sed", "-u", "/./p"], "reuse": true}})
    } else {
        json!({"exec": {"command": ["sed", "p"]}})
    }
}

fn keep_some(flow: Flow) -> (Value, Flow) {
    let shape = flow.shape;
    let (expression, keeps): (_, fn(&Value) -> bool) = match shape {
        Shape::Row => (".v > 3", |value| number(&value["v"]) > 3),
        Shape::Text => (". != \"w1\"", |value| value != "w1"),
        Shape::Group => (".n > 1", |value| number(&value["n"]) > 1),
        Shape::Number => (". > 2", |value| number(value) > 2),
        Shape::Key => (". != null", |_| true),
        Shape::List => ("length > 1", |value| length(value) > 1),
    };
    let kept = flow.each(shape, |value| {
        Vec::from_iter(keeps(value).then(|| value.clone()))
    });
    (json!({"filter": expression}), kept)
}

/// Returns a condition that holds for some records, as an expression and as a function.
fn bad(shape: Shape) -> (&'static str, fn(&Value) -> bool) {
    match shape {
        Shape::Row => (".v == 3 or .v == 4", |value| {
            matches!(number(&value["v"]), 3 | 4)
        }),
        Shape::Text => (". == \"w1\"", |value| value == "w1"),
        Shape::Group => (".n > 2", |value| number(&value["n"]) > 2),
        Shape::Number => (". > 2", |value| number(value) > 2),
        Shape::Key => ("type == \"string\"", Value::is_string),
        Shape::List => ("length > 2", |value| length(value) > 2),
    }
}

/// Returns the condition as an expression, and the records for which it does not hold.
fn skip(flow: Flow) -> (&'static str, Flow) {
    let shape = flow.shape;
    let (expression, is_bad) = bad(shape);
    let kept = flow.each(shape, |value| {
        Vec::from_iter((!is_bad(value)).then(|| value.clone()))
    });
    (expression, kept)
}

fn passing_over(mut step: Value) -> Value {
    step["onError"] = json!({"action": "Skip", "maxSkipped": 1_000_000, "maxSkippedPercent": 100});
    step
}

fn fail_key(key: &mut Value, bad: &str) {
    let before = key.as_str().unwrap();
    *key = json!(format!("if {bad} then error(\"no\") else {before} end"));
}

fn skip_some(flow: Flow, skipping: Skipping) -> (Value, Flow) {
    let shape = flow.shape;
    let objects = flow.clone().each(shape, |value| {
        Vec::from_iter(value.is_object().then(|| value.clone()))
    });
    let (bad, kept) = skip(flow);
    let otherwise = |result: &str| format!("if {bad} then error(\"no\") else {result} end");
    let (step, flow) = match skipping {
        Skipping::Map => (json!({"map": otherwise(".")}), kept),
        Skipping::Filter => (json!({"filter": otherwise("true")}), kept),
        Skipping::FlatMap => (
            json!({"flatMap": format!("., ({})", otherwise("."))}),
            kept.each(shape, |value| vec![value.clone(), value.clone()]),
        ),
        Skipping::Drop => (json!({"drop": ["x"]}), objects),
        Skipping::Rename => (
            json!({"rename": {"k": "v"}}),
            objects.each(shape, |value| {
                Vec::from_iter(value.get("k").is_none().then(|| value.clone()))
            }),
        ),
    };
    (passing_over(step), flow)
}

fn change(flow: Flow) -> (Value, Flow) {
    match flow.shape {
        Shape::Row => (
            json!({"map": "{k: .k, v: (.v + 1)}"}),
            flow.each(Shape::Row, |value| {
                vec![json!({"k": value["k"], "v": number(&value["v"]) + 1})]
            }),
        ),
        Shape::Text | Shape::Key | Shape::Number => (
            json!({"map": "{k: ., v: 1}"}),
            flow.each(Shape::Row, |value| vec![json!({"k": value, "v": 1})]),
        ),
        Shape::List => (
            json!({"map": "{k: length, v: 1}"}),
            flow.each(Shape::Row, |value| {
                vec![json!({"k": length(value), "v": 1})]
            }),
        ),
        Shape::Group => (
            json!({"map": ".key"}),
            flow.each(Shape::Key, |value| vec![value["key"].clone()]),
        ),
    }
}

fn look_up(flow: Flow) -> (Value, Flow) {
    let found = |key: &Value| {
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        let row = BONUS.iter().find(|(known, _)| *known == key);
        row.map_or(DEFAULT, |(_, bonus)| *bonus)
    };
    (
        json!({"map": format!("{{k: .k, v: (.v + (${TABLE}[.k | tostring].bonus // ${VALUE}))}}")}),
        flow.each(Shape::Row, |value| {
            vec![json!({"k": value["k"], "v": number(&value["v"]) + found(&value["k"])})]
        }),
    )
}

fn spread(flow: Flow) -> Option<(Value, Flow)> {
    Some(match flow.shape {
        Shape::Row => (
            json!({"flatMap": "range(.v % 3) as $i | {k: .k, v: $i}"}),
            flow.each(Shape::Row, |value| {
                let each = 0..number(&value["v"]) % 3;
                each.map(|v| json!({"k": value["k"], "v": v})).collect()
            }),
        ),
        Shape::Text => (
            json!({"flatMap": "split(\" \")[]"}),
            flow.each(Shape::Text, |value| {
                let words = value.as_str().unwrap().split(' ');
                words.map(|word| json!(word)).collect()
            }),
        ),
        Shape::Key | Shape::Group | Shape::Number | Shape::List => return None,
    })
}

fn shuffled(flow: &Flow, shards: Option<usize>) -> usize {
    let default = if flow.is_of_files {
        1
    } else {
        flow.shards().min(MAX_DEFAULT_SHARDS)
    };
    shards.unwrap_or(default).max(1)
}

fn with_shards(mut step: Value, shards: Option<usize>) -> Value {
    if let (Some(shards), Some(fields)) = (shards, step.as_object_mut()) {
        fields.insert("shards".to_owned(), json!(shards));
    }
    step
}

fn group(flow: &Flow, shards: Option<usize>) -> (Value, Flow) {
    let count = shuffled(flow, shards);
    let is_row = flow.shape == Shape::Row;
    let mut groups: BTreeMap<String, (Value, u64, u64)> = BTreeMap::new();
    let (expression, key) = key_of(flow.shape);
    for record in flow.records() {
        let key = key(&record);
        let group = groups.entry(key.to_string()).or_insert((key, 0, 0));
        group.1 += 1;
        group.2 += if is_row { number(&record["v"]) } else { 0 };
    }
    let mut aggregate = json!({"n": {"count": {}}});
    if is_row {
        aggregate["s"] = json!({"sum": ".v"});
    }
    let records = groups.into_values().map(|(key, count, sum)| {
        if is_row {
            json!({"key": key, "n": count, "s": sum})
        } else {
            json!({"key": key, "n": count})
        }
    });
    let flow = Flow {
        shape: Shape::Group,
        shards: Shards::Scattered {
            records: records.collect(),
            count,
        },
        is_of_files: false,
    };
    let step = with_shards(json!({"key": expression, "aggregate": aggregate}), shards);
    (json!({"groupBy": step}), flow)
}

/// The expression of a record's key, and the key.
fn key_of(shape: Shape) -> (&'static str, fn(&Value) -> Value) {
    match shape {
        Shape::Row => (".k", |record| record["k"].clone()),
        Shape::Group => (".key", |record| record["key"].clone()),
        Shape::List => ("length", |record| json!(length(record))),
        Shape::Text | Shape::Key | Shape::Number => (".", Value::clone),
    }
}

/// One record of all: a row.
fn aggregate(flow: &Flow) -> (Value, Flow) {
    let records = flow.records();
    let (expression, key) = key_of(flow.shape);
    let keys = records.iter().map(key).filter(|key| !key.is_null());
    let distinct: std::collections::BTreeSet<String> =
        keys.map(|key| super::canonical(&key)).collect();
    let mut fields = json!({"v": {"count": {}}, "k": {"countDistinct": expression}});
    let mut row = json!({"v": records.len(), "k": distinct.len()});
    // The hash determines which records of scattered shards come first.
    if matches!(flow.shards, Shards::Known(_)) {
        fields["f"] = json!({"first": "."});
        fields["l"] = json!({"last": "."});
        row["f"] = json!(records.first());
        row["l"] = json!(records.last());
    }
    let flow = Flow {
        shape: Shape::Row,
        shards: Shards::Known(vec![vec![row]]),
        is_of_files: false,
    };
    (json!({"aggregate": fields}), flow)
}

/// Groups of rows, whose records are ordered by their values.
fn group_more(flow: &Flow, shards: Option<usize>, descending: bool) -> Option<(Value, Flow)> {
    if flow.shape != Shape::Row || !matches!(flow.shards, Shards::Known(_)) {
        return None;
    }
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in flow.records() {
        let key = super::canonical(&record["k"]);
        groups.entry(key).or_default().push(record);
    }
    let value = |record: &Value| number(&record["v"]);
    let records = groups.into_values().map(|rows| {
        let mut least_first = rows.clone();
        least_first.sort_by_key(value);
        let mut greatest_first = rows.clone();
        greatest_first.sort_by_key(|row| u64::MAX - value(row));
        let sorted = if descending {
            &greatest_first
        } else {
            &least_first
        };
        let values: Vec<u64> = sorted.iter().map(value).collect();
        let mut different = values.clone();
        different.sort_unstable();
        different.dedup();
        json!({
            "key": rows[0]["k"],
            "n": rows.len(),
            "s": values.iter().sum::<u64>(),
            "a": sorted[0],
            "b": sorted[rows.len() - 1],
            "c": values,
            "d": different.len(),
            "e": values.iter().any(|value| *value > 3),
            "f": values.iter().all(|value| *value > 3),
            "g": greatest_first[..rows.len().min(2)],
            "h": value(&least_first[rows.len().div_ceil(2) - 1]),
            "i": values.iter().fold(0, |state, value| (state * 2 + value) % 1000),
        })
    });
    let count = shuffled(flow, shards);
    let records = records.collect();
    let step = json!({"key": ".k", "sortBy": ".v", "descending": descending, "aggregate": {
        "n": {"count": {}},
        "s": {"sum": ".v"},
        "a": {"first": "."},
        "b": {"last": "."},
        "c": {"collect": ".v"},
        "d": {"countDistinct": ".v"},
        "e": {"any": ".v > 3"},
        "f": {"all": ".v > 3"},
        "g": {"topK": {"by": ".v", "k": 2}},
        "h": {"percentile": {"of": ".v", "p": 0.5}},
        "i": {"reduce": {"init": "0", "update": "(.state * 2 + .record.v) % 1000"}},
    }});
    let flow = Flow {
        shape: Shape::Group,
        shards: Shards::Scattered { records, count },
        is_of_files: false,
    };
    Some((json!({"groupBy": with_shards(step, shards)}), flow))
}

fn deduplicate(flow: &Flow, shards: Option<usize>) -> (Value, Flow) {
    let count = shuffled(flow, shards);
    let distinct: BTreeMap<String, Value> = flow
        .records()
        .into_iter()
        .map(|record| (super::canonical(&record), record))
        .collect();
    let flow = Flow {
        shape: flow.shape,
        shards: Shards::Scattered {
            records: distinct.into_values().collect(),
            count,
        },
        is_of_files: false,
    };
    let step = with_shards(json!({"key": "."}), shards);
    (json!({"deduplicate": step}), flow)
}
