//! Replies: code, enhanced status (RFC 2034, RFC 3463), text.
//!
//! Texts never repeat what a client sent, but for addresses, which hold no control characters.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::command::BadCommand;
use crate::rare::{self, Rare};
use crate::store::{StoreError, Stored};
use crate::wire::Say;

/// One reply of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// RFC 5321, section 4.2.
    pub code: u16,
    /// RFC 3463; empty in the greeting, in the answer to LHLO, and for 354.
    pub status: &'static str,
    /// For people.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with a fixed text.
    pub const fn new(code: u16, status: &'static str, text: &'static str) -> Reply {
        Reply {
            code,
            status,
            text: Cow::Borrowed(text),
        }
    }

    /// A reply with a text of its own.
    pub fn with(code: u16, status: &'static str, text: String) -> Reply {
        Reply {
            code,
            status,
            text: Cow::Owned(text),
        }
    }

    /// The answer to a line that is no command.
    pub fn to_bad_command(error: &BadCommand) -> Reply {
        let (code, status) = match error {
            BadCommand::Octets => (500, "5.5.2"),
            BadCommand::Unknown => (500, "5.5.1"),
            BadCommand::NotOffered => (502, "5.5.1"),
            BadCommand::Syntax(_) => (501, "5.5.4"),
            BadCommand::Sender(_) => (501, "5.1.7"),
            BadCommand::Recipient(_) => (501, "5.1.3"),
            BadCommand::Value(_) => (501, "5.5.4"),
            BadCommand::Parameter => (555, "5.5.4"),
        };
        Reply::with(code, status, error.to_string())
    }

    /// The answer for one recipient, after the quorum has spoken.
    pub fn to_delivery(recipient: &str, result: &Result<Stored, StoreError>) -> Reply {
        match result {
            Ok(Stored { duplicate: false }) => {
                Reply::with(250, "2.1.5", format!("<{recipient}> stored"))
            }
            Ok(Stored { duplicate: true }) => {
                rare::hit(Rare::DeliveredBefore);
                Reply::with(250, "2.1.5", format!("<{recipient}> stored before"))
            }
            Err(error) => Reply::to_store_error(recipient, error),
        }
    }

    /// The answer when the store says no.
    pub fn to_store_error(recipient: &str, error: &StoreError) -> Reply {
        match error {
            StoreError::NoAccount => {
                Reply::with(550, "5.1.1", format!("<{recipient}> no such account"))
            }
            StoreError::Busy => {
                rare::hit(Rare::StoreBusy);
                BUSY.clone()
            }
            StoreError::ReadOnly => {
                rare::hit(Rare::NoSpaceForMail);
                DISK_FULL.clone()
            }
            StoreError::TooLarge { .. } => TOO_LARGE.clone(),
            StoreError::BrokenOff => BROKEN_OFF.clone(),
            StoreError::Unavailable(_) => {
                rare::hit(Rare::NoAnswerFromStore);
                UNAVAILABLE.clone()
            }
            StoreError::Closed => {
                Reply::with(550, "5.2.1", format!("<{recipient}> the account is closed"))
            }
            StoreError::Refused(_) => REFUSED.clone(),
        }
    }
}

impl Say for Reply {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.code.to_string().as_bytes());
        out.put_u8(b' ');
        if !self.status.is_empty() {
            out.put_slice(self.status.as_bytes());
            out.put_u8(b' ');
        }
        out.put_slice(self.text.as_bytes());
        out.put_slice(b"\r\n");
    }
}

/// To a command that came too early.
pub static HELLO_FIRST: Reply = Reply::new(503, "5.5.1", "say LHLO first");
/// To HELO and EHLO (RFC 2033, section 4.1).
pub static NOT_LMTP: Reply = Reply::new(500, "5.5.1", "this is LMTP: say LHLO");
/// To MAIL inside a transaction.
pub static NESTED_MAIL: Reply =
    Reply::new(503, "5.5.1", "the sender has been given; RSET starts anew");
