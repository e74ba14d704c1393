//! The typed ids of the public contract.
//!
//! One type per concept, so that a uid can never be passed where a modseq is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Number of slots that accounts hash to. A slot is the unit that moves between shards.
pub const SLOTS: u32 = 65_536;

/// A hash range of accounts, 0 to 65,535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of an account, by its normalized name: the first two octets, big-endian, of the
    /// BLAKE3 hash of the name.
    pub fn of(account: &AccountName) -> Slot {
        let hash = blake3::hash(account.as_str().as_bytes());
        let b = hash.as_bytes();
        Slot(u16::from_be_bytes([b[0], b[1]]))
    }
}

/// An account's number. Its upper 16 bits are its slot; the lower 48 count up inside the slot, so
/// that ids stay unique when slots move between shards. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId(pub u64);

impl AccountId {
    /// The id with number `n` (at most 2^48 - 1) in `slot`.
    pub fn new(slot: Slot, n: u64) -> AccountId {
        assert!(
            n < 1 << 48,
            "account numbers of slot {} are used up",
            slot.0
        );
        AccountId((slot.0 as u64) << 48 | n)
    }

    /// The slot that this account hashes to.
    pub fn slot(self) -> Slot {
        Slot((self.0 >> 48) as u16)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A mailbox's number inside its account. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailboxId(pub u32);

/// A message's number inside its mailbox (RFC 9051, section 2.3.1.1). At least 1.
pub type Uid = u32;

/// Change counter of an account (RFC 7162). At least 1 once anything has changed.
pub type ModSeq = u64;

/// Number of an email inside its account: one arrival of one blob, shared by its copies
/// (RFC 8474, EMAILID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EmailId(pub u64);

/// BLAKE3 hash of the octets of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub [u8; 32]);

impl BlobId {
    /// The id of these octets.
    pub fn of(octets: &[u8]) -> BlobId {
        BlobId(*blake3::hash(octets).as_bytes())
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

impl FromStr for BlobId {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        parse_hex(s).map(BlobId)
    }
}

/// Retry identity of a mutating request, 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub [u8; 16]);

impl TryFrom<&[u8]> for RequestId {
    type Error = BadId;
    fn try_from(b: &[u8]) -> Result<Self, BadId> {
        b.try_into().map(RequestId).map_err(|_| BadId)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl FromStr for RequestId {
    type Err = BadId;
    fn from_str(s: &str) -> Result<Self, BadId> {
        parse_hex(s).map(RequestId)
    }
}

fn parse_hex<const N: usize>(s: &str) -> Result<[u8; N], BadId> {
    if s.len() != 2 * N || !s.is_ascii() {
        return Err(BadId);
    }
    let mut out = [0; N];
    for (i, b) in out.iter_mut().enumerate() {
        *b = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| BadId)?;
    }
    Ok(out)
}

/// Octets or text that are not an id of the expected length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the expected length")]
pub struct BadId;

/// An account's name, normalized: an address, ASCII letters in lower case, 1 to 320 octets of
/// UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountName(String);

/// Why a name cannot be an account's or a mailbox's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// No octets at all.
    #[error("the name is empty")]
    Empty,
    /// More than the limit, in octets.
    #[error("the name is longer than {0} octets")]
    TooLong(usize),
    /// U+0000 to U+001F or U+007F to U+009F.
    #[error("the name contains a control character")]
    Control,
    /// A mailbox name with an empty level, e.g. "a//b" or "/a".
    #[error("the name has an empty level; '/' separates levels")]
    EmptyLevel,
}

fn check_name(s: &str, max: usize) -> Result<(), BadName> {
    match s {
        "" => Err(BadName::Empty),
        _ if s.len() > max => Err(BadName::TooLong(max)),
        _ if s.chars().any(char::is_control) => Err(BadName::Control),
        _ => Ok(()),
    }
}

impl AccountName {
    /// The normalized name, or why it cannot be one.
    pub fn new(s: &str) -> Result<AccountName, BadName> {
        check_name(s, 320)?;
        Ok(AccountName(s.to_ascii_lowercase()))
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mailbox's name: UTF-8, levels separated by '/', 1 to 1,000 octets, no control characters.
/// The first level "INBOX" is compared without case (RFC 9051, section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailboxName(String);

impl MailboxName {
    /// The normalized name, or why it cannot be one.
    pub fn new(s: &str) -> Result<MailboxName, BadName> {
        check_name(s, 1000)?;
        if s.split('/').any(str::is_empty) {
            return Err(BadName::EmptyLevel);
        }
        let (first, rest) = s.split_at(s.find('/').unwrap_or(s.len()));
        match first.eq_ignore_ascii_case("INBOX") {
            true => Ok(MailboxName(format!("INBOX{rest}"))),
            false => Ok(MailboxName(s.to_owned())),
        }
    }

    /// The mailbox that mail is delivered to by default.
    pub fn inbox() -> MailboxName {
        MailboxName("INBOX".to_owned())
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which mailbox of an account a call is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MailboxRef {
    /// The one that has this name when the call is carried out.
    Name(MailboxName),
    /// This one, whatever it is called by now.
    Id {
        /// Its number.
        id: MailboxId,
        /// Not found when it has another one; 0: no condition. With it, the mailbox is never
        /// taken for one of a later account of the same name.
        uidvalidity: u32,
    },
}

impl MailboxRef {
    /// The fields `mailbox`, `mailbox_id` and `uidvalidity` of a request.
    pub fn fields(&self) -> (String, u32, u32) {
        match self {
            MailboxRef::Name(name) => (name.as_str().to_owned(), 0, 0),
            MailboxRef::Id { id, uidvalidity } => (String::new(), id.0, *uidvalidity),
        }
    }
}

impl From<&MailboxName> for MailboxRef {
    fn from(name: &MailboxName) -> MailboxRef {
        MailboxRef::Name(name.clone())
    }
}

impl From<MailboxName> for MailboxRef {
    fn from(name: MailboxName) -> MailboxRef {
        MailboxRef::Name(name)
    }
}

impl From<&MailboxRef> for MailboxRef {
    fn from(mailbox: &MailboxRef) -> MailboxRef {
        mailbox.clone()
    }
}

impl fmt::Display for MailboxRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MailboxRef::Name(name) => name.fmt(f),
            MailboxRef::Id { id, .. } => write!(f, "number {}", id.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalized_and_bad_ones_refused() {
        assert_eq!(
            AccountName::new("Ann@Example.ORG").unwrap().as_str(),
            "ann@example.org"
        );
        assert_eq!(AccountName::new(""), Err(BadName::Empty));
        assert_eq!(AccountName::new("a\r\n@b"), Err(BadName::Control));
        assert_eq!(
            AccountName::new(&"a".repeat(321)),
            Err(BadName::TooLong(320))
        );
        assert_eq!(
            MailboxName::new("inbox/Work").unwrap().as_str(),
            "INBOX/Work"
        );
        assert_eq!(MailboxName::new("Inboxes").unwrap().as_str(), "Inboxes");
        assert_eq!(MailboxName::new("a//b"), Err(BadName::EmptyLevel));
        assert_eq!(MailboxName::new("a/"), Err(BadName::EmptyLevel));
    }

    #[test]
    fn ids_read_back_what_they_print() {
        let id = BlobId::of(b"octets");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("xyz".parse::<BlobId>(), Err(BadId));
        assert_eq!("é".repeat(16).parse::<RequestId>(), Err(BadId));
        let account = AccountId::new(Slot(0xabcd), 7);
        assert_eq!(account.slot(), Slot(0xabcd));
    }
}
