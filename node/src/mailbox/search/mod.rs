//! Search, sort and threads of one mailbox (RFC 9051, section 6.4.4; RFC 5256).
//!
//! ```text
//! key (bounds) ─▶ plan (what costs least first)
//!                   │
//! run: hot rows ─▶ judge ─▶ email row ─▶ summary ─▶ fulltext ── scan ─▶ matcher ─▶ text ─▶ transfer
//!                   │ matches
//!                   └─▶ uids as they come | sort ─▶ subject | thread ─▶ subject
//! ```
//!
//! The whole search sees the rows of one moment. It runs inside of the stream that carries its
//! answer: whoever drops the stream ends the search, and a reader that is slow slows it down. A
//! stream that has nothing to say yet says how far it is, so that its caller can tell a long
//! search from a dead node.

pub mod fulltext;
pub mod key;
pub mod matcher;
pub mod memory;
pub mod plan;
mod run;
pub mod scan;
pub mod sort;
pub mod subject;
#[cfg(test)]
mod tests;
pub mod text;
pub mod thread;
pub mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::unfold;
use tokio::sync::mpsc;

use super::row_cache::Place;
use super::{MailboxError, Operations, Result, What, check, list_accounts};
use crate::index::values::MessageRow;
use crate::machine::read;
use crate::types::*;
use key::{Key, MAX_SORT_KEYS, SortKey};
use plan::Plan;
use run::{Cold, Collect, Run};
use thread::ThreadNode;

/// A stream is silent no longer than this.
const ALIVE: Duration = Duration::from_secs(1);
/// Pieces that wait for their reader.
const PIECES: usize = 2;

/// What to search.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Whose.
    pub account: String,
    /// The mailbox's name, or nothing with `mailbox_id`.
    pub mailbox: String,
    /// The mailbox's number; 0: not given.
    pub mailbox_id: u32,
    /// With `mailbox_id`: not found when it has another one; 0: no condition.
    pub uidvalidity: u32,
    /// Which messages; `None`: all.
    pub key: Option<Key>,
    /// In which order; none: that of the uids.
    pub sort: Vec<SortKey>,
    /// In threads.
    pub thread: bool,
    /// Only the first to the last of the matches, counted from 1 or, below 0, from the end (RFC
    /// 9394); both 0: all.
    pub partial: (i64, i64),
}

/// A piece of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Matches, ascending over all pieces; not in an order or in threads.
    pub uids: Vec<(Uid, Uid)>,
    /// Matches in the order that was asked for, over all pieces.
    pub sorted: Vec<Uid>,
    /// Threads, depth first, over all pieces.
    pub threads: Vec<ThreadNode>,
    /// Messages looked at so far.
    pub searched: u32,
    /// In the last piece.
    pub last: Option<Total>,
}

/// All matches, whichever of them are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// How many there are.
    pub count: u64,
    /// The highest modseq of any; 0 when there is none.
    pub matched_modseq: ModSeq,
    /// The account's, at the moment of the read.
    pub account_modseq: ModSeq,
}

impl Total {
    /// One more.
    fn add(&mut self, row: &MessageRow) {
        self.count += 1;
        self.matched_modseq = self.matched_modseq.max(row.modseq);
    }
}

