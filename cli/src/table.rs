//! Tables and times for people. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::terminal::printable;

/// Spaces between two columns, as in the tables of kubectl.
const GAP: usize = 3;

/// A table whose columns are as wide as their widest cell. A cell without text is a dash.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut lines = vec![
        head.iter()
            .map(|cell| (*cell).to_owned())
            .collect::<Vec<_>>(),
    ];
    lines.extend(rows.into_iter().map(|row| {
        let cells = row.iter().map(|cell| printable(cell));
        cells
            .map(|cell| {
                if cell.is_empty() {
                    "-".to_owned()
                } else {
                    cell
                }
            })
            .collect()
    }));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{cell:width$}");
        }
        let _ = writeln!(text, "{}", shown.trim_end());
    }
    text
}

/// How long ago a time was, as kubectl prints it: `45s`, `12m`, `3h`, `5d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    length(now.as_second() - since.as_second())
}

/// A number of seconds, rounded down to one unit.
pub(crate) fn length(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let seconds = seconds.max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / MINUTE),
        7_200..172_800 => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_spaces_at_the_end_of_lines_and_dashes_for_nothing() {
        let rows = [vec!["long name".to_owned(), String::new()]];
        assert_eq!(table(&["A", "B"], rows), "A           B\nlong name   -\n");
    }

    #[test]
    fn times_have_one_unit() {
        let lengths = [-5, 0, 119, 120, 7_199, 7_200, 172_800].map(length);
        assert_eq!(lengths, ["0s", "0s", "119s", "2m", "119m", "2h", "2d"]);
    }
}
