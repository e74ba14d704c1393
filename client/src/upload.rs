//! Octets on their way to a node: one head, then the pieces of a body.
//!
//! The end of the request stream means that the message is complete. So when the source fails
//! halfway, the stream must not end: it stays open and the whole call is dropped, which resets it,
//! and the node stores nothing.

use std::future::Future;
use std::io;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::oneshot;
use tonic::{Response, Status};

use crate::body::{PIECE_BYTES, Pieces};
use crate::client::Failure;
use crate::error::Error;
use crate::ids::BlobId;

/// What was sent: the identity of the octets as this side has seen them, and their number.
pub(crate) type Sent = (BlobId, u64);

/// A request stream, and the news of how sending ended.
pub(crate) struct Upload<M> {
    stream: BoxStream<'static, M>,
    ended: oneshot::Receiver<Result<Sent, Error>>,
}

impl<M: Send + 'static> Upload<M> {
    /// Sends `head`, then `pieces`, which are known to be `len` octets if `len` is given.
    pub(crate) fn new(head: M, pieces: Pieces, len: Option<u64>, data: fn(Bytes) -> M) -> Self {
        let (end, ended) = oneshot::channel();
        let state = Sending {
            head: Some(head),
            pieces,
            rest: Bytes::new(),
            hasher: blake3::Hasher::new(),
            sent: 0,
            len,
            end: Some(end),
        };
        let stream = futures::stream::unfold(state, move |mut state| async move {
            let part = match state.head.take() {
                Some(head) => Some(head),
                None => state.next().await.map(data),
            };
            part.map(|part| (part, state))
        });
        Upload {
            stream: stream.boxed(),
            ended,
        }
    }

    /// Runs the call with this stream; gives its answer and what was sent, or `None` when the node
    /// answered before it had read all (it may, when it knows the request already).
    pub(crate) async fn run<R, Fut>(
        self,
        call: impl FnOnce(BoxStream<'static, M>) -> Fut,
    ) -> Result<(Response<R>, Option<Sent>), Failure>
    where
        Fut: Future<Output = Result<Response<R>, Status>>,
    {
        let answer = call(self.stream);
        tokio::pin!(answer);
        let mut ended = self.ended;
        tokio::select! {
            biased;
            end = &mut ended => match end {
                Ok(Ok(sent)) => {
                    let response = answer.await.map_err(Failure::Status)?;
                    Ok((response, Some(sent)))
                }
                Ok(Err(error)) => Err(Failure::Error(error)),
                // The transport has dropped the stream before its end: it knows why.
                Err(_) => Ok((answer.await.map_err(Failure::Status)?, None)),
            },
            answer = &mut answer => {
                let sent = ended.try_recv().ok().and_then(Result::ok);
                Ok((answer.map_err(Failure::Status)?, sent))
            }
        }
    }
}

struct Sending<M> {
    head: Option<M>,
    pieces: Pieces,
    rest: Bytes,
    hasher: blake3::Hasher,
    sent: u64,
    len: Option<u64>,
    end: Option<oneshot::Sender<Result<Sent, Error>>>,
}

impl<M> Sending<M> {
    /// The next piece; `None` at the end of a complete body.
    async fn next(&mut self) -> Option<Bytes> {
        while self.rest.is_empty() {
            match self.pieces.next().await {
                Some(Ok(piece)) => self.rest = piece,
                Some(Err(e)) => return self.fail(e).await,
                None if self.len.is_some_and(|len| len != self.sent) => {
                    let cause = format!("{} octets came, not {:?}", self.sent, self.len);
                    return self.fail(io::Error::other(cause)).await;
                }
                None => {
                    let id = BlobId(*self.hasher.finalize().as_bytes());
                    self.tell(Ok((id, self.sent)));
                    return None;
                }
            }
        }
        let n = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(n);
        self.hasher.update(&piece);
        self.sent += n as u64;
        Some(piece)
    }

    async fn fail(&mut self, e: io::Error) -> Option<Bytes> {
        self.tell(Err(Error::from(e)));
        // Ending here would make a shorter message out of a failure.
        std::future::pending().await
    }

    fn tell(&mut self, end: Result<Sent, Error>) {
        if let Some(to) = self.end.take() {
            // Whoever dropped the call is not interested any more.
            to.send(end).ok();
        }
    }
}

/// Checks that the node has stored what was sent. Without having read all it can only repeat an
/// earlier answer.
pub(crate) fn check_sent(
    sent: Option<Sent>,
    blob_id: &[u8],
    size: u64,
    duplicate: bool,
) -> Result<(), Error> {
    let message = match sent {
        Some((id, len)) if blob_id == id.0 && size == len => return Ok(()),
        Some((id, len)) => format!("the node has stored other octets than the {len} of {id}"),
        None if duplicate => return Ok(()),
        None => "the node answered before it had the whole message".to_owned(),
    };
    Err(Error::Corrupt { message })
}
