//! Whether an answer agrees with what an account is, and what is learned from it.

use std::sync::Arc;

use super::order;
use super::rules::Outcome;
use super::spec::{Account, DELETED, INBOX, Mailbox, Message, Op, Ret, SEEN, UNKNOWN_SIZE, UNSEEN};
use crate::history::{AccountSeen, MailboxSeen, StatusSeen, UsageSeen};

impl Account {
    /// Whether what `op` would answer agrees with what it did answer; and whether something is
    /// learned by that.
    pub fn agrees(&self, op: &Op, told: &Outcome, ret: &Ret) -> Option<bool> {
        match (&told.ret, ret) {
            (Ret::Stored(..), Ret::StoredSomewhere)
            | (Ret::Made(..) | Ret::Flags { .. } | Ret::Expunged { .. }, Ret::Done) => Some(false),
            (Ret::Made(..), Ret::Made(validity, id)) => match told.era {
                Some(era) => self.learns(era, *validity, *id),
                // It is made by this.
                None => (*validity > self.uid_validity).then_some(true),
            },
            (Ret::Stored(told_at, n), Ret::Stored(at, m)) => {
                let learns = self.learns(told.era?, at.uid_validity, 0)?;
                // IMAP tells no modseq.
                let modseq = at.modseq == 0 || at.modseq == told_at.modseq;
                (modseq && (told_at.uid, n) == (at.uid, m)).then_some(learns)
            }
            (
                Ret::Selected { .. } | Ret::Carried { .. },
                Ret::Selected { uid_validity, .. } | Ret::Carried { uid_validity, .. },
            ) => {
                let learns = self.learns(told.era?, *uid_validity, 0)?;
                let told = match (&told.ret, ret) {
                    // IMAP tells no modseq.
                    (Ret::Carried { from, to, .. }, Ret::Carried { modseq: 0, .. }) => {
                        &Ret::Carried {
                            uid_validity: 0,
                            modseq: 0,
                            from: from.clone(),
                            to: to.clone(),
                        }
                    }
                    (told, _) => told,
                };
                (*told == without_era(ret)).then_some(learns)
            }
            (Ret::Status(known), Ret::Status(seen)) => {
                let Op::Status(name) = op else { return None };
                let learns = self.learns(told.era?, seen.uid_validity, 0)?;
                let all = || self.mailboxes.get(name).into_iter();
                let all = || all().flat_map(|m| m.messages.values());
                let same = known.uid_next == seen.uid_next;
                (same && may_hold(all, sums(known), &sums(seen))).then_some(learns)
            }
            (Ret::Uids(found), Ret::Uids(told)) => {
                let Op::Search { untold, .. } = op else {
                    return None;
                };
                let asked = |uid: &&u32| *untold == 0 || **uid < *untold;
                let there = told.iter().all(|uid| found.contains(uid));
                let all = found.iter().filter(asked).all(|uid| told.contains(uid));
                (there && all && told.is_sorted_by(|a, b| a < b)).then_some(false)
            }
            (
                Ret::Landed { first, .. },
                Ret::Landed {
                    uid_validity,
                    first: at,
                },
            ) => {
                let learns = self.learns(told.era?, *uid_validity, 0)?;
                (first == at).then_some(learns)
            }
            (Ret::Octets(UNSEEN), Ret::Octets(_)) => Some(false),
            // It was made, and removed before it could be told.
            (Ret::Secret(_), Ret::ToldBefore) => Some(false),
            (Ret::Sorted(found), Ret::Sorted(told)) => {
                let Op::Sort { name, order, .. } = op else {
                    return None;
                };
                let m = self.mailboxes.get(name)?;
                order.may_be(m, found, told).then_some(false)
            }
            (Ret::Threads(found), Ret::Threads(told)) => {
                order::are_threads(found, told).then_some(false)
            }
            (
                Ret::Maildrop { .. },
                Ret::Maildrop {
                    uid_validity,
                    stat,
                    messages,
                },
            ) => {
                let Op::Maildrop { floor } = op else {
                    return None;
                };
                let learns = match *uid_validity {
                    0 => false,
                    validity => self.learns(told.era?, validity, 0)?,
                };
                let m = self.mailboxes.get(INBOX)?;
                order::is_maildrop(m, *floor, *stat, messages).then_some(learns)
            }
            // Octets are read piece by piece after the message was found, and are not part of a
            // view (contract, FetchBlob): they go away with whatever takes the message away.
            (Ret::NoAccount | Ret::NoMailbox | Ret::NoMessage, Ret::NoOctets)
                if matches!(op, Op::Fetch(..)) =>
            {
                Some(false)
            }
            (Ret::Usage(told), Ret::Usage(seen)) => {
                let all = || self.mailboxes.values().flat_map(|m| m.messages.values());
                may_hold(all, *told, seen).then_some(false)
            }
            (Ret::Mailboxes(_), Ret::Mailboxes(all)) => self.agrees_with_all(all),
            (
                Ret::Messages {
                    highest_modseq: told_modseq,
                    ..
                },
                Ret::Messages {
                    uid_validity,
                    highest_modseq,
                    messages,
                },
            ) => {
                let Op::List(name) = op else { return None };
                let learns = self.learns(told.era?, *uid_validity, 0)?;
                let there = &self.mailboxes.get(name)?.messages;
                let same = told_modseq == highest_modseq
                    && there.len() == messages.len()
                    && there
                        .iter()
                        .zip(messages)
                        .all(|((u, m), (v, n))| u == v && m.may_be(n));
                let vague = || there.values().any(|m| m.is_vague());
                same.then(|| learns || vague())
            }
            (told, ret) => (told == ret).then_some(false),
        }
    }

