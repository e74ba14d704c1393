//! Invariant 4: the history of each account is linearizable.
//!
//! Source: Herlihy and Wing, "Linearizability" (1990); an account is one object, and objects may be
//! judged one by one (their locality theorem), so a delivery to three accounts is three calls. It
//! covers read-your-writes and stale reads, across any fail-over. An account is not divided by
//! mailbox, since its mailboxes share a modseq. A call whose outcome is unknown may take effect at
//! any time from then on, or never. Lists of several pages are not of one moment and are left out.
//!
//! [`spec`] says what an account is, [`rules`] what is done to it; [`search`] looks for an order. stateright's
//! `LinearizabilityTester` would be the checker to use, but it tries all interleavings without a
//! memory of those that led to the same state and without knowing calls that constrain nothing:
//! the histories here have a hundred calls an account and dozens in flight for ever, which it does
//! not end. It serves as the judge of our own search, over small random histories, in the tests.

mod agree;
mod crossing;
mod evidence;
pub mod order;
pub mod rules;
pub mod search;
pub mod spec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::story::{Identity, Stored, Story};
use super::{Findings, Invariant, JUDGED, PAST_WINDOW};
use crate::history::{Answer, Call, Done, MessageSeen, Record};
use crate::plan::Given;
use crate::workload::answer;
use crate::workload::body::{Expected, Held};
use search::Verdict;
use spec::{DELETED, INBOX, Item, Message, Name, Op, Replaced, Ret, SEEN, Where};

const NAME: &str = "linear";

/// Steps of the search for one account: some tenths of a second.
const BOUND: usize = 100_000;

/// Invariant 4.
pub struct Linear {
    expected: Expected,
    strangers: bool,
    forgets: bool,
}

