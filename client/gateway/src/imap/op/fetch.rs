//! FETCH (RFC 9051, section 6.4.5; RFC 3516, 7162, 8474, 8514, 8970, 9394).
//!
//! Messages stream: a row at a time from the store, its octets piece by piece, to the client. An
//! answer that breaks off inside a literal ends the connection, since nothing can be told behind
//! it that the client would not take for the message.

use bytes::BytesMut;
use futures::StreamExt;
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::{Envelope, Fetched, FlagMode, SectionData};
use posthouse_client::{Columns, FlagChange};
use roaring::RoaringBitmap;

use super::search::{changed, part_of};
use super::select::vanished_since;
use crate::imap::parse::Set;
use crate::imap::parse::date::write_date_time;
use crate::imap::parse::fetch::{FetchItems, Form, Item, SectionItem};
use crate::imap::respond::envelope::envelope;
use crate::imap::respond::structure::structure;
use crate::imap::respond::text::{SEEN, flags, number, put, set, string};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::{Enabled, Session};
use crate::imap::store::{Event, Wanted};
use crate::imap::updates::learn;
use crate::imap::view::{Neighbour, View};
use crate::imap::wire::Gone;

/// FETCH.
pub(super) async fn fetch(
    s: &mut Session,
    uid: bool,
    set_of: &Set,
    mut command: FetchItems,
) -> Result<Done, Stop> {
    let view = &s.selected()?.view;
    let mut uids = view.resolve(uid, set_of)?;
    let asked = view.uids_below_next(set_of);
    if command.vanished && !(uid && s.enabled.qresync) {
        return Err(Done::bad("VANISHED needs UID FETCH and QRESYNC").into());
    }
    if command.partial.is_some() && !uid {
        return Err(Done::bad("PARTIAL needs UID FETCH").into());
    }
    if uid && !command.items.contains(&Item::Uid) {
        command.items.insert(0, Item::Uid);
    }
    if command.changed_since.is_some() && !command.items.contains(&Item::ModSeq) {
        command.items.push(Item::ModSeq);
    }
    if command.items.contains(&Item::ModSeq) {
        s.use_condstore();
    }
    if let (true, Some(since)) = (command.vanished, command.changed_since) {
        let vanished = vanished_since(s, since, asked, 0).await?;
        if !vanished.is_empty() {
            let out = s.wire.out();
            put(out, "* VANISHED (EARLIER) ");
            set(out, &vanished);
            put(out, "\r\n");
        }
    }
    if let Some(range) = command.partial {
        // RFC 9394, section 3.3: a part of those that have changed. What has vanished is no part
        // of them, and was told of the whole set.
        if let Some(since) = command.changed_since {
            uids = changed(s, uids, since).await?;
        }
        uids = part_of(&uids, range);
    }
    if uids.is_empty() {
        return Ok(Done::ok("no such messages"));
    }
    let mut told_flags = RoaringBitmap::new();
    let sets_seen = |item: &Item| matches!(item, Item::Section(section) if section.sets_seen);
    if command.items.iter().any(sets_seen) && !s.selected()?.view.read_only {
        told_flags = see(s, &uids, command.changed_since.unwrap_or(0)).await?;
    }
    let mut plan = Plan::new(command.items, command.changed_since.unwrap_or(0));
    plan.wanted.unconfirmed &= told_flags.is_empty();
    let outcome = tell_all(s, &uids, &mut plan, &told_flags).await?;
    if outcome.unknown_encoding {
        let text = "a part is encoded in a way that is not known";
        return Err(Done::no("UNKNOWN-CTE", text).into());
    }
    // Of messages that are gone, and that the client knows by number, it is told that they are. As
    // Dovecot, with OK: RFC 2180, section 4.1.3, has NO, and a client that loads a mailbox so (as
    // mutt does) takes that for a mailbox that cannot be opened.
    if !uid && plan.wanted.changed_since == 0 && outcome.messages.len() < uids.len() {
        s.refresh().await?;
        return Ok(Done::ok("some of the messages are gone").code("EXPUNGEISSUED"));
    }
    Ok(Done::ok("that is all"))
}

