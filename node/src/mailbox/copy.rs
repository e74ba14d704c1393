//! Copies and moves messages inside an account (RFC 9051, section 6.4.7; RFC 6851); to another
//! account they go as a [`transfer`](super::transfer).
//!
//! A set of uids that one command may touch is one command, and so all or nothing. A larger one
//! goes in steps at fixed uids, as changes of flags do ([`super::split`]). For a move that is
//! all that its RFC asks for: each message is moved or is not. A copy whose later step is refused
//! removes what the earlier ones made, so that it is all or nothing as long as this node leads; when
//! it does not any more, the outcome is unknown, and a repetition goes on where the first try stood.
//! What was taken back cannot be repeated under the same request_id, because the steps would
//! answer what they answered before: the removal's own remembered request tells.
//!
//! The steps run in a task of their own: a caller that goes away halfway leaves no half behind.

use std::sync::Arc;
use std::time::Duration;

use super::check::{MailboxFields, UidRanges};
use super::list_mailboxes::find;
use super::split::{Step, Union, one_command, steps};
use super::transfer::Transfer;
use super::{Led, MailboxError, Operations, Result, What, check, error::from_apply, unexpected};
use crate::index::keys::{Key, RequestKind};
use crate::machine::command::{CopyMessages, Op, Reply};
use crate::machine::{read, request};
use crate::types::*;

/// How often a step that finds the shard busy is proposed again before the caller hears of it.
const BUSY_TRIES: u32 = 20;

/// A copy or a move as requested.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// 16 octets.
    pub request_id: Vec<u8>,
    /// Whose.
    pub account: String,
    /// Where they are.
    pub from: MailboxFields,
    /// Inclusive; a last uid of 0 is no upper bound.
    pub uids: Vec<(Uid, Uid)>,
    /// In which account they come; empty: in the same one.
    pub to_account: String,
    /// Where they come.
    pub to: MailboxFields,
}

/// What a copy or a move did: the n-th uid of `from` became the n-th uid of `to`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// The account's modseq after the change.
    pub modseq: ModSeq,
    /// Era of the mailbox that they came into.
    pub uidvalidity: u32,
    /// Where they were.
    pub from: UidRanges,
    /// Where they are.
    pub to: UidRanges,
    /// To another account: the first uid that was asked for and was too many for one step; it is
    /// to be asked for again from there. 0: none.
    pub next: Uid,
}

/// Whether the originals stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copy,
    Move,
}

/// The commands of one request.
struct Plan {
    way: Way,
    led: Led,
    request_id: RequestId,
    account: AccountName,
    from: MailboxRef,
    to: MailboxRef,
    /// Both are the same mailbox, as far as that matters.
    same: bool,
    steps: Vec<Step>,
}

/// How the steps of a plan ended early.
enum Failed {
    /// By a refusal: nothing of the step was done.
    Refused(MailboxError),
    /// Otherwise: a repetition may go on.
    Open(MailboxError),
}

impl Operations {
    /// Copies messages: all of them or none.
    pub async fn copy(self: &Arc<Self>, request: Copy) -> Result<Copied> {
        self.carry(Way::Copy, request).await
    }

    /// Moves messages, each in one step.
    pub async fn move_messages(self: &Arc<Self>, request: Copy) -> Result<Copied> {
        self.carry(Way::Move, request).await
    }

    async fn carry(self: &Arc<Self>, way: Way, request: Copy) -> Result<Copied> {
        let request_id = check::request_id(&request.request_id)?;
        let account = check::account("account", &request.account)?;
        let from = request.from.check("mailbox")?;
        let to = request.to.check("to")?;
        let uids = check::uids("uids", request.uids.into_iter())?;
        if uids.is_empty() {
            return Err(MailboxError::bad("uids", "name at least one range"));
        }
        if !request.to_account.is_empty() {
            let to_account = check::account("to_account", &request.to_account)?;
            if to_account != account {
                return self
                    .transfer(Transfer {
                        request_id,
                        away: way == Way::Move,
                        account,
                        from,
                        uids,
                        to_account,
                        to,
                    })
                    .await;
            }
        }
        let plan = Plan {
            way,
            led: self.replica_of(&account)?,
            request_id,
            account,
            from,
            to,
            same: false,
            steps: Vec::new(),
        };
        let plan = self.planned(plan, uids).await?;
        if plan.steps.len() == 1 {
            return self.carry_out(&plan).await;
        }
        let ops = Arc::clone(self);
        let task = tokio::spawn(async move { ops.carry_out(&plan).await });
        task.await
            .unwrap_or_else(|_| Err(MailboxError::outcome_unknown()))
    }

