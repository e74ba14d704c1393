//! `posthouse`: mail and cluster from the command line.
//!
//! - [`args`]: where the cluster is, how output looks. [`output`]: tables for people, JSON for
//!   programs. [`exit`]: exit codes and the line that says what to do.
//! - [`account`], [`mailbox`], [`mail`], [`cluster`], [`shards`]: one file a family of commands.
//! - [`bench`]: reproducible workloads that print tables.
// The command line is where people and their files are: it touches the world itself.
#![allow(clippy::disallowed_methods)]

mod account;
mod args;
mod bench;
mod cluster;
mod exit;
mod mail;
mod mailbox;
mod output;
mod password;
mod shards;
mod uids;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use args::{Context, GlobalArgs};

/// Mail and cluster of Posthouse from the command line.
#[derive(Parser)]
#[command(name = "posthouse", version, about, after_long_help = exit::HELP)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create, look up, list and delete accounts; set passwords; freeze and close
    #[command(subcommand)]
    Account(account::Command),
    /// Create and list mailboxes of an account
    #[command(subcommand)]
    Mailbox(mailbox::Command),
    /// Deliver, append, list, search, fetch, flag and expunge messages
    #[command(subcommand)]
    Mail(mail::Command),
    /// See and change the cluster
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Measure a cluster with reproducible workloads
    #[command(subcommand)]
    Bench(bench::Command),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Completions { shell } = cli.command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "posthouse", &mut text);
        return exit::finish(output::write_stdout(&text));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return exit::finish(Err(e.into())),
    };
    exit::finish(runtime.block_on(async {
        let context = Context::new(cli.global)?;
        match cli.command {
            Command::Account(command) => account::run(context, command).await,
            Command::Mailbox(command) => mailbox::run(context, command).await,
            Command::Mail(command) => mail::run(context, command).await,
            Command::Cluster(command) => cluster::run(context, command).await,
            Command::Bench(command) => bench::run(context, command).await,
            Command::Completions { .. } => Ok(()),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for line in [
            "posthouse -o json cluster status",
            "posthouse cluster status -o json --addr a:1,b:2",
            "posthouse mail fetch ann@example.org 7 -o file.eml",
            "posthouse mail deliver --to a@b,c@d --to e@f one.eml two.eml",
            "posthouse mail flag ann@example.org 1:5,9:* --add \\Seen",
            "posthouse mail search ann@example.org INBOX --from bob --since 2024-01-31 --sort -date,size",
            "posthouse account set-password ann@example.org",
            "posthouse account app-password add ann@example.org phone",
            "posthouse account close ann@example.org",
            "posthouse bench deliver --size 4K,32K,1M --clients 1,16,64 --seconds 5",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        }
    }
}