    fn agrees_with_all(&self, all: &AccountSeen) -> Option<bool> {
        let subscribed = self.subscriptions.iter().map(|s| &**s);
        // IMAP tells no modseq of an account.
        let whole = all.modseq == self.modseq
            && subscribed.eq(all.subscriptions.iter().map(String::as_str));
        if all.mailboxes.len() != self.mailboxes.len() || all.modseq != 0 && !whole {
            return None;
        }
        let mut learns = false;
        for ((name, m), (other, seen)) in self.mailboxes.iter().zip(&all.mailboxes) {
            if **name != **other {
                return None;
            }
            learns |= self.learns(m.era, seen.uid_validity, seen.id)?;
            let told = self.seen(name, m, seen.uid_validity, seen.id);
            if told != *seen && !may_be_seen(m, told, seen) {
                return None;
            }
        }
        Some(learns)
    }

    /// The sums of all counters.
    pub fn usage(&self) -> UsageSeen {
        let mut sum = UsageSeen {
            mailboxes: self.mailboxes.len() as u64,
            ..UsageSeen::default()
        };
        for (name, m) in &self.mailboxes {
            let seen = self.seen(name, m, 0, 0);
            sum.messages += seen.messages;
            sum.unseen += seen.unseen;
            sum.deleted += seen.deleted;
            sum.bytes += seen.bytes;
        }
        sum
    }

    /// Its counters, as STATUS tells them.
    pub fn status(&self, name: &Arc<str>, m: &Mailbox) -> StatusSeen {
        let seen = self.seen(name, m, 0, 0);
        StatusSeen {
            uid_validity: 0,
            uid_next: seen.uid_next,
            messages: seen.messages,
            unseen: seen.unseen,
            deleted: seen.deleted,
            bytes: seen.bytes,
        }
    }

    /// Its counters.
    pub fn seen(&self, name: &Arc<str>, m: &Mailbox, uid_validity: u32, id: u32) -> MailboxSeen {
        let with = |flag| m.messages.values().filter(move |m| m.flags.contains(&flag));
        MailboxSeen {
            uid_validity,
            uid_next: m.uid_next,
            highest_modseq: m.modseq,
            messages: m.messages.len() as u64,
            unseen: (m.messages.len() - with(SEEN).count()) as u64,
            deleted: with(DELETED).count() as u64,
            bytes: m.messages.values().filter_map(|m| size(m)).sum(),
            id,
            uses: m.uses.clone(),
            subscribed: self.subscriptions.contains(name),
        }
    }

    /// Whether a uidvalidity and a number (0: not told) are news; `None`: they cannot be.
    fn learns(&self, era: u32, uid_validity: u32, id: u32) -> Option<bool> {
        let known = self.eras.get(era as usize)?;
        let validity = match known.uid_validity {
            0 => (uid_validity > known.above).then_some(true)?,
            known => (known == uid_validity).then_some(false)?,
        };
        let id = match (known.id, id) {
            (_, 0) => false,
            (0, _) => true,
            (known, id) => (known == id).then_some(false)?,
        };
        Some(validity || id)
    }

