//! The loop over one client's commands.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::parse::search::{Sort, Thread};
use super::parse::{self, Command};
use super::respond::done::Condition;
use super::respond::{Done, Stop};
use super::session::{Enabled, Session};
use super::updates::Ask;
use super::wire::{Gone, Input, Refusal, Wire};
use super::{Door, op};
use crate::rare::{self, Rare};

/// Time for the last word to a client.
const FAREWELL: Duration = Duration::from_secs(1);
/// Octets of a literal before the login: names and passwords are shorter.
const EARLY_LITERAL_BYTES: usize = 4_096;

/// How a connection has come.
pub(super) struct Arrival {
    /// The peer's address without port.
    pub address: String,
    /// It is on this machine.
    pub loopback: bool,
    /// It begins with TLS.
    pub tls: bool,
}

/// Serves one client to the end, and says why it ended.
pub(super) async fn run(door: &Arc<Door>, mut wire: Wire, arrival: Arrival) -> Gone {
    if arrival.tls {
        let Some(config) = door.tls.clone() else {
            return Gone::Closed;
        };
        if let Err(gone) = wire.start_tls(config, door.config.data_timeout()).await {
            return gone;
        }
    }
    let mut session = Session {
        door: door.clone(),
        wire,
        private: arrival.tls || arrival.loopback || door.config.plaintext_login,
        tls: arrival.tls,
        address: arrival.address,
        compressed: false,
        login: None,
        enabled: Enabled::default(),
        selected: None,
        notify: None,
        errors: 0,
    };
    let greeting = format!(
        "* OK [CAPABILITY {}] Posthouse",
        op::capability::of(&session)
    );
    session.wire.say(&greeting);
    let until = Instant::now() + Duration::from_secs(door.config.login_timeout_s);
    let gone = loop {
        // However slowly a client speaks: it has so long to log in, all in all.
        let stepped = match session.login {
            Some(_) => session.step().await,
            None => match tokio::time::timeout_at(until, session.step()).await {
                Ok(stepped) => stepped,
                Err(_) => Err(Gone::Idle),
            },
        };
        if let Err(gone) = stepped {
            break gone;
        }
    };
    let word = match gone {
        Gone::Closed | Gone::Broken => return gone,
        Gone::Logout => None,
        Gone::Idle => Some("* BYE idle for too long"),
        Gone::Shutdown => {
            rare::hit(Rare::ToldGoingDown);
            Some("* BYE [UNAVAILABLE] the door closes; come again")
        }
        Gone::Abuse => Some("* BYE too many errors"),
        Gone::MailboxGone => Some("* BYE the selected mailbox has been deleted"),
        Gone::Lost => Some("* BYE [UNAVAILABLE] too much has changed; come again"),
    };
    if let Some(word) = word {
        session.wire.say(word);
    }
    session.selected = None;
    session.wire.close(FAREWELL).await;
    gone
}

impl Session {
    /// Reads and carries out one command.
    async fn step(&mut self) -> Result<(), Gone> {
        let config = &self.door.config;
        let literal = match &self.login {
            Some(_) => config.literal_bytes,
            None => EARLY_LITERAL_BYTES,
        };
        let patience = config.idle_timeout();
        if self.notify.is_some() {
            // In a box: most sessions never wait so.
            Box::pin(self.listen(patience)).await?;
        }
        let config = &self.door.config;
        match self.wire.command(config, literal, patience).await? {
            Input::Command(octets) => self.command(&octets).await,
            Input::Message(head) => {
                let tag = head.tag.clone();
                let done = op::append::append(self, *head).await;
                self.end(&tag, done, Ask::Always, true).await
            }
            Input::Refused(octets, why) => self.refuse(&octets, why).await,
        }
    }

