//! The search for an order: Wing and Gong's (1993), with the memory of configurations that Lowe
//! added ("Testing for linearizability", 2017).
//!
//! A call may be next when no other call was over before it was made. Three things keep the search
//! short. A call that fits and changes nothing is taken at once: nothing that comes later fits less
//! for it. A modseq is made by one change alone, so in an account of one generation an
//! acknowledged change is the only one that may make its modseq, and an answer of a modseq that is
//! past will never fit. And what was seen of the messages
//! (which change made them, which octets are under which uid) rules out most of the calls whose
//! outcome is unknown, each of which may take effect at any time after it was made, or never.
//! What is left is bounded: past the bound the answer is "undecided", which accuses nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::rules::Step;
use super::spec::{Account, Fit, Name, Op, Ret, UNSEEN};

/// One call on the account.
#[derive(Debug, Clone)]
pub struct Call {
    /// What.
    pub op: Op,
    /// The answer; `None`: unknown.
    pub ret: Option<Ret>,
    /// When it was made.
    pub called_ms: u64,
    /// When it answered; an unknown one never does.
    pub returned_ms: u64,
    /// The call of the same client that came before, where it has an answer.
    pub after: Option<usize>,
    /// Index in the history.
    pub record: usize,
}

/// What answers and lists have shown of an account that was never deleted.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Octets by uidvalidity and uid.
    pub blobs: BTreeMap<(u32, u32), Name>,
    /// uidvalidity and messages that a change touched, by its modseq.
    pub touched: BTreeMap<u64, (u32, BTreeSet<u32>)>,
    /// The acknowledged call that made a modseq.
    pub made: BTreeMap<u64, usize>,
    /// uidvalidities of mailboxes that always had their name.
    pub eras: BTreeMap<Arc<str>, u32>,
    /// Whether no mailbox was renamed or removed.
    pub stable: bool,
}

/// What the search found.
#[derive(Debug)]
pub enum Verdict {
    /// There is an order that explains all answers.
    Good,
    /// There is one, in which a step that nobody can tell explains all that comes after it.
    Blind,
    /// The bound was reached.
    Undecided,
    /// There is none.
    Bad {
        /// Calls that the longest attempt explains.
        explained: usize,
        /// The call that it does not: the first to answer of those left.
        stuck: usize,
        /// What the account would be then.
        account: String,
    },
}

/// A partial order of the calls, made total up to here.
#[derive(Clone)]
struct Node {
    account: Account,
    /// Which calls are in it.
    taken: Vec<u64>,
    explained: usize,
    /// Calls that were made and are not in it.
    open: Vec<usize>,
    /// How many calls of those in the order of their beginning were opened.
    opened: usize,
    /// How many of those in the order of their answers were passed.
    passed: usize,
}

/// Searches for an order of `calls`. `evidence`: of an account of one generation.
pub fn search(calls: &[Call], evidence: Option<&Evidence>, bound: usize) -> Verdict {
    let mut by_call: Vec<usize> = (0..calls.len()).collect();
    by_call.sort_by_key(|c| calls[*c].called_ms);
    let mut by_return: Vec<usize> = (0..calls.len())
        .filter(|c| calls[*c].ret.is_some())
        .collect();
    by_return.sort_by_key(|c| calls[*c].returned_ms);
    let answered = |call: &Call| -> Vec<usize> {
        let same = by_return.iter().filter(|c| calls[**c].op == call.op);
        same.copied().collect()
    };
    let repeated = calls.iter().map(|call| match call.ret {
        Some(_) => Vec::new(),
        None => answered(call),
    });
    let search = Search {
        calls,
        evidence,
        repeated: repeated.collect(),
        by_call,
        by_return,
    };
    search.run(bound)
}

struct Search<'a> {
    calls: &'a [Call],
    evidence: Option<&'a Evidence>,
    /// Of each call whose outcome is unknown, those with an answer that ask for the same under the
    /// same request.
    repeated: Vec<Vec<usize>>,
    by_call: Vec<usize>,
    by_return: Vec<usize>,
}

