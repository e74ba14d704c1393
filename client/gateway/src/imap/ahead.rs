//! Reading ahead of a client that fetches one message after the other.
//!
//! Each such command would be a call of its own, which takes longer than to read a small message.
//! So when a client goes through a mailbox in order and asks the same of each message, the
//! messages after it are asked for in the same call, as many as fit into one answer of the store
//! going by the messages before: the store is then done with the call while the answer waits for
//! the next commands.
//!
//! Only of what never changes of a message (`Wanted::unconfirmed`): what was read a moment too early
//! is right all the same. A call for several messages that fails is made again for the one that
//! was asked for, so that no message suffers from the damage of another.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use posthouse_client::Error;
use posthouse_client::ids::{AccountName, Uid};
use posthouse_client::proto::Section;
use roaring::RoaringBitmap;
use tokio::time::Instant;

use super::store::{Event, Store, Wanted};
use super::view::View;
use crate::spool::locked;

/// Commands in a row after which the next messages are asked for as well.
const IN_A_ROW: u32 = 2;
/// Messages that are asked for at once at the most.
const MOST: u64 = 64;
/// Octets of messages that are asked for at once: less than one answer of the store.
const MOST_BYTES: u64 = 128 << 10;
/// How long a call is kept open for the next command.
const KEPT: Duration = Duration::from_secs(1);

/// What comes of messages.
type Events = BoxStream<'static, Result<Event, Error>>;

/// A call under way.
pub struct Open {
    events: Events,
    /// What the call is for, without the uids.
    wanted: Wanted,
    /// The one message that the command is for, where it is one that others may come after.
    single: Option<Uid>,
    /// Whether it has come as a whole.
    whole: bool,
    /// Its octets.
    size: Option<u64>,
    /// Messages that are still to come.
    uids: RoaringBitmap,
    /// The next one, where it came instead of one that is gone.
    next: Option<Event>,
    /// Also for messages that no command has asked for.
    ahead: bool,
    used: Instant,
}

impl Open {
    /// The next event of the messages that were asked for.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        let Some(asked) = self.single else {
            return self.events.next().await;
        };
        if self.whole {
            if self.uids.is_empty() {
                // A call whose end is not read would have to be cancelled.
                self.events.next().await;
            }
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
        match &event {
            Err(_) => self.uids.clear(),
            Ok(Event::Message(row)) if row.uid != asked => {
                self.uids.remove_range(..row.uid);
                self.next = event.ok();
                return None;
            }
            Ok(Event::Message(row)) => {
                self.uids.remove_range(..=asked);
                self.size = Some(row.size);
                self.whole = self.wanted.sections.is_empty();
            }
            Ok(Event::Section(piece)) => {
                let last = piece.index as usize + 1 == self.wanted.sections.len();
                self.whole = last && piece.last;
            }
            Ok(Event::Keywords(_) | Event::Rows(_)) => {}
        }
        Some(event)
    }

    /// Whether the call is, or was, for more messages than were asked for.
    pub fn is_ahead(&self) -> bool {
        self.ahead
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
    /// Octets of the largest of the last ones that came; one long ago counts less and less.
    largest: Option<u64>,
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
        let mut more = 1;
        if let Some(uid) = single {
            self.note(view, uid, wanted);
            if let Some(mut open) = locked(&self.kept).open.take()
                && open.wanted == *wanted
                && open.uids.min() == single
                && open.used.elapsed() < KEPT
            {
                open.single = single;
                return open;
            }
            more = self.more(wanted);
        } else if !wanted.sections.is_empty() {
            // Nobody waits for octets with octets in hand.
            locked(&self.kept).open = None;
        }
        let mut call = wanted.clone();
        let mut all = uids.clone();
        if let Some(number) = single.and_then(|uid| view.number(uid)).filter(|_| more > 1) {
            // One row after the other, so that none is told too early.
            call.columns = None;
            all.extend((number + 1..number + more).map_while(|n| view.uid(n)));
        }
        call.uids = view.spans(&all);
        Open {
            events: store.fetch(account, view.mailbox(), call),
            wanted: wanted.clone(),
            single,
            whole: false,
            size: None,
            ahead: all.len() > uids.len(),
            uids: all,
            next: None,
            used: Instant::now(),
        }
    }

    /// Notes that a message is asked for alone, and whether that is the next one.
    fn note(&mut self, view: &View, uid: Uid, wanted: &Wanted) {
        let follows = |last: Uid| {
            let number = view.number(last);
            number.is_some_and(|n| view.number(uid) == Some(n + 1))
        };
        match &mut self.last {
            Some((last, before)) if before == wanted && follows(*last) => {
                *last = uid;
                self.row += 1;
            }
            last => {
                *last = Some((uid, wanted.clone()));
                (self.row, self.largest) = (0, None);
            }
        }
    }

    /// How many messages to ask for at once.
    fn more(&self, wanted: &Wanted) -> u32 {
        // To tell the size of a part can mean to read all of it.
        let cheap = |s: &Section| !s.decode && !s.size_only;
        if self.row < IN_A_ROW || !wanted.sections.iter().all(cheap) {
            return 1;
        }
        let fit = match self.largest {
            _ if wanted.sections.is_empty() => MOST,
            Some(bytes) => MOST_BYTES / bytes.max(1),
            None => 1,
        };
        fit.min(MOST).min(2 << self.row.min(8)) as u32
    }

    /// The command is over: its call is kept open for the next one, if something is still to come.
    pub fn keep(&mut self, mut open: Open) {
        if let Some(size) = open.size {
            let before = self.largest.unwrap_or(0);
            self.largest = Some(size.max(before - before / 8));
        }
        if open.single.is_none() || open.uids.is_empty() || !(open.whole || open.next.is_some()) {
            return;
        }
        (open.whole, open.size) = (false, None);
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
    let mut at = Instant::now() + KEPT;
    loop {
        tokio::time::sleep_until(at).await;
        let Some(kept) = kept.upgrade() else {
            return;
        };
        let kept = &mut *locked(&kept);
        match &kept.open {
            Some(open) if open.used.elapsed() < KEPT => at = open.used + KEPT,
            _ => {
                *kept = Kept::default();
                return;
            }
        }
    }
}
