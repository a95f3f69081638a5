//! Prints results to standard output and everything else to standard error. Decides nothing.

use std::io::{self, Write as _};

use zephyr_engine::plan::counted;

/// Prints a result. If the reader has closed the pipe (`| head`), this returns an error, and the
/// caller ends quietly.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Prints a line for people, beside the result.
pub(crate) fn note(text: &str) {
    // If standard error is closed, nobody can be informed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints why the program fails.
pub(crate) fn error(text: &str) {
    note(&format!("error: {text}"));
}

/// An error with its causes. A cause is left out if the error already contains its text, because
/// many errors do.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |shown, cause| {
        let cause = cause.to_string();
        if shown.is_empty() {
            cause
        } else if shown.contains(&cause) {
            shown
        } else {
            format!("{shown}: {cause}")
        }
    })
}

/// Whether an error only says that the reader of the output has closed it.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Foreign text prepared for a terminal: control characters and direction marks are made visible
/// and have no effect.
pub(crate) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| {
            if hidden(c) {
                c.escape_unicode().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// A number of bytes for people: `1.4 GB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// What commands have counted, for people.
pub(crate) fn counters_text(counters: &[(String, u64)]) -> String {
    let counters = counters.iter();
    let counters = counters.map(|(name, count)| format!("{} = {count}", printable(name)));
    counters.collect::<Vec<_>>().join(", ")
}

/// Bad records that were skipped at one place of a job, for people.
pub(crate) fn skipped_text(place: &str, records: u64, first: &str) -> String {
    let records = counted(records, "record");
    if first.is_empty() {
        return format!("{records} at {place}");
    }
    format!("{records} at {place}, the first: {}", printable(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_would_move_the_cursor_are_made_visible() {
        assert_eq!(
            printable("a\u{1b}[31mb\u{202e}\u{7}"),
            "a\\u{1b}[31mb\\u{202e}\\u{7}"
        );
        assert_eq!(printable("naïve 🙂"), "naïve 🙂");
    }

    #[test]
    fn a_cause_that_an_error_already_contains_is_not_repeated() {
        let repeated = anyhow::anyhow!("denied").context("write: denied");
        assert_eq!(sentence(&repeated.context("run")), "run: write: denied");
    }

    #[test]
    fn bytes_are_rounded_for_people() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_400_000_000), "1.4 GB");
    }
}
