//! Compares the shuffling operators with a simple model in memory. The output must be the same
//! records with the same bytes for any shards, buffers, runs and merges.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::expr::Variables;
use crate::pipeline::{
    self, Aggregate, Fold, Format, GroupBy, Order, Pipeline, Sink, Source, Step, Values,
};
use crate::plan::{Plan, plan};

mod fused;

/// Values in jq's order. All texts in one row are equal values. `"NaN"` stands for NaN, see
/// [`AS_VALUE`].
const VALUES: [&[&str]; 15] = [
    &["null"],
    &["false"],
    &["true"],
    &[r#""NaN""#],
    &["-2.5", "-25e-1"],
    &["0", "-0.0"],
    &["1", "1.0", "1e0", "10e-1"],
    &["9007199254740992"],
    &["9007199254740993"],
    &["9007199254740994", "9007199254740994.0"],
    &[r#""a""#, r#""\u0061""#],
    &[r#""b""#],
    &["[1]", "[1.0]"],
    &[r#"{"a":1,"b":[2]}"#, r#"{"b":[2.0],"a":1}"#],
    &[r#"{"a":1,"b":[3]}"#],
];

const NULL: usize = 0;
const NAN: usize = 3;

/// Makes a value from the text of a record, because JSON has no NaN.
const AS_VALUE: &str = r#"if . == "NaN" then nan else . end"#;

/// A value: its row in [`VALUES`], and its position in that row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    row: usize,
    spelling: usize,
}

impl Cell {
    fn text(self) -> &'static str {
        VALUES[self.row][self.spelling]
    }

    /// The cell's value as results show it.
    fn shown(self) -> &'static str {
        match self.row {
            NAN => "null",
            _ => match self.text() {
                r#""\u0061""# => r#""a""#,
                text => text,
            },
        }
    }
}

#[derive(Clone, Debug)]
enum Input {
    /// The record `null`: every field of it is null.
    Null,
    /// A record without the key's field.
    Keyless { quarters: Option<i32>, value: Cell },
    Full {
        key: Cell,
        quarters: Option<i32>,
        value: Cell,
    },
}

impl Input {
    fn key(&self) -> Cell {
        match self {
            Self::Null | Self::Keyless { .. } => Cell {
                row: NULL,
                spelling: 0,
            },
            Self::Full { key, .. } => *key,
        }
    }

    fn value(&self) -> Cell {
        match self {
            Self::Null => Cell {
                row: NULL,
                spelling: 0,
            },
            Self::Keyless { value, .. } | Self::Full { value, .. } => *value,
        }
    }

    fn quarters(&self) -> Option<i32> {
        match self {
            Self::Null => None,
            Self::Keyless { quarters, .. } | Self::Full { quarters, .. } => *quarters,
        }
    }

    /// The number's text: an integer if it is one.
    fn number(&self) -> String {
        self.quarters()
            .map_or("null".to_owned(), |quarters| match quarters % 4 {
                0 => (quarters / 4).to_string(),
                _ => (f64::from(quarters) / 4.0).to_string(),
            })
    }

    fn record(&self) -> Record {
        let value = self.value().text();
        let text = match self {
            Self::Null => "null".to_owned(),
            Self::Keyless { .. } => format!(r#"{{"n":{},"v":{value}}}"#, self.number()),
            Self::Full { key, .. } => format!(
                r#"{{"k":{},"n":{},"v":{value}}}"#,
                key.text(),
                self.number()
            ),
        };
        Record::parse(text.as_bytes()).unwrap()
    }
}

fn cell() -> impl Strategy<Value = Cell> {
    (0..VALUES.len(), any::<prop::sample::Index>()).prop_map(|(row, index)| Cell {
        row,
        spelling: index.index(VALUES[row].len()),
    })
}

fn input() -> impl Strategy<Value = Input> {
    let quarters = || proptest::option::weighted(0.8, -1000..1000_i32);
    prop_oneof![
        1 => Just(Input::Null),
        1 => (quarters(), cell()).prop_map(|(quarters, value)| Input::Keyless { quarters, value }),
        8 => (cell(), quarters(), cell()).prop_map(|(key, quarters, value)| Input::Full { key, quarters, value }),
    ]
}

/// Random choices of a run: how records are distributed over shards and runs, and how runs are
/// merged.
struct Choices {
    bytes: Vec<u8>,
    position: usize,
}

impl Choices {
    fn below(&mut self, limit: usize) -> usize {
        let byte = self
            .bytes
            .get(self.position % self.bytes.len().max(1))
            .copied()
            .unwrap_or(0);
        self.position += 1;
        usize::from(byte) % limit
    }
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..64)
}

type Run = Vec<Entry>;

fn streams(runs: Vec<Run>) -> Vec<impl Iterator<Item = Result<Entry, OperatorError>>> {
    runs.into_iter()
        .map(|run| run.into_iter().map(Ok))
        .collect()
}

/// Merges random neighbours until few enough runs are left.
fn merge_some(merger: &Merger, mut runs: Vec<Run>, choices: &mut Choices) -> Vec<Run> {
    while runs.len() > 1 && choices.below(3) > 0 {
        let first = choices.below(runs.len() - 1);
        let count = (2 + choices.below(3)).min(runs.len() - first);
        let neighbours: Vec<Run> = runs.drain(first..first + count).collect();
        let one = merger
            .merge_runs(streams(neighbours))
            .collect::<Result<Run, OperatorError>>()
            .unwrap();
        runs.insert(first, one);
    }
    runs
}

/// A plan of two stages, compiled.
struct Programs {
    map: StageProgram,
    reduce: StageProgram,
    partitions: u32,
}

/// Steps of which exactly one shuffles.
fn programs(steps: Vec<Step>) -> Programs {
    let plan = planned(steps);
    let compile = |stage: usize| {
        StageProgram::compile(
            &plan.stages[stage],
            &Variables::of(&plan.values).unwrap(),
            &Limits::default(),
        )
        .unwrap()
    };
    Programs {
        map: compile(0),
        reduce: compile(1),
        partitions: plan.stages[1].shards,
    }
}

/// The most partitions of a random run.
const MAX_PARTITIONS: usize = 5;

/// Each operator that shuffles, compiled with 1 to [`MAX_PARTITIONS`] partitions. They are compiled
/// once, because compiling takes longer than a random run.
static SHUFFLES: LazyLock<[Vec<Programs>; 5]> = LazyLock::new(|| {
    let partitions = || 1..=u32::try_from(MAX_PARTITIONS).unwrap();
    [
        partitions()
            .map(|shards| programs(vec![group_by(shards)]))
            .collect(),
        partitions()
            .map(|shards| programs(vec![deduplicate(shards)]))
            .collect(),
        vec![programs(vec![Step::Count])],
        partitions()
            .map(|shards| programs(vec![ordered_group_by(shards)]))
            .collect(),
        vec![programs(vec![Step::Aggregate(later_aggregates())])],
    ]
});

const GROUP_BY: usize = 0;
const DEDUPLICATE: usize = 1;
const COUNT: usize = 2;

/// Runs two stages over shards of records. Returns the texts of each output shard.
fn execute(
    programs: &Programs,
    shards: Vec<Vec<Record>>,
    choices: &mut Choices,
) -> Vec<Vec<String>> {
    let Programs {
        map,
        reduce,
        partitions,
    } = programs;
    let mut runs: Vec<Run> = Vec::new();
    for (shard_number, shard) in (0..).zip(shards) {
        let (mut steps, mut combiner) = (map.steps(shard_number), map.combiner().unwrap());
        let mut own: Vec<Run> = Vec::new();
        for record in shard {
            let mut passing = steps::Passing(|record: Record| {
                combiner.push(record.into())?;
                if choices.below(4) == 0 {
                    own.push(combiner.drain_sorted().collect());
                    assert!(combiner.is_empty());
                }
                Ok::<_, OperatorError>(())
            });
            let flow = steps.push(record, &mut passing);
            if flow.unwrap() == Flow::Stop {
                break;
            }
        }
        own.push(combiner.drain_sorted().collect());
        runs.extend(merge_some(combiner.merger(), own, choices));
    }
    let merger = reduce.merger().unwrap();
    (0..*partitions)
        .map(|partition| {
            let read = |run: &Run| {
                run.iter()
                    .filter(|entry| entry.partition == partition)
                    .cloned()
                    .collect()
            };
            let runs = merge_some(merger, runs.iter().map(read).collect(), choices);
            let mut steps = reduce.steps(partition);
            let mut output = Vec::new();
            for record in merger.records(streams(runs)) {
                let mut passing = steps::Passing(|record: Record| {
                    output.push(record.as_json_str().to_owned());
                    Ok::<_, OperatorError>(())
                });
                let flow = steps.push(record.unwrap(), &mut passing);
                if flow.unwrap() == Flow::Stop {
                    break;
                }
            }
            output
        })
        .collect()
}

fn planned(steps: Vec<Step>) -> Plan {
    let source = Source::Files { empty_ok: true };
    plan(
        &Pipeline {
            source,
            steps,
            sink: Sink {
                format: Format::Jsonl,
            },
            values: Values::new(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
        },
        1,
    )
}

/// Divides the records, in their order, into shards. Some shards may be empty.
fn spread(inputs: &[Input], choices: &mut Choices) -> Vec<Vec<Record>> {
    let mut shards = vec![Vec::new()];
    for input in inputs {
        for _ in 0..choices.below(5) / 3 * choices.below(3) {
            shards.push(Vec::new());
        }
        shards.last_mut().unwrap().push(input.record());
    }
    shards
}

fn group_by(shards: u32) -> Step {
    let value = format!(".v | {AS_VALUE}");
    let aggregates = [
        ("count", Aggregate::Count),
        ("sum", Aggregate::Sum(".n".to_owned())),
        ("avg", Aggregate::Avg(".n".to_owned())),
        ("min", Aggregate::Min(value.clone())),
        ("max", Aggregate::Max(value.clone())),
        ("collect", Aggregate::Collect(value)),
    ];
    let aggregates = aggregates
        .map(|(name, aggregate)| (name.to_owned(), aggregate))
        .into();
    Step::GroupBy(GroupBy {
        key: format!(".k | {AS_VALUE}"),
        aggregates,
        shards: Some(shards),
        order: None,
    })
}

/// All aggregates that [`group_by`] has not. A model in Python computes them in `tests/oracle`.
fn later_aggregates() -> Vec<(String, Aggregate)> {
    let value = || format!(".v | {AS_VALUE}");
    let aggregates = [
        ("first", Aggregate::First(value())),
        ("last", Aggregate::Last(value())),
        ("different", Aggregate::CountDistinct(value())),
        ("any", Aggregate::Any(value())),
        ("all", Aggregate::All(value())),
        ("spread", Aggregate::Stddev(".n".to_owned())),
        ("top", Aggregate::TopK { by: value(), k: 3 }),
        (
            "middle",
            Aggregate::Percentile {
                of: value(),
                per_million: 500_000,
            },
        ),
        (
            "folded",
            Aggregate::Reduce(Fold {
                init: "[]".to_owned(),
                update: "[.state, .record.n]".to_owned(),
            }),
        ),
        ("list", Aggregate::Collect(value())),
    ];
    aggregates
        .map(|(name, aggregate)| (name.to_owned(), aggregate))
        .into()
}

fn ordered_group_by(shards: u32) -> Step {
    Step::GroupBy(GroupBy {
        key: format!(".k | {AS_VALUE}"),
        aggregates: later_aggregates(),
        shards: Some(shards),
        order: Some(Order {
            by: ".n".to_owned(),
            descending: true,
        }),
    })
}

fn deduplicate(shards: u32) -> Step {
    Step::Deduplicate {
        key: format!(".k | {AS_VALUE}"),
        shards: Some(shards),
    }
}

/// The output of a groupBy in one shard, computed from all records at once.
fn grouped_by_model(inputs: &[Input]) -> Vec<String> {
    let rows = 0..VALUES.len();
    let groups = rows.map(|row| {
        inputs
            .iter()
            .filter(|input| input.key().row == row)
            .collect::<Vec<_>>()
    });
    groups
        .filter(|group| !group.is_empty())
        .map(|group| group_by_model(&group))
        .collect()
}

fn group_by_model(group: &[&Input]) -> String {
    let values: Vec<Cell> = group.iter().map(|input| input.value()).collect();
    let present = || values.iter().filter(|value| value.row != NULL);
    // Among equal values, `min_by_key` returns the first and `max_by_key` the last, so the order is
    // reversed here.
    let least = present().min_by_key(|value| value.row);
    let greatest = present().rev().max_by_key(|value| value.row);
    let shown = |cell: Option<&Cell>| cell.map_or("null", |cell| cell.shown());
    let numbers: Vec<i32> = group.iter().filter_map(|input| input.quarters()).collect();
    let (mut sum, mut average) = ("null".to_owned(), "null".to_owned());
    if !numbers.is_empty() {
        let total: i32 = numbers.iter().sum();
        // Quarters and small sums are exact, and the division rounds once.
        sum = (f64::from(total) / 4.0).to_string();
        average = (f64::from(total) / 4.0 / numbers.iter().map(|_| 1.0).sum::<f64>()).to_string();
    }
    let collected: Vec<&str> = values.iter().map(|value| value.shown()).collect();
    format!(
        r#"{{"key":{},"count":{},"sum":{sum},"avg":{average},"min":{},"max":{},"collect":[{}]}}"#,
        group[0].key().shown(),
        group.len(),
        shown(least),
        shown(greatest),
        collected.join(","),
    )
}

fn deduplicated_by_model(inputs: &[Input]) -> Vec<String> {
    let first = |row: usize| inputs.iter().find(|input| input.key().row == row);
    (0..VALUES.len())
        .filter_map(first)
        .map(|input| input.record().as_json_str().to_owned())
        .collect()
}

/// Whether two results are equal. Rust and jq print only small averages in the same way, so
/// averages are compared as numbers.
fn alike(result: &str, model: &str) -> bool {
    let parts =
        |text: &str| -> Vec<String> { text.split([',', ':', '}']).map(str::to_owned).collect() };
    let (result, model) = (parts(result), parts(model));
    let equal = |(left, right): (&String, &String)| {
        left == right
            || matches!((left.parse::<f64>(), right.parse::<f64>()), (Ok(left), Ok(right)) if left.to_bits() == right.to_bits())
    };
    result.len() == model.len() && result.iter().zip(&model).all(equal)
}

proptest! {
    #[test]
    fn group_by_is_what_a_look_at_all_records_gives(
        inputs in proptest::collection::vec(input(), 0..60),
        choices in choices(),
    ) {
        let mut choices = Choices { bytes: choices, position: 0 };
        let shards = spread(&inputs, &mut choices);
        let result = execute(&SHUFFLES[GROUP_BY][0], shards, &mut choices).remove(0);
        let model = grouped_by_model(&inputs);
        prop_assert_eq!(result.len(), model.len());
        for (result, model) in result.iter().zip(&model) {
            prop_assert!(alike(result, model), "{}\n{}", result, model);
        }
    }

    #[test]
    fn deduplicate_keeps_the_first_of_each_key(
        inputs in proptest::collection::vec(input(), 0..60),
        choices in choices(),
    ) {
        let mut choices = Choices { bytes: choices, position: 0 };
        let shards = spread(&inputs, &mut choices);
        let result = execute(&SHUFFLES[DEDUPLICATE][0], shards, &mut choices).remove(0);
        prop_assert_eq!(result, deduplicated_by_model(&inputs));
    }

    #[test]
    fn fault_internal_count_counts_every_record_and_the_records_of_an_empty_input(
        inputs in proptest::collection::vec(input(), 0..60),
        choices in choices(),
    ) {
        let mut choices = Choices { bytes: choices, position: 0 };
        let shards = spread(&inputs, &mut choices);
        let result = execute(&SHUFFLES[COUNT][0], shards, &mut choices);
        prop_assert_eq!(result, [[inputs.len().to_string()]]);
    }

    #[test]
    fn fault_7177_the_bytes_of_the_output_do_not_depend_on_mappers_buffers_and_passes(
        inputs in proptest::collection::vec(input(), 0..60),
        partitions in 0..MAX_PARTITIONS,
        left in choices(),
        right in choices(),
    ) {
        for variants in &*SHUFFLES {
            let programs = &variants[partitions.min(variants.len() - 1)];
            let run = |bytes: &[u8]| {
                let mut choices = Choices { bytes: bytes.to_vec(), position: 0 };
                let shards = spread(&inputs, &mut choices);
                execute(programs, shards, &mut choices)
            };
            let (left, right) = (run(&left), run(&right));
            prop_assert_eq!(&left, &right);
            // Any number of partitions gives the same records as one partition.
            let mut all: Vec<String> = left.concat();
            let records = inputs.iter().map(Input::record).collect();
            let mut alone = Choices { bytes: vec![1], position: 0 };
            let mut expected = execute(&variants[0], vec![records], &mut alone).remove(0);
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn damaged_payloads_are_errors_and_never_panics(
        inputs in proptest::collection::vec(input(), 1..8),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for variants in &*SHUFFLES {
            let Programs { map, reduce, .. } = &variants[0];
            let mut combiner = map.combiner().unwrap();
            for input in &inputs {
                combiner.push(input.record().into()).unwrap();
            }
            let run: Run = combiner.drain_sorted().collect();
            let mut damaged = run.clone();
            for entry in &mut damaged {
                for (index, byte) in &flips {
                    let place = index.index(entry.payload.len());
                    entry.payload[place] = *byte;
                }
                entry.payload.truncate(cut.index(entry.payload.len() + 1));
            }
            let merger = reduce.merger().unwrap();
            for runs in [vec![damaged.clone()], vec![run.clone(), damaged.clone()], vec![damaged, run]] {
                let passed: Result<Run, OperatorError> = merger.merge_runs(streams(runs.clone())).collect();
                let records: Result<Vec<Record>, OperatorError> = merger.records(streams(runs)).collect();
                if let Err(error) = passed.and(records) {
                    prop_assert!(error.path.starts_with("spec.pipeline.steps[0]."));
                }
            }
        }
    }
}

#[test]
fn keys_1_and_1_0_are_one_group_and_true_is_another_whatever_is_between_them() {
    let keys = ["1", "2", "1.0", "true", "3", "1e0", "true"];
    let records = |shards: usize| -> Vec<Vec<Record>> {
        let mut spread = vec![Vec::new(); shards];
        for (position, key) in keys.iter().enumerate() {
            let text = format!(r#"{{"k":{key}}}"#);
            spread[position * shards / keys.len()].push(Record::parse(text.as_bytes()).unwrap());
        }
        spread
    };
    let step = GroupBy {
        key: ".k".to_owned(),
        aggregates: vec![("n".to_owned(), Aggregate::Count)],
        shards: Some(1),
        order: None,
    };
    let programs = programs(vec![Step::GroupBy(step)]);
    for shards in 1..=7 {
        let mut choices = Choices {
            bytes: vec![2, 3, 5, 8],
            position: shards,
        };
        let result = execute(&programs, records(shards), &mut choices).remove(0);
        assert_eq!(
            result,
            [
                r#"{"key":true,"n":2}"#,
                r#"{"key":1,"n":3}"#,
                r#"{"key":2,"n":1}"#,
                r#"{"key":3,"n":1}"#
            ],
            "{shards} shards"
        );
    }
}

#[test]
fn three_nan_keys_are_one_group_beside_null_and_lists_are_compared_by_value() {
    let step = GroupBy {
        key: AS_VALUE.to_owned(),
        aggregates: vec![("n".to_owned(), Aggregate::Count)],
        shards: Some(1),
        order: None,
    };
    let keys = [
        r#""NaN""#, "null", "[1,2]", r#""NaN""#, "[1.0,2]", r#""NaN""#, "null",
    ];
    let shards = keys
        .map(|key| vec![Record::parse(key.as_bytes()).unwrap()])
        .into();
    let mut choices = Choices {
        bytes: vec![3, 1, 4, 1, 5],
        position: 0,
    };
    let result = execute(&programs(vec![Step::GroupBy(step)]), shards, &mut choices);
    // JSON has no NaN, so both keys are written as null. They are still two groups.
    assert_eq!(
        result,
        [[
            r#"{"key":null,"n":2}"#,
            r#"{"key":null,"n":3}"#,
            r#"{"key":[1,2],"n":2}"#
        ]]
    );
}

#[test]
fn steps_before_and_behind_a_shuffle_run_with_it() {
    let word_count = vec![
        Step::Filter("length > 0".to_owned()),
        Step::FlatMap("split(\" \")[]".to_owned()),
        Step::GroupBy(GroupBy {
            key: ".".to_owned(),
            aggregates: vec![("count".to_owned(), Aggregate::Count)],
            shards: Some(1),
            order: None,
        }),
        Step::Filter(".count > 1".to_owned()),
        Step::Map("\"\\(.key): \\(.count)\"".to_owned()),
        Step::TakePerShard(2),
    ];
    let lines = [
        ["the cat and the dog", ""],
        ["and the cat sat", "on the mat and sat"],
    ];
    let shards = lines
        .map(|shard| {
            shard
                .map(|line| Record::from_text_line(line, &Limits::default()).unwrap())
                .into()
        })
        .into();
    let mut choices = Choices {
        bytes: vec![7, 4, 9],
        position: 0,
    };
    let result = execute(&programs(word_count), shards, &mut choices);
    assert_eq!(result, [[r#""and: 3""#, r#""cat: 2""#]]);
}

#[test]
fn no_mapper_at_all_gives_a_count_of_0_and_groups_in_no_shard() {
    let mut choices = Choices {
        bytes: vec![1],
        position: 0,
    };
    let count = programs(vec![Step::Count, Step::Map(". + 1".to_owned())]);
    assert_eq!(execute(&count, vec![], &mut choices), [["1"]]);
    assert_eq!(
        execute(&programs(vec![group_by(3)]), vec![], &mut choices),
        [[""; 0]; 3]
    );
}

#[test]
fn fault_4782_a_buffer_says_how_much_memory_it_holds() {
    let programs = programs(vec![group_by(4)]);
    let mut combiner = programs.map.combiner().unwrap();
    assert_eq!(combiner.memory_bytes(), 0);
    let mut last = 0;
    for number in 0..2000 {
        let text = format!(r#"{{"k":"key {number}","n":1,"v":"{}"}}"#, "x".repeat(100));
        combiner
            .push(Record::parse(text.as_bytes()).unwrap().into())
            .unwrap();
        last = combiner.memory_bytes();
        // The buffer keeps each value three times.
        assert!(last >= (number + 1) * 300, "{number}: {last}");
    }
    // The reported size includes the next growth, but must not be many times more than that.
    assert!((2000 * 300..2000 * 2000).contains(&last), "{last}");
    let entries = combiner.drain_sorted().count();
    assert_eq!(
        (entries, combiner.memory_bytes(), combiner.is_empty()),
        (2000, 0, true)
    );
}

#[test]
fn compiling_names_the_step_whose_expression_is_wrong() {
    let compile = |steps: Vec<Step>, stage: usize| {
        StageProgram::compile(
            &planned(steps).stages[stage],
            &Variables::default(),
            &Limits::default(),
        )
        .map(|_| ())
        .unwrap_err()
        .to_string()
    };
    let error = compile(
        vec![
            Step::Map(".a".to_owned()),
            Step::Filter("nowhere".to_owned()),
        ],
        0,
    );
    assert_eq!(
        error,
        "spec.pipeline.steps[1].filter: line 1, column 1: the filter nowhere/0 is not defined; a field is written .nowhere"
    );
    let deduplicate = Step::Deduplicate {
        key: "nowhere".to_owned(),
        shards: None,
    };
    for stage in [0, 1] {
        let error = compile(vec![deduplicate.clone()], stage);
        assert!(
            error.starts_with("spec.pipeline.steps[0].deduplicate.key: "),
            "{error}"
        );
    }
}

/// Returns a plan that groups with an aggregate of each kind and skips bad records.
fn grouping_without_bad_records(limits: &Limits) -> Programs {
    let value = || ".v".to_owned();
    let aggregates = [
        ("collect", Aggregate::Collect(value())),
        ("max", Aggregate::Max(value())),
        // This aggregate fails last, when the other aggregates could have added the record already.
        ("sum", Aggregate::Sum(".n".to_owned())),
    ];
    let group_by = Step::GroupBy(GroupBy {
        key: ".k | if . == \"bad\" then error(\"no\") else . end".to_owned(),
        aggregates: aggregates
            .map(|(name, aggregate)| (name.to_owned(), aggregate))
            .into(),
        shards: Some(3),
        order: None,
    });
    let on_error = pipeline::OnError {
        dead_letter: None,
        max_skipped: None,
        max_skipped_per_million: None,
        shows_messages: true,
    };
    let mut planned = planned(vec![group_by]);
    let origin = Origin::Step(0);
    planned.on_errors.insert(origin, on_error);
    if let StageOutput::Shuffle { on_error, .. } = &mut planned.stages[0].output {
        *on_error = Some(origin);
    }
    let compile =
        |stage: &Stage| StageProgram::compile(stage, &Variables::default(), limits).unwrap();
    Programs {
        map: compile(&planned.stages[0]),
        reduce: compile(&planned.stages[1]),
        partitions: 3,
    }
}

/// One record: its text, and whether it is bad.
fn good_or_bad() -> impl Strategy<Value = (String, bool)> {
    (0..3_usize, 0..5_usize, 0..9_u32).prop_map(|(key, kind, number)| {
        let keys = ["1", "1.0", "\"a\""];
        let row = |key: &str, number: &str, value: &str| {
            format!(r#"{{"k":{key},"n":{number},"v":{value}}}"#)
        };
        // A list of this number three times is longer than a record may be, and equal to [1,1,1].
        let long = format!("[{0},{0},{0}]", format!("1.{}", "0".repeat(40)));
        let number = number.to_string();
        match kind {
            0 => (row("\"bad\"", &number, "1"), true),
            1 => (row(keys[key], "\"x\"", "1"), true),
            2 => ("7".to_owned(), true),
            3 => (row(keys[key], &number, &long), false),
            _ => (row(keys[key], &number, &number), false),
        }
    })
}

proptest! {
    #[test]
    fn a_record_that_fails_in_a_group_leaves_no_trace_in_it(
        inputs in proptest::collection::vec(good_or_bad(), 0..12),
        shards in proptest::collection::vec(0..4_usize, 12),
        bytes in choices(),
    ) {
        let programs = grouping_without_bad_records(&Limits::default());
        let mut choices = Choices { bytes, position: 0 };
        let spread = |with_bad: bool| -> Vec<Vec<Record>> {
            let mut spread = vec![Vec::new()];
            for ((text, is_bad), cut) in inputs.iter().zip(&shards) {
                if *cut == 0 {
                    spread.push(Vec::new());
                }
                if with_bad || !is_bad {
                    spread.last_mut().unwrap().push(Record::parse(text.as_bytes()).unwrap());
                }
            }
            spread
        };
        let with_bad = execute(&programs, spread(true), &mut choices);
        let without = execute(&programs, spread(false), &mut choices);
        prop_assert_eq!(with_bad, without);
    }
}

#[test]
fn whether_a_key_can_be_written_does_not_depend_on_the_records_before_it() {
    // The third spelling of the same key is longer than a record may be.
    let limits = Limits {
        bytes: 60,
        ..Limits::default()
    };
    let mut planned = planned(vec![Step::GroupBy(GroupBy {
        key: "[., ., .]".to_owned(),
        aggregates: vec![("n".to_owned(), Aggregate::Count)],
        shards: Some(1),
        order: None,
    })]);
    if let StageOutput::Shuffle { on_error, .. } = &mut planned.stages[0].output {
        *on_error = Some(Origin::Step(0));
    }
    let program =
        StageProgram::compile(&planned.stages[0], &Variables::default(), &limits).unwrap();
    for before in [&[][..], &["1"], &["1.0", "1"]] {
        let mut combiner = program.combiner().unwrap();
        for text in before {
            let rejected = combiner
                .push(Record::parse(text.as_bytes()).unwrap().into())
                .unwrap();
            assert!(rejected.is_none(), "{text}");
        }
        let long = format!("1.{}", "0".repeat(30));
        let rejected = combiner
            .push(Record::parse(long.as_bytes()).unwrap().into())
            .unwrap();
        let rejected = rejected.expect("it is refused, whatever was before it");
        assert_eq!(rejected.record.as_json_str(), long);
        assert_eq!(rejected.error.path, "spec.pipeline.steps[0].groupBy.key");
    }
}
