//! A cluster for the IMAP door that has no state: three messages that nothing changes, whatever is
//! answered. So an input gives the same answers however it is cut, and the session has to do with
//! a store that contradicts what it has been told.

use std::sync::LazyLock;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use posthouse_client::ids::*;
use posthouse_client::proto::section::Kind as WireKind;
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::*;
use posthouse_client::{
    AppendedAll, Copied, Error, Expunged, FlagChange, FlagsChanged, Opened, Replaced, Stored,
};
use posthouse_gateway::imap::store::{
    Answer, Change, Event, Follow, Matches, Message, Query, Store, Wanted,
};
use posthouse_gateway::imap::view::{ranges, set_of};
use posthouse_node::mailbox::section::{Kind, Parts, Section as NodeSection, Spot};
use posthouse_node::mailbox::summary::{self, Summary, summarize};
use roaring::RoaringBitmap;

/// The one account; its password is "secret".
const ACCOUNT: &str = "ann@example.org";
const UIDS: [u32; 3] = [1, 3, 70_000];
const MODSEQ: u64 = 30;

/// The octets of all three messages.
const MAIL: &[u8] = b"Subject: =?utf-8?Q?=22=5C=0D=0A=00=C3=BC?= \"\r\nFrom: \"a\\\"b\" <a@x>, g: b@y;\r\n\
Message-ID: <1@x>\r\nDate: Sat, 20 Nov 2021 14:22:01 -0800\r\n\
Content-Type: multipart/mixed; boundary=a; x=\"\\\"\"\r\n\r\n\
--a\r\nContent-Type: text/plain; name*=utf-8''%22%0d%0a\r\nContent-ID: <i\"d>\r\n\r\none\r\n\
--a\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n\
--a\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=f\r\n\r\nAAEC\r\n\
--a\r\nContent-Transfer-Encoding: x-odd\r\n\r\n\0\r\n--a--\r\n";

static SUMMARY: LazyLock<Summary> = LazyLock::new(|| summarize(MAIL));

/// A store of one account.
pub struct Stateless;

/// Tells of one change, and then of none.
struct One(bool);

impl Follow for One {
    fn next(&mut self) -> BoxFuture<'_, Option<Change>> {
        if std::mem::replace(&mut self.0, true) {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(Some(Change {
            modseq: MODSEQ,
            mailboxes: vec![1],
            resync: false,
            gone: false,
        })))
    }
}

fn answer<'a, T: Send + 'a>(result: Result<T, Error>) -> Answer<'a, T> {
    Box::pin(async move { result })
}

/// Three mailboxes, two of them with names that need care.
const BOXES: [&str; 3] = ["INBOX", "Entw\u{fc}rfe \"x\"", "a/b{3}"];

fn mailbox(name: &str, id: u32) -> Mailbox {
    Mailbox {
        name: name.to_owned(),
        mailbox_id: id,
        uidvalidity: 7,
        uidnext: 70_001,
        highest_modseq: MODSEQ,
        messages: 3,
        unseen: 1,
        deleted: 1,
        bytes: 3 * MAIL.len() as u64,
        special_use: if id == 2 {
            vec!["\\Drafts".into()]
        } else {
            vec![]
        },
        subscribed: id != 2,
    }
}

/// Names that begin with x are of no mailbox.
fn find(mailbox_ref: &MailboxRef) -> Result<Mailbox, Error> {
    match mailbox_ref {
        MailboxRef::Name(name) if name.as_str().starts_with('x') => {
            Err(Error::not_found("mailbox", "there is none"))
        }
        MailboxRef::Name(name) => Ok(mailbox(name.as_str(), 1)),
        MailboxRef::Id { id, .. } => Ok(mailbox("INBOX", id.0)),
    }
}

fn all() -> RoaringBitmap {
    UIDS.into_iter().collect()
}

fn keywords() -> Vec<Keyword> {
    let name = |(id, name): (u32, &str)| Keyword {
        id,
        name: name.to_owned(),
    };
    [(0, "$Junk"), (5, "work")].map(name).to_vec()
}

