//! Checks that every address of this repository and of its images is the one in
//! `.github/release/home`. The script `.github/release/move-home` writes that address everywhere.
//! This module only reads.

use anyhow::{Context as _, Result};

use crate::repository::Repository;

/// The file with the address. It contains `OWNER/REPOSITORY` until the repository has an address.
const HOME: &str = ".github/release/home";

/// Placeholders for the parts of the address. They are allowed only within addresses.
const PLACEHOLDERS: [&str; 2] = ["OWNER", "REPOSITORY"];

/// Pages that explain the placeholders, and so contain them outside of addresses.
const OTHERS: [&str; 1] = ["CONTRIBUTING.md"];

/// Returns one line for each other address, and for each placeholder outside of an address.
pub(crate) fn mistakes(repository: &Repository) -> Result<Vec<String>> {
    if !repository.has(HOME) {
        return Ok(Vec::new());
    }
    let home = repository.read(HOME)?;
    let home = home.trim();
    let (owner, _) = home
        .split_once('/')
        .with_context(|| format!("{HOME}: is not OWNER/NAME (got {home})"))?;
    let mut mistakes = Vec::new();
    for file in repository.texts().filter(|file| !OTHERS.contains(file)) {
        for (number, line) in (1..).zip(repository.read(file)?.lines()) {
            if let Some(what) = mistake(line, owner, home) {
                mistakes.push(format!(
                    "{file}:{number}: {what}; .github/release/move-home writes all addresses"
                ));
            }
        }
    }
    Ok(mistakes)
}

/// Returns what is wrong with a line, if anything is.
fn mistake(line: &str, owner: &str, home: &str) -> Option<String> {
    let images = if owner == PLACEHOLDERS[0] {
        owner.to_owned()
    } else {
        owner.to_lowercase()
    };
    let rest = line
        .replace(&format!("ghcr.io/{images}/"), "")
        .replace(&format!("github.com/{home}/"), "")
        .replace(&format!("--owner {owner}"), "");
    let word = |text: &str| {
        let is_end = |c: char| c.is_whitespace() || "\"'`)<>".contains(c);
        text.split(is_end).next().unwrap_or_default().to_owned()
    };
    if let Some((_, other)) = rest.split_once("ghcr.io/") {
        let other = word(other);
        let is_variable = other.starts_with('$');
        if !is_variable {
            return Some(format!(
                "is not the registry of {home} (got ghcr.io/{other})"
            ));
        }
    }
    if let Some((before, after)) = rest.split_once("/releases/download/")
        && before.contains("github.com/")
    {
        return Some(format!(
            "is not a release of {home} (got …/releases/download/{})",
            word(after)
        ));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    rest.split(|c| !is_name(c))
        .find(|word| PLACEHOLDERS.contains(word))
        .map(|word| format!("has a placeholder outside of an address (got {word})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_repository_is_the_one_of_its_home() {
        let repository = Repository::of_this_build().unwrap();
        assert!(repository.has(HOME));
        let found = mistakes(&repository).unwrap();
        assert_eq!(found, [] as [&str; 0], "{}", found.join("\n"));
    }

    #[test]
    fn an_address_that_was_forgotten_is_found() {
        for (line, is_found) in [
            (
                "helm install oci://ghcr.io/ada/charts/zephyr-operator",
                false,
            ),
            (
                "helm install oci://ghcr.io/OWNER/charts/zephyr-operator",
                true,
            ),
            (
                "helm install oci://ghcr.io/Ada/charts/zephyr-operator",
                true,
            ),
            (
                "https://github.com/Ada/zephyr/releases/download/v1/install.yaml",
                false,
            ),
            (
                "https://github.com/OWNER/REPOSITORY/releases/download/v1/install.yaml",
                true,
            ),
            (
                "https://github.com/other/zephyr/releases/download/v1/install.yaml",
                true,
            ),
            (
                "gh attestation verify oci://ghcr.io/ada/x --owner Ada",
                false,
            ),
            ("gh attestation verify --owner OWNER", true),
            ("registry: ghcr.io", false),
            ("REGISTRY: ghcr.io/${{ github.repository_owner }}", false),
            (
                "run: package \"https://github.com/$GITHUB_REPOSITORY\"",
                false,
            ),
            ("https://github.com/jqlang/jq", false),
        ] {
            let found = mistake(line, "Ada", "Ada/zephyr");
            assert_eq!(found.is_some(), is_found, "{line}: {found:?}");
        }
        let placeholder =
            "ghcr.io/OWNER/x https://github.com/OWNER/REPOSITORY/releases/download/v1";
        assert_eq!(mistake(placeholder, "OWNER", "OWNER/REPOSITORY"), None);
        assert!(mistake("`OWNER` is the owner", "OWNER", "OWNER/REPOSITORY").is_some());
    }
}