/// Sets `\Seen` on those of the messages that lack it, before they are read; their flags are told
/// with them.
async fn see(s: &mut Session, uids: &RoaringBitmap, since: u64) -> Result<RoaringBitmap, Stop> {
    let account = s.account()?;
    let view = &s.selected()?.view;
    let (mailbox, before) = (view.mailbox(), view.modseq);
    let wanted = Wanted {
        uids: view.spans(uids),
        changed_since: since,
        ..Wanted::default()
    };
    let mut unseen = RoaringBitmap::new();
    let mut rows = s.door.store.fetch(&account, mailbox.clone(), wanted);
    while let Some(event) = rows.next().await {
        match event? {
            Event::Message(row) if row.flags & SEEN == 0 => {
                unseen.insert(row.uid);
            }
            _ => {}
        }
    }
    drop(rows);
    if unseen.is_empty() {
        return Ok(unseen);
    }
    let change = FlagChange {
        uids: s.selected()?.view.spans(&unseen),
        mode: FlagMode::Add,
        flags: vec!["\\Seen".to_owned()],
        unchanged_since: None,
    };
    let changed = s.door.store.set_flags(&account, mailbox, change).await?;
    match changed.modseq == before + 1 && !changed.changed.is_empty() {
        true => s.selected()?.view.modseq = changed.modseq,
        false => s.refresh().await?,
    }
    Ok(unseen)
}

/// What is asked of the store, and what is told of each message.
struct Plan {
    items: Vec<Item>,
    /// The sections among the items, in their order.
    sections: Vec<SectionItem>,
    wanted: Wanted,
}

impl Plan {
    fn new(items: Vec<Item>, changed_since: u64) -> Plan {
        let section = |item: &Item| match item {
            Item::Section(section) => Some(section.clone()),
            _ => None,
        };
        let sections: Vec<SectionItem> = items.iter().filter_map(section).collect();
        let wanted = Wanted {
            uids: Vec::new(),
            changed_since,
            envelope: items.contains(&Item::Envelope),
            structure: items.contains(&Item::Body) || items.contains(&Item::BodyStructure),
            preview: items.contains(&Item::Preview),
            email: items.contains(&Item::ThreadId),
            sections: sections.iter().map(|s| s.section.clone()).collect(),
            // What the client knows by number exists, and but for these two items it never changes.
            unconfirmed: changed_since == 0
                && !(items.contains(&Item::Flags) || items.contains(&Item::ModSeq)),
            columns: columns(&items),
        };
        Plan {
            items,
            sections,
            wanted,
        }
    }
}

/// The columns that say all of these items, where columns do.
fn columns(items: &[Item]) -> Option<Columns> {
    let mut columns = Columns::default();
    for item in items {
        match item {
            Item::Uid => {}
            Item::Flags => columns.flags = true,
            Item::ModSeq => columns.modseq = true,
            Item::InternalDate | Item::SaveDate => columns.dates = true,
            Item::Size => columns.size = true,
            Item::EmailId => columns.email_id = true,
            Item::ThreadId
            | Item::Preview
            | Item::Envelope
            | Item::Body
            | Item::BodyStructure
            | Item::Section(_) => return None,
        }
    }
    Some(columns)
}

/// How telling went.
#[derive(Debug, Default)]
struct Outcomes {
    /// Those that came.
    messages: RoaringBitmap,
    unknown_encoding: bool,
}

/// Where in an answer the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between messages.
    Between,
    /// In a message that is not told.
    Passing,
    /// In a message, between items.
    Message,
    /// In the literal of this section, with so many octets to come.
    Literal(u32, u64),
}

