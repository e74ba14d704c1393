//! Reads a password: from the terminal, twice and without showing it, or a line of standard input.
//! Never from an argument, which other users of the machine could see.

use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::exit::{Failure, usage};

/// Longest line, octets; nodes take less.
const LINE_BYTES: u64 = 64 << 10;

/// The terminal does not show what is typed as long as this lives.
struct Silent<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl Silent<'_> {
    fn new(terminal: &Stdin) -> io::Result<Silent<'_>> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The end of the line is still shown.
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Silent { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Nothing more can be done about a terminal that does not take it.
        tcsetattr(self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// A password that is not empty.
pub fn read(prompt: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return line(&mut stdin.lock());
    }
    let silent = Silent::new(&stdin)?;
    write!(io::stderr(), "{prompt}")?;
    let password = line(&mut stdin.lock())?;
    write!(io::stderr(), "The same again: ")?;
    let again = line(&mut stdin.lock())?;
    drop(silent);
    match password == again {
        true => Ok(password),
        false => Err(Failure::Other(1, "these two are not the same".into())),
    }
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> Result<String, Failure> {
    let mut text = String::new();
    from.take(LINE_BYTES).read_line(&mut text)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text {
        "" => Err(usage("no password was given")),
        text => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_as_it_is_but_for_its_end() {
        let read = |mut text: &[u8]| line(&mut text);
        for (text, password) in [
            (&b"secret\n"[..], "secret"),
            (b"secret", "secret"),
            (b" two words \r\nmore\n", " two words "),
        ] {
            assert_eq!(read(text).unwrap(), password);
        }
        for none in [&b""[..], b"\n", b"\r\n", b"\xff\xfe\n"] {
            assert!(read(none).is_err());
        }
    }
}
