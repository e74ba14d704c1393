//! A message as the answer to RETR or TOP (RFC 1939, sections 3, 5 and 7).
//!
//! The answer is made of lines that end with CRLF; a line that begins with a dot gets a second
//! one; a line with a dot alone ends it. A stored message may have other line ends: a bare LF is
//! sent as CRLF. Sent as it is, a mail program that takes LF for a line end and one that does not
//! would disagree on where the message ends, which is how one message becomes two. A message
//! whose last line has no end gets one. A bare CR is an octet like any other; so is NUL.

use bytes::{BufMut, BytesMut};

/// Encodes a message piece by piece; the pieces may be cut anywhere.
#[derive(Debug, Default)]
pub struct Stuff {
    state: State,
    /// Lines of the body that are still wanted; `None`: all.
    left: Option<u64>,
    in_body: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a line.
    #[default]
    LineStart,
    /// After a CR that begins a line: with an LF, the line is empty.
    FirstCr,
    /// After another CR.
    Cr,
    /// Inside a line.
    Middle,
}

impl Stuff {
    /// For all of a message.
    pub fn whole() -> Stuff {
        Stuff::default()
    }

    /// For the header, the empty line, and so many lines of the body.
    pub fn top(lines: u64) -> Stuff {
        Stuff {
            left: Some(lines),
            ..Stuff::default()
        }
    }

    /// Encodes `input` into `out`; at most twice as many octets. True when no more is wanted.
    pub fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> bool {
        if self.is_full() {
            return true;
        }
        let mut rest = input;
        while let Some(&c) = rest.first() {
            match (self.state, c) {
                (State::LineStart | State::Middle, b'\n') => {
                    out.put_slice(b"\r\n");
                    rest = &rest[1..];
                    if self.line_ends() {
                        return true;
                    }
                }
                (State::FirstCr | State::Cr, b'\n') => {
                    out.put_u8(b'\n');
                    rest = &rest[1..];
                    if self.line_ends() {
                        return true;
                    }
                }
                (state, b'\r') => {
                    out.put_u8(b'\r');
                    rest = &rest[1..];
                    self.state = match state {
                        State::LineStart => State::FirstCr,
                        _ => State::Cr,
                    };
                }
                (state, _) => {
                    if state == State::LineStart && c == b'.' {
                        out.put_u8(b'.');
                    }
                    let len = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    out.put_slice(&rest[..len]);
                    rest = &rest[len..];
                    self.state = State::Middle;
                }
            }
        }
        false
    }

    /// Ends the answer.
    pub fn end(self, out: &mut BytesMut) {
        if self.state != State::LineStart {
            out.put_slice(b"\r\n");
        }
        out.put_slice(b".\r\n");
    }

    /// At the end of a line; true when no more is wanted.
    fn line_ends(&mut self) -> bool {
        let empty = matches!(self.state, State::LineStart | State::FirstCr);
        self.state = State::LineStart;
        if self.in_body {
            self.left = self.left.map(|left| left.saturating_sub(1));
        } else {
            self.in_body = empty;
        }
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.in_body && self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(mut stuff: Stuff, message: &[u8], cut: usize) -> Vec<u8> {
        let mut out = BytesMut::new();
        for piece in message.chunks(cut) {
            if stuff.feed(piece, &mut out) {
                break;
            }
        }
        stuff.end(&mut out);
        out.to_vec()
    }

    /// What a mail program does: lines up to a dot alone, one dot taken from those that begin
    /// with one. `None` when the answer does not end there.
    fn decode(answer: &[u8], line_end: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = answer;
        loop {
            let at = memchr::memmem::find(rest, line_end)?;
            let (line, after) = (&rest[..at], &rest[at + line_end.len()..]);
            let line = line
                .strip_suffix(b"\r")
                .filter(|_| line_end == b"\n")
                .unwrap_or(line);
            if line == b"." {
                return after.is_empty().then_some(out);
            }
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            out.extend_from_slice(b"\r\n");
            rest = after;
        }
    }

    /// The message with CRLF at the end of every line.
    fn canonical(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for &c in message {
            if c == b'\n' && out.last() != Some(&b'\r') {
                out.push(b'\r');
            }
            out.push(c);
        }
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    #[test]
    fn dots_line_ends_and_the_end() {
        for (message, answer) in [
            (&b""[..], &b".\r\n"[..]),
            (b".", b"..\r\n.\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a\n.\nb\n", b"a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r\n..\r\n", b"a\r\n...\r\n.\r\n"),
            (b"a\r.b\r\n", b"a\r.b\r\n.\r\n"),
            (b"a\r", b"a\r\r\n.\r\n"),
            (b"\r\r\n.\r", b"\r\r\n..\r\r\n.\r\n"),
            (b"\0.\n", b"\0.\r\n.\r\n"),
        ] {
            for cut in 1..=3 {
                assert_eq!(encode(Stuff::whole(), message, cut), answer, "{message:?}");
            }
        }
    }

    #[test]
    fn top_is_header_empty_line_and_lines() {
        let message = b"A: 1\r\nB: 2\n\r\n.one\r\n\r\nthree\r\nfour";
        let header = "A: 1\r\nB: 2\r\n\r\n";
        for (lines, body) in [
            (0, ""),
            (1, "..one\r\n"),
            (2, "..one\r\n\r\n"),
            (3, "..one\r\n\r\nthree\r\n"),
            (4, "..one\r\n\r\nthree\r\nfour\r\n"),
            (u64::MAX, "..one\r\n\r\nthree\r\nfour\r\n"),
        ] {
            let expected = format!("{header}{body}.\r\n");
            for cut in [1, 2, 7, 100] {
                let got = encode(Stuff::top(lines), message, cut);
                assert_eq!(String::from_utf8(got).unwrap(), expected, "{lines}");
            }
        }
        // Without an empty line, all of it is header; an empty header is one, too.
        assert_eq!(encode(Stuff::top(0), b"A: 1\r\n", 9), b"A: 1\r\n.\r\n");
        assert_eq!(encode(Stuff::top(0), b"\nbody\n", 9), b"\r\n.\r\n");
        assert_eq!(encode(Stuff::top(0), b"", 9), b".\r\n");
    }

    proptest! {
        #[test]
        fn every_program_reads_the_same_message(
            message in proptest::collection::vec(
                prop_oneof![
                    4 => prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), Just(b'a')],
                    1 => any::<u8>(),
                ],
                0..200),
            cut in 1usize..20,
        ) {
            let answer = encode(Stuff::whole(), &message, cut);
            prop_assert_eq!(&answer, &encode(Stuff::whole(), &message, 1000));
            // The octets are the same but for line ends, wherever a program looks for these.
            let expected = Some(canonical(&message));
            prop_assert_eq!(decode(&answer, b"\r\n"), expected.clone());
            prop_assert_eq!(decode(&answer, b"\n"), expected);
            prop_assert!(answer.len() <= 2 * message.len() + 5);
        }
    }
}
