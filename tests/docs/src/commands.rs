//! Makes the page about the commands of the plugin, from the help that the program itself prints.
//! This module runs `kubectl-zephyr --help`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

const HEAD: &str = "<!-- Written by `make generate` from what the program prints. Change the arguments in cli/src instead. -->

# Commands of kubectl zephyr

What `kubectl zephyr help` and `kubectl zephyr help VERB` print. [The plugin](../plugin.md) says
what the verbs are for.
";

/// Returns the page, from the program at this path.
pub(crate) fn page(program: &Path) -> Result<String> {
    let overview = help(program, &["--help"])?;
    let mut page = HEAD.to_owned();
    let verbs = verbs(&overview);
    ensure!(!verbs.is_empty(), "{} has no verbs", program.display());
    let _ = write!(page, "\n```text\n{}\n```\n", overview.trim_end());
    for verb in verbs {
        let text = help(program, &[verb, "--help"])?;
        let _ = write!(page, "\n## {verb}\n\n```text\n{}\n```\n", text.trim_end());
    }
    Ok(page)
}

fn help(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} {arguments:?} failed",
        program.display()
    );
    let text = String::from_utf8(output.stdout).context("read the help")?;
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n"))
}

/// Returns the names under "Commands:", without `help` itself.
fn verbs(overview: &str) -> Vec<&str> {
    let (_, list) = overview.split_once("Commands:\n").unwrap_or_default();
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verbs_are_those_that_the_overview_lists() {
        let overview = "About.\n\nUsage: x <COMMAND>\n\nCommands:\n  run   Runs.\n  plan  Plans.\n  help  Prints.\n\nOptions:\n  -h\n";
        assert_eq!(verbs(overview), ["run", "plan"]);
        assert_eq!(verbs("no commands"), [] as [&str; 0]);
    }
}