impl Search<'_> {
    fn run(&self, bound: usize) -> Verdict {
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let mut best: Option<(usize, usize, String)> = None;
        let mut left = vec![Node {
            account: Account::default(),
            taken: vec![0; self.calls.len().div_ceil(64)],
            explained: 0,
            open: Vec::new(),
            opened: 0,
            passed: 0,
        }];
        let mut steps = 0;
        while let Some(mut node) = left.pop() {
            loop {
                steps += 1;
                if steps > bound {
                    return Verdict::Undecided;
                }
                self.settle(&mut node);
                let Some(stuck) = self.next_answer(&mut node) else {
                    return match node.account.blind {
                        true => Verdict::Blind,
                        false => Verdict::Good,
                    };
                };
                let next = self.next(&node);
                let Some((first, others)) = next.split_first() else {
                    if best.as_ref().is_none_or(|b| b.0 < node.explained) {
                        best = Some((node.explained, stuck, node.account.to_string()));
                    }
                    break;
                };
                if !others.is_empty() && !seen.insert(self.configuration(&node)) {
                    break;
                }
                for other in others.iter().rev() {
                    let mut branch = node.clone();
                    self.take(&mut branch, *other);
                    left.push(branch);
                }
                self.take(&mut node, *first);
            }
        }
        let (explained, stuck, account) = best.unwrap_or_default();
        Verdict::Bad {
            explained,
            stuck,
            account,
        }
    }

    /// The call with an answer that ends first of those that are left.
    fn next_answer(&self, node: &mut Node) -> Option<usize> {
        while let Some(c) = self.by_return.get(node.passed) {
            if !is_taken(node, *c) {
                return Some(*c);
            }
            node.passed += 1;
        }
        None
    }

    /// Opens what may be next: what was made before the first of those left had answered.
    fn open(&self, node: &mut Node) {
        let Some(first) = self.next_answer(node) else {
            return;
        };
        let until_ms = self.calls[first].returned_ms;
        while let Some(c) = self.by_call.get(node.opened)
            && self.calls[*c].called_ms <= until_ms
        {
            node.open.push(*c);
            node.opened += 1;
        }
    }

    fn may_be_next(&self, node: &Node, c: usize) -> bool {
        self.calls[c].after.is_none_or(|a| is_taken(node, a))
    }

    /// Takes every call that fits and changes nothing.
    fn settle(&self, node: &mut Node) {
        loop {
            self.open(node);
            let mut settled = false;
            let mut i = 0;
            while i < node.open.len() {
                let c = node.open[i];
                let call = &self.calls[c];
                let settles = call.ret.is_some()
                    && self.may_be_next(node, c)
                    && match node.account.fits(&call.op, call.ret.as_ref()) {
                        Fit::Still => true,
                        Fit::Tells => self.tells_for_good(&call.op),
                        Fit::No | Fit::Idle | Fit::Changes | Fit::Blinds => false,
                    };
                match settles {
                    true => {
                        // What it repeats or found unchanged is remembered under its request.
                        self.take_at(node, i);
                        settled = true;
                    }
                    false => i += 1,
                }
            }
            if !settled {
                return;
            }
        }
    }

    /// Whether a call that tells a uidvalidity can be taken at once: it cannot be that of a later
    /// mailbox of the name. There is one generation, and all but a selection and STATUS are of INBOX,
    /// which is one mailbox, or name a modseq, which two mailboxes do not share.
    fn tells_for_good(&self, op: &Op) -> bool {
        self.evidence.is_some_and(|evidence| match op {
            Op::Select(name) | Op::Status(name) => evidence.eras.contains_key(name),
            _ => true,
        })
    }

    /// Changes that may be next, the likely ones first.
    fn next(&self, node: &Node) -> Vec<usize> {
        let mut remembered = Vec::new();
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        // Whatever can be explained is explained first.
        let mut blinding = Vec::new();
        let made = self
            .evidence
            .and_then(|e| e.made.get(&(node.account.modseq + 1)));
        for &c in &node.open {
            let call = &self.calls[c];
            let fits = node.account.fits(&call.op, call.ret.as_ref());
            if fits == Fit::No
                && let Some(evidence) = self.evidence
                && let Some(ret) = &call.ret
                && node.account.is_past(&call.op, ret, evidence.stable)
            {
                return Vec::new();
            }
            if !self.may_be_next(node, c) {
                continue;
            }
            match (fits, call.ret.is_some()) {
                (Fit::Still, false) => {
                    match self.told_again(node, c) {
                        None => {}
                        // It may as well have been later.
                        Some(Ret::Done) => unknown.push(c),
                        // It tells a modseq: now or never.
                        Some(_) => remembered.push(c),
                    }
                    continue;
                }
                (Fit::No | Fit::Still, _) | (Fit::Tells | Fit::Idle, false) => continue,
                (Fit::Tells | Fit::Idle, true) => {
                    known.push(c);
                    continue;
                }
                (Fit::Blinds, _) => {
                    blinding.push(c);
                    continue;
                }
                (Fit::Changes, _) => {}
            }
            match (call.ret.is_some(), made) {
                // The same request may have been carried out by another of its calls.
                (_, Some(only)) if self.calls[*only].op != call.op && raises(&call.op) => {}
                (_, None) if !self.plausible(node, call) => {}
                (true, _) => known.push(c),
                (false, _) => unknown.push(c),
            }
        }
        remembered.extend(known);
        remembered.extend(unknown);
        remembered.extend(blinding);
        remembered
    }

    /// A call whose outcome is unknown, and that would change nothing now, is still remembered under
    /// its request: what one that repeats it was told, where that is what it would answer now.
    fn told_again(&self, node: &Node, c: usize) -> Option<&Ret> {
        let left = self.repeated[c].iter().filter(|a| !is_taken(node, **a));
        let mut left = left.peekable();
        left.peek()?;
        let op = &self.calls[c].op;
        let told = node.account.outcome(op, None);
        // Nothing is remembered of a refusal, nor a second time.
        told.request?;
        left.find_map(|a| {
            let ret = self.calls[*a].ret.as_ref()?;
            node.account.agrees(op, &told, ret).map(|_| ret)
        })
    }

    /// Whether what was seen of the account allows a call to be its next change.
    fn plausible(&self, node: &Node, call: &Call) -> bool {
        let Some(evidence) = self.evidence else {
            return true;
        };
        let mut modseq = node.account.modseq;
        let told = node.account.outcome(&call.op, call.ret.as_ref());
        told.steps.iter().all(|step| {
            let first = modseq + 1;
            modseq += step.modseqs();
            (first..=modseq).all(|m| self.plausible_at(evidence, node, step, m))
        })
    }

    /// Whether what was seen allows this to be the change with this modseq.
    fn plausible_at(&self, evidence: &Evidence, node: &Node, step: &Step, modseq: u64) -> bool {
        let touched = evidence.touched.get(&modseq);
        let mailbox = |name: &Arc<str>| node.account.mailboxes.get(name);
        let era = |name: &Arc<str>| {
            let known = evidence.eras.get(name).copied();
            known.or_else(|| node.account.validity(mailbox(name)?))
        };
        let (era, uids): (_, Vec<u32>) = match step {
            Step::Arrive(name, messages) => {
                let (Some(m), era) = (mailbox(name), era(name)) else {
                    // Made by the same operation.
                    return true;
                };
                for (uid, message) in (m.uid_next..).zip(messages) {
                    let seen = era.and_then(|era| evidence.blobs.get(&(era, uid)));
                    if seen.is_some_and(|seen| ![*seen, UNSEEN].contains(&message.blob)) {
                        return false;
                    }
                }
                (era, (m.uid_next..).take(messages.len()).collect())
            }
            Step::Flags(name, uids, ..) => (era(name), uids.clone()),
            // No message has the modseq of such a change.
            _ => return touched.is_none(),
        };
        touched.is_none_or(|(seen_era, seen)| {
            era.is_none_or(|era| era == *seen_era) && seen.iter().all(|u| uids.contains(u))
        })
    }

    fn take(&self, node: &mut Node, c: usize) {
        if let Some(i) = node.open.iter().position(|o| *o == c) {
            self.take_at(node, i);
        }
    }

    fn take_at(&self, node: &mut Node, i: usize) {
        let c = node.open.remove(i);
        let call = &self.calls[c];
        node.account.apply(&call.op, call.ret.as_ref());
        node.taken[c / 64] |= 1 << (c % 64);
        node.explained += usize::from(call.ret.is_some());
    }

    /// Lowe's configuration: which calls are in the order, and what the account is then.
    fn configuration(&self, node: &Node) -> u64 {
        // With fixed keys: equal on every run.
        let mut hasher = DefaultHasher::new();
        node.taken.hash(&mut hasher);
        node.account.hash(&mut hasher);
        hasher.finish()
    }
}

fn is_taken(node: &Node, c: usize) -> bool {
    node.taken[c / 64] & (1 << (c % 64)) != 0
}

/// Whether the change is one that has a modseq of its own.
fn raises(op: &Op) -> bool {
    !matches!(op, Op::CreateAccount | Op::DeleteAccount)
}
