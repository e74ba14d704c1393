//! Octets on their way to a node: one head, the pieces of a body, and the mark of its end; or
//! several messages in this way, one after the other.
//!
//! The mark says that the message is complete. tonic's server hands a cancelled call to its
//! service as a stream that has ended (tonic 0.14, `codec/decode.rs`, `poll_frame`), so that
//! without it half a message could pass for a whole one. When the source fails halfway, the mark is
//! never sent; the stream stays open and the call is dropped, which resets it.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::oneshot;
use tonic::{Response, Status};

use crate::body::{PIECE_BYTES, Pieces};
use crate::client::Failure;
use crate::error::Error;
use crate::ids::BlobId;
use crate::proto::{AppendRequest, DeliverRequest, End, append_request, deliver_request};

/// A message of a request stream.
pub(crate) trait Part: Send + 'static {
    fn data(octets: Bytes) -> Self;
    fn end(size: u64) -> Self;
}

impl Part for DeliverRequest {
    fn data(octets: Bytes) -> Self {
        let part = Some(deliver_request::Part::Data(octets));
        DeliverRequest { part }
    }

    fn end(size: u64) -> Self {
        let part = Some(deliver_request::Part::End(End { size }));
        DeliverRequest { part }
    }
}

impl Part for AppendRequest {
    fn data(octets: Bytes) -> Self {
        let part = Some(append_request::Part::Data(octets));
        AppendRequest { part }
    }

    fn end(size: u64) -> Self {
        let part = Some(append_request::Part::End(End { size }));
        AppendRequest { part }
    }
}

/// What was sent: the identity of the last message's octets as this side has seen them, and their
/// number.
pub(crate) type Sent = (BlobId, u64);

/// One message on its way.
pub(crate) struct Outgoing<M> {
    /// What is said before its octets.
    pub(crate) head: M,
    /// Its octets.
    pub(crate) pieces: Pieces,
    /// How many they are, if that is known.
    pub(crate) len: Option<u64>,
}

/// The news of how sending ended.
pub(crate) struct Upload {
    ended: oneshot::Receiver<Result<Sent, Error>>,
}

impl Upload {
    /// The request stream that sends `head`, then `pieces`, which are known to be `len` octets if
    /// `len` is given.
    pub(crate) fn new<M: Part>(
        head: M,
        pieces: Pieces,
        len: Option<u64>,
    ) -> (Upload, BoxStream<'static, M>) {
        let message = Outgoing { head, pieces, len };
        Upload::of(message, Vec::new())
    }

    /// The request stream that sends `first` and then the others.
    pub(crate) fn of<M: Part>(
        first: Outgoing<M>,
        others: Vec<Outgoing<M>>,
    ) -> (Upload, BoxStream<'static, M>) {
        let (end, ended) = oneshot::channel();
        let state = Sending {
            head: Some(first.head),
            message: Message::of(first.pieces, first.len),
            others: others.into(),
            end: Some(end),
        };
        let stream = futures::stream::unfold(state, |mut state| async move {
            let part = state.next().await?;
            Some((part, state))
        });
        (Upload { ended }, stream.boxed())
    }

    /// Sees the call that has the stream through; gives its answer and what was sent, or `None` when the node
    /// answered before it had read all (it may, when it knows the request already).
    pub(crate) async fn run<R>(
        self,
        mut answer: BoxFuture<'_, Result<Response<R>, Status>>,
    ) -> Result<(Response<R>, Option<Sent>), Failure> {
        let mut ended = self.ended;
        tokio::select! {
            biased;
            end = &mut ended => match end {
                Ok(Ok(sent)) => {
                    let response = (&mut answer).await.map_err(Failure::Status)?;
                    Ok((response, Some(sent)))
                }
                Ok(Err(error)) => Err(Failure::Error(error)),
                // The transport has dropped the stream before its end: it knows why.
                Err(_) => Ok(((&mut answer).await.map_err(Failure::Status)?, None)),
            },
            answer = &mut answer => {
                let sent = ended.try_recv().ok().and_then(Result::ok);
                Ok((answer.map_err(Failure::Status)?, sent))
            }
        }
    }
}

struct Sending<M> {
    /// What comes before the message's octets, if it has not been sent yet.
    head: Option<M>,
    message: Message,
    others: VecDeque<Outgoing<M>>,
    end: Option<oneshot::Sender<Result<Sent, Error>>>,
}

/// The octets of one message.
struct Message {
    pieces: Pieces,
    rest: Bytes,
    hasher: blake3::Hasher,
    sent: u64,
    len: Option<u64>,
}

impl Message {
    fn of(pieces: Pieces, len: Option<u64>) -> Message {
        Message {
            pieces,
            rest: Bytes::new(),
            hasher: blake3::Hasher::new(),
            sent: 0,
            len,
        }
    }

    /// The next piece; `None` when all octets have been sent.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.rest.is_empty() {
            match self.pieces.next().await {
                Some(piece) => self.rest = piece?,
                None if self.len.is_some_and(|len| len != self.sent) => {
                    let cause = format!("{} octets came, not {:?}", self.sent, self.len);
                    return Err(io::Error::other(cause));
                }
                None => return Ok(None),
            }
        }
        let n = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(n);
        self.hasher.update(&piece);
        self.sent += n as u64;
        Ok(Some(piece))
    }
}

impl<M: Part> Sending<M> {
    /// The next part; `None` after the mark at the end of the last message.
    async fn next(&mut self) -> Option<M> {
        self.end.as_ref()?;
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        match self.message.next().await {
            Ok(Some(piece)) => return Some(M::data(piece)),
            Ok(None) => {}
            Err(e) => return self.fail(e).await,
        }
        let (sent, hasher) = (self.message.sent, &self.message.hasher);
        let id = BlobId(*hasher.finalize().as_bytes());
        match self.others.pop_front() {
            None => self.tell(Ok((id, sent))),
            Some(next) => {
                self.head = Some(next.head);
                self.message = Message::of(next.pieces, next.len);
            }
        }
        Some(M::end(sent))
    }

    async fn fail(&mut self, e: io::Error) -> Option<M> {
        self.tell(Err(Error::from(e)));
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
