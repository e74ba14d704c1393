//! Whether the rows of a space agree with each other.
//!
//! Counters are kept, never counted; this is where they are counted after all: in tests, in the
//! simulator, and when an operator doubts a replica. It reads every row.

use std::collections::{BTreeMap, BTreeSet};

use crate::index::keys::{Key, KeyRange, Space, UID_PART_BITS};
use crate::index::uids::UidPart;
use crate::index::values::*;
use crate::index::{Family, IndexError, Next, View, values};
use crate::machine::command::{Arrival, ChunkMeta, TransferId, UploadId};
use crate::types::*;

#[derive(Default)]
struct Rows {
    meta: MetaRow,
    names: BTreeMap<String, AccountId>,
    accounts: BTreeMap<AccountId, AccountRow>,
    going: BTreeSet<AccountId>,
    slots: BTreeMap<Slot, SlotRow>,
    mailbox_names: BTreeMap<(AccountId, String), MailboxId>,
    mailboxes: BTreeMap<(AccountId, MailboxId), MailboxRow>,
    uids: BTreeMap<(AccountId, MailboxId), BTreeSet<Uid>>,
    keywords: BTreeMap<(AccountId, MailboxId, u16), String>,
    keyword_names: BTreeMap<(AccountId, MailboxId, String), u16>,
    messages: BTreeMap<(AccountId, MailboxId, Uid), MessageRow>,
    emails: BTreeMap<(AccountId, EmailId), EmailRow>,
    summaries: BTreeSet<(AccountId, EmailId)>,
    threads: BTreeMap<(AccountId, ThreadKey), ThreadRow>,
    changes: BTreeMap<AccountId, BTreeMap<ModSeq, ChangeRow>>,
    blobs: BTreeMap<BlobId, BlobRow>,
    uploads: BTreeMap<UploadId, UploadRow>,
    upload_chunks: BTreeMap<(UploadId, u32), ChunkMeta>,
    requests: u64,
    request_bytes: u64,
    ages: Vec<u64>,
    going_mailboxes: BTreeSet<(AccountId, MailboxId)>,
    subscriptions: BTreeMap<AccountId, u64>,
    annotations: BTreeMap<(AccountId, MailboxId, String), usize>,
    credentials: BTreeMap<AccountId, Vec<CredentialRow>>,
    transfer_numbers: BTreeMap<AccountId, TransfersRow>,
    transfers: BTreeMap<TransferId, TransferRow>,
    arrivals: BTreeMap<(AccountId, AccountId), ArrivalsRow>,
    answered: BTreeMap<(AccountId, TransferId), Arrival>,
    blob_locs: BTreeMap<(BlobId, u32), ChunkLoc>,
    upload_locs: BTreeMap<(UploadId, u32), ChunkLoc>,
}

fn read(view: &dyn View, space: Space) -> Result<Rows, IndexError> {
    let mut r = Rows::default();
    let mut failed = None;
    let range = KeyRange::space(space);
    for family in Family::ALL {
        view.scan(
            family,
            &range.from,
            &range.to,
            &mut |octets, value| match one(&mut r, octets, value) {
                Ok(()) => Next::Continue,
                Err(e) => {
                    failed = Some(e);
                    Next::Stop
                }
            },
        )?;
    }
    failed.map_or(Ok(r), Err)
}

