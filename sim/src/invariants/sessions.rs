//! A mail program that stays in a mailbox is told nothing that makes no sense, and knows at the end
//! what a full reading finds.
//!
//! Source: RFC 9051, sections 5.2, 5.5 and 7.5.1 (numbers, and when messages may be told to be gone);
//! RFC 7162, section 3.2 (who comes back is told what has changed and what has vanished); RFC 5465,
//! section 5 (who says NOTIFY is told of other mailboxes). Who is in
//! no mailbox at the end knows nothing that could be wrong; but it must be kept out for a reason: it
//! may not log in, or the mailbox is gone. Where the account may have been deleted, nothing is said of
//! the mailbox: another one may have its name.

use std::collections::{BTreeMap, BTreeSet};

use super::story::Story;
use super::{Findings, Invariant, JUDGED};
use crate::history::{Answer, Believed, Call, Done, MessageSeen, Record};
use crate::workload::READER;
use crate::workload::body::Expected;
use crate::workload::stay::is_kept_out;

const NAME: &str = "sessions";
/// Of a program that may not log in, or whose mailbox is gone.
const KEPT_OUT: &str = "kept out";
/// Of one whose account may have been another's.
const OTHERS: &str = "skipped (account deleted)";

/// What sessions believe.
pub struct Sessions {
    expected: Expected,
}

impl Sessions {
    /// Judges by the final reading.
    pub fn new(expected: Expected) -> Sessions {
        Sessions { expected }
    }
}

impl Invariant for Sessions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        for (record, r) in history.iter().enumerate() {
            let (Call::Stay { account, mailbox }, Answer::Done(Done::Believed(believed))) =
                (&r.call, &r.answer)
            else {
                continue;
            };
            let who = format!("a session in {mailbox} of {account}");
            for problem in &believed.problems {
                story.report(found, NAME, record, format!("{who} was told: {problem}"));
            }
            let said = match believed.uid_validity {
                _ if !story.one_generation(account) => OTHERS,
                0 => KEPT_OUT,
                _ => JUDGED,
            };
            found.judged(NAME, said);
            if said != OTHERS
                && let Some(what) = difference(history, account, mailbox, believed)
            {
                story.report(found, NAME, record, format!("{who} {what}"));
            }
        }
    }
}

fn difference(
    history: &[Record],
    account: &str,
    mailbox: &str,
    believed: &Believed,
) -> Option<String> {
    let finals = history.iter().filter(|r| r.client == READER);
    let (mut read, mut named) = (false, false);
    let mut there: Option<&[MessageSeen]> = None;
    let mut counts = BTreeMap::new();
    for r in finals {
        match (&r.call, &r.answer) {
            (Call::Mailboxes { account: of }, Answer::Done(Done::Mailboxes(seen)))
                if of == account =>
            {
                read = true;
                named = seen.mailboxes.iter().any(|(name, _)| name == mailbox);
            }
            (
                Call::List { account: of, .. },
                Answer::Done(Done::Messages {
                    uid_validity,
                    messages,
                    ..
                }),
            ) if of == account => {
                counts.insert(*uid_validity, messages.len() as u64);
                if *uid_validity == believed.uid_validity {
                    there = Some(messages);
                }
            }
            _ => {}
        }
    }
    if !read {
        return None;
    }
    if believed.uid_validity == 0 {
        let Some(why) = &believed.out else {
            return Some("never came in".into());
        };
        let there = why.contains("[NONEXISTENT]") && named;
        let kept_out = is_kept_out(why) && !there;
        return (!kept_out).then(|| format!("is out although it should be in: {why}"));
    }
    let Some(there) = there else {
        return Some("knows a mailbox that is gone".into());
    };
    let seen = |m: &MessageSeen| -> (u32, BTreeSet<String>) {
        let flags = m.flags.iter().map(|flag| flag.to_ascii_lowercase());
        (m.uid, flags.collect())
    };
    let there: Vec<_> = there.iter().map(seen).collect();
    let uids =
        |all: &[(u32, BTreeSet<String>)]| -> Vec<u32> { all.iter().map(|(uid, _)| *uid).collect() };
    let (mine, theirs) = (uids(&believed.messages), uids(&there));
    if mine != theirs {
        return Some(format!("knows uids {mine:?}, and there are {theirs:?}"));
    }
    let mut pairs = believed.messages.iter().zip(&there);
    if let Some(((uid, flags), is)) = pairs.find(|(known, is)| known != is) {
        return Some(format!(
            "knows {flags:?} of uid {uid}, which has {:?}",
            is.1
        ));
    }
    // Of other mailboxes that are there (RFC 5465, section 5).
    let wrong = |(era, told): &&(u32, u64)| counts.get(era).is_some_and(|n| n != told);
    let (era, told) = believed.counted.iter().find(wrong)?;
    Some(format!(
        "was told of {told} messages of uidvalidity {era}, and there are {}",
        counts[era]
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::*;
    use super::*;

    /// `told`: what made no sense, or how the last connection ended.
    fn judged(uid_validity: u32, messages: &[(u32, &str)], told: Option<&str>) -> usize {
        let call = Call::Stay {
            account: ANN.into(),
            mailbox: "INBOX".into(),
        };
        let flags = |flag: &str| BTreeSet::from([flag.to_owned()]);
        let believed = Believed {
            uid_validity,
            messages: messages.iter().map(|(uid, f)| (*uid, flags(f))).collect(),
            out: told.map(str::to_owned).filter(|_| uid_validity == 0),
            problems: match uid_validity {
                0 => Vec::new(),
                _ => told.iter().map(|p| p.to_string()).collect(),
            },
            counted: vec![(7, 2), (99, 5)],
        };
        let mut there = [seen(1, 2, 1), seen(2, 4, 2)];
        there[0].flags = vec!["\\Seen".into()];
        there[1].flags = vec!["Work".into()];
        let mut history = [
            mailboxes(10, 3, 4, 2),
            list(20, 4, there.to_vec()),
            record(30, 35, call, Answer::Done(Done::Believed(believed))),
        ];
        for r in &mut history {
            r.client = READER;
        }
        judge(Sessions::new(Expected::default()), &history).len()
    }

    #[test]
    fn what_a_session_knows_is_what_is_there() {
        let good = [(1, "\\seen"), (2, "work")];
        assert_eq!(judged(7, &good, None), 0);
        assert_eq!(judged(7, &good, Some("EXISTS fell")), 1);
        assert_eq!(judged(7, &good[..1], None), 1);
        assert_eq!(judged(7, &[(1, "\\seen"), (2, "other")], None), 1);
        assert_eq!(judged(7, &[(1, "\\seen"), (3, "work")], None), 1);
        // Another mailbox, which is gone.
        assert_eq!(judged(6, &good, None), 1);
    }

    #[test]
    fn who_is_out_is_kept_out() {
        assert_eq!(judged(0, &[], Some("NO [AUTHENTICATIONFAILED] wrong")), 0);
        assert_eq!(judged(0, &[], Some("NO [NONEXISTENT] INBOX is there")), 1);
        assert_eq!(judged(0, &[], Some("NO [UNAVAILABLE] try again")), 1);
        assert_eq!(judged(0, &[], Some("deadline has elapsed")), 1);
        assert_eq!(judged(0, &[], None), 1);
    }
}
