//! `posthouse mailbox`.

use clap::Subcommand;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::proto::Mailbox;
use serde_json::json;

use crate::args::Context;
use crate::exit::Outcome;
use crate::output::{Columns, octets, print_json};

#[derive(Subcommand)]
pub enum Command {
    /// Create a mailbox
    Create {
        /// Whose it is
        account: String,
        /// Its name; '/' separates levels
        mailbox: String,
    },
    /// List the mailboxes of an account
    List {
        /// Whose they are
        account: String,
    },
}

pub async fn run(context: Context, command: Command) -> Outcome {
    let json = context.json()?;
    let (client, _) = context.client().await?;
    match command {
        Command::Create { account, mailbox } => {
            let account = AccountName::new(&account)?;
            let mailbox = MailboxName::new(&mailbox)?;
            let mailbox = client
                .create_mailbox(&account, &mailbox, vec![], None)
                .await?;
            match json {
                true => print_json(&mailbox),
                false => print(&[mailbox]),
            }
        }
        Command::List { account } => {
            let mailboxes = client.list_mailboxes(&AccountName::new(&account)?).await?;
            match json {
                true => print_json(&json!({ "mailboxes": mailboxes })),
                false => print(&mailboxes),
            }
        }
    }
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
        ]);
    }
    columns.print("no mailboxes")
}
