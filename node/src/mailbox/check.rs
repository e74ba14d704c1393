//! Checks of request fields, before anything is proposed. Every error names its field.

use super::error::{MailboxError, Result};
use super::limits::{MAX_FLAGS, MAX_KEYWORD_BYTES, MAX_UID_RANGES};
use crate::types::*;

/// A request_id: exactly 16 octets.
pub fn request_id(octets: &[u8]) -> Result<RequestId> {
    RequestId::try_from(octets).map_err(|_| {
        MailboxError::bad(
            "request_id",
            format_args!("must be 16 octets, has {}", octets.len()),
        )
    })
}

/// An account's name, normalized.
pub fn account(field: &str, name: &str) -> Result<AccountName> {
    AccountName::new(name).map_err(|e| MailboxError::bad(field, e))
}

/// A mailbox's name, normalized.
pub fn mailbox(field: &str, name: &str) -> Result<MailboxName> {
    MailboxName::new(name).map_err(|e| MailboxError::bad(field, e))
}

/// Which mailbox a request means: the one with this number, where it has one, or the one with
/// this name. `field` is that of the name.
pub fn mailbox_ref(field: &str, name: &str, id: u32, uidvalidity: u32) -> Result<MailboxRef> {
    match (id, uidvalidity) {
        (0, 0) => Ok(MailboxRef::Name(mailbox(field, name)?)),
        (0, _) => Err(MailboxError::bad(
            "uidvalidity",
            "is a condition of a mailbox_id, and there is none",
        )),
        (id, uidvalidity) => Ok(MailboxRef::Id {
            id: MailboxId(id),
            uidvalidity,
        }),
    }
}

/// The fields by which a request names a mailbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailboxFields {
    /// Its name.
    pub name: String,
    /// Its number; 0: the name counts.
    pub id: u32,
    /// With a number: not found when it has another one; 0: no condition.
    pub uidvalidity: u32,
}

impl MailboxFields {
    /// See [`mailbox_ref`].
    pub fn check(&self, field: &str) -> Result<MailboxRef> {
        mailbox_ref(field, &self.name, self.id, self.uidvalidity)
    }
}

impl From<&str> for MailboxFields {
    fn from(name: &str) -> MailboxFields {
        MailboxFields {
            name: name.to_owned(),
            ..MailboxFields::default()
        }
    }
}

/// The system flags that a client may set (RFC 9051, section 2.3.2).
pub const SYSTEM_FLAGS: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];

/// Flags as stored: system flags in their canonical spelling, keywords as given, none twice
/// (flags are compared without case).
pub fn flags(field: &str, given: &[String]) -> Result<Vec<String>> {
    if given.len() > MAX_FLAGS {
        return Err(MailboxError::bad(
            field,
            format_args!("{} flags, at most {MAX_FLAGS} are allowed", given.len()),
        ));
    }
    let mut out: Vec<String> = Vec::with_capacity(given.len());
    for (i, flag) in given.iter().enumerate() {
        let flag = one_flag(flag).map_err(|e| MailboxError::bad(format!("{field}[{i}]"), e))?;
        if !out.iter().any(|o| o.eq_ignore_ascii_case(flag)) {
            out.push(flag.to_owned());
        }
    }
    Ok(out)
}

/// One flag by the grammar of RFC 9051, section 9 (flag, flag-keyword, atom).
fn one_flag(flag: &str) -> Result<&str, &'static str> {
    if flag.starts_with('\\') {
        if flag.eq_ignore_ascii_case("\\Recent") {
            return Err("\\Recent cannot be set (RFC 9051, section 2.3.2)");
        }
        return SYSTEM_FLAGS
            .into_iter()
            .find(|s| s.eq_ignore_ascii_case(flag))
            .ok_or("not a system flag; keywords do not start with a backslash");
    }
    if flag.is_empty() {
        return Err("the flag is empty");
    }
    if flag.len() > MAX_KEYWORD_BYTES {
        return Err("the keyword is longer than 200 octets");
    }
    if !flag.bytes().all(is_atom_octet) {
        return Err("a keyword is an atom: printable ASCII without ( ) { % * \" \\ ] and space");
    }
    Ok(flag)
}

