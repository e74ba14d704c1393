//! LIST (RFC 9051, section 6.3.9; RFC 5258, 5819, 6154).
//!
//! All names come in one read. A level that has children and is no mailbox itself is told as
//! `\NonExistent` (and as `\Noselect`, for clients that know only that).

use std::collections::BTreeMap;

use posthouse_client::proto::{ListMailboxesResponse, Mailbox};

use super::status;
use crate::imap::parse::list::List;
use crate::imap::respond::text::put;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// Patterns of one command.
const PATTERNS: usize = 100;
/// Octets of a pattern: names are shorter.
const PATTERN_BYTES: usize = 2_000;

/// Names that may be told, and what is known of them.
pub(in crate::imap) struct Names<'a> {
    all: BTreeMap<&'a str, Known<'a>>,
}

#[derive(Default, Clone, Copy)]
struct Known<'a> {
    mailbox: Option<&'a Mailbox>,
    subscribed: bool,
}

impl<'a> Names<'a> {
    /// Mailboxes, subscribed names, and all levels above them.
    pub fn new(answer: &'a ListMailboxesResponse) -> Names<'a> {
        let mut all: BTreeMap<&str, Known<'_>> = BTreeMap::new();
        let mut add = |name: &'a str| {
            for (at, _) in name.match_indices('/') {
                all.entry(&name[..at]).or_default();
            }
            all.entry(name).or_default();
        };
        answer.mailboxes.iter().for_each(|m| add(&m.name));
        answer.subscriptions.iter().for_each(|name| add(name));
        for mailbox in &answer.mailboxes {
            all.entry(&mailbox.name).or_default().mailbox = Some(mailbox);
        }
        for name in &answer.subscriptions {
            all.entry(name).or_default().subscribed = true;
        }
        Names { all }
    }

    /// Names below `name` for which `f` holds.
    fn below(&self, name: &str, f: impl Fn(&str, &Known<'_>) -> bool) -> bool {
        let prefix = format!("{name}/");
        let from = self.all.range(prefix.as_str()..);
        let mut below = from.take_while(|(n, _)| n.starts_with(&prefix));
        below.any(|(n, known)| f(n, known))
    }

    /// Subscribed names, and with `levels` the levels above them: name, and whether it is itself
    /// subscribed. For LSUB.
    pub fn subscribed(&self) -> impl Iterator<Item = (&str, bool)> {
        let some = |(name, known): &(&&'a str, &Known<'a>)| {
            known.subscribed || self.below(name, |_, k| k.subscribed)
        };
        self.all
            .iter()
            .filter(some)
            .map(|(name, known)| (*name, known.subscribed))
    }
}

/// What is told of one name.
struct Told<'a> {
    name: &'a str,
    mailbox: Option<&'a Mailbox>,
    attributes: String,
    /// It is what was asked for, and not only above it.
    is_chosen: bool,
    child_info: Option<&'static str>,
}

/// LIST.
pub(super) async fn list(s: &mut Session, command: List) -> Result<Done, Stop> {
    let account = s.account()?;
    let mut patterns = Vec::new();
    if command.patterns.len() > PATTERNS {
        return Err(Done::no("LIMIT", "too many patterns").into());
    }
    let reference = s.text_of(&command.reference)?;
    for pattern in &command.patterns {
        let pattern = s.text_of(pattern)?;
        if pattern.is_empty() && !command.extended {
            put(s.wire.out(), "* LIST (\\Noselect) \"/\" \"\"\r\n");
            return Ok(Done::ok("that is all"));
        }
        let pattern = format!("{reference}{pattern}");
        if pattern.len() > PATTERN_BYTES {
            return Err(Done::no("LIMIT", "the pattern is too long").into());
        }
        patterns.push(pattern);
    }
    let answer = s.door.store.mailboxes(&account).await?;
    let names = Names::new(&answer);
    let patience = s.door.config.data_timeout();
    for told in select(&names, &command, &patterns) {
        put(s.wire.out(), "* LIST (");
        put(s.wire.out(), &told.attributes);
        put(s.wire.out(), ") \"/\" ");
        s.say_name(told.name);
        if let Some(info) = told.child_info {
            put(s.wire.out(), &format!(" (\"CHILDINFO\" (\"{info}\"))"));
        }
        put(s.wire.out(), "\r\n");
        // Not of parents that are told for their children alone (RFC 5819, section 3).
        let with_status = told.is_chosen && !command.return_status.is_empty();
        if let Some(mailbox) = told.mailbox.filter(|_| with_status) {
            status::say(s, mailbox, &command.return_status).await?;
        }
        s.wire.relieve(patience).await?;
    }
    Ok(Done::ok("that is all"))
}

