//! A store in memory, with the semantics that the door relies on: uids ascend, every change has
//! the next modseq, and what has changed since one can be asked.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use posthouse_client::ids::*;
use posthouse_client::proto::section::Kind;
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::*;
use posthouse_client::{
    AppendedAll, Copied, Error, Expunged, FlagChange, FlagsChanged, Opened, Replaced, Stored,
};
use roaring::RoaringBitmap;
use tokio::sync::watch;

use crate::imap::store::{Answer, Change, Event, Follow, Matches, Message, Query, Store, Wanted};
use crate::imap::view::{ranges, set_of};
use crate::spool::locked;

mod state;

pub use self::state::ANNOTATIONS;
use self::state::{Msg, State, USES, What, gone};

/// A store of one account: ann@example.org, "secret".
#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
    moved: Arc<watch::Sender<u64>>,
}

fn answer<'a, T: Send + 'a>(result: Result<T, Error>) -> Answer<'a, T> {
    Box::pin(async move { result })
}

impl Fake {
    /// INBOX alone, empty.
    pub fn new() -> Fake {
        let mut state = State::default();
        state.create("INBOX");
        Fake {
            state: Arc::new(Mutex::new(state)),
            moved: Arc::new(watch::channel(0).0),
        }
    }

    fn change<T>(&self, f: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = locked(&self.state);
        let result = f(&mut state);
        self.moved.send_replace(state.modseq);
        result
    }

    /// A message comes from elsewhere.
    pub fn deliver(&self, octets: &str) -> u32 {
        let put = |s: &mut State| {
            s.modseq += 1;
            Ok(s.put(
                1,
                Bytes::copy_from_slice(octets.as_bytes()),
                &[],
                1_000_000,
                7,
            ))
        };
        self.change(put).unwrap()
    }

    /// Somebody else changes flags in INBOX.
    pub fn flag(&self, uid: u32, flag: &str) {
        let change = FlagChange {
            uids: vec![UidRange {
                first: uid,
                last: uid,
            }],
            mode: FlagMode::Add,
            flags: vec![flag.to_owned()],
            unchanged_since: None,
        };
        self.flags(&MailboxRef::Name(MailboxName::inbox()), change)
            .unwrap();
    }

    /// Somebody else removes a message from INBOX.
    pub fn remove(&self, uid: u32) {
        let remove = |s: &mut State| {
            s.modseq += 1;
            s.boxes.get_mut(&1).unwrap().messages.remove(&uid);
            s.log(1, What::Vanished, uid);
            Ok(())
        };
        self.change(remove).unwrap();
    }

    /// An annotation of a mailbox by its number, or of the account, is there.
    pub fn annotate(&self, entry: (Option<u32>, String), value: &'static str) {
        let value = Bytes::from_static(value.as_bytes());
        locked(&self.state).annotations.insert(entry, value);
    }

    fn flags(&self, mailbox: &MailboxRef, change: FlagChange) -> Result<FlagsChanged, Error> {
        self.change(|s| {
            let id = s.find(mailbox)?;
            let (bits, keywords) = s.flags(&change.flags);
            let asked = set_of(&change.uids);
            let (mut changed, mut modified) = (RoaringBitmap::new(), RoaringBitmap::new());
            for (&uid, m) in s.boxes.get_mut(&id).unwrap().messages.iter_mut() {
                if !asked.contains(uid) {
                    continue;
                }
                if change.unchanged_since.is_some_and(|n| m.modseq > n) {
                    modified.insert(uid);
                    continue;
                }
                let before = (m.flags, m.keywords.clone());
                match change.mode {
                    FlagMode::Add => {
                        m.flags |= bits;
                        m.keywords.extend(&keywords);
                    }
                    FlagMode::Remove => {
                        m.flags &= !bits;
                        m.keywords.retain(|k| !keywords.contains(k));
                    }
                    FlagMode::Replace => (m.flags, m.keywords) = (bits, keywords.clone()),
                }
                if (m.flags, &m.keywords) != (before.0, &before.1) {
                    changed.insert(uid);
                }
            }
            s.modseq += u64::from(!changed.is_empty());
            for uid in &changed {
                s.log(id, What::Updated, uid);
            }
            Ok(FlagsChanged {
                modseq: s.modseq,
                changed: ranges(&changed),
                modified: ranges(&modified),
            })
        })
    }