/// ATOM-CHAR of RFC 9051, section 9.
fn is_atom_octet(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// Uid ranges as commands carry them: inclusive, ascending, disjoint, not adjacent;
/// `u32::MAX` for "no upper bound", which the contract writes as 0.
pub fn uids(field: &str, given: impl ExactSizeIterator<Item = (Uid, Uid)>) -> Result<UidRanges> {
    if given.len() > MAX_UID_RANGES {
        return Err(MailboxError::bad(
            field,
            format_args!(
                "{} ranges, at most {MAX_UID_RANGES} are allowed",
                given.len()
            ),
        ));
    }
    let mut ranges = Vec::with_capacity(given.len());
    for (i, (first, last)) in given.enumerate() {
        let last = if last == 0 { Uid::MAX } else { last };
        if first == 0 || first > last {
            return Err(MailboxError::bad(
                format!("{field}[{i}]"),
                "a range starts at 1 or above and does not end before it starts",
            ));
        }
        ranges.push((first, last));
    }
    Ok(normalize(ranges))
}

/// Inclusive ranges of uids, ascending, disjoint, not adjacent.
pub type UidRanges = Vec<(Uid, Uid)>;

/// Sorts ranges and joins those that touch.
pub fn normalize(mut ranges: Vec<(Uid, Uid)>) -> UidRanges {
    ranges.sort_unstable();
    let mut out: UidRanges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(prev) if first <= prev.1.saturating_add(1) => prev.1 = prev.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(flags: &[&str]) -> Vec<String> {
        flags.iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn flags_are_canonical_and_single() {
        assert_eq!(
            flags(
                "flags",
                &given(&["\\SEEN", "$Junk", "\\seen", "$junk", "a"])
            )
            .unwrap(),
            given(&["\\Seen", "$Junk", "a"])
        );
        for bad in ["\\Recent", "\\Other", "", "two words", "a]", "ä", "a\0"] {
            let e = flags("flags", &given(&["ok", bad])).unwrap_err();
            assert!(
                matches!(&e, MailboxError::BadRequest { field, .. } if field == "flags[1]"),
                "{bad:?}: {e:?}"
            );
        }
        assert!(flags("flags", &["a".repeat(201)]).is_err());
        assert!(flags("flags", &vec!["a".to_owned(); 101]).is_err());
    }

    #[test]
    fn a_number_names_a_mailbox_before_its_name_does() {
        let by = |name: &str, id, uidvalidity| mailbox_ref("mailbox", name, id, uidvalidity);
        let inbox = MailboxName::inbox();
        assert_eq!(by("inbox", 0, 0), Ok(MailboxRef::Name(inbox)));
        let id = MailboxId(7);
        let found = MailboxRef::Id { id, uidvalidity: 9 };
        assert_eq!(by("", 7, 9), Ok(found));
        for (name, uidvalidity, wrong) in [("", 0, "mailbox"), ("INBOX", 9, "uidvalidity")] {
            let e = by(name, 0, uidvalidity).unwrap_err();
            assert!(matches!(e, MailboxError::BadRequest { field, .. } if field == wrong));
        }
    }

    #[test]
    fn uid_ranges_are_sorted_and_joined() {
        let ok = |r: Vec<(u32, u32)>| uids("uids", r.into_iter()).unwrap();
        assert_eq!(ok(vec![(7, 9), (1, 3), (4, 5)]), vec![(1, 5), (7, 9)]);
        assert_eq!(ok(vec![(5, 0), (1, 1)]), vec![(1, 1), (5, u32::MAX)]);
        assert_eq!(ok(vec![(1, 10), (2, 3)]), vec![(1, 10)]);
        assert_eq!(ok(vec![(u32::MAX, u32::MAX), (9, 0)]), vec![(9, u32::MAX)]);
        assert!(uids("uids", vec![(0, 3)].into_iter()).is_err());
        assert!(uids("uids", vec![(4, 3)].into_iter()).is_err());
    }

    #[test]
    fn request_ids_have_sixteen_octets() {
        assert!(request_id(&[1; 16]).is_ok());
        assert!(request_id(&[]).is_err());
        assert!(request_id(&[1; 17]).is_err());
    }
}
