//! What an account is to its users, one operation after the other: the sequential specification.
//!
//! Written from the contract and from RFC 9051 and RFC 7162, not from the node's code. One modseq
//! counter an account, raised by one by every change; a mailbox's highest modseq is that of its
//! last change; a change that changes nothing raises nothing; a repeated request gets its first
//! answer. The uidvalidity of a new mailbox comes from a clock, so it is learned from the first
//! answer that names it and must only be above those before.

use std::collections::BTreeMap;

use crate::history::{MailboxSeen, StoredAt};
use crate::plan::FlagMode;

/// A name, flag, blob or request, as a number.
pub type Name = u32;

/// An operation on one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates the account.
    CreateAccount,
    /// Deletes it.
    DeleteAccount,
    /// Creates a mailbox.
    CreateMailbox(Name),
    /// Stores a message, unless this request has done so.
    Store {
        /// Where.
        mailbox: Name,
        /// Under which identity.
        request: Name,
        /// What.
        blob: Name,
        /// Octets.
        size: u64,
    },
    /// Changes flags, unless this request has done so.
    SetFlags {
        /// Where.
        mailbox: Name,
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
        mailbox: Name,
        /// Under which identity.
        request: Name,
        /// Which messages.
        uids: Vec<u32>,
    },
    /// Reads the counters of all mailboxes.
    Mailboxes,
    /// Reads all messages of a mailbox.
    List(Name),
    /// Reads one message.
    Fetch(Name, u32),
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ret {
    /// Done.
    Done,
    /// The account does not exist.
    NoAccount,
    /// The mailbox does not exist.
    NoMailbox,
    /// The message does not exist.
    NoMessage,
    /// It exists already.
    Exists,
    /// Stored here.
    Stored(StoredAt),
    /// Stored, but where is not told.
    StoredSomewhere,
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
    /// Counters by mailbox.
    Mailboxes(BTreeMap<Name, MailboxSeen>),
    /// A mailbox whole.
    Messages {
        /// Generation of the uids.
        uid_validity: u32,
        /// Highest modseq.
        highest_modseq: u64,
        /// All messages.
        messages: Vec<(u32, Message)>,
    },
    /// The octets of a message.
    Octets(Name),
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
    /// The change that touched it last.
    pub modseq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Mailbox {
    /// 0: not learned yet.
    uid_validity: u32,
    /// It is above this.
    above: u32,
    uid_next: u32,
    modseq: u64,
    messages: BTreeMap<u32, Message>,
}

/// What a request did.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum First {
    Stored(u32, u64),
    Flags(u64, Vec<u32>, Vec<u32>),
    Expunged(u64, Vec<u32>),
}

/// An account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Account {
    exists: bool,
    /// The highest uidvalidity that was learned.
    uid_validity: u32,
    /// The account's change counter.
    pub modseq: u64,
    mailboxes: BTreeMap<Name, Mailbox>,
    /// Requests that were carried out, by mailbox.
    requests: BTreeMap<(Name, Name), First>,
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
    /// It fits and changes something.
    Changes,
}

/// The number of INBOX.
pub const INBOX: Name = 0;

impl Account {
    /// Whether `op` with this answer (`None`: not known) can be next.
    pub fn fits(&self, op: &Op, ret: Option<&Ret>) -> Fit {
        let told = self.answer(op);
        let learns = match ret {
            None => false,
            Some(ret) => match self.agrees(op, &told, ret) {
                None => return Fit::No,
                Some(learns) => learns,
            },
        };
        match (self.changes(op, &told), learns) {
            (true, _) => Fit::Changes,
            (false, true) => Fit::Tells,
            (false, false) => Fit::Still,
        }
    }

    /// Whether an answer that does not fit now never will, whatever changes: it tells a modseq that
    /// was passed. Only of an account that is not deleted.
    pub fn is_past(&self, op: &Op, ret: &Ret) -> bool {
        let passed = |name: &Name, modseq: u64| {
            // A mailbox that comes later is above what the account has now.
            let now = self.mailboxes.get(name).map_or(self.modseq, |m| m.modseq);
            modseq <= now
        };
        match (op, ret) {
            (_, Ret::Stored(at)) => at.modseq <= self.modseq,
            (_, Ret::Flags { modseq, .. } | Ret::Expunged { modseq, .. }) => *modseq <= self.modseq,
            (Op::List(name), Ret::Messages { highest_modseq, .. }) => passed(name, *highest_modseq),
            (_, Ret::Mailboxes(all)) => {
                let past = |(name, m): (&Name, &MailboxSeen)| passed(name, m.highest_modseq);
                all.len() < self.mailboxes.len() || all.iter().all(past)
            }
            _ => false,
        }
    }

