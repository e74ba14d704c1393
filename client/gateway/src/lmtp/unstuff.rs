//! The octets of a message out of the DATA phase (RFC 5321, section 4.5.2).
//!
//! Exists because of SMTP smuggling: when two servers disagree on what ends a message, one
//! message becomes two, and the second one carries whatever sender its author likes. Here a line
//! ends with CRLF and with nothing else; only CRLF "." CRLF ends the data; a dot is dropped only
//! at the start of a line that follows CRLF. Bare LF and bare CR are octets like any other and
//! are kept as they are.

use bytes::{BufMut, BytesMut};

/// Decodes the DATA phase piece by piece; the pieces may be cut anywhere.
#[derive(Debug, Default)]
pub struct Unstuff {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After CRLF, or at the very start: the CRLF of the DATA command precedes it.
    #[default]
    LineStart,
    /// After a dot at the start of a line; the dot is held back.
    Dot,
    /// After a dot at the start of a line and a CR; both are held back.
    DotCr,
    /// After a CR that has been passed on.
    Cr,
    /// Inside a line.
    Middle,
}

impl Unstuff {
    /// Decodes `input` into `out`. Returns how many octets were used, and whether the end of the
    /// data is among them. Without the end, all of `input` is used.
    pub fn feed(&mut self, input: &[u8], out: &mut BytesMut) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() {
            let c = input[at];
            match (self.state, c) {
                (State::DotCr, b'\n') => {
                    self.state = State::LineStart;
                    return (at + 1, true);
                }
                (State::DotCr, _) => {
                    // The held CR was no part of an end; the dot before it is dropped.
                    out.put_u8(b'\r');
                    self.state = State::Cr;
                    continue;
                }
                (State::LineStart, b'.') => self.state = State::Dot,
                (State::Dot, b'\r') => self.state = State::DotCr,
                (State::Cr, b'\n') => {
                    out.put_u8(b'\n');
                    self.state = State::LineStart;
                }
                (_, b'\r') => {
                    out.put_u8(b'\r');
                    self.state = State::Cr;
                }
                _ => {
                    let rest = &input[at..];
                    let len = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
                    out.put_slice(&rest[..len]);
                    self.state = State::Middle;
                    at += len;
                    continue;
                }
            }
            at += 1;
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(input: &[u8]) -> (Vec<u8>, usize, bool) {
        let mut out = BytesMut::new();
        let (used, end) = Unstuff::default().feed(input, &mut out);
        (out.to_vec(), used, end)
    }

    /// What a sender does (RFC 5321, section 4.5.2): doubles dots at true line starts.
    pub(crate) fn stuff(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in message.split_inclusive(|&b| b == b'\n') {
            let at_line_start = out.is_empty() || out.ends_with(b"\r\n");
            if at_line_start && line.starts_with(b".") {
                out.push(b'.');
            }
            out.extend_from_slice(line);
        }
        if !out.is_empty() && !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
        out
    }

    #[test]
    fn only_crlf_dot_crlf_ends_the_data() {
        assert_eq!(decode(b".\r\n"), (b"".to_vec(), 3, true));
        assert_eq!(decode(b"a\r\n.\r\nQUIT"), (b"a\r\n".to_vec(), 6, true));
        for smuggled in [
            &b"a\n.\n"[..],
            b"a\n.\r\n",
            b"a\r\n.\n",
            b"a\r.\r",
            b"a\r\n.\r",
            b"a\r.\r\n",
            b"a\n.\r",
            b"a\r\r\n.\n\r\n",
            b"a\r\n\0.\r\n",
        ] {
            let (_, used, end) = decode(smuggled);
            assert!(!end, "{:?}", String::from_utf8_lossy(smuggled));
            assert_eq!(used, smuggled.len());
        }
    }

    #[test]
    fn dots_are_dropped_at_true_line_starts_alone() {
        let (out, _, end) = decode(b"..a\r\n..\r\nb\n..c\r..d\r\n.e\r\n.\rf\r\n.\r\n");
        assert!(end);
        assert_eq!(out, b".a\r\n.\r\nb\n..c\r..d\r\ne\r\n\rf\r\n");
    }

    proptest! {
        #[test]
        fn what_a_sender_stuffed_comes_out_again(
            message in proptest::collection::vec(
                prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), Just(b'a'), Just(0)], 0..200)
        ) {
            // The end of a message that stops with a lone CR is the sender's to mend.
            prop_assume!(!message.ends_with(b"\r"));
            let mut expected = message.clone();
            if !message.is_empty() && !message.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            let wire = stuff(&message);
            let (out, used, end) = decode(&wire);
            prop_assert!(end);
            prop_assert_eq!(used, wire.len());
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn pieces_may_be_cut_anywhere(
            input in proptest::collection::vec(
                prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), Just(b'a')], 0..200),
            cuts in proptest::collection::vec(1usize..9, 1..200),
        ) {
            let (whole, used, end) = decode(&input);
            let (mut unstuff, mut out, mut at) = (Unstuff::default(), BytesMut::new(), 0);
            let mut ended = false;
            for cut in cuts.iter().cycle() {
                if at == input.len() || ended {
                    break;
                }
                let to = (at + cut).min(input.len());
                let (n, e) = unstuff.feed(&input[at..to], &mut out);
                at += n;
                ended = e;
            }
            prop_assert_eq!((out.to_vec(), at, ended), (whole, used, end));
        }
    }
}
