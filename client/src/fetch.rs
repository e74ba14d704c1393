//! The octets of a message, as a stream.
//!
//! A stream that breaks off goes on at another replica from where it was. Every whole fetch is
//! hashed on this side: only octets whose BLAKE3 is the blob id end without an error.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use tonic::Streaming;

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, BlobId, MailboxName, ModSeq, Uid};
use crate::messages::blob_id;
use crate::proto::messages_client::MessagesClient;
use crate::proto::{FetchBlobRequest, FetchBlobResponse};
use crate::rare::{self, Rare};
use crate::retry::{Advice, Deadline, advice};

/// How often one fetch may be taken up again without having got any further.
const MAX_IDLE_RESUMES: u32 = 5;

/// Which octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Of this message.
    Message(MailboxName, Uid),
    /// Of this blob of the account's shard.
    Blob(BlobId),
}

/// Octets on their way. They are good once `octets` has ended without an error.
pub struct Fetched {
    /// Identity of the whole blob.
    pub blob_id: BlobId,
    /// Octets of the whole blob, whatever range was asked for.
    pub size: u64,
    /// Highest modseq of the account when the octets were looked for.
    pub account_modseq: ModSeq,
    /// The octets asked for, in pieces.
    pub octets: BoxStream<'static, Result<Bytes, Error>>,
}

