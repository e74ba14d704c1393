//! Appends one message to a mailbox, and repeats the call under its request id.

use posthouse_client::AppendOptions;

use crate::history::{Answer, Call, Done, Octets};
use crate::plan::Given;

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name, request_id};

/// Appends, and repeats so many times.
pub(super) async fn append(
    at: &At<'_>,
    place: Place,
    (octets, given): (Octets, &Given),
    repeat: u32,
) {
    let request = at.request();
    let body = at.octets(octets);
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    for n in 0..=repeat {
        let client = at.client(n);
        let options = AppendOptions {
            flags: given.flags.clone(),
            internal_date_ms: given.date_ms,
            request_id: request_id(request),
            ..AppendOptions::default()
        };
        let call = Call::Append {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            octets,
            given: given.clone(),
            request,
        };
        let answer = at
            .call(call, async {
                match client.append(&account, &mailbox, &body, options).await {
                    Ok(appended) => Answer::Done(Done::Appended(answer::stored(&appended.stored))),
                    Err(e) => answer::of(e),
                }
            })
            .await;
        if let Answer::Done(Done::Appended(stored)) = answer {
            let mut known = at.inner.known.lock();
            known.seen(place, stored.uid, stored.modseq);
        }
    }
}