    fn section(octets: &Bytes, section: &Section) -> Option<Bytes> {
        let end = octets
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .map_or(octets.len(), |n| n + 4);
        let all = match (section.kind(), section.path.as_slice()) {
            (Kind::All, []) => octets.clone(),
            (Kind::Header, []) => octets.slice(..end),
            (Kind::Text, []) | (Kind::All, [1]) => octets.slice(end..),
            (Kind::HeaderFields, []) => Bytes::from_static(b"Subject: x\r\n\r\n"),
            _ => return None,
        };
        let from = (section.offset as usize).min(all.len());
        let to = match section.length {
            0 => all.len(),
            n => all.len().min(from + n as usize),
        };
        Some(all.slice(from..to))
    }
}

struct Following(watch::Receiver<u64>);

impl Follow for Following {
    fn next(&mut self) -> BoxFuture<'_, Option<Change>> {
        Box::pin(async move {
            self.0.changed().await.ok()?;
            let modseq = *self.0.borrow_and_update();
            Some(Change {
                modseq,
                mailboxes: vec![],
                resync: true,
                gone: false,
            })
        })
    }
}

impl Store for Fake {
    fn request_id(&self) -> RequestId {
        RequestId([0; 16])
    }

    fn now_ms(&self) -> u64 {
        2_000_000
    }

