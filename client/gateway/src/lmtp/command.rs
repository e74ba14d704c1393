//! One command line, read (RFC 2033; RFC 5321, section 4.1; RFC 1870, 6152, 6531, 3030).
//!
//! Verbs and parameters are read by `smtp-proto`. It forgives what a store must not forgive (it
//! drops CRs, mends bad UTF-8, takes quotes away and cannot tell `<>` from `<postmaster>`), so a
//! line is checked before it comes there, and addresses are read by [`super::path`].

use smtp_proto::request::parser::Rfc5321Parser;
use smtp_proto::{Error, MAIL_BODY_7BIT, MAIL_BODY_8BITMIME, MAIL_SMTPUTF8, MailFrom, Request};

use super::path::{self, BadPath};

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Opens the session.
    Lhlo,
    /// HELO or EHLO, which RFC 2033, section 4.1, has a server refuse.
    NotLmtp,
    /// Opens a transaction.
    Mail {
        /// The reverse-path, canonical; empty for a bounce.
        sender: String,
        /// Octets announced, 0 when they are not.
        size: u64,
        /// Addresses may hold UTF-8.
        utf8: bool,
    },
    /// Adds a recipient.
    Rcpt {
        /// The forward-path, canonical.
        recipient: String,
    },
    /// The message follows, dots stuffed.
    Data,
    /// So many octets of the message follow.
    Bdat {
        /// Octets that follow the line.
        size: u64,
        /// They are the last of the message.
        last: bool,
    },
    /// Gives the transaction up.
    Rset,
    /// Does nothing.
    Noop,
    /// Asks whether an address exists.
    Vrfy,
    /// Asks for help.
    Help,
    /// Closes the session.
    Quit,
}

/// Why a line is no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// Control characters, or no UTF-8.
    #[error("the line holds octets that no command has")]
    Octets,
    /// A verb that is not known.
    #[error("no such command")]
    Unknown,
    /// A verb that is known and not offered.
    #[error("not offered here")]
    NotOffered,
    /// The verb is right, the rest is not.
    #[error("the form is: {0}")]
    Syntax(&'static str),
    /// The sender's address.
    #[error("{0}")]
    Sender(BadPath),
    /// The recipient's address.
    #[error("{0}")]
    Recipient(BadPath),
    /// A parameter with a bad value.
    #[error("the value of {0} cannot be read")]
    Value(&'static str),
    /// A parameter that was not announced.
    #[error("a parameter is not known here")]
    Parameter,
}

const MAIL_FORM: &str = "MAIL FROM:<address> [SIZE=n] [BODY=8BITMIME] [SMTPUTF8]";
const RCPT_FORM: &str = "RCPT TO:<address>";
const BDAT_FORM: &str = "BDAT size [LAST]";

impl Command {
    /// Reads a line, without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Command, BadCommand> {
        let text = std::str::from_utf8(line).map_err(|_| BadCommand::Octets)?;
        if text.chars().any(char::is_control) {
            return Err(BadCommand::Octets);
        }
        match verb(text).as_str() {
            "MAIL" => parse_mail(text),
            "RCPT" => parse_rcpt(text),
            "BDAT" => parse_bdat(text),
            _ => parse_other(text),
        }
    }
}

fn verb(text: &str) -> String {
    let end = text.find(' ').unwrap_or(text.len()).min(16);
    text.get(..end).unwrap_or_default().to_ascii_uppercase()
}

/// What follows "MAIL FROM:" and the like, compared without case; spaces around it are forgiven.
fn after<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let rest = text.get(4..)?.trim_start_matches(' ');
    let head = rest.get(..keyword.len())?;
    let rest = rest.get(keyword.len()..)?;
    head.eq_ignore_ascii_case(keyword)
        .then_some(rest)?
        .trim_start_matches(' ')
        .strip_prefix(':')
}

fn parse_mail(text: &str) -> Result<Command, BadCommand> {
    let rest = after(text, "FROM").ok_or(BadCommand::Syntax(MAIL_FORM))?;
    let (sender, rest) = path::parse(rest).map_err(BadCommand::Sender)?;
    let (size, flags) = with_parser(rest, |parser| {
        let from = parser.mail_from_parameters("".into())?;
        Ok(offered(&from).then_some((from.size, from.flags)))
    })?;
    Ok(Command::Mail {
        sender,
        size: size as u64,
        utf8: flags & MAIL_SMTPUTF8 != 0,
    })
}

