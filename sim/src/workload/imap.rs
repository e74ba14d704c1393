//! An IMAP session as a mail program would have it (RFC 9051), which may break off after any
//! command.
//!
//! The door is the shipped one, apart from the nodes as `posthouse-gateway` runs it, over the client
//! library on the simulated network; the program reaches it without a network. What is answered OK
//! was done; after anything else, also after silence, it may have been done. IMAP tells no modseq
//! of what it did, so the answers say less than those of the library.

mod steps;
mod told;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use posthouse_gateway::imap::Imap;
use posthouse_gateway::imap::cluster::Cluster;
use posthouse_gateway::imap::settings::Settings;
use posthouse_gateway::spool::TempSpool;
use tokio_util::sync::CancellationToken;

use crate::history::{Call, Done, Octets};
use crate::plan::{FlagMode, Given, ImapCarry, ImapStep};

use super::door::{self, Door, Program};
use super::known::Place;
use super::{At, Inner, account_name, credentials, mailbox_name};
use steps::Home;
use told::Reply;

/// The number of a session's first change that is a step: those before have numbers of their own.
const FIRST_STEP: u8 = 4;
/// Wall clock at the start of a run, for the door's idea of time.
const EPOCH_MS: u64 = 1_736_157_600_000;

/// Opens the door; to be called inside the clients' runtime.
pub(super) fn open(inner: &Arc<Inner>, door: Door) {
    let now_ms = Arc::clone(&inner.access.now_ms);
    let clock = Arc::new(move || EPOCH_MS + now_ms());
    let store = Arc::new(Cluster::new(inner.handle(0), clock));
    let spool = Arc::new(TempSpool::default());
    let imap = Imap::new(Settings::default(), store, spool, None);
    let imap = imap.expect("the settings as shipped work");
    tokio::spawn(async move { imap.serve(&door, CancellationToken::new()).await });
}

/// What one session does.
pub(super) struct Script<'a> {
    /// The mailbox that it selects.
    pub place: Place,
    /// Its password.
    pub password: u32,
    /// What it appends.
    pub octets: Octets,
    /// Which message it reads, marks as deleted and expunges.
    pub pick: u32,
    /// After how many commands it breaks off, without reading the last answer.
    pub cut: Option<u32>,
    /// Flags that the new message is given.
    pub flags: &'a [String],
    /// Where the message that was read goes or is copied.
    pub carry: Option<ImapCarry>,
    /// What else it does.
    pub also: &'a [ImapStep],
}

/// One session.
pub(super) async fn imap(at: &At<'_>, script: Script<'_>) {
    let open = |door| open(at.inner, door);
    let Some(program) = Program::connect(&at.inner.imap, script.cut, open) else {
        return;
    };
    let mut session = Session {
        at,
        program,
        tag: 0,
    };
    // What is under way when the session is given up is recorded as unknown by its own guard.
    if let Err(why) = session.run(script).await {
        tracing::debug!(%why, "an IMAP session has ended");
    }
}

struct Session<'a, 'b> {
    at: &'a At<'b>,
    program: Program,
    tag: u32,
}

impl Session<'_, '_> {
    async fn run(&mut self, script: Script<'_>) -> io::Result<()> {
        let place = script.place;
        let (account, mailbox) = (account_name(place.0), mailbox_name(place.1));
        self.program.line(literal).await?;
        // Before the mailbox is selected: what comes later, this session need not know.
        let picked = self.at.pick(place, script.pick, 1);
        let uid = picked.first().map_or(1, |(uid, _)| *uid);
        let replaced = |step: &ImapStep| match step {
            ImapStep::Replace { pick, .. } => self.at.pick(place, *pick, 1).first().copied(),
            _ => None,
        };
        let also: Vec<(&ImapStep, u32)> = (script.also.iter())
            .map(|step| (step, replaced(step).map_or(1, |(uid, _)| uid)))
            .collect();
        let login = Call::Login {
            account: account.clone(),
            password: script.password,
        };
        let octets = credentials::password(script.password);
        let command = format!("LOGIN {account} \"{octets}\"");
        // A refusal may have many reasons, and the door tells too little of them.
        let done = self.said(login, &command, |_| Some(Done::Plain)).await?;
        if !done {
            return Ok(());
        }
        let call = Call::Select {
            account: account.clone(),
            mailbox: mailbox.clone(),
        };
        let (era, uid_next) = (AtomicU32::new(0), AtomicU32::new(0));
        let selected = |reply: &Reply| {
            era.store(reply.number("[UIDVALIDITY ")?, Relaxed);
            uid_next.store(reply.number("[UIDNEXT ")?, Relaxed);
            Some(Done::Selected {
                uid_validity: era.load(Relaxed),
                uid_next: uid_next.load(Relaxed),
                messages: reply.count("EXISTS")?,
            })
        };
        let command = format!("SELECT \"{mailbox}\"");
        let selected = self.said(call, &command, selected).await?;
        let new = (script.octets, script.flags);
        self.append(&account, &mailbox, new).await?;
        let era = era.load(Relaxed);
        if !selected || era == 0 {
            return Ok(());
        }
        self.fetch(&account, &mailbox, era, uid).await?;
        if let Some(carry) = script.carry {
            self.carry((&account, &mailbox), era, uid, carry).await?;
        }
        let home = Home {
            account: &account,
            mailbox: &mailbox,
            era,
            uid_next: uid_next.load(Relaxed),
            uid,
        };
        for (n, (step, replaced)) in (FIRST_STEP..).zip(also) {
            self.step(&home, step, replaced, n).await?;
        }
        let call = Call::SetFlags {
            account: account.clone(),
            mailbox: mailbox.clone(),
            uids: vec![uid],
            mode: FlagMode::Add,
            flags: vec!["\\Deleted".into()],
            unchanged_since: 0,
            era,
            request: self.request(1),
        };
        // OK is also said of a message that the session does not know (any more), and then nothing
        // was asked of the store.
        let command = format!("UID STORE {uid} +FLAGS (\\Deleted)");
        let told = |reply: &Reply| reply.shows(uid).then_some(Done::Plain);
        if !self.said(call, &command, told).await? {
            return Ok(());
        }
        let call = Call::Expunge {
            account,
            mailbox,
            uids: vec![uid],
            force: false,
            era,
            request: self.request(2),
        };
        let command = format!("UID EXPUNGE {uid}");
        self.said(call, &command, |_| Some(Done::Plain)).await?;
        self.command("LOGOUT").await.map(drop)
    }

