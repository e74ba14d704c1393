//! Sets of messages: by sequence number, by uid, or `$` (RFC 9051, `sequence-set`; RFC 5182).

use super::token::Cursor;
use super::{Bad, Limits};

/// `*`, the largest number in use.
pub const STAR: u32 = 0;

/// A set as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// Ranges; both ends inclusive and in either order, [`STAR`] for `*`.
    Ranges(Vec<(u32, u32)>),
    /// The result of the last search that saved one.
    Saved,
}

impl Set {
    /// Reads a set.
    pub fn parse(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<Set, Bad> {
        if cursor.eat(b'$') {
            return Ok(Set::Saved);
        }
        let mut ranges = Vec::new();
        loop {
            if ranges.len() == limits.set {
                return Err(Bad("the set has too many ranges"));
            }
            let first = number(cursor)?;
            let last = match cursor.eat(b':') {
                true => number(cursor)?,
                false => first,
            };
            ranges.push((first, last));
            if !cursor.eat(b',') {
                return Ok(Set::Ranges(ranges));
            }
        }
    }

    /// The ranges with `*` replaced by `largest` and the ends in order. `None` for `$`.
    pub fn resolved(&self, largest: u32) -> Option<impl Iterator<Item = (u32, u32)> + '_> {
        let number = move |n: u32| if n == STAR { largest } else { n };
        match self {
            Set::Saved => None,
            Set::Ranges(ranges) => Some(ranges.iter().map(move |&(a, b)| {
                let (a, b) = (number(a), number(b));
                (a.min(b), a.max(b))
            })),
        }
    }
}

fn number(cursor: &mut Cursor<'_>) -> Result<u32, Bad> {
    match cursor.eat(b'*') {
        true => Ok(STAR),
        false => cursor.positive(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<Set, Bad> {
        let mut cursor = Cursor::new(s.as_bytes());
        let set = Set::parse(
            &mut cursor,
            &Limits {
                set: 4,
                ..Limits::default()
            },
        )?;
        cursor.end()?;
        Ok(set)
    }

    #[test]
    fn sets_are_read_and_bounded() {
        assert_eq!(parse("$"), Ok(Set::Saved));
        assert_eq!(
            parse("1,3:5,9:*,*"),
            Ok(Set::Ranges(vec![(1, 1), (3, 5), (9, 0), (0, 0)]))
        );
        for bad in ["", "0", "1,", "1:", "1,2,3,4,5", "a", "1::2", "4294967296"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_may_be_written_in_either_order() {
        let set = parse("5:3,*:7").unwrap();
        let ranges: Vec<_> = set.resolved(6).unwrap().collect();
        assert_eq!(ranges, [(3, 5), (6, 7)]);
    }
}
