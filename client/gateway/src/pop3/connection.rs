//! The loop over one client's commands.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::command::Command;
use super::reply::{self, Reply};
use super::session::{Session, State, Transaction};
use super::{Door, op};
use crate::listen::Stream;
use crate::rare::{self, Rare};
use crate::wire::{Gone, Line, Wire};

/// Time for the last word to a client.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves one client to the end, and says why it ended.
pub(super) async fn run(door: &Arc<Door>, wire: Wire<Box<dyn Stream>>, session: Session) -> Gone {
    let mut connection = Connection {
        door: door.clone(),
        wire,
        session,
    };
    let greeting = format!("{} POP3 Posthouse", door.config.hostname);
    connection.wire.reply(&Reply::ok_with(greeting));
    let gone = loop {
        if let Err(gone) = connection.step().await {
            break gone;
        }
    };
    match gone {
        Gone::Closed | Gone::BrokeOff => return gone,
        // Nothing is said to a client that was silent for too long (RFC 1939, section 3).
        Gone::Quit | Gone::Idle => {}
        Gone::Shutdown => {
            rare::hit(Rare::ToldGoingDown);
            connection.wire.reply(&reply::GOING_DOWN);
        }
        Gone::Abuse => connection.wire.reply(&reply::TOO_MANY_ERRORS),
    }
    connection.wire.close(FAREWELL).await;
    gone
}

/// One client: its octets and its state.
pub struct Connection {
    pub(super) door: Arc<Door>,
    pub(super) wire: Wire<Box<dyn Stream>>,
    pub(super) session: Session,
}

impl Connection {
    /// Reads and answers one command.
    async fn step(&mut self) -> Result<(), Gone> {
        let Some(line) = self.line().await? else {
            return Ok(());
        };
        match Command::parse(&line) {
            Ok(command) => self.run(command).await,
            Err(bad) => self.error(&Reply::to_bad_command(bad)),
        }
    }

    /// The next line; `None` when it was none and has been answered.
    pub(super) async fn line(&mut self) -> Result<Option<BytesMut>, Gone> {
        let config = &self.door.config;
        let patience = match self.session.state {
            State::Authorization { .. } => config.login_timeout(),
            State::Transaction(_) => config.idle_timeout(),
        };
        match self.wire.line(config.line_bytes, patience).await? {
            Line::Good(line) => Ok(Some(line)),
            Line::TooLong => self.error(&reply::LONG_LINE).map(|()| None),
            Line::BareLf => self.error(&reply::BARE_LF).map(|()| None),
        }
    }

    async fn run(&mut self, command: Command) -> Result<(), Gone> {
        match command {
            Command::Capa => op::capa::capa(self),
            Command::Stls => op::stls::stls(self).await,
            Command::User(name) => op::login::user(self, name),
            Command::Pass(password) => op::login::pass(self, &password.0).await,
            Command::Auth { mechanism, initial } => op::auth::auth(self, mechanism, initial).await,
            Command::Stat => op::list::stat(self),
            Command::List(None) => op::list::list(self).await,
            Command::List(Some(number)) => op::list::list_one(self, number),
            Command::Uidl(None) => op::uidl::uidl(self).await,
            Command::Uidl(Some(number)) => op::uidl::uidl_one(self, number),
            Command::Retr(number) => op::retr::retr(self, number).await,
            Command::Top(number, lines) => op::retr::top(self, number, lines).await,
            Command::Dele(number) => op::dele::dele(self, number),
            Command::Rset => op::dele::rset(self),
            Command::Noop => match self.transaction() {
                Some(_) => self.say(&reply::NOOP),
                None => self.error(&reply::LOGIN_FIRST),
            },
            Command::Quit => op::quit::quit(self).await,
        }
    }

    /// The session after its login.
    pub(super) fn transaction(&mut self) -> Option<&mut Transaction> {
        match &mut self.session.state {
            State::Transaction(transaction) => Some(transaction),
            State::Authorization { .. } => None,
        }
    }

    /// Answers a command that went well, or that failed through no fault of the client.
    pub(super) fn say(&mut self, reply: &Reply) -> Result<(), Gone> {
        self.wire.reply(reply);
        Ok(())
    }

    /// Answers a command that was wrong; too many of them end the connection.
    pub(super) fn error(&mut self, reply: &Reply) -> Result<(), Gone> {
        self.wire.reply(reply);
        self.session.errors += 1;
        match self.session.errors > self.door.config.errors {
            true => Err(Gone::Abuse),
            false => Ok(()),
        }
    }
}
