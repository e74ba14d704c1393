//! Messages of one account that go to another one: copied, or moved.
//!
//! A node takes as many at once as one step holds, all of them or none, and says from which uid on
//! the next step goes. The steps have request_ids that follow from the first one's, so that a
//! repetition of the whole gets their answers again and goes on where it broke off.

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, MailboxRef, RequestId, Uid};
use crate::messages::{Copied, copied};
use crate::proto::UidRange;
use crate::proto::messages_client::MessagesClient;

impl Client {
    /// Stores copies of messages in a mailbox of another account, with their flags and dates. See
    /// [`move_to_account`](Client::move_to_account) for what holds of many.
    pub async fn copy_to_account(
        &self,
        account: &AccountName,
        from: impl Into<MailboxRef>,
        uids: Vec<UidRange>,
        (to_account, to): (&AccountName, impl Into<MailboxRef>),
        request_id: Option<RequestId>,
    ) -> Result<Copied, Error> {
        let to = (to_account, to.into());
        self.transfer(account, from.into(), uids, to, request_id, false)
            .await
    }

    /// Moves messages to a mailbox of another account: stored there with their flags and dates,
    /// then removed here. What was begun is seen through by the cluster, whoever dies. Many go in
    /// several steps, each all or none: after an error the first ones may have gone, and the same
    /// call under the same request_id goes on.
    pub async fn move_to_account(
        &self,
        account: &AccountName,
        from: impl Into<MailboxRef>,
        uids: Vec<UidRange>,
        (to_account, to): (&AccountName, impl Into<MailboxRef>),
        request_id: Option<RequestId>,
    ) -> Result<Copied, Error> {
        let to = (to_account, to.into());
        self.transfer(account, from.into(), uids, to, request_id, true)
            .await
    }

    async fn transfer(
        &self,
        account: &AccountName,
        from: MailboxRef,
        uids: Vec<UidRange>,
        (to_account, to): (&AccountName, MailboxRef),
        request_id: Option<RequestId>,
        away: bool,
    ) -> Result<Copied, Error> {
        let id = request_id.unwrap_or_else(|| self.request_id());
        let mut request = self.copy_request(account, from, uids, to, Some(id));
        request.to_account = to_account.as_str().to_owned();
        let mut done: Option<Copied> = None;
        let mut begin = 0;
        loop {
            let answer = self.change_on_leader(Scope::from(account), |t| {
                let request = t.request(request.clone());
                async move {
                    let mut client = MessagesClient::new(t.channel);
                    match away {
                        true => client.r#move(request).await,
                        false => client.copy(request).await,
                    }
                }
            });
            let answer = answer.await?;
            let next = answer.next_uid;
            let step = copied(answer);
            let done = match &mut done {
                None => done.insert(step),
                Some(before) if before.uidvalidity != step.uidvalidity => {
                    return Err(Error::Refused {
                        message: "the mailbox that messages came into was deleted and made anew \
                                  while they came"
                            .into(),
                    });
                }
                Some(before) => {
                    before.modseq = step.modseq;
                    before.from.extend(step.from);
                    before.to.extend(step.to);
                    before
                }
            };
            if next == 0 {
                return Ok(done.clone());
            }
            if next <= begin {
                return Err(Error::Corrupt {
                    message: format!("the step after uid {begin} says to begin at {next}"),
                });
            }
            begin = next;
            request.uids = from_on(&request.uids, next);
            request.request_id = step_id(id, next).0.to_vec().into();
        }
    }
}

/// What of the ranges is not below `first`.
fn from_on(uids: &[UidRange], first: Uid) -> Vec<UidRange> {
    let left = uids.iter().filter(|r| r.last == 0 || r.last >= first);
    left.map(|r| UidRange {
        first: r.first.max(first),
        last: r.last,
    })
    .collect()
}

/// The identity of the step that begins at a uid.
fn step_id(id: RequestId, first: Uid) -> RequestId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"posthouse step of a transfer v1");
    hasher.update(&id.0);
    hasher.update(&first.to_le_bytes());
    let mut own = [0; 16];
    own.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    RequestId(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_has_what_is_left_and_an_identity_of_its_own() {
        let range = |first, last| UidRange { first, last };
        let uids = [range(1, 4), range(7, 9), range(12, 0)];
        assert_eq!(from_on(&uids, 8), [range(8, 9), range(12, 0)]);
        assert_eq!(from_on(&uids, 20), [range(20, 0)]);
        let id = RequestId([7; 16]);
        assert_eq!(step_id(id, 8), step_id(id, 8));
        assert_ne!(step_id(id, 8), step_id(id, 9));
        assert_ne!(step_id(id, 8), id);
    }
}
