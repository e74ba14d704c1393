//! The numbers side by side: medians, and how many times as good Posthouse is.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// One line under the header and nothing else.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Messages in a second: more is better.
    MessagesPerSecond,
    /// 10^6 octets in a second: more is better.
    MegabytesPerSecond,
    /// Less is better.
    Milliseconds,
    /// 1024 octets: less is better.
    Kib,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::MessagesPerSecond => "msg/s",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::Milliseconds => "ms",
            Unit::Kib => "KiB",
        }
    }

    /// How many times as good `a` is as `b`.
    fn ratio(self, a: f64, b: f64) -> f64 {
        match self {
            Unit::MessagesPerSecond | Unit::MegabytesPerSecond => a / b,
            Unit::Milliseconds | Unit::Kib => b / a,
        }
    }
}

/// One line of the table under way: the samples of each side.
pub struct Line {
    what: String,
    unit: Unit,
    samples: Vec<Vec<f64>>,
}

/// All lines, in the order in which they were first measured.
pub struct Lines {
    sides: Vec<String>,
    lines: Vec<Line>,
}

impl Lines {
    /// No lines yet; the first side is the one that the others are compared with.
    pub fn new(sides: Vec<String>) -> Lines {
        Lines {
            sides,
            lines: Vec::new(),
        }
    }

    /// Adds a sample of a side.
    pub fn add(&mut self, what: &str, unit: Unit, side: usize, sample: f64) {
        eprintln!("    {:16} {what}: {}", self.sides[side], shown(sample));
        let at = self.lines.iter().position(|l| l.what == what);
        let at = at.unwrap_or_else(|| {
            self.lines.push(Line {
                what: what.to_owned(),
                unit,
                samples: vec![Vec::new(); self.sides.len()],
            });
            self.lines.len() - 1
        });
        self.lines[at].samples[side].push(sample);
    }

    /// Whether a side has a sample of this line.
    pub fn has(&self, what: &str, side: usize) -> bool {
        let line = self.lines.iter().find(|l| l.what == what);
        line.is_some_and(|l| !l.samples[side].is_empty())
    }

    /// Prints the table, and what is slower than on the other sides.
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(STYLE);
        let mut head = vec![String::new(), "unit".to_owned(), self.sides[0].clone()];
        for side in &self.sides[1..] {
            head.extend([side.clone(), "ratio".to_owned()]);
        }
        table.set_header(head);
        let mut slower = Vec::new();
        for line in &self.lines {
            let medians: Vec<f64> = line.samples.iter().map(|s| median(s)).collect();
            let mut row = vec![
                line.what.clone(),
                line.unit.name().to_owned(),
                shown(medians[0]),
            ];
            for (side, other) in self.sides.iter().zip(&medians).skip(1) {
                let ratio = line.unit.ratio(medians[0], *other);
                row.extend([shown(*other), format!("{ratio:.2}")]);
                if ratio < 1.0 {
                    slower.push(format!("{} ({side}: {ratio:.2})", line.what));
                }
            }
            table.add_row(row);
        }
        for column in 2..table.column_count() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("\n{table}\n");
        println!(
            "Medians. A ratio says how many times as good Posthouse is: over 1, it is better."
        );
        match slower.is_empty() {
            true => println!("Posthouse is as good or better on every line."),
            false => println!("Posthouse is behind on: {}.", slower.join("; ")),
        }
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

fn shown(n: f64) -> String {
    match n.abs() {
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}
