//! Creates, deletes and lists accounts, asks what one holds, creates mailboxes.

use futures::TryStreamExt;

use crate::history::{Answer, Call, Done, UsageSeen};

use super::{At, DOMAIN, account_id, account_name, answer, mailbox_id, mailbox_name, request_id};

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

/// Asks what an account holds.
pub(super) async fn usage(at: &At<'_>, account: u32) {
    let name = account_id(account);
    let client = at.client(0);
    let call = Call::Usage {
        account: account_name(account),
    };
    at.call(call, async {
        match client.usage(&name).await {
            Ok(held) => Answer::Done(Done::Usage(UsageSeen {
                mailboxes: held.mailboxes,
                messages: held.messages,
                unseen: held.unseen,
                deleted: held.deleted,
                bytes: held.bytes,
            })),
            Err(e) => answer::of(e),
        }
    })
    .await;
}

/// Lists the accounts of all shards, `page` at a time.
pub(super) async fn list(at: &At<'_>, page: u32) {
    let client = at.client(0);
    at.call(Call::Accounts, async {
        let pages: Result<Vec<_>, _> = client.list_accounts(page).try_collect().await;
        match pages {
            Ok(pages) => {
                let all = pages.into_iter().flatten();
                let all = all.map(|account| (account.name, account.highest_modseq));
                // The run has accounts of its own, by which it sees that the cluster serves.
                let all = all.filter(|(name, _)| name.ends_with(DOMAIN));
                Answer::Done(Done::Accounts(all.collect()))
            }
            Err(e) => answer::of(e),
        }
    })
    .await;
}