fn parse_rcpt(text: &str) -> Result<Command, BadCommand> {
    let rest = after(text, "TO").ok_or(BadCommand::Syntax(RCPT_FORM))?;
    let (recipient, rest) = path::parse(rest).map_err(BadCommand::Recipient)?;
    if recipient.is_empty() {
        return Err(BadCommand::Recipient(BadPath::Local));
    }
    with_parser(rest, |parser| {
        let to = parser.rcpt_to_parameters("".into())?;
        let none = to.orcpt.is_none() && to.rrvs == 0 && to.flags == 0;
        Ok(none.then_some(()))
    })?;
    Ok(Command::Rcpt { recipient })
}

/// What the answer to LHLO does not offer is an error, not a wish to be passed over in silence.
fn offered<T>(from: &MailFrom<T>) -> bool {
    let strange = from.trans_id.is_some()
        || from.env_id.is_some()
        || from.solicit.is_some()
        || from.mtrk.is_some()
        || from.auth.is_some();
    let timed = from.by != 0 || from.hold_for != 0 || from.hold_until != 0 || from.mt_priority != 0;
    let known = MAIL_BODY_7BIT | MAIL_BODY_8BITMIME | MAIL_SMTPUTF8;
    !strange && !timed && from.flags & !known == 0
}

/// Reads parameters; `None` from `parse` means one that is known and not offered.
fn with_parser<T>(
    rest: &str,
    parse: impl FnOnce(&mut Rfc5321Parser<'_, '_>) -> Result<Option<T>, Error>,
) -> Result<T, BadCommand> {
    let line = format!("{rest}\n");
    let mut octets = line.as_bytes().iter();
    let mut parser = Rfc5321Parser::new(&mut octets);
    parser.stop_char = b' ';
    parse(&mut parser)
        .map_err(bad)?
        .ok_or(BadCommand::Parameter)
}

/// By hand: a size that does not fit must be an error here, not the largest number there is.
fn parse_bdat(text: &str) -> Result<Command, BadCommand> {
    let form = BadCommand::Syntax(BDAT_FORM);
    let mut words = text.split(' ').filter(|w| !w.is_empty()).skip(1);
    let size = words.next().ok_or(form.clone())?;
    if size.len() > 18 || !size.bytes().all(|b| b.is_ascii_digit()) {
        return Err(form);
    }
    let size = size.parse().map_err(|_| form.clone())?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(form),
    };
    match words.next() {
        None => Ok(Command::Bdat { size, last }),
        Some(_) => Err(form),
    }
}

fn parse_other(text: &str) -> Result<Command, BadCommand> {
    let line = format!("{text}\n");
    match Request::parse(&mut line.as_bytes().iter()).map_err(bad)? {
        Request::Lhlo { .. } => Ok(Command::Lhlo),
        Request::Helo { .. } | Request::Ehlo { .. } => Ok(Command::NotLmtp),
        Request::Data => no_argument(text, Command::Data, "DATA"),
        Request::Rset => no_argument(text, Command::Rset, "RSET"),
        Request::Quit => no_argument(text, Command::Quit, "QUIT"),
        Request::Noop { .. } => Ok(Command::Noop),
        Request::Vrfy { .. } => Ok(Command::Vrfy),
        Request::Help { .. } => Ok(Command::Help),
        _ => Err(BadCommand::NotOffered),
    }
}

fn no_argument(text: &str, command: Command, form: &'static str) -> Result<Command, BadCommand> {
    match text.trim_end_matches(' ').len() == 4 {
        true => Ok(command),
        false => Err(BadCommand::Syntax(form)),
    }
}

