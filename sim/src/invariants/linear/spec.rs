//! What an account is to its users, one operation after the other: the sequential specification.
//!
//! Written from the contract and from RFC 9051, RFC 7162 and RFC 6851, not from the node's code. One
//! modseq counter an account, raised by one by every change of one mailbox or of the account; an
//! operation that changes several (a renaming with children, a move) raises it once for each, in
//! the order in which a follower must hear of them. A mailbox's highest modseq is that of its last
//! change; a change that changes nothing raises nothing; a repeated request gets its first answer,
//! whatever its mailbox is called by then. The uidvalidity of a new mailbox comes from a clock, so
//! it is learned from the first answer that names it and must only be above those before; so is the
//! mailbox's number.
//!
//! The secret of a program's password is drawn by the store, so it is learned from the answer that
//! tells it; where that is lost, nobody knows the secret.
//!
//! [`super::rules`] says what an operation does; here is what it is done to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::order::Order;
use super::rules::{Outcome, Step};
use crate::history::{AccountSeen, StatusSeen, StoredAt, UsageSeen};
use crate::plan::{FlagMode, LoginState};

/// A flag, blob or request, as a number.
pub type Name = u32;

/// A mailbox as a call names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Where {
    /// Its name ...
    pub name: Arc<str>,
    /// ... which says nothing when this is not 0: then it is the one with this uidvalidity.
    pub era: u32,
}

/// A message in whose place another one comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// It is in the mailbox with this uidvalidity; 0: in the same one.
    pub era: u32,
    /// Its uid.
    pub uid: u32,
}

