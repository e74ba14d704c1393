//! The client library, seen as the POP3 door's [`Store`].

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use posthouse_client::ids::{AccountName, MailboxId, MailboxName, MailboxRef, Uid};
use posthouse_client::proto::UidRange;
use posthouse_client::{Client, Error, ListOptions};

use super::maildrop::Contents;
use super::store::{Inbox, Octets, Store, StoreError};

/// Messages asked for at a time.
const PAGE: u32 = 10_000;

impl Store for Client {
    fn login<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        peer: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.authenticate(account, password, peer).await?;
            Ok(())
        })
    }

    fn open<'a>(
        &'a self,
        account: &'a AccountName,
        limit: usize,
    ) -> BoxFuture<'a, Result<Contents, StoreError>> {
        Box::pin(async move {
            let name = MailboxName::inbox();
            let opened = self.open_mailbox(account, name.clone()).await?;
            let inbox = Inbox {
                id: MailboxId(opened.mailbox.mailbox_id),
                uidvalidity: opened.mailbox.uidvalidity,
            };
            let mut contents = Contents::new(inbox);
            let Some(last) = opened.uids.iter().take(limit).last() else {
                return Ok(contents);
            };
            let options = ListOptions {
                last,
                page: PAGE,
                ..ListOptions::default()
            };
            let mut pages = std::pin::pin!(self.list_pages(account, &name, options));
            while let Some(page) = pages.try_next().await? {
                let same = |m: &posthouse_client::proto::Mailbox| {
                    m.mailbox_id == inbox.id.0 && m.uidvalidity == inbox.uidvalidity
                };
                if !page.mailbox.as_ref().is_some_and(same) {
                    let why = "INBOX has been replaced meanwhile".to_owned();
                    return Err(StoreError::Unavailable(why));
                }
                for message in &page.messages {
                    // What has come since the uids were read is for the next session.
                    if opened.uids.contains(message.uid) {
                        contents.push(message.uid, message.size);
                    }
                }
            }
            Ok(contents)
        })
    }

    fn fetch<'a>(
        &'a self,
        account: &'a AccountName,
        _: Inbox,
        uid: Uid,
    ) -> BoxFuture<'a, Result<Octets, StoreError>> {
        Box::pin(async move {
            let fetched = Client::fetch(self, account, &MailboxName::inbox(), uid).await?;
            Ok(fetched.octets.map_err(StoreError::from).boxed())
        })
    }

    fn remove<'a>(
        &'a self,
        account: &'a AccountName,
        inbox: Inbox,
        uids: Vec<(Uid, Uid)>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mailbox = MailboxRef::Id {
            id: inbox.id,
            uidvalidity: inbox.uidvalidity,
        };
        let range = |(first, last)| UidRange { first, last };
        let uids: Vec<UidRange> = uids.into_iter().map(range).collect();
        Box::pin(async move {
            if !uids.is_empty() {
                // The client draws one request id, and repeats the call under it.
                self.expunge(account, mailbox, uids, true, None).await?;
            }
            Ok(())
        })
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        match error {
            Error::BadCredentials { retry_after, .. } if retry_after.is_zero() => {
                StoreError::BadCredentials
            }
            Error::BadCredentials { .. } => StoreError::TooManyLogins,
            Error::NotFound { message, .. } => StoreError::Gone(message),
            Error::Corrupt { message } => StoreError::Damaged(message),
            other => StoreError::Unavailable(other.to_string()),
        }
    }
}
