//! Copies, moves, several messages at once, and threads: their steps, and what the model makes of
//! them.

use super::*;

/// Steps that bring messages into a mailbox other than by `Store`.
#[derive(Debug, Clone)]
pub(super) enum Mail {
    /// Whether the originals go; account, mailboxes, uids.
    Carry(bool, usize, usize, usize, Vec<(Uid, Uid)>),
    /// Account, mailbox; flags, blob and thread keys of each message; whether one alone comes by an
    /// upload; what it replaces, in the same mailbox or in INBOX.
    Append(
        usize,
        usize,
        Vec<(u8, usize, u8)>,
        bool,
        Option<(bool, Uid)>,
    ),
}

pub(super) fn mail() -> impl Strategy<Value = Mail> {
    let (a, m) = (0..ACCOUNTS.len(), 0..BOXES.len());
    let item = (0u8..16, 0..BLOBS.len(), any::<u8>());
    let items = prop_oneof![
        2 => prop::collection::vec(item.clone(), 1..2),
        1 => prop::collection::vec(item, 2..5),
    ];
    let replace = prop::option::of((any::<bool>(), 1u32..10));
    prop_oneof![
        (any::<bool>(), a.clone(), m.clone(), m.clone(), uids())
            .prop_map(|(away, a, f, t, u)| Mail::Carry(away, a, f, t, u)),
        (a, m, items, any::<bool>(), replace)
            .prop_map(|(a, m, i, u, r)| Mail::Append(a, m, i, u, r)),
    ]
}

/// The thread keys of these bits: few, so that emails meet.
pub(super) fn thread_keys(bits: u8) -> Vec<ThreadKey> {
    // Most bits off, or all would be one thread.
    let set = (0..4).filter(|bit| bits & (0b10001 << bit) == 0b10001 << bit);
    set.map(|bit| ThreadKey(100 + bit)).collect()
}

/// A blob that arrives under this upload, and its chunks.
pub(super) fn by_upload(octets: &[u8], upload: UploadId) -> (BlobMeta, Vec<Op>) {
    let chunks: Vec<ChunkMeta> = match octets.is_empty() {
        true => vec![chunk(octets)],
        false => octets.chunks(3).map(chunk).collect(),
    };
    let put = |(seq, chunk): (u32, &ChunkMeta)| Op::PutChunk {
        upload,
        seq,
        chunk: *chunk,
    };
    let puts = (0..).zip(&chunks).map(put).collect();
    let blob = BlobMeta {
        id: BlobId::of(octets),
        size: octets.len() as u64,
        chunks,
        upload: Some(upload),
    };
    (blob, puts)
}

/// The commands of a step of [`Mail`].
pub(super) fn mail_commands(step: &Mail, id: [u8; 16]) -> Vec<Op> {
    let mailbox = |m: usize| MailboxRef::from(MailboxName::new(BOXES[m]).unwrap());
    match step {
        Mail::Carry(away, a, from, to, uids) => {
            let copy = CopyMessages {
                request_id: RequestId(id),
                account: account(ACCOUNTS[*a]),
                from: mailbox(*from),
                uids: uids.clone(),
                to: mailbox(*to),
            };
            vec![match away {
                true => Op::Move(copy),
                false => Op::Copy(copy),
            }]
        }
        Mail::Append(a, m, items, alone_by_upload, replace) => {
            let mut ops = Vec::new();
            let mut made = Vec::new();
            for (n, (flags, blob, threads)) in (0u8..).zip(items) {
                let octets = BLOBS[*blob];
                let (mut blob, mut puts) = by_upload(
                    octets,
                    UploadId([[n; 8], [id[15]; 8]].concat().try_into().unwrap()),
                );
                if items.len() == 1 && !alone_by_upload {
                    blob.upload = None;
                    blob.chunks = vec![chunk(octets)];
                    puts.clear();
                }
                ops.extend(puts);
                made.push(AppendItem {
                    flags: names(*flags),
                    internal_date_ms: 1_600_000_000_000 + u64::from(n),
                    blob,
                    summary: vec![n],
                    threads: thread_keys(*threads),
                });
            }
            let replace = replace.filter(|_| items.len() == 1);
            ops.push(Op::AppendMany(Box::new(AppendMany {
                request_id: RequestId(id),
                account: account(ACCOUNTS[*a]),
                mailbox: mailbox(*m),
                items: made,
                replace: match replace {
                    None => Replaced::Nothing,
                    Some((same, uid)) => Replaced::At(MailboxId(u32::from(!same)), uid),
                },
            })));
            ops
        }
    }
}

impl Mailbox {
    /// Takes over an era that the model does not know how to give.
    fn learn(&mut self, uidvalidity: u32) {
        assert!(self.uidvalidity == 0 || self.uidvalidity == uidvalidity);
        self.uidvalidity = uidvalidity;
    }

    pub(super) fn add(&mut self, message: Message) -> Uid {
        self.uidnext += 1;
        self.messages.insert(self.uidnext, message);
        self.uidnext
    }
}

/// The number and the thread of a new email with these keys.
pub(super) fn new_email(
    emails: &mut u64,
    threads: &mut BTreeMap<ThreadKey, u64>,
    keys: &[ThreadKey],
) -> (u64, u64) {
    *emails += 1;
    let led = keys.iter().filter_map(|key| threads.get(key).copied());
    let thread = led.min().unwrap_or(*emails);
    for key in keys {
        threads.entry(*key).or_insert(thread);
    }
    (*emails, thread)
}