impl Operations {
    /// Searches a mailbox. The stream ends with a piece that has `last`, or with an error.
    pub async fn search(
        self: &Arc<Self>,
        request: Search,
    ) -> Result<impl Stream<Item = Result<Piece>> + Send + use<>> {
        let name = check::account("account", &request.account)?;
        let which = mailbox_ref(&request)?;
        let collect = collect(&request)?;
        if let Some(key) = &request.key {
            key.check()?;
        }
        let led = self.replica_of(&name)?;
        let view = self.read(&led).await?;
        let (account, of) = list_accounts::find(&view, &name)?;
        let found = read::mailbox(&*view.view, view.space, account, &which)?;
        let (mailbox, row) = found.ok_or(MailboxError::NotFound(What::Mailbox))?;
        let keywords = read::keywords_of(&*view.view, view.space, account, (mailbox, &row))?;
        let plan = Plan::new(request.key.as_ref(), &keywords)?;
        let place = Place {
            shard: led.shard,
            view: &view,
            account: (account, &of),
            mailbox: (mailbox, &row),
        };
        let rows = self.rows.rows(&place, plan.bounds()).await?;
        let searched = Arc::new(AtomicU32::new(0));
        let (out, pieces) = mpsc::channel(PIECES);
        let run = Run {
            ops: Arc::clone(self),
            full_text: Box::new(scan::Scan {
                ops: Arc::clone(self),
                shard: led.shard,
            }),
            led,
            view,
            account,
            mailbox,
            account_modseq: of.highest_modseq,
            uidnext: row.uidnext,
            rows,
            plan,
            collect,
            searched: Arc::clone(&searched),
            out,
            cold: Cold::default(),
        };
        Ok(stream(Box::pin(run.run()), pieces, searched))
    }
}

/// Which mailbox is meant.
fn mailbox_ref(request: &Search) -> Result<MailboxRef> {
    match request.mailbox_id {
        0 => Ok(MailboxRef::Name(check::mailbox(
            "mailbox",
            &request.mailbox,
        )?)),
        id => Ok(MailboxRef::Id {
            id: MailboxId(id),
            uidvalidity: request.uidvalidity,
        }),
    }
}

/// What becomes of matches.
fn collect(request: &Search) -> Result<Collect> {
    let (first, last) = request.partial;
    let is_partial = (first, last) != (0, 0);
    if request.sort.len() > MAX_SORT_KEYS {
        return Err(MailboxError::bad(
            "sort",
            format_args!("more than {MAX_SORT_KEYS} criteria"),
        ));
    }
    match (is_partial, request.thread, request.sort.is_empty()) {
        (true, true, _) | (true, _, false) => Err(MailboxError::bad(
            "partial_first",
            "only without sort and thread",
        )),
        (_, true, false) => Err(MailboxError::bad("thread", "only without sort")),
        (true, ..) if first == 0 || last == 0 => Err(MailboxError::bad(
            "partial_first",
            "counted from 1, or from -1 at the end; 0 is neither",
        )),
        (true, ..) => Ok(Collect::partial(first, last)),
        (_, true, _) => Ok(Collect::thread()),
        (_, _, false) => Ok(Collect::sort(request.sort.clone())),
        _ => Ok(Collect::uids()),
    }
}

/// A search on its way: the work is driven by whoever reads the stream, and goes with it.
struct Going {
    work: Option<BoxFuture<'static, Result<()>>>,
    pieces: mpsc::Receiver<Piece>,
    searched: Arc<AtomicU32>,
}

fn stream(
    work: BoxFuture<'static, Result<()>>,
    pieces: mpsc::Receiver<Piece>,
    searched: Arc<AtomicU32>,
) -> impl Stream<Item = Result<Piece>> + Send {
    let going = Going {
        work: Some(work),
        pieces,
        searched,
    };
    unfold(going, |mut going| async move {
        let next = match tokio::time::timeout(ALIVE, going.next()).await {
            Ok(next) => next?,
            Err(_) => Ok(Piece {
                searched: going.searched.load(Ordering::Relaxed),
                ..Piece::default()
            }),
        };
        Some((next, going))
    })
}

impl Going {
    async fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            let Some(work) = &mut self.work else {
                // What the work said last may still be waiting here.
                return self.pieces.recv().await.map(Ok);
            };
            tokio::select! {
                biased;
                piece = self.pieces.recv() => return piece.map(Ok),
                done = work => {
                    self.work = None;
                    if let Err(e) = done {
                        self.pieces.close();
                        while self.pieces.try_recv().is_ok() {}
                        return Some(Err(e));
                    }
                }
            }
        }
    }
}
