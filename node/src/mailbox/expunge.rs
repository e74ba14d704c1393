//! Removes messages (RFC 9051, section 6.4.3; UID EXPUNGE, RFC 4315, section 2.1).

use super::check::{MailboxFields, UidRanges};
use super::split::Union;
use super::{Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{Op, Reply};
use crate::types::*;

/// A removal as requested.
#[derive(Debug, Clone)]
pub struct Expunge {
    /// 16 octets.
    pub request_id: Vec<u8>,
    /// Whose.
    pub account: String,
    /// Where.
    pub mailbox: MailboxFields,
    /// Inclusive; a last uid of 0 is no upper bound; none at all: every message.
    pub uids: Vec<(Uid, Uid)>,
    /// Also messages without \Deleted.
    pub force: bool,
}

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expunged {
    /// The account's modseq after the change.
    pub modseq: ModSeq,
    /// Removed uids.
    pub vanished: UidRanges,
}

impl Operations {
    /// Removes messages, in steps of bounded size; each step is atomic.
    pub async fn expunge(&self, request: Expunge) -> Result<Expunged> {
        let request_id = check::request_id(&request.request_id)?;
        let account = check::account("account", &request.account)?;
        let mailbox = request.mailbox.check("mailbox")?;
        let uids = match request.uids.is_empty() {
            true => vec![(1, Uid::MAX)],
            false => check::uids("uids", request.uids.into_iter())?,
        };
        let led = self.replica_of(&account)?;
        let steps = self
            .steps_of(&led, &account, &mailbox, request_id, uids)
            .await?;
        let (mut modseq, mut vanished) = (0, Union::default());
        for (n, step) in steps.into_iter().enumerate() {
            let op = Op::Expunge {
                request_id: step.request_id,
                account: account.clone(),
                mailbox: (&mailbox).into(),
                uids: step.uids,
                force: request.force,
            };
            let done = self.propose(&led, op).await;
            let done = done.map_err(|e| if n > 0 { e.begun() } else { e });
            match done? {
                Reply::Expunged {
                    modseq: now,
                    vanished: v,
                } => {
                    modseq = modseq.max(now);
                    vanished.add(v);
                }
                Reply::Error(e) => return Err(from_apply(e, What::Mailbox)),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(Expunged {
            modseq,
            vanished: vanished.ranges(),
        })
    }
}