/// An operation on one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates the account.
    CreateAccount,
    /// Deletes it.
    DeleteAccount,
    /// Creates a mailbox and the parents that it needs.
    Make {
        /// Its name.
        name: Arc<str>,
        /// Special uses, sorted.
        uses: Vec<String>,
        /// It will take the messages that INBOX has now: the first half of renaming INBOX.
        for_inbox: bool,
        /// Under which identity.
        request: Name,
    },
    /// Moves what INBOX had when the mailbox was made: the second half.
    MoveInbox {
        /// The identity of the first half.
        made: Name,
    },
    /// Removes a mailbox.
    DeleteMailbox {
        /// Which.
        at: Where,
        /// Under which identity.
        request: Name,
    },
    /// Renames a mailbox with its children.
    Rename {
        /// Which.
        from: Arc<str>,
        /// Its new name.
        to: Arc<str>,
        /// Under which identity.
        request: Name,
    },
    /// Subscribes to a name, or not any more.
    Subscribe {
        /// Which.
        name: Arc<str>,
        /// Whether it is subscribed then.
        on: bool,
        /// Under which identity.
        request: Name,
    },
    /// Sets special uses.
    Uses {
        /// Of which mailbox.
        name: Arc<str>,
        /// All of them, sorted.
        uses: Vec<String>,
        /// Under which identity.
        request: Name,
    },
    /// Sets or removes an annotation.
    Annotate {
        /// Of which mailbox; `None`: of the account.
        name: Option<Arc<str>>,
        /// Entry.
        entry: String,
        /// Value; empty: removed.
        value: String,
        /// Under which identity.
        request: Name,
    },
    /// Stores messages, all or none, unless this request has done so.
    Store {
        /// Where.
        mailbox: Arc<str>,
        /// Under which identity.
        request: Name,
        /// What.
        items: Vec<Item>,
        /// A message that goes.
        replaces: Option<Replaced>,
    },
    /// Copies or moves messages, unless this request has done so.
    Carry {
        /// From here.
        from: Where,
        /// To here.
        to: Where,
        /// Which.
        uids: Vec<u32>,
        /// Whether they leave.
        away: bool,
        /// Under which identity.
        request: Name,
    },
    /// Messages come from another account, unless this request has brought them.
    Land {
        /// To here.
        to: Where,
        /// uidvalidity of the mailbox, as the answer tells it; 0: not told.
        told: u32,
        /// What: octets and their number, as far as they are known.
        items: Vec<(Name, u64)>,
        /// What it does cannot be said.
        vague: bool,
        /// Under which identity.
        request: Name,
    },
    /// Messages have gone to another account, unless this request has taken them there.
    Depart {
        /// From here.
        at: Where,
        /// Those that leave, as far as they are still there.
        uids: Vec<u32>,
        /// What it does cannot be said.
        vague: bool,
        /// Under which identity.
        request: Name,
    },
    /// Changes flags, unless this request has done so.
    SetFlags {
        /// Where.
        at: Where,
        /// Under which identity.
        request: Name,
        /// Which messages.
        uids: Vec<u32>,
        /// How.
        mode: FlagMode,
        /// Which flags, sorted.
        flags: Vec<Name>,
        /// 0: no condition.
        unchanged_since: u64,
    },
    /// Removes messages, unless this request has done so.
    Expunge {
        /// Where.
        at: Where,
        /// Under which identity.
        request: Name,
        /// Which messages.
        uids: Vec<u32>,
        /// Also those without \Deleted.
        force: bool,
    },
    /// Sets the password; 0: none.
    SetPassword(u32, Name),
    /// Sets who may log in.
    SetState(LoginState, Name),
    /// Reads the sums of all counters.
    Usage,
    /// Looks whether the account is there, and where its modseq is.
    Listed,
    /// Reads the counters of all mailboxes.
    Mailboxes,
    /// Reads all messages of a mailbox.
    List(Arc<str>),
    /// Reads one message.
    Fetch(Where, u32),
    /// Looks for messages with a flag, or without it.
    Search {
        /// In which mailbox.
        at: Where,
        /// The flag.
        flag: Name,
        /// With it, or without.
        on: bool,
        /// From this uid on, what is found need not be told; 0: all of it is.
        untold: u32,
    },
    /// Reads the counters of one mailbox.
    Status(Arc<str>),
    /// Reads the names of mailboxes, and their special uses.
    Names,
    /// Reads a mailbox's counters.
    Select(Arc<str>),
    /// Reads annotations.
    Annotations(Option<Arc<str>>),
    /// Asks whether a password is right.
    Login(u32),
    /// Makes a password for a program.
    AddApp(Arc<str>, Name),
    /// Removes that of a program.
    RemoveApp(Arc<str>, Name),
    /// Reads which passwords there are.
    Apps,
    /// Asks whether a program's password is right.
    AppLogin(Name),
    /// Looks for messages with a flag, or without it, and tells them in an order.
    Sort {
        /// In which mailbox.
        name: Arc<str>,
        /// The flag.
        flag: Name,
        /// With it, or without.
        on: bool,
        /// The order.
        order: Order,
    },
    /// Looks for messages with a flag, or without it, and tells them in threads.
    Thread(Arc<str>, Name, bool),
    /// Reads what a POP3 session sees.
    Maildrop {
        /// Messages of INBOX up to this uid had come before.
        floor: u32,
    },
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ret {
    /// Done.
    Done,
    /// The account does not exist.
    NoAccount,
    /// The mailbox does not exist.
    NoMailbox,
    /// The message does not exist.
    NoMessage,
    /// The octets do not exist, and so the message does not; nothing is said of its mailbox and
    /// its account.
    NoOctets,
    /// It exists already.
    Exists,
    /// That cannot be done to this mailbox.
    Refused,
    /// The account takes no mail.
    Closed,
    /// A wrong password, or nobody may log in.
    NoLogin,
    /// The program has no password.
    NoApp,
    /// A password was made for a program: its secret; [`UNTOLD`] where the answer is not known.
    Secret(Name),
    /// It was made under this request before, and is told only once.
    ToldBefore,
    /// Whether there is an own password, and the programs that have one.
    Apps(bool, Vec<String>),
    /// Let in, by the password of this program.
    Entered(Arc<str>),
    /// Messages that a search found, in an order.
    Sorted(Vec<u32>),
    /// Messages that a search found, in threads: each with its depth; 0 is no message.
    Threads(Vec<(u32, u32)>),
    /// What a POP3 session sees.
    Maildrop {
        /// Generation of the uids; 0: not told.
        uid_validity: u32,
        /// Number and octets of all.
        stat: (u64, u64),
        /// Uid and octets of each.
        messages: Vec<(u32, u64)>,
    },
    /// It cannot have happened yet.
    NotYet,
    /// A mailbox: uidvalidity and number.
    Made(u32, u32),
    /// Changed, or so already: the account's modseq afterwards.
    Changed(u64),
    /// Stored: where the first is, and how many.
    Stored(StoredAt, u32),
    /// Stored, but where is not told.
    StoredSomewhere,
    /// Copied or moved.
    Carried {
        /// Generation of the uids where they came.
        uid_validity: u32,
        /// The account's modseq afterwards.
        modseq: u64,
        /// Where they were.
        from: Vec<u32>,
        /// Where they are.
        to: Vec<u32>,
    },
    /// Messages came from another account.
    Landed {
        /// Generation of their uids.
        uid_validity: u32,
        /// The first one.
        first: u32,
    },
    /// Messages went to another account: the account's modseq afterwards.
    Departed(u64),
    /// Flags were changed.
    Flags {
        /// The account's modseq afterwards.
        modseq: u64,
        /// Messages that were changed.
        changed: Vec<u32>,
        /// Messages that the condition protected.
        unchanged: Vec<u32>,
    },
    /// Messages were removed.
    Expunged {
        /// The account's modseq afterwards.
        modseq: u64,
        /// Which.
        uids: Vec<u32>,
    },
    /// What the account holds.
    Usage(UsageSeen),
    /// The account's mailboxes.
    Mailboxes(Box<AccountSeen>),
    /// A mailbox whole.
    Messages {
        /// Generation of the uids.
        uid_validity: u32,
        /// Highest modseq.
        highest_modseq: u64,
        /// All messages.
        messages: Vec<(u32, Arc<Message>)>,
    },
    /// The octets of a message.
    Octets(Name),
    /// Counters of one mailbox.
    Status(StatusSeen),
    /// Names of mailboxes, with their special uses.
    Names(BTreeMap<String, Vec<String>>),
    /// A mailbox's counters.
    Selected {
        /// Generation of the uids.
        uid_validity: u32,
        /// The next uid.
        uid_next: u32,
        /// Number of messages.
        messages: u32,
    },
    /// Messages that a search found.
    Uids(Vec<u32>),
    /// Annotations.
    Annotations(BTreeMap<String, String>),
}