    /// Learns from an answer.
    pub fn learn(&mut self, told: &Outcome, ret: &Ret) {
        let mut learned = |era: u32, uid_validity: u32, id: u32| {
            if let Some(known) = self.eras.get_mut(era as usize) {
                known.uid_validity = uid_validity;
                known.id = known.id.max(id);
                self.uid_validity = self.uid_validity.max(uid_validity);
            }
        };
        match (told.era, ret) {
            (Some(era), Ret::Made(validity, id)) => learned(era, *validity, *id),
            (Some(era), Ret::Stored(at, _)) => learned(era, at.uid_validity, 0),
            (
                Some(era),
                Ret::Messages { uid_validity, .. }
                | Ret::Carried { uid_validity, .. }
                | Ret::Landed { uid_validity, .. }
                | Ret::Selected { uid_validity, .. },
            ) => learned(era, *uid_validity, 0),
            (Some(era), Ret::Maildrop { uid_validity, .. }) if *uid_validity != 0 => {
                learned(era, *uid_validity, 0);
            }
            (Some(era), Ret::Status(seen)) => learned(era, seen.uid_validity, 0),
            (_, Ret::Mailboxes(all)) => {
                for (m, seen) in self.mailboxes.values().zip(all.mailboxes.values()) {
                    learned(m.era, seen.uid_validity, seen.id);
                }
            }
            _ => {}
        }
        if let (Some(era), Ret::Messages { messages, .. }) = (told.era, ret) {
            self.learn_messages(era, messages);
        }
    }

    /// What came from another account is known once it is listed, and so are dates.
    fn learn_messages(&mut self, era: u32, listed: &[(u32, Arc<Message>)]) {
        let mut all = self.mailboxes.values_mut();
        let Some(m) = all.find(|m| m.era == era) else {
            return;
        };
        let undated = |m: &Message| m.date_ms == 0;
        let mut known = m.messages.values();
        if !known.any(|m| m.is_vague() || undated(m)) {
            return;
        }
        let m = Arc::make_mut(m);
        for (uid, message) in listed {
            m.messages.insert(*uid, Arc::clone(message));
        }
    }
}

/// Its size, where it is known.
fn size(m: &Message) -> Option<u64> {
    (m.size != UNKNOWN_SIZE).then_some(m.size)
}

/// Counters of one mailbox.
fn sums(of: &StatusSeen) -> UsageSeen {
    UsageSeen {
        mailboxes: 1,
        messages: of.messages,
        unseen: of.unseen,
        deleted: of.deleted,
        bytes: of.bytes,
    }
}

/// Whether a mailbox with messages of which not all is known may have these counters.
fn may_be_seen(m: &Mailbox, told: MailboxSeen, seen: &MailboxSeen) -> bool {
    let sums = |of: &MailboxSeen| UsageSeen {
        mailboxes: 1,
        messages: of.messages,
        unseen: of.unseen,
        deleted: of.deleted,
        bytes: of.bytes,
    };
    let rest = MailboxSeen {
        unseen: seen.unseen,
        deleted: seen.deleted,
        bytes: seen.bytes,
        ..told.clone()
    };
    rest == *seen && may_hold(|| m.messages.values(), sums(&told), &sums(seen))
}

/// Whether these messages, of which not all is known, may have these counters; `told`: those of what
/// is known.
fn may_hold<'a, I>(all: impl Fn() -> I, mut told: UsageSeen, seen: &UsageSeen) -> bool
where
    I: Iterator<Item = &'a Arc<Message>>,
{
    if told == *seen {
        return true;
    }
    let open = all().filter(|m| m.open).count() as u64;
    let flagged = |flag| {
        let known = all().filter(|m| !m.open);
        known.filter(|m| m.flags.contains(&flag)).count() as u64
    };
    let read = flagged(SEEN)..=flagged(SEEN) + open;
    let deleted = flagged(DELETED)..=flagged(DELETED) + open;
    if open > 0 && read.contains(&told.messages.saturating_sub(seen.unseen)) {
        told.unseen = seen.unseen;
    }
    if open > 0 && deleted.contains(&seen.deleted) {
        told.deleted = seen.deleted;
    }
    if all().any(|m| size(m).is_none()) && told.bytes <= seen.bytes {
        told.bytes = seen.bytes;
    }
    told == *seen
}

/// An answer without what is learned of its mailbox.
fn without_era(ret: &Ret) -> Ret {
    match ret.clone() {
        Ret::Carried {
            modseq, from, to, ..
        } => Ret::Carried {
            uid_validity: 0,
            modseq,
            from,
            to,
        },
        Ret::Selected {
            uid_next, messages, ..
        } => Ret::Selected {
            uid_validity: 0,
            uid_next,
            messages,
        },
        other => other,
    }
}
