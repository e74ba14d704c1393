//! One message on its way in: limits, Return-Path, and the hand-over to the store.
//!
//! A small message is handed over when it is complete. A larger one is handed over as soon as it
//! leaves memory for the spool, so that its octets flow to the store while they arrive. Either
//! way, a connection that ends before the message does breaks the body off, and nothing is
//! stored.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::Door;
use super::body::{self, Body, BodyError, Writer};
use super::reply::{self, Reply};
use super::session::Transaction;
use crate::rare::{self, Rare};
use crate::store::{Delivery, Identity, StoreError, Stored};
use crate::wire::Gone;

/// Octets that are read and dropped after a message has been refused, over the message limit.
/// A sender that goes on past them is cut off.
const PATIENCE_BYTES: u64 = 64 << 20;

type Answer = Result<Vec<Result<Stored, StoreError>>, StoreError>;

/// A message of which some octets may still be on their way.
pub struct Incoming {
    door: Arc<Door>,
    taking: Result<Taking, Reply>,
    /// Octets of the message, without Return-Path; they count on after a refusal.
    size: u64,
    header: HeaderEnd,
}

struct Taking {
    writer: Writer,
    body: Body,
    delivery: Option<AbortOnDropHandle<Answer>>,
}

impl Incoming {
    /// The start of a message.
    pub async fn start(door: &Arc<Door>, transaction: &Transaction) -> Incoming {
        let (mut writer, body) = body::pipe(door.room.clone());
        let line = format!("Return-Path: <{}>\r\n", transaction.sender);
        let taking = match writer.append(line.as_bytes()).await {
            Ok(()) => Ok(Taking {
                writer,
                body,
                delivery: None,
            }),
            Err(error) => Err(refusal(&error)),
        };
        Incoming {
            door: door.clone(),
            taking,
            size: 0,
            header: HeaderEnd::default(),
        }
    }

    /// Takes more octets. They are dropped once the message has been refused; that is said at
    /// its end, when the client listens.
    pub async fn write(&mut self, octets: &[u8], transaction: &Transaction) -> Result<(), Gone> {
        self.size = self.size.saturating_add(octets.len() as u64);
        let limits = &self.door.config;
        if self.size > limits.message_bytes {
            self.taking = Err(reply::TOO_LARGE.clone());
        } else if self.header.feed(octets) > limits.header_bytes {
            self.taking = Err(reply::LARGE_HEADER.clone());
        }
        let Ok(taking) = &mut self.taking else {
            return match self.size > limits.message_bytes.saturating_add(PATIENCE_BYTES) {
                true => Err(Gone::Abuse),
                false => Ok(()),
            };
        };
        if let Err(error) = taking.writer.append(octets).await {
            self.taking = Err(refusal(&error));
            return Ok(());
        }
        if taking.delivery.is_none() && taking.writer.is_spooled() {
            rare::hit(Rare::SentWhileArriving);
            let delivery = delivery(&self.door, transaction, taking.body.clone());
            let store = self.door.store.clone();
            let task = tokio::spawn(async move { store.deliver(delivery).await });
            taking.delivery = Some(AbortOnDropHandle::new(task));
        }
        Ok(())
    }

    /// Octets so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Refuses the message, unless it has been refused before.
    pub fn refuse(&mut self, reply: Reply) {
        if self.taking.is_ok() {
            self.taking = Err(reply);
        }
    }

    /// Why the message has been refused, if it has been.
    pub fn refused(&self) -> Option<&Reply> {
        self.taking.as_ref().err()
    }

    /// The message is all there: stores it and gives the reply for each recipient of the
    /// transaction, in the order of its RCPT commands (RFC 2033, section 4.2).
    pub async fn finish(self, transaction: &Transaction) -> Vec<Reply> {
        let replies = transaction.replies.len();
        let Taking {
            writer,
            body,
            delivery: started,
        } = match self.taking {
            Err(reply) => return vec![reply; replies],
            Ok(taking) => taking,
        };
        if let Err(error) = writer.complete().await {
            return vec![refusal(&error); replies];
        }
        let deadline = self.door.config.deliver_timeout();
        let answer = match started {
            Some(task) => tokio::time::timeout(deadline, task).await.map(|joined| {
                joined.unwrap_or_else(|_| Err(StoreError::Unavailable("given up".into())))
            }),
            None => {
                let delivery = delivery(&self.door, transaction, body);
                tokio::time::timeout(deadline, self.door.store.deliver(delivery)).await
            }
        };
        let late = |_| Err(StoreError::Unavailable("the deadline has passed".into()));
        let answer = answer.unwrap_or_else(late);
        if let Err(error) = &answer {
            tracing::warn!(%error, recipients = replies, "a message was not stored");
        }
        self.door.replies(transaction, answer)
    }
}

fn delivery(door: &Door, transaction: &Transaction, body: Body) -> Delivery {
    Delivery {
        identity: match door.config.dedupe {
            true => Identity::ByContent,
            false => Identity::Id((door.ids)()),
        },
        sender: transaction.sender.clone(),
        recipients: transaction.accounts.clone(),
        size_hint: body.len().unwrap_or(transaction.size_hint),
        body,
    }
}

fn refusal(error: &BodyError) -> Reply {
    match error {
        BodyError::NoRoom => reply::DISK_FULL.clone(),
        BodyError::BrokenOff => reply::BROKEN_OFF.clone(),
        BodyError::Spool(error) => {
            tracing::error!(%error, "the spool failed");
            reply::DISK_FULL.clone()
        }
    }
}

/// Counts the octets of the header: up to the first empty line, whichever line ends it uses.
#[derive(Debug, Default)]
struct HeaderEnd {
    octets: u64,
    line_is_empty: bool,
    begun: bool,
    done: bool,
}

impl HeaderEnd {
    /// Octets of the header so far.
    fn feed(&mut self, octets: &[u8]) -> u64 {
        if self.done {
            return self.octets;
        }
        if !self.begun && !octets.is_empty() {
            (self.begun, self.line_is_empty) = (true, true);
        }
        let mut at = 0;
        while let Some(n) = memchr::memchr(b'\n', &octets[at..]) {
            let line = &octets[at..at + n];
            at += n + 1;
            if self.line_is_empty && matches!(line, b"" | b"\r") {
                self.done = true;
                break;
            }
            self.line_is_empty = true;
        }
        if !self.done && at < octets.len() && &octets[at..] != b"\r" {
            self.line_is_empty = false;
        }
        let counted = if self.done { at } else { octets.len() };
        self.octets += counted as u64;
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_ends_at_the_first_empty_line() {
        for (message, expected) in [
            (&b"A: b\r\n\r\nbody\r\n\r\n"[..], 8),
            (b"A: b\n\nbody\n\n", 6),
            (b"\r\nbody", 2),
            (b"A: b\r\n c\r\n", 10),
            (b"A: b\r\nx\r\r\n\r\ny", 12),
        ] {
            assert_eq!(HeaderEnd::default().feed(message), expected, "{message:?}");
            for cut in 1..message.len() {
                let mut end = HeaderEnd::default();
                let mut last = 0;
                for piece in message.chunks(cut) {
                    last = end.feed(piece);
                }
                assert_eq!(last, expected, "{message:?} cut at {cut}");
            }
        }
    }
}
