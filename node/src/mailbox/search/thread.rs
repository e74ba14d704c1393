//! Threads of matches: the REFERENCES algorithm (RFC 5256, section 4).
//!
//! Written for mailboxes of millions and for mail made to hurt: no recursion, every loop gives way
//! to others now and then, and the test that a new link closes no circle, which the plain
//! algorithm pays with a walk to the root for each reference, is answered without a walk for
//! messages that were never connected before. What walks are left share a budget; a link whose
//! test does not fit in it is not made.
//!
//! Ids are kept as 128 bits of their hash.

use std::collections::BTreeMap;

use super::super::summary::Summary;
use super::sort::SentDate;
use super::subject;
use super::text::fold;
use crate::index::values::MessageRow;
use crate::types::Uid;

/// Steps after which others have their turn.
const STEPS_AT_A_TIME: u32 = 4096;
/// Steps of walks to roots for each message or id.
const WALK_STEPS: u64 = 64;
/// Steps of walks that any call may make.
const MIN_WALK_STEPS: u64 = 1 << 20;

/// One place in a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadNode {
    /// The message; 0: one that is not there.
    pub uid: Uid,
    /// How deep it stands; a node of depth 0 begins a thread.
    pub depth: u32,
}

/// Nobody.
const NONE: u32 = u32::MAX;

/// A message, or an id that only references name.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// 0: nobody has the id.
    uid: Uid,
    sent_ms: i64,
    parent: u32,
    /// In the forest of what was ever connected.
    joined: u32,
    subject: u64,
    is_reply: bool,
}

/// Matches on their way into threads.
#[derive(Default)]
pub struct Threader {
    places: Vec<Place>,
    by_id: BTreeMap<u128, u32>,
    /// Base subjects, folded, by their number; 0 is the empty one.
    subjects: BTreeMap<u128, u64>,
    walked: u64,
}

fn hash(text: &str) -> u128 {
    let hash = blake3::hash(text.as_bytes());
    let (half, _) = hash.as_bytes().split_at(16);
    half.iter().fold(0, |n, b| n << 8 | u128::from(*b))
}

/// Gives way to others every so many steps.
#[derive(Default)]
struct Turns(u32);

impl Turns {
    async fn step(&mut self) {
        self.0 = self.0.wrapping_add(1);
        if self.0.is_multiple_of(STEPS_AT_A_TIME) {
            tokio::task::yield_now().await;
        }
    }
}

impl Threader {
    fn new_place(&mut self) -> u32 {
        let at = self.places.len() as u32;
        self.places.push(Place {
            uid: 0,
            sent_ms: 0,
            parent: NONE,
            joined: at,
            subject: 0,
            is_reply: false,
        });
        at
    }

    /// The place of an id.
    fn place(&mut self, id: &str) -> u32 {
        let id = hash(id);
        if let Some(at) = self.by_id.get(&id) {
            return *at;
        }
        let at = self.new_place();
        self.by_id.insert(id, at);
        at
    }

    /// Takes a match; in the order of uids, because of two messages with one id the first has it
    /// (section 4, step 1).
    pub fn add(&mut self, uid: Uid, row: &MessageRow, summary: &Summary) {
        let e = &summary.envelope;
        // Without an id, or with one that is taken, a message has a place that nobody refers to.
        let own = match e.message_id.as_str() {
            "" => self.new_place(),
            id => match self.place(id) {
                at if self.places[at as usize].uid == 0 => at,
                _ => self.new_place(),
            },
        };
        let base = subject::base(&e.subject);
        let subject = match base.text.as_str() {
            "" => 0,
            text => {
                let next = self.subjects.len() as u64 + 1;
                *self.subjects.entry(hash(&fold(text))).or_insert(next)
            }
        };
        let place = &mut self.places[own as usize];
        place.uid = uid;
        place.sent_ms = SentDate::of(summary, row);
        place.subject = subject;
        place.is_reply = base.is_reply;

        // Step 1A: each reference is the parent of the next, unless that has a parent.
        let references = match e.references.is_empty() {
            false => e.references.as_slice(),
            true => &e.in_reply_to[..e.in_reply_to.len().min(1)],
        };
        let mut last = NONE;
        for id in references {
            let at = self.place(id);
            if last != NONE && self.places[at as usize].parent == NONE {
                self.link(last, at);
            }
            last = at;
        }
        // Step 1B: the last reference is the parent, whatever others made of it.
        if self.places[own as usize].parent != last {
            self.places[own as usize].parent = NONE;
            if last != NONE {
                self.link(last, own);
            }
        }
    }

