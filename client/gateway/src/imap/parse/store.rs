//! STORE (RFC 9051, section 6.4.6) with UNCHANGEDSINCE (RFC 7162, section 3.1.3).

use posthouse_client::proto::FlagMode;

use super::Bad;
use super::token::Cursor;

/// What STORE does to a set of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Only to messages that have not changed since this modseq.
    pub unchanged_since: Option<u64>,
    /// Add, remove or replace.
    pub mode: FlagMode,
    /// `.SILENT`: the new flags are not told.
    pub silent: bool,
    /// The flags.
    pub flags: Vec<String>,
}

/// Reads what follows the set and a space.
pub fn parse(c: &mut Cursor<'_>) -> Result<Store, Bad> {
    let mut unchanged_since = None;
    if c.eat(b'(') {
        if c.word()? != "UNCHANGEDSINCE" {
            return Err(Bad("the only parameter of STORE is UNCHANGEDSINCE"));
        }
        c.space()?;
        unchanged_since = Some(c.number63()?);
        c.expect(b')', "a parenthesis was expected")?;
        c.space()?;
    }
    let mode = match c.peek() {
        Some(b'+') => FlagMode::Add,
        Some(b'-') => FlagMode::Remove,
        _ => FlagMode::Replace,
    };
    let _ = c.eat(b'+') || c.eat(b'-');
    let silent = match c.word()?.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return Err(Bad("STORE changes FLAGS")),
    };
    c.space()?;
    let flags = match c.peek() {
        Some(b'(') => c.flags()?,
        _ => {
            let mut flags = vec![c.flag()?];
            while c.eat(b' ') {
                flags.push(c.flag()?);
            }
            flags
        }
    };
    Ok(Store {
        unchanged_since,
        mode,
        silent,
        flags,
    })
}
