//! An LMTP session as a mail server would have it (RFC 2033), which may break off at any place of
//! the dialogue.
//!
//! The message is sent by DATA or by BDAT (RFC 3030), as [`body::by_bdat`] has it. Until the last
//! octet that completes it has been handed to the network, nothing may be stored; from then on, a
//! recipient without a reply is unknown. A reply speaks for its recipient alone: 2xx acknowledges;
//! 4.3.0 is the door's word for "no answer from the store", which is unknown too; every other
//! refusal says that nothing was stored (RFC 3463 for the codes).

use std::io;

use posthouse_node::env::net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::history::{Answer, Call, Done, Octets, StoredAt};
use crate::plan::{Given, LmtpCut};

use super::{At, GUARD, account_name, answer, body, mailbox_name};

/// LMTP says no uid.
const SOMEWHERE: StoredAt = StoredAt {
    uid_validity: 0,
    uid: 0,
    modseq: 0,
};

/// Longest reply line that is taken; a door has no reason for longer ones.
const LINE_BYTES: usize = 4096;

/// One session with one message.
pub(super) async fn lmtp(
    at: &At<'_>,
    node: u32,
    accounts: &[u32],
    octets: Octets,
    cut: Option<LmtpCut>,
) {
    let message = at.octets(octets);
    let names: Vec<String> = accounts.iter().map(|a| account_name(*a)).collect();
    let call = |may_exist| Call::Deliver {
        accounts: names.clone(),
        mailbox: mailbox_name(0),
        given: Given::default(),
        octets,
        request: None,
        may_exist,
    };
    let mut session = Session {
        names: &names,
        octets,
        message: &message,
        cut,
        complete: false,
        results: vec![None; names.len()],
    };
    let ticket = at.inner.begin(at.op, at.client, call(true));
    let connecting = (at.inner.access.connect)(node);
    let dialogue = async {
        let stream = connecting.await?;
        session.talk(Dialogue::new(stream)).await
    };
    let allowed = at.deadline() + GUARD;
    let ended = match tokio::time::timeout(allowed, dialogue).await {
        Ok(Ok(())) => "the session has ended".to_owned(),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "the door says nothing".to_owned(),
    };
    let complete = session.complete;
    let answer = session.answer(&ended);
    at.inner.end(ticket, Some(call(complete)), answer);
}

struct Session<'a> {
    names: &'a [String],
    octets: Octets,
    message: &'a [u8],
    cut: Option<LmtpCut>,
    /// The octet that completes the message has been handed to the network.
    complete: bool,
    /// What is known of each recipient.
    results: Vec<Option<Result<StoredAt, Answer>>>,
}

