//! The state of one client's dialogue (RFC 5321, section 4.1.4, with RFC 2033).

use posthouse_client::ids::AccountName;

use super::incoming::Incoming;

/// What a client has said so far.
#[derive(Default)]
pub struct Session {
    /// LHLO has been said.
    pub greeted: bool,
    /// From MAIL to the end of the message or RSET.
    pub transaction: Option<Transaction>,
    /// Lines that were no commands, or commands out of order.
    pub errors: u32,
}

/// One message's envelope.
#[derive(Default)]
pub struct Transaction {
    /// The reverse-path, canonical; empty for a bounce.
    pub sender: String,
    /// What SIZE announced, 0 without.
    pub size_hint: u64,
    /// SMTPUTF8 was asked for.
    pub utf8: bool,
    /// The accounts to deliver to, none of them twice.
    pub accounts: Vec<AccountName>,
    /// One for each accepted RCPT, in their order.
    pub replies: Vec<Recipient>,
    /// The message, once BDAT has begun it.
    pub chunks: Option<Incoming>,
}

/// An accepted RCPT: it gets a reply of its own after the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The address as the client gave it, canonical.
    pub address: String,
    /// Its account: an index into [`Transaction::accounts`].
    pub account: usize,
}

impl Transaction {
    /// Adds a recipient. An account that is named twice is stored to once and answered twice.
    pub fn add(&mut self, address: String, account: AccountName) {
        let known = self.accounts.iter().position(|a| *a == account);
        let account = known.unwrap_or_else(|| {
            self.accounts.push(account);
            self.accounts.len() - 1
        });
        self.replies.push(Recipient { address, account });
    }
}
