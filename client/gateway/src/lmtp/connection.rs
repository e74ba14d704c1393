//! The loop over one client's commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::command::{BadCommand, Command};
use super::reply::{self, Reply};
use super::session::Session;
use super::{Door, op};
use crate::rare::{self, Rare};
use crate::wire::{Gone, Line, Wire};

/// Time for the last word to a client.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves one client to the end, and says why it ended.
pub(super) async fn run<S>(door: &Arc<Door>, wire: Wire<S>) -> Gone
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut connection = Connection {
        door: door.clone(),
        wire,
        session: Session::default(),
    };
    let greeting = format!("{} LMTP Posthouse", door.config.hostname);
    connection.wire.reply(&Reply::with(220, "", greeting));
    let gone = loop {
        if let Err(gone) = connection.step().await {
            break gone;
        }
    };
    // What was on its way is given up before the client hears anything of it.
    connection.session.transaction = None;
    match gone {
        Gone::Closed | Gone::BrokeOff => return gone,
        Gone::Quit => {}
        Gone::Idle => connection.wire.reply(&reply::IDLE),
        Gone::Shutdown => {
            rare::hit(Rare::ToldGoingDown);
            connection.wire.reply(&reply::GOING_DOWN)
        }
        Gone::Abuse => connection.wire.reply(&reply::TOO_MANY_ERRORS),
    }
    connection.wire.close(FAREWELL).await;
    gone
}

/// One client: its octets and its state.
pub struct Connection<S> {
    pub(super) door: Arc<Door>,
    pub(super) wire: Wire<S>,
    pub(super) session: Session,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Reads and answers one command.
    async fn step(&mut self) -> Result<(), Gone> {
        let (limit, patience) = (
            self.door.config.line_bytes,
            self.door.config.command_timeout(),
        );
        let line = match self.wire.line(limit, patience).await? {
            Line::Good(line) => line,
            Line::TooLong => return self.error(&reply::LONG_LINE),
            Line::BareLf => return self.error(&reply::BARE_LF),
        };
        match Command::parse(&line) {
            Ok(command) => self.run(command).await,
            Err(BadCommand::Syntax(form)) if form.starts_with("BDAT") => {
                // How many octets follow cannot be known, so where the next command begins
                // cannot be known either.
                self.wire
                    .reply(&Reply::to_bad_command(&BadCommand::Syntax(form)));
                Err(Gone::Abuse)
            }
            Err(bad) => self.error(&Reply::to_bad_command(&bad)),
        }
    }

    async fn run(&mut self, command: Command) -> Result<(), Gone> {
        match command {
            Command::Lhlo => op::lhlo::lhlo(self),
            Command::NotLmtp => self.error(&reply::NOT_LMTP),
            Command::Mail { sender, size, utf8 } => op::mail::mail(self, sender, size, utf8),
            Command::Rcpt { recipient } => op::rcpt::rcpt(self, recipient).await,
            Command::Data => op::data::data(self).await,
            Command::Bdat { size, last } => op::bdat::bdat(self, size, last).await,
            Command::Rset => op::simple::rset(self),
            Command::Noop => self.say(&reply::NOOP),
            Command::Vrfy => self.say(&reply::VRFY),
            Command::Help => self.say(&reply::HELP),
            Command::Quit => op::simple::quit(self),
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