    /// Makes `child`, which has no parent, a child, unless that closes a circle.
    fn link(&mut self, parent: u32, child: u32) {
        let (a, b) = (self.joined(parent), self.joined(child));
        if a == b && self.reaches(parent, child) {
            return;
        }
        self.places[b as usize].joined = a;
        self.places[child as usize].parent = parent;
    }

    /// The representative of everything that was ever connected to this place.
    fn joined(&mut self, mut at: u32) -> u32 {
        loop {
            let up = self.places[at as usize].joined;
            if up == at {
                return at;
            }
            // Half of the way is cut off for those who come later.
            let further = self.places[up as usize].joined;
            self.places[at as usize].joined = further;
            at = further;
        }
    }

    /// Whether the way from `from` to its root passes `to`, or is too long to be sure.
    fn reaches(&mut self, from: u32, to: u32) -> bool {
        let budget = MIN_WALK_STEPS + self.places.len() as u64 * WALK_STEPS;
        let mut at = from;
        while at != NONE {
            if at == to || self.walked >= budget {
                return true;
            }
            self.walked += 1;
            at = self.places[at as usize].parent;
        }
        false
    }

    /// The threads, depth first.
    pub async fn finish(self) -> Threads {
        let mut turns = Turns::default();
        let mut forest = Forest::new(self.places, &mut turns).await;
        forest.prune(&mut turns).await;
        forest.sort(&mut turns).await;
        forest.gather(&mut turns).await;
        forest.sort(&mut turns).await;
        let stack = forest.roots.iter().rev().map(|at| (*at, 0)).collect();
        Threads { forest, stack }
    }
}

/// The places with their children.
struct Forest {
    places: Vec<Place>,
    children: Vec<Vec<u32>>,
    roots: Vec<u32>,
}

impl Forest {
    /// Step 2.
    async fn new(places: Vec<Place>, turns: &mut Turns) -> Forest {
        let mut children = vec![Vec::new(); places.len()];
        let mut roots = Vec::new();
        for (at, place) in (0..).zip(&places) {
            match place.parent {
                NONE => roots.push(at),
                parent => children[parent as usize].push(at),
            }
            turns.step().await;
        }
        Forest {
            places,
            children,
            roots,
        }
    }

    fn is_dummy(&self, at: u32) -> bool {
        self.places[at as usize].uid == 0
    }

    /// Step 3: places without a message go, and what they hold moves up; but under the root only
    /// a single child does.
    async fn prune(&mut self, turns: &mut Turns) {
        // Parents before children; so from the end, children before parents.
        let mut order = self.roots.clone();
        let mut next = 0;
        while let Some(at) = order.get(next) {
            order.extend(&self.children[*at as usize]);
            next += 1;
            turns.step().await;
        }
        for at in order.into_iter().rev() {
            let before = std::mem::take(&mut self.children[at as usize]);
            let mut after = Vec::new();
            for child in before {
                match self.is_dummy(child) {
                    true => {
                        // The order of children is made later: the shorter list moves.
                        let mut more = std::mem::take(&mut self.children[child as usize]);
                        if more.len() > after.len() {
                            std::mem::swap(&mut more, &mut after);
                        }
                        after.append(&mut more);
                    }
                    false => after.push(child),
                }
            }
            self.children[at as usize] = after;
            turns.step().await;
        }
        let roots = std::mem::take(&mut self.roots);
        for at in roots {
            if !self.is_dummy(at) {
                self.roots.push(at);
                continue;
            }
            match self.children[at as usize].as_slice() {
                [] => (),
                [only] => self.roots.push(*only),
                _ => self.roots.push(at),
            }
        }
    }

