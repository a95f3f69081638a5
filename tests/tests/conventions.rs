//! Checks conventions in the text of every source file of the workspace: names of limits, names of
//! modules, the width of comments, and that no fixture is public. CONTRIBUTING.md gives the
//! reasons.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// How many columns a comment may have: as many as rustfmt allows for code.
const MAX_COLUMNS: usize = 100;

/// The only file that must be called `mod.rs`. Tests of another crate include it by its path, and
/// then its submodules are found only if it has this name.
const INCLUDED: &str = "operator/src/simulation/api/mod.rs";

/// In these files, comments may be wider. They become the descriptions of the API's fields, which
/// would contain the line breaks.
const DESCRIPTIONS: [&str; 2] = ["crds/src/job.rs", "crds/src/pipeline.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns all Rust files that git knows, with their text.
fn sources() -> Result<Vec<(String, String)>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "*.rs",
        ])
        .current_dir(root())
        .output()
        .context("run git")?;
    ensure!(output.status.success(), "git ls-files: {output:?}");
    let names = String::from_utf8(output.stdout)?;
    let mut sources = Vec::new();
    for name in names.lines() {
        // If a file was removed but that is not committed yet, git still lists it.
        if let Ok(text) = std::fs::read_to_string(root().join(name)) {
            sources.push((name.to_owned(), text));
        }
    }
    ensure!(sources.len() > 100, "git lists {} files", sources.len());
    Ok(sources)
}

/// Returns an error that lists every line for which `is_bad` returns true, by file and number.
fn check(rule: &str, is_bad: impl Fn(&str, &str) -> bool) -> Result<()> {
    let mut found = Vec::new();
    for (name, text) in sources()? {
        let lines = (1..).zip(text.lines());
        let bad = lines.filter(|(_, line)| is_bad(&name, line));
        found.extend(bad.map(|(number, line)| format!("{name}:{number}: {}", line.trim())));
    }
    ensure!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
    Ok(())
}

/// Returns the name of the constant that a line declares.
fn constant(line: &str) -> Option<&str> {
    let declaration = line.trim_start().trim_start_matches("pub ");
    let declaration = declaration
        .strip_prefix("pub(crate) ")
        .or_else(|| declaration.strip_prefix("pub(super) "))
        .unwrap_or(declaration);
    let rest = declaration
        .strip_prefix("const ")
        .or_else(|| declaration.strip_prefix("static "))?;
    let (name, _) = rest.split_once(':')?;
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.chars().all(is_name).then_some(name)
}

#[test]
fn the_name_of_a_limit_begins_with_max_or_min() -> Result<()> {
    check("name a limit MAX_… or MIN_…", |_, line| {
        constant(line).is_some_and(|name| {
            let mut words = name.split('_').skip(1);
            words.any(|word| word == "MAX" || word == "MIN")
        })
    })
}

#[test]
fn a_module_with_submodules_is_in_a_file_of_its_own_name() -> Result<()> {
    let misplaced: Vec<String> = sources()?
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.contains("/src/") && name.ends_with("/mod.rs"))
        .filter(|name| name != INCLUDED)
        .collect();
    ensure!(
        misplaced.is_empty(),
        "write name.rs beside the folder name/, not name/mod.rs: {misplaced:?}"
    );
    Ok(())
}

#[test]
fn comments_are_as_wide_as_code() -> Result<()> {
    check("wrap comments at 100 columns", |name, line| {
        let text = line.trim_start();
        let Some(comment) = text.strip_prefix("//") else {
            return false;
        };
        let comment = comment.trim_start_matches(['/', '!']).trim_start();
        let is_table = comment.starts_with('|');
        let can_be_broken = comment.contains(' ');
        let is_description = DESCRIPTIONS.contains(&name);
        !is_description && line.chars().count() > MAX_COLUMNS && can_be_broken && !is_table
    })
}

#[test]
fn no_module_of_tests_is_public() -> Result<()> {
    check("write pub(crate) mod tests", |_, line| {
        let line = line.trim();
        ["tests", "fixtures", "fake"]
            .iter()
            .any(|name| line == format!("pub mod {name};") || line == format!("pub mod {name} {{"))
    })
}
