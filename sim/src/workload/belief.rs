//! A mailbox as a mail program knows it that believes what it is told (RFC 9051, sections 5.5 and
//! 7.5.1; RFC 7162, section 3.2). What it is told must make sense to it at every moment.

use std::collections::BTreeSet;

/// What a program knows of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its uid; 0: not told yet.
    pub uid: u32,
    /// Its flags in small letters, if told.
    pub flags: Option<BTreeSet<String>>,
}

/// A line that nobody asked for by its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// There are so many messages.
    Exists(usize),
    /// The message with this number is gone.
    Expunge(usize),
    /// Messages of these uids are gone.
    Vanished {
        /// Since the program was here last.
        earlier: bool,
        /// Which.
        uids: BTreeSet<u32>,
    },
    /// Of the message with a number.
    Fetch {
        /// Which.
        number: usize,
        /// Its uid.
        uid: Option<u32>,
        /// Its flags in small letters.
        flags: Option<BTreeSet<String>>,
        /// Its modseq.
        modseq: Option<u64>,
    },
    /// A code in brackets with a number.
    Code(&'static str, u64),
    /// Something else.
    Other,
}

/// Codes that matter.
const CODES: [&str; 2] = ["UIDVALIDITY", "HIGHESTMODSEQ"];
/// Uids of one set that are taken; a mailbox of a plan has fewer.
const UIDS: usize = 100_000;

impl Told {
    /// Reads a line without a tag.
    pub fn read(line: &[u8]) -> Told {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        let Some(text) = text.strip_prefix("* ") else {
            return Told::Other;
        };
        if let Some(set) = text.strip_prefix("VANISHED ") {
            let (earlier, set) = match set.strip_prefix("(EARLIER) ") {
                Some(set) => (true, set),
                None => (false, set),
            };
            let uids = uids(set);
            return Told::Vanished { earlier, uids };
        }
        if let Some(code) = Told::code(text) {
            return code;
        }
        let (number, rest) = text.split_once(' ').unwrap_or((text, ""));
        let Ok(number) = number.parse() else {
            return Told::Other;
        };
        match rest {
            "EXISTS" => Told::Exists(number),
            "EXPUNGE" => Told::Expunge(number),
            _ if rest.starts_with("FETCH (") => Told::Fetch {
                number,
                uid: after(rest, "UID "),
                flags: flags(rest),
                modseq: after(rest, "MODSEQ ("),
            },
            _ => Told::Other,
        }
    }

    /// The code that a status has, where it matters.
    pub fn code(status: &str) -> Option<Told> {
        let inside = status.strip_prefix("OK [")?;
        let mut found = CODES
            .iter()
            .filter_map(|code| Some((*code, after(inside.strip_prefix(code)?, " ")?)));
        found.next().map(|(code, n)| Told::Code(code, n))
    }
}

