//! Octets in, lines and replies out, for one connection of a door whose commands are lines.
//!
//! Replies gather until the input runs dry (RFC 2920, section 3.2): what a client sends in one
//! go is answered in one go. Everything that waits for the peer waits for a bounded time, and
//! everything that is held is bounded: one read buffer, one line, some replies.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::listen::Stream;

/// Octets asked of the socket at a time.
const READ_BYTES: usize = 64 * 1024;
/// Replies that gather before they are sent even though input is left.
const REPLIES_BYTES: usize = 16 * 1024;

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// The peer closed it, or it failed.
    #[error("closed by the peer")]
    Closed,
    /// Nothing came, or nothing could be sent, for too long.
    #[error("idle for too long")]
    Idle,
    /// This side closes the door.
    #[error("shutting down")]
    Shutdown,
    /// QUIT.
    #[error("done")]
    Quit,
    /// Too many errors, or far more data than was allowed.
    #[error("too many errors")]
    Abuse,
    /// An answer has begun and cannot be finished: only the end of the connection says so.
    #[error("an answer broke off")]
    BrokeOff,
}

/// What is said to a client.
pub trait Say {
    /// Writes it as it goes over the wire, with its line end.
    fn encode(&self, out: &mut BytesMut);
}

/// A line of the command phase.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its CRLF.
    Good(BytesMut),
    /// Longer than the limit; all of it has been skipped.
    TooLong,
    /// Ended by a bare LF; it has been skipped.
    BareLf,
}

/// One connection's octets.
pub struct Wire<S> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    shutdown: CancellationToken,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A wire over a connected stream.
    pub fn new(stream: S, shutdown: CancellationToken) -> Wire<S> {
        Wire {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            shutdown,
        }
    }

    /// Queues a reply.
    pub fn reply(&mut self, reply: &impl Say) {
        reply.encode(&mut self.output);
    }

    /// Queues octets as they are: the answer to LHLO has several lines.
    pub fn raw(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    /// What is queued; whoever adds a lot to it sends it on with [`Wire::flush`].
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Sends what is queued if that is much.
    pub async fn ease(&mut self, patience: Duration) -> Result<(), Gone> {
        match self.output.len() > REPLIES_BYTES {
            true => self.flush(patience).await,
            false => Ok(()),
        }
    }

    /// Sends what is queued.
    pub async fn flush(&mut self, patience: Duration) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let (stream, output) = (&mut self.stream, &self.output);
        let send = async move {
            stream.write_all(output).await?;
            stream.flush().await
        };
        match timeout(patience, send).await {
            Err(_) => Err(Gone::Idle),
            Ok(Err(_)) => Err(Gone::Closed),
            Ok(Ok(())) => {
                self.output.clear();
                Ok(())
            }
        }
    }

    /// Sends what is queued and closes the sending side.
    pub async fn close(mut self, patience: Duration) {
        if self.flush(patience).await.is_ok() {
            let _ = timeout(patience, self.stream.shutdown()).await;
        }
    }

    /// What has been read and not been used.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Reads more; at least one octet.
    pub async fn fill(&mut self, patience: Duration) -> Result<(), Gone> {
        self.flush(patience).await?;
        self.input.reserve(READ_BYTES);
        match timeout(patience, self.stream.read_buf(&mut self.input)).await {
            Err(_) => Err(Gone::Idle),
            Ok(Err(_) | Ok(0)) => Err(Gone::Closed),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// The next line. Waiting for it ends when the door closes: between commands nothing is
    /// half-done.
    pub async fn line(&mut self, limit: usize, patience: Duration) -> Result<Line, Gone> {
        self.ease(patience).await?;
        let mut searched = 0;
        let mut too_long = false;
        loop {
            if let Some(n) = memchr::memchr(b'\n', &self.input[searched..]) {
                let mut line = self.input.split_to(searched + n + 1);
                if too_long || line.len() > limit {
                    return Ok(Line::TooLong);
                }
                if !line.ends_with(b"\r\n") {
                    return Ok(Line::BareLf);
                }
                line.truncate(line.len() - 2);
                return Ok(Line::Good(line));
            }
            searched = self.input.len();
            if searched > limit {
                too_long = true;
            }
            if too_long {
                self.input.clear();
                searched = 0;
            }
            // Sent before the wait that may be given up half-way.
            self.flush(patience).await?;
            let shutdown = self.shutdown.clone();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Gone::Shutdown),
                filled = self.fill(patience) => filled?,
            }
        }
    }

    /// Skips `n` octets of what has been read.
    pub fn advance(&mut self, n: usize) {
        self.input.advance(n);
    }
}

impl Wire<Box<dyn Stream>> {
    /// Puts a layer over the stream: TLS. Nothing may be queued or read ahead: what came in the
    /// clear must never be taken for what came under TLS, so it is thrown away here.
    pub async fn upgrade<F>(
        &mut self,
        layer: impl FnOnce(Box<dyn Stream>) -> F,
    ) -> std::io::Result<()>
    where
        F: Future<Output = std::io::Result<Box<dyn Stream>>>,
    {
        self.input.clear();
        self.output.clear();
        // If this fails, nothing can be said to the peer any more.
        let bare = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        self.stream = layer(bare).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 32;

    async fn lines(pieces: Vec<Vec<u8>>) -> Vec<Line> {
        let (mut ours, theirs) = tokio::io::duplex(16);
        let feed = async move {
            for piece in pieces {
                ours.write_all(&piece).await.unwrap();
            }
        };
        let read = async move {
            let mut wire = Wire::new(theirs, CancellationToken::new());
            let mut out = Vec::new();
            while let Ok(line) = wire.line(LIMIT, Duration::from_secs(5)).await {
                out.push(line);
            }
            out
        };
        tokio::join!(feed, read).1
    }

    #[tokio::test]
    async fn long_lines_and_bare_ends_are_told_apart() {
        let long = [b"x".repeat(500), b"\r\nRSET\r\n".to_vec()].concat();
        let got = lines(vec![b"NOOP\r\nQUIT\n".to_vec(), long]).await;
        let good = |s: &str| Line::Good(BytesMut::from(s));
        assert_eq!(
            got,
            [good("NOOP"), Line::BareLf, Line::TooLong, good("RSET")]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pieces_may_be_cut_anywhere(
            octets in proptest::collection::vec(
                prop_oneof![5 => Just(b'a'), 1 => Just(b'\r'), 1 => Just(b'\n')], 0..300),
            cut in 1usize..40,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.unwrap();
            let whole = runtime.block_on(lines(vec![octets.clone()]));
            let pieces = octets.chunks(cut).map(<[u8]>::to_vec).collect();
            let cut = runtime.block_on(lines(pieces));
            // Each line that ended in time is the same; how a long one is cut does not show.
            prop_assert_eq!(whole, cut);
        }
    }
}
