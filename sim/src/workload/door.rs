//! The doors that mail programs of users reach without a network, and the programs' end of a
//! connection, which may break off after any command.

use std::future::Future;
use std::io;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use posthouse_gateway::listen::{Listener, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::history::{Answer, Call, Done};

use super::At;

/// Octets on their way between program and door.
const PIPE_BYTES: usize = 64 << 10;
/// How long a command may take: less than the guard of a call.
const PATIENCE: Duration = Duration::from_secs(7);
/// Longest answer that is taken.
const ANSWER_BYTES: usize = 8 << 20;

/// Where programs connect, once the door is open.
pub(super) type Gateway = Mutex<Option<UnboundedSender<DuplexStream>>>;

/// Connections of programs, as a door sees them.
pub(super) struct Door(tokio::sync::Mutex<UnboundedReceiver<DuplexStream>>);

impl Listener for Door {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        async move {
            match self.0.lock().await.recv().await {
                // Passwords travel without TLS on one machine alone.
                Some(stream) => Ok((Box::new(stream) as Box<dyn Stream>, "127.0.0.1:9".into())),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// A program's connection.
pub(super) struct Program {
    stream: DuplexStream,
    input: Vec<u8>,
    /// Commands until it breaks off.
    left: Option<u32>,
}

impl Program {
    /// Connects, and has the door opened where it is not yet; `None`: the door is gone. `cut`:
    /// after how many commands it breaks off.
    pub(super) fn connect(
        gateway: &Gateway,
        cut: Option<u32>,
        open: impl FnOnce(Door),
    ) -> Option<Program> {
        let mut gateway = gateway.lock();
        let gateway = gateway.get_or_insert_with(|| {
            let (sender, receiver) = unbounded_channel();
            open(Door(tokio::sync::Mutex::new(receiver)));
            sender
        });
        let (stream, door) = tokio::io::duplex(PIPE_BYTES);
        gateway.send(door).ok()?;
        Some(Program {
            stream,
            input: Vec::new(),
            left: cut,
        })
    }

    /// Gives a command, piece by piece, and fails where the program breaks off.
    pub(super) async fn say(&mut self, command: &[&[u8]]) -> io::Result<()> {
        for piece in command {
            self.stream.write_all(piece).await?;
        }
        self.stream.write_all(b"\r\n").await?;
        if let Some(left) = &mut self.left {
            let next = left.checked_sub(1);
            *left = next.ok_or_else(|| io::Error::other("broken off"))?;
        }
        Ok(())
    }

    /// The next line, with its end and with the literals in it. `literal`: the octets of the one
    /// that a line announces at its end.
    pub(super) async fn line(
        &mut self,
        literal: impl Fn(&[u8]) -> Option<usize>,
    ) -> io::Result<Vec<u8>> {
        let (mut from, mut seen) = (0, 0);
        loop {
            let Some(end) = self.input[seen..].iter().position(|b| *b == b'\n') else {
                seen = self.input.len();
                self.more().await?;
                continue;
            };
            let end = seen + end + 1;
            let Some(size) = literal(&self.input[from..end]) else {
                let rest = self.input.split_off(end);
                return Ok(std::mem::replace(&mut self.input, rest));
            };
            from = end + size;
            while self.input.len() < from {
                self.more().await?;
            }
            seen = from;
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        bounded(&self.input)?;
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => self.input.extend_from_slice(&piece[..n]),
        }
        Ok(())
    }
}

/// Refuses an answer that is too long.
pub(super) fn bounded(answer: &[u8]) -> io::Result<()> {
    match answer.len() > ANSWER_BYTES {
        true => Err(io::Error::other("an answer without end")),
        false => Ok(()),
    }
}

/// What a command brings, where it comes in time. `late`: how the history calls it otherwise.
pub(super) async fn in_time<T>(
    late: &'static str,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let in_time = tokio::time::timeout(PATIENCE, work).await;
    in_time.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, late)))
}

/// Records what came of a command, or the words of an answer that tells too little; whether it was
/// done.
pub(super) async fn recorded(
    at: &At<'_>,
    call: Call,
    work: impl Future<Output = io::Result<Result<Done, String>>>,
) -> io::Result<bool> {
    let mut ended = Ok(());
    let answer = at
        .call(call, async {
            match work.await {
                Ok(Ok(done)) => Answer::Done(done),
                Ok(Err(why)) => Answer::Unknown(why),
                Err(e) => {
                    let why = e.to_string();
                    ended = Err(e);
                    Answer::Unknown(why)
                }
            }
        })
        .await;
    ended.map(|()| matches!(answer, Answer::Done(_)))
}
