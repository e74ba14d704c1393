//! Octets in, lines, literals and commands out; answers gathered and sent.
//!
//! Answers gather until the input runs dry or they grow large: what a client sends in one go is
//! answered in one go. Everything that waits for the peer waits for a bounded time, and what is
//! held is bounded: one read buffer, one command, some answers. A literal is measured before
//! any of it is held; the octets of messages never are (RFC 9051, section 4.3; RFC 7888).

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::deflate::Deflated;
use super::parse::Limits;
use super::parse::append::{self, Announced, Head, Stage};
use super::settings::Settings;
use crate::listen::Stream;

/// Octets asked of the socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// Answers that gather before they are sent even though more is to come.
const ANSWERS_BYTES: usize = 64 * 1024;
/// Octets of a long line that are kept, to find its tag.
const KEPT_BYTES: usize = 128;
/// Octets at the end of a long line that are looked at: no literal is announced in more.
const ANNOUNCED_BYTES: usize = 64;

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
    /// LOGOUT.
    #[error("done")]
    Logout,
    /// Too many errors, or far more data than was allowed.
    #[error("too many errors")]
    Abuse,
    /// The selected mailbox is no more.
    #[error("the selected mailbox is gone")]
    MailboxGone,
    /// What has changed in the selected mailbox is forgotten, or the store is silent.
    #[error("the session cannot go on")]
    Lost,
    /// An answer broke off in the middle of a literal: nothing may follow it.
    #[error("an answer broke off")]
    Broken,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its CRLF.
    Good(BytesMut),
    /// Longer than the limit; all of it has been skipped. Its beginning, and the literal that it
    /// announces at its end: the octets of one that does not wait for leave follow all the same.
    TooLong(BytesMut, Option<Announced>),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A command with its literals in place, without the final CRLF.
    Command(BytesMut),
    /// APPEND or REPLACE up to the octets of the first message, which come next.
    Message(Box<Head>),
    /// Something that is not carried out: what came of it, and what is wrong.
    Refused(BytesMut, Refusal),
}

/// Why input is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The line is too long.
    LongLine,
    /// A literal, or the command with it, is too long.
    LongLiteral,
    /// It is no APPEND.
    Syntax(&'static str),
}

/// One connection's octets.
pub struct Wire {
    /// `None` only while it is being wrapped.
    stream: Option<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    shutdown: CancellationToken,
}

impl Wire {
    /// A wire over a connected stream.
    pub fn new(stream: Box<dyn Stream>, shutdown: CancellationToken) -> Wire {
        Wire {
            stream: Some(stream),
            input: BytesMut::new(),
            output: BytesMut::new(),
            shutdown,
        }
    }