fn one(r: &mut Rows, octets: &[u8], value: &[u8]) -> Result<(), IndexError> {
    let Some((_, key)) = Key::decode(octets) else {
        return Err(IndexError::Corrupt(format!("{octets:02x?} is no key")));
    };
    macro_rules! row {
        () => {
            values::decode(octets, value)?
        };
    }
    match key {
        Key::Meta => r.meta = row!(),
        Key::Slot(slot) => drop(r.slots.insert(slot, row!())),
        Key::AccountName { name, .. } => {
            let row: AccountNameRow = row!();
            r.names.insert(name.to_owned(), row.account);
        }
        Key::Account(id) => drop(r.accounts.insert(id, row!())),
        Key::Going(id) => drop(r.going.insert(id)),
        Key::MailboxName { account, name } => {
            let row: MailboxNameRow = row!();
            r.mailbox_names
                .insert((account, name.to_owned()), row.mailbox);
        }
        Key::Mailbox { account, mailbox } => {
            r.mailboxes.insert((account, mailbox), row!());
        }
        Key::UidSet {
            account,
            mailbox,
            part,
        } => {
            let set: UidPart = row!();
            let uids = r.uids.entry((account, mailbox)).or_default();
            for (first, last) in set.runs() {
                uids.extend((first..=last).map(|p| (part << UID_PART_BITS) + p as u32));
            }
        }
        Key::Keyword {
            account,
            mailbox,
            id,
        } => {
            let row: KeywordRow = row!();
            r.keywords.insert((account, mailbox, id), row.name);
        }
        Key::KeywordName {
            account,
            mailbox,
            name,
        } => {
            let row: KeywordNameRow = row!();
            r.keyword_names
                .insert((account, mailbox, name.to_owned()), row.id);
        }
        Key::Message {
            account,
            mailbox,
            uid,
        } => drop(r.messages.insert((account, mailbox, uid), row!())),
        Key::Email { account, email } => drop(r.emails.insert((account, email), row!())),
        Key::Summary { account, email } => drop(r.summaries.insert((account, email))),
        Key::Change { account, modseq } => {
            r.changes.entry(account).or_default().insert(modseq, row!());
        }
        Key::Blob(blob) => drop(r.blobs.insert(blob, row!())),
        Key::Upload(upload) => drop(r.uploads.insert(upload, row!())),
        Key::UploadChunk { upload, seq } => {
            r.upload_chunks.insert((upload, seq), row!());
        }
        Key::Request(_) => {
            let _: RequestRow = row!();
            r.requests += 1;
            r.request_bytes += value.len() as u64 + super::request::KEY_BYTES;
        }
        Key::RequestAge { time_ms, .. } => r.ages.push(time_ms),
        Key::BlobLoc { blob, seq } => drop(r.blob_locs.insert((blob, seq), row!())),
        Key::UploadLoc { upload, seq } => drop(r.upload_locs.insert((upload, seq), row!())),
        Key::GoingMailbox { account, mailbox } => {
            r.going_mailboxes.insert((account, mailbox));
        }
        Key::Subscription { account, .. } => *r.subscriptions.entry(account).or_default() += 1,
        Key::Annotation {
            account,
            mailbox,
            entry,
        } => {
            let row: AnnotationRow = row!();
            r.annotations
                .insert((account, mailbox, entry.to_owned()), row.value.len());
        }
        Key::Thread { account, key } => drop(r.threads.insert((account, key), row!())),
        Key::Credential { account, .. } => {
            r.credentials.entry(account).or_default().push(row!());
        }
        Key::Transfers(account) => drop(r.transfer_numbers.insert(account, row!())),
        Key::Transfer(transfer) => drop(r.transfers.insert(transfer, row!())),
        Key::Arrivals { account, source } => drop(r.arrivals.insert((account, source), row!())),
        Key::Arrival { account, transfer } => {
            r.answered.insert((account, transfer), row!());
        }
        Key::System
        | Key::Node(_)
        | Key::Shard(_)
        | Key::Token(_)
        | Key::Join(_)
        | Key::Applied
        | Key::Format
        | Key::NextSpace
        | Key::ShardSpace(_)
        | Key::SegmentLive(_) => {}
    }
    Ok(())
}

