//! LIST with its options (RFC 9051, section 6.3.9; RFC 5258, 5819, 6154), and the items of STATUS
//! (section 6.3.11; RFC 7162, 7889, 8438, 8474, 9208).

use super::command::bounded;
use super::token::Cursor;
use super::{Bad, Limits, RawName};

/// LIST.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// Only subscribed names.
    pub subscribed: bool,
    /// Also parents of names that match, told with CHILDINFO.
    pub recursive: bool,
    /// Only mailboxes with a special use.
    pub special_use: bool,
    /// In front of the patterns.
    pub reference: RawName,
    /// Names with `*` and `%`.
    pub patterns: Vec<RawName>,
    /// `\Subscribed` is told.
    pub return_subscribed: bool,
    /// Items of STATUS for every mailbox.
    pub return_status: Vec<StatusItem>,
    /// It uses a selection or return option, or several patterns.
    pub extended: bool,
}

/// An item of STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    Size,
    HighestModSeq,
    MailboxId,
    AppendLimit,
    DeletedStorage,
}

impl StatusItem {
    /// All of them, with their names.
    pub const ALL: [(StatusItem, &'static str); 11] = [
        (StatusItem::Messages, "MESSAGES"),
        (StatusItem::Recent, "RECENT"),
        (StatusItem::UidNext, "UIDNEXT"),
        (StatusItem::UidValidity, "UIDVALIDITY"),
        (StatusItem::Unseen, "UNSEEN"),
        (StatusItem::Deleted, "DELETED"),
        (StatusItem::Size, "SIZE"),
        (StatusItem::HighestModSeq, "HIGHESTMODSEQ"),
        (StatusItem::MailboxId, "MAILBOXID"),
        (StatusItem::AppendLimit, "APPENDLIMIT"),
        (StatusItem::DeletedStorage, "DELETED-STORAGE"),
    ];

    /// How it is written.
    pub fn name(self) -> &'static str {
        let found = StatusItem::ALL.iter().find(|(item, _)| *item == self);
        found.map_or("", |(_, name)| name)
    }
}

/// Items in parentheses, at least one.
pub fn status_items(c: &mut Cursor<'_>) -> Result<Vec<StatusItem>, Bad> {
    let mut out = Vec::new();
    c.list(|c| {
        let word = c.word()?;
        let item = StatusItem::ALL.iter().find(|(_, name)| *name == word);
        let (item, _) = item.ok_or(Bad("unknown status item"))?;
        if !out.contains(item) {
            out.push(*item);
        }
        Ok(())
    })?;
    match out.is_empty() {
        true => Err(Bad("a status item was expected")),
        false => Ok(out),
    }
}

/// Reads what follows LIST and a space.
pub fn parse(c: &mut Cursor<'_>, limits: &Limits) -> Result<List, Bad> {
    let mut list = List::default();
    if c.peek() == Some(b'(') {
        list.extended = true;
        selection(c, &mut list)?;
        c.space()?;
    }
    list.reference = c.astring()?;
    c.space()?;
    if c.peek() == Some(b'(') {
        list.extended = true;
        list.patterns = c.list(Cursor::pattern)?;
        if list.patterns.is_empty() || bounded(&list.patterns, limits).is_err() {
            return Err(Bad("too few or too many patterns"));
        }
    } else {
        list.patterns = vec![c.pattern()?];
    }
    if c.eat(b' ') {
        list.extended = true;
        if c.word()? != "RETURN" {
            return Err(Bad("RETURN was expected"));
        }
        c.space()?;
        returns(c, &mut list)?;
    }
    Ok(list)
}

fn selection(c: &mut Cursor<'_>, list: &mut List) -> Result<(), Bad> {
    let mut base = false;
    c.list(|c| {
        match c.word()?.as_str() {
            "SUBSCRIBED" => (base, list.subscribed) = (true, true),
            "SPECIAL-USE" => (base, list.special_use) = (true, true),
            "RECURSIVEMATCH" => list.recursive = true,
            // No mailbox of this store is elsewhere.
            "REMOTE" => {}
            _ => return Err(Bad("unknown selection option")),
        }
        Ok(())
    })?;
    // RFC 9051: RECURSIVEMATCH alone, or with REMOTE alone, is a syntax error.
    match list.recursive && !base {
        true => Err(Bad("RECURSIVEMATCH needs another selection option")),
        false => Ok(()),
    }
}

fn returns(c: &mut Cursor<'_>, list: &mut List) -> Result<(), Bad> {
    c.list(|c| {
        match c.word()?.as_str() {
            "SUBSCRIBED" => list.return_subscribed = true,
            // Always told.
            "CHILDREN" | "SPECIAL-USE" => {}
            "STATUS" => {
                c.space()?;
                list.return_status = status_items(c)?;
            }
            _ => return Err(Bad("unknown return option")),
        }
        Ok(())
    })?;
    Ok(())
}
