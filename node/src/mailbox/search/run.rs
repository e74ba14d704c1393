//! One search from its first row to its last piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use roaring::RoaringBitmap;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::ahead::Ahead;
use super::super::row_cache::Rows;
use super::super::summary::Summary;
use super::super::{Led, MailboxError, Operations, Result};
use super::fulltext::{Asking, FullText, Lost, Message};
use super::key::SortKey;
use super::memory::Recalled;
use super::plan::{Answers, Plan};
use super::sort::{self, Sorter};
use super::thread::Threader;
use super::{Piece, Total};
use crate::index::uids::to_ranges;
use crate::index::values::{EmailRow, MessageRow, Row};
use crate::machine::read;
use crate::raft::shard::ReadView;
use crate::rare::{self, Rare};
use crate::types::*;

/// Rows that are read at a time.
const PAGE_ROWS: usize = 512;
/// Hot rows after which others of this thread have their turn.
const ROWS_AT_A_TIME: u32 = 512;
/// What reading a cold row counts, in hot rows.
const COLD_ROW: u32 = 16;
/// Ranges, uids or nodes of one piece.
const PIECE_ITEMS: usize = 8192;
/// Matches wait no longer than this for others to go with.
const PATIENCE: Duration = Duration::from_millis(200);

/// What becomes of matches.
pub enum Collect {
    /// They are told as they come: the first to the last, counted from 1.
    Uids {
        /// The first that is told.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Counted from the end, so that all must be known first.
    FromEnd {
        /// As in the request.
        partial: (i64, i64),
        /// Matches so far.
        all: RoaringBitmap,
    },
    /// Sorted; and whether that needs the summary.
    Sort(Sorter, bool),
    /// In threads.
    Thread(Threader),
}

impl Collect {
    /// All of them, in the order of their uids.
    pub fn uids() -> Collect {
        Collect::Uids {
            first: 1,
            last: u64::MAX,
        }
    }

    /// Some of them; neither number is 0. Two numbers of one sign may come in any order.
    pub fn partial(first: i64, last: i64) -> Collect {
        match first > 0 && last > 0 {
            true => Collect::Uids {
                first: first.min(last) as u64,
                last: first.max(last) as u64,
            },
            false => Collect::FromEnd {
                partial: (first, last),
                all: RoaringBitmap::new(),
            },
        }
    }

    /// Sorted by these.
    pub fn sort(keys: Vec<SortKey>) -> Collect {
        let wants_summary = sort::wants_summary(&keys);
        Collect::Sort(Sorter::new(keys), wants_summary)
    }

