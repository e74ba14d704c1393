//! One message for one or several recipients (LMTP, RFC 2033): one result a recipient, after the
//! quorum.
//!
//! Recipients of one shard share one `Store` command and one blob; each further shard that this
//! node leads gets its own copy. A recipient whose shard is led elsewhere hears so by its result,
//! and the others are served.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::Stream;
use futures::future::join_all;

use super::intake::Arrived;
use super::limits::{MAX_RECIPIENTS, MAX_SENDER_BYTES};
use super::{
    Caller, Led, MailboxError, Operations, Result, What, check, error::from_apply, unexpected,
};
use crate::machine::command::{Op, Reply, Store, StoreResult, Target};
use crate::rare::{self, Rare};
use crate::types::*;

/// One recipient as the request names it.
#[derive(Debug, Clone, Default)]
pub struct Recipient {
    /// Address of the account.
    pub account: String,
    /// Empty: INBOX.
    pub mailbox: String,
    /// Flags to set.
    pub flags: Vec<String>,
}

/// What a delivery says before its octets.
#[derive(Debug, Clone, Default)]
pub struct DeliverHead {
    /// 16 octets, or empty with `by_content`.
    pub request_id: Vec<u8>,
    /// Derive the request_id from sender and octets.
    pub by_content: bool,
    /// Reverse-path.
    pub sender: String,
    /// 1 to 1000.
    pub recipients: Vec<Recipient>,
    /// Octets to come, 0: not known.
    pub size_hint: u64,
    /// 0: the node's clock.
    pub internal_date_ms: u64,
}

/// A message that is stored on a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMessage {
    /// Where.
    pub mailbox: MailboxId,
    /// Era of the mailbox.
    pub uidvalidity: u32,
    /// The message.
    pub uid: Uid,
    /// The account's modseq after the change.
    pub modseq: ModSeq,
    /// The email.
    pub email: EmailId,
    /// The answer of an earlier request with the same identity.
    pub duplicate: bool,
}

/// The outcome of one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Whose.
    pub account: String,
    /// Where.
    pub mailbox: String,
    /// Stored on a quorum, or why not.
    pub outcome: Result<StoredMessage>,
}

/// The outcome of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverOutcome {
    /// The blob and its size; absent when no recipient's shard is led here, and so no octet was
    /// read.
    pub blob: Option<(BlobId, u64)>,
    /// One a recipient, in order.
    pub results: Vec<Delivered>,
}

/// How a delivery is recognised when it comes again.
enum Identity {
    Given(RequestId),
    Content(String),
}

impl Identity {
    fn request_id(&self, blob: &BlobId) -> RequestId {
        match self {
            Identity::Given(id) => *id,
            Identity::Content(sender) => by_content(sender, blob),
        }
    }
}

/// The identity of a delivery by its content: an MTA that repeats one after a lost reply sends
/// the same octets from the same sender, and that is one message.
pub fn by_content(sender: &str, blob: &BlobId) -> RequestId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"posthouse deliver by content v1");
    hasher.update(&(sender.len() as u32).to_le_bytes());
    hasher.update(sender.as_bytes());
    hasher.update(&blob.0);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RequestId(id)
}

/// A checked recipient.
struct Checked {
    account: AccountName,
    mailbox: MailboxName,
    flags: Vec<String>,
}

fn check_recipients(given: &[Recipient]) -> Result<Vec<Checked>> {
    if given.is_empty() || given.len() > MAX_RECIPIENTS {
        return Err(MailboxError::bad(
            "recipients",
            format_args!(
                "{} recipients, 1 to {MAX_RECIPIENTS} are allowed",
                given.len()
            ),
        ));
    }
    let check_one = |(i, r): (usize, &Recipient)| {
        Ok(Checked {
            account: check::account(&format!("recipients[{i}].account"), &r.account)?,
            mailbox: match r.mailbox.as_str() {
                "" => MailboxName::inbox(),
                name => check::mailbox(&format!("recipients[{i}].mailbox"), name)?,
            },
            flags: check::flags(&format!("recipients[{i}].flags"), &r.flags)?,
        })
    };
    given.iter().enumerate().map(check_one).collect()
}

fn check_identity(head: &DeliverHead) -> Result<Identity> {
    match (head.by_content, head.request_id.as_slice()) {
        (true, []) if head.sender.len() > MAX_SENDER_BYTES => Err(MailboxError::bad(
            "sender",
            format_args!("longer than {MAX_SENDER_BYTES} octets"),
        )),
        (true, []) => Ok(Identity::Content(head.sender.clone())),
        (true, _) => Err(MailboxError::bad(
            "request_id",
            "must be empty with by_content, which derives it",
        )),
        (false, id) => Ok(Identity::Given(check::request_id(id)?)),
    }
}

