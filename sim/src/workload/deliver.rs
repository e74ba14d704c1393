//! Delivers one message to one or several accounts, and repeats the call under its request id, as
//! a front end does that has lost the answer.

use posthouse_client::ids::RequestId;
use posthouse_client::{Delivery, Identity, Recipient};

use crate::history::{Answer, Call, Done, Octets};
use crate::plan::Given;

use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name};

/// What is delivered.
pub(super) struct Delivered<'a> {
    /// To these accounts.
    pub to: Vec<u32>,
    /// Into this mailbox of each.
    pub into: u32,
    /// The message.
    pub octets: Octets,
    /// What it is given beside.
    pub given: &'a Given,
}

/// Delivers, and repeats so many times.
pub(super) async fn deliver(at: &At<'_>, what: Delivered<'_>, repeat: u32) {
    let Delivered {
        to: accounts,
        into,
        octets,
        given,
    } = what;
    let request = at.request();
    let body = at.octets(octets);
    let recipients = accounts.iter().map(|a| Recipient {
        mailbox: (into != 0).then(|| mailbox_id(into)),
        flags: given.flags.clone(),
        ..Recipient::inbox(account_id(*a))
    });
    let delivery = Delivery {
        identity: Identity::Request(RequestId(request)),
        recipients: recipients.collect(),
        internal_date_ms: given.date_ms,
    };
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::Deliver {
            accounts: accounts.iter().map(|a| account_name(*a)).collect(),
            mailbox: mailbox_name(into),
            given: given.clone(),
            octets,
            request: Some(request),
            may_exist: true,
        };
        let answer = at
            .call(call, async {
                match client.deliver(&delivery, &body).await {
                    Ok(delivered) => {
                        let results = delivered.results.into_iter();
                        let results =
                            results.map(|r| r.map(|s| answer::stored(&s)).map_err(answer::of));
                        Answer::Done(Done::Delivered(results.collect()))
                    }
                    Err(e) => answer::of(e),
                }
            })
            .await;
        if let Answer::Done(Done::Delivered(results)) = answer {
            let mut known = at.inner.known.lock();
            for (account, result) in accounts.iter().zip(results) {
                if let Ok(at) = result {
                    known.seen((*account, into), at.uid, at.modseq);
                }
            }
        }
    }
}