/// Tells all that are there, as a quorum knows it.
async fn tell_all(
    s: &mut Session,
    uids: &RoaringBitmap,
    plan: &mut Plan,
    with_flags: &RoaringBitmap,
) -> Result<Outcomes, Stop> {
    let mut outcome = tell(s, uids, plan, with_flags).await?;
    if plan.wanted.unconfirmed && outcome.messages.len() < uids.len() {
        // They are gone, or the node was behind: a quorum knows.
        plan.wanted.unconfirmed = false;
        let missing = uids - &outcome.messages;
        let more = tell(s, &missing, plan, with_flags).await?;
        outcome.messages |= more.messages;
        outcome.unknown_encoding |= more.unknown_encoding;
    }
    Ok(outcome)
}

async fn tell(
    s: &mut Session,
    uids: &RoaringBitmap,
    plan: &Plan,
    with_flags: &RoaringBitmap,
) -> Result<Outcomes, Stop> {
    let account = s.account()?;
    let patience = s.door.config.data_timeout();
    let enabled = s.enabled;
    let door = s.door.clone();
    let Some(selected) = &mut s.selected else {
        return Err(Done::bad("select a mailbox first").into());
    };
    let (view, wire) = (&mut selected.view, &mut s.wire);
    let ahead = &mut selected.ahead;
    let mut call = ahead.open(&*door.store, &account, view, uids, &plan.wanted);
    let mut telling = Telling::new(plan, with_flags, enabled);
    let mut row_at_hand = Fetched::default();
    while let Some(event) = call.next().await {
        let event = match (event, telling.at) {
            (Ok(event), _) => event,
            // Perhaps because of another message than the one that is asked for, which is asked for
            // again alone.
            (Err(_), At::Between) if call.is_ahead() && telling.messages.is_empty() => break,
            (Err(error), At::Literal(_, left)) if left > 0 => {
                tracing::warn!(%error, "a message broke off on its way to a client");
                return Err(Gone::Broken.into());
            }
            (Err(error), at) => {
                if matches!(at, At::Message | At::Literal(..)) {
                    put(wire.out(), ")\r\n");
                }
                return Err(error.into());
            }
        };
        match event {
            Event::Keywords(keywords) => {
                telling.end(wire.out())?;
                // fetchmail takes FLAGS among messages whose flags it did not ask for as a mistake.
                match plan.items.contains(&Item::Flags) || !with_flags.is_empty() {
                    true => learn(view, &keywords, wire.out()),
                    false => view.learn(&keywords),
                }
            }
            Event::Message(row) => telling.begin(wire.out(), view, &row)?,
            Event::Rows(mut rows) => {
                while rows.next_into(&mut row_at_hand) {
                    telling.begin(wire.out(), view, &row_at_hand)?;
                    if wire.is_full() {
                        wire.flush(patience).await?;
                    }
                }
            }
            Event::Section(piece) => telling.section(wire.out(), &piece)?,
        }
        wire.relieve(patience).await?;
    }
    telling.end(wire.out())?;
    // What was told is newer than the news.
    view.told(&telling.told_flags);
    selected.ahead.keep(call);
    Ok(Outcomes {
        messages: telling.messages,
        unknown_encoding: telling.unknown_encoding,
    })
}

/// What is being told of messages, one after the other.
struct Telling<'a> {
    plan: &'a Plan,
    /// Messages whose flags are told although nobody asked.
    with_flags: &'a RoaringBitmap,
    enabled: Enabled,
    at: At,
    /// The first section comes behind an item.
    behind_items: bool,
    /// The message before.
    before: Neighbour,
    /// Those that came.
    messages: RoaringBitmap,
    /// Those whose flags were told.
    told_flags: RoaringBitmap,
    unknown_encoding: bool,
}