impl Operations {
    /// Delivers one message. The call fails as a whole on a bad head, a broken stream, a full
    /// window or a lost sole shard; else every recipient has its own outcome.
    pub async fn deliver(
        &self,
        caller: &Caller,
        head: DeliverHead,
        pieces: impl Stream<Item = Result<Bytes>> + Send,
    ) -> Result<DeliverOutcome> {
        let identity = check_identity(&head)?;
        let recipients = check_recipients(&head.recipients)?;

        let mut outcomes: Vec<Option<Result<StoredMessage>>> = vec![None; recipients.len()];
        let mut groups: BTreeMap<ShardId, (Led, Vec<usize>)> = BTreeMap::new();
        for (i, recipient) in recipients.iter().enumerate() {
            match self.led(&recipient.account) {
                Ok(led) => {
                    let group = groups.entry(led.shard).or_insert_with(|| (led, Vec::new()));
                    group.1.push(i);
                }
                Err(e) => outcomes[i] = Some(Err(e)),
            }
        }
        let (leds, groups): (Vec<Led>, Vec<Vec<usize>>) = groups.into_values().unzip();
        let mut blob = None;
        if !leds.is_empty() {
            let mut arrived = self.take_in(caller, &leds, head.size_hint, pieces).await?;
            blob = Some((arrived.blob.id, arrived.blob.size));
            let request_id = identity.request_id(&arrived.blob.id);
            let internal_date_ms = match head.internal_date_ms {
                0 => self.env.clock.now_ms(),
                given => given,
            };
            let stores =
                leds.iter()
                    .zip(&groups)
                    .zip(&arrived.shards)
                    .map(|((led, group), ready)| {
                        let targets = group.iter().map(|&i| Target {
                            request_id,
                            account: recipients[i].account.clone(),
                            mailbox: (&recipients[i].mailbox).into(),
                            flags: recipients[i].flags.clone(),
                        });
                        let targets: Vec<Target> = targets.collect();
                        let arrived = &arrived;
                        async move {
                            ready.clone()?;
                            self.store(led, arrived, targets, internal_date_ms).await
                        }
                    });
            let stored = join_all(stores).await;
            for (i, stored) in stored.into_iter().enumerate() {
                let group = &groups[i];
                // A `Store` that may still be applied keeps its chunks.
                let proposed = arrived.shards[i].is_ok();
                if proposed && matches!(stored, Ok(_) | Err(MailboxError::Unavailable(_))) {
                    arrived.guard.disarm(leds[i].shard);
                }
                match stored {
                    Ok(results) => {
                        for (&i, result) in group.iter().zip(results) {
                            outcomes[i] = Some(result);
                        }
                    }
                    Err(e) => group
                        .iter()
                        .for_each(|&i| outcomes[i] = Some(Err(e.clone()))),
                }
            }
        }

        let stored = |o: &&Option<Result<StoredMessage>>| matches!(o, Some(Ok(_)));
        if (1..outcomes.len()).contains(&outcomes.iter().filter(stored).count()) {
            rare::hit(Rare::DeliveredInPart);
        }
        let results = recipients
            .into_iter()
            .zip(outcomes)
            .map(|(r, outcome)| Delivered {
                account: r.account.to_string(),
                mailbox: r.mailbox.to_string(),
                outcome: outcome.unwrap_or_else(|| Err(MailboxError::outcome_unknown())),
            });
        Ok(DeliverOutcome {
            blob,
            results: results.collect(),
        })
    }

    /// Proposes the `Store` of one shard; one result a target.
    pub(crate) async fn store(
        &self,
        led: &Led,
        arrived: &Arrived,
        targets: Vec<Target>,
        internal_date_ms: u64,
    ) -> Result<Vec<Result<StoredMessage>>> {
        let expected = targets.len();
        let command = self.command(Op::Store(Box::new(Store {
            threads: arrived.threads.clone(),
            targets,
            internal_date_ms,
            blob: arrived.blob.clone(),
            summary: arrived.summary.clone(),
        })));
        let reply = led.replica.propose(command, arrived.stored.clone()).await;
        match reply.map_err(|e| self.shard_error(e))? {
            Reply::Stored(results) if results.len() == expected => {
                Ok(results.into_iter().map(from_store).collect())
            }
            Reply::Error(e) => Err(from_apply(e, What::Message)),
            other => Err(unexpected(&other)),
        }
    }
}

fn from_store(result: StoreResult) -> Result<StoredMessage> {
    match result {
        StoreResult::Stored {
            mailbox,
            uidvalidity,
            uid,
            modseq,
            email,
            duplicate,
        } => Ok(StoredMessage {
            mailbox,
            uidvalidity,
            uid,
            modseq,
            email,
            duplicate,
        }),
        StoreResult::Failed(e) => Err(from_apply(e, What::Message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_identity_depends_on_sender_and_octets_alone() {
        let (a, b) = (BlobId::of(b"a"), BlobId::of(b"b"));
        assert_eq!(by_content("s@x", &a), by_content("s@x", &a));
        assert_ne!(by_content("s@x", &a), by_content("s@x", &b));
        assert_ne!(by_content("s@x", &a), by_content("", &a));
    }

    #[test]
    fn a_bad_recipient_is_named() {
        let head = |recipients| check_recipients(recipients).map(|r| r.len());
        assert!(head(&[]).is_err());
        let bad = [
            Recipient {
                account: "a@b".into(),
                ..Recipient::default()
            },
            Recipient {
                account: "a\n@b".into(),
                ..Recipient::default()
            },
        ];
        match head(&bad) {
            Err(MailboxError::BadRequest { field, .. }) => {
                assert_eq!(field, "recipients[1].account")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(head(&bad[..1]), Ok(1));
    }
}
