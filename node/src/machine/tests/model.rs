//! Random commands against a naive model, and against themselves in other groupings.
//!
//! The model keeps what a reader of the RFCs would keep: mailboxes of messages with flags, and the
//! answers it gave. Every reply and, after each command, every message must be the same.

mod mail;
mod transfers;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::index::rocks::RocksOpener;
use crate::machine::read;
use mail::{Mail, by_upload, mail_commands, new_email, thread_keys};
use transfers::{Transfer, Transfers, aim_transfer, finish_transfers, transfer_command};

const ACCOUNTS: [&str; 3] = ["ann@x", "bob@x", "cyd@x"];
const BOXES: [&str; 6] = [
    "INBOX",
    "Work",
    "Work/Old",
    "Work/Old/Work",
    "Home",
    "Home/Old",
];
/// Places to name a mailbox by: names, then numbers from 1.
const PLACES: usize = BOXES.len() + 4;
const FLAGS: [&str; 4] = ["\\Seen", "\\Deleted", "k1", "k2"];
const BLOBS: [&[u8]; 4] = [b"", b"one", b"two", b"three blobs"];

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Delete(usize),
    Reap(u32),
    Mailbox(usize, usize),
    DeleteMailbox(usize, usize),
    ReapMailbox(u32),
    Rename(usize, usize, usize),
    Subscribe(usize, usize, bool),
    Store(Vec<(usize, usize, u8)>, usize, bool),
    Flags(usize, usize, Vec<(Uid, Uid)>, FlagMode, u8, u64),
    Expunge(usize, usize, Vec<(Uid, Uid)>, bool),
    Mail(Mail),
    Transfer(Transfer),
    /// Sends an earlier command again.
    Retry(prop::sample::Index),
}