impl<'a> Telling<'a> {
    fn new(plan: &'a Plan, with_flags: &'a RoaringBitmap, enabled: Enabled) -> Telling<'a> {
        Telling {
            plan,
            with_flags,
            enabled,
            at: At::Between,
            behind_items: false,
            before: Neighbour::default(),
            messages: RoaringBitmap::new(),
            told_flags: RoaringBitmap::new(),
            unknown_encoding: false,
        }
    }

    /// A message begins after the one before; it is told if the client knows it.
    fn begin(&mut self, out: &mut BytesMut, view: &mut View, row: &Fetched) -> Result<(), Gone> {
        self.end(out)?;
        self.messages.insert(row.uid);
        let Some(n) = view.number_after(&mut self.before, row.uid) else {
            self.at = At::Passing;
            return Ok(());
        };
        let with_flags = self.with_flags.contains(row.uid);
        if self.plan.items.contains(&Item::ModSeq) || with_flags && self.enabled.condstore {
            view.show(row.modseq);
        }
        let enabled = (with_flags, self.enabled);
        let (told_flags, any) = message(out, view, (n, row), self.plan, enabled);
        if told_flags {
            self.told_flags.insert(row.uid);
        }
        self.behind_items = any;
        self.at = At::Message;
        Ok(())
    }

    /// A piece of a section of the message that was begun last.
    fn section(&mut self, out: &mut BytesMut, piece: &SectionData) -> Result<(), Gone> {
        let item = self.plan.sections.get(piece.index as usize);
        if let Some(item) = item.filter(|_| self.at != At::Passing) {
            self.unknown_encoding |= piece.outcome() == Outcome::UnknownEncoding;
            let space = piece.index > 0 || self.behind_items;
            self.at = section(out, item, piece, self.at, space)?;
        }
        Ok(())
    }

    /// Ends the message that was under way.
    fn end(&mut self, out: &mut BytesMut) -> Result<(), Gone> {
        match std::mem::replace(&mut self.at, At::Between) {
            At::Message | At::Literal(_, 0) => put(out, ")\r\n"),
            At::Literal(..) => return Err(Gone::Broken),
            At::Between | At::Passing => {}
        }
        Ok(())
    }
}

/// `* n FETCH (` and all items of a message but sections; whether its flags were among them, and
/// whether there were any.
fn message(
    out: &mut BytesMut,
    view: &View,
    (n, row): (u32, &Fetched),
    plan: &Plan,
    (with_flags, enabled): (bool, Enabled),
) -> (bool, bool) {
    put(out, "* ");
    number(out, n.into());
    put(out, " FETCH (");
    let start = out.len();
    let (mut told_flags, mut told_modseq, mut told_uid) = (false, false, false);
    for item in plan.items.iter().filter(|i| !matches!(i, Item::Section(_))) {
        put(out, if out.len() > start { " " } else { "" });
        told_flags |= *item == Item::Flags;
        told_modseq |= *item == Item::ModSeq;
        told_uid |= *item == Item::Uid;
        one(out, view, row, item, enabled);
    }
    if with_flags {
        // `\Seen` was set by this command (RFC 7162, section 3.2.4).
        let more = [
            (enabled.condstore && !told_uid, Item::Uid),
            (!told_flags, Item::Flags),
            (enabled.condstore && !told_modseq, Item::ModSeq),
        ];
        for (_, item) in more.iter().filter(|(more, _)| *more) {
            put(out, if out.len() > start { " " } else { "" });
            one(out, view, row, item, enabled);
        }
    }
    (told_flags || with_flags, out.len() > start)
}

