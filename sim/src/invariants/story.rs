//! The history, sorted for those who judge it: tries to store, sightings, removals.
//!
//! Order is real-time order (Herlihy, Wing 1990): one call is before another when it answered
//! before the other was made. Times are milliseconds, so calls that meet in one millisecond are
//! taken to overlap, unless one client made both, one after the other.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Done, MessageSeen, Record, StoredAt};
use crate::invariants::Findings;
use crate::workload::READER;
use crate::workload::body::{Expected, Held};

/// By what the store knows that it has seen a message before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// By this id.
    Request([u8; 16]),
    /// By sender and octets (LMTP): the sender is always the same here.
    Content,
}

/// What became of a try to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Acknowledged, and it is there.
    At(StoredAt),
    /// Acknowledged by LMTP, which says no uid.
    Somewhere,
    /// It may be there.
    Unknown,
    /// It is not there.
    Refused,
}

/// A mailbox, by names.
pub type Place<'a> = (&'a str, &'a str);

/// One call's try to store one message in one mailbox.
#[derive(Debug)]
pub struct Try<'a> {
    /// Index in the history.
    pub record: usize,
    /// Where.
    pub place: Place<'a>,
    /// Which message it is.
    pub identity: Identity,
    /// What the store must hold of it.
    pub held: Held,
    /// How it ended.
    pub stored: Stored,
    /// When the first call with this identity for this place was made.
    pub first_called_ms: u64,
}

/// Messages that a read has listed.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// Index in the history.
    pub record: usize,
    /// Where.
    pub place: Place<'a>,
    /// Generation of the uids.
    pub uid_validity: u32,
    /// The messages.
    pub messages: &'a [MessageSeen],
}

/// A history, sorted.
pub struct Story<'a> {
    /// All of it, in the order of the answers.
    pub history: &'a [Record],
    /// Every try to store.
    pub tries: Vec<Try<'a>>,
    /// Every list of messages.
    pub sightings: Vec<Sighting<'a>>,
    /// Deletions of an account that may have happened.
    pub deletions: BTreeMap<&'a str, Vec<usize>>,
    /// Expunges in a mailbox that may have happened.
    pub expunges: BTreeMap<Place<'a>, Vec<usize>>,
}

const INBOX: &str = "INBOX";