fn uids() -> impl Strategy<Value = Vec<(Uid, Uid)>> {
    let range = (1u32..12, 0u32..6).prop_map(|(a, n)| (a, a + n));
    prop_oneof![
        4 => prop::collection::vec(range, 1..3),
        1 => Just(vec![(1, u32::MAX)]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Mostly INBOX, where the mail is.
    let m = prop_oneof![1 => Just(0), 2 => 0..PLACES];
    let (a, name) = (0..ACCOUNTS.len(), 0..BOXES.len());
    let mode = prop::sample::select(vec![FlagMode::Add, FlagMode::Remove, FlagMode::Replace]);
    let to = prop::collection::vec((a.clone(), m.clone(), 0u8..16), 1..4);
    prop_oneof![
        2 => a.clone().prop_map(Step::Create),
        1 => a.clone().prop_map(Step::Delete),
        2 => (1u32..5).prop_map(Step::Reap),
        2 => (a.clone(), name.clone()).prop_map(|(a, m)| Step::Mailbox(a, m)),
        2 => (a.clone(), m.clone()).prop_map(|(a, m)| Step::DeleteMailbox(a, m)),
        2 => (1u32..5).prop_map(Step::ReapMailbox),
        3 => (a.clone(), m.clone(), name.clone()).prop_map(|(a, m, to)| Step::Rename(a, m, to)),
        2 => (a.clone(), name, any::<bool>()).prop_map(|(a, m, on)| Step::Subscribe(a, m, on)),
        8 => (to, 0..BLOBS.len(), any::<bool>()).prop_map(|(t, b, u)| Step::Store(t, b, u)),
        5 => (a.clone(), m.clone(), uids(), mode, 0u8..16, 0u64..12)
            .prop_map(|(a, m, u, mode, f, s)| Step::Flags(a, m, u, mode, f, s)),
        3 => (a, m, uids(), any::<bool>()).prop_map(|(a, m, u, f)| Step::Expunge(a, m, u, f)),
        8 => mail::mail().prop_map(Step::Mail),
        8 => transfers::transfer().prop_map(Step::Transfer),
        3 => any::<prop::sample::Index>().prop_map(Step::Retry),
    ]
}

fn names(bits: u8) -> Vec<String> {
    let set = (0..4).filter(|bit| bits & (1 << bit) != 0);
    set.map(|bit| FLAGS[bit].to_owned()).collect()
}

/// The commands of the steps. `Reap` and `ReapMailbox` name nothing yet: the run fills it in.
fn commands(steps: &[Step]) -> Vec<Vec<Op>> {
    let mut made: Vec<Vec<Op>> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(n as u64).to_be_bytes());
        let request_id = RequestId(id);
        let account = |a: &usize| account(ACCOUNTS[*a]);
        let name = |m: &usize| MailboxName::new(BOXES[*m]).unwrap();
        let mailbox = |m: &usize| match m.checked_sub(BOXES.len()) {
            None => MailboxRef::Name(name(m)),
            Some(n) => MailboxRef::Id {
                id: MailboxId(n as u32 + 1),
                uidvalidity: 0,
            },
        };
        made.push(match step {
            Step::Create(a) => vec![create_account(request_id, ACCOUNTS[*a])],
            Step::Delete(a) => vec![Op::DeleteAccount {
                request_id,
                name: account(a),
            }],
            Step::Reap(limit) => vec![Op::ReapAccount {
                account: AccountId(0),
                limit: *limit,
            }],
            Step::Mailbox(a, m) => vec![Op::CreateMailbox {
                request_id,
                account: account(a),
                mailbox: name(m),
                special_use: *m as u16,
            }],
            Step::DeleteMailbox(a, m) => vec![Op::DeleteMailbox {
                request_id,
                account: account(a),
                mailbox: mailbox(m),
            }],
            Step::ReapMailbox(limit) => vec![Op::ReapMailbox {
                account: AccountId(0),
                mailbox: MailboxId(0),
                limit: *limit,
            }],
            Step::Rename(a, m, to) => vec![Op::RenameMailbox {
                request_id,
                account: account(a),
                mailbox: mailbox(m),
                to: name(to),
            }],
            Step::Subscribe(a, m, on) => vec![Op::Subscribe {
                request_id,
                account: account(a),
                mailbox: name(m),
                on: *on,
            }],
            Step::Store(to, blob, chunked) => {
                let octets = BLOBS[*blob];
                let targets = (0u8..).zip(to).map(|(t, (a, m, flags))| {
                    id[0] = t;
                    Target {
                        request_id: RequestId(id),
                        account: account(a),
                        mailbox: mailbox(m),
                        flags: names(*flags),
                    }
                });
                let mut store = store_targets(targets.collect(), octets);
                let mut ops = Vec::new();
                if let Op::Store(store) = &mut store {
                    store.threads = thread_keys((n as u8).wrapping_mul(37));
                    if *chunked {
                        (store.blob, ops) = by_upload(octets, UploadId(id));
                    }
                }
                ops.push(store);
                ops
            }
            Step::Flags(a, m, uids, mode, flags, since) => vec![Op::SetFlags {
                request_id,
                account: account(a),
                mailbox: mailbox(m),
                uids: uids.clone(),
                mode: *mode,
                flags: names(*flags),
                unchanged_since: (*since != 0).then_some(*since),
            }],
            Step::Expunge(a, m, uids, force) => vec![Op::Expunge {
                request_id,
                account: account(a),
                mailbox: mailbox(m),
                uids: uids.clone(),
                force: *force,
            }],
            Step::Mail(step) => mail_commands(step, id),
            Step::Transfer(step) => vec![transfer_command(step, request_id)],
            Step::Retry(at) if n > 0 => made[at.index(n)].clone(),
            Step::Retry(_) => vec![],
        });
    }
    made
}

#[derive(Debug, Clone, PartialEq)]
struct Message {
    flags: BTreeSet<String>,
    modseq: ModSeq,
    blob: BlobId,
    email: u64,
    thread: u64,
}

#[derive(Default)]
struct Mailbox {
    id: u32,
    special_use: u16,
    modseq: ModSeq,
    uidvalidity: u32,
    uidnext: Uid,
    messages: BTreeMap<Uid, Message>,
}

#[derive(Default)]
struct Account {
    id: u64,
    modseq: ModSeq,
    emails: u64,
    /// Where each key leads, for as long as an email has it.
    threads: BTreeMap<ThreadKey, u64>,
    /// The keys of emails that a message shows.
    email_keys: BTreeMap<u64, Vec<ThreadKey>>,
    boxes: BTreeMap<MailboxName, Mailbox>,
    /// Messages of deleted mailboxes that are not reaped yet: their emails still have keys.
    going: BTreeMap<u32, BTreeMap<Uid, Message>>,
    given_boxes: u32,
    subscriptions: BTreeSet<MailboxName>,
}

