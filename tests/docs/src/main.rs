//! `zephyr-docs` checks the documents and writes the generated ones. This file contains the
//! arguments and connects the parts; each verb has its own file.
//!
//! The program reads and writes files of the repository. It does not use the network, so links to
//! other sites are not followed.

mod book;
mod built;
mod chart;
mod check;
mod commands;
mod fields;
mod home;
mod markdown;
mod names;
mod reference;
mod repository;
mod sources;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use repository::Repository;

const USAGE: &str = "usage: zephyr-docs check | reference | stage FOLDER | built FOLDER
  check          links, anchors and docs/SUMMARY.md of every document
  reference      writes docs/reference from the CRD, the programs and the chart
  stage FOLDER   writes the sources of the book for mdBook
  built FOLDER   links and anchors of the pages that mdBook wrote";

fn run(arguments: &[&str]) -> Result<String> {
    let repository = Repository::of_this_build()?;
    match arguments {
        ["check"] => check::check(&repository),
        ["reference"] => reference::write(&repository),
        ["stage", folder] => book::stage(&repository, Path::new(folder)),
        ["built", folder] => built::check(Path::new(folder)),
        _ => bail!("{USAGE}"),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (text, code) = match run(&arguments) {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (format!("{error:#}"), ExitCode::FAILURE),
    };
    // Nobody can be informed if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
    code
}