impl<'a> Story<'a> {
    /// Sorts a history.
    pub fn new(history: &'a [Record], expected: &Expected) -> Story<'a> {
        let mut story = Story {
            history,
            tries: Vec::new(),
            sightings: Vec::new(),
            deletions: BTreeMap::new(),
            expunges: BTreeMap::new(),
        };
        for (record, r) in history.iter().enumerate() {
            story.add(record, r, expected);
        }
        let mut first: BTreeMap<(Place, Identity, Held), u64> = BTreeMap::new();
        for t in &story.tries {
            let called_ms = history[t.record].called_ms;
            let known = first.entry((t.place, t.identity, t.held.clone()));
            let known = known.or_insert(called_ms);
            *known = called_ms.min(*known);
        }
        for t in &mut story.tries {
            t.first_called_ms = first[&(t.place, t.identity, t.held.clone())];
        }
        story
    }

    fn add(&mut self, record: usize, r: &'a Record, expected: &Expected) {
        let refused = matches!(r.answer, Answer::Refused(_));
        match (&r.call, &r.answer) {
            (
                Call::Deliver {
                    accounts,
                    octets,
                    request,
                    may_exist,
                },
                answer,
            ) => {
                let identity = request.map_or(Identity::Content, Identity::Request);
                let held = expected.held(*octets, request.is_none());
                for (i, account) in accounts.iter().enumerate() {
                    let stored = match (may_exist, answer) {
                        (false, _) | (_, Answer::Refused(_)) => Stored::Refused,
                        (_, Answer::Done(Done::Delivered(results))) => match results.get(i) {
                            Some(Ok(at)) if at.uid == 0 => Stored::Somewhere,
                            Some(Ok(at)) => Stored::At(*at),
                            Some(Err(Answer::Refused(_))) => Stored::Refused,
                            _ => Stored::Unknown,
                        },
                        _ => Stored::Unknown,
                    };
                    self.tries.push(Try {
                        record,
                        place: (account, INBOX),
                        identity,
                        held: held.clone(),
                        stored,
                        first_called_ms: r.called_ms,
                    });
                }
            }
            (
                Call::Append {
                    account,
                    mailbox,
                    octets,
                    request,
                },
                answer,
            ) => {
                let stored = match answer {
                    Answer::Done(Done::Appended(at)) => Stored::At(*at),
                    Answer::Refused(_) => Stored::Refused,
                    _ => Stored::Unknown,
                };
                self.tries.push(Try {
                    record,
                    place: (account, mailbox),
                    identity: Identity::Request(*request),
                    held: expected.held(*octets, false),
                    stored,
                    first_called_ms: r.called_ms,
                });
            }
            (Call::DeleteAccount { account }, _) if !refused => {
                self.deletions.entry(account).or_default().push(record);
            }
            (
                Call::Expunge {
                    account, mailbox, ..
                },
                _,
            ) if !refused => {
                let place = (account.as_str(), mailbox.as_str());
                self.expunges.entry(place).or_default().push(record);
            }
            (
                Call::List { account, mailbox },
                Answer::Done(Done::Messages {
                    uid_validity,
                    messages,
                    ..
                }),
            ) => self.sightings.push(Sighting {
                record,
                place: (account, mailbox),
                uid_validity: *uid_validity,
                messages,
            }),
            _ => {}
        }
    }

    /// Whether call `a`, which has an answer, was over before call `b` was made.
    pub fn before(&self, a: usize, b: usize) -> bool {
        let (first, second) = (&self.history[a], &self.history[b]);
        let same = first.client == second.client && first.client != READER;
        first.returned_ms < second.called_ms || (same && a < b)
    }

    /// Whether the account of this name was always the same one.
    pub fn one_generation(&self, account: &str) -> bool {
        !self.deletions.contains_key(account)
    }

    /// Whether a deletion of the account may have taken away, before read `read` answered, what
    /// was first asked for at `since_ms`.
    pub fn may_be_deleted(&self, account: &str, since_ms: u64, read: usize) -> bool {
        let until_ms = self.history[read].returned_ms;
        let deletions = self.deletions.get(account).into_iter().flatten();
        deletions.into_iter().any(|d| {
            let d = &self.history[*d];
            let over = matches!(d.answer, Answer::Done(_)) && d.returned_ms < since_ms;
            d.called_ms <= until_ms && !over
        })
    }

    /// Whether an expunge may have taken away message `uid` of `place` before read `read`
    /// answered.
    pub fn may_be_expunged(&self, place: Place, uid: u32, read: usize) -> bool {
        let until_ms = self.history[read].returned_ms;
        let one_generation = self.one_generation(place.0);
        let expunges = self.expunges.get(&place).into_iter().flatten();
        expunges.into_iter().any(|e| {
            let e = &self.history[*e];
            let Call::Expunge { uids, .. } = &e.call else {
                return false;
            };
            // A late repetition inside the client may still strike a later account of the name:
            // the call names no generation. So the answer settles it for one generation alone.
            let struck = match &e.answer {
                Answer::Done(Done::Expunged { uids, .. }) if one_generation => uids.contains(&uid),
                _ => uids.contains(&uid),
            };
            struck && e.called_ms <= until_ms
        })
    }

    /// Reports a violation at the moment of the call that shows it.
    pub fn report(&self, found: &mut Findings, name: &str, record: usize, what: String) {
        let now_ms = found.now_ms;
        let r = &self.history[record];
        found.now_ms = r.returned_ms;
        let (from, to, client) = (r.called_ms, r.returned_ms, r.client);
        let by = match client {
            READER => "final reading".to_owned(),
            client => format!("client {client}"),
        };
        found.report(name, None, format!("{what} ({by}, {from} to {to} ms)"));
        found.now_ms = now_ms;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Histories by hand.

    use super::*;
    use crate::history::{MailboxSeen, Octets};
    use crate::invariants::Invariant;
    use crate::outcome::Violation;

    /// The account of hand-made histories.
    pub const ANN: &str = "user0@sim.example";

    /// Hand-made octets.
    pub fn octets(body: u64) -> Octets {
        Octets { body, size: 300 }
    }

    /// Where a message was stored.
    pub fn at(uid: u32, modseq: u64) -> StoredAt {
        StoredAt {
            uid_validity: 7,
            uid,
            modseq,
        }
    }

    /// A call of client 0, which the others follow one after the other.
    pub fn record(called_ms: u64, returned_ms: u64, call: Call, answer: Answer) -> Record {
        Record {
            op: None,
            client: (called_ms % 1000) as u32,
            called_ms,
            returned_ms,
            call,
            answer,
        }
    }

    /// The account is created.
    pub fn create(called_ms: u64) -> Record {
        let call = Call::CreateAccount {
            account: ANN.into(),
        };
        record(called_ms, called_ms + 5, call, Answer::Done(Done::Plain))
    }

    /// A delivery with this answer.
    pub fn deliver(called_ms: u64, body: u64, answer: Answer) -> Record {
        let call = Call::Deliver {
            accounts: vec![ANN.into()],
            octets: octets(body),
            request: Some([body as u8; 16]),
            may_exist: true,
        };
        record(called_ms, called_ms + 5, call, answer)
    }

    /// The answer of a delivery.
    pub fn delivered(at: StoredAt) -> Answer {
        Answer::Done(Done::Delivered(vec![Ok(at)]))
    }

    /// An unknown answer.
    pub fn unknown() -> Answer {
        Answer::Unknown("no answer".into())
    }

    /// A message as it is listed.
    pub fn seen(uid: u32, modseq: u64, body: u64) -> MessageSeen {
        let held = Expected::default().held(octets(body), false);
        MessageSeen {
            uid,
            modseq,
            flags: Vec::new(),
            size: held.size,
            blob: held.blob.to_string(),
        }
    }

    /// INBOX is listed.
    pub fn list(called_ms: u64, highest_modseq: u64, messages: Vec<MessageSeen>) -> Record {
        let call = Call::List {
            account: ANN.into(),
            mailbox: INBOX.into(),
        };
        let done = Done::Messages {
            uid_validity: 7,
            highest_modseq,
            one_page: true,
            messages,
        };
        record(called_ms, called_ms + 5, call, Answer::Done(done))
    }

    /// A message is expunged.
    pub fn expunge(called_ms: u64, uid: u32, answer: Answer) -> Record {
        let call = Call::Expunge {
            account: ANN.into(),
            mailbox: INBOX.into(),
            uids: vec![uid],
        };
        record(called_ms, called_ms + 5, call, answer)
    }

    /// The answer of an expunge.
    pub fn expunged(modseq: u64, uids: &[u32]) -> Answer {
        let uids = uids.to_vec();
        Answer::Done(Done::Expunged { modseq, uids })
    }

    /// The mailboxes are listed; there is INBOX alone.
    pub fn mailboxes(called_ms: u64, uid_next: u32, highest_modseq: u64, messages: u64) -> Record {
        let call = Call::Mailboxes {
            account: ANN.into(),
        };
        let inbox = MailboxSeen {
            uid_validity: 7,
            uid_next,
            highest_modseq,
            messages,
            unseen: messages,
        };
        let all = BTreeMap::from([(INBOX.to_owned(), inbox)]);
        let done = Answer::Done(Done::Mailboxes(all));
        record(called_ms, called_ms + 5, call, done)
    }

    /// What an invariant says of a history.
    pub fn judge(mut invariant: impl Invariant, history: &[Record]) -> Vec<Violation> {
        let mut found = Findings::default();
        for r in history {
            invariant.record(r, &mut found);
        }
        invariant.end(history, &mut found);
        found.violations
    }

    #[test]
    fn calls_of_one_millisecond_overlap_unless_one_client_made_both() {
        let mut history = [create(10), create(15), create(16)];
        let story = |h: &[Record], a, b| Story::new(h, &Expected::default()).before(a, b);
        assert!(!story(&history, 0, 1));
        assert!(story(&history, 0, 2));
        history[1].client = history[0].client;
        assert!(story(&history, 0, 1));
        assert!(!story(&history, 1, 0));
    }
}
