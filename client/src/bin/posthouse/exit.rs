//! Exit codes that mean something, and error lines that say what to do.

use std::io::{self, Write};
use std::process::ExitCode;

use posthouse_client::Error;

use crate::output::clean;

/// Appended to `posthouse --help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  failed for another reason than below
  2  wrong usage: arguments, names, fields
  3  the account, mailbox, message, node or shard does not exist
  4  busy, unavailable or no answer: the outcome may be unknown, try again
  5  refused, read-only or too large
  6  the node belongs to another cluster

Environment:
  POSTHOUSE_ADDR  addresses of nodes, host:port, separated by commas";

/// A command's failure.
#[derive(Debug)]
pub enum Failure {
    /// A call failed.
    Call(Error),
    /// Something else; the code is the exit code.
    Other(u8, String),
}

/// A command's outcome.
pub type Outcome = Result<(), Failure>;

/// Wrong usage.
pub fn usage(message: impl Into<String>) -> Failure {
    Failure::Other(2, message.into())
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Call(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        Failure::Other(1, e.to_string())
    }
}

impl From<posthouse_client::ids::BadName> for Failure {
    fn from(e: posthouse_client::ids::BadName) -> Failure {
        usage(e.to_string())
    }
}

/// The exit code for an error.
pub fn code(error: &Error) -> u8 {
    match error {
        Error::BadRequest { .. } => 2,
        Error::NotFound { .. } => 3,
        Error::Busy { .. }
        | Error::WrongLeader { .. }
        | Error::StalePlacement { .. }
        | Error::Unavailable { .. }
        | Error::Transport { .. }
        | Error::Deadline { .. }
        | Error::NotInitialized { .. } => 4,
        Error::TooLarge { .. } | Error::ReadOnly { .. } | Error::Refused { .. } => 5,
        Error::WrongCluster { .. } => 6,
        _ => 1,
    }
}

/// What to do about an error, where more can be said than the error says itself.
fn advice(error: &Error) -> &'static str {
    match error {
        Error::NotFound { what, .. } if what == "account" => {
            "; create it with: posthouse account create NAME"
        }
        Error::NotFound { what, .. } if what == "mailbox" => {
            "; see: posthouse mailbox list ACCOUNT"
        }
        Error::Busy { .. } => "; nothing was stored, try again later",
        Error::Transport { .. } => {
            "; is posthoused running there? Name another node with --addr or POSTHOUSE_ADDR"
        }
        Error::Unavailable { .. } | Error::Deadline { .. } => {
            "; the outcome is unknown. See: posthouse cluster status"
        }
        Error::NotInitialized { .. } => {
            "; form a cluster with: posthouse cluster init, or let the node join one"
        }
        Error::ReadOnly { .. } => "; free disk space on the node, it recovers by itself",
        Error::WrongCluster { .. } => "; check --addr and --cluster",
        _ => "",
    }
}

/// The line on standard error, without its end.
pub fn line(failure: &Failure) -> String {
    let text = match failure {
        Failure::Call(error) => format!("{error}{}", advice(error)),
        Failure::Other(_, message) => message.clone(),
    };
    format!("posthouse: {}", clean(&text))
}

/// Tells the failure, if any, and gives the exit code.
pub fn finish(outcome: Outcome) -> ExitCode {
    let code = match &outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Call(error)) => code(error),
        Err(Failure::Other(code, message)) if message.is_empty() => return ExitCode::from(*code),
        Err(Failure::Other(code, _)) => *code,
    };
    if let Err(failure) = outcome {
        // Nobody is left to tell when standard error is closed.
        writeln!(io::stderr(), "{}", line(&failure)).ok();
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_the_node_says() {
        let error = Error::not_found("account", "no\nsuch\x1b[2J account");
        let line = line(&Failure::Call(error.clone()));
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains('\x1b'));
        assert!(line.contains("posthouse account create"));
        assert_eq!(code(&error), 3);
    }
}
