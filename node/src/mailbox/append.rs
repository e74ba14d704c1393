//! One message into one mailbox, with flags and internal date (RFC 9051, section 6.3.12).

use bytes::Bytes;
use futures::Stream;

use super::deliver::StoredMessage;
use super::{Caller, MailboxError, Operations, Result, check};
use crate::machine::command::Target;
use crate::types::*;

/// What an append says before its octets.
#[derive(Debug, Clone, Default)]
pub struct AppendHead {
    /// 16 octets.
    pub request_id: Vec<u8>,
    /// Whose.
    pub account: String,
    /// Where.
    pub mailbox: String,
    /// Flags to set.
    pub flags: Vec<String>,
    /// 0: the node's clock.
    pub internal_date_ms: u64,
    /// Octets to come, 0: not known.
    pub size_hint: u64,
}

/// An appended message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The blob.
    pub blob: BlobId,
    /// Its octets.
    pub size: u64,
    /// The message.
    pub stored: StoredMessage,
}

impl Operations {
    /// Appends one message. A retry with the same request_id gets the first answer.
    pub async fn append(
        &self,
        caller: &Caller,
        head: AppendHead,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<Appended> {
        let target = Target {
            request_id: check::request_id(&head.request_id)?,
            account: check::account("account", &head.account)?,
            mailbox: check::mailbox("mailbox", &head.mailbox)?.into(),
            flags: check::flags("flags", &head.flags)?,
        };
        let led = self.led(&target.account)?;
        let leds = std::slice::from_ref(&led);
        let mut arrived = self.take_in(caller, leds, head.size_hint, pieces).await?;
        let internal_date_ms = match head.internal_date_ms {
            0 => self.env.clock.now_ms(),
            given => given,
        };
        let result = self
            .store(&led, &arrived, vec![target], internal_date_ms)
            .await;
        if matches!(result, Ok(_) | Err(MailboxError::Unavailable(_))) {
            arrived.guard.disarm(led.shard);
        }
        let stored = result?
            .pop()
            .unwrap_or_else(|| Err(MailboxError::outcome_unknown()))?;
        Ok(Appended {
            blob: arrived.blob.id,
            size: arrived.blob.size,
            stored,
        })
    }
}
