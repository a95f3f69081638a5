//! Writes the plan as text for people: a table of stages, and then the details of each stage. The
//! text contains everything that determines what a task does, because the digest is computed from
//! it. In the text for the digest, stages are numbered from 0.

use std::fmt::{self, Write as _};

use super::{Merge, Plan, RecordOperation, RecordStep, Stage, StageOutput};
use crate::id::{SourceId, StageId};
use crate::pipeline::{Aggregate, Exec, Format, GroupBy, OnError, Order};

const HEADINGS: [&str; 5] = ["STAGE", "NAME", "SHARDS", "READS", "WRITES"];

/// How the stages of a text are numbered.
#[derive(Clone, Copy)]
enum Numbers {
    /// From 1, as in all texts for people.
    ForPeople,
    /// From 0, as in the digests that ledgers contain.
    ForDigest,
}

impl Numbers {
    fn of(self, stage: StageId) -> String {
        match self {
            Self::ForPeople => stage.to_string(),
            Self::ForDigest => stage.0.to_string(),
        }
    }
}

/// The text from which the digest is computed. For a plan that a ledger contains, this text must
/// never change.
pub(super) struct Hashed<'a>(pub(super) &'a Plan);

impl fmt::Display for Hashed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(f, self.0, Numbers::ForDigest)?;
        match &self.0.source_parts {
            Some(parts) => writeln!(f, "\nsource parts {parts}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(f, self, Numbers::ForPeople)
    }
}

fn text(f: &mut fmt::Formatter<'_>, plan: &Plan, numbers: Numbers) -> fmt::Result {
    writeln!(
        f,
        "{}, {}",
        counted(plan.stages.len() as u64, "stage"),
        counted(plan.tasks(), "task")
    )?;
    writeln!(f)?;
    table(f, &plan.stages, numbers)?;
    if !plan.values.is_empty() {
        writeln!(f, "\nvalues")?;
    }
    for (name, value) in &plan.values {
        writeln!(f, "  ${name} = {value}")?;
    }
    if !plan.tables.is_empty() {
        writeln!(f, "\ntables")?;
    }
    for (name, key) in &plan.tables {
        writeln!(f, "  ${name} by {}", expression_text(key))?;
    }
    if !plan.on_errors.is_empty() {
        writeln!(f, "\nbad records")?;
    }
    for (origin, on_error) in &plan.on_errors {
        writeln!(f, "  {origin}: {}", on_error_text(on_error))?;
    }
    for stage in &plan.stages {
        writeln!(f, "\nstage {} {}", numbers.of(stage.id), stage.name)?;
        work(f, stage)?;
    }
    Ok(())
}

fn table(f: &mut fmt::Formatter<'_>, stages: &[Stage], numbers: Numbers) -> fmt::Result {
    let rows: Vec<[String; 5]> = std::iter::once(HEADINGS.map(str::to_owned))
        .chain(stages.iter().map(|stage| row(stage, numbers)))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    for [id, name, shards, reads, writes] in &rows {
        let [w0, w1, w2, w3] = widths;
        writeln!(
            f,
            "{id:<w0$}  {name:<w1$}  {shards:<w2$}  {reads:<w3$}  {writes}"
        )?;
    }
    Ok(())
}

fn row(stage: &Stage, numbers: Numbers) -> [String; 5] {
    let reads = reads(stage, numbers);
    let writes = match &stage.output {
        StageOutput::Shuffle { partitions, .. } => {
            let ranges = u64::from(stage.shards) * u64::from(*partitions);
            format!(
                "shuffle, {} x {partitions} = {}",
                stage.shards,
                counted(ranges, "range")
            )
        }
        StageOutput::Sink { format } => {
            let format = match format {
                Format::Jsonl => "jsonl",
                Format::Text => "text",
            };
            counted(u64::from(stage.shards), &format!("{format} file"))
        }
    };
    [
        numbers.of(stage.id),
        stage.name.clone(),
        stage.shards.to_string(),
        reads,
        writes,
    ]
}

fn reads(stage: &Stage, numbers: Numbers) -> String {
    let stages: Vec<String> = stage.reads().map(|from| numbers.of(from)).collect();
    if let Some(files) = stage.gathers() {
        return format!("files of stage {}, {files} each", stages.join(", "));
    }
    match (stage.source(), stages.as_slice()) {
        (Some(SourceId::MAIN), _) => "source".to_owned(),
        (Some(source), _) => format!("source {source}"),
        (None, [only]) => format!("shuffle of stage {only}"),
        (None, [earlier @ .., last]) => {
            format!("shuffles of stages {} and {last}", earlier.join(", "))
        }
        (None, []) => String::new(),
    }
}