    /// Where answers gather.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Queues a line of text.
    pub fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// Sends what is queued.
    pub async fn flush(&mut self, patience: Duration) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let stream = self.stream.as_mut().ok_or(Gone::Closed)?;
        let output = &self.output;
        let send = async move {
            stream.write_all(output).await?;
            stream.flush().await
        };
        match timeout(patience, send).await {
            Err(_) => Err(Gone::Idle),
            Ok(Err(_)) => Err(Gone::Closed),
            Ok(Ok(())) => {
                self.output.clear();
                if self.output.capacity() > 4 * ANSWERS_BYTES {
                    self.output = BytesMut::new();
                }
                Ok(())
            }
        }
    }

    /// Whether much is queued.
    pub fn is_full(&self) -> bool {
        self.output.len() > ANSWERS_BYTES
    }

    /// Sends what is queued when it is much.
    pub async fn relieve(&mut self, patience: Duration) -> Result<(), Gone> {
        match self.is_full() {
            true => self.flush(patience).await,
            false => Ok(()),
        }
    }

    /// Sends what is queued and closes the sending side.
    pub async fn close(mut self, patience: Duration) {
        if self.flush(patience).await.is_ok()
            && let Some(mut stream) = self.stream.take()
        {
            let _ = timeout(patience, stream.shutdown()).await;
        }
    }

    /// Reads more; at least one octet.
    async fn fill(&mut self, patience: Duration) -> Result<(), Gone> {
        self.flush(patience).await?;
        if self.input.is_empty() && self.input.capacity() > 4 * READ_BYTES {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ_BYTES);
        let stream = self.stream.as_mut().ok_or(Gone::Closed)?;
        match timeout(patience, stream.read_buf(&mut self.input)).await {
            Err(_) => Err(Gone::Idle),
            Ok(Err(_) | Ok(0)) => Err(Gone::Closed),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// The next line. `between`: no command has begun, so the wait ends when the door closes; what
    /// has come stays if the wait is given up. A bare LF ends a line, too: there is nothing behind
    /// this door that could read it in another way.
    pub async fn line(
        &mut self,
        limit: usize,
        patience: Duration,
        between: bool,
    ) -> Result<Line, Gone> {
        let mut searched = 0;
        let mut kept: Option<BytesMut> = None;
        loop {
            if let Some(n) = memchr::memchr(b'\n', &self.input[searched..]) {
                let mut line = self.input.split_to(searched + n + 1);
                line.truncate(line.len() - 1);
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                if let Some(kept) = kept {
                    return Ok(Line::TooLong(kept, append::announced(&line)));
                }
                if line.len() > limit {
                    let literal = append::announced(&line);
                    line.truncate(limit.min(KEPT_BYTES));
                    return Ok(Line::TooLong(line, literal));
                }
                return Ok(Line::Good(line));
            }
            searched = self.input.len();
            // One more than the limit may be the CR of an end that has not come whole.
            if searched > limit + 1 || kept.is_some() {
                let n = searched.min(limit).min(KEPT_BYTES);
                kept.get_or_insert_with(|| BytesMut::from(&self.input[..n]));
                self.input.advance(searched.saturating_sub(ANNOUNCED_BYTES));
                searched = self.input.len();
            }
            // Sent before the wait that may be given up half-way.
            self.flush(patience).await?;
            if !between {
                self.fill(patience).await?;
                continue;
            }
            let shutdown = self.shutdown.clone();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Gone::Shutdown),
                filled = self.fill(patience) => filled?,
            }
        }
    }

    /// The next command. `literal_limit`: octets of the largest literal that is no message.
    pub async fn command(
        &mut self,
        settings: &Settings,
        literal_limit: usize,
        patience: Duration,
    ) -> Result<Input, Gone> {
        let data = settings.data_timeout();
        let limits = settings.limits();
        let mut command = BytesMut::new();
        loop {
            let first = command.is_empty();
            let wait = if first { patience } else { data };
            let line = match self.line(settings.line_bytes, wait, first).await? {
                Line::Good(line) => line,
                Line::TooLong(kept, literal) => {
                    if let Some(literal) = literal {
                        // Its octets are no commands.
                        self.skip(literal, settings).await?;
                    }
                    let kept = if first { kept } else { command };
                    return Ok(Input::Refused(kept, Refusal::LongLine));
                }
            };
            let announced = append::announced(&line);
            match first {
                true => command = line,
                false => command.extend_from_slice(&line),
            }
            let Some(literal) = announced else {
                return Ok(Input::Command(command));
            };
            match self.stage(&command, &limits) {
                Ok(Some(head)) => return Ok(Input::Message(head)),
                Ok(None) => {}
                Err(why) => {
                    self.skip(literal, settings).await?;
                    return Ok(Input::Refused(command, why));
                }
            }
            let total = literal.len.saturating_add(command.len() as u64);
            if literal.len > literal_limit as u64 || total > settings.command_bytes as u64 {
                self.skip(literal, settings).await?;
                return Ok(Input::Refused(command, Refusal::LongLiteral));
            }
            if literal.waits {
                self.say("+ go on");
            }
            command.extend_from_slice(b"\r\n");
            let mut left = literal.len;
            while left > 0 {
                let piece = self.piece(left, data).await?;
                left -= piece.len() as u64;
                command.extend_from_slice(&piece);
            }
        }
    }

    fn stage(&self, command: &[u8], limits: &Limits) -> Result<Option<Box<Head>>, Refusal> {
        if !append::takes_messages(command) {
            return Ok(None);
        }
        match append::stage(command, limits) {
            Ok(Stage::Message(head)) => Ok(Some(head)),
            Ok(Stage::Argument) => Ok(None),
            Err(why) => Err(Refusal::Syntax(why.0)),
        }
    }

    /// Passes over a literal that is refused, and the rest of its command. One that the client
    /// asks leave for costs nothing: it will not be sent.
    pub async fn skip(&mut self, literal: Announced, settings: &Settings) -> Result<(), Gone> {
        let mut next = Some(literal);
        let mut skipped = 0u64;
        while let Some(literal) = next.filter(|l| !l.waits) {
            skipped = skipped.saturating_add(literal.len);
            if skipped > settings.message_bytes.saturating_mul(2) {
                return Err(Gone::Abuse);
            }
            let mut left = literal.len;
            while left > 0 {
                left -= self.piece(left, settings.data_timeout()).await?.len() as u64;
            }
            let line = self.line(settings.line_bytes, settings.data_timeout(), false);
            next = match line.await? {
                Line::Good(line) => append::announced(&line),
                Line::TooLong(_, literal) => literal,
            };
        }
        Ok(())
    }

    /// The next octets of a literal: at least one, at most `left`.
    pub async fn piece(&mut self, left: u64, patience: Duration) -> Result<Bytes, Gone> {
        if self.input.is_empty() {
            self.fill(patience).await?;
        }
        let n = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.input.len());
        Ok(self.input.split_to(n).freeze())
    }

    /// Whether octets have come that nobody has looked at.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Waits for octets that nobody has looked at, between two commands. Nothing is lost when it is
    /// dropped, if nothing was queued.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), Gone> {
        if self.has_input() {
            return Ok(());
        }
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Gone::Shutdown),
            filled = self.fill(patience) => filled,
        }
    }

    /// Begins TLS on this side (RFC 9051, section 6.2.1). What was sent before it in the clear
    /// must be gone.
    pub async fn start_tls(
        &mut self,
        config: std::sync::Arc<rustls::ServerConfig>,
        patience: Duration,
    ) -> Result<(), Gone> {
        self.flush(patience).await?;
        if self.has_input() {
            return Err(Gone::Abuse);
        }
        let stream = self.stream.take().ok_or(Gone::Closed)?;
        let accept = tokio_rustls::TlsAcceptor::from(config).accept(stream);
        match timeout(patience, accept).await {
            Err(_) => Err(Gone::Idle),
            Ok(Err(_)) => Err(Gone::Closed),
            Ok(Ok(stream)) => {
                self.stream = Some(Box::new(stream));
                Ok(())
            }
        }
    }

    /// From here on, both sides compress (RFC 4978). What the client has sent already behind its
    /// command is compressed, too.
    pub async fn start_deflate(&mut self, patience: Duration) -> Result<(), Gone> {
        self.flush(patience).await?;
        let stream = self.stream.take().ok_or(Gone::Closed)?;
        let early = self.input.split().freeze();
        self.stream = Some(Box::new(Deflated::new(stream, early)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> Settings {
        Settings {
            line_bytes: 64,
            literal_bytes: 16,
            command_bytes: 100,
            message_bytes: 1000,
            ..Settings::default()
        }
    }

    /// What comes out of these octets, and what is answered meanwhile.
    async fn inputs(pieces: Vec<Vec<u8>>) -> (Vec<Input>, String) {
        let (ours, theirs) = tokio::io::duplex(16);
        let (mut read, mut write) = tokio::io::split(ours);
        let feed = async move {
            for piece in pieces {
                if write.write_all(&piece).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        };
        let answers = async move {
            let mut out = Vec::new();
            let _ = read.read_to_end(&mut out).await;
            String::from_utf8(out).unwrap()
        };
        let take = async move {
            let mut wire = Wire::new(Box::new(theirs), CancellationToken::new());
            let mut out = Vec::new();
            let patience = Duration::from_secs(5);
            while let Ok(input) = wire.command(&settings(), 16, patience).await {
                if let Input::Message(head) = &input {
                    let mut left = head.item.literal.len;
                    while left > 0 {
                        let Ok(piece) = wire.piece(left, patience).await else {
                            return out;
                        };
                        left -= piece.len() as u64;
                    }
                    let _ = wire.line(64, patience, false).await;
                }
                out.push(input);
            }
            out
        };
        let ((), answers, out) = tokio::join!(feed, answers, take);
        (out, answers)
    }

    #[tokio::test]
    async fn literals_stand_in_their_command() {
        let (got, answers) = inputs(vec![
            b"a LOGIN {3}\r\nann {4+}\r\npass\r\nb NOOP\n".to_vec(),
            b"c APPEND {5+}\r\nINBOX {3}\r\nabc\r\nd NOOP\r\n".to_vec(),
        ])
        .await;
        assert_eq!(got.len(), 4, "{got:?}");
        assert_eq!(
            got[0],
            Input::Command(BytesMut::from("a LOGIN {3}\r\nann {4+}\r\npass"))
        );
        assert_eq!(got[1], Input::Command(BytesMut::from("b NOOP")));
        assert!(matches!(&got[2], Input::Message(head) if head.item.literal.len == 3));
        assert_eq!(got[3], Input::Command(BytesMut::from("d NOOP")));
        assert_eq!(answers, "+ go on\r\n");
    }

    #[tokio::test]
    async fn what_is_too_long_is_passed_over() {
        let long = [
            b"x ".to_vec(),
            b"y".repeat(500),
            b"\r\nok NOOP\r\n".to_vec(),
        ]
        .concat();
        let (got, answers) = inputs(vec![
            long,
            b"a LOGIN {17}\r\nb LOGIN {17+}\r\n12345678901234567 {2+}\r\nxx\r\nc NOOP\r\n".to_vec(),
            b"d APPEND INBOX x {3+}\r\nabc\r\ne NOOP\r\n".to_vec(),
        ])
        .await;
        let kinds: Vec<&str> = got
            .iter()
            .map(|i| match i {
                Input::Command(_) => "command",
                Input::Message(_) => "message",
                Input::Refused(_, Refusal::LongLine) => "line",
                Input::Refused(_, Refusal::LongLiteral) => "literal",
                Input::Refused(_, Refusal::Syntax(_)) => "syntax",
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "line", "command", "literal", "literal", "command", "syntax", "command"
            ]
        );
        assert_eq!(answers, "");
    }

    #[tokio::test]
    async fn a_literal_behind_a_long_line_is_no_command() {
        for long in [65, 66, 200, 5000] {
            let line = |word: &str, end: &str| format!("{word}{}{end}\r\n", "y".repeat(long));
            let octets = [
                line("a ", "{8+}"),
                "b NOOP\r\n {1+}\r\nx\r\n".to_owned(),
                line("c LOGIN {2+}\r\nxx ", "~{10+}"),
                "d LOGOUT\r\n\r\n".to_owned(),
                "e NOOP\r\n".to_owned(),
            ];
            let octets = octets.concat().into_bytes();
            for cut in [1, 7, octets.len()] {
                let (got, _) = inputs(octets.chunks(cut).map(<[u8]>::to_vec).collect()).await;
                let refused = |i: &Input| matches!(i, Input::Refused(_, Refusal::LongLine));
                assert_eq!(got.len(), 3, "{long}: {got:?}");
                assert!(got[..2].iter().all(refused), "{long}: {got:?}");
                assert_eq!(got[2], Input::Command(BytesMut::from("e NOOP")));
            }
        }
    }

    #[tokio::test]
    async fn a_flood_ends_the_connection() {
        let (got, _) = inputs(vec![b"a LOGIN {2001+}\r\n".to_vec(), b"x".repeat(3000)]).await;
        assert_eq!(got, []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pieces_may_be_cut_anywhere(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                "a NOOP\r\n", "b LOGIN {2}\r\nxy ", "{3+}\r\n", "abc", "\r\n", "\n", "c APPEND x {4+}\r\nabcd\r\n",
                "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "{1700}\r\n",
            ]), 0..20),
            cut in 1usize..40,
        ) {
            let octets = parts.concat().into_bytes();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let whole = runtime.block_on(inputs(vec![octets.clone()]));
            let pieces = octets.chunks(cut).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(whole, runtime.block_on(inputs(pieces)));
        }
    }
}
