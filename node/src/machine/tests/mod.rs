//! Tests of the machine: a cluster of one, without a log.

mod credentials;
mod mailboxes;
mod messages;
mod model;
mod operations;
mod system;
mod transfers;

use std::sync::Arc;

use crate::index::keys::{Key, Space};
use crate::index::memory::MemoryOpener;
use crate::index::values::Row;
use crate::index::{Family, Index, IndexOpener, Next};
use crate::machine::command::*;
use crate::machine::{Event, Txn, apply, audit, hash, local};
use crate::types::*;

/// Rows under test, and a journal that is only a counter.
pub struct Bench {
    pub index: Arc<dyn Index>,
    pub space: Space,
    pub now_ms: u64,
    pub events: Vec<Event>,
    offset: u32,
}

pub fn memory() -> Arc<dyn Index> {
    let opened = MemoryOpener::default();
    futures::executor::block_on(opened.open(std::path::Path::new("/index"))).unwrap()
}

impl Bench {
    pub fn new() -> Bench {
        Bench::over(memory(), Space(7))
    }

    pub fn over(index: Arc<dyn Index>, space: Space) -> Bench {
        Bench {
            index,
            space,
            now_ms: 1_700_000_000_000,
            events: Vec::new(),
            offset: 0,
        }
    }

    /// Where the stored octets of a command come to lie.
    fn stored(&mut self, op: &Op) -> Option<Location> {
        let len = match op.stored_len() as u32 {
            0 => return None,
            len => len,
        };
        self.offset += len;
        Some(Location {
            segment: 1 + (self.offset / 4096) as u64,
            offset: self.offset,
            len,
        })
    }

    /// Applies commands in one batch.
    pub fn batch(&mut self, commands: &[Command]) -> Vec<Reply> {
        let view = self.index.view();
        let mut txn = Txn::new(&*view, self.space, None);
        let mut replies = Vec::new();
        for command in commands {
            let at = self.stored(&command.op);
            txn.set_stored_at(at);
            replies.push(apply(&mut txn, command).unwrap());
        }
        let (batch, events) = txn.finish();
        self.events.extend(events);
        self.index.write(batch).unwrap();
        replies
    }

    pub fn apply(&mut self, op: Op) -> Reply {
        let time_ms = self.now_ms;
        self.batch(&[Command { time_ms, op }]).remove(0)
    }

    pub fn create(&mut self, account: &str) -> AccountId {
        let op = create_account(fresh(), account);
        match self.apply(op) {
            Reply::Account { account, .. } => account,
            other => panic!("{other:?}"),
        }
    }

    pub fn store(&mut self, account: &str, octets: &[u8], flags: &[&str]) -> StoreResult {
        match self.apply(store(&[(fresh(), account, flags)], octets)) {
            Reply::Stored(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn get<R: Row>(&self, key: Key) -> Option<R> {
        crate::index::values::get(&*self.index, self.space, &key).unwrap()
    }

    pub fn hash(&self) -> [u8; 32] {
        hash::state(&*self.index, self.space).unwrap().0
    }

    /// Rows of a tag.
    pub fn count(&self, tag: u8) -> usize {
        let range = crate::index::keys::KeyRange::tag(self.space, tag);
        let mut n = 0;
        for family in Family::ALL {
            let count = &mut |_: &[u8], _: &[u8]| {
                n += 1;
                Next::Continue
            };
            self.index
                .scan(family, &range.from, &range.to, count)
                .unwrap();
        }
        n
    }

    /// Every row agrees with every other, and live octets are what locations say.
    pub fn audit(&self) {
        let found = audit::problems(&*self.index, self.space).unwrap();
        assert!(found.is_empty(), "{found:#?}");
        let mut live = audit::live_bytes(&*self.index, self.space).unwrap();
        let mut kept = local::live_bytes(&*self.index).unwrap();
        kept.retain(|_, n| *n != 0);
        live.retain(|_, n| *n != 0);
        assert_eq!(kept, live, "live octets of segments");
    }
}

/// A request_id that no test has used.
pub fn fresh() -> RequestId {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0xee; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    RequestId(id)
}

pub fn account(name: &str) -> AccountName {
    AccountName::new(name).unwrap()
}

pub fn create_account(request_id: RequestId, name: &str) -> Op {
    Op::CreateAccount {
        request_id,
        name: account(name),
    }
}

pub fn chunk(octets: &[u8]) -> ChunkMeta {
    ChunkMeta {
        raw_len: octets.len() as u32,
        stored_len: octets.len() as u32 + 3,
        codec: Codec::Zstd,
        crc: crc32fast::hash(octets),
    }
}

pub fn target(request_id: RequestId, name: &str, mailbox: &str, flags: &[&str]) -> Target {
    Target {
        request_id,
        account: account(name),
        mailbox: MailboxName::new(mailbox).unwrap().into(),
        flags: flags.iter().map(|f| f.to_string()).collect(),
    }
}

pub fn store_targets(targets: Vec<Target>, octets: &[u8]) -> Op {
    Op::Store(Box::new(Store {
        targets,
        internal_date_ms: 1_600_000_000_000,
        blob: BlobMeta {
            id: BlobId::of(octets),
            size: octets.len() as u64,
            chunks: vec![chunk(octets)],
            upload: None,
        },
        summary: b"summary".to_vec(),
        threads: Vec::new(),
    }))
}

/// A store of one chunk into the INBOXes of accounts.
pub fn store(to: &[(RequestId, &str, &[&str])], octets: &[u8]) -> Op {
    let targets = to
        .iter()
        .map(|(id, name, flags)| target(*id, name, "INBOX", flags));
    store_targets(targets.collect(), octets)
}

pub fn set_flags(name: &str, uids: &[(Uid, Uid)], mode: FlagMode, flags: &[&str]) -> Op {
    Op::SetFlags {
        request_id: fresh(),
        account: account(name),
        mailbox: MailboxName::inbox().into(),
        uids: uids.to_vec(),
        mode,
        flags: flags.iter().map(|f| f.to_string()).collect(),
        unchanged_since: None,
    }
}

pub fn expunge(name: &str, uids: &[(Uid, Uid)], force: bool) -> Op {
    Op::Expunge {
        request_id: fresh(),
        account: account(name),
        mailbox: MailboxName::inbox().into(),
        uids: uids.to_vec(),
        force,
    }
}