fn work(f: &mut fmt::Formatter<'_>, stage: &Stage) -> fmt::Result {
    let mut nothing = true;
    if let (Some(_), Some((path, _))) = (stage.gathers(), stage.merge()) {
        return writeln!(f, "  {path}: merge files into fewer");
    }
    if let Some((path, _)) = stage.merge() {
        writeln!(f, "  {path}: merge")?;
        nothing = false;
    }
    for RecordStep {
        path, operation, ..
    } in &stage.steps
    {
        writeln!(f, "  {path}: {}", operation_text(operation))?;
        nothing = false;
    }
    if let StageOutput::Shuffle { path, merge, .. } = &stage.output {
        writeln!(f, "  {path}: combine")?;
        match merge {
            Merge::GroupBy(GroupBy {
                key,
                aggregates,
                order,
                ..
            }) => {
                writeln!(f, "    key: {}", expression_text(key))?;
                if let Some(Order { by, descending }) = order {
                    let direction = if *descending { ", descending" } else { "" };
                    writeln!(f, "    sorted by{direction}: {}", expression_text(by))?;
                }
                aggregate_lines(f, aggregates)?;
            }
            Merge::Aggregate(aggregates) => aggregate_lines(f, aggregates)?,
            Merge::Deduplicate(key) => writeln!(f, "    key: {}", expression_text(key))?,
            Merge::Count => {}
        }
        nothing = false;
    }
    if nothing {
        writeln!(f, "  records pass unchanged")?;
    }
    Ok(())
}

fn operation_text(operation: &RecordOperation) -> String {
    match operation {
        RecordOperation::Map(expression)
        | RecordOperation::FlatMap(expression)
        | RecordOperation::Filter(expression) => expression_text(expression),
        RecordOperation::Select(paths) | RecordOperation::Drop(paths) => {
            let paths: Vec<String> = paths.iter().map(|path| path_text(path)).collect();
            paths.join(", ")
        }
        RecordOperation::Rename(pairs) => {
            let pair = |(from, to): &(Vec<String>, Vec<String>)| {
                format!("{} to {}", path_text(from), path_text(to))
            };
            let pairs: Vec<String> = pairs.iter().map(pair).collect();
            pairs.join(", ")
        }
        RecordOperation::Sample { fraction, seed } => format!("{fraction} with seed {seed}"),
        RecordOperation::TakePerShard(records) | RecordOperation::Window(records) => {
            records.to_string()
        }
        RecordOperation::WindowBy(window) => {
            let part = |(field, source): (&str, &str)| {
                format!("\n    {field}: {}", expression_text(source))
            };
            let parts = window.expressions().map(part);
            format!("grow while a condition holds{}", parts.concat())
        }
        RecordOperation::Exec(exec) => exec_text(exec),
    }
}

/// A path of a field, in quotes.
fn path_text(path: &[String]) -> String {
    format!("{:?}", path.join("."))
}

/// Everything that determines what a command does and how it is run. Defaults are left out.
fn exec_text(exec: &Exec) -> String {
    let Exec {
        command,
        env,
        slots,
        may_ignore_input,
        reuse,
    } = exec;
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let mut text = words.join(" ");
    for (name, value) in env {
        text.extend(["\n      ", name, "=", &quoted(value)]);
    }
    if *slots != 1 {
        text.extend(["\n      ", &counted((*slots).into(), "slot")]);
    }
    if *may_ignore_input {
        text.push_str("\n      may ignore its input");
    }
    if *reuse {
        text.push_str("\n      one process for many shards");
    }
    text
}

fn on_error_text(on_error: &OnError) -> String {
    let mut text = match &on_error.dead_letter {
        None => "skipped".to_owned(),
        Some(path) => format!("written to {path:?}"),
    };
    if let Some(most) = on_error.max_skipped {
        let _ = write!(text, ", at most {most}");
    }
    if let Some(share) = on_error.max_skipped_per_million {
        let _ = write!(text, ", at most {} %", percent(share));
    }
    if !on_error.shows_messages {
        text.push_str(", without messages");
    }
    text
}

