//! `kubectl zephyr eval '<expression>' [FILE]`: evaluates an expression for each of many JSON
//! lines. Reads lines and prints results; zephyr-jq evaluates.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use zephyr_engine::expr::MAX_OUTPUTS;
use zephyr_jq::json::{ScanLimits, Source};
use zephyr_jq::{Error, Program, Value, on_full_stack};

/// The largest number of bytes that all results of one case may have as JSON. This is more than the
/// largest record has. The results are kept in memory until the case is complete.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The character that may precede the first line of a file.
const BYTE_ORDER_MARK: &str = "\u{FEFF}";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The jq expression
    #[arg(required_unless_present = "cases", conflicts_with = "cases")]
    expression: Option<String>,
    /// A file of JSON lines; not given = standard input
    #[arg(conflicts_with = "cases")]
    file: Option<PathBuf>,
    /// A value that the expression calls $NAME, as JSON: `--value limit=5`, `--value
    /// 'day="monday"'`. May be repeated
    #[arg(long = "value", value_name = "NAME=JSON", conflicts_with = "cases")]
    values: Vec<String>,
    /// Each line is a string, as in files of the format text
    #[arg(long, short = 'R', conflicts_with = "cases")]
    raw_input: bool,
    /// A file with one case per line, `{"program": …, "input": …}`. The answer to each is a line
    /// `{"outputs": […]}` or `{"error": …}`. `-` reads standard input
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

/// Prints the results.
pub(crate) fn eval(options: &Options) -> Result<()> {
    if let Some(cases) = &options.cases {
        return answer_cases(cases);
    }
    let expression = options.expression.as_deref().unwrap_or_default();
    let values = named_values(&options.values)?;
    on_big_stack(|| {
        evaluate_lines(
            expression,
            options.file.as_deref(),
            &values,
            options.raw_input,
        )
    })?
}

/// The values of the command line, by name.
fn named_values(given: &[String]) -> Result<BTreeMap<String, Source<'static>>> {
    let mut values = BTreeMap::new();
    for given in given {
        let Some((name, text)) = given.split_once('=') else {
            bail!("--value: has no = (got {given}); a name, =, and a JSON value, such as limit=5");
        };
        let value = Source::parse(text.to_owned(), ScanLimits::WIDEST).map_err(|error| {
            anyhow!(
                "--value {name}: is not JSON: {error} (got {text}); a JSON value, such as 5 or \"text\""
            )
        })?;
        if values.insert(name.to_owned(), value).is_some() {
            bail!("--value {name}: is given twice; one value for each name is allowed");
        }
    }
    Ok(values)
}

