//! How a command ended: OK, NO or BAD, with a response code (RFC 9051, section 7.1; RFC 5530).

use std::borrow::Cow;

use posthouse_client::Error;

use super::text::one_line;
use crate::imap::parse::Bad;
use crate::imap::view::NoSuchNumber;
use crate::imap::wire::Gone;

/// The condition of a tagged answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It was done.
    Ok,
    /// It could not be done.
    No,
    /// It was no command.
    Bad,
}

/// A tagged answer without its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// OK, NO or BAD.
    pub condition: Condition,
    /// The response code without brackets, or empty.
    pub code: String,
    /// For people.
    pub text: Cow<'static, str>,
}

/// Why an operation does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The command has ended.
    Done(Done),
    /// The connection has.
    Gone(Gone),
    /// The command has ended, and its answer has been given.
    Silent,
}

impl Done {
    /// It was done.
    pub fn ok(text: &'static str) -> Done {
        Done {
            condition: Condition::Ok,
            code: String::new(),
            text: text.into(),
        }
    }

    /// It was not.
    pub fn no(code: &str, text: &'static str) -> Done {
        Done {
            condition: Condition::No,
            code: code.to_owned(),
            text: text.into(),
        }
    }

    /// It was no command.
    pub fn bad(text: &'static str) -> Done {
        Done {
            condition: Condition::Bad,
            code: String::new(),
            text: text.into(),
        }
    }

    /// With a response code.
    pub fn code(mut self, code: impl Into<String>) -> Done {
        self.code = code.into();
        self
    }

    /// The line without its tag.
    pub fn line(&self) -> String {
        let condition = match self.condition {
            Condition::Ok => "OK",
            Condition::No => "NO",
            Condition::Bad => "BAD",
        };
        match self.code.is_empty() {
            true => format!("{condition} {}", self.text),
            false => format!("{condition} [{}] {}", self.code, self.text),
        }
    }

    /// The answer when the store could not do it. Whatever is not the fault of the request is
    /// something that may be tried again later.
    pub fn of_error(error: &Error) -> Done {
        let no = |code, text| Done::no(code, text);
        match error {
            Error::NotFound { what, .. } => match &**what {
                "mailbox" => no("NONEXISTENT", "there is no such mailbox"),
                "message" => no("EXPUNGEISSUED", "a message has been expunged"),
                "account" => no("UNAVAILABLE", "there is no such account any more"),
                _ => no("CANNOT", "it is not there"),
            },
            Error::AlreadyExists { .. } => no("ALREADYEXISTS", "it exists already"),
            Error::TooLarge { .. } => no("TOOBIG", "it is too large"),
            Error::ReadOnly { .. } => no(
                "UNAVAILABLE",
                "the disks are nearly full: nothing is stored now",
            ),
            Error::BadRequest { message, .. } | Error::Refused { message } => Done {
                condition: Condition::No,
                code: "CANNOT".to_owned(),
                text: one_line(message).into(),
            },
            Error::Corrupt { .. } => no("CORRUPTION", "stored octets are damaged"),
            Error::TooOld { .. } => no("UNAVAILABLE", "the history is forgotten"),
            Error::BadCredentials { .. } => no("AUTHENTICATIONFAILED", "wrong name or password"),
            Error::Source { .. } => no("UNAVAILABLE", "the message could not be read again"),
            _ => no("UNAVAILABLE", "the store gives no answer; try again"),
        }
    }

    /// The same for a command that names a mailbox to store into: the client may create it.
    pub fn of_target_error(error: &Error) -> Done {
        match error {
            Error::NotFound { what, .. } if what == "mailbox" => {
                Done::no("TRYCREATE", "there is no such mailbox")
            }
            error => Done::of_error(error),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Done(Done::of_error(&error))
    }
}

impl From<Gone> for Stop {
    fn from(gone: Gone) -> Stop {
        Stop::Gone(gone)
    }
}

impl From<Done> for Stop {
    fn from(done: Done) -> Stop {
        Stop::Done(done)
    }
}

impl From<NoSuchNumber> for Stop {
    fn from(_: NoSuchNumber) -> Stop {
        Stop::Done(Done::bad("there is no such message"))
    }
}

impl From<Bad> for Stop {
    fn from(bad: Bad) -> Stop {
        Stop::Done(Done::bad(bad.0))
    }
}
