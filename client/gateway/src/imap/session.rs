//! The state of one client's dialogue (RFC 9051, section 3), and what commands share.

use std::sync::Arc;

use posthouse_client::ids::{AccountName, MailboxName};
use roaring::RoaringBitmap;

use super::Door;
use super::ahead::Ahead;
use super::notify::Notify;
use super::respond::{Done, Stop};
use super::utf7;
use super::view::View;
use super::watching::Watching;
use super::wire::Wire;
use crate::serve::Place;

/// One client: its octets and its state.
pub struct Session {
    pub(super) door: Arc<Door>,
    pub(super) wire: Wire,
    /// The peer's address without port.
    pub(super) address: String,
    /// Nobody but the peer can read what is sent: TLS, or the same machine.
    pub(super) private: bool,
    /// TLS is on.
    pub(super) tls: bool,
    /// COMPRESS is on.
    pub(super) compressed: bool,
    /// Who has logged in.
    pub(super) login: Option<Login>,
    /// What the client has enabled.
    pub(super) enabled: Enabled,
    /// The selected mailbox.
    pub(super) selected: Option<Selected>,
    /// What is told unasked, once the client has said so.
    pub(super) notify: Option<Box<Notify>>,
    /// Bad commands so far; after the login, since the last good one.
    pub(super) errors: u32,
}

/// A client that has logged in.
pub struct Login {
    /// The account.
    pub account: AccountName,
    /// Its place among the account's sessions.
    pub _place: Place,
}

/// A selected mailbox and what is heard of it.
pub struct Selected {
    /// What the client knows.
    pub view: View,
    /// News of it.
    pub watching: Watching,
    /// Messages that the client is about to fetch.
    pub ahead: Ahead,
    /// Messages that the client has stored here itself, and was not told of yet; kept only where
    /// items of new messages are told.
    pub own: RoaringBitmap,
    /// Messages whose items are still to be told.
    pub untold: RoaringBitmap,
}

/// What a client has enabled (RFC 5161), or used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enabled {
    /// IMAP4rev2.
    pub rev2: bool,
    /// CONDSTORE: MODSEQ is told with flags.
    pub condstore: bool,
    /// QRESYNC: VANISHED instead of EXPUNGE.
    pub qresync: bool,
    /// UTF8=ACCEPT.
    pub utf8: bool,
}

impl Enabled {
    /// Mailbox names are UTF-8, and so may be strings in quotes.
    pub fn utf8_names(self) -> bool {
        self.rev2 || self.utf8
    }
}

impl Session {
    /// Who has logged in.
    pub(super) fn account(&self) -> Result<AccountName, Stop> {
        match &self.login {
            Some(login) => Ok(login.account.clone()),
            None => Err(Done::bad("log in first").into()),
        }
    }

    /// The selected mailbox.
    pub(super) fn selected(&mut self) -> Result<&mut Selected, Stop> {
        let none = || Done::bad("select a mailbox first").into();
        self.selected.as_mut().ok_or_else(none)
    }

    /// The selected mailbox, which must not be read-only.
    pub(super) fn writable(&mut self) -> Result<&mut Selected, Stop> {
        let selected = self.selected()?;
        match selected.view.read_only {
            true => Err(Done::no("CANNOT", "the mailbox is open for reading only").into()),
            false => Ok(selected),
        }
    }

    /// The client has stored messages in the mailbox of this uidvalidity, which no other mailbox of
    /// the account has.
    pub(super) fn stored_here(&mut self, uidvalidity: u32, uids: &RoaringBitmap) {
        let tells_items = matches!(self.notified(), Some(Some(wanted)) if !wanted.items.is_empty());
        if let Some(selected) = &mut self.selected
            && tells_items
            && selected.view.uidvalidity == uidvalidity
        {
            selected.own |= uids;
        }
    }

    /// A mailbox name as the store knows it, as text; perhaps empty.
    pub(super) fn text_of(&self, wire: &[u8]) -> Result<String, Stop> {
        let text = match self.enabled.utf8_names() {
            true => String::from_utf8(wire.to_vec()).ok(),
            false => utf7::decode(wire),
        };
        text.ok_or_else(|| Done::no("CANNOT", "that is no mailbox name").into())
    }

    /// A mailbox name that a client has written.
    pub(super) fn name(&self, wire: &[u8]) -> Result<MailboxName, Stop> {
        let text = self.text_of(wire)?;
        // A trailing separator says that children are meant to follow (RFC 9051, section 6.3.4).
        let text = text.strip_suffix('/').unwrap_or(&text);
        MailboxName::new(text).map_err(|_| Done::no("CANNOT", "that is no mailbox name").into())
    }

    /// Adds a mailbox name to what is said.
    pub(super) fn say_name(&mut self, name: &str) {
        let utf8 = self.enabled.utf8_names();
        match utf8 {
            true => super::respond::text::astring(self.wire.out(), name, true),
            false => super::respond::text::astring(self.wire.out(), &utf7::encode(name), false),
        }
    }
}
