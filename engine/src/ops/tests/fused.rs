//! Steps, keys and aggregates that get strings as values give the same bytes, bad records and
//! errors as steps that get every record as text.

use proptest::prelude::*;

use super::super::expression::Scope;
use super::super::steps::{CompiledStep, Receiver, StepRun};
use super::super::*;
use crate::pipeline::{Aggregate, GroupBy, Order};
use crate::plan::{RecordOperation, RecordStep};

/// Records, with strings that need escapes, and strings near the limit of [`LIMITS`].
const INPUTS: [&str; 14] = [
    r#""b A a b""#,
    r#""\u0000 \u007f \" \\ \n é 😀""#,
    r#""""#,
    r#"" ""#,
    r#""0123456789 0123456789 0123456789 0123456789 01""#,
    r#""\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f\u007f""#,
    r#""1.50""#,
    "null",
    "false",
    "1.50",
    r#"["x","X y",null,1.0]"#,
    r#"{"a":"x y","b":["y",{"a":"x"}]}"#,
    r#"{"a":{"a":"\u0061"}}"#,
    "[]",
];

const EXPRESSIONS: [&str; 20] = [
    ".",
    ".a",
    ".a?",
    ".[]?",
    "split(\" \")[]?",
    "split(\" \")[]",
    "ascii_downcase? // .",
    "tostring",
    ". as $x | $x",
    "[., .]",
    "{a: .}",
    "length",
    "if . == \"x\" then nan else . end",
    ". + \"!\"",
    ".[1:]?",
    "tojson",
    "fromjson? // empty",
    "., .",
    "select(. != null)",
    "try error catch .",
];

const LIMITS: Limits = Limits {
    bytes: 48,
    nesting: 4,
    memory_bytes: usize::MAX,
};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Map,
    FlatMap,
    Filter,
}

/// A step: its kind, the position of its expression, and whether it skips bad records.
type Choice = (Kind, usize, bool);

#[derive(Clone, Copy, Debug)]
enum Last {
    Nothing,
    GroupBy(usize, usize),
    Deduplicate(usize),
}

fn choice() -> impl Strategy<Value = Choice> {
    let kind = prop_oneof![Just(Kind::Map), Just(Kind::FlatMap), Just(Kind::Filter)];
    (kind, 0..EXPRESSIONS.len(), any::<bool>())
}

fn last() -> impl Strategy<Value = Last> {
    let expression = || 0..EXPRESSIONS.len();
    prop_oneof![
        Just(Last::Nothing),
        (expression(), expression()).prop_map(|(key, value)| Last::GroupBy(key, value)),
        expression().prop_map(Last::Deduplicate),
    ]
}

fn compiled(choices: &[Choice]) -> Vec<CompiledStep> {
    let scope = scope();
    let step = |(index, (kind, expression, skips)): (usize, &Choice)| {
        let source = EXPRESSIONS[*expression].to_owned();
        let step = RecordStep {
            path: format!("steps[{index}]"),
            operation: match kind {
                Kind::Map => RecordOperation::Map(source),
                Kind::FlatMap => RecordOperation::FlatMap(source),
                Kind::Filter => RecordOperation::Filter(source),
            },
            on_error: skips.then_some(Origin::Step(u32::try_from(index).unwrap())),
        };
        CompiledStep::compile(&step, &scope).unwrap()
    };
    choices.iter().enumerate().map(step).collect()
}

fn scope() -> Scope<'static> {
    Scope {
        limits: LIMITS,
        ..Scope::of_test()
    }
}

fn combiner_program(last: Last, on_error: Option<Origin>) -> Option<CombinerProgram> {
    let source = |expression: usize| EXPRESSIONS[expression].to_owned();
    let merge = match last {
        Last::Nothing => return None,
        Last::GroupBy(key, value) => Merge::GroupBy(GroupBy {
            key: source(key),
            aggregates: vec![
                ("n".to_owned(), Aggregate::Count),
                ("least".to_owned(), Aggregate::Min(source(value))),
                ("all".to_owned(), Aggregate::Collect(source(value))),
                ("last".to_owned(), Aggregate::Last(source(value))),
                (
                    "different".to_owned(),
                    Aggregate::CountDistinct(source(value)),
                ),
                ("any".to_owned(), Aggregate::Any(source(value))),
                (
                    "top".to_owned(),
                    Aggregate::TopK {
                        by: source(value),
                        k: 2,
                    },
                ),
                (
                    "middle".to_owned(),
                    Aggregate::Percentile {
                        of: source(value),
                        per_million: 500_000,
                    },
                ),
            ],
            shards: None,
            order: Some(Order {
                by: source(key),
                descending: true,
            }),
        }),
        Last::Deduplicate(key) => Merge::Deduplicate(source(key)),
    };
    Some(CombinerProgram {
        partitions: 3,
        merger: Merger::compile("last", &merge, &scope()).unwrap(),
        on_error,
    })
}