fn bad(error: Error) -> BadCommand {
    match error {
        Error::SyntaxError { syntax } => BadCommand::Syntax(syntax),
        Error::InvalidParameter { param } => BadCommand::Value(param),
        Error::UnsupportedParameter { .. } => BadCommand::Parameter,
        _ => BadCommand::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mail(sender: &str, size: u64, utf8: bool) -> Result<Command, BadCommand> {
        Ok(Command::Mail {
            sender: sender.into(),
            size,
            utf8,
        })
    }

    #[test]
    fn commands() {
        for (line, expected) in [
            ("LHLO mx.example.org", Ok(Command::Lhlo)),
            ("lhlo [192.0.2.1]", Ok(Command::Lhlo)),
            ("EHLO mx.example.org", Ok(Command::NotLmtp)),
            ("HELO mx.example.org", Ok(Command::NotLmtp)),
            ("MAIL FROM:<>", mail("", 0, false)),
            ("mail from: <a@b.example>", mail("a@b.example", 0, false)),
            (
                "MAIL FROM:<a@b> SIZE=123 BODY=8BITMIME",
                mail("a@b", 123, false),
            ),
            ("MAIL FROM:<é@b> SMTPUTF8 BODY=7bit", mail("é@b", 0, true)),
            (
                "MAIL FROM:<a@b> BODY=BINARYMIME",
                Err(BadCommand::Parameter),
            ),
            ("MAIL FROM:<a@b> BODY=9BIT", Err(BadCommand::Value("BODY"))),
            ("MAIL FROM:<a@b> SIZE=x", Err(BadCommand::Value("SIZE"))),
            ("MAIL FROM:<a@b> RET=FULL", Err(BadCommand::Parameter)),
            ("MAIL FROM:<a@b> HOLDFOR=5", Err(BadCommand::Parameter)),
            ("MAIL FROM:<a@b> AUTH=<>", Err(BadCommand::Parameter)),
            ("MAIL FROM:<a@b> XYZ=1", Err(BadCommand::Parameter)),
            ("MAIL FROM:<a b>", Err(BadCommand::Sender(BadPath::Local))),
            ("MAIL <a@b>", Err(BadCommand::Syntax(MAIL_FORM))),
            ("MAIL", Err(BadCommand::Syntax(MAIL_FORM))),
            (
                "RCPT TO:<a@b>",
                Ok(Command::Rcpt {
                    recipient: "a@b".into(),
                }),
            ),
            ("RCPT TO:<>", Err(BadCommand::Recipient(BadPath::Local))),
            ("RCPT TO:<a@b> NOTIFY=NEVER", Err(BadCommand::Parameter)),
            ("DATA", Ok(Command::Data)),
            ("data ", Ok(Command::Data)),
            ("DATA x", Err(BadCommand::Syntax("DATA"))),
            (
                "BDAT 0 LAST",
                Ok(Command::Bdat {
                    size: 0,
                    last: true,
                }),
            ),
            (
                "BDAT 1000",
                Ok(Command::Bdat {
                    size: 1000,
                    last: false,
                }),
            ),
            ("BDAT -1", Err(BadCommand::Syntax(BDAT_FORM))),
            (
                "BDAT 99999999999999999999",
                Err(BadCommand::Syntax(BDAT_FORM)),
            ),
            ("BDAT 1 LAST x", Err(BadCommand::Syntax(BDAT_FORM))),
            ("BDAT", Err(BadCommand::Syntax(BDAT_FORM))),
            ("RSET", Ok(Command::Rset)),
            ("NOOP", Ok(Command::Noop)),
            ("NOOP hello", Ok(Command::Noop)),
            ("VRFY ann", Ok(Command::Vrfy)),
            ("HELP", Ok(Command::Help)),
            ("QUIT", Ok(Command::Quit)),
            ("STARTTLS", Err(BadCommand::NotOffered)),
            ("GET / HTTP/1.1", Err(BadCommand::Unknown)),
            ("", Err(BadCommand::Unknown)),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), expected, "{line}");
        }
        for octets in [
            &b"MAIL FROM:<a\r@b>"[..],
            b"RCPT TO:<a\0@b>",
            b"MAIL FROM:<\xff@b>",
        ] {
            assert_eq!(Command::parse(octets), Err(BadCommand::Octets));
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn nor_one_that_begins_well(
            head in "(MAIL FROM:<a@b>|RCPT TO:<a@b>|BDAT|LHLO|MAIL FROM:<|RCPT TO:<\"|MÄIL) ?",
            tail in "\\PC{0,40}",
        ) {
            let _ = Command::parse(format!("{head}{tail}").as_bytes());
        }
    }
}
