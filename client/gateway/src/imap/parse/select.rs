//! SELECT and EXAMINE with CONDSTORE and QRESYNC (RFC 7162, sections 3.1.8 and 3.2.5).

use super::token::Cursor;
use super::{Bad, Limits, RawName, Set};

/// SELECT or EXAMINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// Which mailbox.
    pub name: RawName,
    /// EXAMINE.
    pub read_only: bool,
    /// The CONDSTORE parameter.
    pub condstore: bool,
    /// The QRESYNC parameter.
    pub qresync: Option<Qresync>,
}

/// What a client remembers of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qresync {
    /// Its uidvalidity; the rest counts only if it is still the same.
    pub uidvalidity: u32,
    /// The modseq that the client has seen.
    pub modseq: u64,
    /// The uids that it knows; `None`: all.
    pub known: Option<Set>,
    /// Sequence numbers that it remembers, and their uids.
    pub pairs: Option<(Set, Set)>,
}

/// Reads what follows the command's name and a space.
pub fn parse(c: &mut Cursor<'_>, limits: &Limits, read_only: bool) -> Result<Select, Bad> {
    let mut select = Select {
        name: c.astring()?,
        read_only,
        condstore: false,
        qresync: None,
    };
    if c.eat(b' ') {
        let mut parameters = 0;
        c.list(|c| {
            parameters += 1;
            match c.word()?.as_str() {
                "CONDSTORE" if !select.condstore => select.condstore = true,
                "QRESYNC" if select.qresync.is_none() => {
                    c.space()?;
                    select.qresync = Some(qresync(c, limits)?);
                }
                _ => return Err(Bad("unknown parameter")),
            }
            Ok(())
        })?;
        if parameters == 0 {
            return Err(Bad("a parameter was expected"));
        }
    }
    Ok(select)
}

fn qresync(c: &mut Cursor<'_>, limits: &Limits) -> Result<Qresync, Bad> {
    c.expect(b'(', "a parenthesis was expected")?;
    let uidvalidity = c.positive()?;
    c.space()?;
    let modseq = c.number63()?;
    let (mut known, mut pairs) = (None, None);
    if c.eat(b' ') {
        if c.peek() != Some(b'(') {
            known = Some(plain(c, limits)?);
        }
        if known.is_none() || c.eat(b' ') {
            c.expect(b'(', "a parenthesis was expected")?;
            let numbers = plain(c, limits)?;
            c.space()?;
            pairs = Some((numbers, plain(c, limits)?));
            c.expect(b')', "a parenthesis was expected")?;
        }
    }
    c.expect(b')', "a parenthesis was expected")?;
    Ok(Qresync {
        uidvalidity,
        modseq,
        known,
        pairs,
    })
}

/// A set without `*` and `$` (RFC 7162, `known-uids`).
fn plain(c: &mut Cursor<'_>, limits: &Limits) -> Result<Set, Bad> {
    match Set::parse(c, limits)? {
        Set::Ranges(ranges) if ranges.iter().all(|&(a, b)| a != 0 && b != 0) => {
            Ok(Set::Ranges(ranges))
        }
        _ => Err(Bad("only numbers are allowed here")),
    }
}
