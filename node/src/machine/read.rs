//! Queries over the rows of a space. Each costs what it returns.

use roaring::RoaringBitmap;

use super::command::{ChunkMeta, UploadId};
use super::local::Chunk;
use crate::index::keys::{Key, KeyRange, Space, tag};
use crate::index::uids::UidPart;
use crate::index::values::{
    self, AccountNameRow, AccountRow, AnnotationRow, BlobRow, ChangeKind, ChangeRow, ChunkLoc,
    EmailRow, KeywordRow, MailboxNameRow, MailboxRow, MessageRow, flag, get,
};
use crate::index::{Family, IndexError, Next, View};
use crate::types::*;
use bytes::Bytes;

/// Visits rows of a range until the visitor stops or a row is damaged.
fn each<R: values::Row>(
    view: &dyn View,
    family: Family,
    range: &KeyRange,
    mut visit: impl FnMut(Key, R) -> Next,
) -> Result<(), IndexError> {
    let mut damaged = None;
    view.scan(family, &range.from, &range.to, &mut |octets, value| {
        let row = match Key::decode(octets) {
            Some((_, key)) => values::decode(octets, value).map(|row| (key, row)),
            None => Err(IndexError::Corrupt(format!("{octets:02x?} is no key"))),
        };
        match row {
            Ok((key, row)) => visit(key, row),
            Err(e) => {
                damaged = Some(e);
                Next::Stop
            }
        }
    })?;
    damaged.map_or(Ok(()), Err)
}

fn missing(key: Key) -> IndexError {
    IndexError::Corrupt(format!("a row is missing: {key:?}"))
}

/// An account by its name.
pub fn account(
    view: &dyn View,
    space: Space,
    name: &AccountName,
) -> Result<Option<(AccountId, AccountRow)>, IndexError> {
    let key = Key::AccountName {
        slot: Slot::of(name),
        name: name.as_str(),
    };
    let Some(AccountNameRow { account }) = get(view, space, &key)? else {
        return Ok(None);
    };
    let key = Key::Account(account);
    match get(view, space, &key)? {
        Some(row) => Ok(Some((account, row))),
        None => Err(missing(key)),
    }
}

