//! Tables for people, one JSON document for programs, progress on standard error.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::exit::{Failure, Outcome};

/// Writes to standard output. A reader that has gone away (`posthouse … | head`) ends the
/// program quietly.
pub fn write_stdout(octets: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(octets).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Other(0, String::new())),
        Err(e) => Err(e.into()),
    }
}

/// Writes a line to standard output.
pub fn say(line: &str) -> Outcome {
    write_stdout(format!("{line}\n").as_bytes())
}

/// Writes a remark to standard error, where it is in nobody's way.
pub fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    writeln!(io::stderr(), "posthouse: {}", clean(text)).ok();
}

/// Prints one JSON document.
pub fn print_json<T: Serialize>(value: &T) -> Outcome {
    let mut text = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    text.push(b'\n');
    write_stdout(&text)
}

/// Text of strangers, made harmless for a terminal: control characters and those that change the
/// direction of writing are shown as escapes.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let breaks = matches!(c, '\u{2028}' | '\u{2029}');
        match c {
            '\t' => out.push(' '),
            c if c.is_control() || turns || breaks => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// One line under the header and nothing else: easy on the eyes, and on grep and awk.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table: columns whose name starts with '#' are numbers and lean to the right.
pub struct Columns {
    table: Table,
    numeric: Vec<bool>,
}

impl Columns {
    /// An empty table.
    pub fn new(names: &[&str]) -> Columns {
        let mut table = Table::new();
        table
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic);
        let numeric: Vec<bool> = names.iter().map(|n| n.starts_with('#')).collect();
        let cells = names.iter().zip(&numeric);
        table.set_header(cells.map(|(n, right)| cell(n.trim_start_matches('#'), *right)));
        Columns { table, numeric }
    }

    /// Adds a row of cells, which are made harmless.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        let cells = cells.into_iter().zip(&self.numeric);
        self.table
            .add_row(cells.map(|(text, right)| cell(&clean(&text), *right)));
    }

    /// The table as text; lines have no spaces at their ends.
    pub fn text(&self) -> String {
        let lines = self.table.lines();
        lines.map(|l| format!("{}\n", l.trim_end())).collect()
    }

    /// Prints the table, or `nothing` when it has no rows.
    pub fn print(&self, nothing: &str) -> Outcome {
        match self.table.is_empty() {
            true => say(nothing),
            false => write_stdout(self.text().as_bytes()),
        }
    }
}

fn cell(text: &str, right: bool) -> Cell {
    let alignment = if right {
        CellAlignment::Right
    } else {
        CellAlignment::Left
    };
    Cell::new(text).set_alignment(alignment)
}

/// Octets in a unit that people can read.
pub fn octets(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Milliseconds since 1970 as RFC 3339 in UTC; "-" for 0.
pub fn time(ms: u64) -> String {
    if ms == 0 {
        return "-".into();
    }
    let seconds = ms / 1000;
    // Years that start in March make the leap day the last of the year (Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms").
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// A progress bar on standard error, shown only on a terminal. `len` 0: unknown.
pub fn progress(len: u64, what: &str, in_octets: bool) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match len {
        0 => ProgressBar::no_length(),
        len => ProgressBar::new(len),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    let template = match in_octets {
        true => "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        false => "{msg} [{wide_bar}] {human_pos}/{human_len} {per_sec} {eta}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_drive_the_terminal() {
        let hostile = "a\x1b]0;owned\x07\r\nb\u{202e}c\u{9b}d\te\u{2066}";
        let shown = clean(hostile);
        assert!(shown.chars().all(|c| !c.is_control()));
        assert_eq!(
            shown,
            r"a\u{1b}]0;owned\u{7}\r\nb\u{202e}c\u{9b}d e\u{2066}"
        );
        assert_eq!(clean("Grüße, 世界"), "Grüße, 世界");
    }

    #[test]
    fn tables_line_up_and_stay_one_line_a_row_without_a_terminal() {
        let mut columns = Columns::new(&["Name", "#Size"]);
        columns.row(["a".repeat(300), "5".into()]);
        columns.row(["b\nc".into(), "12345".into()]);
        let text = columns.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[2].ends_with("    5") && lines[3].ends_with("12345"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn times_and_sizes_are_readable() {
        assert_eq!(time(0), "-");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_709_251_199_999), "2024-02-29T23:59:59Z");
        assert_eq!(time(1_735_689_600_000), "2025-01-01T00:00:00Z");
        assert_eq!(octets(1023), "1023 B");
        assert_eq!(octets(1536), "1.5 KiB");
        assert_eq!(octets(u64::MAX), "16384.0 PiB");
    }
}
