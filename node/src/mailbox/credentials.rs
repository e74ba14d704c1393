//! Passwords of an account, and whether somebody knows one.
//!
//! A refused login has one answer, whatever the reason: no such account, no password, a wrong one,
//! or an account that lets nobody in; and each of them costs one computation of Argon2. Passwords
//! are compared as the octets that they are.

use super::attempts::Peer;
use super::create_account::AccountInfo;
use super::limits::PASSWORD_BYTES;
use super::list_accounts::{find, info};
use super::{Led, MailboxError, Operations, Result, What, check, error::from_apply, unexpected};
use crate::index::values::{AccountRow, CredentialRow, Secret};
use crate::machine::command::{Op, Reply};
use crate::machine::limits::APP_PASSWORD_NAME_BYTES;
use crate::machine::{changes, read};
use crate::raft::shard::ReadView;
use crate::types::*;

/// The password of one program, without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPassword {
    /// Its name.
    pub name: String,
    /// When it was made, ms since the epoch.
    pub created_ms: u64,
}

/// A new password for one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// To be shown once.
    pub password: String,
    /// What is kept of it.
    pub kept: AppPassword,
    /// The account's modseq.
    pub modseq: ModSeq,
}

/// Which passwords an account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordsKept {
    /// One of its own.
    pub has_password: bool,
    /// Those of programs.
    pub of_programs: Vec<AppPassword>,
    /// The account's modseq.
    pub modseq: ModSeq,
}

/// Who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The account.
    pub account: AccountInfo,
    /// The name of the program's password, when it was one.
    pub app_password: Option<String>,
}

/// What is known of an account that somebody wants to log in to.
struct Claimed {
    id: AccountId,
    row: AccountRow,
    credentials: Vec<(String, CredentialRow)>,
}

impl Claimed {
    /// The account's own password: its stamp and its hash.
    fn own(&self) -> Option<(ModSeq, &str)> {
        let (_, row) = self.credentials.iter().find(|(name, _)| name.is_empty())?;
        match &row.secret {
            Secret::Password(hash) => Some((row.modseq, hash)),
            Secret::App(_) => None,
        }
    }
}

/// The only answer to a login that was looked at and refused.
const REFUSED: MailboxError = MailboxError::BadCredentials { retry_after_ms: 0 };

