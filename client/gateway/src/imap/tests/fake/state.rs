//! What the store in memory holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use posthouse_client::Error;
use posthouse_client::ids::*;
use posthouse_client::proto::search_key::Key;
use posthouse_client::proto::*;
use roaring::RoaringBitmap;

use crate::imap::view::{ranges, set_of};

pub struct Msg {
    pub flags: u32,
    pub keywords: BTreeSet<u32>,
    pub modseq: u64,
    pub octets: Bytes,
    pub date_ms: u64,
    pub email: u64,
}

pub struct Box_ {
    pub name: String,
    pub uidnext: u32,
    pub modseq: u64,
    pub messages: BTreeMap<u32, Msg>,
    pub special: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum What {
    Created,
    Updated,
    Vanished,
}

#[derive(Default)]
pub struct State {
    pub modseq: u64,
    pub next_box: u32,
    pub boxes: BTreeMap<u32, Box_>,
    pub keywords: Vec<String>,
    pub subscriptions: BTreeSet<String>,
    pub annotations: BTreeMap<(Option<u32>, String), Bytes>,
    pub log: Vec<(u64, u32, What, u32)>,
    /// Changes of mailboxes themselves, and of the account.
    pub touched: Vec<(u64, Option<u32>)>,
    /// Changes up to this one are forgotten.
    pub trimmed: u64,
    /// So many questions for changes get no answer.
    pub silent: u32,
    /// Messages that only a confirmed view shows.
    pub unconfirmed: BTreeSet<u32>,
    /// A message that no call can be answered with.
    pub damaged: Option<u32>,
    /// Calls for messages.
    pub fetches: u32,
}

pub const USES: [&str; 3] = ["\\Sent", "\\Junk", "\\Drafts"];
/// As many annotations as there can be.
pub const ANNOTATIONS: usize = 5;
const SYSTEM: [&str; 5] = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"];

pub fn gone(what: &str) -> Error {
    Error::not_found(what, "it is not there")
}

impl State {
    pub fn find(&self, mailbox: &MailboxRef) -> Result<u32, Error> {
        let found = match mailbox {
            MailboxRef::Name(name) => self
                .boxes
                .iter()
                .find(|(_, b)| b.name == name.as_str())
                .map(|(id, _)| *id),
            MailboxRef::Id { id, .. } => self.boxes.contains_key(&id.0).then_some(id.0),
        };
        found.ok_or_else(|| gone("mailbox"))
    }

    pub fn create(&mut self, name: &str) -> u32 {
        self.next_box += 1;
        self.modseq += 1;
        let new = Box_ {
            name: name.to_owned(),
            uidnext: 1,
            modseq: self.modseq,
            messages: BTreeMap::new(),
            special: Vec::new(),
        };
        self.boxes.insert(self.next_box, new);
        self.touched.push((self.modseq, Some(self.next_box)));
        self.next_box
    }

    /// A mailbox itself changes, or the account.
    pub fn touch(&mut self, id: Option<u32>) {
        self.modseq += 1;
        self.touched.push((self.modseq, id));
    }

    /// What has changed in a mailbox after `since`, up to `end`.
    pub fn fold(&self, id: u32, since: u64, end: u64) -> MailboxChanges {
        let (mut created, mut updated, mut vanished) = (
            RoaringBitmap::new(),
            RoaringBitmap::new(),
            RoaringBitmap::new(),
        );
        let mine = |(m, i, ..): &&(u64, u32, What, u32)| *m > since && *m <= end && *i == id;
        for (_, _, what, uid) in self.log.iter().filter(mine) {
            match what {
                What::Created => {
                    created.insert(*uid);
                }
                What::Updated if !created.contains(*uid) => {
                    updated.insert(*uid);
                }
                What::Updated => {}
                What::Vanished => {
                    created.remove(*uid);
                    updated.remove(*uid);
                    vanished.insert(*uid);
                }
            }
        }
        let touched = |(m, i): &(u64, Option<u32>)| *m > since && *m <= end && *i == Some(id);
        let changed = self.touched.iter().any(touched);
        let there = self.boxes.contains_key(&id);
        MailboxChanges {
            mailbox_id: id,
            changed: changed && there,
            destroyed: changed && !there,
            created: ranges(&created),
            updated: ranges(&updated),
            vanished: ranges(&vanished),
            ..MailboxChanges::default()
        }
    }