/// A text in quotes, on one line. Unlike the result of `{:?}`, it does not depend on the version of
/// the compiler.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            character if character.is_ascii_control() => {
                quoted.extend(character.escape_unicode());
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// A share of a million as a percentage: `0.1`, `25`.
pub(crate) fn percent(per_million: u32) -> String {
    let text = format!("{}.{:04}", per_million / 10_000, per_million % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn aggregate_lines(f: &mut fmt::Formatter<'_>, aggregates: &[(String, Aggregate)]) -> fmt::Result {
    for (name, aggregate) in aggregates {
        writeln!(f, "    {name:?}: {}", aggregate_text(aggregate))?;
    }
    Ok(())
}

fn aggregate_text(aggregate: &Aggregate) -> String {
    let word = aggregate.word();
    let detail = if let Aggregate::TopK { k, .. } = aggregate {
        format!(" {k} by")
    } else if let Aggregate::Percentile { per_million, .. } = aggregate {
        format!(" {} % of", percent(*per_million))
    } else {
        String::new()
    };
    if let Aggregate::Reduce(fold) = aggregate {
        let (init, update) = (expression_text(&fold.init), expression_text(&fold.update));
        return format!("{word}\n      init: {init}\n      update: {update}");
    }
    let expressions = aggregate.expressions();
    let expression = expressions.first();
    let expression = expression.map(|(_, source)| format!(" {}", expression_text(source)));
    format!("{word}{detail}{}", expression.unwrap_or_default())
}

/// Writes an expression. Its line breaks are kept, because they end comments. Its further lines are
/// marked, so that none of them looks like a line of the plan.
fn expression_text(expression: &str) -> String {
    expression.trim().replace('\n', "\n      | ")
}

/// A number of things, for people: `1 file`, `2 files`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::id::{SourceId, StageId};
    use crate::pipeline::{Aggregate, Exec, Format, GroupBy, Pipeline, Sink, Source, Step};
    use crate::plan::{StageInput, plan};

    fn word_count() -> Pipeline {
        Pipeline {
            source: Source::Files { empty_ok: false },
            steps: vec![
                Step::FlatMap("ascii_downcase # words\n| scan(\"[a-z]+\")".to_owned()),
                Step::GroupBy(GroupBy {
                    key: ".".to_owned(),
                    aggregates: vec![
                        ("count".to_owned(), Aggregate::Count),
                        ("a b".to_owned(), Aggregate::Sum("length".to_owned())),
                    ],
                    shards: Some(4),
                    order: None,
                }),
                Step::Filter(".count > 1".to_owned()),
                Step::Select(vec![vec!["key".to_owned()], vec!["count".to_owned()]]),
                Step::TakePerShard(100),
                Step::Deduplicate {
                    key: ".key".to_owned(),
                    shards: None,
                },
                Step::Count,
            ],
            sink: Sink {
                format: Format::Jsonl,
            },
            values: crate::pipeline::Values::new(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
        }
    }

    const WORD_COUNT: &str = r#"4 stages, 41 tasks

STAGE  NAME         SHARDS  READS               WRITES
1      map          32      source              shuffle, 32 x 4 = 128 ranges
2      reduce       4       shuffle of stage 1  shuffle, 4 x 4 = 16 ranges
3      deduplicate  4       shuffle of stage 2  shuffle, 4 x 1 = 4 ranges
4      count        1       shuffle of stage 3  1 jsonl file

stage 1 map
  spec.pipeline.steps[0].flatMap: ascii_downcase # words
      | | scan("[a-z]+")
  spec.pipeline.steps[1].groupBy: combine
    key: .
    "count": count
    "a b": sum length

stage 2 reduce
  spec.pipeline.steps[1].groupBy: merge
  spec.pipeline.steps[2].filter: .count > 1
  spec.pipeline.steps[3].select: "key", "count"
  spec.pipeline.steps[4].takePerShard: 100
  spec.pipeline.steps[5].deduplicate: combine
    key: .key

stage 3 deduplicate
  spec.pipeline.steps[5].deduplicate: merge
  spec.pipeline.steps[6].count: combine

stage 4 count
  spec.pipeline.steps[6].count: merge
"#;

    /// The digest that release 0.1.0 computed for this plan; ledgers contain it.
    const WORD_COUNT_DIGEST: &str = "64547e6be28b8792c1bb2b4b2420036c";

    const NO_STEPS: &str = "1 stage, 2 tasks

STAGE  NAME  SHARDS  READS   WRITES
1      map   2       source  2 text files

stage 1 map
  records pass unchanged
";

    #[test]
    fn a_plan_prints_as_a_table_and_what_each_stage_does() {
        assert_eq!(plan(&word_count(), 32).to_string(), WORD_COUNT);
        let nothing = Pipeline {
            source: Source::Files { empty_ok: true },
            steps: vec![],
            sink: Sink {
                format: Format::Text,
            },
            values: crate::pipeline::Values::new(),
            tables: crate::pipeline::Tables::new(),
            on_errors: crate::pipeline::OnErrors::new(),
        };
        assert_eq!(plan(&nothing, 2).to_string(), NO_STEPS);
    }

    #[test]
    fn a_plan_that_is_a_graph_says_what_each_stage_reads_and_so_does_its_digest() {
        let mut graph = plan(&word_count(), 2);
        let chain = graph.digest();
        let mut copy = graph.stages[2].clone();
        copy.id = StageId(3);
        let mut last = graph.stages.remove(3);
        last.id = StageId(4);
        let StageInput::Shuffle { path, merge, .. } = last.inputs[0].clone() else {
            panic!("{last:?}")
        };
        let from = StageId(3);
        last.inputs.push(StageInput::Shuffle { from, path, merge });
        graph.stages.extend([copy, last]);
        assert_eq!(graph.check(), Ok(()));
        let text = graph.to_string();
        let row = "5      count        1       shuffles of stages 3 and 4  1 jsonl file\n";
        assert!(text.contains(row), "{text}");
        let both = graph.digest();
        graph.stages[4].inputs.reverse();
        let digests = [chain, both, graph.digest()];
        let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), 3, "{digests:?}");
        graph.stages[0].inputs = vec![StageInput::Source(SourceId(1))];
        assert!(graph.to_string().contains("  source 2  "));
    }

    #[test]
    fn a_command_is_shown_with_all_that_changes_what_it_does() {
        let exec = |change: fn(&mut Exec)| {
            let mut exec = Exec {
                command: vec!["sh".to_owned(), "-c".to_owned(), "a \"b\"\nc".to_owned()],
                env: BTreeMap::new(),
                slots: 1,
                may_ignore_input: false,
                reuse: false,
            };
            change(&mut exec);
            let mut pipeline = word_count();
            pipeline.steps = vec![Step::Exec(exec)];
            plan(&pipeline, 2)
        };
        let plain = exec(|_| {});
        let text = plain.to_string();
        let line = "  spec.pipeline.steps[0].exec: \"sh\" \"-c\" \"a \\\"b\\\"\\nc\"\n";
        assert!(text.ends_with(line), "{text}");
        let full = exec(|exec| {
            exec.env.insert("A".to_owned(), "b".to_owned());
            (exec.slots, exec.may_ignore_input) = (2, true);
        });
        let text = full.to_string();
        let lines = "\n      A=\"b\"\n      2 slots\n      may ignore its input\n";
        assert!(text.ends_with(lines), "{text}");
        let kept = exec(|exec| exec.reuse = true).to_string();
        assert!(
            kept.ends_with("\n      one process for many shards\n"),
            "{kept}"
        );
        let others = [
            exec(|exec| exec.command.push("d".to_owned())),
            exec(|exec| exec.slots = 2),
            exec(|exec| exec.may_ignore_input = true),
            exec(|exec| exec.reuse = true),
            full,
        ];
        for other in others {
            assert_ne!(other.digest(), plain.digest());
        }
    }

    #[test]
    fn the_digest_never_changes_unless_the_work_does() {
        let digest = plan(&word_count(), 32).digest();
        assert_eq!(digest, WORD_COUNT_DIGEST);
        assert_ne!(digest, plan(&word_count(), 33).digest());
        let mut changed = word_count();
        changed.steps[2] = Step::Filter(".count > 2".to_owned());
        assert_ne!(digest, plan(&changed, 32).digest());
        let mut changed = word_count();
        changed.values = [("day".to_owned(), "\"2026-11-27\"".to_owned())].into();
        let plan = plan(&changed, 32);
        assert_ne!(digest, plan.digest());
        assert!(
            plan.to_string()
                .contains("\nvalues\n  $day = \"2026-11-27\"\n"),
            "{plan}"
        );
    }
}
