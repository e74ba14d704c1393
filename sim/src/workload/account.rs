//! Creates and deletes accounts, creates mailboxes.

use crate::history::{Answer, Call, Done};

use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name, request_id};

/// Creates an account.
pub(super) async fn create(at: &At<'_>, account: u32) {
    let name = account_id(account);
    let client = at.client(0);
    let id = request_id(at.request());
    let call = Call::CreateAccount {
        account: account_name(account),
    };
    let answer = at
        .call(call, async {
            match client.create_account(&name, id).await {
                Ok(_) => Answer::Done(Done::Plain),
                Err(e) => answer::of(e),
            }
        })
        .await;
    if let Answer::Done(_) = answer {
        at.inner.known.lock().reset(account);
    }
}

/// Deletes an account with everything in it.
pub(super) async fn delete(at: &At<'_>, account: u32) {
    let name = account_id(account);
    let client = at.client(0);
    let id = request_id(at.request());
    let call = Call::DeleteAccount {
        account: account_name(account),
    };
    let answer = at
        .call(call, async {
            match client.delete_account(&name, id).await {
                Ok(()) => Answer::Done(Done::Plain),
                Err(e) => answer::of(e),
            }
        })
        .await;
    if let Answer::Done(_) = answer {
        at.inner.known.lock().reset(account);
    }
}

/// Creates a mailbox.
pub(super) async fn create_mailbox(at: &At<'_>, account: u32, mailbox: u32) {
    let (name, mailbox_id) = (account_id(account), mailbox_id(mailbox));
    let client = at.client(0);
    let id = request_id(at.request());
    let call = Call::CreateMailbox {
        account: account_name(account),
        mailbox: mailbox_name(mailbox),
    };
    at.call(call, async {
        match client.create_mailbox(&name, &mailbox_id, vec![], id).await {
            Ok(_) => Answer::Done(Done::Plain),
            Err(e) => answer::of(e),
        }
    })
    .await;
}