/// What does not agree, in words; empty when all is well. Chunks without a location are damage
/// rather than disagreement: see [`super::read::missing_chunks`].
pub fn problems(view: &dyn View, space: Space) -> Result<Vec<String>, IndexError> {
    let r = read(view, space)?;
    let mut found = Vec::new();
    accounts(&r, &mut found);
    mailboxes(&r, &mut found);
    owners(&r, &mut found);
    octets(&r, &mut found);
    threads(&r, &mut found);
    requests(&r, &mut found);
    credentials(&r, &mut found);
    transfers(&r, &mut found);
    Ok(found)
}

/// Octets that the location rows of a space keep alive, by segment.
pub fn live_bytes(view: &dyn View, space: Space) -> Result<BTreeMap<u64, i64>, IndexError> {
    let r = read(view, space)?;
    let mut live = BTreeMap::new();
    for loc in r.blob_locs.values().chain(r.upload_locs.values()) {
        *live.entry(loc.location.segment).or_default() += loc.location.len as i64;
    }
    Ok(live)
}

/// Octets that location rows keep alive, by space and segment, of all spaces: of those too that
/// are arriving or going, whose other rows need not agree.
pub fn all_live_bytes(view: &dyn View) -> Result<BTreeMap<(Space, u64), i64>, IndexError> {
    let mut live = BTreeMap::new();
    let mut damaged = None;
    let from = Space::FIRST.0.to_be_bytes();
    view.scan(Family::Local, &from, &[0xff; 5], &mut |key, value| {
        if let Some((space, Key::BlobLoc { .. } | Key::UploadLoc { .. })) = Key::decode(key) {
            match values::decode::<ChunkLoc>(key, value) {
                Ok(ChunkLoc { location, .. }) => {
                    *live.entry((space, location.segment)).or_default() += location.len as i64;
                }
                Err(e) => damaged = Some(e),
            }
        }
        Next::Continue
    })?;
    damaged.map_or(Ok(live), Err)
}

fn differ<T: PartialEq + std::fmt::Debug>(
    found: &mut Vec<String>,
    what: impl Fn() -> String,
    kept: T,
    counted: T,
) {
    if kept != counted {
        found.push(format!("{}: kept {kept:?}, counted {counted:?}", what()));
    }
}

fn accounts(r: &Rows, found: &mut Vec<String>) {
    for (name, id) in &r.names {
        let row = r.accounts.get(id);
        if row.is_none_or(|row| row.name.as_str() != name || row.going) {
            found.push(format!("the name of account {id} leads astray"));
        }
    }
    for (id, row) in &r.accounts {
        differ(
            found,
            || format!("going of account {id}"),
            row.going,
            r.going.contains(id),
        );
        if r.slots
            .get(&id.slot())
            .is_none_or(|slot| *id >= AccountId::new(id.slot(), slot.next_account))
        {
            found.push(format!("account {id} has a number not yet given"));
        }
        if row.going {
            continue;
        }
        if r.names.get(row.name.as_str()) != Some(id) {
            found.push(format!("account {id} has no name"));
        }
        let own = || r.mailboxes.iter().filter(|((a, _), _)| a == id);
        let sum = |f: fn(&MailboxRow) -> u64| own().map(|(_, m)| f(m)).sum::<u64>();
        let kept = [
            row.mailboxes,
            row.messages,
            row.unseen,
            row.deleted,
            row.bytes,
            row.subscriptions,
        ];
        let counted = [
            own().count() as u64,
            sum(|m| m.messages),
            sum(|m| m.unseen),
            sum(|m| m.deleted),
            sum(|m| m.bytes),
            r.subscriptions.get(id).copied().unwrap_or_default(),
        ];
        differ(found, || format!("counters of account {id}"), kept, counted);
        let kept: Vec<ModSeq> = match r.changes.get(id) {
            Some(changes) => changes.keys().copied().collect(),
            None => Vec::new(),
        };
        let want: Vec<ModSeq> = (row.trimmed_modseq + 1..=row.highest_modseq).collect();
        differ(found, || format!("changes of account {id}"), kept, want);
    }
}