impl Operations {
    /// Sets an account's password; an empty one removes it. Gives the account's modseq, as do all
    /// that change credentials.
    pub async fn set_password(
        &self,
        request_id: &[u8],
        account: &str,
        password: String,
    ) -> Result<ModSeq> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        if !password.is_empty() {
            check_password(&password)?;
        }
        let led = self.led(&account)?;
        let hash = match password.is_empty() {
            true => None,
            false => Some(self.passwords.hash(password).await?),
        };
        let op = Op::SetPassword {
            request_id,
            account,
            hash,
        };
        self.change_credentials(&led, op).await
    }

    /// Makes a password for one program, and shows it.
    ///
    /// It is drawn here and only its hash is stored, so a retry of a request that has taken effect
    /// cannot show it again, and is refused: to derive it from the request instead would make
    /// everything from which it follows a secret that is stored.
    pub async fn add_app_password(
        &self,
        request_id: &[u8],
        account: &str,
        name: &str,
    ) -> Result<Drawn> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        check_name(name)?;
        let led = self.replica_of(&account)?;
        let (password, hash) = self.passwords.draw();
        let op = Op::AddAppPassword {
            request_id,
            account: account.clone(),
            name: name.to_owned(),
            hash,
        };
        let modseq = self.change_credentials(&led, op).await?;
        let view = self.local_view(&led)?;
        let (id, _) = find(&view, &account)?;
        let kept = changes::credentials(&*view.view, view.space, id)?;
        let own = kept
            .into_iter()
            .find(|(known, row)| known == name && row.secret == Secret::App(hash));
        match own {
            Some((name, row)) => {
                let created_ms = row.created_ms;
                Ok(Drawn {
                    password,
                    kept: AppPassword { name, created_ms },
                    modseq,
                })
            }
            None => Err(MailboxError::Refused(
                "the application password was made by an earlier try of this request, and is \
                 shown only once: remove it and make another"
                    .into(),
            )),
        }
    }

    /// Whether an account has a password, and the names of those of its programs.
    pub async fn list_app_passwords(&self, account: &str) -> Result<PasswordsKept> {
        let account = check::account("account", account)?;
        let view = self.read(&self.replica_of(&account)?).await?;
        let (id, row) = find(&view, &account)?;
        let mut kept = changes::credentials(&*view.view, view.space, id)?;
        let all = kept.len();
        kept.retain(|(name, _)| !name.is_empty());
        let has_password = kept.len() < all;
        let app_passwords = kept.into_iter().map(|(name, row)| AppPassword {
            name,
            created_ms: row.created_ms,
        });
        Ok(PasswordsKept {
            has_password,
            of_programs: app_passwords.collect(),
            modseq: row.highest_modseq,
        })
    }

    /// Removes the password of one program.
    pub async fn remove_app_password(
        &self,
        request_id: &[u8],
        account: &str,
        name: &str,
    ) -> Result<ModSeq> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        check_name(name)?;
        let led = self.replica_of(&account)?;
        let op = Op::RemoveAppPassword {
            request_id,
            account,
            name: name.to_owned(),
        };
        self.change_credentials(&led, op).await
    }

    /// Lets an account in, freezes or closes it.
    pub async fn set_account_state(
        &self,
        request_id: &[u8],
        account: &str,
        state: AccountState,
    ) -> Result<AccountInfo> {
        let request_id = check::request_id(request_id)?;
        let account = check::account("account", account)?;
        let led = self.replica_of(&account)?;
        let op = Op::SetAccountState {
            request_id,
            account: account.clone(),
            state,
        };
        self.change_credentials(&led, op).await?;
        let view = self.local_view(&led)?;
        find(&view, &account).map(|(id, row)| info(id, row))
    }

    async fn change_credentials(&self, led: &Led, op: Op) -> Result<ModSeq> {
        match self.propose(led, op).await? {
            Reply::Changed { modseq } => Ok(modseq),
            Reply::Error(e) => Err(from_apply(e, What::AppPassword)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether this is a password of the account, and the account lets people in.
    pub async fn authenticate(
        &self,
        account: &str,
        password: String,
        peer: &str,
    ) -> Result<Authenticated> {
        let peer = Peer::new(peer)?;
        // What cannot be a name is no account's, and is refused like any other.
        let name = AccountName::new(account).ok();
        let led = name.as_ref().map(|name| self.led(name)).transpose()?;
        let known_as = name.as_ref().map_or("", AccountName::as_str);
        let attempt = self.attempts.begin(known_as, &peer).map_err(|wait| {
            crate::rare::hit(crate::rare::Rare::LoginNotLookedAt);
            MailboxError::BadCredentials {
                // Never 0, which would say that it was looked at.
                retry_after_ms: (wait.as_millis() as u64).max(1),
            }
        })?;
        let checked = async {
            let claimed = match (&name, &led) {
                (Some(name), Some(led)) => claimed(&self.read(led).await?, name)?,
                _ => None,
            };
            self.check_claim(claimed, password).await
        };
        match checked.await {
            Ok(Some(who)) => {
                attempt.right();
                Ok(who)
            }
            Ok(None) => Err(REFUSED),
            Err(e) => {
                attempt.undecided();
                Err(e)
            }
        }
    }

    async fn check_claim(
        &self,
        claimed: Option<Claimed>,
        mut password: String,
    ) -> Result<Option<Authenticated>> {
        let possible = (1..=*PASSWORD_BYTES.end()).contains(&password.len());
        if !possible {
            password.clear();
        }
        let active = |c: &&Claimed| c.row.state == AccountState::Active && possible;
        let open = claimed.as_ref().filter(active);
        // The short ways are for right passwords alone, and only where they let somebody in.
        if let Some(claimed) = open {
            let app = self.passwords.app(&password, &claimed.credentials);
            let known = claimed
                .own()
                .is_some_and(|(stamp, _)| self.passwords.remembers(claimed.id, stamp, &password));
            if app.is_some() || known {
                return Ok(Some(Authenticated {
                    app_password: app.map(str::to_owned),
                    account: info(claimed.id, claimed.row.clone()),
                }));
            }
        }
        let own = claimed.as_ref().and_then(Claimed::own);
        let hash = own.map(|(_, hash)| hash.to_owned());
        let right = self.passwords.verify(password.clone(), hash).await?;
        let (true, Some(claimed), Some((stamp, _))) = (right, open, own) else {
            return Ok(None);
        };
        self.passwords.remember(claimed.id, stamp, &password);
        Ok(Some(Authenticated {
            account: info(claimed.id, claimed.row.clone()),
            app_password: None,
        }))
    }
}

fn claimed(view: &ReadView, name: &AccountName) -> Result<Option<Claimed>> {
    let Some((id, row)) = read::account(&*view.view, view.space, name)? else {
        return Ok(None);
    };
    Ok(Some(Claimed {
        id,
        row,
        credentials: changes::credentials(&*view.view, view.space, id)?,
    }))
}

/// A password that somebody has chosen. The error says nothing of it.
fn check_password(password: &str) -> Result<()> {
    if !PASSWORD_BYTES.contains(&password.len()) {
        let (least, most) = (PASSWORD_BYTES.start(), PASSWORD_BYTES.end());
        let reason = format_args!("must have {least} to {most} octets");
        return Err(MailboxError::bad("password", reason));
    }
    if password.chars().any(char::is_control) {
        let reason = "must not have control characters";
        return Err(MailboxError::bad("password", reason));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if !(1..=APP_PASSWORD_NAME_BYTES).contains(&name.len()) {
        let reason = format_args!("must have 1 to {APP_PASSWORD_NAME_BYTES} octets");
        return Err(MailboxError::bad("name", reason));
    }
    match name.chars().any(char::is_control) {
        true => Err(MailboxError::bad(
            "name",
            "must not have control characters",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
