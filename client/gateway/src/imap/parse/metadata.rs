//! GETMETADATA and SETMETADATA (RFC 5464, section 4).

use super::command::bounded;
use super::token::Cursor;
use super::{Bad, Limits, RawName};

/// GETMETADATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetMetadata {
    /// Longer values are left out.
    pub max_bytes: Option<u64>,
    /// Levels below the entries: 0, 1, or `None` for all.
    pub depth: Option<u8>,
    /// Whose; empty: the account's.
    pub name: RawName,
    /// Which.
    pub entries: Vec<String>,
}

/// SETMETADATA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMetadata {
    /// Whose; empty: the account's.
    pub name: RawName,
    /// Names and values; `None` removes one.
    pub entries: Vec<(String, Option<Vec<u8>>)>,
}

fn options(c: &mut Cursor<'_>, get: &mut GetMetadata) -> Result<(), Bad> {
    c.list(|c| {
        match c.word()?.as_str() {
            "MAXSIZE" => {
                c.space()?;
                get.max_bytes = Some(c.number()?);
            }
            "DEPTH" => {
                c.space()?;
                get.depth = match c.word()?.as_str() {
                    "0" => Some(0),
                    "1" => Some(1),
                    "INFINITY" => None,
                    _ => return Err(Bad("DEPTH is 0, 1 or infinity")),
                };
            }
            _ => return Err(Bad("unknown option")),
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads what follows GETMETADATA and a space.
pub fn get(c: &mut Cursor<'_>, limits: &Limits) -> Result<GetMetadata, Bad> {
    let mut get = GetMetadata {
        max_bytes: None,
        depth: Some(0),
        name: Vec::new(),
        entries: Vec::new(),
    };
    if c.peek() == Some(b'(') {
        options(c, &mut get)?;
        c.space()?;
    }
    get.name = c.astring()?;
    c.space()?;
    // Some clients, and the first erratum, write the options behind the name.
    let at_options = |c: &Cursor<'_>| {
        let rest = c.rest();
        let word = |w: &[u8]| rest.len() > w.len() && rest[1..=w.len()].eq_ignore_ascii_case(w);
        rest.first() == Some(&b'(') && (word(b"MAXSIZE") || word(b"DEPTH"))
    };
    if at_options(c) {
        options(c, &mut get)?;
        c.space()?;
    }
    get.entries = match c.peek() {
        Some(b'(') => c.list(Cursor::text)?,
        _ => vec![c.text()?],
    };
    if get.entries.is_empty() || get.entries.len() > limits.items {
        return Err(Bad("too few or too many entries"));
    }
    Ok(get)
}

/// Reads what follows SETMETADATA and a space.
pub fn set(c: &mut Cursor<'_>, limits: &Limits) -> Result<SetMetadata, Bad> {
    let name = c.astring()?;
    c.space()?;
    let entries = c.list(|c| {
        let entry = c.text()?;
        c.space()?;
        Ok((entry, c.nstring()?))
    })?;
    match entries.is_empty() {
        true => Err(Bad("an entry was expected")),
        false => bounded(&entries, limits).map(|()| SetMetadata { name, entries }),
    }
}