/// LIST of one name, which need not be there any more, with the name that it had before.
pub(in crate::imap) fn say(s: &mut Session, names: &Names<'_>, name: &str, old: Option<&str>) {
    let known = names.all.get(name).copied().unwrap_or_default();
    let command = List {
        return_subscribed: true,
        ..List::default()
    };
    let attributes = attributes(names, name, &known, &command);
    put(s.wire.out(), &format!("* LIST ({attributes}) \"/\" "));
    s.say_name(name);
    if let Some(old) = old {
        put(s.wire.out(), " (\"OLDNAME\" (");
        s.say_name(old);
        put(s.wire.out(), "))");
    }
    put(s.wire.out(), "\r\n");
}

fn select<'a>(names: &'a Names<'a>, command: &List, patterns: &[String]) -> Vec<Told<'a>> {
    let chosen = |known: &Known<'_>| {
        let special = known.mailbox.is_some_and(|m| !m.special_use.is_empty());
        (!command.subscribed || known.subscribed) && (!command.special_use || special)
    };
    let matching = |name: &str| patterns.iter().any(|p| matches(p, name));
    let selective = command.subscribed || command.special_use;
    let mut out = Vec::new();
    for (&name, known) in &names.all {
        if !matching(name) {
            continue;
        }
        let is_chosen = match selective {
            true => chosen(known),
            // Levels that only subscriptions need are not told here.
            false => known.mailbox.is_some() || names.below(name, |_, k| k.mailbox.is_some()),
        };
        let above = command.recursive && names.below(name, |_, k| chosen(k));
        // A parent that is not chosen itself is told only for children that are not told.
        let instead = || names.below(name, |n, k| chosen(k) && !matching(n));
        if !(is_chosen || above && instead()) {
            continue;
        }
        let told = |attributes| Told {
            name,
            mailbox: known.mailbox,
            attributes,
            is_chosen,
            child_info: above.then_some(match command.subscribed {
                true => "SUBSCRIBED",
                false => "SPECIAL-USE",
            }),
        };
        out.push(told(attributes(names, name, known, command)));
    }
    out
}

fn attributes(names: &Names<'_>, name: &str, known: &Known<'_>, command: &List) -> String {
    let mut out = String::new();
    let children = names.below(name, |_, k| k.mailbox.is_some());
    if known.mailbox.is_none() {
        out.push_str("\\NonExistent \\Noselect ");
    }
    out.push_str(if children {
        "\\HasChildren"
    } else {
        "\\HasNoChildren"
    });
    if known.subscribed && (command.subscribed || command.return_subscribed) {
        out.push_str(" \\Subscribed");
    }
    for special in known.mailbox.iter().flat_map(|m| &m.special_use) {
        out.push(' ');
        out.push_str(special);
    }
    out
}

