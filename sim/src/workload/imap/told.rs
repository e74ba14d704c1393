//! What the door told, read as a mail program reads it: numbers and sets behind their words, codes,
//! lines of LIST and STATUS, pieces of messages.

use std::collections::BTreeMap;

use crate::history::{AccountSeen, Done, MailboxSeen, StatusSeen, StoredAt};

/// Uids of a set at most; more than any mailbox of a plan has.
const UIDS: u32 = 100_000;

/// A command's answer.
pub(super) struct Reply {
    /// Everything before the tagged line.
    pub untagged: Vec<u8>,
    /// The tagged line, without its tag.
    pub text: String,
}

impl Reply {
    /// The number in front of this word in what was said.
    pub fn count(&self, word: &str) -> Option<u32> {
        let text = String::from_utf8_lossy(&self.untagged);
        let before = text.split(word).next().filter(|b| b.len() < text.len())?;
        before.trim_end().rsplit(' ').next()?.parse().ok()
    }

    /// Whether a message was told of, and none was gone.
    pub fn shows(&self, uid: u32) -> bool {
        let text = String::from_utf8_lossy(&self.untagged);
        let told = [format!("UID {uid} "), format!("UID {uid})")];
        told.iter().any(|t| text.contains(t)) && !text.contains(" EXPUNGE\r\n")
    }

    /// Whether all was done.
    pub fn is_ok(&self) -> bool {
        self.text.starts_with("OK")
    }

    /// The number after this word in what was said.
    pub fn number(&self, word: &str) -> Option<u32> {
        number(&String::from_utf8_lossy(&self.untagged), word)?
            .try_into()
            .ok()
    }

    /// The words behind a response code, which may stand in front of the tagged line or in it.
    fn code(&self, word: &str) -> Option<Vec<String>> {
        let untagged = String::from_utf8_lossy(&self.untagged);
        let all = [&*untagged, self.text.as_str()];
        let code = all.into_iter().find_map(|text| {
            let after = text.split(&format!("[{word} ")).nth(1)?;
            after.split(']').next()
        })?;
        Some(code.split(' ').map(str::to_owned).collect())
    }

    /// uidvalidity and uids of what was stored (RFC 4315).
    fn stored(&self) -> Option<(u32, Vec<u32>)> {
        match self.code("APPENDUID")?.as_slice() {
            [validity, uids] => Some((validity.parse().ok()?, set(uids)?)),
            _ => None,
        }
    }

    /// Where one message was stored.
    pub fn appended(&self) -> Option<Done> {
        let (uid_validity, uids) = self.stored()?;
        let [uid] = uids[..] else { return None };
        Some(Done::Appended(StoredAt {
            uid_validity,
            uid,
            modseq: 0,
        }))
    }

    /// Where several were stored: without a gap, as the contract says. With one, their number is none
    /// that fits.
    pub fn appended_all(&self) -> Option<Done> {
        let (uid_validity, uids) = self.stored()?;
        let uid = *uids.first()?;
        let follow = (uid..).zip(&uids).all(|(next, uid)| next == *uid);
        let first = StoredAt {
            uid_validity,
            uid,
            modseq: 0,
        };
        let count = if follow { uids.len() as u32 } else { 0 };
        Some(Done::AppendedAll { first, count })
    }

    /// Where messages were copied or moved. OK is also said where there was nothing to carry;
    /// otherwise it tells where they are now, a move before its answer (RFC 6851).
    pub fn carried(&self) -> Option<Done> {
        match self.code("COPYUID")?.as_slice() {
            [validity, from, to] => Some(Done::Carried {
                modseq: 0,
                uid_validity: validity.parse().ok()?,
                from: set(from)?,
                to: set(to)?,
            }),
            _ => None,
        }
    }

    /// What a search found. A number that is not that of the uids stands as a uid that cannot be.
    pub fn found(&self) -> Option<Done> {
        let text = String::from_utf8_lossy(&self.untagged);
        let line = text.lines().find(|line| line.starts_with("* ESEARCH "))?;
        let count = number(line, " COUNT ")?;
        let mut uids = match line.split(" ALL ").nth(1) {
            Some(after) => set(after.split(' ').next()?)?,
            None => Vec::new(),
        };
        if uids.len() as u64 != count {
            uids.insert(0, 0);
        }
        Some(Done::Found(uids))
    }

    /// Counters of one mailbox.
    pub fn status(&self) -> Option<Done> {
        let text = String::from_utf8_lossy(&self.untagged);
        let line = text.lines().find(|line| line.starts_with("* STATUS "))?;
        let counted = |word: &str| number(line, word);
        Some(Done::Status(StatusSeen {
            uid_validity: counted("UIDVALIDITY ")?.try_into().ok()?,
            uid_next: counted("UIDNEXT ")?.try_into().ok()?,
            messages: counted("MESSAGES ")?,
            unseen: counted("UNSEEN ")?,
            deleted: counted("DELETED ")?,
            bytes: counted(" SIZE ")?,
        }))
    }

