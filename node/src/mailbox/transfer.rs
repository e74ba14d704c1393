//! Copies and moves messages to another account, whose shard another node may lead: inserted there,
//! then removed here (`machine::command::transfer` draws the steps).
//!
//! What has to be done stands in the rows of the source, so that whoever leads it carries it on: the
//! call that asked for it, a repetition of that call, or the worker. They share what is in hand on
//! this node, so that the octets travel once. A caller who goes away, or whose time is up, stops
//! nothing; a repetition of the request waits for the same transfer and gets its answer.
//!
//! One call takes as many messages as one step holds, all of them or none, and says with which uid
//! the next call is to begin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::check::UidRanges;
use super::copy::Copied;
use super::intake::{Intake, Uploads};
use super::route::Elsewhere;
use super::{
    Caller, Led, MailboxError, Operations, Proposer, Result, What, error::from_apply,
    list_accounts, list_mailboxes, unexpected,
};
use crate::index::uids::to_ranges;
use crate::index::values::{AccountRow, TransferRow, get};
use crate::index::{IndexError, keys::Key};
use crate::machine::command::{
    AppendItem, ApplyError, Arrival, Arrive, Arriving, BeginTransfer, Op, Place, Reply, TransferId,
};
use crate::machine::limits::{APPEND_BYTES, CHUNKS_PER_BLOB, ITEMS_PER_APPEND};
use crate::machine::read;
use crate::machine::transfers::{self, Look, Looked};
use crate::raft::shard::ReadView;
use crate::rare::{self, Rare};
use crate::types::*;

/// Octets of messages in one step, unless the first alone has more: a step must end before its
/// caller's patience does.
const STEP_BYTES: u64 = 32 << 20;
/// Octets about messages in one step. They are made anew on the way, and may become a little more.
const STEP_WEIGHT: usize = APPEND_BYTES / 2;
/// Messages after which others of this thread have their turn.
const ROWS_AT_A_TIME: usize = 128;
/// Messages of all transfers of this node that are on their way at once. They wait long where another
/// shard's window is full, and must leave room in the node's own for mail that comes in.
const AT_ONCE: usize = 8;
/// How often a step that meets a full window is tried again before the worker gets its turn.
const TRIES: u32 = 10;
/// The pause before.
const PAUSE: Duration = Duration::from_millis(100);

/// A transfer as requested, checked.
pub(super) struct Transfer {
    pub(super) request_id: RequestId,
    /// Whether the originals go.
    pub(super) away: bool,
    pub(super) account: AccountName,
    pub(super) from: MailboxRef,
    pub(super) uids: UidRanges,
    pub(super) to_account: AccountName,
    pub(super) to: MailboxRef,
}

type Outcome = watch::Receiver<Option<Result<Copied>>>;

/// Transfers that this node is at work on.
pub(super) struct InHand {
    outcomes: Mutex<BTreeMap<TransferId, Outcome>>,
    /// A turn for each message that may be on its way.
    turns: Semaphore,
}

impl Default for InHand {
    fn default() -> InHand {
        InHand {
            outcomes: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }
}

/// Takes a transfer out of hand, also when the work on it panics.
struct Held(Arc<Operations>, TransferId);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.transfers.outcomes.lock().remove(&self.1);
    }
}

/// One message of a step.
struct Original {
    uid: Uid,
    flags: Vec<String>,
    internal_date_ms: u64,
    size: u64,
    blob: BlobId,
}

/// Why messages did not get to their target.
enum Failed {
    /// They cannot, as things are: the transfer is given up.
    Hopeless(MailboxError),
    /// Later, perhaps.
    Later(MailboxError),
}