fn credentials(r: &Rows, found: &mut Vec<String>) {
    for (account, rows) in &r.credentials {
        let Some(owner) = r.accounts.get(account) else {
            found.push(format!(
                "credentials of account {account}, which is not there"
            ));
            continue;
        };
        if rows.len() > super::limits::APP_PASSWORDS + 1 {
            found.push(format!("account {account} has {} credentials", rows.len()));
        }
        let stamps: BTreeSet<ModSeq> = rows.iter().map(|row| row.modseq).collect();
        let last = stamps.last().copied().unwrap_or(0);
        if stamps.len() != rows.len() || last > owner.highest_modseq {
            found.push(format!(
                "stamps of the credentials of account {account}: {stamps:?}"
            ));
        }
    }
}

fn mailboxes(r: &Rows, found: &mut Vec<String>) {
    let live = |id: &AccountId| r.accounts.get(id).is_some_and(|a| !a.going);
    for ((account, name), mailbox) in r.mailbox_names.iter().filter(|((a, _), _)| live(a)) {
        let row = r.mailboxes.get(&(*account, *mailbox));
        if row.is_none_or(|row| row.name.as_str() != name) {
            found.push(format!("a name in account {account} leads astray"));
        }
    }
    let mut last_change: BTreeMap<(AccountId, MailboxId), ModSeq> = BTreeMap::new();
    for (account, changes) in &r.changes {
        let changes = changes.iter().map(|(modseq, row)| (row.mailbox, *modseq));
        last_change.extend(changes.map(|(mailbox, modseq)| ((*account, mailbox), modseq)));
    }
    for ((account, mailbox), row) in r.mailboxes.iter().filter(|((a, _), _)| live(a)) {
        let what = |what: &str| format!("{what} of mailbox {} of account {account}", mailbox.0);
        let name = (*account, row.name.as_str().to_owned());
        differ(
            found,
            || what("name"),
            r.mailbox_names.get(&name),
            Some(mailbox),
        );
        // What is not trimmed says when the mailbox changed last.
        if row.highest_modseq > r.accounts[account].trimmed_modseq {
            let last = last_change.get(&(*account, *mailbox)).copied();
            differ(found, || what("modseq"), Some(row.highest_modseq), last);
        }
        let first = (*account, *mailbox, 0);
        let last = (*account, *mailbox, Uid::MAX);
        let messages: Vec<_> = r.messages.range(first..=last).collect();
        let has = |bit: u8, set: bool| {
            let n = messages.iter().filter(|(_, m)| (m.flags & bit != 0) == set);
            n.count() as u64
        };
        let counted = [
            messages.len() as u64,
            has(flag::SEEN, false),
            has(flag::DELETED, true),
            messages.iter().map(|(_, m)| m.size).sum(),
        ];
        let kept = [row.messages, row.unseen, row.deleted, row.bytes];
        differ(found, || what("counters"), kept, counted);
        let uids: BTreeSet<Uid> = messages.iter().map(|((_, _, uid), _)| *uid).collect();
        let set = r.uids.get(&(*account, *mailbox)).cloned();
        differ(found, || what("uids"), set.unwrap_or_default(), uids);
        for ((_, _, uid), message) in &messages {
            let top = r.accounts[account].highest_modseq;
            if *uid >= row.uidnext || message.modseq > row.highest_modseq {
                found.push(format!("{} is behind uid {uid}", what("uidnext or modseq")));
            }
            if row.highest_modseq > top {
                found.push(format!("{} is ahead of its account", what("modseq")));
            }
            if !r.emails.contains_key(&(*account, message.email)) {
                found.push(format!("{}: uid {uid} has no email", what("a message")));
            }
            for id in &message.keywords {
                if !r.keywords.contains_key(&(*account, *mailbox, *id)) {
                    found.push(format!("{}: keyword {id} has no name", what("a message")));
                }
            }
        }
        let ids: Vec<u16> = r
            .keywords
            .range((*account, *mailbox, 0)..=(*account, *mailbox, u16::MAX))
            .map(|((_, _, id), name)| {
                let key = (*account, *mailbox, name.to_ascii_lowercase());
                if r.keyword_names.get(&key) != Some(id) {
                    found.push(format!("{} {id} is not found by name", what("keyword")));
                }
                *id
            })
            .collect();
        let want: Vec<u16> = (0..row.next_keyword).collect();
        differ(found, || what("keywords"), ids, want);
    }
}