    /// Names of all mailboxes, with their special uses.
    pub fn names(&self) -> Done {
        let text = String::from_utf8_lossy(&self.untagged);
        let named = text.lines().filter_map(listed);
        Done::Names(named.map(|(name, uses, _)| (name, uses)).collect())
    }

    /// All mailboxes with their counters. What is told of none stands as 0, which fits none.
    pub fn mailboxes(&self) -> Done {
        let text = String::from_utf8_lossy(&self.untagged);
        let told: BTreeMap<&str, &str> = text.lines().filter_map(counters).collect();
        let named = text.lines().filter_map(listed);
        let mailboxes = named.map(|(name, uses, subscribed)| {
            let line = told.get(name.as_str()).copied().unwrap_or_default();
            let long = |word: &str| number(line, word).unwrap_or(0);
            let short = |word: &str| long(word).try_into().unwrap_or(0);
            let seen = MailboxSeen {
                uid_validity: short("UIDVALIDITY "),
                uid_next: short("UIDNEXT "),
                highest_modseq: long("HIGHESTMODSEQ "),
                messages: long("MESSAGES "),
                unseen: long("UNSEEN "),
                deleted: long("DELETED "),
                bytes: long(" SIZE "),
                id: short("MAILBOXID (M"),
                uses,
                subscribed,
            };
            (name, seen)
        });
        Done::Mailboxes(AccountSeen {
            mailboxes: mailboxes.collect(),
            subscriptions: Vec::new(),
            modseq: 0,
        })
    }

    /// The octets of a message that were told whole.
    pub fn whole(&self) -> Option<Done> {
        let (message, _) = literal_after(&self.untagged, b"BODY[] ")?;
        Some(octets(message))
    }

    /// The octets of a message that were told in two pieces. Where one of them is not as long as it
    /// has to be, they are no octets of any message: whoever judges sees that they are wrong.
    pub fn pieces(&self, cut: u32) -> Option<Done> {
        let (first, rest) = literal_after(&self.untagged, b"BODY[]<0> ")?;
        let label = format!("BODY[]<{cut}> ");
        let (second, _) = literal_after(rest, label.as_bytes())?;
        let full = first.len() == cut as usize;
        Some(
            match full || (first.len() < cut as usize && second.is_empty()) {
                true => octets(&[first, second].concat()),
                false => octets(b"pieces of another length"),
            },
        )
    }
}

/// The number after this word.
fn number(text: &str, word: &str) -> Option<u64> {
    let after = text.split(word).nth(1)?.trim_start();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The uids of a set, in its order.
fn set(text: &str) -> Option<Vec<u32>> {
    let mut uids = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last - first >= UIDS {
            return None;
        }
        uids.extend(first..=last);
    }
    Some(uids)
}

/// Name, special uses and subscription of the mailbox that a line of LIST tells; there is none where
/// only mailboxes below it are.
fn listed(line: &str) -> Option<(String, Vec<String>, bool)> {
    let rest = line.strip_prefix("* LIST (")?;
    let (attributes, rest) = rest.split_once(") \"/\" ")?;
    let attributes: Vec<&str> = attributes.split(' ').collect();
    if attributes.contains(&"\\NonExistent") {
        return None;
    }
    let other = ["\\HasChildren", "\\HasNoChildren", "\\Subscribed", ""];
    let uses = attributes.iter().filter(|a| !other.contains(a));
    let mut uses: Vec<String> = uses.map(|a| (*a).to_owned()).collect();
    uses.sort_unstable();
    let name = rest.trim_matches('"').to_owned();
    Some((name, uses, attributes.contains(&"\\Subscribed")))
}

/// Name and line of the mailbox that a line of STATUS tells of.
fn counters(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("* STATUS ")?;
    let (name, _) = rest.split_once(" (")?;
    Some((name.trim_matches('"'), line))
}

/// The literal behind these octets, and what follows it.
fn literal_after<'a>(all: &'a [u8], label: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = all.windows(label.len()).position(|w| w == label)? + label.len();
    let open = all[at..].iter().position(|b| *b == b'{')? + at + 1;
    let close = all[open..].iter().position(|b| *b == b'}')? + open;
    let size: usize = std::str::from_utf8(&all[open..close]).ok()?.parse().ok()?;
    let rest = all.get(close + 3..)?;
    (size <= rest.len()).then(|| rest.split_at(size))
}

