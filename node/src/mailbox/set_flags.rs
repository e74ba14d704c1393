//! Adds, removes or replaces flags (RFC 9051, section 6.4.6; RFC 7162, section 3.1.3).

use super::check::{MailboxFields, UidRanges};
use super::split::Union;
use super::{MailboxError, Operations, Result, What, check, error::from_apply, unexpected};
use crate::machine::command::{FlagMode, Op, Reply};
use crate::types::*;

/// A change of flags as requested.
#[derive(Debug, Clone)]
pub struct SetFlags {
    /// 16 octets.
    pub request_id: Vec<u8>,
    /// Whose.
    pub account: String,
    /// Where.
    pub mailbox: MailboxFields,
    /// Inclusive; a last uid of 0 is no upper bound.
    pub uids: Vec<(Uid, Uid)>,
    /// How.
    pub mode: FlagMode,
    /// Flags and keywords.
    pub flags: Vec<String>,
    /// Only messages with no higher modseq.
    pub unchanged_since: Option<ModSeq>,
}

/// What a change of flags did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlagsSet {
    /// The account's modseq after the change.
    pub modseq: ModSeq,
    /// Changed uids.
    pub changed: UidRanges,
    /// Uids that failed the UNCHANGEDSINCE test.
    pub modified: UidRanges,
}

impl Operations {
    /// Changes flags, in steps of bounded size; each step is atomic.
    pub async fn set_flags(&self, request: SetFlags) -> Result<FlagsSet> {
        let request_id = check::request_id(&request.request_id)?;
        let account = check::account("account", &request.account)?;
        let mailbox = request.mailbox.check("mailbox")?;
        let flags = check::flags("flags", &request.flags)?;
        let uids = check::uids("uids", request.uids.into_iter())?;
        if uids.is_empty() {
            return Err(MailboxError::bad("uids", "name at least one range"));
        }
        let led = self.replica_of(&account)?;
        let steps = self
            .steps_of(&led, &account, &mailbox, request_id, uids)
            .await?;
        let (mut modseq, mut changed, mut modified) = (0, Union::default(), Union::default());
        for (n, step) in steps.into_iter().enumerate() {
            let op = Op::SetFlags {
                request_id: step.request_id,
                account: account.clone(),
                mailbox: (&mailbox).into(),
                uids: step.uids,
                mode: request.mode,
                flags: flags.clone(),
                unchanged_since: request.unchanged_since,
            };
            let done = self.propose(&led, op).await;
            let done = done.map_err(|e| if n > 0 { e.begun() } else { e });
            match done? {
                Reply::Flags {
                    modseq: now,
                    changed: c,
                    modified: m,
                } => {
                    modseq = modseq.max(now);
                    changed.add(c);
                    modified.add(m);
                }
                Reply::Error(e) => return Err(from_apply(e, What::Mailbox)),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(FlagsSet {
            modseq,
            changed: changed.ranges(),
            modified: modified.ranges(),
        })
    }
}
