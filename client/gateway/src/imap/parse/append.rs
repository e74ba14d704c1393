//! APPEND (RFC 9051, section 6.3.12; RFC 3502 for several, RFC 6855 for UTF8) and REPLACE (RFC
//! 8508): what stands before the octets of a message.
//!
//! A message never becomes part of the command that is held in memory. So these commands are
//! read in pieces: when a line ends with the announcement of a literal, it is either the name of
//! the mailbox, which is part of the command, or a message, and then everything before it is
//! known.

use super::command::tag;
use super::token::Cursor;
use super::{Bad, Limits, RawName, Set, date};

/// What stands before the first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Of the command.
    pub tag: String,
    /// Where to.
    pub name: RawName,
    /// Of REPLACE: by uid or not, and the message that is replaced.
    pub replace: Option<(bool, Set)>,
    /// Of the message.
    pub item: Item,
}

/// What stands before each message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    /// Its flags.
    pub flags: Vec<String>,
    /// Its internal date in milliseconds since 1970.
    pub date_ms: Option<i64>,
    /// The octets.
    pub literal: Announced,
}

/// A literal that is announced at the end of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Announced {
    /// Octets to come.
    pub len: u64,
    /// The client waits for leave (RFC 9051, section 4.3).
    pub waits: bool,
    /// In `UTF8 (…)`: a parenthesis follows the octets.
    pub utf8: bool,
}

/// What a line that ends with a literal's announcement is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The literal is part of the command.
    Argument,
    /// The literal is the first message.
    Message(Box<Head>),
}

/// Whether a command takes messages.
pub fn takes_messages(octets: &[u8]) -> bool {
    let mut c = Cursor::new(octets);
    tag(&mut c).is_some() && c.eat(b' ') && {
        c.eat_word("APPEND ") || c.eat_word("REPLACE ") || c.eat_word("UID REPLACE ")
    }
}

/// The literal that a line without its CRLF announces at its end.
pub fn announced(line: &[u8]) -> Option<Announced> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, waits) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let brace = inner.iter().rposition(|&b| b == b'{')?;
    let digits = &inner[brace + 1..];
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let len = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let before = &inner[..brace];
    let before = before.strip_suffix(b"~").unwrap_or(before);
    let utf8 = before.len() >= 6 && before[before.len() - 6..].eq_ignore_ascii_case(b"UTF8 (");
    Some(Announced { len, waits, utf8 })
}

/// Reads such a command as far as it has come: all literals but the one that its last line
/// announces are there. `octets` is without the final CRLF.
pub fn stage(octets: &[u8], limits: &Limits) -> Result<Stage, Bad> {
    let mut c = Cursor::new(octets);
    let tag = tag(&mut c)
        .ok_or(Bad("a command begins with a tag"))?
        .to_owned();
    c.space()?;
    let mut replace = None;
    if !c.eat_word("APPEND ") {
        let uid = c.eat_word("UID ");
        if !c.eat_word("REPLACE ") {
            return Err(Bad("APPEND was expected"));
        }
        let set = Set::parse(&mut c, limits)?;
        match &set {
            Set::Ranges(ranges) if ranges.len() == 1 && ranges[0].0 == ranges[0].1 => {}
            _ => return Err(Bad("REPLACE takes one message")),
        }
        replace = Some((uid, set));
        c.space()?;
    }
    let mut ahead = c;
    let Ok(name) = ahead.astring() else {
        // Its octets are still to come.
        return match announced(c.rest()).is_some() && matches!(c.peek(), Some(b'{' | b'~')) {
            true => Ok(Stage::Argument),
            false => Err(Bad("a mailbox name was expected")),
        };
    };
    ahead.space()?;
    let item = item(&mut ahead)?;
    Ok(Stage::Message(Box::new(Head {
        tag,
        name,
        replace,
        item,
    })))
}

/// Reads what stands before a further message: a line that begins with a space. Python's imapclient
/// says two where neither flags nor a date stand before it.
pub fn next(line: &[u8]) -> Result<Item, Bad> {
    let mut c = Cursor::new(line);
    c.space()?;
    while c.eat(b' ') {}
    item(&mut c)
}

fn item(c: &mut Cursor<'_>) -> Result<Item, Bad> {
    let mut item = Item::default();
    if c.peek() == Some(b'(') {
        item.flags = c.flags()?;
        c.space()?;
    }
    if c.peek() == Some(b'"') {
        item.date_ms = Some(date::date_time(c)?);
        c.space()?;
    }
    let literal = announced(c.rest()).ok_or(Bad("a literal was expected"))?;
    if literal.utf8 && !c.eat_word("UTF8 (") {
        return Err(Bad("a literal was expected"));
    }
    c.eat(b'~');
    if c.peek() != Some(b'{') || c.rest()[1..].contains(&b'{') {
        return Err(Bad("a literal was expected"));
    }
    item.literal = literal;
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(s: &str) -> Result<Stage, Bad> {
        stage(s.as_bytes(), &Limits::default())
    }

    #[test]
    fn names_that_are_literals_are_told_from_messages() {
        assert_eq!(head("a APPEND {5}"), Ok(Stage::Argument));
        let Ok(Stage::Message(h)) =
            head("a APPEND {5+}\r\nINBOX (\\Seen x) \"17-Jul-1996 02:44:25 -0700\" {310}")
        else {
            panic!()
        };
        assert_eq!((h.tag.as_str(), h.name.as_slice()), ("a", &b"INBOX"[..]));
        assert_eq!(h.item.flags, ["\\Seen", "x"]);
        assert_eq!(h.item.date_ms, Some(837_596_665_000));
        assert_eq!((h.item.literal.len, h.item.literal.waits), (310, true));
        let Ok(Stage::Message(h)) = head("a UID REPLACE 7 Drafts UTF8 (~{12+}") else {
            panic!()
        };
        assert!(h.item.literal.utf8 && !h.item.literal.waits);
        assert_eq!(h.replace, Some((true, Set::Ranges(vec![(7, 7)]))));
        for bad in [
            "a APPEND INBOX",
            "a APPEND INBOX {1}{2}",
            "a APPEND INBOX x {2}",
            "a APPEND INBOX (\\Seen {2}",
            "a REPLACE 1:2 INBOX {2}",
            "a REPLACE $ INBOX {2}",
            "a APPEND \"x {2}",
        ] {
            assert!(head(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn further_messages_follow_after_spaces() {
        let of = |s: &str| next(s.as_bytes()).map(|item| (item.flags.len(), item.literal.len));
        assert_eq!(of(" {5+}"), Ok((0, 5)));
        assert_eq!(of("  {5+}"), Ok((0, 5)));
        assert_eq!(of(" (\\Seen x) {6}"), Ok((2, 6)));
        assert!(of("{5+}").is_err() && of(" ").is_err() && of(" x {5}").is_err());
    }

    #[test]
    fn announcements_end_lines() {
        let of = |s: &str| announced(s.as_bytes()).map(|a| (a.len, a.waits));
        assert_eq!(of("a {12}"), Some((12, true)));
        assert_eq!(of("a ~{12+}"), Some((12, false)));
        assert_eq!(of("a {12} "), None);
        assert_eq!(of("a {}"), None);
        assert_eq!(of("a {99999999999999999999}"), None);
        assert_eq!(of("a \"{12}\""), None);
    }
}
