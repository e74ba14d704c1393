//! Tables and lines on standard output, progress on standard error, files.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::exit::{Failure, Outcome, usage};

/// Writes text to standard output. A reader that has gone away (`… | head`) ends the program
/// quietly.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unheard),
        Err(e) => Err(Failure::Broken(format!("cannot write the output: {e}"))),
    }
}

/// Writes a line to standard output.
pub fn say(line: &str) -> Outcome {
    print(&format!("{line}\n"))
}

/// Writes a remark to standard error, where it is in nobody's way.
pub fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    writeln!(io::stderr(), "posthouse-sim: {text}").ok();
}

/// Writes one JSON object on one line.
pub fn json(value: &serde_json::Value) -> Outcome {
    say(&value.to_string())
}

/// Reads a file that the user has named.
pub fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| usage(format!("cannot read {}: {e}", path.display())))
}

/// Writes a file that the user has named.
pub fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text)
        .map_err(|e| Failure::Broken(format!("cannot write {}: {e}", path.display())))
}

/// One line under the header and nothing else: easy on the eyes, and on grep and awk.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table as text. Columns whose name starts with '#' are numbers and lean to the right.
pub fn table(names: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |text: &str, name: &str| {
        let alignment = match name.starts_with('#') {
            true => CellAlignment::Right,
            false => CellAlignment::Left,
        };
        Cell::new(text).set_alignment(alignment)
    };
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(names.iter().map(|n| cell(n.trim_start_matches('#'), n)));
    for row in rows {
        table.add_row(row.iter().zip(names).map(|(text, name)| cell(text, name)));
    }
    table
        .lines()
        .map(|l| format!("{}\n", l.trim_end()))
        .collect()
}

/// A bar on standard error, shown only on a terminal; `len` `None`: nobody knows how many.
pub fn bar(len: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match len {
        Some(len) => ProgressBar::new(len),
        None => ProgressBar::no_length(),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    let template = match len {
        Some(_) => "{elapsed_precise} [{wide_bar}] {human_pos}/{human_len} {msg}",
        None => "{elapsed_precise} {spinner} {human_pos} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// A sign that something goes on, for what has no steps.
pub fn spinner(what: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(125));
    bar
}

/// Octets in a unit that people can read.
pub fn octets(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let (mut value, mut unit) = (n as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Simulated time in a unit that people can read.
pub fn span(ms: u64) -> String {
    let seconds = ms as f64 / 1000.0;
    let days = seconds / 86_400.0;
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 2.0 * 86_400.0 => format!("{:.1} h", s / 3600.0),
        _ if days < 60.0 => format!("{days:.1} days"),
        _ => format!("{:.3} years", days / 365.25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_readable() {
        assert_eq!(octets(1023), "1023 B");
        assert_eq!(octets(1536), "1.5 KiB");
        assert_eq!(span(31_250), "31.2 s");
        assert_eq!(span(3_600_000), "60.0 min");
        assert_eq!(span(86_400_000 * 365), "0.999 years");
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            vec!["a".into(), "5".into()],
            vec!["bcd".into(), "1234".into()],
        ];
        let text = table(&["name", "#count"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[2].ends_with("    5") && lines[3].ends_with("1234"),
            "{text}"
        );
    }
}