    async fn append(
        &mut self,
        account: &str,
        mailbox: &str,
        (octets, flags): (Octets, &[String]),
    ) -> io::Result<()> {
        let call = Call::Append {
            account: account.to_owned(),
            mailbox: mailbox.to_owned(),
            octets,
            given: Given {
                flags: flags.to_vec(),
                ..Given::default()
            },
            request: self.request(0),
        };
        let message = self.at.octets(octets);
        let flags = match flags {
            [] => String::new(),
            flags => format!("({}) ", flags.join(" ")),
        };
        let size = message.len();
        let mut command = format!("APPEND \"{mailbox}\" {flags}{{{size}+}}\r\n").into_bytes();
        command.extend_from_slice(&message);
        let told = self.recorded(call, &command, Reply::appended).await;
        told.map(drop)
    }

    async fn carry(
        &mut self,
        (account, mailbox): (&str, &str),
        era: u32,
        uid: u32,
        carry: ImapCarry,
    ) -> io::Result<()> {
        let to = mailbox_name(carry.to);
        let word = if carry.away { "MOVE" } else { "COPY" };
        let command = format!("UID {word} {uid} \"{to}\"");
        let call = Call::Carry {
            account: account.to_owned(),
            to_account: None,
            mailbox: mailbox.to_owned(),
            era,
            to,
            to_era: 0,
            uids: vec![uid],
            away: carry.away,
            request: self.request(3),
        };
        self.said(call, &command, Reply::carried).await.map(drop)
    }

    async fn fetch(&mut self, account: &str, mailbox: &str, era: u32, uid: u32) -> io::Result<()> {
        let call = Call::Fetch {
            account: account.to_owned(),
            mailbox: mailbox.to_owned(),
            uid,
            era,
        };
        let command = format!("UID FETCH {uid} (UID BODY.PEEK[])");
        self.said(call, &command, Reply::whole).await.map(drop)
    }

    /// Each change of a session has an identity of its own.
    fn request(&self, n: u8) -> [u8; 16] {
        let mut id = self.at.request();
        id[0] ^= n + 1;
        id
    }

    async fn said(
        &mut self,
        call: Call,
        command: &str,
        done: impl Fn(&Reply) -> Option<Done> + Send,
    ) -> io::Result<bool> {
        self.recorded(call, command.as_bytes(), done).await
    }

    /// Gives a command and records what came of it; whether it was done.
    async fn recorded(
        &mut self,
        call: Call,
        command: &[u8],
        done: impl Fn(&Reply) -> Option<Done> + Send,
    ) -> io::Result<bool> {
        let at = self.at;
        let work = async {
            let reply = self.answer(command).await?;
            let done = done(&reply).filter(|_| reply.is_ok());
            Ok(done.ok_or(reply.text))
        };
        door::recorded(at, call, work).await
    }

    async fn command(&mut self, command: &str) -> io::Result<Reply> {
        self.answer(command.as_bytes()).await
    }

    async fn answer(&mut self, command: &[u8]) -> io::Result<Reply> {
        door::in_time("no answer", self.send(command)).await
    }

    async fn send(&mut self, command: &[u8]) -> io::Result<Reply> {
        self.tag += 1;
        let tag = format!("a{} ", self.tag);
        self.program.say(&[tag.as_bytes(), command]).await?;
        let mut untagged = Vec::new();
        loop {
            let line = self.program.line(literal).await?;
            if line.starts_with(tag.as_bytes()) {
                let text = String::from_utf8_lossy(&line[tag.len()..]);
                let text = text.trim_end().to_owned();
                return Ok(Reply { untagged, text });
            }
            if line.starts_with(b"* BYE") && !command.starts_with(b"LOGOUT") {
                return Err(io::Error::other("the door closes"));
            }
            untagged.extend_from_slice(&line);
            door::bounded(&untagged)?;
        }
    }
}

/// Octets of the literal that a line announces at its end.
pub(super) fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|b| *b == b'{')?;
    let digits = std::str::from_utf8(&line[open + 1..]).ok()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        assert_eq!(literal(b"* 1 FETCH (BODY[] {12}\r\n"), Some(12));
        assert_eq!(literal(b"* 1 FETCH (UID 7)\r\n"), None);
        assert_eq!(literal(b"{x}\r\n"), None);
    }
}