    /// In threads.
    pub fn thread() -> Collect {
        Collect::Thread(Threader::default())
    }
}

/// Which of `count` are meant, counted from 1.
fn resolve((first, last): (i64, i64), count: u64) -> (u64, u64) {
    let place = |n: i64| match n < 0 {
        true => i128::from(count) + i128::from(n) + 1,
        false => i128::from(n),
    };
    let (mut a, mut b) = (place(first), place(last));
    if (first < 0) == (last < 0) && a > b {
        (a, b) = (b, a);
    }
    let clamp = |n: i128| u64::try_from(n).unwrap_or(0);
    (clamp(a.max(1)), clamp(b))
}

/// A search that is about to run.
pub struct Run {
    pub(super) ops: Arc<Operations>,
    pub(super) led: Led,
    pub(super) full_text: Box<dyn FullText>,
    pub(super) view: ReadView,
    pub(super) account: AccountId,
    pub(super) mailbox: MailboxId,
    pub(super) account_modseq: ModSeq,
    pub(super) uidnext: Uid,
    /// Of the whole mailbox, where they are at hand.
    pub(super) rows: Option<Rows>,
    pub(super) plan: Plan,
    pub(super) collect: Collect,
    pub(super) searched: Arc<AtomicU32>,
    pub(super) out: mpsc::Sender<Piece>,
    pub(super) cold: Cold,
}

/// Rows that messages are looked at by, in the order of their uids.
pub struct Cold {
    emails: Mutex<Ahead>,
    summaries: Mutex<Ahead>,
}

impl Default for Cold {
    fn default() -> Cold {
        Cold {
            emails: Mutex::new(Ahead::emails()),
            summaries: Mutex::new(Ahead::summaries()),
        }
    }
}

/// What changes while it runs.
struct State {
    answers: Answers,
    recalled: Recalled,
    /// Some answer was known.
    knew: bool,
    collect: Collect,
    pending: Vec<(Uid, Uid)>,
    told: Instant,
    total: Total,
    /// Hot rows since the last turn of others.
    work: u32,
    /// A damaged message was logged.
    logged: bool,
}

impl State {
    /// Takes a match, where its uid is all that is told of it; false: more of it is needed.
    fn take(&mut self, uid: Uid, row: &MessageRow) -> bool {
        match &mut self.collect {
            Collect::Uids { first, last } => {
                self.total.add(row);
                if (*first..=*last).contains(&self.total.count) {
                    match self.pending.last_mut() {
                        Some((_, last)) if last.checked_add(1) == Some(uid) => *last = uid,
                        _ => self.pending.push((uid, uid)),
                    }
                }
                true
            }
            Collect::FromEnd { all, .. } => {
                self.total.add(row);
                all.insert(uid);
                true
            }
            Collect::Sort(..) | Collect::Thread(_) => false,
        }
    }
}

impl Run {
    /// Runs it: pieces go out as they come, the last one at the end.
    pub async fn run(mut self) -> Result<()> {
        let mut state = State {
            answers: Answers::default(),
            recalled: self
                .ops
                .searched
                .recall(self.account, self.plan.questions()),
            knew: false,
            collect: std::mem::replace(&mut self.collect, Collect::uids()),
            pending: Vec::new(),
            told: Instant::now(),
            total: Total {
                account_modseq: self.account_modseq,
                ..Total::default()
            },
            work: 0,
            logged: false,
        };
        let (account, mailbox) = (self.account, self.mailbox);
        if let Some(rows) = self.rows.take() {
            for bounds in self.plan.bounds() {
                let rows = rows.within(*bounds);
                self.look_through(rows, &mut state).await?;
            }
            return self.finish(state).await;
        }
        for &(first, last) in self.plan.bounds() {
            let mut next = (first < self.uidnext).then_some(first);
            while let Some(from) = next {
                let (view, space) = (&*self.view.view, self.view.space);
                let page = (from, last);
                let (rows, after) = read::messages(view, space, account, mailbox, page, PAGE_ROWS)?;
                next = after;
                state.work += 1;
                self.look_through(&rows, &mut state).await?;
            }
        }
        self.finish(state).await
    }

    /// Looks at messages, by their rows alone where that is enough; others have their turn in
    /// between.
    async fn look_through(&self, rows: &[(Uid, MessageRow)], state: &mut State) -> Result<()> {
        for page in rows.chunks(PAGE_ROWS) {
            let mut glances = 0;
            for (uid, row) in page {
                let verdict = self.plan.judge(*uid, row, &mut state.answers);
                if verdict != Some(false) && !(verdict.is_some() && state.take(*uid, row)) {
                    // Whoever waits for this one is told of those before it.
                    let before = std::mem::take(&mut glances);
                    self.searched.fetch_add(before, Ordering::Relaxed);
                    self.look_at(*uid, row, verdict, state).await?;
                }
                glances += 1;
                state.work += 1;
                if state.pending.len() >= PIECE_ITEMS {
                    self.tell_pending(state, true).await?;
                }
                if state.work >= ROWS_AT_A_TIME {
                    state.work = 0;
                    self.tell_pending(state, false).await?;
                    tokio::task::yield_now().await;
                }
            }
            self.searched.fetch_add(glances, Ordering::Relaxed);
        }
        Ok(())
    }

    fn piece(&self) -> Piece {
        Piece {
            searched: self.searched.load(Ordering::Relaxed),
            ..Piece::default()
        }
    }

    async fn tell(&self, piece: Piece) -> Result<()> {
        let gone = |_| MailboxError::Unavailable("nobody waits for the search".to_owned());
        self.out.send(piece).await.map_err(gone)
    }

    /// Tells matches that have waited, or `all` of them.
    async fn tell_pending(&self, state: &mut State, all: bool) -> Result<()> {
        let due = state.pending.len() >= PIECE_ITEMS || state.told.elapsed() >= PATIENCE;
        if state.pending.is_empty() || !(due || all) {
            return Ok(());
        }
        let uids = std::mem::take(&mut state.pending);
        self.tell(Piece {
            uids,
            ..self.piece()
        })
        .await?;
        state.told = Instant::now();
        Ok(())
    }

