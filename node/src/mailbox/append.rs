//! Messages into one mailbox, with flags and internal date (RFC 9051, section 6.3.12): one, one in
//! the place of another (RFC 8508), or several, all or none (RFC 3502).
//!
//! Of several messages the octets of each are proposed as they come, under an upload of its own,
//! so that no more is held in memory than of one; the command at the end names them all. When it
//! does not come to that, the uploads are dropped.

use std::pin::pin;

use bytes::Bytes;
use futures::stream::unfold;
use futures::{Stream, StreamExt};

use super::check::MailboxFields;
use super::deliver::StoredMessage;
use super::intake::{Arrived, Intake, Uploads};
use super::{
    Caller, Led, MailboxError, Operations, Result, What, check, error::from_apply, unexpected,
};
use crate::machine::command::{AppendItem, AppendMany, Op, Replaced, Reply, Target};
use crate::machine::limits::{APPEND_BYTES, CHUNKS_PER_BLOB, ITEMS_PER_APPEND};
use crate::types::*;

/// What an append says before the octets of a message.
#[derive(Debug, Clone, Default)]
pub struct AppendHead {
    /// 16 octets.
    pub request_id: Vec<u8>,
    /// Whose.
    pub account: String,
    /// Where.
    pub mailbox: MailboxFields,
    /// Flags to set.
    pub flags: Vec<String>,
    /// 0: the node's clock.
    pub internal_date_ms: u64,
    /// Octets to come, 0: not known.
    pub size_hint: u64,
    /// Another message follows; request, account and mailbox are those of the first.
    pub more: bool,
    /// A message that goes when this one is stored.
    pub replace: Replaced,
}

/// What follows the first head of an append of several messages.
#[derive(Debug, Clone)]
pub enum AppendPart {
    /// The next message begins.
    Head(AppendHead),
    /// Octets.
    Data(Bytes),
    /// The message is complete.
    End,
}

/// Appended messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The blob of the last one.
    pub blob: BlobId,
    /// Its octets.
    pub size: u64,
    /// The first one; uids and emails of the others follow without a gap.
    pub stored: StoredMessage,
    /// How many.
    pub count: u32,
}

/// Where messages go, checked.
struct Place {
    request_id: RequestId,
    account: AccountName,
    mailbox: MailboxRef,
}

impl AppendHead {
    fn place(&self) -> Result<Place> {
        Ok(Place {
            request_id: check::request_id(&self.request_id)?,
            account: check::account("account", &self.account)?,
            mailbox: self.mailbox.check("mailbox")?,
        })
    }
}

