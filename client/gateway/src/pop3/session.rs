//! The state of one client's session (RFC 1939, section 3).

use posthouse_client::ids::AccountName;

use super::maildrop::Maildrop;
use crate::serve::Place;

/// What is known of a client.
pub struct Session {
    /// The peer's IP address.
    pub address: String,
    /// The peer is on this machine.
    pub local: bool,
    /// TLS has begun.
    pub tls: bool,
    /// Lines that were no commands, or commands out of order.
    pub errors: u32,
    /// Logins that failed.
    pub failed_logins: u32,
    /// Before or after the login.
    pub state: State,
}

/// The two states of a session; the third, UPDATE, is QUIT itself.
pub enum State {
    /// Nobody has logged in.
    Authorization {
        /// What USER said.
        user: Option<String>,
    },
    /// Somebody has.
    Transaction(Transaction),
}

/// A session after its login.
pub struct Transaction {
    /// Whose.
    pub account: AccountName,
    /// What INBOX held.
    pub maildrop: Maildrop,
    /// One of the account's places.
    pub place: Place,
}

impl Session {
    /// A session that begins.
    pub fn new(address: String, local: bool, tls: bool) -> Session {
        Session {
            address,
            local,
            tls,
            errors: 0,
            failed_logins: 0,
            state: State::Authorization { user: None },
        }
    }

    /// Whether a password may be said: nobody can listen.
    pub fn may_say_password(&self) -> bool {
        self.tls || self.local
    }
}