/// A message that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its octets.
    pub blob: Name,
    /// Their number.
    pub size: u64,
    /// The flags that it is given, sorted.
    pub flags: Vec<Name>,
    /// The date that it is given; 0: none.
    pub date_ms: u64,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// Its octets.
    pub blob: Name,
    /// Their number.
    pub size: u64,
    /// Sorted.
    pub flags: Vec<Name>,
    /// When it came; 0: nobody has told.
    pub date_ms: u64,
    /// The change that touched it last.
    pub modseq: u64,
    /// Its flags are not known: it came from another account, and nothing has shown it since.
    pub open: bool,
}

/// A secret that nobody was told.
pub const UNTOLD: Name = 0;
/// Octets that are not known.
pub const UNSEEN: Name = Name::MAX;
/// A size that is not known.
pub const UNKNOWN_SIZE: u64 = u64::MAX;

impl Message {
    /// Whether something of it is not known.
    pub fn is_vague(&self) -> bool {
        self.open || self.blob == UNSEEN || self.size == UNKNOWN_SIZE
    }

    /// Whether it may be this one.
    pub fn may_be(&self, other: &Message) -> bool {
        self.modseq == other.modseq
            && (self.date_ms == 0 || self.date_ms == other.date_ms)
            && (self.open || self.flags == other.flags)
            && (self.blob == UNSEEN || self.blob == other.blob)
            && (self.size == UNKNOWN_SIZE || self.size == other.size)
    }
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// Which of the account's mailboxes it is, counted as they were made.
    pub era: u32,
    /// The next uid.
    pub uid_next: u32,
    /// Its last change.
    pub modseq: u64,
    /// By uid.
    pub messages: BTreeMap<u32, Arc<Message>>,
    /// Special uses, sorted.
    pub uses: Vec<String>,
    /// By entry.
    pub annotations: BTreeMap<String, String>,
}