    pub fn log(&mut self, id: u32, what: What, uid: u32) {
        let modseq = self.modseq;
        self.log.push((modseq, id, what, uid));
        if let Some(b) = self.boxes.get_mut(&id) {
            b.modseq = modseq;
            if let Some(m) = b.messages.get_mut(&uid) {
                m.modseq = modseq;
            }
        }
    }

    pub fn flags(&mut self, names: &[String]) -> (u32, BTreeSet<u32>) {
        let (mut bits, mut keywords) = (0, BTreeSet::new());
        for name in names {
            match SYSTEM.iter().position(|s| s.eq_ignore_ascii_case(name)) {
                Some(i) => bits |= 1 << i,
                None => {
                    let known = self
                        .keywords
                        .iter()
                        .position(|k| k.eq_ignore_ascii_case(name));
                    let id = known.unwrap_or_else(|| {
                        self.keywords.push(name.clone());
                        self.keywords.len() - 1
                    });
                    keywords.insert(id as u32);
                }
            }
        }
        (bits, keywords)
    }

    /// Without a new modseq: the caller has taken one.
    pub fn put(
        &mut self,
        id: u32,
        octets: Bytes,
        flags: &[String],
        date_ms: u64,
        email: u64,
    ) -> u32 {
        let (bits, keywords) = self.flags(flags);
        let b = self.boxes.get_mut(&id).unwrap();
        let uid = b.uidnext;
        b.uidnext += 1;
        let message = Msg {
            flags: bits,
            keywords,
            modseq: 0,
            octets,
            date_ms,
            email,
        };
        b.messages.insert(uid, message);
        self.log(id, What::Created, uid);
        uid
    }

    pub fn wire(&self, id: u32) -> Mailbox {
        let b = &self.boxes[&id];
        let count = |f: &dyn Fn(&Msg) -> bool| b.messages.values().filter(|m| f(m)).count() as u64;
        Mailbox {
            name: b.name.clone(),
            mailbox_id: id,
            uidvalidity: 100 + id,
            uidnext: b.uidnext,
            highest_modseq: b.modseq,
            messages: b.messages.len() as u64,
            unseen: count(&|m| m.flags & 1 == 0),
            deleted: count(&|m| m.flags & 8 != 0),
            bytes: b.messages.values().map(|m| m.octets.len() as u64).sum(),
            special_use: b.special.clone(),
            subscribed: self.subscriptions.contains(&b.name),
        }
    }

    pub fn names(&self) -> Vec<Keyword> {
        let keyword = |(i, name): (usize, &String)| Keyword {
            id: i as u32,
            name: name.clone(),
        };
        self.keywords.iter().enumerate().map(keyword).collect()
    }

    pub fn matches(&self, key: &SearchKey, id: u32, uid: u32) -> bool {
        let m = &self.boxes[&id].messages[&uid];
        let within = |r: &search_key::Range, n: u64| n >= r.from && (r.to == 0 || n < r.to);
        let contains = |text: &str| {
            let octets = String::from_utf8_lossy(&m.octets).to_lowercase();
            octets.contains(&text.to_lowercase())
        };
        match key.key.as_ref().unwrap() {
            Key::AllOf(keys) => keys.keys.iter().all(|k| self.matches(k, id, uid)),
            Key::AnyOf(keys) => keys.keys.iter().any(|k| self.matches(k, id, uid)),
            Key::Not(key) => !self.matches(key, id, uid),
            Key::Uids(uids) => set_of(&uids.uids).contains(uid),
            Key::Flag(flag) => {
                let on = match SYSTEM
                    .iter()
                    .position(|s| s.eq_ignore_ascii_case(&flag.name))
                {
                    Some(i) => m.flags & (1 << i) != 0,
                    None => m
                        .keywords
                        .iter()
                        .any(|k| self.keywords[*k as usize] == flag.name),
                };
                on != flag.off
            }
            Key::Modseq(range) => within(range, m.modseq),
            Key::Size(range) => within(range, m.octets.len() as u64),
            Key::InternalDateMs(range) => within(range, m.date_ms),
            Key::Subject(text) | Key::Body(text) | Key::Text(text) => contains(text),
            other => panic!("{other:?}"),
        }
    }
}
