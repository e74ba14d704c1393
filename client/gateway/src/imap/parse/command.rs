//! Tag and command (RFC 9051, section 6), and the arguments of the commands that take few.

use super::fetch::FetchItems;
use super::list::{List, StatusItem};
use super::metadata::{GetMetadata, SetMetadata};
use super::notify::Notify;
use super::search::{Search, Sort, Thread};
use super::select::Select;
use super::store::Store;
use super::token::Cursor;
use super::{
    Bad, Limits, RawName, Secret, Set, fetch, list, metadata, notify, search, select, store,
};

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// CAPABILITY.
    Capability,
    /// NOOP.
    Noop,
    /// LOGOUT.
    Logout,
    /// ID (RFC 2971); what clients say of themselves is not kept.
    Id,
    /// STARTTLS.
    StartTls,
    /// AUTHENTICATE with its mechanism and, with SASL-IR (RFC 4959), the initial response.
    Authenticate(String, Option<Secret>),
    /// LOGIN.
    Login(Vec<u8>, Secret),
    /// ENABLE (RFC 5161), names in upper case.
    Enable(Vec<String>),
    /// SELECT and EXAMINE.
    Select(Select),
    /// CREATE with special uses (RFC 6154).
    Create(RawName, Vec<String>),
    /// DELETE.
    Delete(RawName),
    /// RENAME.
    Rename(RawName, RawName),
    /// SUBSCRIBE (`true`) and UNSUBSCRIBE.
    Subscribe(RawName, bool),
    /// LIST.
    List(List),
    /// LSUB: reference and pattern.
    Lsub(RawName, RawName),
    /// NAMESPACE.
    Namespace,
    /// STATUS.
    Status(RawName, Vec<StatusItem>),
    /// IDLE.
    Idle,
    /// NOTIFY (RFC 5465).
    Notify(Notify),
    /// CHECK.
    Check,
    /// CLOSE.
    Close,
    /// UNSELECT.
    Unselect,
    /// EXPUNGE; with UIDPLUS, of a set.
    Expunge(Option<Set>),
    /// SEARCH; `true`: by uid, here and below.
    Search(bool, Search),
    /// SORT (RFC 5256).
    Sort(bool, Sort),
    /// THREAD (RFC 5256).
    Thread(bool, Thread),
    /// FETCH.
    Fetch(bool, Set, FetchItems),
    /// STORE.
    Store(bool, Set, Store),
    /// COPY.
    Copy(bool, Set, RawName),
    /// MOVE.
    Move(bool, Set, RawName),
    /// GETMETADATA (RFC 5464).
    GetMetadata(GetMetadata),
    /// SETMETADATA.
    SetMetadata(SetMetadata),
    /// GETQUOTA (RFC 9208).
    GetQuota(Vec<u8>),
    /// GETQUOTAROOT.
    GetQuotaRoot(RawName),
    /// SETQUOTA.
    SetQuota,
    /// COMPRESS (RFC 4978) with its mechanism.
    Compress(String),
    /// No command that this door knows.
    Unknown,
}

/// Octets of the longest tag.
pub const TAG_BYTES: usize = 100;

/// Reads a tag: `None` when there is none to answer with.
pub fn tag<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let tag = cursor.take_while(|b| b != b'+' && (super::token::is_atom(b) || b == b']'));
    match std::str::from_utf8(tag) {
        Ok("") | Err(_) => None,
        Ok(tag) if tag.len() > TAG_BYTES => None,
        Ok(tag) => Some(tag),
    }
}

/// Reads a complete command without its final CRLF: its tag, if it has one, and what it says.
/// APPEND and REPLACE are read by [`super::append`].
pub fn parse(octets: &[u8], limits: &Limits) -> (Option<String>, Result<Command, Bad>) {
    let mut cursor = Cursor::new(octets);
    let Some(tag) = tag(&mut cursor) else {
        return (None, Err(Bad("a command begins with a tag")));
    };
    let command = after_tag(&mut cursor, limits);
    (Some(tag.to_owned()), command)
}

fn after_tag(c: &mut Cursor<'_>, limits: &Limits) -> Result<Command, Bad> {
    c.space()?;
    let mut word = c.word()?;
    let uid = word == "UID";
    if uid {
        c.space()?;
        word = c.word()?;
    }
    let command = match (uid, word.as_str()) {
        (_, "SEARCH" | "SORT" | "THREAD" | "FETCH" | "STORE" | "COPY" | "MOVE")
        | (true, "EXPUNGE") => {
            c.space()?;
            with_messages(c, limits, uid, &word)?
        }
        (true, _) => Command::Unknown,
        (false, "CAPABILITY") => Command::Capability,
        (false, "NOOP") => Command::Noop,
        (false, "LOGOUT") => Command::Logout,
        (false, "STARTTLS") => Command::StartTls,
        (false, "NAMESPACE") => Command::Namespace,
        (false, "IDLE") => Command::Idle,
        (false, "CHECK") => Command::Check,
        (false, "CLOSE") => Command::Close,
        (false, "UNSELECT") => Command::Unselect,
        (false, "EXPUNGE") => Command::Expunge(None),
        (false, word) => {
            let word = word.to_owned();
            if !is_known(&word) {
                return Ok(Command::Unknown);
            }
            c.space()?;
            with_arguments(c, limits, &word)?
        }
    };
    match command {
        Command::Unknown => {}
        _ => c.end()?,
    }
    Ok(command)
}