impl Operations {
    pub(super) async fn transfer(self: &Arc<Self>, transfer: Transfer) -> Result<Copied> {
        let led = self.led(&transfer.account)?;
        let view = self.read(&led).await?;
        let (account, _) = list_accounts::find(&view, &transfer.account)?;
        let (request_id, away) = (transfer.request_id, transfer.away);
        let (rows, space) = (&*view.view, view.space);
        // Before anything that may be gone by now is looked up.
        if let Some(first) = transfers::answer(rows, space, account, away, request_id)? {
            return copied(first);
        }
        let known = transfers::of_account(rows, space, account)?;
        let same =
            |row: &TransferRow| !row.over && row.away == away && row.request_id == request_id;
        if let Some((number, _)) = known.iter().find(|(_, row)| same(row)) {
            let source = account;
            return self
                .carry_transfer(
                    &led,
                    TransferId {
                        source,
                        number: *number,
                    },
                )
                .await;
        }
        let source = list_mailboxes::find(&view, &transfer.account, &transfer.from)?;
        let to = self.place(&transfer.to_account, &transfer.to).await?;
        let selected = selected(&view, account, source.mailbox, &transfer.uids).await;
        let (messages, next) = selected?;
        drop(view);
        let begin = Op::BeginTransfer(Box::new(BeginTransfer {
            request_id,
            account: transfer.account,
            mailbox: transfer.from,
            messages,
            to,
            away,
            next,
        }));
        match self.propose(&led, begin).await? {
            Reply::Transferring { number } => {
                let source = account;
                let outcome = self.take_up(&led, TransferId { source, number }, true);
                settled(outcome).await
            }
            Reply::Error(e) => Err(from_apply(e, What::Mailbox)),
            done => copied(done),
        }
    }

    /// Sees a transfer through that was begun at some time, as the leader of its source.
    pub(crate) async fn carry_transfer(
        self: &Arc<Self>,
        led: &Led,
        id: TransferId,
    ) -> Result<Copied> {
        settled(self.take_up(led, id, false)).await
    }

    /// Whether somebody on this node sees a transfer through.
    pub(crate) fn has_in_hand(&self, id: TransferId) -> bool {
        self.transfers.outcomes.lock().contains_key(&id)
    }

