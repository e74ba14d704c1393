//! The history, sorted for those who judge it: tries to store, sightings, removals.
//!
//! Order is real-time order (Herlihy, Wing 1990): one call is before another when it answered
//! before the other was made. Times are milliseconds, so calls that meet in one millisecond are
//! taken to overlap, unless one client made both, one after the other.

use std::collections::BTreeMap;

use crate::history::{Answer, Call, Done, MessageSeen, Record, StoredAt};
use crate::invariants::Findings;
use crate::plan::Given;
use crate::workload::READER;
use crate::workload::body::{Expected, Held};

/// By what the store knows that it has seen a message before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// By this id.
    Request([u8; 16]),
    /// By sender and octets (LMTP): the sender is always the same here.
    Content,
    /// By this id, as the n-th of several.
    Part([u8; 16], u32),
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
    /// What it was given beside.
    pub given: &'a Given,
    /// How it ended.
    pub stored: Stored,
    /// When the first call with this identity for this place was made.
    pub first_called_ms: u64,
    /// Whether its call does nothing but this.
    pub alone: bool,
}

/// A call that may have taken messages away.
#[derive(Debug)]
pub struct Removal<'a> {
    /// Index in the history.
    pub record: usize,
    /// The mailbox's name when it was called.
    pub mailbox: &'a str,
    /// Its uidvalidity; 0: it was named by its name.
    pub era: u32,
    /// Which; `None`: all that were there.
    pub uids: Option<Vec<u32>>,
    /// Which it took away, as it answered.
    pub gone: Option<Vec<u32>>,
}

/// A call that may have shown messages in another mailbox, too, or instead.
#[derive(Debug)]
pub struct Carry<'a> {
    /// Index in the history.
    pub record: usize,
    /// Into the mailbox of this name.
    pub to: &'a str,
    /// How many at most.
    pub count: usize,
    /// Its request id.
    pub request: [u8; 16],
}

/// All calls under one request that may have brought messages to another account.
#[derive(Debug)]
pub struct Crossing<'a> {
    /// The first of these calls that was acknowledged, otherwise the last one: index in the history.
    pub record: usize,
    /// From here.
    pub place: Place<'a>,
    /// ... the mailbox with this uidvalidity; 0: it was named by its name.
    pub era: u32,
    /// To here.
    pub to: Place<'a>,
    /// ... the mailbox with this uidvalidity; 0: it was named by its name.
    pub to_era: u32,
    /// Which.
    pub uids: &'a [u32],
    /// Whether they leave where they were.
    pub away: bool,
    /// The request id.
    pub request: [u8; 16],
    /// When the first of these calls was made.
    pub first_called_ms: u64,
    /// What was answered, where it was acknowledged.
    pub told: Option<Crossed<'a>>,
}

