//! One command line, read (RFC 1939, section 3; RFC 2449, section 4; RFC 5034, section 4).

use std::fmt;

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// What is offered (RFC 2449).
    Capa,
    /// TLS begins (RFC 2595).
    Stls,
    /// Who logs in.
    User(String),
    /// With which password.
    Pass(Secret),
    /// Login by SASL (RFC 5034).
    Auth {
        /// In upper case; `None`: which ones are there?
        mechanism: Option<String>,
        /// The first response, in base64.
        initial: Option<Secret>,
    },
    /// How many messages, how many octets.
    Stat,
    /// Sizes: of one message or of all.
    List(Option<u32>),
    /// Unique ids: of one message or of all.
    Uidl(Option<u32>),
    /// A message.
    Retr(u32),
    /// Its header and some lines.
    Top(u32, u64),
    /// Marks a message as deleted.
    Dele(u32),
    /// Takes all marks away.
    Rset,
    /// Does nothing.
    Noop,
    /// Removes what is marked, and ends.
    Quit,
}

/// Text that must not come into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// Control characters, or no UTF-8.
    #[error("the line holds octets that no command has")]
    Octets,
    /// A verb that is not known.
    #[error("no such command")]
    Unknown,
    /// The verb is right, the rest is not.
    #[error("the form is: {0}")]
    Syntax(&'static str),
}

impl Command {
    /// Reads a line, without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Command, BadCommand> {
        let text = std::str::from_utf8(line).map_err(|_| BadCommand::Octets)?;
        if text.chars().any(char::is_control) {
            return Err(BadCommand::Octets);
        }
        let (verb, rest) = match text.split_once(' ') {
            Some((verb, rest)) => (verb, Some(rest)),
            None => (text, None),
        };
        if verb.len() > 4 {
            return Err(BadCommand::Unknown);
        }
        let rest = rest.unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "CAPA" => alone(rest, Command::Capa, "CAPA"),
            "STLS" => alone(rest, Command::Stls, "STLS"),
            "USER" => Ok(Command::User(user(rest)?)),
            // All that follows the space is the password, other spaces too (RFC 1939, section 7).
            "PASS" => match rest {
                "" => Err(BadCommand::Syntax("PASS password")),
                password => Ok(Command::Pass(Secret(password.to_owned()))),
            },
            "AUTH" => auth(rest),
            "STAT" => alone(rest, Command::Stat, "STAT"),
            "LIST" => Ok(Command::List(maybe_number(rest, "LIST [message]")?)),
            "UIDL" => Ok(Command::Uidl(maybe_number(rest, "UIDL [message]")?)),
            "RETR" => Ok(Command::Retr(number(rest, "RETR message")?)),
            "DELE" => Ok(Command::Dele(number(rest, "DELE message")?)),
            "TOP" => top(rest),
            "RSET" => alone(rest, Command::Rset, "RSET"),
            "NOOP" => alone(rest, Command::Noop, "NOOP"),
            "QUIT" => alone(rest, Command::Quit, "QUIT"),
            _ => Err(BadCommand::Unknown),
        }
    }
}

/// Spaces at the end are forgiven.
fn alone(rest: &str, command: Command, form: &'static str) -> Result<Command, BadCommand> {
    match words::<0>(rest) {
        Some(_) => Ok(command),
        None => Err(BadCommand::Syntax(form)),
    }
}

/// Exactly `N` words.
fn words<const N: usize>(rest: &str) -> Option<[&str; N]> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let mut found = [""; N];
    for place in &mut found {
        *place = words.next()?;
    }
    words.next().is_none().then_some(found)
}

fn user(rest: &str) -> Result<String, BadCommand> {
    match rest.trim_matches(' ') {
        "" => Err(BadCommand::Syntax("USER name")),
        name => Ok(name.to_owned()),
    }
}

/// One of the numbers that a message can have: digits alone. A number beyond them is a message
/// that is not there, which is no mistake of form.
fn digits(word: &str) -> Option<u64> {
    let is_number =
        !word.is_empty() && word.len() <= 64 && word.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| word.parse().unwrap_or(u64::MAX))
}

fn message(word: &str) -> Option<u32> {
    digits(word).map(|n| n.try_into().unwrap_or(u32::MAX))
}

fn number(rest: &str, form: &'static str) -> Result<u32, BadCommand> {
    let word = words::<1>(rest).and_then(|[word]| message(word));
    word.ok_or(BadCommand::Syntax(form))
}

fn maybe_number(rest: &str, form: &'static str) -> Result<Option<u32>, BadCommand> {
    match words::<0>(rest) {
        Some(_) => Ok(None),
        None => number(rest, form).map(Some),
    }
}

