//! The client library, seen as a door's [`Store`].

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use posthouse_client::body::Pieces;
use posthouse_client::ids::AccountName;
use posthouse_client::proto::AccountState;
use posthouse_client::{Client, Error, Recipient};

use crate::lmtp::body::Body;
use crate::store::{Delivery, Identity, Store, StoreError, Stored};

/// For a message of which octets are still to come, the client's deadline would run while the
/// sender sends. The door gives such a call up by itself: when the sender has been silent for
/// too long, or when no answer comes after the last octet.
const SENDING_DEADLINE: Duration = Duration::from_secs(24 * 3600);

impl Store for Client {
    fn exists<'a>(&'a self, account: &'a AccountName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            match self.get_account(account).await {
                Ok(a) if a.state() == AccountState::Closed => Err(StoreError::Closed),
                Ok(_) => Ok(true),
                Err(error) => match StoreError::from(error) {
                    StoreError::NoAccount => Ok(false),
                    error => Err(error),
                },
            }
        })
    }

    fn deliver(
        &self,
        delivery: Delivery,
    ) -> BoxFuture<'_, Result<Vec<Result<Stored, StoreError>>, StoreError>> {
        let client = match delivery.body.len() {
            Some(_) => self.clone(),
            None => self.with_deadline(SENDING_DEADLINE),
        };
        let request = posthouse_client::Delivery {
            identity: match delivery.identity {
                Identity::Id(id) => posthouse_client::Identity::Request(id),
                Identity::ByContent => posthouse_client::Identity::ByContent {
                    sender: delivery.sender,
                },
            },
            recipients: delivery
                .recipients
                .into_iter()
                .map(Recipient::inbox)
                .collect(),
            internal_date_ms: 0,
        };
        Box::pin(async move {
            let delivered = client.deliver(&request, &delivery.body).await?;
            let result = |stored: Result<posthouse_client::Stored, Error>| {
                let stored = stored?;
                Ok(Stored {
                    duplicate: stored.duplicate,
                })
            };
            Ok(delivered.results.into_iter().map(result).collect())
        })
    }
}

impl posthouse_client::Body for Body {
    fn open(&self) -> BoxFuture<'_, io::Result<Pieces>> {
        let pieces = self
            .pieces()
            .map(|piece: Result<Bytes, _>| piece.map_err(io::Error::other));
        Box::pin(async move { Ok(pieces.boxed()) })
    }

    fn len(&self) -> Option<u64> {
        Body::len(self)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        match error {
            Error::NotFound { what, .. } if what == "account" => StoreError::NoAccount,
            Error::Busy { .. } => StoreError::Busy,
            Error::ReadOnly { .. } => StoreError::ReadOnly,
            Error::TooLarge { limit, .. } => StoreError::TooLarge { limit_bytes: limit },
            Error::Source { .. } => StoreError::BrokenOff,
            Error::Refused { message } => StoreError::Refused(message),
            bad @ Error::BadRequest { .. } => StoreError::Refused(bad.to_string()),
            // Whatever it was, the sender keeps the message and tries again.
            other => StoreError::Unavailable(other.to_string()),
        }
    }
}