/// Whether a name matches a pattern: `*` stands for anything, `%` for anything inside a level.
/// INBOX is compared without case.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let inbox = name == "INBOX" || name.starts_with("INBOX/");
    let pattern: Vec<char> = pattern.chars().collect();
    // Which parts of the pattern can have been used up so far.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let skip = |reached: &mut Vec<bool>| {
        for (i, c) in pattern.iter().enumerate() {
            if reached[i] && matches!(c, '*' | '%') {
                reached[i + 1] = true;
            }
        }
    };
    skip(&mut reached);
    for (at, c) in name.chars().enumerate() {
        let mut next = vec![false; pattern.len() + 1];
        for (i, p) in pattern.iter().enumerate().filter(|(i, _)| reached[*i]) {
            let same = *p == c || inbox && at < 5 && p.eq_ignore_ascii_case(&c);
            match p {
                '*' => next[i] = true,
                '%' => next[i] |= c != '/',
                _ if same => next[i + 1] = true,
                _ => {}
            }
        }
        reached = next;
        skip(&mut reached);
        if !reached.contains(&true) {
            return false;
        }
    }
    reached[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(names: &[&str], subscriptions: &[&str]) -> ListMailboxesResponse {
        let mailbox = |name: &&str| Mailbox {
            name: (*name).to_owned(),
            special_use: if *name == "Sent" {
                vec!["\\Sent".into()]
            } else {
                vec![]
            },
            ..Mailbox::default()
        };
        ListMailboxesResponse {
            mailboxes: names.iter().map(mailbox).collect(),
            subscriptions: subscriptions.iter().map(|s| (*s).to_owned()).collect(),
            highest_modseq: 1,
        }
    }

    fn told(answer: &ListMailboxesResponse, command: List, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let names = Names::new(answer);
        let told = select(&names, &command, &patterns);
        told.iter()
            .map(|t| {
                format!(
                    "{} ({}){}",
                    t.name,
                    t.attributes,
                    t.child_info.unwrap_or("")
                )
            })
            .collect()
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "a/b", true),
            ("%", "a/b", false),
            ("%", "a", true),
            ("%/b", "a/b", true),
            ("a*", "a", true),
            ("a*b%d", "axxb/b/d", false),
            ("a*b%d", "axx/bcd", true),
            ("inbox", "INBOX", true),
            ("iNb%", "INBOX", true),
            ("inbox/x", "INBOX/X", false),
            ("inbox/X", "INBOX/X", true),
            ("inboxes", "Inboxes", false),
            ("", "a", false),
            ("ü%", "über", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
    }

    #[test]
    fn levels_without_a_mailbox_are_told_as_such() {
        let answer = answer(&["INBOX", "a/b/c", "Sent"], &[]);
        assert_eq!(
            told(&answer, List::default(), &["%"]),
            [
                "INBOX (\\HasNoChildren)",
                "Sent (\\HasNoChildren \\Sent)",
                "a (\\NonExistent \\Noselect \\HasChildren)"
            ]
        );
        assert_eq!(told(&answer, List::default(), &["*"]).len(), 5);
    }

    #[test]
    fn subscriptions_outlive_mailboxes_and_show_in_their_parents() {
        let answer = answer(&["INBOX", "foo", "foo/x"], &["foo/x", "gone/y", "INBOX"]);
        let subscribed = List {
            subscribed: true,
            ..List::default()
        };
        assert_eq!(
            told(&answer, subscribed.clone(), &["*"]),
            [
                "INBOX (\\HasNoChildren \\Subscribed)",
                "foo/x (\\HasNoChildren \\Subscribed)",
                "gone/y (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed)"
            ]
        );
        let recursive = List {
            recursive: true,
            ..subscribed
        };
        assert_eq!(
            told(&answer, recursive, &["%"]),
            [
                "INBOX (\\HasNoChildren \\Subscribed)",
                "foo (\\HasChildren)SUBSCRIBED",
                "gone (\\NonExistent \\Noselect \\HasNoChildren)SUBSCRIBED"
            ]
        );
        // Not told at all without the option.
        assert_eq!(told(&answer, List::default(), &["gone*"]), [] as [&str; 0]);
    }
}
