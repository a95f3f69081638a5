//! Counts words without our own code: with `tr`, `grep`, `sort` and `uniq` over the same bytes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Counts runs of the letters a to z, ignoring case, in all files of a folder. Returns one line per
/// word, in byte order, such as `{"key":"the","count":12}`. This is the format that
/// `examples/wordcount.yaml` writes.
pub fn count(folder: &Path) -> Result<String> {
    let script = r#"cat -- "$1"/* | LC_ALL=C tr A-Z a-z | LC_ALL=C grep -oE '[a-z]+' | LC_ALL=C sort | LC_ALL=C uniq -c |
        LC_ALL=C awk '{ printf "{\"key\":\"%s\",\"count\":%d}\n", $2, $1 }'"#;
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", script, "count"])
        .arg(folder)
        .output()
        .context("run bash")?;
    if !output.status.success() {
        bail!("count words: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns the lines of several output files as one text, in byte order. Two outputs are compared
/// in this form.
pub fn canonical(files: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<String> {
    let mut lines = Vec::new();
    for file in files {
        let text = std::str::from_utf8(file.as_ref())
            .context("output is UTF-8")?
            .to_owned();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort_unstable();
    Ok(lines
        .iter()
        .flat_map(|line| [line.as_str(), "\n"])
        .collect())
}

/// Returns the names and bytes of the files in a folder, ordered by name.
pub fn read_folder(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        files.push((name, fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}
