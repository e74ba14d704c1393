//! Reading ahead of a client that fetches one message after the other.
//!
//! Each such command would be a call of its own, which takes longer than to read a small message.
//! So when a client goes through a mailbox in order and asks the same of each message, the
//! messages after it are asked for in the same call, and wait for the next command in the buffers
//! of the connection to the store: of what is ahead, the session holds one row at the most.
//!
//! Only of what never changes of a message (`Wanted::unconfirmed`): what was read a moment too early
//! is right all the same.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use posthouse_client::Error;
use posthouse_client::ids::{AccountName, Uid};
use roaring::RoaringBitmap;
use tokio::time::Instant;

use super::store::{Event, Store, Wanted};
use super::view::View;
use crate::spool::locked;

/// Commands in a row after which the next messages are asked for as well.
const IN_A_ROW: u32 = 2;
/// Messages that are asked for at once at the most.
const MOST: u32 = 64;
/// How long a call is kept open for the next command: it keeps rows at the store.
const KEPT: Duration = Duration::from_secs(1);
/// Messages that a client may pass over.
const PASSED_OVER: u64 = 4;

/// What comes of messages.
type Events = BoxStream<'static, Result<Event, Error>>;

/// A call under way.
pub struct Open {
    events: Events,
    /// What the call is for, without the uids.
    wanted: Wanted,
    /// Messages that are still to come by it.
    uids: RoaringBitmap,
    /// The next message, where it came instead of one that is gone.
    next: Option<Event>,
    /// For one message, after which others may come.
    single: bool,
    /// Whether that message has come as a whole.
    whole: bool,
    /// It was kept open for this command.
    kept: bool,
    used: Instant,
}

impl Open {
    /// The next event of the messages that were asked for. Those of messages that were passed over
    /// are left out.
    pub async fn next(&mut self, asked: &RoaringBitmap) -> Option<Result<Event, Error>> {
        loop {
            if self.single && self.whole {
                return None;
            }
            let event = match self.next.take() {
                Some(event) => Ok(event),
                None => match self.events.next().await {
                    Some(event) => event,
                    None => {
                        self.uids.clear();
                        return None;
                    }
                },
            };
            if !self.single {
                return Some(event);
            }
            match &event {
                Err(_) => self.uids.clear(),
                Ok(Event::Message(row)) if asked.max().is_some_and(|last| row.uid > last) => {
                    self.next = event.ok();
                    return None;
                }
                Ok(Event::Message(row)) => {
                    self.uids.remove_range(..=row.uid);
                    if !asked.contains(row.uid) {
                        continue;
                    }
                    self.whole = self.wanted.sections.is_empty();
                }
                Ok(Event::Section(piece)) => {
                    if asked.max().is_some_and(|last| self.passes(last)) {
                        continue;
                    }
                    let last = piece.index as usize + 1 == self.wanted.sections.len();
                    self.whole = last && piece.last;
                }
                Ok(Event::Keywords(_) | Event::Rows(_)) => {}
            }
            return Some(event);
        }
    }

    /// Whether the message that was asked for is still to come.
    fn passes(&self, asked: Uid) -> bool {
        self.uids.contains(asked)
    }

    /// Whether an earlier command has opened it.
    pub fn was_kept(&self) -> bool {
        self.kept
    }
}

#[derive(Default)]
struct Kept {
    open: Option<Open>,
    /// A task lets go of it when no command comes.
    watched: bool,
}

/// A client's way through a mailbox.
#[derive(Default)]
pub struct Ahead {
    /// The last message that was asked for alone, and what was asked for.
    last: Option<(Uid, Wanted)>,
    /// How many came before it, each after the other.
    row: u32,
    kept: Arc<Mutex<Kept>>,
}

impl Ahead {
    /// A call for these messages: the one that is open, or a new one, perhaps for more messages.
    pub fn open(
        &mut self,
        store: &dyn Store,
        account: &AccountName,
        view: &View,
        uids: &RoaringBitmap,
        wanted: &Wanted,
    ) -> Open {
        let single = uids.min().filter(|_| uids.len() == 1 && wanted.unconfirmed);
        let mut all = uids.clone();
        let mut columns = wanted.columns;
        if let Some(uid) = single {
            let number = view.number(uid).unwrap_or(0);
            let follows = self.last.as_ref().is_some_and(|(last, before)| {
                before == wanted && view.number(*last).is_some_and(|n| n + 1 == number)
            });
            self.row = if follows { self.row + 1 } else { 0 };
            self.last = Some((uid, wanted.clone()));
            if let Some(mut open) = locked(&self.kept).open.take()
                && open.wanted == *wanted
                && open.uids.contains(uid)
                && open.uids.rank(uid) <= PASSED_OVER
                && open.used.elapsed() < KEPT
            {
                open.kept = true;
                return open;
            }
            if self.row >= IN_A_ROW {
                let more = MOST.min(2 << self.row.min(8));
                // One row after the other, so that none is told too early.
                columns = None;
                all.extend((number + 1..number + more).map_while(|n| view.uid(n)));
            }
        }
        let call = Wanted {
            uids: view.spans(&all),
            columns,
            ..wanted.clone()
        };
        Open {
            events: store.fetch(account, view.mailbox(), call),
            wanted: wanted.clone(),
            uids: all,
            next: None,
            single: single.is_some(),
            whole: false,
            kept: false,
            used: Instant::now(),
        }
    }

    /// Keeps a call open for the next command, if something is still to come by it.
    pub fn keep(&self, mut open: Open) {
        if !open.single || open.uids.is_empty() || !(open.whole || open.next.is_some()) {
            return;
        }
        open.whole = false;
        open.used = Instant::now();
        let kept = &mut *locked(&self.kept);
        kept.open = Some(open);
        if !std::mem::replace(&mut kept.watched, true) {
            tokio::spawn(let_go(Arc::downgrade(&self.kept)));
        }
    }
}

/// Lets go of a call for which no command comes.
async fn let_go(kept: Weak<Mutex<Kept>>) {
    loop {
        tokio::time::sleep(KEPT).await;
        let Some(kept) = kept.upgrade() else {
            return;
        };
        let kept = &mut *locked(&kept);
        let waits = |open: &Open| open.used.elapsed() >= KEPT;
        if kept.open.as_ref().is_none_or(waits) {
            *kept = Kept::default();
            return;
        }
    }
}
