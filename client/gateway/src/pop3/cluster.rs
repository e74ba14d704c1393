//! The client library, seen as the POP3 door's [`Store`].

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use posthouse_client::ids::{AccountName, MailboxId, MailboxName, MailboxRef, Uid};
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::{Section, UidRange};
use posthouse_client::{Client, Error, FetchEvent, FetchOptions};

use super::maildrop::Contents;
use super::store::{Inbox, Octets, Store, StoreError};

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
            let opened = self.open_mailbox(account, MailboxName::inbox()).await?;
            let inbox = Inbox {
                id: MailboxId(opened.mailbox.mailbox_id),
                uidvalidity: opened.mailbox.uidvalidity,
            };
            let mut contents = Contents::new(inbox);
            let shown = opened.uids.len().min(limit as u64);
            let last = shown.checked_sub(1).map(|n| n as u32);
            let Some(last) = last.and_then(|n| opened.uids.select(n)) else {
                return Ok(contents);
            };
            let options = FetchOptions {
                uids: vec![UidRange { first: 1, last }],
                ..FetchOptions::default()
            };
            let mut rows = self
                .fetch_messages(account, reference(inbox), options)
                .await?;
            while let Some(event) = rows.next().await? {
                // What has come since the uids were read is for the next session.
                if let FetchEvent::Message(message) = event
                    && opened.uids.contains(message.uid)
                {
                    contents.push(message.uid, message.size);
                }
            }
            Ok(contents)
        })
    }

    fn fetch<'a>(
        &'a self,
        account: &'a AccountName,
        inbox: Inbox,
        uid: Uid,
    ) -> BoxFuture<'a, Result<Octets, StoreError>> {
        Box::pin(async move {
            let options = FetchOptions {
                uids: vec![UidRange {
                    first: uid,
                    last: uid,
                }],
                // With the blob id, so that the octets are checked on this side.
                email: true,
                sections: vec![Section::default()],
                ..FetchOptions::default()
            };
            let mut events = self
                .fetch_messages(account, reference(inbox), options)
                .await?;
            match events.next().await? {
                Some(FetchEvent::Message(_) | FetchEvent::Rows(_)) => {}
                _ => return Err(StoreError::Gone(format!("message {uid} is gone"))),
            }
            let octets = events.into_stream().try_filter_map(|event| async move {
                match event {
                    FetchEvent::Section(piece) if piece.outcome == Outcome::Data as i32 => {
                        Ok(Some(piece.data))
                    }
                    _ => Err(Error::Corrupt {
                        message: "something else came than the octets of a message".into(),
                    }),
                }
            });
            Ok(octets.map_err(StoreError::from).boxed())
        })
    }

    fn remove<'a>(
        &'a self,
        account: &'a AccountName,
        inbox: Inbox,
        uids: Vec<(Uid, Uid)>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let range = |(first, last)| UidRange { first, last };
        let uids: Vec<UidRange> = uids.into_iter().map(range).collect();
        Box::pin(async move {
            if !uids.is_empty() {
                // The client draws one request id, and repeats the call under it.
                self.expunge(account, reference(inbox), uids, true, None)
                    .await?;
            }
            Ok(())
        })
    }
}

fn reference(inbox: Inbox) -> MailboxRef {
    MailboxRef::Id {
        id: inbox.id,
        uidvalidity: inbox.uidvalidity,
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