fn top(rest: &str) -> Result<Command, BadCommand> {
    let read = |[of, lines]: [&str; 2]| Some(Command::Top(message(of)?, digits(lines)?));
    let read = words::<2>(rest).and_then(read);
    read.ok_or(BadCommand::Syntax("TOP message lines"))
}

fn auth(rest: &str) -> Result<Command, BadCommand> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let mechanism = words.next().map(str::to_ascii_uppercase);
    let initial = words.next().map(|word| Secret(word.to_owned()));
    match words.next() {
        None => Ok(Command::Auth { mechanism, initial }),
        Some(_) => Err(BadCommand::Syntax("AUTH mechanism [response]")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands() {
        let pass = |password: &str| Ok(Command::Pass(Secret(password.into())));
        let auth = |mechanism: Option<&str>, initial: Option<&str>| {
            Ok(Command::Auth {
                mechanism: mechanism.map(str::to_owned),
                initial: initial.map(|i| Secret(i.into())),
            })
        };
        let syntax = |form| Err(BadCommand::Syntax(form));
        for (line, expected) in [
            ("CAPA", Ok(Command::Capa)),
            ("capa ", Ok(Command::Capa)),
            ("CAPA x", syntax("CAPA")),
            ("STLS", Ok(Command::Stls)),
            (
                "USER ann@example.org",
                Ok(Command::User("ann@example.org".into())),
            ),
            (
                "user  é@example.org ",
                Ok(Command::User("é@example.org".into())),
            ),
            ("USER", syntax("USER name")),
            ("USER  ", syntax("USER name")),
            ("PASS secret", pass("secret")),
            ("pass  two words ", pass(" two words ")),
            ("PASS", syntax("PASS password")),
            ("PASS ", syntax("PASS password")),
            ("AUTH", auth(None, None)),
            ("AUTH plain", auth(Some("PLAIN"), None)),
            ("AUTH PLAIN =", auth(Some("PLAIN"), Some("="))),
            ("AUTH PLAIN AGE=", auth(Some("PLAIN"), Some("AGE="))),
            ("AUTH PLAIN a b", syntax("AUTH mechanism [response]")),
            ("STAT", Ok(Command::Stat)),
            ("LIST", Ok(Command::List(None))),
            ("LIST 7", Ok(Command::List(Some(7)))),
            ("LIST 0", Ok(Command::List(Some(0)))),
            ("LIST 1 2", syntax("LIST [message]")),
            ("LIST x", syntax("LIST [message]")),
            ("UIDL", Ok(Command::Uidl(None))),
            ("UIDL 007", Ok(Command::Uidl(Some(7)))),
            ("RETR 1", Ok(Command::Retr(1))),
            ("RETR 99999999999999999999999", Ok(Command::Retr(u32::MAX))),
            ("RETR", syntax("RETR message")),
            ("RETR -1", syntax("RETR message")),
            ("RETR +1", syntax("RETR message")),
            ("DELE 3", Ok(Command::Dele(3))),
            ("TOP 1 0", Ok(Command::Top(1, 0))),
            (
                "top 2  99999999999999999999999",
                Ok(Command::Top(2, u64::MAX)),
            ),
            ("TOP 1", syntax("TOP message lines")),
            ("TOP 1 -1", syntax("TOP message lines")),
            ("RSET", Ok(Command::Rset)),
            ("NOOP", Ok(Command::Noop)),
            ("QUIT", Ok(Command::Quit)),
            ("QUIT now", syntax("QUIT")),
            ("APOP ann 0123", Err(BadCommand::Unknown)),
            ("LAST", Err(BadCommand::Unknown)),
            (" QUIT", Err(BadCommand::Unknown)),
            ("GET / HTTP/1.1", Err(BadCommand::Unknown)),
            ("", Err(BadCommand::Unknown)),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), expected, "{line}");
        }
        for octets in [&b"PASS a\0b"[..], b"USER a\rb", b"USER \xff", b"RETR\t1"] {
            assert_eq!(Command::parse(octets), Err(BadCommand::Octets));
        }
    }

    #[test]
    fn a_password_does_not_come_into_a_log() {
        for line in ["PASS hunter2hunter2", "AUTH PLAIN hunter2hunter2"] {
            let command = Command::parse(line.as_bytes()).unwrap();
            assert!(!format!("{command:?}").contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn nor_one_that_begins_well(
            head in "(?i)(CAPA|STLS|USER|PASS|AUTH|STAT|LIST|UIDL|RETR|DELE|TOP|RSET|QUIT) ?",
            tail in "\\PC{0,40}",
        ) {
            let _ = Command::parse(format!("{head}{tail}").as_bytes());
        }

        #[test]
        fn a_password_is_all_that_follows(password in "[^\\pC]{1,60}") {
            let parsed = Command::parse(format!("PASS {password}").as_bytes());
            prop_assert_eq!(parsed, Ok(Command::Pass(Secret(password))));
        }
    }
}
