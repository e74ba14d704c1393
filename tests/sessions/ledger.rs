//! What all sessions have done together, and what must be true whatever else happens.
//!
//! - Every message is made of a number that no other has; what is read of a uid is what was
//!   stored there.
//! - Flags and modseq of a message belong together: whoever is told the one with the other is
//!   told the same (RFC 7162, section 3.1).
//! - Messages whose number is divisible by 4 are never removed by anybody: they must stay.
//! - No message is there more often than it was appended and copied.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use anyhow::ensure;

/// A mailbox of the test.
pub type Place = usize;

/// Their names.
pub const PLACES: [&str; 2] = ["INBOX", "Other"];

/// A message's row, as read by the client library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Flags in upper case.
    pub flags: BTreeSet<String>,
    /// Modseq.
    pub modseq: u64,
}

/// A mailbox as it is.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Its uidvalidity.
    pub uidvalidity: u32,
    /// The uid of the next message.
    pub uidnext: u32,
    /// Rows by uid.
    pub rows: BTreeMap<u32, Row>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// Numbers of messages by where they are.
    numbers: HashMap<(Place, u32), u64>,
    flags: HashMap<(Place, u32, u64), BTreeSet<String>>,
    /// How often a message may be there.
    most: HashMap<u64, u32>,
    gone: BTreeSet<(Place, u32)>,
}

/// See above.
#[derive(Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

/// The message with this number; always the same octets.
pub fn message(n: u64) -> Vec<u8> {
    let mut out = format!(
        "From: a{n}@example.net\r\nTo: ann@example.org\r\nSubject: number {n}\r\n\
         Message-ID: <n{n}@example.net>\r\nX-Number: {n}\r\n\r\n"
    );
    for line in 0..n % 50 {
        out.push_str(&format!("Line {line} of letter {n}.\r\n"));
    }
    if n.is_multiple_of(3) {
        out.push_str("no end");
    }
    out.into_bytes()
}

impl Ledger {
    /// A number for a new message, which may come to be there once.
    pub fn new_message(&self) -> u64 {
        let mut inner = self.inner.lock().unwrap();
        inner.next += 1;
        let n = inner.next;
        inner.most.insert(n, 1);
        n
    }

    /// A message is known to have come to a place.
    pub fn stored(&self, place: Place, uid: u32, n: u64) -> anyhow::Result<()> {
        let before = self.inner.lock().unwrap().numbers.insert((place, uid), n);
        ensure!(
            before.is_none_or(|b| b == n),
            "uid {uid} of {place} is {n} and {before:?}"
        );
        Ok(())
    }

    /// The message that was stored under this uid, if anybody knows.
    pub fn number(&self, place: Place, uid: u32) -> Option<u64> {
        self.inner
            .lock()
            .unwrap()
            .numbers
            .get(&(place, uid))
            .copied()
    }

    /// Whether it may be removed.
    pub fn is_mortal(&self, place: Place, uid: u32) -> bool {
        let n = self.number(place, uid);
        n.is_some_and(|n| !n.is_multiple_of(4))
    }

    /// A message may be there once more.
    pub fn once_more(&self, place: Place, uid: u32) {
        let mut inner = self.inner.lock().unwrap();
        // Of one that nobody knows, nothing is known later either.
        if let Some(n) = inner.numbers.get(&(place, uid)).copied() {
            *inner.most.entry(n).or_default() += 1;
        }
    }

    /// What a client was told can only be so if this message is gone.
    pub fn must_be_gone(&self, place: Place, uid: u32) {
        self.inner.lock().unwrap().gone.insert((place, uid));
    }

    /// Somebody was told flags and modseq of a message together.
    pub fn seen(
        &self,
        place: Place,
        uid: u32,
        modseq: u64,
        flags: &BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        let known = inner
            .flags
            .entry((place, uid, modseq))
            .or_insert_with(|| flags.clone());
        ensure!(
            known == flags,
            "uid {uid} of {place} had at modseq {modseq} the flags {known:?} and {flags:?}"
        );
        Ok(())
    }

    /// Checks what is there in the end: by place, the uids with the numbers that were read from
    /// the messages themselves.
    pub fn check(&self, there: &[BTreeMap<u32, u64>]) -> anyhow::Result<()> {
        let inner = self.inner.lock().unwrap();
        let mut count: HashMap<u64, u32> = HashMap::new();
        for (place, uids) in there.iter().enumerate() {
            for (uid, n) in uids {
                *count.entry(*n).or_default() += 1;
                let known = inner.numbers.get(&(place, *uid));
                ensure!(
                    known.is_none_or(|known| known == n),
                    "uid {uid} of {place} is message {n}, but {known:?} was stored there"
                );
            }
        }
        for (place, uid) in &inner.gone {
            ensure!(
                !there[*place].contains_key(uid),
                "uid {uid} of {place} is there, and somebody was told as if it were gone"
            );
        }
        for ((place, uid), n) in &inner.numbers {
            ensure!(
                !n.is_multiple_of(4) || there[*place].get(uid) == Some(n),
                "LOST: message {n}, uid {uid} of {place}, was stored and never removed"
            );
        }
        for (n, times) in count {
            let most = inner.most.get(&n).copied().unwrap_or(0);
            ensure!(
                times <= most,
                "DUPLICATE: message {n} is there {times} times, {most} at most were stored"
            );
        }
        Ok(())
    }
}
