//! What an error of the client library says about the outcome of a call.
//!
//! The library's contract ([`posthouse_client::Error::outcome_unknown`]): `Unavailable`,
//! `Transport` and `Deadline` leave the outcome open, everything else says that nothing was done,
//! by no try of the call. Octets that are damaged say nothing about anything else, so that is
//! unknown too.

use posthouse_client::Error;

use crate::history::{Answer, StoredAt};

/// Begins the text of a refusal because of a missing account.
pub const NO_ACCOUNT: &str = "not found: account";
/// Begins the text of a refusal because of a missing mailbox.
pub const NO_MAILBOX: &str = "not found: mailbox";
/// Begins the text of a refusal because of a missing message.
pub const NO_MESSAGE: &str = "not found: message";
/// Begins the text of a refusal because a program has no password.
pub const NO_APP: &str = "not found: app_password";
/// What is in the text of a refusal because a password was drawn under this request before, and is
/// told only once. The password is there, or was.
pub const TOLD_ONCE: &str = "made by an earlier try of this request";
/// Begins the text of a refusal because octets are missing, also those of a message that is there:
/// it does not say whether the mailbox and the account of the message are there.
pub const NO_BLOB: &str = "not found: blob";
/// Begins the text of a refusal because the thing exists already.
pub const EXISTS: &str = "exists";

/// Begins the text of a refusal because the mailbox cannot be touched so, whatever is in it.
pub const REFUSED: &str = "refused: ";
/// The text of a refusal because of a wrong password, or because nobody may log in.
pub const NO_LOGIN: &str = "no login";
/// The text of a refusal because there were too many wrong passwords: this one was not looked at.
pub const NOT_LOOKED_AT: &str = "not looked at";
/// What is in the text of a refusal because the account is closed.
pub const CLOSED: &str = "account is closed";

/// The answer that `error` is.
pub fn of(error: Error) -> Answer {
    if error.outcome_unknown() {
        return Answer::Unknown(error.to_string());
    }
    match error {
        Error::NotFound { what, .. } => Answer::Refused(format!("not found: {what}")),
        Error::AlreadyExists { what, .. } => Answer::Refused(format!("{EXISTS}: {what}")),
        Error::Corrupt { .. } => Answer::Unknown(error.to_string()),
        Error::BadCredentials { retry_after, .. } if retry_after.is_zero() => {
            Answer::Refused(NO_LOGIN.to_owned())
        }
        Error::BadCredentials { .. } => Answer::Refused(NOT_LOOKED_AT.to_owned()),
        Error::Refused { message } => Answer::Refused(format!("{REFUSED}{message}")),
        other => Answer::Refused(other.to_string()),
    }
}

/// Where the library says that a message is.
pub fn stored(stored: &posthouse_client::Stored) -> StoredAt {
    StoredAt {
        uid_validity: stored.uidvalidity,
        uid: stored.uid,
        modseq: stored.modseq,
    }
}

/// Uids of ranges; more than any mailbox of a plan has are cut off.
pub fn uids(ranges: &[posthouse_client::proto::UidRange]) -> Vec<u32> {
    let each = ranges.iter().flat_map(|r| r.first..=r.last);
    each.take(100_000).collect()
}

/// Octets as hexadecimal text.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_was_not_done_is_refused() {
        let message = String::new;
        for unknown in [
            Error::Unavailable { message: message() },
            Error::Transport { message: message() },
            Error::Deadline { message: message() },
            Error::Corrupt { message: message() },
        ] {
            assert!(matches!(of(unknown), Answer::Unknown(_)));
        }
        for (refused, text) in [
            (Error::not_found("account", "x"), NO_ACCOUNT),
            (Error::not_found("mailbox", "x"), NO_MAILBOX),
            (Error::not_found("message", "x"), NO_MESSAGE),
            (Error::ReadOnly { message: message() }, "read only"),
        ] {
            match of(refused) {
                Answer::Refused(why) => assert!(why.starts_with(text), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