    /// The plan with its steps. Where one command does not do, it is made on what the mailboxes are
    /// now, and stays with them whatever they are called later.
    async fn planned(&self, mut plan: Plan, uids: UidRanges) -> Result<Plan> {
        let request_id = plan.request_id;
        if one_command(&uids) {
            plan.steps = vec![Step { request_id, uids }];
            return Ok(plan);
        }
        let view = self.read(&plan.led).await?;
        let source = find(&view, &plan.account, &plan.from)?;
        plan.from = by_id(source.mailbox, source.row.uidvalidity);
        plan.steps = steps(request_id, &uids, source.row.uidnext).collect();
        if plan.steps.is_empty() {
            // All of them above what the mailbox ever had: one command says so, with a modseq.
            plan.steps = vec![Step { request_id, uids }];
        }
        let target = read::mailbox(&*view.view, view.space, source.account, &plan.to)?;
        // None: it may have been there when the steps were done, and they say so.
        if let Some((id, row)) = target {
            plan.to = by_id(id, row.uidvalidity);
            plan.same = id == source.mailbox;
            let kind = RequestKind::Expunge;
            let removal = removal_id(request_id, 0);
            let of = (source.account, MailboxId(0));
            let removal = Key::Request(request::of_account(kind, of.0, of.1, removal));
            let octets = removal.encode(view.space);
            if plan.way == Way::Copy && view.view.get(removal.family(), &octets)?.is_some() {
                return Err(MailboxError::Refused(
                    "this copy was refused in part, and taken back; ask for it under a new \
                     request_id"
                        .into(),
                ));
            }
        }
        Ok(plan)
    }

    async fn carry_out(&self, plan: &Plan) -> Result<Copied> {
        let mut done = Copied::default();
        let (mut from, mut made) = (Union::default(), Vec::new());
        // Copies inside one mailbox come behind what was there, and are not copied again; the
        // first answer tells a repetition, too, where they begin.
        let mut newest = Uid::MAX;
        for step in &plan.steps {
            let uids: UidRanges = match plan.same {
                false => step.uids.clone(),
                true => up_to(newest, &step.uids),
            };
            if uids.is_empty() {
                continue;
            }
            match self.carry_step(plan, step.request_id, uids).await {
                Ok(copied) => {
                    done.modseq = done.modseq.max(copied.modseq);
                    done.uidvalidity = copied.uidvalidity;
                    if let (Uid::MAX, Some((first, _))) = (newest, copied.to.first()) {
                        newest = first - 1;
                    }
                    from.add(copied.from);
                    made.extend(copied.to);
                }
                Err(Failed::Refused(e)) => {
                    if plan.way == Way::Copy {
                        self.take_back(plan, made).await;
                    }
                    return Err(e);
                }
                // Earlier steps may have been done, here or by an earlier try.
                Err(Failed::Open(e)) if plan.steps.len() > 1 => return Err(e.begun()),
                Err(Failed::Open(e)) => return Err(e),
            }
        }
        done.from = from.ranges();
        let mut to = Union::default();
        to.add(made);
        done.to = to.ranges();
        Ok(done)
    }

    async fn carry_step(
        &self,
        plan: &Plan,
        request_id: RequestId,
        uids: UidRanges,
    ) -> Result<Copied, Failed> {
        let copy = CopyMessages {
            request_id,
            account: plan.account.clone(),
            from: plan.from.clone(),
            uids,
            to: plan.to.clone(),
        };
        let op = match plan.way {
            Way::Copy => Op::Copy(copy),
            Way::Move => Op::Move(copy),
        };
        match self.propose_patiently(plan, op).await {
            Ok(Reply::Copied {
                uidvalidity,
                modseq,
                from,
                to,
            }) => Ok(Copied {
                modseq,
                uidvalidity,
                from,
                to,
                next: 0,
            }),
            Ok(Reply::Error(e)) => Err(Failed::Refused(from_apply(e, What::Mailbox))),
            Ok(other) => Err(Failed::Open(unexpected(&other))),
            Err(e) => Err(Failed::Open(e)),
        }
    }

    /// Proposes one of several steps; a shard that is busy meanwhile does not end them.
    async fn propose_patiently(&self, plan: &Plan, op: Op) -> Result<Reply> {
        let tries = match plan.steps.len() {
            1 => 1,
            _ => BUSY_TRIES,
        };
        let mut result = self.propose(&plan.led, op.clone()).await;
        for _ in 1..tries {
            let Err(MailboxError::Busy { retry_after_ms }) = result else {
                break;
            };
            tokio::time::sleep(Duration::from_millis(retry_after_ms)).await;
            result = self.propose(&plan.led, op.clone()).await;
        }
        result
    }

    /// Removes what a copy made before it was refused. Best effort: a leader that dies in it
    /// leaves a part of the copy.
    async fn take_back(&self, plan: &Plan, made: Vec<(Uid, Uid)>) {
        if made.is_empty() {
            return;
        }
        for (n, uids) in (0..).zip(made) {
            let op = Op::Expunge {
                request_id: removal_id(plan.request_id, n),
                account: plan.account.clone(),
                mailbox: plan.to.clone(),
                uids: vec![uids],
                force: true,
            };
            match self.propose_patiently(plan, op).await {
                Ok(Reply::Expunged { .. }) => {}
                Ok(reply) => tracing::warn!(?reply, "a part of a refused copy stays"),
                Err(e) => tracing::warn!(error = %e, "a part of a refused copy stays"),
            }
        }
    }
}

fn by_id(id: MailboxId, uidvalidity: u32) -> MailboxRef {
    MailboxRef::Id { id, uidvalidity }
}

/// The uids that are not above `newest`.
fn up_to(newest: Uid, uids: &UidRanges) -> UidRanges {
    let within = uids.iter().filter(|(first, _)| *first <= newest);
    within.map(|(a, b)| (*a, (*b).min(newest))).collect()
}

/// The identity of the n-th removal of a copy that is taken back.
fn removal_id(request_id: RequestId, n: u32) -> RequestId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"posthouse copy taken back v1");
    hasher.update(&request_id.0);
    hasher.update(&n.to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RequestId(id)
}