fn one(out: &mut BytesMut, view: &View, row: &Fetched, item: &Item, enabled: Enabled) {
    let utf8 = enabled.utf8;
    let counted = |out: &mut BytesMut, name: &str, n: u64| {
        put(out, name);
        number(out, n);
    };
    let dated = |out: &mut BytesMut, name: &str, ms: u64| {
        let mut text = String::from(name);
        write_date_time(&mut text, ms);
        put(out, &text);
    };
    match item {
        Item::Flags => {
            put(out, "FLAGS ");
            flags(out, row.flags, &row.keywords, &view.keywords);
        }
        Item::Uid => counted(out, "UID ", row.uid.into()),
        Item::Size => counted(out, "RFC822.SIZE ", row.size),
        Item::InternalDate => dated(out, "INTERNALDATE ", row.internal_date_ms),
        Item::SaveDate => match row.save_date_ms {
            0 => put(out, "SAVEDATE NIL"),
            ms => dated(out, "SAVEDATE ", ms),
        },
        Item::ModSeq => {
            counted(out, "MODSEQ (", row.modseq);
            put(out, ")");
        }
        Item::EmailId => {
            counted(out, "EMAILID (E", row.email_id);
            put(out, ")");
        }
        Item::ThreadId => match row.thread_id {
            0 => put(out, "THREADID NIL"),
            id => {
                counted(out, "THREADID (T", id);
                put(out, ")");
            }
        },
        Item::Preview => {
            put(out, "PREVIEW ");
            string(out, row.preview.as_bytes(), utf8);
        }
        Item::Envelope => {
            put(out, "ENVELOPE ");
            let none = Envelope::default();
            envelope(out, row.envelope.as_ref().unwrap_or(&none), utf8);
        }
        Item::Body => {
            put(out, "BODY ");
            structure(out, &row.structure, false, utf8);
        }
        Item::BodyStructure => {
            put(out, "BODYSTRUCTURE ");
            structure(out, &row.structure, true, utf8);
        }
        Item::Section(_) => {}
    }
}

/// A piece of a section; `space`: something comes before the section.
fn section(
    out: &mut BytesMut,
    item: &SectionItem,
    piece: &SectionData,
    at: At,
    space: bool,
) -> Result<At, Gone> {
    let left = match at {
        At::Literal(index, left) if index == piece.index => left,
        At::Literal(_, 1..) => return Err(Gone::Broken),
        _ => {
            put(out, if space { " " } else { "" });
            put(out, &item.label);
            put(out, " ");
            match (piece.outcome(), item.form) {
                (Outcome::Data, Form::Size) => {
                    number(out, piece.size);
                    return Ok(At::Message);
                }
                (_, Form::Size) => {
                    put(out, "0");
                    return Ok(At::Message);
                }
                (Outcome::NoSuchPart | Outcome::UnknownEncoding, _) => {
                    put(out, "NIL");
                    return Ok(At::Message);
                }
                (Outcome::Data, form) => {
                    put(out, if form == Form::Literal8 { "~{" } else { "{" });
                    number(out, piece.size);
                    put(out, "}\r\n");
                    piece.size
                }
            }
        }
    };
    // More, or fewer, than was announced would make the rest of the answer mean something else.
    let left = left
        .checked_sub(piece.data.len() as u64)
        .ok_or(Gone::Broken)?;
    out.extend_from_slice(&piece.data);
    match (left, piece.last) {
        (0, true) => Ok(At::Message),
        (_, true) => Err(Gone::Broken),
        (left, false) => Ok(At::Literal(piece.index, left)),
    }
}

impl Session {
    /// Tells flags and modseqs of messages that have changed since.
    pub(in crate::imap) async fn tell_changed(
        &mut self,
        uids: &RoaringBitmap,
        since: u64,
    ) -> Result<(), Stop> {
        if uids.is_empty() {
            return Ok(());
        }
        let plan = Plan::new(vec![Item::Uid, Item::Flags, Item::ModSeq], since);
        tell(self, uids, &plan, &RoaringBitmap::new())
            .await
            .map(drop)
    }

    /// Tells these items of messages, and their uids. Sections are told without setting `\Seen`.
    pub(in crate::imap) async fn tell_items(
        &mut self,
        uids: &RoaringBitmap,
        mut items: Vec<Item>,
    ) -> Result<(), Stop> {
        if uids.is_empty() {
            return Ok(());
        }
        if !items.contains(&Item::Uid) {
            items.insert(0, Item::Uid);
        }
        // RFC 7162, section 3.1: told unasked, flags come with it.
        if self.enabled.condstore && !items.contains(&Item::ModSeq) {
            items.push(Item::ModSeq);
        }
        let mut plan = Plan::new(items, 0);
        let none = RoaringBitmap::new();
        tell_all(self, uids, &mut plan, &none).await.map(drop)
    }
}