    /// Looks at a message of which more than its row is needed: for a verdict, or to tell of it.
    async fn look_at(
        &self,
        uid: Uid,
        row: &MessageRow,
        verdict: Option<bool>,
        state: &mut State,
    ) -> Result<()> {
        let mut summary = None;
        let matches = match verdict {
            Some(verdict) => verdict,
            None => self.matches(uid, row, &mut summary, state).await?,
        };
        if !matches || verdict.is_none() && state.take(uid, row) {
            return Ok(());
        }
        state.total.add(row);
        match &mut state.collect {
            Collect::Uids { .. } | Collect::FromEnd { .. } => {}
            Collect::Sort(sorter, false) => sorter.add(uid, row, &Summary::default())?,
            Collect::Sort(sorter, true) => {
                let summary = self.summary_of(row, &mut summary, &mut state.work)?;
                sorter.add(uid, row, summary)?;
            }
            Collect::Thread(threader) => {
                let summary = self.summary_of(row, &mut summary, &mut state.work)?;
                threader.add(uid, row, summary);
            }
        }
        Ok(())
    }

    /// Whether a message that its row leaves open matches, reading no more of it than that takes.
    async fn matches(
        &self,
        uid: Uid,
        row: &MessageRow,
        summary: &mut Option<Summary>,
        state: &mut State,
    ) -> Result<bool> {
        let (answers, recalled) = (&mut state.answers, &state.recalled);
        let mut verdict = None;
        if answers.tell_known(|number| recalled.answer(number, row.email)) {
            state.knew = true;
            verdict = self.plan.judge_again(uid, row, answers);
        }
        if verdict.is_none() && self.plan.wants_thread(answers) {
            let email = self.email(row, &mut state.work)?;
            self.plan.tell_thread(email.thread, answers);
            verdict = self.plan.judge_again(uid, row, answers);
        }
        if verdict.is_none() && self.plan.wants_summary(answers) {
            let summary = self.summary_of(row, summary, &mut state.work)?;
            self.plan.tell_summary(summary, answers);
            verdict = self.plan.judge_again(uid, row, answers);
        }
        match verdict {
            Some(verdict) => Ok(verdict),
            None => self.ask_octets(uid, row, summary, state).await,
        }
    }

    /// Has the questions that are left answered.
    async fn ask_octets(
        &self,
        uid: Uid,
        row: &MessageRow,
        summary: &mut Option<Summary>,
        state: &mut State,
    ) -> Result<bool> {
        // Matches before this one need not wait while its octets are read.
        self.tell_pending(state, false).await?;
        let message = Message {
            blob: self.email(row, &mut state.work)?.blob,
            size: row.size,
            summary: self.summary_of(row, summary, &mut state.work)?,
        };
        let (open, answers) = state.answers.parts();
        let enough = |answers: &[Option<bool>]| self.plan.is_decided(uid, row, answers);
        let asked = open.to_vec();
        let mut asking = Asking::new(self.plan.questions(), asked.clone(), answers, &enough);
        match self.full_text.ask(&message, &mut asking).await {
            // What the summary leaves out may have kept the search from where a text is.
            Ok(()) if message.summary.truncated => (),
            Ok(()) => {
                for number in asked {
                    if let Some(yes) = asking.outcome(number) {
                        state.recalled.learn(number, row.email, yes);
                    }
                }
            }
            Err(Lost::Failed(e)) => return Err(e),
            Err(Lost::Octets(why)) => {
                if self.is_gone(uid).await {
                    return Ok(false);
                }
                if !std::mem::replace(&mut state.logged, true) {
                    tracing::warn!(
                        account = %self.account,
                        mailbox = self.mailbox.0,
                        uid,
                        why,
                        "a message cannot be searched; the search goes on without its text"
                    );
                }
            }
        }
        asking.deny_rest();
        let verdict = self.plan.judge_again(uid, row, &mut state.answers);
        Ok(verdict.unwrap_or(false))
    }

