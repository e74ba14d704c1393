//! Passwords of an account.
//!
//! Every change is a change of the account with a modseq of its own, and the row carries that
//! modseq: so whoever remembers that a password was right can tell whether it is still the same
//! one. Hashing, and the choice of random octets, happened before the command was proposed.

use crate::index::keys::{Key, KeyRange, RequestKey, RequestKind};
use crate::index::values::{AccountRow, Answer, ChangeKind, CredentialRow, Secret};
use crate::machine::command::{ApplyError, Reply};
use crate::machine::txn::limit;
use crate::machine::{Stop, Txn, limits, request, scope};
use crate::types::*;

/// Name of the account's own password among its credentials.
const OWN: &str = "";

pub(in crate::machine) fn set_password(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    hash: Option<&str>,
) -> Result<Reply, Stop> {
    let mut at = match begin(txn, RequestKind::SetPassword, request_id, account)? {
        Begun::Done(first) => return Ok(first),
        Begun::New(at) => at,
    };
    match hash {
        Some(hash) => at.put(txn, OWN, Secret::Password(hash.to_owned()))?,
        None => {
            at.remove(txn, OWN)?;
        }
    }
    at.end(txn)
}

pub(in crate::machine) fn add_app_password(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    name: &str,
    hash: &[u8; 32],
) -> Result<Reply, Stop> {
    let mut at = match begin(txn, RequestKind::AddAppPassword, request_id, account)? {
        Begun::Done(first) => return Ok(first),
        Begun::New(at) => at,
    };
    if name == OWN || name.len() > limits::APP_PASSWORD_NAME_BYTES {
        // The empty name is the account's own password.
        return Err(
            ApplyError::Refused("an application password needs a short name".into()).into(),
        );
    }
    let key = Key::Credential {
        account: at.id,
        name,
    };
    if txn.has(&key)? {
        return Err(ApplyError::Exists.into());
    }
    let range = KeyRange::account(txn.space(), &key, at.id);
    let bound = limits::APP_PASSWORDS;
    let kept = txn.keys(key.family(), &range, bound + 1)?.len();
    let own = txn.has(&Key::Credential {
        account: at.id,
        name: OWN,
    })?;
    if kept - usize::from(own) >= bound {
        return Err(limit(format!("{bound} application passwords of an account")).into());
    }
    at.put(txn, name, Secret::App(*hash))?;
    at.end(txn)
}

pub(in crate::machine) fn remove_app_password(
    txn: &mut Txn,
    request_id: RequestId,
    account: &AccountName,
    name: &str,
) -> Result<Reply, Stop> {
    let mut at = match begin(txn, RequestKind::RemoveAppPassword, request_id, account)? {
        Begun::Done(first) => return Ok(first),
        Begun::New(at) => at,
    };
    if name == OWN || !at.remove(txn, name)? {
        return Err(ApplyError::NoAppPassword.into());
    }
    at.end(txn)
}

/// A request that is a retry, or an account at work.
enum Begun {
    Done(Reply),
    New(At),
}

struct At {
    id: AccountId,
    row: AccountRow,
    request: RequestKey,
}

fn begin(
    txn: &Txn,
    kind: RequestKind,
    request_id: RequestId,
    account: &AccountName,
) -> Result<Begun, Stop> {
    let (id, row) = scope::account(txn, account)?;
    let request = request::of_account(kind, id, MailboxId(0), request_id);
    Ok(match request::reply(txn, &request)? {
        Some(first) => Begun::Done(first),
        None => Begun::New(At { id, row, request }),
    })
}

impl At {
    fn change(&mut self, txn: &mut Txn) -> Result<ModSeq, Stop> {
        let kind = ChangeKind::AccountChanged;
        let modseq = scope::change(txn, self.id, &mut self.row, MailboxId(0), kind, vec![])?;
        txn.put(&Key::Account(self.id), &self.row);
        Ok(modseq)
    }

    fn put(&mut self, txn: &mut Txn, name: &str, secret: Secret) -> Result<(), Stop> {
        let modseq = self.change(txn)?;
        let row = CredentialRow {
            created_ms: txn.now_ms()?,
            modseq,
            secret,
        };
        let account = self.id;
        txn.put(&Key::Credential { account, name }, &row);
        Ok(())
    }

    /// Whether there was one.
    fn remove(&mut self, txn: &mut Txn, name: &str) -> Result<bool, Stop> {
        let account = self.id;
        let key = Key::Credential { account, name };
        if !txn.has(&key)? {
            return Ok(false);
        }
        self.change(txn)?;
        txn.delete(&key);
        Ok(true)
    }

    fn end(self, txn: &mut Txn) -> Result<Reply, Stop> {
        let reply = Reply::Changed {
            modseq: self.row.highest_modseq,
        };
        request::remember(txn, self.request, Answer::Reply(reply.clone()))?;
        Ok(reply)
    }
}