fn octets(message: &[u8]) -> Done {
    Done::Octets {
        blob: blake3::hash(message).to_hex().to_string(),
        size: message.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(untagged: &str, text: &str) -> Reply {
        Reply {
            untagged: untagged.as_bytes().to_vec(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn numbers_are_found_behind_their_word() {
        let told = reply("* 3 EXISTS\r\n* OK [UIDVALIDITY 77] era\r\n", "OK done");
        assert_eq!(told.number("[UIDVALIDITY "), Some(77));
        assert_eq!(told.number("[UIDNEXT "), None);
        assert_eq!(told.count("EXISTS"), Some(3));
        assert_eq!(told.count("RECENT"), None);
        assert!(told.is_ok() && !told.shows(7));
        let stored = reply("* 1 FETCH (UID 7 FLAGS (\\Deleted))\r\n", "OK done");
        assert!(stored.shows(7) && !stored.shows(1));
    }

    #[test]
    fn codes_stand_in_front_of_an_answer_or_in_it() {
        let first = StoredAt {
            uid_validity: 9,
            uid: 4,
            modseq: 0,
        };
        let many =
            |code: &str| reply("", &format!("OK [APPENDUID 9 {code}] stored")).appended_all();
        let all = |count| Some(Done::AppendedAll { first, count });
        assert_eq!(many("4:6"), all(3));
        assert_eq!(many("4"), all(1));
        assert_eq!(many("4:5,7"), all(0));
        assert_eq!(many("4:"), None);
        let replaced = reply(
            "* OK [APPENDUID 9 4] stored\r\n* 1 EXPUNGE\r\n",
            "OK replaced",
        );
        assert_eq!(replaced.appended(), Some(Done::Appended(first)));
        assert_eq!(reply("", "OK stored").appended(), None);
        let carried = Done::Carried {
            modseq: 0,
            uid_validity: 9,
            from: vec![1, 3, 4],
            to: vec![7, 8, 9],
        };
        let moved = reply("* OK [COPYUID 9 1,3:4 7:9] moved\r\n", "OK moved");
        assert_eq!(moved.carried(), Some(carried));
        assert_eq!(reply("", "OK copied").carried(), None);
    }

    #[test]
    fn a_search_tells_as_many_as_it_counts() {
        let told =
            |line: &str| reply(&format!("* ESEARCH (TAG \"a5\") UID{line}\r\n"), "OK").found();
        assert_eq!(told(" COUNT 3 ALL 1:2,9"), Some(Done::Found(vec![1, 2, 9])));
        assert_eq!(told(" COUNT 0"), Some(Done::Found(vec![])));
        assert_eq!(told(" COUNT 2 ALL 9"), Some(Done::Found(vec![0, 9])));
        assert_eq!(told(""), None);
    }

    #[test]
    fn mailboxes_are_told_with_their_counters() {
        let lines = "* LIST (\\HasNoChildren \\Subscribed \\Sent) \"/\" Box-1\r\n\
                     * STATUS Box-1 (MESSAGES 3 UIDNEXT 5 UIDVALIDITY 7 UNSEEN 1 DELETED 2 SIZE 900 \
                     HIGHESTMODSEQ 12 MAILBOXID (M4))\r\n\
                     * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" Box-2\r\n";
        let told = reply(lines, "OK");
        let Done::Mailboxes(all) = told.mailboxes() else {
            unreachable!()
        };
        let seen = MailboxSeen {
            uid_validity: 7,
            uid_next: 5,
            highest_modseq: 12,
            messages: 3,
            unseen: 1,
            deleted: 2,
            bytes: 900,
            id: 4,
            uses: vec!["\\Sent".into()],
            subscribed: true,
        };
        assert_eq!(all.mailboxes, BTreeMap::from([("Box-1".into(), seen)]));
        let names = BTreeMap::from([("Box-1".to_owned(), vec!["\\Sent".to_owned()])]);
        assert_eq!(told.names(), Done::Names(names));
        let status = StatusSeen {
            uid_validity: 7,
            uid_next: 5,
            messages: 3,
            unseen: 1,
            deleted: 2,
            bytes: 900,
        };
        assert_eq!(told.status(), Some(Done::Status(status)));
    }

    #[test]
    fn pieces_are_put_together() {
        let told = |first: &str, second: &str| {
            let piece = |text: &str| format!("{{{}}}\r\n{text}", text.len());
            let (first, second) = (piece(first), piece(second));
            let line = format!("* 1 FETCH (UID 7 BODY[]<0> {first} BODY[]<3> {second})\r\n");
            reply(&line, "OK").pieces(3)
        };
        assert_eq!(told("abc", "BODY[]<3> d"), Some(octets(b"abcBODY[]<3> d")));
        assert_eq!(told("ab", ""), Some(octets(b"ab")));
        assert_ne!(told("ab", "c"), Some(octets(b"abc")));
        let whole = reply("* 1 FETCH (UID 7 BODY[] {3}\r\nabc)\r\n", "OK");
        assert_eq!(whole.whole(), Some(octets(b"abc")));
        assert_eq!(whole.pieces(3), None);
    }
}
