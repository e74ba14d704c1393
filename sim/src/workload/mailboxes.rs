//! Mailboxes themselves: made, removed, renamed, subscribed, annotated. Each call may be repeated
//! under its request id.

use std::collections::BTreeMap;
use std::future::Future;

use posthouse_client::Error;
use posthouse_client::ids::MailboxRef;
use posthouse_client::proto::{Annotation, Mailbox};

use crate::history::{Answer, Call, Done};

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name, request_id};

/// Makes a mailbox and its parents.
pub(super) async fn make(at: &At<'_>, place: Place, uses: &[String], repeat: u32) {
    let (account, name) = (account_id(place.0), mailbox_id(place.1));
    let request = at.request();
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::MakeMailbox {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            uses: uses.to_vec(),
            request,
        };
        let work = client.create_mailbox(&account, &name, uses.to_vec(), request_id(request));
        made(at, place, call, work).await;
    }
}

/// Renames one.
pub(super) async fn rename(at: &At<'_>, place: Place, to: u32, repeat: u32) {
    let account = account_id(place.0);
    let (from, name) = (mailbox_id(place.1), mailbox_id(to));
    let request = at.request();
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::RenameMailbox {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            to: mailbox_name(to),
            request,
        };
        let work = client.rename_mailbox(&account, &from, &name, request_id(request));
        let done = made(at, (place.0, to), call, work).await;
        if done && n == 0 {
            at.inner.known.lock().renamed(place, to);
        }
    }
}

/// A call that answers a mailbox; whether it was done.
async fn made(
    at: &At<'_>,
    place: Place,
    call: Call,
    work: impl Future<Output = Result<Mailbox, Error>>,
) -> bool {
    let answer = at
        .call(call, async {
            match work.await {
                Ok(mailbox) => Answer::Done(Done::Made {
                    id: mailbox.mailbox_id,
                    uid_validity: mailbox.uidvalidity,
                }),
                Err(e) => answer::of(e),
            }
        })
        .await;
    let Answer::Done(Done::Made { id, uid_validity }) = answer else {
        return false;
    };
    at.inner.known.lock().named(place, id, uid_validity);
    true
}

/// Removes one.
pub(super) async fn delete(at: &At<'_>, place: Place, by_id: bool, repeat: u32) {
    let account = account_id(place.0);
    let (which, era) = at.which(place, by_id);
    let request = at.request();
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::DeleteMailbox {
            account: account_name(place.0),
            mailbox: mailbox_name(place.1),
            era,
            request,
        };
        let work = client.delete_mailbox(&account, &which, request_id(request));
        changed(at, call, work).await;
    }
    at.inner.known.lock().forget(place);
}

/// Subscribes, or not any more.
pub(super) async fn subscribe(at: &At<'_>, place: Place, on: bool) {
    let (account, name) = (account_id(place.0), mailbox_id(place.1));
    let request = at.request();
    let client = at.client(0);
    let call = Call::Subscribe {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        on,
        request,
    };
    let work = client.subscribe(&account, &name, on, request_id(request));
    changed(at, call, work).await;
}

/// Sets special uses.
pub(super) async fn special_use(at: &At<'_>, place: Place, uses: &[String]) {
    let (account, name) = (account_id(place.0), mailbox_id(place.1));
    let request = at.request();
    let client = at.client(0);
    let call = Call::SpecialUse {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        uses: uses.to_vec(),
        request,
    };
    let work = client.set_special_use(&account, &name, uses.to_vec(), request_id(request));
    changed(at, call, work).await;
}

/// Sets or removes an annotation.
pub(super) async fn set_metadata(
    at: &At<'_>,
    account: u32,
    mailbox: Option<u32>,
    entry: &str,
    value: &str,
) {
    let name = account_id(account);
    let request = at.request();
    let client = at.client(0);
    let call = Call::SetMetadata {
        account: account_name(account),
        mailbox: mailbox.map(mailbox_name),
        entry: entry.to_owned(),
        value: value.to_owned(),
        request,
    };
    let annotation = Annotation {
        entry: entry.to_owned(),
        value: value.as_bytes().to_vec().into(),
        nil: value.is_empty(),
    };
    let which = mailbox.map(|m| MailboxRef::from(mailbox_id(m)));
    let work = client.set_metadata(&name, which, vec![annotation], request_id(request));
    changed(at, call, work).await;
}

/// A call that answers a modseq.
async fn changed(at: &At<'_>, call: Call, work: impl Future<Output = Result<u64, Error>>) {
    at.call(call, async {
        match work.await {
            Ok(modseq) => Answer::Done(Done::Changed { modseq }),
            Err(e) => answer::of(e),
        }
    })
    .await;
}

/// Reads annotations.
pub(super) async fn metadata(at: &At<'_>, account: u32, mailbox: Option<u32>) {
    let name = account_id(account);
    let client = at.client(0);
    let call = Call::Metadata {
        account: account_name(account),
        mailbox: mailbox.map(mailbox_name),
    };
    let which = mailbox.map(|m| MailboxRef::from(mailbox_id(m)));
    at.call(call, async {
        match client.get_metadata(&name, which).await {
            Ok(all) => {
                let text = |a: Annotation| {
                    let value = String::from_utf8_lossy(&a.value).into_owned();
                    (a.entry, value)
                };
                let all: BTreeMap<_, _> = all.into_iter().map(text).collect();
                Answer::Done(Done::Annotations(all))
            }
            Err(e) => answer::of(e),
        }
    })
    .await;
}
