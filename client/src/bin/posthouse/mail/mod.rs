//! `posthouse mail`.

mod read;
mod search;
mod send;

use clap::{ArgGroup, Args, Subcommand};
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::proto::FlagMode;
use posthouse_client::{Client, FlagChange};
use serde_json::json;

use crate::args::Context;
use crate::exit::{Outcome, usage};
use crate::output::{print_json, say};
use crate::uids::{self, UidSet};

#[derive(Subcommand)]
pub enum Command {
    /// Deliver messages to one or several recipients
    Deliver(send::DeliverArgs),
    /// Append messages to a mailbox
    Append(send::AppendArgs),
    /// List the messages of a mailbox
    List(read::ListArgs),
    /// Find messages that meet all conditions
    Search(search::SearchArgs),
    /// Write the octets of a message to standard output, or with -o FILE to a file
    Fetch(read::FetchArgs),
    /// Add, remove or set flags of messages
    Flag(FlagArgs),
    /// Show messages in another mailbox, too
    Copy(CopyArgs),
    /// Show messages in another mailbox instead
    Move(CopyArgs),
    /// Remove messages that carry \Deleted
    Expunge(ExpungeArgs),
}

#[derive(Args)]
pub struct CopyArgs {
    /// Whose mailboxes
    account: String,
    /// Which messages, e.g. 1:5,9,20:*
    #[arg(value_parser = uids::parse)]
    uids: UidSet,
    /// The mailbox that they come into
    to: String,
    /// The mailbox that they are in
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// The account that they come into, when it is another one
    #[arg(long, value_name = "ACCOUNT")]
    to_account: Option<String>,
}

#[derive(Args)]
#[command(group(ArgGroup::new("mode").required(true).args(["add", "remove", "set"])))]
pub struct FlagArgs {
    /// Whose mailbox
    account: String,
    /// Which messages, e.g. 1:5,9,20:*
    #[arg(value_parser = uids::parse)]
    uids: UidSet,
    /// The mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Add these flags, e.g. \Seen
    #[arg(long, value_delimiter = ',', value_name = "FLAG")]
    add: Vec<String>,
    /// Remove these flags
    #[arg(long, value_delimiter = ',', value_name = "FLAG")]
    remove: Vec<String>,
    /// Replace all flags by these
    #[arg(long, value_delimiter = ',', value_name = "FLAG")]
    set: Vec<String>,
    /// Only messages that have not changed since this modseq
    #[arg(long, value_name = "MODSEQ")]
    unchanged_since: Option<u64>,
}

#[derive(Args)]
pub struct ExpungeArgs {
    /// Whose mailbox
    account: String,
    /// Which messages, e.g. 1:5,9; none: all
    #[arg(value_parser = uids::parse)]
    uids: Option<UidSet>,
    /// The mailbox
    #[arg(long, default_value = "INBOX")]
    mailbox: String,
    /// Also messages without \Deleted
    #[arg(long)]
    force: bool,
}

pub async fn run(context: Context, command: Command) -> Outcome {
    if !matches!(command, Command::Fetch(_)) {
        context.json()?;
    }
    let (client, _) = context.client().await?;
    match command {
        Command::Deliver(args) => send::deliver(&context, &client, args).await,
        Command::Append(args) => send::append(&context, &client, args).await,
        Command::List(args) => read::list(&context, &client, args).await,
        Command::Search(args) => search::search(&context, &client, args).await,
        Command::Fetch(args) => read::fetch(&context, &client, args).await,
        Command::Flag(args) => flag(&context, &client, args).await,
        Command::Copy(args) => copy(&context, &client, args, false).await,
        Command::Move(args) => copy(&context, &client, args, true).await,
        Command::Expunge(args) => expunge(&context, &client, args).await,
    }
}

async fn flag(context: &Context, client: &Client, args: FlagArgs) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    let (mode, flags) = match (args.add.is_empty(), args.remove.is_empty()) {
        (false, _) => (FlagMode::Add, args.add),
        (_, false) => (FlagMode::Remove, args.remove),
        _ => (FlagMode::Replace, args.set),
    };
    let change = FlagChange {
        uids: args.uids.0,
        mode,
        flags: flags.into_iter().filter(|f| !f.is_empty()).collect(),
        unchanged_since: args.unchanged_since,
    };
    let done = client.set_flags(&account, &mailbox, change, None).await?;
    if context.json()? {
        return print_json(&json!({
            "modseq": done.modseq,
            "changed": done.changed,
            "modified": done.modified,
        }));
    }
    say(&format!(
        "changed {} (modseq {})",
        uids::text(&done.changed),
        done.modseq
    ))?;
    match done.modified.is_empty() {
        true => Ok(()),
        false => say(&format!(
            "left alone, changed meanwhile: {}",
            uids::text(&done.modified)
        )),
    }
}

async fn copy(context: &Context, client: &Client, args: CopyArgs, away: bool) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let from = MailboxName::new(&args.mailbox)?;
    let to = MailboxName::new(&args.to)?;
    let uids = args.uids.0;
    let other = args.to_account.as_deref().map(AccountName::new);
    let done = match (other.transpose()?, away) {
        (None, false) => client.copy(&account, &from, uids, &to, None).await?,
        (None, true) => {
            let moved = client.move_messages(&account, &from, uids, &to, None);
            moved.await?
        }
        (Some(other), false) => {
            let copied = client.copy_to_account(&account, &from, uids, (&other, &to), None);
            copied.await?
        }
        (Some(other), true) => {
            let moved = client.move_to_account(&account, &from, uids, (&other, &to), None);
            moved.await?
        }
    };
    if context.json()? {
        return print_json(&json!({
            "modseq": done.modseq,
            "uidvalidity": done.uidvalidity,
            "from": done.from,
            "to": done.to,
        }));
    }
    let verb = if away { "moved" } else { "copied" };
    let (from, to) = (uids::text(&done.from), uids::text(&done.to));
    say(&format!("{verb} {from} to {to} (modseq {})", done.modseq))
}

async fn expunge(context: &Context, client: &Client, args: ExpungeArgs) -> Outcome {
    let account = AccountName::new(&args.account)?;
    let mailbox = MailboxName::new(&args.mailbox)?;
    if args.force && args.uids.is_none() {
        return Err(usage("--force needs uids; write 1:* for all"));
    }
    let uids = args.uids.map_or(Vec::new(), |s| s.0);
    let answer = client.expunge(&account, &mailbox, uids, args.force, None);
    let done = answer.await?;
    match context.json()? {
        true => print_json(&json!({ "modseq": done.modseq, "vanished": done.vanished })),
        false => say(&format!(
            "removed {} (modseq {})",
            uids::text(&done.vanished),
            done.modseq
        )),
    }
}