#[derive(Default)]
struct Model {
    accounts: BTreeMap<AccountName, Account>,
    given: BTreeSet<u64>,
    answers: BTreeMap<(u64, String, RequestId), Reply>,
    uploads: BTreeMap<UploadId, BTreeMap<u32, ChunkMeta>>,
    /// The last uidvalidity that an account of this name gave.
    eras: BTreeMap<AccountName, u32>,
    transfers: Transfers,
}

fn within(uid: Uid, ranges: &[(Uid, Uid)]) -> bool {
    ranges.iter().any(|(a, b)| (*a..=*b).contains(&uid))
}

fn ranges(uids: &BTreeSet<Uid>) -> Vec<(Uid, Uid)> {
    let starts = uids.iter().filter(|u| !uids.contains(&(**u - 1)));
    starts
        .map(|first| {
            let last = (*first..).take_while(|u| uids.contains(u)).last();
            (*first, last.unwrap())
        })
        .collect()
}

impl Account {
    /// The name of the mailbox that a reference means.
    fn find(&self, mailbox: &MailboxRef) -> Option<MailboxName> {
        let name = match mailbox {
            MailboxRef::Name(name) => self.boxes.contains_key(name).then_some(name),
            MailboxRef::Id { id, .. } => {
                let mut all = self.boxes.iter();
                all.find(|(_, m)| m.id == id.0).map(|(name, _)| name)
            }
        };
        name.cloned()
    }

    /// The names above this one that no mailbox has, the highest first.
    fn missing_parents(&self, name: &MailboxName) -> Vec<MailboxName> {
        let levels: Vec<&str> = name.as_str().split('/').collect();
        (1..levels.len())
            .map(|n| MailboxName::new(&levels[..n].join("/")).unwrap())
            .filter(|parent| !self.boxes.contains_key(parent))
            .collect()
    }

    /// Makes mailboxes, the last of which has this era; one change and one era for each.
    fn make(&mut self, names: Vec<MailboxName>, last_era: u32) {
        let n = names.len() as u32;
        for (name, before_last) in names.into_iter().zip((0..n).rev()) {
            self.given_boxes += 1;
            self.modseq += 1;
            let new = Mailbox {
                id: self.given_boxes,
                modseq: self.modseq,
                uidvalidity: last_era - before_last,
                ..Mailbox::default()
            };
            self.boxes.insert(name, new);
        }
    }

    /// Mailboxes and their new names when one of them is renamed; itself first.
    fn renamed(&self, from: &MailboxName, to: &MailboxName) -> Vec<(MailboxName, MailboxName)> {
        let below = format!("{from}/");
        let child = |name: &MailboxName| {
            let rest = name.as_str().strip_prefix(&below)?;
            Some((
                name.clone(),
                MailboxName::new(&format!("{to}/{rest}")).unwrap(),
            ))
        };
        let children = self.boxes.keys().filter_map(child);
        std::iter::once((from.clone(), to.clone()))
            .chain(children)
            .collect()
    }
}

