//! `posthouse account`.

use std::io::{self, IsTerminal, Write};

use clap::Subcommand;
use futures::TryStreamExt;
use posthouse_client::Client;
use posthouse_client::ids::{AccountId, AccountName};
use posthouse_client::proto::{Account, AccountState};
use serde_json::json;

use crate::args::Context;
use crate::exit::{Failure, Outcome};
use crate::output::{Columns, clean, note, octets, print_json, say, time};
use crate::password;

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
    /// Set the password of an account; it is read from the terminal or from standard input
    SetPassword {
        /// Its address
        account: String,
        /// Take the password away instead: programs with passwords of their own still get in
        #[arg(long)]
        remove: bool,
    },
    /// Make, list and remove passwords for single programs
    #[command(subcommand)]
    AppPassword(AppPassword),
    /// Let nobody log in; mail still arrives
    Freeze {
        /// Its address
        account: String,
    },
    /// Let people log in again, and mail arrive
    Unfreeze {
        /// Its address
        account: String,
    },
    /// Let nobody log in, and refuse mail
    Close {
        /// Its address
        account: String,
    },
}

#[derive(Subcommand)]
pub enum AppPassword {
    /// Make one; it is drawn at random and shown this once
    Add {
        /// Address of the account
        account: String,
        /// What it is for, e.g. "phone"
        name: String,
    },
    /// List them
    List {
        /// Address of the account
        account: String,
    },
    /// Remove one
    Remove {
        /// Address of the account
        account: String,
        /// Its name
        name: String,
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
        Command::SetPassword { account, remove } => {
            let name = AccountName::new(&account)?;
            let password = match remove {
                true => String::new(),
                false => password::read(&format!("New password of {name}: "))?,
            };
            client.set_password(&name, &password, None).await?;
            let has = !remove;
            match json {
                true => print_json(&json!({ "account": name.as_str(), "has_password": has })),
                false if has => say(&format!("the password of {name} is set")),
                false => say(&format!("{name} has no password any more")),
            }
        }
        Command::AppPassword(command) => app_password(json, &client, command).await,
        Command::Freeze { account } => {
            set_state(json, &client, &account, AccountState::Frozen).await
        }
        Command::Unfreeze { account } => {
            set_state(json, &client, &account, AccountState::Active).await
        }
        Command::Close { account } => {
            set_state(json, &client, &account, AccountState::Closed).await
        }
    }
}

async fn app_password(json: bool, client: &Client, command: AppPassword) -> Outcome {
    match command {
        AppPassword::Add { account, name } => {
            let account = AccountName::new(&account)?;
            let made = client.add_app_password(&account, &name, None).await?;
            if json {
                return print_json(&made);
            }
            note("this password is shown only once");
            say(&made.password)
        }
        AppPassword::List { account } => {
            let account = AccountName::new(&account)?;
            let kept = client.list_app_passwords(&account).await?;
            if json {
                return print_json(&kept);
            }
            if !kept.has_password {
                note(&format!("{account} has no password of its own"));
            }
            let mut columns = Columns::new(&["Name", "Created"]);
            for one in kept.app_passwords {
                columns.row([one.name, time(one.created_ms)]);
            }
            columns.print("no application passwords")
        }
        AppPassword::Remove { account, name } => {
            let account = AccountName::new(&account)?;
            client.remove_app_password(&account, &name, None).await?;
            match json {
                true => print_json(&json!({ "removed": name })),
                false => say(&format!("removed the password {}", clean(&name))),
            }
        }
    }
}

async fn set_state(json: bool, client: &Client, account: &str, state: AccountState) -> Outcome {
    let name = AccountName::new(account)?;
    let account = client.set_account_state(&name, state, None).await?;
    match json {
        true => print_json(&account),
        false => print(false, &[account]),
    }
}

fn state_name(account: &Account) -> &'static str {
    match AccountState::try_from(account.state) {
        Ok(AccountState::Active) => "active",
        Ok(AccountState::Frozen) => "frozen",
        Ok(AccountState::Closed) => "closed",
        Err(_) => "unknown",
    }
}

fn print(json: bool, accounts: &[Account]) -> Outcome {
    if json {
        return print_json(&json!({ "accounts": accounts }));
    }
    let mut columns = Columns::new(&["Account", "Id", "State", "Created", "#Modseq"]);
    for a in accounts {
        columns.row([
            a.name.clone(),
            AccountId(a.account_id).to_string(),
            state_name(a).to_owned(),
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
