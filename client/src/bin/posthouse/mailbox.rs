//! `posthouse mailbox`.

use clap::Subcommand;
use posthouse_client::ids::{AccountName, MailboxName, MailboxRef};
use posthouse_client::proto::{Annotation, Mailbox};
use serde_json::json;

use crate::args::Context;
use crate::exit::{Failure, Outcome, usage};
use crate::output::{Columns, clean, octets, print_json, say, write_stdout};

#[derive(Subcommand)]
pub enum Command {
    /// Create a mailbox, and the parents that its name needs
    Create {
        /// Whose it is
        account: String,
        /// Its name; '/' separates levels
        mailbox: String,
        /// What it is for, e.g. \Sent (RFC 6154)
        #[arg(long, value_delimiter = ',', value_name = "USE")]
        special_use: Vec<String>,
    },
    /// List the mailboxes of an account, and the names that it subscribes to
    List {
        /// Whose they are
        account: String,
    },
    /// Delete a mailbox with its messages; its children stay
    Delete {
        /// Whose it is
        account: String,
        /// Its name
        mailbox: String,
    },
    /// Rename a mailbox with all its children; of INBOX, move the messages
    Rename {
        /// Whose it is
        account: String,
        /// Its name
        mailbox: String,
        /// Its new name
        to: String,
    },
    /// Subscribe to a name, which need not exist
    Subscribe {
        /// Whose subscription
        account: String,
        /// The name
        mailbox: String,
    },
    /// Subscribe to a name no longer
    Unsubscribe {
        /// Whose subscription
        account: String,
        /// The name
        mailbox: String,
    },
    /// Set what a mailbox is for
    SpecialUse {
        /// Whose it is
        account: String,
        /// Its name
        mailbox: String,
        /// E.g. \Sent or \Archive (RFC 6154); none: nothing special
        special_use: Vec<String>,
    },
    /// Annotations of a mailbox or an account (RFC 5464)
    #[command(subcommand)]
    Metadata(Metadata),
}

#[derive(Subcommand)]
pub enum Metadata {
    /// Show all annotations, or the value of one as it is
    Get {
        /// Whose they are
        account: String,
        /// E.g. /private/comment
        entry: Option<String>,
        /// Of this mailbox; else the account's own
        #[arg(long)]
        mailbox: Option<String>,
    },
    /// Set an annotation, or remove it
    Set {
        /// Whose it is
        account: String,
        /// E.g. /private/comment or /shared/comment
        entry: String,
        /// Its value
        value: Option<String>,
        /// Remove it
        #[arg(long, conflicts_with = "value")]
        remove: bool,
        /// Of this mailbox; else the account's own
        #[arg(long)]
        mailbox: Option<String>,
    },
}