    fn authenticate<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        _: &'a str,
    ) -> Answer<'a, ()> {
        answer(match (account.as_str(), password) {
            ("ann@example.org", "secret") => Ok(()),
            _ => Err(Error::BadCredentials {
                retry_after: std::time::Duration::ZERO,
                message: "no".into(),
            }),
        })
    }

    fn mailboxes<'a>(&'a self, _: &'a AccountName) -> Answer<'a, ListMailboxesResponse> {
        let s = locked(&self.state);
        answer(Ok(ListMailboxesResponse {
            mailboxes: s.boxes.keys().map(|&id| s.wire(id)).collect(),
            highest_modseq: s.modseq,
            subscriptions: s.subscriptions.iter().cloned().collect(),
        }))
    }

    fn create<'a>(
        &'a self,
        _: &'a AccountName,
        name: &'a MailboxName,
        uses: Vec<String>,
    ) -> Answer<'a, Mailbox> {
        answer(self.change(|s| {
            if s.find(&MailboxRef::Name(name.clone())).is_ok() {
                return Err(Error::AlreadyExists {
                    what: "mailbox".into(),
                    message: String::new(),
                });
            }
            let id = s.create(name.as_str());
            s.boxes.get_mut(&id).unwrap().special = uses;
            Ok(s.wire(id))
        }))
    }

    fn delete<'a>(&'a self, _: &'a AccountName, name: &'a MailboxName) -> Answer<'a, ()> {
        answer(self.change(|s| {
            let id = s.find(&MailboxRef::Name(name.clone()))?;
            s.boxes.remove(&id);
            s.touch(Some(id));
            Ok(())
        }))
    }

    fn rename<'a>(
        &'a self,
        _: &'a AccountName,
        from: &'a MailboxName,
        to: &'a MailboxName,
    ) -> Answer<'a, ()> {
        answer(self.change(|s| {
            s.find(&MailboxRef::Name(from.clone()))?;
            s.touch(None);
            let ids: Vec<u32> = s.boxes.keys().copied().collect();
            for id in ids {
                let name = &s.boxes[&id].name;
                let rest = name.strip_prefix(from.as_str()).map(str::to_owned);
                let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
                if let Some(rest) = rest {
                    s.boxes.get_mut(&id).unwrap().name = format!("{to}{rest}");
                    s.touch(Some(id));
                }
            }
            Ok(())
        }))
    }

    fn subscribe<'a>(
        &'a self,
        _: &'a AccountName,
        name: &'a MailboxName,
        on: bool,
    ) -> Answer<'a, ()> {
        answer(self.change(|s| {
            let id = s.find(&MailboxRef::Name(name.clone())).ok();
            s.touch(id);
            let name = name.as_str().to_owned();
            let _ = if on {
                s.subscriptions.insert(name)
            } else {
                s.subscriptions.remove(&name)
            };
            Ok(())
        }))
    }

    fn set_special_use<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        uses: Vec<String>,
    ) -> Answer<'a, ()> {
        answer(self.change(|s| {
            if uses.iter().any(|u| !USES.contains(&u.as_str())) {
                return Err(Error::bad_request("special_use[0]", "not a special use"));
            }
            let id = s.find(&mailbox)?;
            s.boxes.get_mut(&id).unwrap().special = uses;
            s.touch(Some(id));
            Ok(())
        }))
    }

    fn metadata<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: Option<MailboxRef>,
    ) -> Answer<'a, Vec<Annotation>> {
        let s = locked(&self.state);
        let id = mailbox.map(|m| s.find(&m)).transpose();
        answer(id.map(|id| {
            let mine = s.annotations.iter().filter(|((of, _), _)| *of == id);
            mine.map(|((_, entry), value)| Annotation {
                entry: entry.clone(),
                value: value.clone(),
                nil: false,
            })
            .collect()
        }))
    }

    fn set_metadata<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: Option<MailboxRef>,
        annotations: Vec<Annotation>,
    ) -> Answer<'a, ()> {
        answer(self.change(|s| {
            let id = mailbox.map(|m| s.find(&m)).transpose()?;
            let more = annotations.iter().filter(|a| !a.nil).count();
            if s.annotations.len() + more > ANNOTATIONS {
                let message = format!("limit reached: {ANNOTATIONS} annotations");
                return Err(Error::Refused { message });
            }
            s.touch(id);
            for a in annotations {
                match a.nil {
                    true => s.annotations.remove(&(id, a.entry)),
                    false => s.annotations.insert((id, a.entry), a.value),
                };
            }
            Ok(())
        }))
    }

    fn usage<'a>(&'a self, _: &'a AccountName) -> Answer<'a, GetUsageResponse> {
        let s = locked(&self.state);
        let all: Vec<Mailbox> = s.boxes.keys().map(|&id| s.wire(id)).collect();
        answer(Ok(GetUsageResponse {
            messages: all.iter().map(|m| m.messages).sum(),
            bytes: all.iter().map(|m| m.bytes).sum(),
            ..GetUsageResponse::default()
        }))
    }

    fn open<'a>(&'a self, _: &'a AccountName, mailbox: MailboxRef) -> Answer<'a, Opened> {
        let s = locked(&self.state);
        answer(s.find(&mailbox).map(|id| {
            let b = &s.boxes[&id];
            Opened {
                mailbox: s.wire(id),
                uids: b.messages.keys().copied().collect(),
                keywords: s.names(),
                first_unseen: b
                    .messages
                    .iter()
                    .find(|(_, m)| m.flags & 1 == 0)
                    .map(|(uid, _)| *uid),
                trimmed_modseq: s.trimmed,
                account_modseq: s.modseq,
            }
        }))
    }

    fn append<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        messages: &'a [Message],
        replace: Option<Replaced>,
    ) -> Answer<'a, AppendedAll> {
        Box::pin(async move {
            let mut bodies = Vec::new();
            for message in messages {
                let mut octets = Vec::new();
                let mut pieces = std::pin::pin!(message.body.pieces());
                while let Some(piece) = pieces.next().await {
                    octets.extend_from_slice(&piece.unwrap());
                }
                bodies.push(Bytes::from(octets));
            }
            self.change(|s| {
                let id = s.find(&mailbox)?;
                let there = |r: Replaced| {
                    r.uidvalidity == 100 + r.mailbox.0
                        && s.boxes[&r.mailbox.0].messages.contains_key(&r.uid)
                };
                if replace.is_some_and(|replaced| !there(replaced)) {
                    return Err(gone("message"));
                }
                s.modseq += 1;
                let mut first = 0;
                for (message, octets) in messages.iter().zip(bodies) {
                    let date = if message.internal_date_ms == 0 {
                        5
                    } else {
                        message.internal_date_ms
                    };
                    let uid = s.put(id, octets, &message.flags, date, 9);
                    first = if first == 0 { uid } else { first };
                }
                if let Some(Replaced { mailbox, uid, .. }) = replace {
                    s.boxes.get_mut(&mailbox.0).unwrap().messages.remove(&uid);
                    s.log(mailbox.0, What::Vanished, uid);
                }
                Ok(AppendedAll {
                    first: Stored {
                        uidvalidity: 100 + id,
                        uid: first,
                        modseq: s.modseq,
                        email_id: EmailId(9),
                        duplicate: false,
                    },
                    count: messages.len() as u32,
                })
            })
        })
    }

    fn copy<'a>(
        &'a self,
        _: &'a AccountName,
        from: MailboxRef,
        uids: Vec<UidRange>,
        to: MailboxRef,
        moved: bool,
    ) -> Answer<'a, Copied> {
        answer(self.change(|s| {
            let (from, to) = (s.find(&from)?, s.find(&to)?);
            let asked = set_of(&uids);
            let there: Vec<u32> = s.boxes[&from]
                .messages
                .keys()
                .copied()
                .filter(|u| asked.contains(*u))
                .collect();
            s.modseq += 1;
            let mut new = RoaringBitmap::new();
            for uid in &there {
                let m = &s.boxes[&from].messages[uid];
                let (octets, date, email) = (m.octets.clone(), m.date_ms, m.email);
                let (flags, keywords) = (m.flags, m.keywords.clone());
                let at = s.put(to, octets, &[], date, email);
                let copy = s.boxes.get_mut(&to).unwrap().messages.get_mut(&at).unwrap();
                (copy.flags, copy.keywords) = (flags, keywords);
                new.insert(at);
                if moved {
                    s.boxes.get_mut(&from).unwrap().messages.remove(uid);
                    s.log(from, What::Vanished, *uid);
                }
            }
            let old: RoaringBitmap = there.into_iter().collect();
            Ok(Copied {
                modseq: s.modseq,
                uidvalidity: 100 + to,
                from: ranges(&old),
                to: ranges(&new),
            })
        }))
    }

    fn set_flags<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        change: FlagChange,
    ) -> Answer<'a, FlagsChanged> {
        answer(self.flags(&mailbox, change))
    }

    fn expunge<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        uids: Vec<UidRange>,
    ) -> Answer<'a, Expunged> {
        answer(self.change(|s| {
            let id = s.find(&mailbox)?;
            let asked = set_of(&uids);
            let dead =
                |(uid, m): (&u32, &Msg)| (asked.contains(*uid) && m.flags & 8 != 0).then_some(*uid);
            let gone: RoaringBitmap = s.boxes[&id].messages.iter().filter_map(dead).collect();
            s.modseq += u64::from(!gone.is_empty());
            for uid in &gone {
                s.boxes.get_mut(&id).unwrap().messages.remove(&uid);
                s.log(id, What::Vanished, uid);
            }
            Ok(Expunged {
                modseq: s.modseq,
                vanished: ranges(&gone),
            })
        }))
    }

    fn changes<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: Option<MailboxRef>,
        since: ModSeq,
    ) -> Answer<'a, GetChangesResponse> {
        let mut s = locked(&self.state);
        if s.silent > 0 {
            s.silent -= 1;
            let message = "silent".to_owned();
            return Box::pin(async move { Err(Error::Deadline { message }) });
        }
        let fold = |id: u32| {
            // Pages are short, so that more than one is needed.
            let mine = |(m, i, ..): &&(u64, u32, What, u32)| *m > since && *i == id;
            let fourth = s.log.iter().filter(mine).nth(3);
            let end = fourth.map_or(s.modseq, |(m, ..)| *m);
            GetChangesResponse {
                mailboxes: vec![s.fold(id, since, end)],
                up_to: end,
                more: end < s.modseq,
                account_changed: false,
            }
        };
        let all = || {
            let end = s.modseq.min(since + 3);
            let folded = (1..=s.next_box).map(|id| s.fold(id, since, end));
            GetChangesResponse {
                mailboxes: folded
                    .filter(|m| {
                        let nothing = MailboxChanges {
                            mailbox_id: m.mailbox_id,
                            ..MailboxChanges::default()
                        };
                        *m != nothing
                    })
                    .collect(),
                up_to: end,
                more: end < s.modseq,
                account_changed: s
                    .touched
                    .iter()
                    .any(|(m, id)| *m > since && *m <= end && id.is_none()),
            }
        };
        answer(match since < s.trimmed {
            true => Err(Error::TooOld {
                message: String::new(),
            }),
            false => match &mailbox {
                Some(mailbox) => s.find(mailbox).map(fold),
                None => Ok(all()),
            },
        })
    }

    fn fetch(
        &self,
        _: &AccountName,
        mailbox: MailboxRef,
        wanted: Wanted,
    ) -> BoxStream<'static, Result<Event, Error>> {
        let mut s = locked(&self.state);
        s.fetches += 1;
        let id = match s.find(&mailbox) {
            Ok(id) => id,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let asked = set_of(&wanted.uids);
        let mut events = vec![Ok(Event::Keywords(s.names()))];
        if s.damaged.is_some_and(|uid| asked.contains(uid)) {
            let message = "damaged".into();
            events.push(Err(Error::Corrupt { message }));
            return stream::iter(events).boxed();
        }
        for (&uid, m) in &s.boxes[&id].messages {
            let behind = wanted.unconfirmed && s.unconfirmed.contains(&uid);
            if !asked.contains(uid) || m.modseq <= wanted.changed_since || behind {
                continue;
            }
            events.push(Ok(Event::Message(Box::new(Fetched {
                uid,
                modseq: m.modseq,
                flags: m.flags,
                keywords: m.keywords.iter().copied().collect(),
                internal_date_ms: m.date_ms,
                save_date_ms: 3_000,
                size: m.octets.len() as u64,
                email_id: m.email,
                thread_id: if wanted.email { 4 } else { 0 },
                envelope: wanted.envelope.then(|| Envelope {
                    subject: "hé".into(),
                    ..Envelope::default()
                }),
                structure: Vec::new(),
                preview: if wanted.preview {
                    "p".into()
                } else {
                    String::new()
                },
                ..Fetched::default()
            }))));
            for (index, section) in wanted.sections.iter().enumerate() {
                let index = index as u32;
                let piece = |data: Bytes, size: usize, last| {
                    let size = size as u64;
                    Ok(Event::Section(SectionData {
                        index,
                        data,
                        size,
                        last,
                        outcome: Outcome::Data as i32,
                    }))
                };
                match Fake::section(&m.octets, section) {
                    None => events.push(Ok(Event::Section(SectionData {
                        index,
                        outcome: Outcome::NoSuchPart as i32,
                        last: true,
                        ..SectionData::default()
                    }))),
                    Some(data) if section.size_only => {
                        events.push(piece(Bytes::new(), data.len(), true))
                    }
                    Some(data) => {
                        // In two pieces.
                        let half = data.len() / 2;
                        events.push(piece(data.slice(..half), data.len(), false));
                        events.push(piece(data.slice(half..), data.len() - half, true));
                    }
                }
            }
        }
        stream::iter(events).boxed()
    }

    fn search<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        query: Query,
    ) -> Answer<'a, Matches> {
        let s = locked(&self.state);
        answer(s.find(&mailbox).map(|id| {
            let all = s.boxes[&id].messages.keys().copied();
            let hit = |uid: &u32| query.key.as_ref().is_none_or(|k| s.matches(k, id, *uid));
            let uids: RoaringBitmap = all.filter(hit).collect();
            let modseq = uids
                .iter()
                .map(|u| s.boxes[&id].messages[&u].modseq)
                .max()
                .unwrap_or(0);
            let mut sorted: Vec<u32> = uids.iter().collect();
            sorted.reverse();
            let threads = uids
                .iter()
                .map(|uid| ThreadNode {
                    uid,
                    depth: uid.min(2) - 1,
                })
                .collect();
            Matches {
                uids,
                sorted,
                threads,
                modseq,
            }
        }))
    }

    fn follow(&self, _: &AccountName, _: ModSeq) -> Box<dyn Follow> {
        let mut seen = self.moved.subscribe();
        seen.mark_changed();
        Box::new(Following(seen))
    }
}