    /// Carries `op` out, which fits, and learns from its answer.
    pub fn apply(&mut self, op: &Op, ret: Option<&Ret>) {
        let told = self.answer(op);
        let changes = self.changes(op, &told);
        if changes {
            self.modseq += u64::from(!matches!(op, Op::CreateAccount | Op::DeleteAccount));
        }
        let modseq = self.modseq;
        match (op, &told) {
            (Op::CreateAccount, Ret::Done) => {
                self.exists = true;
                self.modseq = 1;
                self.requests.clear();
                let inbox = self.new_mailbox();
                self.mailboxes = BTreeMap::from([(INBOX, inbox)]);
            }
            (Op::DeleteAccount, Ret::Done) => {
                self.exists = false;
                self.modseq = 0;
                self.mailboxes.clear();
                self.requests.clear();
            }
            (Op::CreateMailbox(name), Ret::Done) => {
                let mailbox = self.new_mailbox();
                self.mailboxes.insert(*name, mailbox);
            }
            (
                Op::Store {
                    mailbox,
                    request,
                    blob,
                    size,
                },
                Ret::Stored(at),
            ) if changes => {
                if let Some(m) = self.mailboxes.get_mut(mailbox) {
                    m.uid_next += 1;
                    m.modseq = modseq;
                    let message = Message {
                        blob: *blob,
                        size: *size,
                        flags: Vec::new(),
                        modseq,
                    };
                    m.messages.insert(at.uid, message);
                }
                let first = First::Stored(at.uid, modseq);
                self.requests.insert((*mailbox, *request), first);
            }
            (
                Op::SetFlags {
                    mailbox,
                    request,
                    mode,
                    flags,
                    ..
                },
                Ret::Flags {
                    modseq,
                    changed,
                    unchanged,
                },
            ) => {
                if let Some(m) = self.mailboxes.get_mut(mailbox).filter(|_| changes) {
                    m.modseq = *modseq;
                    for uid in changed {
                        if let Some(message) = m.messages.get_mut(uid) {
                            message.flags = combined(&message.flags, *mode, flags);
                            message.modseq = *modseq;
                        }
                    }
                }
                let first = First::Flags(*modseq, changed.clone(), unchanged.clone());
                self.requests.entry((*mailbox, *request)).or_insert(first);
            }
            (
                Op::Expunge {
                    mailbox, request, ..
                },
                Ret::Expunged { modseq, uids },
            ) => {
                if let Some(m) = self.mailboxes.get_mut(mailbox).filter(|_| changes) {
                    m.modseq = *modseq;
                    for uid in uids {
                        m.messages.remove(uid);
                    }
                }
                let first = First::Expunged(*modseq, uids.clone());
                self.requests.entry((*mailbox, *request)).or_insert(first);
            }
            _ => {}
        }
        if let Some(ret) = ret {
            self.learn(op, ret);
        }
    }

    fn new_mailbox(&self) -> Mailbox {
        Mailbox {
            uid_validity: 0,
            above: self.uid_validity,
            uid_next: 1,
            modseq: self.modseq,
            messages: BTreeMap::new(),
        }
    }

    /// What `op` would answer now.
    pub fn answer(&self, op: &Op) -> Ret {
        match op {
            Op::CreateAccount if self.exists => Ret::Exists,
            Op::CreateAccount => Ret::Done,
            _ if !self.exists => Ret::NoAccount,
            Op::DeleteAccount => Ret::Done,
            Op::CreateMailbox(name) if self.mailboxes.contains_key(name) => Ret::Exists,
            Op::CreateMailbox(_) => Ret::Done,
            Op::Mailboxes => {
                let all = self.mailboxes.iter().map(|(name, m)| (*name, m.seen()));
                Ret::Mailboxes(all.collect())
            }
            Op::Store { mailbox, .. }
            | Op::SetFlags { mailbox, .. }
            | Op::Expunge { mailbox, .. }
            | Op::List(mailbox)
            | Op::Fetch(mailbox, _) => match self.mailboxes.get(mailbox) {
                Some(m) => self.inside(m, op),
                None => Ret::NoMailbox,
            },
        }
    }

    /// What an operation inside mailbox `m` would answer.
    fn inside(&self, m: &Mailbox, op: &Op) -> Ret {
        match op {
            Op::Store {
                mailbox, request, ..
            } => {
                let (uid, modseq) = match self.requests.get(&(*mailbox, *request)) {
                    Some(First::Stored(uid, modseq)) => (*uid, *modseq),
                    _ => (m.uid_next, self.modseq + 1),
                };
                Ret::Stored(StoredAt {
                    uid_validity: m.uid_validity,
                    uid,
                    modseq,
                })
            }
            Op::SetFlags {
                mailbox,
                request,
                uids,
                mode,
                flags,
                unchanged_since,
            } => {
                if let Some(First::Flags(modseq, changed, unchanged)) =
                    self.requests.get(&(*mailbox, *request))
                {
                    return Ret::Flags {
                        modseq: *modseq,
                        changed: changed.clone(),
                        unchanged: unchanged.clone(),
                    };
                }
                let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
                for (uid, message) in uids.iter().filter_map(|u| Some((*u, m.messages.get(u)?))) {
                    if *unchanged_since != 0 && message.modseq > *unchanged_since {
                        unchanged.push(uid);
                    } else if combined(&message.flags, *mode, flags) != message.flags {
                        changed.push(uid);
                    }
                }
                let modseq = self.modseq + u64::from(!changed.is_empty());
                Ret::Flags {
                    modseq,
                    changed,
                    unchanged,
                }
            }
            Op::Expunge {
                mailbox,
                request,
                uids,
            } => {
                if let Some(First::Expunged(modseq, uids)) =
                    self.requests.get(&(*mailbox, *request))
                {
                    return Ret::Expunged {
                        modseq: *modseq,
                        uids: uids.clone(),
                    };
                }
                let there = uids.iter().copied();
                let uids: Vec<u32> = there.filter(|u| m.messages.contains_key(u)).collect();
                let modseq = self.modseq + u64::from(!uids.is_empty());
                Ret::Expunged { modseq, uids }
            }
            Op::Fetch(_, uid) => match m.messages.get(uid) {
                Some(message) => Ret::Octets(message.blob),
                None => Ret::NoMessage,
            },
            // Compared in place: a mailbox may be large.
            _ => Ret::Messages {
                uid_validity: m.uid_validity,
                highest_modseq: m.modseq,
                messages: Vec::new(),
            },
        }
    }