    /// By what siblings are sorted: a dummy by its first child.
    fn order(&self, at: u32) -> (i64, Uid) {
        let at = match (self.is_dummy(at), self.children[at as usize].first()) {
            (true, Some(first)) => *first,
            _ => at,
        };
        let place = &self.places[at as usize];
        (place.sent_ms, place.uid)
    }

    /// Steps 4 and 6: siblings by sent date, then by uid. Below the root there are no dummies, so
    /// the order of a list needs no other list but at the root.
    async fn sort(&mut self, turns: &mut Turns) {
        for at in 0..self.children.len() {
            if self.children[at].len() > 1 {
                let mut list = std::mem::take(&mut self.children[at]);
                list.sort_unstable_by_key(|at| self.order(*at));
                self.children[at] = list;
            }
            turns.step().await;
        }
        let mut roots = std::mem::take(&mut self.roots);
        roots.sort_by_cached_key(|at| self.order(*at));
        self.roots = roots;
    }

    /// The place whose subject is that of a thread.
    fn speaker(&self, root: u32) -> u32 {
        match (self.is_dummy(root), self.children[root as usize].first()) {
            (true, Some(first)) => *first,
            _ => root,
        }
    }

    /// Whether a thread begins with a reply.
    fn is_reply(&self, root: u32) -> bool {
        self.places[root as usize].is_reply
    }

    /// Step 5: threads of one base subject become one.
    async fn gather(&mut self, turns: &mut Turns) {
        let roots = std::mem::take(&mut self.roots);
        // 5B: who stands for a subject.
        let mut table: BTreeMap<u64, u32> = BTreeMap::new();
        for &root in &roots {
            turns.step().await;
            let subject = self.places[self.speaker(root) as usize].subject;
            if subject == 0 {
                continue;
            }
            let holder = *table.entry(subject).or_insert(root);
            let better = self.is_dummy(root) || self.is_reply(holder) && !self.is_reply(root);
            if !self.is_dummy(holder) && better {
                table.insert(subject, root);
            }
        }
        // 5C. Subjects are looked up before anything moves, since a dummy's first child may be
        // another one afterwards.
        let speakers: Vec<u32> = roots.iter().map(|root| self.speaker(*root)).collect();
        let mut moved = vec![false; self.places.len()];
        let mut new_roots = Vec::new();
        for (&root, speaker) in roots.iter().zip(speakers) {
            turns.step().await;
            let subject = self.places[speaker as usize].subject;
            let Some(holder) = table.get(&subject).copied().filter(|h| *h != root) else {
                continue;
            };
            if moved[root as usize] {
                continue;
            }
            moved[root as usize] = true;
            if self.is_dummy(holder) && self.is_dummy(root) {
                let mut more = std::mem::take(&mut self.children[root as usize]);
                self.children[holder as usize].append(&mut more);
            } else if self.is_dummy(holder) || self.is_reply(root) && !self.is_reply(holder) {
                self.children[holder as usize].push(root);
            } else {
                moved[holder as usize] = true;
                let at = self.places.len() as u32;
                self.places.push(Place {
                    uid: 0,
                    parent: NONE,
                    joined: at,
                    ..self.places[holder as usize]
                });
                self.children.push(vec![holder, root]);
                moved.push(false);
                new_roots.push(at);
                table.insert(subject, at);
            }
        }
        let left = roots.into_iter().filter(|root| !moved[*root as usize]);
        self.roots = left.chain(new_roots).collect();
    }
}

/// Threads, one place after the other.
pub struct Threads {
    forest: Forest,
    stack: Vec<(u32, u32)>,
}

impl Iterator for Threads {
    type Item = ThreadNode;

    fn next(&mut self) -> Option<ThreadNode> {
        let (at, depth) = self.stack.pop()?;
        let children = &self.forest.children[at as usize];
        let below = children.iter().rev().map(|child| (*child, depth + 1));
        self.stack.extend(below);
        Some(ThreadNode {
            uid: self.forest.places[at as usize].uid,
            depth,
        })
    }
}

#[cfg(test)]
mod tests;
