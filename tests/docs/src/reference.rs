//! Writes the pages of `docs/reference`, which are generated from the CRD, the program and the
//! chart. This module writes only these three files.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::repository::Repository;
use crate::{chart, commands, fields};

/// The definition that `make generate` prints from the types.
const DEFINITION: &str = "crds/zephyrjobs.yaml";
const FIELDS: &str = "docs/reference/zephyrjob.md";
const COMMANDS: &str = "docs/reference/kubectl-zephyr.md";
const VALUES: &str = "docs/reference/chart.md";

/// Writes all pages. The program `kubectl-zephyr` must be in the same folder as this program, where
/// cargo puts it.
pub(crate) fn write(repository: &Repository) -> Result<String> {
    let own = std::env::current_exe().context("find this program's folder")?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let pages = [
        (FIELDS, fields_page(repository)?),
        (COMMANDS, commands::page(&folder.join("kubectl-zephyr"))?),
        (VALUES, values_page(repository)?),
    ];
    for (path, text) in &pages {
        fs::write(repository.path(path), text).with_context(|| format!("write {path}"))?;
    }
    Ok(format!("wrote {} pages", pages.len()))
}

fn fields_page(repository: &Repository) -> Result<String> {
    let definition: Value = serde_saphyr::from_str(&repository.read(DEFINITION)?)
        .with_context(|| format!("read {DEFINITION}"))?;
    fields::page(&definition)
}

fn values_page(repository: &Repository) -> Result<String> {
    let schema = serde_json::from_str(&repository.read(chart::SCHEMA)?)
        .with_context(|| format!("read {}", chart::SCHEMA))?;
    chart::page(&repository.read(chart::VALUES)?, &schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_the_reference_are_current() {
        let repository = Repository::of_this_build().unwrap();
        for (path, page) in [
            (FIELDS, fields_page(&repository).unwrap()),
            (VALUES, values_page(&repository).unwrap()),
        ] {
            let there = repository.read(path).unwrap();
            assert!(
                there == page,
                "{path} is not current; write it with: make generate"
            );
        }
    }
}