/// What is learned of a mailbox, also of one that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Era {
    /// 0: not learned yet.
    pub uid_validity: u32,
    /// It is above this.
    pub above: u32,
    /// 0: not learned yet.
    pub id: u32,
}

/// What a request did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct First {
    /// What it answered, without what is learned of its mailbox.
    pub ret: Ret,
    /// That mailbox.
    pub era: Option<u32>,
}

/// An account. Clones share what they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Whether there is one.
    pub exists: bool,
    /// The highest uidvalidity that was learned.
    pub uid_validity: u32,
    /// The account's change counter.
    pub modseq: u64,
    /// By name.
    pub mailboxes: BTreeMap<Arc<str>, Arc<Mailbox>>,
    /// What is learned of its mailboxes, as they were made.
    pub eras: Vec<Era>,
    /// Requests that were carried out.
    pub requests: Arc<BTreeMap<Name, First>>,
    /// Names that are subscribed.
    pub subscriptions: Arc<BTreeSet<Arc<str>>>,
    /// Annotations of the account.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// 0: none.
    pub password: u32,
    /// Secrets by program.
    pub apps: Arc<BTreeMap<Arc<str>, Name>>,
    /// Who may log in.
    pub state: LoginState,
    /// Renamings of INBOX whose first half is done: the mailbox, and the uid from which on messages
    /// of INBOX stay.
    pub renames: BTreeMap<Name, (u32, u32)>,
    /// Something happened of which nobody can say what it did: from then on anything fits.
    pub blind: bool,
}

/// Whether an operation can be next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Its answer would be another one.
    No,
    /// It fits and leaves everything as it is.
    Still,
    /// It fits, changes nothing, and tells a uidvalidity that was not known.
    Tells,
    /// It fits and changes nothing now; its answer does not say whether it changed something.
    Idle,
    /// It fits and changes something.
    Changes,
    /// It may fit, and nothing can be said from then on.
    Blinds,
}

/// The name of INBOX.
pub const INBOX: &str = "INBOX";
/// The number of `\Seen`.
pub const SEEN: Name = 0;
/// The number of `\Deleted`.
pub const DELETED: Name = 1;

impl Account {
    /// Whether `op` with this answer (`None`: not known) can be next.
    pub fn fits(&self, op: &Op, ret: Option<&Ret>) -> Fit {
        if self.blind {
            return Fit::Still;
        }
        let told = self.outcome(op, ret);
        if let [Step::Blind] = *told.steps {
            return Fit::Blinds;
        }
        let learns = match ret {
            None if told.ret == Ret::NotYet => return Fit::No,
            None => false,
            Some(ret) => match self.agrees(op, &told, ret) {
                None => return Fit::No,
                Some(learns) => learns,
            },
        };
        match (told.steps.is_empty(), learns) {
            (false, _) => Fit::Changes,
            // Answers that tell a modseq belong to this state, whatever it is that asks.
            (true, false) if told.request.is_some() && ret == Some(&Ret::Done) => Fit::Idle,
            (true, true) => Fit::Tells,
            (true, false) => Fit::Still,
        }
    }

