//! `posthouse account`.

use std::io::{self, IsTerminal, Write};

use clap::Subcommand;
use futures::TryStreamExt;
use posthouse_client::ids::{AccountId, AccountName};
use posthouse_client::proto::Account;
use serde_json::json;

use crate::args::Context;
use crate::exit::{Failure, Outcome};
use crate::output::{Columns, note, octets, print_json, say, time};

#[derive(Subcommand)]
pub enum Command {
    /// Create accounts
    Create {
        /// Addresses, e.g. ann@example.org
        #[arg(required = true)]
        accounts: Vec<String>,
        /// Accounts that exist already are no error
        #[arg(long)]
        if_missing: bool,
    },
    /// Look an account up
    Get {
        /// Its address
        account: String,
    },
    /// List the accounts of the cluster
    List {
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Delete an account with all its mail
    Delete {
        /// Its address
        account: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show how much an account holds
    Usage {
        /// Its address
        account: String,
    },
}

pub async fn run(context: Context, command: Command) -> Outcome {
    let json = context.json()?;
    let (client, _) = context.client().await?;
    match command {
        Command::Create {
            accounts,
            if_missing,
        } => {
            let mut created = Vec::new();
            for account in accounts {
                let name = AccountName::new(&account)?;
                match client.create_account(&name, None).await {
                    Ok(account) => created.push(account),
                    Err(posthouse_client::Error::AlreadyExists { .. }) if if_missing => {
                        created.push(client.get_account(&name).await?);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            print(json, &created)
        }
        Command::Get { account } => {
            let account = client.get_account(&AccountName::new(&account)?).await?;
            match json {
                true => print_json(&account),
                false => print(false, &[account]),
            }
        }
        Command::List { limit } => {
            let mut accounts: Vec<Account> = Vec::new();
            let page = limit.clamp(1, 1000) as u32;
            let pages = client.list_accounts(page);
            futures::pin_mut!(pages);
            let mut more = false;
            while let Some(page) = pages.try_next().await? {
                accounts.extend(page);
                if accounts.len() > limit {
                    more = true;
                    break;
                }
            }
            accounts.truncate(limit);
            print(json, &accounts)?;
            if more && !json {
                note("there are more; see --limit");
            }
            Ok(())
        }
        Command::Delete { account, yes } => {
            let name = AccountName::new(&account)?;
            if !yes {
                confirm(&format!("delete {name} with all its mail?"))?;
            }
            client.delete_account(&name, None).await?;
            match json {
                true => print_json(&json!({ "deleted": name.as_str() })),
                false => say(&format!("deleted {name}")),
            }
        }
        Command::Usage { account } => {
            let usage = client.usage(&AccountName::new(&account)?).await?;
            if json {
                return print_json(&usage);
            }
            let mut columns =
                Columns::new(&["#Messages", "#Size", "#Mailboxes", "#Unseen", "#Deleted"]);
            columns.row([
                usage.messages.to_string(),
                octets(usage.bytes),
                usage.mailboxes.to_string(),
                usage.unseen.to_string(),
                usage.deleted.to_string(),
            ]);
            columns.print("")
        }
    }
}

fn print(json: bool, accounts: &[Account]) -> Outcome {
    if json {
        return print_json(&json!({ "accounts": accounts }));
    }
    let mut columns = Columns::new(&["Account", "Id", "Created", "#Modseq"]);
    for a in accounts {
        columns.row([
            a.name.clone(),
            AccountId(a.account_id).to_string(),
            time(a.created_ms),
            a.highest_modseq.to_string(),
        ]);
    }
    columns.print("no accounts")
}

/// Asks on the terminal; without one, only `--yes` will do.
fn confirm(question: &str) -> Outcome {
    let refuse = || Err(Failure::Other(2, format!("{question} Confirm with --yes")));
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return refuse();
    }
    write!(io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Other(1, "nothing was deleted".into())),
    }
}