/// The number right behind these letters.
fn after<T: std::str::FromStr>(text: &str, letters: &str) -> Option<T> {
    let rest = &text[text.find(letters)? + letters.len()..];
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn flags(text: &str) -> Option<BTreeSet<String>> {
    let rest = &text[text.find("FLAGS (")? + 7..];
    let names = rest.split(')').next()?.split_ascii_whitespace();
    Some(names.map(str::to_ascii_lowercase).collect())
}

fn uids(set: &str) -> BTreeSet<u32> {
    let ranges = set.split(',').filter_map(|range| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().take(UIDS).collect()
}

/// A mailbox in a program's memory.
#[derive(Debug, Clone, Default)]
pub struct Belief {
    /// Its era; 0: it was never open.
    pub uid_validity: u32,
    /// From where on the program would ask for changes (RFC 7162, section 6).
    pub modseq: u64,
    /// Messages by number - 1.
    pub messages: Vec<Known>,
    /// Uids vanish, instead of numbers being expunged.
    pub qresync: bool,
    /// The highest modseq that was told since the last tagged answer ...
    shown: u64,
    /// ... and the last HIGHESTMODSEQ.
    code: Option<u64>,
}

impl Belief {
    /// Takes a line while a mailbox is open. `expunges`: messages may be told to be gone.
    pub fn hear(&mut self, told: Told, expunges: bool) -> Result<(), String> {
        let count = self.messages.len();
        match told {
            Told::Exists(n) if n < count => return Err(format!("EXISTS fell from {count} to {n}")),
            Told::Exists(n) => self.messages.resize(n, Known::default()),
            Told::Expunge(n) => {
                if !expunges || self.qresync || !(1..=count).contains(&n) {
                    return Err(format!("EXPUNGE {n} of {count} where it may not be"));
                }
                self.messages.remove(n - 1);
            }
            Told::Vanished { earlier, uids } => {
                if earlier || !expunges || !self.qresync {
                    return Err(format!("VANISHED {uids:?} where it may not be"));
                }
                uids.into_iter().try_for_each(|uid| self.vanish(uid))?;
            }
            Told::Fetch {
                number,
                uid,
                flags,
                modseq,
            } => {
                self.fetch(number, uid, flags)?;
                self.shown = self.shown.max(modseq.unwrap_or(0));
            }
            Told::Code("HIGHESTMODSEQ", modseq) => self.code = Some(modseq),
            Told::Code(..) | Told::Other => {}
        }
        Ok(())
    }

    /// A message is gone that the program knows by its uid, or as one more.
    fn vanish(&mut self, uid: u32) -> Result<(), String> {
        let next = self.messages.iter().position(|m| m.uid >= uid);
        let at = match next {
            Some(at) if self.messages[at].uid == uid => Some(at),
            // One of those between its neighbours whose uids were not told.
            next => {
                let before = next.unwrap_or(self.messages.len()).checked_sub(1);
                before.filter(|at| self.messages[*at].uid == 0)
            }
        };
        let at = at.ok_or_else(|| format!("VANISHED {uid}, which was not there"))?;
        self.messages.remove(at);
        Ok(())
    }

    fn fetch(
        &mut self,
        number: usize,
        uid: Option<u32>,
        flags: Option<BTreeSet<String>>,
    ) -> Result<(), String> {
        let count = self.messages.len();
        if !(1..=count).contains(&number) {
            return Err(format!("FETCH {number} of {count}"));
        }
        let at = number - 1;
        if let Some(uid) = uid {
            let known = self.messages[at].uid;
            if known != 0 && known != uid {
                return Err(format!("number {number} is uid {known}, and now {uid}"));
            }
            let others = |known: &&Known| known.uid != 0;
            let before = self.messages[..at].iter().rev().find(others);
            let behind = self.messages[number..].iter().find(others);
            if before.is_some_and(|m| m.uid >= uid) || behind.is_some_and(|m| m.uid <= uid) {
                return Err(format!("uid {uid} cannot have number {number}"));
            }
            self.messages[at].uid = uid;
        }
        if flags.is_some() {
            self.messages[at].flags = flags;
        }
        Ok(())
    }

    /// The tagged answer came: how far the program may say that it knows everything.
    pub fn end(&mut self) {
        let shown = std::mem::take(&mut self.shown);
        let code = self.code.take();
        self.modseq = code.unwrap_or(self.modseq.max(shown));
    }

    /// The numbers of the first and of the last message of which not all is known.
    pub fn unknown(&self) -> Option<(usize, usize)> {
        let vague = |m: &Known| m.uid == 0 || m.flags.is_none();
        let first = self.messages.iter().position(vague)?;
        let last = self.messages.iter().rposition(vague)?;
        Some((first + 1, last + 1))
    }

    /// What a program keeps when it goes: messages up to the first of which not all is known. It will
    /// ask for those behind it.
    pub fn keep(&mut self) {
        let (first, _) = self.unknown().unwrap_or((self.messages.len() + 1, 0));
        self.messages.truncate(first - 1);
        (self.shown, self.code) = (0, None);
    }

    /// The mailbox is open, and these lines came with it. What was kept holds where it is the same
    /// mailbox, and this program asked for what has changed in it.
    pub fn open(&mut self, lines: Vec<Told>) -> Result<(), String> {
        let number = |wanted: &str| {
            let mut found = lines.iter().filter_map(|told| match told {
                Told::Code(code, n) if *code == wanted => Some(*n),
                _ => None,
            });
            found.next().ok_or_else(|| format!("no {wanted} was told"))
        };
        let (era, modseq) = (number("UIDVALIDITY")?, number("HIGHESTMODSEQ")?);
        let resumes = self.qresync && u64::from(self.uid_validity) == era;
        if !resumes {
            self.messages.clear();
        }
        let (mut exists, mut fetched) = (None, Vec::new());
        for told in lines {
            match told {
                Told::Exists(n) => exists = Some(n),
                // Before all that has changed (RFC 7162, sections 3.2.5 and 3.2.6).
                Told::Vanished { earlier, uids } if earlier && resumes && fetched.is_empty() => {
                    self.messages.retain(|m| !uids.contains(&m.uid));
                }
                Told::Fetch { .. } if resumes => fetched.push(told),
                Told::Code(..) | Told::Other => {}
                other => return Err(format!("{other:?} with a mailbox that is opened")),
            }
        }
        let exists = exists.ok_or("no EXISTS was told")?;
        if self.messages.len() > exists {
            let left = self.messages.len();
            return Err(format!(
                "{left} messages are left of earlier, and {exists} EXIST"
            ));
        }
        self.messages.resize(exists, Known::default());
        for told in fetched {
            self.hear(told, false)?;
        }
        (self.shown, self.code) = (0, None);
        self.uid_validity = era as u32;
        self.modseq = modseq;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(belief: &mut Belief, lines: &[&str]) -> Result<(), String> {
        let mut lines = lines.iter().map(|line| Told::read(line.as_bytes()));
        lines.try_for_each(|line| belief.hear(line, true))
    }

    fn opened(belief: &mut Belief, lines: &[&str]) -> Result<(), String> {
        let codes = ["* OK [UIDVALIDITY 7] era", "* OK [HIGHESTMODSEQ 9] so far"];
        let lines = lines.iter().chain(&codes);
        belief.open(lines.map(|line| Told::read(line.as_bytes())).collect())
    }

    fn uids(belief: &Belief) -> Vec<u32> {
        belief.messages.iter().map(|m| m.uid).collect()
    }

    #[test]
    fn numbers_follow_what_is_told() {
        let mut belief = Belief::default();
        opened(&mut belief, &["* 3 EXISTS"]).unwrap();
        assert_eq!(belief.unknown(), Some((1, 3)));
        let fetched = [
            "* 1 FETCH (UID 2 FLAGS ())",
            "* 3 FETCH (UID 9 FLAGS (\\Seen a))",
        ];
        told(&mut belief, &fetched).unwrap();
        assert_eq!(belief.unknown(), Some((2, 2)));
        told(&mut belief, &["* 2 EXPUNGE", "* 4 EXISTS"]).unwrap();
        assert_eq!(uids(&belief), [2, 9, 0, 0]);
        let flags = belief.messages[1].flags.clone().unwrap();
        assert_eq!(flags, BTreeSet::from(["\\seen".into(), "a".into()]));
        belief.keep();
        assert_eq!(uids(&belief), [2, 9]);
    }

    #[test]
    fn what_makes_no_sense_is_found() {
        for line in [
            "* 1 EXISTS",
            "* 3 EXPUNGE",
            "* 0 EXPUNGE",
            "* VANISHED 2",
            "* 3 FETCH (UID 7)",
            "* 1 FETCH (UID 3)",
            "* 2 FETCH (UID 1)",
        ] {
            let mut belief = Belief::default();
            opened(&mut belief, &["* 2 EXISTS"]).unwrap();
            told(&mut belief, &["* 1 FETCH (UID 2)"]).unwrap();
            assert!(told(&mut belief, &[line]).is_err(), "{line}");
        }
        let mut belief = Belief::default();
        opened(&mut belief, &["* 2 EXISTS"]).unwrap();
        assert!(belief.hear(Told::Expunge(1), false).is_err());
    }

    #[test]
    fn who_comes_again_goes_on_from_what_was_kept() {
        let mut belief = Belief {
            qresync: true,
            ..Belief::default()
        };
        opened(&mut belief, &["* 3 EXISTS"]).unwrap();
        let fetched = (1..=3).map(|n| format!("* {n} FETCH (UID {n} FLAGS () MODSEQ (1{n}))"));
        let fetched: Vec<String> = fetched.collect();
        told(
            &mut belief,
            &fetched.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .unwrap();
        belief.end();
        assert_eq!(belief.modseq, 13);
        told(&mut belief, &["* VANISHED 1"]).unwrap();
        belief.keep();
        let lines = [
            "* 2 EXISTS",
            "* VANISHED (EARLIER) 1:2",
            "* 1 FETCH (UID 3 FLAGS (a) MODSEQ (8))",
        ];
        let mut same = belief.clone();
        opened(&mut same, &lines).unwrap();
        assert_eq!(uids(&same), [3, 0]);
        assert_eq!(same.modseq, 9);
        let mut less = belief.clone();
        assert!(opened(&mut less, &["* 1 EXISTS"]).is_err());
        let mut other = belief;
        other.uid_validity = 6;
        opened(&mut other, &["* 1 EXISTS"]).unwrap();
        assert_eq!(uids(&other), [0]);
    }
}
