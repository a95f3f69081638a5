//! The measurements as a table; each row is also printed on stderr as soon as it is known. Measures
//! nothing.

use std::fmt;
use std::time::Duration;

const HEAD: [&str; 3] = ["what", "measured", "target"];

/// The rows so far.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 3]>);

impl Table {
    /// Adds a row.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        measured: impl Into<String>,
        target: &str,
    ) {
        let row = [what.into(), measured.into(), target.to_owned()];
        eprintln!("bench: {}: {}", row[0], row[1]);
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = HEAD.map(str::to_owned);
        let lines = || std::iter::once(&head).chain(&self.0);
        let width = |column: usize| {
            lines()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let [what, measured] = [width(0), width(1)];
        for line in lines() {
            writeln!(
                f,
                "{:<what$} | {:<measured$} | {}",
                line[0], line[1], line[2]
            )?;
        }
        Ok(())
    }
}

/// Milliseconds for short durations, otherwise seconds.
pub(crate) fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", duration.as_secs_f64())
    }
}

/// The median and the maximum.
pub(crate) fn median_and_longest(durations: &mut [Duration]) -> String {
    format!(
        "{} (longest of {}: {})",
        time(percentile(durations, 50)),
        durations.len(),
        time(percentile(durations, 100))
    )
}

/// The duration that this percentage does not exceed; none if there are no durations.
pub(crate) fn percentile(durations: &mut [Duration], percent: usize) -> Duration {
    durations.sort();
    let place = (durations.len() * percent).div_ceil(100).max(1) - 1;
    durations.get(place).copied().unwrap_or_default()
}