/// Keeps everything that the steps pass on.
struct Kept<'p> {
    combiner: Option<Combiner<'p>>,
    lines: Vec<String>,
}

impl Receiver<OperatorError> for Kept<'_> {
    fn pass(&mut self, row: Row<'_>) -> Result<(), OperatorError> {
        let Some(combiner) = &mut self.combiner else {
            self.lines.push(row.into_record().to_string());
            return Ok(());
        };
        match combiner.push(row)? {
            Some(rejected) => self.reject(rejected),
            None => Ok(()),
        }
    }

    fn reject(&mut self, rejected: Rejected) -> Result<(), OperatorError> {
        self.lines.push(format!("{rejected:?}"));
        Ok(())
    }
}

/// Passes on text only: the record is parsed again before the next step.
struct AsText<'a, 'p, 'k> {
    rest: &'a mut [StepRun<'p>],
    kept: &'a mut Kept<'k>,
}

impl Receiver<OperatorError> for AsText<'_, '_, '_> {
    fn pass(&mut self, row: Row<'_>) -> Result<(), OperatorError> {
        let record = Record::parse(row.into_record().as_json()).unwrap();
        let Some((first, rest)) = self.rest.split_first_mut() else {
            return self.kept.pass(record.into());
        };
        let kept = &mut *self.kept;
        first.push(record, &mut AsText { rest, kept }).map(|_| ())
    }

    fn reject(&mut self, rejected: Rejected) -> Result<(), OperatorError> {
        self.kept.reject(rejected)
    }
}

/// All that the steps and the combiner give, with the error that ended the run.
fn outcome(kept: Kept<'_>, result: Result<(), OperatorError>) -> (Vec<String>, Vec<Entry>) {
    let Kept {
        combiner,
        mut lines,
    } = kept;
    lines.push(format!("{result:?}"));
    let entries = match (combiner, result) {
        (Some(mut combiner), Ok(())) => combiner.drain_sorted().collect(),
        (Some(_) | None, _) => Vec::new(),
    };
    (lines, entries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn values_between_steps_give_the_same_bytes_as_text(
        choices in prop::collection::vec(choice(), 0..4),
        last in last(),
        skips in any::<bool>(),
        inputs in prop::collection::vec(0..INPUTS.len(), 1..6),
    ) {
        let on_error = skips.then_some(Origin::Step(9));
        let program = combiner_program(last, on_error);
        let kept = || Kept {
            combiner: program.as_ref().map(Combiner::new),
            lines: Vec::new(),
        };
        let record = |input: &usize| Record::parse(INPUTS[*input].as_bytes()).unwrap();
        let steps = compiled(&choices);

        let (mut fused, mut run) = (kept(), StepRun::new(&steps, 3));
        let result = inputs.iter().try_for_each(|input| {
            run.push(record(input), &mut fused).map(|_| ())
        });
        let arrived: Vec<_> = run.arrived().collect();
        let fused = outcome(fused, result);

        let (mut apart, mut runs) = (kept(), Vec::new());
        runs.extend(steps.chunks(1).map(|steps| StepRun::new(steps, 3)));
        let result = inputs.iter().try_for_each(|input| {
            let (rest, kept) = (runs.as_mut_slice(), &mut apart);
            AsText { rest, kept }.pass(record(input).into())
        });
        let arrived_apart: Vec<_> = runs.iter().flat_map(StepRun::arrived).collect();
        prop_assert_eq!(fused, outcome(apart, result));
        prop_assert_eq!(arrived, arrived_apart);
    }
}
