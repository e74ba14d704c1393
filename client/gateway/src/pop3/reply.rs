//! Replies: `+OK` or `-ERR`, a response code (RFC 2449, section 8; RFC 3206), a text.
//!
//! Texts never repeat what a client sent. Codes: `[AUTH]` when the name or the password is the
//! problem, `[SYS/TEMP]` when trying again may help, `[SYS/PERM]` when it will not. `[IN-USE]` is
//! never said: sessions do not lock the mailbox, see [`super`].

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::command::BadCommand;
use super::store::StoreError;
use crate::wire::Say;

/// A reply of one line, or the first line of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    good: bool,
    text: Cow<'static, str>,
}

impl Reply {
    /// It went well.
    pub const fn ok(text: &'static str) -> Reply {
        Reply {
            good: true,
            text: Cow::Borrowed(text),
        }
    }

    /// It did not.
    pub const fn err(text: &'static str) -> Reply {
        Reply {
            good: false,
            text: Cow::Borrowed(text),
        }
    }

    /// It went well, with a text of its own.
    pub fn ok_with(text: String) -> Reply {
        Reply {
            good: true,
            text: Cow::Owned(text),
        }
    }

    /// The answer to a line that is no command.
    pub fn to_bad_command(error: BadCommand) -> Reply {
        Reply {
            good: false,
            text: Cow::Owned(error.to_string()),
        }
    }

    /// The answer when the store says no.
    pub fn to_store_error(error: &StoreError) -> Reply {
        match error {
            StoreError::BadCredentials => BAD_CREDENTIALS.clone(),
            StoreError::TooManyLogins => TOO_MANY_LOGINS.clone(),
            StoreError::Gone(_) => GONE.clone(),
            StoreError::Damaged(_) => DAMAGED.clone(),
            StoreError::Unavailable(_) => UNAVAILABLE.clone(),
        }
    }
}

impl Say for Reply {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(if self.good { b"+OK " } else { b"-ERR " });
        out.put_slice(self.text.as_bytes());
        out.put_slice(b"\r\n");
    }
}

/// A line that asks for a SASL response (RFC 5034, section 4): PLAIN has nothing to say in it.
pub struct Continue;

impl Say for Continue {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(b"+ \r\n");
    }
}

/// To a command of the transaction before the login.
pub static LOGIN_FIRST: Reply = Reply::err("log in first");
/// To a login command after the login.
pub static LOGGED_IN: Reply = Reply::err("the login has been made");
/// To PASS without USER.
pub static USER_FIRST: Reply = Reply::err("say USER first");
/// To USER: nobody learns whether there is such an account.
pub static NAME_TAKEN_DOWN: Reply = Reply::ok("say PASS");
/// To a login without TLS from elsewhere.
pub static TLS_FIRST: Reply = Reply::err("[AUTH] a password is taken under TLS alone");
/// To STLS under TLS.
pub static TLS_ALREADY: Reply = Reply::err("this is TLS already");
/// To STLS where there is no certificate.
pub static NO_TLS: Reply = Reply::err("no TLS is offered here");
/// To STLS.
pub static TLS_BEGIN: Reply = Reply::ok("begin TLS");
/// To STLS with more in the same breath (RFC 2595, section 4).
pub static TLS_NOT_ALONE: Reply = Reply::err("nothing may follow STLS but TLS");
/// To AUTH with a mechanism that is not offered.
pub static NO_MECHANISM: Reply = Reply::err("only PLAIN is offered");
/// To a SASL response that is none.
pub static BAD_RESPONSE: Reply = Reply::err("this is no PLAIN response");
/// To `*` instead of a SASL response.
pub static CANCELLED: Reply = Reply::err("given up, as you say");
/// To a PLAIN response that asks for another identity.
pub static OTHER_IDENTITY: Reply = Reply::err("[AUTH] nobody acts for another account here");
/// To a login: no such account, wrong password, or no login.
pub static BAD_CREDENTIALS: Reply = Reply::err("[AUTH] wrong name or password");
/// To a login after too many wrong ones.
pub static TOO_MANY_LOGINS: Reply =
    Reply::err("[SYS/TEMP] too many failed logins, try again later");
/// To a login beyond the limit on sessions.
pub static TOO_MANY_SESSIONS: Reply =
    Reply::err("[SYS/TEMP] too many sessions of this account, try again later");
/// To a number that no message has.
pub static NO_MESSAGE: Reply = Reply::err("no such message");
/// Another session has removed the message.
pub static GONE: Reply = Reply::err("[SYS/PERM] it is not there any more");
/// No replica has good octets.
pub static DAMAGED: Reply = Reply::err("[SYS/PERM] the message is damaged");
/// No answer from the store in time.
pub static UNAVAILABLE: Reply = Reply::err("[SYS/TEMP] no answer from the store, try again");
/// To QUIT when the removal has not been acknowledged.
pub static NOT_REMOVED: Reply = Reply::err("[SYS/TEMP] deleted messages may not have been removed");
/// To DELE.
pub static MARKED: Reply = Reply::ok("it goes at QUIT");
/// To NOOP.
pub static NOOP: Reply = Reply::ok("at your service");
/// To QUIT.
pub static BYE: Reply = Reply::ok("bye");
/// To a line that is too long.
pub static LONG_LINE: Reply = Reply::err("the line is too long");
/// To a line that ends with a bare LF.
pub static BARE_LF: Reply = Reply::err("lines end with CRLF");
/// The door closes.
pub static GOING_DOWN: Reply = Reply::err("[SYS/TEMP] shutting down, try again");
/// Too many lines that were no commands, or failed logins.
pub static TOO_MANY_ERRORS: Reply = Reply::err("too many errors");
/// Too many connections.
pub static TOO_MANY_CONNECTIONS: Reply = Reply::err("[SYS/TEMP] too many connections, try again");
