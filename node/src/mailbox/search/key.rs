//! What is searched for: conditions on messages (RFC 9051, section 6.4.4), within bounds.
//!
//! The bounds are checked before anything is read: the tree is walked by recursion, and each
//! message may be asked every node of it.

use super::super::limits::MAX_UID_RANGES;
use super::super::{MailboxError, Result};
use crate::types::*;

/// Levels of a key at most.
pub const MAX_DEPTH: usize = 100;
/// Conditions of a key at most.
pub const MAX_NODES: usize = 1000;
/// Octets of one text that is looked for.
pub const MAX_TEXT_BYTES: usize = 1000;
/// Criteria of one sort.
pub const MAX_SORT_KEYS: usize = 20;

/// Numbers `from <= n < to`; `to` 0: no upper bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: u64,
    /// The first that is too large; 0: none is.
    pub to: u64,
}

impl Span {
    /// Whether the number is one of them.
    pub fn contains(self, n: u64) -> bool {
        self.from <= n && (self.to == 0 || n < self.to)
    }

    /// Like `contains`, for a moment that may lie before 1970; nothing is too early for 0.
    pub fn contains_time(self, ms: i64) -> bool {
        match u64::try_from(ms) {
            Ok(ms) => self.contains(ms),
            Err(_) => self.from == 0,
        }
    }
}

/// A condition on messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// All of these; of none: every message.
    AllOf(Vec<Key>),
    /// Any of these; of none: no message.
    AnyOf(Vec<Key>),
    /// Not this.
    Not(Box<Key>),
    /// One of these uids; a last uid of 0 is no upper bound.
    Uids(Vec<(Uid, Uid)>),
    /// Carries this flag or keyword, or does not.
    Flag {
        /// Compared without case.
        name: String,
        /// It does not.
        off: bool,
    },
    /// RFC 9051 INTERNALDATE, ms since the epoch.
    InternalDate(Span),
    /// The day of the Date field as written, without time and zone: ms of its beginning in UTC.
    Sent(Span),
    /// RFC 8514, ms since the epoch.
    SaveDate(Span),
    /// Octets.
    Size(Span),
    /// The change that it was last touched by (RFC 7162).
    ModSeq(Span),
    /// A field of this name contains the text; of an empty text: there is such a field.
    Header {
        /// Compared without case.
        name: String,
        /// Compared without case, decoded.
        text: String,
    },
    /// Display names and addresses of From contain the text.
    From(String),
    /// Of To.
    To(String),
    /// Of Cc.
    Cc(String),
    /// Of Bcc.
    Bcc(String),
    /// The subject contains it.
    Subject(String),
    /// A text part contains it, decoded.
    Body(String),
    /// A text part or the header, or the header of a part.
    Text(String),
    /// The email.
    Email(u64),
    /// The thread.
    Thread(u64),
}

impl Key {
    /// Whether the key is within its bounds.
    pub fn check(&self) -> Result<()> {
        let mut left = Left {
            nodes: MAX_NODES,
            ranges: MAX_UID_RANGES,
        };
        self.check_at(1, &mut left)
    }