/// The answer to a [`Crossing`].
#[derive(Debug, Clone, Copy)]
pub struct Crossed<'a> {
    /// The source's modseq when it was over.
    pub modseq: u64,
    /// uidvalidity of the target.
    pub uid_validity: u32,
    /// Where the messages were.
    pub from: &'a [u32],
    /// Where they are.
    pub to: &'a [u32],
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
    /// What may have taken messages of an account away.
    pub removals: BTreeMap<&'a str, Vec<Removal<'a>>>,
    /// What may have shown messages of an account elsewhere.
    pub carries: BTreeMap<&'a str, Vec<Carry<'a>>>,
    /// What may have brought messages to other accounts, by the account that they come from and by
    /// request.
    pub crossings: BTreeMap<(&'a str, [u8; 16]), Crossing<'a>>,
    /// Octets of messages as they were stored or listed, by account, uidvalidity and uid.
    pub octets: BTreeMap<(&'a str, u32, u32), String>,
    /// Renamings and removals of mailboxes of an account that may have happened.
    pub restructures: BTreeMap<&'a str, Vec<usize>>,
    expected: Expected,
}

/// The mailbox that every account has, and that nobody removes.
pub const INBOX: &str = "INBOX";

impl<'a> Story<'a> {
    /// Sorts a history.
    pub fn new(history: &'a [Record], expected: &Expected) -> Story<'a> {
        let mut story = Story {
            history,
            tries: Vec::new(),
            sightings: Vec::new(),
            deletions: BTreeMap::new(),
            removals: BTreeMap::new(),
            carries: BTreeMap::new(),
            crossings: BTreeMap::new(),
            octets: BTreeMap::new(),
            restructures: BTreeMap::new(),
            expected: expected.clone(),
        };
        for (record, r) in history.iter().enumerate() {
            story.add(record, r, expected);
        }
        story.add_octets();
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
                    mailbox,
                    given,
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
                        place: (account, mailbox),
                        identity,
                        held: held.clone(),
                        given,
                        stored,
                        first_called_ms: r.called_ms,
                        alone: true,
                    });
                }
            }
            (
                Call::Append {
                    account,
                    mailbox,
                    octets,
                    given,
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
                    given,
                    stored,
                    first_called_ms: r.called_ms,
                    alone: true,
                });
            }
            (Call::DeleteAccount { account }, _) if !refused => {
                self.deletions.entry(account).or_default().push(record);
            }
            (call, _) if !refused => self.add_mail(record, call, &r.answer),
            _ => {}
        }
        self.add_sighting(record, r);
    }

    fn add_octets(&mut self) {
        for t in &self.tries {
            if let Stored::At(at) = t.stored {
                let key = (t.place.0, at.uid_validity, at.uid);
                self.octets.entry(key).or_insert(t.held.blob.to_string());
            }
        }
        for s in &self.sightings {
            for m in s.messages {
                let key = (s.place.0, s.uid_validity, m.uid);
                self.octets.entry(key).or_insert_with(|| m.blob.clone());
            }
        }
    }

    /// What may have been stored, removed and carried.
    fn add_mail(&mut self, record: usize, call: &'a Call, answer: &'a Answer) {
        match call {
            Call::AppendMany {
                account,
                mailbox,
                items,
                given,
                request,
            } => {
                for (n, octets) in (0..).zip(items) {
                    let stored = match answer {
                        Answer::Done(Done::AppendedAll { first, .. }) => Stored::At(StoredAt {
                            uid: first.uid + n,
                            ..*first
                        }),
                        _ => Stored::Unknown,
                    };
                    let identity = Identity::Part(*request, n);
                    let what = (*octets, given);
                    self.add_try(record, (account, mailbox), identity, what, stored);
                }
            }
            Call::Replace {
                account,
                mailbox,
                era,
                uid,
                octets,
                given,
                request,
            } => {
                let stored = match answer {
                    Answer::Done(Done::Appended(at)) => Stored::At(*at),
                    _ => Stored::Unknown,
                };
                let identity = Identity::Request(*request);
                let what = (*octets, given);
                self.add_try(record, (account, mailbox), identity, what, stored);
                let gone = matches!(answer, Answer::Done(_)).then(|| vec![*uid]);
                self.add_removal(account, record, mailbox, *era, Some(vec![*uid]), gone);
            }
            Call::Expunge {
                account,
                mailbox,
                uids,
                era,
                ..
            } => {
                let gone = match answer {
                    Answer::Done(Done::Expunged { uids, .. }) => Some(uids.clone()),
                    _ => None,
                };
                self.add_removal(account, record, mailbox, *era, Some(uids.clone()), gone);
            }
            Call::Carry {
                account,
                to_account,
                mailbox,
                era,
                to,
                to_era,
                uids,
                away,
                request,
            } => {
                if *away {
                    let gone = match answer {
                        Answer::Done(Done::Carried { from, .. }) => Some(from.clone()),
                        _ => None,
                    };
                    self.add_removal(account, record, mailbox, *era, Some(uids.clone()), gone);
                }
                if let Some(other) = to_account {
                    let crossing = Crossing {
                        record,
                        place: (account, mailbox),
                        era: *era,
                        to: (other, to),
                        to_era: *to_era,
                        uids,
                        away: *away,
                        request: *request,
                        first_called_ms: self.history[record].called_ms,
                        told: None,
                    };
                    self.add_crossing(crossing, answer);
                    return;
                }
                self.carries.entry(account).or_default().push(Carry {
                    record,
                    to,
                    count: uids.len(),
                    request: *request,
                });
            }
            Call::RenameMailbox {
                account,
                mailbox,
                to,
                request,
            } if mailbox == INBOX => {
                self.add_removal(account, record, mailbox, 0, None, None);
                self.carries.entry(account).or_default().push(Carry {
                    record,
                    to,
                    count: usize::MAX,
                    request: *request,
                });
            }
            Call::RenameMailbox { account, .. } | Call::DeleteMailbox { account, .. } => {
                self.restructures.entry(account).or_default().push(record);
            }
            _ => {}
        }
    }

    fn add_crossing(&mut self, crossing: Crossing<'a>, answer: &'a Answer) {
        let (record, called_ms) = (crossing.record, crossing.first_called_ms);
        let key = (crossing.place.0, crossing.request);
        let known = self.crossings.entry(key).or_insert(crossing);
        known.first_called_ms = known.first_called_ms.min(called_ms);
        if known.told.is_none() {
            known.record = record;
            if let Answer::Done(Done::Carried {
                modseq,
                uid_validity,
                from,
                to,
            }) = answer
            {
                known.told = Some(Crossed {
                    modseq: *modseq,
                    uid_validity: *uid_validity,
                    from,
                    to,
                });
            }
        }
    }

    fn add_try(
        &mut self,
        record: usize,
        place: Place<'a>,
        identity: Identity,
        (octets, given): (crate::history::Octets, &'a Given),
        stored: Stored,
    ) {
        self.tries.push(Try {
            record,
            place,
            identity,
            held: self.expected.held(octets, false),
            given,
            stored,
            first_called_ms: self.history[record].called_ms,
            alone: false,
        });
    }

    fn add_removal(
        &mut self,
        account: &'a str,
        record: usize,
        mailbox: &'a str,
        era: u32,
        uids: Option<Vec<u32>>,
        gone: Option<Vec<u32>>,
    ) {
        self.removals.entry(account).or_default().push(Removal {
            record,
            mailbox,
            era,
            uids,
            gone,
        });
    }

    fn add_sighting(&mut self, record: usize, r: &'a Record) {
        if let (
            Call::List { account, mailbox },
            Answer::Done(Done::Messages {
                uid_validity,
                messages,
                ..
            }),
        ) = (&r.call, &r.answer)
        {
            self.sightings.push(Sighting {
                record,
                place: (account, mailbox),
                uid_validity: *uid_validity,
                messages,
            });
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

    /// Whether a mailbox of the account may have been renamed or removed: then a name says
    /// nothing of which mailbox it was.
    pub fn restructured(&self, account: &str) -> bool {
        self.restructures.contains_key(account)
    }

    /// The number of these octets, where somebody stored or listed them.
    pub fn size_of(&self, blob: &str) -> Option<u64> {
        let stored = self.tries.iter().find(|t| &*t.held.blob == blob);
        stored.map(|t| t.held.size).or_else(|| {
            let mut listed = self.sightings.iter().flat_map(|s| s.messages);
            listed.find(|m| m.blob == blob).map(|m| m.size)
        })
    }

    /// The uidvalidity of a mailbox that had one name all the time, where it was shown.
    pub fn era_of(&self, place: Place<'a>) -> Option<u32> {
        let renamed = self.restructured(place.0) && place.1 != INBOX;
        if !self.one_generation(place.0) || renamed {
            return None;
        }
        let stored = self.tries.iter().find_map(|t| match t.stored {
            Stored::At(at) if t.place == place => Some(at.uid_validity),
            _ => None,
        });
        stored.or_else(|| {
            let seen = self.sightings.iter().find(|s| s.place == place);
            seen.map(|s| s.uid_validity)
        })
    }

    /// The uidvalidity of the mailbox that messages of a crossing come from, where it is known.
    pub fn source_era(&self, c: &Crossing<'a>) -> Option<u32> {
        match c.era {
            0 => self.era_of(c.place),
            era => Some(era),
        }
    }

    /// Whether a call other than this crossing may have taken the message away from where it was
    /// before read `read` answered.
    pub fn taken_otherwise(&self, c: &Crossing<'a>, era: u32, uid: u32, read: usize) -> bool {
        let one = self.one_generation(c.place.0);
        let mut removals = self.removals_before(c.place, era, read);
        removals.any(|r| {
            let own = matches!(&self.history[r.record].call,
                Call::Carry { request, .. } if *request == c.request);
            !own && match (&r.gone, &r.uids) {
                (Some(gone), _) if one || r.era != 0 => gone.contains(&uid),
                (_, None) => true,
                (_, Some(uids)) => uids.contains(&uid),
            }
        })
    }

    /// What the store must hold of octets that did not come by LMTP.
    pub fn held(&self, octets: crate::history::Octets) -> Held {
        self.expected.held(octets, false)
    }

    /// What the store must hold of octets that came by LMTP.
    pub fn held_by_lmtp(&self, octets: crate::history::Octets) -> Held {
        self.expected.held(octets, true)
    }

    /// Whether a call may have removed the mailbox of a message, which was first asked for at
    /// `since_ms`, before read `read` answered.
    pub fn may_be_unboxed(&self, place: Place, since_ms: u64, read: usize) -> bool {
        if place.1 == INBOX {
            return false;
        }
        let until_ms = self.history[read].returned_ms;
        let all = self.restructures.get(place.0).into_iter().flatten();
        all.into_iter().any(|d| {
            let d = &self.history[*d];
            let over = matches!(d.answer, Answer::Done(_)) && d.returned_ms < since_ms;
            matches!(d.call, Call::DeleteMailbox { .. }) && d.called_ms <= until_ms && !over
        })
    }

    /// Calls that may have taken messages of this mailbox away before read `read` answered.
    /// `era`: its uidvalidity, where it is known.
    pub fn removals_before(
        &self,
        place: Place<'a>,
        era: u32,
        read: usize,
    ) -> impl Iterator<Item = &Removal<'a>> {
        let until_ms = self.history[read].returned_ms;
        let renamed = self.restructured(place.0);
        let all = self.removals.get(place.0).into_iter().flatten();
        all.filter(move |r| {
            let here = match (r.era, era) {
                (0, _) | (_, 0) => renamed || r.mailbox == place.1,
                (a, b) => a == b,
            };
            here && self.history[r.record].called_ms <= until_ms
        })
    }

    /// Whether a call may have taken away message `uid` of `place` before read `read` answered.
    pub fn may_be_expunged(&self, place: Place<'a>, era: u32, uid: u32, read: usize) -> bool {
        // A late repetition inside the client may still strike a later account or mailbox of the
        // name: the call names no generation. So the answer settles it for one generation alone.
        let one = self.one_generation(place.0) && !self.restructured(place.0);
        self.removals_before(place, era, read)
            .any(|r| match (&r.gone, &r.uids) {
                (Some(gone), _) if one || r.era != 0 => gone.contains(&uid),
                (_, None) => true,
                (_, Some(uids)) => uids.contains(&uid),
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
    use crate::history::{AccountSeen, MailboxSeen, Octets};
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

    /// ANN's account goes.
    pub fn delete(called_ms: u64) -> Record {
        let call = Call::DeleteAccount {
            account: ANN.into(),
        };
        record(called_ms, called_ms + 5, call, Answer::Done(Done::Plain))
    }

    /// A delivery with this answer.
    pub fn deliver(called_ms: u64, body: u64, answer: Answer) -> Record {
        let call = Call::Deliver {
            accounts: vec![ANN.into()],
            mailbox: INBOX.into(),
            given: Given::default(),
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
            date_ms: 0,
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
            force: true,
            era: 0,
            request: [called_ms as u8; 16],
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
            deleted: 0,
            bytes: 300 * messages,
            id: 1,
            uses: Vec::new(),
            subscribed: false,
        };
        let all = AccountSeen {
            mailboxes: BTreeMap::from([(INBOX.to_owned(), inbox)]),
            subscriptions: Vec::new(),
            modseq: highest_modseq,
        };
        let done = Answer::Done(Done::Mailboxes(all));
        record(called_ms, called_ms + 5, call, done)
    }

    /// A message of INBOX is moved into itself, under a request id of its own.
    pub fn moved(called_ms: u64, uid: u32, modseq: u64, to: u32) -> Record {
        let call = Call::Carry {
            account: ANN.into(),
            to_account: None,
            mailbox: INBOX.into(),
            era: 0,
            to: INBOX.into(),
            to_era: 0,
            uids: vec![uid],
            away: true,
            request: [called_ms as u8; 16],
        };
        let done = Done::Carried {
            modseq,
            uid_validity: 7,
            from: vec![uid],
            to: vec![to],
        };
        record(called_ms, called_ms + 5, call, Answer::Done(done))
    }

    /// Another account of hand-made histories.
    pub const BOB: &str = "user1@sim.example";

    /// The call, as if it were about the other account.
    pub fn of_bob(mut r: Record) -> Record {
        match &mut r.call {
            Call::CreateAccount { account }
            | Call::List { account, .. }
            | Call::Mailboxes { account }
            | Call::Expunge { account, .. }
            | Call::DeleteAccount { account } => *account = BOB.into(),
            Call::Deliver { accounts, .. } => *accounts = vec![BOB.into()],
            other => panic!("{other:?}"),
        }
        r
    }

    /// Messages of ANN's INBOX go to BOB's, under a request id of their own.
    pub fn crosses(called_ms: u64, uids: &[u32], away: bool, answer: Answer) -> Record {
        let call = Call::Carry {
            account: ANN.into(),
            to_account: Some(BOB.into()),
            mailbox: INBOX.into(),
            era: 0,
            to: INBOX.into(),
            to_era: 0,
            uids: uids.to_vec(),
            away,
            request: [200; 16],
        };
        record(called_ms, called_ms + 5, call, answer)
    }

    /// The answer to that.
    pub fn crossed(modseq: u64, from: &[u32], to: &[u32]) -> Answer {
        Answer::Done(Done::Carried {
            modseq,
            uid_validity: 7,
            from: from.to_vec(),
            to: to.to_vec(),
        })
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