    /// Whether a message has been removed since the search began.
    async fn is_gone(&self, uid: Uid) -> bool {
        let Ok(now) = self.ops.read(&self.led).await else {
            return false;
        };
        let row = read::message(&*now.view, now.space, self.account, self.mailbox, uid);
        matches!(row, Ok(None))
    }

    fn email(&self, row: &MessageRow, work: &mut u32) -> Result<EmailRow> {
        *work += COLD_ROW;
        let (view, space) = (&*self.view.view, self.view.space);
        let mut emails = self.cold.emails.lock();
        let found = emails.get(view, space, self.account, row.email)?;
        let octets = found.ok_or_else(|| self.missing(row))?;
        EmailRow::decode(&octets).ok_or_else(|| self.missing(row))
    }

    /// The summary, read at the first call.
    fn summary_of<'a>(
        &self,
        row: &MessageRow,
        summary: &'a mut Option<Summary>,
        work: &mut u32,
    ) -> Result<&'a Summary> {
        if summary.is_none() {
            *work += COLD_ROW;
            let (view, space) = (&*self.view.view, self.view.space);
            let mut summaries = self.cold.summaries.lock();
            let found = summaries.get(view, space, self.account, row.email)?;
            drop(summaries);
            let octets = found.ok_or_else(|| self.missing(row))?;
            // One of a later version says nothing here: the octets are asked instead.
            *summary = Some(Summary::decode(&octets).unwrap_or_else(|_| Summary {
                truncated: true,
                ..Summary::default()
            }));
        }
        Ok(summary.get_or_insert_default())
    }

    fn missing(&self, row: &MessageRow) -> MailboxError {
        MailboxError::Corrupt(format!(
            "email {} of account {} has no rows",
            row.email.0, self.account
        ))
    }

    /// Tells what had to wait for the last match, and the total.
    async fn finish(&self, mut state: State) -> Result<()> {
        if state.knew {
            rare::hit(Rare::AnswerRecalled);
        }
        // Before anybody can know that it is over.
        state.recalled.end();
        self.tell_pending(&mut state, true).await?;
        match std::mem::replace(&mut state.collect, Collect::uids()) {
            Collect::Uids { .. } => (),
            Collect::FromEnd { partial, all } => {
                let (first, last) = resolve(partial, all.len());
                let count = (last + 1).saturating_sub(first) as usize;
                let shown = all.iter().skip((first - 1) as usize).take(count);
                for uids in to_ranges(shown).chunks(PIECE_ITEMS) {
                    let uids = uids.to_vec();
                    self.tell(Piece {
                        uids,
                        ..self.piece()
                    })
                    .await?;
                }
            }
            Collect::Sort(sorter, _) => {
                let mut uids = sorter.finish();
                loop {
                    let sorted: Vec<Uid> = uids.by_ref().take(PIECE_ITEMS).collect();
                    if sorted.is_empty() {
                        break;
                    }
                    self.tell(Piece {
                        sorted,
                        ..self.piece()
                    })
                    .await?;
                    tokio::task::yield_now().await;
                }
            }
            Collect::Thread(threader) => {
                let mut nodes = threader.finish().await;
                loop {
                    let threads: Vec<_> = nodes.by_ref().take(PIECE_ITEMS).collect();
                    if threads.is_empty() {
                        break;
                    }
                    self.tell(Piece {
                        threads,
                        ..self.piece()
                    })
                    .await?;
                    tokio::task::yield_now().await;
                }
            }
        }
        self.tell(Piece {
            last: Some(state.total),
            ..self.piece()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_results_count_from_either_end() {
        assert_eq!(resolve((-1, -3), 10), (8, 10));
        assert_eq!(resolve((-3, -1), 10), (8, 10));
        assert_eq!(resolve((-3, -100), 10), (1, 8));
        assert_eq!(resolve((1, -1), 10), (1, 10));
        assert_eq!(resolve((2, -2), 10), (2, 9));
        assert_eq!(resolve((-2, 100), 10), (9, 100));
        // Nothing: the last comes before the first.
        assert_eq!(resolve((9, -9), 10), (9, 2));
        assert_eq!(resolve((-11, -20), 10), (1, 0));
        assert_eq!(resolve((i64::MIN, -1), 10), (1, 10));
    }
}