/// To RCPT, DATA and BDAT outside a transaction.
pub static MAIL_FIRST: Reply = Reply::new(503, "5.5.1", "say MAIL first");
/// To DATA and BDAT without a recipient (RFC 2033, section 4.2).
pub static RCPT_FIRST: Reply = Reply::new(503, "5.5.1", "no recipient has been accepted");
/// To MAIL, RCPT and DATA after BDAT (RFC 3030, section 2).
pub static CHUNKS_OPEN: Reply =
    Reply::new(503, "5.5.1", "BDAT has begun; BDAT LAST or RSET ends it");
/// To a line that is too long.
pub static LONG_LINE: Reply = Reply::new(500, "5.5.2", "the line is too long");
/// To a line that ends with a bare LF.
pub static BARE_LF: Reply = Reply::new(500, "5.5.2", "lines end with CRLF");
/// To non-ASCII addresses without SMTPUTF8 (RFC 6531, section 3.5).
pub static NEEDS_UTF8: Reply = Reply::new(553, "5.6.7", "the address needs SMTPUTF8");
/// The sender is good.
pub static SENDER_OK: Reply = Reply::new(250, "2.1.0", "sender accepted");
/// More recipients than one transaction takes.
pub static MANY_RECIPIENTS: Reply =
    Reply::new(452, "4.5.3", "too many recipients in one transaction");
/// To DATA.
pub static GO_AHEAD: Reply = Reply::new(354, "", "send the message, end with <CRLF>.<CRLF>");
/// To RSET.
pub static RESET: Reply = Reply::new(250, "2.0.0", "nothing was kept");
/// To NOOP.
pub static NOOP: Reply = Reply::new(250, "2.0.0", "at your service");
/// To VRFY (RFC 5321, section 3.5.3).
pub static VRFY: Reply = Reply::new(252, "2.5.0", "RCPT will tell");
/// To HELP.
pub static HELP: Reply = Reply::new(
    214,
    "2.0.0",
    "LMTP, RFC 2033: LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY QUIT",
);
/// To QUIT.
pub static BYE: Reply = Reply::new(221, "2.0.0", "bye");
/// A window of the store is full; nothing was stored.
pub static BUSY: Reply = Reply::new(451, "4.3.2", "busy, try again");
/// No answer from the store in time; a repetition is recognised.
pub static UNAVAILABLE: Reply = Reply::new(451, "4.3.0", "no answer from the store, try again");
/// The store takes no mail, or the spool is full.
pub static DISK_FULL: Reply = Reply::new(452, "4.3.1", "no space for mail, try again later");
/// Over the limit.
pub static TOO_LARGE: Reply = Reply::new(552, "5.3.4", "the message is too large");
/// The header alone is over its limit.
pub static LARGE_HEADER: Reply = Reply::new(552, "5.3.4", "the header is too large");
/// The store lost the body on its way.
pub static BROKEN_OFF: Reply = Reply::new(451, "4.3.0", "the message broke off");
/// The store refuses the message.
pub static REFUSED: Reply = Reply::new(550, "5.2.0", "the store refuses this message");
/// The door closes.
pub static GOING_DOWN: Reply = Reply::new(421, "4.3.2", "shutting down, try again");
/// Nothing came for too long.
pub static IDLE: Reply = Reply::new(421, "4.4.2", "idle for too long");
/// Too many lines that were no commands.
pub static TOO_MANY_ERRORS: Reply = Reply::new(421, "4.7.0", "too many errors");
/// Too many connections.
pub static TOO_MANY_CONNECTIONS: Reply =
    Reply::new(421, "4.7.0", "too many connections, try again");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_on_the_wire() {
        let mut out = BytesMut::new();
        GO_AHEAD.encode(&mut out);
        Reply::to_store_error("ann@example.org", &StoreError::NoAccount).encode(&mut out);
        assert_eq!(
            out,
            "354 send the message, end with <CRLF>.<CRLF>\r\n\
             550 5.1.1 <ann@example.org> no such account\r\n"
        );
    }
}