impl Fetched {
    /// Collects the octets; refused above `limit_bytes`.
    pub async fn collect(mut self, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(piece) = self.octets.try_next().await? {
            if (all.len() + piece.len()) as u64 > limit_bytes {
                return Err(Error::TooLarge {
                    limit: limit_bytes,
                    message: format!("the message has {} octets", self.size),
                });
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

impl Client {
    /// The octets of a message.
    pub async fn fetch(
        &self,
        account: &AccountName,
        mailbox: &MailboxName,
        uid: Uid,
    ) -> Result<Fetched, Error> {
        let source = Source::Message(mailbox.clone(), uid);
        self.fetch_range(account, source, 0, 0).await
    }

    /// `length` octets from `offset`; `length` 0: to the end.
    pub async fn fetch_range(
        &self,
        account: &AccountName,
        source: Source,
        offset: u64,
        length: u64,
    ) -> Result<Fetched, Error> {
        let mut request = FetchBlobRequest {
            account: account.as_str().to_owned(),
            offset,
            length,
            ..FetchBlobRequest::default()
        };
        match source {
            Source::Message(mailbox, uid) => {
                request.mailbox = mailbox.as_str().to_owned();
                request.uid = uid;
            }
            Source::Blob(id) => request.blob_id = Bytes::copy_from_slice(&id.0),
        }
        let by = Deadline::after(self.deadline());
        let (first, stream) = start(self, Scope::from(account), &request, by).await?;
        let id = blob_id(&first.blob_id)?;
        let rest = first.size.saturating_sub(offset);
        let want = match length {
            0 => rest,
            n => n.min(rest),
        };
        // From here on the blob itself is meant, whatever happens to the message.
        request.blob_id = first.blob_id.clone();
        let (size, account_modseq) = (first.size, first.account_modseq);
        let reading = Reading {
            client: self.clone(),
            scope: Scope::from(account),
            request,
            id,
            stream: Some(stream),
            pending: Some(first),
            at: offset,
            end: offset + want,
            hasher: (offset == 0 && length == 0).then(blake3::Hasher::new),
            idle_resumes: 0,
            by: None,
        };
        Ok(Fetched {
            blob_id: id,
            size,
            account_modseq,
            octets: futures::stream::try_unfold(reading, Reading::next).boxed(),
        })
    }
}

/// Opens a stream at the leader and reads its first piece, which says what is coming.
async fn start(
    client: &Client,
    scope: Scope,
    request: &FetchBlobRequest,
    by: Deadline,
) -> Result<(FetchBlobResponse, Streaming<FetchBlobResponse>), Error> {
    let mut stream = client
        .on_leader_by(scope, by, |t| {
            let request = t.request(request.clone());
            async move { MessagesClient::new(t.channel).fetch_blob(request).await }
        })
        .await?;
    match next_piece(&mut stream, by.left()).await? {
        Some(first) => Ok((first, stream)),
        None => Err(Error::Corrupt {
            message: "the node's answer is empty".into(),
        }),
    }
}

async fn next_piece(
    stream: &mut Streaming<FetchBlobResponse>,
    within: Duration,
) -> Result<Option<FetchBlobResponse>, Error> {
    match tokio::time::timeout(within, stream.message()).await {
        Ok(piece) => piece.map_err(Error::from),
        Err(_) => Err(Error::Deadline {
            message: format!("no octets within {within:?}"),
        }),
    }
}

/// A fetch under way.
struct Reading {
    client: Client,
    scope: Scope,
    request: FetchBlobRequest,
    id: BlobId,
    stream: Option<Streaming<FetchBlobResponse>>,
    pending: Option<FetchBlobResponse>,
    /// Offset of the next octet in the blob.
    at: u64,
    /// Offset of the first octet that was not asked for.
    end: u64,
    /// Only for whole fetches.
    hasher: Option<blake3::Hasher>,
    idle_resumes: u32,
    /// When it must go on, since it broke off.
    by: Option<Deadline>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            if let Some(piece) = self.pending.take() {
                let data = self.check(piece)?;
                if !data.is_empty() {
                    self.idle_resumes = 0;
                    self.by = None;
                    return Ok(Some((data, self)));
                }
                continue;
            }
            if self.at == self.end {
                return self.finish().map(|()| None);
            }
            match &mut self.stream {
                None => {
                    self.resume().await?;
                }
                Some(stream) => match next_piece(stream, self.client.deadline()).await {
                    Ok(Some(piece)) => self.pending = Some(piece),
                    Ok(None) => self.broke(Error::Transport {
                        message: format!("the octets end at {} of {}", self.at, self.end),
                    })?,
                    Err(error) => self.broke(error)?,
                },
            }
        }
    }

    /// Takes a piece's octets, if they are those that follow.
    fn check(&mut self, piece: FetchBlobResponse) -> Result<Bytes, Error> {
        let len = piece.data.len() as u64;
        if piece.offset != self.at && len > 0 || len > self.end - self.at {
            return Err(Error::Corrupt {
                message: format!("octets {}+{len} came for {}", piece.offset, self.at),
            });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece.data);
        }
        self.at += len;
        Ok(piece.data)
    }

    fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.stream = None;
        self.idle_resumes += 1;
        let over = self.by.is_some_and(|by| by.left().is_zero());
        match advice(&error) {
            Advice::Fail => Err(error),
            _ if over || self.idle_resumes > MAX_IDLE_RESUMES => Err(error),
            _ => Ok(()),
        }
    }

    async fn resume(&mut self) -> Result<(), Error> {
        self.request.offset = self.at;
        self.request.length = self.end - self.at;
        self.request.mailbox.clear();
        self.request.uid = 0;
        // One deadline for all tries: each looks for the leader until it has passed.
        let fresh = || Deadline::after(self.client.deadline());
        let by = *self.by.get_or_insert_with(fresh);
        match start(&self.client, self.scope, &self.request, by).await {
            Ok((first, stream)) => {
                if blob_id(&first.blob_id)? != self.id {
                    return Err(Error::Corrupt {
                        message: format!("another blob came than {}", self.id),
                    });
                }
                self.pending = Some(first);
                self.stream = Some(stream);
                rare::hit(Rare::FetchTakenUpAgain);
                Ok(())
            }
            Err(error) => self.broke(error),
        }
    }

    fn finish(&self) -> Result<(), Error> {
        match &self.hasher {
            Some(hasher) if hasher.finalize().as_bytes() != &self.id.0 => Err(Error::Corrupt {
                message: format!("the octets that came are not those of {}", self.id),
            }),
            _ => Ok(()),
        }
    }
}