fn address(address: &summary::Address) -> Address {
    use posthouse_client::proto::address::Kind;
    let (name, address, kind) = match address {
        summary::Address::Mailbox { name, address } => {
            (name.clone(), address.clone(), Kind::Mailbox)
        }
        summary::Address::GroupStart(name) => (name.clone(), String::new(), Kind::GroupStart),
        summary::Address::GroupEnd => (String::new(), String::new(), Kind::GroupEnd),
    };
    Address {
        name,
        address,
        kind: kind as i32,
    }
}

fn envelope(e: &summary::Envelope) -> Envelope {
    let list = |l: &[summary::Address]| l.iter().map(address).collect();
    Envelope {
        subject: e.subject.clone(),
        from: list(&e.from),
        sender: list(&e.sender),
        reply_to: list(&e.reply_to),
        to: list(&e.to),
        cc: list(&e.cc),
        bcc: list(&e.bcc),
        date: e.date.clone(),
        message_id: e.message_id.clone(),
        in_reply_to: e.in_reply_to.clone(),
        references: e.references.clone(),
        date_text: e.date_text.clone(),
    }
}

fn part(p: &summary::Part) -> Part {
    let params = |p: &[(String, String)]| {
        let one = |(name, value): &(String, String)| Param {
            name: name.clone(),
            value: value.clone(),
        };
        p.iter().map(one).collect()
    };
    Part {
        parent: p.parent,
        main_type: p.main_type.clone(),
        sub_type: p.sub_type.clone(),
        params: params(&p.params),
        disposition: p.disposition.clone(),
        disposition_params: params(&p.disposition_params),
        id: p.id.clone(),
        description: p.description.clone(),
        encoding: p.encoding.clone(),
        md5: p.md5.clone(),
        language: p.language.clone(),
        location: p.location.clone(),
        header: p.header,
        body: p.body,
        end: p.end,
        lines: p.lines,
        message: p.message.as_deref().map(envelope),
    }
}

fn fetched(uid: u32, wanted: &Wanted) -> Fetched {
    Fetched {
        uid,
        modseq: MODSEQ,
        flags: uid & 31,
        keywords: vec![0, 5, 9],
        internal_date_ms: 1_000_000_000_000,
        save_date_ms: 1_000_000_000_001,
        size: MAIL.len() as u64,
        email_id: 9,
        thread_id: u64::from(wanted.email) * 4,
        envelope: wanted.envelope.then(|| envelope(&SUMMARY.envelope)),
        structure: match wanted.structure {
            true => SUMMARY.parts.iter().map(part).collect(),
            false => vec![],
        },
        preview: if wanted.preview {
            "p\"\r\n".into()
        } else {
            String::new()
        },
        ..Fetched::default()
    }
}

/// A section as the node would give it.
fn section(index: u32, section: &Section) -> SectionData {
    let data = SectionData {
        index,
        last: true,
        ..SectionData::default()
    };
    let fields = section.fields.clone();
    let wanted = NodeSection {
        path: section.path.clone(),
        kind: match section.kind() {
            WireKind::All => Kind::All,
            WireKind::Header => Kind::Header,
            WireKind::HeaderFields => Kind::Fields(fields),
            WireKind::HeaderFieldsNot => Kind::FieldsNot(fields),
            WireKind::Text => Kind::Text,
            WireKind::Mime => Kind::Mime,
        },
        decode: section.decode,
        offset: section.offset,
        length: section.length,
        size_only: section.size_only,
    };
    wanted
        .check("section")
        .expect("the door asks for what the store takes");
    let parts = Parts {
        parts: &SUMMARY.parts,
        cut: false,
        size: MAIL.len() as u64,
    };
    let made = match parts.find(&wanted) {
        None => {
            return SectionData {
                outcome: Outcome::NoSuchPart as i32,
                ..data
            };
        }
        Some(Spot::UnknownEncoding) => {
            return SectionData {
                outcome: Outcome::UnknownEncoding as i32,
                ..data
            };
        }
        Some(spot) => crate::section::octets(MAIL, spot, usize::MAX),
    };
    let range = wanted.clip(made.len() as u64);
    let made = &made[range.start as usize..range.end as usize];
    SectionData {
        size: made.len() as u64,
        data: match wanted.size_only {
            true => Bytes::new(),
            false => Bytes::copy_from_slice(made),
        },
        ..data
    }
}