/// Rows of messages, uids, keywords and annotations belong to a mailbox that is there or going.
fn owners(r: &Rows, found: &mut Vec<String>) {
    let live = |id: &AccountId| r.accounts.get(id).is_some_and(|a| !a.going);
    for (account, mailbox) in r.going_mailboxes.iter().filter(|(a, _)| live(a)) {
        let given = mailbox.0 < r.accounts[account].next_mailbox;
        if !given || r.mailboxes.contains_key(&(*account, *mailbox)) {
            let mailbox = mailbox.0;
            found.push(format!(
                "mailbox {mailbox} of account {account} is not gone"
            ));
        }
    }
    let of_account = MailboxId(0);
    let owners: BTreeSet<(AccountId, MailboxId)> = [
        r.messages.keys().map(|(a, m, _)| (*a, *m)).collect(),
        r.uids.keys().copied().collect::<BTreeSet<_>>(),
        r.keywords.keys().map(|(a, m, _)| (*a, *m)).collect(),
        r.keyword_names.keys().map(|(a, m, _)| (*a, *m)).collect(),
        r.annotations
            .keys()
            .map(|(a, m, _)| (*a, *m))
            .filter(|(_, mailbox)| *mailbox != of_account)
            .collect(),
    ]
    .into_iter()
    .flatten()
    .collect();
    for owner in owners.iter().filter(|(account, _)| live(account)) {
        if !r.mailboxes.contains_key(owner) && !r.going_mailboxes.contains(owner) {
            let (account, mailbox) = (owner.0, owner.1.0);
            found.push(format!(
                "mailbox {mailbox} of account {account} left rows behind"
            ));
        }
    }
    let known = r.accounts.keys().copied().collect::<BTreeSet<_>>();
    let strangers = owners.iter().map(|(account, _)| *account);
    let strangers = strangers
        .chain(r.subscriptions.keys().copied())
        .chain(r.going_mailboxes.iter().map(|(account, _)| *account))
        .chain(r.annotations.keys().map(|(account, ..)| *account));
    for account in strangers.filter(|account| !known.contains(account)) {
        found.push(format!("account {account} left rows behind"));
    }
}

fn octets(r: &Rows, found: &mut Vec<String>) {
    let mut email_refs: BTreeMap<(AccountId, EmailId), u32> = BTreeMap::new();
    for ((account, ..), message) in &r.messages {
        *email_refs.entry((*account, message.email)).or_default() += 1;
    }
    for (account, changes) in &r.changes {
        for (first, last) in changes.values().flat_map(|row| &row.destroyed) {
            let told = (*account, *first)..=(*account, *last);
            if first > last || r.emails.range(told).next().is_some() {
                found.push(format!(
                    "emails {} to {} of account {account} are there and were told as destroyed",
                    first.0, last.0
                ));
            }
        }
    }
    let kept = r.emails.iter().map(|(key, row)| (*key, row.refs));
    differ(
        found,
        || "references of emails".into(),
        kept.collect(),
        email_refs,
    );
    differ(
        found,
        || "emails with a summary".into(),
        r.summaries.clone(),
        r.emails.keys().copied().collect(),
    );
    let mut blob_refs: BTreeMap<BlobId, u64> = BTreeMap::new();
    for row in r.emails.values() {
        *blob_refs.entry(row.blob).or_default() += 1;
    }
    let kept = r.blobs.iter().map(|(blob, row)| (*blob, row.refs));
    differ(
        found,
        || "references of blobs".into(),
        kept.collect(),
        blob_refs,
    );
    for (blob, seq) in r.blob_locs.keys() {
        let chunks = r.blobs.get(blob).map_or(0, |row| row.chunks.len());
        if *seq as usize >= chunks {
            found.push(format!("chunk {seq} of blob {blob} is kept for nothing"));
        }
    }
    for (upload, seq) in r.upload_locs.keys() {
        if !r.upload_chunks.contains_key(&(*upload, *seq)) {
            found.push(format!("chunk {seq} of {upload:?} is kept for nothing"));
        }
    }
    let mut chunks: BTreeMap<UploadId, u32> = BTreeMap::new();
    for (upload, _) in r.upload_chunks.keys() {
        *chunks.entry(*upload).or_default() += 1;
    }
    let kept = r.uploads.iter().map(|(upload, row)| (*upload, row.chunks));
    differ(found, || "chunks of uploads".into(), kept.collect(), chunks);
}