    /// Begins to work on a transfer, unless somebody does already. `fresh`: nobody ever did.
    fn take_up(self: &Arc<Self>, led: &Led, id: TransferId, fresh: bool) -> Outcome {
        let mut in_hand = self.transfers.outcomes.lock();
        if let Some(outcome) = in_hand.get(&id) {
            return outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        in_hand.insert(id, outcome.clone());
        if !fresh {
            rare::hit(Rare::TransferTakenUp);
        }
        let (ops, led) = (Arc::clone(self), led.clone());
        let held = Held(Arc::clone(self), id);
        // A task of its own: a caller that goes away leaves no half behind.
        tokio::spawn(async move {
            let (target, done) = ops.see_through(&led, id, fresh).await;
            tell.send_replace(Some(done));
            drop(held);
            if let Some(target) = target
                && let Err(e) = ops.settle_transfers(&led, id.source, target).await
            {
                tracing::debug!(error = %e, "a transfer is settled later");
            }
        });
        outcome
    }

    /// The target of a transfer that is over, and the answer to it.
    async fn see_through(
        self: &Arc<Self>,
        led: &Led,
        id: TransferId,
        fresh: bool,
    ) -> (Option<AccountId>, Result<Copied>) {
        match self.try_through(led, id, fresh).await {
            Ok((target, done)) => (Some(target), done),
            // The intent stands: whoever leads next carries it on, also when this caller is refused
            // for another reason then.
            Err(e) => (None, Err(e.begun())),
        }
    }

    async fn try_through(
        self: &Arc<Self>,
        led: &Led,
        id: TransferId,
        fresh: bool,
    ) -> Result<(AccountId, Result<Copied>)> {
        let view = self.read(led).await?;
        let row: Option<TransferRow> = get(&*view.view, view.space, &Key::Transfer(id))?;
        drop(view);
        // Whoever was faster has ended it.
        let Some(row) = row else {
            return Err(MailboxError::outcome_unknown());
        };
        let target = row.to.account;
        if row.over {
            return Ok((target, Err(MailboxError::outcome_unknown())));
        }
        let shard = self.shard_of_account(target)?;
        let known = match fresh {
            true => None,
            false => self.arrived_before(shard, target, id).await?,
        };
        let (arrival, why) = match known {
            Some(arrival) => (arrival, None),
            None => self.bring(led, shard, id, &row).await?,
        };
        let end = Op::EndTransfer {
            transfer: id,
            arrival: arrival.clone(),
        };
        let done = match (self.propose(led, end).await?, arrival) {
            (Reply::Done, Arrival::Refused(e)) => {
                Err(why.unwrap_or_else(|| from_apply(e, What::Mailbox)))
            }
            // The account is gone, and the messages are at their target all the same; or somebody
            // else has ended it, and it is forgotten: nothing that a refusal could say.
            (Reply::Done, Arrival::Here { .. }) => Err(MailboxError::outcome_unknown()),
            (Reply::Error(e), _) => Err(from_apply(e, What::Mailbox)),
            (reply, _) => copied(reply),
        };
        Ok((target, done))
    }

    /// Which mailbox of another account is meant.
    async fn place(&self, account: &AccountName, mailbox: &MailboxRef) -> Result<Place> {
        let shard = self.routes.shard_of(Slot::of(account));
        let shard = shard.ok_or(MailboxError::StalePlacement)?;
        let look = Look::Place {
            account: account.clone(),
            mailbox: mailbox.clone(),
        };
        match self.leaders.look(shard, &look).await {
            Ok(Looked::Place(place)) => Ok(place),
            Ok(Looked::NoPlace(e)) => Err(from_apply(e, What::Mailbox)),
            Ok(Looked::Arrival(_)) | Err(_) => Err(MailboxError::Unavailable(
                "the shard of the other account does not answer; nothing was begun".into(),
            )),
        }
    }

    fn shard_of_account(&self, account: AccountId) -> Result<ShardId> {
        let shard = self.routes.shard_of(account.slot());
        shard.ok_or(MailboxError::StalePlacement)
    }

    /// What the target has answered to an earlier try.
    async fn arrived_before(
        &self,
        shard: ShardId,
        account: AccountId,
        transfer: TransferId,
    ) -> Result<Option<Arrival>> {
        let look = Look::Arrival { account, transfer };
        match self.leaders.look(shard, &look).await {
            Ok(Looked::Arrival(arrival)) => Ok(arrival),
            _ => Err(silent()),
        }
    }

    /// Brings the messages to their target, or has it answer that they do not come; with the reason
    /// where that is not the target's.
    async fn bring(
        self: &Arc<Self>,
        led: &Led,
        shard: ShardId,
        id: TransferId,
        row: &TransferRow,
    ) -> Result<(Arrival, Option<MailboxError>)> {
        let mut tries = 0;
        let hopeless = loop {
            tries += 1;
            match self.send(led, shard, id, row).await {
                Ok(arrival) => return Ok((arrival, None)),
                Err(Failed::Hopeless(e)) => break e,
                Err(Failed::Later(MailboxError::Busy { retry_after_ms })) if tries < TRIES => {
                    let asked = Duration::from_millis(retry_after_ms);
                    tokio::time::sleep(asked.max(PAUSE)).await;
                }
                // The leader of the other shard is not whom the caller should turn to.
                Err(Failed::Later(_)) => return Err(silent()),
            }
        };
        let nothing = Arriving::Nothing(ApplyError::Refused(hopeless.to_string()));
        match self.arrive(shard, id, row.to, nothing).await {
            Ok(arrival) => Ok((arrival, Some(hopeless))),
            Err(Failed::Hopeless(e) | Failed::Later(e)) => {
                tracing::debug!(error = %e, "a transfer cannot be given up yet");
                Err(silent())
            }
        }
    }

    /// Sends what is left of the messages, and has them stored.
    async fn send(
        self: &Arc<Self>,
        led: &Led,
        shard: ShardId,
        id: TransferId,
        row: &TransferRow,
    ) -> Result<Arrival, Failed> {
        let view = self.read(led).await.map_err(Failed::Later)?;
        let originals = originals(&view, id.source, row).map_err(|e| failed(e.into()))?;
        drop(view);
        let target = Led {
            shard,
            replica: Arc::new(self.elsewhere(shard)),
        };
        let from = to_ranges(originals.iter().map(|original| original.uid));
        let sent = originals
            .into_iter()
            .map(|original| self.send_one(led.shard, &target, original));
        let sent: Vec<(AppendItem, Uploads)> =
            stream::iter(sent).buffered(AT_ONCE).try_collect().await?;
        let (items, mut guards): (Vec<AppendItem>, Vec<Uploads>) = sent.into_iter().unzip();
        let what = Arriving::Messages { from, items };
        let arrival = self.arrive(shard, id, row.to, what).await;
        if !matches!(arrival, Err(Failed::Hopeless(_))) {
            // They are over, or whoever stores them still needs them.
            guards.iter_mut().for_each(|guard| guard.disarm(shard));
        }
        arrival
    }

    async fn send_one(
        self: &Arc<Self>,
        shard: ShardId,
        target: &Led,
        original: Original,
    ) -> Result<(AppendItem, Uploads), Failed> {
        // It is never closed.
        let _turn = self.transfers.turns.acquire().await.ok();
        let fetching = self.fetching(shard, original.blob, original.size);
        let pieces = self.read_pieces(&fetching);
        let pieces = pieces.map(|piece| piece.map(|piece| piece.data));
        let intake = Intake {
            size_hint: original.size,
            by_upload: true,
        };
        let leds = std::slice::from_ref(target);
        let caller = Caller::default();
        let arrived = self.take_in_as(&caller, leds, intake, pieces).await;
        let mut arrived = arrived.map_err(failed)?;
        if arrived.blob.id != original.blob {
            let why = format!("the octets are not those of blob {}", original.blob);
            return Err(Failed::Hopeless(MailboxError::Corrupt(why)));
        }
        let item = AppendItem {
            flags: original.flags,
            internal_date_ms: original.internal_date_ms,
            blob: arrived.blob.clone(),
            summary: std::mem::take(&mut arrived.summary),
            threads: std::mem::take(&mut arrived.threads),
        };
        Ok((item, std::mem::take(&mut arrived.guard)))
    }

    /// Has the target store the messages, or give up on them.
    async fn arrive(
        &self,
        shard: ShardId,
        transfer: TransferId,
        to: Place,
        what: Arriving,
    ) -> Result<Arrival, Failed> {
        let op = Op::Arrive(Box::new(Arrive { transfer, to, what }));
        let there = self.elsewhere(shard);
        let reply = there.propose(self.command(op), Bytes::new()).await;
        match reply.map_err(|e| failed(self.shard_error(e)))? {
            Reply::Arrived(arrival) => Ok(arrival),
            // For ever: an account's number never comes again.
            Reply::Error(e @ ApplyError::NoAccount) => Ok(Arrival::Refused(e)),
            Reply::Error(ApplyError::NoUpload) => Err(Failed::Later(MailboxError::Busy {
                retry_after_ms: self.limits.retry_after_ms,
            })),
            Reply::Error(e) => Err(Failed::Hopeless(from_apply(e, What::Mailbox))),
            // It is over: another leader of the source has seen it through.
            Reply::Done => Err(Failed::Later(MailboxError::outcome_unknown())),
            other => Err(Failed::Later(unexpected(&other))),
        }
    }

    fn elsewhere(&self, shard: ShardId) -> Elsewhere {
        let leaders = Arc::clone(&self.leaders);
        Elsewhere { leaders, shard }
    }

    /// Has a target forget what it answered to transfers that are over, and then forgets them here.
    pub(crate) async fn settle_transfers(
        &self,
        led: &Led,
        account: AccountId,
        target: AccountId,
    ) -> Result<()> {
        let view = self.local_view(led)?;
        let below = transfers::over_below(&*view.view, view.space, account, target)?;
        drop(view);
        let shard = self.shard_of_account(target)?;
        let forget = Op::ForgetArrivals {
            account: target,
            source: account,
            below,
        };
        let command = self.command(forget);
        let reply = self.leaders.propose(shard, command, Bytes::new()).await;
        match reply.map_err(|e| self.shard_error(e))? {
            Reply::Done => {}
            other => return Err(unexpected(&other)),
        }
        let settle = Op::SettleTransfers {
            account,
            target,
            below,
        };
        match self.propose(led, settle).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

/// The answer, once somebody has it.
async fn settled(mut outcome: Outcome) -> Result<Copied> {
    match outcome.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(done)) => done.clone(),
        _ => Err(MailboxError::outcome_unknown()),
    }
}

fn copied(reply: Reply) -> Result<Copied> {
    match reply {
        Reply::Transferred {
            uidvalidity,
            modseq,
            from,
            to,
            next,
        } => Ok(Copied {
            modseq,
            uidvalidity,
            from,
            to,
            next,
        }),
        other => Err(unexpected(&other)),
    }
}

fn silent() -> MailboxError {
    MailboxError::Unavailable(
        "the shard of the other account does not answer; the outcome is unknown and is still \
         worked on: retry with the same request_id"
            .into(),
    )
}

/// Whether an error of sending leaves hope.
fn failed(e: MailboxError) -> Failed {
    match e {
        MailboxError::Busy { .. } | MailboxError::Unavailable(_) => Failed::Later(e),
        MailboxError::WrongLeader { .. } | MailboxError::StalePlacement => Failed::Later(e),
        // Expunged while it was read: the next try leaves it out.
        MailboxError::NotFound(What::Blob) => Failed::Later(MailboxError::Busy {
            retry_after_ms: PAUSE.as_millis() as u64,
        }),
        e => Failed::Hopeless(e),
    }
}

/// The first messages of these ranges, as many as one step holds, each with what it shows; and the
/// uid of the next one, 0 when there is none.
async fn selected(
    view: &ReadView,
    account: AccountId,
    mailbox: MailboxId,
    uids: &UidRanges,
) -> Result<(Vec<(Uid, EmailId)>, Uid)> {
    let (rows, space) = (&*view.view, view.space);
    let mut chosen: Vec<(Uid, EmailId)> = Vec::new();
    let (mut weight, mut octets, mut chunks) = (0, 0, 0);
    for range in uids {
        let room = ITEMS_PER_APPEND - chosen.len() + 1;
        let (found, _) = read::messages(rows, space, account, mailbox, *range, room)?;
        for (uid, row) in found {
            let email = read::email(rows, space, account, row.email)?;
            let summary = read::summary(rows, space, account, row.email)?;
            let blob = match &email {
                Some(email) => read::blob(rows, space, email.blob)?,
                None => None,
            };
            // A keyword has a few dozen octets; that a name is long is what the half is for.
            weight += summary.map_or(0, |s| s.len()) + 64 * (1 + row.keywords.len());
            chunks += blob.map_or(1, |blob| blob.chunks.len());
            octets += row.size;
            let full = chosen.len() == ITEMS_PER_APPEND
                || weight > STEP_WEIGHT
                || octets > STEP_BYTES
                || chunks > CHUNKS_PER_BLOB as usize;
            if full && !chosen.is_empty() {
                return Ok((chosen, uid));
            }
            chosen.push((uid, row.email));
            if chosen.len().is_multiple_of(ROWS_AT_A_TIME) {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok((chosen, 0))
}

/// The messages of a transfer that are still there, as they are now.
fn originals(
    view: &ReadView,
    account: AccountId,
    row: &TransferRow,
) -> Result<Vec<Original>, IndexError> {
    let (rows, space) = (&*view.view, view.space);
    let mailbox = row.mailbox;
    let owner: Option<AccountRow> = get(rows, space, &Key::Account(account))?;
    let id = MailboxRef::Id {
        id: mailbox,
        uidvalidity: 0,
    };
    if owner.is_none_or(|owner| owner.going) || read::mailbox(rows, space, account, &id)?.is_none()
    {
        return Ok(Vec::new());
    }
    let keywords = read::keywords(rows, space, account, mailbox)?;
    let mut found = Vec::with_capacity(row.messages.len());
    for (uid, email) in &row.messages {
        let message = read::message(rows, space, account, mailbox, *uid)?;
        let Some(message) = message.filter(|message| message.email == *email) else {
            continue;
        };
        let Some(shown) = read::email(rows, space, account, *email)? else {
            continue;
        };
        found.push(Original {
            uid: *uid,
            flags: read::flag_names(&message, &keywords),
            internal_date_ms: message.internal_date_ms,
            size: message.size,
            blob: shown.blob,
        });
    }
    Ok(found)
}
