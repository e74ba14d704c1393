//! A POP3 session as a mail program would have it (RFC 1939), which may break off after any
//! command.
//!
//! The door is the shipped one, and stands where that of IMAP does ([`super::door`]). A login is
//! two calls to the judges: whether the password is right, and what INBOX holds then, which is told
//! by later commands. Marks live in the session: messages go at QUIT alone, so a session that ends
//! in any other way has asked for no removal, and none is in the history.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use posthouse_gateway::pop3::Pop3;
use posthouse_gateway::pop3::settings::Settings;
use tokio_util::sync::CancellationToken;

use crate::history::{Answer, Call, Done};

use super::door::{self, Door, Program};
use super::{At, Inner, account_name, credentials, mailbox_name};

/// Messages of fewer octets are compared only where the door changed nothing of them.
const SURE_BYTES: usize = 64;

/// Opens the door; to be called inside the clients' runtime.
fn open(inner: &Arc<Inner>, door: Door) {
    let store = Arc::new(inner.handle(0));
    let pop3 = Pop3::new(Settings::default(), store, None);
    let pop3 = pop3.expect("the settings as shipped work");
    tokio::spawn(async move { pop3.serve(&door, CancellationToken::new()).await });
}

/// What one session does.
pub(super) struct Script {
    /// Whose INBOX it is.
    pub account: u32,
    /// Its password.
    pub password: u32,
    /// Which message it reads and marks as deleted.
    pub pick: u32,
    /// Whether it takes the mark away again.
    pub keep: bool,
    /// After how many commands it breaks off, without reading the last answer.
    pub cut: Option<u32>,
}

/// One session.
pub(super) async fn pop3(at: &At<'_>, script: Script) {
    let open = |door| open(at.inner, door);
    let Some(program) = Program::connect(&at.inner.pop3, script.cut, open) else {
        return;
    };
    let mut session = Session { at, program };
    if let Err(why) = session.run(script).await {
        tracing::debug!(%why, "a POP3 session has ended");
    }
}

struct Session<'a, 'b> {
    at: &'a At<'b>,
    program: Program,
}

/// A command's answer.
struct Reply {
    /// Its first line.
    text: String,
    /// The lines after it, as they were before the door doubled dots.
    body: Vec<u8>,
}

impl Reply {
    fn is_ok(&self) -> bool {
        self.text.starts_with("+OK")
    }

    /// The words of each line after the first.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = std::str::from_utf8(&self.body).unwrap_or_default();
        text.lines().filter_map(|line| line.split_once(' '))
    }
}

/// What a session sees.
#[derive(Debug, PartialEq)]
struct Maildrop {
    uid_validity: u32,
    count: u64,
    bytes: u64,
    /// Uids and sizes, in the order of their numbers.
    messages: Vec<(u32, u64)>,
}

impl Maildrop {
    /// Puts together what STAT, LIST and UIDL say. What does not fit becomes a message of uid 0,
    /// which no judge takes for one that is there.
    fn read(stat: &Reply, list: &Reply, ids: &Reply) -> Option<Maildrop> {
        let mut words = stat.text.split(' ').skip(1);
        let (count, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut sizes: BTreeMap<u32, u64> = BTreeMap::new();
        for (number, size) in list.lines() {
            sizes.insert(number.parse().ok()?, size.parse().ok()?);
        }
        let (mut messages, mut uid_validity): (Vec<(u32, u64)>, u32) = (Vec::new(), 0);
        for (number, id) in ids.lines() {
            let number: u32 = number.parse().ok()?;
            let (validity, uid) = id.split_once('.')?;
            let validity: u32 = validity.parse().ok()?;
            if uid_validity == 0 {
                uid_validity = validity;
            }
            let next = messages.len() as u32 + 1;
            messages.push(match sizes.remove(&number) {
                Some(size) if number == next && validity == uid_validity => {
                    (uid.parse().ok()?, size)
                }
                _ => (0, 0),
            });
        }
        // Sizes without an id.
        messages.extend(sizes.into_values().map(|size| (0, size)));
        Some(Maildrop {
            uid_validity,
            count,
            bytes,
            messages,
        })
    }
}

impl Session<'_, '_> {
    async fn run(&mut self, script: Script) -> io::Result<()> {
        let at = self.at;
        let account = account_name(script.account);
        self.line().await?;
        if !self.command(&format!("USER {account}")).await?.is_ok() {
            return Ok(());
        }
        let call = Call::Maildrop {
            account: account.clone(),
        };
        let ticket = at.inner.begin(at.op, at.client, call);
        let seen = self.enter(&account, script.password).await;
        let answer = match &seen {
            Ok(Some(seen)) => Answer::Done(Done::Maildrop {
                uid_validity: seen.uid_validity,
                count: seen.count,
                bytes: seen.bytes,
                messages: seen.messages.clone(),
            }),
            Ok(None) => Answer::Unknown("nothing was told".into()),
            Err(e) => Answer::Unknown(e.to_string()),
        };
        at.inner.end(ticket, None, answer);
        let Some(seen) = seen? else {
            return Ok(());
        };
        let index = script.pick as usize % seen.messages.len().max(1);
        if let Some((uid, size)) = seen.messages.get(index).copied() {
            let message = (uid, index + 1, size);
            return self
                .message(&account, seen.uid_validity, message, script.keep)
                .await;
        }
        self.command("QUIT").await.map(drop)
    }