    /// What `op` would answer now.
    #[cfg(test)]
    pub fn answer(&self, op: &Op) -> Ret {
        let told = self.outcome(op, None);
        let known = told.era.map(|e| self.eras[e as usize]);
        let validity = known.map_or(0, |e| e.uid_validity);
        match told.ret {
            Ret::Made(..) => Ret::Made(validity, known.map_or(0, |e| e.id)),
            Ret::Stored(at, count) => {
                let uid_validity = validity;
                Ret::Stored(StoredAt { uid_validity, ..at }, count)
            }
            Ret::Messages { highest_modseq, .. } => {
                let m = match op {
                    Op::List(name) => self.mailboxes.get(name),
                    _ => None,
                };
                let messages = m.into_iter().flat_map(|m| &m.messages);
                Ret::Messages {
                    uid_validity: validity,
                    highest_modseq,
                    messages: messages.map(|(u, m)| (*u, Arc::clone(m))).collect(),
                }
            }
            Ret::Mailboxes(_) => {
                let all = self.mailboxes.iter().map(|(name, m)| {
                    let era = self.eras[m.era as usize];
                    let seen = self.seen(name, m, era.uid_validity, era.id);
                    (name.to_string(), seen)
                });
                Ret::Mailboxes(Box::new(AccountSeen {
                    mailboxes: all.collect(),
                    subscriptions: self.subscriptions.iter().map(|s| s.to_string()).collect(),
                    modseq: self.modseq,
                }))
            }
            Ret::Carried {
                modseq, from, to, ..
            } => Ret::Carried {
                uid_validity: validity,
                modseq,
                from,
                to,
            },
            other => other,
        }
    }

    /// Whether an answer that does not fit now never will, whatever changes: it tells a modseq that
    /// was passed. Only of an account that is not deleted; `stable`: its mailboxes keep their names.
    pub fn is_past(&self, op: &Op, ret: &Ret, stable: bool) -> bool {
        match (op, ret) {
            (_, Ret::Stored(at, _)) => at.modseq != 0 && at.modseq <= self.modseq,
            (
                _,
                Ret::Flags { modseq, .. }
                | Ret::Expunged { modseq, .. }
                | Ret::Departed(modseq)
                | Ret::Changed(modseq),
            ) => *modseq <= self.modseq,
            (_, Ret::Carried { modseq, .. }) => *modseq != 0 && *modseq <= self.modseq,
            (Op::List(name), Ret::Messages { highest_modseq, .. }) => {
                // A mailbox that comes later is above what the account has now.
                let now = self.mailboxes.get(name).map_or(self.modseq, |m| m.modseq);
                stable && *highest_modseq <= now
            }
            (_, Ret::Mailboxes(all)) => all.modseq != 0 && all.modseq <= self.modseq,
            _ => false,
        }
    }

    /// Carries `op` out, which fits, and learns from its answer.
    pub fn apply(&mut self, op: &Op, ret: Option<&Ret>) {
        if self.blind {
            return;
        }
        let told = self.outcome(op, ret);
        if let [Step::Blind] = *told.steps {
            *self = Account {
                blind: true,
                ..Account::default()
            };
            return;
        }
        if let Some(ret) = ret {
            // Of mailboxes that are there already; those that are new are learned below.
            self.learn(&told, ret);
        }
        for step in &told.steps {
            self.step(step);
        }
        if let (Some(ret), true) = (ret, told.era.is_none()) {
            let era = self.made(op).filter(|_| !told.steps.is_empty());
            if era.is_some() {
                let now = Outcome {
                    era,
                    ..Outcome::of(told.ret.clone())
                };
                self.learn(&now, ret);
            }
        }
        if let Some(request) = told.request {
            let first = First {
                era: told.era.or_else(|| self.made(op)),
                ret: match told.ret {
                    Ret::Secret(_) => Ret::ToldBefore,
                    other => other,
                },
            };
            Arc::make_mut(&mut self.requests)
                .entry(request)
                .or_insert(first);
        }
    }

