//! What the POP3 door needs of the cluster.
//!
//! The trait is cut at the grain of POP3: is this the password, what lies in INBOX, give me that
//! message, remove these. `posthouse_client::Client` is one arm of it ([`super::cluster`]); tests
//! bring a fake of their own.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use posthouse_client::ids::{AccountName, MailboxId, Uid};

use super::maildrop::Contents;

/// A cluster as the POP3 door sees it.
pub trait Store: Send + Sync {
    /// Whether this is a password of the account and it may log in. `peer`: the IP address that
    /// the attempt comes from.
    fn login<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        peer: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What INBOX holds: of its messages the first `limit`.
    fn open<'a>(
        &'a self,
        account: &'a AccountName,
        limit: usize,
    ) -> BoxFuture<'a, Result<Contents, StoreError>>;

    /// The octets of a message.
    fn fetch<'a>(
        &'a self,
        account: &'a AccountName,
        inbox: Inbox,
        uid: Uid,
    ) -> BoxFuture<'a, Result<Octets, StoreError>>;

    /// Removes messages, all in one step; `uids` are inclusive ranges. Uids without a message are
    /// passed over.
    fn remove<'a>(
        &'a self,
        account: &'a AccountName,
        inbox: Inbox,
        uids: Vec<(Uid, Uid)>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// The mailbox that a session began with, whatever it is called by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Its number.
    pub id: MailboxId,
    /// Its uidvalidity.
    pub uidvalidity: u32,
}

/// Octets on their way. They are good once the stream has ended without an error.
pub type Octets = BoxStream<'static, Result<Bytes, StoreError>>;

/// Why the store does not do what it was asked for, as far as a mail program needs to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such account, wrong password, or no login: never said which.
    #[error("wrong name or password")]
    BadCredentials,
    /// Too many wrong passwords lately: this one was not even looked at.
    #[error("too many failed logins")]
    TooManyLogins,
    /// The message, the mailbox or the account is not there any more.
    #[error("gone: {0}")]
    Gone(String),
    /// No answer in time, or nothing that a person could mend.
    #[error("no answer: {0}")]
    Unavailable(String),
    /// The stored octets are damaged, and no replica has good ones.
    #[error("damaged: {0}")]
    Damaged(String),
}