impl Model {
    /// Checks a reply against what it should be, and takes over ids that the model does not know
    /// how to give.
    fn apply(&mut self, op: &Op, reply: &Reply) {
        let want = match op {
            Op::CreateAccount { request_id, name } => {
                let key = (0, format!("create {name}"), *request_id);
                if let Some(first) = self.answers.get(&key) {
                    first.clone()
                } else if self.accounts.contains_key(name) {
                    Reply::Error(ApplyError::Exists)
                } else {
                    let Reply::Account { account, .. } = reply else {
                        panic!("{reply:?}")
                    };
                    assert!(self.given.insert(account.0), "an account's id came twice");
                    let mut new = Account {
                        id: account.0,
                        modseq: 1,
                        ..Account::default()
                    };
                    // Nothing says its era yet; the first store, or the end, will.
                    new.given_boxes = 1;
                    let inbox = Mailbox {
                        id: 1,
                        modseq: 1,
                        ..Mailbox::default()
                    };
                    new.boxes.insert(MailboxName::inbox(), inbox);
                    self.accounts.insert(name.clone(), new);
                    self.answers.insert(key, reply.clone());
                    reply.clone()
                }
            }
            Op::DeleteAccount { request_id, name } => {
                let key = (0, format!("delete {name}"), *request_id);
                if let Some(first) = self.answers.get(&key) {
                    first.clone()
                } else if self.accounts.remove(name).is_none() {
                    Reply::Error(ApplyError::NoAccount)
                } else {
                    assert!(matches!(reply, Reply::Account { .. }), "{reply:?}");
                    self.answers.insert(key, reply.clone());
                    reply.clone()
                }
            }
            Op::CreateMailbox { .. }
            | Op::DeleteMailbox { .. }
            | Op::RenameMailbox { .. }
            | Op::Subscribe { .. } => self.mailboxes(op, reply),
            Op::PutChunk { upload, seq, chunk } => {
                let chunks = self.uploads.entry(*upload).or_default();
                chunks.insert(*seq, *chunk);
                Reply::Done
            }
            Op::Store(store) => self.store(store, reply),
            Op::AppendMany(append) => self.append(append, reply),
            Op::Copy(copy) => self.carry(copy, false, reply),
            Op::Move(copy) => self.carry(copy, true, reply),
            Op::SetFlags { .. } | Op::Expunge { .. } => self.change(op),
            Op::BeginTransfer(_)
            | Op::Arrive(_)
            | Op::EndTransfer { .. }
            | Op::ForgetArrivals { .. }
            | Op::SettleTransfers { .. } => self.transfer(op, reply),
            Op::ReapMailbox {
                account,
                mailbox,
                limit,
            } => {
                let mut all = self.accounts.values_mut();
                if let Some(a) = all.find(|a| a.id == account.0)
                    && let Some(messages) = a.going.get_mut(&mailbox.0)
                {
                    let last = messages.keys().nth(*limit as usize).copied();
                    match last {
                        Some(next) => *messages = messages.split_off(&next),
                        None => messages.clear(),
                    }
                    a.forget();
                }
                assert!(matches!(reply, Reply::Reaped { .. }), "{reply:?}");
                reply.clone()
            }
            Op::ReapAccount { .. } => {
                assert!(matches!(reply, Reply::Reaped { .. }), "{reply:?}");
                reply.clone()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(*reply, want, "{op:?}");
    }

    fn mailboxes(&mut self, op: &Op, reply: &Reply) -> Reply {
        let (Op::CreateMailbox {
            request_id,
            account,
            ..
        }
        | Op::DeleteMailbox {
            request_id,
            account,
            ..
        }
        | Op::RenameMailbox {
            request_id,
            account,
            ..
        }
        | Op::Subscribe {
            request_id,
            account,
            ..
        }) = op
        else {
            panic!("{op:?}")
        };
        let Some(a) = self.accounts.get_mut(account) else {
            return Reply::Error(ApplyError::NoAccount);
        };
        let kind = match op {
            Op::CreateMailbox { .. } => "create box",
            Op::DeleteMailbox { .. } => "delete box",
            Op::RenameMailbox { .. } => "rename box",
            _ => "subscribe",
        };
        let key = (a.id, kind.to_owned(), *request_id);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let era = self.eras.entry(account.clone()).or_default();
        let done = match op {
            Op::CreateMailbox {
                mailbox,
                special_use,
                ..
            } => create_box(a, era, mailbox, *special_use, reply),
            Op::DeleteMailbox { mailbox, .. } => match a.find(mailbox) {
                None => Err(ApplyError::NoMailbox),
                Some(name) if name == MailboxName::inbox() => {
                    Err(ApplyError::Refused("INBOX cannot be deleted".into()))
                }
                Some(name) => {
                    let gone = a.boxes.remove(&name).unwrap();
                    a.going.insert(gone.id, gone.messages);
                    a.modseq += 1;
                    Ok(Reply::Changed { modseq: a.modseq })
                }
            },
            Op::RenameMailbox { mailbox, to, .. } => rename_box(a, era, mailbox, to, reply),
            Op::Subscribe { mailbox, on, .. } => {
                let changed = match on {
                    true => a.subscriptions.insert(mailbox.clone()),
                    false => a.subscriptions.remove(mailbox),
                };
                a.modseq += changed as u64;
                if let (true, Some(m)) = (changed, a.boxes.get_mut(mailbox)) {
                    m.modseq = a.modseq;
                }
                Ok(Reply::Changed { modseq: a.modseq })
            }
            other => panic!("{other:?}"),
        };
        match done {
            Ok(reply) => {
                self.answers.insert(key, reply.clone());
                reply
            }
            Err(e) => Reply::Error(e),
        }
    }

    fn store(&mut self, store: &Store, reply: &Reply) -> Reply {
        let Reply::Stored(got) = reply else {
            panic!("{reply:?}")
        };
        let arrived = self.arrived(&store.blob);
        let mut results = Vec::new();
        for (t, got) in store.targets.iter().zip(got) {
            let failed = |e| StoreResult::Failed(e);
            let Some(a) = self.accounts.get_mut(&t.account) else {
                results.push(failed(ApplyError::NoAccount));
                continue;
            };
            let key = (a.id, format!("store {:?}", t.mailbox), t.request_id);
            if let Some(Reply::Stored(first)) = self.answers.get(&key) {
                let mut first = first[0].clone();
                if let StoreResult::Stored { duplicate, .. } = &mut first {
                    *duplicate = true;
                }
                results.push(first);
                continue;
            }
            let Some(name) = a.find(&t.mailbox) else {
                results.push(failed(ApplyError::NoMailbox));
                continue;
            };
            let m = a.boxes.get_mut(&name).unwrap();
            if !arrived {
                results.push(failed(ApplyError::NoUpload));
                continue;
            }
            let (email, thread) = new_email(&mut a.emails, &mut a.threads, &store.threads);
            a.email_keys.insert(email, store.threads.clone());
            a.modseq += 1;
            m.uidnext += 1;
            let StoreResult::Stored { uidvalidity, .. } = got else {
                panic!("{got:?}")
            };
            assert!(m.uidvalidity == 0 || m.uidvalidity == *uidvalidity);
            m.uidvalidity = *uidvalidity;
            m.modseq = a.modseq;
            let message = Message {
                flags: t.flags.iter().cloned().collect(),
                modseq: a.modseq,
                blob: store.blob.id,
                email,
                thread,
            };
            m.messages.insert(m.uidnext, message);
            let result = StoreResult::Stored {
                mailbox: MailboxId(m.id),
                uidvalidity: *uidvalidity,
                uid: m.uidnext,
                modseq: a.modseq,
                email: EmailId(email),
                duplicate: false,
            };
            self.answers
                .insert(key, Reply::Stored(vec![result.clone()]));
            results.push(result);
        }
        Reply::Stored(results)
    }

    fn change(&mut self, op: &Op) -> Reply {
        let (Op::SetFlags {
            request_id,
            account,
            mailbox,
            uids,
            ..
        }
        | Op::Expunge {
            request_id,
            account,
            mailbox,
            uids,
            ..
        }) = op
        else {
            panic!("{op:?}")
        };
        let Some(a) = self.accounts.get_mut(account) else {
            return Reply::Error(ApplyError::NoAccount);
        };
        let kind = matches!(op, Op::Expunge { .. });
        let key = (a.id, format!("change {kind}"), *request_id);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let Some(name) = a.find(mailbox) else {
            return Reply::Error(ApplyError::NoMailbox);
        };
        let m = a.boxes.get_mut(&name).unwrap();
        let next = a.modseq + 1;
        let (mut touched, mut failed) = (BTreeSet::new(), BTreeSet::new());
        let reply = match op {
            Op::SetFlags {
                mode,
                flags,
                unchanged_since,
                ..
            } => {
                let flags: BTreeSet<String> = flags.iter().cloned().collect();
                for (uid, message) in m.messages.iter_mut().filter(|(u, _)| within(**u, uids)) {
                    if unchanged_since.is_some_and(|since| message.modseq > since) {
                        failed.insert(*uid);
                        continue;
                    }
                    let new: BTreeSet<String> = match mode {
                        FlagMode::Add => message.flags.union(&flags).cloned().collect(),
                        FlagMode::Remove => message.flags.difference(&flags).cloned().collect(),
                        FlagMode::Replace => flags.clone(),
                    };
                    if new != message.flags {
                        touched.insert(*uid);
                        message.flags = new;
                        message.modseq = next;
                    }
                }
                a.modseq += !touched.is_empty() as u64;
                Reply::Flags {
                    modseq: a.modseq,
                    changed: ranges(&touched),
                    modified: ranges(&failed),
                }
            }
            Op::Expunge { force, .. } => {
                m.messages.retain(|uid, message| {
                    let goes =
                        within(*uid, uids) && (*force || message.flags.contains("\\Deleted"));
                    if goes {
                        touched.insert(*uid);
                    }
                    !goes
                });
                a.modseq += !touched.is_empty() as u64;
                Reply::Expunged {
                    modseq: a.modseq,
                    vanished: ranges(&touched),
                }
            }
            other => panic!("{other:?}"),
        };
        if !touched.is_empty() {
            m.modseq = next;
        }
        self.answers.insert(key, reply.clone());
        a.forget();
        reply
    }

    /// Every message, read back.
    fn check(&self, b: &Bench) {
        for (name, a) in &self.accounts {
            let (id, row) = read::account(&*b.index, b.space, name).unwrap().unwrap();
            assert_eq!((id.0, row.highest_modseq), (a.id, a.modseq));
            let boxes = read::mailboxes(&*b.index, b.space, id).unwrap();
            assert_eq!(boxes.len(), a.boxes.len());
            let names = read::subscriptions(&*b.index, b.space, id).unwrap();
            assert!(
                names
                    .iter()
                    .eq(a.subscriptions.iter().map(|name| name.as_str()))
            );
            for (box_id, row) in boxes {
                let m = &a.boxes[&row.name];
                assert_eq!(row.uidnext, m.uidnext + 1);
                assert_eq!(
                    (box_id.0, row.special_use, row.highest_modseq),
                    (m.id, m.special_use, m.modseq)
                );
                assert!(m.uidvalidity == row.uidvalidity || m.uidvalidity == 0);
                let keywords = read::keywords(&*b.index, b.space, id, box_id).unwrap();
                let all = (1, Uid::MAX);
                let (rows, _) =
                    read::messages(&*b.index, b.space, id, box_id, all, usize::MAX).unwrap();
                let got: BTreeMap<Uid, Message> = rows
                    .into_iter()
                    .map(|(uid, row)| {
                        let email = read::email(&*b.index, b.space, id, row.email).unwrap();
                        let email = email.unwrap();
                        let message = Message {
                            flags: read::flag_names(&row, &keywords).into_iter().collect(),
                            modseq: row.modseq,
                            blob: email.blob,
                            email: row.email.0,
                            thread: email.thread.0,
                        };
                        (uid, message)
                    })
                    .collect();
                assert_eq!(got, m.messages);
                for message in got.values() {
                    let loc = read::chunk_loc(&*b.index, b.space, message.blob, 0).unwrap();
                    assert!(loc.is_some(), "octets of a message have no place");
                }
            }
        }
    }
}

fn create_box(
    a: &mut Account,
    era: &mut u32,
    name: &MailboxName,
    special_use: u16,
    reply: &Reply,
) -> Result<Reply, ApplyError> {
    if a.boxes.contains_key(name) {
        return Err(ApplyError::Exists);
    }
    let mut names = a.missing_parents(name);
    names.push(name.clone());
    // How an era is chosen is not the model's to know; that it rises over all that went before is.
    let Reply::Mailbox { uidvalidity, .. } = reply else {
        panic!("{reply:?}")
    };
    assert!(*uidvalidity >= *era + names.len() as u32, "{reply:?}");
    *era = *uidvalidity;
    a.make(names, *uidvalidity);
    let made = a.boxes.get_mut(name).unwrap();
    made.special_use = special_use;
    Ok(Reply::Mailbox {
        mailbox: MailboxId(made.id),
        uidvalidity: *uidvalidity,
        modseq: a.modseq,
    })
}

fn rename_box(
    a: &mut Account,
    era: &mut u32,
    mailbox: &MailboxRef,
    to: &MailboxName,
    reply: &Reply,
) -> Result<Reply, ApplyError> {
    let from = a.find(mailbox).ok_or(ApplyError::NoMailbox)?;
    if from == MailboxName::inbox() {
        return Err(ApplyError::Refused("INBOX keeps its name".into()));
    }
    if to.as_str().starts_with(&format!("{from}/")) {
        return Err(ApplyError::Refused(
            "a mailbox cannot come below itself".into(),
        ));
    }
    let renamed = a.renamed(&from, to);
    let taken = |name: &MailboxName| {
        a.boxes.contains_key(name) && renamed.iter().all(|(leaves, _)| leaves != name)
    };
    if a.boxes.contains_key(to) || renamed.iter().any(|(_, new)| taken(new)) {
        return Err(ApplyError::Exists);
    }
    for parent in a.missing_parents(to) {
        // Its era is not in the answer.
        *era += 1;
        a.make(vec![parent.clone()], u32::MAX);
        a.boxes.get_mut(&parent).unwrap().uidvalidity = 0;
    }
    let mut moved = Vec::new();
    for (old, new) in renamed {
        let mut m = a.boxes.remove(&old).unwrap();
        a.modseq += 1;
        m.modseq = a.modseq;
        moved.push((new, m));
    }
    if let (0, Reply::Mailbox { uidvalidity, .. }) = (moved[0].1.uidvalidity, reply) {
        moved[0].1.uidvalidity = *uidvalidity;
    }
    let reply = Reply::Mailbox {
        mailbox: MailboxId(moved[0].1.id),
        uidvalidity: moved[0].1.uidvalidity,
        modseq: a.modseq,
    };
    a.boxes.extend(moved);
    Ok(reply)
}

/// Names the account or the mailbox to reap, as the worker would, or what transfers are at.
fn aim(b: &Bench, op: &Op, turn: usize) -> Vec<Op> {
    let reap = match op {
        Op::ReapMailbox { limit, .. } => {
            let found = read::reapable_mailbox(&*b.index, b.space).unwrap();
            let (account, mailbox) = found.unwrap_or((AccountId(0), MailboxId(0)));
            Op::ReapMailbox {
                account,
                mailbox,
                limit: *limit,
            }
        }
        Op::ReapAccount { limit, .. } => Op::ReapAccount {
            account: read::reapable(&*b.index, b.space)
                .unwrap()
                .unwrap_or(AccountId(0)),
            limit: *limit,
        },
        other => return aim_transfer(b, other, turn),
    };
    vec![reap]
}

/// Applies commands in groups; a group ends after each command whose bit is set.
fn replay(mut b: Bench, commands: &[Command], ends: &[bool]) -> (Bench, Vec<Reply>) {
    let mut replies = Vec::new();
    let mut group = Vec::new();
    for (n, command) in commands.iter().enumerate() {
        group.push(command.clone());
        if ends[n % ends.len()] || n + 1 == commands.len() {
            replies.extend(b.batch(&group));
            group.clear();
        }
    }
    (b, replies)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn commands_do_what_the_model_does(
        steps in prop::collection::vec(step(), 1..60),
        ends in prop::collection::vec(any::<bool>(), 1..20),
        with_rocks in prop::bool::weighted(0.1),
    ) {
        let mut b = Bench::new();
        let mut model = Model::default();
        let mut log = Vec::new();
        let mut replies = Vec::new();
        // Some mail to begin with, so that most steps find something.
        let mut start: Vec<Step> = (0..2).map(Step::Create).collect();
        start.push(Step::Mailbox(0, 1));
        start.extend((0..6).map(|n| Step::Store(vec![(n % 2, 0, n as u8), (0, 1, 0)], n % 4, n == 5)));
        start.extend(steps);
        for op in commands(&start).iter().flatten() {
            // The clock stands, jumps ahead, goes back.
            b.now_ms = match log.len() % 5 {
                1 => b.now_ms + 1700,
                3 => b.now_ms - 600,
                _ => b.now_ms,
            };
            for op in aim(&b, op, log.len()) {
                let command = Command { time_ms: b.now_ms, op };
                let reply = b.batch(std::slice::from_ref(&command)).remove(0);
                model.apply(&command.op, &reply);
                log.push(command);
                replies.push(reply);
            }
        }
        model.check(&b);
        b.audit();
        let (again, same) = replay(Bench::new(), &log, &ends);
        prop_assert!(again.hash() == b.hash(), "grouping commands changed the state");
        prop_assert_eq!(&same, &replies);
        again.audit();
        if with_rocks {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let index = runtime.block_on(RocksOpener.open(dir.path())).unwrap();
            let (rocks, same) = replay(Bench::over(index, Space(3)), &log, &ends);
            prop_assert!(rocks.hash() == b.hash(), "the arm or the space changed the state");
            prop_assert_eq!(&same, &replies);
            rocks.audit();
        }
        // Whatever is deleted goes without a trace but its remembered requests.
        for name in ACCOUNTS {
            b.apply(Op::DeleteAccount { request_id: fresh(), name: account(name) });
        }
        while let Some(account) = read::reapable(&*b.index, b.space).unwrap() {
            b.apply(Op::ReapAccount { account, limit: 7 });
        }
        finish_transfers(&mut b);
        b.audit();
        let kept = [0x11, 0x12, 0x13, 0x14];
        for tag in (0x03..=0x60).filter(|tag| !kept.contains(tag)) {
            prop_assert_eq!(b.count(tag), 0, "rows of tag {:#x} are left", tag);
        }
    }
}