impl Account {
    /// Forgets emails that no message shows, and keys that no email has.
    pub(super) fn forget(&mut self) {
        let there = self.boxes.values().map(|m| &m.messages);
        let shown = there.chain(self.going.values()).flat_map(|m| m.values());
        let shown: BTreeSet<u64> = shown.map(|m| m.email).collect();
        self.email_keys.retain(|email, _| shown.contains(email));
        let kept: BTreeSet<&ThreadKey> = self.email_keys.values().flatten().collect();
        self.threads.retain(|key, _| kept.contains(key));
    }
}

impl Model {
    /// Whether the octets of a blob are there; its upload is over.
    pub(super) fn arrived(&mut self, blob: &BlobMeta) -> bool {
        blob.upload.is_none_or(|upload| {
            let chunks = self.uploads.remove(&upload).unwrap_or_default();
            chunks.into_values().eq(blob.chunks.iter().copied())
        })
    }

    pub(super) fn append(&mut self, append: &AppendMany, reply: &Reply) -> Reply {
        let arrived: Vec<bool> = append.items.iter().map(|i| self.arrived(&i.blob)).collect();
        let Some(a) = self.accounts.get_mut(&append.account) else {
            return Reply::Error(ApplyError::NoAccount);
        };
        let key = (a.id, "append".to_owned(), append.request_id);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let Some(to) = a.find(&append.mailbox) else {
            return Reply::Error(ApplyError::NoMailbox);
        };
        if arrived.contains(&false) {
            return Reply::Error(ApplyError::NoUpload);
        }
        let replaced = append.replace.parts().map(|(id, _, uid)| match id.0 {
            0 => (to.clone(), uid),
            _ => (MailboxName::inbox(), uid),
        });
        if let Some((name, uid)) = &replaced
            && !a.boxes[name].messages.contains_key(uid)
        {
            return Reply::Error(ApplyError::NoMessage);
        }
        let Reply::Appended {
            mailbox,
            uidvalidity,
            ..
        } = reply
        else {
            panic!("{reply:?}")
        };
        let m = a.boxes.get_mut(&to).unwrap();
        m.learn(*uidvalidity);
        a.modseq += 1;
        m.modseq = a.modseq;
        assert_eq!(mailbox.0, m.id);
        let (first_uid, first_email) = (m.uidnext + 1, a.emails + 1);
        for item in &append.items {
            let (email, thread) = new_email(&mut a.emails, &mut a.threads, &item.threads);
            a.email_keys.insert(email, item.threads.clone());
            m.add(Message {
                flags: item.flags.iter().cloned().collect(),
                modseq: a.modseq,
                blob: item.blob.id,
                email,
                thread,
            });
        }
        if let Some((name, uid)) = replaced {
            a.modseq += 1;
            let m = a.boxes.get_mut(&name).unwrap();
            m.messages.remove(&uid);
            m.modseq = a.modseq;
        }
        let reply = Reply::Appended {
            mailbox: *mailbox,
            uidvalidity: *uidvalidity,
            uid: first_uid,
            count: append.items.len() as u32,
            email: EmailId(first_email),
            modseq: a.modseq,
        };
        self.answers.insert(key, reply.clone());
        a.forget();
        reply
    }

    pub(super) fn carry(&mut self, copy: &CopyMessages, away: bool, reply: &Reply) -> Reply {
        let Some(a) = self.accounts.get_mut(&copy.account) else {
            return Reply::Error(ApplyError::NoAccount);
        };
        let key = (a.id, format!("carry {away}"), copy.request_id);
        if let Some(first) = self.answers.get(&key) {
            return first.clone();
        }
        let (Some(from), Some(to)) = (a.find(&copy.from), a.find(&copy.to)) else {
            return Reply::Error(ApplyError::NoMailbox);
        };
        let source = a.boxes.get_mut(&from).unwrap();
        let holds = |uid: &Uid| self.transfers.holds(a.id, source.id, *uid);
        let chosen = |uid: &&Uid| within(**uid, &copy.uids);
        if away && source.messages.keys().filter(chosen).any(holds) {
            return Reply::Error(ApplyError::InTransfer);
        }
        let Reply::Copied { uidvalidity, .. } = reply else {
            panic!("{reply:?}")
        };
        let chosen = |(uid, _): &(&Uid, &Message)| within(**uid, &copy.uids);
        let found = source.messages.iter().filter(chosen);
        let found: Vec<(Uid, Message)> = found.map(|(uid, m)| (*uid, m.clone())).collect();
        if away {
            found.iter().for_each(|(uid, _)| {
                source.messages.remove(uid);
            });
        }
        let target = a.boxes.get_mut(&to).unwrap();
        target.learn(*uidvalidity);
        a.modseq += !found.is_empty() as u64;
        let (mut gone, mut made) = (BTreeSet::new(), BTreeSet::new());
        for (uid, message) in found {
            gone.insert(uid);
            let modseq = a.modseq;
            made.insert(target.add(Message { modseq, ..message }));
            target.modseq = modseq;
        }
        if away && !gone.is_empty() {
            a.modseq += 1;
            a.boxes.get_mut(&from).unwrap().modseq = a.modseq;
        }
        let reply = Reply::Copied {
            uidvalidity: *uidvalidity,
            modseq: a.modseq,
            from: ranges(&gone),
            to: ranges(&made),
        };
        self.answers.insert(key, reply.clone());
        reply
    }
}