    /// The mailbox that an operation has just made.
    fn made(&self, op: &Op) -> Option<u32> {
        match op {
            Op::Make { name, .. } => self.mailboxes.get(name).map(|m| m.era),
            _ => None,
        }
    }

    fn step(&mut self, step: &Step) {
        self.modseq += step.modseqs();
        let modseq = self.modseq;
        let touch =
            |account: &mut Account, name: &Arc<str>, change: &mut dyn FnMut(&mut Mailbox)| {
                if let Some(m) = account.mailboxes.get_mut(name) {
                    let m = Arc::make_mut(m);
                    m.modseq = modseq;
                    change(m);
                }
            };
        match step {
            Step::Create => {
                // Learned uidvalidities stay: those of a later account are above them.
                *self = Account {
                    exists: true,
                    uid_validity: self.uid_validity,
                    ..Account::default()
                };
                self.modseq = 1;
                self.make(&INBOX.into(), Vec::new(), 1);
            }
            Step::Destroy => {
                *self = Account {
                    uid_validity: self.uid_validity,
                    ..Account::default()
                };
            }
            Step::Make(name, uses) => self.make(name, uses.clone(), modseq),
            Step::WillTake(request, name) => {
                let inbox = self.mailboxes.get(INBOX).map_or(1, |m| m.uid_next);
                let era = self.mailboxes.get(name).map_or(0, |m| m.era);
                self.renames.insert(*request, (era, inbox));
            }
            Step::Remove(name) => {
                self.mailboxes.remove(name);
            }
            Step::Rename(names) => {
                let mut first = self.modseq - names.len() as u64;
                let taken: Vec<_> = names
                    .iter()
                    .filter_map(|(from, _)| self.mailboxes.remove(from))
                    .collect();
                for ((_, to), mut m) in names.iter().zip(taken) {
                    first += 1;
                    Arc::make_mut(&mut m).modseq = first;
                    self.mailboxes.insert(Arc::clone(to), m);
                }
            }
            Step::Subscribe(name, on) => {
                let all = Arc::make_mut(&mut self.subscriptions);
                match on {
                    true => all.insert(Arc::clone(name)),
                    false => all.remove(name),
                };
                touch(self, name, &mut |_| {});
            }
            Step::Uses(name, uses) => touch(self, name, &mut |m| m.uses = uses.clone()),
            Step::Annotate(name, entry, value) => {
                let set = |all: &mut BTreeMap<String, String>| match value.is_empty() {
                    true => all.remove(entry),
                    false => all.insert(entry.clone(), value.clone()),
                };
                match name {
                    None => drop(set(Arc::make_mut(&mut self.annotations))),
                    Some(name) => touch(self, name, &mut |m| drop(set(&mut m.annotations))),
                }
            }
            Step::Arrive(name, messages) => touch(self, name, &mut |m| {
                for message in messages {
                    let message = Message {
                        modseq,
                        ..message.clone()
                    };
                    m.messages.insert(m.uid_next, Arc::new(message));
                    m.uid_next += 1;
                }
            }),
            Step::Leave(name, uids) => touch(self, name, &mut |m| {
                m.messages.retain(|uid, _| !uids.contains(uid));
            }),
            Step::Flags(name, uids, mode, flags) => touch(self, name, &mut |m| {
                for uid in uids {
                    if let Some(message) = m.messages.get_mut(uid) {
                        let message = Arc::make_mut(message);
                        message.flags = combined(&message.flags, *mode, flags);
                        message.open &= *mode != FlagMode::Replace;
                        message.modseq = modseq;
                    }
                }
            }),
            // See `apply`.
            Step::Blind => {}
            Step::Password(password) => self.password = *password,
            Step::AddApp(name, secret) => {
                Arc::make_mut(&mut self.apps).insert(Arc::clone(name), *secret);
            }
            Step::RemoveApp(name) => {
                Arc::make_mut(&mut self.apps).remove(name);
            }
            Step::State(state) => self.state = *state,
        }
    }