impl Operations {
    /// Appends one message. A retry with the same request_id gets the first answer.
    pub async fn append(
        &self,
        caller: &Caller,
        head: AppendHead,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Appended> {
        let place = head.place()?;
        let flags = check::flags("flags", &head.flags)?;
        if let Some((mailbox, uidvalidity, uid)) = head.replace.parts() {
            if uid == 0 {
                return Err(MailboxError::bad("replace_uid", "uids begin at 1"));
            }
            if mailbox == MailboxId(0) && uidvalidity != 0 {
                return Err(MailboxError::bad(
                    "replace_uidvalidity",
                    "is a condition of a replace_mailbox_id, and there is none",
                ));
            }
        }
        let led = self.led(&place.account)?;
        let leds = std::slice::from_ref(&led);
        let mut arrived = self.take_in(caller, leds, head.size_hint, pieces).await?;
        let (blob, size) = (arrived.blob.id, arrived.blob.size);
        let internal_date_ms = self.date_or_now(head.internal_date_ms);
        let result = match head.replace {
            Replaced::Nothing => {
                let target = Target {
                    request_id: place.request_id,
                    account: place.account,
                    mailbox: place.mailbox,
                    flags,
                };
                self.store(&led, &arrived, vec![target], internal_date_ms)
                    .await
                    .and_then(|mut stored| match stored.pop() {
                        Some(stored) => stored,
                        None => Err(MailboxError::outcome_unknown()),
                    })
                    .map(|stored| (stored, 1))
            }
            _ => {
                let stored = arrived.stored.clone();
                let items = vec![item(&mut arrived, flags, internal_date_ms)];
                self.store_all(&led, place, items, head.replace, stored)
                    .await
            }
        };
        if matches!(result, Ok(_) | Err(MailboxError::Unavailable(_))) {
            arrived.guard.disarm(led.shard);
        }
        let (stored, count) = result?;
        Ok(Appended {
            blob,
            size,
            stored,
            count,
        })
    }

    /// Appends several messages, all or none: `first` is the head of the first, `parts` what
    /// follows it. A retry with the same request_id gets the first answer.
    pub async fn append_many(
        &self,
        caller: &Caller,
        first: AppendHead,
        parts: impl Stream<Item = Result<AppendPart>> + Send,
    ) -> Result<Appended> {
        let place = first.place()?;
        let led = self.led(&place.account)?;
        let mut parts = pin!(parts);
        let mut head = first;
        let (mut items, mut guards) = (Vec::new(), Vec::<Uploads>::new());
        let (mut weight, mut chunks) = (0, 0);
        let (blob, size) = loop {
            if head.replace != Replaced::Nothing {
                return Err(MailboxError::bad(
                    "replace_uid",
                    "one message replaces another, not several",
                ));
            }
            if items.len() == ITEMS_PER_APPEND {
                return Err(over(format_args!("{ITEMS_PER_APPEND} messages")));
            }
            let flags = check::flags("flags", &head.flags)?;
            let intake = Intake {
                size_hint: head.size_hint,
                by_upload: true,
            };
            let leds = std::slice::from_ref(&led);
            let pieces = message(&mut parts);
            let mut arrived = self.take_in_as(caller, leds, intake, pieces).await?;
            let date_ms = self.date_or_now(head.internal_date_ms);
            let item = item(&mut arrived, flags, date_ms);
            weight += item.weight();
            chunks += item.blob.chunks.len();
            let last = (item.blob.id, item.blob.size);
            items.push(item);
            guards.push(std::mem::take(&mut arrived.guard));
            if weight > APPEND_BYTES {
                return Err(over(format_args!("{APPEND_BYTES} octets about messages")));
            }
            if chunks > CHUNKS_PER_BLOB as usize {
                return Err(over(format_args!("{CHUNKS_PER_BLOB} chunks of messages")));
            }
            if !head.more {
                break last;
            }
            head = match parts.next().await.transpose()? {
                Some(AppendPart::Head(head)) => head,
                Some(_) => return Err(MailboxError::bad("part", "not the head of a message")),
                None => return Err(broke_off()),
            };
        };
        let result = self
            .store_all(&led, place, items, Replaced::Nothing, Bytes::new())
            .await;
        if matches!(result, Ok(_) | Err(MailboxError::Unavailable(_))) {
            guards.iter_mut().for_each(|guard| guard.disarm(led.shard));
        }
        let (stored, count) = result?;
        Ok(Appended {
            blob,
            size,
            stored,
            count,
        })
    }

    fn date_or_now(&self, given_ms: u64) -> u64 {
        match given_ms {
            0 => self.env.clock.now_ms(),
            given => given,
        }
    }

    /// Proposes an `AppendMany`: the first message, and how many there are.
    async fn store_all(
        &self,
        led: &Led,
        place: Place,
        items: Vec<AppendItem>,
        replace: Replaced,
        stored: Bytes,
    ) -> Result<(StoredMessage, u32)> {
        let command = self.command(Op::AppendMany(Box::new(AppendMany {
            request_id: place.request_id,
            account: place.account,
            mailbox: place.mailbox,
            items,
            replace,
        })));
        let reply = led.replica.propose(command, stored).await;
        match reply.map_err(|e| self.shard_error(e))? {
            Reply::Appended {
                mailbox,
                uidvalidity,
                uid,
                count,
                email,
                modseq,
            } => {
                let first = StoredMessage {
                    mailbox,
                    uidvalidity,
                    uid,
                    modseq,
                    email,
                    // The answer does not tell a first time from a repetition.
                    duplicate: false,
                };
                Ok((first, count))
            }
            Reply::Error(e) => Err(from_apply(e, What::Message)),
            other => Err(unexpected(&other)),
        }
    }
}

/// A message that is here, as the command carries it.
fn item(arrived: &mut Arrived, flags: Vec<String>, internal_date_ms: u64) -> AppendItem {
    AppendItem {
        flags,
        internal_date_ms,
        blob: arrived.blob.clone(),
        summary: std::mem::take(&mut arrived.summary),
        threads: std::mem::take(&mut arrived.threads),
    }
}

fn over(what: std::fmt::Arguments) -> MailboxError {
    MailboxError::Refused(format!("limit reached: {what} in one append"))
}

fn broke_off() -> MailboxError {
    MailboxError::Unavailable("the stream ended before its end mark; nothing is stored".into())
}

/// The octets of one message, up to its end.
fn message<S>(parts: &mut S) -> impl Stream<Item = Result<Bytes>> + Send + '_
where
    S: Stream<Item = Result<AppendPart>> + Send + Unpin,
{
    unfold(Some(parts), |parts| async move {
        let parts = parts?;
        let failed = match parts.next().await {
            Some(Ok(AppendPart::Data(data))) => return Some((Ok(data), Some(parts))),
            Some(Ok(AppendPart::End)) => return None,
            Some(Ok(AppendPart::Head(_))) => MailboxError::bad("part", "a second head"),
            Some(Err(e)) => e,
            None => broke_off(),
        };
        Some((Err(failed), None))
    })
}