    fn check_at(&self, depth: usize, left: &mut Left) -> Result<()> {
        let bad = |field: &str, why: String| Err(MailboxError::bad(format!("key{field}"), why));
        if depth > MAX_DEPTH {
            return bad("", format!("is nested deeper than {MAX_DEPTH} levels"));
        }
        match left.nodes.checked_sub(1) {
            Some(nodes) => left.nodes = nodes,
            None => return bad("", format!("has more than {MAX_NODES} conditions")),
        }
        let text = |field: &str, text: &str| match text.len() > MAX_TEXT_BYTES {
            true => bad(field, format!("is longer than {MAX_TEXT_BYTES} octets")),
            false => Ok(()),
        };
        match self {
            Key::AllOf(keys) | Key::AnyOf(keys) => keys
                .iter()
                .try_for_each(|key| key.check_at(depth + 1, left)),
            Key::Not(key) => key.check_at(depth + 1, left),
            Key::Uids(ranges) => {
                match left.ranges.checked_sub(ranges.len()) {
                    Some(ranges) => left.ranges = ranges,
                    None => return bad(".uids", format!("more than {MAX_UID_RANGES} ranges")),
                }
                super::super::check::uids("key.uids", ranges.iter().copied()).map(drop)
            }
            Key::Flag { name, .. } => text(".flag.name", name),
            Key::Header { name, text: value } => {
                if name.is_empty() {
                    return bad(".header.name", "is empty".to_owned());
                }
                text(".header.name", name)?;
                text(".header.text", value)
            }
            Key::From(value) => text(".from", value),
            Key::To(value) => text(".to", value),
            Key::Cc(value) => text(".cc", value),
            Key::Bcc(value) => text(".bcc", value),
            Key::Subject(value) => text(".subject", value),
            Key::Body(value) => text(".body", value),
            Key::Text(value) => text(".text", value),
            Key::InternalDate(_)
            | Key::Sent(_)
            | Key::SaveDate(_)
            | Key::Size(_)
            | Key::ModSeq(_)
            | Key::Email(_)
            | Key::Thread(_) => Ok(()),
        }
    }
}

/// What a key may still have.
struct Left {
    nodes: usize,
    ranges: usize,
}

/// By what matches are sorted (RFC 5256, section 3; RFC 5957).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The internal date.
    Arrival,
    /// Local part of the first address of Cc.
    Cc,
    /// The sent date in UTC, or the internal date when there is none.
    Date,
    /// Local part of the first address of From.
    From,
    /// Octets.
    Size,
    /// The base subject.
    Subject,
    /// Local part of the first address of To.
    To,
    /// The first address of From as it is shown.
    DisplayFrom,
    /// The first address of To as it is shown.
    DisplayTo,
}

/// One criterion of a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey {
    /// By what.
    pub by: By,
    /// The largest first.
    pub reverse: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize, wrap: fn(Key) -> Key) -> Key {
        (1..levels).fold(Key::Email(1), |key, _| wrap(key))
    }

    #[test]
    fn a_hundred_levels_are_fine_and_one_more_is_not() {
        let wraps: [fn(Key) -> Key; 3] = [
            |key| Key::Not(Box::new(key)),
            |key| Key::AllOf(vec![key]),
            |key| Key::AnyOf(vec![key]),
        ];
        for wrap in wraps {
            assert_eq!(nested(100, wrap).check(), Ok(()));
            assert!(matches!(
                nested(101, wrap).check(),
                Err(MailboxError::BadRequest { .. })
            ));
        }
    }

    #[test]
    fn a_thousand_conditions_are_fine_and_one_more_is_not() {
        let of = |n: usize| Key::AnyOf(vec![Key::Email(1); n - 1]).check();
        assert!(of(1000).is_ok() && of(1001).is_err());
    }

    #[test]
    fn texts_and_sets_have_limits() {
        let long = "x".repeat(1001);
        for key in [
            Key::Body(long.clone()),
            Key::Header {
                name: "x".into(),
                text: long.clone(),
            },
            Key::Header {
                name: String::new(),
                text: "x".into(),
            },
            Key::Flag {
                name: long,
                off: true,
            },
            Key::Uids(vec![(5, 3)]),
            Key::Uids(vec![(0, 3)]),
            Key::AllOf(vec![
                Key::Uids(vec![(1, 1); 60_000]),
                Key::Uids(vec![(1, 1); 60_000]),
            ]),
        ] {
            assert!(key.check().is_err());
        }
        assert!(Key::Text("x".repeat(1000)).check().is_ok());
        assert!(Key::Uids(vec![(5, 0), (1, 1)]).check().is_ok());
    }

    #[test]
    fn spans_have_an_open_end_and_reach_before_1970() {
        let span = |from, to| Span { from, to };
        assert!(span(5, 0).contains(u64::MAX) && !span(5, 0).contains(4));
        assert!(span(0, 5).contains(4) && !span(0, 5).contains(5));
        assert!(span(0, 5).contains_time(-1) && !span(1, 5).contains_time(-1));
    }
}
