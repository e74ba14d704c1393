//! `posthouse bench`: reproducible workloads that print a table.
//!
//! Every bench is bounded in count and time, and prints the line that repeats it.

mod deliver;
mod message;
mod nodes;
mod open;
mod process;
mod stats;

use clap::Subcommand;

use crate::args::Context;
use crate::exit::Outcome;

#[derive(Subcommand)]
pub enum Command {
    /// Deliver messages of several sizes from several clients
    Deliver(deliver::DeliverArgs),
    /// Open and page mailboxes of several sizes
    Open(open::OpenArgs),
}

pub async fn run(context: Context, command: Command) -> Outcome {
    match command {
        Command::Deliver(args) => deliver::run(context, args).await,
        Command::Open(args) => open::run(context, args).await,
    }
}

/// Reads a number of octets: 300, 4K, 32K, 1M.
fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        _ => (text, 1),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(n) if (1..=150 << 20).contains(&n) => Ok(n),
        _ => Err(format!("{text:?} is not a size from 1 to 150M")),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("300"), Ok(300));
        assert_eq!(size("4K"), Ok(4096));
        assert_eq!(size("1m"), Ok(1 << 20));
        for bad in ["", "K", "0", "-1", "151M", "4G", "99999999999999999999K"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