impl Linear {
    /// Judges by these octets. `strangers`: nodes of another cluster may answer at the addresses of
    /// this one. LMTP names no cluster (RFC 2033), so the refusal of an LMTP session then says
    /// nothing of this one. `forgets`: the store may carry a request out again after its window. The
    /// specification knows none, and would find no explanation for that.
    pub fn new(expected: Expected, strangers: bool, forgets: bool) -> Linear {
        Linear {
            expected,
            strangers,
            forgets,
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
            if self.forgets {
                found.judged(NAME, PAST_WINDOW);
                continue;
            }
            if crossing::untold(&story, &account) {
                found.judged(NAME, "skipped (deleted, and mail crossed)");
                continue;
            }
            let stable = !story.restructured(&account);
            let known = story.one_generation(&account);
            let evidence = known.then(|| evidence::of(&calls, stable));
            match search::search(&calls, evidence.as_ref(), BOUND) {
                Verdict::Good => found.judged(NAME, JUDGED),
                Verdict::Blind => found.judged(NAME, "judged in part (nobody told what crossed)"),
                Verdict::Undecided => {
                    tracing::warn!(account, "the search for an order reached its bound");
                    found.judged(NAME, "undecided (search too long)");
                }
                Verdict::Bad {
                    explained,
                    stuck,
                    account: state,
                } => {
                    found.judged(NAME, JUDGED);
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
    flags: Names,
    blobs: Names,
    requests: Names,
    secrets: Names,
    /// Octets that are known to have the one date that there is.
    dated: Arc<BTreeSet<Name>>,
    calls: BTreeMap<String, Vec<search::Call>>,
    /// The last call with an answer of each client on each account.
    last: BTreeMap<(String, u32), usize>,
    /// The last selection of each client in each account.
    sessions: BTreeMap<(String, u32), usize>,
}

impl<'a> Reader<'a> {
    fn new(story: &'a Story<'a>, strangers: bool) -> Reader<'a> {
        let mut flags = Names::new("\\seen");
        let (seen, deleted) = (flags.of("\\seen"), flags.of("\\deleted"));
        debug_assert_eq!((seen, deleted), (SEEN, DELETED));
        let mut blobs = Names::new("");
        Reader {
            story,
            strangers,
            flags,
            dated: Arc::new(order::dated(story, |blob| blobs.of(blob))),
            blobs,
            requests: Names::new(""),
            // UNTOLD is 0.
            secrets: Names::new(""),
            calls: BTreeMap::new(),
            last: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    fn read(mut self) -> BTreeMap<String, Vec<search::Call>> {
        let story = self.story;
        let mut tries = story.tries.iter().peekable();
        for (record, r) in story.history.iter().enumerate() {
            while let Some(t) = tries.next_if(|t| t.record == record) {
                if !t.alone {
                    continue;
                }
                let mut request = match t.identity {
                    Identity::Request(id) | Identity::Part(id, _) => id.to_vec(),
                    Identity::Content => b"content".to_vec(),
                };
                if t.identity == Identity::Content {
                    request.extend_from_slice(t.held.blob.as_bytes());
                }
                let op = Op::Store {
                    mailbox: t.place.1.into(),
                    request: self.requests.of(request),
                    items: vec![self.new_message(&t.held, t.given)],
                    replaces: None,
                };
                let ret = match t.stored {
                    Stored::At(at) => Some(Ret::Stored(at, 1)),
                    Stored::Somewhere => Some(Ret::StoredSomewhere),
                    Stored::Unknown => None,
                    Stored::Refused if self.strangers && t.identity == Identity::Content => {
                        continue;
                    }
                    Stored::Refused => match refusal_of(r, &op, t.place.0) {
                        Some(ret) => Some(ret),
                        None => continue,
                    },
                };
                self.add(t.place.0, record, op, ret, None);
            }
            self.listed(record, r);
            self.call(record, r);
        }
        self.crossings();
        self.calls
    }

    /// A list of accounts is one question about each of them: a page is of one moment, and no
    /// account is on two.
    fn listed(&mut self, record: usize, r: &Record) {
        let Answer::Done(Done::Accounts(all)) = &r.answer else {
            return;
        };
        let mut known: BTreeMap<&str, Ret> = BTreeMap::new();
        let created = self.story.history.iter().filter_map(|r| match &r.call {
            Call::CreateAccount { account } => Some(account.as_str()),
            _ => None,
        });
        known.extend(created.map(|account| (account, Ret::NoAccount)));
        for (name, modseq) in all {
            let told = known.entry(name).or_insert(Ret::NoAccount);
            *told = match told {
                Ret::NoAccount => Ret::Changed(*modseq),
                // Twice: that fits nothing.
                _ => Ret::Exists,
            };
        }
        for (account, ret) in known {
            self.add(account, record, Op::Listed, Some(ret), None);
        }
    }

    fn call(&mut self, record: usize, r: &Record) {
        if let Call::RenameMailbox { mailbox, .. } = &r.call
            && mailbox == INBOX
        {
            return self.rename_inbox(record, r);
        }
        let Some((account, op)) = self.op(record, &r.call) else {
            return;
        };
        let reads = op.reads();
        let ret = match &r.answer {
            Answer::Unknown(_) if reads => return,
            Answer::Unknown(_) => None,
            // The account may have gone after the password was made, and before it was told.
            Answer::Refused(why)
                if matches!(op, Op::AddApp(..))
                    && why.starts_with(answer::NO_ACCOUNT)
                    && !self.story.one_generation(account) =>
            {
                None
            }
            Answer::Refused(why) => match refusal(&op, why) {
                Some(ret) => Some(ret),
                None => return,
            },
            Answer::Done(done) => match self.done(done) {
                Some(ret) => Some(ret),
                None => return,
            },
        };
        self.add(account, record, op, ret, None);
    }

    /// The operation that a call asks for; `None`: it is told by its tries, or is none on the store.
    fn op<'b>(&mut self, record: usize, call: &'b Call) -> Option<(&'b str, Op)> {
        let whole = |name: &str, era: &u32| Where {
            name: name.into(),
            era: *era,
        };
        Some(match call {
            Call::Deliver { .. }
            | Call::Append { .. }
            | Call::Follow { .. }
            | Call::Stay { .. } => return None,
            Call::CreateAccount { account } => (account, Op::CreateAccount),
            Call::DeleteAccount { account } => (account, Op::DeleteAccount),
            Call::CreateMailbox { account, mailbox } => {
                let op = Op::Make {
                    name: mailbox.as_str().into(),
                    uses: Vec::new(),
                    for_inbox: false,
                    request: self.requests.of(format!("call {record}")),
                };
                (account, op)
            }
            Call::MakeMailbox {
                account,
                mailbox,
                uses,
                request,
            } => {
                let op = Op::Make {
                    name: mailbox.as_str().into(),
                    uses: sorted_text(uses),
                    for_inbox: false,
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::DeleteMailbox {
                account,
                mailbox,
                era,
                request,
            } => {
                let op = Op::DeleteMailbox {
                    at: whole(mailbox, era),
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::RenameMailbox {
                account,
                mailbox,
                to,
                request,
            } => {
                let op = Op::Rename {
                    from: mailbox.as_str().into(),
                    to: to.as_str().into(),
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::Subscribe {
                account,
                mailbox,
                on,
                request,
            } => {
                let op = Op::Subscribe {
                    name: mailbox.as_str().into(),
                    on: *on,
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::SpecialUse {
                account,
                mailbox,
                uses,
                request,
            } => {
                let op = Op::Uses {
                    name: mailbox.as_str().into(),
                    uses: sorted_text(uses),
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::SetMetadata {
                account,
                mailbox,
                entry,
                value,
                request,
            } => {
                let op = Op::Annotate {
                    name: mailbox.as_deref().map(Arc::from),
                    entry: entry.clone(),
                    value: value.clone(),
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::AppendMany {
                account,
                mailbox,
                items,
                given,
                request,
            } => {
                let held = items.iter().map(|octets| self.story.held(*octets));
                let held: Vec<_> = held.collect();
                let items = held.iter().map(|h| self.new_message(h, given));
                let op = Op::Store {
                    items: items.collect(),
                    mailbox: mailbox.as_str().into(),
                    request: self.requests.of(request),
                    replaces: None,
                };
                (account, op)
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
                let held = self.story.held(*octets);
                let (era, uid) = (*era, *uid);
                let op = Op::Store {
                    mailbox: mailbox.as_str().into(),
                    items: vec![self.new_message(&held, given)],
                    request: self.requests.of(request),
                    replaces: Some(Replaced { era, uid }),
                };
                (account, op)
            }
            Call::Carry {
                to_account: Some(_),
                ..
            } => return None,
            Call::Carry {
                account,
                to_account: None,
                mailbox,
                era,
                to,
                to_era,
                uids,
                away,
                request,
            } => {
                let op = Op::Carry {
                    from: whole(mailbox, era),
                    to: whole(to, to_era),
                    uids: sorted(uids),
                    away: *away,
                    request: self.requests.of(request),
                };
                (account, op)
            }
            Call::SetFlags {
                account,
                mailbox,
                uids,
                mode,
                flags,
                unchanged_since,
                era,
                request,
            } => {
                let op = Op::SetFlags {
                    at: whole(mailbox, era),
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
                force,
                era,
                request,
            } => {
                let op = Op::Expunge {
                    at: whole(mailbox, era),
                    request: self.requests.of(request),
                    uids: sorted(uids),
                    force: *force,
                };
                (account, op)
            }
            Call::SetPassword {
                account,
                password,
                request,
            } => (
                account,
                Op::SetPassword(*password, self.requests.of(request)),
            ),
            Call::SetState {
                account,
                state,
                request,
            } => (account, Op::SetState(*state, self.requests.of(request))),
            Call::Login { account, password } => (account, Op::Login(*password)),
            Call::AddAppPassword {
                account,
                name,
                request,
            } => {
                let op = Op::AddApp(name.as_str().into(), self.requests.of(request));
                (account, op)
            }
            Call::RemoveAppPassword {
                account,
                name,
                request,
            } => {
                let op = Op::RemoveApp(name.as_str().into(), self.requests.of(request));
                (account, op)
            }
            Call::ListAppPasswords { account } => (account, Op::Apps),
            Call::AppLogin { account, secret } => (account, Op::AppLogin(self.secrets.of(secret))),
            Call::Sort {
                account,
                mailbox,
                flag,
                on,
                by,
                reverse,
            } => {
                let op = Op::Sort {
                    name: mailbox.as_str().into(),
                    flag: self.flag(flag),
                    on: *on,
                    order: order::Order {
                        by: *by,
                        reverse: *reverse,
                        dated: Arc::clone(&self.dated),
                    },
                };
                (account, op)
            }
            Call::Thread {
                account,
                mailbox,
                flag,
                on,
            } => {
                let flag = self.flag(flag);
                (account, Op::Thread(mailbox.as_str().into(), flag, *on))
            }
            Call::Maildrop { account } => {
                let floor = order::floor(self.story, account, record);
                (account, Op::Maildrop { floor })
            }
            // Told of each account by itself.
            Call::Accounts => return None,
            Call::Usage { account } => (account, Op::Usage),
            Call::Mailboxes { account } => (account, Op::Mailboxes),
            Call::List { account, mailbox } => (account, Op::List(mailbox.as_str().into())),
            Call::Fetch {
                account,
                mailbox,
                uid,
                era,
            } => (account, Op::Fetch(whole(mailbox, era), *uid)),
            Call::Search {
                account,
                mailbox,
                era,
                untold,
                flag,
                on,
            } => {
                let op = Op::Search {
                    at: whole(mailbox, era),
                    flag: self.flag(flag),
                    on: *on,
                    untold: *untold,
                };
                (account, op)
            }
            Call::Status { account, mailbox } => (account, Op::Status(mailbox.as_str().into())),
            Call::Names { account } => (account, Op::Names),
            Call::Select { account, mailbox } => (account, Op::Select(mailbox.as_str().into())),
            Call::Metadata { account, mailbox } => {
                (account, Op::Annotations(mailbox.as_deref().map(Arc::from)))
            }
        })
    }

    /// INBOX stays: a mailbox is made, and then takes the messages (RFC 9051, section 6.3.6). These
    /// are two changes, and others may come in between.
    fn rename_inbox(&mut self, record: usize, r: &Record) {
        let Call::RenameMailbox {
            account,
            to,
            request,
            ..
        } = &r.call
        else {
            return;
        };
        let made = self.requests.of(request);
        let make = Op::Make {
            name: to.as_str().into(),
            uses: Vec::new(),
            for_inbox: true,
            request: made,
        };
        let (first, second) = match &r.answer {
            Answer::Done(Done::Made { id, uid_validity }) => {
                (Some(Ret::Made(*uid_validity, *id)), Some(Ret::Done))
            }
            // Nothing at all was done.
            Answer::Refused(why) if why.starts_with(answer::EXISTS) => {
                self.add(account, record, make, Some(Ret::Exists), None);
                return;
            }
            // The first half may have been done, and what it made may be gone again.
            _ => (None, None),
        };
        let half = self.add(account, record, make, first, None);
        self.add(account, record, Op::MoveInbox { made }, second, Some(half));
    }

    /// The answer; `None` for one that is not of one moment.
    fn done(&mut self, done: &Done) -> Option<Ret> {
        Some(match done {
            Done::Plain => Ret::Done,
            Done::Made { id, uid_validity } => Ret::Made(*uid_validity, *id),
            Done::Changed { modseq } => Ret::Changed(*modseq),
            Done::Annotations(all) => Ret::Annotations(all.clone()),
            Done::AppendedAll { first, count } => Ret::Stored(*first, *count),
            Done::Appended(at) => Ret::Stored(*at, 1),
            Done::Carried {
                modseq,
                uid_validity,
                from,
                to,
            } => Ret::Carried {
                uid_validity: *uid_validity,
                modseq: *modseq,
                from: from.clone(),
                to: to.clone(),
            },
            Done::Found(uids) => Ret::Uids(uids.clone()),
            Done::Status(seen) => Ret::Status(*seen),
            Done::Names(all) => Ret::Names(all.clone()),
            Done::Sorted(uids) => Ret::Sorted(uids.clone()),
            Done::Threads(nodes) => Ret::Threads(nodes.clone()),
            Done::Secret(secret) => Ret::Secret(self.secrets.of(secret)),
            Done::AppPasswords { own, names } => Ret::Apps(*own, names.clone()),
            Done::Entered(name) => Ret::Entered(name.as_str().into()),
            Done::Maildrop {
                uid_validity,
                count,
                bytes,
                messages,
            } => Ret::Maildrop {
                uid_validity: *uid_validity,
                stat: (*count, *bytes),
                messages: messages.clone(),
            },
            Done::Selected {
                uid_validity,
                uid_next,
                messages,
            } => Ret::Selected {
                uid_validity: *uid_validity,
                uid_next: *uid_next,
                messages: *messages,
            },
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
            Done::Mailboxes(all) => Ret::Mailboxes(Box::new(all.clone())),
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
            Done::Usage(held) => Ret::Usage(*held),
            Done::Octets { blob, .. } => Ret::Octets(self.blobs.of(blob)),
            Done::Delivered(_)
            | Done::Messages { .. }
            | Done::Accounts(_)
            | Done::Believed(_)
            | Done::Followed(_) => {
                return None;
            }
        })
    }

    fn message(&mut self, m: &MessageSeen) -> (u32, Arc<Message>) {
        let message = Message {
            blob: self.blobs.of(&m.blob),
            size: m.size,
            flags: self.flags(&m.flags),
            date_ms: m.date_ms,
            modseq: m.modseq,
            open: false,
        };
        (m.uid, Arc::new(message))
    }

    /// A message that is stored.
    fn new_message(&mut self, held: &Held, given: &Given) -> Item {
        Item {
            blob: self.blobs.of(&*held.blob),
            size: held.size,
            flags: self.flags(&given.flags),
            date_ms: given.date_ms,
        }
    }

    /// Flags are compared without case (RFC 9051, section 2.3.2).
    fn flag(&mut self, flag: &str) -> Name {
        self.flags.of(flag.to_ascii_lowercase())
    }

    fn flags(&mut self, flags: &[String]) -> Vec<Name> {
        let flags = flags.iter().map(|flag| self.flag(flag));
        sorted(&flags.collect::<Vec<_>>())
    }

    /// `half`: the call whose second half this is.
    fn add(
        &mut self,
        account: &str,
        record: usize,
        op: Op,
        ret: Option<Ret>,
        half: Option<usize>,
    ) -> usize {
        let r = &self.story.history[record];
        let outside = op.reads() || matches!(op, Op::CreateAccount | Op::DeleteAccount);
        let refused = matches!(
            ret,
            Some(
                Ret::NoAccount
                    | Ret::NoMailbox
                    | Ret::NoMessage
                    | Ret::NoOctets
                    | Ret::NoApp
                    | Ret::Exists
                    | Ret::Refused
                    | Ret::Closed
            )
        );
        let client = (account.to_owned(), r.client);
        // What never changes is read without a quorum (node/ARCHITECTURE.md): a message that a
        // session reads was there at some time since its selection, no more.
        let session = match &op {
            Op::Fetch(at, _) if at.era != 0 => self.sessions.get(&client).copied(),
            _ => None,
        };
        let selection = session.and_then(|s| self.calls.get(account)?.get(s));
        let selects = matches!(op, Op::Select(_));
        let call = search::Call {
            op,
            called_ms: selection.map_or(r.called_ms, |s| s.called_ms),
            returned_ms: ret.as_ref().map_or(u64::MAX, |_| r.returned_ms),
            after: match r.client {
                crate::workload::READER => None,
                _ => half.or(session).or_else(|| self.last.get(&client).copied()),
            },
            ret,
            record,
        };
        // A call on a name whose account was deleted and created meanwhile may, by a try that was
        // late, take effect in both: requests are remembered for each account apart.
        let echo = !outside && !refused && self.later_deletion(account, r);
        let calls = self.calls.entry(account.to_owned()).or_default();
        let at = calls.len();
        if selects {
            self.sessions.insert(client.clone(), at);
        }
        if call.ret.is_some() && session.is_none() {
            self.last.insert(client, at);
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
        at
    }

    /// Whether the account may have been deleted after the call was made.
    fn later_deletion(&self, account: &str, r: &Record) -> bool {
        let deletions = self.story.deletions.get(account).into_iter().flatten();
        let mut deletions = deletions.map(|d| &self.story.history[*d]);
        deletions.any(|d| !matches!(d.answer, Answer::Done(_)) || d.returned_ms >= r.called_ms)
    }
}

/// What a refusal says of the account; `None`: nothing.
fn refusal(op: &Op, why: &str) -> Option<Ret> {
    // What is sorted by may be octets that go away meanwhile.
    if matches!(op, Op::Sort { .. } | Op::Thread(..)) && why.starts_with(answer::NO_BLOB) {
        return None;
    }
    if let Some(what) = why.strip_prefix(answer::REFUSED) {
        return match op {
            Op::AddApp(..) if what.contains(answer::TOLD_ONCE) => Some(Ret::ToldBefore),
            Op::Store { .. } if what.contains(answer::CLOSED) => Some(Ret::Closed),
            Op::DeleteMailbox { .. } | Op::Rename { .. } => Some(Ret::Refused),
            _ => None,
        };
    }
    let table = [
        (answer::NO_ACCOUNT, Ret::NoAccount),
        (answer::NO_MAILBOX, Ret::NoMailbox),
        (answer::NO_MESSAGE, Ret::NoMessage),
        (answer::NO_BLOB, Ret::NoOctets),
        (answer::NO_APP, Ret::NoApp),
        (answer::EXISTS, Ret::Exists),
        (answer::NO_LOGIN, Ret::NoLogin),
    ];
    let found = table.into_iter().find(|(text, _)| why.starts_with(text));
    found.map(|(_, ret)| ret)
}

/// What the refusal of a delivery says of one of its accounts.
fn refusal_of(r: &Record, op: &Op, account: &str) -> Option<Ret> {
    match (&r.call, &r.answer) {
        (Call::Deliver { accounts, .. }, Answer::Done(Done::Delivered(results))) => {
            let i = accounts.iter().position(|a| a == account)?;
            match results.get(i)? {
                Err(Answer::Refused(why)) => refusal(op, why),
                _ => None,
            }
        }
        (Call::Append { .. }, Answer::Refused(why)) => refusal(op, why),
        _ => None,
    }
}

fn sorted_text(texts: &[String]) -> Vec<String> {
    let mut sorted = texts.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

fn sorted<T: Ord + Copy>(numbers: &[T]) -> Vec<T> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