    fn make(&mut self, name: &Arc<str>, uses: Vec<String>, modseq: u64) {
        let era = self.eras.len() as u32;
        self.eras.push(Era {
            uid_validity: 0,
            above: self.uid_validity,
            id: 0,
        });
        let mailbox = Mailbox {
            era,
            uid_next: 1,
            modseq,
            messages: BTreeMap::new(),
            uses,
            annotations: BTreeMap::new(),
        };
        self.mailboxes.insert(Arc::clone(name), Arc::new(mailbox));
    }

    /// The uidvalidity of a mailbox, where it is learned.
    pub fn validity(&self, m: &Mailbox) -> Option<u32> {
        let era = self.eras.get(m.era as usize)?;
        (era.uid_validity != 0).then_some(era.uid_validity)
    }

    /// The mailbox that a call names, and its name.
    pub fn find(&self, at: &Where) -> Option<(&Arc<str>, &Arc<Mailbox>)> {
        match at.era {
            0 => self.mailboxes.get_key_value(&at.name),
            // Whoever names it by its number was told of it before.
            era => self
                .mailboxes
                .iter()
                .find(|(_, m)| self.validity(m) == Some(era)),
        }
    }

    /// The mailbox that messages of another account come into: the one that was named when their
    /// transfer began, which the answer tells by its uidvalidity.
    pub fn landing(&self, to: &Where, told: u32) -> Landing<'_> {
        let era = if told == 0 { to.era } else { told };
        if era == 0 {
            return Landing::of(self.find(to));
        }
        let known = |m: &Mailbox| self.validity(m);
        let mut all = self.mailboxes.iter();
        if let Some(found) = all.find(|(_, m)| known(m) == Some(era)) {
            return Landing::of(Some(found));
        }
        let mut new = self.mailboxes.iter().filter(|(_, m)| known(m).is_none());
        match (new.next(), new.next()) {
            (None, _) => Landing::Nowhere,
            (Some(one), None) => Landing::of(Some(one)),
            // INBOX is never another mailbox.
            (Some(_), Some(_)) if *to.name == *INBOX => {
                let inbox = self.mailboxes.get_key_value(INBOX);
                Landing::of(inbox.filter(|(_, m)| known(m).is_none()))
            }
            (Some(_), Some(_)) => Landing::Unsaid,
        }
    }
}

/// Where messages of another account come in.
pub enum Landing<'a> {
    /// The mailbox and its name.
    In(&'a Arc<str>, &'a Arc<Mailbox>),
    /// It is not there.
    Nowhere,
    /// It may be any of several.
    Unsaid,
}

impl<'a> Landing<'a> {
    fn of(found: Option<(&'a Arc<str>, &'a Arc<Mailbox>)>) -> Landing<'a> {
        found.map_or(Landing::Nowhere, |(name, m)| Landing::In(name, m))
    }
}

/// Flags after a change.
pub fn combined(old: &[Name], mode: FlagMode, flags: &[Name]) -> Vec<Name> {
    let mut new: Vec<Name> = match mode {
        FlagMode::Add => old.iter().chain(flags).copied().collect(),
        FlagMode::Remove => old.iter().filter(|f| !flags.contains(f)).copied().collect(),
        FlagMode::Replace => flags.to_vec(),
    };
    new.sort_unstable();
    new.dedup();
    new
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.exists {
            return write!(f, "no account");
        }
        write!(f, "modseq {}", self.modseq)?;
        for (name, m) in &self.mailboxes {
            let uids: Vec<u32> = m.messages.keys().copied().collect();
            let (next, modseq) = (m.uid_next, m.modseq);
            write!(
                f,
                "; {name}: uidnext {next}, modseq {modseq}, uids {uids:?}"
            )?;
        }
        Ok(())
    }
}
