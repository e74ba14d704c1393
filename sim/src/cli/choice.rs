//! What to run: a seed with the choices that a user may fix, or the file of a plan.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::exit::{Failure, usage};
use super::output;
use crate::plan::generate::{Choice, generate};
use crate::plan::{Plan, Transport};
use crate::version::version;

/// What users may fix; the rest is drawn from the seed.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "What is drawn from the seed unless it is given")]
pub struct ChoiceArgs {
    /// Nodes at the beginning, 1 to 9
    #[arg(long, value_name = "N")]
    nodes: Option<u32>,
    /// Zones, at most as many as nodes
    #[arg(long, value_name = "N")]
    zones: Option<u32>,
    /// Data shards, 1 to 128
    #[arg(long, value_name = "N")]
    shards: Option<u32>,
    /// Replicas of a shard, 1 to 9
    #[arg(long, value_name = "N")]
    replication: Option<u32>,
    /// How gRPC travels
    #[arg(long, value_enum)]
    transport: Option<TransportArg>,
    /// Milliseconds of operations and faults
    #[arg(long, value_name = "MS")]
    duration_ms: Option<u64>,
    /// Number of operations, about
    #[arg(long, value_name = "N")]
    ops: Option<u32>,
    /// off: also faults that exceed what replication promises
    #[arg(long, value_enum)]
    budget: Option<Switch>,
    /// off: nothing goes wrong; on: something does in every seed
    #[arg(long, value_enum)]
    faults: Option<Switch>,
    /// on: the settings that are shipped; off: those that make rare branches common
    #[arg(long, value_enum)]
    shipped: Option<Switch>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum TransportArg {
    Message,
    Http2,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Switch {
    On,
    Off,
}

impl Switch {
    fn is_on(self) -> bool {
        matches!(self, Switch::On)
    }
}

impl ChoiceArgs {
    /// The choice; a plan of it is checked, so that a bad value is refused before anything runs.
    pub fn choice(&self) -> Result<Choice, Failure> {
        let choice = Choice {
            nodes: self.nodes,
            zones: self.zones,
            shards: self.shards,
            replication: self.replication,
            transport: self.transport.map(|t| match t {
                TransportArg::Message => Transport::Message,
                TransportArg::Http2 => Transport::Http2,
            }),
            duration_ms: self.duration_ms,
            budget: self.budget.map(Switch::is_on),
            faults: self.faults.map(Switch::is_on),
            ops: self.ops,
            shipped: self.shipped.map(Switch::is_on),
            title: None,
        };
        if let Some(nodes @ (0 | 10..)) = self.nodes {
            return Err(usage(format!("--nodes cannot be {nodes}: 1 to 9")));
        }
        if self.ops > Some(10_000) {
            return Err(usage("--ops cannot be more than 10000"));
        }
        if self.duration_ms.is_some_and(|ms| ms < 100) {
            return Err(usage("--duration-ms cannot be less than 100"));
        }
        generate(0, &choice).check()?;
        Ok(choice)
    }
}

/// One plan that is to be run, and how to run it again.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The plan.
    pub plan: Plan,
    /// The arguments that run it: `run --seed 5 --nodes 3`.
    pub again: String,
}

impl Subject {
    /// The plan of a seed.
    pub fn of_seed(seed: u64, choice: &Choice) -> Subject {
        Subject {
            plan: generate(seed, choice),
            again: format!("run --seed {seed}{}", choice.options()),
        }
    }

    /// The plan in a file.
    pub fn of_file(path: &Path) -> Result<Subject, Failure> {
        Ok(Subject {
            plan: Plan::parse(&output::read(path)?, path)?,
            again: format!("replay {}", quoted(path)),
        })
    }

    /// The plan of a seed or of a file, whatever the argument is.
    pub fn of_argument(argument: &str, choice: &ChoiceArgs) -> Result<Subject, Failure> {
        match argument.parse() {
            Ok(seed) => Ok(Subject::of_seed(seed, &choice.choice()?)),
            Err(_) => Subject::of_file(&PathBuf::from(argument)).map_err(|e| match e {
                Failure::Usage(text) => usage(format!("{text} (neither a seed nor a plan)")),
                other => other,
            }),
        }
    }

    /// The one line that reproduces the run.
    pub fn line(&self) -> String {
        format!("posthouse-sim {}  # version {}", self.again, version())
    }
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        choice: ChoiceArgs,
    }

    fn choice(line: &str) -> Result<Choice, Failure> {
        let line = format!("x {line}");
        Line::try_parse_from(line.split_whitespace())
            .unwrap()
            .choice
            .choice()
    }

    #[test]
    fn the_line_that_reproduces_says_the_same_as_the_arguments() {
        let line = "--nodes 3 --zones 2 --shards 4 --replication 1 --duration-ms 900 --ops 70 \
                    --transport http2 --budget off --faults on --shipped off";
        let chosen = choice(line).unwrap();
        let subject = Subject::of_seed(9, &chosen);
        let again = subject.again.strip_prefix("run --seed 9").unwrap();
        assert_eq!(choice(again).unwrap(), chosen);
        assert!(
            subject
                .line()
                .ends_with(&format!("# version {}", version()))
        );
        assert_eq!(
            Subject::of_seed(9, &Choice::default()).again,
            "run --seed 9"
        );
    }

    #[test]
    fn values_that_cannot_be_run_are_refused() {
        for line in [
            "--nodes 0",
            "--nodes 10",
            "--shards 0",
            "--replication 12",
            "--duration-ms 3",
        ] {
            assert!(choice(line).is_err(), "{line}");
        }
        assert_eq!(quoted(Path::new("a b'c")), r"'a b'\''c'");
        assert_eq!(quoted(Path::new("/x/y-1.toml")), "/x/y-1.toml");
    }
}