pub async fn run(context: Context, command: Command) -> Outcome {
    let json = context.json()?;
    let (client, _) = context.client().await?;
    let changed = |words: String, modseq: u64| match json {
        true => print_json(&json!({ "modseq": modseq })),
        false => say(&format!("{words} (modseq {modseq})")),
    };
    match command {
        Command::Create {
            account,
            mailbox,
            special_use,
        } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let mailbox = client
                .create_mailbox(&account, &mailbox, special_use, None)
                .await?;
            match json {
                true => print_json(&mailbox),
                false => print(&[mailbox]),
            }
        }
        Command::List { account } => {
            let list = client.read_mailboxes(&AccountName::new(&account)?).await?;
            if json {
                return print_json(&json!({
                    "mailboxes": list.mailboxes,
                    "subscriptions": list.subscriptions,
                    "highest_modseq": list.highest_modseq,
                }));
            }
            print(&list.mailboxes)?;
            let exists = |name: &&String| list.mailboxes.iter().any(|m| m.name == **name);
            for name in list.subscriptions.iter().filter(|name| !exists(name)) {
                let name = clean(name);
                say(&format!("subscribed, and no mailbox: {name}"))?;
            }
            Ok(())
        }
        Command::Delete { account, mailbox } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let modseq = client.delete_mailbox(&account, &mailbox, None).await?;
            changed(format!("deleted {mailbox}"), modseq)
        }
        Command::Rename {
            account,
            mailbox,
            to,
        } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let to = MailboxName::new(&to)?;
            let mailbox = client.rename_mailbox(&account, &mailbox, &to, None).await?;
            match json {
                true => print_json(&mailbox),
                false => print(&[mailbox]),
            }
        }
        Command::Subscribe { account, mailbox } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let modseq = client.subscribe(&account, &mailbox, true, None).await?;
            changed(format!("subscribed to {mailbox}"), modseq)
        }
        Command::Unsubscribe { account, mailbox } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let modseq = client.subscribe(&account, &mailbox, false, None).await?;
            changed(format!("unsubscribed from {mailbox}"), modseq)
        }
        Command::SpecialUse {
            account,
            mailbox,
            special_use,
        } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let set = client.set_special_use(&account, &mailbox, special_use, None);
            changed(format!("changed {mailbox}"), set.await?)
        }
        Command::Metadata(Metadata::Get {
            account,
            entry,
            mailbox,
        }) => {
            let account = AccountName::new(&account)?;
            let found = client.get_metadata(&account, owner(mailbox)?).await?;
            match entry {
                Some(entry) => show_one(json, &found, &entry),
                None => show_all(json, &found),
            }
        }
        Command::Metadata(Metadata::Set {
            account,
            entry,
            value,
            remove,
            mailbox,
        }) => {
            let account = AccountName::new(&account)?;
            if value.is_none() && !remove {
                return Err(usage("give a value, or --remove"));
            }
            let words = format!("{} {entry}", if remove { "removed" } else { "set" });
            let annotation = Annotation {
                entry,
                nil: remove,
                value: value.unwrap_or_default().into_bytes().into(),
            };
            let set = client.set_metadata(&account, owner(mailbox)?, vec![annotation], None);
            changed(words, set.await?)
        }
    }
}

/// A mailbox by the name in an option, or the account itself.
fn owner(mailbox: Option<String>) -> Result<Option<MailboxRef>, Failure> {
    let name = mailbox.map(|name| MailboxName::new(&name)).transpose()?;
    Ok(name.map(MailboxRef::from))
}

/// The value as it is, so that it can go into a file.
fn show_one(json: bool, found: &[Annotation], entry: &str) -> Outcome {
    let one = found.iter().find(|a| a.entry.eq_ignore_ascii_case(entry));
    match (one, json) {
        (Some(one), true) => print_json(&document(one)),
        (Some(one), false) => write_stdout(&one.value),
        (None, _) => Err(Failure::Other(3, format!("there is no annotation {entry}"))),
    }
}

/// For programs; those that want odd octets ask for the one value as it is.
fn document(annotation: &Annotation) -> serde_json::Value {
    json!({
        "entry": annotation.entry,
        "value": String::from_utf8_lossy(&annotation.value),
        "size": annotation.value.len(),
    })
}

fn show_all(json: bool, found: &[Annotation]) -> Outcome {
    if json {
        let found: Vec<_> = found.iter().map(document).collect();
        return print_json(&json!({ "annotations": found }));
    }
    let mut columns = Columns::new(&["Entry", "#Size", "Value"]);
    for annotation in found {
        columns.row([
            annotation.entry.clone(),
            octets(annotation.value.len() as u64),
            String::from_utf8_lossy(&annotation.value)
                .chars()
                .take(60)
                .collect(),
        ]);
    }
    columns.print("no annotations")
}

fn print(mailboxes: &[Mailbox]) -> Outcome {
    let mut columns = Columns::new(&[
        "Mailbox",
        "#Messages",
        "#Unseen",
        "#Size",
        "#Uidvalidity",
        "#Uidnext",
        "#Modseq",
        "Use",
        "Subscribed",
    ]);
    for m in mailboxes {
        columns.row([
            m.name.clone(),
            m.messages.to_string(),
            m.unseen.to_string(),
            octets(m.bytes),
            m.uidvalidity.to_string(),
            m.uidnext.to_string(),
            m.highest_modseq.to_string(),
            m.special_use.join(" "),
            if m.subscribed { "yes" } else { "" }.to_owned(),
        ]);
    }
    columns.print("no mailboxes")
}
