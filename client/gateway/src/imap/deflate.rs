//! COMPRESS=DEFLATE (RFC 4978): raw deflate in both directions over any stream.
//!
//! What comes is inflated into the reader's own buffer and no further, so a small input that
//! stands for much never takes memory here. What is sent is flushed to a byte boundary whenever
//! the session flushes, so that the peer can read all of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::Stream;

/// Octets read from the stream below at a time.
const READ_BYTES: usize = 16 * 1024;
/// Compressed octets that may wait to be sent.
const WAITING_BYTES: usize = 64 * 1024;

/// A stream, compressed.
pub struct Deflated {
    inner: Box<dyn Stream>,
    inflate: Decompress,
    deflate: Compress,
    /// Compressed octets that have come.
    came: Bytes,
    buffer: Vec<u8>,
    /// Compressed octets to be sent, from `sent` on.
    waiting: Vec<u8>,
    sent: usize,
    /// Something has been written since the last flush.
    dirty: bool,
    /// Input is used up, but inflating it may give more.
    more: bool,
}

impl Deflated {
    /// Compresses `inner`; `early` has been read from it already.
    pub fn new(inner: Box<dyn Stream>, early: Bytes) -> Deflated {
        Deflated {
            inner,
            inflate: Decompress::new(false),
            deflate: Compress::new(Compression::fast(), false),
            came: early,
            buffer: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
            dirty: false,
            more: false,
        }
    }

    fn compress(&mut self, mut octets: &[u8], flush: FlushCompress) -> io::Result<()> {
        loop {
            self.waiting.reserve(4096);
            let before = (self.deflate.total_in(), self.waiting.len());
            let status = self
                .deflate
                .compress_vec(octets, &mut self.waiting, flush)
                .map_err(io::Error::other)?;
            octets = &octets[(self.deflate.total_in() - before.0) as usize..];
            let room = self.waiting.capacity() > self.waiting.len();
            if octets.is_empty() && room || matches!(status, Status::StreamEnd) {
                return Ok(());
            }
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.waiting[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += n;
        }
        self.waiting.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Deflated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if !this.came.is_empty() || this.more {
                let (before_in, before_out) = (this.inflate.total_in(), this.inflate.total_out());
                let room = out.initialize_unfilled();
                let asked = room.len();
                let status = this
                    .inflate
                    .decompress(&this.came, room, FlushDecompress::None)
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
                let read = (this.inflate.total_in() - before_in) as usize;
                let got = (this.inflate.total_out() - before_out) as usize;
                this.came.advance(read);
                out.advance(got);
                this.more = got == asked;
                if got > 0 {
                    return Poll::Ready(Ok(()));
                }
                if matches!(status, Status::StreamEnd) {
                    return Poll::Ready(Ok(()));
                }
                if read > 0 {
                    continue;
                }
            }
            this.buffer.resize(READ_BYTES, 0);
            let mut buffer = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            // What is left could not be inflated without more.
            let mut came = this.came.to_vec();
            came.extend_from_slice(buffer.filled());
            this.came = came.into();
        }
    }
}

impl AsyncWrite for Deflated {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waiting.len() - self.sent > WAITING_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        let n = octets.len().min(WAITING_BYTES);
        self.compress(&octets[..n], FlushCompress::None)?;
        self.dirty = true;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.dirty {
            self.compress(&[], FlushCompress::Sync)?;
            self.dirty = false;
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn each_side_reads_what_the_other_flushed() {
        let (one, two) = tokio::io::duplex(1000);
        let mut one = Deflated::new(Box::new(one), Bytes::new());
        let mut two = Deflated::new(Box::new(two), Bytes::new());
        for n in [1usize, 10, 5_000, 300_000] {
            let sent: Vec<u8> = (0..n).map(|i| (i * 31 + i / 97) as u8).collect();
            let copy = sent.clone();
            let write = async {
                one.write_all(&copy).await.unwrap();
                one.flush().await.unwrap();
            };
            let mut got = vec![0; n];
            let read = two.read_exact(&mut got);
            let (_, read) = tokio::join!(write, read);
            read.unwrap();
            assert!(got == sent, "{n}");
            two.write_all(b"ok").await.unwrap();
            two.flush().await.unwrap();
            let mut ok = [0; 2];
            one.read_exact(&mut ok).await.unwrap();
            assert_eq!(&ok, b"ok");
        }
    }

    #[tokio::test]
    async fn garbage_is_an_error() {
        let (mut one, two) = tokio::io::duplex(1000);
        let mut two = Deflated::new(Box::new(two), Bytes::new());
        one.write_all(&[0xff; 100]).await.unwrap();
        let mut got = [0; 10];
        assert!(two.read(&mut got).await.is_err());
    }
}