impl Session<'_> {
    /// The whole dialogue; an error or an early return leaves the rest of the results open.
    async fn talk(&mut self, mut door: Dialogue) -> io::Result<()> {
        if self.cut == Some(LmtpCut::Greeting) {
            return Ok(());
        }
        door.expect(220).await?;
        door.say("LHLO mta.sim.example\r\n").await?;
        door.expect(250).await?;
        if self.cut == Some(LmtpCut::Lhlo) {
            return Ok(());
        }
        if self.octets.body.is_multiple_of(5) {
            self.give_up(&mut door).await?;
        }
        let sender = body::LMTP_SENDER;
        let size = self.message.len();
        if self.cut == Some(LmtpCut::Line) {
            return door.say("MAIL FROM:<").await;
        }
        door.say(&format!("MAIL FROM:<{sender}> SIZE={size}\r\n"))
            .await?;
        door.expect(250).await?;
        if self.cut == Some(LmtpCut::Mail) {
            return Ok(());
        }
        let mut accepted = Vec::new();
        for (i, name) in self.names.iter().enumerate() {
            door.say(&format!("RCPT TO:<{name}>\r\n")).await?;
            let reply = door.reply().await?;
            match reply.code {
                200..=299 => accepted.push(i),
                // Nothing has been sent: whatever the reply, nothing is stored for this one.
                _ => self.results[i] = Some(Err(Answer::Refused(reply.refusal()))),
            }
            if self.cut == Some(LmtpCut::Among) {
                return Ok(());
            }
        }
        if self.cut == Some(LmtpCut::Rcpt) || accepted.is_empty() {
            return Ok(());
        }
        match body::by_bdat(self.octets) {
            true => self.bdat(&mut door).await?,
            false => self.data(&mut door).await?,
        }
        if !self.complete || self.cut == Some(LmtpCut::Dot) {
            return Ok(());
        }
        for i in accepted {
            self.results[i] = Some(door.reply().await?.result());
            if self.cut == Some(LmtpCut::Replies) {
                return Ok(());
            }
        }
        door.say("QUIT\r\n").await?;
        door.reply().await.map(drop)
    }

    /// Begins with another message, and does not send it after all.
    async fn give_up(&self, door: &mut Dialogue) -> io::Result<()> {
        door.say("MAIL FROM:<>\r\n").await?;
        door.expect(250).await?;
        for name in self.names {
            door.say(&format!("RCPT TO:<{name}>\r\n")).await?;
            door.reply().await?;
        }
        door.say("RSET\r\n").await?;
        door.expect(250).await
    }

    /// What of `octets` is sent where they are broken off: not all.
    fn part<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        &octets[..self.octets.body as usize % octets.len().max(1)]
    }

    /// The message by DATA, dots stuffed.
    async fn data(&mut self, door: &mut Dialogue) -> io::Result<()> {
        door.say("DATA\r\n").await?;
        door.expect(354).await?;
        if self.cut == Some(LmtpCut::Data) {
            return Ok(());
        }
        let wire = stuff(self.message);
        // Without its last octet no end of data is complete.
        let (most, last) = wire.split_at(wire.len() - 1);
        if self.cut == Some(LmtpCut::Body) {
            return door.send(self.part(most)).await;
        }
        door.send(most).await?;
        self.complete = true;
        door.send(last).await
    }

    /// The message by BDAT, as it is, in one chunk or in two.
    async fn bdat(&mut self, door: &mut Dialogue) -> io::Result<()> {
        let mut message = self.message;
        if self.octets.body.is_multiple_of(3) {
            let (first, rest) = message.split_at(self.part(message).len());
            door.say(&format!("BDAT {}\r\n", first.len())).await?;
            door.send(first).await?;
            door.expect(250).await?;
            message = rest;
        }
        let size = message.len();
        door.say(&format!("BDAT {size} LAST\r\n")).await?;
        if self.cut == Some(LmtpCut::Data) {
            return Ok(());
        }
        let (most, last) = message.split_at(size.saturating_sub(1));
        if self.cut == Some(LmtpCut::Body) {
            return door.send(self.part(most)).await;
        }
        door.send(most).await?;
        self.complete = true;
        door.send(last).await
    }

    /// The answer, when the session has ended for the reason `ended`.
    fn answer(self, ended: &str) -> Answer {
        let rest = match self.complete {
            true => Answer::Unknown(ended.to_owned()),
            false => Answer::Refused(format!("not sent: {ended}")),
        };
        if self.results.iter().all(Option::is_none) {
            return rest;
        }
        let results = self.results.into_iter();
        let results = results.map(|r| r.unwrap_or_else(|| Err(rest.clone())));
        Answer::Done(Done::Delivered(results.collect()))
    }
}

/// The message as DATA carries it (RFC 5321, section 4.5.2), with its end.
fn stuff(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + message.len() / 32 + 5);
    let mut line_start = true;
    for &octet in message {
        if line_start && octet == b'.' {
            wire.push(b'.');
        }
        wire.push(octet);
        line_start = wire.ends_with(b"\r\n");
    }
    if !line_start {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// A reply of the door.
struct Reply {
    code: u16,
    /// Its last line, without code.
    text: String,
}

impl Reply {
    /// What a recipient's reply after the message says.
    fn result(self) -> Result<StoredAt, Answer> {
        match self.code {
            200..=299 => Ok(SOMEWHERE),
            // 421 is said when the door closes, whatever it was doing.
            421 => Err(Answer::Unknown(self.refusal())),
            _ if self.text.starts_with("4.3.0") => Err(Answer::Unknown(self.refusal())),
            _ => Err(Answer::Refused(self.refusal())),
        }
    }

    fn refusal(&self) -> String {
        match self.text.starts_with("5.1.1") {
            true => answer::NO_ACCOUNT.to_owned(),
            false => format!("{} {}", self.code, self.text),
        }
    }
}

/// Lines to and fro.
struct Dialogue {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

impl Dialogue {
    fn new(stream: Box<dyn Stream>) -> Dialogue {
        Dialogue {
            stream,
            input: Vec::new(),
        }
    }

    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.send(line.as_bytes()).await
    }

    async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// Reads a reply and goes on only when it has this code.
    async fn expect(&mut self, code: u16) -> io::Result<()> {
        let reply = self.reply().await?;
        match reply.code == code {
            true => Ok(()),
            false => Err(io::Error::other(reply.refusal())),
        }
    }

    /// The next reply, all its lines.
    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            let line = self.line().await?;
            let code = line.get(..3).and_then(|c| c.parse().ok());
            let code = code.ok_or_else(|| io::Error::other(format!("no reply: {line:?}")))?;
            if line.as_bytes().get(3) != Some(&b'-') {
                let text = line.get(4..).unwrap_or("").to_owned();
                return Ok(Reply { code, text });
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(n) = self.input.iter().position(|b| *b == b'\n') {
                let rest = self.input.split_off(n + 1);
                let line = std::mem::replace(&mut self.input, rest);
                let line = String::from_utf8_lossy(&line);
                return Ok(line.trim_end().to_owned());
            }
            if self.input.len() > LINE_BYTES {
                return Err(io::Error::other("a line without end"));
            }
            let mut piece = [0; 1024];
            match self.stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&piece[..n]),
            }
        }
    }
}
