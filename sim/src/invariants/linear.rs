//! Invariant 4: the history of each account is linearizable.
//!
//! Source: Herlihy and Wing, "Linearizability" (1990); an account is one object, and objects may be
//! judged one by one (their locality theorem), so a delivery to three accounts is three calls. It
//! covers read-your-writes and stale reads, across any fail-over. An account is not divided by
//! mailbox, since its mailboxes share a modseq. A call whose outcome is unknown may take effect at
//! any time from then on, or never. Lists of several pages are not of one moment and are left out.
//!
//! [`spec`] says what an account is; [`search`] looks for an order. stateright's
//! `LinearizabilityTester` would be the checker to use, but it tries all interleavings without a
//! memory of those that led to the same state and without knowing calls that constrain nothing:
//! the histories here have a hundred calls an account and dozens in flight for ever, which it does
//! not end. It serves as the judge of our own search, over small random histories, in the tests.

pub mod search;
pub mod spec;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::story::{Identity, Stored, Story};
use super::{Findings, Invariant};
use crate::history::{Answer, Call, Done, MessageSeen, Record};
use crate::workload::answer;
use crate::workload::body::Expected;
use search::{Evidence, Verdict};
use spec::{INBOX, Message, Name, Op, Ret, SEEN};

const NAME: &str = "linear";

/// Steps of the search for one account: some tenths of a second.
const BOUND: usize = 100_000;

/// Invariant 4.
pub struct Linear {
    expected: Expected,
    strangers: bool,
    /// Accounts for which the bound was reached.
    pub undecided: Vec<String>,
}

impl Linear {
    /// Judges by these octets. `strangers`: nodes of another cluster may answer at the addresses of
    /// this one. LMTP names no cluster (RFC 2033), so the refusal of an LMTP session then says
    /// nothing of this one.
    pub fn new(expected: Expected, strangers: bool) -> Linear {
        Linear {
            expected,
            strangers,
            undecided: Vec::new(),
        }
    }
}

impl Invariant for Linear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn end(&mut self, history: &[Record], found: &mut Findings) {
        let story = Story::new(history, &self.expected);
        for (account, calls) in Reader::new(&story, self.strangers).read() {
            let evidence = story.one_generation(&account).then(|| evidence(&calls));
            match search::search(&calls, evidence.as_ref(), BOUND) {
                Verdict::Good => {}
                Verdict::Undecided => {
                    tracing::warn!(account, "the search for an order reached its bound");
                    self.undecided.push(account);
                }
                Verdict::Bad {
                    explained,
                    stuck,
                    account: state,
                } => {
                    let all = calls.iter().filter(|c| c.ret.is_some()).count();
                    let record = calls.get(stuck).map_or(0, |c| c.record);
                    let r = &history[record];
                    let answer: String = format!("{:?}", r.answer).chars().take(600).collect();
                    let what = format!(
                        "no order of the calls on {account} explains their answers: after \
                         {explained} of {all} it would be: {state}; next to answer was {:?} with \
                         {answer}",
                        r.call
                    );
                    story.report(found, NAME, record, what);
                }
            }
        }
    }
}

/// What answers show of an account of one generation.
fn evidence(calls: &[search::Call]) -> Evidence {
    let mut evidence = Evidence::default();
    for (c, call) in calls.iter().enumerate() {
        let Some(ret) = &call.ret else { continue };
        match (&call.op, ret) {
            (Op::Store { mailbox, blob, .. }, Ret::Stored(at)) => {
                evidence.made.entry(at.modseq).or_insert(c);
                evidence.blobs.insert((*mailbox, at.uid), *blob);
            }
            (
                _,
                Ret::Flags {
                    modseq, changed, ..
                },
            ) if !changed.is_empty() => {
                evidence.made.insert(*modseq, c);
            }
            (_, Ret::Expunged { modseq, uids }) if !uids.is_empty() => {
                evidence.made.insert(*modseq, c);
            }
            (Op::List(mailbox), Ret::Messages { messages, .. }) => {
                for (uid, message) in messages {
                    evidence.blobs.insert((*mailbox, *uid), message.blob);
                    let touched = evidence.touched.entry(message.modseq);
                    touched
                        .or_insert_with(|| (*mailbox, Default::default()))
                        .1
                        .insert(*uid);
                }
            }
            (Op::Fetch(mailbox, uid), Ret::Octets(blob)) => {
                evidence.blobs.insert((*mailbox, *uid), *blob);
            }
            _ => {}
        }
    }
    evidence
}

/// Numbers for names.
struct Names(BTreeMap<Vec<u8>, Name>);