/// Prints the results of the expression for each line, until one fails.
fn evaluate_lines(
    expression: &str,
    file: Option<&Path>,
    values: &BTreeMap<String, Source<'static>>,
    is_text: bool,
) -> Result<()> {
    let program = compile(expression, values.keys()).map_err(|message| anyhow!(message))?;
    let variables: Vec<Value<'_>> = values
        .values()
        .map(|value| Value::of(value.root()))
        .collect();
    let name = file.map_or("standard input".to_owned(), |file| {
        file.display().to_string()
    });
    let mut out = io::stdout().lock();
    for (index, line) in open(file)?.lines().enumerate() {
        let line = line.with_context(|| format!("read {name}"))?;
        let mark = if index == 0 { BYTE_ORDER_MARK } else { "" };
        let line = line.strip_prefix(mark).unwrap_or(&line);
        if !is_text && line.trim().is_empty() {
            continue;
        }
        let place = || format!("{name}, line {}", index + 1);
        let text = if is_text { "null" } else { line };
        let source = Source::parse(text, ScanLimits::WIDEST).with_context(place)?;
        let input = if is_text {
            Value::from(line)
        } else {
            Value::of(source.root())
        };
        let mut written = Ok(());
        let mut outputs = 0;
        let end = program.run(input.clone(), &variables, &mut |value| {
            written = match value.to_json() {
                // This is the limit that a job has for one record.
                _ if outputs == MAX_OUTPUTS => Err(anyhow!(too_many_outputs())),
                Ok(json) => writeln!(out, "{json}").map_err(Into::into),
                Err(exhausted) => Err(exhausted.into()),
            };
            outputs += 1;
            if written.is_ok() {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        written.with_context(place)?;
        if let Err(error) = end {
            let part = match error {
                Error::Failed(_) => program.located(&input, &variables),
                Error::Exhausted(_) => String::new(),
            };
            bail!("{}: {error}{part}", place());
        }
    }
    out.flush()?;
    Ok(())
}

/// A case: a program and its input. An absent input is null.
#[derive(Deserialize)]
struct Case<'a> {
    program: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// Prints one line for each case: its results, or why it failed.
fn answer_cases(cases: &Path) -> Result<()> {
    let file = (cases != Path::new("-")).then_some(cases);
    let mut out = io::stdout().lock();
    for line in open(file)?.lines() {
        let line = line.with_context(|| format!("read {}", cases.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        // Each case runs on a separate thread, so that the other cases are answered whatever
        // happens in this one.
        let answer = on_big_stack(|| answer(&line));
        let answer =
            answer.unwrap_or_else(|_| refused("", "the evaluator failed on the expression"));
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// The line that answers the line of a case.
fn answer(line: &str) -> String {
    let case: Case<'_> = match serde_json::from_str(line) {
        Ok(case) => case,
        Err(error) => {
            return refused(
                "",
                &format!(
                    "the line is not a case: {error}; {{\"program\": \"…\", \"input\": …}} is expected"
                ),
            );
        }
    };
    let program = match compile(&case.program, [].into_iter()) {
        Ok(program) => program,
        Err(message) => return refused("", &message),
    };
    let input = case.input.map_or("null", RawValue::get);
    let source = match Source::parse(input, ScanLimits::WIDEST) {
        Ok(source) => source,
        Err(error) => return refused("", &format!("input: {error}")),
    };
    let (mut outputs, mut count) = (String::new(), 0);
    let mut failure = None;
    let end = program.run(Value::of(source.root()), &[], &mut |value| {
        count += 1;
        match value.to_json() {
            // This is the limit that a job has for one record. A case with endless outputs must not
            // prevent the answers to other cases.
            Ok(_) if count > MAX_OUTPUTS => failure = Some(too_many_outputs()),
            Ok(json) if outputs.len() + json.len() > MAX_ANSWER_BYTES => {
                let most = MAX_ANSWER_BYTES >> 20;
                failure = Some(format!(
                    "the outputs are too long; {most} MiB for one input are allowed"
                ));
            }
            Ok(json) => {
                if !outputs.is_empty() {
                    outputs.push(',');
                }
                outputs.push_str(&json);
                return ControlFlow::Continue(());
            }
            Err(exhausted) => failure = Some(exhausted.to_string()),
        }
        ControlFlow::Break(())
    });
    match failure.or_else(|| end.err().map(|error: Error<'_>| error.to_string())) {
        None => format!("{{\"outputs\":[{outputs}]}}"),
        Some(message) => refused(&outputs, &message),
    }
}

fn too_many_outputs() -> String {
    format!("there are more than {MAX_OUTPUTS} outputs")
}

/// The answer to a case that fails, with the outputs that came before the failure.
fn refused(outputs: &str, message: &str) -> String {
    let mut quoted = String::new();
    zephyr_jq::json::push_quoted(&mut quoted, message);
    if outputs.is_empty() {
        return format!("{{\"error\":{quoted}}}");
    }
    format!("{{\"outputs\":[{outputs}],\"error\":{quoted}}}")
}

fn compile<'n>(
    expression: &str,
    names: impl Iterator<Item = &'n String>,
) -> Result<Program, String> {
    let options = zephyr_jq::Options {
        variables: names.cloned().collect(),
    };
    Program::compile(expression, &options).map_err(|error| error.to_string())
}

fn open(file: Option<&Path>) -> Result<Box<dyn BufRead>> {
    Ok(match file {
        None => Box::new(BufReader::new(io::stdin())),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    })
}

/// Calls `work` on a thread with the stack that programs may use. Fails if `work` panics.
fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_full_stack("eval", work)
        .context("start a thread")?
        .map_err(|_| anyhow!("the evaluator failed on the expression"))
}