    async fn command(&mut self, octets: &BytesMut) -> Result<(), Gone> {
        let (tag, command) = parse::parse(octets, &self.door.config.limits());
        let tag = tag.unwrap_or_else(|| "*".to_owned());
        let command = match command {
            Ok(Command::Unknown) => {
                return self
                    .end(
                        &tag,
                        Err(Done::bad("unknown command").into()),
                        Ask::Never,
                        false,
                    )
                    .await;
            }
            Ok(command) => command,
            Err(bad) => return self.end(&tag, Err(bad.into()), Ask::Never, false).await,
        };
        let (ask, expunges) = manners(&command);
        let done = op::run(self, &tag, command).await;
        self.end(&tag, done, ask, expunges).await
    }

    async fn refuse(&mut self, octets: &[u8], why: Refusal) -> Result<(), Gone> {
        let mut cursor = parse::token::Cursor::new(octets);
        let tag = parse::command::tag(&mut cursor).unwrap_or("*");
        let done = match why {
            Refusal::LongLine => Done::bad("the line is too long"),
            Refusal::LongLiteral => Done::no("TOOBIG", "the literal is too long"),
            Refusal::Syntax(why) => Done::bad(why),
        };
        self.end(tag, Err(done.into()), Ask::Never, false).await
    }

    /// Tells what there is to tell, and ends the command.
    async fn end(
        &mut self,
        tag: &str,
        done: Result<Done, Stop>,
        ask: Ask,
        expunges: bool,
    ) -> Result<(), Gone> {
        let mut done = match done {
            Ok(done) | Err(Stop::Done(done)) => done,
            Err(Stop::Gone(gone)) => return Err(gone),
            Err(Stop::Silent) => return Ok(()),
        };
        let updated = self.update_as_notified(ask, expunges).await;
        if let Err(Gone::Closed | Gone::Idle | Gone::Broken) = updated {
            return updated;
        }
        self.correct_modseq(&mut done);
        self.wire.say(&format!("{tag} {}", done.line()));
        updated?;
        self.wire.relieve(self.door.config.data_timeout()).await?;
        match done.condition {
            Condition::Bad => self.errors += 1,
            // Programs that ask for messages of an empty mailbox say something BAD now and then, for
            // as long as they run; between good commands that is no abuse.
            Condition::Ok if self.login.is_some() => self.errors = 0,
            Condition::Ok | Condition::No => {}
        }
        match self.errors > self.door.config.errors {
            true => Err(Gone::Abuse),
            false => Ok(()),
        }
    }

    /// Tells from which modseq the client may go on, where it would take too high a one.
    fn correct_modseq(&mut self, done: &mut Done) {
        let (true, Some(selected)) = (self.enabled.condstore, &mut self.selected) else {
            return;
        };
        let Some(safe) = selected.view.correction() else {
            return;
        };
        let code = format!("HIGHESTMODSEQ {}", safe.max(1));
        match done.code.is_empty() || done.code.starts_with("HIGHESTMODSEQ ") {
            true => done.code = code,
            false => self.wire.say(&format!("* OK [{code}] more is to come")),
        }
    }
}

/// When the store is asked after a command, and whether messages may be told to be gone in its
/// answers: not while the client counts in sequence numbers (RFC 9051, section 7.5.1).
fn manners(command: &Command) -> (Ask, bool) {
    match command {
        Command::Noop | Command::Check => (Ask::Always, true),
        Command::Fetch(uid, ..) => (Ask::IfNews, *uid),
        // Numbers in its keys keep what they mean, too (RFC 7162, section 3.2.10.2).
        Command::Search(uid, search)
        | Command::Sort(uid, Sort { search, .. })
        | Command::Thread(uid, Thread { search, .. }) => {
            (Ask::IfNews, *uid && !search.term.has_numbers())
        }
        // Asked for inside.
        Command::Store(uid, ..) => (Ask::Never, *uid),
        Command::Notify(_) => (Ask::Never, true),
        Command::Select(_) | Command::Close | Command::Unselect | Command::Logout => {
            (Ask::Never, false)
        }
        Command::Copy(..) | Command::Move(..) | Command::Delete(_) | Command::Rename(..) => {
            (Ask::Always, true)
        }
        _ => (Ask::IfNews, true),
    }
}