/// Accounts in the order of slot and name, after `after`, at most `limit`; and where the next page
/// goes on, if there is one.
#[allow(clippy::type_complexity)]
pub fn accounts(
    view: &dyn View,
    space: Space,
    after: Option<&AccountName>,
    limit: usize,
) -> Result<(Vec<(AccountId, AccountRow)>, Option<AccountName>), IndexError> {
    let mut range = KeyRange::tag(space, tag::ACCOUNT_NAME);
    if let Some(name) = after {
        let key = Key::AccountName {
            slot: Slot::of(name),
            name: name.as_str(),
        };
        range.from = [&key.encode(space)[..], &[0]].concat().into();
    }
    let mut ids = Vec::new();
    each(view, Family::State, &range, |_, row: AccountNameRow| {
        ids.push(row.account);
        match ids.len() <= limit {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    let more = ids.len() > limit;
    ids.truncate(limit);
    let mut page = Vec::with_capacity(ids.len());
    for id in ids {
        let key = Key::Account(id);
        let row: AccountRow = get(view, space, &key)?.ok_or_else(|| missing(key))?;
        page.push((id, row));
    }
    let next = page
        .last()
        .filter(|_| more)
        .map(|(_, row)| row.name.clone());
    Ok((page, next))
}

/// The mailboxes of an account, in the order of their numbers.
pub fn mailboxes(
    view: &dyn View,
    space: Space,
    account: AccountId,
) -> Result<Vec<(MailboxId, MailboxRow)>, IndexError> {
    let like = Key::Mailbox {
        account,
        mailbox: MailboxId(0),
    };
    let range = KeyRange::account(space, &like, account);
    let mut found = Vec::new();
    each(view, Family::State, &range, |key, row: MailboxRow| {
        if let Key::Mailbox { mailbox, .. } = key {
            found.push((mailbox, row));
        }
        Next::Continue
    })?;
    Ok(found)
}

/// A mailbox by its name or number.
pub fn mailbox(
    view: &dyn View,
    space: Space,
    account: AccountId,
    which: &MailboxRef,
) -> Result<Option<(MailboxId, MailboxRow)>, IndexError> {
    let name = match which {
        MailboxRef::Name(name) => name,
        MailboxRef::Id { id, uidvalidity } => {
            let key = Key::Mailbox {
                account,
                mailbox: *id,
            };
            let row: Option<MailboxRow> = get(view, space, &key)?;
            return Ok(row
                .filter(|row| *uidvalidity == 0 || row.uidvalidity == *uidvalidity)
                .map(|row| (*id, row)));
        }
    };
    let key = Key::MailboxName {
        account,
        name: name.as_str(),
    };
    let Some(MailboxNameRow { mailbox }) = get(view, space, &key)? else {
        return Ok(None);
    };
    let key = Key::Mailbox { account, mailbox };
    match get(view, space, &key)? {
        Some(row) => Ok(Some((mailbox, row))),
        None => Err(missing(key)),
    }
}

/// The names that an account subscribes to, in the order of their octets.
pub fn subscriptions(
    view: &dyn View,
    space: Space,
    account: AccountId,
) -> Result<Vec<String>, IndexError> {
    let like = Key::Subscription { account, name: "" };
    let range = KeyRange::account(space, &like, account);
    let mut names = Vec::new();
    each(view, Family::State, &range, |key, ()| {
        if let Key::Subscription { name, .. } = key {
            names.push(name.to_owned());
        }
        Next::Continue
    })?;
    Ok(names)
}

/// Whether an account subscribes to a name.
pub fn is_subscribed(
    view: &dyn View,
    space: Space,
    account: AccountId,
    name: &MailboxName,
) -> Result<bool, IndexError> {
    let key = Key::Subscription {
        account,
        name: name.as_str(),
    };
    let row: Option<()> = get(view, space, &key)?;
    Ok(row.is_some())
}

/// The annotations of a mailbox, or with number 0 of the account, in the order of their entries.
#[allow(clippy::type_complexity)]
pub fn annotations(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<Vec<(String, Vec<u8>)>, IndexError> {
    let like = Key::Annotation {
        account,
        mailbox,
        entry: "",
    };
    let range = KeyRange::mailbox(space, &like, account, mailbox);
    let mut found = Vec::new();
    each(view, Family::State, &range, |key, row: AnnotationRow| {
        if let Key::Annotation { entry, .. } = key {
            found.push((entry.to_owned(), row.value));
        }
        Next::Continue
    })?;
    Ok(found)
}

/// The first message of a mailbox without \Seen, if it is among the first `limit` ones.
pub fn first_unseen(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
    limit: usize,
) -> Result<Option<Uid>, IndexError> {
    let like = Key::Message {
        account,
        mailbox,
        uid: 0,
    };
    let range = KeyRange::mailbox(space, &like, account, mailbox);
    let mut first = None;
    let mut looked = 0;
    each(view, Family::State, &range, |key, row: MessageRow| {
        if let (Key::Message { uid, .. }, 0) = (key, row.flags & flag::SEEN) {
            first = Some(uid);
        }
        looked += 1;
        match first.is_none() && looked < limit {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    Ok(first)
}

/// The first message that came into a mailbox by a change after `since`, whether or not it is still
/// there; `None` when none came. Those changes must not have been trimmed.
pub fn first_created_after(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
    since: ModSeq,
) -> Result<Option<Uid>, IndexError> {
    let key = |modseq| Key::Change { account, modseq };
    let range = KeyRange::inclusive(&key(since.saturating_add(1)), &key(ModSeq::MAX), space);
    let mut first = None;
    each(view, Family::State, &range, |_, row: ChangeRow| {
        if row.mailbox == mailbox && row.kind == ChangeKind::Created {
            first = row.uids.first().map(|(uid, _)| *uid);
        }
        match first {
            None => Next::Continue,
            Some(_) => Next::Stop,
        }
    })?;
    Ok(first)
}

/// Uids of a mailbox in `first..=last`: kilobytes for millions.
pub fn uids(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
    first: Uid,
    last: Uid,
) -> Result<RoaringBitmap, IndexError> {
    let mut set = RoaringBitmap::new();
    if first > last {
        return Ok(set);
    }
    let part = |part| Key::UidSet {
        account,
        mailbox,
        part,
    };
    let (first_part, last_part) = (UidPart::place(first).0, UidPart::place(last).0);
    let range = KeyRange::inclusive(&part(first_part), &part(last_part), space);
    each(view, Family::State, &range, |key, uids: UidPart| {
        if let Key::UidSet { part, .. } = key {
            uids.add_to(part, &mut set);
        }
        Next::Continue
    })?;
    set.remove_range(..first);
    if last < Uid::MAX {
        set.remove_range(last + 1..);
    }
    Ok(set)
}

/// Keywords of a mailbox by their number.
pub fn keywords(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
) -> Result<std::collections::BTreeMap<u16, String>, IndexError> {
    let like = Key::Keyword {
        account,
        mailbox,
        id: 0,
    };
    let range = KeyRange::mailbox(space, &like, account, mailbox);
    let mut names = std::collections::BTreeMap::new();
    each(view, Family::State, &range, |key, row: KeywordRow| {
        if let Key::Keyword { id, .. } = key {
            names.insert(id, row.name);
        }
        Next::Continue
    })?;
    Ok(names)
}

/// Keywords of a mailbox with this row by their number; most have none, and nothing is looked for.
pub fn keywords_of(
    view: &dyn View,
    space: Space,
    account: AccountId,
    (mailbox, row): (MailboxId, &MailboxRow),
) -> Result<std::collections::BTreeMap<u16, String>, IndexError> {
    match row.next_keyword {
        0 => Ok(Default::default()),
        _ => keywords(view, space, account, mailbox),
    }
}

/// Names of the flags of a message: system flags, then keywords in the order of their numbers.
pub fn flag_names(
    message: &MessageRow,
    keywords: &std::collections::BTreeMap<u16, String>,
) -> Vec<String> {
    let system = (0..)
        .zip(flag::NAMES)
        .filter(|(bit, _)| message.flags & (1 << bit) != 0)
        .map(|(_, name)| name.to_owned());
    let own = message.keywords.iter().filter_map(|id| keywords.get(id));
    system.chain(own.cloned()).collect()
}

/// Hot rows of a mailbox in `first..=last`, at most `limit`; and the uid where the next page goes
/// on, if there is one.
#[allow(clippy::type_complexity)]
pub fn messages(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
    (first, last): (Uid, Uid),
    limit: usize,
) -> Result<(Vec<(Uid, MessageRow)>, Option<Uid>), IndexError> {
    if first == last && limit > 0 {
        // Filters tell where a single row is; a scan would look into all files of the index.
        let row = message(view, space, account, mailbox, first)?;
        return Ok((row.map(|row| (first, row)).into_iter().collect(), None));
    }
    let key = |uid| Key::Message {
        account,
        mailbox,
        uid,
    };
    let range = KeyRange::inclusive(&key(first), &key(last), space);
    let mut page = Vec::new();
    let mut next = None;
    each(view, Family::State, &range, |key, row: MessageRow| {
        let Key::Message { uid, .. } = key else {
            return Next::Stop;
        };
        if page.len() == limit {
            next = Some(uid);
            return Next::Stop;
        }
        page.push((uid, row));
        Next::Continue
    })?;
    Ok((page, next))
}

/// The hot row of one message.
pub fn message(
    view: &dyn View,
    space: Space,
    account: AccountId,
    mailbox: MailboxId,
    uid: Uid,
) -> Result<Option<MessageRow>, IndexError> {
    let key = Key::Message {
        account,
        mailbox,
        uid,
    };
    get(view, space, &key)
}

/// The blob of an email.
pub fn email(
    view: &dyn View,
    space: Space,
    account: AccountId,
    email: EmailId,
) -> Result<Option<EmailRow>, IndexError> {
    get(view, space, &Key::Email { account, email })
}

/// The encoded summary of an email.
pub fn summary(
    view: &dyn View,
    space: Space,
    account: AccountId,
    email: EmailId,
) -> Result<Option<Bytes>, IndexError> {
    let key = Key::Summary { account, email };
    view.get(key.family(), &key.encode(space))
}

/// A blob's size and chunks.
pub fn blob(view: &dyn View, space: Space, blob: BlobId) -> Result<Option<BlobRow>, IndexError> {
    get(view, space, &Key::Blob(blob))
}

/// Where a chunk of a blob lies on this node; `None` when it was damaged and is gone, or never
/// arrived here.
pub fn chunk_loc(
    view: &dyn View,
    space: Space,
    blob: BlobId,
    seq: u32,
) -> Result<Option<ChunkLoc>, IndexError> {
    get(view, space, &Key::BlobLoc { blob, seq })
}

/// A chunk that a blob row names and that has no location here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingChunk {
    /// The blob.
    pub blob: BlobId,
    /// From 0.
    pub seq: u32,
    /// What its octets are.
    pub chunk: ChunkMeta,
}

/// Chunks of blobs after `after` without a location, looking at about `limit` blobs; and the blob
/// to go on after, if there are more.
#[allow(clippy::type_complexity)]
pub fn missing_chunks(
    view: &dyn View,
    space: Space,
    after: Option<BlobId>,
    limit: usize,
) -> Result<(Vec<MissingChunk>, Option<BlobId>), IndexError> {
    let mut range = KeyRange::tag(space, tag::BLOB);
    if let Some(blob) = after {
        range.from = [&Key::Blob(blob).encode(space)[..], &[0]].concat().into();
    }
    let mut blobs = Vec::new();
    each(view, Family::State, &range, |key, row: BlobRow| {
        if let Key::Blob(blob) = key {
            blobs.push((blob, row));
        }
        match blobs.len() < limit.max(1) {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    let next = (blobs.len() >= limit.max(1))
        .then(|| blobs.last().map(|(blob, _)| *blob))
        .flatten();
    let mut missing = Vec::new();
    for (blob, row) in blobs {
        for (seq, chunk) in (0..).zip(row.chunks) {
            let key = Key::BlobLoc { blob, seq };
            if view.get(key.family(), &key.encode(space))?.is_none() {
                missing.push(MissingChunk { blob, seq, chunk });
            }
        }
    }
    Ok((missing, next))
}

/// A mailbox whose rows wait to be removed.
pub fn reapable_mailbox(
    view: &dyn View,
    space: Space,
) -> Result<Option<(AccountId, MailboxId)>, IndexError> {
    let mut found = None;
    let range = KeyRange::tag(space, tag::GOING_MAILBOX);
    each(view, Family::State, &range, |key, ()| {
        if let Key::GoingMailbox { account, mailbox } = key {
            found = Some((account, mailbox));
        }
        Next::Stop
    })?;
    Ok(found)
}

/// Chunks of arrivals after `after` without a location, looking at about `limit` chunks; and the one
/// to go on after, if there are more.
#[allow(clippy::type_complexity)]
pub fn missing_arrivals(
    view: &dyn View,
    space: Space,
    after: Option<(UploadId, u32)>,
    limit: usize,
) -> Result<(Vec<(Chunk, ChunkMeta)>, Option<(UploadId, u32)>), IndexError> {
    let mut range = KeyRange::tag(space, tag::UPLOAD_CHUNK);
    if let Some((upload, seq)) = after {
        let last = Key::UploadChunk { upload, seq };
        range.from = [&last.encode(space)[..], &[0]].concat().into();
    }
    let mut arrived = Vec::new();
    each(view, Family::State, &range, |key, chunk: ChunkMeta| {
        if let Key::UploadChunk { upload, seq } = key {
            arrived.push((upload, seq, chunk));
        }
        match arrived.len() < limit.max(1) {
            true => Next::Continue,
            false => Next::Stop,
        }
    })?;
    let next = (arrived.len() >= limit.max(1))
        .then(|| arrived.last().map(|(upload, seq, _)| (*upload, *seq)))
        .flatten();
    let mut missing = Vec::new();
    for (upload, seq, chunk) in arrived {
        let key = Key::UploadLoc { upload, seq };
        if view.get(key.family(), &key.encode(space))?.is_none() {
            missing.push((Chunk::Upload(upload, seq), chunk));
        }
    }
    Ok((missing, next))
}

/// An account whose rows wait to be removed.
pub fn reapable(view: &dyn View, space: Space) -> Result<Option<AccountId>, IndexError> {
    let mut found = None;
    each(
        view,
        Family::State,
        &KeyRange::tag(space, tag::GOING),
        |key, ()| {
            if let Key::Going(account) = key {
                found = Some(account);
            }
            Next::Stop
        },
    )?;
    Ok(found)
}