impl Store for Stateless {
    fn request_id(&self) -> RequestId {
        RequestId([0; 16])
    }

    fn now_ms(&self) -> u64 {
        2_000_000_000_000
    }

    fn authenticate<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        _: &'a str,
    ) -> Answer<'a, ()> {
        answer(match (account.as_str(), password) {
            (ACCOUNT, "secret") => Ok(()),
            _ => Err(Error::BadCredentials {
                retry_after: std::time::Duration::ZERO,
                message: "no".into(),
            }),
        })
    }

    fn mailboxes<'a>(&'a self, _: &'a AccountName) -> Answer<'a, ListMailboxesResponse> {
        answer(Ok(ListMailboxesResponse {
            mailboxes: (1..)
                .zip(BOXES)
                .map(|(id, name)| mailbox(name, id))
                .collect(),
            highest_modseq: MODSEQ,
            subscriptions: vec!["INBOX".into(), "gone/\u{fc}".into()],
        }))
    }

    fn create<'a>(
        &'a self,
        _: &'a AccountName,
        name: &'a MailboxName,
        _: Vec<String>,
    ) -> Answer<'a, Mailbox> {
        answer(Ok(mailbox(name.as_str(), 4)))
    }

    fn delete<'a>(&'a self, _: &'a AccountName, name: &'a MailboxName) -> Answer<'a, ()> {
        answer(find(&MailboxRef::Name(name.clone())).map(drop))
    }

    fn rename<'a>(
        &'a self,
        _: &'a AccountName,
        from: &'a MailboxName,
        _: &'a MailboxName,
    ) -> Answer<'a, ()> {
        answer(find(&MailboxRef::Name(from.clone())).map(drop))
    }

    fn subscribe<'a>(&'a self, _: &'a AccountName, _: &'a MailboxName, _: bool) -> Answer<'a, ()> {
        answer(Ok(()))
    }

    fn set_special_use<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        _: Vec<String>,
    ) -> Answer<'a, ()> {
        answer(find(&mailbox).map(drop))
    }

    fn metadata<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: Option<MailboxRef>,
    ) -> Answer<'a, Vec<Annotation>> {
        let found = mailbox.map(|m| find(&m)).transpose();
        let entry = |(entry, value): (&str, &'static [u8])| Annotation {
            entry: entry.to_owned(),
            value: Bytes::from_static(value),
            nil: false,
        };
        let all = [
            ("/private/comment", &b"a\"\r\n"[..]),
            ("/shared/x/y", b"\0{3}\r\nabc"),
        ];
        answer(found.map(|_| all.map(entry).to_vec()))
    }

    fn set_metadata<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: Option<MailboxRef>,
        _: Vec<Annotation>,
    ) -> Answer<'a, ()> {
        answer(mailbox.map(|m| find(&m)).transpose().map(drop))
    }

    fn usage<'a>(&'a self, _: &'a AccountName) -> Answer<'a, GetUsageResponse> {
        answer(Ok(GetUsageResponse::default()))
    }

    fn open<'a>(&'a self, _: &'a AccountName, mailbox: MailboxRef) -> Answer<'a, Opened> {
        answer(find(&mailbox).map(|mailbox| Opened {
            mailbox,
            uids: all(),
            keywords: keywords(),
            first_unseen: Some(3),
            trimmed_modseq: 5,
            account_modseq: MODSEQ,
        }))
    }

    fn append<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: MailboxRef,
        messages: &'a [Message],
        _: Option<Replaced>,
    ) -> Answer<'a, AppendedAll> {
        Box::pin(async move {
            find(&mailbox)?;
            for message in messages {
                let mut pieces = std::pin::pin!(message.body.pieces());
                while let Some(piece) = pieces.next().await {
                    piece.expect("what is appended is all there");
                }
            }
            Ok(AppendedAll {
                first: Stored {
                    uidvalidity: 7,
                    uid: u32::MAX - 3,
                    modseq: MODSEQ,
                    email_id: EmailId(9),
                    duplicate: false,
                },
                count: messages.len() as u32,
            })
        })
    }

    fn copy<'a>(
        &'a self,
        _: &'a AccountName,
        _: MailboxRef,
        uids: Vec<UidRange>,
        to: MailboxRef,
        _: bool,
    ) -> Answer<'a, Copied> {
        answer(find(&to).map(|_| Copied {
            modseq: MODSEQ,
            uidvalidity: 7,
            from: ranges(&(set_of(&uids) & all())),
            to: ranges(&(set_of(&uids) & all())),
        }))
    }

    fn set_flags<'a>(
        &'a self,
        _: &'a AccountName,
        _: MailboxRef,
        change: FlagChange,
    ) -> Answer<'a, FlagsChanged> {
        let asked = set_of(&change.uids) & all();
        let (changed, modified) = match change.unchanged_since {
            Some(since) if since < MODSEQ => (RoaringBitmap::new(), asked),
            _ => (asked, RoaringBitmap::new()),
        };
        answer(Ok(FlagsChanged {
            modseq: MODSEQ,
            changed: ranges(&changed),
            modified: ranges(&modified),
        }))
    }

    fn expunge<'a>(
        &'a self,
        _: &'a AccountName,
        _: MailboxRef,
        uids: Vec<UidRange>,
    ) -> Answer<'a, Expunged> {
        answer(Ok(Expunged {
            modseq: MODSEQ,
            vanished: ranges(&(set_of(&uids) & RoaringBitmap::from([3]))),
        }))
    }

    fn changes<'a>(
        &'a self,
        _: &'a AccountName,
        mailbox: Option<MailboxRef>,
        since: ModSeq,
    ) -> Answer<'a, GetChangesResponse> {
        let id = match mailbox {
            Some(MailboxRef::Id { id, .. }) => id.0,
            Some(MailboxRef::Name(_)) | None => 1,
        };
        answer(match since {
            0..5 => Err(Error::TooOld {
                message: String::new(),
            }),
            _ => Ok(GetChangesResponse {
                mailboxes: vec![MailboxChanges {
                    mailbox_id: id,
                    created: ranges(&RoaringBitmap::from([70_000])),
                    updated: ranges(&RoaringBitmap::from([1, 2])),
                    vanished: ranges(&RoaringBitmap::from([2, 3])),
                    ..MailboxChanges::default()
                }],
                up_to: since.max(MODSEQ),
                more: false,
                account_changed: false,
            }),
        })
    }

    fn fetch(
        &self,
        _: &AccountName,
        _: MailboxRef,
        wanted: Wanted,
    ) -> BoxStream<'static, Result<Event, Error>> {
        let mut asked = all();
        if !wanted.uids.is_empty() {
            asked &= set_of(&wanted.uids);
        }
        let mut events = vec![Ok(Event::Keywords(keywords()))];
        for uid in asked.iter().filter(|_| wanted.changed_since < MODSEQ) {
            events.push(Ok(Event::Message(Box::new(fetched(uid, &wanted)))));
            for (index, wanted) in (0..).zip(&wanted.sections) {
                let mut whole = section(index, wanted);
                if whole.data.len() > 1 {
                    // In two pieces.
                    let first = SectionData {
                        data: whole.data.split_to(1),
                        last: false,
                        ..whole.clone()
                    };
                    events.push(Ok(Event::Section(first)));
                    whole.size -= 1;
                }
                events.push(Ok(Event::Section(whole)));
            }
        }
        stream::iter(events).boxed()
    }

    fn search<'a>(
        &'a self,
        _: &'a AccountName,
        _: MailboxRef,
        query: Query,
    ) -> Answer<'a, Matches> {
        // Negative searches find nothing, so that empty results occur.
        let nothing = matches!(
            query.key.and_then(|k| k.key),
            Some(search_key::Key::Not(_) | search_key::Key::AnyOf(_))
        );
        let uids = if nothing { RoaringBitmap::new() } else { all() };
        let node = |(depth, uid): (u32, u32)| ThreadNode { uid, depth };
        answer(Ok(Matches {
            sorted: uids.iter().collect(),
            threads: (0..).zip(&uids).map(node).collect(),
            modseq: MODSEQ,
            uids,
        }))
    }

    fn follow(&self, _: &AccountName, _: ModSeq) -> Box<dyn Follow> {
        Box::new(One(false))
    }
}