    /// Whether `op`, which would answer `told`, changes anything.
    fn changes(&self, op: &Op, told: &Ret) -> bool {
        match (op, told) {
            (Op::CreateAccount | Op::DeleteAccount | Op::CreateMailbox(_), told) => {
                *told == Ret::Done
            }
            (_, Ret::Stored(at)) => at.modseq > self.modseq,
            (_, Ret::Flags { modseq, .. } | Ret::Expunged { modseq, .. }) => *modseq > self.modseq,
            _ => false,
        }
    }

    /// Whether what `op` would answer agrees with what it did answer; and whether something is
    /// learned by that.
    fn agrees(&self, op: &Op, told: &Ret, ret: &Ret) -> Option<bool> {
        match (op, told, ret) {
            (_, Ret::Stored(_), Ret::StoredSomewhere) => Some(false),
            (Op::Store { mailbox, .. }, Ret::Stored(told), Ret::Stored(ret)) => {
                let same = (told.uid, told.modseq) == (ret.uid, ret.modseq);
                let learns = self.learns(*mailbox, ret.uid_validity)?;
                same.then_some(learns)
            }
            (Op::Mailboxes, Ret::Mailboxes(told), Ret::Mailboxes(ret)) => {
                let mut learns = false;
                if told.len() != ret.len() {
                    return None;
                }
                for ((name, told), (other, ret)) in told.iter().zip(ret) {
                    learns |= self.learns(*name, ret.uid_validity)?;
                    let told = MailboxSeen {
                        uid_validity: ret.uid_validity,
                        ..told.clone()
                    };
                    if name != other || told != *ret {
                        return None;
                    }
                }
                Some(learns)
            }
            (
                Op::List(name),
                Ret::Messages {
                    highest_modseq: told,
                    ..
                },
                Ret::Messages {
                    uid_validity,
                    highest_modseq,
                    messages,
                },
            ) => {
                let learns = self.learns(*name, *uid_validity)?;
                let there = &self.mailboxes.get(name)?.messages;
                let same = told == highest_modseq
                    && there.len() == messages.len()
                    && there
                        .iter()
                        .zip(messages)
                        .all(|((u, m), (v, n))| u == v && m == n);
                same.then_some(learns)
            }
            (_, told, ret) => (told == ret).then_some(false),
        }
    }

    /// Whether a uidvalidity is news; `None`: it cannot be.
    fn learns(&self, mailbox: Name, uid_validity: u32) -> Option<bool> {
        let m = self.mailboxes.get(&mailbox)?;
        match m.uid_validity {
            0 => (uid_validity > m.above).then_some(true),
            known => (known == uid_validity).then_some(false),
        }
    }

    fn learn(&mut self, op: &Op, ret: &Ret) {
        let mut learned = |name: &Name, uid_validity: u32| {
            if let Some(m) = self.mailboxes.get_mut(name) {
                m.uid_validity = uid_validity;
                self.uid_validity = self.uid_validity.max(uid_validity);
            }
        };
        match (op, ret) {
            (Op::Store { mailbox, .. }, Ret::Stored(at)) => learned(mailbox, at.uid_validity),
            (Op::List(name), Ret::Messages { uid_validity, .. }) => learned(name, *uid_validity),
            (Op::Mailboxes, Ret::Mailboxes(all)) => {
                for (name, seen) in all {
                    learned(name, seen.uid_validity);
                }
            }
            _ => {}
        }
    }
}

impl Mailbox {
    fn seen(&self) -> MailboxSeen {
        let unseen = self.messages.values().filter(|m| !m.flags.contains(&SEEN));
        MailboxSeen {
            uid_validity: self.uid_validity,
            uid_next: self.uid_next,
            highest_modseq: self.modseq,
            messages: self.messages.len() as u64,
            unseen: unseen.count() as u64,
        }
    }
}

/// The number of `\Seen`.
pub const SEEN: Name = 0;

fn combined(old: &[Name], mode: FlagMode, flags: &[Name]) -> Vec<Name> {
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
                "; mailbox {name}: uidnext {next}, modseq {modseq}, uids {uids:?}"
            )?;
        }
        Ok(())
    }
}