/// A key leads where the first email with it went, and lives as long as its emails. So an email's
/// thread is the lowest that its keys lead to.
fn threads(r: &Rows, found: &mut Vec<String>) {
    let mut refs: BTreeMap<(AccountId, ThreadKey), u64> = BTreeMap::new();
    for ((account, email), row) in &r.emails {
        let keys = || row.thread_keys.iter().map(|key| (*account, *key));
        for key in keys() {
            *refs.entry(key).or_default() += 1;
        }
        let led = keys().filter_map(|key| r.threads.get(&key));
        let lowest = led.map(|row| row.thread).min();
        differ(
            found,
            || format!("thread of email {} of account {account}", email.0),
            row.thread,
            lowest.unwrap_or(ThreadId(email.0)),
        );
    }
    let kept = r.threads.iter().map(|(key, row)| (*key, row.refs));
    differ(
        found,
        || "references of thread keys".into(),
        kept.collect(),
        refs,
    );
}

/// A transfer has a number that was given, and names its messages while it is not over; an answer
/// that is kept is to one that may not be over.
fn transfers(r: &Rows, found: &mut Vec<String>) {
    let mut held: BTreeSet<(AccountId, MailboxId, Uid)> = BTreeSet::new();
    for (id, row) in &r.transfers {
        let given = r.transfer_numbers.get(&id.source);
        if given.is_none_or(|given| id.number == 0 || id.number >= given.next) {
            found.push(format!("{id:?} has a number not yet given"));
        }
        let ascend = row.messages.is_sorted_by(|a, b| a.0 < b.0);
        if row.over != row.messages.is_empty() || !ascend {
            found.push(format!("{id:?} does not name its messages"));
        }
        let messages = row.messages.iter().filter(|_| row.away);
        for (uid, _) in messages {
            if !held.insert((id.source, row.mailbox, *uid)) {
                found.push(format!("{id:?}: uid {uid} is in another transfer"));
            }
        }
    }
    for (account, id) in r.answered.keys() {
        let below = r.arrivals.get(&(*account, id.source));
        if below.is_some_and(|row| id.number < row.below) {
            found.push(format!("the answer to {id:?} is kept for nothing"));
        }
    }
    let targets = r.arrivals.keys().map(|(account, _)| account);
    for account in targets.chain(r.answered.keys().map(|(account, _)| account)) {
        if !r.accounts.contains_key(account) {
            found.push(format!("account {account} left answers behind"));
        }
    }
}

fn requests(r: &Rows, found: &mut Vec<String>) {
    let kept = [r.meta.requests, r.meta.requests, r.meta.request_bytes];
    let counted = [r.requests, r.ages.len() as u64, r.request_bytes];
    differ(
        found,
        || "remembered requests, by age, octets".into(),
        kept,
        counted,
    );
    if r.ages.iter().any(|ms| *ms < r.meta.oldest_request_ms) {
        found.push("a remembered request is older than the oldest".into());
    }
}