fn is_known(word: &str) -> bool {
    matches!(
        word,
        "ID" | "AUTHENTICATE"
            | "LOGIN"
            | "ENABLE"
            | "SELECT"
            | "EXAMINE"
            | "CREATE"
            | "DELETE"
            | "RENAME"
            | "SUBSCRIBE"
            | "UNSUBSCRIBE"
            | "LIST"
            | "LSUB"
            | "STATUS"
            | "NOTIFY"
            | "GETMETADATA"
            | "SETMETADATA"
            | "GETQUOTA"
            | "GETQUOTAROOT"
            | "SETQUOTA"
            | "COMPRESS"
    )
}

fn with_arguments(c: &mut Cursor<'_>, limits: &Limits, word: &str) -> Result<Command, Bad> {
    Ok(match word {
        "ID" => {
            id(c, limits)?;
            Command::Id
        }
        "AUTHENTICATE" => {
            let mechanism = c.word()?;
            let initial = match c.eat(b' ') {
                true => Some(Secret(c.take_while(|b| b > b' ' && b < 0x7f).to_vec())),
                false => None,
            };
            Command::Authenticate(mechanism, initial)
        }
        "LOGIN" => {
            let user = c.astring()?;
            c.space()?;
            Command::Login(user, Secret(c.astring()?))
        }
        "ENABLE" => {
            let mut names = vec![c.word()?];
            while c.eat(b' ') {
                bounded(&names, limits)?;
                names.push(c.word()?);
            }
            Command::Enable(names)
        }
        "SELECT" | "EXAMINE" => Command::Select(select::parse(c, limits, word == "EXAMINE")?),
        "CREATE" => create(c)?,
        "DELETE" => Command::Delete(c.astring()?),
        "RENAME" => {
            let from = c.astring()?;
            c.space()?;
            Command::Rename(from, c.astring()?)
        }
        "SUBSCRIBE" | "UNSUBSCRIBE" => Command::Subscribe(c.astring()?, word == "SUBSCRIBE"),
        "LIST" => Command::List(list::parse(c, limits)?),
        "LSUB" => {
            let reference = c.astring()?;
            c.space()?;
            Command::Lsub(reference, c.pattern()?)
        }
        "STATUS" => {
            let name = c.astring()?;
            c.space()?;
            Command::Status(name, list::status_items(c)?)
        }
        "NOTIFY" => Command::Notify(notify::parse(c, limits)?),
        "GETMETADATA" => Command::GetMetadata(metadata::get(c, limits)?),
        "SETMETADATA" => Command::SetMetadata(metadata::set(c, limits)?),
        "GETQUOTA" => Command::GetQuota(c.astring()?),
        "GETQUOTAROOT" => Command::GetQuotaRoot(c.astring()?),
        "SETQUOTA" => {
            c.astring()?;
            c.space()?;
            c.list(|c| c.atom().map(drop))?;
            Command::SetQuota
        }
        "COMPRESS" => Command::Compress(c.word()?),
        _ => Command::Unknown,
    })
}

fn with_messages(
    c: &mut Cursor<'_>,
    limits: &Limits,
    uid: bool,
    word: &str,
) -> Result<Command, Bad> {
    match word {
        "SEARCH" => return Ok(Command::Search(uid, search::parse(c, limits)?)),
        "SORT" => return Ok(Command::Sort(uid, search::parse_sort(c, limits)?)),
        "THREAD" => return Ok(Command::Thread(uid, search::parse_thread(c, limits)?)),
        _ => {}
    }
    let set = Set::parse(c, limits)?;
    if word == "EXPUNGE" {
        return Ok(Command::Expunge(Some(set)));
    }
    c.space()?;
    Ok(match word {
        "FETCH" => Command::Fetch(uid, set, fetch::parse(c, limits)?),
        "STORE" => Command::Store(uid, set, store::parse(c)?),
        "COPY" => Command::Copy(uid, set, c.astring()?),
        _ => Command::Move(uid, set, c.astring()?),
    })
}

/// `CREATE name [(USE (\Sent ...))]`.
fn create(c: &mut Cursor<'_>) -> Result<Command, Bad> {
    let name = c.astring()?;
    let mut uses = Vec::new();
    if c.eat(b' ') {
        c.expect(b'(', "a parenthesis was expected")?;
        if c.word()? != "USE" {
            return Err(Bad("the only parameter of CREATE is USE"));
        }
        c.space()?;
        uses = c.flags()?;
        c.expect(b')', "a parenthesis was expected")?;
    }
    Ok(Command::Create(name, uses))
}

/// `NIL` or pairs of strings (RFC 2971): 30 of them at most.
fn id(c: &mut Cursor<'_>, limits: &Limits) -> Result<(), Bad> {
    if c.eat_word("NIL") {
        return Ok(());
    }
    let pairs = c.list(|c| {
        c.string()?;
        c.space()?;
        c.nstring()
    })?;
    bounded(&pairs, limits)
}

/// Refuses one more thing where there are too many already.
pub(super) fn bounded<T>(things: &[T], limits: &Limits) -> Result<(), Bad> {
    match things.len() < limits.items {
        true => Ok(()),
        false => Err(Bad("too many items")),
    }
}