impl Names {
    /// `zero` has the number 0.
    fn new(zero: &str) -> Names {
        Names(BTreeMap::from([(zero.as_bytes().to_vec(), 0)]))
    }

    fn of(&mut self, name: impl AsRef<[u8]>) -> Name {
        let next = self.0.len() as Name;
        *self.0.entry(name.as_ref().to_vec()).or_insert(next)
    }
}

/// Turns a history into calls on accounts.
struct Reader<'a> {
    story: &'a Story<'a>,
    strangers: bool,
    mailboxes: Names,
    flags: Names,
    blobs: Names,
    requests: Names,
    calls: BTreeMap<String, Vec<search::Call>>,
    /// The last call with an answer of each client on each account.
    last: BTreeMap<(String, u32), usize>,
}

impl<'a> Reader<'a> {
    fn new(story: &'a Story<'a>, strangers: bool) -> Reader<'a> {
        let mailboxes = Names::new("INBOX");
        debug_assert_eq!(mailboxes.0.get("INBOX".as_bytes()), Some(&INBOX));
        let flags = Names::new("\\seen");
        debug_assert_eq!(flags.0.get("\\seen".as_bytes()), Some(&SEEN));
        Reader {
            story,
            strangers,
            mailboxes,
            flags,
            blobs: Names::new(""),
            requests: Names::new(""),
            calls: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    fn read(mut self) -> BTreeMap<String, Vec<search::Call>> {
        let story = self.story;
        let mut tries = story.tries.iter().peekable();
        for (record, r) in story.history.iter().enumerate() {
            while let Some(t) = tries.next_if(|t| t.record == record) {
                let mut request = match t.identity {
                    Identity::Request(id) => id.to_vec(),
                    Identity::Content => b"content".to_vec(),
                };
                if t.identity == Identity::Content {
                    request.extend_from_slice(t.held.blob.as_bytes());
                }
                let op = Op::Store {
                    mailbox: self.mailboxes.of(t.place.1),
                    request: self.requests.of(request),
                    blob: self.blobs.of(&*t.held.blob),
                    size: t.held.size,
                };
                let ret = match t.stored {
                    Stored::At(at) => Some(Ret::Stored(at)),
                    Stored::Somewhere => Some(Ret::StoredSomewhere),
                    Stored::Unknown => None,
                    Stored::Refused if self.strangers && t.identity == Identity::Content => {
                        continue;
                    }
                    Stored::Refused => match refusal_of(r, t.place.0) {
                        Some(ret) => Some(ret),
                        None => continue,
                    },
                };
                self.add(t.place.0, record, op, ret);
            }
            self.call(record, r);
        }
        self.calls
    }

    fn call(&mut self, record: usize, r: &Record) {
        let request = format!("call {record}");
        let (account, op) = match &r.call {
            Call::Deliver { .. } | Call::Append { .. } => return,
            Call::CreateAccount { account } => (account, Op::CreateAccount),
            Call::DeleteAccount { account } => (account, Op::DeleteAccount),
            Call::CreateMailbox { account, mailbox } => {
                (account, Op::CreateMailbox(self.mailboxes.of(mailbox)))
            }
            Call::SetFlags {
                account,
                mailbox,
                uids,
                mode,
                flags,
                unchanged_since,
            } => {
                let op = Op::SetFlags {
                    mailbox: self.mailboxes.of(mailbox),
                    request: self.requests.of(request),
                    uids: sorted(uids),
                    mode: *mode,
                    flags: self.flags(flags),
                    unchanged_since: *unchanged_since,
                };
                (account, op)
            }
            Call::Expunge {
                account,
                mailbox,
                uids,
            } => {
                let op = Op::Expunge {
                    mailbox: self.mailboxes.of(mailbox),
                    request: self.requests.of(request),
                    uids: sorted(uids),
                };
                (account, op)
            }
            Call::Mailboxes { account } => (account, Op::Mailboxes),
            Call::List { account, mailbox } => (account, Op::List(self.mailboxes.of(mailbox))),
            Call::Fetch {
                account,
                mailbox,
                uid,
            } => (account, Op::Fetch(self.mailboxes.of(mailbox), *uid)),
        };
        let reads = matches!(op, Op::Mailboxes | Op::List(_) | Op::Fetch(..));
        let ret = match &r.answer {
            Answer::Unknown(_) if reads => return,
            Answer::Unknown(_) => None,
            Answer::Refused(why) => match refusal(why) {
                Some(ret) => Some(ret),
                None => return,
            },
            Answer::Done(done) => match self.done(done) {
                Some(ret) => Some(ret),
                None => return,
            },
        };
        self.add(account, record, op, ret);
    }

    /// The answer; `None` for one that is not of one moment.
    fn done(&mut self, done: &Done) -> Option<Ret> {
        Some(match done {
            Done::Plain => Ret::Done,
            Done::Flags {
                modseq,
                changed,
                unchanged,
            } => Ret::Flags {
                modseq: *modseq,
                changed: sorted(changed),
                unchanged: sorted(unchanged),
            },
            Done::Expunged { modseq, uids } => Ret::Expunged {
                modseq: *modseq,
                uids: sorted(uids),
            },
            Done::Mailboxes(all) => {
                let all = all
                    .iter()
                    .map(|(name, m)| (self.mailboxes.of(name), m.clone()));
                Ret::Mailboxes(all.collect())
            }
            Done::Messages {
                uid_validity,
                highest_modseq,
                one_page: true,
                messages,
            } => Ret::Messages {
                uid_validity: *uid_validity,
                highest_modseq: *highest_modseq,
                messages: messages.iter().map(|m| self.message(m)).collect(),
            },
            Done::Octets { blob, .. } => Ret::Octets(self.blobs.of(blob)),
            Done::Delivered(_) | Done::Appended(_) | Done::Messages { .. } => return None,
        })
    }

    fn message(&mut self, m: &MessageSeen) -> (u32, Message) {
        let message = Message {
            blob: self.blobs.of(&m.blob),
            size: m.size,
            flags: self.flags(&m.flags),
            modseq: m.modseq,
        };
        (m.uid, message)
    }

    /// Flags are compared without case (RFC 9051, section 2.3.2).
    fn flags(&mut self, flags: &[String]) -> Vec<Name> {
        let flags = flags.iter().map(|f| self.flags.of(f.to_ascii_lowercase()));
        sorted(&flags.collect::<Vec<_>>())
    }

    fn add(&mut self, account: &str, record: usize, op: Op, ret: Option<Ret>) {
        let r = &self.story.history[record];
        let inside = matches!(
            op,
            Op::Store { .. } | Op::SetFlags { .. } | Op::Expunge { .. } | Op::CreateMailbox(_)
        );
        let refused = matches!(
            ret,
            Some(Ret::NoAccount | Ret::NoMailbox | Ret::NoMessage | Ret::Exists)
        );
        let client = (account.to_owned(), r.client);
        let call = search::Call {
            op,
            called_ms: r.called_ms,
            returned_ms: ret.as_ref().map_or(u64::MAX, |_| r.returned_ms),
            after: match r.client {
                crate::workload::READER => None,
                _ => self.last.get(&client).copied(),
            },
            ret,
            record,
        };
        // A call on a name whose account was deleted and created meanwhile may, by a try that was
        // late, take effect in both: requests are remembered for each account apart.
        let echo = inside && !refused && self.later_deletion(account, r);
        let calls = self.calls.entry(account.to_owned()).or_default();
        if call.ret.is_some() {
            self.last.insert(client, calls.len());
        }
        if echo {
            calls.push(call.clone());
            calls.push(search::Call {
                ret: None,
                returned_ms: u64::MAX,
                ..call
            });
        } else {
            calls.push(call);
        }
    }

    /// Whether the account may have been deleted after the call was made.
    fn later_deletion(&self, account: &str, r: &Record) -> bool {
        let deletions = self.story.deletions.get(account).into_iter().flatten();
        let mut deletions = deletions.map(|d| &self.story.history[*d]);
        deletions.any(|d| !matches!(d.answer, Answer::Done(_)) || d.returned_ms >= r.called_ms)
    }
}

/// What a refusal says of the account; `None`: nothing.
fn refusal(why: &str) -> Option<Ret> {
    let table = [
        (answer::NO_ACCOUNT, Ret::NoAccount),
        (answer::NO_MAILBOX, Ret::NoMailbox),
        (answer::NO_MESSAGE, Ret::NoMessage),
        (answer::NO_BLOB, Ret::NoMessage),
        (answer::EXISTS, Ret::Exists),
    ];
    let found = table.into_iter().find(|(text, _)| why.starts_with(text));
    found.map(|(_, ret)| ret)
}

/// What the refusal of a delivery says of one of its accounts.
fn refusal_of(r: &Record, account: &str) -> Option<Ret> {
    match (&r.call, &r.answer) {
        (Call::Deliver { accounts, .. }, Answer::Done(Done::Delivered(results))) => {
            let i = accounts.iter().position(|a| a == account)?;
            match results.get(i)? {
                Err(Answer::Refused(why)) => refusal(why),
                _ => None,
            }
        }
        (Call::Append { .. }, Answer::Refused(why)) => refusal(why),
        _ => None,
    }
}

fn sorted<T: Ord + Copy>(numbers: &[T]) -> Vec<T> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