    /// Logs in, and looks at what is there; `None`: that was not told.
    async fn enter(&mut self, account: &str, password: u32) -> io::Result<Option<Maildrop>> {
        let login = Call::Login {
            account: account.to_owned(),
            password,
        };
        let command = format!("PASS {}", credentials::password(password));
        // A refusal may have many reasons, and the door tells too little of them.
        let done = self
            .recorded(login, &command, |_| Some(Done::Plain))
            .await?;
        if !done {
            return Ok(None);
        }
        let stat = self.command("STAT").await?;
        let list = self.command("LIST").await?;
        let ids = self.command("UIDL").await?;
        if !stat.is_ok() || !list.is_ok() || !ids.is_ok() {
            return Ok(None);
        }
        Ok(Maildrop::read(&stat, &list, &ids))
    }

    /// Reads a message, marks it as deleted, and quits.
    async fn message(
        &mut self,
        account: &str,
        era: u32,
        (uid, number, size): (u32, usize, u64),
        keep: bool,
    ) -> io::Result<()> {
        let mailbox = mailbox_name(0);
        let call = Call::Fetch {
            account: account.to_owned(),
            mailbox: mailbox.clone(),
            uid,
            era,
        };
        let read = |reply: &Reply| {
            let octets = stored(&reply.body, size)?;
            Some(Done::Octets {
                blob: blake3::hash(octets).to_hex().to_string(),
                size: octets.len() as u64,
            })
        };
        self.recorded(call, &format!("RETR {number}"), read).await?;
        if !self.command(&format!("DELE {number}")).await?.is_ok() {
            return Ok(());
        }
        if keep {
            self.command("RSET").await?;
            return self.command("QUIT").await.map(drop);
        }
        // Each change of a session has an identity of its own.
        let mut request = self.at.request();
        request[0] ^= 1;
        let call = Call::Expunge {
            account: account.to_owned(),
            mailbox,
            uids: vec![uid],
            force: true,
            era,
            request,
        };
        self.recorded(call, "QUIT", |_| Some(Done::Plain))
            .await
            .map(drop)
    }

    /// Gives a command and records what came of it; whether it was done.
    async fn recorded(
        &mut self,
        call: Call,
        command: &str,
        done: impl Fn(&Reply) -> Option<Done> + Send,
    ) -> io::Result<bool> {
        let at = self.at;
        let work = async {
            let reply = self.command(command).await?;
            let done = done(&reply).filter(|_| reply.is_ok());
            Ok(done.ok_or(reply.text))
        };
        door::recorded(at, call, work).await
    }

    async fn command(&mut self, command: &str) -> io::Result<Reply> {
        door::in_time("timed out", self.send(command)).await
    }

    async fn send(&mut self, command: &str) -> io::Result<Reply> {
        self.program.say(&[command.as_bytes()]).await?;
        let first = self.line().await?;
        let mut reply = Reply {
            text: String::from_utf8_lossy(&first).trim_end().to_owned(),
            body: Vec::new(),
        };
        let verb = command.split(' ').next().unwrap_or_default();
        if reply.is_ok() && ["LIST", "UIDL", "RETR"].contains(&verb) {
            loop {
                let line = self.line().await?;
                match line.strip_prefix(b".") {
                    Some(b"\r\n") => break,
                    Some(rest) => reply.body.extend_from_slice(rest),
                    None => reply.body.extend_from_slice(&line),
                }
                door::bounded(&reply.body)?;
            }
        }
        Ok(reply)
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        self.program.line(|_| None).await
    }
}

/// The octets of a message as they are stored, where what was sent tells them: the door ends bare
/// LFs and an open last line by CRLF, and only adds. Text of some length that is two octets longer
/// had an open last line; of less, or of what is no text, nothing is said.
fn stored(sent: &[u8], size: u64) -> Option<&[u8]> {
    let size = usize::try_from(size).ok()?;
    if sent.len() == size {
        return Some(sent);
    }
    let is_text = |b: &u8| matches!(*b, b' '..=b'~' | b'\r' | b'\n');
    let open = sent.len() == size + 2 && size >= SURE_BYTES && sent.iter().all(is_text);
    open.then(|| &sent[..size])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str, body: &str) -> Reply {
        Reply {
            text: text.to_owned(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn what_three_commands_say_comes_together() {
        let stat = reply("+OK 2 30", "");
        let list = reply("+OK", "1 10\r\n2 20\r\n");
        let ids = reply("+OK", "1 7.3\r\n2 7.5\r\n");
        let seen = Maildrop::read(&stat, &list, &ids).unwrap();
        assert_eq!((seen.uid_validity, seen.count, seen.bytes), (7, 2, 30));
        assert_eq!(seen.messages, [(3, 10), (5, 20)]);
        // One that only one of them knows.
        let ids = reply("+OK", "1 7.3\r\n");
        let seen = Maildrop::read(&stat, &list, &ids).unwrap();
        assert_eq!(seen.messages, [(3, 10), (0, 20)]);
        let ids = reply("+OK", "1 7.3\r\n3 7.5\r\n");
        let seen = Maildrop::read(&stat, &list, &ids).unwrap();
        assert_eq!(seen.messages, [(3, 10), (0, 0), (0, 20)]);
        let empty = reply("+OK 0 0", "");
        let seen = Maildrop::read(&empty, &empty, &empty).unwrap();
        assert_eq!((seen.uid_validity, seen.messages), (0, vec![]));
        assert_eq!(Maildrop::read(&list, &list, &ids), None);
    }

    #[test]
    fn octets_are_told_where_they_are_certain() {
        assert_eq!(stored(b"a\r\n", 3), Some(&b"a\r\n"[..]));
        assert_eq!(stored(b"a\r\n\r\n", 3), None);
        let long = [&[b'x'; 80][..], b"\r\n"].concat();
        assert_eq!(stored(&long, 80), Some(&[b'x'; 80][..]));
        assert_eq!(stored(&long, 81), None);
        let binary = [&[0u8; 80][..], b"\r\n"].concat();
        assert_eq!(stored(&binary, 80), None);
    }
}
